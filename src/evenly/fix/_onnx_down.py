"""Down-sampling layers of ONNX graphs whose gradient is even, and borders without zeros; the weights stay.

The filter is :func:`evenly.theory.decimation.even_filter` at the reach of the layer itself, so that the squared
gradient is even for any weights (:mod:`evenly.nn.antialias`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import DTypeLike
from onnx import TensorProto

from evenly.errors import UsageError
from evenly.fix._onnx_geometry import Pads, same_padding
from evenly.fix._onnx_nodes import Writer, drop, explicit, set_ints
from evenly.fix._onnx_pieces import extended
from evenly.fix._onnx_places import Place
from evenly.fix._onnx_replacing import Made, described, listed
from evenly.fix._onnx_surgery import Surgery
from evenly.graph.onnx.files import numpy_dtype
from evenly.graph.onnx.nodes import Item, item
from evenly.theory.decimation import cell_extension, even_filters

__all__ = ["POOLS", "Pool", "antialiased", "edge_padded", "pooled"]

POOLS = {"MaxPool": "max_pool", "AveragePool": "avg_pool"}
"""Operators of pools, as the reader labels them."""


@dataclass(frozen=True)
class Pool:
    """A pool of the file: its name as ``evenly check`` has it, and what it makes."""

    name: str
    output: str


def _filters(stride: Sequence[int], reach: Sequence[int]) -> tuple[list[tuple[float, ...]], str | None]:
    if all(s == 1 for s in stride):
        raise UsageError("its stride is 1: it drops no samples")
    return even_filters(stride, reach)


def _blur(surgery: Surgery, name: str, taps: Sequence[Sequence[float]], channels: int, dtype: DTypeLike) -> str:
    """The filter for every channel, as an initialiser."""
    whole = reduce(np.multiply.outer, (np.asarray(row) for row in taps))
    values = np.broadcast_to(whole, (channels, 1, *whole.shape)).astype(dtype)
    return surgery.initialiser(f"{name}.blur.weight", values)


def antialiased(surgery: Surgery, place: Place) -> Made:
    """A strided convolution that is filtered first.

    Raises:
        UsageError: If it is none, or its stride is 1.
    """
    if place.kind == "transposed":
        raise UsageError("it is a transposed layer; antialias is for convolutions and pools")
    g, rank = place.geometry, len(place.geometry.kernel)
    reach = [d * (k - 1) for d, k in zip(g.dilation, g.kernel, strict=True)]
    taps, note = _filters(g.stride, reach)
    node = surgery.node(place.output)
    pads = same_padding(item(node, 0), g.kernel, g.dilation) or g.padding
    cuts = [cell_extension(len(row), s) for row, s in zip(taps, g.stride, strict=True)]
    amounts = [(p[0] + low, p[1] + high) for p, (low, high) in zip(pads, cuts, strict=True)]
    write = surgery.writer(node)
    source = place.source
    zeros = any(map(any, pads))
    if not zeros:  # what had no zeros at its border gets none by the filter
        source, amounts = extended(write, source, amounts, surgery.opset), [(0, 0)] * rank
    # an axis of one tap drops its samples as soon as it can
    early = [s if k == 1 else 1 for s, k in zip(g.stride, g.kernel, strict=True)]
    late = [1 if k == 1 else s for s, k in zip(g.stride, g.kernel, strict=True)]
    channels = place.weight.shape[1] * g.groups
    kernel = _blur(surgery, place.name, taps, channels, place.weight.dtype)
    node.input[0] = _depthwise(write, source, kernel, taps, early, amounts, channels)
    explicit(node, g.kernel, [(0, 0)] * rank)
    set_ints(node, "strides", late, (1,) * rank)
    after = f"{listed(write.made)} + {described(node, place.weight.shape)}"
    surgery.insert(before=place.output, nodes=write.made)
    return Made(after, note=note)


def _depthwise(
    write: Writer,
    source: str,
    kernel: str,
    taps: Sequence[Sequence[float]],
    stride: Sequence[int],
    pads: Sequence[tuple[int, int]],
    channels: int,
    output: str = "",
) -> str:
    """The filter of every channel by itself."""
    flat = [p[0] for p in pads] + [p[1] for p in pads]
    sizes = [len(row) for row in taps]
    return write.node(
        "Conv", [source, kernel], output, group=channels, kernel_shape=sizes, strides=list(stride), pads=flat
    )


def pooled(surgery: Surgery, pool: Pool) -> Made:
    """A pool at every position, and its filter before samples are dropped.

    Raises:
        UsageError: If its stride is 1, it returns indices, its sizes cannot be kept, or its channels are not known.
    """
    node = surgery.node(pool.output)
    it = item(node, 0)
    kernel = it.ints("kernel_shape") or ()
    rank = len(kernel)
    stride, dilation = (it.ints(name, (1,) * rank) or () for name in ("strides", "dilations"))
    if len(node.output) > 1 and any(surgery.wiring.uses[name] for name in node.output[1:]):
        raise UsageError("it returns indices, which an un-pooling reads")
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    taps, note = _filters(stride, reach)
    known = surgery.values(it.inputs[0])
    channels = None if known is None or len(known.dims) != 2 + rank else known.dims[1]
    if known is None or channels is None or known.code == TensorProto.UNDEFINED:
        raise UsageError("the file does not say how many channels it pools; export it with shapes")
    pads = same_padding(it, kernel, dilation) or _explicit(it, rank)
    if any(max(p) >= k for p, k in zip(pads, kernel, strict=True)):
        raise UsageError(f"its padding {list(pads)} is as wide as its window, which no runtime pools")
    write = surgery.writer(node)
    source = it.inputs[0]
    if it.integer("ceil_mode"):
        _check_end(stride, pads, reach)
        source = extended(write, source, [(0, s - 1) for s in stride], surgery.opset)
    dense = surgery.unused(f"{pool.output}_dense")
    node.input[0], node.output[0] = source, dense
    for name in ("auto_pad", "ceil_mode", "strides"):
        drop(node, name)
    set_ints(node, "pads", [p[0] for p in pads] + [p[1] for p in pads], (0,) * (2 * rank))
    after = [*write.made, node]
    name, write.made = pool.name, []
    weight = _blur(surgery, name, taps, channels, numpy_dtype(known.code))
    cuts = [cell_extension(len(row), s) for row, s in zip(taps, stride, strict=True)]
    edge = extended(write, dense, cuts, surgery.opset)
    _depthwise(write, edge, weight, taps, stride, [(0, 0)] * rank, channels, pool.output)
    text = f"{listed(after[:-1])} + {described(node)} + {listed(write.made)}".removeprefix(" + ")
    surgery.insert(after=dense, nodes=write.made)
    if len(after) > 1:
        surgery.insert(before=dense, nodes=after[:-1])
    return Made(text, note=note)


def _explicit(it: Item, rank: int) -> Pads:
    flat = it.ints("pads", (0,) * (2 * rank)) or ()
    if it.text("auto_pad", "NOTSET") == "VALID":
        flat = (0,) * (2 * rank)
    return tuple(zip(flat[:rank], flat[rank:], strict=True))


def _check_end(stride: Sequence[int], pads: Pads, reach: Sequence[int]) -> None:
    """What ``ceil_mode`` reads behind the end is the last sample once more: ``s - 1`` samples give its sizes.

    A last window that lay in the padding alone is dropped; where none can (``p + s - 2 < d (k - 1)``) sizes are equal
    for every input.
    """
    if any(s > 1 and p[1] + s - 2 >= r for s, p, r in zip(stride, pads, reach, strict=True)):
        raise UsageError(
            "with ceil_mode its number of windows depends on the padding, which no filter repeats; export it with "
            "ceil_mode=0"
        )


def edge_padded(surgery: Surgery, place: Place) -> Made:
    """A convolution that repeats the edge where it padded with zeros.

    Raises:
        UsageError: If it pads with no zeros, or by the size of an input that the file leaves open.
    """
    if place.kind == "transposed":
        raise UsageError("it is a transposed layer; pad is for convolutions")
    if not place.settled:
        raise UsageError("it pads by the size of its input (auto_pad), which the file leaves open")
    g = place.geometry
    if not any(map(any, g.padding)):
        raise UsageError("it pads with no zeros itself; change the padding before it to replicated samples by hand")
    node = surgery.node(place.output)
    write = surgery.writer(node)
    node.input[0] = extended(write, place.source, g.padding, surgery.opset)
    explicit(node, g.kernel, [(0, 0)] * len(g.kernel))
    after = f"{listed(write.made)} + {described(node, place.weight.shape)}"
    surgery.insert(before=place.output, nodes=write.made)
    return Made(after)
