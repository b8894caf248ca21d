"""Exported programs as modules with layers again: operations with weights of their own become the layers they were.

``torch.export`` leaves operations of ATen on parameters. A convolution on a parameter is put back as an ``nn`` layer
under the name that the parameter had, pools under the name of their module; everything else stays as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

__all__ = ["with_layers"]

_aten = torch.ops.aten
_CONVOLUTIONS: Mapping[Any, type[nn.Module]] = {
    _aten.conv1d.default: nn.Conv1d,
    _aten.conv2d.default: nn.Conv2d,
    _aten.conv3d.default: nn.Conv3d,
    _aten.conv1d.padding: nn.Conv1d,
    _aten.conv2d.padding: nn.Conv2d,
    _aten.conv3d.padding: nn.Conv3d,
}
_TRANSPOSED: Mapping[Any, type[nn.Module]] = {
    _aten.conv_transpose1d.default: nn.ConvTranspose1d,
    _aten.conv_transpose2d.input: nn.ConvTranspose2d,
    _aten.conv_transpose3d.input: nn.ConvTranspose3d,
}
_POOLS: Mapping[Any, Callable[..., nn.Module]] = {
    _aten.max_pool1d.default: nn.MaxPool1d,
    _aten.max_pool2d.default: nn.MaxPool2d,
    _aten.max_pool3d.default: nn.MaxPool3d,
    _aten.avg_pool1d.default: nn.AvgPool1d,
    _aten.avg_pool2d.default: nn.AvgPool2d,
    _aten.avg_pool3d.default: nn.AvgPool3d,
    _aten.pixel_unshuffle.default: nn.PixelUnshuffle,
}
_NAMES: Mapping[str, Sequence[str]] = {
    "convolution": ("stride", "padding", "dilation", "groups"),
    "transposed": ("stride", "padding", "output_padding", "groups", "dilation"),
    "max": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "avg": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "pixel": ("downscale_factor",),
}
"""Arguments of the operations behind the signal and the weights, as the layers call them."""


def with_layers(program: ExportedProgram) -> nn.Module:
    """A module that does what a program does, and whose convolutions and pools are layers.

    Args:
        program: The program; its parameters are shared.

    Returns:
        The module. A weight that two operations use is one layer, which runs twice.
    """
    plain = program.module()
    for node in list(plain.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":  # shapes are checked by the operations themselves
            plain.graph.erase_node(node)
        elif node.op == "call_function":
            _replace(plain, node)
    plain.graph.eliminate_dead_code()
    return _Program(plain, plain.graph)  # exported modules cannot change their mode


class _Program(GraphModule):
    """A graph with layers."""

    def __deepcopy__(self, memo: Any) -> Any:
        with warnings.catch_warnings():  # torch 2.13 warns of what itself does
            warnings.simplefilter("ignore", FutureWarning)
            return super().__deepcopy__(memo)


def _replace(root: Any, node: Node) -> None:
    if node.target in _POOLS:
        kind = str(node.target).split(".")[1].partition("_")[0]
        layer = _POOLS[node.target](**_arguments(node, 1, _NAMES[kind]))
        _call(root, node, _module_name(node), layer)
    elif node.target in _CONVOLUTIONS or node.target in _TRANSPOSED:
        name, weight, bias = _weights(root, node)
        if name is not None and weight is not None:
            _call(root, node, name, _convolution(node, weight, bias))


def _weights(root: Any, node: Node) -> tuple[str | None, nn.Parameter | None, nn.Parameter | None]:
    """The name of the layer that a weight and a bias belonged to, and both; no name if they are computed."""
    given = [node.args[1], node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")]
    found = []
    for value in given:
        if value is not None and not (isinstance(value, Node) and value.op == "get_attr"):
            return None, None, None
        found.append(None if value is None else _named(root, str(value.target)))
    path, _, last = str(given[0].target).rpartition(".")  # type: ignore[union-attr]
    return (path if path and last == "weight" else node.name), found[0], found[1]


def _named(root: Any, target: str) -> nn.Parameter:
    tensor: Any = root
    for step in target.split("."):
        tensor = getattr(tensor, step)
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)


def _convolution(node: Node, weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Module:
    transposed = node.target in _TRANSPOSED
    options = _arguments(node, 3, _NAMES["transposed" if transposed else "convolution"])
    groups = int(options.get("groups", 1))
    first, second = weight.shape[:2]
    channels = (first, second * groups) if transposed else (second * groups, first)
    made: Any = (_TRANSPOSED if transposed else _CONVOLUTIONS)[node.target]
    layer: Any = made(*channels, tuple(weight.shape[2:]), **options, bias=bias is not None, device="meta")
    layer.weight, layer.bias = weight, bias
    kept: nn.Module = layer
    return kept


def _arguments(node: Node, first: int, names: Sequence[str]) -> dict[str, Any]:
    """The arguments from position `first` on, by name, as far as they are given."""
    found = dict(zip(names, node.args[first:], strict=False))
    found.update((name, value) for name, value in node.kwargs.items() if name in names)
    return {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in found.items() if v is not None and v != []}


def _module_name(node: Node) -> str:
    """Of the module that the operation was in; ``@`` counts the calls of one."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next((path for path, _ in reversed(stack.values()) if path), node.name)
    return str(path).partition("@")[0]


def _call(root: Any, node: Node, name: str, layer: nn.Module) -> None:
    """Call a layer in place of an operation; the same layer, if it stands there already, is called again."""
    present = dict(root.named_modules()).get(name)
    if present is None or not _same(present, layer):
        free = present is None or (not any(True for _ in present.children()) and type(present) is nn.Module)
        name = name if free else node.name
        root.set_submodule(name, layer.train(False))
    with root.graph.inserting_before(node):
        call = root.graph.call_module(name, (node.args[0],))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    root.graph.erase_node(node)


def _same(present: nn.Module, layer: nn.Module) -> bool:
    mine, theirs = dict(layer.named_parameters()), dict(present.named_parameters())
    return repr(present) == repr(layer) and all(theirs.get(name) is value for name, value in mine.items())
