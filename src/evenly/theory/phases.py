"""Polyphase view of an up-sampling layer: DC gain per phase, ripple, image rejection.

A transposed convolution of stride ``s`` is ``s`` ordinary convolutions (phase filters) whose outputs are interleaved.
A constant input ``mu`` gives ``G_r^T mu + bias`` at phase ``r``, with the DC gain ``G_r`` the sum of the taps of phase
``r``; so a constant stays constant for every colour iff all ``G_r`` are equal (Sugawara, Shiota & Kiya,
arXiv 1806.02658; Kinoshita & Kiya, arXiv 2002.02117), that is iff the frequency response vanishes at every non-zero
multiple of ``1/s``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError
from evenly.theory.overlap import overlap_counts

__all__ = ["Freedom", "dc_gains", "degrees_of_freedom", "image_rejection", "ripple", "subpixel_gains"]

Array = NDArray[np.float64]


def dc_gains(weight: NDArray[np.floating], stride: Sequence[int], dilation: Sequence[int] | None = None) -> Array:
    """DC gain matrix of every phase of a transposed convolution.

    Args:
        weight: ``(C_in, C_out / groups, *kernel)``, PyTorch's layout.
        stride: Stride per axis.
        dilation: Dilation per axis, 1 by default.

    Returns:
        ``(prod(stride), C_in, C_out / groups)`` in float64, phases in C order of ``(n + p) mod s`` per axis.

    Raises:
        ParameterError: If the number of axes does not fit.
    """
    kernel = weight.shape[2:]
    dilation = dilation or (1,) * len(kernel)
    if not len(kernel) == len(stride) == len(dilation):
        raise ParameterError(
            f"weight has {len(kernel)} spatial axes, stride (={tuple(stride)}) and dilation (={tuple(dilation)}) "
            "must have as many entries"
        )
    gains = np.asarray(weight, np.float64)
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        select = np.zeros((k, s))  # tap t belongs to phase d t mod s
        select[np.arange(k), (d * np.arange(k)) % s] = 1
        gains = np.moveaxis(np.tensordot(gains, select, axes=(2 + axis, 0)), -1, 2 + axis)
    return np.moveaxis(gains.reshape(*gains.shape[:2], -1), -1, 0)  # (phases, C_in, C_out/g)


@dataclass(frozen=True)
class Freedom:
    """Degrees of freedom of a transposed convolution's kernel, per pair of channels.

    Attributes:
        free: Any kernel.
        balanced: Kernels that keep constants constant.
        resize: Kernels of a nearest-neighbour resize followed by a convolution; 0 where none has this size.
    """

    free: int
    balanced: int
    resize: int


def degrees_of_freedom(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] | None = None) -> Freedom:
    """How much avoiding artifacts restricts a kernel (Odena et al. 2016, on the capacity of resize-convolution).

    Equal DC gains take one equation less than there are phases; a phase without taps forces all gains to zero. In 1-D
    the balanced kernels are exactly the resize-convolutions, in n-D they are a larger family.

    Args:
        kernel: Kernel size per axis.
        stride: Stride per axis.
        dilation: Dilation per axis, 1 by default.

    Raises:
        ParameterError: If a parameter is below 1.
    """
    dilation = dilation or (1,) * len(kernel)
    written = prod(int((overlap_counts(k, s, d) > 0).sum()) for k, s, d in zip(kernel, stride, dilation, strict=True))
    phases, free = prod(stride), prod(kernel)
    fits = all(d == 1 or s == 1 for s, d in zip(stride, dilation, strict=True))
    resize = prod(max(k - s + 1, 0) for k, s in zip(kernel, stride, strict=True)) if fits else 0
    return Freedom(free, free - (phases - 1 if written == phases else written), resize)


def subpixel_gains(weight: NDArray[np.floating], factor: Sequence[int], groups: int = 1) -> Array:
    """DC gain matrix of every phase of a convolution followed by a pixel shuffle.

    Args:
        weight: Convolution ``(C prod(r), C_in / groups, *kernel)``; channels ordered ``(C, *r)`` as PyTorch does.
        factor: Shuffle factor ``r`` per axis.
        groups: Groups of the convolution.

    Returns:
        ``(prod(r), C_in / groups, C)`` in float64.

    Raises:
        ParameterError: If the channels are not divisible by ``prod(r)``.
    """
    phases = prod(factor)
    if weight.shape[0] % phases:
        raise ParameterError(
            f"{weight.shape[0]} output channels are not divisible by prod(factor) (={phases}): no pixel shuffle"
        )
    gains = weight.reshape(weight.shape[0], weight.shape[1], -1).sum(-1, dtype=np.float64)  # (C r, C_in/g)
    if groups > 1:
        # a group's channels must not be compared with another group's: phases of one channel may read other inputs
        dense = np.zeros((weight.shape[0], weight.shape[1] * groups))
        rows, cols = weight.shape[0] // groups, weight.shape[1]
        for g in range(groups):
            dense[g * rows : (g + 1) * rows, g * cols : (g + 1) * cols] = gains[g * rows : (g + 1) * rows]
        gains = dense
    return np.ascontiguousarray(gains.reshape(-1, phases, gains.shape[1]).transpose(1, 2, 0))


def ripple(gains: NDArray[np.floating]) -> float:
    """Relative spread of the phases' DC gains: ``rms_r ||G_r - mean G||_F / ||mean G||_F`` (ratio).

    Zero iff constants stay constant. ``inf`` if the mean gain vanishes and the phases differ.

    Args:
        gains: ``(phases, ...)``, from :func:`dc_gains` or :func:`subpixel_gains`.
    """
    mean = gains.mean(0)
    spread = float(np.sqrt(((gains - mean) ** 2).sum() / len(gains)))
    base = float(np.sqrt((mean**2).sum()))
    if spread == 0:
        return 0.0
    return spread / base if base > 0 else float("inf")


def image_rejection(
    weight: NDArray[np.floating], stride: int, dilation: int = 1, frequencies: NDArray[np.floating] | None = None
) -> tuple[Array, Array]:
    """How far a 1-D up-sampling layer keeps the images of a tone below the tone itself.

    A tone of frequency ``f`` (cycles per input sample) leaves a transposed convolution at the output frequencies
    ``(f + j) / s``; ``j = 0`` is the tone, the others are its images. Balanced phases (a zero at DC's images) are
    too weak a demand for audio: Pons et al. (arXiv 2010.14356) show tonal artifacts over the whole band.

    Args:
        weight: ``(C_in, C_out / groups, k)``.
        stride: Stride ``s``.
        dilation: Dilation ``d``.
        frequencies: In cycles per input sample, between 0 and 0.5; 33 evenly spaced ones by default.

    Returns:
        The frequencies and, for each, ``20 log10(||W(f/s)||_F / max_j ||W((f+j)/s)||_F)`` in dB: large is good,
        ``inf`` where the images vanish, ``-inf`` where the tone itself does.

    Raises:
        ParameterError: If the weight is not 1-D.
    """
    if weight.ndim != 3:
        raise ParameterError(f"weight has shape {weight.shape}; image rejection is defined for (C_in, C_out, k)")
    f = np.linspace(0, 0.5, 33) if frequencies is None else np.asarray(frequencies, np.float64)
    k = weight.shape[-1]
    images = (f[:, None] + np.arange(stride)) / stride  # (F, s)
    wave = np.exp(-2j * np.pi * images[..., None] * dilation * np.arange(k))  # (F, s, k)
    flat = np.asarray(weight, np.float64).reshape(-1, k)
    gram = flat.T @ flat  # ||W(f)||_F^2 = e^H (W^T W) e
    power = np.einsum("fsk,kl,fsl->fs", wave, gram, wave.conj()).real.clip(min=0)
    floor = 1e-30 * max(float(np.trace(gram)) * k, 1e-300)
    power = np.where(power < floor * 1e3, 0.0, power)
    with np.errstate(divide="ignore", invalid="ignore"):
        worst = power[:, 1:].max(1, initial=0.0)
        rejection = 10 * np.log10(power[:, 0] / worst)
    return f, np.where(worst == 0, np.inf, rejection)
