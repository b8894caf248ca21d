"""What an experiment found: claims, the parts they are made of, and what there is to see. Frozen and versioned.

A claim is split into parts; each part is one measured effect with an interval and a bound that was set before the
run. A part is *met* if the whole interval lies beyond the bound, *not met* if the whole interval lies short of it, and
*open* otherwise. Nothing else decides about a claim, so an experiment whose effect is taken away must say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError

__all__ = [
    "FORMAT_VERSION",
    "Answer",
    "Architecture",
    "Conclusion",
    "Effect",
    "Evidence",
    "Finding",
    "Part",
    "Picture",
    "Plot",
    "Recording",
    "Row",
    "Series",
    "State",
    "Table",
    "answer",
]

FORMAT_VERSION = 1  # 1: first form

State = Literal["met", "not met", "open"]
Answer = Literal["holds", "partly", "does not hold here", "not decided here"]


@dataclass(frozen=True)
class Effect:
    """A measured number with its 95 % interval.

    Attributes:
        value: The estimate.
        low, high: Ends of the interval; both equal to the value if it is exact.
        unit: Of all three, such as ``"dB"``, ``"ratio"`` or ``"%"``.
        count: Independent units behind it: seeds, pictures, photographs. 0 if it is exact.
        method: How the interval was made, such as ``"t interval over seeds"`` or ``"exact"``.

    Raises:
        ParameterError: If a number is not finite or the interval is turned round.
    """

    value: float
    low: float
    high: float
    unit: str
    count: int
    method: str

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high)
        if not all(math.isfinite(number) for number in numbers):
            raise ParameterError(f"an effect's value and interval (={numbers}) must be finite; leave the part out")
        if self.low > self.high:
            raise ParameterError(f"an effect's interval (={self.low}, {self.high}) must begin at its lower end")

    @classmethod
    def exact(cls, value: float, unit: str) -> Effect:
        """A number that was computed, not sampled."""
        return cls(float(value), float(value), float(value), unit, 0, "exact")

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return dict(vars(self))


@dataclass(frozen=True)
class Part:
    """One testable part of a claim; exactly one bound is given.

    Attributes:
        statement: What is tested, as a sentence that says what is compared with what.
        effect: What was measured.
        at_least: The part is met if the effect is at least this.
        at_most: The part is met if the effect is at most this.
        decides: What would decide the part where it stays open, e.g. "more seeds" or "full scale".
    """

    statement: str
    effect: Effect
    at_least: float | None = None
    at_most: float | None = None
    decides: str = "more seeds"

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ParameterError(f"the part {self.statement!r} needs exactly one of at_least and at_most")

    @property
    def state(self) -> State:
        """Whether the interval lies on the right side of the bound, on the wrong one, or on both."""
        low, high = self.effect.low, self.effect.high
        if self.at_least is not None:
            return "met" if low >= self.at_least else "not met" if high < self.at_least else "open"
        assert self.at_most is not None
        return "met" if high <= self.at_most else "not met" if low > self.at_most else "open"

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {**vars(self), "effect": self.effect.to_dict(), "state": self.state}


def answer(states: Iterable[State]) -> Answer:
    """What the states of all its parts say about a claim.

    All met: it holds. Some met: partly. None met and one refuted: it does not hold here. Else: not decided here.
    """
    found = list(states)
    if found and all(state == "met" for state in found):
        return "holds"
    if "met" in found:
        return "partly"
    return "does not hold here" if "not met" in found else "not decided here"


@dataclass(frozen=True)
class Finding:
    """What an experiment says about a claim.

    Attributes:
        claim: Its number, such as ``"C13"``.
        parts: What was tested.
        note: What limits it or explains it, in a sentence or two; may be empty.
    """

    claim: str
    parts: tuple[Part, ...]
    note: str = ""

    @property
    def answer(self) -> Answer:
        """Holds, partly, does not hold here, not decided here."""
        return answer(part.state for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {
            "claim": self.claim,
            "answer": self.answer,
            "parts": [part.to_dict() for part in self.parts],
            "note": self.note,
        }


@dataclass(frozen=True)
class Table:
    """Numbers to read.

    Attributes:
        title: What it shows, with units where a column's name has none.
        columns: Names of the columns.
        rows: Text or numbers; ``None`` where there is none.
        note: What to see in it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Series:
    """A line, a row of points or a group of bars of a plot.

    Attributes:
        name: For the legend.
        x: Numbers, or the names of bars.
        y: As many numbers as ``x``.
        low, high: An interval for each, or ``None``.
    """

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    @classmethod
    def of(cls, name: str, x: Iterable[float | str], effects: Iterable[Effect]) -> Series:
        """Effects with their intervals."""
        found = list(effects)
        value, low, high = (tuple(getattr(effect, key) for effect in found) for key in ("value", "low", "high"))
        return cls(name, tuple(x), value, low, high)


@dataclass(frozen=True)
class Plot:
    """Numbers to see.

    Attributes:
        title: What it shows.
        x_label, y_label: Of the axes, with units.
        series: What is drawn.
        kind: ``line``, ``points`` or ``bars``.
        marks: Positions on the x axis to mark, with a word for each (lines of a spectrum).
        log_x, log_y: Whether an axis is logarithmic; bars on one begin at 1, so they are for ratios.
        note: What to see in it.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["line", "points", "bars"] = "line"
    marks: tuple[tuple[float, str], ...] = ()
    log_x: bool = False
    log_y: bool = False
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture with a caption.

    Attributes:
        caption: What it is.
        pixels: ``(H, W)`` or ``(H, W, 3)``, uint8, shown pixel by pixel.
    """

    caption: str
    pixels: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class Row:
    """Pictures side by side, all of one size where they are to be compared; the page magnifies the same place of all.

    Attributes:
        title: What is compared.
        pictures: From left to right.
        note: What to see.
    """

    title: str
    pictures: tuple[Picture, ...]
    note: str = ""


@dataclass(frozen=True)
class Recording:
    """A sound to listen to.

    Attributes:
        title: What it is.
        samples: ``(T,)``, float32, within -1 to 1.
        rate: Samples a second (Hz).
        note: What to listen for.
    """

    title: str
    samples: NDArray[np.float32] = field(repr=False)
    rate: int
    note: str = ""


@dataclass(frozen=True)
class Architecture:
    """A network as it was run, and what ``evenly check`` says about it.

    Attributes:
        name: As the other evidence calls it.
        printed: As PyTorch prints it.
        report: The text of ``evenly check``.
        summary: Its findings in one line.
    """

    name: str
    printed: str
    report: str
    summary: str


Evidence = Table | Plot | Row | Recording | Architecture


@dataclass(frozen=True)
class Conclusion:
    """What an experiment says.

    Attributes:
        findings: One for each of its claims.
        evidence: What to look at, in the order of the telling.
        limits: What these data, networks and numbers of steps cannot show.
    """

    findings: tuple[Finding, ...]
    evidence: tuple[Evidence, ...]
    limits: str = ""

    def answers(self) -> Mapping[str, Answer]:
        """The answers by claim."""
        return {finding.claim: finding.answer for finding in self.findings}
