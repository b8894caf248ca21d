"""Edits of PyTorch's convolutions, in a copy of the network.

PyTorch's convolutions pad alike on both sides. Any other pair of amounts becomes such a one when zero taps are added to
the kernel, so that the layer stays of its own class, under its own name; so does every crop of a transposed convolution
that its output padding cannot express.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from evenly.errors import ParameterError, UsageError
from evenly.fix._torch_layers import computed_by, trained
from evenly.fix._torch_shuffles import Shuffle
from evenly.fix.backend import Edit, Layer
from evenly.fix.phase_conv import PHASE_CONVOLUTIONS
from evenly.nn.convert import _in_format_of
from evenly.nn.utils import remove

__all__ = ["check", "copied", "rewrite"]

Floats = NDArray[np.floating]
Pads = tuple[tuple[int, int], ...]


# ---- what is allowed -------------------------------------------------------------------------------------------------


def check(edit: Edit, layer: Layer) -> None:
    """Refuse an edit that does not fit its layer.

    Raises:
        UsageError: If the layer is fixed, a shape is wrong, or the output would have another size.
    """
    name = edit.name
    if layer.fixed:
        raise UsageError(f"{name} cannot be rewritten: {layer.fixed}")
    axes, phases = len(layer.kernel), tuple(edit.phases)
    by_phase = any(p > 1 for p in phases)
    if by_phase and (layer.kind != "convolution" or set(layer.stride) != {1}):
        raise UsageError(
            f"{name} is a {layer.kind} layer of stride {layer.stride}; only a convolution of stride 1 without a pixel "
            "shuffle can have weights by phase: edit it without phases"
        )
    ends = phases if by_phase else ()
    for label, given, shape in (
        ("weight", edit.weight, (*ends, *layer.weight.shape[:2], *edit.kernel)),
        ("bias", edit.bias, (*ends, _outputs(layer))),
    ):
        if given is not None and given.shape != shape:
            raise UsageError(f"{name}: the new {label} has the shape {given.shape}; expected {shape}")
    if any(len(values) != axes for values in (edit.kernel, edit.padding, edit.output_padding)):
        raise UsageError(f"{name} has {axes} axes; expected kernel, padding and output_padding of {axes} values each")
    before, after = (_growth(layer, g.kernel, g.padding, g.output_padding) for g in (layer, edit))
    if before != after:
        grown = tuple(new - old for old, new in zip(before, after, strict=True))
        raise UsageError(
            f"{name}: with kernel {edit.kernel}, padding {edit.padding} and output padding {edit.output_padding} its "
            f"output would change its size by {grown}; expected the same size"
        )


def _outputs(layer: Layer) -> int:
    first, second = map(int, layer.weight.shape[:2])
    return second * layer.groups if layer.kind == "transposed" else first


def _growth(layer: Layer, kernel: Sequence[int], padding: Pads, output_padding: Sequence[int]) -> list[int]:
    """What the size of the output depends on, per axis."""
    axes = zip(kernel, layer.dilation, padding, output_padding, strict=True)
    if layer.kind == "transposed":
        return [d * (k - 1) - sum(pair) + a for k, d, pair, a in axes]
    return [sum(pair) - d * (k - 1) for k, d, pair, _ in axes]


# ---- plain layers ----------------------------------------------------------------------------------------------------


def convolution_padding(weight: Floats, padding: Pads, dilation: Sequence[int]) -> tuple[Floats, list[int], list[int]]:
    """The same convolution with equal padding on both sides: its weight, its padding, its dilation."""
    paddings, dilations = [], []
    for axis, ((before, after), d) in enumerate(zip(padding, dilation, strict=True), start=2):
        both = max(before, after, 0)
        if (both - before) % d or (both - after) % d:
            weight, d = _spread(weight, axis, d), 1
        weight = _longer(weight, axis, (both - before) // d, (both - after) // d)
        paddings.append(both)
        dilations.append(d)
    return weight, paddings, dilations


def transposed_padding(
    weight: Floats, padding: Pads, output_padding: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[Floats, list[int], list[int]]:
    """The same transposed convolution in PyTorch's terms: its weight, its padding, its output padding."""
    paddings, additions = [], []
    axes = zip(padding, output_padding, stride, dilation, strict=True)
    for axis, ((start, cut), a, s, d) in enumerate(axes, start=2):
        end = cut - a  # what is cut there in truth; a start that is cut less needs zero taps before
        before = ceil(max(-start, end - start, 0) / d)
        added = start + d * before - end
        after = max(0, ceil((added - max(s, d) + 1) / d))
        weight = _longer(weight, axis, before, after)
        paddings.append(start + d * before)
        additions.append(added - d * after)
    return weight, paddings, additions


def _longer(weight: Floats, axis: int, before: int, after: int) -> Floats:
    return np.pad(weight, [(before, after) if i == axis else (0, 0) for i in range(weight.ndim)])


def _spread(weight: Floats, axis: int, dilation: int) -> Floats:
    """A dilated kernel as a plain one with zeros between its taps."""
    shape = list(weight.shape)
    shape[axis] = dilation * (shape[axis] - 1) + 1
    spread = np.zeros(shape, weight.dtype)
    places: list[Any] = [slice(None)] * weight.ndim
    places[axis] = slice(None, None, dilation)
    spread[tuple(places)] = weight
    return spread


# ---- the copy --------------------------------------------------------------------------------------------------------


def copied(root: nn.Module) -> nn.Module:
    """A copy that shares nothing with its original; weights that hooks have computed do not hinder it.

    Raises:
        UsageError: If it cannot be copied.
    """
    computed = {
        id(value): value.detach().clone()
        for module in root.modules()
        for value in module.__dict__.values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(root, computed)
    except Exception as error:  # code of the user's classes runs
        raise UsageError(
            f"{type(root).__name__} cannot be copied ({type(error).__name__}: {error}); repairs are made in a copy: "
            "give a module that copy.deepcopy takes"
        ) from error


def rewrite(root: nn.Module, module: nn.Module, edit: Edit, layer: Layer, shuffle: Shuffle | None) -> nn.Module:
    """Make one edit in a copied network; the network, which is another one where the layer was all of it."""
    if any(p > 1 for p in edit.phases):
        return _replaced(root, module, _by_phase(module, edit, layer))
    weight, bias = edit.weight, edit.bias
    if shuffle is not None and shuffle.order is not None:
        back = np.argsort(shuffle.order)
        weight, bias = weight[back], None if bias is None else bias[back]
    if (edit.kernel, edit.padding, edit.output_padding) != (layer.kernel, layer.padding, layer.output_padding):
        weight = _reshaped(module, weight, edit, layer)
    _write(module, weight, bias)
    return root


def _reshaped(module: Any, weight: Floats, edit: Edit, layer: Layer) -> Floats:
    """Give a layer its new geometry; the weight that goes with it."""
    if layer.kind == "transposed":
        weight, padding, added = transposed_padding(
            weight, edit.padding, edit.output_padding, layer.stride, layer.dilation
        )
        module.output_padding = tuple(added)
    else:
        weight, padding, dilation = convolution_padding(weight, edit.padding, layer.dilation)
        module.dilation = tuple(dilation)
    module.kernel_size = weight.shape[2:]
    module.padding = tuple(padding)
    if hasattr(module, "_reversed_padding_repeated_twice"):  # what PyTorch pads with other values than zeros
        module._reversed_padding_repeated_twice = [p for p in reversed(padding) for _ in range(2)]
    return weight


def _write(module: Any, weight: Floats, bias: Floats | None) -> None:
    """Make weight and bias plain parameters with these values."""
    trains = trained(module, "weight")
    bias_trains = trains if module.bias is None else trained(module, "bias")
    _plain(module)
    like = module.weight

    def tensor(values: Floats) -> Tensor:
        return torch.tensor(np.ascontiguousarray(values), dtype=like.dtype, device=like.device)

    module.weight = nn.Parameter(_in_format_of(tensor(weight), like), trains)
    del module.bias  # and make it anew: plain layers have their weight before it
    module.register_parameter("bias", None if bias is None else nn.Parameter(tensor(bias), bias_trains))


def _plain(module: Any) -> None:
    """Take off what computes weight and bias."""
    with suppress(ParameterError):  # evenly's own together with others
        remove(module)  # knows the class that it came from
    for name in ("weight", "bias"):
        if parametrize.is_parametrized(module, name):
            _own_type(module)
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        hook = computed_by(module, name)
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, name)
            _forget_loading(module, hook)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, name)  # type: ignore[no-untyped-call]


def _forget_loading(module: nn.Module, norm: SpectralNorm) -> None:
    """Take off what loads checkpoints of a spectral norm: PyTorch leaves it, and it refuses plain ones from then on."""
    for key, found in list(module._load_state_dict_pre_hooks.items()):
        if getattr(getattr(found, "hook", found), "fn", None) is norm:
            del module._load_state_dict_pre_hooks[key]


def _own_type(module: nn.Module) -> None:
    """Give a parametrized copy a class of its own: removing deletes attributes of the class, the original's as well."""
    cls = type(module)
    own = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    module.__class__ = type(cls.__name__, cls.__bases__, own)


def _by_phase(module: Any, edit: Edit, layer: Layer) -> nn.Module:
    """The layer that stands in the place of a convolution."""
    like = next(module.parameters())
    new = PHASE_CONVOLUTIONS[len(edit.phases) - 1](
        module.in_channels, module.out_channels, edit.kernel, edit.phases, edit.padding, layer.pad_mode,
        layer.dilation, layer.groups, edit.bias is not None, device=like.device, dtype=like.dtype,
    )  # fmt: skip
    new.set_phases(edit.weight, edit.bias)
    new.requires_grad_(trained(module, "weight"))
    for name, hooks in vars(module).items():
        if name.startswith(("_forward_", "_backward_")) or name == "_is_full_backward_hook":
            new.__dict__[name] = hooks
    for name in ("weight", "bias"):
        hook = computed_by(new, name)
        for key in [k for k, v in new._forward_pre_hooks.items() if v is hook]:
            del new._forward_pre_hooks[key]
    return new.train(module.training)


def _replaced(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in all places of another one."""
    if root is old:
        return new
    for parent in root.modules():
        for key, child in parent._modules.items():
            if child is old:
                parent._modules[key] = new
    return root
