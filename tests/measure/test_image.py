"""One picture measured: against the whole statistic written out, planted patterns, and noise."""

from __future__ import annotations

import json
import os
import tracemalloc

import naive_measure as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evenly.errors import UsageError
from evenly.measure.image import _FOLLOWS_CONTENT, measure_image
from evenly.measure.lines import _WEIGHTS
from evenly.measure.result import PERIODS, TRACES
from evenly.measure.tapers import new_lines, plan, slepian

PROVE = os.environ.get("EVENLY_PROVE") == "1"
seeds = st.integers(0, 2**32 - 1)
PLANES = {"mean": ("mean",), "variance": ("variance",), "interpolation": ("along", "down"), "chroma": ("blue", "red")}


def traces(measured):
    return {(p, name): t for p, r in measured.periods.items() for name, t in r.traces().items() if t is not None}


def gain(line, period):
    """What the high-pass residual leaves of a cosine's amplitude."""
    return 1 - np.prod(np.cos(np.pi * np.array(line) / period) ** 2)


def at(lines, line):
    return int(np.flatnonzero((lines.index == line).all(1))[0])


# ---------------------------------------------------------------- the whole statistic a second time


def cauchy(p, weights=None):
    return stats.cauchy.sf(np.average(stats.cauchy.isf(np.minimum(p, 0.99)), weights=weights))


def written_out(pixels, period, name):
    """P-value of a trace from planes, sums and tails that share nothing with the library but the tapers' number."""
    planes = naive.planes(pixels)
    inside = {n: plane[1:-1, 1:-1] for n, plane in planes.items()}
    shape = inside["mean"].shape
    group = next(g for g in plan(*shape, PERIODS).groups if period in g.periods)
    count = group.tapers
    down, along = (slepian(n, (count + 1) / 2, count) for n in shape)
    index = new_lines(period)
    found = []
    for plane in PLANES[name]:
        weights = [np.ones(shape)]
        if f"{plane} weight" in inside:
            weights.insert(0, inside[f"{plane} weight"])
        sums_of = [naive.tapered_sum(w, down, along, (0, 0), 1).real for w in weights]
        steerings = [[g] for g in sums_of]
        if plane == "mean" and period <= _FOLLOWS_CONTENT:
            content = naive.tapered_sum(inside["content"], down, along, (0, 0), 1).real
            steerings.append([sums_of[0], content])
        sums = [naive.tapered_sum(inside[plane], down, along, line, period) for line in index.tolist()]
        real = (2 * index % period == 0).all(1)
        parts = []
        for g in steerings:
            p = np.exp([naive.line_log_p(y, g, r) for y, r in zip(sums, real, strict=True)])
            axes = (index == 0).any(1)
            parts += [stats.combine_pvalues(p[axes]).pvalue, stats.combine_pvalues(p).pvalue, cauchy(p)]
        found.append(cauchy(parts, np.repeat(_WEIGHTS[: len(steerings)], 3)))
    return cauchy(found)


@pytest.mark.parametrize(("shape", "seed"), [((26, 33, 3), 0), ((47, 40), 1), ((70, 51), 2)])
def test_the_p_value_of_every_trace_written_out(shape, seed):
    rng = np.random.default_rng(seed)
    pixels = naive.texture(rng, shape)
    pattern = 0.7 * naive.cosine(shape, 4, (1, 1), 0.4) + 0.6 * naive.cosine(shape, 3, (0, 1))
    pixels = pixels + (pattern[..., None] if len(shape) == 3 else pattern)
    found = traces(measure_image(pixels))
    assert {name for _, name in found} == set(TRACES if len(shape) == 3 else TRACES[:3])
    for (period, name), trace in found.items():
        if period <= 6:
            expected = np.log10(written_out(pixels, period, name))
            assert trace.log10_p == pytest.approx(expected, rel=2e-3, abs=2e-3), (period, name)


# ---------------------------------------------------------------- known patterns


@settings(max_examples=200 if PROVE else 25)
@given(
    st.sampled_from([2, 3, 4, 5, 6, 7, 8, 9, 12, 16]),
    st.floats(1, 8),
    st.floats(-np.pi, np.pi),
    st.integers(90, 140),
    seeds,
)
def test_amplitude_and_phase_of_a_cosine_are_found(period, amplitude, phase, width, seed):
    rng = np.random.default_rng(seed)
    lines = new_lines(period)
    line = lines[rng.integers(len(lines))]
    if (2 * line % period == 0).all():
        phase = 0.0 if phase > 0 else np.pi
    pixels = 128 + 2 * rng.standard_normal((100, width)) + amplitude * naive.cosine((100, width), period, line, phase)
    found = measure_image(pixels, [period]).periods[period].mean.lines
    here = at(found, line)
    wave = found.amplitude[here] * np.exp(1j * found.phase[here])
    chance = 2.0 / np.sqrt(100 * width) / gain(line, period)  # of the noise, as an amplitude
    assert abs(wave - amplitude * np.exp(1j * phase)) < 0.06 * amplitude + 6 * chance


@pytest.mark.parametrize("line", [(0, 1), (1, 0), (1, 1), (1, 3)])
def test_z_points_along_the_phase_and_tells_the_p_value(line):
    pixels = 128 + 2 * np.random.default_rng(0).standard_normal((80, 80)) + naive.cosine((80, 80), 8, line, 0.7)
    lines = measure_image(pixels, [8]).periods[8].mean.lines
    assert np.angle(lines.z) == pytest.approx(lines.phase)
    assert np.abs(lines.z) ** 2 == pytest.approx(-np.log(10) * lines.log10_p)
    two = measure_image(pixels, [2]).periods[2].mean.lines
    assert not two.z.imag.any()
    assert 2 * stats.norm.sf(np.abs(two.z.real)) == pytest.approx(10**two.log10_p)
    assert np.sign(two.z.real) == pytest.approx(np.cos(two.phase))


@pytest.mark.parametrize(("period", "line"), [(2, (1, 1)), (4, (0, 1)), (8, (1, 3)), (3, (1, 1))])
def test_power_grows_by_20_db_per_factor_of_ten_and_its_share_is_known(period, line):
    levels = []
    for amplitude in (0.6, 6.0):
        found = []
        for seed in range(3):
            noise = 128 + 3 * np.random.default_rng(seed).standard_normal((128, 128))
            found.append(
                measure_image(noise + amplitude * naive.cosine((128, 128), period, line), [period]).periods[period]
            )
        power = (amplitude * gain(line, period)) ** 2 * (1 if period == 2 else 0.5)
        left = 0.75**2 + 4 / 8**2 + 4 / 16**2  # of white noise's power in the residual
        share = np.mean([r.energy_fraction for r in found])
        assert share == pytest.approx(power / (power + left * 9), rel=0.15, abs=2e-3)
        levels.append(np.mean([r.mean.db for r in found]))
    assert levels[1] - levels[0] == pytest.approx(20, abs=2)


@pytest.mark.parametrize("period", [7, 9, 12, 11])
def test_other_periods_can_be_asked_for(period):
    rng = np.random.default_rng(0)
    pixels = 128 + 3 * rng.standard_normal((120, 90))
    clean = measure_image(pixels, [period])
    assert clean.verdict == "none"
    assert set(clean.periods) == {period}
    assert -3 < clean.periods[period].mean.log10_p <= 0
    planted = pixels + np.tile(rng.standard_normal((period, period)), (120, 90))[:120, :90]
    found = measure_image(planted, [period])
    assert found.periods[period].mean.log10_p < -20
    assert (found.verdict, found.found) == ("strong", (period,))


def test_each_trace_sees_its_own_pattern():
    rng = np.random.default_rng(0)
    shape = (128, 120, 3)
    noise = 128 + 8 * rng.standard_normal(shape)
    stripes = naive.cosine(shape, 4, (1, 1))[..., None]
    grey = 8 * rng.standard_normal(shape[:2])
    painted = {
        "mean": noise + 1.5 * stripes,
        "chroma": noise + stripes * [-3, 0, 3],
        "variance": 128 + (grey * (1 + 0.5 * stripes[..., 0]))[..., None] + rng.standard_normal(shape),
    }
    for name, pixels in painted.items():
        found = {n: t.log10_p for n, t in measure_image(pixels).periods[4].traces().items()}
        assert found[name] < -8
        assert min(found, key=found.get) == name
    half = (grey + np.roll(grey, 1, 1)) / 2
    between = np.where(np.arange(120) % 2, grey[:, np.arange(120) // 2 * 1], half[:, (np.arange(120) + 1) // 2])
    blended = measure_image(128 + between, (2,)).periods[2]
    assert blended.interpolation.log10_p < -8
    assert blended.interpolation.log10_p_x < -8


# ---------------------------------------------------------------- noise


def test_noise_has_no_power_over_its_background():
    found = [measure_image(128 + 10 * np.random.default_rng(s).standard_normal((96, 80, 3))) for s in range(25)]
    for key in traces(found[0]):
        level = [traces(m)[key].db for m in found]
        assert abs(np.mean(level)) < 2 + 4 * np.std(level) / 5, key


def test_z_is_standard_normal_in_noise():
    draws: dict[tuple[str, int, bool], list] = {}
    for seed in range(80):
        pixels = 128 + 10 * np.random.default_rng(seed).standard_normal((64, 80))
        for (period, name), trace in traces(measure_image(pixels, (2, 3, 4, 8))).items():
            real = (2 * trace.lines.index % period == 0).all(1)
            draws.setdefault((name, period, bool(real.all())), []).append(trace.lines.z)
            assert not trace.lines.z[real].imag.any()
    for (name, period, real), rows in draws.items():
        z = np.concatenate(rows)
        error = 1 / np.sqrt(len(z))
        assert abs(z.mean()) < 4 * error, (name, period)
        assert np.mean(np.abs(z) ** 2) == pytest.approx(1, abs=(6 if real else 4) * error + 0.08), (name, period)
        if not real:
            assert abs(np.mean(z**2)) < 5 * error + 0.03, (name, period)


@pytest.fixture(scope="module")
def null_shares():
    """By trace and period, p-values in textures without a trace."""
    found: dict[tuple[int, str], list[float]] = {}
    verdicts = []
    for seed in range(3000 if PROVE else 400):
        rng = np.random.default_rng((7, seed))
        height, width = rng.integers(32, 97, 2)
        measured = measure_image(naive.texture(rng, (height, width, 3), rng.uniform(0.6, 1.4)))
        verdicts.append(measured.verdict)
        for key, trace in traces(measured).items():
            found.setdefault(key, []).append(trace.log10_p)
    return found, verdicts


def test_p_values_are_honest_in_textures(null_shares):
    found, _ = null_shares
    assert found.keys() == {(p, name) for p in PERIODS for name in TRACES}
    low, high = (0.003, 0.018) if PROVE else (0.0, 0.035)
    for key, values in found.items():
        assert low <= np.mean(np.array(values) < -2) <= high, key
    everything = np.concatenate([np.array(v) for v in found.values()])
    assert 0.003 < np.mean(everything < -2) < 0.015  # so few that none would be wrong too


def test_textures_are_called_clean(null_shares):
    _, verdicts = null_shares
    assert np.mean([v != "none" for v in verdicts]) <= 0.005


# ---------------------------------------------------------------- sizes and types


@pytest.mark.parametrize(
    ("shape", "testable"),
    [
        ((23, 400), ()),
        ((400, 23, 3), ()),
        ((1, 1), ()),
        ((1, 300), ()),
        ((24, 24), (2, 3, 4, 5, 6)),
        ((25, 31, 3), (2, 3, 4, 5, 6)),
        ((28, 28), (2, 3, 4, 5, 6, 8)),
        ((51, 51), (2, 3, 4, 5, 6, 8)),
        ((52, 53, 3), PERIODS),
    ],
)
def test_small_pictures_say_what_is_not_testable(shape, testable):
    measured = measure_image(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    assert (measured.height, measured.width) == shape[:2]
    for period, result in measured.periods.items():
        present = [n for n, t in result.traces().items() if t is not None]
        wanted = TRACES[: 4 if len(shape) == 3 else 3]
        assert present == (list(wanted) if period in testable else [])
        assert (result.energy_fraction is None) == (period not in testable)
    assert measured.verdict == "none"
    json.loads(measured.to_json())


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("shape", [(24, 24), (64, 70, 3), (130, 129)])
def test_a_constant_picture_shows_nothing(value, shape):
    measured = measure_image(np.full(shape, value, np.uint8))
    assert (measured.verdict, measured.found, measured.causes) == ("none", (), ())
    for trace in traces(measured).values():
        assert trace.log10_p > -0.01  # p of 0.99 or more
        assert np.isfinite(trace.db)
        assert all(np.isfinite(v).all() for v in vars(trace.lines).values())
    text = measured.to_json()
    assert "NaN" not in text
    assert all(r.energy_fraction in (0.0, None) for r in measured.periods.values())


@pytest.mark.parametrize("line", ["row", "column", "pixel", "half"])
def test_an_almost_constant_picture_is_measured_without_a_warning(line):
    pixels = np.full((64, 70, 3), 9, np.uint8)
    pixels[{"row": np.s_[30], "column": np.s_[:, 20], "pixel": np.s_[31, 33], "half": np.s_[:32]}[line]] = 200
    measured = measure_image(pixels)
    assert all(np.isfinite(t.log10_p) and np.isfinite(t.db) for t in traces(measured).values())


def test_the_type_of_the_pixels_does_not_matter():
    grey = np.random.default_rng(0).integers(0, 256, (60, 61), np.uint8)
    grey[0, :2] = 0, 255
    reference = traces(measure_image(grey))
    for form in (
        grey.astype(np.uint16) * 257,
        grey / 255,
        (grey / 255).astype(np.float16),
        grey / 127.5 - 1,
        grey.astype(np.int64),
        grey.astype(np.float32) * 3 - 100,
        grey[..., None],
        np.dstack([grey] * 3),
        np.asfortranarray(grey),
    ):
        measured = measure_image(form)
        for (period, name), trace in reference.items():
            other = measured.periods[period].traces()[name]
            assert other.log10_p == pytest.approx(trace.log10_p, rel=0.05, abs=0.02), (form.dtype, period, name)
    bits = measure_image(grey > 127)
    assert traces(bits).keys() == reference.keys()


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((40, 40), np.nan), "not finite"),
        (np.where(np.eye(40) > 0, np.inf, 0.0), "not finite"),
        (np.where(np.eye(40) > 0, 1.7e308, -1.7e308), "infinite"),
        (np.zeros((40, 40, 5)), "shape"),
        (np.zeros(40), "shape"),
        (np.zeros((2, 40, 40, 3)), "shape"),
        (np.zeros((0, 40)), "no pixels"),
        (np.zeros((40, 40), complex), "type"),
    ],
)
def test_what_is_no_picture_is_refused(pixels, words):
    with pytest.raises(UsageError, match=words):
        measure_image(pixels)


@pytest.mark.parametrize("periods", [(), (1,), (0, 2), (-3,)])
def test_what_is_no_period_is_refused(periods):
    with pytest.raises(UsageError, match="period"):
        measure_image(np.zeros((40, 40)), periods)


def test_periods_are_sorted_and_measured_once():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    measured = measure_image(pixels, (8, 2, 8, 4))
    assert list(measured.periods) == [2, 4, 8]
    alone = measure_image(pixels, (4,)).periods[4]
    assert alone == measured.periods[4]  # whatever else was asked for


def test_pixels_and_names_are_kept_where_wanted():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8)
    assert measure_image(pixels).pixels is None
    kept = measure_image(pixels, path="a.png", keep=True)
    assert np.array_equal(kept.pixels, pixels)
    assert kept.path == "a.png"
    before = pixels.copy()
    measure_image(pixels)
    assert np.array_equal(pixels, before)


@pytest.mark.skipif(not PROVE, reason="takes some seconds: make prove")
@pytest.mark.parametrize("shape", [(4000, 4000), (4000, 4000, 3)])
def test_memory_beside_a_large_picture(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    measure_image(pixels[:64, :64])
    tracemalloc.start()
    try:
        measure_image(pixels)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
