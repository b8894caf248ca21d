"""Tables of taps against the layers themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evenly.errors import ParameterError
from evenly.fix.scatter import Axis, Scatter, phase_convolution, subpixel, transposed

TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _weights(weight: torch.Tensor, bias: torch.Tensor) -> np.ndarray:
    """``(C_in, C_out, *kernel)`` as rows, taps first."""
    rows = np.moveaxis(weight.detach().numpy(), (0, 1), (-2, -1)).reshape(-1, weight.shape[1])
    return np.concatenate([rows, bias.detach().numpy()[None]])


@st.composite
def transposed_layers(draw):
    axes = draw(st.integers(1, 3))
    each = [draw(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 2))) for _ in range(axes)]
    kernel, stride, dilation = (tuple(e[i] for e in each) for i in range(3))
    padding = tuple(draw(st.integers(0, min(2, d * (k - 1)))) for k, d in zip(kernel, dilation, strict=True))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    sizes = tuple(draw(st.integers(3, 5)) for _ in range(axes))
    return axes, kernel, stride, padding, extra, dilation, sizes


@settings(max_examples=60, deadline=None)
@given(transposed_layers())
def test_a_transposed_convolution_is_its_table(parameters):
    axes, kernel, stride, padding, extra, dilation, sizes = parameters
    torch.manual_seed(0)
    layer = TRANSPOSED[axes](2, 3, kernel, stride, padding, extra, dilation=dilation).double()
    x = torch.randn(2, 2, *sizes, dtype=torch.float64)
    y = layer(x).detach().numpy()
    table = Scatter(
        tuple(
            transposed(n, o, k, s, p, d)
            for n, o, k, s, p, d in zip(sizes, y.shape[2:], kernel, stride, padding, dilation, strict=True)
        ),
        2,
    )
    np.testing.assert_allclose(table.output(x.numpy(), _weights(layer.weight, layer.bias)), y, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(k=st.integers(1, 4), s=st.integers(1, 3), p=st.integers(0, 2), d=st.integers(1, 2))
def test_a_subpixel_convolution_is_its_table(k, s, p, d):
    torch.manual_seed(0)
    size = 7
    if size + 2 * p < d * (k - 1) + 1:
        return
    layer = nn.Conv2d(2, 3 * s * s, k, padding=p, dilation=d).double()
    x = torch.randn(2, 2, size, size, dtype=torch.float64)
    shuffled = nn.functional.pixel_shuffle(layer(x), s).detach().numpy()
    axis = subpixel(size, k, s, p, d)
    # (C s s, C_in, k, k) -> taps (r, o) per axis
    rows = layer.weight.detach().numpy().reshape(3, s, s, 2, k, k).transpose(1, 4, 2, 5, 3, 0).reshape(-1, 3)
    found = Scatter((axis, axis), 2).output(x.numpy(), np.concatenate([rows, np.zeros((1, 3))]))
    bias = nn.functional.pixel_shuffle(layer.bias[None, :, None, None].expand(-1, -1, *layer(x).shape[2:]), s)
    np.testing.assert_allclose(found + bias.detach().numpy(), shuffled, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(k=st.integers(1, 4), period=st.integers(1, 3), p=st.integers(0, 2), d=st.integers(1, 2), size=st.integers(5, 8))
def test_equal_phases_make_a_plain_convolution(k, period, p, d, size):
    torch.manual_seed(0)
    if size + 2 * p < d * (k - 1) + period:  # every phase must have an output
        return
    layer = nn.Conv1d(2, 3, k, padding=p, dilation=d).double()
    x = torch.randn(2, 2, size, dtype=torch.float64)
    axis = phase_convolution(size, k, period, p, d)
    rows = np.tile(layer.weight.detach().numpy().transpose(2, 1, 0).reshape(-1, 3), (period, 1))
    weights = np.concatenate([rows, layer.bias.detach().numpy()[None]])
    np.testing.assert_allclose(Scatter((axis,), 2).output(x.numpy(), weights), layer(x).detach().numpy(), atol=1e-12)


def test_phases_of_a_phase_convolution_are_free():
    x = np.ones((1, 1, 6))
    axis = phase_convolution(6, 1, 2, 0, 1)
    out = Scatter((axis,), 1).output(x, np.array([[1.0], [5.0], [0.5]]))
    np.testing.assert_array_equal(out[0, 0], [1.5, 5.5, 1.5, 5.5, 1.5, 5.5])


@settings(max_examples=30, deadline=None)
@given(transposed_layers(), st.integers(0, 2**32 - 1))
def test_lines_are_the_transform_of_the_output(parameters, seed):
    axes, kernel, stride, padding, _, dilation, sizes = parameters
    rng = np.random.default_rng(seed)
    outputs = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    ]
    table = Scatter(
        tuple(
            transposed(n, o, k, s, p, d)
            for n, o, k, s, p, d in zip(sizes, outputs, kernel, stride, padding, dilation, strict=True)
        ),
        2,
    )
    x = rng.standard_normal((2, 2, *sizes))
    weights = rng.standard_normal((table.taps * 2 + 1, 3))
    weights[-1] = 0
    windows = [rng.standard_normal((2, o)) for o in outputs]
    frequency = rng.uniform(-0.5, 0.5, axes)
    y = table.output(x, weights)  # (2, 3, *outputs)
    for axis, (f, w) in enumerate(zip(frequency, windows, strict=True)):
        y = np.tensordot(y, w * np.exp(-2j * np.pi * f * np.arange(outputs[axis])), (2, 1))
    expected = np.moveaxis(y, 1, -1).reshape(-1, 3)
    np.testing.assert_allclose(table.lines(x, frequency, windows) @ weights[:-1], expected, atol=1e-10)


def test_more_than_three_axes_are_refused():
    axis = Axis(np.zeros((1, 1), np.int64), 1, 1)
    with pytest.raises(ParameterError, match="4 axes"):
        Scatter((axis,) * 4, 1)
