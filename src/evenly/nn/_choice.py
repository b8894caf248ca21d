"""Which implementation runs: a rule made from measurements (bench/nn.md), not from hope.

The three ways differ in work and in overhead:

- *folded* does ``(k+s-1)^n / s^n`` of the plain work for each output and has no overhead but the folding of the
  weights, a small product per call, which a training step does twice;
- *differences* does ``k^n / s^n``, but sums its products in several passes over the output: it pays where the products
  weigh more, that is from some hundred input channels on;
- *plain* remains where a border must be computed apart and the image is so small that the border is much of it.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evenly.nn._fold import FEW_CHANNELS
from evenly.nn._layout import is_traced, is_transformed

if TYPE_CHECKING:
    from evenly.nn.functional import Plan

__all__ = ["choose"]

LEAST_WORK = 6e7  # multiply-adds of the plain layer
WIDE = 256  # input channels from which the products outweigh their sums


def choose(x: Tensor, weight: Tensor, plan: Plan) -> str:
    """The implementation for an input, by `rule`; what is traced gets operators that a tracer knows.

    A trace (``torch.compile``, ``torch.export``) sees one transposed convolution where that is all the layer is, else
    the plain layer: two standard operators.
    """
    if not plan.foldable:
        return "plain"
    if is_traced():
        return "folded" if plan.nearest and plan.padding_mode == "zeros" else "plain"
    if is_transformed():
        return "plain"
    learning = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return rule(x, weight, plan, learning)


def rule(x: Tensor, weight: Tensor, plan: Plan, learning: bool) -> str:
    """The rule for CPUs, fitted to one processor with AVX-512 over some sixty shapes; devices without one fold.

    - Plain below some 10^8 multiply-adds, where a call's fixed cost decides; where the border is computed apart (all
      but nearest neighbour, with zeros or reflection), unless the image is large beside it; and in 3-D then always.
    - By differences from 256 input channels on, 128 for factors from 4 on; in 1-D with small factors only in training.
    - Folded otherwise.
    """
    c_out, c_in = weight.shape[:2]
    sizes = plan.output_size(x.shape[2:])
    work = weight[0].numel() * max(c_out, 32) * x.shape[0] * prod(sizes)
    apart = any(low or high for low, high in plan.strips)
    if work < LEAST_WORK:
        return "plain"
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return "folded" if plan.nearest and not apart else "plain"
    least_inputs = WIDE if max(plan.scale_factor) < 4 else WIDE // 2
    wide = c_in >= least_inputs and c_out > FEW_CHANNELS and plan.allows("differences")
    if plan.dims == 1:
        wide = wide and (learning or plan.scale_factor[0] >= 4)
    if apart:
        least = min(sizes) >= (64 if wide else 128)
        if plan.dims == 3 or not least or (not wide and (learning or plan.dims == 1)):
            return "plain"
    return "differences" if wide else "folded"
