"""What was measured, in a notebook: self-contained HTML without scripts or styles, everything escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.measure.result import Measurement
from evenly.report.measured_words import (
    NOUNS,
    PICTURE_HEAD,
    UNITS,
    judged,
    period_table,
    picture_rows,
    size,
    testable,
    unmeasured,
    verdicts,
    where,
)
from evenly.report.notebook import headed, plain_table
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.picture_parts import Look
from evenly.report.page.sound_parts import sound_spectrum
from evenly.report.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evenly.measure.result import SetMeasurement
    from evenly.measure.sound_result import AudioMeasurement

__all__ = ["set_to_html", "to_html"]


def to_html(measurement: Measurement | AudioMeasurement) -> str:
    """The verdict, the likely causes, the spectrum and every period, as one ``div``."""
    record = measurement.to_dict()
    kind = "image" if isinstance(measurement, Measurement) else "audio"
    verdict = judged(measurement, UNITS[kind]) if testable(record) else "Too small to test any period"
    found = []
    if isinstance(measurement, Measurement):
        found = [f"{p} px: {where(measurement.periods[p])}" for p in measurement.found]
    lines = [*(f"likely cause: {cause.text}" for cause in measurement.causes), *found, *measurement.notes]
    return tag(
        "div",
        headed(measurement.path or NOUNS[kind], f", {size(record)}: {verdict}"),
        _table(*period_table(measurement)),
        [tag("p", line) for line in lines],
        _drawing(measurement),
    )


def set_to_html(measured: SetMeasurement) -> str:
    """The verdict of a set, how many files had which, and every period, as one ``div``."""
    verdict = judged(measured, "px") if measured.count else "Nothing could be measured"
    return tag(
        "div",
        headed(
            f"{count(measured.count, 'file')} measured{unmeasured(measured)}",
            f": {verdict}; single files: {verdicts(measured)}",
        ),
        _table(PICTURE_HEAD, picture_rows(measured.periods)),
        [tag("p", f"{kind}: {count(number, 'file')}") for kind, number in sorted(measured.causes.items())],
        [tag("p", f"{failure.path}: {failure.reason}") for failure in measured.failed],
    )


def _drawing(measurement: Measurement | AudioMeasurement) -> Content:
    if not isinstance(measurement, Measurement):
        return sound_spectrum(measurement)
    look = Look(measurement)
    return [look.spectrum(), look.cell(look.period)] if look.drawable else None


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup | None:
    return plain_table(head, [[" ".join(cell.split()) for cell in row] for row in rows])
