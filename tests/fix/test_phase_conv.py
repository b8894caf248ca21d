"""The convolution by phases: against a loop over every pixel, exactly, and through the exporters."""

from __future__ import annotations

import copy
import pickle
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evenly.errors import ParameterError
from evenly.fix.phase_conv import PHASE_CONVOLUTIONS, PhaseConv1d, PhaseConv2d, phases_joined, phases_parted

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def whole(seed, shape):
    """Small whole numbers: sums of their products are exact in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


def layer_of(weight, bias, padding, mode, dilation, groups):
    dims = len(dilation)
    layer = PHASE_CONVOLUTIONS[dims - 1](
        weight.shape[dims + 1] * groups, weight.shape[dims], weight.shape[dims + 2 :], weight.shape[:dims],
        padding, mode, dilation, groups, bias is not None, dtype=torch.float64,
    )  # fmt: skip
    layer.set_phases(weight, bias)
    return layer


def naive(x, weight, bias, padding, mode, dilation, groups):
    """Every output by itself, from the definition."""
    dims = len(dilation)
    padded = np.pad(x, ((0, 0), (0, 0), *padding), mode=MODES[mode])
    phases, outputs, per_group, kernel = (
        weight.shape[:dims], weight.shape[dims], weight.shape[dims + 1], weight.shape[dims + 2 :],
    )  # fmt: skip
    sizes = [n - d * (k - 1) for n, d, k in zip(padded.shape[2:], dilation, kernel, strict=True)]
    y = np.zeros((len(x), outputs, *sizes))
    for place in product(*map(range, sizes)):
        phase = tuple(n % p for n, p in zip(place, phases, strict=True))
        for c in range(outputs):
            first = c // (outputs // groups) * per_group
            total = np.zeros(len(x)) if bias is None else np.full(len(x), bias[(*phase, c)])
            for tap in product(*map(range, kernel)):
                source = tuple(n + d * o for n, d, o in zip(place, dilation, tap, strict=True))
                taken = padded[(slice(None), slice(first, first + per_group), *source)]
                total += taken @ weight[(*phase, c, slice(None), *tap)]
            y[(slice(None), c, *place)] = total
    return y


@st.composite
def cases(draw):
    dims = draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    mode = draw(st.sampled_from(sorted(MODES)))
    phases, kernel, dilation = each(1, 3), each(1, 3), each(1, 2)
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(dims))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    least = [
        max(1, r + 1 - sum(p), *(a + 1 if mode != "zeros" else 1 for a in p))
        for r, p in zip(reach, padding, strict=True)
    ]
    sizes = tuple(draw(st.integers(n, n + (5 if dims < 3 else 2))) for n in least)
    groups = draw(st.sampled_from((1, 2)))
    return (
        sizes, phases, kernel, dilation, padding, mode, groups,
        groups * draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.booleans()), draw(st.integers(0, 99)),
    )  # fmt: skip


@given(cases())
def test_equals_the_definition_at_every_pixel(case):
    sizes, phases, kernel, dilation, padding, mode, groups, outputs, per_group, biased, seed = case
    weight = whole(seed, (*phases, outputs, per_group, *kernel))
    bias = whole(seed + 1, (*phases, outputs)) if biased else None
    x = whole(seed + 2, (2, per_group * groups, *sizes))
    layer = layer_of(weight, bias, padding, mode, dilation, groups)
    found = layer(torch.from_numpy(x)).detach()
    np.testing.assert_array_equal(found.numpy(), naive(x, weight, bias, padding, mode, dilation, groups))
    assert found.is_contiguous()
    np.testing.assert_array_equal(layer.phase_weight(), weight)
    if biased:
        np.testing.assert_array_equal(layer.phase_bias(), bias)
    else:
        assert layer.phase_bias() is None


@given(cases())
def test_equal_phases_are_the_plain_convolution(case):
    sizes, phases, kernel, dilation, padding, _, groups, outputs, per_group, _, seed = case
    dims = len(sizes)
    plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](
        per_group * groups, outputs, kernel, padding=0, dilation=dilation, groups=groups, dtype=torch.float64
    )
    with torch.no_grad():
        plain.weight.copy_(torch.from_numpy(whole(seed, plain.weight.shape)))
        plain.bias.copy_(torch.from_numpy(whole(seed, plain.bias.shape)))
    weight = np.broadcast_to(plain.weight.detach().numpy(), (*phases, *plain.weight.shape))
    bias = np.broadcast_to(plain.bias.detach().numpy(), (*phases, outputs))
    layer = layer_of(weight, bias, padding, "zeros", dilation, groups)
    x = torch.from_numpy(whole(seed, (1, per_group * groups, *sizes)))
    padded = nn.functional.pad(x, [a for both in reversed(padding) for a in both])
    torch.testing.assert_close(layer(x), plain(padded), rtol=0, atol=1e-12)


def test_joined_kernels_have_zeros_where_a_phase_has_no_tap():
    weight = np.arange(1.0, 5.0).reshape(2, 1, 1, 2)  # two phases, two taps
    assert phases_joined(weight, (1,)).tolist() == [[[1, 2, 0]], [[0, 3, 4]]]
    assert phases_joined(weight, (3,)).tolist() == [[[1, 0, 0, 2, 0]], [[0, 3, 0, 0, 4]]]
    np.testing.assert_array_equal(phases_parted(phases_joined(weight, (3,)), (2,), (2,), (3,)), weight)


def random_layer(bias=True, phases=(2, 3)):
    layer = PhaseConv2d(2, 3, 3, phases, 1, bias=bias)
    generator = np.random.default_rng(5)
    weight = generator.normal(size=(*phases, 3, 2, 3, 3)).astype(np.float32)
    layer.set_phases(weight, generator.normal(size=(*phases, 3)).astype(np.float32) if bias else None)
    return layer.eval()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 6), (7, 8)])
def test_unbatched_and_smaller_than_the_period(size):
    layer = random_layer()
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    assert layer(x).shape == (3, *size)
    torch.testing.assert_close(layer(x), layer(x[None])[0], rtol=1e-6, atol=1e-6)


def test_exports_for_any_size_and_copies():
    layer = random_layer(bias=False, phases=(2, 2))
    free = {2: torch.export.Dim("h", min=4, max=64), 3: torch.export.Dim("w", min=4, max=64)}
    program = torch.export.export(layer, (torch.randn(1, 2, 8, 9),), dynamic_shapes=(free,))
    twins = [program.module(), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    for size in ((8, 9), (5, 7), (12, 4)):
        x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(1))
        for twin in twins:
            torch.testing.assert_close(twin(x), layer(x))
    assert "phases=(2, 2)" in repr(layer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_runs_the_same(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    layer = random_layer()
    x = torch.randn(1, 2, 7, 5, generator=torch.Generator().manual_seed(2))
    path = tmp_path / "layer.onnx"
    torch.onnx.export(layer, (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(found, layer(x).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_compiles_to_the_same():
    layer = random_layer()
    x = torch.randn(2, 2, 5, 4, generator=torch.Generator().manual_seed(3))
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


def test_gradients_reach_weight_and_input():
    layer = random_layer().double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(4))
    assert torch.autograd.gradcheck(layer, (x,))
    layer(x).sum().backward()
    assert layer.weight.grad.abs().max() > 0


def test_refusals():
    with pytest.raises(ParameterError, match=r"groups \(=2\) must be a divisor of .* out_channels \(=3\)"):
        PhaseConv1d(2, 3, 3, groups=2)
    layer = PhaseConv1d(1, 1, 3, 2, bias=False)
    with pytest.raises(ParameterError, match=r"weight has the shape \(3,\); expected \(2, 1, 1, 3\)"):
        layer.set_phases(np.zeros(3))
    with pytest.raises(ParameterError, match=r"bias has the shape \(2, 1\); expected None"):
        layer.set_phases(np.zeros((2, 1, 1, 3)), np.zeros((2, 1)))
