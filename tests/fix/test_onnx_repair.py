"""ONNX files repaired from end to end: read, solved, saved, read again, run; nothing else in the file differs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, helper
from torch import nn

from evenly.fix.backend import Backend
from evenly.fix.certified import balance_layers
from evenly.fix.engine import fix
from evenly.fix.levels import Level, line_levels
from evenly.fix.onnx_backend import OnnxBackend
from evenly.fix.solved import LayerSolver
from evenly.fix.task import Task
from evenly.fix.torch_backend import TorchBackend
from fix.test_onnx_backend import export, tensors
from graph import onnx_cases as cases

node = helper.make_node
PROVE = bool(os.environ.get("EVENLY_PROVE"))


def smooth(count: int, seed: int, sizes: tuple[int, ...] = (24, 24), channels: int = 2) -> np.ndarray:
    """Random fields of low frequency around 1."""
    found = noise = np.random.default_rng(seed).standard_normal((count, channels, *sizes))
    for axis in range(2, found.ndim):
        found = sum(np.roll(found, shift, axis) for shift in range(-4, 5)) / 9
    return (1 + 4 * found + 0.02 * noise).astype(np.float32)


class Vocoder(nn.Module):
    """A stack of 1-D transposed convolutions with weight normalisation, as vocoders have it."""

    def __init__(self) -> None:
        super().__init__()
        wrap = nn.utils.parametrizations.weight_norm
        self.pre = wrap(nn.Conv1d(2, 6, 7, padding=3))
        self.up = wrap(nn.ConvTranspose1d(6, 4, 4, 2, 1))
        self.last = wrap(nn.ConvTranspose1d(4, 2, 4, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(0.3 * self.last(torch.relu(self.up(torch.relu(self.pre(x))))))


def network(kind: str) -> tuple[nn.Module, np.ndarray]:
    """Networks of random weights, whose last layer makes a strong pattern, and calibration data."""
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU()]
    heads: dict[str, list[nn.Module]] = {
        "transposed": [nn.ConvTranspose2d(6, 3, 4, 2, 1)],
        "odd": [nn.ConvTranspose2d(6, 3, 3, 2, 1, 1), nn.Tanh()],
        "subpixel": [nn.Conv2d(6, 12, 3, padding=1), nn.PixelShuffle(2)],
        "plain": [nn.ConvTranspose2d(6, 6, 4, 2, 1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1)],
    }
    if kind == "vocoder":
        return Vocoder().eval(), smooth(32, 1, (128,))
    return nn.Sequential(*body, *heads[kind]).eval(), smooth(32, 1)


KINDS = ("transposed", "odd", "subpixel", "plain", "vocoder")
EXPORTS = [(kind, dynamo) for kind in KINDS for dynamo in (False, True) if PROVE or kind != "odd"]
if not PROVE:
    EXPORTS = [pair for pair in EXPORTS if pair not in (("subpixel", True), ("plain", True), ("odd", True))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where exported files lie."""
    return tmp_path_factory.mktemp("exported")


@cache
def exported(kind: str, dynamo: bool, folder: Path) -> tuple[nn.Module, np.ndarray, Path]:
    net, x = network(kind)
    # one exporter leaves the batch open, the other the length or height too
    options: dict[str, Any] = {"dynamo": dynamo, "input_names": ["x"], "output_names": ["y"]}
    if dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("n", min=2)},)
    else:
        options["dynamic_axes"] = {"x": {0: "n", 2: "h"}}
    return net, x, export(net, (2, *x.shape[1:]), folder / f"{kind}{dynamo}.onnx", **options)


@dataclass(frozen=True)
class Repaired:
    """The last layer of a model solved, and its lines on the data that it was solved with."""

    backend: Any
    layer: str
    before: Mapping[int, Level]
    after: Mapping[int, Level]
    psnr: float


def repaired(backend: Backend, x: np.ndarray, phases: int = 1) -> Repaired:
    (output,) = backend.run(x[:2]).outputs
    task = Task.of(backend, [x], "smooth", periods=(2, 4), within_db=3.0, max_distortion=0.0)
    layer = backend.layers()[-1]
    done = LayerSolver(task, backend, layer, output, extra=1, phases=phases).solve(2.0)
    before = task.fit.judge(backend, task.periods)[output]
    return Repaired(done.backend, layer.name, before.levels, done.fit[output].levels, task.psnr(done.fit))


def assert_saved(backend: OnnxBackend, path: Path, x: np.ndarray) -> ModelProto:
    """It is on the disk what it is in memory, for the checker and for a fresh session of onnxruntime."""
    backend.save(path, x)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, {entry.name: x}), strict=True))
    for name, value in OnnxBackend(path).run(x).outputs.items():
        found = outputs[name] if value.shape == outputs[name].shape else np.moveaxis(outputs[name], -1, 1)
        np.testing.assert_array_equal(value, found)
        np.testing.assert_array_equal(value, backend.run(x).outputs[name])
    return onnx.load(path)


def assert_only(before: ModelProto, after: ModelProto, layer: str) -> None:
    """All the file is as it was, but for the values of a layer and the geometry of its node."""
    old, new = tensors(before), tensors(after)
    assert list(old) == list(new)
    changed = {name for name in old if old[name] != new[name]}
    # names of the files of other frameworks do not tell the layer: then only one or two values are of any
    assert changed
    assert len(changed) <= 2
    nodes = [(a, b) for a, b in zip(before.graph.node, after.graph.node, strict=True) if a != b]
    assert len(nodes) <= 1
    for a, b in nodes:
        assert (a.op_type, a.name, list(a.input)[:2], list(a.output)) == (
            b.op_type,
            b.name,
            list(b.input)[:2],
            list(b.output),
        )
        moved = {x.name for x in b.attribute} ^ {x.name for x in a.attribute}
        assert moved <= {"pads", "auto_pad", "kernel_shape", "output_shape"}
        assert changed <= {*a.input}
        del a.attribute[:], b.attribute[:]
        b.input[:] = a.input
    for model in (before, after):
        del model.graph.initializer[:]
        for value in [v for v in model.graph.value_info if v.name in changed]:  # its shape, where that is stated
            model.graph.value_info.remove(value)
    assert before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True), layer


@pytest.mark.parametrize(("kind", "dynamo"), EXPORTS)
def test_files_of_both_exporters_are_repaired_as_their_modules_are(
    kind: str, dynamo: bool, folder: Path, tmp_path: Path
) -> None:
    net, x, path = exported(kind, dynamo, folder)
    backend, phases = OnnxBackend(path), 2 if kind == "plain" else 1
    done = repaired(backend, x, phases)
    twin = repaired(TorchBackend(net, torch.from_numpy(x[:2])), x, phases)
    assert done.before[2].over() > 12
    assert done.after[2].over() < 4
    # the same repair as of the module, to rounding
    for period, level in twin.after.items():
        assert done.after[period].over() == pytest.approx(level.over(), abs=0.05)
    assert done.psnr == pytest.approx(twin.psnr, abs=0.05)
    (new,), (wanted,) = done.backend.run(x).outputs.values(), twin.backend.run(torch.from_numpy(x)).outputs.values()
    np.testing.assert_allclose(new, wanted, atol=2e-3 * np.ptp(wanted))
    # on data that it was not solved on
    other = smooth(16, 2, x.shape[2:])
    (old,), (now,) = backend.run(other).outputs.values(), done.backend.run(other).outputs.values()
    assert line_levels(now, [2])[2].over() < line_levels(old, [2])[2].over() - 6
    before, after = onnx.load(path), assert_saved(done.backend, tmp_path / "n.onnx", x)
    computed = any(n.op_type == "ReduceL2" for n in before.graph.node)
    if kind == "plain" or computed:  # nodes come with weights by phase, and go with weights that the file computes
        kept = [name for name in tensors(before) if "last" not in name and not name.startswith("4.")]
        assert kept
        assert all(tensors(before)[name] == tensors(after)[name] for name in kept if "onnx::" not in name)
        assert before.opset_import == after.opset_import
        assert list(before.metadata_props) == list(after.metadata_props)
    else:
        assert_only(before, after, kind)
    assert {layer.name for layer in OnnxBackend(tmp_path / "n.onnx").layers()} >= {
        layer.name for layer in backend.layers() if layer.name != done.layer
    }


# ---- files of other frameworks ---------------------------------------------------------------------------------------


def weight(name: str, *shape: int, scale: float = 1.0) -> Any:
    values = np.random.default_rng(len(name)).normal(size=shape) * scale
    return cases.constant(name, values, np.float32)


def tensorflow() -> ModelProto:
    """As tf2onnx writes Keras: channels last inside, SAME everywhere, slashes, biases added by nodes of their own."""
    nodes = [
        node("Transpose", ["x"], ["x__t"], perm=[0, 3, 1, 2], name="model/conv2d/Conv2D__6"),
        node("Conv", ["x__t", "k0"], ["c"], auto_pad="SAME_UPPER", strides=[1, 1], name="model/conv2d/Conv2D"),
        node("Add", ["c", "b0"], ["cb"], name="model/conv2d/BiasAdd"),
        node("Relu", ["cb"], ["r"], name="model/conv2d/Relu"),
        node(
            "ConvTranspose", ["r", "k1"], ["d"], strides=[2, 2], auto_pad="SAME_UPPER",
            name="model/conv2d_transpose/conv2d_transpose",
        ),
        node("Transpose", ["d"], ["d__t"], perm=[0, 2, 3, 1], name="model/conv2d_transpose/conv2d_transpose__9"),
        node("Add", ["d__t", "b1"], ["db"], name="model/conv2d_transpose/BiasAdd"),
        node("Tanh", ["db"], ["y"], name="model/activation/Tanh"),
    ]  # fmt: skip
    stored = [
        weight("k0", 6, 2, 3, 3), weight("b0", 1, 6, 1, 1), weight("k1", 6, 3, 5, 5, scale=0.05),
        weight("b1", 3, scale=0.1),
    ]  # fmt: skip
    return cases.model(nodes, {"x": ["n", 24, 24, 2]}, ["y"], stored, opset=13)


def tf_shuffle() -> ModelProto:
    """``tf.nn.depth_to_space``: phases before channels."""
    nodes = [
        node("Conv", ["x", "k0", "b0"], ["c"], auto_pad="SAME_UPPER", name="net/a/Conv2D"),
        node("Relu", ["c"], ["r"], name="net/a/Relu"),
        node("Conv", ["r", "k1", "b1"], ["d"], auto_pad="SAME_UPPER", name="net/b/Conv2D"),
        node("DepthToSpace", ["d"], ["y"], blocksize=2, mode="DCR", name="net/DepthToSpace"),
    ]
    stored = [weight("k0", 6, 2, 3, 3), weight("b0", 6), weight("k1", 12, 6, 3, 3), weight("b1", 12)]
    return cases.model(nodes, {"x": ["n", 2, 24, 24]}, ["y"], stored, opset=13)


def paddle() -> ModelProto:
    """PaddlePaddle's names, no names of nodes, batch normalisation, a Clip with inputs."""
    nodes = [
        node("Conv", ["x", "conv2d_0.w_0"], ["conv2d_0.tmp_0"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["conv2d_0.tmp_0", "s", "b", "m", "v"], ["bn"], epsilon=1e-3),
        node("HardSigmoid", ["bn"], ["gate"], alpha=1 / 6, beta=0.5),
        node("Mul", ["bn", "gate"], ["act"]),
        node(
            "ConvTranspose",
            ["act", "conv2d_transpose_0.w_0"],
            ["up"],
            kernel_shape=[4, 4],
            strides=[2, 2],
            pads=[1] * 4,
        ),
        node("Add", ["up", "conv2d_transpose_0.b_0"], ["y"]),
    ]  # fmt: skip
    stored = [
        weight("conv2d_0.w_0", 6, 2, 3, 3), weight("conv2d_transpose_0.w_0", 6, 3, 4, 4),
        weight("s", 6), weight("b", 6), weight("m", 6), cases.constant("v", np.ones(6), np.float32),
        weight("conv2d_transpose_0.b_0", 1, 3, 1, 1),
    ]  # fmt: skip
    return cases.model(nodes, {"x": ["n", 2, 24, 24]}, ["y"], stored, opset=11)


def old() -> ModelProto:
    """Opset 8: initialisers are inputs as well."""
    nodes = [
        node("Conv", ["x", "k0"], ["c"], pads=[1] * 4, kernel_shape=[3, 3]),
        node("Relu", ["c"], ["r"]),
        node("ConvTranspose", ["r", "k1", "b1"], ["y"], kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4),
    ]
    stored = [weight("k0", 6, 2, 3, 3), weight("k1", 6, 3, 4, 4), weight("b1", 3)]
    return cases.model(nodes, {"x": ["n", 2, 24, 24]}, ["y"], stored, opset=8)


ELSEWHERE = {"tensorflow": tensorflow, "depth_to_space": tf_shuffle, "paddle": paddle, "opset 8": old}


def declared(proto: ModelProto) -> ModelProto:
    """With the rank of the output, and metadata to be kept."""
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["n", 3, 48, 48]))
    proto.producer_name, proto.doc_string = "another exporter", "words"
    proto.metadata_props.add(key="author", value="me")
    return proto


@pytest.mark.parametrize("name", ELSEWHERE)
def test_files_of_other_frameworks_are_repaired(name: str, tmp_path: Path) -> None:
    path, proto = tmp_path / "m.onnx", declared(ELSEWHERE[name]())
    if name == "tensorflow":
        proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["n", 48, 48, 3]))
    onnx.save(proto, path)
    x, other = smooth(32, 1), smooth(16, 2)
    if name == "tensorflow":
        x, other = (np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for v in (x, other))
    backend = OnnxBackend(path)
    done = repaired(backend, x)
    assert done.before[2].over() > 10
    assert done.after[2].over() < 4
    (old_,), (now,) = backend.run(other).outputs.values(), done.backend.run(other).outputs.values()
    assert line_levels(now, [2])[2].over() < line_levels(old_, [2])[2].over() - 5
    after = assert_saved(done.backend, tmp_path / "n.onnx", x)
    if name == "opset 8":  # larger kernels are declared among the inputs
        assert [v.name for v in after.graph.input] == [v.name for v in proto.graph.input]
        for model in (proto, after):
            del model.graph.input[1:]
    # a bias is added where there was none
    added = set(tensors(after)) - set(tensors(proto))
    assert len(added) <= 1
    for value in [t for t in after.graph.initializer if t.name in added]:
        after.graph.initializer.remove(value)
    assert_only(proto, after, name)


@pytest.mark.parametrize("kind", ["transposed", "subpixel", "plain", "vocoder"])
def test_balanced_files_are_balanced_as_their_modules_are(kind: str, folder: Path, tmp_path: Path) -> None:
    net, x, path = exported(kind, False, folder)
    backend = OnnxBackend(path)
    done = balance_layers(backend, [x[:16], x[16:]])
    module = TorchBackend(net, torch.from_numpy(x[:2]))
    twin = balance_layers(module, [torch.from_numpy(x[:16]), torch.from_numpy(x[16:])])
    assert done.certificate == twin.certificate
    assert [(r.name, r.method, r.done) for r in done.repairs] == [(r.name, r.method, r.done) for r in twin.repairs]
    assert isinstance(done.backend, OnnxBackend)
    assert_saved(done.backend, tmp_path / "n.onnx", x)
    (new,), (wanted,) = done.backend.run(x).outputs.values(), twin.backend.run(torch.from_numpy(x)).outputs.values()
    np.testing.assert_allclose(new, wanted, atol=5e-3 * np.ptp(wanted))
    # a constant stays a constant, away from the borders
    flat = done.backend.run(np.full_like(x[:2], 0.7)).outputs["y"]
    middle = flat[(slice(None), slice(None), *(slice(n // 4, -n // 4) for n in flat.shape[2:]))]
    assert np.ptp(middle, axis=tuple(range(2, flat.ndim))).max() < 1e-4


METHODS = ["auto", "solve", "balance", "resize", "subpixel"]


@pytest.mark.parametrize(
    ("method", "dynamo"), [(m, d) for m in METHODS for d in (False, True) if PROVE or (m == "auto") == d]
)
def test_the_whole_repair_of_a_file(method: Any, dynamo: bool, folder: Path, tmp_path: Path) -> None:
    _, x, path = exported("transposed", dynamo, folder)
    content = path.read_bytes()
    found = fix(path, calibration=[x[:16], x[16:]], method=method, max_distortion=12.0)
    assert path.read_bytes() == content
    report = found.report
    assert any(layer.done for layer in report.layers)
    (output,) = report.outputs
    line = next(line for line in output.lines if line.period == 2)
    assert line.after_over_db < line.before_over_db - 6
    assert report.verdict == ("structural" if method in ("resize", "subpixel") else report.verdict)
    found.save(tmp_path / "n.onnx")
    again = OnnxBackend(tmp_path / "n.onnx")
    np.testing.assert_array_equal(again.run(x).outputs["y"], found.backend.run(x).outputs["y"])
    if method == "balance":
        assert report.certificate


def test_a_file_with_channels_last_is_repaired_as_a_whole(tmp_path: Path) -> None:
    proto = declared(tensorflow())
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["n", 48, 48, 3]))
    x = np.ascontiguousarray(smooth(32, 1).transpose(0, 2, 3, 1))
    found = fix(proto, calibration=[x[:16], x[16:]], method="solve", max_distortion=12.0)
    (output,) = found.report.outputs
    assert output.sizes == (3, 48, 48)
    line = next(line for line in output.lines if line.period == 2)
    assert line.after_over_db < line.before_over_db - 6
    found.save(tmp_path / "n.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": x})[0].shape == (32, 48, 48, 3)


def test_a_fold_of_a_file_changes_no_output(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3, padding=1))
    x = smooth(16, 1)
    path = export(net, (16, 2, 24, 24), tmp_path / "m.onnx", dynamo=False, input_names=["x"], output_names=["y"])
    found = fix(path, calibration=[x], method="fold")
    assert found.report.verdict == "folded"
    np.testing.assert_allclose(found.backend.run(x).outputs["y"], OnnxBackend(path).run(x).outputs["y"], atol=1e-5)
