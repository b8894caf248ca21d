"""What a picture's pattern looks like, and where in the picture it is."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import UsageError
from evenly.measure.levels import grey_levels
from evenly.measure.planes import strips
from evenly.measure.tapers import new_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from evenly.measure.result import Lines, Measurement

__all__ = ["BINS", "fold", "local_amplitude", "planes_of", "shown", "spectrum", "where", "where_measured"]

BINS = 240
"""Frequencies per axis of a :func:`spectrum`: every line of the usual periods falls on one."""
_MOST_LINES = 4  # of a period that are looked for in every place, the strongest


def where(pixels: NDArray[Any], period: int, lines: Lines | None = None) -> NDArray[np.float64]:
    """A map of where a picture has the pattern of a period: its local amplitude in grey levels (of 255).

    Args:
        pixels: Shape (H, W) or (H, W, 3), as for :func:`~evenly.measure.image.measure_image`.
        period: In pixels.
        lines: Which of the period's lines are strong, ``measurement.periods[period].mean.lines``.

    Returns:
        Shape (H, W).

    Raises:
        UsageError: If the period is below 2, or the array is no picture.
    """
    if period < 2:
        raise UsageError(f"period (={period}) must be at least 2 pixels")
    picture, level, _ = grey_levels(pixels)
    plane, weight = planes_of(picture, level)
    return local_amplitude(plane, weight, period, lines)


def where_measured(measurement: Measurement, period: int | None = None) -> NDArray[np.float64]:
    """The same map of a picture that was measured, see :func:`where`.

    Args:
        measurement: Of a picture whose pixels were kept.
        period: In pixels; by default the one with the most evidence, among those found if there are any.

    Raises:
        UsageError: If there are no pixels, or if the period was not measured.
    """
    pixels, chosen = shown(measurement, period)
    trace = measurement.periods[chosen].mean
    return where(pixels, chosen, None if trace is None else trace.lines)


def shown(measurement: Measurement, period: int | None = None) -> tuple[NDArray[Any], int]:
    """The pixels of a measurement, and the period to show of it: by default the one with the most evidence.

    Raises:
        UsageError: If there are no pixels, or if the period was not measured.
    """
    if measurement.pixels is None:
        raise UsageError(
            "no pixels were kept in this measurement; measure the picture with evenly.measure to see its pattern"
        )
    if period is not None and period not in measurement.periods:
        raise UsageError(f"period (={period}) was not measured; expected one of {list(measurement.periods)}")
    return measurement.pixels, _strongest(measurement) if period is None else period


def _strongest(measurement: Measurement) -> int:
    def evidence(period: int) -> float:
        traces = [t for t in measurement.periods[period].traces().values() if t is not None]
        return min((t.log10_p for t in traces), default=0.0)

    return min(measurement.found or measurement.periods, key=evidence)


def planes_of(
    pixels: NDArray[Any],
    level: Callable[[NDArray[Any]], NDArray[np.float32]],
    names: Iterable[str] = ("mean", "weight"),
) -> tuple[NDArray[np.float32], ...]:
    """Planes of a whole picture, each of shape (H, W).

    Args:
        pixels: Shape (H, W) or (H, W, 3).
        level: From pixels to grey levels of 255, float32.
        names: Which of luma's :class:`~evenly.measure.planes.Planes`; by default the mean trace's and its weight.
    """
    of = attrgetter(*names)
    parts = [of(strip) for strip in strips(pixels, level, every=False)]
    return tuple(np.concatenate(rows) for rows in zip(*parts, strict=True))


def spectrum(plane: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Power of a plane by frequency: Hann windows of up to 240 pixels, half overlapping, averaged.

    Args:
        plane: Shape (H, W).

    Returns:
        Shape (240, 240), zero frequency first, in dB over the median of the frequencies around each.
    """
    from scipy.ndimage import median_filter

    height, width = (min(n, BINS) for n in plane.shape)
    window = np.outer(_hann(height), _hann(width))
    total = np.zeros((BINS, BINS))
    for top in _starts(plane.shape[0], height):
        for left in _starts(plane.shape[1], width):
            tile = plane[top : top + height, left : left + width]
            total += np.abs(np.fft.fft2(window * (tile - tile.mean()), (BINS, BINS))) ** 2
    power = 10 * np.log10(np.maximum(total, 1e-9))
    around = min(max(15, 8 * BINS // min(height, width) + 1), 41)  # bins: more where a small picture blurs its lines
    return np.asarray(power - median_filter(power, around, mode="wrap"))


def _hann(size: int) -> NDArray[np.float64]:
    return np.asarray(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)


def _starts(size: int, tile: int) -> list[int]:
    """First pixels of tiles that cover an axis, half overlapping, at most 17."""
    count = min(17, 1 + math.ceil(2 * (size - tile) / tile))
    return [round(k * (size - tile) / max(1, count - 1)) for k in range(count)]


def fold(plane: NDArray[np.floating[Any]], weight: NDArray[np.floating[Any]], period: int) -> NDArray[np.float64]:
    """The pattern of one period that a picture has on average, without its mean.

    Args:
        plane: Shape (H, W), the weighted high-pass residual; its filter's gain is taken back.
        weight: Shape (H, W), per grey level: busy places count less.
        period: In pixels.

    Returns:
        Shape (period, period), in grey levels, beginning at the first pixel.
    """
    room = [(0, -n % period) for n in plane.shape]
    sums = []
    for x in (plane, weight):
        whole = np.pad(x, room)
        rows, columns = (n // period for n in whole.shape)
        sums.append(whole.reshape(rows, period, columns, period).sum((0, 2), np.float64))
    total, weights = sums
    cell = np.fft.fft2(total / np.maximum(weights, 1e-9))  # phases that a tiny picture does not have are 0
    cosine = np.cos(np.pi * np.arange(period) / period) ** 2
    gain = 1 - np.outer(cosine, cosine)
    gain[0, 0] = 1.0
    cell[0, 0] = 0.0
    return np.asarray(np.fft.ifft2(cell / gain).real)


def local_amplitude(
    plane: NDArray[np.floating[Any]],
    weight: NDArray[np.floating[Any]],
    period: int,
    lines: Lines | None = None,
) -> NDArray[np.float64]:
    """Amplitude of a period's strongest lines around every pixel, in grey levels.

    Args:
        plane: Shape (H, W), the weighted high-pass residual; its filter's gain is taken back.
        weight: Shape (H, W), per grey level: busy places count less.
        period: In pixels.
        lines: Which of the period's lines are strong; by default the first are taken.

    Returns:
        Shape (H, W): root of the summed squared amplitudes, each averaged by a Gaussian of 16 pixels, or of two periods
        if that is more.
    """
    from scipy.ndimage import gaussian_filter

    index = new_lines(period) if lines is None else lines.index[np.argsort(lines.log10_p, kind="stable")]
    width = max(16.0, 2.0 * period)
    rows, columns = (np.arange(n) for n in plane.shape)
    total = np.zeros(plane.shape)
    for down, along in index[:_MOST_LINES]:
        own = 2 * down % period == 0 and 2 * along % period == 0  # its own conjugate: all of its amplitude is here
        gain = 1 - (math.cos(math.pi * down / period) * math.cos(math.pi * along / period)) ** 2
        wave = np.outer(np.exp(-2j * np.pi * down * rows / period), np.exp(-2j * np.pi * along * columns / period))
        shifted = (plane * wave).astype(np.complex64)
        power = gaussian_filter(shifted.real, width) ** 2 + gaussian_filter(shifted.imag, width) ** 2
        total += ((1.0 if own else 2.0) / gain) ** 2 * power
    return np.asarray(np.sqrt(total) / gaussian_filter(weight.astype(np.float64), width))
