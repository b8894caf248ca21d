"""Words and figures that the reporters of measurements share; every figure has its unit."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from evenly.measure.result import TRACES, VERDICTS, Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from evenly.measure.result import ComparedTrace, Comparison, PeriodResult, SetMeasurement, Trace
    from evenly.measure.sound_result import AudioMeasurement, SoundPeriod

__all__ = [
    "COMPARED_HEAD",
    "DIFFERENCE",
    "LEGEND",
    "NOUNS",
    "PICTURE_HEAD",
    "SOUND_HEAD",
    "UNITS",
    "causes",
    "compared",
    "compared_rows",
    "decibels",
    "difference",
    "evidence",
    "file_words",
    "judged",
    "percent",
    "period_table",
    "periods",
    "picture_rows",
    "probability",
    "size",
    "sound_rows",
    "strongest",
    "testable",
    "unmeasured",
    "verdicts",
    "where",
]

UNITS = {"image": "px", "audio": "samples"}
"""Unit of a period, by kind."""

NOUNS = {"image": "picture", "audio": "recording"}
"""What is measured, by kind."""
LEGEND = {
    "image": "dB: power of the period's lines over the background next to them; p: probability of so much in a picture "
    "without the period; energy: the pattern's share of all fine detail; -: not testable at this size or without "
    "colours",
    "audio": "tones: the strongest, over the floor next to it; p: probability of so much in a recording without the "
    "period; level: amplitude against full scale; replicas: level of the strongest spectral image; energy: the tones' "
    "share of all power; -: too short to test",
}
DIFFERENCE = (
    "%: how often a picture of the first set shows more of it than one of the second (50 %: alike); p: probability of "
    "so large a difference, either way, between sets that are alike"
)
PICTURE_HEAD = ("period", *TRACES, "energy")
SOUND_HEAD = ("period", "tones", "strongest at", "level", "tones found", "replicas", "energy")
COMPARED_HEAD = ("period", *TRACES)

_SIDES = {
    "log10_p_x": "vertical stripes",
    "log10_p_y": "horizontal stripes",
    "log10_p_diagonal": "diagonal",
}


def probability(log10_p: float | None) -> str:
    """``p 0.034``, ``p 2e-134``."""
    if log10_p is None or math.isnan(log10_p):
        return "-"
    if log10_p > -3:
        return f"p {10**log10_p:.2g}"
    if math.isinf(log10_p):
        return "p 0"
    mantissa, exponent = round(10 ** (log10_p - math.floor(log10_p))), math.floor(log10_p)
    return f"p {mantissa}e{exponent}" if mantissa < 10 else f"p 1e{exponent + 1}"


def decibels(db: float | None) -> str:
    """``12.3 dB``."""
    return "-" if db is None or math.isnan(db) else f"{round(db, 1) + 0.0:.1f} dB"


def percent(fraction: float | None) -> str:
    """``3.1 %``; ``0 %`` only for an exact zero."""
    if fraction is None:
        return "-"
    return f"{100 * fraction:.2g} %" if fraction == 0 or fraction >= 1e-4 else "<0.01 %"


def evidence(db: float | None, log10_p: float | None) -> str:
    """`` 12.3 dB  p 2e-30 ``, as wide for every trace; a dash where it is not testable."""
    return f"{'-':>7}" if log10_p is None else f"{decibels(db):>7}  {probability(log10_p):<8}"


def periods(numbers: Iterable[int], unit: str) -> str:
    """``period 2 px``, ``periods 2, 4 and 8 px``."""
    words = [str(n) for n in numbers]
    if len(words) == 1:
        return f"period {words[0]} {unit}"
    return f"periods {', '.join(words[:-1])} and {words[-1]} {unit}"


def size(record: Mapping[str, Any]) -> str:
    """``512x384 px``; ``3.2 s at 22050 Hz, 2 channels``."""
    if "width" in record:
        return f"{record['width']}x{record['height']} px"
    channels = "mono" if record["channels"] == 1 else f"{record['channels']} channels"
    return f"{record['seconds']:.3g} s at {record['rate_hz']:g} Hz, {channels}"


def testable(record: Mapping[str, Any]) -> bool:
    """Whether anything could be tested at all."""
    return any(value is not None for result in record["periods"].values() for value in (result or {}).values())


def judged(item: Measurement | AudioMeasurement | SetMeasurement, unit: str) -> str:
    """The verdict as a sentence without its end."""
    if item.verdict == "none":
        return "No traces of up-sampling found"
    return f"{item.verdict.capitalize()} traces of up-sampling" + (
        f": {periods(item.found, unit)}" if item.found else ""
    )


def verdicts(found: SetMeasurement) -> str:
    """``3 strong, 0 weak, 9 none``: how many single files have which verdict."""
    return ", ".join(f"{found.verdicts.get(v, 0)} {v}" for v in reversed(VERDICTS))


def causes(found: SetMeasurement) -> str:
    """How many files have which likely cause, each cause with its number; empty where none has any."""
    return ", ".join(f"{cause} {number}" for cause, number in sorted(found.causes.items()))


def unmeasured(found: SetMeasurement) -> str:
    """``, 2 could not be``, to follow how many were measured; empty where all were."""
    return f", {found.failed_count} could not be" if found.failed_count else ""


def compared(comparison: Comparison, first: str, second: str, unit: str) -> str:
    """The verdict of a comparison as a sentence without its end."""
    if comparison.verdict == "none":
        return f"No evidence that {first} shows more up-sampling than {second}"
    return (
        f"{first} shows more up-sampling than {second}, {comparison.verdict} evidence: "
        f"{periods(comparison.found, unit)}"
    )


def difference(traces: Mapping[str, ComparedTrace | None]) -> str:
    """``mean +4.1 dB, variance +0.3 dB``: how far the sets' mean powers are apart."""
    words = [f"{name} {t.db:+.1f} dB" for name, t in traces.items() if t is not None and t.db is not None]
    return ", ".join(words) or "no figures"


def strongest(result: PeriodResult) -> tuple[str, Trace] | None:
    """The trace with the most evidence, and its name."""
    there = [(name, trace) for name, trace in result.traces().items() if trace is not None]
    return min(there, key=lambda pair: pair[1].log10_p, default=None)


def where(result: PeriodResult) -> str:
    """Directions, and the strongest line of a period: its frequency, amplitude and phase."""
    most = strongest(result)
    if most is None:
        return "not testable"
    name, trace = most
    sides = [
        f"{words} {probability(value)}" for key, words in _SIDES.items() if (value := getattr(trace, key)) is not None
    ]
    text = f"{name} trace: {', '.join(sides)}"
    if trace.lines is not None and len(trace.lines.index):
        line = int(trace.lines.log10_p.argmin())
        down, along = (int(k) for k in trace.lines.index[line])
        unit = "grey levels" if name in ("mean", "chroma") else "(natural log of the strength)"
        text += (
            f". Strongest line: {_cycles(along, result.period)} across, {_cycles(down, result.period)} down, "
            f"amplitude {trace.lines.amplitude[line]:.2g} {unit}, "
            f"phase {math.degrees(trace.lines.phase[line]):.0f} degrees at the first pixel."
        )
    return text


def _cycles(number: int, period: int) -> str:
    """Of a line with ``number`` cycles per period."""
    frequency = Fraction(number, period)
    return f"{frequency if frequency <= Fraction(1, 2) else frequency - 1} cycles/px"


# ---- tables ----------------------------------------------------------------------------------------------------------


def picture_rows(results: Mapping[int, PeriodResult]) -> list[tuple[str, ...]]:
    """A row per period, below :data:`PICTURE_HEAD`."""
    return [
        (
            f"{period} px",
            *(evidence(None, None) if t is None else evidence(t.db, t.log10_p) for t in result.traces().values()),
            percent(result.energy_fraction),
        )
        for period, result in results.items()
    ]


def sound_rows(results: Mapping[int, SoundPeriod | None]) -> list[tuple[str, ...]]:
    """A row per period, below :data:`SOUND_HEAD`."""
    rows: list[tuple[str, ...]] = []
    for period, r in results.items():
        if r is None:
            rows.append((f"{period} samples", *["-"] * (len(SOUND_HEAD) - 1)))
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
    return rows


def period_table(item: Measurement | AudioMeasurement) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Names of columns, and a row per period, of one file."""
    if isinstance(item, Measurement):
        return PICTURE_HEAD, picture_rows(item.periods)
    return SOUND_HEAD, sound_rows(item.periods)


def compared_rows(comparison: Comparison, unit: str) -> list[tuple[str, ...]]:
    """A row per period, below :data:`COMPARED_HEAD`."""
    return [
        (
            f"{period} {unit}",
            *(
                f"{'-':>5}" if t is None else f"{100 * t.superiority:3.0f} %  {probability(t.log10_p)}"
                for t in (traces.get(name) for name in TRACES)
            ),
        )
        for period, traces in comparison.periods.items()
    ]


def file_words(record: Mapping[str, Any], unit: str) -> str:
    """What a file shows, from its JSON form."""
    words = [periods(record["found"], unit)] if record["found"] else []
    words += [record["cause"]] if record["cause"] else []
    return "; ".join(words) if testable(record) else "too small to test any period"
