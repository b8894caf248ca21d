"""Which convolutions of a module only a pixel shuffle reads, and how it reads their channels.

By data flow, in the graph that ``evenly check`` reads (:mod:`evenly.graph.torch`), so that functions and einsum-like
views count as ``nn.PixelShuffle`` does; where the module cannot be traced, by neighbours in an ``nn.Sequential``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evenly.errors import EvenlyError
from evenly.graph import ir
from evenly.graph.torch import read_module
from evenly.nn.subpixel import pixel_shuffle

__all__ = ["Shuffle", "neighbours", "shuffles"]


@dataclass(frozen=True, eq=False)
class Shuffle:
    """A pixel shuffle behind a convolution.

    Attributes:
        factor: Per axis.
        order: ``(C_out,)``: the convolution's channel that PyTorch's pixel shuffle would have at each place; ``None``
            where that is the same.
    """

    factor: tuple[int, ...]
    order: NDArray[np.int64] | None = None

    def apply(self, y: Tensor) -> Tensor:
        """``(N, C_out, *sizes)`` to ``(N, C_out / prod(s), *(s * sizes))``."""
        if self.order is not None:
            y = y.index_select(1, torch.from_numpy(self.order).to(y.device))
        return pixel_shuffle(y, self.factor)


def neighbours(root: nn.Module) -> dict[str, Shuffle]:
    """By name, convolutions of stride 1 directly before an ``nn.PixelShuffle`` in an ``nn.Sequential``."""
    names = {module: name for name, module in root.named_modules()}
    found = {}
    for module in root.modules():
        if isinstance(module, nn.Sequential):
            for first, second in pairwise(module):
                if isinstance(first, nn.Conv2d) and set(first.stride) == {1} and isinstance(second, nn.PixelShuffle):
                    found[names[first]] = Shuffle((second.upscale_factor,) * 2)
    return found


def shuffles(root: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Shuffle]:
    """By name, convolutions of stride 1 that only a pixel shuffle reads; inputs matter by their shapes alone."""
    try:
        graph = read_module(root, args, kwargs)
    except EvenlyError:
        return neighbours(root)
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for source in node.inputs:
            readers.setdefault(source, []).append(index)
    found: dict[str, Shuffle] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, ir.Conv) and node.op.weight is not None and set(node.op.stride) == {1}:
            shuffle = _behind(graph, index, node.op, readers)
            if shuffle is not None:
                found[node.op.weight.name.removesuffix("weight").removesuffix(".")] = shuffle
    return found


def _behind(graph: ir.Graph, index: int, conv: ir.Conv, readers: Mapping[int, Sequence[int]]) -> Shuffle | None:
    order = np.arange(conv.out_channels)
    while len(readers.get(index, ())) == 1:
        index = readers[index][0]
        op = graph.nodes[index].op
        if isinstance(op, ir.PixelShuffle) and len(op.factor) == len(conv.kernel):
            same = bool((order == np.arange(conv.out_channels)).all())
            return Shuffle(op.factor, None if same else order)
        if not isinstance(op, ir.ChannelPermute):
            return None
        order = order.reshape(op.sizes).transpose(op.perm).ravel()
    return None
