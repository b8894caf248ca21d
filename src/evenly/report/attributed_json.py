"""Attributions as JSON, see ``docs/json.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evenly.fix.attributed import Attribution
    from evenly.report import View

__all__ = ["render"]


def render(found: Attribution, view: View) -> str:
    """The attribution as JSON text; the view changes nothing."""
    return found.to_json() + "\n"
