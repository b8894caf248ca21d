"""The report of a repair in every format: text, JSON, Markdown, one HTML page."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

from evenly.report import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.fix.result import FixReport

__all__ = ["FIXED_REPORTERS", "FixedReporter", "render_fix"]


class FixedReporter(Protocol):
    """A function that writes a report as text."""

    def __call__(self, report: FixReport, view: View) -> str:
        """The text, ending with a newline."""


FIXED_REPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "text": "evenly.report.fixed_console",
        "json": "evenly.report.fixed_json",
        "markdown": "evenly.report.fixed_markdown",
        "html": "evenly.report.fixed_page",
    }
)
"""Module per format; each has a function ``render``. They are imported when they are used."""


def render_fix(report: FixReport, form: str, view: View | None = None) -> str:
    """Write a report in one of the formats of :data:`FIXED_REPORTERS`.

    Raises:
        KeyError: If there is no such format.
    """
    reporter = cast(FixedReporter, import_module(FIXED_REPORTERS[form]).render)
    return reporter(report, view or View())
