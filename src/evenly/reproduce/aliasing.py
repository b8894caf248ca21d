"""What strided layers do on the way forward: frequencies that fold, and answers that change when a picture is moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Shifts", "folded_db", "gain", "shifted"]

_BORDER = 2
"""Positions of a layer's output left out at every border: they see the padding."""


def _split(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies up to 1/4 cycle per pixel along both axes, which every second sample keeps, and the others."""
    spectrum = torch.fft.fft2(pictures)
    rows, columns = (torch.fft.fftfreq(side, device=pictures.device).abs() <= 0.25 for side in pictures.shape[-2:])
    low = torch.fft.ifft2(spectrum * (rows[:, None] & columns[None, :])).real
    return low, pictures - low


@torch.no_grad()
def folded_db(layer: nn.Module, pictures: Tensor) -> float:
    """Share of a stride-2 layer's output that comes from frequencies which that output cannot hold.

    Args:
        layer: Linear and without bias, of stride 2.
        pictures: ``(N, C, H, W)``; they are taken without their means and under a Hann window, whose ends would else
            be edges.

    Returns:
        Energy of the response to the frequencies beyond 1/4 cycle per pixel, in dB of the whole.
    """
    window = torch.hann_window(pictures.shape[-1] + 2, periodic=False, device=pictures.device)[1:-1]
    centred = (pictures - pictures.mean((2, 3), keepdim=True)) * window[:, None] * window[None, :]
    energies = [float(_inside(layer(part)).cpu().double().square().sum()) for part in _split(centred)]
    return float(10 * np.log10(max(energies[1], 1e-30) / sum(energies)))


def _inside(maps: Tensor) -> Tensor:
    return maps[..., _BORDER:-_BORDER, _BORDER:-_BORDER]


@torch.no_grad()
def gain(layer: nn.Module, size: int, channels: int = 3) -> list[float]:
    """Mean square of a layer's response to grey waves along its rows, by frequency.

    Args:
        layer: Linear.
        size: Of the pictures' sides, in pixels.
        channels: Of the input.

    Returns:
        For the frequencies ``0, 1/size, ..., 1/2`` cycles per pixel, mean over the two phases a quarter of a wave
        apart, as a ratio to the largest.
    """
    place = torch.arange(size, dtype=torch.float32)
    device = next(layer.parameters()).device
    found = []
    for k in range(size // 2 + 1):
        angle = 2 * torch.pi * k / size * place
        waves = torch.stack([angle.cos(), angle.sin()])[:, None, None, :].expand(2, channels, size, size)
        energy = _inside(layer(waves.to(device))).cpu().double().square().mean((1, 2, 3)).sum()
        found.append(float(energy) / float(waves.double().square().mean((1, 2, 3)).sum()))
    largest = max(found)
    return [value / largest for value in found]


@dataclass(frozen=True)
class Shifts:
    """How a classifier's answers change when its pictures are moved by one pixel.

    Attributes:
        change_db: Mean square change of the scores, in dB of their variance over pictures (white noise: 3 dB).
        consistency: Share of pictures and directions whose class stays (ratio).
    """

    change_db: float
    consistency: float


@torch.no_grad()
def shifted(classifier: nn.Module, pictures: Tensor) -> Shifts:
    """Classify windows of pictures, moved by one pixel down, right and both.

    Args:
        classifier: In evaluation mode, ``(N, C, H, W)`` to ``(N, classes)``.
        pictures: ``(N, C, H + 1, W + 1)``, so that the windows bring in true pixels.
    """
    height, width = (side - 1 for side in pictures.shape[-2:])
    scores = [
        classifier(pictures[..., y : y + height, x : x + width]).cpu().double()
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    first, moved = scores[0], torch.stack(scores[1:])
    change = (moved - first).square().sum(2).mean()
    variance = first.var(0).sum()
    same = (moved.argmax(2) == first.argmax(1)).double().mean()
    return Shifts(float(10 * torch.log10(change / variance)), float(same))
