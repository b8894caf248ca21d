"""Other people's statistics, each from its formula, each a score in dB per period: larger is more of a trace.

All see the BT.601 luma of whole grey levels, cut to whole periods so that the lines fall on bins. A line's power is
compared with the median of the bins around it that lie on no line, and the ratios are averaged over the lines that are
new at the period: frequencies ``(a/p, b/p)`` with ``gcd(a, b, p) = 1``. ``nan`` where a picture has less than two
periods.

* ``comb``: Fourier power of the high-pass residual (Zhang, Karaman, Chang 2019, "Detecting and simulating artifacts in
  GAN fake images", with a residual as in Marra et al. 2019); ``comb, Hann``: the same under a window.
* ``second difference``: Gallagher 2005, "Detection of linear and cubic interpolation in JPEG compressed images": the
  mean magnitude of the second difference by position along an axis, its Fourier peaks; the larger of both axes.
* ``DCT``: Frank et al. 2020, "Leveraging frequency analysis for deep fake image recognition": log magnitude of the
  cosine transform.
* ``cross-difference``: Bammey 2023, "Synthbuster": Fourier magnitude of
  ``|x(i, j) + x(i+1, j+1) - x(i+1, j) - x(i, j+1)|``. Each value sees all four phases of period 2, so that strengths
  that alternate escape it.
* ``azimuthal``: Durall, Keuper, Keuper 2020, "Watch your up-convolution": power spectrum averaged over angles, the
  rings at radius ``a/p``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Plane = NDArray[np.float64]
Indices = NDArray[np.int64]
REACH = 7  # bins on either side that a line is compared with
LUMA = np.array([0.299, 0.587, 0.114])
TINY = 1e-9


def luma(image: NDArray) -> Plane:
    """BT.601 brightness of a grey or a colour picture."""
    return image.astype(np.float64) if image.ndim == 2 else image @ LUMA


def residual(plane: Plane) -> Plane:
    """What the 3x3 binomial leaves, without the border."""
    rows = (plane[:-2] + 2 * plane[1:-1] + plane[2:]) / 4
    smooth = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return plane[1:-1, 1:-1] - smooth


@cache
def new_lines(period: int) -> Indices:
    """``(a, b)`` of the lines that are new at a period, one of each conjugate pair: (lines, 2)."""
    found = [(a, b) for a in range(period) for b in range(period) if gcd(gcd(a, b), period) == 1]
    return np.array([(a, b) for a, b in found if (a, b) <= (-a % period, -b % period)])


@cache
def _around(shape: tuple[int, ...], lines: tuple[tuple[int, ...], ...], steps: tuple[int, ...], guard: int) -> Indices:
    """Flat indices of the bins around every line that lie on no line (nor within `guard`): (lines, bins)."""
    offsets = np.stack(np.meshgrid(*[np.arange(-REACH, REACH + 1)] * len(shape), indexing="ij"), -1).reshape(
        -1, len(shape)
    )
    keep = np.ones(len(offsets), bool)
    near = [np.minimum(o % s, -o % s) <= guard for o, s in zip(offsets.T, steps, strict=True)]
    keep &= ~np.logical_and.reduce(near)
    bins = (np.array(lines)[:, None] + offsets[keep]) % shape
    return np.ravel_multi_index(tuple(np.moveaxis(bins, -1, 0)), shape)


def over_median(power: NDArray[np.float64], period: int, guard: int = 0) -> float:
    """Mean over the new lines of power over the median around, in dB; a spectrum of whole periods, 1-D or 2-D."""
    steps = tuple(n // period for n in power.shape)
    if min(steps) < 2 + guard:
        return float("nan")
    if power.ndim == 1:
        lines = [(a,) for a in range(1, period // 2 + 1) if gcd(a, period) == 1]
    else:
        lines = [tuple(line) for line in new_lines(period).tolist()]
    at = tuple(tuple(v * s for v, s in zip(line, steps, strict=True)) for line in lines)
    around = _around(power.shape, at, steps, guard)
    floor = np.median(power.ravel()[around], 1)
    return _db(float(np.mean((power[tuple(np.transpose(at))] + TINY) / (floor + TINY))))


def _db(ratio: float) -> float:
    return float(10 * np.log10(max(ratio, TINY)))


def _whole(values: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """Cut to whole periods along every axis."""
    return values[tuple(slice(n // period * period) for n in values.shape)]


def _power(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(fft.fftn(values - values.mean())) ** 2


def comb(plane: Plane, period: int) -> float:
    return over_median(_power(_whole(residual(plane), period)), period)


def comb_hann(plane: Plane, period: int) -> float:
    r = _whole(residual(plane), period)
    h, w = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in r.shape)
    return over_median(_power(r * h[:, None] * w), period, guard=1)


def second_difference(plane: Plane, period: int) -> float:
    scores = []
    for axis in (0, 1):
        profile = np.abs(np.diff(plane, 2, axis)).mean(1 - axis)
        scores.append(over_median(_power(_whole(profile, period)), period))
    return max(scores)


def dct(plane: Plane, period: int) -> float:
    plane = _whole(plane, period)
    magnitude = np.log(np.abs(fft.dctn(plane, norm="ortho")) + 1e-3)
    h, w = plane.shape
    if min(h, w) < 2 * period:
        return float("nan")
    found = []
    for a, b in new_lines(period).tolist():
        y, x = (min(round(2 * n * min(v, period - v) / period), n - 1) for v, n in ((a, h), (b, w)))
        near = magnitude[max(y - REACH, 0) : y + REACH + 1, max(x - REACH, 0) : x + REACH + 1]
        found.append(magnitude[y, x] - np.median(near))
    return float(20 / np.log(10) * np.mean(found))


def cross_difference(plane: Plane, period: int) -> float:
    crossed = np.abs(plane[:-1, :-1] + plane[1:, 1:] - plane[1:, :-1] - plane[:-1, 1:])
    return over_median(np.sqrt(_power(_whole(crossed, period))), period)


def azimuthal(plane: Plane, period: int) -> float:
    plane = _whole(plane, period)
    n = min(plane.shape)
    if n < 2 * period:
        return float("nan")
    ring = _rings(plane.shape, n)
    profile = np.bincount(ring, _power(plane).ravel()) / np.maximum(np.bincount(ring), 1)
    found = []
    for a in range(1, period // 2 + 1):
        if gcd(a, period) == 1:
            at = round(a * n / period)
            near = np.r_[profile[max(at - 4, 1) : at], profile[at + 1 : at + 5]]
            found.append(profile[at] / (np.exp(np.mean(np.log(near + TINY))) + TINY))
    return _db(float(np.mean(found)))


@cache
def _rings(shape: tuple[int, int], n: int) -> Indices:
    """The ring of every bin, flat; a ring is one bin of the shorter side wide."""
    y, x = (np.fft.fftfreq(size) for size in shape)
    return np.rint(np.hypot(y[:, None], x) * n).astype(np.int64).ravel()


BASELINES: dict[str, Callable[[Plane, int], float]] = {
    "comb": comb,
    "comb, Hann": comb_hann,
    "second difference": second_difference,
    "DCT": dct,
    "cross-difference": cross_difference,
    "azimuthal": azimuthal,
}
