"""Matrix products: linear layers, attention, Einstein sums."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from evenly.graph import ir
from evenly.graph.building.state import RefusedError
from evenly.graph.building.statistics import Statistics
from evenly.graph.building.values import Scores, Shape, Value, combined, mapped, reshaped
from evenly.graph.ir import Op, Weight
from evenly.graph.layout import BATCH, CHANNEL, SPREAD, Dim, rescaled

__all__ = ["Products"]


class Products(Statistics):
    """Operations that sum over products."""

    def linear(self, x: Value, weight: Weight, bias: Weight | None, *, name: str) -> Value:
        """The last dimension times ``weight`` ``(C_out, C_in)`` transposed."""
        name = self._unique(name)
        shape = (*x.shape[:-1], weight.shape[0])
        return self._try("linear", name, [x], shape, lambda: self._linear(x, weight, bias, name, shape))

    def _linear(self, x: Value, weight: Weight, bias: Weight | None, name: str, shape: Shape) -> Value:
        """One matrix for every position; for every group where channels stand in other dimensions."""
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
            w = mapped(
                weight_seen,
                (c_out * count, c_in, *ones),
                lambda a: np.concatenate([a] * count).reshape(-1, c_in, *ones),
            )
            b = None if bias is None else mapped(bias, (c_out * count,), lambda a: np.concatenate([a] * count))
            zeros = ((0, 0),) * len(ones)
            op = ir.Conv(ones, ones, zeros, ones, count, c_in * count, c_out * count, "zeros", w, b)
        else:
            op = ir.Linear(c_in, c_out, weight_seen, bias)
        node = self._emit(name, op, (v.node,), c_out * count, self._sizes(v))
        dims = [rescaled(dim, c_in, c_out) for dim in v.dims[:-1]]
        return Value(shape, node, (*dims, Dim.through(CHANNEL, c_out)))

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
        """A product of two matrices: a layer, attention, or scores that may become attention."""
        if a.is_constant and b.is_constant:
            return self._folded_matmul(a, b, shape)
        if b.is_constant and prod(b.shape[:-2]) == 1 and a.scores is None:
            assert b.weight is not None
            weight = mapped(b.weight, (b.shape[-1], b.shape[-2]), lambda w: w.reshape(b.shape[-2:]).T)
            return self._linear(self._expanded(a, (*shape[:-1], a.shape[-1])), weight, None, name, shape)
        if a.is_constant and prod(a.shape[:-2]) == 1 and b.scores is None:
            assert a.weight is not None
            turned = self._transposed(self._expanded(b, (*shape[:-2], *b.shape[-2:])))
            weight = reshaped(a.weight, a.shape[-2:])
            return self._transposed(self._linear(turned, weight, None, name, (*shape[:-2], shape[-1], shape[-2])))
        if a.scores is not None and a.scores.softmax:
            if not self._upright(a):
                raise RefusedError("attention weights are read across queries")
            s = a.scores
            return self._attention(s.query, s.key, b, s.scale, s.biased, name, shape)
        if b.scores is not None and b.scores.softmax:
            if self._upright(b) and b.shape[-1] * b.shape[-2] > 1:
                raise RefusedError("attention weights are read across queries")
            s = b.scores
            turned_shape = (*shape[:-2], shape[-1], shape[-2])
            value = self._transposed(self._expanded(a, (*shape[:-2], *a.shape[-2:])))
            return self._transposed(self._attention(s.query, s.key, value, s.scale, s.biased, name, turned_shape))
        q = self._data(a, len(a.shape) - 1)
        k = self._data(b, len(b.shape) - 2)
        for v, place in ((q, -1), (k, -2)):
            if any(d.axis for d in v.dims[place].digits) or not v.dims[place].plain:
                for d in v.dims[place].axes:
                    self._relayout(v, d.kind, "channel")
                raise RefusedError("it sums over positions with weights from the data")
            if v.dims[place].of(BATCH):
                raise RefusedError("it sums over samples")
        q = self._expanded(q, (*shape[:-2], *q.shape[-2:]))
        k = self._expanded(k, (*shape[:-2], *k.shape[-2:]))
        return self._scores(Scores(q, self._transposed(k)))

    def _folded_matmul(self, a: Value, b: Value, shape: Shape) -> Value:
        """The product of two constants."""
        assert a.weight is not None
        return Value(shape, weight=combined(a.weight.name, (a, b), shape, np.matmul))

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
            raise RefusedError("its keys and values have different lengths")
        strays = self._channel_digits(q, [last])
        heads = prod(d.size for d in strays)
        if q.dims[-2].of(CHANNEL) or k.dims[-2].of(CHANNEL) or v.dims[-2].of(CHANNEL):
            raise RefusedError("it attends over channels")
        windowed = any(d.axis for dim in q.dims[:-2] for d in dim.digits) or any(
            d.size != self._sizes(q)[d.kind] for d in q.dims[-2].axes
        )
        contiguous = windowed and all(d.stride == 1 for d in q.dims[-2].axes)
        axes = range(len(self._sizes(q))) if contiguous else ()
        window = tuple(prod(d.size for d in q.dims[-2].axes if d.kind == axis) for axis in axes)
        cross = self._sizes(q) != self._sizes(k)
        c_v = v.shape[-1]
        groups_v = prod(d.size for d in self._channel_digits(v, [last]))
        groups = max(heads, groups_v)
        op = ir.Attention(groups, scale, biased, windowed, window, cross)
        node = self._emit(name, op, (q.node, k.node, v.node), groups * c_v, self._sizes(q))
        dims = [rescaled(dim, self._channels(q) // heads, c_v) for dim in q.dims[:-1]]
        if heads < groups_v:  # one query for several groups of values: the groups are those of the values
            for i, (dim, own) in enumerate(zip(q.dims[:-1], v.dims[:-1], strict=True)):
                if dim.of(SPREAD) and own.of(CHANNEL):
                    dims[i] = rescaled(replace(dim, digits=own.digits), self._channels(v) // groups_v, c_v)
        return Value(shape, node, (*dims, Dim.through(CHANNEL, c_v)))

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
                raise RefusedError(f"einsum {equation!r} has no entry")
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
