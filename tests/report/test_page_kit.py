"""What report pages are made of: markup that escapes, pictures without loss, drawings."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from test_pages import Page

from evenly.check.rules import RULES
from evenly.report.page.markup import Markup, tag
from evenly.report.page.parts import prose
from evenly.report.page.pixels import Picture, before_after, cropped, png, reduced
from evenly.report.page.plots import RAMP, histogram, ticks


def test_markup_escapes_all_but_itself():
    assert tag("p", "<b>", Markup("<i></i>"), None, ["a", ("&",)]) == "<p>&lt;b&gt;<i></i>a&amp;</p>"
    assert tag("p", 'say "x"\n', title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;">say &quot;x&quot;\\n</p>'
    assert tag("br") == "<br>"
    assert tag("a", class_="k", aria_label="l", hidden=True, id=None, open=False) == (
        '<a class="k" aria-label="l" hidden></a>'
    )
    assert tag("rect", x=1.0, y=0.125) == '<rect x="1" y="0.12"></rect>'


@pytest.mark.parametrize(
    "attributes",
    [
        {"onclick": "x"},
        {"style": "x"},
        {"href": "javascript:alert(1)"},
        {"src": "https://a.example/b.png"},
        {"href": "data:text/html,x"},
    ],
)
def test_markup_refuses_what_could_run_or_load(attributes):
    with pytest.raises(ValueError, match=r"must begin with|runs what is in it"):
        tag("a", **attributes)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_pictures_are_stored_without_loss(shape):
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)
    if len(shape) == 2:
        shown = np.asarray(Image.open(io.BytesIO(png(pixels, RAMP))).convert("RGB"))
        np.testing.assert_array_equal(shown, RAMP[pixels])


def test_parts_of_pictures():
    pixels = np.arange(6 * 9).reshape(6, 9)
    part, left, top = cropped(pixels, 4, (1.0, 0.0))
    assert (part.shape, left, top) == ((4, 4), 5, 0)
    assert cropped(pixels, 20)[0].shape == (6, 9)
    np.testing.assert_allclose(reduced(pixels, 3), pixels.reshape(2, 3, 3, 3).mean(axis=(1, 3)))
    assert reduced(np.ones((1, 100, 3)), 10).shape == (1, 10, 3)
    np.testing.assert_array_equal(reduced(pixels, 9), pixels)


def test_a_slider_from_before_to_after_has_words():
    picture = Picture(np.zeros((8, 8), np.uint8), "Before", "dark")
    html = before_after(picture, picture, "output <1>")
    page = Page(html)
    assert [a["aria-label"] for t, a in page.tags if t == "input"] == ["output <1>: how much of the left is before"]


def test_rules_are_read_as_they_are_written():
    html = prose("One `a<b>` and *two*: `s**2`.\n\n- first\n  line\n- second\n\n```python\nx = '<'\n\ny = 2\n```\nlast")
    assert "<p>One <code>a&lt;b&gt;</code> and <em>two</em>: <code>s**2</code>.</p>" in html
    assert "<ul><li>first line</li><li>second</li></ul>" in html
    assert "x = &#x27;&lt;&#x27;\n\ny = 2" in html
    assert html.endswith("<p>last</p>")
    for rule in RULES.values():
        for text in rule.sections.values():
            assert "`" not in re.sub(r"<pre.*?</pre>", "", prose(text), flags=re.DOTALL)


def test_ticks_are_round():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(-0.5, 0.5, 4) == [-0.5, 0.0, 0.5]
    assert ticks(3, 3) == [3]


def test_two_sets_are_drawn_as_shares_of_each():
    alone, both = histogram([0, 4, 4], 0, 1, "n", "dB"), histogram([0, 4, 4], 0, 1, "n", "dB", [1, 0, 0])
    assert [t for t, _ in Page(alone).tags].count("rect") == 2
    assert "polyline" not in alone
    tallest = [float(a["height"]) for t, a in Page(both).tags if t == "rect"]
    assert tallest == [35.0, 35.0]  # half as high as the other set's only bin
