"""Names that the user knows: module paths from PyTorch's exporters, else initialisers, else the nodes' own names."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evenly.graph.onnx.nodes import Item

__all__ = ["Scope", "module_of_weight", "scope_of"]

_MODULE_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
# Parametrisations keep the tensors they start from below the module; weight_norm of old adds a suffix.
_WEIGHT = re.compile(
    r"(?P<module>[A-Za-z_]\w*(\.\w+)*?)"
    r"(\.parametrizations\.\w+\.original\d*|"
    r"\.(weight|bias|weight_[gv]|weight_orig|running_mean|running_var|scale|shift))"
)
SCOPES_LIMIT = 4096


@dataclass(frozen=True)
class Scope:
    """Where in the user's program a node comes from.

    Attributes:
        module: Path of the innermost module, empty for the network itself.
        kind: Class of that module (``"torch.nn.modules.conv.Conv2d"``), empty when the file does not say.
    """

    module: str
    kind: str = ""


def module_of_weight(name: str) -> str:
    """The module that owns an initialiser, ``"main.3"`` for ``"main.3.weight"``; empty if the name does not say."""
    match = _WEIGHT.fullmatch(name)
    return match["module"] if match else ""


def scope_of(item: Item) -> Scope | None:
    """The scope that PyTorch's exporters write on a node; ``None`` for files from elsewhere."""
    return _dynamo_scope(item) or _torchscript_scope(item)


def _listed(text: str) -> list[str]:
    if len(text) > SCOPES_LIMIT:
        return []
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return value if isinstance(value, list) and all(isinstance(v, str) for v in value) else []


def _dynamo_scope(item: Item) -> Scope | None:
    """``metadata_props`` of the torch.export based exporter: one entry per enclosing module, the operator last."""
    if item.proto is None:
        return None
    metadata = {p.key: p.value for p in item.proto.metadata_props}
    scopes = _listed(metadata.get("pkg.torch.onnx.name_scopes", ""))
    if scopes:
        kinds = _listed(metadata.get("pkg.torch.onnx.class_hierarchy", ""))
        if len(scopes) == 1:
            return Scope("")
        return Scope(scopes[-2], kinds[-2] if len(kinds) == len(scopes) else "")
    namespace = metadata.get("namespace", "")[:SCOPES_LIMIT]
    entries = [entry.split(": ", 1) for entry in namespace.split("/") if ": " in entry]
    if len(entries) >= 2:
        return Scope(entries[-2][0], entries[-2][1])
    return None


def _torchscript_scope(item: Item) -> Scope | None:
    """Node names of the older exporter: ``/layer1/layer1.0/conv1/Conv`` is ``layer1.0.conv1``."""
    if not item.name.startswith("/"):
        return None
    *scopes, operator = item.name[1:].split("/")
    if not re.fullmatch(rf"{re.escape(item.op)}(_\d+)?", operator) and not item.parts:
        return None
    if not all(_MODULE_PATH.fullmatch(s) for s in scopes):
        return None
    path: list[str] = []
    for scope in scopes:
        if path and scope.startswith(f"{path[-1]}."):
            path[-1] = scope  # a child of a Sequential repeats its parent
        else:
            path.append(scope)
    return Scope(".".join(path))
