"""Solve a layer's weights anew so that the lines of its output fall to where they should be, at the least change.

With the layer's output linear in its weights ``w`` (features ``phi``, see :mod:`evenly.fix.scatter`), the repair of
every period at once is a quadratic programme in closed form up to one multiplier per period:

    minimise  ``E|(w - w0) phi|^2 + gamma E|w phi - x|^2``   subject to   ``w' Q_p w <= T_p`` for every period ``p``.

``A = E[phi phi']`` are second moments over calibration data, ``Q_p`` the mean over signals, windows and lines of period
``p`` of ``Re(Z^H Z)``, ``Z`` being the windowed Fourier transform of the features at a line, so that ``w' Q_p w`` is
exactly the power of the output's lines. Where layers before this one have been repaired, ``E|w phi - y|^2`` with the
original output ``y`` takes the place of the first term. With multipliers ``lambda_p >= 0`` the minimum is

    ``w = (A + gamma A + sum_p lambda_p Q_p + eps)^-1 ((A + eps) w0 + gamma E[phi x'])``.

Each period's power falls as its multiplier grows, so the multipliers are found by a few updates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from evenly.errors import ParameterError
from evenly.fix.levels import hann, powers
from evenly.fix.scatter import Scatter
from evenly.measure.phases import new_lines

__all__ = ["Calibration", "Gathering", "LineGathering", "Moments", "Solution", "moments", "solve", "windows_for"]

Array = NDArray[np.float64]

_FIRST = 1e-2
"""First multiplier where one is needed, relative to where lines weigh as much as all features."""
_MOST = 1e6
"""Largest multiplier, over the first one: beyond it digits are lost and lines hardly fall."""
_IDLE = -0.05
"""Where the logarithm of a power falls no faster with that of its multiplier, the latter does nothing."""
_NEXT_TO_NONE = 1e-4
"""What is left of such a multiplier in one round; and over the first one, what does not count."""
_STEP = 20.0
"""A multiplier is changed by this factor at most in one round."""
_ROUNDS = 100
_SECANTS = 15
"""Rounds along secants; periods that share much may chase each other there, plain rounds do not."""
_PIECE = 256
"""Samples of the pieces that long signals are cut into."""
_BLOCK = 32 << 20
"""Bytes of features that are held at a time."""
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Calibration:
    """A layer's signals on one batch of calibration data, for one group of channels.

    Attributes:
        inputs: ``(N, channels, *sizes)``: what the layer reads.
        outputs: ``(N, C, *sizes)``: what lines are judged in; says how much each signal counts. As it is now, and for
            a second solution as the first one left it: a mean of decibels is then approached to first order.
        reference: ``(N, C_out, *sizes)``: what the layer's output should be, or ``None``.
        kept: ``(N, C_out, *sizes)``: what the layer's output was before anything was repaired, where its inputs have
            changed since; ``None`` where they have not.
    """

    inputs: NDArray[np.floating]
    outputs: NDArray[np.floating]
    reference: NDArray[np.floating] | None = None
    kept: NDArray[np.floating] | None = None


@dataclass(frozen=True, eq=False)
class Moments:
    """What calibration data say about a layer, for one group of channels.

    Attributes:
        gram: ``(F + 1, F + 1)``: second moments of the features, the last one being the constant 1 of the bias; mean
            over the outputs of all phases.
        lines: By period, ``(F + 1, F + 1)``: ``Q_p``, every signal's lines divided by the power at and around them.
        cross: ``(F + 1, C_out)``: ``E[phi x']`` with the reference, or ``None``.
        kept: ``(F + 1, C_out)``: the same with what the layer's output was, or ``None``.
    """

    gram: Array
    lines: Mapping[int, Array]
    cross: Array | None = None
    kept: Array | None = None

    def part(self, places: NDArray[np.int64]) -> Moments:
        """Those of some of the features, the constant last."""
        block = np.ix_(places, places)
        aims = (None if aim is None else aim[places] for aim in (self.cross, self.kept))
        return Moments(self.gram[block], {period: total[block] for period, total in self.lines.items()}, *aims)

    def power(self, period: int, weights: Array) -> float:
        """``w' Q_p w``, the mean over output channels; weights ``(F + 1, C_out)``."""
        return float(np.sum(weights * (self.lines[period] @ weights)) / weights.shape[1])

    def change(self, weights: Array, before: Array) -> float:
        """Mean squared difference of the outputs of two sets of weights."""
        difference = weights - before
        return float(np.sum(difference * (self.gram @ difference)) / weights.shape[1])


def windows_for(sizes: Sequence[int]) -> list[tuple[Array, ...]]:
    """Hann windows of unit energy on every axis, ``(pieces, size)``.

    They are those of the whole signal, of its halves, and where it is long of pieces of some 256 samples. Pieces see
    lines more broadly, and give more of them: a layer has hundreds of weights to be determined.
    """
    counts = sorted({1, 2, max(2, min(sizes) // _PIECE)})
    return [tuple(_pieces(size, count) for size in sizes) for count in counts]


def _pieces(size: int, count: int) -> Array:
    length = max(size // count, 1)
    found = np.zeros((count, size))
    for row, start in zip(found, np.linspace(0, size - length, count).round().astype(int), strict=True):
        row[start : start + length] = hann(length)
    return found


class LineGathering:
    """``Q_p`` over calibration data, batch by batch.

    Args:
        periods: In output samples.
    """

    def __init__(self, periods: Sequence[int]) -> None:
        self._periods = tuple(periods)
        self._lines: dict[int, Array] = {}
        self._signals = 0

    def add(self, scatter: Scatter, batch: Calibration) -> None:
        """Add a batch; all batches have the same taps and channels, sizes may differ."""
        count = scatter.taps * scatter.channels + 1
        self._signals += len(batch.inputs)
        for period in self._periods:
            total = self._lines.setdefault(period, np.zeros((count, count)))
            total[:-1, :-1] += _line_moments(scatter, batch, period)

    def lines(self) -> dict[int, Array]:
        """What has been gathered, by period."""
        return {period: total / max(self._signals, 1) for period, total in self._lines.items()}


class Gathering:
    """Second moments over calibration data, batch by batch: memory does not grow with their number.

    Args:
        periods: In output samples.
    """

    def __init__(self, periods: Sequence[int]) -> None:
        self._lines = LineGathering(periods)
        self._gram: Array | None = None
        self._cross: dict[str, Array] = {}

    def add(self, scatter: Scatter, batch: Calibration) -> None:
        """Add a batch; all batches have the same taps and channels, sizes may differ."""
        count = scatter.taps * scatter.channels + 1
        if self._gram is None:
            self._gram = np.zeros((count, count))
        aims = {name: aim for name, aim in (("kept", batch.kept), ("cross", batch.reference)) if aim is not None}
        for phase in scatter.phases():
            place = scatter.places(phase)
            square = np.zeros((len(place),) * 2)
            for signals, rows in _blocks(scatter, batch.inputs, phase):
                features = np.concatenate(scatter.features(batch.inputs[signals], phase, rows))  # may have no taps
                features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
                square += features.T @ features
                for name, aim in aims.items():
                    total = self._cross.setdefault(name, np.zeros((count, aim.shape[1])))
                    total[place] += features.T @ scatter.outputs_of(aim[signals], phase, rows)
            self._gram[np.ix_(place, place)] += square
        self._lines.add(scatter, batch)

    def moments(self) -> Moments:
        """What has been gathered."""
        if self._gram is None:
            raise ParameterError("no calibration data were gathered; add at least one batch")
        positions = self._gram[-1, -1] or 1.0
        cross = {name: total / positions for name, total in self._cross.items()}
        return Moments(self._gram / positions, self._lines.lines(), **cross)


def _blocks(scatter: Scatter, inputs: NDArray[np.floating], phase: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Signals, and places of the first axis, whose features take no more than :data:`_BLOCK` bytes."""
    places = [len(range(r, axis.outputs, axis.stride)) for r, axis in zip(phase, scatter.axes, strict=True)]
    row = 8 * len(scatter.places(phase)) * prod(places[1:])
    rows = max(1, min(places[0], _BLOCK // max(row, 1)))
    signals = max(1, _BLOCK // max(row * rows, 1)) if rows == places[0] else 1
    for first in range(0, len(inputs), signals):
        for place in range(0, places[0], rows):
            yield slice(first, first + signals), slice(place, place + rows)


def moments(scatter: Scatter, batches: Iterable[Calibration], periods: Sequence[int]) -> Moments:
    """Second moments over calibration data of one size.

    Args:
        scatter: The layer.
        batches: Its signals.
        periods: In output samples.
    """
    gathering = Gathering(periods)
    for batch in batches:
        gathering.add(scatter, batch)
    return gathering.moments()


def _line_moments(scatter: Scatter, batch: Calibration, period: int) -> Array:
    """Sum over signals, mean over windows, weighted mean over lines."""
    sets = windows_for([axis.outputs for axis in scatter.axes])
    on, near, _ = powers(batch.outputs, period)
    scale = on + near  # the lines themselves bound the weight of signals that have nothing around them
    heard = scale > 0
    places, weights = new_lines(period, len(scatter.axes))
    weights = weights / (weights.sum() * sum(prod(map(len, windows)) for windows in sets))
    count = scatter.taps * scatter.channels
    total = np.zeros((count, count))
    if not heard.any():
        return total
    waiting: list[Array] = []  # one product of many rows is several times as fast as many of few
    for place, weight in zip(places, weights, strict=True):
        frequency = tuple(int(a) / period for a in place)
        for windows in sets:
            rows = scatter.lines(batch.inputs[heard], frequency, windows)
            rows *= np.repeat(np.sqrt(weight / scale[heard]), len(rows) // heard.sum())[:, None]
            waiting += [rows.real, rows.imag]
            if 8 * count * sum(map(len, waiting)) > _BLOCK:
                total += _squared(waiting)
                waiting = []
    return total + _squared(waiting) if waiting else total


def _squared(rows: Sequence[Array]) -> Array:
    """Sum over rows of their outer products."""
    joined = np.concatenate(rows)
    return joined.T @ joined


@dataclass(frozen=True, eq=False)
class Solution:
    """Solved weights.

    Attributes:
        weights: ``(F + 1, C_out)``, the last row being the bias.
        change: Mean squared change of the output that the moments predict.
        powers: Predicted power of the lines, by period.
        multipliers: ``lambda_p`` by period; 0 where nothing had to be done.
    """

    weights: Array
    change: float
    powers: Mapping[int, float]
    multipliers: Mapping[int, float]


def solve(
    known: Moments,
    before: Array,
    targets: Mapping[int, float],
    *,
    gamma: float = 0.0,
    ridge: float = 1e-6,
    start: Mapping[int, float] | None = None,
) -> Solution:
    """Bring the power of every period's lines to its target, at the least change of the output.

    Args:
        known: Of the calibration data.
        before: ``(F + 1, C_out)``: the weights and, last, the bias.
        targets: Power that the lines of a period may have at most, by period, in the units of ``Moments.power``.
        gamma: Weight of the reference beside the output as it was; 0 leaves it out.
        ridge: Weight of the change of the weights themselves, relative to the features' mean second moment.
        start: Multipliers to begin with, of an earlier solution.
    """
    scale = float(np.trace(known.gram)) / len(known.gram)
    gram = known.gram + ridge * scale * np.eye(len(known.gram))
    right = gram @ before if known.kept is None else known.kept + ridge * scale * before
    if gamma and known.cross is not None:
        right, gram = right + gamma * known.cross, gram + gamma * known.gram
    first = {p: _FIRST * scale * len(gram) / max(float(np.trace(known.lines[p])), _TINY) for p in targets}
    multipliers = {p: (start or {}).get(p, 0.0) for p in targets}
    earlier: dict[int, tuple[float, float]] = {}
    for number in range(_ROUNDS):
        weights = linalg.solve(
            gram + sum(m * known.lines[p] for p, m in multipliers.items() if m), right, assume_a="pos"
        )
        ratios = {p: known.power(p, weights) / max(target, _TINY) for p, target in targets.items()}
        if all(_settled(ratio, multipliers[p] / first[p]) for p, ratio in ratios.items()):
            break
        for p, ratio in ratios.items():
            now = multipliers[p]
            if now == 0:
                multipliers[p] = first[p] if ratio > 1 else 0.0
                continue
            step = _log_step(np.log(max(ratio, _TINY)), np.log(now), earlier.get(p) if number < _SECANTS else None)
            earlier[p] = np.log(now), np.log(max(ratio, _TINY))
            multipliers[p] = min(now * float(np.exp(step)), _MOST * first[p])
    powers = {p: known.power(p, weights) for p in targets}
    return Solution(weights, known.change(weights, before), powers, multipliers)


def _log_step(ratio: float, multiplier: float, earlier: tuple[float, float] | None) -> float:
    """By how much a multiplier moves, all in logarithms: along the secant of the last two rounds."""
    slope = -1.0  # as where a line is much weaker than what its multiplier weighs it with
    if earlier is not None and abs(multiplier - earlier[0]) > 1e-6:
        slope = (ratio - earlier[1]) / (multiplier - earlier[0])
        if ratio < 0 and slope > _IDLE:
            return float(np.log(_NEXT_TO_NONE))  # low enough without it, it seems
        slope = float(np.clip(slope, -2.0, -0.2))
    return float(np.clip(-ratio / slope, -np.log(_STEP), np.log(_STEP)))


def _settled(ratio: float, multiplier: float) -> bool:
    """Whether a period's power is at its target within 2 %, below it without a multiplier, or cannot be had lower."""
    if ratio > 1.02:
        return multiplier >= _MOST
    return ratio >= 0.98 or multiplier < _NEXT_TO_NONE
