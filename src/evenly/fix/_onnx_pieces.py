"""What edits of ONNX graphs put together: pixel shuffles, crops, padding, interpolation, in the file's opset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evenly.fix._onnx_nodes import Writer

__all__ = ["SLICE_OPSET", "cropped", "extended", "repeated", "shuffled", "spatial"]

CRD_OPSET = 11
"""Opset from which ``DepthToSpace`` knows PyTorch's order of channels."""
SLICE_OPSET = 10
"""Opset from which ``Slice`` takes sizes that are computed."""
SCALES_OPSET = 9
"""Opset from which the factors of an interpolation are an input."""
RESIZE_OPSET = 10
"""Opset from which interpolation is called ``Resize``."""
COORDINATES_OPSET = 11
"""Opset from which ``Resize`` says where samples lie, and ``Pad`` takes widths as an input."""
ROI_OPSET = 13
"""Opset from which ``Resize`` needs no region."""
END = 2**31 - 1
"""Behind the end of every axis."""

Crop = Sequence[tuple[int, int]]


def shuffled(
    write: Writer,
    inner: str,
    channels: int,
    factor: Sequence[int],
    blocks: Sequence[int | None],
    opset: int,
    output: str = "",
) -> str:
    """A pixel shuffle in PyTorch's order of channels.

    Args:
        write: Takes the nodes.
        inner: The value that is shuffled.
        channels: Of the result.
        factor: Per axis.
        blocks: Spatial sizes before the shuffle, ``None`` where open.
        opset: Of the standard operators.
        output: Name of the result, if it is wanted.
    """
    rank = len(factor)
    if rank == 2 and opset >= CRD_OPSET and len(set(factor)) == 1:
        return write.node("DepthToSpace", [inner], output, blocksize=factor[0], mode="CRD")
    if sum(b is None for b in blocks) <= 1:
        known = [-1 if b is None else b for b in blocks]
        view = write.numbers([0, channels, *factor, *known])
        target = write.numbers([0, channels, *(-1 if b < 0 else b * p for b, p in zip(known, factor, strict=True))])
    else:
        counted = spatial(write, inner, rank, opset)
        view = write.node("Concat", [write.numbers([0, channels, *factor]), counted], axis=0)
        multiplied = write.node("Mul", [counted, write.numbers(factor)])
        target = write.node("Concat", [write.numbers([0, channels]), multiplied], axis=0)
    perm = [0, 1] + [d for axis in range(rank) for d in (2 + rank + axis, 2 + axis)]
    split = write.node("Reshape", [inner, view])
    return write.node("Reshape", [write.node("Transpose", [split], perm=perm), target], output)


def spatial(write: Writer, value: str, rank: int, opset: int) -> str:
    """The spatial sizes of a value."""
    shape = write.node("Shape", [value])
    if opset < SLICE_OPSET:
        return write.node("Slice", [shape], starts=[2], ends=[2 + rank], axes=[0])
    return write.node("Slice", [shape, write.numbers([2]), write.numbers([2 + rank])])


def cropped(write: Writer, value: str, amounts: Crop, opset: int, output: str = "") -> str:
    """A value without some samples before and after, per axis; of any size."""
    axes = [axis for axis, pair in enumerate(amounts) if any(pair)]
    starts = [amounts[axis][0] for axis in axes]
    ends = [-amounts[axis][1] or END for axis in axes]
    dims = [2 + axis for axis in axes]
    if opset < SLICE_OPSET:
        return write.node("Slice", [value], output, starts=starts, ends=ends, axes=dims)
    return write.node("Slice", [value, *map(write.numbers, (starts, ends, dims))], output)


def extended(write: Writer, value: str, amounts: Crop, opset: int, output: str = "") -> str:
    """A value continued beyond its border by its edge samples."""
    widths = [0, 0, *(low for low, _ in amounts), 0, 0, *(high for _, high in amounts)]
    if opset < COORDINATES_OPSET:
        return write.node("Pad", [value], output, mode="edge", pads=widths)
    return write.node("Pad", [value, write.numbers(widths)], output, mode="edge")


def repeated(write: Writer, value: str, factor: Sequence[int], opset: int, output: str = "") -> str:
    """Interpolation by nearest neighbour: every sample as often as the factor says, per axis."""
    scales = [1.0, 1.0, *map(float, factor)]
    if opset < SCALES_OPSET:
        return write.node("Upsample", [value], output, mode="nearest", scales=scales)
    stored = write.constant(np.asarray(scales, np.float32))
    if opset < COORDINATES_OPSET:
        return write.node("Resize" if opset >= RESIZE_OPSET else "Upsample", [value, stored], output, mode="nearest")
    rule = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    region = ""
    if opset < ROI_OPSET:
        region = write.constant(np.zeros(0, np.float32))
    return write.node("Resize", [value, region, stored], output, **rule)
