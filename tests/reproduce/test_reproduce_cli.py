"""``evenly reproduce`` and ``evenly.reproduce``: runs, lists, reports, fails and is interrupted as it says."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from pathlib import Path

import fake_experiment
import numpy as np
import pytest

pytest.importorskip("lightning_fabric")
pytest.importorskip("jinja2")

import evenly
from evenly.cli import main, reproducing
from evenly.errors import EvenlyError, UsageError
from evenly.reproduce import registry, run
from evenly.reproduce.claims import CLAIMS
from evenly.reproduce.run import DONE, Progress


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path_factory):
    """Only the fake experiment is registered, and the data are one small picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)).save(folder / "a.png")
    only = {"fake": ("fake_experiment", ("C13", "C14"), "a fake")}
    for name in reversed(list(registry.EXPERIMENTS)):  # they come back the other way round, so in their order
        monkeypatch.delitem(registry.EXPERIMENTS, name)
    for name, entry in only.items():
        monkeypatch.setitem(registry.EXPERIMENTS, name, entry)
    monkeypatch.setattr(registry, "import_module", lambda path: fake_experiment)
    monkeypatch.setattr(run, "processes", lambda device: 1)
    return folder


def evenly_reproduce(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.fixture
def common(tmp_path, fake):
    return ("--scale", "smoke", "--data", fake, "--output", tmp_path / "out")


def test_a_run(capsys, common, tmp_path):
    code, out, err = evenly_reproduce(capsys, "fake", *common)
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["C13", "C14", "page:"]
    assert "C13  holds" in lines[0]
    assert (
        "C14  does not hold here  Two is at least 3: a ratio of 2 (exact), not met; 0 of 1 part met, 1 not met (fake)"
        in lines[1]
    )
    assert err.count(" done\n") == 4
    assert "fake: 4 of 4 cells, patterned/seed-1 done" in err
    for name in ("index.html", "reproduction.json", "results/fake.json"):
        assert (tmp_path / "out" / name).is_file()
    assert "page: " in out
    code, out, err = evenly_reproduce(capsys, *common, "--resume", "--format", "json", "--seeds", 2)
    assert code == 0
    assert err == ""  # every cell was kept
    form = json.loads(out)
    assert len(form["claims"]) == len(CLAIMS)
    assert out == (tmp_path / "out" / "reproduction.json").read_text(encoding="utf-8")


def test_markdown(capsys, common, tmp_path):
    page = tmp_path / "page.md"
    code, out, _ = evenly_reproduce(capsys, "fake", *common, "--markdown", page)
    assert code == 0
    assert f"Markdown: {page}" in out
    assert "\nC13 **holds** (2 of 2 parts met). " in page.read_text(encoding="utf-8")
    assert (tmp_path / "page" / "fake.json").is_file()


def test_the_list(capsys, common, tmp_path):
    code, out, _ = evenly_reproduce(capsys, "--list", "--output", tmp_path / "out")
    assert code == 0
    assert out.splitlines() == ["fake           a fake (not run)", "  C13  not run", "  C14  not run"]
    evenly_reproduce(capsys, "fake", *common)
    _, out, _ = evenly_reproduce(capsys, "--list", "--output", tmp_path / "out")
    assert "last run at scale smoke" in out
    assert "  C14  does not hold here" in out


def test_the_list_and_the_help_are_light():
    for arguments in (["reproduce", "--list"], ["reproduce", "--help"]):
        script = (
            "import sys\nfrom evenly.cli import main\n"
            f"try: main({arguments!r})\nexcept SystemExit as e: assert e.code == 0\n"
            "assert not {'torch', 'onnx', 'matplotlib', 'jinja2', 'lightning_fabric'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "arithmetic" in done.stdout or "--scale" in done.stdout


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "evenly", "reproduce", "nothing"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no experiment is called 'nothing'; expected all or some of arithmetic, gan")


def test_a_failing_experiment_leaves_the_others(capsys, common, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.EXPERIMENTS, "later", ("later", ("C13",), "another"))
    monkeypatch.setenv(fake_experiment.FAIL, "plain/seed-1:crash")
    asked = []

    def failing_once(path):
        asked.append(path)
        if len(asked) > 1:
            monkeypatch.delenv(fake_experiment.FAIL)
        return fake_experiment

    monkeypatch.setattr(registry, "import_module", failing_once)
    code, out, err = evenly_reproduce(capsys, *common)
    assert code == 2
    assert "error: fake: the cell plain/seed-1 failed with RuntimeError: an error of another kind" in err
    assert "Traceback" not in err
    assert "C13  holds" in out  # the later one
    monkeypatch.setenv(fake_experiment.FAIL, "plain/seed-1:crash")
    asked.clear()
    _, _, err = evenly_reproduce(capsys, "fake", *common, "--debug")
    assert "Traceback" in err
    assert "fake_experiment.py" in err


def test_an_interrupt_says_how_to_go_on(capsys, common, tmp_path, monkeypatch):
    def interrupted(cell, context):
        if cell.name == "plain/seed-1":
            raise KeyboardInterrupt
        return inner(cell, context)

    import dataclasses

    inner = fake_experiment.run
    experiment = dataclasses.replace(fake_experiment.EXPERIMENT, run=interrupted)
    arguments = ["fake", *map(str, common)]
    monkeypatch.setattr(sys, "argv", ["evenly", "reproduce", *arguments])
    with monkeypatch.context() as patch:
        patch.setattr(fake_experiment, "EXPERIMENT", experiment)
        code, _, err = evenly_reproduce(capsys, *arguments)
    assert code == 130
    assert err.splitlines()[-1].startswith("interrupted; what is done is kept. To go on: evenly reproduce fake --scale")
    assert err.splitlines()[-1].endswith(" --resume")
    code, _, err = evenly_reproduce(capsys, *arguments, "--resume")
    assert code == 0
    assert err.count(" done\n") == 3  # one was kept


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "'nothing'"),
        (["--scale", "huge"], "huge"),
        (["--seeds", "1"], "--seeds"),
        (["--jobs", "0"], "--jobs"),
        (["--device", "tpu", "--scale", "smoke"], "--device"),
        (["--data", "nowhere", "--scale", "smoke"], "nowhere"),
        (["--markdown", "nowhere/page.md"], "no folder"),
        (["--markdown", "page"], "suffix"),
        (["--format", "pdf"], "pdf"),
    ],
)
def test_usage_errors(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = evenly_reproduce(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_output_that_cannot_be_written(capsys, tmp_path, fake):
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, _, err = evenly_reproduce(capsys, "fake", "--scale", "smoke", "--data", fake, "--output", tmp_path / "file")
    assert code == 2
    assert "choose another --output" in err


def test_a_damaged_result_is_named(capsys, common, tmp_path):
    folder = tmp_path / "out" / "results"
    folder.mkdir(parents=True)
    (folder / "fake.json").write_text("{", encoding="utf-8")
    code, _, err = evenly_reproduce(capsys, "--list", "--output", tmp_path / "out")
    assert code == 2
    assert "fake.json: damaged" in err
    code, _, _ = evenly_reproduce(capsys, "fake", *common)  # written anew
    assert code == 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_on_a_terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with reproducing.shown() as told:
        told(Progress("fake", 0, 2))
        told(Progress("fake", 0, 2, "plain/seed-0", 5, 10, "line"))
        bars = told.__self__
        assert bars._bar.tasks[0].completed == 0.5
        assert "line 5 of 10 steps" in bars._bar.tasks[1].fields["words"]
        told(Progress("fake", 1, 2, "plain/seed-0", note=DONE))
        assert len(bars._bar.tasks) == 1
        assert bars._bar.tasks[0].completed == 1
        told(Progress("fake", 1, 2, "plain/seed-1", 1, 10, "line"))
        told(Progress("other", 0, 3))
        assert [task.description for task in bars._bar.tasks] == ["other"]
    assert "fake" in screen.getvalue()


def test_from_python(tmp_path, fake):
    told = []
    found = evenly.reproduce("fake", "smoke", data=fake, output=tmp_path / "out", progress=told.append)
    assert isinstance(found, evenly.Reproduction)
    assert found.answers["C13"] == "holds"
    assert found.answers["C1"] is None
    assert found.results["fake"].scale == "smoke"
    assert told[-1].cells == 4
    again = evenly.reproduce(["fake"], "smoke", data=fake, output=tmp_path / "out", resume=True)
    assert again == found
    from evenly import api

    assert inspect.signature(evenly.reproduce) == inspect.signature(api.reproduce)
    with pytest.raises(UsageError, match="scale"):
        evenly.reproduce("fake", "huge")


def test_errors_from_python(tmp_path, fake, monkeypatch):
    monkeypatch.setenv(fake_experiment.FAIL, "plain/seed-1:usage")
    with pytest.raises(EvenlyError, match="told to fail"):
        evenly.reproduce("fake", "smoke", data=fake, output=tmp_path)
    assert not Path(tmp_path / "index.html").exists()
