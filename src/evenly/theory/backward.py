"""The expected squared gradient, layer by layer, from the loss to the input.

The gradient of a convolution is a transposed convolution (Odena et al. 2016), so strided layers write some input
positions more often than others: ``3x3 s2`` gives 4:2:2:1, ``1x1 s2`` leaves three pixels of four without any.

Two kinds of gradient travel, and are kept apart:

* *local*: independent from position to position at the loss (dense outputs). Its covariance is
  ``G[m, l] = E[g[m] g[m + l]]`` over phases ``m`` of a cell and a finite range of lags ``l``; independent weights keep
  it white, fixed filters (interpolation, blur, average pooling) spread it over lags.
* *coherent*: the same at every position (a global average before the loss); it is periodic like the forward fields
  and its covariance lives on the torus.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lcm, prod

import numpy as np
from numpy.typing import NDArray

from evenly.theory.prior import MAX_ENTRIES, TooLarge, _diagonal, _gather, _scatter, _tile
from evenly.theory.resize import AxisResize
from evenly.theory.torus import conv_index, resize_matrix, transpose_index

__all__ = ["Gradient", "pool_resize"]

Array = NDArray[np.float64]
_AxisLaw = Callable[[Array, int, int, int, int, int], Array]
"""What a layer does along one axis: ``(moments, axis, kernel, stride, dilation, padding)``."""


def pool_resize(
    kernel: int, stride: int, dilation: int, padding: int, taps: Sequence[float] | None = None
) -> AxisResize:
    """Average pooling, or a FIR followed by decimation, along one axis as a resampler.

    Args:
        kernel: Window size.
        stride: Stride.
        dilation: Dilation.
        padding: Padding before.
        taps: Weights of the window, ``1 / kernel`` by default.
    """
    weights = taps if taps is not None else (1 / kernel,) * kernel
    return AxisResize(1, stride, (tuple((dilation * t - padding, float(w)) for t, w in enumerate(weights)),))


@dataclass(frozen=True, eq=False)
class Gradient:
    """Second moments of a gradient field, averaged over channels.

    Attributes:
        local: ``cell + (2 L + 1, ...)``: covariance at lags ``-L..L`` per axis.
        coherent: ``cell + cell``, or ``None``.
        order: Number of global averages between here and the loss; a gradient that passed fewer of them outweighs one
            that passed more, on a large lattice.
    """

    local: Array
    coherent: Array | None = None
    order: int = 0

    @classmethod
    def white(cls, axes: int) -> Gradient:
        """Independent zero-mean gradients of variance 1 at every position."""
        return cls(np.ones((1,) * (2 * axes)))

    @classmethod
    def zero(cls, axes: int) -> Gradient:
        """No gradient at all."""
        return cls(np.zeros((1,) * (2 * axes)))

    @property
    def axes(self) -> int:
        """Number of lattice axes."""
        return self.local.ndim // 2

    @property
    def lags(self) -> tuple[int, ...]:
        """Largest lag per axis."""
        return tuple(n // 2 for n in self.local.shape[self.axes :])

    def variance(self) -> Array:
        """Expected squared gradient over one cell."""
        local: Array = self.local[(slice(None),) * self.axes + self.lags]
        if self.coherent is None:
            return local
        own = _diagonal(self.coherent)
        cell = tuple(lcm(a, b) for a, b in zip(local.shape, own.shape, strict=True))
        return _tile(local, cell) + _tile(own, cell)

    def power(self) -> float:
        """Mean expected squared gradient."""
        return float(self.variance().mean())

    def scaled(self, factor: float) -> Gradient:
        """Every gradient times the square root of ``factor``."""
        return Gradient(factor * self.local, None if self.coherent is None else factor * self.coherent, self.order)

    def modulated(self, variance: Array) -> Gradient:
        """Times an independent field with the given second moment per position."""
        if variance.size == 1:
            return self.scaled(float(variance.ravel()[0]))
        axes = self.axes
        cell = tuple(lcm(a, b) for a, b in zip(self.local.shape[:axes], variance.shape, strict=True))
        gain = _tile(variance, cell)
        local = _tile(self.local, cell + self.local.shape[axes:]) * gain.reshape(cell + (1,) * axes)
        coherent = None
        if self.coherent is not None:
            both = tuple(lcm(a, b) for a, b in zip(self.coherent.shape[:axes], variance.shape, strict=True))
            root = np.sqrt(_tile(variance, both))
            coherent = _tile(self.coherent, both + both) * np.multiply.outer(root, root)
        return Gradient(local, coherent, self.order)

    def without_lags(self) -> Gradient:
        """Only the variances: enough where no fixed filter follows."""
        middle = tuple(slice(n, n + 1) for n in self.lags)
        local = self.local[(slice(None),) * self.axes + middle]
        return Gradient(local, self.coherent, self.order)

    def add(self, other: Gradient) -> Gradient:
        """Sum of independent contributions at a fork."""
        if self.order != other.order:
            low, high = sorted((self, other), key=lambda g: g.order)
            return low if low.power() > 0 else high
        axes = self.axes
        cell = tuple(lcm(a, b) for a, b in zip(self.local.shape[:axes], other.local.shape[:axes], strict=True))
        lags = tuple(max(a, b) for a, b in zip(self.lags, other.lags, strict=True))
        _bounded(cell, [2 * n + 1 for n in lags])
        local = np.zeros(cell + tuple(2 * n + 1 for n in lags))
        for gradient in (self, other):
            window = tuple(slice(n - own, n + own + 1) for n, own in zip(lags, gradient.lags, strict=True))
            local[(slice(None),) * axes + window] += _tile(gradient.local, cell + gradient.local.shape[axes:])
        coherent = self.coherent if other.coherent is None else other.coherent
        if self.coherent is not None and other.coherent is not None:
            both = tuple(lcm(a, b) for a, b in zip(self.coherent.shape, other.coherent.shape, strict=True))
            _bounded(both[:axes], both[axes:])
            coherent = _tile(self.coherent, both) + _tile(other.coherent, both)
        return Gradient(local, coherent, self.order)

    # adjoints of layers with independent weights; scale is the weights' variance times the channels summed over

    def conv_adjoint(
        self,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        padding: Sequence[int],
        scale: float = 1.0,
    ) -> Gradient:
        """Back through a convolution: ``G'[m, s l] += G[n, l]`` for every ``m = s n + d t - p``."""
        return self._layer_adjoint((kernel, stride, dilation, padding), scale, _conv_local, _conv_coherent)

    def conv_transpose_adjoint(
        self,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        padding: Sequence[int],
        scale: float = 1.0,
    ) -> Gradient:
        """Back through a transposed convolution: ``G'[i, l] = sum_t G[s i + d t - p, s l]``."""
        parameters = (kernel, stride, dilation, padding)
        return self._layer_adjoint(parameters, scale, _conv_transpose_local, _conv_transpose_coherent)

    def _layer_adjoint(
        self, parameters: Sequence[Sequence[int]], scale: float, local_law: _AxisLaw, coherent_law: _AxisLaw
    ) -> Gradient:
        """One axis after the other; the laws get kernel, stride, dilation and padding of that axis."""
        local, coherent = self.local, self.coherent
        for axis, numbers in enumerate(zip(*parameters, strict=True)):
            local = local_law(local, axis, *numbers)
            if coherent is not None:
                coherent = coherent_law(coherent, axis, *numbers)
        return Gradient(local, coherent, self.order).scaled(scale)

    # adjoints of fixed operations

    def resize_adjoint(self, resizes: Sequence[AxisResize | None]) -> Gradient:
        """Back through a fixed filter per axis, ``None`` for identity: ``R^T G R``."""
        local, coherent, axes = self.local, self.coherent, self.axes
        for axis, resize in enumerate(resizes):
            if resize is None:
                continue
            local = _local_resize(local, resize, axis, axes)
            if coherent is not None:
                matrix = _adjoint_matrix(coherent.shape[axis], resize)
                target = list(coherent.shape)
                target[axis] = target[axes + axis] = matrix.shape[1]
                coherent = _tile(coherent, tuple(target))
                for place in (axis, axes + axis):
                    coherent = np.moveaxis(np.tensordot(matrix, coherent, (1, place)), 0, place)
        return Gradient(local, coherent, self.order)

    def max_pool_adjoint(
        self, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: Sequence[int]
    ) -> Gradient:
        """Back through max pooling, every position of a window being equally likely to win."""
        share = 1 / prod(kernel)
        parameters = (kernel, stride, dilation, padding)
        flat = self.without_lags()
        local = Gradient(flat.local, None, self.order).conv_adjoint(*parameters, scale=share)
        if self.coherent is None:
            return local
        resizes = [pool_resize(*numbers) for numbers in zip(*parameters, strict=True)]
        spread = Gradient(np.zeros_like(flat.local), self.coherent, self.order).resize_adjoint(resizes)
        own = _diagonal(self.coherent)
        sparse = Gradient(own.reshape(own.shape + (1,) * self.axes), None, self.order).conv_adjoint(
            *parameters, scale=share
        )
        assert spread.coherent is not None
        even = _diagonal(spread.coherent)
        rest = (sparse.variance() - _tile(even, sparse.variance().shape)).clip(min=0)
        extra = Gradient(rest.reshape(rest.shape + (1,) * self.axes), None, self.order)
        return Gradient(local.local, spread.coherent, self.order).add(extra)

    def shifted(self, offset: Sequence[int]) -> Gradient:
        """Back through padding by ``offset`` before: position ``m`` gets what ``m + offset`` had."""
        axes = tuple(range(self.axes))
        back = tuple(-o for o in offset)
        local = np.roll(self.local, back, axes)
        coherent = self.coherent
        if coherent is not None:
            coherent = np.roll(coherent, back + back, axes + tuple(self.axes + a for a in axes))
        return Gradient(local, coherent, self.order)

    def spread_evenly(self, axes: int) -> Gradient:
        """Back through a global average onto ``axes`` axes: the same at every position."""
        power = self.power()
        return Gradient(np.zeros((1,) * (2 * axes)), np.full((1,) * (2 * axes), power), self.order + 1)

    def collected(self, axes: Sequence[int]) -> Gradient:
        """Back through a broadcast over ``axes``: those axes disappear."""
        keep = [a for a in range(self.axes) if a not in set(axes)]
        variance = self.variance().mean(tuple(axes))
        return Gradient(variance.reshape(variance.shape + (1,) * len(keep)), None, self.order)


def _conv_local(local: Array, axis: int, k: int, s: int, d: int, p: int) -> Array:
    axes = local.ndim // 2
    size, lags = local.shape[axis], local.shape[axes + axis] // 2
    shape = list(local.shape)
    shape[axis], shape[axes + axis] = s * size, 2 * s * lags + 1
    _bounded(shape[:axes], shape[axes:])
    made = np.zeros(shape)
    target = np.moveaxis(made, (axis, axes + axis), (0, 1))
    source = np.moveaxis(local, (axis, axes + axis), (0, 1))
    columns, multiplicity = np.unique(transpose_index(size, k, s, d, p), axis=1, return_counts=True)
    for t, times in enumerate(multiplicity):
        target[columns[:, t], ::s] += times * source
    return made


def _conv_coherent(coherent: Array, axis: int, k: int, s: int, d: int, p: int) -> Array:
    size = coherent.shape[axis]
    _bounded([size * s], [size * s])
    return _scatter(coherent, transpose_index(size, k, s, d, p), s * size, axis, coherent.ndim // 2 + axis)


def _conv_transpose_local(local: Array, axis: int, k: int, s: int, d: int, p: int) -> Array:
    axes = local.ndim // 2
    lags = local.shape[axes + axis] // 2
    kept = np.arange(-(lags // s), lags // s + 1) * s + lags
    picked = np.take(local, kept, axes + axis)
    return np.asarray(np.take(picked, conv_index(local.shape[axis], k, s, d, p), axis).sum(axis + 1))


def _conv_transpose_coherent(coherent: Array, axis: int, k: int, s: int, d: int, p: int) -> Array:
    place = conv_index(coherent.shape[axis], k, s, d, p)
    return _gather(coherent, place, axis, coherent.ndim // 2 + axis) * k


def _bounded(cell: Sequence[int], others: Sequence[int]) -> None:
    if prod(cell) * prod(others) > MAX_ENTRIES:
        size = " x ".join(map(str, cell))
        raise TooLarge(f"the gradient's period cell of {size} positions is beyond the exact closed form")


def _adjoint_matrix(period: int, resize: AxisResize) -> Array:
    turns = lcm(period, resize.up) // resize.up
    return np.ascontiguousarray(resize_matrix(resize, resize.down * turns).T)  # (inputs, outputs)


@lru_cache(maxsize=256)
def _lag_terms(resize: AxisResize, size: int, lags: int) -> tuple[int, int, tuple[NDArray[np.int64], ...], Array]:
    """How ``R^T G R`` gathers: input cell, reach, (input phase, input lag, output phase, output lag) and weight."""
    turns = lcm(size, resize.up) // resize.up
    inputs = resize.down * turns

    def taps(n: int) -> list[tuple[int, float]]:
        q, r = divmod(n, resize.up)
        return [(resize.down * q + offset, weight) for offset, weight in resize.taps[r]]

    terms = [
        (j % inputs, i - j, n % size, lags + lag, w * v)
        for n in range(resize.up * turns)
        for j, w in taps(n)
        for lag in range(-lags, lags + 1)
        for i, v in taps(n + lag)
    ]
    table = np.array(terms or np.empty((0, 5)))
    places = tuple(table[:, k].astype(np.int64) for k in range(4))
    reach = int(np.abs(places[1]).max(initial=0))
    return inputs, reach, (places[0], reach + places[1], places[2], places[3]), table[:, 4]


def _local_resize(local: Array, resize: AxisResize, axis: int, axes: int) -> Array:
    inputs, reach, (j, difference, n, lag), weight = _lag_terms(
        resize, local.shape[axis], local.shape[axes + axis] // 2
    )
    shape = list(local.shape)
    shape[axis], shape[axes + axis] = inputs, 2 * reach + 1
    _bounded(shape[:axes], shape[axes:])
    source = np.moveaxis(local, (axis, axes + axis), (0, 1))
    made = np.zeros((inputs, 2 * reach + 1, *source.shape[2:]))
    np.add.at(made, (j, difference), weight.reshape(-1, *(1,) * (source.ndim - 2)) * source[n, lag])
    return np.moveaxis(made, (0, 1), (axis, axes + axis))
