"""Effects with honest intervals, from few seeds or many pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evenly.errors import ParameterError
from evenly.reproduce.result import Effect

__all__ = ["bootstrap", "exponential", "geometric", "mean", "paired", "slope", "unpaired"]

_RESAMPLES = 9999


def mean(values: ArrayLike, unit: str, over: str = "seeds") -> Effect:
    """The mean of independent values, with Student's t interval; for a few seeds or many.

    Args:
        values: ``(n,)``, at least two.
        unit: Of the values.
        over: What the values are, for the interval's name.

    Raises:
        ParameterError: If there are fewer than two, or one is not finite.
    """
    found = _checked(values, 2)
    error = stats.sem(found)
    reach = float(stats.t.ppf(0.975, len(found) - 1) * error)
    centre = float(found.mean())
    return Effect(centre, centre - reach, centre + reach, unit, len(found), f"t interval over {over}")


def geometric(values: ArrayLike, unit: str, over: str = "seeds") -> Effect:
    """The geometric mean of independent positive values, with the t interval of their logarithms.

    For ratios and other sizes: 4 and 1/4 have the mean 1.

    Args:
        values: ``(n,)``, at least two, above 0.
        unit: Of the values.
        over: What the values are, for the interval's name.

    Raises:
        ParameterError: If there are fewer than two, or one is not finite or not above 0.
    """
    found = _checked(values, 2)
    if found.min() <= 0:
        raise ParameterError(f"a geometric mean needs values above 0, not {found.min():g}")
    return exponential(mean(np.log(found), unit, over))


def exponential(effect: Effect) -> Effect:
    """An effect on natural logarithms as what it stands for: a difference becomes a ratio."""
    low, value, high = (math.exp(number) for number in (effect.low, effect.value, effect.high))
    return Effect(value, low, high, effect.unit, effect.count, f"{effect.method}, of logarithms")


def paired(first: ArrayLike, second: ArrayLike, unit: str, over: str = "seeds") -> Effect:
    """Mean of first - second of the same seed (or picture), with the t interval of the differences."""
    a, b = _checked(first, 2), _checked(second, 2)
    if len(a) != len(b):
        raise ParameterError(f"pairs need equally many values of both sides, not {len(a)} and {len(b)}")
    return mean(a - b, unit, f"{over}, paired")


def unpaired(first: ArrayLike, second: ArrayLike, unit: str, over: str = "seeds") -> Effect:
    """Difference of the means of two independent groups, with Welch's interval."""
    a, b = _checked(first, 2), _checked(second, 2)
    if np.ptp(a) == 0 == np.ptp(b):
        exact = float(a[0] - b[0])
        return Effect(exact, exact, exact, unit, min(len(a), len(b)), f"Welch interval over {over}")
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    value = float(a.mean() - b.mean())
    return Effect(
        value, float(interval.low), float(interval.high), unit, min(len(a), len(b)), f"Welch interval over {over}"
    )


def slope(x: ArrayLike, y: ArrayLike, unit: str, over: str = "points") -> Effect:
    """Slope of the straight line through points, with its t interval."""
    a, b = _checked(x, 3), _checked(y, 3)
    if np.ptp(a) == 0:
        raise ParameterError(f"a slope needs different x; these x are all {a[0]:g}")
    fit = stats.linregress(a, b)
    reach = float(stats.t.ppf(0.975, len(a) - 2) * fit.stderr)
    value = float(fit.slope)
    return Effect(value, value - reach, value + reach, unit, len(a), f"t interval of the slope over {over}")


def bootstrap(
    groups: Sequence[ArrayLike],
    statistic: Callable[..., float],
    unit: str,
    over: str,
    seed: int = 0,
    paired: bool = False,
) -> Effect:
    """Any statistic of one or more samples, with the bias-corrected and accelerated bootstrap interval (Efron 1987).

    Args:
        groups: The samples, each ``(n,)``; drawn independently, or together if `paired`.
        statistic: Of the samples.
        unit: Of the statistic.
        over: What the values are.
        seed: Of the resampling.
        paired: Whether the samples belong together one by one.
    """
    samples = [_checked(group, 2) for group in groups]
    value = float(statistic(*samples))
    if all(np.ptp(sample) == 0 for sample in samples):
        return Effect(value, value, value, unit, min(map(len, samples)), f"bootstrap over {over}")
    interval: Any = stats.bootstrap(
        samples,
        statistic,
        n_resamples=_RESAMPLES,
        vectorized=False,
        paired=paired,
        rng=np.random.default_rng(seed),
        method="BCa" if min(map(len, samples)) >= 8 else "percentile",
    ).confidence_interval
    return Effect(
        value, float(interval.low), float(interval.high), unit, min(map(len, samples)), f"bootstrap over {over}"
    )


def _checked(values: ArrayLike, least: int) -> NDArray[np.float64]:
    found = np.asarray(values, np.float64).ravel()
    if len(found) < least:
        raise ParameterError(f"an interval needs at least {least} values, not {len(found)}: take more seeds")
    if not np.isfinite(found).all():
        raise ParameterError("an interval needs finite values; leave out what could not be measured, and say so")
    return found
