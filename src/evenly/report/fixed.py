"""The report of a repair in every format: text, JSON, Markdown, one HTML page."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from evenly.report import View, render_with

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.fix.result import FixReport

__all__ = ["FIXED_REPORTERS", "render_fix"]

FIXED_REPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "text": "evenly.report.fixed_console",
        "json": "evenly.report.json",
        "markdown": "evenly.report.fixed_markdown",
        "html": "evenly.report.fixed_page",
    }
)
"""Module per format, for :func:`evenly.report.render_with`."""


def render_fix(report: FixReport, form: str, view: View | None = None) -> str:
    """Write a report in one of the formats of :data:`FIXED_REPORTERS`.

    Raises:
        KeyError: If there is no such format.
    """
    return render_with(FIXED_REPORTERS, report, form, view)
