"""Up-sampling layers of ONNX graphs that cannot make a checkerboard; interpolation folded into the convolution.

The weights are those of :mod:`evenly.theory.equivalence`, as in PyTorch's room (:mod:`evenly.fix.structure`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto

from evenly.errors import UsageError
from evenly.fix._onnx_nodes import drop, explicit, retyped, set_ints
from evenly.fix._onnx_pieces import cropped, repeated, shuffled
from evenly.fix._onnx_places import Place
from evenly.fix._onnx_replacing import Made, described, distance, listed, rewritable, taps_of
from evenly.fix._onnx_surgery import Surgery
from evenly.fix.backend import Edit
from evenly.theory.equivalence import (
    balanced_phases,
    fit,
    folded_weight,
    nearest_interpolation,
    subpixel_axis,
    subpixel_weight,
    unfolded_weight,
    used_taps,
)

__all__ = ["INTERPOLATIONS", "Interpolation", "folded", "resized", "subpixeled"]

INTERPOLATIONS = frozenset({"Resize", "Upsample"})
_ABSENT = frozenset({*INTERPOLATIONS, "Pad"})


def _transposed(place: Place) -> None:
    rewritable(place, "transposed", "expected a transposed convolution")
    if all(s == 1 for s in place.geometry.stride):
        raise UsageError("its stride is 1: it makes no pattern of its own")


def _lacking(place: Place) -> list[int]:
    """How much less is cut at the end than at the start, output padding included, per axis."""
    g = place.geometry
    return [a + before - after for a, (before, after) in zip(g.output_padding, g.padding, strict=True)]


def _as_convolution(surgery: Surgery, node: NodeProto, kernel: Any, pads: Any, dilation: Any) -> None:
    """Turn a transposed convolution into a convolution of stride 1."""
    retyped(node, "Conv", surgery.node_names())
    for name in ("output_padding", "output_shape", "strides"):
        drop(node, name)
    explicit(node, kernel, pads)
    set_ints(node, "dilations", dilation, (1,) * len(kernel))


def resized(surgery: Surgery, place: Place) -> Made:
    """The resize-convolution nearest to a transposed convolution, in its place.

    Raises:
        UsageError: If it is none, cannot be rewritten, or of stride 1.
    """
    _transposed(place)
    g, weight = place.geometry, taps_of(place)
    support = used_taps(weight)
    axes = zip(g.stride, g.kernel, g.padding, g.dilation, _lacking(place), support, strict=True)
    fits = [fit(nearest_interpolation(s), k, p[0], d, a, used, None, True) for s, k, p, d, a, used in axes]
    kernel, residual = unfolded_weight(weight, g.groups, fits, support)
    node = surgery.node(place.output)
    write = surgery.writer(node)
    source = repeated(write, place.source, g.stride, surgery.opset)
    crop = [(max(-low, 0), max(-high, 0)) for low, high in (f.pad for f in fits)]
    if any(map(any, crop)):
        source = cropped(write, source, crop, surgery.opset)
    pads = [(max(low, 0), max(high, 0)) for low, high in (f.pad for f in fits)]
    _as_convolution(surgery, node, [f.size for f in fits], pads, [f.dilation for f in fits])
    node.input[0] = source
    surgery.put(node, 1, kernel, f"{place.name}.weight", place)
    after = f"{listed(write.made)} + {described(node, kernel.shape)}"
    surgery.insert(before=place.output, nodes=write.made)
    exact = residual <= max(4 * float(np.finfo(_precision(place)).eps), 1e-12)
    return Made(after, 0.0 if exact else residual)


def _precision(place: Place) -> np.dtype[Any]:
    return place.weight.dtype if place.weight.dtype.kind == "f" else np.dtype(np.float16)


def subpixeled(surgery: Surgery, place: Place) -> Made:
    """The sub-pixel convolution of equal phase gains nearest to a layer, in its place.

    Raises:
        EvenlyError: If it is neither a transposed convolution nor one with a pixel shuffle behind it, or its phases
            cannot be made equal.
    """
    if place.kind == "transposed":
        return _spread(surgery, place)
    rewritable(place, "subpixel", "expected one whose pixel shuffle is known to read it alone")
    layer = place.layer()
    weight = np.asarray(layer.weight, np.float64)
    new = balanced_phases(weight, layer.factor, layer.dilation)
    phases = prod(layer.factor)
    bias = None if layer.bias is None else layer.bias.reshape(-1, phases).mean(1).repeat(phases)
    surgery.apply(place, Edit(layer.name, new, bias, layer.kernel, layer.padding, layer.output_padding))
    after = described(surgery.node(place.output), place.weight.shape)
    return Made(after, distance(new, weight), "the sums of its phases are equal; training would part them again")


def _spread(surgery: Surgery, place: Place) -> Made:
    """A transposed convolution as a sub-pixel convolution, cropped where the sizes need it."""
    _transposed(place)
    g = place.geometry
    geometry = zip(g.kernel, g.stride, g.padding, g.dilation, _lacking(place), strict=True)
    axes = [subpixel_axis(k, s, p[0], d, a) for k, s, p, d, a in geometry]
    exact = subpixel_weight(taps_of(place), g.stride, g.dilation, g.groups)
    weight = balanced_phases(exact, g.stride, [a.dilation for a in axes])
    node = surgery.node(place.output)
    inner, result = surgery.unused(f"{place.output}_phases"), place.output
    write = surgery.writer(node)
    channels = len(weight) // prod(g.stride)
    known = surgery.sizes(place.source) or (None,) * len(axes)
    blocks = [
        None if n is None else n + 2 * a.padding - a.dilation * (a.kernel - 1) for n, a in zip(known, axes, strict=True)
    ]
    crop = [a.crop for a in axes]
    cut = any(map(any, crop))
    spread = shuffled(write, inner, channels, g.stride, blocks, surgery.opset, "" if cut else result)
    if cut:
        cropped(write, spread, crop, surgery.opset, result)
    _as_convolution(
        surgery, node, [a.kernel for a in axes], [(a.padding,) * 2 for a in axes], [a.dilation for a in axes]
    )
    node.output[0] = inner
    surgery.put(node, 1, weight, f"{place.name}.weight", place)
    if place.bias is not None:
        bias = np.asarray(place.bias.array()).reshape(-1).repeat(prod(g.stride))
        surgery.put(node, 2, bias, f"{place.name}.bias", place)
    after = f"{described(node, weight.shape)} + {listed(write.made)}"
    surgery.insert(after=inner, nodes=write.made)
    surgery.moved[inner] = result
    return Made(after, distance(weight, exact))


# ---- fold ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interpolation:
    """An interpolation that repeats samples, and the convolution behind it.

    Attributes:
        name: As ``evenly check`` names the interpolation.
        output: What it makes.
        source: What it reads.
        factor: Per axis.
        refused: Why it cannot be folded.
        place: The convolution.
        padding: Zeros that a node of its own adds before the convolution, per axis.
    """

    name: str
    output: str
    source: str
    factor: tuple[int, ...]
    refused: str | None = None
    place: Place | None = None
    padding: tuple[tuple[int, int], ...] = ()


def folded(surgery: Surgery, found: Interpolation) -> Made:
    """One transposed convolution, the same function, borders included.

    Raises:
        UsageError: If there is none.
    """
    place = found.place
    if found.refused or place is None:
        raise UsageError(found.refused or "no convolution of stride 1 reads it; fold needs one")
    if place.fixed is not None:
        raise UsageError(place.fixed)
    g, weight = place.geometry, taps_of(place)
    kernel = folded_weight(weight, found.factor, g.dilation, g.groups)
    reach = [d * (k - 1) for d, k in zip(g.dilation, g.kernel, strict=True)]
    cut = [
        (r - before - more[0], r - after - more[1])
        for r, (before, after), more in zip(reach, g.padding, found.padding, strict=True)
    ]
    # what would have to be cut by less than nothing is zeros around the kernel
    kernel = np.pad(kernel, [(0, 0), (0, 0), *((max(-low, 0), max(-high, 0)) for low, high in cut)])
    node = surgery.node(place.output)
    old = node.input[0]
    retyped(node, "ConvTranspose", surgery.node_names())
    node.input[0] = found.source
    drop(node, "dilations")
    explicit(node, kernel.shape[2:], [(max(low, 0), max(high, 0)) for low, high in cut])
    set_ints(node, "strides", found.factor, (1,) * len(cut))
    surgery.put(node, 1, kernel, f"{place.name}.weight", place)
    after = described(node, kernel.shape)
    surgery.forget(old, _ABSENT)
    return Made(after, 0.0)
