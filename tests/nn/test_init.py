"""Initialisation: the gains against simulation, and networks whose scale a swap leaves alone."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evenly.errors import ParameterError
from evenly.nn.balanced import BalancedConvTranspose1d, BalancedConvTranspose2d, BalancedConvTranspose3d
from evenly.nn.init import (
    autocorrelation,
    icnr_,
    icnr_transposed_,
    match_,
    matched_std,
    output_gain,
    unit_gain,
    variance_matched_,
)
from evenly.nn.resampling import resize
from evenly.nn.subpixel import SubpixelConv1d, SubpixelConv2d, SubpixelConv3d
from evenly.nn.utils import remove
from evenly.theory.phases import dc_gains, ripple

SEED = st.integers(0, 2**31 - 1)
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Resized(nn.Module):
    """Resize, then convolve, written out; it has what `evenly.nn.init` looks for."""

    def __init__(self, channels: tuple[int, int], kernel: int, scale: float, mode: str, dims: int = 2, **kw) -> None:
        super().__init__()
        self.inner = CONVOLUTIONS[dims](*channels, kernel, **kw)
        self.in_channels, self.out_channels = channels
        self.kernel_size, self.dilation, self.groups = self.inner.kernel_size, self.inner.dilation, self.inner.groups
        self.scale_factor, self.mode = (scale,) * dims, mode

    weight = property(lambda self: self.inner.weight)
    bias = property(lambda self: self.inner.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(resize(x, self.scale_factor, self.mode))


LAYERS = {
    "conv": lambda **kw: nn.Conv2d(4, 6, 3, dilation=2, groups=2, **kw),
    "conv-transpose": lambda **kw: nn.ConvTranspose2d(4, 6, (3, 4), 2, groups=2, **kw),
    "conv-transpose-dilated": lambda **kw: nn.ConvTranspose1d(4, 6, 5, 3, dilation=2, **kw),
    "conv-transpose-3d": lambda **kw: nn.ConvTranspose3d(2, 2, 3, 2, **kw),
    "balanced": lambda **kw: BalancedConvTranspose2d(4, 6, 4, 2, **kw),
    "balanced-uneven": lambda **kw: BalancedConvTranspose1d(4, 6, 7, 3, order=2, **kw),
    "subpixel": lambda **kw: SubpixelConv2d(4, 4, 3, (2, 3), groups=2, **kw),
    "subpixel-balanced": lambda **kw: SubpixelConv1d(4, 6, 3, 4, balanced=True, icnr=False, **kw),
    "nearest": lambda **kw: Resized((4, 6), 3, 2, "nearest", **kw),
    "bilinear": lambda **kw: Resized((4, 6), 3, 3, "bilinear", **kw),
    "bicubic": lambda **kw: Resized((4, 6), 3, 2, "bicubic", dilation=2, **kw),
    "fir": lambda **kw: Resized((4, 6), 4, 2, "fir:1,3,3,1", **kw),
    "linear": lambda **kw: Resized((4, 6), 5, 4, "linear", 1, groups=2, **kw),
    "trilinear": lambda **kw: Resized((2, 2), 2, 2, "trilinear", 3, **kw),
    "not-whole": lambda **kw: Resized((4, 6), 3, 2.5, "linear", 1, **kw),
}
# one period of the output, in samples, and where it starts on an input of 10 samples
PERIOD = {"conv-transpose-dilated": 3, "balanced-uneven": 3, "subpixel": 6, "subpixel-balanced": 4, "bilinear": 3,
          "linear": 4, "not-whole": 5}  # fmt: skip


def dimensions(layer: nn.Module) -> int:
    return layer.weight.dim() - 2


def covariance(size: int, dims: int, rho: float) -> torch.Tensor:
    """Between all positions of an input, written out position by position."""
    grid = np.stack(np.meshgrid(*[np.arange(size)] * dims, indexing="ij"), -1).reshape(-1, dims)
    lag = np.abs(grid[:, None] - grid[None]).sum(-1)
    return torch.from_numpy(np.where(lag == 0, 1.0, float(rho) ** lag))


def response(layer: nn.Module, size: int) -> torch.Tensor:
    """``(outputs, C_in, positions)``: what each output of one period in the middle takes from each input."""
    dims, channels = dimensions(layer), layer.in_channels
    inputs = channels * size**dims
    with torch.no_grad():
        y = layer(torch.eye(inputs, dtype=torch.float64).reshape(inputs, channels, *(size,) * dims))
    return y.reshape(channels, size**dims, *y.shape[1:])


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("name", LAYERS)
def test_output_gain_is_the_layers(name: str, rho: float) -> None:
    """Exact: the layer's own matrix, from impulses, times a covariance written out."""
    torch.manual_seed(0)
    layer = LAYERS[name](bias=False, dtype=torch.float64)
    dims = dimensions(layer)
    size = 14 if dims == 1 else 10 if dims == 2 else 7
    rows = response(layer, size)  # (C_in, positions, C_out, *output)
    period = PERIOD.get(name, 2)
    for axis in range(3, 3 + dims):
        rows = rows.narrow(axis, (rows.shape[axis] - period) // 2, period)
    flat = rows.reshape(layer.in_channels, size**dims, -1)
    power = torch.einsum("cpo,pq,cqo->o", flat, covariance(size, dims, rho), flat)
    assert output_gain(layer, rho) == pytest.approx(float(power.mean()), rel=1e-9)


@pytest.mark.parametrize("rho", [0.0, 1.0])
@pytest.mark.parametrize("name", LAYERS)
def test_unit_gain_is_the_expectation(name: str, rho: float) -> None:
    """Over drawn weights: the mean gain over their variance."""
    torch.manual_seed(0)
    layer = LAYERS[name](bias=False, dtype=torch.float64)
    gains = []
    for _ in range(300):
        with torch.no_grad():
            if hasattr(layer, "icnr") and layer.icnr:
                icnr_(layer.weight, layer.scale_factor, nn.init.normal_)
            elif hasattr(layer, "parametrizations"):
                layer.parametrizations.weight.original.normal_()
            else:
                layer.weight.normal_()
        gains.append(output_gain(layer, rho))
    error = np.std(gains) / sqrt(len(gains))
    assert abs(np.mean(gains) - unit_gain(layer, rho)) < 4 * error
    assert error < 0.05 * unit_gain(layer, rho)


@pytest.mark.parametrize("name", LAYERS)
def test_white_noise_through_the_layer(name: str) -> None:
    """Simulated: noise in, variance out."""
    torch.manual_seed(1)
    layer = LAYERS[name](bias=False)
    dims = dimensions(layer)
    with torch.no_grad():
        y = layer(torch.randn(4000 // 8**dims + 60, layer.in_channels, *(24 if dims < 3 else 10,) * dims))
    for axis in range(2, 2 + dims):
        period = PERIOD.get(name, 2)
        whole = (y.shape[axis] * 2 // 3) // period * period
        y = y.narrow(axis, (y.shape[axis] - whole) // 2, whole)
    assert float(y.square().mean()) == pytest.approx(output_gain(layer), rel=0.06)


@pytest.mark.parametrize("dims", [1, 2, 3])
@given(k=st.integers(1, 5), s=st.integers(1, 3), groups=st.sampled_from([1, 2]), seed=SEED)
def test_pytorchs_default_has_the_stated_gain(dims: int, k: int, s: int, groups: int, seed: int) -> None:
    """``C_in / (3 C_out S)`` for every kernel size: the law that everything here is matched to."""
    torch.manual_seed(seed)
    cls = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
    layer = cls(8, 4 * groups, k, s, groups=groups)
    bound = 1 / sqrt(4 * k**dims)
    assert float(layer.weight.detach().abs().max()) <= bound + 1e-6
    variance = bound**2 / 3
    assert variance * unit_gain(layer) == pytest.approx(8 / (3 * 4 * groups * s**dims))
    variance_matched_(layer)  # is the default itself
    assert 0.5 * bound < float(layer.weight.detach().abs().max()) <= bound + 1e-6
    assert float(layer.bias.detach().abs().max()) <= bound + 1e-6


WIDE = {
    "subpixel-1d": lambda: SubpixelConv1d(96, 48, 5, 4),
    "subpixel": lambda: SubpixelConv2d(96, 48, 3, 2),
    "subpixel-free": lambda: SubpixelConv2d(96, 48, 3, 2, icnr=False, groups=2),
    "subpixel-balanced": lambda: SubpixelConv2d(96, 48, 3, 2, icnr=False, balanced=True),
    "subpixel-3d": lambda: SubpixelConv3d(64, 32, 3, 2, balanced=True),
    "balanced-1d": lambda: BalancedConvTranspose1d(96, 48, 8, 4),
    "balanced": lambda: BalancedConvTranspose2d(96, 48, 4, 2, 1),
    "balanced-uneven": lambda: BalancedConvTranspose2d(96, 48, 3, 2, order=2),
    "balanced-3d": lambda: BalancedConvTranspose3d(64, 32, 4, 2, groups=2),
}


@pytest.mark.parametrize("name", WIDE)
def test_the_default_is_the_scale_of_the_layer_replaced(name: str) -> None:
    torch.manual_seed(0)
    layer = WIDE[name]()
    factor = prod(layer.scale_factor if hasattr(layer, "scale_factor") else layer.stride)
    target = layer.in_channels / (3 * layer.out_channels * factor)
    assert output_gain(layer) == pytest.approx(target, rel=0.05)
    with torch.no_grad():
        before = layer.weight.clone()
        layer.reset_parameters()
        assert not torch.equal(layer.weight, before)  # also where the weight is parametrized
    assert output_gain(layer) == pytest.approx(target, rel=0.05)


def test_a_resize_convolution_gets_the_same_scale() -> None:
    torch.manual_seed(0)
    for mode, scale in (("nearest", 2), ("bilinear", 2), ("fir:1,3,3,1", 2), ("nearest", 3), ("bilinear", 2.5)):
        layer = Resized((96, 48), 3, scale, mode)
        variance_matched_(layer)
        assert output_gain(layer) == pytest.approx(96 / (3 * 48 * scale**2), rel=0.05)


def scale(make) -> float:
    """Second moment of the activations in the middle after three layers, mean of eight networks."""
    torch.manual_seed(3)
    moments = []
    for _ in range(8):
        net = nn.Sequential(make(64, 64), nn.ReLU(), make(64, 48), nn.ReLU(), make(48, 32), nn.ReLU())
        y = net(torch.randn(8, 64, 8, 8)).detach()
        moments.append(float(y[..., 16:-16, 16:-16].square().mean()))
    return float(np.mean(moments))


def test_swapping_leaves_a_networks_scale_alone() -> None:
    """Three layers with ReLUs between them, each replaced: the activations keep their scale without any tuning."""
    rectified = torch.tensor([[1.0, 1 / np.pi], [1 / np.pi, 1 / np.pi]])  # white noise after a ReLU
    wanted = scale(lambda i, o: nn.ConvTranspose2d(i, o, 4, 2, 1))
    made = {
        "subpixel": scale(lambda i, o: SubpixelConv2d(i, o, 3)),
        "nearest": scale(lambda i, o: variance_matched_(Resized((i, o), 3, 2, "nearest", padding=1))),
        "balanced": scale(lambda i, o: BalancedConvTranspose2d(i, o, 4, 2, 1)),
        # smoothing passes more of features with a mean than of white ones, and is told of them
        "bilinear": scale(lambda i, o: variance_matched_(Resized((i, o), 3, 2, "bilinear", padding=1), rectified)),
    }
    assert made == pytest.approx(dict.fromkeys(made, wanted), rel=0.35)
    # what people see who swap and keep the convolution's own default
    assert scale(lambda i, o: Resized((i, o), 3, 2, "nearest", padding=1)) > 5 * wanted


def test_balanced_layers_pass_on_less_of_a_constant() -> None:
    """At equal gain for white inputs, ``k4 s2`` in 2-D: 8/26 of the plain layer's gain for a constant."""
    plain, layer = nn.ConvTranspose2d(4, 4, 4, 2, 1), BalancedConvTranspose2d(4, 4, 4, 2, 1)
    ratio = unit_gain(layer, 1.0) / unit_gain(layer, 0.0) * unit_gain(plain, 0.0) / unit_gain(plain, 1.0)
    assert ratio == pytest.approx(4 / 13)
    torch.manual_seed(0)
    wide = BalancedConvTranspose2d(96, 48, 4, 2, 1)
    variance_matched_(wide, correlation=1.0)
    assert output_gain(wide, 1.0) == pytest.approx(96 / (3 * 48 * 4), rel=0.08)


def test_dcgans_initialisation() -> None:
    old, new = nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), Resized((64, 32), 3, 2, "nearest", bias=False)
    assert matched_std(new, old, 0.02) == pytest.approx(0.02 * sqrt(4 / 9))
    torch.manual_seed(0)
    nn.init.normal_(old.weight, 0, 0.02)
    nn.init.normal_(new.inner.weight, 0, matched_std(new, old, 0.02))
    assert output_gain(old) == pytest.approx(64 * 16 * 0.0004 / 4, rel=0.05)
    assert output_gain(new) == pytest.approx(output_gain(old), rel=0.05)


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", [n for n in LAYERS if n not in ("conv-transpose-3d", "trilinear")])
def test_match_takes_over_gain_and_bias(name: str, rho: float) -> None:
    torch.manual_seed(0)
    new = LAYERS[name]()
    cls = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[dimensions(new)]
    old = cls(4, new.out_channels, 4, 2)
    with torch.no_grad():
        old.weight.mul_(7)
    assert match_(new, old, rho) is new
    assert output_gain(new, rho) == pytest.approx(output_gain(old, rho), rel=1e-5)
    phases = new.bias.shape[0] // old.bias.shape[0]
    torch.testing.assert_close(new.bias.view(-1, phases), old.bias[:, None].expand(-1, phases))
    match_(old, new)
    torch.testing.assert_close(old.bias, new.bias.view(-1, phases).mean(1))


# ---- equal phases ----------------------------------------------------------------------------------------------------


@given(s=st.integers(1, 4), channels=st.integers(1, 3), seed=SEED)
def test_icnr_gives_every_phase_the_same(s: int, channels: int, seed: int) -> None:
    torch.manual_seed(seed)
    weight = torch.empty(channels * s * s, 5, 3, 3)
    seen: list[tuple[int, ...]] = []

    def initializer(part: torch.Tensor) -> None:
        seen.append(tuple(part.shape))
        nn.init.normal_(part)

    assert icnr_(weight, s, initializer) is weight
    assert seen == [(channels, 5, 3, 3)]  # so that a fan-in rule sees the convolution's own fan
    by_phase = weight.view(channels, s * s, 5, 3, 3)
    assert torch.equal(by_phase, by_phase[:, :1].expand_as(by_phase))
    assert by_phase[:, 0].unique().numel() == by_phase[:, 0].numel()


@pytest.mark.parametrize("groups", [1, 2])
@given(q=st.integers(1, 3), s=st.integers(1, 3), d=st.sampled_from([1, 5]), seed=SEED)
def test_icnr_for_transposed_convolutions(groups: int, q: int, s: int, d: int, seed: int) -> None:
    """The layer starts as a convolution at low resolution, repeated ``s`` times per axis."""
    torch.manual_seed(seed)
    layer = nn.ConvTranspose2d(4, 6, q * s, s, groups=groups, bias=False, dilation=d, dtype=torch.float64)
    icnr_transposed_(layer.weight, s, nn.init.normal_, groups)
    assert ripple(dc_gains(layer.weight.detach().numpy(), (s, s), (d, d))) < 1e-12
    if d == 1:
        small = torch.empty(6, 4 // groups, q, q, dtype=torch.float64)
        torch.manual_seed(seed)
        nn.ConvTranspose2d(4, 6, q * s, s, groups=groups, bias=False, dilation=d, dtype=torch.float64)
        nn.init.normal_(small)
        x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
        low = nn.functional.conv2d(x, small.flip(-1, -2), padding=q - 1, groups=groups)
        wanted = low.repeat_interleave(s, 2).repeat_interleave(s, 3)
        torch.testing.assert_close(layer(x).detach(), wanted, atol=1e-10, rtol=0)


# ---- correlation -----------------------------------------------------------------------------------------------------


def test_autocorrelation_measures_what_is_there() -> None:
    torch.manual_seed(0)
    white = autocorrelation(torch.randn(64, 8, 16, 16), lags=3)
    assert white.shape == (3, 3)
    assert white[0, 0] == 1
    assert float((white - torch.eye(3)[:, :1] * torch.eye(3)[:1]).abs().max()) < 0.02
    relu = autocorrelation(torch.randn(64, 8, 16, 16).relu(), lags=2)  # mean^2 over power: (1/2 pi) / (1/2)
    assert float(relu[0, 1]) == pytest.approx(1 / np.pi, abs=0.01)
    diagonal = torch.randn(64, 8, 16, 1).expand(-1, -1, 16, 16).contiguous()
    assert float(autocorrelation(diagonal, lags=2)[0, 1]) == pytest.approx(1)
    assert autocorrelation(torch.ones(1, 1, 2), lags=5).tolist() == [1, 1]


@pytest.mark.parametrize("name", ["conv-transpose", "balanced", "subpixel", "nearest", "bilinear", "fir"])
def test_a_table_says_the_same_as_a_number(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    lag = torch.arange(12.0)
    table = 0.6 ** (lag[:, None] + lag)
    assert output_gain(layer, table) == pytest.approx(output_gain(layer, 0.6), rel=1e-3)
    assert output_gain(layer, torch.ones(1, 1)) == pytest.approx(output_gain(layer, 1.0))  # the last lag goes on


def test_measured_correlation_predicts_rectified_features() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 64, 10, 10).relu()
    layer = BalancedConvTranspose2d(64, 64, 4, 2, bias=False)
    y = layer(x).detach()[..., 6:-6, 6:-6]
    power = float(x.square().mean())
    predicted = output_gain(layer, autocorrelation(x)) * power
    # channels share the sign of their mean, so only the weights' independence over channels makes the sum add up
    assert float(y.square().mean()) == pytest.approx(predicted, rel=0.15)
    assert abs(output_gain(layer) * power / predicted - 1) > 0.15  # white would be off


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: icnr_(torch.empty(6, 2, 3, 3), 2), r"weight\.shape\[0\] \(=6\).*divisible"),
        (lambda: icnr_transposed_(torch.empty(2, 2, 3), 2), r"kernel_size \(=\(3,\)\).*balance"),
        (lambda: icnr_transposed_(torch.empty(3, 2, 4), 2, groups=2), r"groups \(=2\)"),
        (lambda: output_gain(nn.Linear(2, 2)), r"layer \(=Linear\)"),
        (lambda: output_gain(nn.Conv1d(2, 2, 3), 1.5), r"correlation \(=1\.5\)"),
        (lambda: output_gain(nn.Conv1d(2, 2, 3), torch.ones(2, 2)), "1 axes of lags"),
        (lambda: variance_matched_(nn.Conv1d(2, 2, 3)), "up-sampling"),
        (lambda: match_(nn.Conv1d(2, 2, 3), nn.ConvTranspose1d(2, 3, 3)), r"out_channels \(=2\)"),
        (lambda: autocorrelation(torch.zeros(1, 1, 4)), "not all zero"),
        (lambda: autocorrelation(torch.ones(1, 1, 4), 0), r"lags \(=0\)"),
    ],
)
def test_wrong_arguments_are_named(call, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        call()


def test_matching_zero_weights_is_refused() -> None:
    new = remove(BalancedConvTranspose1d(2, 2, 4, 2))
    nn.init.zeros_(new.weight)
    with pytest.raises(ParameterError, match="above 0"):
        match_(new, nn.ConvTranspose1d(2, 2, 4, 2))
