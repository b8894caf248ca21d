"""Before any training: the closed form of :mod:`evenly.theory.prior`, run over a graph.

Trained weights are ignored; fixed filters of the architecture (FIR buffers) count. Batch, instance and group
normalisation are read as the affine maps that their statistics make of them; of instance normalisation that means that
it is *not* allowed to remove a constant (which it would, exactly, and with it everything that could be said here).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from evenly.check.kept import keeps_phases, kept_kernel
from evenly.check.lattice import births
from evenly.graph import ir
from evenly.theory.activations import activation
from evenly.theory.prior import Moments, TooLarge
from evenly.theory.torus import pool_matrix, resize_matrix, slice_index

__all__ = ["Expectation", "NotCovered", "expect"]


@dataclass(frozen=True)
class NotCovered:
    """Why the closed form says nothing about a node."""

    reason: str


class _NotCovered(Exception):  # noqa: N818 - control flow inside this module
    pass


Rule = Callable[[ir.Node, list[Moments]], Moments]


@dataclass(frozen=True, eq=False)
class Expectation:
    """What the closed form says.

    Attributes:
        outputs: Moments per output node.
        variances: Second moment per position over the cell of every node, averaged over channels; ``None`` where the
            closed form says nothing.
    """

    outputs: dict[int, Moments | NotCovered]
    variances: tuple[NDArray[np.float64] | None, ...]


def expect(graph: ir.Graph) -> Expectation:
    """Run the closed form for a constant input of random colour.

    Covariances that no later node needs are dropped on the way, so memory does not grow with depth.
    """
    born = births(graph)
    readers = [len(r) for r in graph.consumers()]
    alive: dict[int, Moments | NotCovered] = {}
    outputs: dict[int, Moments | NotCovered] = {}
    variances: list[NDArray[np.float64] | None] = []
    for index, node in enumerate(graph.nodes):
        tied = isinstance(node.op, ir.PixelShuffle) and keeps_phases(graph, index)
        made = _one(node, [alive[i] for i in node.fields], index in born, tied)
        alive[index] = made
        if index in graph.outputs:
            outputs[index] = made
        variances.append(None if isinstance(made, NotCovered) else made.variance())
        for source in set(node.inputs):
            readers[source] -= 1
            if not readers[source]:
                del alive[source]
    return Expectation(outputs, tuple(variances))


def _one(node: ir.Node, incoming: list[Moments | NotCovered], born: bool, tied: bool) -> Moments | NotCovered:
    """What a node makes; ``tied`` is a pixel shuffle whose phases have equal gains, whatever the parameters are."""
    if born:
        return Moments.colour(node.channels, len(node.sizes))
    bad = next((m for m in incoming if isinstance(m, NotCovered)), None)
    if bad is not None:
        return bad if node.sizes else Moments.colour(node.channels, 0)
    try:
        if tied:
            moments = [m for m in incoming if isinstance(m, Moments)]
            if not _flat(moments):
                raise _NotCovered("no closed form for a periodic field and a kernel whose taps depend on each other")
            return moments[0].merge(node.channels)
        return _RULES[type(node.op)](node, [m for m in incoming if isinstance(m, Moments)])
    except (TooLarge, _NotCovered) as error:
        return NotCovered(f"{node.name}: {error}")


def _flat(moments: Sequence[Moments]) -> bool:
    return all(prod(m.cell) == 1 for m in moments)


def _constant_or(node: ir.Node, inputs: list[Moments], what: str) -> Moments:
    """A constant field stays constant under anything; a periodic one needs a law that does not exist."""
    if _flat(inputs):
        return Moments.colour(node.channels, len(node.sizes))
    raise _NotCovered(f"no closed form for {what} of a periodic field")


def _start(node: ir.Node, inputs: list[Moments]) -> Moments:
    return Moments.colour(node.channels, len(node.sizes))


def _source(node: ir.Node, inputs: list[Moments]) -> Moments:
    # a source of its own, listed apart; the constant's response is analysed without it
    return Moments.colour(node.channels, len(node.sizes)).affine(0.0, 0.0)


def _same(node: ir.Node, inputs: list[Moments]) -> Moments:
    return inputs[0]


def _fixed(weight: ir.Weight | None) -> bool:
    return weight is not None and weight.fixed and weight.known


def _shared_filter(weight: ir.Weight, groups: int, channels: int) -> NDArray[np.float64]:
    """The one filter that a fixed depthwise layer applies to every channel."""
    values = weight.values()
    flat = values.reshape(-1, *values.shape[2:])
    if groups != channels or values.shape[1] != 1 or not np.allclose(flat, flat[:1], rtol=1e-5, atol=1e-7):
        raise _NotCovered(f"the fixed filters {weight.name} differ between channels")
    return np.asarray(flat[0])


def _conv(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Conv)
    start = [low for low, _ in op.padding]
    if op.weight is not None and _fixed(op.weight) and prod(op.kernel) == 1 and op.groups == 1:
        return _decimate(inputs[0].mixed(op.weight.values().reshape(op.out_channels, -1)), op.stride)
    if op.weight is not None and _fixed(op.weight):
        taps = _shared_filter(op.weight, op.groups, op.in_channels)
        places = np.stack(np.unravel_index(np.arange(taps.size), taps.shape), -1) * op.dilation - np.array(start)
        filtered = inputs[0].filter(taps.ravel(), places)
        return _decimate(filtered, op.stride)
    return inputs[0].conv(op.out_channels, op.kernel, op.stride, op.dilation, start, op.groups)


def _decimate(moments: Moments, stride: Sequence[int]) -> Moments:
    if all(s == 1 for s in stride):
        return moments
    return moments.take([slice_index(c, 0, s) if s > 1 else None for c, s in zip(moments.cell, stride, strict=True)])


def _conv_transpose(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.ConvTranspose)
    start = [low for low, _ in op.padding]
    if op.weight is not None and _fixed(op.weight):
        taps = _shared_filter(op.weight, op.groups, op.in_channels)
        places = np.array(start) - np.stack(np.unravel_index(np.arange(taps.size), taps.shape), -1) * op.dilation
        return inputs[0].insert_zeros(op.stride, (0,) * len(start)).filter(taps.ravel(), places)
    if kept_kernel(op):  # a constant stays constant
        if not _flat(inputs):
            raise _NotCovered("no closed form for a periodic field and a kernel whose taps depend on each other")
        return inputs[0].dense(op.out_channels)
    return inputs[0].conv_transpose(op.out_channels, op.kernel, op.stride, op.dilation, start, op.groups)


def _linear(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Linear)
    if op.weight is not None and _fixed(op.weight):
        return inputs[0].mixed(op.weight.values())
    return inputs[0].dense(op.out_channels)


def _resize(node: ir.Node, inputs: list[Moments]) -> Moments:
    assert isinstance(node.op, ir.Resize)
    cell = inputs[0].cell
    return inputs[0].linear_map(
        [None if c == 1 else resize_matrix(r, c) for r, c in zip(node.op.axes, cell, strict=True)]
    )


def _pixel_shuffle(node: ir.Node, inputs: list[Moments]) -> Moments:
    assert isinstance(node.op, ir.PixelShuffle)
    return inputs[0].pixel_shuffle(node.op.factor)


def _pixel_unshuffle(node: ir.Node, inputs: list[Moments]) -> Moments:
    assert isinstance(node.op, ir.PixelUnshuffle)
    return inputs[0].pixel_unshuffle(node.op.factor)


def _unfold(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Unfold)
    start = [low for low, _ in op.padding]
    made = inputs[0].conv(node.channels, op.kernel, op.stride, op.dilation, start)
    scale = float(np.mean(inputs[0].second())) if _flat(inputs) else 1.0
    return made.affine(scale**0.5, 0.0)


def _fold(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Fold)
    start = [low for low, _ in op.padding]
    if np.abs(inputs[0].mean()).max() > 1e-12:
        raise _NotCovered("col2im of features that are not zero-mean")
    return inputs[0].conv_transpose(node.channels, op.kernel, op.stride, op.dilation, start)


def _pool(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Pool)
    if _flat(inputs):
        return inputs[0]
    if op.kind != "average":
        raise _NotCovered(f"no closed form for {op.kind} pooling of a periodic field")
    return inputs[0].linear_map(
        [
            pool_matrix(c, k, s, d, low)
            for c, k, s, d, (low, _) in zip(inputs[0].cell, op.kernel, op.stride, op.dilation, op.padding, strict=True)
        ]
    )


def _unpool(node: ir.Node, inputs: list[Moments]) -> Moments:
    # a constant ties in every window, and the first position wins
    assert isinstance(node.op, ir.Unpool)
    return inputs[0].insert_zeros(node.op.stride, (0,) * len(node.op.stride))


def _shift(node: ir.Node, inputs: list[Moments]) -> Moments:
    assert isinstance(node.op, ir.Pad)
    cell = inputs[0].cell
    return inputs[0].take(
        [slice_index(c, -low, 1) if low % c else None for c, (low, _) in zip(cell, node.op.padding, strict=True)]
    )


def _slice(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Slice)
    cell = inputs[0].cell
    return inputs[0].take(
        [None if c == 1 else slice_index(c, a, s) for c, a, s in zip(cell, op.start, op.step, strict=True)]
    )


def _reduce(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Reduce)
    if op.channels or (op.kind not in ("mean", "sum") and not _flat(inputs)):
        return _constant_or(node, inputs, f"the {op.kind} over channels or positions")
    return inputs[0].reduce(op.axes) if op.axes else inputs[0]


def _flatten(node: ir.Node, inputs: list[Moments]) -> Moments:
    return (
        Moments.colour(node.channels, len(node.sizes)) if not node.sizes else _constant_or(node, inputs, "flattening")
    )


def _broadcast(node: ir.Node, inputs: list[Moments]) -> Moments:
    assert isinstance(node.op, ir.Broadcast)
    return inputs[0].broadcast(node.op.axes, len(node.sizes))


def _spread(node: ir.Node, inputs: list[Moments]) -> list[Moments]:
    axes = len(node.sizes)
    return [m if m.axes == axes else m.broadcast(range(axes), axes) for m in inputs]


def _concat(node: ir.Node, inputs: list[Moments]) -> Moments:
    first, *others = _spread(node, inputs)
    return first.concat(others)


def _join(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Join)
    a, b = _spread(node, inputs)
    if op.kind in ("add", "sub"):
        return a.add(b, 1.0 if op.kind == "add" else -1.0)
    if op.kind == "mul":
        return a.multiply(b)
    return _constant_or(node, inputs, f"the elementwise {op.kind} of two fields")


def _affine(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Affine)

    def number(value: ir.Weight | float | None, default: float) -> float:
        # one number per channel is a bias or a trained scale, neutral before training: files tell no constants apart
        return default if value is None or isinstance(value, ir.Weight) else float(value)

    return inputs[0].affine(number(op.scale, 1.0), number(op.shift, 0.0))


def _pointwise(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.Pointwise)
    function = activation(op.function, op.parameters)
    if function is None:
        return _constant_or(node, inputs, f"the function {op.function!r}")
    return inputs[0].pointwise(function)


def _normalize(node: ir.Node, inputs: list[Moments]) -> Moments:
    kind = node.op.kind if isinstance(node.op, ir.Normalize) else ""
    if kind == "softmax":
        return _constant_or(node, inputs, "a softmax over channels")
    if kind in ("layer", "rms", "l2"):
        return inputs[0].normalize(per_position=True, centred=kind == "layer")
    if kind == "group":
        return inputs[0].normalize(per_position=False, centred=True)
    return inputs[0].normalize(per_position=False, centred=False)


def _attention(node: ir.Node, inputs: list[Moments]) -> Moments:
    # identical tokens share the attention evenly, so a constant value field is handed through
    if not _flat(inputs):
        raise _NotCovered("no closed form for attention over a periodic field")
    value = inputs[2]
    axes = len(node.sizes)
    return value if value.axes == axes else Moments.fresh(node.channels, np.ones((1,) * (2 * axes)))


def _channel_mix(node: ir.Node, inputs: list[Moments]) -> Moments:
    field = max(inputs, key=lambda m: (m.axes, prod(m.cell)))
    if field.axes != len(node.sizes):
        return _constant_or(node, inputs, "data-dependent mixing")
    return field.dense(node.channels)


def _warp(node: ir.Node, inputs: list[Moments]) -> Moments:
    return _constant_or(node, inputs[:1], "resampling at data-dependent positions")


def _unknown(node: ir.Node, inputs: list[Moments]) -> Moments:
    assert isinstance(node.op, ir.Unknown)
    if node.op.spatial and (node.sizes or any(m.axes for m in inputs)):
        raise _NotCovered(f"{node.op.operator} is not analysed")
    return Moments.colour(node.channels, len(node.sizes))


def _channel_slice(node: ir.Node, inputs: list[Moments]) -> Moments:
    op = node.op
    assert isinstance(op, ir.ChannelSlice)
    if op.step != 1:
        return inputs[0].merge(node.channels)
    return inputs[0].channel_slice(op.start, op.stop)


def _permute(node: ir.Node, inputs: list[Moments]) -> Moments:
    return inputs[0].merge()


_RULES: dict[type[ir.Op], Rule] = {
    ir.Affine: _affine,
    ir.Attention: _attention,
    ir.Birth: _start,
    ir.Broadcast: _broadcast,
    ir.ChannelMix: _channel_mix,
    ir.ChannelPermute: _permute,
    ir.ChannelSlice: _channel_slice,
    ir.Concat: _concat,
    ir.Conv: _conv,
    ir.ConvTranspose: _conv_transpose,
    ir.Flatten: _flatten,
    ir.Fold: _fold,
    ir.Input: _start,
    ir.Join: _join,
    ir.Linear: _linear,
    ir.Normalize: _normalize,
    ir.Output: _same,
    ir.Pad: _shift,
    ir.PixelShuffle: _pixel_shuffle,
    ir.PixelUnshuffle: _pixel_unshuffle,
    ir.Pointwise: _pointwise,
    ir.Pool: _pool,
    ir.Reduce: _reduce,
    ir.Resize: _resize,
    ir.Slice: _slice,
    ir.Source: _source,
    ir.Unfold: _unfold,
    ir.Unknown: _unknown,
    ir.Unpool: _unpool,
    ir.Warp: _warp,
}
