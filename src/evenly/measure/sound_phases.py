"""How far a walk of given steps in random directions gets: agreement of phases that do not count alike.

Pearson's random walk (1905): steps of lengths ``r_j`` in independent uniform directions; the chance to end at distance
``s`` or farther. With ``K(u) = sum log I0(r_j u)``, the cumulants of one coordinate, and ``u`` such that ``K'(u) = s``,
the saddlepoint approximation (Daniels 1954) of the density in the plane, integrated outwards, is

    P = exp(K(u) - u s) sqrt(s / (u K''(u))).

It is exact for many small steps, ``exp(-s^2 / sum r_j^2)``, and too small by 4 % at most where all steps agree (two
steps; 1 % for six). Steps along a line, forwards or backwards, are counted out.

Only the longest steps are told one by one: the others go in as normal draws of the same squared length, which raises
``K`` (``I0(x) <= exp(x^2 / 4)``) and with it ``P``. So a sound of any length needs no more memory than a short one.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TOLD", "Walks", "line_walk_log_p", "mirrored", "walk_log_p"]

TOLD = 32
"""Steps that are told one by one."""
_COUNTED = 12  # on a line: every way to go forwards or backwards is gone through
_SURE = 1e-12  # of all steps together: nearer to their sum than this is rounding
_ROUNDS = 80  # of Newton's method, which needs a few, or one per binary digit of how nearly all agree
_CLOSE = 1e-10  # of the distance: where Newton's method ends
_LARGE = 200.0  # argument from which Bessel functions are taken by their expansions


class Walks:
    """Walks that grow a step at a time.

    Args:
        real: Shape (walks,): those along a line, whose steps are real.
    """

    def __init__(self, real: NDArray[np.bool_]) -> None:
        self.real = real
        self.ends = np.zeros(real.size, np.complex128)
        self.longest = np.zeros((real.size, TOLD))
        self.others = np.zeros(real.size)  # sum of the squares of the other steps

    def add(self, steps: NDArray[np.complex128]) -> None:
        """One more step of every walk."""
        self.ends += steps
        lengths = np.partition(np.concatenate([self.longest, np.abs(steps)[:, None]], axis=1), 0, axis=1)
        self.others += lengths[:, 0] ** 2
        self.longest = lengths[:, 1:]

    @property
    def squares(self) -> NDArray[np.float64]:
        """Sum of the squared lengths of the steps, of every walk."""
        return np.asarray((self.longest**2).sum(1) + self.others)

    def log_p(self) -> NDArray[np.float64]:
        """Log P of ending so far out, of every walk."""
        distance = np.abs(self.ends)
        found = walk_log_p(self.longest, self.others, distance)
        for i in np.flatnonzero(self.real):
            found[i] = line_walk_log_p(self.longest[i], float(self.others[i]), float(distance[i]))
        return found


def walk_log_p(
    steps: NDArray[np.float64], rest: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log P of ending as far as ``distance`` or farther, for steps in the plane.

    Args:
        steps: Shape (walks, steps): lengths of the longest ones, 0 for none.
        rest: Shape (walks,): sum of the squares of all others.
        distance: Shape (walks,).
    """
    scale = np.maximum(steps.max(1), np.sqrt(rest))
    scale[scale == 0] = 1.0
    r, v, s = steps / scale[:, None], rest / scale**2, distance / scale
    s = np.where(v > 0, s, np.minimum(s, (1 - _SURE) * r.sum(1)))
    found = np.zeros(len(s))
    moved = np.flatnonzero(s > 0)
    r, v, s = r[moved], v[moved], s[moved]
    u = 2 * s / ((r**2).sum(1) + v)  # at or left of the root, as every later one: K' is concave
    open_ = np.arange(len(s))
    for _ in range(_ROUNDS):
        first, second = _slopes(r[open_], v[open_], u[open_])
        missing = s[open_] - first
        u[open_] += missing / second
        open_ = open_[missing > _CLOSE * s[open_]]
        if not open_.size:
            break
    _, second = _slopes(r, v, u)
    found[moved] = _cumulants(r, v, s, u) + np.log(s / (u * second)) / 2
    return np.minimum(found, 0.0)


def _cumulants(
    r: NDArray[np.float64], v: NDArray[np.float64], s: NDArray[np.float64], u: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``K(u) - u s``, large terms against each other first."""
    from scipy.special import i0e

    return np.asarray(np.log(i0e(r * u[:, None])).sum(1) + u * (r.sum(1) - s) + v * u**2 / 4)


def _slopes(
    r: NDArray[np.float64], v: NDArray[np.float64], u: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and second derivative of ``K``."""
    from scipy.special import i0e, i1e

    x = np.maximum(r * u[:, None], 1e-9)
    ratio = i1e(x) / i0e(x)
    curve = np.where(x < _LARGE, 1 - ratio**2 - ratio / x, (0.5 + 0.25 / x) / x**2)
    return (r * ratio).sum(1) + v * u / 2, (r**2 * curve).sum(1) + v / 2


def line_walk_log_p(steps: NDArray[np.float64], rest: float, distance: float) -> float:
    """Log P of ending as far as ``distance`` or farther on either side, for steps forwards or backwards on a line.

    Args:
        steps: Lengths of the longest ones, 0 for none.
        rest: Sum of the squares of all others.
        distance: From the start.
    """
    from scipy.special import log_ndtr

    steps = np.sort(steps)[::-1]
    steps, rest = steps[:_COUNTED], rest + float((steps[_COUNTED:] ** 2).sum())
    ends, total = _signs(len(steps)) @ steps, float(steps.sum())
    # Equal steps end on a grid: a normal draw in place of some of them has to reach half way from its last point.
    needed = distance - float(steps.min()) if rest > 0 else distance - 1e-9 * total
    log_p = log_ndtr((ends - needed) / max(float(np.sqrt(rest)), 1e-12 * total, np.finfo(float).tiny))
    return min(0.0, float(np.logaddexp.reduce(log_p) - np.log(len(ends) / 2)))


def mirrored(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of the evidence of walks in the plane that may run to and fro along one direction each.

    Images of slow movements have a fixed phase but for the sign: their squared distance is a chi-square variable with
    one degree of freedom, not with two.
    """
    from scipy.special import log_ndtr

    return np.asarray(np.minimum(np.log(2.0) + log_ndtr(-np.sqrt(-log_p)), 0.0))


@lru_cache(maxsize=2)
def _signs(count: int) -> NDArray[np.float64]:
    return np.array(list(product((-1.0, 1.0), repeat=count)))
