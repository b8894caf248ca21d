"""The multitaper harmonic F-test of one plane's lines (Thomson 1982), and what the lines of a period say together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evenly.measure.probability import cauchy, fisher, line_log_p
from evenly.measure.tapers import new_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evenly.measure.tapers import Group, Plan

__all__ = ["Evidence", "PlaneLines", "PlaneSums", "chosen", "combine"]


_WEIGHTS = (0.4, 0.4, 0.2)  # of the steerings: the last one's null is less exact, brightness and details go together


class PlaneSums:
    """The tapered sums of one plane, gathered strip by strip.

    Args:
        layout: Frequencies and tapers.
        weights: How many weights strips come with: that of a pattern of constant amplitude in them, then those of
            patterns whose amplitude follows something.
    """

    def __init__(self, layout: Plan, weights: int) -> None:
        self.layout = layout
        self.sums = [np.zeros((len(g.rows), g.columns.shape[1] // 2), np.complex64) for g in layout.groups]
        self.steerings = [np.zeros((weights, g.tapers, g.tapers), np.float32) for g in layout.groups]

    def add(self, start: int, plane: NDArray[np.float32], *weights: NDArray[np.float32]) -> None:
        """Add rows of the plane, without its margin; ``start`` counts from the plane's first row."""
        along = plane @ self.layout.columns
        steered = [weight @ self.layout.tapers for weight in weights]
        rows = slice(start, start + len(plane))
        for number, (group, (lines, tapers)) in enumerate(zip(self.layout.groups, self.layout.spans, strict=True)):
            waves = np.ascontiguousarray(along[:, lines]).view(np.complex64)  # (rows, tapers * frequencies)
            self.sums[number] += group.rows[:, rows] @ waves
            for steering, part in zip(self.steerings[number], steered, strict=True):
                steering += group.taper_rows[:, rows] @ part[:, tapers]

    def lines(self) -> dict[int, PlaneLines]:
        """What there is at every grid of frequencies, by its base."""
        found = {}
        for number, group in enumerate(self.layout.groups):
            count, base = group.tapers, group.base
            y = self.sums[number].reshape(base, count, count, base // 2 + 1).transpose(0, 3, 1, 2)
            flat = np.outer(group.taper_rows.sum(axis=1), group.taper_columns.sum(axis=0)).ravel()[:, None]
            weighted = self.steerings[number].reshape(-1, count * count).T  # (tapers ** 2, weights)
            steerings = [weighted[:, :1], flat] if weighted.size else [flat]
            if weighted.shape[1] > 1:
                steerings.append(weighted)
            found[base] = PlaneLines.of(group, y.reshape(base, base // 2 + 1, -1), steerings)
        return found


@dataclass(frozen=True)
class PlaneLines:
    """The test of every frequency ``(a, b) / base`` of a grid.

    Attributes:
        group: The grid's frequencies and tapers.
        y: Shape (base, base // 2 + 1, tapers ** 2): the tapered sums.
        log_p: Shape (steerings, base, base // 2 + 1): natural logarithm of the p-value.
        wave: Shape (base, base // 2 + 1), complex: ``A exp(i phase)`` of the line ``A cos(2 pi (a y + b x) / base +
            phase)`` at the plane's first pixel, by the first steering.
        power: Shape (base, base // 2 + 1): power along the first steering.
        background: Shape (base, base // 2 + 1): mean power across it.
        halved: Shape (base, base // 2 + 1): where one phase of the line was taken out, see :mod:`evenly.measure.jpeg`.
    """

    group: Group
    y: NDArray[np.complex64]
    log_p: NDArray[np.float64]
    wave: NDArray[np.complex128]
    power: NDArray[np.float64]
    background: NDArray[np.float64]
    halved: NDArray[np.bool_]

    @classmethod
    def of(cls, group: Group, y: NDArray[np.complex64], steerings: Sequence[NDArray[np.float64]]) -> PlaneLines:
        """Test coefficients (base, frequencies, tapers ** 2) against each steering's directions (tapers ** 2, q)."""
        base, products = group.base, y.shape[-1]
        real = _own_conjugates(base)
        energy = np.maximum(_power(y), 1e-12)
        log_p = []
        for steering in steerings:
            basis, _ = np.linalg.qr(steering.astype(np.float64))
            share = np.minimum(_power(y @ basis.astype(np.float32)) / energy, 1.0)
            log_p.append(line_log_p(share, products, real, basis.shape[1]))
        g = steerings[0][:, 0].astype(np.float64)
        along = y @ g.astype(np.float32)
        wave = np.where(real, 1.0, 2.0) * along / (g @ g)
        first = _power(along[..., None]) / (g @ g)
        background = np.maximum(energy - first, 0.0) / (products - 1)
        return cls(group, y, np.array(log_p), wave.astype(np.complex128), first, background, np.zeros_like(real))


def _power(y: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Sum of squared magnitudes over the last axis."""
    return np.asarray((y.real.astype(np.float64) ** 2 + y.imag.astype(np.float64) ** 2).sum(-1))


def _own_conjugates(base: int) -> NDArray[np.bool_]:
    a, b = np.arange(base)[:, None], np.arange(base // 2 + 1)[None, :]
    return np.asarray((2 * a % base == 0) & (2 * b % base == 0))


@dataclass(frozen=True)
class Evidence:
    """What the new lines of one period say together, in natural logarithms of p-values."""

    together: float
    along: float | None
    down: float | None
    diagonal: float | None


def combine(log_p: NDArray[np.float64], index: NDArray[np.int64]) -> Evidence:
    """Of lines ``index`` with the p-values of each steering (steerings, lines).

    Patterns put their power on the axes, on a few lines or on many; three combinations see one each, and their Cauchy
    combination loses little against the best.
    """
    on_x, on_y = index[:, 0] == 0, index[:, 1] == 0
    parts: dict[str, tuple[list[float], list[float]]] = {n: ([], []) for n in ("together", "x", "y", "diagonal")}

    def add(name: str, weight: float, *values: float) -> None:
        parts[name][0].extend(values)
        parts[name][1].extend([weight] * len(values))

    for steering, weight in zip(log_p, _WEIGHTS, strict=False):
        add("together", weight, fisher(steering[on_x | on_y]), fisher(steering), cauchy(steering))
        for name, which in (("x", on_x), ("y", on_y), ("diagonal", ~(on_x | on_y))):
            if which.any():
                add(name, weight, fisher(steering[which]), cauchy(steering[which]))
    together, x, y, diagonal = (cauchy(*parts[n]) if parts[n][0] else None for n in parts)
    assert together is not None
    return Evidence(together, x, y, diagonal)


def chosen(lines: PlaneLines, period: int) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The new lines of a period that divides the grid's base, and where they stand in the grid."""
    index = new_lines(period)
    step = lines.group.base // period
    return index, (index[:, 0] * step, index[:, 1] * step)
