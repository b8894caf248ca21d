"""Run experiments: cell by cell, in one process or several, resumable; then conclude."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from evenly.errors import EvenlyError, UsageError
from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.kept import Kept
from evenly.reproduce.registry import load, load_module, module_of

if TYPE_CHECKING:
    from evenly.reproduce.result import Conclusion

__all__ = ["DONE", "LEAST_SEEDS", "Done", "Job", "Progress", "processes", "run_cell", "run_experiment"]

LEAST_SEEDS = 2
"""Fewer give no interval."""
DONE = "done"
"""The note when a cell has ended."""
_TIME_KEPT = 5.0
"""Seconds between writing down how long a cell has been at work, so that a killed run's time counts, too."""


@dataclass(frozen=True)
class Job:
    """How experiments are to be run.

    Attributes:
        scale: How much to do.
        folder: Where cells are kept.
        source: The user's pictures, or ``None`` for the photographs of the wheels.
        seeds: How many seeds; by default what the experiment asks for at this scale.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        resume: Whether to use what was kept of the same work.
        jobs: Processes, each with one thread on the CPU.
    """

    scale: Scale
    folder: Path
    source: Path | None = None
    seeds: int | None = None
    device: str = "cpu"
    resume: bool = False
    jobs: int = 1


@dataclass(frozen=True)
class Progress:
    """What happens in an experiment.

    Attributes:
        experiment: Its name.
        cells, of: Cells done, and all.
        cell: The one that this is about.
        step, steps: Of the training in it.
        note: What it is doing.
    """

    experiment: str
    cells: int
    of: int
    cell: str = ""
    step: int = 0
    steps: int = 0
    note: str = ""


@dataclass(frozen=True)
class Done:
    """An experiment that was run.

    Attributes:
        experiment: The experiment.
        conclusion: What it says.
        job: How it was run.
        data: Name, description, limits and digest of the data.
        seeds: Seeds.
        seconds: Working time of all cells, those of earlier runs included.
        longest: Working time of the longest cell, in seconds.
        cells: How many cells.
    """

    experiment: Experiment
    conclusion: Conclusion
    job: Job
    data: dict[str, str]
    seeds: tuple[int, ...]
    seconds: float
    longest: float
    cells: int


def processes(device: str) -> int:
    """How many to run at once: one per core on the CPU, one elsewhere."""
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_experiment(name: str, job: Job, told: Callable[[Progress], None] = lambda _: None) -> Done:
    """Run what is missing of an experiment and conclude.

    Args:
        name: The experiment's.
        job: How.
        told: What happens, whenever something does.

    Raises:
        EvenlyError: If a cell cannot be run; those that were stay kept.
    """
    from evenly.reproduce.data import open_data

    experiment = load(name)
    data = open_data(job.source)
    count = experiment.seeds[job.scale] if job.seeds is None else job.seeds
    if count < LEAST_SEEDS:
        raise UsageError(f"--seeds (={count}) must be at least {LEAST_SEEDS}: intervals need more than one")
    seeds = tuple(range(count))
    cells = list(experiment.cells(job.scale, seeds))
    kept = Kept(job.folder, experiment, job.scale, data.digest, job.device)
    if not job.resume:
        kept.forget()
    outcomes: dict[str, Outcome] = {}
    for cell in cells:
        if (outcome := kept.load(cell)) is not None:
            outcomes[cell.name] = outcome
    missing = [cell for cell in cells if cell.name not in outcomes]

    def tell(cell: str = "", step: int = 0, steps: int = 0, note: str = "") -> None:
        told(Progress(name, len(outcomes), len(cells), cell, step, steps, note))

    tell()
    for cell, outcome in _outcomes(experiment, missing, job, kept, tell):
        outcomes[cell.name] = kept.save(cell, outcome)
        tell(cell.name, note=DONE)
    ordered = {cell.name: outcomes[cell.name] for cell in cells}
    return Done(
        experiment=experiment,
        conclusion=experiment.conclude(job.scale, ordered),
        job=job,
        data={"name": data.name, "description": data.description, "limits": data.limits, "digest": data.digest},
        seeds=seeds,
        seconds=sum(outcome.seconds for outcome in ordered.values()),
        longest=max((outcome.seconds for outcome in ordered.values()), default=0.0),
        cells=len(cells),
    )


def run_cell(experiment: Experiment, cell: Cell, context: Context) -> Outcome:
    """Run one cell, from its seed, and take its time; that of a killed run counts where its checkpoint is used."""
    from evenly.reproduce.train import reproducible

    earlier = context.folder / "seconds"
    before = _seconds(earlier)
    begin = last = time.perf_counter()

    def note_time() -> None:
        if context.folder.is_dir():
            temporary = earlier.with_suffix(".tmp")
            temporary.write_text(str(before + time.perf_counter() - begin))
            temporary.replace(earlier)

    def progress(step: int, steps: int, note: str) -> None:
        nonlocal last
        if time.perf_counter() - last > _TIME_KEPT:
            last = time.perf_counter()
            note_time()
        context.progress(step, steps, note)

    try:
        with reproducible(cell.seed, context.device):
            outcome = experiment.run(cell, replace(context, progress=progress))
    except BaseException:
        note_time()
        raise
    return replace(outcome, seconds=before + time.perf_counter() - begin)


def _seconds(path: Path) -> float:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return 0.0


def _attempt(experiment: Experiment, cell: Cell, context: Context) -> Outcome:
    """Run a cell; whatever goes wrong in it becomes an error that names it."""
    try:
        return run_cell(experiment, cell, context)
    except EvenlyError:
        raise
    except Exception as error:
        raise EvenlyError(
            f"{experiment.name}: the cell {cell.name} failed with {type(error).__name__}: {error}. Cells that are done "
            "stay kept for --resume; --debug shows where it happened"
        ) from error


def _context(cell: Cell, job: Job, folder: Path, progress: Callable[[int, int, str], None]) -> Context:
    return Context(job.scale, folder, cell.seed, job.device, job.source, progress)


def _outcomes(
    experiment: Experiment, cells: Sequence[Cell], job: Job, kept: Kept, tell: Callable[..., None]
) -> Iterator[tuple[Cell, Outcome]]:
    if job.jobs > 1 and len(cells) > 1:
        yield from _in_processes(experiment.name, cells, job, kept, tell)
        return
    failed: EvenlyError | None = None
    for cell in cells:

        def progress(step: int, steps: int, note: str, name: str = cell.name) -> None:
            tell(name, step, steps, note)

        try:
            outcome = _attempt(experiment, cell, _context(cell, job, kept.checkpoints(cell), progress))
        except EvenlyError as error:
            failed = failed or error
            continue
        yield cell, outcome
    if failed is not None:
        raise failed


_queue: Any = None


def _start(queue: Any) -> None:
    global _queue
    _queue = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process; the first one ends the others
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def _work(module: str, cell: Cell, job: Job, folder: Path) -> Outcome:
    def progress(step: int, steps: int, note: str) -> None:
        _queue.put((cell.name, step, steps, note))

    return _attempt(load_module(module), cell, _context(cell, job, folder, progress))


def _in_processes(
    name: str, cells: Sequence[Cell], job: Job, kept: Kept, tell: Callable[..., None]
) -> Iterator[tuple[Cell, Outcome]]:
    """Cells in processes of their own; what is done is given at once, a failure only after the others."""
    method = multiprocessing.get_context("spawn")
    queue = method.Queue()
    failed: EvenlyError | None = None
    pool = ProcessPoolExecutor(min(job.jobs, len(cells)), method, _start, (queue,))
    try:
        running: dict[Future[Outcome], Cell] = {
            pool.submit(_work, module_of(name), cell, job, kept.checkpoints(cell)): cell for cell in cells
        }
        while running:
            done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            try:
                while True:
                    tell(*queue.get_nowait())
            except Empty:
                pass
            for future in done:
                cell = running.pop(future)
                try:
                    outcome = future.result()
                except EvenlyError as error:
                    failed = failed or error
                    continue
                except BrokenExecutor as error:
                    raise EvenlyError(
                        f"{name}: a process ended without an answer at or about the cell {cell.name}; is memory short, "
                        "or does a script call this without if __name__ == '__main__'? Cells that are done stay kept: "
                        "try --resume with fewer --jobs"
                    ) from error
                yield cell, outcome
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        queue.close()
    if failed is not None:
        raise failed
