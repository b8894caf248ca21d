"""The report pages in a real browser: nothing is asked for, nothing fails, everybody can use them."""

from __future__ import annotations

import json
from contextlib import closing

import measured_samples
import numpy as np
import pytest
import report_samples
from test_pages import board

from evenly.measure.image import measure_image
from evenly.report import Measured, open_measured, render
from evenly.report.page.parts import Section
from evenly.report.page.pixels import Picture, before_after, magnified
from evenly.report.page.plots import Mark, bar, cell, curve, histogram, legend, plane
from evenly.report.page.shell import document


def measured(only=None, kind="image", *, against=False) -> str:
    records = [(only or measured_samples.strong()).to_dict(), measured_samples.clean().to_dict()]
    compared = (measured_samples.together(against=True), "real", measured_samples.comparison()) if against else ()
    result = Measured("made", kind, measured_samples.together(failed=1), *compared, only=only)
    with closing(open_measured("html")) as writer:
        for record in records:
            writer.add(record)
        return "".join(writer.parts(result))


def kit() -> str:
    """Everything that other pages are made of."""
    wave = np.sin(np.linspace(0, 30, 500))
    old, new = board(), board()[::-1]
    pictures = [Picture(old, "before", "a board"), Picture(np.ascontiguousarray(new), "after", "another")]
    drawings = [
        *(bar(0.3), cell(wave[:16].reshape(4, 4), "cell", copies=2), legend("0", "1")),
        plane(np.abs(np.resize(wave, (32, 32))), "plane", [Mark(0.5, 0.25, "line", n) for n in range(5)], 1.0),
        curve(np.arange(500.0), wave, "curve", names=("x", "y"), marks=[Mark(100, None, "there")]),
        histogram([1, 5, 2], 0, 1, "histogram", "dB"),
    ]
    return document(
        command="evenly fix",
        subject="model.onnx",
        verdict=("good", "Even"),
        lead="Words.",
        sections=[
            Section("pictures", "Pictures", [magnified(pictures), before_after(*pictures, "output")]),
            Section("drawings", "Drawings", drawings),
        ],
        data='{"text": "</script><script>window.broken = 1</script>"}',
        file="fix.json",
    )


PAGES = {
    "check": lambda: render(report_samples.ordinary(), "html"),
    "hostile": lambda: render(report_samples.hostile(), "html"),
    "picture": lambda: measured(measure_image(board(), path="a.png", keep=True)),
    "sound": lambda: measured(measured_samples.sound(), "audio"),
    "set": lambda: measured(against=True),
    "kit": kit,
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_quiet_and_accessible(name, opened, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGES[name](), encoding="utf-8")
    for dark, width in ((False, 1280), (True, 390)):
        seen = opened(path, dark=dark, width=width)
        seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        seen.page.wait_for_timeout(100)
        assert (seen.errors, seen.requests) == ([], [])
        assert seen.axe() == []
        assert seen.overflow() <= 0
        assert seen.page.evaluate("window.broken === undefined")


def test_the_magnifier_follows_pointer_and_keys(opened, tmp_path):
    path = tmp_path / "kit.html"
    path.write_text(kit(), encoding="utf-8")
    page = opened(path).page
    boxes = "[...document.querySelectorAll('.box')].map(b => [b.style.left, b.style.top])"
    lenses = page.locator("canvas.lens")
    assert lenses.count() == 2
    start = page.evaluate(boxes)
    assert start[0] == start[1]
    lenses.nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    moved = page.evaluate(boxes)
    assert moved[0] == moved[1]
    factor = int(page.locator(".magnified img").first.get_attribute("data-factor"))
    shift = [float(a.removesuffix("px")) - float(b.removesuffix("px")) for a, b in zip(moved[0], start[0], strict=True)]
    assert shift == [factor, -factor]
    page.locator(".magnified img").first.hover(position={"x": 1, "y": 1})
    assert page.evaluate(boxes)[1] == ["0px", "0px"]
    # each cell of the lens is one pixel of the picture
    cell = page.evaluate("document.querySelector('canvas.lens').width / 24")
    shown = page.evaluate(
        "c => [...document.querySelector('canvas.lens').getContext('2d').getImageData(c * 1.5, c * 2.5, 1, 1).data]",
        cell,
    )
    assert shown[:3] == board()[2, 1].tolist()


def test_the_slider_uncovers_what_comes_after(opened, tmp_path):
    path = tmp_path / "kit.html"
    path.write_text(kit(), encoding="utf-8")
    page = opened(path).page
    slider = page.locator(".compare input")
    cut = "document.querySelector('.before .view').style.clipPath"
    assert page.evaluate(cut) == "inset(0px 50% 0px 0px)"
    slider.focus()
    page.keyboard.press("Home")
    assert page.evaluate(cut) == "inset(0px 100% 0px 0px)"
    assert slider.get_attribute("aria-valuetext") == "0 % before"


def test_the_data_can_be_saved(opened, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGES["check"](), encoding="utf-8")
    page = opened(path, accept_downloads=True).page
    with page.expect_download() as download:
        page.get_by_role("button", name="Save evenly-check.json").click()
    assert download.value.suggested_filename == "evenly-check.json"
    saved = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert saved == report_samples.ordinary().to_dict()


def test_without_scripts_all_is_there(opened, tmp_path):
    path = tmp_path / "kit.html"
    path.write_text(kit(), encoding="utf-8")
    page = opened(path, java_script_enabled=False).page
    assert page.locator("button:visible").count() == 0
    before, after = (page.locator(f".compare .{side} img").bounding_box() for side in ("before", "after"))
    assert before["x"] + before["width"] <= after["x"] or before["y"] + before["height"] <= after["y"]
