"""From tensor-level calls to the graph: what both readers build with.

A reader translates a foreign operator into a call on tensors as PyTorch counts their dimensions. The builder knows
which part of a field every dimension runs through (:mod:`evenly.graph.layout`), so that reshapes and transposes cost
nothing until an operation asks for a form. Then what moved between channels and lattice becomes a node: a lattice
dimension with a channel digit inside is a pixel shuffle, a channel dimension with the inner digit of an axis a pixel
unshuffle, channels where a lattice should be a birth, and so on. What fits no form becomes
:class:`evenly.graph.ir.Unknown` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from evenly.errors import ModelError
from evenly.graph import ir
from evenly.graph.building.products import Products
from evenly.graph.building.state import Relayout, Role, Roles
from evenly.graph.building.values import Value
from evenly.graph.ir import Graph
from evenly.graph.layout import CHANNEL

__all__ = ["Builder", "Relayout", "Value", "read_with_roles"]


MAX_READINGS = 24


def read_with_roles(read: Callable[[Roles], Graph]) -> Graph:
    """Read with the usual roles of input dimensions, again with better ones where the network contradicts them.

    Args:
        read: Reads the network with given roles, by (input, dimension).
    """
    roles: dict[tuple[int, int], Role] = {}
    for _ in range(MAX_READINGS):
        try:
            return read(roles)
        except Relayout as wish:
            roles[wish.index, wish.dim] = wish.role
    raise ModelError(
        f"the roles of the input dimensions do not settle ({roles}); expected batch, channels and positions to be told "
        "apart; report this network"
    )


class Builder(Products):
    """Collects nodes; see the module for how.

    Args:
        source: Where the network comes from, for people.
        training: Whether it is read in training mode.
        use_weights: Whether the values of trained weights count; those of fixed ones always do.
        roles: Roles of input dimensions that are not the usual ones, by (input, dimension).
    """

    def output(self, name: str, value: Value) -> None:
        """Declare an output of the network."""
        v = self._try("output", name, [value], value.shape, lambda: self._final(value))
        node = self.nodes[v.node]
        index = self._emit(name, ir.Output(), (v.node,), node.channels, node.sizes)
        self._outputs.append(index)
        self._output_shapes.append(value.shape)

    def _final(self, value: Value) -> Value:
        """An output in the most natural form."""
        v = self._regular(value)
        rank = len(v.shape)
        if rank >= 4 and not prod(self._sizes(v)) > 1 and sum(bool(d.of(CHANNEL)) for d in v.dims) > 1:
            v = self._settled(self._formed(v, 1, range(2, rank)))
        return v if isinstance(self.nodes[v.node].op, ir.Input) else self._settled(v)

    def build(self) -> Graph:
        """The graph, without nodes that no output needs (inputs stay)."""
        alive = set(self._inputs)
        stack = list(self._outputs)
        while stack:
            index = stack.pop()
            if index not in alive or index in self._inputs:
                alive.add(index)
                stack.extend(i for i in self.nodes[index].inputs if i not in alive)
        order = sorted(alive)
        number = {old: new for new, old in enumerate(order)}
        nodes = tuple(replace(self.nodes[i], inputs=tuple(number[j] for j in self.nodes[i].inputs)) for i in order)
        return Graph(
            self.source,
            nodes,
            tuple(number[i] for i in self._inputs),
            tuple(number[i] for i in self._outputs),
            tuple(self._input_shapes),
            tuple(self._output_shapes),
            tuple(self._dtypes),
            self.training,
        )
