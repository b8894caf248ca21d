"""What a check returns: frozen, versioned data that every reporter reads.

The JSON form is the contract of every other part of evenly; see ``docs/json.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "FORMAT_VERSION",
    "SEVERITIES",
    "Finding",
    "InputResult",
    "LayerResult",
    "ModelInfo",
    "OutputResult",
    "Report",
    "Role",
    "Severity",
]

FORMAT_VERSION = 1  # 1: first published form

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
Role = Literal["creates", "passes", "scales", "attenuates", "removes", "immune", "unknown"]

Period = int | tuple[int, ...]
"""Period in samples: one integer, or one per axis where the axes differ; 1 means constant."""

Ratio = float
"""max/min; ``inf`` where some positions are never written (``"inf"`` in JSON)."""


@dataclass(frozen=True)
class LayerResult:
    """One layer with spatial meaning.

    Attributes:
        name: Module path or node name.
        op: ``conv``, ``conv_transpose``, ``interpolate``, ``pixel_shuffle``, ``max_pool``, ...
        kernel, stride, padding, dilation, output_padding: Per axis; ``None`` where the operation has none. Padding is
            ``[before, after]`` per axis where the two differ.
        groups: ``None`` where it does not apply.
        unevenness: max/min overlap count over the interior phases, all axes together (ratio); ``None`` where it does
            not apply.
        gradient_unevenness: The same for the number of outputs that read an input position (ratio).
        period: The period that this layer creates, in samples of the first output (1: none); ``None`` if unknown.
        ripple: ``||G_r - mean G|| / ||mean G||`` over the phases' DC gains (ratio), rms over phases; ``None`` without
            weights or where it does not apply.
        role: What it does to a periodic pattern.
        removed_by: Layer that provably removes what this one creates, with the actual weights.
        image_rejection_db: 1-D up-sampling layers with weights: worst image rejection over the band, in dB, as
            ``{"frequency": [...], "rejection_db": [...]}``, frequency in cycles per input sample.
        note: A remark for people.
    """

    name: str
    op: str
    kernel: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    padding: tuple[int | tuple[int, int], ...] | None = None
    dilation: tuple[int, ...] | None = None
    output_padding: tuple[int, ...] | None = None
    groups: int | None = None
    unevenness: Ratio | None = None
    gradient_unevenness: Ratio | None = None
    period: Period | None = None
    ripple: float | None = None
    role: Role = "passes"
    removed_by: str | None = None
    image_rejection_db: dict[str, tuple[float, ...]] | None = None
    note: str | None = None


@dataclass(frozen=True)
class OutputResult:
    """The verdict for one output.

    Attributes:
        name: Name of the output.
        period: Structural: the smallest period that generic weights give to a constant input, in samples of this
            output.
        unevenness: max/min of the variance map before training (ratio); ``None`` if not computed.
        expected_ac_fraction: Expected share of the output's power that is periodic and not constant, before training
            (ratio, 0 to 1); ``None`` if not computed.
        expected_power: The same per period: expected share of the power in the lines of exactly that period (ratio).
        certified: Whether the actual weights provably keep constants constant in the interior; ``None`` without weights
            or where a node is unknown.
        broken_by: The layers that break the certificate.
        response_db: Per period, the energy of the exact interior response to constant inputs, in dB relative to the
            constant's own output, largest over the probes; ``-inf`` (``null`` in JSON) where it is exactly zero;
            ``None`` without weights.
        probes: Number of constant inputs behind ``response_db``.
        not_computed: Why something above is ``None``, in words.
    """

    name: str
    period: Period | None
    unevenness: Ratio | None
    expected_ac_fraction: float | None
    expected_power: dict[str, float] | None
    certified: bool | None
    broken_by: tuple[str, ...] = ()
    response_db: dict[str, float] | None = None
    probes: int = 0
    not_computed: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputResult:
    """The verdict for the gradient with respect to one input.

    Attributes:
        name: Name of the input.
        gradient_period: Structural: the smallest period that generic weights give to the gradient at this input, where
            that of the outputs is constant, in samples of this input.
        gradient_unevenness: max/min of it over the interior phases (ratio), ``inf`` with dead positions.
        dead_fraction: Share of positions that get no gradient (ratio).
        not_computed: Why something above is ``None``, in words.
    """

    name: str
    gradient_period: Period | None
    gradient_unevenness: Ratio | None
    dead_fraction: float | None
    not_computed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One broken rule at one layer.

    Attributes:
        code: Rule code, ``"EV101"``.
        severity: ``"error"``, ``"warning"`` or ``"info"``.
        layer: Module path or node name.
        message: One or two sentences: cause, period in output pixels, size with its unit.
        period: In samples of the first output; ``None`` where it does not apply.
        fix: The smallest change that cures it.
    """

    code: str
    severity: Severity
    layer: str
    message: str
    period: Period | None
    fix: str


@dataclass(frozen=True)
class ModelInfo:
    """What was checked.

    Attributes:
        source: A path, or ``module:attribute``, or the module's class.
        inputs: ``{"name": ..., "shape": [...], "dtype": ...}`` per input.
        outputs: ``{"name": ..., "shape": [...]}`` per output.
        weights: ``"actual"``, ``"ignored"`` or ``"none"``.
        training: Whether it was read in training mode.
    """

    source: str
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    weights: Literal["actual", "ignored", "none"] = "actual"
    training: bool = False


@dataclass(frozen=True)
class Report:
    """The result of ``evenly.check``.

    Attributes:
        model: What was checked.
        layers: Every layer with spatial meaning, in order.
        outputs: The verdict per output.
        inputs: The verdict per input for its gradient; empty with ``backward=False``.
        findings: Sorted by severity, then by layer order.
        notes: What a reader must know to read the figures (normalisation that removes a constant, learned constants).
    """

    model: ModelInfo
    layers: tuple[LayerResult, ...]
    outputs: tuple[OutputResult, ...]
    inputs: tuple[InputResult, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    format_version: int = field(default=FORMAT_VERSION)

    def worst(self) -> Severity | None:
        """The highest severity among the findings, or ``None`` if there are none."""
        present = {f.severity for f in self.findings}
        return next((s for s in SEVERITIES if s in present), None)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data (infinities as ``"inf"``, minus infinity as ``null``)."""
        from evenly import __version__

        return {
            "format_version": self.format_version,
            "tool": {"name": "evenly", "version": __version__},
            "model": _plain(self.model),
            "layers": [_plain(x) for x in self.layers],
            "outputs": [_plain(x) for x in self.outputs],
            "inputs": [_plain(x) for x in self.inputs],
            "findings": [_plain(x) for x in self.findings],
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)

    def __str__(self) -> str:
        """The report as ``evenly check`` prints it."""
        from evenly.report import render

        return render(self, "text")

    def _repr_html_(self) -> str:
        """The report in a notebook."""
        from evenly.report.notebook import to_html

        return to_html(self)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if value == float("inf"):
            return "inf"
        return None if value in (float("-inf"),) or value != value else value
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {k: _plain(getattr(value, k)) for k in value.__dataclass_fields__}
    return value
