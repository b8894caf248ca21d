"""What was measured as JSON, see ``docs/json.md``: one line per file, so that millions can be read as they come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evenly import __version__
from evenly.measure.result import FORMAT_VERSION
from evenly.report.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from evenly.report import Measured, View

__all__ = ["LISTS", "Writer"]

LISTS = {"image": "images", "audio": "sounds"}
"""Key of the list of files, by kind."""


class Writer:
    """See :class:`evenly.report.MeasuredReporter`; the view changes nothing."""

    def __init__(self, view: View) -> None:
        self._files = Spool()

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file; those that failed are listed with the set."""
        if "error" not in record:
            self._files.add(_json(record))

    def parts(self, result: Measured) -> Iterator[str]:
        """The text, a file at a time."""
        yield f'{{\n"format_version": {FORMAT_VERSION},\n'
        yield f'"tool": {_json({"name": "evenly", "version": __version__})},\n'
        yield f'"kind": {_json(result.kind)},\n"{LISTS[result.kind]}": ['
        before = "\n"
        for line in self._files:
            yield before + line
            before = ",\n"
        yield "\n],\n" if before.startswith(",") else "],\n"
        yield f'"set": {_json(result.set.to_dict())}'
        if result.against is not None:
            yield f',\n"against": {_json(result.against.to_dict())}'
        if result.comparison is not None:
            yield f',\n"comparison": {_json(result.comparison.to_dict())}'
        yield "\n}\n"

    def close(self) -> None:
        """Delete what waits on disk."""
        self._files.close()


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
