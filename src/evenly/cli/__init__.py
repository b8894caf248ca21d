"""The command line: parse, call, exit code; no theory. A command is a module here, and one line below.

Exit codes: 0 clean; 1 findings (what experiments say is none), or a repair that is not complete or fails its proof; 2
usage or input error. Errors are one line on stderr. An interrupt exits with 130 and a closed pipe with 141, as a shell
would report them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from evenly import __version__
from evenly.cli import attribute, check, explore, fix, measure, reproduce, rule
from evenly.cli.check import FailOn, Format
from evenly.cli.measure import Form
from evenly.cli.writing import CLEAN, ERROR, FINDINGS, INTERRUPTED
from evenly.errors import EvenlyError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FailOn", "Form", "Format", "main"]

app = typer.Typer(
    name="evenly",
    help="Find and repair checkerboard artifacts: in neural networks before and after training, and in what they make.",
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


app.command("attribute")(attribute.attribute)
app.command("check")(check.check)
app.command("explore")(explore.explore)
app.command("fix")(fix.fix)
app.command("measure")(measure.measure)
app.command("reproduce")(reproduce.reproduce)
app.command("rule")(rule.rule)


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
        sys.exit(INTERRUPTED)
    except EvenlyError as error:
        _trace(arguments)
        code = _fail(str(error))
        sys.exit(FINDINGS if isinstance(error, VerificationError) else code)
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
    sys.exit(code if isinstance(code, int) else CLEAN)


def _trace(arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()


def _fail(message: str) -> int:
    from evenly.report.words import clean

    sys.stderr.write(f"error: {clean(' '.join(message.split()))}\n")
    return ERROR
