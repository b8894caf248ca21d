"""The harmonic F-test of a plane's lines, against sums written out and scipy's F distribution."""

from __future__ import annotations

import naive_measure as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evenly.measure.lines import PlaneSums, chosen, combine
from evenly.measure.tapers import new_lines, plan, slepian

PERIODS = (2, 3, 4, 5, 6, 8, 12)


def lines_of(plane, periods=PERIODS, weights=(), step=None):
    """Lines of a plane by base, given in strips of some rows."""
    sums = PlaneSums(plan(*plane.shape, periods), len(weights))
    step = step or len(plane)
    for start in range(0, len(plane), step):
        part = slice(start, start + step)
        rows = plane[part].astype(np.float32)
        sums.add(start, rows, *(w[part].astype(np.float32) for w in weights))
    return sums.lines()


def by_period(grids, period):
    return next(g for g in grids.values() if period in g.group.periods)


@pytest.mark.parametrize("shape", [(24, 31), (47, 40), (61, 110)])
@pytest.mark.parametrize("weights", [0, 1, 2])
def test_every_line_is_the_sum_written_out(shape, weights):
    rng = np.random.default_rng(0)
    plane = (
        rng.standard_normal(shape) + 0.3 * naive.cosine(shape, 4, (1, 2), 0.5) + 0.2 * naive.cosine(shape, 2, (1, 0))
    )
    weighted = [rng.uniform(0.2, 1, shape), rng.uniform(-1, 1, shape)][:weights]
    grids = lines_of(plane, weights=weighted)
    assert grids
    for base, grid in grids.items():
        count = grid.group.tapers
        down, along = slepian(shape[0], (count + 1) / 2, count), slepian(shape[1], (count + 1) / 2, count)
        flat = naive.tapered_sum(np.ones(shape), down, along, (0, 0), 1).real
        gained = [naive.tapered_sum(w, down, along, (0, 0), 1).real for w in weighted]
        steerings = {0: [[flat]], 1: [gained, [flat]], 2: [gained[:1], [flat], gained]}[weights]
        for period in grid.group.periods:
            index, at = chosen(grid, period)
            assert np.array_equal(index * (base // period), np.stack(at, 1))
            for number, line in enumerate(index.tolist()):
                where = at[0][number], at[1][number]
                y = naive.tapered_sum(plane, down, along, line, period)
                real = all(2 * n % period == 0 for n in line)
                assert grid.y[where] == pytest.approx(y.ravel(), abs=2e-4)
                expected = [naive.line_log_p(y, g, real) for g in steerings]
                assert [p[where] for p in grid.log_p] == pytest.approx(expected, rel=1e-3, abs=1e-4)
                g = steerings[0][0].ravel()
                wave = (1 if real else 2) * (y.ravel() @ g) / (g @ g)
                assert grid.wave[where] == pytest.approx(wave, abs=1e-4)
                power = abs(y.ravel() @ g) ** 2 / (g @ g)
                assert grid.power[where] == pytest.approx(power, rel=1e-3, abs=1e-4)
                background = ((np.abs(y) ** 2).sum() - power) / (count**2 - 1)
                assert grid.background[where] == pytest.approx(background, rel=1e-3)


@given(st.integers(1, 80))
def test_strips_of_any_height_give_the_same(step):
    rng = np.random.default_rng(0)
    plane, weights = rng.standard_normal((70, 45)), rng.uniform(0.1, 1, (2, 70, 45))
    whole, parts = lines_of(plane, weights=weights), lines_of(plane, weights=weights, step=step)
    for base, grid in whole.items():
        assert np.allclose(grid.log_p, parts[base].log_p, rtol=1e-3, atol=1e-4)


@given(
    st.sampled_from(PERIODS),
    st.floats(0.01, 5),
    st.floats(-np.pi, np.pi),
    st.integers(50, 90),
    st.integers(0, 2**32 - 1),
)
def test_a_cosine_alone_has_its_amplitude_and_phase(period, amplitude, phase, width, seed):
    lines = new_lines(period)
    line = lines[seed % len(lines)]
    real = bool((2 * line % period == 0).all())
    phase = (0.0 if phase > 0 else np.pi) if real else phase
    plane = amplitude * naive.cosine((64, width), period, tuple(line), phase)
    grid = by_period(lines_of(plane, (period,)), period)
    index, at = chosen(grid, period)
    here = int(np.flatnonzero((index == line).all(1))[0])
    wave = grid.wave[at][here]
    assert abs(wave - amplitude * np.exp(1j * phase)) < 0.02 * amplitude
    assert grid.log_p[0][at][here] == grid.log_p[0][at].min()


@pytest.mark.parametrize("shape", [(24, 24), (30, 40), (64, 64)])
def test_p_values_are_uniform_in_white_noise(shape):
    rng = np.random.default_rng(0)
    found: dict[tuple[int, bool], list[float]] = {}
    for _ in range(250):
        grids = lines_of(rng.standard_normal(shape), (2, 4, 8))
        for period in (p for g in grids.values() for p in g.group.periods):
            grid = by_period(grids, period)
            _, at = chosen(grid, period)
            found.setdefault((period, period == 2), []).extend(np.exp(grid.log_p[0][at]).tolist())
    for values in found.values():
        assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_an_empty_plane_says_nothing():
    for grid in lines_of(np.zeros((40, 50))).values():
        assert not grid.log_p.any()
        assert not grid.wave.any()
        assert np.isfinite(grid.background).all()


def test_combined_evidence_of_noise_is_honest():
    rng = np.random.default_rng(0)
    for period in (2, 4, 8):
        index = new_lines(period)
        draws = np.log(rng.uniform(size=(1500, 1, len(index))))
        found = [combine(d, index) for d in draws]
        for part in ("together", "along", "down", "diagonal"):
            share = np.mean([getattr(e, part) < np.log(0.01) for e in found])
            assert 0.002 < share < 0.021  # 0.01, four standard errors, and what Cauchy's combination leaves


@pytest.mark.parametrize("period", [2, 3, 4, 8])
def test_evidence_goes_to_the_axis_of_its_lines(period):
    index = new_lines(period)
    axes = {"along": index[:, 0] == 0, "down": index[:, 1] == 0}
    axes["diagonal"] = ~(axes["along"] | axes["down"])
    for part, lines in axes.items():
        evidence = combine(np.where(lines, -20.0, -0.7)[None], index)
        assert getattr(evidence, part) < -15
        assert evidence.together < -15
        assert all(getattr(evidence, other) > -3 for other in axes if other != part)


def test_evidence_of_either_steering_counts():
    index = new_lines(4)
    nothing, much = np.full(len(index), -0.7), np.full(len(index), -9.0)
    both = [combine(np.array(pair), index) for pair in ((nothing, much), (much, nothing))]
    assert both[0] == both[1]
    assert both[0].together < -20
