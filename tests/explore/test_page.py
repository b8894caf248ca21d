"""The shipped page is the build of web/, loads nothing, and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from nodes import node

from evenly.explore import page

WEB = Path(__file__).parents[2] / "web"
PANELS = (
    "Kernel and stride",
    "Two dimensions",
    "Stacks",
    "Matrices",
    "Learned weights",
    "Gradients",
    "Your network",
)
# Attributes that make a browser fetch something.
LOADING = {"src", "srcset", "poster", "data", "action", "formaction", "background", "ping", "manifest"}


class Reader(HTMLParser):
    """Elements with their attributes, and the text of headings, scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag in ("h1", "h2", "script", "style", "title"):
            self.open.append(tag)
            self.texts.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, text = self.texts[-1]
            self.texts[-1] = (tag, text + data)

    def metas(self, key: str) -> dict[str, str]:
        return {a[key]: a.get("content", "") for tag, a in self.elements if tag == "meta" and key in a}


@pytest.fixture(scope="module")
def html() -> str:
    return page()


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    return Reader(html)


def sources_digest() -> str:
    """As web/vite.config.ts computes it: every source's path and bytes, in order of the paths."""
    single = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"]
    names = sorted([*single, *(p.relative_to(WEB).as_posix() for p in (WEB / "src").rglob("*") if p.is_file())])
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    return digest.hexdigest()


def test_the_page_is_the_build_of_its_sources(read):
    assert read.metas("name")["sources"] == f"sha256-{sources_digest()}", "run `make web`"


def test_building_again_gives_the_page(html, tmp_path):
    vite = WEB / "node_modules" / "vite" / "bin" / "vite.js"
    if not vite.is_file():
        pytest.skip("the explorer's tools are not installed: it is not built again (`npm --prefix web ci`)")
    command = [node(), str(vite), "build", str(WEB), "--outDir", str(tmp_path), "--logLevel", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    built = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert built == html, "run `make web`"


def test_every_panel_is_in_the_document(read):
    assert tuple(text.strip() for tag, text in read.texts if tag == "h2") == PANELS
    assert [tag for tag, _ in read.elements].count("h1") == 1


def test_the_page_loads_nothing(read):
    loads = [
        (tag, key, value)
        for tag, attributes in read.elements
        for key, value in attributes.items()
        if (key in LOADING or (tag == "link" and key == "href")) and not value.startswith("data:")
    ]
    assert loads == []
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"iframe", "object", "embed", "base", "img", "video", "audio", "form"}
    styles = "".join(text for tag, text in read.texts if tag == "style")
    assert not re.search(r"@import|url\((?!\s*[\"']?(?:data:|#))", styles)


def test_nothing_in_the_script_asks_a_host(read):
    script = "".join(text for tag, text in read.texts if tag == "script")
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|\bimport\(", script)
    assert not re.search(r"\beval\(|new Function\(|\.innerHTML\s*=|insertAdjacentHTML|document\.write", script)


def test_only_the_pages_own_script_and_styles_may_run(read):
    policy = dict(part.split(" ", 1) for part in read.metas("http-equiv")["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert set(policy) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert policy["img-src"] == "data:"
    for tag, source in (("script", "script-src"), ("style", "style-src")):
        hashes = [
            "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
            for found, text in read.texts
            if found == tag
        ]
        assert len(hashes) == 1
        assert policy[source] == hashes[0]
    # inline handlers and style attributes would be refused by the policy: there are none
    assert not [k for _, a in read.elements for k in a if k.startswith("on") or k == "style"]


def test_the_page_is_small(html):
    assert 50_000 < len(html.encode()) < 600_000


def test_the_lock_records_no_addresses():
    text = (WEB / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in entry for name, entry in packages.items() if name)
    assert {"node_modules/vite", "node_modules/vite-plugin-singlefile", "node_modules/d3"} <= set(packages)
