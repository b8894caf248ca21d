"""Parts of fields, and fields put together: slices, concatenations, and the common form of several fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from evenly.graph import ir
from evenly.graph.building.resample import Resampling
from evenly.graph.building.state import RefusedError, exchanged
from evenly.graph.building.values import Array, Pair, Shape, Value, combined, literal, mapped
from evenly.graph.layout import BATCH, CHANNEL, SPREAD, Digit, Dim, joined, refined

__all__ = ["Arranging"]


class Arranging(Resampling):
    """Operations that take apart and join."""

    def split(self, x: Value, dim: int, sizes: Sequence[int]) -> list[Value]:
        """Parts of the given sizes along a dimension."""
        parts, start = [], 0
        for n in sizes:
            parts.append(self.slice(x, dim, start, start + n, 1, name=self._part_name(x)))
            start += n
        return parts

    def _part_name(self, x: Value) -> str:
        """Name for a part of a value."""
        if x.node >= 0:
            return f"{self.nodes[x.node].name.split('#')[0]}:split"
        return x.weight.name if x.weight is not None else "split"

    def slice(self, x: Value, dim: int, start: int, stop: int, step: int, *, name: str) -> Value:
        """Entries ``start, start + step, ...`` before ``stop`` of a dimension; a negative step runs backwards."""
        dim %= len(x.shape)
        places = range(start, stop, step)
        shape = exchanged(x.shape, dim, len(places))
        if x.is_constant:
            index = np.asarray(places, dtype=int)
            return self._folded(x, shape, lambda a: np.take(a, index, dim))
        if list(places) == list(range(x.shape[dim])):
            return x
        name = self._unique(name)
        return self._try("slice", name, [x], shape, lambda: self._sliced(x, dim, places, shape, name))

    def _sliced(self, x: Value, dim: int, places: range, shape: Shape, name: str) -> Value:
        """Entries of a dimension: samples, channels, positions or extra tokens."""
        v = self._forced(x)
        this = v.dims[dim]
        if not this.plain:
            return self._token_slice(v, dim, places, shape, name)
        kinds = {d.kind for d in this.digits}
        if kinds <= {BATCH, SPREAD}:
            kind = BATCH if BATCH in kinds else SPREAD
            return replace(v, shape=shape, dims=exchanged(v.dims, dim, Dim.through(kind, len(places))))
        if kinds <= {CHANNEL, SPREAD}:
            if SPREAD in kinds:
                v = self._multiplied(v, dim)
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
                    raise RefusedError("blocks of positions change places")
            else:
                raise RefusedError("it takes parts of blocks of positions")
        elif this.of(CHANNEL) and not _whole_rows(this, places):  # inside of what a shuffle put side by side
            return self._sliced(self._apart(v, [dim]), dim, places, shape, name)
        else:
            digit, start, step, count = self._token_rows(v, this, places)
        return self._axis_slice(v, dim, digit, (start, step, count), places, shape, name)

    def _token_rows(self, v: Value, this: Dim, places: range) -> tuple[Digit, int, int, int]:
        """Whole rows of merged axes."""
        outer = this.digits[0]
        if not outer.axis or outer.size != self._sizes(v)[outer.kind] or places.step != 1:
            raise RefusedError("it takes part of a merged dimension")
        if not _whole_rows(this, places):
            raise RefusedError("it cuts a row of positions")
        row = this.size // outer.size
        return outer, places.start // row, 1, len(places) // row

    def _axis_slice(
        self, v: Value, dim: int, digit: Digit, cutting: tuple[int, int, int], places: range, shape: Shape, name: str
    ) -> Value:
        """Some positions of an axis: start, step and count are the ``cutting``."""
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
            raise RefusedError("it skips tokens")
        if places.start <= first and places.stop >= last:
            kept = Dim(this.digits, first - places.start, places.stop - last)
            return replace(v, shape=shape, dims=exchanged(v.dims, dim, kept))
        inside = places.start >= first and places.stop <= last
        if inside:
            dims = exchanged(v.dims, dim, Dim(this.digits))
            plain = replace(v, dims=dims, shape=exchanged(v.shape, dim, last - first))
            return self._sliced(plain, dim, range(places.start - first, places.stop - first), shape, name)
        if places.stop > first and places.start < last:
            raise RefusedError("it takes extra tokens together with some positions")
        # The tokens themselves: values without a lattice that have attended to the positions.
        channels = self._channels(v) * len(places)
        query = self._emit(f"{name}:token", ir.Source("constant"), (), channels, ())
        op = ir.Attention(len(places), 1.0, cross=True)
        node = self._emit(name, op, (query, v.node, v.node), channels, ())
        if any(each.axes for i, each in enumerate(v.dims) if i != dim):
            raise RefusedError("its extra tokens differ from position to position")
        return Value(shape, node, exchanged(v.dims, dim, Dim.through(CHANNEL, len(places), self._channels(v))))

    def concat(self, values: Sequence[Value], dim: int, *, name: str) -> Value:
        """Concatenation along a dimension."""
        dim %= len(values[0].shape)
        values = [v for v in values if v.shape[dim]] or list(values)
        if len(values) == 1:
            return values[0]
        name = self._unique(name)
        shape = exchanged(values[0].shape, dim, sum(v.shape[dim] for v in values))
        return self._try("concat", name, values, shape, lambda: self._concat(values, dim, shape, name))

    def _concat(self, values: Sequence[Value], dim: int, shape: Shape, name: str) -> Value:
        """Channels after channels, samples after samples, or positions beside positions."""
        if all(v.is_constant for v in values):
            name = next(v.weight.name for v in values if v.weight is not None)
            return Value(shape, weight=combined(name, values, shape, lambda *arrays: np.concatenate(arrays, dim)))
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
        return Value(shape, node, exchanged(layout, dim, Dim.through(CHANNEL, count, rest)))

    def _like(self, v: Value, model: Value, dim: int) -> Value:
        """A constant as a source whose dimensions play the roles of another value's."""
        assert v.weight is not None
        rank = len(v.shape)
        if any(v.shape[i] > 1 and (not d.plain or d.of(BATCH)) for i, d in enumerate(model.dims) if i != dim):
            raise RefusedError("a constant differs from sample to sample")
        axes = [i for i in range(rank) if i != dim and v.shape[i] > 1 and model.dims[i].axes]
        if any(len(model.dims[i].digits) != 1 for i in axes):
            raise RefusedError("a constant runs through merged axes")
        uniform = self._uniform_over(v, axes)
        thin, axes = (v, axes) if uniform is None else (uniform, [])
        channel = [i for i in range(rank) if i not in axes and thin.shape[i] > 1]
        order = [dim] + [i for i in channel if i != dim] if dim not in axes else channel
        channels = prod(thin.shape[i] for i in order)
        by_axis = sorted(axes, key=lambda i: model.dims[i].digits[0].kind)
        sizes = tuple(thin.shape[i] for i in by_axis)
        rest = [i for i in range(rank) if i not in order and i not in by_axis]
        shape = (channels, *sizes)
        weight = mapped(
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
                dims.append(Dim.through(CHANNEL, n, strides[i]))
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
        weight = mapped(v.weight, thin.shape, lambda a: a.reshape(v.shape)[tuple(slice(0, m) for m in thin.shape)])
        return Value(thin.shape, weight=weight)

    def _more_samples(self, values: Sequence[Value], dim: int, shape: Shape) -> Value:
        """One field several times in a batch."""
        if any(v.is_constant or v.node != values[0].node for v in values):
            raise RefusedError("different fields become samples of one batch")
        first = values[0]
        return replace(first, shape=shape, dims=exchanged(first.dims, dim, Dim.through(BATCH, shape[dim])))

    def _beside(self, values: Sequence[Value], dim: int, shape: Shape, name: str) -> Value:
        """Concatenation along positions: padding that is written out, or extra tokens; nothing else is a field."""
        written = self._written_roll(values, dim, shape, name) or self._written_padding(values, dim, shape, name)
        if written is not None:
            return written
        fields = [i for i, v in enumerate(values) if not v.is_constant and v.dims[dim].axes]
        if len(fields) != 1:
            raise RefusedError("it puts fields side by side")
        core = self._forced(values[fields[0]])
        others = [v for i, v in enumerate(values) if i != fields[0]]
        if any(not v.is_constant and self._sizes(v) for v in others):
            raise RefusedError("it puts fields side by side")
        if any(d.kind == CHANNEL for d in core.dims[dim].digits):
            core = self._regular(core)
        this = core.dims[dim]
        if len(this.digits) == 1 and any(
            len(d.digits) and i > 1 and d.axes for i, d in enumerate(core.dims) if i != dim
        ):
            raise RefusedError("it puts a constant beside a field")
        before = sum(v.shape[dim] for v in values[: fields[0]])
        after = sum(v.shape[dim] for v in values[fields[0] + 1 :])
        kept = Dim(this.digits, this.before + before, this.after + after)
        node = core.node
        if node in self._origins:  # tokens are tokens: the roles of the input's dimensions are settled by this
            node = self._emit(name, ir.Pointwise("identity"), (node,), self._channels(core), self._sizes(core))
            self._keep_origin(node, core.node)
        return replace(core, node=node, shape=shape, dims=exchanged(core.dims, dim, kept))

    def _written_roll(self, values: Sequence[Value], dim: int, shape: Shape, name: str) -> Value | None:
        """``cat([x[k:], x[:k]])``: a cyclic shift, as exporters write it."""
        if len(values) != 2 or any(v.is_constant or v.scores is not None for v in values):
            return None
        nodes = [self.nodes[v.node] for v in values]
        digits = values[0].dims[dim].digits
        if len(digits) != 1 or not values[0].dims[dim].plain or digits[0].kind < 0:
            return None
        axis = digits[0].kind
        back, front = nodes
        if not (isinstance(back.op, ir.Slice) and isinstance(front.op, ir.Slice) and back.inputs == front.inputs):
            return None
        whole = self.nodes[back.inputs[0]]
        only_here = all(
            step == 1 and (a == axis or (start == 0 and size == full))
            for node in nodes
            for a, (start, step, size, full) in enumerate(
                zip(node.op.start, node.op.step, node.sizes, whole.sizes, strict=True)  # type: ignore[attr-defined]
            )
        )
        cut = back.op.start[axis]
        if not only_here or (front.op.start[axis], front.sizes[axis], back.sizes[axis]) != (
            0,
            cut,
            whole.sizes[axis] - cut,
        ):
            return None
        total = replace(digits[0], size=whole.sizes[axis])
        dims = exchanged(values[0].dims, dim, Dim((total,)))
        x = replace(values[0], node=back.inputs[0], shape=shape, dims=dims)
        return self.roll(x, [-cut], [dim], name=name)

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
            value = numbers.pop()
            if numbers or value != value:  # several numbers, or not a number
                return None
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

    def _aligned(self, values: Sequence[Value], skip: int = -1) -> tuple[list[Value], tuple[Dim, ...]]:
        """Fields of equal shape in one common form, and the layout of what joins them.

        The dimension ``skip`` may differ. Values without any lattice stay so; others get the axes that they lack.
        """
        rank = len(values[0].shape)
        first = values[0]
        if skip < 0 and all(
            v.dims == first.dims and self._sizes(v) == self._sizes(first) and self._channels(v) == self._channels(first)
            for v in values
        ):
            return list(values), first.dims
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
                        raise RefusedError("extra tokens stand beside the positions of one input only")
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
                        raise RefusedError("its inputs cut their axes differently")
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
                            raise RefusedError("its inputs are transposed against each other")
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
                    raise RefusedError("its inputs have positions where others have channels or samples")
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
        weight = literal("repeat", lambda: (flat[:, None] == np.arange(total)).astype(np.float32), (channels, total))
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
            raise RefusedError("its inputs have different axes")
        if present != sorted(present):
            raise RefusedError("its inputs are transposed against each other")
        if loose:
            kept = [n for a, n in enumerate(own) if a not in loose]
            node = self._emit(self._after(v, "flatten"), ir.Flatten(tuple(loose)), (v.node,), self._channels(v), kept)
            v = replace(v, node=node)
        if not present or len(present) == len(axes):
            return v
        new = tuple(i for i, a in enumerate(axes) if a < 0)
        node = self._emit(self._after(v, "broadcast"), ir.Broadcast(new), (v.node,), self._channels(v), sizes)
        return replace(v, node=node)


def _whole_rows(dim: Dim, places: range) -> bool:
    """Whether places of a merged dimension begin and end where its outer digit does."""
    row = dim.size // dim.digits[0].size
    return not (places.start % row or len(places) % row)
