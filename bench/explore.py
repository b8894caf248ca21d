"""Measure how long the explorer takes to draw a preset again and write the table ``bench/explore.md``.

    python bench/explore.py [--repeats 11] [--page FILE] [--markdown FILE]

A preset of the panels Stacks and Gradients is pressed in headless Chromium, as people press it. What counts is the time
of the page's own thread on its core (script, style and layout), so that other work on the machine matters little:

- *first*: on a page that has rested two seconds and never shown this preset: its script is hardly compiled;
- *again*: the median of many presses in turn with another preset, as while somebody tries things;
- *pictures*: drawn in the frames that follow, as many in each as fit; all of them together.

The target is 16 ms, the time between two frames at 60 Hz.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import MISSING, executable  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = ROOT / "src" / "evenly" / "explore" / "page.html"
TARGET = 16.0
PAGES = 5  # fresh ones for each preset
PANELS = {"stacks": "Stacks", "gradients": "Gradients"}
PRESS = """([panel, preset]) => {
  const buttons = [...document.querySelectorAll(`#${panel} .body > .row:first-child button`)];
  buttons.find((one) => one.textContent === preset).click();
  document.body.getBoundingClientRect();
}"""
REST = "(ms) => new Promise((done) => setTimeout(done, ms))"
OPENED, PRESSED = 2000, 400  # ms of rest: presets are computed ahead; links settle and pictures are drawn
Row = tuple[str, str, float, float, float]


class Watched:
    """A page of its own, with the counters of its thread."""

    def __init__(self, browser: Browser, path: Path) -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.goto(path.as_uri())
        self.page.evaluate(REST, OPENED)
        self.session = self.page.context.new_cdp_session(self.page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent(self) -> float:
        """Time of script, style and layout so far, in ms."""
        found = {one["name"]: one["value"] for one in self.session.send("Performance.getMetrics")["metrics"]}
        return 1e3 * float(found["ScriptDuration"] + found["LayoutDuration"] + found["RecalcStyleDuration"])

    def press(self, panel: str, preset: str) -> tuple[float, float]:
        """Time in ms: of the press, of the frames that follow."""
        begun = self.spent()
        self.page.evaluate(PRESS, [panel, preset])
        pressed = self.spent()
        self.page.evaluate(REST, PRESSED)
        return pressed - begun, self.spent() - pressed

    def presets(self, panel: str) -> list[str]:
        found: list[str] = self.page.locator(f"#{panel} .body > .row:first-child button").all_inner_texts()
        return found


def first(browser: Browser, path: Path, panel: str, preset: str, pages: int) -> float:
    """Median over fresh pages, in ms."""
    times = []
    for _ in range(pages):
        watched = Watched(browser, path)
        times.append(watched.press(panel, preset)[0])
        watched.page.close()
    return statistics.median(times)


def again(watched: Watched, panel: str, preset: str, other: str, repeats: int) -> tuple[float, float]:
    """Medians over presses in turn with another preset, in ms: the press, the pictures."""
    found = []
    for _ in range(repeats):
        watched.press(panel, other)
        found.append(watched.press(panel, preset))
    presses, pictures = zip(*found, strict=True)
    return statistics.median(presses), statistics.median(pictures)


def measured(browser: Browser, path: Path, repeats: int) -> list[Row]:
    watched = Watched(browser, path)
    rows = []
    for panel, title in PANELS.items():
        names = watched.presets(panel)
        for preset in names:
            other = names[0] if preset != names[0] else names[1]
            fresh = first(browser, path, panel, preset, PAGES)
            row = (title, preset, fresh, *again(watched, panel, preset, other, repeats))
            print(f"{title}, {preset}: " + ", ".join(f"{v:.1f}" for v in row[2:]) + " ms", flush=True)
            rows.append(row)
    return rows


def table(rows: list[Row], version: str, repeats: int) -> str:
    fresh, worst = max(row[2] for row in rows), max(row[3] for row in rows)
    met = "met" if max(fresh, worst) <= TARGET else "met again, not at first" if worst <= TARGET else "not met"
    lines = [
        "# Redraws of the explorer",
        "",
        "Written by `python bench/explore.py`; do not edit.",
        "",
        f"One core of {os.cpu_count()} ({platform.machine()}), headless Chromium {version} without a GPU, window 1280 "
        "x 900. Time of the page's thread for script, style and layout, medians in ms: *first* of "
        f"{PAGES} fresh pages, the others of {repeats} presses. *Pictures* are drawn in later frames, some ms in each. "
        f"Target: at most {TARGET:.0f} ms a press, one frame at 60 Hz. Largest: {fresh:.1f} ms at first, "
        f"{worst:.1f} ms again: {met}.",
        "",
        "| panel | preset | first (ms) | again (ms) | pictures (ms) |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [f"| {row[0]} | {row[1]} | {row[2]:.1f} | {row[3]:.1f} | {row[4]:.1f} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the explorer's redraws.")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--markdown", type=Path, default=ROOT / "bench" / "explore.md")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        path = executable(playwright.chromium)
        if path is None:
            sys.exit(f"error: {MISSING}")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        rows = measured(browser, options.page.resolve(), options.repeats)
        text = table(rows, browser.version, options.repeats)
        browser.close()
    options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
