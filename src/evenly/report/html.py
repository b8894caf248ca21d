"""A page for people who would rather look: see :mod:`evenly.report.page`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report.page.check_page import check_page

if TYPE_CHECKING:
    from evenly.check.result import Report
    from evenly.report import View

__all__ = ["render"]


def render(report: Report, view: View) -> str:
    """The report as one HTML page; the view changes nothing."""
    return check_page(report)
