"""HTML and SVG by function calls: whatever is not markup already is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import TypeAlias

from evenly.report.words import clean

__all__ = ["Content", "Markup", "joined", "lines", "tag"]

_VOID = {"br", "img", "input", "meta"}
_ADDRESSES = {"href": ("#", "https://", "data:image/png;"), "src": ("data:",)}


class Markup(str):
    """Text that is HTML; made by :func:`tag`, and by hand only from constants."""

    __slots__ = ()


Content: TypeAlias = "str | Iterable[Content] | None"
"""Text, markup, or several of both; ``None`` is nothing."""


def joined(content: Content) -> Markup:
    """One piece of markup: text escaped, control characters shown as escapes, so that no name can steer anything."""
    if content is None:
        return Markup()
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(escape(clean(content)))
    return Markup("".join(map(joined, content)))


def lines(text: str) -> Markup:
    """Text of several lines, for ``pre``."""
    return Markup("\n".join(joined(line) for line in text.splitlines()))


def tag(element: str, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """An element.

    Args:
        element: Its name.
        *content: What is in it.
        **attributes: A trailing underscore is dropped, others become hyphens (``class_``, ``aria_label``); ``None`` and
            ``False`` leave one out, ``True`` gives it no value; numbers are rounded to hundredths.

    Raises:
        ValueError: If an attribute could run or load something: an event handler, a style, an address of a host.
    """
    head = element
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = re.sub("_(?=.)", "-", key).rstrip("_")
        if name.startswith("on") or name == "style":
            raise ValueError(f"the attribute {name} runs what is in it; use the page's own script and style")
        if name in _ADDRESSES and not str(value).startswith(_ADDRESSES[name]):
            raise ValueError(f"{name} (={str(value)[:40]!r}) must begin with one of {', '.join(_ADDRESSES[name])}")
        head += f" {name}" if value is True else f' {name}="{_value(value)}"'
    if element in _VOID:
        return Markup(f"<{head}>")
    return Markup(f"<{head}>{joined(content)}</{element}>")


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escape(clean(value))
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
