"""What text reporters write on: plain text of a given width that survives pipes, log files and narrow terminals.

The layout is ASCII; colours appear only where the view allows them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from evenly.report import View

__all__ = ["Paper"]


class Paper:
    """Text in the making.

    Args:
        view: Width and colours.
    """

    def __init__(self, view: View) -> None:
        self._sink = io.StringIO()
        self._console = Console(
            file=self._sink,
            width=max(view.width, 40),
            force_terminal=view.colour,
            color_system="standard" if view.colour else None,
            no_color=not view.colour,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )

    def title(self, text: str) -> None:
        """An empty line and a heading."""
        self.line()
        self.line(text, style="bold")

    def line(self, text: str | Text = "", *, style: str = "", indent: int = 0) -> None:
        """A line, folded where it is too long; without text an empty one."""
        content = Text(text, style=style) if isinstance(text, str) else text
        self.add(content, indent=indent)

    def add(self, content: RenderableType, *, indent: int = 0) -> None:
        """Anything that rich can lay out."""
        self._console.print(Padding(content, (0, 0, 0, indent)) if indent else content)

    def text(self) -> str:
        """All of it, without blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._sink.getvalue().splitlines()) + "\n"
