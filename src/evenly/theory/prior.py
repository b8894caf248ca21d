"""What a network does to a constant before any training, in closed form.

Assume independent zero-mean weights, zero biases and wide layers. Then a pre-activation is a Gaussian field, fully
described by its mean and its second moments ``K[n, m] = E[x[n] x[m]]`` between the positions of one period cell (a
torus). Every layer maps ``K`` to ``K``:

* convolution: ``K[s n + d t - p, s m + d t - p]`` averaged over the taps ``t``;
* transposed convolution: ``K[i, j]`` is added to ``K[s i + d t - p, s j + d t - p]`` for *equal* taps only, so that
  different phases become independent;
* fixed linear operations act on both indices;
* pointwise functions by :func:`evenly.theory.activations.cross_expectation`.

The diagonal is the *variance map* (the overlap counts of all layers, propagated); the expected power at a frequency is
the Fourier transform of ``K``, and the AC fraction is ``1 - mean(K) / mean(diag K)``: the share of the output's power
that is a periodic pattern although the input was constant. Even overlap makes the variance map flat; it does not make
the pattern smaller.

Fields that are sums, gates or functions of each other are kept as linear combinations of *atoms*, so that shared terms
(residual sums, ``x * sigmoid(x)``) get their exact joint moments. After a sum of a Gaussian and a non-linear term the
next non-linearity treats the sum as Gaussian with the right mean and covariance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, pairwise
from math import lcm, prod

import numpy as np
from numpy.typing import NDArray

from evenly.theory.activations import Function, cross_expectation
from evenly.theory.overlap import ratio
from evenly.theory.torus import conv_index, transpose_index

__all__ = ["MAX_ENTRIES", "Combination", "Moments", "Part", "Statistics", "TooLarge", "statistics"]

Array = NDArray[np.float64]

MAX_ENTRIES = 2**22
"""Largest covariance that is computed: a 2-D period of 45, a 1-D period of 2048."""

_serial = count()


class TooLarge(Exception):  # noqa: N818 - control flow inside the package, reported as "not computed"
    """The period cell is too large for an exact covariance."""


def _identity(x: Array) -> Array:
    return x


@dataclass(frozen=True, eq=False)
class Atom:
    """A random field of one channel: ``function(argument)`` with a Gaussian argument, or Gaussian itself.

    Attributes:
        mean: Shape ``cell``.
        second: ``E[x[n] x[m]]``, shape ``cell + cell``.
        roots: Weight draws that it depends on.
        function: Applied to ``argument``; ``None`` for an atom that is its own argument.
    """

    mean: Array
    second: Array
    roots: frozenset[int]
    function: Function | None = None
    argument: Combination | None = None
    slices: dict[tuple[int, int], Atom] = field(default_factory=dict, repr=False)
    crosses: dict[int, Array] = field(default_factory=dict, repr=False)
    serial: int = field(default_factory=lambda: next(_serial))


@dataclass(frozen=True, eq=False)
class Combination:
    """``sum of coefficient * atom + shift``."""

    terms: tuple[tuple[Atom, float], ...]
    shift: float = 0.0

    @property
    def cell(self) -> tuple[int, ...]:
        """The smallest cell that holds every term."""
        return tuple(lcm(*sizes) for sizes in zip(*(atom.mean.shape for atom, _ in self.terms), strict=True))

    @property
    def roots(self) -> frozenset[int]:
        """Weight draws that any term depends on."""
        return frozenset().union(*(atom.roots for atom, _ in self.terms))

    def mean(self) -> Array:
        """Mean, shape ``cell``."""
        total = np.full(self.cell, self.shift)
        for atom, coefficient in self.terms:
            total += coefficient * _tile(atom.mean, self.cell)
        return total

    def second(self) -> Array:
        """Second moments, shape ``cell + cell``."""
        return self._second

    @cached_property
    def _second(self) -> Array:
        cell = self.cell
        if len(self.terms) == 1 and not self.shift:
            atom, coefficient = self.terms[0]
            return coefficient**2 * atom.second
        total = np.zeros(cell + cell)
        for i, (a, ca) in enumerate(self.terms):
            total += ca * ca * _tile(a.second, cell + cell)
            for b, cb in self.terms[i + 1 :]:
                if _unrelated(a, b):
                    continue
                cross = _tile(_cross(a, b), cell + cell)
                total += ca * cb * (cross + _swap(cross))
        if self.shift:
            plain = self.mean() - self.shift
            total += self.shift * _outer_sum(plain) + self.shift**2
        return total


@dataclass(frozen=True, eq=False)
class Part:
    """Exchangeable channels of a field."""

    channels: int
    value: Combination


@dataclass(frozen=True)
class Statistics:
    """What is expected before training.

    Attributes:
        unevenness: max/min of the variance map (ratio).
        ac_fraction: Expected share of the power that is periodic and not constant (ratio).
        variance: The variance map over one cell, relative to its mean.
        power: Expected power per frequency of the cell, DC first, sums to 1.
    """

    unevenness: float
    ac_fraction: float
    variance: Array
    power: Array


@dataclass(frozen=True, eq=False)
class Moments:
    """Second-order description of a field: groups of exchangeable channels."""

    parts: tuple[Part, ...]

    @classmethod
    def colour(cls, channels: int, axes: int) -> Moments:
        """A constant of random colour on a lattice of ``axes`` axes: ``K = 1``."""
        return cls.fresh(channels, np.ones((1,) * (2 * axes)))

    @classmethod
    def fresh(cls, channels: int, second: Array) -> Moments:
        """A zero-mean Gaussian field, independent of everything so far."""
        axes = second.ndim // 2
        atom = Atom(np.zeros(second.shape[:axes]), second, frozenset({next(_serial)}))
        return cls((Part(channels, Combination(((atom, 1.0),))),))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return sum(part.channels for part in self.parts)

    @property
    def axes(self) -> int:
        """Number of lattice axes."""
        return len(self.parts[0].value.cell)

    @property
    def cell(self) -> tuple[int, ...]:
        """Period cell of the whole field."""
        return tuple(lcm(*sizes) for sizes in zip(*(part.value.cell for part in self.parts), strict=True))

    def second(self) -> Array:
        """Second moments averaged over the channels, shape ``cell + cell``."""
        return self._average(lambda c: c.second(), 2)

    def mean(self) -> Array:
        """Mean averaged over the channels, shape ``cell``."""
        return self._average(lambda c: c.mean(), 1)

    def variance(self) -> Array:
        """Second moment per position averaged over the channels, shape ``cell``."""
        total = np.zeros(self.cell)
        for part in self.parts:
            total += part.channels / self.channels * _tile(_diagonal(part.value.second()), self.cell)
        return total

    def _average(self, moment: Callable[[Combination], Array], copies: int) -> Array:
        cell = self.cell * copies
        _bounded(self.cell)
        total = np.zeros(cell)
        for part in self.parts:
            total += part.channels / self.channels * _tile(moment(part.value), cell)
        return total

    # linear layers with weights of their own

    def conv(
        self,
        out_channels: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        padding: Sequence[int],
        groups: int = 1,
    ) -> Moments:
        """Convolution with independent zero-mean weights, scaled to mean second moment 1."""

        def layer(second: Array) -> Array:
            for axis, (k, s, d, p) in enumerate(zip(kernel, stride, dilation, padding, strict=True)):
                index = conv_index(second.shape[axis], k, s, d, p)
                second = _gather(second, index, axis, len(kernel) + axis)
            return second

        return self._weights(out_channels, groups, layer)

    def conv_transpose(
        self,
        out_channels: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        padding: Sequence[int],
        groups: int = 1,
    ) -> Moments:
        """Transposed convolution with independent zero-mean weights, scaled to mean second moment 1."""
        _bounded([p * s for p, s in zip(self.cell, stride, strict=True)])

        def layer(second: Array) -> Array:
            for axis, (k, s, d, p) in enumerate(zip(kernel, stride, dilation, padding, strict=True)):
                size = second.shape[axis]
                index = transpose_index(size, k, s, d, p)
                second = _scatter(second, index, s * size, axis, len(kernel) + axis)
            return second

        return self._weights(out_channels, groups, layer)

    def dense(self, out_channels: int) -> Moments:
        """The same independent weights at every position."""
        ones = (1,) * self.axes
        return self.conv(out_channels, ones, ones, ones, (0,) * self.axes)

    def mixed(self, weight: Array) -> Moments:
        """Channels mixed by known weights ``(C_out, C_in)``, the same at every position.

        With exchangeable channels of mean ``M``: ``sum w^2 (K - M M) + (sum w)^2 M M``, averaged over the outputs.
        """
        mean, second = self.mean(), self.second()
        squares, sums = float((weight**2).sum(1).mean()), weight.sum(1)
        own = _outer(mean)
        return self._opaque(
            len(weight), float(sums.mean()) * mean, squares * (second - own) + float((sums**2).mean()) * own
        )

    def _weights(self, out_channels: int, groups: int, layer: Callable[[Array], Array]) -> Moments:
        per_group = self.channels // groups if groups > 1 else 0
        if per_group and len(self.parts) > 1 and all(part.channels % per_group == 0 for part in self.parts):
            # groups never mix these parts, so they stay apart
            share = out_channels // groups
            made = [
                Moments.fresh(part.channels // per_group * share, _unit(layer(part.value.second()))).parts[0]
                for part in self.parts
            ]
            return Moments(tuple(made))
        return Moments.fresh(out_channels, _unit(layer(self.second())))

    # fixed linear operations

    def linear_map(self, matrices: Sequence[Array | None]) -> Moments:
        """A fixed linear operation per axis, ``(P_out, P_in)`` for the axis' cell size; ``None`` is identity.

        The matrices belong to :attr:`cell`.
        """
        cell = self.cell
        _bounded([len(m) if m is not None else c for m, c in zip(matrices, cell, strict=True)])

        def mapped(array: Array, offset: int) -> Array:
            for axis, matrix in enumerate(matrices):
                if matrix is not None:
                    array = np.moveaxis(np.tensordot(matrix, array, (1, offset + axis)), 0, offset + axis)
            return array

        def both(value: Combination) -> tuple[Array, Array]:
            mean, second = _tile(value.mean(), cell), _tile(value.second(), cell + cell)
            return mapped(mean, 0), mapped(mapped(second, 0), len(cell))

        return self._derive(both)

    def filter(self, taps: Array, positions: NDArray[np.int64]) -> Moments:
        """The same fixed filter for every channel: ``y[n] = sum_t taps[t] x[n + positions[t]]``.

        Args:
            taps: ``(T,)``.
            positions: ``(T, axes)``.
        """
        cell = self.cell
        _bounded(cell)
        axes = len(cell)
        kernel = np.zeros(cell)
        np.add.at(kernel, tuple((-positions % np.array(cell)).T), taps)
        response = np.fft.fftn(kernel)  # y = kernel * x on the torus

        def both(value: Combination) -> tuple[Array, Array]:
            mean, second = _tile(value.mean(), cell), _tile(value.second(), cell + cell)
            spectrum = np.fft.rfftn(second, axes=range(2 * axes))
            outer = np.multiply.outer(response, response)[(..., slice(0, spectrum.shape[-1]))]
            filtered = np.fft.irfftn(spectrum * outer, s=second.shape, axes=range(2 * axes))
            return np.fft.ifftn(np.fft.fftn(mean) * response).real, filtered

        return self._derive(both)

    def take(self, indices: Sequence[NDArray[np.int64] | None]) -> Moments:
        """Positions of the cell per axis (cropping, padding, decimation); ``None`` keeps an axis."""
        cell = self.cell

        def picked(array: Array, offset: int) -> Array:
            for axis, index in enumerate(indices):
                if index is not None:
                    array = np.take(array, index, offset + axis)
            return array

        def both(value: Combination) -> tuple[Array, Array]:
            mean, second = _tile(value.mean(), cell), _tile(value.second(), cell + cell)
            return picked(mean, 0), picked(picked(second, 0), len(cell))

        return self._derive(both)

    def insert_zeros(self, stride: Sequence[int], offset: Sequence[int]) -> Moments:
        """Zeros between the samples: output ``s n + offset`` is input ``n``, the rest is zero."""
        cell = self.cell
        target = tuple(p * s for p, s in zip(cell, stride, strict=True))
        _bounded(target)
        places = [(s * np.arange(c) + o) % (s * c) for c, s, o in zip(cell, stride, offset, strict=True)]

        def both(value: Combination) -> tuple[Array, Array]:
            mean, second = np.zeros(target), np.zeros(target + target)
            mean[np.ix_(*places)] = _tile(value.mean(), cell)
            second[np.ix_(*places, *places)] = _tile(value.second(), cell + cell)
            return mean, second

        return self._derive(both)

    def pixel_shuffle(self, factor: Sequence[int]) -> Moments:
        """Depth to space: the phases come from different, exchangeable channels."""
        cell, axes = self.cell, self.axes
        target = tuple(c * r for c, r in zip(cell, factor, strict=True))
        _bounded(target)
        second, mean = self.second(), self.mean()
        for axis, r in enumerate(factor):
            second = np.repeat(np.repeat(second, r, axis), r, axes + axis)
            mean = np.repeat(mean, r, axis)
        same = np.ones((1,) * (2 * axes), np.bool_)
        for axis, size in enumerate(target):
            phase = np.arange(size) % factor[axis]
            shape = [1] * (2 * axes)
            shape[axis] = shape[axes + axis] = size
            same = same & (phase[:, None] == phase).reshape(shape)
        second = np.where(same, second, _outer(mean))
        return self._opaque(self.channels // prod(factor), mean, second)

    def pixel_unshuffle(self, factor: Sequence[int]) -> Moments:
        """Space to depth: every phase becomes a channel of its own; averaged over the phases."""
        ones = (1,) * self.axes
        unit = Moments.conv(self, self.channels * prod(factor), factor, factor, ones, (0,) * self.axes)
        scale = float(np.mean(_diagonal(self.second())))
        atom = unit.parts[0].value.terms[0][0]
        return self._opaque(unit.channels, _pool_mean(self.mean(), factor), scale * atom.second)

    def _derive(self, both: Callable[[Combination], tuple[Array, Array]]) -> Moments:
        parts = []
        for part in self.parts:
            mean, second = both(part.value)
            parts.append(Part(part.channels, Combination(((Atom(mean, second, part.value.roots), 1.0),))))
        return Moments(tuple(parts))

    def _opaque(self, channels: int, mean: Array, second: Array) -> Moments:
        roots = frozenset().union(*(part.value.roots for part in self.parts))
        return Moments((Part(channels, Combination(((Atom(mean, second, roots), 1.0),))),))

    # pointwise

    def affine(self, scale: float, shift: float) -> Moments:
        """``scale * x + shift`` with the same numbers for every channel."""
        return Moments(
            tuple(
                Part(
                    part.channels,
                    Combination(
                        tuple((atom, scale * c) for atom, c in part.value.terms), scale * part.value.shift + shift
                    ),
                )
                for part in self.parts
            )
        )

    def pointwise(self, function: Function) -> Moments:
        """A scalar function at every position."""
        _bounded(self.cell)
        return Moments(tuple(Part(part.channels, _apply(function, part.value)) for part in self.parts))

    def add(self, other: Moments, sign: float = 1.0) -> Moments:
        """Sum (difference) of two fields, shared terms included."""
        left, right = _aligned(self, other)
        parts = []
        for a, b in zip(left, right, strict=True):
            terms: dict[int, tuple[Atom, float]] = {atom.serial: (atom, c) for atom, c in a.value.terms}
            for atom, c in b.value.terms:
                before = terms.get(atom.serial, (atom, 0.0))[1]
                terms[atom.serial] = (atom, before + sign * c)
            parts.append(Part(a.channels, Combination(tuple(terms.values()), a.value.shift + sign * b.value.shift)))
        return Moments(tuple(parts))

    def multiply(self, other: Moments) -> Moments:
        """Product of two fields: exact for independent ones and for functions of the same Gaussian."""
        parts = []
        for a, b in zip(*_aligned(self, other), strict=True):
            parts.append(Part(a.channels, _product(a.value, b.value)))
        return Moments(tuple(parts))

    def concat(self, others: Sequence[Moments]) -> Moments:
        """Channels of several fields, in order."""
        return Moments(tuple(part for moments in (self, *others) for part in moments.parts))

    def channel_slice(self, start: int, stop: int) -> Moments:
        """Channels ``start`` to ``stop``."""
        parts, position = [], 0
        for part in self.parts:
            low, high = max(start - position, 0), min(stop - position, part.channels)
            if low < high:
                parts.append(_slice(part, low, high))
            position += part.channels
        return Moments(tuple(parts))

    def merge(self, channels: int | None = None) -> Moments:
        """The same field with all channels exchangeable (after a permutation of different parts)."""
        if len(self.parts) == 1 and channels in (None, self.channels):
            return self
        return self._opaque(channels or self.channels, self.mean(), self.second())

    def normalize(self, *, per_position: bool, centred: bool) -> Moments:
        """Normalisation by statistics over many exchangeable channels.

        Args:
            per_position: Statistics at every position (layer, RMS, pixel norm) or over the whole cell (group norm).
            centred: Whether the mean over channels (and positions) is removed.
        """
        mean, second = self.mean(), self.second()
        centre = mean if per_position else np.full(mean.shape, mean.mean())
        power = _diagonal(second) - 2 * mean * centre + centre**2 if centred else _diagonal(second)
        if not per_position:
            power = np.full(power.shape, power.mean())
        with np.errstate(all="ignore"):
            gain = np.where(power > 1e-12, 1 / np.sqrt(power), 0.0)

        def both(value: Combination) -> tuple[Array, Array]:
            cell = self.cell
            own_mean, own = _tile(value.mean(), cell), _tile(value.second(), cell + cell)
            if centred:
                own = own - _cross_sum(own_mean, centre) + _outer(centre)
                own_mean = own_mean - centre
            return own_mean * gain, own * _outer(gain)

        return self._derive(both)

    def broadcast(self, new_axes: Sequence[int], axes: int) -> Moments:
        """Constant along ``new_axes`` of a lattice with ``axes`` axes."""
        kept = [axis for axis in range(axes) if axis not in set(new_axes)]
        if len(kept) != self.axes:
            raise ValueError(f"{self.axes} axes and {len(list(new_axes))} new ones do not make {axes}")

        def both(value: Combination) -> tuple[Array, Array]:
            cell = [1] * axes
            for axis, size in zip(kept, value.cell, strict=True):
                cell[axis] = size
            return value.mean().reshape(cell), value.second().reshape(cell + cell)

        return self._derive(both)

    def reduce(self, axes: Sequence[int]) -> Moments:
        """Mean over whole lattice axes."""
        chosen = tuple(axes)
        total = self.axes

        def both(value: Combination) -> tuple[Array, Array]:
            return value.mean().mean(chosen), value.second().mean(chosen + tuple(total + a for a in chosen))

        return self._derive(both)


def statistics(moments: Moments) -> Statistics:
    """Variance map, AC fraction and power spectrum of a field."""
    second = moments.second()
    axes = moments.axes
    variance = _diagonal(second)
    total = float(variance.mean())
    if total <= 0:
        return Statistics(1.0, 0.0, np.ones_like(variance), np.eye(1, max(variance.size, 1))[0].reshape(variance.shape))
    spectrum: NDArray[np.complex128] = second.astype(np.complex128)
    for axis in range(axes):
        spectrum = np.fft.ifft(np.fft.fft(spectrum, axis=axis), axis=axes + axis)
    power = _diagonal(spectrum.real) / variance.size
    # E|X_f|^2 / P^2 per frequency: DC first
    ac = 1 - float(second.mean()) / total
    flat = np.abs(variance / total - 1).max() < 1e-9
    return Statistics(
        1.0 if flat else ratio(np.where(variance < 1e-12 * total, 0.0, variance)),
        0.0 if abs(ac) < 1e-12 else ac,
        variance / total,
        power / total,
    )


# helpers


def _bounded(cell: Sequence[int]) -> None:
    positions = prod(cell)
    if positions**2 > MAX_ENTRIES:
        size = " x ".join(map(str, cell))
        raise TooLarge(
            f"the period cell of {size} positions is beyond the exact closed form (at most "
            f"{int(MAX_ENTRIES**0.5)} positions)"
        )


def _tile(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape == shape:
        return array
    if array.size == 1:
        return np.broadcast_to(array.reshape((1,) * len(shape)), shape)
    return np.tile(array, tuple(t // a for t, a in zip(shape, array.shape, strict=True)))


def _swap(cross: Array) -> Array:
    axes = cross.ndim // 2
    return cross.transpose(*range(axes, 2 * axes), *range(axes))


def _outer(mean: Array) -> Array:
    return np.multiply.outer(mean, mean)


def _outer_sum(mean: Array) -> Array:
    return np.add.outer(mean, mean)


def _cross_sum(a: Array, b: Array) -> Array:
    product = np.multiply.outer(a, b)
    return product + _swap(product)


def _diagonal(second: Array) -> Array:
    axes = second.ndim // 2
    cell = second.shape[:axes]
    size = prod(cell)
    return second.reshape(size, size).diagonal().reshape(cell)


def _unit(second: Array) -> Array:
    power = float(_diagonal(second).mean())
    return second / power if power > 0 else second


def _pool_mean(mean: Array, factor: Sequence[int]) -> Array:
    for axis, r in enumerate(factor):
        index = conv_index(mean.shape[axis], r, r, 1, 0)
        mean = np.asarray(np.take(mean, index, axis).mean(axis + 1))
    return mean


def _gather(second: Array, index: NDArray[np.int64], first: int, later: int) -> Array:
    """Average over taps of ``second[index[:, t], index[:, t]]`` on two axes."""
    if second.shape[first] == 1:
        return second
    columns, multiplicity = np.unique(index, axis=1, return_counts=True)
    shape = list(second.shape)
    shape[first] = shape[later] = len(index)
    total = np.zeros(shape)
    for t, times in enumerate(multiplicity):
        total += times / index.shape[1] * np.take(np.take(second, columns[:, t], first), columns[:, t], later)
    return total


def _scatter(second: Array, index: NDArray[np.int64], size: int, first: int, later: int) -> Array:
    """Sum over taps, each writing ``index[:, t]`` on two axes of a larger cell."""
    if size == 1:
        return np.asarray(second * index.shape[1])
    shape = list(second.shape)
    shape[first] = shape[later] = size
    total = np.zeros(shape)
    columns, multiplicity = np.unique(index, axis=1, return_counts=True)
    view = np.moveaxis(total, (first, later), (0, 1))
    source = np.moveaxis(second, (first, later), (0, 1))
    for t, times in enumerate(multiplicity):
        view[np.ix_(columns[:, t], columns[:, t])] += times * source
    return total


def _apply(function: Function, value: Combination) -> Combination:
    inner = _as_function(value)
    if inner is not None and _key(inner[1]) != _key(value):
        # a function of a function of one Gaussian is a function of that Gaussian
        first, argument = inner
        return _apply(lambda x: function(first(x)), argument)
    mean, second = value.mean(), value.second()
    covariance = second - _outer(mean)
    deviation = np.sqrt(_diagonal(covariance).clip(min=0))
    moment = cross_expectation(function, mean, deviation, function, mean, deviation, covariance)
    nothing = np.zeros(1)
    one = cross_expectation(
        function, mean, deviation, np.ones_like, nothing, nothing, np.zeros((*mean.shape, 1))
    ).reshape(mean.shape)
    return Combination(((Atom(one, moment, value.roots, function, value), 1.0),))


def _base(atom: Atom) -> tuple[Function, Combination]:
    if atom.function is None or atom.argument is None:
        return _identity, Combination(((atom, 1.0),))
    return atom.function, atom.argument


def _covariance(a: Combination, b: Combination) -> Array:
    cell = tuple(lcm(x, y) for x, y in zip(a.cell, b.cell, strict=True))
    total = np.zeros(cell + cell)
    for x, cx in a.terms:
        for y, cy in b.terms:
            cross = _cross(x, y) - np.multiply.outer(*(_tile(m, cell_of(x, y)) for m in (x.mean, y.mean)))
            total += cx * cy * _tile(cross, cell + cell)
    return total


def cell_of(a: Atom, b: Atom) -> tuple[int, ...]:
    """The smallest cell that holds two atoms."""
    return tuple(lcm(x, y) for x, y in zip(a.mean.shape, b.mean.shape, strict=True))


def _unrelated(a: Atom, b: Atom) -> bool:
    """Whether ``E[a b]`` is zero because the two are independent and one of them has no mean."""
    return not (a.roots & b.roots) and not (a.mean.any() and b.mean.any())


def _cross(a: Atom, b: Atom) -> Array:
    """``E[a[n] b[m]]`` on the common cell, shape ``cell + cell``."""
    if a is b:
        return a.second
    cell = cell_of(a, b)
    if not (a.roots & b.roots):
        return np.multiply.outer(_tile(a.mean, cell), _tile(b.mean, cell))
    if b.serial in a.crosses:
        return a.crosses[b.serial]
    (f, u), (g, v) = _base(a), _base(b)
    if f is _identity and g is _identity:
        # two linear images of the same draws (say a field and its resized copy): their relation is not followed
        result = np.multiply.outer(_tile(a.mean, cell), _tile(b.mean, cell))
    else:
        means = _tile(u.mean(), cell), _tile(v.mean(), cell)
        deviations = [
            np.sqrt((_diagonal(_tile(x.second(), cell + cell)) - m**2).clip(min=0))
            for x, m in zip((u, v), means, strict=True)
        ]
        result = cross_expectation(
            f, means[0], deviations[0], g, means[1], deviations[1], _tile(_covariance(u, v), cell + cell)
        )
    a.crosses[b.serial] = result
    b.crosses[a.serial] = _swap(result)
    return result


def _product(a: Combination, b: Combination) -> Combination:
    shared = _shared_argument(a, b)
    if shared is not None:
        f, g, argument = shared
        return _apply(lambda x: f(x) * g(x), argument)
    cell = tuple(lcm(x, y) for x, y in zip(a.cell, b.cell, strict=True))
    mean = _tile(a.mean(), cell) * _tile(b.mean(), cell)
    second = _tile(a.second(), cell + cell) * _tile(b.second(), cell + cell)
    return Combination(((Atom(mean, second, a.roots | b.roots), 1.0),))


def _shared_argument(a: Combination, b: Combination) -> tuple[Function, Function, Combination] | None:
    """``a = f(g)`` and ``b = h(g)`` of the same argument, where that is how they were made."""
    readings: list[dict[tuple[object, ...], tuple[Function, Combination]]] = []
    for value in (a, b):
        options: dict[tuple[object, ...], tuple[Function, Combination]] = {_key(value): (_identity, value)}
        inner = _as_function(value)
        if inner is not None:
            options[_key(inner[1])] = inner
        readings.append(options)
    for key, (f, argument) in readings[0].items():
        if key in readings[1]:
            return f, readings[1][key][0], argument
    return None


def _as_function(value: Combination) -> tuple[Function, Combination] | None:
    """``f`` and ``u`` with ``value = f(u)``, where all terms are functions of one argument ``u``."""
    bases = [_base(atom) for atom, _ in value.terms]
    argument = bases[0][1]
    if any(_key(other) != _key(argument) for _, other in bases[1:]):
        return None
    terms = [(function, c) for (function, _), (_, c) in zip(bases, value.terms, strict=True)]

    def combined(x: Array) -> Array:
        total: Array = np.full(np.shape(x), value.shift)
        for function, c in terms:
            total += c * function(x)
        return total

    return combined, argument


def _key(value: Combination) -> tuple[object, ...]:
    return (value.shift, *sorted((atom.serial, c) for atom, c in value.terms))


def _slice(part: Part, low: int, high: int) -> Part:
    if (low, high) == (0, part.channels):
        return part
    terms = []
    for atom, c in part.value.terms:
        if (low, high) not in atom.slices:
            # other channels are other draws: the copy depends on roots of its own
            roots = frozenset(hash((root, low, high)) for root in atom.roots)
            argument = atom.argument
            if argument is not None:
                argument = _slice(Part(part.channels, argument), low, high).value
            atom.slices[(low, high)] = Atom(atom.mean, atom.second, roots, atom.function, argument)
        terms.append((atom.slices[(low, high)], c))
    return Part(high - low, Combination(tuple(terms), part.value.shift))


def _aligned(a: Moments, b: Moments) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Parts of two fields cut at common channel boundaries; a single channel is repeated."""
    if a.channels == 1 and b.channels > 1:
        return tuple(Part(p.channels, a.parts[0].value) for p in b.parts), b.parts
    if b.channels == 1 and a.channels > 1:
        return a.parts, tuple(Part(p.channels, b.parts[0].value) for p in a.parts)
    cuts = sorted({0, *np.cumsum([p.channels for p in a.parts]), *np.cumsum([p.channels for p in b.parts])})
    spans = list(pairwise(cuts))
    return (
        tuple(part for low, high in spans for part in a.channel_slice(int(low), int(high)).parts),
        tuple(part for low, high in spans for part in b.channel_slice(int(low), int(high)).parts),
    )
