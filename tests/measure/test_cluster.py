"""The same job on a Dask cluster."""

from __future__ import annotations

import os
import warnings

import pytest
from fake_sources import fakes, measure_fake

from evenly.errors import UsageError
from evenly.measure.engine import measure_set
from evenly.measure.result import Failure

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,
    # Killed workers leave sockets and files of distributed's to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def address():
    """A scheduler with two worker processes, each with a nanny that starts it again."""
    with (
        warnings.catch_warnings(),
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),  # 30 s for a result on a worker that just died
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=60) as cluster,
    ):
        yield cluster.scheduler_address


def run(sources, **options):
    return measure_set(sources, periods=(2, 4), each=measure_fake, **options)


def test_the_result_is_that_of_one_process(tmp_path, address):
    sources = fakes(60, {3: "broken", 11: "odd"})
    seen: list[dict] = []
    state = run(sources, scheduler=address, rows=tmp_path / "rows.csv", emit=seen.append)
    assert state == run(sources, rows=tmp_path / "one.csv")
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert [form["path"] for form in seen] == [s.name for s in sources]


def test_a_worker_that_is_killed_costs_nothing(tmp_path, address):
    sources = fakes(60, {20: "once"}, tmp_path)
    state = run(sources, scheduler=address)
    assert os.listdir(tmp_path) == ["0020-once"]
    assert state == run(sources)
    assert (state.count, state.failed_count) == (60, 0)


def test_a_picture_that_kills_every_worker_is_a_failure(address):
    state = run(fakes(20, {7: "killer"}), scheduler=address)
    assert state.count == 19
    assert state.failed == [Failure("0007-killer", "the process that measured it died, killed or out of memory")]


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:1", "nonsense", "http://127.0.0.1:1"])
def test_schedulers_that_do_not_answer(where, monkeypatch):
    import evenly.measure.workers as workers

    monkeypatch.setattr(workers, "_PATIENCE", 1)
    with pytest.raises(UsageError, match=r"expected tcp://HOST:PORT of a running dask scheduler"):
        run(fakes(2), scheduler=where)
