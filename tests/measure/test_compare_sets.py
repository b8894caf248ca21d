"""Comparison of sets, against the rank test of scipy on the same bins."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from evenly.measure.accumulate import SetState
from evenly.measure.compare import Ranks, compare
from evenly.measure.result import Cause, Measurement, PeriodResult, Trace

LN10 = math.log(10)
PROVE = os.environ.get("EVENLY_PROVE") == "1"
values = st.lists(st.integers(-3, 9), min_size=1, max_size=40)


def pictures(rng, count, power=1.0, db=0.0, causes=(), periods=(2, 4)):
    def one(period):
        p = float(np.log10(rng.uniform()) * power)
        return PeriodResult(period, mean=Trace(p, float(rng.normal() + db)), chroma=Trace(p * 50))

    return SetState(
        Measurement("p", 64, 64, "none", (), tuple(causes), {n: one(n) for n in periods}) for _ in range(count)
    )


@given(values, values)
def test_ranks_are_those_of_scipy(a, b):
    ranks = Ranks(Counter(a), Counter(b))
    wins = sum((x > y) + (x == y) / 2 for x in a for y in b)
    assert ranks.wins == wins
    assert ranks.superiority == wins / (len(a) * len(b))
    if len({*a, *b}) == 1:
        assert ranks.log_p() == 0.0
        return
    naive = mannwhitneyu(a, b, alternative="two-sided", method="asymptotic").pvalue
    least = 2 / math.comb(len(a) + len(b), len(a))
    assert math.exp(ranks.log_p()) == pytest.approx(min(1.0, max(naive, least)), rel=1e-9)
    more = mannwhitneyu(a, b, alternative="greater", method="asymptotic").pvalue
    assert math.exp(ranks.log_p_more(0.0)) == pytest.approx(max(more, least / 2), rel=1e-9)


def test_ranks_far_down_the_tail():
    ranks = Ranks({5: 40_000}, {1: 40_000})
    assert ranks.superiority == 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert mannwhitneyu([5.0] * 4000, [1.0] * 4000).pvalue == 0.0
    z = (ranks.wins - 40_000**2 / 2 - 0.5) / ranks.deviation
    assert ranks.log_p() == pytest.approx(-z * z / 2 - math.log(z * math.sqrt(2 * math.pi)) + math.log(2), rel=1e-4)


def test_equal_sets_differ_at_the_level_of_the_test():
    rng = np.random.default_rng(0)
    draws = 2000 if PROVE else 300
    p, verdicts = [], Counter()
    for _ in range(draws):
        found = compare(pictures(rng, 12, periods=(2,)), pictures(rng, 25, periods=(2,)))
        p.append(found.periods[2]["mean"].p)
        verdicts[found.verdict] += 1
    for level in (0.3, 0.05, 0.01):
        assert abs(np.mean(np.array(p) <= level) - level) <= 0.2 * level + 3 * math.sqrt(level / draws)
    assert verdicts["none"] >= 0.98 * draws


def test_more_in_the_first_is_called_and_less_is_not():
    rng = np.random.default_rng(1)
    strong, clean = pictures(rng, 300, power=3.0, db=2.0), pictures(rng, 200)
    found = compare(strong, clean)
    assert (found.verdict, found.found) == ("strong", (2, 4))
    assert (found.count, found.against_count) == (300, 200)
    mean = found.periods[4]["mean"]
    assert mean.db == pytest.approx(2.0, abs=0.4)
    assert mean.superiority > 0.65
    assert mean.log10_p < -8
    back = compare(clean, strong)
    assert back.verdict == "none"
    assert back.periods[4]["mean"].log10_p == pytest.approx(mean.log10_p)
    assert back.periods[4]["mean"].superiority == pytest.approx(1 - mean.superiority)
    assert back.periods[4]["variance"] is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_difference_too_small_to_matter_is_no_verdict():
    rng = np.random.default_rng(2)
    count = 6000
    a, b = pictures(rng, count, power=1.06, periods=(2,)), pictures(rng, count, periods=(2,))
    for _ in range(3):  # the same pictures eight times: as if there were so many
        a, b = a + a, b + b
    found = compare(a, b)
    assert found.periods[2]["mean"].p < 1e-8
    assert found.verdict == "none"


def test_colours_and_other_causes_make_no_verdict():
    rng = np.random.default_rng(3)
    grid = pictures(rng, 300, power=9.0, causes=[Cause("jpeg-grid", (2, 4), "grid of JPEG")])
    clean = pictures(rng, 200)
    found = compare(grid, clean)
    assert found.verdict == "none"
    assert found.periods[4]["chroma"].log10_p < -10


def test_periods_of_one_set_only_are_not_compared():
    rng = np.random.default_rng(4)
    found = compare(pictures(rng, 5, periods=(2, 3)), pictures(rng, 5, periods=(2,)))
    assert found.periods[3] == dict.fromkeys(("mean", "variance", "interpolation", "chroma"))
    assert compare(SetState(), SetState()).verdict == "none"
