"""Safe loading of ONNX files.

A file is untrusted. Nothing in it is executed, no path outside the folder of the model is read, and every declared size
is compared with the bytes that are present before anything is allocated for it. Weights stay where they are until
somebody asks for their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import FormatError, MissingDependencyError, UntrustedError

try:
    import onnx
    from onnx import TensorProto
except ImportError as error:  # pragma: no cover - needs an environment without onnx
    raise MissingDependencyError(
        "reading ONNX files needs the package 'onnx', which is not installed: pip install 'evenly[onnx]'"
    ) from error

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto

__all__ = [
    "ELEMENT_BITS",
    "FOLD_LIMIT",
    "OLDEST_OPSET",
    "Tensor",
    "check_model",
    "inlined",
    "load_model",
    "numpy_dtype",
    "parse_model",
    "tensor",
]

OLDEST_OPSET = 7
PROTOBUF_LIMIT = 2**31 - 1
FOLD_LIMIT = 64 * 2**20
"""Bytes that may be allocated for one folded constant beyond what the file itself holds."""
INLINE_LIMIT = 200_000
DIM_LIMIT = 2**40

ELEMENT_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.UINT8: 8,
    TensorProto.INT8: 8,
    TensorProto.UINT16: 16,
    TensorProto.INT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16,
    TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT64: 64,
    TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128,
    TensorProto.BFLOAT16: 16,
} | {
    # Younger types: present only if the installed onnx knows them.
    getattr(TensorProto, name): bits
    for name, bits in {
        "FLOAT8E4M3FN": 8,
        "FLOAT8E4M3FNUZ": 8,
        "FLOAT8E5M2": 8,
        "FLOAT8E5M2FNUZ": 8,
        "FLOAT8E8M0": 8,
        "UINT4": 4,
        "INT4": 4,
        "FLOAT4E2M1": 4,
        "UINT2": 2,
        "INT2": 2,
    }.items()
    if hasattr(TensorProto, name)
}
"""Bits per element of every readable tensor type."""

# Where the elements of a type live when they are not raw bytes (onnx.proto3, comments of TensorProto).
_TYPED_FIELD: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}


def type_name(code: int) -> str:
    """The name of a tensor type, or its number when onnx does not know it."""
    try:
        return str(TensorProto.DataType.Name(code))
    except ValueError:
        return str(code)


def numpy_dtype(code: int) -> np.dtype[Any]:
    """The numpy type of an ONNX element type; float32 for those that numpy does not have."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, TypeError, ValueError):
        return np.dtype(np.float32)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A constant that the file carries, checked but not read.

    Attributes:
        name: Its name in the file.
        shape: Its shape.
        code: Its ONNX element type.
        read: Returns the values.
    """

    name: str
    shape: tuple[int, ...]
    code: int
    read: Callable[[], NDArray[Any]]


def load_model(path: str | os.PathLike[str]) -> ModelProto:
    """Parse a model and check everything that later steps rely on.

    Model-local functions are inlined.

    Args:
        path: An ``.onnx`` file.

    Raises:
        FormatError: If it is not an ONNX model, is damaged, or has an unsupported version.
    """
    return inlined(parse_model(path), Path(path))


def parse_model(path: str | os.PathLike[str]) -> ModelProto:
    """As :func:`load_model`, with model-local functions left as they are."""
    file = Path(path)
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise FormatError(f"{file}: is not a regular file; pass the path of an .onnx file")
        if size == 0:
            raise FormatError(f"{file}: is empty (0 bytes), expected an ONNX model; export or download it again")
        if size > PROTOBUF_LIMIT:
            raise FormatError(
                f"{file}: has {size} bytes, but protobuf stops at {PROTOBUF_LIMIT} (2 GiB); save the weights as "
                "external "
                "data (torch.onnx.export(..., external_data=True))"
            )
        data = file.read_bytes()
    except OSError as error:
        raise FormatError(f"{file}: cannot be read ({error.strerror or error}); check the path") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError is another class in each of its backends
        raise FormatError(
            f"{file}: is not an ONNX model or is truncated ({size} bytes do not parse as protobuf); export or download "
            "it again"
        ) from error
    check_model(model, file)
    return model


def check_model(model: ModelProto, file: Path) -> None:
    """Check everything that later steps rely on; `file` is for messages."""
    _check_header(model, file)
    _check_text(model, file)


def _check_header(model: ModelProto, file: Path) -> None:
    if not model.HasField("graph") or not model.graph.output:
        raise FormatError(
            f"{file}: holds no ONNX graph with outputs, expected an ONNX model; export or download it again"
        )
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise FormatError(
            f"{file}: has IR version {model.ir_version}, expected 1 to {onnx.IR_VERSION} (the newest that the "
            "installed onnx "
            f"{onnx.__version__} knows); upgrade onnx or export with an older version"
        )
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise FormatError(
            f"{file}: declares no version of the ONNX operator set, expected opset {OLDEST_OPSET} to {newest}; export "
            "it again"
        )
    if len(set(versions)) > 1:
        raise FormatError(
            f"{file}: declares several ONNX opsets {sorted(set(versions))}, expected one; export it again"
        )
    if not OLDEST_OPSET <= versions[0] <= newest:
        raise FormatError(
            f"{file}: uses opset {versions[0]}, expected {OLDEST_OPSET} to {newest}; convert it with "
            "onnx.version_converter.convert_version, or upgrade onnx"
        )


def _check_text(model: ModelProto, file: Path) -> None:
    """Names must be text: protobuf hands over bytes where they are not UTF-8, which would break every comparison."""
    graphs = [model.graph]
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for node in _nested(nodes):
        entries = [v for p in node.metadata_props for v in (p.key, p.value)]
        names = [node.name, node.op_type, node.domain, *node.input, *node.output, *entries]
        names += [attribute.name for attribute in node.attribute]
        graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        _expect_text(names, file)
    for graph in graphs:
        infos = [*graph.input, *graph.output, *graph.value_info]
        _expect_text([v.name for v in infos], file)
        _expect_text([d.dim_param for v in infos for d in v.type.tensor_type.shape.dim], file)
        _expect_text([t.name for t in graph.initializer], file)
        _expect_text([v for t in graph.initializer for e in t.external_data for v in (e.key, e.value)], file)


def _expect_text(names: list[Any], file: Path) -> None:
    for name in names:
        if not isinstance(name, str):
            raise FormatError(
                f"{file}: holds the name {name[:40]!r}, which is not UTF-8; the file is damaged, export it again"
            )


def _nested(nodes: Any) -> Iterator[NodeProto]:
    """All nodes, those of subgraphs included."""
    stack = [nodes]
    while stack:
        for node in stack.pop():
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    stack.append(attribute.g.node)
                stack.extend(graph.node for graph in attribute.graphs)


def inlined(model: ModelProto, file: Path) -> ModelProto:
    """Replace calls of model-local functions by their bodies; the model itself if it has none.

    A function may call others: recursion is an error, and the number of nodes after inlining, which can grow
    exponentially with the length of the file, is computed before anything is expanded.
    """
    if not model.functions:
        return model
    import onnx.inliner

    def key_of(node: Any) -> tuple[str, str, str]:
        return node.domain, node.op_type, getattr(node, "overload", "")

    calls = {
        (f.domain, f.name, getattr(f, "overload", "")): [key_of(node) for node in _nested(f.node)]
        for f in model.functions
    }
    cost: dict[tuple[str, str, str], int] = {}
    try:
        order = list(
            TopologicalSorter({key: [k for k in called if k in calls] for key, called in calls.items()}).static_order()
        )
    except CycleError as error:
        name = error.args[1][0][1]
        raise FormatError(
            f"{file}: function {name!r} calls itself, expected functions without recursion; export it again"
        ) from error
    for key in order:
        cost[key] = min(sum(cost.get(k, 1) for k in calls[key]), INLINE_LIMIT + 1)
    total = sum(cost.get(key_of(node), 1) for node in _nested(model.graph.node))
    if total > INLINE_LIMIT:
        raise FormatError(
            f"{file}: its functions expand to over {INLINE_LIMIT} nodes; export it without nested functions"
        )
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # the inliner raises plain C++ exceptions
        raise FormatError(f"{file}: its functions cannot be inlined ({_first_line(error)}); export it again") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _shape_of(dims: Any, where: str) -> tuple[int, ...]:
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape) or prod(shape) > DIM_LIMIT or any(d > DIM_LIMIT for d in shape):
        raise FormatError(
            f"{where} declares the shape {list(shape)[:8]}, expected sizes that fit in memory; the file is damaged"
        )
    return shape


def tensor(proto: TensorProto, folder: Path, where: str) -> Tensor:
    """Check a tensor of the file against the bytes that are present.

    Args:
        proto: The tensor.
        folder: The folder of the model, the only place external data may come from.
        where: For messages: file and tensor.

    Raises:
        FormatError: If its type is unknown or its declared size is not the size of its data.
        UntrustedError: If its external data lies outside the folder.
    """
    shape = _shape_of(proto.dims, where)
    code = proto.data_type
    count = prod(shape)
    if proto.HasField("segment"):
        raise FormatError(f"{where} is split into segments, which ONNX reserves but nobody writes; export it again")
    if code == TensorProto.STRING:
        _expect(len(proto.string_data), count, "strings", where)
        return Tensor(proto.name, shape, code, lambda: np.array(proto.string_data, dtype=object).reshape(shape))
    if code not in ELEMENT_BITS:
        raise FormatError(
            f"{where} has the element type {type_name(code)}, expected a number type that onnx knows; export it again"
        )
    if shape and 0 in shape:
        return Tensor(proto.name, shape, code, lambda: np.zeros(shape, numpy_dtype(code)))
    size = -(-count * ELEMENT_BITS[code] // 8)
    if proto.data_location == TensorProto.EXTERNAL:
        return Tensor(proto.name, shape, code, _external(proto, folder, size, where))
    if proto.HasField("raw_data"):
        _expect(len(proto.raw_data), size, "bytes", where)
    else:
        field = _TYPED_FIELD.get(code, "int32_data")
        expected = 2 * count if code in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else count
        if ELEMENT_BITS[code] < 8:  # several elements share an entry
            expected = size
        _expect(len(getattr(proto, field)), expected, "elements", where)
    return Tensor(proto.name, shape, code, lambda: _to_array(proto, where))


def _expect(present: int, expected: int, what: str, where: str) -> None:
    if present != expected:
        raise FormatError(
            f"{where} holds {present} {what}, its shape needs {expected}; the file is damaged, export it again"
        )


def _to_array(proto: TensorProto, where: str) -> NDArray[Any]:
    try:
        return np.asarray(onnx.numpy_helper.to_array(proto))
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(
            f"{where} cannot be decoded ({_first_line(error)}); the file is damaged, export it again"
        ) from error


def _external(proto: TensorProto, folder: Path, size: int, where: str) -> Callable[[], NDArray[Any]]:
    entries = {e.key: e.value for e in proto.external_data}
    location = entries.get("location", "")
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key, "")
        if text and not (text.isascii() and text.isdigit() and len(text) < 20):
            raise FormatError(
                f"{where} has external data with {key} {text[:40]!r}, expected a byte count; export it again"
            )
        numbers[key] = int(text) if text else None
    offset = numbers["offset"] or 0
    length = numbers["length"]
    if length is not None and length != size:
        raise FormatError(
            f"{where} has external data of length {length} bytes, its shape needs {size}; the file is damaged, export "
            "it again"
        )

    def check() -> Path:
        resolved = resolve_inside(folder, location, where)
        try:
            present = resolved.stat().st_size
        except OSError as error:
            raise FormatError(
                f"{where} lies in the external file {location!r}, which cannot be read ({error.strerror or error}); "
                "put it beside "
                "the model"
            ) from error
        if not resolved.is_file():
            raise FormatError(f"{where} lies in {location!r}, which is not a regular file; export the model again")
        if offset + size > present:
            raise FormatError(
                f"{where} needs bytes {offset} to {offset + size} of {location!r}, which has {present}; the file is "
                "truncated, "
                "download it again"
            )
        return resolved

    check()

    def read() -> NDArray[Any]:
        # Checked again: the file may have been replaced since the model was opened.
        resolved = check()
        with resolved.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
        inline = TensorProto(dims=list(proto.dims), data_type=proto.data_type, raw_data=data)
        _expect(len(data), size, "bytes", where)
        return _to_array(inline, where)

    return read


def resolve_inside(folder: Path, location: str, where: str) -> Path:
    """The path of external data, proved to lie inside the folder of the model.

    Raises:
        UntrustedError: If it is absolute, climbs with ``..``, or is a link that leaves the folder.
        FormatError: If there is none.
    """
    if not location or "\0" in location:
        raise FormatError(f"{where} has external data without a location, expected a file name; export it again")
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if posix.is_absolute() or windows.is_absolute() or windows.drive or windows.root:
        raise UntrustedError(
            f"{where} wants its data from the absolute path {location!r}, expected a file in the model's folder; "
            "refused"
        )
    if ".." in posix.parts or ".." in windows.parts:
        raise UntrustedError(f"{where} wants its data from {location!r}, which leaves the model's folder; refused")
    try:
        root = folder.resolve()
        resolved = (root / location).resolve()
    except (OSError, RuntimeError) as error:
        raise FormatError(
            f"{where} lies in the external file {location!r}, which cannot be resolved ({error})"
        ) from error
    if not resolved.is_relative_to(root):
        raise UntrustedError(
            f"{where} wants its data from {location!r}, a link that leaves the model's folder; refused"
        )
    return resolved


def sparse_tensor(proto: SparseTensorProto, folder: Path, where: str) -> Tensor:
    """A sparse tensor, made dense when it is read (only below :data:`FOLD_LIMIT` and as much as the file holds)."""
    shape = _shape_of(proto.dims, where)
    values = tensor(proto.values, folder, where)
    indices = tensor(proto.indices, folder, where)

    def read() -> NDArray[Any]:
        if prod(shape) * 8 > FOLD_LIMIT:
            raise FormatError(
                f"{where} is sparse and {list(shape)} large, expected at most {FOLD_LIMIT} bytes; store it dense"
            )
        flat = np.zeros(prod(shape), numpy_dtype(values.code))
        index = indices.read().astype(np.int64)
        if index.ndim == 2:
            index = np.ravel_multi_index(tuple(index.T), shape).astype(np.int64)
        if index.size and (index.min() < 0 or index.max() >= flat.size):
            raise FormatError(f"{where} has sparse indices outside its shape {list(shape)}; the file is damaged")
        flat[index] = values.read().ravel()
        return flat.reshape(shape)

    return Tensor(values.name, shape, values.code, read)


def graph_tensors(graph: GraphProto, folder: Path, file: Path) -> dict[str, Tensor]:
    """The initialisers of a graph by name."""
    found: dict[str, Tensor] = {}
    for proto in graph.initializer:
        found[proto.name] = tensor(proto, folder, f"{file}: initialiser {proto.name!r}")
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        found[name] = sparse_tensor(sparse, folder, f"{file}: sparse initialiser {name!r}")
    return found
