"""The nodes so far, their names, and whose positions and channels they hold: inputs, constants, the unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal, TypeVar

import numpy as np

from evenly.graph import ir
from evenly.graph.building.values import Array, Shape, Value, mapped
from evenly.graph.ir import Node, Op, Weight
from evenly.graph.layout import BATCH, CHANNEL, Digit, Dim, LayoutError

__all__ = ["USUAL", "Origin", "RefusedError", "Relayout", "Role", "Roles", "State", "exchanged"]


Role = Literal["batch", "channel", "lattice"]
Roles = Mapping[tuple[int, int], Role]
T = TypeVar("T")
USUAL: Mapping[int, Role] = {0: "batch", 1: "channel"}


class Relayout(Exception):  # noqa: N818 - a message to the reader, no error
    """A dimension of an input plays another role than assumed: read again with it."""

    def __init__(self, index: int, dim: int, role: Role) -> None:
        super().__init__(f"input {index}, dimension {dim}: {role}")
        self.index, self.dim, self.role = index, dim, role


class RefusedError(Exception):
    """No form of the graph says what the operation does."""


@dataclass(frozen=True)
class Origin:
    """The input that a node's positions and channels are those of, and the dimension for every kind of digit."""

    index: int
    dims: Mapping[int, int]


def exchanged(entries: Sequence[T], index: int, entry: T) -> tuple[T, ...]:
    """A tuple with one entry replaced."""
    return tuple(entry if i == index else e for i, e in enumerate(entries))


class State:
    """Nodes and where they come from.

    Args:
        source: Where the network comes from, for people.
        training: Whether it is read in training mode.
        use_weights: Whether the values of trained weights count; those of fixed ones always do.
        roles: Roles of input dimensions that are not the usual ones, by (input, dimension).
    """

    def __init__(
        self, source: str, *, training: bool = False, use_weights: bool = True, roles: Roles | None = None
    ) -> None:
        self.source, self.training, self.use_weights = source, training, use_weights
        self.roles: dict[tuple[int, int], Role] = dict(roles or {})
        self.nodes: list[Node] = []
        self._origins: dict[int, Origin] = {}
        self._inputs: list[int] = []
        self._input_shapes: list[Shape] = []
        self._dtypes: list[str] = []
        self._outputs: list[int] = []
        self._output_shapes: list[Shape] = []
        self._names: dict[str, int] = {}

    def _unique(self, name: str) -> str:
        """Repeated calls of one layer get ``#2``, ``#3``, ..."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def _emit(self, name: str, op: Op, inputs: Iterable[int], channels: int, sizes: Iterable[int]) -> int:
        """Append a node and say its index."""
        self.nodes.append(Node(name, op, tuple(inputs), int(channels), tuple(int(s) for s in sizes)))
        return len(self.nodes) - 1

    def _after(self, v: Value, suffix: str) -> str:
        """Name for what a layout makes of a value: its layer's, with a suffix."""
        return self._unique(f"{self.nodes[v.node].name.split('#')[0]}:{suffix}")

    def _channels(self, v: Value) -> int:
        """Channels of the field that holds a value."""
        return self.nodes[v.node].channels

    def _sizes(self, v: Value) -> Shape:
        """Sizes of the axes of the field that holds a value."""
        return self.nodes[v.node].sizes

    def _keep_origin(self, new: int, old: int) -> None:
        """A node whose positions and channels are still those of the input that the old one's are."""
        if old in self._origins:
            self._origins[new] = self._origins[old]

    def _same(self, v: Value, name: str, op: Op, extra: Iterable[int] = ()) -> Value:
        """A node of the same form."""
        node = self.nodes[v.node]
        new = self._emit(name, op, (v.node, *extra), node.channels, node.sizes)
        self._keep_origin(new, v.node)
        return replace(v, node=new)

    def _visible(self, weight: Weight | None) -> Weight | None:
        """The weight as far as its values count."""
        if weight is None or self.use_weights or weight.fixed or weight.load is None:
            return weight
        return replace(weight, load=None)

    def _relayout(self, v: Value, kind: int, role: Role) -> None:
        """Ask for another role if the digit is that of an input's dimension and nobody asked for it before."""
        origin = self._origins.get(v.node)
        if origin is not None and kind in origin.dims and (origin.index, origin.dims[kind]) not in self.roles:
            raise Relayout(origin.index, origin.dims[kind], role)

    def _role(self, index: int, rank: int) -> list[Role]:
        """The roles of an input's dimensions."""
        wished = {d: r for (i, d), r in self.roles.items() if i == index}
        usual: list[Role] = [USUAL.get(d, "lattice") for d in range(rank)]
        if "channel" in wished.values() or wished.get(1) == "lattice":
            usual = ["lattice" if d else "batch" for d in range(rank)]
        return [wished.get(d, r) for d, r in enumerate(usual)]

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Value:
        """An input of the network."""
        index, shape = len(self._inputs), tuple(int(n) for n in shape)
        roles = self._role(index, len(shape))
        sizes: list[int] = []
        dims: list[Dim] = []
        places: dict[int, int] = {}
        channels = 1
        for d, (role, n) in enumerate(zip(roles, shape, strict=True)):
            if role == "lattice":
                places[len(sizes)] = d
                dims.append(Dim((Digit(len(sizes), n),)))
                sizes.append(n)
            else:
                kind = CHANNEL if role == "channel" else BATCH
                places[kind] = d
                channels = n if role == "channel" else channels
                dims.append(Dim.through(kind, n))
        node = self._emit(name, ir.Input(), (), channels, sizes)
        self._origins[node] = Origin(index, places)
        self._inputs.append(node)
        self._input_shapes.append(shape)
        self._dtypes.append(dtype)
        return Value(shape, node, tuple(dims))

    def constant(self, name: str, value: Weight | Array, fixed: bool = False) -> Value:
        """A tensor that depends on no input; a weight, or values that count as fixed if asked."""
        if not isinstance(value, Weight):
            array = np.asarray(value)
            value = Weight(name, array.shape, fixed, lambda: array)
        number = None
        if value.fixed and value.known and prod(value.shape) == 1:
            number = float(value.values().reshape(()))
        return Value(value.shape, weight=self._visible(value), number=number)

    def scalar(self, x: float) -> Value:
        """A number."""
        return Value((), weight=Weight(str(x), (), True, lambda: np.asarray(x, np.float64)), number=float(x))

    def noise(self, shape: Sequence[int], *, name: str) -> Value:
        """Random numbers, drawn at every call."""
        return self._source(tuple(shape), ir.Source("noise"), self._unique(name))

    def _source(self, shape: Shape, op: Op, name: str, inputs: Iterable[int] = ()) -> Value:
        """A field in the usual layout: batch, channels, lattice."""
        sizes = shape[2:]
        node = self._emit(name, op, inputs, shape[1] if len(shape) > 1 else 1, sizes)
        dims = [Dim.through(k, n) for k, n in zip((BATCH, CHANNEL), shape, strict=False)]
        return Value(shape, node, (*dims, *(Dim((Digit(a, n),)) for a, n in enumerate(sizes))))

    def _folded(self, v: Value, shape: Shape, change: Callable[[Array], Array]) -> Value:
        """A constant computed from a constant."""
        assert v.weight is not None
        old = v.shape
        number = v.number if prod(shape) == 1 else None
        return Value(shape, weight=mapped(v.weight, shape, lambda a: change(a.reshape(old))), number=number)

    def _try(self, operator: str, name: str, inputs: Sequence[Value], shape: Shape, act: Callable[[], Value]) -> Value:
        """What the operation means, or an unknown with the reason why nobody can say."""
        if all(n > 0 for n in shape):
            mark = len(self.nodes)
            names = dict(self._names)
            try:
                return act()
            except (RefusedError, LayoutError) as problem:
                reason = str(problem)
                if all(mark > o for o in self._outputs):
                    del self.nodes[mark:]
                    self._names = names
                    self._origins = {k: o for k, o in self._origins.items() if k < mark}
        else:
            reason = "it makes an empty tensor"
        return self._unknown(operator, inputs, shape, reason, name)

    def unknown(self, operator: str, inputs: Sequence[Value], shape: Sequence[int], reason: str, *, name: str) -> Value:
        """An operator without an entry; its output is taken as ``(N, C, *lattice)``."""
        return self._unknown(operator, inputs, tuple(int(n) for n in shape), reason, self._unique(name))

    def _unknown(self, operator: str, inputs: Sequence[Value], shape: Shape, reason: str, name: str) -> Value:
        """What nobody can say, as a node that says so."""
        sources: list[int] = []
        for v in inputs:
            if v.is_constant:
                continue
            if v.scores is not None:
                sources += [v.scores.query.node, v.scores.key.node]
            else:
                sources.append(v.node)
        nodes = tuple(dict.fromkeys(s for s in sources if 0 <= s < len(self.nodes)))
        spatial = any(prod(self.nodes[n].sizes) > 1 for n in nodes) or prod(shape[2:]) > 1
        op = ir.Unknown(operator, reason, spatial=spatial)
        if not spatial:
            op = replace(op, hides="nothing on the lattice: it has none here")
        return self._source(shape, op, name, nodes)
