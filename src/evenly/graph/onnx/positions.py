"""Constant positions as the interpolation that they spell out.

Exporters write some interpolations as reads by index: output ``k`` is ``(1 - w[k]) x[lo[k]] + w[k] x[hi[k]]`` with
numbers that the file decides. Such a read sits at the coordinate ``u(k) = lo[k] + w[k] (hi[k] - lo[k])``. The known
formulas (:func:`evenly.theory.resize.axis_resize`) are compared with it at every position, borders included, and the
one that agrees takes its place: with exact fractions instead of the file's rounded weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.theory.resize import AxisResize, TooManyTaps, axis_resize

__all__ = ["interpolation", "nearest"]

Array = NDArray[Any]
ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Coordinates are computed in float32, by a multiplication and two additions: an error relative to the largest."""

SIMPLEST = 64
"""Largest denominator of a scale that is told from the positions."""

# Names of the mode for people, and the rules of the formulas, those of PyTorch first.
_NEAREST: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("nearest", "nearest", {"coordinate": "asymmetric", "nearest": "floor"}),
    ("nearest-exact", "nearest_exact", {}),
    ("nearest", "nearest", {"coordinate": "half_pixel", "nearest": "round_prefer_floor"}),
    ("nearest", "nearest", {"coordinate": "align_corners", "nearest": "round_prefer_floor"}),
    ("nearest", "nearest", {"coordinate": "asymmetric", "nearest": "round_prefer_floor"}),
)
_LINEAR: tuple[tuple[str, str, dict[str, str]], ...] = tuple(
    ("linear", "linear", {"coordinate": coordinate}) for coordinate in ("half_pixel", "align_corners", "asymmetric")
)


def interpolation(size: int, low: Array, high: Array, weight: Array) -> tuple[AxisResize, str] | None:
    """The linear interpolation that reads between neighbours.

    Args:
        size: Samples before.
        low: Position of the first sample, per output.
        high: Position of the second sample, per output.
        weight: Share of the second sample, per output.

    Returns:
        The resampling and its name, or ``None`` if no formula reads these positions.
    """
    neighbours = np.isin(high - low, (0, 1)).all() and low.min() >= 0 and high.max() < size
    if not neighbours or not ((weight >= 0) & (weight <= 1)).all():
        return None
    return _matched(size, low + weight * (high - low), _LINEAR, ROUNDING * size)


def nearest(size: int, places: Array) -> tuple[AxisResize, str] | None:
    """The nearest-neighbour interpolation that reads these positions, in the same form as :func:`interpolation`."""
    if places.min() < 0 or places.max() >= size or (np.diff(places) < 0).any():
        return None
    return _matched(size, places.astype(np.float64), _NEAREST, 0.0)


def _matched(
    size: int, read: Array, formulas: tuple[tuple[str, str, dict[str, str]], ...], tolerance: float
) -> tuple[AxisResize, str] | None:
    for scale in _scales(size, read):
        for name, mode, rules in formulas:
            try:
                found = axis_resize(size, len(read), mode, scale=scale, **rules)  # type: ignore[arg-type]
            except TooManyTaps:
                continue
            if np.abs(_coordinates(found, size, len(read)) - read).max() <= tolerance:
                return found, name
    return None


def _scales(size: int, read: Array) -> Iterator[Fraction | None]:
    """The ratio of the sizes, then the one that the middle of the positions shows: a size may have been rounded."""
    yield None
    inside = np.flatnonzero((read > 0) & (read < size - 1))
    if len(inside) > 1 and read[inside[-1]] > read[inside[0]]:
        slope = float((inside[-1] - inside[0]) / (read[inside[-1]] - read[inside[0]]))
        scale = Fraction(slope).limit_denominator(SIMPLEST)
        if 0 < scale.numerator <= len(read):  # as many phases: fewer outputs show less than one period
            yield scale


def _coordinates(resize: AxisResize, size: int, outputs: int) -> Array:
    """Where every output reads: the mean of its taps, which replicate the edge samples."""
    result = np.zeros(outputs)
    for phase, taps in enumerate(resize.taps[:outputs]):
        base = np.arange(len(result[phase :: resize.up])) * resize.down
        for offset, share in taps:
            result[phase :: resize.up] += share * (base + offset).clip(0, size - 1)
    return result
