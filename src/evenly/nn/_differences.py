"""Nearest-neighbour interpolation and convolution at the cost of the low-resolution convolution.

An interpolated signal is piecewise constant, so that a convolution over it needs, besides ``S x[i]`` with ``S`` the sum
of the taps, only one product per *breakpoint* between two taps: a one-sided sum of the taps times the jump
``x[i] - x[i-1]``. Each breakpoint meets a jump in exactly one of the ``s`` phases, so all phases together cost ``k``
products per axis and input sample, whatever ``s`` is; in n-D the products multiply (summation by parts;
docs/theory.md, section 3).

All is done channels last, in chunks whose temporaries stay in the cache: differences of the input, one matrix product
for each combination of axes that are differenced, then sums, axis by axis, of which the last writes the output, once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evenly.nn._fold import Axis
from evenly.nn._layout import to_last
from evenly.nn.resampling import extend

__all__ = ["by_differences"]

CHUNK = 512  # positions per thread that are worked on at a time: enough for the products, little for the cache
Choice = tuple[int, ...]  # per axis: 0, the signal itself; 1, its first difference


@dataclass(frozen=True)
class Breakpoints:
    """One axis: where each phase meets jumps. Output ``n = s*i + r`` reads tap ``t`` at input ``i + (r-pad+t)//s``.

    Attributes:
        scale: ``s``.
        size: ``k``.
        pad: Samples of padding before the interpolated signal.
        low: First input that block 0 reads, relative to its own position.
        high: Last one.
        centre: Per phase, the input (relative) that carries the sum of all taps.
        jumps: Per phase, pairs (breakpoint ``t`` between taps ``t`` and ``t+1``, input ``j`` of ``x[j] - x[j-1]``).
    """

    scale: int
    size: int
    pad: int
    low: int
    high: int
    centre: tuple[int, ...]
    jumps: tuple[tuple[tuple[int, int], ...], ...]

    def matrix(self) -> np.ndarray:
        """(k, k): row 0 sums all taps, row ``1 + t`` is the one-sided sum at breakpoint ``t``."""
        rows = np.zeros((self.size, self.size))
        rows[0] = 1
        for r, jumps in enumerate(self.jumps):
            for t, j in jumps:
                if j <= self.centre[r]:
                    rows[1 + t, : t + 1] = -1
                else:
                    rows[1 + t, t + 1 :] = 1
        return rows


@lru_cache(maxsize=256)
def breakpoints(scale: int, size: int, pad: int) -> Breakpoints:
    """The breakpoints of an axis with ``pad`` samples of padding before it."""
    centre = tuple((r - pad + (size - 1) // 2) // scale for r in range(scale))
    jumps = tuple(
        tuple((t, (r - pad + t + 1) // scale) for t in range(size - 1) if (r - pad + t + 1) % scale == 0)
        for r in range(scale)
    )
    return Breakpoints(scale, size, pad, -pad // scale, (scale - 1 - pad + size - 1) // scale, centre, jumps)


@lru_cache(maxsize=64)
def _matrix(axes: tuple[Breakpoints, ...]) -> tuple[np.ndarray, tuple[tuple[Choice, int, int], ...]]:
    """The products as combinations of the taps, rows grouped by which axes are differenced; and those groups' rows."""
    whole = np.ones((1, 1))
    for axis in axes:
        whole = np.kron(whole, axis.matrix())
    order: list[int] = []
    groups: list[tuple[Choice, int, int]] = []
    rows = list(product(*(range(a.size) for a in axes)))
    for choice in product((0, 1), repeat=len(axes)):
        mine = [i for i, row in enumerate(rows) if tuple(int(e > 0) for e in row) == choice]
        if mine:
            groups.append((choice, len(order), len(order) + len(mine)))
            order += mine
    return whole[order], tuple(groups)


def _plan(axes: Sequence[Axis]) -> tuple[Breakpoints, ...]:
    return tuple(breakpoints(a.kernel.scale, a.size, a.pad[0]) for a in axes)


def _products(weight: Tensor, plan: tuple[Breakpoints, ...]) -> Tensor:
    matrix = torch.tensor(_matrix(plan)[0], dtype=weight.dtype, device=weight.device)
    c_out, c_in = weight.shape[:2]
    return torch.matmul(matrix, weight.reshape(c_out * c_in, -1).t()).view(-1, c_out, c_in)


@dataclass
class _Part:
    """Products on their way to the output: (N, positions per axis left and done, C_out); may it be overwritten?"""

    values: Tensor
    owned: bool


class _Engine:
    """The work for one chunk, forward and back. Tensors are (N, *positions, *breakpoints, C)."""

    def __init__(self, plan: tuple[Breakpoints, ...], c_in: int, c_out: int) -> None:
        self.plan, self.c_in, self.c_out = plan, c_in, c_out
        self.groups = _matrix(plan)[1]

    def sources(self, x: Tensor) -> dict[Choice, Tensor]:
        """The signal and its differences along each choice of axes."""
        found: dict[Choice, Tensor] = {(): x}
        for dim, axis in enumerate(self.plan, start=1):
            centre = min(axis.centre) - axis.low
            blocks = x.shape[dim] - (axis.high - axis.low)
            span = blocks + max(axis.centre) - min(axis.centre)
            now: dict[Choice, Tensor] = {}
            for choice, v in found.items():
                now[(*choice, 0)] = v.narrow(dim, centre, span)
                if axis.size > 1:
                    now[(*choice, 1)] = v.narrow(dim, 1, v.shape[dim] - 1) - v.narrow(dim, 0, v.shape[dim] - 1)
            found = now
        return found

    def gather(self, grads: dict[Choice, Tensor], x_grad: Tensor) -> None:
        """The adjoint of `sources`: add what reaches the signal to ``x_grad``."""
        for dim in range(len(self.plan), 0, -1):
            axis = self.plan[dim - 1]
            centre = min(axis.centre) - axis.low
            now: dict[Choice, Tensor] = {}
            for choice in {c[: dim - 1] for c in grads}:
                plain, jump = grads[(*choice, 0)], grads.get((*choice, 1))
                span = plain.shape[dim]
                blocks = span - (max(axis.centre) - min(axis.centre))
                shape = list(plain.shape)
                shape[dim] = blocks + axis.high - axis.low
                whole = x_grad if dim == 1 else plain.new_zeros(shape)
                here = whole.narrow(dim, centre, span)
                if dim == 1:
                    here.add_(plain)
                else:
                    here.copy_(plain)
                if jump is not None:
                    whole.narrow(dim, 1, shape[dim] - 1).add_(jump)
                    whole.narrow(dim, 0, shape[dim] - 1).sub_(jump)
                now[choice] = whole
            grads = now

    def _counts(self, choice: Choice) -> list[int]:
        return [axis.size - 1 if c else 1 for c, axis in zip(choice, self.plan, strict=True)]

    def multiply(self, sources: dict[Choice, Tensor], weight: Tensor, bias: Tensor | None) -> dict[Choice, _Part]:
        """All products; the bias goes with the sum of all taps, which every phase has once."""
        parts = {}
        for choice, first, last in self.groups:
            v = sources[choice]
            rows, columns = v.reshape(-1, self.c_in), weight[first:last].view(-1, self.c_in).t()
            carries = None if any(choice) else bias
            out = torch.mm(rows, columns) if carries is None else torch.addmm(carries, rows, columns)
            parts[choice] = _Part(out.view(*v.shape[:-1], *self._counts(choice), self.c_out), True)
        return parts

    def assemble(self, parts: dict[Choice, _Part], out: Tensor, axis: int = 0) -> None:
        """Sum products into ``out`` (N, blocks, phase of axis, blocks, phase, ..., C) for axes from ``axis`` on."""
        last = axis == len(self.plan) - 1
        here = self.plan[axis]
        low_centre = min(here.centre)
        dim = 1 + axis  # of the positions; those of earlier axes are blocks already
        at = 1 + len(self.plan)  # of this axis's breakpoints; those of earlier axes are gone
        for r in range(here.scale):
            target = out.select(dim + 1, r)
            blocks = target.shape[dim]
            ready: dict[Choice, _Part] = {}
            for rest in {c[1:] for c in parts}:
                base = parts[(0, *rest)]
                total = base.values.select(at, 0).narrow(dim, here.centre[r] - low_centre, blocks)
                owned = False
                for number, (t, j) in enumerate(here.jumps[r]):
                    part = parts[(1, *rest)]
                    jump = part.values.select(at, t).narrow(dim, j - here.low - 1, blocks)
                    final = last and number == len(here.jumps[r]) - 1
                    if final:
                        torch.add(total, jump, out=target)
                    elif owned:
                        total.add_(jump)
                    elif part.owned:
                        total, owned = jump.add_(total), True
                    else:
                        total, owned = jump + total, True
                if last and not here.jumps[r]:
                    target.copy_(total)
                ready[rest] = _Part(total, owned)
            if not last:
                self.assemble(ready, target, axis + 1)

    def spread(self, grad: Tensor) -> dict[Choice, Tensor]:
        """The adjoint of `assemble`: from (N, blocks, phase, ..., C) to a gradient per product."""
        dims = len(self.plan)
        parts: dict[Choice, Tensor] = {(): grad}
        for axis in range(dims - 1, -1, -1):
            here = self.plan[axis]
            dim = 1 + 2 * axis
            now: dict[Choice, Tensor] = {}
            low_centre, extra = min(here.centre), max(here.centre) - min(here.centre)
            for rest, g in parts.items():
                # g: (N, blocks, phase, ... up to this axis, positions of later axes, breakpoints of later axes, C)
                blocks = g.shape[dim]
                tail = dim + 1 + (dims - 1 - axis)  # where this axis's breakpoints go, once its phases are gone
                if extra:
                    shape = list(g.shape)
                    shape[dim] = blocks + extra
                    del shape[dim + 1]
                    plain = g.new_zeros(shape)
                    for r in range(here.scale):
                        plain.narrow(dim, here.centre[r] - low_centre, blocks).add_(g.select(dim + 1, r))
                else:
                    plain = g.sum(dim + 1)
                now[(0, *rest)] = plain.unsqueeze(tail)
                if here.size > 1:
                    shape = list(g.shape)
                    shape[dim] = blocks + here.high - here.low - 1
                    del shape[dim + 1]
                    shape.insert(tail, here.size - 1)
                    jump = g.new_empty(shape)
                    for r in range(here.scale):
                        for t, j in here.jumps[r]:
                            slot = jump.select(tail, t)
                            start = j - here.low - 1
                            slot.narrow(dim, 0, start).zero_()
                            slot.narrow(dim, start, blocks).copy_(g.select(dim + 1, r))
                            slot.narrow(dim, start + blocks, shape[dim] - start - blocks).zero_()
                    now[(1, *rest)] = jump
            parts = now
        return parts

    def chunks(self, n: int, blocks: Sequence[int]) -> Iterator[tuple[slice, slice]]:
        """Slices of the batch and of the first axis's blocks, of about `CHUNK` positions per thread."""
        positions, row = CHUNK * torch.get_num_threads(), math.prod(blocks[1:])
        rows = _even_step(blocks[0], max(1, positions // row))
        items = _even_step(n, max(1, positions // (row * blocks[0])))
        for i in range(0, n, items):
            for j in range(0, blocks[0], rows):
                yield slice(i, min(n, i + items)), slice(j, min(blocks[0], j + rows))

    def halo(self, rows: slice) -> slice:
        """The inputs along the first axis that those blocks read."""
        return slice(rows.start, rows.stop + self.plan[0].high - self.plan[0].low)


def _even_step(total: int, most: int) -> int:
    """The step that cuts ``total`` into parts of nearly equal size, none above ``most``."""
    return -(-total // -(-total // most)) if total else 1


def _phases(y: Tensor, plan: tuple[Breakpoints, ...]) -> Tensor:
    """(N, *(blocks * s), C) seen as (N, blocks, s, blocks, s, ..., C)."""
    shape = [v for size, a in zip(y.shape[1:-1], plan, strict=True) for v in (size // a.scale, a.scale)]
    return y.view(y.shape[0], *shape, y.shape[-1])


class _Differences(torch.autograd.Function):
    """The whole layer on channels-last tensors; its gradient by the same differences, its second one in plain form."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, plan: tuple[Breakpoints, ...]) -> Tensor:
        prepared = _products(weight, plan)
        engine = _Engine(plan, x.shape[-1], weight.shape[0])
        blocks = [size - (a.high - a.low) for size, a in zip(x.shape[1:-1], plan, strict=True)]
        y = x.new_empty(x.shape[0], *(b * a.scale for b, a in zip(blocks, plan, strict=True)), weight.shape[0])
        out = _phases(y, plan)
        for items, rows in engine.chunks(x.shape[0], blocks):
            products = engine.multiply(engine.sources(x[items, engine.halo(rows)]), prepared, bias)
            engine.assemble(products, out[items, rows])
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, plan = inputs
        ctx.save_for_backward(x, weight, bias)
        ctx.plan = plan

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        plan: tuple[Breakpoints, ...] = ctx.plan
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # differentiated again: say it in operations that autograd knows
            wanted = [v for v, need in zip((x, weight, bias), needs, strict=False) if need]
            found = iter(torch.autograd.grad(_plain(x, weight, bias, plan), wanted, grad, create_graph=True))
            return (*(next(found) if need else None for need in needs[:3]), None)
        engine = _Engine(plan, x.shape[-1], weight.shape[0])
        prepared = _products(weight, plan) if needs[0] else None
        g = _phases(grad.contiguous(), plan)
        blocks = g.shape[1:-1:2]
        x_grad = torch.zeros_like(x) if needs[0] else None
        w_grad = x.new_empty(math.prod(a.size for a in plan), *weight.shape[:2]) if needs[1] else None
        for number, (items, rows) in enumerate(engine.chunks(x.shape[0], blocks)):
            halo = engine.halo(rows)
            grads = engine.spread(g[items, rows])
            flat = {c: grads[c].view(-1, (last - first) * engine.c_out) for c, first, last in engine.groups}
            if w_grad is not None:
                sources = engine.sources(x[items, halo])
                for choice, first, last in engine.groups:
                    total = w_grad[first:last].view(-1, engine.c_in)
                    total.addmm_(flat[choice].t(), sources[choice].reshape(-1, engine.c_in), beta=int(number > 0))
            if x_grad is not None and prepared is not None:
                back = {}
                for choice, first, last in engine.groups:
                    v = torch.mm(flat[choice], prepared[first:last].view(-1, engine.c_in))
                    back[choice] = v.view(*grads[choice].shape[: 1 + len(plan)], engine.c_in)
                engine.gather(back, x_grad[items, halo])
        weight_grad = None
        if w_grad is not None:
            matrix = torch.tensor(_matrix(plan)[0], dtype=weight.dtype, device=weight.device)
            weight_grad = torch.matmul(w_grad.view(len(matrix), -1).t(), matrix).view(weight.shape)
        bias_grad = grad.flatten(0, -2).sum(0) if needs[2] else None
        return x_grad, weight_grad, bias_grad, None


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, plan: tuple[Breakpoints, ...]) -> Tensor:
    """The same function in PyTorch's own operations."""
    y = x.movedim(-1, 1)
    for dim, axis in enumerate(plan, start=2):
        blocks = x.shape[dim - 1] - (axis.high - axis.low)
        y = y.repeat_interleave(axis.scale, dim)
        start = -axis.pad - axis.scale * axis.low
        y = y.narrow(dim, start, axis.scale * blocks + axis.size - 1)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(plan) - 1]
    return convolve(y, weight, bias).movedim(1, -1)


def by_differences(x: Tensor, weight: Tensor, bias: Tensor | None, axes: Sequence[Axis], extension: str) -> Tensor:
    """The nearest-neighbour resize-convolution of ``x``; dilation and groups of 1.

    Args:
        x: (N, C_in, *spatial).
        weight: (C_out, C_in, *k).
        bias: (C_out,) or None.
        axes: One geometry per spatial axis, interpolation by nearest neighbour.
        extension: How ``x`` continues beyond its border, ``"zeros"`` or ``"replicate"``.

    Returns:
        (N, C_out, *output sizes), channels last in memory.
    """
    plan = _plan(axes)
    sizes = [a.output_size(n) for a, n in zip(axes, x.shape[2:], strict=True)]
    amounts = []
    for axis, n, wanted in zip(plan, x.shape[2:], sizes, strict=True):
        blocks = -(-wanted // axis.scale)
        amounts.append((-axis.low, blocks + axis.high - n))
    source = to_last(extend(x, amounts, extension))
    y: Tensor = _Differences.apply(source, weight, bias, plan)  # type: ignore[no-untyped-call]
    for dim, wanted in enumerate(sizes, start=1):
        y = y.narrow(dim, 0, wanted)
    return y.movedim(-1, 1)
