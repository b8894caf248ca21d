"""The exact interior response of a network to constant inputs, with its actual weights.

Away from borders a constant input makes every value of the network periodic, so the network is evaluated on the period
cells themselves (tori): as small a canvas as is exact. Probes are the constants 0, +1 and -1 in every channel and 16
seeded normal colours, at every input and wherever a lattice is born.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import lcm, log10, prod

import numpy as np
from numpy.typing import NDArray

from evenly.check.lattice import births
from evenly.graph import ir
from evenly.theory.activations import activation
from evenly.theory.torus import conv_index, line_periods, pool_matrix, resize_matrix, slice_index, transpose_index

__all__ = ["MAX_WORK", "PROBES", "Response", "respond"]

Array = NDArray[np.float64]

PROBES = 19
_ALL = (slice(None), slice(None))  # every probe, every channel
MAX_WORK = 1e10  # multiply-adds: about a second on two cores
MAX_VALUES = 2**25  # numbers in one value: 256 MiB
TOUCH = 30  # reading or writing a number costs about as much as this many multiply-adds


@dataclass(frozen=True)
class Response:
    """Energy of one output per period.

    Attributes:
        decibel: Per period in samples of the output, energy of the lines of exactly that period in dB relative to the
            constant's own output, largest over the probes; ``-inf`` where it is zero, ``inf`` where the constant's
            output is zero and the line is not.
        reason: Why ``decibel`` is ``None``.
    """

    decibel: dict[int, float] | None
    reason: str | None = None


class _NotKnown(Exception):  # noqa: N818 - control flow inside this module
    pass


@dataclass
class _Work:
    probes: int = PROBES
    done: float = 0.0

    def spend(self, node: ir.Node, amount: float, values: float) -> None:
        """Count multiply-adds and numbers made, for all probes."""
        self.done += amount + TOUCH * values
        if self.done > MAX_WORK or values > MAX_VALUES:
            raise _NotKnown(
                f"the exact response needs a canvas that is too large from {node.name} on "
                f"(more than {MAX_WORK:.0e} multiply-adds)"
            )


Rule = Callable[[ir.Node, list[Array], _Work], Array]


def respond(graph: ir.Graph) -> dict[int, Response]:
    """Evaluate a network on constant inputs; one :class:`Response` per output node.

    A first pass with no probes at all finds what can be evaluated, and what it costs; the second evaluates only that.
    """
    feasible = _evaluate(graph, probes=0, wanted=frozenset(range(len(graph.nodes))))
    wanted = {o for o in graph.outputs if isinstance(feasible[o], np.ndarray)}
    for index in range(len(graph.nodes) - 1, -1, -1):
        if index in wanted:
            wanted.update(graph.nodes[index].fields)
    values = _evaluate(graph, probes=PROBES, wanted=frozenset(wanted))
    return {o: _measure(values[o] if o in wanted else feasible[o], len(graph.nodes[o].sizes)) for o in graph.outputs}


def _evaluate(graph: ir.Graph, *, probes: int, wanted: frozenset[int]) -> list[Array | str | None]:
    """Values of the outputs, or why there are none; the values of other nodes are dropped on the way."""
    born = births(graph)
    readers = [len(r) for r in graph.consumers()]
    values: list[Array | str | None] = [None] * len(graph.nodes)
    generator = np.random.default_rng(0)
    work = _Work(probes)
    for index, node in enumerate(graph.nodes):
        if index in born or isinstance(node.op, ir.Input):
            values[index] = _probes(generator, node)[:probes]
            continue
        if index not in wanted:
            continue
        incoming = [values[i] for i in node.fields]
        reason = next((v for v in incoming if isinstance(v, str)), None)
        if reason is None:
            try:
                with np.errstate(all="ignore"):
                    made = _RULES[type(node.op)](node, [v for v in incoming if isinstance(v, np.ndarray)], work)
                work.spend(node, 0.0, PROBES * prod(made.shape[1:]))
                values[index] = made
            except _NotKnown as error:
                reason = str(error)
        if reason is not None:
            values[index] = reason
        for source in set(node.inputs):
            readers[source] -= 1
            if not readers[source]:
                values[source] = None
    return values


def _probes(generator: np.random.Generator, node: ir.Node) -> Array:
    colours = np.concatenate(
        [np.array([0.0, 1.0, -1.0])[:, None] * np.ones(node.channels), generator.standard_normal((16, node.channels))]
    )
    return colours.reshape(PROBES, node.channels, *(1,) * len(node.sizes))


def _measure(value: Array | str | None, axes: int) -> Response:
    if not isinstance(value, np.ndarray):
        return Response(None, value or "the output is not known")
    if not np.isfinite(value).all():
        return Response(None, "the response overflows")
    cell = value.shape[2:]
    lines = np.fft.fftn(value, axes=tuple(range(2, 2 + axes))) / max(prod(cell), 1)
    power = (np.abs(lines) ** 2).sum(1)  # (probes, *cell)
    constant = power[(slice(None), *(0,) * axes)]
    periods = line_periods(cell).ravel()
    flat = power.reshape(len(power), -1)
    return Response({int(p): _decibel(flat[:, periods == p].sum(1), constant) for p in np.unique(periods) if p > 1})


def _decibel(energy: Array, constant: Array) -> float:
    levels = [_level(float(e), float(c)) for e, c in zip(energy, constant, strict=True)]
    return max(levels)


def _level(energy: float, constant: float) -> float:
    if energy == 0:
        return float("-inf")
    return 10 * log10(energy / constant) if constant > 0 else float("inf")


# operations on (probes, channels, *cell)


def _tile(array: Array, cell: Sequence[int]) -> Array:
    own = array.shape[2:]
    if own == tuple(cell):
        return array
    return np.tile(array, (1, 1, *(c // o for c, o in zip(cell, own, strict=True))))


def _common(node: ir.Node, inputs: list[Array]) -> list[Array]:
    axes = len(node.sizes)
    spread = [x if x.ndim == 2 + axes else x.reshape(*x.shape, *(1,) * (2 + axes - x.ndim)) for x in inputs]
    cell = tuple(lcm(*sizes) for sizes in zip(*(x.shape[2:] for x in spread), strict=True))
    return [_tile(x, cell) for x in spread]


def _known(weight: ir.Weight | None, node: ir.Node) -> ir.Weight:
    if weight is None or not weight.known:
        raise _NotKnown(f"the weights of {node.name} are not known")
    return weight


def _weight(weight: ir.Weight | None, node: ir.Node) -> Array:
    return _known(weight, node).values()


def _bias(bias: ir.Weight | None, node: ir.Node, axes: int) -> Array | float:
    return 0.0 if bias is None else _weight(bias, node).reshape(-1, *(1,) * axes)


def _mix(weight: Array, x: Array, groups: int) -> Array:
    """``(C_out, C_in / g)`` times ``(C_in, columns)``: one large product."""
    if groups == 1:
        return np.asarray(weight @ x)
    grouped = weight.reshape(groups, -1, weight.shape[1])
    return np.asarray(np.matmul(grouped, x.reshape(groups, -1, x.shape[1])).reshape(len(weight), -1))


def _channels_first(x: Array) -> Array:
    return np.ascontiguousarray(x.swapaxes(0, 1))


def _conv(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Conv)
    (x,) = inputs[:1]
    known = _known(op.weight, node)
    cell = x.shape[2:]
    indices = [
        conv_index(c, k, s, d, low)
        for c, k, s, d, (low, _) in zip(cell, op.kernel, op.stride, op.dilation, op.padding, strict=True)
    ]
    columns = [np.unique(i, axis=1, return_inverse=True) for i in indices]
    after = tuple(len(i) for i in indices)
    combos = prod(c.shape[1] for c, _ in columns)
    outputs = op.out_channels * PROBES * prod(after)
    work.spend(node, outputs * (op.in_channels // op.groups) * combos, outputs)
    if not len(x):
        return np.zeros((0, op.out_channels, *after))
    if combos == 1:
        taps = known.tap_sum()[None]
    else:
        weight = known.values()  # taps that fall on the same cell position add up
        for axis, (unique, inverse) in enumerate(columns):
            select = np.zeros((weight.shape[2 + axis], unique.shape[1]))
            select[np.arange(len(select)), np.ravel(inverse)] = 1
            weight = np.moveaxis(np.tensordot(weight, select, (2 + axis, 0)), -1, 2 + axis)
        taps = np.ascontiguousarray(np.moveaxis(weight.reshape(*weight.shape[:2], -1), -1, 0))
    source = _channels_first(x)
    y = np.zeros((op.out_channels, len(x) * prod(after)))
    for tap, combo in zip(taps, product(*(range(c.shape[1]) for c, _ in columns)), strict=True):
        read = source
        for axis, ((unique, _), column) in enumerate(zip(columns, combo, strict=True)):
            read = np.take(read, unique[:, column], 2 + axis)
        y += _mix(tap, read.reshape(len(read), -1), op.groups)
    return np.asarray(y.reshape(op.out_channels, len(x), *after).swapaxes(0, 1) + _bias(op.bias, node, len(cell)))


def _conv_transpose(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.ConvTranspose)
    (x,) = inputs[:1]
    known = _known(op.weight, node)
    cell = x.shape[2:]
    after = tuple(c * s for c, s in zip(cell, op.stride, strict=True))
    products = op.out_channels // op.groups * op.in_channels * PROBES * prod(cell) * prod(op.kernel)
    work.spend(node, products, PROBES * op.out_channels * prod(after))
    if not len(x):
        return np.zeros((0, op.out_channels, *after))
    weight = known.values()  # (C_in, C_out/g, *k)
    grouped = weight.reshape(op.groups, -1, weight.shape[1], prod(op.kernel))  # (g, C_in/g, C_out/g, taps)
    taps = np.ascontiguousarray(grouped.transpose(3, 0, 2, 1)).reshape(prod(op.kernel), op.out_channels, -1)
    indices = [
        transpose_index(c, k, s, d, low)
        for c, k, s, d, (low, _) in zip(cell, op.kernel, op.stride, op.dilation, op.padding, strict=True)
    ]
    y = np.zeros((op.out_channels, len(x), *after))
    source = _channels_first(x).reshape(op.in_channels, -1)
    for kernel, tap in zip(taps, product(*(range(k) for k in op.kernel)), strict=True):
        place = np.ix_(*(i[:, t] for i, t in zip(indices, tap, strict=True)))
        y[_ALL + place] += _mix(kernel, source, op.groups).reshape(op.out_channels, len(x), *cell)
    return np.asarray(y.swapaxes(0, 1) + _bias(op.bias, node, len(cell)))


def _linear(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Linear)
    (x,) = inputs[:1]
    outputs = op.out_channels * PROBES * prod(x.shape[2:])
    work.spend(node, outputs * op.in_channels, outputs)
    known = _known(op.weight, node)
    if not len(x):
        return np.zeros((0, op.out_channels, *x.shape[2:]))
    y = _mix(known.values(), _channels_first(x).reshape(op.in_channels, -1), 1)
    shaped = y.reshape(op.out_channels, len(x), *x.shape[2:]).swapaxes(0, 1)
    return np.asarray(shaped + _bias(op.bias, node, x.ndim - 2))


def _matrices(x: Array, matrices: Sequence[Array | None]) -> Array:
    for axis, matrix in enumerate(matrices):
        if matrix is not None:
            x = np.moveaxis(np.tensordot(matrix, x, (1, 2 + axis)), 0, 2 + axis)
    return x


def _resize(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    assert isinstance(node.op, ir.Resize)
    x = inputs[0]
    for r, c in zip(node.op.axes, x.shape[2:], strict=True):
        grown = lcm(c, r.down) // r.down * r.up / c if c > 1 else 1.0
        work.spend(node, 0, PROBES * prod(x.shape[1:]) * grown)
    return _matrices(
        x, [None if c == 1 else resize_matrix(r, c) for r, c in zip(node.op.axes, x.shape[2:], strict=True)]
    )


def _pool(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Pool)
    (x,) = inputs
    starts = [low for low, _ in op.padding]
    if op.kind == "average":
        sizes = zip(x.shape[2:], op.kernel, op.stride, op.dilation, starts, strict=True)
        return _matrices(x, [pool_matrix(*numbers) for numbers in sizes])
    if op.kind == "lp":
        raise _NotKnown(f"Lp pooling at {node.name} is not evaluated")
    for axis, (k, s, d, p) in enumerate(zip(op.kernel, op.stride, op.dilation, starts, strict=True)):
        index = conv_index(x.shape[2 + axis], k, s, d, p)
        x = np.take(x, index, 2 + axis).max(3 + axis)
    return x


def _unpool(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    raise _NotKnown(f"max un-pooling at {node.name} puts values at positions that depend on the data")


def _pixel_shuffle(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    assert isinstance(node.op, ir.PixelShuffle)
    (x,), factor = inputs, node.op.factor
    axes = len(factor)
    shaped = x.reshape(len(x), node.channels, *factor, *x.shape[2:])
    order = [0, 1, *(place for a in range(axes) for place in (2 + axes + a, 2 + a))]
    return shaped.transpose(order).reshape(
        len(x), shaped.shape[1], *(c * r for c, r in zip(x.shape[2:], factor, strict=True))
    )


def _pixel_unshuffle(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    assert isinstance(node.op, ir.PixelUnshuffle)
    (x,), factor = inputs, node.op.factor
    axes = len(factor)
    x = _tile(x, [lcm(c, r) for c, r in zip(x.shape[2:], factor, strict=True)])
    split = [n for c, r in zip(x.shape[2:], factor, strict=True) for n in (c // r, r)]
    shaped = x.reshape(*x.shape[:2], *split)
    order = [0, 1, *(3 + 2 * a for a in range(axes)), *(2 + 2 * a for a in range(axes))]
    return shaped.transpose(order).reshape(len(x), node.channels, *split[::2])


def _unfold(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Unfold)
    (x,) = inputs
    cell = x.shape[2:]
    indices = [
        conv_index(c, k, s, d, low)
        for c, k, s, d, (low, _) in zip(cell, op.kernel, op.stride, op.dilation, op.padding, strict=True)
    ]
    blocks = []
    for tap in product(*(range(k) for k in op.kernel)):
        read = x
        for axis, (index, t) in enumerate(zip(indices, tap, strict=True)):
            read = np.take(read, index[:, t], 2 + axis)
        blocks.append(read)
    stacked = np.stack(blocks, 2)  # (B, C, taps, *cell)
    return stacked.reshape(len(x), node.channels, *stacked.shape[3:])


def _fold(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Fold)
    (x,) = inputs
    cell = x.shape[2:]
    columns = x.reshape(len(x), node.channels, *op.kernel, *cell)
    y = np.zeros((len(x), node.channels, *(c * s for c, s in zip(cell, op.stride, strict=True))))
    indices = [
        transpose_index(c, k, s, d, low)
        for c, k, s, d, (low, _) in zip(cell, op.kernel, op.stride, op.dilation, op.padding, strict=True)
    ]
    for tap in product(*(range(k) for k in op.kernel)):
        place = np.ix_(*(i[:, t] for i, t in zip(indices, tap, strict=True)))
        y[_ALL + place] += columns[_ALL + tap]
    return y


def _shift(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    assert isinstance(node.op, ir.Pad)
    (x,) = inputs
    return np.roll(x, [low for low, _ in node.op.padding], tuple(range(2, x.ndim)))


def _slice(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Slice)
    (x,) = inputs
    for axis, (start, step) in enumerate(zip(op.start, op.step, strict=True)):
        if x.shape[2 + axis] > 1:
            x = np.take(x, slice_index(x.shape[2 + axis], start, step), 2 + axis)
    return x


_REDUCTIONS: dict[str, Callable[..., Array]] = {
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
}


def _reduce(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Reduce)
    reduction = _REDUCTIONS.get(op.kind)
    if reduction is None or (op.kind != "mean" and op.channels and op.kind not in ("max", "min")):
        raise _NotKnown(f"the reduction {op.kind!r} at {node.name} depends on the size of the lattice")
    x = inputs[0]
    x = np.asarray(reduction(x, axis=tuple(2 + a for a in op.axes)))
    return np.asarray(reduction(x, axis=1, keepdims=True)) if op.channels else x


def _flatten(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Flatten)
    (x,) = inputs
    axes = x.ndim - 2
    size = node.channels // x.shape[1]
    if any(x.shape[2 + a] != 1 for a in op.axes) or (len(op.axes) == axes and node.channels % x.shape[1]):
        raise _NotKnown(f"{node.name} reads every position of a periodic field with weights of its own")
    x = x.squeeze(tuple(2 + a for a in op.axes))
    return np.repeat(x, size, 1)


def _broadcast(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    assert isinstance(node.op, ir.Broadcast)
    return np.expand_dims(inputs[0], tuple(2 + a for a in node.op.axes))


def _concat(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    return np.asarray(np.concatenate(_common(node, inputs), 1))


_JOINS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
}


def _join(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    assert isinstance(node.op, ir.Join)
    a, b = _common(node, inputs)
    return np.asarray(_JOINS[node.op.kind](a, b))


def _per_channel(value: ir.Weight | float | None, node: ir.Node, axes: int, default: float) -> Array | float:
    if isinstance(value, ir.Weight):
        return _weight(value, node).reshape(-1, *(1,) * axes)
    return default if value is None else value


def _affine(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Affine)
    (x,) = inputs[:1]
    axes = x.ndim - 2
    return np.asarray(_per_channel(op.scale, node, axes, 1.0) * x + _per_channel(op.shift, node, axes, 0.0))


def _pointwise(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Pointwise)
    (x,) = inputs[:1]
    if op.weight is not None:
        slope = _per_channel(op.weight, node, x.ndim - 2, 1.0)
        return np.where(x > 0, x, slope * x)
    function = activation(op.function, op.parameters)
    if function is None:
        raise _NotKnown(f"the function {op.function!r} at {node.name} has no entry")
    return function(x)


def _normalize(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Normalize)
    (x,) = inputs[:1]
    axes = tuple(range(2, x.ndim))
    scale, shift = (_per_channel(w, node, len(axes), d) for w, d in ((op.weight, 1.0), (op.bias, 0.0)))
    if op.kind == "batch":
        raise _NotKnown(f"{node.name} normalises by the statistics of a batch; check the network in eval mode")
    if op.kind == "instance":
        centred = x - x.mean(axes, keepdims=True)
        return np.asarray(centred / np.sqrt((centred**2).mean(axes, keepdims=True) + op.eps) * scale + shift)
    grouped = x.reshape(len(x), op.groups, x.shape[1] // op.groups, *x.shape[2:])
    made = _STATISTICS[op.kind](grouped, op.eps).reshape(x.shape)
    return np.asarray(made * scale + shift)


def _standardised(x: Array, eps: float, axes: tuple[int, ...], *, centre: bool) -> Array:
    x = x - x.mean(axes, keepdims=True) if centre else x
    return np.asarray(x / np.sqrt((x**2).mean(axes, keepdims=True) + eps))


def _softmax(x: Array, eps: float) -> Array:
    shifted = np.exp(x - x.max(2, keepdims=True))
    return np.asarray(shifted / shifted.sum(2, keepdims=True))


# on (probes, groups, channels of a group, *cell)
_STATISTICS: dict[str, Callable[[Array, float], Array]] = {
    "group": lambda x, eps: _standardised(x, eps, tuple(range(2, x.ndim)), centre=True),
    "l2": lambda x, eps: np.asarray(x / np.sqrt((x**2).sum(2, keepdims=True) + eps)),
    "layer": lambda x, eps: _standardised(x, eps, (2,), centre=True),
    "rms": lambda x, eps: _standardised(x, eps, (2,), centre=False),
    "softmax": _softmax,
}


def _attention(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Attention)
    query, key, value = inputs[:3]
    axes = len(node.sizes)
    if prod(value.shape[2:]) == 1:  # identical tokens: every softmax is even
        flat = value.reshape(*value.shape[:2], *(1,) * axes)
        cell = query.shape[2:] if query.ndim == 2 + axes else (1,) * axes
        return np.asarray(np.broadcast_to(flat, (*flat.shape[:2], *cell)))
    if op.biased or op.windowed or query.ndim != 2 + axes:
        raise _NotKnown(f"attention with a mask, a bias or windows over a periodic field at {node.name}")
    q, k, v = (_heads(a, op.heads) for a in (query, key, value))
    pairs = PROBES * op.heads * q.shape[-1] * k.shape[-1]
    work.spend(node, 2 * pairs * q.shape[-2], pairs)
    scores = op.scale * np.matmul(q.swapaxes(-1, -2), k)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.matmul(v, weights.swapaxes(-1, -2))
    return np.asarray(mixed.reshape(len(query), node.channels, *query.shape[2:]))


def _heads(x: Array, heads: int) -> Array:
    return x.reshape(len(x), heads, x.shape[1] // heads, prod(x.shape[2:]))


def _warp(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    x = inputs[0]
    if prod(x.shape[2:]) != 1:
        raise _NotKnown(f"{node.name} reads positions that depend on the data")
    return x


def _channel_slice(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    assert isinstance(node.op, ir.ChannelSlice)
    return inputs[0][:, node.op.start : node.op.stop : node.op.step]


def _permute(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.ChannelPermute)
    (x,) = inputs
    order = np.arange(x.shape[1]).reshape(op.sizes).transpose(op.perm).ravel()
    return x[:, order]


def _source(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    op = node.op
    assert isinstance(op, ir.Source)
    if op.kind == "noise":
        return np.zeros((work.probes, node.channels, *(1,) * len(node.sizes)))
    raise _NotKnown(f"{node.name} varies over the lattice without a period")


def _same(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    return inputs[0]


def _unknown(node: ir.Node, inputs: list[Array], work: _Work) -> Array:
    assert isinstance(node.op, ir.Unknown | ir.ChannelMix | ir.Birth | ir.Input)
    what = node.op.operator if isinstance(node.op, ir.Unknown) else type(node.op).__name__
    raise _NotKnown(f"{what} at {node.name} is not evaluated")


_RULES: dict[type[ir.Op], Rule] = {
    ir.Affine: _affine,
    ir.Attention: _attention,
    ir.Birth: _unknown,
    ir.Broadcast: _broadcast,
    ir.ChannelMix: _unknown,
    ir.ChannelPermute: _permute,
    ir.ChannelSlice: _channel_slice,
    ir.Concat: _concat,
    ir.Conv: _conv,
    ir.ConvTranspose: _conv_transpose,
    ir.Flatten: _flatten,
    ir.Fold: _fold,
    ir.Input: _unknown,
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
