"""Interpolation as a periodically time-varying FIR, one axis at a time.

Every interpolation reads input position ``u(n) = A n + B`` for output ``n``. With ``A = down / up`` in lowest terms,
``u(up q + r) = down q + u(r)``: the filter repeats after ``up`` outputs and ``down`` inputs, so that ``up`` lists of
taps say everything about the interior. Coordinates are exact fractions: ties fall where the definitions put them.

Definitions: the Resize operator of ONNX (https://onnx.ai/onnx/operators/onnx__Resize.html) and PyTorch's
``torch.nn.functional.interpolate``; the cubic kernel is Keys, "Cubic convolution interpolation for digital image
processing" (1981).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from evenly.errors import ParameterError

__all__ = ["MAX_TAPS", "AxisResize", "TooManyTaps", "adaptive_average", "axis_resize"]

HALF = Fraction(1, 2)
LARGEST_DENOMINATOR = 4096
MAX_TAPS = 2**17
"""Most taps of all phases together: a scale that a file states may ask for as many phases as it likes."""


class TooManyTaps(Exception):  # noqa: N818 - control flow inside the package, reported as "not analysed"
    """An interpolation has more taps in its phases than can be listed."""


def _bounded(phases: int, window: int, size_in: int, size_out: int) -> None:
    if phases * window > MAX_TAPS:
        raise TooManyTaps(
            f"interpolating {size_in} samples to {size_out} has {phases} phases of about {window} taps each, more than "
            f"{MAX_TAPS} in all"
        )


@dataclass(frozen=True)
class AxisResize:
    """Resampling by ``up / down`` along one axis.

    Output ``up * q + r`` is ``sum of weight * x[down * q + offset]`` over ``taps[r]``; identity is
    ``AxisResize(1, 1, (((0, 1.0),),))``. Borders replicate the edge sample.
    """

    up: int
    down: int
    taps: tuple[tuple[tuple[int, float], ...], ...]


_ROUNDING: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda u: ceil(u - HALF),
    "round_prefer_ceil": lambda u: floor(u + HALF),
    "floor": floor,
    "ceil": ceil,
}


def _symmetric(n: int, m: int, step: Fraction) -> tuple[Fraction, Fraction]:
    """Half pixels, moved so that a size that was rounded down stays centred."""
    moved = Fraction(n, 2) * (1 - m * step / n)
    return step, moved + step / 2 - HALF


# From input size, output size and step 1 / scale to (A, B) of ``u = A n + B``.
_COORDINATES: dict[str, Callable[[int, int, Fraction], tuple[Fraction, Fraction]]] = {
    "half_pixel": lambda n, m, step: (step, step / 2 - HALF),
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda n, m, step: (step, step / 2 - HALF) if m > 1 else (Fraction(n), Fraction(0)),
    "align_corners": lambda n, m, step: (Fraction(n - 1, m - 1) if m > 1 else Fraction(n), Fraction(0)),
    "asymmetric": lambda n, m, step: (step, Fraction(0)),
    "tf_half_pixel_for_nn": lambda n, m, step: (step, step / 2),
    # The region is the whole picture; other regions are a crop, which is an operation of its own.
    "tf_crop_and_resize": lambda n, m, step: (
        (Fraction(n - 1, m - 1), Fraction(0)) if m > 1 else (Fraction(n), Fraction(n - 1, 2))
    ),
}


def _triangle(t: Fraction, a: Fraction) -> Fraction:
    return max(Fraction(0), 1 - abs(t))


def _keys(t: Fraction, a: Fraction) -> Fraction:
    """Keys (1981), with ``a`` for the free parameter."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    if t < 2:
        return a * (t**3 - 5 * t**2 + 8 * t - 4)
    return Fraction(0)


_FILTERS: dict[str, tuple[Callable[[Fraction, Fraction], Fraction], int]] = {
    "linear": (_triangle, 1),
    "cubic": (_keys, 2),
}


def axis_resize(
    size_in: int,
    size_out: int,
    mode: str,
    *,
    scale: float | Fraction | None = None,
    coordinate: str = "half_pixel",
    nearest: str = "round_prefer_floor",
    cubic_a: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
) -> AxisResize:
    """The interior of an interpolation along one axis.

    Args:
        size_in: Samples before, at least 1.
        size_out: Samples after, at least 1.
        mode: ``"nearest"``, ``"nearest_exact"`` (PyTorch's ``nearest-exact``: half pixels, ties upwards),
            ``"linear"``, ``"cubic"``, or ``"area"`` (adaptive average: ``coordinate`` and ``scale`` do not matter).
        scale: Output samples per input sample where the operator was given one; ``size_out / size_in`` if ``None``.
            It is taken as the fraction nearest to it with a denominator up to 4096.
        coordinate: ONNX's ``coordinate_transformation_mode``. PyTorch's ``nearest`` is ``"asymmetric"`` with
            ``"floor"``; its other modes have ``"half_pixel"`` or ``"align_corners"``. ``"tf_crop_and_resize"``
            means the whole picture as its region.
        nearest: ONNX's ``nearest_mode``.
        cubic_a: Parameter of the cubic kernel; PyTorch's antialiased form has -0.5.
        exclude_outside: Accepted for completeness; it changes borders only.
        antialias: Whether a shrinking filter is stretched by the shrinking factor.

    Returns:
        Taps whose weights sum to 1 in every phase.

    Raises:
        ParameterError: If a size is not positive, or a name or scale is not known.
        TooManyTaps: If there are more than :data:`MAX_TAPS` of them, over all phases.
    """
    if size_in < 1 or size_out < 1:
        raise ParameterError(f"sizes (={size_in}, {size_out}) must be at least 1; check the input shapes")
    if mode not in ("nearest", "nearest_exact", "linear", "cubic", "area"):
        raise ParameterError(f"mode (={mode!r}) must be nearest, nearest_exact, linear, cubic or area")
    if coordinate not in _COORDINATES:
        raise ParameterError(f"coordinate (={coordinate!r}) must be one of {', '.join(_COORDINATES)}")
    if nearest not in _ROUNDING:
        raise ParameterError(f"nearest (={nearest!r}) must be one of {', '.join(_ROUNDING)}")
    if mode == "area":
        return adaptive_average(size_in, size_out)
    if mode == "nearest_exact":
        coordinate, nearest = "half_pixel", "round_prefer_ceil"
    if size_in == 1:
        _bounded(size_out, 1, size_in, size_out)
        return AxisResize(size_out, 1, (((0, 1.0),),) * size_out)
    step, start = _COORDINATES[coordinate](size_in, size_out, _step(size_in, size_out, scale))
    stretch = max(step, Fraction(1)) if antialias else Fraction(1)
    window = 1 if mode not in _FILTERS else 2 * ceil(_FILTERS[mode][1] * stretch)
    _bounded(step.denominator, window, size_in, size_out)
    phases = (step * r + start for r in range(step.denominator))
    if mode in ("nearest", "nearest_exact"):
        choose = _ROUNDING[nearest]
        return AxisResize(step.denominator, step.numerator, tuple(((choose(u), 1.0),) for u in phases))
    a = Fraction(cubic_a).limit_denominator(LARGEST_DENOMINATOR)
    return AxisResize(step.denominator, step.numerator, tuple(_filtered(u, mode, a, stretch) for u in phases))


def _step(size_in: int, size_out: int, scale: float | Fraction | None) -> Fraction:
    if scale is None:
        return Fraction(size_in, size_out)
    if not 0.0 < float(scale) < float("inf"):
        raise ParameterError(f"scale (={scale}) must be a positive number")
    # A scale that rounding made from the two sizes means the ratio of the sizes.
    if abs(float(scale * size_in) - size_out) <= 1e-5 * size_out:
        return Fraction(size_in, size_out)
    exact = Fraction(scale)
    if exact.numerator >= exact.denominator:
        return 1 / exact.limit_denominator(LARGEST_DENOMINATOR)
    return (1 / exact).limit_denominator(LARGEST_DENOMINATOR)


def _filtered(u: Fraction, mode: str, a: Fraction, stretch: Fraction) -> tuple[tuple[int, float], ...]:
    kernel, radius = _FILTERS[mode]
    positions = range(floor(u - radius * stretch), ceil(u + radius * stretch) + 1)
    weights = {j: kernel((j - u) / stretch, a) for j in positions}
    total = sum(weights.values(), Fraction(0))
    return tuple((j, float(w / total)) for j, w in weights.items() if w)


def adaptive_average(size_in: int, size_out: int) -> AxisResize:
    """Adaptive average pooling, which is also ``interpolate(mode="area")``.

    Output ``n`` is the mean of inputs ``floor(n A)`` to ``ceil((n + 1) A) - 1`` with ``A = size_in / size_out``.

    Args:
        size_in: Samples before.
        size_out: Samples after.

    Raises:
        TooManyTaps: If there are more than :data:`MAX_TAPS` of them, over all phases.
    """
    step = Fraction(size_in, size_out)
    _bounded(step.denominator, ceil(step) + 1, size_in, size_out)
    taps = []
    for r in range(step.denominator):
        window = range(floor(r * step), ceil((r + 1) * step))
        taps.append(tuple((j, 1.0 / len(window)) for j in window))
    return AxisResize(step.denominator, step.numerator, tuple(taps))
