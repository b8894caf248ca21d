"""Backward: the gradient with respect to every input, from the laws of :mod:`evenly.theory.backward`.

Every output sends back independent zero-mean gradients of variance 1. Weights are independent, zero-mean and scaled
so that each weight layer's output has mean second moment 1 (as before training, section "Before training" of the
theory); where the forward closed form says nothing, second moments of 1 are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm, prod

import numpy as np
from numpy.typing import NDArray

from evenly.check.kept import kept_kernel
from evenly.graph import ir
from evenly.theory import support as sp
from evenly.theory.activations import activation, derivative_power
from evenly.theory.backward import Gradient, pool_resize
from evenly.theory.overlap import ratio, read_counts, unevenness
from evenly.theory.prior import TooLarge
from evenly.theory.resize import AxisResize
from evenly.theory.torus import resize_matrix

__all__ = ["InputGradient", "backpropagate"]

Array = NDArray[np.float64]
Support = NDArray[np.bool_]


@dataclass(frozen=True)
class InputGradient:
    """The gradient at one node.

    Attributes:
        period: Structural period per axis: what generic weights give to a constant output gradient; ``None`` if not
            known.
        variance: Expected squared gradient over one cell; ``None`` if not computed.
        reason: Why something is ``None``.
    """

    period: tuple[int, ...] | None
    variance: Array | None
    reason: str | None = None

    @property
    def unevenness(self) -> float | None:
        """max/min of the expected squared gradient (ratio)."""
        if self.variance is None:
            return None
        scale = float(self.variance.max()) or 1.0
        clean = np.where(self.variance < 1e-12 * scale, 0.0, self.variance)
        return 1.0 if np.ptp(clean) < 1e-6 * scale else ratio(clean)  # the taps of fixed filters may be float32

    @property
    def dead_fraction(self) -> float | None:
        """Share of positions without any gradient."""
        if self.variance is None:
            return None
        scale = float(self.variance.max())
        return float(np.mean(self.variance <= 1e-12 * scale)) if scale > 0 else 1.0


class _NotKnown(Exception):  # noqa: N818 - control flow inside this module
    pass


@dataclass(frozen=True)
class _LeftOut:
    """A gradient that the laws neglect beside any other: it counts only where nothing else flows.

    Attributes:
        reason: What it flows through, in words.
    """

    reason: str


_Sent = Gradient | str | _LeftOut | None
"""What a node gets back: a gradient; why it is not computed; a neglected one; ``None``: nothing flows at all."""


@dataclass(frozen=True)
class _Step:
    """One node on the way back."""

    node: ir.Node
    sources: tuple[ir.Node, ...]
    place: int
    gradient: Gradient
    variances: tuple[Array | None, ...]  # forward second moments of the inputs

    @property
    def source(self) -> ir.Node:
        return self.sources[self.place]

    @property
    def variance(self) -> Array:
        known = self.variances[self.place]
        return np.ones((1,) * len(self.source.sizes)) if known is None else known


def backpropagate(
    graph: ir.Graph, targets: Sequence[int], variances: Sequence[Array | None]
) -> dict[int, InputGradient]:
    """Expected squared gradients at some nodes.

    Args:
        graph: The network.
        targets: Node indices, usually the inputs.
        variances: Forward second moments of every node over its cell, ``None`` where not computed.
    """
    filtered = _filters_before(graph)
    gradients: list[_Sent] = [None] * len(graph.nodes)
    supports: list[Support | str | None] = [None] * len(graph.nodes)
    for output in graph.outputs:
        gradients[output] = Gradient.white(len(graph.nodes[output].sizes))
        supports[output] = sp.constant(len(graph.nodes[output].sizes))
    result: dict[int, InputGradient] = {}
    wanted = set(targets)
    integers = {
        i for i, dtype in zip(graph.inputs, graph.dtypes, strict=True) if dtype.startswith(("int", "uint", "bool"))
    }
    for index in range(len(graph.nodes) - 1, -1, -1):
        node, gradient = graph.nodes[index], gradients[index]
        if isinstance(supports[index], str) and not node.sizes:
            supports[index] = sp.constant(0)  # a value without lattice has no period, whatever flows through it
        support = supports[index]
        if index in wanted:
            result[index] = _summary(node, None if index in integers else gradient, support)
        sources = tuple(graph.nodes[i] for i in node.inputs)
        for place, source in enumerate(node.inputs):
            if gradient is not None:
                sent = _send(node, sources, place, gradient, tuple(variances[i] for i in node.inputs))
                if isinstance(sent, Gradient) and source not in filtered:
                    sent = sent.without_lags()
                gradients[source] = _sum(gradients[source], sent)
            if support is not None:
                supports[source] = _union(supports[source], _send_support(node, sources[place], place, support))
        if index not in wanted:
            gradients[index] = supports[index] = None
    return result


def _summary(node: ir.Node, gradient: _Sent, support: Support | str | None) -> InputGradient:
    if gradient is None:
        return InputGradient((1,) * len(node.sizes), None, "no output depends on it through anything differentiable")
    period = sp.period(support) if isinstance(support, np.ndarray) else None
    if isinstance(gradient, _LeftOut):
        return InputGradient(period, None, gradient.reason)
    if isinstance(gradient, Gradient):
        return InputGradient(period, gradient.variance(), support if isinstance(support, str) else None)
    if not node.sizes:
        gradient = f"the size of the gradient, which has no positions to be uneven over ({gradient})"
    return InputGradient(period, None, gradient)


def _filters_before(graph: ir.Graph) -> set[int]:
    """Nodes with a fixed filter between them and an input: there the covariance over lags still matters."""
    found: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if (
            isinstance(node.op, ir.Resize)
            or (isinstance(node.op, ir.Pool) and node.op.kind == "average")
            or (isinstance(node.op, ir.Conv | ir.ConvTranspose) and _is_fixed(node.op))
            or any(i in found for i in node.inputs)
        ):
            found.add(index)
    return found


def _sum(a: _Sent, b: _Sent) -> _Sent:
    if isinstance(b, str):
        return b  # of several reasons the one nearest to the input
    if a is None or b is None or isinstance(a, str):
        return b if a is None else a
    if isinstance(a, _LeftOut) or isinstance(b, _LeftOut):
        return b if isinstance(a, _LeftOut) else a
    try:
        return a.add(b)
    except TooLarge as error:
        return str(error)


def _union(a: Support | str | None, b: Support | str | None) -> Support | str | None:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, str) or isinstance(b, str):
        return a if isinstance(a, str) else b
    cell = [lcm(x, y) for x, y in zip(a.shape, b.shape, strict=True)]
    return sp.combine([a, b]) if prod(cell) <= sp.MAX_CELL else "the gradient's period cell is too large"


def _send(
    node: ir.Node,
    sources: tuple[ir.Node, ...],
    place: int,
    gradient: Gradient | str | _LeftOut,
    variances: tuple[Array | None, ...],
) -> _Sent:
    if not isinstance(gradient, Gradient):
        return gradient
    if _is_weights(node, place):
        return _through_weights(node)
    try:
        return _ADJOINTS[type(node.op)](_Step(node, sources, place, gradient, variances))
    except (TooLarge, _NotKnown) as error:
        return f"{node.name}: {error}"


def _is_weights(node: ir.Node, place: int) -> bool:
    """Whether a node reads this input not as a field but as its weights."""
    return place >= len(node.fields)


def _through_weights(node: ir.Node) -> str:
    return f"{node.name}: no law for the gradient through weights that are computed from the input"


# adjoints of the second moments

Adjoint = Callable[[_Step], Gradient | _LeftOut | None]


def _pass(step: _Step) -> Gradient:
    return _fit(step, step.gradient)


def _fit(step: _Step, gradient: Gradient) -> Gradient:
    """Undo the implicit broadcast of a value without lattice."""
    axes = len(step.source.sizes)
    return gradient if gradient.axes == axes else gradient.collected(range(gradient.axes))


def _is_fixed(op: ir.Conv | ir.ConvTranspose) -> bool:
    return op.weight is not None and op.weight.fixed and op.weight.known and prod(op.kernel) > 1


def _separable(op: ir.Conv | ir.ConvTranspose) -> list[Array]:
    """The per-axis factors of a fixed depthwise filter."""
    assert op.weight is not None
    values = op.weight.values()
    kernel = values.reshape(-1, *op.kernel)
    if op.groups != op.in_channels or values.shape[1] != 1 or not np.allclose(kernel, kernel[:1], rtol=1e-5, atol=1e-7):
        raise _NotKnown(f"the fixed filters {op.weight.name} differ between channels")
    taps = kernel[0]
    anchor = np.unravel_index(int(np.abs(taps).argmax()), taps.shape)
    peak = taps[anchor]
    if peak == 0:
        raise _NotKnown(f"the fixed filter {op.weight.name} is zero")
    factors = []
    for axis in range(taps.ndim):
        line = tuple(slice(None) if a == axis else anchor[a] for a in range(taps.ndim))
        factors.append(taps[line] / (peak if axis else 1.0))
    rebuilt = factors[0]
    for factor in factors[1:]:
        rebuilt = np.multiply.outer(rebuilt, factor)
    if not np.allclose(rebuilt, taps, rtol=1e-4, atol=1e-6 * abs(peak)):
        raise _NotKnown(f"the fixed filter {op.weight.name} is not separable")
    return factors


def _fixed_resizes(op: ir.Conv | ir.ConvTranspose) -> list[AxisResize | None]:
    starts = [low for low, _ in op.padding]
    numbers = zip(op.kernel, op.stride, op.dilation, starts, _separable(op), strict=True)
    if isinstance(op, ir.Conv):
        return [pool_resize(k, s, d, p, list(taps)) for k, s, d, p, taps in numbers]
    resizes: list[AxisResize | None] = []
    for _, s, d, p, taps in numbers:  # output s q + r gets tap t from input q + (r + p - d t) / s
        phases = tuple(
            tuple(((r + p - d * t) // s, float(w)) for t, w in enumerate(taps) if (r + p - d * t) % s == 0)
            for r in range(s)
        )
        resizes.append(AxisResize(s, 1, phases))
    return resizes


def _conv(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Conv)
    if _is_fixed(op):
        return step.gradient.resize_adjoint(_fixed_resizes(op))
    if kept_kernel(op) and unevenness(op.kernel, op.stride, op.dilation) != 1:
        raise _NotKnown("no law for the squared gradient through a kernel whose taps depend on each other")
    q = prod(op.kernel) * float(step.variance.mean())
    scale = op.out_channels / op.in_channels / (q or 1.0)
    return step.gradient.conv_adjoint(op.kernel, op.stride, op.dilation, [low for low, _ in op.padding], scale)


def _conv_transpose(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.ConvTranspose)
    if _is_fixed(op):
        return step.gradient.resize_adjoint(_fixed_resizes(op))
    if step.gradient.variance().size > 1 and kept_kernel(op):
        raise _NotKnown("no law for an uneven gradient through a kernel whose taps depend on each other")
    q = prod(op.kernel) / prod(op.stride) * float(step.variance.mean())
    scale = op.out_channels / op.in_channels / (q or 1.0)
    return step.gradient.conv_transpose_adjoint(
        op.kernel, op.stride, op.dilation, [low for low, _ in op.padding], scale
    )


def _linear(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Linear)
    if op.weight is not None and op.weight.fixed and op.weight.known:
        return step.gradient.scaled(float((op.weight.values() ** 2).sum()) / op.in_channels)
    return step.gradient.scaled(op.out_channels / op.in_channels / (float(step.variance.mean()) or 1.0))


def _resize(step: _Step) -> Gradient:
    assert isinstance(step.node.op, ir.Resize)
    return step.gradient.resize_adjoint([None if _identity(r) else r for r in step.node.op.axes])


def _identity(resize: AxisResize) -> bool:
    return (resize.up, resize.down) == (1, 1) and all(offset == 0 for taps in resize.taps for offset, _ in taps)


def _pool(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Pool)
    starts = [low for low, _ in op.padding]
    if op.kind == "average":
        numbers = zip(op.kernel, op.stride, op.dilation, starts, strict=True)
        return step.gradient.resize_adjoint([pool_resize(*n) for n in numbers])
    return step.gradient.max_pool_adjoint(op.kernel, op.stride, op.dilation, starts)


def _unpool(step: _Step) -> Gradient:
    assert isinstance(step.node.op, ir.Unpool)
    if step.place:
        return Gradient.zero(len(step.source.sizes))
    # any of the window's positions may be the remembered one
    stride = step.node.op.stride
    ones, zeros = (1,) * len(stride), (0,) * len(stride)
    return step.gradient.conv_transpose_adjoint(stride, stride, ones, zeros, 1 / prod(stride))


def _pixel_shuffle(step: _Step) -> Gradient:
    assert isinstance(step.node.op, ir.PixelShuffle)
    r = step.node.op.factor
    ones, zeros = (1,) * len(r), (0,) * len(r)
    return step.gradient.conv_transpose_adjoint(r, r, ones, zeros, 1 / prod(r))


def _pixel_unshuffle(step: _Step) -> Gradient:
    assert isinstance(step.node.op, ir.PixelUnshuffle)
    r = step.node.op.factor
    return step.gradient.conv_adjoint(r, r, (1,) * len(r), (0,) * len(r))


def _unfold(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Unfold)
    return step.gradient.conv_adjoint(op.kernel, op.stride, op.dilation, [low for low, _ in op.padding])


def _fold(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Fold)
    return step.gradient.conv_transpose_adjoint(
        op.kernel, op.stride, op.dilation, [low for low, _ in op.padding], 1 / prod(op.kernel)
    )


def _pad(step: _Step) -> Gradient:
    assert isinstance(step.node.op, ir.Pad)
    return step.gradient.shifted([low for low, _ in step.node.op.padding])


def _slice(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Slice)
    ones = (1,) * len(op.step)
    return step.gradient.conv_adjoint(ones, [abs(s) for s in op.step], ones, [-a for a in op.start])


def _reduce(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Reduce)
    axes = len(step.source.sizes)
    if not op.axes:
        return step.gradient
    if len(op.axes) == axes or step.gradient.axes == 0:
        return step.gradient.spread_evenly(axes)
    raise _NotKnown(f"no law for the gradient of a {op.kind} over some of the axes")


def _flatten(step: _Step) -> Gradient:
    assert isinstance(step.node.op, ir.Flatten)
    return Gradient.white(len(step.source.sizes)).scaled(step.gradient.power())


def _collect(step: _Step) -> Gradient:
    if isinstance(step.node.op, ir.Broadcast):
        return step.gradient.collected(step.node.op.axes)
    return step.gradient.collected(range(step.gradient.axes))


def _channel_slice(step: _Step) -> Gradient:
    return step.gradient.scaled(step.node.channels / step.source.channels)


def _join(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Join)
    gradient = step.gradient
    if op.kind == "mul":
        other = step.variances[1 - step.place]
        if other is not None and other.ndim == gradient.axes:
            gradient = gradient.modulated(other)
        elif other is not None:
            gradient = gradient.scaled(float(other.mean()))
    elif op.kind not in ("add", "sub"):
        if op.kind == "div" and step.place == 0:
            return _fit(step, gradient)
        raise _NotKnown(f"no law for the gradient of an elementwise {op.kind}")
    repeat = step.node.channels / step.source.channels
    return _fit(step, gradient.scaled(repeat))


def _affine(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Affine)
    return step.gradient.scaled(float(op.scale) ** 2 if isinstance(op.scale, int | float) else 1.0)


def _pointwise(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Pointwise)
    function = activation(op.function, op.parameters)
    return step.gradient if function is None else step.gradient.scaled(derivative_power(function))


def _normalize(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Normalize)
    variance = step.variance
    if op.kind in ("layer", "rms") and variance.min() > 0:
        return step.gradient.modulated(1 / variance)
    return step.gradient.scaled(1 / (float(variance.mean()) or 1.0))


def _attention(step: _Step) -> Gradient | _LeftOut:
    # even attention: the value's gradient is the average over all positions; queries and keys get none
    if step.place != 2:
        return _LeftOut(f"{step.node.name}: no law for the gradient through the scores of attention")
    axes = len(step.source.sizes)
    return step.gradient.spread_evenly(axes) if axes else step.gradient.collected(range(step.gradient.axes))


def _channel_mix(step: _Step) -> Gradient:
    axes = len(step.source.sizes)
    return step.gradient if axes == step.gradient.axes else step.gradient.collected(range(step.gradient.axes))


def _warp(step: _Step) -> Gradient | None:
    assert isinstance(step.node.op, ir.Warp)
    if step.place and step.node.op.mode == "nearest":
        return None  # rounded positions have no derivative
    raise _NotKnown("the positions that it reads depend on the data")


def _unknown(step: _Step) -> Gradient:
    op = step.node.op
    assert isinstance(op, ir.Unknown)
    if not op.spatial or not (step.source.sizes or step.node.sizes):
        return Gradient.white(len(step.source.sizes)).scaled(step.gradient.power())
    raise _NotKnown(f"{op.operator} is not analysed")


_ADJOINTS: dict[type[ir.Op], Adjoint] = {
    ir.Affine: _affine,
    ir.Attention: _attention,
    ir.Birth: _collect,
    ir.Broadcast: _collect,
    ir.ChannelMix: _channel_mix,
    ir.ChannelPermute: _pass,
    ir.ChannelSlice: _channel_slice,
    ir.Concat: _pass,
    ir.Conv: _conv,
    ir.ConvTranspose: _conv_transpose,
    ir.Flatten: _flatten,
    ir.Fold: _fold,
    ir.Join: _join,
    ir.Linear: _linear,
    ir.Normalize: _normalize,
    ir.Output: _pass,
    ir.Pad: _pad,
    ir.PixelShuffle: _pixel_shuffle,
    ir.PixelUnshuffle: _pixel_unshuffle,
    ir.Pointwise: _pointwise,
    ir.Pool: _pool,
    ir.Reduce: _reduce,
    ir.Resize: _resize,
    ir.Slice: _slice,
    ir.Unfold: _unfold,
    ir.Unknown: _unknown,
    ir.Unpool: _unpool,
    ir.Warp: _warp,
}

# adjoints of the supports: the same laws as forward, in reverse


def _send_support(node: ir.Node, source: ir.Node, place: int, support: Support | str) -> Support | str | None:
    if isinstance(support, str):
        return support
    if _is_weights(node, place):
        return _through_weights(node)
    axes = len(source.sizes)
    op = node.op
    if isinstance(op, ir.Unknown) and op.spatial and (source.sizes or node.sizes):
        return f"{op.operator} at {node.name} is not analysed"
    if isinstance(op, ir.Attention) and op.windowed and op.biased:
        if place != 2:
            return None
        if not op.window:
            return f"{node.name} attends inside scattered blocks with a bias per position"
        blocks = sp.combine([support, sp.everything(op.window)])
        if prod(blocks.shape) > sp.MAX_CELL:
            return f"the gradient's period cell at {node.name} is too large"
        return sp.generated(blocks)
    if isinstance(op, ir.Warp | ir.Attention | ir.Reduce | ir.Flatten | ir.Birth | ir.Unknown) or not axes:
        if isinstance(op, ir.Warp):
            if place and op.mode == "nearest":
                return None
            return f"{node.name} reads positions that depend on the data"
        if isinstance(op, ir.Reduce) and not op.axes:
            return support
        if isinstance(op, ir.Attention) and place == 0 and support.ndim == axes:
            return sp.generated(support)  # a query's gradient comes from its own position
        return sp.constant(axes)
    if isinstance(op, ir.Broadcast):
        kept = tuple(slice(None) if a not in op.axes else 0 for a in range(support.ndim))
        return np.asarray(support[kept])
    steps = _steps_back(node, support.shape)
    if isinstance(steps, tuple):
        up, stride = steps
        if not up:
            return sp.downsample(support, stride)
        if prod(support.shape) * prod(stride) > sp.MAX_CELL:
            return f"the gradient's period cell at {node.name} is too large"
        return sp.upsample(support, stride)
    if steps is None:
        return support
    for axis, resize in enumerate(steps):
        if resize is None:
            continue
        size = lcm(support.shape[axis], resize.up)
        if size * size // resize.up * resize.down > sp.MAX_CELL:
            return f"the gradient's period cell at {node.name} is too large"
        grown = sp.through_matrix(support, np.tile(np.eye(support.shape[axis]), (size // support.shape[axis], 1)), axis)
        support = sp.through_matrix(grown, resize_matrix(resize, size // resize.up * resize.down).T, axis)
    return support


def _steps_back(node: ir.Node, cell: Sequence[int]) -> tuple[bool, Sequence[int]] | list[AxisResize | None] | None:
    """How a gradient's period changes: ``(True, s)`` times s, ``(False, s)`` down by s, filters, or not at all."""
    op = node.op
    if isinstance(op, ir.Conv | ir.ConvTranspose) and _is_fixed(op):
        try:
            return _fixed_resizes(op)
        except _NotKnown:
            return (isinstance(op, ir.Conv), op.stride)
    match op:
        case ir.Conv() if prod(cell) == 1 and kept_kernel(op):
            return None  # what every position is read with adds up to the same
        case ir.Conv() | ir.Unfold():
            return True, op.stride
        case ir.ConvTranspose() | ir.Fold() | ir.Unpool():
            return False, op.stride
        case ir.PixelShuffle():
            return False, op.factor
        case ir.PixelUnshuffle():
            return True, op.factor
        case ir.Slice():
            return True, [abs(s) for s in op.step]
        case ir.Resize():
            return [None if _identity(r) else r for r in op.axes]
        case ir.Pool() if op.kind == "average":
            starts = [low for low, _ in op.padding]
            return [pool_resize(*n) for n in zip(op.kernel, op.stride, op.dilation, starts, strict=True)]
        case ir.Pool():  # windows that cover every position equally often leave no pattern of their own
            even = [ratio(read_counts(k, s, d)) == 1 for k, s, d in zip(op.kernel, op.stride, op.dilation, strict=True)]
            flat = [e and n == 1 for e, n in zip(even, cell, strict=True)]
            return True, [1 if f else s for f, s in zip(flat, op.stride, strict=True)]
        case _:
            return None
