"""Adjoint laws against explicit matrices on a canvas with borders, compared in its middle."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, lcm

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evenly.theory.backward import Gradient, pool_resize
from evenly.theory.overlap import ratio
from evenly.theory.prior import TooLarge
from evenly.theory.resize import AxisResize, axis_resize
from evenly.theory.torus import conv_index, transpose_index
from reference import conv, conv_transpose, in_space, tap_matrices

Array = NDArray[np.float64]
SEED = st.integers(0, 2**32 - 1)


def resize_matrix_of(size: int, resize: AxisResize) -> Array:
    """The resampler on a canvas, from its definition; what leaves the canvas is dropped."""
    outputs = size * resize.up // resize.down
    matrix = np.zeros((outputs, size))
    for n in range(outputs):
        q, r = divmod(n, resize.up)
        for offset, weight in resize.taps[r]:
            if 0 <= resize.down * q + offset < size:
                matrix[n, resize.down * q + offset] += weight
    return matrix


def compare(gradient: Gradient, covariance: Array, start: int, stop: int) -> None:
    """A 1-D gradient against the covariance of the canvas between two positions."""
    cell, lags = gradient.local.shape[0], gradient.local.shape[1] // 2
    for m in range(start, stop):
        for other in range(start, stop):
            lag = other - m
            want = covariance[m, other]
            found = gradient.local[m % cell, lags + lag] if abs(lag) <= lags else 0.0
            if gradient.coherent is not None:
                n = len(gradient.coherent)
                found += gradient.coherent[m % n, other % n]
            assert found == pytest.approx(want, abs=1e-9), (m, other)


LAYER = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


@given(LAYER, st.booleans())
def test_convolution(layer: tuple[int, int, int, int], coherent: bool) -> None:
    k, s, p, d = layer
    size = 60
    taps = tap_matrices(size, k, s, p, d)
    outputs = len(taps[0])
    start = np.ones((outputs, outputs)) if coherent else np.eye(outputs)
    gradient = Gradient(np.zeros((1, 1)), np.ones((1, 1))) if coherent else Gradient.white(1)
    covariance = np.sum([a.T @ start @ a for a in taps], 0)
    compare(gradient.conv_adjoint((k,), (s,), (d,), (p,)), covariance, 20, 40)


@given(LAYER, st.booleans())
def test_transposed_convolution(layer: tuple[int, int, int, int], coherent: bool) -> None:
    k, s, p, d = layer
    size = 40
    taps = tap_matrices(size, k, s, p, d, transposed=True)
    outputs = len(taps[0])
    start = np.ones((outputs, outputs)) if coherent else np.eye(outputs)
    gradient = Gradient(np.zeros((1, 1)), np.ones((1, 1))) if coherent else Gradient.white(1)
    covariance = np.sum([a.T @ start @ a for a in taps], 0)
    compare(gradient.conv_transpose_adjoint((k,), (s,), (d,), (p,)), covariance, 12, 28)


FIXED = st.sampled_from(
    [
        axis_resize(60, 120, "linear"),
        axis_resize(60, 120, "nearest", coordinate="asymmetric", nearest="floor"),
        axis_resize(60, 30, "linear"),
        axis_resize(60, 90, "linear"),
        axis_resize(60, 40, "cubic"),
        pool_resize(3, 2, 1, 1, [1.0, 2.0, 1.0]),
        pool_resize(4, 2, 1, 1, [1.0, 3.0, 3.0, 1.0]),
        pool_resize(2, 2, 1, 0),
        pool_resize(3, 1, 2, 1),
    ]
)


@given(FIXED, LAYER, st.booleans())
def test_chains_with_a_fixed_filter(resize: AxisResize, layer: tuple[int, int, int, int], coherent: bool) -> None:
    """convolution -> fixed filter -> convolution, from the loss back to the input."""
    k, s, p, d = layer
    size = 120
    first = tap_matrices(size, 3, 1, 1, 1)
    middle = resize_matrix_of(len(first[0]), resize)
    last = tap_matrices(len(middle), k, s, p, d)
    outputs = len(last[0])
    covariance = np.ones((outputs, outputs)) if coherent else np.eye(outputs)
    gradient = Gradient(np.zeros((1, 1)), np.ones((1, 1))) if coherent else Gradient.white(1)
    covariance = np.sum([a.T @ covariance @ a for a in last], 0)
    covariance = middle.T @ covariance @ middle
    covariance = np.sum([a.T @ covariance @ a for a in first], 0)
    gradient = (
        gradient.conv_adjoint((k,), (s,), (d,), (p,)).resize_adjoint([resize]).conv_adjoint((3,), (1,), (1,), (1,))
    )
    compare(gradient, covariance, 48, 72)


@given(st.tuples(LAYER, LAYER))
def test_two_axes(layers: tuple[tuple[int, int, int, int], tuple[int, int, int, int]]) -> None:
    """Variances in 2-D through convolution and blur, on the flattened canvas."""
    (k0, s0, p0, _), (k1, s1, p1, _) = layers
    size = 20
    blur = pool_resize(3, 1, 1, 1, [1.0, 2.0, 1.0])
    flat = np.kron(resize_matrix_of(size, blur), resize_matrix_of(size, blur))
    taps = in_space([tap_matrices(size, k0, s0, p0, 1), tap_matrices(size, k1, s1, p1, 1)])
    squares = flat.T @ np.sum([a.T @ a for a in taps], 0) @ flat
    want = squares.diagonal().reshape(size, size)
    gradient = Gradient.white(2).conv_adjoint((k0, k1), (s0, s1), (1, 1), (p0, p1)).resize_adjoint([blur, blur])
    found = gradient.variance()
    for m in range(8, 12):
        for n in range(8, 12):
            assert found[m % found.shape[0], n % found.shape[1]] == pytest.approx(want[m, n])


def squared(taps: Sequence[float], axes: int = 2) -> Array:
    """Squared gradient behind a FIR and a decimation by 2, white output gradients."""
    resize = pool_resize(len(taps), 2, 1, 0, taps)
    return Gradient.white(axes).resize_adjoint([resize] * axes).variance()


def mean(taps: Sequence[float]) -> Array:
    resize = pool_resize(len(taps), 2, 1, 0, taps)
    constant = Gradient(np.zeros((1, 1)), np.ones((1, 1)))
    return constant.resize_adjoint([resize]).variance()


@pytest.mark.parametrize(
    ("taps", "want"), [([1, 2, 1], 4.0), ([1, 4, 6, 4, 1], 1.41), ([1, 1], 1.0), ([1, 3, 3, 1], 1.0)]
)
def test_filters_before_decimation(taps: list[float], want: float) -> None:
    """All of them are even on average; only some are in the squared gradient."""
    assert ratio(squared(taps)) == pytest.approx(want, abs=0.005)
    assert ratio(mean(taps)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("k", "s", "want"),
    [(3, 2, [4, 2, 2, 1]), (7, 2, [16, 12, 12, 9]), (1, 2, [1, 0, 0, 0]), (2, 2, [1, 1, 1, 1])],
)
def test_figures_of_convolutions(k: int, s: int, want: list[int]) -> None:
    variance = Gradient.white(2).conv_adjoint((k, k), (s, s), (1, 1), (0, 0)).variance()
    assert sorted(variance.ravel().tolist(), reverse=True) == want


def test_eleven_by_four() -> None:
    assert Gradient.white(1).conv_adjoint((11,), (4,), (1,), (0,)).variance().tolist() == [3, 3, 3, 2]


def test_coherent_gradients_see_the_same_overlap_with_random_weights() -> None:
    """Independent weights per tap: also the gradient of a global average is uneven."""
    coherent = Gradient(np.zeros((1, 1)), np.ones((1, 1))).conv_adjoint((3,), (2,), (1,), (0,))
    assert ratio(coherent.variance()) == 2
    dead = Gradient(np.zeros((1, 1)), np.ones((1, 1))).conv_adjoint((1,), (2,), (1,), (0,))
    assert ratio(dead.variance()) == inf


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), SEED)
def test_max_pooling_of_noise(k: int, extra: int, s: int, p: int, offset: int, seed: int) -> None:
    """The winner of every window gets its gradient: positions are equally likely, counts are those of reading."""
    k = max(k, p + 1, s)
    gradient = Gradient.white(1).max_pool_adjoint((k,), (s,), (1,), (p,))
    taps = tap_matrices(60, k, s, p, 1)
    want = np.sum([a.T @ a for a in taps], 0).diagonal() / k
    for m in range(24, 36):
        assert gradient.variance()[m % s] == pytest.approx(want[m])


def test_max_pooling_by_sampling() -> None:
    rng = np.random.default_rng(0)
    total = np.zeros(42)
    for _ in range(4000):
        x = rng.standard_normal(42)
        gradient = np.zeros(42)
        for n in range(20):
            window = 2 * n + np.arange(3)
            gradient[window[x[window].argmax()]] += rng.standard_normal()
        total += gradient**2
    phases = total[10:30].reshape(-1, 2).mean(0) / 4000
    law = Gradient.white(1).max_pool_adjoint((3,), (2,), (1,), (0,)).variance()
    np.testing.assert_allclose(phases, law, rtol=0.05)


@given(st.integers(8, 14), LAYER, SEED)
def test_convolution_and_its_transpose_are_adjoint(size: int, layer: tuple[int, int, int, int], seed: int) -> None:
    """``<A x, y> = <x, A' y>`` on a canvas, and of the index maps on the torus."""
    k, s, p, d = layer
    size += d * (k - 1)
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((3, 2, k))
    x = rng.standard_normal((2, size))
    there = conv(x, weight, (s,), [(p, p)], (d,))
    y = rng.standard_normal(there.shape)
    rest = (size + 2 * p - d * (k - 1) - 1) % s
    back = conv_transpose(y, weight, (s,), [(p, p - rest)], (d,))
    assert (there * y).sum() == pytest.approx((x * back).sum(), abs=1e-9)
    outputs = lcm(size, s) // s
    reads = np.zeros((outputs, outputs * s))
    np.add.at(reads, (np.arange(outputs)[:, None], conv_index(outputs * s, k, s, d, p)), weight[0, 0])
    writes = np.zeros((outputs * s, outputs))
    np.add.at(writes, (transpose_index(outputs, k, s, d, p), np.arange(outputs)[:, None]), weight[0, 0])
    np.testing.assert_allclose(reads, writes.T)


def test_bookkeeping() -> None:
    uneven = Gradient.white(1).conv_adjoint((3,), (2,), (1,), (0,))  # 2, 1
    assert uneven.shifted((1,)).variance().tolist() == [1, 2]
    assert uneven.add(uneven.shifted((1,))).variance().tolist() == [3, 3]
    assert uneven.modulated(np.array([1.0, 2.0, 3.0])).variance().tolist() == [2, 2, 6, 1, 4, 3]
    assert uneven.power() == 1.5
    assert uneven.collected([0]).variance() == 1.5
    assert Gradient.zero(2).power() == 0
    averaged = uneven.spread_evenly(2)
    assert averaged.variance().tolist() == [[1.5]]
    assert averaged.add(Gradient.white(2)).variance().tolist() == [[1.0]], "a large average weighs nothing"


def test_cells_beyond_the_limit_are_refused() -> None:
    with pytest.raises(TooLarge, match="beyond the exact closed form"):
        Gradient.white(2).conv_adjoint((4096, 4096), (4096, 4096), (1, 1), (0, 0))
