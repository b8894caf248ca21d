"""From a module to a program: ``torch.export`` on tensors without values, leaving the module as it was."""

from __future__ import annotations

import operator
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from evenly.errors import EvenlyError, ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn
    from torch.export import ExportedProgram

__all__ = ["changes", "exported", "functional", "graphs", "line", "name_of"]

_STORES = ("_parameters", "_buffers", "_modules")
_STATISTICS = (
    "batch_norm",
    "native_batch_norm",
    "_native_batch_norm_legit",
    "instance_norm",
    "cudnn_batch_norm",
)
_DATA_DEPENDENT = ("data-dependent", "data dependent", "GuardOnDataDependent", "unbacked symint", "unbacked symbol")


def line(error: BaseException) -> str:
    """The kind and the first line of an exception."""
    lines = [text.strip() for text in str(error).strip().splitlines() if text.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def exported(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool, name: str
) -> ExportedProgram:
    try:
        with _borrowed(module, training), torch.no_grad():
            return torch.export.export(module, args, kwargs or None, strict=False)
    except EvenlyError:
        raise
    except Exception as error:  # the user's own code runs, so anything may come
        advice = (
            "its control flow depends on values; read it as ONNX (torch.onnx.export(model, args, 'model.onnx')), or "
            "check the parts around that decision one by one"
            if any(sign in f"{type(error).__name__} {error}" for sign in _DATA_DEPENDENT)
            else "check that the module runs on inputs of these shapes, or export it to ONNX and check the file"
        )
        raise ExportError(f"{name}: torch.export could not trace it: {line(error)}; {advice}") from error


@contextmanager
def _borrowed(module: nn.Module, training: bool) -> Iterator[None]:
    """Set the mode of every submodule, and afterwards put everything that tracing may have left there back.

    ``Module.train`` is not called: some modules merge weights in it.
    """
    modules = list(module.modules())
    before = [(m, dict(m.__dict__), [dict(m.__dict__[key]) for key in _STORES]) for m in modules]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernels hide the layers inside
    try:
        for m in modules:
            m.__dict__["training"] = training
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for m, attributes, stores in before:
            m.__dict__.clear()
            m.__dict__.update(attributes)
            for key, content in zip(_STORES, stores, strict=True):
                m.__dict__[key].clear()
                m.__dict__[key].update(content)


def functional(program: ExportedProgram, source: str) -> ExportedProgram:
    """Rewrite what is written through views (``x[:, :2] *= 2``) as operators that make new tensors."""
    if not any(_aliased(graph) for graph in graphs(program.graph_module)):
        return program
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            rewritten: ExportedProgram = program.run_decompositions({})
            return rewritten
    except Exception as error:
        raise ExportError(
            f"{source}: its in-place operations could not be rewritten: {line(error)}; replace them in the module by "
            "operations that make new tensors"
        ) from error


def graphs(module: GraphModule) -> Iterator[GraphModule]:
    yield module
    for child in module.children():
        if isinstance(child, GraphModule):
            yield from graphs(child)


def _aliased(module: GraphModule) -> bool:
    """Whether a tensor is changed in place of which a view was taken before, or that is a view itself."""
    seen_by_view: set[Node] = set()
    views: set[Node] = set()
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        sources = [a for a in pytree.tree_leaves(list(node.args)) if isinstance(a, Node)]
        if changes(node):
            changed = sources[0] if sources else None
            if changed in views or changed in seen_by_view:
                return True
        elif is_view(node):
            views.add(node)
            seen_by_view.update(sources)
    return False


def changes(node: Node) -> bool:
    """Whether an operator writes to its first argument."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and name_of(node) not in _STATISTICS


def is_view(node: Node) -> bool:
    if node.target is operator.getitem:
        return True
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    return any(r.alias_info is not None for r in schema.returns)


def name_of(node: Node) -> str:
    """Name of an operator without namespace, overload and in-place mark."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    name = str(schema.name.split("::")[-1])
    return name.removesuffix("_") if schema.is_mutable and name not in ("_", "__") else name
