"""A report in a notebook: self-contained HTML without scripts or styles, everything escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.patterns import overlap_picture
from evenly.report.words import count, geometry, layer_figures, shown_layers, summary, verdict_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evenly.check.result import Report

__all__ = ["headed", "plain_table", "to_html"]


def to_html(report: Report) -> str:
    """The findings, the layers that do something to a pattern with its picture, and the verdict, as one ``div``."""
    layers = shown_layers(report)
    hidden = len(report.layers) - len(layers)
    return tag(
        "div",
        headed(report.model.source, f": {summary(report)}"),
        plain_table(
            ("code", "severity", "layer", "finding", "fix"),
            [(f.code, f.severity, f.layer, f.message, f.fix) for f in report.findings],
        ),
        plain_table(
            ("layer", "op", "shape", "pattern", "overlap", "gradient", "period", "ripple", "role"),
            [(x.name, x.op, geometry(x), overlap_picture(x, 56), *layer_figures(x), x.role) for x in layers],
        ),
        tag("p", f"{count(hidden, 'layer')} that only pass patterns on hidden") if hidden else None,
        [headed(heading, [[tag("br"), line] for line in lines]) for heading, lines in verdict_lines(report)],
        [tag("p", note) for note in report.notes],
    )


def headed(name: str, text: Content) -> Markup:
    """A paragraph that begins with what it is about."""
    return tag("p", tag("strong", name), text)


def plain_table(head: Sequence[str], rows: Iterable[Sequence[Content]]) -> Markup | None:
    """A table, or nothing where there are no rows."""
    body = [tag("tr", [tag("td", content) for content in row]) for row in rows]
    if not body:
        return None
    return tag("table", tag("thead", tag("tr", [tag("th", h) for h in head])), tag("tbody", body))
