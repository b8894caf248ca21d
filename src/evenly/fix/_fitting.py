"""Least squares for one layer, with or without the DC condition, from second moments gathered batch by batch.

A tap writes the outputs of one phase only, so the second moments of the features are a block for every phase, bordered
by the bias, which all phases share. With ``A_r`` the moments of phase ``r``, ``a_r`` its border, ``n`` the outputs and
``t`` the ridge,

    ``x_b = (b_b - sum a_r' A_r^-1 b_r) / (n + t - sum a_r' A_r^-1 a_r)``,    ``x_r = A_r^-1 (b_r - a_r x_b)``

solves the whole system by the blocks alone. The DC condition ``C w = 0`` (:mod:`evenly.fix.balance`) comes on top:

    ``w = fit - A^-1 C' (C A^-1 C')^-1 C fit``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from evenly.fix.backend import Floats
from evenly.fix.geometry import Rows, padded
from evenly.fix.scatter import Axis, Scatter, phase_convolution
from evenly.theory.balance import excluded_directions

__all__ = ["Fit", "features_of", "nearest", "table"]

Array = NDArray[np.float64]

MOST_FEATURES = 10240
"""Of one phase, above which a layer is not fitted: 840 MB, a minute to solve."""
_STRIP = 2**25
"""Numbers that the features of one strip of a signal may have: 256 MB."""
_ENOUGH = 100
"""Outputs of a phase for each of its features; more of them are drawn from."""
_LEAST = 50_000
"""Outputs of a phase that are used in any case, if there are so many."""
_RIDGE = 1e-4


def table(rows: Rows, inputs: Sequence[int], outputs: Sequence[int]) -> Scatter:
    """As :meth:`evenly.fix.geometry.Rows.scatter`, of plain convolutions with a stride as well."""
    layer = rows.layer
    if layer.kind != "convolution":
        return rows.scatter(inputs, outputs)
    axes = []
    for n, k, s, d in zip(inputs, rows.kernel, layer.stride, layer.dilation, strict=True):
        dense = phase_convolution(n, k, 1, 0, d)
        axes.append(Axis(dense.source[:, ::s], 1, n))
    return Scatter(tuple(axes), layer.weight.shape[1])


def features_of(rows: Rows) -> int:
    """Features of one phase, for one group of channels; the most of any phase."""
    layer = rows.layer
    if layer.kind == "transposed":
        taps = prod(-(-k // s) for k, s in zip(rows.kernel, layer.stride, strict=True))
        return int(taps * layer.weight.shape[0] // layer.groups)
    return int(prod(rows.kernel) * layer.weight.shape[1])


def nearest(rows: Rows, weights: Array, order: int, strength: float = 1.0) -> Array:
    """The nearest weights that meet the condition, by the weights alone (Sugawara et al., arXiv 1806.02658)."""
    directions = excluded_directions(rows.places(), rows.stride, order)
    taps = weights[:-1].reshape(len(directions), -1)
    even = taps - strength * directions @ (directions.T @ taps)
    return np.concatenate([even.reshape(-1, weights.shape[1]), weights[-1:]])


class Fit:
    """What a layer reads and what it should give, gathered over batches; memory does not grow with their number.

    Args:
        rows: The layer, and the taps that it gets.
        group: Of its channels.
        expected: Outputs of one phase that all batches together will have; with many more than are needed, a part of
            them is drawn.
        seed: Of what is drawn.
    """

    def __init__(self, rows: Rows, group: int, expected: int, seed: int) -> None:
        self._rows, self._group = rows, group
        enough = max(_LEAST, _ENOUGH * features_of(rows))
        self._share = min(1.0, enough / max(expected, 1))
        self._draw = np.random.default_rng([seed, group])
        self._places: list[NDArray[np.int64]] = []
        self._blocks: list[Array] = []
        self._borders: list[Array] = []
        self._cross: Array = np.zeros((0, 0))
        self._outputs = 0.0
        self._factors: list[tuple[Array, bool]] | None = None

    def add(self, inputs: Floats, wanted: Floats) -> None:
        """Add a batch.

        Args:
            inputs: ``(N, C_in, *sizes)``: what the layer reads now, before padding.
            wanted: ``(N, C_out, *sizes)``: what it should give, after the pixel shuffle of a sub-pixel convolution.
        """
        groups = self._rows.layer.groups
        x = np.split(padded(self._rows, inputs), groups, 1)[self._group]
        y = np.split(wanted, groups, 1)[self._group]
        whole = table(self._rows, x.shape[2:], y.shape[2:])
        if not self._blocks:
            self._begin(y.shape[1])
        for strip, low, high in _strips(whole):
            for signal, aim in zip(x, y[:, :, low:high], strict=True):
                self._gather(strip, signal[None], aim[None])

    def _begin(self, channels: int) -> None:
        rows = self._rows
        reach = [d * (k - 1) + 1 for k, d in zip(rows.kernel, rows.layer.dilation, strict=True)]
        whole = table(rows, reach, rows.stride)  # one output of every phase
        self._places = [whole.places(phase)[:-1] for phase in whole.phases()]
        self._blocks = [np.zeros((len(place),) * 2) for place in self._places]
        self._borders = [np.zeros(len(place)) for place in self._places]
        self._cross = np.zeros((whole.taps * whole.channels + 1, channels))

    def _gather(self, strip: Scatter, x: Floats, y: Floats) -> None:
        for k, phase in enumerate(strip.phases()):
            aims = strip.outputs_of(y, phase)
            if not len(aims):
                continue
            features = strip.features(x, phase)[0]
            if self._share < 1:
                kept = self._draw.random(len(features)) < self._share
                features, aims = features[kept], aims[kept]
            self._blocks[k] += features.T @ features
            self._borders[k] += features.sum(0)
            self._cross[self._places[k]] += features.T @ aims
            self._cross[-1] += aims.sum(0)
            self._outputs += len(features)

    # ---- solving -----------------------------------------------------------------------------------------------------

    @property
    def _ridge(self) -> float:
        """In the units of the moments: a part of the features' mean second moment."""
        trace = sum(float(np.trace(block)) for block in self._blocks) + self._outputs
        return _RIDGE * trace / len(self._cross)

    def weights(self, before: Array) -> Array:
        """Least-squares weights ``(F + 1, C_out)``, drawn a little towards those before, which they replace."""
        return self._solved(self._cross + self._ridge * before, before[-1])

    def balanced(self, before: Array, order: int, strength: float) -> Array:
        """The same under the DC condition; a strength below 1 goes a part of the way from the fit without it."""
        fit = self.weights(before)
        directions = excluded_directions(self._rows.places(), self._rows.stride, order)  # (taps, rank)
        channels = (len(fit) - 1) // len(directions)
        conditions = np.concatenate(
            [np.kron(directions, np.eye(channels)), np.zeros((1, directions.shape[1] * channels))]
        )
        spread = self._solved(conditions)
        off = linalg.solve(conditions.T @ spread, conditions.T @ fit, assume_a="sym")
        part = fit - strength * (spread @ off)
        # what is left of the conditions is rounding, which a projection takes off
        return nearest(self._rows, part, order) if strength == 1 else part

    def _solved(self, right: Array, bias: Array | None = None) -> Array:
        """Solve the bordered system; without a bias in the layer, its row stays as given."""
        ridge = self._ridge
        if self._factors is None:
            self._factors = [
                linalg.cho_factor(block + ridge * np.eye(len(block)), overwrite_a=True) for block in self._blocks
            ]
        found = np.empty_like(right)
        inner = [linalg.cho_solve(f, right[place]) for f, place in zip(self._factors, self._places, strict=True)]
        if self._rows.layer.bias is None:
            last = np.zeros(right.shape[1]) if bias is None else bias
        else:
            sides = [linalg.cho_solve(f, a) for f, a in zip(self._factors, self._borders, strict=True)]
            lost = sum(a @ x for a, x in zip(self._borders, inner, strict=True))
            pivot = self._outputs + ridge - sum(float(a @ s) for a, s in zip(self._borders, sides, strict=True))
            last = (right[-1] - lost) / pivot
            inner = [x - np.outer(s, last) for x, s in zip(inner, sides, strict=True)]
        for place, part in zip(self._places, inner, strict=True):
            found[place] = part
        found[-1] = last
        return found


def _strips(whole: Scatter) -> Iterator[tuple[Scatter, int, int]]:
    """The layer in strips of outputs along its first axis, whose features are few enough; where they begin and end."""
    first, rest = whole.axes[0], whole.axes[1:]
    row = prod(axis.outputs for axis in rest) * whole.channels * max(len(whole.active(p)) for p in whole.phases())
    step = max(1, _STRIP // max(row, 1)) * first.stride
    for low in range(0, first.outputs, step):
        high = min(low + step, first.outputs)
        yield Scatter((replace(first, source=first.source[:, low:high]), *rest), whole.channels), low, high
