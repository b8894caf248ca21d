"""One layer of a model, solved: lines fall, the output stays, other data too."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from evenly.errors import UsageError  # noqa: E402
from evenly.fix.levels import line_levels  # noqa: E402
from evenly.fix.solved import LayerSolver  # noqa: E402
from evenly.fix.task import Task, psnr  # noqa: E402
from evenly.fix.torch_backend import TorchBackend  # noqa: E402


def smooth(count: int, seed: int, size: int = 24) -> torch.Tensor:
    """Random fields of low frequency around 1, ``(N, 2, size, size)``."""
    noise = torch.randn(count, 2, size, size, generator=torch.Generator().manual_seed(seed))
    field = nn.functional.avg_pool2d(nn.functional.pad(noise, (4,) * 4, mode="circular"), 9, 1)
    return 1 + 4 * field + 0.02 * noise


class Net(nn.Module):
    """Features, and a last layer that makes a pattern of period 2."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU())
        self.kind = kind
        if kind == "subpixel":
            self.last = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.PixelShuffle(2))
        elif kind == "plain":  # it cannot tell phases apart, unless it has weights by phase
            self.last = nn.Sequential(nn.ConvTranspose2d(6, 6, 4, 2, 1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1))
        else:
            self.last = nn.Sequential(nn.ConvTranspose2d(6, 3, 4, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last(self.body(x))
        return torch.tanh(0.5 * y) if self.kind == "tanh" else y


def asked(backend: TorchBackend, x: torch.Tensor, **given: object) -> Task:
    return Task.of(backend, [x], "smooth", periods=(2,), within_db=3.0, max_distortion=0.0, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["transposed", "tanh", "subpixel", "plain"])
def test_lines_fall_and_the_output_stays(kind):
    net = Net(kind).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, other = smooth(64, 1), smooth(32, 2)
    backend = TorchBackend(net, x[:2])
    task = asked(backend, x)
    solver = LayerSolver(task, backend, backend.layers()[-1], "output", extra=1, phases=2 if kind == "plain" else 1)
    done = solver.solve(2.0)
    assert task.over(task.fit.judge(backend, task.periods))[2] > 12
    assert task.over(done.fit)[2] < 3
    assert task.psnr(done.fit) > 18  # the pattern of an untrained layer is most of the change
    with torch.no_grad():
        old, new = net(other).numpy(), done.backend.model(other).numpy()
    assert line_levels(new, [2])[2].over() < line_levels(old, [2])[2].over() - 6  # data it was not solved on
    assert new.shape == old.shape
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_with_weights_by_a_first_solution_less_has_to_change():
    """Flat signals and lively ones: a mean of decibels is met at less change than the first weights need."""
    x = smooth(64, 1)
    x = 1 + torch.linspace(0.02, 3, 64)[torch.randperm(64), None, None, None] * (x - 1)
    backend = TorchBackend(Net("transposed").eval(), x[:2])
    task = asked(backend, x)
    solver = LayerSolver(task, backend, backend.layers()[-1], "output", extra=1)
    first = solver.solve(4.0)
    solver.reweigh(first)
    second = solver.solve(4.0)
    assert task.over(second.fit)[2] == pytest.approx(task.over(first.fit)[2], abs=0.7)
    assert task.psnr(second.fit) > task.psnr(first.fit) - 0.05


def test_every_period_has_its_own_limit():
    torch.manual_seed(0)
    up = [nn.ConvTranspose2d(6, 6, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 4, 2, 1)]
    net = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), *up).eval()
    x = smooth(64, 1)
    backend = TorchBackend(net, x[:2])
    task = Task.of(backend, [x], "smooth", periods=(2, 4), within_db=3.0, max_distortion=0.0)
    solver = LayerSolver(task, backend, backend.layers()[-1], "output", extra=2)
    before = task.over(task.fit.judge(backend, task.periods))
    for limits in ({2: 2.0, 4: 6.0}, {2: 6.0, 4: 2.0}):
        assert all(before[period] > limit + 3 for period, limit in limits.items())
        assert task.over(solver.solve(limits).fit) == pytest.approx(limits, abs=0.5)


def test_a_limit_out_of_reach_does_not_spoil_the_next():
    """Without end lower targets would be where a later, easy limit starts from."""
    x = smooth(64, 1)
    backend = TorchBackend(Net("plain").eval(), x[:2])
    task = asked(backend, x)
    before = task.over(task.fit.judge(backend, task.periods))[2]

    def solver() -> LayerSolver:
        return LayerSolver(task, backend, backend.layers()[-1], "output")

    spoilt, fresh = solver(), solver()
    assert task.over(spoilt.solve(-60.0).fit)[2] > -50  # out of reach
    for limit in (before - 8, before - 2):
        again, first = spoilt.solve(limit).fit, fresh.solve(limit).fit
        assert task.over(again)[2] == pytest.approx(limit, abs=0.5)
        assert task.over(first)[2] == pytest.approx(limit, abs=0.5)
        assert task.psnr(again) == pytest.approx(task.psnr(first), abs=1)


def test_a_restart_forgets_the_last_solution():
    x = smooth(64, 1)
    backend = TorchBackend(Net("plain").eval(), x[:2])
    task = asked(backend, x)
    used, fresh = (LayerSolver(task, backend, backend.layers()[-1], "output", phases=2) for _ in range(2))
    before = task.over(task.fit.judge(backend, task.periods))[2]
    used.solve(0.0)
    used.restart()
    again, first = used.solve(before - 6).backend.model, fresh.solve(before - 6).backend.model
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), first.parameters(), strict=True))


def test_biases_by_phase_take_away_what_is_constant():
    """Added everywhere with period 2, whatever the input: weights on features could only follow it."""

    class Patterned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body, self.last = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sign = 1 - 2.0 * (torch.arange(x.shape[-1]) % 2)
            return self.last(self.body(x) + sign)

    net = Patterned().eval()
    x, other = smooth(64, 1), smooth(32, 2)
    backend = TorchBackend(net, x[:2])
    task = asked(backend, x)
    solver = LayerSolver(task, backend, backend.layers()[-1], "output", phases=2)
    done = solver.solve(2.0)
    with torch.no_grad():
        old, new = net(other).numpy(), done.backend.model(other).numpy()
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    pattern = old[inside].reshape(32, 3, 10, 2, 10, 2).mean((0, 2, 4), keepdims=True)
    constant = np.broadcast_to(pattern - pattern.mean((3, 5), keepdims=True), (32, 3, 10, 2, 10, 2))
    assert line_levels(old, [2])[2].over() > 20 > 4 > line_levels(new, [2])[2].over()
    left = new - old
    assert np.abs(left[inside] + constant.reshape(32, 3, 20, 20)).mean() < 0.1 * np.abs(constant).mean()


def test_lines_that_are_low_enough_stay():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)).eval()
    x = smooth(16, 1, 32)
    backend = TorchBackend(net, x[:2])
    with torch.no_grad():
        task = asked(backend, x, reference=net(x).numpy())
    done = LayerSolver(task, backend, backend.layers()[0], "output", phases=2).solve(2.0)
    assert task.psnr(done.fit) > 100
    assert task.over(done.fit)[2] == pytest.approx(task.over(task.fit.judge(backend, task.periods))[2], abs=0.01)


def test_a_layer_that_is_shared_is_refused():
    tied = nn.ModuleDict({"a": nn.ConvTranspose2d(2, 2, 2, 2), "b": nn.ConvTranspose2d(2, 2, 2, 2)})
    tied["b"].weight = tied["a"].weight
    backend = TorchBackend(nn.Sequential(tied["a"], tied["b"]).eval(), smooth(2, 1))
    with pytest.raises(UsageError, match="cannot be rewritten"):
        LayerSolver(asked(backend, smooth(8, 1)), backend, backend.layers()[-1], "output")


def test_psnr():
    assert psnr(np.zeros(4), np.full(4, 0.1), 1.0) == pytest.approx(20)
    assert psnr(np.zeros(4), np.zeros(4), 1.0) == math.inf
