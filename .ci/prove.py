"""Run every proof in full, a test file per core at a time, and write the result table docs/proof.md.

Resumable: a test file that passed is not run again as long as neither the package, nor what the tests share, nor the
file itself has changed. Results are kept under .prove/, and the table is written after every file, with what is still
to be run. Exits with 1 if any file fails.

Usage: python .ci/prove.py [--jobs N] [NAME ...], where NAME is a test file (test_image, measure/test_image), a folder
of them (measure) or a pattern (test_image*).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".prove"
TABLE = ROOT / "docs" / "proof.md"


def modules() -> dict[str, Path]:
    """The package's modules by name."""
    found = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def named(path: Path, known: dict[str, Path]) -> set[str]:
    """The package's modules that a file imports, or names in a string (imports by name)."""
    if path == known["evenly"]:
        return set()  # loads its names when they are used: what is used counts, see the attributes below
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "evenly":
            names = [f"evenly.{node.attr}"]
        for name in names:
            parts = name.split(".")
            found |= {part for n in range(1, len(parts) + 1) if (part := ".".join(parts[:n])) in known}
    return found


def helpers(proof: Path) -> list[Path]:
    """A proof, and the files of the tests that it names, that these name, and so on."""
    shared = sorted((ROOT / "tests").rglob("*.py"))
    used = [proof, *(path for path in shared if path.stem == "conftest")]
    for path in used:  # grows on the way
        words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        for other in shared:
            name = "corpus" if "corpus" in other.relative_to(ROOT).parts else other.stem
            if name in words and other not in used:
                used.append(other)
    return used


def digest(proof: Path) -> str:
    """One hash over what a proof depends on: its part of the package, the examples, and what it names of the tests."""
    text = proof.read_text(encoding="utf-8")
    used = helpers(proof)
    known = modules()
    if "subprocess" in text or "CliRunner" in text:
        wanted = set(known)  # through the command line anything may be meant
    else:
        wanted, queue = set(), [name for path in used for name in named(path, known)]
        while queue:
            name = queue.pop()
            if name not in wanted:
                wanted.add(name)
                queue += named(known[name], known)
    files = {*used, *(known[name] for name in wanted), *(ROOT / "examples").rglob("*.py")}
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def label(path: Path) -> str:
    """The test file's name in the table."""
    return path.relative_to(ROOT / "tests").with_suffix("").as_posix()


def earlier(path: Path) -> dict[str, object] | None:
    """The result of an earlier run that still counts."""
    stamp = KEPT / (label(path).replace("/", ".") + ".json")
    if not stamp.is_file():
        return None
    kept: dict[str, object] = json.loads(stamp.read_text(encoding="utf-8"))
    return kept if kept.get("state") == digest(path) else None


def prove(path: Path) -> dict[str, object]:
    """The result of one test file, from an earlier run if nothing has changed."""
    name, state = label(path), digest(path)
    stamp = KEPT / (name.replace("/", ".") + ".json")
    kept = earlier(path)
    if kept is not None:
        print(f"{name}: passed before")
        return kept
    junit = stamp.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}", str(path)]
    begin = time.monotonic()
    full = {"OMP_NUM_THREADS": "1"} | os.environ | {"EVENLY_PROVE": "1"}  # threads of several files get in their way
    ran = subprocess.run(command, cwd=ROOT, env=full, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    status, said = ran.returncode, ran.stdout.decode("utf-8", "replace").strip()
    print(f"{name}: {said.splitlines()[-1] if status == 0 and said else said}", flush=True)
    suite = next(iter(ElementTree.parse(junit).iter("testsuite"))).attrib if junit.is_file() else {}
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    result: dict[str, object] = {"name": name, "seconds": round(time.monotonic() - begin, 1), "state": state, **counts}
    result["passed"] = status == 0
    if status == 0:  # a failure is run again next time
        stamp.write_text(json.dumps(result), encoding="utf-8")
    return result


def table(files: list[Path], results: dict[Path, dict[str, object]]) -> str:
    """docs/proof.md."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "onnx", "onnxruntime"))
    lines = [
        "# Proof",
        "",
        "Written by `make prove`: every test file in full (`EVENLY_PROVE=1`), closed forms against naive counts and",
        "simulations over the full number of draws.",
        "",
        f"Python {platform.python_version()}, {packages}; {os.cpu_count()} cores.",
        "",
        "| proof | tests | failed | skipped | seconds | result |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for path in files:
        r = results.get(path)
        if r is None:
            lines.append(f"| `{label(path)}` | | | | | not run yet |")
            continue
        failed = int(str(r["failures"])) + int(str(r["errors"]))
        verdict = "passed" if r["passed"] else "FAILED"
        lines.append(f"| `{r['name']}` | {r['tests']} | {failed} | {r['skipped']} | {r['seconds']} | {verdict} |")
    return "\n".join(lines) + "\n"


def meant(path: Path, name: str) -> bool:
    """Whether a name on the command line is that of a test file, or of a folder that it is in."""
    file = path.relative_to(ROOT).with_suffix("")
    return any(place.match(name.removesuffix(".py")) for place in (file, *file.parents[:-1]))


def main() -> int:
    """Run what is asked for, and keep the table up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="test files at a time")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    wanted = options.names
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    unknown = [name for name in wanted if not any(meant(path, name) for path in files)]
    if unknown:
        sys.exit(f"no test file or folder is called {', '.join(unknown)}")
    chosen = [path for path in files if not wanted or any(meant(path, name) for name in wanted)]
    KEPT.mkdir(exist_ok=True)
    results = {path: kept for path in files if (kept := earlier(path)) is not None}
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {pool.submit(prove, path): path for path in chosen}
        for done in as_completed(running):
            results[running[done]] = done.result()
            TABLE.write_text(table(files, results), encoding="utf-8")
    failed = [label(path) for path in chosen if not results[path]["passed"]]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} passed" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
