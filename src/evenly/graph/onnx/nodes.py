"""The nodes of an ONNX graph in a form that cannot surprise: typed attributes, plain names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from evenly.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Item", "item"]

_SIMPLE: dict[int, str] = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
}
_REPEATED: dict[int, str] = {AttributeProto.FLOATS: "floats", AttributeProto.INTS: "ints"}


@dataclass(eq=False)
class Item:
    """A node: an operator of the file, or an idiom (domain ``"evenly"``) that stands for several of them.

    Attributes:
        op: The operator's type.
        domain: ``""`` for the standard operators.
        name: The node's name, may be empty.
        inputs: Names of the values it reads; empty for one that is left out.
        outputs: Names of the values it makes; empty for one that is left out.
        attributes: Python values.
        proto: The node of the file.
        parts: For an idiom, the nodes it stands for.
        index: Position in the file.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    proto: NodeProto | None = None
    parts: tuple[Item, ...] = ()
    index: int = 0

    @property
    def label(self) -> str:
        """Operator and name, for messages."""
        operator = f"{self.domain}::{self.op}" if self.domain else self.op
        return f"node {self.name!r} ({operator})" if self.name else f"node {self.index} ({operator})"

    def _wrong(self, name: str, expected: str) -> FormatError:
        value = repr(self.attributes[name])[:60]
        return FormatError(f"{self.label}: attribute {name} is {value}, expected {expected}; the file is damaged")

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise self._wrong(name, "an integer")
        return value

    def number(self, name: str, default: float) -> float:
        """A floating-point attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, float):
            raise self._wrong(name, "a number")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """A list of integers."""
        value = self.attributes.get(name)
        if value is None:
            return None if default is None else tuple(default)
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise self._wrong(name, "a list of integers")
        return value

    def floats(self, name: str) -> tuple[float, ...] | None:
        """A list of numbers."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple) or not all(isinstance(v, float | int) for v in value):
            raise self._wrong(name, "a list of numbers")
        return tuple(float(v) for v in value)

    def tensor(self, name: str) -> TensorProto | None:
        """A tensor attribute, unchecked."""
        value = self.attributes.get(name)
        if value is not None and not isinstance(value, TensorProto):
            raise self._wrong(name, "a tensor")
        return value

    def graph(self, name: str) -> GraphProto | None:
        """A subgraph."""
        value = self.attributes.get(name)
        if value is not None and not isinstance(value, GraphProto):
            raise self._wrong(name, "a graph")
        return value

    def input(self, position: int) -> str:
        """The name of an input, empty when it is left out."""
        return self.inputs[position] if position < len(self.inputs) else ""


def item(node: NodeProto, index: int) -> Item:
    """Read a node of the file."""
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        kind = attribute.type
        if kind == AttributeProto.STRING:
            attributes[attribute.name] = attribute.s.decode("utf-8", "replace")
        elif kind == AttributeProto.STRINGS:
            attributes[attribute.name] = tuple(s.decode("utf-8", "replace") for s in attribute.strings)
        elif kind in _SIMPLE:
            attributes[attribute.name] = getattr(attribute, _SIMPLE[kind])
        elif kind in _REPEATED:
            attributes[attribute.name] = tuple(getattr(attribute, _REPEATED[kind]))
    domain = "" if node.domain == "ai.onnx" else node.domain
    return Item(node.op_type, domain, node.name, tuple(node.input), tuple(node.output), attributes, node, (), index)
