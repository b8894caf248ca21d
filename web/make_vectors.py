"""Write vectors.json: what evenly.theory says about more than a thousand drawn parameters.

The page computes its numbers in TypeScript (src/theory). check_vectors.mjs compares the functions in the shipped page
with this file, tests/explore/test_vectors.py compares this file with evenly. Run `python web/make_vectors.py` after a
change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isinf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError
from evenly.theory import overlap, phases, support
from evenly.theory.backward import Gradient, pool_resize
from evenly.theory.balance import balancing_projection, transposed_places
from evenly.theory.prior import Moments, statistics
from evenly.theory.resize import AxisResize, axis_resize
from evenly.theory.torus import resize_matrix

FILE = Path(__file__).with_name("vectors.json")
SEED = 2016
BURT = (1, 4, 6, 4, 1)
FILTERS = ((1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 2, 2, 1), BURT)

Case = dict[str, Any]
Array = NDArray[Any]


class Draw:
    """Seeded draws of whole numbers and weights."""

    def __init__(self, seed: int) -> None:
        """Start from a seed."""
        self.random = np.random.default_rng(seed)

    def whole(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return int(self.random.integers(low, high + 1))

    def weights(self, *shape: int) -> Array:
        """Weights with three decimals, so that JSON holds them exactly as they are used."""
        return np.round(self.random.normal(size=shape), 3)

    def choice(self, options: tuple[Any, ...]) -> Any:
        """One of them."""
        return options[self.whole(0, len(options) - 1)]


def _overlap(draw: Draw) -> Case:
    while True:
        size, k, s, d = draw.whole(1, 12), draw.whole(1, 9), draw.whole(1, 6), draw.whole(1, 4)
        p, a = draw.whole(0, 4), draw.whole(0, 3)
        if s * (size - 1) + d * (k - 1) + 1 + a - 2 * p >= 1:
            break
    counts = overlap.overlap_counts(k, s, d)
    return {
        "axis": {"size": size, "kernel": k, "stride": s, "padding": p, "dilation": d, "outputPadding": a},
        "counts": counts,
        "map": overlap.overlap_map(size, k, s, p, d, a),
        "ratio": overlap.ratio(counts),
        "plane": overlap.unevenness((k, k), (s, s), (d, d)),
    }


def _read(draw: Draw) -> Case:
    while True:
        size, k, s, d, p = (draw.whole(1, 16), *(draw.whole(1, 5) for _ in range(3)), draw.whole(0, 3))
        if size + 2 * p >= d * (k - 1) + 1:
            break
    return {
        "size": size,
        "kernel": k,
        "stride": s,
        "padding": p,
        "dilation": d,
        "map": overlap.read_map(size, k, s, p, d),
    }


def _freedom(draw: Draw) -> Case:
    axes = draw.whole(1, 3)
    kernel, stride, dilation = ([draw.whole(1, top) for _ in range(axes)] for top in (7, 4, 2))
    found = phases.degrees_of_freedom(kernel, stride, dilation)
    return {
        "kernel": kernel,
        "stride": stride,
        "dilation": dilation,
        "free": found.free,
        "balanced": found.balanced,
        "resize": found.resize,
    }


def _projected(weight: Array, s: int, d: int) -> Array | None:
    axes = weight.ndim
    try:
        matrix = balancing_projection(transposed_places(weight.shape, (d,) * axes), (s,) * axes)
    except ParameterError:
        return None
    return (weight.ravel() @ matrix).reshape(weight.shape)


def _kernel(draw: Draw) -> Case:
    k, s, d = draw.whole(1, 9), draw.whole(1, 4), draw.whole(1, 3)
    weight = draw.weights(k)
    gains = phases.dc_gains(weight[None, None], (s,), (d,)).ravel()
    frequencies = np.array([0.05, 0.2, 0.45])
    rejection = phases.image_rejection(weight[None, None], s, d, frequencies)[1]
    return {
        "weights": weight,
        "stride": s,
        "dilation": d,
        "gains": gains,
        "ripple": phases.ripple(gains),
        "projected": _projected(weight, s, d),
        "frequencies": frequencies,
        "rejection": rejection,
    }


def _plane(draw: Draw) -> Case:
    k, s, d = draw.whole(1, 6), draw.whole(1, 3), draw.whole(1, 2)
    weight = draw.weights(k, k)
    gains = phases.dc_gains(weight[None, None], (s, s), (d, d)).ravel()
    return {
        "weights": weight,
        "stride": s,
        "dilation": d,
        "gains": gains,
        "ripple": phases.ripple(gains),
        "projected": _projected(weight, s, d),
    }


def _interpolations() -> list[Case]:
    return [
        {"scale": s, "mode": mode, "taps": axis_resize(12, 12 * s, mode, cubic_a=-0.75).taps}
        for s in range(2, 10)
        for mode in ("nearest", "linear", "cubic")
    ]


def _fold(draw: Draw) -> Case:
    """A resize-convolution's response to one impulse is the kernel of the transposed convolution that equals it."""
    k, s, mode = draw.whole(1, 5), draw.whole(2, 4), draw.choice(("nearest", "linear"))
    weight = draw.weights(k)
    size = 12
    impulse = np.zeros(size)
    impulse[size // 2] = 1
    enlarged = resize_matrix(axis_resize(size, size * s, mode), size) @ impulse
    answer = np.correlate(enlarged, weight, "full")
    heard = np.flatnonzero(answer)
    return {"weights": weight, "scale": s, "mode": mode, "folded": answer[heard[0] : heard[-1] + 1]}


def _support(draw: Draw) -> Case:
    size, s = draw.whole(1, 12), draw.whole(1, 4)
    here = draw.random.random(size) < 0.5
    here[0] = True
    k = draw.whole(1, 6)
    weight = np.ones(k) if draw.whole(0, 1) else draw.weights(k)
    return {
        "support": here,
        "stride": s,
        "weights": weight,
        "period": support.period(here)[0],
        "upsampled": support.upsample(here, (s,)),
        "downsampled": support.downsample(here, (s,)),
        "present": support.present(weight[None], np.arange(k)[:, None], here),
        "generated": support.generated(here),
    }


def _fir_resize(fir: tuple[int, ...], scale: int) -> AxisResize:
    """Zero insertion and a FIR of gain 1, centred like an interpolation where the FIR's parity allows it."""
    origin = (len(fir) - scale + 1) // 2
    gain = sum(fir) / scale
    taps: list[list[tuple[int, float]]] = [[] for _ in range(scale)]
    for m, h in enumerate(fir):
        r = (m - origin) % scale
        taps[r].append(((r + origin - m) // scale, h / gain))
    return AxisResize(scale, 1, tuple(tuple(phase) for phase in taps))


def _layer(draw: Draw, axes: int, moments: Moments) -> tuple[Case, Moments]:
    kind = draw.choice(("transposed", "transposed", "subpixel", "interpolation", "fir", "conv"))
    k, s, p = draw.whole(1, 5), draw.whole(2, 3 if axes == 1 else 2), draw.whole(0, 2)
    one = (1,) * axes
    if kind == "transposed":
        d = draw.whole(1, 2)
        made = moments.conv_transpose(1, (k,) * axes, (s,) * axes, (d,) * axes, (p,) * axes)
        return {"kind": kind, "kernel": k, "stride": s, "padding": p, "dilation": d}, made
    if kind == "subpixel":
        made = moments.conv(s**axes, (k,) * axes, one, one, (0,) * axes).pixel_shuffle((s,) * axes)
        return {"kind": kind, "kernel": k, "stride": s}, made
    if kind == "conv":
        equal = bool(draw.whole(0, 1))
        if equal:
            places = np.stack(np.meshgrid(*[np.arange(k) - p] * axes, indexing="ij"), -1).reshape(-1, axes)
            made = moments.filter(np.full(len(places), k ** float(-axes)), places)
        else:
            made = moments.conv(1, (k,) * axes, one, one, (p,) * axes)
        return {"kind": kind, "kernel": k, "padding": p, "dilation": 1, "equal": equal}, made
    cell = moments.cell[0]
    if kind == "fir":
        fir = draw.choice(FILTERS[1:])
        made = moments.linear_map([resize_matrix(_fir_resize(fir, 2), cell)] * axes)
        return {"kind": kind, "fir": fir, "scale": 2}, made
    mode = draw.choice(("nearest", "linear", "cubic"))
    made = moments.linear_map([resize_matrix(axis_resize(12, 12 * s, mode), cell)] * axes)
    return {"kind": kind, "mode": mode, "scale": s}, made


def _bent(moments: Moments, slope: float | None) -> Moments:
    return moments if slope is None else moments.pointwise(lambda x: np.where(x > 0, x, slope * x))


def _residual(draw: Draw, axes: int, moments: Moments, slope: float | None) -> tuple[Case, Moments]:
    """The mean of branches; each adds convolutions, an activation before every one."""
    branches = [
        [
            {"kernel": draw.whole(1, 4), "dilations": [draw.whole(1, 3) for _ in range(draw.whole(1, 2))]}
            for _ in range(draw.whole(1, 2))
        ]
        for _ in range(draw.whole(1, 2))
    ]
    one, sums = (1,) * axes, []
    for units in branches:
        total = moments
        for unit in units:
            k, inside = unit["kernel"], total
            for d in unit["dilations"]:
                inside = _bent(inside, slope).conv(1, (k,) * axes, one, (d,) * axes, (d * (k - 1) // 2,) * axes)
            total = total.add(inside)
        sums.append(total)
    mean = sums[0]
    for other in sums[1:]:
        mean = mean.add(other)
    return {"kind": "residual", "branches": branches}, mean.affine(1 / len(sums), 0.0)


def _random(layer: Case) -> bool:
    return layer["kind"] in ("transposed", "subpixel", "residual") or layer.get("equal") is False


def _stack(draw: Draw) -> Case:
    axes = draw.whole(1, 2)
    slope = draw.choice((None, 0.0, 0.2))
    moments = Moments.colour(1, axes).dense(1)
    layers: list[Case] = []
    for index in range(draw.whole(1, 3)):
        behind = index > 0 and _random(layers[-1])
        # inside a residual block the activation is exact for a Gaussian: behind weights, or where nothing is bent
        if (behind or slope is None) and draw.whole(0, 3) == 0:
            layer, moments = _residual(draw, axes, moments, slope)
        else:
            layer, moments = _layer(draw, axes, _bent(moments, slope) if behind else moments)
        layers.append(layer)
    found = statistics(moments)
    return {
        "axes": axes,
        "slope": slope,
        "layers": layers,
        "unevenness": found.unevenness,
        "acFraction": found.ac_fraction,
        "variance": np.broadcast_to(found.variance, moments.cell).ravel(),
        "power": np.broadcast_to(found.power, moments.cell).ravel(),
    }


def _strided(draw: Draw) -> Case:
    kind = draw.choice(("conv", "conv", "max", "average", "blur"))
    k, s, p = draw.whole(1, 5), draw.whole(1, 3), draw.whole(0, 2)
    if kind == "conv":
        return {"kind": kind, "kernel": k, "stride": s, "padding": p, "dilation": draw.whole(1, 2)}
    if kind == "blur":
        taps = draw.choice(FILTERS)
        return {"kind": kind, "taps": [t / sum(taps) for t in taps], "stride": s, "padding": p}
    return {"kind": kind, "kernel": k, "stride": s, "padding": p}


def _back(gradient: Gradient, layer: Case) -> Gradient:
    s, p = layer["stride"], layer["padding"]
    if layer["kind"] == "conv":
        return gradient.conv_adjoint((layer["kernel"],), (s,), (layer["dilation"],), (p,))
    if layer["kind"] == "max":
        return gradient.max_pool_adjoint((layer["kernel"],), (s,), (1,), (p,))
    taps = layer.get("taps")
    k = len(taps) if taps else layer["kernel"]
    return gradient.resize_adjoint([pool_resize(k, s, 1, p, taps)])


def _gradient(draw: Draw) -> Case:
    layers = [_strided(draw) for _ in range(draw.whole(1, 3))]
    gradient = Gradient.white(1)
    for layer in reversed(layers):
        gradient = _back(gradient, layer)
    squares = gradient.variance()
    relative = squares / squares.mean()
    return {
        "layers": layers,
        "squares": relative,
        "unevenness": overlap.ratio(np.where(relative < 1e-12, 0, relative)),
        "dead": float((relative < 1e-12).mean()),
    }


FAMILIES: dict[str, tuple[Callable[[Draw], Case], int]] = {
    "overlap": (_overlap, 400),
    "read": (_read, 120),
    "freedom": (_freedom, 120),
    "kernel": (_kernel, 160),
    "plane": (_plane, 60),
    "fold": (_fold, 60),
    "support": (_support, 120),
    "stack": (_stack, 160),
    "gradient": (_gradient, 160),
}


def plain(value: Any) -> Any:
    """Arrays as lists, infinities as text, floats with twelve digits."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        if isinf(value):
            return "inf" if value > 0 else "-inf"
        tidy = float(f"{value:.12g}")
        return 0.0 if abs(tidy) < 1e-13 else tidy
    return value


def vectors() -> dict[str, list[Case]]:
    """All families, each from a seed of its own."""
    made = {"interpolation": [plain(case) for case in _interpolations()]}
    for number, (name, (make, count)) in enumerate(FAMILIES.items()):
        draw = Draw(SEED + number)
        made[name] = [plain(make(draw)) for _ in range(count)]
    return made


def text(families: dict[str, list[Case]]) -> str:
    """One case on a line, so that a change shows as the cases it touches."""
    blocks = []
    for name, cases in families.items():
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        blocks.append(f'"{name}":[\n{lines}\n]')
    return "{" + ",\n".join(blocks) + "}\n"


if __name__ == "__main__":
    FILE.write_text(text(vectors()), encoding="utf-8")
