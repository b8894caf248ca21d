"""Attribution: networks whose guilty layer is known by construction."""

from __future__ import annotations

import copy
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from evenly.errors import ParameterError, UsageError
from evenly.fix._attribution_budget import corresponding
from evenly.fix.attributed import Attribution, Effect
from evenly.fix.attribution import attribute
from evenly.fix.levels import powers
from evenly.fix.torch_backend import TorchBackend

PERIODS = (2, 4, 8)


def clean(inputs: int, outputs: int) -> nn.Sequential:
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    return nn.Sequential(up, nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate"), nn.ReLU())


def uneven(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, 1), nn.ReLU())


def planted(channels: int, ripple: float) -> nn.ConvTranspose2d:
    """Linear interpolation of every channel, with one phase louder by `ripple`."""
    layer = nn.ConvTranspose2d(channels, channels, 4, 2, 1)
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = torch.outer(row, row)
    kernel[::2, ::2] *= 1 + ripple
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        for k in range(channels):
            layer.weight[k, k] = kernel
    return layer


def falls(found: Attribution, period: int) -> dict[str, float]:
    return {layer.name: layer.effects[period].fall_db for layer in found.layers if period in layer.effects}


def assert_explained(found: Attribution) -> None:
    """Every budget adds up, and so do single effects, together and interaction."""
    count = 0
    for layer in found.layers:
        for budget in layer.budgets.values():
            if budget.created is None or budget.found is None or not budget.found:
                continue
            count += 1
            assert budget.created + budget.passed + budget.cross == pytest.approx(budget.found, rel=1e-9, abs=1e-18)
            assert abs(budget.residual) < 1e-9 * (budget.found + budget.created)
    assert count
    for period, together in found.together.items():
        assert found.singles(period) + found.interaction(period) == pytest.approx(together.removed)


# ---- forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_uneven_layer_at_any_depth(depth):
    torch.manual_seed(depth)
    parts = [clean(3, 4), clean(4, 4), clean(4, 4)]
    parts[depth] = uneven(4 if depth else 3, 4)
    # one more layer of equal phases, so that the guilty one is never next to the output
    net = nn.Sequential(*parts, nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"))
    found = attribute(net, torch.randn(4, 3, 8, 8), periods=PERIODS)
    period = 2 ** (3 - depth)
    assert period in found.present
    assert [layer.name for layer in found.ranking(period)] == [f"{depth}.0"]
    guilty = found.ranking(period)[0]
    assert guilty.even == "balanced by output"
    assert guilty.effects[period].fall_db > 0.8 * found.lines[period].level_db
    assert guilty.effects[period].removed > 0.6
    budget = guilty.budgets[period]
    assert budget.period == 2
    assert budget.arrived is None  # a line of period 1 would be a constant
    assert budget.created == pytest.approx(budget.found, rel=0.1)
    assert_explained(found)
    others = [layer for layer in found.layers if layer is not guilty]
    assert all(layer.untested and not layer.fixed and not layer.effects for layer in others)
    assert f"1.  {depth}.0" in str(found)


def test_what_a_layer_creates_in_closed_form():
    layer = nn.ConvTranspose2d(1, 1, 2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.tensor([[1.0, 1.1], [0.7, 1.2]])
        layer.bias.fill_(0.3)
    values = np.array([0.5, -1.0, 2.0], np.float32)
    batch = np.ones((3, 1, 16, 16), np.float32) * values[:, None, None, None]
    found = attribute(layer, inputs=[batch], periods=[2])
    pattern = np.tile(np.array([[1.0, 1.1], [0.7, 1.2]]) - 1.0, (16, 16))
    expected = powers(pattern[None, None] * values[:, None, None, None].astype(float), 2)[0].mean()
    budget = found.layers[0].budgets[2]
    assert budget.created == pytest.approx(expected, rel=1e-4)
    assert budget.found == pytest.approx(expected, rel=1e-4)
    assert budget.passed < 1e-6 * expected
    assert found.layers[0].effects[2].removed == pytest.approx(1, abs=1e-6)
    assert found.last_step == {2: 0.0}


def test_a_planted_ripple_counts_as_much_as_there_is_of_it():
    batch = np.random.default_rng(0).standard_normal((6, 2, 12, 12)) * 0.1 + 1
    level = {}
    for ripple in (0.02, 0.2):
        found = attribute(planted(2, ripple), inputs=[batch], periods=[2])
        level[ripple] = found.layers[0].budgets[2].created
        assert [layer.name for layer in found.ranking()] == ["conv_transpose"]
        assert_explained(found)
    assert level[0.2] / level[0.02] == pytest.approx(100, rel=0.02)  # power goes with the square


def test_an_even_kernel_is_not_guilty():
    torch.manual_seed(0)
    net = nn.Sequential(planted(3, 0.0), clean(3, 3))
    found = attribute(net, torch.randn(4, 3, 12, 12), periods=PERIODS)
    assert found.layers[0].even  # it was tested
    assert all(abs(effect.fall_db) < 0.1 for effect in found.layers[0].effects.values())
    assert not found.ranking()


def test_each_line_has_its_own_layer():
    torch.manual_seed(1)
    net = nn.Sequential(uneven(3, 4), clean(4, 3), planted(3, 0.5))
    found = attribute(net, torch.randn(4, 3, 8, 8), periods=PERIODS)
    assert {2, 8} <= set(found.present)
    assert found.ranking(2)[0].name == "2"
    assert found.ranking(8)[0].name == "0.0"
    assert falls(found, 2)["0.0"] < 0.2 * falls(found, 2)["2"]
    assert {layer.name for layer in found.ranking()} >= {"0.0", "2"}
    last = next(layer for layer in found.layers if layer.name == "2")
    assert last.budgets[8].period == 8
    assert last.budgets[8].arrived > 0  # what comes from the first layer
    assert last.budgets[8].passed > 0.5 * last.budgets[8].found
    # from layer to layer nothing is lost: found there plus the step is what arrives here
    before = found.layers[-2].budgets[8]
    assert before.found + last.budgets[8].between == pytest.approx(last.budgets[8].arrived)
    assert_explained(found)


class UNet(nn.Module):
    """Two ways up; one of them is a transposed convolution of uneven overlap."""

    def __init__(self, guilty: str) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 4, 3, 2, 1)
        self.down2 = nn.Conv2d(4, 4, 3, 2, 1)
        self.deep = uneven(4, 4) if guilty == "deep" else clean(4, 4)
        self.skip = nn.Sequential(uneven(4, 4) if guilty == "skip" else clean(4, 4))
        self.up = clean(4, 4)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        a = torch.relu(self.down1(x))
        b = torch.relu(self.down2(a))
        return self.last(torch.cat([self.up(self.deep(b)), self.skip(a)], 1))


@pytest.mark.parametrize(("guilty", "name", "period"), [("deep", "deep.0", 4), ("skip", "skip.0.0", 2)])
def test_a_bad_branch_of_a_unet(guilty, name, period):
    torch.manual_seed(3)
    found = attribute(UNet(guilty), torch.randn(4, 3, 32, 32), periods=(2, 4))
    assert period in found.present
    assert [layer.name for layer in found.ranking(period)] == [name]
    assert [layer.name for layer in found.layers if layer.even] == [name]
    assert_explained(found)


def test_subpixel_layers_by_weights_and_by_bias():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(1, 1, 3, padding=1))
    found = attribute(net, torch.randn(4, 2, 12, 12), periods=[2])
    assert found.ranking(2)[0].name == "0"
    assert found.ranking(2)[0].kind == "subpixel"
    with torch.no_grad():
        net[0].weight[:] = net[0].weight[:1]  # phases alike, but for the bias
    found = attribute(net, torch.randn(4, 2, 12, 12), periods=[2])
    assert found.ranking(2)[0].effects[2].removed > 0.9


def test_a_kernel_shorter_than_its_stride_gets_the_taps_it_lacks():
    torch.manual_seed(0)
    found = attribute(nn.ConvTranspose2d(2, 2, 1, 2, output_padding=1), torch.randn(4, 2, 12, 12), periods=[2])
    assert found.layers[0].even
    assert found.ranking(2)[0].effects[2].removed > 0.9


def test_groups_one_axis_and_many_features(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose1d(4, 4, 3, 2, 1, 1, groups=2), nn.Conv1d(4, 1, 3, padding=1))
    found = attribute(net, torch.randn(4, 4, 32), periods=[2])
    assert found.ranking(2)[0].even == "balanced by output"
    monkeypatch.setattr("evenly.fix._attribution_forward.MOST_FEATURES", 1)
    found = attribute(net, torch.randn(4, 4, 32), periods=[2])
    assert found.ranking(2)[0].even == "balanced by weights"
    assert found.ranking(2)[0].effects[2].removed > 0.9
    assert_explained(found)


def test_a_clean_network_has_nothing_to_attribute():
    torch.manual_seed(0)
    net = nn.Sequential(clean(3, 4), clean(4, 3))
    found = attribute(net, torch.randn(4, 3, 12, 12), periods=PERIODS)
    assert not found.present
    assert not found.ranking()
    assert not found.together
    assert "nothing to attribute" in str(found)
    assert all(budget.created in (0.0, None) for layer in found.layers for budget in layer.budgets.values())


def test_lines_that_the_input_brings_are_nobodys():
    torch.manual_seed(0)
    stripes = np.random.default_rng(0).standard_normal((8, 1, 32, 32)) + 3 * (-1.0) ** np.arange(32)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), planted(2, 0.0))
    found = attribute(net, inputs=[stripes], periods=[2, 4])
    assert 4 in found.present
    assert not found.ranking()
    assert "No layer alone" in str(found)
    assert found.layers[1].budgets[4].arrived > 0
    assert found.inputs == "as given"


def test_layers_that_cannot_be_edited_are_named_and_not_guessed():
    torch.manual_seed(0)
    first, second = nn.ConvTranspose2d(3, 3, 3, 2, 1, 1), nn.ConvTranspose2d(3, 3, 3, 2, 1, 1)
    second.weight = first.weight
    dilated = nn.ConvTranspose2d(3, 3, 3, 2, 2, 1, dilation=2)
    found = attribute(nn.Sequential(first, second, dilated), torch.randn(4, 3, 8, 8), periods=PERIODS)
    assert found.present
    assert not found.ranking()
    assert [layer.fixed for layer in found.layers] == [True, True, True]
    assert "shares parameters" in found.layers[0].untested
    assert "no kernel of its geometry" in found.layers[2].untested
    assert not any(layer.effects for layer in found.layers)
    assert found.layers[0].budgets[8].created is None
    assert found.layers[0].budgets[8].found > 0  # its lines are read all the same
    text = str(found)
    assert "Not testable" in text
    assert "shares parameters" in text


def test_a_layer_that_runs_twice():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 3, 3, 2, 1, 1)

        def forward(self, x):
            return self.up(self.up(x))

    torch.manual_seed(0)
    found = attribute(Twice(), torch.randn(4, 3, 8, 8), periods=[2, 4])
    assert found.layers[0].fixed
    assert "2 times" in found.layers[0].untested
    assert not found.layers[0].budgets


def test_onnx_files_as_torch_modules(tmp_path):
    torch.manual_seed(0)
    net = uneven(3, 2)
    weight, bias = (
        numpy_helper.from_array(t.detach().numpy(), n) for t, n in zip(net[0].parameters(), "wb", strict=True)
    )
    node = helper.make_node(
        "ConvTranspose", ["x", "w", "b"], ["y"], "up", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    )
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, c, s, s]) for n, c, s in (("x", 3, 8), ("z", 2, 16))
    ]
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["y"], ["z"])], "g", ends[:1], ends[1:], initializer=[weight, bias]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    x = np.ones((4, 3, 8, 8), np.float32)
    here, there = (attribute(m, x, periods=[2]) for m in (net, str(path)))
    assert there.ranking(2)[0].name == "up"
    assert there.model == "net.onnx"
    effects = [found.ranking(2)[0].effects[2] for found in (here, there)]
    assert effects[1].fall_db == pytest.approx(effects[0].fall_db, rel=1e-2)
    assert effects[1].removed == pytest.approx(effects[0].removed, rel=1e-3)


# ---- backward --------------------------------------------------------------------------------------------------------


def classifier(*parts: nn.Module, channels: int = 6) -> nn.Sequential:
    head = (nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*parts, *head, nn.Linear(channels, 5))


def test_a_strided_stem_makes_the_grid_of_a_saliency_map():
    torch.manual_seed(0)
    net = classifier(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
    found = attribute(net, torch.randn(8, 3, 32, 32), backward=True, periods=[2, 4])
    assert found.direction == "backward"
    assert found.present == (2,)
    (guilty,) = found.ranking(2)
    assert (guilty.name, guilty.kind, guilty.even) == ("0", "convolution", "low-pass")
    assert guilty.effects[2].fall_db > 0.9 * found.lines[2].level_db
    assert guilty.effects[2].removed > 0.9
    assert_explained(found)
    assert "squared gradient" in str(found)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_strided_layer_behind_an_even_pool(kernel, seed):
    torch.manual_seed(seed)
    deep = nn.Conv2d(6, 6, kernel, 2, kernel // 2)
    net = classifier(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), deep, nn.ReLU())
    found = attribute(net, torch.randn(8, 3, 48, 48), backward=True, periods=[2, 4])
    assert 4 in found.present
    assert found.ranking(4)[0].name == "3"
    assert [layer.name for layer in found.ranking(4)] == ["3"]
    assert list(found.layers[0].effects) == [2]  # an average of 2 x 2 makes no period 4
    assert falls(found, 4)["3"] > 0.8 * found.lines[4].level_db
    assert found.ranking(4)[0].budgets[4].period == 2


def test_a_deep_line_is_not_laid_to_the_stem():
    torch.manual_seed(1)
    net = classifier(nn.Conv2d(3, 6, 4, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1), nn.ReLU())
    found = attribute(net, torch.randn(8, 3, 48, 48), backward=True, periods=[2, 4])
    assert found.present == (2, 4)
    assert [layer.name for layer in found.ranking(2)] == ["0"]
    assert [layer.name for layer in found.ranking(4)] == ["2"]
    assert {layer.name: tuple(layer.effects) for layer in found.layers} == {"0": (2,), "2": (4,)}


def test_a_network_for_pictures():
    """Stem 7 x 7, max pool and shortcuts of 1 x 1: each has the period of its place."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(inputs, outputs, 3, 2, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
            self.short, self.act = nn.Conv2d(inputs, outputs, 1, 2), nn.ReLU(inplace=True)

        def forward(self, x):
            return self.act(self.two(self.act(self.one(x))) + self.short(x))

    torch.manual_seed(0)
    net = classifier(nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), Block(8, 8), channels=8)
    found = attribute(net, torch.randn(8, 3, 128, 128), backward=True, periods=[2, 4, 8])
    assert set(found.present) == {2, 4, 8}
    assert [found.ranking(period)[0].name for period in (2, 4, 8)] == ["0", "2", "3.short"]
    assert {layer.name: tuple(layer.effects) for layer in found.layers} == {
        "0": (2,), "2": (4,), "3.one": (8,), "3.short": (8,),
    }  # fmt: skip
    assert_explained(found)


def test_the_bad_branch_of_a_residual_block():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.way = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
            self.short = nn.Conv2d(3, 6, 1, 2)

        def forward(self, x):
            return self.way(x) + 2 * self.short(x)

    torch.manual_seed(0)
    found = attribute(classifier(Block(), nn.ReLU()), torch.randn(8, 3, 32, 32), backward=True, periods=[2])
    assert [layer.name for layer in found.ranking(2)][:1] == ["0.short"]
    assert falls(found, 2)["0.way.2"] < 0.2 * falls(found, 2)["0.short"]
    assert found.ranking(2)[0].even == "low-pass"


@pytest.mark.parametrize("pool", [nn.AvgPool2d(3, 2), nn.MaxPool2d(3, 2), nn.PixelUnshuffle(2)])
def test_pools_and_shuffles(pool):
    torch.manual_seed(0)
    net = classifier(pool, nn.Conv2d(12 if isinstance(pool, nn.PixelUnshuffle) else 3, 6, 3, padding=1), nn.ReLU())
    found = attribute(net, torch.randn(8, 3, 32, 32), backward=True, periods=[2])
    assert 2 in found.present
    assert found.ranking(2)[0].name == "0"
    assert found.ranking(2)[0].effects[2].fall_db > 0.5 * found.lines[2].level_db


def test_one_axis_and_classes_of_ones_own():
    class Own(nn.Conv1d):
        pass

    torch.manual_seed(0)
    net = nn.Sequential(Own(2, 6, 3, 2, 1), nn.ReLU(), nn.Conv1d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2))
    found = attribute(net, torch.randn(16, 2, 256), backward=True, periods=[2, 4])
    assert [(layer.name, layer.kind) for layer in found.layers] == [("0", "convolution"), ("4", "max pool")]
    assert found.ranking(2)[0].name == "0"


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_other_padding_groups_and_dilation(mode):
    torch.manual_seed(0)
    net = classifier(nn.Conv2d(4, 6, 3, 2, 2, dilation=3, groups=2, padding_mode=mode), nn.ReLU())
    found = attribute(net, torch.randn(8, 4, 32, 32), backward=True, periods=[2])
    assert found.ranking(2)[0].effects[2].removed > 0.9


def test_a_clean_gradient():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 6, 3, padding=1))
    found = attribute(net, torch.randn(8, 3, 32, 32), backward=True, periods=[2, 4])
    assert not found.ranking(4)
    assert not found.ranking(2)


def test_a_strided_layer_that_runs_twice_or_not_at_all_is_not_guessed():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.idle = nn.Conv2d(3, 3, 3, 2, 1), nn.MaxPool2d(2)

        def forward(self, x):
            return self.down(self.down(x))

    torch.manual_seed(0)
    found = attribute(Twice(), torch.randn(8, 3, 32, 32), backward=True, periods=[2])
    assert not found.ranking()
    assert [(layer.name, layer.fixed) for layer in found.layers] == [("down", True), ("idle", True)]
    assert "2 times" in found.layers[0].untested
    assert "did not call" in found.layers[1].untested


# ---- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backward", [False, True])
def test_determinism_and_a_model_that_stays_as_it_is(backward):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Dropout(0.5), uneven(4, 3)).train()
    before = copy.deepcopy(net.state_dict())
    generator = torch.random.get_rng_state()
    first, second = (attribute(net, np.zeros((4, 3, 24, 24)), periods=[2, 4], backward=backward) for _ in range(2))
    assert first == second
    assert str(first) == str(second)
    assert net.training
    assert net[1].training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(generator, torch.random.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    other = attribute(net, np.zeros((4, 3, 24, 24)), periods=[2, 4], backward=backward, seed=1)
    assert other.lines != first.lines
    read = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert read["ranking"] == [layer.name for layer in first.ranking()]
    assert read["lines"]["2"]["present"] == first.lines[2].present


def test_a_backend_and_the_choice_of_an_output():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.even = uneven(3, 3), clean(3, 3)

        def forward(self, x):
            return {"rough": self.up(x), "smooth": self.even(x), "mean": x.mean((2, 3))}

    torch.manual_seed(0)
    backend, x = TorchBackend(Two()), torch.randn(4, 3, 16, 16)
    assert attribute(backend, x, output="rough", periods=[2]).ranking(2)[0].name == "up.0"
    assert not attribute(backend, x, output="smooth", periods=[2]).ranking()
    with pytest.raises(UsageError, match="say with output"):
        attribute(backend, x, periods=[2])
    with pytest.raises(UsageError, match="no output 'rouhg'"):
        attribute(backend, x, output="rouhg")
    with pytest.raises(UsageError, match="axes"):
        attribute(backend, x, output="mean")
    assert attribute(backend, x, output="mean", backward=True, periods=[2]).output == "mean"
    with pytest.raises(UsageError, match="no floating output"):
        attribute(backend, x, output="rouhg", backward=True)


def test_refusals():
    net, x = uneven(3, 2), torch.randn(2, 3, 12, 12)
    with pytest.raises(UsageError, match="give an example"):
        attribute(net)
    with pytest.raises(UsageError, match="no batch"):
        attribute(net, inputs=[])
    with pytest.raises(UsageError, match="one signal"):
        attribute(net, inputs=[x[:1]], periods=[2])
    with pytest.raises(UsageError, match="one size"):
        attribute(net, inputs=[x, x[:, :, :10]], periods=[2])
    with pytest.raises(UsageError, match="too few"):
        attribute(net, x[:, :, :3, :3])
    with pytest.raises(UsageError, match="NaN"):
        attribute(net, inputs=[x * torch.nan], periods=[2])
    with pytest.raises(UsageError, match="no example input"):
        attribute(net, torch.ones(2, 3, 12, 12, dtype=torch.int64))
    with pytest.raises(ParameterError, match="periods"):
        attribute(net, x, periods=[1])
    with pytest.raises(UsageError, match="is no model"):
        attribute(object(), x)
    with pytest.raises(UsageError, match="torch module"):
        attribute("net.onnx", x, backward=True)
    with pytest.raises(UsageError, match="is zero"):
        attribute(nn.Sequential(nn.Conv2d(3, 1, 3), nn.Threshold(1e9, 0)), x, backward=True)
    with pytest.raises(UsageError, match="does not run"):
        attribute(net, torch.randn(2, 4, 12, 12), backward=True)
    with pytest.raises(UsageError, match="no positions"):
        attribute(nn.Linear(3, 2), torch.randn(2, 3), backward=True)


def test_corresponding_periods():
    assert corresponding(8, (64, 64), (16, 16)) == 2
    assert corresponding(2, (32, 32), (64, 64)) == 4
    assert corresponding(4, (61, 61), (31, 31)) == 2  # a transposed convolution without output padding
    assert "elsewhere" in str(corresponding(4, (64, 64), (16, 16)))
    assert "4/3" in str(corresponding(4, (96,), (32,)))
    assert "no common whole ratio" in str(corresponding(4, (64, 64), (32, 16)))
    assert "no common whole ratio" in str(corresponding(4, (64, 64), (60, 60)))
    assert "axes" in str(corresponding(4, (64, 64), (64,)))
    assert "too few" in str(corresponding(8, (40, 40), (20, 20)))


def test_only_falls_that_are_certain_count():
    assert Effect(5.0, 1.0, 9.0, 0.5).certain
    assert not Effect(5.0, -1.0, 11.0, 0.5).certain
    assert not Effect(0.05, 0.01, 0.1, 0.01).certain


def test_a_signal_without_a_line_has_no_share_in_what_is_gone():
    """Evening a layer may bring up a line in a flat signal by any factor: it counts no more than a line that stood."""
    from evenly.fix.attribution import _Survey

    survey = _Survey.__new__(_Survey)
    near = np.array([1.0, 1.0, 1.0])
    before, after = np.array([10.0, 0.5, 5.0]), np.array([1.0, 1e6, 1e6])
    survey._powers = {(): [{2: np.stack([before, near])}], ("layer",): [{2: np.stack([after, near])}]}
    assert survey._effect(("layer",), 2).removed == pytest.approx((0.9 - 0.8) / (0.9 + 0.8))
