"""What was measured as CSV: a row per file; those that failed have an ``error`` and nothing else."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from evenly.measure.rows import columns, flat
from evenly.report.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from evenly.report import Measured, View

__all__ = ["SOUND_PERIOD", "Writer"]

_SOUND = ("path", "rate_hz", "seconds", "channels", "verdict", "found", "cause", "notes", "error")
SOUND_PERIOD = (
    *("tone_db", "tone_p", "tone_log10_p", "level_dbfs", "frequency_hz", "tone_count"),
    *("replica_db", "replica_p", "replica_log10_p", "energy_fraction"),
)
"""Columns of each period of a recording, after ``p2_`` and the like."""


class Writer:
    """See :class:`evenly.report.MeasuredReporter`; the view changes nothing."""

    def __init__(self, view: View) -> None:
        self._rows = Spool()
        self._early: list[Mapping[str, Any]] = []  # failures before the first measurement says what the columns are
        self._columns: list[str] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file."""
        if not self._columns and "error" in record:
            self._early.append(record)
            return
        self._columns = self._columns or _columns(record)
        for late in (*self._early, record):
            self._add(late)
        self._early = []

    def _add(self, record: Mapping[str, Any]) -> None:
        row = flat(record) | {name: record.get(name) for name in ("rate_hz", "seconds", "channels")}
        self._rows.add(_line(row.get(name) for name in self._columns))

    def parts(self, result: Measured) -> Iterator[str]:
        """The text, a row at a time."""
        if not self._columns:
            self._columns = list(columns(()) if result.kind == "image" else _SOUND)
            for record in self._early:
                self._add(record)
        yield _line(self._columns) + "\n"
        for line in self._rows:
            yield line + "\n"

    def close(self) -> None:
        """Delete what waits on disk."""
        self._rows.close()


def _columns(record: Mapping[str, Any]) -> list[str]:
    numbers = [int(p) for p in record["periods"]]
    if "rate_hz" in record:
        return [*_SOUND, *(f"p{period}_{name}" for period in numbers for name in SOUND_PERIOD)]
    return list(columns(numbers))


def _line(values: Iterable[Any]) -> str:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\r\n").writerow(values)  # so that both signs are quoted inside fields
    return sink.getvalue().removesuffix("\r\n")
