"""Tones at multiples of rate/period: Thomson's harmonic F-test in every piece, and agreement of the phases over pieces.

A stride leaves tones whose frequency *and phase* are fixed to the samples for as long as the sound lasts. In a piece of
``L`` samples with Slepian tapers ``v_k`` (time-bandwidth product 3.5, five of them), let

    Y_k(f) = sum_n z_n v_k(n) exp(-2 pi i f n),    g_k = sum_n v_k(n),
    mu = g.Y / |g|^2,    beta = |g.Y|^2 / (|g|^2 |Y|^2).

In a background that is white and Gaussian over the band of the tapers, ``P(beta >= b) = (1 - b)^(K - 1)`` (Thomson
1982, section XIII), whatever its level. Where a piece is partly digital silence, ``Y`` and ``g`` are first multiplied
by the inverse root of the tapers' Gram matrix over the part that sounds, which makes this exact again.

Each piece gives ``z = exp(i arg mu) sqrt(-log p)``, a standard complex normal draw under the null, at most 3 long;
pieces count alike, quiet or loud. Over ``S`` pieces:

- *phases agree*: the distance ``|sum z|`` that steps of these lengths get in random directions (`sound_phases`),
  whatever share of the line's power a single note brings (below four pieces: ``|sum z|^2 / S`` is exponential);
- *phases agree where it is quiet*, for tones that only pauses let through: the same for steps whose lengths are each
  piece's amplitude over its background's power;
- *a tone at any phase*, in sounds of 16 pieces and more: ``sum min(-log p, 3)`` against the same sum at neighbouring
  frequencies, gamma under the null. Music, whose partials meet any frequency for a while, raises both alike;
  the cap keeps single notes from deciding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd, log
from typing import TYPE_CHECKING

import numpy as np

from evenly.measure.pooling import gamma_tail, together
from evenly.measure.probability import fisher, line_log_p
from evenly.measure.sound_phases import Walks, mirrored
from evenly.measure.sound_pieces import MARGIN, Pieces, PieceSums, even, irregular
from evenly.measure.tapers import slepian

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PeriodTones", "ToneState", "tone_length"]

_HALF, _TAPERS = 3.5, 5  # time-bandwidth product; tapers, two fewer than twice that: the last ones leak
_LONGEST = 30720  # samples of a piece: where the sound allows, 0.6 s at 48 kHz
_PIECES = 24  # wanted in a short sound
_LEAST = 7  # periods in the shortest piece: lines two bandwidths apart
_FEW = 4  # pieces below which the lengths of z are taken as they should be
_MANY = 16  # pieces from which on tones at any phase are looked for
_LENGTH = 3.0  # the longest draw: a piece with the tone alone does not outweigh many with sound
_CAP = 3.0  # of one piece's -log p: p = 0.05
_LASTING = 3.0  # pieces that one note may last: so many fewer are independent
_NEIGHBOURS = 6  # frequencies that a line is compared with
_NEAREST, _FARTHEST = 3, 60  # their distance from it and from all other lines, in cycles per piece
_CLEAR = 1e-6  # share of the energy beside the line below which a piece counts no more: tapers leak as much
_MAIN = 6  # times that agreeing phases count for each of the other two, which are for rarer tones
_SURE = 1e-12  # of 1: share of energy beyond which rounding decides


def tone_length(samples: int | None, periods: Sequence[int], base: int) -> int | None:
    """How many multiples of ``base`` the middle piece has; ``None`` if the sound is too short.

    Args:
        samples: Of the sound, ``None`` if unknown.
        periods: In samples.
        base: Their common multiple.
    """
    least = _LEAST * max(periods)
    wanted = _LONGEST if samples is None else min(_LONGEST, samples // _PIECES)
    middle = max(4, -(-max(wanted, -(-4 * least // 3)) // base))
    return None if samples is not None and samples < -(-least // base) * base else middle


@lru_cache(maxsize=8)
def _offsets(lines: tuple[int, ...], base: int, multiples: int) -> NDArray[np.int64]:
    """Shape (lines, neighbours): distance in bins to frequencies near a line that are near no line; 0: none."""
    comb = np.zeros(base * multiples, bool)
    for shift in range(-_NEAREST + 1, _NEAREST):
        for sign in (1, -1):
            comb[(sign * np.array(lines) * multiples + shift) % comb.size] = True
        comb[shift % comb.size] = True
    candidates = [s * d for d in range(_NEAREST, _FARTHEST, 3) for s in (1, -1)]
    found = np.zeros((len(lines), _NEIGHBOURS), np.int64)
    for i, line in enumerate(lines):
        free = [d for d in candidates if not comb[(line * multiples + d) % comb.size]][:_NEIGHBOURS]
        found[i, : len(free)] = free
    return found


@dataclass(frozen=True)
class PeriodTones:
    """The tones of one period in one channel.

    Attributes:
        period: In samples.
        index: Shape (lines,): ``k`` of the frequencies ``k * rate / period``.
        log_p: Natural logarithm of the p-value of all together, for lines that are independent.
        log_p_any: The same where replicas are: lines may depend on each other, and images of slow movements have a
            fixed phase but for the sign.
        line_log_p: Shape (lines,): of each.
        db: Shape (lines,): power over the local floor; NaN where no neighbouring frequency is free.
        amplitude: Shape (lines,): of full scale.
        energy: Power of the tones less what the background adds, of full scale squared.
    """

    period: int
    index: NDArray[np.int64]
    log_p: float
    log_p_any: float
    line_log_p: NDArray[np.float64]
    db: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    energy: float


class ToneState(PieceSums):
    """Sums over the pieces of a sound, for periods with a common multiple; of one size, however long the sound.

    Args:
        base: The common multiple, in samples.
        periods: In samples.
        middle: From `tone_length`.
        channels: How many.
    """

    def __init__(self, base: int, periods: tuple[int, ...], middle: int, channels: int) -> None:
        self._base, self._periods, self._channels = base, periods, channels
        self._bins = tuple(b for b in range(1, base // 2 + 1) if base // gcd(b, base) in periods)
        self._lines = np.array(self._bins)
        self._real = 2 * self._lines == base
        least = -(-_LEAST * max(periods) // base) * base
        super().__init__(Pieces(channels, irregular(base, middle), base, least))
        shape = (channels, len(self._bins))
        self._count = np.zeros(channels, np.int64)
        self._draws = [Walks(self._real) for _ in range(channels)]
        self._weighted = [Walks(self._real) for _ in range(channels)]  # amplitudes over their variances
        self._evidence = np.zeros((*shape, 1 + _NEIGHBOURS))  # sums of -log p, capped: the line's, then its neighbours'
        self._power = np.zeros((*shape, 1 + _NEIGHBOURS))
        self._weights = np.zeros(shape)

    def _add(self, piece: NDArray[np.float64]) -> None:
        for channel, samples in enumerate(piece):
            made = even(samples)
            if made is not None:
                self._add_channel(channel, made.values, made.present, samples[MARGIN:-MARGIN])

    def _add_channel(
        self, channel: int, z: NDArray[np.float64], present: NDArray[np.float64] | None, raw: NDArray[np.float64]
    ) -> None:
        from scipy.fft import rfft

        tapers = slepian(z.size, _HALF, _TAPERS)  # (K, L)
        sounding = tapers if present is None else tapers * present
        steering, turn = sounding.sum(1), np.eye(_TAPERS)
        if present is not None:
            sizes, axes = np.linalg.eigh(sounding @ tapers.T)
            if sizes[0] < 0.01:  # too little sound to tell a tone from its background
                return
            turn = axes / np.sqrt(sizes) @ axes.T
        g = turn @ steering
        multiples = z.size // self._base
        offsets = _offsets(self._bins, self._base, multiples)
        bins = np.concatenate([np.zeros((len(offsets), 1), np.int64), offsets], 1) + (self._lines * multiples)[:, None]
        bins = np.abs((bins + z.size // 2) % z.size - z.size // 2)  # a real signal's spectrum is even
        spectra = rfft(tapers * z)[:, bins]  # (K, lines, 1 + neighbours)
        y = np.einsum("jk,kln->jln", turn, spectra)
        along = np.einsum("k,kln->ln", g, y)
        power = np.abs(along) ** 2 / (g @ g)
        share = np.minimum(power / np.maximum((np.abs(y) ** 2).sum(0), np.finfo(float).tiny), 1.0 - _SURE)
        real = np.zeros(share.shape, bool)
        real[:, 0] = self._real
        log_p = line_log_p(share, _TAPERS, real)
        self._count[channel] += 1
        self._evidence[channel] += np.minimum(-log_p, _CAP)
        self._power[channel] += np.where(np.concatenate([np.ones((len(offsets), 1)), offsets], 1) != 0, power, np.nan)
        self._draws[channel].add(_draw(along[:, 0], log_p[:, 0], self._real))
        self._add_amplitude(channel, raw, tapers, steering)

    def _add_amplitude(
        self, channel: int, raw: NDArray[np.float64], tapers: NDArray[np.float64], steering: NDArray[np.float64]
    ) -> None:
        """Amplitudes in the sound itself, each piece weighted by the inverse variance of its background."""
        from scipy.fft import rfft

        folded = (tapers * (raw - raw.mean() * (raw != 0))).reshape(_TAPERS, -1, self._base).sum(1)
        y = rfft(folded)[:, self._lines]  # (K, lines)
        size = steering @ steering
        factor = np.where(self._real, 1.0, 2.0)
        amplitude = factor * (steering @ y) / size
        total = (np.abs(y) ** 2).sum(0)
        rest = np.maximum(total - np.abs(steering @ y) ** 2 / size, _CLEAR * total)
        variance = factor**2 * rest / (_TAPERS - 1) / size + np.finfo(float).tiny
        self._weighted[channel].add(amplitude / variance)
        self._weights[channel] += 1 / variance

    def results(self) -> dict[int, list[PeriodTones | None]]:
        """By period, then by channel; ``None`` for channels without sound in any piece."""
        by_period = self._base // np.gcd(self._lines, self._base)
        found: dict[int, list[PeriodTones | None]] = {p: [] for p in self._periods}
        for channel in range(self._channels):
            log_p = self._line_log_p(channel) if self._count[channel] else None
            for period in self._periods:
                chosen = np.flatnonzero(by_period == period)
                found[period].append(
                    None if log_p is None else self._period(channel, period, chosen, [one[chosen] for one in log_p])
                )
        return found

    def _line_log_p(self, channel: int) -> list[NDArray[np.float64]]:
        """Of agreeing phases, of those where it is quiet, and of tones at any phase, per line."""
        count, draws = int(self._count[channel]), self._draws[channel]
        if count < _FEW:
            shape, length = np.where(self._real, 0.5, 1.0), np.abs(draws.ends) ** 2
            return [np.array([gamma_tail(s, x) for s, x in zip(shape, shape * length / count, strict=True)])]
        agree = draws.log_p()
        # Signs alone could never be certain; lengths are normal draws and give a Student's t.
        share = np.abs(draws.ends) ** 2 / np.maximum(count * draws.squares, np.finfo(float).tiny)
        agree[self._real] = line_log_p(np.minimum(share, 1.0 - _SURE), count, self._real)[self._real]
        found = [agree, self._weighted[channel].log_p()]
        return found if count < _MANY else [*found, self._present_log_p(channel)]

    def _present_log_p(self, channel: int) -> NDArray[np.float64]:
        count, evidence = int(self._count[channel]), self._evidence[channel]
        usable = np.isfinite(self._power[channel][:, 1:])
        number, mean = usable.sum(1), 1 - np.exp(-_CAP)
        usual = np.maximum((evidence[:, 1:] * usable).sum(1) / np.maximum(number, 1), count * mean)
        variance = 2 * (1 - (1 + _CAP) * np.exp(-_CAP)) - mean**2
        shape = count / _LASTING * mean**2 / variance * number / (number + 1.0)
        return np.array(
            [
                gamma_tail(n, n * own / level) if n > 0 else 0.0
                for n, own, level in zip(shape, evidence[:, 0], usual, strict=True)
            ]
        )

    def _period(
        self, channel: int, period: int, chosen: NDArray[np.int64], log_p: list[NDArray[np.float64]]
    ) -> PeriodTones:
        every = np.array([together([*[line[0]] * (_MAIN - 1), *line]) for line in np.stack(log_p, axis=1)])
        power = self._power[channel][chosen]
        usable = np.isfinite(power[:, 1:]).any(1)
        floor = np.full(chosen.size, np.nan)
        floor[usable] = np.nanmedian(power[usable, 1:], axis=1)
        with np.errstate(divide="ignore"):
            db = 10 * np.log10(power[:, 0] / floor)
        weights = self._weights[channel][chosen]
        amplitude = np.abs(self._weighted[channel].ends[chosen]) / weights
        excess = np.maximum(amplitude**2 - 1 / weights, 0.0)
        energy = float((excess * np.where(self._real[chosen], 1.0, 0.5)).sum())
        anyhow = [together(list(one)) for one in log_p]
        anyhow += [anyhow[0]] * (_MAIN // 2 - 1)
        independent = [fisher(one) for one in log_p[:2]]
        independent += [independent[0]] * (_MAIN // 2 - 1)
        imaged = [together(list(np.where(self._real[chosen], one, mirrored(one)))) for one in log_p[:2]]
        index = self._lines[chosen] * period // self._base
        return PeriodTones(
            period, index, together([*independent, *anyhow]), together(imaged), every, db, amplitude, energy
        )


def _draw(along: NDArray[np.complex128], log_p: NDArray[np.float64], real: NDArray[np.bool_]) -> NDArray[np.complex128]:
    """Standard complex normal draws (standard normal for real lines) with the phases of ``along``."""
    from scipy.special import ndtri_exp

    length = np.minimum(np.sqrt(-log_p), _LENGTH)
    length[real] = np.minimum(-ndtri_exp(log_p[real] - log(2.0)), _LENGTH)
    size = np.abs(along)
    return length * np.where(size > 0, along / np.where(size > 0, size, 1.0), 0.0)
