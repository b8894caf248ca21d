"""The article's layer: interpolate, then convolve (Odena, Dumoulin & Olah 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from evenly.nn._arguments import integers, refuse
from evenly.nn._choice import choose
from evenly.nn._fold import fold_weight, folded
from evenly.nn.functional import Plan, check_implementation, run
from evenly.nn.init import variance_matched_

__all__ = ["ResizeConv1d", "ResizeConv2d", "ResizeConv3d"]


class _ResizeConv(nn.Module):
    """Interpolate, pad, convolve: even for every weight.

    Equal to ``F.interpolate``, ``F.pad`` and the convolution at every position, borders included, and faster: see
    ``implementation``. A constant stays a constant away from a border of zeros, whatever the weights are (the DC
    condition; docs/theory.md, section 2), before, during and after training.

    Parameters ``weight`` (C_out, C_in / groups, *k) and ``bias`` (C_out,) have the names and shapes of the plain
    convolution, so that its checkpoint loads as it is. They start with the activation scale of the transposed
    convolution that the layer replaces (`evenly.nn.init.variance_matched_`).

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: Of the convolution, one number or one per axis.
        scale_factor: Of the interpolation, likewise; factors that are not whole run plainly.
        mode: ``"nearest"``, ``"nearest-exact"``, ``"linear"`` (``"bilinear"``, ``"trilinear"``), ``"bicubic"``, or
            a FIR such as ``"fir:1,3,3,1"`` whose phases have equal sums.
        padding: Samples added after the interpolation: one number, one per axis, or pairs (before, after) per axis;
            negative ones crop. By default ``dilation * (kernel_size - 1) // 2``, which keeps the size for odd kernels.
        padding_mode: ``"zeros"``, ``"replicate"``, ``"reflect"`` or ``"circular"``. With zeros the border is darker,
            as with any padded convolution.
        dilation: Of the convolution.
        groups: Of the convolution.
        bias: Whether to add one.
        implementation: ``"auto"`` (a measured rule, bench/nn.md), ``"plain"``, ``"folded"`` or ``"differences"``: the
            same function.
        device: Of the parameters.
        dtype: Of the parameters.

    Shape:
        (N, C_in, *L) to (N, C_out, *M), or without N; per axis
        ``M = floor(scale_factor * L) + padding before and after - dilation * (kernel_size - 1)``.

    Raises:
        ParameterError: for an argument out of range; by ``forward`` for an input of another shape.
    """

    dims: int
    bias: nn.Parameter | None
    _source: tuple[Any]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        scale_factor: float | Sequence[float] = 2,
        mode: str = "nearest",
        padding: int | Sequence[int | Sequence[int]] | None = None,
        padding_mode: str = "zeros",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        implementation: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        (self.in_channels,) = integers("in_channels", in_channels, 1)
        (self.out_channels,) = integers("out_channels", out_channels, 1)
        (self.groups,) = integers("groups", groups, 1)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                refuse(name, channels, f"divisible by groups (={groups})", "change one of them")
        self.kernel_size = integers("kernel_size", kernel_size, self.dims)
        self._plan = Plan(self.dims, scale_factor, mode, self.kernel_size, padding, padding_mode, dilation, self.groups)
        check_implementation(self._plan, implementation)
        self.scale_factor = self._plan.scale_factor
        self.mode = mode
        self.padding = self._plan.pad
        self.padding_mode = padding_mode
        self.dilation = self._plan.dilation
        self.implementation = implementation
        options = {"device": device, "dtype": dtype}
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, **options))  # type: ignore[arg-type]
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels, **options)) if bias else None)  # type: ignore[arg-type]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start anew, at the scale of the transposed convolution that the layer replaces."""
        variance_matched_(self)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output; see the class for shapes."""
        if x.dim() == self.dims + 1:
            out: Tensor = self.forward(x.unsqueeze(0)).squeeze(0)
            return out
        self._plan.check_input(x, self.in_channels)
        implementation = self.implementation
        if implementation == "auto":
            implementation = choose(x, self.weight, self._plan)
        if implementation == "folded" and (kernel := self._constant_kernel()) is not None:
            return folded(x, kernel, self.bias, self._plan.axes, self.groups, self._plan.extension)
        return run(x, self.weight, self.bias, self._plan, implementation)

    def _constant_kernel(self) -> Tensor | None:
        """While a layer in evaluation mode is exported to ONNX, its folded kernel: one operator, whatever its size.

        Exporters fold small constant expressions only. The traced weight has no values; the parameter itself has.
        """
        (weight,) = self._source
        if not torch.onnx.is_in_onnx_export() or self.training or "weight" not in self._parameters:
            return None
        if not self._plan.nearest or any(low or high for low, high in self._plan.strips):
            return None
        tracing = torch._C._get_tracing_state()
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
        try:
            with _disable_current_modes(), torch.no_grad():
                return fold_weight(weight.detach(), self._plan.axes, self.groups)
        finally:
            torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As in ``nn.Module``; the layer keeps hold of its weight for `_constant_kernel`."""
        super().register_parameter(name, param)
        if name == "weight":
            self._source = (param,)  # a tuple, so that it is not a parameter once more

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._source = (self._parameters.get("weight", self._source[0]),)
        return self

    def extra_repr(self) -> str:
        """The arguments that are not the default ones."""

        def short(values: Sequence[Any]) -> Any:
            return values[0] if all(v == values[0] for v in values) else tuple(values)

        text = f"{self.in_channels}, {self.out_channels}, kernel_size={short(self.kernel_size)}"
        text += f", scale_factor={short(self.scale_factor)}, mode={self.mode!r}"
        equal = all(low == high for low, high in self.padding)
        padding = short([low for low, _ in self.padding]) if equal else self.padding
        text += f", padding={padding}"
        defaults = {"padding_mode": "zeros", "groups": 1, "implementation": "auto"}
        text += "".join(f", {n}={v!r}" for n, d in defaults.items() if (v := getattr(self, n)) != d)
        if any(d != 1 for d in self.dilation):
            text += f", dilation={short(self.dilation)}"
        return text + (", bias=False" if self.bias is None else "")


class ResizeConv1d(_ResizeConv):  # noqa: D101
    __doc__ = _ResizeConv.__doc__
    dims = 1


class ResizeConv2d(_ResizeConv):  # noqa: D101
    __doc__ = _ResizeConv.__doc__
    dims = 2


class ResizeConv3d(_ResizeConv):  # noqa: D101
    __doc__ = _ResizeConv.__doc__
    dims = 3
