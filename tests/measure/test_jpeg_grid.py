"""JPEG's grid: found where it is and nowhere else, and taken out of the lines without what lies beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import naive_measure as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.fft import dctn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
try:
    from measuring import injections, photographs
finally:
    sys.path.pop(0)

from evenly.measure.image import measure_image
from evenly.measure.jpeg import find_grid, without_grid
from evenly.measure.lines import PlaneSums, chosen
from evenly.measure.tapers import plan

PROVE = os.environ.get("EVENLY_PROVE") == "1"
NAMES = photographs.fitting(200) if PROVE else ["camera", "china", "coffee", "motorcycle", "rocket"]


@pytest.fixture(scope="module")
def clean():
    """Photographs without any grid."""
    return {n: photographs.to_bytes(next(photographs.crops(n, 200, 1, seed=5))) for n in NAMES}


def grey(pixels):
    return naive.luma(pixels).astype(np.float32)


# ---------------------------------------------------------------- where it is


@settings(max_examples=400 if PROVE else 40)
@given(st.integers(50, 95), st.integers(0, 7), st.integers(0, 7), st.integers(0, 99), st.integers(120, 192))
def test_the_grid_of_a_cropped_jpeg_is_found(clean, quality, top, left, which, side):
    picture = clean[NAMES[which % len(NAMES)]]
    stored = injections.jpeg(picture, quality)[top : top + side, left : left + side]
    assert find_grid(grey(stored)) == (-top % 8, -left % 8)


@pytest.mark.parametrize("shift", [(0, 6), (0, 3), (5, 0), (2, 0)])
def test_a_grid_that_starts_at_one_border_is_not_taken_for_one_at_both(clean, shift):
    for picture in clean.values():
        stored = injections.jpeg(picture, 75)[shift[0] : shift[0] + 172, shift[1] : shift[1] + 172]
        assert find_grid(grey(stored)) == (-shift[0] % 8, -shift[1] % 8)


def test_the_grid_is_where_most_coefficients_vanish(clean):
    stored = grey(injections.jpeg(clean["camera"], 80)[3:187, 6:190])
    zeros = np.zeros((8, 8))
    for y in range(8):
        for x in range(8):
            for i in range(y, 184 - 7, 8):
                for j in range(x, 184 - 7, 8):
                    zeros[y, x] += (np.abs(dctn(stored[i : i + 8, j : j + 8], norm="ortho")) < 0.5).mean()
    zeros /= np.outer([(184 - y) // 8 for y in range(8)], [(184 - x) // 8 for x in range(8)])
    assert find_grid(stored) == np.unravel_index(zeros.argmax(), (8, 8)) == (5, 2)


def test_pictures_never_compressed_have_no_grid(clean):
    assert [n for n, p in clean.items() if find_grid(grey(p)) is not None] == []


@pytest.mark.parametrize("deviation", [0.0, 0.3, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("shape", [(24, 24), (25, 60), (96, 80)])
def test_noise_and_constants_have_no_grid(deviation, shape):
    for seed in range(10):
        noise = np.rint(np.random.default_rng(seed).normal(128, deviation, shape)).astype(np.float32)
        assert find_grid(noise) is None


@pytest.mark.parametrize("pattern", injections.PATTERNS)
def test_a_pattern_of_strength_at_8_pixels_is_no_grid(clean, pattern):
    rng = np.random.default_rng(0)
    for picture in clean.values():
        painted = injections.inject(picture.astype(np.float32), "variance", 8, 0.6, pattern, rng)
        assert find_grid(grey(photographs.to_bytes(painted))) is None


# ---------------------------------------------------------------- what is left


def lines_of(plane, periods=(2, 4, 8, 16)):
    sums = PlaneSums(plan(*plane.shape, periods), 0)
    sums.add(0, plane.astype(np.float32))
    return sums.lines()


def of_period(grids, period):
    grid = next(g for g in grids.values() if period in g.group.periods)
    index, at = chosen(grid, period)
    return index, grid.log_p[0][at], grid.wave[at]


def profile(shape, origin, odd):
    """A pattern that every block has, mirror-symmetric about its middle, or antisymmetric along the columns."""
    rng = np.random.default_rng(1)
    down, along = (rng.standard_normal(4) for _ in range(2))
    down, along = np.concatenate([down, down[::-1]]), np.concatenate([along, -along[::-1] if odd else along[::-1]])
    if not odd:
        down, along = down - down.mean(), along - along.mean()
    block = np.add.outer(0 * down if odd else down, along)
    return np.roll(np.tile(block, (shape[0] // 8 + 1, shape[1] // 8 + 1)), origin, (0, 1))[: shape[0], : shape[1]]


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_a_profile_that_mirrors_in_its_block_is_taken_out(top, left, seed):
    noise = np.random.default_rng(seed).standard_normal((120, 111))
    raw = lines_of(noise + profile(noise.shape, (top, left), odd=False))
    left_over = without_grid({"variance": raw}, (top, left))["variance"]
    for period in (4, 8):
        index, before, _ = of_period(raw, period)
        _, after, wave = of_period(left_over, period)
        axes = (index == 0).any(1)
        assert before[axes].min() < -20
        assert after[axes].min() > -12  # of some lines of noise
        assert np.abs(wave[axes]).max() < 0.1


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_what_lies_in_quadrature_survives(top, left, seed):
    noise = np.random.default_rng(seed).standard_normal((120, 111))
    raw = lines_of(noise + profile(noise.shape, (top, left), odd=True))
    left_over = without_grid({"variance": raw}, (top, left))["variance"]
    for period in (2, 4, 8):
        _, before, was = of_period(raw, period)
        _, after, wave = of_period(left_over, period)
        strongest = int(before.argmin())
        assert before[strongest] < -20
        assert after[strongest] < 0.8 * before[strongest]
        assert wave[strongest] == pytest.approx(was[strongest], rel=0.1)


def test_p_values_beside_the_grid_are_honest():
    found: dict[int, list[float]] = {4: [], 8: []}
    phases = []
    for seed in range(150):
        plane = np.random.default_rng(seed).standard_normal((64, 70))
        left_over = without_grid({"variance": lines_of(plane, (4, 8))}, (2, 5))["variance"]
        for period, values in found.items():
            index, log_p, wave = of_period(left_over, period)
            kept = (index * 2 < period).all(1) & (index > 0).any(1)
            values.extend(np.exp(log_p[kept]).tolist())
            phases.extend(np.angle(wave[kept] * np.exp(2j * np.pi * index[kept] @ [5.5, 8.5] / period)).tolist())
    for values in found.values():
        assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert np.abs(np.abs(phases) - np.pi / 2).max() < 1e-6  # none has the grid's phase
    assert abs(np.mean(np.sign(phases))) < 4 / np.sqrt(len(phases))


def test_lines_off_the_grid_and_other_planes_are_untouched():
    plane = np.random.default_rng(0).standard_normal((100, 110))
    raw = {"variance": lines_of(plane), "mean": lines_of(plane)}
    found = without_grid(raw, (3, 1))
    for name, period in (("variance", 16), ("mean", 8), ("mean", 4)):
        assert np.array_equal(of_period(found[name], period)[1], of_period(raw[name], period)[1])
        assert np.array_equal(of_period(found[name], period)[2], of_period(raw[name], period)[2])


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_the_lines_of_real_jpegs_no_longer_fire(clean, quality):
    fired = []
    for seed, picture in enumerate(clean.values()):
        top, left = np.random.default_rng(seed).integers(0, 8, 2)
        measured = measure_image(injections.jpeg(picture, quality)[top:, left:])
        assert "up-sampling" not in {c.kind for c in measured.causes}
        for period in (4, 8):
            fired += [
                t.log10_p < -4 for t in (measured.periods[period].variance, measured.periods[period].interpolation)
            ]
    assert np.mean(fired) <= 0.05


def test_a_pattern_added_to_a_jpeg_survives(clean):
    found = []
    for seed, picture in enumerate(clean.values()):
        stored = injections.jpeg(picture, 90).astype(np.float32)
        plain = measure_image(photographs.to_bytes(stored))
        rng = np.random.default_rng(seed)
        painted = photographs.to_bytes(injections.inject(stored, "variance", 4, 0.6, "random", rng))
        assert measure_image(painted).periods[4].variance.log10_p < plain.periods[4].variance.log10_p
        found.append(measure_image(painted).periods[4].variance.log10_p < -4)
    assert np.mean(found) >= 0.6
