"""Outputs of a model as arrays to look at: pictures, their spectra and changes, waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from evenly.fix.levels import NEAR, WIDE, hann
from evenly.measure.phases import new_lines
from evenly.report.page.pixels import reduced

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evenly.fix.result import Samples

__all__ = [
    "Look",
    "amplified",
    "busiest",
    "frequencies",
    "lines_of",
    "look",
    "most_changed",
    "on_both_borders",
    "over_surroundings",
    "power",
    "shades",
    "widened",
]

_GAINS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Look:
    """Samples reduced to what can be shown.

    Attributes:
        axes: 1 or 2; 0 where a signal has no positions.
        before, after: ``(N, C, *sizes)`` with C 1 or 3, float64.
        reference: The same, or ``None``.
        low, high: Values of black and white.
        words: What was left out, for the reader.
    """

    axes: int
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    reference: NDArray[np.float64] | None
    low: float
    high: float
    words: str

    @property
    def shown(self) -> bool:
        """Whether there is anything to see: values, and positions that they stand at."""
        return self.axes > 0 and self.before.size > 0


def look(samples: Samples) -> Look:
    """One channel or three, one axis or two: of volumes the middle slice, of other channels the first."""
    shape = np.shape(samples.before)
    axes, channels = len(shape) - 2, shape[1]
    words = []
    if axes == 3:
        words.append(f"slice {shape[2] // 2 + 1} of {shape[2]} along the first axis")
    if channels not in (1, 3) or (axes == 1 and channels > 1):
        words.append(f"channel 1 of {channels}")

    def cut(array: Any) -> NDArray[np.float64]:
        found = np.asarray(array)
        found = found[:, :, found.shape[2] // 2] if axes == 3 else found
        kept = found if channels in (1, 3) and axes > 1 else found[:, :1]
        return np.nan_to_num(kept.astype(np.float64), nan=0.0, posinf=samples.high, neginf=samples.low)

    before, after = cut(samples.before), cut(samples.after)
    low, high = samples.low, samples.high
    if before.size and not high > low:
        low, high = float(before.min()), float(max(before.max(), before.min() + 1e-6))
    real = None if samples.reference is None or not len(samples.reference) else cut(samples.reference)
    return Look(min(axes, 2), before, after, real, low, high, ", ".join(words))


# ------------------------------------------------------------------------------------------------------------ pictures


def shades(signal: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """A signal ``(C, H, W)`` as pixels ``(H, W)`` or ``(H, W, 3)``."""
    scaled = np.rint(255 * np.clip((signal - low) / (high - low), 0, 1)).astype(np.uint8)
    return scaled[0] if len(scaled) == 1 else np.moveaxis(scaled, 0, -1)


def amplified(before: NDArray[np.float64], after: NDArray[np.float64], span: float) -> tuple[NDArray[np.uint8], int]:
    """The change of a signal around mid-grey, made stronger by a round factor as far as hardly a value is cut off.

    Args:
        before: Shape (C, H, W).
        after: The same.
        span: From black to white.

    Returns:
        Pixels and the factor.
    """
    change = after - before
    most = float(np.quantile(np.abs(change), 0.999))
    gain = next((g for g in reversed(_GAINS) if g * most <= span / 2), 1)
    return shades(change * gain, -span / 2, span / 2), gain


def most_changed(seen: Look) -> list[int]:
    """Signals, those that change most first."""
    change = np.abs(seen.after - seen.before).mean(axis=tuple(range(1, seen.before.ndim)))
    return [int(n) for n in np.argsort(-change, kind="stable")]


def busiest(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Where a signal ``(C, H, W)`` changes most: shares of width and height."""
    change = np.abs(after - before).mean(axis=0)
    blocks = reduced(change, max(1, max(change.shape) // 24))
    row, column = np.unravel_index(int(blocks.argmax()), blocks.shape)
    return (float(column) + 0.5) / blocks.shape[1], (float(row) + 0.5) / blocks.shape[0]


# ------------------------------------------------------------------------------------------------------------- spectra


def frequencies(sizes: Sequence[int], periods: Sequence[int], most: int = 240) -> int:
    """How many frequencies per axis to look at: as many as there are samples, or a few less, with every line."""
    size = min(*sizes, most)
    every = lcm(*periods) if periods else 1
    return size // every * every or size


def power(signals: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Power by frequency, through a Hann window over the whole signal: mean over channels, of dB over signals.

    So are the levels that a repair is judged by (:mod:`evenly.fix.levels`): loud signals do not outweigh quiet ones.

    Args:
        signals: Shape (N, C, *sizes), one or two axes.
        bins: Frequencies per axis, evenly from 0, in cycles per sample ``k / bins``.

    Returns:
        In dB, shape (bins,) or (bins, bins).
    """
    found: NDArray[Any] = signals - signals.mean(axis=tuple(range(2, signals.ndim)), keepdims=True)
    for axis, size in enumerate(signals.shape[2:]):
        turns = np.exp(-2j * np.pi * np.outer(np.arange(bins), np.arange(size)) / bins)
        found = np.tensordot(found, turns * hann(size), (2, 1))
        assert found.shape[-1] == bins, axis
    powers = (np.abs(found) ** 2).mean(axis=1)
    return np.asarray(10 * np.log10(np.maximum(powers, 1e-20)).mean(axis=0))


def over_surroundings(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """A spectrum in dB over the median of what is around each frequency, the line itself and its leakage left out.

    Args:
        levels: Shape (bins, bins), zero frequency first.
    """
    around = np.pad(levels.astype(np.float32), WIDE, mode="wrap")
    distance = np.max(np.abs(np.indices((2 * WIDE + 1,) * 2) - WIDE), axis=0)
    windows = sliding_window_view(around, distance.shape)
    rings = (distance == NEAR) | (distance == WIDE)  # the nearest that are clean, and the farthest
    return np.asarray(levels - np.median(windows[..., rings], axis=-1))


def widened(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest of every frequency and those next to it, so that a line of one bin can be seen."""
    around = np.pad(levels, 1, mode="wrap")
    return np.asarray(sliding_window_view(around, (3, 3)).max(axis=(2, 3)))


def lines_of(period: int, axes: int) -> NDArray[np.float64]:
    """Frequencies of a period's lines, shape (lines, axes), from -1/2 to 1/2, both of every pair."""
    index, _ = new_lines(period, axes)
    both = np.concatenate([index, -index]) / period
    return np.unique(both - np.floor(both + 0.5), axis=0)


def on_both_borders(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequencies of -1/2 once more as 1/2, which they are too."""
    for axis in range(lines.shape[1]):
        edge = lines[lines[:, axis] == -0.5]
        edge[:, axis] = 0.5
        lines = np.concatenate([lines, edge])
    return lines
