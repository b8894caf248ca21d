"""Two drawings of a repair: how far lines fell, and what every repair that was tried left and cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evenly.report.fixed_words import compared, over, psnr, step
from evenly.report.page.charts import Area, area, drawing, key, shape, shortened
from evenly.report.page.markup import Markup, tag
from evenly.report.page.svg import INK, PAINT, SOFT, text

if TYPE_CHECKING:
    from evenly.fix.result import FixReport, FrontierPoint, LineChange

__all__ = ["falls", "tried"]

_ROW, _BESIDE = 36.0, 48.0
"""CSS pixels of a row; for a number beside a mark."""


def falls(report: FixReport, width: float = 720) -> Markup | None:
    """Lines of every output and period, from before to after, with their limits; ``None`` where there are none."""
    rows = [
        (_label(output.name if len(report.outputs) > 1 else None, f"{line.period} {step(output)}", width), line)
        for output in report.outputs
        for line in output.lines
        if line.before.signals and line.after.signals
    ]
    if not rows:
        return None
    values = [v for _, line in rows for v in (line.before_over_db, line.after_over_db, line.limit_db, 0.0)]
    left = 20.0 + 6.4 * max(len(label) for label, _ in rows)
    height = 14 + _ROW * len(rows) + 42
    span = (min(values), max(values) + 1e-9)
    where = area(span, (len(rows), 0), width, height, left=left + _BESIDE, right=_BESIDE, top=14)
    what = f"dB over {compared(report)}"
    parts = [where.columns(int(width / 80)), where.rule(x=0.0, stroke_opacity=1.0), where.names(what)]
    marks = [_fall(where, n, label, line) for n, (label, line) in enumerate(rows)]
    label = f"Lines before and after, in {what}: " + "; ".join(_said(name, line) for name, line in rows)
    entries = key([("before", "before"), ("after", "after"), ("reference", "limit")])
    return tag("div", drawing(width, height, label, parts, marks), entries, class_="plot")


def _label(name: str | None, period: str, width: float) -> str:
    return f"period {period}" if name is None else f"{shortened(name, width)}, {period}"


def _said(name: str, line: LineChange) -> str:
    return f"{name} from {over(line.before_over_db)} to {over(line.after_over_db)}, limit {over(line.limit_db, False)}"


def _fall(where: Area, row: int, label: str, line: LineChange) -> list[Markup]:
    y = where.top + _ROW * (row + 0.5)
    before, after = where.across(line.before_over_db), where.across(line.after_over_db)
    side = 1 if before >= after else -1  # numbers stand outside of the way between both
    way = tag("line", x1=before, x2=after, y1=y, y2=y, stroke=SOFT, stroke_width=2, stroke_opacity=0.6)
    anchors = ("start", "end") if side > 0 else ("end", "start")
    beside = abs(before - after) > 1
    return [
        text(where.left - _BESIDE, y, label, "end", "ink", dy="0.36em"),
        shape("reference", where.across(line.limit_db), y, 7),
        way,
        shape("before", before, y),
        shape("after", after, y, filled=True),
        text(before + 11 * side, y, f"{line.before_over_db:+.1f}", anchors[0], dy="0.36em") if beside else Markup(),
        text(after - 12 * side, y, f"{line.after_over_db:+.1f}", anchors[1], "ink halo", dy="0.36em"),
    ]


# ------------------------------------------------------------------------------------------------------ what was tried


def tried(report: FixReport, width: float = 720) -> Markup | None:
    """Artifact left against distortion of every repair that was tried; ``None`` where fewer than two were."""
    points = [(n, p) for n, p in enumerate(report.frontier, start=1) if not math.isnan(p.psnr_db)]
    shown = [(n, p) for n, p in points if math.isfinite(p.worst_db)]
    if len(shown) < 2:
        return None
    finite = [p.psnr_db for _, p in shown if math.isfinite(p.psnr_db)]
    asked = report.verdict in ("clean", "reached", "partly")
    x_values = [*finite, *([report.max_distortion_db] if asked or not finite else [])]
    y_values = [*(p.worst_db for _, p in shown), 0.0, report.limit_db]
    x_room, y_room = 0.08 * (max(x_values) - min(x_values)) or 1.0, 0.08 * (max(y_values) - min(y_values)) or 1.0
    unchanged = max(x_values) + 2.5 * x_room
    end = unchanged + x_room if len(finite) < len(shown) else max(x_values) + x_room
    height = 220 + width / 5
    where = area((min(x_values) - x_room, end), (min(y_values) - y_room, max(y_values) + y_room), width, height)
    places = [(n, p, where.across(min(p.psnr_db, unchanged)), where.down(p.worst_db)) for n, p in shown]
    inner = where.rows() + _columns(where, max(x_values) + x_room)
    names = where.names("PSNR of the new output to the original one, dB", f"worst line, dB over {compared(report)}")
    last = text(where.across(unchanged), where.top + where.high + 18, "unchanged") if end > unchanged else None
    label = "Repairs that were tried: " + "; ".join(
        f"{n}, {p.method}, {over(p.worst_db)} at {psnr(p.psnr_db)}{', chosen' if p.chosen else ''}" for n, p in shown
    )
    content = [inner, last, names, _limits(where, report) if asked else None, *_joined(places), *_dots(places, width)]
    return tag("div", drawing(width, height, label, content), class_="plot")


_Place = tuple[int, "FrontierPoint", float, float]


def _columns(where: Area, end: float) -> list[Markup]:
    return Area((where.x[0], end), where.y, where.left, where.top, where.across(end) - where.left, where.high).columns()


def _limits(where: Area, report: FixReport) -> list[Markup]:
    """The part in which everything is as it was asked for, and its two borders."""
    x, y = where.across(report.max_distortion_db), where.down(report.limit_db)
    right, bottom = where.left + where.wide, where.top + where.high
    dashed: dict[str, Any] = {
        "stroke": INK,
        "class_": "frame",
        "stroke_opacity": 0.7,
        "stroke_dasharray": "5 4",
    }
    aside, anchor = (-5, "end") if x - where.left > 100 else (5, "start")  # beside what is allowed, if there is room
    inside = tag("rect", x=x, y=y, width=right - x, height=bottom - y, class_="paint", fill=PAINT, fill_opacity=0.1)
    return [
        inside,
        where.rule(x=report.max_distortion_db, **dashed),
        where.rule(y=report.limit_db, **dashed),
        text(x + aside, where.top + 11, f"at least {report.max_distortion_db:g} dB", anchor, "soft halo"),
        text(right - 5, y - 5, f"at most {report.limit_db:g} dB", "end", "soft halo"),
    ]


def _joined(places: Sequence[_Place]) -> Iterator[Markup]:
    """Strengths of one repair belong together."""
    for method in dict.fromkeys(p.method for _, p, _, _ in places):
        family = [f"{x:.1f},{y:.1f}" for _, p, x, y in places if p.method == method]
        if len(family) > 1:
            yield tag("polyline", points=" ".join(family), fill="none", stroke=SOFT, stroke_width=1.2)


def _dots(places: Sequence[_Place], right: float) -> Iterator[Markup]:
    taken = [(x, y) for _, _, x, y in places]
    for number, point, x, y in sorted(places, key=lambda place: place[1].chosen):
        told = tag("title", f"{number}. {point.method}: {over(point.worst_db)} at {psnr(point.psnr_db)}")
        if point.chosen:
            yield tag("circle", cx=x, cy=y, r=11, fill="none", class_="line", stroke=PAINT, stroke_width=2)
            yield tag("circle", told, cx=x, cy=y, r=6, class_="paint", fill=PAINT)
        else:
            yield tag("circle", told, cx=x, cy=y, r=5, class_="ground frame", fill="none", stroke=INK,
                      stroke_width=1.5)  # fmt: skip
        reach = 16 if point.chosen else 10
        ways = [(reach, 0), (-reach, 0), (0, -reach - 4), (0, reach + 4)]
        if x > right - 60:  # a number on the right would leave the drawing
            ways[:2] = [(-reach, 0), (reach, 0)]
        free = next((w for w in ways if all(math.dist((x + w[0] * 1.3, y + w[1]), t) > 11 for t in taken)), ways[0])
        anchor = "middle" if not free[0] else "start" if free[0] > 0 else "end"
        taken.append((x + 1.3 * free[0], y + free[1]))
        words = f"{number}, chosen" if point.chosen and free[0] else str(number)
        yield text(x + free[0], y + free[1], words, anchor, "ink halo", dy="0.36em")
