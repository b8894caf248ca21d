"""Options that several commands have, declared once; a default stands at the command.

Help is read as Rich markup: a bracket before a letter is escaped, or what is in the brackets is not shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "RANDOM",
    "Debug",
    "OutputFile",
    "OutputPeriods",
    "Range",
    "ReportFile",
    "Shapes",
    "Trust",
    "Weights",
]

RANDOM = "random"
"""In place of a source of signals: draw them."""

Shapes = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="SHAPE", help=r"\[name=]1,8,16,16 or \[name=]1,77:int64; once per input."),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="A .safetensors file for package.module:attribute.")
]
Trust = Annotated[bool, typer.Option("--trust", help="Load a .pt2 file although its loader can execute code.")]
Range = Annotated[str, typer.Option("--range", metavar="LOW,HIGH", help="What black and white of pictures become.")]
OutputPeriods = Annotated[
    str | None, typer.Option("--periods", metavar="LIST", help="Periods in samples of the output, e.g. 2,4.")
]
OutputFile = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write the report here.")]
ReportFile = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write the report here.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
