"""Hand-made graphs, a line per layer, and a plain evaluation of them on a large canvas. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

import reference
from evenly.graph import ir
from evenly.theory.resize import AxisResize, axis_resize

Array = NDArray[np.float64]


class Net:
    """Builds a graph; every method appends one node and returns its index, reading the last node by default."""

    def __init__(self, channels: int = 4, sizes: Sequence[int] = (8, 8), *, seed: int = 0, known: bool = True) -> None:
        self.rng = np.random.default_rng(seed)
        self.known = known
        self.nodes: list[ir.Node] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.input(channels, sizes)

    @property
    def last(self) -> ir.Node:
        return self.nodes[-1]

    def add(
        self,
        op: ir.Op,
        channels: int,
        sizes: Sequence[int],
        inputs: Sequence[int] | None = None,
        name: str | None = None,
    ) -> int:
        sources = (len(self.nodes) - 1,) if inputs is None else tuple(inputs)
        made = name or f"{type(op).__name__.lower()}{len(self.nodes)}"
        self.nodes.append(ir.Node(made, op, sources, channels, tuple(sizes)))
        return len(self.nodes) - 1

    def weight(self, shape: Sequence[int], values: Array | float | None = None, fixed: bool = False) -> ir.Weight:
        """Normal numbers, or the given ones (a number fills the shape)."""
        array = self.rng.standard_normal(shape) if values is None else np.broadcast_to(values, tuple(shape)).copy()
        load: Callable[[], Array] | None = (lambda: array) if self.known or fixed else None
        return ir.Weight(f"weight{len(self.nodes)}", tuple(shape), fixed, load)

    def _source(self, source: int | None) -> tuple[int, ir.Node]:
        index = len(self.nodes) - 1 if source is None else source
        return index, self.nodes[index]

    def input(self, channels: int, sizes: Sequence[int]) -> int:
        self.inputs.append(self.add(ir.Input(), channels, sizes, (), f"input{len(self.inputs) or ''}"))
        return self.inputs[-1]

    def conv(
        self,
        channels: int,
        k: int | Sequence[int],
        s: int = 1,
        p: int | None = None,
        d: int = 1,
        *,
        groups: int = 1,
        values: Array | float | None = None,
        fixed: bool = False,
        bias: bool = False,
        pad_mode: ir.PadMode = "replicate",
        source: int | None = None,
        name: str | None = None,
    ) -> int:
        """Convolution; padding ``(k - 1) / 2`` by default, replicated so that no border rule fires."""
        index, before = self._source(source)
        axes = len(before.sizes)
        kernel = (k,) * axes if isinstance(k, int) else tuple(k)
        pads = tuple((d * (n - 1) // 2,) * 2 if p is None else (p, p) for n in kernel)
        weight = self.weight((channels, before.channels // groups, *kernel), values, fixed)
        shift = self.weight((channels,)) if bias else None
        ones = (1,) * axes
        op = ir.Conv(
            kernel,
            (s,) * axes,
            pads,
            tuple(d * o for o in ones),
            groups,
            before.channels,
            channels,
            pad_mode,
            weight,
            shift,
        )
        sizes = [
            (n + 2 * a - d * (q - 1) - 1) // s + 1 for n, (a, _), q in zip(before.sizes, pads, kernel, strict=True)
        ]
        return self.add(op, channels, sizes, (index,), name)

    def deconv(
        self,
        channels: int,
        k: int,
        s: int = 2,
        p: int = 0,
        d: int = 1,
        *,
        groups: int = 1,
        values: Array | float | None = None,
        fixed: bool = False,
        bias: bool = False,
        source: int | None = None,
        name: str | None = None,
    ) -> int:
        """Transposed convolution; the output is cut or grown at the end to ``s`` times the input."""
        index, before = self._source(source)
        axes = len(before.sizes)
        weight = self.weight((before.channels, channels // groups, *(k,) * axes), values, fixed)
        shift = self.weight((channels,)) if bias else None
        after = d * (k - 1) + 1 - s - p
        op = ir.ConvTranspose(
            (k,) * axes,
            (s,) * axes,
            ((p, after),) * axes,
            (d,) * axes,
            (0,) * axes,
            groups,
            before.channels,
            channels,
            weight,
            shift,
        )
        return self.add(op, channels, [s * n for n in before.sizes], (index,), name)

    def balanced(self, channels: int, k: int, s: int = 2, p: int = 0, **more: object) -> int:
        """A transposed convolution whose kernel is divisible by ``1 + z + ...`` on every axis: equal phases."""
        _, before = self._source(None)
        base = self.rng.standard_normal((before.channels, channels, *(k - s + 1,) * len(before.sizes)))
        for axis in range(2, base.ndim):
            base = np.apply_along_axis(np.convolve, axis, base, np.ones(s))
        return self.deconv(channels, k, s, p, values=base, **more)  # type: ignore[arg-type]

    def resize(self, factor: int = 2, mode: str = "nearest", source: int | None = None) -> int:
        index, before = self._source(source)
        more = {"coordinate": "asymmetric", "nearest": "floor"} if mode == "nearest" else {}
        axes = tuple(axis_resize(n, factor * n, mode, **more) for n in before.sizes)  # type: ignore[arg-type]
        return self.add(ir.Resize(axes, mode), before.channels, [factor * n for n in before.sizes], (index,))

    def shuffle(self, factor: int = 2, idiom: str = "pixel_shuffle", name: str | None = None) -> int:
        before = self.last
        axes = len(before.sizes)
        op = ir.PixelShuffle((factor,) * axes, idiom)  # type: ignore[arg-type]
        return self.add(op, before.channels // factor**axes, [factor * n for n in before.sizes], name=name)

    def pool(self, kind: str, k: int, s: int, p: int = 0, source: int | None = None, name: str | None = None) -> int:
        index, before = self._source(source)
        axes = len(before.sizes)
        op = ir.Pool(kind, (k,) * axes, (s,) * axes, ((p, p),) * axes, (1,) * axes)  # type: ignore[arg-type]
        return self.add(op, before.channels, [(n + 2 * p - k) // s + 1 for n in before.sizes], (index,), name)

    def fold(self, k: int, s: int, p: int = 0, name: str | None = None) -> int:
        before = self.last
        axes = len(before.sizes)
        op = ir.Fold((k,) * axes, (s,) * axes, ((p, p),) * axes, (1,) * axes)
        sizes = [s * (n - 1) + k - 2 * p for n in before.sizes]
        return self.add(op, before.channels // k**axes, sizes, name=name)

    def slice(self, start: int, step: int, source: int | None = None, name: str | None = None) -> int:
        index, before = self._source(source)
        axes = len(before.sizes)
        sizes = [len(range(start, n, step)) for n in before.sizes]
        return self.add(ir.Slice((start,) * axes, (step,) * axes), before.channels, sizes, (index,), name)

    def same(self, op: ir.Op, source: int | None = None, name: str | None = None) -> int:
        """An operation that keeps channels and lattice."""
        index, before = self._source(source)
        return self.add(op, before.channels, before.sizes, (index,), name)

    def relu(self) -> int:
        return self.same(ir.Pointwise("relu"))

    def join(self, kind: str, a: int, b: int) -> int:
        op = ir.Join(kind)  # type: ignore[arg-type]
        return self.add(op, self.nodes[a].channels, self.nodes[a].sizes, (a, b))

    def concat(self, *sources: int) -> int:
        channels = sum(self.nodes[i].channels for i in sources)
        return self.add(ir.Concat(), channels, self.nodes[sources[0]].sizes, sources)

    def output(self, source: int | None = None) -> int:
        index, before = self._source(source)
        made = self.add(ir.Output(), before.channels, before.sizes, (index,), f"output{len(self.outputs) or ''}")
        self.outputs.append(made)
        return made

    def graph(self) -> ir.Graph:
        if not self.outputs:
            self.output()
        nodes = self.nodes
        return ir.Graph(
            "hand-made",
            tuple(nodes),
            tuple(self.inputs),
            tuple(self.outputs),
            tuple((1, nodes[i].channels, *nodes[i].sizes) for i in self.inputs),
            tuple((1, nodes[o].channels, *nodes[o].sizes) for o in self.outputs),
            ("float32",) * len(self.inputs),
        )


# ---------------------------------------------------------------- plain evaluation

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def _bias(weight: ir.Weight | None, axes: int) -> Array | float:
    return 0.0 if weight is None else weight.values().reshape(-1, *(1,) * axes)


def _resized(x: Array, resizes: Sequence[AxisResize]) -> Array:
    for axis, r in enumerate(resizes, 1):
        moved = np.moveaxis(x, axis, 0)
        made = np.zeros((len(moved) * r.up // r.down, *moved.shape[1:]))
        for n in range(len(made)):
            q, phase = divmod(n, r.up)
            for offset, w in r.taps[phase]:
                made[n] += w * moved[min(max(r.down * q + offset, 0), len(moved) - 1)]
        x = np.moveaxis(made, 0, axis)
    return x


def _pooled(x: Array, op: ir.Pool) -> Array:
    combine = np.max if op.kind == "max" else np.mean
    for axis, (k, s) in enumerate(zip(op.kernel, op.stride, strict=True), 1):
        moved = np.moveaxis(x, axis, 0)
        made = np.stack([combine(moved[n : n + k], axis=0) for n in range(0, len(moved) - k + 1, s)])
        x = np.moveaxis(made, 0, axis)
    return x


def run(graph: ir.Graph, *inputs: Array) -> list[Array]:
    """Every value of a graph for inputs on a canvas, borders padded with zeros."""
    values: list[Array] = []
    given = iter(inputs)
    for node in graph.nodes:
        op, xs = node.op, [values[i] for i in node.inputs]
        axes = len(node.sizes)
        match op:
            case ir.Input():
                y = next(given)
            case ir.Conv():
                assert op.weight is not None
                y = reference.conv(xs[0], op.weight.values(), op.stride, op.padding, op.dilation, op.groups)
                y = y + _bias(op.bias, axes)
            case ir.ConvTranspose():
                assert op.weight is not None
                y = reference.conv_transpose(xs[0], op.weight.values(), op.stride, op.padding, op.dilation, op.groups)
                y = y + _bias(op.bias, axes)
            case ir.Resize():
                y = _resized(xs[0], op.axes)
            case ir.PixelShuffle():
                y = reference.pixel_shuffle(xs[0], op.factor)
            case ir.Pool():
                assert all(a == b == 0 for a, b in op.padding)
                y = _pooled(xs[0], op)
            case ir.Pointwise():
                y = FUNCTIONS[op.function](xs[0])
            case ir.Concat():
                y = np.concatenate(xs)
            case ir.Join():
                y = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[op.kind](*xs)
            case ir.Slice():
                y = xs[0][(slice(None), *(slice(a, None, s) for a, s in zip(op.start, op.step, strict=True)))]
            case ir.Affine():
                y = _number(op.scale, 1.0, axes) * xs[0] + _number(op.shift, 0.0, axes)
            case ir.Output():
                y = xs[0]
            case _:
                raise NotImplementedError(type(op).__name__)
        values.append(np.asarray(y))
    return values


def _number(value: ir.Weight | float | None, default: float, axes: int) -> Array | float:
    if isinstance(value, ir.Weight):
        return value.values().reshape(-1, *(1,) * axes)
    return default if value is None else value


def colours(channels: int, count: int = 16) -> Array:
    """The probes of a network with one input: 0, +1 and -1 in every channel, and seeded normal colours."""
    drawn = np.random.default_rng(0).standard_normal((count, channels))
    return np.concatenate([np.array([0.0, 1.0, -1.0])[:, None] * np.ones(channels), drawn])


def brute_decibels(graph: ir.Graph, canvas: Sequence[int], period: Sequence[int]) -> dict[int, float]:
    """Largest energy per period over the probes, from the middle of a large canvas."""
    channels = graph.nodes[graph.inputs[0]].channels
    worst: dict[int, float] = {}
    for colour in colours(channels):
        x = np.broadcast_to(colour.reshape(-1, *(1,) * len(canvas)), (channels, *canvas))
        y = run(graph, np.array(x))[graph.outputs[0]]
        if not y.any():
            continue  # zero in, zero out
        skip = [n // 2 // p * p for n, p in zip(y.shape[1:], period, strict=True)]
        for p, level in reference.line_decibels(y, skip, period).items():
            worst[p] = max(worst.get(p, -np.inf), level)
    assert prod(period) > 1
    return worst
