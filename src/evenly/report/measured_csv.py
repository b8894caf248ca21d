"""What was measured as CSV: a row per file, those that failed last, with their ``error``."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from evenly.measure.result import Failure, Measurement
from evenly.measure.rows import columns, flat
from evenly.report.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evenly.measure.sound_result import AudioMeasurement
    from evenly.report import Measured, View

__all__ = ["Writer"]

_SOUND = ("path", "rate_hz", "seconds", "channels", "verdict", "found", "cause", "notes", "error")
_SOUND_PERIOD = (
    *("tone_db", "tone_p", "tone_log10_p", "level_dbfs", "frequency_hz", "tone_count"),
    *("replica_db", "replica_p", "replica_log10_p", "energy_fraction"),
)


class Writer:
    """See :class:`evenly.report.MeasuredReporter`; the view changes nothing."""

    def __init__(self, view: View) -> None:
        self._rows = Spool()
        self._columns: list[str] = []

    def add(self, item: Measurement | AudioMeasurement) -> None:
        """One more file."""
        if isinstance(item, Measurement):
            row = flat(item)
            self._columns = self._columns or list(columns(item.periods))
        else:
            row = _flat_sound(item)
            self._columns = self._columns or [
                *_SOUND,
                *(f"p{period}_{name}" for period in item.periods for name in _SOUND_PERIOD),
            ]
        self._rows.add(_line(row.get(name) for name in self._columns))

    def parts(self, result: Measured) -> Iterator[str]:
        """The text, a row at a time."""
        names = self._columns or (list(columns(result.set.periods)) if result.kind == "image" else list(_SOUND))
        yield _line(names) + "\n"
        for line in self._rows:
            yield line + "\n"
        for failure in result.set.failed:
            row = flat(Failure(failure.path, failure.reason))
            yield _line(row.get(name) for name in names) + "\n"

    def close(self) -> None:
        """Delete what waits on disk."""
        self._rows.close()


def _flat_sound(item: AudioMeasurement) -> dict[str, Any]:
    form = item.to_dict()
    row = {name: form.get(name) for name in _SOUND}
    row["found"] = " ".join(map(str, item.found)) or None
    row["notes"] = "; ".join(item.notes) or None
    for period, values in form["periods"].items():
        row |= {f"p{period}_{name}": value for name, value in (values or {}).items()}
    return row


def _line(values: Iterable[Any]) -> str:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="").writerow(values)
    return sink.getvalue()
