"""Everything that the rules and the report need to know about a network, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from evenly.check.expectation import Expectation, expect
from evenly.check.gradient import InputGradient, backpropagate
from evenly.check.kept import keeps_phases, kept_kernel
from evenly.check.lattice import Rates, births, fraction_period, input_rates, output_rates
from evenly.check.response import Response, respond
from evenly.check.result import Period
from evenly.check.subpixel import subpixel_weight
from evenly.check.supports import Flows, follow
from evenly.errors import WeightsError
from evenly.graph import ir
from evenly.theory.overlap import ratio, read_counts, unevenness
from evenly.theory.phases import dc_gains, image_rejection, ripple
from evenly.theory.prior import Moments, statistics

__all__ = ["BALANCED", "Facts", "Layer", "collapse"]

BALANCED = 1e-5
"""Ripple up to which a layer meets the DC condition (ratio); float32 weights cannot do much better."""


def collapse(periods: Sequence[int] | None) -> Period | None:
    """One number where the axes agree, else one per axis; a value without lattice has period 1."""
    if periods is None:
        return None
    distinct = set(periods)
    return distinct.pop() if len(distinct) == 1 else (tuple(periods) if periods else 1)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer with spatial meaning.

    Attributes:
        index: Its node.
        node: The node.
        label: Name of the operation in reports.
        stride: Up-sampling factor per axis of a layer that writes a finer lattice; ``None`` for others.
        overlap: max/min overlap count (ratio); ``None`` where it does not apply.
        read: max/min count of outputs that read an input position (ratio); ``None`` where it does not apply.
        ripple: Spread of the phases' DC gains (ratio); ``None`` if not known.
        fixed: Whether its weights are a constant of the architecture, so that training cannot change them.
        kept: Whether its weights are computed from parameters such that all phases have equal gains for every value of
            these, so that training cannot make it uneven for constants (a strided convolution: for constant gradients).
        born: Whether the lattice begins here, so that its positions have weights of their own.
    """

    index: int
    node: ir.Node
    label: str
    stride: tuple[int, ...] | None = None
    overlap: float | None = None
    read: float | None = None
    ripple: float | None = None
    fixed: bool = False
    kept: bool = False
    born: bool = False

    @property
    def name(self) -> str:
        """The module path or node name."""
        return self.node.name

    @property
    def upsamples(self) -> bool:
        """Whether it writes more positions than it reads, with kernels or channels of its own per phase."""
        return self.stride is not None and prod(self.stride) > 1 and not self.born

    @property
    def balanced(self) -> bool:
        """Whether its weights are known to meet the DC condition."""
        return self.ripple is not None and self.ripple <= BALANCED


@dataclass(frozen=True, eq=False)
class Facts:
    """A network and what the theory says about it.

    Attributes:
        graph: The network.
        weights: Whether the actual weights count.
        backward: Whether the gradient is analysed.
        ripple_tolerance: Ripple above which weights are called unbalanced (ratio).
    """

    graph: ir.Graph
    weights: bool
    backward: bool
    ripple_tolerance: float

    @cached_property
    def generic(self) -> Flows:
        """Periods for generic weights."""
        return follow(self.graph, actual=False)

    @cached_property
    def actual(self) -> Flows:
        """Periods with the actual weights where they count, else for generic ones."""
        return follow(self.graph, actual=True) if self.weights else self.generic

    @cached_property
    def expectation(self) -> Expectation:
        """What is expected before training."""
        return expect(self.graph)

    @cached_property
    def responses(self) -> dict[int, Response]:
        """Responses to constants per output node, with the actual weights; empty without weights."""
        return respond(self.graph) if self.weights else {}

    @cached_property
    def gradients(self) -> dict[int, InputGradient]:
        """Expected squared gradient per input node; empty if not wanted."""
        if not self.backward:
            return {}
        return backpropagate(self.graph, self.graph.inputs, self.expectation.variances)

    @property
    def expected_ac_fraction(self) -> float | None:
        """Expected share of the first output's power that is a pattern, before training (ratio)."""
        moments = self.expectation.outputs[self.graph.outputs[0]] if self.graph.outputs else None
        return statistics(moments).ac_fraction if isinstance(moments, Moments) else None

    @property
    def unit(self) -> str:
        """What positions of the network's lattice are called."""
        axes = max((len(self.graph.nodes[i].sizes) for i in (*self.graph.inputs, *self.graph.outputs)), default=0)
        return {1: "samples", 3: "voxels"}.get(axes, "px")

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For every node the nodes that read it."""
        return self.graph.consumers()

    @cached_property
    def births(self) -> frozenset[int]:
        """Where lattices begin, other than at inputs."""
        return births(self.graph)

    @cached_property
    def fields(self) -> frozenset[int]:
        """Nodes that reach an output as fields: what only becomes the weights of a layer lies on no lattice."""
        found = set(self.graph.outputs)
        for index in range(len(self.graph.nodes) - 1, -1, -1):
            if index in found:
                found.update(self.graph.nodes[index].fields)
        return frozenset(found)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers with spatial meaning, in order."""
        found = []
        for index, node in enumerate(self.graph.nodes):
            if isinstance(node.op, ir.Source | ir.Birth) and index not in self.fields:
                continue  # the taps of a kernel are no positions
            entry = _LAYERS.get(type(node.op))
            layer = entry(self, index, node) if entry else None
            if layer is not None:
                found.append(layer)
        return tuple(found)

    @cached_property
    def _output_rates(self) -> list[Rates | None]:
        return output_rates(self.graph)

    @cached_property
    def _input_rates(self) -> list[Rates | None]:
        return input_rates(self.graph)

    def rate(self, layer: Layer) -> Rates | None:
        """Samples of the first output per sample of the layer's output, per axis."""
        return self._output_rates[layer.index]

    def created_period(self, layer: Layer) -> Period | None:
        """The period that a layer creates, in samples of the first output that it reaches; 1 if it creates none."""
        if layer.index not in self.actual.creates or layer.stride is None:
            return 1
        rates = self.rate(layer)
        if rates is None or len(rates) != len(layer.stride):
            return None
        return collapse([fraction_period(s, r) if s > 1 else 1 for s, r in zip(layer.stride, rates, strict=True)])

    def gradient_period(self, layer: Layer) -> Period | None:
        """The period that a down-sampling layer gives to the gradient, in samples of the first input."""
        strides = getattr(layer.node.op, "stride", None) or getattr(layer.node.op, "step", None)
        rates = self._input_rates[layer.node.inputs[0]]
        if strides is None or rates is None or len(rates) != len(strides):
            return None
        return collapse([fraction_period(abs(s), r) if abs(s) > 1 else 1 for s, r in zip(strides, rates, strict=True)])

    def filter_before(self, layer: Layer) -> str | None:
        """The fixed filter right before a strided layer that makes the gradient even again behind it, on the way back.

        Where every phase of the stride has the same sum of the filter's taps, and the same of their squares, the
        gradient at the filter's input is even on average over the layer's weights, whatever it is in between.
        """
        stride = getattr(layer.node.op, "stride", None)
        source = self.graph.nodes[layer.node.inputs[0]]
        while isinstance(source.op, ir.Pad):
            source = self.graph.nodes[source.inputs[0]]
        if stride is None or not isinstance(source.op, ir.Conv) or prod(source.op.stride) != 1:
            return None
        taps = _filter(source.op)
        if taps is None:
            return None
        sums = (_phase_sums(t, stride, source.op.dilation) for t in (taps, taps**2))
        return source.name if all(s.min() > 0 and _level(ratio(s)) == 1 for s in sums) else None

    def removed_by(self, layer: Layer) -> str | None:
        """The layer that provably removes what this one creates, before any output."""
        by = self.actual.removed_by.get(layer.index)
        return None if by is None else self.graph.nodes[by].name

    def dead_inputs(self, layer: Layer) -> bool:
        """Whether an input of the network that reaches the layer has positions without gradient."""
        reached = {layer.index}
        for index in range(layer.index, -1, -1):
            if index in reached:
                reached.update(self.graph.nodes[index].inputs)
        return any((g.dead_fraction or 0) > 0 for i, g in self.gradients.items() if i in reached)

    def image_rejection(self, layer: Layer) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Image rejection over the band of a 1-D transposed convolution with known weights."""
        op = layer.node.op
        if isinstance(op, ir.ConvTranspose) and len(op.kernel) == 1 and layer.upsamples and layer.ripple is not None:
            assert op.weight is not None
            return image_rejection(op.weight.values(), op.stride[0], op.dilation[0])
        return None


def check_weights(graph: ir.Graph) -> None:
    """Refuse weights that are not finite.

    Raises:
        WeightsError: Naming the weight and the layer.
    """
    seen: set[int] = set()
    for node in graph.nodes:
        for value in vars(node.op).values():
            if isinstance(value, ir.Weight) and value.load is not None and id(value) not in seen:
                seen.add(id(value))
                with np.errstate(all="ignore"):
                    raw = value.load()
                    total = np.add.reduce(raw.ravel(), dtype=raw.dtype if raw.dtype == np.float64 else np.float32)
                    broken = not np.isfinite(total) and not np.isfinite(raw).all()
                if broken:
                    count = int(np.size(raw) - np.isfinite(raw).sum())
                    raise WeightsError(
                        f"weight {value.name!r} of layer {node.name!r} holds {count} values that are not finite "
                        "(NaN or infinity); repair the file, or ignore the weights with --no-weights"
                    )


# one entry per operation that is a layer of the report


def _conv(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    op = node.op
    assert isinstance(op, ir.Conv)
    if not op.kernel:
        return None
    taps = _filter(op)
    return Layer(
        index,
        node,
        "conv",
        read=unevenness(op.kernel, op.stride, op.dilation)
        if taps is None
        else _level(ratio(_phase_sums(taps**2, op.stride, op.dilation))),
        fixed=op.weight is not None and op.weight.fixed,
        kept=kept_kernel(op),
        born=index in facts.births,
    )


def _filter(op: ir.Conv) -> NDArray[np.float64] | None:
    """The taps of a fixed filter that every channel passes by itself, ``(channels, *kernel)``."""
    weight = op.weight
    if weight is None or not (weight.fixed and weight.known) or op.groups != op.in_channels or prod(op.kernel) == 1:
        return None
    return weight.values().reshape(-1, *op.kernel)


def _phase_sums(taps: NDArray[np.float64], stride: Sequence[int], dilation: Sequence[int]) -> NDArray[np.float64]:
    """Sums over the channels and over the taps of each phase, ``(*stride)``."""
    sums = np.zeros(tuple(stride))
    places = np.indices(taps.shape[1:]) * np.reshape(dilation, (-1, *(1,) * (taps.ndim - 1)))
    phases = tuple(p % s for p, s in zip(places, stride, strict=True))
    np.add.at(sums, phases, taps.sum(0))
    return sums


def _level(value: float) -> float:
    """A ratio of sums of float32 numbers, 1 where they cannot tell it from 1."""
    return 1.0 if value <= 1 + BALANCED else value


def _values(facts: Facts, weight: ir.Weight | None) -> NDArray[np.float64] | None:
    if weight is None or not weight.known or not (facts.weights or weight.fixed):
        return None
    return weight.values()


def _conv_transpose(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    op = node.op
    assert isinstance(op, ir.ConvTranspose)
    born = index in facts.births
    values = None if born or prod(op.stride) == 1 else _values(facts, op.weight)
    return Layer(
        index,
        node,
        "conv_transpose",
        stride=op.stride,
        overlap=None if born and prod(op.stride) > 1 else unevenness(op.kernel, op.stride, op.dilation),
        ripple=None if values is None else ripple(dc_gains(values, op.stride, op.dilation)),
        fixed=op.weight is not None and op.weight.fixed,
        kept=not born and keeps_phases(facts.graph, index),
        born=born,
    )


def _pixel_shuffle(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    op = node.op
    assert isinstance(op, ir.PixelShuffle)
    found = subpixel_weight(facts.graph, index) if facts.weights else None
    spread = None
    if found is not None:
        _, kernel, bias = found
        axes = len(op.factor)
        gains = kernel.reshape(*kernel.shape[: 2 + axes], -1).sum(-1)  # (C, *factor, C_in)
        phases = np.moveaxis(gains.reshape(len(gains), -1, gains.shape[-1]), 1, 0)
        spread = ripple(np.concatenate([phases, bias.reshape(len(gains), -1).T[:, :, None]], -1))
    return Layer(
        index,
        node,
        "pixel_shuffle",
        stride=op.factor,
        overlap=1.0,
        ripple=spread,
        kept=keeps_phases(facts.graph, index),
        born=index in facts.births,
    )


def _pool(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    op = node.op
    assert isinstance(op, ir.Pool)
    return Layer(index, node, f"{op.kind}_pool", read=unevenness(op.kernel, op.stride, op.dilation))


def _fold(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    op = node.op
    assert isinstance(op, ir.Fold)
    return Layer(index, node, "fold", stride=op.stride, overlap=unevenness(op.kernel, op.stride, op.dilation))


def _unfold(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    op = node.op
    assert isinstance(op, ir.Unfold)
    return Layer(index, node, "unfold", read=unevenness(op.kernel, op.stride, op.dilation))


def _unpool(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    assert isinstance(node.op, ir.Unpool)
    return Layer(index, node, "unpool", stride=node.op.stride)


def _slice(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    assert isinstance(node.op, ir.Slice)
    steps = [abs(s) for s in node.op.step]
    read = None if prod(steps) == 1 else ratio(np.ravel([read_counts(1, s).min() for s in steps] + [1]))
    return Layer(index, node, "slice", read=read)


def _named(label: str) -> Callable[[Facts, int, ir.Node], Layer | None]:
    return lambda facts, index, node: Layer(index, node, label, born=index in facts.births)


def _pad(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    assert isinstance(node.op, ir.Pad)
    return Layer(index, node, "pad") if any(any(pair) for pair in node.op.padding) else None


def _reduce(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    assert isinstance(node.op, ir.Reduce)
    return Layer(index, node, "global_pool") if node.op.axes else None


def _source(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    assert isinstance(node.op, ir.Source)
    labels = {"constant": "learned_constant", "position": "position_embedding", "noise": "noise"}
    return Layer(index, node, labels[node.op.kind], born=index in facts.births)


def _normalize(facts: Facts, index: int, node: ir.Node) -> Layer | None:
    assert isinstance(node.op, ir.Normalize)
    return Layer(index, node, "instance_norm") if node.op.kind == "instance" and node.sizes else None


_LAYERS: dict[type[ir.Op], Callable[[Facts, int, ir.Node], Layer | None]] = {
    ir.Attention: _named("attention"),
    ir.Birth: _named("reshape"),
    ir.Conv: _conv,
    ir.ConvTranspose: _conv_transpose,
    ir.Fold: _fold,
    ir.Normalize: _normalize,
    ir.Pad: _pad,
    ir.PixelShuffle: _pixel_shuffle,
    ir.PixelUnshuffle: _named("pixel_unshuffle"),
    ir.Pool: _pool,
    ir.Reduce: _reduce,
    ir.Resize: _named("interpolate"),
    ir.Slice: _slice,
    ir.Source: _source,
    ir.Unfold: _unfold,
    ir.Unknown: _named("unknown"),
    ir.Unpool: _unpool,
    ir.Warp: _named("grid_sample"),
}
