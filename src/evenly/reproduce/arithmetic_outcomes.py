"""What the cells of the arithmetic came to, and the effects and bounds that its claims share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from evenly.reproduce import statistics
from evenly.reproduce.experiment import Outcome
from evenly.reproduce.result import Effect

__all__ = ["ALL", "ALWAYS", "NOTHING", "SAMPLES", "TWICE", "Arithmetic", "exact_share", "level", "share"]

ALL = 100.0
"""Percent of a grid that was gone through whole: one exception refutes a statement about all of it."""
ALWAYS = 99.0
"""Percent of draws: not one of a hundred is an exception. An interval never reaches 100."""
NOTHING = -200.0
"""In dB of a constant: 1e-10 of its amplitude, far below any weight, far above rounding (float64)."""
TWICE = 3.0
"""In dB: twice the power."""
SAMPLES = "drawn cases"


class Arithmetic:
    """Outcomes by the cell's name without the seed; numbers of drawn cells of all seeds."""

    def __init__(self, outcomes: Mapping[str, Outcome]) -> None:
        self.by_cell: dict[str, list[Mapping[str, Any]]] = {}
        self.arrays: dict[str, Mapping[str, Any]] = {}
        for name, outcome in outcomes.items():
            cell = name.partition("/")[0]
            self.by_cell.setdefault(cell, []).append(outcome.numbers)
            if outcome.arrays:
                self.arrays.setdefault(cell, outcome.arrays)

    def one(self, cell: str) -> Mapping[str, Any]:
        """Numbers of a cell that draws nothing, or those of the first seed."""
        return self.by_cell[cell][0]

    def total(self, cell: str, *path: str) -> int:
        """A count, added up over the seeds."""
        return sum(int(self._at(numbers, path)) for numbers in self.by_cell[cell])

    def pooled(self, cell: str, *path: str) -> list[float]:
        """Values of all seeds, one after the other."""
        return [float(value) for numbers in self.by_cell[cell] for value in self._at(numbers, path)]

    def border(self, kind: str, padding: str) -> list[float]:
        """Errors at the border in dB; of photographs one for each, the mean over the seeds' crops."""
        found = self.pooled("boundary", "errors", kind, padding)
        if kind != "photographs":
            return found
        numbers = np.array(self.pooled("boundary", "pictures"))
        return [float(np.mean(np.array(found)[numbers == number])) for number in np.unique(numbers)]

    @staticmethod
    def _at(numbers: Any, path: Iterable[str]) -> Any:
        for key in path:
            numbers = numbers[key]
        return numbers


def share(count: int, of: int) -> Effect:
    """A share of drawn cases with the exact interval of Clopper and Pearson (1934), in percent."""
    interval = binomtest(count, of).proportion_ci(0.95, "exact")
    value = 100 * count / of
    low, high = min(100 * interval.low, value), max(100 * interval.high, value)
    return Effect(value, low, high, "%", of, f"Clopper-Pearson interval over {SAMPLES}")


def exact_share(count: int, of: int) -> Effect:
    """A share of a grid that was gone through whole, in percent."""
    return Effect.exact(100 * count / of, "%")


def level(decibels: Sequence[float]) -> Effect:
    """The mean level of drawn cases, in dB."""
    return statistics.mean(decibels, "dB", SAMPLES)
