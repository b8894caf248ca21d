"""Measurements of known content for the reporters: made by hand, some of them hostile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evenly.measure.result import (
    TRACES,
    Cause,
    ComparedTrace,
    Comparison,
    Failure,
    Lines,
    Measurement,
    PeriodResult,
    SetMeasurement,
    Trace,
)
from evenly.measure.sound_result import AudioMeasurement, SoundPeriod, Tone

CAUSE = Cause("up-sampling", (2,), "up-sampling by 2")


def lines() -> Lines:
    index = np.array([[0, 1], [1, 0], [1, 1]])
    amplitude, phase = np.array([1.5, 0.1, 0.2]), np.array([0.0, np.pi, 0.0])
    return Lines(index, np.array([-134.0, -0.1, -0.2]), np.array([24.0, -0.5, 0.7], complex), amplitude, phase)


def period(number: int, log10_p: float = -0.3, db: float = 0.4, *, colours: bool = True) -> PeriodResult:
    loud = Trace(log10_p, db, log10_p - 1, -0.36, -0.64, lines() if number == 2 else None)
    quiet = Trace(-0.12, -1.04, -0.1, -0.2, -0.3)
    return PeriodResult(number, loud, quiet, quiet, quiet if colours else None, 0.031 if log10_p < -4 else 0.0)


def strong(path: str | None = "made/00.png") -> Measurement:
    periods = {2: period(2, -134, 41.2), 3: period(3), 16: PeriodResult(16)}
    return Measurement(path, 256, 128, "strong", (2,), (CAUSE,), periods, ("alpha was left out",))


def clean(path: str | None = "real/00.png") -> Measurement:
    return Measurement(path, 64, 64, "none", (), (), {2: period(2), 3: period(3, colours=False), 16: PeriodResult(16)})


def tiny() -> Measurement:
    return Measurement("tiny.png", 5, 4, "none", (), (), {2: PeriodResult(2), 16: PeriodResult(16)})


def hostile() -> Measurement:
    return replace(
        strong('a\x1b[31m,"b"\n</div><script>.png'),
        causes=(Cause("texture", (3,), "\x1b]0;<b>\n"),),
        notes=("\x07<i>",),
    )


def together(*, failed: int = 0, against: bool = False) -> SetMeasurement:
    periods = {
        p: replace(period(p, -0.3 if against else -40), mean=Trace(-0.3 if against else -40, 12.0)) for p in (2, 3)
    }
    return SetMeasurement(
        12,
        tuple(Failure(f"broken/{n}.png", "not a picture") for n in range(failed)),
        failed,
        periods,
        "none" if against else "strong",
        () if against else (2,),
        {} if against else {"up-sampling": 11},
        {"none": 12} if against else {"none": 1, "weak": 2, "strong": 9},
        "unknown",
    )


def comparison() -> Comparison:
    trace = ComparedTrace(-9.0, 0.97, 21.5)
    periods = {p: dict.fromkeys(TRACES, trace) | {"chroma": None} for p in (2, 3)}
    return Comparison(12, 12, periods, "strong", (2,))


def sound(path: str | None = "speech.wav") -> AudioMeasurement:
    tone = Tone(2756.25, 31.0, -54.0, -40.0)
    loud = SoundPeriod(8, -39.0, tone, (tone,), 1, (-39.0,), -0.2, -60.0, 0.002)
    return AudioMeasurement(
        path, 22050.0, 1.5, 1, "strong", (8,), (Cause("up-sampling", (8,), "stride 8"),), {8: loud, 512: None}
    )
