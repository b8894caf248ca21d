"""What all replacements of layers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["Made", "adopted", "built", "described", "distance", "taken_over"]


@dataclass(frozen=True)
class Made:
    """The layer that takes the place of another one.

    Attributes:
        layer: The new one.
        fit_error: Of the kernel (ratio); ``None`` where the weights were kept.
        note: What to know of it.
        shuffles: Whether it does the pixel shuffle behind the old one as well.
    """

    layer: nn.Module
    fit_error: float | None = None
    note: str | None = None
    shuffles: bool = False


def built(cls: Callable[..., Any], like: Any, *args: Any, **options: Any) -> Any:
    """A layer of the dtype, the device and the mode of another one; no random number of the user's is used up."""
    with torch.random.fork_rng(devices=[]):
        new = cls(*args, **options, dtype=like.weight.dtype)
    return new.to(like.weight.device).train(like.training)


def taken_over(new: nn.Module, old: nn.Module, names: Sequence[str]) -> None:
    """Make parameters of the old layer those of the new one: the same objects, so that an optimizer's state fits."""
    for name in names:
        if old._parameters.get(name) is not None:
            setattr(new, name, old._parameters[name])


def adopted(new: nn.Module, old: nn.Module) -> None:
    """Give a layer all parameters of another one, with whatever computes them (parametrizations; hooks move apart)."""
    for name in ("weight", "bias"):
        if name in old._parameters:
            new._parameters[name] = old._parameters[name]
            continue
        new._parameters.pop(name, None)
        if name in vars(old):  # a hook computes it before every call
            vars(new)[name] = vars(old)[name]
    for name, parameter in old._parameters.items():
        new._parameters.setdefault(name, parameter)
    new._buffers.update(old._buffers)
    computing = getattr(old, "parametrizations", None)
    if isinstance(computing, nn.ModuleDict):
        parametrize._inject_new_class(new)
        new.parametrizations = computing
        for name in computing:
            parametrize._inject_property(new, name)


def distance(new: Tensor, old: Tensor) -> float:
    """``|new - old| / |old|`` in float64; 0 for equal ones, be they zero."""
    size = float(old.double().norm())
    return float((new.double() - old.double()).norm()) / size if size else 0.0


def described(layer: nn.Module) -> str:
    """In one line, as PyTorch prints it."""
    if isinstance(layer, nn.Sequential):
        return " + ".join(described(member) for member in layer)
    return f"{parametrize.type_before_parametrizations(layer).__name__}({layer.extra_repr()})"
