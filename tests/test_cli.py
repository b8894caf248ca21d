"""The command line and the Python interface: targets, options, exit codes, one clear line for every wrong input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

import evenly
from evenly.check.rules import RULES
from evenly.cli import app, main, writing
from evenly.errors import (
    EvenlyError,
    FormatError,
    InputShapeError,
    ModelError,
    OutputError,
    UntrustedError,
    UsageError,
    WeightsError,
)
from evenly.load import MOST_ELEMENTS, Declared, load_target, parse_input

torch = pytest.importorskip("torch")
nn = torch.nn

NETS = """
    import torch
    from torch import nn


    def uneven():
        return nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1))


    def even():
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"))


    class Ready(nn.Module):
        example_inputs = (torch.zeros(1, 4, 8, 8),)

        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1)

        def forward(self, x):
            return self.up(x)


    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)

        def forward(self, image, shift):
            return self.up(image + shift)


    class Broken(nn.Module):
        def forward(self, x):
            return x.reshape(3, 5, 7)


    instance = Ready()
    number = 3


    def needs_arguments(width):
        return nn.Conv2d(width, width, 1)


    def makes_nothing():
        return None


    def fails():
        raise RuntimeError("no such checkpoint\\nsecond line")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module ``cli_nets``, forgotten afterwards."""
    (tmp_path / "cli_nets.py").write_text(textwrap.dedent(NETS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield tmp_path
    for name in [m for m in sys.modules if m.startswith("cli_")]:
        del sys.modules[name]


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    out = capsys.readouterr()
    return int(caught.value.code or 0), out.out, out.err


# --------------------------------------------------------------------------------------------------------------- input


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,8,16,16", Declared((1, 8, 16, 16))),
        (" x=1, 8:int64 ", Declared((1, 8), "x", "int64")),
        ("down.0=7", Declared((7,), "down.0")),
        (f"{MOST_ELEMENTS}", Declared((MOST_ELEMENTS,))),
    ],
)
def test_input_shapes(text, expected):
    assert parse_input(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the size ''"),
        ("1,,2", "the size ''"),
        ("1,8,x", "the size 'x'"),
        ("1.5,2", "the size '1.5'"),
        ("1,0,4", "the size 0"),
        ("1,-3", "the size -3"),
        (f"{MOST_ELEMENTS + 1}", f"{MOST_ELEMENTS + 1} elements"),
        ("1000000000,1000000000,1000000000", "elements"),
        ("9" * 40, "the size"),
        ("1,2:float8", "the type 'float8'"),
        ("=1,2", "another form"),
        ("a=b=1", "another form"),
        ("１,2", "the size"),
    ],
)
def test_wrong_input_shapes(text, message):
    with pytest.raises(InputShapeError, match=message):
        parse_input(text)


# ------------------------------------------------------------------------------------------------------------- targets


def test_a_function_a_class_and_an_instance(here):
    shape = [Declared((1, 4, 8, 8))]
    assert load_target("cli_nets:uneven", inputs=shape).weights == "none"
    assert load_target("cli_nets:Ready").weights == "none"
    assert load_target("cli_nets:instance").weights == "none"
    assert load_target("cli_nets:Ready", use_weights=False).weights == "ignored"
    loaded = load_target("cli_nets:Ready")
    assert loaded.graph.source == "cli_nets:Ready"
    assert loaded.graph.input_shapes == ((1, 4, 8, 8),)


def test_named_inputs_follow_forward(here):
    wanted = [Declared((1, 4, 1, 1), "shift"), Declared((1, 4, 6, 6))]
    assert load_target("cli_nets:TwoInputs", inputs=wanted).graph.input_shapes == ((1, 4, 6, 6), (1, 4, 1, 1))


@pytest.mark.parametrize(
    ("target", "shape", "error", "message"),
    [
        ("nonsense", "1,2", UsageError, "not understood"),
        ("cli_absent:x", "1,2", UsageError, "'cli_absent' is not there"),
        ("cli_nets.sub:x", "1,2", UsageError, "'cli_nets.sub' is not there"),
        ("cli_nets:absent", "1,2", UsageError, "has no 'absent'; it has Broken"),
        ("cli_nets:number", "1,2", UsageError, "is int; expected an nn.Module"),
        ("cli_nets:makes_nothing", "1,2", UsageError, "returned NoneType"),
        ("cli_nets:needs_arguments", "1,2", ModelError, "width"),
        ("cli_nets:fails", "1,2", ModelError, "RuntimeError: no such checkpoint;"),
        ("cli_nets:uneven", None, InputShapeError, "needs example inputs; give --input"),
        ("cli_nets:TwoInputs", "1,2", InputShapeError, "missing a required argument: 'shift'"),
        ("cli_nets:TwoInputs", "other=1,2", InputShapeError, "does not fit"),
        ("cli_nets:Broken", "1,2", ModelError, "could not trace it"),
        ("cli_nets:uneven", "1,5,8,8", EvenlyError, "5"),
        ("absent.onnx", None, ModelError, "not there"),
        ("absent.pt2", None, ModelError, "not there"),
    ],
)
def test_wrong_targets_get_one_clear_line(here, capsys, target, shape, error, message):
    options = [] if shape is None else ["--input", shape]
    with pytest.raises(error, match=message):
        load_target(target, inputs=[parse_input(shape)] if shape else [])
    code, out, err = run(capsys, "check", target, *options)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_modules_that_fail_to_import(here, capsys):
    (here / "cli_syntax.py").write_text("def f(:\n", encoding="utf-8")
    (here / "cli_needs.py").write_text("import cli_not_installed_anywhere\n", encoding="utf-8")
    (here / "cli_exits.py").write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    for name, message in (("syntax", "SyntaxError"), ("needs", "cli_not_installed_anywhere"), ("exits", "SystemExit")):
        code, _, err = run(capsys, "check", f"cli_{name}:f", "--input", "1,2")
        assert code == 2
        assert "importing" in err
        assert message in err


@pytest.mark.parametrize("suffix", ["pt", "pth", "ckpt", "pkl", "PT"])
def test_pickles_are_refused_unopened(here, capsys, suffix):
    path = here / f"weights.{suffix}"
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), path)
    with pytest.raises(UntrustedError, match="safetensors"):
        load_target(str(path), trust=True)
    assert run(capsys, "check", path)[0] == 2


def test_saved_programs_need_trust(here, capsys):
    torch.export.save(torch.export.export(nn.ConvTranspose2d(2, 2, 3, stride=2), (torch.zeros(1, 2, 4, 4),)), "net.pt2")
    with pytest.raises(UntrustedError, match="--trust"):
        load_target("net.pt2")
    code, out, _ = run(capsys, "check", "net.pt2", "--trust", "--format", "json")
    assert code == 1
    assert "EV101" in {f["code"] for f in json.loads(out)["findings"]}
    program = torch.export.load("net.pt2")
    assert evenly.check(program).findings == evenly.check("net.pt2", trust=True).findings
    with pytest.raises(UsageError, match="has its own"):
        evenly.check(program, torch.zeros(1, 2, 4, 4))
    with pytest.raises(UsageError, match="saved with its input shapes"):
        load_target("net.pt2", trust=True, inputs=[Declared((1,))])


def test_damaged_files_get_one_clear_line(here):
    for name, arguments in (("bad.pt2", ["--trust"]), ("bad.onnx", []), ("empty.onnx", [])):
        Path(name).write_bytes(b"" if name.startswith("empty") else b"not a network")
        command = [sys.executable, "-m", "evenly", "check", name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"error: {name}: ")
        assert done.stderr.count("\n") == 1


def test_weights_alone_are_explained(here):
    Path("only.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError, match="give the network as well"):
        load_target("only.safetensors")


# ------------------------------------------------------------------------------------------------------------- weights


def save(path: Path, tensors: dict[str, object]) -> Path:
    pytest.importorskip("safetensors.torch").save_file(tensors, path)
    return path


def test_weights_make_the_verdict(here, capsys):
    state = {"up.weight": torch.ones(4, 3, 4, 4), "up.bias": torch.zeros(3)}
    path = save(here / "w.safetensors", state)
    code, out, _ = run(capsys, "check", "cli_nets:Ready", "--weights", path, "--format", "json")
    data = json.loads(out)
    assert data["model"]["weights"] == "actual"
    assert data["outputs"][0]["certified"] is True
    assert code == 0
    state["up.weight"][..., 0, 0] = 9
    save(path, state)
    code, out, _ = run(capsys, "check", "cli_nets:Ready", "--weights", path, "--format", "json")
    assert json.loads(out)["outputs"][0]["certified"] is False
    assert code == 1
    code, out, _ = run(capsys, "check", "cli_nets:Ready", "--no-weights", "--format", "json")
    assert json.loads(out)["model"]["weights"] == "ignored"
    assert json.loads(out)["outputs"][0]["certified"] is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"up.weight": torch.ones(4, 3, 4, 4)}, "1 missing .up.bias."),
        ({"up.weight": torch.ones(4, 3, 4, 4), "up.bias": torch.ones(3), "x": torch.ones(1)}, "1 unexpected .x."),
        ({"up.weight": torch.ones(4, 3, 3, 3), "up.bias": torch.ones(3)}, "another shape .up.weight .4, 3, 3, 3."),
        ({"up.weight": torch.full((4, 3, 4, 4), torch.nan), "up.bias": torch.ones(3)}, "not finite .up.weight."),
    ],
)
def test_weights_that_do_not_fit_are_named(here, tensors, message):
    path = save(here / "w.safetensors", tensors)
    with pytest.raises(WeightsError, match=message):
        load_target("cli_nets:Ready", weights=path)


def test_weights_that_cannot_be_read(here):
    Path("w.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(FormatError):
        load_target("cli_nets:Ready", weights=Path("w.safetensors"))
    with pytest.raises(UntrustedError):
        load_target("cli_nets:Ready", weights=Path("w.pth"))
    with pytest.raises(WeightsError, match="not there"):
        load_target("cli_nets:Ready", weights=Path("absent.safetensors"))


# ----------------------------------------------------------------------------------------------------- exit and options


def test_exit_codes(here, capsys):
    shape = ("--input", "1,4,8,8")
    assert run(capsys, "check", "cli_nets:uneven", *shape)[0] == 1
    assert run(capsys, "check", "cli_nets:uneven", *shape, "--fail-on", "never")[0] == 0
    assert run(capsys, "check", "cli_nets:even", *shape)[0] == 0
    assert run(capsys, "check", "cli_nets:uneven", *shape, "--ignore", "EV1")[0] == 0
    assert run(capsys, "check", "cli_nets:Ready")[0] == 0, "even overlap is a warning"
    assert run(capsys, "check", "cli_nets:Ready", "--fail-on", "warning")[0] == 1


def test_no_backward(here, capsys):
    code, out, _ = run(capsys, "check", "cli_nets:Ready", "--no-backward", "--format", "json")
    assert code == 0
    assert json.loads(out)["inputs"] == []


def test_output_is_written_whole_or_not_at_all(here, capsys, monkeypatch):
    base = ("check", "cli_nets:Ready", "--format", "json", "--output")
    code, out, _ = run(capsys, *base, "report.json")
    assert code == 0
    assert out.startswith("report.json: 0 errors")
    assert json.loads(Path("report.json").read_text(encoding="utf-8"))["format_version"] == 1

    def full(self, target):
        raise OSError(28, "No space left on device")

    before = Path("report.json").read_bytes()
    monkeypatch.setattr(Path, "replace", full)
    code, _, err = run(capsys, *base, "report.json")
    assert code == 2
    assert "No space left" in err
    assert Path("report.json").read_bytes() == before
    assert not list(here.glob(".*tmp"))


def test_outputs_that_cannot_be_written_fail_before_the_work(here, capsys):
    for path in (here, here / "absent" / "report.json"):
        code, _, err = run(capsys, "check", "cli_absent:x", "--output", path)
        assert code == 2
        assert "cli_absent" not in err


def test_links_and_devices_as_output(here):
    target = here / "real.json"
    target.write_text("old", encoding="utf-8")
    link = here / "link.json"
    link.symlink_to(target)
    writing.write(link, "new")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "new"
    writing.write(Path(os.devnull), "new")
    with pytest.raises(OutputError):
        writing.write(here / "absent" / "x", "new")


def test_settings_and_options(here, capsys):
    settings = Path("pyproject.toml")
    settings.write_text('[tool.evenly]\nignore = ["EV1"]\n', encoding="utf-8")
    shape = ("--input", "1,4,8,8")
    assert run(capsys, "check", "cli_nets:uneven", *shape)[0] == 0
    assert run(capsys, "check", "cli_nets:uneven", *shape, "--ignore", "EV2")[0] == 1, "options win"
    settings.write_text('[tool.evenly.per-layer-ignores]\n"2" = ["EV101"]\n', encoding="utf-8")
    assert run(capsys, "check", "cli_nets:uneven", *shape)[0] == 0
    settings.write_text("[tool.evenly]\nnope = 1\n", encoding="utf-8")
    code, _, err = run(capsys, "check", "cli_nets:uneven", *shape)
    assert code == 2
    assert "'nope'" in err


def test_baseline(here, capsys):
    base = ("check", "cli_nets:uneven", "--input", "1,4,8,8")
    code, out, _ = run(capsys, *base, "--write-baseline", "known.json")
    assert code == 0
    assert "accepts the findings of today" in out
    code, out, _ = run(capsys, *base, "--baseline", "known.json")
    assert code == 0
    assert "accepted by the baseline known.json" in out
    data = json.loads(Path("known.json").read_text(encoding="utf-8"))
    data["findings"] = [f for f in data["findings"] if f["code"] != "EV101"]
    Path("known.json").write_text(json.dumps(data), encoding="utf-8")
    assert run(capsys, *base, "--baseline", "known.json")[0] == 1
    assert run(capsys, *base, "--baseline", "absent.json")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "a:b", "--format", "xml"],
        ["check", "a:b", "--fail-on", "info"],
        ["check", "a:b", "--nope"],
        ["check", "a:b", "c:d"],
        ["nope"],
        ["check", "a:b", "--weights", "w", "--no-weights"],
        ["check", "a:b", "--baseline", "x", "--write-baseline", "y"],
        ["check", "a:b", "--select", "EV999"],
        ["check", "a:b", "--input", "0"],
        ["rule", "EV999"],
    ],
)
def test_usage_errors(here, capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_help_and_version(capsys):
    assert run(capsys)[0] == 0
    code, out, _ = run(capsys, "--version")
    assert (code, out) == (0, f"evenly {evenly.__version__}\n")


@pytest.mark.parametrize("command", [c.name or "" for c in app.registered_commands])
def test_help_shows_its_brackets(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "300")
    _, out, _ = run(capsys, command, "--help")
    made = get_command(app).commands[command]
    for words in (made.help, *(p.help for p in made.params)):
        for line in (words or "").splitlines():
            assert re.sub(r"\\(?=\[)", "", line) in out
    if command in ("attribute", "check", "explore", "fix"):
        monkeypatch.setenv("COLUMNS", "80")
        shown = run(capsys, command, "--help")[1]
        assert "[name=]1,8,16,16" in shown
        assert "[name=]1,77:int64" in shown


def test_rule(capsys):
    code, out, _ = run(capsys, "rule", "ev101")
    assert code == 0
    assert out == RULES["EV101"].markdown()
    assert "\x1b" not in out
    assert run(capsys, "rule", "uneven-overlap")[1] == out
    assert [line.split()[0] for line in run(capsys, "rule")[1].splitlines()] == list(RULES)
    everything = run(capsys, "rule", "--all")[1]
    assert all(r.markdown() in everything for r in RULES.values())


def test_a_defect_asks_for_a_report(here, capsys, monkeypatch):
    def defect(*args, **kwargs):
        raise KeyError("surprise\x1b[31m")

    monkeypatch.setattr("evenly.load.load_target", defect)
    code, _, err = run(capsys, "check", "a:b")
    assert code == 2
    assert "please report it" in err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    code, _, err = run(capsys, "check", "a:b", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_an_interrupt_is_quiet(here, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("evenly.load.load_target", interrupted)
    code, _, err = run(capsys, "check", "a:b")
    assert (code, err) == (130, "")


def test_a_closed_pipe_is_quiet():
    command = [sys.executable, "-m", "evenly", "rule", "--all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert err == b""


def test_terminals_without_unicode():
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "evenly", "check", "ü:ü"]
    done = subprocess.run(command, env=env, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert b"\\xfc" in done.stderr


# -------------------------------------------------------------------------------------------------------------- python


def uneven() -> object:
    torch.manual_seed(0)
    return nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1))


def test_check_in_python():
    model, x = uneven(), torch.zeros(1, 2, 8, 8)
    report = evenly.check(model, x)
    assert isinstance(report, evenly.Report)
    assert {"EV101", "EV104"} <= {f.code for f in report.findings}
    assert report.model.weights == "actual"
    assert [f.code for f in evenly.check(model, x, select="EV101").findings] == ["EV101"]
    assert "EV101" not in {f.code for f in evenly.check(model, x, ignore=["EV101"]).findings}
    assert not evenly.check(model, x, per_layer_ignores={"*": ["EV"]}).findings
    assert "EV104" not in {f.code for f in evenly.check(model, x, use_weights=False).findings}
    assert not evenly.check(model, x, backward=False).inputs
    with pytest.raises(AttributeError):
        report.findings = ()
    assert replace(report).to_json() == report.to_json()


def test_check_says_what_it_takes():
    with pytest.raises(UsageError, match="model is int"):
        evenly.check(3)
    with pytest.raises(InputShapeError, match="needs example inputs"):
        evenly.check(uneven())
    model = uneven()
    model.example_inputs = torch.zeros(1, 2, 8, 8)
    assert evenly.check(model).findings


def test_check_leaves_the_module_as_it_was():
    model = uneven().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evenly.check(model, torch.zeros(1, 2, 8, 8))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_check_takes_targets(here):
    report = evenly.check("cli_nets:uneven", input_shapes={"input": (1, 4, 8, 8)})
    assert "EV101" in {f.code for f in report.findings}
    with pytest.raises(UsageError):
        evenly.check("cli_nets:uneven", torch.zeros(1))
    with pytest.raises(UsageError):
        evenly.check(uneven(), torch.zeros(1, 2, 8, 8), weights="w.safetensors")


def test_assert_even():
    from evenly.testing import assert_even

    x = torch.zeros(1, 2, 8, 8)
    with pytest.raises(AssertionError) as caught:
        assert_even(uneven(), x)
    assert "EV101 error at 0: " in str(caught.value)
    assert "Fix: " in str(caught.value)
    good = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"))
    assert assert_even(good, x, select=["EV1"], fail_on="warning").findings == ()
    assert_even(uneven(), x, ignore=["EV1"])
    with pytest.raises(UsageError):
        assert_even(good, x, fail_on="never")
