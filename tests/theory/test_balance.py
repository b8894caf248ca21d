"""The DC condition of order m against the frequency response, divisibility, and brute force."""

from __future__ import annotations

from itertools import product
from math import gcd, prod

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evenly.errors import ParameterError
from evenly.theory.balance import balancing_projection, moment_conditions, subpixel_places, transposed_places
from evenly.theory.phases import dc_gains, degrees_of_freedom, ripple, subpixel_gains
from reference import conv, conv_transpose, pixel_shuffle

SEED = st.integers(0, 2**32 - 1)


@st.composite
def geometry(
    draw: st.DrawFn, axes: int, orders: int = 3
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """Kernel, stride, dilation and order for which balanced kernels exist."""
    most = {1: 9, 2: 5, 3: 3}[axes]
    order = draw(st.integers(1, orders))
    s = tuple(draw(st.integers(1, max(1, (most - 1) // order + 1))) for _ in range(axes))
    k = tuple(draw(st.integers(order * (v - 1) + 1, most)) for v in s)
    d = tuple(draw(st.sampled_from([e for e in (1, 2, 3) if gcd(e, v) == 1])) for v in s)
    return k, s, d, order


def derivatives(kernel: np.ndarray, s: tuple[int, ...], d: tuple[int, ...], order: int) -> float:
    """Largest derivative below the order of the response at an image of DC, relative to the kernel's size."""
    grids = np.meshgrid(*[np.arange(k) * e for k, e in zip(kernel.shape, d, strict=True)], indexing="ij")
    worst = 0.0
    for image in product(*[range(v) for v in s]):
        if not any(image):
            continue
        wave = np.exp(-2j * np.pi * sum(a / v * g for a, v, g in zip(image, s, grids, strict=True)))
        for alpha in product(range(order), repeat=kernel.ndim):
            if sum(alpha) < order:
                powers = prod(g.astype(float) ** a for a, g in zip(alpha, grids, strict=True))
                worst = max(worst, abs((kernel * powers * wave).sum()) / max(1.0, np.abs(powers).max()))
    return worst


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_projected_kernels_have_the_zeros(axes: int, data: st.DataObject, seed: int) -> None:
    k, s, d, order = data.draw(geometry(axes))
    projection = balancing_projection(transposed_places(k, d), s, order)
    kernel = np.random.default_rng(seed).standard_normal(k)
    mine = (kernel.ravel() @ projection).reshape(k)
    assert derivatives(mine, s, d, order) < 1e-9
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-12)
    np.testing.assert_array_equal(projection, projection.T)
    if prod(s) > 1:
        assert derivatives(kernel, s, d, order) > 1e-6  # a drawn kernel has none of them


@given(data=st.data(), seed=SEED)
def test_in_1d_the_order_is_divisibility(data: st.DataObject, seed: int) -> None:
    (k,), (s,), _, order = data.draw(geometry(1))
    assume(s > 1)
    factor = np.ones(1)
    for _ in range(order):
        factor = np.convolve(factor, np.ones(s))
    free = k - len(factor) + 1
    projection = balancing_projection(transposed_places((k,)), (s,), order)
    assert round(np.trace(projection)) == free  # the same number of dimensions, and it contains the multiples
    multiple = np.convolve(factor, np.random.default_rng(seed).standard_normal(free))
    np.testing.assert_allclose(multiple @ projection, multiple, atol=1e-10)


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data())
def test_order_one_has_the_known_degrees_of_freedom(axes: int, data: st.DataObject) -> None:
    k, s, d, _ = data.draw(geometry(axes, orders=1))
    projection = balancing_projection(transposed_places(k, d), s)
    assert round(np.trace(projection)) == degrees_of_freedom(k, s, d).balanced


@pytest.mark.parametrize("axes", [1, 2])
@given(data=st.data(), seed=SEED)
def test_order_m_keeps_polynomials_free_of_images(axes: int, data: st.DataObject, seed: int) -> None:
    """A polynomial below degree m comes out as a polynomial of its degree: its m-th differences vanish."""
    k, s, d, order = data.draw(geometry(axes, orders=2 if axes == 2 else 3))
    rng = np.random.default_rng(seed)
    kernel = (rng.standard_normal(k).ravel() @ balancing_projection(transposed_places(k, d), s, order)).reshape(k)
    reach = [(e * (n - 1)) // t + 1 for n, t, e in zip(k, s, d, strict=True)]
    size = [2 * r + 4 for r in reach]
    grid = np.meshgrid(*[np.arange(n) - n / 2 for n in size], indexing="ij")
    x = sum(
        rng.standard_normal() * prod(g**a for a, g in zip(alpha, grid, strict=True))
        for alpha in product(range(order), repeat=axes)
        if sum(alpha) < order
    )
    y = conv_transpose(np.asarray(x)[None], kernel[None, None], s, [(0, 0)] * axes, d, 1)[0]
    y = y[tuple(slice(t * r, t * (n - r)) for n, r, t in zip(size, reach, s, strict=True))]
    for first in range(order + 1):  # every difference of total order m
        if axes == 2:
            assert np.abs(np.diff(np.diff(y, n=first, axis=0), n=order - first, axis=1)).max(initial=0) < 1e-8
    if axes == 1:
        assert np.abs(np.diff(y, n=order)).max(initial=0) < 1e-8


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_subpixel_places_are_the_layers(axes: int, data: st.DataObject, seed: int) -> None:
    """A sub-pixel convolution answers an impulse with its taps at their places, and is balanced by the projection."""
    most = {1: 4, 2: 3, 3: 2}[axes]
    k = data.draw(st.tuples(*[st.integers(1, most)] * axes))
    s = data.draw(st.tuples(*[st.integers(1, most)] * axes))
    d = data.draw(st.tuples(*[st.integers(1, 2)] * axes))
    weight = np.random.default_rng(seed).standard_normal((prod(s), 1, *k))
    half = [e * (n - 1) + 1 for n, e in zip(k, d, strict=True)]
    x = np.zeros((1, *[2 * h + 1 for h in half]))
    x[(0, *half)] = 1
    y = pixel_shuffle(conv(x, weight, (1,) * axes, [(0, 0)] * axes, d, 1), s)[0]
    places = subpixel_places(k, s, d)
    for phase in product(*[range(v) for v in s]):
        for tap in product(*[range(n) for n in k]):
            index = tuple(p[r * n + t] + v * h for p, r, n, t, v, h in zip(places, phase, k, tap, s, half, strict=True))
            assert y[index] == pytest.approx(weight[(np.ravel_multi_index(phase, s), 0, *tap)])
    # axes-major (r, o) per axis; the layer's weight is (all r, all o)
    order = [axis for pair in zip(range(axes), range(axes, 2 * axes), strict=True) for axis in pair]
    flat = weight.reshape(*s, *k).transpose(order).ravel() @ balancing_projection(places, s)
    back = flat.reshape([v for pair in zip(s, k, strict=True) for v in pair]).transpose(np.argsort(order))
    assert ripple(subpixel_gains(back.reshape(weight.shape), s)) < 1e-10


@given(st.integers(1, 7), st.integers(2, 5), st.integers(1, 4), st.integers(1, 3))
def test_what_cannot_be_met_is_refused(k: int, s: int, d: int, order: int) -> None:
    """The closed form against the null space itself."""
    possible = gcd(d, s) == 1 and k >= order * (s - 1) + 1
    u = d * np.arange(k)
    conditions = [
        np.where(u % s == r, u.astype(float) ** a, 0) - u.astype(float) ** a / s for r in range(s) for a in range(order)
    ]
    stacked = np.stack([row / max(np.linalg.norm(row), 1) for row in conditions])
    with_gain = np.linalg.matrix_rank(np.vstack([stacked, np.ones(k)]), tol=1e-9) > np.linalg.matrix_rank(
        stacked, tol=1e-9
    )
    assert possible == with_gain
    if possible:
        kernel = np.ones(k) @ balancing_projection(transposed_places((k,), (d,)), (s,), order)
        assert ripple(dc_gains(kernel[None, None], (s,), (d,))) < 1e-10
    else:
        with pytest.raises(ParameterError, match="use "):
            balancing_projection(transposed_places((k,), (d,)), (s,), order)


def test_in_2d_the_balanced_kernels_are_more_than_the_separable_ones() -> None:
    """THEORY: k^2 - (s^2 - 1) of them against (k - s + 1)^2 resize-convolutions."""
    freedom = degrees_of_freedom((4, 4), (2, 2))
    projection = balancing_projection(transposed_places((4, 4)), (2, 2))
    assert round(np.trace(projection)) == freedom.balanced == 13
    assert freedom.resize == 9
    assert np.linalg.matrix_rank(moment_conditions(transposed_places((4, 4)), (2, 2))) == 3


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: balancing_projection(transposed_places((4,)), (2,), 0), "order"),
        (lambda: transposed_places((0,)), "kernel_size"),
        (lambda: transposed_places((3, 3), (1,)), "as many entries"),
        (lambda: subpixel_places((3,), (0,)), "scale_factor"),
    ],
)
def test_wrong_arguments_are_named(call, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        call()
