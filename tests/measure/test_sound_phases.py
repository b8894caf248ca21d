"""Walks of given steps in random directions: against random numbers, closed forms and a plain count."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2, norm

from evenly.measure.sound_phases import TOLD, Walks, line_walk_log_p, mirrored, walk_log_p

DRAWS = 200_000
STEPS = {
    "two": [1.0, 1.0],
    "two unequal": [1.0, 0.3],
    "three": [1.0, 1.0, 1.0],
    "four unequal": [3.0, 1.0, 1.0, 0.1],
    "eight": [1.0] * 8,
    "falling": list(0.6 ** np.arange(10)),
    "one and many": [5.0, *[1.0] * 20],
    "few and many": [*[3.0] * 3, *[1.0] * 60],
    "heavy tail": list(np.random.default_rng(1).exponential(size=60) ** 2),
}


def split(steps):
    ordered = np.sort(np.array(steps))[::-1]
    told = np.zeros(TOLD)
    told[: min(TOLD, ordered.size)] = ordered[:TOLD]
    return told, float((ordered[TOLD:] ** 2).sum())


def one(steps, distance):
    told, rest = split(steps)
    return walk_log_p(told[None], np.array([rest]), np.array([distance]))[0]


@pytest.mark.parametrize("name", STEPS)
def test_walks_in_the_plane_end_as_far_as_they_should(name):
    rng, ends = np.random.default_rng(2), np.zeros(DRAWS, complex)
    for step in STEPS[name]:
        ends += step * np.exp(2j * np.pi * rng.random(DRAWS))
    for p in (0.1, 0.01, 0.001):
        error = 4 / math.sqrt(p * DRAWS)
        ratio = math.exp(one(STEPS[name], np.quantile(np.abs(ends), 1 - p))) / p
        assert 0.9 - error < ratio < (1.2 if len(STEPS[name]) <= TOLD else 1.5) + error


@pytest.mark.parametrize("name", STEPS)
def test_walks_on_a_line_end_as_far_as_they_should(name):
    rng, ends = np.random.default_rng(3), np.zeros(DRAWS)
    for step in STEPS[name]:
        ends += step * rng.choice([-1.0, 1.0], DRAWS)
    told, rest = split(STEPS[name])
    for p in (0.1, 0.01, 0.001):
        distance = np.quantile(np.abs(ends), 1 - p) - 1e-9
        true = np.mean(np.abs(ends) >= distance)
        exact, ratio = len(STEPS[name]) <= 12, math.exp(line_walk_log_p(told, rest, distance)) / true
        error = 4 / math.sqrt(true * DRAWS)
        assert (1 if exact else 0.95) - error < ratio < (1 if exact else 1.8) + error


def test_two_steps_in_closed_form():
    """They get as far as ``2 cos(a/2)`` when their angles differ by less than ``a``."""
    for angle in (0.5, 1e-2, 1e-4):
        assert one([1.0, 1.0], 2 * math.cos(angle / 2)) == pytest.approx(math.log(angle / math.pi), abs=0.06)


def test_many_small_steps_are_normal():
    for distance in (1.0, 30.0, 100.0):
        assert one([1.0] * 4000, distance) == pytest.approx(-(distance**2) / 4000, rel=0.01)


def test_steps_that_all_agree():
    """The volume of all directions that agree so well, an ellipsoid's, over all directions."""
    n, left = 6, 1e-4  # distance lacking
    ellipsoid = math.pi ** ((n - 1) / 2) / math.gamma((n + 1) / 2) * (2 * left) ** ((n - 1) / 2) * math.sqrt(n)
    exact = math.log(ellipsoid) - (n - 1) * math.log(2 * math.pi)
    assert one([1.0] * n, n - left) == pytest.approx(exact, abs=0.02)
    assert one([1.0] * 5, 5.0) < -45
    assert line_walk_log_p(np.ones(12), 0.0, 12.0) == pytest.approx(-11 * math.log(2))
    assert one([1.0] * 300, 300.0) < -250


def test_a_plain_count_on_the_line():
    steps, distance = np.array([3.0, 2.0, 1.5, 0.2]), 4.0
    ends = [abs(np.dot(signs, steps)) for signs in product((-1, 1), repeat=4)]
    expected = sum(end >= distance for end in ends) / 16
    assert line_walk_log_p(steps, 0.0, distance) == pytest.approx(math.log(expected))
    equal = [binom.sf(k - 1, 40, 0.5) * 2 for k in (26, 30)]
    found = [line_walk_log_p(np.ones(12), 28.0, 2 * k - 40) for k in (26, 30)]
    assert found == pytest.approx(np.log(equal), abs=0.5)


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=60), st.floats(0.01, 1.0), st.floats(1e-9, 1e9))
def test_log_p_is_a_falling_function_and_free_of_units(steps, share, unit):
    total = sum(steps)
    near, far = one(steps, 0.9 * share * total), one(steps, share * total)
    assert -1e4 < far <= near + 0.1  # within what the approximation is good for, where one step leads
    assert max(far, near) <= 0
    assert one([unit * s for s in steps], unit * share * total) == pytest.approx(far, abs=1e-4, rel=1e-4)


def test_walks_grow_a_step_at_a_time():
    rng = np.random.default_rng(4)
    steps = rng.standard_normal((20, 3)) + 1j * rng.standard_normal((20, 3))
    steps[:, 2] = steps[:, 2].real
    walks = Walks(np.array([False, False, True]))
    for step in steps:
        walks.add(step)
    found = walks.log_p()
    for i in (0, 1):
        assert found[i] == pytest.approx(one(np.abs(steps[:, i]), abs(steps[:, i].sum())))
    told, rest = split(np.abs(steps[:, 2]))
    assert found[2] == pytest.approx(line_walk_log_p(told, rest, abs(steps[:, 2].sum())))
    assert Walks(np.array([False, True])).log_p() == pytest.approx([0, 0])


def test_to_and_fro_along_a_direction():
    x = np.array([0.0, 1.0, 4.0, 900.0])
    assert mirrored(-x) == pytest.approx(chi2.logsf(x, 1))
    assert mirrored(np.array([-4.0]))[0] == pytest.approx(math.log(2 * norm.sf(2)))
