"""What the explorer makes of files: real reports are read, everything else gives one line."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from nodes import node
from torch import nn

import evenly
from evenly.explore import page

WEB = Path(__file__).parents[2] / "web"


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    path.write_text(page(), encoding="utf-8")
    return path


def opened(html: Path, folder: Path, *contents: str | bytes) -> list[dict[str, Any]]:
    paths = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(str(path))
    command = [node(), str(WEB / "check_reports.mjs"), str(html), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def report_of(model: nn.Module, *shape: int) -> str:
    return evenly.check(model, torch.zeros(*shape)).to_json()


def test_real_reports_are_read(html, tmp_path):
    grown = nn.Sequential(nn.ConvTranspose2d(4, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 1, stride=2))
    sound = nn.Sequential(nn.ConvTranspose1d(2, 2, 8, 4, 2), nn.ConvTranspose1d(2, 1, 2, 4))
    texts = [report_of(grown, 1, 4, 8, 8), report_of(sound, 1, 2, 32)]
    for found, text in zip(opened(html, tmp_path, *texts), texts, strict=True):
        report, original = found["report"], json.loads(text)
        assert report["source"] == original["model"]["source"]
        assert len(report["layers"]) == len(original["layers"])
        for layer, given in zip(report["layers"], original["layers"], strict=True):
            assert (layer["name"], layer["op"], layer["role"]) == (given["name"], given["op"], given["role"])
            assert (layer["period"], layer["unevenness"]) == (given["period"], given["unevenness"])
            assert layer["ripple"] == given["ripple"]
        assert [f["code"] for f in report["findings"]] == [f["code"] for f in original["findings"]]
        assert report["outputs"][0]["acFraction"] == original["outputs"][0]["expected_ac_fraction"]
    first, second = (json.loads(text)["layers"] for text in texts)
    assert second[1]["unevenness"] == "inf"  # holes: a kernel shorter than its stride
    assert first[0]["unevenness"] == 4


def changed(**fields: Any) -> str:
    """A small report that is right but for some fields."""
    right: dict[str, Any] = {
        "format_version": 1,
        "tool": {"name": "evenly", "version": "0.1.0"},
        "model": {"source": "Net", "weights": "actual"},
        **{name: [] for name in ("layers", "outputs", "inputs", "findings", "notes")},
    }
    return json.dumps({**right, **fields})


def test_broken_files_give_one_line(html, tmp_path):
    broken = {
        "": "not JSON",
        "{": "not JSON",
        "[1, 2]": "not an object",
        "null": "not an object",
        "{}": "format_version is missing",
        changed(format_version=2): "format_version is 2",
        changed(format_version={"a": "\n" * 5}): "format_version is",
        changed(images=[]): "evenly measure",
        changed(model=3): "“model” is not an object",
        changed(layers={}): "“layers” is not a list",
        changed(layers=[3]): "Layer 0 is not an object",
        changed(outputs=[None]): "Output 0 is not an object",
        changed(findings="x"): "“findings” is not a list",
        changed(layers=[{}] * 20001): "20001 entries",
        "[" * 100_000: "not JSON",
    }
    answers = opened(html, tmp_path, *broken)
    for (content, words), answer in zip(broken.items(), answers, strict=True):
        assert answer.get("kind") == "NotAReport", (content[:60], answer)
        assert words in answer["error"]
        assert "\n" not in answer["error"]
        assert len(answer["error"]) < 160
    (answer,) = opened(html, tmp_path, b"\xff\xfe\x00\x01\x80")
    assert answer["kind"] == "NotAReport"


def test_hostile_values_do_no_harm(html, tmp_path):
    name = "<img src=x onerror=alert(1)>\u202egnp.exe\x00\n" + "a" * 5000
    layer = {
        "name": name,
        "op": ["conv"],
        "role": "javascript:alert(1)",
        "kernel": [{"toString": 1}],
        "stride": [1e308, -1],
        "period": -4,
        "unevenness": "1e999",
        "ripple": {},
        "removed_by": 7,
        "__proto__": {"role": "creates"},
    }
    (answer,) = opened(
        html, tmp_path, changed(layers=[layer], outputs=[{"response_db": {"2": "loud"}, "period": [2] * 9}])
    )
    (read,) = answer["report"]["layers"]
    assert read["role"] == "unknown"
    assert read["op"] == "unknown"
    assert read["period"] is read["unevenness"] is read["ripple"] is read["removedBy"] is None
    assert read["name"].startswith("<img src=x onerror=alert(1)>")  # text, and shown as text
    assert len(read["name"]) <= 2001
    assert not set(read["name"]) & set("\u202e\x00\n")
    assert answer["report"]["outputs"][0]["response"] == [["2", None]]
    assert answer["report"]["outputs"][0]["period"] is None


def test_the_page_never_parses_html():
    sources = "".join(path.read_text(encoding="utf-8") for path in (WEB / "src").rglob("*.ts"))
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "srcdoc", "eval("):
        assert word not in sources
    assert "textContent" in sources


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-4, abs=1e-6)
    return a == b or (isinstance(a, str) and isinstance(b, str) and len(a.split()) == len(b.split()))


def test_the_example_is_what_evenly_says(html, tmp_path):
    spec = importlib.util.spec_from_file_location("make_example", WEB / "make_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (WEB / "src" / "example.json").read_text(encoding="utf-8")
    now, before = json.loads(module.text()), json.loads(written)
    assert alike(now, before), "run `python web/make_example.py`, then `make web`"
    assert {layer["role"] for layer in before["layers"]} >= {"creates", "removes", "passes"}
    (answer,) = opened(html, tmp_path, written)
    assert answer["report"]["layers"][0]["removedBy"] == "smooth"
