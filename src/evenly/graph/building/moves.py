"""What moves between channels and lattice becomes a node.

A lattice dimension with a channel digit inside is a pixel shuffle, a channel dimension with the inner digit of an axis
a pixel unshuffle, channels where a lattice should be a birth, copies where an axis should be a broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from evenly.graph import ir
from evenly.graph.building.state import Origin, RefusedError, State, exchanged
from evenly.graph.building.values import Array, Value, literal
from evenly.graph.ir import AxisResize, Op
from evenly.graph.layout import BATCH, CHANNEL, SPREAD, Digit, Dim, joined

__all__ = ["Moves"]


class Moves(State):
    """Nodes that change what a dimension runs through, and no value."""

    def _renumbered(self, v: Value, node: int, change: Callable[[Digit], Iterable[Digit]]) -> Value:
        """A value held by a new node, with every digit changed."""
        dims = tuple(replace(dim, digits=joined(e for d in dim.digits for e in change(d))) for dim in v.dims)
        return replace(v, node=node, dims=dims)

    def _channel_digits(self, v: Value, skip: Iterable[int] = ()) -> list[Digit]:
        """The channel digits of all dimensions but some."""
        skipped = set(skip)
        return [d for i, dim in enumerate(v.dims) if i not in skipped for d in dim.of(CHANNEL)]

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
            self._origins[node] = Origin(origin.index, kinds)
        return self._renumbered(v, node, lambda d: [Digit(kept.index(d.kind), d.size, d.stride) if d.axis else d])

    def _ordered(self, v: Value, order: Sequence[Digit]) -> Value:
        """Channels in the order of these digits, outermost first; they must be all channel digits."""
        node = self.nodes[v.node]
        digits = [d for d in order if d.size > 1]
        if prod(d.size for d in digits) != node.channels or any(d.kind != CHANNEL for d in digits):
            raise RefusedError("its channels are not all there")
        view = sorted(digits, key=lambda d: -d.stride)
        expected = node.channels
        for d in view:
            expected //= d.size
            if d.stride != expected:
                raise RefusedError("its channels overlap")
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

    def _selected(self, v: Value, dim: int, indices: Sequence[int], name: str) -> Value:
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

            op = ir.Linear(total, channels, literal(name, matrix, (channels, total)))
        new = self._emit(name, op, (v.node,), channels, node.sizes)
        dims = exchanged(v.dims, dim, Dim.through(CHANNEL, len(wanted), rest))
        return Value(exchanged(v.shape, dim, len(wanted)), new, dims)

    def _multiplied(self, v: Value, dim: int) -> Value:
        """Copies in a channel dimension as channels."""
        digits = v.dims[dim].digits
        if any(d.kind not in (CHANNEL, SPREAD) for d in digits):
            raise RefusedError("copies stand among the channels")
        indices = np.zeros((1,), int)
        for d in digits:
            step = np.zeros(d.size, int) if d.kind == SPREAD else np.arange(d.size)
            indices = (indices[:, None] * (1 if d.kind == SPREAD else d.size) + step).reshape(-1)
        own = Dim(v.dims[dim].of(CHANNEL))
        bare = replace(v, dims=exchanged(v.dims, dim, own), shape=exchanged(v.shape, dim, own.size))
        return self._selected(bare, dim, indices.tolist(), self._after(v, "repeat"))

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
                raise RefusedError("blocks of positions become channels")
        strays = self._channel_digits(v, [channel])
        if strays and whole and prod(sizes[a] for a in whole) > 1:
            for d in inside:
                self._relayout(v, d.kind, "channel")
            raise RefusedError("it mixes positions by weights of their own for every position")
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
                    raise RefusedError("blocks of positions become channels")
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
                        raise RefusedError("channels become blocks of positions")
                    axis = digit.kind
                    inner[axis] = []
                elif digit.kind == CHANNEL and axis >= 0:
                    inner[axis].append(digit)
                else:
                    raise RefusedError("channels become blocks of positions")
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
        """Channels in lattice dimensions of a field without a lattice: it is born there."""
        v = self._settled(v)
        if self._sizes(v):
            raise RefusedError("channels become an axis of a field that has a lattice already")
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
                    raise RefusedError("samples become positions")
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
                raise RefusedError("extra tokens stand beside the positions")
            if any(e.kind == BATCH for e in dim.digits):
                self._relayout(v, BATCH, "lattice")
                raise RefusedError("samples become positions")
            if d not in missing and (len(dim.digits) != 1 or dim.digits[0].size != sizes[dim.digits[0].kind]):
                raise RefusedError("its positions are cut into blocks or several axes are one")
            if d in missing and any(e.kind != SPREAD for e in dim.digits):
                raise RefusedError("its positions are not those of a lattice")
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
            self._origins[new] = Origin(
                origin.index, {k if k < 0 else order.index(k): d for k, d in origin.dims.items()}
            )
        return replace(v, node=new, dims=tuple(dims))

    def _repeated(self, v: Value, dim: int) -> Value:
        """Every position several times (``repeat_interleave``): nearest interpolation."""
        axis, copies = v.dims[dim].digits
        sizes = list(self._sizes(v))
        if axis.size != sizes[axis.kind]:
            raise RefusedError("blocks of positions are repeated")
        axes = [AxisResize(1, 1, (((0, 1.0),),))] * len(sizes)
        axes[axis.kind] = AxisResize(copies.size, 1, (((0, 1.0),),) * copies.size)
        sizes[axis.kind] *= copies.size
        new = self._emit(
            self._after(v, "repeat"), ir.Resize(tuple(axes), "nearest"), (v.node,), self._channels(v), sizes
        )
        return replace(v, node=new, dims=exchanged(v.dims, dim, Dim((Digit(axis.kind, sizes[axis.kind]),))))
