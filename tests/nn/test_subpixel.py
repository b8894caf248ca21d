"""Sub-pixel convolution against a convolution and a shuffle written out, in one to three dimensions."""

from __future__ import annotations

import copy
import pickle
from math import prod

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evenly.errors import ParameterError
from evenly.nn.subpixel import SubpixelConv1d, SubpixelConv2d, SubpixelConv3d, pixel_shuffle
from evenly.nn.utils import balance, is_balanced, remove
from reference import pixel_shuffle as naive_shuffle

SEED = st.integers(0, 2**31 - 1)
LAYERS = {1: SubpixelConv1d, 2: SubpixelConv2d, 3: SubpixelConv3d}
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@st.composite
def arguments(draw: st.DrawFn, axes: int) -> dict:
    most = {1: 5, 2: 3, 3: 2}[axes]
    groups = draw(st.sampled_from([1, 2]))
    return {
        "in_channels": 2 * groups, "out_channels": groups,
        "kernel_size": draw(st.tuples(*[st.integers(1, most)] * axes)),
        "scale_factor": draw(st.tuples(*[st.integers(1, most)] * axes)),
        "padding": draw(st.none() | st.integers(0, 2)),
        "padding_mode": draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        "dilation": draw(st.integers(1, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
        "icnr": draw(st.booleans()),
    }  # fmt: skip


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data(), balanced=st.booleans(), seed=SEED)
def test_equal_to_pad_convolve_shuffle(axes: int, data: st.DataObject, balanced: bool, seed: int) -> None:
    torch.manual_seed(seed)
    layer = LAYERS[axes](**data.draw(arguments(axes)), balanced=balanced, dtype=torch.float64)
    x = torch.randn(2, layer.in_channels, *[10, 7, 6][:axes], dtype=torch.float64)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, [p for p in reversed(layer.padding) for _ in range(2)], mode=mode)
    y = CONVOLUTIONS[axes](padded, layer.weight, layer.bias, dilation=layer.dilation, groups=layer.groups)
    wanted = np.stack([naive_shuffle(sample, layer.scale_factor) for sample in y.detach().numpy()])
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, atol=1e-10)
    np.testing.assert_allclose(layer(x[0]).detach().numpy(), wanted[0], atol=1e-10)  # without a batch
    assert layer(x[:0]).shape == (0, *wanted.shape[1:])


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data(), seed=SEED)
def test_balanced_keeps_constants_at_random_weights_and_biases(axes: int, data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    drawn = data.draw(arguments(axes)) | {"padding_mode": "replicate"}  # so that the border, too, sees a constant
    layer = LAYERS[axes](**drawn, balanced=True, dtype=torch.float64)
    free = LAYERS[axes](**drawn, dtype=torch.float64)
    with torch.no_grad():
        for parameter in (*layer.parameters(), *free.parameters()):
            parameter.normal_()
    colour = torch.randn(3, layer.in_channels, *(1,) * axes, dtype=torch.float64)
    x = colour.expand(-1, -1, *(10 if axes == 1 else 6,) * axes)
    flat, loose = layer(x).detach().flatten(2), free(x).detach().flatten(2)
    assert float((flat - flat[..., :1]).abs().max()) < 1e-10
    assert float(flat.abs().max()) > 1e-6
    if prod(layer.scale_factor) > 1:
        assert float((loose - loose[..., :1]).abs().max()) > 1e-6


@pytest.mark.parametrize("factor", [2, 3])
def test_channel_order_is_pytorchs(factor: int) -> None:
    x = torch.randn(2, 3 * factor**2, 4, 5)
    wanted = nn.PixelShuffle(factor)(x)
    assert torch.equal(pixel_shuffle(x, (factor, factor)), wanted)
    woven = np.stack([naive_shuffle(sample, (factor, factor)) for sample in x.numpy()])
    np.testing.assert_array_equal(wanted.numpy(), woven)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_checkpoint_of_convolution_and_shuffle_loads(axes: int, balanced: bool) -> None:
    torch.manual_seed(0)
    plain = PLAIN[axes](2, 3 * 2**axes, 3, padding=1)
    layer = LAYERS[axes](2, 3, 3, balanced=balanced)
    layer.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(1, 2, *(5,) * axes)
    wanted = pixel_shuffle(plain(x), (2,) * axes)
    assert torch.allclose(layer(x), wanted) != balanced  # a balanced one projects what it loads
    if not balanced:
        assert list(layer.state_dict()) == ["weight", "bias"]
        balance(layer)
        assert layer.balanced
    remove(layer)
    assert not layer.balanced
    assert not is_balanced(layer)
    assert list(layer.state_dict()) == ["weight", "bias"]
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(pixel_shuffle(plain(x), (2,) * axes), layer(x))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_icnr_starts_as_a_nearest_neighbour_resize(axes: int) -> None:
    layer = LAYERS[axes](2, 3, 3, (3, 2, 2)[:axes])
    x = torch.randn(1, 2, *(4,) * axes)
    y = layer(x)
    low = y[(..., *[slice(None, None, s) for s in layer.scale_factor])]
    for axis, s in enumerate(layer.scale_factor, start=2):
        low = low.repeat_interleave(s, axis)
    torch.testing.assert_close(y, low)
    y = LAYERS[axes](2, 3, 3, (3, 2, 2)[:axes], icnr=False)(x)
    assert not torch.allclose(y[..., ::2], y[..., 1::2])


@pytest.mark.parametrize(("axes", "factor"), [(2, 2), (2, (2, 3)), (3, 2)])
def test_channels_last_is_kept(axes: int, factor: int) -> None:
    layout = torch.channels_last if axes == 2 else torch.channels_last_3d
    layer = LAYERS[axes](4, 8, 3, factor, balanced=True).to(memory_format=layout)
    x = torch.randn(2, 4, *(5,) * axes)
    y = layer(x.to(memory_format=layout))
    assert y.is_contiguous(memory_format=layout)
    torch.testing.assert_close(y, layer(x))
    assert layer(x).shape == y.shape


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_differentiable_twice_compiled_exported_copied(axes: int) -> None:
    """The free layer; test_balanced.py has the balanced ones."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    layer = LAYERS[axes](2, 2, 3, (2, 3, 2)[:axes], padding_mode="circular", dtype=torch.float64)
    x = torch.randn(1, 2, *(3,) * axes, dtype=torch.float64, requires_grad=True)
    weight = layer.weight.detach().clone().requires_grad_()

    def run(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,)).square()

    assert torch.autograd.gradcheck(run, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, weight), fast_mode=True)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
    auto = dict.fromkeys([0, *range(2, 2 + axes)], torch.export.Dim.AUTO)
    program = torch.export.export(
        layer, (torch.randn(2, 2, *(6,) * axes, dtype=torch.float64),), dynamic_shapes=(auto,)
    )
    other = torch.randn(3, 2, *(7, 5, 4)[:axes], dtype=torch.float64)
    torch.testing.assert_close(program.module()(other), layer(other))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))
        assert type(twin) is LAYERS[axes]
        assert twin.weight is not layer.weight


@pytest.mark.parametrize("balanced", [False, True])
def test_repr_says_what_is_not_default(balanced: bool) -> None:
    layer = SubpixelConv2d(4, 2, 3, (2, 3), dilation=2, groups=2, bias=False, balanced=balanced, padding_mode="reflect")
    text = repr(layer)
    assert text.startswith("SubpixelConv2d(")
    for part in ("4, 2", "scale_factor=(2, 3)", "padding=(2, 2)", "dilation=(2, 2)", "groups=2", "bias=False"):
        assert part in text
    assert ("balanced=True" in text) == balanced
    assert layer.bias is None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SubpixelConv2d(3, 4, 3, groups=2), r"groups \(=2\).*in_channels \(=3\)"),
        (lambda: SubpixelConv2d(4, 3, 3, groups=2), r"groups \(=2\).*out_channels \(=3\)"),
        (lambda: SubpixelConv2d(4, 3, 0), r"kernel_size \(=0\)"),
        (lambda: SubpixelConv1d(4, 3, 3, 0), r"scale_factor \(=0\)"),
        (lambda: SubpixelConv1d(4, 3, 3, 2.5), r"scale_factor \(=2.5\)"),
        (lambda: SubpixelConv1d(4, 3, 3, padding=-1), r"padding \(=-1\)"),
        (lambda: SubpixelConv1d(4, 3, 3, padding_mode="edge"), r"padding_mode \(='edge'\)"),
        (lambda: pixel_shuffle(torch.zeros(1, 3, 4), (2,)), r"channels \(=3\)"),
        (lambda: balance(SubpixelConv1d(4, 3, 1, 3), order=4), r"order \(=4\)"),
    ],
)
def test_wrong_arguments_are_named(call, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        call()
