"""The command line: parse, call, exit code; no theory.

Exit codes: 0 clean; 1 findings at or above ``--fail-on``; 2 usage or input error, one line on stderr. An interrupt
exits with 130 and a closed pipe with 141, as a shell would report them.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evenly import __version__
from evenly.errors import EvenlyError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenly.check.rules import Rule
    from evenly.report import View
    from evenly.settings import Settings

__all__ = ["main"]

_CLEAN, _FINDINGS, _ERROR, _INTERRUPTED, _CLOSED_PIPE = 0, 1, 2, 130, 141
_FILE_WIDTH = 100


class Format(StrEnum):
    """Formats of the report."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


class FailOn(StrEnum):
    """Lowest severity that makes the command fail."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


app = typer.Typer(
    name="evenly",
    help="Find checkerboard artifacts in neural networks before training.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evenly {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# --------------------------------------------------------------------------------------------------------------- check


@app.command()
def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="A .onnx file, a .pt2 file, or package.module:attribute (module, class or function)."
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="SHAPE", help="[name=]1,8,16,16[:int64]; once per input."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Format of the report.")] = Format.TEXT,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write the report here.")] = None,
    select: Annotated[
        list[str] | None, typer.Option("--select", metavar="CODES", help="Report only these, e.g. EV1,EV201.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", metavar="CODES", help="Leave these out.")] = None,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Lowest severity that exits with 1. [default: error]")
    ] = None,
    backward: Annotated[
        bool | None, typer.Option("--backward/--no-backward", help="Analyse gradients. [default: backward]")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="A .safetensors file for package.module:attribute."),
    ] = None,
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Ignore all weights: structure only.")] = False,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="Accept the findings in this file.")
    ] = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option("--write-baseline", metavar="FILE", help="Accept all findings of today, in this file."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a .pt2 file although its loader can execute code.")
    ] = False,
    train: Annotated[bool, typer.Option("--train", help="Read in training mode (batch statistics).")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every layer.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Say which layers can or do make periodic artifacts, forward and backward.

    Exits with 0 if there is nothing at or above --fail-on, 1 if there is, and 2 on a usage or input error. Settings
    come from [tool.evenly] in the nearest pyproject.toml; options here win.
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
            _expect_writable(path)

    from evenly.load import load_target

    loaded = load_target(
        target, inputs=declared, weights=weights, use_weights=not no_weights, trust=trust, training=train
    )

    from evenly.api import report_on
    from evenly.report import render

    report = report_on(loaded, settings)
    if write_baseline is not None:
        _write(write_baseline, Baseline.of(report).to_json())
        _say(f"{write_baseline}: accepts the findings of today ({len(report.findings)})")
        return
    if accepted is not None:
        report, known = accepted.split(report)
        if known:
            report = replace(report, notes=(*report.notes, f"{known} accepted by the baseline {settings.baseline}"))
    if output is None:
        _print(render(report, form.value, _view(verbose)))
    else:
        from evenly.report.words import summary

        _write(output, render(report, form.value, _view(verbose, terminal=False)))
        _say(f"{output}: {summary(report)}")
    if failing(report, settings.fail_on):
        raise typer.Exit(_FINDINGS)


def _override(settings: Settings, **options: object) -> Settings:
    """The settings with the options that were given."""
    given = {name: value for name, value in options.items() if value is not None}
    return replace(settings, **given)  # type: ignore[arg-type]


def _view(verbose: bool, *, terminal: bool = True) -> View:
    from evenly.report import View

    if not terminal:
        return View(verbose=verbose, width=_FILE_WIDTH)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size((_FILE_WIDTH, 24)).columns
    return View(verbose=verbose, width=width, colour=colour)


# ---------------------------------------------------------------------------------------------------------------- rule


@app.command()
def rule(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="A code (EV101) or a name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Explain every rule.")] = False,
) -> None:
    """Explain a rule: what it finds, why it matters, what to use instead. Without a code, list the rules."""
    from evenly.check.rules import RULES

    if everything:
        chosen = list(RULES.values())
    elif code is None:
        _print("".join(f"{r.code}  {r.severity:<8} {r.name}: {r.summary}\n" for r in RULES.values()))
        return
    else:
        chosen = [r for r in RULES.values() if code.upper() == r.code or code.lower() == r.name]
        if not chosen:
            raise UsageError(f"CODE (={code!r}) is no rule; expected one of {', '.join(RULES)}")
    _explain(chosen)


def _explain(rules: Sequence[Rule]) -> None:
    text = "\n".join(r.markdown() for r in rules)
    if not sys.stdout.isatty():
        _print(text)
        return
    import io

    from rich.console import Console
    from rich.markdown import Markdown

    sink = io.StringIO()
    width = shutil.get_terminal_size((_FILE_WIDTH, 24)).columns
    console = Console(file=sink, force_terminal=True, width=width, no_color=bool(os.environ.get("NO_COLOR")))
    console.print(Markdown(text))
    _print(sink.getvalue())


# ------------------------------------------------------------------------------------------------------------- writing


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone. Typer would exit with 1, which means findings; and Python would complain once more when
        # it flushes at exit, so give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_CLOSED_PIPE) from None


def _say(line: str) -> None:
    _print(line + "\n")


def _expect_writable(path: Path) -> None:
    """Fail before the work rather than after it."""
    if path.is_dir():
        raise OutputError(f"{path}: a folder; expected a file to write")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: there is no folder {path.parent}; make it first")


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename.

    Raises:
        OutputError: If it cannot be written.
    """
    final = path.resolve()  # a link stays a link
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        if final.exists() and not stat.S_ISREG(final.stat().st_mode):  # a device or a pipe
            final.write_text(text, encoding="utf-8")
            return
        try:
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            temporary.replace(final)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another --output") from error


# ---------------------------------------------------------------------------------------------------------------- main


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        argv: Arguments without the program's name; by default those of the process.

    Raises:
        SystemExit: Always, with the exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode shows escapes instead of failing
    try:
        code = app(args=arguments, prog_name="evenly", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):  # where Typer does not turn it into the exit code itself
        sys.exit(_INTERRUPTED)
    except EvenlyError as error:
        _trace(arguments)
        sys.exit(_fail(str(error)))
    except Exception as error:
        _trace(arguments)
        # Typer's own usage errors know how to word themselves.
        if callable(wording := getattr(error, "format_message", None)):
            sys.exit(_fail(f"{wording()} See evenly --help."))
        sys.exit(
            _fail(
                f"unexpected {type(error).__name__}: {error}. This is a defect of evenly: please report it with the "
                "output of the same command with --debug"
            )
        )
    sys.exit(code if isinstance(code, int) else _CLEAN)


def _trace(arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()


def _fail(message: str) -> int:
    from evenly.report.words import clean

    sys.stderr.write(f"error: {clean(' '.join(message.split()))}\n")
    return _ERROR
