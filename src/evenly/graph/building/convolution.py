"""Convolutions and transposed convolutions, with the same kernel for every group of channels that stands elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from evenly.graph import ir
from evenly.graph.building.forms import Forms, covered
from evenly.graph.building.state import RefusedError
from evenly.graph.building.values import Pair, Shape, Value, mapped, reshaped
from evenly.graph.ir import Op, Weight
from evenly.graph.layout import BATCH, CHANNEL, Digit, Dim, joined, rescaled

__all__ = ["Convolution"]


class Convolution(Forms):
    """Layers that slide a kernel."""

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
        shape = (x.shape[0], weight.shape[0], *covered(x.shape[2:], weight.shape[2:], stride, padding, dilation))

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
        """The node of a convolution; ``make`` takes kernel, stride, padding, dilation, groups, weight and bias."""
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
            weight = reshaped(weight, (*weight.shape[:2], *(weight.shape[2 + i] for i in kept)))
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
            raise RefusedError(f"its weight {list(weight.shape)} does not fit {per_in} channels in {groups} groups")
        if count > 1:  # channels of their own in the batch: the same filter for every group
            weight = mapped(weight, (weight.shape[0] * count, *weight.shape[1:]), lambda w: np.concatenate([w] * count))
            if bias is not None:
                bias = mapped(bias, (per_out * count,), lambda b: np.concatenate([b.reshape(-1)] * count))
            groups *= count
        if loose:
            sizes = self._sizes(v)
            if groups == 1 and not transposed:
                flat = reshaped(weight, weight.shape[:2])
                op: Op = ir.Linear(per_in, per_out, flat, bias)
            else:
                weight = reshaped(weight, (*weight.shape[:2], *(1,) * len(sizes)))
                ones = (1,) * len(sizes)
                op = make(ones, ones, ((0, 0),) * len(sizes), ones, groups, weight, bias)
        else:
            weight = self._kernel(weight, v, lattice)
            windows = self._windows(v, lattice, kernel, stride, padding, dilation)
            op = make(*windows, groups, weight, bias)
            sizes = tuple(self._per_axis(v, lattice, [shape[d] for d in lattice], 0))
            sizes = tuple(new or old for new, old in zip(sizes, self._sizes(v), strict=True))
        node = self._emit(name, op, (v.node, *extra), per_out * count, sizes)
        dims = []
        for i, dim in enumerate(v.dims):
            if i == 1:
                dims.append(Dim.through(CHANNEL, per_out))
            elif i in lattice and not loose:
                dims.append(Dim((Digit(dim.digits[0].kind, shape[i]),)))
            else:
                dims.append(rescaled(dim, per_in, per_out))
        if lead is not None:
            samples = tuple(d for d in dims[0].digits if d != lead)
            dims[0], dims[1] = Dim(samples), Dim(joined([lead, *dims[1].digits]))
        return Value(shape, node, tuple(dims))

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
        return mapped(weight, shape, lambda w: w.transpose(order).reshape(shape))

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
