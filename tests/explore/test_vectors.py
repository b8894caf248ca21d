"""The functions of the page say what evenly.theory says, on more than a thousand drawn parameters."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nodes import node

from evenly.explore import page

WEB = Path(__file__).parents[2] / "web"


def written() -> dict[str, list[dict[str, Any]]]:
    return json.loads((WEB / "vectors.json").read_text(encoding="utf-8"))


def made() -> dict[str, list[dict[str, Any]]]:
    spec = importlib.util.spec_from_file_location("make_vectors", WEB / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return json.loads(module.text(module.vectors()))


def agree(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(agree(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(agree, a, b))
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, int | float) and isinstance(b, int | float) and b == pytest.approx(a, rel=1e-8, abs=1e-10)
    return a == b


def test_the_vectors_are_what_python_says():
    now, file = made(), written()
    assert now.keys() == file.keys()
    for family, cases in now.items():
        assert len(cases) == len(file[family])
        wrong = [i for i, (a, b) in enumerate(zip(cases, file[family], strict=True)) if not agree(a, b)]
        assert not wrong, f"{family} {wrong[:5]}: run `python web/make_vectors.py`"


def test_there_are_a_thousand_vectors_and_they_differ():
    file = written()
    assert sum(map(len, file.values())) >= 1000
    for family, cases in file.items():
        assert len({json.dumps(case) for case in cases}) > 0.7 * len(cases), family


def check(html: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node(), str(WEB / "check_vectors.mjs"), str(html)], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_page_agrees_with_the_vectors(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page(), encoding="utf-8")
    done = check(path)
    assert done.returncode == 0, done.stdout + done.stderr
    count = int(re.search(r"(\d+) cases, 0 differences", done.stdout).group(1))
    assert count == sum(map(len, written().values()))


def test_the_comparison_sees_a_wrong_function(tmp_path):
    html = page()
    wrong = re.sub(r"\bacos\b", "asin", html)  # the closed form of ReLU
    assert wrong != html
    path = tmp_path / "page.html"
    path.write_text(wrong, encoding="utf-8")
    done = check(path)
    assert done.returncode == 1
    assert "stack[" in done.stdout
