"""What a repair returns: the model, and a frozen report that every reporter reads.

The report's JSON form is versioned; see ``docs/json.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evenly.check.result import Report
from evenly.fix.attributed import Attribution
from evenly.fix.backend import Backend
from evenly.fix.levels import Level

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "FORMAT_VERSION",
    "Cost",
    "FixReport",
    "FixResult",
    "FrontierPoint",
    "LayerRepair",
    "LineChange",
    "OutputChange",
    "Samples",
    "Verdict",
]

FORMAT_VERSION = 1  # 1: first published form

Verdict = Literal["clean", "reached", "partly", "structural", "folded"]
"""``clean``: no line needed repair, the model is as it was. ``reached``: every line of every output is within the
limit, at no more distortion than allowed. ``partly``: not every line is; the best model within the allowed distortion.
``structural``: layers were replaced; train on. ``folded``: layers were replaced by their equals, nothing else changes.
"""


@dataclass(frozen=True)
class LineChange:
    """The lines of one period in an output, before and after, read on calibration data kept for proof.

    Attributes:
        period: In samples of the output.
        before, after: Levels.
        reference: Level of the real data; ``None`` where lines are compared with their own surroundings only.
        limit_db: What ``after_over_db`` should not exceed, in dB.
    """

    period: int
    before: Level
    after: Level
    reference: Level | None
    limit_db: float

    @property
    def before_over_db(self) -> float:
        """How far the lines stood over the reference's (over their surroundings, without one), in dB."""
        return self.before.over(self.reference)

    @property
    def after_over_db(self) -> float:
        """How far they stand over them now, in dB."""
        return self.after.over(self.reference)

    @property
    def within(self) -> bool:
        """Whether the lines are within the limit now."""
        return self.after_over_db <= self.limit_db


@dataclass(frozen=True)
class OutputChange:
    """One output of the model.

    Attributes:
        name: As the model names it.
        sizes: ``(C, *sizes)`` of what was read.
        signals: How many signals the proof rests on.
        lines: By period, ascending.
        psnr_db: New output against the original one, in dB; infinite where nothing changed.
        max_change: Largest change of a value, in the output's units.
        peak: Range of values that the PSNR refers to, in the output's units.
        note: Why it could not be repaired, or what to know, in one line.
    """

    name: str
    sizes: tuple[int, ...]
    signals: int
    lines: tuple[LineChange, ...]
    psnr_db: float
    max_change: float
    peak: float
    note: str | None = None

    @property
    def within(self) -> bool:
        """Whether all lines are within their limits."""
        return all(line.within for line in self.lines)


@dataclass(frozen=True)
class LayerRepair:
    """One layer that was changed, or that should have been and could not be.

    Attributes:
        name: As ``evenly check`` names it.
        method: ``solve``, ``balance``, ``refit``, ``finetune``, or one of the structural methods.
        before: The layer as it was, in one line (kind, kernel, stride).
        after: What it is now; ``None`` if nothing was changed, for the reason in ``note``.
        weight_change: ``|new - old| / |old|`` of the weights (ratio, Frobenius norm; added taps count as 0 before);
            ``None`` where the two cannot be compared.
        note: What to know, in one line.
    """

    name: str
    method: str
    before: str
    after: str | None
    weight_change: float | None = None
    note: str | None = None

    @property
    def done(self) -> bool:
        """Whether the layer was changed."""
        return self.after is not None


@dataclass(frozen=True)
class FrontierPoint:
    """A repair that was tried: how much artifact is left at what distortion.

    Attributes:
        method: In words, e.g. ``solve proj_out, 1 more tap per side``.
        strength: Of a partial repair, 0 to 1; ``None`` where the method has none.
        over_db: The worst line of each period over its reference, in dB, by period, worst output.
        psnr_db: The worst output's, in dB.
        loss: The task's, if a callable was given.
        extra_cost: Multiply-adds of the whole model over the original's (ratio), if known.
        chosen: Whether the result is this one.
    """

    method: str
    strength: float | None
    over_db: Mapping[int, float]
    psnr_db: float
    loss: float | None = None
    extra_cost: float | None = None
    chosen: bool = False

    @property
    def worst_db(self) -> float:
        """Over all periods."""
        return max(self.over_db.values(), default=-math.inf)


@dataclass(frozen=True)
class Cost:
    """Size and speed, before and after.

    Attributes:
        parameters: Numbers of weights and biases.
        bytes: Of them in memory.
        seconds: For one batch of calibration data, median of interleaved runs on this machine; varies from run to run.
        multiply_adds: For one batch; ``None`` if not known.
    """

    parameters: tuple[int, int]
    bytes: tuple[int, int]
    seconds: tuple[float, float]
    multiply_adds: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """A few outputs to look at, before and after.

    Attributes:
        output: The output's name.
        before, after: ``(N, C, *sizes)``, float32.
        reference: The same of the real data, or ``None``.
        low, high: Values that are shown as black and white.
    """

    output: str
    before: Any = field(repr=False)
    after: Any = field(repr=False)
    reference: Any = field(repr=False)
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, eq=False)
class FixReport:
    """What a repair did, and what it cost.

    Attributes:
        model: Name of the model.
        method: As asked for.
        verdict: See :data:`Verdict`.
        calibration: What the model was run on, in words, with counts; how many signals were kept for the proof.
        reference: What lines are compared with, in words.
        limit_db: How far lines may stand over the reference, in dB.
        max_distortion_db: Least PSNR that was allowed, in dB.
        seed: Of all random choices.
        layers: Layers that were changed or refused.
        outputs: Lines, PSNR and change of each output.
        frontier: Repairs that were tried, cheapest first; exactly one is chosen unless nothing was done.
        cost: Size and speed.
        loss: The task's loss before and after, if a callable was given.
        check_before, check_after: ``evenly check`` of the model; ``None`` where it could not be read, see `notes`.
        certificate: Whether all phases of every up-sampling layer have equal DC gains now: constants give constants.
        attribution: Which layers made the lines, if that was asked.
        proposal: What to do next, in one line; ``None`` if nothing is.
        notes: What to know.
        samples: Outputs to look at; not part of the JSON form.
    """

    model: str
    method: str
    verdict: Verdict
    calibration: str
    reference: str
    limit_db: float
    max_distortion_db: float
    seed: int
    layers: tuple[LayerRepair, ...]
    outputs: tuple[OutputChange, ...]
    frontier: tuple[FrontierPoint, ...] = ()
    cost: Cost | None = None
    loss: tuple[float, float] | None = None
    check_before: Report | None = None
    check_after: Report | None = None
    certificate: bool = False
    attribution: Attribution | None = None
    proposal: str | None = None
    notes: tuple[str, ...] = ()
    samples: tuple[Samples, ...] = field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether what was asked for was reached: the command line exits with 0 then, else with 1."""
        return self.verdict != "partly"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: plain values; infinite numbers as ``"inf"`` or ``"-inf"``."""
        return {
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "method": self.method,
            "verdict": self.verdict,
            "calibration": self.calibration,
            "reference": self.reference,
            "limit_db": self.limit_db,
            "max_distortion_db": self.max_distortion_db,
            "seed": self.seed,
            "layers": [{**_fields(layer), "done": layer.done} for layer in self.layers],
            "outputs": [_output(output) for output in self.outputs],
            "frontier": [
                {**_fields(point), "over_db": {str(p): _number(v) for p, v in point.over_db.items()}}
                for point in self.frontier
            ],
            "cost": None if self.cost is None else _fields(self.cost),
            "loss": None if self.loss is None else [_number(value) for value in self.loss],
            "check": {"before": _counts(self.check_before), "after": _counts(self.check_after)},
            "certificate": self.certificate,
            "attribution": None if self.attribution is None else self.attribution.to_dict(),
            "proposal": self.proposal,
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """:meth:`to_dict` as text, with the tool that made it; see ``docs/json.md``."""
        from evenly import __version__

        form = {"format_version": FORMAT_VERSION, "tool": {"name": "evenly", "version": __version__}, **self.to_dict()}
        return json.dumps(form, indent=indent, ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        """The report as ``evenly fix`` prints it."""
        from evenly.report.fixed import render_fix

        return render_fix(self, "text")

    def _repr_html_(self) -> str:
        """The verdict, the lines and the layers in a notebook."""
        from evenly.report.fixed_notebook import to_html

        return to_html(self)

    def plot(self) -> Figure:
        """Lines before and after, and every repair that was tried, as a figure.

        Raises:
            MissingDependencyError: If matplotlib is not installed.
        """
        from evenly.report.fixed_plot import plot_fix

        return plot_fix(self)


@dataclass(frozen=True, eq=False)
class FixResult:
    """A repaired model and its report.

    Attributes:
        model: The new ``nn.Module`` or ``onnx.ModelProto``; the original is as it was.
        report: What was done and what it cost.
        backend: The new model as the repairs see it.
        original: The ``nn.Module`` that was given, which :meth:`save` compares with; not needed of ONNX models.
        example: A batch of inputs, as :meth:`Backend.run` takes it, on which :meth:`save` proves what it has written.
    """

    model: Any = field(repr=False)
    report: FixReport
    backend: Backend = field(repr=False)
    original: Any = field(default=None, repr=False)
    example: Any = field(default=None, repr=False)

    def save(self, path: str | Path) -> None:
        """Write the model, whole or not at all: ``.onnx``, or ``.safetensors`` of a module's weights.

        :func:`evenly.fix.restore` loads the latter into the network that was repaired.

        Raises:
            OutputError: If it cannot be written.
            UsageError: If the suffix is another one.
            VerificationError: If what was written does not give what the model gives; nothing is left behind then.
        """
        from evenly.fix.saving import save

        save(self, Path(path))

    def _repr_html_(self) -> str:
        """The report in a notebook."""
        return self.report._repr_html_()

    def plot(self) -> Figure:
        """Lines before and after, and every repair that was tried, as a figure: see :meth:`FixReport.plot`."""
        return self.report.plot()


def _number(value: float | int | None) -> float | int | str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _fields(value: Any) -> dict[str, Any]:
    found = {}
    for name in value.__dataclass_fields__:
        item = getattr(value, name)
        found[name] = [_number(v) for v in item] if isinstance(item, tuple) else _number(item)
    return found


def _output(output: OutputChange) -> dict[str, Any]:
    lines = [
        {
            "period": line.period,
            "before": _fields(line.before),
            "after": _fields(line.after),
            "reference": None if line.reference is None else _fields(line.reference),
            "limit_db": line.limit_db,
            "before_over_db": _number(line.before_over_db),
            "after_over_db": _number(line.after_over_db),
            "within": line.within,
        }
        for line in output.lines
    ]
    return {**_fields(output), "lines": lines, "within": output.within}


def _counts(report: Report | None) -> dict[str, Any] | None:
    """Findings of a check in short; the whole report is what ``evenly check --format json`` gives."""
    if report is None:
        return None
    severities = [finding.severity for finding in report.findings]
    return {
        "errors": severities.count("error"),
        "warnings": severities.count("warning"),
        "codes": sorted({finding.code for finding in report.findings}),
    }
