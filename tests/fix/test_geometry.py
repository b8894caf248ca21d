"""Layers as rows of weights: they give what the layer gives, and come back as edits of the same function."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from evenly.errors import ParameterError  # noqa: E402
from evenly.fix.geometry import Rows, padded  # noqa: E402
from evenly.fix.torch_backend import TorchBackend  # noqa: E402


def output(rows: Rows, weights: list[np.ndarray], x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Group by group."""
    groups = rows.layer.groups
    given = padded(rows, x.astype(np.float64))
    table = rows.scatter(given.shape[2:], like.shape[2:])
    parts = np.split(given, groups, axis=1)
    return np.concatenate([table.output(p, w) for p, w in zip(parts, weights, strict=True)], axis=1)


def check(module: nn.Module, x: torch.Tensor, name: str, extra: int, phases: int = 1) -> None:
    backend = TorchBackend(module.double().eval(), x)
    layer = next(layer for layer in backend.layers() if layer.name == name)
    seen = backend.run(x, [name]).results[name]
    rows = Rows.of(layer, extra, phases)
    weights = rows.weights()
    if layer.kind != "subpixel":  # its bias may differ by phase; rows have one
        np.testing.assert_allclose(output(rows, weights, x.numpy(), seen), seen, atol=1e-9)
    rng = np.random.default_rng(0)
    other = [w + rng.standard_normal(w.shape) for w in weights]
    edited = backend.edited([rows.edit(other)])
    found = edited.run(x, [name]).results[name]
    np.testing.assert_allclose(found, output(rows, other, x.numpy(), found), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(3, 2, 1, 1, 1), (4, 2, 1, 0, 1), (5, 3, 1, 2, 1), (2, 2, 0, 0, 1), (3, 2, 2, 1, 2)]),
    st.integers(1, 2),
    st.integers(0, 2),
    st.sampled_from([1, 2]),
)
def test_transposed(shape, axes, extra, groups):
    k, s, p, a, d = shape
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d)[axes - 1]
    module = nn.Sequential(kind(4, 2, k, s, p, a, groups=groups, dilation=d))
    check(module, torch.randn(2, 4, *(6, 5)[:axes], dtype=torch.float64), "0", extra)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(2, 3), st.integers(0, 2), st.sampled_from(["zeros", "reflect", "replicate"]))
def test_subpixel(kernel, factor, extra, mode):
    padding = kernel // 2
    module = nn.Sequential(
        nn.Conv2d(2, 3 * factor**2, kernel, padding=padding, padding_mode=mode), nn.PixelShuffle(factor)
    )
    check(module, torch.randn(2, 2, 7, 6, dtype=torch.float64), "0", extra)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([(1, 0), (3, 1), (5, 2)]), st.integers(1, 3), st.integers(0, 1), st.integers(1, 2))
def test_plain_by_phase(shape, phases, extra, axes):
    kernel, padding = shape
    kind = (nn.Conv1d, nn.Conv2d)[axes - 1]
    module = nn.Sequential(kind(2, 3, kernel, padding=padding))
    check(module, torch.randn(2, 2, *(8, 9)[:axes], dtype=torch.float64), "0", extra, phases)


def test_what_makes_no_sense_is_refused():
    x = torch.randn(1, 2, 8, 8)
    strided = TorchBackend(nn.Conv2d(2, 3, 3, 2), x).layers()[0]
    with pytest.raises(ParameterError, match="stride"):
        Rows.of(strided)
    up = TorchBackend(nn.ConvTranspose2d(2, 3, 3, 2), x).layers()[0]
    with pytest.raises(ParameterError, match="phases"):
        Rows.of(up, phases=2)
