"""What measuring a sound returns: frozen data that every reporter reads; see ``docs/json.md``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evenly.measure.result import Cause, Verdict, p_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AUDIO_FORMAT_VERSION", "STRIDES", "AudioMeasurement", "SoundPeriod", "Tone"]

AUDIO_FORMAT_VERSION = 1  # 1: first published form
STRIDES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 32, 40, 64, 80, 128, 160, 240, 256, 320, 480, 512)
"""Periods in samples that are measured unless others are asked for.

Every product of the last strides of the decoders of WaveGAN (4 x 4 x ...), HiFi-GAN and MelGAN (8 x 8 x 2 x 2), BigVGAN
(4 x 4 x 2 x 2 x 2 x 2), EnCodec (8 x 5 x 4 x 2), SoundStream (8 x 5 x 4 x 2, 5 x 4 x 4 x 2) and DAC (8 x 8 x 4 x 2),
and the usual hops of 5, 10 and 20 ms at 16 and 24 kHz. All divide 7680, so that one Fourier transform meets every line.
"""


@dataclass(frozen=True)
class Tone:
    """One tone at a multiple of rate/period.

    Attributes:
        frequency_hz: In Hz.
        db: Its power over the local floor, the median of neighbouring frequencies on both sides, in dB.
        level_dbfs: Its amplitude in dB of full scale (a sine that reaches 1 has 0 dB), estimated where the background
            is lowest.
        log10_p: log10 of the p-value.
        channel: In which channel it is strongest, from 0.
    """

    frequency_hz: float
    db: float | None
    level_dbfs: float | None
    log10_p: float
    channel: int = 0

    @property
    def p(self) -> float:
        """The p-value, at least the smallest positive normal float."""
        return p_value(self.log10_p)

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {
            "frequency_hz": self.frequency_hz,
            "db": _number(self.db),
            "level_dbfs": _number(self.level_dbfs),
            "p": self.p,
            "log10_p": self.log10_p,
            "channel": self.channel,
        }


@dataclass(frozen=True)
class SoundPeriod:
    """Everything at one period: tones at, and replicas by, ``k * rate / period`` with ``gcd(k, period) = 1``.

    Attributes:
        period: In samples.
        tone_log10_p: log10 of the p-value of all its tones in all channels together.
        strongest: The tone with the most evidence.
        tones: The tones that count on their own (p below 0.001 after allowing for their number), strongest first, at
            most ``MOST_TONES``.
        tone_count: How many there are.
        channel_log10_p: ``tone_log10_p`` of every channel alone.
        replica_log10_p: log10 of the p-value of spectral replicas in all channels together; ``None`` where the sound is
            too short.
        replica_db: Level of the strongest image relative to the base band, in dB; ``None`` where it cannot be computed.
        energy_fraction: Power of the tones over the power of the sound (ratio), less what the background adds.
    """

    period: int
    tone_log10_p: float
    strongest: Tone
    tones: tuple[Tone, ...]
    tone_count: int
    channel_log10_p: tuple[float, ...]
    replica_log10_p: float | None
    replica_db: float | None
    energy_fraction: float

    @property
    def tone_p(self) -> float:
        """p-value of the tones, at least the smallest positive normal float."""
        return p_value(self.tone_log10_p)

    @property
    def replica_p(self) -> float | None:
        """p-value of the replicas, at least the smallest positive normal float."""
        return None if self.replica_log10_p is None else p_value(self.replica_log10_p)

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {
            "tone_db": _number(self.strongest.db),
            "tone_p": self.tone_p,
            "tone_log10_p": self.tone_log10_p,
            "level_dbfs": _number(self.strongest.level_dbfs),
            "frequency_hz": self.strongest.frequency_hz,
            "tones": [tone.to_dict() for tone in self.tones],
            "tone_count": self.tone_count,
            "channel_log10_p": list(self.channel_log10_p),
            "replica_db": _number(self.replica_db),
            "replica_p": self.replica_p,
            "replica_log10_p": self.replica_log10_p,
            "energy_fraction": _number(self.energy_fraction),
        }


@dataclass(frozen=True)
class AudioMeasurement:
    """What was measured in one sound.

    Attributes:
        path: Where it came from; ``None`` for arrays.
        rate_hz: Sampling rate in Hz.
        seconds: Duration in seconds.
        channels: How many.
        verdict: ``none``, ``weak`` or ``strong`` traces of up-sampling.
        found: Periods that the verdict is about, in samples.
        causes: Likely causes of all that was found, up-sampling and others.
        periods: By period in samples; ``None`` where the sound is too short to test it.
        notes: Remarks for people.
    """

    path: str | None
    rate_hz: float
    seconds: float
    channels: int
    verdict: Verdict
    found: tuple[int, ...]
    causes: tuple[Cause, ...]
    periods: Mapping[int, SoundPeriod | None]
    notes: tuple[str, ...] = ()

    @property
    def cause(self) -> str | None:
        """The likely causes in words; ``None`` if nothing was found."""
        return "; ".join(c.text for c in self.causes) or None

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {
            "format_version": AUDIO_FORMAT_VERSION,
            "path": self.path,
            "rate_hz": self.rate_hz,
            "seconds": self.seconds,
            "channels": self.channels,
            "verdict": self.verdict,
            "cause": self.cause,
            "causes": [{"kind": c.kind, "periods": list(c.periods), "text": c.text} for c in self.causes],
            "found": list(self.found),
            "periods": {str(p): None if r is None else r.to_dict() for p, r in self.periods.items()},
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def plot(self, samples: Any = None) -> Figure:
        """The spectrum with the tones marked, as a matplotlib figure.

        Args:
            samples: The sound itself, where it was measured as an array; a file is read again.

        Raises:
            UsageError: If there is neither an array nor a file.
            MissingDependencyError: If matplotlib is not installed.
        """
        from evenly.measure.plot_sound import plot_sound

        return plot_sound(self, samples)

    def __str__(self) -> str:
        """The measurement as ``evenly measure`` prints it."""
        from evenly.report import View
        from evenly.report.measured_console import page

        return page(self, View())

    def _repr_html_(self) -> str:
        """The measurement in a notebook: the spectrum, where the file is there, and every period."""
        from evenly.report.measured_notebook import to_html

        return to_html(self)


def _number(value: float | None) -> float | None:
    """JSON has no infinities: those become ``None``."""
    return None if value is None or not math.isfinite(value) else float(value)
