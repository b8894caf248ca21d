"""Folding by phase against plain loops; the effect against its definition; the test against counting all shifts."""

from __future__ import annotations

from itertools import product
from math import gcd, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenly.errors import InputShapeError, ParameterError
from evenly.measure.phases import (
    PhaseEffect,
    PhaseState,
    check_periods,
    fits,
    fold,
    measure_phases,
    new_lines,
    samples_needed,
    shift_test,
)


def naive_weights(size, period, margin):
    length = period * (max(size - 2 * margin, 0) // period)
    start = (size - length) // 2
    return {x: np.sin(np.pi * (x - start + 0.5) / length) ** 2 for x in range(start, start + length)}


def naive_fold(plane, period, margin):
    """Profile and variance within phases of one 2-D map, by its definition."""
    rows, columns = (naive_weights(s, period, margin) for s in plane.shape)
    mean, second = np.zeros((period, period)), np.zeros((period, period))
    centred = plane - plane.mean()
    for i, j in product(range(period), repeat=2):
        weight = {
            (y, x): v * w for y, v in rows.items() for x, w in columns.items() if (y % period, x % period) == (i, j)
        }
        total = sum(weight.values())
        mean[i, j] = sum(centred[at] * w for at, w in weight.items()) / total
        second[i, j] = sum(centred[at] ** 2 * w for at, w in weight.items()) / total
    return mean, (second - mean**2).mean()


@given(
    st.integers(2, 5), st.integers(0, 3), st.integers(0, 4), st.integers(0, 4), st.integers(0, 2), st.integers(0, 999)
)
def test_folding_is_the_weighted_mean_of_each_phase(period, whole, more, even_more, margin, seed):
    sizes = (period * (3 + whole) + more + 2 * margin, 3 * period + even_more + 2 * margin)
    maps = np.random.default_rng(seed).standard_normal((2, 2, *sizes)) + 5
    profile, within, independent = fold(maps, period, margin)
    mean, spread = naive_fold(maps[1, 0], period, margin)
    np.testing.assert_allclose(profile[1, 0], mean, atol=1e-12)
    np.testing.assert_allclose(within[1, 0] * (1 - independent), spread, atol=1e-12)


def test_within_phase_variance_of_noise_is_its_variance():
    maps = 3 * np.random.default_rng(0).standard_normal((400, 1, 24, 24))
    for period in (2, 3, 4):
        profile, within, independent = fold(maps, period)
        assert within.mean() == pytest.approx(9, rel=0.02)
        assert (profile**2).mean() == pytest.approx(9 * independent, rel=0.15)


def test_tensors_fold_as_arrays_do():
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).standard_normal((3, 2, 20, 17))
    for one, other in zip(fold(maps, 3), fold(torch.from_numpy(maps), 3), strict=True):
        np.testing.assert_allclose(one, np.asarray(other), atol=1e-14)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("period", [2, 3, 4, 6, 8])
def test_new_lines_are_those_with_gcd_one(period, axes):
    index, weight = new_lines(period, axes)
    expected = {a for a in product(range(period), repeat=axes) if gcd(*a, period) == 1}
    found = [tuple(a) for a in index.tolist()]
    conjugates = [tuple(-i % period for i in a) for a in found]
    assert {*found, *conjugates} == expected
    assert len(set(found)) == len(found)
    assert weight.sum() == len(expected)
    if axes == 2 and period in (2, 4, 8):
        assert len(found) == {2: 3, 4: 6, 8: 24}[period]


def pattern(cell, sizes):
    return np.tile(cell, [-(-s // c) for s, c in zip(sizes, cell.shape, strict=True)])[tuple(map(slice, sizes))]


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 99))
def test_the_effect_is_the_new_variance_of_the_phase_means_over_the_noise(period, axes, seed):
    rng = np.random.default_rng(seed)
    cell = rng.standard_normal((period,) * axes)
    sizes = (5 * period,) * axes
    samples = 800 if axes == 1 else 60
    noise = rng.standard_normal((samples, 2, *sizes))
    maps = noise + 3 * pattern(cell, sizes)
    expected = 0.0
    spectrum = np.abs(np.fft.fftn(3 * cell) / cell.size) ** 2
    for a in product(range(period), repeat=axes):
        expected += spectrum[a] if gcd(*a, period) == 1 else 0
    effect = measure_phases(maps, [period], draws=99)[period]
    assert effect.ratio == pytest.approx(expected, rel=0.25, abs=0.1)
    assert effect.samples == samples


def test_what_period_2_explains_is_no_effect_of_its_multiples():
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((24, 3, 32, 32)) + pattern(np.array([[1.0, -1.0], [0.5, -0.5]]), (32, 32))
    found = measure_phases(maps, (2, 3, 4, 8))
    assert found[2].p == 0.001
    assert found[2].ratio == pytest.approx(0.625, rel=0.1)
    assert found[2].db == pytest.approx(-2.04, abs=0.5)
    assert found[2].fraction == pytest.approx(0.385, abs=0.03)
    for p in (3, 4, 8):
        assert found[p].ratio < 1e-3
        assert found[p].p > 0.01


@pytest.mark.parametrize(("period", "axes", "samples"), [(2, 1, 5), (3, 1, 4), (2, 2, 3)])
def test_all_shifts_are_counted_where_they_are_few(period, axes, samples):
    rng = np.random.default_rng(2)
    profiles = rng.standard_normal((samples, 2) + (period,) * axes) + 0.7 * rng.standard_normal((period,) * axes)
    index, weight = new_lines(period, axes)
    where = tuple(range(2, 2 + axes))

    def statistic(shifted):
        lines = np.fft.fftn(shifted, axes=where)[(slice(None), slice(None), *index.T)]
        return (np.abs(lines.sum(0)) ** 2 * weight).sum()

    observed = statistic(profiles)
    values = []
    for shifts in product(product(range(period), repeat=axes), repeat=samples):
        moved = np.stack([np.roll(p, s, tuple(range(1, 1 + axes))) for p, s in zip(profiles, shifts, strict=True)])
        values.append(statistic(moved))
    expected = np.mean(np.array(values) >= observed * (1 - 1e-9))
    lines = np.fft.fftn(profiles, axes=where)[(slice(None), slice(None), *index.T)] * np.sqrt(weight)
    exact = shift_test(lines, index, period, draws=10**6, rng=rng)
    drawn = shift_test(lines, index, period, draws=period ** (axes * (samples - 1)) - 1, rng=rng)
    assert exact == pytest.approx(expected)
    assert drawn == pytest.approx(expected, abs=0.35)
    assert drawn * period ** (axes * (samples - 1)) == pytest.approx(round(drawn * period ** (axes * (samples - 1))))


@pytest.mark.parametrize("kind", ["white", "smooth", "trend"])
def test_p_values_hold_where_there_is_no_pattern(kind):
    rng = np.random.default_rng(3)
    found = []
    for _ in range(120):
        maps = rng.standard_normal((16, 2, 20, 20))
        if kind == "smooth":
            maps = sum(np.roll(maps, s, (2, 3)) for s in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1)))
        if kind == "trend":
            maps = 0.05 * maps + rng.standard_normal((16, 2, 1, 1)) * np.linspace(0, 1, 20)
        found += [e.p for e in measure_phases(maps, (2, 3, 4), draws=99).values()]
    # 360 draws: 18 expected below 0.05 with a standard deviation of 4
    assert 4 <= np.sum(np.array(found) <= 0.05) <= 34
    assert 0.4 < np.mean(found) < 0.6


def test_more_channels_than_are_kept_count_all_the_same():
    rng = np.random.default_rng(4)
    maps = rng.standard_normal((16, 100, 12, 12))
    maps[:, :50] += 0.4 * pattern(np.array([[1.0, -1.0]]), (12, 12))
    state = PhaseState(2, seed=1)
    for part in np.split(maps, 4):
        assert state.add(part)
    effect = state.result(199)
    assert effect.ratio == pytest.approx(0.08, rel=0.15)
    assert effect.p == 1 / 200
    assert measure_phases(rng.standard_normal((16, 100, 12, 12)), [2])[2].p > 0.05


def test_few_samples_are_measured_but_not_tested():
    assert [samples_needed(p) for p in (2, 3, 4, 8, 16)] == [8, 6, 5, 4, 3]
    rng = np.random.default_rng(5)
    maps = rng.standard_normal((200, 1, 16, 16)) + 0.5 * pattern(np.array([[1.0, -1.0]]), (16, 16))
    effect = measure_phases(maps[:7], [2])[2]
    assert effect.p is None
    assert effect.log10_p is None
    assert "needs at least 8" in effect.note
    assert effect.ratio == pytest.approx(0.25, rel=0.3)
    single = [measure_phases(m[None], [2])[2].ratio for m in maps]
    assert np.mean(single) == pytest.approx(0.25, rel=0.15)  # its own noise is taken off
    assert measure_phases(maps[:8], [2])[2].p <= 0.01


def test_constants_have_no_effect_and_patterns_without_noise_have_nothing_else():
    rng = np.random.default_rng(6)
    constant = 7 * (1 + 1e-7 * rng.standard_normal((12, 2, 16, 16)))
    effect = measure_phases(constant, [2])[2]
    assert (effect.ratio, effect.p, effect.db) == (0, 1, None)
    clean = np.broadcast_to(pattern(np.array([[0.0, 1.0]]), (16, 16)), (12, 1, 16, 16))
    effect = measure_phases(clean, [2])[2]
    assert effect.ratio == inf or effect.ratio > 1e12
    assert effect.fraction == pytest.approx(1)
    assert effect.p <= 0.005  # one of 2^11 draws of shifts along the axis gives as much
    assert PhaseEffect(2, 9, inf, 0.01).to_dict()["ratio"] is None
    assert PhaseEffect(2, 9, inf, 0.01).db is None


def test_small_maps_and_bad_periods_are_refused():
    assert fits((6,), 2, 0)
    assert not fits((5,), 2, 0)
    assert not fits((8, 5), 2, 0)
    assert measure_phases(np.zeros((9, 1, 8, 8)), [4])[4] is None
    with pytest.raises(InputShapeError, match="fewer than 3 whole periods of 4"):
        fold(np.zeros((1, 1, 8)), 4)
    assert check_periods([8, 2, 2]) == (2, 8)
    for wrong in ([], [1], [2.5], [True]):
        with pytest.raises(ParameterError, match="at least 2"):
            check_periods(wrong)
