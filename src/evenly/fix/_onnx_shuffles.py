"""Pixel shuffles behind ONNX convolutions, in all their spellings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from onnx import NodeProto

from evenly.graph.onnx.constants import Const
from evenly.graph.onnx.nodes import Item, item

__all__ = ["Shuffle", "find_shuffle"]

Order = Literal["CRD", "DCR"]
LONGEST = 8  # sizes of a view: batch, channels, three phases, three axes


@dataclass(frozen=True)
class Shuffle:
    """A pixel shuffle.

    Attributes:
        result: Name of the value that it makes.
        factor: Per axis.
        order: ``CRD``: channels before phases, as PyTorch's; ``DCR``: phases before channels.
    """

    result: str
    factor: tuple[int, ...]
    order: Order


class Readers:
    """Who reads what, and what is constant.

    Args:
        nodes: The nodes that read a value, by its name.
        uses: How often a value is read, by subgraphs and outputs too.
        consts: Constants by name.
        makers: Node by the name of a value that it makes.
    """

    def __init__(
        self,
        nodes: Callable[[str], Sequence[NodeProto]],
        uses: Mapping[str, int],
        consts: Mapping[str, Const],
        makers: Mapping[str, NodeProto],
    ) -> None:
        self.nodes, self.uses, self.consts, self.makers = nodes, uses, consts, makers
        self._shapes: dict[str, list[int | None] | None] = {}

    def only(self, name: str) -> Item | None:
        """The standard node that alone reads a value as its first input."""
        # Who asks for the shape only does not read the values.
        found = [n for n in self.nodes(name) if n.op_type not in ("Shape", "Size")]
        asking = len(self.nodes(name)) - len(found)
        if self.uses.get(name, 0) - asking != 1 or len(found) != 1 or found[0].input[0] != name:
            return None
        it = item(found[0], 0)
        return None if it.domain else it

    def shape(self, name: str) -> list[int | None] | None:
        """The numbers of a target shape, ``None`` for those computed from data; ``None`` if their count is open."""
        if name not in self._shapes:
            self._shapes[name] = self._shape(name)
        return self._shapes[name]

    def _shape(self, name: str) -> list[int | None] | None:
        const = self.consts.get(name)
        if const is not None:
            return [int(v) for v in const.array().reshape(-1)] if const.known and const.size <= LONGEST else None
        node = self.makers.get(name)
        if node is None or node.domain:
            return None
        if node.op_type == "Concat":
            parts = [self.shape(part) for part in node.input]
            return None if None in parts else [v for p in parts for v in p or ()][: LONGEST + 1]
        if node.op_type in ("Identity", "Cast"):
            return self.shape(node.input[0])
        if node.op_type == "Unsqueeze":
            return [None]  # one size, made a list
        if node.op_type == "Reshape" and self.shape(node.input[1]) in ([1], [-1]):
            return [None]
        return self._counted(item(node, 0))

    def _counted(self, it: Item) -> list[int | None] | None:
        """Sizes that are computed, as many as can be counted."""
        if it.op == "Gather":
            index = self.consts.get(it.input(1))
            return None if index is None or len(index.shape) != 1 else [None] * min(index.size, LONGEST)
        if it.op in ("Mul", "Div", "Add"):
            shapes = [self.shape(name) for name in it.inputs]
            alike = None not in shapes and len({len(s or ()) for s in shapes}) == 1
            return [None] * len(shapes[0] or ()) if alike else None
        if it.op == "Shape" and "end" in it.attributes:
            return _between(it.integer("start"), it.integer("end"))
        if it.op == "Slice":
            ends = [self.consts.get(it.input(k)) for k in (1, 2)]
            numbers = [int(e.array().reshape(-1)[0]) for e in ends if e is not None and e.size == 1 and e.known]
            return _between(*numbers) if len(numbers) == 2 else None
        return None


def _between(start: int, end: int) -> list[int | None] | None:
    return [None] * (end - start) if 0 <= start < end <= LONGEST else None


def find_shuffle(output: str, channels: int, rank: int, readers: Readers) -> Shuffle | None:
    """The pixel shuffle that alone reads a convolution's output.

    Args:
        output: Name of the convolution's output.
        channels: Of that output.
        rank: Its axes.
        readers: The graph.
    """
    it = readers.only(output)
    if it is None:
        return None
    if it.op == "DepthToSpace" and rank == 2:
        r = it.integer("blocksize")
        if r < 2 or channels % (r * r):
            return None
        return Shuffle(it.outputs[0], (r, r), "CRD" if it.text("mode", "DCR") == "CRD" else "DCR")
    try:
        return _spelled_out(it, channels, rank, readers) if it.op == "Reshape" else None
    except RecursionError:  # a shape that thousands of nodes compute: nobody's pixel shuffle
        return None


def _spelled_out(first: Item, channels: int, rank: int, readers: Readers) -> Shuffle | None:
    """Reshape to ``(N, C, *phases, *sizes)`` or ``(N, *phases, C, *sizes)``, transpose, reshape."""
    turn = readers.only(first.outputs[0])
    last = readers.only(turn.outputs[0]) if turn is not None and turn.op == "Transpose" else None
    if turn is None or last is None or last.op != "Reshape":
        return None
    view, target = readers.shape(first.input(1)), readers.shape(last.input(1))
    order = _order(turn.ints("perm"), rank)
    if view is None or target is None or order is None or len(view) != 2 + 2 * rank or len(target) != 2 + rank:
        return None
    phases = view[2 : 2 + rank] if order == "CRD" else view[1 : 1 + rank]
    factor = tuple(f for f in phases if f is not None and f > 0)
    if len(factor) != rank or prod(factor) < 2 or channels % prod(factor):
        return None
    merged = channels // prod(factor)
    depth = view[1] if order == "CRD" else view[1 + rank]
    if depth not in (None, -1, merged) or target[1] not in (None, -1, 0, merged):
        return None
    for size, f, wanted in zip(view[2 + rank :], factor, target[2:], strict=True):
        if size is not None and size > 0 and wanted is not None and wanted > 0 and size * f != wanted:
            return None
    return Shuffle(last.outputs[0], factor, order)


def _order(perm: Sequence[int] | None, rank: int) -> Order | None:
    """Which order of channels a permutation undoes."""
    for order, depth, phase in (("CRD", 1, 2), ("DCR", 1 + rank, 1)):
        expected = [0, depth]
        for axis in range(rank):
            expected += [2 + rank + axis, phase + axis]
        if perm is not None and list(perm) == expected:
            return "CRD" if order == "CRD" else "DCR"
    return None
