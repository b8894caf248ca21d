"""One picture transposed, brightened, or cut elsewhere: what has to stay, and what has to follow."""

from __future__ import annotations

import os
from unittest import mock

import naive_measure as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenly.measure import image
from evenly.measure.image import measure_image
from evenly.measure.result import PERIODS
from evenly.measure.tapers import new_lines, plan

PROVE = os.environ.get("EVENLY_PROVE") == "1"
seeds = st.integers(0, 2**32 - 1)


def traces(measured):
    return {(p, name): t for p, r in measured.periods.items() for name, t in r.traces().items() if t is not None}


def stored(bases):
    """Frequencies ``(base, a, b)`` in the order of the grids: ``b`` up to half, conjugates of others left out."""
    return [(base, a, b) for base in bases for a in range(base) for b in range(base // 2 + 1)]


def every_frequency_once(bases, base, lines):
    """In place of a line's nearest frequencies: all, of a pair of stored conjugates (``b`` 0 or half) one."""
    once = {}
    for n, (of, a, b) in enumerate(stored(bases)):
        once.setdefault((of, frozenset({(a, b), (-a % of, -b % of)})), n)
    return np.tile(list(once.values()), (len(lines), 1))


@settings(max_examples=100 if PROVE else 8)
@given(st.integers(24, 110), st.integers(24, 110), seeds)
def test_a_transposed_picture_swaps_its_axes(height, width, seed):
    pixels = naive.texture(np.random.default_rng(seed), (height, width, 3))
    # All p-values swap. The dB do as far as they are powers over backgrounds. Which 24 backgrounds are the nearest is
    # not symmetric: of several frequencies as far from a line any may be among them, and those on b = 0 and b = 1/2
    # are stored with their conjugates and count twice. At 24 px, where a background is known to some dB, that changes
    # the dB by up to 3. So here every frequency is a neighbour; the choice is tested below, by itself.
    with mock.patch.object(image, "_neighbours", every_frequency_once):
        found, turned = traces(measure_image(pixels)), traces(measure_image(pixels.transpose(1, 0, 2)))
    assert found.keys() == turned.keys()
    for key, trace in found.items():
        other = turned[key]
        sides = (trace.log10_p, trace.log10_p_x, trace.log10_p_y, trace.log10_p_diagonal)
        swapped = (other.log10_p, other.log10_p_y, other.log10_p_x, other.log10_p_diagonal)
        for one, two in zip(sides, swapped, strict=True):
            assert (one is None) == (two is None)
            assert one is None or one == pytest.approx(two, rel=5e-3, abs=5e-3), key
        assert trace.db == pytest.approx(other.db, abs=0.02), key


@pytest.mark.parametrize("side", [22, 30, 46, 70, 98, 158, 254])
def test_backgrounds_are_those_of_the_nearest_frequencies(side):
    groups = plan(side, side, PERIODS).groups
    bases = tuple(g.base for g in groups)
    places = np.array([(a / base, b / base) for base, a, b in stored(bases)])
    for group in groups:
        for period in group.periods:
            lines = new_lines(period) * (group.base // period)
            chosen = image._neighbours(bases, group.base, tuple(map(tuple, lines.tolist())))
            for line, near in zip(lines / group.base, chosen, strict=True):
                apart = np.stack([places - line, -places - line])  # of a frequency, and of its conjugate
                far = np.hypot(*np.moveaxis(apart - np.rint(apart), -1, 0))
                nearest = np.sort(far, axis=None)[: image._NEIGHBOURS]
                assert len(near) == len(nearest)
                assert max(np.bincount(near)) <= 2  # itself and its conjugate
                assert far.min(0)[near].max() <= nearest[-1] + 1e-9
                inside = (far < nearest[-1] - 1e-9).sum(0)
                assert (np.bincount(near, minlength=len(places)) >= inside).all()  # all that are nearer than the last


@settings(max_examples=100 if PROVE else 8)
@given(st.floats(-60, 60), seeds)
def test_a_constant_added_changes_nothing(constant, seed):
    pixels = np.clip(naive.texture(np.random.default_rng(seed), (50, 61, 3)), 60, 195)
    one, two = (traces(measure_image(p, (2, 4, 5))) for p in (pixels, pixels + constant))
    for key, trace in one.items():
        assert trace.log10_p == pytest.approx(two[key].log10_p, rel=5e-3, abs=5e-3)


@settings(max_examples=100 if PROVE else 10)
@given(st.sampled_from([2, 3, 4, 5, 7, 8]), st.integers(0, 9), st.integers(0, 9), seeds)
def test_phases_follow_the_first_pixel(period, dy, dx, seed):
    rng = np.random.default_rng(seed)
    whole = 128 + 2 * rng.standard_normal((90, 95))
    for line in new_lines(period):  # all strong: of a cell drawn at random every line may happen to be weak
        phase = np.pi * rng.integers(2) if period == 2 else rng.uniform(-np.pi, np.pi)
        whole += rng.uniform(1.5, 3) * naive.cosine(whole.shape, period, line, phase)
    one, two = (
        measure_image(whole[y : y + 80, x : x + 80], [period]).periods[period].mean for y, x in ((0, 0), (dy, dx))
    )
    expected = one.lines.phase + 2 * np.pi * (one.lines.index @ [dy, dx]) / period
    assert (one.lines.log10_p < -4).all()
    turned = np.exp(1j * (two.lines.phase - expected))
    assert np.abs(np.angle(turned)).max() < 0.25
