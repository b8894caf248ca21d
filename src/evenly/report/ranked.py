"""The files that show most, in memory that does not grow with their number."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from evenly.measure.result import TRACES, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.report import View

__all__ = ["MOST_FILES", "Ranked", "RankedWriter"]

MOST_FILES = 20
"""Of more files than these, only those that show most are kept."""


class Ranked:
    """Keeps the JSON forms of the files that show most."""

    def __init__(self) -> None:
        self._worst: list[tuple[tuple[int, float], int, Mapping[str, Any]]] = []
        self.added = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file that was measured."""
        entry = (VERDICTS.index(record["verdict"]), _evidence(record)), -self.added, record
        self.added += 1
        if len(self._worst) < MOST_FILES:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heappushpop(self._worst, entry)

    def best(self) -> list[Mapping[str, Any]]:
        """Most first; of equals, in the order in which they came."""
        return [record for _, _, record in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]


class RankedWriter:
    """What reporters do that keep the files that show most; see :class:`evenly.report.MeasuredReporter`."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._ranked = Ranked()

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file; those that failed are told of with the set."""
        if "error" not in record:
            self._ranked.add(record)

    def close(self) -> None:
        """Nothing is held on disk."""


def _evidence(record: Mapping[str, Any]) -> float:
    """How much a file shows: ``-log10`` of its smallest p-value."""
    names = (*(f"{trace}_log10_p" for trace in TRACES), "tone_log10_p")
    there = (value for r in record["periods"].values() for n in names if (value := (r or {}).get(n)) is not None)
    return -min(there, default=0.0)
