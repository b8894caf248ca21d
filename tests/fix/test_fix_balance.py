"""Balanced weights against general least squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenly.errors import ParameterError
from evenly.fix.balance import balanced
from evenly.fix.scatter import Scatter, subpixel, transposed
from evenly.fix.solve import Calibration, moments
from evenly.theory.balance import moment_conditions, subpixel_places, transposed_places


def _layer(kernel: int, stride: int, axes: int, seed: int):
    rng = np.random.default_rng(seed)
    size = 9
    axis = transposed(size, (size - 1) * stride + kernel - 2, kernel, stride, 1, 1)
    table = Scatter((axis,) * axes, 2)
    x = rng.standard_normal((12, 2, *(size,) * axes)) + rng.standard_normal((1, 2, *(1,) * axes))
    weights = rng.standard_normal((table.taps * 2 + 1, 3))
    return table, x, weights, transposed_places((kernel,) * axes), (stride,) * axes


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(3, 2), (4, 2), (5, 3), (3, 3)]), st.integers(1, 2), st.integers(0, 99))
def test_balanced_is_the_nearest_that_meets_the_condition(shape, axes, seed):
    table, x, weights, places, stride = _layer(*shape, axes, seed)
    known = moments(table, [Calibration(x, table.output(x, weights))], [])
    found = balanced(known, weights, places, stride, ridge=0.0)
    conditions = np.kron(moment_conditions(places, stride), np.eye(2))
    np.testing.assert_allclose(conditions @ found[:-1], 0, atol=1e-9)
    # every step along the condition only makes it worse
    null = np.linalg.svd(np.concatenate([conditions, np.zeros((len(conditions), 1))], 1))[2]
    null = null[np.linalg.matrix_rank(conditions) :]
    np.testing.assert_allclose(null @ known.gram @ (found - weights), 0, atol=1e-7)
    # and a constant stays constant inside
    y = table.output(np.full((1, 2, *(9,) * axes), 0.7), found)
    inner = y[(0, slice(None), *(slice(2 * shape[0], -2 * shape[0]),) * axes)]
    assert np.ptp(inner.reshape(3, -1), axis=1).max(initial=0) < 1e-9


def test_less_change_than_the_projection_of_the_weights():
    table, x, weights, places, stride = _layer(4, 2, 2, 0)
    x = np.cumsum(np.cumsum(x, 2), 3)  # smooth features: neighbours are alike, so there is something to gain
    known = moments(table, [Calibration(x, table.output(x, weights))], [])
    by_output = balanced(known, weights, places, stride)
    by_weights = balanced(known, weights, places, stride, ridge=1e9)
    assert known.change(by_output, weights) < 0.8 * known.change(by_weights, weights)


def test_strength_is_a_frontier():
    table, x, weights, places, stride = _layer(3, 2, 1, 1)
    known = moments(table, [Calibration(x, table.output(x, weights))], [])
    changes = [known.change(balanced(known, weights, places, stride, strength=a), weights) for a in (0, 0.5, 1)]
    assert changes[0] == 0
    assert changes[1] == pytest.approx(changes[2] / 4)
    with pytest.raises(ParameterError, match="strength"):
        balanced(known, weights, places, stride, strength=1.5)


def test_subpixel_layers_too():
    rng = np.random.default_rng(0)
    axis = subpixel(8, 3, 2, 1, 1)
    table = Scatter((axis, axis), 2)
    x, weights = rng.standard_normal((4, 2, 8, 8)) + 1, rng.standard_normal((table.taps * 2 + 1, 1))
    known = moments(table, [Calibration(x, table.output(x, weights))], [])
    found = balanced(known, weights, subpixel_places((3, 3), (2, 2)), (2, 2))
    y = table.output(np.ones((1, 2, 8, 8)), found)[0, 0, 4:-4, 4:-4]
    assert np.ptp(y) < 1e-9


def test_what_cannot_be_balanced_is_refused():
    table, x, weights, places, _ = _layer(3, 2, 1, 1)
    known = moments(table, [Calibration(x, table.output(x, weights))], [])
    with pytest.raises(ParameterError, match="no tap"):
        balanced(known, weights, places, (4,))
