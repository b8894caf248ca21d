"""The picture statistic a second time: whole planes in double precision, sums written out, scipy's tails."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

PAD = 24  # more than any plane looks beyond the borders
BLUE_RED = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # BT.601


# ---------------------------------------------------------------- pictures


def texture(rng: np.random.Generator, shape: tuple[int, ...], slope: float = 1.0) -> Array:
    """Noise with a 1 / f ** slope spectrum whose contrast varies over the picture, with a little white noise."""
    height, width = shape[:2]
    f = np.hypot(np.fft.fftfreq(2 * height)[:, None], np.fft.fftfreq(2 * width)[None])
    f[0, 0] = 1.0

    def noise(power: float) -> Array:
        spectrum = np.fft.fft2(rng.standard_normal((2 * height, 2 * width))) / f**power
        found = np.fft.ifft2(spectrum).real[:height, :width]  # half of a torus: its borders do not meet
        return (found - found.mean()) / found.std()

    contrast = np.exp(0.8 * noise(1.5))
    channels = [128 + 15 * contrast * noise(slope) + rng.standard_normal((height, width)) for _ in range(3)]
    return np.clip(np.stack(channels, -1) if len(shape) == 3 else channels[0], 8, 247)  # room for patterns


def cosine(shape: tuple[int, ...], period: int, line: tuple[int, int], phase: float = 0.0) -> Array:
    """``cos(2 pi (a y + b x) / period + phase)``."""
    y, x = np.indices(shape[:2])
    return np.cos(2 * np.pi * (line[0] * y + line[1] * x) / period + phase)


# ---------------------------------------------------------------- planes


def luma(pixels: NDArray[np.generic]) -> Array:
    grey = np.asarray(pixels, np.float64)
    return grey if grey.ndim == 2 else 0.299 * grey[..., 0] + 0.587 * grey[..., 1] + 0.114 * grey[..., 2]


def residual(plane: Array) -> Array:
    """``x - B * x`` pixel by pixel; two pixels less along each side."""
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    out = np.empty((plane.shape[0] - 2, plane.shape[1] - 2))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = plane[i + 1, j + 1] - (kernel * plane[i : i + 3, j : j + 3]).sum()
    return out


def box(plane: Array, width: int) -> Array:
    """Means over squares that are known wholly."""
    return sliding_window_view(plane, (width, width)).mean((2, 3))


def middle(plane: Array, shape: tuple[int, ...]) -> Array:
    rows, columns = ((have - want) // 2 for have, want in zip(plane.shape, shape, strict=True))
    return plane[rows : rows + shape[0], columns : columns + shape[1]]


def planes(pixels: NDArray[np.generic]) -> dict[str, Array]:
    """All planes of a picture that is mirrored far beyond its borders, by name; weights as ``name weight``."""
    grey = np.asarray(pixels, np.float64)
    shape = grey.shape[:2]
    gain, strength = (min(n, max(3, min(shape) // 5 // 2 * 2 + 1)) for n in (7, 9))
    wide = np.pad(grey, [(PAD, PAD), (PAD, PAD)] + [(0, 0)] * (grey.ndim - 2), mode="reflect")

    found: dict[str, Array] = {}

    def add_mean(name: str, r: Array) -> None:
        s = 1.25 * box(box(np.abs(r), gain), 3) + 1
        z = np.clip(middle(r, s.shape) / s, -3, 3)
        found[name], found[f"{name} weight"] = middle(z, shape), middle(1 / s, shape)
        found[f"{name} residual"] = middle(r, shape)

    x = luma(wide)
    r = residual(x)
    add_mean("mean", r)
    found["content"] = found["mean weight"] * (middle(box(x, strength), shape) / 64 - 2)
    centre = x[1:-1, 1:-1]
    second = [x[1:-1, 2:] - 2 * centre + x[1:-1, :-2], x[2:, 1:-1] - 2 * centre + x[:-2, 1:-1]]
    details = np.abs(r) + sum(np.abs(d) for d in second) / 4
    local = box(box(details, strength), 3) + 2
    e = np.minimum(middle(details, local.shape) / local, 4)
    around = box(e, strength)
    found["variance"] = middle(middle(e, around.shape) - around, shape)
    for name, d in (("along", x[1:-1, 2:] - centre), ("down", x[2:, 1:-1] - centre)):
        energy = np.log(d**2 + 1)
        around = box(energy, strength)
        found[name] = middle(middle(energy, around.shape) - around, shape)
    if grey.ndim == 3:
        for name, weights in zip(("blue", "red"), BLUE_RED, strict=True):
            add_mean(name, residual(wide @ weights))
    return found


# ---------------------------------------------------------------- lines


def new_lines(period: int) -> set[frozenset[tuple[int, int]]]:
    """Pairs of conjugate frequencies that a period has and no divisor of it."""
    return {
        frozenset({(a, b), (-a % period, -b % period)})
        for a in range(period)
        for b in range(period)
        if gcd(a, b, period) == 1
    }


def count_of_new_lines(period: int) -> int:
    """Jordan's totient of order two counts frequencies; all but those of period 2 have a distinct conjugate."""
    primes = [q for q in range(2, period + 1) if period % q == 0 and all(q % d for d in range(2, q))]
    total = period**2
    for q in primes:
        total = total * (q * q - 1) // (q * q)
    return total if period == 2 else total // 2


def tapered_sum(plane: Array, down: Array, along: Array, line: tuple[int, int], period: int) -> NDArray[np.complex128]:
    """``sum z v_j(y) v_k(x) exp(-2 pi i (a y + b x) / p)`` for every pair of tapers."""
    y, x = np.indices(plane.shape)
    turned = plane * np.exp(-2j * np.pi * (line[0] * y + line[1] * x) / period)
    return np.array([[(turned * np.outer(v, w)).sum() for w in along] for v in down])


def line_log_p(y: NDArray[np.complex128], steering: list[Array], real: bool) -> float:
    """Thomson's F: mean power in the span of the steering's directions over that of what is left by least squares."""
    directions, values = np.stack([g.ravel() for g in steering], 1), y.ravel()
    fitted = directions @ np.linalg.lstsq(directions, values, rcond=None)[0]
    c = 1 if real else 2  # degrees of freedom of one coefficient
    q, others = directions.shape[1], values.size - directions.shape[1]
    ratio = (np.abs(fitted) ** 2).sum() / q / ((np.abs(values - fitted) ** 2).sum() / others)
    return float(stats.f.logsf(ratio, c * q, c * others))
