"""Networks of evenly.nn's layers only, as its checker reads them: certified, and without an error either way."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import evenly
from evenly import nn as enn
from evenly.check.result import Report

Build = Callable[[], nn.Module]

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def of(name: str, dims: int) -> Any:
    return getattr(enn, f"{name}{dims}d")


def generator(up: Callable[[int, int], nn.Module], dims: int) -> nn.Module:
    """Two up-sampling layers with a convolution between them."""
    conv = CONV[dims]
    return nn.Sequential(
        up(3, 6), nn.LeakyReLU(0.2), conv(6, 4, 3, padding=1, padding_mode="circular"), nn.ReLU(), up(4, 2), nn.Tanh()
    )


def classifier(dims: int, pool: nn.Module | None = None) -> nn.Module:
    mean = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dims - 1]
    return nn.Sequential(
        of("AntialiasedConv", dims)(3, 4, 3, 2, padding=1),
        nn.ReLU(),
        of("AntialiasedMaxPool", dims)(2) if pool is None else pool,
        CONV[dims](4, 4, 3, padding=1),
        nn.ReLU(),
        of("BlurPool", dims)(),
        mean(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


class EncoderDecoder(nn.Module):
    """As a U-Net: down twice, up twice, with joins."""

    def __init__(self, up: Callable[[int, int], nn.Module], dims: int) -> None:
        super().__init__()
        conv, down = CONV[dims], of("AntialiasedConv", dims)
        self.first = conv(2, 4, 3, padding=1)
        self.down1, self.down2 = down(4, 4, 3, 2, padding=1), down(4, 4, 3, 2, padding=1)
        self.up2, self.up1 = up(4, 4), up(8, 4)
        self.last = conv(8, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.first(x))
        b = torch.relu(self.down1(a))
        c = torch.relu(self.down2(b))
        c = torch.cat([self.up2(c), b], 1).relu()
        return self.last(torch.cat([self.up1(c), a], 1).relu())  # type: ignore[no-any-return]


UPS: dict[str, Callable[[int], Callable[[int, int], nn.Module]]] = {
    "nearest": lambda n: lambda i, o: of("ResizeConv", n)(i, o, 3),
    "nearest, replicate": lambda n: lambda i, o: of("ResizeConv", n)(i, o, 3, padding_mode="replicate"),
    "linear": lambda n: lambda i, o: of("ResizeConv", n)(i, o, 3, mode="linear"),
    "fir": lambda n: lambda i, o: of("ResizeConv", n)(i, o, 3, mode="fir:1,3,3,1"),
    "folded": lambda n: lambda i, o: of("ResizeConv", n)(i, o, 3, implementation="folded"),
    "sub-pixel": lambda n: lambda i, o: of("SubpixelConv", n)(i, o, 3, balanced=True),
    "balanced": lambda n: lambda i, o: of("BalancedConvTranspose", n)(i, o, 4, 2, 1),
    "balanced, order 2": lambda n: lambda i, o: of("BalancedConvTranspose", n)(i, o, 4, 2, 1, order=2),
    "uneven overlap": lambda n: lambda i, o: of("BalancedConvTranspose", n)(i, o, 3, 2, 1, 1),
    "filter": lambda n: lambda i, o: nn.Sequential(of("FIRUpsample", n)(), CONV[n](i, o, 3, padding=1)),
}
SIZES = {1: (32,), 2: (16, 16), 3: (8, 8, 8)}
WIDE = {1: (32,), 2: (32, 32), 3: (16, 16, 16)}  # for what goes down first

NETS: dict[str, tuple[int, int, Build]] = {
    **{
        f"generator {n}-D, {name}": (n, 3, lambda make=make, n=n: generator(make(n), n))  # type: ignore[misc]
        for n in SIZES
        for name, make in UPS.items()
    },
    **{f"classifier {n}-D": (n, 3, lambda n=n: classifier(n)) for n in SIZES},  # type: ignore[misc]
    **{
        f"U-Net {n}-D, {name}": (n, 2, lambda make=UPS[name], n=n: EncoderDecoder(make(n), n))  # type: ignore[misc]
        for n in (1, 2)
        for name in ("nearest", "sub-pixel", "balanced")
    },
}


def network(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(len(name))
    dims, channels, build = NETS[name]
    return build().eval(), torch.zeros(
        1, channels, *(SIZES[dims] if channels == 3 and "class" not in name else WIDE[dims])
    )


def export(module: nn.Module, x: Tensor, path: Path) -> Path:
    logging.getLogger("torch.onnx").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)
    return path


def sound(report: Report) -> None:
    """No error, nothing left out, certified, and a gradient that is even."""
    assert [f for f in report.findings if f.severity == "error"] == []
    assert [f for f in report.findings if f.code == "EV901"] == []
    (output,) = report.outputs
    assert output.not_computed == ()
    assert output.certified
    assert output.broken_by == ()
    (given,) = report.inputs
    assert given.not_computed == ()
    assert given.dead_fraction == 0
    assert given.gradient_unevenness == pytest.approx(1, abs=1e-3)


def kept(report: Report) -> None:
    """Nothing is left to training."""
    assert {f.code for f in report.findings if f.severity != "info"} <= {"EV301"}
    (output,) = report.outputs
    assert output.period == 1
    assert output.unevenness == pytest.approx(1, abs=1e-6)
    assert output.expected_ac_fraction == pytest.approx(0, abs=1e-12)
    assert not any("in training" in f.message for f in report.findings if f.code in ("EV101", "EV103", "EV105"))


@pytest.mark.parametrize("name", NETS)
def test_a_module(name: str) -> None:
    module, x = network(name)
    report = evenly.check(module, x)
    sound(report)
    kept(report)


@pytest.mark.parametrize("name", [n for n in NETS if "3-D" not in n])
def test_a_saved_program(name: str, tmp_path: Path) -> None:
    module, x = network(name)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "m.pt2")
    report = evenly.check(tmp_path / "m.pt2", trust=True)
    sound(report)
    kept(report)


@pytest.mark.parametrize("name", NETS)
def test_a_file_of_values(name: str, tmp_path: Path) -> None:
    """ONNX holds the kernels as values: certified, but nothing says what would keep them so."""
    module, x = network(name)
    report = evenly.check(export(module, x, tmp_path / "m.onnx"))
    sound(report)
    assert {f.code for f in report.findings if f.severity != "info"} <= {"EV301"}


@pytest.mark.parametrize("name", ["generator 2-D, nearest", "generator 1-D, sub-pixel", "U-Net 2-D, balanced"])
def test_without_weights(name: str) -> None:
    """What a layer keeps for all parameters needs none of them."""
    module, x = network(name)
    report = evenly.check(module, x, use_weights=False)
    kept(report)
    assert report.outputs[0].certified is None


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("s", [2, 3, 4])
def test_a_resize_convolution_is_kept_in_every_form(k: int, s: int) -> None:
    torch.manual_seed(k)
    for implementation in ("auto", "plain", "folded"):
        layer = enn.ResizeConv1d(2, 3, k, s, implementation=implementation)
        report = evenly.check(nn.Sequential(layer), torch.zeros(1, 2, 24))
        sound(report)
        kept(report)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_an_antialiased_convolution_has_an_even_mean_gradient_in_every_form(k: int) -> None:
    torch.manual_seed(k)
    for implementation in ("auto", "blur_first", "folded", "conv_first"):
        layer = enn.AntialiasedConv1d(2, 3, k, 2, implementation=implementation)
        report = evenly.check(nn.Sequential(layer), torch.zeros(1, 2, 32))
        assert {f.severity for f in report.findings} <= {"info"}
        assert report.inputs[0].gradient_period == 1
        assert report.inputs[0].gradient_unevenness in (None, pytest.approx(1, abs=1e-6))


def test_a_plain_sub_pixel_convolution_is_told_apart() -> None:
    torch.manual_seed(0)
    report = evenly.check(nn.Sequential(enn.SubpixelConv2d(3, 4, 3, icnr=False)), torch.zeros(1, 3, 8, 8))
    assert [f.severity for f in report.findings if f.code == "EV105"] == ["warning"]
    assert report.outputs[0].certified is False
