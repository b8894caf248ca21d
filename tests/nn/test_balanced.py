"""Balanced transposed convolutions: the DC condition at random weights and in training, and what all layers must do."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from itertools import product
from math import gcd, prod

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

import evenly
from evenly.errors import ParameterError
from evenly.nn.balanced import BalancedConvTranspose1d, BalancedConvTranspose2d, BalancedConvTranspose3d
from evenly.nn.subpixel import SubpixelConv1d, SubpixelConv2d
from evenly.nn.utils import balance, is_balanced, remove
from evenly.theory.phases import dc_gains, ripple, subpixel_gains

SEED = st.integers(0, 2**31 - 1)
BALANCED = {1: BalancedConvTranspose1d, 2: BalancedConvTranspose2d, 3: BalancedConvTranspose3d}
PLAIN = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@st.composite
def arguments(draw: st.DrawFn, axes: int, orders: int = 2) -> dict:
    """Constructor arguments for which balanced kernels exist."""
    most = {1: 8, 2: 5, 3: 3}[axes]
    order = draw(st.integers(1, orders))
    s = tuple(draw(st.integers(1, (most - 1) // order + 1)) for _ in range(axes))
    k = tuple(draw(st.integers(order * (v - 1) + 1, most)) for v in s)
    d = tuple(draw(st.sampled_from([e for e in (1, 2, 3) if gcd(e, v) == 1])) for v in s)
    p = tuple(draw(st.integers(0, e * (n - 1))) for n, e in zip(k, d, strict=True))
    a = tuple(draw(st.integers(0, max(v, e) - 1)) for v, e in zip(s, d, strict=True))
    groups = draw(st.sampled_from([1, 2]))
    return {
        "in_channels": 2 * groups, "out_channels": 3 * groups, "kernel_size": k, "stride": s, "padding": p,
        "output_padding": a, "dilation": d, "groups": groups, "bias": draw(st.booleans()), "order": order,
    }  # fmt: skip


def unbalance(layer: nn.Module) -> None:
    """Any value at all in the free parameter, not a projected one."""
    with torch.no_grad():
        for entry in layer.parametrizations.values():
            entry.original.normal_()


def interior(y: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """The outputs that borders do not touch."""
    for axis, (k, s, d) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), start=2):
        reach = d * (k - 1) + s + layer.output_padding[axis - 2]
        y = y.narrow(axis, reach, max(y.shape[axis] - 2 * reach, 0))
    return y


def sizes(layer: nn.Module, room: int = 3) -> list[int]:
    out = []
    for k, s, d, p, a in zip(
        layer.kernel_size, layer.stride, layer.dilation, layer.padding, layer.output_padding, strict=True
    ):
        out.append((2 * (d * (k - 1) + s + a) + 2 * p) // s + room)
    return out


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_constants_stay_constant_at_random_weights(axes: int, data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    layer = BALANCED[axes](**data.draw(arguments(axes)), dtype=torch.float64)
    unbalance(layer)
    colour = torch.randn(2, layer.in_channels, *(1,) * axes, dtype=torch.float64)
    y = interior(layer(colour.expand(2, -1, *sizes(layer))), layer)
    assert y.numel()
    flat = y.flatten(2)
    assert float((flat - flat[..., :1]).detach().abs().max()) < 1e-10
    assert float(layer.weight.detach().abs().max()) > 1e-3  # and not by being zero
    assert ripple(dc_gains(layer.weight.detach().numpy(), layer.stride, layer.dilation)) < 1e-10


@given(data=st.data(), seed=SEED)
def test_order_two_keeps_ramps_straight(data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    given_arguments = data.draw(arguments(1)) | {"kernel_size": 7, "stride": 3, "dilation": 1, "padding": 2}
    layer = BalancedConvTranspose1d(**given_arguments | {"order": 2, "output_padding": 0}, dtype=torch.float64)
    unbalance(layer)
    ramp = torch.arange(12, dtype=torch.float64).expand(1, layer.in_channels, 12)
    y = interior(layer(ramp), layer)
    assert float(y.detach().diff(n=2).abs().max()) < 1e-10
    first = BalancedConvTranspose1d(**given_arguments | {"order": 1, "output_padding": 0}, dtype=torch.float64)
    unbalance(first)
    assert float(interior(first(ramp), first).detach().diff(n=2).abs().max()) > 1e-6


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_the_weight_is_the_nearest_balanced_one(axes: int, data: st.DataObject, seed: int) -> None:
    """Against least squares under the conditions written out phase by phase, and against the plain layer."""
    torch.manual_seed(seed)
    drawn = data.draw(arguments(axes, orders=1))
    plain = PLAIN[axes](**{name: v for name, v in drawn.items() if name != "order"}, dtype=torch.float64)
    layer = balance(copy.deepcopy(plain))
    assert type(layer).__mro__[1] is BALANCED[axes]
    rows = []
    for phase in product(*[range(s) for s in layer.stride]):
        member = np.zeros(layer.kernel_size)
        for tap in np.ndindex(*layer.kernel_size):
            places = zip(tap, layer.dilation, layer.stride, phase, strict=True)
            member[tap] = all(d * t % s == r for t, d, s, r in places)
        rows.append(member.ravel())
    conditions = np.array(rows) - np.mean(rows, 0)
    wanted = plain.weight.detach().flatten(2).numpy()
    wanted = wanted - wanted @ np.linalg.pinv(conditions, rcond=1e-10) @ conditions
    np.testing.assert_allclose(layer.weight.detach().flatten(2).numpy(), wanted, atol=1e-10)
    x = torch.randn(2, layer.in_channels, *sizes(layer), dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
    torch.testing.assert_close(layer(x), plain(x), atol=1e-10, rtol=0)


CASES = {
    "1d": lambda **kw: BalancedConvTranspose1d(2, 3, 7, 3, 2, 1, order=2, **kw),
    "2d": lambda **kw: BalancedConvTranspose2d(2, 4, (3, 4), 2, 1, 1, groups=2, **kw),
    "2d-dilated": lambda **kw: BalancedConvTranspose2d(2, 2, 4, 3, dilation=2, bias=False, **kw),
    "3d": lambda **kw: BalancedConvTranspose3d(2, 2, 4, (1, 2, 2), 1, **kw),
    "many-taps": lambda **kw: BalancedConvTranspose2d(2, 2, 9, 2, 4, 1, **kw),
    "stride-1": lambda **kw: BalancedConvTranspose1d(2, 2, 3, **kw),
    "subpixel": lambda **kw: SubpixelConv2d(2, 2, 3, 2, balanced=True, **kw),
    "subpixel-1d": lambda **kw: SubpixelConv1d(2, 2, 5, 4, balanced=True, padding_mode="reflect", **kw),
}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layer = CASES[request.param]()
    return layer, torch.randn(2, 2, *[7, 6, 5][: layer.dims])


def gains(layer: nn.Module) -> np.ndarray:
    weight = layer.weight.detach().double().numpy()
    if isinstance(layer, SubpixelConv1d | SubpixelConv2d):
        return subpixel_gains(weight, layer.scale_factor, layer.groups)
    return dc_gains(weight, layer.stride, layer.dilation)


def test_balance_survives_training(case) -> None:
    layer, x = case
    before = layer.weight.detach().clone()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        y = layer(x)
        (y - torch.rand_like(y)).square().mean().backward()
        optimizer.step()
    assert not torch.allclose(layer.weight, before, atol=1e-2)
    assert ripple(gains(layer)) < 1e-5
    assert layer(x[:0]).shape == (0, *layer(x).shape[1:])


@pytest.mark.parametrize("name", CASES)
def test_differentiable_twice(name: str) -> None:
    torch.manual_seed(1)
    layer = CASES[name](dtype=torch.float64)
    if name == "many-taps":
        layer = BalancedConvTranspose1d(1, 1, 33, 2, dtype=torch.float64)
    x = torch.randn(1, layer.in_channels, *[3, 2, 2][: layer.dims], dtype=torch.float64, requires_grad=True)
    if name == "subpixel-1d":
        x = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    original = layer.parametrizations.weight.original.detach().clone().requires_grad_()

    def run(x: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"parametrizations.weight.original": original}, (x,)).square()

    assert torch.autograd.gradcheck(run, (x, original), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, original), fast_mode=True)


def test_compiles_without_breaks(case) -> None:
    layer, x = case
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert compiled(x).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_round_the_projection(case, dtype: torch.dtype) -> None:
    layer, x = case
    with torch.autocast("cpu", dtype):
        y = layer(x)
        assert y.dtype == dtype
        assert ripple(gains(layer)) < 1e-5
    y.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_half_precision_and_back(case) -> None:
    """The constant projection does not stay rounded after a trip through bfloat16."""
    layer, x = case
    layer.bfloat16()
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.bfloat16
    layer.double()
    assert layer.weight.dtype == torch.float64
    assert ripple(gains(layer)) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_made_on_meta_and_filled_later(name: str) -> None:
    layer = CASES[name](device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    assert all(p.isfinite().all() for p in layer.parameters())
    assert ripple(gains(layer)) < 1e-5


def test_export_with_dynamic_sizes(case) -> None:
    layer, x = case
    auto = dict.fromkeys([0, *range(2, x.dim())], torch.export.Dim.AUTO)
    program = torch.export.export(layer, (x,), dynamic_shapes=(auto,))
    other = torch.randn(3, 2, *[9, 8, 7][: layer.dims])
    torch.testing.assert_close(program.module()(other), layer(other))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1d", "2d", "3d", "subpixel", "subpixel-1d"])
def test_onnx_is_one_operator(name: str, tmp_path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    layer = CASES[name]()
    x = torch.randn(2, 2, *[7, 6, 5][: layer.dims])
    dynamic = dict.fromkeys([0, *range(2, x.dim())], torch.export.Dim.DYNAMIC)
    for module in (layer, remove(copy.deepcopy(layer))):
        path = tmp_path / "layer.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module.eval(), (x,), str(path), dynamo=True, dynamic_shapes=(dynamic,), verbose=False)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        other = torch.randn(3, 2, *[9, 8, 7][: layer.dims])
        (made,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
        torch.testing.assert_close(torch.from_numpy(made), layer(other).detach(), rtol=1e-4, atol=1e-5)
        operators = {node.op_type for node in onnx.load(path).graph.node}
        assert ("Conv" if "subpixel" in name else "ConvTranspose") in operators
        if name in ("1d", "2d", "3d"):
            assert operators == {"ConvTranspose"}  # the exporter folds the projection into the weight
        elif name == "subpixel":
            assert operators == {"Conv", "DepthToSpace"}


def test_copies_pickles_and_state(case) -> None:
    layer, x = case
    wanted = layer(x)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for twin in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
        copy.deepcopy(pickle.loads(pickle.dumps(layer))),
    ):
        assert torch.equal(twin(x), wanted)
        assert repr(twin) == repr(layer)
        assert list(twin.state_dict()) == list(layer.state_dict())
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in layer.parameters()}
        unbalance(twin)
        assert ripple(gains(twin)) < 1e-5  # the copy is held, too
        remove(twin)
        assert is_balanced(layer)
        assert torch.equal(layer(x), wanted)  # taking it off a copy leaves the first alone
    fresh = copy.deepcopy(layer)
    unbalance(fresh)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), wanted)


def test_shared_parameters_stay_shared_in_copies() -> None:
    layer = BalancedConvTranspose1d(2, 2, 4, 2)
    twins = pickle.loads(pickle.dumps(nn.ModuleList([layer, layer])))
    assert twins[0] is twins[1]
    twins = copy.deepcopy(nn.ModuleList([layer, layer]))
    assert twins[0] is twins[1]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_plain_checkpoint_loads(axes: int) -> None:
    plain = nn.Sequential(nn.ReLU(), PLAIN[axes](2, 3, 4, 2, 1))
    net = nn.Sequential(nn.ReLU(), BALANCED[axes](2, 3, 4, 2, 1))
    net.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(net[1].parametrizations.weight.original, plain[1].weight)
    balance(plain)
    x = torch.randn(1, 2, *(4,) * axes)
    torch.testing.assert_close(plain(x), net(x))
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({"1.bias": plain[1].bias}, strict=True)


def test_remove_leaves_the_plain_layer() -> None:
    for axes, cls in BALANCED.items():
        layer = cls(2, 4, 4, 2, 1, 1, groups=2)
        parameter, x = layer.parametrizations.weight.original, torch.randn(1, 2, *(4,) * axes)
        wanted = layer(x)
        remove(layer)
        assert type(layer) is PLAIN[axes]
        assert list(layer.state_dict()) == list(PLAIN[axes](2, 4, 4, 2).state_dict())
        assert layer.weight is parameter  # an optimizer keeps it
        assert isinstance(layer.weight, nn.Parameter)
        torch.testing.assert_close(layer(x), wanted)
        assert repr(layer) == repr(PLAIN[axes](2, 4, 4, 2, 1, 1, groups=2))
        assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))
        remove(layer)  # nothing to take off is no error


class Own(nn.ConvTranspose2d):
    """A class derived from PyTorch's."""


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(3, 4, 3, 2),
        nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(2, 4, 3)),
        SubpixelConv2d(4, 4, 3),
        nn.ConvTranspose2d(4, 4, 3),
        Own(4, 3, 4, 2, 1),
    )


def test_balance_reaches_a_whole_network() -> None:
    torch.manual_seed(0)
    net, x = network(), torch.randn(1, 3, 8, 8)
    parameters = {id(p) for p in net.parameters()}
    checkpoint = copy.deepcopy(net.state_dict())
    assert balance(net) is net
    assert {id(p) for p in net.parameters()} == parameters
    balanced = {name for name, layer in net.named_modules() if is_balanced(layer)}
    assert balanced == {"0", "1.0", "2", "4"}  # stride 1 and convolutions on their own are not touched
    flat = net(torch.randn(1, 3, 1, 1).expand(1, 3, 16, 16))[..., 40:-40, 40:-40].detach().flatten(2)
    assert flat.shape[-1] > 100
    assert float((flat - flat[..., :1]).abs().max()) < 1e-5
    del net[4]  # a foreign class keeps PyTorch's rules for pickling
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))
    wanted = net(x)
    net.load_state_dict({name: v for name, v in checkpoint.items() if not name.startswith("4.")}, strict=True)
    torch.testing.assert_close(net(x), wanted)  # projected again: the nearest balanced values are the same
    remove(net)
    torch.testing.assert_close(net(x), wanted)
    assert [type(m) for m in (net[0], net[1][0])] == [nn.ConvTranspose2d, nn.Conv2d]
    assert set(net.state_dict()) == {name for name in checkpoint if not name.startswith("4.")}


def test_balance_again_changes_the_order() -> None:
    layer = balance(nn.ConvTranspose1d(2, 2, 6, 2))
    balance(layer, order=3)
    assert layer.order == 3
    assert len(layer.parametrizations.weight) == 1
    unbalance(layer)
    factor = np.convolve(np.convolve([1, 1], [1, 1]), [1, 1])
    _, rest = np.polydiv(layer.weight[0, 0].detach().double().numpy(), factor)
    assert np.abs(rest).max() < 1e-5


@pytest.mark.parametrize("order", [2, 3])
def test_subpixel_convolution_of_higher_order(order: int) -> None:
    torch.manual_seed(0)
    layer = balance(SubpixelConv1d(2, 2, 5, 3, dtype=torch.float64), order=order)
    unbalance(layer)
    assert f"order={order}" in repr(layer)
    x = torch.arange(16, dtype=torch.float64).pow(order - 1).expand(1, 2, 16)
    y = layer(x)[..., 8:-8].detach()
    assert float(y.diff(n=order).abs().max()) < 1e-8
    assert float(y.diff(n=order - 1).abs().max()) > 1e-2
    remove(layer)
    assert layer.order == 0


def test_spectral_normalisation_on_top_keeps_the_condition() -> None:
    layer = BalancedConvTranspose2d(3, 3, 4, 2, 1)
    nn.utils.parametrizations.spectral_norm(layer)
    assert ripple(gains(layer)) < 1e-5
    with pytest.raises(ParameterError, match="other parametrizations"):
        remove(layer)
    below = nn.utils.parametrizations.weight_norm(nn.ConvTranspose2d(3, 3, 4, 2, 1))
    balance(below)
    assert ripple(gains(below)) < 1e-5


def test_gradients_have_nothing_in_the_excluded_directions() -> None:
    layer = BalancedConvTranspose1d(2, 3, 4, 2, dtype=torch.float64)
    layer(torch.randn(1, 2, 9, dtype=torch.float64)).square().sum().backward()
    grad = layer.parametrizations.weight.original.grad
    torch.testing.assert_close(layer.parametrizations.weight[0](grad), grad)


def test_channels_last_is_kept() -> None:
    layer = BalancedConvTranspose2d(8, 8, 4, 2, 1).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)


def test_checker_certifies_a_network_of_these_layers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), BalancedConvTranspose2d(4, 4, 3, 2, 1), nn.ReLU(),
        SubpixelConv2d(4, 4, 3, balanced=True), nn.ReLU(), BalancedConvTranspose2d(4, 3, 4, 2, 1),
    )  # fmt: skip
    unbalance(net[2])
    report = evenly.check(net, torch.zeros(1, 3, 8, 8))
    assert report.worst() in (None, "info")
    plain = remove(copy.deepcopy(net))
    with torch.no_grad():
        plain[2].weight.normal_()
    assert evenly.check(plain, torch.zeros(1, 3, 8, 8)).worst() == "error"  # and it would have said so


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: BalancedConvTranspose1d(2, 2, 2, 3), r"1 of 3 phases have no tap.*use kernel_size=3 or more"),
        (lambda: BalancedConvTranspose2d(2, 2, 3, 2, dilation=2), "use dilation=1"),
        (lambda: BalancedConvTranspose2d(2, 2, 4, 3, order=2), r"order \(=2\).*larger kernel_size or order=1"),
        (lambda: BalancedConvTranspose1d(2, 2, 4, 2, order=0), r"order \(=0\)"),
        (lambda: BalancedConvTranspose2d(2, 2, (4, 4, 4), 2), "kernel_size"),
        (lambda: balance(nn.Sequential(nn.Linear(2, 2))), "no layer to balance"),
        (lambda: balance(nn.LazyConvTranspose2d(2, 4, 2)), "run one batch"),
        (lambda: balance(nn.Sequential(nn.Conv2d(6, 12, 3, groups=6), nn.PixelShuffle(2))), r"groups \(=6\)"),
    ],
)
def test_what_cannot_be_is_refused(call, says: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules warn that they are new
        with pytest.raises(ParameterError, match=says):
            call()


def test_a_network_is_changed_whole_or_not_at_all() -> None:
    net = nn.Sequential(nn.ConvTranspose1d(2, 2, 4, 2), nn.Sequential(nn.ConvTranspose1d(2, 2, 2, 3)))
    with pytest.raises(ParameterError, match=r"1\.0 \(ConvTranspose1d\): axis 0"):
        balance(net)
    assert type(net[0]) is nn.ConvTranspose1d
    assert not parametrize.is_parametrized(net[0])


def test_a_weight_that_a_hook_computes_is_refused() -> None:
    layer = nn.ConvTranspose1d(2, 2, 4, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what many vocoders use
        nn.utils.weight_norm(layer)
    with pytest.raises(ParameterError, match="remove_weight_norm"):
        balance(layer)


def test_the_layer_is_an_ordinary_transposed_convolution() -> None:
    layer = BalancedConvTranspose2d(2, 3, 4, 2, 1)
    x = torch.randn(1, 2, 5, 5)
    assert layer(x, output_size=(11, 11)).shape[-2:] == (11, 11)
    torch.testing.assert_close(layer(x), F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1))
    assert prod(layer.weight.shape) == layer.parametrizations.weight.original.numel()
    assert "order=1" in repr(layer)
    assert repr(layer).startswith("BalancedConvTranspose2d(")
