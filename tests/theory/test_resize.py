"""Interpolation against PyTorch and ONNX Runtime, in the interior."""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from evenly.errors import ParameterError
from evenly.theory.resize import MAX_TAPS, AxisResize, TooManyTaps, adaptive_average, axis_resize
from evenly.theory.torus import resize_matrix

Array = NDArray[np.float64]


def apply_resize(x: Array, r: AxisResize, size_out: int) -> Array:
    """``(..., n)`` to ``(..., size_out)`` by the definition, borders replicated."""
    y = np.zeros((*x.shape[:-1], size_out))
    for n in range(size_out):
        q, phase = divmod(n, r.up)
        for offset, weight in r.taps[phase]:
            y[..., n] += weight * x[..., min(max(r.down * q + offset, 0), x.shape[-1] - 1)]
    return y


def interior(size_in: int, size_out: int, r: AxisResize) -> slice:
    """Outputs that read no border."""
    reach = max((abs(o) for taps in r.taps for o, _ in taps), default=0) + r.down + 2
    reach = min(reach, 2 + max(2, int(3 * r.down / r.up)) + 2)
    margin = int(np.ceil(reach * size_out / size_in)) + 1
    return slice(margin, max(margin, size_out - margin))


SIZES = st.tuples(st.integers(24, 40), st.integers(9, 120))


@settings(max_examples=150, deadline=None)
@given(SIZES, st.sampled_from(["nearest_exact", "linear", "cubic", "area", "corners", "cubic_corners"]))
def test_sizes_like_torch(sizes: tuple[int, int], mode: str) -> None:
    n, m = sizes
    x = np.random.default_rng(n * m).standard_normal((1, 1, n))
    corners = mode.endswith("corners")
    ours = {"corners": "linear", "cubic_corners": "cubic"}.get(mode, mode)
    r = axis_resize(n, m, ours, coordinate="align_corners" if corners else "half_pixel")
    if ours == "cubic":
        t = torch.from_numpy(x)[:, :, None].expand(1, 1, 5, n)
        want = F.interpolate(t, (5, m), mode="bicubic", align_corners=corners)[0, 0, 2].numpy()
    else:
        name = {"nearest_exact": "nearest-exact"}.get(ours, ours)
        extra = {"align_corners": corners} if ours == "linear" else {}
        want = F.interpolate(torch.from_numpy(x), m, mode=name, **extra)[0, 0].numpy()
    inside = interior(n, m, r)
    assert np.allclose(apply_resize(x, r, m)[0, 0][inside], want[inside], atol=1e-9)
    assert all(abs(sum(w for _, w in taps) - 1) < 1e-12 for taps in r.taps)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(24, 40),
    st.sampled_from([2, 3, 4, 0.5, 1.5, 2.5, 0.75, 1.25, 0.4]),
    st.sampled_from(["nearest", "linear"]),
)
def test_scales_like_torch(n: int, scale: float, mode: str) -> None:
    x = np.random.default_rng(n).standard_normal((1, 1, n))
    want = F.interpolate(torch.from_numpy(x), scale_factor=scale, mode=mode)[0, 0].numpy()
    m = len(want)
    rules = {"coordinate": "asymmetric", "nearest": "floor"} if mode == "nearest" else {}
    r = axis_resize(n, m, mode, scale=scale, **rules)
    assert Fraction(r.up, r.down) == Fraction(scale).limit_denominator(100)
    inside = interior(n, m, r)
    assert np.allclose(apply_resize(x, r, m)[0, 0][inside], want[inside], atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(SIZES, st.sampled_from(["bilinear", "bicubic"]))
def test_antialias_like_torch(sizes: tuple[int, int], mode: str) -> None:
    n, m = sizes
    x = np.random.default_rng(n + m).standard_normal((1, 1, 1, n))
    t = torch.from_numpy(x).expand(1, 1, 5, n)
    want = F.interpolate(t, (5, m), mode=mode, antialias=True)[0, 0, 2].numpy()
    r = axis_resize(n, m, mode[2:], antialias=True, cubic_a=-0.5)
    inside = interior(n, m, r)
    assert np.allclose(apply_resize(x, r, m)[0, 0, 0][inside], want[inside], atol=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    SIZES,
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from(["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.booleans(),
)
def test_like_onnxruntime(sizes: tuple[int, int], mode: str, coordinate: str, nearest: str, scaled: bool) -> None:
    n, m = sizes
    scale = [0.5, 0.75, 1.5, 2.0, 2.5, 3.0, 4.0][m % 7]
    m = int(n * scale) if scaled else m
    inputs = ["x", "", "scales"] if scaled else ["x", "", "", "sizes"]
    node = helper.make_node(
        "Resize", inputs, ["y"], mode=mode, coordinate_transformation_mode=coordinate, nearest_mode=nearest
    )
    constants = [
        helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 1, scale])
        if scaled
        else helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, 5, m])
    ]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5, n])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.broadcast_to(np.random.default_rng(n).standard_normal(n).astype(np.float32), (1, 1, 5, n))
    want = session.run(None, {"x": x})[0][0, 0, 2]
    r = axis_resize(n, m, mode, scale=scale if scaled else None, coordinate=coordinate, nearest=nearest)
    inside = interior(n, m, r)
    ours = apply_resize(x[0, 0, :1].astype(float), r, m)[0]
    # A tie that float32 cannot hold exactly falls either way at runtime; such outputs are rare and both are neighbours.
    wrong = np.abs(ours[inside] - want[inside]) > 1e-4
    assert wrong.mean() <= (0.1 if mode == "nearest" else 0) if wrong.size else True


def test_known_filters() -> None:
    assert axis_resize(8, 16, "nearest", coordinate="asymmetric", nearest="floor").taps == (((0, 1.0),), ((0, 1.0),))
    assert axis_resize(8, 16, "linear").taps == (((-1, 0.25), (0, 0.75)), ((0, 0.75), (1, 0.25)))
    assert axis_resize(9, 9, "cubic") == AxisResize(1, 1, (((0, 1.0),),))
    assert adaptive_average(6, 4).taps == (((0, 0.5), (1, 0.5)), ((1, 0.5), (2, 0.5)))
    assert axis_resize(1, 5, "linear") == AxisResize(5, 1, (((0, 1.0),),) * 5)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"size_in": 0, "size_out": 4, "mode": "linear"}, "sizes"),
        ({"size_in": 4, "size_out": 4, "mode": "lanczos"}, "mode"),
        ({"size_in": 4, "size_out": 4, "mode": "linear", "coordinate": "corner"}, "coordinate"),
        ({"size_in": 4, "size_out": 4, "mode": "nearest", "nearest": "up"}, "nearest"),
        ({"size_in": 4, "size_out": 4, "mode": "linear", "scale": -1.0}, "scale"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        axis_resize(**arguments)  # type: ignore[arg-type]


# ------------------------------------------------------------------------- every position whose taps lie in the picture


def inner(size_in: int, size_out: int, r: AxisResize) -> NDArray[np.bool_]:
    """Outputs all of whose taps lie in the picture: the exact interior, without a margin."""
    taps = (((n // r.up) * r.down, r.taps[n % r.up]) for n in range(size_out))
    return np.array([all(0 <= base + offset < size_in for offset, _ in phase) for base, phase in taps])


def agree(x: Array, want: Array, r: AxisResize, ties: NDArray[np.bool_] | None = None, atol: float = 1e-9) -> int:
    """Compare all of the interior but ``ties``; the number of outputs compared."""
    size_out = len(want)
    mask = inner(len(x), size_out, r)
    if ties is not None:
        mask &= ~ties
    got = apply_resize(x, r, size_out)
    assert np.abs(got - want)[mask].max(initial=0) <= atol, (np.flatnonzero(mask & (np.abs(got - want) > atol)), r)
    return int(mask.sum())


def inexact_ties(step: Fraction, start: Fraction, size_out: int) -> NDArray[np.bool_]:
    """Outputs that float32 may put on the wrong side of a whole coordinate; none where float32 holds the step."""
    if Fraction(float(np.float32(float(step)))) == step:
        return np.zeros(size_out, dtype=bool)
    u = [step * n + start for n in range(size_out)]
    return np.array([abs(v - round(v)) < Fraction(1, 10_000) for v in u])


# Ours, PyTorch's, the arguments that make them the same.
TORCH = {
    "nearest": ("nearest", "nearest", {"coordinate": "asymmetric", "nearest": "floor"}, {}),
    "nearest-exact": ("nearest_exact", "nearest-exact", {}, {}),
    "area": ("area", "area", {}, {}),
    "linear": ("linear", "linear", {}, {"align_corners": False}),
    "linear corners": ("linear", "linear", {"coordinate": "align_corners"}, {"align_corners": True}),
    "bilinear": ("linear", "bilinear", {}, {"align_corners": False}),
    "trilinear": ("linear", "trilinear", {}, {"align_corners": False}),
    "bicubic": ("cubic", "bicubic", {}, {"align_corners": False}),
    "bicubic corners": ("cubic", "bicubic", {"coordinate": "align_corners"}, {"align_corners": True}),
    "bilinear antialias": ("linear", "bilinear", {"antialias": True}, {"antialias": True}),
    "bicubic antialias": ("cubic", "bicubic", {"antialias": True, "cubic_a": -0.5}, {"antialias": True}),
}
AXES = {"linear": 1, "trilinear": 3, "bilinear": 2, "bicubic": 2}


def interpolate(x: Array, name: str, size: int | None = None, scale: float | None = None, **more: object) -> Array:
    """PyTorch's interpolation of ``(n,)`` along the last of as many axes as the mode needs."""
    _, mode, _, extra = TORCH[name]
    axes = AXES.get(mode, 1)
    t = torch.from_numpy(x).expand(1, 1, *[3] * (axes - 1), len(x))
    target = {"size": (*[3] * (axes - 1), size)} if size else {"scale_factor": (*[1.0] * (axes - 1), scale)}
    y = F.interpolate(t, mode=mode, **target, **extra, **more)  # type: ignore[arg-type]
    return y[(0, 0, *[1] * (axes - 1))].numpy()


def ties_of(name: str, step: Fraction, size_out: int) -> NDArray[np.bool_] | None:
    starts = {"nearest": Fraction(0), "nearest-exact": step / 2}
    return inexact_ties(step, starts[name], size_out) if name in starts else None


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 48), st.integers(1, 100), st.sampled_from(sorted(TORCH)))
def test_whole_interior_like_torch(n: int, m: int, name: str) -> None:
    x = np.random.default_rng(100 * n + m).standard_normal(n)
    mode, _, rules, _ = TORCH[name]
    r = axis_resize(n, m, mode, **rules)  # type: ignore[arg-type]
    compared = agree(x, interpolate(x, name, m), r, ties_of(name, Fraction(n, m), m))
    if n >= 24 and m >= 12 and "nearest" not in name:
        assert compared >= m // 4


@settings(max_examples=300, deadline=None)
@given(
    st.integers(24, 40),
    st.fractions(Fraction(1, 4), 4, max_denominator=7) | st.sampled_from([0.3, 0.7, 1.1, 1.3, 2.7]),
    st.sampled_from([name for name in sorted(TORCH) if name != "area" and "corners" not in name]),
)
def test_whole_interior_like_torch_by_scale(n: int, scale: Fraction | float, name: str) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    mode, _, rules, _ = TORCH[name]
    want = interpolate(x, name, scale=float(scale))
    m = len(want)
    r = axis_resize(n, m, mode, scale=float(scale), **rules)  # type: ignore[arg-type]
    exact = 1 / Fraction(scale).limit_denominator(100)
    assert Fraction(r.down, r.up) == exact  # not the ratio of the sizes, one of which was rounded
    assert agree(x, want, r, ties_of(name, exact, m)) > 0
    recomputed = axis_resize(n, m, mode, **rules)  # type: ignore[arg-type]
    again = interpolate(x, name, scale=float(scale), recompute_scale_factor=True)
    assert agree(x, again, recomputed, ties_of(name, Fraction(n, m), m)) > 0


@pytest.mark.parametrize("n", [5, 8, 9])
@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("name", ["nearest", "nearest-exact"])
def test_whole_factors_tie_like_torch(name: str, n: int, factor: int) -> None:
    x = np.arange(n, dtype=float)
    mode, _, rules, _ = TORCH[name]
    up = axis_resize(n, n * factor, mode, **rules)  # type: ignore[arg-type]
    assert up == AxisResize(factor, 1, (((0, 1.0),),) * factor)
    assert agree(x, interpolate(x, name, n * factor), up) == n * factor
    x = np.arange(n * factor, dtype=float)
    down = axis_resize(n * factor, n, mode, **rules)  # type: ignore[arg-type]
    assert (down.up, down.down) == (1, factor)
    assert agree(x, interpolate(x, name, n), down) == n


@pytest.mark.parametrize(("n", "m"), [(31, 16), (40, 14), (41, 11), (13, 25), (30, 11)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias_with_aligned_corners_like_torch(mode: str, n: int, m: int) -> None:
    # PyTorch's antialiased kernels take from align_corners the step only; they still read at half pixels.
    x = np.random.default_rng(n).standard_normal(n)
    t = torch.from_numpy(x).expand(1, 1, 3, n)
    want = F.interpolate(t, (3, m), mode=mode, antialias=True, align_corners=True)[0, 0, 1].numpy()
    r = axis_resize(n, m, mode[2:], scale=Fraction(m - 1, n - 1), antialias=True, cubic_a=-0.5)
    assert agree(x, want, r) >= 3


def run_resize(x: Array, size_out: int, scale: float | None, opset: int, **attributes: object) -> Array:
    """ONNX Runtime's Resize of ``(n,)`` in float32."""
    region = [0.0] * 4 + [1.0] * 4
    # Opset 11 wants the scales even where sizes are given: an empty tensor.
    inputs = ["x", "roi", "scales"] if scale else ["x", "roi", "scales" if opset < 13 else "", "sizes"]
    node = helper.make_node("Resize", inputs, ["y"], **attributes)
    constants = [helper.make_tensor("roi", TensorProto.FLOAT, [8], region)]
    if scale:
        constants.append(helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 1, scale]))
    else:
        constants.append(helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, 5, size_out]))
        if opset < 13:
            constants.append(helper.make_tensor("scales", TensorProto.FLOAT, [0], []))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5, len(x)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    data = np.ascontiguousarray(np.broadcast_to(x.astype(np.float32), (1, 1, 5, len(x))))
    return np.asarray(session.run(None, {"x": data})[0][0, 0, 2], dtype=np.float64)


COORDINATES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
]


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 4.0, 8.0])
def test_nearest_ties_like_onnxruntime(coordinate: str, nearest: str, scale: float) -> None:
    # Powers of two and sizes that give a whole step: float32 holds every coordinate, so no tie is excused.
    n = 16
    m = int(n * scale)
    if coordinate in ("align_corners", "tf_crop_and_resize"):
        n, m = (m // 2 + 1, m + 1) if scale > 1 else (17, m + 1)
    x = np.arange(n, dtype=float)
    opset = 11 if coordinate.startswith("tf_half") else 19
    given_scale = None if coordinate in ("align_corners", "tf_crop_and_resize") else scale
    want = run_resize(
        x, m, given_scale, opset, mode="nearest", coordinate_transformation_mode=coordinate, nearest_mode=nearest
    )
    r = axis_resize(n, m, "nearest", scale=given_scale, coordinate=coordinate, nearest=nearest)
    assert len(want) == m
    assert agree(x, want, r) >= m - 2 * max(r.up, 1)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(24, 40),
    st.integers(12, 100),
    st.sampled_from(["linear", "cubic"]),
    st.sampled_from(COORDINATES),
    st.booleans(),
    st.booleans(),
    st.sampled_from([-0.75, -0.5]),
)
def test_filters_like_onnxruntime(
    n: int, m: int, mode: str, coordinate: str, antialias: bool, exclude: bool, a: float
) -> None:
    opset = 11 if coordinate.startswith("tf_half") else 19
    # ONNX Runtime copies an axis that keeps its size, also where this definition moves it by half a sample.
    assume(n != m or coordinate != "tf_half_pixel_for_nn")
    # ONNX Runtime antialiases at half pixels only.
    antialias = antialias and coordinate in ("half_pixel", "pytorch_half_pixel")
    exclude = exclude and mode == "cubic"
    extra: dict[str, object] = {"antialias": 1} if antialias else {}
    if mode == "cubic":
        extra |= {"cubic_coeff_a": a, "exclude_outside": int(exclude)}
    x = np.random.default_rng(n + m).standard_normal(n)
    want = run_resize(x, m, None, opset, mode=mode, coordinate_transformation_mode=coordinate, **extra)
    r = axis_resize(n, m, mode, coordinate=coordinate, cubic_a=a, exclude_outside=exclude, antialias=antialias)
    assert agree(x, want, r, atol=1e-4) >= m // 4


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.none() | st.floats(0.1, 8),
    st.sampled_from(["nearest", "nearest_exact", "linear", "cubic", "area"]),
    st.sampled_from(COORDINATES),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.sampled_from([-0.75, -0.5]),
    st.booleans(),
)
def test_constants_stay_constant(
    n: int, m: int, scale: float | None, mode: str, coordinate: str, nearest: str, a: float, antialias: bool
) -> None:
    r = axis_resize(n, m, mode, scale=scale, coordinate=coordinate, nearest=nearest, cubic_a=a, antialias=antialias)
    assert r.up == len(r.taps)
    assert gcd(r.up, r.down) == 1
    for taps in r.taps:
        assert abs(sum(weight for _, weight in taps) - 1) < 1e-12
        assert len({offset for offset, _ in taps}) == len(taps)
    assert np.allclose(apply_resize(np.full(n, 3.0), r, m), 3)
    if r.up <= 64 and r.down <= 64:
        assert np.allclose(resize_matrix(r, 6).sum(1), 1)


@pytest.mark.parametrize("name", sorted(TORCH))
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (7, 1)])
def test_size_one(name: str, n: int, m: int) -> None:
    x = np.arange(1.0, n + 1)
    mode, _, rules, _ = TORCH[name]
    r = axis_resize(n, m, mode, **rules)  # type: ignore[arg-type]
    got, want = apply_resize(x, r, m), interpolate(x, name, m)
    assert got.shape == (m,)
    if n == 1:
        assert np.array_equal(got, np.ones(m))
    if inner(n, m, r).all():
        assert np.allclose(got, want)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(("n", "m"), [(8, 16), (8, 8), (10, 15)])
def test_antialias_changes_only_shrinking(mode: str, n: int, m: int) -> None:
    assert axis_resize(n, m, mode, antialias=True) == axis_resize(n, m, mode)
    shrinking = axis_resize(4 * n, n, mode, antialias=True)
    assert len(shrinking.taps[0]) > len(axis_resize(4 * n, n, mode).taps[0])


def test_scale_from_a_file() -> None:
    # A file holds float32: what it means is the simple fraction, and where rounding hid the size, the sizes' ratio.
    third = float(np.float32(1 / 3))
    assert axis_resize(9, 3, "linear", scale=third) == axis_resize(9, 3, "linear")
    assert axis_resize(10, 3, "linear", scale=third).down == 3
    r = axis_resize(10, 13, "nearest", scale=float(np.float32(1.3)))
    assert (r.up, r.down) == (13, 10)
    r = axis_resize(11, 14, "linear", scale=Fraction(13, 10))
    assert (r.up, r.down) == (13, 10)
    # Beyond the largest denominator only the sizes can say what the rounded scale meant.
    r = axis_resize(8191, 5003, "linear", scale=float(np.float32(5003 / 8191)))
    assert (r.up, r.down) == (5003, 8191)


@pytest.mark.parametrize(
    ("sizes", "how"),
    [
        ((10, 40959), {"scale": 4095.9997}),  # 4096 minus 1 / 3333: thirteen million phases
        ((1, 2**30), {}),
        ((100_003, 100_019), {"mode": "cubic"}),
        ((10**6 + 3, 251), {"antialias": True}),  # few phases, each of thousands of taps
        ((10**6 + 3, 10**6), {"mode": "area"}),
        ((10**6, 7), {"mode": "area"}),
    ],
)
def test_more_taps_than_can_be_listed_are_refused(sizes: tuple[int, int], how: dict[str, Any]) -> None:
    with pytest.raises(TooManyTaps, match=rf"interpolating {sizes[0]} samples to {sizes[1]} has \d+ phases"):
        axis_resize(*sizes, **{"mode": "linear", **how})


def test_the_bound_is_above_what_networks_use() -> None:
    for sizes, mode in (((7, 1024), "cubic"), ((4096, 4095), "linear"), ((1, 65536), "nearest"), ((512, 7), "area")):
        r = axis_resize(*sizes, mode)
        assert sum(map(len, r.taps)) <= MAX_TAPS
