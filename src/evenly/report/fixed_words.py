"""Words and figures that the reporters of repairs share: the verdict in a sentence, every table as text with units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evenly.report.words import count

if TYPE_CHECKING:
    from evenly.check.result import Report
    from evenly.fix.result import FixReport, FrontierPoint, LayerRepair, LineChange, OutputChange

__all__ = [
    "Sheet",
    "certificate",
    "certified",
    "compared",
    "facts",
    "over",
    "psnr",
    "ratio",
    "sheets",
    "step",
    "steps",
    "tone",
    "verdict",
    "worst",
]

_UNITS = {1: "samples", 2: "px", 3: "voxels"}


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        key: For addresses.
        title: The heading.
        head: Of the columns; those without anything to say are left out.
        rows: Cells, the first names the row.
        about: What the figures are and what they compare with.
        figures: Columns of numbers.
        marked: Rows that are pointed out.
    """

    key: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    about: str = ""
    figures: tuple[int, ...] = ()
    marked: tuple[int, ...] = ()


# ------------------------------------------------------------------------------------------------------------- figures


def over(db: float, signed: bool = True) -> str:
    """``+31.2 dB``; a dash where there is nothing to compare with."""
    if not math.isfinite(db):
        return "-"
    return f"{round(db, 1) + 0.0:{'+' if signed else ''}.1f} dB"


def psnr(db: float) -> str:
    """``41.2 dB``; ``no change`` where the signal to noise ratio is infinite."""
    return "no change" if math.isinf(db) and db > 0 else over(db, signed=False)


def ratio(before: float, after: float) -> str:
    """``1.02x``."""
    return f"{after / before:.2f}x" if before else "-"


def _percent(share: float) -> str:
    """``3.1 %``, ``130 %``."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def step(output: OutputChange) -> str:
    """Unit of a period in an output: ``samples``, ``px``, ``voxels``."""
    return steps(len(output.sizes) - 1)


def steps(axes: int) -> str:
    """The same by the number of axes."""
    return _UNITS.get(axes, "samples")


def _scaled(value: float, unit: str) -> str:
    """``12.3 ms``, ``4.94 MB``, ``1.23 G``: three digits and a prefix."""
    for power, prefix in ((9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "\N{MICRO SIGN}")):
        if abs(value) >= 0.9995 * 10.0**power:
            return f"{value / 10.0**power:.3g} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


# ------------------------------------------------------------------------------------------------------------- verdict


def tone(report: FixReport) -> Literal["bad", "fair", "good"]:
    """How the verdict is coloured."""
    return "bad" if report.verdict == "partly" else "fair" if report.verdict == "structural" else "good"


def compared(report: FixReport) -> str:
    """What lines are compared with, in short."""
    real = any(line.reference is not None for output in report.outputs for line in output.lines)
    return "the real data's own" if real else "their surroundings"


def worst(report: FixReport) -> tuple[OutputChange, LineChange] | None:
    """The lines that stand out most now, and where they are."""
    found = [(output, line) for output in report.outputs for line in output.lines if line.after.signals]
    return max(found, key=lambda pair: pair[1].after_over_db - pair[1].limit_db, default=None)


def verdict(report: FixReport) -> str:
    """The verdict as a sentence without its end."""
    done = count(sum(layer.done for layer in report.layers), "layer")
    limit, what = f"{report.limit_db:g} dB", compared(report)
    least = min((output.psnr_db for output in report.outputs), default=math.inf)
    distance = (
        "the output unchanged" if math.isinf(least) and least > 0 else f"{psnr(least)} PSNR to the original output"
    )
    if report.verdict == "clean":
        return f"Clean: no line stands more than {limit} over {what}, the model is as it was"
    if report.verdict == "reached":
        return f"Reached: all lines within {limit} of {what}, {distance}"
    if report.verdict == "structural":
        return f"{done} replaced: train the model further before it is used"
    if report.verdict == "folded":
        most = max((output.max_change for output in report.outputs), default=0.0)
        end = f"the output changes by {most:.2g} at most" if most else "the output stays as it was"
        return f"{done} replaced by equals: {end}"
    left = worst(report)
    if left is None or left[1].within:
        return f"Partly: not every output could be repaired, {distance}"
    period = f"period {left[1].period} {step(left[0])}"
    return f"Partly: lines of {period} still {over(left[1].after_over_db)} over {what} (limit {limit}), {distance}"


def facts(report: FixReport) -> Iterator[tuple[str, str]]:
    """What the verdict rests on: name and words."""
    yield "method", report.method
    yield "data", report.calibration
    yield "compared with", report.reference
    if report.verdict in ("clean", "reached", "partly"):
        yield (
            "limits",
            (
                f"lines at most {report.limit_db:g} dB over {compared(report)}, "
                f"output at least {report.max_distortion_db:g} dB PSNR to the original one"
            ),
        )
    yield "seed", str(report.seed)


def certificate(report: FixReport) -> str:
    """What is certain whatever the data are, to follow ``certified:`` or ``not certified:``."""
    if report.certificate:
        return "the weights keep constants constant away from the borders, whatever the data are."
    return "a constant may still get a pattern; the figures hold for data like these."


def certified(report: FixReport) -> str:
    """``certified``, ``not certified``."""
    return "certified" if report.certificate else "not certified"


# -------------------------------------------------------------------------------------------------------------- tables


def sheets(report: FixReport) -> tuple[Sheet, ...]:
    """Every table of a report that has rows, in order."""
    made = (_lines(report), _outputs(report), _layers(report), _frontier(report), _cost(report), _check(report))
    return tuple(_without_blanks(sheet) for sheet in made if sheet.rows)


def _lines(report: FixReport) -> Sheet:
    rows = [
        (
            output.name,
            f"{line.period} {step(output)}",
            *_both(line),
            f"{line.limit_db:.1f} dB",
            "within" if line.within and line.after.signals else "over" if line.after.signals else "no signal",
        )
        for output in report.outputs
        for line in output.lines
    ]
    signals = [output.signals for output in report.outputs]
    many = f"{min(signals)} to {max(signals)} signals" if len(set(signals)) > 1 else count(max([0, *signals]), "signal")
    about = (
        f"Power of a period's lines over {compared(report)}, mean of dB over {many} kept for the proof; the larger of "
        "two comparisons, with the nearest clean neighbours and with the wider surroundings."
    )
    return Sheet(
        "lines", "Lines", ("output", "period", "before", "after", "limit", "now"), tuple(rows), about, (2, 3, 4)
    )


def _both(line: LineChange) -> tuple[str, str]:
    before = over(line.before_over_db) if line.before.signals else "-"
    return before, over(line.after_over_db) if line.after.signals else "-"


def _outputs(report: FixReport) -> Sheet:
    rows = [
        (
            output.name,
            "x".join(map(str, output.sizes)),
            psnr(output.psnr_db),
            f"{output.max_change:.2g}",
            _percent(output.max_change / output.peak) if output.peak else "-",
            output.note or "-",
        )
        for output in report.outputs
    ]
    head = ("output", "size", "PSNR", "largest change", "of the range", "note")
    about = "New output against the original one, on the same signals; sizes are channels, then axes."
    return Sheet("outputs", "Output, new against original", head, tuple(rows), about, (2, 3, 4))


def _layers(report: FixReport) -> Sheet:
    def row(layer: LayerRepair) -> tuple[str, ...]:
        change = "-" if layer.weight_change is None else _percent(layer.weight_change)
        after = layer.after if layer.after is not None else "as it was"
        return layer.name, layer.method, layer.before, after, change, layer.note or "-"

    head = ("layer", "method", "before", "after", "weights moved by", "note")
    about = "Weights moved by |new - old| / |old|, Frobenius norm; taps that were added count as 0 before."
    return Sheet("layers", "Layers", head, tuple(map(row, report.layers)), about, (4,))


def _frontier(report: FixReport) -> Sheet:
    def row(number: int, point: FrontierPoint) -> tuple[str, ...]:
        most = max(point.over_db, key=lambda p: point.over_db[p], default=None)
        return (
            f"{number}",
            point.method + (", chosen" if point.chosen else ""),
            "-" if point.strength is None else f"{point.strength:.2f}",
            over(point.worst_db),
            "-" if most is None else str(most),
            psnr(point.psnr_db),
            "-" if point.loss is None else f"{point.loss:.4g}",
            "-" if point.extra_cost is None else f"{point.extra_cost:.3f}x",
        )

    head = ("no.", "repair", "strength", "worst line", "its period", "PSNR", "loss", "multiply-adds")
    about = (
        f"Cheapest first. Worst line: over {compared(report)}. PSNR: to the original output. Multiply-adds: of the "
        "whole model, over the original's."
    )
    rows = tuple(row(number, point) for number, point in enumerate(report.frontier, start=1))
    chosen = tuple(number for number, point in enumerate(report.frontier) if point.chosen)
    return Sheet("tried", "What was tried", head, rows, about, (2, 3, 4, 5, 6, 7), chosen)


def _cost(report: FixReport) -> Sheet:
    rows: list[tuple[str, ...]] = []
    if report.cost is not None:
        cost = report.cost
        rows.append(("parameters", *(f"{n:,}" for n in cost.parameters), ratio(*cost.parameters)))
        rows.append(("memory of these", *(_scaled(n, "B") for n in cost.bytes), ratio(*cost.bytes)))
        rows.append(("time of a batch", *(_scaled(n, "s") for n in cost.seconds), ratio(*cost.seconds)))
        if cost.multiply_adds is not None:
            amounts = (_scaled(n, "") for n in cost.multiply_adds)
            rows.append(("multiply-adds of a batch", *amounts, ratio(*cost.multiply_adds)))
    if report.loss is not None:
        rows.append(("the task's loss", *(f"{value:.4g}" for value in report.loss), ratio(*report.loss)))
    about = "Time: median of interleaved runs on this machine, it varies from run to run." if report.cost else ""
    return Sheet("cost", "Cost", ("", "before", "after", "ratio"), tuple(rows), about, (1, 2, 3))


def _check(report: FixReport) -> Sheet:
    def row(name: str, checked: Report | None) -> tuple[str, ...]:
        if checked is None:
            return name, "-", "-", "not read"
        severities = [finding.severity for finding in checked.findings]
        codes = sorted({finding.code for finding in checked.findings})
        return name, str(severities.count("error")), str(severities.count("warning")), ", ".join(codes) or "none"

    there = report.check_before is not None or report.check_after is not None
    rows = (row("before", report.check_before), row("after", report.check_after)) if there else ()
    about = "Findings of evenly check, which reads structure and weights and runs on no data."
    return Sheet("check", "Check", ("model", "errors", "warnings", "codes"), rows, about, (1, 2))


def _without_blanks(sheet: Sheet) -> Sheet:
    """Columns in which every row has a dash are left out."""
    kept = [n for n in range(len(sheet.head)) if not n or any(row[n] != "-" for row in sheet.rows)]

    def cut(cells: Sequence[str]) -> tuple[str, ...]:
        return tuple(cells[n] for n in kept)

    figures = tuple(place for place, n in enumerate(kept) if n in sheet.figures)
    return Sheet(
        sheet.key, sheet.title, cut(sheet.head), tuple(map(cut, sheet.rows)), sheet.about, figures, sheet.marked
    )
