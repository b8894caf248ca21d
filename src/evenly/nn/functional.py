"""Resize-convolution as a function, in its three forms.

- ``plain``: interpolate, pad, convolve, as the article writes it (Odena, Dumoulin & Olah 2016).
- ``folded``: one transposed convolution with the folded kernel (`evenly.nn._fold`).
- ``differences``: products with differences of the input only (`evenly.nn._differences`).

All three are the same function of input, weight and bias, borders included. The last two interpolate by nearest
neighbour; every other mode is that followed by a fixed smoothing filter (`evenly.nn.resampling`), and a filter that is
equal for all channels may as well run after the convolution, where it costs one depthwise convolution. Where the
border is such that this does not hold, the outputs near it are computed plainly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from evenly.nn._arguments import choice, integers, pairs, refuse, scales
from evenly.nn._choice import choose
from evenly.nn._differences import by_differences
from evenly.nn._fold import Axis, fold_matrix, fold_weight, folded
from evenly.nn._layout import is_autocast, is_channels_last, is_traced, is_transformed, to_first, to_last
from evenly.nn.resampling import Kernel, extend, fir_upsample, interpolation_kernel, parse_mode, resize

__all__ = ["IMPLEMENTATIONS", "PADDING_MODES", "Plan", "resize_conv"]

IMPLEMENTATIONS = ("auto", "plain", "folded", "differences")
PADDING_MODES = ("zeros", "replicate", "reflect", "circular")
_NEAREST_1 = Kernel(1, (1.0,), 0)


class Plan:
    """All of a resize-convolution but its tensors, checked once.

    Attributes:
        dims: Spatial axes, 1 to 3.
        scale_factor: Per axis; whole numbers are integers.
        mode: Of the interpolation.
        kernel_size: Of the convolution, per axis.
        pad: Samples (before, after) per axis, added after the interpolation; negative ones crop.
        padding_mode: What they hold.
        dilation: Per axis.
        groups: Of the convolution.
        foldable: Whether there are other ways than the plain one: all factors are whole.
        axes: If so, the geometry per axis.
        nearest_axes: The same for the nearest-neighbour part of the interpolation.
        fold: The matrix of `evenly.nn._fold.fold_matrix` for them.
        smoothing: The rest of the interpolation, (*taps), in the order of a correlation.
        extension: How the input continues beyond its border in the other ways.
        strips: How many outputs at both ends of each axis they leave to the plain one.
    """

    def __init__(
        self,
        dims: int,
        scale_factor: float | Sequence[float],
        mode: str,
        kernel_size: Sequence[int],
        padding: int | Sequence[int | Sequence[int]] | None,
        padding_mode: str,
        dilation: int | Sequence[int],
        groups: int,
    ) -> None:
        self.dims = dims
        self.scale_factor = scales("scale_factor", scale_factor, dims)
        self.mode = mode
        self.kernel_size = tuple(kernel_size)
        self.dilation = integers("dilation", dilation, dims)
        self.groups = groups
        self.padding_mode = choice("padding_mode", padding_mode, PADDING_MODES)
        if padding is None:
            self.pad: tuple[tuple[int, int], ...] = tuple(
                (d * (k - 1) // 2, d * (k - 1) // 2) for k, d in zip(self.kernel_size, self.dilation, strict=True)
            )
        else:
            self.pad = pairs("padding", padding, dims)
        name, taps = parse_mode(mode, dims)
        whole = [s for s in self.scale_factor if isinstance(s, int)]
        self.foldable = len(whole) == dims
        if name == "fir" and not self.foldable:
            refuse("scale_factor", scale_factor, f"whole numbers with mode '{mode}'", "use mode='linear'")
        self._kernels = tuple(interpolation_kernel(name, s, taps) if s > 1 else _NEAREST_1 for s in whole)
        self.nearest = name.startswith("nearest")
        # The border of the interpolated signal is that of the input, continued, in these cases; in all others the
        # outputs whose window leaves the signal are computed plainly.
        self.extension = self.padding_mode if self.nearest and self.padding_mode != "reflect" else "replicate"
        exact = self.extension == self.padding_mode and (self.nearest or name == "linear")
        if self.padding_mode == "circular" and not exact:  # each end would need the other
            self.foldable = False
        self.axes = self._axes() if self.foldable else ()
        self.nearest_axes = self._nearest_axes()
        # Tensors, made once: a tracer takes them as constants.
        self.fold = fold_matrix(self.nearest_axes)
        self.smoothing = torch.tensor(self._smoothing(), device="cpu")
        self.strips = tuple((0, 0) if exact else (max(low, 0), max(high, 0)) for low, high in self.pad)

    def _axes(self) -> tuple[Axis, ...]:
        """The geometry with the whole interpolation in the kernel."""
        geometry = zip(self._kernels, self.kernel_size, self.dilation, self.pad, strict=True)
        return tuple(Axis(h, k, d, p) for h, k, d, p in geometry)

    def _nearest_axes(self) -> tuple[Axis, ...]:
        """The geometry of the nearest-neighbour part, with as many more outputs as the smoothing needs."""
        found = []
        for axis in self.axes:
            more, after = len(axis.kernel.smoothing) - 1, axis.kernel.origin
            pad = (axis.pad[0] + more - after, axis.pad[1] + after)
            nearest = interpolation_kernel("nearest", axis.kernel.scale)
            found.append(Axis(nearest, axis.size, axis.dilation, pad))
        return tuple(found)

    def _smoothing(self) -> NDArray[np.float64]:
        """The smoothing filter of all axes, (*taps), in the order of a correlation."""
        joint = np.ones(())
        for axis in self.axes:
            joint = np.multiply.outer(joint, np.array(axis.kernel.smoothing[::-1]))
        return joint

    def interpolate(self, x: Tensor) -> Tensor:
        """``x`` interpolated."""
        if self.mode.startswith("fir"):
            return fir_upsample(x, self._kernels)
        return resize(x, self.scale_factor, self.mode)

    def check_input(self, x: Tensor, in_channels: int) -> None:
        """Refuse an input that has another form, or is too small.

        Raises:
            ParameterError: in words of the layer's arguments.
        """
        if x.dim() != self.dims + 2 or x.shape[1] != in_channels:
            refuse(
                "the input's shape", tuple(x.shape), f"(N, {in_channels}, and {self.dims} spatial axes)",
                f"give inputs with as many channels as in_channels (={in_channels})",
            )  # fmt: skip
        if is_traced():  # sizes may be symbols
            return
        sizes = tuple(int(n * s) for n, s in zip(x.shape[2:], self.scale_factor, strict=True))
        if min(sizes) < 1:
            refuse(
                "the input's size", tuple(x.shape[2:]), f"at least 1 after scale_factor (={self.scale_factor})",
                "give a larger input",
            )  # fmt: skip
        out = self.output_size(x.shape[2:])
        if min(out) < 1:
            refuse(
                "the input's size", tuple(x.shape[2:]),
                f"large enough for kernel_size (={self.kernel_size}), padding (={self.pad}): the output would be {out}",
                "give a larger input or more padding",
            )  # fmt: skip
        most = {"reflect": -1, "circular": 0}.get(self.padding_mode)
        if most is not None and any(max(p) > n + most for p, n in zip(self.pad, sizes, strict=True)):
            refuse(
                "the input's size", tuple(x.shape[2:]),
                f"large enough for padding (={self.pad}) with padding_mode='{self.padding_mode}'",
                "give a larger input, less padding, or padding_mode='replicate'",
            )  # fmt: skip

    def output_size(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The output's spatial sizes."""
        return tuple(
            int(n * s) + low + high - d * (k - 1)
            for n, s, (low, high), d, k in zip(
                sizes, self.scale_factor, self.pad, self.dilation, self.kernel_size, strict=True
            )
        )

    def covers(self, sizes: Sequence[int]) -> bool:
        """Whether inputs of these sizes are long enough for the other ways: a circle may be gone round once."""
        if self.extension != "circular":
            return True
        return all(
            n > (max(p) + a.taps) // a.kernel.scale + 1 for n, p, a in zip(sizes, self.pad, self.axes, strict=True)
        )

    def allows(self, implementation: str) -> bool:
        """Whether an implementation exists for this plan."""
        if implementation == "differences":
            return self.foldable and self.groups == 1 and all(d == 1 for d in self.dilation)
        return implementation == "plain" or self.foldable


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
    function = (F.conv1d, F.conv2d, F.conv3d)[plan.dims - 1]
    low_equal = all(low == high >= 0 for low, high in plan.pad)
    if plan.padding_mode == "zeros" and low_equal:
        return function(x, weight, bias, 1, [low for low, _ in plan.pad], plan.dilation, plan.groups)
    return function(extend(x, plan.pad, plan.padding_mode), weight, bias, 1, 0, plan.dilation, plan.groups)


def plain(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
    """Interpolate, pad, convolve."""
    return _convolve(plan.interpolate(x), weight, bias, plan)


def fast(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, implementation: str) -> Tensor:
    """The layer by one of the two other ways."""
    axes = plan.nearest_axes
    if implementation == "differences":
        y = by_differences(x, weight, bias, axes, plan.extension)
    else:
        y = folded(x, fold_weight(weight, axes, plan.groups, plan.fold), bias, axes, plan.groups, plan.extension)
    if not plan.nearest:
        y = _smooth(y, plan)
    return _borders(y, x, weight, bias, plan)


def _smooth(y: Tensor, plan: Plan) -> Tensor:
    """The smoothing part of the interpolation, on the convolution's output: the two commute."""
    kernel = plan.smoothing.to(y)
    channels = y.shape[1]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[plan.dims - 1]
    return convolve(y, kernel.expand(channels, 1, *kernel.shape), groups=channels)


def _borders(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
    """``y`` with the outputs whose window leaves the interpolated signal computed plainly."""
    function = (F.conv1d, F.conv2d, F.conv3d)[plan.dims - 1]
    for axis in range(plan.dims):
        places, windows = [], []
        for side in (0, 1):
            size = y.shape[2 + axis]
            width = min(plan.strips[axis][side], size)
            if width:
                places.append(y.narrow(2 + axis, 0 if side == 0 else size - width, width))
                windows.append(_window(x, plan, axis, side, width))
        if len(places) == 2 and places[0].shape == places[1].shape:  # one call for both ends
            both = function(_as_stored(torch.cat(windows), x), weight, bias, 1, 0, plan.dilation, plan.groups)
            results = list(both.chunk(2))
        else:
            results = [function(_as_stored(v, x), weight, bias, 1, 0, plan.dilation, plan.groups) for v in windows]
        for place, result in zip(places, results, strict=True):
            place.copy_(result)
    return y


def _as_stored(y: Tensor, x: Tensor) -> Tensor:
    """``y`` channels last if ``x`` is: a window of it may have lost that, and with it the fast convolutions."""
    return to_last(y).movedim(-1, 1) if is_channels_last(x) else y


def _window(x: Tensor, plan: Plan, axis: int, side: int, width: int) -> Tensor:
    """What the first (side 0) or last ``width`` outputs along ``axis`` read, from the inputs near that end only."""
    dim, geometry = 2 + axis, plan.axes[axis]
    length, s = x.shape[dim], geometry.kernel.scale
    window = geometry.dilation * (geometry.size - 1)
    inside = max(window + width - geometry.pad[side], geometry.pad[side] + 1)  # interpolated samples to be right
    near = min(length, -(-(inside + len(geometry.kernel.taps)) // s) + 1)
    part = plan.interpolate(x.narrow(dim, 0 if side == 0 else length - near, near))
    pad = list(plan.pad)
    if near < length:
        pad[axis] = (geometry.pad[0], 0) if side == 0 else (0, geometry.pad[1])
    part = extend(part, pad, plan.padding_mode)
    return part.narrow(dim, 0 if side == 0 else part.shape[dim] - window - width, window + width)


def run(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, implementation: str) -> Tensor:
    """The layer by one implementation; the memory format stays that of the input."""
    if implementation == "plain" or x.numel() == 0 or not plan.covers(x.shape[2:]):
        return plain(x, weight, bias, plan)
    known_operators = is_traced() or is_transformed()
    if implementation == "differences" and (is_autocast(x) or known_operators):
        implementation = "folded"
    if known_operators or x.device.type != "cpu":
        return fast(x, weight, bias, plan, implementation)
    last = is_channels_last(x)
    if last or (plan.dims == 1 and implementation == "folded"):
        y = fast(x, weight, bias, plan, implementation)
        return y.movedim(1, -1).contiguous().movedim(-1, 1) if last else y.contiguous()
    y = fast(to_last(x).movedim(-1, 1), weight, bias, plan, implementation)
    return to_first(y.movedim(1, -1).contiguous())


def resize_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    scale_factor: float | Sequence[float] = 2,
    mode: str = "nearest",
    padding: int | Sequence[int | Sequence[int]] | None = None,
    padding_mode: str = "zeros",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    implementation: str = "auto",
) -> Tensor:
    """Interpolate, pad, convolve (Odena, Dumoulin & Olah 2016), by the fastest way that is known.

    Args:
        x: (N, C_in, *spatial), 1 to 3 spatial axes, any floating dtype.
        weight: (C_out, C_in / groups, *k).
        bias: (C_out,) or None.
        scale_factor: Of the interpolation; one number or one per axis.
        mode: ``"nearest"``, ``"nearest-exact"``, ``"linear"`` (or its names ``"bilinear"``, ``"trilinear"``),
            ``"bicubic"`` or ``"fir:1,3,3,1"`` with any taps whose phases have equal sums.
        padding: Samples added after the interpolation: a number, one per axis, or a pair (before, after) per axis;
            negative ones crop. By default ``dilation * (k - 1) // 2``.
        padding_mode: ``"zeros"``, ``"replicate"``, ``"reflect"`` or ``"circular"``.
        dilation: Of the convolution.
        groups: Of the convolution.
        implementation: ``"auto"``, ``"plain"``, ``"folded"`` or ``"differences"``.

    Returns:
        (N, C_out, *sizes), exactly that of ``F.interpolate``, ``F.pad`` and ``F.convNd``.

    Raises:
        ParameterError: for an argument out of range, or an implementation that these arguments do not allow.
    """
    if x.dim() not in (3, 4, 5):
        refuse("x's shape", tuple(x.shape), "(N, C_in, and 1 to 3 spatial axes)", "add or remove axes")
    if weight.dim() != x.dim() or weight.shape[0] % groups or weight.shape[1] * groups != x.shape[1]:
        refuse(
            "weight's shape", tuple(weight.shape), f"(C_out, {x.shape[1]} / groups, and {x.dim() - 2} kernel axes)",
            f"check it against x's shape (={tuple(x.shape)}) and groups (={groups})",
        )  # fmt: skip
    plan = Plan(x.dim() - 2, scale_factor, mode, weight.shape[2:], padding, padding_mode, dilation, groups)
    check_implementation(plan, implementation)
    plan.check_input(x, weight.shape[1] * groups)
    if implementation == "auto":
        implementation = choose(x, weight, plan)
    return run(x, weight, bias, plan, implementation)


def check_implementation(plan: Plan, implementation: str) -> None:
    """Refuse an implementation that does not exist for the plan."""
    choice("implementation", implementation, IMPLEMENTATIONS)
    if implementation != "auto" and not plan.allows(implementation):
        needs = "whole scale factors; circular padding with nearest neighbour only"
        if implementation == "differences":
            needs += "; dilation 1 and groups 1"
        refuse("implementation", implementation, f"one that exists here ({needs})", "use implementation='auto'")
