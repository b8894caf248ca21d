"""The recorders of tests/browser.py: a page that misbehaves is seen to."""

from __future__ import annotations

import pytest

import browser as browsers

BAD = """<!doctype html><html lang="en"><head><title>bad</title>
<meta http-equiv="Content-Security-Policy" content="script-src 'unsafe-inline'; img-src http:">
<style>.wide { width: 2000px } .pale { color: #aaa; background: #fff }</style></head>
<body><main><h1>Bad</h1><p class="pale">pale</p><div class="wide">wide</div><input type="text"></main>
<img alt="" src="http://127.0.0.1:9/beacon.png">
<script>console.error("said"); console.log("fine"); setTimeout(() => { throw new Error("thrown") }); eval("1")</script>
</body></html>"""
GOOD = """<!doctype html><html lang="en"><head><title>good</title></head>
<body><main><h1>Good</h1><img alt="" src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></main></body></html>"""


def test_what_a_bad_page_does_is_recorded(opened, tmp_path):
    (tmp_path / "bad.html").write_text(BAD, encoding="utf-8")
    bad = opened(tmp_path / "bad.html", width=800)
    bad.page.wait_for_timeout(100)
    words = "\n".join(bad.errors)
    assert "said" in words
    assert "fine" not in words
    assert "thrown" in words
    assert "unsafe-eval" in words  # the content policy
    assert bad.requests == ["http://127.0.0.1:9/beacon.png"]
    assert {line.split()[1] for line in bad.axe()} == {"color-contrast:", "label:"}
    assert bad.overflow() > 1000


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_recorded_of_a_good_page(opened, tmp_path, dark):
    (tmp_path / "good.html").write_text(GOOD, encoding="utf-8")
    good = opened(tmp_path / "good.html", dark=dark, fragment="there")
    assert good.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    assert (good.errors, good.requests, good.axe(), good.overflow()) == ([], [], [], 0)


def test_without_a_browser_tests_are_skipped_or_fail(monkeypatch):
    monkeypatch.delenv("EVENLY_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install chromium"):
        browsers.absent(browsers.MISSING)
    monkeypatch.setenv("EVENLY_BROWSER", "required")
    with pytest.raises(pytest.fail.Exception, match="required, but no Chromium"):
        browsers.absent(browsers.MISSING)


def test_the_browser_is_looked_for_on_the_path(monkeypatch, tmp_path):
    class Chromium:
        executable_path = str(tmp_path / "downloaded")

    monkeypatch.setattr("shutil.which", {"google-chrome": "/there/chrome"}.get)
    assert browsers.executable(Chromium()) == "/there/chrome"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert browsers.executable(Chromium()) is None
    (tmp_path / "downloaded").touch()
    assert browsers.executable(Chromium()) == Chromium.executable_path
