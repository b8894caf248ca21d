"""Layers as matrices, read from the layers themselves by sending unit vectors and unit weights through them.

Ranks of these matrices count degrees of freedom; equal entries show which weights are tied. Nothing is taken from
:mod:`evenly.theory`, which says the same in closed form.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv_transpose1d, conv_transpose2d, interpolate
from torch.utils.flop_counter import FlopCounterMode

from evenly.nn import ResizeConv2d
from evenly.nn.subpixel import pixel_shuffle
from evenly.theory.phases import degrees_of_freedom

__all__ = ["costs", "equal_layers", "freedoms", "keep_constants", "linear", "matrices", "tied"]

Array = NDArray[np.float64]
Operator = Callable[[Tensor, Tensor], Tensor]
_DOUBLE = torch.float64


def transposed(x: Tensor, weight: Tensor, stride: int = 2) -> Tensor:
    """A transposed convolution along one axis: ``(N, 1, L)`` with ``(k,)``, cropped to ``stride * L`` if ``k > s``."""
    surplus = weight.numel() - stride
    full = conv_transpose1d(x, weight[None, None], None, stride)
    return full[..., surplus // 2 : surplus // 2 + stride * x.shape[-1]]


def subpixel(x: Tensor, weight: Tensor, stride: int = 2) -> Tensor:
    """A convolution to `stride` channels and a shuffle; the weights are ``stride`` kernels one after the other."""
    kernels = weight.reshape(stride, 1, -1)
    taps = kernels.shape[-1]
    return pixel_shuffle(conv1d(torch.nn.functional.pad(x, ((taps - 1) // 2, taps // 2)), kernels), (stride,))


def resized(x: Tensor, weight: Tensor, stride: int = 2) -> Tensor:
    """Nearest-neighbour interpolation, zeros at the border, a convolution."""
    taps = weight.numel()
    wide = torch.nn.functional.pad(interpolate(x, scale_factor=stride), ((taps - 1) // 2, taps // 2))
    return conv1d(wide, weight[None, None])


DRAWN: dict[str, tuple[Operator, int]] = {
    "transposed convolution k4 s2": (transposed, 4),
    "sub-pixel convolution k2, factor 2": (subpixel, 4),
    "nearest-neighbour resize x2, convolution k3": (resized, 3),
}
"""Layers that are drawn, with the number of their weights; the kernels of all three reach 4 outputs."""


def matrix(operator: Operator, weight: Tensor, size: int) -> Array:
    """The matrix of a layer, ``(outputs, size)``: its columns are what it makes of unit vectors."""
    return np.asarray(operator(torch.eye(size, dtype=_DOUBLE)[:, None], weight)[:, 0].T.numpy(), np.float64)


def matrices(size: int) -> dict[str, NDArray[np.int64]]:
    """Which weights stand at each place of the matrices of the drawn layers.

    Args:
        size: Inputs.

    Returns:
        By layer ``(2 size, size)``: a sum of powers of two, ``2**j`` for weight ``j``; 0 where there is none.
    """
    return {
        name: matrix(operator, 2.0 ** torch.arange(count, dtype=_DOUBLE), size).astype(np.int64)
        for name, (operator, count) in DRAWN.items()
    }


def linear(rng: np.random.Generator, draws: int) -> dict[str, int]:
    """How often a layer's output equals its matrix times the input, to the bit: whole weights and inputs are drawn."""
    cells = equal = 0
    for operator, count in DRAWN.values():
        for _ in range(draws):
            size = int(rng.integers(2, 12))
            weight, x = (torch.from_numpy(rng.integers(-9, 10, n).astype(np.float64)) for n in (count, size))
            out = operator(x[None, None], weight)[0, 0].numpy()
            cells += 1
            equal += np.array_equal(out, matrix(operator, weight, size) @ x.numpy())
    return {"cells": cells, "equal": int(equal)}


def _rank(rows: Array) -> int:
    return int(np.linalg.matrix_rank(rows)) if rows.size else 0


def _dimension(layer: Callable[[Tensor, Tensor, int], Tensor], stride: int, weights: int, size: int) -> int:
    """Dimension of the set of matrices that a layer can be, from the matrices of its unit weights."""

    def operator(x: Tensor, weight: Tensor) -> Tensor:
        return layer(x, weight, stride)

    rows = [matrix(operator, unit, size).ravel() for unit in torch.eye(weights, dtype=_DOUBLE)]
    return _rank(np.stack(rows))


def tied(kernels: int, strides: int) -> list[dict[str, int]]:
    """Dimensions of the sets of matrices that transposed and resize-convolutions of one kernel size can be.

    Args:
        kernels: Largest kernel size of the transposed convolution.
        strides: Largest stride; from 2 on.

    Returns:
        For each kernel and stride: ``kernel``, ``stride``, and the ranks ``transposed`` and ``resize``.
    """
    found = []
    for s in range(2, strides + 1):
        for k in range(s, kernels + 1):
            ranks = {
                "transposed": _dimension(transposed, s, k, k + 2),
                "resize": _dimension(resized, s, k - s + 1, k + 2),
            }
            found.append({"kernel": k, "stride": s, **ranks})
    return found


def _gains(kernel: int, stride: int) -> Array:
    """What every single tap of a 2-D transposed convolution adds to each phase of a constant, ``(s^2, k^2)``."""
    size = 2 * (kernel // stride) + 3
    units = torch.eye(kernel * kernel, dtype=_DOUBLE).reshape(1, -1, kernel, kernel)
    out = conv_transpose2d(torch.ones(1, 1, size, size, dtype=_DOUBLE), units, None, stride)
    begin = -(-(kernel - 1) // stride) * stride
    cell = out[0, :, begin : begin + stride, begin : begin + stride]
    return np.asarray(cell.reshape(kernel * kernel, -1).T.numpy(), np.float64)


def _resize_rank(kernel: int, stride: int) -> int:
    """Dimension of the 2-D kernels of transposed convolutions that resize-convolutions can be."""
    taps = kernel - stride + 1
    point = torch.zeros(1, 1, 3 + 2 * taps, 3 + 2 * taps, dtype=_DOUBLE)
    point[..., 1 + taps, 1 + taps] = 1
    units = torch.eye(taps * taps, dtype=_DOUBLE).reshape(-1, 1, taps, taps)
    answers = conv2d(interpolate(point, scale_factor=stride), units, padding=taps - 1)
    return _rank(np.asarray(answers.reshape(taps * taps, -1).numpy(), np.float64))


def freedoms(kernels: int, strides: int) -> list[dict[str, int]]:
    """Degrees of freedom of 2-D kernels, by the rank of matrices that are read from layers.

    Args:
        kernels: Largest kernel size.
        strides: Largest stride; from 2 on.

    Returns:
        For each ``kernel >= stride``: ``kernel``, ``stride``; ``free``, ``balanced`` (keep constants) and ``resize``,
        measured; and the same with ``theory_`` before them from :func:`evenly.theory.phases.degrees_of_freedom`.
    """
    found = []
    for s, k in itertools.product(range(2, strides + 1), range(2, kernels + 1)):
        if k < s:
            continue
        gains = _gains(k, s)
        theory = degrees_of_freedom((k, k), (s, s))
        found.append(
            {
                "kernel": k,
                "stride": s,
                "free": k * k,
                "balanced": k * k - _rank(gains[1:] - gains[:1]),
                "resize": _resize_rank(k, s),
                **{f"theory_{name}": value for name, value in vars(theory).items()},
            }
        )
    return found


def _pattern_db(out: Tensor, period: int) -> float:
    """Power of the difference between the phases of a plane over that of their mean, in dB; -400 for none."""
    y = out[..., period * 4 : -period * 4, period * 4 : -period * 4]
    cell = torch.stack([y[..., a::period, b::period].mean((-2, -1)) for a in range(period) for b in range(period)], -1)
    mean = cell.mean(-1, keepdim=True)
    share = float(((cell - mean) ** 2).mean() / (mean**2).mean())
    return float(10 * np.log10(max(share, 1e-40)))


def equal_layers(rng: np.random.Generator, draws: int) -> dict[str, Any]:
    """Sub-pixel convolutions against transposed convolutions whose kernel is their weights in another order.

    Output ``s n + r`` of channel ``c`` reads input ``n + t - p`` with ``w[c r, t]``; the transposed convolution of
    kernel ``k s`` and padding ``s (k - 1 - p)`` has the same weight at tap ``s (k - 1 - t) + r``.

    Args:
        rng: Draws channels, sizes, factors, whole weights and inputs.
        draws: How many layers.

    Returns:
        ``cells`` and how many are ``equal`` to the bit; ``pattern_db``, what each makes of a constant of drawn colour:
        power of the pattern over that of its mean, in dB.
    """
    equal, patterns = 0, []
    for _ in range(draws):
        cin, cout, k, s = (int(rng.integers(low, high)) for low, high in ((1, 5), (1, 4), (1, 6), (2, 5)))
        p = int(rng.integers(0, k))
        weight = torch.from_numpy(rng.integers(-9, 10, (cout * s * s, cin, k, k)).astype(np.float64))
        x = torch.from_numpy(rng.integers(-9, 10, (1, cin, k + 3, k + 5)).astype(np.float64))
        by_phase = weight.reshape(cout, s, s, cin, k, k).flip(-2, -1)
        kernel = by_phase.permute(3, 0, 4, 1, 5, 2).reshape(cin, cout, k * s, k * s)
        other = conv_transpose2d(x, kernel, None, s, s * (k - 1 - p))
        equal += bool(torch.equal(pixel_shuffle(conv2d(x, weight, padding=p), (s, s)), other))
        free = torch.from_numpy(rng.standard_normal(weight.shape))
        colour = torch.from_numpy(rng.standard_normal((1, cin, 1, 1))).expand(1, cin, 12 + k, 12 + k)
        patterns.append(_pattern_db(pixel_shuffle(conv2d(colour, free), (s, s)), s))
    return {"cells": draws, "equal": equal, "pattern_db": patterns}


def keep_constants(rng: np.random.Generator, draws: int) -> dict[str, list[float]]:
    """What layers with drawn weights make of a constant of drawn colour: pattern over mean in dB.

    Returns:
        By layer: ``nearest`` and ``bilinear`` resize-convolution of factor 2 and 3 taps, ``transposed`` of the kernel
        size of the first, 4.
    """
    found: dict[str, list[float]] = {"nearest": [], "bilinear": [], "transposed": []}
    for _ in range(draws):
        cin, cout = int(rng.integers(1, 9)), int(rng.integers(1, 5))
        colour = torch.from_numpy(rng.standard_normal((1, cin, 1, 1))).expand(1, cin, 12, 12)
        for mode in ("nearest", "bilinear"):
            layer = ResizeConv2d(cin, cout, 3, 2, mode, bias=False, dtype=_DOUBLE)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(rng.standard_normal(tuple(layer.weight.shape))))
                found[mode].append(_pattern_db(layer(colour), 2))
        weight = torch.from_numpy(rng.standard_normal((cin, cout, 4, 4)))
        found["transposed"].append(_pattern_db(conv_transpose2d(colour, weight, None, 2, 1), 2))
    return found


def costs(size: int = 32, channels: int = 16) -> dict[str, float]:
    """Multiply-adds per output pixel and pair of channels, as PyTorch counts them while layers run (factor 2)."""
    x = torch.zeros(1, channels, size, size)

    def weight(*kernel: int) -> Tensor:
        return torch.zeros(channels, channels, *kernel)

    layers: dict[str, Callable[[], Tensor]] = {
        "transposed convolution k3 s2": lambda: conv_transpose2d(x, weight(3, 3), None, 2, 1, 1),
        "transposed convolution k4 s2": lambda: conv_transpose2d(x, weight(4, 4), None, 2, 1),
        "sub-pixel convolution k3": lambda: pixel_shuffle(
            conv2d(x, weight(3, 3).repeat(4, 1, 1, 1), padding=1), (2, 2)
        ),
        "nearest resize, convolution k3": lambda: conv2d(interpolate(x, scale_factor=2), weight(3, 3), padding=1),
        "bilinear resize, convolution k3": lambda: conv2d(
            interpolate(x, scale_factor=2, mode="bilinear"), weight(3, 3), padding=1
        ),
    }
    for implementation in ("folded", "differences"):
        made = ResizeConv2d(channels, channels, 3, 2, bias=False, implementation=implementation)
        layers[f"nearest resize, convolution k3 as evenly.nn runs it ({implementation})"] = lambda made=made: made(x)  # type: ignore[misc]
    found = {}
    for name, run in layers.items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        # two operations make a multiply-add
        found[name] = counter.get_total_flops() / 2 / (4 * size * size) / channels**2
    return found
