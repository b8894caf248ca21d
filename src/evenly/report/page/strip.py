"""The layers of a network as a table with a drawing beside it: where patterns are made, and how far they run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import badge
from evenly.report.page.patterns import overlap_picture
from evenly.report.words import geometry, period, ratio, shape

if TYPE_CHECKING:
    from evenly.check.result import LayerResult, Report

__all__ = ["layers_table"]

_WIDE, _MOST_LANES = 20, 10
"""CSS pixels between two lanes; lanes that are drawn."""
_UNEVEN = (None, 1.0)


@dataclass(frozen=True)
class _Lane:
    """The way of the patterns of one period: rows where they are made, and where the way ends."""

    name: str
    made: frozenset[int]
    begin: int
    end: int
    removed: bool
    backward: bool = False


def layers_table(report: Report, shown: Sequence[LayerResult]) -> Markup | None:
    """Inputs, layers and outputs in their order, with the ways of patterns on the left.

    Args:
        report: The report.
        shown: Which of its layers.
    """
    lanes = _lanes(report, shown)
    first, last = len(report.model.inputs), len(report.model.inputs) + len(shown)
    rows: list[list[Content]] = []
    for n, entry in enumerate(report.model.inputs):
        rows.append(_end(lanes, n, "input", entry))
    for n, layer in enumerate(shown, first):
        rows.append([_cell(lanes, n), *_layer(layer)])
    for n, entry in enumerate(report.model.outputs, last):
        rows.append(_end(lanes, n, "output", entry))
    head = (_heads(lanes), "layer", "pattern", "overlap", "period", "ripple", "gradient", "what it does")
    body = [tag("tr", tag("td", row[0], class_="lanes"), _cells(row[1:])) for row in rows]
    heads = [tag("th", h, scope="col", class_="lanes" if n == 0 else None) for n, h in enumerate(head)]
    whole = tag("table", tag("thead", tag("tr", heads)), tag("tbody", body), class_="network")
    return tag("div", whole, class_="scroll", role="region", aria_label="Layers", tabindex="0")


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


def _end(lanes: Sequence[_Lane], row: int, kind: str, entry: dict[str, object]) -> list[Content]:
    sizes = entry["shape"]
    assert isinstance(sizes, list | tuple)
    name = [tag("span", kind, class_="soft"), " ", str(entry["name"]), _small(shape(sizes))]
    return [_cell(lanes, row), name, None, None, None, None, None, None]


def _layer(layer: LayerResult) -> list[Content]:
    removed = [" until ", tag("b", layer.removed_by)] if layer.removed_by else None
    role = [badge(layer.role), removed, _small(layer.note) if layer.note else None]
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
    if value in _UNEVEN:
        return ratio(value, infinite)
    words = infinite if value is not None and math.isinf(value) else f"{ratio(value, infinite)} : 1"
    return tag("b", words, class_="alarm")


# --------------------------------------------------------------------------------------------------------------- lanes


def _lanes(report: Report, shown: Sequence[LayerResult]) -> list[_Lane]:
    first = len(report.model.inputs)
    rows = {layer.name: n for n, layer in enumerate(shown, first)}
    output = first + len(shown)
    made: dict[str, list[LayerResult]] = {}
    for layer in shown:
        if layer.role == "creates" and period(layer.period) != "-":
            made.setdefault(period(layer.period), []).append(layer)
    lanes = []
    for name, layers in list(made.items())[:_MOST_LANES]:
        ends = [rows.get(layer.removed_by or "", output) for layer in layers]
        places = frozenset(rows[layer.name] for layer in layers)
        lanes.append(_Lane(name, places, min(places), max(ends), max(ends) < output))
    uneven = frozenset(rows[x.name] for x in shown if x.gradient_unevenness not in _UNEVEN)
    if uneven:
        lanes.append(_Lane("grad", uneven, 0, max(uneven), False, backward=True))
    return lanes


def _heads(lanes: Sequence[_Lane]) -> Content:
    """The lanes' periods over them."""
    words = "; ".join(
        "gradient that is uneven, on its way back to the input" if lane.backward else f"pattern of period {lane.name}"
        for lane in lanes
    )
    texts = [
        tag(
            "text",
            "\N{NABLA}" if lane.backward else lane.name,
            x=_middle(n),
            y=13,
            text_anchor="middle",
            class_="soft",
        )
        for n, lane in enumerate(lanes)
    ]
    if not lanes:
        return tag("span", "no patterns", class_="quiet")
    label = f"Lanes: {words}"
    return tag("svg", tag("title", label), texts, width=_wide(lanes), height=18, role="img", aria_label=label)


def _middle(number: int) -> float:
    return 12.0 + _WIDE * number


def _wide(lanes: Sequence[_Lane]) -> float:
    return 24.0 + _WIDE * max(0, len(lanes) - 1)


def _cell(lanes: Sequence[_Lane], row: int) -> list[Markup]:
    """The piece of every lane that runs along a row, as high as the row is."""
    parts = []
    for n, lane in enumerate(lanes):
        if not lane.begin <= row <= lane.end:
            continue
        x, kind = _middle(n), "way back" if lane.backward else "way"
        above = "50%" if row == lane.begin else "0%"
        below = "50%" if row == lane.end else "100%"
        parts.append(tag("line", x1=x, x2=x, y1=above, y2=below, class_=kind))
        if row in lane.made:
            parts.append(tag("circle", cx=x, cy="50%", r=5, class_=f"{kind} made"))
        elif row == lane.end and not lane.backward:
            parts.append(tag("circle", cx=x, cy="50%", r=4.5, class_=f"{kind} {'gone' if lane.removed else 'out'}"))
        elif row == lane.begin and lane.backward:
            parts.append(tag("circle", cx=x, cy="50%", r=4.5, class_=f"{kind} out"))
    wide = _wide(lanes) if lanes else 0
    spacer = tag("svg", width=wide, height=1, aria_hidden="true")
    return [spacer, tag("svg", parts, width=wide, height="100%", aria_hidden="true", class_="ways")]
