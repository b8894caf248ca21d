"""Probabilities far down their tails, as natural logarithms, and their combinations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["cauchy", "fisher", "half_log_p", "line_log_p"]

_TINY = -600.0  # natural logarithms below this are found by leading terms: the functions underflow
_LEAST = 1e-300  # nothing smaller has its logarithm taken
_LARGEST = 0.99  # p-value in a Cauchy combination


def line_log_p(
    share: NDArray[np.float64], tapers: int, real: NDArray[np.bool_], directions: int = 1
) -> NDArray[np.float64]:
    """Log p of the share of energy that lies along a line's own directions among the tapers (Thomson 1982).

    In a locally white Gaussian background the share is Beta(c q, c (M - q)) for ``M`` tapers and ``q`` directions, with
    ``c = 1`` for complex coefficients and ``1/2`` for real ones (a line that is its own conjugate).

    Args:
        share: Any shape, in [0, 1].
        tapers: Products of tapers, ``M``.
        real: Same shape: where the coefficients are real.
        directions: ``q``, 1 or 2.
    """
    rest = np.log(np.clip(1.0 - share, _LEAST, 1.0))
    log_p = (tapers - directions) * rest
    if directions == 1:
        if real.any():
            log_p[real] = half_log_p(share[real], (tapers - 1) / 2)
        return log_p
    return np.where(real, log_p / 2, log_p + np.log1p((tapers - 2) * share))


def half_log_p(share: NDArray[np.float64], b: float) -> NDArray[np.float64]:
    """Log p of a share that is Beta(1/2, b): one real number against ``2 b`` others."""
    from scipy.special import betainc, betaln

    rest = np.clip(1.0 - share, _LEAST, 1.0)
    leading = b * np.log(rest) - np.log(b) - betaln(b, 0.5)
    return np.asarray(np.where(leading < _TINY, leading, np.log(np.maximum(betainc(b, 0.5, rest), _LEAST))))


def fisher(log_p: ArrayLike) -> float:
    """Log p of the product of independent p-values (Fisher 1925): a chi-square tail with an even number of degrees.

    With ``x = -sum log p`` over ``n`` values it is ``exp(-x) * sum over k < n of x^k / k!``.
    """
    from scipy.special import gammaln

    values = np.asarray(log_p, dtype=np.float64)
    x, k = -float(values.sum()), np.arange(values.size)
    if x <= 0:
        return 0.0
    terms = k * np.log(x) - gammaln(k + 1.0)
    top = terms.max()
    return min(0.0, float(-x + top + np.log(np.exp(terms - top).sum())))


def cauchy(log_p: ArrayLike, weights: ArrayLike = 1.0) -> float:
    """Log p of the weighted mean of Cauchy quantiles, valid in the tail under any dependence (Liu and Xie 2020).

    P-values near 1 count as 0.99: their quantiles would outweigh any evidence.
    """
    values = np.asarray(log_p, dtype=np.float64)
    parts = np.broadcast_to(np.asarray(weights, dtype=np.float64), values.shape)
    parts = parts / parts.sum()
    least = float(values.min())
    if least < -30.0:  # tan(pi (1/2 - p)) is 1 / (pi p) there; larger p-values add nothing that counts
        return min(0.0, float(least - np.log((parts * np.exp(least - values)).sum())))
    p = np.minimum(np.exp(values), _LARGEST)
    mean = float((parts * np.tan(np.pi * (0.5 - p))).sum())
    return float(np.log(np.clip(np.arctan2(1.0, mean) / np.pi, 1e-300, 1.0)))
