"""The contract of other programs: the report of a repair as it is, see ``docs/json.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evenly.fix.result import FixReport
    from evenly.report import View

__all__ = ["render"]


def render(report: FixReport, view: View) -> str:
    """The report as JSON text; the view changes nothing."""
    return report.to_json() + "\n"
