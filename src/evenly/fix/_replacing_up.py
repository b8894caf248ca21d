"""Up-sampling layers that cannot make a checkerboard, in the place of a transposed convolution or a pixel shuffle.

How a transposed convolution becomes a sub-pixel convolution is in :mod:`evenly.theory.equivalence`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evenly.errors import ParameterError
from evenly.fix._replacing import Made, built, distance, taken_over
from evenly.fix._torch_layers import trained
from evenly.fix._torch_shuffles import Shuffle
from evenly.nn.balanced import balance_subpixel
from evenly.nn.convert import _conv_padding, _in_format_of, _own_class, unfold
from evenly.nn.subpixel import SubpixelConv1d, SubpixelConv2d, SubpixelConv3d, _SubpixelConv
from evenly.nn.utils import _ShuffledConv2d
from evenly.theory.equivalence import subpixel_axis, subpixel_weight

__all__ = ["TRANSPOSED", "resized", "shuffled", "subpixeled"]

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_SUBPIXEL: tuple[type[_SubpixelConv], ...] = (SubpixelConv1d, SubpixelConv2d, SubpixelConv3d)
_CROP: tuple[Callable[..., nn.Module], ...] = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)


def _check(layer: Any) -> None:
    if _own_class(layer, TRANSPOSED) is None:
        raise ParameterError(f"{type(layer).__name__} has a forward of its own; replace this class by hand")
    if all(s == 1 for s in layer.stride):
        raise ParameterError("its stride is 1: it makes no pattern of its own")


def resized(layer: Any) -> Made:
    """The resize-convolution nearest to a transposed convolution (:func:`evenly.nn.unfold`).

    Args:
        layer: With plain parameters and without hooks; its bias becomes that of the new one.

    Raises:
        ParameterError: If it is no transposed convolution of PyTorch's, or of stride 1.
    """
    _check(layer)
    found = unfold(layer)
    taken_over(found.layer, layer, ("bias",))
    return Made(found.layer, 0.0 if found.exact else found.residual)


# ---- sub-pixel -------------------------------------------------------------------------------------------------------


def subpixeled(layer: Any) -> Made:
    """The sub-pixel convolution of equal phase gains nearest to a transposed convolution.

    Args:
        layer: With plain parameters and without hooks.

    Returns:
        A ``SubpixelConv``; in an ``nn.Sequential`` with a crop where the sizes need one.

    Raises:
        ParameterError: If it is no transposed convolution of PyTorch's, or of stride 1.
    """
    _check(layer)
    geometry = zip(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.output_padding, strict=True)
    axes = [subpixel_axis(*g) for g in geometry]
    new = built(
        _SUBPIXEL[len(axes) - 1], layer, layer.in_channels, layer.out_channels, [a.kernel for a in axes], layer.stride,
        [a.padding for a in axes], "zeros", [a.dilation for a in axes], layer.groups, layer.bias is not None,
    )  # fmt: skip
    phases = prod(layer.stride)
    bias = None if layer.bias is None else layer.bias.detach().repeat_interleave(phases)
    error = _filled(new, _in_format_of(_phases(layer), layer.weight), bias, layer, tuple(layer.stride))
    if not any(any(a.crop) for a in axes):
        return Made(new, error)
    crop = [-amount for a in reversed(axes) for amount in a.crop]
    return Made(nn.Sequential(new, _CROP[len(axes) - 1](tuple(crop), 0.0)).train(layer.training), error)


def _phases(layer: Any) -> Tensor:
    """The weight as that of the sub-pixel convolution, ``(C_out * prod(s), C_in / groups, *K)``; exactly."""
    weight: Tensor = layer.weight.detach()
    made = subpixel_weight(weight.double().cpu().numpy(), layer.stride, layer.dilation, layer.groups)
    return torch.from_numpy(np.array(made, order="C")).to(weight.device, weight.dtype)


def _filled(new: Any, weight: Tensor, bias: Tensor | None, old: Any, factor: tuple[int, ...]) -> float:
    """Give a sub-pixel convolution its weights, their phases made equal; the relative error that this makes."""
    new.weight = nn.Parameter(weight.contiguous(), trained(old, "weight"))
    if bias is not None:
        new.bias = nn.Parameter(bias, trained(old, "bias"))
    balance_subpixel(new, factor, 1)
    new.order = 1
    new.train(old.training)
    with torch.no_grad():
        return distance(new.weight, weight)


def shuffled(layer: Any, shuffle: Shuffle, alone: bool) -> Made:
    """The convolution before a pixel shuffle with phases of equal gains: the nearest one.

    Args:
        layer: With plain parameters and without hooks.
        shuffle: The pixel shuffle behind it.
        alone: Whether the layer is to do the shuffle too; else it stays a convolution, whose weight is kept balanced.

    Raises:
        ParameterError: If the layer has a forward of its own, or its phases cannot be made equal.
    """
    factor, phases = shuffle.factor, prod(shuffle.factor)
    cls = _own_class(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    if cls is None:
        raise ParameterError(f"{type(layer).__name__} has a forward of its own; replace this class by hand")
    if shuffle.order is not None:
        raise ParameterError("its channels are permuted before the shuffle; use nn.PixelShuffle and its order")
    if (layer.out_channels // phases) % layer.groups:
        raise ParameterError(
            f"its pixel shuffle makes one channel of several of its {layer.groups} groups; use fewer groups"
        )
    weight, bias = layer.weight.detach().clone(), None if layer.bias is None else layer.bias.detach().clone()
    pads = _conv_padding(layer)
    if not alone or any(low != high for low, high in pads):
        return _kept_balanced(layer, weight, factor)
    new = built(
        _SUBPIXEL[len(factor) - 1], layer, layer.in_channels, layer.out_channels // phases, layer.kernel_size, factor,
        [low for low, _ in pads], layer.padding_mode, layer.dilation, layer.groups, bias is not None,
    )  # fmt: skip
    return Made(new, _filled(new, weight, bias, layer, factor), shuffles=True)


def _kept_balanced(layer: Any, weight: Tensor, factor: tuple[int, ...]) -> Made:
    if type(layer) is nn.Conv2d:
        layer.__class__ = _ShuffledConv2d  # which pickles
    balance_subpixel(layer, factor, 1)
    layer.order = 1
    with torch.no_grad():
        return Made(layer, distance(layer.weight, weight), "the sums of its phases are kept equal")
