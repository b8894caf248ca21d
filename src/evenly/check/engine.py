"""A graph in, a report out."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from evenly.check.expectation import NotCovered
from evenly.check.facts import Facts, Layer, check_weights, collapse
from evenly.check.response import PROBES
from evenly.check.result import (
    SEVERITIES,
    InputResult,
    LayerResult,
    ModelInfo,
    OutputResult,
    Report,
    Role,
)
from evenly.check.rules import RULES
from evenly.check.supports import Flow
from evenly.graph import ir
from evenly.theory.prior import statistics
from evenly.theory.torus import line_periods

__all__ = ["analyse"]


def analyse(
    graph: ir.Graph,
    *,
    backward: bool = True,
    weights: Literal["actual", "ignored", "none"] = "actual",
    ripple_tolerance: float = 0.05,
) -> Report:
    """Say which layers can or do make periodic artifacts.

    Args:
        graph: The network, from a reader.
        backward: Whether to analyse the gradient with respect to every input.
        weights: Whether the weights' values count; for people, why they do not.
        ripple_tolerance: Ripple above which EV104 is raised (ratio).

    Returns:
        The report with every finding, sorted by severity and then by layer order.

    Raises:
        WeightsError: If a weight that counts is not finite.
    """
    if weights == "actual":
        check_weights(graph)
    facts = Facts(graph, weights == "actual", backward, ripple_tolerance)
    order = {layer.name: place for place, layer in enumerate(facts.layers)}
    findings = [finding for rule in RULES.values() for finding in rule.check(facts)]
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), order.get(f.layer, 0), f.code))
    return Report(
        model=_model(graph, weights),
        layers=tuple(_layer(facts, layer) for layer in facts.layers),
        outputs=tuple(_output(facts, o) for o in graph.outputs),
        inputs=tuple(_input(facts, i) for i in graph.inputs) if backward else (),
        findings=tuple(findings),
        notes=_notes(facts),
    )


def _model(graph: ir.Graph, weights: Literal["actual", "ignored", "none"]) -> ModelInfo:
    def tensor(index: int, shape: tuple[int, ...], **more: Any) -> dict[str, Any]:
        return {"name": graph.nodes[index].name, "shape": list(shape), **more}

    inputs = zip(graph.inputs, graph.input_shapes, graph.dtypes, strict=True)
    return ModelInfo(
        graph.source,
        tuple(tensor(i, shape, dtype=dtype) for i, shape, dtype in inputs),
        tuple(tensor(o, shape) for o, shape in zip(graph.outputs, graph.output_shapes, strict=True)),
        weights,
        graph.training,
    )


def _layer(facts: Facts, layer: Layer) -> LayerResult:
    op = layer.node.op
    padding = getattr(op, "padding", None)
    stride = getattr(op, "stride", None) or getattr(op, "factor", None) or getattr(op, "step", None)
    if isinstance(op, ir.Resize):
        stride = None
    rejection = facts.image_rejection(layer)
    return LayerResult(
        name=layer.name,
        op=layer.label,
        kernel=getattr(op, "kernel", None),
        stride=stride,
        padding=None if padding is None else tuple(a if a == b else (a, b) for a, b in padding),
        dilation=getattr(op, "dilation", None),
        output_padding=getattr(op, "output_padding", None),
        groups=op.groups if isinstance(op, ir.Conv | ir.ConvTranspose) else None,
        unevenness=layer.overlap,
        gradient_unevenness=layer.read,
        period=None if _role(facts, layer) == "unknown" else facts.created_period(layer),
        ripple=layer.ripple,
        role=_role(facts, layer),
        removed_by=facts.removed_by(layer),
        image_rejection_db=None
        if rejection is None
        else {"frequency": tuple(map(float, rejection[0])), "rejection_db": tuple(map(float, rejection[1]))},
        note=_note(facts, layer),
    )


def _role(facts: Facts, layer: Layer) -> Role:
    flow = facts.actual.nodes[layer.index]
    incoming = [facts.actual.nodes[i] for i in layer.node.inputs]
    if flow.support is None or any(f.support is None for f in incoming):
        return "creates" if layer.index in facts.actual.creates else "unknown"
    if layer.index in facts.actual.creates:
        return "creates"
    periodic = any(not f.is_constant for f in incoming)
    op = layer.node.op
    if not periodic:
        upsampling = isinstance(op, ir.Resize) or layer.upsamples
        return "immune" if upsampling else "passes"
    if flow.is_constant:
        return "removes"
    if isinstance(op, ir.Resize | ir.ConvTranspose | ir.PixelShuffle) and _grows(incoming, flow):
        return "scales"
    averaging = isinstance(op, ir.Pool) or (isinstance(op, ir.Conv) and any(k > 1 for k in op.kernel))
    return "attenuates" if averaging or (isinstance(op, ir.ConvTranspose) and max(op.kernel) > 1) else "passes"


def _grows(incoming: list[Flow], flow: Flow) -> bool:
    before, after = incoming[0].period, flow.period
    return before is not None and after is not None and any(a > b for a, b in zip(after, before, strict=False))


def _note(facts: Facts, layer: Layer) -> str | None:
    op = layer.node.op
    if layer.born:
        return "the lattice begins here: every position has weights of its own, and the analysis starts with a constant"
    if layer.kept and not layer.upsamples:
        return "all phases are read with equal sums for every value of its parameters: the mean gradient stays even"
    if layer.kept:
        return "all phases have equal gains for every value of its parameters: constants stay constant"
    if isinstance(op, ir.Source):
        return "varies over the lattice without a period of its own"
    if isinstance(op, ir.Normalize):
        return "removes a constant exactly; read as the affine map that its statistics make of it"
    return f"{op.mode}" if isinstance(op, ir.Resize | ir.Warp) else None


def _output(facts: Facts, index: int) -> OutputResult:
    node = facts.graph.nodes[index]
    generic, actual = facts.generic.nodes[index], facts.actual.nodes[index]
    reasons = [f"period: {generic.reason}"] if generic.support is None else []
    moments = facts.expectation.outputs[index]
    spread: float | None = None
    fraction: float | None = None
    power: dict[str, float] | None = None
    if isinstance(moments, NotCovered):
        reasons.append(f"before training: {moments.reason}")
    else:
        before = statistics(moments)
        spread, fraction = before.unevenness, before.ac_fraction
        periods = line_periods(before.power.shape)
        power = {str(p): float(before.power[periods == p].sum().clip(min=0)) for p in np.unique(periods) if p > 1}
    certified: bool | None = None
    broken: tuple[str, ...] = ()
    decibel: dict[str, float] | None = None
    if facts.weights:
        if actual.support is None:
            reasons.append(f"certificate: {actual.reason}")
        else:
            certified = actual.is_constant and not actual.breakers
            broken = tuple(facts.graph.nodes[i].name for i in sorted(actual.creators | actual.breakers))
        response = facts.responses[index]
        if response.decibel is None:
            reasons.append(f"response: {response.reason}")
        else:
            decibel = {str(p): level for p, level in response.decibel.items()}
    else:
        reasons.append("certificate and response: no weights")
    return OutputResult(
        name=node.name,
        period=collapse(generic.period),
        unevenness=spread,
        expected_ac_fraction=fraction,
        expected_power=power,
        certified=certified,
        broken_by=broken,
        response_db=decibel,
        probes=PROBES if decibel is not None else 0,
        not_computed=tuple(reasons),
    )


def _input(facts: Facts, index: int) -> InputResult:
    gradient = facts.gradients[index]
    return InputResult(
        name=facts.graph.nodes[index].name,
        gradient_period=collapse(gradient.period),
        gradient_unevenness=gradient.unevenness,
        dead_fraction=gradient.dead_fraction,
        not_computed=(gradient.reason,) if gradient.reason else (),
    )


def _notes(facts: Facts) -> tuple[str, ...]:
    notes = []
    nodes = [layer.node for layer in facts.layers]
    born = [layer.name for layer in facts.layers if layer.born and layer.index in facts.fields]
    if born:
        notes.append(
            f"The lattice begins at {_listed(born)}: every position there has weights of its own, which is a source of "
            "variation of its own. The verdict is about everything after it, starting from a constant."
        )
    sources = [n.name for n in nodes if isinstance(n.op, ir.Source) and n.op.kind != "constant"]
    if sources:
        notes.append(
            f"{_listed(sources)} vary over the lattice whatever the input is. Before training they are left out; with "
            "actual weights they void the certificate."
        )
    if any(isinstance(n.op, ir.Normalize) and n.op.kind == "instance" for n in facts.graph.nodes):
        notes.append(
            "Instance normalisation removes a constant input exactly, so the response to constants says little about "
            "this network. Periods and expectations read each normalisation as the affine map that its statistics make "
            "of it: they tell what happens to the artifacts of any real content."
        )
    if any(isinstance(n.op, ir.Normalize) and n.op.kind == "group" and n.sizes for n in facts.graph.nodes):
        notes.append(
            "Group normalisation removes only what all channels of a group share; constants stay constants, and the "
            "verdict stands."
        )
    return tuple(notes)


def _listed(names: list[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
