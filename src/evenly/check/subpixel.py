"""A convolution and the pixel shuffle behind it as the transposed convolution that they are."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import NDArray

from evenly.graph import ir

__all__ = ["subpixel_weight"]

Array = NDArray[np.float64]


def _actual(weight: ir.Weight) -> Array | None:
    return weight.values() if weight.known else None


def subpixel_weight(
    graph: ir.Graph, index: int, read: Callable[[ir.Weight], Array | None] = _actual
) -> tuple[ir.Node, Array, Array] | None:
    """The kernel of the transposed convolution that a convolution and the pixel shuffle at ``index`` make together.

    Batch normalisation and channel permutations in between are folded in; a scalar activation in between is allowed
    (equal phases stay equal).

    Args:
        graph: The network.
        index: The pixel shuffle.
        read: The values of a weight, ``None`` where they are not known; by default the actual ones.

    Returns:
        The convolution's node, the kernel ``(C_in, C, *phases, taps)`` summed over nothing, and the phases' biases
        ``(C, *phases)``; ``None`` if another operation stands between or the weights are not known.
    """
    shuffle = graph.nodes[index].op
    assert isinstance(shuffle, ir.PixelShuffle)
    steps: list[ir.Op] = []
    node = graph.nodes[graph.nodes[index].inputs[0]]
    while True:
        op = node.op
        if isinstance(op, ir.Conv | ir.Linear):
            break
        if not isinstance(op, ir.Affine | ir.ChannelPermute | ir.Pointwise) or len(node.inputs) != 1:
            return None
        if isinstance(op, ir.Pointwise) and op.weight is not None:
            return None
        steps.append(op)
        node = graph.nodes[node.inputs[0]]
    if op.weight is None or (isinstance(op, ir.Conv) and any(s != 1 for s in op.stride)):
        return None
    weight = read(op.weight)  # (C_out, C_in/g, *k)
    if weight is None:
        return None
    bias = np.zeros(len(weight)) if op.bias is None else read(op.bias)
    if bias is None:
        return None
    if isinstance(op, ir.Conv) and op.groups > 1:
        weight = _dense(weight, op.groups)
    for step in reversed(steps):
        if isinstance(step, ir.ChannelPermute):
            order = np.arange(len(weight)).reshape(step.sizes).transpose(step.perm).ravel()
            weight, bias = weight[order], bias[order]
        elif isinstance(step, ir.Affine):
            scale, shift = (
                read(number) if isinstance(number, ir.Weight) else np.float64(neutral if number is None else number)
                for number, neutral in ((step.scale, 1.0), (step.shift, 0.0))
            )
            if scale is None or shift is None:
                return None
            scale = np.broadcast_to(scale, bias.shape)
            weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
            bias = bias * scale + shift
    factor = shuffle.factor
    channels = len(weight) // prod(factor)
    shaped = weight.reshape(channels, *factor, *weight.shape[1:])
    return node, shaped, bias.reshape(channels, *factor)


def _dense(weight: Array, groups: int) -> Array:
    rows, columns = len(weight) // groups, weight.shape[1]
    dense = np.zeros((len(weight), columns * groups, *weight.shape[2:]))
    for g in range(groups):
        dense[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = weight[g * rows : (g + 1) * rows]
    return dense
