"""Anti-aliased layers against loops in numpy, and their gradients against what they claim."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

import evenly
from evenly.errors import ParameterError
from evenly.nn import antialias as aa

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MAX_POOL = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
UPSAMPLE = (aa.FIRUpsample1d, aa.FIRUpsample2d, aa.FIRUpsample3d)
BLUR = (aa.BlurPool1d, aa.BlurPool2d, aa.BlurPool3d)
ANTI_CONV = (aa.AntialiasedConv1d, aa.AntialiasedConv2d, aa.AntialiasedConv3d)
ANTI_MAX = (aa.AntialiasedMaxPool1d, aa.AntialiasedMaxPool2d, aa.AntialiasedMaxPool3d)
PADS = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
F64 = {"dtype": torch.float64}

# ------------------------------------------------------------------------------------------- naive implementations


def naive_line_upsample(line, taps, s, mode):
    """Zero insertion, then the filter, aligned as upfirdn2d: zeros put before and after the inserted signal."""
    m, far = len(taps), len(taps)
    longer = np.pad(line, (far, far), mode=PADS[mode])
    inserted = np.zeros(s * len(longer))
    inserted[::s] = longer
    h = np.array(taps) * (s / sum(taps))
    before = (m + s - 1) // 2
    out = []
    for n in range(s * len(line)):
        value = 0.0
        for j in range(m):  # a true convolution: the filter is flipped
            value += h[m - 1 - j] * inserted[s * far + n + j - before]
        out.append(value)
    return np.array(out)


def naive_line_decimate(line, taps, s, mode):
    m = len(taps)
    h = np.array(taps) / sum(taps)
    before = (m - s + 1) // 2
    longer = np.pad(line, (before, m), mode=PADS[mode])
    return np.array([sum(h[t] * longer[s * i + t] for t in range(m)) for i in range(-(-len(line) // s))])


def along_axes(x, rows, strides, mode, line):
    out = x.numpy()
    for axis, (taps, s) in enumerate(zip(rows, strides, strict=True), start=2):
        if s > 1:
            out = np.apply_along_axis(line, axis, out, taps, s, mode)
    return torch.from_numpy(np.ascontiguousarray(out))


FILTERS = {
    2: [(1, 1), (1, 3, 3, 1), (1, 2, 1), (1, 4, 6, 4, 1), (3, 1, 1, 3), (2, 5, 3)],
    3: [(1, 1, 1), (1, 2, 3, 2, 1)],
}
MODES = st.sampled_from(["zeros", "reflect", "replicate"])


@st.composite
def resampled(draw):
    dims = draw(st.integers(1, 3))
    strides = tuple(draw(st.lists(st.integers(1, 3), min_size=dims, max_size=dims)))
    rows = tuple(draw(st.sampled_from(FILTERS[s])) if s > 1 else (1.0,) for s in strides)
    sizes = draw(st.lists(st.integers(6, 9), min_size=dims, max_size=dims))
    x = torch.from_numpy(np.random.default_rng(draw(st.integers(0, 99))).normal(size=(2, 2, *sizes)))
    return dims, strides, rows, x


@settings(max_examples=40, deadline=None)
@given(resampled(), MODES)
def test_fir_upsample_is_zero_insertion_and_a_filter(case, mode):
    dims, strides, rows, x = case
    made = UPSAMPLE[dims - 1](strides, rows, mode, **F64)(x)
    torch.testing.assert_close(made, along_axes(x, rows, strides, mode, naive_line_upsample), rtol=0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(resampled(), MODES)
def test_blur_pool_is_a_filter_and_a_decimation(case, mode):
    dims, strides, rows, x = case
    made = BLUR[dims - 1](None, rows, strides, mode, **F64)(x)
    torch.testing.assert_close(made, along_axes(x, rows, strides, mode, naive_line_decimate), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dims", "mode"), [(1, "linear"), (2, "bilinear"), (3, "trilinear")])
def test_default_up_sampling_is_linear_interpolation(dims, mode):
    x = torch.randn(2, 3, *(5, 4, 6)[:dims], **F64)
    made = UPSAMPLE[dims - 1](**F64)(x)
    torch.testing.assert_close(made, F.interpolate(x, scale_factor=2, mode=mode), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("s", "taps"), [(2, (1, 3, 3, 1)), (2, (1, 3, 2, 1, 3, 2)), (3, (1, 2, 3, 2, 1)), (4, "even")])
def test_up_sampling_and_decimation_are_adjoint(dims, s, taps):
    taps = aa.even_taps(s) if taps == "even" else taps
    up = UPSAMPLE[dims - 1](s, taps, "zeros", **F64)
    down = BLUR[dims - 1](None, taps, s, "zeros", **F64)
    x = torch.randn(1, 2, *(4, 3, 5)[:dims], **F64)
    y = torch.randn_like(up(x))
    torch.testing.assert_close((up(x) * y).sum(), s**dims * (x * down(y)).sum(), rtol=0, atol=1e-10)


# ------------------------------------------------------------------------------------------------------ the theory


@pytest.mark.parametrize("stride", [2, 3, 4, 5])
@pytest.mark.parametrize("reach", range(9))
def test_even_taps_are_even_at_every_lag_up_to_their_reach(stride, reach):
    taps = np.array(aa.even_taps(stride, reach))
    assert taps.min() > 0
    np.testing.assert_allclose(taps, taps[::-1], atol=1e-14)
    np.testing.assert_allclose([taps[r::stride].sum() for r in range(stride)], 1 / stride, atol=1e-14)
    whole = 2 * max(1, math.ceil(reach / 2))
    assert len(taps) == (whole + 1) * stride - whole
    for lag in range(whole + 2):
        products = taps[: len(taps) - lag] * taps[lag:]
        spread = np.ptp([products[r::stride].sum() for r in range(stride)]) / (taps @ taps)
        assert (spread < 1e-14) == (lag <= whole)


def test_even_taps_at_stride_two_have_their_zeros_on_the_unit_circle_in_the_stop_band():
    np.testing.assert_allclose(aa.even_taps(2, 2), np.array([1, 2, 2, 1]) / 6, atol=1e-15)
    g = (1 + 5**0.5) / 2
    np.testing.assert_allclose(
        np.array(aa.even_taps(2, 4)) / aa.even_taps(2, 4)[0], [1, 2 * g, 2 * g**2, 2 * g**2, 2 * g, 1]
    )
    for reach in (2, 4, 6):
        roots = np.roots(aa.even_taps(2, reach))
        np.testing.assert_allclose(roots ** (2 * (reach + 1)), 1, atol=1e-9)
        assert (roots.real < 0).all()


def test_even_taps_pass_low_frequencies_best():
    for stride, reach in itertools.product((2, 3, 4), (0, 2, 4)):
        taps = aa.even_taps(stride, reach)
        response = np.abs(np.fft.rfft(taps, 512))
        assert response[0] == pytest.approx(1)
        assert response[256 // stride :].max() < 0.36  # from the new Nyquist frequency up: [1, 3, 3, 1] has 0.354 there


def jacobian(layer, size, channels, dims, seed=0):
    """``(outputs, C, *size)`` in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, *(size,) * dims, generator=generator, **F64)
    made = torch.autograd.functional.jacobian(layer, x, vectorize=True)
    return made.reshape(-1, *x.shape[1:])


def interior(field, margin, period):
    """The middle of a field, cut to whole periods."""
    for axis in range(field.dim()):
        length = (field.shape[axis] - 2 * margin) // period * period
        field = field.narrow(axis, margin, length)
    return field


def unevenness(layer, *, dims, size, channels=2, margin=12, period=2):
    """Relative spread of the mean gradient of generic channel weights, and of the squared gradient."""
    rows = jacobian(layer, size, channels, dims)
    outputs = layer(torch.zeros(1, channels, *(size,) * dims, **F64)).shape[1:]
    colours = torch.randn(outputs[0], generator=torch.Generator().manual_seed(5), **F64)
    mean = torch.einsum("o...,o->...", rows.reshape(outputs[0], -1, *rows.shape[1:]).sum(1), colours)[0]
    squared = rows.square().sum((0, 1))
    return tuple(
        float((f.max() - f.min()) / f.abs().max())
        for f in (interior(mean, margin, period), interior(squared, margin, period))
    )


EVEN_SQUARES = [(None, 2), ("even", 2), ((1, 1), 2), ((1, 3, 4, 3, 1), 2), (None, 3), (None, 4)]
UNEVEN_SQUARES = [((1, 2, 1), 2), ((1, 4, 6, 4, 1), 2), ((1, 2, 3, 2, 1), 3)]


@pytest.mark.parametrize(
    ("taps", "stride", "squared"), [(*c, True) for c in EVEN_SQUARES] + [(*c, False) for c in UNEVEN_SQUARES]
)
@pytest.mark.parametrize("dims", [1, 2])
def test_blur_pool_meets_exactly_the_conditions_that_it_states(dims, taps, stride, squared):
    layer = BLUR[dims - 1](None, taps, stride, **F64)
    assert layer.conditions == aa.Conditions("always", "always" if squared else "no")
    mean, power = unevenness(layer, dims=dims, size=24 + 3 * stride, channels=1, margin=9, period=stride)
    assert mean < 1e-12
    assert (power < 1e-12) == squared


def test_squared_gradient_of_binomial_filters_is_as_the_theory_says():
    squared = jacobian(aa.BlurPool2d(None, (1, 2, 1), **F64), 16, 1, 2).square().sum((0, 1))[4:12, 4:12]
    assert float(squared.max() / squared.min()) == pytest.approx(4)
    squared = jacobian(aa.BlurPool2d(None, (1, 4, 6, 4, 1), **F64), 20, 1, 2).square().sum((0, 1))[6:14, 6:14]
    assert float(squared.max() / squared.min()) == pytest.approx((38 / 32) ** 2)


@pytest.mark.parametrize("implementation", ["blur_first", "folded", "conv_first"])
@pytest.mark.parametrize(
    ("kernel", "dilation", "stride"), [(3, 1, 2), (2, 1, 2), (5, 1, 2), (3, 2, 2), (3, 1, 3), (4, 1, 4)]
)
def test_conv_with_even_taps_has_an_even_gradient_for_any_weights(kernel, dilation, stride, implementation):
    torch.manual_seed(kernel)
    layer = aa.AntialiasedConv1d(
        2, 3, kernel, stride, dilation=dilation, taps="even", implementation=implementation, **F64
    )
    assert layer.conditions == aa.Conditions("always", "always")
    margin = max(map(len, layer.taps)) + dilation * kernel
    mean, power = unevenness(layer, dims=1, size=2 * margin + 6 * stride, margin=margin, period=stride)
    assert mean < 1e-12
    assert power < 1e-12


def test_conv_in_two_dimensions_is_even_for_any_weights_and_stays_so_in_training():
    torch.manual_seed(1)
    layer = aa.AntialiasedConv2d(2, 3, 3, 2, 1, taps="even", **F64)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(6):
        mean, power = unevenness(layer, dims=2, size=20, margin=6)
        assert mean < 1e-12
        assert power < 1e-12
        before = layer.weight.detach().clone()
        optimizer.zero_grad()
        (layer(torch.randn(2, 2, 12, 12, **F64)) - 1).square().mean().backward()
        optimizer.step()
        assert not torch.equal(before, layer.weight)


def test_conv_with_default_taps_is_even_for_any_weights_in_the_mean_and_over_weights_in_the_square():
    layer = aa.AntialiasedConv2d(2, 3, 3, 2, 1, **F64)
    assert layer.conditions == aa.Conditions("always", "on average", "independent zero-mean weights")
    mean, power = unevenness(layer, dims=2, size=16, margin=6)
    assert mean < 1e-12
    assert power > 1e-3  # one draw of the weights
    total = torch.zeros(16, 16, **F64)
    for tap in itertools.product(range(3), repeat=2):  # independent weights: the squares of single taps add
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[0, 0][tap] = 1
        total += jacobian(layer, 16, 2, 2).square().sum((0, 1))
    middle = interior(total, 6, 2)
    assert float((middle.max() - middle.min()) / middle.max()) < 1e-12


def test_the_worst_weights_for_the_default_taps():
    layer = aa.AntialiasedConv1d(1, 1, 2, 2, bias=False, **F64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, -1.0]]]))
    squared = interior(jacobian(layer, 24, 1, 1).square().sum((0, 1)), 8, 2)
    assert float(squared.max() / squared.min()) == pytest.approx(4)  # [1, 2, 0, -2, -1]: 2 against 8


def test_no_finite_filter_is_even_at_every_lag():
    for stride, reach in itertools.product((2, 3), (2, 4)):
        taps = aa.even_taps(stride, reach)
        layer = aa.AntialiasedConv1d(1, 1, len(taps), stride, taps=taps)
        assert layer.conditions.squared == "on average"


@pytest.mark.parametrize(("kernel", "taps"), [(2, None), (2, "even"), (3, None), (3, "even"), (4, "even")])
def test_max_pool_conditions_over_independent_inputs(kernel, taps):
    layer = aa.AntialiasedMaxPool1d(kernel, 2, taps=taps, **F64)
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(4000, 1, 64, generator=generator, **F64).requires_grad_()
    y = layer(x)
    (mean,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (squared,) = torch.autograd.grad(y, x, torch.randn(y.shape, generator=generator, **F64))
    mean, squared = mean[:, 0, 10:50], squared[:, 0, 10:50].square()

    def gap(field):  # between the two phases: the difference over the mean, and its standard error
        difference = field[:, ::2].mean(1) - field[:, 1::2].mean(1)
        return abs(float(difference.mean() / field.mean())), float(difference.std() / 4000**0.5 / field.mean())

    size, error = gap(mean)
    assert size < 4 * error
    size, error = gap(squared)
    assert layer.conditions.mean == "on average"
    assert layer.conditions.squared == ("on average" if taps == "even" else "no")
    # independent inputs are mirror-symmetric, so that a window of 3 is even with the default taps too
    assert (size < 4 * error) == (taps == "even" or kernel == 3)
    if taps is None and kernel == 2:
        assert size == pytest.approx(2 * (16 - 14) / (16 + 14), abs=4 * error)


def test_plain_layers_are_uneven_by_the_same_measure():
    mean, power = unevenness(nn.Conv2d(2, 3, 3, 2, 1, **F64), dims=2, size=20, margin=6)
    assert mean > 0.5
    assert power > 0.5


# -------------------------------------------------------------------------------------------------- the convolution


@st.composite
def convolutions(draw):
    dims = draw(st.integers(1, 3))

    def axes(low, high):
        return tuple(draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims)))

    groups = draw(st.integers(1, 2))
    return dims, {
        "in_channels": 2 * groups,
        "out_channels": groups,
        "kernel_size": axes(1, 3),
        "stride": axes(1, 3),
        "padding": axes(0, 2),
        "dilation": axes(1, 2),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(MODES),
        "taps": draw(st.sampled_from([None, "even"])),
    }


@settings(max_examples=40, deadline=None)
@given(convolutions(), st.integers(0, 99))
def test_every_implementation_is_convolution_then_filter(case, seed):
    dims, arguments = case
    torch.manual_seed(seed)
    layer = ANTI_CONV[dims - 1](**arguments, **F64)
    x = torch.randn(2, arguments["in_channels"], *torch.randint(9, 13, (dims,)).tolist(), **F64)
    # the composition in the documentation: extend once, convolve, filter without padding, decimate
    y = x.numpy()
    for axis, (taps, s, p) in enumerate(zip(layer.taps, layer.stride, layer.padding, strict=True), start=2):
        low = max(0, (len(taps) - s + 1) // 2)
        width = [(0, 0)] * y.ndim
        width[axis] = (p + low, p + len(taps) - 1 - low)
        y = np.pad(y, width, mode=PADS[layer.padding_mode])
    plain = CONV[dims - 1](
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        1,
        0,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
    ).double()
    plain.load_state_dict(layer.state_dict())
    wanted = plain(torch.from_numpy(y)).detach().numpy()
    for axis, (taps, s) in enumerate(zip(layer.taps, layer.stride, strict=True), start=2):
        wanted = np.apply_along_axis(
            lambda line, h, s: np.convolve(line, h[::-1], mode="valid")[::s], axis, wanted, taps, s
        )
    for implementation in ("auto", "blur_first", "folded", "conv_first"):
        layer.implementation = implementation
        torch.testing.assert_close(layer(x), torch.from_numpy(wanted), rtol=0, atol=1e-10)
    strided = CONV[dims - 1](**{k: v for k, v in arguments.items() if k != "taps"}).double()
    assert layer(x).shape == strided(x).shape
    strided.load_state_dict(layer.state_dict())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(7, 12), st.data())
def test_max_pool_is_a_drop_in(dims, kernel, stride, dilation, size, data):
    padding = data.draw(st.integers(0, kernel // 2))
    if size + 2 * padding < dilation * (kernel - 1) + 4:
        return
    layer = ANTI_MAX[dims - 1](kernel, stride, padding, dilation, padding_mode="replicate", **F64)
    x = torch.randn(2, 2, *(size,) * dims, **F64)
    assert layer(x).shape == MAX_POOL[dims - 1](kernel, stride, padding, dilation)(x).shape
    dense = MAX_POOL[dims - 1](kernel, 1, padding, dilation)(x)
    wanted = along_axes(dense, layer.taps, layer.stride, "replicate", naive_line_decimate)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", [*UPSAMPLE, *BLUR, *ANTI_MAX])
@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_a_constant_stays_a_constant(make, mode):
    layer = make(3, padding_mode=mode) if make in ANTI_MAX else make(padding_mode=mode)
    x = torch.full((1, 3, *(9, 8, 7)[: make.dims]), 0.7)
    assert float((layer(x) - 0.7).abs().max()) < 1e-6


# -------------------------------------------------------------------------------- what every layer has to live through

LAYERS = [
    *((make, {}) for make in (*UPSAMPLE, *BLUR)),
    *((make, {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "padding": 1}) for make in ANTI_CONV),
    *((make, {"kernel_size": 2}) for make in ANTI_MAX),
    (aa.AntialiasedConv2d, {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "implementation": "folded"}),
    (aa.AntialiasedConv2d, {"in_channels": 2, "out_channels": 4, "kernel_size": 1, "implementation": "conv_first"}),
    (aa.BlurPool2d, {"taps": "even", "stride": (1, 3), "channels": 2}),
    (aa.FIRUpsample2d, {"scale_factor": (1, 3), "taps": (1, 2, 3, 2, 1), "padding_mode": "zeros"}),
]
NAMES = [f"{make.__name__}-{'-'.join(map(str, arguments.values()))}" for make, arguments in LAYERS]


@pytest.fixture(params=LAYERS, ids=NAMES)
def case(request):
    torch.manual_seed(0)
    make, arguments = request.param
    layer = make(**arguments)
    layer.arguments = arguments
    return layer, torch.randn(2, 2, *(8, 7, 6)[: make.dims])


def remade(layer, **more):
    return type(layer)(**layer.arguments, **more)


def test_gradients_twice(case):
    layer, _ = case
    layer = remade(layer, **F64)
    x = torch.randn(1, 2, *(5, 6, 4)[: layer.dims], **F64).requires_grad_()
    fast = layer.dims == 3
    assert torch.autograd.gradcheck(layer, x, fast_mode=fast)
    assert torch.autograd.gradgradcheck(layer, x, fast_mode=fast)


def test_compiles_in_one_piece(case):
    layer, x = case
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    smaller = x[..., :-1]
    torch.testing.assert_close(compiled(smaller), layer(smaller))


def test_export_with_dynamic_sizes(case):
    layer, x = case
    sizes = {0: torch.export.Dim.AUTO, **dict.fromkeys(range(2, x.dim()), torch.export.Dim.AUTO)}
    program = torch.export.export(layer, (x,), dynamic_shapes=(sizes,))
    other = torch.randn(3, 2, *(11, 10, 9)[: layer.dims])
    torch.testing.assert_close(program.module()(other), layer(other))


@pytest.mark.slow
def test_onnx_with_dynamic_sizes(case, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    layer, x = case
    sizes = {0: torch.export.Dim.DYNAMIC, **dict.fromkeys(range(2, x.dim()), torch.export.Dim.DYNAMIC)}
    path = tmp_path / "layer.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(layer.eval(), (x,), path, dynamo=True, dynamic_shapes=(sizes,), verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in ((8, 7, 6), (11, 10, 9)):
        other = torch.randn(3, 2, *size[: layer.dims])
        (made,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
        torch.testing.assert_close(torch.from_numpy(made), layer(other).detach(), rtol=1e-4, atol=1e-5)


def test_copies_pickles_and_state(case):
    layer, x = case
    wanted = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), wanted)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), wanted)
    assert set(layer.state_dict()) == ({"weight", "bias"} if hasattr(layer, "weight") else set())
    other = copy.deepcopy(layer)
    if hasattr(layer, "weight"):
        other.reset_parameters()
        assert not torch.equal(other(x), wanted)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), wanted)


def test_made_on_meta_and_filled_later(case):
    layer, x = case
    late = remade(layer, device="meta").to_empty(device="cpu")
    late.reset_parameters()
    late.load_state_dict(layer.state_dict())
    torch.testing.assert_close(late(x), layer(x))


def test_empty_batch(case):
    layer, x = case
    made = layer(x[:0])
    assert made.shape == (0, *layer(x).shape[1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(case, dtype):
    layer, x = case
    wanted = layer(x)
    with torch.autocast("cpu", dtype):
        made = layer(x.requires_grad_())
    made.float().sum().backward()
    torch.testing.assert_close(made.float(), wanted, rtol=0.05, atol=0.05)
    if not hasattr(layer, "weight"):
        assert layer(x.detach().to(dtype)).dtype == dtype  # without autocast and without converting the layer


def test_keeps_channels_last(case):
    layer, x = case
    if x.dim() == 3:
        return
    memory_format = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    made = layer.to(memory_format=memory_format)(x.contiguous(memory_format=memory_format))
    torch.testing.assert_close(made, layer(x.contiguous()))
    assert made.is_contiguous(memory_format=memory_format)


def test_extra_repr_states_the_conditions():
    text = repr(aa.AntialiasedConv2d(3, 8, 3, padding=1))
    assert "3, 8, kernel_size=3, stride=2, padding=1, taps=(0.125, 0.375, 0.375, 0.125)" in text
    assert "squared gradient even: on average over independent zero-mean weights" in text
    assert "squared gradient even: no" in repr(aa.BlurPool1d(taps=(1, 2, 1)))
    assert "stride=(1, 3)" in repr(aa.BlurPool2d(stride=(1, 3)))
    assert "kernel_size=3, padding=1" in repr(aa.AntialiasedMaxPool3d(3, padding=1))
    assert "scale_factor=2, taps=(0.25, 0.75, 0.75, 0.25)" in repr(aa.FIRUpsample1d())


def test_documentation_of_public_classes_is_whole():
    for make in (*UPSAMPLE, *BLUR, *ANTI_CONV, *ANTI_MAX):
        assert "Args:" in make.__doc__
        assert "Shapes:" in make.__doc__


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (aa.FIRUpsample1d, {"taps": (1, 2, 2)}, "equal sum"),
        (aa.FIRUpsample1d, {"scale_factor": 3}, "equal sum"),
        (aa.FIRUpsample2d, {"scale_factor": 0}, "scale_factor"),
        (aa.FIRUpsample2d, {"padding_mode": "mirror"}, "padding_mode"),
        (aa.BlurPool1d, {"taps": (1, 4, 1)}, "2 phases of stride 2 .they are 0.3333, 0.6667"),
        (aa.BlurPool1d, {"taps": (1,)}, "equal sum"),
        (aa.BlurPool1d, {"taps": (1, -1)}, "not zero"),
        (aa.BlurPool1d, {"taps": ()}, "taps"),
        (aa.BlurPool1d, {"taps": "odd"}, "'even'"),
        (aa.BlurPool1d, {"taps": (1, float("nan"))}, "finite"),
        (aa.BlurPool2d, {"taps": ((1, 1),)}, "2 sequences"),
        (aa.BlurPool2d, {"taps": ((1, 1), ())}, "at least one tap"),
        (aa.BlurPool2d, {"stride": (2, 2, 2)}, "stride"),
        (aa.BlurPool2d, {"channels": 0}, "channels"),
        (aa.AntialiasedConv2d, {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "groups": 2}, "groups"),
        (aa.AntialiasedConv2d, {"in_channels": 3, "out_channels": 4, "kernel_size": 0}, "kernel_size"),
        (aa.AntialiasedConv2d, {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "padding": -1}, "padding"),
        (aa.AntialiasedConv1d, {"in_channels": 1, "out_channels": 1, "kernel_size": 1, "implementation": ""}, "folded"),
        (aa.AntialiasedMaxPool2d, {"kernel_size": 2, "padding": 2}, "half the window"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, arguments, words):
    with pytest.raises(ParameterError, match=words):
        make(**arguments)


def test_wrong_inputs():
    with pytest.raises(ParameterError, match="2 spatial axes"):
        aa.BlurPool2d()(torch.zeros(3, 8))
    with pytest.raises(ParameterError, match=r"\(N, 4, "):
        aa.BlurPool1d(4)(torch.zeros(1, 3, 8))
    with pytest.raises(ParameterError, match=r"\(N, 3, "):
        aa.AntialiasedConv1d(3, 4, 3)(torch.zeros(1, 2, 8))
    with pytest.raises(
        ParameterError, match=r"axis 3 \(=2\) must be at least 3 .* 4 taps; use padding_mode='replicate'"
    ):
        aa.BlurPool2d()(torch.zeros(1, 3, 8, 2))
    assert aa.BlurPool2d(padding_mode="replicate")(torch.zeros(1, 3, 1, 1)).shape == (1, 3, 1, 1)
    with pytest.raises(ParameterError, match="stride"):
        aa.even_taps(0)
    with pytest.raises(ParameterError, match="reach"):
        aa.even_taps(2, -1)


# ------------------------------------------------------------------------------------------------ evenly reads them


@pytest.mark.parametrize("implementation", ["blur_first", "folded", "conv_first"])
@pytest.mark.parametrize(("taps", "stride"), [("even", 2), ("even", 3), (None, 2)])
def test_a_classifier_of_these_layers_is_even(implementation, taps, stride):
    model = nn.Sequential(
        aa.AntialiasedConv2d(3, 8, 3, stride, 1, implementation=implementation, taps=taps),
        nn.ReLU(),
        aa.AntialiasedMaxPool2d(2, 2, taps=taps),
        aa.AntialiasedConv2d(8, 16, 3, 2, 1, implementation=implementation, taps=taps),
        nn.ReLU(),
        nn.Conv2d(16, 4, 1),
    )
    report = evenly.check(model.eval(), torch.randn(1, 3, 48, 48))
    assert {f.severity for f in report.findings} <= {"info"}
    (made,) = report.inputs
    assert made.dead_fraction == 0
    # the default taps after a maximum leave some: the analysis finds what the layer's conditions do not claim
    assert made.gradient_unevenness == pytest.approx(1, abs=1e-9 if taps == "even" else 0.06)
    if implementation != "folded":  # the folded kernel is a product of weights: not known to be even for all of them
        assert made.gradient_period == 1


def test_the_plain_classifier_is_not():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1))
    report = evenly.check(model.eval(), torch.randn(1, 3, 48, 48))
    assert {"EV201", "EV203"} <= {f.code for f in report.findings if f.severity == "warning"}
    assert report.inputs[0].gradient_unevenness > 4


def test_a_generator_that_up_samples_by_fir_is_certified():
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, padding_mode="replicate"),
        aa.FIRUpsample2d(),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="replicate"),
        nn.ReLU(),
        aa.FIRUpsample2d(3, (1, 2, 3, 2, 1)),
        nn.Conv2d(8, 3, 3, padding=1, padding_mode="replicate"),
    )
    report = evenly.check(model.eval(), torch.randn(1, 4, 8, 8))
    assert {f.severity for f in report.findings} <= {"info"}
    assert all(out.certified for out in report.outputs)


@pytest.mark.parametrize("layer", [aa.BlurPool2d(), aa.AntialiasedMaxPool2d(3), aa.FIRUpsample2d()], ids=str)
def test_the_filter_goes_where_the_input_lies(layer):
    assert layer.filter.device.type == "cpu"
    assert layer(torch.zeros(1, 2, 8, 8, device="meta")).device.type == "meta"
    assert layer(torch.zeros(1, 2, 8, 8, dtype=torch.float64)).dtype == torch.float64
