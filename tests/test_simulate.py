"""The simulator itself, on networks whose answers are known by hand (THEORY 4 to 6)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from simulate import NoInteriorError, simulate_backward, simulate_forward

SEEDS = range(4)
WIDTH = 96


def up(kernel: int, stride: int = 2) -> nn.ConvTranspose2d:
    """A transposed convolution that multiplies the size by its stride."""
    total = kernel - stride
    return nn.ConvTranspose2d(WIDTH, WIDTH, kernel, stride, -(-total // 2), total % 2)


def stack(*layers: nn.Module) -> nn.Sequential:
    """Layers with ReLU between them, none after the last."""
    parts = [part for layer in layers for part in (layer, nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def forward(net: nn.Module, n: int = 4, seeds=SEEDS, **options):
    return simulate_forward(net, (torch.zeros(1, WIDTH, n, n),), seeds, **options)


@pytest.mark.parametrize(
    ("net", "period", "unevenness"),
    [
        (stack(up(3)), 2, 4.0),
        (stack(up(3), up(3)), 4, 9.0),
        (stack(up(5), up(5)), 4, 2.56),
        (stack(up(4), up(4)), 4, 1.0),
        (stack(up(3), up(3), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)), 4, 1.78),
        (stack(nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)), 1, 1.0),
    ],
)
def test_period_and_variance_map(net: nn.Module, period: int, unevenness: float) -> None:
    result = forward(net)
    assert result.period == (period, period)
    assert result.unevenness == pytest.approx(unevenness, rel=0.12)


@pytest.mark.parametrize(
    ("net", "fraction"),
    [
        (stack(up(3), up(3)), 0.882),
        (stack(up(4), up(4)), 0.878),
        (stack(up(4), nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)), 0.511),
        (stack(nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), up(4)), 0.750),
    ],
)
def test_share_of_power_that_is_not_constant(net: nn.Module, fraction: float) -> None:
    assert forward(net).ac_fraction == pytest.approx(fraction, abs=0.04)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_resize_convolution_leaves_exactly_nothing(mode: str) -> None:
    resize = nn.Upsample(scale_factor=2, mode=mode, align_corners=None if mode == "nearest" else False)
    result = forward(stack(resize, nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)))
    assert result.period == (1, 1)
    assert result.ac_fraction < 1e-12


@pytest.mark.parametrize(
    "net",
    [
        stack(up(4), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), up(3)),
        stack(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), up(4)),
        stack(nn.Conv2d(WIDTH, WIDTH, 4, 2, 1), nn.MaxPool2d(3, 2, 1), up(4), up(5)),
    ],
)
def test_the_torus_is_the_middle_of_a_large_canvas(net: nn.Module) -> None:
    torus = forward(net, 4, seeds=[0])
    canvas = forward(net, 48, seeds=[0], borders="canvas", bound=max(torus.period))
    assert canvas.period == torus.period
    # The scale of every layer differs, since the border counts on the canvas; the pattern does not.
    pattern = [r.moments / r.moments.mean() for r in (torus, canvas)]
    shifts = [np.roll(pattern[1], (i, j), (0, 1)) for i in range(torus.period[0]) for j in range(torus.period[1])]
    assert min(np.abs(pattern[0] - s).max() for s in shifts) < 1e-9
    assert canvas.ac_fraction == pytest.approx(torus.ac_fraction, rel=1e-9)


def test_a_canvas_without_interior_is_refused() -> None:
    net = stack(*[nn.Conv2d(WIDTH, WIDTH, 5, 1, 2) for _ in range(4)])
    with pytest.raises(NoInteriorError, match="border reaches"):
        forward(net, 9, seeds=[0], borders="canvas", bound=1)


def test_a_filter_kept_as_a_buffer_stays() -> None:
    class Fir(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tap = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
            self.register_buffer("taps", torch.outer(tap, tap).expand(WIDTH, 1, 4, 4).clone())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv_transpose2d(x, self.taps, stride=2, padding=1, groups=WIDTH)

    assert forward(stack(Fir())).period == (1, 1)


def test_weight_and_spectral_normalisation_are_drawn_as_weights() -> None:
    net = stack(nn.utils.parametrizations.weight_norm(up(4)), nn.utils.parametrizations.spectral_norm(up(3)))
    assert forward(net).period == (4, 4)


def test_start_inside_the_network() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(8, WIDTH, 4, 1, 0), nn.ReLU(), up(4))
    result = simulate_forward(net, (torch.zeros(1, 8, 1, 1),), SEEDS, start_at=("0", (4, 4)), head="2", head_factor=2)
    assert result.period == (2, 2)
    assert result.ac_fraction == pytest.approx(0.75, abs=0.04)


def backward(net: nn.Module, period: int, n: int = 64, channels: int = 3, **options):
    return simulate_backward(net, (torch.zeros(1, channels, n, n),), range(6), period=period, **options)


@pytest.mark.parametrize("borders", ["torus", "canvas"])
def test_gradient_of_a_strided_convolution(borders: str) -> None:
    result = backward(nn.Conv2d(3, WIDTH, 3, 2, 1), 2, borders=borders)
    pattern = np.sort((result.moments / result.moments.min()).ravel())
    np.testing.assert_allclose(pattern, [1, 2, 2, 4], rtol=0.12)
    assert result.unevenness == pytest.approx(4, rel=0.12)
    assert result.dead_fraction == 0


def test_a_kernel_smaller_than_its_stride_leaves_dead_positions() -> None:
    result = backward(nn.Conv2d(3, WIDTH, 1, 2), 2)
    assert result.unevenness == float("inf")
    assert result.dead_fraction == 0.75


@pytest.mark.parametrize(
    ("net", "period", "unevenness"),
    [
        (nn.Conv2d(3, WIDTH, 4, 2, 1), 2, 1.0),
        (nn.Sequential(nn.Conv2d(3, WIDTH, 3, 1, 1), nn.MaxPool2d(2)), 2, 1.0),
        (nn.Sequential(nn.Conv2d(3, WIDTH, 7, 2, 3)), 2, 16 / 9),
        (nn.Sequential(nn.Conv2d(3, WIDTH, 11, 4, 4)), 4, 9 / 4),
    ],
)
def test_gradient_unevenness(net: nn.Module, period: int, unevenness: float) -> None:
    assert backward(net, period).unevenness == pytest.approx(unevenness, rel=0.12)
