r"""Resampling by a fixed filter, whose gradient is as even as it says: FIR up-sampling and anti-aliased down-sampling.

**Two conditions.** A filter ``h`` followed by keeping every ``s``-th sample sends the gradient ``g`` of its output back
as ``q[m] = sum_i h[m - s i] g[i]``. Over the phases ``m mod s``

* the *mean* gradient (``g`` constant) is even iff the sums of ``h`` by phase are equal;
* the *squared* gradient (``g`` white) is even iff the sums of ``h^2`` by phase are equal.

``[1, 2, 1]`` at stride 2 meets the first only, ``[1, 3, 3, 1]`` both.

**The filter with a convolution.** With a convolution ``w`` of ``k`` taps on either side of the filter, position ``m``
gets ``sum_u w[u] q[m - u]``. Its mean is even for any weights. Its second moment is

    sum over u, v of w[u] w[v] R(m - u, m - v),        R(a, b) = E[q[a] q[b]] = sum_i h[a - s i] h[b - s i],

so that it is even *on average over independent zero-mean weights* iff ``R(a, a)`` is (the second condition), and for
*every* ``w`` iff ``R(a, a + l)`` does not depend on the phase of ``a`` for any lag ``l`` between two taps,
``l = 0, d, ..., d (k - 1)``. ``[1, 3, 3, 1]`` fails that at lag 1 (6 against 9). No filter of finite length meets it at
every lag: with ``w_j = exp(2 pi i j / s)`` it would say ``H(z) H(w_j / z) = 0`` for ``j = 1 .. s - 1``, and a product
of non-zero Laurent polynomials is not zero. `even_taps` meets it at all the lags of a given convolution. In several
dimensions the filter is a product over the axes, and so is ``R``.

**Borders.** The input is extended once, by the ``padding_mode``, and everything after is a valid convolution. Evenness
is a statement about the interior: within a filter's length of the border positions get more gradient (``"reflect"``,
``"replicate"``: the extension hands its gradient to them) or less (``"zeros"``).

Sources: Odena, Dumoulin & Olah 2016 (doi 10.23915/distill.00003); Zhang, "Making Convolutional Networks Shift-Invariant
Again" (arXiv 1904.11486); Karras et al., StyleGAN2 (arXiv 1912.04958) for the alignment.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from evenly.nn._arguments import channels, choice, integers, refuse
from evenly.nn.resampling import extend, interpolation_kernel
from evenly.theory.decimation import cell_extension, even_filter

__all__ = [
    "AntialiasedConv1d",
    "AntialiasedConv2d",
    "AntialiasedConv3d",
    "AntialiasedMaxPool1d",
    "AntialiasedMaxPool2d",
    "AntialiasedMaxPool3d",
    "BlurPool1d",
    "BlurPool2d",
    "BlurPool3d",
    "Conditions",
    "FIRUpsample1d",
    "FIRUpsample2d",
    "FIRUpsample3d",
    "even_taps",
]

Taps = Sequence[float] | Sequence[Sequence[float]]
Extent = Literal["always", "on average", "no"]

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX_POOL: tuple[Any, ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_EXTENSIONS = ("reflect", "replicate", "zeros", "circular")
_SMALLEST = {"reflect": 1, "circular": 0}
"""By how much an axis must be longer than its extension."""
_IMPLEMENTATIONS = ("auto", "blur_first", "folded", "conv_first")
_EVEN = 1e-6
"""Spread over phases, relative to the mean, up to which sums count as equal: taps may have been float32."""


@dataclass(frozen=True)
class Conditions:
    """Which evenness of the gradient at its input a whole layer has, in the interior.

    Attributes:
        mean: Whether the mean gradient is the same at every position, for the same gradient at every output.
        squared: Whether the expected squared gradient is, for white output gradients.
        over: What is averaged over where one of them holds ``"on average"`` only; empty otherwise.
    """

    mean: Extent
    squared: Extent
    over: str = ""

    def __str__(self) -> str:
        """In words, for ``extra_repr``."""
        return ", ".join(
            f"{name} gradient even: {value}" + (f" over {self.over}" if value == "on average" else "")
            for name, value in (("mean", self.mean), ("squared", self.squared))
        )


def even_taps(stride: int, reach: int = 2) -> tuple[float, ...]:
    """Low-pass taps whose decimation looks the same from every phase at every lag up to ``reach``.

    :func:`evenly.theory.decimation.even_filter` has the formula and its proof. ``even_taps(2, 2)`` is ``[1, 2, 2, 1] /
    6``, ``even_taps(2, 4)`` has the ratios ``1, 2 g, 2 g^2, 2 g^2, 2 g, 1`` with the golden ratio ``g``.

    Args:
        stride: The decimation ``s``.
        reach: The largest lag: ``dilation * (kernel_size - 1)`` of the convolution or maximum beside the filter.

    Returns:
        ``(2 Q + 1) s - 2 Q`` positive symmetric taps of sum 1, ``Q = ceil(reach / 2)``, at least 1.

    Raises:
        ParameterError: If the stride is below 1 or the reach negative.
    """
    (s,), (length,) = integers("stride", stride, 1), integers("reach", reach, 1, least=0)
    return even_filter(s, length)


def _default_taps(stride: int) -> tuple[float, ...]:
    return (1 / 8, 3 / 8, 3 / 8, 1 / 8) if stride == 2 else even_taps(stride)


def _phase_sums(taps: Sequence[float], stride: int, lag: int | None = None) -> list[float]:
    """By phase, the sums of the taps, or of their products at a lag."""
    values = taps if lag is None else [a * b for a, b in zip(taps, taps[lag:], strict=False)]
    return [math.fsum(values[r::stride]) for r in range(stride)]


def _equal(sums: Sequence[float], scale: float) -> bool:
    return max(sums) - min(sums) <= _EVEN * scale


def _even_at(taps: Sequence[float], stride: int, lags: Sequence[int]) -> bool:
    power = math.fsum(t * t for t in taps) / stride
    return all(_equal(_phase_sums(taps, stride, lag), power) for lag in lags)


def _per_axis(taps: Taps, dims: int) -> tuple[tuple[float, ...], ...]:
    """Taps for every axis from one sequence, or one sequence per axis."""
    wish = f"numbers, or {dims} sequences of numbers, one per spatial axis"
    if isinstance(taps, str) or not isinstance(taps, Sequence) or not taps:
        refuse("taps", taps, wish, "give for example taps=(1, 3, 3, 1)")
    rows: list[Any] = [taps] * dims if isinstance(taps[0], int | float) else list(taps)
    if len(rows) != dims:
        refuse("taps", taps, wish, "give one sequence per axis")
    for row in rows:
        if not isinstance(row, Sequence) or not row:
            refuse("taps", taps, wish, "give every axis at least one tap")
        if not all(isinstance(t, int | float) and math.isfinite(t) for t in row):
            refuse("taps", taps, wish, "give finite numbers")
        if abs(math.fsum(row)) < 1e-6 * math.fsum(abs(t) for t in row) or not any(row):
            refuse("taps", taps, "of a sum that is not zero", "give a low-pass filter, such as (1, 3, 3, 1)")
    return tuple(tuple(float(t) for t in row) for row in rows)


def _decimation_taps(
    taps: Taps | Literal["even"] | None, stride: Sequence[int], reach: Sequence[int]
) -> tuple[tuple[float, ...], ...]:
    """Taps of sum 1 for every axis, which meet the mean condition."""
    if taps is None:
        return tuple(_default_taps(s) for s in stride)
    if isinstance(taps, str):
        choice("taps", taps, ("even",))
        return tuple(even_taps(s, r) for s, r in zip(stride, reach, strict=True))
    made: list[tuple[float, ...]] = []
    for s, row in zip(stride, _per_axis(taps, len(stride)), strict=True):
        if s == 1:
            made.append((1.0,))
            continue
        total = math.fsum(row)
        scaled = tuple(t / total for t in row)
        sums = _phase_sums(scaled, s)
        if not _equal(sums, 1 / s):
            refuse(
                "taps",
                row,
                f"of equal sum in each of the {s} phases of stride {s} (they are {', '.join(f'{v:.4g}' for v in sums)} "
                "of the whole)",
                f"convolve them with {[1] * s}, or leave taps out for the default: as they are, every position of one "
                "phase gets more gradient than its neighbours",
            )
        made.append(scaled)
    return tuple(made)


class _Filtered(nn.Module):
    """A module with one fixed separable filter, kept as a buffer that no checkpoint holds."""

    dims: int
    filter: Tensor

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "dims" in vars(cls) and cls.__doc__ and cls.__base__.__doc__:  # a class for one number of axes
            cls.__doc__ += "\n\n" + inspect.cleandoc(cls.__base__.__doc__)

    def __init__(
        self, taps: tuple[tuple[float, ...], ...], device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self._taps = taps
        kind = dtype or torch.get_default_dtype()
        empty = torch.empty((1, 1, *map(len, taps)), device=device, dtype=kind)
        self.register_buffer("filter", empty, persistent=False)
        _Filtered._fill(self)

    def _fill(self) -> None:
        axes = [torch.tensor(row, dtype=torch.float64) for row in self._taps]
        whole = reduce(lambda a, b: a.unsqueeze(-1) * b, axes)
        with torch.no_grad():
            self.filter.copy_(whole.view(self.filter.shape))

    def reset_parameters(self) -> None:
        """Write the filter again, as after ``to_empty``."""
        self._fill()

    @property
    def taps(self) -> tuple[tuple[float, ...], ...]:
        """The taps per spatial axis."""
        return self._taps

    def _weight(self, x: Tensor) -> Tensor:
        """The filter for every channel of ``x``, in its dtype and where it lies."""
        return self.filter.to(x).expand(x.shape[1], 1, *self.filter.shape[2:])

    def _check(self, x: Tensor, channels: int | None = None) -> None:
        if x.dim() != self.dims + 2:
            wish = f"(N, C, *spatial) with {self.dims} spatial axes, with or without N"
            refuse("input shape", tuple(x.shape), wish, "use the class for so many axes")
        if channels is not None and x.shape[1] != channels:
            refuse("input shape", tuple(x.shape), f"(N, {channels}, *spatial)", "make the layer for so many channels")

    def _extended(self, x: Tensor, amounts: Sequence[tuple[int, int]], mode: str) -> Tensor:
        """``x`` continued beyond its border, if it is large enough to be reflected or repeated."""
        if mode in _SMALLEST:
            for axis, pair in enumerate(amounts, start=2):
                least = max(pair) + _SMALLEST[mode]
                if x.shape[axis] < least:
                    wish = f"at least {least} for padding_mode='{mode}' and a filter of {self.filter.shape[axis]} taps"
                    refuse(f"size of axis {axis}", int(x.shape[axis]), wish, "use padding_mode='replicate' or 'zeros'")
        return extend(x, amounts, mode)

    def _shown(self, taps: Sequence[Sequence[float]]) -> str:
        rows = ["(" + ", ".join(f"{t:.4g}" for t in row) + ")" for row in taps]
        return rows[0] if len(set(rows)) == 1 else f"({', '.join(rows)})"


def _short(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


class _FIRUpsample(_Filtered):
    """Zero insertion and a FIR filter of gain ``s``: up-sampling by a whole factor, output ``s * L``.

    Aligned as StyleGAN2's ``upfirdn2d`` (arXiv 1912.04958); ``[1, 3, 3, 1]`` at factor 2 with ``"replicate"`` *is*
    linear interpolation at half-pixel positions. Every phase has the same sum, so a constant stays a constant (the DC
    condition), up to the border with ``"replicate"`` and ``"reflect"``; with ``"zeros"`` it fades there. The filter is
    no parameter and is not in ``state_dict``. One depthwise transposed convolution for all axes together: measured 1.2
    to 1.9 times faster in two dimensions than one per axis, and equal in three.

    Shapes: ``(N, C, *L)`` to ``(N, C, *(s * L))``.

    Args:
        scale_factor: The factor ``s``, or one per axis.
        taps: The filter, scaled to sum ``s``, or one per axis; on an axis of factor 1 nothing is done.
        padding_mode: How the input continues: ``"replicate"``, ``"reflect"``, ``"zeros"`` or ``"circular"``.
        device: Of the filter.
        dtype: Of the filter; it is cast to the input's.

    Raises:
        ParameterError: For arguments out of range, and for taps with phases of unequal sums, which would make a
            checkerboard of a constant.
    """

    def __init__(
        self,
        scale_factor: int | Sequence[int] = 2,
        taps: Taps = (1, 3, 3, 1),
        padding_mode: str = "replicate",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        scale = integers("scale_factor", scale_factor, self.dims)
        padding_mode = choice("padding_mode", padding_mode, _EXTENSIONS)
        kernels = [
            interpolation_kernel("fir", s, row) if s > 1 else interpolation_kernel("nearest", 1)
            for s, row in zip(scale, _per_axis(taps, self.dims), strict=True)
        ]
        super().__init__(tuple(kernel.taps for kernel in kernels), device, dtype)
        self.scale_factor, self.padding_mode = scale, padding_mode
        amounts, crop, rest = [], [], []
        for s, kernel in zip(scale, kernels, strict=True):
            low = max(0, -((kernel.origin - len(kernel.taps) + 1) // s))
            high = max(0, -(-kernel.origin // s))
            size = 2 * kernel.origin - len(kernel.taps) + (low - high + 1) * s  # what s * L still lacks at the end
            high, size = (high + 1, size - s) if size >= s else (high, size)
            amounts.append((low, high))
            crop.append(kernel.origin + s * low)
            rest.append(size)
        self._amounts, self._crop, self._rest = tuple(amounts), tuple(crop), tuple(rest)

    def forward(self, x: Tensor) -> Tensor:
        """Up-sample ``x`` of shape ``(N, C, *L)``, or without ``N``."""
        if x.dim() == self.dims + 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        self._check(x)
        return _CONV_TRANSPOSE[self.dims - 1](
            self._extended(x, self._amounts, self.padding_mode),
            self._weight(x),
            None,
            stride=self.scale_factor,
            padding=self._crop,
            output_padding=self._rest,
            groups=x.shape[1],
        )

    def extra_repr(self) -> str:
        """The arguments."""
        return (
            f"scale_factor={_short(self.scale_factor)}, taps={self._shown(self._taps)}, "
            f"padding_mode={self.padding_mode!r}"
        )


class FIRUpsample1d(_FIRUpsample):
    """FIR up-sampling of signals ``(N, C, L)``."""

    dims = 1


class FIRUpsample2d(_FIRUpsample):
    """FIR up-sampling of pictures ``(N, C, H, W)``."""

    dims = 2


class FIRUpsample3d(_FIRUpsample):
    """FIR up-sampling of volumes ``(N, C, D, H, W)``."""

    dims = 3


class _BlurPool(_Filtered):
    """A fixed low-pass filter, then every ``s``-th sample: it aliases little and sends an even gradient back.

    The mean gradient is even always (other taps are refused); the squared gradient iff `conditions` says so: it does
    for the default, ``[1, 3, 3, 1]`` at stride 2 and `even_taps` at others, and not for ``[1, 2, 1]``. The filter is no
    parameter and is not in ``state_dict``: putting the layer into a network leaves its checkpoints as they are. A
    constant stays a constant, up to the border unless ``padding_mode`` is ``"zeros"``. See the module for the theory
    and for what happens at borders. Zhang (arXiv 1904.11486).

    Shapes: ``(N, C, *L)`` to ``(N, C, *ceil(L / s))``, the size that a convolution of the same stride makes of the
    output of its stride-1 self.

    Args:
        channels: ``C`` if it is to be checked.
        taps: The filter, scaled to sum 1, or one per axis; ``"even"`` for `even_taps`. On an axis of stride 1 nothing
            is done.
        stride: ``s``, or one per axis.
        padding_mode: How the input continues: ``"reflect"`` (needs more samples than the filter's half),
            ``"replicate"``, ``"zeros"`` or ``"circular"``.
        device: Of the filter.
        dtype: Of the filter; it is cast to the input's.

    Raises:
        ParameterError: For arguments out of range, and for taps with phases of unequal sums.
    """

    def __init__(
        self,
        channels: int | None = None,
        taps: Taps | Literal["even"] | None = None,
        stride: int | Sequence[int] = 2,
        padding_mode: str = "reflect",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        strides = integers("stride", stride, self.dims)
        if channels is not None:
            integers("channels", channels, 1)
        padding_mode = choice("padding_mode", padding_mode, _EXTENSIONS)
        super().__init__(_decimation_taps(taps, strides, (2,) * self.dims), device, dtype)
        self.channels, self.stride, self.padding_mode = channels, strides, padding_mode
        self._amounts = tuple(cell_extension(len(row), s) for row, s in zip(self._taps, strides, strict=True))

    @property
    def conditions(self) -> Conditions:
        """Which of the two conditions the layer meets."""
        squared = all(_even_at(row, s, (0,)) for row, s in zip(self._taps, self.stride, strict=True))
        return Conditions("always", "always" if squared else "no")

    def forward(self, x: Tensor) -> Tensor:
        """Blur and decimate ``x`` of shape ``(N, C, *L)``, or without ``N``."""
        if x.dim() == self.dims + 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        self._check(x, self.channels)
        return _CONV[self.dims - 1](
            self._extended(x, self._amounts, self.padding_mode), self._weight(x), stride=self.stride, groups=x.shape[1]
        )

    def extra_repr(self) -> str:
        """The arguments, and the conditions that the layer meets."""
        channels = "" if self.channels is None else f"{self.channels}, "
        return (
            f"{channels}taps={self._shown(self._taps)}, stride={_short(self.stride)}, "
            f"padding_mode={self.padding_mode!r}, {self.conditions}"
        )


class BlurPool1d(_BlurPool):
    """Blurred decimation of signals ``(N, C, L)``."""

    dims = 1


class BlurPool2d(_BlurPool):
    """Blurred decimation of pictures ``(N, C, H, W)``."""

    dims = 2


class BlurPool3d(_BlurPool):
    """Blurred decimation of volumes ``(N, C, D, H, W)``."""

    dims = 3


def _reach(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    return tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))


def _lags_even(
    taps: Sequence[Sequence[float]], stride: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether every lag between two taps of a kernel is even on every axis."""
    return all(
        s == 1 or _even_at(row, s, range(0, d * (k - 1) + 1, d))
        for row, s, k, d in zip(taps, stride, kernel, dilation, strict=True)
    )


class _AntialiasedConv(_Filtered):
    r"""A convolution and a low-pass filter, together of stride ``s``: drop-in for a strided convolution.

    The function is ``decimate(filter(convolve(extend(x))))``, the filter without padding of its own, and hence the same
    as convolving the filtered signal at stride ``s``, and the same as one convolution of stride ``s`` with the folded
    kernel, at every pixel, borders included. The layer runs the first of these that is fastest (`implementation`):
    filtering first does the strided convolution's own multiply-adds and a cheap depthwise filter.

    `conditions` of the whole layer: the mean gradient is even for any weights. The squared gradient (white output
    gradients) is even on average over independent zero-mean weights (as at initialisation) with the default taps; for
    *any* weights, trained ones too, with ``taps="even"``, which are `even_taps` for this kernel's size:
    ``[1, 2, 2, 1]`` for ``kernel_size=3, stride=2``.

    ``weight`` and ``bias`` have the names, shapes and initialisation of the plain convolution, and the filter is not in
    ``state_dict``: checkpoints of the strided convolution load as they are (the function changes: fine-tune). The
    filter lowers the power of noise, by ``sum(h**2)`` per axis, and leaves that of smooth signals.

    Shapes: as ``torch.nn.ConvNd`` with the same ``kernel_size``, ``stride``, ``padding`` and ``dilation``.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        kernel_size: ``k``, or one per axis.
        stride: ``s``, or one per axis.
        padding: The convolution's padding, in samples. The input is extended once, by this and by what the filter
            needs.
        dilation: As in ``torch.nn``.
        groups: As in ``torch.nn``.
        bias: Whether to add one.
        padding_mode: How the input continues: ``"zeros"`` as in ``torch.nn``, ``"reflect"``, ``"replicate"`` or
            ``"circular"``.
        taps: The filter, scaled to sum 1, or one per axis; ``"even"``; by default as `BlurPool2d`.
        implementation: ``"auto"``, or ``"blur_first"``, ``"folded"``, ``"conv_first"`` to force one.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ParameterError: For arguments out of range, and for taps with phases of unequal sums.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 2,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        taps: Taps | Literal["even"] | None = None,
        implementation: str = "auto",
    ) -> None:
        kernel = integers("kernel_size", kernel_size, self.dims)
        strides = integers("stride", stride, self.dims)
        pads = integers("padding", padding, self.dims, least=0)
        spread = integers("dilation", dilation, self.dims)
        in_channels, out_channels, groups = channels(in_channels, out_channels, groups)
        padding_mode = choice("padding_mode", padding_mode, _EXTENSIONS)
        implementation = choice("implementation", implementation, _IMPLEMENTATIONS)
        super().__init__(_decimation_taps(taps, strides, _reach(kernel, spread)), device, dtype)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.padding, self.dilation = kernel, strides, pads, spread
        self.padding_mode, self.implementation = padding_mode, implementation
        cuts = [cell_extension(len(row), s) for row, s in zip(self._taps, strides, strict=True)]
        self._amounts = tuple((p + low, p + high) for p, (low, high) in zip(pads, cuts, strict=True))
        for axis, (row, k, d) in enumerate(zip(self._taps, kernel, spread, strict=True)):
            empty = self.filter.new_empty((k, d * (k - 1) + len(row)))
            self.register_buffer(f"_spread{axis}", empty, persistent=False)
        shape = (out_channels, in_channels // groups, *kernel)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as ``torch.nn.ConvNd`` does, and write the filter again."""
        self._fill()
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def _fill(self) -> None:
        super()._fill()
        with torch.no_grad():
            for axis, (row, d) in enumerate(zip(self._taps, self.dilation, strict=True)):
                spread = getattr(self, f"_spread{axis}").zero_()  # row t holds the taps, moved by d * t
                for t, line in enumerate(spread):
                    line[d * t : d * t + len(row)] = torch.tensor(row, dtype=torch.float64)

    @property
    def conditions(self) -> Conditions:
        """Which of the two conditions the whole layer meets, convolution and filter together."""
        numbers = (self._taps, self.stride, self.kernel_size, self.dilation)
        if _lags_even(*numbers):
            return Conditions("always", "always")
        alone = _lags_even(self._taps, self.stride, (1,) * self.dims, (1,) * self.dims)
        over = "independent zero-mean weights"
        return Conditions("always", "on average", over) if alone else Conditions("always", "no")

    def _chosen(self) -> str:
        """The implementation to run, by a rule from measurements on one CPU thread.

        The filter first, 1.3 to 8 times as fast as the convolution first in networks' usual shapes, 2-D and 3-D; folded
        in 1-D under 64 channels a group (up to 1.8 times as fast) and for one channel a group, which has little to
        save, in 3-D and in inference (1.5 to 4 times).
        """
        if self.implementation != "auto":
            return self.implementation
        width = self.in_channels // self.groups
        if self.dims == 1:
            return "folded" if width < 64 else "blur_first"
        return "folded" if width == 1 and (self.dims == 3 or not torch.is_grad_enabled()) else "blur_first"

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, blur and decimate ``x`` of shape ``(N, C_in, *L)``, or without ``N``."""
        if x.dim() == self.dims + 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        self._check(x, self.in_channels)
        return _RUN[self._chosen()](self, self._extended(x, self._amounts, self.padding_mode))

    def _blur_first(self, x: Tensor) -> Tensor:
        early = tuple(s if k == 1 else 1 for s, k in zip(self.stride, self.kernel_size, strict=True))
        late = tuple(1 if k == 1 else s for s, k in zip(self.stride, self.kernel_size, strict=True))
        convolve = _CONV[self.dims - 1]
        if self.filter.numel() > 1:
            x = convolve(x, self._weight(x), stride=early, groups=x.shape[1])
        return convolve(x, self.weight, self.bias, late, 0, self.dilation, self.groups)

    def _conv_first(self, x: Tensor) -> Tensor:
        convolve = _CONV[self.dims - 1]
        x = convolve(x, self.weight, self.bias, 1, 0, self.dilation, self.groups)
        return convolve(x, self._weight(x), stride=self.stride, groups=x.shape[1])

    def _folded(self, x: Tensor) -> Tensor:
        return _CONV[self.dims - 1](x, self.folded_weight(), self.bias, self.stride, groups=self.groups)

    def folded_weight(self) -> Tensor:
        """The kernel of the one strided convolution that the layer is: ``(C_out, C_in / groups, *(d (k - 1) + m))``."""
        weight = self.weight
        for axis in range(self.dims):
            spread = getattr(self, f"_spread{axis}").to(weight)
            weight = torch.movedim(torch.tensordot(weight, spread, ([2 + axis], [0])), -1, 2 + axis)
        return weight.contiguous()

    def extra_repr(self) -> str:
        """The arguments, and the conditions that the layer meets."""
        plain = (
            ("padding", _short(self.padding), "0"),
            ("dilation", _short(self.dilation), "1"),
            ("groups", str(self.groups), "1"),
            ("bias", str(self.bias is not None), "True"),
            ("padding_mode", repr(self.padding_mode), "'zeros'"),
            ("implementation", repr(self.implementation), "'auto'"),
        )
        rest = "".join(f", {name}={value}" for name, value, default in plain if value != default)
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={_short(self.kernel_size)}, "
            f"stride={_short(self.stride)}{rest}, taps={self._shown(self._taps)}, {self.conditions}"
        )


_RUN = {
    "blur_first": _AntialiasedConv._blur_first,
    "folded": _AntialiasedConv._folded,
    "conv_first": _AntialiasedConv._conv_first,
}


class AntialiasedConv1d(_AntialiasedConv):
    """Convolution and low-pass filter of one stride, of signals ``(N, C, L)``."""

    dims = 1


class AntialiasedConv2d(_AntialiasedConv):
    """Convolution and low-pass filter of one stride, of pictures ``(N, C, H, W)``."""

    dims = 2


class AntialiasedConv3d(_AntialiasedConv):
    """Convolution and low-pass filter of one stride, of volumes ``(N, C, D, H, W)``."""

    dims = 3


class _AntialiasedMaxPool(_BlurPool):
    """The maximum at every position, then `BlurPool2d`: drop-in for strided max pooling.

    `conditions`: which position of a window wins depends on the data, so both hold on average over inputs whose
    statistics do not depend on the position. The mean gradient is even then. The squared gradient is even if the filter
    is even at every lag between two positions of a window, since neighbouring windows share winners: it is with
    ``taps="even"`` (``[1, 2, 2, 1]`` up to ``kernel_size=3`` at stride 2). The default ``[1, 3, 3, 1]`` gives 14:16 per
    axis for independent inputs at ``kernel_size=2``; at ``kernel_size=3`` one pair of neighbouring windows lies on each
    phase, so that it is even where the statistics are mirror-symmetric too, which is not claimed. Plain max pooling of
    ``kernel_size=3, stride=2`` has 1:2:2:4. The gradient of one sample stays sparse where few positions win.

    Shapes: as ``torch.nn.MaxPoolNd`` with the same arguments and ``ceil_mode=False``.

    Args:
        kernel_size: The window ``k``, or one per axis.
        stride: ``s``, or one per axis.
        padding: Of the maximum, with minus infinity; at most half the window.
        dilation: Of the window.
        taps: The filter, scaled to sum 1, or one per axis; ``"even"``; by default as `BlurPool2d`.
        padding_mode: How the dense maxima continue for the filter; see `BlurPool2d`.
        device: Of the filter.
        dtype: Of the filter; it is cast to the input's.

    Raises:
        ParameterError: For arguments out of range, and for taps with phases of unequal sums.
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 2,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        *,
        taps: Taps | Literal["even"] | None = None,
        padding_mode: str = "reflect",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kernel = integers("kernel_size", kernel_size, self.dims)
        strides = integers("stride", stride, self.dims)
        pads = integers("padding", padding, self.dims, least=0)
        spread = integers("dilation", dilation, self.dims)
        if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
            refuse("padding", padding, f"at most half the window kernel_size={_short(kernel)}", "make it smaller")
        made = _decimation_taps(taps, strides, _reach(kernel, spread))
        super().__init__(None, made, strides, padding_mode, device=device, dtype=dtype)
        self.kernel_size, self.padding, self.dilation = kernel, pads, spread

    @property
    def conditions(self) -> Conditions:
        """Which of the two conditions the whole layer meets, maximum and filter together."""
        over = "inputs with the same statistics everywhere"
        even = _lags_even(self._taps, self.stride, self.kernel_size, self.dilation)
        return Conditions("on average", "on average" if even else "no", over)

    def forward(self, x: Tensor) -> Tensor:
        """Take maxima, blur and decimate ``x`` of shape ``(N, C, *L)``, or without ``N``."""
        if x.dim() == self.dims + 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        self._check(x)
        # with indices, since torch.export fixes the size of max_pool1d without them; autograd computes them anyway
        dense, _ = _MAX_POOL[self.dims - 1](x, self.kernel_size, 1, self.padding, self.dilation, return_indices=True)
        return super().forward(dense)

    def extra_repr(self) -> str:
        """The arguments, and the conditions that the layer meets."""
        plain = (("padding", _short(self.padding), "0"), ("dilation", _short(self.dilation), "1"))
        rest = "".join(f", {name}={value}" for name, value, default in plain if value != default)
        return f"kernel_size={_short(self.kernel_size)}{rest}, {super().extra_repr()}"


class AntialiasedMaxPool1d(_AntialiasedMaxPool):
    """Dense maximum and blurred decimation of signals ``(N, C, L)``."""

    dims = 1


class AntialiasedMaxPool2d(_AntialiasedMaxPool):
    """Dense maximum and blurred decimation of pictures ``(N, C, H, W)``."""

    dims = 2


class AntialiasedMaxPool3d(_AntialiasedMaxPool):
    """Dense maximum and blurred decimation of volumes ``(N, C, D, H, W)``."""

    dims = 3
