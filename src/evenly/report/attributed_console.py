"""Which layers make the lines, for people at a terminal: the lines, the layers behind each, the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from evenly.report import View
from evenly.report.attributed_words import (
    LAYER_HEAD,
    LEGEND,
    LINE_HEAD,
    explained,
    layer_rows,
    line_rows,
    together,
    untestable,
    verdict,
)
from evenly.report.paper import Paper
from evenly.report.words import clean, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evenly.fix.attributed import Attribution

__all__ = ["render"]

_NAMES = ("layer", "")
"""Columns of words, on the left; figures stand on the right."""


def render(found: Attribution, view: View | None = None) -> str:
    """The attribution as text of the view's width."""
    paper = Paper(view or View())
    paper.line(Text.assemble("evenly attribute ", (clean(found.model), "bold")))
    paper.line(f"lines in {clean(explained(found))}", indent=2)
    paper.line(f"{count(found.signals, 'signal')}: {clean(found.inputs)}", indent=2)
    paper.title("Lines")
    paper.add(_table(LINE_HEAD, line_rows(found)), indent=2)
    for period in found.present:
        _period(paper, found, period)
    if found.present:
        paper.line()
        what = "the output" if found.direction == "forward" else "the input"
        paper.line(LEGEND.format(what=what), style="dim", indent=2)
    _untestable(paper, found)
    if found.notes:
        paper.title("Notes")
        for note in found.notes:
            paper.line(clean(note), indent=2)
    paper.title("Verdict")
    for sentence in verdict(found):
        paper.line(clean(sentence), style="bold red" if found.present else "bold green", indent=2)
    return paper.text()


def _period(paper: Paper, found: Attribution, period: int) -> None:
    paper.title(f"Period {period}, each layer made even alone")
    rows = layer_rows(found, period)
    if rows:
        paper.add(_table(LAYER_HEAD, rows), indent=2)
    if not found.ranking(period):
        paper.line("No layer alone makes it fall for certain.", indent=2)
    sum_of_all = together(found, period)
    if sum_of_all:
        paper.line(sum_of_all, indent=2)


def _untestable(paper: Paper, found: Attribution) -> None:
    rows = untestable(found)
    if rows:
        paper.title("Not testable")
        for name, kind, why in rows:
            paper.line(f"{clean(name)} ({kind}): {clean(why)}", indent=2)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold", justify="left" if name in (*_NAMES, "kind") else "right")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    return table
