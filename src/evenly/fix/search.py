"""Find the cheapest repair that brings every line down: try candidates in the order of what they cost at inference.

What is tried is solved on one part of the calibration data and judged on the other. A repair is accepted if all lines
of its output are within the limit at no more distortion than allowed and, where the task's loss is known, at no more
than 2 % more of it. Everything that was tried is kept: it is the frontier of artifact against distortion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf, log10

from evenly.errors import EvenlyError
from evenly.fix.backend import Backend
from evenly.fix.candidates import Candidate, candidates, described
from evenly.fix.geometry import Rows
from evenly.fix.known import Known
from evenly.fix.result import FrontierPoint, LayerRepair
from evenly.fix.solved import AIM_DB, LayerSolver
from evenly.fix.task import Judgement, Task

__all__ = ["Loss", "Progress", "Search", "Tried"]

Loss = Callable[[Backend], float]
Progress = Callable[[str, float], None]
"""Told what is being done, and the share that is done, 0 to 1."""

GAMMAS = (0.1, 1.0, 10.0)
"""Weights of the task beside that of the change, the least change first."""
STEPS = 5
"""Times that lines are aimed lower where they miss the limit on other data, period by period."""
STEP = 1.2
"""How much lower at most in one of them, in dB: what other data do is not proportional."""
DEEPEST = 4.0
"""How much lower at most, in dB."""
WELL_DB = 2.0
"""How far inside of the limit lines are well, in dB; further than they have to be, where the distortion allows it: the
next data will differ again."""
NEARLY = 0.3
"""What that is not worth another solution for, in dB."""
MISSED = 4.0
"""By how much they may miss it for that to be tried, in dB."""
HIGHEST = 16.0
"""Where the limit costs too much distortion, by how much lines may at most stand over it in what is tried, in dB."""
HALVINGS = 4
"""Times that this is halved, or what is between it and what costs too much."""
PARTS = 4
"""Changes of which a part is tried, where none keeps within the distortion."""
WEAKER = 3
"""Times that a part is tried: behind a tanh errors are not quite proportional."""
SPARE_DB = 0.05
"""How much less distortion than allowed such a part aims at, in dB."""
LOSS_RISE = 1.02
"""How much more of the task's loss is accepted (ratio)."""
HARMFUL_DB = 3.0
"""By how much lines must fall for a repair to be taken that raises the loss by more than that."""
HOPELESS = 6.0
"""By how much a first solution may miss the distortion for a second one with other weights to be tried, in dB."""


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
        partly: The same with that part of the change, 0 to 1, where there is such a thing.
    """

    method: str
    backend: Backend = field(repr=False)
    repairs: tuple[LayerRepair, ...]
    found: Mapping[str, Judgement]
    loss: float | None = None
    strength: float | None = None
    cost: float | None = None
    partly: Callable[[float], Backend] | None = field(default=None, repr=False)

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
        strength: float | None = None, cost: float | None = None, partly: Callable[[float], Backend] | None = None,
    ) -> Tried:  # fmt: skip
        """Run a repaired model on the data kept for proof."""
        found = self.task.proof.judge(backend, self.task.periods)
        loss = None if self._loss is None else self._loss(backend)
        return Tried(method, backend, tuple(repairs), found, loss, strength, cost, partly)

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
            self.say(f"lines of {output}", number / len(self.task.periods))
            found, refused = candidates(
                self.task.original, self.task.fit.batches[0], output, self.task.periods[output], layers
            )
            self.refused += [reason for reason in refused if reason not in self.refused]
            done = self._output(done, output, found)
        return done

    def _output(self, base: Tried, output: str, found: Sequence[Candidate]) -> Tried:
        begun = len(self.tried)
        best: tuple[float, _Attempt] | None = None
        known: Known | None = None
        for number, candidate in enumerate(found):
            self.say(str(candidate), number / len(found))
            first = len(self.tried)
            try:
                attempt = _Attempt(self, base, output, candidate, known)
                known = attempt.known
                accepted = self._accepted_of(attempt)
            except EvenlyError as error:
                self.refused.append(f"{candidate}: {error}")
                continue
            if accepted is not None:
                return accepted
            left = min(self._left(tried, base, output) for tried in self.tried[first:])
            if best is None or left < best[0] - NEARLY:
                best = left, attempt
        within = self.task.within_db
        if best is not None and not any(
            self._affordable(tried) and self._lines(tried, output) <= within for tried in self.tried[begun:]
        ):
            self._risen(best[1])
            self._weakened(base, output, self.tried[begun:])
        return self._best(base, output, self.tried[begun:])

    def _best(self, base: Tried, output: str, tried: Sequence[Tried]) -> Tried:
        """Of what keeps within the distortion: what reaches the limit, else what comes nearest; `base` if little does.

        Where the loss is known, what raises it comes last.
        """
        able = [each for each in tried if self._affordable(each)]
        reached = [each for each in able if self._lines(each, output) <= self.task.within_db]
        harmless = [each for each in reached or able if self._harmless(each)]
        if reached and not harmless:
            return min(reached, key=lambda each: each.loss or 0.0)
        for some, gain in ((harmless, NEARLY), (able, HARMFUL_DB)):
            least = min((self._lines(each, output) for each in some), default=inf)
            if least < self._lines(base, output) - gain:
                equals = [each for each in some if self._lines(each, output) <= least + NEARLY]
                return min(equals, key=lambda each: each.cost or 1.0)
        return base

    def _accepted_of(self, attempt: _Attempt) -> Tried | None:
        """Step by step deeper, until lines are within the limit on other data too, or that is too much of a change.

        Each period is aimed lower by as much as it missed: others need not pay. At the depth that will do, or well if
        that can be had, freedom is spent on the task as far as the lines and the distortion allow.
        """
        output, within = attempt.output, self.task.within_db
        moved = dict.fromkeys(self.task.periods[output], 0.0)
        enough: tuple[dict[int, float], Tried] | None = None
        for _ in range(STEPS):
            least = attempt.tried(moved, GAMMAS[0])
            inside = within - self._lines(least, output)
            if not self._affordable(least) or inside < AIM_DB - MISSED:
                break
            if inside >= AIM_DB:
                enough = dict(moved), least
            if inside >= WELL_DB - NEARLY:
                break
            for period, over in least.found[output].over(self.task.wanted[output]).items():
                missed = over - (within - WELL_DB)
                moved[period] = min(0.0, max(moved[period] - min(missed, STEP), -DEEPEST))
        if enough is None:
            return None
        moved, least = enough
        freer = GAMMAS[1:] if attempt.paired else ()
        for tried in chain((attempt.tried(moved, gamma) for gamma in freer), (least,)):
            if self._accepted(tried, output):
                return tried
        return None

    def _risen(self, attempt: _Attempt) -> None:
        """Ask for as much less as keeps within the distortion."""
        low, high = 0.0, HIGHEST
        for _ in range(HALVINGS):
            rise = (low + high) / 2
            attempt.restart()
            tried = attempt.tried(dict.fromkeys(self.task.periods[attempt.output], rise), GAMMAS[0])
            low, high = (low, rise) if self._affordable(tried) else (rise, high)

    def _weakened(self, base: Tried, output: str, among: Sequence[Tried]) -> None:
        """Parts of what changes too much, as far as the distortion allows, of those that should leave least."""
        able = [tried for tried in among if tried.partly is not None and not self._affordable(tried)]
        for whole in sorted(able, key=lambda tried: self._left(tried, base, output))[:PARTS]:
            assert whole.partly is not None
            strength = self._bearable(whole)
            for _ in range(WEAKER):
                *others, repair = whole.repairs
                repair = replace(repair, weight_change=(repair.weight_change or 0.0) * strength)
                words = f"{whole.method}, strength {strength:.2f}"
                done = self.judged(words, whole.partly(strength), (*others, repair), strength=strength, cost=whole.cost)
                if self._affordable(self.add(done)):
                    break
                strength *= self._bearable(done)

    def _left(self, tried: Tried, base: Tried, output: str) -> float:
        """The worst line, in dB, of as much of a change as the distortion allows, as far as can be told beforehand.

        A part of a change has that part of its error, and lines in between.
        """
        wanted, part = self.task.wanted[output], self._bearable(tried)
        old, new = (each.found[output].over(wanted) for each in (base, tried))
        return max(
            (20 * log10((1 - part) * 10 ** (old[p] / 20) + part * 10 ** (new[p] / 20)) for p in new), default=0.0
        )

    def _bearable(self, tried: Tried) -> float:
        """Part of a change with which the distortion is what is allowed."""
        return min(1.0, 10 ** ((self.task.psnr(tried.found) - self.task.max_distortion - SPARE_DB) / 20))

    def _affordable(self, tried: Tried) -> bool:
        return self.task.psnr(tried.found) >= self.task.max_distortion

    def _accepted(self, tried: Tried, output: str) -> bool:
        inside = self.task.within_db - self._lines(tried, output)
        return inside >= AIM_DB and self._affordable(tried) and self._harmless(tried)

    def _harmless(self, tried: Tried) -> bool:
        """Whether the task's loss hardly rises, as far as it is known."""
        if tried.loss is None or self.before.loss is None:
            return True
        return tried.loss <= LOSS_RISE * self.before.loss

    def _lines(self, tried: Tried, output: str) -> float:
        """The worst line of an output over its reference, in dB."""
        return max(tried.found[output].over(self.task.wanted[output]).values(), default=0.0)

    def frontier(self, chosen: Tried) -> tuple[FrontierPoint, ...]:
        """Everything that was tried."""
        return tuple(tried.point(self.task, tried is chosen) for tried in self.tried)

    def say(self, words: str, share: float) -> None:
        """Tell what is being done, and the share that is done."""
        if self._progress is not None:
            self._progress(words, share)


class _Attempt:
    """One candidate, ready to be solved for limits and weights of the task."""

    def __init__(self, search: Search, base: Tried, output: str, candidate: Candidate, known: Known | None) -> None:
        self._search, self._base, self.output, self._candidate = search, base, output, candidate
        task, current = search.task, base.backend
        self._layer = layer = next(each for each in current.layers() if each.name == candidate.layer)
        extra, phases = candidate.extra, candidate.phases
        if known is None or not known.covers(Rows.of(layer, extra, phases)):
            rows = Rows.of(layer, candidate.gathered, phases)
            alike = known is not None and known.covers(Rows.of(layer, 0, phases))
            known = Known.gathered(task, current, output, rows, known.weigh if known and alike else None)
        self._solver = LayerSolver(task, current, layer, output, extra=extra, phases=phases, known=known)
        if known.weigh is not None:
            return
        first = self._solver.solve(task.within_db - AIM_DB, GAMMAS[0] if self.paired else 0.0)
        near = task.psnr(first.fit) > task.max_distortion - HOPELESS
        if near and any(each.name == layer.name for each in first.backend.layers()):  # not with weights by phase
            self._solver.reweigh(first)

    @property
    def known(self) -> Known:
        """What has been gathered, for the next candidates."""
        return self._solver.known

    @property
    def paired(self) -> bool:
        """Whether the task can be weighed."""
        return self._solver.paired

    def restart(self) -> None:
        """Let the next solution be as if it were the first."""
        self._solver.restart()

    def tried(self, moved: Mapping[int, float], gamma: float) -> Tried:
        """Solve with lines so many dB higher (negative: lower) than what is asked for, and keep what came out."""
        task, layer, candidate = self._search.task, self._layer, self._candidate
        limits = {period: task.within_db - AIM_DB + by for period, by in moved.items()}
        solved = self._solver.solve(limits, gamma if self.paired else 0.0)
        now = next((each for each in solved.backend.layers() if each.name == layer.name), None)
        after = described(layer if now is None else now)
        if candidate.phases > 1:
            after += f", weights by phase {candidate.phases}"
        low, high = min(moved.values()), max(moved.values())
        words = f", lines up to {-low:.1f} dB lower" if low < 0 else f", lines {high:.1f} dB higher" if high > 0 else ""
        words += f", task weight {gamma:g}" if self.paired else ""
        repair = LayerRepair(layer.name, "solve", described(layer), after, solved.weight_change)
        cost = (self._base.cost or 1.0) * candidate.cost
        repairs = (*self._base.repairs, repair)
        done = self._search.judged(f"{candidate}{words}", solved.backend, repairs, cost=cost, partly=solved.partly)
        return self._search.add(done)
