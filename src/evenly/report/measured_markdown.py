"""``evenly measure`` as Markdown, for a job's summary: the verdict first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.measure.result import VERDICTS, Measurement
from evenly.report.markdown_parts import Safe, bullets, code, details, heading, page, paragraph, strong, table
from evenly.report.measured_words import (
    COMPARED_HEAD,
    DIFFERENCE,
    LEGEND,
    NOUNS,
    PICTURE_HEAD,
    SOUND_HEAD,
    UNITS,
    compared,
    compared_rows,
    difference,
    file_words,
    judged,
    picture_rows,
    size,
    sound_rows,
    testable,
    where,
)
from evenly.report.ranked import MOST_FILES, Ranked
from evenly.report.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from evenly.measure.result import Comparison, SetMeasurement
    from evenly.measure.sound_result import AudioMeasurement
    from evenly.report import Measured, View

__all__ = ["Writer"]

_FILES = ("verdict", "file", "size", "what")


class Writer:
    """See :class:`evenly.report.MeasuredReporter`; the view changes nothing."""

    def __init__(self, view: View) -> None:
        self._ranked = Ranked()

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file; those that failed are listed with the set."""
        if "error" not in record:
            self._ranked.add(record)

    def parts(self, result: Measured) -> Iterator[str]:
        """All of the text."""
        title = heading(2, "evenly measure", code(result.target))
        if result.only is not None:
            yield page(title, *_one(result.only, result.kind))
        else:
            yield page(title, *_many(self._ranked, result))

    def close(self) -> None:
        """Nothing is held on disk."""


def _one(item: Measurement | AudioMeasurement, kind: str) -> list[Safe]:
    record, unit = item.to_dict(), UNITS[kind]
    small = f"The {NOUNS[kind]} is too small to test any period."
    places = []
    if isinstance(item, Measurement):
        rows = table(PICTURE_HEAD, picture_rows(item.periods))
        places = [f"{period} px: {where(item.periods[period])}" for period in item.found]
    else:
        rows = table(SOUND_HEAD, sound_rows(item.periods))
    return [
        strong(f"{judged(item, unit)}." if testable(record) else small),
        bullets([f"likely cause: {cause.text}" for cause in item.causes]),
        paragraph(f"{NOUNS[kind].capitalize()} {size(record)}."),
        rows,
        details("Where", bullets(places)),
        details("Notes", bullets(item.notes)),
        details("What the figures mean", paragraph(LEGEND[kind])),
    ]


def _many(ranked: Ranked, result: Measured) -> list[Safe]:
    kind, unit = result.kind, UNITS[result.kind]
    name = result.against_target or "the second set"
    together = f"{judged(result.set, unit)}." if result.set.count else "Nothing could be measured."
    return [
        *(_comparison(result.comparison, result.target, name, unit) if result.comparison is not None else ()),
        strong(together) if result.comparison is None else paragraph(f"The first set: {together}"),
        _tally(result.set, kind),
        table(PICTURE_HEAD, picture_rows(result.set.periods)),
        details(
            f"The {MOST_FILES} that show most" if ranked.added > MOST_FILES else f"{NOUNS[kind].capitalize()}s",
            table(_FILES, [_file(record, unit) for record in ranked.best()]),
        ),
        *(_against(result.against, code(name), kind, unit) if result.against is not None else ()),
        *(_failed(found) for found in (result.set, result.against) if found is not None),
        details("What the figures mean", paragraph(LEGEND[kind])),
    ]


def _file(record: Mapping[str, Any], unit: str) -> tuple[str, ...]:
    return record["verdict"], code(record["path"] or "array"), size(record), file_words(record, unit)


def _tally(found: SetMeasurement, kind: str) -> Safe:
    verdicts = ", ".join(f"{found.verdicts.get(v, 0)} {v}" for v in reversed(VERDICTS))
    failed = f", {found.failed_count} could not be" if found.failed_count else ""
    causes = ", ".join(f"{cause} {number}" for cause, number in sorted(found.causes.items()))
    return paragraph(
        f"{count(found.count, NOUNS[kind])} measured{failed}; verdicts of single files: {verdicts}"
        + (f"; files by likely cause: {causes}" if causes else "")
        + "."
    )


def _against(found: SetMeasurement, name: Safe, kind: str, unit: str) -> list[Safe]:
    judgement = f"{judged(found, unit)}." if found.count else "Nothing could be measured."
    return [heading(3, "Against", name), paragraph(judgement), _tally(found, kind)]


def _failed(found: SetMeasurement) -> Safe:
    unlisted = found.failed_count - len(found.failed)
    return details(
        f"{count(found.failed_count, 'file')} could not be measured" + (f", {unlisted} not listed" if unlisted else ""),
        table(("file", "why"), [(code(failure.path), failure.reason) for failure in found.failed]),
    )


def _comparison(comparison: Comparison, first: str, second: str, unit: str) -> list[Safe]:
    return [
        strong(f"{compared(comparison, first, second, unit)}."),
        bullets([f"{period} {unit}: {difference(comparison.periods[period])}" for period in comparison.found]),
        details(
            "Difference for every period",
            table(COMPARED_HEAD, compared_rows(comparison, unit)),
            paragraph(DIFFERENCE),
        ),
    ]
