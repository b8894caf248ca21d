"""Gaussian expectations of pointwise functions against a grid of the joint density."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evenly.theory.activations import ACTIVATIONS, activation, cross_expectation, derivative_power, slopes
from reference import expectation

Array = NDArray[np.float64]
ERF = np.frompyfunc(erf, 1, 1)

# the functions once more, from their definitions
FUNCTIONS: dict[str, tuple[tuple[float, ...], Callable[[Array], Array]]] = {
    "relu": ((), lambda x: x * (x > 0)),
    "leaky_relu": ((0.2,), lambda x: np.maximum(x, 0.2 * x)),
    "tanh": ((), lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)),
    "gelu": ((), lambda x: x * (1 + ERF(x / sqrt(2)).astype(float)) / 2),
    "silu": ((), lambda x: x / (1 + np.exp(-x))),
    "sigmoid": ((), lambda x: 1 / (1 + np.exp(-x))),
    "abs": ((), np.abs),
}
NAMES = st.sampled_from(sorted(FUNCTIONS))
MEAN, SIGMA, RHO = st.floats(-1.5, 1.5), st.floats(0.1, 2.0), st.floats(-0.99, 0.99)


def scalar(f: str, mf: float, sf: float, g: str, mg: float, sg: float, rho: float) -> float:
    first, second = activation(f, FUNCTIONS[f][0]), activation(g, FUNCTIONS[g][0])
    assert first is not None
    assert second is not None
    numbers = (np.array([v]) for v in (mf, sf, mg, sg))
    a, b, c, d = numbers
    return float(cross_expectation(first, a, b, second, c, d, np.array([[rho * sf * sg]]))[0, 0])


@given(NAMES, MEAN, SIGMA, NAMES, MEAN, SIGMA, RHO)
def test_any_two_functions(f: str, mf: float, sf: float, g: str, mg: float, sg: float, rho: float) -> None:
    want = expectation(FUNCTIONS[f][1], mf, sf, FUNCTIONS[g][1], mg, sg, rho, 301)
    assert scalar(f, mf, sf, g, mg, sg, rho) == pytest.approx(want, abs=3e-3, rel=3e-3)


@given(NAMES, SIGMA, SIGMA, RHO)
def test_zero_means(f: str, sf: float, sg: float, rho: float) -> None:
    want = expectation(FUNCTIONS[f][1], 0, sf, FUNCTIONS[f][1], 0, sg, rho, 401)
    assert scalar(f, 0, sf, f, 0, sg, rho) == pytest.approx(want, abs=1e-3, rel=1e-3)


@given(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(-1, 1))
def test_arc_cosine_kernel(sf: float, sg: float, rho: float) -> None:
    """Cho & Saul (2009): ``sqrt(K K') (sin a + (pi - a) cos a) / (2 pi)``."""
    a = np.arccos(rho)
    want = sf * sg * (np.sin(a) + (pi - a) * np.cos(a)) / (2 * pi)
    assert scalar("relu", 0, sf, "relu", 0, sg, rho) == pytest.approx(want, abs=1e-12)


def test_known_moments() -> None:
    assert scalar("relu", 0, 1, "relu", 0, 1, 1.0) == pytest.approx(1 / 2)
    assert scalar("relu", 0, 1, "relu", 0, 1, 0.0) == pytest.approx(1 / (2 * pi))
    assert scalar("abs", 0, 1, "abs", 0, 1, 0.0) == pytest.approx(2 / pi)
    assert scalar("relu", 0, 1, "leaky_relu", 0, 1, -1.0) == pytest.approx(-0.2 / 2)
    assert scalar("tanh", 0, 1, "tanh", 0, 1, -0.7) == pytest.approx(-scalar("tanh", 0, 1, "tanh", 0, 1, 0.7))
    assert scalar("silu", 0.3, 0, "relu", 0.4, 0, 0.0) == pytest.approx(0.3 / (1 + np.exp(-0.3)) * 0.4)


@pytest.mark.parametrize("f", sorted(FUNCTIONS))
def test_own_second_moment_at_full_correlation(f: str) -> None:
    """The series keeps the power that it truncates."""
    z = np.linspace(-9, 9, 20_001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    for mean, sigma in ((0.0, 1.0), (0.5, 0.7)):
        want = FUNCTIONS[f][1](mean + sigma * z) ** 2 @ density
        assert scalar(f, mean, sigma, f, mean, sigma, 1.0) == pytest.approx(want, rel=1e-4)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(5, 4), (12, 11)]))
def test_fields_with_different_positions(seed: int, shape: tuple[int, int]) -> None:
    """A whole covariance matrix, few positions (curves per pair) and many (one polynomial)."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((sum(shape), 3 + sum(shape)))
    covariance = root @ root.T / root.shape[1]
    mean, sigma = rng.normal(0, 0.5, sum(shape)), np.sqrt(covariance.diagonal())
    n = shape[0]
    silu, tanh = activation("silu"), activation("tanh")
    assert silu is not None
    assert tanh is not None
    found = cross_expectation(silu, mean[:n], sigma[:n], tanh, mean[n:], sigma[n:], covariance[:n, n:])
    for i, j in ((0, 0), (n - 1, 1), (2, shape[1] - 1)):
        rho = covariance[i, n + j] / sigma[i] / sigma[n + j]
        want = expectation(
            FUNCTIONS["silu"][1], mean[i], sigma[i], FUNCTIONS["tanh"][1], mean[n + j], sigma[n + j], rho, 301
        )
        assert found[i, j] == pytest.approx(want, abs=2e-3)


@pytest.mark.parametrize("f", sorted(FUNCTIONS))
def test_derivative_power(f: str) -> None:
    parameters, definition = FUNCTIONS[f]
    z = np.random.default_rng(0).standard_normal(400_000)
    h = 1e-5
    want = (((definition(z + h) - definition(z - h)) / (2 * h)) ** 2).mean()
    function = activation(f, parameters)
    assert function is not None
    assert derivative_power(function) == pytest.approx(want, rel=0.01)


def test_slopes() -> None:
    assert slopes(FUNCTIONS["relu"][1]) == (0.0, 1.0)
    assert slopes(FUNCTIONS["leaky_relu"][1]) == pytest.approx((0.2, 1.0))
    assert slopes(FUNCTIONS["abs"][1]) == (-1.0, 1.0)
    assert slopes(FUNCTIONS["tanh"][1]) is None


@pytest.mark.parametrize("f", sorted(FUNCTIONS))
def test_values(f: str) -> None:
    parameters, definition = FUNCTIONS[f]
    x = np.linspace(-5, 5, 101)
    function = activation(f, parameters)
    assert function is not None
    np.testing.assert_allclose(function(x), definition(x), atol=1e-12)


def test_names() -> None:
    assert activation("no such function") is None
    assert activation("relu") is activation("relu")
    with np.errstate(all="ignore"):
        assert all(np.shape(function(np.ones(3))) == (3,) for function in ACTIVATIONS.values())
