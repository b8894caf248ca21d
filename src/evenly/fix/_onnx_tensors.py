"""Values of ONNX tensors, written the way they were stored, and where external ones live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from evenly.errors import UsageError
from evenly.graph.onnx.files import ELEMENT_BITS, numpy_dtype, tensor

__all__ = ["Home", "all_tensors", "converted", "home_of", "is_external", "rewrite", "size_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Home:
    """Where a tensor lies outside its model.

    Attributes:
        location: Path below the folder of the model.
        offset: First byte.
        length: Bytes; ``None`` if it was never there.
    """

    location: str
    offset: int
    length: int | None


def is_external(proto: TensorProto) -> bool:
    """Whether the values lie in another file."""
    return bool(proto.data_location == TensorProto.EXTERNAL)


def home_of(proto: TensorProto) -> Home:
    """Where the values of an external tensor lie; its entries have been checked by the reader."""
    entries = {e.key: e.value for e in proto.external_data}
    return Home(entries.get("location", ""), int(entries.get("offset") or 0), size_of(proto))


def size_of(proto: TensorProto) -> int:
    """Bytes that the values of a tensor take."""
    return -(-prod(int(n) for n in proto.dims) * ELEMENT_BITS[proto.data_type] // 8)


def converted(values: Array, code: int, label: str) -> Array:
    """Values in the element type of the file.

    Raises:
        UsageError: If some are not finite, in that type.
    """
    with np.errstate(over="ignore"):
        result = np.asarray(values).astype(numpy_dtype(code))
    finite = np.isfinite(result.astype(np.float64))
    if not finite.all():
        raise UsageError(
            f"{label}: {finite.size - finite.sum()} of {finite.size} new values are not finite as "
            f"{numpy_dtype(code).name}, expected all to be; solve it again with a stronger penalty on the weights"
        )
    return result


def rewrite(proto: TensorProto, values: Array, folder: Path, label: str) -> bool:
    """Give a tensor new values in its own type; in the same field of the message, external ones in memory.

    Returns:
        Whether anything changed: equal values leave every byte as it is.

    Raises:
        UsageError: If the values are not finite in the tensor's type.
    """
    old = np.asarray(tensor(proto, folder, label).read())
    with np.errstate(over="ignore"):
        same = np.asarray(values).astype(old.dtype)
    if same.shape == old.shape and same.tobytes() == old.tobytes():
        return False
    new = converted(values, proto.data_type, label)
    raw = is_external(proto) or proto.HasField("raw_data")
    del proto.dims[:]
    proto.dims.extend(new.shape)
    proto.ClearField("external_data")
    proto.ClearField("data_location")
    if raw:
        proto.raw_data = numpy_helper.from_array(new).raw_data
    elif proto.data_type == TensorProto.FLOAT:
        proto.float_data[:] = new.ravel().tolist()
    elif proto.data_type == TensorProto.DOUBLE:
        proto.double_data[:] = new.ravel().tolist()
    else:  # the 16-bit types
        proto.int32_data[:] = new.ravel().view(np.uint16).tolist()
    return True


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every dense tensor of a model: initialisers, attributes, of subgraphs and functions too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)
