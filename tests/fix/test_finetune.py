"""Fine-tuning inside the DC condition: the certificate stays, the loss falls, killed and resumed is the same."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from evenly.errors import ParameterError, UnreadableError, UsageError  # noqa: E402
from evenly.fix._line_removal import without_lines  # noqa: E402
from evenly.fix._soap import begun, stepped  # noqa: E402
from evenly.fix.certified import balance_layers, certificate  # noqa: E402
from evenly.fix.finetune import finetuned  # noqa: E402
from evenly.fix.torch_backend import TorchBackend  # noqa: E402


def fields(count: int, seed: int, size: int = 12) -> torch.Tensor:
    noise = torch.randn(count, 2, size, size, generator=torch.Generator().manual_seed(seed))
    return 1 + 2 * functional.avg_pool2d(noise, 3, 1, 1) + 0.1 * noise


class Net(nn.Module):
    """Both kinds of up-sampling layers, normalisation, dropout, and a shuffle in an order of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.norm, self.drop = nn.ConvTranspose2d(2, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.last = nn.Conv2d(6, 8, 3, padding=1)
        self.norm.running_mean.fill_(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last(self.drop(functional.relu(self.norm(self.up(x)))))
        n, c, h, w = y.shape
        return y.view(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * h, 2 * w)


def subject() -> tuple[nn.Module, nn.Module, list[torch.Tensor]]:
    """A network that is nearly even, the same balanced after its last layer was disturbed, and batches."""
    batches = list(fields(24, 1).split(4))
    even = balance_layers(TorchBackend(Net().eval(), batches[0]), batches).backend.model
    off = copy.deepcopy(even)
    with torch.no_grad():
        for parameter in off.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return even, balance_layers(TorchBackend(off, batches[0]), batches, refit=False).backend.model, batches


def far(first: nn.Module, second: nn.Module) -> float:
    x = fields(16, 9)
    with torch.no_grad():
        return float((first(x) - second(x)).square().mean())


def test_closer_with_the_certificate():
    net, balanced, batches = subject()
    balanced.train()
    balanced.norm.bias.requires_grad_(False)
    kept = copy.deepcopy(balanced.state_dict())
    told: list[tuple[int, int]] = []
    tuned = finetuned(balanced, net, batches, 60, progress=lambda n, of: told.append((n, of)))
    assert tuned.steps == 60
    assert told[-1] == (60, 60)
    assert not tuned.stopped
    assert min(tuned.losses) < 0.1 * tuned.losses[0]
    assert far(tuned.module.eval(), net) < 0.1 * far(balanced.eval(), net)
    after = TorchBackend(tuned.module, batches[0])
    assert [layer.kind for layer in after.layers()] == ["transposed", "subpixel"]
    assert certificate(after) == ()
    state = tuned.module.state_dict()
    assert list(state) == list(kept)
    assert type(tuned.module) is Net
    assert type(tuned.module.up) is nn.ConvTranspose2d
    assert all(torch.equal(value, kept[name]) for name, value in balanced.state_dict().items())
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "norm.bias"):  # frozen
        assert torch.equal(state[name], kept[name])
    assert not torch.equal(state["norm.weight"], kept["norm.weight"])
    assert not tuned.module.norm.bias.requires_grad


@pytest.mark.parametrize("stop", [7, 20])
def test_killed_and_resumed_is_the_same(stop, tmp_path, monkeypatch):
    monkeypatch.setattr("evenly.fix._tuning_state.SAVE_SECONDS", 0.0)
    net, balanced, batches = subject()
    whole = finetuned(balanced, net, batches, 20)

    class KilledError(Exception):
        pass

    def kill(done: int, _: int) -> None:
        if done == stop:
            raise KilledError

    path = tmp_path / "deep" / "tuning.safetensors"
    with pytest.raises(KilledError):
        finetuned(balanced, net, batches, 20, checkpoint=path, progress=kill)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    resumed = finetuned(balanced, net, batches, 20, checkpoint=str(path))
    assert resumed.losses == whole.losses
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name])
    with pytest.raises(UsageError, match="another run"):
        finetuned(balanced, net, batches, 20, checkpoint=path, seed=1)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(UnreadableError, match="cannot be read"):
        finetuned(balanced, net, batches, 20, checkpoint=path)


def test_targets_of_the_user():
    net, balanced, batches = subject()
    with torch.no_grad():
        other = [1.3 * net(x).numpy() for x in batches]
    tuned = finetuned(balanced, net, batches, 40, targets=other)
    by_name = finetuned(balanced, net, batches, 40, targets=[{"output": y} for y in other])
    assert tuned.losses == by_name.losses
    assert tuned.losses[-1] < 0.5 * tuned.losses[0]
    for wrong, message in (
        (other[1:], "5 targets for 6"),
        ([y[:, :1, :4] for y in other], "shape"),
        ([{"other": y} for y in other], "other"),
    ):
        with pytest.raises(UsageError, match=message):
            finetuned(balanced, net, batches, 2, targets=wrong)


def test_what_learns_noise_by_heart_ends_early():
    net, balanced, _ = subject()
    batches = list(fields(8, 1).split(1))
    generator = torch.Generator().manual_seed(5)
    noise = [torch.randn(net(x).shape, generator=generator) for x in batches]
    tuned = finetuned(balanced, net, batches, 400, targets=noise, patience=4)
    assert tuned.stopped
    assert tuned.steps < 400
    assert tuned.losses[-1] > min(tuned.losses)
    again = finetuned(tuned.module, net, batches, 1, targets=noise, learning_rate=1e-9)  # the best look's
    assert again.losses[0] == pytest.approx(min(tuned.losses), rel=1e-3)


def test_layers_that_nobody_balanced_stay_free():
    net, _, batches = subject()
    with torch.no_grad():
        net.up.weight += torch.randn(net.up.weight.shape, generator=torch.Generator().manual_seed(3))
    part = balance_layers(TorchBackend(net, batches[0]), batches, layers=["last"]).backend.model
    start = finetuned(part, part, batches, 2, learning_rate=1e-9).module
    torch.testing.assert_close(start.up.weight, part.up.weight)
    after = finetuned(part, net, batches, 5).module
    assert [line.split(":")[0] for line in certificate(TorchBackend(after, batches[0]))] == ["up"]


def test_the_teacher_can_be_freed_of_its_lines():
    net, balanced, batches = subject()
    with torch.no_grad():
        even = [without_lines(net(x), (4,)).numpy() for x in batches]
    freed = finetuned(balanced, net, batches, 5, periods=(4,))
    given = finetuned(balanced, net, batches, 5, targets=even)
    assert freed.losses == given.losses
    assert freed.losses != finetuned(balanced, net, batches, 5).losses


def test_few_batches_are_all_used():
    net, balanced, batches = subject()
    few = finetuned(balanced, net, batches[:2], 4)
    assert len(few.losses) == 5
    assert few.losses[-1] < few.losses[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types_stay(dtype):
    net, balanced, batches = subject()
    tuned = finetuned(copy.deepcopy(balanced).to(dtype), net, batches, 3)
    assert {p.dtype for p in tuned.module.parameters()} == {dtype}
    assert tuned.module(batches[0].to(dtype)).dtype == dtype


def test_what_cannot_be_done_is_refused():
    net, balanced, batches = subject()
    with pytest.raises(UsageError, match="no batches"):
        finetuned(balanced, net, [], 5)
    with pytest.raises(ParameterError, match="steps"):
        finetuned(balanced, net, batches, 0)
    with pytest.raises(UsageError, match="no parameters"):
        finetuned(nn.Identity(), nn.Identity(), batches, 5)


def test_frozen_networks_are_tuned_whole():
    net, balanced, batches = subject()
    balanced.requires_grad_(False)
    tuned = finetuned(balanced, net, batches, 3)
    assert not any(p.requires_grad for p in tuned.module.parameters())
    assert not torch.equal(tuned.module.norm.bias, balanced.norm.bias)


@pytest.mark.parametrize(("axes", "period"), [(1, 2), (1, 12), (2, 2), (2, 4), (3, 2)])
def test_lines_go_and_the_rest_stays(axes, period):
    size = 96 if axes < 3 else 32
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*(np.arange(size),) * axes, indexing="ij"))
    smooth = 0.02 * places[0] + np.cos(2 * np.pi * 0.035 * places[0])  # between the lines
    comb = rng.standard_normal((period,) * axes)
    comb -= comb.mean()
    pattern = comb[tuple(places % period)]
    cleaned, alone = (
        without_lines(torch.tensor(signal)[None, None], (period,))[0, 0].numpy()
        for signal in (smooth + pattern, smooth)
    )
    inner = (slice(size // 4, -size // 4),) * axes
    assert np.abs(cleaned - alone).max() < 0.05 * np.abs(pattern).max()
    assert np.abs(alone - smooth)[inner].max() < 0.05


def test_a_notch_is_a_mean_by_phase():
    """Once more, sample by sample."""
    period, reach = 3, 11
    signal = torch.randn(1, 1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = without_lines(signal, (period,))[0, 0]
    for n in range(40):
        sums = {}
        for step, count, width in ((period, reach, reach * period), (1, reach * period, reach * period)):
            total = weight = 0.0
            for k in range(-count, count + 1):
                if 0 <= n + k * step < 40:
                    w = 0.5 * (1 + np.cos(np.pi * k * step / (width + period)))
                    total, weight = total + w * float(signal[0, 0, n + k * step]), weight + w
            sums[step] = total / weight
        assert float(found[n]) == pytest.approx(float(signal[0, 0, n]) - sums[period] + sums[1])


def test_what_has_no_lines_stays():
    flat = torch.randn(3, 4)
    assert torch.equal(without_lines(flat, (2,)), flat)
    small = torch.randn(1, 1, 12, 12)
    assert torch.equal(without_lines(small, (5,)), small)
    assert torch.equal(without_lines(small, (32,)), without_lines(small, (2,)))  # the divisor that fits


def test_without_matrices_the_optimizer_is_adam():
    drawn = torch.randn(9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parameter = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    adam, own, ours = torch.optim.Adam([parameter], 0.1, (0.95, 0.95), 1e-12), begun(parameter), torch.zeros(6)
    for count, gradient in enumerate(drawn, start=1):
        parameter.grad = gradient.clone()
        adam.step()
        ours = ours - 0.1 * stepped(own, gradient, count)
        torch.testing.assert_close(ours, parameter.detach(), rtol=1e-4, atol=1e-5)


def test_the_optimizer_does_not_mind_rotations():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0] for _ in range(2))
    plain = begun(torch.zeros(4, 2, 2).double())
    turned = begun(torch.zeros(4, 2, 2).double())
    for count in range(1, 25):
        gradient = torch.randn(4, 4, generator=generator).double()
        there = stepped(turned, (left @ gradient @ right).reshape(4, 2, 2), count).reshape(4, 4)
        here = stepped(plain, gradient.reshape(4, 2, 2), count).reshape(4, 4)
        torch.testing.assert_close(there, left @ here @ right, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [0.0, 1e-18, 1.0])
def test_gradients_of_few_ranks_or_none_do_no_harm(scale):
    own = begun(torch.zeros(300, 40))
    gradient = scale * torch.ones(300, 1) @ torch.ones(1, 40)
    for count in range(1, 6):
        assert stepped(own, gradient, count).abs().max() <= 1.001


def test_large_sides_keep_their_own_basis(monkeypatch):
    monkeypatch.setattr("evenly.fix._soap.MOST_SIDE", 4)
    own = begun(torch.zeros(3, 5))
    assert set(own) == {"mean", "square", "left", "left_basis"}
    assert torch.equal(stepped(own, torch.ones(3, 5), 1), torch.zeros(3, 5))  # sets the bases alone
    assert (stepped(own, torch.ones(3, 5), 2) > 0.5).all()
