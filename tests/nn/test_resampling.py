"""Interpolation kernels against PyTorch's impulse responses, FIR up-sampling against loops in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evenly.errors import ParameterError
from evenly.nn.resampling import MODES, extend, fir_upsample, interpolation_kernel, parse_mode, resize

Array = NDArray[np.float64]

F64 = {"dtype": torch.float64}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
PADS: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}
SEED = st.integers(0, 2**31 - 1)


def upfirdn(line: Array, taps: Sequence[float], scale: int, mode: str) -> Array:
    """Continue the signal, put zeros between its samples, filter: StyleGAN2's alignment, output by output."""
    far = len(taps)
    longer = np.pad(line, far, mode=PADS[mode])
    inserted = np.zeros(scale * len(longer))
    inserted[::scale] = longer
    h = np.array(taps) * (scale / sum(taps))
    before = (far + scale - 1) // 2
    return np.array(
        [
            sum(h[far - 1 - j] * inserted[scale * far + n + j - before] for j in range(far))
            for n in range(scale * len(line))
        ]
    )


@st.composite
def firs(draw: st.DrawFn, scale: int) -> tuple[float, ...]:
    """Taps whose phases have equal sums: ones convolved with anything that has a sum."""
    smoothing = draw(st.lists(st.integers(-3, 6), min_size=1, max_size=4).filter(lambda g: sum(g) != 0))
    taps = reduce(np.convolve, [np.ones(scale)], np.array(smoothing, float))
    return tuple(float(t) for t in taps)


# --------------------------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_mode_has_one_name(dims: int) -> None:
    assert parse_mode("nearest", dims) == ("nearest", ())
    assert parse_mode("nearest-exact", dims) == ("nearest-exact", ())
    assert parse_mode("linear", dims) == parse_mode(LINEAR[dims], dims) == ("linear", ())
    assert parse_mode("fir:1, 3,3,1", dims) == ("fir", (1.0, 3.0, 3.0, 1.0))
    assert parse_mode("fir:-0.5,1e1", dims) == ("fir", (-0.5, 10.0))
    assert parse_mode("fir:2", dims) == ("fir", (2.0,))
    for other in set(LINEAR.values()) - {LINEAR[dims], "linear"}:
        with pytest.raises(ParameterError, match=rf"mode \(='{other}'\).*{dims}-D.*mode='linear'"):
            parse_mode(other, dims)
    if dims == 2:
        assert parse_mode("bicubic", dims) == ("bicubic", ())
    else:
        with pytest.raises(ParameterError, match=rf"mode \(='bicubic'\).*{dims}-D; use"):
            parse_mode("bicubic", dims)


@pytest.mark.parametrize(
    "mode", ["", "cubic", "Nearest", "area", "fir", "fir:", "fir:1,,1", "fir:1;3", "fir:nan", "fir:inf,1", "fir:1,-1",
             "fir:0", None, 2, ("nearest",)],
)  # fmt: skip
def test_unknown_modes_are_refused(mode: Any) -> None:
    with pytest.raises(ParameterError, match=r"mode \(=.*must be .+; .+"):
        parse_mode(mode, 2)


def test_all_listed_modes_are_known() -> None:
    for mode in MODES:
        assert any(_parses(mode, dims) for dims in (1, 2, 3)), mode


def _parses(mode: str, dims: int) -> bool:
    try:
        parse_mode(mode, dims)
    except ParameterError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------- kernels


@pytest.mark.parametrize("scale", range(1, 9))
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "bicubic"])
def test_kernels_are_the_impulse_responses(mode: str, scale: int) -> None:
    """Where ``F.interpolate`` puts an impulse at input 6, with which weights."""
    kernel = interpolation_kernel(mode, scale)
    impulse = torch.zeros(1, 1, 1, 13, **F64)
    impulse[..., 6] = 1
    shape = {"linear": "bilinear"}.get(mode, mode)
    corners = None if mode.startswith("nearest") else False
    response = F.interpolate(impulse, scale_factor=(1.0, float(scale)), mode=shape, align_corners=corners)
    wanted = np.zeros(13 * scale)
    for t, tap in enumerate(kernel.taps):
        wanted[t + 6 * scale - kernel.origin] = tap  # y[n] = h[n - s i + origin] x[i]
    np.testing.assert_allclose(response.flatten().numpy(), wanted, atol=1e-12)
    assert kernel.scale == scale
    assert abs(kernel.taps[0]) > 1e-9  # no tap too many
    assert abs(kernel.taps[-1]) > 1e-9


@given(data=st.data(), scale=st.integers(1, 8))
def test_smoothing_divides_and_phases_sum_to_one(data: st.DataObject, scale: int) -> None:
    mode = data.draw(st.sampled_from(["nearest", "nearest-exact", "linear", "bicubic", "fir"]))
    kernel = interpolation_kernel(mode, scale, data.draw(firs(scale)) if mode == "fir" else ())
    np.testing.assert_allclose(np.convolve(kernel.smoothing, np.ones(scale)), kernel.taps, atol=1e-9)
    assert len(kernel.smoothing) == len(kernel.taps) - scale + 1
    for phase in range(scale):
        assert sum(kernel.taps[phase::scale]) == pytest.approx(1, abs=1e-9)
    if mode.startswith("nearest"):
        assert kernel.smoothing == (1.0,)


@pytest.mark.parametrize(
    ("scale", "taps"), [(2, (1, 2)), (2, (1, 3, 3)), (3, (1, 3, 3, 1)), (2, (1,)), (4, (1, 3, 3, 1)), (2, (1, 0, 1))]
)
def test_filters_that_make_checkerboards_are_refused(scale: int, taps: tuple[float, ...]) -> None:
    with pytest.raises(ParameterError) as caught:
        interpolation_kernel("fir", scale, taps)
    text = str(caught.value)
    assert f"taps (={taps})" in text
    assert "equal sum" in text
    assert f"convolve them with {[1] * scale}" in text
    cured = tuple(float(v) for v in np.convolve(taps, [1] * scale))  # the advice is good
    assert sum(interpolation_kernel("fir", scale, cured).taps) == pytest.approx(scale)
    # and the refusal is right: a constant does become a pattern
    line = upfirdn(np.ones(12), taps, scale, "replicate")[2 * scale : -2 * scale]
    assert np.ptp(line) > 1e-3


def test_nearly_equal_sums_are_equal() -> None:
    third = 1 / 3  # written with a few digits by a user
    interpolation_kernel("fir", 3, (0.3333333, third, 0.33333334))


# ------------------------------------------------------------------------------------------------------------- running


@given(data=st.data(), dims=st.integers(1, 3), seed=SEED)
def test_fir_upsample_is_upfirdn(data: st.DataObject, dims: int, seed: int) -> None:
    scales = data.draw(st.tuples(*[st.integers(1, 4)] * dims))
    mode = data.draw(st.sampled_from(["replicate", "zeros", "reflect"]))
    rows = [data.draw(firs(s)) for s in scales]
    sizes = data.draw(st.tuples(*[st.integers(8, 9) if mode == "reflect" else st.integers(1, 5)] * dims))
    x = torch.randn(2, 2, *sizes, generator=torch.Generator().manual_seed(seed), **F64)
    kernels = [interpolation_kernel("fir", s, taps) for s, taps in zip(scales, rows, strict=True)]
    wanted = x.numpy()
    for axis, (s, taps) in enumerate(zip(scales, rows, strict=True), start=2):
        wanted = np.apply_along_axis(upfirdn, axis, wanted, taps, s, mode)
    found = fir_upsample(x, kernels, mode)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-10)
    half = fir_upsample(x.half(), kernels, mode, accumulate=torch.float32)
    assert half.dtype == torch.float16
    np.testing.assert_allclose(half.numpy(), wanted, atol=0.02 * (1 + np.abs(wanted).max()))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "bicubic"])
@given(dims=st.integers(1, 3), data=st.data(), seed=SEED)
def test_resize_is_interpolate(mode: str, dims: int, data: st.DataObject, seed: int) -> None:
    if mode == "bicubic":
        dims = 2
    scales = data.draw(st.tuples(*[st.sampled_from([0.5, 1, 1.5, 2, 3, 2.25])] * dims))
    x = torch.randn(1, 2, *(4, 6, 3)[:dims], generator=torch.Generator().manual_seed(seed), **F64)
    name = LINEAR[dims] if mode == "linear" else mode
    corners = None if mode.startswith("nearest") else False
    wanted = F.interpolate(x, scale_factor=[float(s) for s in scales], mode=name, align_corners=corners)
    torch.testing.assert_close(resize(x, scales, mode), wanted, rtol=0, atol=1e-12)
    whole = [int(s) for s in scales if s in (1, 2, 3)]
    if len(whole) == dims:  # the same by the kernels that the folds are made of
        kernels = [interpolation_kernel(mode, s) for s in whole]
        torch.testing.assert_close(fir_upsample(x, kernels), wanted, rtol=0, atol=1e-10)


def test_resize_by_a_filter() -> None:
    x = torch.randn(1, 2, 5, 6, **F64)
    wanted = np.apply_along_axis(upfirdn, 2, x.numpy(), (1, 3, 3, 1), 2, "replicate")
    np.testing.assert_allclose(resize(x, (2, 1), "fir:1,3,3,1").numpy(), wanted, atol=1e-12)
    with pytest.raises(ParameterError, match=r"scale_factor \(=\(2, 1.5\)\).*whole numbers.*mode='linear'"):
        resize(x, (2, 1.5), "fir:1,3,3,1")


@given(
    amounts=st.tuples(*[st.tuples(st.integers(-2, 3), st.integers(-2, 3))] * 2),
    mode=st.sampled_from(["zeros", "replicate", "reflect", "circular"]),
)
def test_extend_pads_then_crops(amounts: tuple[tuple[int, int], ...], mode: str) -> None:
    x = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0), **F64)
    more = [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in amounts)]
    wanted = np.pad(x.numpy(), more, mode={**PADS, "circular": "wrap"}[mode])
    for axis, (low, high) in enumerate(amounts, start=2):
        wanted = wanted.take(range(max(-low, 0), wanted.shape[axis] + min(high, 0)), axis)
    np.testing.assert_array_equal(extend(x, amounts, mode).numpy(), wanted)
