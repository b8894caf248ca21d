"""``evenly attribute``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from evenly.cli._options import RANDOM, Debug, OutputPeriods, Range, ReportFile, Shapes, Trust, Weights
from evenly.cli.running import parse_periods, parse_range, progress
from evenly.cli.writing import FINDINGS, deliver, expect_writable

if TYPE_CHECKING:
    from evenly.fix.attributed import Attribution

__all__ = ["AttributionForm", "attribute"]


class AttributionForm(StrEnum):
    """Formats of the report."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


def attribute(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A .onnx or .pt2 file, or package.module:attribute."),
    ],
    shapes: Shapes = None,
    weights: Weights = None,
    inputs: Annotated[
        str,
        typer.Option(
            "--inputs",
            metavar="SOURCE",
            help="What to run it on: a folder of pictures or recordings, a .npy or .npz file, or random signals.",
        ),
    ] = RANDOM,
    values: Range = "0,1",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=2, help="Most signals from SOURCE.")] = 64,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="NAME", help="Output of the model to explain, if it has several."),
    ] = None,
    periods: OutputPeriods = None,
    backward: Annotated[
        bool, typer.Option("--backward", help="Explain lines in the gradient of the input; torch only.")
    ] = False,
    trust: Trust = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of random signals and of fresh weights.")] = 0,
    form: Annotated[AttributionForm, typer.Option("--format", help="Format of the report.")] = AttributionForm.TEXT,
    report: ReportFile = None,
    debug: Debug = False,
) -> None:
    """Say which layers make the lines in what MODEL gives, by making each of them even alone and running it again.

    Exits with 0 if no line stands out, 1 if one does, and 2 on a usage or input error.
    """
    from evenly.load import load_network, parse_input

    declared = [parse_input(text) for text in shapes or ()]
    wanted = None if periods is None else parse_periods(periods)
    scale = parse_range(values)
    if report is not None:
        expect_writable(report)
    network = load_network(model, inputs=declared, weights=weights, seed=seed, trust=trust)

    from evenly.api import attribute_network
    from evenly.report import render_attributed

    with progress("runs") as told:
        found = attribute_network(
            network,
            None if inputs == RANDOM else inputs,
            values=scale,
            limit=limit,
            periods=wanted,
            output=output,
            backward=backward,
            seed=seed,
            progress=told,
        )
    deliver(report, lambda seen: render_attributed(found, form.value, seen), lambda: _summary(found))
    if found.present:
        raise typer.Exit(FINDINGS)


def _summary(found: Attribution) -> str:
    from evenly.report.attributed_words import verdict
    from evenly.report.words import clean

    return clean(" ".join(verdict(found)))
