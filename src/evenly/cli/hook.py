"""``python -m evenly.cli.hook``: ``evenly check`` for pre-commit, which names many files at once.

pre-commit puts its options first and the files that are to be committed last; ``evenly check`` takes one target. Every
file is checked with the same options, and the worst exit code counts.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from evenly.cli import main as evenly

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_SUFFIXES = (".onnx", ".pt2")


def main(argv: Sequence[str] | None = None) -> None:
    """Check every file at the end of the arguments; without one, whatever the arguments say.

    Args:
        argv: Options of ``evenly check``, then files; by default the arguments of the process.

    Raises:
        SystemExit: Always: 0 if all are clean, 1 if one has findings, 2 if one cannot be read.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    files: list[str] = []
    while given and given[-1].lower().endswith(_SUFFIXES) and Path(given[-1]).is_file():
        files.insert(0, given.pop())
    calls = [["check", *given, "--", file] for file in files] or [["check", *given]]
    sys.exit(max(_code(call) for call in calls))


def _code(arguments: Sequence[str]) -> int:
    try:
        evenly(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    main()
