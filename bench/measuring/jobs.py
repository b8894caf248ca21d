"""What is measured: jobs that yield labelled pictures, and the two sides that score them; results are kept by digest.

A job's result is kept under the digest of its parameters, of the code that makes its pictures and of the code that
scores them, so that a change of evenly's statistic leaves the others' results in place, and a run that is cut off
goes on.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from measuring import baselines, injections, photographs

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".bench" / "measure"
SEED = 20
NULL_SIZES = (28, 32, 64, 128, 256)
AUC_SIZE = 192
CHAIN_AMPLITUDES = {"mean": (0.15, 0.6, 2.5), "variance": (0.1, 0.4)}  # after a chain; without one the whole ladder
Picture = tuple[dict[str, Any], NDArray[np.uint8], tuple[int, ...]]


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        null: Crops of a photograph and a size.
        negatives, positives: Crops of a photograph without a trace and in each cell.
        confounders: Pictures of each confounder.
        generated: Pictures of a photograph, a family, a depth and a size.
    """

    null: int
    negatives: int
    positives: int
    confounders: int
    generated: int


SCALES = {"small": Scale(8, 6, 1, 36, 1), "full": Scale(80, 24, 4, 216, 2)}


@dataclass(frozen=True)
class Job:
    """Some pictures of a part: of a photograph, a confounder or a family of generators."""

    part: str
    name: str
    scale: Scale

    def pictures(self) -> Iterator[Picture]:
        """Labels, the picture, and the periods that it is asked about."""
        return _PICTURES[self.part](self)


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


# ---------------------------------------------------------------- pictures


def _null(job: Job) -> Iterator[Picture]:
    for size in NULL_SIZES:
        if job.name in photographs.fitting(size):
            for image in photographs.crops(job.name, size, job.scale.null, SEED):
                yield {"photo": job.name, "size": size}, photographs.to_bytes(image), ()


def cells() -> Iterator[tuple[str, int, float, str]]:
    """Trace, period, amplitude and chain of all positives."""
    for kind, ladder in injections.AMPLITUDES.items():
        for period in injections.PERIODS:
            for chain in injections.CHAINS:
                for amplitude in ladder if chain == "none" else CHAIN_AMPLITUDES[kind]:
                    if injections.period_after(period, chain):
                        yield kind, period, amplitude, chain


def _auc(job: Job) -> Iterator[Picture]:
    rng = np.random.default_rng((SEED, crc32(job.name.encode())))
    for image in photographs.crops(job.name, AUC_SIZE, job.scale.negatives, SEED + 1):
        for chain in injections.CHAINS:
            yield {"photo": job.name, "chain": chain}, injections.apply_chain(image, chain, rng), injections.PERIODS
    for at, image in enumerate(photographs.crops(job.name, AUC_SIZE, job.scale.positives, SEED + 2)):
        for count, (kind, period, amplitude, chain) in enumerate(cells()):
            pattern = injections.PATTERNS[(at + count) % len(injections.PATTERNS)]
            traced = injections.inject(image, kind, period, amplitude, pattern, rng)
            labels = {"photo": job.name, "chain": chain, "kind": kind, "period": period, "amplitude": amplitude}
            after = injections.period_after(period, chain)
            assert after is not None
            yield labels | {"pattern": pattern}, injections.apply_chain(traced, chain, rng), (after,)


def _confounders(job: Job) -> Iterator[Picture]:
    from measuring.confounders import confounders

    for photo, image in confounders()[job.name](AUC_SIZE, job.scale.confounders, SEED + 3):
        yield {"photo": photo, "confounder": job.name}, image, ()


def _generators(job: Job) -> Iterator[Picture]:
    from measuring.generators import SIZES, families, generated

    family = families()[job.name]
    for depth in family.depths:
        for size in SIZES:
            for photo in photographs.photographs():
                for image in generated(job.name, depth, size, photo, job.scale.generated, SEED + 4):
                    yield {"photo": photo, "family": job.name, "depth": depth, "size": size}, image, (2, 3, 4)


_PICTURES: dict[str, Callable[[Job], Iterator[Picture]]] = {
    "null": _null, "auc": _auc, "confounders": _confounders, "generators": _generators,
}  # fmt: skip
SIDES = {"null": ("ours",), "auc": ("ours", "others"), "confounders": ("ours",), "generators": ("ours", "others")}


# ---------------------------------------------------------------- scores


def _ours(image: NDArray[np.uint8], periods: tuple[int, ...]) -> dict[str, Any]:
    """The verdict and, at the periods asked about (none: all), log10 p and dB of every trace."""
    from evenly.measure.image import measure_image

    found = measure_image(image)
    traces = {
        str(p): {n: None if t is None else [t.log10_p, t.db] for n, t in found.periods[p].traces().items()}
        for p in periods or found.periods
    }
    causes = [[c.kind, list(c.periods)] for c in found.causes]
    return {"verdict": found.verdict, "found": list(found.found), "causes": causes, "traces": traces}


def _others(image: NDArray[np.uint8], periods: tuple[int, ...]) -> dict[str, Any]:
    plane = baselines.luma(image)
    return {"scores": {str(p): {n: f(plane, p) for n, f in baselines.BASELINES.items()} for p in periods}}


_SCORES: dict[str, Callable[[NDArray[np.uint8], tuple[int, ...]], dict[str, Any]]] = {"ours": _ours, "others": _others}


# ---------------------------------------------------------------- keeping


@cache
def _code(part: str, side: str) -> str:
    """Digest of the sources that make a part's pictures and score them."""
    here = Path(__file__).parent
    files = [here / "photographs.py", here / "injections.py", Path(__file__)]
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


def _kept_at(job: Job, side: str) -> Path:
    text = json.dumps([asdict(job), _code(job.part, side)], sort_keys=True)
    plain = "".join(c if c.isalnum() else "-" for c in job.name)
    return KEPT / side / job.part / f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def kept(job: Job, side: str) -> bool:
    """Whether a job's result is there."""
    return _kept_at(job, side).exists()


def work(job: Job, side: str) -> int:
    """Score a job's pictures and keep the result; the number of pictures."""
    rows = [labels | _SCORES[side](image, periods) for labels, image, periods in job.pictures()]
    path = _kept_at(job, side)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(rows))
    part.replace(path)
    return len(rows)


def rows(part: str, side: str, scale: Scale) -> list[dict[str, Any]]:
    """All results of a part that are there."""
    found: list[dict[str, Any]] = []
    for job in jobs(part, scale):
        if kept(job, side):
            found += json.loads(_kept_at(job, side).read_text())
    return found
