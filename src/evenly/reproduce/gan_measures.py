"""What is measured in generated pictures beside their lines: patterns by colour, distance from the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from torch import nn
from torch.nn.functional import avg_pool2d, mse_loss

from evenly.reproduce.generators import up_layer
from evenly.reproduce.train import train

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor

    from evenly.reproduce.experiment import Context

__all__ = ["colour_distance", "decoder", "patch_distance", "periodic_energy", "requested", "train_decoder"]

Array = NDArray[np.float64]
Bytes = NDArray[np.uint8]

PERIOD = 4
"""Pixels: of two layers of stride 2, the second's period 2 included."""

_MARGIN = 8
_COLOURS = 5
_PATCH = 7
_PATCHES = 4096
_DIRECTIONS = 128


def colour_distance(colours: NDArray[Any], centre: NDArray[Any]) -> Array:
    """Root mean square over the channels of colours ``(N, 3)`` less another ``(3,)``, in the units of both."""
    return np.asarray(np.sqrt(((colours - centre) ** 2).mean(1)), np.float64)


def periodic_energy(pictures: Bytes) -> Array:
    """Energy of the pattern of period 4 pixels (2 included) in every picture, corrected for chance.

    Slow content is taken away first with a filter that is zero at every multiple of 1/4 cycle per pixel, so that it
    leaves the pattern as it is; then the variance between the 16 phases' means, less what the variance within the
    phases gives by chance. Content that is correlated over more than 4 pixels is left in part, and adds to the energy;
    compare with pictures that have no pattern.

    Args:
        pictures: ``(N, H, W, 3)``.

    Returns:
        ``(N,)``, in squared grey levels, mean over the channels; may be negative by chance.
    """
    values = pictures.astype(np.float64)
    slow = values
    for axis in (1, 2):
        slow = convolve1d(slow, np.array([1, 2, 2, 2, 1]) / 8, axis=axis, mode="nearest")
    cells = _cells(values - slow, PERIOD)
    between = cells.mean((1, 2)).var((1, 2)).mean(-1)
    within = cells.var((1, 2), ddof=1).mean((1, 2, 3)) / (cells.shape[1] * cells.shape[2])
    return np.asarray(between - within * (1 - 1 / PERIOD**2), np.float64)


def _cells(values: Array, margin: int) -> Array:
    """``(N, H, W, C)`` without a margin, a multiple of the period, as ``(N, rows, columns, phase, phase, C)``."""
    count, height, width, channels = values.shape
    rows, columns = ((side - 2 * margin) // PERIOD for side in (height, width))
    inside = values[:, margin : margin + rows * PERIOD, margin : margin + columns * PERIOD]
    return inside.reshape(count, rows, PERIOD, columns, PERIOD, channels).swapaxes(2, 3)


def patch_distance(pictures: Bytes, others: Bytes, rng: np.random.Generator) -> float:
    """Sliced Wasserstein distance of patches (Rabin et al. 2011; Karras et al., arXiv 1710.10196), in grey levels.

    Patches of 7x7 pixels in three colours, 4096 of either side, at full and at half size; along 128 random directions
    of unit length the mean absolute difference of the sorted projections; the mean of all. One grey level added to all
    values moves it by about 0.8.

    Args:
        pictures: ``(N, H, W, 3)``.
        others: ``(M, H, W, 3)``.
        rng: Draws patches and directions.
    """
    found = []
    for halved in (False, True):
        sides = [_patches(_half(p) if halved else p.astype(np.float64), rng) for p in (pictures, others)]
        directions = rng.standard_normal((sides[0].shape[1], _DIRECTIONS))
        directions /= np.linalg.norm(directions, axis=0)
        first, second = (np.sort(side @ directions, axis=0) for side in sides)
        found.append(float(np.abs(first - second).mean()))
    return float(np.mean(found))


def _half(pictures: Bytes) -> Array:
    count, height, width, channels = pictures.shape
    split = pictures.astype(np.float64).reshape(count, height // 2, 2, width // 2, 2, channels)
    return np.asarray(split.mean((2, 4)), np.float64)


def _patches(pictures: Array, rng: np.random.Generator) -> Array:
    count, height, width, _ = pictures.shape
    n = rng.integers(count, size=_PATCHES)
    y, x = (rng.integers(side - _PATCH + 1, size=_PATCHES) for side in (height, width))
    rows, columns = y[:, None, None] + np.arange(_PATCH)[:, None], x[:, None, None] + np.arange(_PATCH)
    return np.asarray(pictures[n[:, None, None], rows, columns].reshape(_PATCHES, -1), np.float64)


def decoder(kind: str, width: int) -> nn.Sequential:
    """Thumbnails ``(N, 3, H, W)`` to pictures ``(N, 3, 4 H, 4 W)``, both from -1 to 1, by two layers of a kind.

    A constant thumbnail requests a constant colour.
    """
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, padding_mode="replicate"),
        nn.ReLU(),
        up_layer(kind, width, width),
        nn.ReLU(),
        up_layer(kind, width, 3),
    )


def train_decoder(context: Context, network: nn.Module, size: int, batch: int, steps: int) -> Mapping[str, list[float]]:
    """Train a decoder to give pictures back from their thumbnails, with the squared error; gives its curve."""
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    model, adam = context.fabric.setup(network, optimizer)

    def step(_: int, random: Generator) -> Mapping[str, float]:
        real = context.fabric.to_device(context.data.batch(batch, size, random))
        error = mse_loss(model(avg_pool2d(real, 4)), real)
        adam.zero_grad()
        context.fabric.backward(error)
        adam.step()
        return {"squared error": float(error.detach())}

    return train(context, "decoder", {"network": model, "optimizer": adam}, steps, step).losses


def requested(context: Context, network: nn.Module, size: int) -> tuple[Array, Array, Tensor]:
    """Request 125 constant colours, all combinations of 5 levels.

    Returns:
        The colours ``(125, 3)`` and the root mean square of each answer's pattern of period 4, ``(125,)``, both in
        grey levels; and the answers ``(125, 3, size, size)``. The pattern is taken before values are clipped, 8 pixels
        away from the borders.
    """
    levels = torch.linspace(-1, 1, _COLOURS)
    colours = torch.cartesian_prod(levels, levels, levels)
    thumbnails = colours[:, :, None, None].expand(-1, -1, size // 4, size // 4)
    place = next(network.parameters()).device
    with torch.no_grad():
        made = network(thumbnails.contiguous().to(place)).cpu()
    cells = _cells(made.permute(0, 2, 3, 1).double().numpy() * 127.5, _MARGIN)
    pattern = np.sqrt(cells.mean((1, 2)).var((1, 2)).mean(-1))
    return (colours.double().numpy() + 1) * 127.5, pattern, made
