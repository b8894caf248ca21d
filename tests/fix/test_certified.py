"""Every up-sampling layer balanced, what follows refitted: constants stay constant, the output changes little."""

from __future__ import annotations

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import evenly  # noqa: E402
from evenly.errors import ParameterError, UsageError  # noqa: E402
from evenly.fix._fitting import Fit  # noqa: E402
from evenly.fix.certified import balance_layers, certificate, frontier  # noqa: E402
from evenly.fix.geometry import Rows  # noqa: E402
from evenly.fix.torch_backend import TorchBackend  # noqa: E402
from evenly.nn.balanced import SubpixelProjection, TransposedProjection, subpixel_directions, transposed_directions  # noqa: E402  # noqa: E402

CONVOLVE = {
    (1, False): functional.conv1d, (2, False): functional.conv2d, (3, False): functional.conv3d,
    (1, True): functional.conv_transpose1d, (2, True): functional.conv_transpose2d,
    (3, True): functional.conv_transpose3d,
}  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int, seed: int, *sizes: int, channels: int = 2) -> torch.Tensor:
    """Random fields of low frequency around 1."""
    noise = torch.randn(count, channels, *sizes, generator=seeded(seed))
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[len(sizes) - 1]
    return 1 + 2 * pool(noise, 3, 1, 1) + 0.1 * noise


class Decoder(nn.Module):
    """Two transposed convolutions, normalisation, a strided and a plain convolution, and a pixel shuffle at the end."""

    def __init__(self, seed: int = 0, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.enter = nn.Conv2d(2, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=2, bias=bias)
        self.norm = nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.again = nn.ConvTranspose2d(8, 6, 3, 2, 1, 1)
        self.mix = nn.Conv2d(6, 6, 3, padding=2, dilation=2, padding_mode="reflect")
        self.last = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.PixelShuffle(2))
        self.norm.running_mean.normal_(generator=seeded(seed))
        self.norm.running_var.uniform_(0.5, 2, generator=seeded(seed))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.up(functional.relu(self.enter(x)))))
        x = functional.relu(self.again(functional.relu(self.down(x))))
        return self.last(functional.relu(self.mix(x)))


def constants_stay(net: nn.Module, size: int, *, channels: int = 2, axes: int = 2) -> float:
    """Spread of the outputs for constants, in their middle, over the outputs' size."""
    with torch.no_grad():
        y = net(torch.randn(5, channels, *(1,) * axes, generator=seeded(3)).expand(5, channels, *(size,) * axes))
    middle = y[(..., *(slice(n // 2 - 4, n // 2 + 4) for n in y.shape[2:]))].flatten(2)
    return float((middle.max(2).values - middle.min(2).values).max() / middle.abs().max())


def test_constants_in_constants_out():
    net = Decoder().eval()
    backend, x = TorchBackend(net, smooth(2, 0, 16, 16)), smooth(48, 1, 16, 16)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    assert constants_stay(net, 48) > 0.05
    assert [line.split(":")[0] for line in certificate(backend)] == ["up", "again", "last.0"]
    told: list[tuple[int, int]] = []
    done = balance_layers(backend, list(x.split(12)), progress=lambda n, of: told.append((n, of)))
    plain = balance_layers(backend, list(x.split(12)), refit=False)
    assert done.certificate
    assert not done.why_not
    assert plain.certificate
    assert [(r.name, r.method) for r in done.repairs] == [
        ("up", "balance"), ("down", "refit"), ("again", "balance"), ("mix", "refit"), ("last.0", "balance"),
    ]  # fmt: skip
    assert told == [(n, 5) for n in range(1, 6)]
    assert [r.method for r in plain.repairs] == ["balance"] * 3
    assert all(r.done and r.weight_change > 0 for r in done.repairs)
    assert constants_stay(done.backend.model, 48) < 1e-5
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert list(done.backend.model.state_dict()) == list(kept)
    again = balance_layers(backend, list(x.split(12)))
    for name, value in again.backend.model.state_dict().items():
        assert torch.equal(value, done.backend.model.state_dict()[name])


def test_refitting_brings_the_output_back():
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(2, 6, 4, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)).eval()
    x, fresh = smooth(32, 1, 12, 12), smooth(24, 2, 12, 12)
    backend = TorchBackend(net, x[:1])
    both = [balance_layers(backend, [x], refit=refit).backend.model for refit in (True, False)]
    with torch.no_grad():
        apart = [float((model(fresh) - net(fresh)).square().mean()) for model in both]
    assert apart[0] < 0.8 * apart[1]


def test_the_check_sees_the_same():
    net = Decoder().eval()
    x = smooth(16, 1, 16, 16)
    done = balance_layers(TorchBackend(net, x[:2]), [x])
    before, after = evenly.check(net, x[:1]), evenly.check(done.backend.model, x[:1])
    ripples = {layer.name: layer.ripple for layer in before.layers if layer.ripple is not None}
    assert max(ripples.values()) > 0.05
    assert all(layer.ripple < 1e-5 for layer in after.layers if layer.ripple is not None)


def naive(layer: nn.Module, x: torch.Tensor, wanted: torch.Tensor, project, factor: int | None) -> torch.Tensor:
    """Least squares over weights that are projected, by conjugate gradients of autograd alone."""
    weight = project(layer.weight.detach().double()).requires_grad_()
    bias = layer.bias.detach().double()
    bias = (bias if factor is None else bias.view(-1, factor**2).mean(1)).requires_grad_()

    def error() -> torch.Tensor:
        axes, transposed = x.ndim - 2, factor is None
        spread = bias if transposed else bias.repeat_interleave(factor**2)
        extra = {"output_padding": layer.output_padding} if transposed else {}
        y = CONVOLVE[axes, transposed](
            x, project(weight), spread, layer.stride, layer.padding,
            groups=layer.groups, dilation=layer.dilation, **extra,
        )  # fmt: skip
        return ((y if transposed else functional.pixel_shuffle(y, factor)) - wanted).square().mean()

    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=2000, history_size=100, tolerance_grad=1e-12, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = error()
        value.backward()
        return value

    optimizer.step(closure)
    return error().detach()


@pytest.mark.parametrize(
    ("layer", "sizes"),
    [
        (nn.ConvTranspose1d(2, 4, 5, 3, 1, 1, groups=2), (15,)),
        (nn.ConvTranspose2d(2, 2, 3, 2, 1, 1), (7, 6)),
        (nn.ConvTranspose2d(2, 2, (4, 5), (2, 3), (3, 2), dilation=(3, 2)), (6, 7)),
        (nn.ConvTranspose3d(2, 1, 2, 2), (4, 3, 4)),
        (nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2)), (7, 6)),
        (nn.Sequential(nn.Conv2d(2, 16, 1, groups=2), nn.PixelShuffle(2)), (7, 6)),
    ],
)
def test_the_nearest_balanced_layer_against_plain_optimisation(layer, sizes):
    torch.manual_seed(0)
    net = layer.double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x = smooth(20, 1, *sizes).double()
    own = net[0] if isinstance(net, nn.Sequential) else net
    if own is net:
        projection = TransposedProjection(transposed_directions(own, 1), own.weight.detach())
    else:
        projection = SubpixelProjection(subpixel_directions(own, (2, 2), 1), own.weight.detach(), 4)
    with torch.no_grad():
        wanted = net(x)
    done = balance_layers(TorchBackend(net, x[:1]), list(x.split(7)))
    with torch.no_grad():
        found = (done.backend.model(x) - wanted).square().mean()
    best = naive(own, x, wanted, projection, None if own is net else 2)
    assert done.certificate
    assert found == pytest.approx(float(best), rel=5e-3)


def test_refitting_is_least_squares(monkeypatch):
    monkeypatch.setattr("evenly.fix._fitting._RIDGE", 1e-12)
    monkeypatch.setattr("evenly.fix._fitting._STRIP", 200)  # many strips of the features
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, (3, 2), (2, 1), (1, 0), dilation=(1, 2), padding_mode="replicate").double()
    x = torch.randn(6, 2, 9, 8, generator=seeded(1), dtype=torch.float64)
    with torch.no_grad():
        wanted = conv(x) + 0.3 * torch.randn(conv(x).shape, generator=seeded(2), dtype=torch.float64)
    layer = TorchBackend(conv, x).layers()[0]
    fit = Fit(Rows(layer, (0, 0), (1, 1)), 0, wanted[:, 0].numel(), 0)
    for part in (slice(0, 4), slice(4, 6)):
        fit.add(x[part].numpy(), wanted[part].numpy())
    found = fit.weights(np.zeros((13, 3)))
    patches = functional.unfold(
        functional.pad(x, (0, 0, 1, 1), mode="replicate"), (3, 2), (1, 2), 0, (2, 1)
    )  # (N, C k, L)
    rows = torch.cat([patches.transpose(1, 2).reshape(-1, 12), torch.ones(wanted[:, 0].numel(), 1)], 1)
    best = torch.linalg.lstsq(rows, wanted.movedim(1, -1).reshape(-1, 3)).solution
    by_channel = best[:-1].reshape(2, 6, 3).movedim(0, 1).reshape(12, 3)  # taps first, channels last
    np.testing.assert_allclose(found, np.concatenate([by_channel.numpy(), best[-1:].numpy()]), atol=1e-8)


def test_drawing_from_many_outputs_changes_little(monkeypatch):
    net = nn.ConvTranspose2d(2, 2, 4, 2, 1).eval()
    x = smooth(32, 1, 24, 24)
    whole = balance_layers(TorchBackend(net, x[:1]), [x])
    monkeypatch.setattr("evenly.fix._fitting._LEAST", 6000)
    monkeypatch.setattr("evenly.fix._fitting._ENOUGH", 1)
    part = balance_layers(TorchBackend(net, x[:1]), [x])
    other = balance_layers(TorchBackend(net, x[:1]), [x], seed=1)
    weights = [b.backend.layers()[0].weight for b in (whole, part, other)]
    assert not np.array_equal(weights[1], weights[2])
    np.testing.assert_allclose(weights[1], weights[0], atol=0.05)
    assert part.certificate


def test_strength_extra_taps_and_order():
    net = Decoder().eval()
    backend, x = TorchBackend(net, smooth(2, 0, 16, 16)), list(smooth(24, 1, 16, 16).split(12))
    points = frontier(backend, x, (0.5, 1.0))
    assert [strength for strength, _ in points] == [0.5, 1.0]
    assert not points[0][1].certificate
    assert "gains of its phases differ" in points[0][1].why_not[0]
    halves = [constants_stay(net, 48), *(constants_stay(each.backend.model, 48) for _, each in points)]
    assert halves[0] > halves[1] > halves[2]
    larger = balance_layers(backend, x, extra=1)
    kernels = {layer.name: layer.kernel for layer in larger.backend.layers()}
    assert kernels == {
        "enter": (3, 3), "up": (6, 6), "down": (3, 3), "again": (5, 5), "mix": (3, 3), "last.0": (5, 5),
    }  # fmt: skip
    assert larger.certificate
    assert larger.backend.model(x[0]).shape == net(x[0]).shape
    with torch.no_grad():
        near, nearer = (float((b.backend.model(x[0]) - net(x[0])).square().mean()) for b in (points[1][1], larger))
    assert nearer < near
    slopes = balance_layers(backend, x, order=2)
    assert slopes.certificate
    assert certificate(slopes.backend, 2) == ()
    assert certificate(larger.backend, 2)


def test_kernels_too_short_get_what_they_lack():
    net = nn.Sequential(nn.ConvTranspose1d(2, 3, 2, 4, bias=False), nn.ReLU(), nn.Conv1d(3, 3, 3)).eval()
    x = smooth(16, 1, 20)
    done = balance_layers(TorchBackend(net, x[:1]), [x])
    assert done.certificate
    assert "too short" in done.repairs[0].note
    assert done.backend.layers()[0].kernel == (4,)
    assert done.backend.layers()[0].bias is None  # none is added
    assert constants_stay(done.backend.model, 32, axes=1) < 1e-5


def test_layers_that_stay_are_named():
    net = nn.Sequential(
        nn.ConvTranspose2d(2, 2, 2, 2), nn.ConvTranspose2d(2, 2, 4, 2, 1), nn.ConvTranspose2d(2, 2, 4, 2, 1)
    ).eval()
    net[2].weight = net[1].weight
    x = smooth(8, 1, 8, 8)
    done = balance_layers(TorchBackend(net, x[:1]), [x])
    assert not done.certificate
    assert [line.split(":")[0] for line in done.why_not] == ["1", "2"]
    assert [(r.name, r.done) for r in done.repairs] == [("0", True), ("1", False), ("2", False)]
    assert "shares" in done.repairs[1].note
    only = balance_layers(TorchBackend(net, x[:1]), [x], layers=["0"])
    assert [r.name for r in only.repairs if r.done] == ["0"]
    with pytest.raises(UsageError, match="no up-sampling layer"):
        balance_layers(TorchBackend(net, x[:1]), [x], layers=["3"])
    with pytest.raises(UsageError, match="no calibration"):
        balance_layers(TorchBackend(net, x[:1]), [])
    with pytest.raises(ParameterError, match="strength"):
        balance_layers(TorchBackend(net, x[:1]), [x], strength=2)
    with pytest.raises(ParameterError, match="extra"):
        balance_layers(TorchBackend(net, x[:1]), [x], extra=-1)


def test_only_what_is_named_is_balanced():
    net, x = Decoder().eval(), smooth(24, 1, 16, 16)
    done = balance_layers(TorchBackend(net, x[:1]), [x], layers=["up"])
    assert [line.split(":")[0] for line in done.why_not] == ["again", "last.0"]
    assert [(r.name, r.method) for r in done.repairs] == [
        ("up", "balance"), ("down", "refit"), ("again", "refit"), ("mix", "refit"),
    ]  # fmt: skip
    alone = balance_layers(TorchBackend(net, x[:1]), [x], layers=["up"], refit=False)
    assert [r.name for r in alone.repairs] == ["up"]
    torch.testing.assert_close(alone.backend.model.again.weight, net.again.weight)


class Idle(nn.Module):
    """One layer of it never runs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.idle, self.after = (
            nn.ConvTranspose1d(2, 2, 4, 2, 1),
            nn.ConvTranspose1d(2, 2, 4, 2, 1),
            nn.Conv1d(2, 2, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(x)


def test_layers_that_do_not_run_are_balanced_by_their_weights():
    net, x = Idle().eval(), smooth(8, 1, 12)
    done = balance_layers(TorchBackend(net, x[:1]), [x])
    assert done.certificate
    by_name = {r.name: r for r in done.repairs}
    assert "by its weights alone" in by_name["idle"].note
    assert not by_name["after"].done
    projection = TransposedProjection(transposed_directions(net.idle, 1), net.idle.weight.detach())
    torch.testing.assert_close(done.backend.model.idle.weight, projection(net.idle.weight))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_gives_the_same():
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from evenly.fix.onnx_backend import OnnxBackend

    net, x = Decoder().eval(), smooth(24, 1, 16, 16)
    buffer = io.BytesIO()
    net.mix.padding_mode = "zeros"
    torch.onnx.export(net, (x[:12],), buffer, dynamo=False, training=torch.onnx.TrainingMode.EVAL)
    file = OnnxBackend(onnx.load_model_from_string(buffer.getvalue()))
    batches = list(x.split(12))
    ours = balance_layers(TorchBackend(net, batches[0]), batches)
    theirs = balance_layers(file, [b.numpy() for b in batches])
    assert theirs.certificate
    assert [r.method for r in theirs.repairs] == [r.method for r in ours.repairs]
    out = next(iter(theirs.backend.run(batches[0].numpy()).outputs.values()))
    mine = ours.backend.run(batches[0]).outputs["output"]
    np.testing.assert_allclose(out, mine, atol=2e-3 * float(np.abs(mine).max()))
