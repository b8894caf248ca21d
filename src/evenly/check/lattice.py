"""Where lattices are born, and how their sampling rates relate."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from evenly.graph.ir import (
    Birth,
    Broadcast,
    Conv,
    ConvTranspose,
    Flatten,
    Fold,
    Graph,
    Input,
    Node,
    Op,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    Reduce,
    Resize,
    Slice,
    Source,
    Unfold,
    Unpool,
)

__all__ = ["Rates", "births", "fraction_period", "input_rates", "output_rates", "resampling"]

Rates = tuple[Fraction, ...]


def births(graph: Graph) -> frozenset[int]:
    """Nodes at which a spatial lattice begins, other than inputs: the analysis starts there with a constant.

    These are the reshape after a linear layer, a learned constant, and the first layer that makes more than one
    position out of a 1x1 latent: every position there has weights of its own.
    """
    unborn: set[int] = set()
    born: set[int] = set()
    for index, node in enumerate(graph.nodes):
        single = all(size == 1 for size in node.sizes)
        if isinstance(node.op, Birth) or (isinstance(node.op, Source) and node.op.kind == "constant"):
            born.add(index)
        elif isinstance(node.op, Input):
            if single and node.sizes:
                unborn.add(index)
        elif node.inputs and all(i in unborn or not graph.nodes[i].sizes for i in node.inputs):
            if not any(i in unborn for i in node.inputs):
                continue
            if single:
                unborn.add(index)
            elif not isinstance(node.op, Resize | Broadcast):  # those spread one value evenly: a constant, no birth
                born.add(index)
    return frozenset(born)


def resampling(op: Op, axes: int) -> Rates:
    """Output positions per input position, per input axis; 1 for operations that keep the lattice."""
    table: dict[type[Op], Callable[..., Rates]] = {
        Conv: lambda o: tuple(Fraction(1, s) for s in o.stride),
        Pool: lambda o: tuple(Fraction(1, s) for s in o.stride),
        Unfold: lambda o: tuple(Fraction(1, s) for s in o.stride),
        ConvTranspose: lambda o: tuple(map(Fraction, o.stride)),
        Fold: lambda o: tuple(map(Fraction, o.stride)),
        Unpool: lambda o: tuple(map(Fraction, o.stride)),
        PixelShuffle: lambda o: tuple(map(Fraction, o.factor)),
        PixelUnshuffle: lambda o: tuple(Fraction(1, r) for r in o.factor),
        Resize: lambda o: tuple(Fraction(a.up, a.down) for a in o.axes),
        Slice: lambda o: tuple(Fraction(1, abs(s)) for s in o.step),
    }
    entry = table.get(type(op))
    return entry(op) if entry else (Fraction(1),) * axes


def output_rates(graph: Graph) -> list[Rates | None]:
    """Samples of the first reachable output per sample of each node, per axis of the node; ``None`` if none is."""
    rates: list[Rates | None] = [None] * len(graph.nodes)
    for output in graph.outputs:
        if rates[output] is not None:
            continue
        rates[output] = (Fraction(1),) * len(graph.nodes[output].sizes)
        for index in range(output, -1, -1):
            found = rates[index]
            if found is None:
                continue
            for source in graph.nodes[index].inputs:
                if rates[source] is None:
                    rates[source] = _backwards(graph.nodes[index], graph.nodes[source], found)
    return rates


def _backwards(node: Node, source: Node, rates: Rates) -> Rates | None:
    axes = len(source.sizes)
    if isinstance(node.op, Broadcast):
        kept = [r for axis, r in enumerate(rates) if axis not in node.op.axes]
        return tuple(kept) if len(kept) == axes else None
    if isinstance(node.op, Reduce | Flatten):
        remaining = iter(rates)
        return tuple(Fraction(1) if axis in node.op.axes else next(remaining, Fraction(1)) for axis in range(axes))
    if axes != len(rates):
        return (Fraction(1),) * axes
    return tuple(r * f for r, f in zip(rates, resampling(node.op, axes), strict=True))


def fraction_period(period: int, rate: Fraction) -> int:
    """Period after resampling by ``rate``: ``lcm(P, b) a / b`` for ``rate = a / b``."""
    return (period * rate).numerator


def input_rates(graph: Graph) -> list[Rates | None]:
    """Samples of the first input that reaches a node per sample of the node, per axis; ``None`` if none does."""
    rates: list[Rates | None] = [None] * len(graph.nodes)
    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, Input):
            rates[index] = (Fraction(1),) * len(node.sizes)
        for source in node.inputs:
            found, before = rates[source], graph.nodes[source]
            if found is None or rates[index] is not None:
                continue
            if len(before.sizes) == len(node.sizes):
                factors = resampling(node.op, len(found))
                rates[index] = tuple(r / f for r, f in zip(found, factors, strict=True))
    return rates
