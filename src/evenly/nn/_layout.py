"""Channels first and channels last, and the way between them.

All fast ways work channels last. PyTorch's own copy between the two orders of a 4-D or 5-D tensor is several times
slower on a CPU than that of a matrix and its transpose, which is what it is for each item of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["is_autocast", "is_channels_last", "is_traced", "is_transformed", "to_first", "to_last", "weave"]

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_channels_last(x: Tensor) -> bool:
    """Whether (N, C, *spatial) is stored channels last; where sizes of 1 leave that open, its strides decide."""
    if x.dim() not in _FORMATS or not x.is_contiguous(memory_format=_FORMATS[x.dim()]):
        return False
    return x.stride(-1) == x.shape[1] and x.stride(1) == 1 and x[:1].numel() > 1


def is_traced() -> bool:
    """Whether a tracer (``torch.compile``, ``torch.export``, the ONNX exporters) watches: it wants known operators."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def is_transformed() -> bool:
    """Whether ``torch.func`` or forward-mode differentiation is at work, which want known operators too."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of ``x``."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


class _Turn(torch.autograd.Function):
    """(N, A, B) to (N, B, A), copied; its own adjoint."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        out = x.new_empty(x.shape[0], x.shape[2], x.shape[1])
        for target, item in zip(out, x, strict=True):
            target.copy_(item.t())
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _turn(grad.contiguous())


def _turn(x: Tensor) -> Tensor:
    turned: Tensor = _Turn.apply(x)  # type: ignore[no-untyped-call]
    return turned


def to_last(x: Tensor) -> Tensor:
    """(N, C, *spatial) as a contiguous (N, *spatial, C), without a copy where it is stored so."""
    if is_channels_last(x):
        return x.movedim(1, -1)
    return _turn(x.contiguous().flatten(2)).unflatten(1, x.shape[2:])  # type: ignore[no-untyped-call, no-any-return]


def to_first(x: Tensor) -> Tensor:
    """Contiguous (N, *spatial, C) copied to a contiguous (N, C, *spatial)."""
    return _turn(x.flatten(1, -2)).unflatten(2, x.shape[1:-1])  # type: ignore[no-untyped-call, no-any-return]


def weave(x: Tensor, scale: Sequence[int]) -> Tensor:
    """(..., C * prod(s), *size) to (..., C, *(s * size)): phases from channels into space, written once.

    A single batch axis that is stored channels last stays so.
    """
    dims, lead, size = len(scale), x.shape[: -len(scale) - 1], x.shape[-len(scale) :]
    channels, first = x.shape[-dims - 1] // prod(scale), len(lead)
    split = x.reshape(*lead, channels, *scale, *size)
    woven = [axis for a in range(dims) for axis in (first + 1 + dims + a, first + 1 + a)]  # (size_a, s_a) per axis
    grown = [n * s for n, s in zip(size, scale, strict=True)]
    # vmap cannot be asked about layouts
    layout = None if first != 1 or is_transformed() else _FORMATS.get(dims + 2)
    if layout is not None and x.is_contiguous(memory_format=layout) and not x.is_contiguous():
        return split.permute(0, *woven, 1).reshape(*lead, *grown, channels).movedim(-1, 1)
    return split.permute(*range(first), first, *woven).reshape(*lead, channels, *grown)
