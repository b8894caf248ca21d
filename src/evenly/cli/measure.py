"""``evenly measure``."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from evenly.cli._options import Debug, OutputFile
from evenly.cli.running import parse_periods
from evenly.cli.writing import expect_writable, put, say, view, write
from evenly.errors import UsageError

__all__ = ["Form", "Kind", "OriginOf", "measure"]


class Form(StrEnum):
    """Formats of the report."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    HTML = "html"
    MARKDOWN = "markdown"


class Kind(StrEnum):
    """Kinds of files."""

    IMAGE = "image"
    AUDIO = "audio"


class OriginOf(StrEnum):
    """What is known of where pictures were cut."""

    UNKNOWN = "unknown"
    ALIGNED = "aligned"


def measure(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files, folders, globs, tar shards, or URIs that fsspec understands."),
    ],
    kind: Annotated[
        Kind | None, typer.Option("--kind", help=r"What to look for. \[default: audio if only WAV and FLAC are named]")
    ] = None,
    periods: Annotated[
        str | None, typer.Option("--periods", metavar="LIST", help="Periods in pixels or samples, e.g. 2,4,8.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="PATH", help="Pictures to compare with, e.g. a folder of real ones."),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="Format of the report.")] = Form.TEXT,
    output: OutputFile = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", metavar="FILE", help="A row per picture, .parquet or .csv.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted job; needs the same --rows.")
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="URL", help="Measure on a Dask cluster, tcp://HOST:PORT.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", min=1, help=r"Processes. \[default: one per core]")
    ] = None,
    fail_over: Annotated[
        float | None,
        typer.Option("--fail-over", metavar="DB", help="Exit with 1 only if a found period has more dB than this."),
    ] = None,
    origin: Annotated[
        OriginOf, typer.Option("--origin", help="aligned: no picture was cropped off the grid of its pattern.")
    ] = OriginOf.UNKNOWN,
    debug: Debug = False,
) -> None:
    """Measure the periodic artifacts of up-sampling in pictures or recordings.

    Exits with 0 if nothing is found, 1 if something is, and 2 if a file could not be measured (all others are), or on
    a usage error.
    """
    from evenly.cli.measuring import Watch, measured, show_failures
    from evenly.report import open_measured

    sounds = kind == Kind.AUDIO or (kind is None and all(_named_sound(path) for path in paths))
    wanted: Literal["image", "audio"] = "audio" if sounds else "image"
    if resume and rows is None:
        raise UsageError("--resume needs --rows FILE, as the interrupted job had it")
    if scheduler is not None and jobs is not None:
        raise UsageError("--scheduler and --jobs exclude each other: the cluster says how many work; give one of them")
    if wanted == "audio":
        given = {"--against": against, "--rows": rows, "--scheduler": scheduler, "--jobs": jobs}
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} is for pictures; recordings are measured one after the other")
    if output is not None:
        expect_writable(output)
    with closing(open_measured(form.value, view(terminal=output is None))) as reporter:
        watch = Watch(reporter)
        result = measured(
            paths,
            wanted,
            watch,
            periods=None if periods is None else parse_periods(periods),
            against=against,
            rows=rows,
            resume=resume,
            scheduler=scheduler,
            jobs=jobs,
            origin=origin.value,
        )
        if output is None:
            put(reporter.parts(result))
        else:
            write(output, reporter.parts(result))
            say(f"{output}: {watch.summary(result)}")
    show_failures(result, watch.ignored)
    raise typer.Exit(watch.exit_code(result, fail_over))


def _named_sound(path: str) -> bool:
    from evenly.measure.sources import EXTENSIONS

    return Path(path).suffix.lower() in EXTENSIONS["audio"]
