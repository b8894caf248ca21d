"""Jobs, and where their results are kept.

A job's result is kept under the digest of its parameters, of the code that makes its pictures and of the code that
scores them, so that a change of evenly's statistic leaves the others' results in place, and a run that is cut off
goes on.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from measuring import photographs
from measuring.pictures import AUC_SIZE, NULL_SIZES, SCORES, Job, Scale

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".bench" / "measure"
SCALES = {"small": Scale(8, 6, 1, 36, 1), "full": Scale(80, 24, 4, 216, 2)}
SIDES = {"null": ("ours",), "auc": ("ours", "others"), "confounders": ("ours",), "generators": ("ours", "others")}


def jobs(part: str, scale: Scale) -> list[Job]:
    """All jobs of a part."""
    if part in ("null", "auc"):
        names = photographs.fitting(min(NULL_SIZES) if part == "null" else AUC_SIZE)
    elif part == "confounders":
        from measuring.confounders import confounders

        names = list(confounders())
    else:
        from measuring.generators import families

        names = list(families())
    return [Job(part, name, scale) for name in names]


@cache
def _code(part: str, side: str) -> str:
    """Digest of the sources that make a part's pictures and score them."""
    here = Path(__file__).parent
    files = [here / "photographs.py", here / "injections.py", here / "pictures.py"]
    if part in ("confounders", "generators"):
        files.append(here / f"{part}.py")
    if part == "generators":
        files += sorted((ROOT / "src" / "evenly" / "nn").glob("*.py"))
    if side == "others":
        files.append(here / "baselines.py")
    else:
        files += sorted(_imported(ROOT / "src" / "evenly" / "measure" / "image.py"))
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()


def _imported(source: Path) -> set[Path]:
    """A module of the measuring part and all of that part that it imports, directly or not."""
    found, waiting = set(), [source]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        top = ast.parse(path.read_text()).body
        run = [n for n in top if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
        nodes = [n for statement in run for n in ast.walk(statement) if isinstance(n, ast.ImportFrom)]
        names = [n.module for n in nodes if n.module and n.module.startswith("evenly.measure.")]
        waiting += [source.with_name(name.split(".")[2] + ".py") for name in names]
    return found


def kept_at(job: Job, side: str) -> Path:
    """Where a job's result is kept."""
    text = json.dumps([asdict(job), _code(job.part, side)], sort_keys=True)
    plain = "".join(c if c.isalnum() else "-" for c in job.name)
    return KEPT / side / job.part / f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def work(job: Job, side: str, path: Path) -> int:
    """Score a job's pictures and keep the result there; the number of pictures.

    The caller names the place: in a worker the sources may have changed since it loaded them.
    """
    rows = [labels | SCORES[side](image, periods) for labels, image, periods in job.pictures()]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(rows))
    part.replace(path)
    return len(rows)


def rows(part: str, side: str, scale: Scale) -> list[dict[str, Any]]:
    """All results of a part."""
    return [row for job in jobs(part, scale) for row in json.loads(kept_at(job, side).read_text())]
