"""What a page, or a notebook, shows of one recording that was measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evenly.errors import EvenlyError
from evenly.report.measured_words import LEGEND, SOUND_HEAD, decibels, percent, probability
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import Section, badge, listing, table
from evenly.report.page.plots import Mark, curve

if TYPE_CHECKING:
    from evenly.measure.sound_result import AudioMeasurement

__all__ = ["sound_facts", "sound_sections", "sound_spectrum"]

_MOST_RANKS = 4


def sound_sections(measurement: AudioMeasurement) -> list[Section]:
    """Everything that is known of a recording, its spectrum first."""
    drawing = sound_spectrum(measurement)
    about = (
        "A transposed convolution of stride P leaves tones at multiples of rate/P. Amplitude against full scale, "
        "root mean square over time, loudest channel."
    )
    return [
        Section("spectrum", "Spectrum", [drawing] if drawing else [], about),
        Section("periods", "Every period", [_periods(measurement), tag("p", LEGEND["audio"], ".", class_="note")]),
        Section("notes", "Notes", [listing(measurement.notes)] if measurement.notes else []),
    ]


def sound_spectrum(measurement: AudioMeasurement) -> Markup | None:
    """The spectrum with the tones marked; ``None`` where the file cannot be read again."""
    from evenly.measure.plot_sound import level_spectrum
    from evenly.measure.sound_files import open_sound

    if measurement.path is None or not Path(measurement.path).is_file():
        return None
    try:
        with ExitStack() as stack:
            level = level_spectrum(open_sound(measurement.path, stack))
    except (EvenlyError, OSError):
        return None
    frequency = np.linspace(0, measurement.rate_hz / 2000, len(level))
    marks = []
    for rank, period in enumerate(measurement.found):
        result = measurement.periods[period]
        for tone in (result.tones or (result.strongest,)) if result is not None else ():
            label = f"period {period} samples: multiples of {measurement.rate_hz / period:.5g} Hz"
            marks.append(Mark(tone.frequency_hz / 1000, None, label, min(rank, _MOST_RANKS)))
    label = "Amplitude of the recording by frequency" + (", tones of up-sampling marked" if marks else "")
    return curve(frequency, np.maximum(level, -140), label, names=("kHz", "dB of full scale"), marks=marks)


def _periods(measurement: AudioMeasurement) -> Markup | None:
    rows: list[list[Content]] = []
    for period, r in measurement.periods.items():
        mark = [" ", badge("found", "strong")] if period in measurement.found else None
        if r is None:
            rows.append([[f"{period} samples", mark], *["-"] * 6])
            continue
        level = "-" if r.strongest.level_dbfs is None else f"{r.strongest.level_dbfs:.0f} dBFS"
        rows.append(
            [
                [f"{period} samples", mark],
                [decibels(r.strongest.db), tag("small", probability(r.tone_log10_p), class_="below")],
                f"{r.strongest.frequency_hz:.5g} Hz",
                level,
                str(r.tone_count),
                [decibels(r.replica_db), tag("small", probability(r.replica_log10_p), class_="below")],
                percent(r.energy_fraction),
            ]
        )
    return table("Every period", SOUND_HEAD, rows, figures={1, 2, 3, 4, 5, 6})


def sound_facts(measurement: AudioMeasurement) -> Iterator[tuple[str, Content, Content, str]]:
    """The figures of the strongest period."""
    there = {p: r for p, r in measurement.periods.items() if r is not None}
    if not there:
        return
    period = min(measurement.found or there, key=lambda p: there[p].tone_log10_p)
    result, tone = there[period], "bad" if measurement.found else ""
    most = result.strongest
    words = f"over the floor next to it, at {most.frequency_hz:.5g} Hz"
    yield f"Strongest tone, period {period} samples", decibels(most.db), words, tone
    tested = f"of so much in a recording without it, {len(there)} periods tested"
    yield "Probability", probability(result.tone_log10_p), tested, tone
    if most.level_dbfs is not None:
        yield "Level", f"{most.level_dbfs:.0f} dBFS", "amplitude of that tone; a sine at full scale has 0", ""
    yield "Energy", percent(result.energy_fraction), "of all power is in these tones", ""
