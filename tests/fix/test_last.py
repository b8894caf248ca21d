"""The layer that makes the output, repaired: lines fall, the output stays, other data too."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from evenly.errors import UsageError  # noqa: E402
from evenly.fix.last import last_layers, psnr, repair_last  # noqa: E402
from evenly.fix.levels import line_levels  # noqa: E402
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


@pytest.mark.parametrize("kind", ["transposed", "tanh", "subpixel", "plain"])
def test_lines_fall_and_the_output_stays(kind):
    net = Net(kind).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, other = smooth(48, 1), smooth(32, 2)
    backend = TorchBackend(net, x[:2])
    found = last_layers(backend, x[:4])
    (output,) = found
    layer = found[output][-1]
    done = repair_last(
        backend, layer, [x[:24], x[24:]], (2, 4), output=output, within_db=3.0, phases=2 if kind == "plain" else 1
    )
    assert done.before[2].over() > 12
    assert done.after[2].over() < 4
    assert done.psnr > 18  # the pattern of an untrained layer is most of the change
    with torch.no_grad():
        old, new = net(other).numpy(), done.backend.model(other).numpy()
    assert line_levels(new, [2])[2].over() < line_levels(old, [2])[2].over() - 6  # data it was not solved on
    assert new.shape == old.shape
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_lines_that_are_low_enough_stay():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)).eval()
    x = smooth(16, 1, 32)
    backend = TorchBackend(net, x[:2])
    layer = backend.layers()[0]
    with torch.no_grad():
        reference = net(x).numpy()
    done = repair_last(backend, layer, [x], (2,), output="output", reference=reference)
    assert done.psnr > 100
    assert done.after[2].over() == pytest.approx(done.before[2].over(), abs=0.01)


def test_what_cannot_be_done_is_refused():
    net = Net("transposed").eval()
    x = smooth(4, 1)
    backend = TorchBackend(net, x[:2])
    layer = last_layers(backend, x)["output"][-1]
    with pytest.raises(UsageError, match="no calibration data"):
        repair_last(backend, layer, [], (2,), output="output")
    net.last[0].weight.requires_grad_(False)
    tied = nn.ModuleDict({"a": nn.ConvTranspose2d(2, 2, 2, 2), "b": nn.ConvTranspose2d(2, 2, 2, 2)})
    tied["b"].weight = tied["a"].weight
    shared = nn.Sequential(tied["a"], tied["b"]).eval()
    backend = TorchBackend(shared, x[:2])
    with pytest.raises(UsageError, match="cannot be rewritten"):
        repair_last(backend, backend.layers()[-1], [x], (2,), output="output")


def test_psnr():
    assert psnr(np.zeros(4), np.full(4, 0.1), 1.0) == pytest.approx(20)
    assert psnr(np.zeros(4), np.zeros(4), 1.0) == float("inf")
