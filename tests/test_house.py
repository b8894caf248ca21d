"""Guards of the house: the order of its rooms, light imports, public names, rule codes, words that do not belong."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import evenly
from evenly.check.rules import RULES, SECTIONS, rules_page
from evenly.cli import FailOn, Format
from evenly.report import REPORTERS
from evenly.settings import FAIL_ON

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "evenly"
FILES = sorted(SRC.rglob("*.py"))

# A room may import from itself and from rooms before it. Results know how to show themselves, when they are asked to;
# and calling a package leads to evenly.api, when it is called (evenly/callable.py).
ROOMS = (
    *(
        "errors",
        "callable",
        "theory",
        "graph",
        "check",
        "measure",
        "nn",
        "metrics",
        "losses",
        "fix",
        "report",
        "explore",
        "settings",
        "load",
        "reproduce",
        "api",
    ),
    *("testing", "cli", "__main__"),
)
EXCEPTIONS = {(room, "report") for room in ("check", "measure", "fix")}  # inside functions only: __str__, _repr_html_


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported module of evenly, and whether the import stands inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it in full"
            names = [node.module or ""]
            if node.module == "evenly":
                names = [f"evenly.{a.name}" for a in node.names if a.name != "__version__"]
        found += [(n, id(node) in inside) for n in names if n == "evenly" or n.startswith("evenly.")]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_imports_point_backwards_only(path):
    parts = path.relative_to(SRC).with_suffix("").parts
    own = parts[0]
    if own == "__init__":
        return
    assert own in ROOMS, f"{own} is a new room; give it a place in ROOMS"
    for module, lazy in imports(path):
        other = room(module)
        if other is None:
            continue
        late = ROOMS.index(other) > ROOMS.index(own)
        assert not late or (lazy and (own, other) in EXCEPTIONS), f"{path.name} in {own} imports {module}"


def test_the_guard_sees_imports():
    seen = {m for path in FILES for m, _ in imports(path)}
    assert {"evenly.errors", "evenly.check.result", "evenly.graph.ir"} <= seen


def test_theory_knows_nothing_of_models():
    allowed = {"numpy", "evenly"} | sys.stdlib_module_names
    for path in (SRC / "theory").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert {n.split(".")[0] for n in names} <= allowed, f"{path.name} imports {names}"


def loaded_by(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    return {name.split(".")[0] for name in json.loads(out.splitlines()[-1])}


HEAVY = {
    *("torch", "onnx", "numpy", "onnxruntime", "safetensors", "onnxscript", "scipy", "PIL", "tifffile", "pyarrow"),
    *("fsspec", "dask", "distributed", "soundfile", "torchmetrics", "matplotlib"),
}


@pytest.mark.parametrize(
    "code",
    [
        "import evenly; evenly.__version__",
        "import evenly; evenly.errors, evenly.Report, evenly.Finding, evenly.measure, evenly.check",
        "from evenly.cli import main\ntry: main(['--help'])\nexcept SystemExit as e: assert e.code == 0",
        "from evenly.cli import main\ntry: main(['check', '--help'])\nexcept SystemExit as e: assert e.code == 0",
        "from evenly.cli import main\ntry: main(['measure', '--help'])\nexcept SystemExit as e: assert e.code == 0",
        "from evenly.cli import main\ntry: main(['attribute', '--help'])\nexcept SystemExit as e: assert e.code == 0",
        "from evenly.cli import main\ntry: main(['explore', '--help'])\nexcept SystemExit as e: assert e.code == 0",
    ],
)
def test_light_things_load_nothing_heavy(code):
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize(
    "code",
    [
        "import evenly, evenly.testing, evenly.api; evenly.check.rules",
        "from evenly.cli import main\ntry: main(['rule', '--all'])\nexcept SystemExit as e: assert e.code == 0",
    ],
)
def test_what_needs_no_model_loads_neither_torch_nor_onnx(code):
    assert not loaded_by(code) & (HEAVY - {"numpy"})


@pytest.mark.parametrize(("name", "result"), [("check", "Report"), ("measure", "Measurement")])
def test_packages_that_are_functions(name, result):
    package, function = getattr(evenly, name), getattr(importlib.import_module("evenly.api"), name)
    assert callable(package)
    assert inspect.ismodule(package)
    assert inspect.signature(package) == inspect.signature(function)
    assert getattr(importlib.import_module(f"evenly.{name}.result"), result) is getattr(evenly, result)


def test_only_public_names_are_there():
    for name in evenly.__all__:
        assert getattr(evenly, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        evenly.nothing  # noqa: B018


def modules() -> list[str]:
    return [
        "evenly",
        *(m.name for m in pkgutil.walk_packages([str(SRC)], "evenly.") if not m.name.split(".")[-1].startswith("_")),
    ]


@pytest.mark.parametrize("name", modules())
def test_public_names_are_listed_sorted_and_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} says nothing about itself"
    public = getattr(module, "__all__", None)
    if public is None:
        own = [n for n, t in vars(module).items() if getattr(t, "__module__", None) == name]
        assert not own, f"{name} has no __all__, but defines {own}"
        return
    order = sorted(public, key=lambda n: (not n.isupper(), not n[:1].isupper(), n))
    assert public == order, f"{name}.__all__ is not sorted: {order}"
    for public_name in public:
        thing = getattr(module, public_name)
        if inspect.isfunction(thing) and thing.__module__ == name:
            missing = [p for p in inspect.signature(thing).parameters if p not in thing.__annotations__]
            assert not missing, f"{name}.{public_name} has untyped parameters {missing}"
            assert "return" in thing.__annotations__, f"{name}.{public_name} has no return type"
            assert thing.__doc__, f"{name}.{public_name} has no documentation"


def test_every_error_is_in_the_drawn_tree():
    from evenly import errors

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.EvenlyError)
        assert name in errors.__doc__


# --------------------------------------------------------------------------------------------------------------- rules


def test_rules_are_distinct_sorted_and_documented():
    assert list(RULES) == sorted(RULES)
    assert {
        *("EV101", "EV102", "EV103", "EV104", "EV105", "EV106", "EV107"),
        *("EV201", "EV202", "EV203", "EV301", "EV901"),
    } <= set(RULES)
    names = [r.name for r in RULES.values()]
    assert len(set(names)) == len(names)
    for code, rule in RULES.items():
        assert code == rule.code
        assert re.fullmatch(r"EV[1239]\d\d", code)
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.name)
        assert tuple(rule.sections) == SECTIONS
        assert "```" in rule.sections["Example"]
        assert re.match(r"(Safe|Lossy|Structural|The initialisation is structural)", rule.sections["Fix safety"])


def test_the_rules_page_is_current():
    written = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert written == rules_page(), "run `make docs`"


def test_a_rule_without_documentation_is_refused():
    from evenly.check.rules import rule

    with pytest.raises(ValueError, match="EV999 documents"):

        @rule("EV999", "no-words", severity="error")
        def no_words(facts):
            """Only a summary."""

    with pytest.raises(ValueError, match="registered already"):

        @rule("EV101", "another-name", severity="error")
        def again(facts):
            """Only a summary."""

    assert "EV999" not in RULES


def test_choices_of_the_command_line_are_those_of_the_package():
    assert [f.value for f in Format] == list(REPORTERS)
    assert [f.value for f in FailOn] == list(FAIL_ON)


# --------------------------------------------------------------------------------------------------------------- words


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]


# Machine paths, addresses of package registries, and marks of unfinished work.
UNWANTED = re.compile(
    r"/(?:home|root|work|Users)/\w|files\.pythonhosted|download\.pytorch|registry\.npmjs|pypi\.org/simple"
    + r"|\b(?:TO"
    + r"DO|FIX"
    + r"ME|XXX)\b",
)


def test_no_words_that_do_not_belong():
    for path in tracked():
        if path == Path(__file__).resolve() or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = UNWANTED.search(text)
        assert found is None, f"{path.relative_to(ROOT)}: {found and found.group()}"


def test_test_files_have_names_of_their_own():
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names)), "pytest imports test files by their names alone"


def test_versions_agree():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"[{evenly.__version__}]" in changelog or "[Unreleased]" in changelog
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "torch==2.13.0" in constraints
    lines = [x for x in constraints.splitlines() if not x.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(names)
