"""How numbers and verdicts of experiments are written, wherever they are shown."""

from __future__ import annotations

import math
import re
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
    "brief",
    "counted",
    "deciders",
    "digits",
    "duration",
    "effect",
    "figure",
    "interval",
    "judged",
    "refuted_too",
    "seeds",
    "stated",
    "tally",
    "tick",
    "value",
]

ORDER: Final = ("holds", "partly", "does not hold here", "not decided here", "not run")
"""Answers as they are counted."""
SYMBOLS: Final = {
    "holds": "✓", "partly": "◐", "does not hold here": "✗", "not decided here": "?", "not run": "–",
    "met": "✓", "not met": "✗", "open": "?",
}  # fmt: skip
"""So that no answer is told by its colour alone."""
_DOUBTS: Final = ("not met", "open")
_TINY = 1e-4
"""Below it numbers are written as 2e-7."""
_NAMED: Final = ("ratio", "correlation", "rank correlation")
"""Units that come before the number, since they are no units: ``a ratio of 2``."""


def digits(span: float, value: float) -> int:
    """Decimals that show two digits of `span`, or three of `value` where the span is 0."""
    size, wanted = (span, 2) if span > 0 else (abs(value), 3)
    return 0 if size == 0 else max(0, wanted - 1 - math.floor(math.log10(size)))


def amount(value: float, unit: str, decimals: int) -> str:
    """A number with its unit: ``3.1 dB``, ``a ratio of 2.5``; decimals that are all zero by definition are left out."""
    if 0 < abs(value) < _TINY:
        return _with_unit(_short(f"{value:.2g}"), unit)
    return _with_unit(f"{round(value, decimals) + 0.0:,.{0 if value == round(value) else decimals}f}", unit)


def _with_unit(text: str, unit: str) -> str:
    return f"a {unit} of {text}" if unit in _NAMED else f"{text} {unit}".strip()


def _short(text: str) -> str:
    """``2e-7`` instead of ``2e-07``."""
    return re.sub(r"e([+-])0+(?=\d)", r"e\1", text).replace("e+", "e")


def tick(value: float, step: float) -> str:
    """A number at an axis whose ticks are `step` apart."""
    if value == 0:
        return "0"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return _short(f"{value:.6g}") if decimals > 4 or abs(value) >= 1e6 else f"{round(value, decimals):,.{decimals}f}"


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
    return _with_unit(text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text, unit)


def brief(found: Effect, digits: int = 3) -> str:
    """``3.1 (2 to 4.2)``, for tables whose columns say the unit."""
    value, low, high = (figure(number, digits) for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def figure(number: float, digits: int = 4) -> str:
    """A number of a table."""
    return _short(f"{number:.{digits}g}")


def bound(part: Part) -> str:
    """``at least 3 dB``; the effect beside it says of what a bare number is."""
    word, limit = ("at least", part.at_least) if part.at_least is not None else ("at most", part.at_most)
    assert limit is not None
    return f"{word} {_exactly(limit, '' if part.effect.unit in _NAMED else part.effect.unit)}"


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


def tally(claim: Claim) -> str:
    """``3 of 5 parts met, 1 not met, 1 open``."""
    states = [part.state for _, part in claim.parts]
    head = f"{states.count('met')} of {len(states)} part{'s' if len(states) != 1 else ''} met"
    return ", ".join([head, *(f"{states.count(state)} {state}" for state in _DOUBTS if state in states)])


def judged(part: Part) -> str:
    """Why a part is what it is: ``open, since the bound (at least 3 dB) lies within the interval``."""
    if part.state == "open":
        return f"open, since the bound ({bound(part)}) lies within the interval"
    return f"{part.state}, bound {bound(part)}"


def refuted_too(claim: Claim) -> list[str]:
    """The parts that are not met, but for the one that the answer hangs on, with their effects."""
    refuted = [part for _, part in claim.parts if part.state == "not met"]
    return [f"{stated(part)}: {value(part.effect)}" for part in refuted[1:]]


def deciders(claim: Claim) -> str:
    """``what would decide the 2 open parts: more seeds``; empty if there are none."""
    count = sum(part.state == "open" for _, part in claim.parts)
    wishes = [wish for _, part in claim.parts if part.state == "open" for wish in part.decides.split("; ") if wish]
    which = "the open part" if count == 1 else f"the {count} open parts"
    return f"what would decide {which}: {', '.join(dict.fromkeys(wishes))}" if wishes else ""
