"""What a page shows of many files that were measured: how they differ, which show most, which failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import EvenlyError
from evenly.measure.levels import grey_levels
from evenly.measure.result import TRACES
from evenly.report.measured_words import (
    DIFFERENCE,
    NOUNS,
    UNITS,
    compared,
    decibels,
    difference,
    file_words,
    judged,
    probability,
    size,
    strongest,
    unmeasured,
    verdicts,
)
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import Section, badge, fold, listing, table
from evenly.report.page.picture_parts import grey_bytes, periods_table
from evenly.report.page.pixels import cropped, uri
from evenly.report.page.plots import bar, histogram
from evenly.report.words import count

if TYPE_CHECKING:
    from evenly.measure.result import Comparison, SetMeasurement
    from evenly.report import Measured

__all__ = ["Tally", "set_facts", "set_sections"]

_LOW, _STEP, _BINS = -10.0, 2.5, 28  # dB: from -10 to 60
_THUMBNAILS, _SIDE, _FACTOR, _LARGEST = 8, 64, 3, 50_000_000


class Tally:
    """How many files have which level, by period and trace: memory that does not grow with them."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, bool], Counter[int]] = {}

    def add(self, record: Mapping[str, Any], *, against: bool = False) -> None:
        """One more file, of the set itself or of the one to compare with."""
        for period, levels in record["periods"].items():
            for name in (*TRACES, "tone"):
                db = (levels or {}).get(f"{name}_db")
                if db is not None:
                    place = int(np.clip((db - _LOW) // _STEP, 0, _BINS - 1))
                    self._counts.setdefault((period, name, against), Counter())[place] += 1

    def drawing(self, period: int, name: str) -> Markup | None:
        """The histogram of one trace; the first and last bin hold what is beyond."""
        mine, other = (self._counts.get((str(period), name, against)) for against in (False, True))
        if mine is None:
            return None
        bins = [[counts[n] for n in range(_BINS)] for counts in (mine, other) if counts is not None]
        label = f"Files by level of period {period}, {name} trace, in dB over the background"
        return histogram(bins[0], _LOW, _STEP, label, "dB", *bins[1:])


def set_facts(result: Measured) -> Iterator[tuple[str, Content, Content, str]]:
    """The figures of a set."""
    found = result.set
    noun = NOUNS[result.kind]
    of = f"of {result.target}{unmeasured(found)}"
    yield "Measured", count(found.count, noun), of, "bad" if found.failed_count else ""
    strong = found.verdicts.get("strong", 0)
    words = f"strong traces alone; {found.verdicts.get('weak', 0)} weak, {found.verdicts.get('none', 0)} none"
    yield "Single files", f"{strong} of {found.count}", words, "bad" if strong else ""
    there = {p: most for p, r in found.periods.items() if (most := strongest(r)) is not None}
    if there:
        period = min(found.found or there, key=lambda p: there[p][1].log10_p)
        name, trace = there[period]
        tone = "bad" if found.found else ""
        yield (
            f"Strongest, period {period} px",
            decibels(trace.db),
            f"mean power over the background, {name} trace",
            tone,
        )
        yield "Probability", probability(trace.log10_p), "of so much in a set without it", tone


def set_sections(result: Measured, ranked: Sequence[Mapping[str, Any]], tally: Tally) -> list[Section]:
    """Everything that is known of a set."""
    found, unit = result.set, UNITS[result.kind]
    return [
        _distribution(result, tally),
        *([_comparison(result, result.comparison)] if result.comparison is not None else []),
        _worst(result, ranked, unit),
        Section(
            "periods",
            "All together",
            periods_table(found.periods, found.found) if found.periods else [],
            "The p-values of all files together; mean powers.",
        ),
        *_failures(result),
    ]


def _distribution(result: Measured, tally: Tally) -> Section:
    """The trace that says most, period by period."""
    cards: list[Markup] = []
    chosen = {p: most[0] for p, r in result.set.periods.items() if (most := strongest(r)) is not None}
    chosen = chosen or dict.fromkeys(result.set.found, "tone")  # of sounds, those that were found
    for period, name in chosen.items():
        drawing = tally.drawing(period, name)
        if drawing is None:
            continue
        mark = [" ", badge("found", "strong")] if period in result.set.found else None
        words = f"{name} trace" if name != "tone" else "strongest tone"
        title = tag("h3", f"{period} {UNITS[result.kind]}", mark)
        cards.append(tag("div", title, tag("p", words, class_="note"), drawing))
    causes = [f"{kind}: {count(number, 'file')}" for kind, number in sorted(result.set.causes.items())]
    return Section(
        "distribution",
        "How the files differ",
        [
            tag("div", cards, class_="small-multiples"),
            [tag("h3", "Likely causes in single files"), listing(causes)] if causes else None,
        ]
        if cards or causes
        else [],
        "Number of files by level: power of the period's lines over the background, in dB. Around 0 dB is chance; "
        "files beyond the ends are in the outer bars."
        + (f" Outlined: {result.against_target}; both as shares." if result.comparison is not None else ""),
        "Distribution",
    )


# -------------------------------------------------------------------------------------------------------- single files


def _worst(result: Measured, ranked: Sequence[Mapping[str, Any]], unit: str) -> Section:
    shown: list[Markup] = []
    for record in ranked[:_THUMBNAILS] if result.kind == "image" else ():
        thumbnail = _thumbnail(record["path"])
        if thumbnail is not None:
            name = tag("figcaption", badge(record["verdict"]), " ", record["path"])
            shown.append(tag("figure", thumbnail, name))
    rows = [(r["path"] or "array", badge(r["verdict"]), size(r), file_words(r, unit)) for r in ranked]
    many = result.set.count > len(ranked)
    about = f"The middle {_SIDE}x{_SIDE} pixels of pictures that show most, every pixel enlarged {_FACTOR} times."
    return Section(
        "files",
        f"The {len(ranked)} that show most" if many else "Files",
        [
            tag("div", shown, class_="thumbnails") if shown else None,
            table("Files", ("file", "", "size", "what was found"), rows, kind="files"),
        ]
        if rows
        else [],
        about if shown else None,
        "Files",
    )


def _thumbnail(path: str | None) -> Markup | None:
    """The middle of a picture; ``None`` if it is no file of this machine, or cannot be read any more."""
    from evenly.measure.files import read_picture

    if path is None or not Path(path).is_file():
        return None
    try:
        pixels, level, _ = grey_levels(read_picture(path, max_pixels=_LARGEST).pixels)
    except (EvenlyError, OSError):
        return None
    part = grey_bytes(level(cropped(pixels, _SIDE)[0]))
    height, width = part.shape[:2]
    return tag("img", src=uri(part), alt=f"middle of {path}", width=width * _FACTOR, height=height * _FACTOR)


def _failures(result: Measured) -> Iterator[Section]:
    parts = ((result.set, result.target, "failed"), (result.against, result.against_target, "failed-against"))
    for found, target, key in parts:
        if found is None or not found.failed_count:
            continue
        rest = found.failed_count - len(found.failed)
        rows = [(failure.path, failure.reason) for failure in found.failed]
        more = tag("p", f"{rest} more are not listed.", class_="note") if rest else None
        title = f"Could not be measured: {found.failed_count} of {found.failed_count + found.count}"
        yield Section(key, title, [table(title, ("file", "why"), rows, kind="files"), more], f"In {target}.", "Failed")


# ---------------------------------------------------------------------------------------------------------- comparison


def _comparison(result: Measured, found: Comparison) -> Section:
    name = result.against_target or "the second set"
    assert result.against is not None
    rows: list[list[Content]] = []
    for period, traces in found.periods.items():
        mark = [" ", badge("found", "strong")] if period in found.found else None
        cells: list[Content] = []
        for trace in (traces.get(trace) for trace in TRACES):
            if trace is None:
                cells.append("-")
                continue
            more = tag("small", probability(trace.log10_p), class_="below")
            cells.append([f"{100 * trace.superiority:.0f} %", more, bar(trace.superiority, "other")])
        rows.append([[f"{period} px", mark], *cells])
    levels = [f"Period {p} px: {difference(found.periods[p])}" for p in found.found]
    return Section(
        "comparison",
        f"Against {name}",
        [
            tag("p", compared(found, result.target, name, "px"), "."),
            listing(levels),
            table("Comparison", ("period", *TRACES), rows, figures={1, 2, 3, 4}),
            tag("p", DIFFERENCE, ".", class_="note"),
            fold(f"{name} alone", _alone(result.against)),
        ],
        None,
        "Comparison",
    )


def _alone(found: SetMeasurement) -> list[Content]:
    return [
        tag("p", f"{count(found.count, 'picture')} measured. {judged(found, 'px')}. Single files: {verdicts(found)}."),
        periods_table(found.periods, found.found) if found.count else None,
    ]
