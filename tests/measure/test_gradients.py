"""Gradients of random networks against the expectation of evenly.check; dead positions; saliency maps."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

import evenly
from evenly.errors import InputShapeError, ParameterError, UsageError
from evenly.measure.gradients import measure_gradient, measure_saliency

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

QUICK = {"samples": 16, "batch_size": 16, "draws": 199}

NETWORKS = {
    "k3 s2": (2, lambda: nn.Sequential(nn.Conv2d(3, 48, 3, 2, 1))),
    "k1 s2": (2, lambda: nn.Sequential(nn.Conv2d(3, 8, 1, 2))),
    "k5 s3": (3, lambda: nn.Sequential(nn.Conv2d(3, 48, 5, 3, 2))),
    "k4 s2": (2, lambda: nn.Sequential(nn.Conv2d(3, 48, 4, 2, 1))),
    "two k3 s2": (4, lambda: nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(True), nn.Conv2d(32, 32, 3, 2, 1))),
    "max pool 3 s2": (2, lambda: nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1), nn.MaxPool2d(3, 2, 1))),
    "max pool 2": (2, lambda: nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1), nn.MaxPool2d(2))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_random_networks_meet_the_expectation(name):
    period, build = NETWORKS[name]
    torch.manual_seed(0)
    energies = []
    for seed in range(12):
        net = build()
        for parameter in net.parameters():
            nn.init.normal_(parameter)
        data = torch.randn(8, 3, 36, 36)
        found = measure_gradient(net, data, periods=(period,), seed=seed, draws=19).layers[0]
        energies.append(found.periods[period].energies)
    mean = np.mean(energies, 0)
    expected = evenly.check(net, torch.zeros(1, 3, 36, 36), use_weights=False).inputs[0]
    unevenness = mean.max() / mean.min() if mean.min() else inf
    assert unevenness == pytest.approx(expected.gradient_unevenness, rel=0.2)
    assert found.dead_fraction == pytest.approx(expected.dead_fraction, abs=0.002)
    if expected.gradient_unevenness > 1:
        assert found.periods[period].effect.p is not None
        assert found.periods[period].effect.ratio > 0


def test_dead_positions_and_the_effective_fraction():
    found = measure_gradient(nn.Conv2d(1, 4, 1, 2), torch.randn(16, 1, 16, 16), periods=(2, 4), **QUICK)
    assert (found.samples, found.model) == (16, "Conv2d")
    layer = found.layers[0]
    assert (layer.name, layer.dead, layer.dead_fraction) == ("input", 192, 0.75)
    result = layer.periods[2]
    assert np.array_equal(result.energies > 0, [[True, False], [False, False]])
    assert result.unevenness == inf
    assert result.effective_fraction == pytest.approx(1 / 4)
    assert result.effect.p == 1 / 200
    assert layer.periods[4] is None or layer.periods[4].effect.ratio < 0.03
    assert layer.to_dict()["periods"]["2"]["unevenness"] is None


def test_even_gradients_show_nothing():
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(2, 16, 4, 2, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(16, 2, 3, padding=1)
    )
    nn.init.constant_(net[0].weight, 0.1)
    result = measure_gradient(net[:1], torch.randn(64, 2, 24, 24), periods=(2, 3), **{**QUICK, "samples": 64})
    for found in result.layers[0].periods.values():
        assert found.effect.p > 0.005
        assert found.unevenness < 1.2
        assert found.effective_fraction > 0.99


def test_gradients_of_layers_calls_and_targets():
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 1, 2), nn.Flatten(2))
    data = torch.randn(16, 3, 16, 16)
    found = measure_gradient(net, data, of=["0", "1", "2"], periods=(2,), **QUICK)
    assert [layer.name for layer in found.layers] == ["0", "1", "2"]
    assert found.layers[1].dead_fraction == 0.75
    assert found.layers[0].shape == (6, 16, 16)
    assert found.layers[2].periods[2] is not None
    for target in (2, lambda output: output.square().mean(), lambda output: output[:, 1]):
        assert measure_gradient(net, data, target=target, periods=(2,), **QUICK).layers[0].periods[2].unevenness > 1.5
    for target, words in (
        (7, "no class or channel"),
        (lambda _: 3, "without a gradient"),
        (lambda o: o.detach(), "without"),
    ):
        with pytest.raises(UsageError, match=words):
            measure_gradient(net, data, target=target, **QUICK)
    with pytest.raises(UsageError, match="matches no module"):
        measure_gradient(net, data, of="features", **QUICK)
    assert not any(m._forward_hooks for m in net.modules())


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, 2, 1)
        self.embedding = nn.Embedding(4, 2)

    def forward(self, x, other, index):
        return self.conv(x) + self.embedding(index)[:, :, None, None], other.detach()


def test_several_inputs_and_inputs_without_a_gradient():
    data = torch.randn(16, 2, 16, 16), torch.randn(16, 2, 16, 16), torch.randint(0, 4, (16,))
    net = Two()
    layers = measure_gradient(net, [data], target=lambda o: o[0].sum(), periods=(2,), **QUICK).layers
    assert [layer.output for layer in layers] == ["[0]", "[1]", "[2]"]
    assert layers[0].reason is None
    assert layers[1].reason == "no gradient reaches it"
    assert "int64" in layers[2].reason


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    random = torch.get_rng_state()
    once, twice = (
        measure_gradient(
            net, torch.randn(16, 1, 12, 12, generator=torch.Generator().manual_seed(0)), training=True, **QUICK
        )
        for _ in range(2)
    )
    assert once.to_dict() == twice.to_dict()
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training
    assert all(p.grad is None for p in net.parameters())


def test_tiny_and_zero_and_broken_gradients():
    net = nn.Conv2d(1, 1, 3, 2, 1)
    data = torch.randn(16, 1, 16, 16)
    plain = measure_gradient(net, data, periods=(2,), **QUICK).layers[0].periods[2]
    with torch.no_grad():
        net.weight *= 1e-30
    tiny = measure_gradient(net, data, periods=(2,), **QUICK).layers[0].periods[2]
    np.testing.assert_allclose(tiny.energies, plain.energies, rtol=1e-4)
    zero = measure_gradient(net, data, target=lambda o: 0 * o, periods=(2,), **QUICK).layers[0]
    assert (zero.reason, zero.dead_fraction) == ("the gradient is zero everywhere", 1)
    broken = measure_gradient(net, data, target=lambda o: o / 0, periods=(2,), **QUICK).layers[0]
    assert broken.reason == "all 16 samples hold NaN or infinities"
    small = measure_gradient(net, data[..., :5, :5], periods=(2,), **QUICK).layers[0]
    assert small.reason == "5 x 5 positions are too few for every period"


def test_gradients_in_half_precision():
    net = nn.Conv2d(2, 4, 3, 2, 1).to(torch.bfloat16)
    found = measure_gradient(net, torch.randn(16, 2, 16, 16), periods=(2,), **QUICK).layers[0].periods[2]
    assert found.effect.p == 1 / 200


# --------------------------------------------------------------------------------------------------- saliency maps


def texture(rng, count, size):
    """Maps with a spectrum of 1/f, as saliency maps of pictures have, all positive."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    f[0, 0] = 1
    return np.abs(np.fft.ifft2(np.fft.fft2(rng.standard_normal((count, size, size))) / f).real)


def test_saliency_maps_of_several_pictures():
    rng = np.random.default_rng(0)
    maps = texture(rng, 16, 48)
    even = measure_saliency(maps, (2, 4), draws=199)
    assert all(r.effect.p > 0.02 for r in even.periods.values())
    maps[:, ::2, ::2] *= 1.5
    grid = measure_saliency(maps, (2, 4), draws=199)
    assert grid.periods[2].effect.p == 1 / 200
    assert grid.periods[2].unevenness == pytest.approx(2.25, rel=0.1)
    assert grid.periods[4].effect.p > 0.02
    channels = measure_saliency(np.stack([maps, -maps], 1), (2, 4), draws=199)
    np.testing.assert_allclose(channels.periods[2].energies, grid.periods[2].energies)


def test_one_map_is_cut_into_tiles():
    rng = np.random.default_rng(1)
    found = []
    for one in texture(rng, 80, 64):
        results = measure_saliency(one, (2, 3, 4), draws=99).periods
        assert all(r.effect.samples >= 9 for r in results.values())
        found += [r.effect.p for r in results.values()]
    # 240 draws: 12 expected below 0.05
    assert 2 <= np.sum(np.array(found) <= 0.05) <= 25
    one = texture(rng, 1, 64)[0]
    one[1::2] *= 1.5
    result = measure_saliency(one, (2, 4), draws=199).periods
    assert result[2].effect.p == 1 / 200
    assert result[4].effect.p > 0.02
    assert measure_saliency(one[:10, :10], (2,), draws=99).periods[2].effect.p is None


def test_wrong_saliency_maps():
    with pytest.raises(InputShapeError, match="expected real numbers"):
        measure_saliency(np.zeros(9))
    with pytest.raises(InputShapeError, match="complex128"):
        measure_saliency(np.zeros((9, 9), complex))
    with pytest.raises(ParameterError, match="no finite map"):
        measure_saliency(np.full((9, 9), np.nan))
