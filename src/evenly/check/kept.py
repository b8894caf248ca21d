"""Which strided layers have equal phases for every value of their parameters, by the way their weights are made.

A kernel that the network computes from parameters (a projection, a fold, a smoothing) may meet the DC condition
whatever training does. No class is known by name: the computation runs on parameters drawn at random. Where it is
analytic, as compositions of linear maps, norms and exponentials are, a condition that holds for one draw from a
continuous distribution holds for all parameters, with probability 1; further draws guard against rounding and kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from evenly.check.subpixel import subpixel_weight
from evenly.graph import ir
from evenly.theory.phases import dc_gains

__all__ = ["SEEDS", "keeps_phases", "kept_kernel"]

SEEDS = (0, 1, 2)
EQUAL = 1e-5
"""Differences of the phases' gains, over the norm of all taps, that float32 cannot tell from none."""

Array = NDArray[np.float64]

_VERDICTS: WeakKeyDictionary[ir.Weight, dict[tuple[tuple[int, ...], tuple[int, ...]], bool]] = WeakKeyDictionary()


def kept_kernel(op: ir.Conv | ir.ConvTranspose) -> bool:
    """Whether the phases of a strided kernel have equal DC gains for every value of its parameters.

    A transposed convolution then keeps constants; a convolution does so with the gradient, on its way back.
    """
    weight = op.weight
    if weight is None or weight.fixed or weight.redraw is None or prod(op.stride) == 1:
        return False
    verdicts = _VERDICTS.setdefault(weight, {})
    geometry = (op.stride, op.dilation)
    if geometry not in verdicts:
        verdicts[geometry] = all(_equal(drawn, *geometry) for drawn in map(weight.drawn, SEEDS))
    return verdicts[geometry]


def _shuffle(graph: ir.Graph, index: int) -> bool:
    """Whether the phases of the sub-pixel convolution at a pixel shuffle agree for every value of its parameters."""

    def agree(seed: int) -> bool:
        found = subpixel_weight(graph, index, lambda weight: weight.drawn(seed))
        if found is None:
            return False
        _, kernel, bias = found  # (C, *phases, C_in, *k), (C, *phases)
        axes = bias.ndim - 1
        gains = kernel.reshape(*kernel.shape[: 2 + axes], -1).sum(-1)
        return _same(_by_phase(gains, axes), kernel) and (
            not bias.any() or _same(_by_phase(bias[..., None], axes), bias)
        )

    return all(agree(seed) for seed in SEEDS)


def keeps_phases(graph: ir.Graph, index: int) -> bool:
    """Whether the up-sampling layer at a node keeps constants constant for every value of its parameters."""
    op = graph.nodes[index].op
    test = _TESTS.get(type(op))
    return test is not None and test(graph, index)


def _transposed(graph: ir.Graph, index: int) -> bool:
    op = graph.nodes[index].op
    assert isinstance(op, ir.ConvTranspose)
    return kept_kernel(op)


_TESTS: dict[type[ir.Op], Callable[[ir.Graph, int], bool]] = {
    ir.ConvTranspose: _transposed,
    ir.PixelShuffle: _shuffle,
}


def _equal(drawn: Array | None, stride: Sequence[int], dilation: Sequence[int]) -> bool:
    return drawn is not None and _same(dc_gains(drawn, stride, dilation), drawn)


def _by_phase(values: Array, axes: int) -> Array:
    """``(C, *phases, n)`` as ``(phases, C, n)``."""
    return np.moveaxis(values.reshape(len(values), -1, values.shape[-1]), 1, 0)


def _same(gains: Array, taps: Array) -> bool:
    """Whether the gains ``(phases, ...)`` are equal, up to the rounding of the taps that were added."""
    size = float(np.sqrt((taps**2).sum() / len(gains)))
    spread = float(np.sqrt(((gains - gains.mean(0)) ** 2).sum() / len(gains)))
    return 0 < size < np.inf and spread <= EQUAL * size
