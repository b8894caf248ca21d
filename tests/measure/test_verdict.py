"""Planted causes and what is said of them: the verdict, the periods it is about, and the kinds of causes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import naive_measure as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
try:
    from measuring import confounders, generators, injections, photographs
finally:
    sys.path.pop(0)

from evenly.measure.examine import Examination, TracePlanes, gather
from evenly.measure.image import measure_image
from evenly.measure.result import PERIODS, VERDICTS, Lines
from evenly.measure.shapes import displaced, is_screen
from evenly.measure.tapers import plan

COLOURED = ("astronaut", "cat", "china", "coffee", "motorcycle", "rocket")
SIZE = 160


@pytest.fixture(scope="module")
def photos():
    """Photographs without any grid, not yet rounded."""
    return [p for name in COLOURED for p in photographs.crops(name, SIZE, 2, seed=6)]


def generated(name, depth):
    return lambda _: [p for n in COLOURED for p in generators.generated(name, depth, 128, n, 2, 1)]


def changed(change):
    return lambda photos: [change(p, np.random.default_rng(i)) for i, p in enumerate(photos)]


def added(period, amplitude):
    def change(photo, rng):
        return photographs.to_bytes(injections.inject(photo, "mean", period, amplitude, "random", rng))

    return changed(change)


class Case(NamedTuple):
    """What most pictures of a kind are called, and what hardly any is."""

    make: Callable
    verdict: tuple[str, ...]  # any of these
    found: set[int]  # all of these
    kinds: set[str]  # all of these
    never: set[str] = set()  # noqa: RUF012 - a named tuple's default
    share: float = 0.75


REAL = {"up-sampling"}
SEEN = ("weak", "strong")
CASES = {
    "a photograph": Case(changed(lambda p, _: photographs.to_bytes(p)), ("none",), set(), set(), REAL, 0.9),
    "transposed k3 s2": Case(generated("transposed k3 s2", 1), SEEN, {2}, REAL),
    "two transposed k3 s2": Case(generated("transposed k3 s2", 2), SEEN, {2, 4}, REAL),
    "transposed k6 s3": Case(generated("transposed k6 s3", 1), SEEN, {3}, REAL),
    "nearest, convolution": Case(generated("Upsample nearest, Conv", 1), SEEN, {2}, {"resize"}, REAL),
    "a pattern at 4": Case(added(4, 1.0), SEEN, {4}, REAL, share=0.9),
    "a pattern at 5": Case(added(5, 1.0), SEEN, {5}, REAL, share=0.9),
    "JPEG 75": Case(
        changed(lambda p, _: injections.jpeg(photographs.to_bytes(p), 75)), ("none",), set(), {"jpeg-grid"}, REAL
    ),
    "a mosaic": Case(
        changed(lambda p, rng: photographs.to_bytes(confounders.demosaic(p, "bilinear", tuple(rng.integers(0, 2, 2))))),
        ("none",),
        set(),
        {"demosaicing"},
        REAL,
    ),
    "resized by 2": Case(
        changed(lambda p, _: injections.resize(photographs.to_bytes(p)[:120, :120], 2.0)), SEEN, {2}, {"resize"}, REAL
    ),
    "resized by 1.3": Case(
        changed(lambda p, _: injections.resize(photographs.to_bytes(p), 1.3)), ("none",), set(), set(), REAL
    ),
    "a grating of 3.1 pixels": Case(
        changed(lambda p, rng: confounders.grating(p, rng, 3.1)), ("none",), set(), set(), REAL, 0.9
    ),
    "a printed screen": Case(changed(confounders.halftone), ("none",), set(), set(), REAL, 0.6),
}


@pytest.mark.parametrize("name", CASES)
def test_planted_causes_are_told(name, photos):
    case = CASES[name]
    measured = [measure_image(p) for p in case.make(photos)]
    kinds = [{c.kind for c in m.causes} for m in measured]
    right = [
        m.verdict in case.verdict and case.found <= set(m.found) and case.kinds <= k
        for m, k in zip(measured, kinds, strict=True)
    ]
    assert np.mean(right) >= case.share, [(m.verdict, m.found, m.cause) for m in measured]
    assert np.mean([bool(k & case.never) for k in kinds]) <= 0.1


@pytest.mark.parametrize("period", [3.9, 4.1, 7.5])
def test_gratings_beside_a_period_are_not_called_up_sampling(period, photos):
    called = []
    for seed, photo in enumerate(photos):
        measured = measure_image(confounders.grating(photo, np.random.default_rng(seed), period))
        called.append("up-sampling" in {c.kind for c in measured.causes})
    assert np.mean(called) <= 0.1


def screened(photo, steps, rng):
    """A print whose screen repeats after whole pixels: round dots on the lattice of ``steps`` and its quarter turn."""
    grey = photo.mean(-1)
    y, x = np.indices(grey.shape)
    (a, b), turns = steps, rng.uniform(0, 2 * np.pi, 2)
    screen = 127.5 + 63 * (
        np.cos(2 * np.pi * (a * y + b * x) + turns[0]) + np.cos(2 * np.pi * (a * x - b * y) + turns[1])
    )
    ink = gaussian_filter(np.clip((grey - screen) / 20 + 0.5, 0, 1), 0.6)
    return photographs.to_bytes(30 + 200 * ink + rng.standard_normal(grey.shape))


@pytest.mark.parametrize("steps", [(1 / 5, 1 / 5), (1 / 6, 1 / 6), (1 / 8, 1 / 8), (1 / 8, 2 / 8), (1 / 16, 3 / 16)])
def test_most_printed_screens_of_whole_periods_are_not_called_up_sampling(steps, photos):
    measured = [measure_image(screened(p, steps, np.random.default_rng(i))) for i, p in enumerate(photos)]
    assert np.mean(["texture" in {c.kind for c in m.causes} for m in measured]) >= 0.7
    assert np.mean(["up-sampling" in {c.kind for c in m.causes} for m in measured]) <= 0.3  # where all dots are specks


def lattice(index, amplitude):
    """Lines of period 8 with these amplitudes."""
    count = len(index)
    return Lines(np.array(index), np.full(count, -9.0), np.ones(count, complex), np.array(amplitude), np.zeros(count))


@pytest.mark.parametrize(
    ("index", "amplitude", "screen"),
    [
        ([(1, 1), (7, 1)], [5.0, 4.9], True),
        ([(1, 2), (6, 1)], [5.0, 4.9], True),  # (2, -1), a quarter turn from (1, 2)
        ([(1, 1), (7, 1), (2, 0), (0, 2)], [5.0, 5.0, 3.0, 3.0], True),  # with their sum and difference
        ([(1, 1), (7, 1)], [5.0, 3.0], False),  # one is weaker
        ([(1, 2), (2, 1)], [5.0, 5.0], False),  # mirrored, not turned
        ([(1, 0), (0, 1)], [5.0, 5.0], False),  # on the axes: an overlap's
        ([(1, 1), (7, 1), (3, 1), (3, 3)], [5.0, 5.0, 3.0, 3.0], False),  # a quarter of the energy lies elsewhere
    ],
)
def test_a_screen_has_two_generators_a_quarter_turn_apart(index, amplitude, screen):
    assert is_screen({8: lattice(index, amplitude)}) == screen


@pytest.mark.parametrize(("bins", "called"), [(0.0, False), (0.3, True), (-0.5, True)])
@pytest.mark.parametrize("axes", [(1, 0), (1, 1)])
def test_a_wave_beside_a_period_is_told_from_one_at_it(bins, called, axes):
    rng = np.random.default_rng(4)
    y, x = np.indices((160, 160)) * (1 / 8 + bins / 160)
    pixels = 128 + 3 * rng.standard_normal((160, 160)) + np.cos(2 * np.pi * (axes[0] * y + axes[1] * x))
    layout = plan(158, 158, PERIODS)
    grids = gather(pixels, lambda block: block.astype(np.float32), layout, TracePlanes(["mean"]).planes, every=False)
    found = {8: measure_image(pixels, [8]).periods[8].mean.lines}
    assert displaced(found, Examination(pixels, np.float32, layout, grids)) == called


@pytest.mark.parametrize(("size", "share"), [(28, 0.4), (32, 0.5), (64, 0.8)])
def test_small_pictures_of_a_strong_generator_are_recognised(size, share):
    made = [p for n in COLOURED for p in generators.generated("transposed k3 s2", 1, size, n, 3, 2)]
    found = [2 in measure_image(p).found for p in made]
    assert np.mean(found) >= share
    clean = [photographs.to_bytes(p) for n in COLOURED for p in photographs.crops(n, size, 3, seed=9)]
    assert np.mean([measure_image(p).verdict != "none" for p in clean]) <= 0.06


def test_stronger_patterns_have_stronger_verdicts():
    rng = np.random.default_rng(0)
    noise = 128 + 3 * rng.standard_normal((96, 96))
    pattern = np.tile(rng.standard_normal((4, 4)), (24, 24))
    order = [VERDICTS.index(measure_image(noise + a * pattern).verdict) for a in (0.0, 0.05, 0.2, 0.3, 0.6, 2.0)]
    assert order == sorted(order)
    assert (order[0], order[-1]) == (0, 2)


@pytest.mark.parametrize(
    ("periods", "chain"), [((2,), "2"), ((2, 4), "2 x 2"), ((2, 4, 8), "2 x 2 x 2"), ((3,), "3"), ((5,), "5")]
)
def test_the_chain_of_factors_is_named(periods, chain):
    rng = np.random.default_rng(1)
    pixels = 128 + 3 * rng.standard_normal((160, 160))
    for period in periods:
        cell = rng.standard_normal((period, period))
        pixels += 1.5 * np.tile(cell, (-(-160 // period),) * 2)[:160, :160]
    measured = measure_image(pixels)
    assert (measured.verdict, measured.found) == ("strong", periods)
    assert [c.kind for c in measured.causes] == ["up-sampling"]
    assert f"up-sampling by {chain} (" in measured.cause
    assert "pixels" in measured.cause


@pytest.mark.parametrize("period", [4, 5, 8])
@pytest.mark.parametrize("line", [(0, 1), (1, 0)])
def test_stripes_along_one_axis_are_texture(period, line):
    noise = 128 + 3 * np.random.default_rng(2).standard_normal((160, 160))
    measured = measure_image(noise + naive.cosine((160, 160), period, line))
    assert measured.periods[period].mean.log10_p < -20
    assert measured.verdict == "none"
    assert {c.kind for c in measured.causes} == {"texture"}


@given(st.integers(0, 2**32 - 1), st.integers(24, 90), st.sampled_from([0.0, 0.5, 4.0]), st.sampled_from([2, 3, 4, 8]))
def test_verdict_periods_and_causes_agree(seed, size, amplitude, period):
    rng = np.random.default_rng(seed)
    pixels = naive.texture(rng, (size, size + 3, 3))
    cell = rng.standard_normal((period, period))
    pixels += amplitude * np.tile(cell, (size, size))[:size, : size + 3, None]
    measured = measure_image(photographs.to_bytes(pixels))
    claimed = {p for c in measured.causes if c.kind in {"up-sampling", "resize"} for p in c.periods}
    assert (measured.verdict == "none") == (measured.found == ())
    assert claimed <= set(measured.found)
    assert all(any(p % q == 0 or q % p == 0 for q in claimed) for p in measured.found)  # no period without a cause
    assert list(measured.found) == sorted(set(measured.found) & set(PERIODS))
    assert all(c.periods and c.text for c in measured.causes)
    assert len({c.kind for c in measured.causes}) == len(measured.causes)
    for p in measured.found:  # nothing is claimed without evidence
        assert min(t.log10_p for t in measured.periods[p].traces().values() if t is not None) < -3


@pytest.mark.parametrize(("period", "kind"), [(8, "tiling"), (16, "tiling"), (4, "up-sampling")])
def test_tiles_are_told_by_their_edges(period, kind):
    y, x = np.mgrid[:192, :192]
    flat = np.random.default_rng(period).normal(128, 4, (192, 192))
    edges = flat + 4.0 * ((x % period == 0) | (y % period == 0))
    measured = measure_image(edges.round().clip(0, 255).astype(np.uint8))
    assert period in measured.found
    assert kind in {cause.kind for cause in measured.causes}
