"""What calibration data say about a layer of a model, gathered once for many numbers of added taps.

The features of a layer with fewer taps are some of those with more, so their second moments are a block of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from evenly.fix.backend import Backend, Floats
from evenly.fix.geometry import Rows, padded
from evenly.fix.scatter import Scatter
from evenly.fix.solve import Calibration, Gathering, LineGathering, Moments
from evenly.fix.task import Task

__all__ = ["Known"]

_ALIKE = 1e-5


@dataclass(frozen=True, eq=False)
class Known:
    """Second moments of a layer's features.

    Attributes:
        task: Whose calibration data they are of.
        current: The model that gave them, as repaired so far.
        output: Whose lines are to fall.
        rows: The layer, with the most taps that it may be solved with.
        weigh: The model whose lines say how much each signal counts, after a first solution; else ``None``, and
            `current` says it.
        moments: Group by group.
    """

    task: Task = field(repr=False)
    current: Backend = field(repr=False)
    output: str
    rows: Rows
    weigh: Backend | None = field(repr=False)
    moments: tuple[Moments, ...] = field(repr=False)

    @classmethod
    def gathered(cls, task: Task, current: Backend, output: str, rows: Rows, weigh: Backend | None = None) -> Self:
        """Run the model, and gather.

        Raises:
            UsageError: If the layer cannot be recorded.
        """
        gatherings = [Gathering(task.periods[output]) for _ in range(rows.layer.groups)]
        for parts in _signals(task, current, output, rows, weigh):
            for gathering, (scatter, part) in zip(gatherings, parts, strict=True):
                gathering.add(scatter, part)
        return cls(task, current, output, rows, weigh, tuple(gathering.moments() for gathering in gatherings))

    def weighed(self, weigh: Backend) -> Self:
        """Let every signal count by its lines as a first solution left them, not as they were.

        A level is a mean of decibels, the constraint one of powers over weights: with these weights the two have the
        same slope where the solution is, and less of the output has to change for the same level.

        Args:
            weigh: The model with the first solution; it has the layer under the same name.
        """
        gatherings = [LineGathering(self.task.periods[self.output]) for _ in self.moments]
        for parts in _signals(self.task, self.current, self.output, self.rows, weigh):
            for gathering, (scatter, part) in zip(gatherings, parts, strict=True):
                gathering.add(scatter, part)
        return replace(
            self,
            weigh=weigh,
            moments=tuple(
                replace(moments, lines=gathering.lines())
                for moments, gathering in zip(self.moments, gatherings, strict=True)
            ),
        )

    def covers(self, rows: Rows) -> bool:
        """Whether they hold those of a layer with these taps."""
        mine = self.rows
        return (mine.layer.name, mine.phases) == (rows.layer.name, rows.phases) and mine.extra >= rows.extra

    def part(self, rows: Rows) -> list[Moments]:
        """Those of the layer with fewer taps, group by group."""
        if self.rows.extra == rows.extra:
            return list(self.moments)
        places = rows.among(self.rows)
        return [moments.part(places) for moments in self.moments]


def _signals(
    task: Task, current: Backend, output: str, rows: Rows, weigh: Backend | None
) -> Iterator[list[tuple[Scatter, Calibration]]]:
    """The layer's signals batch by batch, group by group."""
    groups, name = rows.layer.groups, rows.layer.name
    for number, batch in enumerate(task.fit.batches):
        run = current.run(batch, [name])
        inputs, result = padded(rows, run.inputs[name]), run.results[name]
        kept = None if current is task.original else task.original.run(batch, [name]).results[name]
        aim = task.fit.reference(output, number)
        if aim is not None and not _same(result, run.outputs[output]):
            aim = None  # something stands between the layer and the output
        judged = result if weigh is None else weigh.run(batch, [name]).results[name]
        scatter = rows.scatter(inputs.shape[2:], result.shape[2:])
        split = [None if signal is None else np.split(signal, groups, axis=1) for signal in (aim, kept)]
        yield [
            (scatter, Calibration(x, y, *(None if s is None else s[group] for s in split)))
            for group, (x, y) in enumerate(
                zip(np.split(inputs, groups, axis=1), np.split(judged, groups, axis=1), strict=True)
            )
        ]


def _same(result: Floats, output: Floats) -> bool:
    """Whether a layer's result is the output."""
    return result.shape == output.shape and bool(
        np.max(np.abs(result - output), initial=0.0) <= _ALIKE * max(float(np.ptp(output)), 1e-30)
    )
