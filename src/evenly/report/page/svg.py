"""What drawings share: their frame, words, colours, and a place to scroll in."""

from __future__ import annotations

from evenly.report.page.markup import Content, Markup, tag

__all__ = ["INK", "OTHER", "PAINT", "SOFT", "scrolled", "svg", "text"]

INK, SOFT, PAINT, OTHER = "currentColor", "#808890", "#2f86cf", "#dd7a2c"
"""Colours where there is no style: they can be seen on black and on white."""


def svg(width: float, height: float, label: str, *content: Content, kind: str | None = None) -> Markup:
    """An SVG that says what it shows."""
    return tag(
        "svg",
        tag("title", label),
        content,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
        class_=f"drawing {kind}" if kind else "drawing",
    )


def text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "soft", **more: str | float) -> Markup:
    """Words in a drawing."""
    fill = INK if kind.startswith("ink") else SOFT
    return tag("text", words, x=x, y=y, text_anchor=anchor, class_=kind, fill=fill, font_size=11, **more)


def scrolled(drawing: Markup, label: str) -> Markup:
    """A drawing that keeps its size; phones scroll it."""
    return tag("div", drawing, class_="scroll", role="region", aria_label=label, tabindex="0")
