"""Summation by parts: what it costs, where it meets jumps, and that the way it is cut into chunks does not matter."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evenly.nn import _differences as differences
from evenly.nn._fold import Axis
from evenly.nn.functional import resize_conv
from evenly.nn.resampling import interpolation_kernel

PROVE = bool(os.environ.get("EVENLY_PROVE"))
CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SEED = st.integers(0, 2**31 - 1)
F64 = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def axis(scale: int, size: int, pad: tuple[int, int]) -> Axis:
    return Axis(interpolation_kernel("nearest", scale), size, 1, pad)


# -------------------------------------------------------------------------------------------------- where jumps are met


@given(scale=st.integers(1, 9), size=st.integers(1, 9), pad=st.integers(-5, 12))
def test_every_breakpoint_is_met_by_exactly_one_phase(scale: int, size: int, pad: int) -> None:
    found = differences.breakpoints(scale, size, pad)
    met = Counter(t for jumps in found.jumps for t, _ in jumps)
    assert met == dict.fromkeys(range(size - 1), 1)
    assert len(found.jumps) == len(found.centre) == scale
    for r, jumps in enumerate(found.jumps):
        reads = [(r - pad + t) // scale for t in range(size)]  # output s*i + r reads input i + this at tap t
        assert [(t, reads[t + 1]) for t in range(size - 1) if reads[t] != reads[t + 1]] == sorted(jumps)
        assert found.centre[r] in range(reads[0], reads[-1] + 1)
        assert found.low <= reads[0]
        assert found.high >= reads[-1]
    assert found.low == min((r - pad) // scale for r in range(scale))
    assert found.high == max((r - pad + size - 1) // scale for r in range(scale))


@given(scale=st.integers(1, 6), size=st.integers(1, 7), pad=st.integers(-4, 8), seed=SEED)
def test_summation_by_parts_of_one_output(scale: int, size: int, pad: int, seed: int) -> None:
    """From the rows of the matrix and the jumps alone, in numpy, without anything of the engine."""
    rng = np.random.default_rng(seed)
    found = differences.breakpoints(scale, size, pad)
    taps, x = rng.standard_normal(size), rng.standard_normal(40)
    rows = found.matrix() @ taps
    assert rows[0] == pytest.approx(taps.sum())
    i = 20
    for r in range(scale):
        wanted = sum(taps[t] * x[i + (r - pad + t) // scale] for t in range(size))
        parts = rows[0] * x[i + found.centre[r]]
        parts += sum(rows[1 + t] * (x[i + j] - x[i + j - 1]) for t, j in found.jumps[r])
        assert parts == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("kernel", [(1,), (3,), (6,), (3, 3), (1, 4), (5, 2), (1, 1), (3, 3, 3), (2, 1, 4)])
@pytest.mark.parametrize("scale", [1, 2, 3, 5, 8])
def test_as_many_products_as_taps_for_every_factor(
    kernel: tuple[int, ...], scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multiply-adds in matrix products, counted while it runs: prod(k) C_in C_out per input position."""
    plan = tuple(differences.breakpoints(scale, k, k // 2) for k in kernel)
    matrix, groups = differences._matrix(plan)
    assert matrix.shape == (math.prod(kernel), math.prod(kernel))
    assert groups[-1][2] == math.prod(kernel)
    assert np.linalg.matrix_rank(matrix) == math.prod(kernel)

    count = 0

    def counted(function: Any) -> Any:
        def run(*arguments: Tensor, **options: Any) -> Tensor:
            nonlocal count
            left, right = [a for a in arguments if a.dim() == 2][-2:]
            count += left.shape[0] * left.shape[1] * right.shape[1]
            found: Tensor = function(*arguments, **options)
            return found

        return run

    for name in ("mm", "addmm"):
        monkeypatch.setattr(torch, name, counted(getattr(torch, name)))
    monkeypatch.setattr(differences, "CHUNK", 10**9)  # one chunk: no halo is worked on twice
    c_in, c_out, n = 3, 2, 60 if len(kernel) < 3 else 20
    sizes = (n, *(12,) * (len(kernel) - 1))
    x, weight = torch.randn(1, c_in, *sizes, **F64), torch.randn(c_out, c_in, *kernel, **F64)
    resize_conv(x, weight, scale_factor=scale, padding=[k // 2 for k in kernel], implementation="differences")
    least = math.prod(kernel) * c_in * c_out * math.prod(sizes)
    halo = math.prod((size + k + 2) / size for size, k in zip(sizes, kernel, strict=True))
    assert least * (1 - 1e-9) <= count <= least * halo


# -------------------------------------------------------------------------------------------------------------- chunks


def everything(x: Tensor, weight: Tensor, bias: Tensor | None, axes: list[Axis], extension: str) -> list[Tensor]:
    tensors = [v.detach().requires_grad_() for v in (x, weight, bias) if v is not None]
    y = differences.by_differences(*tensors, *([None] if bias is None else []), axes, extension)
    slope = torch.linspace(-1, 2, y.numel(), **F64).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y.square() * slope).sum(), tensors)]


@given(data=st.data(), seed=SEED)
def test_chunks_do_not_matter(data: st.DataObject, seed: int) -> None:
    dims = data.draw(st.integers(1, 3))
    most = {1: 9, 2: 5, 3: 3}[dims]
    draw = lambda low, high: data.draw(st.tuples(*[st.integers(low, high)] * dims))  # noqa: E731
    scale, size, sizes = draw(1, 3), draw(1, min(most, 5)), draw(2, most)
    pads = [(p, k - 1 - p + q) for p, k, q in zip(draw(0, 3), size, draw(0, 2), strict=True)]  # never too small
    axes = [axis(*v) for v in zip(scale, size, pads, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(data.draw(st.integers(1, 5)), 2, *sizes, generator=generator, **F64)
    weight = torch.randn(3, 2, *size, generator=generator, **F64)
    bias = torch.randn(3, generator=generator, **F64) if data.draw(st.booleans()) else None
    extension = data.draw(st.sampled_from(["zeros", "replicate"]))
    results = []
    for chunk in (1, 7, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(differences, "CHUNK", chunk)
            results.append(everything(x, weight, bias, axes, extension))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@given(
    n=st.integers(0, 9),
    blocks=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    chunk=st.sampled_from([1, 7, 64, 512, 10**9]),
)
def test_chunks_cover_everything_once(n: int, blocks: list[int], chunk: int) -> None:
    plan = tuple(differences.breakpoints(2, 3, 1) for _ in blocks)
    engine = differences._Engine(plan, 1, 1)
    seen = np.zeros((n, blocks[0]), int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(differences, "CHUNK", chunk)
        for items, rows in engine.chunks(n, blocks):
            part = seen[items, rows]
            assert part.size
            part += 1
            row = math.prod(blocks[1:])
            assert part.size * row <= max(chunk, row)
    assert (seen == 1).all()


BIGGER = [
    ((2, 24, 37, 41), (16, 24, 3, 3), 2),
    ((1, 70, 33, 9), (5, 70, 5, 4), (3, 2)),
    ((3, 40, 700), (24, 40, 7), 5),
    ((1, 12, 9, 10, 11), (8, 12, 3, 3, 3), 2),
    ((9, 130, 4, 4), (64, 130, 3, 3), 2),
]


@pytest.mark.parametrize(("shape", "kernel", "scale"), BIGGER)
@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_bigger_sizes(
    shape: tuple[int, ...], kernel: tuple[int, ...], scale: Any, padding_mode: str, layout: str
) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape, **F64), torch.randn(kernel, **F64), torch.randn(kernel[0], **F64)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if layout == "channels last":
        if x.dim() not in formats:
            pytest.skip("no such layout in 1-D")
        x = x.to(memory_format=formats[x.dim()])
    found, wanted = [], []
    for results, way in ((found, "differences"), (wanted, "plain")):
        tensors = [v.clone(memory_format=torch.preserve_format).requires_grad_() for v in (x, weight, bias)]
        options = {"scale_factor": scale, "padding_mode": padding_mode, "implementation": way}
        y = resize_conv(*tensors, **options)
        results += [y, *torch.autograd.grad((y * torch.linspace(-1, 1, y.shape[-1], **F64)).sum(), tensors)]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]
)
def test_only_the_gradients_that_are_wanted(wanted: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(shape, **F64) for shape in ((2, 3, 4, 5), (4, 3, 3, 3), (4,))]
    for v, needs in zip(tensors, wanted, strict=True):
        v.requires_grad_(bool(needs))
    some = [v for v in tensors if v.requires_grad]
    for create in (False, True):
        a, b = (
            torch.autograd.grad(resize_conv(*tensors, implementation=way).square().sum(), some, create_graph=create)
            for way in ("differences", "plain")
        )
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_second_derivatives_of_the_engine_itself() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(s, **F64).requires_grad_() for s in ((2, 2, 3, 2), (2, 2, 3, 2), (2,))]
    axes = [axis(2, 3, (1, 1)), axis(3, 2, (1, 0))]
    run = lambda *v: differences.by_differences(*v, axes, "replicate").square()  # noqa: E731
    assert torch.autograd.gradcheck(run, tensors)
    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=not PROVE)
