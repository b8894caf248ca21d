"""Safe loading and constant folding of ONNX files: what the reader relies on before it reads any meaning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from evenly.errors import FormatError, UntrustedError
from evenly.graph.onnx.constants import Const, fold
from evenly.graph.onnx.files import FOLD_LIMIT, load_model, tensor
from evenly.graph.onnx.nodes import item

# ------------------------------------------------------------------------------------------------------ external data


def external(location: str, shape: tuple[int, ...] = (2, 3), **entries: Any) -> TensorProto:
    proto = TensorProto(name="w", dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        proto.external_data.add(key=key, value=str(value))
    return proto


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "model"
    inner.mkdir()
    np.arange(8, dtype=np.float32).tofile(inner / "weights.bin")
    np.arange(8, dtype=np.float32).tofile(tmp_path / "secret.bin")
    return inner


def test_external_data_is_read_at_its_offset(folder: Path) -> None:
    found = tensor(external("weights.bin", offset=8, length=24), folder, "w")
    np.testing.assert_array_equal(found.read(), np.arange(2, 8).reshape(2, 3))


def test_external_data_in_a_folder_below_is_read(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "w.bin").write_bytes((folder / "weights.bin").read_bytes())
    assert tensor(external("deep/w.bin"), folder, "w").read().shape == (2, 3)


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "deep/../../secret.bin",
        "/etc/passwd",
        "C:\\secret.bin",
        "\\\\host\\share",
        "..\\secret.bin",
        "C:x",
    ],
)
def test_paths_that_leave_the_folder_are_refused(folder: Path, location: str) -> None:
    with pytest.raises(UntrustedError, match="refused"):
        tensor(external(location), folder, "w")


def test_a_link_that_leaves_the_folder_is_refused(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    with pytest.raises(UntrustedError, match="link that leaves"):
        tensor(external("link.bin"), folder, "w")


def test_a_linked_folder_is_refused(folder: Path) -> None:
    (folder / "up").symlink_to(folder.parent, target_is_directory=True)
    with pytest.raises(UntrustedError, match="link that leaves"):
        tensor(external("up/secret.bin"), folder, "w")


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder / "weights.bin")
    assert tensor(external("link.bin"), folder, "w").read()[0, 1] == 1


def test_a_link_swapped_in_after_opening_is_refused(folder: Path) -> None:
    found = tensor(external("weights.bin"), folder, "w")
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").symlink_to(folder.parent / "secret.bin")
    with pytest.raises(UntrustedError):
        found.read()


def test_a_link_loop_is_one_clear_error(folder: Path) -> None:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    with pytest.raises((FormatError, UntrustedError), match="'a'"):
        tensor(external("a"), folder, "w")


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (external("absent.bin"), "cannot be read"),
        (external("weights.bin", offset=16), "truncated"),
        (external("weights.bin", length=23), "its shape needs 24"),
        (external("weights.bin", offset=-4), "byte count"),
        (external("weights.bin", offset="0x10"), "byte count"),
        (external("weights.bin", offset=10**19), "truncated|byte count"),
        (external(""), "location"),
        (external("a\0b"), "location"),
        (external("."), "not a regular file"),
        (external("weights.bin", shape=(2**20, 2**20, 2**20)), "fit in memory"),
        (external("weights.bin", shape=(2**19, 2**19)), "truncated"),
    ],
)  # fmt: skip
def test_external_data_that_does_not_fit(folder: Path, proto: TensorProto, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        tensor(proto, folder, "w")


def test_a_pipe_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(FormatError, match=r"truncated|regular"):
        tensor(external("pipe"), folder, "w")


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (TensorProto(dims=[2**62, 4], data_type=1, raw_data=b"1234"), "fit in memory"),
        (TensorProto(dims=[-1], data_type=1, raw_data=b"1234"), "fit in memory"),
        (TensorProto(dims=[2], data_type=1, raw_data=b"1234"), "needs 8"),
        (TensorProto(dims=[2], data_type=1, float_data=[1.0]), "needs 2"),
        (TensorProto(dims=[2], data_type=TensorProto.FLOAT16, int32_data=[1]), "needs 2"),
        (TensorProto(dims=[2], data_type=TensorProto.COMPLEX64, float_data=[1.0, 2.0]), "needs 4"),
        (TensorProto(dims=[2], data_type=0), "element type"),
        (TensorProto(dims=[2], data_type=99), "element type"),
        (TensorProto(dims=[2], data_type=TensorProto.STRING, string_data=[b"a"]), "needs 2"),
    ],
)
def test_stored_sizes_are_checked_before_anything_is_allocated(proto: TensorProto, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        tensor(proto, Path(), "w")


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint64", "bool"]
)
@pytest.mark.parametrize("raw", [True, False])
def test_every_storage_of_a_tensor_is_read(dtype: str, raw: bool) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    proto = helper.make_tensor(
        "w", helper.np_dtype_to_tensor_dtype(values.dtype), (2, 3), values.tobytes() if raw else values.ravel(), raw
    )
    found = tensor(proto, Path(), "w").read()
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("name", ["BFLOAT16", "INT4", "UINT4", "FLOAT8E4M3FN"])
def test_narrow_types_are_read(name: str) -> None:
    proto = helper.make_tensor("w", getattr(TensorProto, name), (3,), [1, 2, 3])
    np.testing.assert_array_equal(tensor(proto, Path(), "w").read().astype(float), [1, 2, 3])


# ----------------------------------------------------------------------------------------------------------- headers


def small() -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"])
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in "xy"]
    return helper.make_model(
        helper.make_graph([node], "g", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def written(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00.", b"\x00" * 64, b"PK\x03\x04" + b"x" * 50])
def test_what_is_no_model_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"m\.onnx") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("opset", [1, 6, 999])
def test_unsupported_opsets(tmp_path: Path, opset: int) -> None:
    proto = small()
    proto.opset_import[0].version = opset
    with pytest.raises(FormatError, match=f"opset {opset}, expected 7 to"):
        load_model(written(tmp_path / "m.onnx", proto))


def test_unsupported_ir_version(tmp_path: Path) -> None:
    proto = small()
    proto.ir_version = 99
    with pytest.raises(FormatError, match="IR version 99"):
        load_model(written(tmp_path / "m.onnx", proto))


def test_missing_opset_and_missing_file(tmp_path: Path) -> None:
    proto = small()
    del proto.opset_import[:]
    with pytest.raises(FormatError, match="no version of the ONNX operator set"):
        load_model(written(tmp_path / "m.onnx", proto))
    with pytest.raises(FormatError, match="cannot be read"):
        load_model(tmp_path / "absent.onnx")
    with pytest.raises(FormatError, match=r"regular file|cannot be read"):
        load_model(tmp_path)


def test_over_two_gibibytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31)  # sparse: takes no room
    with pytest.raises(FormatError, match=r"2 GiB.*external"):
        load_model(path)


def functions(bodies: dict[str, list[str]]) -> onnx.ModelProto:
    """A model with functions that call each other: name to the names it calls."""
    proto = small()
    proto.opset_import.append(helper.make_opsetid("f", 1))
    for name, called in bodies.items():
        names = ["a", *(f"t{i}" for i in range(len(called) - 1)), "z"]
        nodes = [
            helper.make_node(c, [names[i]], [names[i + 1]], domain="" if c == "Relu" else "f")
            for i, c in enumerate(called)
        ]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        proto.functions.append(helper.make_function("f", name, ["a"], ["z"], nodes, imports))
    del proto.graph.node[:]
    proto.graph.node.append(helper.make_node(next(iter(bodies)), ["x"], ["y"], domain="f"))
    return proto


def test_functions_are_inlined(tmp_path: Path) -> None:
    proto = load_model(written(tmp_path / "m.onnx", functions({"A": ["B", "B"], "B": ["Relu", "Relu"]})))
    assert [n.op_type for n in proto.graph.node] == ["Relu"] * 4
    assert not proto.functions


@pytest.mark.parametrize("bodies", [{"A": ["A"]}, {"A": ["B"], "B": ["Relu", "A"]}])
def test_recursive_functions_are_refused(tmp_path: Path, bodies: dict[str, list[str]]) -> None:
    with pytest.raises(FormatError, match="calls itself"):
        load_model(written(tmp_path / "m.onnx", functions(bodies)))


def test_exploding_functions_are_refused_before_they_explode(tmp_path: Path) -> None:
    bodies = {f"F{i}": [f"F{i + 1}"] * 10 for i in range(12)} | {"F12": ["Relu"]}
    with pytest.raises(FormatError, match="expand to over"):
        load_model(written(tmp_path / "m.onnx", functions(bodies)))


# ----------------------------------------------------------------------------------------------------------- folding

X = np.array([[0.5, -1.5, 2.0], [3.0, 4.5, -0.25]], dtype=np.float32)
I = np.array([7, -3, 2, 12], dtype=np.int64)  # noqa: E741
B = np.array([True, False, True, True])


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.int64)


NODES: list[tuple[str, list[np.ndarray[Any, Any] | None], dict[str, Any]]] = [
    *((op, [X], {}) for op in ("Neg", "Abs", "Exp", "Floor", "Ceil", "Round", "Sign", "Sin")),
    *((op, [X], {}) for op in ("Cos", "Tanh", "Sigmoid", "Relu")),
    *((op, [np.abs(X)], {}) for op in ("Sqrt", "Log", "Reciprocal", "Softplus", "Erf")),
    *((op, [X, X[:1]], {}) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean")),
    *((op, [X, X[:1]], {}) for op in ("Equal", "Less", "Greater")),
    *((op, [I, ints(5, 2, -3, 4)], {}) for op in ("Add", "Mul", "Mod", "LessOrEqual", "GreaterOrEqual")),
    ("Div", [np.abs(I), ints(5, 2, 3, 4)], {}),
    ("Mod", [I, ints(5, 2, -3, 4)], {"fmod": 1}),
    ("Pow", [np.abs(X), np.float32(2.5)], {}),
    ("And", [B, ~B], {}),
    ("Or", [B, ~B], {}),
    ("Xor", [B, B], {}),
    ("Not", [B], {}),
    ("Where", [B, I, -I], {}),
    ("Clip", [X, np.float32(-1), np.float32(2)], {}),
    ("Cast", [X], {"to": TensorProto.INT64}),
    ("CastLike", [X, I], {}),
    ("Reshape", [X, ints(0, -1, 1)], {}),
    ("Flatten", [X[None]], {"axis": 2}),
    ("Squeeze", [X[None, :, None], ints(0, 2)], {}),
    ("Squeeze", [X[None, :, None]], {}),
    ("Unsqueeze", [X, ints(0, -1)], {}),
    ("Transpose", [X[None]], {"perm": [2, 0, 1]}),
    ("Transpose", [X], {}),
    ("Expand", [X[:, :1], ints(2, 2, 4)], {}),
    ("Tile", [X, ints(2, 3)], {}),
    ("Concat", [X, X[:1]], {"axis": 0}),
    ("Split", [X, ints(1, 2)], {"axis": 1}),
    ("Slice", [X, ints(-1, 0), ints(-9, 2), ints(1, 0), ints(-1, 1)], {}),
    ("Gather", [X, ints(2, 0, -1)], {"axis": 1}),
    ("GatherElements", [X, np.array([[0, 0, 1]])], {"axis": 0}),
    ("GatherND", [X, np.array([[0, 1], [1, 2]])], {}),
    ("ConstantOfShape", [ints(2, 3)], {"value": numpy_helper.from_array(np.array([5], np.int64))}),
    ("Range", [np.int64(2), np.int64(11), np.int64(4)], {}),
    ("Range", [np.float32(2), np.float32(-1), np.float32(-0.5)], {}),
    ("Pad", [X, ints(0, 1, 1, 2), np.float32(9)], {}),
    ("Pad", [X, ints(1, 1), None, ints(1)], {"mode": "reflect"}),
    ("Pad", [X, ints(1, 2, 0, 0)], {"mode": "edge"}),
    ("CumSum", [X, np.int64(1)], {"exclusive": 1, "reverse": 1}),
    ("Trilu", [X, np.int64(1)], {"upper": 0}),
    ("NonZero", [np.array([[0, 1], [2, 0]], dtype=np.float32)], {}),
    ("OneHot", [ints(0, 2, -1), np.int64(3), np.array([0.0, 5.0], np.float32)], {"axis": 0}),
    ("ScatterND", [I, np.array([[0], [2]]), ints(90, 91)], {}),
    ("ScatterElements", [X, np.array([[1, 0]]), np.array([[8, 9]], np.float32)], {"axis": 1}),
    ("MatMul", [X, X.T], {}),
    ("Gemm", [X, X, np.float32(1)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("ReduceSum", [X, ints(-1)], {"keepdims": 0}),
    ("ReduceSum", [X, None], {"noop_with_empty_axes": 1}),
    *((op, [X, ints(0)], {}) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")),
    ("ReduceSumSquare", [X, ints(1)], {}),
    ("DequantizeLinear", [np.array([[1, -2, 3]] * 2, np.int8), X[0, :2], np.array([1, 0], np.int8)], {"axis": 0}),
    ("QuantizeLinear", [X * 40, np.float32(0.7), np.int8(3)], {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "arrays", "attributes"), NODES, ids=[f"{i} {n[0]}" for i, n in enumerate(NODES)])
def test_folding_agrees_with_the_reference(op: str, arrays: list[Any], attributes: dict[str, Any]) -> None:
    outputs = ["y", "z"] if op == "Split" else ["y"]
    names = ["" if a is None else f"i{k}" for k, a in enumerate(arrays)]
    node = helper.make_node(op, names, outputs, **attributes)
    consts = [None if a is None else Const.of(n, np.asarray(a)) for n, a in zip(names, arrays, strict=True)]
    folded = fold(item(node, 0), consts)
    feeds = {n: np.asarray(a) for n, a in zip(names, arrays, strict=True) if a is not None}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()
    ]
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info(o, 0, None) for o in outputs])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    expected = ReferenceEvaluator(proto).run(None, feeds)
    assert folded is not None
    for found, wanted in zip(folded, expected, strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found.array(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "arrays"),
    [
        ("Expand", [np.float32(1), ints(2**20, 2**20)]),
        ("ConstantOfShape", [ints(2**30, 2**9)]),
        ("Range", [np.int64(0), np.int64(2**40), np.int64(1)]),
        ("Tile", [X, ints(2**20, 2**12)]),
        ("Pad", [X, ints(0, 2**30, 0, 0)]),
        ("OneHot", [ints(0), np.int64(2**35), X[0, :2]]),
    ],
)
def test_hostile_sizes_are_never_allocated(op: str, arrays: list[Any]) -> None:
    node = helper.make_node(op, [f"i{k}" for k in range(len(arrays))], ["y"])
    (found,) = fold(item(node, 0), [Const.of(f"i{k}", np.asarray(a)) for k, a in enumerate(arrays)]) or [None]
    assert found is not None
    assert found.nbytes > FOLD_LIMIT
    assert not found.known
    with pytest.raises(FormatError, match="too large to compute"):
        found.array()


def test_large_constants_stay_lazy_and_bounded() -> None:
    reads: list[int] = []

    def read() -> Any:
        reads.append(1)
        return np.ones((1000, 500), np.float32)

    stored = Const("w", (1000, 500), np.dtype(np.float32), read, "w")
    node = helper.make_node("Transpose", ["w"], ["y"])
    (turned,) = fold(item(node, 0), [stored], stored.nbytes) or [stored]
    assert turned.shape == (500, 1000)
    assert turned.root == "w"
    assert not reads
    assert turned.array().shape == (500, 1000)
    row, column = (
        Const("a", (10**6, 1), np.dtype(np.float32), read, "a"),
        Const("b", (1, 10**6), np.dtype(np.float32), read, "b"),
    )
    (outer,) = fold(item(helper.make_node("Mul", ["a", "b"], ["y"]), 0), [row, column], row.nbytes * 2) or [stored]
    assert outer.shape == (10**6, 10**6)
    assert not outer.known


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(0, 7), start=st.integers(-12, 12), end=st.integers(-12, 12), step=st.integers(-4, 4).filter(bool)
)  # fmt: skip
def test_slices_agree_with_the_reference(n: int, start: int, end: int, step: int) -> None:
    x = np.arange(n, dtype=np.float32)
    arrays = [x, ints(start), ints(end), ints(0), ints(step)]
    node = helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])
    (found,) = fold(item(node, 0), [Const.of("x", a) for a in arrays]) or [None]
    assert found is not None
    # The operator's own words: starts and ends are clamped, then counted as Python counts.
    first = min(max(start + n if start < 0 else start, 0), n if step > 0 else max(n - 1, 0))
    last = end + n if end < 0 else end
    last = min(max(last, 0), n) if step > 0 else min(max(last, -1), n - 1)
    np.testing.assert_array_equal(found.array(), [x[i] for i in range(first, last, step)] if n else [])
