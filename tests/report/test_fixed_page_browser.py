"""The page of a repair in a real browser: by keyboard, without errors or requests, for everybody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import attributed_samples
import fixed_cases as cases
import pytest

from evenly.report import render_attributed
from evenly.report.fixed import render_fix


def full() -> str:
    sound = replace(cases.samples(1, 1, 16, 1), output="sound")
    report = cases.report(samples=(cases.samples(size=32), sound), attribution=attributed_samples.ordinary())
    return render_fix(report, "html")


PAGES = {
    "full": full,
    "hostile": lambda: render_fix(cases.hostile(), "html"),
    "attributed-hostile": lambda: render_attributed(attributed_samples.hostile(cases.HOSTILE), "html"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    for name, write in PAGES.items():
        (made / f"{name}.html").write_text(write(), encoding="utf-8")
    return made


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 390)], ids=["light", "dark-phone"])
def test_pages_ask_for_nothing_and_are_for_everybody(opened, folder, name, dark, width):
    seen = opened(folder / f"{name}.html", dark=dark, width=width)
    assert seen.axe() == []
    assert seen.overflow() == 0
    assert (seen.errors, seen.requests) == ([], [])


def test_the_slider_is_moved_by_keyboard(opened, folder):
    seen = opened(folder / "full.html")
    slider = seen.page.get_by_role("slider").first
    before = seen.page.locator(".before .view").first

    def cut() -> str:
        return before.evaluate("e => e.style.clipPath")

    assert cut().startswith("inset(0px 50% 0px 0px")
    slider.focus()
    for _ in range(5):
        seen.page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "55 % before"
    assert cut().startswith("inset(0px 45% 0px 0px")
    seen.page.keyboard.press("Home")
    assert cut().startswith("inset(0px 100% 0px 0px")
    assert seen.errors == []


def test_drawings_are_made_for_screens_and_for_phones(opened, folder):
    for width, wanted in ((1280, "wide"), (390, "narrow")):
        seen = opened(folder / "full.html", width=width)
        shown = seen.page.evaluate(
            "[...document.querySelectorAll('.wide, .narrow')].filter(e => e.offsetParent).map(e => e.className)"
        )
        assert len(shown) > 5
        assert set(shown) == {wanted}
        letters = seen.page.evaluate(
            "[...document.querySelectorAll('.narrow svg, .wide svg')].filter(e => e.getBoundingClientRect().width)"
            ".map(e => 11 * e.getBoundingClientRect().width / e.viewBox.baseVal.width)"
        )
        assert min(letters) > 10  # CSS pixels of their letters


def test_hostile_names_run_nothing(opened, folder):
    seen = opened(folder / "hostile.html")
    assert seen.page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert seen.page.locator("h1").inner_text().endswith("41.2 dB PSNR to the original output")
    assert seen.errors == []
