"""A convolution of stride 1 whose weights differ by the phase of its output, as one strided convolution and a shuffle.

With ``P`` phases per axis output ``n = P m + r`` is ``b[r] + sum_o W[r, o] x[n + d o - p]``: seen from ``m``, the
channels ``(C_out, r)`` of a convolution of stride ``P`` whose tap ``o`` of phase ``r`` stands at ``r + d o`` in a
kernel of ``d (k - 1) + P`` places. A pixel shuffle then brings the phases to their places (docs/theory.md, *Phases and
the DC condition*). It costs ``prod((d (k - 1) + P) / k)`` times the convolution that it replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from evenly.errors import ParameterError
from evenly.nn._arguments import channels, choice, integers, pairs
from evenly.nn.subpixel import PADDING_MODES, pixel_shuffle

__all__ = ["PHASE_CONVOLUTIONS", "PhaseConv1d", "PhaseConv2d", "PhaseConv3d", "phases_joined", "phases_parted"]

Floats = NDArray[np.floating]
Index = tuple[Any, ...]


def phases_joined(weight: Floats, dilation: Sequence[int]) -> Floats:
    """The kernel of the strided convolution.

    Args:
        weight: ``(*phases, C_out, C_in / groups, *kernel)``.
        dilation: Per axis.

    Returns:
        ``(C_out * prod(phases), C_in / groups, *(d (k - 1) + P))``, output channels ordered ``(C_out, *phases)``; zero
        where a phase has no tap.
    """
    dims = len(dilation)
    phases, (outputs, inputs), kernel = weight.shape[:dims], weight.shape[dims : dims + 2], weight.shape[dims + 2 :]
    sizes = [d * (k - 1) + p for d, k, p in zip(dilation, kernel, phases, strict=True)]
    joined = np.zeros((outputs, *phases, inputs, *sizes), weight.dtype)
    for phase, taps in _places(phases, kernel, dilation):
        place: Index = (slice(None), *phase, slice(None), *taps)
        joined[place] = weight[phase]
    return joined.reshape(outputs * prod(phases), inputs, *sizes)


def phases_parted(weight: Floats, phases: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> Floats:
    """The inverse of `phases_joined`: ``(*phases, C_out, C_in / groups, *kernel)``."""
    whole = weight.reshape(-1, *phases, *weight.shape[1:])
    parted = np.empty((*phases, len(whole), weight.shape[1], *kernel), weight.dtype)
    for phase, taps in _places(phases, kernel, dilation):
        place: Index = (slice(None), *phase, slice(None), *taps)
        parted[phase] = whole[place]
    return parted


def _places(phases: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[Index, Index]]:
    """Every phase, and where its taps stand in the kernel of the strided convolution."""
    found = []
    for phase in product(*map(range, phases)):
        axes = zip(phase, kernel, dilation, strict=True)
        found.append((phase, tuple(slice(r, r + d * (k - 1) + 1, d) for r, k, d in axes)))
    return found


class _PhaseConv(nn.Module):
    """What the three dimensions share."""

    dims: int
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        phases: int | Sequence[int] = 2,
        padding: int | Sequence[int | Sequence[int]] = 0,
        padding_mode: str = "zeros",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = channels(in_channels, out_channels, groups)
        self.kernel_size = integers("kernel_size", kernel_size, self.dims)
        self.phases = integers("phases", phases, self.dims)
        self.dilation = integers("dilation", dilation, self.dims)
        self.padding = pairs("padding", padding, self.dims)
        self.padding_mode = choice("padding_mode", padding_mode, PADDING_MODES)
        places = [d * (k - 1) + p for d, k, p in zip(self.dilation, self.kernel_size, self.phases, strict=True)]
        outputs = out_channels * prod(self.phases)
        self.weight = nn.Parameter(torch.zeros(outputs, in_channels // groups, *places, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.zeros(outputs, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)

    def phase_weight(self) -> Floats:
        """``(*phases, C_out, C_in / groups, *kernel)``."""
        values = self.weight.detach().to("cpu", torch.float64).numpy()
        return phases_parted(values, self.phases, self.kernel_size, self.dilation)

    def phase_bias(self) -> Floats | None:
        """``(*phases, C_out)``."""
        if self.bias is None:
            return None
        return np.moveaxis(self.bias.detach().to("cpu", torch.float64).numpy().reshape(-1, *self.phases), 0, -1)

    @torch.no_grad()
    def set_phases(self, weight: Floats, bias: Floats | None = None) -> None:
        """Write the weights of all phases.

        Args:
            weight: ``(*phases, C_out, C_in / groups, *kernel)``.
            bias: ``(*phases, C_out)``; ``None`` leaves it as it is.

        Raises:
            ParameterError: If a shape is another, or there is a bias for a layer without.
        """
        shape = (*self.phases, self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        if weight.shape != shape:
            raise ParameterError(f"weight has the shape {weight.shape}; expected {shape}: phases, channels, kernel")
        self.weight.copy_(torch.from_numpy(phases_joined(weight, self.dilation)))
        if bias is None:
            return
        if self.bias is None or bias.shape != (*self.phases, self.out_channels):
            expected = None if self.bias is None else (*self.phases, self.out_channels)
            raise ParameterError(f"bias has the shape {bias.shape}; expected {expected}: make the layer with bias=True")
        self.bias.copy_(torch.from_numpy(np.array(np.moveaxis(bias, -1, 0)).reshape(-1)))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, *size)`` to ``(N, C_out, *(size + padding - dilation * (kernel_size - 1)))``."""
        axes = zip(x.shape[-self.dims :], self.padding, self.dilation, self.kernel_size, strict=True)
        sizes = [n + before + after - d * (k - 1) for n, (before, after), d, k in axes]
        ends = [p - 1 for p in self.phases]  # the last phases of a size that is no multiple of P, cropped below
        if self.padding_mode == "zeros":
            x = _padded(x, [(a, b + end) for (a, b), end in zip(self.padding, ends, strict=True)], "constant")
        else:
            x = _padded(_padded(x, self.padding, self.padding_mode), [(0, end) for end in ends], "constant")
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        y = pixel_shuffle(convolve(x, self.weight, self.bias, self.phases, 0, 1, self.groups), self.phases)
        for axis, size in enumerate(sizes, start=-self.dims):
            y = _cropped(y, axis, size) if self.phases[axis] > 1 else y
        return y

    def extra_repr(self) -> str:
        """As PyTorch's convolutions."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, phases={self.phases}, "
            f"padding={self.padding}, padding_mode={self.padding_mode!r}, dilation={self.dilation}, "
            f"groups={self.groups}, bias={self.bias is not None}"
        )


def _padded(x: Tensor, amounts: Sequence[tuple[int, int]], mode: str) -> Tensor:
    return F.pad(x, [a for both in reversed(amounts) for a in both], mode)


def _cropped(y: Tensor, axis: int, size: int) -> Tensor:
    if isinstance(size, torch.SymInt):
        # torch.export cannot prove that P ceil(n / P) >= n, which a slice would have to assert
        return y.index_select(axis, torch.arange(size, device=y.device))
    return y.narrow(axis, 0, size).contiguous()  # as a convolution's output: views may be taken of it


class PhaseConv1d(_PhaseConv):
    """1-D convolution of stride 1 with weights by phase: ``(N, C_in, L)`` to ``(N, C_out, L + padding - d (k - 1))``.

    ``weight`` ``(C_out * P, C_in / groups, d (k - 1) + P)`` and ``bias`` ``(C_out * P,)`` are those of the strided
    convolution that it runs as; they start at zero. `set_phases` and `phase_weight` speak of them phase by phase.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Kernel size ``k`` of each phase, per axis.
        phases: ``P`` per axis: output ``n`` is made with the weights of phase ``n mod P``.
        padding: In samples, per axis, or (before, after) per axis.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        dilation: Dilation ``d`` per axis.
        groups: Groups; a divisor of both numbers of channels.
        bias: Whether to add one, per phase.
        device: As in PyTorch.
        dtype: As in PyTorch.

    Raises:
        ParameterError: For sizes below 1, an unknown padding mode, or groups that do not divide the channels.
    """

    dims = 1


class PhaseConv2d(_PhaseConv):
    """2-D convolution of stride 1 with weights by phase; arguments and errors as `PhaseConv1d`."""

    dims = 2


class PhaseConv3d(_PhaseConv):
    """3-D convolution of stride 1 with weights by phase; arguments and errors as `PhaseConv1d`."""

    dims = 3


PHASE_CONVOLUTIONS: tuple[type[_PhaseConv], ...] = (PhaseConv1d, PhaseConv2d, PhaseConv3d)
"""By number of axes, less one."""
