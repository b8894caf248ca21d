"""Sub-pixel convolution in one to three dimensions, with phases that start equal and, if wanted, stay balanced.

A convolution to ``s^n C_out`` channels followed by a pixel shuffle (Shi et al., arXiv 1609.05158) is a transposed
convolution of kernel ``s k``: overlap is even, but each phase has weights of its own and their DC gains drift apart.
ICNR (Aitken et al., arXiv 1707.02937) starts with equal phases; ``balanced=True`` keeps their gains and biases equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrize

from evenly.nn._arguments import channels, choice, integers, refuse
from evenly.nn._layout import is_traced, weave
from evenly.nn.balanced import Parametrized, balance_subpixel

__all__ = ["SubpixelConv1d", "SubpixelConv2d", "SubpixelConv3d", "pixel_shuffle"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def pixel_shuffle(x: Tensor, scale_factor: Sequence[int]) -> Tensor:
    """Rearrange channels into space: ``y[c, s i + r] = x[(c, r), i]``, ``r`` in C order over the axes.

    In 2-D with equal factors this is ``torch.nn.functional.pixel_shuffle`` (ONNX DepthToSpace, mode CRD).

    Args:
        x: ``(N, C * prod(s), *size)`` or without the batch.
        scale_factor: Whole factor ``s`` per spatial axis.

    Returns:
        ``(N, C, *(s * size))``, in channels-last memory where ``x`` is.

    Raises:
        ParameterError: If the channels are not divisible by ``prod(s)``.
    """
    dims, phases = len(scale_factor), prod(scale_factor)
    if x.shape[-dims - 1] % phases:
        refuse("channels", x.shape[-dims - 1], f"divisible by prod(scale_factor) (={phases})", "widen the convolution")
    native = dims == 2 and scale_factor[0] == scale_factor[1]
    if native and (is_traced() or x.numel()):  # its gradient fails for empty batches
        return F.pixel_shuffle(x, scale_factor[0])
    return weave(x, scale_factor)


class _SubpixelConv(Parametrized):
    """What the three dimensions share."""

    dims: int
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        scale_factor: int | Sequence[int] = 2,
        padding: int | Sequence[int] | None = None,
        padding_mode: str = "zeros",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        balanced: bool = False,
        icnr: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        # phases of one output channel in two groups would read different inputs, and never agree
        self.in_channels, self.out_channels, self.groups = channels(in_channels, out_channels, groups)
        self.kernel_size = integers("kernel_size", kernel_size, self.dims)
        self.scale_factor = integers("scale_factor", scale_factor, self.dims)
        self.dilation = integers("dilation", dilation, self.dims)
        same = tuple(d * (k - 1) // 2 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        self.padding = same if padding is None else integers("padding", padding, self.dims, 0)
        self.padding_mode = choice("padding_mode", padding_mode, PADDING_MODES)
        self.icnr = icnr
        phases = prod(self.scale_factor)
        shape = (out_channels * phases, in_channels // groups, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels * phases, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.order = int(balanced)
        self.reset_parameters()
        if balanced:
            balance_subpixel(self, self.scale_factor, 1)

    @property
    def balanced(self) -> bool:
        """Whether the DC gains and the biases of the phases are kept equal."""
        return parametrize.is_parametrized(self, "weight")

    def reset_parameters(self) -> None:
        """Draw weights with which the output has the variance of a transposed convolution's (`evenly.nn.init`)."""
        from evenly.nn.init import variance_matched_

        variance_matched_(self)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, *size)`` to ``(N, C_out, *(s * conv_size))``."""
        padding = self.padding
        if self.padding_mode != "zeros" and any(padding):
            x = F.pad(x, [p for p in reversed(padding) for _ in range(2)], mode=self.padding_mode)
            padding = (0,) * self.dims
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        y = convolve(x, self.weight, self.bias, 1, padding, self.dilation, self.groups)
        return pixel_shuffle(y, self.scale_factor)

    def extra_repr(self) -> str:
        """As PyTorch's convolutions, arguments at their defaults left out."""
        parts = [f"{self.in_channels}, {self.out_channels}", f"kernel_size={self.kernel_size}"]
        parts += [f"scale_factor={self.scale_factor}", f"padding={self.padding}"]
        ones = (1,) * self.dims
        rest = (
            ("padding_mode", repr(self.padding_mode), self.padding_mode != "zeros"),
            ("dilation", self.dilation, self.dilation != ones),
            ("groups", self.groups, self.groups != 1),
            ("bias", False, self.bias is None),
            ("balanced", True, self.order > 0),
            ("order", self.order, self.order > 1),
            ("icnr", False, not self.icnr),
        )
        return ", ".join(parts + [f"{name}={value}" for name, value, shown in rest if shown])


class SubpixelConv1d(_SubpixelConv):
    """1-D sub-pixel convolution: ``(N, C_in, L)`` to ``(N, C_out, s L)``.

    ``weight`` ``(C_out * s, C_in / groups, k)`` and ``bias`` have the names and shapes of the plain convolution before
    the shuffle, so its checkpoint loads as it is, balanced or not.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, after the shuffle.
        kernel_size: Kernel size of the convolution, per axis.
        scale_factor: Whole up-sampling factor, per axis.
        padding: Of the input, in input samples; ``dilation * (kernel_size - 1) // 2`` by default, which keeps the size
            for odd kernels.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        dilation: Dilation per axis.
        groups: Groups; a divisor of both numbers of channels.
        bias: Whether to add one.
        balanced: Keep the DC gains and the biases of all phases equal, always, so that a constant stays constant:
            weights and biases are projected at every forward pass.
        icnr: Start with equal phases (Aitken et al., arXiv 1707.02937).
        device: As in PyTorch.
        dtype: As in PyTorch.

    Raises:
        ParameterError: For sizes below 1, an unknown padding mode, or groups that do not divide the channels.
    """

    dims = 1


class SubpixelConv2d(_SubpixelConv):
    """2-D sub-pixel convolution: ``(N, C_in, H, W)`` to ``(N, C_out, s_1 H, s_2 W)``.

    Arguments and errors as `SubpixelConv1d`; the channels are ordered as ``torch.nn.PixelShuffle`` has them.
    """

    dims = 2


class SubpixelConv3d(_SubpixelConv):
    """3-D sub-pixel convolution: ``(N, C_in, D, H, W)`` to ``(N, C_out, s_1 D, s_2 H, s_3 W)``.

    Arguments and errors as `SubpixelConv1d`; the channels are ordered ``(C_out, s_1, s_2, s_3)``.
    """

    dims = 3
