"""Lines that are new at a period, Slepian tapers, and the grids of frequencies that are evaluated."""

from __future__ import annotations

import naive_measure as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenly.measure.tapers import bandwidth, new_lines, plan, slepian

PERIODS = (2, 3, 4, 5, 6, 7, 8, 9, 12, 16)
SMALLEST = 48  # pixels of the plane: below, bands are wider again


@pytest.mark.parametrize("period", range(2, 33))
def test_new_lines_are_one_of_every_conjugate_pair(period):
    lines = [tuple(line) for line in new_lines(period).tolist()]
    pairs = naive.new_lines(period)
    assert len(lines) == len(pairs) == naive.count_of_new_lines(period)
    assert all(sum(line in pair for line in lines) == 1 for pair in pairs)
    assert lines == sorted(lines)
    assert all(0 <= a < period and 0 <= b <= period // 2 for a, b in lines)


def test_new_lines_of_the_periods_in_theory():
    assert [len(new_lines(p)) for p in (2, 4, 8)] == [3, 6, 24]
    assert new_lines(2).tolist() == [[0, 1], [1, 0], [1, 1]]


@given(st.integers(24, 300), st.sampled_from(PERIODS))
def test_lines_of_one_period_share_no_taper(shorter, period):
    half = bandwidth(shorter, period)
    assert half == 0 or half >= 2  # fewer than three tapers tell nothing
    assert half * period <= shorter  # the band of a line ends before the next line's middle
    if shorter + 1 != SMALLEST:
        assert bandwidth(shorter + 1, period) >= half
    assert bandwidth(shorter, period + 1) <= half


def test_the_smallest_pictures_have_a_wider_band_where_lines_are_far_apart():
    assert [bandwidth(26, p) for p in (2, 3, 4)] == [2.5, 2.5, 2.0]  # 28 pixels less the margin
    assert [bandwidth(30, p) for p in (2, 3, 4)] == [2.5, 2.5, 2.0]
    assert bandwidth(SMALLEST - 1, 2) == 2.5
    assert bandwidth(SMALLEST, 2) == 2.0
    assert len(plan(26, 26, (2,)).groups[0].taper_rows) == 4
    assert {bandwidth(n, p) for n in range(SMALLEST, 500) for p in PERIODS} == {0.0, 2.0, 3.0, 4.0, 6.0}


def test_which_periods_fit_into_small_pictures():
    def testable(side):
        return {p for p in PERIODS if bandwidth(side, p)}

    assert testable(22) == {2, 3, 4, 5, 6, 7}  # a picture of 24 pixels less its margin
    assert testable(26) == {2, 3, 4, 5, 6, 7, 8}
    assert 16 not in testable(49)
    assert 16 in testable(50)
    assert bandwidth(1, 2) == 0


@pytest.mark.parametrize(("length", "half", "count"), [(22, 2.0, 3), (61, 3.0, 5), (254, 6.0, 11)])
def test_tapers_are_orthonormal_and_concentrated_in_their_band(length, half, count):
    tapers = slepian(length, half, count)
    assert np.allclose(tapers @ tapers.T, np.eye(count), atol=1e-9)
    distance = np.subtract.outer(np.arange(length), np.arange(length))
    w = half / length
    kernel = 2 * w * np.sinc(2 * w * distance)  # energy within the band is v' K v: Slepian's eigenvalue
    assert np.allclose(kernel @ tapers.T, tapers.T * np.diag(tapers @ kernel @ tapers.T), atol=1e-8)
    assert np.diag(tapers @ kernel @ tapers.T).min() > 0.9
    with pytest.raises(ValueError, match="read-only"):
        tapers[0, 0] = 1


@pytest.mark.parametrize("shape", [(22, 30), (59, 47), (128, 101), (200, 170)])
def test_every_testable_period_has_one_grid(shape):
    layout = plan(*shape, PERIODS)
    homes = [p for g in layout.groups for p in g.periods]
    assert sorted(homes) == [p for p in PERIODS if bandwidth(min(shape), p)]
    for group, (columns, tapers) in zip(layout.groups, layout.spans, strict=True):
        assert all(group.base % p == 0 for p in group.periods)
        assert group.base in group.periods
        assert np.array_equal(layout.columns[:, columns], group.columns)
        assert np.array_equal(layout.tapers[:, tapers], group.taper_columns)
        assert group.tapers >= 3
    assert layout.columns.shape == (shape[1], sum(g.columns.shape[1] for g in layout.groups))


def test_a_picture_too_small_for_any_period_has_an_empty_plan():
    layout = plan(20, 40, (8, 16))
    assert layout.groups == ()
    assert layout.columns.shape == (40, 0)
