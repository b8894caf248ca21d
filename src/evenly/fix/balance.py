"""Balance a layer: the DC condition at the smallest change of the layer's *output*, not of its weights.

The condition says that all phases have equal gains (:mod:`evenly.theory.balance`): ``c' w = 0`` for every excluded
direction ``c``, for every input channel alone. With the second moments ``A`` of the features, the weights that meet it
and come closest to `wanted` in the output are

    ``w = wanted - A^-1 C' (C A^-1 C')^-1 C wanted``.

``A = I`` is the projection of the weights alone. Layers whose input has changed, since layers before them were
repaired, are fitted anew in :mod:`evenly.fix.certified`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from evenly.errors import ParameterError
from evenly.fix.solve import Moments
from evenly.theory.balance import excluded_directions

__all__ = ["balanced"]

Array = NDArray[np.float64]


def balanced(
    known: Moments,
    wanted: Array,
    places: Sequence[Sequence[int]],
    stride: Sequence[int],
    *,
    strength: float = 1.0,
    order: int = 1,
    ridge: float = 1e-6,
) -> Array:
    """The nearest weights, by output, that meet the DC condition.

    Args:
        known: Of the calibration data.
        wanted: ``(F + 1, C_out)``: weights, taps first, and the bias.
        places: Places of the taps per axis, as :func:`evenly.theory.balance.transposed_places` gives them.
        stride: Up-sampling factor per axis.
        strength: 1 meets the condition, 0 changes nothing; between them the ripple falls in proportion.
        order: Order of the condition: 1 keeps constants, 2 slopes.
        ridge: Weight of the change of the weights themselves, relative to the features' mean second moment.

    Returns:
        ``(F + 1, C_out)``.

    Raises:
        ParameterError: If no kernel of this size meets the condition, or the strength is not within 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise ParameterError(f"strength (={strength}) must be within 0 (as it is) to 1 (balanced)")
    directions = excluded_directions(places, stride, order)  # (taps, rank)
    channels = (len(wanted) - 1) // len(directions)
    rows = np.kron(directions.T, np.eye(channels))  # (rank * channels, F)
    conditions = np.concatenate([rows, np.zeros((len(rows), 1))], axis=1)  # the bias is free
    spread = linalg.solve(_regular(known, ridge), conditions.T, assume_a="pos")
    correction: Array = spread @ linalg.solve(conditions @ spread, conditions @ wanted, assume_a="sym")
    return wanted - strength * correction


def _regular(known: Moments, ridge: float) -> Array:
    size = len(known.gram)
    regular: Array = known.gram + ridge * float(np.trace(known.gram)) / size * np.eye(size)
    return regular
