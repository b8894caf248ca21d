"""Pointwise functions: their values, and their expectations under a Gaussian.

For jointly Gaussian ``u, v`` the expectation ``E[f(u) g(v)]`` depends on the two means, the two standard deviations and
the correlation ``rho`` only: ``sum_j a_j b_j rho^j`` with the coefficients ``a_j = E[f(m + s z) He_j(z)] / sqrt(j!)``
(Mehler's formula). For functions linear on both sides of zero the sum is the arc-cosine kernel of Cho & Saul (2009).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "Function", "activation", "cross_expectation", "derivative_power", "slopes"]

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_ORDER = 48  # terms of the Hermite series; what is left over is put on the next power
_GRID = np.linspace(-9.0, 9.0, 7201)
_DENSITY = np.exp(-0.5 * _GRID**2)
_DENSITY /= _DENSITY.sum()
_erf_object = np.frompyfunc(erf, 1, 1)


def _erf(x: Array) -> Array:
    return np.asarray(_erf_object(x), np.float64)


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    return np.asarray(np.logaddexp(0, beta * x) / beta)


def _gelu(x: Array, tanh: float = 0.0) -> Array:
    if tanh:
        return np.asarray(0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + _erf(x / sqrt(2))))


def _elu(x: Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Array:
    return np.asarray(scale * np.where(x > 0, x, alpha * np.expm1(input_scale * np.minimum(x, 0))))


def _snap(x: Array, low: float = -np.inf, high: float = np.inf) -> Array:
    return np.asarray(np.clip(x, low, high))


def _safe(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def inner(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(x))

    return inner


ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "abs": np.abs,
    "celu": lambda x, alpha=1.0: _elu(x, alpha, 1.0, 1 / alpha),
    "ceil": np.ceil,
    "clamp": _snap,
    "cos": np.cos,
    "elu": _elu,
    "erf": _erf,
    "exp": _safe(np.exp),
    "floor": np.floor,
    "gelu": _gelu,
    "hardshrink": lambda x, bound=0.5: np.where(np.abs(x) > bound, x, 0.0),
    "hardsigmoid": lambda x, alpha=1 / 6, beta=0.5: np.clip(alpha * x + beta, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hardtanh": lambda x, low=-1.0, high=1.0: _snap(x, low, high),
    "identity": lambda x: x,
    "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, slope * x),
    "log": _safe(np.log),
    "log1p": _safe(np.log1p),
    "log_sigmoid": lambda x: -_softplus(-x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "pow": lambda x, exponent=2.0: _safe(lambda y: np.power(y, exponent))(x),
    "prelu": lambda x, slope=0.25: np.where(x > 0, x, slope * x),
    "reciprocal": _safe(np.reciprocal),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "round": np.round,
    "rsqrt": _safe(lambda x: 1 / np.sqrt(x)),
    "selu": lambda x: _elu(x, 1.6732632423543772, 1.0507009873554805),
    "sigmoid": _sigmoid,
    "sign": np.sign,
    "silu": lambda x: x * _sigmoid(x),
    "sin": np.sin,
    "softplus": _softplus,
    "softshrink": lambda x, bound=0.5: np.sign(x) * np.maximum(np.abs(x) - bound, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sqrt": _safe(np.sqrt),
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
    "tanhshrink": lambda x: x - np.tanh(x),
    "thresholded_relu": lambda x, threshold=1.0: np.where(x > threshold, x, 0.0),
}
"""Pointwise functions by name; extra arguments are the scalar parameters in their order."""


@lru_cache(maxsize=512)
def activation(name: str, parameters: tuple[float, ...] = ()) -> Function | None:
    """The function of one argument, or ``None`` if the name has no entry.

    The same name and parameters give the same object, so that functions can be compared by identity.
    """
    function = ACTIVATIONS.get(name)
    if function is None:
        return None
    chosen = function  # narrowed for the closure
    return lambda x: np.asarray(chosen(x, *parameters), np.float64)


def slopes(function: Function) -> tuple[float, float] | None:
    """``(left, right)`` if the function is linear on both sides of zero and zero there, else ``None``."""
    probe = np.array([-3.0, -1.0, -0.25, 0.0, 0.25, 1.0, 3.0])
    with np.errstate(all="ignore"):
        value = function(probe)
    left, right = -value[1], value[5]
    expected = np.where(probe < 0, left * probe, right * probe)
    return (float(left), float(right)) if np.allclose(value, expected, rtol=1e-12, atol=1e-12) else None


def derivative_power(function: Function) -> float:
    """``E[f'(z)^2]`` for a standard normal ``z``: how a pointwise function scales the expected squared gradient."""
    with np.errstate(all="ignore"):
        derivative = np.gradient(function(_GRID), _GRID)
    usable = np.isfinite(derivative)
    return float((derivative[usable] ** 2 * _DENSITY[usable]).sum() / _DENSITY[usable].sum())


@lru_cache(maxsize=1)
def _hermite() -> Array:
    """Normalised Hermite polynomials times the Gaussian density on the grid: ``(order, grid)``."""
    table = np.empty((_ORDER, len(_GRID)))
    table[0] = 1
    table[1] = _GRID
    for j in range(2, _ORDER):
        table[j] = (_GRID * table[j - 1] - sqrt(j - 1) * table[j - 2]) / sqrt(j)
    return table * _DENSITY


@lru_cache(maxsize=4096)
def _coefficients(function: Function, mean: float, deviation: float) -> tuple[Array, float]:
    """Hermite coefficients of ``f(mean + deviation z)`` and the power that they leave out."""
    if deviation == 0:
        series = np.zeros(_ORDER)
        series[0] = function(np.array([mean]))[0]
        return series, 0.0
    with np.errstate(all="ignore"):
        values = function(mean + deviation * _GRID)
    values = np.where(np.isfinite(values), values, 0.0)
    series = _hermite() @ values
    left = float((values**2) @ _DENSITY - series @ series)
    return series, max(left, 0.0)


def cross_expectation(
    f: Function, mean_f: Array, deviation_f: Array, g: Function, mean_g: Array, deviation_g: Array, covariance: Array
) -> Array:
    """``E[f(u_n) g(v_m)]`` for jointly Gaussian ``u`` and ``v``.

    Args:
        f: Function of ``u``.
        mean_f: Means of ``u``, any shape.
        deviation_f: Standard deviations of ``u``, same shape.
        g: Function of ``v``.
        mean_g: Means of ``v``.
        deviation_g: Standard deviations of ``v``.
        covariance: ``Cov(u_n, v_m)``, shape ``u.shape + v.shape``.

    Returns:
        The expectations, in the shape of ``covariance``.
    """
    shape = covariance.shape
    mu, su, mv, sv = (np.ravel(x) for x in (mean_f, deviation_f, mean_g, deviation_g))
    flat = covariance.reshape(len(mu), len(mv))
    scale = np.outer(su, sv)
    with np.errstate(all="ignore"):
        rho = np.where(scale > 0, np.clip(flat / scale, -1, 1), 0.0)
    centred = not (mu.any() or mv.any())
    first, second = (slopes(f), slopes(g)) if centred else (None, None)
    if first is not None and second is not None:
        (lf, rf), (lg, rg) = first, second
        # f(x) = a x + b |x|; odd and even parts do not mix for zero means
        linear = (rf + lf) * (rg + lg) / 4 * rho
        even = (rf - lf) * (rg - lg) / 4 * (2 / np.pi) * (np.sqrt(1 - rho**2) + rho * np.arcsin(rho))
        return np.asarray((scale * (linear + even)).reshape(shape))
    rows, row_of = np.unique(np.round(np.stack([mu, su], 1), 11), axis=0, return_inverse=True)
    columns, column_of = np.unique(np.round(np.stack([mv, sv], 1), 11), axis=0, return_inverse=True)
    left = [_coefficients(f, float(m), float(s)) for m, s in rows]
    right = [_coefficients(g, float(m), float(s)) for m, s in columns]
    a = np.array([np.append(series, sqrt(rest)) for series, rest in left])
    b = np.array([np.append(series, sqrt(rest)) for series, rest in right])
    a[:, -1] = np.where(a[:, -1] < 1e-7, 0, a[:, -1])
    b[:, -1] = np.where(b[:, -1] < 1e-7, 0, b[:, -1])
    row_of, column_of = np.ravel(row_of), np.ravel(column_of)
    if len(rows) * len(columns) <= 64:
        result = np.empty_like(rho)
        knots = np.linspace(-1, 1, 8193)
        for i in range(len(rows)):
            here = np.flatnonzero(row_of == i)
            for j in range(len(columns)):
                there = np.flatnonzero(column_of == j)
                curve = np.polynomial.polynomial.polyval(knots, a[i] * b[j])
                block = np.ix_(here, there)
                result[block] = np.interp(rho[block], knots, curve)
        return result.reshape(shape)
    result = np.zeros_like(rho)
    for power in range(_ORDER, -1, -1):
        result *= rho
        result += np.outer(a[row_of, power], b[column_of, power])
    return result.reshape(shape)
