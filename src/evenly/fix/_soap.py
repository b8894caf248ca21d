"""Adam in the eigenbasis of the gradients' second moments: SOAP (Vyas et al., arXiv 2409.11321, algorithm 3).

A weight is read as a matrix, its first axis against all others. Its gradient's second moments over rows and columns
turn slowly; in their eigenbases the curvature is nearly diagonal, which is what Adam takes it to be. Fitting one
network to another is so ill-conditioned that this brings about twice as much as Adam in the same number of steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["begun", "stepped"]

MOST_SIDE = 2048
"""Rows or columns above which a side keeps its own basis: 16 MB a matrix, half a second to turn it."""
_BETA = 0.95
"""Of all running means."""
_EVERY = 10
"""Steps between two turns of the basis; the first ones turn it each."""
_EARLY = 4
_FLOOR = 1e-6
"""Entries this small beside the largest are rounding of the rotation, which Adam must not scale up (ratio)."""
_TINY = 1e-30


def begun(parameter: Tensor) -> dict[str, Tensor]:
    """The state of one parameter before the first step."""
    matrix = _matrix(parameter.detach())
    found = {"mean": torch.zeros_like(matrix), "square": torch.zeros_like(matrix)}
    for side, size in (("left", matrix.shape[0]), ("right", matrix.shape[1])):
        if 1 < size <= MOST_SIDE and parameter.ndim > 1:
            found[side] = matrix.new_zeros(size, size)
            found[f"{side}_basis"] = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    return found


def stepped(own: dict[str, Tensor], gradient: Tensor, count: int) -> Tensor:
    """The step of a parameter, of about unit size in every entry, against which it is to go.

    Args:
        own: Its state, which is brought up to date.
        gradient: Of the loss.
        count: Number of this step, from 1. The first one only sets the bases: in a basis made of this very gradient
            most of its entries would be rounding, and Adam would scale them up to 1.
    """
    g = _matrix(gradient)
    for side, rows in (("left", g), ("right", g.T)):
        if side in own:
            own[side].lerp_(rows @ rows.T, 1 - _BETA)
    if count < _EARLY or count % _EVERY == 0:
        _turn(own, first=count == 1)
    based = "left" in own or "right" in own
    if based and count == 1:
        return torch.zeros_like(gradient)
    own["mean"].lerp_(g, 1 - _BETA)
    turned, mean = (_rotated(own, matrix) for matrix in (g, own["mean"]))
    own["square"].mul_(_BETA).addcmul_(turned, turned, value=1 - _BETA)
    correction = 1 - _BETA ** (count - based)
    size = (own["square"] / correction).sqrt_()
    # with one beta for both means no entry exceeds 1 (Cauchy and Schwarz), but where the basis has turned meanwhile
    step = ((mean / correction) / (size + _FLOOR * size.max() + _TINY)).clamp_(-1, 1)
    return _rotated(own, step, back=True).reshape(gradient.shape)


def _matrix(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(1, -1)


def _rotated(own: dict[str, Tensor], matrix: Tensor, back: bool = False) -> Tensor:
    """A matrix in the basis, or back from it."""
    if "left" in own:
        basis = own["left_basis"]
        matrix = (basis if back else basis.T) @ matrix
    if "right" in own:
        basis = own["right_basis"]
        matrix = matrix @ (basis.T if back else basis)
    return matrix


def _turn(own: dict[str, Tensor], first: bool) -> None:
    """One step of the power iteration that keeps the bases eigenbases; the squares' entries go along in their order."""
    for axis, side in enumerate(("left", "right")):
        if side not in own:
            continue
        if first:
            own[f"{side}_basis"] = _eigenbasis(own[side])
            continue
        moment, basis = own[side], own[f"{side}_basis"]
        order = torch.argsort((basis * (moment @ basis)).sum(0), descending=True, stable=True)
        own["square"] = own["square"].index_select(axis, order)
        own[f"{side}_basis"] = torch.linalg.qr(moment @ basis.index_select(1, order))[0].contiguous()


def _eigenbasis(moment: Tensor) -> Tensor:
    """In double precision and at unit size: moments of one gradient have few ranks, and may be tiny."""
    size = moment.diagonal().sum()
    if not size > 0:
        return torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    try:
        basis: Tensor = torch.linalg.eigh(moment.double() / size.double())[1]
    except RuntimeError:  # it does not converge: one step of the power iteration from the own basis
        basis = torch.linalg.qr(moment.double() / size.double())[0]
    return basis.to(moment.dtype).contiguous()
