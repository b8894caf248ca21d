"""``evenly attribute`` and ``evenly.attribute``, from what the user names to the report and the exit code."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import evenly
from evenly.cli import main, running
from evenly.errors import InputShapeError, ModelError, UsageError
from evenly.fix._program_layers import with_layers
from evenly.fix.attribution import attribute as engine

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "attributed.schema.json").read_text(encoding="utf-8"))
NETS = """
    import torch
    from torch import nn


    def generator():
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3, 2, 1, 1))


    class Skip(nn.Module):
        '''Two branches, of which only `deep` is uneven.'''

        def __init__(self):
            super().__init__()
            self.deep = nn.ConvTranspose2d(3, 3, 3, 2, 1, 1)
            self.side = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 3, 3, padding=1))

        def forward(self, x):
            return self.deep(x) + self.side(x)


    class TwoOutputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.even, self.uneven = nn.Upsample(scale_factor=2), nn.ConvTranspose2d(3, 3, 3, 2, 1, 1)

        def forward(self, x):
            return {"even": self.even(x), "uneven": self.uneven(x)}


    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 3, 3, 2, 1, 1)

        def forward(self, image, *, strength):
            return self.up(image) * strength[:, None, None, None]


    def even():
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 3, 3, padding=1))


    def stem():
        return nn.Sequential(
            nn.Conv2d(3, 8, 1, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


    def wave():
        return nn.Sequential(nn.ConvTranspose1d(1, 1, 3, 2, 1, 1))


    class Ready(nn.Module):
        example_inputs = (torch.zeros(1, 3, 24, 24),)

        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 3, 3, 2, 1, 1)

        def forward(self, x):
            return self.up(x)


    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken\\non purpose")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("nets")
    (root / "attribute_nets.py").write_text(textwrap.dedent(NETS), encoding="utf-8")
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    for k in range(4):
        smooth = np.cumsum(np.cumsum(rng.standard_normal((48, 40, 3)), 0), 1)
        scaled = 255 * (smooth - smooth.min()) / np.ptp(smooth)
        Image.fromarray(scaled.astype(np.uint8)).save(root / "photos" / f"{k}.png")
    (root / "photos" / "broken\x1b[31m.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "photos" / "small.png")
    onnx.save(up_sampler(), root / "net.onnx")
    return root


def up_sampler() -> onnx.ModelProto:
    """A transposed convolution of uneven kernel, for inputs of any size."""
    weight = np.random.default_rng(1).standard_normal((3, 3, 3, 3)).astype(np.float32)
    attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up", **attributes)
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, *size]) for n, size in (("x", "hw"), ("y", "ab"))
    )
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def run(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")  # the width of text that is not for a terminal, wherever tests run

    def command(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["attribute", *(str(a) for a in arguments)])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    yield command
    sys.path[:] = [p for p in sys.path if p != str(folder)]


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))


# ---- forward ---------------------------------------------------------------------------------------------------------


def test_a_torch_module(run):
    code, out, err = run("attribute_nets:generator", "--input", "1,3,24,24", "--periods", "2")
    assert (code, err) == (1, "")
    assert "1.  2             transposed" in out
    assert "Period 2 (+" in out
    assert "weights as attribute_nets:generator makes them" in out
    assert run("attribute_nets:generator", "--input", "1,3,24,24", "--periods", "2")[1] == out
    assert run("attribute_nets:generator", "--input", "1,3,24,24", "--periods", "2", "--seed", "1")[1] != out


def test_an_even_module_is_clean(run):
    code, out, err = run("attribute_nets:even", "--input", "1,3,24,24")
    assert (code, err) == (0, "")
    assert "nothing to attribute" in out


def test_a_skip_connection_and_json(run):
    code, out, _ = run("attribute_nets:Skip", "--input", "1,3,24,24", "--format", "json", "--periods", "2,4")
    form = json.loads(out)
    jsonschema.validate(form, SCHEMA)
    assert code == 1
    assert form["model"] == "attribute_nets:Skip"
    assert form["ranking"] == ["deep"]
    assert form["lines"]["2"]["present"]
    assert not form["lines"]["4"]["present"]


def test_trained_weights(run, tmp_path):
    even = nn.ConvTranspose2d(3, 3, 3, 2, 1, 1)
    row = torch.tensor([0.5, 1.0, 0.5])
    with torch.no_grad():
        even.weight.copy_(torch.outer(row, row) * torch.eye(3)[:, :, None, None])
    save_file({"up.weight": even.weight.detach(), "up.bias": even.bias.detach()}, tmp_path / "w.safetensors")
    code, out, _ = run("attribute_nets:Ready", "--weights", tmp_path / "w.safetensors", "--periods", "2")
    assert code == 0
    assert "weights as" not in out
    assert run("attribute_nets:Ready", "--periods", "2")[0] == 1


def test_an_onnx_file_of_open_sizes(run):
    code, out, err = run("net.onnx", "--periods", "2")
    assert (code, err) == (1, "")
    assert "evenly attribute net.onnx" in out
    assert "1.  up            transposed" in out
    assert run("net.onnx", "--periods", "2", "--input", "1,3,24,24")[0] == 1


def test_pictures_cropped_and_reported(run):
    for model in ("net.onnx", "attribute_nets:generator --input 1,3,32,32"):
        code, out, _ = run(*model.split(), "--inputs", "photos", "--periods", "2", "--format", "json")
        form = json.loads(out)
        assert code == 1
        assert form["signals"] == 4
        assert form["inputs"] == "4 pictures, the central 32 x 32 from 0 (black) to 1 (white), 2 left out"
        left = [note for note in form["notes"] if note.startswith("left out: ")]
        assert len(left) == 2
        assert any("small.png: too small: 8 x 8 pixels (H x W), expected 32 x 32" in note for note in left)
    text = run("net.onnx", "--inputs", "photos", "--range=-1,1", "--limit", 2, "--periods", "2")[1]
    assert "from -1 (black) to 1 (white)" in text
    assert "\x1b" not in text


def test_arrays_by_name_and_keyword_inputs(run, tmp_path):
    path = tmp_path / "in.npz"
    rng = np.random.default_rng(0)
    np.savez(path, image=rng.standard_normal((5, 3, 16, 16)) + 3, strength=np.arange(1, 6.0))
    shapes = "--input", "image=1,3,24,24", "--input", "strength=1"
    code, out, _ = run("attribute_nets:TwoInputs", *shapes, "--inputs", path, "--periods", "2", "--format", "json")
    form = json.loads(out)
    assert code == 1
    assert (form["signals"], form["inputs"]) == (5, "5 signals from in.npz")
    out = run("attribute_nets:TwoInputs", *shapes, "--periods", "2", "--format", "json")[1]
    assert json.loads(out)["inputs"] == "random, seed 0: standard normal noise"


def test_one_axis(run, tmp_path):
    np.save(tmp_path / "w.npy", np.random.default_rng(0).standard_normal((4, 1, 256)) + 3)
    code, out, _ = run("attribute_nets:wave", "--input", "1,1,64", "--inputs", tmp_path / "w.npy", "--periods", "2")
    assert code == 1
    assert "4 signals: 4 signals from w.npy" in out


def test_one_of_several_outputs(run):
    net = "attribute_nets:TwoOutputs", "--input", "1,3,24,24", "--periods", "2"
    code, _, err = run(*net)
    assert code == 2
    assert "even (1, 3, 48, 48), uneven" in err
    assert run(*net, "--output", "uneven")[0] == 1
    assert run(*net, "--output", "even")[0] in (0, 1)
    assert run(*net, "--output", "none")[2].startswith("error: the model has no output 'none'")


# ---- backward --------------------------------------------------------------------------------------------------------


def test_the_gradient(run):
    code, out, err = run("attribute_nets:stem", "--input", "4,3,24,24", "--backward", "--periods", "2")
    assert (code, err) == (1, "")
    assert "lines in the squared gradient of the input" in out
    assert "1.  0             convolution" in out
    code, _, err = run("net.onnx", "--backward")
    assert code == 2
    assert err.startswith("error: net.onnx: gradients are had from torch only")


# ---- where the report goes -------------------------------------------------------------------------------------------


def test_a_report_in_a_file(run, tmp_path):
    path = tmp_path / "r.md"
    code, out, err = run("net.onnx", "--periods", "2", "--format", "markdown", "--report", path)
    assert (code, err) == (1, "")
    assert out.startswith(f"{path}: Period 2 (+")
    assert path.read_text(encoding="utf-8").startswith("## evenly attribute <code>net&#46;onnx</code>\n")
    code, _, err = run("net.onnx", "--report", tmp_path / "none" / "r.md")
    assert code == 2
    assert "there is no folder" in err


def test_a_bar_where_there_is_a_terminal(run, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert run("net.onnx", "--periods", "2")[0] == 1
    told = []
    x = np.zeros((8, 3, 16, 16), np.float32)
    with running.progress("runs") as bar:
        assert bar is not None
        engine("net.onnx", x, periods=[2], progress=lambda *n: told.append(n) or bar(*n))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "TARGET (='nonsense') is not understood"),
        (["none.onnx"], "none.onnx: not there"),
        (["photos/0.png"], "TARGET"),
        (["weights.pth"], "a pickle"),
        (["none.pt2"], "none.pt2: not there"),
        (["attribute_nets:nothing"], "has no 'nothing'"),
        (["no_such_module:net"], "is not there"),
        (["attribute_nets:generator"], "needs example inputs"),
        (["attribute_nets:Broken", "--input", "1,3,8,8"], "RuntimeError: broken"),
        (["attribute_nets:generator", "--input", "1,5,24,24"], "expected input"),
        (["attribute_nets:generator", "--input", "1,3,2,2"], "too few for lines"),
        (["attribute_nets:stem", "--input", "1,3,24,24"], "expected one of shape (N, C, *sizes)"),
        (["net.onnx", "--input", "1,4,24,24"], "'x' has the shape [1, 4, 24, 24]"),
        (["net.onnx", "--input", "y=1,3,24,24"], "the inputs of net.onnx are x, each once"),
        (["net.onnx", "--weights", "w.safetensors"], "--weights"),
        (["net.onnx", "--inputs", "nowhere"], "nowhere: not there"),
        (["net.onnx", "--inputs", "photos/small.png"], "none of 1 pictures there can be used"),
        (["net.onnx", "--inputs", "photos", "--limit", "1"], "--limit"),
        (["net.onnx", "--periods", "1"], "--periods (=1)"),
        (["net.onnx", "--range", "1,0"], "--range (=1,0)"),
        (["net.onnx", "--range", "nan,1"], "--range (=nan,1)"),
        (["net.onnx", "--format", "yaml"], "yaml"),
    ],
)
def test_wrong_usage_is_one_line(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"\x08\x07no model", b"\xff" * 100])
def test_damaged_models(run, tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    code, out, err = run(path)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_an_exported_program(run, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3, 2, 1, 1)).eval()
    x = torch.randn(4, 3, 32, 32) + 3
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (x,)), path)
    code, out, err = run(path)
    assert (code, out) == (2, "")
    assert "give --trust" in err
    code, out, _ = run(path, "--trust", "--periods", "2", "--format", "json")
    assert code == 1
    made, here = json.loads(out), evenly.attribute(net, x, periods=[2]).to_dict()
    assert made["layers"] == json.loads(json.dumps(here["layers"]))
    assert made["ranking"] == ["2"]
    assert run(path, "--trust", "--periods", "2", "--inputs", "photos")[0] == 1
    path.write_bytes(b"anything")
    assert "no readable .pt2 file" in run(path, "--trust")[2]


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(3, 12, 3, padding="same")
        self.shuffle, self.down, self.pool = nn.PixelShuffle(2), nn.MaxPool2d(2), nn.AvgPool2d(2, 2)
        self.shared = nn.Parameter(torch.randn(3, 3, 3, 3))
        self.up = nn.ConvTranspose2d(3, 3, 4, 2, 1, groups=3, bias=False)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.shuffle(self.twice(self.shuffle(self.twice(x))))
        x = nn.functional.conv2d(x, self.shared, padding=1) + nn.functional.conv2d(
            x, self.shared, padding=2, dilation=2
        )
        return self.up(self.norm(nn.functional.max_pool2d(self.pool(self.down(x)), 2)))


@pytest.mark.parametrize("backward", [False, True])
def test_programs_become_modules_with_layers_again(backward):
    torch.manual_seed(0)
    net = Everything().eval()
    x = torch.randn(2, 3, 16, 16)
    program = torch.export.export(net, (x,))
    again = with_layers(program)
    torch.testing.assert_close(again(x), net(x), rtol=0, atol=0)
    mine, theirs = (
        {n: type(m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.AvgPool2d)}
        for module in (net, again)
    )
    assert mine.items() <= theirs.items()
    assert len(theirs) == len(mine) + 2  # the parameter that two convolutions share
    found = [evenly.attribute(module, inputs=[x], periods=[2], backward=backward) for module in (net, again)]
    ours = {layer.name: layer for layer in found[0].layers}
    assert ours == {layer.name: layer for layer in found[1].layers if layer.name in ours}


def test_without_scipy_the_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    code, out, err = run("net.onnx")
    assert (code, out) == (2, "")
    assert "pip install 'evenly[fix]'" in err


# ---- in Python -------------------------------------------------------------------------------------------------------


def test_in_python_every_kind_of_model(here):
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(3, 3, 3, 2, 1, 1))
    given = [torch.randn(4, 3, 16, 16) + 3]
    by_batches = evenly.attribute(net, inputs=given, periods=[2])
    assert (by_batches.model, by_batches.inputs, by_batches.signals) == ("Sequential", "as given", 4)
    assert [layer.name for layer in by_batches.ranking()] == ["0"]
    assert isinstance(by_batches, evenly.Attribution)
    assert evenly.attribute(net, torch.zeros(1, 3, 16, 16), periods=[2]).present == (2,)
    assert evenly.attribute(net, torch.zeros(1, 3, 32, 32), inputs="photos", periods=[2]).signals == 4
    for model, options in (
        (up_sampler(), {"input_shapes": {"x": (8, 3, 24, 24)}}),
        (Path("net.onnx"), {}),
        ("attribute_nets:Ready", {}),
        ("attribute_nets:generator", {"input_shapes": {"input": (1, 3, 24, 24)}}),
    ):
        assert evenly.attribute(model, periods=[2], **options).present == (2,)


def test_in_python_what_does_not_fit(here):
    net = nn.Sequential(nn.ConvTranspose2d(3, 3, 3, 2, 1, 1))
    with pytest.raises(InputShapeError, match="example inputs"):
        evenly.attribute(net)
    with pytest.raises(UsageError, match="input_shapes is for a file"):
        evenly.attribute(net, torch.zeros(1, 3, 8, 8), input_shapes={"x": (1,)})
    with pytest.raises(UsageError, match="weights is for module"):
        evenly.attribute(net, torch.zeros(1, 3, 8, 8), weights="w.safetensors")
    with pytest.raises(UsageError, match="example inputs are for a"):
        evenly.attribute("net.onnx", torch.zeros(1, 3, 8, 8))
    with pytest.raises(UsageError, match="model is int; expected"):
        evenly.attribute(3)
    with pytest.raises(ModelError, match="not there"):
        evenly.attribute("none.onnx")


def test_sizes_that_cannot_be_guessed(tmp_path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    shape = numpy_helper.from_array(np.array([-1, 3, 5, 7]), "shape")
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", [x], [y], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InputShapeError, match=r"leaves sizes open \(x \['\?', 3, '\?', '\?'\]\).*give --input"):
        evenly.attribute(model)
