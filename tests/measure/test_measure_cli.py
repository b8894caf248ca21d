"""``evenly measure`` and ``evenly.measure``: what they take, what they say, how they end."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import evenly
from evenly.cli import main, measuring
from evenly.cli.measuring import Watch
from evenly.errors import UnreadableError, UsageError
from evenly.measure.result import Measurement
from evenly.report import Measured, open_measured

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "measured.schema.json").read_text(encoding="utf-8"))
RATE = 16000


def picture(seed: int, strength: float = 0.0, shape: tuple[int, ...] = (72, 80)) -> np.ndarray:
    """Noise; with one pixel of four brighter it shows period 2."""
    pixels = 128 + 6 * np.random.default_rng(seed).standard_normal(shape)
    pixels[::2, ::2] += strength
    return pixels.round().clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for number in range(12):
        save(root / "made" / f"{number:02}.png", picture(number, 8.0))
        save(root / "real" / f"{number:02}.png", picture(100 + number))
    save(root / "mixed" / "a.png", picture(0))
    (root / "mixed" / "b.png").write_bytes(b"junk")
    save(root / "mixed" / "c.png", picture(1))
    return root


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["measure", *(str(a) for a in arguments)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


# ------------------------------------------------------------------------------------------------------------ pictures


def test_one_picture(folder, capsys):
    code, out, err = run(capsys, folder / "made" / "00.png")
    assert (code, err) == (1, "")
    assert "Strong traces of up-sampling: period 2 px." in out
    assert "picture 80x72 px" in out
    assert "amplitude" in out
    code, out, err = run(capsys, folder / "real" / "00.png")
    assert (code, err) == (0, "")
    assert "No traces of up-sampling found." in out


def test_json_is_the_same_as_from_python(folder, capsys):
    path = folder / "made" / "00.png"
    code, out, _ = run(capsys, path, "--format", "json", "--periods", "4,2")
    form = json.loads(out)
    jsonschema.validate(form, SCHEMA)
    assert code == 1
    assert form["images"] == [evenly.measure(path, (2, 4)).to_dict()]
    assert list(form["images"][0]["periods"]) == ["2", "4"]
    assert form["set"]["count"] == 1


def test_a_set_against_another(folder, capsys):
    code, out, err = run(capsys, folder / "made", "--against", folder / "real", "--format", "json", "--jobs", 1)
    assert (code, err) == (1, "")
    form = json.loads(out)
    jsonschema.validate(form, SCHEMA)
    assert [Path(i["path"]).name for i in form["images"]] == [f"{n:02}.png" for n in range(12)]
    assert form["set"]["verdict"] == "strong"
    assert form["against"]["verdict"] == "none"
    assert form["comparison"]["found"] == [2]
    swapped = run(capsys, folder / "real", "--against", folder / "made", "--jobs", 1)
    assert swapped[0] == 0, "the first set does not show more"
    assert "No evidence that" in swapped[1]


def test_the_result_does_not_depend_on_the_number_of_processes(folder, capsys):
    one = run(capsys, folder / "made", "--format", "json", "--jobs", 1)
    assert run(capsys, folder / "made", "--format", "json", "--jobs", 2) == one


def test_csv_and_rows_agree(folder, capsys, tmp_path):
    rows = tmp_path / "rows.csv"
    code, out, _ = run(capsys, folder / "real", "--format", "csv", "--rows", rows, "--jobs", 1)
    assert code == 0
    assert list(csv.DictReader(io.StringIO(out))) == list(csv.DictReader(io.StringIO(rows.read_text())))
    assert not list(tmp_path.glob("*.journal"))


def test_files_that_cannot_be_measured_do_not_end_the_job(folder, capsys):
    code, out, err = run(capsys, folder / "mixed", "--format", "json", "--jobs", 1)
    form = json.loads(out)
    jsonschema.validate(form, SCHEMA)
    assert code == 2
    assert len(form["images"]) == 2
    assert [Path(f["path"]).name for f in form["set"]["failed"]] == ["b.png"]
    assert err.splitlines()[0].startswith("error: ")
    assert "b.png" in err.splitlines()[0]
    assert err.splitlines()[1] == "1 of 3 files could not be measured"
    code, out, err = run(capsys, folder / "mixed" / "b.png")
    assert code == 2
    assert "nothing could be measured" in out
    assert "Traceback" not in err


def test_a_comparison_with_nothing(folder, capsys):
    code, out, err = run(capsys, folder / "made", "--against", folder / "mixed" / "b.png", "--jobs", 1)
    assert code == 2
    assert "Difference" not in out
    assert "1 of 1 files could not be measured" in err


def test_too_small_a_picture(capsys, tmp_path):
    code, out, _ = run(capsys, save(tmp_path / "dot.png", picture(0, 0, (1, 1))), "--format", "json")
    form = json.loads(out)
    jsonschema.validate(form, SCHEMA)
    assert code == 0
    assert set(form["images"][0]["periods"]["2"].values()) == {None}


def test_output_in_a_file(folder, capsys, tmp_path):
    code, out, _ = run(capsys, folder / "made", "--output", tmp_path / "report.txt", "--jobs", 1)
    assert code == 1
    assert out == f"{tmp_path / 'report.txt'}: Strong traces of up-sampling: period 2 px (12 measured, 0 failed)\n"
    assert "All together" in (tmp_path / "report.txt").read_text()


# ----------------------------------------------------------------------------------------------------------- exit codes


def watched(*records) -> Watch:
    watch = Watch(open_measured("text"))
    for record in records:
        watch.add(record)
    return watch


def shown(verdict: str, db: float = 20.0) -> dict:
    item = evenly.measure(picture(0, 8.0), (2, 4))
    record = item.to_dict() | {"verdict": verdict, "found": [] if verdict == "none" else [2]}
    record["periods"]["2"] |= {"mean_db": db, "variance_db": 1.0, "interpolation_db": None, "chroma_db": None}
    return record | {"path": "x.png"}


def together(verdict: str, failed: int = 0) -> Measured:
    from evenly.measure.result import SetMeasurement

    found = () if verdict == "none" else (2,)
    return Measured("x", "image", SetMeasurement(3, (), failed, {}, verdict, found, {}, {}, "unknown"))


@pytest.mark.parametrize(
    ("verdicts", "of_all", "code"),
    [
        (["none"], "none", 0),
        (["weak"], "none", 1),
        (["strong"], "none", 1),
        (["none", "weak", "none"], "none", 0),  # chance makes some weak ones
        (["none", "strong", "none"], "none", 1),
        (["none", "none", "none"], "weak", 1),
    ],
)
def test_findings(verdicts, of_all, code):
    watch = watched(*map(shown, verdicts))
    assert watch.exit_code(together(of_all), None) == code
    assert watch.exit_code(together(of_all, failed=1), None) == 2, "a failure outweighs findings"


def test_fail_over_asks_how_loud(folder, capsys):
    watch = watched(shown("weak", 20.0), shown("none", 90.0))
    assert watch.exit_code(together("none"), 19.9) == 1
    assert watch.exit_code(together("none"), 20.1) == 0
    made, real = folder / "made", folder / "real"
    for arguments in ([made / "00.png"], [made], [made, "--against", real]):
        assert run(capsys, *arguments, "--jobs", 1, "--fail-over", 5)[0] == 1
        assert run(capsys, *arguments, "--jobs", 1, "--fail-over", 99)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument"),
        (["absent.png"], "absent.png"),
        (["real", "--periods", "2,x"], "--periods (=2,x) must be whole numbers"),
        (["real", "--periods", "1"], "--periods (=1)"),
        (["real", "--resume"], "--resume needs --rows"),
        (["real", "--rows", "rows.xml"], ".parquet"),
        (["real", "--jobs", "0"], "--jobs"),
        (["real", "--jobs", "2", "--scheduler", "tcp://127.0.0.1:9"], "exclude each other"),
        (["real", "--format", "xml"], "xml"),
        (["real", "--output", "absent/report.txt"], "no folder absent"),
        (["x.wav", "--against", "real"], "--against is for pictures"),
        (["real", "--kind", "audio", "--rows", "r.csv"], "--rows is for pictures"),
        (["real", "--kind", "video"], "video"),
        (["empty"], "empty"),
    ],
)
def test_wrong_usage_gets_one_clear_line(folder, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir(exist_ok=True)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


# ---------------------------------------------------------------------------------------------------------------- sound


def write_sound(path: Path, amplitude: float, seed: int = 0) -> Path:
    soundfile = pytest.importorskip("soundfile")
    samples = 0.01 * np.random.default_rng(seed).standard_normal(2 * RATE)
    samples += amplitude * np.cos(2 * np.pi * np.arange(2 * RATE) / 8)
    soundfile.write(path, samples, RATE)
    return path


def test_recordings(capsys, tmp_path):
    loud, quiet = write_sound(tmp_path / "loud.wav", 0.003), write_sound(tmp_path / "quiet.flac", 0.0, 1)
    code, out, err = run(capsys, loud)
    assert (code, err) == (1, "")
    assert "period 8 samples" in out
    assert run(capsys, quiet)[0] == 0
    (tmp_path / "broken.wav").write_bytes(b"junk")
    code, out, err = run(capsys, tmp_path, "--kind", "audio", "--format", "json", "--periods", "8,16")
    form = json.loads(out)
    jsonschema.validate(form, SCHEMA)
    assert code == 2
    assert "1 of 3 files could not be measured" in err
    assert [s["verdict"] for s in form["sounds"]] == ["strong", "none"]
    assert form["set"] | {"failed": []} == {
        "count": 2,
        "failed_count": 1,
        "failed": [],
        "origin": "unknown",
        "verdict": "strong",
        "periods": {},
        "found": [8],
        "verdicts": {"strong": 1, "none": 1},
        "causes": {"up-sampling": 1},
    }
    assert form["sounds"][0] == evenly.measure(loud, (8, 16)).to_dict()
    assert run(capsys, loud, "--fail-over", 99)[0] == 0
    assert run(capsys, loud, quiet, "--format", "csv")[1].count("\n") == 3


# --------------------------------------------------------------------------------------------------------------- python


def test_measure_in_python(folder):
    path = folder / "made" / "00.png"
    measurement = evenly.measure(path)
    assert isinstance(measurement, Measurement)
    assert measurement.verdict == "strong"
    assert measurement.path == str(path)
    array = evenly.measure(picture(0, 8.0))
    assert array.periods == measurement.periods
    assert str(array).startswith("evenly measure array\n")
    assert "<table>" in array._repr_html_()
    assert array.pixels is not None


def test_measure_sound_in_python(tmp_path):
    samples = 0.003 * np.cos(2 * np.pi * np.arange(RATE) / 8) + 0.01 * np.random.default_rng(0).standard_normal(RATE)
    for given in ({"rate": RATE}, {"rate": RATE, "kind": "audio"}):
        assert evenly.measure(samples, (8,), **given).found == (8,)


def test_what_python_refuses(folder, tmp_path):
    with pytest.raises(UsageError, match="a folder; expected one file"):
        evenly.measure(folder)
    with pytest.raises(UsageError, match="kind"):
        evenly.measure(picture(0), kind="video")
    with pytest.raises(UsageError, match=r"rate .=8.* is for recordings"):
        evenly.measure(picture(0), kind="image", rate=8)
    with pytest.raises(UnreadableError):
        evenly.measure(folder / "mixed" / "b.png")


# ------------------------------------------------------------------------------------- interrupts, pipes, and terminals


def start(*arguments, **options):
    command = [sys.executable, "-m", "evenly", "measure", *(str(a) for a in arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, preexec_fn=listen, **pipes, **options)


def listen():
    """A shell's background jobs, which the tests may be, ignore interrupts and hand that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupt_leaves_nothing_half_written(tmp_path):
    for number in range(400):
        save(tmp_path / "many" / f"{number}.png", picture(number, 0, (256, 256)))
    process = start("many", "--jobs", 1, "--rows", "rows.csv", "--output", "report.txt", cwd=tmp_path)
    journal = tmp_path / "rows.csv.journal" / "log"
    end = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["many", "rows.csv.journal"]


def test_a_closed_pipe_is_quiet(folder):
    process = start(folder / "made", "--jobs", 1, "--format", "json")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_is_one_clear_line(folder):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "evenly", "measure", str(folder / "real" / "00.png")]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output cannot be written: No space left")
    assert done.stderr.count("\n") == 1


def test_progress_is_for_terminals(folder, capsys, monkeypatch):
    with measuring._progress("pictures") as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((100, 24)))
    code, out, err = run(capsys, folder / "real", "--format", "json", "--jobs", 1)
    assert code == 0
    assert json.loads(out)["set"]["count"] == 12
    assert "12 of 12" in err
    assert "per second" in err


def test_files_of_other_kinds_are_counted(tmp_path, capsys):
    save(tmp_path / "a.png", picture(0))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "names.json").write_text("{}")
    code, out, err = run(capsys, tmp_path)
    assert code == 0
    assert "1 picture measured" in out or "a.png" in out
    assert "2 files of another kind left out" in err
