"""An attribution in a notebook: self-contained HTML without scripts or styles, everything escaped, drawings as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report.attributed_page import ranked
from evenly.report.attributed_words import LAYER_HEAD, LINE_HEAD, explained, layer_rows, line_rows, together, verdict
from evenly.report.notebook import headed, plain_table
from evenly.report.page.markup import Markup, tag

if TYPE_CHECKING:
    from evenly.fix.attributed import Attribution

__all__ = ["to_html"]

_WIDE = 560


def to_html(found: Attribution) -> str:
    """The verdict, the lines, and for each the layers behind it, as one ``div``."""
    return tag(
        "div",
        headed(found.model, f": lines in {explained(found)}"),
        [tag("p", sentence) for sentence in verdict(found)],
        plain_table(LINE_HEAD, line_rows(found)),
        [_period(found, period) for period in found.present],
        [tag("p", note) for note in found.notes],
    )


def _period(found: Attribution, period: int) -> list[Markup | None]:
    return [
        headed(f"Period {period}, each layer made even alone", None),
        ranked(found, period, _WIDE),
        plain_table(LAYER_HEAD, layer_rows(found, period)),
        tag("p", together(found, period)),
    ]
