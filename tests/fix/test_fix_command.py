"""``evenly fix`` and ``evenly.fix``: what is run on what, files, exit codes, one clear line for every wrong input."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

import evenly
from evenly.cli import fix as command
from evenly.cli import main
from evenly.errors import InputShapeError, UsageError, VerificationError
from evenly.fix import engine
from evenly.fix.attribution import opened
from evenly.fix.backend import Edit
from evenly.fix.levels import Level
from evenly.fix.onnx_backend import OnnxBackend
from evenly.fix.result import FixReport, FixResult, LayerRepair, LineChange, OutputChange

NETS = """
    import torch
    from torch import nn

    EXAMPLE = torch.zeros(2, 3, 8, 8)

    def up(seed=0):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False))
        network.example_inputs = (EXAMPLE,)
        return network

    class Two(nn.Module):
        example_inputs = (EXAMPLE,)

        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 3, 4, 2, 1)

        def forward(self, x):
            return self.up(x), x

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 3, 4, 2, 1)

        def forward(self, image, scale):
            return self.up(image) * scale
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with networks, to work in."""
    (tmp_path / "fixnets.py").write_text(textwrap.dedent(NETS))
    (tmp_path / "program.pt2").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "fixnets", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def up():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False)).eval()


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    text = capsys.readouterr()
    return end.value.code, text.out, text.err


def grown(layer):
    """One more tap around, and a bias."""
    weight = np.pad(layer.weight * 0.5, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=0.01)
    padding = tuple((a + 1, b + 1) for a, b in layer.padding)
    return Edit(layer.name, weight, np.full(3, 0.1), weight.shape[2:], padding, (0, 0))


class Engine:
    """Stands for the repair itself: edits the last layer, and remembers what it was asked."""

    def __init__(self, verdict="reached", error=None):
        self.verdict, self.error = verdict, error
        self.model, self.asked = None, {}

    def __call__(self, model, *example_inputs, **asked):
        self.model, self.asked = model, {"example_inputs": example_inputs, **asked}
        if asked["progress"] is not None:
            asked["progress"]("solving", 0.5)
        if self.error is not None:
            raise self.error
        original = opened(model)
        original.run(asked["calibration"][0])
        layer = next(layer for layer in original.layers() if layer.kind == "transposed")
        backend = original.edited([grown(layer)])
        line = LineChange(2, Level(9.0, 8.0, 4), Level(1.0, 0.5, 4), None, 3.0)
        report = FixReport(
            model="Sequential",
            method=asked["method"],
            verdict=self.verdict,
            calibration="as given: 3 signals to solve with, 1 kept for the proof",
            reference="the surroundings of every line",
            limit_db=asked["within_db"],
            max_distortion_db=asked["max_distortion"],
            seed=asked["seed"],
            layers=(LayerRepair(layer.name, "solve", "k4", "k6"),),
            outputs=(OutputChange("output", (3, 16, 16), 1, (line,), 41.0, 0.1, 2.0),),
        )
        return FixResult(backend.model, report, backend)


@pytest.fixture
def fake(monkeypatch):
    """Make the engine another one."""

    def become(**options):
        stand_in = Engine(**options)
        monkeypatch.setattr(engine, "fix", stand_in)
        return stand_in

    return become


def listed(folder):
    return sorted(p.name for p in folder.iterdir() if p.name not in ("__pycache__", "program.pt2"))


# ---- the way through -------------------------------------------------------------------------------------------------


def test_a_named_network(fake, capsys, folder):
    asked = fake().asked
    code, out, err = run(capsys, "fix", "fixnets:up", "-o", "new.safetensors")
    assert (code, err) == (0, "")
    assert "evenly fix fixnets:up" in out
    assert "Reached" in out
    assert "new.safetensors: written" in out
    assert "\x1b" not in out
    assert listed(folder) == ["fixnets.py", "new.safetensors"]
    again = evenly.fix.restore(up(), "new.safetensors")
    assert again[2].kernel_size == (6, 6)
    assert asked == {}  # of the fake as it was made; the call has its own


def test_weights_that_a_named_network_gets(fake, capsys):
    save_file({name: value * 2 for name, value in up().state_dict().items()}, "trained.safetensors")
    fake()
    code, _, err = run(capsys, "fix", "fixnets:up", "--weights", "trained.safetensors", "-o", "new.safetensors")
    assert (code, err) == (0, "")
    again = evenly.fix.restore(up(), "new.safetensors")
    torch.testing.assert_close(again[0].weight, 2 * up()[0].weight, rtol=0, atol=0)


def test_a_repair_of_a_repair_is_one_of_the_network_itself(fake, capsys):
    fake()
    run(capsys, "fix", "fixnets:up", "-o", "once.safetensors", "--method", "solve")
    again = ["--weights", "once.safetensors", "-o", "twice.safetensors", "--method", "solve"]
    assert run(capsys, "fix", "fixnets:up", *again)[0] == 0
    once, twice = (evenly.fix.restore(up(), f"{name}.safetensors") for name in ("once", "twice"))
    assert (once[2].kernel_size, twice[2].kernel_size) == ((6, 6), (8, 8))
    code, out, err = run(capsys, "check", "fixnets:up", "--weights", "twice.safetensors")
    assert (code, err) == (1, "")
    assert "k8 s2" in out


@pytest.fixture
def file(folder):
    """The network as a file."""
    module = up()
    tensors = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    nodes = [
        helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "2.weight"], ["y"], name="last", strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, size, size])
        for name, size in (("x", 8), ("y", 16))
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "up", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "up.onnx")
    return folder / "up.onnx"


def test_a_file(fake, file, capsys):
    bytes_before = file.read_bytes()
    fake()
    code, out, err = run(capsys, "fix", "up.onnx", "-o", "new.onnx")
    assert (code, err) == (0, "")
    assert "evenly fix up.onnx" in out
    assert file.read_bytes() == bytes_before
    onnx.checker.check_model(onnx.load("new.onnx"))
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    backend = OnnxBackend(file)
    expected = backend.edited([grown(next(a for a in backend.layers() if a.kind == "transposed"))]).run(x)
    np.testing.assert_allclose(OnnxBackend("new.onnx").run(x).outputs["y"], expected.outputs["y"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("verdict", "code"), [("reached", 0), ("clean", 0), ("structural", 0), ("folded", 0), ("partly", 1)]
)
def test_exit_codes_by_verdict(verdict, code, fake, capsys):
    fake(verdict=verdict)
    got, out, _ = run(capsys, "fix", "fixnets:up", "-o", "new.safetensors")
    assert got == code
    assert Path("new.safetensors").is_file()  # the best model, whatever it is
    assert "new.safetensors: written" in out


def test_a_repair_without_a_fake(capsys):
    code, out, err = run(
        capsys,
        "fix",
        "fixnets:up",
        "-o",
        "new.safetensors",
        "--method",
        "balance",
        "--max-distortion",
        "0",
        "--format",
        "json",
    )
    assert err == ""
    report = json.loads(out)
    assert report["method"] == "balance"
    assert report["model"] == "fixnets:up"
    assert "random, seed 0" in report["calibration"]
    assert "kept for the proof" in report["calibration"]
    assert code == (0 if report["verdict"] == "reached" else 1)
    restored = evenly.fix.restore(up(), "new.safetensors")
    assert not torch.equal(restored[2].weight, up()[2].weight)


# ---- options ---------------------------------------------------------------------------------------------------------


def test_every_option_arrives(fake, capsys, monkeypatch):
    stand_in = fake()
    np.save("x.npy", np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32))
    np.save("y.npy", np.random.default_rng(1).standard_normal((6, 3, 16, 16)).astype(np.float32))
    code, out, err = run(
        capsys, "fix", "fixnets:up", "-o", "new.safetensors", "--calibration", "x.npy", "--reference", "y.npy",
        "--paired", "--method", "solve", "--layers", "2, 0", "--max-distortion", "30", "--within", "6", "--periods",
        "4,2", "--finetune", "5", "--checkpoint", "state.safetensors", "--limit", "4", "--seed", "7",
    )  # fmt: skip
    assert (code, err) == (0, "")
    asked = stand_in.asked
    assert np.concatenate([b[0] for b in asked["calibration"]]).shape == (4, 3, 8, 8)
    assert asked["reference"].shape == (4, 3, 16, 16)
    wanted = {
        "paired": True, "method": "solve", "layers": ["2", "0"], "max_distortion": 30.0, "within_db": 6.0,
        "periods": (2, 4), "finetune": 5, "checkpoint": Path("state.safetensors"), "seed": 7, "progress": None,
    }  # fmt: skip
    assert {name: asked[name] for name in wanted} == wanted
    assert "4 of 6 signals" in out or "x.npy" in out


def test_pictures_become_what_the_range_says(fake, capsys, folder):
    stand_in = fake()
    image = pytest.importorskip("PIL.Image")
    (folder / "pictures").mkdir()
    for number in range(3):
        image.fromarray(np.full((20, 20, 3), 255 * (number % 2), np.uint8)).save(folder / "pictures" / f"{number}.png")
    (folder / "pictures" / "note.png").write_text("no picture")
    code, out, _ = run(
        capsys, "fix", "fixnets:up", "-o", "new.safetensors", "--calibration", "pictures", "--reference", "pictures",
        "--range", "-1,1",
    )  # fmt: skip
    assert code == 0
    assert {float(v) for b in stand_in.asked["calibration"] for v in np.unique(b[0])} == {-1.0, 1.0}
    assert stand_in.asked["reference"].shape == (3, 3, 16, 16)
    assert "left out" in out
    assert "note.png" in out


def test_random_signals_are_the_same_again(fake, capsys):
    seen = []
    for seed in (0, 0, 1):
        stand_in = fake()
        run(capsys, "fix", "fixnets:up", "-o", "new.safetensors", "--seed", seed)
        seen.append(np.concatenate([b[0] for b in stand_in.asked["calibration"]]))
    assert len(seen[0]) >= 64
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


def test_equal_runs_write_equal_bytes(fake, capsys):
    fake()
    for name in ("one", "two"):
        run(capsys, "fix", "fixnets:up", "-o", f"{name}.safetensors")
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()


def test_the_command_offers_what_the_engine_can():
    assert [way.value for way in command.Way] == list(get_args(engine.FixMethod))
    signature = inspect.signature(evenly.fix).parameters
    engine_own = inspect.signature(engine.fix).parameters
    for name in set(engine_own) - {"model", "example_inputs", "calibration", "reference", "progress", "checkpoint"}:
        assert signature[name].default == engine_own[name].default, name
    typed = inspect.signature(command.fix).parameters
    for option, name in (("max_distortion", "max_distortion"), ("within", "within_db"), ("finetune", "finetune")):
        assert typed[option].default == signature[name].default


# ---- reports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "form", "begin"),
    [("r.json", None, "{"), ("r.md", None, "#"), ("r.html", None, "<!doctype html>"), ("r.txt", None, "evenly fix"),
     ("r.txt", "json", "{")],
)  # fmt: skip
def test_reports_in_files(name, form, begin, fake, capsys):
    fake()
    more = [] if form is None else ["--format", form]
    code, out, err = run(capsys, "fix", "fixnets:up", "-o", "new.safetensors", "--report", name, *more)
    assert (code, err) == (0, "")
    assert Path(name).read_text(encoding="utf-8").lower().startswith(begin)
    assert out.startswith(f"{name}: Reached")
    assert out.count("\n") == 2


def test_a_report_of_another_format_is_alone_on_standard_output(fake, capsys):
    fake()
    _, out, _ = run(capsys, "fix", "fixnets:up", "-o", "new.safetensors", "--format", "json")
    assert json.loads(out)["verdict"] == "reached"


def test_no_bar_where_there_is_no_terminal(fake, capsys):
    stand_in = fake()
    run(capsys, "fix", "fixnets:up", "-o", "new.safetensors")
    assert stand_in.asked["progress"] is None


def test_a_bar_on_a_terminal(fake, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with command._progress() as told:
        assert told is not None
        told("solving", 0.5)


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fixnets:up"], "Missing option '--output'"),
        (["fixnets:up", "-o", "new.onnx"], "the weights of a module are written as .safetensors"),
        (["up.onnx", "-o", "new.safetensors"], "an ONNX model is written as .onnx"),
        (["up.onnx", "-o", "new.onnx"], "not there; expected a file"),
        (["program.pt2", "-o", "new.safetensors"], "a .pt2 file holds operations"),
        (["pickle.pt", "-o", "new.safetensors"], "a pickle"),
        (["up", "-o", "new.safetensors"], "is not understood"),
        (["fixnets:down", "-o", "new.safetensors"], "has no 'down'"),
        (["fixnets:up", "-o", "nowhere/new.safetensors"], "there is no folder nowhere"),
        (["fixnets:up", "-o", "new.safetensors", "--report", "nowhere/r.html"], "there is no folder nowhere"),
        (["fixnets:up", "-o", "new.safetensors", "--report", "new.safetensors"], "is --output itself"),
        (["fixnets:up", "-o", "w.safetensors", "--weights", "w.safetensors"], "is --weights itself"),
        (["fixnets:up", "-o", "c.safetensors", "--checkpoint", "./c.safetensors"], "is --output itself"),
        (["fixnets:up", "-o", "n.safetensors", "--report", "fixnets.py", "--reference", "fixnets.py"], "is --refer"),
        (["fixnets:up", "-o", "new.safetensors", "--method", "magic"], "Invalid value for '--method'"),
        (["fixnets:up", "-o", "new.safetensors", "--layers", "0,,2"], "must be auto, or names"),
        (["fixnets:up", "-o", "new.safetensors", "--periods", "1"], "whole numbers of at least 2"),
        (["fixnets:up", "-o", "new.safetensors", "--range", "1,0"], "what black and white become"),
        (["fixnets:up", "-o", "new.safetensors", "--calibration", "nowhere"], "nowhere"),
        (["fixnets:Named", "-o", "new.safetensors"], "needs example inputs"),
    ],
)  # fmt: skip
def test_wrong_calls_are_one_line_and_leave_nothing(arguments, words, fake, capsys, folder):
    stand_in = fake()
    code, out, err = run(capsys, "fix", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert listed(folder) == ["fixnets.py"]
    assert stand_in.model is None  # before the work


@pytest.mark.parametrize("name", ["up.onnx", "./up.onnx", "link.onnx"])
def test_the_model_itself_is_never_overwritten(name, file, fake, capsys, folder):
    (folder / "link.onnx").symlink_to("up.onnx")
    before = file.read_bytes()
    stand_in = fake()
    code, _, err = run(capsys, "fix", "up.onnx", "-o", name)
    assert code == 2
    assert "is MODEL itself" in err
    assert file.read_bytes() == before
    assert stand_in.model is None


def test_a_folder_without_permission(fake, capsys, folder, monkeypatch):
    stand_in = fake()
    monkeypatch.setattr(command.os, "access", lambda path, mode: False)
    code, _, err = run(capsys, "fix", "fixnets:up", "-o", "new.safetensors")
    assert code == 2
    assert "no permission" in err
    assert stand_in.model is None


def test_references_in_files_are_for_one_output(fake, capsys):
    fake()
    np.save("y.npy", np.zeros((4, 3, 16, 16), np.float32))
    code, _, err = run(capsys, "fix", "fixnets:Two", "-o", "new.safetensors", "--reference", "y.npy")
    assert code == 2
    assert "has 2 outputs with positions (output_0, output_1)" in err


def test_a_failed_proof_is_one_line_and_exit_code_1(fake, capsys, folder):
    fake(error=VerificationError("new.safetensors: not written: its output 'y' is not that of the model"))
    code, out, err = run(capsys, "fix", "fixnets:up", "-o", "new.safetensors")
    assert (code, out) == (1, "")
    assert err == "error: new.safetensors: not written: its output 'y' is not that of the model\n"
    assert listed(folder) == ["fixnets.py"]


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (UsageError("no"), 2), (RuntimeError("a defect"), 2)]
)
def test_what_goes_wrong_leaves_what_was_there(error, code, fake, capsys, folder):
    Path("new.safetensors").write_bytes(b"as it was")
    fake(error=error)
    got, out, err = run(capsys, "fix", "fixnets:up", "-o", "new.safetensors")
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    assert Path("new.safetensors").read_bytes() == b"as it was"
    assert listed(folder) == ["fixnets.py", "new.safetensors"]


# ---- in Python -------------------------------------------------------------------------------------------------------


def test_modules_files_and_models_in_memory(fake):
    stand_in = fake()
    module = up()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    result = evenly.fix(module, torch.zeros(2, 3, 8, 8))
    assert result.report.model == "Sequential"
    assert result.original is module
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    evenly.fix(module, calibration=(torch.zeros(2, 3, 8, 8) for _ in range(4)))
    assert len(stand_in.asked["calibration"]) == 4
    assert evenly.fix("fixnets:up").report.model == "fixnets:up"
    with pytest.raises(InputShapeError, match="needs example inputs"):
        evenly.fix(module)
    with pytest.raises(UsageError, match="no batch"):
        evenly.fix(module, calibration=[])
    with pytest.raises(UsageError, match="example inputs are for an nn"):
        evenly.fix("fixnets:up", torch.zeros(2, 3, 8, 8))


def test_keyword_inputs(fake):
    fake()
    sys.modules.pop("fixnets", None)
    import fixnets

    network = fixnets.Named()
    result = evenly.fix(network, kwargs={"image": torch.zeros(2, 3, 8, 8), "scale": torch.ones(2, 1, 1, 1)})
    result.save("new.safetensors")
    again = evenly.fix.restore(fixnets.Named(), "new.safetensors")
    x, scale = torch.randn(2, 3, 8, 8), torch.ones(2, 1, 1, 1)
    torch.testing.assert_close(again(x, scale), result.model(x, scale), rtol=0, atol=0)


def test_a_model_in_memory(fake, file):
    fake()
    result = evenly.fix(onnx.load(str(file)))
    result.save("new.onnx")
    assert OnnxBackend("new.onnx").layers()[-1].kernel == (6, 6)
    assert evenly.fix(str(file)).report.model == "up.onnx"
    assert isinstance(result.model, onnx.ModelProto)


def test_the_package_is_the_function():
    from evenly import api

    assert callable(evenly.fix)
    assert inspect.signature(evenly.fix) == inspect.signature(api.fix)
    assert evenly.FixResult is FixResult
    assert evenly.FixReport is FixReport


def test_help_is_light():
    code = (
        "import sys\nfrom evenly.cli import main\n"
        "try: main(['fix', '--help'])\nexcept SystemExit as e: assert e.code == 0\n"
        "import evenly; evenly.fix.restore\n"
        "heavy = {'torch', 'onnx', 'numpy', 'onnxruntime', 'safetensors', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--max-distortion" in done.stdout
