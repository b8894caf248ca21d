"""What ``evenly reproduce`` shows: progress, the list of experiments, the report."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evenly.cli.running import bars
from evenly.report.words import clean
from evenly.reproduce import words
from evenly.reproduce.registry import EXPERIMENTS, chosen
from evenly.reproduce.run import DONE
from evenly.reproduce.stored import read_results
from evenly.reproduce.written import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from evenly.report import View
    from evenly.reproduce.run import Progress
    from evenly.reproduce.stored import Reproduction
    from evenly.reproduce.together import Ran

__all__ = ["interrupted", "listed", "reported", "shown"]

_COLOURS = {"holds": "32", "partly": "33", "does not hold here": "31", "not decided here": "36", "not run": "2"}
"""ANSI codes; the words say the same."""


def listed(output: Path, names: Sequence[str], view: View) -> str:
    """The experiments, what each is about, and the last answer to each of its claims."""
    found = read_results(output / RESULTS)
    lines = []
    for name in chosen(names):
        _, claims, what = EXPERIMENTS[name]
        result = found.results.get(name)
        answers = {} if result is None else {finding.claim: finding.answer for finding in result.findings}
        state = "not run" if result is None else f"last run at scale {result.scale}"
        lines.append(f"{name:<14} {what} ({state})")
        lines += [f"  {claim:<4} {_coloured(answers.get(claim, 'not run'), view)}" for claim in claims]
    return "".join(line.rstrip() + "\n" for line in lines)


def reported(ran: Ran, names: Sequence[str], output: Path, markdown: Path | None, view: View) -> str:
    """A line for every claim that the experiments of this run speak about, and where to read more."""
    wanted = {claim for name in chosen(names) for claim in EXPERIMENTS[name][1]}
    lines = [_claim_line(ran.found, number, view) for number in ran.found.claims if number in wanted]
    if ran.found.results:
        lines.append(f"page: {output / 'index.html'}")
    if markdown is not None:
        lines.append(f"Markdown: {markdown}")
    return "\n".join(clean(line) if not view.colour else line for line in lines) + "\n"


def _claim_line(found: Reproduction, number: str, view: View) -> str:
    claim = found.claims[number]
    head = f"{number:<4} {_coloured(claim.answer or 'not run', view)}"
    if claim.decisive is None:
        return f"{head}  {claim.text}"
    name, part = claim.decisive
    others = "" if len(claim.experiments) == 1 else f" and {len(claim.experiments) - 1} more"
    wishes = words.deciders(claim)
    why = f"; {words.tally(claim)}" + (f"; {wishes}" if wishes else "")
    return f"{head}  {words.stated(part)}: {words.effect(part.effect)}, {part.state}{why} ({name}{others})"


def _coloured(answer: str, view: View) -> str:
    padded = f"{answer:<18}"
    return f"\x1b[{_COLOURS[answer]}m{padded}\x1b[0m" if view.colour else padded


def interrupted(arguments: Sequence[str]) -> str:
    """What to say after Ctrl-C."""
    again = [*arguments] if "--resume" in arguments else [*arguments, "--resume"]
    return f"interrupted; what is done is kept. To go on: {clean(shlex.join(['evenly', *again]))}\n"


@contextmanager
def shown() -> Iterator[Callable[[Progress], None]]:
    """Progress on standard error: bars on a terminal, a line for every cell elsewhere."""
    from rich.progress import TextColumn

    with bars(TextColumn("{task.fields[words]}")) as bar:
        yield _say if bar is None else _Bars(bar).tell


def _say(now: Progress) -> None:
    if now.note == DONE:
        sys.stderr.write(clean(f"{now.experiment}: {now.cells} of {now.of} cells, {now.cell} done") + "\n")
        sys.stderr.flush()


class _Bars:
    """A bar for the experiment, which counts parts of cells, too, and one for every cell at work."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._experiment: tuple[str, TaskID] | None = None
        self._cells: dict[str, tuple[TaskID, float, float]] = {}  # bar, when it began, share that is done

    def tell(self, now: Progress) -> None:
        """Show what happens."""
        if self._experiment is None or self._experiment[0] != now.experiment:
            self._begin(now)
        assert self._experiment is not None
        if now.note == DONE:
            self._end(now.cell)
        elif now.cell:
            self._cell(now)
        working = sum(share for _, _, share in self._cells.values())
        self._bar.update(self._experiment[1], completed=now.cells + working, words=f"{now.cells} of {now.of} cells")

    def _begin(self, now: Progress) -> None:
        for cell in list(self._cells):
            self._end(cell)
        if self._experiment is not None:
            self._bar.remove_task(self._experiment[1])
        self._experiment = now.experiment, self._bar.add_task(now.experiment, total=now.of, words="")

    def _cell(self, now: Progress) -> None:
        if now.cell not in self._cells:
            self._cells[now.cell] = self._bar.add_task(f"  {now.cell}", total=None, words=""), time.monotonic(), 0.0
        task, begin, _ = self._cells[now.cell]
        seconds = time.monotonic() - begin
        rate = f", {now.step / seconds:.3g} per second" if now.step and seconds > 1 else ""
        text = f"{now.note} {now.step} of {now.steps} steps{rate}" if now.steps else now.note
        self._bar.update(task, completed=now.step, total=now.steps or None, words=text)
        self._cells[now.cell] = task, begin, now.step / now.steps if now.steps else 0.0

    def _end(self, cell: str) -> None:
        if cell in self._cells:
            self._bar.remove_task(self._cells.pop(cell)[0])
