"""``evenly fix``."""

from __future__ import annotations

import os
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evenly.cli._options import RANDOM, Debug, OutputPeriods, Range, ReportFile, Shapes, Weights
from evenly.cli.running import bars, parse_periods, parse_range
from evenly.cli.writing import FINDINGS, deliver, expect_writable, say
from evenly.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from evenly.fix.result import FixReport

__all__ = ["FixForm", "Way", "fix"]

SUFFIXES = {".json": "json", ".md": "markdown", ".html": "html", ".htm": "html"}
"""Formats of reports by what their files are called."""


class FixForm(StrEnum):
    """Formats of the report."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


class Way(StrEnum):
    """Methods of repair."""

    AUTO = "auto"
    SOLVE = "solve"
    BALANCE = "balance"
    RESIZE = "resize"
    SUBPIXEL = "subpixel"
    FOLD = "fold"
    ANTIALIAS = "antialias"


def fix(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A .onnx file, or package.module:attribute (module, class or function)."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="OUT", help="The repaired model: .onnx, or .safetensors of a module's weights."
        ),
    ],
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            metavar="SOURCE",
            help="Inputs to repair and prove with: a folder of pictures or recordings, a .npy or .npz file, or random.",
        ),
    ] = RANDOM,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="SOURCE", help="Real data: lines need not fall below its own."),
    ] = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="The reference is what should come out, signal by signal.")
    ] = False,
    method: Annotated[Way, typer.Option("--method", help="How to repair; docs/fix.md says which one when.")] = Way.AUTO,
    layers: Annotated[
        str, typer.Option("--layers", metavar="NAMES", help="Layers that may be changed: auto, or names and commas.")
    ] = "auto",
    max_distortion: Annotated[
        float, typer.Option("--max-distortion", metavar="DB", help="Least PSNR to the original output.")
    ] = 36.0,
    within: Annotated[
        float, typer.Option("--within", metavar="DB", help="How far lines may stand over the reference.")
    ] = 3.0,
    periods: OutputPeriods = None,
    finetune: Annotated[
        int, typer.Option("--finetune", metavar="STEPS", min=0, help="Train inside the constraint; modules only.")
    ] = 0,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="Where fine-tuning keeps its state, and goes on from."),
    ] = None,
    shapes: Shapes = None,
    weights: Weights = None,
    values: Range = "0,1",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=2, help="Most signals from a SOURCE.")] = 64,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of everything that is drawn.")] = 0,
    report: ReportFile = None,
    form: Annotated[
        FixForm | None,
        typer.Option("--format", help=r"Format of the report. \[default: as FILE is called, else text]"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Repair a trained MODEL and prove it: lines, distortion and cost, on data that was kept for the proof.

    Exits with 0 if every line is within --within (or layers were replaced, as asked), 1 if some are not (OUT is the
    best model within --max-distortion) or if what was written fails its proof (nothing is left behind), and 2 on a
    usage or input error. MODEL itself is never changed.
    """
    from evenly.load import load_network, parse_input

    declared = [parse_input(text) for text in shapes or ()]
    options: dict[str, Any] = {
        "values": parse_range(values),
        "periods": None if periods is None else parse_periods(periods),
        "layers": _names(layers),
        "method": method.value,
    }
    _expect_places(
        {"--output": output, "--report": report, "--checkpoint": checkpoint},
        {
            "MODEL": Path(model),
            "--weights": weights,
            "--calibration": Path(calibration),
            "--reference": _path(reference),
        },
        model,
    )
    chosen = form or FixForm(SUFFIXES.get("" if report is None else report.suffix.lower(), "text"))
    network = load_network(model, inputs=declared, weights=weights, seed=seed)

    from evenly.fix.calibration import fix_network
    from evenly.report.fixed import render_fix

    with _progress() as told:
        found = fix_network(
            network,
            None if calibration == RANDOM else calibration,
            reference,
            limit=limit,
            seed=seed,
            paired=paired,
            max_distortion=max_distortion,
            finetune=finetune,
            within_db=within,
            checkpoint=checkpoint,
            progress=told,
            **options,
        )
    found.save(output)
    deliver(report, lambda seen: render_fix(found.report, chosen.value, seen), lambda: _summary(found.report))
    if report is not None or chosen is FixForm.TEXT:
        say(f"{output}: written, read again and compared: {_kind(output)}")
    if not found.report.ok:
        raise typer.Exit(FINDINGS)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _names(text: str) -> Any:
    if text == "auto":
        return text
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"--layers (={text!r}) must be auto, or names of layers separated by commas")
    return names


def _expect_places(written: Mapping[str, Path | None], read: Mapping[str, Path | None], model: str) -> None:
    """Refuse places before the work: of another format, that cannot be written, or where something stands that is read.

    Raises:
        UsageError: If a place is wrong.
        OutputError: If it cannot be written.
    """
    from evenly.fix.saving import check_suffix

    suffix = Path(model).suffix.lower()
    output = written["--output"]
    if output is not None and (":" in model or suffix == ".onnx"):  # others are refused when they are loaded
        check_suffix(output, onnx=suffix == ".onnx")
    places = {name: path for name, path in written.items() if path is not None}
    for path in places.values():
        expect_writable(path)
        if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            raise OutputError(f"{path}: cannot be written: no permission; choose another path")
    taken = {path.resolve(): name for name, path in read.items() if path is not None}
    for name, path in places.items():
        other = taken.setdefault(path.resolve(), name)
        if other != name:
            raise UsageError(f"{name} (={str(path)!r}) is {other} itself, which stays as it is; choose another path")


def _summary(report: FixReport) -> str:
    from evenly.report.fixed_words import verdict
    from evenly.report.words import clean

    return clean(verdict(report))


def _kind(output: Path) -> str:
    return "an ONNX model" if output.suffix.lower() == ".onnx" else "load it with evenly.fix.restore"


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None] | None]:
    """A bar on standard error; none where that is no terminal."""
    from rich.progress import TaskProgressColumn

    with bars(TaskProgressColumn()) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task("reading", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
