"""Interpolation as a periodically time-varying FIR, one axis at a time."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AxisResize"]


@dataclass(frozen=True)
class AxisResize:
    """Resampling by ``up / down`` along one axis.

    Output ``up * q + r`` is ``sum of weight * x[down * q + offset]`` over ``taps[r]``; identity is
    ``AxisResize(1, 1, (((0, 1.0),),))``. Borders replicate the edge sample.
    """

    up: int
    down: int
    taps: tuple[tuple[tuple[int, float], ...], ...]
