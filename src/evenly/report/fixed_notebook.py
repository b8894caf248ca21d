"""A repair in a notebook: self-contained HTML without scripts or styles, everything escaped, two drawings as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report.fixed_charts import falls, tried
from evenly.report.fixed_words import certificate, certified, sheets, verdict
from evenly.report.notebook import headed, plain_table
from evenly.report.page.markup import tag

if TYPE_CHECKING:
    from evenly.fix.result import FixReport

__all__ = ["to_html"]

_WIDE = 560
_SHOWN = ("lines", "outputs", "layers", "cost")
"""Tables that fit a notebook; the page has the others."""


def to_html(report: FixReport) -> str:
    """The verdict, what came of lines, output and layers, and what it cost, as one ``div``."""
    tables = [sheet for sheet in sheets(report) if sheet.key in _SHOWN]
    return tag(
        "div",
        headed(report.model, f": {verdict(report)}"),
        tag("p", f"Next: {report.proposal}") if report.proposal else None,
        falls(report, _WIDE),
        tried(report, _WIDE),
        [[headed(sheet.title, None), plain_table(sheet.head, sheet.rows)] for sheet in tables],
        tag("p", f"{certified(report)}: {certificate(report)}"),
        [tag("p", note) for note in report.notes],
    )
