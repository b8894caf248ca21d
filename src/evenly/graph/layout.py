"""Which part of a field each dimension of a tensor runs through.

A field has batches, channels and lattice axes; a tensor may hold them in any order, merged and split: ``(N, H*W, C)``,
``(N*T, C, H, W)``, ``(N, h, L, C/h)``. Row-major merging and splitting are mixed-radix arithmetic, so every dimension
is a product of *digits*: a digit of size ``n`` and stride ``s`` of an index ``i`` is ``(i // s) mod n``. Reshaping cuts
and joins digits, transposing moves them, and neither touches a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

__all__ = [
    "BATCH",
    "CHANNEL",
    "KEY",
    "QUERY",
    "SPREAD",
    "Digit",
    "Dim",
    "LayoutError",
    "cut",
    "joined",
    "refined",
    "regrouped",
    "rescaled",
]

BATCH, CHANNEL, SPREAD, KEY, QUERY = -1, -2, -3, -4, -5
"""Kinds of digits besides lattice axes (0, 1, ...): samples; channels; copies of one value; attention's two sides."""


_CUT = "a reshape cuts a dimension where no axis and no channel group ends"


class LayoutError(Exception):
    """A reshape cuts through the layout in a way that no field describes."""


@dataclass(frozen=True)
class Digit:
    """Part of an index.

    Attributes:
        kind: A lattice axis, or one of the constants above.
        size: Number of values.
        stride: Its weight in the index it is part of.
    """

    kind: int
    size: int
    stride: int = 1

    @property
    def axis(self) -> bool:
        """Whether it belongs to a lattice axis."""
        return self.kind >= 0


@dataclass(frozen=True)
class Dim:
    """A dimension of a tensor.

    Attributes:
        digits: Outer digit first.
        before: Extra entries before those of the digits (a class token).
        after: Extra entries behind them.
    """

    digits: tuple[Digit, ...] = ()
    before: int = 0
    after: int = 0

    @classmethod
    def through(cls, kind: int, size: int, stride: int = 1) -> Dim:
        """A dimension of one digit; of none if its size is 1 and it is no axis."""
        return cls(joined([Digit(kind, size, stride)]))

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(d.size for d in self.digits) + self.before + self.after

    @property
    def plain(self) -> bool:
        """Whether it has no extra entries."""
        return not self.before and not self.after

    def of(self, *kinds: int) -> tuple[Digit, ...]:
        """Its digits of some kinds."""
        return tuple(d for d in self.digits if d.kind in kinds)

    @property
    def axes(self) -> tuple[Digit, ...]:
        """Its digits that belong to lattice axes."""
        return tuple(d for d in self.digits if d.axis)


def joined(digits: Iterable[Digit]) -> tuple[Digit, ...]:
    """Neighbouring digits that are one digit, as one; size 1 vanishes unless it is all there is of an axis."""
    result: list[Digit] = []
    for digit in digits:
        last = result[-1] if result else None
        if digit.size == 1 and not digit.axis:
            continue
        if last is not None and last.kind == digit.kind:
            if digit.kind == SPREAD:
                result[-1] = Digit(SPREAD, last.size * digit.size)
                continue
            if last.stride == digit.size * digit.stride and digit.size > 1 and last.size > 1:
                result[-1] = Digit(digit.kind, last.size * digit.size, digit.stride)
                continue
        result.append(digit)
    if prod(d.size for d in result) > 1:
        result = [d for d in result if d.size > 1]
    return tuple(result)


def rescaled(dim: Dim, old: int, new: int) -> Dim:
    """The dimension of a layer's output whose groups of ``old`` channels became groups of ``new`` ones."""
    return replace(
        dim,
        digits=tuple(replace(d, stride=d.stride // old * new) if d.kind == CHANNEL else d for d in dim.digits),
    )


def cut(digits: Sequence[Digit], sizes: Sequence[int]) -> list[tuple[Digit, ...]]:
    """Distribute digits over dimensions of the given sizes, row-major.

    Raises:
        LayoutError: If a cut falls inside a digit where it does not divide.
    """
    left = [d for d in reversed(digits) if d.size > 1]
    result = []
    for size in sizes:
        taken: list[Digit] = []
        have = 1
        while have < size:
            if not left or size % have:
                raise LayoutError(_CUT)
            digit = left.pop()
            need = size // have
            if digit.size > need:
                if digit.size % need:
                    raise LayoutError(_CUT)
                inner = digit.size // need
                left.append(Digit(digit.kind, inner, digit.stride))
                digit = Digit(digit.kind, need, digit.stride * inner if digit.kind != SPREAD else 1)
            taken.append(digit)
            have *= digit.size
        if have != size:
            raise LayoutError(_CUT)
        result.append(joined(taken))
    return result


def regrouped(dims: Sequence[Dim], shape: Sequence[int]) -> tuple[Dim, ...]:
    """The layout after a row-major reshape.

    Raises:
        LayoutError: If the reshape cuts through a digit, or through extra entries.
    """
    result: list[Dim] = []
    i = j = 0
    while i < len(dims) or j < len(shape):
        if i < len(dims) and j < len(shape) and dims[i].size == shape[j]:
            result.append(dims[i])
            i, j = i + 1, j + 1
        elif i < len(dims) and dims[i].size == 1:
            i += 1
        elif j < len(shape) and shape[j] == 1:
            result.append(Dim())
            j += 1
        else:
            first, target = i, j
            left, right = dims[i].size, shape[j]
            i, j = i + 1, j + 1
            while left != right:
                if left < right:
                    left, i = left * dims[i].size, i + 1
                else:
                    right, j = right * shape[j], j + 1
            block = dims[first:i]
            if not all(d.plain for d in block):
                raise LayoutError("a reshape merges extra tokens with the positions of a lattice")
            result.extend(Dim(d) for d in cut([d for dim in block for d in dim.digits], shape[target:j]))
    return tuple(result)


def refined(columns: Sequence[Sequence[Digit]]) -> list[tuple[Digit, ...]]:
    """Cut several lists of digits with equal products at all the places where any of them has a boundary.

    Raises:
        LayoutError: If the boundaries do not nest.
    """
    places = {1}
    for digits in columns:
        reach = 1
        for digit in reversed(digits):
            reach *= digit.size
            places.add(reach)
    ordered = sorted(places)
    if any(b % a for a, b in pairwise(ordered)):
        raise LayoutError("two layouts share no common factors")
    sizes = [b // a for a, b in pairwise(ordered)][::-1]
    result = []
    for digits in columns:
        pieces = cut(list(digits), sizes)
        if any(len(p) != 1 for p in pieces):
            raise LayoutError("two layouts share no common factors")
        result.append(tuple(p[0] for p in pieces))
    return result
