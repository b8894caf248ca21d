"""Solve one layer of a model, so that the lines of an output fall to where they should be.

The layer's moments are gathered once (:mod:`evenly.fix.solve`), with more taps than it had; then it is solved for as
many targets as are tried. What a layer's lines do to the output behind it (a tanh, further convolutions) is met by a
few rounds: the edited model is run, its lines are read as anyone would read them, and targets move by as much as the
lines missed theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evenly.errors import UsageError
from evenly.fix.backend import Backend, Layer
from evenly.fix.geometry import Rows
from evenly.fix.known import Known
from evenly.fix.solve import Moments, solve
from evenly.fix.task import Judgement, Task

__all__ = ["AIM_DB", "LayerSolver", "Solved"]

Array = NDArray[np.float64]

AIM_DB = 1.0
"""Lines are brought this far inside of what is asked for, in dB: other data will differ."""
_ROUNDS = 4
_NEAR_ENOUGH = 0.3
_REACHED = 1.05
"""Power over its target that still counts as the target's (ratio)."""


@dataclass(frozen=True, eq=False)
class Solved:
    """A model with one layer solved.

    Attributes:
        backend: The edited model.
        fit: Its outputs on the data that it was solved with.
        weight_change: ``|new - old| / |old|`` of the layer's weights (ratio, Frobenius norm; added taps were 0).
        partly: The model with that part of the change, 0 to 1.
    """

    backend: Backend = field(repr=False)
    fit: Mapping[str, Judgement]
    weight_change: float
    partly: Callable[[float], Backend] = field(repr=False)


class LayerSolver:
    """One layer, ready to be solved for any target.

    Args:
        task: What is asked.
        current: The model as repaired so far.
        layer: Of `current`; its result has the sizes of the output.
        output: Whose lines are to fall.
        extra: Taps that are added to the layer on both sides of every axis.
        phases: Period of the weights of a plain convolution.
        known: What has been gathered of this layer, for as many taps or more; by default it is gathered here.

    Attributes:
        known: The same.

    Raises:
        UsageError: If the layer cannot be rewritten or recorded.
    """

    def __init__(
        self, task: Task, current: Backend, layer: Layer, output: str, *,
        extra: int = 0, phases: int = 1, known: Known | None = None,
    ) -> None:  # fmt: skip
        if layer.fixed is not None:
            raise UsageError(f"{layer.name} cannot be rewritten: {layer.fixed}")
        self._task, self._current, self._output = task, current, output
        self._rows = Rows.of(layer, extra, phases)
        self._start = self._rows.weights()
        self.known = Known.gathered(task, current, output, self._rows) if known is None else known
        self._moments = self.known.part(self._rows)
        self._multipliers: list[Mapping[int, float]]
        self._last: tuple[Mapping[int, float], list[dict[int, float]]] | None
        self.restart()
        self._before = task.fit.judge(current, {output: task.periods[output]})[output]

    @property
    def paired(self) -> bool:
        """Whether it is known what the layer should give, so that freedom can be spent on the task."""
        return all(known.cross is not None for known in self._moments)

    def solve(self, within_db: float | Mapping[int, float], gamma: float = 0.0) -> Solved:
        """Bring lines to this far over the reference's, at the least change.

        Args:
            within_db: In dB; the same for all periods, or by period.
            gamma: Weight of the task beside that of the change; 0 leaves it out, as where nothing is paired.
        """
        task, periods = self._task, self._task.periods[self._output]
        limits = within_db if isinstance(within_db, Mapping) else dict.fromkeys(periods, within_db)
        wanted = task.wanted[self._output]
        targets = self._first_targets(limits)
        for _ in range(_ROUNDS):
            weights = self._weights(targets, gamma)
            edited = self._current.edited([self._rows.edit(weights)])
            found = task.fit.judge(edited, task.periods)
            missed = {p: found[self._output].levels[p].over(wanted.get(p)) - limits[p] for p in periods}
            if all(abs(miss) < _NEAR_ENOUGH or (miss < 0 and p not in targets[0]) for p, miss in missed.items()):
                break
            for each, known, now in zip(targets, self._moments, weights, strict=True):
                for period, miss in missed.items():
                    if period in each or miss > 0:
                        # where a target is out of reach, from what was attained: it would fall without end
                        attained = known.power(period, now)
                        target = each.get(period, attained)
                        each[period] = (target if attained < _REACHED * target else attained) * 10 ** (-miss / 10)
        self._last = limits, targets
        return Solved(
            edited, found, self._change(weights), partial(_between, self._current, self._rows, self._start, weights)
        )

    def restart(self) -> None:
        """Forget the last solution: of one that is much shallower it tells little."""
        self._multipliers, self._last = [{} for _ in self._moments], None

    def _first_targets(self, limits: Mapping[int, float]) -> list[dict[int, float]]:
        """Those of the last solution, moved by the difference: they know what the layer's lines do to the output."""
        if self._last is not None:
            earlier, targets = self._last
            return [{p: power * 10 ** ((limits[p] - earlier[p]) / 10) for p, power in each.items()} for each in targets]
        return [self._targets(known, start, limits) for known, start in zip(self._moments, self._start, strict=True)]

    def _change(self, weights: list[Array]) -> float:
        """Without biases."""
        old, new = (np.concatenate([rows[:-1].ravel() for rows in each]) for each in (self._start, weights))
        return float(np.linalg.norm(new - old) / max(float(np.linalg.norm(old)), 1e-30))

    def _weights(self, targets: list[dict[int, float]], gamma: float) -> list[Array]:
        found = []
        for group, (known, start) in enumerate(zip(self._moments, self._start, strict=True)):
            solution = solve(known, start, targets[group], gamma=gamma, start=self._multipliers[group])
            self._multipliers[group] = solution.multipliers
            found.append(solution.weights)
        return found

    def _targets(self, known: Moments, start: Array, limits: Mapping[int, float]) -> dict[int, float]:
        """Powers that lines may have; none where they are low enough."""
        excess = {p: v - limits[p] for p, v in self._before.over(self._task.wanted[self._output]).items()}
        return {p: known.power(p, start) * 10 ** (-v / 10) for p, v in excess.items() if v > 0}

    def reweigh(self, solved: Solved) -> None:
        """Let every signal count by its lines as a first solution left them (:meth:`Known.weighed`)."""
        self.known = self.known.weighed(solved.backend)
        self._moments = self.known.part(self._rows)
        self.restart()


def _between(backend: Backend, rows: Rows, old: list[Array], new: list[Array], strength: float) -> Backend:
    """A model whose layer has weights between old and new ones."""
    return backend.edited([rows.edit([a + strength * (b - a) for a, b in zip(old, new, strict=True)])])
