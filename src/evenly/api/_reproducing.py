"""``evenly.reproduce`` as people call it from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evenly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evenly.reproduce.run import Progress
    from evenly.reproduce.stored import Reproduction

__all__ = ["reproduce"]


def reproduce(
    names: str | Iterable[str] = ("all",),
    scale: Literal["smoke", "small", "full"] = "small",
    *,
    data: str | os.PathLike[str] | None = None,
    seeds: int | None = None,
    device: str = "cpu",
    resume: bool = False,
    output: str | os.PathLike[str] = "reproduction",
    jobs: int | None = 1,
    progress: Callable[[Progress], None] | None = None,
) -> Reproduction:
    """Run experiments of Odena, Dumoulin and Olah (2016, doi 10.23915/distill.00003) again and say which claims hold.

    Args:
        names: Experiments, or ``"all"``; ``evenly reproduce --list`` names them.
        scale: ``"smoke"`` takes seconds and decides little, ``"small"`` minutes to an hour on a CPU; ``"full"`` is for
            a GPU.
        data: A folder of pictures, whose sub-folders are classes, or of CIFAR-10's binary files; by default the
            photographs that ship with scikit-image and scikit-learn.
        seeds: How many networks of each kind; by default what the experiment asks for.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        resume: Whether to use what earlier runs of the same work have kept.
        output: Folder for the page, the results and what is kept.
        jobs: Processes; 1 works in this one, ``None`` takes one for every core. A script that takes more than one must
            guard its call with ``if __name__ == "__main__"``.
        progress: Told what happens.

    Returns:
        All results in the output folder: ``answers`` and ``claims`` by number, ``results`` by experiment.

    Raises:
        UsageError: If an argument is wrong.
        EvenlyError: If an experiment cannot be finished; the others are run and written before.
        MissingDependencyError: If the extra ``reproduce`` is not installed.
    """
    from evenly.reproduce.experiment import Scale
    from evenly.reproduce.run import Job, processes
    from evenly.reproduce.together import run_together

    if scale not in list(Scale):
        raise UsageError(f"scale (={scale!r}) must be 'smoke', 'small' or 'full'")
    job = Job(
        Scale(scale),
        Path(output),
        None if data is None else Path(data),
        seeds,
        device,
        resume,
        processes(device) if jobs is None else jobs,
    )
    wanted = [names] if isinstance(names, str) else list(names)
    ran = run_together(wanted, job, progress or (lambda _: None))
    for error in ran.failed.values():
        raise error
    return ran.found
