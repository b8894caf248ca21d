"""Overlap as PyTorch's own transposed convolutions paint it: one layer, two axes, stacks, a last layer of stride 1.

Nothing here comes from a formula: ones, or drawn weights, are sent through ``conv_transpose``. What
:mod:`evenly.theory.overlap` says is compared with it. Symbols as there: kernel size ``k``, stride ``s``, padding ``p``,
dilation ``d``, output padding ``a``; periods in output pixels, frequencies in cycles per output pixel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import conv_transpose1d, conv_transpose2d

from evenly.theory.overlap import overlap_counts, overlap_map, ratio

__all__ = ["Layer", "attenuation", "composed", "drawn_stack", "grid", "in_two_dimensions", "origins", "paint", "scales"]

Array = NDArray[np.float64]
_ZERO = 1e-9
"""Of the largest line: what rounding leaves of one that vanishes (float64, sums of some hundred terms)."""


@dataclass(frozen=True)
class Layer:
    """A transposed convolution along one axis.

    Attributes:
        kernel: Size ``k``.
        stride: Stride ``s``.
    """

    kernel: int
    stride: int

    @property
    def uneven(self) -> bool:
        """Whether PyTorch paints its interior unevenly."""
        painted = paint(2 * self.kernel + 2, self.kernel, self.stride)
        inside = painted[self.kernel - 1 : len(painted) - self.kernel + 1]
        return bool(np.ptp(inside) > 0)


def paint(size: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1, output_padding: int = 0) -> Array:
    """How often every output position is written: ones through a transposed convolution of ones, ``(output size,)``."""
    ones = torch.ones(1, 1, size, dtype=torch.float64)
    weight = torch.ones(1, 1, kernel, dtype=torch.float64)
    found = conv_transpose1d(ones, weight, None, stride, padding, output_padding, 1, dilation)
    return np.asarray(found[0, 0].numpy(), np.float64)


def _parameters(kernels: int, strides: int, dilations: int) -> Iterator[tuple[int, int, int, int, int]]:
    for k, s, d in itertools.product(range(1, kernels + 1), range(1, strides + 1), range(1, dilations + 1)):
        for p, a in itertools.product(range(min(d * (k - 1), 4) + 1), range(min(max(s, d), 3))):
            yield k, s, d, p, a


def grid(kernels: int, strides: int, dilations: int) -> dict[str, int]:
    """Painted against computed counts for every kernel, stride, dilation, padding and output padding up to a size.

    Args:
        kernels: Largest kernel size.
        strides: Largest stride.
        dilations: Largest dilation.

    Returns:
        ``cells``: layers painted, borders included; ``equal``: those with the counts of
        :func:`evenly.theory.overlap.overlap_map` at every position and of ``overlap_counts`` in the interior;
        ``undivided``: layers whose stride does not divide the kernel size, ``undivided_uneven``: the uneven of them;
        ``divided``, ``divided_even``: the others with ``gcd(d, s) = 1``; ``common``, ``common_holes``: those with
        ``gcd(d, s) > 1``, and the ones of them with positions that nothing writes; ``common_divided``: those whose
        stride divides the kernel size.
    """
    found = dict.fromkeys(
        (
            "cells", "equal", "undivided", "undivided_uneven", "divided", "divided_even", "common", "common_holes",
            "common_divided",
        ),
        0,
    )  # fmt: skip
    for k, s, d, p, a in _parameters(kernels, strides, dilations):
        size = 2 * (-(-d * (k - 1) // s)) + 4 + p  # leaves more than one whole period in the interior
        painted = paint(size, k, s, p, d, a)
        place = np.arange(len(painted)) + p
        inner = (place >= d * (k - 1)) & (place <= s * (size - 1))
        inside = painted[inner]
        equal = np.array_equal(painted, overlap_map(size, k, s, p, d, a))
        found["cells"] += 1
        found["equal"] += equal and np.array_equal(inside, overlap_counts(k, s, d)[place[inner] % s])
        uneven, common = bool(np.ptp(inside) > 0), gcd(d, s) > 1
        if k % s:
            found["undivided"] += 1
            found["undivided_uneven"] += uneven
        elif not common:
            found["divided"] += 1
            found["divided_even"] += not uneven
        if common:
            found["common"] += 1
            found["common_holes"] += bool(inside.min() == 0)
            found["common_divided"] += k % s == 0
    return {name: int(value) for name, value in found.items()}


def in_two_dimensions(kernels: int, strides: int) -> dict[str, Any]:
    """Planes painted in two dimensions against the outer product of two painted lines.

    Args:
        kernels: Largest kernel size of either axis.
        strides: Largest stride of either axis.

    Returns:
        ``cells`` and ``equal`` of them, and most over least painted of the interior of ``k3 s2``, in 1-D (``line``)
        and 2-D (``plane``).
    """
    cells = equal = 0
    layers = list(itertools.product(range(1, kernels + 1), range(1, strides + 1)))
    for (ky, sy), (kx, sx) in itertools.product(layers, layers):
        plane = painted_plane(5, (ky, kx), (sy, sx))
        cells += 1
        equal += np.array_equal(plane, np.outer(paint(5, ky, sy), paint(5, kx, sx)))
    line, plane = paint(8, 3, 2)[2:-2], painted_plane(8, (3, 3), (2, 2))[2:-2, 2:-2]
    return {"cells": cells, "equal": int(equal), "line": ratio(line), "plane": ratio(plane)}


def painted_plane(size: int, kernel: tuple[int, int], stride: tuple[int, int]) -> Array:
    """How often every output pixel is written, ``(H, W)``."""
    ones, weight = torch.ones(1, 1, size, size, dtype=torch.float64), torch.ones(1, 1, *kernel, dtype=torch.float64)
    return np.asarray(conv_transpose2d(ones, weight, None, stride)[0, 0].numpy(), np.float64)


def composed(layers: Sequence[Layer], kernels: Sequence[Array] | None = None) -> Array:
    """One period of the interior of a constant sent through a stack of layers.

    Args:
        layers: From input to output.
        kernels: Weights of each, ``(k,)``; ones by default.

    Returns:
        ``(product of the strides,)``; the phase at which it begins is arbitrary.
    """
    border = 0  # positions at either end that the input's ends reach
    for layer in layers:
        border = layer.stride * border + layer.kernel - 1
    period = prod(layer.stride for layer in layers)
    size = 2 * (border // period) + 4
    value = torch.ones(1, 1, size, dtype=torch.float64)
    for number, layer in enumerate(layers):
        weight = np.ones(layer.kernel) if kernels is None else kernels[number]
        value = conv_transpose1d(
            value, torch.from_numpy(np.asarray(weight, np.float64))[None, None], None, layer.stride
        )
    start = -(-border // period) * period
    return np.asarray(value[0, 0, start : start + period].numpy(), np.float64)


def scales(layers: Sequence[Layer], pattern: Array) -> list[int]:
    """Periods at which a composed pattern has lines that came in with one of the layers.

    A layer of stride ``s`` before strides of product ``R`` brings lines at multiples of ``1 / (s R)`` that are no
    multiples of ``1 / R``; those of different layers never coincide.
    """
    power = np.abs(np.fft.fft(pattern)) ** 2
    later, found = 1, []
    for layer in reversed(layers):
        line = np.arange(len(pattern))
        own = (line * layer.stride * later % len(pattern) == 0) & (line * later % len(pattern) != 0)
        if own.any() and power[own].max() > _ZERO * power.max():
            found.append(layer.stride * later)
        later *= layer.stride
    return found[::-1]


def drawn_stack(rng: np.random.Generator, depth: int, largest: int = 8) -> list[Layer]:
    """A stack of layers without holes: strides 2 to 4, kernels from the stride to `largest`, all equally likely."""
    strides = rng.integers(2, 5, depth)
    return [Layer(int(rng.integers(s, largest + 1)), int(s)) for s in strides]


def attenuation(layer: Layer, size: int, weights: Array) -> tuple[Array, Array, float]:
    """What a last transposed convolution of stride 1 leaves of a layer's overlap pattern.

    Args:
        layer: The layer before, all weights 1.
        size: Kernel size of the last.
        weights: Its weights, ``(size,)``.

    Returns:
        The pattern's lines against its mean before and after, both ``(s - 1,)`` (ratio of amplitudes), and the root
        mean square of the pattern after over before, each relative to its own mean (ratio).
    """
    before = np.abs(np.fft.fft(composed([layer])))
    after = np.abs(np.fft.fft(composed([layer, Layer(size, 1)], [np.ones(layer.kernel), weights])))
    lines = before[1:] / before[0], after[1:] / after[0]
    return *lines, float(np.sqrt((lines[1] ** 2).sum() / (lines[0] ** 2).sum()))


def origins(layers: Sequence[Layer], rng: np.random.Generator) -> list[Array]:
    """The pattern that each layer of a stack makes by itself: drawn weights there, nearest neighbour elsewhere.

    Args:
        layers: From input to output.
        rng: Draws the weights, uniform between 0 and 1.

    Returns:
        One period of the whole stack for each layer, each with mean 1.
    """
    found = []
    for place, own in enumerate(layers):
        stack = [own if n == place else Layer(layer.stride, layer.stride) for n, layer in enumerate(layers)]
        kernels = [rng.random(layer.kernel) if n == place else np.ones(layer.kernel) for n, layer in enumerate(stack)]
        pattern = composed(stack, kernels)
        found.append(pattern / pattern.mean())
    return found


def period_of(pattern: Array) -> int:
    """The smallest shift under which a periodic pattern stays the same, in pixels."""
    return next(
        n
        for n in range(1, len(pattern) + 1)
        if len(pattern) % n == 0 and np.abs(np.roll(pattern, n) - pattern).max() < 1e-9
    )


def centroid(pattern: Array) -> float:
    """Mean frequency of a pattern without its mean, weighted by power, in cycles per output pixel."""
    power = np.abs(np.fft.rfft(pattern)) ** 2
    power[0] = 0
    if len(pattern) % 2:
        power[1:] *= 2
    else:
        power[1:-1] *= 2
    return float((power * np.fft.rfftfreq(len(pattern))).sum() / power.sum())
