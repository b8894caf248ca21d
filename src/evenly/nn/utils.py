"""Put the DC condition on layers that exist, and take it off again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import Any, TypeVar

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from evenly.errors import ParameterError
from evenly.nn.balanced import (
    BALANCED,
    Parametrized,
    PhaseMean,
    SubpixelProjection,
    TransposedProjection,
    balance_subpixel,
    balance_transposed,
    subpixel_directions,
    transposed_directions,
)
from evenly.nn.subpixel import _SubpixelConv

__all__ = ["balance", "is_balanced", "remove"]

M = TypeVar("M", bound=nn.Module)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_OURS = (TransposedProjection, SubpixelProjection, PhaseMean)


class _ShuffledConv2d(Parametrized, nn.Conv2d):
    """A convolution before ``nn.PixelShuffle`` while it is balanced: it pickles and loads plain checkpoints."""

    order: int


_PLAIN: dict[type[nn.Module], type[nn.Module]] = {ours: plain for plain, ours in BALANCED.items()} | {
    _ShuffledConv2d: nn.Conv2d
}


def _ours(layer: Any, name: str) -> bool:
    """Whether evenly has put a projection on a parameter."""
    return parametrize.is_parametrized(layer, name) and any(isinstance(p, _OURS) for p in layer.parametrizations[name])


def is_balanced(module: nn.Module) -> bool:
    """Whether the weight of this very layer is kept balanced by a projection of evenly."""
    return _ours(module, "weight")


def _unit_stride(layer: Any) -> bool:
    return all(s == 1 for s in layer.stride)


def _candidates(module: nn.Module) -> Iterator[tuple[str, Any, tuple[int, ...] | None]]:
    """Every layer that can be balanced: its name, itself, the shuffle's factor or None for a transposed convolution."""
    followed: dict[int, tuple[int, ...]] = {}
    for child in module.modules():
        if isinstance(child, nn.Sequential):
            members = list(child)
            for first, second in pairwise(members):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.PixelShuffle):
                    followed[id(first)] = (second.upscale_factor,) * 2
    for name, layer in module.named_modules():
        if isinstance(layer, _TRANSPOSED) and (layer is module or not _unit_stride(layer)):
            yield name, layer, None
        elif isinstance(layer, _SubpixelConv):
            yield name, layer, layer.scale_factor
        elif id(layer) in followed:
            yield name, layer, followed[id(layer)]


def _refuse_if_impossible(name: str, layer: Any, factor: tuple[int, ...] | None, order: int) -> None:
    where = f"{name or 'module'} ({type(layer).__name__})"
    if any(is_lazy(p) for p in layer.parameters(recurse=False)):
        raise ParameterError(
            f"{where} has no weight yet; expected an initialised layer: run one batch through it first"
        )
    has_weight = parametrize.is_parametrized(layer, "weight") or "weight" in layer._parameters
    if not has_weight:
        raise ParameterError(
            f"{where} computes its weight in a hook (weight_norm of torch.nn.utils?); expected a parameter: call "
            "torch.nn.utils.remove_weight_norm first, or use torch.nn.utils.parametrizations.weight_norm"
        )
    try:
        if factor is None:
            transposed_directions(layer, order)
            return
        groups, outputs = int(layer.groups), int(layer.weight.shape[0])
        phases = prod(factor)
        if (outputs // phases) % groups:
            raise ParameterError(
                f"groups (={groups}) must divide the {outputs // phases} channels after the shuffle, or phases of one "
                "channel read different inputs: use fewer groups"
            )
        subpixel_directions(layer, factor, order)
    except ParameterError as error:
        raise ParameterError(f"{where}: {error}") from error


def balance(module: M, order: int = 1) -> M:
    """Keep the kernels of a layer, or of all layers of a network, balanced from now on.

    Reaches transposed convolutions (of stride 1 only when given alone: there is nothing to balance), `SubpixelConv`,
    and ``nn.Conv2d`` directly followed by ``nn.PixelShuffle`` in an ``nn.Sequential``. Weights become their nearest
    balanced values (least squares). Layers of PyTorch's own classes become `BalancedConvTranspose`, in place, so that
    they pickle and load checkpoints from before; layers of classes derived from these get the parametrization only.
    Parameters stay the same objects, so an optimizer that has them stays valid; ``parameters()`` lists the bias of a
    transposed convolution first from then on, which matters where an optimizer's saved state goes by position. A layer
    that is balanced already gets the new order.

    Args:
        module: A layer or any module that contains such layers; changed in place.
        order: Order ``m`` of the DC condition (`evenly.theory.balance`).

    Returns:
        ``module``.

    Raises:
        ParameterError: If there is no such layer, or one of them cannot meet the condition; its name is given, and
            nothing has been changed.
    """
    found = list(_candidates(module))
    if not found:
        raise ParameterError(
            f"module (={type(module).__name__}) has no layer to balance; expected a transposed convolution, a "
            "SubpixelConv, or a Conv2d directly before a PixelShuffle in a Sequential: give a module that has one"
        )
    for entry in found:
        _refuse_if_impossible(*entry, order)
    for _, layer, factor in found:
        _release(layer)
        if factor is None:
            layer.__class__ = BALANCED.get(type(layer), type(layer))
            balance_transposed(layer, order)
        else:
            if type(layer) is nn.Conv2d:
                layer.__class__ = _ShuffledConv2d
            balance_subpixel(layer, factor, order)
        layer.order = order
    return module


def _release(layer: Any) -> bool:
    """Take evenly's projections off one layer; whether there were any."""
    names = [name for name in ("weight", "bias") if _ours(layer, name)]
    for name in names:
        if len(layer.parametrizations[name]) > 1:
            raise ParameterError(
                f"{type(layer).__name__}.{name} has other parametrizations besides evenly's; expected none: take all "
                f"of them off with torch.nn.utils.parametrize.remove_parametrizations(layer, {name!r})"
            )
    for name in names:
        parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
    if names and layer._parameters.get("bias") is not None:
        layer._parameters["bias"] = layer._parameters.pop("bias")  # the order of the plain layer: weight, bias
    return bool(names)


def _restore_class(layer: Any) -> None:
    if isinstance(layer, _SubpixelConv):
        layer.order = 0
        return
    layer.__class__ = _PLAIN.get(type(layer), type(layer))
    layer.__dict__.pop("order", None)


def remove(module: M) -> M:
    """Take the projections off: plain layers with the balanced weights, in place.

    `BalancedConvTranspose` becomes the plain ``nn.ConvTranspose`` with the plain keys in its ``state_dict``, a
    `SubpixelConv` stays one, without the guarantee. Use it before an export that should hold one operator per layer.

    Args:
        module: A layer or any module; changed in place.

    Returns:
        ``module``.

    Raises:
        ParameterError: If a balanced parameter carries other parametrizations as well.
    """
    for layer in list(module.modules()):
        if _release(layer):
            _restore_class(layer)
    return module
