"""Layers that are replaced: sizes, functions, kernels, who uses them, the optimizer, and what is refused."""

from __future__ import annotations

import os
import pickle
from dataclasses import FrozenInstanceError
from itertools import product
from math import ceil, prod
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import evenly
from corpus import CASES
from evenly.errors import UsageError
from evenly.fix._replacing_up import _phases
from evenly.fix.changes import LayerChange
from evenly.fix.structure import plan, replaced
from evenly.nn import ResizeConv2d, SubpixelConv2d, utils
from evenly.nn.subpixel import pixel_shuffle
from evenly.theory.equivalence import subpixel_axis

PROVE = bool(os.environ.get("EVENLY_PROVE"))
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
FUNCTIONS = (F.conv1d, F.conv2d, F.conv3d)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def state(module):
    return {key: value.numpy().tobytes() for key, value in module.state_dict().items()}


def one(layer, method, name="0", **more):
    """A network of one layer after that method: the new layer and the change."""
    new, (change,) = replaced(nn.Sequential(layer), method, layers=[name], **more)
    return new[0], change


def drawn(draw, dims, low, high):
    return tuple(draw(st.integers(low, high)) for _ in range(dims))


@st.composite
def transposed(draw):
    dims = draw(st.sampled_from([1, 1, 2, 2, 3]))
    s, d = drawn(draw, dims, 1, 4 if dims < 3 else 2), drawn(draw, dims, 1, 3)
    assume(max(s) > 1)
    k, p = drawn(draw, dims, 1, 5 if dims < 3 else 3), drawn(draw, dims, 0, 4)
    a = tuple(draw(st.integers(0, max(x, y) - 1)) for x, y in zip(s, d, strict=True))
    groups = draw(st.sampled_from([1, 2]))
    torch.manual_seed(draw(st.integers(0, 99)))
    bias = draw(st.booleans())
    layer = TRANSPOSED[dims - 1](2, 2 * groups, k, s, p, a, groups, bias, d, dtype=torch.float64)
    return layer.eval()


def sizes_of(layer, function, count=6):
    """Inputs of all small sizes that the layer takes, the axes in step or against each other, with its outputs."""
    dims = len(layer.kernel_size)
    found = []
    for n in range(1, 24):
        size = [n + (axis * 3) % 5 for axis in range(dims)]
        x = numbers(2, layer.in_channels, *size, seed=n)
        try:
            y = function(x)
        except RuntimeError:  # the output would be empty
            continue
        if y.numel():
            found.append((x, y))
        if len(found) == count:
            break
    return found


# ---- resize, sub-pixel ----------------------------------------------------------------------------------------------


@given(transposed(), st.sampled_from(["resize", "subpixel"]))
def test_up_sampling_keeps_every_size(layer, method):
    before = state(layer)
    with torch.no_grad():
        new, change = one(layer, method)
        cases = sizes_of(layer, layer)
        assert cases
        for x, y in cases:
            assert new(x).shape == y.shape
        assert new(x[0]).shape == y[0].shape
    assert change.done
    assert 0 <= change.fit_error <= 1
    assert state(layer) == before


@given(transposed())
def test_the_sub_pixel_form_is_the_same_function_before_its_phases_are_made_equal(layer):
    geometry = zip(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.output_padding, strict=True)
    axes = [subpixel_axis(*g) for g in geometry]
    dims = len(axes)
    weight = _phases(layer)
    bias = None if layer.bias is None else layer.bias.repeat_interleave(prod(layer.stride))
    for x, y in sizes_of(layer, layer):
        found = FUNCTIONS[dims - 1](
            x, weight, bias, 1, [a.padding for a in axes], [a.dilation for a in axes], layer.groups
        )
        found = pixel_shuffle(found, layer.stride)
        for axis, a in enumerate(axes, start=2):
            found = found.narrow(axis, a.crop[0], found.shape[axis] - sum(a.crop))
        torch.testing.assert_close(found, y)
    assert all(min(a.crop) >= 0 and a.padding >= 0 for a in axes)


@given(transposed())
def test_the_fit_of_the_sub_pixel_form_is_what_has_to_be_taken_from_the_phases(layer):
    """The nearest kernel of equal gains ``G_r`` takes ``(G_r - mean G) / K`` from each of the K taps of a phase."""
    _, change = one(layer, "subpixel")
    dims = len(layer.stride)
    gains = torch.zeros(*layer.weight.shape[:2], *layer.stride, dtype=torch.float64)
    taps = 1
    for tap in product(*map(range, layer.kernel_size)):
        place = tuple(t * d % s for t, d, s in zip(tap, layer.dilation, layer.stride, strict=True))
        gains[(slice(None), slice(None), *place)] += layer.weight.detach()[(slice(None), slice(None), *tap)]
    for k, s, d in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True):
        taps *= k if s == 1 else ceil((d * (k - 1) + 1) / s)
    apart = gains - gains.mean(tuple(range(2, 2 + dims)), keepdim=True)
    expected = float(apart.norm() / taps**0.5 / layer.weight.detach().norm())
    assert change.fit_error == pytest.approx(expected, abs=1e-9)


@given(transposed(), st.sampled_from(["resize", "subpixel"]))
def test_constants_stay_constant(layer, method):
    new, _ = one(layer, method)
    dims = len(layer.stride)
    with torch.no_grad():
        # Kernels reach 12 positions: at stride 1 only 8 of 20 would have all taps inside, and those off the middle.
        y = new(torch.ones(1, 2, *[30] * dims, dtype=torch.float64))
    middle = y[(0, 0, *[slice(n // 2 - 3, n // 2 + 4) for n in y.shape[2:]])]
    torch.testing.assert_close(middle, middle.flatten()[0].expand_as(middle))


@pytest.mark.parametrize("method", ["resize", "subpixel"])
@pytest.mark.parametrize(("k", "p", "a"), [(4, 1, 0), (4, 0, 1), (6, 2, 0)])
def test_an_even_kernel_is_the_same_function(method, k, p, a):
    layer = nn.ConvTranspose1d(3, 4, k, 2, p, a, dtype=torch.float64)
    layer = utils.remove(utils.balance(layer))
    new, change = one(layer, method)
    assert change.fit_error < 1e-12
    x = numbers(2, 3, 9)
    torch.testing.assert_close(new(x), layer(x))


def test_a_kernel_of_zeros_fits():
    layer = nn.ConvTranspose2d(2, 2, 4, 2, 1)
    nn.init.zeros_(layer.weight)
    for method in ("resize", "subpixel"):
        assert one(layer, method)[1].fit_error == 0


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_and_its_pixel_shuffle_become_one(padding_mode, groups):
    net = nn.Sequential(
        nn.Conv2d(4, 16, 3, padding=1, padding_mode=padding_mode, groups=groups), nn.PixelShuffle(2), nn.ReLU()
    )
    new, (change,) = replaced(net, "subpixel", layers=["1"])
    assert isinstance(new[0], SubpixelConv2d)
    assert isinstance(new[1], nn.Identity)
    assert 0 < change.fit_error < 1
    assert "PixelShuffle" in change.before
    x = torch.randn(1, 4, 7, 9)
    assert new(x).shape == net(x).shape
    utils.balance(net)
    torch.testing.assert_close(new(x), net(x))


class Late(nn.Module):
    """One shuffle for all, called in ``forward``; a function for the last."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = (nn.Conv2d(4, c, 3, padding=1) for c in (16, 16, 12))
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        x = self.shuffle(self.first(x))
        x = self.shuffle(self.second(x).relu())
        return F.pixel_shuffle(self.last(x), 2)


def test_shuffles_that_are_no_neighbours_are_found_by_an_example():
    torch.manual_seed(0)
    net, x = Late().eval(), torch.randn(1, 4, 6, 5)
    new, changes = replaced(net, "subpixel", example=x)
    by_name = {change.name: change for change in changes}
    assert by_name["first"].done
    assert by_name["last"].done
    assert "kept equal" in by_name["first"].note
    refused = next(c for c in changes if not c.done)
    assert refused.note  # a ReLU between them
    assert new(x).shape == net(x).shape
    assert utils.is_balanced(new.first)
    assert not utils.is_balanced(net.first)
    pickle.loads(pickle.dumps(new))
    steps = plan(net, evenly.check(net, x), x)
    assert [s.target for s in steps if s.code == "EV105" and s.method] == ["first", "last"]


# ---- antialias, pad -------------------------------------------------------------------------------------------------


@st.composite
def strided(draw):
    dims = draw(st.sampled_from([1, 1, 2, 2, 3]))
    s, d = drawn(draw, dims, 1, 3), drawn(draw, dims, 1, 2)
    assume(max(s) > 1)
    k, p, groups = drawn(draw, dims, 1, 4), drawn(draw, dims, 0, 3), draw(st.sampled_from([1, 2]))
    return CONVOLUTIONS[dims - 1](2, 4, k, s, p, d, groups, draw(st.booleans()), dtype=torch.float64)


@given(strided())
def test_antialiased_convolutions_keep_sizes_and_weights(layer):
    with torch.no_grad():
        new, change = one(layer, "antialias")
        for x, y in sizes_of(layer, layer):
            assert new(x).shape == y.shape
    assert change.fit_error is None
    torch.testing.assert_close(new.weight, layer.weight)
    assert new.weight is not layer.weight
    assert new.conditions.squared == "always"


@st.composite
def pools(draw):
    dims = draw(st.sampled_from([1, 1, 2, 2, 3]))
    s, k = drawn(draw, dims, 1, 4), drawn(draw, dims, 1, 4)
    assume(max(s) > 1)
    p = tuple(draw(st.integers(0, size // 2)) for size in k)
    ceil_mode = draw(st.booleans())
    if draw(st.booleans()):
        return MAX[dims - 1](k, s, p, drawn(draw, dims, 1, 2), ceil_mode=ceil_mode)
    return AVERAGE[dims - 1](k, s, p, ceil_mode, draw(st.booleans()))


@given(pools())
def test_antialiased_pools_keep_sizes(pool):
    new, change = one(pool, "antialias")
    if not change.done:
        assert pool.ceil_mode
        assert "ceil_mode" in change.note
        return
    dims = len(pool.kernel_size)
    for n in range(1, 16):
        x = numbers(1, 2, *[n + (axis * 3) % 5 for axis in range(dims)])
        try:
            y = pool(x)
        except RuntimeError:
            continue
        assert new(x).shape == y.shape
        assert new(x).isfinite().all() or not y.isfinite().all()  # where a dilated window holds padding alone


def squared_gradient(layer, size=33, draws=400):
    """By position, over white gradients of the output."""
    x = torch.zeros(draws, 1, size, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    y.backward(numbers(*y.shape))
    return x.grad.square().mean((0, 1))


def test_the_gradient_of_an_average_becomes_even():
    def unevenness(layer):
        inner = squared_gradient(layer)[8:-8]
        phases = inner[::2].mean(), inner[1::2].mean()
        return float(max(phases) / min(phases))

    pool = nn.AvgPool1d(3, 2)
    assert unevenness(pool) == pytest.approx(2, rel=0.1)
    assert unevenness(one(pool, "antialias")[0]) == pytest.approx(1, abs=0.05)


def test_a_filter_that_would_be_too_long_is_said():
    new, change = one(nn.Conv1d(1, 2, 400, 160), "antialias")
    assert "on average" in change.note
    assert len(new.taps[0]) < 500
    assert new(torch.zeros(1, 1, 1601)).shape == (1, 2, 8)


def test_borders_repeat_the_edge():
    net = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, padding=1))
    x = torch.randn(1, 2, 6, 5)
    new, (change,) = replaced(net, "pad", example=x)
    assert change.name == "1"
    expected = F.conv2d(F.pad(net[0](x), (1, 1, 1, 1), mode="replicate"), net[1].weight, net[1].bias)
    torch.testing.assert_close(new(x), expected)
    assert net[1].padding_mode == "zeros"
    assert "EV301" not in {f.code for f in evenly.check(new, x).findings}


@pytest.mark.parametrize(("k", "padding", "size"), [(4, "same", 7), (2, "same", 7), (5, 1, 5)])
def test_borders_of_any_width_repeat_the_edge(k, padding, size):
    conv = nn.Conv1d(2, 2, k, padding=padding)
    new, _ = one(conv, "pad")
    x = torch.ones(1, 2, 7)
    y = new(x)
    assert y.shape == (1, 2, size)
    torch.testing.assert_close(y, y[..., :1].expand_as(y))


def test_a_strided_convolution_behind_a_resize_gets_both():
    net = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, 2, 1))
    x = torch.randn(1, 2, 6, 5)
    new, changes = replaced(net, ("antialias", "pad"), example=x)
    assert {c.method for c in changes} == {"antialias", "pad"}
    assert new[1].padding_mode == "replicate"
    assert new(x).shape == net(x).shape


# ---- fold -----------------------------------------------------------------------------------------------------------


@given(
    dims=st.integers(1, 3), s=st.integers(2, 3), k=st.integers(1, 4), p=st.integers(0, 2), d=st.integers(1, 2),
    groups=st.sampled_from([1, 2]), which=st.sampled_from(["auto", "names", "conv"]),
)  # fmt: skip
def test_a_fold_is_the_same_function(dims, s, k, p, d, groups, which):
    conv = CONVOLUTIONS[dims - 1](2, 4, k, padding=p, dilation=d, groups=groups, dtype=torch.float64)
    net = nn.Sequential(nn.Upsample(scale_factor=s), conv, nn.Tanh())
    size = [d * (k - 1) // s + 3 + axis for axis in range(dims)]
    x = numbers(1, 2, *size)
    new, (change,) = replaced(net, "fold", layers={"auto": "auto", "names": ["0"], "conv": ["1"]}[which])
    assert isinstance(new[1], TRANSPOSED)
    assert isinstance(new[0], nn.Identity)
    assert change.fit_error == 0
    torch.testing.assert_close(new(x), net(x))


def test_what_does_not_fold_is_said():
    net = nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2, 2, 3, padding=1), nn.Upsample(scale_factor=2),
        nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, padding=1),
    )  # fmt: skip
    _, changes = replaced(net, "fold")
    assert [(c.name, c.done) for c in changes] == [("0", False), ("2", False), ("4", True)]
    assert "repeats the edge" in changes[0].note
    assert "ReLU" in changes[1].note


def test_a_resize_convolution_folds():
    layer = ResizeConv2d(2, 2, 3)
    new, (change,) = replaced(layer, "fold")
    assert change.done
    x = torch.randn(1, 2, 5, 4)
    torch.testing.assert_close(new(x), layer(x))


# ---- who uses a layer -----------------------------------------------------------------------------------------------


class Uses(nn.Module):
    """Transposed convolutions in all kinds of use."""

    def __init__(self):
        super().__init__()
        self.plain = nn.ConvTranspose2d(2, 2, 4, 2, 1)
        self.sized = nn.ConvTranspose2d(2, 2, 3, 2, 1)
        self.function = nn.ConvTranspose2d(2, 2, 4, 2, 1)
        self.again = self.plain

    def forward(self, x):
        x = self.again(self.plain(x))
        x = self.sized(x, output_size=[2 * n for n in x.shape[2:]])
        x = F.conv_transpose2d(x, self.function.weight, stride=2)
        return F.interpolate(F.conv_transpose2d(x, torch.ones(2, 2, 3, 3), stride=2), scale_factor=2)


def test_how_a_layer_is_used_decides():
    net, x = Uses(), torch.randn(1, 2, 4, 5)
    _, changes = replaced(net, "resize", example=x)
    by_name = {change.name: change for change in changes}
    assert {name for name, change in by_name.items() if change.done} <= {"plain", "again"}
    assert "as well" in next(c for c in changes if c.done).note
    assert "output_size" in by_name["sized"].note
    assert "never calls it" in by_name["function"].note
    function = [c for c in changes if "conv_transpose" in c.name]
    assert function
    assert all("calls a function" in c.note and c.after is None for c in function)
    done = [c for c in changes if c.done]
    assert len(done) == 1
    new, _ = replaced(net, "resize", layers=["plain"])
    assert isinstance(new.plain, ResizeConv2d)
    assert new.again is new.plain


def test_a_network_may_be_one_layer():
    layer, x = nn.ConvTranspose2d(2, 3, 3, 2), torch.randn(1, 2, 4, 5)
    report = evenly.check(layer, x)
    for how in ({"layers": [""]}, {"example": x}, {"layers": report}):
        new, (change,) = replaced(layer, "subpixel", **how)
        assert change.done
        assert new(x).shape == layer(x).shape
    new, (change,) = replaced(layer, plan(layer, report))
    assert isinstance(new, ResizeConv2d)


def test_parameters_that_are_shared_stay_so_where_they_are_kept():
    net = Tied()
    new, (change,) = replaced(net, "antialias", layers=["down"])
    assert change.done
    assert new.down.weight is new.up.weight
    assert new.down.weight is not net.down.weight


def quantised():
    net = nn.Sequential(nn.ConvTranspose2d(2, 2, 4, 2, 1)).eval()
    net.qconfig = torch.ao.quantization.default_qconfig
    prepared = torch.ao.quantization.prepare(net)
    prepared(torch.randn(1, 2, 4, 4))
    return torch.ao.quantization.convert(prepared)


class Own(nn.ConvTranspose2d):
    def forward(self, x, output_size=None):
        return super().forward(x) * 2


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(2, 2, 4, 2, 1), nn.ConvTranspose2d(2, 2, 4, 2, 1)
        self.up.weight = self.down.weight

    def forward(self, x):
        return self.up(self.down(x))


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("build", "name", "method", "reason"),
    [
        (quantised, "0", "resize", "quantised"),
        (lambda: nn.Sequential(nn.LazyConvTranspose2d(2, 4, 2)), "0", "resize", "no weights yet"),
        (lambda: nn.Sequential(nn.ConvTranspose2d(2, 2, 4, 2, device="meta")), "0", "subpixel", "meta"),
        (lambda: nn.Sequential(Own(2, 2, 4, 2)), "0", "resize", "forward of its own"),
        (lambda: nn.Sequential(Own(2, 2, 4, 2)), "0", "subpixel", "forward of its own"),
        (Tied, "up", "resize", "shares parameters with 'down'"),
        (lambda: nn.Sequential(nn.ConvTranspose2d(2, 2, 3)), "0", "resize", "stride is 1"),
        (lambda: nn.Sequential(nn.Conv2d(2, 2, 3)), "0", "antialias", "stride is 1"),
        (lambda: nn.Sequential(nn.Conv2d(2, 2, 3)), "0", "pad", "no zeros"),
        (lambda: nn.Sequential(nn.Conv2d(2, 4, 3)), "0", "subpixel", "no pixel shuffle"),
        (lambda: nn.Sequential(nn.Conv2d(2, 2, 3)), "0", "resize", "not for Conv2d"),
        (lambda: nn.Sequential(nn.Linear(2, 2)), "0", "antialias", "not for Linear"),
        (lambda: nn.Sequential(nn.Conv2d(2, 2, 3)), "0", "fold", "no interpolation"),
        (lambda: nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "0", "antialias", "indices"),
        (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.PixelShuffle(2)), "1", "subpixel", "groups"),
    ],
)
def test_refusals_say_why(build, name, method, reason):
    net = build()
    before = str(net)
    new, (change,) = replaced(net, method, layers=[name])
    assert not change.done
    assert change.fit_error is None
    assert reason in change.note
    assert "\n" not in change.note
    assert str(new) == str(net) == before
    assert replaced(net, {name: method})[1] == (change,)


def test_what_is_asked_wrongly_is_refused():
    net = nn.Sequential(nn.ConvTranspose2d(2, 2, 4, 2), nn.ReLU())
    for methods, more, words in [
        ("upsample", {}, "must be of resize"),
        ("resize", {}, "needs example inputs"),
        ("resize", {"layers": "all"}, "must be 'auto'"),
        ("resize", {"layers": ["up"]}, "no module 'up'"),
        ({"5": "resize"}, {}, "no module '5'"),
    ]:
        with pytest.raises(UsageError, match=words):
            replaced(net, methods, **more)


COMPUTED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "weight_norm hook": lambda layer: nn.utils.weight_norm(layer),
    "spectral_norm hook": lambda layer: nn.utils.spectral_norm(layer),
    "pruning": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    "balanced": utils.balance,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_become_plain(kind):
    torch.manual_seed(1)
    layer = COMPUTED[kind](nn.ConvTranspose1d(3, 4, 4, 2, 1, dtype=torch.float64)).eval()
    x = numbers(1, 3, 8)
    y, before, shown = layer(x), state(layer), str(layer)
    new, change = one(layer, "resize")
    assert "plain parameter" in change.note
    assert set(dict(new.named_parameters())) == {"weight", "bias"}
    assert new(x).shape == y.shape
    if kind == "balanced":
        torch.testing.assert_close(new(x), y)
    assert state(layer) == before
    assert str(layer) == shown
    torch.testing.assert_close(layer(x), y)
    assert parametrize.is_parametrized(layer) == (kind in ("weight_norm", "spectral_norm", "balanced"))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "weight_norm hook", "spectral_norm hook", "pruning"])
def test_weights_that_are_kept_are_computed_as_before(kind):
    torch.manual_seed(1)
    layer = COMPUTED[kind](nn.Conv1d(3, 4, 3, 2, 1, dtype=torch.float64)).eval()
    x = numbers(1, 3, 9)
    y, before = layer(x), state(layer)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    new, (change,) = replaced(nn.Sequential(layer), "antialias", layers=["0"], optimizer=optimizer)
    assert change.note is None
    assert new(x).shape == y.shape
    assert {k.removeprefix("0."): v for k, v in state(new).items()} == before
    torch.testing.assert_close(new[0].weight, layer.weight)
    new.train()(x).square().sum().backward()
    (trained,) = (p for n, p in new.named_parameters() if n.endswith(("weight_v", "original1", "original", "_orig")))
    assert trained.grad.abs().max() > 0
    torch.testing.assert_close(layer(x), y)


def test_the_original_stays_and_no_random_number_is_used():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1), nn.MaxPool2d(3, 2), nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.Conv2d(4, 8, 3, padding=1),
        nn.PixelShuffle(2),
    ).train()  # fmt: skip
    x = torch.randn(1, 2, 16, 16)
    before, shown, random = state(net), str(net), torch.get_rng_state()
    new, changes = replaced(net, ("resize", "subpixel", "antialias"), example=x)
    assert torch.equal(torch.get_rng_state(), random)
    assert len(changes) == 4
    assert all(c.done for c in changes)
    assert state(net) == before
    assert str(net) == shown
    assert all(module.training for module in [*net.modules(), *new.modules()])
    ours = {p.data_ptr() for p in net.parameters()}
    assert not ours & {p.data_ptr() for p in new.parameters()}
    pickle.loads(pickle.dumps(new))


def test_hooks_stay():
    seen: list[tuple[int, ...]] = []
    layer = nn.ConvTranspose1d(2, 2, 4, 2, 1)
    layer.register_forward_hook(lambda module, args, y: seen.append(tuple(y.shape)))
    for method in ("resize", "subpixel"):
        new, _ = one(layer, method)
        seen.clear()
        new(torch.zeros(1, 2, 5))
        assert seen == [(1, 2, 10)]
    seen.clear()
    layer(torch.zeros(1, 2, 5))
    assert seen == [(1, 2, 10)]


def test_hooks_between_a_convolution_and_its_shuffle_see_what_they_saw():
    net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2))
    seen: list[tuple[int, ...]] = []
    net[0].register_forward_hook(lambda module, args, y: seen.append(tuple(y.shape)))
    new, (change,) = replaced(net, "subpixel", layers=["0"])
    assert change.done
    assert new(torch.zeros(1, 2, 4, 4)).shape == (1, 2, 8, 8)
    assert seen == [(1, 8, 4, 4)]
    assert utils.is_balanced(new[0])


def test_pools_work_where_the_network_does():
    net = nn.Sequential(nn.AvgPool2d(3, 2), nn.Conv2d(2, 2, 3, device="meta"), nn.MaxPool2d(3, 2), nn.Conv2d(2, 2, 3))
    new, _ = replaced(net, "antialias", layers=["0", "2"])
    assert new[0][1].filter.device.type == new[2].filter.device.type == "meta"


def test_flags_and_types_stay():
    layer = nn.ConvTranspose2d(2, 2, 4, 2, 1, dtype=torch.bfloat16).eval()
    layer.weight.requires_grad_(False)
    for method in ("resize", "subpixel"):
        new, _ = one(layer, method)
        weight = next(p for n, p in new.named_parameters() if "weight" in n)
        bias = next(p for n, p in new.named_parameters() if "bias" in n)
        assert weight.dtype == torch.bfloat16
        assert not weight.requires_grad
        assert bias.requires_grad
        assert not new.training


# ---- the optimizer --------------------------------------------------------------------------------------------------


class Small(nn.Module):
    example: ClassVar = torch.zeros(1, 2, 8, 8)

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, 2, 1)
        self.up = nn.ConvTranspose2d(4, 4, 4, 2, 1)
        self.head = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        return self.head(self.up(self.down(x).relu()).relu())


def trained(net, optimizer, steps):
    x, wanted = torch.randn(4, 2, 8, 8, generator=seeded()), torch.randn(4, 1, 8, 8, generator=seeded(1))
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), wanted)
        loss.backward()
        losses.append(float(loss.detach()))
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return losses


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "sgd": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=2),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("method", ["resize", "subpixel"])
def test_the_optimizer_goes_on_with_the_copy(kind, method):
    torch.manual_seed(0)
    net = Small()
    optimizer = OPTIMIZERS[kind](net.parameters())
    trained(net, optimizer, 3)
    before = state(net)
    new, _ = replaced(net, (method, "antialias"), example=net.example, optimizer=optimizer)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in new.parameters()}
    start = {name: p.detach().clone() for name, p in new.named_parameters()}
    losses = trained(new, optimizer, 12)
    assert losses[-1] < losses[0]
    assert all(not torch.equal(start[name], p) for name, p in new.named_parameters())
    assert state(net) == before


def test_groups_and_state_of_others_stay():
    torch.manual_seed(0)
    net, other = Small(), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW(
        [
            {"params": [*net.down.parameters(), other], "lr": 1e-3},
            {"params": [net.up.weight, net.head.weight], "lr": 1e-4, "weight_decay": 0.5},
            {"params": [net.up.bias]},
        ]
    )
    trained(net, optimizer, 1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    moments = {name: optimizer.state[p]["exp_avg"] for name, p in net.named_parameters() if p in optimizer.state}
    new, _ = replaced(net, ("resize", "antialias"), example=net.example, optimizer=optimizer)
    first, second, third = (group["params"] for group in optimizer.param_groups)
    assert [id(p) for p in first] == [id(p) for p in (*new.down.parameters(), other)]
    assert [id(p) for p in second] == [id(new.up.weight), id(new.head.weight)]
    assert [id(p) for p in third] == [id(new.up.bias)]
    assert optimizer.param_groups[1]["weight_decay"] == 0.5
    assert new.up.weight not in optimizer.state
    for name in ("down.weight", "down.bias", "head.weight", "up.bias"):
        assert optimizer.state[new.get_parameter(name)]["exp_avg"] is moments[name]
    assert not any(p in optimizer.state for p in net.parameters())
    trained(new, optimizer, 1)
    scheduler.step()
    loaded = torch.optim.AdamW(optimizer.param_groups)
    loaded.load_state_dict(optimizer.state_dict())


def test_a_fold_trains_on():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3, padding=1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    x, wanted = torch.randn(4, 2, 4, 4), torch.randn(4, 1, 8, 8)
    F.mse_loss(net(x), wanted).backward()
    optimizer.step()
    known = optimizer.state[net[1].bias]
    new, _ = replaced(net, "fold", optimizer=optimizer)
    torch.testing.assert_close(new(x), net(x))
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in new.parameters()}
    assert optimizer.state[new[1].bias] is known
    assert new[1].weight not in optimizer.state
    before = F.mse_loss(new(x), wanted)
    optimizer.zero_grad()
    before.backward()
    optimizer.step()
    assert F.mse_loss(new(x), wanted) < before


def test_names_of_parameters_follow():
    net = nn.Sequential(parametrizations.weight_norm(nn.ConvTranspose1d(2, 2, 4, 2, 1)), nn.Conv1d(2, 2, 3))
    optimizer = torch.optim.SGD(net.named_parameters(), 0.1)
    new, _ = replaced(net, {"0": "resize"}, optimizer=optimizer)
    (group,) = optimizer.param_groups
    assert group["param_names"] == ["0.bias", "0.weight", "1.weight", "1.bias"]
    assert [id(dict(new.named_parameters())[n]) for n in group["param_names"]] == [id(p) for p in group["params"]]


# ---- findings and plans ---------------------------------------------------------------------------------------------


def test_a_plan_is_carried_out():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1), nn.MaxPool2d(2), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), nn.Conv2d(4, 8, 3, padding=1),
        nn.PixelShuffle(2), nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3, padding=1),
    ).eval()  # fmt: skip
    x = torch.randn(1, 2, 16, 20)
    report = evenly.check(net, x)
    steps = plan(net, report)
    assert [s.code for s in steps] == [f.code for f in report.findings]
    assert all(s.method for s in steps)
    assert {s.method: s.safety for s in steps} == {
        "resize": "structural", "subpixel": "structural", "antialias": "structural", "pad": "lossy",
    }  # fmt: skip
    assert next(s for s in steps if s.code == "EV105").target == "3"
    uneven = next(s for s in steps if s.code == "EV101")
    assert "relative error" in uneven.what
    assert f"subpixel would change it by {one(net[2], 'subpixel')[1].fit_error:.1%}" in uneven.what
    assert uneven.fit_error == pytest.approx(one(net[2], "resize")[1].fit_error)
    new, changes = replaced(net, steps)
    assert all(c.done for c in changes)
    assert len({(c.name, c.method) for c in changes}) == len(changes) == 5
    assert not [f for f in evenly.check(new, x).findings if f.severity != "info"]
    same, again = replaced(net, ("resize", "subpixel", "antialias", "pad"), layers=report)
    assert str(same) == str(new)
    assert again == changes
    with pytest.raises(FrozenInstanceError):
        steps[0].what = ""
    assert isinstance(changes[0], LayerChange)


def test_a_layer_that_is_even_already_is_safe_to_replace():
    net = nn.Sequential(utils.remove(utils.balance(nn.ConvTranspose1d(2, 2, 4, 2, 1))))
    steps = plan(net, evenly.check(net, torch.zeros(1, 2, 9)))
    assert {(s.severity, s.method, s.safety) for s in steps} == {("info", "resize", "safe")}
    assert replaced(net, steps)[1] == ()


class ByHand(nn.Module):
    def forward(self, x):
        y, where = F.max_pool2d(x, 2, return_indices=True)
        y = F.max_unpool2d(y, where, 2)
        y = F.conv_transpose2d(y, torch.ones(2, 2, 3, 3), stride=2)
        return F.conv2d(y, torch.ones(2, 2, 3, 3), stride=2)


def test_what_no_machine_can_do_is_said():
    net = ByHand()
    report = evenly.check(net, torch.zeros(1, 2, 8, 8))
    steps = plan(net, report)
    assert len(steps) == len(report.findings) > 3
    assert not [s for s in steps if s.method or s.target or s.safety]
    assert all("cannot be done by machine: " in s.what or s.severity == "info" for s in steps)
    assert any("zeros between them. By hand: Resize" in s.what for s in steps if s.code == "EV102")
    _, changes = replaced(net, ("resize", "antialias"), layers=report)
    assert changes
    assert not any(c.done for c in changes)


FEW = ("dcgan_generator", "squeezenet", "espcn_x3", "fsrcnn_x3", "unet_3d")
_UNPOOLED = {
    **{f"pool{k}": "it returns indices, which an un-pooling reads" for k in ("", "#2", "#3", "#4", "#5")},
    **{f"unpool{k}": "it puts values where the largest were" for k in ("", "#2", "#3", "#4", "#5")},
}
BY_HAND: dict[str, dict[str, str]] = {
    # un-pooling has no counterpart: a network of these needs another decoder
    "deconvnet": _UNPOOLED,
    "segnet": _UNPOOLED,
    # the forward calls F.max_pool, where no layer stands that could be replaced
    "biggan_generator": {f"attention:max_pool{k}": "no layer of PyTorch's does it" for k in ("", "#2")},
    "unet_3d": {f"max_pool{k}": "no layer of PyTorch's does it" for k in ("", "#2", "#3")},
    # it is recurrent, which is not analysed
    "encodec_decoder": {"1.lstm": "what it does is not known"},
    # patches that a linear layer makes
    "mae": {"decoder_pred:permute:patches": "it puts patches side by side that another layer made"},
}
"""Findings above ``info`` that need a person: by network, the layer, and the reason that is given."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*:UserWarning:torch.*")
@pytest.mark.parametrize("name", [n for n in CASES if PROVE or n in FEW])
def test_published_architectures(name):
    """Every finding has a step; carried out, sizes stay and no error is left but those that a person has to mend."""
    torch.manual_seed(0)
    case = CASES[name]
    net = case.build(case.width).eval()
    report = evenly.check(net, *case.inputs())
    steps = plan(net, report)
    assert [(s.code, s.layer) for s in steps] == [(f.code, f.layer) for f in report.findings]
    by_hand = {s.layer: s.what for s in steps if s.method is None and s.severity != "info"}
    known = BY_HAND.get(name, {})
    assert set(by_hand) == set(known)
    assert all(f"by machine: {reason}" in by_hand[layer] for layer, reason in known.items())
    assert all("by machine: " in s.what for s in steps if s.method is None)
    new = net
    if [s for s in steps if s.method and s.severity != "info"]:
        new, changes = replaced(net, steps)
        assert all(c.done for c in changes)
        assert_same_sizes(net, new, case.inputs())
    left = {f.layer for f in evenly.check(new, *case.inputs()).findings if f.severity == "error"}
    assert left <= set(known)


def assert_same_sizes(net, new, example):
    """Of all outputs, also for odd sizes, on one axis and on all, as far as the network takes them."""
    compared = 0
    for more, axes in product((0, 1, 3, -1), (1, 3)):
        inputs = tuple(map(lambda x, more=more, axes=axes: longer(x, more, axes), example))
        with torch.no_grad():
            try:
                wanted = net(*inputs)
            except (RuntimeError, ValueError, AssertionError, IndexError):  # the network takes multiples only
                assert more
                continue
            found = new(*inputs)
        wanted, found = ((y if isinstance(y, tuple | list) else (y,)) for y in (wanted, found))
        assert [y.shape for y in found] == [y.shape for y in wanted]
        compared += 1
    assert compared


def longer(x, more, axes):
    """Some samples more or less on the last axes of a signal."""
    if x.dim() < 3 or not x.is_floating_point() or not more:
        return x
    for axis in range(-min(axes, x.dim() - 2), 0):
        size = x.shape[axis]
        x = x.narrow(axis, 0, size + more) if more < 0 else torch.cat([x, x.narrow(axis, 0, min(more, size))], axis)
    return x
