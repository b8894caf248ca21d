"""Interpolation by a factor: every mode as a fixed FIR, and the plain way to run it.

For a whole factor ``s`` each mode is ``y[n] = sum_i h[n - s*i + origin] * x[i]`` over the input extended by its edge
values, with ``len(h)`` taps of which each phase ``h[r::s]`` sums to one: a constant stays a constant (the DC condition;
Odena, Dumoulin & Olah 2016). A polynomial meets it for every phase iff it is divisible by ``1 + z + ... + z^(s-1)``,
so that each mode is nearest-neighbour interpolation followed by a *smoothing* filter ``g`` with ``h = ones(s) * g``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evenly.nn._arguments import refuse
from evenly.theory.equivalence import Kernel, nearest_interpolation

__all__ = ["MODES", "Kernel", "extend", "fir_upsample", "interpolation_kernel", "parse_mode", "resize"]

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic")
_LINEAR = ("linear", "bilinear", "trilinear")
_TORCH_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def parse_mode(mode: str, dims: int) -> tuple[str, tuple[float, ...]]:
    """The canonical name of a mode and, for ``"fir:..."``, its taps.

    Args:
        mode: One of `MODES` or ``"fir:"`` and comma-separated taps, such as ``"fir:1,3,3,1"``.
        dims: Number of spatial axes, 1 to 3.

    Returns:
        ``("nearest" | "linear" | "bicubic" | "fir", taps)``; taps are empty for all but ``"fir"``.

    Raises:
        ParameterError: for an unknown mode, or one that does not exist in so many dimensions.
    """
    known = ", ".join(MODES) + ', or "fir:1,3,3,1"'
    if not isinstance(mode, str):
        refuse("mode", mode, f"one of {known}", "give a name")
    if mode.startswith("fir:"):
        try:
            taps = tuple(float(t) for t in mode[4:].split(","))
        except ValueError:
            refuse("mode", mode, "taps separated by commas after 'fir:'", "write for example mode='fir:1,3,3,1'")
        if not all(math.isfinite(t) for t in taps) or abs(sum(taps)) < 1e-12:
            refuse("mode", mode, "finite taps with a sum that is not zero", "write for example mode='fir:1,3,3,1'")
        return "fir", taps
    if mode in ("nearest", "nearest-exact"):
        return mode, ()
    if mode in _LINEAR:
        if mode not in ("linear", _TORCH_LINEAR[dims]):
            refuse("mode", mode, f"'{_TORCH_LINEAR[dims]}' or 'linear' for {dims}-D", "use mode='linear'")
        return "linear", ()
    if mode == "bicubic":
        if dims != 2:
            refuse("mode", mode, f"a mode that exists in {dims}-D", "use mode='linear' or a FIR")
        return mode, ()
    return refuse("mode", mode, f"one of {known}", "choose one of these")


def _cubic(distance: float, a: float = -0.75) -> float:
    """Keys' cubic convolution kernel with PyTorch's parameter."""
    u = abs(distance)
    if u <= 1:
        return ((a + 2) * u - (a + 3)) * u * u + 1
    return ((a * u - 5 * a) * u + 8 * a) * u - 4 * a if u < 2 else 0.0


@lru_cache(maxsize=256)
def interpolation_kernel(mode: str, scale: int, taps: tuple[float, ...] = ()) -> Kernel:
    """The FIR of ``mode`` (as `parse_mode` returns it) for a whole factor.

    Half-pixel positions, as ``F.interpolate(align_corners=False)`` has them. A FIR's taps are scaled to a sum of ``s``
    and aligned as in StyleGAN2's ``upfirdn2d`` (output of length ``s`` times the input's).

    Raises:
        ParameterError: if the phases of a FIR do not have equal sums: a constant would become a checkerboard.
    """
    if scale == 1 and mode != "fir":
        return Kernel(1, (1.0,), 0)
    if mode.startswith("nearest"):
        return nearest_interpolation(scale)
    if mode == "fir":
        h = np.array(taps) * (scale / sum(taps))
        padded = np.concatenate([h, np.zeros(-len(h) % scale)]).reshape(-1, scale)
        sums = padded.sum(0)
        if np.abs(sums - 1).max() > 1e-6:
            shown = ", ".join(f"{v:.4g}" for v in sums)
            refuse(
                "taps", taps, f"of equal sum in each of the {scale} phases (they are {shown})",
                f"convolve them with {[1] * scale}, or choose [1, 3, 3, 1] for scale factor 2: as they are, a constant "
                "becomes a checkerboard",
            )  # fmt: skip
        return Kernel(scale, tuple(float(v) for v in h), len(h) - 1 - (len(h) + scale - 1) // 2)
    reach, weight = (scale, lambda u: 1 - abs(u)) if mode == "linear" else (2 * scale, _cubic)
    centre = (scale - 1) / 2
    first = math.floor(centre - reach) + 1
    last = math.ceil(centre + reach) - 1
    return Kernel(scale, tuple(float(weight((t - centre) / scale)) for t in range(first, last + 1)), -first)


def extend(x: Tensor, amounts: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """``x`` (N, C, *spatial) extended (or, by negative amounts, cropped) before and after each axis."""
    flat = [max(a, 0) for pair in reversed(amounts) for a in pair]
    if any(flat):
        x = F.pad(x, flat) if mode == "zeros" else F.pad(x, flat, mode=mode)
    for axis, (low, high) in enumerate(amounts, start=2):
        if low < 0 or high < 0:
            x = x.narrow(axis, max(-low, 0), x.shape[axis] + min(low, 0) + min(high, 0))
    return x


def fir_upsample(
    x: Tensor, kernels: Sequence[Kernel], padding_mode: str = "replicate", accumulate: torch.dtype | None = None
) -> Tensor:
    """Zero insertion and FIR, one depthwise transposed convolution per axis.

    Args:
        x: (N, C, *spatial).
        kernels: One per spatial axis.
        padding_mode: How the *input* continues beyond its border: ``"replicate"``, ``"zeros"`` or ``"reflect"``. With
            ``"zeros"`` a constant fades at the border.
        accumulate: The dtype to compute in; that of ``x`` by default.

    Returns:
        (N, C, *(s * size)), of the dtype of ``x``.
    """
    dims = len(kernels)
    channels, out = x.shape[1], x.to(accumulate) if accumulate else x
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
    for axis, kernel in enumerate(kernels):
        if kernel.taps == (1.0,):
            continue
        s, size = kernel.scale, out.shape[2 + axis]
        low = max(0, -((kernel.origin - len(kernel.taps) + 1) // s))
        high = max(0, (s - 1 + kernel.origin) // s)
        amounts = [(0, 0)] * dims
        amounts[axis] = (low, high)
        shape, stride = [1] * dims, [1] * dims
        shape[axis], stride[axis] = len(kernel.taps), s
        weight = out.new_tensor(kernel.taps).view(1, 1, *shape).expand(channels, 1, *shape)
        out = convolve(extend(out, amounts, padding_mode), weight, stride=stride, groups=channels)
        out = out.narrow(2 + axis, kernel.origin + s * low, s * size)
    return out.to(x.dtype)


def resize(x: Tensor, scale_factor: Sequence[int | float], mode: str) -> Tensor:
    """``x`` (N, C, *spatial) interpolated, exactly as ``F.interpolate`` does it where it knows the mode.

    Raises:
        ParameterError: for an unknown mode, unequal phases, or a FIR with a factor that is not whole.
    """
    dims = x.dim() - 2
    name, taps = parse_mode(mode, dims)
    if name == "fir":
        whole = [s for s in scale_factor if isinstance(s, int)]
        if len(whole) != dims:
            refuse("scale_factor", tuple(scale_factor), f"whole numbers with mode '{mode}'", "use mode='linear'")
        return fir_upsample(x, [interpolation_kernel("fir", s, taps) if s > 1 else Kernel(1, (1.0,), 0) for s in whole])
    if all(s == 1 for s in scale_factor):
        return x
    torch_mode = _TORCH_LINEAR[dims] if name == "linear" else name
    corners = None if name.startswith("nearest") else False
    return F.interpolate(x, scale_factor=[float(s) for s in scale_factor], mode=torch_mode, align_corners=corners)
