"""Spectral replicas: a stride copies every frequency of its input to distances of multiples of rate/period.

Raising the rate by ``s`` without removing the images leaves ``X(f + k/s) = H_k(f) X(f)``: what happens at ``f`` happens
at ``f + k/s`` at the same instant, mirrored images included since ``X(-f)`` is the conjugate of ``X(f)``. Frames of
white, level sound are transformed; for pairs of frequencies a multiple of ``1/p`` apart the coherence over ``T`` frames

    C = |sum_t x_t(f + k/p) conj x_t(f)|^2 / (sum |x_t(f)|^2 sum |x_t(f + k/p)|^2)

is Beta(1, T - 1) in a sound without replicas. The means over frames are taken off first: constant tones are not
replicas. The sum of ``min(-(T - 2) log(1 - C), 4)`` over the pairs is compared with the same sum at other distances,
near by but no multiples: transients and modulation raise both alike. The cap keeps the partials of a long note, a few
pairs, from deciding: a stride moves them all. Neighbouring pairs depend on each other, in music most: how much is seen
in the variance of sums over blocks of them and, since one period shows too few of such clumps, on average over periods.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from evenly.measure.pooling import gamma_tail
from evenly.measure.sound_pieces import MARGIN, Pieces, PieceSums, even

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PeriodReplicas", "ReplicaState", "replica_frame"]

_LONGEST = 7680  # samples of a frame, unless the common multiple of the periods is longer
_FRAMES = 12  # wanted in a short sound, 8 needed
_LEAST_FRAMES = 8
_LEAST = 12  # periods in a frame: bins between two multiples of 1/p
_TOGETHER = 8  # half frames in a piece
_SHIFTS = 6  # multiples k of 1/p that are tested
_LOCAL = 17  # bins over which every frame is levelled, so that no frame counts for more than another
_QUIET = 1e-8  # of the largest power in a frame: below are the side lobes of the window round a tone
_CONTROLS = (3, -3, 4, -4, 5, -5, 6, -6, 7, -7)  # bins by which the control distances differ
_SEEN = -3.0  # log p above which no level is given: that of nothing
_CAP = 4.0  # of one pair's evidence
_BLOCKS = (8, 32, 128)  # neighbouring pairs that are summed to see how much they depend on each other
_CLUMPS = 0.7  # of what dependence exceeds 1: how much heavier it makes the tail beside the variance
_TRUSTED = 10.0  # control distances that the variance by dependence is worth, against that between the control sums


def replica_frame(samples: int | None, periods: Sequence[int], base: int) -> int | None:
    """Length of a frame in samples, a multiple of ``base``; ``None`` if the sound is too short."""
    least = -(-_LEAST * max(periods) // base) * base
    if samples is None:
        return max(least, _LONGEST // base * base)
    fitting = min(_LONGEST, 2 * samples // (_FRAMES + 1)) // base * base
    frame = max(least, fitting)
    return frame if frame * (_LEAST_FRAMES + 1) // 2 <= samples else None


@dataclass(frozen=True)
class PeriodReplicas:
    """Replicas of one period in one channel.

    Attributes:
        period: In samples.
        log_p: Natural logarithm of the p-value.
        db: Level of the strongest image relative to the base band, in dB; ``-inf`` if none can be told from nothing.
    """

    period: int
    log_p: float
    db: float


@dataclass
class _Pairs:
    """Pairs of bins of one period and the sums of their products, at multiples of 1/p and at control distances."""

    period: int
    multiple: NDArray[np.int64]  # (pairs,): k
    low: NDArray[np.int64]  # (pairs,): bin of f
    high: NDArray[np.int64]  # (1 + controls, pairs): bin of f + k/p and of the control distances
    image: NDArray[np.bool_]  # (pairs,): f lies in the base band
    products: NDArray[np.complex128]  # (channels, 1 + controls, pairs)


class ReplicaState(PieceSums):
    """Sums over the frames of a sound, for periods with a common multiple; of one size, however long the sound.

    Args:
        periods: In samples; all divide ``frame``.
        frame: From `replica_frame`.
        channels: How many.
    """

    def __init__(self, periods: tuple[int, ...], frame: int, channels: int) -> None:
        self._frame, self._hop = frame, frame // 2
        super().__init__(Pieces(channels, repeat(_TOGETHER * self._hop), self._hop, frame))
        self._pairs = [_pairs(p, frame, channels) for p in periods]
        self._start = 0  # of the next piece, in hops
        self._count = np.zeros(channels, np.int64)
        self._sums = np.zeros((channels, frame), np.complex128)
        self._squares = np.zeros((channels, frame))
        self._power = np.zeros((channels, frame))  # of the sound itself

    def _add(self, piece: NDArray[np.float64]) -> None:
        from scipy.fft import fft
        from scipy.ndimage import uniform_filter1d

        starts = np.arange(0, piece.shape[1] - 2 * MARGIN - self._frame + 1, self._hop)
        window = np.hanning(self._frame + 1)[:-1]
        # A frame that starts an odd number of half frames after the first: its odd bins have turned by half a cycle.
        odd = (self._start + starts // self._hop) % 2 == 1
        self._start += (piece.shape[1] - 2 * MARGIN) // self._hop
        for channel, samples in enumerate(piece):
            made = even(samples)
            if made is None:
                continue
            cut = np.stack([made.values[s : s + self._frame] for s in starts])
            kept = np.ones(len(starts), bool)
            if made.present is not None:
                kept = np.array([made.present[s : s + self._frame].mean() > 0.5 for s in starts])
            x = fft(cut[kept] * window, axis=1)
            power = np.abs(x) ** 2
            around = uniform_filter1d(power, _LOCAL, axis=1, mode="wrap")
            x /= np.sqrt(np.maximum(around, _QUIET * power.max(1, keepdims=True)) + np.finfo(float).tiny)
            x[np.ix_(odd[kept], np.arange(self._frame) % 2 == 1)] *= -1
            raw = np.stack([samples[MARGIN + s : MARGIN + s + self._frame] for s in starts])[kept]
            self._count[channel] += len(x)
            self._sums[channel] += x.sum(0)
            self._squares[channel] += (np.abs(x) ** 2).sum(0)
            self._power[channel] += (np.abs(fft((raw - raw.mean(1, keepdims=True)) * window, axis=1)) ** 2).sum(0)
            for pairs in self._pairs:
                low = np.conj(x[:, pairs.low])
                for products, high in zip(pairs.products[channel], pairs.high, strict=True):
                    products += np.einsum("tp,tp->p", x[:, high], low)

    def results(self) -> dict[int, list[PeriodReplicas | None]]:
        """By period, then by channel; ``None`` for channels with too few frames."""
        found: dict[int, list[PeriodReplicas | None]] = {pairs.period: [] for pairs in self._pairs}
        for channel, count in enumerate(self._count.tolist()):
            if count < _LEAST_FRAMES:
                for listed in found.values():
                    listed.append(None)
                continue
            coherence = [self._coherence(channel, pairs) for pairs in self._pairs]
            evidence = [np.minimum(-(count - 2) * np.log1p(-c), _CAP) for c in coherence]
            clumps = [_dependence(e[1:]) for e in evidence]
            usual = float(np.mean(clumps))
            for pairs, c, e, own in zip(self._pairs, coherence, evidence, clumps, strict=True):
                log_p = _log_p(e, max(own, usual))
                level = self._level(channel, pairs, c, count) if log_p < _SEEN else float("-inf")
                found[pairs.period].append(PeriodReplicas(pairs.period, log_p, level))
        return found

    def spectrum(self, channel: int) -> NDArray[np.float64]:
        """Mean power in the frames, shape (frame // 2 + 1,): what the search for other causes looks at."""
        return self._power[channel, : self._frame // 2 + 1] / max(int(self._count[channel]), 1)

    def _coherence(self, channel: int, pairs: _Pairs) -> NDArray[np.float64]:
        """Shape (1 + controls, pairs)."""
        count = int(self._count[channel])
        mean = self._sums[channel] / count
        spread = np.maximum(self._squares[channel] - count * np.abs(mean) ** 2, np.finfo(float).tiny)
        common = pairs.products[channel] - count * mean[pairs.high] * np.conj(mean[pairs.low])
        share = np.abs(common) ** 2 / (spread[pairs.high] * spread[pairs.low])
        return np.asarray(np.minimum(share, 1 - 1e-12))

    def _level(self, channel: int, pairs: _Pairs, coherence: NDArray[np.float64], count: int) -> float:
        """Median over the base band of the image's coherent power over the power that it mirrors; largest over k."""
        power = self._power[channel]
        floor = np.finfo(float).tiny
        usual = np.median(coherence[1:], axis=0).mean() if len(coherence) > 1 else 1 / count
        excess = np.maximum(coherence[0] - usual, 0.0)
        # No image exceeds what it mirrors: other sounds do, where the base band is all but empty.
        ratio = excess * np.minimum(power[pairs.high[0]] / np.maximum(power[pairs.low], floor), 1.0)
        levels = [np.median(ratio[(pairs.multiple == k) & pairs.image]) for k in np.unique(pairs.multiple)]
        best = max(levels)
        return float(10 * np.log10(best)) if best > 0 else float("-inf")


def _log_p(evidence: NDArray[np.float64], dependence: float) -> float:
    """Log p of the first row's sum, a gamma variable with the mean and the variance of the others, the controls."""
    sums, controls = evidence.sum(1), len(evidence) - 1
    usual = max(float(sums[1:].mean()), evidence.shape[1] * 0.9)
    by_clumps = evidence.shape[1] * float(evidence[1:].var()) * dependence * (1 + _CLUMPS * (dependence - 1))
    seen = (_TRUSTED * by_clumps + (controls - 1) * float(sums[1:].var(ddof=1))) / (_TRUSTED + controls - 1)
    shape = usual**2 / (max(by_clumps, seen) * (controls + 1) / controls)
    return gamma_tail(shape, shape * float(sums[0]) / usual)


def _dependence(evidence: NDArray[np.float64]) -> float:
    """Variance of sums over neighbouring pairs, over what it were if pairs were independent; at least 1."""
    found = 1.0
    for size in _BLOCKS:
        whole = evidence.shape[1] // size * size
        if whole >= 2 * size:
            sums = evidence[:, :whole].reshape(len(evidence), -1, size).sum(2)
            found = max(found, float(sums.var() / (size * evidence.var() + np.finfo(float).tiny)))
    return found


def _pairs(period: int, frame: int, channels: int) -> _Pairs:
    """At most a quarter of the frame's bins, for the first multiples ``k`` of ``1/period``, every second bin."""
    step = frame // period
    multiples = [k for k in range(1, period // 2 + 1) if gcd(k, period) == 1][:_SHIFTS]
    widest = frame // (4 * len(multiples))  # |f| in bins: a quarter of the rate, less for more multiples
    low, multiple = [], []
    for k in multiples:
        own = np.arange(-widest, widest + 1, 2)
        own = own[own > 0] if 2 * k == period else own  # the image half a rate away: both signs are the same pair
        usable = (np.abs(own) >= 3) & (2 * own + k * step >= 0)  # (-f - k/p, -f) is the same pair again
        for shift in (0, *_CONTROLS):
            other = (own + k * step + shift + frame // 2) % frame - frame // 2
            usable &= (np.abs(other) >= 3) & (np.abs(other) < frame // 2 - 3) & (np.abs(other) != np.abs(own))
        low.append(own[usable])
        multiple.append(np.full(int(usable.sum()), k))
    bins, ks = np.concatenate(low), np.concatenate(multiple)
    high = np.stack([(bins + ks * step + shift) % frame for shift in (0, *_CONTROLS)])
    products = np.zeros((channels, 1 + len(_CONTROLS), bins.size), np.complex128)
    return _Pairs(period, ks, bins % frame, high, np.abs(bins) <= step // 2, products)
