"""One report, many readers: the console, JSON, SARIF, GitHub annotations, Markdown, pages, notebooks.

A reporter is a function from a :class:`~evenly.check.result.Report` and a :class:`View` to text. It reads the report
only and computes nothing about networks. A new one is one entry in :data:`REPORTERS`. Attributions and repairs have
tables of their own, :data:`ATTRIBUTED_REPORTERS` and :data:`evenly.report.fixed.FIXED_REPORTERS`.

Measuring may meet millions of files, so its reporters, in :data:`MEASURED_REPORTERS`, are told of one after the other
and give their text in parts; see :class:`MeasuredReporter`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from evenly.check.result import Report
    from evenly.fix.attributed import Attribution
    from evenly.measure.result import Comparison, Measurement, SetMeasurement
    from evenly.measure.sound_result import AudioMeasurement

__all__ = [
    "ATTRIBUTED_REPORTERS",
    "MEASURED_REPORTERS",
    "REPORTERS",
    "ComparingReporter",
    "Measured",
    "MeasuredReporter",
    "Reporter",
    "View",
    "open_measured",
    "render",
    "render_attributed",
    "render_with",
]


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


_Result = TypeVar("_Result", contravariant=True)


class Reporter(Protocol[_Result]):
    """A function that writes a result as text: a report, an attribution, the report of a repair."""

    def __call__(self, result: _Result, view: View, /) -> str:
        """The text, ending with a newline unless it is empty."""


def render_with(reporters: Mapping[str, str], result: _Result, form: str, view: View | None = None) -> str:
    """Write a result in one of the formats of a table.

    Args:
        reporters: Module per format; each has a function ``render``, a :class:`Reporter`. One is imported: the one of
            the format.
        result: What is written.
        form: The format.
        view: How text is to be shown; by default as :class:`View` says.

    Raises:
        KeyError: If there is no such format.
    """
    reporter = cast(Reporter[_Result], import_module(reporters[form]).render)
    return reporter(result, view or View())


REPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "text": "evenly.report.console",
        "json": "evenly.report.json",
        "sarif": "evenly.report.sarif",
        "github": "evenly.report.github",
        "html": "evenly.report.html",
        "markdown": "evenly.report.markdown",
    }
)
"""Module per format, for :func:`render_with`."""


def render(report: Report, form: str, view: View | None = None) -> str:
    """Write a report in one of the formats of :data:`REPORTERS`.

    Raises:
        KeyError: If there is no such format.
    """
    return render_with(REPORTERS, report, form, view)


@dataclass(frozen=True)
class Measured:
    """What there is to say of all files together, at the end.

    Attributes:
        target: What was measured, as the user named it.
        kind: ``image`` or ``audio``.
        set: All files.
        against: The files that they are compared with.
        against_target: The same, as the user named them.
        comparison: Of both.
        only: The measurement itself, where there is one file only; it holds more than its record.
    """

    target: str
    kind: Literal["image", "audio"]
    set: SetMeasurement
    against: SetMeasurement | None = None
    against_target: str | None = None
    comparison: Comparison | None = None
    only: Measurement | AudioMeasurement | None = None


class MeasuredReporter(Protocol):
    """Writes what was measured, in memory that does not grow with the number of files."""

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file: the JSON form of its measurement, or ``path`` and ``error``."""

    def parts(self, result: Measured) -> Iterator[str]:
        """The text, in parts."""

    def close(self) -> None:
        """Give back what it holds on disk."""


@runtime_checkable
class ComparingReporter(MeasuredReporter, Protocol):
    """One that also wants the single files of the set to compare with."""

    def add_against(self, record: Mapping[str, Any]) -> None:
        """One more of these."""


MEASURED_REPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "text": "evenly.report.measured_console",
        "json": "evenly.report.measured_json",
        "csv": "evenly.report.measured_csv",
        "html": "evenly.report.measured_html",
        "markdown": "evenly.report.measured_markdown",
    }
)
"""Module per format; each has a class ``Writer``, made from a :class:`View`. They are imported when they are used."""


def open_measured(form: str, view: View | None = None) -> MeasuredReporter:
    """A reporter of one of the formats of :data:`MEASURED_REPORTERS`.

    Raises:
        KeyError: If there is no such format.
    """
    return cast(MeasuredReporter, import_module(MEASURED_REPORTERS[form]).Writer(view or View()))


ATTRIBUTED_REPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "text": "evenly.report.attributed_console",
        "json": "evenly.report.json",
        "markdown": "evenly.report.attributed_markdown",
        "html": "evenly.report.attributed_page",
    }
)
"""Module per format of an attribution, for :func:`render_with`."""


def render_attributed(found: Attribution, form: str, view: View | None = None) -> str:
    """Write an attribution in one of the formats of :data:`ATTRIBUTED_REPORTERS`.

    Raises:
        KeyError: If there is no such format.
    """
    return render_with(ATTRIBUTED_REPORTERS, found, form, view)
