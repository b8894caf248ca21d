"""Kernels that are balanced for every value of their parameters, told from those that happen to be."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import evenly
from evenly.check.kept import keeps_phases
from evenly.check.result import Finding, Report
from evenly.graph import ir
from evenly.graph.torch import read_module


class EqualSums(nn.Module):
    """All phases of stride 2 keep their own shape and get the mean of their sums."""

    def forward(self, w: Tensor) -> Tensor:
        sums = torch.stack([w[..., 0::2].sum(-1), w[..., 1::2].sum(-1)], -1)
        wanted = sums.mean(-1, keepdim=True) - sums
        return w + wanted.repeat(*(1,) * (w.ndim - 1), w.shape[-1] // 2) / (w.shape[-1] // 2)


class Smoothed(nn.Module):
    """A kernel through a box: a shorter one, smoothed to its ends."""

    def forward(self, w: Tensor) -> Tensor:
        return nn.functional.pad(w, (1, 0)) + nn.functional.pad(w, (0, 1))

    def right_inverse(self, w: Tensor) -> Tensor:
        return w[..., 1:]


class SmoothedInside(nn.Module):
    """A longer kernel, smoothed where the box fits: that makes every kernel."""

    def forward(self, w: Tensor) -> Tensor:
        return w[..., :-1] + w[..., 1:]

    def right_inverse(self, w: Tensor) -> Tensor:
        return nn.functional.pad(w, (1, 0))


class Almost(nn.Module):
    """Equal sums but for a share of the first tap."""

    def forward(self, w: Tensor) -> Tensor:
        first = torch.zeros_like(w)
        first[..., 0] = 1e-3
        balanced: Tensor = EqualSums()(w)
        return balanced + first * w


class Clipped(nn.Module):
    """Balanced for small parameters only."""

    def forward(self, w: Tensor) -> Tensor:
        return EqualSums()(w).clamp(-1, 1)  # type: ignore[no-any-return]


class Nothing(nn.Module):
    """All zero, whatever the parameters are: that is no balance."""

    def forward(self, w: Tensor) -> Tensor:
        return w * 0


def deconv(*steps: nn.Module, k: int = 4) -> nn.Module:
    layer = nn.ConvTranspose1d(3, 5, k, 2)
    for step in steps:
        parametrize.register_parametrization(layer, "weight", step)
    return nn.Sequential(layer)


def weight_normed() -> nn.Module:
    layer = nn.ConvTranspose1d(3, 5, 4, 2)
    parametrize.register_parametrization(layer, "weight", EqualSums())
    return nn.Sequential(parametrizations.spectral_norm(layer))


def normed_only() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.ConvTranspose1d(3, 5, 4, 2)))


def happens_to_be() -> nn.Module:
    layer = nn.ConvTranspose1d(3, 5, 4, 2)
    with torch.no_grad():
        layer.weight.copy_(EqualSums()(layer.weight))
    return nn.Sequential(layer)


class Shuffle(nn.Module):
    """A sub-pixel convolution by 2 whose weights, and biases if wanted, are those of one phase."""

    def __init__(self, bias: str = "shared", between: nn.Module | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 1, 3, 3, 3))
        self.bias = nn.Parameter(torch.randn(16 if bias == "free" else 4))
        self.kind = bias
        self.between = between or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.expand(4, 4, 3, 3, 3).reshape(16, 3, 3, 3)
        bias = {"shared": self.bias.repeat_interleave(4), "free": self.bias, "none": None}[self.kind]
        return nn.functional.pixel_shuffle(self.between(nn.functional.conv2d(x, weight, bias)), 2)


class ReadAsNumber(nn.Module):
    """The second phase is a multiple of the first by a parameter that is read as a number: 1 today."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.factor = nn.Parameter(torch.randn(3, 3, 2)), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.stack([self.weight, self.weight * self.factor.item()], -1).flatten(2)
        return nn.functional.conv_transpose1d(x, kernel, stride=2)


KEPT: dict[str, Callable[[], nn.Module]] = {
    "projection": lambda: deconv(EqualSums()),
    "box": lambda: deconv(Smoothed()),
    "box, odd kernel": lambda: deconv(Smoothed(), k=3),
    "spectral norm of a projection": weight_normed,
    "shuffle of one phase": Shuffle,
    "shuffle without bias": lambda: Shuffle("none"),
    "shuffle behind an activation": lambda: Shuffle(between=nn.LeakyReLU(0.2)),
}
FREE: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: deconv(),
    "happens to be": happens_to_be,
    "weight norm": normed_only,
    "box inside": lambda: deconv(SmoothedInside()),
    "almost": lambda: deconv(Almost()),
    "for small parameters only": lambda: deconv(Clipped()),
    "balanced first": lambda: deconv(EqualSums(), Clipped()),
    "nothing": lambda: deconv(Nothing()),
    "a parameter read as a number": ReadAsNumber,
    "free biases": lambda: Shuffle("free"),
    "a normalisation before the shuffle": lambda: Shuffle(between=nn.BatchNorm2d(16)),
}


def read(build: Callable[[], nn.Module], **how: Any) -> tuple[nn.Module, Tensor, ir.Graph, int]:
    torch.manual_seed(0)
    module = build().eval()
    x = torch.zeros(1, 3, *(8,) * (2 if isinstance(module, Shuffle) else 1))
    graph = read_module(module, (x,), **how)
    ((place, _),) = [(i, n) for i, n in enumerate(graph.nodes) if isinstance(n.op, ir.ConvTranspose | ir.PixelShuffle)]
    return module, x, graph, place


def about(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.code in ("EV101", "EV103", "EV104", "EV105", "EV107")]


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name: str) -> None:
    module, x, graph, place = read(KEPT[name])
    assert keeps_phases(graph, place)
    for use_weights in (True, False):
        report = evenly.check(module, x, use_weights=use_weights)
        assert report.outputs[0].period == 1
        assert report.outputs[0].expected_ac_fraction == 0
        assert report.outputs[0].certified is (True if use_weights else None)
        assert [f.severity for f in about(report)] == (["info"] if "odd" in name else [])
        assert "all phases have equal gains" in str(
            next(layer.note for layer in report.layers if layer.role == "immune")
        )
    # the property itself, after a training that throws the parameters anywhere
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 3)
    inside = module(torch.ones_like(x))[..., 4:12]
    assert torch.allclose(inside[..., 0::2], inside[..., 1::2], atol=1e-4)


@pytest.mark.parametrize("name", FREE)
def test_what_is_free(name: str) -> None:
    module, x, graph, place = read(FREE[name])
    assert not keeps_phases(graph, place)
    if name != "nothing":
        assert about(evenly.check(module, x, use_weights=False))[0].severity != "info"


def test_the_words_for_an_odd_kernel() -> None:
    module, x, _, _ = read(KEPT["box, odd kernel"])
    (finding,) = about(evenly.check(module, x))
    assert finding.code == "EV101"
    assert "equal gains for every value of its parameters" in finding.message
    assert "nothing keeps it so" not in finding.message


def test_onnx_holds_the_values_only(tmp_path: Path) -> None:
    module, x, _, _ = read(KEPT["projection"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), tmp_path / "m.onnx", dynamo=True, verbose=False)
    report = evenly.check(tmp_path / "m.onnx")
    (finding,) = about(report)
    assert (finding.code, finding.severity) == ("EV103", "info")
    assert "nothing keeps it so in training" in finding.message
    assert report.outputs[0].certified


def test_parameters_without_values_tell_nothing() -> None:
    with torch.device("meta"):
        module = deconv(EqualSums())
        x = torch.zeros(1, 3, 8)
    graph = read_module(module, (x,))
    assert not any(keeps_phases(graph, i) for i in range(len(graph.nodes)))


def test_a_pattern_in_front_of_a_kept_kernel_is_not_guessed() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.ConvTranspose1d(2, 3, 4, 2), *deconv(EqualSums()))  # type: ignore[misc]
    (output,) = evenly.check(module, torch.zeros(1, 2, 8)).outputs
    assert output.period == 4
    assert output.expected_ac_fraction is None
    assert "taps depend on each other" in output.not_computed[0]


def test_an_uneven_gradient_behind_a_kept_kernel_is_not_guessed() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(*deconv(EqualSums()), nn.Conv1d(5, 3, 3, 2))  # type: ignore[misc]
    (given,) = evenly.check(module, torch.zeros(1, 3, 16)).inputs
    assert given.gradient_unevenness is None
    assert "taps depend on each other" in given.not_computed[0]


class Blurred(nn.Module):
    """A strided convolution with a filter folded into its kernel."""

    taps: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, size))
        self.register_buffer("taps", torch.tensor([[[1.0, 3, 3, 1]]]) / 8)

    def forward(self, x: Tensor) -> Tensor:
        kernel = nn.functional.conv1d(self.weight.reshape(9, 1, -1), self.taps, padding=3).reshape(3, 3, -1)
        return nn.functional.conv1d(x, kernel, stride=2)


@pytest.mark.parametrize("size", [3, 4])
def test_a_filter_that_is_folded_into_a_strided_kernel(size: int) -> None:
    torch.manual_seed(0)
    report = evenly.check(Blurred(size), torch.zeros(1, 3, 24))
    assert report.inputs[0].gradient_period == 1
    found = [f for f in report.findings if f.code == "EV201"]
    assert [f.severity for f in found] == (["info"] if size == 4 else [])
    assert all("mean gradient is even for every value of its parameters" in f.message for f in found)
    # the mean gradient: that of the sum of all outputs
    x = torch.zeros(1, 3, 24, requires_grad=True)
    Blurred(size)(x).sum().backward()
    assert x.grad is not None
    inside = x.grad[..., 8:-8]
    assert torch.allclose(inside, inside[..., :1].expand_as(inside), atol=1e-5)


def test_a_strided_kernel_that_is_computed_otherwise() -> None:
    module = nn.Sequential(parametrizations.weight_norm(nn.Conv1d(3, 3, 3, stride=2)))
    report = evenly.check(module, torch.zeros(1, 3, 24))
    assert [f.severity for f in report.findings if f.code == "EV201"] == ["warning"]
    assert report.inputs[0].gradient_period == 2
    assert report.inputs[0].gradient_unevenness == pytest.approx(2)


# ------------------------------------------------------------------------------------------------------ what is drawn


def test_a_seed_draws_the_same_parameters_for_all_weights() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3, 4))

        def forward(self, x: Tensor) -> Tensor:
            y = nn.functional.conv_transpose1d(x, self.weight + 1, stride=2)
            return nn.functional.conv_transpose1d(y, self.weight * 2, stride=2)

    module = Shared()
    before = module.weight.detach().clone()
    graph = read_module(module, (torch.zeros(1, 3, 8),))
    first, second = (n.op.weight for n in graph.nodes if isinstance(n.op, ir.ConvTranspose))
    assert first is not None
    assert second is not None
    one, two = first.drawn(1), second.drawn(1)
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(one - 1, two / 2, atol=1e-6)
    assert abs(one - 1).std() == pytest.approx(0.6, abs=0.3)
    other = first.drawn(2)
    assert other is not None
    assert np.abs(one - other).max() > 0.1
    assert torch.equal(module.weight, before)
    np.testing.assert_allclose(first.values() - 1, before.numpy(), atol=1e-6)


def test_plain_parameters_and_buffers() -> None:
    graph = read_module(Blurred(3), (torch.zeros(1, 3, 24),))
    (folded,) = [n.op.weight for n in graph.nodes if isinstance(n.op, ir.Conv)]
    assert folded is not None
    assert folded.redraw is not None
    graph = read_module(deconv(), (torch.zeros(1, 3, 24),))
    (plain,) = [n.op.weight for n in graph.nodes if isinstance(n.op, ir.ConvTranspose)]
    assert plain is not None
    assert plain.drawn(0) is None
    fixed = ir.Weight("f", (2,), True, lambda: np.ones(2))
    np.testing.assert_array_equal(fixed.drawn(0), np.ones(2))
