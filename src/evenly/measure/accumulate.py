"""What a set of pictures shows together: states of parts of a set add up to the set's, bit for bit.

All sums are whole (``sums.py``), so that any number of machines, in any order, gives the same state. Nothing grows with
the number of pictures.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from evenly.errors import FormatError
from evenly.measure.pooling import exceptions, together
from evenly.measure.result import TRACES, Failure, PeriodResult, SetMeasurement, Trace
from evenly.measure.sums import LN10, LineSums, Spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evenly.measure.result import Measurement, Origin, Verdict

__all__ = ["MOST_FAILURES", "STATE_VERSION", "TESTED", "SetState", "judge"]

STATE_VERSION = 1  # 1: first published form
MOST_FAILURES = 1000
"""Failures that are listed, the first by name; all are counted."""
TESTED = ("mean", "variance", "interpolation")
"""Traces that a verdict is about; colours are reported only."""

WEAK, STRONG = math.log(0.01), math.log(1e-6)  # of the p-value, corrected for the number of tests

SPREADS = ("evidence", "evidence_x", "evidence_y", "evidence_diagonal", "db", "explained")


@dataclass
class TraceState:
    """One trace at one period.

    Attributes:
        evidence, evidence_x, evidence_y, evidence_diagonal: ``-log10 p`` of all lines, and by direction.
        db: Power over the background.
        explained: ``-log10 p`` of the pictures where something other than up-sampling explains the period.
        lines: Vectors; ``None`` where no picture had any.
    """

    evidence: Spread = field(default_factory=Spread)
    evidence_x: Spread = field(default_factory=Spread)
    evidence_y: Spread = field(default_factory=Spread)
    evidence_diagonal: Spread = field(default_factory=Spread)
    db: Spread = field(default_factory=Spread)
    explained: Spread = field(default_factory=Spread)
    lines: LineSums | None = None

    def add(self, trace: Trace, explained: bool) -> None:
        """Count one picture's trace, but for its lines."""
        self.evidence.add_evidence(trace.log10_p)
        self.evidence_x.add_evidence(trace.log10_p_x)
        self.evidence_y.add_evidence(trace.log10_p_y)
        self.evidence_diagonal.add_evidence(trace.log10_p_diagonal)
        self.db.add_decibels(trace.db)
        if explained:
            self.explained.add_evidence(trace.log10_p)

    def __iadd__(self, other: TraceState) -> Self:
        for name in SPREADS:
            mine: Spread = getattr(self, name)
            mine += getattr(other, name)
        if other.lines is not None:
            self.add_lines(other.lines)
        return self

    def add_lines(self, lines: LineSums) -> None:
        """Count the lines of one picture or many."""
        if self.lines is None:
            self.lines = lines.copy()
        else:
            self.lines += lines

    def log_p(self, period: int, origin: Origin, direction: str | None = None, *, unexplained: bool = False) -> float:
        """P-value (log) of what the pictures show together; ``unexplained``: of those that nothing else explains."""
        spread: Spread = getattr(self, "evidence" + ("" if direction is None else f"_{direction}"))
        strong = (spread - self.explained if unexplained else spread).log_p()
        if origin == "unknown" or self.lines is None:
            return strong
        return together([strong, self.lines.log_p(period, direction)])

    def result(self, period: int, origin: Origin) -> Trace | None:
        """As in the result of a set; ``None`` if it was testable in no picture."""
        if not self.evidence.count:
            return None
        sides: dict[str, Any] = {
            f"log10_p_{side}": self.log_p(period, origin, side) / LN10
            if getattr(self, f"evidence_{side}").count
            else None
            for side in ("x", "y", "diagonal")
        }
        return Trace(self.log_p(period, origin) / LN10, self.db.mean, **sides)


@dataclass
class PeriodState:
    """One period.

    Attributes:
        traces: By name.
        energy: Fraction of the residual's energy.
        found: Pictures whose verdict is about the period.
        explained: Pictures where something other than up-sampling explains it.
    """

    traces: dict[str, TraceState] = field(default_factory=lambda: {name: TraceState() for name in TRACES})
    energy: Spread = field(default_factory=Spread)
    found: int = 0
    explained: int = 0

    def __iadd__(self, other: PeriodState) -> Self:
        for name, state in self.traces.items():
            state += other.traces[name]
        self.energy += other.energy
        self.found += other.found
        self.explained += other.explained
        return self

    @property
    def free(self) -> bool:
        """Whether what the set shows here may be up-sampling.

        Where more pictures are explained by something else (JPEG's grid, say) than by up-sampling, the rest of the set
        most likely shows the same more faintly.
        """
        most = max(trace.evidence.count for trace in self.traces.values())
        return self.explained <= max(self.found, exceptions(most))

    def result(self, period: int, origin: Origin) -> PeriodResult:
        """As in the result of a set."""
        traces = {name: state.result(period, origin) for name, state in self.traces.items()}
        return PeriodResult(period, **traces, energy_fraction=self.energy.mean)


def judge(tests: Mapping[tuple[int, str], float]) -> tuple[Verdict, tuple[int, ...]]:
    """Verdict and periods found from log p of each period and trace, corrected for their number (Bonferroni)."""
    corrected = {key: value + math.log(len(tests)) for key, value in tests.items()}
    found = tuple(sorted({period for (period, _), value in corrected.items() if value <= WEAK}))
    if not found:
        return "none", ()
    return ("strong" if min(corrected.values()) <= STRONG else "weak"), found


class SetState:
    """The mergeable state of a set: ``a + b`` equals the state of all pictures of both, bit for bit.

    Args:
        items: Measurements and failures to start with.
    """

    def __init__(self, items: Iterable[Measurement | Failure] = ()) -> None:
        self.count = 0
        self.failed_count = 0
        self.failed: list[Failure] = []
        self.verdicts: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.periods: dict[int, PeriodState] = {}
        for item in items:
            self.add_item(item)

    def add_item(self, item: Measurement | Failure) -> None:
        """Count a picture or a failure."""
        if isinstance(item, Failure):
            self.fail(item)
        else:
            self.add(item)

    def add(self, measurement: Measurement) -> None:
        """Count one picture, of any size; a period that is not testable in it does not count it."""
        self.count += 1
        self.verdicts[measurement.verdict] += 1
        self.causes.update({cause.kind for cause in measurement.causes})
        other = {p for cause in measurement.causes if cause.kind != "up-sampling" for p in cause.periods}
        other -= set(measurement.found)
        lines = []
        for number, result in measurement.periods.items():
            period = self._period(number)
            explained = number in other
            period.found += number in measurement.found
            period.explained += explained
            period.energy.add_number(result.energy_fraction)
            for name, trace in result.traces().items():
                if trace is not None and not math.isnan(trace.log10_p):
                    period.traces[name].add(trace, explained)
                    if trace.lines is not None:
                        lines.append((period.traces[name], trace.lines))
        for (state, _), sums in zip(lines, LineSums.of([given for _, given in lines]), strict=True):
            state.add_lines(sums)

    def _period(self, number: int) -> PeriodState:
        if number not in self.periods:
            self.periods[number] = PeriodState()
        return self.periods[number]

    def fail(self, failure: Failure) -> None:
        """Count a file that could not be measured."""
        self.failed_count += 1
        self._list_failures([failure])

    def _list_failures(self, failures: list[Failure]) -> None:
        self.failed = sorted([*self.failed, *failures], key=lambda f: (f.path, f.reason))[:MOST_FAILURES]

    def merge(self, other: SetState) -> Self:
        """Add another part of the set to this one."""
        self.count += other.count
        self.failed_count += other.failed_count
        self._list_failures(other.failed)
        self.verdicts.update(other.verdicts)
        self.causes.update(other.causes)
        for number, period in other.periods.items():
            mine = self._period(number)
            mine += period
        return self

    __iadd__ = merge

    def __add__(self, other: SetState) -> SetState:
        return SetState().merge(self).merge(other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SetState) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def result(self, origin: Origin = "unknown") -> SetMeasurement:
        """What the set shows.

        Args:
            origin: ``aligned`` if all pictures were cut at the same place of the grid that a pattern would have, so
                that their phases can be compared; ``unknown`` if not.
        """
        tests = {
            (number, name): trace.log_p(number, origin, unexplained=True)
            for number, period in self.periods.items()
            if period.free
            for name, trace in period.traces.items()
            if name in TESTED and trace.evidence.count
        }
        verdict, found = judge(tests)
        return SetMeasurement(
            count=self.count,
            failed=tuple(self.failed),
            failed_count=self.failed_count,
            periods={number: self.periods[number].result(number, origin) for number in sorted(self.periods)},
            verdict=verdict,
            found=found,
            causes=dict(sorted(self.causes.items())),
            verdicts=dict(sorted(self.verdicts.items())),
            origin=origin,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form; equal for equal states."""
        return {
            "format": "evenly set",
            "version": STATE_VERSION,
            "count": self.count,
            "failed_count": self.failed_count,
            "failed": [[f.path, f.reason] for f in self.failed],
            "verdicts": dict(sorted(self.verdicts.items())),
            "causes": dict(sorted(self.causes.items())),
            "periods": {str(number): _period_form(self.periods[number]) for number in sorted(self.periods)},
        }

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> SetState:
        """From the JSON form.

        Raises:
            FormatError: If it is not the JSON form of a state, or of another version.
        """
        if form.get("format") != "evenly set" or form.get("version") != STATE_VERSION:
            raise FormatError(
                f"state of a set: format {form.get('format')!r}, version {form.get('version')!r}; expected "
                f"'evenly set', version {STATE_VERSION}: measure the set again with this version of evenly"
            )
        try:
            state = cls()
            state.count, state.failed_count = int(form["count"]), int(form["failed_count"])
            state.failed = [Failure(path, reason) for path, reason in form["failed"]]
            state.verdicts, state.causes = Counter(form["verdicts"]), Counter(form["causes"])
            state.periods = {int(number): _period_from(period) for number, period in form["periods"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"state of a set is damaged ({type(error).__name__}: {error}); measure it again"
            ) from error
        return state


def _period_form(period: PeriodState) -> dict[str, Any]:
    traces = {
        name: {
            **{spread: getattr(trace, spread).to_list() for spread in SPREADS},
            "lines": None if trace.lines is None else trace.lines.to_list(),
        }
        for name, trace in period.traces.items()
        if trace.evidence.count
    }
    return {"found": period.found, "explained": period.explained, "energy": period.energy.to_list(), "traces": traces}


def _period_from(form: Mapping[str, Any]) -> PeriodState:
    period = PeriodState(
        energy=Spread.from_list(form["energy"]), found=int(form["found"]), explained=int(form["explained"])
    )
    for name, trace in form["traces"].items():
        lines = None if trace["lines"] is None else LineSums.from_list(trace["lines"])
        period.traces[name] = TraceState(**{s: Spread.from_list(trace[s]) for s in SPREADS}, lines=lines)
    return period
