"""Tensor-level operations in, nodes of the graph out.

Readers translate foreign operators, one by one, into calls of a :class:`Builder` with the tensors' own dimensions; the
builder keeps the layout (:mod:`evenly.graph.dims`) and emits nodes only where something happens to a field.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from math import prod, sqrt
from typing import Any, Concatenate, Literal, ParamSpec, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenly.errors import FormatError
from evenly.graph import ir
from evenly.graph.dims import Dim, Factor, LayoutError, Relayout, Role, Value, permuted, refine, reshaped
from evenly.theory.resize import AxisResize

__all__ = ["Builder", "Relayout", "Value", "build_graph"]

Roles = Mapping[tuple[int, int], Role]
Pairs = Sequence[tuple[int, int]]
JoinKind = Literal["add", "sub", "mul", "div", "max", "min", "pow"]

MOST_READINGS = 8
"""How often a reading starts again when an input's dimensions turn out to mean something else."""

MOST_REPEATS = 64
"""Channels are repeated explicitly up to this many times."""


def build_graph(make: Callable[[Roles], ir.Graph]) -> ir.Graph:
    """Read a network, starting again with corrected roles of the inputs' dimensions where they are contradicted.

    Args:
        make: Reads the network with the given roles.

    Raises:
        FormatError: If the demands on the inputs' dimensions contradict each other.
    """
    roles: dict[tuple[int, int], Role] = {}
    for _ in range(MOST_READINGS):
        try:
            return make(roles)
        except Relayout as found:
            if all(roles.get(place) == role for place, role in found.roles.items()):
                break
            roles.update(found.roles)
    raise FormatError(
        "the network uses the same input dimension as channels and as positions; "
        "evenly needs inputs whose dimensions have one meaning each: check the parts of the network one by one"
    )


@dataclass(frozen=True, eq=False)
class _Field:
    """A value in the form that an operation asked for.

    Attributes:
        value: The value, its channels in order.
        places: For every lattice dimension of the operation, the node's axes in it, outermost first.
        repeats: Channel factors in batch dimensions; they stand first in the channel order.
    """

    value: Value
    places: tuple[tuple[int, ...], ...]
    repeats: tuple[Factor, ...]


@dataclass(frozen=True, eq=False)
class _Scores:
    """Attention scores: every query position against every key position."""

    query: Value
    key: Value
    heads: tuple[Factor, ...]
    scale: float = 1.0
    biased: bool = False
    normalised: bool = False


P = ParamSpec("P")


def _layout(operator: str) -> Callable[..., Any]:
    """Turn an arrangement without an entry into an explicit unknown of the right shape."""

    def wrap(
        method: Callable[Concatenate[Builder, Value, P], Value],
    ) -> Callable[Concatenate[Builder, Value, P], Value]:
        @wraps(method)
        def inner(self: Builder, x: Value, /, *args: P.args, **kwargs: P.kwargs) -> Value:
            count = len(self.nodes)
            try:
                return method(self, x, *args, **kwargs)
            except LayoutError as error:
                del self.nodes[count:]
                others = [a for a in (*args, *kwargs.values()) if isinstance(a, Value)]
                shape = _SHAPES[method.__name__](x, *args, **kwargs)
                name = cast("str | None", kwargs.get("name"))
                return self.unknown(operator, [x, *others], shape, str(error), name=name or self.near(x))

        return inner

    return wrap


class Builder:
    """Collects the nodes of one network.

    Args:
        source: What is read, for people.
        training: Whether it is read in training mode.
        use_weights: Whether the values of trained weights may be read; fixed filters always may.
        roles: Corrected roles of input dimensions, see :func:`build_graph`.
    """

    def __init__(
        self, source: str, *, training: bool = False, use_weights: bool = True, roles: Roles | None = None
    ) -> None:
        self.source = source
        self.training = training
        self.use_weights = use_weights
        self.roles = roles or {}
        self.nodes: list[ir.Node] = []
        self._inputs: list[tuple[int, tuple[int, ...], str]] = []
        self._outputs: list[tuple[int, tuple[int, ...]]] = []

    # values

    def input(self, name: str, shape: Sequence[int], dtype: str) -> Value:
        """An input of the network.

        Dimensions are taken for (batch, channels, lattice...), two of them for (batch, channels), of integers for
        (batch, positions), until an operation says otherwise.
        """
        place = len(self._inputs)
        default: list[Role] = _default_roles(len(shape))
        if len(shape) == 2 and "int" in dtype:
            default = ["batch", "lattice"]
        factors = [
            Factor(size, self.roles.get((place, dim), default[dim]), (place, dim)) for dim, size in enumerate(shape)
        ]
        axes = tuple((f,) for f in factors if f.role == "lattice")
        channels = tuple(f for f in factors if f.role == "channel" and f.size > 1)
        index = self._emit(name, ir.Input(), (), prod(f.size for f in channels), [f.size for (f,) in axes])
        self._inputs.append((index, tuple(shape), dtype))
        dims = tuple(Dim((f,)) if f.size > 1 or f.role == "lattice" else Dim() for f in factors)
        return Value(dims, index, channels, axes)

    def constant(self, name: str, values: ArrayLike | ir.Weight, fixed: bool = False) -> Value:
        """A constant: weights, buffers, literals."""
        if isinstance(values, ir.Weight):
            weight = values
        else:
            array = np.asarray(values)
            weight = ir.Weight(name, array.shape, fixed, lambda: array)
        if not (self.use_weights or weight.fixed) and weight.load is not None:
            weight = replace(weight, load=None)
        return Value((), weight=weight)

    def scalar(self, number: float) -> Value:
        """A literal number."""
        return self.constant("", np.float64(number), fixed=True)

    def noise(self, shape: Sequence[int], *, name: str) -> Value:
        """Random numbers drawn at every call."""
        return self._source("noise", None, tuple(shape), name, lattice=range(2, len(shape)))

    def near(self, x: Value) -> str:
        """A name for something that happens next to a value."""
        return self.nodes[x.node].name if x.node is not None else "constant"

    def _emit(self, name: str, op: ir.Op, inputs: Sequence[int], channels: int, sizes: Sequence[int]) -> int:
        self.nodes.append(ir.Node(name, op, tuple(inputs), int(channels), tuple(int(s) for s in sizes)))
        return len(self.nodes) - 1

    def _after(self, x: Value, op: ir.Op, name: str, more: Sequence[int] = ()) -> Value:
        """The same layout after an operation that keeps channels and positions."""
        assert x.node is not None
        before = self.nodes[x.node]
        return replace(x, node=self._emit(name, op, (x.node, *more), before.channels, before.sizes))

    def _source(
        self,
        kind: Literal["constant", "position", "noise"],
        weight: ir.Weight | None,
        shape: tuple[int, ...],
        name: str,
        *,
        lattice: Sequence[int],
    ) -> Value:
        """A value that does not come from an input, laid out like an input."""
        factors = [
            Factor(n, "lattice" if i in lattice else "batch" if i == 0 else "channel") for i, n in enumerate(shape)
        ]
        axes = tuple((f,) for f in factors if f.role == "lattice")
        channels = tuple(f for f in factors if f.role == "channel" and f.size > 1)
        index = self._emit(name, ir.Source(kind, weight), (), prod(f.size for f in channels), [f.size for (f,) in axes])
        dims = tuple(Dim((f,)) if f.size > 1 or f.role == "lattice" else Dim() for f in factors)
        return Value(dims, index, channels, axes)

    # the form that an operation asks for

    def _field(
        self,
        x: Value,
        channel: Sequence[int],
        lattice: Sequence[int],
        name: str,
        *,
        flat: bool = False,
        seam: str | None = None,
    ) -> _Field:
        """Bring a value into the form (batch..., channels, lattice...).

        Args:
            x: The value; a constant becomes a source.
            channel: Dimensions that the operation reads as channels.
            lattice: Dimensions that it reads as positions.
            name: Of the operation.
            flat: Whether a lattice dimension may hold several axes (the operation does not mix positions).
            seam: Name of a pixel shuffle that turns out to be needed; by default made from what feeds it.
        """
        if x.scores is not None:
            raise LayoutError("attention scores are used as a field")
        if x.node is None:
            x = self._source("constant", x.weight, x.shape, x.weight.name if x.weight else name, lattice=lattice)
        if any(not x.dims[i].plain for i in lattice) and not flat:
            raise LayoutError("positions and extra tokens are mixed")
        self._check_roles(x, channel, lattice)
        x = self._fold_channels(x, channel, lattice, name)
        x = self._unfold_channels(x, channel, lattice, seam or f"{self.near(x)}:pixel_shuffle")
        inner = [f for i in channel for f in x.dims[i].factors]
        rest = [f for i, d in enumerate(x.dims) if i not in channel for f in d.factors if f in x.channels]
        x = self._ordered(x, [*rest, *inner], name)
        x, places = self._place_axes(x, channel, lattice, name, flat)
        return _Field(x, places, tuple(rest))

    def _check_roles(self, x: Value, channel: Sequence[int], lattice: Sequence[int]) -> None:
        wrong: dict[tuple[int, int], Role] = {}
        for i, dim in enumerate(x.dims):
            if len(dim.factors) != 1 or dim.factors[0].origin is None:
                continue
            factor = dim.factors[0]
            assert factor.origin is not None
            demand: Role = "channel" if i in channel else "lattice"
            elsewhere = i not in channel and i not in lattice
            if elsewhere and (factor.role != "channel" or i == 0):
                continue  # positions and samples may stand in the batch
            if factor.role != demand and factor.role != "batch":
                wrong[factor.origin] = demand
        if wrong:
            raise Relayout(wrong)

    def _fold_channels(self, x: Value, channel: Sequence[int], lattice: Sequence[int], name: str) -> Value:
        """Positions that stand in channel dimensions: space to depth, or flattening."""
        inside = {f for i in channel for f in x.dims[i].factors}
        if not any(f in inside for axis in x.axes for f in axis):
            return x
        assert x.node is not None
        whole = [
            a for a, axis in enumerate(x.axes) if all(f in inside or f.size == 1 for f in axis) and set(axis) & inside
        ]
        factors, moved = [], []
        for a, axis in enumerate(x.axes):
            kept = [f for f in axis if f not in inside]
            gone = [f for f in axis if f in inside]
            if a in whole or not gone:
                factors.append(1)
                continue
            if [*kept, *gone] != list(axis):
                raise LayoutError("the outer part of a lattice axis becomes channels")
            factors.append(prod(f.size for f in gone))
            moved += gone
        node = self.nodes[x.node]
        if moved:
            sizes = [n // r for n, r in zip(node.sizes, factors, strict=True)]
            index = self._emit(
                f"{name}:pixel_unshuffle",
                ir.PixelUnshuffle(tuple(factors)),
                (x.node,),
                node.channels * prod(factors),
                sizes,
            )
            x = replace(
                x,
                node=index,
                channels=(*x.channels, *(_channel(f) for f in moved)),
                axes=tuple(tuple(f for f in axis if f not in moved) for axis in x.axes),
            )
            x = _renamed(x, moved, x.channels[-len(moved) :])
        if whole:
            assert x.node is not None
            node = self.nodes[x.node]
            gone = [f for a in whole for f in x.axes[a] if f.size > 1]
            index = self._emit(
                f"{name}:flatten",
                ir.Flatten(tuple(whole)),
                (x.node,),
                node.channels * prod(f.size for f in gone),
                [n for a, n in enumerate(node.sizes) if a not in whole],
            )
            made = tuple(_channel(f) for f in gone)
            kept_axes = tuple(axis for a, axis in enumerate(x.axes) if a not in whole)
            x = _renamed(replace(x, node=index, channels=(*x.channels, *made), axes=kept_axes), gone, made)
            x = _without_ones(x, kept_axes)
        return x

    def _unfold_channels(self, x: Value, channel: Sequence[int], lattice: Sequence[int], name: str) -> Value:
        """Channels that stand in lattice dimensions: depth to space, or the birth of a lattice."""
        outside = [f for i in lattice for f in x.dims[i].factors if f in x.channels]
        if not outside:
            return x
        assert x.node is not None
        node = self.nodes[x.node]
        if all(n == 1 for n in node.sizes):
            born = {f: Factor(f.size, "lattice") for f in outside}
            rest = [f for f in x.channels if f not in born]
            x = self._ordered(x, [*rest, *outside], name)
            sizes = [prod(f.size for f in x.dims[i].factors if f in born) for i in lattice]
            index = self._emit(
                name.removesuffix(":pixel_shuffle") + ":reshape",
                ir.Birth(),
                (cast("int", x.node),),
                prod(f.size for f in rest),
                sizes,
            )
            axes = tuple(
                tuple(born[f] for f in x.dims[i].factors if f in born) or (Factor(1, "lattice"),) for i in lattice
            )
            dims = tuple(
                replace(d, factors=tuple(born.get(f, f) for f in d.factors if f in born or f.size > 1)) for d in x.dims
            )
            return Value(dims, index, tuple(rest), axes)
        factors = [1] * len(x.axes)
        new_axes = list(x.axes)
        phases: list[Factor] = []
        made: list[Factor] = []
        for i in lattice:
            inner = [f for f in x.dims[i].factors if f in x.channels]
            if not inner:
                continue
            outer = [f for f in x.dims[i].factors if f not in inner]
            if [*outer, *inner] != list(x.dims[i].factors):
                raise LayoutError("channels stand outside of positions in one dimension (tiles, not phases)")
            axis = self._axis_of(x, outer, i, lattice)
            factors[axis] = prod(f.size for f in inner)
            fresh = [Factor(f.size, "lattice") for f in inner]
            new_axes[axis] = (*x.axes[axis], *fresh)
            phases += inner
            made += fresh
        by_axis = sorted(range(len(phases)), key=lambda j: next(a for a, ax in enumerate(new_axes) if made[j] in ax))
        rest = [f for f in x.channels if f not in phases]
        x = self._ordered(x, [*rest, *(phases[j] for j in by_axis)], name)
        idiom: Literal["pixel_shuffle", "patch"] = "pixel_shuffle" if all(f.named for f in phases) else "patch"
        assert x.node is not None
        index = self._emit(
            name,
            ir.PixelShuffle(tuple(factors), idiom),
            (x.node,),
            prod(f.size for f in rest),
            [n * r for n, r in zip(node.sizes, factors, strict=True)],
        )
        return _renamed(replace(x, node=index, channels=tuple(rest), axes=tuple(new_axes)), phases, made)

    def _axis_of(self, x: Value, factors: Sequence[Factor], dim: int, lattice: Sequence[int]) -> int:
        """The axis that consists of exactly these factors; an empty list stands for an axis of one position."""
        if factors:
            for a, axis in enumerate(x.axes):
                if list(axis) == list(factors):
                    return a
            raise LayoutError("a dimension holds a part of a lattice axis, or several")
        hidden = [a for a, axis in enumerate(x.axes) if all(f.size == 1 for f in axis)]
        empty = [i for i in lattice if not any(f.role == "lattice" for f in x.dims[i].factors)]
        if dim in empty and empty.index(dim) < len(hidden):
            return hidden[empty.index(dim)]
        raise LayoutError("channels become positions along a new axis of a value that has a lattice")

    def _ordered(self, x: Value, order: Sequence[Factor], name: str) -> Value:
        """Bring the node's channels into an order."""
        order = [f for f in order if f.size > 1]
        if list(x.channels) == order:
            return x
        if set(x.channels) != set(order):
            raise LayoutError("channels are missing from the tensor's dimensions")
        perm = tuple(x.channels.index(f) for f in order)
        made = self._after(x, ir.ChannelPermute(tuple(f.size for f in x.channels), perm), f"{name}:permute")
        return replace(made, channels=tuple(order))

    def _place_axes(
        self, x: Value, channel: Sequence[int], lattice: Sequence[int], name: str, flat: bool
    ) -> tuple[Value, tuple[tuple[int, ...], ...]]:
        """Which axes of the node each lattice dimension holds; missing ones are added as axes of one position."""
        places: list[tuple[int, ...] | None] = []
        used: set[int] = set()
        for i in lattice:
            held = [f for f in x.dims[i].factors if f.role == "lattice"]
            found: list[int] = []
            while held:
                axis = next((a for a, ax in enumerate(x.axes) if ax and list(ax) == held[: len(ax)]), None)
                if axis is None:
                    raise LayoutError("a dimension holds a part of a lattice axis")
                found.append(axis)
                held = held[len(x.axes[axis]) :]
            if len(found) > 1 and not flat:
                raise LayoutError("one dimension holds several lattice axes")
            used.update(found)
            places.append(tuple(found) if found else None)
        hidden = [a for a, axis in enumerate(x.axes) if all(f.size == 1 for f in axis) and a not in used]
        result: list[tuple[int, ...]] = []
        for place in places:
            if place is not None:
                result.append(place)
            elif hidden:
                result.append((hidden.pop(0),))
            else:
                assert x.node is not None
                node = self.nodes[x.node]
                axis = len(node.sizes)
                index = self._emit(
                    f"{name}:broadcast", ir.Broadcast((axis,)), (x.node,), node.channels, (*node.sizes, 1)
                )
                x = replace(x, node=index, axes=(*x.axes, (Factor(1, "lattice"),)))
                result.append((axis,))
        return x, tuple(result)

    def _spread(self, f: _Field, values: Sequence[int], default: int) -> tuple[int, ...]:
        """Per-dimension parameters as per-axis ones."""
        out = [default] * len(f.value.axes)
        for place, value in zip(f.places, values, strict=True):
            if len(place) > 1 and value != default:
                raise LayoutError("an operation mixes positions of several lattice axes in one dimension")
            out[place[-1]] = value
        return tuple(out)

    def _spread_pairs(self, f: _Field, values: Pairs) -> tuple[tuple[int, int], ...]:
        low = self._spread(f, [a for a, _ in values], 0)
        return tuple(zip(low, self._spread(f, [b for _, b in values], 0), strict=True))

    def _resized(
        self, f: _Field, index: int, channel: int, channels: int, lattice: Sequence[int], sizes: Sequence[int]
    ) -> Value:
        """The layout after an operation with its own channels and sizes."""
        x = f.value
        axes = list(x.axes)
        dims = list(x.dims)
        for i, place, size in zip(lattice, f.places, sizes, strict=True):
            if len(place) > 1:
                continue
            axis = Factor(size, "lattice")
            axes[place[0]] = (axis,)
            dims[i] = Dim((axis,))
        made = Factor(channels, "channel")
        dims[channel] = Dim((made,) if channels > 1 else ())
        order = (*f.repeats, *((made,) if channels > 1 else ()))
        return Value(tuple(dims), index, order, tuple(axes))

    def _sizes(self, f: _Field, sizes: Sequence[int]) -> list[int]:
        assert f.value.node is not None
        full = list(self.nodes[f.value.node].sizes)
        for place, size in zip(f.places, sizes, strict=True):
            if len(place) == 1:
                full[place[0]] = size
        return full

    # layers with weights

    @_layout("conv")
    def conv(
        self,
        x: Value,
        weight: Value,
        bias: Value | None,
        *,
        stride: Sequence[int],
        padding: Pairs,
        dilation: Sequence[int],
        groups: int,
        pad_mode: ir.PadMode = "zeros",
        name: str,
    ) -> Value:
        """Convolution over dimensions 2 and up; ``padding`` is ``(before, after)`` per dimension."""
        kernel = weight.shape[2:]
        lattice = range(2, len(x.shape))
        trivial = all(k == 1 and s == 1 for k, s in zip(kernel, stride, strict=True))
        f = self._field(x, [1], lattice, name, flat=trivial)
        repeats = prod(r.size for r in f.repeats)
        out = weight.shape[0]
        sizes = [
            (n + a + b - d * (k - 1) - 1) // s + 1
            for n, k, s, d, (a, b) in zip(x.shape[2:], kernel, stride, dilation, padding, strict=True)
        ]
        op = ir.Conv(
            self._spread(f, kernel, 1),
            self._spread(f, stride, 1),
            self._spread_pairs(f, padding),
            self._spread(f, dilation, 1),
            groups * repeats,
            x.shape[1] * repeats,
            out * repeats,
            pad_mode,
            _kernel(weight, self._axes_of(f), repeats, len(f.value.axes)),
            _repeated(bias, repeats),
        )
        index = self._emit(name, op, self._with(f, weight), out * repeats, self._sizes(f, sizes))
        return self._resized(f, index, 1, out, lattice, sizes)

    def _axes_of(self, f: _Field) -> tuple[int, ...]:
        return tuple(place[-1] for place in f.places)

    def _with(self, f: _Field, weight: Value) -> tuple[int, ...]:
        """Inputs of a layer: the field, and the value that its weights are computed from."""
        assert f.value.node is not None
        return (f.value.node,) if weight.node is None else (f.value.node, weight.node)

    @_layout("conv_transpose")
    def conv_transpose(
        self,
        x: Value,
        weight: Value,
        bias: Value | None,
        *,
        stride: Sequence[int],
        padding: Pairs,
        dilation: Sequence[int],
        output_padding: Sequence[int],
        groups: int,
        name: str,
    ) -> Value:
        """Transposed convolution over dimensions 2 and up; ``padding`` is what is cut ``(before, after)``."""
        kernel = weight.shape[2:]
        lattice = range(2, len(x.shape))
        f = self._field(x, [1], lattice, name)
        repeats = prod(r.size for r in f.repeats)
        out = weight.shape[1] * groups
        sizes = [
            s * (n - 1) + d * (k - 1) + 1 + a - low - high
            for n, k, s, d, a, (low, high) in zip(
                x.shape[2:], kernel, stride, dilation, output_padding, padding, strict=True
            )
        ]
        op = ir.ConvTranspose(
            self._spread(f, kernel, 1),
            self._spread(f, stride, 1),
            self._spread_pairs(f, padding),
            self._spread(f, dilation, 1),
            self._spread(f, output_padding, 0),
            groups * repeats,
            x.shape[1] * repeats,
            out * repeats,
            _kernel(weight, self._axes_of(f), repeats, len(f.value.axes)),
            _repeated(bias, repeats),
        )
        index = self._emit(name, op, self._with(f, weight), out * repeats, self._sizes(f, sizes))
        return self._resized(f, index, 1, out, lattice, sizes)

    @_layout("linear")
    def linear(self, x: Value, weight: Value, bias: Value | None, *, name: str) -> Value:
        """A linear map of the last dimension; ``weight`` is ``(C_out, C_in)``."""
        last = len(x.shape) - 1
        f = self._tokens(x, last, name)
        repeats = prod(r.size for r in f.repeats)
        out = weight.shape[0]
        op = ir.Linear(
            x.shape[last] * repeats,
            out * repeats,
            _blocks(weight, repeats),
            _repeated(bias, repeats),
        )
        assert f.value.node is not None
        index = self._emit(name, op, self._with(f, weight), out * repeats, self.nodes[f.value.node].sizes)
        made = Factor(out, "channel")
        dims = list(f.value.dims)
        dims[last] = Dim((made,) if out > 1 else ())
        return replace(f.value, node=index, dims=tuple(dims), channels=(*f.repeats, *((made,) if out > 1 else ())))

    def _tokens(self, x: Value, channel: int, name: str) -> _Field:
        """Channels in one dimension, anything else elsewhere; the operation does not mix positions."""
        lattice = [
            i for i, d in enumerate(x.dims) if i != channel and i > 0 and any(f.role == "lattice" for f in d.factors)
        ]
        if x.node is None:
            lattice = [i for i in range(1, len(x.shape)) if i != channel]
        return self._field(x, [channel], lattice, name, flat=True)

    def embedding(self, ids: Value, weight: Value, *, name: str) -> Value:
        """A table looked up at every position: a constant index gives a constant vector."""
        out = weight.shape[1]
        if ids.node is None:
            return self.unknown("embedding", [], (*ids.shape, out), "the indices are a large constant", name=name)
        before = self.nodes[ids.node]
        index = self._emit(name, ir.ChannelMix(), (ids.node,), before.channels * out, before.sizes)
        made = Factor(out, "channel")
        return replace(ids, node=index, dims=(*ids.dims, Dim((made,))), channels=(*ids.channels, made))

    # products of two values

    @_layout("matmul")
    def matmul(self, a: Value, b: Value, *, name: str) -> Value:
        """Matrix product of two tensors, either of which may be a constant."""
        if b.is_constant and len(b.shape) == 2:
            return self.linear(a, self._transposed(b), None, name=name)
        if a.is_constant and len(a.shape) == 2 and len(b.shape) >= 2:
            order = [*range(len(b.shape) - 2), len(b.shape) - 1, len(b.shape) - 2]
            return self.permute(self.linear(self.permute(b, order), a, None, name=name), order)
        if isinstance(a.scores, _Scores):
            return self._attended(a.scores, b, len(b.shape) - 1, name)
        if a.is_constant or b.is_constant:
            raise LayoutError("a product with a stack of constant matrices")
        contracted = a.dims[-1].factors, b.dims[-2].factors
        if not all(f.role == "channel" for factors in contracted for f in factors):
            return self._summary(a, b, name)
        rows, columns = a.dims[-2], b.dims[-1]
        positions = [any(f.role == "lattice" for f in d.factors) or not d.plain for d in (rows, columns)]
        if all(positions):
            heads = tuple(f for d in a.dims[:-2] for f in d.factors if f.role == "channel")
            order = [*range(len(b.dims) - 2), len(b.dims) - 1, len(b.dims) - 2]
            return Value((*a.dims[:-1], columns), scores=_Scores(a, permuted(b, order), heads))
        return self._mixed(a, b, positions, name)

    def _summary(self, a: Value, b: Value, name: str) -> Value:
        """A product summed over positions (linear attention, Gram matrices): no lattice is left."""
        left, right = a.dims[-2], b.dims[-1]
        if any(f.role == "lattice" for d in (left, right) for f in d.factors) or a.node is None or b.node is None:
            raise LayoutError("a matrix product mixes positions with positions")
        batch = [Dim(tuple(f for f in d.factors if f.role != "lattice")) for d in a.dims[:-2]]
        made = [Factor(d.size, "channel") for d in (left, right)]
        kept = [f for d in batch for f in d.factors if f.role == "channel"]
        channels = (*kept, *(f for f in made if f.size > 1))
        axes = tuple(range(len(a.axes)))
        index = self._emit(name, ir.Reduce(axes, "product"), (a.node, b.node), prod(f.size for f in channels), ())
        return Value((*batch, *(Dim((f,) if f.size > 1 else ()) for f in made)), index, channels, ())

    def _mixed(self, a: Value, b: Value, positions: Sequence[bool], name: str) -> Value:
        """Channels mixed by coefficients that come from the data, the same at every position."""
        main, other, kept = (a, b, 0) if positions[0] else (b, a, 1)
        if main.node is None or other.node is None or (other.axes and any(positions)):
            if other.axes and any(f.size > 1 for axis in other.axes for f in axis):
                raise LayoutError("channels are mixed by coefficients that vary over another lattice")
        assert main.node is not None and other.node is not None
        free = (b.dims[-1] if kept == 0 else a.dims[-2]).size
        made = Factor(free, "channel")
        place = Dim((made,) if free > 1 else ())
        batch = list(a.dims[:-2])
        dims = (*batch, main.dims[-2], place) if kept == 0 else (*batch, place, main.dims[-1])
        repeats = tuple(f for d in batch for f in d.factors if f in main.channels)
        channels = (*repeats, *((made,) if free > 1 else ()))
        index = self._emit(
            name,
            ir.ChannelMix(),
            (main.node, other.node),
            prod(f.size for f in channels),
            self.nodes[main.node].sizes,
        )
        return Value(dims, index, channels, main.axes)

    def _attended(self, scores: _Scores, value: Value, channel: int, name: str) -> Value:
        """Softmax-weighted sum of the values over all positions."""
        query, key = scores.query, scores.key
        if value.node is None or query.node is None or key.node is None or not scores.normalised:
            raise LayoutError("scores that are not a softmax multiply a field")
        heads = prod(f.size for f in scores.heads)
        parts = []
        for part, last in ((query, -1), (key, -1), (value, channel)):
            inner = list(part.dims[last].factors)
            outer = [f for f in part.channels if f not in inner]
            parts.append(self._ordered(part, [*outer, *inner], name))
        q, k, v = parts
        assert q.node is not None and k.node is not None and v.node is not None
        sizes = self.nodes[q.node].sizes
        op = ir.Attention(
            heads,
            scores.scale,
            scores.biased,
            windowed=_windowed(query),
            cross=self.nodes[v.node].sizes != sizes,
        )
        out = list(v.dims[channel].factors)
        made = [Factor(f.size, "channel") for f in out]
        index = self._emit(name, op, (q.node, k.node, v.node), heads * prod(f.size for f in made), sizes)
        dims = (*query.dims[:-1], Dim(tuple(made)))
        return Value(dims, index, (*scores.heads, *made), q.axes)

    @_layout("attention")
    def attention(self, q: Value, k: Value, v: Value, *, scale: float | None, biased: bool, name: str) -> Value:
        """Scaled dot-product attention of ``(..., positions, channels)`` tensors."""
        if q.node is None or k.node is None or v.node is None:
            q, k, v = (self._tokens(t, len(t.shape) - 1, name).value if t.node is None else t for t in (q, k, v))
        for part in (q, k, v):
            self._check_roles(part, [len(part.dims) - 1], [len(part.dims) - 2])
        heads = tuple(f for d in q.dims[:-2] for f in d.factors if f.role == "channel")
        factor = scale if scale is not None else 1 / sqrt(q.shape[-1])
        return self._attended(_Scores(q, k, heads, factor, biased, True), v, len(v.dims) - 1, name)

    def einsum(self, equation: str, *values: Value, name: str) -> Value:
        """Einstein summation of two tensors, lowered to a matrix product."""
        shape = _einsum_shape(equation, values)
        try:
            left, _, out = equation.replace(" ", "").partition("->")
            terms = left.split(",")
            if len(terms) != 2 or any(len(set(t)) != len(t) for t in terms) or "." in equation:
                raise LayoutError("an einsum of this form")
            a, b = terms
            both = [c for c in a if c in b and c in out]
            gone = [c for c in a if c in b and c not in out]
            rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
            if set(rows + columns + both) != set(out):
                raise LayoutError("an einsum that sums within one tensor")
            size = dict(zip(a + b, values[0].shape + values[1].shape, strict=True))

            def arranged(value: Value, term: str, first: list[str], second: list[str]) -> Value:
                order = [term.index(c) for c in (*both, *first, *second)]
                merged = [*(size[c] for c in both), *(prod(size[c] for c in group) for group in (first, second))]
                return self.reshape(self.permute(value, order), merged)

            made = self.matmul(arranged(values[0], a, rows, gone), arranged(values[1], b, gone, columns), name=name)
            opened = self.reshape(made, [size[c] for c in (*both, *rows, *columns)])
            return self.permute(opened, [[*both, *rows, *columns].index(c) for c in out])
        except LayoutError as error:
            return self.unknown("einsum", list(values), shape, str(error), name=name)

    def _transposed(self, weight: Value) -> Value:
        assert weight.weight is not None
        return self._mapped(weight, lambda v: v.T, weight.shape[::-1])

    def _mapped(self, x: Value, function: Callable[[NDArray[Any]], NDArray[Any]], shape: Sequence[int]) -> Value:
        """A constant after a change of arrangement, still lazy."""
        weight = x.weight
        assert weight is not None
        load = weight.load
        made = replace(
            weight, shape=tuple(shape), load=None if load is None else (lambda: np.asarray(function(load())))
        )
        return Value((), weight=made)

    # arrangement

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """View a tensor with another shape."""
        if x.is_constant:
            return self._mapped(x, lambda v: v.reshape(shape), shape)
        try:
            if x.scores is not None:
                return self._score_view(x, shape)
            return self._separated(reshaped(x, shape))
        except LayoutError as error:
            return self.unknown("reshape", [x], shape, str(error), name=f"{self.near(x)}:reshape")

    def _separated(self, x: Value) -> Value:
        return x

    def _score_view(self, x: Value, shape: Sequence[int]) -> Value:
        """Scores with heads split off or merged with the batch; positions stay."""
        if tuple(shape[-2:]) != x.shape[-2:]:
            raise LayoutError("attention scores are reshaped")
        batch = reshaped(replace(x, dims=x.dims[:-2]), shape[:-2])
        return replace(x, dims=(*batch.dims, *x.dims[-2:]))

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        """Reorder dimensions."""
        order = [o % len(x.shape) for o in order]
        if x.is_constant:
            return self._mapped(x, lambda v: v.transpose(order), [x.shape[o] for o in order])
        if x.scores is not None and order[-2:] != [len(order) - 2, len(order) - 1]:
            return self.unknown(
                "permute", [x], [x.shape[o] for o in order], "attention scores are transposed", name=self.near(x)
            )
        return permuted(x, order)

    def squeeze(self, x: Value, dims: Sequence[int]) -> Value:
        """Drop dimensions of size 1."""
        gone = {d % len(x.shape) for d in dims}
        return self.reshape(x, [n for i, n in enumerate(x.shape) if i not in gone])

    def unsqueeze(self, x: Value, dims: Sequence[int]) -> Value:
        """Add dimensions of size 1, at places of the result."""
        rank = len(x.shape) + len(dims)
        new = {d % rank for d in dims}
        old = iter(x.shape)
        return self.reshape(x, [1 if i in new else next(old) for i in range(rank)])

    @_layout("expand")
    def expand(self, x: Value, shape: Sequence[int], *, name: str | None = None) -> Value:
        """Repeat dimensions of size 1."""
        full = [*(1,) * (len(shape) - len(x.shape)), *x.shape]
        target = [old if new == -1 else new for old, new in zip(full, shape, strict=True)]
        if x.is_constant:
            return self._mapped(x, lambda v: np.broadcast_to(v, target), target)
        if x.scores is not None:
            raise LayoutError("attention scores are expanded")
        x = self.reshape(x, full)
        label = name or f"{self.near(x)}:expand"
        tokens = bool(x.dims) and any(f in x.channels for f in x.dims[-1].factors) and len(x.dims) == 3
        for i, (old, new) in enumerate(zip(full, target, strict=True)):
            if old == new:
                continue
            assert x.node is not None
            node = self.nodes[x.node]
            if i == 0:
                made = Factor(new, "batch")
            elif i >= 2 or tokens:
                made = Factor(new, "lattice")
                hidden = [a for a, axis in enumerate(x.axes) if all(f.size == 1 for f in axis)]
                if hidden:
                    x = self._dropped(x, hidden[:1], label)
                    assert x.node is not None
                    node = self.nodes[x.node]
                index = self._emit(
                    label, ir.Broadcast((len(node.sizes),)), (x.node,), node.channels, (*node.sizes, new)
                )
                x = replace(x, node=index, axes=(*x.axes, (made,)))
            else:
                made = Factor(new, "channel")
                repeats = [x.node] * new if new <= MOST_REPEATS else [x.node]
                op: ir.Op = ir.Concat() if new <= MOST_REPEATS else ir.ChannelMix()
                index = self._emit(label, op, repeats, node.channels * new, node.sizes)
                x = replace(x, node=index, channels=(made, *x.channels))
            dims = list(x.dims)
            dims[i] = Dim((made,))
            x = replace(x, dims=tuple(dims))
        return x

    def _dropped(self, x: Value, axes: Sequence[int], name: str) -> Value:
        """Remove lattice axes of a single position."""
        assert x.node is not None
        node = self.nodes[x.node]
        sizes = [n for a, n in enumerate(node.sizes) if a not in axes]
        index = self._emit(f"{name}:squeeze", ir.Reduce(tuple(axes), "mean"), (x.node,), node.channels, sizes)
        kept = tuple(axis for a, axis in enumerate(x.axes) if a not in axes)
        return _without_ones(replace(x, node=index, axes=kept), kept)

    @_layout("slice")
    def slice(self, x: Value, dim: int, start: int, stop: int, step: int = 1, *, name: str | None = None) -> Value:
        """Entries ``start, start + step, ...`` before ``stop`` of one dimension; bounds are not negative."""
        dim %= len(x.shape)
        old = x.shape[dim]
        count = len(range(start, stop, step))
        if x.is_constant:
            cut = tuple(slice(None) if i != dim else _python_slice(start, stop, step) for i in range(len(x.shape)))
            return self._mapped(x, lambda v: v[cut], [count if i == dim else n for i, n in enumerate(x.shape)])
        if (start, count, step) == (0, old, 1):
            return x
        if x.scores is not None:
            raise LayoutError("attention scores are cut")
        label = name or f"{self.near(x)}:slice"
        here = x.dims[dim]
        if not here.plain:
            return self._cut_tokens(x, dim, start, count, step, label)
        factors = [f for f in here.factors if f.size > 1]
        if not factors or factors[0].role == "batch":
            made = () if count == 1 else (Factor(count, "batch"),)
            return _with_dim(x, dim, Dim((*made, *factors[1:])) if len(factors) <= 1 else _bad("the batch is cut"))
        if len(factors) > 1:
            inner = prod(f.size for f in factors[1:])
            if step == 1 and start % inner == 0 and count % inner == 0:
                opened = reshaped(x, [*x.shape[:dim], old // inner, inner, *x.shape[dim + 1 :]])
                cut_value = self.slice(opened, dim, start // inner, (start + count) // inner, 1, name=label)
                return self.reshape(cut_value, [*x.shape[:dim], count, *x.shape[dim + 1 :]])
            raise LayoutError("a dimension of several parts is cut")
        factor = factors[0]
        if factor.role == "channel":
            return self._cut_channels(x, dim, factor, start, count, step, label)
        return self._cut_lattice(x, dim, factor, start, count, step, label)

    def _cut_tokens(self, x: Value, dim: int, start: int, count: int, step: int, name: str) -> Value:
        here = x.dims[dim]
        inside = here.size - here.before - here.after
        if step != 1:
            raise LayoutError("tokens are cut with a step")
        stop = start + count
        if start <= here.before and stop >= here.before + inside:
            return _with_dim(x, dim, replace(here, before=here.before - start, after=stop - here.before - inside))
        if stop <= here.before or start >= here.before + inside:
            # extra tokens have no position: what is left of the field is global
            assert x.node is not None
            node = self.nodes[x.node]
            axes = tuple(range(len(node.sizes)))
            index = self._emit(name, ir.Reduce(axes, "mean"), (x.node,), node.channels, ())
            made = Factor(count, "channel")
            if count == 1:
                return replace(_with_dim(x, dim, Dim()), node=index, axes=())
            mixed = self._emit(name, ir.ChannelMix(), (index,), node.channels * count, ())
            return replace(_with_dim(x, dim, Dim((made,))), node=mixed, channels=(made, *x.channels), axes=())
        raise LayoutError("tokens and positions are cut together")

    def _cut_channels(self, x: Value, dim: int, factor: Factor, start: int, count: int, step: int, name: str) -> Value:
        x = self._ordered(x, [factor, *(f for f in x.channels if f is not factor)], name)
        assert x.node is not None
        node = self.nodes[x.node]
        rest = node.channels // factor.size
        if rest > 1 and step != 1:
            raise LayoutError("channels are cut with a step")
        op = ir.ChannelSlice(start * rest, (start + step * (count - 1)) * rest + rest, step)
        if step < 0:
            raise LayoutError("channels are reversed")
        index = self._emit(name, op, (x.node,), count * rest, node.sizes)
        made = (Factor(count, "channel", named=factor.named),) if count > 1 else ()
        others = tuple(f for f in x.channels if f is not factor)
        return replace(_with_dim(x, dim, Dim(made)), node=index, channels=(*made, *others))

    def _cut_lattice(self, x: Value, dim: int, factor: Factor, start: int, count: int, step: int, name: str) -> Value:
        axis = next(a for a, ax in enumerate(x.axes) if factor in ax)
        assert x.node is not None
        node = self.nodes[x.node]
        starts, steps, sizes = [0] * len(node.sizes), [1] * len(node.sizes), list(node.sizes)
        if x.axes[axis] == (factor,):
            starts[axis], steps[axis], sizes[axis] = start, step, count
            made: tuple[Factor, ...] = (Factor(count, "lattice"),)
            kept: tuple[Factor, ...] = made
        elif x.axes[axis][-1] is factor and count == 1:  # one phase of an axis that was split into (outer, phase)
            starts[axis], steps[axis], sizes[axis] = start, factor.size, node.sizes[axis] // factor.size
            made, kept = (), x.axes[axis][:-1]
        else:
            raise LayoutError("a part of a lattice axis is cut")
        index = self._emit(name, ir.Slice(tuple(starts), tuple(steps)), (x.node,), node.channels, sizes)
        axes = tuple(kept if a == axis else ax for a, ax in enumerate(x.axes))
        return replace(_with_dim(x, dim, Dim(made)), node=index, axes=axes)

    def split(self, x: Value, dim: int, sizes: Sequence[int], *, name: str | None = None) -> list[Value]:
        """Consecutive pieces of one dimension."""
        pieces, position = [], 0
        for size in sizes:
            pieces.append(self.slice(x, dim, position, position + size, 1, name=name))
            position += size
        return pieces

    def concat(self, values: Sequence[Value], dim: int, *, name: str) -> Value:
        """Join tensors along one dimension."""
        shape = list(values[0].shape)
        dim %= len(shape)
        shape[dim] = sum(v.shape[dim] for v in values)
        count = len(self.nodes)
        try:
            return self._concat(list(values), dim, name)
        except LayoutError as error:
            del self.nodes[count:]
            return self.unknown("concat", list(values), shape, str(error), name=name)

    def _concat(self, values: list[Value], dim: int, name: str) -> Value:
        if len(values) == 1:
            return values[0]
        if any(v.scores is not None for v in values):
            raise LayoutError("attention scores are concatenated")
        if all(v.is_constant for v in values):
            raise LayoutError("constants are concatenated")
        fields = [v for v in values if not v.is_constant]
        roles = {f.role for v in fields for f in v.dims[dim].factors}
        if "lattice" in roles or any(not v.dims[dim].plain for v in fields):
            return self._concat_positions(values, dim, name)
        if dim == 0 or "batch" in roles:
            raise LayoutError("samples are concatenated into a batch")
        model = max(fields, key=lambda v: (len(v.axes), len(v.shape)))
        lattice = [i for i, d in enumerate(model.dims) if any(f.role == "lattice" for f in d.factors)]
        values = [
            v
            if not v.is_constant
            else self._source(
                "position" if any(v.shape[i] > 1 for i in lattice) else "constant",
                v.weight,
                v.shape,
                v.weight.name if v.weight and v.weight.name else name,
                lattice=[i for i in lattice if v.shape[i] > 1],
            )
            for v in values
        ]
        joined = [_with_dim(v, dim, Dim()) for v in values]
        aligned, _ = self._aligned(joined, name, channels_elsewhere=[v.dims[dim].factors for v in values])
        parts: list[int] = []
        outer: tuple[Factor, ...] | None = None
        for value, own in zip(aligned, (v.dims[dim].factors for v in values), strict=True):
            inner = [f for f in own if f.size > 1]
            rest = [f for d in value.dims for f in d.factors if f in value.channels]
            ordered = self._ordered(value, [*inner, *rest], name)
            assert ordered.node is not None
            parts.append(ordered.node)
            sizes = tuple(f.size for f in rest)
            if outer is not None and tuple(f.size for f in outer) != sizes:
                raise LayoutError("tensors with different channels in other dimensions are concatenated")
            outer = tuple(rest) if outer is None else outer
        total = sum(v.shape[dim] for v in values)
        made = Factor(total, "channel")
        lattice_sizes = max((self.nodes[p].sizes for p in parts), key=lambda s: (len(s), prod(s)))
        channels = sum(self.nodes[p].channels for p in parts)
        index = self._emit(name, ir.Concat(), parts, channels, lattice_sizes)
        first = max(aligned, key=lambda v: len(v.axes))
        own_outer = tuple(f for d in first.dims for f in d.factors if f in first.channels)
        return replace(_with_dim(first, dim, Dim((made,))), node=index, channels=(made, *own_outer))

    def _concat_positions(self, values: list[Value], dim: int, name: str) -> Value:
        """Along positions: extra tokens, or padding made of pieces."""

        def extent(v: Value) -> int:
            return 0 if v.is_constant else prod(f.size for f in v.dims[dim].factors if f.role == "lattice")

        main = max(range(len(values)), key=lambda i: extent(values[i]))
        field = values[main]
        before = sum(v.shape[dim] for v in values[:main])
        after = sum(v.shape[dim] for v in values[main + 1 :])
        others = [v for i, v in enumerate(values) if i != main]
        factors = [f for f in field.dims[dim].factors if f.size > 1]
        channel_last = any(f in field.channels for f in field.dims[-1].factors)
        if channel_last and dim < len(field.dims) - 1:
            here = field.dims[dim]
            return _with_dim(field, dim, replace(here, before=here.before + before, after=here.after + after))
        constants = all(v.is_constant for v in others)
        assert field.node is not None
        own = all(
            v.node is not None and (self._root(v.node) == self._root(field.node) or self._root(v.node) == field.node)
            for v in others
        )
        if (constants or own) and len(factors) == 1 and factors[0] in (ax[0] for ax in field.axes if len(ax) == 1):
            pads = [(before, after) if i == dim else (0, 0) for i in range(len(field.dims))]
            return self.pad(field, pads, "constant" if constants else "circular", 0.0, name=name)
        raise LayoutError("fields are put side by side")

    def _root(self, index: int) -> int:
        """The node that slices and shifts were taken from."""
        while isinstance(self.nodes[index].op, ir.Slice | ir.Pad):
            index = self.nodes[index].inputs[0]
        return index

    @_layout("pad")
    def pad(self, x: Value, pads: Pairs, mode: ir.PadMode, value: float, *, name: str) -> Value:
        """Padding ``(before, after)`` per dimension of the tensor; negative amounts crop."""
        if not any(a or b for a, b in pads):
            return x
        if x.is_constant:
            raise LayoutError("a constant is padded")
        touched = [i for i, pair in enumerate(pads) if any(pair)]
        if touched == [1] or any(not any(f.role == "lattice" for f in x.dims[i].factors) for i in touched):
            return self._pad_channels(x, pads, touched, name)
        starts: dict[int, tuple[int, int]] = {}
        axes = list(x.axes)
        dims = list(x.dims)
        assert x.node is not None
        node = self.nodes[x.node]
        sizes = list(node.sizes)
        for i in touched:
            axis = next((a for a, ax in enumerate(x.axes) if list(ax) == list(x.dims[i].factors)), None)
            if axis is None or not x.dims[i].plain:
                raise LayoutError("a part of a lattice axis is padded")
            starts[axis] = pads[i]
            sizes[axis] += sum(pads[i])
            made = Factor(sizes[axis], "lattice")
            axes[axis], dims[i] = (made,), Dim((made,))
        op = ir.Pad(tuple(starts.get(a, (0, 0)) for a in range(len(sizes))), mode, value)
        index = self._emit(name, op, (x.node,), node.channels, sizes)
        return Value(tuple(dims), index, x.channels, tuple(axes))

    def _pad_channels(self, x: Value, pads: Pairs, touched: Sequence[int], name: str) -> Value:
        (i,) = touched if len(touched) == 1 else (_bad("channels and positions are padded together"),)
        assert x.node is not None
        if x.channels != tuple(f for f in x.dims[i].factors if f.size > 1) or any(
            f.role == "lattice" for f in x.dims[i].factors
        ):
            raise LayoutError("some of the channels are padded")
        before, after = pads[i]
        node = self.nodes[x.node]
        parts = []
        for count, where in ((before, 0), (0, 1), (after, 2)):
            if where == 1:
                parts.append(x.node)
            elif count > 0:
                zero = ir.Weight(f"{name}:zeros", (count,), True, lambda count=count: np.zeros(count))  # type: ignore[misc]
                parts.append(self._emit(f"{name}:zeros", ir.Source("constant", zero), (), count, ()))
            elif count < 0:
                raise LayoutError("channels are cropped by padding")
        total = node.channels + before + after
        made = Factor(total, "channel")
        index = self._emit(name, ir.Concat(), parts, total, node.sizes)
        return replace(_with_dim(x, i, Dim((made,))), node=index, channels=(made,))

    @_layout("roll")
    def roll(self, x: Value, shifts: Sequence[int], dims: Sequence[int], *, name: str) -> Value:
        """Circular shift along lattice dimensions."""
        return self._moved(x, {d % len(x.shape): (-s, 1) for s, d in zip(shifts, dims, strict=True)}, name)

    @_layout("flip")
    def flip(self, x: Value, dims: Sequence[int], *, name: str) -> Value:
        """Reversal along lattice dimensions."""
        return self._moved(x, {d % len(x.shape): (x.shape[d % len(x.shape)] - 1, -1) for d in dims}, name)

    def _moved(self, x: Value, moves: Mapping[int, tuple[int, int]], name: str) -> Value:
        assert x.node is not None
        node = self.nodes[x.node]
        starts, steps = [0] * len(node.sizes), [1] * len(node.sizes)
        for dim, (start, step) in moves.items():
            if x.shape[dim] == 1:
                continue
            axis = next((a for a, ax in enumerate(x.axes) if list(ax) == list(x.dims[dim].factors)), None)
            if axis is None:
                raise LayoutError("something other than a lattice axis is shifted or reversed")
            starts[axis], steps[axis] = start, step
        return self._after(x, ir.Slice(tuple(starts), tuple(steps)), name)

    # resampling

    @_layout("interpolate")
    def resize(self, x: Value, axes: Sequence[AxisResize], mode: str, out_sizes: Sequence[int], *, name: str) -> Value:
        """Interpolation of dimensions 2 and up."""
        lattice = range(2, len(x.shape))
        f = self._field(x, [1], lattice, name)
        identity = AxisResize(1, 1, (((0, 1.0),),))
        per_axis = [identity] * len(f.value.axes)
        for place, resize in zip(f.places, axes, strict=True):
            per_axis[place[0]] = resize
        assert f.value.node is not None
        channels = self.nodes[f.value.node].channels
        index = self._emit(name, ir.Resize(tuple(per_axis), mode), (f.value.node,), channels, self._sizes(f, out_sizes))
        return self._resized(f, index, 1, x.shape[1], lattice, out_sizes)

    @_layout("pool")
    def pool(
        self,
        x: Value,
        kind: Literal["max", "average", "lp"],
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Pairs,
        dilation: Sequence[int],
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        name: str,
    ) -> Value:
        """Pooling over dimensions 2 and up (the last ones, where there are fewer windows than that)."""
        lattice = range(len(x.shape) - len(kernel), len(x.shape))
        f = self._field(x, [lattice[0] - 1], lattice, name)
        sizes = [
            _pooled(n, k, s, d, pair, ceil_mode)
            for n, k, s, d, pair in zip(x.shape[lattice[0] :], kernel, stride, dilation, padding, strict=True)
        ]
        op = ir.Pool(
            kind,
            self._spread(f, kernel, 1),
            self._spread(f, stride, 1),
            self._spread_pairs(f, padding),
            self._spread(f, dilation, 1),
            count_include_pad,
        )
        assert f.value.node is not None
        index = self._emit(name, op, (f.value.node,), self.nodes[f.value.node].channels, self._sizes(f, sizes))
        return self._resized(f, index, lattice[0] - 1, x.shape[lattice[0] - 1], lattice, sizes)

    @_layout("unpool")
    def unpool(
        self, x: Value, *, kernel: Sequence[int], stride: Sequence[int], out_sizes: Sequence[int], name: str
    ) -> Value:
        """Max un-pooling of the last dimensions."""
        lattice = range(len(x.shape) - len(kernel), len(x.shape))
        f = self._field(x, [lattice[0] - 1], lattice, name)
        op = ir.Unpool(self._spread(f, kernel, 1), self._spread(f, stride, 1))
        assert f.value.node is not None
        index = self._emit(name, op, (f.value.node,), self.nodes[f.value.node].channels, self._sizes(f, out_sizes))
        return self._resized(f, index, lattice[0] - 1, x.shape[lattice[0] - 1], lattice, out_sizes)

    def pixel_shuffle(
        self, x: Value, factors: Sequence[int], order: Literal["CRD", "DCR"] = "CRD", *, name: str
    ) -> Value:
        """Depth to space of a tensor ``(..., C prod(r), *positions)``."""
        axes = len(factors)
        lead, sizes = x.shape[: -axes - 1], x.shape[-axes:]
        channels = x.shape[-axes - 1] // prod(factors)
        head = len(lead)
        shape = (*lead, *sizes[:0], channels, *(n * r for n, r in zip(sizes, factors, strict=True)))
        try:
            split = [channels, *factors] if order == "CRD" else [*factors, channels]
            opened = reshaped(x, [*lead, *split, *sizes], named=True)
            first = head if order == "CRD" else head + axes
            phase = head + 1 if order == "CRD" else head
            places = [p for a in range(axes) for p in (head + 1 + axes + a, phase + a)]
            merged = reshaped(permuted(opened, [*range(head), first, *places]), shape)
            return self._field(merged, [head], range(head + 1, len(shape)), name, seam=name).value
        except LayoutError as error:
            return self.unknown("pixel_shuffle", [x], shape, str(error), name=name)

    def pixel_unshuffle(
        self, x: Value, factors: Sequence[int], order: Literal["CRD", "DCR"] = "CRD", *, name: str
    ) -> Value:
        """Space to depth of a tensor ``(..., C, *positions)``."""
        axes = len(factors)
        lead, channels, sizes = x.shape[: -axes - 1], x.shape[-axes - 1], x.shape[-axes:]
        head = len(lead)
        shape = (*lead, channels * prod(factors), *(n // r for n, r in zip(sizes, factors, strict=True)))
        try:
            split = [m for n, r in zip(sizes, factors, strict=True) for m in (n // r, r)]
            opened = reshaped(x, [*lead, channels, *split])
            outer = [head + 1 + 2 * a for a in range(axes)]
            inner = [head + 2 + 2 * a for a in range(axes)]
            front = [head, *inner] if order == "CRD" else [*inner, head]
            merged = reshaped(permuted(opened, [*range(head), *front, *outer]), shape)
            return self._field(merged, [head], range(head + 1, len(shape)), name).value
        except LayoutError as error:
            return self.unknown("pixel_unshuffle", [x], shape, str(error), name=name)

    @_layout("fold")
    def fold(
        self,
        x: Value,
        *,
        output_size: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Pairs,
        dilation: Sequence[int],
        name: str,
    ) -> Value:
        """col2im of ``(N, C prod(k), L)``."""
        blocks = _blocks_of(output_size, kernel, stride, padding, dilation)
        opened = reshaped(x, [x.shape[0], x.shape[1], *blocks])
        lattice = range(2, 2 + len(blocks))
        f = self._field(opened, [1], lattice, name)
        channels = x.shape[1] // prod(kernel)
        op = ir.Fold(
            self._spread(f, kernel, 1),
            self._spread(f, stride, 1),
            self._spread_pairs(f, padding),
            self._spread(f, dilation, 1),
        )
        assert f.value.node is not None
        index = self._emit(name, op, (f.value.node,), channels, self._sizes(f, output_size))
        return self._resized(f, index, 1, channels, lattice, output_size)

    @_layout("unfold")
    def unfold(
        self,
        x: Value,
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Pairs,
        dilation: Sequence[int],
        name: str,
    ) -> Value:
        """im2col of ``(N, C, *positions)`` to ``(N, C prod(k), L)``."""
        lattice = range(2, len(x.shape))
        f = self._field(x, [1], lattice, name)
        blocks = _blocks_of(x.shape[2:], kernel, stride, padding, dilation)
        channels = x.shape[1] * prod(kernel)
        op = ir.Unfold(
            self._spread(f, kernel, 1),
            self._spread(f, stride, 1),
            self._spread_pairs(f, padding),
            self._spread(f, dilation, 1),
        )
        assert f.value.node is not None
        index = self._emit(name, op, (f.value.node,), channels, self._sizes(f, blocks))
        made = self._resized(f, index, 1, channels, lattice, blocks)
        return reshaped(made, [x.shape[0], channels, prod(blocks)])

    @_layout("grid_sample")
    def warp(self, x: Value, grid: Value, mode: str, *, name: str) -> Value:
        """Sampling at positions ``(N, *positions, axes)`` that come from the data."""
        sizes = grid.shape[1:-1]
        lattice = range(2, len(x.shape))
        f = self._field(x, [1], lattice, name)
        assert f.value.node is not None
        inputs = (f.value.node,) if grid.node is None else (f.value.node, grid.node)
        index = self._emit(name, ir.Warp(mode), inputs, self.nodes[f.value.node].channels, self._sizes(f, sizes))
        return self._resized(f, index, 1, x.shape[1], lattice, sizes)

    # reductions and normalisation

    @_layout("reduce")
    def reduce(self, x: Value, dims: Sequence[int], kind: str, keepdim: bool, *, name: str) -> Value:
        """Reduction over whole dimensions."""
        chosen = sorted({d % len(x.shape) for d in dims})
        if x.is_constant or x.scores is not None:
            raise LayoutError("a constant or attention scores are reduced")
        gone = [f for i in chosen for f in x.dims[i].factors]
        self._check_reduced(x, chosen)
        assert x.node is not None
        axes = [a for a, axis in enumerate(x.axes) if axis and all(f in gone for f in axis)]
        hidden = [a for a, axis in enumerate(x.axes) if all(f.size == 1 and f not in gone for f in axis)]
        parts = [f for a, axis in enumerate(x.axes) if a not in axes for f in axis if f in gone]
        if parts:
            x = self._pooled_parts(x, parts, kind, name)
            gone = [f for f in gone if f not in parts]
            axes = [a for a, axis in enumerate(x.axes) if axis and all(f in gone for f in axis)]
        if hidden and len(chosen) >= 2 and not axes:
            axes = hidden  # a 1x1 lattice averaged away
        assert x.node is not None
        node = self.nodes[x.node]
        inside = [f for f in gone if f in x.channels]
        index = x.node
        channels = x.channels
        if inside and set(inside) != set(x.channels):
            count = node.channels // prod(f.size for f in inside)
            index = self._emit(name, ir.ChannelMix(), (index,), count, node.sizes)
            channels = tuple(f for f in x.channels if f not in inside)
        whole = bool(inside) and set(inside) == set(x.channels)
        if axes or whole:
            sizes = [n for a, n in enumerate(node.sizes) if a not in axes]
            channels = () if whole else channels
            index = self._emit(
                name, ir.Reduce(tuple(axes), kind, whole), (index,), prod(f.size for f in channels), sizes
            )
        kept_axes = tuple(axis for a, axis in enumerate(x.axes) if a not in axes)
        new_dims = [Dim() if i in chosen else d for i, d in enumerate(x.dims) if keepdim or i not in chosen]
        return Value(tuple(new_dims), index, channels, kept_axes)

    def _check_reduced(self, x: Value, chosen: Sequence[int]) -> None:
        """Averages over the last dimensions of an input say that those are positions."""
        wrong: dict[tuple[int, int], Role] = {}
        for i in chosen:
            for f in x.dims[i].factors:
                if f.origin is not None and f.role == "channel" and i > 1:
                    wrong[f.origin] = "lattice"
        if wrong:
            raise Relayout(wrong)

    def _pooled_parts(self, x: Value, parts: Sequence[Factor], kind: str, name: str) -> Value:
        """Reduction over the inner part of a split axis is pooling without overlap."""
        kinds: dict[str, Literal["max", "average"]] = {"mean": "average", "max": "max"}
        if kind not in kinds:
            raise LayoutError(f"a {kind} over a part of a lattice axis")
        assert x.node is not None
        node = self.nodes[x.node]
        windows = []
        for axis in x.axes:
            inner = [f for f in axis if f in parts]
            if inner and list(axis[-len(inner) :]) != inner:
                raise LayoutError("a reduction over the outer part of a lattice axis")
            windows.append(prod(f.size for f in inner))
        ones, zeros = (1,) * len(windows), ((0, 0),) * len(windows)
        op = ir.Pool(kinds[kind], tuple(windows), tuple(windows), zeros, ones)
        sizes = [n // w for n, w in zip(node.sizes, windows, strict=True)]
        index = self._emit(f"{name}:pool", op, (x.node,), node.channels, sizes)
        return replace(x, node=index, axes=tuple(tuple(f for f in axis if f not in parts) for axis in x.axes))

    @_layout("batch_norm")
    def batch_norm(
        self,
        x: Value,
        weight: Value | None,
        bias: Value | None,
        mean: Value | None,
        var: Value | None,
        eps: float,
        *,
        name: str,
        training: bool = False,
    ) -> Value:
        """Batch normalisation of dimension 1."""
        f = self._field(x, [1], range(2, len(x.shape)), name, flat=True)
        repeats = prod(r.size for r in f.repeats)
        if training or mean is None or var is None:
            op: ir.Op = ir.Normalize("batch", 1, eps, _weight(weight, repeats), _weight(bias, repeats))
            return self._after(f.value, op, name)
        parts = [v.weight if v is not None else None for v in (weight, bias, mean, var)]
        known = all(p is None or p.known for p in parts)
        channels = (x.shape[1] * repeats,)

        def numbers() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            scale, shift, centre, spread = (None if p is None else p.values() for p in parts)
            assert centre is not None and spread is not None
            gain = (1.0 if scale is None else scale) / np.sqrt(spread + eps)
            return np.tile(gain, repeats), np.tile((0.0 if shift is None else shift) - centre * gain, repeats)

        gain = ir.Weight(f"{name}.scale", channels, load=(lambda: numbers()[0]) if known else None)
        offset = ir.Weight(f"{name}.shift", channels, load=(lambda: numbers()[1]) if known else None)
        return self._after(f.value, ir.Affine(gain, offset, "batch_norm"), name)

    @_layout("normalize")
    def normalize(
        self,
        x: Value,
        kind: Literal["instance", "group", "layer", "rms", "l2"],
        *,
        groups: int = 1,
        dims: Sequence[int] | None = None,
        eps: float,
        weight: Value | None,
        bias: Value | None,
        name: str,
    ) -> Value:
        """Normalisation: instance and group of dimension 1 over positions, layer and RMS over ``dims``."""
        if kind in ("instance", "group"):
            f = self._field(x, [1], range(2, len(x.shape)), name, flat=True)
            repeats = prod(r.size for r in f.repeats)
            total = x.shape[1] * repeats
            if kind == "group" and groups * repeats == total and f.value.axes:
                kind = "instance"
            if kind == "instance" and repeats > 1 and weight is None and x.shape[1] == 1:
                weight = bias = None
            op = ir.Normalize(
                kind, groups * repeats if kind == "group" else 1, eps, _weight(weight, repeats), _weight(bias, repeats)
            )
            return self._after(f.value, op, name)
        chosen = sorted(d % len(x.shape) for d in (dims if dims is not None else [-1]))
        roles = {f.role for i in chosen for f in x.dims[i].factors if f.size > 1} if not x.is_constant else {"channel"}
        if roles == {"lattice"} and not all(f.origin for i in chosen for f in x.dims[i].factors):
            return self._after(x, ir.Normalize("instance", 1, eps), name)
        if len(chosen) > 1 and "lattice" in roles:
            return self._after(x, ir.Normalize("group", 1, eps), name)
        if len(chosen) > 1:
            raise LayoutError("normalisation over several dimensions of channels")
        f = self._tokens(x, chosen[0], name)
        repeats = prod(r.size for r in f.repeats)
        op = ir.Normalize(kind, repeats, eps, _weight(weight, repeats), _weight(bias, repeats))
        return self._after(f.value, op, name)

    @_layout("softmax")
    def softmax(self, x: Value, dim: int, *, name: str) -> Value:
        """Softmax over one dimension: of attention scores over keys, of a field over channels."""
        dim %= len(x.shape)
        if isinstance(x.scores, _Scores):
            if dim != len(x.shape) - 1:
                raise LayoutError("a softmax over queries")
            return replace(x, scores=replace(x.scores, normalised=True))
        if x.is_constant:
            raise LayoutError("a softmax of a constant")
        roles = {f.role for f in x.dims[dim].factors}
        if roles == {"lattice"} and not all(f.origin for f in x.dims[dim].factors):
            # weights over positions: an affine map of constants, positions keep their order
            return self._after(x, ir.Normalize("instance", 1, 0.0), name)
        f = self._tokens(x, dim, name)
        return self._after(f.value, ir.Normalize("softmax", prod(r.size for r in f.repeats)), name)

    # pointwise

    def pointwise(
        self, x: Value, function: str, parameters: Sequence[float] = (), weight: Value | None = None, *, name: str
    ) -> Value:
        """A scalar function at every position."""
        if isinstance(x.scores, _Scores):
            return self.unknown(function, [x], x.shape, "a function of attention scores", name=name)
        if weight is not None and prod(weight.shape) > 1:
            f = self._field(x, [1], range(2, len(x.shape)), name, flat=True)
            op = ir.Pointwise(function, tuple(parameters), _weight(weight, prod(r.size for r in f.repeats)))
            return self._after(f.value, op, name)
        own = None if weight is None else weight.weight
        if x.is_constant:
            return self.unknown(function, [x], x.shape, "a function of a large constant", name=name)
        return self._after(x, ir.Pointwise(function, tuple(float(p) for p in parameters), own), name)

    def elementwise(self, kind: JoinKind, a: Value, b: Value, *, name: str) -> Value:
        """Elementwise arithmetic with broadcasting; either operand may be a constant."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        count = len(self.nodes)
        try:
            if isinstance(a.scores, _Scores) or isinstance(b.scores, _Scores):
                return self._scored(kind, a, b)
            if a.is_constant and b.is_constant:
                raise LayoutError("arithmetic of two large constants")
            if a.is_constant or b.is_constant:
                return self._with_constant(kind, a, b, name)
            return self._join(kind, a, b, shape, name)
        except LayoutError as error:
            del self.nodes[count:]
            return self.unknown(kind, [a, b], shape, str(error), name=name)

    def _scored(self, kind: JoinKind, a: Value, b: Value) -> Value:
        x, other = (a, b) if isinstance(a.scores, _Scores) else (b, a)
        scores = x.scores
        assert isinstance(scores, _Scores)
        if other.is_constant and prod(other.shape) == 1 and other.weight is not None and other.weight.known:
            number = float(other.array().ravel()[0])
            if kind in ("mul", "div") and x is a:
                return replace(
                    x, scores=replace(scores, scale=scores.scale * (number if kind == "mul" else 1 / number))
                )
            if kind == "mul":
                return replace(x, scores=replace(scores, scale=scores.scale * number))
        if scores.normalised and kind == "add":
            raise LayoutError("something is added to attention weights")
        return replace(x, scores=replace(scores, biased=True))

    def _with_constant(self, kind: JoinKind, a: Value, b: Value, name: str) -> Value:
        x, constant = (b, a) if a.is_constant else (a, b)
        assert constant.weight is not None
        weight = constant.weight
        rank = max(len(x.shape), len(weight.shape))
        if len(x.shape) < rank:
            x = self.reshape(x, (*(1,) * (rank - len(x.shape)), *x.shape))
        shape = (*(1,) * (rank - len(weight.shape)), *weight.shape)
        if any(c > 1 and n == 1 and not x.dims[i].factors for i, (c, n) in enumerate(zip(shape, x.shape, strict=True))):
            return self._outgrown(kind, a, b, shape, name)
        if weight.shape and prod(weight.shape) > 1:
            varying = [i for i, d in enumerate(x.dims) if shape[i] > 1 and self._varies(weight, shape, i, d)]
            if varying:
                return self._join_source(kind, a, b, x, weight, shape, varying, name)
        return self._affine(kind, x, weight, shape, a.is_constant, name)

    def _varies(self, weight: ir.Weight, shape: tuple[int, ...], dim: int, here: Dim) -> bool:
        """Whether a constant varies along positions; tokens without position do not count."""
        if not any(f.role == "lattice" for f in here.factors):
            return False
        if not weight.known or prod(shape) > 2**24:
            return True
        values = weight.values().reshape(shape)
        return bool(np.ptp(values, axis=dim).max() > 0)

    def _affine(
        self, kind: JoinKind, x: Value, weight: ir.Weight, shape: tuple[int, ...], reverse: bool, name: str
    ) -> Value:
        """Arithmetic with one number, or one per channel."""
        if prod(shape) == 1:
            number = float(weight.values().ravel()[0]) if weight.known and (weight.fixed or not weight.shape) else None
            if number is not None:
                return self._with_number(kind, x, number, reverse, name)
        vector = self._per_channel(x, weight, shape)
        if kind == "add" or (kind == "sub" and not reverse):
            sign = 1 if kind == "add" else -1
            return self._after(x, ir.Affine(None, _scaled(vector, sign)), name)
        if kind == "sub":
            return self._after(x, ir.Affine(-1.0, vector), name)
        if kind == "mul":
            return self._after(x, ir.Affine(vector, None), name)
        if kind == "div" and not reverse:
            return self._after(x, ir.Affine(_scaled(vector, 1, power=-1), None), name)
        assert x.node is not None
        node = self.nodes[x.node]
        source = self._emit(weight.name or name, ir.Source("constant", vector), (), node.channels, ())
        inputs = (source, x.node) if reverse else (x.node, source)
        return replace(x, node=self._emit(name, ir.Join(kind), inputs, node.channels, node.sizes))

    def _with_number(self, kind: JoinKind, x: Value, number: float, reverse: bool, name: str) -> Value:
        if kind == "pow" and not reverse:
            functions = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal", -0.5: "rsqrt"}
            known = functions.get(number)
            return self.pointwise(x, known or "pow", () if known else (number,), name=name)
        if kind == "pow":
            return self.pointwise(self._with_number("mul", x, float(np.log(number)), False, name), "exp", name=name)
        if kind == "div" and reverse:
            return self._with_number("mul", self.pointwise(x, "reciprocal", name=name), number, False, name)
        if kind in ("max", "min"):
            if kind == "max" and number == 0:
                return self.pointwise(x, "relu", name=name)
            bounds = (number, float("inf")) if kind == "max" else (float("-inf"), number)
            return self.pointwise(x, "clamp", bounds, name=name)
        scale, shift = {
            "add": (None, number),
            "sub": (-1.0, number) if reverse else (None, -number),
            "mul": (number, None),
            "div": (1 / number if number else float("inf"), None),
        }[kind]
        if (scale in (None, 1.0)) and not shift:
            return x
        return self._after(x, ir.Affine(scale, shift), name)

    def _per_channel(self, x: Value, weight: ir.Weight, shape: tuple[int, ...]) -> ir.Weight:
        """A constant as a vector over the node's channels, in their order."""
        assert x.node is not None
        total = self.nodes[x.node].channels
        dims = x.dims
        channels = x.channels
        load = weight.load
        if load is None:
            return ir.Weight(weight.name, (total,), weight.fixed)

        def vector() -> NDArray[np.float64]:
            values = np.asarray(load(), np.float64).reshape(shape)
            for i, d in enumerate(dims):
                if values.shape[i] > 1 and not any(f in channels for f in d.factors):
                    values = np.take(values, [0], i)
            full = np.broadcast_to(
                values,
                [
                    prod(f.size for f in d.factors if f in channels)
                    if values.shape[i] > 1 or any(f in channels for f in d.factors)
                    else 1
                    for i, d in enumerate(dims)
                ],
            )
            order = [f for d in dims for f in d.factors if f in channels]
            spread = full.reshape([f.size for f in order] or [1])
            return np.ascontiguousarray(
                spread.transpose([order.index(f) for f in channels]).ravel() if order else spread
            )

        return ir.Weight(weight.name, (total,), weight.fixed, vector)

    def _join_source(
        self,
        kind: JoinKind,
        a: Value,
        b: Value,
        x: Value,
        weight: ir.Weight,
        shape: tuple[int, ...],
        varying: Sequence[int],
        name: str,
    ) -> Value:
        """A constant that varies over positions: position embeddings, masks, coordinate grids."""
        assert x.node is not None
        node = self.nodes[x.node]
        index = self._emit(
            weight.name or f"{name}:constant", ir.Source("position", weight), (), node.channels, node.sizes
        )
        inputs = (index, x.node) if a.is_constant else (x.node, index)
        return replace(x, node=self._emit(name, ir.Join(kind), inputs, node.channels, node.sizes))

    def _outgrown(self, kind: JoinKind, a: Value, b: Value, shape: tuple[int, ...], name: str) -> Value:
        """A value that is broadcast over a larger constant: the constant is the field."""
        constant = a if a.is_constant else b
        assert constant.weight is not None
        source = self._source(
            "constant", constant.weight, shape, constant.weight.name or name, lattice=range(2, len(shape))
        )
        pair = (source, b) if a.is_constant else (a, source)
        return self._join(kind, *pair, np.broadcast_shapes(a.shape, b.shape), name)

    def _join(self, kind: JoinKind, a: Value, b: Value, shape: tuple[int, ...], name: str) -> Value:
        rank = len(shape)
        a, b = (
            v if len(v.shape) == rank else self.reshape(v, (*(1,) * (rank - len(v.shape)), *v.shape)) for v in (a, b)
        )
        aligned, _ = self._aligned([a, b], name)
        left, right = aligned
        assert left.node is not None and right.node is not None
        first = max(aligned, key=lambda v: (len(v.axes), prod(f.size for ax in v.axes for f in ax)))
        wide = max(aligned, key=lambda v: len(v.channels))
        sizes = [
            max(pair)
            for pair in zip(
                *(self.nodes[v.node].sizes for v in aligned if len(v.axes) == len(first.axes) and v.node is not None),
                strict=True,
            )
        ]
        channels = max(self.nodes[left.node].channels, self.nodes[right.node].channels)
        index = self._emit(name, ir.Join(kind), (left.node, right.node), channels, sizes)
        dims = tuple(_merged_dim(p, q, wide) for p, q in zip(first.dims, _other(aligned, first).dims, strict=True))
        return Value(dims, index, wide.channels, first.axes)

    def _aligned(
        self, values: Sequence[Value], name: str, channels_elsewhere: Sequence[Sequence[Factor]] | None = None
    ) -> tuple[list[Value], tuple[tuple[Factor, ...], ...]]:
        """Bring values to the same axes and the same order of channels, dimension by dimension.

        Args:
            values: Values of the same rank.
            name: Of the operation.
            channels_elsewhere: Per value the channel factors that the operation treats apart.
        """
        rank = len(values[0].dims)
        elsewhere = channels_elsewhere or [() for _ in values]
        for i in range(rank):
            extras = {(v.dims[i].before, v.dims[i].after) for v in values if v.dims[i].factors}
            if len(extras) > 1:
                raise LayoutError("tensors with different extra tokens are combined")
        values = refine(values, [lambda v, i=i: v.dims[i] for i in range(rank)])  # type: ignore[misc]
        main = max(range(len(values)), key=lambda j: (len(values[j].axes), len(values[j].channels)))
        target = values[main]
        result = []
        for j, value in enumerate(values):
            twin: dict[Factor, Factor] = {}
            for mine, its in zip(value.dims, target.dims, strict=True):
                own = [f for f in mine.factors if f.size > 1]
                other = [f for f in its.factors if f.size > 1]
                if own and other:
                    twin.update(zip(own, other, strict=True))
            for f, g in twin.items():
                if f.role != g.role and "batch" not in (f.role, g.role):
                    self._contradiction(f, g)
            result.append(self._like(value, target, twin, elsewhere[j], name) if j != main else value)
        return result, target.axes

    def _contradiction(self, f: Factor, g: Factor) -> None:
        for mine, other in ((f, g), (g, f)):
            if mine.origin is not None and other.origin is None:
                raise Relayout({mine.origin: other.role})
        raise LayoutError("channels are combined with positions")

    def _like(
        self, value: Value, target: Value, twin: Mapping[Factor, Factor], elsewhere: Sequence[Factor], name: str
    ) -> Value:
        order = [f for g in target.channels for f in value.channels if twin.get(f) is g]
        apart = [f for f in value.channels if f in elsewhere]
        rest = [f for f in value.channels if f not in order and f not in apart]
        missing = [g for g in target.channels if g not in [twin.get(f) for f in order]]
        if rest and order:
            raise LayoutError("tensors with different channels are combined")
        if not elsewhere:
            value = self._ordered(value, [*order, *rest], name)
            if order and missing and not rest:
                made = tuple(Factor(g.size, "channel") for g in target.channels)
                assert value.node is not None
                node = self.nodes[value.node]
                index = self._emit(
                    f"{name}:expand", ir.ChannelMix(), (value.node,), prod(f.size for f in made), node.sizes
                )
                value = replace(value, node=index, channels=made)
        return self._same_axes(value, target, twin, name)

    def _same_axes(self, value: Value, target: Value, twin: Mapping[Factor, Factor], name: str) -> Value:
        found: list[int | None] = []
        for axis in value.axes:
            large = [f for f in axis if f.size > 1]
            match = [a for a, ax in enumerate(target.axes) if large and twin.get(large[0]) in ax]
            found.append(match[0] if match else None)
        if len(value.axes) == len(target.axes):
            known = [a for a in found if a is not None]
            if known != sorted(known):
                raise LayoutError("lattices with swapped axes are combined")
            if any(a is not None and a != i for i, a in enumerate(found)):
                raise LayoutError("lattices with shifted axes are combined")
            return value
        single = [i for i, (axis, a) in enumerate(zip(value.axes, found, strict=True)) if a is None]
        if any(f.size > 1 for i in single for f in value.axes[i]):
            raise LayoutError("lattices without a common axis are combined")
        if single:
            value = self._dropped(value, single, name)
        kept = [a for a in found if a is not None]
        if not kept:
            return value
        if kept != sorted(kept):
            raise LayoutError("lattices with swapped axes are combined")
        assert value.node is not None
        node = self.nodes[value.node]
        new = tuple(a for a in range(len(target.axes)) if a not in kept)
        own = iter(zip(value.axes, node.sizes, strict=True))
        axes, sizes = [], []
        for a in range(len(target.axes)):
            axis, size = ((Factor(1, "lattice"),), 1) if a in new else next(own)
            axes.append(axis)
            sizes.append(size)
        index = self._emit(f"{name}:broadcast", ir.Broadcast(new), (value.node,), node.channels, sizes)
        return replace(value, node=index, axes=tuple(axes))

    # ends

    def unknown(self, operator: str, inputs: Sequence[Value], shape: Sequence[int], reason: str, *, name: str) -> Value:
        """An operator without an entry; its result is taken for (batch, channels, lattice...)."""
        nodes = []
        for v in inputs:
            if isinstance(v.scores, _Scores):
                nodes += [n for n in (v.scores.query.node, v.scores.key.node) if n is not None]
            elif v.node is not None:
                nodes.append(v.node)
        rank = len(shape)
        roles = _default_roles(rank)
        factors = [Factor(int(n), roles[i]) for i, n in enumerate(shape)]
        axes = tuple((f,) for f in factors if f.role == "lattice")
        channels = tuple(f for f in factors if f.role == "channel" and f.size > 1)
        lattice_before = any(any(s > 1 for s in self.nodes[n].sizes) for n in nodes)
        spatial = lattice_before or any(f.size > 1 for (f,) in axes)
        op = ir.Unknown(operator, reason, spatial=spatial)
        index = self._emit(name, op, nodes, prod(f.size for f in channels), [f.size for (f,) in axes])
        dims = tuple(Dim((f,)) if f.size > 1 or f.role == "lattice" else Dim() for f in factors)
        return Value(dims, index, channels, axes)

    def output(self, name: str, value: Value) -> None:
        """An output of the network, in the layout of its lattice."""
        shape = value.shape
        if value.is_constant:
            assert value.weight is not None
            value = self._source(
                "constant", value.weight, shape, value.weight.name or name, lattice=range(2, len(shape))
            )
        if value.scores is not None:
            value = self.unknown("attention scores", [value], shape, "scores are an output", name=name)
        lattice = [i for i, d in enumerate(value.dims) if i and any(f.role == "lattice" for f in d.factors)]
        if not lattice and len(shape) >= 4 and any(f in value.channels for d in value.dims[2:] for f in d.factors):
            lattice = list(range(2, len(shape)))
        channel = [i for i in range(1, len(shape)) if i not in lattice]
        count = len(self.nodes)
        try:
            value = self._field(value, channel, lattice, name, flat=True).value
        except LayoutError:
            del self.nodes[count:]
        assert value.node is not None
        node = self.nodes[value.node]
        self._outputs.append((self._emit(name, ir.Output(), (value.node,), node.channels, node.sizes), shape))

    def build(self) -> ir.Graph:
        """The finished graph: nodes that reach an output, names made distinct."""
        outputs = [index for index, _ in self._outputs]
        inputs = [index for index, _, _ in self._inputs]
        needed = {*outputs, *inputs}
        for index in range(len(self.nodes) - 1, -1, -1):
            if index in needed:
                needed.update(self.nodes[index].inputs)
        order = sorted(needed)
        place = {old: new for new, old in enumerate(order)}
        seen: Counter[str] = Counter()
        nodes = []
        for old in order:
            node = self.nodes[old]
            seen[node.name] += 1
            name = node.name if seen[node.name] == 1 else f"{node.name}#{seen[node.name]}"
            nodes.append(replace(node, name=name, inputs=tuple(place[i] for i in node.inputs)))
        return ir.Graph(
            self.source,
            tuple(nodes),
            tuple(place[i] for i in inputs),
            tuple(place[i] for i in outputs),
            tuple(shape for _, shape, _ in self._inputs),
            tuple(shape for _, shape in self._outputs),
            tuple(dtype for _, _, dtype in self._inputs),
            self.training,
        )


# helpers


def _default_roles(rank: int) -> list[Role]:
    roles: list[Role] = ["batch", "channel"]
    return roles[:rank] + ["lattice"] * (rank - 2)


def _bad(reason: str) -> Any:
    raise LayoutError(reason)


def _python_slice(start: int, stop: int, step: int) -> slice:
    return slice(start, stop if step > 0 or stop >= 0 else None, step)


def _channel(factor: Factor) -> Factor:
    return Factor(factor.size, "channel", named=factor.named)


def _with_dim(x: Value, place: int, dim: Dim) -> Value:
    return replace(x, dims=tuple(dim if i == place else d for i, d in enumerate(x.dims)))


def _renamed(x: Value, old: Sequence[Factor], new: Sequence[Factor]) -> Value:
    table = dict(zip(old, new, strict=True))
    return replace(x, dims=tuple(replace(d, factors=tuple(table.get(f, f) for f in d.factors)) for d in x.dims))


def _without_ones(x: Value, axes: Sequence[tuple[Factor, ...]]) -> Value:
    """Drop single positions of axes that are gone from the dimensions."""
    alive = {f for axis in axes for f in axis}
    return replace(
        x,
        dims=tuple(
            replace(d, factors=tuple(f for f in d.factors if f.size > 1 or f in alive or f.role != "lattice"))
            for d in x.dims
        ),
    )


def _other(pair: Sequence[Value], first: Value) -> Value:
    return pair[1] if pair[0] is first else pair[0]


def _merged_dim(own: Dim, other: Dim, wide: Value) -> Dim:
    """One dimension of a join: positions from the finer operand, channels from the wider one."""
    large = [f for f in own.factors if f.size > 1]
    if not large or not own.plain:
        return own if large or not own.plain or not any(f.size > 1 for f in other.factors) else other
    theirs = [f for f in other.factors if f.size > 1]
    if theirs and any(f in wide.channels for f in theirs) and not any(f in wide.channels for f in large):
        if all(f.role == "channel" for f in large):
            return other
        twins = dict(zip(large, theirs, strict=True))
        return replace(own, factors=tuple(twins[f] if f.role == "channel" and f in twins else f for f in own.factors))
    return own


def _windowed(query: Value) -> bool:
    """Whether positions of the queries also stand in batch dimensions: attention inside blocks."""
    return any(f.role == "lattice" and f.size > 1 for d in query.dims[:-2] for f in d.factors)


def _kernel(weight: Value, places: Sequence[int], repeats: int, axes: int) -> ir.Weight | None:
    """Convolution weights over all axes of the field, repeated for channels that stand in the batch."""
    own = weight.weight
    if own is None:
        return None
    order = sorted(range(len(places)), key=lambda i: places[i])
    kernel = [1] * axes
    for i, place in enumerate(places):
        kernel[place] = own.shape[2 + i]
    shape = (own.shape[0] * repeats, own.shape[1], *kernel)
    if shape == own.shape:
        return own
    load = own.load

    def values() -> NDArray[Any]:
        assert load is not None
        array = load().transpose(0, 1, *(2 + i for i in order)).reshape(own.shape[0], own.shape[1], *kernel)
        return np.tile(array, (repeats, *(1,) * (array.ndim - 1)))

    return ir.Weight(own.name, shape, own.fixed, None if load is None else values)


def _blocks(weight: Value, repeats: int) -> ir.Weight | None:
    """A linear map repeated for channels that stand in the batch: a block diagonal matrix."""
    own = weight.weight
    if own is None or repeats == 1:
        return own
    load = own.load
    shape = (own.shape[0] * repeats, own.shape[1] * repeats)
    if prod(shape) > 2**26:
        return ir.Weight(own.name, shape, own.fixed)
    return ir.Weight(own.name, shape, own.fixed, None if load is None else (lambda: np.kron(np.eye(repeats), load())))


def _repeated(bias: Value | None, repeats: int) -> ir.Weight | None:
    if bias is None:
        return None
    own = bias.weight
    if own is None:
        return ir.Weight("bias", bias.shape)
    if repeats == 1:
        return own
    load = own.load
    return ir.Weight(
        own.name, (own.shape[0] * repeats,), own.fixed, None if load is None else (lambda: np.tile(load(), repeats))
    )


def _weight(value: Value | None, repeats: int) -> ir.Weight | None:
    return _repeated(value, repeats)


def _scaled(weight: ir.Weight, sign: int, power: int = 1) -> ir.Weight:
    load = weight.load
    if load is None or (sign, power) == (1, 1):
        return weight
    return replace(weight, load=lambda: sign * np.asarray(load(), np.float64) ** power)


def _pooled(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int], ceil_mode: bool) -> int:
    span = size + sum(padding) - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding[0]:
        count -= 1
    return count


def _blocks_of(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Pairs, dilation: Sequence[int]
) -> list[int]:
    return [
        (n + a + b - d * (k - 1) - 1) // s + 1
        for n, k, s, (a, b), d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    ]


def _einsum_shape(equation: str, values: Sequence[Value]) -> list[int]:
    left, _, out = equation.replace(" ", "").partition("->")
    size: dict[str, int] = {}
    for term, value in zip(left.split(","), values, strict=True):
        size.update(zip(term, value.shape, strict=False))
    return [size.get(c, 1) for c in out]


def _conv_shape(x: Value, weight: Value, bias: Value | None, **k: Any) -> list[int]:
    numbers = zip(x.shape[2:], weight.shape[2:], k["stride"], k["dilation"], k["padding"], strict=True)
    return [x.shape[0], weight.shape[0], *((n + sum(p) - d * (w - 1) - 1) // s + 1 for n, w, s, d, p in numbers)]


def _transpose_shape(x: Value, weight: Value, bias: Value | None, **k: Any) -> list[int]:
    numbers = zip(
        x.shape[2:], weight.shape[2:], k["stride"], k["dilation"], k["padding"], k["output_padding"], strict=True
    )
    sizes = (s * (n - 1) + d * (w - 1) + 1 + a - sum(p) for n, w, s, d, p, a in numbers)
    return [x.shape[0], weight.shape[1] * k["groups"], *sizes]


def _matmul_shape(a: Value, b: Value, **_: Any) -> list[int]:
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return [*lead, *(a.shape[-2:-1]), b.shape[-1]]


def _pool_shape(x: Value, kind: str, **k: Any) -> list[int]:
    count = len(k["kernel"])
    numbers = zip(x.shape[-count:], k["kernel"], k["stride"], k["dilation"], k["padding"], strict=True)
    return [*x.shape[:-count], *(_pooled(n, w, s, d, p, k.get("ceil_mode", False)) for n, w, s, d, p in numbers)]


def _reduced_shape(x: Value, dims: Sequence[int], kind: str, keepdim: bool, **_: Any) -> list[int]:
    gone = {d % len(x.shape) for d in dims}
    return [1 if i in gone else n for i, n in enumerate(x.shape) if keepdim or i not in gone]


def _slice_shape(x: Value, dim: int, start: int, stop: int, step: int = 1, **_: Any) -> list[int]:
    return [len(range(start, stop, step)) if i == dim % len(x.shape) else n for i, n in enumerate(x.shape)]


def _expand_shape(x: Value, shape: Sequence[int], **_: Any) -> list[int]:
    full = [*(1,) * (len(shape) - len(x.shape)), *x.shape]
    return [old if new == -1 else new for old, new in zip(full, shape, strict=True)]


def _kept(x: Value, *_: Any, **__: Any) -> list[int]:
    return list(x.shape)


_SHAPES: dict[str, Callable[..., Sequence[int]]] = {
    "attention": lambda q, k, v, **_: [*q.shape[:-1], v.shape[-1]],
    "batch_norm": _kept,
    "conv": _conv_shape,
    "conv_transpose": _transpose_shape,
    "expand": _expand_shape,
    "flip": _kept,
    "fold": lambda x, **k: [x.shape[0], x.shape[1] // prod(k["kernel"]), *k["output_size"]],
    "linear": lambda x, weight, bias, **_: [*x.shape[:-1], weight.shape[0]],
    "matmul": _matmul_shape,
    "normalize": _kept,
    "pad": lambda x, pads, *_, **__: [n + sum(p) for n, p in zip(x.shape, pads, strict=True)],
    "pool": _pool_shape,
    "reduce": _reduced_shape,
    "resize": lambda x, axes, mode, out_sizes, **_: [*x.shape[:2], *out_sizes],
    "roll": _kept,
    "slice": _slice_shape,
    "softmax": _kept,
    "unfold": lambda x, **k: [
        x.shape[0],
        x.shape[1] * prod(k["kernel"]),
        prod(_blocks_of(x.shape[2:], k["kernel"], k["stride"], k["padding"], k["dilation"])),
    ],
    "unpool": lambda x, **k: [*x.shape[: -len(k["kernel"])], *k["out_sizes"]],
    "warp": lambda x, grid, *_, **__: [*x.shape[:2], *grid.shape[1:-1]],
}
