"""Tails of probabilities and their combinations, against scipy, mpmath and draws."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evenly.measure.probability import cauchy, fisher, half_log_p, line_log_p

logs = st.lists(st.floats(-300.0, -1e-6), min_size=1, max_size=60)
shares = st.floats(0.0, 1.0)


@given(shares, st.sampled_from([9, 25, 49, 121]))
def test_a_lines_p_is_that_of_thomsons_f(share, tapers):
    share = min(share, 1 - max(1e-9, 10 ** (-250 / tapers)))  # beyond, scipy's tails underflow
    found = line_log_p(np.array([share, share]), tapers, np.array([False, True]))
    ratio = share / (1 - share) * (tapers - 1)
    expected = [stats.f.logsf(ratio, c, c * (tapers - 1)) for c in (2, 1)]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)
    beta = [stats.beta.logsf(share, c, c * (tapers - 1)) for c in (1.0, 0.5)]
    assert found == pytest.approx(beta, rel=1e-6, abs=1e-7)


@given(shares, st.sampled_from([9, 25, 49]))
def test_two_directions_have_twice_the_degrees_of_freedom(share, tapers):
    share = min(share, 1 - max(1e-9, 10 ** (-200 / tapers)))
    found = line_log_p(np.array([share, share]), tapers, np.array([False, True]), 2)
    expected = [stats.beta.logsf(share, 2 * c, c * (tapers - 2)) for c in (1.0, 0.5)]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(st.lists(st.tuples(st.floats(1e-12, 0.9), st.floats(0.1, 3)), min_size=1, max_size=20))
def test_cauchy_weighs(parts):
    p, weights = np.array(parts).T
    expected = stats.cauchy.sf(np.average(stats.cauchy.isf(p), weights=weights))
    assert cauchy(np.log(p), weights) == pytest.approx(np.log(expected), rel=1e-6, abs=1e-9)
    tiny = cauchy(np.log(p) - 40, weights)  # 1 / p is averaged there
    assert tiny == pytest.approx(-40 - np.log(np.average(1 / p, weights=weights)), abs=0.02)


@pytest.mark.parametrize("tapers", [9, 25])
@pytest.mark.parametrize("real", [False, True])
def test_a_lines_p_is_uniform_in_noise(tapers, real):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((20000, tapers)) + (0 if real else 1j * rng.standard_normal((20000, tapers)))
    g = rng.standard_normal(tapers)
    share = np.abs(y @ g) ** 2 / (g @ g) / (np.abs(y) ** 2).sum(1)
    p = np.exp(line_log_p(share, tapers, np.full(len(share), real)))
    assert stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("b", [4.0, 12.0, 24.0, 60.0, 120.0])
@pytest.mark.parametrize("rest", [1.0, 0.999, 0.7, 0.1, 1e-3, 1e-8, 1e-15])
def test_half_log_p_has_a_true_tail(b, rest):
    share = np.array([1 - rest])
    with mpmath.workdps(60):
        expected = mpmath.log(mpmath.betainc(b, 0.5, 0, mpmath.mpf(1) - mpmath.mpf(share[0]), regularized=True))
    assert half_log_p(share, b)[0] == pytest.approx(float(expected), rel=1e-5, abs=1e-12)


@given(shares, shares, st.sampled_from([4.0, 24.0, 60.0]))
def test_more_along_the_line_is_less_likely(one, other, b):
    less, more = half_log_p(np.sort([one, other]), b)
    assert more <= less <= 0


def test_half_log_p_has_no_step_where_the_series_takes_over():
    for b in (60.0, 120.0):
        share = 1 - np.exp(np.linspace(-550, -650, 2001) / b)
        steps = np.diff(half_log_p(share, b))
        assert (steps < 0).all()
        assert steps == pytest.approx(steps.mean(), abs=0.005)


def test_a_whole_share_is_certain_and_finite():
    found = line_log_p(np.ones(2), 25, np.array([False, True]))
    assert np.isfinite(found).all()
    assert (found < -1000).all()
    assert line_log_p(np.zeros(2), 25, np.array([False, True])).tolist() == [0.0, 0.0]


@given(logs)
def test_fisher_is_a_chi_square_tail(values):
    x = -sum(values)
    if x < 300:  # beyond, scipy's tail underflows
        assert fisher(values) == pytest.approx(stats.chi2.logsf(2 * x, 2 * len(values)), rel=1e-7, abs=1e-9)
    with mpmath.workdps(40):
        expected = mpmath.log(mpmath.gammainc(len(values), x, regularized=True))
    assert fisher(values) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=20))
def test_fisher_is_scipys(p):
    expected = stats.combine_pvalues(p, "fisher").pvalue
    assert np.exp(fisher(np.log(p))) == pytest.approx(expected, rel=1e-7)


def test_fisher_beyond_the_range_of_floats():
    with mpmath.workdps(40):
        x = mpmath.mpf(6000)
        expected = float(mpmath.log(mpmath.gammainc(3, x, regularized=True)))
    assert fisher([-1000.0, -2000.0, -3000.0]) == pytest.approx(expected)
    assert fisher([0.0, 0.0]) == 0.0
    assert fisher([-5.0]) == pytest.approx(-5.0)


@given(st.lists(st.floats(1e-12, 0.9), min_size=1, max_size=40))
def test_cauchy_is_the_mean_of_quantiles(p):
    expected = stats.cauchy.sf(np.mean(stats.cauchy.isf(p)))
    assert cauchy(np.log(p)) == pytest.approx(np.log(expected), rel=1e-6, abs=1e-9)


@given(logs, st.randoms())
def test_cauchy_stays_near_the_least_and_knows_no_order(values, random):
    found = cauchy(values)
    assert found <= 0
    least = min(values)
    if least < -10:
        assert least - 1e-3 <= found <= least + np.log(len(values)) + 0.02
    random.shuffle(values)
    assert cauchy(values) == pytest.approx(found, abs=1e-3)


@given(st.lists(st.floats(-60.0, 0.0), min_size=1, max_size=12), st.floats(0.0, 5.0))
def test_cauchy_grows_with_every_value_and_has_no_step(values, more):
    """The form for small p-values begins at 1e-13: nothing jumps there."""
    lower = [values[0] - more, *values[1:]]
    assert cauchy(lower) <= cauchy(values) + 1e-9
    nudged = [v - 1e-6 for v in values]
    assert cauchy(nudged) == pytest.approx(cauchy(values), abs=1e-3)


@pytest.mark.parametrize("small", [-12.0, -20.0, -29.0, -31.0, -200.0])
def test_lines_that_say_nothing_do_not_outweigh_those_that_do(small):
    assert cauchy([small, 0.0, 0.0]) == pytest.approx(small + np.log(3), abs=0.02)


@pytest.mark.parametrize("count", [2, 6, 30])
def test_cauchy_is_honest_in_the_tail(count):
    rng = np.random.default_rng(count)
    draws = np.log(rng.uniform(size=(20000, count)))
    log_p = np.array([cauchy(row) for row in draws])
    for level in (0.05, 0.01):
        assert (log_p < np.log(level)).mean() == pytest.approx(level, rel=0.25)
