"""What was measured, for people at a terminal: the verdict first, then what it rests on."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from evenly.measure.result import TRACES, VERDICTS, Measurement
from evenly.report.measured_words import (
    UNITS,
    compared,
    difference,
    evidence,
    judged,
    percent,
    periods,
    probability,
    size,
    testable,
    where,
)
from evenly.report.paper import Paper
from evenly.report.words import clean, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from evenly.measure.result import Comparison, PeriodResult, SetMeasurement
    from evenly.measure.sound_result import AudioMeasurement, SoundPeriod
    from evenly.report import Measured, View

__all__ = ["MOST_FILES", "Writer", "page"]

MOST_FILES = 20
"""Of more files than these, only those that show most are listed."""

_STYLES = {"strong": "bold red", "weak": "yellow", "none": "bold green"}
_NOUNS = {"image": "picture", "audio": "recording"}
_LEGEND = {
    "image": "dB: power of the period's lines over the background next to them; p: probability of so much in a picture "
    "without the period; energy: the pattern's share of all fine detail; -: not testable at this size or without "
    "colours",
    "audio": "tones: the strongest, over the floor next to it; p: probability of so much in a recording without the "
    "period; level: amplitude against full scale; replicas: level of the strongest spectral image; energy: the tones' "
    "share of all power; -: too short to test",
}
_DIFFERENCE = (
    "%: how often a picture of the first set shows more of it than one of the second (50 %: alike); p: probability of "
    "so large a difference, either way, between sets that are alike"
)


class Writer:
    """See :class:`evenly.report.MeasuredReporter`: keeps the files that show most."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._worst: list[tuple[tuple[int, float], int, Mapping[str, Any]]] = []
        self._added = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file; those that failed are counted with the set."""
        if "error" in record:
            return
        entry = (VERDICTS.index(record["verdict"]), _evidence(record)), -self._added, record
        self._added += 1
        if len(self._worst) < MOST_FILES:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heappushpop(self._worst, entry)

    def parts(self, result: Measured) -> Iterator[str]:
        """All of the text."""
        paper = Paper(self._view)
        unit = UNITS[result.kind]
        ranked = [record for _, _, record in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]
        paper.line(Text.assemble("evenly measure ", (clean(result.target), "bold")))
        if result.only is not None:
            _one(paper, result.only, result.kind)
        else:
            _files(paper, ranked, self._added, result, unit)
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


def _evidence(record: Mapping[str, Any]) -> float:
    """How much a file shows, for ranking: ``-log10`` of its smallest p-value."""
    names = (*(f"{trace}_log10_p" for trace in TRACES), "tone_log10_p")
    there = (value for r in record["periods"].values() for n in names if (value := (r or {}).get(n)) is not None)
    return -min(there, default=0.0)


# ------------------------------------------------------------------------------------------------------------ one file


def _one(paper: Paper, item: Measurement | AudioMeasurement, kind: str) -> None:
    unit = UNITS[kind]
    record = item.to_dict()
    paper.line(f"{_NOUNS[kind]} {size(record)}", indent=2)
    paper.line()
    if testable(record):
        paper.line(judged(item, unit) + ".", style=_STYLES[item.verdict])
    else:
        paper.line(f"The {_NOUNS[kind]} is too small to test any period.", style="yellow")
    for cause in item.causes:
        paper.line(f"likely cause: {clean(cause.text)}", indent=2)
    paper.title("Periods")
    if isinstance(item, Measurement):
        paper.add(_pictures(item.periods), indent=2)
    else:
        paper.add(_sounds(item.periods, item.found), indent=2)
    paper.line()
    paper.line(_LEGEND[kind], style="dim", indent=2)
    if item.found and isinstance(item, Measurement):
        paper.title("Found")
        for period in item.found:
            paper.line(f"{period} px  {where(item.periods[period])}", indent=2)
    if item.notes:
        paper.title("Notes")
        for note in item.notes:
            paper.line(clean(note), indent=2)


def _pictures(results: Mapping[int, PeriodResult]) -> Table:
    rows = [
        (
            f"{period} px",
            *(evidence(None, None) if t is None else evidence(t.db, t.log10_p) for t in result.traces().values()),
            percent(result.energy_fraction),
        )
        for period, result in results.items()
    ]
    return _table(("period", *TRACES, "energy"), rows)


def _sounds(results: Mapping[int, SoundPeriod | None], found: Iterable[int]) -> Table:
    rows = []
    for period, r in results.items():
        if r is None:
            rows.append((f"{period} samples", *["-"] * 6))
            continue
        level = "-" if r.strongest.level_dbfs is None else f"{r.strongest.level_dbfs:.0f} dBFS"
        rows.append(
            (
                f"{period} samples",
                evidence(r.strongest.db, r.tone_log10_p),
                f"{r.strongest.frequency_hz:.5g} Hz",
                level,
                str(r.tone_count),
                evidence(r.replica_db, r.replica_log10_p),
                percent(r.energy_fraction),
            )
        )
    return _table(("period", "tones", "strongest at", "level", "tones found", "replicas", "energy"), rows)


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


# ---------------------------------------------------------------------------------------------------------- many files


def _files(paper: Paper, ranked: list[Mapping[str, Any]], added: int, result: Measured, unit: str) -> None:
    noun = _NOUNS[result.kind]
    line = f"{count(result.set.count, noun)} measured"
    if result.set.failed_count:
        line += f", {result.set.failed_count} could not be"
    paper.line(line, indent=2)
    if not ranked:
        return
    paper.title(f"The {MOST_FILES} that show most" if added > len(ranked) else f"{noun.capitalize()}s")
    table = Table.grid(padding=(0, 2, 0, 0))
    for name in ("verdict", "file", "what"):
        table.add_column(name, overflow="fold", no_wrap=name == "verdict")
    for record in ranked:
        words = [periods(record["found"], unit)] if record["found"] else []
        words += [clean(record["cause"])] if record["cause"] else []
        if not testable(record):
            words = ["too small to test any period"]
        table.add_row(
            Text(record["verdict"], _STYLES[record["verdict"]]),
            Text(f"{clean(record['path'] or 'array')}  {size(record)}"),
            Text("; ".join(words)),
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
        paper.add(_pictures(found.periods), indent=2)
        paper.line()
        paper.line(_LEGEND[kind], style="dim", indent=2)


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
    rows = [
        (
            f"{period} {unit}",
            *(
                f"{'-':>5}" if t is None else f"{100 * t.superiority:3.0f} %  {probability(t.log10_p)}"
                for t in (traces.get(name) for name in TRACES)
            ),
        )
        for period, traces in comparison.periods.items()
    ]
    paper.add(_table(("period", *TRACES), rows), indent=2)
    paper.line()
    paper.line(_DIFFERENCE, style="dim", indent=2)
