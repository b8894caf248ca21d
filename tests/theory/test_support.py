"""Composition of periods against periodic signals that are run on a torus."""

from __future__ import annotations

from itertools import product
from math import lcm

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evenly.theory import support as sp
from evenly.theory.resize import axis_resize
from evenly.theory.torus import pool_matrix, resize_matrix, slice_index
from reference import closure, frequencies, same_frequencies, torus_conv, torus_conv_transpose

SEED = st.integers(0, 2**32 - 1)
CELL1 = st.tuples(st.integers(1, 12))
CELL = CELL1 | st.tuples(st.integers(1, 6), st.integers(1, 6)) | st.tuples(*[st.integers(1, 3)] * 3)


def field(rng: np.random.Generator, support: NDArray[np.bool_], channels: int = 3) -> NDArray[np.float64]:
    """A real field that holds exactly the frequencies of a support (made symmetric)."""
    axes = tuple(range(support.ndim))
    mirrored = np.roll(np.flip(support, axes), 1, axes)
    noise = rng.standard_normal((channels, *support.shape))
    inner = tuple(a + 1 for a in axes)
    return np.fft.ifftn(np.fft.fftn(noise, axes=inner) * (support | mirrored), axes=inner).real


def drawn(rng: np.random.Generator, cell: tuple[int, ...]) -> NDArray[np.bool_]:
    support = rng.random(cell) < 0.35
    support[(0,) * len(cell)] = True
    axes = tuple(range(len(cell)))
    return np.asarray(support | np.roll(np.flip(support, axes), 1, axes))


def pairs(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    return weight.reshape(-1, int(np.prod(weight.shape[2:])))


def taps(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> NDArray[np.int64]:
    return np.array(list(product(*map(range, kernel)))).reshape(-1, len(kernel)) * dilation


@given(CELL, SEED, st.data())
def test_generic_layers_keep_and_move_frequencies(cell: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    axes = len(cell)
    s = data.draw(st.tuples(*[st.integers(1, 4)] * axes))
    k = data.draw(st.tuples(*[st.integers(2, 4)] * axes))
    support = drawn(rng, cell)
    x = field(rng, support)
    ones, zeros = (1,) * axes, (0,) * axes
    down = torus_conv(x, rng.standard_normal((3, 3, *k)), s, zeros, ones)
    assert same_frequencies(frequencies(down), sp.downsample(support, s))
    kernel = tuple(max(a, b) for a, b in zip(k, s, strict=True))
    up = torus_conv_transpose(x, rng.standard_normal((3, 3, *kernel)), s, zeros, ones)
    assert same_frequencies(frequencies(up), sp.upsample(support, s))


@given(st.integers(1, 12), st.integers(1, 8))
def test_periods_follow_the_laws(p: int, s: int) -> None:
    everything = sp.everything((p,))
    assert sp.period(everything) == (p,)
    assert sp.period(sp.upsample(everything, (s,))) == (s * p,)
    assert sp.period(sp.downsample(everything, (s,))) == (lcm(p, s) // s,)
    assert sp.period(sp.combine([everything, sp.everything((s,))])) == (lcm(p, s),)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic", "area"])
@given(st.integers(2, 9), st.integers(1, 6), st.integers(1, 6), SEED)
def test_resizes(mode: str, p: int, up: int, down: int, seed: int) -> None:
    resize = axis_resize(60 * down, 60 * up, mode)
    rng = np.random.default_rng(seed)
    support = drawn(rng, (p,))
    x = field(rng, support, 1)[0]
    after = lcm(p, resize.down) * resize.up // resize.down
    y = np.zeros((1, after))  # from the definition, without the matrix
    for n in range(after):
        q, r = divmod(n, resize.up)
        y[0, n] = sum(w * x[(resize.down * q + o) % p] for o, w in resize.taps[r])
    found = sp.through_matrix(support, resize_matrix(resize, p), 0)
    # images that interfere may cancel in one signal, never the other way round
    assert set(_fractions(frequencies(y))) <= set(_fractions(found))
    assert after % sp.period(found)[0] == 0
    assert sp.is_constant(sp.through_matrix(sp.constant(1), resize_matrix(resize, 1), 0))


def _fractions(support: NDArray[np.bool_]) -> list[float]:
    return [round(int(i) / support.shape[0], 9) for i in np.flatnonzero(support)]


@given(st.integers(2, 12), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_through_matrix_frequency_by_frequency(p: int, k: int, s: int, d: int) -> None:
    """Every single frequency through the matrix, looked at with an FFT."""
    for matrix in (pool_matrix(p, k, s, d, 1), np.eye(p)[slice_index(p, 1, s)]):
        for a in range(p):
            support = np.zeros(p, np.bool_)
            support[a] = True
            y = matrix @ np.exp(2j * np.pi * a * np.arange(p) / p)
            want = np.abs(np.fft.fft(y)) > 1e-9 * len(y)
            assert np.array_equal(sp.through_matrix(support, matrix, 0), want)


@given(CELL, SEED, st.data())
def test_present_with_actual_kernels(cell: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    """Kernels with zeros of their own (boxes, combs, differences) and without, convolved and transformed."""
    rng = np.random.default_rng(seed)
    axes = len(cell)
    k = data.draw(st.tuples(*[st.integers(1, 4)] * axes))
    d = data.draw(st.tuples(*[st.integers(1, 2)] * axes))
    shape = data.draw(st.sampled_from(["box", "random", "binomial"]))
    weight = rng.standard_normal((2, 3, *k))
    if shape != "random":
        weight = np.broadcast_to(weight[(..., *(slice(0, 1),) * axes)], weight.shape).copy()
    if shape == "binomial":
        weight = smoothed(weight, axes)
    support = drawn(rng, cell)
    y = torus_conv(field(rng, support), weight, (1,) * axes, (0,) * axes, d)
    found = sp.present(pairs(weight), taps(weight.shape[2:], d), support)
    if np.abs(y).max() > 1e-6:
        want = frequencies(y, 1e-7)
        want[(0,) * axes] = True
        assert np.array_equal(found, want)


def smoothed(weight: NDArray[np.float64], axes: int) -> NDArray[np.float64]:
    """Convolve the kernel with a box of two per axis: double zeros."""
    for axis in range(2, 2 + axes):
        weight = np.apply_along_axis(np.convolve, axis, weight, np.ones(2))
    return weight


@given(st.integers(1, 16), st.integers(2, 16))
def test_a_box_removes_exactly_the_periods_that_divide_it(k: int, p: int) -> None:
    """Claim C4 of the article, for weights that are all ones."""
    left = sp.present(pairs(np.ones((1, 1, k))), taps((k,), (1,)), sp.everything((p,)))
    for a in range(1, p):
        own = p // np.gcd(a, p)
        assert left[a] == bool(k % own)


def test_dirichlet_attenuates_the_others() -> None:
    k, f = 3, 1 / 2
    tone = np.exp(2j * np.pi * f * np.arange(6))
    y = sum(np.roll(tone, -t) for t in range(k)) / k
    assert abs(y[0]) == pytest.approx(abs(np.sin(np.pi * k * f) / (k * np.sin(np.pi * f))))


@given(CELL, SEED)
def test_generated_like_brute_force(cell: tuple[int, ...], seed: int) -> None:
    support = np.random.default_rng(seed).random(cell) < 0.2
    support[(0,) * len(cell)] = True
    want = closure(support)
    assert same_frequencies(sp.generated(support), want)
    assert sp.period(sp.generated(support)) == sp.period(support)


@given(CELL1, SEED)
def test_generated_holds_what_a_function_makes(cell: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    support = drawn(rng, cell)
    made = frequencies(np.exp(field(rng, support)))
    allowed = sp.combine([sp.generated(support), np.zeros(cell, np.bool_)])
    assert not (made & ~allowed).any()


@given(CELL, SEED)
def test_combine_is_the_union(cell: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    other = tuple(int(n) for n in rng.integers(1, 5, len(cell)))
    a, b = drawn(rng, cell), drawn(rng, other)
    both = tuple(lcm(x, y) for x, y in zip(cell, other, strict=True))
    x, y = (
        np.tile(f, (1, *(n // m for n, m in zip(both, f.shape[1:], strict=True))))
        for f in (field(rng, a), field(rng, b))
    )
    assert same_frequencies(frequencies(np.concatenate([x, y])), sp.combine([a, b]))


def test_smallest_period() -> None:
    support = np.zeros(12, np.bool_)
    support[[0, 4, 8]] = True
    assert sp.period(support) == (3,)
    assert sp.period(sp.constant(2)) == (1, 1)
    assert sp.is_constant(sp.constant(3))
    assert not sp.is_constant(support)
