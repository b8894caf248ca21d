"""A small table for notebooks: self-contained HTML without scripts, everything escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from evenly.report.words import clean, count, geometry, interesting, period, ratio, summary, verdict_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evenly.check.result import Report

__all__ = ["escaped", "table", "to_html"]

_MOST_ROWS = 40


def to_html(report: Report) -> str:
    """The findings, the layers that do something to a pattern, and the verdict, as one ``div``."""
    named = {f.layer for f in report.findings}
    layers = [x for x in report.layers if len(report.layers) <= _MOST_ROWS or interesting(x, named)]
    hidden = len(report.layers) - len(layers)
    parts = [
        f"<p><strong>{escaped(report.model.source)}</strong>: {escaped(summary(report))}</p>",
        table(
            ("code", "severity", "layer", "finding", "fix"),
            [(f.code, f.severity, f.layer, f.message, f.fix) for f in report.findings],
        ),
        table(
            ("layer", "op", "shape", "overlap", "gradient", "period", "ripple", "role"),
            [
                (
                    x.name,
                    x.op,
                    geometry(x),
                    ratio(x.unevenness, "holes"),
                    ratio(x.gradient_unevenness, "dead"),
                    period(x.period),
                    ratio(x.ripple, "inf"),
                    x.role,
                )
                for x in layers
            ],
        ),
        f"<p>{count(hidden, 'layer')} that only pass patterns on hidden</p>" if hidden else "",
        *(
            f"<p><strong>{escaped(heading)}</strong><br>{'<br>'.join(escaped(line) for line in lines)}</p>"
            for heading, lines in verdict_lines(report)
        ),
        *(f"<p>{escaped(note)}</p>" for note in report.notes),
    ]
    return f"<div>{''.join(parts)}</div>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, or nothing where there are no rows."""
    body = "".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return ""
    return (
        f"<table><thead><tr>{''.join(f'<th>{escaped(h)}</th>' for h in head)}</tr></thead><tbody>{body}</tbody></table>"
    )


def escaped(text: str) -> str:
    """Text that can neither be markup nor steer a terminal."""
    return escape(clean(text))
