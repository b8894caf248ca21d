"""Solve a layer's weights anew so that the lines of its output fall to where they should be, at the least change.

With the layer's output linear in its weights ``w`` (features ``phi``, see :mod:`evenly.fix.scatter`), the repair of
every period at once is a quadratic programme in closed form up to one multiplier per period:

    minimise  ``E|(w - w0) phi|^2 + gamma E|w phi - x|^2``   subject to   ``w' Q_p w <= T_p`` for every period ``p``.

``A = E[phi phi']`` are second moments over calibration data, ``Q_p`` the mean over signals, windows and lines of period
``p`` of ``Re(Z^H Z)``, ``Z`` being the windowed Fourier transform of the features at a line, so that ``w' Q_p w`` is
exactly the power of the output's lines. With multipliers ``lambda_p >= 0`` the minimum is

    ``w = (A + gamma A + sum_p lambda_p Q_p + eps)^-1 ((A + eps) w0 + gamma E[phi x'])``.

Each period's power falls as its multiplier grows, so the multipliers are found by a few updates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from evenly.fix.levels import hann, powers
from evenly.fix.scatter import Scatter
from evenly.measure.phases import new_lines

__all__ = ["Calibration", "Moments", "Solution", "moments", "solve", "windows_for"]

Array = NDArray[np.float64]

_FIRST = 1e-2
"""First multiplier where one is needed, relative to where lines weigh as much as all features."""
_STEP = 20.0
"""A multiplier is changed by this factor at most in one round."""
_ROUNDS = 60
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Calibration:
    """A layer's signals on one batch of calibration data, for one group of channels.

    Attributes:
        inputs: ``(N, channels, *sizes)``: what the layer reads.
        outputs: ``(N, C, *sizes)``: what lines are judged in, as it is now; says how much each signal counts.
        reference: ``(N, C_out, *sizes)``: what the layer's output should be, or ``None``.
    """

    inputs: NDArray[np.floating]
    outputs: NDArray[np.floating]
    reference: NDArray[np.floating] | None = None


@dataclass(frozen=True, eq=False)
class Moments:
    """What calibration data say about a layer, for one group of channels.

    Attributes:
        gram: ``(F + 1, F + 1)``: second moments of the features, the last one being the constant 1 of the bias; mean
            over the outputs of all phases.
        lines: By period, ``(F + 1, F + 1)``: ``Q_p``, every signal's lines divided by the power at and around them.
        cross: ``(F + 1, C_out)``: ``E[phi x']`` with the reference, or ``None``.
    """

    gram: Array
    lines: Mapping[int, Array]
    cross: Array | None = None

    def power(self, period: int, weights: Array) -> float:
        """``w' Q_p w``, the mean over output channels; weights ``(F + 1, C_out)``."""
        return float(np.sum(weights * (self.lines[period] @ weights)) / weights.shape[1])

    def change(self, weights: Array, before: Array) -> float:
        """Mean squared difference of the outputs of two sets of weights."""
        difference = weights - before
        return float(np.sum(difference * (self.gram @ difference)) / weights.shape[1])


def windows_for(size: int) -> tuple[Array, Array]:
    """The whole signal, ``(1, size)``, and its halves, ``(2, size)``, through Hann windows of unit energy.

    Halves see lines more broadly, and give more of them: a layer has hundreds of weights to be determined.
    """
    half = max(size // 2, 1)
    halves = np.zeros((2, size))
    halves[0, :half] = halves[1, size - half :] = hann(half)
    return hann(size)[None], halves


def moments(scatter: Scatter, batches: Iterable[Calibration], periods: Sequence[int]) -> Moments:
    """Second moments over calibration data; memory does not grow with their number.

    Args:
        scatter: The layer.
        batches: Its signals.
        periods: In output samples.
    """
    count = scatter.taps * scatter.channels + 1
    gram = np.zeros((count, count))
    lines = {p: np.zeros((count, count)) for p in periods}
    cross: Array | None = None
    signals = 0
    for batch in batches:
        signals += len(batch.inputs)
        for phase in scatter.phases():
            features = scatter.features(batch.inputs, phase).reshape(-1, len(scatter.places(phase)) - 1)
            features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
            place = scatter.places(phase)
            gram[np.ix_(place, place)] += features.T @ features
            if batch.reference is not None:
                cross = np.zeros((count, batch.reference.shape[1])) if cross is None else cross
                cross[place] += features.T @ scatter.outputs_of(batch.reference, phase)
        for period in periods:
            lines[period][:-1, :-1] += _line_moments(scatter, batch, period)
    for period in periods:
        lines[period] /= max(signals, 1) * (1 + 2 ** len(scatter.axes))  # windows of a signal
    positions = gram[-1, -1] or 1.0
    return Moments(gram / positions, lines, None if cross is None else cross / positions)


def _line_moments(scatter: Scatter, batch: Calibration, period: int) -> Array:
    """Sum over signals and windows, weighted mean over lines."""
    both = [windows_for(axis.outputs) for axis in scatter.axes]
    on, near, _ = powers(batch.outputs, period)
    scale = on + near  # the lines themselves bound the weight of signals that have nothing around them
    heard = scale > 0
    places, weights = new_lines(period, len(scatter.axes))
    total = np.zeros((scatter.taps * scatter.channels,) * 2)
    if not heard.any():
        return total
    for place, weight in zip(places, weights / weights.sum(), strict=True):
        frequency = tuple(int(a) / period for a in place)
        for windows in zip(*both, strict=True):
            rows = scatter.lines(batch.inputs[heard], frequency, windows)
            rows /= np.repeat(np.sqrt(scale[heard]), len(rows) // heard.sum())[:, None]
            total += weight * (rows.real.T @ rows.real + rows.imag.T @ rows.imag)
    return total


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
    known: Moments, before: Array, targets: Mapping[int, float], *, gamma: float = 0.0, ridge: float = 1e-6
) -> Solution:
    """Bring the power of every period's lines to its target, at the least change of the output.

    Args:
        known: Of the calibration data.
        before: ``(F + 1, C_out)``: the weights and, last, the bias.
        targets: Power that the lines of a period may have at most, by period, in the units of ``Moments.power``.
        gamma: Weight of the reference beside the output as it was; 0 leaves it out.
        ridge: Weight of the change of the weights themselves, relative to the features' mean second moment.
    """
    scale = float(np.trace(known.gram)) / len(known.gram)
    gram = known.gram + ridge * scale * np.eye(len(known.gram))
    right = gram @ before
    if gamma and known.cross is not None:
        right, gram = right + gamma * known.cross, gram + gamma * known.gram
    first = {p: _FIRST * scale * len(gram) / max(float(np.trace(known.lines[p])), _TINY) for p in targets}
    multipliers = dict.fromkeys(targets, 0.0)
    for _ in range(_ROUNDS):
        weights = linalg.solve(gram + sum(m * known.lines[p] for p, m in multipliers.items()), right, assume_a="pos")
        ratios = {p: known.power(p, weights) / max(target, _TINY) for p, target in targets.items()}
        if all(_settled(ratio, multipliers[p]) for p, ratio in ratios.items()):
            break
        for p, ratio in ratios.items():
            if multipliers[p] == 0 and ratio > 1:
                multipliers[p] = first[p]
            multipliers[p] *= float(np.clip(ratio, 1 / _STEP, _STEP))
    powers = {p: known.power(p, weights) for p in targets}
    return Solution(weights, known.change(weights, before), powers, multipliers)


def _settled(ratio: float, multiplier: float) -> bool:
    """Whether a period's power is at its target within 2 %, or below it without any multiplier."""
    return ratio <= 1.02 and (multiplier == 0 or ratio >= 0.98 or multiplier < _TINY)
