"""Slepian tapers and the frequencies at which they are evaluated: what depends on a picture's size only.

A line of known frequency in a locally smooth background is tested with several orthogonal tapers whose energy is
concentrated in a narrow band (Slepian 1978; Thomson 1982): a line falls into all of them in known proportions, a
background does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, inf
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Group", "Plan", "bandwidth", "new_lines", "plan", "slepian"]

# Half bandwidth in bins by the shorter side in pixels: wide bands see weak lines better and need a smooth background.
# In the smallest pictures the nine products of NW = 2 leave too little beside a pattern that wanders with its content.
_WANTED = ((48, 2.5), (100, 2.0), (160, 3.0), (400, 4.0), (inf, 6.0))
_NARROWER = (2.0, 3.0, 4.0)  # what else is taken where lines are close; few, for every other one is a grid of its own
_LEAST = min(_NARROWER)
_NEAR = 0.3  # bandwidth over the distance of neighbouring lines up to which a background is smooth enough
_OVERLAP = 0.65  # bandwidth over the distance of neighbouring lines: beyond, lines of one period share tapers


def new_lines(period: int) -> NDArray[np.int64]:
    """Lines that a period has and none of its divisors: ``(a, b)`` with ``gcd(a, b, period) = 1``, up to conjugation.

    The real picture's line at ``(-a, -b)`` is the conjugate of that at ``(a, b)``; one of both is kept.

    Args:
        period: In pixels, 2 or more.

    Returns:
        Shape (lines, 2), sorted: ``a`` cycles per period down the rows, ``b`` along the columns, ``b <= period / 2``.
    """
    found = [
        (a, b)
        for a in range(period)
        for b in range(period // 2 + 1)
        if gcd(gcd(a, b), period) == 1 and (b, a) <= (-b % period, -a % period)
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def bandwidth(shorter: int, period: int) -> float:
    """Half bandwidth of the tapers in bins (``NW``) for a period, 0 where it cannot be tested.

    Args:
        shorter: The shorter side of the plane, in pixels.
        period: In pixels.
    """
    wanted = next(half for side, half in _WANTED if shorter < side)
    if _OVERLAP * shorter / period < _LEAST:
        return 0.0
    allowed = max(_LEAST, _NEAR * shorter / period)
    return max(half for half in (wanted, *_NARROWER) if half <= min(wanted, allowed))


@lru_cache(maxsize=256)
def slepian(length: int, half: float, count: int) -> NDArray[np.float64]:
    """The first discrete prolate spheroidal sequences, each of energy 1 (Slepian 1978, equation 14).

    They are the eigenvectors of a tridiagonal matrix that commutes with that of concentration; their signs are
    arbitrary. (``scipy.signal`` has them too, and takes longer to be imported than a picture to be measured.)

    Args:
        length: Samples.
        half: Half bandwidth in bins.
        count: How many.

    Returns:
        Shape (count, length), read-only.
    """
    from scipy.linalg import eigh_tridiagonal

    n = np.arange(length)
    diagonal = ((length - 1 - 2 * n) / 2) ** 2 * np.cos(2 * np.pi * half / length)
    beside = n[1:] * (length - n[1:]) / 2
    _, vectors = eigh_tridiagonal(diagonal, beside, select="i", select_range=(length - count, length - 1))
    tapers: NDArray[np.float64] = np.ascontiguousarray(vectors.T[::-1])
    tapers.flags.writeable = False
    return tapers


@dataclass(frozen=True)
class Group:
    """Periods that share tapers and a grid of frequencies ``m / base``.

    Attributes:
        base: Denominator of the grid's frequencies.
        periods: In pixels; all divide ``base``.
        tapers: How many per axis.
        columns: Shape (width, tapers * (base // 2 + 1) * 2), float32: taper times cosine and minus sine, per column.
        rows: Shape (base * tapers, height), complex64: taper times ``exp(-2 pi i a y / base)``.
        taper_columns: Shape (width, tapers), float32.
        taper_rows: Shape (tapers, height), float32.
    """

    base: int
    periods: tuple[int, ...]
    tapers: int
    columns: NDArray[np.float32]
    rows: NDArray[np.complex64]
    taper_columns: NDArray[np.float32]
    taper_rows: NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What is evaluated for planes of one size.

    Attributes:
        height, width: Of the planes, in pixels.
        groups: Together they hold every testable period.
        columns: All groups' columns side by side, float32: one matrix product per strip of rows.
        tapers: All groups' ``taper_columns`` side by side.
        spans: Per group, the slices of ``columns`` and ``tapers`` that are its own.
    """

    height: int
    width: int
    groups: tuple[Group, ...]
    columns: NDArray[np.float32]
    tapers: NDArray[np.float32]
    spans: tuple[tuple[slice, slice], ...]


@lru_cache(maxsize=8)
def plan(height: int, width: int, periods: tuple[int, ...]) -> Plan:
    """The tapers and frequencies for planes of one size."""
    by_half: dict[float, list[int]] = {}
    for period in periods:
        half = bandwidth(min(height, width), period)
        if half:
            by_half.setdefault(half, []).append(period)
    groups = [
        _group(height, width, half, tuple(family)) for half, found in by_half.items() for family in _families(found)
    ]
    columns = np.concatenate([np.zeros((width, 0), np.float32), *(g.columns for g in groups)], axis=1)
    tapers = np.concatenate([np.zeros((width, 0), np.float32), *(g.taper_columns for g in groups)], axis=1)
    lines = _slices([g.columns.shape[1] for g in groups])
    spans = tuple(zip(lines, _slices([g.tapers for g in groups]), strict=True))
    return Plan(height, width, tuple(groups), columns, tapers, spans)


def _slices(lengths: list[int]) -> list[slice]:
    ends = np.cumsum(lengths).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def _families(periods: list[int]) -> list[list[int]]:
    """Periods with those that they divide: each family is one grid, that of its largest member."""
    families: list[list[int]] = []
    for period in sorted(periods, reverse=True):
        home = next((f for f in families if f[0] % period == 0), None)
        if home is None:
            families.append([period])
        else:
            home.append(period)
    return families


def _group(height: int, width: int, half: float, periods: tuple[int, ...]) -> Group:
    base = max(periods)
    count = int(2 * half) - 1
    down, along = slepian(height, half, count), slepian(width, half, count)
    frequencies = np.array([float(Fraction(b, base)) for b in range(base // 2 + 1)])
    angle = 2 * np.pi * np.outer(np.arange(width), frequencies)  # (width, frequencies)
    waves = np.stack([np.cos(angle), -np.sin(angle)], axis=-1)  # (width, frequencies, 2)
    columns = along.T[:, :, None, None] * waves[:, None]  # (width, tapers, frequencies, 2)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(base), np.arange(height)) / base)  # (base, height)
    rows = turns[:, None] * down  # (base, tapers, height)
    return Group(
        base,
        periods,
        count,
        columns.reshape(width, -1).astype(np.float32),
        rows.reshape(-1, height).astype(np.complex64),
        along.T.astype(np.float32),
        down.astype(np.float32),
    )
