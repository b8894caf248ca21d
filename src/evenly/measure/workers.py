"""Where the pictures of a set are measured: in this process, in local processes, or on a Dask cluster.

All three take tasks and give back outcomes; a task whose worker died comes back without one. What a task does is the
same everywhere, and knows nothing of where it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from evenly.errors import EvenlyError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from evenly.measure.accumulate import SetState
    from evenly.measure.result import Failure, Measurement
    from evenly.measure.sources import Source

__all__ = ["Dask", "Here", "Outcome", "Processes", "Task", "Work", "Workers", "failure"]

_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx|ucxx)://\S+")
_PATIENCE = 15  # seconds for a scheduler to answer, four times that for its first worker
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Task:
    """Pictures to measure together, consecutive in the order of all sources.

    Attributes:
        first: Place of the first.
        sources: What to open; a failure where listing found something that cannot be.
        chain: Digest of all sources up to the last of them.
    """

    first: int
    sources: tuple[Source | Failure, ...]
    chain: str


@dataclass(frozen=True)
class Outcome:
    """What measuring a task's pictures gave.

    Attributes:
        state: What they add to the set.
        records: JSON form of each, in order; empty if nobody asked.
        seconds: How long it took.
    """

    state: SetState
    records: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Work:
    """How each picture is measured; goes to every worker.

    Attributes:
        each: Measures one source; can be pickled.
        periods: In pixels.
        records: Whether to return a record of each picture.
    """

    each: Callable[[Source, tuple[int, ...]], Measurement]
    periods: tuple[int, ...]
    records: bool

    def __call__(self, sources: tuple[Source | Failure, ...]) -> Outcome:
        """Measure some sources; whatever is wrong with one of them is a failure of that one only."""
        from evenly.measure.accumulate import SetState
        from evenly.measure.rows import record

        start = time.perf_counter()
        state, records = SetState(), []
        for source in sources:
            item = self._measure(source)
            state.add_item(item)
            if self.records:
                records.append(record(item))
        return Outcome(state, records, time.perf_counter() - start)

    def _measure(self, source: Source | Failure) -> Measurement | Failure:
        from evenly.measure.result import Failure

        if isinstance(source, Failure):
            return source
        try:
            return self.each(source, self.periods)
        except EvenlyError as error:
            return failure(source, str(error))
        except OSError as error:
            return failure(source, f"cannot be read: {error.strerror or error}")
        except Exception as error:  # a broken file must not end the job, whatever the decoder does with it
            return failure(source, f"unexpected {type(error).__name__}: {error}")


def failure(source: Source, reason: str) -> Failure:
    """Of one line, which does not say the name again."""
    from evenly.measure.result import Failure

    return Failure(source.name, " ".join(reason.removeprefix(f"{source.name}: ").split()))


class Workers(Protocol):
    """Somewhere to measure.

    Attributes:
        attempts: How often a task is tried whose worker died.
    """

    attempts: int

    @property
    def capacity(self) -> int:
        """How many tasks keep all workers busy."""

    def submit(self, task: Task) -> None:
        """Start a task, or queue it."""

    def finished(self) -> list[tuple[Task, Outcome | None]]:
        """Wait for some tasks; those without an outcome had a worker that died."""

    def close(self) -> None:
        """Stop at once, whatever is running."""


class Here:
    """This process."""

    attempts = 1
    capacity = 1

    def __init__(self, work: Work) -> None:
        self.work = work
        self.queue: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self.queue.append(task)

    def finished(self) -> list[tuple[Task, Outcome | None]]:
        """Measure the next task."""
        task = self.queue.popleft()
        return [(task, self.work(task.sources))]

    def close(self) -> None:
        """Nothing is running."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None
    ready: bool = False


class Processes:
    """Local processes, each with a pipe of its own: when one dies, only its task is affected.

    A process pool of the standard library loses all tasks when one worker dies and does not say whose fault it was.

    Args:
        work: How each picture is measured.
        jobs: Number of processes.
    """

    attempts = 3

    def __init__(self, work: Work, jobs: int) -> None:
        self.work = work
        self.capacity = jobs
        self.workers: list[_Worker] = []

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker; there is one as long as no more than ``capacity`` tasks are out."""
        worker = next((w for w in self.workers if w.task is None), None) or self._start()
        worker.task = task
        with contextlib.suppress(OSError):  # died while idle: its pipe is at its end, as `finished` will see
            worker.pipe.send(task.sources)

    def _start(self) -> _Worker:
        from multiprocessing import get_context

        context = get_context("spawn")  # a fork of a process with threads may hang
        mine, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.work), daemon=True, name="evenly")
        with _one_thread():
            process.start()
        theirs.close()  # so that the pipe ends when the worker does
        self.workers.append(_Worker(process, mine))
        return self.workers[-1]

    def finished(self) -> list[tuple[Task, Outcome | None]]:
        """Wait until a worker has something to say, or died."""
        from multiprocessing.connection import wait

        while True:
            heard = set(wait([w.pipe for w in self.workers if w.task is not None]))
            found = [reply for w in list(self.workers) if w.pipe in heard and (reply := self._hear(w)) is not None]
            if found:
                return found

    def _hear(self, worker: _Worker) -> tuple[Task, Outcome | None] | None:
        task = worker.task
        assert task is not None
        try:
            outcome = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return task, None
        if not worker.ready:  # its first word says that it has started
            worker.ready = True
            return None
        worker.task = None
        return task, outcome

    def _bury(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode
        if not worker.ready and code is not None and code > 0:
            raise EvenlyError(
                f"worker processes cannot start (exit code {code}); a script must call this under "
                "`if __name__ == '__main__':`, or with jobs=1"
            )

    def close(self) -> None:
        """Kill the workers."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()
        self.workers.clear()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of linear algebra in processes started meanwhile: there is a process for every core already."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, work: Work) -> None:
    """What a local worker does until its pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what an interrupt means
    with contextlib.suppress(EOFError, OSError):  # the main process is gone
        pipe.send("ready")
        while True:
            pipe.send(work(pipe.recv()))


class Dask:
    """A Dask cluster.

    The scheduler itself tries a task again whose worker died, as often as its ``allowed-failures`` says.

    Args:
        work: How each picture is measured.
        address: Of the scheduler, ``tcp://host:port``.

    Raises:
        MissingDependencyError: If distributed is not installed.
        UsageError: If the scheduler does not answer.
    """

    attempts = 1

    def __init__(self, work: Work, address: str) -> None:
        try:
            self.distributed: Any = importlib.import_module("distributed")
        except ImportError as error:
            raise MissingDependencyError(
                f"scheduler {address}: needs dask; install it with pip install 'evenly[cluster]'"
            ) from error
        wanted = "expected tcp://HOST:PORT of a running dask scheduler"
        if not _ADDRESS.fullmatch(address):
            raise UsageError(f"scheduler (={address}) is not an address; {wanted}")
        try:
            self.client = self.distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"scheduler (={address}) does not answer ({type(error).__name__}); {wanted}") from error
        self.address = address
        try:
            self.client.wait_for_workers(1, timeout=4 * _PATIENCE)
        except TimeoutError as error:
            self.client.close()
            raise UsageError(f"scheduler (={address}) has no workers; start some") from error
        self.work = work
        self.done = self.distributed.as_completed(loop=self.client.loop)
        self.tasks: dict[Any, Task] = {}

    @property
    def capacity(self) -> int:
        """Two for every thread of the cluster as it is now, so that none waits for the next."""
        return 2 * max(1, sum(map(int, self.client.nthreads().values())))

    def submit(self, task: Task) -> None:
        """Queue a task."""
        future = self.client.submit(self.work, task.sources, key=f"evenly-{uuid.uuid4().hex}")
        self.tasks[future] = task
        self.done.add(future)

    def finished(self) -> list[tuple[Task, Outcome | None]]:
        """Wait for a task."""
        future = next(self.done)
        task = self.tasks.pop(future)
        try:
            return [(task, future.result())]
        except self.distributed.KilledWorker:
            return [(task, None)]
        except Exception as error:
            raise EvenlyError(
                f"cluster {self.address}: {type(error).__name__}: {error}; check that the scheduler runs and that its "
                "workers have the same versions of evenly and of what it needs"
            ) from error

    def close(self) -> None:
        """Take back what is queued and leave the cluster as it was."""
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self.client.cancel(list(self.tasks), force=True)
        self.client.close()
