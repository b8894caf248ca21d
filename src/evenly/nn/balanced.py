"""Transposed convolutions whose kernel cannot make a checkerboard, whatever training does to it.

The kernel is the nearest one to a free parameter that meets the DC condition of order ``m`` (`evenly.theory.balance`):
an orthogonal projection in the space of its taps, one small matrix product per forward pass. Order 1 gives all phases
equal DC gains, so a constant stays constant (Sugawara, Shiota & Kiya, arXiv 1806.02658); order ``m`` also cancels the
images of signals that vary slowly.

**Pickling.** PyTorch refuses to pickle a parametrized module, because its class was made at run time. The layers here
pickle as their own class with the names of what is parametrized: the reader registers a placeholder under each name,
which brings the properties back, and the module's state then replaces the placeholders (`Parametrized`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from evenly.nn._arguments import integers
from evenly.theory.balance import excluded_directions, subpixel_places, transposed_places

__all__ = ["BalancedConvTranspose1d", "BalancedConvTranspose2d", "BalancedConvTranspose3d"]

Array = NDArray[np.float64]


# A product with the whole projection beats two with its excluded directions until these are much fewer than the taps
# (one thread, training: 36 taps and 3 directions 2.8 against 3.7 ms, 216 and 7 6.7 against 2.9, 1728 and 63 154 against
# 28).
FEW = 16


def transposed_directions(layer: Any, order: int) -> Array:
    """Excluded directions ``(taps, rank)`` of a transposed convolution's kernels, taps in the weight's order.

    Raises:
        ParameterError: If no kernel of this geometry keeps constants, or the order is not a positive integer.
    """
    return excluded_directions(transposed_places(layer.kernel_size, layer.dilation), layer.stride, order)


def subpixel_directions(layer: Any, factor: tuple[int, ...], order: int) -> Array:
    """Excluded directions of a sub-pixel convolution's kernels, taps ordered (phases in C order, taps in C order).

    Raises:
        ParameterError: If no kernel of this geometry keeps constants, or the order is not a positive integer.
    """
    dims = len(factor)
    directions = excluded_directions(subpixel_places(layer.kernel_size, factor, layer.dilation), factor, order)
    split = [v for pair in zip(factor, layer.kernel_size, strict=True) for v in pair]  # (s_1, k_1, s_2, k_2, ...)
    apart = directions.reshape(*split, -1).transpose(*range(0, 2 * dims, 2), *range(1, 2 * dims, 2), 2 * dims)
    return apart.reshape(directions.shape)


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast would round the projection to 8 bits of mantissa, and with it the equality of the phases."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


class _Projected(nn.Module):
    """A parametrization by a fixed orthogonal projection, which a subclass applies to the tensor's own layout."""

    projection: Tensor

    def __init__(self, directions: Array, like: Tensor) -> None:
        super().__init__()
        taps, rank = directions.shape
        self.few = taps > FEW * rank
        self.free = rank == 0  # stride 1: nothing is excluded
        self.directions = directions
        self.register_buffer("projection", None, persistent=False)
        self._fill(like.device, like.dtype)

    def _fill(self, device: torch.device, dtype: torch.dtype) -> None:
        q = self.directions
        matrix = q if self.few else np.eye(len(q)) - q @ q.T
        # never below float32: a projection in bfloat16 leaves a ripple of its own
        self.projection = torch.tensor(matrix, device=device, dtype=torch.promote_types(dtype, torch.float32))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Projected:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # made anew from float64: it would come back degraded from half precision, and empty from the meta device
        self._fill(self.projection.device, self.projection.dtype)
        return self

    def right_inverse(self, value: Tensor) -> Tensor:
        projected: Tensor = self(value.detach())
        return projected.contiguous()

    def _project(self, taps: Tensor) -> Tensor:
        if self.free:
            return taps
        with _without_autocast(taps.device):
            wide = taps.to(self.projection.dtype)
            wide = wide - wide @ self.projection @ self.projection.T if self.few else wide @ self.projection
            return wide.to(taps.dtype)


class TransposedProjection(_Projected):
    """For ``(C_in, C_out / groups, *kernel)``: the taps are the last axes."""

    def forward(self, weight: Tensor) -> Tensor:
        return self._project(weight.flatten(2)).reshape(weight.shape)


class SubpixelProjection(_Projected):
    """For ``(C_out * phases, C_in / groups, *kernel)``: the taps of all phases of one channel belong together."""

    def __init__(self, directions: Array, like: Tensor, phases: int) -> None:
        super().__init__(directions, like)
        self.phases = phases

    def forward(self, weight: Tensor) -> Tensor:
        channels, inputs = weight.shape[0] // self.phases, weight.shape[1]
        taps = weight.reshape(channels, self.phases, inputs, -1).transpose(1, 2)  # (C_out, C_in/g, phases, taps)
        mixed = self._project(taps.flatten(2)).reshape(taps.shape)
        return mixed.transpose(1, 2).reshape(weight.shape)


class PhaseMean(nn.Module):
    """For the bias ``(C_out * phases,)`` of a sub-pixel convolution: unequal ones would not keep a constant."""

    def __init__(self, phases: int) -> None:
        super().__init__()
        self.phases = phases

    def forward(self, bias: Tensor) -> Tensor:
        by_phase = bias.view(-1, self.phases)
        return by_phase.mean(1, keepdim=True).expand_as(by_phase).reshape(bias.shape).contiguous()  # never overlapping

    def right_inverse(self, value: Tensor) -> Tensor:
        projected: Tensor = self(value.detach())
        return projected


def _restore(cls: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    """A module of class ``cls`` without a state, whose attributes ``names`` are properties of a parametrization."""
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    for name in names:
        module.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(module, name, nn.Identity())
    return module


class Parametrized(nn.Module):
    """Makes a module with parametrizations pickle, copy, and load the checkpoints of its plain form."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _restore, (parametrize.type_before_parametrizations(self), self._parametrized()), self.__dict__.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        # PyTorch's own copy shares the class made at run time: removing a parametrization from one breaks the other
        twin = _restore(parametrize.type_before_parametrizations(self), self._parametrized())
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__dict__, memo))  # type: ignore[no-untyped-call]
        return twin

    def _get_name(self) -> str:
        return parametrize.type_before_parametrizations(self).__name__  # not "ParametrizedBalanced..."

    def _parametrized(self) -> tuple[str, ...]:
        return tuple(self.parametrizations) if parametrize.is_parametrized(self) else ()  # type: ignore[arg-type]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self._parametrized():
            plain, mine = f"{prefix}{name}", f"{prefix}parametrizations.{name}.original"
            if plain in state_dict and mine not in state_dict:
                state_dict[mine] = state_dict.pop(plain)
        super()._load_from_state_dict(state_dict, prefix, *args)


class _BalancedConvTranspose(Parametrized):
    """What the three dimensions share."""

    dims: int
    order: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: Literal["zeros"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        order: int = 1,
    ) -> None:
        kernel = integers("kernel_size", kernel_size, self.dims)
        strides = integers("stride", stride, self.dims)
        dilations = integers("dilation", dilation, self.dims)
        excluded_directions(transposed_places(kernel, dilations), strides, order)  # refuses what cannot be met
        self.order = order  # before the constructor of PyTorch, which resets the parameters
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride=strides,
            padding=integers("padding", padding, self.dims, 0),
            output_padding=integers("output_padding", output_padding, self.dims, 0),
            groups=groups,
            bias=bias,
            dilation=dilations,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        balance_transposed(self, order)

    def reset_parameters(self) -> None:
        """Draw weights with which the output has the variance of the plain layer's output (`evenly.nn.init`)."""
        from evenly.nn.init import variance_matched_

        variance_matched_(self)

    def extra_repr(self) -> str:
        """As PyTorch's, with the order."""
        return f"{super().extra_repr()}, order={self.order}"


class BalancedConvTranspose1d(_BalancedConvTranspose, nn.ConvTranspose1d):
    """1-D transposed convolution that meets the DC condition of order ``m`` at all phases, always.

    ``(N, C_in, L)`` to ``(N, C_out, L')`` with the sizes of ``torch.nn.ConvTranspose1d``. In 1-D, without dilation, the
    kernel is a multiple of ``(1 + z + ... + z^(s-1))^m``. A plain layer's checkpoint loads; its kernel is projected.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode,
            device, dtype: As in PyTorch.
        order: Order ``m`` of the zeros at the images of DC; 1 keeps constants, 2 also straight ramps, and so on.

    Raises:
        ParameterError: If no kernel with a DC gain meets the condition (``k < m (s - 1) + 1`` or ``gcd(d, s) > 1``).
    """

    dims = 1


class BalancedConvTranspose2d(_BalancedConvTranspose, nn.ConvTranspose2d):
    """2-D transposed convolution that meets the DC condition of order ``m`` at all phases, always.

    ``(N, C_in, H, W)`` to ``(N, C_out, H', W')`` with the sizes of ``torch.nn.ConvTranspose2d``. Arguments, errors and
    checkpoints as `BalancedConvTranspose1d`; the response and all its derivatives of total order below ``m`` vanish at
    every image of DC, the corners of the band included.
    """

    dims = 2


class BalancedConvTranspose3d(_BalancedConvTranspose, nn.ConvTranspose3d):
    """3-D transposed convolution that meets the DC condition of order ``m`` at all phases, always.

    ``(N, C_in, D, H, W)`` to ``(N, C_out, D', H', W')`` with the sizes of ``torch.nn.ConvTranspose3d``. Arguments,
    errors and checkpoints as `BalancedConvTranspose1d`.
    """

    dims = 3


# The class that each plain one becomes, so that it pickles and loads plain checkpoints; `evenly.nn.utils.remove` undoes
BALANCED: dict[type[nn.Module], type[nn.Module]] = {
    nn.ConvTranspose1d: BalancedConvTranspose1d,
    nn.ConvTranspose2d: BalancedConvTranspose2d,
    nn.ConvTranspose3d: BalancedConvTranspose3d,
}


def balance_transposed(layer: Any, order: int) -> None:
    """Put the projection on a transposed convolution's weight, which becomes its nearest balanced value."""
    projection = TransposedProjection(transposed_directions(layer, order), layer.weight)
    parametrize.register_parametrization(layer, "weight", projection)


def balance_subpixel(layer: Any, factor: tuple[int, ...], order: int) -> None:
    """Put projections on weight and bias of a convolution that a pixel shuffle by ``factor`` follows."""
    phases = prod(factor)
    projection = SubpixelProjection(subpixel_directions(layer, factor, order), layer.weight, phases)
    parametrize.register_parametrization(layer, "weight", projection)
    if layer.bias is not None:
        parametrize.register_parametrization(layer, "bias", PhaseMean(phases))
