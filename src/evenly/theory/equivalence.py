"""One up-sampling layer as another: what weights and borders it has then, exactly or as near as can be, in numpy.

**Fold.** Interpolation by a whole factor ``s`` with the FIR ``h`` and a convolution ``w`` after it are one transposed
convolution of kernel ``f = F w`` (docs/theory.md, section 3; Odena, Dumoulin & Olah 2016 describe the relation).

**Unfold.** The resize-convolution nearest to a transposed convolution's kernel ``f`` is ``w = F^+ f``, separable over
the axes and the same small matrix for every pair of channels.

**Sub-pixel form.** With ``f`` the kernel of a transposed convolution, spread by its dilation, ``y[n] = sum_i x[i]
f[n + p - s i]``. For any whole ``q`` let ``n = s m + r - c`` with ``c = p - s q``: then ``y[n]`` is channel ``r`` at
``m`` of a convolution with ``K = ceil(len f / s)`` taps ``W_r[j] = f[s (K - 1 - j) + r]`` and padding ``P = K - 1 - q``
(docs/theory.md, *Phases and the DC condition*). So the transposed convolution is the sub-pixel convolution of kernel
``W``, cropped by ``c`` samples at the start; the largest ``q`` for which enough is left at the end needs least padding.
Sizes and places are exactly equal, for every input size; the function too, until the phases are made equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import floor

import numpy as np
from numpy.typing import NDArray

from evenly.theory.balance import balancing_projection, subpixel_places

__all__ = [
    "Fit",
    "Kernel",
    "SubpixelAxis",
    "balanced_phases",
    "fit",
    "fold_axis",
    "folded_weight",
    "nearest_interpolation",
    "subpixel_axis",
    "subpixel_weight",
    "unfolded_weight",
    "used_taps",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """The FIR of an interpolation by a whole factor along one axis.

    Attributes:
        scale: The factor ``s``, in output samples per input sample.
        taps: ``h``; each phase ``h[r::s]`` sums to 1.
        origin: ``y[n] = sum_i h[n - s*i + origin] * x[i]``.
    """

    scale: int
    taps: tuple[float, ...]
    origin: int

    @property
    def smoothing(self) -> tuple[float, ...]:
        """``g`` with ``ones(s) * g = h``; ``(1.0,)`` for nearest."""
        quotient, rest = np.polydiv(np.array(self.taps), np.ones(self.scale))
        assert np.abs(rest).max() < 1e-9
        return tuple(float(v) for v in np.atleast_1d(quotient))


def nearest_interpolation(scale: int) -> Kernel:
    """Every sample ``scale`` times."""
    return Kernel(scale, (1.0,) * scale, 0)


# ---- fold ------------------------------------------------------------------------------------------------------------


def fold_axis(taps: Sequence[float], size: int, dilation: int) -> Array:
    """The fold's matrix of one axis, ``f = F w``.

    Args:
        taps: ``h``.
        size: Taps of the convolution.
        dilation: Their distance.

    Returns:
        ``(d (size - 1) + len(h), size)``.
    """
    one = np.zeros((dilation * (size - 1) + len(taps), size))
    for t in range(size):
        start = dilation * (size - 1 - t)
        one[start : start + len(taps), t] = taps
    return one


def folded_weight(weight: NDArray[np.floating], scale: Sequence[int], dilation: Sequence[int], groups: int) -> Array:
    """The kernel of the transposed convolution that repeats samples ``s`` times and convolves.

    Args:
        weight: ``(C_out, C_in / groups, *k)`` of the convolution.
        scale: ``s`` per axis.
        dilation: Per axis.
        groups: Of the convolution.

    Returns:
        ``(C_in, C_out / groups, *(d (k - 1) + s))``.
    """
    axes = zip(nearest_kernels(scale), weight.shape[2:], dilation, strict=True)
    matrices = [fold_axis(h.taps, k, d) for h, k, d in axes]
    outputs, inputs, *_ = weight.shape
    grouped = weight.astype(np.float64).reshape(groups, outputs // groups, inputs, -1).swapaxes(1, 2)
    kernel = grouped @ _kron(matrices).T
    return kernel.reshape(groups * inputs, outputs // groups, *(len(m) for m in matrices))


def nearest_kernels(scale: Sequence[int]) -> tuple[Kernel, ...]:
    """One per axis."""
    return tuple(nearest_interpolation(s) for s in scale)


def _kron(matrices: Sequence[Array]) -> Array:
    return reduce(lambda a, b: np.asarray(np.kron(a, b)), matrices, np.ones((1, 1)))


# ---- unfold ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """One axis of a transposed convolution and of the resize-convolution that takes its place.

    Attributes:
        kernel: Of the interpolation.
        size: Taps of the convolution.
        dilation: Their distance.
        pad: Samples (before, after) around the interpolated signal; negative ones crop.
        shift: Where the fold begins on the lattice of the transposed convolution's taps.
        taps: How many of these there are (without zeros at both ends).
        distance: Between them.
    """

    kernel: Kernel
    size: int
    dilation: int
    pad: tuple[int, int]
    shift: int
    taps: int
    distance: int


def fit(
    kernel: Kernel, k: int, p: int, d: int, a: int, support: tuple[int, int], size: int | None, smallest: bool
) -> Fit:
    """The geometry with equal output sizes and, as far as whole samples allow, equal centres.

    Without a ``size``, the fewest taps that cover the support with nearest neighbour, ``span - s + 1``; other
    interpolations, which are longer, get as many: fewer would leave them little to fit with.

    Args:
        kernel: Of the interpolation.
        k: Kernel size of the transposed convolution.
        p: What it cuts at the start.
        d: Its dilation.
        a: Its output padding; with another cut at the end, what is cut less there than at the start.
        support: Its taps (first, last + 1) that are not zero.
        size: Taps of the resize-convolution.
        smallest: Whether no tap may be added to make the centres agree.
    """
    s, first, taps = kernel.scale, support[0], support[1] - support[0]
    span = d * (taps - 1) + 1
    dilation, needed = (d, taps) if s == 1 else (1, max(1, span - s + 1))
    h = np.array(kernel.taps)
    centre = float(np.arange(len(h)) @ h / h.sum())

    def offset(n: int) -> float:
        return (span - 1) / 2 - centre - dilation * (n - 1) / 2

    n = needed if size is None else size
    if size is None and not smallest and abs(offset(n) % 1 - 0.5) < 1e-6:
        n += 1  # one tap more and the centres agree
    shift = floor(offset(n) + 0.5 + 1e-9)
    before = dilation * (n - 1) + kernel.origin - (p - d * first - shift)
    growth = d * (k - 1) + 1 + a - 2 * p - s
    return Fit(kernel, n, dilation, (before, growth + dilation * (n - 1) - before), shift, taps, d)


@lru_cache(maxsize=256)
def _matrices(kernel: Kernel, size: int, dilation: int, shift: int, taps: int, distance: int) -> tuple[Array, ...]:
    """On the union of both supports: the fold ``(U, n)``, the kernel's places ``(U, k)``, and the fit ``(n, k)``."""
    fold = fold_axis(kernel.taps, size, dilation)
    start = min(0, shift)
    stop = max(distance * (taps - 1) + 1, shift + len(fold))
    wide = np.zeros((stop - start, size))
    wide[shift - start : shift - start + len(fold)] = fold
    places = np.zeros((stop - start, taps))
    places[distance * np.arange(taps) - start, np.arange(taps)] = 1
    return wide, places, np.linalg.pinv(wide) @ places


def used_taps(weight: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Per axis, the taps (first, last + 1) outside of which all are exactly 0."""
    found = []
    for axis in range(2, weight.ndim):
        used = np.flatnonzero((weight != 0).any(tuple(d for d in range(weight.ndim) if d != axis)))
        found.append((int(used[0]), int(used[-1]) + 1) if used.size else (0, weight.shape[axis]))
    return found


def unfolded_weight(
    weight: NDArray[np.floating], groups: int, fits: Sequence[Fit], support: Sequence[tuple[int, int]]
) -> tuple[Array, float]:
    """The resize-convolution of a geometry whose fold is nearest to a transposed convolution's kernel.

    Args:
        weight: ``(C_in, C_out / groups, *k)``.
        groups: Of channels.
        fits: One per axis.
        support: Its taps that are not zero, from :func:`used_taps`.

    Returns:
        ``(C_out, C_in / groups, *size)``, and ``|F w - f| / |f|`` (ratio, Frobenius norm; 0 for a kernel of zeros).
    """
    parts = [_matrices(f.kernel, f.size, f.dilation, f.shift, f.taps, f.distance) for f in fits]
    wide, places, solve = (_kron(m) for m in zip(*parts, strict=True))
    c_in, width = weight.shape[:2]
    inside = weight[(slice(None), slice(None), *(slice(*used) for used in support))]
    wanted = inside.astype(np.float64).reshape(c_in * width, -1)  # (pairs of channels, taps)
    fitted = wanted @ solve.T  # (pairs of channels, n)
    size = float(np.linalg.norm(wanted))
    residual = float(np.linalg.norm(fitted @ wide.T - wanted @ places.T)) / size if size else 0.0
    by_group = fitted.reshape(groups, c_in // groups, width, -1).swapaxes(1, 2)
    return by_group.reshape(groups * width, c_in // groups, *(f.size for f in fits)), residual


# ---- sub-pixel -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SubpixelAxis:
    """One axis of the sub-pixel convolution: its taps, their distance, its padding; the crop behind the shuffle."""

    kernel: int
    dilation: int
    padding: int
    crop: tuple[int, int]


def subpixel_axis(k: int, s: int, p: int, d: int, a: int) -> SubpixelAxis:
    """See the text of the module; an axis of stride 1 keeps its taps and their distance.

    Args:
        k: Kernel size of the transposed convolution.
        s: Its stride.
        p: What it cuts at the start.
        d: Its dilation.
        a: Its output padding; with another cut at the end, what is cut less there than at the start.
    """
    span = d * (k - 1) + 1
    blocks = -(-span // s)
    q = min(p // s, blocks - 1, (s * blocks - span - a + p) // s)
    start, padding = p - s * q, blocks - 1 - q
    # size before the crop, s (n + 2 P - K + 1), less the size of the transposed convolution
    spare = s * (2 * padding - blocks + 2) - (span + a - 2 * p)
    kernel, dilation = (k, d) if s == 1 else (blocks, 1)
    return SubpixelAxis(kernel, dilation, padding, (start, spare - start))


def subpixel_weight(
    weight: NDArray[np.floating], stride: Sequence[int], dilation: Sequence[int], groups: int
) -> NDArray[np.floating]:
    """The kernel of a transposed convolution as that of the sub-pixel convolution which is the same function.

    Args:
        weight: ``(C_in, C_out / groups, *k)``.
        stride: ``s`` per axis.
        dilation: Per axis.
        groups: Of channels.

    Returns:
        ``(C_out * prod(s), C_in / groups, *K)``, output channels ordered ``(C_out, *s)``.
    """
    c_in, width, *kernel = weight.shape
    sizes: list[int] = []
    shape: list[int] = []
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        taps = k if s == 1 else -(-(d * (k - 1) + 1) // s)
        if s > 1:
            weight = _spread(weight, i, d, s * taps)
        sizes.append(taps)
        shape += [taps, s]
    dims = len(kernel)
    split = np.flip(weight.reshape(c_in, width, *shape), tuple(2 + 2 * i for i in range(dims)))
    split = split.reshape(groups, c_in // groups, width, *shape)
    order = [0, 2, *range(4, 4 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2)]
    made: NDArray[np.floating] = split.transpose(order).reshape(-1, c_in // groups, *sizes)
    return made


def _spread(weight: NDArray[np.floating], axis: int, dilation: int, taps: int) -> NDArray[np.floating]:
    """Zeros between the taps and behind them."""
    shape = list(weight.shape)
    shape[axis] = taps
    spread = np.zeros(shape, weight.dtype)
    place = [slice(None)] * weight.ndim
    place[axis] = slice(0, dilation * (weight.shape[axis] - 1) + 1, dilation)
    spread[tuple(place)] = weight
    return spread


def balanced_phases(weight: NDArray[np.floating], factor: Sequence[int], dilation: Sequence[int]) -> Array:
    """The sub-pixel convolution of equal phase gains nearest to another one.

    Args:
        weight: ``(C * prod(factor), C_in / groups, *k)``, output channels ordered ``(C, *factor)``.
        factor: Of the shuffle, per axis.
        dilation: Per axis.

    Raises:
        ParameterError: If no such kernel has a DC gain.
    """
    kernel = weight.shape[2:]
    dims = len(kernel)
    projection = balancing_projection(subpixel_places(kernel, factor, dilation), factor)
    split = weight.astype(np.float64).reshape(-1, *factor, *weight.shape[1:])
    order = (0, 1 + dims, *(d for axis in range(dims) for d in (1 + axis, 2 + dims + axis)))  # (C, C_in, r, o, ...)
    turned = split.transpose(order)
    mixed = (turned.reshape(*turned.shape[:2], -1) @ projection).reshape(turned.shape)
    return mixed.transpose(np.argsort(order)).reshape(weight.shape)
