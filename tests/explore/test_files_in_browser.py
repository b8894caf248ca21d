"""Files and access in a browser: reports good, broken and hostile; the content policy; axe-core; phones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import evenly
from evenly.explore import page

ATTACKS = (
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload='window.hacked = 1'>",
    "</script><script>window.hacked = 1</script>",
    "javascript:window.hacked=1",
    "<style>*{background:url(http://127.0.0.1:9/leak)}</style>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'>",
    "\u202egnp.exe\u0000\n",
)


@pytest.fixture(scope="module")
def report() -> str:
    model = nn.Sequential(
        nn.ConvTranspose2d(2, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1)
    )
    return evenly.check(model, torch.zeros(1, 2, 8, 8)).to_json()


@pytest.fixture(scope="module")
def hostile(report) -> str:
    """The report with an attack in every text."""
    attacks = iter(ATTACKS * 1000)

    def poisoned(value):
        if isinstance(value, dict):
            return {key: poisoned(one) for key, one in value.items()}
        if isinstance(value, list):
            return [poisoned(one) for one in value]
        return next(attacks) + value if isinstance(value, str) else value

    found = poisoned(json.loads(report))
    found["layers"][0]["__proto__"] = {"role": ATTACKS[0]}
    found["layers"] += [{"name": attack, "op": attack, "note": attack, "role": attack} for attack in ATTACKS]
    found["findings"] += [
        {"code": attack, "severity": attack, "layer": ATTACKS[0], "message": attack, "fix": attack}
        for attack in ATTACKS
    ]
    return json.dumps(found)


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    path.write_text(page(), encoding="utf-8")
    return path


def choose(page, content: str | bytes, name: str = "report.json") -> None:
    data = content if isinstance(content, bytes) else content.encode()
    page.locator("#network-file").set_input_files({"name": name, "mimeType": "application/json", "buffer": data})


def drop(page, content: str, where: str) -> None:
    files = page.evaluate_handle(
        """(content) => {
          const files = new DataTransfer();
          files.items.add(new File([content], "report.json", { type: "application/json" }));
          return files;
        }""",
        content,
    )
    for event in ("dragenter", "dragover", "drop"):
        page.locator(where).dispatch_event(event, {"dataTransfer": files})


def names(page) -> list[str]:
    page.locator("#network .entry").first.wait_for()
    return page.locator("#network .entry b").all_inner_texts()


def test_a_report_is_dropped_or_chosen(opened, html, report):
    seen = opened(html)
    original = json.loads(report)
    layers = [layer["name"] for layer in original["layers"]]
    drop(seen.page, report, "#network .drop")
    assert names(seen.page) == layers
    shown = seen.page.locator("#network .body").inner_text()
    assert f"{len(original['findings'])} findings" in shown
    seen.page.locator("#network select").select_option("findings")
    assert set(names(seen.page)) == {finding["layer"] for finding in original["findings"]} & set(layers)
    for entry in seen.page.locator("#network .entry").all():
        entry.click()
        name = entry.locator("b").inner_text()
        told = seen.page.locator("#network .card").last.inner_text()
        for finding in original["findings"]:
            assert (finding["layer"] == name) == (finding["message"] in told)
    choose(seen.page, report)
    assert (seen.errors, seen.requests) == ([], [])


def test_a_file_that_misses_its_place_is_not_opened(opened, html, report):
    seen = opened(html)
    drop(seen.page, report, "#kernel")
    seen.page.wait_for_timeout(100)
    assert seen.page.url == html.as_uri()
    assert seen.page.locator("#network .entry").count() == 0
    assert (seen.errors, seen.requests) == ([], [])


def test_broken_files_say_so_in_one_line(opened, html, report):
    seen = opened(html)
    broken = {
        "{": "not JSON",
        b"\xff\xfe\x00": "not JSON",
        "[]": "not an object",
        "{}": "format_version is missing",
        report.replace('"format_version": 1', '"format_version": 9'): "expected 1",
        json.dumps({"format_version": 1, "images": []}): "evenly measure",
        "[" * 200_000: "not JSON",
    }
    for content, words in broken.items():
        choose(seen.page, report)
        assert names(seen.page)
        choose(seen.page, content)
        alarm = seen.page.locator("#network [role=alert]")
        alarm.wait_for()
        assert words in alarm.inner_text()
        assert "\n" not in alarm.inner_text()
        assert seen.page.locator("#network .entry").count() == 0  # nothing is left of the report before
    assert (seen.errors, seen.requests) == ([], [])


def harmless(seen) -> None:
    assert seen.page.evaluate("window.hacked") is None
    assert seen.page.evaluate("({}).role") is None
    for tag in ("img", "iframe", "#network style", "#network script", "[onerror]", "[onload]"):
        assert seen.page.locator(tag).count() == 0
    assert (seen.errors, seen.requests) == ([], [])


def test_hostile_files_are_shown_as_text(opened, html, hostile):
    seen = opened(html)
    drop(seen.page, hostile, "#network .drop")
    found = names(seen.page)
    assert sum("<img src=x onerror=" in name for name in found) >= 1
    assert not any("\u202e" in name for name in found)
    for value in ("pattern", "findings", "all"):
        seen.page.locator("#network select").select_option(value)
        for entry in seen.page.locator("#network .entry").all():
            entry.click()
    harmless(seen)


def test_a_hostile_report_inside_the_page_is_shown_as_text(opened, tmp_path, hostile):
    path = tmp_path / "page.html"
    path.write_text(page(hostile), encoding="utf-8")
    seen = opened(path)
    assert names(seen.page)
    harmless(seen)


def test_the_content_policy_holds(opened, html):
    seen = opened(html)
    attempts = {
        "inline script": """() => {
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1";
          document.body.append(script);
        }""",
        "handler": """() => {
          const button = document.createElement("button");
          button.setAttribute("onclick", "window.hacked = 1");
          document.body.append(button);
          button.click();
        }""",
        "eval": "() => { setTimeout('window.hacked = 1'); }",
        "style": """() => {
          document.body.append(Object.assign(document.createElement("style"), { textContent: "* {}" }));
        }""",
        "picture": "() => { new Image().src = 'http://127.0.0.1:9/leak.png'; }",
        "request": "() => { fetch('http://127.0.0.1:9/leak').catch(() => {}); }",
        "frame": """() => {
          document.body.append(Object.assign(document.createElement("iframe"), { src: "http://127.0.0.1:9/" }));
        }""",
        "base": """() => {
          document.head.append(Object.assign(document.createElement("base"), { href: "http://127.0.0.1:9/" }));
        }""",
    }
    for name, attempt in attempts.items():
        before = len(seen.errors)
        seen.page.evaluate(attempt)
        for _ in range(100):
            if len(seen.errors) > before:
                break
            seen.page.wait_for_timeout(20)
        assert len(seen.errors) > before, f"{name} was not refused"
        assert "Content Security Policy" in seen.errors[-1], name
    assert seen.page.evaluate("window.hacked") is None


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_keeps_people_out(opened, html, report, dark, width):
    seen = opened(html, dark=dark, width=width)
    choose(seen.page, report)
    assert names(seen.page)
    assert seen.axe() == []
    choose(seen.page, "{")
    seen.page.locator("#stacks .layer input").first.fill("16")
    for _ in range(4):
        seen.page.locator("#stacks button", has_text="Add a layer").click()
    seen.page.locator("#kernel button", has_text="holes").click()
    assert seen.axe() == []


WIDEST = """async (panels) => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const root = document.documentElement;
  const wide = [];
  const look = async (name) => {
    await frame();
    if (root.scrollWidth > root.clientWidth) wide.push(name);
  };
  for (const slider of document.querySelectorAll("input[type=range]")) {
    slider.value = slider.max;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }
  await look("all sliders at their ends");
  for (const panel of panels) {
    for (const button of document.querySelectorAll(`#${panel} .row button`)) {
      button.click();
      await look(`${panel}: ${button.textContent}`);
    }
  }
  return wide;
}"""
# what is smaller than 24 CSS pixels to touch or click: WCAG 2.2, success criterion 2.5.8
SMALL = """() => [...document.querySelectorAll("button, select, input, .contents a")].filter((one) => {
  const { width, height } = one.getBoundingClientRect();
  return width > 0 && Math.min(width, height) < 24;
}).map((one) => one.outerHTML)"""


@pytest.mark.parametrize("width", [320, 360, 768])
def test_nothing_is_wider_than_the_window(opened, html, report, width):
    seen = opened(html, width=width, height=740)
    choose(seen.page, report)
    assert names(seen.page)
    assert seen.overflow() == 0
    assert seen.page.evaluate(WIDEST, ["stacks", "gradients", "learned", "kernel"]) == []
    assert seen.page.evaluate(SMALL) == []
    assert (seen.errors, seen.requests) == ([], [])
