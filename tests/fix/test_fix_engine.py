"""The repair as a whole: the original stays, lines fall, what it says is so, what cannot be done is said."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from evenly.errors import UsageError  # noqa: E402
from evenly.fix.engine import fix  # noqa: E402
from evenly.fix.levels import line_levels  # noqa: E402
from evenly.fix.task import CHUNK, Task, chunks  # noqa: E402
from evenly.fix.torch_backend import TorchBackend  # noqa: E402

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
UP = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def smooth(count: int, seed: int, sizes: tuple[int, ...] = (24, 24)) -> torch.Tensor:
    """Random fields of low frequency around 1, ``(N, 2, *sizes)``."""
    found = torch.randn(count, 2, *sizes, generator=torch.Generator().manual_seed(seed))
    noise = found.clone()
    for axis in range(2, found.ndim):
        found = sum(found.roll(shift, axis) for shift in range(-4, 5)) / 9
    return 1 + 4 * found + 0.02 * noise


def network(axes: int = 2, end: str = "up", groups: int = 1, disturbed: float = 0.03) -> nn.Module:
    """Nearly even: a smooth interpolation, disturbed by phase, as a trained network's layer is."""
    torch.manual_seed(axes)
    up = UP[axes](4, 4 if end == "inside" else 2, 4, 2, 1, groups=groups)
    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    kernel = taps
    for _ in range(axes - 1):
        kernel = kernel[..., None] * taps
    with torch.no_grad():
        mixing = torch.randn(*up.weight.shape[:2], *(1,) * axes)
        up.weight.copy_(kernel * mixing + disturbed * torch.randn_like(up.weight))
    layers = [CONV[axes](2, 4, 3, padding=1), nn.ReLU(), up]
    if end == "inside":
        layers += [nn.ReLU(), CONV[axes](4, 2, 3, padding=1)]
    return nn.Sequential(*layers).eval()


def unchanged(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("axes", "sizes", "end", "groups"),
    [(2, (24, 24), "up", 1), (2, (24, 20), "up", 2), (2, (24, 24), "inside", 1), (1, (96,), "up", 1)],
)
def test_lines_fall_on_data_that_it_never_saw(axes, sizes, end, groups):
    net = network(axes, end, groups)
    before = unchanged(net)
    found = fix(net, calibration=[smooth(48, 1, sizes)], max_distortion=20.0)
    assert found.report.verdict == "reached"
    (output,) = found.report.outputs
    assert [line.period for line in output.lines] == [2]
    assert output.lines[0].before_over_db > 6
    assert output.lines[0].after_over_db <= 3
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    other = smooth(32, 2, sizes)
    with torch.no_grad():
        old, new = net(other).numpy(), found.model(other).numpy()
    levels = [line_levels(signal, [2])[2].over() for signal in (old, new)]
    assert levels[1] < min(5, levels[0] - 4)
    change = 10 * math.log10(output.peak**2 / float(np.mean((new - old) ** 2)))
    assert change == pytest.approx(output.psnr_db, abs=3)  # other data, the same distribution
    assert [repair.name for repair in found.report.layers] == ["2"]
    assert sum(point.chosen for point in found.report.frontier) == 1


def test_lines_of_volumes_fall():
    found = fix(network(3), calibration=[smooth(16, 1, (10, 10, 10))], max_distortion=20.0, within_db=12.0)
    assert found.report.verdict == "reached"  # few and small: the network interpolates, and has no noise around a line
    (line,) = found.report.outputs[0].lines
    assert line.before_over_db > 40


def test_the_same_input_gives_the_same_weights():
    net = network()
    one, two = (fix(net, torch.ones(1, 2, 12, 12), seed=5, max_distortion=5.0, method="balance") for _ in range(2))
    assert unchanged(one.model).keys() == unchanged(two.model).keys()
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name])
    assert one.report.frontier == two.report.frontier


def test_what_is_clean_stays():
    net = nn.Sequential(CONV[2](2, 3, 3, padding=1)).eval()
    x = smooth(32, 1)
    with torch.no_grad():
        real = net(x)
    found = fix(net, calibration=[x], reference=real, periods=(2, 4))
    assert found.report.verdict == "clean"
    assert found.report.outputs[0].psnr_db == math.inf
    assert found.model is not net
    assert found.report.layers == ()
    assert found.report.proposal is None


def test_what_cannot_be_reached_is_the_best_within_the_distortion():
    net = network()
    found = fix(net, calibration=[smooth(32, 1)], max_distortion=46.0)
    report = found.report
    assert report.verdict == "partly"
    assert not report.ok
    assert report.outputs[0].psnr_db >= 46.0
    assert report.proposal is not None
    assert "max_distortion" in report.proposal
    assert len(report.frontier) >= 3
    (line,) = report.outputs[0].lines
    assert 3.0 < line.after_over_db < line.before_over_db - 4
    (chosen,) = (point for point in report.frontier if point.chosen)
    assert chosen.strength is not None  # a part of a change: as much of it as the distortion allows
    assert 0.05 < chosen.strength < 1
    assert chosen.psnr_db == pytest.approx(46.05, abs=0.01)
    able = [point.psnr_db for point in report.frontier if point.worst_db <= 3.0]
    assert f"{max(able):.1f} dB PSNR" in report.proposal


def test_a_repair_that_harms_the_task_is_the_last_choice():
    net = network()
    x = smooth(48, 1)

    def loss(model: nn.Module) -> float:  # more taps are what this task cannot bear
        return float(model[2].kernel_size[0])

    found = fix(net, calibration=[x], max_distortion=20.0, loss=loss)
    assert found.report.verdict == "reached"
    assert found.report.loss == (4.0, 4.0)
    tiny = fix(net, calibration=[x], max_distortion=20.0, loss=lambda model: 1.0 if model is net else 2.0)
    assert tiny.report.verdict == "reached"  # all are alike to it, so it is told and the lines decide
    assert tiny.report.loss == (1.0, 2.0)


def test_freedom_is_spent_on_what_the_model_should_give():
    net = network()
    x = smooth(64, 1)
    with torch.no_grad():
        real = 1.1 * network(disturbed=0.0)(x)
        real += 0.05 * torch.randn(real.shape, generator=torch.Generator().manual_seed(2))  # a background for lines

    def loss(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(x) - real).square().mean())

    plain, spent = (
        fix(net, calibration=[x], reference=real, paired=paired, max_distortion=15.0, loss=loss)
        for paired in (False, True)
    )
    assert spent.report.loss is not None
    assert plain.report.loss is not None
    assert spent.report.loss[1] < 0.8 * plain.report.loss[1]
    assert spent.report.verdict == plain.report.verdict == "reached"


def test_balance_gives_the_certificate():
    found = fix(network(), calibration=[smooth(32, 1)], method="balance", max_distortion=5.0)
    assert found.report.certificate
    assert [repair.method for repair in found.report.layers] == ["balance"]
    with torch.no_grad():
        flat = found.model(torch.full((1, 2, 24, 24), 0.7))[0, :, 12:-12, 12:-12]
    assert float(flat.std((1, 2)).max()) < 1e-5
    assert found.report.check_before is not None
    assert any(f.code.startswith("EV1") for f in found.report.check_before.findings)


def test_fine_tuning_keeps_the_certificate():
    found = fix(network(), calibration=[smooth(64, 1)], finetune=20, max_distortion=5.0)
    assert found.report.certificate
    assert found.report.frontier[-1].method.startswith("balance all layers, ")
    with pytest.raises(UsageError, match="goes with method"):
        fix(network(), calibration=[smooth(64, 1)], finetune=20, method="solve")


def tuned_by(net: nn.Module, x: torch.Tensor, targets: torch.Tensor, **given: object) -> list[str]:
    found = fix(
        net, calibration=[x], reference=targets, paired=True, finetune=6, max_distortion=5.0, within_db=60.0, **given
    )  # type: ignore[arg-type]
    assert found.report.certificate
    chosen = next(point.method for point in found.report.frontier if point.chosen)
    return [point.method for point in found.report.frontier if " steps " in point.method] + [chosen]


def test_targets_teach_a_network_that_comes_near_them_and_the_original_another():
    net, x = network(), smooth(64, 1)
    with torch.no_grad():
        near = net(x) + 0.01
        far = torch.randn_like(near)
    assert all(words.endswith("towards what it should give") for words in tuned_by(net, x, near)[:1])
    assert all(words.endswith("towards the original") for words in tuned_by(net, x, far))


def test_another_attempt_follows_while_the_loss_has_risen():
    net, x = network(), smooth(64, 1)
    with torch.no_grad():
        targets = net(x)
    rising = iter(range(100))
    *tried, chosen = tuned_by(net, x, targets, loss=lambda model: float(next(rising)))
    teachers = [words.rsplit(" towards ", 1)[1] for words in tried]
    assert teachers == ["what it should give"] * 2 + ["the original"] * 2
    assert ["1 more tap per side" in words for words in tried] == [False, True, False, True]
    assert chosen == tried[0]  # the least loss
    falling = iter(range(100, 0, -1))
    assert len(tuned_by(net, x, targets, loss=lambda model: float(next(falling)))) == 2


@pytest.mark.parametrize(("method", "verdict"), [("resize", "structural"), ("subpixel", "structural")])
def test_layers_are_replaced(method, verdict):
    net = network()
    found = fix(net, calibration=[smooth(16, 1)], method=method)
    assert found.report.verdict == verdict
    assert found.report.layers[0].done
    assert found.report.proposal is not None
    x = torch.ones(1, 2, 13, 11)
    with torch.no_grad():
        assert found.model(x).shape == net(x).shape


def test_folding_changes_nothing_else():
    net = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), CONV[2](2, 3, 3, padding=1)).eval()
    found = fix(net, calibration=[smooth(16, 1)], method="fold", periods=(2,))
    assert found.report.verdict == "folded"
    assert found.report.outputs[0].psnr_db > 100


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_onnx_gives_what_torch_gives(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    net, x = network(), smooth(32, 1)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (x[:2],), path, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])
    file = path.read_bytes()
    ours, theirs = fix(net, calibration=[x], max_distortion=20.0), fix(path, calibration=[x], max_distortion=20.0)
    assert path.read_bytes() == file
    assert theirs.report.verdict == ours.report.verdict
    batch = x[:4].numpy()
    np.testing.assert_allclose(
        next(iter(theirs.backend.run(batch).outputs.values())), ours.backend.run(batch).outputs["output"], atol=2e-3
    )
    assert theirs.report.check_after is not None


class Two(nn.Module):
    """Two outputs of different sizes, and one without positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = network(), network(end="inside")

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"small": self.first(x[..., :12, :12]), "large": self.second(x), "score": x.mean((2, 3))}


def test_every_output_is_repaired():
    found = fix(Two().eval(), calibration=[smooth(48, 1)], max_distortion=15.0)
    assert {o.name: o.within for o in found.report.outputs} == {"small": True, "large": True}
    assert {r.name for r in found.report.layers} == {"first.2", "second.2"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "method"),
        ({"calibration": []}, "no batch"),
        ({"calibration": None}, "nothing to run"),
        ({"layers": ["none"]}, "there is no layer 'none'"),
        ({"reference": np.zeros((4, 7, 48, 48))}, "reference"),
        ({"reference": np.full((4, 2, 48, 48), np.nan)}, "NaN"),
        ({"reference": np.zeros((4, 2, 48, 48)), "paired": True}, "expected one for each"),
        ({"max_distortion": math.inf}, "finite"),
        ({"finetune": -1}, "finetune"),
        ({"peak": 0.0}, "peak"),
        ({"calibration": [torch.full((4, 2, 24, 24), math.nan)]}, "NaN"),
        ({"calibration": [torch.ones(4, 3, 24, 24)]}, "does not run"),
        ({"calibration": [torch.ones(4, 2, 4, 4)]}, "six periods"),
        ({"loss": lambda _: math.nan}, "finite"),
        ({"layers": ["0"], "method": "balance"}, "no up-sampling layer"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    arguments = {"calibration": [smooth(8, 1)], **change}
    with pytest.raises(UsageError, match=message):
        fix(network(), **arguments)


# ---- the task --------------------------------------------------------------------------------------------------------


def test_batches_are_cut_and_put_together_again():
    net = network()
    backend = TorchBackend(net)
    x = smooth(5 * CHUNK * 8, 1, (12, 12))
    cut = chunks(backend, [x, x[:3]])
    assert max(len(part) for part in cut) == CHUNK
    np.testing.assert_array_equal(np.concatenate(cut), np.concatenate([x.numpy(), x[:3].numpy()]))
    assert len(chunks(backend, [x[:8]])) == 8


def test_proof_and_solution_share_nothing():
    net, x = network(), smooth(40, 1)
    with torch.no_grad():
        real = net(x).numpy()
    task = Task.of(
        TorchBackend(net), [x], "x", reference=real, paired=True, periods=(2,), within_db=3.0, max_distortion=30.0
    )
    fitted, kept = (np.concatenate(part.batches) for part in (task.fit, task.proof))
    assert len(fitted) + len(kept) == 40
    assert not (fitted[:, None] == kept[None]).all((2, 3, 4)).any()
    for part in (task.fit, task.proof):
        for number, batch in enumerate(part.batches):
            with torch.no_grad():
                np.testing.assert_allclose(part.reference("output", number), net(torch.from_numpy(batch)), atol=1e-6)
    judged = task.proof.judge(TorchBackend(net), task.periods)
    assert task.psnr(judged) == math.inf
