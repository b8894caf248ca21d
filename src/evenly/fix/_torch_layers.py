"""PyTorch's convolutions as :class:`evenly.fix.backend.Layer`: geometry, weights, and what stands in the way.

A weight that is computed from parameters (``weight_norm``, ``spectral_norm``, pruning, any parametrization) is read as
inference computes it; rewriting it makes it a plain parameter (:mod:`evenly.fix._torch_edits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from evenly.fix._torch_shuffles import Shuffle
from evenly.fix.backend import Kind, Layer
from evenly.fix.phase_conv import PHASE_CONVOLUTIONS
from evenly.graph._export import _borrowed
from evenly.nn.convert import _conv_padding, _own_class
from evenly.nn.subpixel import SubpixelConv1d, SubpixelConv2d, SubpixelConv3d, _SubpixelConv

__all__ = ["Surroundings", "array", "computed_by", "convolutions", "described", "shared_parameters", "trained"]

Floats = NDArray[np.floating]
Pads = tuple[tuple[int, int], ...]

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
OURS: tuple[type[nn.Module], ...] = (SubpixelConv1d, SubpixelConv2d, SubpixelConv3d, *PHASE_CONVOLUTIONS)
HOOKS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
_ROOTS = {"transposed": "conv_transpose", "subpixel": "conv", "convolution": "conv"}  # as evenly check calls them


@dataclass(frozen=True)
class Surroundings:
    """What a network says of one of its layers.

    Attributes:
        shuffle: The pixel shuffle behind it.
        shared: Another module that holds one of its parameters.
        calls: How often one run calls it; ``None`` if no run was seen.
        devices: Devices of the network's parameters.
    """

    shuffle: Shuffle | None
    shared: str | None
    calls: int | None
    devices: tuple[str, ...]


def convolutions(root: nn.Module) -> dict[str, nn.Module]:
    """All convolutions of a module in its own order, by their names; a module that is one by what a check calls it."""
    found = {}
    for name, module in root.named_modules():
        if isinstance(module, (_ConvNd, *OURS)) or _is_quantised(module):
            found[name or _ROOTS[_kind(module, None)]] = module
    return found


def _is_quantised(module: nn.Module) -> bool:
    """Whether it is a convolution of integers of ``torch.ao``."""
    return type(module).__module__.startswith("torch.ao.nn") and all(
        hasattr(module, name) for name in ("kernel_size", "padding_mode", "out_channels")
    ) and not isinstance(module, _ConvNd)  # fmt: skip


def _is_transposed(module: Any) -> bool:
    return isinstance(module, _ConvTransposeNd) or bool(getattr(module, "transposed", False))


def _kind(module: nn.Module, shuffle: Shuffle | None) -> Kind:
    if _is_transposed(module):
        return "transposed"
    return "subpixel" if shuffle is not None or isinstance(module, _SubpixelConv) else "convolution"


# ---- values ----------------------------------------------------------------------------------------------------------


def array(tensor: Tensor) -> Floats:
    """A copy in numpy: float32 and float64 as they are, shorter floats as float32, integers as float64.

    Complex numbers become pairs on a new last axis.
    """
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if not tensor.is_floating_point():
        tensor = tensor.double()
    elif tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return np.array(tensor.cpu().numpy(), order="C")


def computed_by(layer: nn.Module, name: str) -> Any:
    """The hook that computes a parameter before every call, or ``None``."""
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, HOOKS) and _target(hook) == name:
            return hook
    return None


def _target(hook: Any) -> str:
    return str(hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name)


def _value(layer: Any, name: str) -> Tensor | None:
    """A parameter as inference uses it."""
    hook = computed_by(layer, name)
    with _borrowed(layer, False), torch.no_grad():
        if isinstance(hook, WeightNorm):
            return cast(Tensor, hook.compute_weight(layer))
        if isinstance(hook, SpectralNorm):
            return hook.compute_weight(layer, do_power_iteration=False)
        if isinstance(hook, prune.BasePruningMethod):
            return cast(Tensor, hook.apply_mask(layer))  # type: ignore[no-untyped-call]
        found = getattr(layer, name)
        return cast("Tensor | None", found() if callable(found) and not isinstance(found, Tensor) else found)


def trained(layer: nn.Module, name: str) -> bool:
    """Whether training changes a parameter, or what it is computed from."""
    return any(p.requires_grad for key, p in layer.named_parameters() if name in key)


def _read(tensor: Tensor | None, shape: tuple[int, ...]) -> Floats:
    if tensor is None or is_lazy(tensor) or tensor.device.type == "meta":
        return np.broadcast_to(np.float32(np.nan), shape)
    return array(tensor.dequantize() if tensor.is_quantized else tensor)


# ---- one layer -------------------------------------------------------------------------------------------------------


def described(name: str, layer: Any, around: Surroundings) -> Layer:
    """One layer of a network; values that cannot be read are NaN."""
    kind, axes = _kind(layer, around.shuffle), len(layer.kernel_size)
    ones = (1,) * axes
    weight, bias = _weights(layer, around.shuffle)
    factor = layer.scale_factor if isinstance(layer, _SubpixelConv) else ones
    return Layer(
        name=name,
        kind=kind,
        kernel=tuple(layer.kernel_size),
        stride=ones if isinstance(layer, OURS) else tuple(layer.stride),
        dilation=tuple(layer.dilation),
        padding=layer.padding if isinstance(layer, PHASE_CONVOLUTIONS) else _conv_padding(layer),
        output_padding=tuple(layer.output_padding) if kind == "transposed" else (0,) * axes,
        factor=around.shuffle.factor if around.shuffle else tuple(factor),
        groups=layer.groups,
        pad_mode=layer.padding_mode,
        weight=weight,
        bias=bias,
        fixed=_obstacle(layer, around),
        note=_note(layer, around),
    )


def _weights(layer: Any, shuffle: Shuffle | None) -> tuple[Floats, Floats | None]:
    if isinstance(layer, PHASE_CONVOLUTIONS):
        axes = tuple(range(len(layer.phases)))
        bias = layer.phase_bias()
        return layer.phase_weight().mean(axes), None if bias is None else bias.mean(axes)
    ends = (layer.in_channels, layer.out_channels)
    first, second = ends if _is_transposed(layer) else ends[::-1]
    weight = _read(_value(layer, "weight"), (first, second // layer.groups, *layer.kernel_size))
    given = _value(layer, "bias")
    bias = None if given is None else _read(given, (layer.out_channels,))
    if shuffle is None or shuffle.order is None:
        return weight, bias
    return weight[shuffle.order], None if bias is None else bias[shuffle.order]


def _removable(layer: nn.Module, name: str) -> bool:
    """Whether a parameter is computed in a way that can be taken off."""
    return parametrize.is_parametrized(layer, name) or computed_by(layer, name) is not None


def _obstacle(layer: Any, around: Surroundings) -> str | None:
    """Why the weights of a layer cannot be rewritten."""
    name = parametrize.type_before_parametrizations(layer).__name__
    if _is_quantised(layer):
        return f"its weights are quantised ({type(layer).__module__}); repair the network before it is quantised"
    if isinstance(layer, PHASE_CONVOLUTIONS):
        return "its weights differ by phase already; repair the network that it was made from"
    if _own_class(layer, (*PLAIN, *OURS)) is None:
        return f"{name} has a forward of its own, which may use the weights in another way"
    return (
        _no_numbers(layer)
        or (f"it shares parameters with {around.shared!r}, which would change too" if around.shared else None)
        or (f"one run calls it {around.calls} times" if (around.calls or 0) > 1 else None)
        or _placed(around.devices)
        or _mixed(layer, around.shuffle)
    )


def _no_numbers(layer: Any) -> str | None:
    """Whether weight and bias are other than plain floating-point numbers."""
    if any(is_lazy(p) for p in layer.parameters()):
        return "it has no weights yet; run one batch through the network first"
    for name in ("weight", "bias"):
        if not (_removable(layer, name) or name in layer._parameters):
            return f"its {name} is no parameter: something else computes it"
    for parameter in layer.parameters():
        if parameter.device.type == "meta":
            return "its weights are on the meta device, without values; load them first"
        if type(parameter.data) is not Tensor:
            return (
                f"its weights are stored as {type(parameter.data).__name__}; repair the network that it was made from"
            )
        if not parameter.is_floating_point() or parameter.itemsize < 2:
            return f"its weights are {parameter.dtype}; repair the network before it is quantised"
    return None


def _placed(devices: tuple[str, ...]) -> str | None:
    if len(devices) > 1:
        return f"the network lies on several devices ({', '.join(devices)}); move it to one"
    return None


def _mixed(layer: Any, shuffle: Shuffle | None) -> str | None:
    """Whether the phases of one channel after the shuffle belong to several groups."""
    if shuffle is None or layer.groups == 1:
        return None
    channels = layer.out_channels // int(np.prod(shuffle.factor))
    if shuffle.order is None and channels % layer.groups == 0:
        return None
    return f"its pixel shuffle makes one channel of several of its {layer.groups} groups"


def _note(layer: nn.Module, around: Surroundings) -> str | None:
    notes = []
    if around.calls == 0:
        notes.append("the run that was seen did not call it")
    if not trained(layer, "weight"):
        notes.append("frozen (requires_grad is False)")
    for name in ("weight", "bias"):
        notes += [f"its {name} becomes a plain parameter ({how})" for how in _how(layer, name)]
    own = [h for h in layer._forward_pre_hooks.values() if not isinstance(h, HOOKS)]
    if layer._forward_hooks or own:
        notes.append("it has forward hooks, which stay")
    return "; ".join(notes) or None


def _how(layer: Any, name: str) -> list[str]:
    """What computes a parameter."""
    if parametrize.is_parametrized(layer, name):
        return [type(p).__name__.lstrip("_") for p in layer.parametrizations[name]]
    hook = computed_by(layer, name)
    return [] if hook is None else [type(hook).__name__]


def shared_parameters(root: nn.Module) -> Mapping[str, str]:
    """Modules that share a parameter with another one: its name by theirs."""
    owners: dict[Any, list[str]] = {}
    for name, module in root.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(_storage(parameter), []).append(name)
    found = {}
    for names in owners.values():
        for name in names:
            layer = name.partition(".parametrizations.")[0]
            others = [n for n in names if n.partition(".parametrizations.")[0] != layer]
            if others:
                found[layer] = others[0]
    return found


def _storage(parameter: Tensor) -> Any:
    if is_lazy(parameter) or parameter.device.type == "meta" or type(parameter.data) is not Tensor:
        return id(parameter)
    return (str(parameter.device), parameter.data_ptr()) if parameter.numel() else id(parameter)
