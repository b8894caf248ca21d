"""From tensor-level calls to the graph: what both readers build with.

A reader translates a foreign operator into a call on tensors as PyTorch counts their dimensions. The builder knows
which part of a field every dimension runs through (:mod:`evenly.graph.layout`), so that reshapes and transposes cost
nothing until an operation asks for a form. Then what moved between channels and lattice becomes a node: a lattice
dimension with a channel digit inside is a pixel shuffle, a channel dimension with the inner digit of an axis a pixel
unshuffle, channels where a lattice should be a birth, and so on. What fits no form becomes
:class:`evenly.graph.ir.Unknown` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor, log, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ModelError
from evenly.graph import ir
from evenly.graph.ir import AxisResize, Graph, Node, Op, Weight
from evenly.graph.layout import (
    BATCH,
    CHANNEL,
    KEY,
    QUERY,
    SPREAD,
    Digit,
    Dim,
    LayoutError,
    joined,
    refined,
    regrouped,
)

__all__ = ["Builder", "Relayout", "Value", "read_with_roles"]

Role = Literal["batch", "channel", "lattice"]
Roles = Mapping[tuple[int, int], Role]
Shape = tuple[int, ...]
Array = NDArray[Any]
Pair = tuple[int, int]

MAX_READINGS = 24
USUAL: Mapping[int, Role] = {0: "batch", 1: "channel"}


class Relayout(Exception):  # noqa: N818 - a message to the reader, no error
    """A dimension of an input plays another role than assumed: read again with it."""

    def __init__(self, index: int, dim: int, role: Role) -> None:
        super().__init__(f"input {index}, dimension {dim}: {role}")
        self.index, self.dim, self.role = index, dim, role


class _RefusedError(Exception):
    """No form of the graph says what the operation does."""


def read_with_roles(read: Callable[[Roles], Graph]) -> Graph:
    """Read with the usual roles of input dimensions, again with better ones where the network contradicts them.

    Args:
        read: Reads the network with given roles, by (input, dimension).
    """
    roles: dict[tuple[int, int], Role] = {}
    for _ in range(MAX_READINGS):
        try:
            return read(roles)
        except Relayout as wish:
            roles[wish.index, wish.dim] = wish.role
    raise ModelError(
        f"the roles of the input dimensions do not settle ({roles}); expected batch, channels and positions to be told "
        "apart; report this network"
    )


@dataclass(frozen=True, eq=False)
class Scores:
    """Products of queries and keys, until it is known what becomes of them."""

    query: Value
    key: Value
    scale: float = 1.0
    biased: bool = False
    softmax: bool = False


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network.

    Attributes:
        shape: Its shape.
        node: Index of the node that holds the field; -1 for constants and scores.
        dims: What its dimensions run through.
        weight: For constants, the values.
        number: For constants that are one known number, that number.
        scores: For attention scores.
    """

    shape: Shape
    node: int = -1
    dims: tuple[Dim, ...] = ()
    weight: Weight | None = None
    number: float | None = None
    scores: Scores | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it depends on no input."""
        return self.weight is not None

    def array(self) -> Array | None:
        """The values of a constant, where they are known."""
        if self.weight is None or not self.weight.known:
            return None
        return self.weight.values().reshape(self.shape)


@dataclass(frozen=True)
class _Origin:
    """The input that a node's positions and channels are those of, and the dimension for every kind of digit."""

    index: int
    dims: Mapping[int, int]


def _mapped(weight: Weight, shape: Shape, change: Callable[[Array], Array]) -> Weight:
    """A weight whose values are computed from another one's when they are asked for."""
    load = weight.load
    return Weight(weight.name, shape, weight.fixed, None if load is None else (lambda: change(np.asarray(load()))))


def _reshaped(weight: Weight, shape: Shape) -> Weight:
    return weight if weight.shape == shape else _mapped(weight, shape, lambda a: a.reshape(shape))


def _literal(name: str, values: Callable[[], Array], shape: Shape) -> Weight:
    return Weight(name, shape, True, values)


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
}
_NEUTRAL: dict[str, float] = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "pow": 1.0}
_POWERS = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}
_EXACT_REDUCTIONS = {"mean": "average", "max": "max"}


class Builder:
    """Collects nodes; see the module for how.

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
        self._origins: dict[int, _Origin] = {}
        self._inputs: list[int] = []
        self._input_shapes: list[Shape] = []
        self._dtypes: list[str] = []
        self._outputs: list[int] = []
        self._output_shapes: list[Shape] = []
        self._names: dict[str, int] = {}

    # ------------------------------------------------------------------------------------------------- foundations

    def _unique(self, name: str) -> str:
        """Repeated calls of one layer get ``#2``, ``#3``, ..."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def _emit(self, name: str, op: Op, inputs: Iterable[int], channels: int, sizes: Iterable[int]) -> int:
        self.nodes.append(Node(name, op, tuple(inputs), int(channels), tuple(int(s) for s in sizes)))
        return len(self.nodes) - 1

    def _after(self, v: Value, suffix: str) -> str:
        """Name for what a layout makes of a value: its layer's, with a suffix."""
        return self._unique(f"{self.nodes[v.node].name.split('#')[0]}:{suffix}")

    def _keep_origin(self, new: int, old: int) -> None:
        if old in self._origins:
            self._origins[new] = self._origins[old]

    def _same(self, v: Value, name: str, op: Op, extra: Iterable[int] = ()) -> Value:
        """A node of the same form."""
        node = self.nodes[v.node]
        new = self._emit(name, op, (v.node, *extra), node.channels, node.sizes)
        self._keep_origin(new, v.node)
        return replace(v, node=new)

    def _try(self, operator: str, name: str, inputs: Sequence[Value], shape: Shape, act: Callable[[], Value]) -> Value:
        """What the operation means, or an unknown with the reason why nobody can say."""
        if all(n > 0 for n in shape):
            mark = len(self.nodes)
            names = dict(self._names)
            try:
                return act()
            except (_RefusedError, LayoutError) as problem:
                reason = str(problem)
                if all(mark > o for o in self._outputs):
                    del self.nodes[mark:]
                    self._names = names
                    self._origins = {k: o for k, o in self._origins.items() if k < mark}
        else:
            reason = "it makes an empty tensor"
        return self._unknown(operator, inputs, shape, reason, name)

    def _visible(self, weight: Weight | None) -> Weight | None:
        """The weight as far as its values count."""
        if weight is None or self.use_weights or weight.fixed or weight.load is None:
            return weight
        return replace(weight, load=None)

    # ------------------------------------------------------------------------------------------- inputs, constants

    def _role(self, index: int, rank: int) -> list[Role]:
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
                dims.append(Dim(joined([Digit(kind, n)])))
        node = self._emit(name, ir.Input(), (), channels, sizes)
        self._origins[node] = _Origin(index, places)
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
        dims = [Dim(joined([Digit(k, n)])) for k, n in zip((BATCH, CHANNEL), shape, strict=False)]
        return Value(shape, node, (*dims, *(Dim((Digit(a, n),)) for a, n in enumerate(sizes))))

    def _placed(self, v: Value, channel: int | None, name: str | None = None) -> Value:
        """A constant as data: one dimension is the channels, what else is larger than 1 becomes a lattice."""
        if v.weight is None:
            return v
        rank = len(v.shape)
        axes = [d for d in range(rank) if d != channel and (v.shape[d] > 1 and not (d == 0 and rank > 2))]
        kept = ([] if channel is None else [channel]) + axes
        batch = v.shape[0] if rank > 2 and 0 not in kept else 1
        channels = 1 if channel is None else v.shape[channel]
        sizes = tuple(v.shape[d] for d in axes)

        def arranged(a: Array) -> Array:
            a = a.reshape(v.shape)
            a = a[:1] if batch > 1 else a
            order = kept + [d for d in range(rank) if d not in kept]
            return a.transpose(order).reshape(channels, *sizes)

        weight = _mapped(v.weight, (channels, *sizes), arranged)
        label = name or self._unique(v.weight.name or "constant")
        node = self._emit(label, ir.Source("constant", weight), (), channels, sizes)
        dims = []
        for d, n in enumerate(v.shape):
            kind = CHANNEL if d == channel else axes.index(d) if d in axes else BATCH
            dims.append(Dim(joined([Digit(kind, n)])))
        return Value(v.shape, node, tuple(dims))

    # -------------------------------------------------------------------------------------------------- forms

    def _channels(self, v: Value) -> int:
        return self.nodes[v.node].channels

    def _sizes(self, v: Value) -> Shape:
        return self.nodes[v.node].sizes

    def _data(self, v: Value, channel: int | None) -> Value:
        return self._placed(v, channel) if v.is_constant else self._forced(v)

    def _relayout(self, v: Value, kind: int, role: Role) -> None:
        """Ask for another role if the digit is that of an input's dimension and nobody asked for it before."""
        origin = self._origins.get(v.node)
        if origin is not None and kind in origin.dims and (origin.index, origin.dims[kind]) not in self.roles:
            raise Relayout(origin.index, origin.dims[kind], role)

    def _renumbered(self, v: Value, node: int, change: Callable[[Digit], Iterable[Digit]]) -> Value:
        dims = tuple(replace(dim, digits=joined(e for d in dim.digits for e in change(d))) for dim in v.dims)
        return replace(v, node=node, dims=dims)

    def _settled(self, v: Value) -> Value:
        """Without axes of size 1 that no dimension runs through."""
        sizes = self._sizes(v)
        placed = {d.kind for dim in v.dims for d in dim.axes}
        loose = [a for a in range(len(sizes)) if a not in placed and sizes[a] == 1]
        if not loose:
            return v
        kept = [a for a in range(len(sizes)) if a not in loose]
        node = self._emit(
            self._after(v, "flatten"), ir.Flatten(tuple(loose)), (v.node,), self._channels(v), [sizes[a] for a in kept]
        )
        if v.node in self._origins:
            origin = self._origins[v.node]
            kinds = {k: d for k, d in origin.dims.items() if k < 0} | {
                i: origin.dims[a] for i, a in enumerate(kept) if a in origin.dims
            }
            self._origins[node] = _Origin(origin.index, kinds)
        return self._renumbered(v, node, lambda d: [Digit(kept.index(d.kind), d.size, d.stride) if d.axis else d])

    def _ordered(self, v: Value, order: Sequence[Digit]) -> Value:
        """Channels in the order of these digits, outermost first; they must be all channel digits."""
        node = self.nodes[v.node]
        digits = [d for d in order if d.size > 1]
        if prod(d.size for d in digits) != node.channels or any(d.kind != CHANNEL for d in digits):
            raise _RefusedError("its channels are not all there")
        view = sorted(digits, key=lambda d: -d.stride)
        expected = node.channels
        for d in view:
            expected //= d.size
            if d.stride != expected:
                raise _RefusedError("its channels overlap")
        if [d.stride for d in view] == [d.stride for d in digits]:
            return v
        perm = tuple(view.index(d) for d in digits)
        new = self._emit(
            self._after(v, "permute"),
            ir.ChannelPermute(tuple(d.size for d in view), perm),
            (v.node,),
            node.channels,
            node.sizes,
        )
        self._keep_origin(new, v.node)
        strides: dict[Digit, int] = {}
        stride = node.channels
        for d in digits:
            stride //= d.size
            strides[d] = stride

        def moved(d: Digit) -> list[Digit]:
            # A digit of a dimension may be several of the given ones, merged.
            if d.kind != CHANNEL:
                return [d]
            parts = [e for e in view if d.stride <= e.stride and e.stride * e.size <= d.stride * d.size]
            return [Digit(CHANNEL, e.size, strides[e]) for e in parts]

        return self._renumbered(v, new, moved)

    def _channel_digits(self, v: Value, skip: Iterable[int] = ()) -> list[Digit]:
        skipped = set(skip)
        return [d for i, dim in enumerate(v.dims) if i not in skipped for d in dim.of(CHANNEL)]

    def _selected(self, v: Value, dim: int, indices: Sequence[int], name: str, spread: int = 1) -> Value:
        """Entries of a dimension that runs through channels only; -1 makes a channel of zeros."""
        own = list(v.dims[dim].of(CHANNEL))
        others = self._channel_digits(v, [dim])
        v = self._ordered(v, [*own, *others])
        rest = prod(d.size for d in others)
        count = prod(d.size for d in own)
        node = self.nodes[v.node]
        wanted = list(indices)
        step = wanted[1] - wanted[0] if len(wanted) > 1 else 1
        regular = step > 0 and wanted == list(range(wanted[0], wanted[-1] + 1, step)) and wanted[0] >= 0
        if wanted == list(range(count)):
            return v
        channels = len(wanted) * rest
        op: Op
        if regular and (step == 1 or rest == 1):
            op = ir.ChannelSlice(wanted[0] * rest, (wanted[-1] + 1) * rest if step == 1 else wanted[-1] + 1, step)
        else:
            source = np.repeat(np.asarray(wanted), rest) * rest + np.tile(np.arange(rest), len(wanted))
            source = np.where(np.repeat(np.asarray(wanted), rest) < 0, -1, source)
            total = node.channels

            def matrix() -> Array:
                return np.asarray(source[:, None] == np.arange(total), dtype=np.float32)

            op = ir.Linear(total, channels, _literal(name, matrix, (channels, total)))
        new = self._emit(name, op, (v.node,), channels, node.sizes)
        dims = []
        outer = rest
        for i, each in enumerate(v.dims):
            if i == dim:
                dims.append(Dim(joined([Digit(CHANNEL, len(wanted), outer)])))
            else:
                dims.append(each)
        shape = tuple(len(wanted) if i == dim else n for i, n in enumerate(v.shape))
        return Value(shape, new, tuple(dims))

    def _into_channels(self, v: Value, channel: int) -> Value:
        """Pixel unshuffle and flatten what stands in the channel dimension."""
        inside = v.dims[channel].axes
        if not inside:
            return v
        sizes, channels = self._sizes(v), self._channels(v)
        factor = [1] * len(sizes)
        whole: list[int] = []
        for axis in dict.fromkeys(d.kind for d in inside):
            own = [d for d in inside if d.kind == axis]
            size = prod(d.size for d in own)
            if size == sizes[axis]:
                whole.append(axis)
            elif min(d.stride for d in own) == 1 and max(d.stride * d.size for d in own) == size:
                factor[axis] = size
            else:
                raise _RefusedError("blocks of positions become channels")
        strays = self._channel_digits(v, [channel])
        if strays and whole and prod(sizes[a] for a in whole) > 1:
            for d in inside:
                self._relayout(v, d.kind, "channel")
            raise _RefusedError("it mixes positions by weights of their own for every position")
        if any(f > 1 for f in factor):
            inner = prod(factor)
            strides = {a: prod(factor[a + 1 :]) for a in range(len(sizes))}
            new = self._emit(
                self._after(v, "pixel_unshuffle"),
                ir.PixelUnshuffle(tuple(factor)),
                (v.node,),
                channels * inner,
                [n // f for n, f in zip(sizes, factor, strict=True)],
            )

            def unshuffled(d: Digit) -> list[Digit]:
                if d.kind == CHANNEL:
                    return [Digit(CHANNEL, d.size, d.stride * inner)]
                if not d.axis or factor[d.kind] == 1:
                    return [d]
                f = factor[d.kind]
                if d.stride * d.size <= f:
                    return [Digit(CHANNEL, d.size, strides[d.kind] * d.stride)]
                if d.stride % f:
                    raise _RefusedError("blocks of positions become channels")
                return [Digit(d.kind, d.size, d.stride // f)]

            v = self._renumbered(v, new, unshuffled)
        if whole:
            sizes, channels = self._sizes(v), self._channels(v)
            flat = {a: prod(sizes[b] for b in whole if b > a) for a in whole}
            kept = [a for a in range(len(sizes)) if a not in whole]
            total = prod(sizes[a] for a in whole)
            new = self._emit(
                self._after(v, "flatten"),
                ir.Flatten(tuple(sorted(whole))),
                (v.node,),
                channels * total,
                [sizes[a] for a in kept],
            )

            def flattened(d: Digit) -> list[Digit]:
                if d.kind == CHANNEL:
                    return [Digit(CHANNEL, d.size, d.stride * total)]
                if not d.axis:
                    return [d]
                if d.kind in flat:
                    return [Digit(CHANNEL, d.size, d.stride * flat[d.kind])]
                return [Digit(kept.index(d.kind), d.size, d.stride)]

            v = self._renumbered(v, new, flattened)
        return v

    def _out_of_channels(self, v: Value, channel: int | None, lattice: Sequence[int]) -> Value:
        """Pixel shuffle, or give birth to a lattice from, the channels that stand in lattice dimensions."""
        pure = [d for d in lattice if v.dims[d].of(CHANNEL) and not v.dims[d].axes]
        mixed = [d for d in lattice if v.dims[d].of(CHANNEL) and v.dims[d].axes]
        if pure:
            for d in pure:
                digits = v.dims[d].of(CHANNEL)
                if len(digits) == 1 and digits[0].size == self._channels(v):
                    self._relayout(v, CHANNEL, "lattice")
            return self._born(v, channel, lattice)
        if not mixed:
            return v
        sizes = self._sizes(v)
        inner: dict[int, list[Digit]] = {}
        for d in mixed:
            axis = -1
            for digit in v.dims[d].digits:
                if digit.axis:
                    if digit.size != sizes[digit.kind] or digit.kind in inner:
                        raise _RefusedError("channels become blocks of positions")
                    axis = digit.kind
                    inner[axis] = []
                elif digit.kind == CHANNEL and axis >= 0:
                    inner[axis].append(digit)
                else:
                    raise _RefusedError("channels become blocks of positions")
        factor = [prod(d.size for d in inner.get(a, [])) for a in range(len(sizes))]
        outer = [e for i, dim in enumerate(v.dims) if i not in mixed and i != channel for e in dim.of(CHANNEL)]
        outer += [] if channel is None else list(v.dims[channel].of(CHANNEL))
        v = self._ordered(v, [*outer, *(d for a in sorted(inner) for d in inner[a])])
        total = prod(factor)
        # q_0 is the outermost factor in the channels: its stride is the product of the later ones.
        low = {a: prod(factor[a + 1 :]) for a in range(len(sizes))}
        new = self._emit(
            self._after(v, "patches"),
            ir.PixelShuffle(tuple(factor), "patch"),
            (v.node,),
            self._channels(v) // total,
            [n * f for n, f in zip(sizes, factor, strict=True)],
        )

        def shuffled(d: Digit) -> list[Digit]:
            if d.kind == CHANNEL:
                if d.stride >= total:
                    return [Digit(CHANNEL, d.size, d.stride // total)]
                axis = next(a for a in sorted(inner) if low[a] <= d.stride < low[a] * factor[a])
                return [Digit(axis, d.size, d.stride // low[axis])]
            return [Digit(d.kind, d.size, d.stride * factor[d.kind])] if d.axis else [d]

        # Digits that ordering merged across factors have to be cut at the factors first.
        places = sorted({1, total, *low.values(), *(low[a] * factor[a] for a in inner)})

        def cut_up(d: Digit) -> list[Digit]:
            if d.kind != CHANNEL:
                return [d]
            parts = [p for p in places if d.stride < p < d.stride * d.size]
            edges = [d.stride, *parts, d.stride * d.size]
            return [Digit(CHANNEL, b // a, a) for a, b in pairwise(edges)][::-1]

        dims = tuple(
            replace(dim, digits=joined(f for d in dim.digits for e in cut_up(d) for f in shuffled(e))) for dim in v.dims
        )
        return replace(v, node=new, dims=dims)

    def _born(self, v: Value, channel: int | None, lattice: Sequence[int]) -> Value:
        v = self._settled(v)
        if self._sizes(v):
            raise _RefusedError("channels become an axis of a field that has a lattice already")
        outer = [e for i, dim in enumerate(v.dims) if i not in lattice and i != channel for e in dim.of(CHANNEL)]
        outer += [] if channel is None else list(v.dims[channel].of(CHANNEL))
        born = [v.dims[d].of(CHANNEL) for d in lattice]
        v = self._ordered(v, [*outer, *(e for digits in born for e in digits)])
        sizes = [prod(d.size for d in digits) for digits in born]
        total = prod(sizes)
        new = self._emit(self._after(v, "reshape"), ir.Birth(), (v.node,), self._channels(v) // total, sizes)
        dims = []
        for i, dim in enumerate(v.dims):
            if i in lattice:
                axis = list(lattice).index(i)
                rest = [d for d in dim.digits if d.kind != CHANNEL]
                if any(d.kind != SPREAD for d in rest):
                    raise _RefusedError("samples become positions")
                dims.append(Dim((Digit(axis, sizes[axis]), *rest), dim.before, dim.after))
            else:
                dims.append(
                    replace(
                        dim,
                        digits=joined(
                            Digit(CHANNEL, d.size, d.stride // total) if d.kind == CHANNEL else d for d in dim.digits
                        ),
                    )
                )
        return replace(v, node=new, dims=tuple(dims))

    def _with_axes(self, v: Value, lattice: Sequence[int]) -> Value:
        """Every one of these dimensions runs through exactly one whole axis; copies become axes."""
        sizes = list(self._sizes(v))
        for d in lattice:
            kinds = [e.kind for e in v.dims[d].digits]
            if len(kinds) == 2 and kinds[0] >= 0 and kinds[1] == SPREAD:
                v = self._repeated(v, d)
                sizes = list(self._sizes(v))
        missing = [d for d in lattice if not v.dims[d].axes]
        for d in lattice:
            dim = v.dims[d]
            if not dim.plain:
                raise _RefusedError("extra tokens stand beside the positions")
            if any(e.kind == BATCH for e in dim.digits):
                self._relayout(v, BATCH, "lattice")
                raise _RefusedError("samples become positions")
            if d not in missing and (len(dim.digits) != 1 or dim.digits[0].size != sizes[dim.digits[0].kind]):
                raise _RefusedError("its positions are cut into blocks or several axes are one")
            if d in missing and any(e.kind != SPREAD for e in dim.digits):
                raise _RefusedError("its positions are not those of a lattice")
        if not missing:
            return v
        v = self._settled(v)
        order: list[int] = list(range(len(self._sizes(v))))  # old axes; new ones as -1 - dim
        for d in missing:
            before = [-1 - e if e in missing else v.dims[e].digits[0].kind for e in lattice if e < d]
            after = [v.dims[e].digits[0].kind for e in lattice if e > d and e not in missing]
            place = order.index(before[-1]) + 1 if before else min((order.index(a) for a in after), default=len(order))
            order.insert(place, -1 - d)
        old = self._sizes(v)
        new_sizes = [v.shape[-1 - o] if o < 0 else old[o] for o in order]
        new = self._emit(
            self._after(v, "broadcast"),
            ir.Broadcast(tuple(i for i, o in enumerate(order) if o < 0)),
            (v.node,),
            self._channels(v),
            new_sizes,
        )
        dims = [
            Dim((Digit(order.index(-1 - i), v.shape[i]),))
            if i in missing
            else replace(dim, digits=tuple(replace(d, kind=order.index(d.kind)) if d.axis else d for d in dim.digits))
            for i, dim in enumerate(v.dims)
        ]
        if v.node in self._origins:
            origin = self._origins[v.node]
            self._origins[new] = _Origin(
                origin.index, {k if k < 0 else order.index(k): d for k, d in origin.dims.items()}
            )
        return replace(v, node=new, dims=tuple(dims))

    def _repeated(self, v: Value, dim: int) -> Value:
        """Every position several times (``repeat_interleave``): nearest interpolation."""
        axis, copies = v.dims[dim].digits
        sizes = list(self._sizes(v))
        if axis.size != sizes[axis.kind]:
            raise _RefusedError("blocks of positions are repeated")
        axes = [AxisResize(1, 1, (((0, 1.0),),))] * len(sizes)
        axes[axis.kind] = AxisResize(copies.size, 1, (((0, 1.0),),) * copies.size)
        sizes[axis.kind] *= copies.size
        new = self._emit(
            self._after(v, "repeat"), ir.Resize(tuple(axes), "nearest"), (v.node,), self._channels(v), sizes
        )
        dims = tuple(Dim((Digit(axis.kind, sizes[axis.kind]),)) if i == dim else each for i, each in enumerate(v.dims))
        return replace(v, node=new, dims=dims)

    def _formed(self, v: Value, channel: int, lattice: Sequence[int] | None = None, *, groups: bool = False) -> Value:
        """The form ``channel`` dimension = all channels; ``lattice`` dimensions = one whole axis each.

        With ``lattice=None`` positions may stand anywhere; with ``groups`` outer channel digits may stand elsewhere.
        """
        v = self._data(v, channel)
        if not v.dims[channel].plain:
            raise _RefusedError("extra tokens stand among the channels")
        for d in lattice or ():
            if any(e.kind == BATCH for e in v.dims[d].digits):
                self._relayout(v, BATCH, "lattice")
        for e in v.dims[channel].digits:
            if e.kind == BATCH:
                self._relayout(v, BATCH, "channel")
                raise _RefusedError("samples become channels")
        v = self._into_channels(v, channel)
        if lattice is None:
            shaped = [i for i, dim in enumerate(v.dims) if i != channel and dim.axes and dim.of(CHANNEL)]
            v = self._out_of_channels(v, channel, shaped) if shaped else v
        else:
            v = self._out_of_channels(v, channel, lattice)
        if v.dims[channel].of(SPREAD):
            v = self._multiplied(v, channel)
        if lattice is not None:
            v = self._with_axes(v, lattice)
        strays = self._channel_digits(v, [channel])
        if strays and not groups:
            self._relayout(v, CHANNEL, "lattice")
            raise _RefusedError("part of its channels stands in another dimension")
        return self._ordered(v, [*strays, *v.dims[channel].of(CHANNEL)])

    def _channels_second(self, v: Value) -> Value:
        """The form of layers that take ``(N, C, *lattice)`` and act on channels only."""
        channel = 1 if len(v.shape) > 1 else 0
        v = self._data(v, channel)
        unborn = [d for d in range(2, len(v.shape)) if v.dims[d].of(CHANNEL) and not v.dims[d].axes]
        if unborn:
            return self._formed(v, channel, range(2, len(v.shape)))
        return self._formed(v, channel)

    def _multiplied(self, v: Value, dim: int) -> Value:
        """Copies in a channel dimension as channels."""
        digits = v.dims[dim].digits
        if any(d.kind not in (CHANNEL, SPREAD) for d in digits):
            raise _RefusedError("copies stand among the channels")
        indices = np.zeros((1,), int)
        for d in digits:
            step = np.zeros(d.size, int) if d.kind == SPREAD else np.arange(d.size)
            indices = (indices[:, None] * (1 if d.kind == SPREAD else d.size) + step).reshape(-1)
        bare = replace(
            v,
            dims=tuple(Dim(dim_.of(CHANNEL)) if i == dim else dim_ for i, dim_ in enumerate(v.dims)),
            shape=tuple(
                prod(d.size for d in v.dims[dim].of(CHANNEL)) if i == dim else n for i, n in enumerate(v.shape)
            ),
        )
        return self._selected(bare, dim, indices.tolist(), self._after(v, "repeat"))

    def _regular(self, v: Value) -> Value:
        """The most natural form without anybody's demand: no dimension mixes positions and channels."""
        v = self._data(v, 1 if len(v.shape) > 1 else None)
        sizes = self._sizes(v)
        mixed = [i for i, dim in enumerate(v.dims) if dim.axes and dim.of(CHANNEL)]
        if not mixed:
            return v
        # A dimension that starts with a whole axis and ends with channels is that axis, finer.
        finer = [
            i for i in mixed
            if v.dims[i].digits[-1].kind == CHANNEL
            and v.dims[i].digits[0].axis and v.dims[i].digits[0].size == sizes[v.dims[i].digits[0].kind]
        ]  # fmt: skip
        return self._regular(self._out_of_channels(v, None, finer) if finer else self._into_channels(v, mixed[0]))

    # -------------------------------------------------------------------------------------------------- convolution

    def _per_axis(self, v: Value, dims: Sequence[int], values: Sequence[Any], default: Any) -> tuple[Any, ...]:
        """Values per dimension as values per axis of the field."""
        result = [default] * len(self._sizes(v))
        for d, value in zip(dims, values, strict=True):
            if v.dims[d].axes:
                result[v.dims[d].digits[0].kind] = value
        return tuple(result)

    def _kernel(self, weight: Weight, v: Value, dims: Sequence[int]) -> Weight:
        """A convolution's weight with one kernel dimension per axis of the field."""
        axes = [v.dims[d].digits[0].kind for d in dims]
        count = len(self._sizes(v))
        if axes == list(range(count)):
            return weight
        order = (0, 1, *(2 + i for i in np.argsort(axes)))
        kernel = [1] * count
        for a, k in zip(axes, weight.shape[2:], strict=True):
            kernel[a] = k
        shape = (*weight.shape[:2], *kernel)
        return _mapped(weight, shape, lambda w: w.transpose(order).reshape(shape))

    def _besides(self, v: Value, dim: int) -> bool:
        """Whether a dimension holds channels of a field that has a lattice elsewhere and comes from a layer."""
        pure = v.dims[dim].of(CHANNEL) == v.dims[dim].digits != ()
        return pure and prod(self._sizes(v)) > 1 and v.node not in self._origins

    def _samples_as_groups(self, v: Value, groups: int) -> tuple[Value, Digit | None]:
        """``(1, N C, H, W)`` with groups per sample, as modulated convolutions are written: samples are samples."""
        digits = v.dims[1].digits if not v.is_constant else ()
        if digits and digits[0].kind == BATCH and groups % digits[0].size == 0:
            n = digits[0].size
            dims = (Dim((*v.dims[0].digits, digits[0])), Dim(digits[1:]), *v.dims[2:])
            return replace(v, dims=dims, shape=(v.shape[0] * n, v.shape[1] // n, *v.shape[2:])), digits[0]
        return v, None

    def _convolved(
        self,
        x: Value,
        weight: Weight | Value,
        bias: Weight | Value | None,
        name: str,
        transposed: bool,
        shape: Shape,
        stride: Sequence[int],
        padding: Sequence[Pair],
        dilation: Sequence[int],
        groups: int,
        make: Callable[..., Op],
    ) -> Value:
        lattice = list(range(2, len(x.shape)))
        extra: list[int] = []
        lead: Digit | None = None
        if isinstance(weight, Value) and weight.weight is not None:
            weight = weight.weight
        if isinstance(weight, Value):
            x, lead = self._samples_as_groups(x, groups)
            if lead is not None:
                groups //= lead.size
                weight = replace(weight, shape=(weight.shape[0] // lead.size, *weight.shape[1:]))
            forced = self._forced(weight)
            extra.append(forced.node)
            weight = Weight(f"{name}.weight", weight.shape, False, None)
        if isinstance(bias, Value):
            extra += [] if bias.is_constant else [self._forced(bias).node]
            bias = bias.weight if bias.is_constant else Weight(f"{name}.bias", bias.shape, False, None)
        known = self._visible(weight)
        assert known is not None
        weight, bias = known, self._visible(bias)
        v = self._data(x, 1)
        still = [
            d for d in lattice
            if weight.shape[d] == 1 and stride[d - 2] == 1 and padding[d - 2] == (0, 0) and self._besides(v, d)
        ]  # fmt: skip
        if still:  # nothing happens along them, so that their channels may stay channels
            kept = [d - 2 for d in lattice if d not in still]
            stride, padding, dilation = (
                [stride[i] for i in kept],
                [padding[i] for i in kept],
                [dilation[i] for i in kept],
            )
            lattice = [d for d in lattice if d not in still]
            weight = _reshaped(weight, (*weight.shape[:2], *(weight.shape[2 + i] for i in kept)))
        kernel = weight.shape[2:]
        point = all(k == 1 for k in kernel) and all(s == 1 for s in stride) and not any(a or b for a, b in padding)
        loose = point and not any(v.dims[d].of(CHANNEL) for d in lattice)
        straight = all(
            len(v.dims[d].digits) == 1 and v.dims[d].digits[0].axis and v.dims[d].plain
            and v.dims[d].digits[0].size == self._sizes(v)[v.dims[d].digits[0].kind]
            for d in lattice
        )  # fmt: skip
        loose = loose and not straight
        v = self._settled(self._formed(v, 1, None if loose else lattice, groups=True))
        strays = self._channel_digits(v, [1])
        count = prod(d.size for d in strays)
        per_in = self._channels(v) // count
        per_out = weight.shape[0] if not transposed else weight.shape[1] * groups
        if per_in != (weight.shape[0] if transposed else weight.shape[1] * groups):
            raise _RefusedError(f"its weight {list(weight.shape)} does not fit {per_in} channels in {groups} groups")
        if count > 1:  # channels of their own in the batch: the same filter for every group
            weight = _mapped(
                weight, (weight.shape[0] * count, *weight.shape[1:]), lambda w: np.concatenate([w] * count)
            )
            if bias is not None:
                bias = _mapped(bias, (per_out * count,), lambda b: np.concatenate([b.reshape(-1)] * count))
            groups *= count
        if loose:
            sizes = self._sizes(v)
            if groups == 1 and not transposed:
                flat = _reshaped(weight, weight.shape[:2])
                op: Op = ir.Linear(per_in, per_out, flat, bias)
            else:
                weight = _reshaped(weight, (*weight.shape[:2], *(1,) * len(sizes)))
                ones = (1,) * len(sizes)
                op = make(ones, ones, ((0, 0),) * len(sizes), ones, groups, weight, bias)
        else:
            weight = self._kernel(weight, v, lattice)
            op = make(
                weight.shape[2:],
                self._per_axis(v, lattice, stride, 1),
                self._per_axis(v, lattice, padding, (0, 0)),
                self._per_axis(v, lattice, dilation, 1),
                groups,
                weight,
                bias,
            )
            sizes = tuple(self._per_axis(v, lattice, [shape[d] for d in lattice], 0))
            sizes = tuple(new or old for new, old in zip(sizes, self._sizes(v), strict=True))
        node = self._emit(name, op, (v.node, *extra), per_out * count, sizes)
        dims = []
        for i, dim in enumerate(v.dims):
            if i == 1:
                dims.append(Dim(joined([Digit(CHANNEL, per_out)])))
            elif i in lattice and not loose:
                dims.append(Dim((Digit(dim.digits[0].kind, shape[i]),)))
            else:
                digits = (
                    replace(d, stride=d.stride // per_in * per_out) if d.kind == CHANNEL else d for d in dim.digits
                )
                dims.append(replace(dim, digits=tuple(digits)))
        if lead is not None:
            samples = tuple(d for d in dims[0].digits if d != lead)
            dims[0], dims[1] = Dim(samples), Dim(joined([lead, *dims[1].digits]))
        return Value(shape, node, tuple(dims))

    def conv(
        self,
        x: Value,
        weight: Weight | Value,
        bias: Weight | Value | None,
        *,
        stride: Sequence[int],
        padding: Sequence[Pair],
        dilation: Sequence[int],
        groups: int,
        pad_mode: ir.PadMode = "zeros",
        name: str,
    ) -> Value:
        """Convolution; ``x`` is ``(N, C, *spatial)``, ``weight`` ``(C_out, C_in / groups, *kernel)``."""
        name = self._unique(name)
        kernel = weight.shape[2:]
        sizes = [
            (n + lo + hi - d * (k - 1) - 1) // s + 1
            for n, k, s, (lo, hi), d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
        ]
        shape = (x.shape[0], weight.shape[0], *sizes)

        def make(k: Shape, s: Shape, p: Any, d: Shape, g: int, w: Weight, b: Weight | None) -> Op:
            return ir.Conv(k, s, p, d, g, w.shape[1] * g, w.shape[0], pad_mode, w, b)

        return self._try(
            "convolution", name, [x], shape,
            lambda: self._convolved(x, weight, bias, name, False, shape, stride, padding, dilation, groups, make),
        )  # fmt: skip

    def conv_transpose(
        self,
        x: Value,
        weight: Weight | Value,
        bias: Weight | Value | None,
        *,
        stride: Sequence[int],
        padding: Sequence[Pair],
        dilation: Sequence[int],
        output_padding: Sequence[int],
        groups: int,
        name: str,
    ) -> Value:
        """Transposed convolution; ``weight`` is ``(C_in, C_out / groups, *kernel)``."""
        name = self._unique(name)
        kernel = weight.shape[2:]
        sizes = [
            (n - 1) * s + d * (k - 1) + 1 - lo - hi + a
            for n, k, s, (lo, hi), d, a in zip(
                x.shape[2:], kernel, stride, padding, dilation, output_padding, strict=True
            )
        ]
        samples = weight.shape[0] // x.shape[1] if isinstance(weight, Value) and weight.shape[0] > x.shape[1] else 1
        shape = (x.shape[0], weight.shape[1] * groups // samples, *sizes)
        extra = tuple(output_padding)

        def make(k: Shape, s: Shape, p: Any, d: Shape, g: int, w: Weight, b: Weight | None) -> Op:
            a = extra if len(extra) == len(k) and any(extra) else (0,) * len(k)
            return ir.ConvTranspose(k, s, p, d, a, g, w.shape[0], w.shape[1] * g, w, b)

        return self._try(
            "transposed convolution", name, [x], shape,
            lambda: self._convolved(x, weight, bias, name, True, shape, stride, padding, dilation, groups, make),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------- matrix products

    def linear(self, x: Value, weight: Weight, bias: Weight | None, *, name: str) -> Value:
        """The last dimension times ``weight`` ``(C_out, C_in)`` transposed."""
        name = self._unique(name)
        shape = (*x.shape[:-1], weight.shape[0])
        return self._try("linear", name, [x], shape, lambda: self._linear(x, weight, bias, name, shape))

    def _linear(self, x: Value, weight: Weight, bias: Weight | None, name: str, shape: Shape) -> Value:
        weight_seen, bias = self._visible(weight), self._visible(bias)
        assert weight_seen is not None
        last = len(x.shape) - 1
        v = self._settled(self._formed(x, last, groups=True))
        strays = self._channel_digits(v, [last])
        count = prod(d.size for d in strays)
        c_out, c_in = weight.shape
        op: Op
        if count > 1:
            ones = (1,) * len(self._sizes(v))
            w = _mapped(
                weight_seen,
                (c_out * count, c_in, *ones),
                lambda a: np.concatenate([a] * count).reshape(-1, c_in, *ones),
            )
            b = None if bias is None else _mapped(bias, (c_out * count,), lambda a: np.concatenate([a] * count))
            zeros = ((0, 0),) * len(ones)
            op = ir.Conv(ones, ones, zeros, ones, count, c_in * count, c_out * count, "zeros", w, b)
        else:
            op = ir.Linear(c_in, c_out, weight_seen, bias)
        node = self._emit(name, op, (v.node,), c_out * count, self._sizes(v))
        dims = [
            replace(
                dim,
                digits=tuple(
                    replace(d, stride=d.stride // c_in * c_out) if d.kind == CHANNEL else d for d in dim.digits
                ),
            )
            for dim in v.dims[:-1]
        ]
        return Value(shape, node, (*dims, Dim(joined([Digit(CHANNEL, c_out)]))))

    def matmul(self, a: Value, b: Value, *, name: str) -> Value:
        """``a @ b`` with broadcasting."""
        name = self._unique(name)
        if len(a.shape) == 1:
            return self.squeeze(self.matmul(self.unsqueeze(a, (0,)), b, name=name), (max(len(b.shape) - 2, 0),))
        if len(b.shape) == 1:
            column = self.matmul(a, self.unsqueeze(b, (1,)), name=name)
            return self.squeeze(column, (len(column.shape) - 1,))
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        return self._try("matmul", name, [a, b], shape, lambda: self._matmul(a, b, name, shape))

    def _matmul(self, a: Value, b: Value, name: str, shape: Shape) -> Value:
        if a.is_constant and b.is_constant:
            return self._folded_matmul(a, b, shape)
        if b.is_constant and prod(b.shape[:-2]) == 1 and a.scores is None:
            assert b.weight is not None
            weight = _mapped(b.weight, (b.shape[-1], b.shape[-2]), lambda w: w.reshape(b.shape[-2:]).T)
            return self._linear(self._expanded(a, (*shape[:-1], a.shape[-1])), weight, None, name, shape)
        if a.is_constant and prod(a.shape[:-2]) == 1 and b.scores is None:
            assert a.weight is not None
            swap = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
            turned = self.permute(self._expanded(b, (*shape[:-2], *b.shape[-2:])), swap)
            weight = _reshaped(a.weight, a.shape[-2:])
            return self.permute(self._linear(turned, weight, None, name, tuple(shape[i] for i in swap)), swap)
        rank = len(shape)
        swap = (*range(rank - 2), rank - 1, rank - 2)
        if a.scores is not None and a.scores.softmax:
            if not self._upright(a):
                raise _RefusedError("attention weights are read across queries")
            s = a.scores
            return self._attention(s.query, s.key, b, s.scale, s.biased, name, shape)
        if b.scores is not None and b.scores.softmax:
            if self._upright(b) and b.shape[-1] * b.shape[-2] > 1:
                raise _RefusedError("attention weights are read across queries")
            s = b.scores
            turned_shape = tuple(shape[i] for i in swap)
            value = self.permute(self._expanded(a, (*shape[:-2], *a.shape[-2:])), swap)
            return self.permute(self._attention(s.query, s.key, value, s.scale, s.biased, name, turned_shape), swap)
        q = self._data(a, len(a.shape) - 1)
        k = self._data(b, len(b.shape) - 2)
        for v, place in ((q, -1), (k, -2)):
            if any(d.axis for d in v.dims[place].digits) or not v.dims[place].plain:
                for d in v.dims[place].axes:
                    self._relayout(v, d.kind, "channel")
                raise _RefusedError("it sums over positions with weights from the data")
            if v.dims[place].of(BATCH):
                raise _RefusedError("it sums over samples")
        q = self._expanded(q, (*shape[:-2], *q.shape[-2:]))
        k = self._expanded(k, (*shape[:-2], *k.shape[-2:]))
        keys = self.permute(k, swap)
        return self._scores(Scores(q, keys))

    def _scores(self, s: Scores) -> Value:
        """Attention scores as a value: batch dimensions, queries, keys."""
        shape = (*s.query.shape[:-1], s.key.shape[-2])
        sides = (Dim(joined([Digit(QUERY, shape[-2])])), Dim(joined([Digit(KEY, shape[-1])])))
        return Value(shape, s.query.node, (*s.query.dims[:-2], *sides), scores=s)

    def _upright(self, v: Value) -> bool:
        """Whether scores have their queries before their keys; false if they are transposed."""
        assert v.scores is not None
        s = v.scores
        return v.shape[-2] == s.query.shape[-2] and not v.dims[-2].of(KEY) and not v.dims[-1].of(QUERY)

    def _scores_moved(self, v: Value, change: Callable[[Value], Value]) -> Value:
        """Scores whose batch dimensions were reshaped or transposed."""
        assert v.scores is not None
        moved = self._scores(replace(v.scores, query=change(v.scores.query), key=change(v.scores.key)))
        if self._upright(v):
            return moved
        return replace(
            moved, shape=(*moved.shape[:-2], *moved.shape[:-3:-1]), dims=(*moved.dims[:-2], *moved.dims[:-3:-1])
        )

    def _folded_matmul(self, a: Value, b: Value, shape: Shape) -> Value:
        assert a.weight is not None
        assert b.weight is not None
        left, right = a, b
        known = a.weight.known and b.weight.known
        fixed = a.weight.fixed and b.weight.fixed

        def load() -> Array:
            return np.asarray(np.matmul(left.array(), right.array()))  # type: ignore[arg-type]

        return Value(shape, weight=Weight(a.weight.name, shape, fixed, load if known else None))

    def _forced(self, v: Value) -> Value:
        """Attention scores that are no attention after all: mixing of channels by coefficients from the data."""
        if v.scores is None:
            return v
        s = v.scores
        if s.softmax or s.biased:
            raise _RefusedError("attention weights are used as data")
        q, k = s.query, s.key
        rank = len(v.shape)
        swap = (*range(rank - 2), rank - 1, rank - 2)
        if not self._upright(v):
            return self.permute(self._forced(self._scores(s)), swap)
        # The side with a lattice keeps it; the other one's rows become channels.
        if q.dims[-2].axes and not k.dims[-2].axes:
            return self.permute(self._forced(self._scores(replace(s, query=k, key=q))), swap)
        if not q.dims[-2].plain or not k.dims[-2].plain:
            raise _RefusedError("products with extra tokens are used as data")
        rows = q.shape[-2]
        k = self._formed(k, rank - 1, groups=True)
        groups = self._channel_digits(k, [rank - 1])
        count = prod(d.size for d in groups)
        q = self._settled(q)
        if self._sizes(q):
            axes = tuple(range(len(self._sizes(q))))
            flat = self._emit(
                self._after(q, "flatten"), ir.Flatten(axes), (q.node,), self._channels(q) * prod(self._sizes(q)), ()
            )
        else:
            flat = q.node
        columns = 1
        if not k.dims[-2].axes:
            columns = k.shape[-2]
        channels = count * rows * columns
        name = f"{self._after(v, 'matmul')}"
        node = self._emit(name, ir.ChannelMix(), (flat, k.node), channels, self._sizes(k))
        if s.scale != 1.0:
            node = self._emit(name, ir.Affine(s.scale, None), (node,), channels, self._sizes(k))
        per_in = self._channels(k) // count
        dims = []
        for d in k.dims[:-2]:
            digits = (
                replace(e, stride=e.stride // per_in * rows * columns) if e.kind == CHANNEL else e for e in d.digits
            )
            dims.append(replace(d, digits=tuple(digits)))
        row = Dim(joined([Digit(CHANNEL, rows, columns)]))
        column = k.dims[-2] if k.dims[-2].axes else Dim(joined([Digit(CHANNEL, columns)]))
        return Value(v.shape, node, (*dims, row, column))

    def attention(self, q: Value, k: Value, v: Value, *, scale: float, biased: bool, name: str) -> Value:
        """``softmax(scale * q k^T + bias) v`` over ``(..., length, channels)``."""
        name = self._unique(name)
        batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        shape = (*batch, q.shape[-2], v.shape[-1])
        return self._try(
            "attention", name, [q, k, v], shape, lambda: self._attention(q, k, v, scale, biased, name, shape)
        )

    def _attention(
        self, query: Value, key: Value, value: Value, scale: float, biased: bool, name: str, shape: Shape
    ) -> Value:
        last = len(shape) - 1
        parts = []
        for v in (query, key, value):
            v = self._expanded(self._data(v, len(v.shape) - 1), (*shape[:-2], *v.shape[-2:]))
            parts.append(self._settled(self._formed(v, last, groups=True)))
        q, k, v = parts
        if k.dims[-2].size != v.dims[-2].size:
            raise _RefusedError("its keys and values have different lengths")
        strays = self._channel_digits(q, [last])
        heads = prod(d.size for d in strays)
        if q.dims[-2].of(CHANNEL) or k.dims[-2].of(CHANNEL) or v.dims[-2].of(CHANNEL):
            raise _RefusedError("it attends over channels")
        placed = {d.kind for d in q.dims[-2].axes}
        windowed = any(d.axis for dim in q.dims[:-2] for d in dim.digits) or any(
            d.size != self._sizes(q)[d.kind] for d in q.dims[-2].axes
        )
        contiguous = windowed and all(d.stride == 1 for d in q.dims[-2].axes)
        axes = range(len(self._sizes(q))) if contiguous else ()
        window = tuple(prod(d.size for d in q.dims[-2].axes if d.kind == axis) for axis in axes)
        cross = self._sizes(q) != self._sizes(k)
        c_v = v.shape[-1]
        groups_v = prod(d.size for d in self._channel_digits(v, [last]))
        channels = heads * c_v if heads >= groups_v else groups_v * c_v
        op = ir.Attention(max(heads, groups_v), scale, biased, windowed, window, cross)
        node = self._emit(name, op, (q.node, k.node, v.node), channels, self._sizes(q))
        del placed
        per = self._channels(q) // heads
        dims = []
        reference = q if heads >= groups_v else v
        for i, dim in enumerate(q.dims[:-1]):
            digits = []
            for d in dim.digits:
                if d.kind == CHANNEL:
                    d = replace(d, stride=d.stride // per * c_v)
                digits.append(d)
            if reference is v and dim.of(SPREAD) and v.dims[i].of(CHANNEL):
                digits = [
                    replace(d, stride=d.stride // (self._channels(v) // groups_v) * c_v) for d in v.dims[i].digits
                ]
            dims.append(replace(dim, digits=tuple(digits)))
        return Value(shape, node, (*dims, Dim(joined([Digit(CHANNEL, c_v)]))))

    def softmax(self, x: Value, dim: int, *, name: str) -> Value:
        """Softmax over one dimension."""
        name = self._unique(name)
        return self._try("softmax", name, [x], x.shape, lambda: self._softmax(x, dim % len(x.shape), name))

    def _softmax(self, x: Value, dim: int, name: str) -> Value:
        if x.is_constant:
            return self._folded(x, x.shape, lambda a: _softmaxed(a, dim))
        if x.scores is not None:
            if dim != len(x.shape) - (1 if self._upright(x) else 2):
                raise _RefusedError("it normalises attention over queries")
            return replace(x, scores=replace(x.scores, softmax=True))
        if x.dims[dim].axes:
            self._relayout(x, x.dims[dim].axes[0].kind, "channel")
            raise _RefusedError("it normalises over positions")
        v = self._formed(x, dim, groups=True)
        count = prod(d.size for d in self._channel_digits(v, [dim]))
        return self._same(v, name, ir.Normalize("softmax", groups=count, eps=0.0))

    def einsum(self, equation: str, *values: Value, name: str) -> Value:
        """Einstein summation of one or two values, as transposes and a matrix product."""
        name = self._unique(name)
        left, _, right = equation.replace(" ", "").partition("->")
        terms = left.split(",")
        sizes = {c: n for t, v in zip(terms, values, strict=True) for c, n in zip(t, v.shape, strict=False)}
        plain = "." not in equation and all(
            len(set(t)) == len(t) == len(v.shape) for t, v in zip(terms, values, strict=True)
        )
        if not right and "->" not in equation:
            letters = sorted("".join(terms))
            right = "".join(c for c in letters if letters.count(c) == 1)
        shape = tuple(sizes.get(c, 1) for c in right)

        def act() -> Value:
            if not plain or len(values) > 2:
                raise _RefusedError(f"einsum {equation!r} has no entry")
            if len(values) == 1:
                gone = tuple(i for i, c in enumerate(terms[0]) if c not in right)
                v = self.reduce(values[0], gone, "sum", False, name=name) if gone else values[0]
                kept = [c for c in terms[0] if c in right]
                return self.permute(v, tuple(kept.index(c) for c in right))
            a, b = values
            ta, tb = terms
            for i, (t, other) in enumerate(((ta, tb), (tb, ta))):
                alone = tuple(j for j, c in enumerate(t) if c not in right and c not in other)
                if alone:
                    reduced = self.reduce((a, b)[i], alone, "sum", False, name=name)
                    t = "".join(c for j, c in enumerate(t) if j not in alone)
                    a, b, ta, tb = (reduced, b, t, tb) if i == 0 else (a, reduced, ta, t)
            batch = [c for c in ta if c in tb and c in right]
            inner = [c for c in ta if c in tb and c not in right]
            rows = [c for c in right if c in ta and c not in tb]
            columns = [c for c in right if c in tb and c not in ta]
            if not inner:
                return self._outer(a, b, ta, tb, right, name)
            left_value = self.permute(a, tuple(ta.index(c) for c in [*batch, *rows, *inner]))
            right_value = self.permute(b, tuple(tb.index(c) for c in [*batch, *inner, *columns]))
            lead = tuple(sizes[c] for c in batch)
            count = [prod(sizes[c] for c in group) for group in (rows, inner, columns)]
            left_value = self.reshape(left_value, (*lead, count[0], count[1]))
            right_value = self.reshape(right_value, (*lead, count[1], count[2]))
            full = (*lead, count[0], count[2])
            y = self._matmul(left_value, right_value, name, full)
            y = self.reshape(y, (*lead, *(sizes[c] for c in rows), *(sizes[c] for c in columns)))
            order = [*batch, *rows, *columns]
            return self.permute(y, tuple(order.index(c) for c in right))

        return self._try("einsum", name, values, shape, act)

    def _outer(self, a: Value, b: Value, ta: str, tb: str, right: str, name: str) -> Value:
        """A product without a sum: broadcasting."""
        spread = []
        for v, t in ((a, ta), (b, tb)):
            v = self.permute(v, tuple(t.index(c) for c in right if c in t))
            missing = tuple(i for i, c in enumerate(right) if c not in t)
            spread.append(self.unsqueeze(v, missing))
        return self._elementwise("mul", spread[0], spread[1], name)

    # ----------------------------------------------------------------------------------- interpolation, pooling, pads

    def resize(self, x: Value, axes: Sequence[AxisResize], mode: str, out_sizes: Sequence[int], *, name: str) -> Value:
        """Interpolation of the last ``len(axes)`` dimensions."""
        name = self._unique(name)
        first = len(x.shape) - len(axes)
        shape = (*x.shape[:first], *(int(n) for n in out_sizes))

        def act() -> Value:
            v = self._data(x, 1)
            lattice = [d for d in range(first, len(shape)) if not (shape[d] == x.shape[d] and self._besides(v, d))]
            resamplers = [axes[d - first] for d in lattice]
            if all(not v.dims[d].digits for d in lattice):
                return self._expanded(v, shape)  # from one value without a lattice: a constant
            v = self._settled(self._axes_only(v, lattice))
            per_axis = self._per_axis(v, lattice, resamplers, AxisResize(1, 1, (((0, 1.0),),)))
            sizes = self._resized(v, lattice, shape)
            node = self._emit(name, ir.Resize(per_axis, mode), (v.node,), self._channels(v), sizes)
            return self._on_axes(v, node, lattice, shape)

        return self._try("interpolate", name, [x], shape, act)

    def _axes_only(self, v: Value, lattice: Sequence[int]) -> Value:
        return self._with_axes(self._out_of_channels(v, None, lattice), lattice)

    def _resized(self, v: Value, lattice: Sequence[int], shape: Shape) -> tuple[int, ...]:
        sizes = list(self._sizes(v))
        for d in lattice:
            sizes[v.dims[d].digits[0].kind] = shape[d]
        return tuple(sizes)

    def _on_axes(self, v: Value, node: int, lattice: Sequence[int], shape: Shape) -> Value:
        """The same layout with new sizes of some axes."""
        changed = {v.dims[d].digits[0].kind for d in lattice if self._sizes(v)[v.dims[d].digits[0].kind] != shape[d]}
        for i, dim in enumerate(v.dims):
            if i not in lattice and any(d.kind in changed for d in dim.axes):
                raise _RefusedError("its positions are cut into blocks")
        dims = [Dim((Digit(dim.digits[0].kind, shape[i]),)) if i in lattice else dim for i, dim in enumerate(v.dims)]
        return Value(tuple(shape), node, tuple(dims))

    def pool(
        self,
        x: Value,
        kind: Literal["max", "average", "lp"],
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[Pair],
        dilation: Sequence[int],
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        name: str,
    ) -> Value:
        """Pooling of the last dimensions over windows."""
        name = self._unique(name)
        first = len(x.shape) - len(kernel)
        sizes = []
        for n, k, s, (lo, hi), d in zip(x.shape[first:], kernel, stride, padding, dilation, strict=True):
            span = n + lo + hi - d * (k - 1) - 1
            out = (ceil(span / s) if ceil_mode else floor(span / s)) + 1
            # A window that would start in the padding behind does not count.
            sizes.append(out - 1 if ceil_mode and (out - 1) * s >= n + lo else out)
        shape = (*x.shape[:first], *sizes)

        def act() -> Value:
            v = self._data(x, first - 1 if first else None)
            lattice = list(range(first, len(shape)))
            v = self._settled(self._axes_only(v, lattice))
            op = ir.Pool(
                kind,
                self._per_axis(v, lattice, kernel, 1),
                self._per_axis(v, lattice, stride, 1),
                self._per_axis(v, lattice, padding, (0, 0)),
                self._per_axis(v, lattice, dilation, 1),
                count_include_pad,
            )
            node = self._emit(name, op, (v.node,), self._channels(v), self._resized(v, lattice, shape))
            return self._on_axes(v, node, lattice, shape)

        return self._try(f"{kind} pooling", name, [x], shape, act)

    def unpool(
        self, x: Value, *, kernel: Sequence[int], stride: Sequence[int], out_sizes: Sequence[int], name: str
    ) -> Value:
        """Max un-pooling to the given sizes."""
        name = self._unique(name)
        first = len(x.shape) - len(kernel)
        shape = (*x.shape[:first], *out_sizes)

        def act() -> Value:
            lattice = list(range(first, len(shape)))
            v = self._settled(self._axes_only(self._data(x, 1), lattice))
            op = ir.Unpool(self._per_axis(v, lattice, kernel, 1), self._per_axis(v, lattice, stride, 1))
            node = self._emit(name, op, (v.node,), self._channels(v), self._resized(v, lattice, shape))
            return self._on_axes(v, node, lattice, shape)

        return self._try("max un-pooling", name, [x], shape, act)

    def fold(
        self,
        x: Value,
        *,
        out_sizes: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[Pair],
        dilation: Sequence[int],
        name: str,
    ) -> Value:
        """col2im: ``(N, C * kernel, blocks)`` to ``(N, C, *out_sizes)``."""
        name = self._unique(name)
        shape = (x.shape[0], x.shape[1] // prod(kernel), *out_sizes)
        grid = [
            (n + lo + hi - d * (k - 1) - 1) // s + 1
            for n, k, s, (lo, hi), d in zip(out_sizes, kernel, stride, padding, dilation, strict=True)
        ]

        def act() -> Value:
            lattice = list(range(2, 2 + len(grid)))
            v = self.reshape(self._data(x, 1), (*x.shape[:2], *grid))
            v = self._settled(self._formed(v, 1, lattice))
            op = ir.Fold(
                self._per_axis(v, lattice, kernel, 1),
                self._per_axis(v, lattice, stride, 1),
                self._per_axis(v, lattice, padding, (0, 0)),
                self._per_axis(v, lattice, dilation, 1),
            )
            node = self._emit(name, op, (v.node,), shape[1], self._resized(v, lattice, shape))
            dims = list(self._on_axes(v, node, lattice, shape).dims)
            dims[1] = Dim(joined([Digit(CHANNEL, shape[1])]))
            return Value(shape, node, tuple(dims))

        return self._try("fold", name, [x], shape, act)

    def unfold(
        self,
        x: Value,
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[Pair],
        dilation: Sequence[int],
        name: str,
    ) -> Value:
        """im2col: ``(N, C, *spatial)`` to ``(N, C * kernel, blocks)``."""
        name = self._unique(name)
        grid = [
            (n + lo + hi - d * (k - 1) - 1) // s + 1
            for n, k, s, (lo, hi), d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
        ]
        channels = x.shape[1] * prod(kernel)

        def act() -> Value:
            lattice = list(range(2, len(x.shape)))
            v = self._settled(self._formed(x, 1, lattice))
            full = (x.shape[0], channels, *grid)
            op = ir.Unfold(
                self._per_axis(v, lattice, kernel, 1),
                self._per_axis(v, lattice, stride, 1),
                self._per_axis(v, lattice, padding, (0, 0)),
                self._per_axis(v, lattice, dilation, 1),
            )
            node = self._emit(name, op, (v.node,), channels, self._resized(v, lattice, full))
            dims = list(self._on_axes(v, node, lattice, full).dims)
            dims[1] = Dim(joined([Digit(CHANNEL, channels)]))
            return self.reshape(Value(full, node, tuple(dims)), (x.shape[0], channels, prod(grid)))

        return self._try("unfold", name, [x], (x.shape[0], channels, prod(grid)), act)

    def warp(self, x: Value, grid: Value, shape: Sequence[int], mode: str, *, name: str) -> Value:
        """``grid_sample``: positions are read where the grid says."""
        name = self._unique(name)
        shape = tuple(shape)

        def act() -> Value:
            lattice = list(range(2, len(x.shape)))
            v = self._settled(self._formed(x, 1, lattice))
            extra = []
            if not grid.is_constant:
                extra.append(self._dependency(grid, len(grid.shape) - 1))
            order = [v.dims[d].digits[0].kind for d in lattice]
            if order != list(range(len(order))):
                raise _RefusedError("it reads a transposed field")
            node = self._emit(name, ir.Warp(mode), (v.node, *extra), self._channels(v), shape[2:])
            return self._on_axes(v, node, lattice, shape)

        return self._try("grid_sample", name, [x, grid], shape, act)

    def _dependency(self, v: Value, channel: int) -> int:
        """The node of a value that decides where another one is read: its own layout does not matter."""
        try:
            return self._formed(v, channel, groups=True).node
        except (_RefusedError, LayoutError):
            return self._forced(v).node

    def pad(self, x: Value, pads_per_dim: Sequence[Pair], mode: ir.PadMode, value: float, *, name: str) -> Value:
        """Padding ``(before, after)`` of every dimension; negative amounts crop."""
        name = self._unique(name)
        shape = tuple(n + lo + hi for n, (lo, hi) in zip(x.shape, pads_per_dim, strict=True))
        touched = [i for i, (lo, hi) in enumerate(pads_per_dim) if lo or hi]

        def act() -> Value:
            if x.is_constant:
                how = {"zeros": "constant", "constant": "constant", "replicate": "edge", "circular": "wrap"}
                if any(p < 0 for pair in pads_per_dim for p in pair):
                    raise _RefusedError("it crops a constant")
                extra: dict[str, Any] = {"constant_values": value} if mode in ("zeros", "constant") else {}
                return self._folded(
                    x, shape, lambda a: np.pad(a, list(pads_per_dim), how.get(mode, "reflect"), **extra)  # type: ignore[call-overload]
                )  # fmt: skip
            v = self._forced(x)
            inside = prod(self._sizes(v)) > 1  # a new dimension beside positions counts as channels: zeros between them
            channel = [
                d for d in touched
                if not v.dims[d].axes and (v.dims[d].of(CHANNEL) or (inside and not v.dims[d].digits))
            ]  # fmt: skip
            for d in channel:
                lo, hi = pads_per_dim[d]
                origin = self._origins.get(v.node)
                if origin is not None and len(channel) < len(touched):
                    self._relayout(v, CHANNEL, "lattice")
                if mode not in ("zeros", "constant") or value:
                    raise _RefusedError("it pads channels with values")
                n = v.shape[d]
                indices = [-1] * lo + list(range(max(0, -lo), n + min(0, hi))) + [-1] * hi
                v = self._selected(v, d, indices, name)
            lattice = [d for d in touched if d not in channel]
            if not lattice:
                return v
            v = self._settled(self._axes_only(v, lattice))
            padding = self._per_axis(v, lattice, [pads_per_dim[d] for d in lattice], (0, 0))
            full = tuple(shape[d] if d in lattice else v.shape[d] for d in range(len(shape)))
            node = self._emit(
                name, ir.Pad(padding, mode, value), (v.node,), self._channels(v), self._resized(v, lattice, full)
            )
            self._keep_origin(node, v.node)
            return self._on_axes(v, node, lattice, full)

        if not touched:
            return x
        return self._try("pad", name, [x], shape, act)

    def roll(self, x: Value, shifts: Sequence[int], dims: Sequence[int], *, name: str) -> Value:
        """Cyclic shift: circular padding before, a crop behind."""
        pads = [(0, 0)] * len(x.shape)
        for s, d in zip(shifts, dims, strict=True):
            n = x.shape[d]
            s = s % n if abs(s) >= n else s
            pads[d] = (s, -s)
        if x.is_constant:
            return self._folded(x, x.shape, lambda a: np.roll(a, tuple(shifts), tuple(dims)))
        return self.pad(x, pads, "circular", 0.0, name=name)

    def pixel_shuffle(
        self, x: Value, factor_per_axis: Sequence[int], order: Literal["CRD", "DCR"] = "CRD", *, name: str
    ) -> Value:
        """Depth to space of ``(N, C, *spatial)``; ``CRD`` is PyTorch's channel order."""
        name = self._unique(name)
        factor = tuple(factor_per_axis)
        first = len(x.shape) - len(factor)
        total = prod(factor)
        shape = (
            *x.shape[: first - 1],
            x.shape[first - 1] // total,
            *(n * f for n, f in zip(x.shape[first:], factor, strict=True)),
        )

        def act() -> Value:
            lattice = list(range(first, len(shape)))
            channel = first - 1
            v = self._settled(self._formed(x, channel, lattice))
            if order == "DCR":
                view = [*factor, x.shape[channel] // total]
                strides = [prod(view[i + 1 :]) for i in range(len(view))]
                digits = [Digit(CHANNEL, n, s) for n, s in zip(view, strides, strict=True)]
                v = self._ordered(v, [digits[-1], *digits[:-1]])
            per_axis = self._per_axis(v, lattice, factor, 1)
            axes = [v.dims[d].digits[0].kind for d in lattice]
            if axes != sorted(axes):
                raise _RefusedError("it shuffles into a transposed field")
            op = ir.PixelShuffle(per_axis, "pixel_shuffle")
            node = self._emit(name, op, (v.node,), shape[channel], self._resized(v, lattice, shape))
            dims = list(self._on_axes(v, node, lattice, shape).dims)
            dims[channel] = Dim(joined([Digit(CHANNEL, shape[channel])]))
            return Value(shape, node, tuple(dims))

        return self._try("pixel_shuffle", name, [x], shape, act)

    def pixel_unshuffle(self, x: Value, factor_per_axis: Sequence[int], *, name: str) -> Value:
        """Space to depth in PyTorch's channel order."""
        name = self._unique(name)
        factor = tuple(factor_per_axis)
        first = len(x.shape) - len(factor)
        shape = (
            *x.shape[: first - 1],
            x.shape[first - 1] * prod(factor),
            *(n // f for n, f in zip(x.shape[first:], factor, strict=True)),
        )

        def act() -> Value:
            lattice = list(range(first, len(shape)))
            v = self._settled(self._formed(x, first - 1, lattice))
            axes = [v.dims[d].digits[0].kind for d in lattice]
            if axes != sorted(axes):
                raise _RefusedError("it reads a transposed field")
            op = ir.PixelUnshuffle(self._per_axis(v, lattice, factor, 1))
            node = self._emit(name, op, (v.node,), shape[first - 1], self._resized(v, lattice, shape))
            dims = list(self._on_axes(v, node, lattice, shape).dims)
            dims[first - 1] = Dim(joined([Digit(CHANNEL, shape[first - 1])]))
            return Value(shape, node, tuple(dims))

        return self._try("pixel_unshuffle", name, [x], shape, act)

    # --------------------------------------------------------------------------------------------------- reductions

    def reduce(self, x: Value, dims: Sequence[int], kind: str, keepdim: bool, *, name: str) -> Value:
        """Reduction over dimensions."""
        name = self._unique(name)
        gone = tuple(sorted({d % len(x.shape) for d in dims})) if x.shape else ()
        kept_shape = tuple(1 if i in gone else n for i, n in enumerate(x.shape))
        final = kept_shape if keepdim else tuple(n for i, n in enumerate(x.shape) if i not in gone)

        def act() -> Value:
            v = self._reduced(x, gone, kind, kept_shape, name)
            return v if keepdim else self.squeeze(v, gone)

        return self._try(f"reduce_{kind}", name, [x], final, act)

    def _reduced(self, x: Value, gone: tuple[int, ...], kind: str, shape: Shape, name: str) -> Value:
        if x.is_constant:
            function = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod}.get(kind)
            if function is None:
                raise _RefusedError("it reduces a constant")
            return self._folded(x, shape, lambda a: np.asarray(function(a, axis=gone, keepdims=True)))  # type: ignore[operator]
        v = self._forced(x)
        for d in gone:
            # Extra tokens count among the positions; the result is a global value either way.
            if v.dims[d].of(BATCH):
                raise _RefusedError("it reduces over samples")
        digits = [e for d in gone for e in v.dims[d].digits]
        sizes = self._sizes(v)
        cover: dict[int, list[Digit]] = {}
        for e in digits:
            if e.axis:
                cover.setdefault(e.kind, []).append(e)
        whole = [a for a, own in cover.items() if prod(e.size for e in own) == sizes[a]]
        inner = {a: own for a, own in cover.items() if a not in whole}
        if inner:
            v = self._pooled(v, inner, kind, name)
            cleared = [
                replace(dim, digits=tuple(e for e in dim.digits if not (i in gone and e.kind in inner)))
                for i, dim in enumerate(v.dims)
            ]
            v = replace(v, dims=tuple(cleared), shape=tuple(d.size for d in cleared))
        in_channels = [e for d in gone for e in v.dims[d].of(CHANNEL)]
        strays = [e for i, dim in enumerate(v.dims) if i not in gone for e in dim.of(CHANNEL)]
        all_channels = bool(in_channels) and not strays
        if in_channels and strays:
            v = self._mixed(v, gone, kind, name)
        if whole or all_channels:
            sizes = self._sizes(v)
            left = [a for a in range(len(sizes)) if a not in whole]
            channels = 1 if all_channels else self._channels(v)
            op = ir.Reduce(tuple(sorted(whole)), kind, all_channels)
            node = self._emit(name, op, (v.node,), channels, [sizes[a] for a in left])
            new = [
                Dim() if i in gone else
                replace(dim, digits=tuple(replace(e, kind=left.index(e.kind)) if e.axis else e for e in dim.digits))
                for i, dim in enumerate(v.dims)
            ]  # fmt: skip
            origin = self._origins.get(v.node)
            if origin is not None:
                kinds = {left.index(k) if k >= 0 else k: d for k, d in origin.dims.items() if k < 0 or k in left}
                self._origins[node] = _Origin(origin.index, kinds)
            return Value(shape, node, tuple(new))
        copies = prod(e.size for d in gone for e in v.dims[d].of(SPREAD))
        v = replace(v, dims=tuple(Dim() if i in gone else dim for i, dim in enumerate(v.dims)), shape=shape)
        if kind == "sum" and copies > 1:
            return self._same(v, name, ir.Affine(float(copies), None))
        if kind in ("mean", "sum", "max", "min", "prod", "logsumexp") or inner or in_channels:
            return v
        return self._same(v, name, ir.Reduce((), kind, False))

    def _pooled(self, v: Value, inner: Mapping[int, list[Digit]], kind: str, name: str) -> Value:
        """A mean over the inner digits of axes: pooling over blocks."""
        sizes = self._sizes(v)
        kernel = [1] * len(sizes)
        for axis, own in inner.items():
            size = prod(e.size for e in own)
            if kind not in _EXACT_REDUCTIONS or max(e.stride * e.size for e in own) != size:
                raise _RefusedError("it reduces over some positions of every axis")
            kernel[axis] = size
        op = ir.Pool(
            _EXACT_REDUCTIONS[kind], tuple(kernel), tuple(kernel), ((0, 0),) * len(sizes), (1,) * len(sizes)  # type: ignore[arg-type]
        )  # fmt: skip
        after = [n // k for n, k in zip(sizes, kernel, strict=True)]
        node = self._emit(name, op, (v.node,), self._channels(v), after)
        dims = [
            replace(
                dim,
                digits=tuple(
                    replace(e, stride=e.stride // kernel[e.kind]) if e.axis and e.stride >= kernel[e.kind] else e
                    for e in dim.digits
                ),
            )
            for dim in v.dims
        ]
        return replace(v, node=node, dims=tuple(dims))

    def _mixed(self, v: Value, gone: Sequence[int], kind: str, name: str) -> Value:
        """A mean or sum over part of the channels: a fixed linear map."""
        if kind not in ("mean", "sum"):
            raise _RefusedError(f"it takes the {kind} over part of the channels")
        own = [e for d in gone for e in v.dims[d].of(CHANNEL)]
        others = self._channel_digits(v, gone)
        v = self._ordered(v, [*own, *others])
        count, rest = prod(e.size for e in own), prod(e.size for e in others)
        factor = 1 / count if kind == "mean" else 1.0
        weight = _literal(
            name, lambda: np.tile(np.eye(rest, dtype=np.float32) * factor, (1, count)), (rest, rest * count)
        )
        node = self._emit(name, ir.Linear(rest * count, rest, weight), (v.node,), rest, self._sizes(v))
        dims = [
            replace(dim, digits=tuple(e for e in dim.digits if e.kind != CHANNEL)) if i in gone else dim
            for i, dim in enumerate(v.dims)
        ]
        return replace(v, node=node, dims=tuple(dims), shape=tuple(d.size for d in dims))

    # --------------------------------------------------------------------------------------------------- shape only

    def _folded(self, v: Value, shape: Shape, change: Callable[[Array], Array]) -> Value:
        assert v.weight is not None
        old = v.shape
        number = v.number if prod(shape) == 1 else None
        return Value(shape, weight=_mapped(v.weight, shape, lambda a: change(a.reshape(old))), number=number)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Row-major reshape; one size may be -1."""
        sizes = [int(n) for n in shape]
        if -1 in sizes:
            known = prod(n for n in sizes if n != -1)
            sizes[sizes.index(-1)] = prod(x.shape) // max(known, 1)
        target = tuple(sizes)
        if target == x.shape:
            return x
        if x.is_constant:
            return self._folded(x, target, lambda a: a.reshape(target))

        def act() -> Value:
            if x.scores is not None:
                if target[-2:] == x.shape[-2:]:
                    return self._scores_moved(x, lambda v: self.reshape(v, (*target[:-2], *v.shape[-2:])))
                return self.reshape(self._forced(x), target)
            try:
                return replace(x, shape=target, dims=regrouped(x.dims, target))
            except LayoutError:
                v = self._regular(x)
                return replace(v, shape=target, dims=regrouped(v.dims, target))

        return self._try("reshape", self._reshape_name(x), [x], target, act)

    def _reshape_name(self, x: Value) -> str:
        return f"{self.nodes[x.node].name}:reshape" if x.node >= 0 else "reshape"

    def permute(self, x: Value, perm: Sequence[int]) -> Value:
        """Transpose."""
        order = tuple(int(p) % len(x.shape) for p in perm) if x.shape else ()
        if order == tuple(range(len(order))):
            return x
        shape = tuple(x.shape[p] for p in order)
        if x.is_constant:
            return self._folded(x, shape, lambda a: a.transpose(order))
        turned = replace(x, shape=shape, dims=tuple(x.dims[p] for p in order))
        if x.scores is None:
            return turned
        rank = len(order)
        if {rank - 1, rank - 2} == set(order[-2:]):
            lead = order[:-2]
            moved = self._scores_moved(x, lambda v: self.permute(v, (*lead, rank - 2, rank - 1)))
            return replace(turned, scores=moved.scores)
        return self._try("permute", self._reshape_name(x), [x], shape, lambda: self.permute(self._forced(x), order))

    def squeeze(self, x: Value, dims: Sequence[int]) -> Value:
        """Drop dimensions of size 1."""
        gone = {d % max(len(x.shape), 1) for d in dims}
        gone = {d for d in gone if x.shape and x.shape[d] == 1}
        shape = tuple(n for i, n in enumerate(x.shape) if i not in gone)
        if x.is_constant:
            return self._folded(x, shape, lambda a: a.reshape(shape))
        if x.scores is not None:
            return self.reshape(x, shape)
        return replace(x, shape=shape, dims=tuple(d for i, d in enumerate(x.dims) if i not in gone))

    def unsqueeze(self, x: Value, dims: Sequence[int]) -> Value:
        """New dimensions of size 1, at places of the result."""
        rank = len(x.shape) + len(dims)
        places = {d % rank for d in dims}
        old = iter(x.shape)
        shape = tuple(1 if i in places else next(old) for i in range(rank))
        if x.is_constant:
            return self._folded(x, shape, lambda a: a.reshape(shape))
        if x.scores is not None:
            return self.reshape(x, shape)
        rest = iter(x.dims)
        return replace(x, shape=shape, dims=tuple(Dim() if i in places else next(rest) for i in range(rank)))

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        """Broadcast to a shape; -1 keeps a size."""
        lead = len(shape) - len(x.shape)
        target = tuple(x.shape[i - lead] if n == -1 else int(n) for i, n in enumerate(shape))
        return self._expanded(x, target)

    def _expanded(self, x: Value, shape: Shape) -> Value:
        if x.shape == shape:
            return x
        if x.is_constant:
            return self._folded(x, shape, lambda a: np.broadcast_to(a, shape))
        lead = len(shape) - len(x.shape)
        dims = [Dim()] * lead + list(x.dims)
        for i, n in enumerate(shape):
            if dims[i].size != n:
                dims[i] = Dim((Digit(SPREAD, n),))
        return replace(x, shape=shape, dims=tuple(dims))

    def split(self, x: Value, dim: int, sizes: Sequence[int]) -> list[Value]:
        """Parts of the given sizes along a dimension."""
        parts, start = [], 0
        for n in sizes:
            parts.append(self.slice(x, dim, start, start + n, 1, name=self._part_name(x)))
            start += n
        return parts

    def _part_name(self, x: Value) -> str:
        if x.node >= 0:
            return f"{self.nodes[x.node].name.split('#')[0]}:split"
        return x.weight.name if x.weight is not None else "split"

    def slice(self, x: Value, dim: int, start: int, stop: int, step: int, *, name: str) -> Value:
        """Entries ``start, start + step, ...`` before ``stop`` of a dimension; a negative step runs backwards."""
        dim %= len(x.shape)
        places = range(start, stop, step)
        shape = tuple(len(places) if i == dim else n for i, n in enumerate(x.shape))
        if x.is_constant:
            index = np.asarray(places, dtype=int)
            return self._folded(x, shape, lambda a: np.take(a, index, dim))
        if list(places) == list(range(x.shape[dim])):
            return x
        name = self._unique(name)
        return self._try("slice", name, [x], shape, lambda: self._sliced(x, dim, places, shape, name))

    def _sliced(self, x: Value, dim: int, places: range, shape: Shape, name: str) -> Value:
        v = x
        this = v.dims[dim]
        if v.scores is not None:
            v = self._forced(v)
            this = v.dims[dim]
        if not this.plain:
            return self._token_slice(v, dim, places, shape, name)
        kinds = {d.kind for d in this.digits}
        if kinds <= {BATCH, SPREAD}:
            kind = BATCH if BATCH in kinds else SPREAD
            dims = tuple(Dim(joined([Digit(kind, len(places))])) if i == dim else d for i, d in enumerate(v.dims))
            return replace(v, shape=shape, dims=dims)
        if kinds <= {CHANNEL, SPREAD}:
            if SPREAD in kinds:
                v = self._multiplied(v, dim)
            if len(places) < x.shape[dim] and self._origins.get(v.node) is not None and v.dims[dim].of(CHANNEL):
                pass  # a slice of an input's channels is a slice of its channels
            return self._selected(v, dim, list(places), name)
        sizes = self._sizes(v)
        if len(this.digits) == 1:
            digit = this.digits[0]
            size = sizes[digit.kind]
            if digit.size == size:
                start, step, count = places.start, places.step, len(places)
            elif digit.stride == 1 and len(places) == 1:  # one phase of every block
                start, step, count = places.start, digit.size, size // digit.size
            elif digit.stride * digit.size == size and abs(places.step) == 1:  # consecutive blocks
                start, step, count = places[0] * digit.stride, 1, len(places) * digit.stride
                if places.step < 0 and len(places) > 1:
                    raise _RefusedError("blocks of positions change places")
            else:
                raise _RefusedError("it takes parts of blocks of positions")
        else:
            digit, start, step, count = self._token_rows(v, this, places)
        return self._axis_slice(v, dim, digit, (start, step, count), places, shape, name)

    def _token_rows(self, v: Value, this: Dim, places: range) -> tuple[Digit, int, int, int]:
        """Whole rows of merged axes."""
        outer = this.digits[0]
        row = this.size // outer.size
        if not outer.axis or outer.size != self._sizes(v)[outer.kind] or places.step != 1:
            raise _RefusedError("it takes part of a merged dimension")
        if places.start % row or len(places) % row:
            raise _RefusedError("it cuts a row of positions")
        return outer, places.start // row, 1, len(places) // row

    def _axis_slice(
        self, v: Value, dim: int, digit: Digit, cutting: tuple[int, int, int], places: range, shape: Shape, name: str
    ) -> Value:
        start, step, count = cutting
        sizes = list(self._sizes(v))
        old = sizes[digit.kind]
        starts, steps = [0] * len(sizes), [1] * len(sizes)
        starts[digit.kind], steps[digit.kind], sizes[digit.kind] = start, step, count
        node = self._emit(name, ir.Slice(tuple(starts), tuple(steps)), (v.node,), self._channels(v), sizes)
        dims = []
        for i, each in enumerate(v.dims):
            digits = []
            for d in each.digits:
                if d.kind != digit.kind:
                    digits.append(d)
                elif i == dim:
                    if len(each.digits) > 1 or digit.size == old:
                        digits.append(Digit(d.kind, count))
                    elif digit.stride > 1:
                        digits.append(Digit(d.kind, len(places), digit.stride))
                elif step == digit.size and digit.stride == 1:  # one phase was taken: the other digits are coarser now
                    digits.append(Digit(d.kind, d.size, d.stride // digit.size))
                else:
                    digits.append(d)
            dims.append(replace(each, digits=joined(digits)))
        value = Value(shape, node, tuple(dims))
        if step == 1:
            self._keep_origin(node, v.node)
        return value

    def _token_slice(self, v: Value, dim: int, places: range, shape: Shape, name: str) -> Value:
        """A slice of a dimension with extra tokens: they leave, or they are all that stays."""
        this = v.dims[dim]
        first, last = this.before, this.size - this.after
        if places.step != 1:
            raise _RefusedError("it skips tokens")
        if places.start <= first and places.stop >= last:
            kept = Dim(this.digits, first - places.start, places.stop - last)
            return replace(v, shape=shape, dims=tuple(kept if i == dim else d for i, d in enumerate(v.dims)))
        inside = places.start >= first and places.stop <= last
        if inside:
            plain = replace(
                v,
                dims=tuple(Dim(this.digits) if i == dim else d for i, d in enumerate(v.dims)),
                shape=tuple(last - first if i == dim else n for i, n in enumerate(v.shape)),
            )
            return self._sliced(plain, dim, range(places.start - first, places.stop - first), shape, name)
        if places.stop > first and places.start < last:
            raise _RefusedError("it takes extra tokens together with some positions")
        # The tokens themselves: values without a lattice that have attended to the positions.
        digits = self._channel_digits(v)
        channels = self._channels(v) * len(places)
        query = self._emit(f"{name}:token", ir.Source("constant"), (), channels, ())
        op = ir.Attention(len(places), 1.0, cross=True)
        node = self._emit(name, op, (query, v.node, v.node), channels, ())
        del digits
        dims = []
        for i, each in enumerate(v.dims):
            if i == dim:
                dims.append(Dim(joined([Digit(CHANNEL, len(places), self._channels(v))])))
            elif each.axes:
                raise _RefusedError("its extra tokens differ from position to position")
            else:
                dims.append(each)
        return Value(shape, node, tuple(dims))

    # ------------------------------------------------------------------------------------------ joining fields

    def _aligned(self, values: Sequence[Value], skip: int = -1) -> tuple[list[Value], tuple[Dim, ...]]:
        """Fields of equal shape in one common form, and the layout of what joins them.

        The dimension ``skip`` may differ. Values without any lattice stay so; others get the axes that they lack.
        """
        rank = len(values[0].shape)
        same = all(
            v.dims[:skip if skip >= 0 else rank] == values[0].dims[:skip if skip >= 0 else rank]
            and v.dims[skip + 1 if skip >= 0 else rank :] == values[0].dims[skip + 1 if skip >= 0 else rank :]
            and self._sizes(v) == self._sizes(values[0])
            for v in values
        )  # fmt: skip
        if same and skip < 0 and all(self._channels(v) == self._channels(values[0]) for v in values):
            return list(values), values[0].dims
        values = [self._regular(v) for v in values]
        columns: list[list[tuple[Digit, ...]]] = []
        extras: list[Pair] = []
        for d in range(rank):
            dims = [v.dims[d] for v in values]
            extra = next(((m.before, m.after) for m in dims if not m.plain), (0, 0))
            extras.append(extra)
            if d == skip:
                columns.append([()] * len(values))
                continue
            lists = []
            for m in dims:
                digits = m.digits
                if (m.before, m.after) != extra:
                    if any(e.kind != SPREAD for e in digits):
                        raise _RefusedError("extra tokens stand beside the positions of one input only")
                    digits = (Digit(SPREAD, m.size - sum(extra)),)
                lists.append([e for e in digits if e.size > 1])
            columns.append(list(refined(lists)))
        # Which axis of which value is which axis of the result.
        names: list[tuple[int, ...]] = []  # per result axis: the axis of each value, or -1
        lattice: list[list[tuple[int, Digit]]] = [[] for _ in range(rank)]  # per dim: (result axis or kind, digit)
        size_of: list[int] = []
        for d in range(rank):
            ones = [v.dims[d].digits[0].kind if v.shape[d] == 1 and v.dims[d].axes else -1 for v in values]
            if d != skip and any(a >= 0 for a in ones):
                names.append(tuple(ones))
                size_of.append(1)
                lattice[d].append((len(names) - 1, Digit(0, 1)))
                continue
            for digits in zip(*columns[d], strict=True):
                kinds = {e.kind for e in digits if e.kind != SPREAD}
                if not kinds:
                    lattice[d].append((SPREAD, digits[0]))
                elif all(k >= 0 for k in kinds):
                    key = tuple(e.kind if e.axis else -1 for e in digits)
                    model = next(e for e in digits if e.axis)
                    if any(e.axis and e.stride != model.stride for e in digits):
                        raise _RefusedError("its inputs cut their axes differently")
                    found = next(
                        (i for i, n in enumerate(names) if any(a == b >= 0 for a, b in zip(n, key, strict=True))), -1
                    )
                    if found < 0:
                        names.append(key)
                        size_of.append(1)
                        found = len(names) - 1
                    merged = []
                    for a, b in zip(names[found], key, strict=True):
                        if a >= 0 and b >= 0 and a != b:
                            raise _RefusedError("its inputs are transposed against each other")
                        merged.append(max(a, b))
                    names[found] = tuple(merged)
                    size_of[found] *= model.size
                    lattice[d].append((found, model))
                elif kinds == {CHANNEL}:
                    lattice[d].append((CHANNEL, digits[0]))
                elif kinds == {BATCH}:
                    lattice[d].append((BATCH, next(e for e in digits if e.kind == BATCH)))
                else:
                    for e, v in zip(digits, values, strict=True):
                        if e.kind in (CHANNEL, BATCH) and any(k >= 0 for k in kinds):
                            self._relayout(v, e.kind, "lattice")
                    for e, v in zip(digits, values, strict=True):
                        if e.axis and CHANNEL in kinds:
                            self._relayout(v, e.kind, "channel")
                    raise _RefusedError("its inputs have positions where others have channels or samples")
        # Channels: in the order of the dimensions, unless all agree on another.
        places = [(d, i) for d in range(rank) if d != skip for i, (k, _) in enumerate(lattice[d]) if k == CHANNEL]
        own = [[columns[d][n][i] for d, i in places] for n in range(len(values))]
        whole = [all(e.kind == CHANNEL for e in digits) for digits in own]
        order = list(range(len(places)))
        complete = [n for n in range(len(values)) if whole[n]]
        if complete and skip < 0:
            strides = [e.stride for e in own[complete[0]]]
            order = sorted(order, key=lambda i: -strides[i])
        wanted = [
            columns[d][next((n for n in range(len(values)) if columns[d][n][i].kind == CHANNEL), 0)][i].size
            for d, i in places
        ]
        result: list[Value] = []
        for n, v in enumerate(values):
            result.append(self._conformed(v, own[n], order, skip, wanted))
        result = [self._axes_as(v, [names[a][n] for a in range(len(names))], size_of) for n, v in enumerate(result)]
        strides_out: dict[tuple[int, int], int] = {}
        stride = 1
        for i in reversed(order):
            strides_out[places[i]] = stride
            stride *= wanted[i]
        layout = []
        for d in range(rank):
            made = [
                Digit(CHANNEL, e.size, strides_out[d, i]) if k == CHANNEL else replace(e, kind=k)
                for i, (k, e) in enumerate(lattice[d])
            ]
            layout.append(Dim(joined(made), *extras[d]))
        return result, tuple(layout)

    def _conformed(
        self, v: Value, own: Sequence[Digit], order: Sequence[int], skip: int, wanted: Sequence[int]
    ) -> Value:
        """Channels in the common order; missing ones repeated, unless its one channel is the same for all."""
        mine = [own[i] for i in order if own[i].kind == CHANNEL]
        lead = list(v.dims[skip].of(CHANNEL)) if skip >= 0 else []
        v = self._ordered(v, [*lead, *mine])
        missing = [i for i in order if own[i].kind != CHANNEL]
        if not missing or (skip < 0 and not mine and self._channels(v) == 1):
            return v
        outer = prod(d.size for d in lead)
        index = np.arange(outer).reshape(-1, *(1,) * len(order))
        place = prod(d.size for d in mine)
        index = index * place
        for position, i in enumerate(order):
            if own[i].kind == CHANNEL:
                place //= own[i].size
                step = np.arange(own[i].size) * place
            else:
                step = np.zeros(wanted[i], int)
            index = index + step.reshape([-1 if p == position else 1 for p in range(len(order))])
        flat = index.reshape(-1)
        total = self._channels(v)
        channels = len(flat)
        weight = _literal("repeat", lambda: (flat[:, None] == np.arange(total)).astype(np.float32), (channels, total))
        node = self._emit(
            self._after(v, "repeat"), ir.Linear(total, channels, weight), (v.node,), channels, self._sizes(v)
        )
        return replace(v, node=node)

    def _axes_as(self, v: Value, axes: Sequence[int], sizes: Sequence[int]) -> Value:
        """The field with the result's axes: ``axes`` names its own axis for each of them, or -1."""
        own = self._sizes(v)
        present = [a for a in axes if a >= 0]
        loose = [a for a in range(len(own)) if a not in present]
        if any(own[a] != 1 for a in loose):
            raise _RefusedError("its inputs have different axes")
        if present != sorted(present):
            raise _RefusedError("its inputs are transposed against each other")
        if loose:
            kept = [n for a, n in enumerate(own) if a not in loose]
            node = self._emit(self._after(v, "flatten"), ir.Flatten(tuple(loose)), (v.node,), self._channels(v), kept)
            v = replace(v, node=node)
        if not present or len(present) == len(axes):
            return v
        new = tuple(i for i, a in enumerate(axes) if a < 0)
        node = self._emit(self._after(v, "broadcast"), ir.Broadcast(new), (v.node,), self._channels(v), sizes)
        return replace(v, node=node)

    def concat(self, values: Sequence[Value], dim: int, *, name: str) -> Value:
        """Concatenation along a dimension."""
        dim %= len(values[0].shape)
        values = [v for v in values if v.shape[dim]] or list(values)
        if len(values) == 1:
            return values[0]
        name = self._unique(name)
        shape = tuple(sum(v.shape[dim] for v in values) if i == dim else n for i, n in enumerate(values[0].shape))
        return self._try("concat", name, values, shape, lambda: self._concat(values, dim, shape, name))

    def _concat(self, values: Sequence[Value], dim: int, shape: Shape, name: str) -> Value:
        if all(v.is_constant for v in values):
            weights = [v.weight for v in values if v.weight is not None]
            known, fixed = all(w.known for w in weights), all(w.fixed for w in weights)
            held = list(values)

            def load() -> Array:
                return np.concatenate([v.array() for v in held], dim)

            return Value(shape, weight=Weight(weights[0].name, shape, fixed, load if known else None))
        fields = [self._forced(v) for v in values if not v.is_constant]
        kinds = {d.kind for v in fields for d in v.dims[dim].digits}
        mixed = any(v.dims[dim].axes and v.dims[dim].of(CHANNEL) for v in fields)
        if mixed:
            values = [v if v.is_constant else self._regular(v) for v in values]
            fields = [v for v in values if not v.is_constant]
            kinds = {d.kind for v in fields for d in v.dims[dim].digits}
        if any(k >= 0 for k in kinds) or any(not v.dims[dim].plain for v in fields):
            return self._beside(values, dim, shape, name)
        if BATCH in kinds or (dim == 0 and not kinds):
            return self._more_samples(values, dim, shape)
        model = fields[0]
        placed: list[Value] = []
        for v in values:
            v = self._like(v, model, dim) if v.is_constant else self._forced(v)
            if v.dims[dim].of(SPREAD):
                v = self._multiplied(v, dim)
            placed.append(v)
        aligned, layout = self._aligned(placed, skip=dim)
        sizes = next((self._sizes(v) for v in aligned if self._sizes(v)), ())
        rest = prod(d.size for i, each in enumerate(layout) if i != dim for d in each.of(CHANNEL))
        count = shape[dim]
        node = self._emit(name, ir.Concat(), [v.node for v in aligned], count * rest, sizes)
        for v in aligned:  # the roles of an input's dimensions may show only behind this
            self._keep_origin(node, v.node)
        own = Dim(joined([Digit(CHANNEL, count, rest)]))
        return Value(shape, node, tuple(own if i == dim else each for i, each in enumerate(layout)))

    def _like(self, v: Value, model: Value, dim: int) -> Value:
        """A constant as a source whose dimensions play the roles of another value's."""
        assert v.weight is not None
        rank = len(v.shape)
        if any(v.shape[i] > 1 and (not d.plain or d.of(BATCH)) for i, d in enumerate(model.dims) if i != dim):
            raise _RefusedError("a constant differs from sample to sample")
        axes = [i for i in range(rank) if i != dim and v.shape[i] > 1 and model.dims[i].axes]
        if any(len(model.dims[i].digits) != 1 for i in axes):
            raise _RefusedError("a constant runs through merged axes")
        uniform = self._uniform_over(v, axes)
        if uniform is not None:
            thin = uniform
            axes = []
        else:
            thin = v
        channel = [i for i in range(rank) if i not in axes and thin.shape[i] > 1]
        order = [dim] + [i for i in channel if i != dim] if dim not in axes else channel
        channels = prod(thin.shape[i] for i in order)
        by_axis = sorted(axes, key=lambda i: model.dims[i].digits[0].kind)
        sizes = tuple(thin.shape[i] for i in by_axis)
        rest = [i for i in range(rank) if i not in order and i not in by_axis]
        shape = (channels, *sizes)
        weight = _mapped(
            thin.weight or v.weight,
            shape,
            lambda a: a.reshape(thin.shape).transpose([*order, *by_axis, *rest]).reshape(shape),
        )
        op = ir.Source("position" if sizes else "constant", weight)
        node = self._emit(self._unique(v.weight.name or "constant"), op, (), channels, sizes)
        dims: list[Dim] = []
        strides = {i: prod(thin.shape[j] for j in order[p + 1 :]) for p, i in enumerate(order)}
        for i, n in enumerate(v.shape):
            if i in by_axis:
                dims.append(Dim((Digit(by_axis.index(i), n),)))
            elif i in strides and thin.shape[i] > 1:
                dims.append(Dim(joined([Digit(CHANNEL, n, strides[i])])))
            elif n > 1:
                dims.append(Dim((Digit(SPREAD, n),)))
            else:
                dims.append(Dim())
        return Value(v.shape, node, tuple(dims))

    def _uniform_over(self, v: Value, dims: Sequence[int]) -> Value | None:
        """The constant with size 1 along these dimensions if it does not vary there."""
        array = v.array() if dims and prod(v.shape) <= 1 << 24 else None
        if array is None:
            return None
        thin = array[tuple(slice(0, 1) if i in dims else slice(None) for i in range(array.ndim))]
        if not np.array_equal(np.broadcast_to(thin, array.shape), array, equal_nan=True):
            return None
        assert v.weight is not None
        weight = _mapped(v.weight, thin.shape, lambda a: a.reshape(v.shape)[tuple(slice(0, m) for m in thin.shape)])
        return Value(thin.shape, weight=weight)

    def _more_samples(self, values: Sequence[Value], dim: int, shape: Shape) -> Value:
        if any(v.is_constant or v.node != values[0].node for v in values):
            raise _RefusedError("different fields become samples of one batch")
        first = values[0]
        dims = tuple(Dim(joined([Digit(BATCH, shape[dim])])) if i == dim else d for i, d in enumerate(first.dims))
        return replace(first, shape=shape, dims=dims)

    def _beside(self, values: Sequence[Value], dim: int, shape: Shape, name: str) -> Value:
        """Concatenation along positions: padding that is written out, or extra tokens; nothing else is a field."""
        padded = self._written_padding(values, dim, shape, name)
        if padded is not None:
            return padded
        fields = [i for i, v in enumerate(values) if not v.is_constant and v.dims[dim].axes]
        if len(fields) != 1:
            raise _RefusedError("it puts fields side by side")
        core = self._forced(values[fields[0]])
        others = [v for i, v in enumerate(values) if i != fields[0]]
        if any(not v.is_constant and self._sizes(v) for v in others):
            raise _RefusedError("it puts fields side by side")
        if any(d.kind == CHANNEL for d in core.dims[dim].digits):
            core = self._regular(core)
        this = core.dims[dim]
        if len(this.digits) == 1 and any(
            len(d.digits) and i > 1 and d.axes for i, d in enumerate(core.dims) if i != dim
        ):
            raise _RefusedError("it puts a constant beside a field")
        before = sum(v.shape[dim] for v in values[: fields[0]])
        after = sum(v.shape[dim] for v in values[fields[0] + 1 :])
        kept = Dim(this.digits, this.before + before, this.after + after)
        node = core.node
        if node in self._origins:  # tokens are tokens: the roles of the input's dimensions are settled by this
            node = self._emit(name, ir.Pointwise("identity"), (node,), self._channels(core), self._sizes(core))
            self._keep_origin(node, core.node)
        return replace(
            core, node=node, shape=shape, dims=tuple(kept if i == dim else d for i, d in enumerate(core.dims))
        )

    def _written_padding(self, values: Sequence[Value], dim: int, shape: Shape, name: str) -> Value | None:
        """``cat([x[-p:], x, x[:p]])`` and its kin, and zeros beside a field."""
        found = [i for i, v in enumerate(values) if not v.is_constant]
        core = max(found, key=lambda i: values[i].shape[dim])
        x = values[core]
        if len(x.dims[dim].digits) != 1 or not x.dims[dim].plain or x.scores is not None:
            return None
        size = x.shape[dim]
        before = sum(v.shape[dim] for v in values[:core])
        after = shape[dim] - before - size
        pads = [(0, 0)] * len(shape)
        pads[dim] = (before, after)
        others = [v for i, v in enumerate(values) if i != core]
        if all(v.is_constant for v in others):
            numbers = set()
            for v in others:
                array = v.array() if prod(v.shape) <= 1 << 22 and v.weight is not None and v.weight.fixed else None
                numbers |= {float("nan")} if array is None else {float(array.min()), float(array.max())}
            if len(numbers) != 1 or numbers != numbers & {float(n) for n in numbers if n == n}:
                return None
            value = numbers.pop()
            return self.pad(x, pads, "zeros" if value == 0 else "constant", value, name=name)
        axis = x.dims[dim].digits[0].kind
        sources: list[int] = []
        for i, v in enumerate(values):
            if i == core:
                sources += range(size)
                continue
            if v.is_constant:
                return None
            node = self.nodes[v.node]
            if not isinstance(node.op, ir.Slice) or node.inputs[0] != x.node:
                return None
            start, step = node.op.start[axis], node.op.step[axis]
            if any(
                s != 0 or n != m
                for a, (s, n, m) in enumerate(zip(node.op.start, node.sizes, self._sizes(x), strict=True))
                if a != axis
            ):
                return None
            count = node.sizes[axis]
            if count == 1 and (v.dims[dim].of(SPREAD) or v.shape[dim] == 1):
                sources += [start] * v.shape[dim]
            elif count == v.shape[dim]:
                sources += [start + step * n for n in range(count)]
            else:
                return None
        positions = np.arange(-before, size + after)
        rules: dict[ir.PadMode, Array] = {
            "circular": positions % size,
            "replicate": positions.clip(0, size - 1),
            "reflect": size - 1 - np.abs(size - 1 - np.abs(positions)),
        }
        for mode, rule in rules.items():
            if np.array_equal(rule, sources):
                return self.pad(x, pads, mode, 0.0, name=name)
        return None

    # ------------------------------------------------------------------------------------------------- elementwise

    def elementwise(
        self, kind: Literal["add", "sub", "mul", "div", "max", "min", "pow"], a: Value, b: Value, *, name: str
    ) -> Value:
        """Arithmetic of two values, with broadcasting."""
        shape = tuple(int(n) for n in np.broadcast_shapes(a.shape, b.shape))
        if b.number is not None and b.number == _NEUTRAL.get(kind, float("nan")) and a.shape == shape:
            return a
        if a.number is not None and kind in ("add", "mul") and a.number == _NEUTRAL[kind] and b.shape == shape:
            return b
        if a.is_constant and b.is_constant:
            return self._folded_pair(kind, a, b, shape)
        name = self._unique(name)
        return self._try(kind, name, [a, b], shape, lambda: self._elementwise(kind, a, b, name))

    def _folded_pair(self, kind: str, a: Value, b: Value, shape: Shape) -> Value:
        assert a.weight is not None
        assert b.weight is not None
        left, right, function = a, b, _ARITHMETIC[kind]
        known = a.weight.known and b.weight.known
        source = a.weight if prod(a.shape) >= prod(b.shape) else b.weight

        def load() -> Array:
            with np.errstate(all="ignore"):
                return np.asarray(function(left.array(), right.array()))

        fixed = a.weight.fixed and b.weight.fixed
        weight = Weight(source.name, shape, fixed, load if known else None)
        number = (
            float(load().reshape(())) if a.number is not None and b.number is not None and prod(shape) == 1 else None
        )
        return Value(shape, weight=weight, number=number)

    def _elementwise(self, kind: str, a: Value, b: Value, name: str) -> Value:
        shape = tuple(int(n) for n in np.broadcast_shapes(a.shape, b.shape))
        if a.scores is not None or b.scores is not None:
            scored = self._scored(kind, a, b, shape)
            if scored is not None:
                return scored
            a, b = self._forced(a), self._forced(b)
        if b.is_constant:
            return self._with_constant(kind, self._expanded_for(a, b, shape), b, False, name)
        if a.is_constant:
            return self._with_constant(kind, self._expanded_for(b, a, shape), a, True, name)
        x, y = self._expanded(a, shape), self._expanded(b, shape)
        (x, y), layout = self._aligned([x, y])
        sizes = self._sizes(x) or self._sizes(y)
        channels = max(self._channels(x), self._channels(y))
        node = self._emit(name, ir.Join(kind), (x.node, y.node), channels, sizes)  # type: ignore[arg-type]
        return Value(shape, node, layout)

    def _scored(self, kind: str, a: Value, b: Value, shape: Shape) -> Value | None:
        """Scaling and masking of attention scores."""
        scored, other = (a, b) if a.scores is not None else (b, a)
        s = scored.scores
        assert s is not None
        if scored.shape != shape or s.softmax:
            if s.softmax and kind == "mul" and other.is_constant and scored.shape == shape:
                return replace(scored, scores=replace(s, biased=True))
            return None
        if other.number is not None:
            if kind == "mul" or (kind == "div" and scored is a):
                factor = other.number if kind == "mul" else 1 / other.number
                return replace(scored, scores=replace(s, scale=s.scale * factor))
            return replace(scored, scores=replace(s, biased=True)) if kind in ("add", "sub", "max", "min") else None
        if kind in ("add", "sub", "mul"):
            return replace(scored, scores=replace(s, biased=True))
        return None

    def _expanded_for(self, x: Value, constant: Value, shape: Shape) -> Value:
        """A field at the shape of the result; where only the constant varies, channels or axes are made."""
        v = self._forced(self._expanded(x, shape))
        lead = len(shape) - len(constant.shape)
        for d in range(len(shape)):
            varies = d >= lead and constant.shape[d - lead] > 1
            if varies and v.dims[d].of(SPREAD):
                if self._channel_digits(v, [d]) or any(e.axis for e in v.dims[d].digits) or d == 0:
                    v = self._with_axes(v, [d]) if not v.dims[d].of(CHANNEL) else self._multiplied(v, d)
                else:
                    v = self._multiplied(v, d)
        return v

    def _with_constant(self, kind: str, v: Value, constant: Value, reverse: bool, name: str) -> Value:
        """Arithmetic of a field with a constant: an affine map, a pointwise function, or a position embedding."""
        assert constant.weight is not None
        lead = len(v.shape) - len(constant.shape)
        varying = [lead + i for i, n in enumerate(constant.shape) if n > 1]
        digits = [e for d in varying for e in v.dims[d].digits]
        if not varying:
            return self._with_number(kind, v, constant, reverse, name)
        if any(e.axis for e in digits) and constant.weight.fixed:
            # A constant may have been written out over positions where it does not vary.
            along = [d - lead for d in varying if v.dims[d].axes]
            thin = self._uniform_over(constant, along) if prod(constant.shape) <= 1 << 20 else None
            if thin is not None:
                return self._with_constant(kind, v, thin, reverse, name)
        v = self._apart(v, varying)
        digits = [e for d in varying for e in v.dims[d].digits]
        positions = any(e.axis for e in digits)
        if any(e.kind == SPREAD for e in digits):
            raise _RefusedError("a constant varies where its input is repeated")
        weight = self._arranged(v, constant, varying)
        if positions:
            sizes = weight.shape[1:]
            op = ir.Source("position", weight if weight.known else replace(weight, load=None))
            label = constant.weight.name or f"{name}:position"
            source = self._emit(self._unique(label), op, (), weight.shape[0], sizes)
            pair = (source, v.node) if reverse else (v.node, source)
            channels = max(self._channels(v), weight.shape[0])
            node = self._emit(name, ir.Join(kind), pair, channels, self._sizes(v))  # type: ignore[arg-type]
            self._keep_origin(node, v.node)
            return replace(v, node=node)
        return self._affine(kind, v, _reshaped(weight, (self._channels(v),)), reverse, name)

    def _apart(self, v: Value, dims: Sequence[int]) -> Value:
        return self._regular(v) if any(v.dims[d].axes and v.dims[d].of(CHANNEL) for d in dims) else v

    def _arranged(self, v: Value, constant: Value, varying: Sequence[int]) -> Weight:
        """A constant as ``(C, *sizes)`` of a field, with size 1 where it does not vary."""
        assert constant.weight is not None
        node = self.nodes[v.node]
        lead = len(v.shape) - len(constant.shape)
        pieces: list[Digit] = []
        shape: list[int] = []
        cuts: list[Any] = []
        for d in range(lead, len(v.shape)):
            dim, n = v.dims[d], constant.shape[d - lead]
            cuts.append(slice(dim.before, dim.size - dim.after) if n > 1 else slice(None))
            if d in varying:
                pieces.extend(dim.digits)
                shape.extend(e.size for e in dim.digits)
        channel = sorted((i for i, e in enumerate(pieces) if e.kind == CHANNEL), key=lambda i: -pieces[i].stride)
        whole = prod(pieces[i].size for i in channel)
        missing = [e for d, dim in enumerate(v.dims) if d not in varying for e in dim.of(CHANNEL)] if channel else []
        axes = [
            sorted((i for i, e in enumerate(pieces) if e.kind == a), key=lambda i: -pieces[i].stride)
            for a in range(len(node.sizes))
        ]
        batch = [i for i, e in enumerate(pieces) if e.kind in (BATCH, KEY)]
        if missing:  # varies over part of the channels: repeat over the others
            return self._spread_over(v, constant, pieces, shape, cuts, channel, axes, batch, missing)
        order = [*batch, *channel, *(i for own in axes for i in own)]
        result = (whole if channel else 1, *(node.sizes[a] if own else 1 for a, own in enumerate(axes)))
        for a, own in enumerate(axes):
            if own and prod(pieces[i].size for i in own) != node.sizes[a]:
                raise _RefusedError("a constant varies over blocks of positions")
        weight = constant.weight
        if batch:
            return Weight(weight.name, result, weight.fixed, None)
        old = constant.shape

        def change(a: Array) -> Array:
            a = a.reshape(old)[tuple(cuts)]
            return a.reshape(shape).transpose(order).reshape(result)

        return _mapped(weight, result, change)

    def _spread_over(
        self,
        v: Value,
        constant: Value,
        pieces: Sequence[Digit],
        shape: Sequence[int],
        cuts: Sequence[Any],
        channel: Sequence[int],
        axes: Sequence[Sequence[int]],
        batch: Sequence[int],
        missing: Sequence[Digit],
    ) -> Weight:
        assert constant.weight is not None
        if any(axes) or batch:
            raise _RefusedError("a constant varies over part of the channels and over positions")
        total = self._channels(v)
        old = constant.shape
        index = np.arange(total)
        flat = np.zeros(total, int)
        for i in channel:  # position in the constant, transposed to the order of its digits
            flat = flat * pieces[i].size + (index // pieces[i].stride) % pieces[i].size
        order = list(channel)

        def change(a: Array) -> Array:
            values = a.reshape(old)[tuple(cuts)].reshape(shape).transpose(order).reshape(-1)
            return np.asarray(values[flat])

        return _mapped(constant.weight, (total,), change)

    def _with_number(self, kind: str, v: Value, constant: Value, reverse: bool, name: str) -> Value:
        number = constant.number
        if number is None:
            assert constant.weight is not None
            channels = self._channels(v)
            weight = _mapped(constant.weight, (channels,), lambda a: np.repeat(a.reshape(-1), channels))
            return self._affine(kind, v, weight, reverse, name)
        if kind == "pow":
            if reverse:
                if number <= 0:
                    raise _RefusedError(f"powers of {number}")
                inner = (
                    self._same(v, f"{name}:scale", ir.Affine(log(number), None)) if abs(log(number) - 1) > 1e-12 else v
                )
                return self._same(inner, name, ir.Pointwise("exp"))
            function = _POWERS.get(number)
            op = ir.Pointwise(function) if function else ir.Pointwise("pow", (number,))
            return self._same(v, name, op)
        if kind in ("max", "min"):
            if kind == "max" and number == 0:
                return self._same(v, name, ir.Pointwise("relu"))
            bounds = (number, float("inf")) if kind == "max" else (float("-inf"), number)
            return self._same(v, name, ir.Pointwise("clamp", bounds))
        if kind == "div" and reverse:
            inverse = self._same(v, name if number == 1 else f"{name}:reciprocal", ir.Pointwise("reciprocal"))
            return inverse if number == 1 else self._same(inverse, name, ir.Affine(number, None))
        table: dict[tuple[str, bool], tuple[float | None, float | None]] = {
            ("add", False): (None, number),
            ("add", True): (None, number),
            ("sub", False): (None, -number),
            ("sub", True): (-1.0, number or None),
            ("mul", False): (number, None),
            ("mul", True): (number, None),
            ("div", False): (1 / number if number else float("inf"), None),
        }
        scale, shift = table[kind, reverse]
        return self._same(v, name, ir.Affine(scale, shift))

    def _affine(self, kind: str, v: Value, weight: Weight, reverse: bool, name: str) -> Value:
        """Arithmetic with one number per channel."""
        if kind == "pow" or kind in ("max", "min"):
            source = self._emit(f"{name}:constant", ir.Source("constant", weight), (), self._channels(v), ())
            pair = (source, v.node) if reverse else (v.node, source)
            node = self._emit(name, ir.Join(kind), pair, self._channels(v), self._sizes(v))  # type: ignore[arg-type]
            return replace(v, node=node)
        if kind == "div" and reverse:
            v = self._same(v, f"{name}:reciprocal", ir.Pointwise("reciprocal"))
            return self._same(v, name, ir.Affine(weight, None))
        table: dict[tuple[str, bool], tuple[Weight | float | None, Weight | None]] = {
            ("add", False): (None, weight),
            ("add", True): (None, weight),
            ("sub", False): (None, _mapped(weight, weight.shape, np.negative)),
            ("sub", True): (-1.0, weight),
            ("mul", False): (weight, None),
            ("mul", True): (weight, None),
            ("div", False): (_mapped(weight, weight.shape, lambda a: 1 / a), None),
        }
        scale, shift = table[kind, reverse]
        return self._same(v, name, ir.Affine(scale, shift))

    def pointwise(
        self, x: Value, function: str, parameters: Sequence[float] = (), weight: Weight | None = None, *, name: str
    ) -> Value:
        """A scalar function of every entry; ``weight`` is its parameter per channel (dimension 1)."""
        if x.is_constant:
            return self._folded_function(x, function, tuple(parameters))
        name = self._unique(name)

        def act() -> Value:
            if weight is not None and prod(weight.shape) > 1:
                v = self._channels_second(x)
                return self._same(v, name, ir.Pointwise(function, tuple(parameters), self._visible(weight)))
            return self._same(
                self._forced(x),
                name,
                ir.Pointwise(function, tuple(float(p) for p in parameters), self._visible(weight)),
            )

        return self._try(function, name, [x], x.shape, act)

    def _folded_function(self, x: Value, function: str, parameters: tuple[float, ...]) -> Value:
        from evenly.theory.activations import ACTIVATIONS

        entry = ACTIVATIONS.get(function)
        if entry is None:
            return self._unknown(function, [x], x.shape, "a function without an entry of a constant", function)
        value = self._folded(x, x.shape, lambda a: np.asarray(entry(a.astype(np.float64), *parameters)))
        return replace(value, number=None if x.number is None else float(entry(np.float64(x.number), *parameters)))

    def embedding(self, ids: Value, weight: Weight, *, name: str) -> Value:
        """A row of ``weight`` for every index; the last dimension of the result is the channels."""
        name = self._unique(name)
        shape = (*ids.shape, weight.shape[1])
        seen = self._visible(weight)
        assert seen is not None
        if ids.is_constant:
            places = ids

            def rows(table: Array) -> Array:
                index = places.array()
                assert index is not None
                return np.asarray(table[index.astype(int)])

            known = ids.weight is not None and ids.weight.known and seen.known
            return Value(shape, weight=_mapped(seen if known else replace(seen, load=None), shape, rows))

        def act() -> Value:
            v = self._forced(ids)
            for d in range(1, len(ids.shape)):
                if v.dims[d].of(CHANNEL):
                    self._relayout(v, CHANNEL, "lattice")
                    raise _RefusedError("it looks up channels")
            if self._channels(v) != 1:
                raise _RefusedError("it looks up several numbers per position")
            # A table look-up position by position: a map from one channel to many whose values are not linear.
            op = ir.Linear(1, weight.shape[1], Weight(weight.name, (weight.shape[1], 1), False, None))
            node = self._emit(name, op, (v.node,), weight.shape[1], self._sizes(v))
            return Value(shape, node, (*v.dims, Dim(joined([Digit(CHANNEL, weight.shape[1])]))))

        return self._try("embedding", name, [ids], shape, act)

    # ------------------------------------------------------------------------------------------------ normalisation

    def batch_norm(
        self,
        x: Value,
        weight: Weight | None,
        bias: Weight | None,
        mean: Weight | None,
        var: Weight | None,
        eps: float,
        *,
        name: str,
        training: bool = False,
    ) -> Value:
        """Batch normalisation over dimension 1: an affine map in evaluation, statistics of the batch in training."""
        name = self._unique(name)

        def act() -> Value:
            v = self._channels_second(x)
            w, b, m, s = (self._visible(t) for t in (weight, bias, mean, var))
            if training or m is None or s is None:
                return self._same(v, name, ir.Normalize("batch", eps=eps, weight=w, bias=b))
            channels = self._channels(v)

            def values(t: Weight | None, default: float) -> Array:
                return np.full(channels, default) if t is None else t.values().reshape(-1)

            parts = [t for t in (w, b, m, s) if t is not None]
            known, fixed = all(t.known for t in parts), all(t.fixed for t in parts)

            def scale() -> Array:
                return np.asarray(values(w, 1.0) / np.sqrt(values(s, 1.0) + eps))

            def shift() -> Array:
                return np.asarray(values(b, 0.0) - values(m, 0.0) * scale())

            base = w.name if w is not None else m.name
            op = ir.Affine(
                Weight(base, (channels,), fixed, scale if known else None),
                Weight(base, (channels,), fixed, shift if known else None),
                "batch_norm",
            )
            return self._same(v, name, op)

        return self._try("batch_norm", name, [x], x.shape, act)

    def normalize(
        self,
        x: Value,
        kind: Literal["batch", "instance", "group", "layer", "rms", "l2"],
        *,
        groups: int = 1,
        dims: Sequence[int] | None = None,
        eps: float,
        weight: Weight | None,
        bias: Weight | None,
        name: str,
    ) -> Value:
        """Normalisation by the statistics over ``dims``.

        ``instance`` and ``group`` have one parameter per channel (dimension 1), the others one per entry of ``dims``.
        """
        name = self._unique(name)
        return self._try(
            f"{kind}_norm", name, [x], x.shape, lambda: self._normalized(x, kind, groups, dims, eps, weight, bias, name)
        )

    def _normalized(
        self,
        x: Value,
        kind: str,
        groups: int,
        dims: Sequence[int] | None,
        eps: float,
        weight: Weight | None,
        bias: Weight | None,
        name: str,
    ) -> Value:
        weight, bias = self._visible(weight), self._visible(bias)
        rank = len(x.shape)
        if kind in ("instance", "group"):
            if kind == "group":
                v = self._channels_second(x)
                whole = groups
            else:
                over = tuple(range(2, rank)) if dims is None else tuple(d % rank for d in dims)
                v = self._apart(self._forced(x), [1])
                if prod(self._sizes(v)) == 1 and any(v.dims[d].of(CHANNEL) for d in over) and len(over) > 1:
                    v = self._channels_second(v)
                inner = [e for d in over for e in v.dims[d].of(CHANNEL)]
                if any(v.dims[d].of(BATCH) for d in over):
                    raise _RefusedError("its statistics are those of the batch")
                if not any(v.dims[d].axes for d in over) and self._origins.get(v.node) is not None and inner:
                    self._relayout(v, CHANNEL, "lattice")
                outer = [e for i, dim in enumerate(v.dims) if i not in over for e in dim.of(CHANNEL)]
                v = self._ordered(v, [*outer, *inner])
                whole = prod(e.size for e in outer)
                if inner and (weight is not None or bias is not None):
                    count = prod(e.size for e in inner)
                    weight, bias = (
                        None if t is None else _mapped(t, (whole * count,), lambda a: np.repeat(a.reshape(-1), count))
                        for t in (weight, bias)
                    )
                groups = whole
            form = "instance" if whole == self._channels(v) else "group"
            op = ir.Normalize(form, whole if form == "group" else 1, eps, weight, bias)  # type: ignore[arg-type]
            return self._same(v, name, op)
        over = (rank - 1,) if dims is None else tuple(sorted(d % rank for d in dims))
        v = self._data(x, over[-1])
        positions = [e for d in over for e in v.dims[d].axes]
        strays = [e for i, dim in enumerate(v.dims) if i not in over for e in dim.of(CHANNEL)]
        if positions:
            if strays or not any(v.dims[d].of(CHANNEL) for d in over):
                for e in positions:
                    self._relayout(v, e.kind, "channel")
                raise _RefusedError("it normalises along some positions only")
            if kind != "layer":
                raise _RefusedError("it divides by the energy over positions")
            y = self._same(v, name, ir.Normalize("group", 1, eps))
            for join, parameter in (("mul", weight), ("add", bias)):
                if parameter is not None:
                    shape = tuple(x.shape[d] if d in over else 1 for d in range(over[0], rank))
                    constant = Value(shape, weight=_reshaped(parameter, shape))
                    y = self._with_constant(join, y, constant, False, f"{name}:{join}")
            return y
        own = [e for d in over for e in v.dims[d].of(CHANNEL)]
        if any(v.dims[d].of(BATCH) for d in over):
            self._relayout(v, BATCH, "channel")
            raise _RefusedError("it normalises over samples")
        if len(over) == 1:
            v = self._formed(v, over[0], groups=True)
            strays = self._channel_digits(v, over)
        else:
            v = self._ordered(v, [*strays, *own])
        count = prod(e.size for e in strays)
        if count > 1:
            weight, bias = (
                None if t is None else _mapped(t, (self._channels(v),), lambda a: np.tile(a.reshape(-1), count))
                for t in (weight, bias)
            )
        else:
            weight, bias = (None if t is None else _reshaped(t, (prod(t.shape),)) for t in (weight, bias))
        return self._same(v, name, ir.Normalize(kind, count, eps, weight, bias))  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------- unknown and the end

    def unknown(self, operator: str, inputs: Sequence[Value], shape: Sequence[int], reason: str, *, name: str) -> Value:
        """An operator without an entry; its output is taken as ``(N, C, *lattice)``."""
        return self._unknown(operator, inputs, tuple(int(n) for n in shape), reason, self._unique(name))

    def _unknown(self, operator: str, inputs: Sequence[Value], shape: Shape, reason: str, name: str) -> Value:
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

    def output(self, name: str, value: Value) -> None:
        """Declare an output of the network."""
        v = self._try("output", name, [value], value.shape, lambda: self._final(value))
        node = self.nodes[v.node]
        index = self._emit(name, ir.Output(), (v.node,), node.channels, node.sizes)
        self._outputs.append(index)
        self._output_shapes.append(value.shape)

    def _final(self, value: Value) -> Value:
        v = self._regular(value)
        rank = len(v.shape)
        if rank >= 4 and not prod(self._sizes(v)) > 1 and sum(bool(d.of(CHANNEL)) for d in v.dims) > 1:
            v = self._settled(self._formed(v, 1, range(2, rank)))
        return v if isinstance(self.nodes[v.node].op, ir.Input) else self._settled(v)

    def build(self) -> Graph:
        """The graph, without nodes that no output needs (inputs stay)."""
        alive = set(self._inputs)
        stack = list(self._outputs)
        while stack:
            index = stack.pop()
            if index not in alive or index in self._inputs:
                alive.add(index)
                stack.extend(i for i in self.nodes[index].inputs if i not in alive)
        order = sorted(alive)
        number = {old: new for new, old in enumerate(order)}
        nodes = tuple(replace(self.nodes[i], inputs=tuple(number[j] for j in self.nodes[i].inputs)) for i in order)
        return Graph(
            self.source,
            nodes,
            tuple(number[i] for i in self._inputs),
            tuple(number[i] for i in self._outputs),
            tuple(self._input_shapes),
            tuple(self._output_shapes),
            tuple(self._dtypes),
            self.training,
        )


def _softmaxed(a: Array, dim: int) -> Array:
    e = np.exp(a - a.max(axis=dim, keepdims=True))
    return np.asarray(e / e.sum(axis=dim, keepdims=True))
