"""``evenly rule``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from evenly.cli.writing import FILE_WIDTH, put
from evenly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenly.check.rules import Rule

__all__ = ["rule"]


def rule(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="A code (EV101) or a name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Explain every rule.")] = False,
) -> None:
    """Explain a rule: what it finds, why it matters, what to use instead. Without a code, list the rules."""
    from evenly.check.rules import RULES

    if everything:
        chosen = list(RULES.values())
    elif code is None:
        put("".join(f"{r.code}  {r.severity:<8} {r.name}: {r.summary}\n" for r in RULES.values()))
        return
    else:
        chosen = [r for r in RULES.values() if code.upper() == r.code or code.lower() == r.name]
        if not chosen:
            raise UsageError(f"CODE (={code!r}) is no rule; expected one of {', '.join(RULES)}")
    _explain(chosen)


def _explain(rules: Sequence[Rule]) -> None:
    text = "\n".join(r.markdown() for r in rules)
    if not sys.stdout.isatty():
        put(text)
        return
    import io

    from rich.console import Console
    from rich.markdown import Markdown

    sink = io.StringIO()
    width = shutil.get_terminal_size((FILE_WIDTH, 24)).columns
    console = Console(file=sink, force_terminal=True, width=width, no_color=bool(os.environ.get("NO_COLOR")))
    console.print(Markdown(text))
    put(sink.getvalue())
