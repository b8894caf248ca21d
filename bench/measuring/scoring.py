"""Scores of statistics: area under the curve, true positives at few false ones, shares with honest intervals.

Pictures cut from one photograph are alike, so every error is that of drawing other photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS = 500
Z = 1.959964  # 95 %


def wins(positive: Floats, negative: Floats) -> float:
    """Pairs in which the positive is larger, ties as half."""
    order = np.sort(negative)
    below, upto = np.searchsorted(order, positive, "left"), np.searchsorted(order, positive, "right")
    return float((below + upto).sum() / 2)


def auc(positive: Floats, negative: Floats) -> float:
    """Probability that a positive scores higher than a negative."""
    return wins(positive, negative) / (len(positive) * len(negative))


def true_positives(positive: Floats, negative: Floats, rate: float = 0.01) -> float:
    """Share of positives above a threshold that at most a share `rate` of the negatives exceeds."""
    allowed = int(rate * len(negative))
    return float(np.mean(positive > np.sort(negative)[len(negative) - 1 - allowed]))


@dataclass(frozen=True)
class Curve:
    """Scores of one statistic with the photographs they belong to; those that could not be computed are the least.

    Attributes:
        positive, negative: Scores.
        positive_group, negative_group: The photograph of each.
    """

    positive: Floats
    negative: Floats
    positive_group: Sequence[str]
    negative_group: Sequence[str]

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            object.__setattr__(self, name, np.nan_to_num(getattr(self, name), nan=-1e300, posinf=1e300, neginf=-1e300))

    @property
    def auc(self) -> float:
        return auc(self.positive, self.negative)

    @property
    def true_positives(self) -> float:
        return true_positives(self.positive, self.negative)

    @cached_property
    def resampled(self) -> Floats:
        """The AUC for each draw of photographs, the same draws for all curves over the same photographs."""
        names = sorted({*self.positive_group, *self.negative_group})
        of_positive = [self.positive[np.array(self.positive_group) == n] for n in names]
        of_negative = [self.negative[np.array(self.negative_group) == n] for n in names]
        table = np.array([[wins(p, n) for n in of_negative] for p in of_positive])
        weights = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
        pairs = (weights @ [len(p) for p in of_positive]) * (weights @ [len(n) for n in of_negative])
        with np.errstate(invalid="ignore", divide="ignore"):  # draws without any positive or negative
            return np.asarray(np.einsum("dp,pn,dn->d", weights, table, weights) / pairs)

    @property
    def error(self) -> float:
        """Standard error of the AUC."""
        return float(np.nanstd(self.resampled))

    def error_against(self, other: Curve) -> float:
        """Standard error of the difference of two AUCs over the same pictures."""
        return float(np.nanstd(self.resampled - other.resampled))


@dataclass(frozen=True)
class Share:
    """A share of pictures with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int

    def meets(self, low: float, high: float) -> bool:
        """Whether the interval has a point in common with another."""
        return self.low <= high and self.high >= low


def share(hits: Sequence[bool] | NDArray[np.bool_], groups: Sequence[str]) -> Share:
    """Share of hits; Wilson's interval for as many independent pictures as the photographs' variance allows for."""
    hit, group = np.asarray(hits, float), np.asarray(groups)
    n, p = len(hit), float(np.mean(hit))
    members = np.unique(group, return_inverse=True)[1]
    sizes = np.bincount(members)
    clusters = len(sizes)
    design = 1.0
    if clusters > 1 and 0 < p < 1:
        spread = clusters / (clusters - 1) * np.sum((np.bincount(members, hit) - p * sizes) ** 2) / n**2
        design = max(1.0, float(spread / (p * (1 - p) / n)))
    m = n / design
    centre, half = p + Z**2 / (2 * m), Z * np.sqrt(p * (1 - p) / m + Z**2 / (4 * m**2))
    low, high = (float(np.clip((centre + side * half) / (1 + Z**2 / m), 0, 1)) for side in (-1, 1))
    return Share(p, low, high, n)
