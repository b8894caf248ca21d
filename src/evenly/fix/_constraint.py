"""The DC condition on all up-sampling layers of a module, as a projection of their weights and gradients."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from evenly.errors import ParameterError
from evenly.fix.torch_backend import TorchBackend
from evenly.nn.balanced import (
    PhaseMean,
    SubpixelProjection,
    TransposedProjection,
    subpixel_directions,
    transposed_directions,
)

__all__ = ["Constraint"]

ROUNDING = 5e-3
"""Distance of a weight from the condition over its norm (ratio) that rounding to 16 bits may leave."""


class Constraint:
    """Projections of those up-sampling layers that meet the condition, by the names of parameters: they keep it.

    Layers that do not meet it (nobody balanced them, or they cannot be, see ``Layer.fixed``) are left free.

    Args:
        module: The network.
        example: A batch that it takes; shows which convolutions a pixel shuffle follows.
        order: Of the condition.
    """

    def __init__(self, module: nn.Module, example: Any, order: int) -> None:
        backend = TorchBackend(module, example)
        names = {id(p): name for name, p in module.named_parameters()}
        self._projections: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {}
        for layer in backend.layers():
            factor = layer.upsampling
            if prod(factor) == 1:
                continue
            part: Any = backend._convolutions[layer.name]
            shuffle = backend._shuffle(layer.name)
            if layer.fixed is not None or "weight" not in part._parameters:
                continue
            order_of = None if shuffle is None or shuffle.order is None else torch.from_numpy(shuffle.order)
            try:
                for key, how in _projections(part, layer.kind == "transposed", factor, order).items():
                    parameter = getattr(part, key)
                    projection = _permuted(how, order_of)
                    if _meets(parameter.detach(), projection):
                        self._projections[names[id(parameter)]] = (parameter, projection)
            except ParameterError:
                continue

    @torch.no_grad()
    def hold(self) -> None:
        """Bring the weights onto the condition."""
        for parameter, projection in self._projections.values():
            parameter.copy_(projection(parameter))

    def project(self, gradients: dict[str, Tensor]) -> None:
        """Take off what leads away from the condition, in place of the gradients given."""
        for name, (_, projection) in self._projections.items():
            if name in gradients:
                gradients[name] = projection(gradients[name])


def _projections(part: Any, transposed: bool, factor: tuple[int, ...], order: int) -> dict[str, nn.Module]:
    """By parameter."""
    if transposed:
        return {"weight": TransposedProjection(transposed_directions(part, order), part.weight)}
    phases = prod(factor)
    found: dict[str, nn.Module] = {
        "weight": SubpixelProjection(subpixel_directions(part, factor, order), part.weight, phases)
    }
    if part.bias is not None:
        found["bias"] = PhaseMean(phases)
    return found


def _meets(value: Tensor, projection: Callable[[Tensor], Tensor]) -> bool:
    return float((projection(value) - value).norm()) <= ROUNDING * float(value.norm())


def _permuted(how: Callable[[Tensor], Tensor], order: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Of channels that are shuffled in another order than PyTorch's."""
    if order is None:
        return how

    def apply(value: Tensor) -> Tensor:
        there, back = order.to(value.device), torch.argsort(order).to(value.device)
        return how(value.index_select(0, there)).index_select(0, back)

    return apply
