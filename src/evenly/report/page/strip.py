"""The layers of a network as a table with a drawing beside it: where patterns are made, and how far they run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from evenly.report.page.lanes import Lanes, uneven
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import badge, fold, scroll, table
from evenly.report.page.patterns import overlap_picture
from evenly.report.words import geometry, period, ratio, shape

if TYPE_CHECKING:
    from evenly.check.result import LayerResult, Report

__all__ = ["layers_table"]

_LEAST_RUN, _MOST_LAYERS = 3, 500
"""Layers in a row that are one line of the table if they do nothing of note; layers that are listed at most."""
_HEAD = ("layer", "pattern", "overlap", "period", "ripple", "gradient", "what it does")
_DULL = ("passes", "attenuates")


def layers_table(report: Report) -> list[Markup | None]:
    """Inputs, layers and outputs in their order, with the ways of patterns on the left; below, every layer.

    Several layers in a row that only pass patterns on, or weaken them, are one line of the first table.
    """
    lines = _runs(report)
    model = report.model
    lanes = Lanes.of([run[0] if len(run) == 1 else None for run in lines], len(model.inputs))
    cells = [
        *(_end("input", entry) for entry in model.inputs),
        *(_layer(run[0]) if len(run) == 1 else _run(run) for run in lines),
        *(_end("output", entry) for entry in model.outputs),
    ]
    body = [tag("tr", tag("td", lanes.cell(n), class_="lanes"), _cells(row)) for n, row in enumerate(cells)]
    heads = [tag("th", lanes.head(), scope="col", class_="lanes"), [tag("th", h, scope="col") for h in _HEAD]]
    whole = tag("table", tag("thead", tag("tr", heads)), tag("tbody", body), class_="network")
    return [scroll("Layers", whole), _every(report) if len(lines) < len(report.layers) else None]


def _runs(report: Report) -> list[list[LayerResult]]:
    """The layers, those in a row together that do nothing of note."""
    named = {f.layer for f in report.findings} | {x.removed_by for x in report.layers}

    def dull(layer: LayerResult) -> bool:
        return layer.role in _DULL and layer.name not in named and not uneven(layer) and layer.note is None

    runs: list[list[LayerResult]] = []
    for flat, group in groupby(report.layers, dull):
        layers = list(group)
        runs += [layers] if flat and len(layers) >= _LEAST_RUN else [[layer] for layer in layers]
    return runs


def _run(layers: Sequence[LayerResult]) -> list[Content]:
    weaken = sum(layer.role == "attenuates" for layer in layers)
    parts = [f"{len(layers) - weaken} pass patterns on"] if len(layers) > weaken else []
    parts += [f"{weaken} also weaken them" if parts else "weaken patterns"] if weaken else []
    name = [f"{len(layers)} layers", _small(f"{layers[0].name} to {layers[-1].name}")]
    return [name, None, None, None, None, None, _small(", ".join(parts))]


def _every(report: Report) -> Markup:
    rows = [
        (
            x.name,
            f"{x.op} {geometry(x)}",
            ratio(x.unevenness, "holes"),
            period(x.period),
            ratio(x.ripple, "inf"),
            ratio(x.gradient_unevenness, "dead"),
            x.role,
        )
        for x in report.layers[:_MOST_LAYERS]
    ]
    left = len(report.layers) - len(rows)
    head = ("layer", "operation", "overlap", "period", "ripple", "gradient", "role")
    more = tag("p", f"{left} more are in the data.", class_="note") if left else None
    return fold(f"All {len(report.layers)} layers", table("All layers", head, rows, figures={2, 3, 4, 5}), more)


def _cells(cells: Sequence[Content]) -> list[Markup]:
    names = ("", "pattern", "overlap", "period", "ripple", "gradient", "")
    return [
        tag(
            "td" if n else "th",
            content,
            scope=None if n else "row",
            data_name=name or None,
            class_="nothing" if content == "-" else None,
        )
        for n, (content, name) in enumerate(zip(cells, names, strict=True))
    ]


def _end(kind: str, entry: dict[str, Any]) -> list[Content]:
    name = [tag("span", kind, class_="soft"), " ", str(entry["name"]), _small(shape(entry["shape"]))]
    return [name, None, None, None, None, None, None]


def _layer(layer: LayerResult) -> list[Content]:
    removed = [" until ", tag("b", layer.removed_by)] if layer.removed_by else None
    back = [" ", badge("uneven gradient", "warning")] if uneven(layer) else None
    role = [badge(layer.role), removed, back, _small(layer.note) if layer.note else None]
    return [
        [layer.name, _small(f"{layer.op} {geometry(layer)}")],
        overlap_picture(layer),
        _ratio(layer.unevenness, "holes"),
        period(layer.period),
        ratio(layer.ripple, "inf"),
        _ratio(layer.gradient_unevenness, "dead"),
        role,
    ]


def _small(text: str) -> Markup:
    return tag("small", text)


def _ratio(value: float | None, infinite: str) -> Content:
    if value in (None, 1.0):
        return ratio(value, infinite)
    words = infinite if value is not None and math.isinf(value) else f"{ratio(value, infinite)} : 1"
    return tag("b", words, class_="alarm")
