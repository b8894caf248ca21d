"""JPEG's grid of 8 x 8 blocks, and what is left to see beside it.

JPEG makes details weaker towards the edges of its blocks and leaves steps between them. That profile is
mirror-symmetric in each block, at multiples of 1/8 cycles per pixel, so its phase is known once the grid is found. What
else has lines there shows in quadrature to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from evenly.measure.probability import half_log_p

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from evenly.measure.lines import PlaneLines

__all__ = ["JPEG_PERIODS", "find_grid", "without_grid"]

JPEG_PERIODS = (2, 4, 8)
"""Periods in pixels at which JPEG leaves lines."""
_BLOCK = 8
_SEARCH_SIDE = 192  # pixels: all 64 grids are tried on so much of a picture
_ZERO = 0.6  # grey levels: twice what rounding to whole levels leaves of a coefficient that was zero
_MORE_ZEROS = 0.02  # share of the coefficients: JPEG of quality 98 leaves 0.05 more on its grid, pictures up to 0.01
_PLANES = {"variance": (0.0, 0.0), "along": (0.0, 0.5), "down": (0.5, 0.0)}  # half pixels that differences lie beside


def find_grid(grey: NDArray[np.float32]) -> tuple[int, int] | None:
    """Row and column, below 8, at which JPEG's blocks start; ``None`` if no grid has more zeros than others.

    JPEG rounds the cosine coefficients of its blocks to multiples of some step, most to zero; those of any other blocks
    mix them (the idea of Nikoukhah et al. 2021, "ZERO: a local JPEG grid origin detector based on the number of DCT
    zeros").

    Args:
        grey: Shape (H, W), grey levels.
    """
    controls = [(4, 4), *((0, n) for n in range(1, _BLOCK)), *((n, 0) for n in range(1, _BLOCK))]  # may share an axis
    limit = _zeros(grey, 0, 0) - _margin(grey)
    if all(_zeros(grey, *c) < limit for c in controls):  # where most grids are
        return 0, 0
    start = [max(0, (n - _SEARCH_SIDE) // (2 * _BLOCK) * _BLOCK) for n in grey.shape]
    middle = grey[start[0] : start[0] + _SEARCH_SIDE, start[1] : start[1] + _SEARCH_SIDE]
    shares = np.array([[_zeros(middle, y, x) for x in range(_BLOCK)] for y in range(_BLOCK)])
    best, second = np.sort(shares, axis=None)[[-1, -2]]
    if best <= second + _margin(middle):
        return None
    y, x = np.unravel_index(int(shares.argmax()), shares.shape)
    return int(y), int(x)


def _zeros(grey: NDArray[np.float32], y: int, x: int) -> float:
    """Share of vanishing coefficients in blocks that start here."""
    from scipy.fft import dctn

    rows, columns = ((n - o) // _BLOCK for n, o in zip(grey.shape, (y, x), strict=True))
    part = grey[y : y + rows * _BLOCK, x : x + columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    return float((np.abs(dctn(part, axes=(1, 3), norm="ortho")) < _ZERO).mean())


def _margin(grey: NDArray[np.float32]) -> float:
    return _MORE_ZEROS + float(1 / np.sqrt(grey.size))  # a share of so many coefficients wavers


def without_grid(
    grids: Mapping[str, Mapping[int, PlaneLines]], origin: Iterable[int]
) -> dict[str, dict[int, PlaneLines]]:
    """The lines without what JPEG's grid puts there.

    Args:
        grids: By plane, then by base.
        origin: Row and column at which blocks start, from the planes' first pixel.
    """
    places = tuple(origin)
    return {
        name: {base: _quadrature(g, name, places) for base, g in found.items()} if name in _PLANES else dict(found)
        for name, found in grids.items()
    }


def _quadrature(grid: PlaneLines, name: str, origin: tuple[int, ...]) -> PlaneLines:
    """The lines with the grid's phase taken out: one real number is left of each, tested against the same tapers."""
    base = grid.group.base
    a, b = np.indices(grid.wave.shape)
    on_grid = (a * _BLOCK % base == 0) & (b * _BLOCK % base == 0) & ((a > 0) | (b > 0))
    centres = [start + (_BLOCK - 1) / 2 - half for start, half in zip(origin, _PLANES[name], strict=True)]
    turn = np.exp(2j * np.pi * (a * centres[0] + b * centres[1]) / base)
    turned = grid.wave * turn
    share = turned.imag**2 / np.maximum(np.abs(turned) ** 2, 1e-60)
    share = np.where(share > 1e-9, share, 0.0)
    # A profile that is symmetric about the middle between two pixels has no part that alternates from pixel to pixel.
    immune = ((2 * a == base) & (centres[0] % 1 == 0.5)) | ((2 * b == base) & (centres[1] % 1 == 0.5))
    share = np.where(on_grid & ~immune, share, 1.0)
    others = grid.y.shape[-1] - 1
    left = grid.power * share
    beta = left / np.maximum(left + others * grid.background, 1e-30)
    real = (2 * a % base == 0) & (2 * b % base == 0)  # all of such a line is in phase, or nothing
    halved = on_grid & ~immune & ~real
    log_p = np.where(halved, half_log_p(beta, float(others)), np.where(share == 0, 0.0, grid.log_p))
    power = np.where(halved, 2 * left, left)  # one of two parts is left; the background has both
    wave = np.where(halved, 1j * turned.imag / turn, grid.wave * share)  # with the phase of what is left
    return replace(grid, log_p=log_p, power=power, wave=wave, halved=halved)
