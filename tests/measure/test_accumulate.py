"""States of sets: exact addition, honest p-values, verdicts."""

from __future__ import annotations

import json
import math
import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenly.errors import FormatError
from evenly.measure.accumulate import MOST_FAILURES, SetState
from evenly.measure.pooling import BIAS, EXCEPTIONS, TOLERANCE, agreement, exceptions, gamma_tail, strength
from evenly.measure.result import Cause, Failure, Lines, Measurement, PeriodResult, Trace
from evenly.measure.sums import Spread

PROVE = os.environ.get("EVENLY_PROVE") == "1"
LN10 = math.log(10)


def new_lines(period: int) -> np.ndarray:
    """The lines of a period up to conjugation, by trying all."""
    kept: list[tuple[int, int]] = []
    for a in range(period):
        for b in range(period):
            if math.gcd(a, b, period) == 1 and ((-a) % period, (-b) % period) not in kept:
                kept.append((a, b))
    return np.array(kept)


def normal_lines(rng, period: int, shift: complex = 0) -> Lines:
    index = new_lines(period)
    real = (2 * index % period == 0).all(axis=1)
    z = rng.normal(size=len(index)) + 1j * rng.normal(size=len(index))
    z = np.where(real, z.real, z / math.sqrt(2)) + shift
    z = np.where(real, z.real, z)
    nothing = np.zeros(len(index))
    return Lines(index, -(np.abs(z) ** 2) / LN10, z, nothing, nothing)


def picture(rng, *, periods=(2, 3), power=1.0, shift=0, causes=(), found=(), verdict="none", path="p", p=None):
    """A picture whose p-values are uniform to the given power (1: no pattern)."""

    def trace(period):
        log10_p = [float(np.log10(rng.uniform()) * power) if p is None else p for _ in range(4)]
        diagonal = None if period == 2 else log10_p[3]
        return Trace(
            log10_p[0], float(rng.normal()), log10_p[1], log10_p[2], diagonal, normal_lines(rng, period, shift)
        )

    results = {
        n: PeriodResult(n, mean=trace(n), variance=trace(n), chroma=None, energy_fraction=float(rng.uniform()))
        for n in periods
    }
    return Measurement(path, 64, 48, verdict, found, tuple(causes), results)


# ---------------------------------------------------------------------------------------------------------- exact sums


@st.composite
def pictures(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items = []
    for i in range(draw(st.integers(0, 7))):
        if draw(st.booleans()):
            items.append(Failure(f"{rng.integers(5)}.png", "truncated"))
            continue
        periods = draw(st.sets(st.sampled_from([2, 3, 4]), min_size=0))
        causes = [Cause("jpeg-grid", (2,), "grid")] if draw(st.booleans()) else []
        found = tuple(periods)[:1] if draw(st.booleans()) else ()
        item = picture(rng, periods=periods, power=10.0 ** rng.integers(-3, 4), causes=causes, found=found, path=str(i))
        items.append(item)
    return items


@given(pictures(), st.randoms(use_true_random=False))
def test_any_partition_in_any_order_gives_the_same_state(items, random):
    whole = SetState(items).to_dict()
    random.shuffle(items)
    parts = [SetState() for _ in range(4)]
    for item in items:
        part = random.choice(parts)
        part.fail(item) if isinstance(item, Failure) else part.add(item)
    random.shuffle(parts)
    a, b, c, d = parts
    assert ((a + b) + (c + d)).to_dict() == whole
    assert (a + (b + (c + d))).to_dict() == whole
    assert SetState.from_dict(json.loads(json.dumps(whole))).to_dict() == whole
    assert SetState.from_dict(whole).merge(SetState()) == SetState(items)


def test_addition_leaves_its_parts_alone():
    rng = np.random.default_rng(0)
    a, b = SetState([picture(rng)]), SetState([picture(rng), Failure("x", "y")])
    before = a.to_dict(), b.to_dict()
    assert (a + b).count == 2
    assert (a.to_dict(), b.to_dict()) == before


def test_failures_are_all_counted_and_the_first_by_name_listed():
    names = [f"{i:05d}" for i in range(MOST_FAILURES + 50)]
    random = np.random.default_rng(1).permutation(names)
    half = len(names) // 2
    state = SetState(Failure(n, "why") for n in random[:half]) + SetState(Failure(n, "why") for n in random[half:])
    assert state.failed_count == len(names)
    assert [f.path for f in state.result().failed] == names[:MOST_FAILURES]


def test_what_is_not_a_number_does_not_count():
    lines = normal_lines(np.random.default_rng(0), 2)
    odd = Lines(lines.index, lines.log10_p, np.array([math.nan, math.inf, 1e300]), lines.amplitude, lines.phase)
    trace = Trace(-math.inf, math.nan, math.nan, -3.0, None, odd)
    result = PeriodResult(2, mean=trace, variance=Trace(math.nan, 3.0), energy_fraction=math.nan)
    found = SetState([Measurement("p", 9, 9, "none", (), (), {2: result})]).result("aligned").periods[2]
    assert found.variance is None
    assert found.energy_fraction is None
    assert found.mean is not None
    assert (found.mean.db, found.mean.log10_p_x, found.mean.log10_p_diagonal) == (None, None, None)
    assert -1e5 < found.mean.log10_p < -8e4
    json.dumps(SetState().result().to_dict(), allow_nan=False)


def test_means_are_those_of_the_pictures():
    rng = np.random.default_rng(2)
    items = [picture(rng) for _ in range(30)]
    found = SetState(items).result().periods[3]
    assert found.mean.db == pytest.approx(np.mean([m.periods[3].mean.db for m in items]), abs=1e-8)
    assert found.energy_fraction == pytest.approx(np.mean([m.periods[3].energy_fraction for m in items]), abs=1e-8)


@pytest.mark.parametrize("form", [{}, {"format": "evenly set", "version": 99}, {"format": "evenly set", "version": 1}])
def test_other_forms_are_refused(form):
    with pytest.raises(FormatError, match="measure"):
        SetState.from_dict(form)


# ------------------------------------------------------------------------------------------------------- tails


def erlang_tail(shape: int, x: int) -> float:
    """log of exp(-x) sum over k < shape of x^k / k!, summed in fractions."""
    term = total = Fraction(1)
    for k in range(1, shape):
        term *= Fraction(x, k)
        total += term
    return -x + math.log(total.numerator) - math.log(total.denominator)


@pytest.mark.parametrize(("shape", "x"), [(1, 3), (1, 200_000), (2, 600), (7, 5), (40, 900), (300, 260), (300, 9000)])
def test_gamma_tails_against_fractions(shape, x):
    assert gamma_tail(shape, x) == pytest.approx(erlang_tail(shape, x), rel=1e-11)


def test_gamma_tails_are_smooth_where_the_way_changes():
    for shape in (0.5, 1.5, 40.0, 1e4, 1e8):
        start = shape + 30 * math.sqrt(shape)
        x = np.linspace(max(start, 500), max(start, 500) + 30 * math.sqrt(shape) + 200, 300)
        steps = np.diff([gamma_tail(shape, float(v)) for v in x])
        assert (steps < 0).all()
        assert np.abs(np.diff(steps)).max() < 0.02 * np.abs(steps).max() + 1e-4


def test_one_picture_keeps_its_p_value_up_to_the_tolerance():
    for log10_p in (-0.1, -5.0, -290.0, -4000.0):
        state = SetState([picture(np.random.default_rng(0), p=log10_p)])
        assert state.result().periods[2].mean.log10_p == pytest.approx(log10_p / (1 + TOLERANCE), rel=1e-8)


def test_a_strong_set_goes_far_below_what_floats_hold():
    rng = np.random.default_rng(0)
    result = SetState([picture(rng, power=500.0) for _ in range(300)]).result()
    assert -70_000 < result.periods[2].mean.log10_p < -30_000
    assert result.verdict == "strong"
    assert result.periods[2].mean.p > 0


# ------------------------------------------------------------------------------------------------------ honest p-values


def spread_of(evidence: np.ndarray) -> Spread:
    spread = Spread()
    for value in evidence:
        spread.add_evidence(-float(value))
    return spread


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_without_margins_the_sum_is_fishers(count):
    from scipy.stats import kstest

    rng = np.random.default_rng(count)
    logs = [strength(count, float(rng.exponential(size=count).sum()), tolerance=0.0) for _ in range(2000)]
    assert kstest(np.exp(logs), "uniform").pvalue > 0.01


@pytest.mark.parametrize("count", [1, 9, 10, 100, 1000])
def test_sets_as_far_from_chance_as_is_tolerated_are_called_at_their_level(count):
    """The worst tolerated law of clean pictures, and the allowed exceptions at p = 1e-30 each."""
    rng = np.random.default_rng(count)
    draws = 400 if count < 1000 else (200 if PROVE else 60)
    p = []
    for _ in range(draws):
        evidence = rng.exponential(size=count) * (1 + TOLERANCE) / LN10
        evidence[: exceptions(count)] = 30.0
        p.append(math.exp(spread_of(evidence).log_p()))
    for level in (0.5, 0.1, 0.01):
        bound = level + 3 * math.sqrt(level * (1 - level) / draws)
        assert np.mean(np.array(p) <= level) <= bound


def test_exceptions_are_few():
    assert [exceptions(n) for n in (1, 9, 10, 50, 51, 1000)] == [0, 0, 1, 1, 2, 20]
    assert EXCEPTIONS == 0.02


def test_leaving_out_never_adds_evidence():
    """Against a sum over sorted values, without bins."""
    rng = np.random.default_rng(5)
    for count in (10, 60, 200):
        evidence = np.abs(rng.standard_cauchy(size=count)) * 2
        k = exceptions(count)
        naive = strength(count, float(np.sort(evidence)[:-k].sum()) * LN10, left_out=k)
        binned = spread_of(evidence).log_p()
        assert naive - 1e-6 <= binned <= naive + 0.06 * LN10 * k + 0.02 * abs(naive)


@pytest.mark.parametrize("count", [1, 2, 5, 30, 300])
@pytest.mark.parametrize("law", ["normal", "equal", "heavy", "biased"])
def test_agreement_of_phases_is_honest_whatever_the_strengths(count, law):
    bias = BIAS if law == "biased" else 0.0
    rng = np.random.default_rng(count)
    index = new_lines(4)
    real = (2 * index % 4 == 0).all(axis=1)
    draws = 3000 if count < 300 else 1000
    z = rng.normal(size=(draws, count, len(index))) + 1j * rng.normal(size=(draws, count, len(index)))
    z = np.where(real, z.real, z / math.sqrt(2))
    if law in ("equal", "heavy"):
        z /= np.abs(z)
    if law == "heavy":
        z *= np.minimum(np.abs(rng.standard_cauchy(size=(draws, count, 1))), 4)
    z += bias
    sums = np.stack([z.sum(1).real, z.sum(1).imag, (np.abs(z) ** 2).sum(1)], axis=-1)
    along = (index == 0).any(axis=1)
    p = np.exp([agreement(count, s, real, along, bias=bias) for s in sums])
    for level in (0.1, 0.01, 0.001):
        assert np.mean(p <= level) <= level * 1.15 + 3.5 * math.sqrt(level / draws)
    if law == "normal" and count == 300:
        assert np.mean(p <= 0.1) >= 0.07


def test_null_sets_get_no_verdict_of_either_origin():
    rng = np.random.default_rng(11)
    for _ in range(60):
        state = SetState(picture(rng) for _ in range(12))
        assert state.result("unknown").verdict == "none"
        assert state.result("aligned").verdict == "none"


# ------------------------------------------------------------------------------------------------------------ verdicts


def test_aligned_pictures_show_what_each_hides():
    rng = np.random.default_rng(3)
    state = SetState(picture(rng, shift=0.5 + 0.2j) for _ in range(120))
    assert state.result("unknown").verdict == "none"
    aligned = state.result("aligned")
    assert aligned.verdict == "strong"
    assert aligned.found == (2, 3)
    assert aligned.periods[3].mean.log10_p_x < -6


def test_weak_evidence_in_every_picture_adds_up():
    rng = np.random.default_rng(4)
    result = SetState(picture(rng, power=1.8) for _ in range(100)).result()
    assert (result.verdict, result.found) == ("strong", (2, 3))


def test_a_few_textures_do_not_make_a_set():
    rng = np.random.default_rng(5)
    items = [picture(rng) for _ in range(98)] + [picture(rng, p=-50.0) for _ in range(2)]
    assert SetState(items).result().verdict == "none"
    assert SetState([*items, *(picture(rng, p=-50.0) for _ in range(6))]).result().verdict == "strong"


def test_other_causes_do_not_make_the_verdict():
    rng = np.random.default_rng(6)
    grid = [Cause("jpeg-grid", (2, 3), "grid of JPEG")]
    explained = [picture(rng, p=-9.0, causes=grid) for _ in range(30)]
    hidden = [picture(rng, power=1.8) for _ in range(30)]  # the same, too faint to be explained one by one
    result = SetState(explained + hidden).result()
    assert (result.verdict, result.found) == ("none", ())
    assert result.causes == {"jpeg-grid": 30}
    assert result.periods[2].mean.log10_p < -50
    up = [Cause("up-sampling", (2,), "stride 2")]
    found = [picture(rng, p=-9.0, causes=[*up, *grid], found=(2,), verdict="strong") for _ in range(31)]
    result = SetState(explained + found).result()
    assert (result.verdict, result.found) == ("strong", (2,))
    assert result.verdicts == {"none": 30, "strong": 31}
