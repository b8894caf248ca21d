"""What the shape of a pattern says of where it comes from: its lines' places and sizes, whatever their certainty.

Up-sampling leaves a pattern that repeats after whole pixels *along both axes*, hence lines exactly at multiples of
``1 / p``; an overlap pattern is a product of one along each (Odena, Dumoulin and Olah 2016) with much of its energy on
the axes, and a sub-pixel convolution's is spread over all lines. What is drawn or printed has other shapes.
"""

from __future__ import annotations

from math import gcd, lcm
from typing import TYPE_CHECKING

import numpy as np

from evenly.measure.examine import grid_of
from evenly.measure.lines import chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from evenly.measure.examine import Examination
    from evenly.measure.lines import PlaneLines
    from evenly.measure.result import Lines, PeriodResult, Trace
    from evenly.measure.tapers import Plan

__all__ = ["along_one_axis", "at_edges", "displaced", "is_screen"]

_LEAST_TILE, _EDGES = 8, 0.8  # pixels; share of a pattern's energy in two neighbouring pixels
_ONE_AXIS = -12.0  # log10 p along one axis from which the others are looked at
_OTHER_AXES = 0.1  # what part of that the others reach at least if both axes are up-sampled
_LEAST_SCREEN = 5  # pixels: shorter periods have no lines but those that such a lattice could have
_ALIKE = 0.7  # energy of the weaker of a screen's two generators over the stronger's
_GENERATORS, _LATTICE = 0.5, 0.9  # their share of the pattern's energy, and that of both with their sum and difference
_WAVE = 0.7  # share of a pattern's energy from which one line is a wave
_OFF = 0.15  # bins beside a whole period that are no error of the estimate
_WAVE_GAIN, _GAIN = 4.0, 15.0  # in log likelihood over the whole period, for waves and for the largest line of any
_SHIFTS = np.linspace(-1.5, 1.5, 31)  # bins


def along_one_axis(strongest: Trace) -> bool:
    """Whether the lines of a trace are certain along one axis and next to absent elsewhere, as stripes' are."""
    axes = (strongest.log10_p_x, strongest.log10_p_y, strongest.log10_p_diagonal)
    x, y, rest = (0.0 if v is None else v for v in axes)
    first, second = min(x, y), max(x, y)
    return first < _ONE_AXIS and min(second, rest) > _OTHER_AXES * first


def is_screen(found: Mapping[int, Lines]) -> bool:
    """Whether a pattern is that of a printing screen, whose dots stand on a square lattice at an angle to the axes.

    Such a lattice has two generators, a quarter turn apart: the lines ``(a, b)`` and ``(-b, a)`` are alike in strength
    and have most of the energy, and with their sum and difference, which grow as the dots meet, nearly all of it.

    Args:
        found: The lines of every period at which the pattern was found.
    """
    base = lcm(*found)
    energy = {
        _place((base // p * a, base // p * b), base): float(size) ** 2
        for p, lines in found.items()
        for (a, b), size in zip(lines.index.tolist(), lines.amplitude, strict=True)
    }
    total = sum(energy.values())
    for (a, b), first in energy.items():
        turned = _place((-b, a), base)
        second = energy.get(turned, 0.0)
        if not a or not b or base // gcd(a, b, base) < _LEAST_SCREEN or turned == (a, b):
            continue
        if min(first, second) > _ALIKE * max(first, second) and first + second > _GENERATORS * total:
            lattice = {(a, b), turned, _place((a - b, a + b), base), _place((a + b, b - a), base)}
            if sum(energy.get(line, 0.0) for line in lattice) > _LATTICE * total:
                return True
    return False


def _place(line: tuple[int, int], period: int) -> tuple[int, int]:
    """Of a line and its conjugate, the one that stands for both."""
    a, b = line
    return min((a % period, b % period), (-a % period, -b % period))


def displaced(found: Mapping[int, Lines], examination: Examination) -> bool:
    """Whether what was found in the mean trace is a wave of a period beside the whole one, seen from there.

    The tapers tell frequencies apart that differ by a fraction of a bin (one cycle per picture). The largest line may
    stand further off than the one that is the most certain, and all that a single wave has is one line: then less
    certainty is enough.

    Args:
        found: The lines of every period at which the pattern was found.
        examination: Has the grids of frequencies that they were found in.
    """
    places = []  # (energy in the tapers, log p, amplitude squared, grid, where in it)
    for period, lines in found.items():
        grid = grid_of(examination.grids["mean"], period)
        assert grid is not None
        _, (rows, columns) = chosen(grid, period)
        energy = (np.abs(grid.y[rows, columns]) ** 2).sum(axis=1)
        certain = grid.log_p[0][rows, columns]
        places += [
            (float(e), float(c), float(a) ** 2, grid, (int(i), int(j)))
            for e, c, a, i, j in zip(energy, certain, lines.amplitude, rows, columns, strict=True)
        ]
    *_, grid, at = max(places, key=lambda place: place[0])
    if _is_off(grid, at, examination.layout, _GAIN):
        return True
    *_, grid, at = min(places, key=lambda place: place[1])
    powers = [place[2] for place in places]
    return max(powers) > _WAVE * sum(powers) and _is_off(grid, at, examination.layout, _WAVE_GAIN)


def _is_off(grid: PlaneLines, at: tuple[int, int], layout: Plan, least: float) -> bool:
    """Whether a sinusoid beside a line's frequency leaves so much less of its tapered sums than one at it."""
    group = grid.group
    y = grid.y[at].astype(np.complex128).reshape(group.tapers, group.tapers)
    energy = float(np.vdot(y, y).real)
    if not energy:
        return False
    down, along = (
        tapers @ np.exp(2j * np.pi * np.outer(np.arange(n) / n - 0.5, _SHIFTS))
        for tapers, n in ((group.taper_rows, layout.height), (group.taper_columns.T, layout.width))
    )
    fitted = np.abs(down.conj().T @ y @ along.conj()) ** 2
    size = (np.abs(down) ** 2).sum(0)[:, None] * (np.abs(along) ** 2).sum(0)[None]
    rest: NDArray[np.float64] = 1.0 - np.minimum(fitted / (size * energy), 1.0 - 1e-9)
    best = np.unravel_index(int(np.argmin(rest)), rest.shape)
    centre = len(_SHIFTS) // 2
    gain = np.log(rest[centre, centre] / rest[best]) * (group.tapers**2 - 1)
    return bool(np.hypot(*_SHIFTS[list(best)]) > _OFF and gain > least)


def at_edges(results: Mapping[int, PeriodResult], period: int) -> bool:
    """Whether along both axes the pattern is all in two neighbouring pixels of a long period."""
    if period < _LEAST_TILE:
        return False
    n = np.arange(period)
    for axis in (0, 1):
        profile = np.zeros(period)
        for p, result in results.items():
            if period % p == 0 and result.mean is not None and (lines := result.mean.lines) is not None:
                along = lines.index[:, 1 - axis] == 0
                turns = 2 * np.pi * np.outer(n, lines.index[along, axis]) / p + lines.phase[along]
                profile += (lines.amplitude[along] * np.cos(turns)).sum(axis=1)
        energy = profile**2
        if (energy + np.roll(energy, 1)).max() < _EDGES * energy.sum():
            return False
    return True
