"""Gradient ascent on features, as DeepDream does it (Mordvintsev, Olah & Tyka 2015), and what it leaves in pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from evenly.reproduce.instruments import axis_spectrum, levels

__all__ = ["Ascent", "Objective", "ascend", "concentration", "high_share", "many_features", "marks", "one_feature"]

Bytes = NDArray[np.uint8]
Objective = Callable[[Tensor], Tensor]
"""From pictures ``(N, 3, H, W)`` to the scalar that is to grow, a sum over the pictures."""

_OCTAVE = 1.4
"""Ratio of one size to the next of DeepDream's octaves."""


@dataclass(frozen=True)
class Ascent:
    """How the ascent goes.

    Attributes:
        steps: Altogether.
        step: By how much the average sample moves in each, in grey levels.
        jitter: Each step looks at the picture from an offset of its own, 0 to `jitter` pixels along either axis,
            wrapping round; 0 for a fixed position.
        octaves: Sizes that share the steps, from small to large; what was added is enlarged from one to the next.
    """

    steps: int
    step: float = 1.5
    jitter: int = 0
    octaves: int = 1


def one_feature(body: nn.Module, channels: Sequence[int]) -> Objective:
    """The mean of one channel over all positions; each picture has a channel of its own.

    Args:
        body: From pictures to features ``(N, C, h, w)``.
        channels: One for each picture.
    """

    def objective(pictures: Tensor) -> Tensor:
        features = body(pictures)
        return torch.stack([features[n, channel].mean() for n, channel in enumerate(channels)]).sum()

    return objective


def many_features(body: nn.Module) -> Objective:
    """The mean square of all channels at all positions: DeepDream's own."""

    def objective(pictures: Tensor) -> Tensor:
        total: Tensor = body(pictures).square().flatten(1).mean(1).sum()
        return total

    return objective


def ascend(objective: Objective, starts: Tensor, ascent: Ascent, rng: np.random.Generator) -> Tensor:
    """Let an objective grow.

    Args:
        objective: What grows.
        starts: ``(N, 3, H, W)``, -1 to 1.
        ascent: How.
        rng: Of the offsets.

    Returns:
        Pictures of the same shape, -1 to 1.
    """
    height, width = starts.shape[-2:]
    added = torch.zeros_like(starts)
    for octave in range(ascent.octaves):
        shrink = _OCTAVE ** -(ascent.octaves - 1 - octave)
        size = [round(side * shrink) for side in (height, width)]
        base = _resized(starts, size)
        pictures = (base + _resized(added, size)).clamp(-1, 1)
        for _ in range(ascent.steps * octave // ascent.octaves, ascent.steps * (octave + 1) // ascent.octaves):
            shift = rng.integers(0, ascent.jitter + 1, 2).tolist()
            seen = pictures.roll(shift, (2, 3)).detach().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(objective(seen), seen)
            gradient = gradient.roll([-s for s in shift], (2, 3))
            scale = gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-20)
            pictures = (pictures + ascent.step / 127.5 * gradient / scale).clamp(-1, 1)
        added = pictures - base
    return pictures.detach()


def _resized(pictures: Tensor, size: list[int]) -> Tensor:
    if list(pictures.shape[-2:]) == size:
        return pictures
    return interpolate(pictures, size, mode="bicubic", antialias=True)


def marks(pictures: Bytes, starts: Bytes, periods: Sequence[int]) -> dict[str, Any]:
    """What an ascent left.

    Args:
        pictures: ``(N, H, W, 3)``, square.
        starts: Where they started.
        periods: Of the lines, in pixels; all divide the last one, and that the size.

    Returns:
        JSON: ``lines``, the lines of the pictures (`evenly.reproduce.instruments.Levels`), against the pictures
        started from; ``high_db``, share of the added pattern's energy that is of high frequency
        (:func:`high_share`); ``concentration_db`` (:func:`concentration`); ``spectrum``, mean power of the added
        pattern along the axes in dB, at frequencies 0 to 0.5.
    """
    change = pictures.astype(np.float64) - starts
    power = _power(change)
    return {
        "lines": levels(pictures, periods, starts).to_dict(),
        "high_db": high_share(power),
        "concentration_db": concentration(power, max(periods)),
        "spectrum": axis_spectrum(change)[1].tolist(),
    }


def _power(change: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean power spectrum ``(size, size)`` of pictures ``(N, size, size, 3)``, Hann window, mean over the colours."""
    size = change.shape[1]
    window = np.hanning(size + 2)[1:-1]
    centred = change - change.mean(axis=(1, 2), keepdims=True)
    spectrum = np.fft.fft2(centred * np.outer(window, window)[None, :, :, None], axes=(1, 2))
    return np.asarray((np.abs(spectrum) ** 2).mean(axis=(0, 3)), np.float64)


def _high(size: int) -> NDArray[np.bool_]:
    """Frequencies that sampling by 2 cannot keep: beyond 1/4 cycle per pixel along an axis."""
    beyond = np.abs(np.fft.fftfreq(size)) > 0.25
    return np.asarray(beyond[:, None] | beyond[None, :])


def high_share(power: NDArray[np.float64]) -> float:
    """Share of a power spectrum ``(size, size)`` beyond 1/4 cycle per pixel along either axis, in dB of the whole.

    White noise has 3/4 of its energy there (-1.2 dB).
    """
    return float(10 * np.log10(power[_high(len(power))].sum() / power.sum()))


def concentration(power: NDArray[np.float64], period: int) -> float:
    """How much of the energy of high frequency lies on the lines of a period, against noise without lines.

    The lines are the frequencies ``(a/period, b/period)`` cycles per pixel, with the neighbouring bins that the Hann
    window spreads them over.

    Args:
        power: ``(size, size)``, a power spectrum; the period divides the size.
        period: In pixels.

    Returns:
        Mean power on the lines over mean power of all high frequencies, in dB; 0 for noise without lines.
    """
    size = len(power)
    apart = size // period
    near = (np.arange(size) + 1) % apart <= 2
    high = _high(size)
    lines = near[:, None] & near[None, :] & high
    return float(10 * np.log10(power[lines].mean() / power[high].mean()))
