"""From arrays of any type to grey levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evenly.errors import UsageError
from evenly.measure.levels import grey_levels


def converted(pixels):
    array, level, notes = grey_levels(pixels)
    grey = level(array)
    assert grey.dtype == np.float32
    return grey, notes


bytes_ = arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6)))


@given(bytes_)
def test_the_same_picture_in_every_type_has_the_same_levels(picture):
    same = [
        picture,
        picture.astype(np.uint16) * 257,
        picture / 255,
        (picture / 255).astype(np.float32),
        picture / 127.5 - 1 if picture.min() < 127 else picture,
        picture[..., None],
        np.stack([picture, np.full_like(picture, 9)], -1),
        picture.tolist(),
    ]
    for form in same:
        assert np.allclose(converted(form)[0], picture, atol=2e-4)


@given(bytes_)
def test_a_view_of_another_layout_is_the_same_picture(picture):
    assert np.array_equal(converted(picture.T)[0].T, converted(picture)[0])
    assert np.array_equal(converted(picture[::-1, ::-1])[0], picture[::-1, ::-1])
    assert np.array_equal(converted(picture.astype(">u2"))[0], converted(picture.astype("<u2"))[0])


def test_bools_are_black_and_white():
    grey, notes = converted(np.array([[True, False], [False, True]])[:, ::-1])
    assert grey.tolist() == [[0, 255], [255, 0]]
    assert notes == ()


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_left_out_and_said(channels):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 7, channels), np.uint8)
    grey, notes = converted(pixels)
    assert grey.shape == ((5, 7, 3) if channels == 4 else (5, 7))
    assert np.array_equal(grey.squeeze(), pixels[..., : channels - 1].squeeze())
    assert any("alpha" in n for n in notes)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        ([[0.0, 1.0]], None),
        ([[-0.5, 1.0]], "-1 to 1"),
        ([[0.0, 200.0]], "grey levels"),
        (np.array([[3, 200]], np.int64), "grey levels"),
        ([[-3.0, 500.0]], "-3 to 500"),
        (np.array([[-7, 5]], np.int16), "-7 to 5"),
        (np.array([[0, 2**32 - 1]], np.uint32), "0 to"),
        (np.array([[-(2**63), 2**63 - 1]], np.int64), "were taken"),
        (np.array([[0, 60000]], np.float16), "were taken"),
    ],
)
def test_a_range_that_was_guessed_is_said(pixels, words):
    grey, notes = converted(np.asarray(pixels))
    assert (words is None) == (notes == ())
    assert words is None or words in notes[0]
    assert grey.min() >= 0
    assert grey.max() <= 255.001


@given(
    arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)),
    st.floats(1e-3, 1e3),
    st.floats(-1e6, 1e6),
)
def test_other_ranges_are_stretched_from_black_to_white(values, factor, shift):
    picture = values * factor + shift
    assume(picture.min() < -1 or picture.max() > 255)
    grey, _ = converted(picture)
    if np.ptp(picture) == 0:
        assert not grey.any()
    else:
        expected = 255 * (picture - picture.min()) / np.ptp(picture)
        assert np.allclose(grey, expected, atol=1e-3)


def test_small_differences_of_large_numbers_are_kept():
    grey, _ = converted(1e9 + np.arange(256.0).reshape(16, 16))
    assert np.allclose(grey, np.arange(256).reshape(16, 16), atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_refused(value, dtype):
    pixels = np.zeros((30, 30), dtype)
    pixels[3, 4] = value
    with pytest.raises(UsageError, match="not finite"):
        grey_levels(pixels)


def test_an_infinite_range_is_refused():
    with pytest.raises(UsageError, match=r"-1.7e\+308 to 1.7e\+308"):
        grey_levels(np.array([[-1.7e308, 1.7e308]]))


@pytest.mark.parametrize("shape", [(), (5,), (4, 4, 5), (4, 4, 0), (1, 4, 4, 3), (0, 4), (4, 0, 3)])
def test_other_shapes_are_refused_with_their_shape(shape):
    with pytest.raises(UsageError, match="shape") as caught:
        grey_levels(np.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("dtype", [np.complex128, "U3", "M8[s]", object])
def test_other_types_are_refused_with_their_type(dtype):
    with pytest.raises(UsageError, match="of type"):
        grey_levels(np.zeros((4, 4), dtype))
