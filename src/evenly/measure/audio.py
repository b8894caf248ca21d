"""Measure a sound: tones and spectral replicas that strided up-sampling leaves in vocoders and other 1-D generators.

Two traces are kept apart, since each is blind to what another sees: *tones* at multiples of rate/period, which are
there in silence too, and *replicas*, copies of the base band's movements at higher frequencies (Pons et al. 2021 call
them tonal and filtering artifacts).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from math import log
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from evenly.errors import MissingDependencyError, SignalError, UsageError
from evenly.measure.pooling import together
from evenly.measure.sound_causes import judge
from evenly.measure.sound_files import Sound, array_sound, open_sound
from evenly.measure.sound_pieces import families
from evenly.measure.sound_replicas import PeriodReplicas, ReplicaState, replica_frame
from evenly.measure.sound_result import STRIDES, AudioMeasurement, SoundPeriod, Tone
from evenly.measure.sound_tones import PeriodTones, ToneState, tone_length

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MOST_TONES", "measure_audio"]

MOST_TONES = 16
"""Tones of a period that are listed."""
_LONGEST_PERIOD = 1 << 16
_LARGEST_BASE = 7680  # common multiple of periods that are measured together: a quarter of the longest piece
_COUNTS = log(1e-3)  # of a tone on its own, after allowing for the number of lines
_LEAST = 24  # samples


def measure_audio(
    samples_or_path: ArrayLike | str | os.PathLike[str] | bytes | BinaryIO,
    rate: float | None = None,
    strides: Sequence[int] = STRIDES,
    *,
    path: str | None = None,
) -> AudioMeasurement:
    """Measure one sound.

    Files are read a block at a time: memory does not grow with their length. Channels are measured one by one; their
    p-values are combined so that equal channels count once.

    Args:
        samples_or_path: A file (path, content, or open binary file: WAV, FLAC and whatever libsndfile reads), or an
            array of shape (samples,) or (channels, samples): floats with full scale 1, or integers with that of their
            type.
        rate: Samples per second, of an array; a file has its own.
        strides: Periods in samples to test, 2 or more each: products of the last strides of a generator.
        path: What to call it in the result.

    Raises:
        SignalError: The file cannot be read (`UnreadableError`), its samples are not finite, or it
            holds too few of them or nothing but silence.
        UsageError: The same of an array, or another argument is wrong.
        MissingDependencyError: An extra is needed and not installed.
    """
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "measuring sounds needs scipy, which is not installed: pip install 'evenly[audio]'"
        ) from error
    periods = _checked(strides)
    with ExitStack() as stack:
        if isinstance(samples_or_path, str | os.PathLike | bytes | bytearray) or hasattr(samples_or_path, "read"):
            if rate is not None:
                raise UsageError(f"rate (={rate}) is that of an array; a file has its own: leave it out")
            sound = open_sound(samples_or_path, stack, name=path)  # type: ignore[arg-type]
        else:
            sound = array_sound(samples_or_path, rate)
        return _measure(sound, periods, path or sound.name)


def _checked(strides: Sequence[int]) -> tuple[int, ...]:
    found = tuple(sorted(set(strides)))
    if not found or any(not isinstance(p, int | np.integer) or not 2 <= p <= _LONGEST_PERIOD for p in found):
        raise UsageError(f"strides (={list(strides)}) must be whole numbers of samples from 2 to {_LONGEST_PERIOD}")
    return tuple(int(p) for p in found)


class _Levels:
    """What is summed sample by sample: power, and whether there is anything to measure."""

    def __init__(self, sound: Sound) -> None:
        self._label = sound.name or "the sound"
        self._error = UsageError if sound.given else SignalError
        self.samples, self.sum, self.power = 0, np.zeros(sound.channels), np.zeros(sound.channels)
        self._first: NDArray[np.float64] | None = None
        self.changes = np.zeros(sound.channels, bool)

    def push(self, block: NDArray[np.float64]) -> None:
        finite = np.isfinite(block)
        if not finite.all():
            channel, at = (int(i[0]) for i in np.nonzero(~finite))
            raise self._error(
                f"{self._label}: sample {self.samples + at} of channel {channel} is {block[channel, at]}, expected "
                "finite numbers: repair the sound or cut that part out"
            )
        if self._first is None:
            self._first = block[:, :1].copy()
        self.changes |= (block != self._first).any(1)
        self.samples += block.shape[1]
        self.sum += block.sum(1)
        self.power += (block**2).sum(1)

    def finish(self) -> None:
        if self.samples < _LEAST:
            raise self._error(f"{self._label} has {self.samples} samples, expected at least {_LEAST}")
        if not self.changes.any():
            assert self._first is not None
            raise self._error(
                f"{self._label} is constant: all {self.samples} samples are equal (in the first channel "
                f"{self._first[0, 0]:g}); there is nothing to measure"
            )


def _measure(sound: Sound, periods: tuple[int, ...], path: str | None) -> AudioMeasurement:
    tones: list[ToneState] = []
    replicas: list[ReplicaState] = []
    for base, members in families(periods, max(2, min(_LARGEST_BASE, sound.samples // 96))):
        fitting = tuple(p for p in members if tone_length(sound.samples, (p,), base))
        middle = tone_length(sound.samples, fitting, base) if fitting else None
        if middle:
            tones.append(ToneState(base, fitting, middle, sound.channels))
    for base, members in families(periods, max(2, min(_LARGEST_BASE, sound.samples // 8))):
        fitting = tuple(p for p in members if replica_frame(sound.samples, (p,), base))
        frame = replica_frame(sound.samples, fitting, base) if fitting else None
        if frame:
            replicas.append(ReplicaState(fitting, frame, sound.channels))
    states: list[ToneState | ReplicaState] = [*tones, *replicas]
    levels = _Levels(sound)
    for block in sound.blocks:
        levels.push(block)
        for state in states:
            state.push(block)
    levels.finish()
    for state in states:
        state.finish()
    by_tone = {p: found for state in tones for p, found in state.results().items()}
    by_replica = {p: found for state in replicas for p, found in state.results().items()}
    power = float(levels.power.sum()) / levels.samples
    log_p = [r.log_p for channels in by_replica.values() for r in channels if r is not None]
    # Where there are replicas, lines a multiple of 1/p apart are images of each other: evidence that is not
    # independent.
    dependent = bool(log_p) and min(log_p) < _COUNTS - log(len(log_p))
    results = {
        p: _period(p, sound.rate, by_tone.get(p, []), by_replica.get(p, []), power, dependent=dependent)
        for p in periods
    }
    spectra = [state.spectrum(c) for state in replicas[:1] for c in range(sound.channels)]
    mean_fraction = float(((levels.sum / levels.samples) ** 2).sum()) / power if power > 0 else 0.0
    verdict, about, causes = judge(
        results, sound.rate, sum(spectra[1:], spectra[0]) if spectra else None, mean_fraction
    )
    seconds = levels.samples / sound.rate
    return AudioMeasurement(path, sound.rate, seconds, sound.channels, verdict, about, causes, results, sound.notes)


def _period(
    period: int,
    rate: float,
    tones: Sequence[PeriodTones | None],
    replicas: Sequence[PeriodReplicas | None],
    power: float,
    *,
    dependent: bool,
) -> SoundPeriod | None:
    """All channels of a period together."""
    heard = [(c, t) for c, t in enumerate(tones) if t is not None]
    if not heard:
        return None
    channels = np.array([c for c, _ in heard])
    evidence = np.stack([t.line_log_p for _, t in heard])  # (channels, lines)
    joint = np.array([together(list(column)) for column in evidence.T])
    index = heard[0][1].index
    measured = [r for r in replicas if r is not None]
    replica = together([r.log_p for r in measured]) if measured else None
    order = np.argsort(joint, kind="stable")
    best = evidence.argmin(0)

    def tone(line: int) -> Tone:
        own = heard[best[line]][1]
        with np.errstate(divide="ignore"):
            level = float(20 * np.log10(own.amplitude[line]))
        frequency = float(index[line]) * rate / period
        return Tone(
            frequency, _finite(own.db[line]), _finite(level), float(joint[line]) / log(10), int(channels[best[line]])
        )

    counting = [int(i) for i in order if joint[i] < _COUNTS - log(index.size)]
    alone = [0.0 if t is None else t.log_p_any if dependent else t.log_p for t in tones]
    return SoundPeriod(
        period,
        together([alone[c] for c in channels]) / log(10),
        tone(int(order[0])),
        tuple(tone(i) for i in counting[:MOST_TONES]),
        len(counting),
        tuple(x / log(10) for x in alone),
        None if replica is None else replica / log(10),
        _finite(max(r.db for r in measured)) if measured else None,
        min(1.0, sum(t.energy for _, t in heard) / power) if power > 0 else 0.0,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
