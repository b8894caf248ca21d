"""A second look at a picture in which something was found: is it what else leaves lines at whole periods?

A sensor's colour mosaic and real texture do, and pictures that were interpolated or compressed do faintly when their
values are rounded. Each has a mark that up-sampling has not. For JPEG's grid see :mod:`evenly.measure.jpeg`.
"""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.measure.lines import PlaneSums, chosen, combine
from evenly.measure.planes import MARGIN, strips
from evenly.measure.result import PERIODS
from evenly.measure.tapers import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from evenly.measure.lines import PlaneLines
    from evenly.measure.planes import Planes
    from evenly.measure.tapers import Plan

    Grids = Mapping[str, Mapping[int, PlaneLines]]
    Level = Callable[[NDArray[Any]], NDArray[np.float32]]
    Pick = Callable[[Planes], Mapping[str, tuple[NDArray[np.float32], ...]]]

__all__ = ["TRACE_PLANES", "Examination", "TracePlanes", "gather", "grid_of"]

_CONTROLS = (7, 11, 13)  # periods that no common up-sampling leaves
_MIDDLE = 512  # pixels per side of larger pictures in which mosaics, texture and inflation are looked for
_BLOCK = 16  # bins whose median is the background of a spectral peak
_MAIN_LOBE = 2.5  # bins around a line that are its own under a Hann window
_TEXTURE = 10**2.2  # a peak so far over its background is no noise, nor an edge
_RIVAL = 0.25  # and counts if it has this part of the power of the lines that were found
_OFF, _BETTER = 0.15, 15.0  # bins beside a whole period, and the gain in log likelihood, that make a line another's
_PROBABLE = -4.6  # natural log of p = 1 %
_ALIKE = 0.3  # ratio of two colours' departures from green
_LN10 = float(np.log(10.0))


def gather(
    pixels: NDArray[Any], level: Level, layout: Plan, pick: Pick, *, every: bool = True
) -> dict[str, dict[int, PlaneLines]]:
    """The lines of some planes of a picture.

    Args:
        pixels: Shape (H, W) or (H, W, 3).
        level: From pixels to grey levels.
        layout: Frequencies and tapers for the picture less its margin.
        pick: From a strip to its planes by name, each with its weights, see :class:`~evenly.measure.lines.PlaneSums`.
        every: Whether strips hold differences and chroma.

    Returns:
        By plane, then by the base of the grid of frequencies.
    """
    height = pixels.shape[0]
    sums: dict[str, PlaneSums] = {}
    for strip in strips(pixels, level, every=every):
        first, last = max(0, MARGIN - strip.start), min(len(strip.mean), height - MARGIN - strip.start)
        inside = slice(first, last), slice(MARGIN, -MARGIN)
        for name, (plane, *weights) in pick(strip).items():
            if name not in sums:
                sums[name] = PlaneSums(layout, len(weights))
            sums[name].add(strip.start + first - MARGIN, plane[inside], *(w[inside] for w in weights))
    return {name: s.lines() for name, s in sums.items()}


TRACE_PLANES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"mean": ("mean",), "variance": ("variance",), "interpolation": ("along", "down"), "chroma": ("blue", "red")}
)
"""Planes that each trace is tested in."""


class TracePlanes:
    """Names the planes that some traces are tested in, and sums the residual's power on the way.

    Args:
        traces: Of :data:`~evenly.measure.result.TRACES`.
    """

    def __init__(self, traces: Iterable[str]) -> None:
        self.names = {name for trace in traces for name in TRACE_PLANES[trace]}
        self.every = not self.names <= {"mean", "variance"}  # whether strips must hold all planes
        self.total, self.count = 0.0, 0

    def planes(self, strip: Planes) -> dict[str, tuple[NDArray[np.float32], ...]]:
        """The tested planes of a strip, by name, each with its weights."""
        self.total += float(np.vdot(strip.residual, strip.residual))
        self.count += strip.residual.size
        found: dict[str, tuple[NDArray[np.float32], ...]] = {
            "mean": (strip.mean, strip.weight, strip.content),
            "variance": (strip.variance,),
            **{name: (plane,) for name, plane in zip(TRACE_PLANES["interpolation"], strip.differences, strict=False)},
            **{name: (c.mean, c.weight) for name, c in zip(TRACE_PLANES["chroma"], strip.chroma, strict=False)},
        }
        return {name: plane for name, plane in found.items() if name in self.names}

    @property
    def mean(self) -> float:
        """Mean power of the residual, in squared grey levels."""
        return self.total / max(self.count, 1)


def grid_of(grids: Mapping[int, PlaneLines], period: int) -> PlaneLines | None:
    """The grid that tests a period; ``None`` if the picture is too small for it."""
    return next((g for g in grids.values() if period in g.group.periods), None)


class Examination:
    """What more can be asked of a picture; every answer is computed when it is asked for.

    Args:
        pixels: Shape (H, W) or (H, W, 3).
        level: From pixels to grey levels.
        layout: Frequencies and tapers for the picture less its margin.
        grids: The lines of its planes.
    """

    def __init__(self, pixels: NDArray[Any], level: Level, layout: Plan, grids: Grids) -> None:
        self.pixels, self.level, self.layout, self.grids = pixels, level, layout, grids
        self._residuals: dict[str, Grids] = {}

    def inflation(self, traces: Iterable[str]) -> dict[str, float]:
        """How many times larger ``-log p`` is than by chance at frequencies that no up-sampling is expected at.

        Where all detail stands in a few places (a clock on a blank wall), every frequency falls into the tapers in the
        same proportions, and one accident counts for all lines: the genomic control of Devlin and Roeder (1999).

        Args:
            traces: Of :data:`~evenly.measure.result.TRACES`.

        Returns:
            By trace, at least 1.
        """
        asked = tuple(traces)
        layout = plan(*(n - 2 * MARGIN for n in self._middle.shape[:2]), _CONTROLS)
        wanted = TracePlanes(asked)
        planes = gather(self._middle, self.level, layout, wanted.planes, every=wanted.every)
        return {
            trace: max([1.0, *(_inflation(planes.get(name, {})) for name in TRACE_PLANES[trace])]) for trace in asked
        }

    def ungained(self, trace: str, period: int) -> float:
        """log10 p of the mean or chroma lines in the residual itself, not divided by the local strength.

        Division lets a pattern in the strength of skewed details leak into the mean.
        """
        if trace not in self._residuals:
            self._residuals[trace] = gather(self.pixels, self.level, self.layout, _residuals, every=trace == "chroma")
        values = []
        for name in TRACE_PLANES[trace]:
            lines = grid_of(self._residuals[trace].get(name, {}), period)
            if lines is not None:
                index, at = chosen(lines, period)
                values.append(combine(lines.log_p[:, at[0], at[1]], index).together)
        return min(values) / _LN10 if values else 0.0

    @cached_property
    def is_mosaic(self) -> bool:
        """Whether details of the colours are strongest where a Bayer sensor samples them (period 2).

        Red and blue lie on opposite rows and columns, green on all of them: along both axes the patterns of red and of
        blue depart from green's by like amounts to opposite sides, however much the colours were mixed to interpolate.
        """
        if self.pixels.ndim != 3:
            return False
        layout = plan(*(n - 2 * MARGIN for n in self._middle.shape[:2]), PERIODS)
        waves, certain = [], np.zeros(2, bool)
        for channel in range(3):
            part = self._middle[..., channel]
            found = gather(part, self.level, layout, lambda s: {"variance": (s.variance,)}, every=False)
            lines = grid_of(found["variance"], 2)
            if lines is None:
                return False
            half = lines.group.base // 2
            at = np.array([0, half]), np.array([half, 0])  # along the columns, down the rows
            waves.append(lines.wave[at].real)
            certain |= lines.log_p[0][at] < _PROBABLE
        red, green, blue = waves
        apart = np.stack([red - green, blue - green])
        sizes = np.sort(np.abs(apart), axis=0)
        return bool(certain.all() and (apart.prod(axis=0) < 0).all() and (sizes[0] > _ALIKE * sizes[1]).all())

    def is_texture(self, trace: str, periods: Iterable[int]) -> bool:
        """Whether the strongest line of these periods lies beside its frequency, or stronger ones lie elsewhere."""
        found = tuple(periods)
        name = {"mean": "mean", "chroma": "mean"}.get(trace, "variance")
        beside = [self._is_beside(grid, p) for p in found if (grid := grid_of(self.grids.get(name, {}), p))]
        return any(beside) or self._has_rival(name, found)

    def _is_beside(self, lines: PlaneLines, period: int) -> bool:
        """The tapers tell frequencies apart that differ by a fraction of a bin: which steering leaves least?"""
        _, at = chosen(lines, period)
        strongest = int(np.argmin(lines.log_p[0][at]))
        group = lines.group
        y = lines.y[at[0][strongest], at[1][strongest]].astype(np.complex128).reshape(group.tapers, group.tapers)
        energy = float(np.vdot(y, y).real)
        if not energy:
            return False
        shifts = np.linspace(-1.0, 1.0, 21)  # bins
        down, along = (
            tapers @ np.exp(2j * np.pi * np.outer(np.arange(n) / n - 0.5, shifts))
            for tapers, n in ((group.taper_rows, self.layout.height), (group.taper_columns.T, self.layout.width))
        )
        fitted = np.abs(down.conj().T @ y @ along.conj()) ** 2
        size = (np.abs(down) ** 2).sum(0)[:, None] * (np.abs(along) ** 2).sum(0)[None]
        rest = 1.0 - np.minimum(fitted / (size * energy), 1.0 - 1e-9)
        best = np.unravel_index(int(np.argmin(rest)), rest.shape)
        gain = np.log(rest[len(shifts) // 2, len(shifts) // 2] / rest[best]) * (group.tapers**2 - 1)
        return bool(np.hypot(shifts[best[0]], shifts[best[1]]) > _OFF and gain > _BETTER)

    def _has_rival(self, name: str, periods: tuple[int, ...]) -> bool:
        """Whether peaks that are none of the periods' lines come near to those that are."""
        from scipy.fft import rfft2

        plane = self._planes[name]
        height, width = plane.shape
        window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
        spectrum = rfft2(plane * window.astype(np.float32))
        power = _over_background(spectrum.real**2 + spectrum.imag**2)
        down, along = np.arange(height) / height, np.arange(power.shape[1]) / width
        own = np.zeros(power.shape, bool)
        for p in periods:
            near = [np.abs(f * p - np.rint(f * p)) / p * n <= _MAIN_LOBE for f, n in ((down, height), (along, width))]
            own |= np.outer(*near)
        slow = np.outer(np.minimum(down, 1 - down) * height < 4, along * width < 4)
        lines, others = power[own & ~slow].max(initial=0.0), power[~own & ~slow].max(initial=0.0)
        return bool(others > max(_TEXTURE, _RIVAL * lines))

    @cached_property
    def _middle(self) -> NDArray[Any]:
        """So much of a large picture as these questions need."""
        top, left = (max(0, n - _MIDDLE) // 2 for n in self.pixels.shape[:2])
        return self.pixels[top : top + _MIDDLE, left : left + _MIDDLE]

    @cached_property
    def _planes(self) -> dict[str, NDArray[np.float32]]:
        found = [(s.mean, s.variance) for s in strips(self._middle, self.level, every=False)]
        return {
            name: np.concatenate(planes)[MARGIN:-MARGIN, MARGIN:-MARGIN]
            for name, planes in zip(("mean", "variance"), zip(*found, strict=True), strict=True)
        }


def _residuals(strip: Planes) -> dict[str, tuple[NDArray[np.float32], ...]]:
    colours = zip(TRACE_PLANES["chroma"], strip.chroma, strict=False)
    return {name: (c.residual,) for name, c in colours} or {"mean": (strip.residual,)}


def _inflation(grids: Mapping[int, PlaneLines]) -> float:
    """Median of ``-log p`` over the controls' lines, over that by chance; 1 where none can be tested."""
    values = []
    for p in _CONTROLS:
        if (grid := grid_of(grids, p)) is not None:
            _, (rows, columns) = chosen(grid, p)
            values.append(grid.log_p[:2, rows, columns])
    return float(np.median(-np.concatenate(values, axis=1), axis=1).max() / np.log(2)) if values else 1.0


def _over_background(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """A power spectrum over the mean that the median of every block of bins stands for."""
    side = min(_BLOCK, *power.shape)
    rows, columns = (n // side for n in power.shape)
    blocks = power[: rows * side, : columns * side].reshape(rows, side, columns, side).swapaxes(1, 2)
    medians = np.median(blocks.reshape(rows, columns, -1), axis=2)
    background = medians.repeat(side, axis=0).repeat(side, axis=1)
    missing = [(0, n - m) for n, m in zip(power.shape, background.shape, strict=True)]
    return power * (np.float32(np.log(2)) / (np.pad(background, missing, mode="edge") + np.float32(1e-6)))
