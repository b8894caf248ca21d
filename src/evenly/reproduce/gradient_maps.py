"""The squared gradient of a network by phase, as ``evenly check`` expects it and as it is measured; as pictures too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

import evenly
from evenly.check.facts import Facts
from evenly.errors import ParameterError, UsageError
from evenly.graph.torch import read_module
from evenly.reproduce.data import Data, Split

__all__ = ["by_phase", "crops", "expected_by_phase", "folded", "gradient_pictures", "phase_picture"]

Array = NDArray[np.float64]

_SMALLEST = 32
"""Sides of the crops that are enlarged where the data have no larger pictures (CIFAR-10), in pixels."""
_BATCH = 16


def crops(data: Data, count: int, size: int, seed: int, split: Split) -> Tensor:
    """Crops as :meth:`Data.sample` gives them; of small pictures, crops of 32 pixels enlarged by cubic interpolation.

    Args:
        data: The pictures.
        count: How many.
        size: Of their sides, in pixels.
        seed: Of the drawing.
        split: Which part of the pictures.
    """
    try:
        return data.sample(count, size, seed, split)
    except UsageError:
        small = data.sample(count, min(size, _SMALLEST), seed, split)
        return interpolate(small, (size, size), mode="bicubic").clamp(-1, 1)


def expected_by_phase(module: nn.Module, size: int) -> Array:
    """The squared gradient that ``evenly check`` expects at the input before training, over one cell of its period.

    Args:
        module: The network, of one input ``(N, 3, H, W)``.
        size: Of the input's sides, in pixels.

    Returns:
        ``(p, q)``, of mean 1; ``(1, 1)`` where no pattern is expected.

    Raises:
        ParameterError: If the theory does not cover the network.
    """
    graph = read_module(module, (torch.zeros(1, 3, size, size),), use_weights=False)
    gradient = Facts(graph, False, True, 0.0).gradients[graph.inputs[0]]
    if gradient.variance is None:
        raise ParameterError(f"the gradient of {type(module).__name__} is not covered by the theory: {gradient.reason}")
    return np.asarray(gradient.variance / gradient.variance.mean(), np.float64)


def folded(cell: Array, period: int) -> Array:
    """A cell as it is seen at a period of both axes: repeated or averaged.

    Args:
        cell: ``(p, q)``; each of the sides divides the period, or is divided by it.
        period: In pixels.

    Returns:
        ``(period, period)``.

    Raises:
        ParameterError: If a side has another period.
    """
    if any(side % period and period % side for side in cell.shape):
        raise ParameterError(f"a cell of {cell.shape} cannot be folded at period {period}")
    repeats = [max(1, period // side) for side in cell.shape]
    whole = np.tile(cell, repeats)
    rows, columns = (side // period for side in whole.shape)
    return np.asarray(whole.reshape(rows, period, columns, period).mean(axis=(0, 2)))


def by_phase(
    module: nn.Module, pictures: Tensor, periods: tuple[int, ...], target: Callable[[Any], Tensor] | None = None
) -> dict[str, Any]:
    """The squared gradient at the input, measured with :func:`evenly.measure_gradient`.

    Args:
        module: The network.
        pictures: ``(N, 3, H, W)``, on the network's device.
        periods: In pixels.
        target: What is derived, as :func:`evenly.measure_gradient` takes it.

    Returns:
        JSON: ``energies`` (of mean about 1), ``unevenness`` (largest over smallest, ``None`` where a phase gets
        nothing), ``effective`` (share of the phases that is used) by period, and the share of ``dead`` positions.

    Raises:
        ParameterError: If the pictures are too small for a period.
    """
    (layer,) = evenly.measure_gradient(
        module,
        [(some,) for some in pictures.split(_BATCH)],  # type: ignore[no-untyped-call]
        target=target,
        periods=periods,
        samples=len(pictures),
        draws=0,
    ).layers
    found = {}
    for period in periods:
        measured = layer.periods.get(period)
        if measured is None:
            raise ParameterError(f"{pictures.shape[-1]} pixels are too few for period {period}: {layer.reason}")
        found[str(period)] = measured.to_dict()
    return {
        "energies": {p: value["energies"] for p, value in found.items()},
        "unevenness": {p: value["unevenness"] for p, value in found.items()},
        "effective": {p: value["effective_fraction"] for p, value in found.items()},
        "dead": layer.dead_fraction,
    }


def gradient_pictures(module: nn.Module, pictures: Tensor, target: Callable[[Any], Tensor]) -> NDArray[np.uint8]:
    """Pictures of the gradient's size: the root of its mean square over the colours, white at the 99th percentile.

    Args:
        module: The network, in evaluation mode.
        pictures: ``(N, 3, H, W)``, on the network's device.
        target: A scalar, from the network's output.

    Returns:
        ``(N, H, W)``.
    """
    leaf = pictures.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(target(module(leaf)), leaf)
    size = gradient.square().mean(1).sqrt().cpu().double().numpy()
    white = np.quantile(size, 0.99, axis=(1, 2), keepdims=True)
    return np.asarray(np.rint(255 * np.clip(size / np.where(white > 0, white, 1), 0, 1)), np.uint8)


def phase_picture(energies: Any, size: int) -> NDArray[np.uint8]:
    """A cell of phases, repeated over a picture: grey levels in proportion to the squared gradient, white the largest.

    Args:
        energies: ``(p, q)``, not all 0.
        size: Of the picture's sides, in pixels, a multiple of both periods.

    Returns:
        ``(size, size)``.
    """
    cell = np.asarray(energies, np.float64)
    whole = np.tile(cell / cell.max(), [size // side for side in cell.shape])
    return np.asarray(np.rint(255 * whole), np.uint8)
