"""``evenly explore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evenly.cli._options import Debug, Trust
from evenly.cli.writing import expect_writable, say, write
from evenly.errors import UnreadableError, UsageError

__all__ = ["explore"]

PORT = 8016
LARGEST = 64 * 2**20
"""Bytes of a report that is read."""


def explore(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="What `evenly check` takes, or a .json report that it wrote; shown in the last panel.",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="SHAPE", help=r"\[name=]1,8,16,16 or \[name=]1,77:int64; once per input of MODEL."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = PORT,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the page here and serve nothing.")
    ] = None,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Open the interactive explorer: what makes checkerboards, and the layers of MODEL.

    The page is one file that needs no network. It is served to this machine only, until the command is interrupted, or
    written to --output.
    """
    from evenly.explore import page

    if output is not None:
        expect_writable(output)
    if model is None and inputs:
        raise UsageError("--input describes an input of MODEL; give a MODEL too")
    html = page(_report(model, inputs or [], trust=trust) if model is not None else None)
    panel = "#network" if model is not None else ""
    if output is not None:
        write(output, html)
        say(f"{output}: open it in a browser")
        return

    from evenly.explore.serve import server

    with server(html, port) as served:
        say(f"http://127.0.0.1:{served.server_port}/{panel}  (Ctrl+C ends)")
        served.serve_forever()


def _report(model: str, inputs: list[str], *, trust: bool) -> str:
    """The JSON report on a model, or the one in a file."""
    if model.endswith(".json"):
        if inputs:
            raise UsageError(f"--input does not go with a report (={model!r}); give the model, or leave --input out")
        return _read(Path(model))

    from evenly.api import report_on
    from evenly.load import load_target, parse_input
    from evenly.settings import find_settings, load_settings

    settings = load_settings(find_settings(Path.cwd()))
    loaded = load_target(model, inputs=[parse_input(text) for text in inputs], trust=trust)
    return report_on(loaded, settings).to_json()


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UnreadableError(f"{path}: {size} bytes; expected a report of up to {LARGEST} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror or error}; give a report or a model") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"{path}: not UTF-8; expected a report that `evenly check --format json` wrote"
        ) from error
