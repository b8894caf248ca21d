"""What every command does with its results: print them, write them, say how it ended."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evenly.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evenly.report import View

__all__ = [
    "CLEAN",
    "CLOSED_PIPE",
    "ERROR",
    "FILE_WIDTH",
    "FINDINGS",
    "INTERRUPTED",
    "deliver",
    "expect_writable",
    "put",
    "say",
    "view",
    "write",
]

CLEAN, FINDINGS, ERROR, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 130, 141
FILE_WIDTH = 100
"""Columns of text that is not for a terminal."""


def view(*, verbose: bool = False, terminal: bool = True) -> View:
    """How text is to be shown: on this terminal, or in a file."""
    from evenly.report import View

    if not terminal:
        return View(verbose=verbose, width=FILE_WIDTH)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size((FILE_WIDTH, 24)).columns
    return View(verbose=verbose, width=width, colour=colour)


def put(text: str | Iterable[str]) -> None:
    """Print text, or its parts one after the other.

    Raises:
        OutputError: If standard output cannot take it.
    """
    try:
        for part in [text] if isinstance(text, str) else text:
            sys.stdout.write(part)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone. Typer would exit with 1, which means findings.
        _turn_away()
        raise typer.Exit(CLOSED_PIPE) from None
    except OSError as error:
        _turn_away()
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error


def _turn_away() -> None:
    """Give Python somewhere to write what is left: it would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(line: str) -> None:
    """Print a line."""
    put(line + "\n")


def deliver(
    path: Path | None, shown: Callable[[View], str], summary: Callable[[], str], *, verbose: bool = False
) -> None:
    """Print a report, or write it and print its summary.

    Args:
        path: Where to write it; without one it is printed.
        shown: The report as text.
        summary: The report in one line.
        verbose: Whether every layer is wanted.

    Raises:
        OutputError: If it cannot be printed or written.
    """
    if path is None:
        put(shown(view(verbose=verbose)))
    else:
        write(path, shown(view(verbose=verbose, terminal=False)))
        say(f"{path}: {summary()}")


def expect_writable(path: Path) -> None:
    """Fail before the work rather than after it."""
    if path.is_dir():
        raise OutputError(f"{path}: a folder; expected a file to write")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: there is no folder {path.parent}; make it first")


def write(path: Path, text: str | Iterable[str]) -> None:
    """Write a file, from its text or the parts of it, whole or not at all: a temporary file beside it, then a rename.

    Raises:
        OutputError: If it cannot be written.
    """
    final = path.resolve()  # a link stays a link
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        if final.exists() and not stat.S_ISREG(final.stat().st_mode):  # a device or a pipe
            with final.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines([text] if isinstance(text, str) else text)
            return
        try:
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                file.writelines([text] if isinstance(text, str) else text)
            temporary.replace(final)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another --output") from error
