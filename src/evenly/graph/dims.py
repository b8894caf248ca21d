"""What the dimensions of a tensor mean: ordered products of batch, channel and lattice factors.

``reshape`` splits and merges factors, ``permute`` reorders them; neither changes what a factor is. So the idioms that
move positions into channels and back (pixel shuffle, patches, tokens, frames in the batch) are read off the layout when
an operation asks for channels or positions, whatever sequence of reshapes led there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenly.graph.ir import Weight

__all__ = ["Dim", "Factor", "LayoutError", "Relayout", "Role", "Value", "permuted", "refine", "reshaped"]

Role = Literal["batch", "channel", "lattice"]


class LayoutError(Exception):
    """An arrangement of dimensions that has no entry; becomes "not analysed"."""


class Relayout(Exception):  # noqa: N818 - control flow: the reading starts again with the right roles
    """An input's dimensions mean something else than assumed.

    Attributes:
        roles: The right role per ``(input, dimension)``.
    """

    def __init__(self, roles: Mapping[tuple[int, int], Role]) -> None:
        super().__init__(dict(roles))
        self.roles = dict(roles)


@dataclass(frozen=True, eq=False)
class Factor:
    """A part of a dimension.

    Attributes:
        size: Above 1, except for a lattice axis of a single position.
        role: What it indexes.
        origin: ``(input, dimension)`` for a whole dimension of an input.
        named: Made by a pixel shuffle operator, not by a reshape.
    """

    size: int
    role: Role
    origin: tuple[int, int] | None = None
    named: bool = False


@dataclass(frozen=True, eq=False)
class Dim:
    """One dimension: factors from the outermost to the innermost, and tokens without a position around them."""

    factors: tuple[Factor, ...] = ()
    before: int = 0
    after: int = 0

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(f.size for f in self.factors) + self.before + self.after

    @property
    def plain(self) -> bool:
        """Whether there are no extra tokens."""
        return not (self.before or self.after)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor while a network is being read.

    Attributes:
        dims: Its dimensions; empty for a constant.
        node: Its node in the graph; ``None`` for a constant.
        channels: Factors that make up the node's channels, outermost first.
        axes: Factors that make up each lattice axis of the node.
        weight: A constant's values.
        scores: What the builder needs to know of attention scores.
    """

    dims: tuple[Dim, ...]
    node: int | None = None
    channels: tuple[Factor, ...] = ()
    axes: tuple[tuple[Factor, ...], ...] = ()
    weight: Weight | None = None
    scores: object | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.weight.shape if self.weight is not None else tuple(d.size for d in self.dims)

    @property
    def is_constant(self) -> bool:
        """Whether it does not depend on any input."""
        return self.weight is not None

    def array(self) -> NDArray[np.float64]:
        """A constant's values.

        Raises:
            LayoutError: If it is no constant, or its values are ignored.
        """
        if self.weight is None or not self.weight.known:
            raise LayoutError("the values are not known")
        return self.weight.values()

    def replaced(self, old: Factor, new: tuple[Factor, ...]) -> Value:
        """The same value with a factor split."""

        def swap(factors: Iterable[Factor]) -> tuple[Factor, ...]:
            return tuple(f for factor in factors for f in (new if factor is old else (factor,)))

        return replace(
            self,
            dims=tuple(replace(d, factors=swap(d.factors)) for d in self.dims),
            channels=swap(self.channels),
            axes=tuple(swap(axis) for axis in self.axes),
        )

    def split(self, factor: Factor, outer: int, *, named: bool = False) -> tuple[Value, Factor, Factor]:
        """Split a factor into an outer part of the given size and the rest."""
        if factor.size % outer:
            raise LayoutError(f"a dimension of {factor.size} is not divisible into {outer} parts")
        first = Factor(outer, factor.role, named=named or factor.named)
        second = Factor(factor.size // outer, factor.role, named=named or factor.named)
        return self.replaced(factor, (first, second)), first, second


def permuted(value: Value, order: Sequence[int]) -> Value:
    """Reorder the dimensions."""
    return replace(value, dims=tuple(value.dims[i] for i in order))


def reshaped(value: Value, shape: Sequence[int], *, named: bool = False) -> Value:
    """Split and merge factors until they fill the new shape.

    Raises:
        LayoutError: If a factor would have to be cut unevenly, or extra tokens would be torn apart.
    """
    current = value
    queue: list[Factor | Dim] = []
    for dim in value.dims:
        queue += [dim] if not dim.plain else [f for f in dim.factors if f.size > 1]
    dims: list[Dim] = []
    for size in shape:
        taken: list[Factor] = []
        block: Dim | None = None
        remaining = size
        while remaining > 1:
            if not queue:
                raise LayoutError(f"cannot view {value.shape} as {tuple(shape)}")
            item = queue.pop(0)
            if isinstance(item, Dim):
                if item.size != remaining or taken:
                    raise LayoutError("a dimension with extra tokens is split or merged")
                block, remaining = item, 1
            elif remaining % item.size == 0:
                taken.append(item)
                remaining //= item.size
            else:
                current, first, second = current.split(item, remaining, named=named)
                taken.append(first)
                queue.insert(0, second)
                remaining = 1
        dims.append(block if block is not None else Dim(tuple(taken)))
    if queue:
        raise LayoutError(f"cannot view {value.shape} as {tuple(shape)}")
    return replace(current, dims=tuple(dims))


def refine(values: Sequence[Value], places: Sequence[Callable[[Value], Dim | None]]) -> list[Value]:
    """Split the factors of aligned dimensions until they have the same sizes in all values.

    Args:
        values: Values to align.
        places: For every aligned dimension a function that finds it in a value, ``None`` where it is missing.
    """
    result = list(values)
    for place in places:
        while True:
            lists = [(i, [f for f in d.factors if f.size > 1]) for i, v in enumerate(result) if (d := place(v))]
            lists = [(i, factors) for i, factors in lists if factors]
            change = _first_difference(lists)
            if change is None:
                break
            i, factor, outer = change
            result[i] = result[i].split(factor, outer)[0]
    return result


def _first_difference(lists: list[tuple[int, list[Factor]]]) -> tuple[int, Factor, int] | None:
    if len(lists) < 2:
        return None
    for slot in range(max(len(factors) for _, factors in lists)):
        present = [(i, factors[slot]) for i, factors in lists if slot < len(factors)]
        if len(present) < len(lists):
            raise LayoutError("dimensions of different sizes are combined")
        small = min(f.size for _, f in present)
        for i, factor in present:
            if factor.size != small:
                return i, factor, small
    return None
