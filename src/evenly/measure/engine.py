"""A set of pictures, measured: sources go out to workers in chunks, states and records come back and are added up.

The result does not depend on how many workers there are, on the order in which they finish, or on which of them die:
states add up exactly, records are put in the order of the sources. Memory does not grow with the number of pictures:
few tasks are out at a time, and none runs far ahead of the slowest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly.errors import UsageError
from evenly.measure.accumulate import STATE_VERSION, SetState
from evenly.measure.journal import Batch, Journal
from evenly.measure.result import PERIODS, Failure
from evenly.measure.rows import check_rows_file, record, write_rows
from evenly.measure.workers import Dask, Here, Outcome, Processes, Task, Work, Workers, failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evenly.measure.result import Measurement
    from evenly.measure.sources import Source

__all__ = ["Progress", "journal_of", "measure_set", "measure_source"]

_CHUNK_SECONDS = 1.0  # of work in one task: much more than handing it over takes
_CHUNK_PICTURES = 512
_AHEAD = 8  # tasks per worker that may be finished before an earlier one
_DIED = "the process that measured it died, killed or out of memory"


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        done: Pictures finished, failed ones and those of an interrupted job included.
        failed: Of these, those that could not be measured.
        total: Pictures in all; ``None`` while it is not known.
        rate: Pictures per second.
    """

    done: int
    failed: int
    total: int | None
    rate: float


def measure_source(source: Source, periods: tuple[int, ...], *, keep: bool = False) -> Measurement:
    """Read and measure one picture; ``keep`` its pixels in the result."""
    from evenly.measure.image import measure_image

    picture = source.read_picture()
    return measure_image(picture.pixels, periods, path=source.name, encoding=picture.encoding, keep=keep)


def journal_of(rows: str | os.PathLike[str]) -> Path:
    """The folder of the journal that a job with this rows file keeps."""
    path = Path(rows)
    return path.with_name(path.name + ".journal")


def measure_set(
    targets: Iterable[str | os.PathLike[str] | Source],
    *,
    periods: Iterable[int] = PERIODS,
    jobs: int | None = 1,
    scheduler: str | None = None,
    rows: str | os.PathLike[str] | None = None,
    resume: bool = False,
    each: Callable[[Source, tuple[int, ...]], Measurement] = measure_source,
    emit: Callable[[dict[str, Any]], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    ignored: Callable[[str], None] | None = None,
) -> SetState:
    """Measure a set of pictures.

    A file that cannot be measured is a failure in the result, never the end of the job.

    Args:
        targets: Files, folders, globs, tar shards, URIs; or sources.
        periods: In pixels.
        jobs: Processes on this machine; 1 measures in this process, ``None`` takes one for every core.
        scheduler: Address of a Dask scheduler, ``tcp://host:port``, to measure on its cluster instead.
        rows: File for one row per picture, ``.parquet`` or ``.csv``; it appears, or is replaced, when all is done.
            Until then a journal beside it keeps what is finished.
        resume: Go on with a job of the same parameters that was interrupted; needs ``rows``.
        each: Measures one source; a function of a module, since workers import it.
        emit: Called with each picture's record, in the order of the sources.
        progress: Called when pictures are finished.
        ignored: Called with the name of each file in a folder or shard that is left out as no picture by its name.

    Returns:
        The state; :meth:`SetState.result` says what the set shows.

    Raises:
        UsageError: If parameters do not fit, or if a journal does not.
        OutputError: If rows or journal cannot be written.
    """
    wanted = tuple(sorted(set(periods)))
    targets = list(targets)
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs (={jobs}) must be at least 1")
    if resume and rows is None:
        raise UsageError("resume needs a rows file: an interrupted job without one keeps nothing; give rows as well")
    journal = None
    if rows is not None:
        file = check_rows_file(rows)
        journal = Journal(journal_of(file), _parameters(targets, wanted, each), resume=resume)
    with contextlib.ExitStack() as stack:
        if journal is not None:
            stack.callback(journal.close)
        job = _Job(journal, emit, progress, len(targets) if all(map(_is_source, targets)) else None)
        work = Work(each, wanted, journal is not None or emit is not None)
        workers = _workers(work, jobs, scheduler)
        stack.callback(workers.close)
        job.run(_sources(targets, ignored), workers)
    if journal is not None:
        write_rows(file, journal.records(), wanted)
        journal.remove()
    return job.state


def _workers(work: Work, jobs: int | None, scheduler: str | None) -> Workers:
    if scheduler is not None:
        return Dask(work, scheduler)
    count = jobs or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    return Here(work) if count == 1 else Processes(work, count)


def _is_source(target: object) -> bool:
    return hasattr(target, "open") and hasattr(target, "name") and not isinstance(target, os.PathLike)


def _sources(targets: list[Any], ignored: Callable[[str], None] | None) -> Iterator[Source | Failure]:
    if all(map(_is_source, targets)):
        yield from targets
        return
    from evenly.measure.sources import find_sources

    yield from find_sources(targets, ignored=ignored)


def _parameters(targets: list[Any], periods: tuple[int, ...], each: Callable[..., Any]) -> dict[str, Any]:
    return {
        "targets": [t.name if _is_source(t) else os.fspath(t) for t in targets],
        "periods": list(periods),
        "measured by": f"{each.__module__}.{each.__qualname__}",
        "state version": STATE_VERSION,
    }


class _Job:
    """One job: what is finished, what is out, and what has to be tried again."""

    def __init__(
        self,
        journal: Journal | None,
        emit: Callable[[dict[str, Any]], None] | None,
        progress: Callable[[Progress], None] | None,
        total: int | None,
    ) -> None:
        self.journal, self.emit, self.progress, self.total = journal, emit, progress, total
        self.state = SetState() if journal is None else journal.state()
        self.out: dict[int, Task] = {}
        self.again: deque[Task] = deque()
        self.alone: deque[Task] = deque()
        self.tries: dict[int, int] = {}
        self.size = 1.0
        self.started, self.before = time.monotonic(), self._done
        self.place = 0  # sources before it are finished and emitted
        self.waiting: dict[int, tuple[int, list[dict[str, Any]]]] = {}
        if journal is not None:
            self._replay(journal)

    @property
    def _done(self) -> int:
        return self.state.count + self.state.failed_count

    def _replay(self, journal: Journal) -> None:
        if self.emit is not None:
            for form in journal.folded_records():
                self.emit(form)
        self.place = journal.next
        for batch in journal.batches.values():
            self.waiting[batch.first] = (batch.count, batch.records if self.emit is not None else [])
        self._emit()

    def run(self, sources: Iterator[Source | Failure], workers: Workers) -> None:
        """Measure all sources that are not finished."""
        tasks = self._tasks(sources)
        self._report()
        while True:
            capacity = workers.capacity
            while not self.alone and len(self.out) < capacity and (task := self._next(tasks, capacity)) is not None:
                self._submit(task, workers)
            if self.out:
                for task, outcome in workers.finished():
                    del self.out[task.first]
                    self._received(task, outcome, workers)
            elif self.alone:
                task = self.alone.popleft()
                self._finish(task, self._one_by_one(task, workers))
            else:
                break
        self.total = self._done
        self._report()

    def _next(self, tasks: Iterator[Task], capacity: int) -> Task | None:
        if self.again:
            return self.again.popleft()
        if len(self.waiting) > _AHEAD * capacity and self.out:  # one is slow: let it catch up
            return None
        return next(tasks, None)

    def _submit(self, task: Task, workers: Workers) -> None:
        self.out[task.first] = task
        workers.submit(task)

    def _received(self, task: Task, outcome: Outcome | None, workers: Workers) -> None:
        if outcome is not None:
            self._finish(task, outcome)
            each = outcome.seconds / len(task.sources)
            self.size = min(_CHUNK_SECONDS / max(each, 1e-6), 4 * self.size, _CHUNK_PICTURES)
            return
        self.tries[task.first] = self.tries.get(task.first, 0) + 1
        (self.again if self.tries[task.first] < workers.attempts else self.alone).append(task)

    def _one_by_one(self, task: Task, workers: Workers) -> Outcome:
        """Measure the pictures of a task that kills its workers, with nothing else running, to see which it is."""
        state, records = SetState(), []
        for place, source in enumerate(task.sources, task.first):
            workers.submit(Task(place, (source,), task.chain))
            [(_, outcome)] = workers.finished()
            if outcome is None:
                assert not isinstance(source, Failure)
                dead = failure(source, _DIED)
                outcome = Outcome(SetState([dead]), [record(dead)], 0.0)
            state.merge(outcome.state)
            records += outcome.records
        return Outcome(state, records, 0.0)

    def _finish(self, task: Task, outcome: Outcome) -> None:
        self.tries.pop(task.first, None)
        count = len(task.sources)
        if self.journal is not None:
            self.journal.add(Batch(task.first, count, task.chain, outcome.state, outcome.records))
        self.state.merge(outcome.state)
        self.waiting[task.first] = (count, outcome.records if self.emit is not None else [])
        self._emit()
        self._report()

    def _emit(self) -> None:
        """Pass on the records that follow without a gap."""
        while self.place in self.waiting:
            count, records = self.waiting.pop(self.place)
            self.place += count
            if self.emit is not None:
                for form in records:
                    self.emit(form)

    def _report(self) -> None:
        if self.progress is not None:
            rate = (self._done - self.before) / max(time.monotonic() - self.started, 1e-6)
            self.progress(Progress(self._done, self.state.failed_count, self.total, rate))

    def _tasks(self, sources: Iterator[Source | Failure]) -> Iterator[Task]:
        """What the journal does not have, in chunks of about a second of work, no chunk from two shards."""
        finished = {} if self.journal is None else self.journal.finished()
        group: list[Source | Failure] = []
        chain, place, end, expected = "", -1, 0, ""
        for place, source in enumerate(sources):
            before, chain = chain, _link(chain, source)
            if place in finished:
                end, expected = place + finished[place][0], finished[place][1]
            full = len(group) >= int(self.size) or (group and _shard(group[-1]) != _shard(source))
            if group and (full or place < end):
                yield Task(place - len(group), tuple(group), before)
                group = []
            if place >= end:
                group.append(source)
            elif place == end - 1:
                self._agree(chain, expected)
        if group:
            yield Task(place + 1 - len(group), tuple(group), chain)
        if place + 1 < max((first + count for first, (count, _) in finished.items()), default=0):
            self._agree("", "fewer files")
        self.total = place + 1

    def _agree(self, chain: str, expected: str) -> None:
        if chain != expected:
            assert self.journal is not None
            raise UsageError(
                f"{self.journal.folder}: the files are not those of the interrupted job (some were added, removed or "
                "changed before its last); remove this folder to start again"
            )


def _link(chain: str, source: Source | Failure) -> str:
    """Digest of a source and of all before it."""
    name = source.path if isinstance(source, Failure) else source.identity
    return hashlib.blake2b(f"{chain}\0{name}".encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _shard(source: Source | Failure) -> str | None:
    return None if isinstance(source, Failure) else source.shard
