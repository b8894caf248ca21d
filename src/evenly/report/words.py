"""Words and figures that the reporters share: periods, ratios, geometry, units."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from evenly.check.result import SEVERITIES

if TYPE_CHECKING:
    from evenly.check.result import LayerResult, Period, Report

__all__ = [
    "MOST_LAYERS",
    "WEIGHTS",
    "clean",
    "count",
    "geometry",
    "interesting",
    "layer_figures",
    "period",
    "ratio",
    "shape",
    "shown_layers",
    "source_file",
    "summary",
    "unit",
    "verdict_lines",
]

MOST_LAYERS = 40
"""Networks with more layers show only those that do more than pass patterns on, unless every layer is asked for."""

WEIGHTS = {
    "actual": "the actual ones",
    "ignored": "ignored, structure only",
    "none": "freshly made, structure only (give --weights FILE.safetensors to judge trained ones)",
}
"""What is known of a model's weights, in words."""

_UNITS = {1: "samples", 2: "pixels", 3: "voxels"}
_FILES = (".onnx", ".pt2")


def clean(text: str) -> str:
    """Names come from files: what is not printable is shown as an escape, so that it cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def count(number: int, noun: str) -> str:
    """``1 error``, ``2 errors``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def unit(shape: list[int] | tuple[int, ...]) -> str:
    """What one step on the lattice of a tensor ``(N, C, *spatial)`` is called."""
    return _UNITS.get(len(shape) - 2, "samples")


def shape(sizes: list[int] | tuple[int, ...]) -> str:
    """``1x3x64x64``."""
    return "x".join(map(str, sizes)) or "scalar"


def period(value: Period | None) -> str:
    """``2``, ``2x4``; ``-`` for none (period 1) and ``?`` for unknown."""
    if value is None:
        return "?"
    axes = (value,) if isinstance(value, int) else value
    if all(a == 1 for a in axes):
        return "-"
    return "x".join(map(str, axes))


def ratio(value: float | None, infinite: str) -> str:
    """``4``, ``1.78``; a word for infinity and ``-`` where it does not apply."""
    if value is None:
        return "-"
    return infinite if math.isinf(value) else f"{value:.3g}"


def geometry(layer: LayerResult) -> str:
    """``k4 s2 p1``, ``k3 s2 p1 a1``, ``k3x7 s1x2``; defaults are left out."""
    parts = [
        ("k", layer.kernel, None),
        ("s", layer.stride, 1),
        ("p", layer.padding, 0),
        ("d", layer.dilation, 1),
        ("a", layer.output_padding, 0),
        ("g", (layer.groups,) if layer.groups is not None else None, 1),
    ]
    return " ".join(f"{letter}{_axes(values)}" for letter, values, default in parts if _stated(values, default))


def _stated(values: tuple[int | tuple[int, int], ...] | None, default: int | None) -> bool:
    return bool(values) and any(v != default for v in values or ())


def _axes(values: tuple[int | tuple[int, int], ...] | None) -> str:
    words = [str(v) if isinstance(v, int) else f"({v[0]},{v[1]})" for v in values or ()]
    return words[0] if len(set(words)) == 1 else "x".join(words)


def interesting(layer: LayerResult, named: set[str]) -> bool:
    """Whether a layer says something about patterns: it does more than pass them on, or a finding names it."""
    return layer.role != "passes" or layer.name in named


def shown_layers(report: Report, *, every: bool = False) -> list[LayerResult]:
    """The layers that are shown of a report: all, or of more than :data:`MOST_LAYERS` the interesting ones."""
    named = {f.layer for f in report.findings}
    every = every or len(report.layers) <= MOST_LAYERS
    return [layer for layer in report.layers if every or interesting(layer, named)]


def layer_figures(layer: LayerResult) -> tuple[str, str, str, str]:
    """Overlap, gradient, period and ripple of a layer."""
    return (
        ratio(layer.unevenness, "holes"),
        ratio(layer.gradient_unevenness, "dead"),
        period(layer.period),
        ratio(layer.ripple, "inf"),
    )


def source_file(report: Report) -> str | None:
    """The model's path if it came from a file."""
    source = report.model.source
    return source if source.lower().endswith(_FILES) else None


def summary(report: Report) -> str:
    """``1 error, 2 warnings, 0 infos``."""
    found = Counter(f.severity for f in report.findings)
    return ", ".join(count(found[s], s) for s in SEVERITIES)


def verdict_lines(report: Report) -> list[tuple[str, list[str]]]:
    """The verdict in sentences: per output and per input a heading and its lines."""
    return [*_outputs(report), *_inputs(report)]


def _outputs(report: Report) -> list[tuple[str, list[str]]]:
    verdicts = []
    shapes = {o["name"]: o["shape"] for o in report.model.outputs}
    for out in report.outputs:
        steps = unit(shapes.get(out.name, ()))
        lines = []
        if out.period == 1 and len(shapes.get(out.name, ())) == 2:
            verdicts.append((f"output {out.name}", ["one value per channel: no positions, so no pattern"]))
            continue
        if out.period is None:
            lines.append("structure: the period is not known")
        elif period(out.period) == "-":
            lines.append("structure: a constant input gives a constant output, whatever the weights are")
        else:
            pattern = f"a pattern of period {period(out.period)} {steps}"
            lines.append(f"structure: for generic weights a constant input gives {pattern}")
        before = []
        if out.unevenness is not None:
            before.append(
                "the same variance at every position"
                if out.unevenness == 1
                else "positions that are never written"
                if math.isinf(out.unevenness)
                else f"{out.unevenness:.3g} times the variance at the strongest position as at the weakest"
            )
        if out.expected_ac_fraction is not None:
            before.append(f"{_percent(out.expected_ac_fraction)} of the output's power is expected to be periodic")
        if before:
            lines.append("before training: " + "; ".join(before))
        if out.certified:
            lines.append("with these weights: certified, every constant stays constant in the interior")
        elif out.certified is False:
            lines.append(
                "with these weights: not certified, constants need not stay constant"
                + (f" (broken by {', '.join(out.broken_by)})" if out.broken_by else "")
            )
        if out.response_db:
            lines.append("with these weights: " + _response(out.response_db, out.probes, steps))
        lines += [f"not computed: {reason}" for reason in out.not_computed]
        verdicts.append((f"output {out.name}", lines))
    return verdicts


def _response(levels: dict[str, float], probes: int, steps: str) -> str:
    heard = {p: db for p, db in levels.items() if not math.isinf(db)}
    if not heard:
        return f"{count(probes, 'constant input')} tried, no periodic response at all"
    worst = max(heard, key=lambda p: heard[p])
    every = ", ".join(f"period {p}: {db:.1f} dB" for p, db in heard.items())
    return (
        f"the strongest response to a constant is {heard[worst]:.1f} dB at period {worst} {steps} "
        f"(0 dB is the constant itself; worst of {count(probes, 'constant input')}"
        + (f"; {every})" if len(heard) > 1 else ")")
    )


def _inputs(report: Report) -> list[tuple[str, list[str]]]:
    verdicts = []
    shapes = {i["name"]: i["shape"] for i in report.model.inputs}
    for entry in report.inputs:
        steps = unit(shapes.get(entry.name, ()))
        lines = []
        if entry.gradient_period is None:
            lines.append("gradient: not known")
        elif entry.gradient_unevenness is not None:
            if math.isinf(entry.gradient_unevenness):
                size = "some positions get none at all"
            elif entry.gradient_unevenness == 1:
                size = "every position gets the same"
            else:
                size = f"the strongest position gets {entry.gradient_unevenness:.3g} times the weakest's"
            where = period(entry.gradient_period)
            lines.append(
                f"squared gradient, before training: {size}" + (f", period {where} {steps}" if where != "-" else "")
            )
        if entry.dead_fraction:
            lines.append(f"{_percent(entry.dead_fraction)} of the positions never get a gradient")
        lines += [f"not computed: {reason}" for reason in entry.not_computed]
        verdicts.append((f"input {entry.name}", lines))
    return verdicts


def _percent(fraction: float) -> str:
    """``0 %`` only for an exact zero."""
    if fraction == 0:
        return "0 %"
    return f"{100 * fraction:.3g} %" if fraction >= 1e-4 else f"{100 * fraction:.1e} %"
