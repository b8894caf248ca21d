"""Levels of lines, planted and absent."""

from __future__ import annotations

import numpy as np
import pytest

from evenly.errors import ParameterError
from evenly.fix.levels import NEAR, hann, line_levels, line_powers, resolvable


def test_noise_has_no_lines():
    noise = np.random.default_rng(0).standard_normal((400, 1, 48, 48))
    against = np.random.default_rng(1).standard_normal((400, 1, 48, 48))
    found, other = line_levels(noise, [2, 3, 4]), line_levels(against, [2, 3, 4])
    assert all(abs(found[p].over(other[p])) < 1.3 for p in (2, 3, 4))


@pytest.mark.parametrize("period", [2, 3, 4, 8])
@pytest.mark.parametrize("axes", [1, 2])
def test_a_planted_pattern_is_seen_at_its_period_only(period, axes):
    rng = np.random.default_rng(period)
    size = 96 if axes == 1 else 64
    noise = rng.standard_normal((60, 2, *(size,) * axes))
    cell = np.zeros(period)
    cell[0] = 1.0
    pattern = np.resize(cell - cell.mean(), size).reshape(size, *(1,) * (axes - 1))
    clean, planted = (line_levels(noise + s * pattern, [2, 3, 4, 8]) for s in (0.0, 2.0))
    for p, level in planted.items():
        rise = level.near_db - clean[p].near_db
        if p == period:
            assert rise > 3
        elif period % p:  # a cell of period 8 also has lines of 2 and 4
            assert rise < 0.5  # it may fall: the pattern can be a neighbour


def test_powers_are_those_of_a_direct_transform():
    signal = np.random.default_rng(0).standard_normal((3, 2, 20, 17))
    found = line_powers(signal, (0.25, 0.5), 1)
    window = np.outer(hann(20), hann(17))
    for y, x in ((0, 0), (-1, 1)):
        phase = np.outer(
            np.exp(-2j * np.pi * (0.25 + y / 20) * np.arange(20)), np.exp(-2j * np.pi * (0.5 + x / 17) * np.arange(17))
        )
        naive = (np.abs((signal * window * phase).sum((2, 3))) ** 2).mean(1)
        np.testing.assert_allclose(found[:, 1 + y, 1 + x], naive)


def test_small_and_flat_signals():
    assert not resolvable((10,), 2)
    assert resolvable((2 * NEAR * 2,), 2)
    assert line_levels(np.zeros((2, 1, 40)), [2, 16]) == {2: line_levels(np.zeros((2, 1, 40)), [2])[2]}
    assert line_levels(np.zeros((2, 1, 40)), [2])[2].signals == 0


def test_shapes_are_checked():
    with pytest.raises(ParameterError, match="one to three axes"):
        line_levels(np.zeros((3, 4)), [2])
