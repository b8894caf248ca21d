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


class PlaneSums:
    """The tapered sums of one plane, gathered strip by strip.

    Args:
        layout: Frequencies and tapers.
        weighted: Whether strips come with the weight that a pattern of constant amplitude has in them.
    """

    def __init__(self, layout: Plan, *, weighted: bool) -> None:
        self.layout = layout
        self.sums = [np.zeros((len(g.rows), g.columns.shape[1] // 2), np.complex64) for g in layout.groups]
        self.steerings = [np.zeros((g.tapers, g.tapers), np.float32) for g in layout.groups] if weighted else None

    def add(self, start: int, plane: NDArray[np.float32], weight: NDArray[np.float32] | None = None) -> None:
        """Add rows of the plane, without its margin; ``start`` counts from the plane's first row."""
        along = plane @ self.layout.columns
        weights = None if weight is None else weight @ self.layout.tapers
        rows = slice(start, start + len(plane))
        for number, (group, (lines, tapers)) in enumerate(zip(self.layout.groups, self.layout.spans, strict=True)):
            waves = np.ascontiguousarray(along[:, lines]).view(np.complex64)  # (rows, tapers * frequencies)
            self.sums[number] += group.rows[:, rows] @ waves
            if self.steerings is not None and weights is not None:
                self.steerings[number] += group.taper_rows[:, rows] @ weights[:, tapers]

    def lines(self) -> dict[int, PlaneLines]:
        """What there is at every grid of frequencies, by its base."""
        found = {}
        for number, group in enumerate(self.layout.groups):
            count, base = group.tapers, group.base
            y = self.sums[number].reshape(base, count, count, base // 2 + 1).transpose(0, 3, 1, 2)
            steerings = [np.outer(group.taper_rows.sum(axis=1), group.taper_columns.sum(axis=0)).astype(np.float64)]
            if self.steerings is not None:
                steerings.insert(0, self.steerings[number].astype(np.float64))
            found[base] = PlaneLines.of(group, y.reshape(base, base // 2 + 1, -1), steerings)
        return found


@dataclass(frozen=True)
class PlaneLines:
    """The test of every frequency ``(a, b) / base`` of a grid.

    Attributes:
        group: The grid's frequencies and tapers.
        y: Shape (base, base // 2 + 1, tapers ** 2): the tapered sums.
        steering: Shape (tapers ** 2,): the proportions in which a pattern of constant amplitude falls into the tapers.
        log_p: Shape (steerings, base, base // 2 + 1): natural logarithm of the p-value.
        wave: Shape (base, base // 2 + 1), complex: ``A exp(i phase)`` of the line ``A cos(2 pi (a y + b x) / base +
            phase)`` at the plane's first pixel, by the first steering.
        power: Shape (base, base // 2 + 1): power along the first steering.
        background: Shape (base, base // 2 + 1): mean power across it.
    """

    group: Group
    y: NDArray[np.complex64]
    steering: NDArray[np.float64]
    log_p: NDArray[np.float64]
    wave: NDArray[np.complex128]
    power: NDArray[np.float64]
    background: NDArray[np.float64]

    @classmethod
    def of(cls, group: Group, y: NDArray[np.complex64], steerings: Sequence[NDArray[np.float64]]) -> PlaneLines:
        """Test coefficients (base, frequencies, tapers ** 2) against each steering (tapers, tapers)."""
        base, products = group.base, y.shape[-1]
        real = _own_conjugates(base)
        energy = (y.real.astype(np.float64) ** 2 + y.imag.astype(np.float64) ** 2).sum(-1)
        energy = np.maximum(energy, 1e-12)
        log_p = []
        for number, steering in enumerate(steerings):
            g = steering.ravel()
            along = y @ g.astype(np.float32)
            power = (along.real.astype(np.float64) ** 2 + along.imag.astype(np.float64) ** 2) / (g @ g)
            log_p.append(line_log_p(np.minimum(power / energy, 1.0), products, real))
            if number == 0:
                wave = np.where(real, 1.0, 2.0) * along / (g @ g)
                first = power
        background = np.maximum(energy - first, 0.0) / (products - 1)
        return cls(group, y, steerings[0].ravel(), np.array(log_p), wave.astype(np.complex128), first, background)


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
    parts: dict[str, list[float]] = {"together": [], "x": [], "y": [], "diagonal": []}
    for steering in log_p:
        parts["together"] += [fisher(steering[on_x | on_y]), fisher(steering), cauchy(steering)]
        for name, chosen in (("x", on_x), ("y", on_y), ("diagonal", ~(on_x | on_y))):
            if chosen.any():
                parts[name] += [fisher(steering[chosen]), cauchy(steering[chosen])]
    x, y, diagonal = (cauchy(parts[n]) if parts[n] else None for n in ("x", "y", "diagonal"))
    return Evidence(cauchy(parts["together"]), x, y, diagonal)


def chosen(lines: PlaneLines, period: int) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The new lines of a period that divides the grid's base, and where they stand in the grid."""
    index = new_lines(period)
    step = lines.group.base // period
    return index, (index[:, 0] * step, index[:, 1] * step)
