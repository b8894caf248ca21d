"""What all replacements of layers in ONNX graphs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from evenly.errors import UsageError
from evenly.fix._onnx_places import Place
from evenly.graph.onnx.nodes import item

__all__ = ["Made", "described", "distance", "listed", "rewritable", "taps_of"]


@dataclass(frozen=True)
class Made:
    """What was put into the place of a layer.

    Attributes:
        after: The new layers, in one line.
        fit_error: Of the kernel (ratio); ``None`` where the weights were kept.
        note: What to know of it.
    """

    after: str
    fit_error: float | None = None
    note: str | None = None


def described(node: NodeProto, weight: Sequence[int] = ()) -> str:
    """A node in one line: operator, shape of its weight, and the attributes that say where its windows lie."""
    it = item(node, 0)
    shown = [f"weight {list(weight)}"] if weight else []
    for name in ("kernel_shape", "strides", "pads", "dilations", "output_padding", "output_shape"):
        values = it.ints(name)
        if values and not (name == "kernel_shape" and weight) and any(v != (name in _ONES) for v in values):
            shown.append(f"{name} {list(values)}")
    shown += [f"auto_pad {it.text('auto_pad')}"] if it.text("auto_pad", "NOTSET") not in ("", "NOTSET") else []
    shown += [f"group {it.integer('group', 1)}"] if it.integer("group", 1) != 1 else []
    return f"{node.op_type}({', '.join(shown)})"


_ONES = ("strides", "dilations")


def listed(nodes: Sequence[NodeProto]) -> str:
    """Nodes in one line, without their constants."""
    return " + ".join(described(node) for node in nodes if node.op_type not in ("Constant", "Shape", "Concat", "Mul"))


def distance(new: NDArray[np.floating], old: NDArray[np.floating]) -> float:
    """``|new - old| / |old|``; 0 for equal ones, be they zero."""
    size = float(np.linalg.norm(old))
    return float(np.linalg.norm(new - old)) / size if size else 0.0


def rewritable(place: Place, kind: str, wish: str) -> None:
    """Refuse a layer whose weights cannot be written anew, or of another kind.

    Raises:
        UsageError: With the reason.
    """
    if place.kind != kind:
        raise UsageError(f"it is a {place.kind} layer; {wish}")
    if place.fixed is not None:
        raise UsageError(place.fixed)


def taps_of(place: Place) -> NDArray[np.float64]:
    """The weight as the file orders it, in float64."""
    return np.asarray(place.weight.array()).astype(np.float64)
