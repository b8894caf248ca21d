"""Outcomes of trained generators by name and seed, and the evidence that is made from them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evenly.reproduce.experiment import Outcome
from evenly.reproduce.instruments import mosaic
from evenly.reproduce.result import Effect, Part, Picture, Plot, Row, Series
from evenly.reproduce.statistics import mean, paired

__all__ = ["TWICE_DB", "Readings", "judged"]

TWICE_DB = 3.0
"""dB of twice the power: from there on a line counts as more than another, below as no more."""

_COLUMNS = 3  # pictures side by side in a square of them


def judged(statement: str, effect: Effect | None, decides: str = "more seeds", **bound: float) -> tuple[Part, ...]:
    """A part with its bound (``at_least`` or ``at_most``); none if its effect could not be measured."""
    return () if effect is None else (Part(statement, effect, decides=decides, **bound),)


@dataclass(frozen=True)
class Readings:
    """Outcomes of cells called ``NAME/seed-N``, one of them ``data``, as `generators.watch` and `measured` give them.

    Attributes:
        outcomes: By the cells' names.
    """

    outcomes: Mapping[str, Outcome]

    @property
    def seeds(self) -> list[int]:
        """All seeds, in order."""
        return sorted(int(name.rpartition("-")[2]) for name in self.outcomes if name.startswith("data/"))

    def of(self, name: str) -> list[Outcome]:
        """The outcomes of a name, by seed."""
        return [self.outcomes[f"{name}/seed-{seed}"] for seed in self.seeds]

    def stages(self, name: str) -> list[int]:
        """The steps after which a generator was looked at."""
        return [int(stage["step"]) for stage in self.of(name)[0].numbers["stages"]]

    def looks(self, name: str, stage: int = -1) -> list[Mapping[str, Any]]:
        """What was measured of a generator at a stage, or of the data, by seed."""
        return [o.numbers if name == "data" else o.numbers["stages"][stage] for o in self.of(name)]

    def above(self, name: str, period: int, stage: int = -1) -> Effect | None:
        """Lines of a period above those of as many pictures of the data, in dB over seeds; None if not measurable."""
        return self.between(name, "data", period, stage)

    def between(self, name: str, other: str, period: int, stage: int = -1) -> Effect | None:
        """Lines of a period at a stage, of one generator above another's, in dB over seeds."""
        mine, theirs = ([look["db"].get(str(period)) for look in self.looks(n, stage)] for n in (name, other))
        return None if None in mine or None in theirs else paired(mine, theirs, "dB")

    def ripple(self, name: str, stage: int = -1) -> Effect:
        """Ripple of the last up-sampling layer (ratio), over seeds."""
        return mean([look["ripples"][-1] for look in self.looks(name, stage)], "ratio")

    def bars(self, title: str, names: Sequence[str], periods: Sequence[int], stage: int, note: str) -> Plot:
        """Lines above the data's by period, a group of bars for every generator."""
        series = []
        for period in periods:
            effects = [(name, e) for name in names if (e := self.above(name, period, stage)) is not None]
            series.append(Series.of(f"period {period} px", [n for n, _ in effects], [e for _, e in effects]))
        return Plot(title, "", "lines above the data's (dB)", tuple(series), "bars", note=note)

    def course(
        self, title: str, names: Sequence[str], y: str, value: Callable[[str, int], Effect | None], note: str
    ) -> Plot:
        """What `value` gives of a name and a stage, over the steps, with its interval."""
        series = []
        for name in names:
            found = [(s, e) for n, s in enumerate(self.stages(name)) if (e := value(name, n)) is not None]
            series.append(Series.of(name, [s for s, _ in found], [e for _, e in found]))
        return Plot(title, "step", y, tuple(series), note=note)

    def spectra(self, title: str, names: Sequence[str], marks: tuple[tuple[float, str], ...], note: str) -> Plot:
        """Mean power spectra of generators at the end and of the data."""
        series = []
        for name in ("data", *names):
            found = np.array([look["spectrum"] for look in self.looks(name)])
            frequencies, powers = found.mean(0)
            series.append(Series(name, tuple(frequencies.tolist()), tuple(powers.tolist())))
        return Plot(title, "cycles per pixel", "power (dB)", tuple(series), marks=marks, note=note)

    def row(self, title: str, names: Sequence[str], stage: int, note: str) -> Row:
        """Pictures of generators at a stage, and of the data, of the first seed."""
        pictures = []
        for name in (*names, "data"):
            arrays = self.of(name)[0].arrays
            shown = arrays["pictures" if name == "data" else f"pictures-{stage % len(self.stages(name))}"]
            pictures.append(Picture(name, square(shown)))
        return Row(title, tuple(pictures), note)

    def development(self, title: str, name: str, note: str) -> Row:
        """The same codes at every stage of a generator, of the first seed."""
        arrays = self.of(name)[0].arrays
        steps = self.stages(name)
        shown = [Picture(f"after {step} steps", square(arrays[f"pictures-{n}"])) for n, step in enumerate(steps)]
        return Row(title, tuple(shown), note)


def square(pictures: Any) -> Any:
    """Up to nine pictures in a square."""
    return mosaic(pictures[: _COLUMNS**2], _COLUMNS)
