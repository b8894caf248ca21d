"""What a job over a set of pictures has finished, so that it can go on after a kill with nothing lost or counted twice.

A folder beside the rows file. ``log`` has a line for every finished batch of pictures, written through to the disk
before the next. From time to time the lines are folded into ``state.json``, and their records into a ``part``; the
renaming of ``state.json`` is what counts, so a kill between any two steps leaves one of two whole journals. A line that
was torn is dropped; its batch is measured again.

A batch is known by its place in the order of all sources and by a chain of digests over the sources up to its end: the
journal fits a set of files exactly if the chains agree.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import shutil
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from evenly.errors import OutputError, UsageError
from evenly.measure.accumulate import SetState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Batch", "Journal"]

_FOLD_BATCHES, _FOLD_BYTES = 64, 8 * 2**20


@dataclass(frozen=True)
class Batch:
    """Finished pictures, consecutive in the order of all sources.

    Attributes:
        first: Place of the first.
        count: How many.
        chain: Digest of all sources up to the last of them.
        state: What they add to the set.
        records: JSON form of each.
    """

    first: int
    count: int
    chain: str
    state: SetState
    records: list[dict[str, Any]]

    def to_line(self) -> bytes:
        """One line of text, with a check sum."""
        form = [self.first, self.count, self.chain, self.state.to_dict(), self.records]
        return base64.b64encode(zlib.compress(json.dumps(form).encode(), 1)) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Batch:
        """From its line.

        Raises:
            ValueError: If the line is torn.
        """
        if not line.endswith(b"\n"):
            raise ValueError("torn line")
        try:
            text = zlib.decompress(base64.b64decode(line[:-1], validate=True))
        except zlib.error as error:
            raise ValueError("torn line") from error
        first, count, chain, state, records = json.loads(text)
        return cls(first, count, chain, SetState.from_dict(state), records)


class Journal:
    """The journal of one job.

    Args:
        folder: Where it lives.
        parameters: What the results depend on; JSON.
        resume: Go on with a journal that is there.

    Attributes:
        next: All sources before this place are in ``state.json``.
        chain: Their digest.
        batches: Finished batches after that, by their first place.

    Raises:
        UsageError: If there is a journal and ``resume`` is false, or if it is of another job.
        OutputError: If it cannot be written.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], *, resume: bool) -> None:
        self.folder = folder
        self.next, self.chain, self.parts = 0, "", 0
        self.batches: dict[int, Batch] = {}
        self._folded = SetState()
        self._log: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None
        with self._writing():
            folder.mkdir(exist_ok=True)
            self._take_lock()
            if not self._has_batches():
                self._replace("job.json", json.dumps(dict(parameters), indent=2).encode())
            elif resume:
                self._load(parameters)
            else:
                raise UsageError(
                    f"{folder}: an earlier job was interrupted; go on with it (resume), or remove this folder to start "
                    "again"
                )
            if self._log is None:
                self._log = open(folder / "log", "ab", buffering=0)  # noqa: SIM115

    def _has_batches(self) -> bool:
        log = self.folder / "log"
        return (self.folder / "state.json").exists() or (log.exists() and log.stat().st_size > 0)

    def add(self, batch: Batch) -> None:
        """Keep a finished batch; it is on the disk when this returns."""
        assert self._log is not None
        with self._writing():
            self._log.write(batch.to_line())
            os.fsync(self._log.fileno())
            self.batches[batch.first] = batch
            if len(self.batches) >= _FOLD_BATCHES or self._log.tell() > _FOLD_BYTES:
                self._fold()

    def state(self) -> SetState:
        """The state of all finished pictures."""
        total = SetState().merge(self._folded)
        for batch in self.batches.values():
            total.merge(batch.state)
        return total

    def finished(self) -> dict[int, tuple[int, str]]:
        """Finished sources: how many from each first place, and the digest of all sources up to the last of them."""
        folded = {0: (self.next, self.chain)} if self.next else {}
        return folded | {batch.first: (batch.count, batch.chain) for batch in self.batches.values()}

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of all finished pictures, in the order of their sources."""
        yield from self.folded_records()
        for first in sorted(self.batches):
            yield from self.batches[first].records

    def folded_records(self) -> Iterator[dict[str, Any]]:
        """The records of the sources before ``next``."""
        for number in range(1, self.parts + 1):
            with gzip.open(self._part(number), "rt", encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)

    def close(self) -> None:
        """Leave it for a later job to go on, if there is anything in it."""
        if self._log is not None and not self._has_batches():
            shutil.rmtree(self.folder, ignore_errors=True)
        for file in (self._log, self._lock):
            if file is not None:
                file.close()

    def remove(self) -> None:
        """The job is done."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---------------------------------------------------------------------------------------------------------- files

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            raise OutputError(
                f"{self.folder}: the journal cannot be written ({error.strerror or error}); make room there, then go "
                "on with resume"
            ) from error
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        """Two jobs must not write one journal; a killed job's lock is gone with it."""
        self._lock = open(self.folder / "lock", "wb")  # noqa: SIM115
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: another job is writing there; wait for it, or name another file"
            ) from error

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.jsonl.gz"

    def _replace(self, name: str, content: bytes) -> None:
        """Write a file that is there wholly or not at all."""
        temporary = self.folder / f"{name}.new"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)

    def _fold(self) -> None:
        """Move the batches that follow without a gap from the log to the state and a part."""
        ready = []
        place = self.next
        while place in self.batches:
            ready.append(self.batches[place])
            place += ready[-1].count
        if not ready:
            return
        lines = "".join(json.dumps(form) + "\n" for batch in ready for form in batch.records)
        self._replace(self._part(self.parts + 1).name, gzip.compress(lines.encode(), 1))
        for batch in ready:
            self._folded.merge(batch.state)
            del self.batches[batch.first]
        self.next, self.chain, self.parts = place, ready[-1].chain, self.parts + 1
        form = {"next": self.next, "chain": self.chain, "parts": self.parts, "state": self._folded.to_dict()}
        self._replace("state.json", json.dumps(form).encode())
        self._rewrite_log()

    def _rewrite_log(self) -> None:
        if self._log is not None:
            self._log.close()
        self._replace("log", b"".join(self.batches[first].to_line() for first in sorted(self.batches)))
        self._log = open(self.folder / "log", "ab", buffering=0)  # noqa: SIM115

    def _load(self, parameters: Mapping[str, Any]) -> None:
        mine, theirs = json.loads(json.dumps(dict(parameters))), json.loads((self.folder / "job.json").read_bytes())
        if mine != theirs:
            differing = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
            raise UsageError(
                f"{self.folder}: belongs to a job with other parameters ({_differences(theirs, mine, differing)}); "
                "repeat that job's, or remove this folder to start again"
            )
        if (self.folder / "state.json").exists():
            form = json.loads((self.folder / "state.json").read_bytes())
            self.next, self.chain, self.parts = form["next"], form["chain"], form["parts"]
            self._folded = SetState.from_dict(form["state"])
        if (self.folder / "log").exists():
            for line in (self.folder / "log").read_bytes().splitlines(keepends=True):
                try:
                    batch = Batch.from_line(line)
                except ValueError:
                    continue
                if batch.first >= self.next:  # else folded already, but killed before the log was rewritten
                    self.batches[batch.first] = batch
        self._rewrite_log()  # without torn lines


def _differences(theirs: Mapping[str, Any], mine: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name}: {theirs.get(name)!r} there, {mine.get(name)!r} now" for name in names)
