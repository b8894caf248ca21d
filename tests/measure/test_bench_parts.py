"""The parts of the benchmark of pictures, against naive versions and known answers."""

from __future__ import annotations

import sys
from math import gcd
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
try:
    from measuring import baselines, confounders, generators, injections, jobs, photographs, pictures, scoring
finally:
    sys.path.pop(0)

few = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(lambda v: np.array(v, float))


# ---------------------------------------------------------------- scores


@given(few, few)
def test_auc_counts_pairs(positive, negative):
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert scoring.auc(positive, negative) == pytest.approx(np.mean(pairs))


@given(few, few, st.sampled_from([0.01, 0.1, 0.5]))
def test_true_positives_are_above_the_least_threshold_that_spares_the_negatives(positive, negative, rate):
    sparing = [t for t in negative if np.mean(negative > t) <= rate]
    assert scoring.true_positives(positive, negative, rate) == pytest.approx(np.mean(positive > min(sparing)))


def test_bootstrap_is_that_of_pictures_drawn_by_photograph():
    rng = np.random.default_rng(0)
    group = np.repeat(list("abcd"), 5)
    positive, negative = rng.integers(0, 6, 20) + 1.0, rng.integers(0, 6, 20) + 0.0
    curve = scoring.Curve(positive, negative, list(group), list(group))
    weights = np.random.default_rng(0).multinomial(4, np.full(4, 0.25), scoring.DRAWS)
    for found, weight in zip(curve.resampled[:20], weights, strict=False):
        drawn = np.concatenate(
            [np.flatnonzero(group == g) for g, n in zip("abcd", weight, strict=True) for _ in range(n)]
        )
        assert found == pytest.approx(scoring.auc(positive[drawn], negative[drawn]))
    assert curve.error == pytest.approx(np.std(curve.resampled))
    assert curve.error_against(curve) == 0


def test_scores_that_could_not_be_computed_are_the_least():
    curve = scoring.Curve(np.array([np.nan, 2.0]), np.array([0.0, 1.0]), ["a", "b"], ["a", "b"])
    assert curve.auc == 0.5


def test_share_of_independent_pictures_is_wilsons_interval():
    found = scoring.share([True] * 3 + [False] * 97, [str(i) for i in range(100)])
    assert (found.value, found.count) == (0.03, 100)
    for end in (found.low, found.high):  # where a true share would be 1.96 standard errors off; 99: one for the mean
        assert abs(end - 0.03) == pytest.approx(1.96 * np.sqrt(end * (1 - end) / 99), rel=1e-3)


def test_share_is_less_certain_where_photographs_agree():
    hits = [True] * 10 + [False] * 90
    apart = scoring.share(hits, [str(i) for i in range(100)])
    together = scoring.share(hits, [str(i // 10) for i in range(100)])
    assert together.low < apart.low < apart.high < together.high
    assert scoring.share([False] * 300, ["a"] * 300).meets(0.005, 0.015)
    assert not scoring.share([False] * 3000, [str(i) for i in range(3000)]).meets(0.005, 0.015)


# ---------------------------------------------------------------- injections


@given(st.sampled_from(injections.PERIODS), st.sampled_from(injections.PATTERNS), st.integers(0, 99))
def test_cells_have_no_mean_unit_strength_and_lines_that_are_new(period, pattern, seed):
    cell = injections.cell(period, pattern, np.random.default_rng(seed))
    assert cell.shape == (period, period)
    assert cell.mean() == pytest.approx(0, abs=1e-12)
    assert np.mean(cell**2) == pytest.approx(1)
    lines = np.abs(np.fft.fft2(cell))
    assert any(lines[a, b] > 1e-6 for a in range(period) for b in range(period) if gcd(a, b, period) == 1)


def test_overlap_cells_are_a_transposed_convolution_of_ones():
    cells = [injections.cell(2, "overlap", np.random.default_rng(s)) for s in range(5)]  # only k = 3 at stride 2
    painted = np.zeros((12, 12))
    for y in range(0, 10, 2):
        for x in range(0, 10, 2):
            painted[y : y + 3, x : x + 3] += 1
    inner = painted[4:6, 4:6] - painted[4:6, 4:6].mean()
    for cell in cells:
        assert any(
            np.allclose(np.roll(cell, (i, j), (0, 1)), inner / np.sqrt(np.mean(inner**2)))
            for i in (0, 1)
            for j in (0, 1)
        )


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_mean_traces_repeat_with_their_strength(shape):
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    added = injections.inject(image, "mean", 5, 0.6, "random", np.random.default_rng(1)) - image
    assert np.allclose(added[5:], added[:-5], atol=1e-4)
    assert np.allclose(added[:, 5:], added[:, :-5], atol=1e-4)
    assert np.sqrt(np.mean(added**2)) == pytest.approx(0.6, rel=1e-3)


def test_variance_traces_leave_ramps_and_scale_noise():
    y, x = np.indices((48, 48), np.float32)
    ramp = (2 * y + 3 * x + 5).astype(np.float32)
    changed = injections.inject(ramp, "variance", 4, 0.4, "random", np.random.default_rng(0))
    assert np.allclose(changed[1:-1, 1:-1], ramp[1:-1, 1:-1], atol=1e-3)
    noise = np.random.default_rng(1).standard_normal((400, 400)).astype(np.float32)
    ratio = (injections.inject(noise, "variance", 2, 0.4, "overlap", np.random.default_rng(2)) - noise)[1:-1, 1:-1]
    strengths = [ratio[i::2, j::2].std() for i in (0, 1) for j in (0, 1)]
    cell = np.abs(injections.cell(2, "overlap", np.random.default_rng(2)).ravel())
    assert np.sort(strengths) / np.sum(strengths) == pytest.approx(np.sort(cell) / np.sum(cell), abs=0.01)


@pytest.mark.parametrize("period", injections.PERIODS)
def test_halving_leaves_the_period_that_is_named(period):
    pattern = injections.tiled(np.random.default_rng(0).standard_normal((period, period)), (96, 96))[::2, ::2]
    left = injections.period_after(period, "resize") or 1
    assert np.allclose(pattern[left:], pattern[:-left])
    assert all(not np.allclose(pattern[p:], pattern[:-p]) for p in range(1, left))
    assert injections.period_after(period, "jpeg75") == period


@pytest.mark.parametrize("chain", injections.CHAINS)
def test_chains_return_whole_grey_levels(chain):
    image = np.random.default_rng(0).uniform(-9, 264, (96, 90, 3)).astype(np.float32)
    found = injections.apply_chain(image, chain, np.random.default_rng(1))
    assert found.dtype == np.uint8
    assert found.shape[2] == 3
    assert found.shape[0] <= 96


# ---------------------------------------------------------------- photographs and confounders


def test_negatives_are_grouped_repeatable_and_of_their_size(monkeypatch):
    assert set(photographs.fitting(28)) == set(photographs.photographs())
    monkeypatch.setattr(photographs, "fitting", lambda size: ["camera", "cat"])
    found = list(photographs.negatives(28, 5, seed=3))
    assert [(n, i.shape) for n, i in found] == [("camera", (28, 28))] * 2 + [("cat", (28, 28, 3))] * 3
    assert all(i.dtype == np.uint8 for _, i in found)
    again = list(photographs.negatives(28, 5, seed=3))
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(found, again, strict=True))


def test_views_show_the_photograph_at_its_scale_and_remove_its_finest_grid():
    y, x = np.indices((200, 220))
    wave = (100 + 50 * np.cos(2 * np.pi * x / 40)).astype(np.float32)
    view = photographs.View(wave + 20 * (-1.0) ** (x + y).astype(np.float32), np.random.default_rng(0))
    found = view.crop(64, np.random.default_rng(1))
    assert found.min() == pytest.approx(50, abs=5)
    assert found.max() == pytest.approx(150, abs=5)
    spectrum = np.abs(np.fft.fft2((found - found.mean()) * np.outer(np.hanning(64), np.hanning(64))))
    peak = np.unravel_index(np.argmax(spectrum[:33]), (33, 64))
    cycles = np.hypot(np.fft.fftfreq(64)[peak[0]], np.fft.fftfreq(64)[peak[1]])
    assert cycles == pytest.approx(1 / (40 * view.scale), abs=1 / 64)


@pytest.mark.parametrize("method", ["bilinear", "malvar"])
@pytest.mark.parametrize("origin", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_demosaicing_keeps_what_the_sensor_saw_and_planes(method, origin):
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (12, 14, 3))
    masks = confounders.bayer_masks((12, 14), origin)
    assert np.array_equal(masks.sum(0), np.ones((12, 14)))
    assert [m.sum() for m in masks] == [42, 84, 42]
    found = confounders.demosaic(image, method, origin)
    for c in range(3):
        assert np.allclose(found[..., c][masks[c]], image[..., c][masks[c]])
    y, x = np.indices((12, 14))
    plane = np.repeat((3.0 * y + 2 * x)[..., None], 3, -1)
    assert np.allclose(confounders.demosaic(plane, method, origin)[3:-3, 3:-3], plane[3:-3, 3:-3])


@pytest.mark.parametrize("name", confounders.confounders())
def test_confounders_are_pictures_of_the_size_asked_for(name, monkeypatch):
    monkeypatch.setattr(confounders, "fitting", lambda size: ["camera", "cat"])
    found = list(confounders.confounders()[name](48, 2, 0))
    assert len(found) == 2
    assert all(i.shape[:2] == (48, 48) and i.dtype == np.uint8 and i.std() > 0 for _, i in found)


# ---------------------------------------------------------------- other people's statistics


@given(st.integers(2, 16))
def test_new_lines_are_one_of_each_pair(period):
    lines = {tuple(v) for v in baselines.new_lines(period).tolist()}
    naive = [(a, b) for a in range(period) for b in range(period) if gcd(a, b, period) == 1]
    assert all(((a, b) in lines) or ((-a % period, -b % period) in lines) for a, b in naive)
    assert sum(1 if (-a % period, -b % period) == (a, b) else 2 for a, b in lines) == len(naive)


@given(arrays(np.float64, (24, 24), elements=st.floats(1, 9)), st.sampled_from([2, 3, 4]))
def test_lines_over_their_medians_bin_by_bin(power, period):
    step = 24 // period
    ratios = []
    for a, b in baselines.new_lines(period).tolist():
        around = [
            power[(a * step + i) % 24, (b * step + j) % 24]
            for i in range(-7, 8)
            for j in range(-7, 8)
            if i % step or j % step
        ]
        ratios.append(power[a * step, b * step] / np.median(around))
    assert baselines.over_median(power, period) == pytest.approx(10 * np.log10(np.mean(ratios)), abs=1e-6)


def test_residual_and_cross_difference_by_hand():
    plane = np.random.default_rng(0).uniform(0, 255, (9, 8))
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    naive = [
        [plane[i, j] - np.sum(kernel * plane[i - 1 : i + 2, j - 1 : j + 2]) for j in range(1, 7)] for i in range(1, 8)
    ]
    assert np.allclose(baselines.residual(plane), naive)
    assert baselines.luma(np.full((2, 2, 3), 7, np.uint8)) == pytest.approx(7)


MADE_FOR = {
    "comb": "mean",
    "comb, Hann": "mean",
    "DCT": "mean",
    "azimuthal": "mean",
    "second difference": "variance",
    "cross-difference": "variance",
}


@pytest.mark.parametrize("period", [2, 4, 8])
@pytest.mark.parametrize("name", MADE_FOR)
def test_each_statistic_sees_what_it_was_made_for(name, period):
    rng = np.random.default_rng(0)
    kind, score = MADE_FOR[name], baselines.BASELINES[name]
    clean = [rng.normal(128, 3, (120, 120)).astype(np.float32) for _ in range(5)]
    traced = [injections.inject(c, kind, period, 3.0 if kind == "mean" else 0.8, "overlap", rng) for c in clean]
    sees = min(score(t, period) for t in traced) > max(score(c, period) for c in clean)
    assert sees is not ((name, period) == ("cross-difference", 2))  # one 2 x 2 block holds all phases


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_statistics_say_where_they_know_nothing(name):
    assert np.isnan(baselines.BASELINES[name](np.random.default_rng(0).uniform(0, 255, (24, 24)), 16))
    assert np.isfinite(baselines.BASELINES[name](np.zeros((48, 48)), 2))


# ---------------------------------------------------------------- generators


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", generators.families())
def test_a_constant_stays_one_where_theory_says_so(name, depth):
    family = generators.families()[name]
    torch.manual_seed(0)
    out = generators.network(family, depth)(torch.rand(3, 1, 1).expand(3, 20, 20)[None])[0]
    inner = out[:, 16 : out.shape[1] - 16, 16 : out.shape[2] - 16]
    assert inner.shape[1] >= 2 * family.stride
    ripple = (inner - inner.mean((1, 2), keepdim=True)).abs().max().item()
    assert (ripple < 1e-5) is family.even


def test_generated_pictures_are_repeatable_and_of_their_size():
    first, again = (list(generators.generated("transposed k3 s2", 2, 28, "camera", 2, 0)) for _ in range(2))
    assert [i.shape for i in first] == [(28, 28, 3)] * 2
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(*first)


# ---------------------------------------------------------------- jobs


def test_cells_cover_the_ladder_and_leave_out_what_a_chain_erases():
    cells = list(pictures.cells())
    assert len(set(cells)) == len(cells)
    assert {(k, a) for k, _, a, _ in cells} == {(k, a) for k, ladder in injections.AMPLITUDES.items() for a in ladder}
    assert not [c for c in cells if c[1] == 2 and c[3] == "resize"]


def test_results_are_kept_by_their_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT", tmp_path)
    scale = pictures.Scale(1, 1, 1, 1, 1)
    monkeypatch.setattr(pictures, "cells", lambda: iter([("mean", 2, 0.6, "none")]))
    monkeypatch.setattr(pictures, "AUC_SIZE", 48)
    job = pictures.Job("auc", "camera", scale)
    path = jobs.kept_at(job, "others")
    assert jobs.work(job, "others", path) == len(injections.CHAINS) + 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path not in (
        jobs.kept_at(pictures.Job("auc", "camera", pictures.Scale(2, 1, 1, 1, 1)), "others"),
        jobs.kept_at(job, "ours"),
    )
    monkeypatch.setattr(jobs, "jobs", lambda part, scale: [job])
    found = jobs.rows("auc", "others", scale)
    assert [r["chain"] for r in found] == [*injections.CHAINS, "none"]
    assert set(found[-1]["scores"]) == {"2"}
