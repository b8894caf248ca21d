"""A convolution of stride 1 with weights by phase, in ONNX: a strided convolution and a pixel shuffle behind it.

Output ``n = P m + r`` is ``b[r] + sum_o W[r, o] x[n + d o - p]``: seen from ``m``, channel ``(c, r)`` of a convolution
of stride ``P`` whose tap ``o`` stands at ``r + d o`` (docs/theory.md, *Phases and the DC condition*).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from evenly.errors import UsageError
from evenly.fix._onnx_nodes import Writer, explicit, set_ints

__all__ = ["Phases", "phase_nodes"]

CRD_OPSET = 11
"""Opset from which ``DepthToSpace`` knows PyTorch's order of channels."""
SLICE_OPSET = 10
"""Opset from which ``Slice`` takes sizes that are computed."""


@dataclass(frozen=True)
class Phases:
    """The convolution that is to be made; all but `channels` per axis.

    Attributes:
        phases: ``P``.
        dilation: ``d``.
        padding: Before and after.
        kernel: Of each phase.
        channels: Of the output.
    """

    phases: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    kernel: tuple[int, ...]
    channels: int

    @property
    def whole(self) -> tuple[int, ...]:
        """Kernel of the strided convolution; an axis without phases keeps its own, and its dilation."""
        axes = zip(self.phases, self.dilation, self.kernel, strict=True)
        return tuple(k if p == 1 else d * (k - 1) + p for p, d, k in axes)

    def weight(self, weight: NDArray[Any]) -> NDArray[Any]:
        """``(*phases, C_out, C_in / groups, *kernel)`` as ``(C_out * prod(phases), C_in / groups, *whole)``."""
        rank = len(self.phases)
        outputs, inputs = weight.shape[rank : rank + 2]
        joined = np.zeros((outputs, *self.phases, inputs, *self.whole), weight.dtype)
        for phase in product(*map(range, self.phases)):
            axes = zip(phase, self.phases, self.dilation, self.kernel, strict=True)
            taps = [slice(None) if p == 1 else slice(r, r + d * (k - 1) + 1, d) for r, p, d, k in axes]
            joined[(slice(None), *phase, slice(None), *taps)] = weight[phase]
        return joined.reshape(outputs * prod(self.phases), inputs, *self.whole)

    def rewrite(self, node: NodeProto) -> None:
        """Turn the convolution into the strided one; behind the end it reads as far as the last phases need."""
        rank = len(self.phases)
        ends = [(a, b + p - 1) for (a, b), p in zip(self.padding, self.phases, strict=True)]
        explicit(node, self.whole, ends)
        set_ints(node, "strides", self.phases, (1,) * rank)
        dilation = [d if p == 1 else 1 for d, p in zip(self.dilation, self.phases, strict=True)]
        set_ints(node, "dilations", dilation, (1,) * rank)

    def sizes(self, inputs: Sequence[int | None]) -> list[int | None]:
        """Of the output."""
        growth = self.growth()
        return [None if n is None else n + g for n, g in zip(inputs, growth, strict=True)]

    def growth(self) -> list[int]:
        """By how much the output is larger than the input."""
        axes = zip(self.padding, self.dilation, self.kernel, strict=True)
        return [a + b - d * (k - 1) for (a, b), d, k in axes]


def phase_nodes(
    new: Phases,
    conv: NodeProto,
    inner: str,
    inputs: Sequence[int | None],
    opset: int,
    unused: Callable[[str], str],
    graph: GraphProto,
) -> list[NodeProto]:
    """The nodes behind the strided convolution: pixel shuffle, and the cut of what is no multiple of the phases.

    Args:
        new: The convolution.
        conv: Its node as it was.
        inner: What the strided convolution makes.
        inputs: Spatial sizes of its input, ``None`` where open.
        opset: Of the standard operators.
        unused: Gives a name that no value has.
        graph: The graph.

    Raises:
        UsageError: If a size that is open has to be cut in a file whose opset cannot.
    """
    write = Writer(conv, unused, {node.name for node in graph.node})
    sizes = new.sizes(inputs)
    cut = any(p > 1 and (n is None or n % p) for n, p in zip(sizes, new.phases, strict=True))
    result = conv.output[0]
    shuffled = _shuffle(write, new, inner, sizes, opset, "" if cut else result)
    if cut:
        _cut(write, new, conv.input[0], shuffled, sizes, opset, result)
    return write.made


def _shuffle(write: Writer, new: Phases, inner: str, sizes: Sequence[int | None], opset: int, output: str) -> str:
    rank = len(new.phases)
    if rank == 2 and opset >= CRD_OPSET and len(set(new.phases)) == 1:
        return write.node("DepthToSpace", [inner], output, blocksize=new.phases[0], mode="CRD")
    blocks = [None if n is None else -(-n // p) for n, p in zip(sizes, new.phases, strict=True)]
    if sum(b is None for b in blocks) <= 1:
        known = [-1 if b is None else b for b in blocks]
        view = write.numbers([0, new.channels, *new.phases, *known])
        target = write.numbers(
            [0, new.channels, *(-1 if b < 0 else b * p for b, p in zip(known, new.phases, strict=True))]
        )
    else:
        counted = _spatial(write, inner, rank, opset)
        view = write.node("Concat", [write.numbers([0, new.channels, *new.phases]), counted], axis=0)
        multiplied = write.node("Mul", [counted, write.numbers(new.phases)])
        target = write.node("Concat", [write.numbers([0, new.channels]), multiplied], axis=0)
    perm = [0, 1] + [d for axis in range(rank) for d in (2 + rank + axis, 2 + axis)]
    split = write.node("Reshape", [inner, view])
    return write.node("Reshape", [write.node("Transpose", [split], perm=perm), target], output)


def _spatial(write: Writer, value: str, rank: int, opset: int) -> str:
    """The spatial sizes of a value."""
    shape = write.node("Shape", [value])
    if opset < SLICE_OPSET:
        return write.node("Slice", [shape], starts=[2], ends=[2 + rank], axes=[0])
    return write.node("Slice", [shape, write.numbers([2]), write.numbers([2 + rank])])


def _cut(
    write: Writer, new: Phases, source: str, shuffled: str, sizes: Sequence[int | None], opset: int, output: str
) -> None:
    rank = len(sizes)
    axes, known = list(range(2, 2 + rank)), [n for n in sizes if n is not None]
    if opset < SLICE_OPSET:
        if len(known) < rank:
            raise UsageError(
                f"sizes that the file leaves open cannot be cut in opset {opset}, expected {SLICE_OPSET} or newer; "
                "convert it with onnx.version_converter.convert_version, or export it with fixed sizes"
            )
        write.node("Slice", [shuffled], output, starts=[0] * rank, ends=known, axes=axes)
        return
    if len(known) == rank:
        ends = write.numbers(known)
    else:
        ends = _spatial(write, source, rank, opset)
        if any(new.growth()):
            ends = write.node("Add", [ends, write.numbers(new.growth())])
    write.node("Slice", [shuffled, write.numbers([0] * rank), ends, write.numbers(axes)], output)
