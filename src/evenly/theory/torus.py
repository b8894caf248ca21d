"""Fixed linear operations on one period cell.

Away from borders, a network that starts from a constant only ever carries periodic fields; a field of period ``P`` is a
signal on the torus ``Z_P``, and every fixed linear operation (interpolation, average pooling, cropping) is a small
matrix from cell to cell. Convolutions index the cell directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from evenly.theory.resize import AxisResize

__all__ = [
    "conv_cell",
    "conv_index",
    "line_periods",
    "pool_matrix",
    "resize_matrix",
    "slice_index",
    "transpose_index",
]

Array = NDArray[np.float64]


def conv_cell(period: int, stride: int) -> int:
    """Period after down-sampling by ``stride``: ``lcm(P, s) / s``."""
    return period // gcd(period, stride)


def line_periods(cell: Sequence[int]) -> NDArray[np.int64]:
    """The period of every frequency ``(a/P_0, b/P_1, ...)`` of a cell: the smallest ``p`` with ``p f`` whole.

    A line of period 2 is not counted again under 4 and 8. Frequency 0 has period 1.
    """
    periods = np.ones(tuple(cell), np.int64)
    for axis, size in enumerate(cell):
        denominators = size // np.gcd(np.arange(size), size)
        periods = np.lcm(periods, denominators.reshape([-1 if a == axis else 1 for a in range(len(cell))]))
    return periods


@lru_cache(maxsize=1024)
def conv_index(period: int, kernel: int, stride: int, dilation: int, padding: int) -> NDArray[np.int64]:
    """Which cell position each output of a convolution reads: ``(s n + d t - p) mod P``, shape ``(P_out, k)``."""
    n = np.arange(conv_cell(period, stride))[:, None]
    return (stride * n + dilation * np.arange(kernel) - padding) % period


@lru_cache(maxsize=1024)
def transpose_index(period: int, kernel: int, stride: int, dilation: int, padding: int) -> NDArray[np.int64]:
    """Which output position each input of a transposed convolution writes: ``(s i + d t - p) mod sP``, ``(P, k)``."""
    i = np.arange(period)[:, None]
    return (stride * i + dilation * np.arange(kernel) - padding) % (stride * period)


def resize_matrix(resize: AxisResize, period: int) -> Array:
    """Resampling on a cell: ``(P_out, P)`` with ``P_out = up * lcm(P, down) / down``."""
    turns = lcm(period, resize.down) // resize.down
    matrix = np.zeros((resize.up * turns, period))
    for q in range(turns):
        for r, taps in enumerate(resize.taps):
            for offset, weight in taps:
                matrix[resize.up * q + r, (resize.down * q + offset) % period] += weight
    return matrix


def pool_matrix(period: int, kernel: int, stride: int, dilation: int, padding: int) -> Array:
    """Average pooling on a cell: ``(P_out, P)``, rows sum to 1."""
    index = conv_index(period, kernel, stride, dilation, padding)
    matrix = np.zeros((len(index), period))
    np.add.at(matrix, (np.arange(len(index))[:, None], index), 1 / kernel)
    return matrix


def slice_index(period: int, start: int, step: int) -> NDArray[np.int64]:
    """Positions ``start + step n`` of a cell, ``(P_out,)``; a crop or a pad is a step of 1 with some start."""
    return np.asarray((start + step * np.arange(conv_cell(period, abs(step)))) % period)
