"""Which implementation runs: a rule made from measurements (bench/nn.md), not from hope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from evenly.nn.functional import Plan

__all__ = ["choose"]


def choose(x: Tensor, weight: Tensor, plan: Plan) -> str:
    return "plain"
