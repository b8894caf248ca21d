"""One up-sampling layer as another, in plain numpy, against sums that are written out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from evenly.theory.decimation import LONGEST_FILTER, cell_extension, even_filter, even_filters
from evenly.theory.equivalence import (
    balanced_phases,
    fit,
    folded_weight,
    nearest_interpolation,
    subpixel_axis,
    subpixel_weight,
    unfolded_weight,
    used_taps,
)

RNG = np.random.default_rng


def transposed(x: np.ndarray, w: np.ndarray, s: int, d: int = 1) -> np.ndarray:
    """``y[s i + d t] += w[t] x[i]``, nothing cut: ``(C_in, n)`` with ``(C_in, C_out, k)``."""
    y = np.zeros((w.shape[1], s * (x.shape[1] - 1) + d * (w.shape[2] - 1) + 1))
    for i in range(x.shape[1]):
        for t in range(w.shape[2]):
            y[:, s * i + d * t] += w[:, :, t].T @ x[:, i]
    return y


def convolved(x: np.ndarray, w: np.ndarray, pad: tuple[int, int], d: int = 1) -> np.ndarray:
    """``y[n] = sum_t w[t] x[n + d t - p]``: ``(C_in, n)`` with ``(C_out, C_in, k)``."""
    low, high = (max(p, 0) for p in pad)
    x = np.pad(x, ((0, 0), (low, high)))[:, max(-pad[0], 0) :]
    x = x[:, : x.shape[1] - max(-pad[1], 0)]
    count = x.shape[1] - d * (w.shape[2] - 1)
    return sum(w[:, :, t] @ x[:, d * t : d * t + count] for t in range(w.shape[2]))


@pytest.mark.parametrize(("k", "s", "d"), [(3, 2, 1), (1, 3, 1), (4, 2, 3), (5, 4, 2)])
def test_a_fold_is_interpolation_and_convolution(k: int, s: int, d: int) -> None:
    x, w = RNG(0).standard_normal((3, 7)), RNG(1).standard_normal((2, 3, k))
    reach = d * (k - 1)
    f = folded_weight(w, (s,), (d,), 1)
    assert f.shape == (3, 2, reach + s)
    np.testing.assert_allclose(transposed(x, f, s), convolved(np.repeat(x, s, 1), w, (reach, reach), d), atol=1e-12)


@pytest.mark.parametrize(
    ("k", "s", "p", "d", "a"), [(4, 2, 1, 1, 0), (3, 2, 1, 1, 1), (5, 3, 4, 1, 2), (3, 2, 0, 3, -3)]
)
def test_the_sub_pixel_form_is_the_same_function(k: int, s: int, p: int, d: int, a: int) -> None:
    """Also where more is cut at the end than at the start (``a`` below 0)."""
    x, w = RNG(0).standard_normal((3, 9)), RNG(1).standard_normal((3, 2, k))
    full = transposed(x, w, s, d)
    wanted = np.pad(full, ((0, 0), (0, max(a - p, 0))))[:, p : full.shape[1] - p + a]
    axis = subpixel_axis(k, s, p, d, a)
    assert min(*axis.crop, axis.padding) >= 0
    phases = convolved(x, subpixel_weight(w, (s,), (d,), 1), (axis.padding, axis.padding))
    spread = phases.reshape(2, s, -1).swapaxes(1, 2).reshape(2, -1)
    np.testing.assert_allclose(spread[:, axis.crop[0] : spread.shape[1] - axis.crop[1]], wanted, atol=1e-12)


def test_groups_stay_apart() -> None:
    w = RNG(0).standard_normal((4, 3, 5, 4))
    both = subpixel_weight(w, (2, 3), (1, 1), 2)
    for group in (0, 1):
        alone = subpixel_weight(w[2 * group : 2 * group + 2], (2, 3), (1, 1), 1)
        np.testing.assert_array_equal(both[18 * group : 18 * group + 18], alone)


@pytest.mark.parametrize(("k", "s"), [(4, 2), (6, 3), (5, 2)])
def test_what_was_folded_is_found_again(k: int, s: int) -> None:
    """Kernels that a resize-convolution has are fitted exactly, others as near as least squares come."""
    w = RNG(0).standard_normal((2, 3, k - s + 1))
    kernel = folded_weight(w, (s,), (1,), 1)
    support = used_taps(kernel)
    fits = [fit(nearest_interpolation(s), k, 0, 1, 0, support[0], None, True)]
    found, residual = unfolded_weight(kernel, 1, fits, support)
    np.testing.assert_allclose(found, w, atol=1e-12)
    assert residual < 1e-12
    other = kernel + RNG(1).standard_normal(kernel.shape)
    best, error = unfolded_weight(other, 1, fits, support)
    left = np.linalg.norm(folded_weight(best, (s,), (1,), 1) - other) / np.linalg.norm(other)
    assert error == pytest.approx(left)
    for step in np.eye(best.size).reshape(-1, *best.shape) * 1e-3:
        assert np.linalg.norm(folded_weight(best + step, (s,), (1,), 1) - other) > left * np.linalg.norm(other)


def test_zeros_around_a_kernel_are_not_used() -> None:
    w = np.zeros((2, 2, 6, 5))
    w[1, 0, 2, 1] = w[0, 1, 3, 3] = 1
    assert used_taps(w) == [(2, 4), (1, 4)]
    assert used_taps(np.zeros((1, 1, 3))) == [(0, 3)]


@pytest.mark.parametrize(("factor", "dilation"), [((2, 2), (1, 1)), ((3, 1), (1, 2))])
def test_balanced_phases_have_equal_gains_and_are_the_nearest(
    factor: tuple[int, int], dilation: tuple[int, int]
) -> None:
    w = RNG(0).standard_normal((2 * factor[0] * factor[1], 3, 3, 3))
    even = balanced_phases(w, factor, dilation)
    gains = even.sum((2, 3)).reshape(2, -1, 3)
    np.testing.assert_allclose(gains, np.broadcast_to(gains[:, :1], gains.shape), atol=1e-12)
    np.testing.assert_allclose(balanced_phases(even, factor, dilation), even, atol=1e-12)
    # what is taken away is the same for all taps of a phase
    taken = (w - even).reshape(*w.shape[:2], -1)
    assert np.ptp(taken, axis=-1).max() < 1e-12


@pytest.mark.parametrize(("stride", "reach"), [(2, 0), (2, 2), (2, 4), (3, 2), (5, 7)])
def test_even_filters_look_the_same_from_every_phase(stride: int, reach: int) -> None:
    taps = np.array(even_filter(stride, reach))
    assert taps.sum() == pytest.approx(1)
    np.testing.assert_allclose(taps, taps[::-1])
    for lag in range(reach + 1):
        products = taps[: len(taps) - lag] * taps[lag:]
        sums = [products[r::stride].sum() for r in range(stride)]
        assert all(a == pytest.approx(b) for a, b in pairwise(sums))


def test_filters_that_would_be_too_long_are_even_on_average() -> None:
    (short,), note = even_filters((2,), (2,))
    assert note is None
    (long,), note = even_filters((2,), (200,))
    assert "on average" in str(note)
    assert len(long) == len(short) <= LONGEST_FILTER
    for taps, stride in ((4, 2), (7, 3), (1, 1)):
        before, after = cell_extension(taps, stride)
        for n in (8, 9, 10):
            assert (n + before + after - taps) // stride + 1 == -(-n // stride)
