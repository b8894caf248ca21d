"""Markdown reports, read by a CommonMark parser: their tables, and that no name becomes markup."""

from __future__ import annotations

import re

import attributed_samples
import measured_samples
import pytest
import report_samples
from markdown_it import MarkdownIt

from evenly.report import Measured, open_measured, render, render_attributed
from evenly.report.markdown_parts import MOST_ROWS, Safe, bullets, code, details, escaped, page, strong, table

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
NASTY = [
    "a|b",
    "| --- |",
    "</details><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[text](https://example.org)",
    "![picture](https://example.org/x.png)",
    "<https://example.org>",
    "https://example.org/path www.example.org",
    "`code` **bold** _soft_ ~~gone~~ *x*",
    "# heading",
    "- item",
    "1. item",
    "+ item",
    "> quote",
    "```\ncode",
    "    indented",
    "line\n\n## other",
    "&lt;b&gt; &#60;",
    "$x$ and $$y$$",
    "@someone and team/@someone",
    "#12 and owner/name#12",
    ":smile: and onnx::Conv_3",
    "\\",
    "\\|",
    "a\\\nb",
    "===",
    "[^1]",
    "\x1b[31m",
    "",
    "...",
]
HARMLESS = re.compile(r"</?(?:code|b|details)>|<summary>[^<>]*</summary>")
INLINE = {"text", "html_inline", "softbreak", "strong_open", "strong_close"}
BLOCKS = {
    *("heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "html_block"),
    *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    *(f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")),
}


def check(text):
    """Only the markup that reports use; columns agree; gives the text."""
    shown = []
    columns = cells = 0
    for token in PARSER.parse(text):
        assert token.type in BLOCKS, (token.type, token.content)
        if token.type == "html_block":
            assert not HARMLESS.sub("", token.content).strip(), token.content
        if token.type == "tr_open":
            cells = 0
        cells += token.type in ("th_open", "td_open")
        if token.type == "thead_close":
            columns = cells
        if token.type == "tr_close":
            assert cells == columns or not columns
        if token.type == "table_close":
            columns = 0
        for child in token.children or ():
            assert child.type in INLINE, (child.type, child.content)
            if child.type == "html_inline":
                assert HARMLESS.fullmatch(child.content), child.content
            if child.type == "text":
                assert not re.search(r"[@#]\w", child.content) or "<code>" in token.content, child.content
        shown.append("".join(c.content for c in token.children or () if c.type == "text"))
    return "\n".join(shown)


@pytest.mark.parametrize("text", NASTY)
def test_whatever_is_escaped_is_read_as_it_is(text):
    from evenly.report.words import clean

    plain = clean(text).strip(" ")
    rows = [(text, code(text)), ("x", "y")]
    for made in (escaped(text), code(text), bullets([text]), strong(text), table(("a", "b"), rows)):
        shown = check(page(made))
        if text:
            assert plain in shown
    assert PARSER.parse(table(("a", text), rows))[0].type == "table_open"


def test_names_in_code_are_never_links_or_mentions():
    made = code("@someone #1 :x: https://example.org `|` </code>")
    assert re.fullmatch(r"<code>[A-Za-z0-9 &#;]*</code>", made)
    assert code("") == ""


def test_what_is_long_is_cut_and_says_so():
    assert len(escaped("x" * 5000)) < 1100
    long = table(("a",), [("x",)] * (MOST_ROWS + 5))
    assert long.count("| x |") == MOST_ROWS
    assert long.endswith("\n\nand 5 more")
    assert bullets(["x"] * (MOST_ROWS + 2)).endswith("- and 2 more")
    assert table(("a",), []) == details("nothing", Safe("")) == bullets([]) == ""


EVERY = [report_samples.ordinary(), report_samples.clean(), report_samples.hostile(), report_samples.deep(60)]


@pytest.mark.parametrize("report", EVERY)
def test_check(report):
    text = render(report, "markdown")
    check(text)
    assert len(text.encode()) < 2**20
    assert "\x1b" not in text


def test_check_says_the_verdict_first():
    text = render(report_samples.ordinary(), "markdown")
    lines = [line for line in text.splitlines() if line]
    assert lines[:2] == ["## evenly check <code>nets&#46;onnx</code>", "**1 error, 1 warning, 1 info**"]
    shown = " ".join(check(text).split())
    for piece in (
        "input x 1x3x64x64, output y 1x3x128x128; weights the actual ones",
        "error EV101 main.3 kernel 3 is not divisible by stride 2",
        "resize by 2 with nearest neighbours",
        "evenly rule EV101 explains",
        "structure: for generic weights a constant input gives a pattern of period 4 pixels",
        "main.0 conv k3 s2 p1x(0,1) - 4 - - passes",
    ):
        assert piece in shown, piece
    assert text.index("<details>") > text.index("EV301")
    assert "No findings." in render(report_samples.clean(), "markdown")
    assert "62 layers, without 60 that only pass" in render(report_samples.deep(60), "markdown")


@pytest.mark.parametrize("name", NASTY)
def test_attribute(name):
    found = attributed_samples.hostile(name or "x")
    shown = check(render_attributed(found, "markdown"))
    assert "counts most" in shown


def test_attribute_says_the_verdict_first():
    text = render_attributed(attributed_samples.ordinary(), "markdown")
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "## evenly attribute <code>nets&#58;generator</code>"
    assert lines[1].startswith("**Period 2 (+31.2 dB): layer up.3 counts most;")
    shown = " ".join(check(text).split())
    assert "1. up.3 transposed 29.5 26.0 to 33.0 99 75" in shown
    assert "head transposed its weights are shared with up.3" in shown
    clean = render_attributed(attributed_samples.clean(), "markdown")
    assert "**No line stands out in output 'image': nothing to attribute.**" in clean
    assert "What the figures mean" not in clean


def written(records, result):
    reporter = open_measured("markdown")
    for record in records:
        reporter.add(record)
    text = "".join(reporter.parts(result))
    reporter.close()
    return text


def test_measure_one():
    for item in (measured_samples.strong(), measured_samples.hostile(), measured_samples.tiny()):
        text = written([item.to_dict()], Measured("a`|<b>", "image", measured_samples.together(), only=item))
        shown = check(text)
        if item.verdict == "strong":
            assert text.splitlines()[2] == "**Strong traces of up-sampling: period 2 px.**"
            assert "41.2 dB  p 1e-134" in shown
            assert "2 px: mean trace: vertical stripes" in shown
        else:
            assert "too small to test" in shown
    sound = measured_samples.sound()
    text = written([sound.to_dict()], Measured("speech.wav", "audio", measured_samples.together(), only=sound))
    assert "2756.2 Hz" in check(text)


def test_measure_many_and_against():
    records = [measured_samples.strong(f"{name} {k}").to_dict() for k, name in enumerate(NASTY)]
    both = Measured(
        "made",
        "image",
        measured_samples.together(failed=3),
        measured_samples.together(against=True),
        "</details>real|",
        measured_samples.comparison(),
    )
    text = written([*records, {"path": "x", "error": "y"}], both)
    shown = check(text)
    assert text.splitlines()[2].startswith("**made shows more up-sampling than &#60;/details&#62;real&#124;, strong")
    assert "12 pictures measured, 3 could not be; verdicts of single files: 9 strong, 2 weak, 1 none" in shown
    assert "The 20 that show most" in text
    assert "3 files could not be measured" in text
    assert "broken/0.png" in shown
    alone = written(records[:2], Measured("made", "image", measured_samples.together()))
    assert alone.splitlines()[2] == "**Strong traces of up-sampling: period 2 px.**"
    check(alone)
