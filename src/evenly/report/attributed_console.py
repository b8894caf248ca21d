"""Which layers make the lines, for people at a terminal: the lines, the layers behind each, the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from evenly.report import View
from evenly.report import attributed_words as wording
from evenly.report.paper import Paper
from evenly.report.words import clean, count

if TYPE_CHECKING:
    from evenly.fix.attributed import Attribution

__all__ = ["render"]


def render(found: Attribution, view: View | None = None) -> str:
    """The attribution as text of the view's width."""
    paper = Paper(view or View())
    paper.line(Text.assemble("evenly attribute ", (clean(found.model), "bold")))
    paper.line(f"lines in {clean(wording.explained(found))}", indent=2)
    paper.line(f"{count(found.signals, 'signal')}: {clean(found.inputs)}", indent=2)
    paper.title("Lines")
    paper.table(wording.LINE_HEAD, wording.line_rows(found), figures=(0, 1, 2))
    for period in found.present:
        _period(paper, found, period)
    if found.present:
        paper.line()
        paper.line(wording.legend(found), style="dim", indent=2)
    _untestable(paper, found)
    paper.notes(found.notes)
    paper.title("Verdict")
    for sentence in wording.verdict(found):
        paper.line(clean(sentence), style="bold red" if found.present else "bold green", indent=2)
    return paper.text()


def _period(paper: Paper, found: Attribution, period: int) -> None:
    paper.title(wording.alone(period))
    rows = wording.layer_rows(found, period)
    if rows:
        paper.table(wording.LAYER_HEAD, rows, figures=(3, 4, 5, 6))
    if not found.ranking(period):
        paper.line("No layer alone makes it fall for certain.", indent=2)
    sum_of_all = wording.together(found, period)
    if sum_of_all:
        paper.line(sum_of_all, indent=2)


def _untestable(paper: Paper, found: Attribution) -> None:
    rows = wording.untestable(found)
    if rows:
        paper.title("Not testable")
        for name, kind, why in rows:
            paper.line(f"{clean(name)} ({kind}): {clean(why)}", indent=2)
