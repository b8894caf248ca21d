"""What is shown and what is asked: every part's labelled pictures, and what both sides say of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from measuring import baselines, injections, photographs

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


@dataclass(frozen=True)
class Job:
    """Some pictures of a part: of a photograph, a confounder or a family of generators."""

    part: str
    name: str
    scale: Scale

    def pictures(self) -> Iterator[Picture]:
        """Labels, the picture, and the periods that it is asked about."""
        return _PICTURES[self.part](self)


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


SCORES: dict[str, Callable[[NDArray[np.uint8], tuple[int, ...]], dict[str, Any]]] = {"ours": _ours, "others": _others}
