"""One report, many readers: the console, JSON, SARIF, GitHub annotations, notebooks.

A reporter is a function from a :class:`~evenly.check.result.Report` and a :class:`View` to text. It reads the report
only and computes nothing about networks. A new one is one entry in :data:`REPORTERS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.check.result import Report

__all__ = ["REPORTERS", "Reporter", "View", "render"]


@dataclass(frozen=True)
class View:
    """How text is to be shown.

    Attributes:
        verbose: Every layer, however many there are.
        width: Columns of the terminal or the file.
        colour: Whether ANSI colours may be used.
    """

    verbose: bool = False
    width: int = 100
    colour: bool = False


class Reporter(Protocol):
    """A function that writes a report as text."""

    def __call__(self, report: Report, view: View) -> str:
        """The text, ending with a newline unless it is empty."""


REPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "text": "evenly.report.console",
        "json": "evenly.report.json",
        "sarif": "evenly.report.sarif",
        "github": "evenly.report.github",
    }
)
"""Module per format; each has a function ``render``. They are imported when they are used."""


def render(report: Report, form: str, view: View | None = None) -> str:
    """Write a report in one of the formats of :data:`REPORTERS`.

    Raises:
        KeyError: If there is no such format.
    """
    reporter = cast(Reporter, import_module(REPORTERS[form]).render)
    return reporter(report, view or View())
