"""``evenly attribute`` as Markdown, for a job's summary: the verdict, the layers behind each line, the rest folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report import attributed_words as wording
from evenly.report.markdown_parts import Safe, bullets, code, details, heading, page, paragraph, strong, table

if TYPE_CHECKING:
    from evenly.fix.attributed import Attribution
    from evenly.report import View

__all__ = ["render"]


def render(found: Attribution, view: View) -> str:
    """The attribution as Markdown; the view changes nothing."""
    return page(
        heading(2, "evenly attribute", code(found.model)),
        *(strong(sentence) for sentence in wording.verdict(found)),
        paragraph(wording.introduction(found)),
        *(part for period in found.present for part in _period(found, period)),
        details("Every period", table(wording.LINE_HEAD, wording.line_rows(found), figures=(0, 1, 2))),
        details(
            "Not testable",
            table(("layer", "kind", "why"), [(code(name), kind, why) for name, kind, why in wording.untestable(found)]),
        ),
        details("Notes", bullets(found.notes)),
        details("What the figures mean", paragraph(wording.legend(found))) if found.present else Safe(""),
    )


def _period(found: Attribution, period: int) -> list[Safe]:
    rows = [(place, code(name) if place else name, *rest) for place, name, *rest in wording.layer_rows(found, period)]
    sentence = wording.together(found, period)
    return [
        heading(3, wording.alone(period)),
        table(wording.LAYER_HEAD, rows, figures=(3, 4, 5, 6)),
        paragraph(sentence) if sentence else Safe(""),
    ]
