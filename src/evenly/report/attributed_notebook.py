"""An attribution in a notebook: self-contained HTML without scripts or styles, everything escaped, drawings as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report import attributed_words as wording
from evenly.report.attributed_page import ranked
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
        headed(found.model, f": lines in {wording.explained(found)}"),
        [tag("p", sentence) for sentence in wording.verdict(found)],
        plain_table(wording.LINE_HEAD, wording.line_rows(found)),
        [_period(found, period) for period in found.present],
        [tag("p", note) for note in found.notes],
    )


def _period(found: Attribution, period: int) -> list[Markup | None]:
    return [
        headed(wording.alone(period), None),
        ranked(found, period, _WIDE),
        plain_table(wording.LAYER_HEAD, wording.layer_rows(found, period)),
        tag("p", wording.together(found, period)),
    ]
