"""Layers that write each output from few inputs, tap by tap: what transposed and sub-pixel convolutions have in common.

On every axis a tap ``t`` takes input ``j`` to output ``n(t, j)``:

- transposed convolution of stride ``s``, dilation ``d``, padding ``p``: ``n = s j + d t - p``;
- sub-pixel convolution (convolution, then pixel shuffle by ``s``), tap ``(r, o)``: ``n = s (j - d o + p) + r``;
- stride-1 convolution that may differ by phase of a period ``P``, tap ``(r, o)``: ``n = j - d o + p`` where that is
  ``r`` modulo ``P``.

The layer's output is ``y[n] = b + sum over taps and channels of W[t, c] x_c[j(t, n)]``. Everything a repair needs of a
layer are its tables of sources ``j(t, n)``, one per axis; taps of n axes are products of taps of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError

__all__ = ["Axis", "Scatter", "phase_convolution", "subpixel", "transposed"]

_TOGETHER = 2
"""Windows that are one product; more of them see so little each that what they do not see is left out."""

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a layer.

    Attributes:
        source: ``(taps, outputs)``: input that a tap reads for an output; -1 where it reads padding, -2 where it does
            not write this output at all.
        stride: Outputs whose places differ by a multiple of it are written by the same taps.
        inputs: Size of the input.
    """

    source: Index
    stride: int
    inputs: int

    @property
    def taps(self) -> int:
        """How many."""
        return len(self.source)

    @property
    def outputs(self) -> int:
        """Size of the output."""
        return int(self.source.shape[1])

    def active(self, phase: int) -> Index:
        """Taps that write the outputs of a phase."""
        return np.flatnonzero((self.source[:, phase :: self.stride] != -2).any(1))


def transposed(inputs: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> Axis:
    """An axis of a transposed convolution; `outputs` says what output padding adds."""
    n, t = np.arange(outputs), np.arange(kernel)[:, None]
    place = n + padding - dilation * t  # s j
    source = np.where(place % stride == 0, np.maximum(place // stride, -1), -2)  # -2 is no place
    return Axis(_bounded(source, inputs), stride, inputs)


def subpixel(inputs: int, kernel: int, factor: int, padding: int, dilation: int) -> Axis:
    """An axis of a convolution with stride 1 before a pixel shuffle; taps are ordered ``(phase, offset)``."""
    outputs = factor * (inputs + 2 * padding - dilation * (kernel - 1))
    n = np.arange(outputs)
    source = np.full((factor, kernel, outputs), -2)
    for r in range(factor):
        for o in range(kernel):
            mine = n % factor == r
            source[r, o, mine] = np.maximum(n[mine] // factor + dilation * o - padding, -1)
    return Axis(_bounded(source.reshape(factor * kernel, outputs), inputs), factor, inputs)


def phase_convolution(inputs: int, kernel: int, period: int, padding: int, dilation: int) -> Axis:
    """An axis of a convolution with stride 1 that may have other weights in every phase; taps ``(phase, offset)``."""
    outputs = inputs + 2 * padding - dilation * (kernel - 1)
    n = np.arange(outputs)
    source = np.full((period, kernel, outputs), -2)
    for r in range(period):
        for o in range(kernel):
            mine = n % period == r
            source[r, o, mine] = np.maximum(n[mine] + dilation * o - padding, -1)
    return Axis(_bounded(source.reshape(period * kernel, outputs), inputs), period, inputs)


def _bounded(source: Index, inputs: int) -> Index:
    return np.where((source != -2) & ((source < 0) | (source >= inputs)), -1, source)


@dataclass(frozen=True, eq=False)
class Scatter:
    """A layer of one to three axes, for one group of channels.

    Attributes:
        axes: Its axes.
        channels: Input channels of a group.
    """

    axes: tuple[Axis, ...]
    channels: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.axes) <= 3:
            raise ParameterError(f"a layer of {len(self.axes)} axes; expected one to three")

    @property
    def taps(self) -> int:
        """Of all axes together."""
        return prod(axis.taps for axis in self.axes)

    def phases(self) -> list[tuple[int, ...]]:
        """All phases of the output, per axis."""
        return list(product(*(range(axis.stride) for axis in self.axes)))

    def active(self, phase: Sequence[int]) -> Index:
        """Numbers of the taps that write a phase, in C order of the axes."""
        grids = np.meshgrid(*(axis.active(r) for axis, r in zip(self.axes, phase, strict=True)), indexing="ij")
        return np.asarray(np.ravel_multi_index([g.ravel() for g in grids], [axis.taps for axis in self.axes]), np.int64)

    def places(self, phase: Sequence[int]) -> Index:
        """Numbers of a phase's features among all, taps first, channels last; then that of the bias."""
        mine = self.active(phase)[:, None] * self.channels + np.arange(self.channels)
        return np.append(mine.ravel(), self.taps * self.channels)

    def outputs_of(
        self, signal: NDArray[np.floating], phase: Sequence[int], rows: slice = slice(None)
    ) -> NDArray[np.float64]:
        """Samples of a phase of the output as rows, ``(N * positions, C_out)``, in the order of the features."""
        index = tuple(slice(r, None, axis.stride) for r, axis in zip(phase, self.axes, strict=True))
        part = signal[(slice(None), slice(None), *index)][:, :, rows]
        return np.moveaxis(part, 1, -1).reshape(-1, signal.shape[1]).astype(np.float64)

    def output(self, x: NDArray[np.floating], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The layer's output ``(N, C_out, *sizes)`` for weights ``(F + 1, C_out)``, the last row being the bias."""
        found = np.zeros((len(x), *(axis.outputs for axis in self.axes), weights.shape[1]))
        for phase in self.phases():
            part = found[
                (slice(None), *(slice(r, None, axis.stride) for r, axis in zip(phase, self.axes, strict=True)))
            ]
            mine = weights[self.places(phase)]
            part[...] = (self.features(x, phase) @ mine[:-1] + mine[-1]).reshape(part.shape)
        return np.moveaxis(found, -1, 1)

    def features(self, x: NDArray[np.floating], phase: Sequence[int], rows: slice = slice(None)) -> NDArray[np.float64]:
        """What the outputs of a phase are made of.

        Args:
            x: ``(N, channels, *sizes)``.
            phase: Per axis.
            rows: Of the phase's positions on the first axis.

        Returns:
            ``(N, positions, active taps * channels)``, taps first.
        """
        padded = np.pad(x, ((0, 0), (0, 0), *((0, 1),) * len(self.axes)))  # the last place of every axis is padding
        for k, (axis, r) in enumerate(zip(self.axes, phase, strict=True)):
            source = axis.source[axis.active(r), r :: axis.stride]  # (taps, positions)
            source = source[:, rows] if k == 0 else source
            source = np.where(source < 0, axis.inputs, source)
            # the axis becomes (taps, positions); both stay at its place, two by two
            padded = padded.take(source, axis=2 + 2 * k)
        n = len(self.axes)
        order = [0, *(3 + 2 * k for k in range(n)), *(2 + 2 * k for k in range(n)), 1]
        found = padded.transpose(order)
        shape = (len(x), prod(found.shape[1 : 1 + n]), prod(found.shape[1 + n :]))
        return np.ascontiguousarray(found.reshape(shape), np.float64)

    def lines(
        self, x: NDArray[np.floating], frequency: Sequence[float], windows: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.complex128]:
        """Amplitude of the output at a frequency through windows, as linear functions of the weights.

        Args:
            x: ``(N, channels, *sizes)``.
            frequency: Cycles per output, per axis.
            windows: Per axis ``(windows, outputs)``.

        Returns:
            ``(N * windows, taps * channels)``: times the weights ``(taps * channels, outputs)`` it is the windowed
            Fourier transform of the output, without its bias.
        """
        found: NDArray[Any] = x.astype(np.float64)
        for axis, f, window in zip(self.axes, frequency, windows, strict=True):
            # the axis leaves its place; windows and taps come last
            if len(window) <= _TOGETHER:
                found = _through(found, axis, f, window)
            else:
                found = np.concatenate([_through(found, axis, f, each[None]) for each in window], axis=-2)
        axes = len(self.axes)
        order = [0, *(2 + 2 * k for k in range(axes)), *(3 + 2 * k for k in range(axes)), 1]
        out = found.transpose(order)
        return out.reshape(len(x) * prod(len(w) for w in windows), self.taps * self.channels)


def _through(x: NDArray[Any], axis: Axis, frequency: float, windows: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Amplitudes along the third axis of `x`, by windows and taps; only what the windows see is read."""
    seen = np.flatnonzero(windows.any(0))
    waves = windows[:, seen] * np.exp(-2j * np.pi * frequency * seen)
    taps, places = np.nonzero(axis.source[:, seen] >= 0)
    read = axis.source[taps, seen[places]]
    first, last = (int(read.min()), int(read.max()) + 1) if len(read) else (0, 0)
    kernel = np.zeros((len(windows), axis.taps, last - first), np.complex128)
    kernel[:, taps, read - first] = waves[:, places]
    part = x[:, :, first:last]
    if np.iscomplexobj(x):
        return np.tensordot(part, kernel, (2, 2))
    both = np.tensordot(part, np.stack([kernel.real, kernel.imag], axis=-1), (2, 2))  # of real numbers: half the work
    return np.ascontiguousarray(both).view(np.complex128)[..., 0]
