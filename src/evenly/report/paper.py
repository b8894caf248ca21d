"""What text reporters write on: plain text of a given width that survives pipes, log files and narrow terminals.

The layout is ASCII; colours appear only where the view allows them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evenly.report.words import clean

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

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

    def notes(self, notes: Sequence[str]) -> None:
        """A section for what is to be noted, if anything is."""
        if notes:
            self.title("Notes")
            for note in notes:
                self.line(clean(note), indent=2)

    def table(
        self,
        head: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        figures: Container[int] = (),
        whole: Container[int] = (),
        marked: Container[int] = (),
    ) -> None:
        """A table without rules, indented.

        Args:
            head: Names of the columns.
            rows: Cells; what is not printable is shown as an escape.
            figures: Columns that stand on the right.
            whole: Columns that are never folded; in others words may fold anywhere.
            marked: Rows in bold.
        """
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for number, name in enumerate(head):
            justify: Literal["left", "right"] = "right" if number in figures else "left"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=number in whole)
        for number, row in enumerate(rows):
            table.add_row(*(Text(clean(cell)) for cell in row), style="bold" if number in marked else "")
        self.add(table, indent=2)

    def text(self) -> str:
        """All of it, without blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._sink.getvalue().splitlines()) + "\n"
