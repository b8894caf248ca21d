"""Drawings in SVG that show the same in light and dark, and something sensible in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evenly.report.page.markup import Markup, tag
from evenly.report.page.pixels import uri
from evenly.report.page.svg import INK, OTHER, PAINT, SOFT, scrolled, svg, text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RAMP", "Mark", "bar", "cell", "curve", "histogram", "indices", "legend", "plane", "ticks"]

_PAINTS = {"paint": PAINT, "other": OTHER}

# The five colours of viridis at 0, 1/4, 1/2, 3/4 and 1, and between them straight lines.
_STOPS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64)
RAMP: NDArray[np.uint8] = np.stack(
    [np.interp(np.linspace(0, 4, 256), range(5), _STOPS[:, c]) for c in range(3)], axis=1
).astype(np.uint8)
"""Palette from little to much, which colour-blind people can read: shape (256, 3)."""


@dataclass(frozen=True)
class Mark:
    """A place that a drawing points out.

    Attributes:
        x, y: In the drawing's own units; ``y`` is ``None`` in a curve, which knows it.
        label: What it is.
        rank: Number of its shape.
    """

    x: float
    y: float | None
    label: str
    rank: int = 0


def indices(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Numbers as places in :data:`RAMP`."""
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return np.asarray(np.rint(255 * share), np.uint8)


def legend(low: str, high: str) -> Markup:
    """What the two ends of :data:`RAMP` stand for."""
    image = tag("img", src=uri(np.arange(256, dtype=np.uint8)[None], RAMP), width=120, height=10, alt="to")
    return tag("span", low, " ", image, " ", high, class_="ramp")


def _shape(rank: int, x: float, y: float, size: float = 6.5) -> Markup:
    """A ring, a square, a diamond, a triangle, ...: shapes as well as colours tell marks apart."""
    common: dict[str, str | float] = {
        "class_": "mark",
        "fill": "none",
        "stroke": OTHER,
        "stroke_width": 2.2,
        "vector_effect": "non-scaling-stroke",
    }
    if rank == 0:
        return tag("circle", cx=x, cy=y, r=size, **common)
    corners, turn = {1: (4, 0.125), 2: (4, 0.0), 3: (3, -0.25)}.get(rank, (3, 0.25))
    angles = [2 * math.pi * (n / corners + turn) for n in range(corners)]
    points = " ".join(f"{x + 1.2 * size * math.cos(a):.2f},{y + 1.2 * size * math.sin(a):.2f}" for a in angles)
    return tag("polygon", points=points, **common)


def _key(marks: Sequence[Mark]) -> Markup | None:
    """The marks' shapes and labels, each once."""
    labels = dict.fromkeys((mark.rank, mark.label) for mark in marks)
    entries = [
        tag("li", tag("svg", _shape(rank, 10, 9), width=20, height=18, aria_hidden="true"), label)
        for rank, label in labels
    ]
    return tag("ul", entries, class_="key") if entries else None


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two: steps of 1, 2 or 5 times a power of ten."""
    least = (high - low) / most or 1.0
    power = 10.0 ** math.floor(math.log10(least))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= least * 0.999)
    return [round(n * step, 10) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


# ------------------------------------------------------------------------------------------------------------ drawings


def bar(share: float, kind: str = "paint") -> Markup:
    """A bar as wide as what it stands in; the number belongs beside it.

    Args:
        share: 0 to 1.
        kind: ``paint`` or ``other``.
    """
    return tag(
        "svg",
        tag("rect", width="100%", height=8, rx=2, class_="ground", fill=SOFT, fill_opacity=0.2),
        tag(
            "rect",
            width=f"{100 * min(max(share, 0.0), 1.0):.2f}%",
            height=8,
            rx=2,
            class_=kind,
            fill=_PAINTS[kind],
        ),
        class_="bar",
        width="100%",
        height=8,
        aria_hidden="true",
    )


def cell(
    values: NDArray[np.floating] | NDArray[np.integer],
    label: str,
    *,
    copies: int = 1,
    side: float = 96,
    words: Sequence[Sequence[str]] = (),
    paint: str = "paint",
    most: float | None = None,
) -> Markup:
    """A pattern, some copies of it, its own size outlined: more is painted stronger.

    Args:
        values: Shape (rows, columns), 0 or more; numbers below 0 have the other paint.
        label: What it shows, in words.
        copies: Per axis of more than one position.
        side: Of the longer axis of the drawing, in CSS pixels.
        words: Stand in the first copy, row by row.
        paint: ``paint`` or ``other``.
        most: What is painted strongest; by default the largest number.
    """
    rows, columns = values.shape
    down, across = (n * copies if n > 1 else 1 for n in values.shape)
    size = side / max(down, across)
    tall = size if rows > 1 else max(size, 18.0)
    most = most or float(np.abs(values).max()) or 1.0
    squares = []
    for y in range(down):
        for x in range(across):
            value = float(values[y % rows, x % columns])
            kind = paint if value >= 0 else "other" if paint == "paint" else "paint"
            where = {"x": x * size, "y": y * tall, "width": size + 0.03, "height": tall + 0.03}
            squares.append(tag("rect", **where, class_=kind, fill=_PAINTS[kind], fill_opacity=abs(value) / most))
    for y, line in enumerate(words):
        for x, word in enumerate(line):
            squares.append(text((x + 0.5) * size, (y + 0.5) * tall, word, kind="ink halo", dy="0.36em"))
    width, height = columns * size - 1.5, rows * tall - 1.5
    box = {"x": 0.75, "y": 0.75, "width": width, "height": height}
    frame = tag("rect", **box, fill="none", stroke=INK, stroke_width=1.5, class_="frame")
    return svg(across * size, down * tall, label, squares, frame if copies > 1 else None, kind="cell")


def plane(values: NDArray[np.floating], label: str, marks: Sequence[Mark], high: float) -> Markup:
    """A spectrum over two frequencies with its lines marked.

    Args:
        values: Shape (N, N), zero frequency first, in dB; 0 is the darkest colour.
        label: What it shows, in words.
        marks: At frequencies ``x`` across and ``y`` down, in cycles per pixel from -1/2 to 1/2.
        high: Of the brightest colour, in dB.
    """
    size, left, top = 300.0, 44.0, 14.0
    shifted = np.pad(np.fft.fftshift(values), (0, 1), mode="wrap")  # one half of a cycle is on both borders
    image = tag(
        "image",
        href=uri(indices(shifted, 0, high), RAMP),
        x=left, y=top, width=size, height=size, preserveAspectRatio="none", class_="pixels",
    )  # fmt: skip

    def place(frequency: float) -> float:
        return (frequency + 0.5) * size

    axes = []
    for number, words in ((-0.5, "-1/2"), (-0.25, "-1/4"), (0.0, "0"), (0.25, "1/4"), (0.5, "1/2")):
        axes.append(text(left + place(number), top + size + 20, words))
        axes.append(text(left - 12, top + place(number), words, "end", dy="0.36em"))
    shapes = [_shape(m.rank, left + place(m.x), top + place(m.y or 0.0)) for m in marks]
    names = text(left + size / 2, top + size + 38, "cycles per pixel, across and down")
    drawing = svg(left + size + 14, top + size + 46, label, image, axes, shapes, names, kind="plane")
    return tag("div", drawing, _key(marks), class_="plot")


def curve(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    label: str,
    *,
    names: tuple[str, str],
    marks: Sequence[Mark] = (),
    width: float = 1060,
    height: float = 320,
) -> Markup:
    """A line with places marked on it, thinned by its maxima to what a screen can show.

    Args:
        x: Shape (points,), rising.
        y: Shape (points,).
        label: What it shows, in words.
        names: Of both axes, with units.
        marks: At ``x``.
        width: In CSS pixels.
        height: The same.
    """
    left, right, top, bottom = 52.0, 14.0, 18.0, 44.0
    wide, high = width - left - right, height - top - bottom
    x_low, x_high, y_low, y_high = float(x[0]), float(x[-1]), float(y.min()), float(y.max())
    room = (y_high - y_low) * 0.08 or 1.0
    y_low, y_high = y_low - room / 2, y_high + room

    def across(value: float) -> float:
        return left + wide * (value - x_low) / ((x_high - x_low) or 1.0)

    def down(value: float) -> float:
        return top + high * (y_high - value) / (y_high - y_low)

    step = max(1, len(x) // 1000)
    count = len(x) // step * step
    peaks = y[:count].reshape(-1, step).argmax(axis=1) + np.arange(0, count, step)
    path = " ".join(f"{across(float(x[n])):.1f},{down(float(y[n])):.1f}" for n in peaks)
    parts: list[Markup] = []
    for value in ticks(y_low, y_high, 5):
        parts.append(tag("line", x1=left, x2=width - right, y1=down(value), y2=down(value), class_="grid", stroke=SOFT,
                         stroke_opacity=0.3))  # fmt: skip
        parts.append(text(left - 8, down(value), f"{value:g}", "end", dy="0.36em"))
    parts += [text(across(value), height - bottom + 18, f"{value:g}") for value in ticks(x_low, x_high, 8)]
    line = tag("polyline", points=path, fill="none", stroke=PAINT, stroke_width=1.2, class_="line")
    shapes = [_shape(m.rank, across(m.x), down(float(np.interp(m.x, x, y))), 5.5) for m in marks]
    titles = [
        text(left + wide / 2, height - 6, names[0]),
        text(4, 11, names[1], "start"),
    ]
    drawing = svg(width, height, label, parts, line, shapes, titles)
    return tag("div", scrolled(drawing, label), _key(marks), class_="plot")


def histogram(
    counts: Sequence[int], low: float, step: float, label: str, unit: str, other: Sequence[int] = ()
) -> Markup:
    """How many of a set have a number in each bin; beside another set as shares of each.

    Args:
        counts: Per bin.
        low: Where the first bin begins.
        step: Width of a bin.
        label: What it shows, in words.
        unit: Of the number.
        other: The same of a set to compare with, drawn as an outline.
    """
    width, high, left = 260.0, 70.0, 4.0
    wide = (width - 2 * left) / len(counts)
    shares, others = ([count / max(sum(bins), 1) for count in bins] for bins in (counts, other))
    most = max([*shares, *others]) or 1.0
    bars = []
    for n, share in enumerate(shares):
        tall = high * share / most
        where = {"x": left + n * wide + 0.5, "y": 8 + high - tall, "width": wide - 1, "height": tall}
        bars += [tag("rect", **where, class_="paint", fill=PAINT)] if share else []
    corners = [f"{left + (n + side) * wide:.2f},{8 + high * (1 - share / most):.2f}"
               for n, share in enumerate(others) for side in (0, 1)]  # fmt: skip
    outline = tag("polyline", points=" ".join(corners), fill="none", stroke=OTHER, stroke_width=1.8, class_="outline")
    end = low + step * len(counts)
    axis = tag("line", x1=left, x2=width - left, y1=8.5 + high, y2=8.5 + high, class_="grid", stroke=SOFT)
    names = []
    for n, value in enumerate(ticks(low, end, 4)):
        words = f"{value:g}" if n else f"{value:g} {unit}"
        anchor = "start" if value == low else "end" if value == end else "middle"
        names.append(text(left + (value - low) / step * wide, high + 23, words, anchor))
    return svg(width, high + 30, label, bars, axis, outline if other else None, names)
