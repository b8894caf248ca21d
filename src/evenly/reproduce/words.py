"""How numbers and verdicts of experiments are written, wherever they are shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenly.reproduce.result import Effect, Part
    from evenly.reproduce.stored import Claim

__all__ = [
    "ORDER",
    "SYMBOLS",
    "amount",
    "bound",
    "counted",
    "digits",
    "duration",
    "effect",
    "interval",
    "seeds",
    "stated",
    "value",
]

ORDER: Final = ("holds", "partly", "does not hold here", "not decided here", "not run")
"""Answers as they are counted."""
SYMBOLS: Final = {
    "holds": "✓", "partly": "◐", "does not hold here": "✗", "not decided here": "?", "not run": "–",
    "met": "✓", "not met": "✗", "open": "?",
}  # fmt: skip
"""So that no answer is told by its colour alone."""
_TINY = 1e-4
"""Below it numbers are written as 2e-07."""


def digits(span: float, value: float) -> int:
    """Decimals that show two digits of `span`, or three of `value` where the span is 0."""
    size, wanted = (span, 2) if span > 0 else (abs(value), 3)
    return 0 if size == 0 else max(0, wanted - 1 - math.floor(math.log10(size)))


def amount(value: float, unit: str, decimals: int) -> str:
    """A number with its unit: ``3.1 dB``, ``ratio 2``."""
    text = f"{value:.2g}" if 0 < abs(value) < _TINY else f"{round(value, decimals) + 0.0:,.{decimals}f}"
    return f"ratio {text}" if unit == "ratio" else f"{text} {unit}".strip()


def effect(found: Effect) -> str:
    """``3.1 dB (95 % interval 2.0 to 4.2, n = 3)``."""
    return f"{value(found)} (exact)" if found.count == 0 else f"{value(found)} ({interval(found)})"


def value(found: Effect) -> str:
    """``3.1 dB``."""
    if found.count == 0:
        return _exactly(found.value, found.unit)
    return amount(found.value, found.unit, digits(found.high - found.low, found.value))


def interval(found: Effect) -> str:
    """``95 % interval 2.0 to 4.2, n = 3``."""
    if found.count == 0:
        return "exact"
    decimals = digits(found.high - found.low, found.value)
    low, high = (amount(end, "", decimals) for end in (found.low, found.high))
    return f"95 % interval {low} to {high}, n = {found.count:,}"


def _exactly(number: float, unit: str) -> str:
    """Three digits, fewer if they are zeros."""
    text = amount(number, "", digits(0, number))
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return f"ratio {text}" if unit == "ratio" else f"{text} {unit}".strip()


def bound(part: Part) -> str:
    """``at least 3 dB``."""
    word, limit = ("at least", part.at_least) if part.at_least is not None else ("at most", part.at_most)
    assert limit is not None
    return f"{word} {_exactly(limit, part.effect.unit)}"


def stated(part: Part) -> str:
    """The part's statement, to go on after it."""
    return part.statement.rstrip(".")


def duration(seconds: float) -> str:
    """``42 s``, ``3 min``, ``1.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def seeds(found: Sequence[int]) -> str:
    """``3 seeds``."""
    return f"{len(found)} seed" + ("s" if len(found) != 1 else "")


def counted(claims: Sequence[Claim]) -> dict[str, int]:
    """How many claims have which answer, those that occur."""
    answers = [claim.answer or "not run" for claim in claims]
    return {answer: answers.count(answer) for answer in ORDER if answer in answers}
