"""Which spatial frequencies a field can contain: the composition laws of periods, exactly.

A support is a boolean array over the frequencies ``(a/P_0, b/P_1, ...)`` of a period cell. ``True`` means "may be
present"; frequency 0 always may. A constant has the support ``[True]``. Linear layers move, copy and remove
frequencies; anything non-linear spreads them to all sums and differences (the generated subgroup). The smallest cell
that holds the support is the field's period.

For generic weights this gives the laws: transposed convolution by ``s``: ``P -> s P``; resize by ``a/b``:
``P -> lcm(P, b) a / b``, except that a constant stays constant; strided convolution: ``P -> lcm(P, s) / s``; joins:
``lcm``. With actual weights a layer also removes the frequencies at which its response vanishes: an all-ones kernel of
size ``k`` removes exactly the periods that divide ``k`` (Odena et al. 2016, on stride-1 deconvolutions).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, lcm, prod

import numpy as np
from numpy.typing import NDArray

from evenly.theory.torus import conv_cell

__all__ = [
    "MAX_CELL",
    "ZERO",
    "combine",
    "constant",
    "downsample",
    "everything",
    "generated",
    "is_constant",
    "period",
    "present",
    "through_matrix",
    "upsample",
]

Support = NDArray[np.bool_]

ZERO = 1e-5  # a response below this share of the DC response counts as zero: float32 weights cannot do much better
MAX_CELL = 2**22  # positions of the largest period cell that is analysed


def constant(axes: int) -> Support:
    """The support of a constant."""
    return np.ones((1,) * axes, np.bool_)


def everything(cell: Sequence[int]) -> Support:
    """Every frequency of a cell."""
    return np.ones(tuple(cell), np.bool_)


def is_constant(support: Support) -> bool:
    """Whether only frequency 0 may be present."""
    return not support.any(where=_nonzero(support.shape))


def period(support: Support) -> tuple[int, ...]:
    """The smallest period per axis that holds every present frequency."""
    result = []
    for axis, size in enumerate(support.shape):
        others = tuple(a for a in range(support.ndim) if a != axis)
        indices = np.flatnonzero(support.any(axis=others) if others else support)
        result.append(size // gcd(size, *map(int, indices)))
    return tuple(result)


def _shrink(support: Support) -> Support:
    """The same frequencies on the smallest cell."""
    smallest = period(support)
    steps = tuple(slice(None, None, size // p) for size, p in zip(support.shape, smallest, strict=True))
    return np.array(support[steps])  # never fewer axes: ascontiguousarray would make a point a line


def _grow(support: Support, cell: Sequence[int]) -> Support:
    grown = np.zeros(tuple(cell), np.bool_)
    grown[tuple(slice(None, None, c // p) for c, p in zip(cell, support.shape, strict=True))] = support
    return grown


def combine(supports: Sequence[Support]) -> Support:
    """What a sum or a concatenation of fields may contain: the union."""
    if len(supports) == 1:
        return supports[0]
    cell = tuple(lcm(*sizes) for sizes in zip(*(s.shape for s in supports), strict=True))
    union = np.zeros(cell, np.bool_)
    for support in supports:
        union |= _grow(support, cell)
    return union


def generated(support: Support) -> Support:
    """What a pointwise non-linear function may contain: all sums and differences of the present frequencies."""
    if support.all() or is_constant(support):
        return _shrink(support)
    current = support.astype(np.float64)
    axes = tuple(range(support.ndim))
    while True:
        wave = np.fft.rfftn(current, axes=axes)
        mirrored = np.roll(np.flip(current, axes), 1, axes)
        sums = np.fft.irfftn(wave * np.fft.rfftn(current + mirrored, axes=axes), s=current.shape, axes=axes)
        spread = ((sums > 0.5) | (current > 0.5)).astype(np.float64)
        if spread.sum() == current.sum():
            return _shrink(spread > 0.5)
        current = spread


def present(weight: NDArray[np.float64], taps: NDArray[np.int64], support: Support) -> Support:
    """Where a filter's frequency response does not vanish, among the frequencies of a support.

    Args:
        weight: ``(channel pairs, taps)``.
        taps: ``(taps, axes)``: positions of the taps, in samples of the lattice that the support lives on.
        support: Frequencies to test.

    Returns:
        The support without the frequencies whose response (Frobenius norm over the channels) is below :data:`ZERO` of
        the response at frequency 0.
    """
    cell = support.shape
    axes = tuple(range(1, 1 + len(cell)))
    places = np.asarray(taps, np.int64)
    if len(places) ** 2 <= len(weight) * support.size:
        # ||W(f)||^2 is the Fourier transform of the taps' products summed over tap pairs of equal distance
        lags = (places[:, None] - places[None, :]) % np.array(cell)
        correlation = np.zeros(cell)
        np.add.at(correlation, tuple(np.moveaxis(lags, -1, 0)), weight.T @ weight)
        power = np.fft.fftn(correlation).real
    else:
        folded = np.zeros((len(weight), *cell))
        np.add.at(folded, (slice(None), *np.moveaxis(places % np.array(cell), -1, 0)), weight)
        power = (np.abs(np.fft.fftn(folded, axes=axes)) ** 2).sum(0)
    reference = float(power[(0,) * len(cell)])
    if reference <= ZERO**2 * float((weight**2).sum()):
        reference = float((weight**2).sum())
    kept: Support = support & (power > ZERO**2 * reference)
    kept[(0,) * len(cell)] = True
    return kept


def upsample(support: Support, stride: Sequence[int]) -> Support:
    """Zero insertion by ``stride``: frequency ``f`` appears at every ``(f + j) / s``."""
    return np.tile(support, tuple(stride))


def downsample(support: Support, stride: Sequence[int]) -> Support:
    """Keeping every ``s``-th position: frequency ``f`` folds to ``s f mod 1``."""
    for axis, s in enumerate(stride):
        size = support.shape[axis]
        folded_size = conv_cell(size, s)
        if s == 1:
            continue
        folded = np.zeros((*support.shape[:axis], folded_size, *support.shape[axis + 1 :]), np.bool_)
        target = (s // gcd(size, s) * np.arange(size)) % folded_size
        moved, source = np.moveaxis(folded, axis, 0), np.moveaxis(support, axis, 0)
        for a in range(size):
            moved[target[a]] |= source[a]
        support = folded
    return support


def through_matrix(support: Support, matrix: NDArray[np.float64], axis: int) -> Support:
    """A fixed linear operation of one axis, given on the cell as ``(P_out, P)``."""
    outputs, inputs = matrix.shape
    response = np.fft.fft(np.fft.ifft(matrix, axis=1) * inputs, axis=0) / outputs  # frequency in -> frequency out
    moves = np.abs(response) > ZERO * np.abs(matrix).sum(1).max(initial=1e-300)
    moved = np.moveaxis(support, axis, 0).reshape(inputs, -1)
    result = (moves.astype(np.float64) @ moved.astype(np.float64)) > 0.5
    shape = [outputs, *(n for a, n in enumerate(support.shape) if a != axis)]
    return np.moveaxis(result.reshape(shape), 0, axis)


def _nonzero(shape: tuple[int, ...]) -> Support:
    mask = np.ones(shape, np.bool_)
    if prod(shape):
        mask[(0,) * len(shape)] = False
    return mask
