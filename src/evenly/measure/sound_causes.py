"""From the evidence of every period to a verdict on a sound and its likely causes."""

from __future__ import annotations

from itertools import pairwise
from math import log10
from typing import TYPE_CHECKING

import numpy as np

from evenly.measure.result import Cause

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from numpy.typing import NDArray

    from evenly.measure.result import Verdict
    from evenly.measure.sound_result import SoundPeriod, Tone

__all__ = ["judge"]

_WEAK, _WEAK_IMAGE, _STRONG = -3.0, -5.0, -8.0  # log10 p after allowing for the number of periods
_AUDIBLE, _LOUD = -40.0, -20.0  # dB of an image relative to its base band: a good resampler's lie below
_SHARE = 0.02  # of the strongest replicas' log p: less beside it is their by-product
_NOTHING = 1e-10  # of the sound's power: tones below are the rounding and the filters of who made it
_IMAGE_OF_MEAN = 4e-7  # of the square of its mean: a good resampler leaves -66 dB (scipy's resample_poly by two)
_HUM = (50.0, 60.0)  # Hz
_HUM_END = 1500.0  # Hz: mains hum has no strong partials above
_PARTIAL_DB = 10.0  # of a partial over its neighbourhood
_SKIRT_DB, _STRONGER_DB = 3.0, 15.0
_LEAK_DB = 50.0  # by which the tapers' side lobes lie below a tone, and all but the last one's by more
_LOBE = 4  # steps of the spectrum from a line within which it is the line that stands out
_PARTIALS = range(2, 17)


def judge(
    periods: Mapping[int, SoundPeriod | None],
    rate: float,
    spectrum: NDArray[np.float64] | None,
    mean_fraction: float,
) -> tuple[Verdict, tuple[int, ...], tuple[Cause, ...]]:
    """The verdict, the periods that it is about, and the causes.

    Args:
        periods: By period in samples.
        rate: Samples per second.
        spectrum: Mean power from 0 to half the rate, if the sound is long enough.
        mean_fraction: Square of the sound's mean over its power.
    """
    tested = {p: r for p, r in periods.items() if r is not None}
    allowance = log10(max(1, 2 * len(tested)))
    nothing = _NOTHING + _IMAGE_OF_MEAN * mean_fraction
    tones = {
        p: r.tone_log10_p + allowance
        for p, r in tested.items()
        if r.tone_log10_p + allowance < _WEAK and r.energy_fraction > nothing
    }
    tones = {p: x for p, x in tones.items() if not _leaks(tested[p], [tested[q] for q in tones])}
    others: dict[str, list[int]] = {}
    for period in list(tones):
        kind = _other(tested[period], rate, spectrum, tested)
        if kind is not None:
            others.setdefault(kind, []).append(period)
            del tones[period]
    images = {
        p: r.replica_log10_p + allowance
        for p, r in tested.items()
        if r.replica_log10_p is not None and r.replica_db is not None and r.replica_db > _AUDIBLE
    }
    limit = min(_WEAK_IMAGE, _SHARE * min(images.values(), default=0.0))
    images = {p: x for p, x in images.items() if x < limit}
    found = tuple(sorted({*tones, *images}))
    strong = any(x < _STRONG for x in tones.values()) or any(
        x < _STRONG and (tested[p].replica_db or -np.inf) > _LOUD for p, x in images.items()
    )
    tops = [p for p in found if not any(q % p == 0 for q in found if q > p)]
    causes = [_cause(p, found, tones, images, tested, rate) for p in tops]
    causes += [Cause(kind, tuple(ps), _OTHER_WORDS[kind]) for kind, ps in others.items()]
    return ("strong" if strong else "weak" if found else "none"), found, tuple(causes)


_OTHER_WORDS = {
    "mains-hum": "mains hum (multiples of 50 or 60 Hz that are multiples of rate/period too)",
    "harmonic-tone": "harmonic tone (a partial of a fundamental whose other partials are no multiples of rate/period)",
}


def _leaks(result: SoundPeriod, others: Sequence[SoundPeriod]) -> bool:
    """Whether a period's tones are the skirts of much stronger ones: beside these, or weak and on no hill of their own.

    A tone that lasts leaks into every piece with the same phase.
    """
    own = result.strongest
    return any((o.strongest.level_dbfs or 0.0) > (own.level_dbfs or -np.inf) + _LEAK_DB for o in others) or (
        own.db is not None
        and own.db < _SKIRT_DB
        and any((o.strongest.db or 0.0) > own.db + _STRONGER_DB for o in others)
    )


def _cause(
    period: int,
    found: tuple[int, ...],
    tones: Container[int],
    images: Container[int],
    tested: Container[int],
    rate: float,
) -> Cause:
    chain = tuple(p for p in found if period % p == 0)
    parts = []
    if any(p in tones for p in chain):
        parts.append(f"tones at multiples of {rate / max(p for p in chain if p in tones):.5g} Hz")
    if any(p in images for p in chain):
        parts.append(f"replicas {rate / max(p for p in chain if p in images):.5g} Hz apart")
    return Cause("up-sampling", chain, f"up-sampling x{period} = {' and '.join(parts)}{_steps(chain, tested)}")


def _steps(chain: tuple[int, ...], tested: Container[int]) -> str:
    """The strides of the layers, where the periods tell them.

    They do where each divides the next and some divisor of the largest is missing: one layer of the full stride leaves
    all its divisors, as small strides in a row do.
    """
    if len(chain) < 2 or any(b % a for a, b in pairwise(chain)):
        return ""
    if not any(chain[-1] % p == 0 and p in tested and p not in chain for p in range(2, chain[-1])):
        return ""
    strides = [b // a for a, b in pairwise((1, *chain))]
    return f"; by steps of {' x '.join(map(str, strides))}, from the output back"


def _other(
    result: SoundPeriod, rate: float, spectrum: NDArray[np.float64] | None, tested: Mapping[int, SoundPeriod]
) -> str | None:
    """A cause other than up-sampling that explains every tone of a period."""
    tones = result.tones or (result.strongest,)
    if result.tone_count <= len(tones) and all(_is_hum(t.frequency_hz) for t in tones):
        return "mains-hum"
    if spectrum is None or result.tone_count > 4:
        return None
    known = [rate / p for p, r in tested.items() if r.tone_count]
    return "harmonic-tone" if all(_is_partial(t, rate, spectrum, known) for t in tones) else None


def _is_hum(frequency: float) -> bool:
    return frequency < _HUM_END and any(abs(frequency / h - round(frequency / h)) * h < 0.05 for h in _HUM)


def _is_partial(tone: Tone, rate: float, spectrum: NDArray[np.float64], known: list[float]) -> bool:
    """Whether the partials below and above it stand out, if it is the 2nd to 16th of some fundamental."""
    step = rate / 2 / (len(spectrum) - 1)

    def stands_out(frequency: float) -> bool:
        if frequency + 12 * step > rate / 2 or frequency < 8 * step:
            return False
        if any(abs(frequency / k - round(frequency / k)) * k < _LOBE * step for k in known):
            return False
        at = round(frequency / step)
        around = np.concatenate([spectrum[at - 7 : at - 3], spectrum[at + 4 : at + 8]])
        return bool(spectrum[at - 1 : at + 2].max() > 10 ** (_PARTIAL_DB / 10) * np.median(around))

    def beside(m: int) -> tuple[float, float]:
        """The partials next to the m-th; below half the rate there may be none above it."""
        base = tone.frequency_hz / m
        above = (m + 1) * base
        return (m - 1) * base, above if above < rate / 2 else (m - 2) * base

    return any(all(stands_out(f) for f in beside(m)) for m in _PARTIALS)
