"""Where node is: on PATH, or the one that Playwright brings along: the page's script runs without further programs."""

from __future__ import annotations

import shutil

import pytest


def node() -> str:
    """Path of node; skips the test without one."""
    found = shutil.which("node")
    if found is None:
        try:
            from playwright._impl._driver import compute_driver_executable
        except ImportError:
            pytest.skip("neither node nor playwright is installed: the page's script is not run (`make setup`)")
        found = str(compute_driver_executable()[0])
    return found
