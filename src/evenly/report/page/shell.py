"""The document around a report's sections."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

from evenly import __version__
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import Section

__all__ = ["Tone", "data_block", "document"]

Tone = Literal["bad", "fair", "good"]
"""How a verdict is coloured; words and a sign say the same."""

_SIGNS = {"bad": "\N{MULTIPLICATION SIGN}", "fair": "!", "good": "\N{CHECK MARK}"}


def document(
    *,
    command: str,
    subject: str,
    verdict: tuple[Tone, str],
    lead: Content,
    sections: Sequence[Section],
    data: str,
    file: str,
    top: Content = None,
    remark: str | None = None,
) -> str:
    """A page as HTML, the same for the same report.

    Args:
        command: What made the report, ``"evenly check"``.
        subject: What it is about, as the user named it.
        verdict: Its tone, and a sentence without its end, the page's heading.
        lead: What else matters most, in a sentence or two.
        sections: In order; empty ones are left out.
        data: The report's JSON text, embedded for reuse under the id ``evenly-report``.
        file: The name under which the page offers to save it.
        top: Whatever stands between the lead and the sections.
        remark: What the data do not hold.
    """
    tone, sentence = verdict
    style, script = _asset("page.css"), _asset("page.js")
    shown = [section for section in sections if section.content]
    return (
        "<!DOCTYPE html>\n"
        + tag(
            "html",
            tag(
                "head",
                tag("meta", charset="utf-8"),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
                tag("meta", name="color-scheme", content="light dark"),
                tag("meta", name="generator", content=f"evenly {__version__}"),
                tag("title", f"{sentence} \N{MIDDLE DOT} {command} {subject}"),
                tag("style", Markup(style)),
            ),
            Markup("\n"),
            tag(
                "body",
                tag("a", "To the report", class_="skip", href="#report"),
                tag(
                    "header",
                    tag("p", tag("b", command), " ", tag("span", subject), class_="brand"),
                    tag(
                        "h1",
                        tag("span", _SIGNS[tone], class_="sign", aria_hidden="true"),
                        _unbroken(sentence),
                        class_=f"v-{tone}",
                    ),
                    tag("div", lead, class_="lead"),
                    top,
                    class_="top",
                ),
                tag(
                    "nav",
                    [tag("a", section.short or section.title, href=f"#{section.key}") for section in shown],
                    tag("a", "Data", href="#data"),
                    class_="contents",
                    aria_label="On this page",
                ),
                tag("main", [section.markup() for section in shown], _data(data, file, remark), id="report"),
                tag("footer", tag("p", f"evenly {__version__}. This page is one file and asks no host for anything.")),
                tag("script", Markup(script)),
            ),
            lang="en",
        )
        + "\n"
    )


def _unbroken(sentence: str) -> list[Content]:
    """No line ends between a number and its unit."""
    parts = re.split(r"([+-]?\d[\d.]* (?:dB|px|samples|voxels|Hz|%))", sentence)
    return [tag("span", part, class_="nowrap") if n % 2 else part for n, part in enumerate(parts)]


def data_block(text: str) -> Markup:
    """JSON as data that no browser runs.

    In JSON a ``<`` stands in texts only; escaped, none of them can end the element or begin another.
    """
    harmless = text.replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="evenly-report">{harmless}</script>')


def _data(text: str, file: str, remark: str | None) -> Markup:
    size = len(text.encode())
    amount = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(size / 1e3, 0.1):.1f} kB"
    return Section(
        "data",
        "Data",
        [
            tag("p", f"The numbers on this page as JSON, {amount}, for other programs. {remark or ''}", class_="about"),
            tag(
                "p",
                tag("button", f"Save {file}", type="button", data_save=file),
                " ",
                tag("button", "Copy", type="button", data_copy="#evenly-report"),
                class_="scripted row",
            ),
            data_block(text),
        ],
    ).markup()


@cache
def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing but pictures inside the page, its own style and its own script, the latter two by hash."""

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src {allowed(style)}; "
        f"script-src {allowed(script)}; base-uri 'none'; form-action 'none'"
    )
