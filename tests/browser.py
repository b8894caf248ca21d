"""Pages in a real browser: fixtures that open a file in headless Chromium and record what it asks for and complains of.

The browser is the system's own, driven by Playwright. Without one these tests are left out, except where
``EVENLY_BROWSER=required`` says that they must not be.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserType, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = "no Chromium: `apt-get install chromium`, or `.venv/bin/playwright install chromium`, or any Chrome on PATH"


@dataclass(frozen=True)
class Opened:
    """A page, and what it did so far.

    Attributes:
        page: Playwright's page.
        errors: Messages of level error on the console (refusals of the content policy too), uncaught exceptions.
        requests: Addresses asked for, the opened document itself and ``data:`` addresses left out.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def axe(self) -> list[str]:
        """Findings of axe-core of impact serious or critical, one line each; empty is good."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['impact']} {one['id']}: {one['help']}: {node['target']} {node['html'][:120]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def overflow(self) -> int:
        """CSS pixels by which the document is wider than its window; 0 is good."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def executable(chromium: BrowserType) -> str | None:
    """The system's Chromium, or the one that ``playwright install chromium`` downloaded."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    own = Path(chromium.executable_path)
    return found or (str(own) if own.is_file() else None)


@cache
def no_browser() -> str | None:
    """Why pages cannot be opened here, and what to do about it."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "playwright is not installed: `make setup`"
    if any(map(shutil.which, NAMES)):
        return None
    with sync_playwright() as playwright:
        return None if executable(playwright.chromium) else MISSING


def absent(reason: str) -> None:
    """Skips, or fails where browsers are required."""
    if os.environ.get("EVENLY_BROWSER") == "required":
        pytest.fail(f"EVENLY_BROWSER=required, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One headless Chromium for the tests of a file.

    Not one for the whole session: as long as Playwright runs, nothing else in the process can use asyncio.run.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed: `make setup`")
    with sync_playwright() as playwright:
        path = executable(playwright.chromium)
        if path is None:
            absent(MISSING)
        # a container's root cannot use the sandbox; the pages opened here are this repository's own
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """A function that opens a file: ``opened(path, fragment="", dark=False, width=1280, height=900)``.

    Every call has a context of its own, without network; all are closed after the test.
    """
    with ExitStack() as contexts:

        def go(
            path: str | os.PathLike[str],
            *,
            fragment: str = "",
            dark: bool = False,
            width: int = 1280,
            height: int = 900,
            **options: Any,
        ) -> Opened:
            context = browser.new_context(
                color_scheme="dark" if dark else "light",
                viewport={"width": width, "height": height},
                offline=True,
                **options,
            )
            contexts.callback(context.close)
            # the clicks and keys of a test find what they look for at once, or not at all
            context.set_default_timeout(5_000)
            seen = Opened(context.new_page())
            address = Path(path).resolve().as_uri()

            def asked(url: str) -> None:
                if url.partition("#")[0] != address and not url.startswith("data:"):
                    seen.requests.append(url)

            context.on("request", lambda request: asked(request.url))
            context.on("console", lambda line: seen.errors.append(line.text) if line.type == "error" else None)
            context.on("weberror", lambda error: seen.errors.append(str(error.error)))
            seen.page.goto(address + (f"#{fragment}" if fragment else ""))
            return seen

        yield go
