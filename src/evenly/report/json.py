"""The contract of every other part: the report as it is, see ``docs/json.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evenly.check.result import Report
    from evenly.report import View

__all__ = ["render"]


def render(report: Report, view: View) -> str:
    """The report as JSON text; the view changes nothing."""
    return report.to_json() + "\n"
