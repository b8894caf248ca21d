"""The documentation is run: commands, Python examples, links.

A ``console`` block holds commands after ``$`` and, below each, lines of which every one must occur in the output, in
this order; ``...`` stands for anything. Commands run in a copy of the examples' folder with the networks built.
Commands of make are not run, but must be targets of the Makefile. A ``python`` block of a page runs after the ones
before it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evenly.check.rules import RULES
from evenly.report import View, render
from evenly.settings import load_settings

ROOT = Path(__file__).parent.parent
PAGES = [
    p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))) if p.is_file()
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that its output must hold."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip() and line.strip() != "...":
            assert found, f"output before any command: {line!r}"
            found[-1][1].append(line.strip())
    return found


STEPS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page, "console"))
]


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """The examples' folder, built, as after ``make demo``; the commands see it as their working directory."""
    pytest.importorskip("onnxscript")
    root = tmp_path_factory.mktemp("docs")
    folder = root / "examples"
    shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("out", "*.onnx", "__pycache__"))
    subprocess.run([sys.executable, "build.py"], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("block", STEPS)
def test_commands(block, examples):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    folder = examples
    for command, expected in commands(block):
        words = shlex.split(command, comments=True)
        if words[0] == "make":
            assert set(words[1:]) <= targets(), command
            continue
        if words[0] in ("git", "cd"):
            continue
        if any(w.startswith("examples") for w in words):
            folder = examples.parent
        assert words[0] in ("evenly", "python", ".venv/bin/evenly"), f"{command}: not a command that can be tested"
        if words[0] == "python":
            words[0] = sys.executable
        words[0] = words[0].removeprefix(".venv/bin/")
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        output = done.stdout + done.stderr
        assert "Traceback" not in output, output
        assert done.returncode == (2 if done.stderr.startswith("error:") else done.returncode & 1), output
        position = 0
        for line in expected:
            position = output.find(line, position)
            assert position >= 0, f"$ {command}\ndoes not show {line!r} (in this place); it shows\n{output}"
            position += len(line)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name != "rules.md" and blocks(p, "python")], ids=lambda p: p.name
)
def test_python_examples(page):
    pytest.importorskip("torch")
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


def test_rule_examples_do_what_they_say():
    """The layers that the rules propose are what they are said to be."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    names: dict[str, object] = {"torch": torch, "nn": nn}
    needs = {
        "EV107": {"n": 2, "h": 3, "w": 4, "tokens": torch.zeros(2, 12, 512)},
        "EV901": {"x": torch.zeros(1, 3, 8, 8)},
    }
    for code, rule in RULES.items():
        names.update(needs.get(code, {}))
        for section in ("Example", "Use instead"):
            for body in re.findall(r"^```python\n(.*?)^```$", rule.sections[section], re.MULTILINE | re.DOTALL):
                exec(compile(body, code, "exec"), names)
    weight = names["layer"].weight
    sums = torch.stack([weight[:, :, i::2, j::2].sum((2, 3)) for i in (0, 1) for j in (0, 1)])
    torch.testing.assert_close(sums, sums[:1].expand_as(sums), rtol=0, atol=1e-5)
    conv = nn.Conv2d(8, 12, 3)
    names["icnr_"](conv, 2)
    assert torch.equal(conv.weight[0::4], conv.weight[3::4])
    shuffled = nn.PixelShuffle(2)(conv(torch.ones(1, 8, 5, 5)))
    assert float(shuffled.detach().std((2, 3)).max()) < 1e-6
    assert names["image"].shape == (2, 3, 48, 64)
    blur = names["BlurDown"](3)
    x = torch.ones(1, 3, 16, 16, requires_grad=True)
    y = blur(x)
    torch.testing.assert_close(y, torch.ones(1, 3, 8, 8))
    y.sum().backward()
    assert float(x.grad[..., 4:-4, 4:-4].std()) < 1e-6


def test_toml_examples_are_valid_settings(tmp_path):
    found = [b for page in PAGES for b in blocks(page, "toml") if "tool.evenly" in b]
    assert found
    for number, block in enumerate(found):
        path = tmp_path / f"{number}.toml"
        path.write_text(block, encoding="utf-8")
        load_settings(path)


def test_every_key_of_the_report_is_defined():
    sys.path.insert(0, str(ROOT / "tests" / "report"))
    try:
        import report_samples
    finally:
        sys.path.pop(0)
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    data = report_samples.ordinary().to_dict()
    defined = set(re.findall(r"`(\w+)`", page))

    def keys(value: object, inside: str = "") -> set[str]:
        if isinstance(value, dict):
            own = set() if inside in ("expected_power", "response_db", "image_rejection_db") else set(value)
            return own.union(*(keys(v, k) for k, v in value.items()), set())
        if isinstance(value, list):
            return set().union(*(keys(v, inside) for v in value))
        return set()

    assert keys(data) <= defined
    assert render(report_samples.ordinary(), "json", View())


def test_links_lead_somewhere():
    for page in PAGES:
        prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_make_targets_are_documented():
    helped = set(re.findall(r'"make (\w+) ', (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert helped == targets() - {"help", "lint", "types", "tests"}
