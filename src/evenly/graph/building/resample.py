"""Other positions: interpolation, pooling, folding, warping, padding, and the shuffles between channels and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor, prod
from typing import Any, Literal

import numpy as np

from evenly.graph import ir
from evenly.graph.building.convolution import Convolution
from evenly.graph.building.forms import covered
from evenly.graph.building.state import RefusedError, exchanged
from evenly.graph.building.values import Pair, Shape, Value
from evenly.graph.ir import AxisResize, Op
from evenly.graph.layout import CHANNEL, Digit, Dim, LayoutError

__all__ = ["Resampling"]


class Resampling(Convolution):
    """Operations that change the sizes of axes."""

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
            return self._resampled(v, name, ir.Resize(per_axis, mode), lattice, shape)

        return self._try("interpolate", name, [x], shape, act)

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
        """Pooling of the last dimensions over windows; a window of one position is nothing."""
        if not x.is_constant and set(kernel) == set(stride) == {1} and not any(map(any, padding)):
            return x
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
            windows = self._windows(v, lattice, kernel, stride, padding, dilation)
            op = ir.Pool(kind, *windows, count_include_pad)
            return self._resampled(v, name, op, lattice, shape)

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
            return self._resampled(v, name, op, lattice, shape)

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
        grid = covered(out_sizes, kernel, stride, padding, dilation)

        def act() -> Value:
            lattice = list(range(2, 2 + len(grid)))
            v = self.reshape(self._data(x, 1), (*x.shape[:2], *grid))
            v = self._settled(self._formed(v, 1, lattice))
            op = ir.Fold(*self._windows(v, lattice, kernel, stride, padding, dilation))
            return self._resampled(v, name, op, lattice, shape, channel=1)

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
        grid = covered(x.shape[2:], kernel, stride, padding, dilation)
        channels = x.shape[1] * prod(kernel)

        def act() -> Value:
            lattice = list(range(2, len(x.shape)))
            v = self._settled(self._formed(x, 1, lattice))
            full = (x.shape[0], channels, *grid)
            op = ir.Unfold(*self._windows(v, lattice, kernel, stride, padding, dilation))
            y = self._resampled(v, name, op, lattice, full, channel=1)
            return self.reshape(y, (x.shape[0], channels, prod(grid)))

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
                raise RefusedError("it reads a transposed field")
            node = self._emit(name, ir.Warp(mode), (v.node, *extra), self._channels(v), shape[2:])
            return self._on_axes(v, node, lattice, shape)

        return self._try("grid_sample", name, [x, grid], shape, act)

    def _dependency(self, v: Value, channel: int) -> int:
        """The node of a value that decides where another one is read: its own layout does not matter."""
        try:
            return self._formed(v, channel, groups=True).node
        except (RefusedError, LayoutError):
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
                    raise RefusedError("it crops a constant")
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
                    raise RefusedError("it pads channels with values")
                n = v.shape[d]
                indices = [-1] * lo + list(range(max(0, -lo), n + min(0, hi))) + [-1] * hi
                v = self._selected(v, d, indices, name)
            lattice = [d for d in touched if d not in channel]
            if not lattice:
                return v
            v = self._settled(self._axes_only(v, lattice))
            padding = self._per_axis(v, lattice, [pads_per_dim[d] for d in lattice], (0, 0))
            full = tuple(shape[d] if d in lattice else v.shape[d] for d in range(len(shape)))
            y = self._resampled(v, name, ir.Pad(padding, mode, value), lattice, full)
            self._keep_origin(y.node, v.node)
            return y

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
                raise RefusedError("it shuffles into a transposed field")
            op = ir.PixelShuffle(per_axis, "pixel_shuffle")
            return self._resampled(v, name, op, lattice, shape, channel=channel)

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
                raise RefusedError("it reads a transposed field")
            op = ir.PixelUnshuffle(self._per_axis(v, lattice, factor, 1))
            return self._resampled(v, name, op, lattice, shape, channel=first - 1)

        return self._try("pixel_unshuffle", name, [x], shape, act)

    def _axes_only(self, v: Value, lattice: Sequence[int]) -> Value:
        """Every one of these dimensions as one whole axis; channels may stand anywhere."""
        return self._with_axes(self._out_of_channels(v, None, lattice), lattice)

    def _resampled(
        self, v: Value, name: str, op: Op, lattice: Sequence[int], shape: Shape, channel: int | None = None
    ) -> Value:
        """A node that gives some axes new sizes; with ``channel`` that dimension becomes all channels."""
        sizes = list(self._sizes(v))
        for d in lattice:
            sizes[v.dims[d].digits[0].kind] = shape[d]
        channels = self._channels(v) if channel is None else shape[channel]
        y = self._on_axes(v, self._emit(name, op, (v.node,), channels, sizes), lattice, shape)
        return y if channel is None else replace(y, dims=exchanged(y.dims, channel, Dim.through(CHANNEL, channels)))

    def _on_axes(self, v: Value, node: int, lattice: Sequence[int], shape: Shape) -> Value:
        """The same layout with new sizes of some axes."""
        changed = {v.dims[d].digits[0].kind for d in lattice if self._sizes(v)[v.dims[d].digits[0].kind] != shape[d]}
        for i, dim in enumerate(v.dims):
            if i not in lattice and any(d.kind in changed for d in dim.axes):
                raise RefusedError("its positions are cut into blocks")
        dims = [Dim((Digit(dim.digits[0].kind, shape[i]),)) if i in lattice else dim for i, dim in enumerate(v.dims)]
        return Value(tuple(shape), node, tuple(dims))
