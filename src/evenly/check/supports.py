"""Which periods every value of a network can carry: the composition laws, run over a graph.

The same pass runs twice: *generic* (weights unknown; only fixed filters of the architecture remove anything, and
kernels that are balanced for every value of their parameters create nothing), which gives the structural period, and
*actual* (weights evaluated), which gives the certificate: a proof that a constant input stays constant in the interior,
or the layers that break it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import lcm, prod

import numpy as np
from numpy.typing import NDArray

from evenly.check.kept import SEEDS, keeps_phases, kept_kernel
from evenly.check.lattice import births
from evenly.check.subpixel import subpixel_weight
from evenly.graph import ir
from evenly.theory import support as sp
from evenly.theory.torus import pool_matrix, resize_matrix

__all__ = ["Flow", "Flows", "follow"]

Support = NDArray[np.bool_]


@dataclass(frozen=True)
class Flow:
    """What a node can carry.

    Attributes:
        support: Frequencies on its period cell; ``None`` if not known.
        creators: Layers whose pattern may still be in it.
        breakers: Sources that vary over the lattice without a period (position embeddings, noise).
        reason: Why the support is not known.
    """

    support: Support | None
    creators: frozenset[int] = frozenset()
    breakers: frozenset[int] = frozenset()
    reason: str | None = None

    @property
    def period(self) -> tuple[int, ...] | None:
        """Smallest period per axis, ``None`` if not known."""
        return None if self.support is None else sp.period(self.support)

    @property
    def is_constant(self) -> bool:
        """Whether a constant input provably leaves this constant (sources aside)."""
        return self.support is not None and sp.is_constant(self.support)


@dataclass(frozen=True)
class Flows:
    """The result of one pass.

    Attributes:
        nodes: One flow per node.
        creates: Layers that create a pattern out of a constant.
        removed_by: For a layer whose pattern reaches no output: the layer that removed it.
    """

    nodes: tuple[Flow, ...]
    creates: frozenset[int]
    removed_by: dict[int, int]


@dataclass
class _Pass:
    graph: ir.Graph
    actual: bool
    born: frozenset[int]
    creates: set[int] = field(default_factory=set)

    def values(self, weight: ir.Weight | None) -> NDArray[np.float64] | None:
        """The weight's values if this pass may use them."""
        if weight is not None and weight.known and (weight.fixed or self.actual):
            return weight.values()
        return None


def follow(graph: ir.Graph, *, actual: bool) -> Flows:
    """Run the composition laws over a graph.

    Args:
        graph: The network.
        actual: Whether to use the weights' values.
    """
    state = _Pass(graph, actual, births(graph))
    flows: list[Flow] = []
    last_removal: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        incoming = [flows[i] for i in node.fields]
        creators = frozenset().union(*(f.creators for f in incoming))
        breakers = frozenset().union(*(f.breakers for f in incoming))
        if index in state.born:
            flow = Flow(sp.constant(len(node.sizes)))
        elif any(f.support is None for f in incoming):
            # a value without lattice has no period, wherever it comes from
            reason = next(f.reason for f in incoming if f.support is None)
            flow = Flow(None, creators, breakers, reason) if node.sizes else Flow(sp.constant(0))
        else:
            try:
                support = _RULES[type(node.op)](
                    state, index, node, [f.support for f in incoming if f.support is not None]
                )
            except _NotKnown as error:
                flow = Flow(None, creators, breakers, str(error))
            else:
                if isinstance(node.op, ir.Source) and node.op.kind != "constant":
                    breakers |= {index}
                if index in state.creates:
                    creators |= {index}
                if sp.is_constant(support):
                    last_removal.update(dict.fromkeys(creators - {index}, index))
                    creators = frozenset()
                flow = Flow(support, creators, breakers)
        flows.append(flow)
    alive = frozenset().union(*(flows[o].creators for o in graph.outputs))
    unknown = any(flows[o].support is None for o in graph.outputs)
    removed = {} if unknown else {c: by for c, by in last_removal.items() if c in state.creates and c not in alive}
    return Flows(tuple(flows), frozenset(state.creates), removed)


class _NotKnown(Exception):  # noqa: N818 - control flow inside this module
    pass


Rule = Callable[[_Pass, int, ir.Node, list[Support]], Support]


def _bounded(cell: Sequence[int], node: ir.Node) -> None:
    if prod(cell) > sp.MAX_CELL:
        size = " x ".join(map(str, cell))
        raise _NotKnown(f"the period cell of {size} positions at {node.name} is larger than {sp.MAX_CELL} positions")


def _taps(kernel: Sequence[int], dilation: Sequence[int]) -> NDArray[np.int64]:
    places = np.stack(np.unravel_index(np.arange(prod(kernel)), tuple(kernel)), -1)
    return np.asarray(places * np.array(dilation, np.int64))


def _pairs(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights as ``(channel pairs, taps)``."""
    return weight.reshape(weight.shape[0] * weight.shape[1], -1)


def _join(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    """Union, with lattice-free inputs spread as constants."""
    axes = len(node.sizes)
    spread = [s if s.ndim == axes else _spread(s, axes) for s in inputs]
    _bounded([lcm(*sizes) for sizes in zip(*(s.shape for s in spread), strict=True)], node)
    return sp.combine(spread)


def _spread(support: Support, axes: int) -> Support:
    if support.ndim:
        raise _NotKnown(f"a value with {support.ndim} lattice axes joins one with {axes}")
    return sp.constant(axes)


def _same(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    return _join(state, index, node, inputs)


def _mixed(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    return sp.generated(_join(state, index, node, inputs))


def _start(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    return sp.constant(len(node.sizes))


def _conv(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    op = node.op
    assert isinstance(op, ir.Conv)
    support = inputs[0]
    if not sp.is_constant(support) and (values := state.values(op.weight)) is not None:
        support = sp.present(_pairs(values), _taps(op.kernel, op.dilation), support)
    return sp.downsample(support, op.stride)


def _upsampled(node: ir.Node, support: Support, stride: Sequence[int]) -> Support:
    _bounded([p * s for p, s in zip(support.shape, stride, strict=True)], node)
    return sp.upsample(support, stride)


def _conv_transpose(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    op = node.op
    assert isinstance(op, ir.ConvTranspose)
    values = state.values(op.weight)
    if values is None and op.weight is not None and kept_kernel(op):
        values = op.weight.drawn(SEEDS[0])  # what vanishes for one draw vanishes for all
    return _images(state, index, node, inputs[0], op.stride, values, op.dilation)


def _images(
    state: _Pass,
    index: int,
    node: ir.Node,
    support: Support,
    stride: Sequence[int],
    values: NDArray[np.float64] | None,
    dilation: Sequence[int],
) -> Support:
    """Zero insertion, then the frequencies at which the kernel does not vanish."""
    spread = _upsampled(node, support, stride)
    if values is None:
        if prod(stride) > 1:
            state.creates.add(index)
        return spread
    pairs, taps = _pairs(values), _taps(values.shape[2:], dilation)
    if not sp.is_constant(sp.present(pairs, taps, sp.everything(stride))):
        state.creates.add(index)
    return spread if sp.is_constant(spread) else sp.present(pairs, taps, spread)


def _pixel_shuffle(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    op = node.op
    assert isinstance(op, ir.PixelShuffle)
    spread = _upsampled(node, inputs[0], op.factor)
    found = subpixel_weight(state.graph, index) if state.actual else None
    if found is not None and sp.is_constant(inputs[0]):
        _, kernel, bias = found
        axes = len(op.factor)
        gains = kernel.reshape(*kernel.shape[: 2 + axes], -1).sum(-1)  # (C, *factor, C_in)
        phases = tuple(range(1, 1 + axes))
        spread_of_gains = np.sqrt(((gains - gains.mean(phases, keepdims=True)) ** 2).sum((0, *phases, -1)))
        size = np.sqrt((gains**2).sum()) or 1.0
        offset = np.sqrt(((bias - bias.mean(phases, keepdims=True)) ** 2).sum())
        reach = np.sqrt((bias**2).sum()) or 1.0
        if spread_of_gains <= sp.ZERO * size and offset <= sp.ZERO * max(reach, size):
            return inputs[0]
    if not state.actual and sp.is_constant(inputs[0]) and keeps_phases(state.graph, index):
        return inputs[0]
    if prod(op.factor) > 1:
        state.creates.add(index)
    return spread


def _pool(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    op = node.op
    assert isinstance(op, ir.Pool)
    if op.kind != "average":
        return sp.downsample(sp.generated(inputs[0]), op.stride)
    support = inputs[0]
    for axis, (k, s, d) in enumerate(zip(op.kernel, op.stride, op.dilation, strict=True)):
        support = sp.through_matrix(support, pool_matrix(support.shape[axis], k, s, d, 0), axis)
    return support


def _unpool(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    assert isinstance(node.op, ir.Unpool)
    state.creates.add(index)
    return _upsampled(node, inputs[0], node.op.stride)


def _resize(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    assert isinstance(node.op, ir.Resize)
    support = inputs[0]
    for axis, resize in enumerate(node.op.axes):
        size = support.shape[axis]
        if size == 1:
            continue  # every resampler maps constants to constants
        after = np.lcm(size, resize.down) // resize.down * resize.up
        _bounded([int(after), *(n for a, n in enumerate(support.shape) if a != axis)], node)
        if after * size > sp.MAX_CELL:
            raise _NotKnown(f"the resampling of a period of {size} to {after} samples at {node.name} is too large")
        support = sp.through_matrix(support, resize_matrix(resize, size), axis)
    return support


def _fold(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    assert isinstance(node.op, ir.Fold)
    if prod(node.op.stride) > 1:
        state.creates.add(index)
    return _upsampled(node, inputs[0], node.op.stride)


def _down(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    op = node.op
    assert isinstance(op, ir.PixelUnshuffle | ir.Unfold | ir.Slice)
    steps = op.factor if isinstance(op, ir.PixelUnshuffle) else op.stride if isinstance(op, ir.Unfold) else op.step
    return sp.downsample(inputs[0], [abs(s) for s in steps])


def _reduce(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    op = node.op
    assert isinstance(op, ir.Reduce | ir.Flatten)
    if isinstance(op, ir.Reduce) and op.kind in ("mean", "sum"):
        picked: Support = inputs[0][tuple(0 if a in op.axes else slice(None) for a in range(inputs[0].ndim))]
        return np.asarray(picked)
    return np.asarray(inputs[0].any(axis=op.axes)) if op.axes else sp.generated(inputs[0])


def _broadcast(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    assert isinstance(node.op, ir.Broadcast)
    return np.expand_dims(inputs[0], node.op.axes)


def _join_kind(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    assert isinstance(node.op, ir.Join)
    return (_same if node.op.kind in ("add", "sub") else _mixed)(state, index, node, inputs)


def _normalize(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    assert isinstance(node.op, ir.Normalize)
    global_statistics = node.op.kind in ("batch", "instance", "group")  # an affine map once the statistics are known
    return inputs[0] if global_statistics else sp.generated(inputs[0])


def _attention(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    op = node.op
    assert isinstance(op, ir.Attention)
    if op.windowed and not all(sp.is_constant(s) for s in inputs):
        raise _NotKnown(f"attention in windows over a periodic field at {node.name}")
    query = inputs[0] if inputs[0].ndim == len(node.sizes) else _spread(inputs[0], len(node.sizes))
    return sp.generated(query)


def _channel_mix(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    axes = len(node.sizes)
    fitting = [s for s in inputs if s.ndim == axes]
    return sp.combine(fitting) if fitting else sp.constant(axes)


def _constant_only(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    field_support = inputs[0]
    if not sp.is_constant(field_support):
        raise _NotKnown(f"{node.name} reads positions that depend on the data, from a field that is not constant")
    return sp.constant(len(node.sizes))


def _unknown(state: _Pass, index: int, node: ir.Node, inputs: list[Support]) -> Support:
    assert isinstance(node.op, ir.Unknown)
    if node.op.spatial and (node.sizes or any(s.ndim for s in inputs)):
        raise _NotKnown(f"{node.op.operator} at {node.name} is not analysed")
    return sp.constant(len(node.sizes))


_RULES: dict[type[ir.Op], Rule] = {
    ir.Affine: _same,
    ir.Attention: _attention,
    ir.Birth: _start,
    ir.Broadcast: _broadcast,
    ir.ChannelMix: _channel_mix,
    ir.ChannelPermute: _same,
    ir.ChannelSlice: _same,
    ir.Concat: _same,
    ir.Conv: _conv,
    ir.ConvTranspose: _conv_transpose,
    ir.Flatten: _reduce,
    ir.Fold: _fold,
    ir.Input: _start,
    ir.Join: _join_kind,
    ir.Linear: _same,
    ir.Normalize: _normalize,
    ir.Output: _same,
    ir.Pad: _same,
    ir.PixelShuffle: _pixel_shuffle,
    ir.PixelUnshuffle: _down,
    ir.Pointwise: _mixed,
    ir.Pool: _pool,
    ir.Reduce: _reduce,
    ir.Resize: _resize,
    ir.Slice: _down,
    ir.Source: _start,
    ir.Unfold: _down,
    ir.Unknown: _unknown,
    ir.Unpool: _unpool,
    ir.Warp: _constant_only,
}
