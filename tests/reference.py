"""Naive second implementations: loops, explicit matrices, brute force. Numpy only, nothing of evenly.

Fields are ``(channels, *sizes)`` on a canvas with borders, or ``(channels, *cell)`` on a torus. Kernels have the layout
of PyTorch: ``(C_out, C_in / groups, *k)`` for convolutions, ``(C_in, C_out / groups, *k)`` for transposed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from math import lcm, prod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


# ---------------------------------------------------------------- counting


def writers(size: int, k: int, s: int, p: int = 0, d: int = 1, a: int = 0) -> list[int]:
    """How often each output of a transposed convolution is written, by doing it."""
    written = [0] * (s * (size - 1) + d * (k - 1) + 1 + a - 2 * p)
    for i in range(size):
        for t in range(k):
            n = s * i + d * t - p
            if 0 <= n < len(written):
                written[n] += 1
    return written


def readers(size: int, k: int, s: int, p: int = 0, d: int = 1) -> list[int]:
    """How often each input of a convolution is read, by doing it."""
    read = [0] * size
    n = 0
    while s * n + d * (k - 1) - p <= size + p - 1:
        for t in range(k):
            m = s * n + d * t - p
            if 0 <= m < size:
                read[m] += 1
        n += 1
    return read


def interior_counts(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Array:
    """Writers of every interior phase in n-D, by writing a canvas and looking at its middle; no padding."""
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    sizes = [2 * (r // s + 1) + 2 for r, s in zip(reach, stride, strict=True)]
    canvas = np.zeros([s * (n - 1) + r + 1 for s, n, r in zip(stride, sizes, reach, strict=True)])
    for i in product(*map(range, sizes)):
        for t in product(*map(range, kernel)):
            canvas[tuple(s * x + d * y for s, x, d, y in zip(stride, i, dilation, t, strict=True))] += 1
    start = [s * (r // s + 1) for s, r in zip(stride, reach, strict=True)]  # a multiple of the stride past the border
    return canvas[tuple(slice(b, b + s) for b, s in zip(start, stride, strict=True))]


# ---------------------------------------------------------------- layers on a canvas, borders included


def conv(
    x: Array,
    w: Array,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int = 1,
) -> Array:
    """``y[n] = sum_t W[t] x[s n + d t - p]``, zeros outside."""
    padded = np.pad(x, [(0, 0), *padding])
    kernel = w.shape[2:]
    sizes = [
        (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded.shape[1:], kernel, stride, dilation, strict=True)
    ]
    y = np.zeros((len(w), *sizes))
    rows, columns = len(w) // groups, w.shape[1]
    for t in product(*map(range, kernel)):
        places = [
            slice(d * u, d * u + s * (n - 1) + 1, s) for d, u, s, n in zip(dilation, t, stride, sizes, strict=True)
        ]
        read = padded[(slice(None), *places)]
        for g in range(groups):
            part = w[(slice(g * rows, (g + 1) * rows), slice(None), *t)]
            y[g * rows : (g + 1) * rows] += np.tensordot(part, read[g * columns : (g + 1) * columns], 1)
    return y


def conv_transpose(
    x: Array,
    w: Array,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int = 1,
) -> Array:
    """Input ``i`` adds ``W[t] x[i]`` to output ``s i + d t - p``; a negative ``after`` adds positions at the end."""
    kernel = w.shape[2:]
    sizes = x.shape[1:]
    full = [s * (n - 1) + d * (k - 1) + 1 for s, n, d, k in zip(stride, sizes, dilation, kernel, strict=True)]
    y = np.zeros((w.shape[1] * groups, *full))
    rows, columns = len(w) // groups, w.shape[1]
    for t in product(*map(range, kernel)):
        places = [
            slice(d * u, d * u + s * (n - 1) + 1, s) for d, u, s, n in zip(dilation, t, stride, sizes, strict=True)
        ]
        for g in range(groups):
            part = w[(slice(g * rows, (g + 1) * rows), slice(None), *t)]
            y[(slice(g * columns, (g + 1) * columns), *places)] += np.tensordot(part.T, x[g * rows : (g + 1) * rows], 1)
    y = np.pad(y, [(0, 0), *((0, max(0, -after)) for _, after in padding)])
    cuts = [slice(before, n - max(0, after)) for n, (before, after) in zip(y.shape[1:], padding, strict=True)]
    return y[(slice(None), *cuts)]


def pixel_shuffle(x: Array, factor: Sequence[int]) -> Array:
    """Position by position: ``y[c, r n + q] = x[c prod(r) + rank(q), n]``."""
    phases = list(product(*map(range, factor)))
    y = np.zeros((len(x) // len(phases), *(r * n for r, n in zip(factor, x.shape[1:], strict=True))))
    for c in range(len(y)):
        for rank, q in enumerate(phases):
            y[(c, *(slice(o, None, r) for o, r in zip(q, factor, strict=True)))] = x[c * len(phases) + rank]
    return y


def repeat(x: Array, factor: Sequence[int]) -> Array:
    """Nearest-neighbour resize."""
    for axis, r in enumerate(factor):
        x = np.repeat(x, r, 1 + axis)
    return x


# ---------------------------------------------------------------- layers on a torus


def torus_conv(x: Array, w: Array, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> Array:
    """Circular convolution: shift, multiply, add; the cell is repeated until the stride divides it."""
    axes = tuple(range(1, x.ndim))
    x = np.tile(x, (1, *(lcm(n, s) // n for n, s in zip(x.shape[1:], stride, strict=True))))
    y = np.zeros((len(w), *x.shape[1:]))
    for t in product(*map(range, w.shape[2:])):
        shift = [p - d * u for p, d, u in zip(padding, dilation, t, strict=True)]
        y += np.tensordot(w[(slice(None), slice(None), *t)], np.roll(x, shift, axes), 1)
    return y[(slice(None), *(slice(None, None, s) for s in stride))]


def torus_conv_transpose(
    x: Array, w: Array, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Array:
    """Zeros between the samples, then shifted copies."""
    axes = tuple(range(1, x.ndim))
    wide = np.zeros((len(x), *(n * s for n, s in zip(x.shape[1:], stride, strict=True))))
    wide[(slice(None), *(slice(None, None, s) for s in stride))] = x
    y = np.zeros((w.shape[1], *wide.shape[1:]))
    for t in product(*map(range, w.shape[2:])):
        shift = [d * u - p for p, d, u in zip(padding, dilation, t, strict=True)]
        y += np.tensordot(w[(slice(None), slice(None), *t)].T, np.roll(wide, shift, axes), 1)
    return y


# ---------------------------------------------------------------- layers as matrices on a canvas


def tap_matrices(size: int, k: int, s: int, p: int, d: int, transposed: bool = False) -> list[Array]:
    """One matrix per tap of one axis: the layer whose only weight is a one at that tap."""
    if transposed:
        outputs = s * (size - 1) + d * (k - 1) + 1 - 2 * p
        return [m.T for m in tap_matrices(outputs, k, s, p, d)]
    outputs = (size + 2 * p - d * (k - 1) - 1) // s + 1
    made = []
    for t in range(k):
        matrix = np.zeros((outputs, size))
        for n in range(outputs):
            m = s * n + d * t - p
            if 0 <= m < size:
                matrix[n, m] = 1
        made.append(matrix)
    return made


def in_space(per_axis: Sequence[Sequence[Array]]) -> list[Array]:
    """Kronecker products: matrices on the flattened n-D canvas, one per n-D tap."""
    return [reduce(np.kron, chosen) for chosen in product(*per_axis)]


def random_layer(moments: Array, taps: Sequence[Array]) -> Array:
    """``E[y y^T]`` of ``y = sum_t w_t A_t x`` with independent ``w_t`` of variance 1: ``sum_t A_t E[x x^T] A_t^T``."""
    return np.sum([a @ moments @ a.T for a in taps], 0)


def fixed_layer(moments: Array, taps: Sequence[Array], weights: Sequence[float]) -> Array:
    """``E[y y^T]`` of ``y = sum_t h_t A_t x`` with fixed ``h_t``."""
    matrix = np.sum([h * a for h, a in zip(weights, taps, strict=True)], 0)
    return np.asarray(matrix @ moments @ matrix.T)


# ---------------------------------------------------------------- expectations and frequencies


def expectation(
    f: Function,
    mean_f: float,
    sigma_f: float,
    g: Function,
    mean_g: float,
    sigma_g: float,
    rho: float,
    points: int = 901,
) -> float:
    """``E[f(u) g(v)]`` by adding up a fine grid of the joint density."""
    z = np.linspace(-8.5, 8.5, points)
    density = np.exp(-(z**2) / 2)
    density /= density.sum()
    inner = g(mean_g + sigma_g * (rho * z[:, None] + np.sqrt(1 - rho**2) * z)) @ density  # over the second variable
    return float((f(mean_f + sigma_f * z) * inner) @ density)


def frequencies(x: Array, tolerance: float = 1e-9) -> NDArray[np.bool_]:
    """Which frequencies of the cell any channel holds."""
    power = np.abs(np.fft.fftn(x, axes=tuple(range(1, x.ndim)))).max(0)
    return np.asarray(power > tolerance * power.max())


def closure(support: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All sums and differences of the frequencies of a support, again and again."""
    have = {tuple(map(int, i)) for i in np.argwhere(support)}
    while True:
        more = {
            tuple((x + sign * y) % n for x, y, n in zip(a, b, support.shape, strict=True))
            for a in have
            for b in have
            for sign in (1, -1)
        }
        if more <= have:
            break
        have |= more
    made = np.zeros_like(support)
    for i in have:
        made[i] = True
    return made


def same_frequencies(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> bool:
    """Whether two supports on different cells hold the same frequencies, as fractions."""
    cell = [lcm(x, y) for x, y in zip(a.shape, b.shape, strict=True)]

    def fractions(support: NDArray[np.bool_]) -> set[tuple[int, ...]]:
        return {
            tuple(int(i) * c // n for i, c, n in zip(place, cell, support.shape, strict=True))
            for place in np.argwhere(support)
        }

    return fractions(a) == fractions(b)


def ac_fraction(samples: Array) -> float:
    """Share of the power that is not constant: ``samples`` is ``(draws, *cell)``."""
    axes = tuple(range(1, samples.ndim))
    return float(1 - (samples.mean(axes) ** 2).mean() / (samples**2).mean())


def line_decibels(x: Array, skip: Sequence[int], period: Sequence[int]) -> dict[int, float]:
    """Energy per period relative to the constant, from a whole number of periods in the middle of a canvas."""
    window = x[(slice(None), *(slice(b, b + p) for b, p in zip(skip, period, strict=True)))]
    lines = np.zeros((len(x), *period), complex)
    places = list(product(*map(range, period)))
    for f in places:
        for n in places:
            turn = sum(a * b / p for a, b, p in zip(f, n, period, strict=True))
            lines[(slice(None), *f)] += window[(slice(None), *n)] * np.exp(-2j * np.pi * turn) / prod(period)
    energy: dict[int, float] = {}
    for f in places:
        own = lcm(*(p // np.gcd(a, p) for a, p in zip(f, period, strict=True)))
        energy[int(own)] = energy.get(int(own), 0.0) + float((np.abs(lines[(slice(None), *f)]) ** 2).sum())
    constant = energy.pop(1)
    return {p: 10 * float(np.log10(e / constant)) for p, e in energy.items()}
