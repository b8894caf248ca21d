"""Nodes and attributes of ONNX graphs, written with as little change as possible."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

__all__ = ["Writer", "drop", "explicit", "retyped", "set_ints", "unused"]


def unused(name: str, taken: set[str]) -> str:
    """A name, with a number behind it if it is taken."""
    found, number = name, 0
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def drop(node: NodeProto, name: str) -> None:
    """Remove an attribute if it is there."""
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)


def set_ints(node: NodeProto, name: str, values: Sequence[int], default: Sequence[int]) -> None:
    """Set an attribute, in its place; it is not added to state the default."""
    for attribute in node.attribute:
        if attribute.name == name:
            attribute.ints[:] = values
            return
    if tuple(values) != tuple(default):
        node.attribute.append(helper.make_attribute(name, list(values)))


def retyped(node: NodeProto, op: str, taken: set[str]) -> None:
    """Make a node another operator; a name that ends with its operator follows, as exporters write scopes."""
    head, slash, last = node.name.rpartition("/")
    if re.fullmatch(rf"{node.op_type}(_\d+)?", last):
        node.name = unused(f"{head}{slash}{op}", taken)
    node.op_type = op


def explicit(node: NodeProto, kernel: Sequence[int], padding: Sequence[tuple[int, int]]) -> None:
    """Give a convolution another kernel and padding in place of what it had, computed padding too."""
    drop(node, "auto_pad")
    set_ints(node, "kernel_shape", kernel, kernel)
    set_ints(node, "pads", [p[0] for p in padding] + [p[1] for p in padding], (0,) * (2 * len(padding)))


class Writer:
    """Writes nodes that belong to another: with names and metadata of its kind.

    Args:
        near: The node that they belong to.
        values: Gives a name that no value of the graph has.
        nodes: Names of the nodes of the graph.
        store: Adds an initialiser of a name like this one, where ``Constant`` nodes cannot hold integers.
    """

    def __init__(
        self,
        near: NodeProto,
        values: Callable[[str], str],
        nodes: set[str],
        store: Callable[[str, NDArray[Any]], str] | None = None,
    ) -> None:
        self.near, self.values, self.names, self.store = near, values, set(nodes), store
        self.made: list[NodeProto] = []
        self._taken: set[str] = set()

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Append a node and say what it makes; `output` is a name that is wanted as it is."""
        result = output or self._value(f"{self.near.output[0]}_{op.lower()}")
        node = helper.make_node(op, list(inputs), [result], name=self._name(op), **attributes)
        node.metadata_props.extend(self.near.metadata_props)
        self.made.append(node)
        return result

    def numbers(self, values: Sequence[int]) -> str:
        """A constant list of integers."""
        return self.constant(np.asarray(values, np.int64))

    def constant(self, values: NDArray[Any]) -> str:
        """A constant."""
        if self.store is not None:
            return self.store(f"{self.near.output[0]}_constant", values)
        return self.node("Constant", [], value=numpy_helper.from_array(values))

    def _value(self, name: str) -> str:
        found = self.values(name)
        while found in self._taken:
            found = self.values(unused(found, self._taken))
        self._taken.add(found)
        return found

    def _name(self, op: str) -> str:
        """As its neighbour is called: ``/up/Conv`` gives ``/up/DepthToSpace``, no name none."""
        name = self.near.name
        if not name:
            return ""
        found = unused(f"{name.rpartition('/')[0]}/{op}" if "/" in name else f"{name}_{op}", self.names)
        self.names.add(found)
        return found
