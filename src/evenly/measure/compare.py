"""One set of pictures against another: does the first show more of a period than the second?

Two real sets differ in what they show and how they were taken, so that with enough pictures any two differ. A verdict
therefore asks for more than a difference: the first set's pictures must win against the second's by ``MARGIN`` more
than half of the time, beyond chance. Compare pictures of like size: evidence and power over the background grow
with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evenly.measure.accumulate import TESTED, judge
from evenly.measure.result import TRACES, ComparedTrace, Comparison
from evenly.measure.sums import LN10

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.measure.accumulate import SetState
    from evenly.measure.sums import Spread

__all__ = ["MARGIN", "Ranks", "compare"]

MARGIN = 0.02
"""By how much the probability of showing more must exceed one half, beyond chance, for a verdict."""


class Ranks:
    """Mann and Whitney's test of two histograms, ties and all.

    Args:
        first, second: Pictures by bin.
    """

    def __init__(self, first: Mapping[int, int], second: Mapping[int, int]) -> None:
        self.n, self.m = sum(first.values()), sum(second.values())
        twice = below = ties = 0  # twice the wins of the first, of ties one; pictures of the second in lower bins
        for number in sorted({*first, *second}):
            a, b = first.get(number, 0), second.get(number, 0)
            twice += a * (2 * below + b)
            below += b
            ties += (a + b) ** 3 - (a + b)
        pairs, everyone = self.n * self.m, self.n + self.m
        self.wins = twice / 2
        self.superiority = twice / (2 * pairs) if pairs else 0.5
        spread = everyone * (everyone**2 - 1) - ties
        self.deviation = math.sqrt(pairs * spread / (12 * everyone * (everyone - 1))) if pairs and everyone > 1 else 0.0
        """Standard deviation of the wins if both sets come from the same distribution."""
        # No order of so few pictures is rarer than this.
        self.least = math.lgamma(self.n + 1) + math.lgamma(self.m + 1) - math.lgamma(everyone + 1)

    def log_p(self) -> float:
        """P-value (log) of no difference, two-sided."""
        away = abs(self.wins - self.n * self.m / 2) - 0.5
        return min(0.0, max(self._tail(away), self.least) + math.log(2))

    def log_p_more(self, margin: float = MARGIN) -> float:
        """P-value (log) of the first winning at most ``margin`` more often than the second."""
        return max(self._tail(self.wins - (0.5 + margin) * self.n * self.m - 0.5), self.least)

    def _tail(self, away: float) -> float:
        from scipy.special import log_ndtr

        return float(log_ndtr(-away / self.deviation)) if self.deviation else 0.0


def compare(a: SetState, b: SetState) -> Comparison:
    """Compare the first set with the second, for instance generated with real pictures.

    The verdict is about up-sampling of which ``a`` shows more; pictures where something else explains a period do not
    count for it there.
    """
    numbers = sorted({*a.periods, *b.periods})
    periods: dict[int, dict[str, ComparedTrace | None]] = {}
    tests: dict[tuple[int, str], float] = {}
    for number in numbers:
        periods[number] = dict.fromkeys(TRACES)
        if number not in a.periods or number not in b.periods:
            continue
        one, other = a.periods[number], b.periods[number]
        for name in TRACES:
            mine, theirs = one.traces[name], other.traces[name]
            if not mine.evidence.count or not theirs.evidence.count:
                continue
            ranks = Ranks(mine.evidence.bins, theirs.evidence.bins)
            difference = _difference(mine.db, theirs.db)
            periods[number][name] = ComparedTrace(ranks.log_p() / LN10, ranks.superiority, difference)
            if name in TESTED and one.free:
                left = [(state.evidence - state.explained).bins for state in (mine, theirs)]
                tests[number, name] = Ranks(*left).log_p_more()
    verdict, found = judge(tests)
    return Comparison(a.count, b.count, periods, verdict, found)


def _difference(first: Spread, second: Spread) -> float | None:
    one, other = first.mean, second.mean
    return None if one is None or other is None else one - other
