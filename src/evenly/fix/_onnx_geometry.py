"""Windows of ONNX convolutions: strides, dilations, and padding however the file spells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import onnx.shape_inference
from onnx import ModelProto

from evenly.errors import FormatError
from evenly.graph.onnx.nodes import Item

__all__ = ["Geometry", "Known", "Sizes", "Values", "Windows", "known_values", "same_padding", "sizes_of", "windows"]

Pads = tuple[tuple[int, int], ...]
Values = Callable[[str], "Known | None"]
Sizes = Callable[[str], tuple[int | None, ...] | None]
"""Spatial sizes of a value by its name, ``None`` where the file leaves them open."""


@dataclass(frozen=True)
class Geometry:
    """As in :class:`~evenly.fix.backend.Layer`, all per axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Pads
    output_padding: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Windows:
    """A geometry as far as the file tells it.

    Attributes:
        geometry: The geometry.
        settled: Whether its padding holds for inputs of all sizes that the file allows.
    """

    geometry: Geometry
    settled: bool = True


def windows(it: Item, shape: Sequence[int], sizes: Sizes) -> Windows:
    """Read the windows of a ``Conv`` or ``ConvTranspose``.

    Args:
        it: The node.
        shape: Of its weight.
        sizes: Tells sizes of values.

    Raises:
        FormatError: If its attributes contradict its weight.
    """
    kernel = tuple(shape[2:])
    rank, groups = len(kernel), it.integer("group", 1)
    stride, dilation = _per_axis(it, "strides", rank, 1, 1), _per_axis(it, "dilations", rank, 1, 1)
    if _per_axis(it, "kernel_shape", rank, None, 1) not in ((), kernel) or groups < 1 or shape[0] % groups:
        raise FormatError(
            f"{it.label}: weight {list(shape)} does not fit kernel_shape {list(it.ints('kernel_shape') or kernel)} and "
            f"{groups} groups; the file is damaged, export it again"
        )
    if it.op == "ConvTranspose":
        return _transposed(it, Geometry(kernel, stride, dilation, (), (), groups), sizes)
    auto = _auto_pad(it)
    if auto == "":
        padding, settled = _pads(it, rank), True
    elif auto == "VALID":
        padding, settled = ((0, 0),) * rank, True
    else:
        found = sizes(it.inputs[0]) or (None,) * rank
        padding = tuple(
            _halves(_same(n, k, s, d), auto == "SAME_UPPER")
            for n, k, s, d in zip(found, kernel, stride, dilation, strict=True)
        )
        settled = all(s == 1 or n is not None for n, s in zip(found, stride, strict=True))
    return Windows(Geometry(kernel, stride, dilation, padding, (0,) * rank, groups), settled)


def _same(size: int | None, kernel: int, stride: int, dilation: int) -> int:
    """Total padding of SAME; of an open size as for a multiple of the stride."""
    rest = stride if size is None or size % stride == 0 else size % stride
    return max(dilation * (kernel - 1) + 1 - rest, 0)


def _transposed(it: Item, g: Geometry, sizes: Sizes) -> Windows:
    rank = len(g.kernel)
    extra = _per_axis(it, "output_padding", rank, 0, 0)
    auto, wanted = _auto_pad(it), it.ints("output_shape")
    if wanted is None and auto in ("", "VALID"):
        padding = _pads(it, rank) if auto == "" else ((0, 0),) * rank
        return Windows(Geometry(g.kernel, g.stride, g.dilation, padding, extra, g.groups))
    settled = True
    rest = [0] * rank  # s n - m: what the wanted size m lacks to s per sample
    if wanted is not None:
        wanted = wanted[-rank:]  # some exporters write batch and channels as well
        found = sizes(it.inputs[0]) or (None,) * rank
        settled = None not in found and len(wanted) == rank
        if settled:
            rest = [s * (n or 0) - m for n, s, m in zip(found, g.stride, wanted, strict=True)]
    cuts = [
        r - s + a + d * (k - 1) + 1 for r, s, a, d, k in zip(rest, g.stride, extra, g.dilation, g.kernel, strict=True)
    ]
    padding = tuple(_halves(max(cut, 0), auto == "SAME_UPPER") for cut in cuts)
    if wanted is not None:  # what is not there to be cut is added behind; onnxruntime does not for SAME
        extra = tuple(a + max(-cut, 0) for a, cut in zip(extra, cuts, strict=True))
    return Windows(Geometry(g.kernel, g.stride, g.dilation, padding, extra, g.groups), settled)


def _halves(total: int, more_after: bool) -> tuple[int, int]:
    small, large = total // 2, total - total // 2
    return (small, large) if more_after else (large, small)


def same_padding(it: Item, kernel: Sequence[int], dilation: Sequence[int]) -> Pads | None:
    """Padding with which a window of stride 1 keeps the size, if the node pads so; ``None`` if it says how much."""
    auto = _auto_pad(it)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        return None
    return tuple(_halves(d * (k - 1), auto == "SAME_UPPER") for k, d in zip(kernel, dilation, strict=True))


def _auto_pad(it: Item) -> str:
    auto = it.text("auto_pad", "NOTSET")
    if auto not in ("", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise FormatError(
            f"{it.label}: auto_pad is {auto[:40]!r}, expected NOTSET, SAME_UPPER, SAME_LOWER or VALID; the file is "
            "damaged"
        )
    return "" if auto == "NOTSET" else auto


def _per_axis(it: Item, name: str, rank: int, default: int | None, least: int) -> tuple[int, ...]:
    values = it.ints(name)
    if values is None:
        return () if default is None else (default,) * rank
    if len(values) != rank or any(not least <= v < 2**31 for v in values):
        raise FormatError(
            f"{it.label}: attribute {name} is {list(values)[:8]}, expected {rank} numbers from {least}; export it again"
        )
    return values


def _pads(it: Item, rank: int) -> Pads:
    flat = it.ints("pads", (0,) * (2 * rank)) or ()
    if len(flat) != 2 * rank or any(not 0 <= p < 2**31 for p in flat):
        raise FormatError(f"{it.label}: attribute pads is {list(flat)[:8]}, expected {2 * rank} numbers from 0")
    return tuple(zip(flat[:rank], flat[rank:], strict=True))


@dataclass(frozen=True)
class Known:
    """What a file says of a value, declared or implied.

    Attributes:
        code: Element type, 0 if open.
        dims: Sizes, ``None`` where open.
    """

    code: int
    dims: tuple[int | None, ...]


def known_values(model: ModelProto) -> Values:
    """Types of values by their names; inferred when one is first asked for."""
    found: dict[str, Known] = {}
    done = False

    def known(name: str) -> Known | None:
        nonlocal done
        if not done:
            found.update(_inferred(model))
            done = True
        return found.get(name)

    return known


def sizes_of(values: Values) -> Sizes:
    """Spatial sizes of values by their names."""

    def sizes(name: str) -> tuple[int | None, ...] | None:
        found = values(name)
        return None if found is None else found.dims[2:]

    return sizes


def _inferred(model: ModelProto) -> dict[str, Known]:
    with suppress(Exception):  # C++ errors of several kinds, or too large to hand over: then what is declared must do
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = model.graph
    found: dict[str, Known] = {}
    for value in [*graph.value_info, *graph.output, *graph.input]:
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            dims = (d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)
            found[value.name] = Known(kind.elem_type, tuple(dims))
    return found
