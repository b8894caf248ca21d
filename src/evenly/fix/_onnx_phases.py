"""A convolution of stride 1 with weights by phase, in ONNX: a strided convolution and a pixel shuffle behind it.

Output ``n = P m + r`` is ``b[r] + sum_o W[r, o] x[n + d o - p]``: seen from ``m``, channel ``(c, r)`` of a convolution
of stride ``P`` whose tap ``o`` stands at ``r + d o`` (docs/theory.md, *Phases and the DC condition*).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from evenly.errors import UsageError
from evenly.fix._onnx_nodes import Writer, explicit, set_ints
from evenly.fix._onnx_pieces import SLICE_OPSET, shuffled, spatial

__all__ = ["Phases", "phase_nodes"]


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
    write: Writer,
    inner: str,
    inputs: Sequence[int | None],
    opset: int,
) -> list[NodeProto]:
    """The nodes behind the strided convolution: pixel shuffle, and the cut of what is no multiple of the phases.

    Args:
        new: The convolution.
        write: Takes the nodes, which belong to the convolution's as it was.
        inner: What the strided convolution makes.
        inputs: Spatial sizes of its input, ``None`` where open.
        opset: Of the standard operators.

    Raises:
        UsageError: If a size that is open has to be cut in a file whose opset cannot.
    """
    conv = write.near
    sizes = new.sizes(inputs)
    cut = any(p > 1 and (n is None or n % p) for n, p in zip(sizes, new.phases, strict=True))
    result = conv.output[0]
    blocks = [None if n is None else -(-n // p) for n, p in zip(sizes, new.phases, strict=True)]
    spread = shuffled(write, inner, new.channels, new.phases, blocks, opset, "" if cut else result)
    if cut:
        _cut(write, new, conv.input[0], spread, sizes, opset, result)
    return write.made


def _cut(
    write: Writer, new: Phases, source: str, spread: str, sizes: Sequence[int | None], opset: int, output: str
) -> None:
    rank = len(sizes)
    axes, known = list(range(2, 2 + rank)), [n for n in sizes if n is not None]
    if opset < SLICE_OPSET:
        if len(known) < rank:
            raise UsageError(
                f"sizes that the file leaves open cannot be cut in opset {opset}, expected {SLICE_OPSET} or newer; "
                "convert it with onnx.version_converter.convert_version, or export it with fixed sizes"
            )
        write.node("Slice", [spread], output, starts=[0] * rank, ends=known, axes=axes)
        return
    if len(known) == rank:
        ends = write.numbers(known)
    else:
        ends = spatial(write, source, rank, opset)
        if any(new.growth()):
            ends = write.node("Add", [ends, write.numbers(new.growth())])
    write.node("Slice", [spread, write.numbers([0] * rank), ends, write.numbers(axes)], output)
