"""Activations: known nets show what they must, and the model is left as it was."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from evenly.errors import ParameterError, UsageError  # noqa: E402
from evenly.measure.activations import TrainingTrace, measure_model  # noqa: E402

QUICK = {"samples": 16, "batch_size": 8, "periods": (2, 4), "draws": 199}


def positive(*shape):
    return lambda n, generator: torch.rand(n, *shape, generator=generator) + 0.5


def decoder():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ConvTranspose2d(4, 8, 3, 2, 1, 1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(8, 4, 3, padding=1),
    )


def test_an_overlap_shows_at_its_period_and_grows_with_later_layers():
    found = measure_model(decoder(), positive(4, 16, 16), **QUICK)
    assert [layer.name for layer in found.layers] == ["0", "1", "2", "3"]
    assert found.samples == 16
    first, up = found.layer("0").periods, found.layer("2").periods
    assert first[2].mean.p == 1 / 200
    assert first[2].mean.ratio > 0.5
    assert first[4].mean.p > 0.01
    assert up[4].mean.ratio == pytest.approx(found.layer("1").periods[2].mean.ratio, rel=0.2)
    assert up[2].mean.ratio < 1e-3 * up[4].mean.ratio
    assert found.to_dict()["layers"][0]["periods"]["2"]["mean"]["p"] == 1 / 200
    assert "0 (ConvTranspose2d, 8 x 32 x 32): 2: mean" in str(found)


def test_even_layers_show_nothing():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    found = measure_model(net, lambda n, g: torch.randn(n, 3, 24, 24, generator=g), **QUICK)
    for layer in found.layers:
        for result in layer.periods.values():
            assert result.mean.p > 0.005
            assert result.energy.p > 0.005
            assert result.mean.ratio < 0.01


def test_noise_through_a_linear_layer_shows_in_the_energy_only():
    net = nn.ConvTranspose1d(1, 1, 1, 2, bias=False, output_padding=1)
    found = measure_model(net, lambda n, g: torch.randn(n, 1, 32, generator=g), **{**QUICK, "samples": 64})
    result = found.layer("").periods[2]
    assert result.energy.p == 1 / 200
    assert result.energy.ratio > 1
    assert result.mean.p > 0.02
    assert result.mean.ratio < 0.02


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_one_to_three_axes(axes):
    torch.manual_seed(2)
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    net = kind(2, 2, 3, 2, 1, 1)
    result = measure_model(net, positive(2, *(8,) * axes), **QUICK).layer("").periods
    assert result[2].mean.p == 1 / 200
    assert (result[4] is not None) == (16 - 2 * 2 >= 12)


class Odd(nn.Module):
    """Calls a layer twice, gives a tuple and a dict, shares a layer, and leaves the space."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.alias = self.conv
        self.pair = Pair()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Flatten()

    def forward(self, x, scale=None):
        y = self.pair(self.conv(self.conv(x)))
        return {"sample": y["sample"][0], "logits": self.head(self.pool(y["sample"][1]))}


class Pair(nn.Module):
    def forward(self, x):
        return {"sample": (x, -x), "count": torch.zeros(len(x), 2, 12, 12, dtype=torch.int64)}


def test_calls_outputs_shared_layers_and_reasons():
    found = measure_model(Odd(), positive(3, 12, 12), **QUICK)
    labels = [layer.label for layer in found.layers]
    assert labels == ["conv", "conv #1", "pair['sample'][0]", "pair['sample'][1]", "pair['count']", "pool", "head"]
    reasons = {layer.label: layer.reason for layer in found.layers}
    assert reasons["conv"] is None
    assert "int64" in reasons["pair['count']"]
    assert reasons["pool"] == "1 x 1 positions are too few for every period"
    assert reasons["head"] == "no spatial axes"
    assert found.layer("conv").periods[4] is None
    assert found.layer("conv", 1).call == 1
    with pytest.raises(UsageError, match="was not seen"):
        found.layer("nothing")


def test_layers_by_name_and_glob():
    net = decoder()
    found = measure_model(net, positive(4, 8, 8), layers=["", "[13]"], **QUICK)
    assert [layer.name for layer in found.layers] == ["1", "3", ""]
    with pytest.raises(UsageError, match="matches no module"):
        measure_model(net, positive(4, 8, 8), layers="up*", **QUICK)


def test_channels_on_the_last_axis():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.LayerNorm(7), nn.Linear(7, 6))
    found = measure_model(net, lambda n, g: torch.randn(n, 16, 12, 5, generator=g), **QUICK)
    assert [layer.shape for layer in found.layers] == [(7, 16, 12), (7, 16, 12), (7, 16, 12), (6, 16, 12)]


def test_what_samplers_may_give():
    net = nn.Conv2d(1, 2, 3, padding=1)
    data = torch.randn(20, 1, 12, 12)
    labels = torch.arange(20)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data, labels), batch_size=6)
    parts = iter(data.split(8))
    results = [
        measure_model(net, sampler, **QUICK).to_dict()
        for sampler in (
            data,
            loader,
            [data[:9], data[9:]],
            [{"input": data}],
            lambda n, _: (next(parts)[:n],),
        )
    ]
    assert all(r["samples"] == 16 for r in results)
    for other in results[1:]:
        ours, theirs = (r["layers"][0]["periods"]["2"]["mean"]["ratio"] for r in (results[0], other))
        assert theirs == pytest.approx(ours, abs=1e-6)


def test_wrong_samplers_and_options():
    net = nn.Conv2d(1, 2, 3)
    for sampler, words in (([], "no samples"), (["text"], "expected a tensor"), (7, "is not understood")):
        with pytest.raises(UsageError, match=words):
            measure_model(net, sampler)
    with pytest.raises(ParameterError, match="samples"):
        measure_model(net, positive(1, 8, 8), samples=0)
    with pytest.raises(ParameterError, match="not known"):
        TrainingTrace(net, positive(1, 8, 8), sample=3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floating_types(dtype):
    found = measure_model(decoder().to(dtype), positive(4, 16, 16), **QUICK)
    assert found.layer("0").periods[2].mean.p == 1 / 200
    assert found.layer("3").reason is None


class Breaks(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x.log() if x.shape[0] < 99 else x, torch.nan)


def test_nan_is_counted():
    data = torch.rand(16, 1, 12, 12) + 0.1
    data[:5, 0, 3, 3] = -1
    found = measure_model(nn.Sequential(Breaks()), data, **QUICK).layer("0")
    assert (found.samples, found.nonfinite) == (11, 5)
    assert found.periods[2].mean.samples == 11
    everything = measure_model(nn.Sequential(Breaks()), -data.abs(), **QUICK).layer("0")
    assert everything.reason == "all 16 samples hold NaN or infinities"


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(training, fails):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), Fails() if fails else nn.ReLU())
    net.train()
    net[1].eval()
    modes = [m.training for m in net.modules()]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            measure_model(net, positive(1, 12, 12), training=training, **QUICK)
    else:
        once, twice = (measure_model(net, positive(1, 12, 12), training=training, **QUICK) for _ in range(2))
        assert once.to_dict() == twice.to_dict()
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.is_grad_enabled()


def test_constant_activations_have_no_effect():
    net = nn.Sequential(nn.Identity())
    found = measure_model(net, torch.full((16, 2, 16, 16), 3.0), **QUICK).layer("0").periods[2]
    assert (found.mean.ratio, found.mean.p, found.energy.ratio, found.energy.p) == (0, 1, 0, 1)


def test_the_course_of_a_training_that_removes_the_ripple():
    torch.manual_seed(4)
    net = nn.Sequential(nn.ConvTranspose2d(2, 1, 3, 2, 1, 1))
    data = torch.rand(16, 2, 12, 12) + 0.5
    target = nn.functional.interpolate(data.mean(1, keepdim=True), scale_factor=2, mode="bilinear")
    trace = TrainingTrace(net, data, samples=16, periods=(2,), draws=99)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for step in range(41):
        if step % 20 == 0:
            trace.record(step)
        optimizer.zero_grad()
        (net(data) - target).square().mean().backward()
        optimizer.step()
    course = trace.course("0", 2)
    assert [step for step, _ in course] == [0, 20, 40]
    ratios = [ratio for _, ratio in course]
    assert ratios[0] > ratios[1] > ratios[2]
    assert ratios[0] > 10 * ratios[2]
    assert [s["step"] for s in trace.to_dict()["steps"]] == [0, 20, 40]
    assert trace.course("0", 5) == [(0, None), (20, None), (40, None)]
