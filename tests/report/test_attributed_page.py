"""The page of an attribution, and what a notebook shows of it."""

from __future__ import annotations

import json
from dataclasses import replace

import attributed_samples as samples
import pytest
from report_samples import HOSTILE
from test_pages import expect_safe

from evenly.fix.attributed import Attribution
from evenly.report import render_attributed
from evenly.report.attributed_page import headline

EVERY = {
    "ordinary": samples.ordinary,
    "clean": samples.clean,
    "backward": samples.backward,
    "hostile": lambda: samples.hostile(HOSTILE),
}


@pytest.mark.parametrize("name", EVERY)
def test_pages_are_safe_and_hold_the_json(name):
    found = EVERY[name]()
    html = render_attributed(found, "html")
    assert expect_safe(html).data == json.loads(found.to_json())
    assert html == render_attributed(found, "html")
    assert "\x1b" not in html


def test_a_page_ranks_the_layers_and_explains_the_sum():
    page = expect_safe(render_attributed(samples.ordinary(), "html"))
    for piece in (
        "Layer up.3 makes most of the lines of period 2",
        "Period 2: each layer made even alone",
        "fall of the lines, dB (95 % intervals)",
        "Alone they remove 119 % in sum, together 99 %",
        "between layers",
        "3 (75 %)",  # created, of what was found
        "0.75 (19 %)",  # passed on
        "No layer alone makes it fall for certain.",
        "What stands after the last layer adds 0.5.",
        "its weights are shared with up.3",
        "left out: a.png: too small",
    ):
        assert piece in page.text, piece
    labels = [attributes.get("aria-label") or "" for _, attributes in page.tags]
    assert any("up.3 29.5 dB; up.1 1.2 dB; all together 31.0 dB" in label for label in labels)
    assert any("up.3 +99 %; up.1 +20 %; between layers -20 %; all together +99 %" in label for label in labels)


def test_budgets_without_figures_are_left_out():
    text = expect_safe(render_attributed(samples.ordinary(), "html")).text
    assert text.count("arises behind this layer") == 1  # in the JSON only


def test_layers_that_are_not_certain_are_drawn_as_such():
    page = expect_safe(render_attributed(samples.ordinary(), "html"))
    labels = [attributes.get("aria-label") or "" for _, attributes in page.tags]
    fall = next(label for label in labels if label.startswith("Fall of the lines of period 4"))
    assert "up.3 0.0 dB, not certain" in fall


def test_errors_of_rounding_are_no_power():
    budget = samples.Budget(2, 1.0, residual=-6e-18, created=0.25)
    found = replace(samples.ordinary(), layers=(replace(samples.GUILTY, budgets={2: budget}),))
    page = expect_safe(render_attributed(found, "html"))
    assert "0.25 (25 %)" in page.text
    assert "-6e-18 (" not in page.text


def test_headlines():
    found = samples.ordinary()
    assert headline(samples.clean()) == "No line stands out"
    assert headline(found) == "Layer up.3 makes most of the lines of period 2"
    both = samples.GUILTY.effects | {4: samples.STRONG}
    alike = replace(found, layers=(replace(samples.GUILTY, effects=both),))
    assert headline(alike) == "Layer up.3 makes most of the lines of period 2, and 1 more line"
    none = replace(found, layers=(samples.EVEN,))
    assert headline(none) == "Lines of period 2 stand out, and no layer alone makes them"


def test_many_small_shares_are_summed_up():
    effect = samples.WEAK
    many = [replace(samples.MINOR, name=f"up.{n}", effects={2: replace(effect, removed=0.03)}) for n in range(30)]
    found: Attribution = replace(samples.ordinary(), layers=(*many, samples.GUILTY))
    page = expect_safe(render_attributed(found, "html"))
    labels = [attributes.get("aria-label") or "" for _, attributes in page.tags]
    shares = next(label for label in labels if label.startswith("Shares of the lines of period 2"))
    assert shares.count("+3 %") == 11
    assert "other layers +57 %" in shares


@pytest.mark.parametrize("name", EVERY)
def test_notebooks_get_tables_and_drawings_without_scripts(name):
    found = EVERY[name]()
    html = found._repr_html_()
    assert html.startswith("<div>")
    assert ("<svg" in html) is bool(found.present)
    for piece in ("<script", "style=", "\x1b", "onerror"):
        assert piece not in html
