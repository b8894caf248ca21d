"""Sections, tables, badges, figures in words, things to unfold, and the Markdown of rules."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from evenly.report.page.markup import Content, Markup, joined, lines, tag

__all__ = ["Section", "badge", "code", "facts", "fold", "listing", "prose", "scroll", "table"]


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        key: For addresses within the page; letters and hyphens.
        title: The heading.
        content: What is in it; without any, the section is left out.
        about: A sentence under the heading.
        short: In the list of contents; the title unless given.
    """

    key: str
    title: str
    content: Sequence[Content]
    about: Content = None
    short: str | None = None

    def markup(self) -> Markup:
        """The section as HTML."""
        head = tag("h2", self.title, id=f"{self.key}-title")
        about = tag("p", self.about, class_="about") if self.about else None
        return tag("section", head, about, self.content, id=self.key, aria_labelledby=f"{self.key}-title")


def badge(word: str, kind: str | None = None) -> Markup:
    """A word in a frame; kinds are severities, verdicts and roles, by default the word itself."""
    return tag("span", word, class_=f"tag {kind or word}")


def facts(entries: Iterable[tuple[str, Content, Content, str]]) -> Markup:
    """Figures that matter most.

    Args:
        entries: Name, figure with its unit, what it compares with or means, and ``bad``, ``good`` or nothing.
    """
    return tag(
        "dl",
        (
            tag("div", tag("dt", name), tag("dd", figure, tag("small", words)), class_=tone or None)
            for name, figure, words, tone in entries
        ),
        class_="facts",
    )


def listing(items: Iterable[Content], kind: str = "plain") -> Markup | None:
    """A list, or nothing where there are no items."""
    entries = [tag("li", item) for item in items]
    return tag("ul", entries, class_=kind) if entries else None


def fold(summary: Content, *content: Content, open_: bool = False) -> Markup:
    """Something to unfold."""
    return tag("details", tag("summary", summary), tag("div", content, class_="unfolded"), open=open_)


def scroll(name: str, *content: Content) -> Markup:
    """What may be wider than the screen; the keyboard can scroll it."""
    return tag("div", content, class_="scroll", role="region", aria_label=name, tabindex="0")


def table(
    name: str,
    head: Sequence[Content],
    rows: Iterable[Sequence[Content]],
    *,
    figures: Collection[int] = (),
    kind: str | None = None,
) -> Markup | None:
    """A table whose first column names its rows, or nothing where there are no rows.

    Args:
        name: For those who do not see it.
        head: Of the columns.
        rows: Cells.
        figures: Columns of numbers, aligned on the right.
        kind: A class of ``page.css``.
    """

    def cell(number: int, content: Content) -> Markup:
        side = "figure" if number in figures else None
        return tag("td", content, class_=side) if number else tag("th", content, scope="row", class_=side)

    body = [tag("tr", (cell(n, content) for n, content in enumerate(row)), Markup("\n")) for row in rows]
    if not body:
        return None
    heads = (tag("th", h, scope="col", class_="figure" if n in figures else None) for n, h in enumerate(head))
    return scroll(name, tag("table", tag("thead", tag("tr", heads)), tag("tbody", body), class_=kind))


def code(text: str, *, diff: bool = False) -> Markup:
    """A program that can be copied.

    Args:
        text: Its lines.
        diff: Whether they begin with ``-`` (taken out) and ``+`` (put in).
    """
    kinds = {"-": "out", "+": "in"}
    shown = (
        Markup("\n").join(tag("span", line, class_=kinds.get(line[:1])) for line in text.splitlines())
        if diff
        else lines(text)
    )
    button = tag("button", "Copy", type="button", class_="copy scripted", data_copy="")
    return tag("div", tag("pre", tag("code", Markup(shown)), tabindex="0"), button, class_="code")


def prose(text: str) -> Markup:
    """The Markdown that rules are explained in: paragraphs, lists, programs, code in text."""
    return joined(_blocks(text))


def _blocks(text: str) -> Iterator[Markup]:
    for number, part in enumerate(re.split(r"^```\w*\n(.*?)^```$", text + "\n", flags=re.MULTILINE | re.DOTALL)):
        if number % 2:
            yield code(part)
            continue
        for block in re.split(r"\n\s*\n", part):
            if block.strip().startswith("- "):
                yield tag("ul", [tag("li", _inline(item)) for item in re.split(r"^- ", block.strip(), flags=re.M)[1:]])
            elif block.strip():
                yield tag("p", _inline(block))


def _inline(text: str) -> list[Markup]:
    kinds = {"`": "code", "*": "em"}
    parts = re.split(r"(`[^`]+`|\*[^*\s][^*]*\*)", " ".join(text.split()))
    return [tag(kinds[part[0]], part[1:-1]) if n % 2 else joined(part) for n, part in enumerate(parts)]
