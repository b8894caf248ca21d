"""Pictures of what one layer does to a constant: how often positions are written or read, phase by phase."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from evenly.errors import ParameterError
from evenly.report.page.plots import cell
from evenly.report.words import period
from evenly.theory.overlap import overlap_counts
from evenly.theory.overlap import ratio as spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evenly.check.result import LayerResult
    from evenly.report.page.markup import Markup

__all__ = ["overlap_picture"]

_LARGEST = 8
"""Positions of a period per axis that are drawn."""
_LETTERED = 3
"""The same with words in them."""


def overlap_picture(layer: LayerResult, side: float = 72) -> Markup | None:
    """How often each position of one period is written (or, going back, read), over the last two axes.

    Even counts are drawn as the phases of the kernel, a letter for each, where these may differ.

    Returns:
        ``None`` where that would be one number, or where it does not follow from the geometry.
    """
    upward = layer.unevenness is not None
    stated = layer.unevenness if upward else layer.gradient_unevenness
    counts = _counts(layer)
    if stated is None or counts is None or not np.isclose(spread(counts), stated):
        return None
    flat = counts if counts.ndim > 1 else counts[None]
    while flat.ndim > 2:
        flat = flat[0]
    if upward and flat.min() == flat.max() and layer.role == "creates":
        return _phases(flat, layer, side)
    what = "taps write each output position" if upward else "outputs read each input position"
    words = [[str(n) for n in line] for line in flat] if flat.shape[1] <= _LETTERED else []
    label = f"How many {what}, by phase: {'; '.join(' '.join(map(str, line)) for line in flat)}"
    return cell(flat, label, copies=2, side=side, words=words, paint="paint" if upward else "other")


def _counts(layer: LayerResult) -> NDArray[np.int64] | None:
    """Shape: the stride. Reads are counted as writes are: the gradient of a convolution is a transposed one."""
    if layer.kernel is None or layer.stride is None or not 1 < max(layer.stride) <= _LARGEST:
        return None
    dilation = layer.dilation or (1,) * len(layer.kernel)
    try:
        axes = [overlap_counts(k, s, d) for k, s, d in zip(layer.kernel, layer.stride, dilation, strict=True)]
    except (ParameterError, ValueError):
        return None
    return np.asarray(reduce(np.multiply.outer, axes))


def _phases(counts: NDArray[np.int64], layer: LayerResult, side: float) -> Markup:
    number = counts.size
    letters = [chr(ord("a") + n) for n in range(number)] if counts.shape[1] <= _LETTERED else []
    words = [letters[n : n + counts.shape[1]] for n in range(0, len(letters), counts.shape[1])]
    assert layer.stride is not None
    label = (
        f"Every position is written {counts.max()} times, but each of the {number} phases has weights of its own: "
        f"the pattern repeats after {period(layer.stride)} positions"
    )
    tints = np.linspace(0.1, 0.4, number).reshape(counts.shape)  # they tell phases apart and are no strengths
    return cell(tints, label, copies=2, side=side, words=words, most=1.0)
