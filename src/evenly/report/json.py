"""The contract of every other part: a report, an attribution, a repair as it is, see ``docs/json.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evenly.report import View

__all__ = ["Written", "render"]


class Written(Protocol):
    """A result that has a JSON form."""

    def to_json(self) -> str:
        """The JSON text, without a newline at its end."""


def render(result: Written, view: View) -> str:
    """The result as JSON text; the view changes nothing."""
    return result.to_json() + "\n"
