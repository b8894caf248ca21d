"""How strong the lines of a signal are, beside their neighbourhood: what a repair is judged by.

A line of period ``p`` stands at a frequency ``(a_1/p, ..., a_n/p)`` with ``gcd(a_1, ..., a_n, p) = 1``, so that the
lines of period 2 are not counted again under 4. Signals are read through a Hann window over their whole length on every
axis; such a line leaks two bins to each side, hence the nearest clean neighbours are three bins away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError
from evenly.measure.phases import new_lines

__all__ = ["NEAR", "WIDE", "Level", "Reading", "hann", "line_levels", "line_powers", "powers", "resolvable"]

Array = NDArray[np.float64]

NEAR = 3
"""Bins between a line and its nearest clean neighbours."""
WIDE = 5
"""Bins between a line and the farthest neighbours of the wide background."""
_TINY = 1e-30
"""Power below which there is no background to compare with."""


@dataclass(frozen=True)
class Level:
    """Lines of one period in a set of signals, each signal counting alike.

    Means are of decibels (geometric), so that neither a few signals of high contrast nor a few flat ones decide.

    Attributes:
        near_db: Mean over signals of the lines' power over that of their nearest clean neighbours, in dB.
        wide_db: The same over the median of a wider neighbourhood, in dB.
        signals: How many signals had any background to compare with.
    """

    near_db: float
    wide_db: float
    signals: int

    def over(self, reference: Level | None = None) -> float:
        """The larger of both over those of a reference, in dB; over none, the larger itself."""
        if reference is None:
            return max(self.near_db, self.wide_db)
        return max(self.near_db - reference.near_db, self.wide_db - reference.wide_db)


def resolvable(sizes: Sequence[int], period: int) -> bool:
    """Whether lines of a period can be told from their neighbours on a lattice of these sizes.

    Lines are ``size / period`` bins apart; a bin counts as background if it is three bins from every line.
    """
    return all(size // period >= 2 * NEAR for size in sizes)


def line_levels(signals: NDArray[np.floating], periods: Sequence[int]) -> Mapping[int, Level]:
    """Levels of the lines of every period that the sizes allow.

    Args:
        signals: ``(N, C, *sizes)``, one to three axes.
        periods: In samples, 2 or more.

    Raises:
        ParameterError: If the array has no axis or more than three.
    """
    sizes = signals.shape[2:]
    if not 1 <= len(sizes) <= 3:
        raise ParameterError(f"signals of shape {signals.shape} must be (N, C, *sizes) with one to three axes")
    reading = Reading(periods)
    reading.add(signals)
    return reading.levels()


def powers(signals: NDArray[np.floating], period: int) -> Array:
    """Power of each signal's lines of a period, and of their surroundings.

    Returns:
        ``(3, N)``: on the lines, of their nearest clean neighbours, and the median of the wider neighbourhood; weighted
        means over lines, means over channels.
    """
    sizes = signals.shape[2:]
    reach = min(WIDE, min(sizes) // period - NEAR)
    distance = np.max(np.abs(np.indices((2 * reach + 1,) * len(sizes)) - reach), axis=0)
    places, weights = new_lines(period, len(sizes))
    total = np.zeros((3, len(signals)))
    for place, weight in zip(places, weights / weights.sum(), strict=True):
        power = line_powers(signals, tuple(int(a) / period for a in place), reach)  # (N, *bins)
        total[0] += weight * power[:, distance == 0][:, 0]
        total[1] += weight * power[:, distance == NEAR].mean(1)
        total[2] += weight * np.median(power[:, distance >= NEAR], 1)
    return total


class Reading:
    """Levels of many batches, read one after the other: memory grows by a few numbers per signal.

    Args:
        periods: In samples.
    """

    def __init__(self, periods: Sequence[int]) -> None:
        self._found: dict[int, list[Array]] = {period: [] for period in periods}

    def add(self, signals: NDArray[np.floating]) -> None:
        """Read a batch ``(N, C, *sizes)``; periods that its sizes do not allow are left out."""
        for period, found in self._found.items():
            if resolvable(signals.shape[2:], period):
                found.append(powers(signals, period))

    def levels(self) -> dict[int, Level]:
        """Of the periods that some batch allowed."""
        return {period: _level(np.concatenate(found, 1)) for period, found in self._found.items() if found}


def _level(found: Array) -> Level:
    on, near, wide = found
    heard = (near > _TINY) & (wide > _TINY)
    if not heard.any():
        return Level(0.0, 0.0, 0)
    near_db, wide_db = (
        float(np.mean(10 * np.log10(np.maximum(on[heard], _TINY) / other[heard]))) for other in (near, wide)
    )
    return Level(near_db, wide_db, int(heard.sum()))


def line_powers(signals: NDArray[np.floating], frequency: tuple[float, ...], reach: int) -> Array:
    """Power of each signal at a frequency and in the bins around it, mean over its channels.

    Args:
        signals: ``(N, C, *sizes)``.
        frequency: Cycles per sample, per axis.
        reach: Bins to each side.

    Returns:
        ``(N, *(2 reach + 1,) * axes)``.
    """
    spectrum: NDArray[Any] = signals
    for axis, f in enumerate(frequency):
        kernel = _kernel(signals.shape[2 + axis], f, reach)  # (bins, size)
        spectrum = np.tensordot(spectrum, kernel, (2, 1))  # the axis leaves its place, its bins come last
    return np.asarray((np.abs(spectrum) ** 2).mean(1), np.float64)


@lru_cache(maxsize=64)
def _kernel(size: int, frequency: float, reach: int) -> NDArray[np.complex128]:
    bins = frequency + np.arange(-reach, reach + 1) / size
    return np.asarray(hann(size) * np.exp(-2j * np.pi * bins[:, None] * np.arange(size)), np.complex128)


def hann(size: int) -> Array:
    """Hann window of unit energy."""
    window = np.hanning(size + 2)[1:-1]
    return np.asarray(window / np.sqrt((window**2).sum()), np.float64)
