"""Down-sampling layers whose gradient is even, in the place of strided convolutions and pools; borders without zeros.

The filter is :func:`evenly.nn.even_taps` at the reach of the layer itself, so that the squared gradient is even for any
weights (:mod:`evenly.nn.antialias`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from evenly.errors import ParameterError
from evenly.fix._replacing import Made, adopted, built
from evenly.nn import (
    AntialiasedConv1d,
    AntialiasedConv2d,
    AntialiasedConv3d,
    AntialiasedMaxPool1d,
    AntialiasedMaxPool2d,
    AntialiasedMaxPool3d,
    BlurPool1d,
    BlurPool2d,
    BlurPool3d,
)
from evenly.nn.convert import _conv_padding, _own_class
from evenly.theory.decimation import even_filters

__all__ = ["CONVOLUTIONS", "POOLS", "antialiased", "edge_padded"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
POOLS = (*_MAX, *_AVERAGE)
_CONV: tuple[Callable[..., nn.Module], ...] = (AntialiasedConv1d, AntialiasedConv2d, AntialiasedConv3d)
_MAX_POOL: tuple[Callable[..., nn.Module], ...] = (AntialiasedMaxPool1d, AntialiasedMaxPool2d, AntialiasedMaxPool3d)
_BLUR: tuple[Callable[..., nn.Module], ...] = (BlurPool1d, BlurPool2d, BlurPool3d)
_EDGE: tuple[Callable[..., nn.Module], ...] = (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d)


def antialiased(layer: Any) -> Made:
    """A layer of the same output sizes that is filtered before samples are dropped.

    Args:
        layer: A strided convolution, without hooks of its user's, a maximum or an average pool. The new layer has its
            very parameters, and computes them as it does.

    Raises:
        ParameterError: If it is nothing of this kind, is of stride 1, or its sizes cannot be kept.
    """
    if _own_class(layer, (*CONVOLUTIONS, *POOLS)) is None:
        raise ParameterError(f"{type(layer).__name__} has a forward of its own; replace this class by hand")
    made = _convolution if isinstance(layer, CONVOLUTIONS) else _max_pool if isinstance(layer, _MAX) else _average
    return made(layer)


def _per_axis(value: Any, dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value)


def _even(stride: Sequence[int], reach: Sequence[int]) -> tuple[list[tuple[float, ...]], str | None]:
    """Taps per axis, and what is to be known of them."""
    if all(s == 1 for s in stride):
        raise ParameterError("its stride is 1: it drops no samples")
    return even_filters(stride, reach)


def _convolution(layer: Any) -> Made:
    reach = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    taps, note = _even(layer.stride, reach)
    pads = [low for low, _ in _conv_padding(layer)]
    # what had no zeros at its border gets none by the filter
    mode = "replicate" if layer.padding_mode == "zeros" and not any(pads) else layer.padding_mode
    new = built(
        _CONV[len(reach) - 1], layer, layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
        pads, layer.dilation, layer.groups, layer.bias is not None, mode, taps=taps,
    )  # fmt: skip
    adopted(new, layer)
    return Made(new, note=note)


def _max_pool(layer: Any) -> Made:
    dims = 1 + _MAX.index(_own_class(layer, _MAX))
    if layer.return_indices:
        raise ParameterError("it returns indices, which an un-pooling reads")
    kernel, stride, padding, dilation = (
        _per_axis(v, dims) for v in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    taps, note = _even(stride, reach)
    new = _MAX_POOL[dims - 1](kernel, stride, padding, dilation, taps=taps, padding_mode="replicate")
    return Made(_up_to_the_end(layer, [new], stride, padding, reach).train(layer.training), note=note)


def _average(layer: Any) -> Made:
    """The average at every position, then the filter."""
    dims = 1 + _AVERAGE.index(_own_class(layer, _AVERAGE))
    kernel, stride, padding = (_per_axis(v, dims) for v in (layer.kernel_size, layer.stride, layer.padding))
    reach = [k - 1 for k in kernel]
    taps, note = _even(stride, reach)
    more = {} if dims == 1 else {"divisor_override": layer.divisor_override}
    dense: Any = _AVERAGE[dims - 1]
    dense = dense(kernel, 1, padding, count_include_pad=layer.count_include_pad, **more)
    blur = _BLUR[dims - 1](None, taps, stride, "replicate")
    return Made(_up_to_the_end(layer, [dense, blur], stride, padding, reach).train(layer.training), note=note)


def _up_to_the_end(
    layer: Any, parts: Sequence[nn.Module], stride: Sequence[int], padding: Sequence[int], reach: Sequence[int]
) -> nn.Module:
    """What ``ceil_mode`` reads behind the end is the last sample once more: ``s - 1`` samples give its sizes.

    PyTorch drops the last window if it lay in the padding alone; where none can (``p + s - 2 < d (k - 1)``) sizes are
    equal for every input.
    """
    if layer.ceil_mode:
        if any(s > 1 and p + s - 2 >= r for s, p, r in zip(stride, padding, reach, strict=True)):
            raise ParameterError(
                "with ceil_mode its number of windows depends on the padding, which no filter repeats; set "
                "ceil_mode=False"
            )
        ends = [amount for s in reversed(stride) for amount in (0, s - 1)]
        parts = [_EDGE[len(stride) - 1](tuple(ends)), *parts]
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def edge_padded(layer: Any) -> Made:
    """A convolution that repeats the edge where it padded with zeros; changed itself.

    Raises:
        ParameterError: If it is no convolution of PyTorch's or pads with no zeros.
    """
    if _own_class(layer, CONVOLUTIONS) is None:
        raise ParameterError(f"{type(layer).__name__} has a forward of its own; set its padding_mode by hand")
    if layer.padding_mode != "zeros" or not any(any(pair) for pair in _conv_padding(layer)):
        raise ParameterError("it pads with no zeros itself; change the padding before it to replicated samples by hand")
    layer.padding_mode = "replicate"
    return Made(layer)
