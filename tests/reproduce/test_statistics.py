"""Intervals cover what they should, in simulation; degenerate samples give an interval or an error, never NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("scipy")

from evenly.errors import ParameterError
from evenly.reproduce import statistics

TRIALS = 1500
# Three standard deviations of the share of 1500 intervals that cover, around 0.95.
LOW, HIGH = (0.95 + side * 3 * math.sqrt(0.95 * 0.05 / TRIALS) for side in (-1, 1))


def coverage(interval, truth, trials=TRIALS):
    random = np.random.default_rng(7)
    found = [interval(random) for _ in range(trials)]
    return np.mean([effect.low <= truth <= effect.high for effect in found])


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_mean_covers(n):
    assert LOW < coverage(lambda r: statistics.mean(r.normal(3, 2, n), "dB"), 3) < HIGH


def test_paired_covers_and_uses_the_pairs():
    def effect(random):
        seeds = random.normal(0, 50, 4)  # what a pair shares is large
        return statistics.paired(seeds + random.normal(5, 1, 4), seeds + random.normal(3, 1, 4), "dB")

    assert LOW < coverage(effect, 2) < HIGH
    assert effect(np.random.default_rng(0)).high - effect(np.random.default_rng(0)).low < 20


def test_unpaired_covers_unequal_variances():
    def effect(random):
        return statistics.unpaired(random.normal(5, 1, 6), random.normal(3, 4, 9), "dB")

    assert LOW - 0.01 < coverage(effect, 2) < HIGH + 0.01  # Welch's is approximate


def test_slope_covers():
    x = np.arange(6.0)
    assert LOW < coverage(lambda r: statistics.slope(x, 0.5 * x + r.normal(0, 1, 6), "per step"), 0.5) < HIGH


def test_bootstrap_covers_a_median_of_many():
    def effect(random):
        return statistics.bootstrap([random.normal(1, 1, 60)], np.median, "levels", "pictures")

    original = statistics._RESAMPLES
    statistics._RESAMPLES = 299
    try:
        assert 0.89 < coverage(effect, 1, 120) <= 1  # three standard deviations of 120 trials are 6 %
    finally:
        statistics._RESAMPLES = original


def test_bootstrap_is_the_same_every_time_and_keeps_pairs():
    random = np.random.default_rng(0)
    a = random.normal(0, 1, 40)
    b = a + random.normal(0, 0.01, 40)

    def correlation(x, y):
        return float(np.corrcoef(x, y)[0, 1])

    first = statistics.bootstrap([a, b], correlation, "correlation", "pictures", paired=True)
    assert first == statistics.bootstrap([a, b], correlation, "correlation", "pictures", paired=True)
    assert first.low > 0.99
    apart = statistics.bootstrap([a, b], lambda x, y: x.mean() - y.mean(), "levels", "pictures")
    together = statistics.bootstrap([a, b], lambda x, y: x.mean() - y.mean(), "levels", "pictures", paired=True)
    assert apart.high - apart.low > 20 * (together.high - together.low)


def test_known_values():
    effect = statistics.mean([1.0, 2.0, 3.0], "dB")
    assert (effect.value, effect.unit, effect.count) == (2.0, "dB", 3)
    assert effect.high - 2 == pytest.approx(4.302652729749464 / math.sqrt(3))  # t(0.975, 2) from tables, s = 1
    assert statistics.slope([0, 1, 2], [1, 3, 5], "x").value == pytest.approx(2)


def test_geometric_mean_covers_and_is_symmetric():
    assert LOW < coverage(lambda r: statistics.geometric(r.lognormal(1, 0.5, 4), "ratio"), math.e) < HIGH
    effect = statistics.geometric([4, 0.25], "ratio")
    assert (effect.value, effect.unit, effect.count) == (pytest.approx(1), "ratio", 2)
    assert effect.low * effect.high == pytest.approx(1)
    assert effect.method == "t interval over seeds, of logarithms"
    turned = statistics.geometric([1 / 2, 1 / 3, 1 / 5], "ratio")
    assert 1 / turned.high == pytest.approx(statistics.geometric([2, 3, 5], "ratio").low)


def test_a_difference_of_logarithms_becomes_a_ratio():
    effect = statistics.exponential(statistics.paired(np.log([8.0, 4.0]), np.log([2.0, 1.0]), "ratio"))
    assert (effect.low, effect.value, effect.high) == pytest.approx((4, 4, 4))


@pytest.mark.parametrize(
    "effect",
    [
        lambda: statistics.mean([2, 2, 2], "dB"),
        lambda: statistics.unpaired([2, 2], [0, 0], "dB"),
        lambda: statistics.paired([3, 4], [1, 2], "dB"),
        lambda: statistics.bootstrap([[2, 2, 2]], np.mean, "dB", "seeds"),
    ],
)
def test_values_that_are_all_the_same(effect):
    found = effect()
    assert (found.low, found.value, found.high) == (2, 2, 2)


def test_bootstrap_of_one_constant_sample():
    found = statistics.bootstrap([[1.0] * 9, np.arange(9.0)], lambda a, b: b.mean() - a.mean(), "dB", "seeds")
    assert found.low < found.value == 3 < found.high


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: statistics.mean([1.0], "dB"), "at least 2 values, not 1"),
        (lambda: statistics.mean([1.0, float("nan")], "dB"), "finite"),
        (lambda: statistics.paired([1, 2], [1, 2, 3], "dB"), "not 2 and 3"),
        (lambda: statistics.geometric([1, 0], "ratio"), "above 0, not 0"),
        (lambda: statistics.slope([1, 2], [1, 2], "dB"), "at least 3"),
        (lambda: statistics.slope([1, 1, 1], [1, 2, 3], "dB"), "x are all"),
        (lambda: statistics.bootstrap([[]], np.mean, "dB", "seeds"), "at least 2 values, not 0"),
    ],
)
def test_what_has_no_interval(call, words):
    with pytest.raises(ParameterError, match=words):
        call()
