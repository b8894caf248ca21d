"""A measurement in a notebook: self-contained HTML without scripts, everything escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.measure.result import TRACES
from evenly.report.measured_words import evidence, judged, percent, size, testable, where
from evenly.report.notebook import escaped, table

if TYPE_CHECKING:
    from evenly.measure.result import Measurement

__all__ = ["to_html"]


def to_html(measurement: Measurement) -> str:
    """The verdict, the likely causes, and every period, as one ``div``."""
    record = measurement.to_dict()
    verdict = judged(measurement, "px") if testable(record) else "Too small to test any period"
    causes = [f"likely cause: {c.text}" for c in measurement.causes]
    found = [f"{p} px: {where(measurement.periods[p])}" for p in measurement.found]
    rows = []
    for period, result in measurement.periods.items():
        cells = [evidence(None, None) if t is None else evidence(t.db, t.log10_p) for t in result.traces().values()]
        rows.append((f"{period} px", *(" ".join(cell.split()) for cell in cells), percent(result.energy_fraction)))
    lines = [*causes, *found, *measurement.notes]
    return (
        f"<div><p><strong>{escaped(measurement.path or 'picture')}</strong>, {size(record)}: {escaped(verdict)}</p>"
        + table(("period", *TRACES, "energy"), rows)
        + "".join(f"<p>{escaped(line)}</p>" for line in lines)
        + "</div>"
    )
