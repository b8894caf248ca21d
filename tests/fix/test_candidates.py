"""Which layers are solved, in which order, and what they cost, counted a second time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from evenly.fix.candidates import (  # noqa: E402
    EXTRA,
    MOST_UNKNOWNS,
    candidates,
    described,
    monotone,
    multiply_adds,
    recorded,
)
from evenly.fix.geometry import Rows  # noqa: E402
from evenly.fix.torch_backend import TorchBackend  # noqa: E402


class Shuffled(nn.Module):
    """A sub-pixel convolution, and a convolution behind it."""

    def __init__(self, factor: int, groups: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 4 * factor**2, 3, padding=1, groups=groups)
        self.shuffle = nn.PixelShuffle(factor)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.last(self.shuffle(self.wide(x))))


@given(
    k=st.integers(1, 5), s=st.integers(1, 4), d=st.integers(1, 2), g=st.sampled_from([1, 2]), kind=st.booleans(),
    sizes=st.tuples(st.integers(9, 12), st.integers(9, 12)),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_multiply_adds_are_those_that_torch_counts(k, s, d, g, kind, sizes):
    torch.manual_seed(0)
    make = nn.ConvTranspose2d if kind else nn.Conv2d
    net = nn.Sequential(make(4, 6, k, s, 0, dilation=d, groups=g)).eval()
    x = torch.ones(2, 4, *sizes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    backend = TorchBackend(net, x)
    run = recorded(backend, x)
    (layer,) = backend.layers()
    found = multiply_adds(layer, run.inputs[layer.name].shape, run.results[layer.name].shape)
    assert 2 * found == counter.get_total_flops()


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_unknowns_are_the_rows_that_are_solved(factor, groups):
    net, x = Shuffled(factor, groups).eval(), torch.randn(2, 4, 8, 8)
    backend = TorchBackend(net, x)
    recorded(backend, x)
    wide, last = backend.layers()
    assert (wide.kind, last.kind) == ("subpixel", "convolution")
    for layer, extra, phases in ((wide, 0, 1), (wide, 1, 1), (last, 0, 2), (last, 1, 3)):
        assert Rows.of(layer, extra, phases).unknowns == len(Rows.of(layer, extra, phases).weights()[0])
    assert multiply_adds(wide, (2, 4, 8, 8), (2, 4, 8 * factor, 8 * factor)) == 2 * 64 * 4 * factor**2 * 4 // groups * 9


def test_the_cheapest_comes_first_and_plain_weights_before_others():
    torch.manual_seed(0)
    net, x = Shuffled(2, 1).eval(), torch.randn(2, 4, 16, 16)
    backend = TorchBackend(net, x)
    found, refused = candidates(backend, x, "output", (2,))
    assert [(c.layer, c.extra, c.phases) for c in found] == [
        *(("wide", extra, 1) for extra in EXTRA), ("last", 0, 2), ("last", 1, 2),
    ]  # fmt: skip
    assert not refused
    assert [c.gathered for c in found] == [0, 2, 2, 5, 5, 5, 0, 1]  # what is gathered for more holds that for fewer
    assert found[0].cost == 1.0
    own, behind = 256 * 16 * 4 * 9, 1024 * 3 * 4 * 9  # of both layers, per signal
    assert found[1].cost == pytest.approx((own * 25 / 9 + behind) / (own + behind))
    assert [c.layer for c in candidates(backend, x, "output", (2,), ["last"])[0]] == ["last", "last"]


def test_what_cannot_be_solved_is_said(monkeypatch):
    net, x = Shuffled(2, 1).eval(), torch.randn(2, 4, 16, 16)
    backend = TorchBackend(net, x)
    monkeypatch.setattr("evenly.fix.candidates.MOST_UNKNOWNS", 300)
    found, refused = candidates(backend, x, "output", (2,))
    assert ("wide", 1, 1) not in [(c.layer, c.extra, c.phases) for c in found]
    assert any("wide: 401 unknowns" in reason for reason in refused)
    assert MOST_UNKNOWNS > 2000


def test_words_of_a_layer():
    layer = TorchBackend(nn.Sequential(nn.ConvTranspose2d(4, 6, (4, 3), (2, 1), dilation=(1, 2), groups=2))).layers()[0]
    assert described(layer) == "transposed convolution, kernel 4x3, stride 2x1, dilation 1x2, 2 groups"
    assert described(replace(layer, groups=1, dilation=(1, 1))) == "transposed convolution, kernel 4x3, stride 2x1"


def test_monotone():
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    assert monotone(x, np.tanh(x))
    assert monotone(x, np.clip(x, 0, 1))
    assert monotone(x, np.arange(1, 4)[:, None, None] * x - np.arange(3)[:, None, None])
    assert not monotone(x, -x)
    assert not monotone(x, x[:, :, ::-1])
    assert not monotone(x, x[:, :2])
