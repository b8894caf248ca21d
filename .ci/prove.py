"""Run every proof in full, one test file after the other, and write the result table docs/proof.md.

Resumable: a test file that passed is not run again as long as neither the package nor the tests have changed. Results
are kept under .prove/. Exits with 1 if any file fails.

Usage: python .ci/prove.py [part of a test file's name ...]
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".prove"
TABLE = ROOT / "docs" / "proof.md"


def digest() -> str:
    """One hash over everything that a proof depends on."""
    total = hashlib.sha256()
    for folder in ("src", "tests", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def prove(path: Path, state: str) -> dict[str, object]:
    """The result of one test file, from an earlier run if nothing has changed."""
    name = path.relative_to(ROOT / "tests").with_suffix("").as_posix()
    stamp = KEPT / (name.replace("/", ".") + ".json")
    if stamp.is_file():
        kept: dict[str, object] = json.loads(stamp.read_text(encoding="utf-8"))
        if kept.get("state") == state:
            print(f"{name}: passed before")
            return kept
    print(f"{name}: running", flush=True)
    junit = stamp.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}", str(path)]
    begin = time.monotonic()
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, "EVENLY_PROVE": "1"}, check=False).returncode
    suite = next(iter(ElementTree.parse(junit).iter("testsuite"))).attrib if junit.is_file() else {}
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    result: dict[str, object] = {"name": name, "seconds": round(time.monotonic() - begin, 1), "state": state, **counts}
    result["passed"] = status == 0
    if status == 0:  # a failure is run again next time
        stamp.write_text(json.dumps(result), encoding="utf-8")
    return result


def table(results: list[dict[str, object]]) -> str:
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
    for r in results:
        failed = int(str(r["failures"])) + int(str(r["errors"]))
        verdict = "passed" if r["passed"] else "FAILED"
        lines.append(f"| `{r['name']}` | {r['tests']} | {failed} | {r['skipped']} | {r['seconds']} | {verdict} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what is asked for; the table is written only when everything was."""
    wanted = sys.argv[1:]
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    chosen = [f for f in files if not wanted or any(w in f.as_posix() for w in wanted)]
    KEPT.mkdir(exist_ok=True)
    state = digest()
    results = [prove(path, state) for path in chosen]
    if not wanted:
        TABLE.write_text(table(results), encoding="utf-8")
    failed = [str(r["name"]) for r in results if not r["passed"]]
    print(
        f"{len(results) - len(failed)} of {len(results)} passed" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
