"""What passes between the calls of the builder: values of a network and the weights behind constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.graph.ir import Weight
from evenly.graph.layout import Dim

__all__ = ["Array", "Pair", "Scores", "Shape", "Value", "combined", "literal", "mapped", "reshaped"]


Shape = tuple[int, ...]
Array = NDArray[Any]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Scores:
    """Products of queries and keys, until it is known what becomes of them."""

    query: Value
    key: Value
    scale: float = 1.0
    biased: bool = False
    softmax: bool = False


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network.

    Attributes:
        shape: Its shape.
        node: Index of the node that holds the field; -1 for constants and scores.
        dims: What its dimensions run through.
        weight: For constants, the values.
        number: For constants that are one known number, that number.
        scores: For attention scores.
    """

    shape: Shape
    node: int = -1
    dims: tuple[Dim, ...] = ()
    weight: Weight | None = None
    number: float | None = None
    scores: Scores | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it depends on no input."""
        return self.weight is not None

    def array(self) -> Array | None:
        """The values of a constant, where they are known."""
        if self.weight is None or not self.weight.known:
            return None
        return self.weight.values().reshape(self.shape)


def mapped(weight: Weight, shape: Shape, change: Callable[[Array], Array]) -> Weight:
    """A weight whose values are computed from another one's when they are asked for."""
    load, redraw = weight.load, weight.redraw
    return Weight(
        weight.name,
        shape,
        weight.fixed,
        None if load is None else (lambda: change(np.asarray(load()))),
        None if redraw is None else (lambda seed: change(np.asarray(redraw(seed)))),
    )


def reshaped(weight: Weight, shape: Shape) -> Weight:
    """A weight in another shape."""
    return weight if weight.shape == shape else mapped(weight, shape, lambda a: a.reshape(shape))


def combined(name: str, values: Sequence[Value], shape: Shape, change: Callable[..., Array]) -> Weight:
    """The weight of a constant that is computed from several constants."""
    weights = [v.weight for v in values if v.weight is not None]
    known, fixed = all(w.known for w in weights), all(w.fixed for w in weights)
    return Weight(name, shape, fixed, (lambda: np.asarray(change(*(v.array() for v in values)))) if known else None)


def literal(name: str, values: Callable[[], Array], shape: Shape) -> Weight:
    """A weight that the graph brings itself."""
    return Weight(name, shape, True, values)
