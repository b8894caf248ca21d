"""What was measured as a page for people who would rather look: see :mod:`evenly.report.page`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evenly.report import measured_json
from evenly.report.page.measured_page import measured_page
from evenly.report.page.set_parts import Tally
from evenly.report.ranked import MOST_FILES, Ranked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from evenly.report import Measured, View

__all__ = ["Writer"]

_MOST_DATA = 800_000
"""Characters of single files' results that the page holds; of more it holds those of the files that show most."""


class Writer:
    """See :class:`evenly.report.MeasuredReporter`; the view changes nothing."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._ranked = Ranked()
        self._tally = Tally()
        self._data = measured_json.Writer(view)
        self._size = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file; those that failed are listed with the set."""
        if "error" in record:
            return
        self._ranked.add(record)
        self._tally.add(record)
        if self._size <= _MOST_DATA:
            self._size += len(json.dumps(record))
            self._data.add(record)

    def add_against(self, record: Mapping[str, Any]) -> None:
        """One more file of the set to compare with."""
        if "error" not in record:
            self._tally.add(record, against=True)

    def parts(self, result: Measured) -> Iterator[str]:
        """The page."""
        ranked, remark = self._ranked.best(), None
        if self._size > _MOST_DATA:
            self._data.close()
            self._data = measured_json.Writer(self._view)
            for record in ranked:
                self._data.add(record)
            remark = f"Of single files it has the {MOST_FILES} that show most; --format json has all."
        yield measured_page(result, ranked, self._tally, "".join(self._data.parts(result)), remark)

    def close(self) -> None:
        """Delete what waits on disk."""
        self._data.close()
