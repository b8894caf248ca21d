"""The fold: an interpolation by a whole factor and the convolution after it as one transposed convolution.

With ``h`` the interpolation's FIR and ``w`` the convolution's kernel, dilation ``d``, the folded kernel is
``f[m] = sum_t w[t] h[m - d(k-1) + d t]``, ``K = d(k-1) + len(h)`` taps per axis (Odena, Dumoulin & Olah 2016 describe
the equivalence; docs/theory.md, section 3). Per axis that is a small matrix times the kernel, so that the whole fold is
one matrix product: a convolution over one-channel images would cost more than it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evenly.nn._layout import is_autocast, is_traced, weave
from evenly.nn.resampling import Kernel, extend
from evenly.theory.equivalence import fold_axis

# Up to so many outputs, or inputs in 1-D, a convolution to all phases is faster than a transposed one (bench/nn.md).
FEW_CHANNELS, FEW_CHANNELS_1D = 8, 192

__all__ = ["Axis", "fold_matrix", "fold_weight", "folded"]


class Axis:
    """The geometry of one axis of a resize-convolution: interpolation by ``kernel``, padding, stride-1 convolution.

    Attributes:
        kernel: The interpolation's FIR.
        size: Taps of the convolution.
        dilation: Their distance.
        pad: Samples before and after, added after the interpolation.
    """

    __slots__ = ("dilation", "kernel", "pad", "size")

    def __init__(self, kernel: Kernel, size: int, dilation: int, pad: tuple[int, int]) -> None:
        self.kernel, self.size, self.dilation, self.pad = kernel, size, dilation, pad

    def output_size(self, length: int) -> int:
        """Outputs for ``length`` inputs."""
        return self.kernel.scale * length + self.growth

    @property
    def crop(self) -> int:
        """How many samples of the full transposed convolution lie before the first output."""
        return self.dilation * (self.size - 1) + self.kernel.origin - self.pad[0]

    @property
    def taps(self) -> int:
        """Taps of the folded kernel."""
        return self.dilation * (self.size - 1) + len(self.kernel.taps)

    @property
    def growth(self) -> int:
        """Outputs beyond ``scale`` times the inputs."""
        return sum(self.pad) - self.dilation * (self.size - 1)

    @property
    def reach(self) -> tuple[int, int]:
        """How many inputs beyond both ends the outputs read; negative where they do not read all."""
        s = self.kernel.scale
        return (self.taps - 1 - self.crop) // s, (self.growth - 1 + self.crop) // s + 1


def fold_matrix(axes: Sequence[Axis]) -> Tensor:
    """The fold of all axes as a matrix (prod K, prod k) in float64 on the CPU."""
    whole = np.ones((1, 1))
    for axis in axes:
        whole = np.asarray(np.kron(whole, fold_axis(axis.kernel.taps, axis.size, axis.dilation)))
    return torch.tensor(whole, device="cpu")


def fold_weight(weight: Tensor, axes: Sequence[Axis], groups: int = 1, matrix: Tensor | None = None) -> Tensor:
    """The kernel of the transposed convolution that equals interpolation and convolution.

    Args:
        weight: (C_out, C_in / groups, *k) of the convolution.
        axes: One geometry per spatial axis.
        groups: Of the convolution.
        matrix: `fold_matrix` of the axes, where it is at hand.

    Returns:
        (C_in, C_out / groups, *K), channels last in memory.
    """
    matrix = fold_matrix(axes) if matrix is None else matrix
    c_out, c_in = weight.shape[:2]
    sizes = [a.taps for a in axes]
    precise = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    grouped = precise.contiguous().view(groups, c_out // groups, c_in, -1)
    taps = grouped.permute(0, 2, 3, 1)  # (g, C_in/g, prod k, C_out/g)
    with torch.autocast(weight.device.type, enabled=False) if is_autocast(weight) else nullcontext():
        full = torch.matmul(matrix.to(precise), taps)
    full = full.to(weight.dtype).view(groups * c_in, *sizes, c_out // groups)
    return full.permute(0, -1, *range(1, len(axes) + 1))


def folded(x: Tensor, kernel: Tensor, bias: Tensor | None, axes: Sequence[Axis], groups: int, extension: str) -> Tensor:
    """The resize-convolution of ``x`` by its folded ``kernel``.

    Args:
        x: (N, C_in, *spatial).
        kernel: From `fold_weight`.
        bias: (C_out,) or None.
        axes: One geometry per spatial axis.
        groups: Of the convolution.
        extension: How ``x`` continues beyond its border, ``"zeros"`` or ``"replicate"``.

    Returns:
        (N, C_out, *output sizes).
    """
    few = kernel.shape[1] <= FEW_CHANNELS or (len(axes) == 1 and kernel.shape[0] <= FEW_CHANNELS_1D)
    if few and groups == 1 and not is_traced():
        return _by_phases(x, kernel, bias, axes, extension)
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(axes) - 1]
    amounts = [a.reach for a in axes]
    if extension == "zeros":  # the transposed convolution itself goes on with zeros, as far as its taps reach
        amounts = [(max(-(a.crop // a.kernel.scale), 0), 0) for a in axes]
    x = extend(x, amounts, extension)
    # One operator does all where it can: equal padding at both ends, output padding for what is longer at the far end.
    padding, extra, rest = [], [], []
    for axis, (low, high) in zip(axes, amounts, strict=True):
        s = axis.kernel.scale
        start = axis.crop + s * low
        surplus = s * (low + high - 1) + axis.taps - axis.growth - 2 * start
        padding.append(start)
        extra.append(max(0, -surplus))
        rest.append(max(0, surplus))
    if any(e >= a.kernel.scale for e, a in zip(extra, axes, strict=True)):
        # wanted beyond what output padding may add: more zeros at the input's end
        more = [(0, -(-e // a.kernel.scale)) for e, a in zip(extra, axes, strict=True)]
        x = extend(x, more, "zeros")
        rest = [m[1] * a.kernel.scale - e + r for m, a, e, r in zip(more, axes, extra, rest, strict=True)]
        extra = [0] * len(axes)
    y = convolve(x, kernel, bias, [a.kernel.scale for a in axes], padding, extra, groups)
    for dim, surplus in enumerate(rest, start=2):
        if surplus:
            y = y.narrow(dim, 0, y.shape[dim] - surplus)
    return y


def _by_phases(x: Tensor, kernel: Tensor, bias: Tensor | None, axes: Sequence[Axis], extension: str) -> Tensor:
    """The same as a sub-pixel convolution: all phases as channels of one convolution, then interleaved."""
    dims, channels = len(axes), kernel.shape[1]
    scale = [a.kernel.scale for a in axes]
    taps = [-(-a.taps // a.kernel.scale) for a in axes]  # of each phase
    kernel = extend(kernel, [(0, m * a.kernel.scale - a.taps) for m, a in zip(taps, axes, strict=True)], "zeros")
    split = [v for m, s in zip(taps, scale, strict=True) for v in (m, s)]
    order = (1, *range(3, 3 + 2 * dims, 2), 0, *range(2, 2 + 2 * dims, 2))  # (C_out, *s, C_in, *taps)
    phases = kernel.reshape(-1, channels, *split).permute(order)
    weight = phases.flip(tuple(range(-dims, 0))).reshape(-1, kernel.shape[0], *taps)
    amounts, starts = [], []
    for axis, m, s, length in zip(axes, taps, scale, x.shape[2:], strict=True):
        first, last = axis.crop // s, (axis.output_size(length) - 1 + axis.crop) // s
        amounts.append((m - 1 - first, last - (length - 1)))
        starts.append(axis.crop - s * first)
    function = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    if extension == "zeros" and all(low == high >= 0 for low, high in amounts):
        y = function(x, weight, None, 1, [low for low, _ in amounts])
    else:
        y = function(extend(x, amounts, extension), weight)
    y = weave(y, scale)
    for dim, (axis, start, length) in enumerate(zip(axes, starts, x.shape[2:], strict=True), start=2):
        y = y.narrow(dim, start, axis.output_size(length))
    if bias is not None:
        return y + bias.to(y.dtype).view(-1, *[1] * dims)
    return y.contiguous() if dims == 1 else y.movedim(1, -1).contiguous().movedim(-1, 1)
