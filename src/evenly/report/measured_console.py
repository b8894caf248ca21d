"""What was measured, for people at a terminal: the verdict first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from evenly.measure.result import VERDICTS, Measurement
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
from evenly.report.paper import Paper
from evenly.report.ranked import MOST_FILES, Ranked
from evenly.report.words import clean, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from evenly.measure.result import Comparison, SetMeasurement
    from evenly.measure.sound_result import AudioMeasurement
    from evenly.report import Measured, View

__all__ = ["Writer", "page"]

_STYLES = {"strong": "bold red", "weak": "yellow", "none": "bold green"}


class Writer:
    """See :class:`evenly.report.MeasuredReporter`: keeps the files that show most."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._ranked = Ranked()

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file; those that failed are counted with the set."""
        if "error" not in record:
            self._ranked.add(record)

    def parts(self, result: Measured) -> Iterator[str]:
        """All of the text."""
        paper = Paper(self._view)
        unit = UNITS[result.kind]
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

    def close(self) -> None:
        """Nothing is held on disk."""


def page(item: Measurement | AudioMeasurement, view: View) -> str:
    """One file."""
    paper = Paper(view)
    paper.line(Text.assemble("evenly measure ", (clean(item.path or "array"), "bold")))
    _one(paper, item, "image" if isinstance(item, Measurement) else "audio")
    return paper.text()


# ------------------------------------------------------------------------------------------------------------ one file


def _one(paper: Paper, item: Measurement | AudioMeasurement, kind: str) -> None:
    unit = UNITS[kind]
    record = item.to_dict()
    paper.line(f"{NOUNS[kind]} {size(record)}", indent=2)
    paper.line()
    if testable(record):
        paper.line(judged(item, unit) + ".", style=_STYLES[item.verdict])
    else:
        paper.line(f"The {NOUNS[kind]} is too small to test any period.", style="yellow")
    for cause in item.causes:
        paper.line(f"likely cause: {clean(cause.text)}", indent=2)
    paper.title("Periods")
    if isinstance(item, Measurement):
        paper.add(_table(PICTURE_HEAD, picture_rows(item.periods)), indent=2)
    else:
        paper.add(_table(SOUND_HEAD, sound_rows(item.periods)), indent=2)
    paper.line()
    paper.line(LEGEND[kind], style="dim", indent=2)
    if item.found and isinstance(item, Measurement):
        paper.title("Found")
        for period in item.found:
            paper.line(f"{period} px  {where(item.periods[period])}", indent=2)
    if item.notes:
        paper.title("Notes")
        for note in item.notes:
            paper.line(clean(note), indent=2)


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


# ---------------------------------------------------------------------------------------------------------- many files


def _files(paper: Paper, ranked: Ranked, result: Measured, unit: str) -> None:
    noun = NOUNS[result.kind]
    line = f"{count(result.set.count, noun)} measured"
    if result.set.failed_count:
        line += f", {result.set.failed_count} could not be"
    paper.line(line, indent=2)
    if not ranked.added:
        return
    paper.title(f"The {MOST_FILES} that show most" if ranked.added > MOST_FILES else f"{noun.capitalize()}s")
    table = Table.grid(padding=(0, 2, 0, 0))
    for name in ("verdict", "file", "what"):
        table.add_column(name, overflow="fold", no_wrap=name == "verdict")
    for record in ranked.best():
        table.add_row(
            Text(record["verdict"], _STYLES[record["verdict"]]),
            Text(f"{clean(record['path'] or 'array')}  {size(record)}"),
            Text(clean(file_words(record, unit))),
        )
    paper.add(table, indent=2)


def _set(paper: Paper, found: SetMeasurement, kind: str) -> None:
    paper.title("All together")
    if not found.count:
        paper.line("nothing could be measured", indent=2)
        return
    paper.line(judged(found, UNITS[kind]) + ".", style=_STYLES[found.verdict], indent=2)
    _tally(paper, found)
    if found.periods:
        paper.line()
        paper.add(_table(PICTURE_HEAD, picture_rows(found.periods)), indent=2)
        paper.line()
        paper.line(LEGEND[kind], style="dim", indent=2)


def _tally(paper: Paper, found: SetMeasurement) -> None:
    verdicts = ", ".join(f"{found.verdicts.get(v, 0)} {v}" for v in reversed(VERDICTS))
    paper.line(f"verdicts of single files: {verdicts}", indent=2)
    if found.causes:
        causes = ", ".join(f"{clean(kind)} {number}" for kind, number in sorted(found.causes.items()))
        paper.line(f"files by likely cause: {causes}", indent=2)


def _against(paper: Paper, found: SetMeasurement, name: str, unit: str) -> None:
    paper.title(f"Against {clean(name)}")
    failed = f", {found.failed_count} could not be" if found.failed_count else ""
    paper.line(f"{count(found.count, 'picture')} measured{failed}", indent=2)
    if found.count:
        paper.line(judged(found, unit) + ".", indent=2)
        _tally(paper, found)


def _comparison(paper: Paper, comparison: Comparison, first: str, second: str, unit: str) -> None:
    paper.title("Difference")
    sentence = compared(comparison, clean(first), clean(second), unit) + "."
    paper.line(sentence, style=_STYLES[comparison.verdict], indent=2)
    for period in comparison.found:
        paper.line(f"{period} {unit}: {difference(comparison.periods[period])}", indent=2)
    paper.line()
    paper.add(_table(COMPARED_HEAD, compared_rows(comparison, unit)), indent=2)
    paper.line()
    paper.line(DIFFERENCE, style="dim", indent=2)
