"""Charts with two axes: series, points between limits, steps from before to after, bars with intervals.

Colours and shapes both tell apart what belongs to whom; the palette is the page's, and without its style (in notebooks)
one that can be seen on black and on white.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.plots import ticks
from evenly.report.page.svg import INK, OTHER, PAINT, SOFT, scrolled, svg, text
from evenly.report.words import clean

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Area",
    "Bar",
    "Kind",
    "Paint",
    "Series",
    "area",
    "bars",
    "chart",
    "drawing",
    "fitted",
    "key",
    "series",
    "shape",
    "shortened",
]

Kind = Literal["before", "after", "reference"]
"""What a mark or a line belongs to."""

Paint = Literal["paint", "other", "ground"]

_MARKS: dict[Kind, tuple[str, str]] = {
    "before": ("mark", OTHER),
    "after": ("line", PAINT),
    "reference": ("frame", INK),
}
_DASHES: dict[Kind, str | None] = {"before": None, "after": None, "reference": "2 3"}
_MOST_POINTS = 1200  # of a series that a screen can show
_PHONE, _SHRINKING = 358.0, 800.0
"""CSS pixels of a drawing for a phone; of the widest one that may shrink."""


@dataclass(frozen=True)
class Series:
    """Numbers over numbers.

    Attributes:
        kind: Whose.
        name: In the key.
        x: Shape (points,), rising.
        y: Shape (points,).
    """

    kind: Kind
    name: str
    x: NDArray[np.floating]
    y: NDArray[np.floating]


@dataclass(frozen=True)
class Bar:
    """A row of :func:`bars`.

    Attributes:
        label: On the left.
        end: The number.
        start: Where the bar begins.
        interval: Drawn over it.
        paint: ``paint``, ``other``, or ``ground`` for what is neither.
        words: On the right, the number with its unit.
    """

    label: str
    end: float
    start: float = 0.0
    interval: tuple[float, float] | None = None
    paint: Paint = "paint"
    words: str = ""


@dataclass(frozen=True)
class Area:
    """Where a chart's numbers are on the drawing.

    Attributes:
        x, y: Lowest and highest number of each axis.
        left, top, wide, high: The part of the drawing between the axes, in CSS pixels.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    left: float
    top: float
    wide: float
    high: float

    def across(self, value: float) -> float:
        """Where a number of the x axis is, in CSS pixels."""
        return self.left + self.wide * (value - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)

    def down(self, value: float) -> float:
        """Where a number of the y axis is, in CSS pixels."""
        return self.top + self.high * (self.y[1] - value) / ((self.y[1] - self.y[0]) or 1.0)

    def rule(self, *, x: float | None = None, y: float | None = None, **style: str | float) -> Markup:
        """A straight line across the whole chart: upright at ``x``, or level at ``y``."""
        if x is not None:
            at = {"x1": self.across(x), "x2": self.across(x), "y1": self.top, "y2": self.top + self.high}
        else:
            at = {"x1": self.left, "x2": self.left + self.wide, "y1": self.down(y or 0.0), "y2": self.down(y or 0.0)}
        return tag("line", **at, **{"class_": "grid", "stroke": SOFT, "stroke_opacity": 0.3, **style})

    def rows(self) -> list[Markup]:
        """Level lines at round numbers of the y axis, which stand beside them."""
        found = []
        for value in ticks(*self.y, most=5):
            found += [self.rule(y=value), text(self.left - 8, self.down(value), _number(value), "end", dy="0.36em")]
        return found

    def columns(self, most: int = 8) -> list[Markup]:
        """Upright lines at round numbers of the x axis, which stand below them."""
        foot = self.top + self.high + 18
        found = []
        for value in ticks(*self.x, most=most):
            found += [self.rule(x=value), text(self.across(value), foot, _number(value))]
        return found

    def names(self, x: str, y: str | None = None) -> list[Markup]:
        """Names of the axes."""
        below = text(self.left + self.wide / 2, self.top + self.high + 36, x)
        return [below, text(0, 11, y, "start")] if y else [below]


def area(
    x: tuple[float, float],
    y: tuple[float, float],
    width: float,
    height: float,
    *,
    left: float = 48.0,
    top: float = 24.0,
    right: float = 14.0,
    bottom: float = 42.0,
) -> Area:
    """The part of a drawing of a size that is left between margins for axes and their names."""
    return Area(x, y, left, top, width - left - right, height - top - bottom)


def fitted(draw: Callable[[float], Markup], wide: float = 720) -> Markup:
    """A drawing made twice, for screens and for phones; letters have one size on both."""
    return tag("div", tag("div", draw(wide), class_="wide"), tag("div", draw(_PHONE), class_="narrow"))


def drawing(width: float, height: float, label: str, *content: Content) -> Markup:
    """An SVG that says what it shows; a wide one keeps its size and scrolls, others shrink where they must."""
    found = svg(width, height, label, *content)
    return scrolled(found, label) if width > _SHRINKING else found


def shape(
    kind: Kind, x: float, y: float, size: float = 5.0, *, filled: bool = False, title: str | None = None
) -> Markup:
    """A square for before, a circle for after, a tick for the reference."""
    class_, colour = _MARKS[kind]
    paint = {"before": "other", "after": "paint", "reference": None}[kind] if filled else None
    style: dict[str, str | float] = {
        "class_": " ".join(filter(None, (class_, paint))),
        "stroke": colour,
        "stroke_width": 2,
        "fill": colour if filled else "none",
    }
    told = tag("title", title) if title else None
    if kind == "before":
        return tag("rect", told, x=x - size, y=y - size, width=2 * size, height=2 * size, **style)
    if kind == "after":
        return tag("circle", told, cx=x, cy=y, r=size + 0.5, **style)
    return tag("path", told, d=f"M{x:.2f} {y - size - 2:.2f}V{y + size + 2:.2f}", **style)


def key(entries: Sequence[tuple[Kind, str]], of: Literal["shapes", "lines"] = "shapes") -> Markup:
    """What shapes or lines stand for."""
    items = []
    for kind, words in entries:
        sign = shape(kind, 10, 9, 4.5, filled=kind == "after") if of == "shapes" else _stroke("M1 9H19", kind, 2.0)
        items.append(tag("li", tag("svg", sign, width=20, height=18, aria_hidden="true"), words))
    return tag("ul", items, class_="key")


def _stroke(path: str, kind: Kind, width: float) -> Markup:
    class_, colour = _MARKS[kind]
    return tag(
        "path", d=path, fill="none", class_=class_, stroke=colour, stroke_width=width, stroke_dasharray=_DASHES[kind],
        stroke_linejoin="round",
    )  # fmt: skip


def series(
    several: Sequence[Series],
    label: str,
    *,
    names: tuple[str, str],
    extra: Callable[[Area], Content] | None = None,
    low: float | None = None,
    width: float = 1060,
    height: float = 300,
) -> Markup:
    """Lines in one chart, thinned so that no extreme is lost, and their key.

    Args:
        several: At least one; the last is on top.
        label: What it shows, in words.
        names: Of both axes, with units.
        extra: Draws more, below the lines.
        low: Lowest number of the y axis; by default that of all series.
        width: In CSS pixels.
        height: The same.
    """
    y_low = min(float(s.y.min()) for s in several) if low is None else low
    y_high = max(float(s.y.max()) for s in several)
    room = 0.06 * (y_high - y_low) or 1.0
    where = area(
        (min(float(s.x[0]) for s in several), max(float(s.x[-1]) for s in several)),
        (y_low - (room if low is None else 0.0), y_high + room),
        width,
        height,
    )
    return tag("div", chart(where, label, names, (width, height), extra and extra(where),
               [_stroke(_path(s, where), s.kind, 1.5) for s in several]),
               key([(s.kind, s.name) for s in several], "lines"), class_="plot")  # fmt: skip


def chart(where: Area, label: str, names: tuple[str, str], size: tuple[float, float], *content: Content) -> Markup:
    """Both axes, and what is drawn between them."""
    return drawing(*size, label, where.rows(), where.columns(), where.names(*names), content)


_ROW, _LETTERS, _LETTER = 28.0, 22.0, 6.3
"""CSS pixels of a row; of a drawing, per letter of the longest label; of a letter."""


def bars(rows: Sequence[Bar], label: str, *, name: str, width: float = 720) -> Markup:
    """Bars from the top down, with their intervals, over one axis.

    Args:
        rows: At least one.
        label: What it shows, in words.
        name: Of the axis, with its unit.
        width: In CSS pixels.
    """
    values = [v for row in rows for v in (row.start, row.end, *(row.interval or ()))]
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.03 * (high - low) or 1.0
    labels = [shortened(row.label, width) for row in rows]
    left = 16 + _LETTER * max(map(len, labels))
    right = 16 + _LETTER * max(len(row.words) for row in rows)
    height = 8 + _ROW * len(rows) + 42
    span = (low - room if low < 0 else 0.0, high + room)
    where = area(span, (float(len(rows)), 0.0), width, height, left=left, right=right, top=8)
    parts: list[Content] = [where.columns(int(width / 110)), where.names(name)]
    for n, (row, words) in enumerate(zip(rows, labels, strict=True)):
        parts.append(_bar(where, where.top + _ROW * (n + 0.5), row, words))
    parts.append(where.rule(x=0.0, stroke=INK, class_="frame", stroke_opacity=1.0))
    return drawing(width, height, label, parts)


def shortened(label: str, width: float) -> str:
    """A label that fits beside a drawing; the end of a layer's name says more than its beginning."""
    words, most = clean(label), int(width / _LETTERS)
    return words if len(words) <= most else "\N{HORIZONTAL ELLIPSIS}" + words[1 - most :]


def _bar(where: Area, y: float, row: Bar, label: str) -> list[Markup]:
    ends = sorted((where.across(row.start), where.across(row.end)))
    fill = {"paint": PAINT, "other": OTHER, "ground": SOFT}[row.paint]
    kind = "soft" if row.paint == "ground" else row.paint
    found = [
        text(where.left - 10 if where.x[0] == 0 else where.left - 4, y, label, "end", "ink", dy="0.36em"),
        tag("rect", tag("title", f"{row.label}: {row.words}"), x=ends[0], y=y - 8, width=max(ends[1] - ends[0], 1.0),
            height=16, class_=kind, fill=fill),
        text(where.left + where.wide + 8, y, row.words, "start", dy="0.36em"),
    ]  # fmt: skip
    if row.interval is not None:
        low, high = map(where.across, row.interval)
        path = f"M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 5:.1f}v10M{high:.1f} {y - 5:.1f}v10"
        for class_, stroke, size in (("under", "none", 3.2), ("frame", INK, 1.6)):
            found.append(tag("path", d=path, fill="none", class_=class_, stroke=stroke, stroke_width=size))
    return found


def _path(one: Series, where: Area) -> str:
    step = max(1, 2 * len(one.x) // _MOST_POINTS)
    if step == 1:
        kept = np.arange(len(one.x))
    else:  # the least and the largest of every few
        count = len(one.x) // step * step
        groups = one.y[:count].reshape(-1, step)
        first = np.arange(0, count, step)
        kept = np.unique(np.concatenate([groups.argmin(1) + first, groups.argmax(1) + first]))
    low = where.y[0]
    points = (f"{where.across(float(one.x[n])):.1f} {where.down(max(float(one.y[n]), low)):.1f}" for n in kept)
    return "M" + "L".join(points)


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
