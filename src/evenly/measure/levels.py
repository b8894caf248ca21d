"""From an array of any real type to grey levels of 255."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["grey_levels"]

Level = "Callable[[NDArray[Any]], NDArray[np.float32]]"


def grey_levels(
    pixels: NDArray[Any],
) -> tuple[NDArray[Any], Callable[[NDArray[Any]], NDArray[np.float32]], tuple[str, ...]]:
    """Bring an array to the form of a picture and find its range.

    Unsigned integers are of their type's full range. Floats within [0, 1] or [-1, 1] are taken as such, within
    [0, 255] as grey levels; any other array is scaled from its least to its largest value, and a note says so.

    Args:
        pixels: Shape (H, W), (H, W, 1), (H, W, 3), or (H, W, 4) whose last channel, alpha, is left out.

    Returns:
        The array of shape (H, W) or (H, W, 3), the function from parts of it to grey levels (float32), and notes.

    Raises:
        UsageError: If the array has another shape or type, or a value that is not finite.
    """
    array = np.asarray(pixels)
    notes: list[str] = []
    if array.ndim == 3 and array.shape[2] in (2, 4):
        notes.append("alpha was left out")
        array = array[..., : array.shape[2] - 1]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        raise UsageError(f"a picture of shape {np.shape(pixels)} is none; expected (H, W), (H, W, 1) or (H, W, 3)")
    if array.size == 0:
        raise UsageError(f"a picture of shape {np.shape(pixels)} has no pixels")
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
        return array, _affine(0.0, 255.0), tuple(notes)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array, _affine(0.0, 255.0 / np.iinfo(array.dtype).max), tuple(notes)
    if array.dtype.kind not in "uif":
        raise UsageError(f"a picture of type {array.dtype} cannot be measured; expected integers or floats")
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UsageError("the picture has values that are not finite (NaN or infinite); replace them first")
    if not np.isfinite(high - low):
        raise UsageError(f"the range of the picture's values ({low:g} to {high:g}) is infinite; scale them first")
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return array, _affine(0.0, 255.0), tuple(notes)
    if array.dtype.kind == "f" and low >= -1 and high <= 1:
        notes.append("values from -1 to 1 were taken as black to white")
        return array, _affine(-1.0, 127.5), tuple(notes)
    if low >= 0 and high <= 255:
        notes.append("values were taken as grey levels of 255")
        return array, _affine(0.0, 1.0), tuple(notes)
    notes.append(f"values from {low:g} to {high:g} were taken as black to white")
    return array, _affine(low, 255.0 / (high - low) if high > low else 0.0), tuple(notes)


def _affine(low: float, factor: float) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    def level(part: NDArray[Any]) -> NDArray[np.float32]:
        if low or part.dtype.itemsize > 4:  # large values lose their differences in single precision
            return ((part.astype(np.float64) - low) * factor).astype(np.float32)
        grey = part.astype(np.float32)
        if factor != 1.0:
            grey *= np.float32(factor)
        return grey

    return level
