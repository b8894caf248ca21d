"""``evenly measure`` as Markdown, for a job's summary: the verdict first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.measure.result import Measurement
from evenly.report import measured_words as wording
from evenly.report.markdown_parts import Safe, bullets, code, details, heading, page, paragraph, strong, table
from evenly.report.ranked import MOST_FILES, Ranked, RankedWriter
from evenly.report.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from evenly.measure.result import Comparison, SetMeasurement
    from evenly.measure.sound_result import AudioMeasurement
    from evenly.report import Measured

__all__ = ["Writer"]

_FILES = ("verdict", "file", "size", "what")


class Writer(RankedWriter):
    """See :class:`evenly.report.MeasuredReporter`; the view changes nothing."""

    def parts(self, result: Measured) -> Iterator[str]:
        """All of the text."""
        title = heading(2, "evenly measure", code(result.target))
        if result.only is not None:
            yield page(title, *_one(result.only, result.kind))
        else:
            yield page(title, *_many(self._ranked, result))


def _one(item: Measurement | AudioMeasurement, kind: str) -> list[Safe]:
    record, unit = item.to_dict(), wording.UNITS[kind]
    small = f"The {wording.NOUNS[kind]} is too small to test any period."
    places = []
    if isinstance(item, Measurement):
        places = [f"{period} px: {wording.where(item.periods[period])}" for period in item.found]
    return [
        strong(f"{wording.judged(item, unit)}." if wording.testable(record) else small),
        bullets([f"likely cause: {cause.text}" for cause in item.causes]),
        paragraph(f"{wording.NOUNS[kind].capitalize()} {wording.size(record)}."),
        table(*wording.period_table(item)),
        details("Where", bullets(places)),
        details("Notes", bullets(item.notes)),
        details("What the figures mean", paragraph(wording.LEGEND[kind])),
    ]


def _many(ranked: Ranked, result: Measured) -> list[Safe]:
    kind, unit = result.kind, wording.UNITS[result.kind]
    name = result.against_target or "the second set"
    together = f"{wording.judged(result.set, unit)}." if result.set.count else "Nothing could be measured."
    return [
        *(_comparison(result.comparison, result.target, name, unit) if result.comparison is not None else ()),
        strong(together) if result.comparison is None else paragraph(f"The first set: {together}"),
        _tally(result.set, kind),
        table(wording.PICTURE_HEAD, wording.picture_rows(result.set.periods)),
        details(
            f"The {MOST_FILES} that show most" if ranked.added > MOST_FILES else f"{wording.NOUNS[kind].capitalize()}s",
            table(_FILES, [_file(record, unit) for record in ranked.best()]),
        ),
        *(_against(result.against, code(name), kind, unit) if result.against is not None else ()),
        *(_failed(found) for found in (result.set, result.against) if found is not None),
        details("What the figures mean", paragraph(wording.LEGEND[kind])),
    ]


def _file(record: Mapping[str, Any], unit: str) -> tuple[str, ...]:
    return record["verdict"], code(record["path"] or "array"), wording.size(record), wording.file_words(record, unit)


def _tally(found: SetMeasurement, kind: str) -> Safe:
    measured = f"{count(found.count, wording.NOUNS[kind])} measured{wording.unmeasured(found)}"
    causes = f"; files by likely cause: {wording.causes(found)}" if found.causes else ""
    return paragraph(f"{measured}; verdicts of single files: {wording.verdicts(found)}{causes}.")


def _against(found: SetMeasurement, name: Safe, kind: str, unit: str) -> list[Safe]:
    judgement = f"{wording.judged(found, unit)}." if found.count else "Nothing could be measured."
    return [heading(3, "Against", name), paragraph(judgement), _tally(found, kind)]


def _failed(found: SetMeasurement) -> Safe:
    unlisted = found.failed_count - len(found.failed)
    return details(
        f"{count(found.failed_count, 'file')} could not be measured" + (f", {unlisted} not listed" if unlisted else ""),
        table(("file", "why"), [(code(failure.path), failure.reason) for failure in found.failed]),
    )


def _comparison(comparison: Comparison, first: str, second: str, unit: str) -> list[Safe]:
    return [
        strong(f"{wording.compared(comparison, first, second, unit)}."),
        bullets([f"{period} {unit}: {wording.difference(comparison.periods[period])}" for period in comparison.found]),
        details(
            "Difference for every period",
            table(wording.COMPARED_HEAD, wording.compared_rows(comparison, unit)),
            paragraph(wording.DIFFERENCE),
        ),
    ]
