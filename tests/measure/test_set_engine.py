"""Jobs over sets: the same result from any workers, whatever dies, breaks or fills up on the way."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest
from fake_sources import FakeSource, fakes, measure_fake

from evenly.errors import EvenlyError, OutputError, UsageError
from evenly.measure import engine, journal
from evenly.measure.accumulate import SetState
from evenly.measure.engine import journal_of, measure_set
from evenly.measure.journal import Batch, Journal
from evenly.measure.result import Failure
from evenly.measure.rows import columns, flat

PERIODS = (2, 4)


@pytest.fixture
def small_tasks(monkeypatch):
    """Tasks of at most three pictures."""
    monkeypatch.setattr(engine, "_CHUNK_PICTURES", 3)


def run(sources, **options):
    options = {"periods": PERIODS, "each": measure_fake} | options
    return measure_set(sources, **options)


def expected(sources) -> SetState:
    """Measured one by one, without an engine."""
    state = SetState()
    for source in sources:
        try:
            state.add(measure_fake(source, PERIODS))
        except EvenlyError as error:
            state.fail(Failure(source.name, " ".join(str(error).split()).removeprefix(f"{source.name}: ")))
        except FileNotFoundError:
            state.fail(Failure(source.name, "cannot be read: No such file or directory"))
        except ZeroDivisionError as error:
            state.fail(Failure(source.name, f"unexpected ZeroDivisionError: {error}"))
    return state


def read_rows(path: Path) -> list[dict]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()


def script(folder: Path, body: str, *, guard: bool = True) -> list[str]:
    """A command that runs a script which can import the fakes."""
    lines = [
        "import signal, sys",
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored",
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "from fake_sources import fakes, measure_fake",
        "from evenly.measure.engine import measure_set",
        "if __name__ == '__main__':" if guard else "if True:",
        textwrap.indent(textwrap.dedent(body), "    "),
    ]
    path = folder / "job.py"
    path.write_text("\n".join(lines))
    return [sys.executable, str(path)]


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------------- same result


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_result_is_that_of_one_by_one(tmp_path, jobs):
    sources = fakes(40, {3: "broken", 8: "missing", 11: "odd"})
    seen, reports = [], []
    rows = tmp_path / "rows.parquet"
    state = run(sources, jobs=jobs, rows=rows, emit=seen.append, progress=reports.append)
    assert state == expected(sources)
    assert [f.reason for f in state.failed] == [
        "truncated after 3 bytes",
        "cannot be read: No such file or directory",
        "unexpected ZeroDivisionError: division by zero",
    ]
    assert [form["path"] for form in seen] == [s.name for s in sources]
    table = read_rows(rows)
    assert [row["path"] for row in table] == [s.name for s in sources]
    assert list(table[0]) == list(columns(PERIODS))
    assert table[5] == dict.fromkeys(columns(PERIODS)) | flat(measure_fake(sources[5], PERIODS))
    assert table[3]["error"] == "truncated after 3 bytes"
    assert not journal_of(rows).exists()
    assert os.listdir(tmp_path) == ["rows.parquet"]
    assert [reports[-1].done, reports[-1].failed, reports[-1].total] == [40, 3, 40]
    assert reports[-1].rate > 0
    assert [r.done for r in reports] == sorted(r.done for r in reports)


def test_csv_has_the_same_rows(tmp_path):
    sources = [*fakes(5, {3: "broken"}), FakeSource('name, with "quotes"\nand \udcff')]
    run(sources, rows=tmp_path / "rows.csv")
    table = read_rows(tmp_path / "rows.csv")
    assert list(table[0]) == list(columns(PERIODS))
    assert table[5]["path"] == 'name, with "quotes"\nand \\udcff'
    number = flat(measure_fake(sources[1], PERIODS))["p4_mean_log10_p"]
    assert float(table[1]["p4_mean_log10_p"]) == number
    assert table[3]["p4_mean_p"] == ""


def test_nothing_to_measure(tmp_path):
    assert run([], rows=tmp_path / "rows.parquet") == SetState()
    assert read_rows(tmp_path / "rows.parquet") == []


def test_what_listing_could_not_open_is_a_failure(monkeypatch):
    monkeypatch.setattr(
        engine, "_sources", lambda _targets, _ignored: iter([*fakes(2), Failure("folder", "no permission")])
    )
    state = run(["folder"])
    assert (state.count, state.failed) == (2, [Failure("folder", "no permission")])


def test_files_of_folders_and_shards(tmp_path):
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(5):
        pixels = rng.integers(0, 256, (40 + n, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    whole = (folder / "1.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        shard.add(folder, "inside")
    targets = [folder, tmp_path / "shard.tar"]
    seen: list[dict] = []
    state = measure_set(targets, jobs=2, emit=seen.append)
    assert (state.count, state.failed_count) == (10, 2)
    assert state == measure_set(targets)
    once = measure_set([folder])
    failures = SetState(state.failed).to_dict()["failed"]
    assert [reason for _, reason in failures] == [once.failed[0].reason] * 2
    assert (once + once).to_dict()["periods"] == state.to_dict()["periods"]
    assert ["error" in form for form in seen] == [*[False] * 5, True] * 2


# ----------------------------------------------------------------------------------------------------------- deaths


def test_a_picture_that_kills_its_process_is_a_failure(tmp_path):
    sources = fakes(30, {9: "killer", 20: "broken"})
    seen = []
    state = run(sources, jobs=2, emit=seen.append)
    others = [s for s in sources if "killer" not in s.name]
    died = Failure("0009-killer", "the process that measured it died, killed or out of memory")
    assert state == expected(others) + SetState([died])
    assert [form["path"] for form in seen] == [s.name for s in sources]
    assert seen[9] == {"path": died.path, "error": died.reason}


def test_a_process_that_is_killed_once_costs_nothing(tmp_path):
    sources = fakes(30, {9: "once", 25: "once"}, tmp_path)
    state = run(sources, jobs=2)
    assert len(os.listdir(tmp_path)) == 2
    assert state == expected(sources)
    assert state.failed_count == 0


def test_workers_that_cannot_start_are_one_clear_error(tmp_path):
    command = script(tmp_path, "measure_set(fakes(9), each=measure_fake, jobs=2)", guard=False)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "EvenlyError: worker processes cannot start (exit code 1); a script must call this under" in done.stderr


# ------------------------------------------------------------------------------------------------------------ resume


def killed_job(tmp_path: Path, rows: Path, count: int, jobs: int, kill: int = signal.SIGKILL) -> None:
    """A job that is killed when it has some batches."""
    body = (
        f"measure_set(fakes({count}, kind='slow'), periods=(2, 4), each=measure_fake, jobs={jobs}, rows={str(rows)!r})"
    )
    with subprocess.Popen(script(tmp_path, body), stderr=subprocess.PIPE) as process:
        log = journal_of(rows) / "log"
        wait_for(lambda: log.exists() and log.read_bytes().count(b"\n") >= 3)
        process.send_signal(kill)
        process.communicate(timeout=30)


@pytest.mark.parametrize(("jobs", "name"), [(1, "rows.csv"), (2, "rows.parquet")])
def test_a_killed_job_goes_on(tmp_path, jobs, name):
    sources = fakes(60, kind="slow")
    rows = tmp_path / name
    killed_job(tmp_path, rows, 60, jobs)
    assert not rows.exists()
    reports, seen = [], []
    state = run(sources, jobs=1, rows=rows, resume=True, progress=reports.append, emit=seen.append)
    assert 0 < reports[0].done < 60
    whole = tmp_path / f"whole-{name}"
    assert state == run(sources, rows=whole)
    assert read_rows(rows) == read_rows(whole)
    assert [form["path"] for form in seen] == [s.name for s in sources]
    assert not journal_of(rows).exists()


def test_an_interrupt_stops_at_once_and_keeps_the_journal(tmp_path):
    rows = tmp_path / "rows.csv"
    body = f"""
        measure_set(fakes(40, {{n: 'hanging' for n in (20, 30)}}, {str(tmp_path)!r}), each=measure_fake, jobs=2,
                    rows={str(rows)!r})
    """
    with subprocess.Popen(script(tmp_path, body), stderr=subprocess.PIPE, start_new_session=True) as process:
        wait_for(lambda: len(list(tmp_path.glob("*hanging-*"))) == 2)
        pids = [int(mark.name.split("-")[-1]) for mark in tmp_path.glob("*hanging-*")]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        start = time.monotonic()
        _, errors = process.communicate(timeout=30)
        assert time.monotonic() - start < 5
        assert b"KeyboardInterrupt" in errors
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert (journal_of(rows) / "log").stat().st_size > 0
    assert not rows.exists()


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("step", range(9))
@pytest.mark.usefixtures("small_tasks")
def test_a_kill_between_any_two_steps_leaves_a_whole_journal(tmp_path, monkeypatch, step):
    """Every file that the journal replaces is a place to die; folding happens every third batch."""
    sources = fakes(40, {3: "broken"})
    rows = tmp_path / "rows.csv"
    replace, calls = journal.Journal._replace, [0]

    def dying(self, name, content):
        calls[0] += 1
        if calls[0] == step + 2:  # the first writes the parameters
            raise StoppedError
        replace(self, name, content)

    monkeypatch.setattr(journal, "_FOLD_BATCHES", 3)
    monkeypatch.setattr(journal.Journal, "_replace", dying)
    with pytest.raises(StoppedError):
        run(sources, rows=rows)
    monkeypatch.setattr(journal.Journal, "_replace", replace)
    seen = []
    assert run(sources, rows=rows, resume=True, emit=seen.append) == expected(sources)
    assert [row["path"] for row in read_rows(rows)] == [s.name for s in sources]
    assert [form["path"] for form in seen] == [s.name for s in sources]


def interrupted(tmp_path, monkeypatch, sources, batches: int = 5) -> Path:
    """The rows file of a job that ended after some batches."""
    rows = tmp_path / "rows.csv"
    add = Journal.add
    count = [0]

    def dying(self, batch):
        add(self, batch)
        count[0] += 1
        if count[0] == batches:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", dying)
        with pytest.raises(StoppedError):
            run(sources, rows=rows)
    return rows


@pytest.mark.usefixtures("small_tasks")
@pytest.mark.parametrize("torn", [b"", b"AAAA", b"AAAA\n", b"#\n", b"\xff\n"])
def test_torn_lines_are_measured_again(tmp_path, monkeypatch, torn):
    sources = fakes(30)
    rows = interrupted(tmp_path, monkeypatch, sources)
    log = journal_of(rows) / "log"
    lines = log.read_bytes().splitlines(keepends=True)
    for kept in ([*lines[:-1], lines[-1][: len(lines[-1]) // 2]], lines[1:], [*lines[:-1], torn]):
        log.write_bytes(b"".join(kept))
        copy = tmp_path / "copy.csv"
        journal_of(rows).rename(journal_of(copy))
        assert run(sources, rows=copy, resume=True) == expected(sources)
        assert [row["path"] for row in read_rows(copy)] == [s.name for s in sources]
        rows = interrupted(tmp_path, monkeypatch, sources)
        log = journal_of(rows) / "log"


def test_a_batch_reads_as_it_was_written():
    batch = Batch(3, 2, "chain", expected(fakes(2)), [{"path": "é\n"}])
    assert Batch.from_line(batch.to_line()) == batch
    assert batch.to_line().count(b"\n") == 1


@pytest.mark.usefixtures("small_tasks")
def test_journals_of_other_jobs_are_refused(tmp_path, monkeypatch):
    sources = fakes(30)
    rows = interrupted(tmp_path, monkeypatch, sources)
    with pytest.raises(UsageError, match=r"earlier job was interrupted; go on with it \(resume\)"):
        run(sources, rows=rows)
    with pytest.raises(UsageError, match=r"other parameters \(periods: \[2, 4\] there, \[2, 3\] now\)"):
        run(sources, rows=rows, resume=True, periods=(3, 2))
    changed = [sources[0], FakeSource(sources[1].name, version=2), *sources[2:]]
    with pytest.raises(UsageError, match="files are not those of the interrupted job"):
        run(changed, rows=rows, resume=True)
    assert run(sources, rows=rows, resume=True) == expected(sources)


@pytest.mark.usefixtures("small_tasks")
def test_fewer_files_than_before_are_refused(tmp_path, monkeypatch):
    there = fakes(30)
    monkeypatch.setattr(engine, "_sources", lambda _targets, _ignored: iter(there))
    rows = tmp_path / "rows.csv"
    add = Journal.add
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", lambda self, batch: (add(self, batch), 1 / (len(self.batches) < 4)))
        with pytest.raises(ZeroDivisionError):
            run(["folder"], rows=rows)
    kept, there = there, there[:2]
    with pytest.raises(UsageError, match="files are not those"):
        run(["folder"], rows=rows, resume=True)
    there = [*kept, FakeSource("zzz")]  # more at the end are measured too
    assert run(["folder"], rows=rows, resume=True) == expected(there)


def test_two_jobs_do_not_write_one_journal(tmp_path):
    rows = tmp_path / "rows.csv"
    other = Journal(journal_of(rows), {}, resume=False)
    with pytest.raises(UsageError, match="another job is writing"):
        run(fakes(3), rows=rows)
    other.close()
    run(fakes(3), rows=rows)


def test_parameters_that_do_not_fit(tmp_path):
    with pytest.raises(UsageError, match="resume needs a rows file"):
        run(fakes(3), resume=True)
    with pytest.raises(UsageError, match=r"jobs \(=0\)"):
        run(fakes(3), jobs=0)
    with pytest.raises(UsageError, match=r"must end in \.parquet or \.csv"):
        run(fakes(3), rows=tmp_path / "rows.txt")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        run(fakes(3), rows=tmp_path / "folder.csv")


# --------------------------------------------------------------------------------------------------------- full disks


def test_no_place_for_the_journal(tmp_path):
    with pytest.raises(OutputError, match="journal cannot be written"):
        run(fakes(3), rows=tmp_path / "missing" / "rows.csv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full_while_the_job_runs(tmp_path):
    rows = tmp_path / "rows.csv"
    journal_of(rows).mkdir()
    (journal_of(rows) / "log").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"No space left on device\); make room there, then go on with resume"):
        run(fakes(3), rows=rows)
    assert not rows.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_disk_that_is_full_at_the_end(tmp_path, name):
    rows = tmp_path / name
    rows.write_text("what was there before")
    part = tmp_path / f".{name}.{os.getpid()}.part"
    part.symlink_to("/dev/full")
    sources = fakes(20)
    with pytest.raises(OutputError, match=r"rows cannot be written .*No space left on device"):
        run(sources, rows=rows)
    assert rows.read_text() == "what was there before"
    assert not part.is_symlink()
    assert run(sources, rows=rows, resume=True) == expected(sources)
    assert len(read_rows(rows)) == 20
