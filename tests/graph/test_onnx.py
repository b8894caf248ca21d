"""The ONNX reader: both of PyTorch's exporters, files from elsewhere, sizes left open, idioms, damage."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.graph import onnx_cases as cases
from tests.graph.onnx_interpret import interpret
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from evenly.errors import EvenlyError, FormatError, InputShapeError
from evenly.graph import ir
from evenly.graph.onnx import positions, read_onnx
from evenly.theory.resize import axis_resize

onnxruntime.set_default_logger_severity(4)
NETS = cases.torch_nets()


def export(module: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> Path:
    """Export without a word."""
    logging.getLogger("torch.onnx").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (torch.zeros(shape),), str(path), verbose=False, **options)
    return path


def operations(graph: ir.Graph) -> list[ir.Op]:
    return [node.op for node in graph.nodes]


def only(graph: ir.Graph, kind: type[Any]) -> Any:
    """The single operation of a kind."""
    (found,) = [op for op in operations(graph) if isinstance(op, kind)]
    return found


def attributes(op: ir.Op) -> dict[str, Any]:
    """What two readings of one network must agree on: everything but the identity of weights."""
    result: dict[str, Any] = {"type": type(op).__name__}
    for f in fields(op):  # type: ignore[arg-type]
        value = getattr(op, f.name)
        if isinstance(value, ir.Weight):
            value = (value.shape, value.fixed, np.round(value.values(), 4).tolist())
        elif isinstance(value, float):
            value = float(f"{value:.5g}")
        elif f.name == "parameters":
            value = tuple(float(f"{v:.5g}") for v in value)
        result[f.name] = value
    return result


SPATIAL = (
    ir.Conv,
    ir.ConvTranspose,
    ir.Resize,
    ir.PixelShuffle,
    ir.PixelUnshuffle,
    ir.Pool,
    ir.Pad,
    ir.Slice,
    ir.Concat,
)


# ------------------------------------------------------------------------------------------------- PyTorch's exporters


@pytest.mark.parametrize("name", NETS)
def test_both_exporters_agree_with_each_other(name: str, tmp_path: Path) -> None:
    module, shape = NETS[name]
    first, second = (read_onnx(export(module, shape, tmp_path / "m.onnx", dynamo=d)) for d in (False, True))
    assert [attributes(n.op) for n in first.nodes] == [attributes(n.op) for n in second.nodes]
    assert [(n.inputs, n.channels, n.sizes) for n in first.nodes] == [
        (n.inputs, n.channels, n.sizes) for n in second.nodes
    ]
    unnamed = (ir.Input, ir.Output, ir.ChannelSlice)
    named = [[n.name for n in g.nodes if not isinstance(n.op, unnamed)] for g in (first, second)]
    assert named[0] == named[1]


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETS)
def test_both_exporters_agree_with_the_torch_reader(name: str, dynamo: bool, tmp_path: Path) -> None:
    from evenly.graph.torch import read_module

    module, shape = NETS[name]
    expected = read_module(module.eval(), (torch.zeros(shape),))
    found = read_onnx(export(module, shape, tmp_path / "m.onnx", dynamo=dynamo))
    assert found.input_shapes == expected.input_shapes
    assert found.output_shapes == expected.output_shapes
    assert [type(op).__name__ for op in operations(found)] == [type(op).__name__ for op in operations(expected)]
    for ours, theirs in zip(found.nodes, expected.nodes, strict=True):
        assert attributes(ours.op) == attributes(theirs.op)
        assert (ours.inputs, ours.channels, ours.sizes) == (theirs.inputs, theirs.channels, theirs.sizes)
        if isinstance(ours.op, SPATIAL):
            assert ours.name == theirs.name


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", sorted(set(NETS) - {"resize", "unet"}))
def test_the_graph_computes_what_the_network_computes(name: str, dynamo: bool, tmp_path: Path) -> None:
    module, shape = NETS[name]
    graph = read_onnx(export(module, shape, tmp_path / "m.onnx", dynamo=dynamo))
    x = torch.from_numpy(cases.RNG(1).standard_normal(shape).astype(np.float32))
    with torch.no_grad():
        expected = module(x)[0].numpy()
    feeds = {graph.nodes[i].name: x[0].numpy() for i in graph.inputs}
    np.testing.assert_allclose(interpret(graph, feeds)[0], expected, rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------------------------------- files from elsewhere


def run(path: Path, feeds: dict[str, Any]) -> list[Any]:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)  # type: ignore[no-any-return]


def sample(graph: ir.Graph, x: Any) -> Any:
    """One sample in the layout of the graph's input, channels first."""
    node = graph.nodes[graph.inputs[0]]
    return x[0] if x.shape[1:] == (node.channels, *node.sizes) else np.moveaxis(x[0], -1, 0)


def matched(found: Any, expected: Any) -> Any:
    return expected if found.shape == expected.shape else np.moveaxis(expected, -1, 0)


@pytest.mark.parametrize("name", sorted(set(cases.FOREIGN) - {"paddle", "opset9"}))
def test_foreign_files_compute_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    proto = cases.FOREIGN[name]()
    path = cases.save(proto, tmp_path / "m.onnx")
    graph = read_onnx(path)
    assert not any(isinstance(op, ir.Unknown) for op in operations(graph))
    feeds = cases.random_input(proto)
    if name == "quantised":  # values that the quantisation keeps
        feeds = {
            k: (np.clip(np.rint(v / 0.02), -127, 127) * np.float32(0.02)).astype(np.float32) for k, v in feeds.items()
        }
    (expected,) = run(path, feeds)
    (found,) = interpret(graph, {graph.nodes[graph.inputs[0]].name: sample(graph, next(iter(feeds.values())))})
    np.testing.assert_allclose(found, matched(found, expected[0]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["paddle", "opset9"])
def test_foreign_files_with_interpolation_agree_in_the_interior(name: str, tmp_path: Path) -> None:
    proto = cases.FOREIGN[name]()
    path = cases.save(proto, tmp_path / "m.onnx")
    graph = read_onnx(path)
    assert not any(isinstance(op, ir.Unknown) for op in operations(graph))
    feeds = cases.random_input(proto)
    (expected,) = run(path, feeds)
    (found,) = interpret(graph, {graph.nodes[graph.inputs[0]].name: next(iter(feeds.values()))[0]})
    assert found.shape == expected[0].shape
    np.testing.assert_allclose(found[:, 5:-5, 5:-5], expected[0][:, 5:-5, 5:-5], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", cases.RESIZES)
def test_every_resize_agrees_in_the_interior(name: str, tmp_path: Path) -> None:
    proto = cases.resized(**cases.RESIZES[name])
    path = cases.save(proto, tmp_path / "m.onnx")
    graph = read_onnx(path)
    only(graph, ir.Resize)
    x = cases.random_input(proto)["x"]
    (expected,) = run(path, {"x": x})
    (found,) = interpret(graph, {"x": x[0]})
    assert found.shape == expected[0].shape
    margin = [max(3 * m // n, 1) for n, m in zip(x.shape[2:], found.shape[1:], strict=True)]
    if any(2 * m >= n for m, n in zip(margin, found.shape[1:], strict=True)):
        margin = [1, 1]
    inner = (slice(None), *(slice(m, -m) for m in margin))
    np.testing.assert_allclose(found[inner], expected[0][inner], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (4, 2, 1), (5, 3, 1), (2, 1, 1), (1, 2, 1)])
def test_automatic_padding_of_convolutions(auto: str, kernel: int, stride: int, dilation: int, tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=auto, strides=[stride], dilations=[dilation])
    proto = cases.model([node], {"x": [1, 2, 13]}, ["y"], [cases.weight("w", 3, 2, kernel)])
    path = cases.save(proto, tmp_path / "m.onnx")
    x = cases.random_input(proto)["x"]
    (found,) = interpret(read_onnx(path), {"x": x[0]})
    np.testing.assert_allclose(found, run(path, {"x": x})[0][0], rtol=1e-4, atol=1e-4)


def test_automatic_padding_counts_the_dilation(tmp_path: Path) -> None:
    """ONNX Runtime refuses this; the specification does not."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2], dilations=[3])
    proto = cases.model([node], {"x": [1, 2, 13]}, ["y"], [cases.weight("w", 3, 2, 2)])
    graph = read_onnx(cases.save(proto, tmp_path / "m.onnx"))
    # ceil(13 / 2) = 7 outputs span 6 * 2 + 3 * (2 - 1) + 1 = 16 inputs: 3 to add, the larger half after.
    assert only(graph, ir.Conv).padding == ((1, 2),)
    assert graph.output_shapes == ((1, 3, 7),)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize(
    ("kernel", "stride", "extra"),
    [(3, 2, 0), (3, 2, 1), (4, 2, 0), (5, 3, 2), (6, 4, 0), (1, 2, 0), (2, 4, 0), (2, 4, 1), (3, 4, 1)],
)
@pytest.mark.parametrize("wanted", [None, 1, 0])
def test_automatic_padding_of_transposed_convolutions(
    auto: str, kernel: int, stride: int, extra: int, wanted: int | None, tmp_path: Path
) -> None:
    size = None if wanted is None else [7 * stride - wanted]
    options = {} if size is None else {"output_shape": size}
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], auto_pad=auto, strides=[stride], output_padding=[extra], **options
    )
    proto = cases.model([node], {"x": [1, 2, 7]}, ["y"], [cases.weight("w", 2, 3, kernel)])
    path = cases.save(proto, tmp_path / "m.onnx")
    x = cases.random_input(proto)["x"]
    (found,) = interpret(read_onnx(path), {"x": x[0]})
    assert size is None or found.shape[1:] == tuple(size)
    np.testing.assert_allclose(found, run(path, {"x": x})[0][0], rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------- weights


def test_weights_are_read_only_when_asked_for(tmp_path: Path) -> None:
    proto = cases.model(
        [helper.make_node("Conv", ["x", "main.0.weight"], ["y"])], {"x": [1, 2, 8, 8]}, ["y"],
        [cases.weight("main.0.weight", 3, 2, 3, 3)],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    expected = numpy_helper.to_array(cases.weight("main.0.weight", 3, 2, 3, 3))
    graph = read_onnx(path)
    w = only(graph, ir.Conv).weight
    np.testing.assert_array_equal(w.values(), expected)
    later = only(read_onnx(path), ir.Conv).weight
    (tmp_path / "w.bin").unlink()
    with pytest.raises(FormatError, match=r"w\.bin"):
        later.values()
    with pytest.raises(FormatError, match=r"w\.bin"):
        read_onnx(path)


def test_weights_can_be_ignored(tmp_path: Path) -> None:
    path = cases.save(cases.asymmetric(), tmp_path / "m.onnx")
    graph = read_onnx(path, use_weights=False)
    weights = [op.weight for op in operations(graph) if isinstance(op, ir.Conv | ir.ConvTranspose)]
    assert weights
    assert not any(w is not None and w.known for w in weights)


def test_a_depthwise_filter_that_is_the_same_for_all_channels_is_fixed(tmp_path: Path) -> None:
    module, shape = NETS["blur"]
    graph = read_onnx(export(module, shape, tmp_path / "m.onnx", dynamo=False))
    trained, fir = [op for op in operations(graph) if isinstance(op, ir.Conv)]
    assert not trained.weight.fixed
    assert fir.weight.fixed


@pytest.mark.parametrize(
    ("taps", "fixed"), [([1, 2, 2, 1], True), ([1, 2, 2, 1.1], False), ([-1, 4, 4, -1], False), ([6], False)]
)
def test_a_filter_of_one_channel_is_fixed_if_it_is_an_average(taps: list[float], fixed: bool, tmp_path: Path) -> None:
    values = np.asarray(taps).reshape(1, 1, -1)
    for scale in (1.0, 2.0):
        stored = cases.constant("w", values / values.sum() * scale, np.float32)
        proto = cases.model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": [1, 1, 9]}, ["y"], [stored])
        graph = read_onnx(cases.save(proto, tmp_path / "m.onnx"))
        assert only(graph, ir.Conv).weight.fixed == (fixed and scale == 1)


def test_weight_norm_is_one_weight(tmp_path: Path) -> None:
    module, shape = NETS["vocoder"]
    graph = read_onnx(export(module, shape, tmp_path / "m.onnx", dynamo=False))
    node = next(n for n in graph.nodes if isinstance(n.op, ir.ConvTranspose))
    assert node.name == "ups.0"
    np.testing.assert_allclose(node.op.weight.values(), module.ups[0].weight.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_quantised_weights_are_dequantised(tmp_path: Path) -> None:
    proto = cases.quantised()
    graph = read_onnx(cases.save(proto, tmp_path / "m.onnx"))
    stored = {t.name: numpy_helper.to_array(t).astype(float) for t in proto.graph.initializer}
    np.testing.assert_allclose(
        only(graph, ir.Conv).weight.values(), stored["wq"] * stored["ws"][:, None, None, None], rtol=1e-6
    )
    np.testing.assert_allclose(
        only(graph, ir.ConvTranspose).weight.values(), stored["vq"] * stored["vs"][None, :, None, None], rtol=1e-6
    )


def test_integer_convolutions_have_real_weights(tmp_path: Path) -> None:
    q = cases.RNG(0).integers(0, 255, (4, 2, 3, 3)).astype(np.uint8)
    scale = cases.RNG(1).uniform(0.1, 0.2, 4).astype(np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("QLinearConv", ["xq", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "s", "z"], ["y"]),
    ]
    constants = [
        cases.constant("s", 0.5, np.float32), cases.constant("z", 3, np.uint8), cases.constant("w", q, np.uint8),
        cases.constant("ws", scale, np.float32), cases.constant("wz", [128] * 4, np.uint8),
        cases.constant("b", [1, 2, 3, 4], np.int32),
    ]  # fmt: skip
    graph = read_onnx(cases.save(cases.model(nodes, {"x": [1, 2, 8, 8]}, ["y"], constants), tmp_path / "m.onnx"))
    conv = only(graph, ir.Conv)
    np.testing.assert_allclose(conv.weight.values(), (q.astype(float) - 128) * scale[:, None, None, None], rtol=1e-6)
    np.testing.assert_allclose(conv.bias.values(), np.array([1, 2, 3, 4]) * 0.5 * scale, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------- open sizes


def dynamic(shape: list[int | str], name: str = "x") -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", [name, "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["c", "v"], ["d"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["d", name], ["y"], axis=1),
    ]
    return cases.model(nodes, {name: shape}, ["y"], [cases.weight("w", 4, 3, 3, 3), cases.weight("v", 4, 2, 4, 4)])


def test_open_sizes_get_usual_values(tmp_path: Path) -> None:
    graph = read_onnx(cases.save(dynamic(["batch", 3, "h", "w"]), tmp_path / "m.onnx"))
    assert graph.input_shapes == ((1, 3, 64, 64),)
    assert graph.output_shapes == ((1, 5, 64, 64),)


def test_open_channels_come_from_the_convolution(tmp_path: Path) -> None:
    graph = read_onnx(cases.save(dynamic(["n", "c", "h", "w"]), tmp_path / "m.onnx"))
    assert graph.input_shapes == ((1, 3, 64, 64),)


def test_declared_sizes_win(tmp_path: Path) -> None:
    path = cases.save(dynamic(["n", 3, "h", "w"]), tmp_path / "m.onnx")
    assert read_onnx(path, input_shapes={"x": (2, 3, 10, 12)}).output_shapes == ((2, 5, 10, 12),)
    assert read_onnx(path, input_shapes={0: (1, 3, 10, 12)}).output_shapes == ((1, 5, 10, 12),)


def test_another_guess_is_tried_on_contradiction(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    proto = cases.model(nodes, {"x": [1, 4, "h", "h"]}, ["y"], [cases.constant("shape", [1, 4, 224 * 224])])
    assert read_onnx(cases.save(proto, tmp_path / "m.onnx")).input_shapes == ((1, 4, 224, 224),)


def test_a_symbol_has_one_value(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    proto = cases.model(nodes, {"a": [1, 3, "h", "w"], "b": [1, 3, "h", "w"]}, ["y"])
    path = cases.save(proto, tmp_path / "m.onnx")
    assert read_onnx(path, input_shapes={"b": (1, 3, 6, 8)}).input_shapes == ((1, 3, 6, 8), (1, 3, 6, 8))
    with pytest.raises(InputShapeError, match="contradicts"):
        read_onnx(path, input_shapes={"a": (1, 3, 6, 8), "b": (1, 3, 6, 9)})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1, 3, 8, 8)}, "no input 'z'"),
        ({7: (1, 3, 8, 8)}, "no input 7"),
        ({"x": (1, 3, 8)}, "expected 4 sizes"),
        ({"x": (1, 4, 8, 8)}, "contradicts"),
        ({"x": (1, 3, 0, 8)}, "positive"),
        ({"x": (1, 3, 2**40, 2**40)}, "fit in memory"),
    ],
)
def test_wrong_declarations(shapes: dict[Any, tuple[int, ...]], message: str, tmp_path: Path) -> None:
    path = cases.save(dynamic(["n", 3, "h", "w"]), tmp_path / "m.onnx")
    with pytest.raises(InputShapeError, match=message):
        read_onnx(path, input_shapes=shapes)


def test_sizes_that_nothing_fits_ask_for_a_declaration(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    proto = cases.model(nodes, {"x": [1, 4, "h", "h"]}, ["y"], [cases.constant("shape", [1, 4, 9973])])
    with pytest.raises(InputShapeError, match="--input"):
        read_onnx(cases.save(proto, tmp_path / "m.onnx"))


# -------------------------------------------------------------------------------------------------- shape arithmetic


def test_arithmetic_on_sizes_is_folded(tmp_path: Path) -> None:
    """Every operator that exporters build sizes from, between a tensor and a Resize."""
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "two"], ["h"]),
        node("Slice", ["s", "three1", "four1", "zero1"], ["w1"]),
        node("Cast", ["h"], ["hf"], to=TensorProto.FLOAT),
        node("Mul", ["hf", "double"], ["hh"]),
        node("Floor", ["hh"], ["hfl"]),
        node("Cast", ["hfl"], ["hi"], to=TensorProto.INT64),
        node("Unsqueeze", ["hi", "zero1"], ["h1"]),
        node("Mul", ["w1", "four1"], ["w4"]),
        node("Div", ["w4", "two1"], ["w2"]),
        node("Concat", ["one1", "three1", "h1", "w2"], ["t"], axis=0),
        node("Equal", ["t", "one1"], ["eq"]),
        node("ConstantOfShape", ["four1"], ["fill"], value=numpy_helper.from_array(np.array([1], np.int64))),
        node("Where", ["eq", "fill", "t"], ["t2"]),
        node("Range", ["zero", "two", "one"], ["r"]),
        node("ReduceProd", ["r"], ["p"], keepdims=0),
        node("Add", ["t2", "p"], ["t3"]),
        node("Size", ["x"], ["n"]),
        node("Sub", ["n", "n"], ["z"]),
        node("Add", ["t3", "z"], ["t4"]),
        node("Resize", ["x", "", "", "t4"], ["a"], mode="nearest"),
        node("Expand", ["bias", "t4"], ["e"]),
        node("Add", ["a", "e"], ["b"]),
        node("Conv", ["b", "w"], ["y"]),
    ]
    constants = [
        *(cases.constant(n, v) for n, v in {"two": 2, "zero": 0, "one": 1}.items()),
        *(cases.constant(f"{n}1", [v]) for n, v in {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4}.items()),
        cases.constant("double", 2.2, np.float32),
        cases.weight("bias", 1, 3, 1, 1),
        cases.weight("w", 2, 3, 1, 1),
    ]  # fmt: skip
    graph = read_onnx(cases.save(cases.model(nodes, {"x": [1, 3, 8, 6]}, ["y"], constants), tmp_path / "m.onnx"))
    assert not any(isinstance(op, ir.Unknown) for op in operations(graph))
    assert graph.output_shapes == ((1, 2, 17, 12),)


@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_that_the_file_decides_is_followed(flag: bool, tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        info = [helper.make_tensor_value_info(f"out_{op}", TensorProto.FLOAT, None)]
        return helper.make_graph([helper.make_node(op, ["x"], [f"out_{op}"])], op, [], info)

    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Equal", ["n", "one"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("Relu"), else_branch=branch("Tanh")),
    ]
    constants = [cases.constant("zero", 0), cases.constant("one", 1)]
    proto = cases.model(nodes, {"x": [1 if flag else 2, 3, 8, 8]}, ["y"], constants)
    graph = read_onnx(cases.save(proto, tmp_path / "m.onnx"))
    assert only(graph, ir.Pointwise).function == ("relu" if flag else "tanh")


# ----------------------------------------------------------------------------------------------------------- idioms


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


FUNCTIONS: dict[str, tuple[nn.Module, str, tuple[float, ...]]] = {
    "silu": (nn.SiLU(), "silu", ()),
    "silu by exp": (Call(lambda x: x / (1 + torch.exp(-x))), "silu", ()),
    "gelu": (nn.GELU(), "gelu", ()),
    "gelu by erf": (Call(lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))), "gelu", ()),
    "gelu by tanh": (
        Call(lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))),
        "gelu",
        (1.0,),
    ),
    "tanh gelu": (nn.GELU(approximate="tanh"), "gelu", (1.0,)),
    "mish": (nn.Mish(), "mish", ()),
    "softplus": (nn.Softplus(), "softplus", ()),
    "hardswish": (nn.Hardswish(), "hardswish", ()),
    "hardsigmoid": (nn.Hardsigmoid(), "hardsigmoid", ()),
    "elu": (nn.ELU(), "elu", ()),
    "elu by where": (Call(lambda x: torch.where(x > 0, x, torch.exp(x) - 1)), "elu", ()),
    "celu": (nn.CELU(), "celu", ()),
    "selu": (nn.SELU(), "selu", ()),
    "relu6": (nn.ReLU6(), "relu6", ()),
    "leaky": (nn.LeakyReLU(0.2), "leaky_relu", (0.2,)),
    "leaky by max": (Call(lambda x: torch.max(x, 0.2 * x)), "leaky_relu", (0.2,)),
    "softsign": (nn.Softsign(), "softsign", ()),
    "tanhshrink": (nn.Tanhshrink(), "tanhshrink", ()),
    "logsigmoid": (nn.LogSigmoid(), "log_sigmoid", ()),
}


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 13), (False, 18), (True, None)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_however_they_are_spelled(name: str, dynamo: bool, opset: int | None, tmp_path: Path) -> None:
    module, function, parameters = FUNCTIONS[name]
    graph = read_onnx(export(module, (1, 4, 8, 8), tmp_path / "m.onnx", dynamo=dynamo, opset_version=opset))
    found = only(graph, ir.Pointwise)
    assert (found.function, found.parameters) == (function, pytest.approx(parameters, rel=1e-6))
    assert len(graph.nodes) == 3


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * torch.sigmoid(1.702 * x),
        lambda x: x * 0.5 * (1 + torch.erf(x)),
        lambda x: x * torch.sigmoid(x) * 0.9,
        lambda x: x * torch.tanh(x),
    ],
)
def test_what_only_looks_like_an_activation_is_not_taken_for_one(function: Any, tmp_path: Path) -> None:
    graph = read_onnx(export(Call(function), (1, 4, 8, 8), tmp_path / "m.onnx", dynamo=False))
    names = {op.function for op in operations(graph) if isinstance(op, ir.Pointwise)}
    assert names <= {"sigmoid", "erf", "tanh"} or names == {"silu"}
    x = cases.RNG(0).standard_normal((4, 8, 8))
    (found,) = interpret(graph, {graph.nodes[graph.inputs[0]].name: x})
    np.testing.assert_allclose(found, function(torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-5)


def test_an_idiom_whose_inside_is_read_elsewhere_stays_as_it_is(tmp_path: Path) -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.sigmoid(x)
        return x * gate, gate

    graph = read_onnx(export(Call(function), (1, 4, 8, 8), tmp_path / "m.onnx", dynamo=False))
    assert [op.function for op in operations(graph) if isinstance(op, ir.Pointwise)] == ["sigmoid"]
    assert only(graph, ir.Join).kind == "mul"


def channels_first_layer_norm(x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6)


NORMS: dict[str, tuple[nn.Module, str]] = {
    "layer": (nn.Sequential(nn.Conv2d(4, 8, 1), Call(lambda x: x.permute(0, 2, 3, 1)), nn.LayerNorm(8)), "layer"),
    "layer, channels first": (nn.Sequential(nn.Conv2d(4, 8, 1), Call(channels_first_layer_norm)), "layer"),
    "group": (nn.GroupNorm(2, 4), "group"),
    "instance": (nn.InstanceNorm2d(4, affine=True), "instance"),
    "l2": (Call(lambda x: F.normalize(x, dim=1)), "l2"),
}


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 13), (False, 18), (True, None)])
@pytest.mark.parametrize("name", NORMS)
def test_normalisations_however_they_are_spelled(name: str, dynamo: bool, opset: int | None, tmp_path: Path) -> None:
    module, kind = NORMS[name]
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    graph = read_onnx(export(module, (1, 4, 6, 7), tmp_path / "m.onnx", dynamo=dynamo, opset_version=opset))
    assert only(graph, ir.Normalize).kind == kind
    x = cases.RNG(0).standard_normal((1, 4, 6, 7)).astype(np.float32)
    (found,) = interpret(graph, {graph.nodes[graph.inputs[0]].name: x[0]})
    with torch.no_grad():
        expected = module(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(found, matched(found, expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 18), (True, None), (True, 23)])
def test_attention(dynamo: bool, opset: int | None, tmp_path: Path) -> None:
    module, shape = NETS["tokens"]
    graph = read_onnx(export(module, shape, tmp_path / "m.onnx", dynamo=dynamo, opset_version=opset))
    found = only(graph, ir.Attention)
    assert (found.heads, found.biased, found.cross) == (2, False, False)
    assert found.scale == pytest.approx(8**-0.5, rel=1e-6)


# ------------------------------------------------------------------------------------------------- not analysed


def unknown(graph: ir.Graph) -> ir.Unknown:
    return next(op for op in operations(graph) if isinstance(op, ir.Unknown))


def test_operators_of_other_domains_are_unknown_and_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Foo", ["x"], ["h"], domain="com.microsoft"), helper.make_node("Relu", ["h"], ["y"])]
    proto = cases.model(nodes, {"x": [1, 3, 8, 8]}, ["y"], domains=("com.microsoft",))
    proto.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 3, 16, 16]))
    graph = read_onnx(cases.save(proto, tmp_path / "m.onnx"))
    assert unknown(graph).operator == "com.microsoft::Foo"
    assert graph.output_shapes == ((1, 3, 16, 16),)
    assert only(graph, ir.Pointwise).function == "relu"


def test_a_value_of_unknown_shape_reaches_the_output_as_unknown(tmp_path: Path) -> None:
    nodes = [helper.make_node("Foo", ["x"], ["h"], domain="other"), helper.make_node("Relu", ["h"], ["y"])]
    graph = read_onnx(
        cases.save(cases.model(nodes, {"x": [1, 3, 8, 8]}, ["y"], domains=("other",)), tmp_path / "m.onnx")
    )
    assert unknown(graph).operator == "other::Foo"
    assert "shape" in unknown(graph).reason


@pytest.mark.parametrize(
    ("node", "constants", "reason"),
    [
        (
            helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=2),
            [cases.weight("w", 1, 6, 3), cases.weight("r", 1, 6, 2)], "state",
        ),
        (helper.make_node("TopK", ["x", "k"], ["y", "i"]), [cases.constant("k", [2])], "sorts"),
        (helper.make_node("NonZero", ["x"], ["i"]), [], "depends on the data"),
        (helper.make_node("LRN", ["x"], ["y"], size=3), [], "neighbouring channels"),
    ],
)  # fmt: skip
def test_standard_operators_without_meaning_say_why(
    node: Any, constants: list[Any], reason: str, tmp_path: Path
) -> None:
    proto = cases.model([node], {"x": [4, 1, 3]}, [node.output[0]], constants)
    assert reason in unknown(read_onnx(cases.save(proto, tmp_path / "m.onnx"))).reason


def test_parameters_computed_from_data_are_unknown(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Clip", ["x", "m"], ["y"]),
    ]
    graph = read_onnx(cases.save(cases.model(nodes, {"x": [1, 3, 8, 8]}, ["y"]), tmp_path / "m.onnx"))
    assert "computed from data" in unknown(graph).reason
    assert graph.output_shapes == ((1, 3, 8, 8),)


# ------------------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.node[0].input.__setitem__(0, "nowhere"), "before any node makes it"),
        (lambda g: g.node[1].output.__setitem__(0, g.node[0].output[0]), "a second time"),
        (lambda g: g.output[0].__setattr__("name", "nowhere"), "no node makes the output"),
        (lambda g: g.initializer[0].dims.__setitem__(0, 2**50), "fit in memory"),
        (lambda g: g.initializer[0].dims.__setitem__(0, 9), "its shape needs"),
        (lambda g: g.node[0].attribute.append(helper.make_attribute("group", 5)), "groups"),
        (lambda g: g.node[0].attribute.append(helper.make_attribute("dilations", [0, 1])), "positive numbers"),
        (lambda g: g.node[0].attribute.append(helper.make_attribute("group", "x")), "expected an integer"),
        (lambda g: g.node[0].attribute.append(helper.make_attribute("pads", [1])), "pads"),
        (lambda g: g.node[0].input.extend(["w"] * 5), "inputs"),
        (lambda g: g.input[0].type.tensor_type.shape.dim[2].__setattr__("dim_value", 2**60), "fits in memory"),
    ],
)
def test_damage_is_one_clear_line(change: Any, message: str, tmp_path: Path) -> None:
    proto = cases.asymmetric()
    change(proto.graph)
    with pytest.raises(FormatError, match=message) as caught:
        read_onnx(cases.save(proto, tmp_path / "m.onnx"))
    assert "m.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", cases.FOREIGN)
def test_truncated_files_are_format_errors(name: str, tmp_path: Path) -> None:
    content = cases.FOREIGN[name]().SerializeToString()
    path = tmp_path / "m.onnx"
    for share in range(0, 100, 5):
        path.write_bytes(content[: len(content) * share // 100])
        with pytest.raises(FormatError):
            read_onnx(path)


SMALL = {name: make().SerializeToString() for name, make in cases.FOREIGN.items()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(SMALL)),
    flips=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_flipped_bytes_give_a_graph_or_a_format_error(name: str, flips: list[tuple[int, int]], tmp_path: Path) -> None:
    content = bytearray(SMALL[name])
    for place, value in flips:
        content[place % len(content)] = value
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    message = ""
    try:
        read_onnx(path)
    except EvenlyError as error:
        message = str(error)
    assert "\n" not in message


def test_a_scale_with_more_phases_than_can_be_listed_is_unknown(tmp_path: Path) -> None:
    proto = cases.resized(mode="linear", scales=[1.0, 4095.9997])
    graph = read_onnx(cases.save(proto, tmp_path / "m.onnx"))
    unknown = only(graph, ir.Unknown)
    assert unknown.operator == "onnx.Resize"
    assert "interpolating 12 samples to 49151 has" in unknown.reason


# ------------------------------------------------------------------------------------------------- reads by position


class Interpolated(nn.Module):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(torch.tanh(x), **self.how)


INTERPOLATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "twice": (8, {"scale_factor": 2, "mode": "linear"}),
    "corners": (10, {"size": 19, "mode": "linear", "align_corners": True}),
    "ratio": (10, {"size": 17, "mode": "linear"}),
    "rounded": (11, {"scale_factor": 1.5, "mode": "linear"}),
    "smaller": (16, {"size": 12, "mode": "linear"}),
    "nearest": (10, {"size": 25, "mode": "nearest-exact"}),
}


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolation_of_one_axis_that_is_written_as_reads_by_index(name: str, tmp_path: Path) -> None:
    from evenly.graph.torch import read_module

    size, how = INTERPOLATIONS[name]
    module, shape = Interpolated(**how), (1, 3, size)
    path = export(module, shape, tmp_path / "m.onnx", dynamo=True)
    assert any(n.op_type == "GatherND" for n in onnx.load(path).graph.node)
    graph = read_onnx(path)
    expected, found = (only(g, ir.Resize) for g in (read_module(module, (torch.zeros(shape),)), graph))
    assert attributes(found) == attributes(expected)
    x = cases.RNG(2).standard_normal(shape).astype(np.float32)
    (y,) = interpret(graph, {graph.nodes[graph.inputs[0]].name: x[0]})
    np.testing.assert_allclose(y, module(torch.from_numpy(x))[0].numpy(), atol=1e-5)


def test_interpolation_whose_size_is_left_open(tmp_path: Path) -> None:
    size = {2: torch.export.Dim("t", min=4, max=64)}
    module = Interpolated(scale_factor=2, mode="linear")
    path = export(module, (1, 3, 8), tmp_path / "m.onnx", dynamo=True, dynamic_shapes=(size,))
    for length in (8, 24):
        graph = read_onnx(path, input_shapes={0: (1, 3, length)})
        assert only(graph, ir.Resize).axes == (axis_resize(length, 2 * length, "linear"),)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(2, 40), outputs=st.integers(2, 90), corners=st.booleans(), moved=st.integers(0, 89)
)  # fmt: skip
def test_positions_name_their_interpolation(size: int, outputs: int, corners: bool, moved: int) -> None:
    n, one, half = np.arange(outputs, dtype=np.float32), np.float32(1), np.float32(0.5)
    read = n * np.float32((size - 1) / (outputs - 1)) if corners else (n + half) * np.float32(size / outputs) - half
    read = read.clip(0, size - 1)
    low = np.minimum(read.astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    weight = (read - low).clip(0, one)
    coordinate = "align_corners" if corners else "half_pixel"
    found = positions.interpolation(size, low, high, weight.astype(np.float64))
    assert found is not None
    assert found[1] == "linear"
    # The formulas agree where the sizes do.
    assert found[0] == axis_resize(size, outputs, "linear", coordinate=coordinate) or size == outputs
    # One position elsewhere is another map.
    wrong = weight.astype(np.float64).copy()
    place = moved % outputs
    wrong[place] = wrong[place] - 0.4 if wrong[place] > 0.5 else wrong[place] + 0.4
    if high[place] > low[place]:
        assert positions.interpolation(size, low, high, wrong) is None


def gathered(index: Any, shape: list[int | str], op: str = "GatherND", **how: Any) -> onnx.ModelProto:
    """Positions of a network's field, read by constant indices."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Transpose", ["y"], ["t"], perm=[2, 3, 0, 1]),
        helper.make_node(op, ["t", "i"], ["g"], **how),
    ]
    weights = [cases.weight("w", 3, 2, 1, 1), cases.constant("i", index)]
    return cases.model(nodes, {"x": shape}, ["g"], weights)


def test_reads_by_a_grid_of_indices(tmp_path: Path) -> None:
    rows, columns = np.repeat(np.arange(4), 2), np.arange(10) * 6 // 10
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
    graph = read_onnx(cases.save(gathered(grid, [1, 2, 4, 6]), tmp_path / "m.onnx"))
    assert only(graph, ir.Resize).axes == (
        axis_resize(4, 8, "nearest", coordinate="asymmetric", nearest="floor"),
        axis_resize(6, 10, "nearest", coordinate="asymmetric", nearest="floor"),
    )
    assert not any(isinstance(op, ir.Unknown) for op in operations(graph))


def test_reads_by_regular_indices_are_a_slice(tmp_path: Path) -> None:
    graph = read_onnx(cases.save(gathered([[-3], [-2]], [1, 2, 4, 6]), tmp_path / "m.onnx"))
    assert only(graph, ir.Slice) == ir.Slice((1, 0), (1, 1))


@pytest.mark.parametrize(
    "index",
    [[[0], [3], [1]], np.stack([[0, 1, 2], [0, 1, 2]], -1), np.zeros((2, 3, 4, 5, 4), int)],
    ids=["no order", "a diagonal", "no grid"],
)
def test_reads_in_no_regular_order_are_unknown(index: Any, tmp_path: Path) -> None:
    graph = read_onnx(cases.save(gathered(index, [1, 2, 4, 6]), tmp_path / "m.onnx"))
    assert any(isinstance(op, ir.Unknown) for op in operations(graph))


@pytest.mark.parametrize(("op", "index"), [("GatherND", [[4]]), ("Gather", [0, 4])])
def test_reads_beyond_the_end_are_damage(op: str, index: Any, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="reads index 4 of a dimension of size 4"):
        read_onnx(cases.save(gathered(index, [1, 2, 4, 6], op), tmp_path / "m.onnx"))


# --------------------------------------------------------------------------------------------------- recurrent layers


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.RNNBase], **how: Any) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv1d(2, 4, 3), kind(4, 4, **how)
        width = 8 if how.get("bidirectional") else 4
        self.up = nn.ConvTranspose1d(width, 2, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.inner.batch_first:
            return self.up(self.inner(x.transpose(1, 2))[0].transpose(1, 2))  # type: ignore[no-any-return]
        return self.up(self.inner(x.permute(2, 0, 1))[0].permute(1, 2, 0))  # type: ignore[no-any-return]


@pytest.mark.parametrize(  # PyTorch's newer exporter has no entry for RNN
    ("kind", "dynamo"), [(nn.LSTM, False), (nn.GRU, False), (nn.RNN, False), (nn.LSTM, True), (nn.GRU, True)]
)
@pytest.mark.parametrize(
    "how", [{"num_layers": 2}, {"bidirectional": True}, {"batch_first": True}], ids=lambda how: next(iter(how))
)
def test_positions_stay_positions_behind_recurrent_layers(
    kind: Callable[..., nn.RNNBase], how: dict[str, Any], dynamo: bool, tmp_path: Path
) -> None:
    from evenly.graph.torch import read_module

    module, shape = Recurrent(kind, **how).eval(), (1, 2, 12)
    expected = read_module(module, (torch.zeros(shape),))
    graph = read_onnx(export(module, shape, tmp_path / "m.onnx", dynamo=dynamo))
    kept = [[n for n in g.nodes if not isinstance(n.op, ir.Output)] for g in (graph, expected)]
    assert [(n.name, type(n.op), n.inputs, n.channels, n.sizes) for n in kept[0]][1:] == [
        (n.name, type(n.op), n.inputs, n.channels, n.sizes) for n in kept[1]
    ][1:]
    assert only(graph, ir.Unknown).reason == only(expected, ir.Unknown).reason


@pytest.mark.parametrize("layout", [0, 1])
def test_last_states_of_a_recurrent_layer_have_no_positions(layout: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1] if layout else [2, 0, 1]),
        helper.make_node("GRU", ["t", "w", "r"], ["", "h"], hidden_size=5, direction="bidirectional", layout=layout),
    ]
    weights = [cases.weight("w", 2, 15, 3), cases.weight("r", 2, 15, 5)]
    graph = read_onnx(cases.save(cases.model(nodes, {"x": [1, 3, 9]}, ["h"], weights), tmp_path / "m.onnx"))
    (node,) = [n for n in graph.nodes if isinstance(n.op, ir.Unknown)]
    assert (node.channels, node.sizes) == (10, ())
    assert graph.output_shapes == ((1, 2, 5) if layout else (2, 1, 5),)


# -------------------------------------------------------------------------------------------------------------- names


class Smoothed(nn.Module):
    """Two convolutions by one buffer, which the exporter expands and stores once for all modules."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", torch.tensor([1.0, 2.0, 1.0]).reshape(1, 1, 3) / 4)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.taps.expand(3, 1, 3)
        return F.conv1d(torch.tanh(F.conv_transpose1d(x, taps, stride=2, groups=3)), taps, stride=2, groups=3)


def test_layers_whose_weights_are_stored_once_have_names_of_their_own(tmp_path: Path) -> None:
    from evenly.graph.torch import read_module

    module, shape = nn.Sequential(Smoothed(), nn.Conv1d(3, 3, 3), Smoothed()), (1, 3, 16)
    path = export(module, shape, tmp_path / "m.onnx", dynamo=True)
    graphs = read_onnx(path), read_module(module, (torch.zeros(shape),))
    found, expected = ([n.name for n in g.nodes if isinstance(n.op, ir.Conv | ir.ConvTranspose)] for g in graphs)
    assert found == expected == ["0", "0#2", "1", "2", "2#2"]


def test_a_layer_that_the_exporter_merged_with_its_normalisation_keeps_its_name(tmp_path: Path) -> None:
    from evenly.graph.torch import read_module

    convs = [nn.ConvTranspose1d(3, 4, 4, stride=2), nn.ConvTranspose1d(4, 4, 4, stride=2)]
    layers = [layer for conv in convs for layer in (spectral_norm(conv), nn.BatchNorm1d(4, eps=1e-3), nn.ReLU())]
    module, shape = nn.Sequential(*layers).eval(), (1, 3, 16)
    path = export(module, shape, tmp_path / "m.onnx", dynamo=True)
    assert not any(n.op_type == "BatchNormalization" for n in onnx.load(path).graph.node)
    graphs = read_onnx(path), read_module(module, (torch.zeros(shape),))
    found, expected = ([n.name for n in g.nodes if isinstance(n.op, ir.ConvTranspose)] for g in graphs)
    assert found == expected == ["0", "3"]
