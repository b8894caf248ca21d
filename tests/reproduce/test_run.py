"""Running cells: alone or in several processes, killed and resumed, failing, never mixed with other work."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_experiment
import numpy as np
import pytest

from evenly.errors import EvenlyError, OutputError, UsageError
from evenly.reproduce import registry, run
from evenly.reproduce.experiment import Cell, Context, Outcome, Scale
from evenly.reproduce.kept import Kept
from evenly.reproduce.run import Job, Progress, run_cell, run_experiment

pytest.importorskip("lightning_fabric")

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path_factory):
    """The fake experiment is registered, and the data are one small picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    monkeypatch.setitem(registry.EXPERIMENTS, "fake", ("fake_experiment", ("C13", "C14"), "a fake"))
    monkeypatch.setattr(registry, "module_of", lambda name: "fake_experiment")
    monkeypatch.setattr(run, "module_of", lambda name: "fake_experiment")
    return folder


def job(folder, fake, **options):
    return Job(**{"scale": Scale.SMOKE, "folder": folder, "source": fake, **options})


def same(a, b):
    assert a.conclusion.findings == b.conclusion.findings
    assert a.conclusion.evidence[1:3] == b.conclusion.evidence[1:3]
    for x, y in zip(a.conclusion.evidence[0].pictures, b.conclusion.evidence[0].pictures, strict=True):
        np.testing.assert_array_equal(x.pixels, y.pixels)


def test_one_process_and_two_give_the_same(tmp_path, fake, monkeypatch):
    """And where a cell fails in one of them, the others end and are kept."""
    told: list[Progress] = []
    one = run_experiment("fake", job(tmp_path / "one", fake))
    monkeypatch.setenv(fake_experiment.FAIL, "plain/seed-0:crash")
    with pytest.raises(EvenlyError, match="plain/seed-0 failed with RuntimeError"):
        run_experiment("fake", job(tmp_path / "two", fake, jobs=2), told.append)
    assert [p.cells for p in told if p.note == run.DONE] == [1, 2, 3]
    assert any(p.steps == 12 for p in told)
    monkeypatch.delenv(fake_experiment.FAIL)
    two = run_experiment("fake", job(tmp_path / "two", fake, resume=True))
    same(one, two)
    assert one.cells == two.cells == 4
    assert one.longest <= one.seconds
    assert one.data["digest"] == two.data["digest"]


def test_kept_cells_are_used_only_where_that_is_asked_for(tmp_path, fake, monkeypatch):
    first = run_experiment("fake", job(tmp_path, fake))
    ran: list[str] = []
    inner = fake_experiment.run

    def counting(cell, context):
        ran.append(cell.name)
        return inner(cell, context)

    def again(**options):
        ran.clear()
        return run_experiment("fake", job(tmp_path, fake, **options))

    monkeypatch.setattr(fake_experiment, "EXPERIMENT", dataclasses.replace(fake_experiment.EXPERIMENT, run=counting))
    resumed = again(resume=True)
    assert ran == []
    same(first, resumed)
    assert resumed.seconds == pytest.approx(first.seconds)
    again(resume=True, seeds=3)  # two more networks; those of the seeds before are the same
    assert ran == ["plain/seed-2", "patterned/seed-2"]
    again(resume=True, scale=Scale.SMALL)
    assert len(ran) == 4
    revised = dataclasses.replace(fake_experiment.EXPERIMENT, revision=2)
    with monkeypatch.context() as patch:
        patch.setattr(fake_experiment, "EXPERIMENT", revised)
        again(resume=True)
    assert len(ran) == 4
    again(resume=True)
    assert ran == []
    again()
    assert len(ran) == 4


def test_cells_of_other_data_or_devices_are_not_used(tmp_path):
    cell, outcome = Cell("a/b", {"x": 1}, 3), Outcome({"n": 1})
    Kept(tmp_path, fake_experiment.EXPERIMENT, Scale.SMOKE, "data", "cpu").save(cell, outcome)

    def kept(data="data", device="cpu", scale=Scale.SMOKE, **changes):
        other = dataclasses.replace(cell, **changes)
        return Kept(tmp_path, fake_experiment.EXPERIMENT, scale, data, device).load(other)

    assert kept() is not None
    assert kept(data="others") is None
    assert kept(device="cuda") is None
    assert kept(scale=Scale.FULL) is None
    assert kept(options={"x": 2}) is None
    assert kept(seed=4) is None


def test_outcomes_are_what_will_be_read(tmp_path):
    kept = Kept(tmp_path, fake_experiment.EXPERIMENT, Scale.SMOKE, "data", "cpu")
    outcome = Outcome({"pair": (1, 2), "by": {3: 4.5}}, {"a": np.arange(3, dtype=np.uint8)}, 1.5)
    saved, loaded = kept.save(Cell("a"), outcome), kept.load(Cell("a"))
    assert saved.numbers == loaded.numbers == {"pair": [1, 2], "by": {"3": 4.5}}
    assert saved.seconds == loaded.seconds == 1.5
    np.testing.assert_array_equal(saved.arrays["a"], loaded.arrays["a"])
    for wrong in (float("nan"), np.float32(1), object()):
        with pytest.raises(OutputError, match="JSON values"):
            kept.save(Cell("a"), Outcome({"n": wrong}))


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[: len(c) // 2], lambda c: b"PK" + bytes(200)])
def test_a_damaged_cell_is_run_again(tmp_path, fake, damage):
    first = run_experiment("fake", job(tmp_path, fake, seeds=2))
    path = next((tmp_path / "cells" / "fake" / "smoke").glob("plain-seed-1*.npz"))
    path.write_bytes(damage(path.read_bytes()))
    same(first, run_experiment("fake", job(tmp_path, fake, seeds=2, resume=True)))


@pytest.mark.parametrize(
    ("how", "words"), [("usage", "was told to fail"), ("crash", "patterned/seed-0 failed with RuntimeError")]
)
def test_a_failing_cell_leaves_the_others(tmp_path, fake, monkeypatch, how, words):
    monkeypatch.setenv(fake_experiment.FAIL, f"patterned/seed-0:{how}")
    with pytest.raises(EvenlyError, match=words):
        run_experiment("fake", job(tmp_path, fake))
    kept = sorted(p.name.partition(".")[0] for p in (tmp_path / "cells" / "fake" / "smoke").glob("*.npz"))
    assert kept == ["patterned-seed-1", "plain-seed-0", "plain-seed-1"]
    monkeypatch.delenv(fake_experiment.FAIL)
    assert run_experiment("fake", job(tmp_path, fake, resume=True)).cells == 4


def test_a_process_that_dies_is_an_error_with_a_remedy(tmp_path, fake, monkeypatch):
    monkeypatch.setenv(fake_experiment.FAIL, "plain/seed-0:die")
    with pytest.raises(EvenlyError, match=r"ended without an answer.*--resume with fewer --jobs"):
        run_experiment("fake", job(tmp_path, fake, jobs=2))


@pytest.mark.parametrize("at", [1, 7])
def test_a_killed_run_resumes_to_the_same(tmp_path, fake, monkeypatch, at):
    whole = run_experiment("fake", job(tmp_path / "whole", fake))
    inner = run._context

    def often(*arguments):
        return dataclasses.replace(inner(*arguments), checkpoint_seconds=0.0)

    monkeypatch.setattr(run, "_context", often)
    seen = 0

    def kill(now: Progress) -> None:
        nonlocal seen
        seen += now.steps > 0
        if seen == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment("fake", job(tmp_path / "killed", fake), kill)
    done = list((tmp_path / "killed" / "cells" / "fake" / "smoke").glob("*.npz"))
    assert len(done) < 4
    resumed = run_experiment("fake", job(tmp_path / "killed", fake, resume=True))
    same(whole, resumed)
    assert not list((tmp_path / "killed").rglob("*.checkpoints"))


def test_the_time_of_a_killed_cell_counts(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    calls = []

    def slow(cell, context):
        calls.append(cell)
        time.sleep(0.05)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return Outcome({})

    experiment = dataclasses.replace(fake_experiment.EXPERIMENT, run=slow)
    with pytest.raises(KeyboardInterrupt):
        run_cell(experiment, Cell("a"), Context(Scale.SMOKE, folder))
    assert run_cell(experiment, Cell("a"), Context(Scale.SMOKE, folder)).seconds >= 0.1
    (folder / "seconds").write_text("damaged", encoding="utf-8")
    assert 0.05 <= run_cell(experiment, Cell("a"), Context(Scale.SMOKE, folder)).seconds < 10


def test_nothing_random_leaks_out(tmp_path):
    import random

    import torch

    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    experiment = dataclasses.replace(fake_experiment.EXPERIMENT, run=lambda cell, context: Outcome({}))
    run_cell(experiment, Cell("a", seed=1), Context(Scale.SMOKE, tmp_path))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.prove
@pytest.mark.skipif(os.environ.get("EVENLY_PROVE") != "1", reason="make prove: a minute of starting processes")
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt_ends_the_processes_and_loses_nothing(tmp_path, fake):
    """Ctrl-C in a terminal goes to all processes at once."""
    code = (
        "import signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where tests run in the background
        "from pathlib import Path\n"
        "from evenly.reproduce import registry, run\n"
        "from evenly.reproduce.experiment import Scale\n"
        "if __name__ == '__main__':\n"
        "    registry.module_of = run.module_of = lambda name: 'fake_experiment'\n"
        "    registry.EXPERIMENTS['fake'] = ('fake_experiment', (), '')\n"
        "    job = run.Job(Scale.FULL, Path(sys.argv[2]), Path(sys.argv[3]), 40, jobs=2)\n"
        "    run.run_experiment('fake', job, lambda p: print(p.cells, flush=True))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script), str(HERE), str(tmp_path / "out"), str(fake)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 2:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.count("Traceback") == 1  # of this script; the workers say nothing
    assert "KeyboardInterrupt" in errors
    kept = list((tmp_path / "out" / "cells" / "fake" / "full").glob("*.npz"))
    assert 2 <= len(kept) < 80
    assert gone(process.pid)


def gone(group):
    """Whether all processes of a group end; multiprocessing's tracker of resources goes a moment later."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_wrong_numbers_of_seeds(tmp_path, fake):
    with pytest.raises(UsageError, match="--seeds"):
        run_experiment("fake", job(tmp_path, fake, seeds=1))


def test_names():
    assert registry.chosen(()) == registry.chosen(("all",)) == tuple(registry.EXPERIMENTS)
    assert registry.chosen(("gan", "arithmetic", "gan")) == ("arithmetic", "gan")
