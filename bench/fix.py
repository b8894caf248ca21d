"""Repair 24 trained networks with every method of ``evenly fix`` and write the table ``bench/fix.md``.

    python bench/fix.py [--steps 1500] [--seeds 3] [--jobs 2] [--only PART] [--kept DIR]

Eight kinds of networks (bench/fixing/networks.py), three seeds each, trained here on photographs (the vocoder on
synthetic speech-like sounds). A repair sees calibration data from the cells of the photographs that the network was
trained on; every number of the table is read on cells that neither has seen: lines over the photographs' own level,
PSNR to the network's own output, the task's loss against the unrepaired network's.

Networks and results are kept network by network, so that a run that is cut off goes on; a change of the package's
repairs starts the latter anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from fixing import networks
from torch import nn

from evenly.fix._line_removal import without_lines
from evenly.fix.engine import fix
from evenly.fix.result import FixResult
from evenly.fix.task import Part, Task, psnr
from evenly.fix.torch_backend import TorchBackend

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".bench" / "fix"
TABLE = ROOT / "bench" / "fix.md"

CALIBRATION, FEWER, TEST = 512, 160, 128
ASKED = 38.5
"""PSNR that is asked of a repair, on calibration data: other data differ by some tenths of a dB."""
PSNR, WITHIN, WITHIN_LAST, LOSS, LOSS_TUNED, STEPS = 38.0, 3.0, 4.0, 0.02, 0.15, 300
ENOUGH, SEEDS = 20, 3


@dataclass(frozen=True)
class Way:
    """One way to repair.

    Attributes:
        name: In the table.
        arguments: Of ``evenly.fix``.
        reference: ``paired``, ``unpaired`` or ``none``.
    """

    name: str
    arguments: Mapping[str, Any]
    reference: str = "paired"


WAYS = (
    Way("auto", {"method": "auto", "max_distortion": ASKED}),
    Way(f"balance and {STEPS} steps", {"finetune": STEPS, "max_distortion": 0.0}),
    Way("balance, last layer", {"method": "balance", "max_distortion": 0.0}),
    Way("balance, all layers", {"method": "balance", "max_distortion": 0.0}),
    Way("auto, no data", {"method": "auto", "max_distortion": ASKED}, "none"),
    Way("auto, data not paired", {"method": "auto", "max_distortion": ASKED}, "unpaired"),
)


def state() -> str:
    """One hash over the repairs and this bench."""
    total = hashlib.sha256()
    for path in [*sorted((ROOT / "src/evenly/fix").glob("*.py")), *sorted((ROOT / "bench").glob("fix*/*.py"))]:
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()[:16]


def kept(results: Path, kind: str, seed: int) -> Path:
    """Where the results of a network are kept."""
    return results / f"{kind.replace(' ', '-').replace(',', '')}-{seed}.json"


def repaired(kind: str, seed: int, steps: int, nets: Path, results: Path, ways: str) -> dict[str, Any]:
    """One way on one network, and what is known of the others."""
    place = kept(results, kind, seed)
    found: dict[str, Any] = json.loads(place.read_text("utf-8")) if place.is_file() else {}
    torch.set_num_threads(1)
    network = networks.trained(kind, seed, steps, nets)
    for way in WAYS:
        if way.name not in found and way.name == ways:
            found[way.name] = _one(network, kind, seed, way)
            place.write_text(json.dumps(found), "utf-8")
            print(f"{kind}, seed {seed}, {way.name}: {found[way.name]}", flush=True)
    return found


def _one(network: nn.Module, kind: str, seed: int, way: Way) -> dict[str, Any]:
    x, real = networks.batches(kind, 100 + seed, CALIBRATION if way.name == "auto" else FEWER, False)
    arguments = dict(way.arguments)
    if way.name.endswith("last layer"):
        arguments["layers"] = [_last(network)]
    if way.reference == "paired":
        others = networks.batches(kind, 400 + seed, TEST, False)  # not those that targets are taken from
        arguments |= {"reference": real, "paired": True, "loss": lambda model: _loss(model, *others)}
    elif way.reference == "unpaired":
        arguments |= {"reference": networks.batches(kind, 300 + seed, FEWER, False)[1]}
    begin = time.process_time()
    done = fix(network, calibration=[x], seed=seed, **arguments)
    return {"seconds": time.process_time() - begin, **_judged(network, kind, seed, done)}


def _judged(network: nn.Module, kind: str, seed: int, done: FixResult) -> dict[str, Any]:
    """On data that neither the network nor the repair has seen."""
    x, real = networks.batches(kind, 200 + seed, TEST, True)
    report = done.report
    periods = [line.period for line in report.outputs[0].lines]
    task = Task.of(
        TorchBackend(network), [x], "held out", reference=real, paired=True, periods=periods, within_db=WITHIN,
        max_distortion=PSNR,
    )  # fmt: skip
    parts = (task.fit, task.proof)
    part = Part(*(sum((getattr(p, name) for p in parts), ()) for name in ("batches", "originals", "references")))
    before, after = (part.judge(backend, task.periods) for backend in (task.original, done.backend))
    adds = report.cost.multiply_adds if report.cost is not None else None
    chosen = next((point.method for point in report.frontier if point.chosen), "as it was")
    with torch.no_grad():
        output = network(x)
    notched = without_lines(output, periods).numpy()
    return {
        "notched": psnr(notched, output.numpy(), next(iter(task.peaks.values()))),
        "before": task.over(before),
        "after": task.over(after),
        "psnr": min(task.psnr(after), 999.0),
        "loss": _loss(done.model, x, real) / _loss(network, x, real) - 1,
        "cost": None if adds is None else adds[1] / adds[0],
        "certificate": report.certificate,
        "verdict": report.verdict,
        "chosen": chosen,
        "frontier": [
            [point.method, point.worst_db, min(point.psnr_db, 999.0), point.extra_cost, point.chosen]
            for point in report.frontier
        ],
    }


def _loss(model: nn.Module, x: torch.Tensor, real: torch.Tensor) -> float:
    with torch.no_grad():
        return float(networks.loss(model(x), real))


def _last(network: nn.Module) -> str:
    layers = [layer for layer in TorchBackend(network).layers() if layer.kind in ("transposed", "subpixel")]
    if layers:
        return layers[-1].name
    raise SystemExit(f"{type(network).__name__} has no layer that up-samples")


# ---- the table -------------------------------------------------------------------------------------------------------


def table(found: Mapping[tuple[str, int], Mapping[str, Any]], steps: int) -> str:
    """bench/fix.md."""
    first = {key: value["auto"] for key, value in found.items() if "auto" in value}
    tuned = {key: value[WAYS[1].name] for key, value in found.items() if WAYS[1].name in value}
    good = [key for key, r in first.items() if _worst(r) <= WITHIN and r["psnr"] >= PSNR and r["loss"] <= LOSS]
    last = [key for key in first if networks.KINDS[key[0]].inside]
    near = [key for key in last if _worst(first[key]) <= WITHIN_LAST]
    held = [key for key, r in tuned.items() if r["certificate"]]
    cheap = [key for key in held if tuned[key]["loss"] <= LOSS_TUNED]
    rows = [
        (
            f"without training: every line within {WITHIN:g} dB of the data's, PSNR at least {PSNR:g} dB, loss at most "
            f"{LOSS:.0%} more",
            f"{ENOUGH} of {len(networks.KINDS) * SEEDS}",
            f"{len(good)} of {len(first)} tried",
            len(good) >= ENOUGH,
        ),
        (
            f"lines within {WITHIN_LAST:g} dB where the last up-sampling layer makes the output",
            "all",
            f"{len(near)} of {len(last)} tried",
            len(near) == len(last) == SEEDS * sum(kind.inside for kind in networks.KINDS.values()),
        ),
        (f"{STEPS} steps: certificate", "all", f"{len(held)} of {len(tuned)}", len(held) == len(tuned)),
        (
            f"{STEPS} steps: certificate at a loss at most {LOSS_TUNED:.0%} more",
            "all",
            f"{len(cheap)} of {len(tuned)}",
            len(cheap) == len(tuned),
        ),
    ]
    lines = [
        "# Benchmark of `evenly fix`",
        "",
        "Written by `python bench/fix.py`; do not edit.",
        "",
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, one thread. "
        f"{len(found)} networks, {steps} steps of training at most. Everything is read on {TEST} signals that neither "
        f"the network nor its repair (with {CALIBRATION} signals by auto, {FEWER} by the others) has seen.",
        "",
        "*Lines*: the worst period's level, over that of the photographs (of the sounds), in dB; both over the nearest "
        "clean neighbours and over a wider median, the larger of both (`evenly.fix.levels`). *PSNR*: to the network's "
        f"own output before, in dB ({ASKED:g} dB are asked of auto); *with notches*: what taking the same lines out of "
        "the output would leave, by filters as narrow as its size allows (`evenly.fix._line_removal`), for comparison. "
        "*Loss*: the task's, against the network before. *Multiply-adds*: of the network, against before. Cells with "
        "several numbers: one per seed.",
        "",
        "## Targets",
        "",
        "| what | target | measured | met |",
        "| --- | --- | --- | :---: |",
        *(f"| {what} | {target} | {value} | {'yes' if met else '**no**'} |" for what, target, value, met in rows),
        "",
        "## Every way, side by side",
        "",
        "Medians of all networks; *lines* before the repair: "
        f"{_median([_worst(value[next(iter(value))], 'before') for value in found.values()]):.1f} dB. Where a way has "
        "fewer networks than others, the rest were not run.",
        "",
        "| way | lines, dB | networks within 3 dB | PSNR, dB | loss | multiply-adds | certificate | CPU, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way in WAYS:
        results = [value[way.name] for value in found.values() if way.name in value]
        if not results:
            continue
        lines.append(
            f"| {way.name} | {_median([_worst(r) for r in results]):.1f} "
            f"| {sum(_worst(r) <= WITHIN for r in results)} of {len(results)} "
            f"| {_median([r['psnr'] for r in results]):.1f} | {_median([r['loss'] for r in results]):+.1%} "
            f"| {_median([r['cost'] or 1.0 for r in results]):.2f} "
            f"| {sum(r['certificate'] for r in results)} of {len(results)} "
            f"| {_median([r['seconds'] for r in results]):.0f} |"
        )
    for way in WAYS:
        if not any(way.name in value for value in found.values()):
            continue
        lines += ["", f"## {way.name[0].upper()}{way.name[1:]}", ""]
        lines += [
            "| network | lines before, dB | lines after, dB | PSNR, dB | with notches, dB | loss | multiply-adds | "
            "certificate |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for kind in networks.KINDS:
            results = [v[way.name] for (name, _), v in sorted(found.items()) if name == kind and way.name in v]
            if results:
                lines.append(f"| {kind} | {' | '.join(_cells(results))} |")
    chosen = [
        f"| {kind}, seed {seed} | {r['chosen']} | {r['verdict']} | {_periods(r['before'])} | {_periods(r['after'])} |"
        for (kind, seed), r in sorted(first.items())
    ]
    lines += [
        "", "## What auto chose", "", "| network | repair | verdict | lines before, dB by period | after |",
        "| --- | --- | --- | --- | --- |", *chosen,
    ]  # fmt: skip
    for (kind, seed), r in sorted(first.items()):
        if "frontier" in r and r["verdict"] != "reached":
            lines += ["", *_frontier(kind, seed, r["frontier"])]
    return "\n".join(lines) + "\n"


def _frontier(kind: str, seed: int, points: Sequence[Sequence[Any]]) -> list[str]:
    """Everything that was tried for a network whose lines did not all come down."""
    return [
        f"## What was tried for {kind}, seed {seed}",
        "",
        "On the calibration data that were kept for proof.",
        "",
        "| repair | worst line, dB | PSNR, dB | multiply-adds | |",
        "| --- | ---: | ---: | ---: | --- |",
        *(
            f"| {method} | {worst:.1f} | {value:.1f} | {cost or 1.0:.2f} | {'chosen' if chosen else ''} |"
            for method, worst, value, cost, chosen in points
        ),
    ]


def _cells(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        " / ".join(f"{_worst(r, 'before'):.1f}" for r in results),
        " / ".join(f"{_worst(r):.1f}" for r in results),
        " / ".join(f"{r['psnr']:.1f}" if r["psnr"] < 999 else "same" for r in results),
        " / ".join(f"{r['notched']:.1f}" for r in results),
        " / ".join(f"{r['loss']:+.1%}" for r in results),
        " / ".join(f"{r['cost'] or 1.0:.2f}" for r in results),
        " / ".join("yes" if r["certificate"] else "no" for r in results),
    ]


def _worst(result: Mapping[str, Any], when: str = "after") -> float:
    return float(max(result[when].values()))


def _periods(levels: Mapping[str, float]) -> str:
    return ", ".join(f"{period}: {value:.1f}" for period, value in levels.items())


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> int:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a kind's name")
    parser.add_argument("--ways", default="", help="a way's name, or the beginning of some")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder for networks and results")
    options = parser.parse_args()
    nets, results = options.kept / "networks", options.kept / state()
    results.mkdir(parents=True, exist_ok=True)
    cells = [(kind, seed) for seed in range(options.seeds) for kind in networks.KINDS if options.only in kind]
    with ProcessPoolExecutor(options.jobs) as pool:
        chosen = [way for way in WAYS if way.name == options.ways] or WAYS
        for way in chosen:  # what decides about the targets comes first
            if way.name.startswith(options.ways):
                jobs = [pool.submit(repaired, *cell, options.steps, nets, results, way.name) for cell in cells]
                for job in jobs:
                    job.result()
    every = [(kind, seed) for kind in networks.KINDS for seed in range(SEEDS)]
    found = {
        cell: json.loads(kept(results, *cell).read_text("utf-8")) for cell in every if kept(results, *cell).is_file()
    }
    TABLE.write_text(table(found, options.steps), "utf-8")
    print(f"{TABLE} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
