"""What was measured, for people at a terminal: the verdict first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from evenly.measure.result import Measurement
from evenly.report import measured_words as wording
from evenly.report.paper import Paper
from evenly.report.ranked import MOST_FILES, Ranked, RankedWriter
from evenly.report.words import clean, count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evenly.measure.result import Comparison, SetMeasurement
    from evenly.measure.sound_result import AudioMeasurement
    from evenly.report import Measured, View

__all__ = ["Writer", "page"]

_STYLES = {"strong": "bold red", "weak": "yellow", "none": "bold green"}


class Writer(RankedWriter):
    """See :class:`evenly.report.MeasuredReporter`: keeps the files that show most."""

    def parts(self, result: Measured) -> Iterator[str]:
        """All of the text."""
        paper = Paper(self._view)
        unit = wording.UNITS[result.kind]
        paper.line(Text.assemble("evenly measure ", (clean(result.target), "bold")))
        if result.only is not None:
            _one(paper, result.only, result.kind)
        else:
            _files(paper, self._ranked, result, unit)
            _set(paper, result.set, result.kind)
            name = result.against_target or "the second set"
            if result.against is not None:
                _against(paper, result.against, name, unit)
            if result.comparison is not None:
                _comparison(paper, result.comparison, result.target, name, unit)
        yield paper.text()


def page(item: Measurement | AudioMeasurement, view: View) -> str:
    """One file."""
    paper = Paper(view)
    paper.line(Text.assemble("evenly measure ", (clean(item.path or "array"), "bold")))
    _one(paper, item, "image" if isinstance(item, Measurement) else "audio")
    return paper.text()


# ------------------------------------------------------------------------------------------------------------ one file


def _one(paper: Paper, item: Measurement | AudioMeasurement, kind: str) -> None:
    unit = wording.UNITS[kind]
    record = item.to_dict()
    paper.line(f"{wording.NOUNS[kind]} {wording.size(record)}", indent=2)
    paper.line()
    if wording.testable(record):
        paper.line(wording.judged(item, unit) + ".", style=_STYLES[item.verdict])
    else:
        paper.line(f"The {wording.NOUNS[kind]} is too small to test any period.", style="yellow")
    for cause in item.causes:
        paper.line(f"likely cause: {clean(cause.text)}", indent=2)
    paper.title("Periods")
    paper.table(*wording.period_table(item))
    paper.line()
    paper.line(wording.LEGEND[kind], style="dim", indent=2)
    if item.found and isinstance(item, Measurement):
        paper.title("Found")
        for period in item.found:
            paper.line(f"{period} px  {wording.where(item.periods[period])}", indent=2)
    paper.notes(item.notes)


# ---------------------------------------------------------------------------------------------------------- many files


def _files(paper: Paper, ranked: Ranked, result: Measured, unit: str) -> None:
    noun = wording.NOUNS[result.kind]
    paper.line(f"{count(result.set.count, noun)} measured{wording.unmeasured(result.set)}", indent=2)
    if not ranked.added:
        return
    paper.title(f"The {MOST_FILES} that show most" if ranked.added > MOST_FILES else f"{noun.capitalize()}s")
    table = Table.grid(padding=(0, 2, 0, 0))
    for name in ("verdict", "file", "what"):
        table.add_column(name, overflow="fold", no_wrap=name == "verdict")
    for record in ranked.best():
        table.add_row(
            Text(record["verdict"], _STYLES[record["verdict"]]),
            Text(f"{clean(record['path'] or 'array')}  {wording.size(record)}"),
            Text(clean(wording.file_words(record, unit))),
        )
    paper.add(table, indent=2)


def _set(paper: Paper, found: SetMeasurement, kind: str) -> None:
    paper.title("All together")
    if not found.count:
        paper.line("nothing could be measured", indent=2)
        return
    paper.line(wording.judged(found, wording.UNITS[kind]) + ".", style=_STYLES[found.verdict], indent=2)
    _tally(paper, found)
    if found.periods:
        paper.line()
        paper.table(wording.PICTURE_HEAD, wording.picture_rows(found.periods))
        paper.line()
        paper.line(wording.LEGEND[kind], style="dim", indent=2)


def _tally(paper: Paper, found: SetMeasurement) -> None:
    paper.line(f"verdicts of single files: {wording.verdicts(found)}", indent=2)
    if found.causes:
        paper.line(f"files by likely cause: {clean(wording.causes(found))}", indent=2)


def _against(paper: Paper, found: SetMeasurement, name: str, unit: str) -> None:
    paper.title(f"Against {clean(name)}")
    paper.line(f"{count(found.count, 'picture')} measured{wording.unmeasured(found)}", indent=2)
    if found.count:
        paper.line(wording.judged(found, unit) + ".", indent=2)
        _tally(paper, found)


def _comparison(paper: Paper, comparison: Comparison, first: str, second: str, unit: str) -> None:
    paper.title("Difference")
    sentence = wording.compared(comparison, clean(first), clean(second), unit) + "."
    paper.line(sentence, style=_STYLES[comparison.verdict], indent=2)
    for period in comparison.found:
        paper.line(f"{period} {unit}: {wording.difference(comparison.periods[period])}", indent=2)
    paper.line()
    paper.table(wording.COMPARED_HEAD, wording.compared_rows(comparison, unit))
    paper.line()
    paper.line(wording.DIFFERENCE, style="dim", indent=2)
