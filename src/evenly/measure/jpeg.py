"""JPEG's grid of 8 x 8 blocks, and what is left to see beside it.

JPEG makes details weaker towards the edges of its blocks and leaves steps between them. That profile is
mirror-symmetric in each block and lies on the axes, at 1/8, 2/8 and 3/8 cycles per pixel (and 4/8 in differences, which
lie between pixels): its phase is known but for the place of the grid. What else has lines there shows in quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from evenly.measure.probability import half_log_p

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.measure.lines import PlaneLines

__all__ = ["without_grid"]

_BLOCK = 8
_CERTAIN, _LIKELY = -9.2, -4.6  # natural logs of p = 1e-4 and 1e-2
_SYMMETRIC = 0.75  # share of the lines' power that lies in phase with the best of 8 grids; chance gives about a half
_PLANES = {"variance": (0.0, 0.0), "along": (0.0, 0.5), "down": (0.5, 0.0)}  # half pixels that differences lie beside


def without_grid(
    grids: Mapping[str, Mapping[int, PlaneLines]], margin: int, *, known: bool
) -> tuple[dict[str, dict[int, PlaneLines]], bool]:
    """The lines without what JPEG's grid puts there, and whether such a grid was seen.

    Args:
        grids: By plane, then by base.
        margin: Pixels between the picture's first and the planes' first.
        known: The picture comes from a JPEG file as it is: the grid starts at its first pixel.

    Returns:
        The grids, changed where a grid was seen or is known, and whether one was seen.
    """
    planes = {name: grids[name] for name in _PLANES if name in grids}
    offsets, seen = [], False
    for axis in (0, 1):
        lines = [line for name, by_base in planes.items() for g in by_base.values() for line in _lines(name, g, axis)]
        shares = [_in_phase(lines, offset - margin) for offset in range(_BLOCK)]
        offsets.append(0 if known else int(np.argmax(shares)))
        # A grid has lines at odd eighths too; what else repeats every 2 or 4 pixels has not.
        strongest = [min((line.log_p for line in lines if line.step in steps), default=0.0) for steps in ((1, 3), (2,))]
        seen |= max(strongest) < _LIKELY and min(strongest) < _CERTAIN and shares[offsets[-1]] > _SYMMETRIC
    changed = {name: dict(g) for name, g in grids.items()}
    if seen or known:
        for name, by_base in planes.items():
            changed[name] = {
                base: _quadrature(grid, name, [offset - margin for offset in offsets]) for base, grid in by_base.items()
            }
    return changed, seen


@dataclass(frozen=True)
class _Line:
    """A line at ``step / 8`` along an axis; ``centre`` is a block's middle if it starts at the plane's first pixel."""

    step: int
    at: tuple[int, int]
    wave: complex
    log_p: float
    ratio: float
    centre: float

    def quadrature(self, offset: int) -> float:
        """Share of its power that is not symmetric about the middle of blocks with this offset."""
        turned = self.wave * np.exp(2j * np.pi * self.step / _BLOCK * (offset + self.centre))
        share = float(turned.imag) ** 2 / max(abs(turned) ** 2, 1e-60)
        return share if share > 1e-9 else 0.0


def _lines(name: str, grid: PlaneLines, axis: int) -> list[_Line]:
    base, found = grid.group.base, []
    for step in range(1, _BLOCK // 2 + 1):
        place, rest = divmod(step * base, _BLOCK)
        if not rest:
            at = (place, 0) if axis == 0 else (0, place)
            ratio = float(grid.power[at] / max(grid.background[at], 1e-12))
            centre = (_BLOCK - 1) / 2 - _PLANES[name][axis]
            found.append(_Line(step, at, complex(grid.wave[at]), float(grid.log_p[0][at]), ratio, centre))
    return found


def _in_phase(lines: list[_Line], offset: int) -> float:
    """Share of the lines' power that is symmetric; the line at 4/8 is real and says little about the offset."""
    told = [line for line in lines if line.step < _BLOCK // 2]
    total = sum(line.ratio for line in told)
    return sum(line.ratio * (1 - line.quadrature(offset)) for line in told) / total if total else 0.0


def _quadrature(grid: PlaneLines, name: str, offsets: list[int]) -> PlaneLines:
    """The lines with the grid's phase taken out: one real number is left of each, tested against the same tapers.

    The profile is a product of the axes' profiles to first order, so lines between the axes have a known phase too.
    """
    base = grid.group.base
    a, b = np.indices(grid.wave.shape)
    on_grid = (a * _BLOCK % base == 0) & (b * _BLOCK % base == 0) & ((a > 0) | (b > 0))
    centres = [offset + (_BLOCK - 1) / 2 - half for offset, half in zip(offsets, _PLANES[name], strict=True)]
    turned = grid.wave * np.exp(2j * np.pi * (a * centres[0] + b * centres[1]) / base)
    share = turned.imag**2 / np.maximum(np.abs(turned) ** 2, 1e-60)
    share = np.where(on_grid, np.where(share > 1e-9, share, 0.0), 1.0)
    products = grid.y.shape[-1]
    left = grid.power * share
    beta = left / np.maximum(left + (products - 1) * grid.background, 1e-30)
    real = (2 * a % base == 0) & (2 * b % base == 0)  # all of such a line is in phase, or nothing
    one = on_grid & ~real
    new = np.where(one, half_log_p(beta, products - 1.0), np.where(share == 0, 0.0, 1.0))
    log_p = np.where(one | (share == 0), np.minimum(new, 0.0), grid.log_p)
    power = np.where(one, 2 * left, left)  # one of two parts is left; the background has both
    return replace(grid, log_p=log_p, power=power, wave=grid.wave * np.sqrt(share))
