"""What else leaves lines at whole periods: sensors' mosaics, textures, the strength of details."""

from __future__ import annotations

import sys
from pathlib import Path

import naive_measure as naive
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
try:
    from measuring import confounders, injections, photographs
finally:
    sys.path.pop(0)

from evenly.measure.examine import Examination, gather, grid_of
from evenly.measure.image import measure_image
from evenly.measure.result import PERIODS
from evenly.measure.tapers import plan


def level(part):
    return part.astype(np.float32)


def examined(pixels):
    pixels = np.asarray(pixels)
    layout = plan(pixels.shape[0] - 2, pixels.shape[1] - 2, PERIODS)
    grids = gather(
        pixels, level, layout, lambda s: {"mean": (s.mean, s.weight), "variance": (s.variance,)}, every=False
    )
    return Examination(pixels, level, layout, grids)


def noise(shape, seed=0, deviation=4.0):
    return 128 + deviation * np.random.default_rng(seed).standard_normal(shape)


COLOURED = ("astronaut", "cat", "china", "coffee", "motorcycle", "rocket")


@pytest.fixture(scope="module")
def photos():
    return [next(photographs.crops(n, 160, 1, seed=4)) for n in COLOURED]


# ---------------------------------------------------------------- mosaics


@pytest.mark.parametrize("origin", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_an_interpolated_bayer_mosaic_is_one(photos, origin):
    found = [examined(photographs.to_bytes(confounders.demosaic(p, "bilinear", origin))).is_mosaic for p in photos]
    assert np.mean(found) > 0.6


def test_a_mosaic_of_white_noise_is_one():
    for seed in range(5):
        pixels = confounders.demosaic(noise((128, 128, 3), seed, 15.0), "bilinear", (seed % 2, 1))
        assert examined(pixels).is_mosaic


def test_what_is_no_mosaic_is_none(photos):
    assert not any(examined(photographs.to_bytes(p)).is_mosaic for p in photos)
    assert not any(examined(photographs.to_bytes(p)[..., 1]).is_mosaic for p in photos)
    doubled = [
        injections.resize(photographs.to_bytes(p)[:90, :90], 2.0, m) for p in photos for m in ("BICUBIC", "NEAREST")
    ]
    assert not any(examined(d).is_mosaic for d in doubled)
    same = noise((128, 128, 1)) + np.zeros(3)
    modulated = (same - 128) * (1 + 0.6 * naive.cosine((128, 128), 2, (1, 1)))[..., None] + 128
    assert not examined(modulated).is_mosaic  # alike in all colours


def test_pictures_too_small_for_period_2_are_no_mosaic():
    pixels = noise((30, 30, 3))
    small = Examination(pixels, level, plan(28, 28, (5,)), {})
    assert not small.is_mosaic


# ---------------------------------------------------------------- textures


@pytest.mark.parametrize("period", [2, 4, 8])
@pytest.mark.parametrize("line", [(0, 1), (1, 0), (1, 1)])
def test_a_pattern_at_its_period_is_no_texture(period, line):
    pixels = noise((160, 150)) + 4 * naive.cosine((160, 150), period, line)
    assert not examined(pixels).is_texture("mean", [period])


@pytest.mark.parametrize("period", [3, 4, 8])
@pytest.mark.parametrize("bins", [-0.5, -0.3, 0.3, 0.5])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_grating_beside_a_period_is_texture(period, bins, axis):
    at = np.indices((160, 160))[axis]
    wave = np.cos(2 * np.pi * at * (1 / period + bins / 160) + 0.3)
    assert examined(noise((160, 160)) + 6 * wave).is_texture("mean", [period])


def test_noise_lies_beside_nothing():
    found = [examined(noise((96, 96), s)).is_texture("mean", [p]) for s in range(20) for p in (2, 4, 8)]
    assert np.mean(found) < 0.1


@pytest.mark.parametrize(("strength", "texture"), [(6.0, True), (0.4, False)])
def test_rivals_count_where_they_are_as_strong(strength, texture):
    y, x = np.indices((160, 160))
    rival = strength * np.cos(2 * np.pi * (y / 5.37 + x / 6.71))
    pixels = noise((160, 160)) + 4 * naive.cosine((160, 160), 4, (1, 1)) + rival
    assert examined(pixels).is_texture("mean", [4]) is texture


def test_a_comb_of_many_periods_is_no_rival_of_itself():
    cell = np.random.default_rng(3).standard_normal((8, 8))
    pixels = noise((160, 160)) + 3 * np.tile(cell, (20, 20))
    assert not examined(pixels).is_texture("mean", [2, 4, 8])
    strength = 1 + 0.7 * np.tile(np.clip(cell, -1, 1), (20, 20))
    modulated = 128 + 20 * strength * np.random.default_rng(1).standard_normal((160, 160))
    assert not examined(modulated).is_texture("variance", [2, 4, 8])


# ---------------------------------------------------------------- strength


def test_what_was_added_is_in_the_residual_itself():
    pixels = noise((100, 100, 3))
    pixels += (
        2 * naive.cosine((100, 100), 4, (0, 1))[..., None] + [0, 0, 3] * naive.cosine((100, 100), 2, (1, 1))[..., None]
    )
    found = examined(pixels)
    assert found.ungained("mean", 4) < -8
    assert found.ungained("chroma", 2) < -8
    assert found.ungained("mean", 5) > -4
    assert found.ungained("chroma", 5) > -4
    assert Examination(pixels, level, plan(98, 98, (4,)), {}).ungained("mean", 3) == 0  # not tested


def test_lines_are_gathered_strip_by_strip_without_the_margin():
    pixels = np.random.default_rng(0).integers(0, 256, (150, 90), np.uint8)
    layout = plan(148, 88, (2, 4))
    found = gather(pixels, level, layout, lambda s: {"residual": (s.residual,)}, every=False)
    whole = naive.residual(naive.luma(pixels))  # the margin is what a valid 3 x 3 box leaves out
    grid = grid_of(found["residual"], 4)
    group = grid.group
    for line in ((0, 1), (3, 2)):
        expected = naive.tapered_sum(whole, group.taper_rows, group.taper_columns.T, line, group.base)
        assert grid.y[line] == pytest.approx(expected.ravel(), rel=1e-3, abs=0.02)
    assert grid_of(found["residual"], 3) is None


@pytest.mark.parametrize("traces", [("chroma",), ("interpolation",), ("variance", "chroma"), ("mean",)])
def test_traces_that_are_left_out_are_not_asked_for(traces):
    cell = np.tile(np.random.default_rng(0).standard_normal((4, 4, 3)), (24, 24, 1))
    measured = measure_image(noise((96, 96, 3)) + 5 * cell, traces=traces)
    assert all((t is not None) == (n in traces) for n, t in measured.periods[4].traces().items())
    whole = measure_image(noise((96, 96, 3)) + 5 * cell).periods[4].traces()
    assert all(measured.periods[4].traces()[n].log10_p == pytest.approx(whole[n].log10_p, rel=1e-3) for n in traces)
