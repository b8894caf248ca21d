"""The form that an operation asks for, and the calls that only change the form.

Reshapes, transposes and expansions move digits and make no node. An operation says which dimension it takes for the
channels and which ones for axes; constants are placed and attention scores multiplied out where it needs a field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from evenly.graph import ir
from evenly.graph.building.moves import Moves
from evenly.graph.building.state import RefusedError
from evenly.graph.building.values import Array, Pair, Scores, Shape, Value, mapped
from evenly.graph.layout import BATCH, CHANNEL, KEY, QUERY, SPREAD, Digit, Dim, LayoutError, regrouped, rescaled

__all__ = ["Forms", "covered"]


def covered(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[Pair], dilation: Sequence[int]
) -> Shape:
    """Number of windows along every axis."""
    return tuple(
        (n + lo + hi - d * (k - 1) - 1) // s + 1
        for n, k, s, (lo, hi), d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )


class Forms(Moves):
    """Values brought into a form."""

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
        """Name for a reshape that nobody can read."""
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

    def _transposed(self, x: Value) -> Value:
        """The last two dimensions exchanged."""
        rank = len(x.shape)
        return self.permute(x, (*range(rank - 2), rank - 1, rank - 2))

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
        """Broadcast to a shape."""
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

    def _data(self, v: Value, channel: int | None) -> Value:
        """A value with a node: a constant is placed, scores are multiplied out."""
        return self._placed(v, channel) if v.is_constant else self._forced(v)

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

        weight = mapped(v.weight, (channels, *sizes), arranged)
        label = name or self._unique(v.weight.name or "constant")
        node = self._emit(label, ir.Source("constant", weight), (), channels, sizes)
        dims = []
        for d, n in enumerate(v.shape):
            kind = CHANNEL if d == channel else axes.index(d) if d in axes else BATCH
            dims.append(Dim.through(kind, n))
        return Value(v.shape, node, tuple(dims))

    def _forced(self, v: Value) -> Value:
        """Attention scores that are no attention after all: mixing of channels by coefficients from the data."""
        if v.scores is None:
            return v
        s = v.scores
        if s.softmax or s.biased:
            raise RefusedError("attention weights are used as data")
        q, k = s.query, s.key
        rank = len(v.shape)
        if not self._upright(v):
            return self._transposed(self._forced(self._scores(s)))
        # The side with a lattice keeps it; the other one's rows become channels.
        if q.dims[-2].axes and not k.dims[-2].axes:
            return self._transposed(self._forced(self._scores(replace(s, query=k, key=q))))
        if not q.dims[-2].plain or not k.dims[-2].plain:
            raise RefusedError("products with extra tokens are used as data")
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
        name = self._after(v, "matmul")
        node = self._emit(name, ir.ChannelMix(), (flat, k.node), channels, self._sizes(k))
        if s.scale != 1.0:
            node = self._emit(name, ir.Affine(s.scale, None), (node,), channels, self._sizes(k))
        per_in = self._channels(k) // count
        dims = [rescaled(dim, per_in, rows * columns) for dim in k.dims[:-2]]
        row = Dim.through(CHANNEL, rows, columns)
        column = k.dims[-2] if k.dims[-2].axes else Dim.through(CHANNEL, columns)
        return Value(v.shape, node, (*dims, row, column))

    def _scores(self, s: Scores) -> Value:
        """Attention scores as a value: batch dimensions, queries, keys."""
        shape = (*s.query.shape[:-1], s.key.shape[-2])
        sides = (Dim.through(QUERY, shape[-2]), Dim.through(KEY, shape[-1]))
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

    def _formed(self, v: Value, channel: int, lattice: Sequence[int] | None = None, *, groups: bool = False) -> Value:
        """The form ``channel`` dimension = all channels; ``lattice`` dimensions = one whole axis each.

        With ``lattice=None`` positions may stand anywhere; with ``groups`` outer channel digits may stand elsewhere.
        """
        v = self._data(v, channel)
        if not v.dims[channel].plain:
            raise RefusedError("extra tokens stand among the channels")
        for d in lattice or ():
            if any(e.kind == BATCH for e in v.dims[d].digits):
                self._relayout(v, BATCH, "lattice")
        for e in v.dims[channel].digits:
            if e.kind == BATCH:
                self._relayout(v, BATCH, "channel")
                raise RefusedError("samples become channels")
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
            raise RefusedError("part of its channels stands in another dimension")
        return self._ordered(v, [*strays, *v.dims[channel].of(CHANNEL)])

    def _channels_second(self, v: Value) -> Value:
        """The form of layers that take ``(N, C, *lattice)`` and act on channels only."""
        channel = 1 if len(v.shape) > 1 else 0
        v = self._data(v, channel)
        unborn = [d for d in range(2, len(v.shape)) if v.dims[d].of(CHANNEL) and not v.dims[d].axes]
        if unborn:
            return self._formed(v, channel, range(2, len(v.shape)))
        return self._formed(v, channel)

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

    def _apart(self, v: Value, dims: Sequence[int]) -> Value:
        """Without positions and channels in one of these dimensions."""
        return self._regular(v) if any(v.dims[d].axes and v.dims[d].of(CHANNEL) for d in dims) else v

    def _per_axis(self, v: Value, dims: Sequence[int], values: Sequence[Any], default: Any) -> tuple[Any, ...]:
        """Values per dimension as values per axis of the field."""
        result = [default] * len(self._sizes(v))
        for d, value in zip(dims, values, strict=True):
            if v.dims[d].axes:
                result[v.dims[d].digits[0].kind] = value
        return tuple(result)

    def _windows(
        self,
        v: Value,
        dims: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[Pair],
        dilation: Sequence[int],
    ) -> tuple[Shape, Shape, tuple[Pair, ...], Shape]:
        """Kernel, stride, padding and dilation per axis of the field."""
        return (
            self._per_axis(v, dims, kernel, 1),
            self._per_axis(v, dims, stride, 1),
            self._per_axis(v, dims, padding, (0, 0)),
            self._per_axis(v, dims, dilation, 1),
        )
