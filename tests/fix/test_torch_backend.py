"""Torch modules as repairs see them: geometry, weights, runs, edits of a copy, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from evenly.errors import UsageError
from evenly.fix.backend import Backend, Edit
from evenly.fix.phase_conv import PhaseConv2d
from evenly.fix.scatter import Scatter, phase_convolution, subpixel, transposed
from evenly.fix.torch_backend import TorchBackend
from evenly.graph import ir
from evenly.graph.torch import read_module
from evenly.nn import BalancedConvTranspose2d, SubpixelConv1d, SubpixelConv2d, utils

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PADDINGS = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def filled(module, seed=0):
    """Small whole numbers as weights: sums are exact in any order, so equal means equal."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-4, 5, parameter.shape, generator=generator))
    return module


def numbers(shape, seed=0):
    return torch.randint(-4, 5, shape, generator=seeded(seed)).double()


def same(layer, **changes):
    """The edit that changes nothing, but for what is given."""
    given = Edit(layer.name, layer.weight, layer.bias, layer.kernel, layer.padding, layer.output_padding)
    return replace(given, **changes)


def state(module):
    return {key: value.numpy().tobytes() for key, value in module.state_dict().items()}


def only(backend):
    (layer,) = backend.layers()
    return layer


@st.composite
def layers(draw, kinds=("convolution", "transposed")):
    """A layer and an input that it takes."""
    dims = draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, stride, dilation, padding, groups = each(1, 4), each(1, 3), each(1, 2), each(0, 2), draw(st.integers(1, 2))
    ends = (groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)))
    common = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups, "dtype": torch.float64}
    common["bias"] = draw(st.booleans())
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if draw(st.sampled_from(kinds)) == "transposed":
        added = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        module = TRANSPOSED[dims - 1](*ends, kernel, output_padding=added, **common)
        least = [1 + max(0, 2 * p - r - a) for r, p, a in zip(reach, padding, added, strict=True)]
    else:
        mode = draw(st.sampled_from(sorted(PADDINGS)))
        module = CONVOLUTIONS[dims - 1](*ends, kernel, padding_mode=mode, **common)
        least = [max(p + 1, 1 + r - 2 * p) for r, p in zip(reach, padding, strict=True)]
    sizes = [draw(st.integers(n, n + 2)) for n in least]
    return filled(module.eval(), draw(st.integers(0, 99))), numbers((2, ends[0], *sizes), 1)


# ---- the same --------------------------------------------------------------------------------------------------------


@given(layers())
def test_a_layer_is_described_and_an_edit_without_change_changes_no_bit(case):
    module, x = case
    before = state(module)
    backend: Backend = TorchBackend(module)
    layer = only(backend)
    assert layer.kind == ("transposed" if isinstance(module, TRANSPOSED) else "convolution")
    assert (layer.kernel, layer.stride, layer.dilation) == (module.kernel_size, module.stride, module.dilation)
    assert layer.padding == tuple((p, p) for p in module.padding)
    assert (layer.fixed, layer.note, layer.groups, layer.pad_mode) == (None, None, module.groups, module.padding_mode)
    np.testing.assert_array_equal(layer.weight, module.weight.detach().numpy())
    twin = backend.edited([same(layer)])
    assert torch.equal(twin.model(x), module(x))
    assert state(twin.model) == before == state(module)
    assert not {p.data_ptr() for p in twin.model.parameters()} & {p.data_ptr() for p in module.parameters()}
    run = twin.run(x.numpy(), [layer.name])
    np.testing.assert_array_equal(run.inputs[layer.name], x.numpy())
    np.testing.assert_array_equal(run.results[layer.name], module(x).detach().numpy())
    np.testing.assert_array_equal(run.outputs["output"], module(x).detach().numpy())


@given(layers(), st.data())
def test_longer_kernels_of_zeros_are_the_same_layer(case, data):
    module, x = case
    backend = TorchBackend(module)
    layer = only(backend)
    longer = [(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in layer.kernel]
    weight = np.pad(layer.weight, [(0, 0), (0, 0), *longer])
    padding = tuple(
        (a + d * left, b + d * right)
        for (a, b), d, (left, right) in zip(layer.padding, layer.dilation, longer, strict=True)
    )
    if layer.pad_mode != "zeros":  # PyTorch reflects no more than there is
        assume(all(max(p) < n for p, n in zip(padding, x.shape[2:], strict=True)))
    edit = same(layer, weight=weight, kernel=weight.shape[2:], padding=padding)
    twin = backend.edited([edit])
    assert torch.equal(twin.model(x), module(x))
    assert type(twin.model) is type(module)
    assert list(twin.model.state_dict()) == list(module.state_dict())
    again = only(twin)
    assert all(before == after for before, after in again.padding)  # PyTorch's own terms
    np.testing.assert_array_equal(twin.run(x, [layer.name]).results[layer.name], module(x).detach().numpy())


@given(layers(kinds=("convolution",)), st.data())
def test_unequal_padding_is_that_of_the_padded_input(case, data):
    module, x = case
    module.padding_mode = "zeros"
    backend = TorchBackend(module)
    layer = only(backend)
    moved = [data.draw(st.integers(-2, 2)) for _ in layer.kernel]
    padding = tuple((a - m, b + m) for (a, b), m in zip(layer.padding, moved, strict=True))
    assume(all(n + min(p) > 0 for n, p in zip(x.shape[2:], padding, strict=True)))  # PyTorch crops no more than that
    twin = backend.edited([same(layer, padding=padding)])
    padded = nn.functional.pad(x, [a for both in reversed(padding) for a in both])
    expected = copy.deepcopy(module)
    expected.padding = (0,) * len(padding)
    assert torch.equal(twin.model(x), expected(padded))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("mode", sorted(PADDINGS))
def test_same_padding_of_even_kernels(mode):
    module = filled(nn.Conv2d(1, 2, (4, 3), padding="same", dilation=(1, 2), padding_mode=mode).double())
    backend = TorchBackend(module)
    layer = only(backend)
    assert layer.padding == ((1, 2), (2, 2))
    x = numbers((1, 1, 6, 6))
    kept = backend.edited([same(layer)]).model
    assert kept.padding == "same"
    assert torch.equal(kept(x), module(x))
    longer = same(layer, weight=np.pad(layer.weight, [(0, 0)] * 3 + [(1, 0)]), kernel=(4, 4), padding=((1, 2), (4, 2)))
    assert torch.equal(backend.edited([longer]).model(x), module(x))


def test_weights_may_be_views_and_inputs_read_only():
    module = filled(nn.Conv1d(1, 1, 3).double())
    backend = TorchBackend(module)
    layer = only(backend)
    twin = backend.edited([same(layer, weight=layer.weight[:, :, ::-1])])
    x = np.broadcast_to(np.arange(6.0), (2, 1, 6))
    found = twin.run(x[:, :, ::-1]).outputs["output"]
    np.testing.assert_array_equal(found[:, :, ::-1], backend.run(x).outputs["output"])


def test_layers_are_named_as_a_check_names_them():
    x = torch.zeros(1, 2, 4, 4)
    nets = (
        nn.ConvTranspose2d(2, 2, 3),
        nn.Conv2d(2, 2, 3),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.ConvTranspose2d(2, 2, 2)),
    )
    for net in nets:
        names = [node.name for node in read_module(net, (x,)).nodes if isinstance(node.op, ir.Conv | ir.ConvTranspose)]
        assert [layer.name for layer in TorchBackend(net, x).layers()] == names


# ---- scatter's tables against the layers -----------------------------------------------------------------------------


def multiplied(scatter, x, taps):
    """The outputs of a layer: features times weights ``(taps, C_in, C_out)``, phase by phase."""
    out = np.zeros((len(x), taps.shape[2], *(axis.outputs for axis in scatter.axes)))
    for phase in scatter.phases():
        places = tuple(slice(r, None, axis.stride) for r, axis in zip(phase, scatter.axes, strict=True))
        part = scatter.features(x, phase) @ taps[scatter.active(phase)].reshape(-1, taps.shape[2])
        shape = out[(slice(None), slice(None), *places)].shape
        out[(slice(None), slice(None), *places)] = part.transpose(0, 2, 1).reshape(shape)
    return out


def by_group(x, groups, work):
    parts = np.split(x, groups, axis=1)
    return np.concatenate([work(part, g) for g, part in enumerate(parts)], axis=1)


@given(layers(kinds=("transposed",)))
def test_tables_of_transposed_convolutions(case):
    module, x = case
    backend = TorchBackend(module)
    layer = only(backend)
    result = backend.run(x, [layer.name]).results[layer.name]
    assume(all(n >= s for n, s in zip(result.shape[2:], layer.stride, strict=True)))  # every phase has an output
    axes = zip(x.shape[2:], result.shape[2:], layer.kernel, layer.stride, layer.padding, layer.dilation, strict=True)
    tables = tuple(transposed(n, out, k, s, p[0], d) for n, out, k, s, p, d in axes)
    per_group = x.shape[1] // layer.groups
    scatter = Scatter(tables, per_group)

    def one(part, g):
        weight = layer.weight[g * per_group : (g + 1) * per_group]
        return multiplied(scatter, part, np.moveaxis(weight.reshape(*weight.shape[:2], -1), -1, 0))

    bias = 0 if layer.bias is None else layer.bias.reshape(-1, *(1,) * len(layer.kernel))
    np.testing.assert_array_equal(by_group(x.numpy(), layer.groups, one) + bias, result)


def tap_order(weight, dims):
    """``(*phases, C_out, C_in, *kernel)`` as ``(taps, C_in, C_out)``, the taps of each axis ``(phase, offset)``."""
    order = [axis for i in range(dims) for axis in (i, dims + 2 + i)]
    turned = weight.transpose(*order, dims + 1, dims)
    return turned.reshape(-1, *turned.shape[-2:])


@pytest.mark.parametrize(("dims", "groups", "functional"), [(1, 1, False), (2, 1, True), (2, 2, False), (3, 1, False)])
def test_tables_of_subpixel_convolutions(dims, groups, functional):
    factor = (2, 2, 2)[:dims] if functional or dims == 2 else (3, 2, 2)[:dims]
    phases = int(np.prod(factor))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            convolution = CONVOLUTIONS[dims - 1]
            self.first = convolution(2, 2 * phases, 3, padding=1, groups=groups)
            self.shuffle = nn.PixelShuffle(2)

        def forward(self, x):
            y = self.first(x)
            if functional:
                return nn.functional.pixel_shuffle(y, 2)
            if dims == 2:
                return self.shuffle(y)
            n, _, *sizes = y.shape
            y = y.reshape(n, 2, *factor, *sizes)
            woven = [axis for i in range(dims) for axis in (2 + dims + i, 2 + i)]
            return y.permute(0, 1, *woven).reshape(n, 2, *(s * f for s, f in zip(sizes, factor, strict=True)))

    net = filled(Net().double())
    x = numbers((1, 2, 4, 3, 2)[: 2 + dims])
    backend = TorchBackend(net, x)
    layer = only(backend)
    assert (layer.kind, layer.factor, layer.fixed) == ("subpixel", factor, None)
    run = backend.run(x, ["first"])
    np.testing.assert_array_equal(run.results["first"], run.outputs["output"])
    scatter = Scatter(tuple(subpixel(n, 3, s, 1, 1) for n, s in zip(x.shape[2:], factor, strict=True)), 2 // groups)
    weight = layer.weight.reshape(2, *factor, *layer.weight.shape[1:])
    weight = np.moveaxis(weight, 0, dims)  # phases, C_out, C_in, kernel

    def one(part, g):
        mine = np.split(weight, groups, axis=dims)[g]
        return multiplied(scatter, part, tap_order(mine, dims))

    found = by_group(x.numpy(), groups, one)
    bias = np.moveaxis(layer.bias.reshape(2, *factor), 0, -1)
    for phase in product(*map(range, factor)):
        places = tuple(slice(r, None, s) for r, s in zip(phase, factor, strict=True))
        found[(slice(None), slice(None), *places)] += bias[phase].reshape(-1, *(1,) * dims)
    np.testing.assert_array_equal(found, run.results["first"])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolutions_by_phase(dims):
    module = filled(nn.Sequential(nn.ReLU(), CONVOLUTIONS[dims - 1](2, 3, 3, padding=1), nn.Tanh()).double())
    x = numbers((1, 2, 5, 4, 3)[: 2 + dims])
    backend = TorchBackend(module)
    layer = only(backend)
    phases = (2, 3, 2)[:dims]
    weight = numbers((*phases, *layer.weight.shape), 5).numpy()
    bias = numbers((*phases, 3), 6).numpy()
    equal = np.broadcast_to(layer.weight, weight.shape), np.broadcast_to(layer.bias, bias.shape)
    unchanged = backend.edited([same(layer, weight=equal[0], bias=equal[1], phases=phases)])
    torch.testing.assert_close(unchanged.model(x), module(x), rtol=0, atol=1e-12)
    twin = backend.edited([same(layer, weight=weight, bias=bias, phases=phases)])
    assert list(twin.model.state_dict()) == list(module.state_dict())
    run = twin.run(x, ["1"])
    scatter = Scatter(tuple(phase_convolution(n, 3, p, 1, 1) for n, p in zip(x.shape[2:], phases, strict=True)), 2)
    found = multiplied(scatter, run.inputs["1"], tap_order(weight, dims))
    for phase in product(*map(range, phases)):
        places = tuple(slice(r, None, s) for r, s in zip(phase, phases, strict=True))
        found[(slice(None), slice(None), *places)] += bias[phase].reshape(-1, *(1,) * dims)
    np.testing.assert_array_equal(found, run.results["1"])
    read = [node.op for node in read_module(twin.model, (numbers((1, 2, *(6,) * dims)),)).nodes]
    assert [op.factor for op in read if isinstance(op, ir.PixelShuffle)] == [phases]
    assert not any(isinstance(op, ir.Unknown) for op in read)
    (again,) = twin.layers()
    assert again.fixed == "its weights differ by phase already; repair the network that it was made from"
    np.testing.assert_allclose(again.weight, weight.mean(tuple(range(dims))))


# ---- data flow -------------------------------------------------------------------------------------------------------


class Twice(nn.Module):
    """Layers out of order, one called twice, one shuffled depth-column-row, one read by two, one never called."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(2, 8, 3, padding=1)
        self.again = nn.Conv2d(2, 2, 1)
        self.two = nn.Conv2d(2, 8, 1)
        self.never = nn.Conv2d(2, 2, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        y = self.two(self.again(self.again(x)))
        y = self.shuffle(y) + y.mean()
        n, _, h, w = y.shape
        z = self.last(y).reshape(n, 2, 2, 2, h, w)
        return {"picture": z.permute(0, 3, 4, 1, 5, 2).reshape(n, 2, 2 * h, 2 * w), "other": (y, [y[:, 0]])}


def test_order_calls_and_shuffles_come_from_a_run():
    net = filled(Twice().double())
    x = numbers((1, 2, 3, 4))
    backend = TorchBackend(net)
    assert [layer.name for layer in backend.layers()] == ["last", "again", "two", "never"]
    run = backend.run({"x": x.numpy()}, ["last"])
    assert set(run.outputs) == {"picture", "other_0", "other_1_0"}
    found = {layer.name: layer for layer in backend.layers()}
    assert list(found) == ["again", "two", "last", "never"]
    assert {name: layer.kind for name, layer in found.items()} == {
        "again": "convolution", "two": "convolution", "last": "subpixel", "never": "convolution",
    }  # fmt: skip
    assert found["again"].fixed == "one run calls it 2 times"
    assert found["never"].note == "the run that was seen did not call it"
    np.testing.assert_array_equal(run.results["last"], run.outputs["picture"])
    # phases before channels in the network, after them in the layer
    last = found["last"]
    np.testing.assert_array_equal(last.weight.reshape(2, 4, 2, 3, 3)[1, 3], net.last.weight.detach().numpy()[3 * 2 + 1])
    twin = backend.edited([same(last, bias=np.arange(8.0))])
    assert torch.equal(twin.model.last.weight, net.last.weight)
    assert twin.model.last.bias.tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    with pytest.raises(UsageError, match="again runs 2 times on this batch"):
        backend.run(x, ["again"])
    with pytest.raises(UsageError, match="never does not run on this batch"):
        twin.run(x, ["never"])
    with pytest.raises(UsageError, match=r"Twice has no layer 'lost'; its layers are 'last', 'again', 'two', 'never'"):
        backend.run(x, ["lost"])


def test_what_cannot_be_traced_has_the_shuffles_of_its_sequentials():
    class Deciding(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2), nn.Conv2d(1, 4, 1))

        def forward(self, x):
            return self.up(x) if x.sum() > 1e9 else self.up(-x)

    backend = TorchBackend(Deciding(), torch.zeros(1, 1, 2, 2))
    assert [(layer.name, layer.kind) for layer in backend.layers()] == [("up.0", "subpixel"), ("up.2", "convolution")]


def test_groups_that_a_shuffle_mixes_are_fixed():
    net = nn.Sequential(nn.Conv2d(2, 4, 1, groups=2), nn.PixelShuffle(2))
    assert only(TorchBackend(net)).fixed == "its pixel shuffle makes one channel of several of its 2 groups"


# ---- runs ------------------------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ConvTranspose1d(1, 2, 4, 2)
        self.norm, self.drop = nn.BatchNorm1d(2), nn.Dropout(0.5)

    def forward(self, x, shift=None):
        x += 1  # in place, as careless code does
        y = self.layer(x)
        y.relu_()
        y = self.drop(self.norm(y))
        return (
            y + torch.rand(()) + (0 if shift is None else shift),
            x.to(torch.complex64)[:, 0],
            torch.ones(2, dtype=int),
        )


def test_runs_leave_no_trace():
    net = Noisy()
    nn.init.constant_(net.layer.bias, -2)  # what comes out of it is negative
    net.norm.eval()
    backend = TorchBackend(net)
    before, x = state(net), torch.zeros(1, 1, 5)
    first = backend.run(x, ["layer"])
    torch.rand(3)
    drawn = torch.random.get_rng_state()
    second = backend.run([x.numpy(), np.zeros(1)], ["layer"])
    for name, value in first.outputs.items():
        np.testing.assert_array_equal(value, second.outputs[name])
    assert {n: (v.shape, str(v.dtype)) for n, v in first.outputs.items()} == {
        "output_0": ((1, 2, 12), "float32"), "output_1": ((1, 5, 2), "float32"), "output_2": ((2,), "float64"),
    }  # fmt: skip
    assert first.results["layer"].min() < 0  # before what was done in place
    assert x.abs().max() == 0
    assert (net.training, net.norm.training, net.drop.training) == (True, False, True)
    assert state(net) == before
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert not net.layer._forward_hooks
    with pytest.raises(UsageError, match=r"Noisy does not run on a batch of \(1, 3, 5\): RuntimeError"):
        backend.run(np.zeros((1, 3, 5)))
    assert not net.layer._forward_hooks
    assert net.drop.training
    with pytest.raises(UsageError, match="the batch is no tensor"):
        backend.run(np.array([object()]))


@dataclass
class Result:
    picture: torch.Tensor
    text: str = "text"


def test_types_of_the_module_and_structures_of_results():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv1d(1, 1, 1)

        def forward(self, x):
            return Result(self.layer(x))

    net = Net().bfloat16()
    backend = TorchBackend(net)
    run = backend.run(np.ones((1, 3)), ["layer"])  # without a batch
    assert run.outputs["picture"].dtype == np.float32
    assert run.results["layer"].shape == (1, 1, 3)
    layer = only(backend)
    assert layer.weight.dtype == np.float32
    assert state(backend.edited([same(layer)]).model.float()) == state(copy.deepcopy(net).float())


# ---- weights that are computed ---------------------------------------------------------------------------------------


def old_style(function):
    def wrap(layer):
        with pytest.warns(FutureWarning):
            return function(layer)

    return wrap


def moved(layer):
    """Trained a little, so that what is computed differs from what was drawn."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)
    return layer


COMPUTED = {
    "weight_norm": lambda c: moved(parametrizations.weight_norm(c)),
    "spectral_norm": lambda c: moved(parametrizations.spectral_norm(c)),
    "old weight_norm": lambda c: moved(old_style(nn.utils.weight_norm)(c)),
    "old spectral_norm": lambda c: moved(nn.utils.spectral_norm(c)),
    "pruned": lambda c: moved(prune.l1_unstructured(c, "weight", 0.3)),
    "balanced": lambda c: utils.balance(c),
}


@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_computed_weights_become_plain(kind):
    net = nn.Sequential(nn.Conv1d(2, 2, 3), COMPUTED[kind](nn.ConvTranspose1d(2, 3, 4, 2)))
    net.train()
    x = torch.randn(1, 2, 6, generator=seeded(0))
    before = state(net)
    backend = TorchBackend(net)
    output = backend.run(x).outputs["output"]
    layer = backend.layers()[1]
    assert layer.fixed is None
    assert layer.note.startswith("its weight becomes a plain parameter (")
    twin = backend.edited([same(layer)])
    np.testing.assert_array_equal(twin.run(x).outputs["output"], output)
    plain = twin.model[1]
    assert type(plain) is nn.ConvTranspose1d
    assert list(plain.state_dict()) == ["weight", "bias"]
    assert plain.weight.requires_grad
    assert plain.training
    assert not plain._forward_pre_hooks
    # the original is as it was, and goes on working
    assert state(net) == before
    np.testing.assert_array_equal(backend.run(x).outputs["output"], output)
    twice = twin.edited([same(layer, weight=2 * layer.weight)])
    np.testing.assert_array_equal(twice.layers()[1].weight, 2 * layer.weight)


@pytest.mark.parametrize("kind", ["weight_norm", "old weight_norm", "pruned"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_computed_weights_by_phase(kind):
    net = COMPUTED[kind](nn.Conv1d(1, 2, 3, padding=1))
    backend = TorchBackend(net)
    layer = only(backend)
    weight, bias = np.broadcast_to(layer.weight, (2, *layer.weight.shape)), np.broadcast_to(layer.bias, (2, 2))
    twin = backend.edited([same(layer, weight=weight, bias=bias, phases=(2,))])
    x = torch.randn(1, 1, 5, generator=seeded(0))
    found, expected = (b.run(x, [layer.name]).results[layer.name] for b in (twin, backend))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert list(twin.model.state_dict()) == ["weight", "bias"]


def test_layers_of_evenly():
    net = nn.Sequential(
        SubpixelConv2d(2, 2, 3, balanced=True), BalancedConvTranspose2d(2, 2, 4, 2), SubpixelConv2d(2, 1, 3, (2, 3))
    )
    x = torch.randn(1, 2, 4, 4, generator=seeded(0))
    backend = TorchBackend(net, x)
    found = backend.layers()
    assert [(layer.kind, layer.factor) for layer in found] == [
        ("subpixel", (2, 2)), ("transposed", (1, 1)), ("subpixel", (2, 3)),
    ]  # fmt: skip
    run = backend.run(x, ["0", "1", "2"])
    assert run.results["0"].shape == (1, 2, 8, 8)
    twin = backend.edited([same(layer) for layer in found])
    np.testing.assert_array_equal(twin.run(x).outputs["output"], run.outputs["output"])
    assert not any(parametrize.is_parametrized(m) for m in twin.model.modules())
    assert utils.is_balanced(net[0])
    longer = np.pad(found[2].weight, [(0, 0)] * 2 + [(1, 0)] * 2)
    wide = twin.edited([same(found[2], weight=longer, kernel=(4, 4), padding=((2, 1),) * 2)])
    np.testing.assert_allclose(wide.run(x).outputs["output"], run.outputs["output"], atol=1e-6)
    assert only(TorchBackend(SubpixelConv1d(1, 1, 3))).kind == "subpixel"


# ---- edits -----------------------------------------------------------------------------------------------------------


def test_a_copy_keeps_what_it_can():
    net = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.Conv2d(2, 2, 3)).to(
        memory_format=torch.channels_last
    )
    net[0].requires_grad_(False)
    net[0].eval()
    seen = []
    net[0].register_forward_hook(lambda m, a, y: seen.append(type(m)))
    backend = TorchBackend(net)
    first, second = backend.layers()
    assert first.note == "frozen (requires_grad is False); it has forward hooks, which stay"
    assert second.note is None
    phases = np.broadcast_to(first.weight, (2, 2, *first.weight.shape))
    twin = backend.edited([
        same(first, weight=phases, phases=(2, 2)),
        same(second, bias=None),
    ]).model  # fmt: skip
    assert type(twin[0]) is PhaseConv2d
    assert not twin[0].weight.requires_grad
    assert (twin[0].training, twin[1].training) == (False, True)
    assert twin[1].bias is None
    assert twin[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert list(twin.state_dict()) == ["0.weight", "1.weight"]
    twin(torch.zeros(1, 2, 5, 5))
    assert seen == [PhaseConv2d]
    biased = backend.edited([same(first, bias=np.ones(2))]).model[0]
    assert biased.bias.tolist() == [1, 1]
    assert not biased.bias.requires_grad


def test_a_layer_under_two_names_is_replaced_under_both():
    layer = nn.Conv2d(1, 1, 3, padding=1)
    net = nn.ModuleDict({"one": layer, "other": nn.Sequential(layer)})
    found = only(TorchBackend(net))
    weight = np.broadcast_to(found.weight, (2, 2, *found.weight.shape))
    bias = np.broadcast_to(found.bias, (2, 2, 1))
    twin = TorchBackend(net).edited([same(found, weight=weight, bias=bias, phases=(2, 2))]).model
    assert twin["one"] is twin["other"][0]
    assert type(twin["one"]) is PhaseConv2d


def test_edits_that_do_not_fit():
    net = nn.Sequential(nn.ConvTranspose2d(1, 2, 4, 2, 1), nn.Conv2d(2, 2, 3, stride=2))
    backend = TorchBackend(net)
    up, down = backend.layers()
    for edit, message in (
        (same(up, weight=up.weight[:, :1]), r"0: the new weight has the shape \(1, 1, 4, 4\); expected \(1, 2, 4, 4\)"),
        (same(up, bias=np.zeros(3)), r"0: the new bias has the shape \(3,\); expected \(2,\)"),
        (same(up, padding=((1, 0), (1, 1))), r"output would change its size by \(1, 0\); expected the same size"),
        (same(up, padding=((1, 1),)), "0 has 2 axes; expected kernel, padding and output_padding of 2 values each"),
        (same(up, phases=(2, 2)), "0 is a transposed layer of stride"),
        (same(down, phases=(2, 2)), r"1 is a convolution layer of stride \(2, 2\); only a convolution of stride 1"),
    ):
        with pytest.raises(UsageError, match=message):
            backend.edited([edit])
    with pytest.raises(UsageError, match="0 is edited twice"):
        backend.edited([same(up), same(up)])
    with pytest.raises(UsageError, match="has no layer '7'"):
        backend.edited([replace(same(up), name="7")])


class Own(nn.Conv1d):
    def forward(self, x):
        return super().forward(x) * 2


def tied():
    net = nn.Sequential(nn.Conv1d(2, 2, 1), nn.Conv1d(2, 2, 1), nn.Conv1d(2, 2, 1))
    net[2].weight = net[0].weight
    return net


def integer():
    layer = nn.Conv1d(1, 1, 1)
    layer.weight = nn.Parameter(torch.ones(1, 1, 1, dtype=torch.int8), requires_grad=False)
    return layer


def attribute():
    layer = nn.Conv1d(1, 1, 1)
    del layer.weight
    layer.weight = torch.ones(1, 1, 1)
    return layer


REFUSED = {
    "shares parameters with '2'": tied,
    "has a forward of its own": lambda: Own(1, 1, 1),
    "has no weights yet": lambda: nn.LazyConv2d(2, 3),
    "on the meta device": lambda: nn.Conv2d(1, 1, 1, device="meta"),
    r"its weights are torch\.int8": integer,
    "its weight is no parameter": attribute,
    r"several devices \(cpu, meta\)": lambda: nn.Sequential(nn.Conv1d(1, 1, 1), nn.Linear(1, 1, device="meta")),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_layers_that_cannot_be_rewritten(reason):
    backend = TorchBackend(REFUSED[reason]())
    layer = backend.layers()[0]
    with pytest.raises(UsageError, match=f"{layer.name} cannot be rewritten: .*{reason}"):
        backend.edited([same(layer)])
    if reason == "shares parameters with '2'":
        assert [bool(layer.fixed) for layer in backend.layers()] == [True, False, True]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_layers_are_fixed():
    from torch.ao.nn import quantized

    layer = only(TorchBackend(nn.Sequential(quantized.Conv2d(1, 2, 3))))
    assert layer.fixed.startswith("its weights are quantised (torch.ao.nn.quantized")
    assert layer.weight.shape == (2, 1, 3, 3)


def test_what_cannot_be_copied_is_refused():
    class Stubborn(nn.Conv1d):
        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    backend = TorchBackend(Stubborn(1, 1, 1))
    with pytest.raises(UsageError, match=r"Stubborn cannot be copied \(RuntimeError: no\); repairs are made in a copy"):
        backend.edited([same(only(backend))])
