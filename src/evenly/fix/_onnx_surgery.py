"""Edits of an ONNX graph: new weights, larger kernels, and weights that differ by phase."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from evenly.errors import UsageError
from evenly.fix._onnx_geometry import Values, sizes_of
from evenly.fix._onnx_nodes import Writer, drop, explicit, set_ints, unused
from evenly.fix._onnx_phases import Phases, phase_nodes
from evenly.fix._onnx_places import FOLDED, Place, Wiring
from evenly.fix._onnx_tensors import Home, converted, home_of, is_external, rewrite
from evenly.fix.backend import Edit
from evenly.graph.onnx.constants import Const

__all__ = ["Surgery"]

Array = NDArray[Any]
INTEGERS_OPSET = 9
"""Opset from which ``Constant`` holds integers."""
BEHIND = 2**62
"""Offset of what comes behind everything that a file holds."""


class Surgery:
    """Edits a model in place.

    Args:
        model: The model, which is changed.
        folder: Where its external data lie.
        opset: Of the standard operators.
        values: Tells types of values.

    Attributes:
        homes: Where tensors lay that are in memory now, by name.
        renamed: What the nodes make now whose weights differ by phase, with the value behind their shuffle.
        moved: What other layers' nodes make now, with what they made.
    """

    def __init__(self, model: ModelProto, folder: Path, opset: int, values: Values) -> None:
        self.model, self.folder, self.opset = model, folder, opset
        self.values, self.sizes = values, sizes_of(values)
        self.homes: dict[str, Home] = {}
        self.renamed: dict[str, str] = {}
        self.moved: dict[str, str] = {}

    def apply(self, place: Place, edit: Edit) -> None:
        """Edit one layer.

        Raises:
            UsageError: If it cannot be edited so.
        """
        if place.fixed is not None:
            raise UsageError(f"layer {place.name!r} cannot be edited: {place.fixed}; choose another layer")
        node = self.node(place.output)
        if edit.phases and prod(edit.phases) > 1:
            self._by_phase(place, edit, node)
            return
        self._check(place, edit)
        self._geometry(place, edit, node)
        self._weight(place, node, place.stored(np.asarray(edit.weight)))
        if edit.bias is not None:
            self._bias(place, node, place.stored(np.asarray(edit.bias)))

    def node(self, output: str) -> NodeProto:
        """The node that makes a value, until nodes are inserted."""
        self.wiring = Wiring(self.model.graph)
        node: NodeProto = self.wiring.makers[output]
        return node

    def node_names(self) -> set[str]:
        """Names that nodes have."""
        return {node.name for node in self.model.graph.node}

    def writer(self, node: NodeProto) -> Writer:
        """Writes nodes that belong to this one as it is."""
        near = NodeProto()
        near.CopyFrom(node)
        return Writer(near, self.unused, self.node_names(), self.initialiser if self.opset < INTEGERS_OPSET else None)

    # ---------------------------------------------------------------------------------------------------- checks

    def _check(self, place: Place, edit: Edit) -> None:
        self._check_geometry(place, edit)
        _expect(place, "weight", np.asarray(edit.weight).shape, (*place.weight.shape[:2], *edit.kernel))
        if edit.bias is not None:
            _expect(place, "bias", np.asarray(edit.bias).shape, (_channels(place),))

    def _check_geometry(self, place: Place, edit: Edit) -> None:
        g, rank = place.geometry, len(place.geometry.kernel)
        if not len(edit.kernel) == len(edit.padding) == len(edit.output_padding) == rank:
            raise UsageError(
                f"layer {place.name!r} has {rank} axes, but the edit has {len(edit.kernel)} kernel sizes, "
                f"{len(edit.padding)} paddings and {len(edit.output_padding)} output paddings; expected {rank} of each"
            )
        if not self._moved(place, edit):
            return
        if not place.settled:
            raise UsageError(
                f"layer {place.name!r} pads by the size of its input (auto_pad), which the file leaves open; keep its "
                "kernel, or export the model with fixed sizes"
            )
        wrong = min(p for pair in edit.padding for p in pair) < 0 or min(edit.output_padding) < 0
        wrong |= place.kind != "transposed" and any(edit.output_padding)
        for axis, (d, k) in enumerate(zip(g.dilation, g.kernel, strict=True)):
            before = d * (k - 1) - sum(g.padding[axis]) + g.output_padding[axis]
            after = d * (edit.kernel[axis] - 1) - sum(edit.padding[axis]) + edit.output_padding[axis]
            if before != after or wrong:
                raise UsageError(
                    f"layer {place.name!r}: kernel {edit.kernel}, padding {edit.padding} and output padding "
                    f"{edit.output_padding} change the size of its output, or are not what ONNX can say; expected "
                    "the size to stay, and numbers from 0"
                )

    @staticmethod
    def _moved(place: Place, edit: Edit) -> bool:
        """Whether the windows change."""
        g = place.geometry
        padding = tuple((int(a), int(b)) for a, b in edit.padding)
        return (g.kernel, g.padding, g.output_padding) != (tuple(edit.kernel), padding, tuple(edit.output_padding))

    # ------------------------------------------------------------------------------------------------- attributes

    def _geometry(self, place: Place, edit: Edit, node: NodeProto) -> None:
        if not self._moved(place, edit):
            return
        explicit(node, edit.kernel, edit.padding)
        if place.kind == "transposed":
            drop(node, "output_shape")
            set_ints(node, "output_padding", edit.output_padding, (0,) * len(edit.kernel))

    # ---------------------------------------------------------------------------------------------------- tensors

    def _weight(self, place: Place, node: NodeProto, values: Array) -> None:
        self.put(node, 1, values, f"{place.name}.weight", place)

    def _bias(self, place: Place, node: NodeProto, values: Array) -> None:
        if place.bias is not None or values.any():  # zeros add nothing to a layer without
            self.put(node, 2, values, f"{place.name}.bias", place)

    def put(self, node: NodeProto, position: int, values: Array, fresh: str, place: Place) -> None:
        """Give an input of a node new values: in its own initialiser, else in a new one of a fresh name."""
        label = f"layer {place.name!r}"
        name = node.input[position] if position < len(node.input) else ""
        graph = self.model.graph
        if name in self.wiring.initialisers and self.wiring.uses[name] == 1:
            (proto,) = (t for t in graph.initializer if t.name == name)
            home = home_of(proto) if is_external(proto) else None
            if rewrite(proto, values, self.folder, label):
                self._declare(name, values.shape)
                if home is not None:
                    self.homes[name] = home
            return
        const = place.weight if position == 1 else place.bias
        new = converted(values, _code(const or place.weight), label)
        if const is not None and new.shape == const.shape and new.tobytes() == np.asarray(const.array()).tobytes():
            return
        fresh = self.initialiser(fresh, new)
        if position < len(node.input):
            node.input[position] = fresh
        else:
            node.input.append(fresh)
        self.forget(name)

    def initialiser(self, name: str, values: Array) -> str:
        """Add a constant, where the file keeps values of its size, and say under which name."""
        graph, name = self.model.graph, self.unused(name)
        outside = [home_of(t) for t in graph.initializer if is_external(t)] + list(self.homes.values())
        if outside and values.nbytes >= min(home.length for home in outside if home.length is not None):
            self.homes[name] = Home(outside[0].location, BEHIND, None)
        graph.initializer.append(numpy_helper.from_array(values, name))
        if self.model.ir_version < 4:  # every initialiser had to be an input
            code = helper.np_dtype_to_tensor_dtype(values.dtype)
            graph.input.append(helper.make_tensor_value_info(name, code, values.shape))
        return name

    def _declare(self, name: str, shape: Sequence[int]) -> None:
        """State the shape of an initialiser wherever the file states it."""
        graph = self.model.graph
        for value in [*graph.input, *graph.value_info]:
            if value.name == name and value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                if [d.dim_value for d in dims] != list(shape):
                    value.type.tensor_type.shape.CopyFrom(
                        helper.make_tensor_type_proto(TensorProto.FLOAT, shape).tensor_type.shape
                    )

    def forget(self, name: str, more: frozenset[str] = frozenset()) -> None:
        """Remove a constant that nobody reads any more, and what brought it; `more` are other operators that may go."""
        self.wiring = Wiring(self.model.graph)
        graph = self.model.graph
        if not name or self.wiring.uses[name] or any(v.name == name for v in graph.input):
            return
        node = self.wiring.makers.get(name)
        if node is not None and (node.op_type in FOLDED or node.op_type in more) and len(node.output) == 1:
            sources = list(node.input)
            graph.node.remove(node)
            for source in sources:
                self.forget(source, more)
        elif name in self.wiring.initialisers:
            graph.initializer.remove(next(t for t in graph.initializer if t.name == name))
        stale = [v for v in graph.value_info if v.name == name]
        for value in stale:
            graph.value_info.remove(value)

    def unused(self, name: str) -> str:
        """A name that nothing in the graph has."""
        graph = self.model.graph
        taken = {*self.wiring.uses, *self.wiring.makers, *(t.name for t in graph.initializer)}
        taken.update(v.name for v in [*graph.input, *graph.output])
        return unused(name, taken)

    # ----------------------------------------------------------------------------------------------------- phases

    def _by_phase(self, place: Place, edit: Edit, node: NodeProto) -> None:
        """Replace a convolution by a strided one with the channels of all phases, and a pixel shuffle."""
        self._check_phases(place, edit)
        g, bias = place.geometry, edit.bias
        if bias is None and place.bias is not None:
            bias = np.broadcast_to(place.bias.array().reshape(-1), (*edit.phases, _channels(place)))
        graph, output = self.model.graph, place.output
        inner = self.unused(f"{output}_phases")
        new = Phases(tuple(edit.phases), g.dilation, tuple(edit.padding), tuple(edit.kernel), _channels(place))
        sizes = self.sizes(place.source) or (None,) * len(g.kernel)
        after = phase_nodes(new, self.writer(node), inner, sizes, self.opset)
        at = next(i for i, other in enumerate(graph.node) if list(other.output) == list(node.output))
        node = graph.node[at]
        node.output[0] = inner
        new.rewrite(node)
        self.put(node, 1, new.weight(np.asarray(edit.weight)), f"{place.name}.weight", place)
        if bias is not None:
            # one number per output channel, the phases innermost
            values = np.moveaxis(np.asarray(bias), -1, 0).reshape(-1)
            self.put(node, 2, values, f"{place.name}.bias", place)
        self.insert(after=inner, nodes=after)
        self.renamed[inner] = output

    def insert(self, *, before: str = "", after: str = "", nodes: Sequence[NodeProto]) -> None:
        """Put nodes before or after the one that makes a value."""
        graph = self.model.graph
        at = next(i for i, other in enumerate(graph.node) if (before or after) in other.output) + bool(after)
        changed = [*graph.node[:at], *nodes, *graph.node[at:]]
        copies = [type(n).FromString(n.SerializeToString()) for n in changed]
        del graph.node[:]
        graph.node.extend(copies)

    def _check_phases(self, place: Place, edit: Edit) -> None:
        g, phases = place.geometry, tuple(edit.phases)
        if place.kind != "convolution" or any(s != 1 for s in g.stride):
            raise UsageError(
                f"layer {place.name!r} is a {place.kind} layer of stride {list(g.stride)}, expected a convolution of "
                "stride 1 for weights that differ by phase; edit it without phases"
            )
        if len(phases) != len(g.kernel) or min(phases) < 1:
            raise UsageError(f"layer {place.name!r} has {len(g.kernel)} axes, but the edit has phases {phases}")
        self._check_geometry(place, edit)
        shape = (*phases, *place.weight.shape[:2], *edit.kernel)
        _expect(place, "weight by phase", np.asarray(edit.weight).shape, shape)
        if edit.bias is not None:
            _expect(place, "bias by phase", np.asarray(edit.bias).shape, (*phases, _channels(place)))


def _expect(place: Place, what: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise UsageError(f"layer {place.name!r} got a {what} of shape {list(shape)}, expected {list(expected)}")


def _channels(place: Place) -> int:
    shape = place.weight.shape
    return shape[1] * place.geometry.groups if place.kind == "transposed" else shape[0]


def _code(const: Const) -> int:
    return int(helper.np_dtype_to_tensor_dtype(const.dtype))
