"""Lines that wait on disk until a report is complete, so that memory stays flat however many there are."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile, gettempdir
from typing import TYPE_CHECKING

from evenly.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Spool"]

_IN_MEMORY = 1_000_000  # bytes, before anything is written to disk


class Spool:
    """Lines in, the same lines out, each without its end."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="\n")  # noqa: SIM115

    def add(self, line: str) -> None:
        """Keep a line.

        Raises:
            OutputError: If the disk is full.
        """
        try:
            self._file.write(line + "\n")
        except OSError as error:
            raise OutputError(
                f"{gettempdir()}: cannot hold the results of single files: {error.strerror or error}; make room, or "
                "name a folder with more in the environment variable TMPDIR"
            ) from error

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        for line in self._file:
            yield line.removesuffix("\n")

    def close(self) -> None:
        """Delete what is on disk."""
        self._file.close()
