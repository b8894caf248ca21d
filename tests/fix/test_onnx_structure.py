"""Structural repairs of ONNX files: the same as those of modules, and nothing else of the file changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper
from torch import nn

import evenly
from corpus import CASES
from evenly.errors import UsageError
from evenly.fix.onnx_backend import OnnxBackend
from evenly.fix.onnx_structure import replaced_onnx
from evenly.fix.structure import replaced
from evenly.graph.onnx import read_onnx
from fix.test_onnx_backend import export, noise, tensors
from graph import onnx_cases as cases

PROVE = bool(os.environ.get("EVENLY_PROVE"))
OPSETS = (7, 8, 9, 10, 11, 13, 17, 20) if PROVE else (8, 17)
node = helper.make_node


def one(layer: nn.Module, opset: int, sizes: list[Any], channels: int = 3) -> ModelProto:
    """A layer of PyTorch's between two activations, as a file."""
    rank = int(type(layer).__name__[-2])
    per_axis = {name: value if isinstance(value := getattr(layer, name, 0), tuple) else (value,) * rank
                for name in ("kernel_size", "stride", "padding", "dilation", "output_padding")}  # fmt: skip
    attributes: dict[str, Any] = {
        "kernel_shape": per_axis["kernel_size"], "strides": per_axis["stride"], "pads": per_axis["padding"] * 2,
    }  # fmt: skip
    stored = []
    if isinstance(layer, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d):
        op = "MaxPool"
    elif isinstance(layer, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d):
        op, attributes["count_include_pad"] = "AveragePool", int(layer.count_include_pad)
    else:
        op = "ConvTranspose" if "Transpose" in type(layer).__name__ else "Conv"
        attributes["group"], channels = layer.groups, layer.in_channels
        stored = [numpy_helper.from_array(p.detach().numpy(), f"l.{n}") for n, p in layer.named_parameters()]
        if op == "ConvTranspose":
            attributes["output_padding"] = per_axis["output_padding"]
    if getattr(layer, "ceil_mode", False):
        attributes["ceil_mode"] = 1
    if max(per_axis["dilation"]) > 1:
        attributes["dilations"] = per_axis["dilation"]
    nodes = [
        node("Relu", ["x"], ["r"], name="before"),
        node(op, ["r", *(t.name for t in stored)], ["c"], name="l", **attributes),
        node("Relu", ["c"], ["y"], name="after"),
    ]
    proto = cases.model(nodes, {"x": ["n", channels, *sizes[:rank]]}, ["y"], stored, opset=opset)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["n", None, *[None] * rank]))
    proto.metadata_props.add(key="author", value="me")
    if opset < 9:
        proto.ir_version = 4
    return proto


def assert_like_torch(layer: nn.Module, method: str, opset: int) -> None:
    """Both repairs of a layer are one function, for open and for fixed sizes, and refuse alike."""
    net, (wanted,) = replaced(nn.Sequential(layer), method, layers=["0"])
    for sizes in (["a", "b", "c"], [9, 10, 11]):
        proto = one(layer, opset, sizes)
        backend, (change,) = replaced_onnx(proto, {"l": method})
        assert change.done == wanted.done, change.note
        assert change.fit_error == pytest.approx(wanted.fit_error, abs=1e-6) or change.fit_error is wanted.fit_error
        assert_rest_is_kept(proto, backend.model)
        if not change.done:
            assert change.note == wanted.note or "ceil_mode" in str(change.note)
            assert backend.model == proto
            continue
        onnx.checker.check_model(backend.model, full_check=True)
        rank, channels = int(type(layer).__name__[-2]), getattr(layer, "in_channels", 3)
        for size in [(9, 10, 11), *([(16, 13, 12), (7, 8, 15)] if sizes[0] == "a" else [])]:
            x = noise(2, channels, *size[:rank])
            with torch.no_grad():
                expected = net(torch.from_numpy(x).relu()).relu().numpy()
            np.testing.assert_allclose(backend.run(x).outputs["y"], expected, atol=1e-5, rtol=1e-5)


def assert_rest_is_kept(before: ModelProto, after: ModelProto) -> None:
    """Everything is in the file as it was, but for the layer ``l`` and what belongs to it."""
    nodes = [n.SerializeToString() for n in after.graph.node]
    for n in before.graph.node:
        assert n.name == "l" or n.SerializeToString() in nodes
    for kept in ("opset_import", "metadata_props", "ir_version"):
        assert getattr(before, kept) == getattr(after, kept)
    assert list(before.graph.output) == list(after.graph.output)
    left = tensors(after)
    assert all(name in left for name in tensors(before) if not name.startswith("l."))
    read = {name for n in after.graph.node for name in n.input}
    assert all(name in read for name in left), "what nobody reads is gone"


UP = [
    nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2),
    nn.ConvTranspose2d(3, 2, 3, 2, 1, 1),
    nn.ConvTranspose2d(3, 2, (5, 3), (3, 1), (4, 1), (2, 0)),
    nn.ConvTranspose1d(3, 2, 5, 3, 4, bias=False),
    nn.ConvTranspose2d(2, 2, 2, 2),
    nn.ConvTranspose3d(2, 2, 3, 2, 1, 1),
    nn.ConvTranspose1d(2, 2, 3, 2, 2, dilation=3),
    nn.ConvTranspose2d(2, 2, 3, padding=1),
]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("layer", UP, ids=str)
@pytest.mark.parametrize("method", ["resize", "subpixel"])
def test_transposed_convolutions(layer: nn.Module, method: str, opset: int) -> None:
    assert_like_torch(layer, method, opset)


DOWN = [
    nn.Conv2d(3, 4, 3, 2, 1),
    nn.Conv2d(4, 4, 3, 3, groups=2),
    nn.Conv1d(2, 3, 1, 2, bias=False),
    nn.Conv3d(2, 2, (3, 1, 3), 2, (1, 0, 1)),
    nn.Conv2d(2, 3, (3, 4), (1, 2), (2, 1), dilation=(2, 1)),
    nn.Conv2d(2, 3, 3),
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, 1),
    nn.AvgPool2d(3, 2, 1),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    nn.AvgPool3d(2),
]
YOUNG = [
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.MaxPool2d(2, 2, ceil_mode=True),
    nn.AvgPool2d(3, 2, ceil_mode=True),
    nn.MaxPool1d(3, 2, 1, dilation=2),
]
"""What opsets below 10 have not."""


@pytest.mark.parametrize(
    ("layer", "opset"), [(a, o) for o in OPSETS for a in [*DOWN, *(YOUNG if o >= 10 else [])]], ids=str
)
def test_layers_that_drop_samples(layer: nn.Module, opset: int) -> None:
    assert_like_torch(layer, "antialias", opset)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv1d(2, 3, 5, padding=2), nn.Conv2d(3, 4, 3)], ids=str
)
def test_borders(layer: nn.Module, opset: int) -> None:
    assert_like_torch(layer, "pad", opset)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("op", "stride"), [("Conv", 2), ("Conv", 3), ("MaxPool", 2), ("AveragePool", 2)])
def test_sizes_of_layers_that_pad_by_the_size_of_their_input(auto: str, op: str, stride: int) -> None:
    more = {"inputs": ["x", "w"]} if op == "Conv" else {"inputs": ["x"]}
    made = node(op, more["inputs"], ["y"], name="l", kernel_shape=[3, 3], strides=[stride] * 2, auto_pad=auto)
    stored = [cases.weight("w", 3, 3, 3, 3)] if op == "Conv" else []
    proto = cases.model([made], {"x": [1, 3, "h", "w"]}, ["y"], stored)
    backend, (change,) = replaced_onnx(proto, {"l": "antialias"})
    assert change.done
    for size in ((9, 10), (11, 12), (7, 16)):
        x = noise(1, 3, *size)
        assert backend.run(x).outputs["y"].shape == OnnxBackend(proto).run(x).outputs["y"].shape


# ---- sub-pixel convolutions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["CRD", "DCR"])
def test_a_convolution_with_its_shuffle_gets_equal_phase_gains(order: str) -> None:
    proto = cases.subpixel(order)
    backend, changes = replaced_onnx(proto, "subpixel")
    (change,) = changes
    assert change.done
    assert 0 < change.fit_error < 1
    (layer,) = (found for found in backend.layers() if found.kind == "subpixel")
    gains = layer.weight.sum((2, 3)).reshape(-1, 4, layer.weight.shape[1])
    np.testing.assert_allclose(gains, gains[:, :1].repeat(4, 1), atol=1e-6)
    changed = {n for n, t in tensors(proto).items() if tensors(backend.model)[n] != t}
    assert len(changed) <= 2
    assert list(backend.model.graph.node) == list(proto.graph.node)


# ---- fold ------------------------------------------------------------------------------------------------------------


def interpolated(opset: int, sizes: list[Any], *, pad: int = 0, conv: dict[str, Any] | None = None, **how: Any) -> Any:
    """Interpolation, perhaps padding, convolution."""
    rank = len(sizes)
    scales = [1.0, 1.0, 2.0, 3.0, 2.0][: 2 + rank]
    op = "Resize" if opset >= 10 else "Upsample"
    inputs = ["x", "scales"] if opset < 11 else ["x", "" if opset >= 13 else "roi", "scales"]
    stored: list[Any] = []
    if opset < 9:
        inputs, how["scales"] = ["x"], scales
    else:
        stored = [cases.constant("scales", scales, np.float32)]
        stored += [cases.constant("roi", [], np.float32)] if opset in (11, 12) else []
    if opset >= 11:
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", **how}
    nodes = [node(op, inputs, ["u"], name="up", **{"mode": "nearest", **how})]
    if pad:
        widths = [0, 0, *[pad] * rank] * 2
        named = {"pads": widths} if opset < 11 else {}
        stored += [cases.constant("widths", widths)] if opset >= 11 else []
        nodes.append(node("Pad", ["u", "widths"] if opset >= 11 else ["u"], ["p"], name="pad", **named))
    nodes.append(node("Conv", ["p" if pad else "u", "l.weight"], ["y"], name="l", **(conv or {"pads": [1] * 2 * rank})))
    stored.append(cases.weight("l.weight", 4, 2, *[3] * rank))
    proto = cases.model(nodes, {"x": [1, 2, *sizes]}, ["y"], stored, opset=opset)
    if opset < 9:
        proto.ir_version = 4
    return proto


CONVS = [{}, {"pads": [0] * 4}, {"pads": [3, 0, 4, 2]}, {"pads": [2] * 4, "dilations": [2, 2]}]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("pad", [0, 1, 3])
@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_a_fold_is_the_same_function(opset: int, pad: int, conv: dict[str, Any]) -> None:
    proto = interpolated(opset, ["h", "w"], pad=pad, conv=conv)
    backend, (change,) = replaced_onnx(proto, "fold")
    assert (change.done, change.fit_error) == (True, 0)
    assert [n.op_type for n in backend.model.graph.node] == ["ConvTranspose"]
    assert set(tensors(backend.model)) == {"l.weight"}
    for size in ((5, 6), (2, 7)):
        x = noise(1, 2, *size)
        np.testing.assert_allclose(backend.run(x).outputs["y"], OnnxBackend(proto).run(x).outputs["y"], atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_folds_of_signals_and_volumes(rank: int) -> None:
    proto = interpolated(17, ["a", "b", "c"][:rank])
    backend, (change,) = replaced_onnx(proto, {"up": "fold"})
    assert change.done
    x = noise(1, 2, *(5, 4, 3)[:rank])
    np.testing.assert_allclose(backend.run(x).outputs["y"], OnnxBackend(proto).run(x).outputs["y"], atol=1e-5)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"mode": "linear"}, "repeats the edge samples"),
        ({"coordinate_transformation_mode": "align_corners"}, "equally often"),
        ({"nearest_mode": "ceil"}, "equally often"),
        ({"conv": {"strides": [2, 2]}}, "no convolution of stride 1"),
    ],
)
def test_what_is_not_the_same_function_is_not_folded(how: dict[str, Any], words: str) -> None:
    proto = interpolated(17, [5, 6], **how)
    backend, (change,) = replaced_onnx(proto, "fold")
    assert not change.done
    assert words in change.note
    assert backend.model == proto


def test_an_interpolation_that_others_read_stays() -> None:
    proto = interpolated(17, [5, 6])
    proto.graph.node.append(node("Relu", ["u"], ["z"]))
    proto.graph.output.append(helper.make_tensor_value_info("z", 1, None))
    backend, (change,) = replaced_onnx(proto, "fold")
    assert change.done
    assert [n.op_type for n in backend.model.graph.node] == ["Resize", "ConvTranspose", "Relu"]
    x = noise(1, 2, 5, 6)
    new, old = backend.run(x).outputs, OnnxBackend(proto).run(x).outputs
    np.testing.assert_allclose(new["y"], old["y"], atol=1e-5)
    np.testing.assert_array_equal(new["z"], old["z"])


# ---- whole files -----------------------------------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1), nn.MaxPool2d(2), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), nn.ReLU(),
        nn.Conv2d(4, 8, 3, padding=1), nn.PixelShuffle(2), nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3, padding=1),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("dynamo", [False, True])
def test_findings_of_a_file_are_cured_as_those_of_the_module(dynamo: bool, tmp_path: Path) -> None:
    net, shape = network(), (1, 2, 16, 20)
    path = export(net, shape, tmp_path / "m.onnx", dynamo=dynamo)
    methods = ("resize", "subpixel", "antialias", "pad")
    backend, changes = replaced_onnx(path, methods)
    new, wanted = replaced(net, methods, example=torch.zeros(shape))
    assert all(change.done for change in changes)
    assert sorted((c.name, c.method) for c in changes) == sorted((c.name, c.method) for c in wanted)
    x = noise(*shape)
    (found,) = backend.run(x).outputs.values()
    with torch.no_grad():
        np.testing.assert_allclose(found, new(torch.from_numpy(x)).numpy(), atol=1e-4)
    backend.save(tmp_path / "n.onnx", x)
    left = [f for f in evenly.check(tmp_path / "n.onnx").findings if f.severity != "info"]
    # interpolation and convolution are two nodes there: zeros between them darken the border, as they did before
    assert [(f.code, f.severity, f.layer) for f in left] == [("EV301", "warning", "2")]
    clean, _ = replaced_onnx(tmp_path / "n.onnx", "pad")
    onnx.save(clean.model, tmp_path / "c.onnx")
    assert not [f for f in evenly.check(tmp_path / "c.onnx").findings if f.severity != "info"]
    names = {n.name for n in read_onnx(tmp_path / "n.onnx").nodes}
    assert {"0", "2", "4", "7"} <= names, "layers keep their names"
    assert {layer.name for layer in backend.layers()} >= {"0", "2", "4", "7"}


FEW = ("dcgan_generator", "fsrcnn_x3", "espcn_x3")
NEWER = (
    "biggan_generator", "bigvgan_base", "sagan_generator", "sngan_resnet_generator", "stylegan2_discriminator",
    "stylegan2_generator",
)  # fmt: skip
"""What the older exporter of PyTorch cannot write."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*:UserWarning:torch.*")
@pytest.mark.parametrize("name", [n for n in CASES if CASES[n].onnx and (PROVE or n in FEW)])
def test_files_of_published_architectures(name: str, tmp_path: Path) -> None:
    """Sizes stay, the file is sound, and no error is left but those about layers that were refused."""
    torch.manual_seed(0)
    case = CASES[name]
    path = export(case.build(case.width), case.inputs(), tmp_path / "m.onnx", dynamo=name in NEWER)
    x = tuple(value.numpy() for value in case.inputs())
    backend, changes = replaced_onnx(path, ("resize", "subpixel", "antialias", "pad"))
    before, after = OnnxBackend(path).run(x).outputs, backend.run(x).outputs
    assert {n: value.shape for n, value in before.items()} == {n: value.shape for n, value in after.items()}
    backend.save(tmp_path / "n.onnx", x)
    refused = {change.name: change.note for change in changes if not change.done}
    assert all(refused.values())
    left = {f.layer for f in evenly.check(tmp_path / "n.onnx").findings if f.severity == "error"}
    assert left <= set(refused)


def test_a_report_and_names_say_what_is_replaced(tmp_path: Path) -> None:
    path = export(network(), (1, 2, 16, 20), tmp_path / "m.onnx", dynamo=False)
    report = evenly.check(path)
    _, auto = replaced_onnx(path, "resize")
    _, reported = replaced_onnx(path, "resize", layers=report)
    _, named = replaced_onnx(path, "resize", layers=["2"])
    assert auto == reported == named
    _, changes = replaced_onnx(path, ("resize", "antialias", "fold"), layers=["0", "2", "6"])
    assert [(c.name, c.method, c.done) for c in changes] == [
        ("0", "antialias", True), ("2", "resize", True), ("6", "fold", True),
    ]  # fmt: skip


def test_values_outside_the_file_stay_there(tmp_path: Path) -> None:
    path = export(network(), (1, 2, 16, 20), tmp_path / "m.onnx", dynamo=True, external_data=True)
    backend, changes = replaced_onnx(path, ("resize", "antialias"))
    assert all(c.done for c in changes)
    backend.save(tmp_path / "n.onnx", noise(1, 2, 16, 20))
    assert (tmp_path / "n.onnx.data").exists()
    first, second = (onnx.load(tmp_path / name, load_external_data=False).graph for name in ("m.onnx", "n.onnx"))
    outside, still = ({t.name for t in graph.initializer if t.data_location} for graph in (first, second))
    assert {"0.weight", "2.weight", "4.weight"} <= outside <= still
    again = OnnxBackend(tmp_path / "n.onnx")
    for first, second in zip(backend.layers(), again.layers(), strict=True):
        np.testing.assert_array_equal(first.weight, second.weight)


def test_what_cannot_be_replaced_is_said() -> None:
    proto = one(nn.ConvTranspose2d(3, 2, 4, 2, 1), 17, [9, 9])
    for method, words in {"antialias": "transposed layer", "pad": "transposed layer"}.items():
        backend, (change,) = replaced_onnx(proto, {"l": method})
        assert not change.done
        assert words in change.note
        assert backend.model == proto
    backend, (change,) = replaced_onnx(proto, {"l": "fold"})
    assert change.note == "fold is not for it"
    quantised = cases.quantised()
    _, (change,) = replaced_onnx(quantised, "resize", layers=[OnnxBackend(quantised).layers()[0].name])
    assert not change.done
    for bad, more, words in (("upsample", {}, "must be of"), ("resize", {"layers": "all"}, "must be 'auto'"),
                             ("resize", {"layers": ["none"]}, "there is no layer 'none'")):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            replaced_onnx(proto, bad, **more)


def test_indices_that_an_unpooling_reads() -> None:
    nodes = [
        node("MaxPool", ["x"], ["p", "i"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("MaxUnpool", ["p", "i"], ["y"], name="unpool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    _, (change,) = replaced_onnx(cases.model(nodes, {"x": [1, 2, 8, 8]}, ["y"]), {"pool": "antialias"})
    assert "indices" in change.note


def test_a_pool_of_unknown_channels() -> None:
    made = node("MaxPool", ["x"], ["y"], name="pool", kernel_shape=[2, 2], strides=[2, 2])
    _, (change,) = replaced_onnx(cases.model([made], {"x": [1, "c", 8, 8]}, ["y"]), {"pool": "antialias"})
    assert "channels" in change.note
