"""The closed form before training against explicit covariances and against sampled networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evenly.theory.activations import activation
from evenly.theory.prior import Moments, TooLarge, statistics
from evenly.theory.resize import axis_resize
from evenly.theory.torus import pool_matrix, resize_matrix
from reference import (
    ac_fraction,
    fixed_layer,
    in_space,
    pixel_shuffle,
    random_layer,
    repeat,
    tap_matrices,
    torus_conv,
    torus_conv_transpose,
)

Array = NDArray[np.float64]
SEED = st.integers(0, 2**32 - 1)
NEAREST = axis_resize(8, 16, "nearest", coordinate="asymmetric", nearest="floor")


def function(name: str, *parameters: float) -> Callable[[Array], Array]:
    made = activation(name, parameters)
    assert made is not None
    return made


RELU, SIGMOID, SILU = function("relu"), function("sigmoid"), function("silu")


def periodic(rng: np.random.Generator, cell: Sequence[int]) -> Array:
    """Second moments of some field on a cell."""
    size = int(np.prod(cell))
    root = rng.standard_normal((size, size + 1))
    return (root @ root.T).reshape(*cell, *cell)


def on_canvas(second: Array, sizes: Sequence[int]) -> Array:
    """The same field on a canvas, flattened to a matrix."""
    index = np.meshgrid(*(np.arange(n) % c for n, c in zip(sizes, second.shape, strict=False)), indexing="ij")
    flat = np.ravel_multi_index(index, second.shape[: len(sizes)]).ravel()
    side = int(np.prod(second.shape[: len(sizes)]))
    return second.reshape(side, side)[np.ix_(flat, flat)]


def matches(found: Moments, canvas: Array, sizes: Sequence[int], middle: Sequence[tuple[int, int]]) -> None:
    """Equal in the middle of the canvas, up to one common factor: weight layers are scaled to mean power 1."""
    cell = found.cell
    places = np.stack(np.meshgrid(*(np.arange(*m) for m in middle), indexing="ij"), -1).reshape(-1, len(sizes))
    on = np.ravel_multi_index(tuple(places.T), tuple(sizes))
    at = np.ravel_multi_index(tuple((places % np.array(cell)).T), cell)
    side = int(np.prod(cell))
    want = canvas[np.ix_(on, on)]
    mine = found.second().reshape(side, side)[np.ix_(at, at)]
    np.testing.assert_allclose(mine, want * mine.trace() / want.trace(), atol=1e-9 * mine.max())


LAYER = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


@given(LAYER, st.integers(1, 4), SEED)
def test_convolution_1d(layer: tuple[int, int, int, int], period: int, seed: int) -> None:
    k, s, p, d = layer
    second = periodic(np.random.default_rng(seed), (period,))
    size = 12 * lcm(period, s) + 24 * s
    taps = tap_matrices(size, k, s, p, d)
    found = Moments.fresh(4, second).conv(4, (k,), (s,), (d,), (p,))
    assert found.cell[0] == lcm(period, s) // s
    n = len(taps[0])
    matches(found, random_layer(on_canvas(second, (size,)), taps), (n,), [(-(-p // s), n - 10)])


@given(LAYER, st.integers(1, 4), SEED)
def test_transposed_convolution_1d(layer: tuple[int, int, int, int], period: int, seed: int) -> None:
    k, s, p, d = layer
    second = periodic(np.random.default_rng(seed), (period,))
    size = 6 * period + 12
    taps = tap_matrices(size, k, s, p, d, transposed=True)
    found = Moments.fresh(4, second).conv_transpose(4, (k,), (s,), (d,), (p,))
    assert found.cell == (s * period,)
    n = len(taps[0])
    matches(found, random_layer(on_canvas(second, (size,)), taps), (n,), [(10, 10 + max(2, n - 20) // s * s)])


@given(st.tuples(LAYER, LAYER), st.tuples(st.integers(1, 2), st.integers(1, 3)), SEED, st.booleans())
def test_weight_layers_2d(
    layers: tuple[tuple[int, int, int, int], tuple[int, int, int, int]],
    period: tuple[int, int],
    seed: int,
    transposed: bool,
) -> None:
    k, s, p, d = ((a, min(b, 3)) for a, b in zip(*layers, strict=True))
    s = tuple(min(x, 2) for x in s)
    d = (1, d[1])
    second = periodic(np.random.default_rng(seed), period)
    sizes = (7, 9) if transposed else (15, 22)
    taps = [tap_matrices(n, *numbers, transposed) for n, *numbers in zip(sizes, k, s, p, d, strict=True)]
    after = tuple(len(t[0]) for t in taps)
    law = Moments.fresh(4, second).conv_transpose if transposed else Moments.fresh(4, second).conv
    found = law(4, k, s, d, p)
    canvas = random_layer(on_canvas(second, sizes), in_space(taps))
    reach = [e * (n - 1) for e, n in zip(d, k, strict=True)]
    if transposed:  # written by every input that can reach it
        middle = [
            (max(0, r - q), min(t * (n - 1) + 1 - q, m))
            for r, q, t, n, m in zip(reach, p, s, sizes, after, strict=True)
        ]
    else:  # reads inside the canvas only
        middle = [
            (-(-q // t), min(m, (n - 1 - r + q) // t + 1))
            for q, t, m, n, r in zip(p, s, after, sizes, reach, strict=True)
        ]
    cell = found.cell
    assert all(b - a >= c for (a, b), c in zip(middle, cell, strict=True)), "no whole cell in the middle"
    middle = [(a, a + (b - a) // c * c) for (a, b), c in zip(middle, cell, strict=True)]
    matches(found, canvas, after, middle)


@given(
    st.sampled_from([(60, 120, "linear"), (60, 30, "linear"), (60, 90, "cubic"), (60, 40, "area")]),
    st.integers(1, 4),
    SEED,
)
def test_resizes(sizes: tuple[int, int, str], period: int, seed: int) -> None:
    resize = axis_resize(*sizes)
    second = periodic(np.random.default_rng(seed), (period,))
    found = Moments.fresh(3, second).linear_map([resize_matrix(resize, period)])
    n = 60 // period * period * resize.up // resize.down
    size = 60 // period * period
    matrix = np.zeros((n, size))
    for row in range(n):
        q, r = divmod(row, resize.up)
        for offset, weight in resize.taps[r]:
            if 0 <= resize.down * q + offset < size:
                matrix[row, resize.down * q + offset] += weight
    canvas = fixed_layer(on_canvas(second, (size,)), [matrix], [1.0])
    start = n // 3 // found.cell[0] * found.cell[0]
    matches(found, canvas, (n,), [(start, start + found.cell[0])])


@given(st.integers(1, 5), st.integers(1, 4), SEED)
def test_filters_and_pooling(k: int, period: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    second = periodic(rng, (period,))
    weights = rng.standard_normal(k)
    canvas = on_canvas(second, (10 * period + 10,))
    taps = tap_matrices(len(canvas), k, 1, 1, 1)
    found = Moments.fresh(3, second).filter(weights, np.arange(k)[:, None] - 1)
    low, high = period * 2, period * 4
    matches(found, fixed_layer(canvas, taps, weights.tolist()), (len(taps[0]),), [(low, high)])
    pooled = Moments.fresh(3, second).linear_map([pool_matrix(period, k, 1, 1, 1)])
    matches(pooled, fixed_layer(canvas, taps, [1 / k] * k), (len(taps[0]),), [(low, high)])


def resized(m: Moments) -> Moments:
    return m.linear_map([resize_matrix(NEAREST, c) for c in m.cell])


def chain(layers: Sequence[str], axes: int = 2) -> Moments:
    """``k3s2``, ``nearest`` (with a convolution behind it) and ``conv``, ReLU between them."""
    m = Moments.colour(3, axes)
    ones = (1,) * axes
    for place, layer in enumerate(layers):
        if place:
            m = m.pointwise(RELU)
        if layer.startswith("k"):
            k, s = (int(x) for x in layer[1:].split("s"))
            m = m.conv_transpose(8, (k,) * axes, (s,) * axes, ones, ones)
        else:
            m = (resized(m) if layer == "nearest" else m).conv(8, (3,) * axes, ones, ones, ones)
    return m


@pytest.mark.parametrize(
    ("layers", "unevenness"),
    [("k3s2", 4.0), ("k3s2 k3s2", 9.0), ("k5s2 k5s2", 2.56), ("k3s2 k3s2 conv", 1.78), ("nearest nearest", 1.0)],
)
def test_variance_map_figures(layers: str, unevenness: float) -> None:
    assert statistics(chain(layers.split())).unevenness == pytest.approx(unevenness, abs=0.005)


@pytest.mark.parametrize(
    ("layers", "ac"),
    [
        ("k3s2 k3s2", 0.882),
        ("k4s2 k4s2", 0.878),
        ("k4s2 nearest", 0.511),
        ("nearest k4s2", 0.750),
    ],
)
def test_ac_figures(layers: str, ac: float) -> None:
    assert statistics(chain(layers.split())).ac_fraction == pytest.approx(ac, abs=0.0006)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_resize_convolutions_make_exactly_nothing(depth: int) -> None:
    found = statistics(chain(["nearest"] * depth))
    assert found.ac_fraction == 0.0
    assert found.unevenness == 1.0


# ---------------------------------------------------------------- against sampled networks


class Sampled:
    """A random network of wide layers on a torus, run."""

    def __init__(self, seed: int, axes: int, width: int = 256) -> None:
        self.rng, self.axes, self.width = np.random.default_rng(seed), axes, width
        self.ones, self.zeros = (1,) * axes, (0,) * axes
        self.x = self.rng.standard_normal((width, *self.ones))

    def conv(self, x: Array, k: int = 3) -> Array:
        w = self.rng.standard_normal((self.width, len(x), *(k,) * self.axes))
        return self.unit(torus_conv(x, w, self.ones, (k // 2,) * self.axes, self.ones))

    def up(self, x: Array, k: int, s: int = 2) -> Array:
        w = self.rng.standard_normal((len(x), self.width, *(k,) * self.axes))
        return self.unit(torus_conv_transpose(x, w, (s,) * self.axes, self.ones, self.ones))

    def nearest(self, x: Array) -> Array:
        return self.conv(repeat(x, (2,) * self.axes))

    @staticmethod
    def unit(x: Array) -> Array:
        return np.asarray(x / np.sqrt((x**2).mean()))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def dec(m: Moments, k: int = 4) -> Moments:
    return m.conv_transpose(256, (k,) * m.axes, (2,) * m.axes, (1,) * m.axes, (1,) * m.axes)


def conv3(m: Moments) -> Moments:
    return m.conv(256, (3,) * m.axes, (1,) * m.axes, (1,) * m.axes, (1,) * m.axes)


JOINS: dict[str, tuple[Callable[[Sampled], Array], Callable[[Moments], Moments], float | None]] = {
    # name: (sampled, closed form, the figure of the theory)
    "concat": (
        lambda n: np.concatenate([relu(n.up(n.x, 4)), n.nearest(n.x)]),
        lambda m: dec(m).pointwise(RELU).concat([conv3(resized(m))]),
        0.114,
    ),
    "concat behind a convolution": (
        lambda n: n.conv(np.concatenate([relu(n.up(n.x, 4)), n.nearest(n.x)])),
        lambda m: conv3(dec(m).pointwise(RELU).concat([conv3(resized(m))])),
        0.114,
    ),
    "product gate": (
        lambda n: relu(n.up(n.x, 4)) * relu(n.up(n.x, 4)),
        lambda m: dec(m).pointwise(RELU).multiply(dec(m).pointwise(RELU)),
        0.449,
    ),
    "sigmoid gate": (
        lambda n: relu(n.up(n.x, 4)) * sigmoid(n.up(n.x, 4)),
        lambda m: dec(m).pointwise(RELU).multiply(dec(m).pointwise(SIGMOID)),
        None,
    ),
    "residual sum, both branches ReLU": (
        lambda n: relu(n.up(n.x, 4)) + relu(n.up(n.x, 4)),
        lambda m: dec(m).pointwise(RELU).add(dec(m).pointwise(RELU)),
        None,
    ),
    "residual block": (
        lambda n: (lambda x: x + n.conv(relu(n.conv(x))))(relu(n.up(n.x, 4))),
        lambda m: (lambda x: x.add(conv3(conv3(x).pointwise(RELU))))(dec(m).pointwise(RELU)),
        None,
    ),
    "shared sum, ReLU at both ends": (
        lambda n: (lambda x: relu(relu(x) + x))(n.up(n.x, 4)),
        lambda m: (lambda x: x.pointwise(RELU).add(x).pointwise(RELU))(dec(m)),
        None,
    ),
    "shared difference": (
        lambda n: (lambda x: relu(x) - 0.5 * sigmoid(x))(n.up(n.x, 4)),
        lambda m: (lambda x: x.pointwise(RELU).add(x.pointwise(SIGMOID).affine(0.5, 0.0), -1.0))(dec(m)),
        None,
    ),
    "self gate": (
        lambda n: (lambda x: x * sigmoid(x))(n.up(n.x, 4)),
        lambda m: (lambda x: x.multiply(x.pointwise(SIGMOID)))(dec(m)),
        None,
    ),
    "gate with a shift": (
        lambda n: n.up(n.x, 4) * (0.5 * np.tanh(n.up(n.x, 3)) + 1),
        lambda m: dec(m).multiply(dec(m, 3).pointwise(function("tanh")).affine(0.5, 1.0)),
        None,
    ),
    "pixel shuffle behind ReLU": (
        lambda n: pixel_shuffle(relu(n.conv(n.x)), (2,) * n.axes),
        lambda m: conv3(m).pointwise(RELU).pixel_shuffle((2,) * m.axes),
        None,
    ),
    "stack with SiLU": (
        lambda n: n.up((lambda x: x * sigmoid(x))(n.up(n.x, 4)), 3),
        lambda m: dec(dec(m).pointwise(SILU), 3),
        None,
    ),
}


@pytest.mark.parametrize("name", JOINS)
def test_joins_like_sampled_networks(name: str) -> None:
    sampled, closed, figure = JOINS[name]
    nets = [sampled(Sampled(seed, 1)) for seed in range(24)]
    found = statistics(closed(Moments.colour(256, 1)))
    if figure is not None:
        assert found.ac_fraction == pytest.approx(figure, abs=0.001)
    tiled = np.concatenate(nets)
    assert ac_fraction(tiled) == pytest.approx(found.ac_fraction, abs=0.02)
    power = (np.abs(np.fft.fft(tiled, axis=1)) ** 2).mean(0)
    np.testing.assert_allclose(power / power.sum(), found.power, atol=0.03)


@pytest.mark.parametrize("layers", ["k3s2 k3s2", "k4s2 k4s2", "k4s2 nearest", "nearest k4s2"])
def test_stacks_like_sampled_networks(layers: str) -> None:
    fields = []
    for seed in range(3):
        net = Sampled(seed, 2)
        x = net.x
        for place, layer in enumerate(layers.split()):
            x = relu(x) if place else x
            x = net.nearest(x) if layer == "nearest" else net.up(x, int(layer[1]))
        fields.append(x)
    found = statistics(chain(layers.split()))
    assert ac_fraction(np.concatenate(fields)) == pytest.approx(found.ac_fraction, abs=0.045)


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "unevenness"), [("k3s2", 4.0), ("k3s2 k3s2", 9.0), ("k5s2 k5s2", 2.56)])
def test_variance_maps_like_sampled_networks(layers: str, unevenness: float) -> None:
    total: Array | float = 0.0
    for seed in range(6):
        net = Sampled(seed, 2, 128)
        x = net.x
        for place, layer in enumerate(layers.split()):
            x = net.up(relu(x) if place else x, int(layer[1]))
        total = total + (x**2).mean(0)
    law = statistics(chain(layers.split())).variance
    offset = np.roll(total / np.mean(total), (0, 0), (0, 1))
    np.testing.assert_allclose(offset, law, rtol=0.25)
    assert law.max() / law.min() == pytest.approx(unevenness, abs=0.005)


# ---------------------------------------------------------------- exact identities


@given(SEED, st.integers(1, 3))
def test_x_times_sigmoid_is_silu(seed: int, period: int) -> None:
    x = Moments.fresh(4, periodic(np.random.default_rng(seed), (period, 2)) / 10)
    gate, silu = x.multiply(x.pointwise(SIGMOID)), x.pointwise(SILU)
    np.testing.assert_allclose(gate.second(), silu.second(), atol=1e-12)
    np.testing.assert_allclose(gate.mean(), silu.mean(), atol=1e-12)
    flipped = x.pointwise(SIGMOID).multiply(x)
    np.testing.assert_allclose(flipped.second(), silu.second(), atol=1e-12)


@given(SEED)
def test_sums_of_shared_terms(seed: int) -> None:
    x = Moments.fresh(4, periodic(np.random.default_rng(seed), (3,)))
    np.testing.assert_allclose(x.add(x).second(), 4 * x.second())
    np.testing.assert_allclose(x.add(x, -1.0).second(), 0, atol=1e-12)
    both = x.pointwise(RELU).add(x.affine(-1.0, 0.0).pointwise(RELU), -1.0)  # relu(x) - relu(-x) = x
    np.testing.assert_allclose(both.second(), x.second(), atol=1e-9)
    shifted = x.affine(2.0, 3.0)
    np.testing.assert_allclose(shifted.second(), 4 * x.second() + 9, atol=1e-9)
    np.testing.assert_allclose(shifted.mean(), 3.0)


@pytest.mark.parametrize(
    ("decomposed", "whole"),
    [
        (lambda x: x.multiply(x.pointwise(function("softplus")).pointwise(function("tanh"))), "mish"),
        (
            lambda x: x.affine(0.5, 0).multiply(x.affine(0.5**0.5, 0).pointwise(function("erf")).affine(1.0, 1.0)),
            "gelu",
        ),
        (lambda x: x.pointwise(RELU).pointwise(RELU), "relu"),
        (lambda x: x.add(x.pointwise(RELU)).pointwise(RELU).affine(0.5, 0.0), "relu"),
        (lambda x: x.affine(1.0, 3.0).pointwise(function("relu6")).affine(1 / 6, 0).multiply(x), "hardswish"),
    ],
)
@settings(max_examples=5)
@given(seed=SEED)
def test_activations_in_pieces(decomposed: Callable[[Moments], Moments], whole: str, seed: int) -> None:
    """Exporters write activations as several pointwise operations."""
    x = Moments.fresh(4, periodic(np.random.default_rng(seed), (3,)))
    want = x.pointwise(function(whole))
    np.testing.assert_allclose(decomposed(x).second(), want.second(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(decomposed(x).mean(), want.mean(), atol=1e-9)


def test_channels_are_other_draws() -> None:
    """Two halves of a field are independent: their product has the product of the second moments."""
    x = Moments.fresh(8, periodic(np.random.default_rng(0), (2,)))
    low, high = x.channel_slice(0, 4), x.channel_slice(4, 8)
    np.testing.assert_allclose(low.multiply(high).second(), x.second() ** 2)
    np.testing.assert_allclose(low.add(high).second(), 2 * x.second())
    assert x.channel_slice(0, 4).add(low).second() == pytest.approx(4 * x.second()), "the same half is the same draw"
    assert low.concat([high]).channels == 8


def test_normalisation() -> None:
    x = dec(Moments.colour(256, 1), 3).pointwise(RELU)
    assert x.normalize(per_position=True, centred=False).variance() == pytest.approx(np.ones(2))
    layer = x.normalize(per_position=True, centred=True)
    assert layer.variance() == pytest.approx(np.ones(2))
    assert layer.mean() == pytest.approx(np.zeros(2), abs=1e-12)
    group = x.normalize(per_position=False, centred=True)
    assert group.variance().mean() == pytest.approx(1)
    assert group.mean().mean() == pytest.approx(0, abs=1e-12)
    batch = x.normalize(per_position=False, centred=False)
    assert statistics(batch).ac_fraction == pytest.approx(statistics(x).ac_fraction)


def test_spread_and_average() -> None:
    x = Moments.fresh(3, periodic(np.random.default_rng(0), (2, 3)))
    rows = x.reduce([1])
    np.testing.assert_allclose(rows.second(), x.second().mean((1, 3)))
    back = rows.broadcast([1], 2)
    assert back.cell == (2, 1)
    np.testing.assert_allclose(back.second()[:, 0, :, 0], rows.second())
    with pytest.raises(ValueError, match="do not make"):
        rows.broadcast([0, 1], 2)


def test_space_to_depth_and_back_keeps_the_power() -> None:
    x = dec(Moments.colour(16, 2), 3)
    there = x.pixel_unshuffle((2, 2))
    assert there.cell == (1, 1)
    assert there.channels == 4 * x.channels
    assert there.variance().mean() == pytest.approx(x.variance().mean())


@given(st.integers(2, 4), st.integers(1, 4), st.floats(0.2, 2.0), st.floats(0.2, 2.0))
def test_law_of_one_even_layer_on_noise(s: int, times: int, mu: float, variance: float) -> None:
    """Between-phase variance of the mean over within-phase variance is ``(1 - 1/s) mu^2 / V``."""
    period = 128
    field = Moments.fresh(64, mu**2 + variance * np.eye(period))
    second = field.conv_transpose(64, (s * times,), (s,), (1,), (0,)).second()
    by_phase = second.reshape(period, s, period, s)
    phase_means = by_phase.mean((0, 2))  # E of products of the phases' means
    between = phase_means.trace() / s - phase_means.mean()
    within = second.trace() / len(second) - phase_means.trace() / s
    law = (1 - 1 / s) * mu**2 / variance
    rest = (1 - 1 / s) * times / period  # the mean of finitely many noisy positions is noisy itself
    assert between / within == pytest.approx(law, rel=0.02 * times + 0.02, abs=2 * rest)


def test_law_of_one_even_layer_by_sampling() -> None:
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((64, 512)), 0)
    y = torus_conv_transpose(x, rng.standard_normal((64, 256, 4)), (2,), (1,), (1,))
    phases = y.reshape(256, 512, 2)
    effect = phases.mean(1).var(1).mean() / phases.var(1).mean()
    mu, variance = 1 / np.sqrt(2 * np.pi), 1 / 2 - 1 / (2 * np.pi)
    assert mu**2 / variance == pytest.approx(0.467, abs=5e-4)
    assert effect == pytest.approx(mu**2 / variance / 2, rel=0.15)


# ---------------------------------------------------------------- sizes


def test_large_factors() -> None:
    square = statistics(chain(["k4s2"] * 5))  # x32 in 2-D
    assert square.variance.shape == (32, 32)
    assert square.unevenness == pytest.approx(1)
    assert 0.88 < square.ac_fraction < 1
    line = statistics(chain(["k4s2"] * 9, 1))  # x512 in 1-D
    assert line.variance.shape == (512,)
    assert line.power.sum() == pytest.approx(1)


def test_cells_beyond_the_limit_are_refused() -> None:
    with pytest.raises(TooLarge, match="64 x 64 positions is beyond"):
        Moments.colour(3, 2).conv_transpose(3, (64, 64), (64, 64), (1, 1), (0, 0))


@settings(max_examples=10)
@given(SEED)
def test_spectrum_is_the_fourier_transform(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((6, 9))
    second = (root @ root.T).reshape(2, 3, 2, 3)
    found = statistics(Moments.fresh(2, second))
    lines = np.fft.fftn(root.reshape(2, 3, 9), axes=(0, 1))
    power = (np.abs(lines) ** 2).sum(2)
    np.testing.assert_allclose(found.power, power / power.sum())
    assert found.ac_fraction == pytest.approx(1 - power[0, 0] / power.sum())
    assert statistics(Moments.fresh(1, np.zeros((2, 2)))).ac_fraction == 0.0
