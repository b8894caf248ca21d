"""``evenly attribute`` as Markdown, for a job's summary: the verdict, the layers behind each line, the rest folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report.attributed_words import (
    LAYER_HEAD,
    LEGEND,
    LINE_HEAD,
    explained,
    layer_rows,
    line_rows,
    together,
    untestable,
    verdict,
)
from evenly.report.markdown_parts import Safe, bullets, code, details, heading, page, paragraph, strong, table
from evenly.report.words import count

if TYPE_CHECKING:
    from evenly.fix.attributed import Attribution
    from evenly.report import View

__all__ = ["render"]


def render(found: Attribution, view: View) -> str:
    """The attribution as Markdown; the view changes nothing."""
    what = "the output" if found.direction == "forward" else "the input"
    return page(
        heading(2, "evenly attribute", code(found.model)),
        *(strong(sentence) for sentence in verdict(found)),
        paragraph(f"Lines in {explained(found)}, for {count(found.signals, 'signal')}: {found.inputs}."),
        *(part for period in found.present for part in _period(found, period)),
        details("Every period", table(LINE_HEAD, line_rows(found), figures=(0, 1, 2))),
        details(
            "Not testable",
            table(("layer", "kind", "why"), [(code(name), kind, why) for name, kind, why in untestable(found)]),
        ),
        details("Notes", bullets(found.notes)),
        details("What the figures mean", paragraph(LEGEND.format(what=what))) if found.present else Safe(""),
    )


def _period(found: Attribution, period: int) -> list[Safe]:
    rows = [(place, code(name) if place else name, *rest) for place, name, *rest in layer_rows(found, period)]
    sentence = together(found, period)
    return [
        heading(3, f"Period {period}, each layer made even alone"),
        table(LAYER_HEAD, rows, figures=(3, 4, 5, 6)),
        paragraph(sentence) if sentence else Safe(""),
    ]
