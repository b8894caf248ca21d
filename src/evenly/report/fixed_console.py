"""A repair for people at a terminal: the verdict first, then what it rests on; plain text in pipes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from evenly.report.attributed_console import render as attributed
from evenly.report.fixed_words import certificate, certified, facts, sheets, tone, verdict
from evenly.report.paper import Paper
from evenly.report.words import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evenly.fix.result import FixReport
    from evenly.report import View

__all__ = ["render"]

_STYLES = {"bad": "bold red", "fair": "yellow", "good": "bold green"}


def render(report: FixReport, view: View) -> str:
    """The report as text of the view's width."""
    paper = Paper(view)
    paper.line(Text.assemble("evenly fix ", (clean(report.model), "bold")))
    paper.line()
    paper.line(verdict(report) + ".", style=_STYLES[tone(report)])
    if report.proposal:
        paper.line(Text.assemble(("Next: ", "bold"), clean(report.proposal)))
    paper.line()
    paper.add(_named(facts(report)), indent=2)
    for sheet in sheets(report):
        paper.title(sheet.title)
        paper.table(sheet.head, sheet.rows, figures=sheet.figures, whole=sheet.figures, marked=sheet.marked)
        if sheet.about:
            paper.line(sheet.about, style="dim", indent=2)
        if sheet.key == "check":
            paper.line(f"{certified(report)}: {certificate(report)}", indent=2)
    if report.attribution is not None:
        paper.title("Where the lines came from")
        inside = attributed(report.attribution, replace(view, width=view.width - 2, colour=False))
        paper.add(Text(inside.rstrip()), indent=2)
    paper.notes(report.notes)
    return paper.text()


def _named(entries: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, words in entries:
        grid.add_row(Text(name), Text(clean(words)))
    return grid
