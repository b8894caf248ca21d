"""``evenly check``."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evenly.cli._options import Debug, OutputFile, Shapes, Trust, Weights
from evenly.cli.writing import FINDINGS, deliver, expect_writable, say, write
from evenly.errors import UsageError

if TYPE_CHECKING:
    from evenly.settings import Settings

__all__ = ["FailOn", "Format", "check"]


class Format(StrEnum):
    """Formats of the report."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"
    HTML = "html"
    MARKDOWN = "markdown"


class FailOn(StrEnum):
    """Lowest severity that makes the command fail."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="A .onnx file, a .pt2 file, or package.module:attribute (module, class or function)."
        ),
    ],
    inputs: Shapes = None,
    form: Annotated[Format, typer.Option("--format", help="Format of the report.")] = Format.TEXT,
    output: OutputFile = None,
    select: Annotated[
        list[str] | None, typer.Option("--select", metavar="CODES", help="Report only these, e.g. EV1,EV201.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", metavar="CODES", help="Leave these out.")] = None,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help=r"Lowest severity that exits with 1. \[default: error]")
    ] = None,
    backward: Annotated[
        bool | None, typer.Option("--backward/--no-backward", help=r"Analyse gradients. \[default: backward]")
    ] = None,
    weights: Weights = None,
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Ignore all weights: structure only.")] = False,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="Accept the findings in this file.")
    ] = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option("--write-baseline", metavar="FILE", help="Accept all findings of today, in this file."),
    ] = None,
    trust: Trust = False,
    train: Annotated[bool, typer.Option("--train", help="Read in training mode (batch statistics).")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every layer.")] = False,
    debug: Debug = False,
) -> None:
    r"""Say which layers can or do make periodic artifacts, forward and backward.

    Exits with 0 if there is nothing at or above --fail-on, 1 if there is, and 2 on a usage or input error. Settings
    come from \[tool.evenly] in the nearest pyproject.toml; options here win.
    """
    from evenly.load import parse_input
    from evenly.settings import Baseline, codes, failing, find_settings, load_baseline, load_settings

    if no_weights and weights is not None:
        raise UsageError("--weights and --no-weights exclude each other; give one of them")
    if baseline is not None and write_baseline is not None:
        raise UsageError("--baseline and --write-baseline exclude each other; give one of them")
    settings = _override(
        load_settings(find_settings(Path.cwd())),
        select=codes(select, "--select") if select is not None else None,
        ignore=codes(ignore, "--ignore") if ignore is not None else None,
        fail_on=fail_on.value if fail_on is not None else None,
        backward=backward,
        baseline=baseline,
    )
    declared = [parse_input(text) for text in inputs or ()]
    accepted = load_baseline(settings.baseline) if settings.baseline is not None and write_baseline is None else None
    for path in (output, write_baseline):
        if path is not None:
            expect_writable(path)

    from evenly.load import load_target

    loaded = load_target(
        target, inputs=declared, weights=weights, use_weights=not no_weights, trust=trust, training=train
    )

    from evenly.api import report_on
    from evenly.report import render
    from evenly.report.words import summary

    report = report_on(loaded, settings)
    if write_baseline is not None:
        write(write_baseline, Baseline.of(report).to_json())
        say(f"{write_baseline}: accepts the findings of today ({len(report.findings)})")
        return
    if accepted is not None:
        report, known = accepted.split(report)
        if known:
            report = replace(report, notes=(*report.notes, f"{known} accepted by the baseline {settings.baseline}"))
    deliver(output, lambda seen: render(report, form.value, seen), lambda: summary(report), verbose=verbose)
    if failing(report, settings.fail_on):
        raise typer.Exit(FINDINGS)


def _override(settings: Settings, **options: object) -> Settings:
    """The settings with the options that were given."""
    given = {name: value for name, value in options.items() if value is not None}
    return replace(settings, **given)  # type: ignore[arg-type]
