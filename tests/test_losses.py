"""CheckerboardLoss against a plain sum; its derivatives; a training that it frees from checkerboards."""

from __future__ import annotations

from itertools import product
from math import gcd

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenly.errors import InputShapeError, ParameterError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

from evenly.losses import CheckerboardLoss  # noqa: E402
from evenly.measure._spectral import new_mask  # noqa: E402
from evenly.theory.torus import line_periods  # noqa: E402


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wave(shape, frequency, phase=0.0):
    """A cosine along the last axis with the given cycles per position."""
    return torch.cos(2 * torch.pi * frequency * torch.arange(shape[-1], dtype=torch.float64) + phase).expand(shape)


# ------------------------------------------------------------------------------------------------ second implementation


def naive_levels(values, periods, relative, data_range=1.0):
    """Levels of one sample (C, *spatial), by their definition."""
    axes = values.ndim - 1
    inner = tuple(n - 2 for n in values.shape[1:])
    residual = np.zeros((len(values), *inner))
    for offset in product(range(3), repeat=axes):
        weight = -np.prod([(0.25, 0.5, 0.25)[o] for o in offset]) + (set(offset) == {1})
        window = tuple(slice(o, o + n) for o, n in zip(offset, inner, strict=True))
        residual += weight * values[(slice(None), *window)]
    where = np.meshgrid(*map(np.arange, inner), indexing="ij")
    taper = np.prod([np.sin(np.pi * (y + 0.5) / n) ** 2 for y, n in zip(where, inner, strict=True)], axis=0)
    energy = (taper**2 * residual**2).sum() / (taper**2).sum()

    def lines(period, shift):
        total = 0.0
        for a in product(range(period), repeat=axes):
            if gcd(*a, period) == 1:
                turns = sum((i / period + s) * y for i, s, y in zip(a, shift, where, strict=True))
                sums = (taper * residual * np.exp(-2j * np.pi * turns)).reshape(len(values), -1).sum(1)
                total += (np.abs(sums) ** 2).sum() / taper.sum() ** 2
        return total

    found = []
    for period in periods:
        here = lines(period, (0,) * axes)
        around = []
        for axis, n in enumerate(inner):
            far = min(3, n / max(periods) / 2)
            around += [lines(period, [b / n if k == axis else 0 for k in range(axes)]) for b in (-far, -2, 2, far)]
        base = {"energy": energy, "background": np.mean(around), "none": None}[relative]
        found.append(here if base is None else here / (base + (data_range / 255) ** 2 / 12))
    return found


@given(
    st.sampled_from([(1, 23), (2, 18, 21), (3, 14, 11), (1, 10, 11, 12)]),
    st.sampled_from(["energy", "background", "none"]),
    st.integers(0, 99),
)
def test_levels_are_what_plain_sums_give(shape, relative, seed):
    periods = (2, 4) if min(shape[1:]) >= 18 else (2,)
    x = 0.1 * noise(2, *shape, seed=seed) + 0.05 * wave((2, *shape), 1 / 4)
    found = CheckerboardLoss(periods, relative=relative, data_range=2).levels(x)
    expected = [naive_levels(sample.numpy(), periods, relative, 2.0) for sample in x]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_new_lines_are_those_of_the_theory(axes):
    for period in (2, 3, 4, 6, 8):
        assert np.array_equal(new_mask(period, axes), line_periods((period,) * axes) == period)


# ------------------------------------------------------------------------------------------------------------ meaning


def test_a_pattern_alone_is_all_there_is():
    for frequency, period in ((1 / 2, 0), (1 / 4, 1), (1 / 3, None)):
        level = CheckerboardLoss((2, 4), reduction="none")(wave((1, 1, 64, 66), frequency))[0]
        for k in range(2):
            assert float(level[k]) == pytest.approx(float(k == period), abs=1e-3)
    power = CheckerboardLoss((2,), relative="none", reduction="none")(0.3 * wave((1, 1, 66), 1 / 2))
    assert float(power) == pytest.approx(0.09)


def test_the_phase_of_a_pattern_does_not_matter():
    cost = CheckerboardLoss((3, 4), reduction="sum")
    for frequency in (1 / 3, 1 / 4):
        costs = [float(cost(wave((1, 1, 50), frequency, phase))) for phase in np.linspace(0, 3, 7)]
        assert costs == pytest.approx([costs[0]] * 7, rel=1e-3)


def test_smooth_and_constant_tensors_cost_nothing():
    cost = CheckerboardLoss((2, 4, 8), data_range=2)
    smooth = wave((2, 3, 64, 64), 1 / 64).float()
    assert float(cost(smooth)) < 1e-3
    for value in (0.0, 1.0, -7.5):
        x = torch.full((1, 1, 40, 40), value, requires_grad=True)
        result = cost(x)
        result.backward()
        assert float(result.detach()) < 1e-6
        assert float(x.grad.abs().max()) < 1e-3
        assert x.grad.isfinite().all()


def test_noise_is_its_own_background():
    x = noise(300, 1, 34, 34)
    assert CheckerboardLoss((2, 4), relative="background").levels(x).mean(0).tolist() == pytest.approx(
        [1.2, 1.1], abs=0.3
    )
    level = CheckerboardLoss((2, 4)).levels(x).mean(0)
    assert bool((level < 0.05).all())


def test_nothing_is_paid_up_to_the_reference():
    real = 0.1 * noise(16, 3, 40, 40)
    plain = CheckerboardLoss()
    reference = plain.levels(real).amax(0)
    hinged = CheckerboardLoss(reference=reference)
    assert float(hinged(real)) == 0
    made = real + 0.1 * wave(real.shape, 1 / 2)
    assert float(hinged(made)) == pytest.approx(float((plain.levels(made) - reference).clamp(min=0).mean()))
    by_period = CheckerboardLoss(reference={2: float(reference[0]), 4: float(reference[1])})
    assert float(by_period(made)) == pytest.approx(float(hinged(made)))
    one = CheckerboardLoss((4,), reference=0.5, reduction="none")
    assert one(made).shape == (16, 1)
    assert not one(made).any()


# -------------------------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("relative", ["energy", "background", "none"])
@pytest.mark.parametrize("shape", [(2, 1, 14), (1, 2, 10, 11), (1, 1, 10, 10, 10)])
def test_first_and_second_derivatives(relative, shape):
    x = noise(*shape).requires_grad_()
    for cost in (CheckerboardLoss((2,), relative=relative), CheckerboardLoss((2,), relative=relative, reference=1e-4)):
        assert gradcheck(cost, x, fast_mode=True)
        assert gradgradcheck(cost, x, fast_mode=True)


def test_under_autocast_and_in_half_precision():
    x = (0.5 + 0.1 * noise(2, 3, 32, 32)).float()
    cost = CheckerboardLoss()
    expected = float(cost(x))
    with torch.autocast("cpu", torch.bfloat16):
        inside = cost(x.requires_grad_())
    assert inside.dtype == torch.float32
    assert float(inside.detach()) == pytest.approx(expected)
    inside.backward()
    assert x.grad.abs().sum() > 0
    assert float(cost(x.detach().half())) == pytest.approx(expected, rel=0.02)


def test_compiled():
    cost = CheckerboardLoss((2,))
    compiled = torch.compile(cost, backend="eager", fullgraph=True)
    for size in (16, 24):
        x = noise(2, 1, size, size).float()
        assert float(compiled(x)) == pytest.approx(float(cost(x)), rel=1e-4)


# ----------------------------------------------------------------------------------------------------------- training


class Generator(nn.Module):
    """Three times up by two with overlapping kernels, as in early GANs."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(4, 8, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 3, 2, 1, 1)
        )

    def forward(self, z):
        return self.layers(z)


def trained(weight, steps=40):
    """Learn pictures with strong details; the checkerboard comes from the few layers that there are."""
    torch.manual_seed(0)
    net = Generator()
    z = torch.rand(8, 4, 10, 10) + 0.5
    target = torch.rand(8, 1, 40, 40)
    target = 0.5 + (target - nn.functional.avg_pool2d(target, 3, 1, 1)) * 0.3
    cost = CheckerboardLoss((2, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        made = net(z)
        loss = (made.mean((1, 2, 3)) - 0.5).square().mean() + (made.std() - target.std()).square() + weight * cost(made)
        loss.backward()
        optimizer.step()
    return net(z).detach()


def test_it_frees_a_training_from_checkerboards():
    pytest.importorskip("torchmetrics")
    from evenly.metrics import CheckerboardScore

    without, with_loss = trained(0), trained(1)
    scores = [{k: float(v) for k, v in CheckerboardScore((2, 4))(made).items()} for made in (without, with_loss)]
    assert max(scores[0].values()) > 15
    assert max(scores[1].values()) < max(scores[0].values()) - 8
    assert float(with_loss.std()) > 0.02


def test_wrong_arguments():
    for options in (
        {"periods": ()},
        {"data_range": 0},
        {"relative": "all"},
        {"reduction": "max"},
        {"reference": -1},
        {"reference": [1, 2, 3]},
        {"reference": {2: 0.1}},
    ):
        with pytest.raises(ParameterError):
            CheckerboardLoss(**options)
    cost = CheckerboardLoss()
    for x in (torch.zeros(2, 40), torch.zeros(1, 1, 17, 40), torch.zeros(1, 1, 40, 40, dtype=torch.int32)):
        with pytest.raises(InputShapeError):
            cost(x)
    assert "periods=(2, 4)" in repr(cost)
