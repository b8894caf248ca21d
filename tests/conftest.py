"""Hypothesis profiles: few repeatable draws for ``make test``, many for ``make prove``; tests that need a browser."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from browser import browser, no_browser, opened  # noqa: F401  (fixtures of every test)

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("reduced", max_examples=25, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("full", max_examples=400, deadline=None, suppress_health_check=QUIET)
settings.load_profile("full" if os.environ.get("EVENLY_PROVE") == "1" else "reduced")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of pages are left out as one where there is no browser, unless it is required."""
    reason = None if os.environ.get("EVENLY_BROWSER") == "required" else no_browser()
    if reason is not None:
        gone = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that says so, and how to get one."""
    reason = None if os.environ.get("EVENLY_BROWSER") == "required" else no_browser()
    if reason is not None:
        terminalreporter.write_line(f"tests of pages in a browser were left out: {reason}")
