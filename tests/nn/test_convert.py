"""fold, unfold, from_conv_transpose: the same function, the nearest one, and the same shape for every input size."""

from __future__ import annotations

import copy
import pickle
from itertools import product
from math import gcd

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from layer_checks import export_onnx, run_onnx
from torch import Tensor, nn

from evenly.errors import ParameterError
from evenly.nn.balanced import BalancedConvTranspose1d, BalancedConvTranspose2d
from evenly.nn.convert import Unfolded, fold, foldable, from_conv_transpose, unfold
from evenly.nn.init import output_gain
from evenly.nn.resize import ResizeConv1d, ResizeConv2d, ResizeConv3d
from evenly.nn.utils import balance, remove
from evenly.theory.phases import dc_gains, ripple

SEED = st.integers(0, 2**31 - 1)
AXES = pytest.mark.parametrize("axes", [1, 2, 3])
RESIZE = {1: ResizeConv1d, 2: ResizeConv2d, 3: ResizeConv3d}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
REFLECT = {1: nn.ReflectionPad1d, 2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d}
ZERO = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}
MOST = {1: 6, 2: 4, 3: 2}
MODES = ("nearest", "nearest-exact", "linear", "bicubic", "fir:1,3,3,1", "fir:1,2,1")


# Samples at both ends of the interpolated signal that depend on how the input goes on: positions whose taps, centred at
# (n + 1/2) / s - 1/2, reach below 0. Three taps at factor 2 stand on the odd samples.
AFFECTED = {
    "linear": lambda s: (s // 2, s // 2),
    "bicubic": lambda s: (s // 2 + s, s // 2 + s),
    "fir:1,3,3,1": lambda s: (1, 1),
    "fir:1,2,1": lambda s: (1, 0),
}


def tuples(axes: int, low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(low, high)] * axes)


@st.composite
def resize_arguments(draw: st.DrawFn, axes: int, factor: int = 4) -> dict:
    """For these and the next ones, an input of size 7 has outputs."""
    groups = draw(st.sampled_from([1, 2]))
    k, s, d = draw(tuples(axes, 1, MOST[axes])), draw(tuples(axes, 1, factor)), draw(tuples(axes, 1, 3))
    pads = draw(st.tuples(tuples(axes, -3, 5), tuples(axes, -3, 5)))
    padding = [(low, max(high, e * (n - 1) - low - 6 * f)) for low, high, n, f, e in zip(*pads, k, s, d, strict=True)]
    return {
        "in_channels": 2 * groups, "out_channels": 3 * groups, "kernel_size": k, "scale_factor": s, "dilation": d,
        "groups": groups, "padding": padding, "bias": draw(st.booleans()), "dtype": torch.float64,
    }  # fmt: skip


@st.composite
def transposed_arguments(draw: st.DrawFn, axes: int) -> dict:
    s, d = draw(tuples(axes, 1, 4)), draw(tuples(axes, 1, 3))
    groups = draw(st.sampled_from([1, 2]))
    return {
        "in_channels": 2 * groups, "out_channels": 3 * groups, "kernel_size": draw(tuples(axes, 1, MOST[axes] + 1)),
        "stride": s, "padding": draw(tuples(axes, 0, 3)), "dilation": d, "groups": groups,
        "output_padding": tuple(draw(st.integers(0, max(v, e) - 1)) for v, e in zip(s, d, strict=True)),
        "bias": draw(st.booleans()), "dtype": torch.float64,
    }  # fmt: skip


def output(layer: nn.Module, x: Tensor) -> Tensor | None:
    """What the layer makes of it; None for an input that is too small for any output."""
    try:
        y = layer(x).detach()
    except (RuntimeError, ParameterError):
        return None
    return y if y.numel() else None


def inputs(layer: nn.Module, axes: int) -> list[Tensor]:
    """Every size from 1 to 7; not all the same on all axes."""
    return [
        torch.randn(2, layer.in_channels, *[(n + 2 * i) % 7 + 1 for i in range(axes)], dtype=torch.float64)
        for n in range(7)
    ] + [torch.randn(1, layer.in_channels, *(n,) * axes, dtype=torch.float64) for n in range(1, 8)]


def assert_same_function(found: nn.Module, wanted: nn.Module, axes: int, refuses: bool = False) -> None:
    """Equal for every input size; ``refuses``: the wanted one may refuse small inputs that the found one takes."""
    compared = 0
    for x in inputs(wanted, axes):
        a, b = output(found, x), output(wanted, x)
        assert (a is None) == (b is None) or (refuses and b is None)
        if b is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
            compared += 1
    assert compared  # the largest sizes have outputs for all that is drawn


def kernel(layer: nn.Module, room: int) -> np.ndarray:
    """Responses to a unit impulse in every input channel, brute force: (C_in, C_out, *outputs)."""
    axes = len(layer.kernel_size)
    rows = []
    for channel in range(layer.in_channels):
        x = torch.zeros(1, layer.in_channels, *(2 * room + 1,) * axes, dtype=torch.float64)
        y0 = layer(x).detach()
        x[(0, channel, *(room,) * axes)] = 1
        rows.append((layer(x).detach() - y0)[0].numpy())
    return np.stack(rows)


# ---- fold ------------------------------------------------------------------------------------------------------------


@AXES
@given(data=st.data(), seed=SEED)
def test_fold_is_the_same_function_at_every_pixel(axes: int, data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    layer = RESIZE[axes](**data.draw(resize_arguments(axes)), implementation="plain")
    found = fold(layer)
    assert type(found) is TRANSPOSED[axes]
    assert found.stride == layer.scale_factor
    assert_same_function(found, layer, axes)


@AXES
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@given(data=st.data(), seed=SEED)
def test_fold_of_modules_of_pytorch(axes: int, data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    drawn = data.draw(resize_arguments(axes))
    scale, before = drawn.pop("scale_factor"), drawn.pop("padding")
    own = data.draw(st.sampled_from([0, 1, 2, "same", "valid"]))
    pads = [v for pair in reversed(before) for v in pair]
    assume(min(pads) >= 0 or own in (0, "valid"))  # padding after a crop is another thing
    net = nn.Sequential(
        nn.Upsample(
            scale_factor=tuple(map(float, scale)), mode=data.draw(st.sampled_from(["nearest", "nearest-exact"]))
        ),
        nn.Identity(),
        ZERO[axes](pads),
        CONV[axes](**drawn, padding=own),
    )
    found = fold(net)
    assert type(found) is TRANSPOSED[axes]
    net.in_channels = drawn["in_channels"]
    assert_same_function(found, net, axes, refuses=True)  # ZeroPad crops first and wants something to be left


@pytest.mark.parametrize(("axes", "mode"), [(n, m) for m in MODES[2:] for n in (1, 2, 3) if m != "bicubic" or n == 2])
@given(data=st.data(), seed=SEED)
def test_fold_of_other_modes(axes: int, mode: str, data: st.DataObject, seed: int) -> None:
    """Exact where enough is cropped, refused where not, and then equal in the stated interior."""
    torch.manual_seed(seed)
    drawn = data.draw(resize_arguments(axes, factor=2 if mode.startswith("fir") else 4)) | {"mode": mode}
    held = data.draw(st.sampled_from(["zeros", "replicate", "reflect", "circular"]))
    layer = RESIZE[axes](**drawn, padding_mode=held, implementation="plain")
    refused = foldable(layer)[""]
    if refused is None:
        assert_same_function(fold(layer), layer, axes)
        return
    with pytest.raises(ParameterError, match="spatial axis"):
        fold(layer)
    assert foldable(layer, border="interior") == {"": None}
    ends = []
    for s, (low, high) in zip(layer.scale_factor, layer.padding, strict=True):
        before, after = AFFECTED[mode](s) if s > 1 else (0, 0)
        ends.append((max(0, low + before), max(0, high + after)))
    found = fold(layer, border="interior")
    x = torch.randn(1, layer.in_channels, *(14 if axes == 1 else 9,) * axes, dtype=torch.float64)  # enough to reflect
    a, b = found(x), layer(x)
    assert a.shape == b.shape
    for axis, (low, high) in enumerate(ends, start=2):
        size = max(a.shape[axis] - low - high, 0)
        a, b = (y.narrow(axis, min(low, y.shape[axis]), size) for y in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_what_is_refused_differs_indeed(mode: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(2, 2, 3, padding=1))
    found, x = fold(net, border="interior"), torch.randn(1, 2, 8, 8)
    difference = (found(x) - net(x)).detach().abs().amax((0, 1))
    width = 2 if mode == "bilinear" else 4
    assert float(difference[0].max()) > 0.05
    assert float(difference[:, -1].max()) > 0.05
    assert float(difference[width:-width, width:-width].max()) < 1e-5


@AXES
def test_borders_of_padding_layers(axes: int) -> None:
    torch.manual_seed(0)
    conv = CONV[axes](2, 3, 3)
    reflected = nn.Sequential(nn.Upsample(scale_factor=2), REFLECT[axes](1), conv)
    with pytest.raises(ParameterError, match="'reflect' at the start of spatial axis 0"):
        fold(reflected)
    x = torch.randn(1, 2, *(6,) * axes)
    a, b = fold(reflected, border="interior")(x), reflected(x)
    assert a.shape == b.shape
    inner = (..., *[slice(1, -1)] * axes)
    torch.testing.assert_close(a[inner], b[inner])
    assert not torch.allclose(a, b, atol=1e-2)
    cropped = nn.Sequential(nn.Upsample(scale_factor=2), ZERO[axes](-1), CONV[axes](2, 3, 3, padding=1))
    assert "cropped first" in (foldable(cropped, border="interior")["0"] or "")
    linear = nn.Sequential(
        nn.Upsample(scale_factor=2, mode=("linear", "bilinear", "trilinear")[axes - 1]), ZERO[axes](-1), conv
    )
    torch.testing.assert_close(fold(linear)(x), linear(x))


class OwnConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class OwnOrder(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[1](self[0](x)).relu()


def hooked() -> nn.Module:
    conv = nn.Conv2d(2, 2, 3)
    conv.register_forward_hook(lambda module, args, out: out + 1)
    return conv


REFUSED = {
    "whole for a fold": nn.Sequential(nn.Upsample(scale_factor=1.5), nn.Conv2d(2, 2, 3)),
    "fixes its output": nn.Sequential(nn.Upsample(size=8), nn.Conv2d(2, 2, 3)),
    "align_corners": nn.Sequential(nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(2, 2, 3)),
    "stride": nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, 2)),
    "not a plain convolution": nn.Sequential(nn.Upsample(scale_factor=2), OwnConv(2, 2, 3)),
    "hooks": nn.Sequential(nn.Upsample(scale_factor=2), hooked()),
    "no weight yet": nn.Sequential(nn.Upsample(scale_factor=2), nn.LazyConv2d(2, 3)),
    "ReLU follows it": nn.Sequential(nn.Upsample(scale_factor=2), nn.ReLU(), nn.Conv2d(2, 2, 3)),
    "no convolution follows it in": nn.Sequential(nn.Conv2d(2, 2, 3), nn.Upsample(scale_factor=2)),
    "no convolution follows it; give": nn.Upsample(scale_factor=2),
    "order is not known": OwnOrder(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)),
    "pads 1 axes": nn.Sequential(nn.Upsample(scale_factor=2), nn.ZeroPad1d(1), nn.Conv2d(2, 2, 3)),
    "has 3 axes": nn.Sequential(nn.Upsample(scale_factor=(2, 2, 2)), nn.Conv2d(2, 2, 3)),
    "mode (='trilinear')": nn.Sequential(nn.Upsample(scale_factor=2, mode="trilinear"), nn.Conv2d(2, 2, 3)),
    "repeats the edge": ResizeConv2d(2, 2, 3, mode="linear"),
    "'constant' at the end": nn.Sequential(
        nn.Upsample(scale_factor=2), nn.ConstantPad2d((0, 1, 0, 0), 1.0), nn.Conv2d(2, 2, 3)
    ),
    "'circular'": nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")),
    "no such layer": nn.Sequential(nn.Conv2d(2, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_with_the_reason(reason: str) -> None:
    module = REFUSED[reason]
    with pytest.raises(ParameterError) as caught:
        fold(module)
    assert reason in str(caught.value)
    if reason != "no such layer":
        (found,) = foldable(module).values()
        assert found is not None
        assert reason in found


def test_unknown_border() -> None:
    for call in (fold, foldable):
        with pytest.raises(ParameterError, match=r"border \(='edge'\) must be one of 'exact', 'interior'"):
            call(ResizeConv1d(1, 1, 3), border="edge")


class Decoder(nn.Module):
    """Everything at once: pairs, our layers, shared ones, and such as do not fold."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = ResizeConv2d(4, 4, 3)
        self.up = nn.ModuleList([nn.Sequential(self.shared, nn.ReLU()), self.shared])
        self.pair = nn.Sequential(
            nn.BatchNorm2d(4), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReflectionPad2d(1), nn.Conv2d(4, 2, 3, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.up:
            x = layer(x)
        return self.pair(x)


def test_fold_of_a_network() -> None:
    torch.manual_seed(0)
    net = Decoder()
    x = torch.randn(2, 4, 3, 3)
    net(x)
    net.eval()
    before, wanted = copy.deepcopy(net.state_dict()), net(x)
    listed = foldable(net)
    assert {name for name, reason in listed.items() if reason is None} == {"shared", "up.0.0", "up.1", "pair.1"}
    assert "repeats the edge" in (listed["pair.4"] or "")
    found = fold(net)
    torch.testing.assert_close(found(x), wanted)
    assert found.shared is found.up[0][0] is found.up[1]
    assert type(found.shared) is nn.ConvTranspose2d
    assert [type(m).__name__ for m in found.pair] == [
        "BatchNorm2d", "Identity", "ConvTranspose2d", "ReLU", "Upsample", "ReflectionPad2d", "Conv2d",
    ]  # fmt: skip
    assert list(found.state_dict()) == list(before)
    assert not any(m.training for m in found.modules())
    assert torch.equal(net(x), wanted)  # and the original is as it was
    assert isinstance(net.shared, ResizeConv2d)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    inner = fold(net, border="interior")
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in inner.modules()) == 3
    torch.testing.assert_close(inner(x)[..., 2:-2, 2:-2], wanted[..., 2:-2, 2:-2])
    with pytest.raises(ParameterError, match=r"no layer to fold.*'pair\.4'"):
        fold(found)


def test_fold_keeps_what_a_layer_is() -> None:
    torch.manual_seed(0)
    layer = ResizeConv2d(2, 4, 3, groups=2, dtype=torch.bfloat16).eval()
    layer.weight.requires_grad_(False)
    layer.to(memory_format=torch.channels_last)
    state = torch.get_rng_state()
    found = fold(layer)
    assert torch.equal(torch.get_rng_state(), state)
    assert (found.weight.dtype, found.training, found.groups) == (torch.bfloat16, False, 2)
    assert (found.weight.requires_grad, found.bias.requires_grad) == (False, True)
    assert found.bias is not layer.bias
    dense = fold(ResizeConv2d(3, 4, 3).to(memory_format=torch.channels_last))
    assert dense.weight.is_contiguous(memory_format=torch.channels_last)
    assert fold(ResizeConv2d(3, 4, 3)).weight.is_contiguous()
    assert repr(fold(ResizeConv2d(3, 4, 3))) == repr(nn.ConvTranspose2d(3, 4, 4, 2, 1))
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert torch.equal(twin.weight, found.weight)
    plain = nn.ConvTranspose2d(2, 4, 4, 2, 1, groups=2)
    plain.load_state_dict(found.state_dict(), strict=True)


def test_fold_reads_parametrized_weights_once_and_leaves_them() -> None:
    torch.manual_seed(0)
    conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 3, 3, padding=1))
    net = nn.Sequential(nn.Upsample(scale_factor=2), conv)
    before = copy.deepcopy(net.state_dict())
    found, x = fold(net), torch.randn(1, 2, 4, 4)
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    assert found.training
    torch.testing.assert_close(found(x), net.eval()(x))
    assert list(found.state_dict()) == ["bias", "weight"] or list(found.state_dict()) == ["weight", "bias"]


def network(axes: int) -> nn.Sequential:
    return nn.Sequential(
        RESIZE[axes](2, 4, 3, padding=[(1, 1)] * axes),
        nn.Upsample(scale_factor=2), ZERO[axes](1), CONV[axes](4, 4, 3),
        RESIZE[axes](4, 2, 2, 3, padding=[(0, 2)] * axes, groups=2),
        RESIZE[axes](2, 2, 4, padding=[(3, 0)] * axes),
    )  # fmt: skip


@pytest.mark.slow
@AXES
def test_onnx_has_one_operator_per_layer(axes: int) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = network(axes)
    x, other = torch.randn(2, 2, *(3,) * axes), torch.randn(1, 2, *(2,) * axes)
    dynamic = (dict.fromkeys([0, *range(2, 2 + axes)], torch.export.Dim.DYNAMIC),)
    program = export_onnx(fold(net), x, dynamic)
    assert [node.op_type for node in program.model.graph] == ["ConvTranspose"] * 4
    for value in (x, other):
        torch.testing.assert_close(run_onnx(program, value), net(value).detach(), rtol=1e-4, atol=1e-5)


# ---- unfold ----------------------------------------------------------------------------------------------------------


@AXES
@given(data=st.data(), seed=SEED)
def test_unfold_undoes_fold(axes: int, data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    drawn = data.draw(resize_arguments(axes))
    layer = RESIZE[axes](**drawn)
    found = unfold(fold(layer))
    assert found.exact
    assert found.residual < 1e-12
    if drawn["dilation"] == (1,) * axes:
        assert found.layer.padding == layer.padding
        torch.testing.assert_close(found.layer.weight, layer.weight, rtol=0, atol=1e-12)
    found.layer.implementation = "plain"
    layer.implementation = "plain"
    assert_same_function(found.layer, layer, axes)


@AXES
@given(data=st.data(), seed=SEED)
def test_unfold_is_the_least_squares_solution(axes: int, data: st.DataObject, seed: int) -> None:
    """Against numpy's on a matrix made by running the layers themselves on impulses."""
    torch.manual_seed(seed)
    drawn = data.draw(transposed_arguments(axes)) | {"in_channels": 1, "out_channels": 1, "groups": 1, "bias": False}
    if axes == 3:
        drawn |= {"stride": tuple(min(s, 2) for s in drawn["stride"]), "dilation": (1, 2, 1), "output_padding": 0}
    layer = TRANSPOSED[axes](**drawn)
    size = data.draw(st.none() | tuples(axes, 1, 3))
    found = unfold(layer, size)
    twin = copy.deepcopy(found.layer)
    assert size is None or twin.kernel_size == size
    twin.implementation = "plain"
    room = 8 if axes == 1 else 5 if axes == 2 else 4  # so much that no response is cut off
    with torch.no_grad():
        columns = []
        for tap in np.ndindex(*twin.kernel_size):
            twin.weight.zero_()
            twin.weight[(0, 0, *tap)] = 1
            columns.append(kernel(twin, room).ravel())
    matrix, wanted = np.stack(columns, 1), kernel(layer, room)
    np.testing.assert_allclose(np.abs(wanted).sum(), float(layer.weight.detach().abs().sum()), rtol=1e-9)  # not cut off
    wanted = wanted.ravel()
    solution, *_ = np.linalg.lstsq(matrix, wanted, rcond=None)
    np.testing.assert_allclose(found.layer.weight.detach().numpy().ravel(), solution, atol=1e-9)
    residual = np.linalg.norm(matrix @ solution - wanted) / np.linalg.norm(wanted)
    np.testing.assert_allclose(found.residual, residual, atol=1e-10)


@given(data=st.data(), seed=SEED, balanced=st.booleans())
def test_exact_iff_balanced_in_one_dimension(data: st.DataObject, seed: int, balanced: bool) -> None:
    torch.manual_seed(seed)
    drawn = data.draw(transposed_arguments(1))
    layer = nn.ConvTranspose1d(**drawn)
    (k,), (s,), (d,) = layer.kernel_size, layer.stride, layer.dilation
    if balanced:
        assume(k >= s and gcd(d, s) == 1)
        remove(balance(layer))
    found = unfold(layer)
    meets = ripple(dc_gains(layer.weight.detach().numpy(), (s,), (d,))) < 1e-12
    assert meets == (balanced or s == 1)  # random kernels do not meet it
    assert found.exact == meets
    assert (found.residual < 1e-12) == meets
    if meets:
        found.layer.implementation = "plain"
        assert_same_function(found.layer, layer, 1)


def test_balanced_but_not_a_resize_convolution() -> None:
    """In 2-D the DC condition is weaker: 9 taps, 3 conditions, 6 free; a resize-convolution of this size has 4."""
    torch.manual_seed(0)
    layer = BalancedConvTranspose2d(3, 4, 3, 2, 1, 1, dtype=torch.float64)
    assert ripple(dc_gains(layer.weight.detach().numpy(), (2, 2), (1, 1))) < 1e-12
    found = unfold(layer)
    assert not found.exact
    assert 0.1 < found.residual < 0.9
    folds = [fold(ResizeConv2d(1, 1, 2, dtype=torch.float64)).weight.detach().numpy().ravel() for _ in range(20)]
    assert np.linalg.matrix_rank(np.stack(folds)) == 4
    drawn = [
        BalancedConvTranspose2d(1, 1, 3, 2, dtype=torch.float64).weight.detach().numpy().ravel() for _ in range(20)
    ]
    assert np.linalg.matrix_rank(np.stack(drawn), tol=1e-10) == 6


def test_common_factor_of_dilation_and_stride() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose1d(2, 3, 4, 2, 3, 1, dilation=2)
    found = unfold(layer)
    assert not found.exact
    weight = layer.weight.detach()  # odd phases are empty: the even one's gain is all that can not be expressed
    assert found.residual == pytest.approx(float(weight.sum(-1).norm() / weight.norm() / 7**0.5), rel=1e-5)
    x = torch.randn(1, 2, 6)
    assert found.layer(x).shape == layer(x).shape
    with torch.no_grad():
        weight -= weight.mean(-1, keepdim=True)
    assert unfold(layer).exact
    assert unfold(nn.ConvTranspose1d(2, 3, 4, 1, 3, dilation=2)).layer.dilation == (2,)


def test_unfold_of_a_kernel_of_zeros() -> None:
    layer = nn.ConvTranspose2d(2, 2, 4, 2, 1)
    nn.init.zeros_(layer.weight)
    found = unfold(layer)
    assert (found.residual, found.exact) == (0.0, True)
    x = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(found.layer(x), layer(x))


def test_precision_of_exact() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for _ in range(5):
            assert unfold(fold(ResizeConv2d(8, 8, 3, dtype=dtype))).exact
            assert not unfold(nn.ConvTranspose2d(8, 8, 4, 2, 1, dtype=dtype)).exact
    with pytest.raises(AttributeError):
        unfold(nn.ConvTranspose1d(1, 1, 4, 2)).residual = 0.0  # frozen
    assert Unfolded.__dataclass_params__.frozen


# ---- from_conv_transpose ---------------------------------------------------------------------------------------------


@AXES
@given(data=st.data(), seed=SEED)
def test_shapes_are_those_of_the_transposed_convolution(axes: int, data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    layer = TRANSPOSED[axes](**data.draw(transposed_arguments(axes)))
    mode = data.draw(st.sampled_from(MODES))
    assume(mode != "bicubic" or axes == 2)
    if mode.startswith("fir"):
        layer = TRANSPOSED[axes](**data.draw(transposed_arguments(axes)) | {"stride": 2, "output_padding": 1})
    size = data.draw(st.none() | tuples(axes, 1, 4))
    found = from_conv_transpose(layer, mode, data.draw(st.sampled_from(["fit", "new"])), kernel_size=size)
    assert type(found) is RESIZE[axes]
    assert found.mode == mode
    assert size is None or found.kernel_size == size
    compared = 0
    for x in inputs(layer, axes):
        a, b = output(found, x), output(layer, x)
        assert (None if a is None else a.shape) == (None if b is None else b.shape)
        compared += a is not None
    assert compared


@given(data=st.data(), mode=st.sampled_from(["nearest", "linear", "fir:1,3,3,1", "fir:1,2,1"]))
def test_centres_agree(data: st.DataObject, mode: str) -> None:
    """The response to an impulse, all taps 1, has the same centre of mass: to half a sample for nearest."""
    drawn = data.draw(transposed_arguments(1)) | {"bias": False, "padding": (0,), "groups": 1}
    if mode.startswith("fir"):
        drawn |= {"stride": (2,), "output_padding": (0,)}
    layer = nn.ConvTranspose1d(**drawn | {"in_channels": 1, "out_channels": 1})
    found = from_conv_transpose(layer, mode)
    (k,), (s,), (d,) = layer.kernel_size, layer.stride, layer.dilation
    centres = []
    for module in (found, layer):
        nn.init.ones_(module.weight)
        response = kernel(module, 12)[0, 0]
        centres.append(float(response @ np.arange(len(response)) / response.sum()))
    apart = abs(centres[0] - centres[1])
    covered = d * (k - 1) + 1 >= s
    assert apart < 1e-9 if covered or mode != "nearest" else apart < 0.5 + 1e-9


@pytest.mark.parametrize(
    ("transposed", "resized"),
    [
        (nn.ConvTranspose2d(2, 2, 4, 2, 1), ResizeConv2d(2, 2, 3)),  # DCGAN
        (nn.ConvTranspose2d(2, 2, 3, 2, 1, 1), ResizeConv2d(2, 2, 2, padding=((0, 1), (0, 1)))),  # pix2pixHD
        (nn.ConvTranspose2d(2, 2, 2, 2), ResizeConv2d(2, 2, 1)),  # U-Net
        (nn.ConvTranspose1d(2, 2, 16, 8, 4), ResizeConv1d(2, 2, 9, 8)),  # HiFi-GAN
        (nn.ConvTranspose3d(2, 2, 4, 2, 1), ResizeConv3d(2, 2, 3)),
    ],
)
def test_layers_of_known_networks(transposed: nn.Module, resized: nn.Module) -> None:
    assert repr(from_conv_transpose(transposed)) == repr(resized)
    assert repr(from_conv_transpose(transposed, weights="new")) == repr(resized)


@AXES
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("weights", ["fit", "new"])
def test_constants_stay_constant(axes: int, mode: str, weights: str) -> None:
    torch.manual_seed(0)
    layer = TRANSPOSED[axes](4, 6, 3, 2, 1, 1, groups=2, dtype=torch.float64)
    found = from_conv_transpose(layer, mode, weights)
    nn.init.normal_(found.weight)
    x = torch.randn(1, 4, *(1,) * axes, dtype=torch.float64).expand(1, 4, *(9,) * axes)

    def uneven(module: nn.Module) -> float:
        y = module(x).detach()[(..., *[slice(5, -5)] * axes)].flatten(2)
        return float((y - y[..., :1]).abs().max())

    assert uneven(found) < 1e-10
    assert uneven(layer) > 1e-3


@pytest.mark.parametrize("mode", ["linear", "bicubic", "fir:1,3,3,1"])
def test_fit_of_other_modes_is_least_squares_too(mode: str) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(1, 1, 4, 2, 1, bias=False, dtype=torch.float64)
    found = from_conv_transpose(layer, mode)
    assert found.kernel_size == (3, 3)
    twin = copy.deepcopy(found)
    columns = []
    with torch.no_grad():
        for tap in product(range(3), repeat=2):
            twin.weight.zero_()
            twin.weight[(0, 0, *tap)] = 1
            columns.append(kernel(twin, 6).ravel())
    solution, *_ = np.linalg.lstsq(np.stack(columns, 1), kernel(layer, 6).ravel(), rcond=None)
    np.testing.assert_allclose(found.weight.detach().numpy().ravel(), solution, atol=1e-9)


def test_new_weights_have_the_old_scale() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(16, 32, 4, 2, 1)
    nn.init.normal_(layer.weight, 0, 0.02)
    found = from_conv_transpose(layer, weights="new")
    assert output_gain(found) == pytest.approx(output_gain(layer), rel=1e-4)
    assert torch.equal(found.bias, layer.bias)
    assert found.bias is not layer.bias
    other = from_conv_transpose(layer, weights="new")
    assert not torch.equal(found.weight, other.weight)


@pytest.mark.parametrize("weights", ["fit", "new"])
def test_what_a_layer_keeps(weights: str) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 6, 4, 2, 1, dtype=torch.bfloat16).eval().requires_grad_(False)
    layer.to(memory_format=torch.channels_last)
    before = copy.deepcopy(layer.state_dict())
    found = from_conv_transpose(layer, weights=weights)
    assert found.weight.dtype == torch.bfloat16
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())
    assert found.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.bias, layer.bias)
    assert all(torch.equal(v, before[name]) for name, v in layer.state_dict().items())
    assert from_conv_transpose(nn.ConvTranspose1d(2, 2, 4, 2, bias=False), weights=weights).bias is None
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert repr(twin) == repr(found)
        assert torch.equal(twin.weight, found.weight)
    fresh = ResizeConv2d(4, 6, 3, dtype=torch.bfloat16)
    fresh.load_state_dict(found.state_dict(), strict=True)


def test_balanced_layers_of_one_dimension_become_the_same_function() -> None:
    torch.manual_seed(0)
    layer = BalancedConvTranspose1d(2, 3, 7, 3, 2, 1, dtype=torch.float64)
    found = from_conv_transpose(layer)
    x = torch.randn(2, 2, 6, dtype=torch.float64)
    torch.testing.assert_close(found(x), layer(x), rtol=0, atol=1e-12)
    assert found.weight.requires_grad


def transposed_network() -> nn.Module:
    shared = nn.ConvTranspose2d(3, 3, 4, 2, 1)
    return nn.Sequential(
        shared, nn.ReLU(), nn.ModuleDict({"never run": nn.ConvTranspose1d(2, 2, 16, 8, 4)})["never run"], shared,
        nn.ConvTranspose2d(3, 4, 3, 1, 1), nn.Sequential(nn.ConvTranspose2d(4, 2, 3, 2, 1, 1)),
    )  # fmt: skip


def test_a_whole_network() -> None:
    torch.manual_seed(0)
    net = transposed_network()
    before = copy.deepcopy(net.state_dict())
    found = from_conv_transpose(net)
    kinds = [type(m).__name__ for m in found]
    assert kinds == ["ResizeConv2d", "ReLU", "ResizeConv1d", "ResizeConv2d", "ConvTranspose2d", "Sequential"]
    assert found[0] is found[3]
    assert type(found[5][0]) is ResizeConv2d
    assert list(found.state_dict()) == list(before)
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    assert not {id(p) for p in net.parameters()} & {id(p) for p in found.parameters()}
    x = torch.randn(1, 3, 4, 5)
    for run in (net, found):
        del run[2]
    assert found(x).shape == net(x).shape
    assert from_conv_transpose(net, mode="linear", inplace=True) is net
    assert isinstance(net[0], ResizeConv2d)
    assert net[0].mode == "linear"


class OwnTransposed(nn.ConvTranspose2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_errors_name_the_layer_and_change_nothing() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(2, 2, 4, 2, 1), nn.Sequential(OwnTransposed(2, 2, 4, 2)))
    with pytest.raises(ParameterError, match=r"1\.0 \(OwnTransposed\).*forward"):
        from_conv_transpose(net, inplace=True)
    assert type(net[0]) is nn.ConvTranspose2d
    layer = net[0]
    wrong = [
        (lambda: from_conv_transpose(layer, weights="old"), r"weights \(='old'\)"),
        (lambda: from_conv_transpose(layer, mode="lanczos"), r"mode \(='lanczos'\)"),
        (lambda: from_conv_transpose(layer, kernel_size=0), r"kernel_size \(=0\)"),
        (lambda: from_conv_transpose(layer, inplace=True), r"inplace \(=True\)"),
        (lambda: from_conv_transpose(nn.ReLU()), "no transposed convolution"),
        (lambda: from_conv_transpose(nn.LazyConvTranspose2d(2, 4, 2)), "no weight yet"),
        (lambda: unfold(nn.Conv2d(2, 2, 3)), r"layer \(='Conv2d'\)"),
        (lambda: unfold(layer, (3, 3, 3)), r"kernel_size \(=\(3, 3, 3\)\)"),
        (lambda: unfold(nn.ConvTranspose2d(2, 2, 4, 2, device="meta")), "meta"),
    ]
    for call, message in wrong:
        with pytest.raises(ParameterError, match=message):
            call()
    layer.register_forward_pre_hook(lambda module, args: None)
    with pytest.raises(ParameterError, match="hooks"):
        unfold(layer)
