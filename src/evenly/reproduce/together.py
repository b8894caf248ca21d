"""Several experiments one after the other, each written as soon as it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evenly.errors import EvenlyError, OutputError, UsageError
from evenly.reproduce.gallery import write_gallery
from evenly.reproduce.registry import chosen, needed
from evenly.reproduce.run import LEAST_SEEDS, Job, Progress, run_experiment
from evenly.reproduce.stored import Reproduction, read_results
from evenly.reproduce.written import RESULTS, write_result, write_summary

__all__ = ["PAGE", "SUMMARY", "Ran", "run_together"]

PAGE, SUMMARY = "index.html", "reproduction.json"
"""Files in the output folder."""


@dataclass(frozen=True)
class Ran:
    """What became of the experiments.

    Attributes:
        found: All results of the output folder, those of earlier runs included.
        failed: The errors of experiments that could not be finished.
    """

    found: Reproduction
    failed: Mapping[str, EvenlyError]


def run_together(names: Sequence[str], job: Job, told: Callable[[Progress], None]) -> Ran:
    """Run experiments; after each, its result, the summary and the page are written.

    One that fails leaves the others running.

    Args:
        names: Of experiments, or ``all``.
        job: How; its folder takes everything.
        told: What happens.

    Raises:
        UsageError: If a name, the data, the device or a number is wrong.
        OutputError: If something cannot be written.
        FormatError: If an earlier result in the folder is damaged.
        MissingDependencyError: If something is not installed.
    """
    wanted = chosen(names)
    _expect(job)
    folder = job.folder / RESULTS
    failed: dict[str, EvenlyError] = {}
    for name in wanted:
        try:
            done = run_experiment(name, job, told)
        except EvenlyError as error:
            failed[name] = error
            continue
        write_result(done, folder)
        found = read_results(folder)
        write_summary(found, job.folder / SUMMARY)
        write_gallery(found, job.folder / PAGE)
    return Ran(read_results(folder), failed)


def _expect(job: Job) -> None:
    """Fail before the work rather than after it, and once instead of once for every experiment."""
    for option, count, least in (("--seeds", job.seeds, LEAST_SEEDS), ("--jobs", job.jobs, 1)):
        if count is not None and count < least:
            raise UsageError(f"{option} (={count}) must be at least {least}")
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{job.folder}: cannot be made: {error.strerror or error}; choose another --output"
        ) from error
    with needed():
        from evenly.reproduce.data import open_data
        from evenly.reproduce.train import fabric
    fabric(job.device)
    open_data(job.source)
