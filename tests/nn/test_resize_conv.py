"""Resize-convolution against its definition written out: interpolate, pad, correlate, in numpy."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial, reduce
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from layer_checks import CHECKS, SLOW_CHECKS, Case, export_onnx, run_onnx
from numpy.typing import NDArray
from torch import Tensor, nn

import evenly
from evenly.errors import ParameterError
from evenly.nn.functional import resize_conv
from evenly.nn.resize import ResizeConv1d, ResizeConv2d, ResizeConv3d

Array = NDArray[np.float64]

PROVE = bool(os.environ.get("EVENLY_PROVE"))
LAYERS: dict[int, Any] = {1: ResizeConv1d, 2: ResizeConv2d, 3: ResizeConv3d}
CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
PLAIN: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
PADS: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
SEED = st.integers(0, 2**31 - 1)
F64 = {"dtype": torch.float64}
WAYS = ("plain", "folded", "differences")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -------------------------------------------------------------------------------------------------- the definition


def cubic(u: float, a: float = -0.75) -> float:
    """Keys' kernel, from its conditions: 1 at 0, 0 at 1 and 2, continuous slope ``a`` at 1."""
    u = abs(u)
    if u < 1:
        return (a + 2) * u**3 - (a + 3) * u**2 + 1
    return a * (u**3 - 5 * u**2 + 8 * u - 4) if u < 2 else 0.0


def interpolation(length: int, scale: float, mode: str) -> Array:
    """The matrix of an interpolation of one axis, from the definition of its mode: half-pixel positions."""
    s = Fraction(scale).limit_denominator(64)
    size = math.floor(length * s)
    matrix = np.zeros((size, length))
    if mode.startswith("fir:") and s > 1:
        taps = np.array([float(t) for t in mode[4:].split(",")])
        taps *= float(s) / taps.sum()
        far = len(taps)  # the edge value goes on as far as any tap reaches
        for n in range(size):
            for j, tap in enumerate(taps[::-1]):  # zeros between the inputs, then a true convolution
                place = n + j - (far + int(s) - 1) // 2
                if place % int(s) == 0:
                    matrix[n, min(max(place // int(s), 0), length - 1)] += tap
        return matrix
    for n in range(size):
        at = (n + Fraction(1, 2)) / s - Fraction(1, 2)
        if mode == "nearest" or (mode.startswith("fir:") and s == 1):
            matrix[n, min(math.floor(n / s), length - 1)] = 1
        elif mode == "nearest-exact":
            matrix[n, min(math.floor((n + Fraction(1, 2)) / s), length - 1)] = 1
        elif mode == "bicubic":
            for i in range(math.floor(at) - 1, math.floor(at) + 3):
                matrix[n, min(max(i, 0), length - 1)] += cubic(float(at - i))
        else:
            at = max(at, Fraction(0))
            i = math.floor(at)
            matrix[n, min(i, length - 1)] += float(i + 1 - at)
            matrix[n, min(i + 1, length - 1)] += float(at - i)
    return matrix


def correlate(x: Array, weight: Array, dilation: Sequence[int], groups: int) -> Array:
    """Stride-1 convolution as networks have it, tap by tap."""
    c_out, per_group = weight.shape[:2]
    sizes = [n - d * (k - 1) for n, d, k in zip(x.shape[2:], dilation, weight.shape[2:], strict=True)]
    y = np.zeros((len(x), c_out, *sizes))
    for tap in product(*map(range, weight.shape[2:])):
        window = x[
            (slice(None), slice(None), *(slice(d * t, d * t + n) for d, t, n in zip(dilation, tap, sizes, strict=True)))
        ]
        for o in range(c_out):
            first = o // (c_out // groups) * per_group
            for c in range(per_group):
                y[:, o] += weight[(o, c, *tap)] * window[:, first + c]
    return y


@dataclass(frozen=True)
class Geometry:
    """A drawn layer and the sizes of its input."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    scale: tuple[float, ...]
    mode: str
    padding: tuple[tuple[int, int], ...] | None
    padding_mode: str
    dilation: tuple[int, ...]
    groups: int
    c_in: int
    c_out: int
    bias: bool

    @property
    def dims(self) -> int:
        return len(self.sizes)

    @property
    def pad(self) -> tuple[tuple[int, int], ...]:
        if self.padding is not None:
            return self.padding
        return tuple((d * (k - 1) // 2,) * 2 for d, k in zip(self.dilation, self.kernel, strict=True))

    @property
    def options(self) -> dict[str, Any]:
        return {
            "scale_factor": self.scale, "mode": self.mode, "padding": self.padding,
            "padding_mode": self.padding_mode, "dilation": self.dilation, "groups": self.groups,
        }  # fmt: skip

    @property
    def ways(self) -> list[str]:
        """The implementations that exist."""
        found = ["plain", "auto"]
        whole = all(float(s).is_integer() for s in self.scale)
        if whole and (self.padding_mode != "circular" or self.mode.startswith("nearest")):
            found.append("folded")
            if self.groups == 1 and set(self.dilation) == {1}:
                found.append("differences")
        return found

    def tensors(self, seed: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor | None]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(batch, self.c_in, *self.sizes, generator=generator, **F64)
        weight = torch.randn(self.c_out, self.c_in // self.groups, *self.kernel, generator=generator, **F64)
        return x, weight, torch.randn(self.c_out, generator=generator, **F64) if self.bias else None

    def padded(self, x: Array) -> Array:
        """Interpolated, then padded, then cropped."""
        for axis, scale in enumerate(self.scale, start=2):
            matrix = interpolation(x.shape[axis], scale, self.mode)
            x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
        more = [(max(low, 0), max(high, 0)) for low, high in self.pad]
        x = np.pad(x, [(0, 0), (0, 0), *more], mode=PADS[self.padding_mode])
        for axis, (low, high) in enumerate(self.pad, start=2):
            x = x.take(range(max(-low, 0), x.shape[axis] - max(-high, 0)), axis)
        return x

    def wanted(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Array:
        y = correlate(self.padded(x.detach().numpy()), weight.detach().numpy(), self.dilation, self.groups)
        return y if bias is None else y + bias.detach().numpy().reshape(-1, *(1,) * self.dims)


SMOOTHING = [(1.0,), (1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 3.0), (-0.25, 1.0, 0.5, 0.25)]


def fir(scales: Sequence[float], smoothing: Sequence[float]) -> str:
    """Taps whose phases have equal sums for each of the factors."""
    ones = [np.ones(int(s)) for s in sorted(set(scales)) if s > 1]
    return "fir:" + ",".join(repr(float(t)) for t in reduce(np.convolve, ones, np.array(smoothing)))


@st.composite
def geometries(draw: st.DrawFn, dims: int, fractional: bool = False) -> Geometry:
    def each(values: st.SearchStrategy[Any]) -> Any:
        return draw(st.tuples(*[values] * dims))

    simple = draw(st.booleans())  # so that every implementation is often allowed
    kernel = each(st.integers(1, {1: 6, 2: 4, 3: 3}[dims]))
    factors = (
        st.sampled_from([0.5, 0.75, 1.25, 1.5, 2.5, 2]) if fractional else st.integers(1, {1: 5, 2: 3, 3: 3}[dims])
    )
    scale = each(factors)
    dilation = (1,) * dims if simple else each(st.integers(1, 3 if dims == 1 else 2))
    groups = 1 if simple else draw(st.integers(1, 2))
    modes = ["nearest", "nearest-exact", "linear", LINEAR[dims], *(["bicubic"] if dims == 2 else [])]
    if not fractional:
        modes.append(fir(scale, draw(st.sampled_from(SMOOTHING))))
    sizes = each(st.integers(1 if not fractional else 2, {1: 8, 2: 5, 3: 3}[dims]))
    pair = st.tuples(st.integers(-2, 4), st.integers(-2, 4))
    found = Geometry(
        sizes, kernel, scale, draw(st.sampled_from(modes)), draw(st.none() | st.tuples(*[pair] * dims)),
        draw(st.sampled_from(list(PADS))), dilation, groups, groups * draw(st.integers(1, 2)),
        groups * draw(st.sampled_from([1, 2, 9])), draw(st.booleans()),
    )  # fmt: skip
    for n, s, (low, high), k, d in zip(sizes, scale, found.pad, kernel, dilation, strict=True):
        length = int(n * s)
        assume(length + low + high > d * (k - 1))  # at least one output
        assume(length + min(low, 0) + min(high, 0) > 0)
        assume(s in (1, 2) or length not in (n, 2 * n) or not fractional)  # PyTorch's nearest rounds the factor then
        if found.padding_mode in ("reflect", "circular"):
            assume(max(low, high) < length + (found.padding_mode == "circular"))  # PyTorch's own limits
    return found


@pytest.mark.parametrize("dims", [1, 2, 3])
@settings(max_examples=400 if PROVE else 40)
@given(data=st.data(), seed=SEED)
def test_every_implementation_is_the_definition(dims: int, data: st.DataObject, seed: int) -> None:
    case = data.draw(geometries(dims))
    x, weight, bias = case.tensors(seed)
    wanted = case.wanted(x, weight, bias)
    for way in case.ways:
        found = resize_conv(x, weight, bias, **case.options, implementation=way)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-10, err_msg=way)
    layer = LAYERS[dims](case.c_in, case.c_out, case.kernel, **case.options, bias=case.bias, **F64)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dims", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_factors_that_are_not_whole(dims: int, data: st.DataObject, seed: int) -> None:
    case = data.draw(geometries(dims, fractional=True))
    x, weight, bias = case.tensors(seed)
    for way in case.ways:
        found = resize_conv(x, weight, bias, **case.options, implementation=way)
        np.testing.assert_allclose(found.numpy(), case.wanted(x, weight, bias), rtol=0, atol=1e-10, err_msg=way)
    if any(not float(s).is_integer() for s in case.scale):
        for way in ("folded", "differences"):
            with pytest.raises(ParameterError, match=rf"implementation \(='{way}'\).*whole scale factors.*auto"):
                resize_conv(x, weight, bias, **case.options, implementation=way)


@pytest.mark.parametrize("dims", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_gradients_of_first_and_second_order(dims: int, data: st.DataObject, seed: int) -> None:
    """Of every implementation against the composition of PyTorch's own operators where it has the mode."""
    case = data.draw(geometries(dims))
    tensors = [v.requires_grad_() for v in case.tensors(seed) if v is not None]

    def composed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if case.mode.startswith("fir:"):
            return resize_conv(x, weight, bias, **case.options, implementation="plain")
        mode = LINEAR[dims] if case.mode == "linear" else case.mode
        corners = None if mode.startswith("nearest") else False
        x = F.interpolate(x, scale_factor=[float(s) for s in case.scale], mode=mode, align_corners=corners)
        mode = "constant" if case.padding_mode == "zeros" else case.padding_mode
        x = F.pad(x, [max(p, 0) for pair in reversed(case.pad) for p in pair], mode=mode)
        x = F.pad(x, [min(p, 0) for pair in reversed(case.pad) for p in pair])
        return CONVOLUTIONS[dims](x, weight, bias, dilation=case.dilation, groups=case.groups)

    def orders(function: Callable[..., Tensor]) -> list[Tensor]:
        y = function(*tensors)
        slope = torch.linspace(-1, 2, y.numel(), **F64).view(y.shape)
        first = torch.autograd.grad((y.square() * slope).sum(), tensors, create_graph=True)
        size = sum((g.square() * torch.linspace(-1, 2, g.numel(), **F64).view(g.shape)).sum() for g in first)
        scale = 1 + max(float(g.detach().abs().max()) for g in first)
        second = torch.autograd.grad(size / scale**2, tensors)
        return [y.detach(), *(g.detach() / scale for g in first), *second]

    wanted = orders(composed)
    for way in case.ways:
        found = orders(partial(resize_conv, **case.options, implementation=way))
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda text, way=way: f"{way}: {text}")


@pytest.mark.parametrize("dims", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_gradients_are_adjoints_of_the_definition(dims: int, data: st.DataObject, seed: int) -> None:
    """<A x, y> = <x, A' y> for the input and for the weight, ``A`` in numpy; and linear in both."""
    case = data.draw(geometries(dims))
    x, weight, _ = case.tensors(seed)
    other, heavier, _ = case.tensors(seed ^ 1)
    wanted = torch.from_numpy(case.wanted(x, weight, None))
    y = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(seed), **F64)
    x.requires_grad_()
    weight.requires_grad_()
    for way in case.ways:
        run = partial(resize_conv, **case.options, implementation=way)
        back = torch.autograd.grad(run(x, weight), (x, weight), y)
        scale = 1 + float((wanted * y).abs().sum())
        for there, here in zip((x, weight), back, strict=True):
            assert abs(float(((wanted * y).sum() - (there.detach() * here).sum()) / scale)) < 1e-12, way
        with torch.no_grad():
            torch.testing.assert_close(
                run(2 * x - 3 * other, weight + heavier),
                2 * run(x, weight) + 2 * run(x, heavier) - 3 * run(other, weight) - 3 * run(other, heavier),
                rtol=1e-9, atol=1e-9,
            )  # fmt: skip


# --------------------------------------------------------------------------------------------------- the DC condition


@pytest.mark.parametrize("dims", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_a_constant_stays_a_constant_whatever_the_weights(dims: int, data: st.DataObject, seed: int) -> None:
    case = data.draw(geometries(dims))
    _, weight, bias = case.tensors(seed)
    colour = torch.randn(2, case.c_in, *(1,) * dims, generator=torch.Generator().manual_seed(seed), **F64)
    x = colour.expand(-1, -1, *case.sizes)
    wanted = weight.flatten(2).sum(2)  # (C_out, C_in / groups)
    colours = colour.flatten(1).view(2, case.groups, -1, 1)
    level = (wanted.view(case.groups, -1, wanted.shape[1]) @ colours).view(2, -1, *(1,) * dims)
    level = level if bias is None else level + bias.view(-1, *(1,) * dims)
    for way in case.ways:
        y = resize_conv(x, weight, bias, **case.options, implementation=way)
        if case.padding_mode == "zeros":  # the outputs whose window stays inside
            for axis, (low, high) in enumerate(case.pad, start=2):
                y = y[(slice(None),) * axis + (slice(max(low, 0), max(y.shape[axis] - max(high, 0), 0)),)]
        torch.testing.assert_close(y, level.expand_as(y), rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "fir:1,3,3,1"])
@pytest.mark.parametrize("implementation", ["plain", "folded", "differences"])
def test_a_constant_stays_a_constant_in_training(mode: str, implementation: str) -> None:
    torch.manual_seed(0)
    layer = ResizeConv2d(2, 3, 3, mode=mode, padding_mode="replicate", implementation=implementation, **F64)
    optimizer = torch.optim.Adam(layer.parameters(), 0.1)
    before = layer.weight.detach().clone()
    constant = torch.randn(1, 2, 1, 1, **F64).expand(-1, -1, 5, 6)
    for _ in range(5):
        optimizer.zero_grad()
        x, target = torch.randn(2, 2, 5, 6, **F64), torch.randn(2, 3, 10, 12, **F64)
        (layer(x) - target).square().mean().backward()
        optimizer.step()
        y = layer(constant).detach()
        assert float((y - y[..., :1, :1]).abs().max()) < 1e-12
    assert float((layer.weight - before).detach().abs().max()) > 0.1


# --------------------------------------------------------------------------------------------------- in place of ...


@pytest.mark.parametrize("padding_mode", list(PADS))
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_the_checkpoint_of_upsample_and_convolution_loads(dims: int, mode: str, padding_mode: str) -> None:
    torch.manual_seed(0)
    corners = None if mode == "nearest" else False
    upsample = nn.Upsample(scale_factor=3, mode=LINEAR[dims] if corners is False else mode, align_corners=corners)
    old = nn.Sequential(upsample, PLAIN[dims](2, 4, 3, padding=2, padding_mode=padding_mode, dilation=2, groups=2))
    new = nn.Sequential(nn.Identity(), LAYERS[dims](2, 4, 3, 3, mode, padding_mode=padding_mode, dilation=2, groups=2))
    new.load_state_dict(old.state_dict(), strict=True)
    assert list(new.state_dict()) == ["1.weight", "1.bias"]
    x = torch.randn(2, 2, *(5,) * dims)
    torch.testing.assert_close(new(x), old(x))
    old.load_state_dict(new.state_dict(), strict=True)


@pytest.mark.parametrize(("groups", "c_out", "size"), [(1, 3, 5), (1, 12, 5), (2, 2, 5), (2, 24, 5), (2, 2, 1)])
@pytest.mark.parametrize("implementation", WAYS)
def test_signals_stay_contiguous(groups: int, c_out: int, size: int, implementation: str) -> None:
    if groups > 1 and implementation == "differences":
        implementation = "auto"
    y = ResizeConv1d(2, c_out, 3, groups=groups, implementation=implementation)(torch.randn(2, 2, size))
    assert y.is_contiguous()


@pytest.mark.parametrize("implementation", WAYS)
@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 3, 1, 1), (1, 1, 1, 1), (2, 1, 3, 4, 5)])
def test_one_channel_is_not_channels_last(shape: tuple[int, ...], implementation: str) -> None:
    """Where both formats fit, PyTorch's operators go by the strides; a ``view`` after the layer relies on it."""
    dims = len(shape) - 2
    x = torch.randn(shape)
    y = LAYERS[dims](shape[1], 12, 3, implementation=implementation)(x)
    plain = F.interpolate(x, scale_factor=2.0)
    assert PLAIN[dims](shape[1], 12, 3, padding=1)(plain).is_contiguous()
    assert y.is_contiguous()
    y.view(shape[0], -1)


def test_output_size_is_the_documented_one() -> None:
    layer = ResizeConv2d(1, 1, (4, 3), (2, 1.5), padding=((0, 3), 1), dilation=(2, 1))
    assert layer(torch.zeros(1, 1, 5, 7)).shape[2:] == (2 * 5 + 3 - 6, 10 + 2 - 2)
    assert layer(torch.zeros(1, 5, 7)).shape == (1, 7, 10)


def test_it_starts_at_the_scale_of_the_transposed_convolution() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 32, 24, 24)
    sizes = [
        float(layer(x).detach()[..., 4:-4, 4:-4].var())
        for layer in (nn.ConvTranspose2d(32, 32, 4, 2, 1, bias=False), ResizeConv2d(32, 32, 3, bias=False))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.15)


def test_names_and_layers_are_public() -> None:
    import evenly.nn

    for dims, layer in LAYERS.items():
        assert getattr(evenly.nn, f"ResizeConv{dims}d") is layer
        assert layer.__doc__


# -------------------------------------------------------------------------------------------- transforms, export, check


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "grad": lambda f, x, w: torch.func.grad(lambda v: f(x, v).square().sum())(w),
    "vmap-inputs": lambda f, x, w: torch.func.vmap(lambda v: f(v, w))(torch.stack([x, 2 * x, -x])),
    "vmap-weights": lambda f, x, w: torch.func.vmap(lambda v: f(x, v))(torch.stack([w, 2 * w])),
    "jvp-input": lambda f, x, w: torch.func.jvp(lambda v: f(v, w), (x,), (x.cos(),))[1],
    "jvp-weight": lambda f, x, w: torch.func.jvp(lambda v: f(x, v), (w,), (w.cos(),))[1],
    "per-sample": lambda f, x, w: torch.func.vmap(
        torch.func.grad(lambda v, sample: f(sample[None], v).square().sum()), in_dims=(None, 0)
    )(w, x),
    "jacrev": lambda f, x, w: torch.func.jacrev(lambda v: f(x, v).square().mean((0, 2, 3)))(w),
    "hessian-product": lambda f, x, w: torch.func.jvp(
        torch.func.grad(lambda v: f(x, v).square().sum()), (w,), (w.cos(),)
    )[1],
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("implementation", ["auto", *WAYS])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"] if PROVE else ["nearest"])
def test_transforms_of_functions(mode: str, implementation: str, name: str) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 2, 4, 3, **F64), torch.randn(3, 2, 3, 2, **F64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forward mode has deprecated parts of its own
        found, wanted = (
            TRANSFORMS[name](partial(resize_conv, mode=mode, padding_mode="replicate", implementation=way), x, weight)
            for way in (implementation, "plain")
        )
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channels", [(2, 3), (3, 64), pytest.param((512, 512), marks=pytest.mark.slow)])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_onnx_is_one_transposed_convolution(dims: int, channels: tuple[int, int]) -> None:
    if dims == 3 and channels[0] > 100:
        channels = (160, 160)
    torch.manual_seed(0)
    layer = LAYERS[dims](*channels, 3)
    x = torch.randn(1, channels[0], *(4,) * dims)
    program = export_onnx(layer, x, (dict.fromkeys([0, *range(2, 2 + dims)], torch.export.Dim.DYNAMIC),))
    assert [node.op_type for node in program.model.graph] == ["ConvTranspose"]
    other = torch.randn(2, channels[0], *(5, 3, 2)[:dims])
    torch.testing.assert_close(run_onnx(program, other), layer(other).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_network_of_these_layers_is_certified(dims: int) -> None:
    torch.manual_seed(0)
    make = LAYERS[dims]
    linear = LINEAR[dims]
    network = nn.Sequential(
        make(2, 4, 3), nn.ReLU(), make(4, 4, 4, 3, linear, padding_mode="replicate"), nn.ReLU(),
        make(4, 4, 3, 2, "fir:1,3,3,1"), nn.ReLU(), make(4, 2, 2, padding=((0, 1),) * dims), nn.Tanh(),
    )  # fmt: skip
    x = torch.randn(1, 2, *(4,) * dims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network.eval(), (x,))
        reports = [evenly.check(network, x), evenly.check(program)]
    for report in reports:
        assert report.worst() in (None, "info"), str(report)
        (output,), (gradient,) = report.outputs, report.inputs
        assert output.certified, str(report)
        assert output.broken_by == ()
        assert gradient.gradient_unevenness == 1, str(report)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1](4, 2, 3, 2)
    bad = evenly.check(nn.Sequential(make(2, 4, 3), transposed), x)
    assert bad.worst() == "error"  # so the certificate above means something


# ------------------------------------------------------------------------------------------------------ wrong arguments

WRONG: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: ResizeConv2d(0, 2, 3), "in_channels (=0)", "at least 1"),
    (lambda: ResizeConv2d(2, -1, 3), "out_channels (=-1)", "at least 1"),
    (lambda: ResizeConv2d(2, 2, 3, groups=0), "groups (=0)", "at least 1"),
    (lambda: ResizeConv2d(3, 2, 3, groups=2), "in_channels (=3)", "divisible by groups (=2)"),
    (lambda: ResizeConv2d(2, 3, 3, groups=2), "out_channels (=3)", "divisible by groups (=2)"),
    (lambda: ResizeConv2d(2, 2, 0), "kernel_size (=0)", "at least 1"),
    (lambda: ResizeConv2d(2, 2, (3, 3, 3)), "kernel_size (=(3, 3, 3))", "2 of them"),
    (lambda: ResizeConv2d(2, 2, 2.5), "kernel_size (=2.5)", "integer"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, True), "kernel_size (=True)", "integer"),
    (lambda: ResizeConv2d(2, 2, "3"), "kernel_size (='3')", "integer"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, 3, 0), "scale_factor (=0)", "positive"),
    (lambda: ResizeConv2d(2, 2, 3, (2, -1)), "scale_factor (=(2, -1))", "positive"),
    (lambda: ResizeConv2d(2, 2, 3, (2,)), "scale_factor (=(2,))", "2 of them"),
    (lambda: ResizeConv2d(2, 2, 3, math.inf), "scale_factor (=inf)", "positive"),
    (lambda: ResizeConv2d(2, 2, 3, math.nan), "scale_factor (=nan)", "positive"),
    (lambda: ResizeConv2d(2, 2, 3, "2"), "scale_factor (='2')", "positive"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, 3, dilation=0), "dilation (=0)", "at least 1"),
    (lambda: ResizeConv2d(2, 2, 3, padding=1.5), "padding (=1.5)", "integer"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, 3, padding=(1, 2, 3)), "padding (=(1, 2, 3))", "2 integers"),
    (lambda: ResizeConv2d(2, 2, 3, padding=((1, 2, 3), 1)), "padding (=((1, 2, 3), 1))", "pairs"),
    (lambda: ResizeConv2d(2, 2, 3, padding=((1, 0.5), 1)), "padding (=((1, 0.5), 1))", "pairs"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, 3, padding=(None, 1)), "padding (=(None, 1))", "pairs"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, 3, padding=(0.5, 1)), "padding (=(0.5, 1))", "pairs"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, 3, padding="same"), "padding (='same')", "integer"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, 3, padding_mode="edge"), "padding_mode (='edge')", "'replicate'"),
    (lambda: ResizeConv2d(2, 2, 3, padding_mode=None), "padding_mode (=None)", "'zeros'"),  # type: ignore[arg-type]
    (lambda: ResizeConv2d(2, 2, 3, mode="cubic"), "mode (='cubic')", "bicubic"),
    (lambda: ResizeConv2d(2, 2, 3, mode=None), "mode (=None)", "bilinear"),  # type: ignore[arg-type]
    (lambda: ResizeConv1d(2, 2, 3, mode="bilinear"), "mode (='bilinear')", "'linear'"),
    (lambda: ResizeConv3d(2, 2, 3, mode="bicubic"), "mode (='bicubic')", "3-D"),
    (lambda: ResizeConv2d(2, 2, 3, mode="fir:1,2"), "taps (=(1.0, 2.0))", "equal sum"),
    (lambda: ResizeConv2d(2, 2, 3, 3, mode="fir:1,3,3,1"), "taps (=(1.0, 3.0, 3.0, 1.0))", "equal sum"),
    (lambda: ResizeConv2d(2, 2, 3, mode="fir:1,x"), "mode (='fir:1,x')", "commas"),
    (lambda: ResizeConv2d(2, 2, 3, 1.5, mode="fir:1,3,3,1"), "scale_factor (=1.5)", "whole"),
    (lambda: ResizeConv2d(2, 2, 3, implementation="fast"), "implementation (='fast')", "'folded'"),
    (lambda: ResizeConv2d(2, 2, 3, 1.5, implementation="folded"), "implementation (='folded')", "whole"),
    (lambda: ResizeConv2d(2, 2, 3, groups=2, implementation="differences"), "(='differences')", "groups 1"),
    (lambda: ResizeConv2d(2, 2, 3, dilation=2, implementation="differences"), "(='differences')", "dilation 1"),
    (
        lambda: ResizeConv2d(2, 2, 3, mode="bilinear", padding_mode="circular", implementation="folded"),
        "implementation (='folded')", "circular",
    ),
    (lambda: ResizeConv2d(2, 2, 3)(torch.zeros(1, 3, 4, 4)), "shape (=(1, 3, 4, 4))", "(N, 2, "),
    (lambda: ResizeConv2d(2, 2, 3)(torch.zeros(3, 4, 4)), "shape", "in_channels"),
    (lambda: ResizeConv2d(2, 2, 3)(torch.zeros(4, 4)), "shape (=(4, 4))", "(N, 2, "),
    (lambda: ResizeConv2d(2, 2, 3)(torch.zeros(1, 1, 2, 4, 4)), "shape (=(1, 1, 2, 4, 4))", "(N, 2, "),
    (lambda: ResizeConv2d(2, 2, 7, padding=0)(torch.zeros(1, 2, 3, 4)), "input", "kernel_size"),
    (lambda: ResizeConv2d(2, 2, 3, padding=-4)(torch.zeros(1, 2, 3, 4)), "input", "padding"),
    (lambda: ResizeConv2d(2, 2, 9, padding_mode="reflect")(torch.zeros(1, 2, 2, 9)), "input", "padding"),
    (lambda: ResizeConv2d(2, 2, 13, padding_mode="circular")(torch.zeros(1, 2, 2, 9)), "input", "padding"),
    (lambda: ResizeConv2d(2, 2, 3)(torch.zeros(1, 2, 0, 4)), "input", "1"),
    (lambda: ResizeConv2d(2, 2, 3, 0.25)(torch.zeros(1, 2, 3, 4)), "input", "scale_factor"),
    (lambda: resize_conv(torch.zeros(2, 3), torch.zeros(3, 2, 3)), "x", "(N, C_in"),
    (lambda: resize_conv(torch.zeros(1, 2, 4, 4), torch.zeros(3, 2, 3)), "weight", "(C_out"),
    (lambda: resize_conv(torch.zeros(1, 2, 4), torch.zeros(3, 1, 3)), "weight", "(C_out"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments_are_named(number: int) -> None:
    """The value, what was expected, and, after a semicolon, what to do."""
    call, value, expected = WRONG[number]
    with pytest.raises(ParameterError) as caught:
        call()
    text = str(caught.value)
    assert value in text
    assert expected in text.replace(value, "", 1)
    assert re.search(r" must be .+; .+", text)


# ------------------------------------------------------------------------------------------------- every-day demands

DEMANDS = {
    "1d": (ResizeConv1d, {"kernel_size": 4, "scale_factor": 3, "padding": ((1, 2),), "bias": False}, (2, 2, 6)),
    "2d": (ResizeConv2d, {"kernel_size": 3}, (2, 2, 5, 6)),
    "2d-linear": (
        ResizeConv2d,
        {"kernel_size": (3, 2), "mode": "bilinear", "padding": ((1, 2), (1, 2)), "padding_mode": "replicate"},
        (2, 2, 4, 5),
    ),
    "2d-fir": (ResizeConv2d, {"kernel_size": 3, "mode": "fir:1,3,3,1", "padding_mode": "reflect"}, (2, 2, 4, 5)),
    "2d-dilated": (ResizeConv2d, {"kernel_size": 3, "dilation": (1, 2), "groups": 2}, (2, 2, 4, 5)),
    "2d-fraction": (ResizeConv2d, {"kernel_size": 3, "scale_factor": (2, 1.5)}, (2, 2, 4, 6)),
    "2d-circular": (ResizeConv2d, {"kernel_size": 3, "padding_mode": "circular"}, (2, 2, 4, 5)),
    "3d": (ResizeConv3d, {"kernel_size": (3, 2, 1), "scale_factor": (2, 1, 3), "padding": ((1, 1), (1, 0), 0)},
           (2, 2, 3, 4, 3)),
}  # fmt: skip


def demand(name: str, implementation: str = "auto", channels: int = 4) -> Case:
    make, options, shape = DEMANDS[name]
    more = {"other_shape": (3, 2, 5, 8)} if name == "2d-fraction" else {}
    return Case(partial(make, 2, channels, **options, implementation=implementation), shape, **more)


FAST = [
    *((name, way, 4) for name in ("1d", "2d", "2d-linear", "2d-fir", "3d") for way in WAYS),
    *((name, "folded", 10) for name in ("1d", "2d", "2d-fir")),  # another way inside from some channels on
    ("2d-dilated", "folded", 4),
    ("2d-fraction", "auto", 4),
    ("2d-circular", "folded", 4),
    ("2d", "auto", 4),
]  # fmt: skip
SLOW = [
    *((name, "auto", 4) for name in DEMANDS),
    *((name, way, 4) for name in ("2d", "1d") for way in ("folded", "differences")),
    ("2d-linear", "differences", 4),
    ("2d", "auto", 64),
]
ALWAYS = {("2d", "auto", 4), ("1d", "auto", 4), ("2d-linear", "auto", 4), ("2d-fir", "auto", 4)}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "implementation", "channels"), FAST)
def test_every_day(check: Callable[[Case], None], name: str, implementation: str, channels: int) -> None:
    check(demand(name, implementation, channels))


# Processes that work together are for full proofs, as most combinations are.
@pytest.mark.parametrize("check", SLOW_CHECKS if PROVE else SLOW_CHECKS[:-1], ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "implementation", "channels"), [c for c in SLOW if PROVE or c in ALWAYS])
def test_compiled_and_exported(check: Callable[[Case], None], name: str, implementation: str, channels: int) -> None:
    check(demand(name, implementation, channels))
