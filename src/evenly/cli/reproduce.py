"""``evenly reproduce``."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evenly.cli._options import Debug
from evenly.cli.writing import CLEAN, ERROR, INTERRUPTED, expect_writable, put, view
from evenly.errors import UsageError

__all__ = ["Output", "Work", "reproduce"]


class Work(StrEnum):
    """Scales, see :class:`evenly.reproduce.experiment.Scale`."""

    SMOKE = "smoke"
    SMALL = "small"
    FULL = "full"


class Output(StrEnum):
    """Formats of the report."""

    TEXT = "text"
    JSON = "json"


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help=r"Experiments, see --list. \[default: all]")
    ] = None,
    scale: Annotated[
        Work, typer.Option("--scale", help="smoke: seconds; small: minutes on a CPU; full: for a GPU.")
    ] = Work.SMALL,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Your pictures, a folder per class, or CIFAR-10's binary files."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", metavar="N", min=2, help=r"Networks of each kind. \[default: by experiment]"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or mps.")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Use what earlier runs of the same work have kept.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", min=1, help=r"Processes. \[default: one per core on the CPU, else 1]"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where everything is written.")] = Path(
        "reproduction"
    ),
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Also write a Markdown page and its pictures.")
    ] = None,
    form: Annotated[Output, typer.Option("--format", help="Format of the report.")] = Output.TEXT,
    listing: Annotated[bool, typer.Option("--list", help="List the experiments and what came out last.")] = False,
    debug: Debug = False,
) -> None:
    """Run the experiments of Odena, Dumoulin and Olah (2016) again, and say which claims hold.

    Writes DIR/index.html (a page with verdicts, pictures and sounds), DIR/reproduction.json and DIR/results.
    Exits with 0 if everything was run, whatever the verdicts are, and with 2 if something could not be.
    """
    from evenly.cli.reproducing import interrupted, listed, reported, shown
    from evenly.report.words import clean

    if listing:
        put(listed(output, names or (), view()))
        return
    if markdown is not None:
        expect_writable(markdown)
        if not markdown.suffix:
            raise UsageError(f"--markdown (={markdown}) must have a suffix; pictures go to the folder without it")
    from evenly.reproduce.experiment import Scale
    from evenly.reproduce.run import Job, processes
    from evenly.reproduce.together import SUMMARY, run_together

    job = Job(Scale(scale.value), output, data, seeds, device, resume, processes(device) if jobs is None else jobs)
    try:
        with shown() as told:
            ran = run_together(names or ("all",), job, told)
        if markdown is not None:
            from evenly.reproduce.markdown import write_markdown

            write_markdown(ran.found, markdown)
    except KeyboardInterrupt:
        sys.stderr.write(interrupted(sys.argv[1:]))
        raise typer.Exit(INTERRUPTED) from None
    if form is Output.TEXT:
        put(reported(ran, names or (), output, markdown, view()))
    elif ran.found.results:
        put((output / SUMMARY).read_text(encoding="utf-8"))
    if debug:
        _traces(list(ran.failed.values()))
    for name, error in ran.failed.items():
        words = " ".join(str(error).split())
        sys.stderr.write(f"error: {clean(words if words.startswith(f'{name}: ') else f'{name}: {words}')}\n")
    raise typer.Exit(ERROR if ran.failed else CLEAN)


def _traces(errors: list[Exception]) -> None:
    import traceback

    for error in errors:
        traceback.print_exception(error)
