"""Names that the user knows: module paths from PyTorch's exporters, else initialisers, else the nodes' own names."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evenly.graph.onnx.constants import Const
    from evenly.graph.onnx.nodes import Item

__all__ = ["Names", "module_of_weight"]

_MODULE_PATH = re.compile(r"\w+(\.\w+)*")
# Parametrisations keep the tensors they start from below the module; weight_norm of old adds a suffix.
_WEIGHT = re.compile(
    r"(?P<module>\w+(\.\w+)*?)"
    r"(\.parametrizations\.\w+\.original\d*|"
    r"\.(weight|bias|weight_[gv]|weight_orig|running_mean|running_var|scale|shift))"
)
SCOPES_LIMIT = 4096


# What a module does besides its work: views and types.
TRANSPARENT = {
    "Cast", "CastLike", "DequantizeLinear", "Dropout", "Expand", "Flatten", "Identity", "QuantizeLinear", "Reshape",
    "Shape", "Size", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
# Layers of the module whose weight they read, even if the file calls that weight otherwise (one that was computed).
LAYERS = {"Conv", "ConvTranspose", "GRU", "LSTM", "RNN"}
# Classes of torch.nn that do one thing, however often they are called.
_LEAVES = re.compile(r"torch\.nn\.modules\.(?!container|transformer|activation\.Multihead)\w+\.\w+")


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


class Names:
    """Names for what the nodes make.

    The module path alone where the module does one thing, with the label of the operation (``"up:interpolate"``) where
    it does several; without a scope the node's own name.

    Args:
        items: The nodes.
        consts: Constants by name.
    """

    def __init__(self, items: Sequence[Item], consts: Mapping[str, Const]) -> None:
        self.scopes = {id(it): scope_of(it) for it in items}
        self.owners = _owners(items, consts, self.scopes)
        found = [(it, scope) for it in items if (scope := self.scopes[id(it)]) is not None]
        paths = {scope.module for _, scope in found}
        self.parents = {".".join(p.split(".")[:i]) for p in paths for i in range(1, p.count(".") + 1)}
        sizes: set[str] = set()
        work: dict[str, list[str]] = {}
        kinds: dict[str, str] = {}
        for it, scope in found:
            if it.op in ("Shape", "Size") or all(n in consts or n in sizes for n in it.inputs if n):
                sizes.update(it.outputs)
            elif it.op not in TRANSPARENT:
                work.setdefault(scope.module, []).append(str(it.attributes.get("function", it.op)))
                kinds[scope.module] = scope.kind
        self.single = {
            path
            for path, done in work.items()
            if len(done) == 1 or (len(set(done)) == 1 and _LEAVES.fullmatch(kinds[path]))
        }

    def of(self, item: Item, label: str) -> str:
        """The name of what a node makes."""
        scope = self.scopes.get(id(item))
        owner = self.owners.get(id(item), "")
        path = "" if scope is None else scope.module
        if owner:
            return owner
        if scope is None:
            return item.name or f"{item.op}_{item.index}"
        if not path:
            return label
        return path if path in self.single and path not in self.parents else f"{path}:{label}"

    def follow(self, items: Sequence[Item]) -> None:
        """Take in the nodes of a subgraph."""
        self.scopes.update({id(it): scope_of(it) for it in items})


def _owners(items: Sequence[Item], consts: Mapping[str, Const], scopes: Mapping[int, Scope | None]) -> dict[int, str]:
    """The module whose weight a node reads, where the name of the initialiser tells it.

    Exporters store equal tensors once. An initialiser that several nodes read names the module of a node whose scope
    holds that module; a convolution or a recurrent layer of which no initialiser tells is called by its scope. The
    scope comes last, since an exporter that merges two layers keeps that of the second.
    """
    uses = Counter(name for it in items for name in it.inputs)
    owners = {}
    for it in items:
        scope = scopes[id(it)]
        path = "" if scope is None else scope.module
        for name in it.inputs[1:]:
            const = consts.get(name)
            module = "" if const is None else module_of_weight(const.name) or module_of_weight(const.root)
            if module and (uses[name] == 1 or (path and f"{module}.".startswith(f"{path}."))):
                owners[id(it)] = module
                break
        else:
            if path and it.op in LAYERS and any(name in consts for name in it.inputs[1:]):
                owners[id(it)] = path
    return owners


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
