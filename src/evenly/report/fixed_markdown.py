"""``evenly fix`` as Markdown, for a job's summary: the verdict, the lines and the layers; the rest folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report.attributed_markdown import render as attributed
from evenly.report.fixed_words import Sheet, certificate, certified, facts, sheets, verdict
from evenly.report.markdown_parts import Safe, bullets, code, details, heading, page, paragraph, strong, table

if TYPE_CHECKING:
    from evenly.fix.result import FixReport
    from evenly.report import View

__all__ = ["render"]

_OPEN = ("lines", "outputs", "layers")
"""Tables that are not folded away."""
_NAMES = {"lines": (0,), "outputs": (0,), "layers": (0,), "check": (3,)}
"""Columns of names that come from files."""


def render(report: FixReport, view: View) -> str:
    """The report as Markdown; the view changes nothing."""
    tables = sheets(report)
    return page(
        heading(2, "evenly fix", code(report.model)),
        strong(verdict(report) + "."),
        paragraph(Safe("Next:"), report.proposal) if report.proposal else Safe(""),
        *(part for sheet in tables if sheet.key in _OPEN for part in _opened(sheet)),
        paragraph(Safe(f"{certified(report)}:".capitalize()), certificate(report)),
        *(details(sheet.title, *_table(sheet)) for sheet in tables if sheet.key not in _OPEN),
        details("Where the lines came from", Safe(attributed(report.attribution, view).strip()))
        if report.attribution is not None
        else Safe(""),
        details("How", bullets([f"{name}: {words}" for name, words in facts(report)])),
        details("Notes", bullets(report.notes)),
    )


def _opened(sheet: Sheet) -> list[Safe]:
    return [heading(3, sheet.title), *_table(sheet)]


def _table(sheet: Sheet) -> list[Safe]:
    names = _NAMES.get(sheet.key, ())
    rows = [
        [_cell(cell, name=n in names, marked=number in sheet.marked) for n, cell in enumerate(row)]
        for number, row in enumerate(sheet.rows)
    ]
    return [table(sheet.head, rows, sheet.figures), paragraph(sheet.about)]


def _cell(text: str, *, name: bool, marked: bool) -> str:
    return code(text) if name and text not in ("-", "none", "not read") else strong(text) if marked else text
