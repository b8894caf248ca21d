"""DC gains, ripple and image rejection against layers that are run."""

from __future__ import annotations

from itertools import product
from math import inf, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenly.errors import ParameterError
from evenly.theory.phases import dc_gains, degrees_of_freedom, image_rejection, ripple, subpixel_gains
from reference import conv, conv_transpose, pixel_shuffle

SEED = st.integers(0, 2**32 - 1)


def middle(k: tuple[int, ...], s: tuple[int, ...], d: tuple[int, ...]) -> tuple[list[int], list[slice]]:
    """A canvas large enough for an interior, and one period of it that starts at phase 0."""
    reach = [e * (n - 1) // t + 1 for n, t, e in zip(k, s, d, strict=True)]
    return [2 * r + 2 for r in reach], [slice(t * r, t * r + t) for r, t in zip(reach, s, strict=True)]


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_gains_are_the_answer_to_a_constant(axes: int, data: st.DataObject, seed: int) -> None:
    most = {1: 7, 2: 5, 3: 3}[axes]
    k = data.draw(st.tuples(*[st.integers(1, most)] * axes))
    s = data.draw(st.tuples(*[st.integers(1, min(most, 4))] * axes))
    d = data.draw(st.tuples(*[st.integers(1, 3)] * axes))
    groups = data.draw(st.sampled_from([1, 2]))
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((4, 3, *k))
    sizes, window = middle(k, s, d)
    colour = rng.standard_normal(4)
    x = np.broadcast_to(colour.reshape(4, *(1,) * axes), (4, *sizes))
    y = conv_transpose(x, weight, s, [(0, 0)] * axes, d, groups)[(slice(None), *window)].reshape(3 * groups, -1)
    gains = dc_gains(weight, s, d)
    assert gains.shape == (prod(s), 4, 3)
    per_group = gains.reshape(prod(s), groups, 4 // groups, 3)
    mine = np.einsum("rgio,gi->gor", per_group, colour.reshape(groups, -1)).reshape(3 * groups, -1)
    np.testing.assert_allclose(mine, y, atol=1e-12)
    constant = np.ptp(y, axis=1).max() < 1e-12
    assert constant == (ripple(gains) < 1e-12)


@given(st.integers(2, 4), st.integers(1, 3), SEED)
def test_ripple_vanishes_iff_constants_stay_constant(s: int, extra: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((2, 3, extra))
    balanced = np.apply_along_axis(np.convolve, 2, base, np.ones(s))  # divisible by 1 + z + ... + z^(s-1)
    assert ripple(dc_gains(balanced, (s,))) < 1e-12
    balanced[1, 2, 0] += 0.1
    assert ripple(dc_gains(balanced, (s,))) > 1e-3


@given(st.integers(1, 8), st.integers(2, 5), SEED)
def test_ripple_is_the_response_at_the_multiples_of_the_stride(k: int, s: int, seed: int) -> None:
    """Parseval over the phases: ``sum_r |G_r - mean|^2 = sum_{j > 0} |W(j/s)|^2 / s``."""
    weight = np.random.default_rng(seed).standard_normal((2, 2, k))
    response = np.array([sum(weight[:, :, t] * np.exp(-2j * np.pi * j * t / s) for t in range(k)) for j in range(s)])
    power = (np.abs(response) ** 2).sum((1, 2))
    assert ripple(dc_gains(weight, (s,))) == pytest.approx(np.sqrt(power[1:].sum() / power[0]))


@given(st.sampled_from([(2,), (3,), (2, 2), (2, 3), (1, 2), (2, 1, 2)]), st.sampled_from([1, 2]), SEED)
def test_subpixel_gains_like_a_shuffle(factor: tuple[int, ...], groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes, channels = len(factor), 2
    weight = rng.standard_normal((channels * prod(factor), 4 // groups, *(3,) * axes))
    colour = rng.standard_normal(4)
    x = np.broadcast_to(colour.reshape(4, *(1,) * axes), (4, *(3,) * axes))
    y = pixel_shuffle(conv(x, weight, (1,) * axes, [(0, 0)] * axes, (1,) * axes, groups), factor)
    gains = subpixel_gains(weight, factor, groups)
    assert gains.shape == (prod(factor), 4, channels)
    np.testing.assert_allclose(np.einsum("rio,i->or", gains, colour), y.reshape(channels, -1), atol=1e-12)


def test_icnr_has_no_ripple() -> None:
    same = np.repeat(np.random.default_rng(0).standard_normal((3, 5, 3, 3)), 4, 0)
    assert ripple(subpixel_gains(same, (2, 2))) < 1e-15
    assert ripple(subpixel_gains(np.random.default_rng(0).standard_normal((12, 5, 3, 3)), (2, 2))) > 0.5


def test_ripple_without_a_mean() -> None:
    assert ripple(np.zeros((2, 1, 1))) == 0.0
    assert ripple(np.array([1.0, -1.0])) == inf


@given(st.integers(1, 6), st.integers(2, 4), st.integers(1, 3), st.integers(1, 7), SEED)
def test_image_rejection_of_tones(k: int, s: int, d: int, turns: int, seed: int) -> None:
    """A tone on a circle of 16 samples, zeros inserted, filtered by shifting; its lines by a plain DFT."""
    size = 16
    weight = np.random.default_rng(seed).standard_normal((2, 2, k))
    tone = np.exp(2j * np.pi * turns * np.arange(size) / size)
    wide = np.zeros(size * s, complex)
    wide[::s] = tone
    lines = np.zeros(s)
    for i, o in product(range(2), range(2)):
        y = sum(weight[i, o, t] * np.roll(wide, d * t) for t in range(k))
        for j in range(s):
            wave = np.exp(-2j * np.pi * (turns + size * j) * np.arange(size * s) / (size * s))
            lines[j] += abs((y * wave).sum()) ** 2
    want = 10 * np.log10(lines[0] / lines[1:].max())
    frequency, rejection = image_rejection(weight, s, d, np.array([turns / size]))
    assert frequency.tolist() == [turns / size]
    assert rejection[0] == pytest.approx(want, abs=1e-6)


def test_image_rejection_of_known_filters() -> None:
    f, flat = image_rejection(np.ones((1, 1, 2)), 2)  # nearest: cos against sin
    assert f[0] == 0
    assert flat[0] == inf
    np.testing.assert_allclose(flat[1:], 20 * np.log10(1 / np.tan(np.pi * f[1:] / 2)), atol=1e-9)
    _, cubed = image_rejection(np.array([[[1.0, 3.0, 3.0, 1.0]]]), 2)  # (1 + z)^3: three times as many decibels
    np.testing.assert_allclose(cubed[1:], 3 * flat[1:], atol=1e-6)
    _, lost = image_rejection(np.array([[[1.0, -1.0]]]), 2)  # the tone itself vanishes at DC
    assert lost[0] == -inf


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ParameterError, match="spatial axes"):
        dc_gains(np.zeros((1, 1, 3)), (2, 2))
    with pytest.raises(ParameterError, match="not divisible"):
        subpixel_gains(np.zeros((3, 1, 3)), (2,))
    with pytest.raises(ParameterError, match="image rejection"):
        image_rejection(np.zeros((1, 1, 3, 3)), 2)


@given(
    k=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    s=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    d=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_degrees_of_freedom_are_ranks(k: tuple[int, int], s: tuple[int, int], d: tuple[int, int]) -> None:
    found = degrees_of_freedom(k, s, d)
    gains = np.zeros((prod(s), prod(k)))
    for column, tap in enumerate(product(*map(range, k))):
        row = np.ravel_multi_index(tuple(e * t % n for t, n, e in zip(tap, s, d, strict=True)), s)
        gains[row, column] = 1
    assert found.free == prod(k)
    assert found.balanced == prod(k) - np.linalg.matrix_rank(gains - gains.mean(0))
    if d == (1, 1) and all(a >= b for a, b in zip(k, s, strict=True)):
        small = tuple(a - b + 1 for a, b in zip(k, s, strict=True))
        folds = []
        for place in product(*map(range, small)):
            kernel = np.zeros(k)
            kernel[tuple(slice(p, p + n) for p, n in zip(place, s, strict=True))] = 1
            folds.append(kernel.ravel())
            assert np.ptp(gains @ kernel.ravel()) == 0  # a resize-convolution is balanced
        assert found.resize == np.linalg.matrix_rank(np.array(folds))


def test_degrees_of_freedom_of_the_theory() -> None:
    in_two = degrees_of_freedom((4, 4), (2, 2))
    assert (in_two.free, in_two.balanced, in_two.resize) == (16, 13, 9)
    in_one = degrees_of_freedom((5,), (2,))
    assert in_one.balanced == in_one.resize == 4
    with pytest.raises(ParameterError, match="stride"):
        degrees_of_freedom((3,), (0,))
