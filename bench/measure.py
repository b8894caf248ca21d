"""Measure the statistic of pictures against other people's and write the table ``bench/measure.md``.

    python bench/measure.py [--parts null,auc,confounders,generators,timing] [--scale small|full] [--workers 1]

Negatives are photographs without their native grids, positives have traces of known period and strength, confounders
look periodic without up-sampling, and generators with random weights have a known truth; see ``bench/measuring``.
Results are kept under .bench/measure/ job by job, so that a run that is cut off goes on; a change of the statistic
starts its own anew and leaves the others'. Speed and memory are measured every time they are asked for.
``.bench/measure/<scale>.json`` has all figures; the small scale writes its page there too, only the full one replaces
the committed table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is loaded: every worker is one thread

from measuring import jobs, pictures, summary, table, timing  # noqa: E402

PAGE = Path(__file__).with_name("measure.md")
SUMMARIES: dict[str, Callable[[pictures.Scale], Any]] = {
    "null": summary.null,
    "auc": summary.areas,
    "confounders": summary.confounded,
    "generators": summary.generated,
}
PARTS = (*SUMMARIES, "timing")


def run(parts: list[str], scale: pictures.Scale, workers: int) -> None:
    """All jobs that are not kept, with a line for each."""
    waiting = [
        (job, side, path)
        for part in parts
        if part in SUMMARIES
        for side in jobs.SIDES[part]
        for job in jobs.jobs(part, scale)
        if not (path := jobs.kept_at(job, side)).exists()
    ]
    begun = time.perf_counter()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(jobs.work, *task): task for task in waiting}
        for done, future in enumerate(as_completed(running), 1):
            job, side, _ = running[future]
            passed = time.perf_counter() - begun
            print(
                f"[{done}/{len(waiting)}] {job.part}, {job.name}, {side}: {future.result()} pictures;"
                f" {passed:.0f} s, {passed / done * (len(waiting) - done):.0f} s left",
                flush=True,
            )


def timed() -> dict[str, Any]:
    """Speed and memory."""
    found = {}
    for part in timing.PARTS:
        print(f"timing: {part}", flush=True)
        found[part] = timing.apart(part)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated, of " + ", ".join(PARTS))
    parser.add_argument("--scale", choices=jobs.SCALES, default="full")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    scale = jobs.SCALES[arguments.scale]
    run(parts, scale, arguments.workers)
    kept = jobs.KEPT / f"{arguments.scale}.json"
    figures: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    figures |= {part: SUMMARIES[part](scale) for part in parts if part in SUMMARIES}
    if "timing" in parts:
        figures["timing"] = timed()
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(figures, indent=1))
    page = PAGE if arguments.scale == "full" else kept.with_suffix(".md")
    page.write_text(table.page(json.loads(kept.read_text()), arguments.scale))
    print(f"wrote {page.relative_to(jobs.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
