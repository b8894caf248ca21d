"""Lines of windowed tensors at any frequency, in torch: differentiable, on any device, without complex numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["new_mask", "residual", "transform", "window"]


def residual(x: Tensor, axes: int) -> Tensor:
    """High-pass residual ``r = x - B * x``, ``B`` the product of ``[1, 2, 1] / 4`` over the last axes, valid part.

    Its response is alike along axes and diagonals; a product of *differences* would remove the lines on the axes.
    """
    smooth = x
    for axis in range(x.ndim - axes, x.ndim):
        n = smooth.shape[axis]
        ends = smooth.narrow(axis, 0, n - 2) + smooth.narrow(axis, 2, n - 2)
        smooth = 0.25 * ends + 0.5 * smooth.narrow(axis, 1, n - 2)
        x = x.narrow(axis, 1, n - 2)
    return x - smooth


def window(size: int) -> Tensor:
    """Hann window ``sin^2(pi (n + 1/2) / size)``, scaled to a sum of squares of 1 (white noise keeps its variance)."""
    taper = (math.pi / size * (torch.arange(size, dtype=torch.float64) + 0.5)).sin().square()
    return taper / taper.square().sum().sqrt()


def new_mask(period: int, axes: int) -> Tensor:
    """Which of the frequencies ``a / period`` of a cell are new at the period: ``gcd(a_1, ..., a_d, period) = 1``."""
    shared = torch.tensor(period)
    for axis in range(axes):
        shared = torch.gcd(shared, torch.arange(period).reshape([-1 if a == axis else 1 for a in range(axes)]))
    return shared == 1


def transform(x: Tensor, frequencies: Sequence[Tensor], first: int = 0) -> tuple[Tensor, Tensor]:
    """``Y(f) = sum_n x(n) prod_axis v(n) exp(-2 pi i f (n + first))`` over the last axes, ``v`` the Hann window.

    Args:
        x: ``(..., *spatial)``.
        frequencies: Per axis, float64, in cycles per position.
        first: Position of the first value.

    Returns:
        Real and imaginary parts, ``(..., *frequencies)``.
    """
    real, imaginary = x, torch.zeros_like(x)
    for axis, wanted in zip(range(x.ndim - len(frequencies), x.ndim), frequencies, strict=True):
        size = x.shape[axis]
        where = torch.arange(first, first + size, dtype=torch.float64)
        angle = -2 * math.pi * torch.outer(where, wanted).remainder(1)
        taper = window(size)[:, None]
        cosine, sine = (taper * angle.cos()).to(x), (taper * angle.sin()).to(x)
        a, b = real.transpose(axis, -1), imaginary.transpose(axis, -1)
        real = (a @ cosine - b @ sine).transpose(axis, -1)
        imaginary = (a @ sine + b @ cosine).transpose(axis, -1)
    return real, imaginary
