"""Up-sampling layers that cannot make a checkerboard, in the place of a transposed convolution or a pixel shuffle.

**Sub-pixel form.** With ``f`` the kernel of a transposed convolution, spread by its dilation, ``y[n] = sum_i x[i]
f[n + p - s i]``. For any whole ``q`` let ``n = s m + r - c`` with ``c = p - s q``: then ``y[n]`` is channel ``r`` at
``m`` of a convolution with ``K = ceil(len f / s)`` taps ``W_r[j] = f[s (K - 1 - j) + r]`` and padding ``P = K - 1 - q``
(docs/theory.md, *Phases and the DC condition*). So the transposed convolution is the sub-pixel convolution of kernel
``W``, cropped by ``c`` samples at the start; the largest ``q`` for which enough is left at the end needs least padding.
Sizes and places are exactly equal, for every input size; the function too, until the phases are made equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

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


@dataclass(frozen=True)
class _Axis:
    """One axis of the sub-pixel convolution: its taps, their distance, its padding; the crop behind the shuffle."""

    kernel: int
    dilation: int
    padding: int
    crop: tuple[int, int]


def _axis(k: int, s: int, p: int, d: int, a: int) -> _Axis:
    """See the text of the module; an axis of stride 1 keeps its taps and their distance."""
    span = d * (k - 1) + 1
    blocks = -(-span // s)
    q = min(p // s, blocks - 1, (s * blocks - span - a + p) // s)
    start, padding = p - s * q, blocks - 1 - q
    # size before the crop, s (n + 2 P - K + 1), less the size of the transposed convolution
    spare = s * (2 * padding - blocks + 2) - (span + a - 2 * p)
    kernel, dilation = (k, d) if s == 1 else (blocks, 1)
    return _Axis(kernel, dilation, padding, (start, spare - start))


def _phases(layer: Any, axes: Sequence[_Axis]) -> Tensor:
    """``(C_in, C_out / groups, *k)`` as ``(C_out * prod(s), C_in / groups, *K)``."""
    weight: Tensor = layer.weight.detach()
    shape = list(weight.shape[:2])
    for i, (axis, s, d) in enumerate(zip(axes, layer.stride, layer.dilation, strict=True), start=2):
        if s > 1:
            weight = _spread(weight, i, d, s * axis.kernel)
        shape += [axis.kernel, s]
    dims, groups = len(axes), layer.groups
    weight = weight.reshape(shape).flip([2 + 2 * i for i in range(dims)])
    weight = weight.reshape(groups, shape[0] // groups, *shape[1:])
    order = [0, 2, *range(4, 4 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2)]
    kernel = [a.kernel for a in axes]
    return weight.permute(order).reshape(layer.out_channels * prod(layer.stride), shape[0] // groups, *kernel)


def _spread(weight: Tensor, axis: int, dilation: int, taps: int) -> Tensor:
    """Zeros between the taps and behind them."""
    shape = list(weight.shape)
    shape[axis] = taps
    spread = weight.new_zeros(shape)
    places = torch.arange(weight.shape[axis], device=weight.device) * dilation
    return spread.index_copy(axis, places, weight)


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
    axes = [_axis(*g) for g in geometry]
    new = built(
        _SUBPIXEL[len(axes) - 1], layer, layer.in_channels, layer.out_channels, [a.kernel for a in axes], layer.stride,
        [a.padding for a in axes], "zeros", [a.dilation for a in axes], layer.groups, layer.bias is not None,
    )  # fmt: skip
    phases = prod(layer.stride)
    bias = None if layer.bias is None else layer.bias.detach().repeat_interleave(phases)
    error = _filled(new, _in_format_of(_phases(layer, axes), layer.weight), bias, layer, tuple(layer.stride))
    if not any(any(a.crop) for a in axes):
        return Made(new, error)
    crop = [-amount for a in reversed(axes) for amount in a.crop]
    return Made(nn.Sequential(new, _CROP[len(axes) - 1](tuple(crop), 0.0)).train(layer.training), error)


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
