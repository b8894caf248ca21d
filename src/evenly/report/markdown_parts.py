"""GitHub's Markdown in which nothing that comes from a file can be markup.

What is meant as markup stands in :class:`Safe` text only; every other ``str`` is escaped where it is put in. Marks
become character references, which CommonMark takes for letters (spec 0.31, section 2.5): they neither begin a list nor
end a cell. What GitHub looks for in the finished page (``@name``, ``#1``, ``:smile:``) is cut by an empty element.
Names stand in ``<code>``, where none of this happens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from evenly.report.words import clean

__all__ = [
    "MOST_ROWS",
    "Safe",
    "bullets",
    "code",
    "details",
    "escaped",
    "heading",
    "page",
    "paragraph",
    "strong",
    "table",
]

MOST_ROWS = 100
"""Of longer tables and lists the beginning is shown: GitHub takes a mebibyte per step."""
_MOST_CHARACTERS = 1000
_MARKS = re.compile(r"[\\`*_{}\[\]<>&|~$]|(?<=w)\.|:(?=//)")
_FOUND_LATER = re.compile(r"[@#]|:(?=[\w+-])")
_BEGINS = re.compile(r"^(?:[-+]|\d+[.)])(?=\s|$)")


class Safe(str):
    """Markdown as it is meant."""

    __slots__ = ()


def escaped(text: str) -> Safe:
    """Text of which no letter is markup; a :class:`Safe` one stays as it is."""
    if isinstance(text, Safe):
        return text
    plain = _clipped(text).strip(" ")
    plain = _MARKS.sub(lambda mark: f"\0{ord(mark[0])}\1", plain)
    plain = _BEGINS.sub(lambda start: f"{start[0][:-1]}\0{ord(start[0][-1])}\1", plain)
    plain = _FOUND_LATER.sub(lambda mark: f"<b></b>{mark[0]}<b></b>", plain)
    return Safe(plain.replace("\0", "&#").replace("\1", ";"))


def code(name: str) -> Safe:
    """A name from a file, in the letters of code; nothing for an empty one."""
    if not name:
        return Safe("")
    return Safe(f"<code>{re.sub(r'[^A-Za-z0-9 ]', lambda c: f'&#{ord(c[0])};', _clipped(name))}</code>")


def _clipped(text: str) -> str:
    shown = clean(text)
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:_MOST_CHARACTERS]}..."


def strong(text: str) -> Safe:
    """Bold; nothing without text."""
    return Safe(f"**{escaped(text)}**" if text else "")


def heading(level: int, *text: str) -> Safe:
    """A heading, of words side by side."""
    return Safe(f"{'#' * level} {' '.join(map(escaped, text))}")


def paragraph(*text: str) -> Safe:
    """Words side by side."""
    return Safe(" ".join(map(escaped, text)))


def bullets(lines: Sequence[str]) -> Safe:
    """A list; nothing without lines."""
    shown = [f"- {escaped(line)}" for line in lines[:MOST_ROWS]]
    return Safe("\n".join([*shown, *_more(len(lines), "- ")]))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], figures: Iterable[int] = ()) -> Safe:
    """A table, the columns of figures on the right; nothing without rows."""
    if not rows:
        return Safe("")
    right = set(figures)
    lines = [
        _row(head),
        _row([Safe("---:" if k in right else "---") for k in range(len(head))]),
        *(_row(row) for row in rows[:MOST_ROWS]),
    ]
    return Safe("\n".join(lines) + "".join(f"\n\n{line}" for line in _more(len(rows), "")))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escaped(cell) for cell in cells)} |"


def _more(count: int, begin: str) -> list[str]:
    return [f"{begin}and {count - MOST_ROWS} more"] if count > MOST_ROWS else []


def details(summary: str, *parts: Safe) -> Safe:
    """What is folded away at first; nothing without content."""
    inside = "\n\n".join(part for part in parts if part)
    if not inside:
        return Safe("")
    return Safe(f"<details>\n<summary>{escape(clean(summary))}</summary>\n\n{inside}\n\n</details>")


def page(*parts: Safe) -> str:
    """The parts below each other."""
    return "\n\n".join(part for part in parts if part) + "\n"
