"""What commands share that take long: reading their options, showing how far they are."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evenly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, ProgressColumn

__all__ = ["bars", "parse_periods", "parse_range", "progress"]


def parse_periods(text: str) -> tuple[int, ...]:
    """Read ``2,4,8``.

    Raises:
        UsageError: If it is something else, or a period is less than 2.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 2:
        raise UsageError(f"--periods (={text}) must be whole numbers of at least 2, separated by commas, e.g. 2,4,8")
    return tuple(found)


def parse_range(text: str) -> tuple[float, float]:
    """Read ``-1,1``: what black and white become.

    Raises:
        UsageError: If it is something else, or black is not below white.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high or high - low == float("inf"):
        raise UsageError(f"--range (={text}) must be what black and white become, e.g. 0,1 or -1,1")
    return low, high


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error, told how many are done and of how many; none where that is no terminal."""
    from rich.progress import MofNCompleteColumn

    with bars(MofNCompleteColumn()) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def bars(figures: ProgressColumn) -> Iterator[Progress | None]:
    """Bars with the time left on standard error, gone at the end; none where that is no terminal.

    Args:
        figures: What stands between a bar and its time.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), figures, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield shown
