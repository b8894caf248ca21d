"""The planes of a picture, strip by strip, against whole planes written out."""

from __future__ import annotations

import os

import naive_measure as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenly.measure.planes import LUMA, Boxes, strips

PROVE = os.environ.get("EVENLY_PROVE") == "1"
TOLERANCE = 2e-4  # single precision, of planes whose values are of order one


def whole(pixels, *, every=True):
    """All strips, one below the other, named as in the naive version."""
    found: dict[str, list] = {}
    rows = 0
    for s in strips(pixels, lambda part: part.astype(np.float32), every=every):
        assert s.start == rows
        rows += len(s.mean)
        parts = {"mean": s.mean, "mean weight": s.weight, "mean residual": s.residual, "variance": s.variance}
        parts["content"] = s.content
        parts |= dict(zip(("along", "down"), s.differences, strict=False))
        for name, colour in zip(("blue", "red"), s.chroma, strict=False):
            parts |= {name: colour.mean, f"{name} weight": colour.weight, f"{name} residual": colour.residual}
        for name, plane in parts.items():
            assert plane.dtype == np.float32
            found.setdefault(name, []).append(plane)
    assert rows == len(pixels)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def assert_planes(pixels):
    expected, found = naive.planes(pixels), whole(pixels)
    assert found.keys() == expected.keys()
    for name, plane in expected.items():
        inside = found[name][1:-1, 1:-1], plane[1:-1, 1:-1]  # MARGIN: pixels that are never tested
        assert found[name].shape == pixels.shape[:2]
        assert np.abs(inside[0] - inside[1]).max() < TOLERANCE * max(1.0, np.abs(plane).max()), name


@settings(max_examples=40 if PROVE else 8)
@given(st.integers(24, 130), st.integers(24, 130), st.booleans(), st.integers(0, 2**32 - 1))
def test_planes_of_any_size(height, width, colour, seed):
    rng = np.random.default_rng(seed)
    assert_planes(naive.texture(rng, (height, width, 3) if colour else (height, width)))


@pytest.mark.parametrize("height", [24, 25, 52, 63, 64, 65, 75, 76, 77, 127, 128, 129])
def test_planes_across_strips(height):
    rng = np.random.default_rng(height)
    assert_planes(rng.integers(0, 256, (height, 31, 3) if height % 2 else (height, 31), np.uint8))


@pytest.mark.parametrize("shorter", [24, 34, 35, 44, 45, 46, 200])
def test_boxes_are_odd_and_shrink_with_the_picture(shorter):
    boxes = Boxes.of(shorter)
    assert boxes.gain % 2 == boxes.strength % 2 == 1
    assert 3 <= boxes.gain <= boxes.strength <= max(3, shorter / 5 + 1)
    if shorter >= 45:
        assert (boxes.gain, boxes.strength) == (7, 9)


def test_the_luma_alone_is_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (70, 40, 3), np.uint8)
    alone, every = whole(pixels, every=False), whole(pixels)
    assert set(alone) == {"mean", "mean weight", "mean residual", "content", "variance"}
    assert all(np.array_equal(alone[name], every[name]) for name in alone)


def test_luma_is_that_of_jpeg():
    assert LUMA.sum() == pytest.approx(1)
    grey = np.repeat(np.random.default_rng(0).uniform(0, 255, (40, 40, 1)), 3, -1)
    found = whole(grey)
    assert np.allclose(found["mean"], whole(grey[..., 0])["mean"], atol=TOLERANCE)
    assert np.abs(found["blue residual"]).max() < 1e-4  # grey has no colour


@given(st.integers(0, 2**32 - 1), st.floats(-100, 100))
def test_a_constant_or_a_ramp_added_leaves_the_residual(seed, slope):
    picture = naive.texture(np.random.default_rng(seed), (40, 33))
    y, x = np.indices(picture.shape)
    change = whole(picture + 7 + slope / 50 * y - slope / 70 * x)["mean residual"] - whole(picture)["mean residual"]
    assert np.abs(change[1:-1, 1:-1]).max() < 1e-3  # the mirrored border bends a ramp


def test_a_transposed_picture_has_transposed_planes():
    picture = naive.texture(np.random.default_rng(1), (90, 61, 3))
    found, turned = whole(picture), whole(picture.transpose(1, 0, 2))
    found["along"], found["down"] = found["down"], found["along"]
    for name, plane in found.items():
        assert np.abs(turned[name].T - plane).max() < TOLERANCE * max(1.0, np.abs(plane).max()), name
