"""What measuring pictures returns: frozen data that every reporter reads; see ``docs/json.md``.

Four traces are kept apart, since each is blind to what another sees: *mean* (a pattern added to the picture),
*variance* (a pattern in the strength of its details), *interpolation* (a pattern in its first differences) and *chroma*
(a pattern added to the colours). Probabilities are those of seeing so strong a line in a picture without one; they are
kept as decimal logarithms, since a strong pattern's underflow.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = [
    "FORMAT_VERSION",
    "PERIODS",
    "TRACES",
    "VERDICTS",
    "Cause",
    "ComparedTrace",
    "Comparison",
    "Failure",
    "Lines",
    "Measurement",
    "Origin",
    "PeriodResult",
    "SetMeasurement",
    "Trace",
    "Verdict",
    "p_value",
]

FORMAT_VERSION = 1  # 1: first published form
PERIODS = (2, 3, 4, 5, 6, 8, 16)
"""Periods in pixels that are measured unless others are asked for."""
TRACES = ("mean", "variance", "interpolation", "chroma")

Verdict = Literal["none", "weak", "strong"]
VERDICTS: tuple[Verdict, ...] = ("none", "weak", "strong")
Origin = Literal["unknown", "aligned"]


def p_value(log10_p: float) -> float:
    """``10 ** log10_p``, at least the smallest positive normal float."""
    return max(math.pow(10.0, max(log10_p, -400.0)), sys.float_info.min)


@dataclass(frozen=True)
class Lines:
    """The lines that are new at a period: frequencies ``(a/p, b/p)`` with ``gcd(a, b, p) = 1``, up to conjugation.

    Attributes:
        index: Shape (lines, 2), integers: ``(a, b)``, cycles per period down the rows and along the columns.
        log10_p: Shape (lines,): log10 of each line's p-value.
        z: Shape (lines,), complex: each line's evidence as a draw that is standard complex normal in pictures without
            it (standard normal for lines that are their own conjugates, which are real); its angle is the line's
            phase at the picture's first pixel.
        amplitude: Shape (lines,): amplitude of ``amplitude * cos(2 pi (a y + b x) / p + phase)`` in grey levels (of
            255) for mean and chroma, in natural-log units of the local strength otherwise.
        phase: Shape (lines,): phase in radians at the picture's first pixel.
    """

    index: NDArray[np.int64]
    log10_p: NDArray[np.float64]
    z: NDArray[np.complex128]
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """One trace at one period, in a picture or a set.

    Attributes:
        log10_p: log10 of the p-value of all new lines of the period together.
        db: Power of these lines over the local background, in dB, the largest of axes and diagonals; ``None`` where it
            cannot be computed.
        log10_p_x: The same as ``log10_p`` for the lines along the columns only (vertical stripes).
        log10_p_y: For the lines down the rows only (horizontal stripes).
        log10_p_diagonal: For all others; ``None`` where there are none.
        lines: The lines, ``None`` in the result of a set.
    """

    log10_p: float
    db: float | None = None
    log10_p_x: float | None = None
    log10_p_y: float | None = None
    log10_p_diagonal: float | None = None
    lines: Lines | None = field(default=None, repr=False, compare=False)

    @property
    def p(self) -> float:
        """The p-value, at least the smallest positive normal float."""
        return p_value(self.log10_p)

    def details(self, period: int) -> dict[str, Any]:
        """Directions and the strongest line, as in the JSON form; the line is ``None`` in sets."""
        line: dict[str, Any] | None = None
        if self.lines is not None:
            n = int(np.argmin(self.lines.log10_p))
            line = {
                "frequency": [float(f) / period for f in self.lines.index[n]],
                "amplitude": _number(float(self.lines.amplitude[n])),
                "phase": _number(float(self.lines.phase[n])),
                "log10_p": _number(float(self.lines.log10_p[n])),
            }
        return {
            "log10_p_x": _number(self.log10_p_x),
            "log10_p_y": _number(self.log10_p_y),
            "log10_p_diagonal": _number(self.log10_p_diagonal),
            "strongest_line": line,
        }


@dataclass(frozen=True)
class PeriodResult:
    """Everything at one period; a trace is ``None`` where it is not testable (picture too small, or no colours).

    Attributes:
        period: In pixels.
        mean: Pattern added to the brightness.
        variance: Pattern in the local strength of details.
        interpolation: Pattern in the strength of the first differences.
        chroma: Pattern added to the colours.
        energy_fraction: Power of the mean trace's lines, less the background's, over the power of the high-pass
            residual (ratio).
    """

    period: int
    mean: Trace | None = None
    variance: Trace | None = None
    interpolation: Trace | None = None
    chroma: Trace | None = None
    energy_fraction: float | None = None

    def traces(self) -> dict[str, Trace | None]:
        """The four traces by name, in the order of :data:`TRACES`."""
        return {name: getattr(self, name) for name in TRACES}

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form: ``mean_db``, ``mean_p``, ``mean_log10_p``, ..., ``energy_fraction`` and ``details``."""
        found: dict[str, Any] = {}
        details: dict[str, Any] = {}
        for name, trace in self.traces().items():
            found[f"{name}_db"] = None if trace is None else _number(trace.db)
            found[f"{name}_p"] = None if trace is None else trace.p
            found[f"{name}_log10_p"] = None if trace is None else _number(trace.log10_p)
            details[name] = None if trace is None else trace.details(self.period)
        found["details"] = details if any(details.values()) else None
        found["energy_fraction"] = _number(self.energy_fraction)
        return found


@dataclass(frozen=True)
class Cause:
    """A likely cause of lines that were found.

    Attributes:
        kind: ``up-sampling``, ``jpeg-grid``, ``chroma-subsampling``, ``demosaicing``, ``resize``, ``tiling``,
            ``texture``.
        periods: In pixels, those that it explains.
        text: The same for people.
    """

    kind: str
    periods: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Measurement:
    """What was measured in one picture.

    Attributes:
        path: Where it came from; ``None`` for arrays.
        width, height: In pixels.
        verdict: ``none``, ``weak`` or ``strong`` traces of up-sampling.
        found: Periods that the verdict is about, in pixels.
        causes: Likely causes of all that was found, up-sampling and others.
        periods: By period in pixels.
        notes: Remarks for people, for instance what was done to reach grey levels.
        pixels: The picture as it was measured, for :meth:`plot`; ``None`` in sets.
    """

    path: str | None
    width: int
    height: int
    verdict: Verdict
    found: tuple[int, ...]
    causes: tuple[Cause, ...]
    periods: Mapping[int, PeriodResult]
    notes: tuple[str, ...] = ()
    pixels: NDArray[Any] | None = field(default=None, repr=False, compare=False)

    @property
    def cause(self) -> str | None:
        """The likely causes in words; ``None`` if nothing was found."""
        return "; ".join(c.text for c in self.causes) or None

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {
            "path": self.path,
            "width": self.width,
            "height": self.height,
            "verdict": self.verdict,
            "cause": self.cause,
            "causes": [{"kind": c.kind, "periods": list(c.periods), "text": c.text} for c in self.causes],
            "found": list(self.found),
            "periods": {str(p): r.to_dict() for p, r in self.periods.items()},
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """JSON text of this picture alone."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def plot(self, period: int | None = None) -> Figure:
        """Spectrum with the lines marked, the mean pattern of one period, and where it is; as a matplotlib figure.

        Args:
            period: In pixels; by default the one with the most evidence.

        Raises:
            UsageError: If the pixels were not kept, or if the period was not measured.
            MissingDependencyError: If matplotlib is not installed.
        """
        from evenly.measure.plot import plot_measurement

        return plot_measurement(self, period)

    def where(self, period: int | None = None) -> NDArray[np.float64]:
        """Local amplitude of a period's added pattern in grey levels (of 255), shape (H, W).

        Args:
            period: In pixels; by default the one with the most evidence.

        Raises:
            UsageError: If the pixels were not kept, or if the period was not measured.
        """
        from evenly.measure.place import where_measured

        return where_measured(self, period)

    def __str__(self) -> str:
        """The measurement as ``evenly measure`` prints it."""
        from evenly.report import View
        from evenly.report.measured_console import page

        return page(self, View())

    def _repr_html_(self) -> str:
        """The measurement in a notebook: every period, and the spectrum where the pixels were kept."""
        from evenly.report.measured_notebook import to_html

        return to_html(self)


@dataclass(frozen=True)
class Failure:
    """A file that could not be measured.

    Attributes:
        path: Where it came from.
        reason: Why, in one line.
    """

    path: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {"path": self.path, "reason": self.reason}


@dataclass(frozen=True)
class ComparedTrace:
    """One trace at one period, in one set against another.

    Attributes:
        log10_p: log10 of the p-value of no difference (two-sided).
        superiority: Probability that a picture of the first set shows more of it than one of the second (0.5: alike).
        db: Difference of the sets' mean powers over the background, in dB (first less second).
    """

    log10_p: float
    superiority: float
    db: float | None = None

    @property
    def p(self) -> float:
        """The p-value, at least the smallest positive normal float."""
        return p_value(self.log10_p)

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {
            "p": self.p,
            "log10_p": _number(self.log10_p),
            "superiority": _number(self.superiority),
            "db": _number(self.db),
        }


@dataclass(frozen=True)
class Comparison:
    """One set against another, for instance generated against real pictures.

    Attributes:
        count, against_count: Pictures in the first and in the second set.
        periods: By period in pixels, then by trace; ``None`` where a set has none.
        verdict: Whether the first set shows more than the second: ``none``, ``weak`` or ``strong``.
        found: Periods that the verdict is about, in pixels.
    """

    count: int
    against_count: int
    periods: Mapping[int, Mapping[str, ComparedTrace | None]]
    verdict: Verdict
    found: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {
            "count": self.count,
            "against_count": self.against_count,
            "verdict": self.verdict,
            "found": list(self.found),
            "periods": {
                str(p): {name: None if t is None else t.to_dict() for name, t in traces.items()}
                for p, traces in self.periods.items()
            },
        }


@dataclass(frozen=True)
class SetMeasurement:
    """What was measured in a set of pictures.

    Attributes:
        count: Pictures measured.
        failed: Files that could not be measured (all are counted; see ``failed_count`` for long lists).
        failed_count: How many could not be measured.
        periods: By period in pixels: the p-values of all pictures together, mean powers in dB, mean energy fraction.
        verdict: ``none``, ``weak`` or ``strong`` traces of up-sampling in the set.
        found: Periods that the verdict is about, in pixels.
        causes: Number of pictures by the kind of their likely causes.
        verdicts: Number of pictures by verdict.
        origin: ``aligned`` if the phases of different pictures were added (crops at the same place of the grid),
            ``unknown`` if only the strengths were.
    """

    count: int
    failed: tuple[Failure, ...]
    failed_count: int
    periods: Mapping[int, PeriodResult]
    verdict: Verdict
    found: tuple[int, ...]
    causes: Mapping[str, int]
    verdicts: Mapping[str, int]
    origin: Origin

    def plot(self, against: SetMeasurement | None = None) -> Figure:
        """Mean power of every trace and period, beside that of another set; as a matplotlib figure.

        Args:
            against: Another set, for instance of real pictures.

        Raises:
            MissingDependencyError: If matplotlib is not installed.
        """
        from evenly.measure.plot import plot_set

        return plot_set(self, against)

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON form."""
        return {
            "count": self.count,
            "failed_count": self.failed_count,
            "failed": [f.to_dict() for f in self.failed],
            "origin": self.origin,
            "verdict": self.verdict,
            "found": list(self.found),
            "verdicts": dict(self.verdicts),
            "causes": dict(self.causes),
            "periods": {str(p): r.to_dict() for p, r in self.periods.items()},
        }

    def _repr_html_(self) -> str:
        """The set in a notebook."""
        from evenly.report.measured_notebook import set_to_html

        return set_to_html(self)


def _number(value: float | None) -> float | None:
    """JSON has no infinities: those become ``None``."""
    return None if value is None or not np.isfinite(value) else float(value)
