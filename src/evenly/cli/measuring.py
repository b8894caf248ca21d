"""What ``evenly measure`` does between its options and its report: run the job, show progress, judge the end."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evenly.cli.running import bars
from evenly.cli.writing import CLEAN, ERROR, FINDINGS
from evenly.errors import EvenlyError
from evenly.measure.result import TRACES
from evenly.report import ComparingReporter, Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from evenly.measure.engine import Progress
    from evenly.measure.result import Failure, Measurement, Origin, PeriodResult, SetMeasurement, Verdict
    from evenly.measure.sources import Source
    from evenly.report import MeasuredReporter

__all__ = ["Watch", "measured", "show_failures"]


class Watch:
    """Hands records to a reporter and remembers what the exit code is about.

    Args:
        reporter: Where records go.
    """

    def __init__(self, reporter: MeasuredReporter) -> None:
        self.reporter = reporter
        self.count = 0
        self.verdicts: Counter[str] = Counter()
        self.ignored = 0  # files that are no pictures, or no recordings, by their names
        self.loudest: float | None = None  # dB, of the found periods of single files

    def add(self, record: Mapping[str, Any]) -> None:
        """One more file, or failure."""
        self.reporter.add(record)
        if "error" in record:
            return
        self.count += 1
        self.verdicts[record["verdict"]] += 1
        for period in record["found"]:
            levels = record["periods"][str(period)] or {}
            self._hear(levels.get(name) for name in (*(f"{trace}_db" for trace in TRACES), "tone_db"))

    def ignore(self, name: str) -> None:
        """One more file of another kind; the name is of no use to millions."""
        self.ignored += 1

    def _hear(self, levels: Iterator[float | None]) -> None:
        there = [db for db in levels if db is not None]
        self.loudest = max([*there, *([] if self.loudest is None else [self.loudest])], default=None)

    def exit_code(self, result: Measured, fail_over: float | None) -> int:
        """Of the command.

        A file that could not be measured outweighs findings. With a set to compare with, only the comparison counts.
        One file's verdict counts as it is; of many, some are weak by chance, so it is that of all together, or a strong
        one of any.
        """
        failed = result.set.failed_count + (0 if result.against is None else result.against.failed_count)
        if failed:
            return ERROR
        if fail_over is not None:
            if result.comparison is not None:
                self.loudest = None
                for period in result.comparison.found:
                    self._hear(t.db for t in result.comparison.periods[period].values() if t is not None)
            else:
                self._hear(_levels(result.set))
            return FINDINGS if self.loudest is not None and self.loudest > fail_over else CLEAN
        if result.comparison is not None:
            found = result.comparison.verdict != "none"
        elif self.count == 1:
            found = self.verdicts["none"] == 0
        else:
            found = result.set.verdict != "none" or self.verdicts["strong"] > 0
        return FINDINGS if found else CLEAN

    def summary(self, result: Measured) -> str:
        """One line."""
        from evenly.report.measured_words import UNITS, compared, judged

        unit = UNITS[result.kind]
        if result.comparison is not None:
            words = compared(result.comparison, result.target, result.against_target or "the second set", unit)
        else:
            words = judged(result.only or result.set, unit)
        return f"{words} ({self.count} measured, {result.set.failed_count} failed)"


def _levels(measured: SetMeasurement) -> Iterator[float | None]:
    for period in measured.found:
        result: PeriodResult | None = measured.periods.get(period)
        if result is not None:
            yield from (t.db for t in result.traces().values() if t is not None)


def show_failures(result: Measured, ignored: int = 0) -> None:
    """Name the files that could not be measured, and count them and those of other kinds, on standard error."""
    from evenly.report.words import clean, count

    if ignored:
        sys.stderr.write(f"{count(ignored, 'file')} of another kind left out\n")
    for part in (result.set, result.against):
        if part is None or not part.failed_count:
            continue
        for failure in part.failed:
            own = "" if failure.reason.startswith(failure.path) else f"{failure.path}: "
            sys.stderr.write(f"error: {clean(own + failure.reason)}\n")
        total = part.failed_count + part.count
        unlisted = part.failed_count - len(part.failed)
        more = f" ({unlisted} not listed)" if unlisted else ""
        sys.stderr.write(f"{part.failed_count} of {total} files could not be measured{more}\n")


# -------------------------------------------------------------------------------------------------------------- jobs


def measured(
    paths: Sequence[str],
    kind: Literal["image", "audio"],
    watch: Watch,
    *,
    periods: tuple[int, ...] | None,
    against: str | None,
    rows: Path | None,
    resume: bool,
    scheduler: str | None,
    jobs: int | None,
    origin: Origin,
) -> Measured:
    """Run the job, one record after the other to ``watch``.

    Raises:
        UsageError: If there is nothing to measure.
        EvenlyError: If the job itself fails.
    """
    target = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if kind == "audio":
        return _recordings(paths, target, watch, periods)
    from evenly.measure.compare import compare
    from evenly.measure.engine import measure_set
    from evenly.measure.result import PERIODS

    wanted = periods or PERIODS
    if against is None and rows is None and scheduler is None and (source := _lone(paths)) is not None:
        return _picture(source, target, watch, wanted, origin)
    where: dict[str, Any] = {"periods": wanted, "scheduler": scheduler, "jobs": jobs, "ignored": watch.ignore}
    with _progress("pictures") as progress:
        state = measure_set(paths, rows=rows, resume=resume, emit=watch.add, progress=progress, **where)
    if against is None:
        return Measured(target, kind, state.result(origin))
    with _progress("to compare with") as progress:
        emit = watch.reporter.add_against if isinstance(watch.reporter, ComparingReporter) else None
        other = measure_set([against], emit=emit, progress=progress, **where)
    comparison = compare(state, other) if state.count and other.count else None
    return Measured(target, kind, state.result(origin), other.result(origin), against, comparison)


def _lone(paths: Sequence[str]) -> Source | None:
    """The one picture that is named, if it is one."""
    from evenly.measure.result import Failure
    from evenly.measure.sources import find_sources

    if len(paths) > 1 or not Path(paths[0]).is_file():
        return None
    found = list(islice(find_sources(paths), 2))
    return found[0] if len(found) == 1 and not isinstance(found[0], Failure) else None


def _picture(source: Source, target: str, watch: Watch, periods: tuple[int, ...], origin: Origin) -> Measured:
    """One picture: no set is needed to say what it shows."""
    from evenly.measure.accumulate import SetState
    from evenly.measure.engine import measure_source
    from evenly.measure.rows import record

    item: Measurement | Failure
    try:
        item = measure_source(source, periods, keep=True)
    except (EvenlyError, OSError) as error:
        item = _failure(source, error)
    watch.add(record(item))
    state = SetState([item])
    return Measured(target, "image", state.result(origin), only=item if state.count else None)  # type: ignore[arg-type]


def _failure(source: Source | Failure, error: Exception) -> Failure:
    from evenly.measure.result import Failure

    name = source.path if isinstance(source, Failure) else source.name
    return Failure(name, " ".join(str(error).split()))


def _recordings(paths: Sequence[str], target: str, watch: Watch, strides: tuple[int, ...] | None) -> Measured:
    from evenly.measure.accumulate import MOST_FAILURES
    from evenly.measure.audio import measure_audio
    from evenly.measure.result import VERDICTS, Failure, SetMeasurement
    from evenly.measure.sound_result import STRIDES, AudioMeasurement
    from evenly.measure.sources import find_sources

    failed: list[Failure] = []
    causes: Counter[str] = Counter()
    found: set[int] = set()
    failures = 0
    item: AudioMeasurement | Failure | None = None
    with _progress("recordings") as progress:
        for source in find_sources(paths, kind="audio", ignored=watch.ignore):
            try:
                if isinstance(source, Failure):
                    item = source
                else:
                    with source.open() as file:
                        item = measure_audio(file, None, strides or STRIDES, path=source.name)
            except (EvenlyError, OSError) as error:
                item = _failure(source, error)
            if isinstance(item, Failure):
                failures += 1
                failed = [*failed, item][:MOST_FAILURES]
                watch.add({"path": item.path, "error": item.reason})
            else:
                causes.update({cause.kind for cause in item.causes})
                found.update(item.found)
                watch.add(item.to_dict())
            if progress is not None:
                _tell(progress, watch.count + failures, failures)
    verdict: Verdict = max((v for v in VERDICTS if watch.verdicts[v]), key=VERDICTS.index, default="none")
    together = SetMeasurement(
        watch.count, tuple(failed), failures, {}, verdict, tuple(sorted(found)), causes, watch.verdicts, "unknown"
    )
    only = item if isinstance(item, AudioMeasurement) and watch.count + failures == 1 else None
    return Measured(target, "audio", together, only=only)


# ---------------------------------------------------------------------------------------------------------- progress


def _tell(progress: Callable[[Progress], None], done: int, failed: int) -> None:
    from evenly.measure.engine import Progress

    progress(Progress(done, failed, None, 0.0))


@contextmanager
def _progress(what: str) -> Iterator[Callable[[Progress], None] | None]:
    """A bar with rate and time left on standard error; none where that is no terminal."""
    from rich.progress import TextColumn

    figures = "{task.completed:.0f}{task.fields[of]}{task.fields[failed]}{task.fields[rate]}"
    with bars(TextColumn(figures)) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task(what, total=None, of="", failed="", rate="")

        def show(now: Progress) -> None:
            bar.update(
                task,
                completed=now.done,
                total=now.total,
                of="" if now.total is None else f" of {now.total}",
                failed=f", {now.failed} failed" if now.failed else "",
                rate=f", {now.rate:.3g} per second" if now.rate else "",
            )

        yield show
