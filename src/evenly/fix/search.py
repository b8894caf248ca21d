"""Find the cheapest repair that brings every line down: try candidates in the order of what they cost at inference.

What is tried is solved on one part of the calibration data and judged on the other. A repair is accepted if all lines
of its output are within the limit at no more distortion than allowed and, where the task's loss is known, at no more
than 2 % more of it. Everything that was tried is kept: it is the frontier of artifact against distortion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evenly.errors import EvenlyError
from evenly.fix.backend import Backend
from evenly.fix.candidates import Candidate, candidates, described
from evenly.fix.result import FrontierPoint, LayerRepair
from evenly.fix.solved import AIM_DB, LayerSolver, Solved
from evenly.fix.task import Judgement, Task

__all__ = ["Loss", "Progress", "Search", "Tried"]

Loss = Callable[[Backend], float]
Progress = Callable[[str, float], None]
"""Told what is being done, and the share that is done, 0 to 1."""

GAMMAS = (10.0, 1.0, 0.1)
"""Weights of the task beside that of the change, the freest first."""
RISES = (2.0, 4.0, 8.0)
"""Where the limit costs too much distortion, how much less is tried, in dB."""
LOSS_RISE = 1.02
"""How much more of the task's loss is accepted (ratio)."""


@dataclass(frozen=True, eq=False)
class Tried:
    """A repair that was tried.

    Attributes:
        method: In words.
        backend: The repaired model.
        repairs: The layers that it changed.
        found: Its outputs on the data kept for proof.
        loss: The task's, if known.
        strength: Of a partial repair, 0 to 1.
        cost: Multiply-adds over the original's (ratio), if known.
    """

    method: str
    backend: Backend = field(repr=False)
    repairs: tuple[LayerRepair, ...]
    found: Mapping[str, Judgement]
    loss: float | None = None
    strength: float | None = None
    cost: float | None = None

    def point(self, task: Task, chosen: bool) -> FrontierPoint:
        """As the report shows it."""
        return FrontierPoint(
            self.method, self.strength, task.over(self.found), task.psnr(self.found), self.loss, self.cost, chosen
        )


class Search:
    """Tries repairs and keeps them.

    Args:
        task: What is asked.
        loss: Of the task, if known.
        progress: Told of every step.
    """

    def __init__(self, task: Task, loss: Loss | None = None, progress: Progress | None = None) -> None:
        self.task, self._loss, self._progress = task, loss, progress
        self.refused: list[str] = []
        self.before = self.judged("as it is", task.original, ())
        self.tried: list[Tried] = []

    def judged(
        self, method: str, backend: Backend, repairs: Sequence[LayerRepair], *,
        strength: float | None = None, cost: float | None = None,
    ) -> Tried:  # fmt: skip
        """Run a repaired model on the data kept for proof."""
        found = self.task.proof.judge(backend, self.task.periods)
        loss = None if self._loss is None else self._loss(backend)
        return Tried(method, backend, tuple(repairs), found, loss, strength, cost)

    def add(self, tried: Tried) -> Tried:
        """Keep what was tried."""
        self.tried.append(tried)
        return tried

    def solve(self, layers: Sequence[str] | None = None) -> Tried:
        """Bring the lines of all outputs down, one after the other, each with the cheapest layer that does it.

        Args:
            layers: Names to choose from; by default all.

        Returns:
            The repair of all outputs together: what was accepted, and where nothing was, the best that keeps within the
            distortion.
        """
        done = self.before
        for number, output in enumerate(self.task.periods):
            if self._lines(done, output) <= self.task.within_db:
                continue
            self._say(f"lines of {output}", number / len(self.task.periods))
            found, refused = candidates(
                self.task.original, self.task.fit.batches[0], output, self.task.periods[output], layers
            )
            self.refused += [reason for reason in refused if reason not in self.refused]
            done = self._output(done, output, found)
        return done

    def _output(self, base: Tried, output: str, found: Sequence[Candidate]) -> Tried:
        begun = len(self.tried)
        for number, candidate in enumerate(found):
            self._say(str(candidate), number / len(found))
            try:
                accepted = self._candidate(base, output, candidate)
            except EvenlyError as error:
                self.refused.append(f"{candidate}: {error}")
                continue
            if accepted is not None:
                return accepted
        within = [t for t in self.tried[begun:] if self.task.psnr(t.found) >= self.task.max_distortion]
        reached = [t for t in within if self._lines(t, output) <= self.task.within_db]
        if reached:  # only the loss stood against them
            return min(reached, key=lambda t: t.loss or 0.0)
        return min([base, *within], key=lambda t: self._lines(t, output))

    def _candidate(self, base: Tried, output: str, candidate: Candidate) -> Tried | None:
        """Try a layer; what it gave if it is accepted."""
        current = base.backend
        layer = next(each for each in current.layers() if each.name == candidate.layer)
        solver = LayerSolver(self.task, current, layer, output, extra=candidate.extra, phases=candidate.phases)

        def tried(solved: Solved, words: str) -> Tried:
            now = next((each for each in solved.backend.layers() if each.name == layer.name), None)
            after = described(now) if now is not None else described(layer) + f", weights by phase {candidate.phases}"
            repair = LayerRepair(layer.name, "solve", described(layer), after, solved.weight_change)
            return self.add(
                self.judged(
                    f"{candidate}{words}",
                    solved.backend,
                    (*base.repairs, repair),
                    cost=(base.cost or 1.0) * candidate.cost,
                )
            )

        aim = self.task.within_db - AIM_DB
        gammas = GAMMAS if solver.paired else (0.0,)
        for gamma in gammas:
            last = tried(solver.solve(aim, gamma), f", task weight {gamma:g}" if gamma else "")
            if self._accepted(last, output):
                return last
            if self._lines(last, output) > self.task.within_db + AIM_DB:
                break  # another weight would not lower lines that this layer cannot lower
        for rise in RISES:
            if self.task.psnr(last.found) >= self.task.max_distortion:
                break
            last = tried(solver.solve(aim + rise, gammas[len(gammas) // 2]), f", lines {rise:g} dB higher")
        return None

    def _accepted(self, tried: Tried, output: str) -> bool:
        if tried.loss is not None and self.before.loss is not None and tried.loss > LOSS_RISE * self.before.loss:
            return False
        return (
            self._lines(tried, output) <= self.task.within_db
            and self.task.psnr(tried.found) >= self.task.max_distortion
        )

    def _lines(self, tried: Tried, output: str) -> float:
        """The worst line of an output over its reference, in dB."""
        return max(tried.found[output].over(self.task.wanted[output]).values(), default=0.0)

    def frontier(self, chosen: Tried) -> tuple[FrontierPoint, ...]:
        """Everything that was tried."""
        return tuple(tried.point(self.task, tried is chosen) for tried in self.tried)

    def _say(self, words: str, share: float) -> None:
        if self._progress is not None:
            self._progress(words, share)
