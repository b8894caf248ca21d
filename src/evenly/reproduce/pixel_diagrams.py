"""Diagrams drawn pixel by pixel, so that they stay crisp when they are enlarged by whole factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["counts_plane", "matrix_picture", "overlap_diagram", "pattern_plane"]

Bytes = NDArray[np.uint8]
Array = NDArray[np.float64]

_PAPER: Final = (255, 255, 255)
_INK: Final = (29, 36, 48)
# Okabe and Ito (2008): colours that people with any form of colour blindness tell apart.
_COLOURS: Final = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (240, 228, 66),
)  # fmt: skip
# Dark blue to yellow by way of teal: lightness rises evenly, so greater counts are lighter for everyone.
_RAMP: Final = np.array([(24, 28, 74), (32, 86, 122), (44, 140, 128), (136, 190, 96), (252, 231, 94)], np.float64)


def _blank(height: int, width: int) -> Bytes:
    return np.full((height, width, 3), _PAPER, np.uint8)


def overlap_diagram(size: int, kernel: int, stride: int, width: int, most: int = 2) -> Bytes:
    """What every input of a transposed convolution paints, one above the other, and how much is painted in all.

    Args:
        size: Inputs, one line each.
        kernel: Kernel size.
        stride: Stride.
        width: Output positions shown, from the first; outputs beyond are cut off.
        most: Inputs that paint one position for which there is room.

    Returns:
        ``(6 (size + most) + 5, 6 width + 1, 3)``, the column of paint below its inputs.
    """
    cell = 6
    sheet = _blank(cell * (size + most) + 5, cell * width + 1)
    counts = np.zeros(width, np.int64)
    for i in range(size):
        for n in range(stride * i, min(stride * i + kernel, width)):
            sheet[cell * i + 1 : cell * i + cell, cell * n + 1 : cell * n + cell] = _COLOURS[i % len(_COLOURS)]
            counts[n] += 1
    begin = cell * size + 4
    sheet[begin - 2] = _INK
    writers = [[i for i in range(size) if stride * i <= n < stride * i + kernel] for n in range(width)]
    for n, above in enumerate(writers):
        for level, i in enumerate(above[:most]):
            y = begin + cell * level
            sheet[y : y + cell - 1, cell * n + 1 : cell * n + cell] = _COLOURS[i % len(_COLOURS)]
    return sheet


def _shaded(values: Array, low: float, high: float) -> Bytes:
    """Numbers as colours of the ramp; all alike if there is no range."""
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full(values.shape, 0.5)
    place = share * (len(_RAMP) - 1)
    base = np.minimum(place.astype(int), len(_RAMP) - 2)
    part = (place - base)[..., None]
    return np.asarray(np.rint(_RAMP[base] * (1 - part) + _RAMP[base + 1] * part), np.uint8)


def counts_plane(counts: Array, cell: int = 5) -> Bytes:
    """A plane of counts, one square for each with a line between them, the lowest dark and the highest light.

    Args:
        counts: ``(H, W)``; 0 is the dark end.
        cell: Pixels of a square, its line included.
    """
    colours = _shaded(counts, 0, float(counts.max()))
    sheet = np.full((cell * counts.shape[0] + 1, cell * counts.shape[1] + 1, 3), _INK, np.uint8)
    for y, line in enumerate(colours):
        for x, colour in enumerate(line):
            sheet[cell * y + 1 : cell * y + cell, cell * x + 1 : cell * x + cell] = colour
    return sheet


def pattern_plane(pattern: Array, side: int, reach: float) -> Bytes:
    """The outer product of a periodic pattern with itself, each of mean 1, as a grey plane.

    Args:
        pattern: One period, ``(P,)``.
        side: Of the plane, in pixels.
        reach: What black and white differ from the mean by, relative to it.

    Returns:
        ``(side, side, 3)``; the mean is mid grey.
    """
    line = np.resize(pattern / pattern.mean(), side)
    plane = (np.outer(line, line) - 1) / reach
    grey = np.rint(np.clip(127.5 + 127.5 * plane, 0, 255)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def matrix_picture(weights: NDArray[np.int64], cell: int = 9) -> Bytes:
    """A layer's matrix with every weight in its colour; where several are added they share the square.

    Args:
        weights: ``(outputs, inputs)``, sums of powers of two, ``2**j`` for weight ``j``.
        cell: Pixels of a square, its line included.
    """
    height, width = weights.shape
    sheet = np.full((cell * height + 1, cell * width + 1, 3), (222, 226, 233), np.uint8)
    for (y, x), value in np.ndenumerate(weights):
        inside = sheet[cell * y + 1 : cell * y + cell, cell * x + 1 : cell * x + cell]
        inside[:] = _PAPER
        used = [j for j in range(int(value).bit_length()) if int(value) >> j & 1]
        for piece, colour in zip(_pieces(inside, len(used)), used, strict=True):
            piece[:] = _COLOURS[colour % len(_COLOURS)]
    return sheet


def _pieces(square: Bytes, count: int) -> Sequence[Bytes]:
    """A square cut into upright stripes, as views."""
    return np.array_split(square, count, axis=1) if count else []
