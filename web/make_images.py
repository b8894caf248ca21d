"""Photograph every panel of the shipped page into docs/images/explore-*.png, with few colours so that files stay small.

    python web/make_images.py

Needs a Chromium (see CONTRIBUTING.md). Look at the pictures before they are committed.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import MISSING, executable  # noqa: E402

PAGE = ROOT / "src" / "evenly" / "explore" / "page.html"
IMAGES = ROOT / "docs" / "images"
COLOURS = 128
# panel: its state, buttons to press, dark or light, and how much of its height is shown
PANELS: dict[str, tuple[str, tuple[str, ...], bool, int]] = {
    "kernel": ("kernel?k=3&s=2&n=7&w=1,2,3&x=steps", (), False, 780),
    "planes": ("planes?k=3&s=2&n=6", (), False, 1000),
    "stacks": ("", ("improved GAN",), False, 1160),
    "matrices": ("matrices?k=4&s=2&n=4&mode=linear&seed=14", (), False, 760),
    "learned": ("learned?k=4&s=2&c=60&w=0.35,1.1,0.8,0.25", (), False, 980),
    "gradients": ("", ("ResNet stem",), True, 1000),
    "network": ("", ("Open an example",), False, 900),
}


def photograph(page: Page, panel: str) -> Image.Image:
    """A panel without what sticks to the window."""
    fragment, buttons, dark, most = PANELS[panel]
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.goto("about:blank")
    page.goto(PAGE.as_uri() + (f"#{fragment}" if fragment else ""))
    page.wait_for_timeout(300)
    for label in buttons:
        page.locator(f"#{panel} button", has_text=label).first.click()
    page.evaluate("(panel) => document.querySelector(`#${panel} h2`).scrollIntoView()", panel)
    # own styles of the page go through its policy, elements' properties do not need to
    page.evaluate("() => { document.querySelector('.contents').style.position = 'static'; }")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    box = page.locator(f"#{panel}").bounding_box()
    if box is None:
        raise RuntimeError(f"{panel} is not on the page")
    top = box["y"] + page.evaluate("scrollY") + 20
    clip = {"x": box["x"] - 12, "y": top, "width": box["width"] + 24, "height": min(box["height"] - 40, most)}
    return Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True))).convert("RGB")


def main() -> None:
    """Write all pictures."""
    with sync_playwright() as playwright:
        path = executable(playwright.chromium)
        if path is None:
            sys.exit(f"error: {MISSING}")
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = running.new_page(viewport={"width": 1080, "height": 1000})
        for panel in PANELS:
            target = IMAGES / f"explore-{panel}.png"
            few = photograph(page, panel).quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE)
            few.save(target, optimize=True)
            print(f"{target.relative_to(ROOT)}: {few.width} x {few.height}, {target.stat().st_size / 1000:.0f} kB")
        running.close()


if __name__ == "__main__":
    main()
