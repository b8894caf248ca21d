"""Over channels and positions: reductions, softmax, normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Literal

import numpy as np

from evenly.graph import ir
from evenly.graph.building.elementwise import Elementwise
from evenly.graph.building.state import Origin, RefusedError
from evenly.graph.building.values import Array, Shape, Value, literal, mapped, reshaped
from evenly.graph.ir import Weight
from evenly.graph.layout import BATCH, CHANNEL, SPREAD, Digit, Dim

__all__ = ["Statistics"]


_EXACT_REDUCTIONS = {"mean": "average", "max": "max"}


class Statistics(Elementwise):
    """Operations that take means, sums and extremes."""

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
        """A reduction that keeps its dimensions, with size 1."""
        if x.is_constant:
            function = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod}.get(kind)
            if function is None:
                raise RefusedError("it reduces a constant")
            return self._folded(x, shape, lambda a: np.asarray(function(a, axis=gone, keepdims=True)))  # type: ignore[operator]
        v = self._forced(x)
        for d in gone:
            # Extra tokens count among the positions; the result is a global value either way.
            if v.dims[d].of(BATCH):
                raise RefusedError("it reduces over samples")
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
                self._origins[node] = Origin(origin.index, kinds)
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
                raise RefusedError("it reduces over some positions of every axis")
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
            raise RefusedError(f"it takes the {kind} over part of the channels")
        own = [e for d in gone for e in v.dims[d].of(CHANNEL)]
        others = self._channel_digits(v, gone)
        v = self._ordered(v, [*own, *others])
        count, rest = prod(e.size for e in own), prod(e.size for e in others)
        factor = 1 / count if kind == "mean" else 1.0
        weight = literal(
            name, lambda: np.tile(np.eye(rest, dtype=np.float32) * factor, (1, count)), (rest, rest * count)
        )
        node = self._emit(name, ir.Linear(rest * count, rest, weight), (v.node,), rest, self._sizes(v))
        dims = [
            replace(dim, digits=tuple(e for e in dim.digits if e.kind != CHANNEL)) if i in gone else dim
            for i, dim in enumerate(v.dims)
        ]
        return replace(v, node=node, dims=tuple(dims), shape=tuple(d.size for d in dims))

    def softmax(self, x: Value, dim: int, *, name: str) -> Value:
        """Softmax over one dimension."""
        name = self._unique(name)
        return self._try("softmax", name, [x], x.shape, lambda: self._softmax(x, dim % len(x.shape), name))

    def _softmax(self, x: Value, dim: int, name: str) -> Value:
        """Softmax of scores makes them attention weights; over channels it normalises."""
        if x.is_constant:
            return self._folded(x, x.shape, lambda a: softmaxed(a, dim))
        if x.scores is not None:
            if dim != len(x.shape) - (1 if self._upright(x) else 2):
                raise RefusedError("it normalises attention over queries")
            return replace(x, scores=replace(x.scores, softmax=True))
        if x.dims[dim].axes:
            self._relayout(x, x.dims[dim].axes[0].kind, "channel")
            raise RefusedError("it normalises over positions")
        v = self._formed(x, dim, groups=True)
        count = prod(d.size for d in self._channel_digits(v, [dim]))
        return self._same(v, name, ir.Normalize("softmax", groups=count, eps=0.0))

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
        """The kinds of normalisation as what their statistics run over in the field."""
        weight, bias = self._visible(weight), self._visible(bias)
        rank = len(x.shape)
        if kind in ("instance", "group"):
            return self._by_channel(x, kind, groups, dims, eps, weight, bias, name)
        over = (rank - 1,) if dims is None else tuple(sorted(d % rank for d in dims))
        v = self._data(x, over[-1])
        positions = [e for d in over for e in v.dims[d].axes]
        strays = [e for i, dim in enumerate(v.dims) if i not in over for e in dim.of(CHANNEL)]
        if positions:
            if strays or not any(v.dims[d].of(CHANNEL) for d in over):
                for e in positions:
                    self._relayout(v, e.kind, "channel")
                raise RefusedError("it normalises along some positions only")
            if kind != "layer":
                raise RefusedError("it divides by the energy over positions")
            y = self._same(v, name, ir.Normalize("group", 1, eps))
            for join, parameter in (("mul", weight), ("add", bias)):
                if parameter is not None:
                    shape = tuple(x.shape[d] if d in over else 1 for d in range(over[0], rank))
                    constant = Value(shape, weight=reshaped(parameter, shape))
                    y = self._with_constant(join, y, constant, False, f"{name}:{join}")
            return y
        own = [e for d in over for e in v.dims[d].of(CHANNEL)]
        if any(v.dims[d].of(BATCH) for d in over):
            self._relayout(v, BATCH, "channel")
            raise RefusedError("it normalises over samples")
        if len(over) == 1:
            v = self._formed(v, over[0], groups=True)
            strays = self._channel_digits(v, over)
        else:
            v = self._ordered(v, [*strays, *own])
        count = prod(e.size for e in strays)
        if count > 1:
            weight, bias = (
                None if t is None else mapped(t, (self._channels(v),), lambda a: np.tile(a.reshape(-1), count))
                for t in (weight, bias)
            )
        else:
            weight, bias = (None if t is None else reshaped(t, (prod(t.shape),)) for t in (weight, bias))
        return self._same(v, name, ir.Normalize(kind, count, eps, weight, bias))  # type: ignore[arg-type]

    def _by_channel(
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
        """Statistics over positions and groups of channels, with one parameter per channel."""
        rank = len(x.shape)
        if kind == "group":
            v = self._channels_second(x)
        else:
            over = tuple(range(2, rank)) if dims is None else tuple(d % rank for d in dims)
            v = self._apart(self._forced(x), [1])
            if prod(self._sizes(v)) == 1 and any(v.dims[d].of(CHANNEL) for d in over) and len(over) > 1:
                v = self._channels_second(v)
            inner = [e for d in over for e in v.dims[d].of(CHANNEL)]
            if any(v.dims[d].of(BATCH) for d in over):
                raise RefusedError("its statistics are those of the batch")
            if not any(v.dims[d].axes for d in over) and self._origins.get(v.node) is not None and inner:
                self._relayout(v, CHANNEL, "lattice")
            outer = [e for i, dim in enumerate(v.dims) if i not in over for e in dim.of(CHANNEL)]
            v = self._ordered(v, [*outer, *inner])
            groups = prod(e.size for e in outer)
            if inner and (weight is not None or bias is not None):
                count = prod(e.size for e in inner)
                weight, bias = (
                    None if t is None else mapped(t, (groups * count,), lambda a: np.repeat(a.reshape(-1), count))
                    for t in (weight, bias)
                )
        form = "instance" if groups == self._channels(v) else "group"
        op = ir.Normalize(form, groups if form == "group" else 1, eps, weight, bias)  # type: ignore[arg-type]
        return self._same(v, name, op)


def softmaxed(a: Array, dim: int) -> Array:
    """Softmax of an array."""
    e = np.exp(a - a.max(axis=dim, keepdims=True))
    return np.asarray(e / e.sum(axis=dim, keepdims=True))
