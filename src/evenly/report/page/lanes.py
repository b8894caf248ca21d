"""Beside the layers of a network: a lane for every period, from where its pattern is made to where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from evenly.report.page.markup import Markup, tag
from evenly.report.words import period

if TYPE_CHECKING:
    from evenly.check.result import LayerResult

__all__ = ["Lanes", "uneven"]

_LEAST, _LETTER, _MOST = 20.0, 7.5, 10
"""CSS pixels of a lane and of a letter above it; lanes that are drawn."""


def uneven(layer: LayerResult) -> bool:
    """Whether a layer hands back an uneven gradient."""
    return layer.gradient_unevenness not in (None, 1.0)


@dataclass(frozen=True)
class _Lane:
    """The way of the patterns of one period: rows where they are made, and where the way begins and ends."""

    name: str
    made: frozenset[int]
    begin: int
    end: int
    removed: bool = False
    backward: bool = False

    @property
    def words(self) -> str:
        """What it is, for those who do not see it."""
        if self.backward:
            return "an uneven gradient on its way back to the input"
        return f"a pattern of period {self.name}"


@dataclass(frozen=True)
class Lanes:
    """All lanes of a table, from left to right."""

    lanes: tuple[_Lane, ...]

    @classmethod
    def of(cls, layers: Sequence[LayerResult | None], inputs: int) -> Lanes:
        """The lanes of layers that stand in rows after those of the inputs; ``None`` where a row is of no interest."""
        rows = {layer.name: n for n, layer in enumerate(layers, inputs) if layer is not None}
        output = inputs + len(layers)
        made: dict[str, list[LayerResult]] = {}
        for layer in layers:
            if layer is not None and layer.role == "creates" and period(layer.period) != "-":
                made.setdefault(period(layer.period), []).append(layer)
        lanes = []
        for name, makers in list(made.items())[:_MOST]:
            end = max(rows.get(layer.removed_by or "", output) for layer in makers)
            places = frozenset(rows[layer.name] for layer in makers)
            lanes.append(_Lane(name, places, min(places), end, end < output))
        back = frozenset(rows[layer.name] for layer in layers if layer is not None and uneven(layer))
        if back:
            lanes.append(_Lane("\N{NABLA}", back, 0, max(back), backward=True))
        return cls(tuple(lanes))

    @property
    def _edges(self) -> list[float]:
        """Where lanes begin, and where the last ends."""
        return list(accumulate((max(_LEAST, 6 + _LETTER * len(lane.name)) for lane in self.lanes), initial=2.0))

    def _middle(self, number: int) -> float:
        return (self._edges[number] + self._edges[number + 1]) / 2

    def head(self) -> Markup:
        """The periods, above their lanes."""
        if not self.lanes:
            return tag("span", "no patterns", class_="quiet")
        label = "Lines below, from left to right: " + "; ".join(lane.words for lane in self.lanes)
        texts = [
            tag("text", lane.name, x=self._middle(n), y=13, text_anchor="middle", class_="soft")
            for n, lane in enumerate(self.lanes)
        ]
        width = self._edges[-1] + 2
        return tag("svg", tag("title", label), texts, width=width, height=18, role="img", aria_label=label)

    def cell(self, row: int) -> list[Markup]:
        """The piece of every lane that runs along a row, as high as the row is."""
        pieces = [self._piece(n, lane, row) for n, lane in enumerate(self.lanes) if lane.begin <= row <= lane.end]
        width = self._edges[-1] + 2 if self.lanes else 0
        spacer = tag("svg", width=width, height=1, aria_hidden="true")
        return [spacer, tag("svg", pieces, width=width, height="100%", aria_hidden="true", class_="ways")]

    def _piece(self, number: int, lane: _Lane, row: int) -> list[Markup]:
        x, kind = self._middle(number), "way back" if lane.backward else "way"
        above = "50%" if row == lane.begin else "0%"
        below = "50%" if row == lane.end else "100%"
        line = tag("line", x1=x, x2=x, y1=above, y2=below, class_=kind)
        if row in lane.made:
            return [line, tag("circle", cx=x, cy="50%", r=5, class_=f"{kind} made")]
        if row == (lane.begin if lane.backward else lane.end):
            return [line, tag("circle", cx=x, cy="50%", r=4.5, class_=f"{kind} {'gone' if lane.removed else 'out'}")]
        return [line]
