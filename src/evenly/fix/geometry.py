"""A layer as a table of taps, with room for more taps; its weights as rows, and back.

``(F + 1, C_out)``: one row for every tap (C order of the axes) and input channel, the bias last, for one group of
channels. A transposed convolution grows by ``e`` taps on both sides of every axis with ``e`` times the dilation more
padding, which leaves its output's size and alignment; a sub-pixel convolution and a plain one likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError
from evenly.fix.backend import Edit, Floats, Layer
from evenly.fix.scatter import Axis, Scatter, phase_convolution, subpixel, transposed
from evenly.theory.balance import subpixel_places, transposed_places

__all__ = ["Rows", "padded"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rows:
    """A layer whose weights are to be solved.

    Attributes:
        layer: The layer, as it is.
        extra: Taps that are added on both sides, per axis.
        phases: Period of the weights per axis, of a plain convolution; ones otherwise.
    """

    layer: Layer
    extra: tuple[int, ...]
    phases: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer, extra: int = 0, phases: int = 1) -> Self:
        """The same number of taps or phases on every axis.

        Raises:
            ParameterError: If the layer has a stride where weights by phase make no sense, or phases it cannot have.
        """
        axes = len(layer.kernel)
        if layer.kind != "transposed" and any(s > 1 for s in layer.stride):
            raise ParameterError(f"{layer.name}: a convolution of stride {layer.stride} makes no output to be solved")
        if layer.kind != "convolution" and phases > 1:
            raise ParameterError(f"{layer.name}: phases (={phases}) are for plain convolutions; this one has its own")
        return cls(layer, (extra,) * axes, (phases,) * axes)

    @property
    def kernel(self) -> tuple[int, ...]:
        """With the added taps."""
        return tuple(k + 2 * e for k, e in zip(self.layer.kernel, self.extra, strict=True))

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Before and after, with room for the added taps."""
        moved = [e * d for e, d in zip(self.extra, self.layer.dilation, strict=True)]
        return tuple((a + m, b + m) for (a, b), m in zip(self.layer.padding, moved, strict=True))

    @property
    def stride(self) -> tuple[int, ...]:
        """Of the output's phases."""
        return {"transposed": self.layer.stride, "subpixel": self.layer.factor}.get(self.layer.kind, self.phases)

    @property
    def own_biases(self) -> bool:
        """Whether every phase has a bias of its own: it is the weight of one channel more, which is 1 everywhere."""
        return prod(self.phases) > 1

    @property
    def channels(self) -> int:
        """Inputs of a group."""
        layer = self.layer
        return len(layer.weight) // layer.groups if layer.kind == "transposed" else layer.weight.shape[1]

    @property
    def _phases_of_taps(self) -> tuple[int, ...]:
        """How often every tap is there, per axis: once for each phase that has weights of its own."""
        return (1,) * len(self.stride) if self.layer.kind == "transposed" else self.stride

    @property
    def unknowns(self) -> int:
        """Rows, the bias included."""
        return prod(self.kernel) * prod(self._phases_of_taps) * (self.channels + self.own_biases) + 1

    def places(self) -> tuple[tuple[int, ...], ...]:
        """Places of the taps, for the DC condition; of transposed and sub-pixel convolutions."""
        if self.layer.kind == "transposed":
            return transposed_places(self.kernel, self.layer.dilation)
        return subpixel_places(self.kernel, self.layer.factor, self.layer.dilation)

    def scatter(self, inputs: Sequence[int], outputs: Sequence[int]) -> Scatter:
        """The table for padded inputs (see :func:`padded`) and outputs of these sizes."""
        axes: list[Axis] = []
        for n, o, k, s, d, (before, _) in zip(
            inputs, outputs, self.kernel, self.stride, self.layer.dilation, self.padding, strict=True
        ):
            if self.layer.kind == "transposed":
                axes.append(transposed(n, o, k, s, before, d))
            elif self.layer.kind == "subpixel":
                axes.append(subpixel(n, k, s, 0, d))
            else:
                axes.append(phase_convolution(n, k, s, 0, d))
        return Scatter(tuple(axes), self.channels + self.own_biases)

    def weights(self) -> list[Array]:
        """The layer's weights as rows, group by group; added taps are 0."""
        found = []
        for weight, bias in zip(*self._grouped(), strict=True):
            grown = np.pad(weight, [(0, 0), (0, int(self.own_biases)), *((e, e) for e in self.extra)])
            found.append(np.concatenate([self._to_rows(grown), bias[None]]))
        return found

    def among(self, wider: Rows) -> NDArray[np.int64]:
        """Where these rows are among those of the same layer with more taps: those are around."""
        inner: list[slice] = []
        sizes: list[int] = []
        for own, all_, few, many in zip(self._phases_of_taps, wider.kernel, self.extra, wider.extra, strict=True):
            inner += [slice(None), slice(many - few, all_ - (many - few))]
            sizes += [own, all_]
        channels = self.channels + self.own_biases
        numbers = np.arange(prod(sizes) * channels).reshape(*sizes, channels)
        return np.append(numbers[tuple(inner)].ravel(), numbers.size)

    def edit(self, rows: Sequence[Array]) -> Edit:
        """The layer with other weights; a bias is added if it gets one."""
        weights = [self._from_rows(part[:-1]) for part in rows]
        bias = np.concatenate([part[-1] for part in rows])
        layer, n = self.layer, len(self.phases)
        if self.own_biases:
            joined, own = np.split(np.concatenate(weights, axis=n), [-1], axis=n + 1)  # (*phases, C_out, C_in, ...)
            bias = bias + own.sum(axis=tuple(range(n + 1, own.ndim)))
            return Edit(layer.name, joined, bias, self.kernel, self.padding, layer.output_padding, self.phases)
        joined = np.concatenate(weights, axis=0)
        if layer.kind == "subpixel":
            bias = np.repeat(bias, prod(layer.factor))
        unchanged = layer.bias is None and not bias.any()
        return Edit(layer.name, joined, None if unchanged else bias, self.kernel, self.padding, layer.output_padding)

    # ---- the order of weights ----------------------------------------------------------------------------------------

    def _grouped(self) -> tuple[list[Array], list[Array]]:
        layer = self.layer
        weight = np.asarray(layer.weight, np.float64)
        channels = len(weight) if layer.kind != "transposed" else weight.shape[1] * layer.groups
        bias = np.zeros(channels) if layer.bias is None else np.asarray(layer.bias, np.float64)
        if layer.kind == "subpixel":  # one bias for all phases, as a layer after the shuffle would have
            bias = bias.reshape(-1, prod(layer.factor)).mean(1)
        return np.split(weight, layer.groups), np.split(bias, layer.groups)

    def _to_rows(self, weight: Array) -> Array:
        n = len(self.extra)
        if self.layer.kind == "transposed":  # (C_in, C_out, *kernel) -> (*kernel, C_in, C_out)
            return np.moveaxis(weight, (0, 1), (-2, -1)).reshape(-1, weight.shape[1])
        if self.layer.kind == "subpixel":  # (C phases, C_in, *kernel) -> (r, o per axis, C_in, C)
            split = weight.reshape(-1, *self.layer.factor, *weight.shape[1:])
            order = [axis for k in range(n) for axis in (1 + k, 2 + n + k)]
            return split.transpose(*order, 1 + n, 0).reshape(-1, split.shape[0])
        rows = np.moveaxis(weight, (0, 1), (-1, -2))  # (C_out, C_in, *kernel) -> (*kernel, C_in, C_out)
        for axis, period in enumerate(self.phases):
            rows = np.repeat(np.expand_dims(rows, 2 * axis), period, 2 * axis)
        return rows.reshape(-1, len(weight))

    def _from_rows(self, rows: Array) -> Array:
        n, outputs = len(self.extra), rows.shape[1]
        if self.layer.kind == "transposed":
            return np.moveaxis(rows.reshape(*self.kernel, -1, outputs), (-2, -1), (0, 1))
        pairs = [size for s, k in zip(self.stride, self.kernel, strict=True) for size in (s, k)]
        split = rows.reshape(*pairs, -1, outputs)  # (r, o per axis, C_in, C)
        phases, taps = [2 * k for k in range(n)], [2 * k + 1 for k in range(n)]
        if self.layer.kind == "subpixel":
            whole = split.transpose(2 * n + 1, *phases, 2 * n, *taps)
            return whole.reshape(-1, *whole.shape[1 + n :])
        whole = split.transpose(*phases, 2 * n + 1, 2 * n, *taps)
        return whole if prod(self.phases) > 1 else whole.reshape(whole.shape[n:])


def padded(rows: Rows, inputs: Floats) -> Floats:
    """Inputs as the table reads them.

    Those of plain and sub-pixel convolutions have the layer's padding around them; where phases have biases of their
    own, every group has one channel more.
    """
    if rows.layer.kind == "transposed":
        return inputs
    modes = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    widths = [(0, 0), (0, 0), *rows.padding]
    found: Floats = np.pad(inputs, widths, mode=modes[rows.layer.pad_mode])  # type: ignore[call-overload]
    if not rows.own_biases:
        return found
    parts = [
        np.pad(x, [(0, 0), (0, 1), *((0, 0),) * len(rows.kernel)], constant_values=1)
        for x in np.split(found, rows.layer.groups, axis=1)
    ]
    return np.concatenate(parts, axis=1)
