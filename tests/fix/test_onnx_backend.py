"""ONNX files looked at, run, edited and saved for repairs."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tests.graph import onnx_cases as cases
from torch import nn

from evenly.errors import (
    EvenlyError,
    FormatError,
    MissingDependencyError,
    OutputError,
    UntrustedError,
    UsageError,
    VerificationError,
)
from evenly.fix import _onnx_saving, _onnx_session
from evenly.fix.backend import Edit, Layer
from evenly.fix.onnx_backend import OnnxBackend
from evenly.graph import ir
from evenly.graph.onnx import read_onnx

node = helper.make_node
RNG = np.random.default_rng


def export(module: nn.Module, shape: tuple[Any, ...], path: Path, **options: Any) -> Path:
    """Export without a word, on zeros of a shape or on tensors that are given."""
    args = shape if shape and isinstance(shape[0], torch.Tensor) else (torch.zeros(shape),)
    logging.getLogger("torch.onnx").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), args, str(path), verbose=False, **options)
    return path


def keep(layer: Layer, **changes: Any) -> Edit:
    """The edit that changes nothing, but for what is said."""
    same = Edit(layer.name, layer.weight, layer.bias, layer.kernel, layer.padding, layer.output_padding)
    return replace(same, **changes)


def enlarged(layer: Layer) -> Edit:
    """A larger kernel of the same effect: zeros around the old one."""
    rank = len(layer.kernel)
    weight = np.pad(layer.weight, ((0, 0), (0, 0), *((1, 1),) * rank))
    pads = tuple((a + d, b + d) for (a, b), d in zip(layer.padding, layer.dilation, strict=True))
    return keep(layer, weight=weight, kernel=tuple(k + 2 for k in layer.kernel), padding=pads)


def reference(layer: Layer, x: np.ndarray, weight: Any = None, bias: Any = None) -> np.ndarray:
    """What the layer makes of an input, by PyTorch, from the fields of the layer alone."""
    rank = len(layer.kernel)
    w = torch.tensor(np.asarray(layer.weight if weight is None else weight, np.float64))
    b = layer.bias if bias is None else bias
    t = torch.tensor(np.asarray(x, np.float64))
    if layer.kind == "transposed":
        act = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        y = act(t, w, stride=layer.stride, dilation=layer.dilation, groups=layer.groups)
        crops = [(-a, e - c) for (a, c), e in zip(layer.padding, layer.output_padding, strict=True)]
    else:
        t = F.pad(t, [p for pair in reversed(layer.padding) for p in pair])
        act = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        y = act(t, w, stride=layer.stride, dilation=layer.dilation, groups=layer.groups)
        crops = [(0, 0)] * rank
    y = F.pad(y, [p for pair in reversed(crops) for p in pair])
    if b is not None:
        y = y + torch.tensor(np.asarray(b, np.float64)).reshape(-1, *(1,) * rank)
    if layer.kind == "subpixel":
        n, sizes = len(y), y.shape[2:]
        y = y.reshape(n, -1, *layer.factor, *sizes)
        y = y.permute(0, 1, *(d for i in range(rank) for d in (2 + rank + i, 2 + i)))
        y = y.reshape(n, -1, *(s * f for s, f in zip(sizes, layer.factor, strict=True)))
    return y.numpy()


def assert_described(backend: OnnxBackend, batch: Any, tolerance: float = 1e-4) -> None:
    """What the fields of the layers say is what onnxruntime does."""
    layers = backend.layers()
    assert layers
    run = backend.run(batch, [layer.name for layer in layers])
    for layer in layers:
        expected, found = reference(layer, run.inputs[layer.name]), run.results[layer.name]
        assert found.shape == expected.shape, layer.name
        np.testing.assert_allclose(found, expected, atol=tolerance * max(1, np.abs(expected).max()), err_msg=layer.name)


def tensors(model: ModelProto) -> dict[str, bytes]:
    return {t.name: t.SerializeToString() for t in model.graph.initializer}


def without_tensors(model: ModelProto) -> bytes:
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.initializer[:]
    return copy.SerializeToString()


def conv(
    weight: np.ndarray, *, nodes: Sequence[Any] = (), sizes: Sequence[Any] = (9, 10), opset: int = 17, **attributes: Any
) -> ModelProto:
    """One convolution ``x -> y`` of a weight, with other nodes behind it."""
    rank = weight.ndim - 2
    op = attributes.pop("op", "Conv")
    channels = weight.shape[0] if op == "ConvTranspose" else weight.shape[1] * attributes.get("group", 1)
    proto = cases.model(
        [node(op, ["x", "w"], ["c" if nodes else "y"], name="conv", **attributes), *nodes],
        {"x": [1, channels, *sizes[:rank]]},
        ["y"],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
        opset=opset,
    )
    return declared(proto, rank + 2)


def declared(proto: ModelProto, rank: int = 4) -> ModelProto:
    """With the rank of its outputs, which ``onnx.checker`` insists on."""
    for value in proto.graph.output:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [None] * rank))
    return proto


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------------------------------------ what the layers are

FILES = {
    "keras": cases.keras,
    "asymmetric": cases.asymmetric,
    "opset7": cases.opset7,
    "opset9": cases.opset9,
    "quantised": cases.quantised,
    "paddle": cases.paddle,
    "CRD": lambda: cases.subpixel("CRD"),
    "DCR": lambda: cases.subpixel("DCR"),
}


@pytest.mark.parametrize("name", FILES)
def test_fields_names_and_identity_edits_of_files_from_elsewhere(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    proto = FILES[name]()
    onnx.save(proto, path)
    backend = OnnxBackend(path)
    assert_described(backend, cases.random_input(proto))
    assert_named_as_check_does(backend, path)
    same = backend.edited([keep(layer) for layer in backend.layers() if layer.fixed is None])
    assert same.model.SerializeToString() == proto.SerializeToString()


def assert_named_as_check_does(backend: OnnxBackend, path: Path) -> None:
    graph = read_onnx(path)
    names = [n.name for n in graph.nodes if isinstance(n.op, ir.Conv | ir.ConvTranspose)]
    assert [layer.name for layer in backend.layers()] == names


class Shuffle1d(nn.Module):
    """1-D sub-pixel convolution: reshape, transpose, reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Conv1d(2, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(x)
        return y.view(y.shape[0], 2, 3, -1).permute(0, 1, 3, 2).reshape(y.shape[0], 2, -1)


NETS = {name: cases.torch_nets()[name] for name in ("odd", "shuffle", "volume", "residual", "vocoder", "dilated")}
NETS["shuffle1d"] = Shuffle1d(), (1, 2, 9)
KINDS = {"odd": "transposed", "shuffle": "subpixel", "shuffle1d": "subpixel", "residual": "convolution"}


EXPORTS = [(name, False) for name in NETS] + [(name, True) for name in ("odd", "shuffle", "residual", "shuffle1d")]


@pytest.mark.parametrize(("name", "dynamo"), EXPORTS)
def test_files_of_both_pytorch_exporters(name: str, dynamo: bool, tmp_path: Path) -> None:
    module, shape = NETS[name]
    path = export(module, shape, tmp_path / "m.onnx", dynamo=dynamo)
    backend = OnnxBackend(path)
    assert_described(backend, noise(*shape))
    assert_named_as_check_does(backend, path)
    assert backend.layers()[-1].kind == KINDS.get(name, backend.layers()[-1].kind)
    free = [layer for layer in backend.layers() if layer.fixed is None]
    assert backend.edited([keep(layer) for layer in free]).model == onnx.load(path, load_external_data=False)
    x = noise(*shape)
    before, after = backend.run(x).outputs, backend.edited([enlarged(layer) for layer in free]).run(x).outputs
    for value, other in zip(before.values(), after.values(), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)


def test_dynamic_subpixel_of_the_older_exporter(tmp_path: Path) -> None:
    axes = {"x": {0: "n", 2: "l"}}
    path = export(Shuffle1d(), (2, 2, 9), tmp_path / "m.onnx", dynamo=False, input_names=["x"], dynamic_axes=axes)
    backend = OnnxBackend(path)
    assert [(layer.kind, layer.factor) for layer in backend.layers()] == [("subpixel", (3,))]
    assert_described(backend, noise(3, 2, 11))


@pytest.mark.parametrize("order", ["CRD", "DCR"])
@pytest.mark.parametrize("spelling", ["DepthToSpace", "Reshape"])
def test_subpixel_weights_are_in_the_order_of_pytorch(order: str, spelling: str) -> None:
    if spelling == "DepthToSpace":
        behind = [node("DepthToSpace", ["c"], ["y"], blocksize=2, mode=order)]
    else:
        view, perm = ([1, 3, 2, 2, 5, 6], [0, 1, 4, 2, 5, 3]) if order == "CRD" else (
            [1, 2, 2, 3, 5, 6], [0, 3, 4, 1, 5, 2]
        )  # fmt: skip
        behind = [
            node("Reshape", ["c", "view"], ["v"]),
            node("Transpose", ["v"], ["t"], perm=perm),
            node("Reshape", ["t", "target"], ["y"]),
        ]
    proto = conv(noise(12, 3, 3, 3), nodes=behind, sizes=(5, 6), pads=[1] * 4)
    if spelling == "Reshape":
        proto.graph.initializer.extend([cases.constant("view", view), cases.constant("target", [1, 3, 10, 12])])
    backend = OnnxBackend(proto)
    (layer,) = backend.layers()
    assert (layer.kind, layer.factor) == ("subpixel", (2, 2))
    x = noise(1, 3, 5, 6, seed=1)
    assert_described(backend, x)
    weight, bias = noise(12, 3, 3, 3, seed=2), noise(12, seed=3)
    edited = backend.edited([keep(layer, weight=weight, bias=bias)])
    np.testing.assert_allclose(edited.run(x).outputs["y"], reference(layer, x, weight, bias), atol=1e-4)
    np.testing.assert_array_equal(edited.layers()[0].weight, weight)


def test_a_shuffle_with_another_reader_is_none() -> None:
    behind = [node("DepthToSpace", ["c"], ["y"], blocksize=2, mode="CRD"), node("Relu", ["c"], ["z"])]
    proto = conv(noise(12, 3, 3, 3), nodes=behind)
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    assert OnnxBackend(proto).layers()[0].kind == "convolution"


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_computed_padding_is_resolved_and_survives_a_larger_kernel(auto: str, op: str, stride: int) -> None:
    proto = conv(noise(3, 3, 4, 2), op=op, auto_pad=auto, strides=[stride] * 2)
    backend, x = OnnxBackend(proto), noise(1, 3, 9, 10, seed=1)
    assert_described(backend, x)
    grown = backend.edited([enlarged(backend.layers()[0])])
    attributes = {a.name for a in grown.model.graph.node[0].attribute}
    assert "auto_pad" not in attributes
    assert "pads" in attributes
    np.testing.assert_allclose(grown.run(x).outputs["y"], backend.run(x).outputs["y"], atol=1e-5)


def test_padding_by_an_open_size_keeps_its_kernel() -> None:
    proto = conv(noise(3, 3, 3, 3), sizes=("h", "w"), auto_pad="SAME_UPPER", strides=[2, 2])
    backend = OnnxBackend(proto)
    (layer,) = backend.layers()
    backend.edited([keep(layer, weight=layer.weight * 2)])
    with pytest.raises(UsageError, match="auto_pad"):
        backend.edited([enlarged(layer)])


# ------------------------------------------------------------------------------------------------------ edits in place


def test_an_edit_changes_its_tensors_alone(tmp_path: Path) -> None:
    proto = cases.asymmetric()
    proto.doc_string, proto.producer_name, proto.producer_version = "words", "hands", "1.2"
    proto.metadata_props.add(key="author", value="me")
    proto.graph.node[1].doc_string = "of the node"
    backend = OnnxBackend(proto)
    layer = backend.layers()[1]
    edited = backend.edited([keep(layer, weight=layer.weight + 1)])
    before, after = tensors(proto), tensors(edited.model)
    assert {name for name in before if before[name] != after[name]} == {"w1"}
    assert without_tensors(edited.model) == without_tensors(proto)
    assert backend.model.SerializeToString() == proto.SerializeToString()
    edited.save(tmp_path / "m.onnx")
    edited.save(tmp_path / "n.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "n.onnx").read_bytes()
    assert onnx.load(tmp_path / "m.onnx").SerializeToString() == edited.model.SerializeToString()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "n.onnx"]


def test_a_larger_transposed_kernel_and_a_new_bias() -> None:
    proto = conv(noise(3, 2, 3, 3), op="ConvTranspose", strides=[2, 2], output_shape=[17, 20])
    backend, x = OnnxBackend(proto), noise(1, 3, 9, 10, seed=1)
    (layer,) = backend.layers()
    edit = replace(enlarged(layer), bias=np.array([1.0, -2.0]))
    edited = backend.edited([edit])
    expected = backend.run(x).outputs["y"] + np.array([1, -2]).reshape(2, 1, 1)
    np.testing.assert_allclose(edited.run(x).outputs["y"], expected, atol=1e-5)
    assert list(edited.model.graph.node[0].input) == ["x", "w", "conv.bias"]
    assert edited.layers()[0].bias is not None


def test_initialisers_that_are_inputs_keep_being_inputs() -> None:
    proto = declared(cases.opset7())
    backend, batch = OnnxBackend(proto), cases.random_input(proto)
    layer = backend.layers()[1]
    edited = backend.edited([replace(enlarged(layer), bias=np.ones(2))])
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in edited.model.graph.input}
    assert shapes["v"] == [8, 2, 5, 5]
    assert [v for k, v in shapes.items() if k not in {i.name for i in proto.graph.input}] == [[2]]
    onnx.checker.check_model(edited.model)
    np.testing.assert_allclose(edited.run(batch).outputs["y"], backend.run(batch).outputs["y"] + 1, atol=1e-4)


@pytest.mark.parametrize("code", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.BFLOAT16])
@pytest.mark.parametrize("raw", [True, False])
def test_types_and_fields_of_values_stay(code: int, raw: bool) -> None:
    values = RNG(0).standard_normal((2, 1, 3, 3))
    tensor = helper.make_tensor("w", code, values.shape, values.ravel().tolist())
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "w")
    graph = helper.make_graph(
        [node("Conv", ["x", "w"], ["y"], pads=[1] * 4)],
        "g",
        [helper.make_tensor_value_info("x", code, [1, 1, 6, 6])],
        [helper.make_tensor_value_info("y", code, None)],
        [tensor],
    )
    opset = 22 if code == TensorProto.BFLOAT16 else 17
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    backend = OnnxBackend(proto)
    (layer,) = backend.layers()
    assert backend.edited([keep(layer)]).model.SerializeToString() == proto.SerializeToString()
    edited = backend.edited([keep(layer, weight=layer.weight * 2)])
    (found,) = edited.model.graph.initializer
    assert (found.data_type, found.HasField("raw_data")) == (code, raw)
    np.testing.assert_array_equal(edited.layers()[0].weight, layer.weight * 2)
    if code in (TensorProto.FLOAT, TensorProto.FLOAT16):  # onnxruntime convolves no others on the CPU
        x = noise(1, 1, 6, 6)
        assert_described(edited, x, 2e-3 if code == TensorProto.FLOAT16 else 1e-4)
        assert edited.run(x).outputs["y"].dtype == np.float32
    beyond = {TensorProto.FLOAT16: 1e5, TensorProto.DOUBLE: np.inf}.get(code, 1e39)
    with pytest.raises(UsageError, match="9 of 18 new values are not finite as"):
        backend.edited([keep(layer, weight=np.stack([np.full((1, 3, 3), beyond), layer.weight[1]]))])


def test_weights_of_constant_nodes_and_behind_identities_get_their_own() -> None:
    proto = cases.model(
        [
            node("Constant", [], ["k"], value=numpy_helper.from_array(noise(3, 3, 3, 3), "")),
            node("Conv", ["x", "k"], ["a"], name="first"),
            node("Identity", ["w"], ["i"]),
            node("Conv", ["a", "i"], ["b"], name="second"),
            node("ReduceSum", ["v"], ["s"], keepdims=0),
            node("Conv", ["b", "v"], ["c"], name="third"),
            node("Add", ["c", "s"], ["y"]),
        ],
        {"x": [1, 3, 9, 9]},
        ["y"],
        [cases.weight("w", 3, 3, 2, 2), cases.weight("v", 2, 3, 2, 2)],
    )
    backend, x = OnnxBackend(proto), noise(1, 3, 9, 9)
    assert [layer.fixed for layer in backend.layers()] == [None] * 3
    assert backend.edited([keep(layer) for layer in backend.layers()]).model.SerializeToString() == (
        proto.SerializeToString()
    )
    edited = backend.edited([keep(layer, weight=layer.weight * 2) for layer in backend.layers()])
    total = numpy_helper.to_array(proto.graph.initializer[1]).sum()
    expected = 8 * (backend.run(x).outputs["y"] - total) + total  # the sum still reads the old values
    np.testing.assert_allclose(edited.run(x).outputs["y"], expected, rtol=1e-3, atol=1e-3)
    assert [n.op_type for n in edited.model.graph.node] == ["Conv", "Conv", "ReduceSum", "Conv", "Add"]
    assert set(tensors(edited.model)) == {"first.weight", "second.weight", "third.weight", "v"}
    assert [layer.name for layer in edited.layers()] == ["first", "second", "third"]
    assert OnnxBackend(edited.model).layers()[0].name == "first"


def test_what_cannot_be_rewritten_says_why() -> None:
    condition = helper.make_graph(
        [node("Conv", ["a", "w"], ["o"], name="inner")], "t", [], [helper.make_tensor_value_info("o", 1, None)]
    )
    other = helper.make_graph([node("Identity", ["d"], ["p"])], "e", [], [helper.make_tensor_value_info("p", 1, None)])
    proto = cases.model(
        [
            node("Conv", ["x", "w"], ["a0"], name="tied1", pads=[1] * 4),
            node("Conv", ["a0", "w"], ["a"], name="tied2", pads=[1] * 4),
            node("Cast", ["h"], ["hc"], to=1),
            node("Neg", ["hc"], ["hf"]),
            node("Conv", ["a", "hf"], ["d"], name="cast", pads=[1] * 4),
            node("If", ["b"], ["e"], then_branch=condition, else_branch=other, name="choice"),
            node("Conv", ["e", "d2"], ["f"], name="dynamic"),
            node("Add", ["f", "zero"], ["g"]),
            node("Conv", ["g", "q"], ["y"], name="double"),
        ],
        {"x": [1, 3, 9, 9], "d2": [3, 3, 1, 1]},
        ["y"],
        [
            cases.weight("w", 3, 3, 3, 3), cases.constant("h", noise(3, 3, 3, 3), np.float16),
            cases.constant("zero", [0], np.float32), cases.weight("q", 3, 3, 1, 1),
        ],
    )  # fmt: skip
    proto.graph.input.append(helper.make_tensor_value_info("b", TensorProto.BOOL, []))
    backend = OnnxBackend(proto)
    reasons = {layer.name: layer.fixed for layer in backend.layers()}
    assert reasons["tied1"] == "its weights are shared with layer 'tied2'"
    assert reasons["tied2"] == "its weights are shared with layer 'tied1'"
    assert reasons["cast"] == "its weights are computed in the file (Neg)"
    assert reasons["double"] is None
    assert backend.unlisted["dynamic"] == "its weights are computed from data"
    assert "subgraph of node 'choice'" in backend.unlisted["inner"]
    with pytest.raises(UsageError, match="shared"):
        backend.edited([keep(backend.layers()[0])])
    with pytest.raises(UsageError, match="subgraph"):
        backend.run({}, ["inner"])
    quantised = OnnxBackend(cases.quantised()).layers()
    assert {layer.fixed for layer in quantised} == {"its weights are quantised"}


def test_sparse_weights_are_fixed() -> None:
    index = np.array([13, 40], np.int64)
    values = numpy_helper.from_array(np.array([2, -1], np.float32), "w")
    proto = cases.model([node("Conv", ["x", "w"], ["y"])], {"x": [1, 3, 9, 9]}, ["y"])
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(index, ""), [3, 3, 3, 3])
    proto.graph.sparse_initializer.append(sparse)
    backend = OnnxBackend(proto)
    assert backend.layers()[0].fixed == "its weights are stored sparse"
    assert_described(backend, noise(1, 3, 9, 9))


@pytest.mark.parametrize("dynamo", [False, True])
def test_weights_that_the_file_computes_are_folded_when_they_are_edited(dynamo: bool, tmp_path: Path) -> None:
    options = {"dynamo": True, "optimize": False} if dynamo else {"dynamo": False}
    path = export(*NETS["vocoder"], tmp_path / "m.onnx", **options)
    backend, before = OnnxBackend(path), onnx.load(path, load_external_data=False)
    names = ["pre", "ups.0", "ups.1", "post"]
    assert [(layer.name, layer.fixed) for layer in backend.layers()] == [(name, None) for name in names]
    assert backend.edited([keep(layer) for layer in backend.layers()]).model == before
    layer, x = backend.layers()[1], noise(*NETS["vocoder"][1], seed=2)
    edited = backend.edited([keep(layer, weight=2 * layer.weight)])
    run = backend.run(x, ["ups.0"])
    expected = reference(layer, run.inputs["ups.0"], 2 * layer.weight)
    np.testing.assert_allclose(edited.run(x, ["ups.0"]).results["ups.0"], expected, atol=1e-5)
    assert [(new.name, new.fixed) for new in edited.layers()] == [(name, None) for name in names]
    for old, new in zip(backend.layers(), edited.layers(), strict=True):
        assert (old.weight.tobytes() == new.weight.tobytes()) == (old.name != "ups.0")
    # what computed it is gone, and nothing else
    kept, left = tensors(before), tensors(edited.model)
    added = set(left) - set(kept)
    assert added == {"ups.0.weight"}
    assert all(kept[name] == left[name] for name in set(left) - added)
    gone = set(kept) - set(left)
    assert len(gone) == 2
    assert all(name.startswith("ups.0.") for name in gone)
    old_nodes, new_nodes = ([n.SerializeToString() for n in m.graph.node] for m in (before, edited.model))
    changed = [n for n in edited.model.graph.node if n.SerializeToString() not in old_nodes]
    assert [n.op_type for n in changed] == ["ConvTranspose"]
    removed = [n.op_type for n in before.graph.node if n.SerializeToString() not in new_nodes]
    assert set(removed) - {"ConvTranspose"} <= {"Constant", "Div", "Mul", "Reshape", "ReduceL2"}
    edited.save(tmp_path / "n.onnx", x)
    onnx.checker.check_model(str(tmp_path / "n.onnx"), full_check=True)


def test_a_computed_weight_of_two_layers_leaves_what_the_other_one_reads() -> None:
    proto = cases.model(
        [
            node("Mul", ["v", "g"], ["w1"]),
            node("Mul", ["v", "h"], ["w2"]),
            node("Conv", ["x", "w1"], ["a"], name="first", pads=[1] * 4),
            node("Conv", ["a", "w2"], ["y"], name="second", pads=[1] * 4),
        ],
        {"x": [1, 3, 9, 9]},
        ["y"],
        [cases.weight("v", 3, 3, 3, 3), cases.weight("g", 3, 1, 1, 1), cases.weight("h", 3, 1, 1, 1)],
    )
    backend = OnnxBackend(proto)
    first, second = backend.layers()
    edited = backend.edited([keep(first, weight=first.weight + 1)])
    assert {t.name for t in edited.model.graph.initializer} == {"v", "h", "first.weight"}
    np.testing.assert_array_equal(edited.layers()[1].weight, second.weight)


def test_without_onnxruntime_layers_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OnnxBackend(conv(noise(3, 3, 3, 3)))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (layer,) = backend.layers()
    backend.edited([keep(layer, weight=layer.weight * 2)])
    with pytest.raises(MissingDependencyError, match="pip install onnxruntime"):
        backend.run(noise(1, 3, 9, 10))


def test_convolutions_in_functions_are_not_listed() -> None:
    backend = OnnxBackend(cases.local_function())
    proto = cases.local_function()
    assert backend.edited([keep(layer) for layer in backend.layers()]).model == proto
    assert len(backend.unlisted) == 2  # two calls of one function with one convolution
    assert set(backend.unlisted.values()) == {"it stands inside a function of the model"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "other"}, "no layer"),
        ({"weight": np.zeros((3, 3, 2, 3))}, r"weight of shape \[3, 3, 2, 3\], expected \[3, 3, 3, 3\]"),
        ({"bias": np.zeros(4)}, "bias"),
        ({"padding": ((1, 1), (0, 0))}, "size of its output"),
        ({"kernel": (3,)}, "2 axes"),
        ({"phases": (2, 2)}, "weight by phase"),
        ({"weight": np.full((3, 3, 3, 3), np.nan)}, "finite"),
    ],
)
def test_edits_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    backend = OnnxBackend(conv(noise(3, 3, 3, 3)))
    with pytest.raises(UsageError, match=message):
        backend.edited([keep(backend.layers()[0], **changes)])


def test_a_layer_has_one_edit() -> None:
    backend = OnnxBackend(conv(noise(3, 3, 3, 3)))
    same = keep(backend.layers()[0])
    with pytest.raises(UsageError, match="two edits"):
        backend.edited([same, same])


# ------------------------------------------------------------------------------------------------------------- phases


def phase_reference(layer: Layer, x: np.ndarray, edit: Edit) -> np.ndarray:
    """Output ``n`` by the weights of phase ``n mod P``: every phase's convolution, of which its own places are kept."""
    geometry = replace(layer, kernel=edit.kernel, padding=edit.padding)
    result = None
    for phase in np.ndindex(*edit.phases):
        bias = layer.bias if edit.bias is None else edit.bias[phase]
        y = reference(geometry, x, edit.weight[phase], bias)
        result = np.zeros_like(y) if result is None else result
        places = (..., *(slice(r, None, p) for r, p in zip(phase, edit.phases, strict=True)))
        result[places] = y[places]
    assert result is not None
    return result


PHASES = {
    "1-D": ((2, 3, 3), (2,), (9,), 1, 17),
    "1-D open": ((2, 3, 3), (3,), ("l",), 1, 17),
    "2-D": ((2, 3, 3, 3), (2, 2), (8, 10), 1, 17),
    "2-D cut": ((2, 3, 3, 3), (2, 2), (9, 10), 1, 17),
    "2-D open": ((2, 3, 3, 3), (2, 2), ("h", "w"), 1, 17),
    "2-D dilated, not square": ((2, 3, 3, 2), (2, 3), (9, 10), 2, 17),
    "2-D one axis, open": ((2, 3, 3, 2), (1, 3), ("h", "w"), 2, 13),
    "2-D old": ((2, 3, 3, 3), (2, 2), (9, 10), 1, 7),
    "2-D old, open batch": ((2, 3, 3, 3), (4, 4), (9, 10), 1, 10),
    "3-D open": ((2, 3, 1, 2, 3), (2, 2, 2), ("d", "h", "w"), 1, 17),
}


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
def test_weights_by_phase_are_what_they_mean(name: str, with_bias: bool) -> None:
    shape, phases, sizes, dilation, opset = PHASES[name]
    rank = len(phases)
    pads = [d * (k - 1) // 2 for d, k in zip((dilation,) * rank, shape[2:], strict=True)]
    proto = conv(
        noise(*shape), sizes=sizes, opset=opset, pads=[*pads, *(p + 1 for p in pads)], dilations=[dilation] * rank
    )
    backend = OnnxBackend(proto)
    (layer,) = backend.layers()
    bias = noise(*phases, 2, seed=4) if with_bias else None
    edit = keep(layer, weight=noise(*phases, *shape, seed=3), bias=bias, phases=phases)
    edited = backend.edited([edit])
    onnx.checker.check_model(edited.model)
    assert edited.model.opset_import == proto.opset_import
    for size in [(9, 10, 7), (8, 11, 6)] if isinstance(sizes[0], str) else [sizes]:
        x = noise(1, shape[1], *size[:rank], seed=5)
        run = edited.run(x, ["conv"])
        expected = phase_reference(layer, x, edit)
        np.testing.assert_allclose(run.outputs["y"], expected, atol=1e-4)
        np.testing.assert_array_equal(run.results["conv"], run.outputs["y"])
        np.testing.assert_array_equal(run.inputs["conv"], x)
    (after,) = edited.layers()
    assert after.fixed == "its weights differ by phase already"
    again = edited.edited([])
    assert again.run(x, ["conv"]).results["conv"].shape == expected.shape


def test_phases_of_an_old_file_with_open_sizes_are_refused() -> None:
    backend = OnnxBackend(conv(noise(2, 3, 3, 3), sizes=("h", "w"), opset=9, pads=[1] * 4))
    (layer,) = backend.layers()
    with pytest.raises(UsageError, match="opset 9"):
        backend.edited([keep(layer, weight=noise(2, 2, 2, 3, 3, 3), phases=(2, 2))])


def test_only_convolutions_of_stride_1_differ_by_phase() -> None:
    backend = OnnxBackend(conv(noise(2, 3, 3, 3), strides=[2, 2]))
    with pytest.raises(UsageError, match="stride"):
        backend.edited([keep(backend.layers()[0], phases=(2, 2))])


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_phases_in_a_network_keep_names_and_groups(dynamo: bool, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1, bias=False))
    path = export(net, (1, 2, 7, 8), tmp_path / "m.onnx", dynamo=dynamo)
    backend, x = OnnxBackend(path), noise(1, 2, 7, 8)
    first = backend.layers()[0]
    edit = keep(first, weight=noise(2, 2, *first.weight.shape), bias=None, phases=(2, 2))
    edited = backend.edited([edit])
    np.testing.assert_allclose(edited.run(x, ["0"]).results["0"], phase_reference(first, x, edit), atol=1e-4)
    edited.save(tmp_path / "n.onnx")
    again = OnnxBackend(tmp_path / "n.onnx")
    assert [layer.name for layer in again.layers()] == [layer.name for layer in backend.layers()] == ["0", "2"]
    assert_described(again, x)


# ------------------------------------------------------------------------------------------------------ external data


def outside(tmp_path: Path, *, location: str = "m.onnx.data", threshold: int = 100) -> Path:
    """A file with its larger values beside it."""
    path = tmp_path / "m.onnx"
    onnx.save(
        cases.asymmetric(), path, save_as_external_data=True, location=location, size_threshold=threshold,
        convert_attribute=False,
    )  # fmt: skip
    return path


def entries(path: Path) -> dict[str, dict[str, str]]:
    model = onnx.load(path, load_external_data=False)
    return {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer}


def test_external_data_stay_external(tmp_path: Path) -> None:
    path = outside(tmp_path)
    original = (path.read_bytes(), (tmp_path / "m.onnx.data").read_bytes())
    backend, batch = OnnxBackend(path), cases.random_input(cases.asymmetric())
    assert_described(backend, batch)
    backend.save(tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx.data").read_bytes() == original[1]
    layer = backend.layers()[2]
    edited = backend.edited([keep(layer, weight=layer.weight * 3)])
    edited.save(tmp_path / "n.onnx")
    assert (tmp_path / "n.onnx.data").stat().st_size == len(original[1])
    old, new = onnx.load(path), onnx.load(tmp_path / "n.onnx")
    changed = [a.name for a, b in zip(old.graph.initializer, new.graph.initializer, strict=True) if a != b]
    assert changed == ["w2"]
    (tmp_path / "sub").mkdir()
    backend.edited([enlarged(layer), keep(backend.layers()[0], bias=np.ones(8))]).save(tmp_path / "sub" / "m.onnx")
    assert set(entries(tmp_path / "sub" / "m.onnx")) == {"w0", "w1", "w2", "w3", "Conv_0.bias"}
    assert entries(tmp_path / "sub" / "m.onnx")["Conv_0.bias"] == {}  # below the threshold
    grown = OnnxBackend(tmp_path / "sub" / "m.onnx")
    assert grown.layers()[2].kernel == (6, 7)
    for a, b in zip(grown.layers(), backend.layers(), strict=True):
        if a.name != layer.name:
            np.testing.assert_array_equal(a.weight, b.weight)
    assert original == (path.read_bytes(), (tmp_path / "m.onnx.data").read_bytes())
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_models_too_large_for_memory_run_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, batch = OnnxBackend(outside(tmp_path)), cases.random_input(cases.asymmetric())
    layer = backend.layers()[2]
    expected = backend.edited([keep(layer, weight=layer.weight * 3)]).run(batch, [layer.name])
    monkeypatch.setattr(_onnx_session, "IN_MEMORY", 100)
    found = backend.edited([keep(layer, weight=layer.weight * 3)]).run(batch, [layer.name])
    np.testing.assert_array_equal(found.outputs["y"], expected.outputs["y"])
    np.testing.assert_array_equal(found.results[layer.name], expected.results[layer.name])


def test_tensors_that_share_bytes_part_when_one_changes(tmp_path: Path) -> None:
    weight = noise(3, 3, 3, 3)
    proto = cases.model(
        [node("Conv", ["x", "a"], ["h"], name="first"), node("Conv", ["h", "b"], ["y"], name="second")],
        {"x": [1, 3, 9, 9]},
        ["y"],
        [numpy_helper.from_array(weight, "a"), numpy_helper.from_array(weight, "b")],
    )
    (tmp_path / "w.bin").write_bytes(weight.tobytes())
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    backend = OnnxBackend(tmp_path / "m.onnx")
    backend.edited([keep(backend.layers()[1], weight=weight * 2)]).save(tmp_path / "n.onnx")
    first, second = OnnxBackend(tmp_path / "n.onnx").layers()
    np.testing.assert_array_equal(first.weight, weight)
    np.testing.assert_array_equal(second.weight, weight * 2)
    assert (tmp_path / "n.w.bin").stat().st_size == 2 * weight.nbytes


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OnnxBackend(outside(tmp_path))
    with pytest.raises(OutputError, match="read from"):
        backend.save(tmp_path / "m.onnx")
    with pytest.raises(OutputError, match="no folder"):
        backend.save(tmp_path / "none" / "n.onnx")
    backend.save(tmp_path / "n.onnx")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    layer = backend.layers()[2]
    edited = backend.edited([keep(layer, weight=layer.weight * 3)])
    replaced = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target.name == "n.onnx" and self.suffix == ".onnx":
            raise OSError(28, "No space left on device")
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OutputError, match="No space left"):
        edited.save(tmp_path / "n.onnx")
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    monkeypatch.setattr(_onnx_saving, "_same", lambda a, b: False)
    with pytest.raises(VerificationError, match="not that of the model"):
        edited.save(tmp_path / "n.onnx")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    backend = OnnxBackend(outside(tmp_path))
    (tmp_path / "n.onnx.data").write_bytes(b"precious")
    with pytest.raises(OutputError, match="another model"):
        backend.save(tmp_path / "n.onnx")
    assert (tmp_path / "n.onnx.data").read_bytes() == b"precious"


def test_what_the_result_is_run_on(tmp_path: Path) -> None:
    proto = conv(noise(3, 3, 3, 3), sizes=("h", "w"))
    OnnxBackend(proto).save(tmp_path / "open.onnx")
    assert onnx.load(tmp_path / "open.onnx") == proto
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"
    with pytest.raises(UsageError, match="pass a batch"):
        OnnxBackend(proto).save(tmp_path / "channels.onnx")
    assert not (tmp_path / "channels.onnx").exists()
    OnnxBackend(proto).save(tmp_path / "channels.onnx", noise(1, 3, 9, 10))
    assert onnx.load(tmp_path / "channels.onnx") == proto


def test_a_network_that_draws_noise_is_saved(tmp_path: Path) -> None:
    behind = [node("RandomNormalLike", ["c"], ["r"]), node("Add", ["c", "r"], ["y"])]
    proto = conv(noise(3, 3, 3, 3), nodes=behind)
    backend, x = OnnxBackend(proto), noise(1, 3, 9, 10)
    first, second = backend.run(x).outputs["y"], backend.run(x, ["conv"])
    np.testing.assert_array_equal(first, second.outputs["y"])
    assert np.abs(first - second.results["conv"]).max() > 1
    backend.save(tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == proto


# ------------------------------------------------------------------------------------------------ inputs, hostile files


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (noise(1, 3, 9, 9), r"got the shape \[1, 3, 9, 9\], expected x: float32 \[1, 3, 9, 10\]"),
        (noise(3, 9, 10), "got the shape"),
        (np.zeros((1, 3, 9, 10), np.int64), "got the type int64"),
        ({"z": noise(1, 3, 9, 10)}, r"inputs \['z'\], expected x"),
        ([noise(1, 3, 9, 10)] * 2, "2 arrays, expected 1"),
        ({"x": object()}, "got the type object"),
    ],
)
def test_batches_that_do_not_fit(batch: Any, message: str) -> None:
    backend = OnnxBackend(conv(noise(3, 3, 3, 3)))
    with pytest.raises(UsageError, match=message):
        backend.run(batch)


def test_forms_of_a_batch() -> None:
    backend, x = OnnxBackend(conv(noise(3, 3, 3, 3))), noise(1, 3, 9, 10)
    expected = backend.run(x).outputs["y"]
    for batch in ({"x": x}, [x], (x,), torch.tensor(x), x.astype(np.float64)):
        np.testing.assert_array_equal(backend.run(batch).outputs["y"], expected)
    with pytest.raises(UsageError, match="no layer 'z'"):
        backend.run(x, ["z"])


def hostile() -> dict[str, tuple[Any, type[EvenlyError]]]:
    def escaping(location: str) -> ModelProto:
        proto = conv(noise(3, 3, 3, 3))
        (tensor,) = proto.graph.initializer
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        return proto

    short = conv(noise(3, 3, 3, 3))
    short.graph.initializer[0].raw_data = b"1234"
    huge = conv(noise(3, 3, 3, 3))
    huge.graph.initializer[0].dims[:] = [2**40, 2**40, 3, 3]
    return {
        "climbing": (escaping("../secret"), UntrustedError),
        "absolute": (escaping("/etc/passwd"), UntrustedError),
        "missing": (escaping("none.bin"), FormatError),
        "short": (short, FormatError),
        "huge": (huge, FormatError),
        "stride": (conv(noise(3, 3, 3, 3), strides=[0, 1]), FormatError),
        "pads": (conv(noise(3, 3, 3, 3), pads=[-1, 0, 0, 0]), FormatError),
        "pads too few": (conv(noise(3, 3, 3, 3), pads=[1, 0]), FormatError),
        "kernel": (conv(noise(3, 3, 3, 3), kernel_shape=[2, 2]), FormatError),
        "groups": (conv(noise(3, 3, 3, 3), group=2), FormatError),
        "auto_pad": (conv(noise(3, 3, 3, 3), auto_pad="SAME"), FormatError),
        "text": (b"not a model", FormatError),
        "empty": (b"", FormatError),
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, error = hostile()[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(error) as caught:
        OnnxBackend(path).layers()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_model_in_memory_holds_its_values(tmp_path: Path) -> None:
    model = onnx.load(outside(tmp_path), load_external_data=False)
    with pytest.raises(UsageError, match="pass the path"):
        OnnxBackend(model)
    assert OnnxBackend(onnx.load(tmp_path / "m.onnx")).layers()


def test_operators_that_onnxruntime_lacks_are_named() -> None:
    proto = cases.model(
        [node("Conv", ["x", "w"], ["c"]), node("Nothing", ["c"], ["y"], domain="nowhere")],
        {"x": [1, 3, 9, 9]},
        ["y"],
        [cases.weight("w", 3, 3, 3, 3)],
        domains=("nowhere",),
    )
    backend = OnnxBackend(proto)
    assert prod(backend.layers()[0].kernel) == 9
    with pytest.raises(FormatError, match=f"onnxruntime {onnxruntime.__version__} cannot run the model"):
        backend.run(noise(1, 3, 9, 9))
