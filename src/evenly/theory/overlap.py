"""How many kernel taps write each position of a transposed convolution, and how many outputs read each input.

Symbols follow Dumoulin & Visin (arXiv 1603.07285): kernel size ``k``, stride ``s``, padding ``p``, dilation ``d``,
output padding ``a``. A transposed convolution writes output ``n = s i + d t - p`` for input ``i`` and tap ``t``.
The uneven counts are the "uneven overlap" of Odena, Dumoulin & Olah, "Deconvolution and Checkerboard Artifacts"
(Distill 2016, doi 10.23915/distill.00003).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd, inf

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError

__all__ = ["overlap_counts", "overlap_map", "ratio", "read_counts", "read_map", "unevenness"]


def overlap_counts(kernel: int, stride: int, dilation: int = 1) -> NDArray[np.int64]:
    """Number of taps that write an interior position, by phase.

    ``count(r) = #{t in [0, k) : d t = r (mod s)}`` for the phase ``r = (n + p) mod s``. With ``g = gcd(d, s)`` only
    the phases that ``g`` divides are written, each by the taps of one residue class modulo ``s / g``.

    Args:
        kernel: Kernel size ``k``, at least 1.
        stride: Stride ``s``, at least 1.
        dilation: Dilation ``d``, at least 1.

    Returns:
        Counts, shape ``(s,)``, indexed by ``(n + p) mod s``.

    Raises:
        ParameterError: If a parameter is below 1.
    """
    _positive(kernel=kernel, stride=stride, dilation=dilation)
    g = gcd(dilation, stride)
    classes = stride // g
    counts = np.zeros(stride, np.int64)
    first = np.arange(classes)  # smallest tap of each residue class modulo s / g
    counts[(dilation * first) % stride] = np.maximum(0, (kernel - first + classes - 1) // classes)
    return counts


def overlap_map(
    size: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1, output_padding: int = 0
) -> NDArray[np.int64]:
    """Number of taps that write each output position along one axis, borders included, in closed form.

    Args:
        size: Number of input samples.
        kernel: Kernel size ``k``.
        stride: Stride ``s``.
        padding: Padding ``p``: samples cut at both ends.
        dilation: Dilation ``d``.
        output_padding: Output padding ``a``: samples added at the end.

    Returns:
        Counts, shape ``(s (size - 1) + d (k - 1) + 1 + a - 2 p,)``. In n-D take the outer product over the axes.

    Raises:
        ParameterError: If a parameter is out of range or the output would be empty.
    """
    _positive(size=size, kernel=kernel, stride=stride, dilation=dilation)
    if padding < 0 or output_padding < 0:
        raise ParameterError(f"padding (={padding}) and output_padding (={output_padding}) must not be negative")
    length = stride * (size - 1) + dilation * (kernel - 1) + 1 + output_padding - 2 * padding
    if length < 1:
        raise ParameterError(f"padding (={padding}) leaves an output of {length} samples; use a smaller padding")
    place = np.arange(length) + padding  # n + p = s i + d t
    # i in [0, size) bounds the tap: d t <= n + p and d t >= n + p - s (size - 1)
    low = np.maximum(0, -((stride * (size - 1) - place) // dilation))
    high = np.minimum(kernel - 1, place // dilation)
    g = gcd(dilation, stride)
    classes = stride // g
    solvable = place % g == 0
    inverse = pow(dilation // g, -1, classes) if classes > 1 else 0
    residue = (place // g * inverse) % classes  # t = residue (mod s / g)
    first = low + (residue - low) % classes
    counts = np.where(high >= first, (high - first) // classes + 1, 0)
    return np.where(solvable, counts, 0).astype(np.int64)


def read_counts(kernel: int, stride: int, dilation: int = 1) -> NDArray[np.int64]:
    """Number of outputs of a strided convolution (or pooling window) that read an interior input, by phase.

    The gradient of a convolution is a transposed convolution, so these are its overlap counts, indexed by
    ``(m + p) mod s`` for input position ``m``.

    Raises:
        ParameterError: If a parameter is below 1.
    """
    return overlap_counts(kernel, stride, dilation)


def read_map(size: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> NDArray[np.int64]:
    """Number of outputs that read each input position along one axis, borders included.

    Args:
        size: Number of input samples.
        kernel: Kernel size ``k``.
        stride: Stride ``s``.
        padding: Padding ``p`` at both ends.
        dilation: Dilation ``d``.

    Returns:
        Counts, shape ``(size,)``.

    Raises:
        ParameterError: If a parameter is out of range or the output would be empty.
    """
    _positive(size=size, kernel=kernel, stride=stride, dilation=dilation)
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if outputs < 1 or padding < 0:
        raise ParameterError(
            f"kernel (={kernel}) with dilation (={dilation}) and padding (={padding}) does not fit an input of "
            f"{size} samples; use a larger input"
        )
    # the adjoint writes s (outputs - 1) + d (k - 1) + 1 positions, of which [p, p + size) exist
    written = overlap_map(outputs, kernel, stride, 0, dilation)
    padded = np.zeros(padding + size, np.int64)
    padded[: min(len(written), len(padded))] = written[: len(padded)]
    return padded[padding:]


def ratio(counts: NDArray[np.generic]) -> float:
    """max/min of non-negative numbers (ratio): ``inf`` if some are zero, 1 if all are.

    Args:
        counts: Any shape.
    """
    low, high = float(np.min(counts)), float(np.max(counts))
    if high == 0:
        return 1.0
    return high / low if low > 0 else inf


def unevenness(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] | None = None) -> float:
    """max/min overlap count over the interior phases, all axes together (ratio).

    The counts multiply over the axes (claim C2 of the article), and so do their ratios: ``k=3, s=2`` is 2 in 1-D and
    4 in 2-D. ``inf`` with holes.

    Args:
        kernel: Kernel size per axis.
        stride: Stride per axis.
        dilation: Dilation per axis, 1 by default.

    Raises:
        ParameterError: If a parameter is below 1.
    """
    dilation = dilation or (1,) * len(kernel)
    per_axis = (ratio(overlap_counts(k, s, d)) for k, s, d in zip(kernel, stride, dilation, strict=True))
    return reduce(lambda a, b: a * b, per_axis, 1.0)


def _positive(**parameters: int) -> None:
    for name, value in parameters.items():
        if value < 1:
            raise ParameterError(f"{name} (={value}) must be at least 1")
