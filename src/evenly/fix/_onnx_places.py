"""Where the convolutions of an ONNX file stand: geometry, weights, readers, and why some cannot be rewritten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto

from evenly.errors import FormatError
from evenly.fix._onnx_geometry import Geometry, Sizes, known_values, sizes_of, windows
from evenly.fix._onnx_shuffles import Order, Readers, find_shuffle
from evenly.fix.backend import Kind, Layer
from evenly.graph.onnx.constants import Const
from evenly.graph.onnx.nodes import Item, item
from evenly.graph.onnx.reader import OnnxFile

__all__ = ["FOLDED", "Place", "Wiring", "captured", "channels_last", "find_places", "named"]

LABELS = {"Conv": "conv", "ConvInteger": "conv", "QLinearConv": "conv", "ConvTranspose": "conv_transpose"}
"""Operators with a name of their own in reports, as the reader labels them."""
FOLDED = {
    "Add", "Cast", "Concat", "Constant", "Div", "Expand", "Identity", "Mul", "Pow", "ReduceL2", "ReduceSum",
    "ReduceSumSquare", "Reshape", "Shape", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators through which a file may compute a weight that can be rewritten: its values take the place of them all."""


@dataclass(frozen=True, eq=False)
class Place:
    """A convolution of the file.

    Attributes:
        name: As ``evenly check`` names it.
        kind: As in :class:`~evenly.fix.backend.Layer`.
        output: Name of the value that its node makes: what identifies the node.
        source: Name of the value that it reads.
        result: Name of the value that is the layer's result, behind a pixel shuffle.
        geometry: Of its windows.
        factor: Of the pixel shuffle.
        order: Of the channels in front of the pixel shuffle.
        weight, bias: What the file says of them.
        fixed: Why it cannot be rewritten.
        settled: Whether the padding is the same for all sizes of the input.
    """

    name: str
    kind: Kind
    output: str
    source: str
    result: str
    geometry: Geometry
    factor: tuple[int, ...]
    order: Order
    weight: Const
    bias: Const | None
    fixed: str | None
    settled: bool = True

    def layer(self) -> Layer:
        """The layer, with its weights read."""
        g = self.geometry
        weight, bias = _floats(self.weight), None if self.bias is None else _floats(self.bias).reshape(-1)
        return Layer(
            self.name, self.kind, g.kernel, g.stride, g.dilation, g.padding, g.output_padding, self.factor, g.groups,
            "zeros", self.normal(weight), None if bias is None else self.normal(bias), self.fixed,
        )  # fmt: skip

    def normal(self, array: NDArray[Any]) -> NDArray[Any]:
        """Output channels (first dimension) from the order of the file to PyTorch's ``(C, *phases)``."""
        if self.order == "CRD":
            return array
        phases = prod(self.factor)
        return array.reshape(phases, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)

    def stored(self, array: NDArray[Any]) -> NDArray[Any]:
        """The inverse of :meth:`normal`."""
        if self.order == "CRD":
            return array
        phases = prod(self.factor)
        return array.reshape(-1, phases, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


def _floats(const: Const) -> NDArray[np.floating]:
    """Values as float64 where the file has them so, else as float32 (float16 and bfloat16 fit exactly)."""
    values = const.array()
    return np.ascontiguousarray(values, np.float64 if values.dtype == np.float64 else np.float32)


class Wiring:
    """The nodes of a graph as they stand in the file, by what they make and who reads it.

    Attributes:
        graph: The graph.
        makers: Node by the name of a value that it makes.
        uses: How many nodes, subgraphs and outputs read a value.
        initialisers: Names of dense initialisers.
    """

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.uses = Counter(name for node in graph.node for name in [*node.input, *captured(node)] if name)
        self.uses.update(v.name for v in graph.output)
        self.initialisers = {t.name for t in graph.initializer}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def readers(self, name: str) -> list[NodeProto]:
        """Nodes that read a value, one that reads it twice twice."""
        return self._readers.get(name, [])

    def expression(self, name: str) -> set[str]:
        """The operators that a constant is computed with; ``sparse`` among them for a sparse initialiser."""
        found: set[str] = set()
        seen: set[str] = set()
        stack = [name]
        while stack:
            value = stack.pop()
            if value in seen or not value:
                continue
            seen.add(value)
            node = self.makers.get(value)
            if node is None:
                found.update(() if value in self.initialisers else ("sparse",))
            else:
                found.add(node.op_type if not node.domain else f"{node.domain}::{node.op_type}")
                stack.extend(node.input)
        return found

    def root(self, name: str) -> tuple[str, str]:
        """What a constant comes from: ``(name, operator)``, past identities; of an initialiser the operator is ``""``.

        The operator is ``Constant`` for a constant node, ``sparse`` for a sparse initialiser.
        """
        while (node := self.makers.get(name)) is not None and node.op_type == "Identity" and not node.domain:
            name = node.input[0]
        if node is not None:
            return name, node.op_type
        return name, "" if name in self.initialisers else "sparse"


POINTWISE = {
    "Abs", "Add", "Cast", "Clip", "Div", "Elu", "Exp", "HardSigmoid", "Identity", "LeakyRelu", "Mul", "Neg", "Relu",
    "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
"""Operators behind a transposition that leave every value where it is."""


def channels_last(model: ModelProto, consts: Mapping[str, Const]) -> set[str]:
    """Outputs whose channels were brought from the second place to the last: how TensorFlow's files end."""
    wiring = Wiring(model.graph)
    found = set()
    for value in model.graph.output:
        node = wiring.makers.get(value.name)
        while node is not None and node.op_type in POINTWISE and not node.domain:
            data = [name for name in node.input if name and name not in consts]
            node = wiring.makers.get(data[0]) if len(data) == 1 else None
        if node is not None and node.op_type == "Transpose" and not node.domain:
            perm = item(node, 0).ints("perm") or ()
            if len(perm) > 2 and perm == (0, *range(2, len(perm)), 1):
                found.add(value.name)
    return found


def captured(node: NodeProto) -> set[str]:
    """Names that the subgraphs of a node read or give."""
    names: set[str] = set()
    for graph in _subgraphs(node):
        names.update(v.name for v in graph.output)
        names.update(name for inner in graph.node for name in inner.input)
    return names


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    stack = [node]
    while stack:
        for attribute in stack.pop().attribute:
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield graph
                stack.extend(graph.node)


def find_places(
    model: ModelProto, file: OnnxFile, names: Mapping[str, str], phased: Mapping[str, str]
) -> tuple[list[Place], dict[str, str]]:
    """The convolutions that can be listed, and those that cannot with the reason.

    Args:
        model: The model as it is, functions included.
        file: The same, read.
        names: Names of layers that are known already, by what their nodes make.
        phased: What the nodes make whose weights differ by phase already, with the values behind their shuffles.

    Raises:
        FormatError: If a convolution is damaged.
    """
    wiring, sizes = Wiring(model.graph), sizes_of(known_values(model))
    readers = Readers(wiring.readers, wiring.uses, file.consts, wiring.makers)
    owners: dict[str, str] = {}  # by root of the weight
    found: list[Place] = []
    refused = _hidden(model)
    for it, name in named(file, LABELS, names):
        output = it.outputs[0]
        node = wiring.makers.get(output)
        if node is None or node.op_type != it.op:
            refused[name] = "it stands inside a function of the model"
            continue
        reason = _unlisted(it, file)
        if reason is not None:
            refused[name] = reason
            continue
        place = _place(it, name, file, wiring, readers, sizes)
        root, _ = wiring.root(it.input(1))
        if output in phased:
            place = replace(place, result=phased[output], fixed="its weights differ by phase already")
        elif root in owners:
            place = replace(place, fixed=f"its weights are shared with layer {owners[root]!r}")
            found = [
                replace(p, fixed=f"its weights are shared with layer {name!r}") if p.name == owners[root] else p
                for p in found
            ]
        owners.setdefault(root, name)
        found.append(place)
    return found, refused


def named(file: OnnxFile, labels: Mapping[str, str], names: Mapping[str, str]) -> Iterator[tuple[Item, str]]:
    """Nodes with their names; repeated calls of one module get ``#2``, ``#3``, ... as the builder counts.

    Args:
        file: The file.
        labels: Operators, as the reader labels them.
        names: Names that are known already, by what the nodes make.
    """
    seen: Counter[str] = Counter()
    for it in file.items:
        if it.domain or it.op not in labels:
            continue
        base = file.names.of(it, labels[it.op])
        seen[base] += 1
        name = base if seen[base] == 1 else f"{base}#{seen[base]}"
        yield it, names.get(it.outputs[0], name)


def _hidden(model: ModelProto) -> dict[str, str]:
    """Convolutions inside subgraphs."""
    refused = {}
    for i, node in enumerate(model.graph.node):
        outer = item(node, i).label
        for graph in _subgraphs(node):
            for k, inner in enumerate(graph.node):
                if inner.op_type in LABELS:
                    refused[inner.name or f"{inner.op_type}_{i}_{k}"] = f"it stands in a subgraph of {outer}"
    return refused


def _unlisted(it: Item, file: OnnxFile) -> str | None:
    if it.op in ("ConvInteger", "QLinearConv"):
        return f"it is quantised ({it.op})"
    weight = file.consts.get(it.input(1))
    if weight is None:
        return "its weights are computed from data"
    if not weight.known:
        return "its weights are too large to compute from the file"
    rank = len(weight.shape) - 2
    if not 1 <= rank <= 3:
        return f"it has {rank} axes, expected one to three"
    return None


def _place(it: Item, name: str, file: OnnxFile, wiring: Wiring, readers: Readers, sizes: Sizes) -> Place:
    weight, bias = file.consts[it.input(1)], file.consts.get(it.input(2))
    transposed = it.op == "ConvTranspose"
    found = windows(it, weight.shape, sizes)
    g, rank = found.geometry, len(weight.shape) - 2
    _check_bias(it, bias, weight.shape[1] * g.groups if transposed else weight.shape[0])
    fixed = _fixed(it, file, wiring)
    if transposed and not found.settled:
        fixed = "its output_shape cuts by the size of the input, which the file leaves open"
    kind: Kind = "transposed" if transposed else "convolution"
    output = it.outputs[0]
    place = Place(
        name, kind, output, it.inputs[0], output, g, (1,) * rank, "CRD", weight, bias, fixed, found.settled
    )  # fmt: skip
    if transposed or any(s != 1 for s in g.stride):
        return place
    shuffle = find_shuffle(output, weight.shape[0], rank, readers)
    # Where groups cut through a channel's phases, no order of the weights is PyTorch's.
    cut = shuffle is not None and (shuffle.order == "DCR" or weight.shape[0] // g.groups % prod(shuffle.factor))
    if shuffle is None or (g.groups > 1 and cut):
        return place
    return replace(place, kind="subpixel", result=shuffle.result, factor=shuffle.factor, order=shuffle.order)


def _check_bias(it: Item, bias: Const | None, channels: int) -> None:
    if bias is not None and bias.size != channels:
        raise FormatError(
            f"{it.label}: has a bias of shape {list(bias.shape)}, expected {channels} values; the file is damaged"
        )


def _fixed(it: Item, file: OnnxFile, wiring: Wiring) -> str | None:
    weight = file.consts[it.input(1)]
    if weight.dtype.kind != "f" and weight.dtype.name != "bfloat16":
        return f"its weights are of type {weight.dtype}"
    operators = wiring.expression(it.input(1))
    if "DequantizeLinear" in operators:
        return "its weights are quantised"
    if "sparse" in operators:
        return "its weights are stored sparse"
    if operators - FOLDED:
        return f"its weights are computed in the file ({', '.join(sorted(operators - FOLDED))})"
    if it.input(2) and it.input(2) not in file.consts:
        return "its bias is computed from data"
    return None
