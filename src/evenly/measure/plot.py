"""Figures of what was measured: where in the spectrum, what pattern, where in the picture.

Figures are made without matplotlib's global state: save one with ``figure.savefig("file.png")``; notebooks show it.
Colours are those of viridis, cividis and of Okabe and Ito, which colour-blind people can tell apart.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import MissingDependencyError
from evenly.measure.levels import grey_levels
from evenly.measure.place import BINS, fold, local_amplitude, planes_of, shown, spectrum
from evenly.measure.result import TRACES
from evenly.measure.tapers import new_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from evenly.measure.result import Measurement, SetMeasurement
    from evenly.measure.sound_result import AudioMeasurement

__all__ = [
    "FOUND",
    "MARKERS",
    "new_figure",
    "plot_measurement",
    "plot_set",
]

_LARGEST = 4096  # pixels per side that are drawn of a picture, its middle
_PAD = 12  # points between a panel and its title, room for markers on the border
MARKERS = ("o", "s", "D", "^", "v")
FOUND, _FIRST, _SECOND = "#D55E00", "#0072B2", "#E69F00"


def plot_measurement(measurement: Measurement, period: int | None = None) -> Figure:
    """The spectrum of a picture's fine detail, the pattern of one period, and where in the picture it is.

    Args:
        measurement: Of a picture whose pixels were kept.
        period: In pixels; by default the one with the most evidence, among those found if there are any.

    Raises:
        UsageError: If there are no pixels, or if the period was not measured.
        MissingDependencyError: If matplotlib is not installed.
    """
    kept, chosen = shown(measurement, period)
    pixels, level, _ = grey_levels(kept)
    top, left = (max(0, n - _LARGEST) // 2 // chosen * chosen for n in pixels.shape[:2])
    pixels = pixels[top : top + _LARGEST, left : left + _LARGEST]
    plane, weight = planes_of(pixels, level)
    shape = min(max(plane.shape[1] / plane.shape[0], 0.6), 1.8)
    panel = 8.0 / (2 + shape)  # inches: what labels and colour bars leave of the width
    figure = new_figure(12.6, panel + 1.55)
    left_panel, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, shape))
    _draw_spectrum(left_panel, spectrum(plane), measurement)
    _draw_cell(middle, fold(plane, weight, chosen), chosen)
    trace = measurement.periods[chosen].mean
    amplitude = local_amplitude(plane, weight, chosen, trace.lines if trace is not None else None)
    _draw_map(right, pixels, amplitude, chosen, (top, left))
    figure.suptitle(title(measurement, "px"), fontsize=12, parse_math=False)  # paths may hold "$"
    return figure


def title(measurement: Measurement | AudioMeasurement, unit: str) -> str:
    """The file, if there is one, and the verdict."""
    from evenly.report.measured_words import judged
    from evenly.report.words import clean

    return (f"{clean(measurement.path)}: " if measurement.path else "") + judged(measurement, unit)


# ------------------------------------------------------------------------------------------------------------ panels


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as NewFigure
    except ImportError as error:
        raise MissingDependencyError(
            "figures need matplotlib, which is not installed; pip install 'evenly[plot]'"
        ) from error
    return NewFigure(figsize=(width, height), dpi=100, layout="constrained")


def _draw_spectrum(axes: Axes, power: NDArray[np.float64], measurement: Measurement) -> None:
    from scipy.ndimage import maximum_filter

    half = 0.5 / BINS
    shown = maximum_filter(np.fft.fftshift(power), 5, mode="wrap")  # so that a line of one bin can be seen
    shown = np.pad(shown, (0, 1), mode="wrap")  # one half of a cycle per pixel is on both borders
    picture = axes.imshow(
        shown,
        extent=(-0.5 - half, 0.5 + half, 0.5 + half, -0.5 - half),
        cmap="viridis",
        vmin=0,
        vmax=max(float(shown.max()), 12.0),
        interpolation="nearest",
    )
    for period, result in measurement.periods.items():
        if period not in measurement.found and any(t is not None for t in result.traces().values()):
            x, y = _places(period)
            axes.plot(x, y, ".", color="white", markersize=1.6, alpha=0.5)
    for rank, period in enumerate(measurement.found):
        x, y = _places(period)
        axes.plot(
            *(x, y, MARKERS[min(rank, len(MARKERS) - 1)]),
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=FOUND,
            markeredgewidth=1.6,
            clip_on=False,
            label=f"period {period} px",
        )
    axes.set_title("Fine detail by frequency", pad=_PAD)
    axes.set(xlabel="cycles/pixel across", ylabel="cycles/pixel down")
    axes.set(xlim=(-0.5 - half, 0.5 + half), ylim=(0.5 + half, -0.5 - half))
    ticks = [-0.5, -0.25, 0, 0.25, 0.5]
    axes.set(xticks=ticks, yticks=ticks)
    if measurement.found:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False, fontsize=8)
    axes.figure.colorbar(picture, ax=axes, shrink=0.84, label="power in dB over its surroundings")


def _places(period: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies of a period's lines in the plane as drawn, both of each pair; those at one half on both borders."""
    index = new_lines(period)
    both = np.concatenate([index, -index]) / period
    both -= np.floor(both + 0.5)  # [-1/2, 1/2)
    wrapped = [both]
    for axis in (0, 1):
        there = np.concatenate(wrapped)
        edge = there[np.isclose(there[:, axis], -0.5)]
        edge[:, axis] = 0.5
        wrapped.append(edge)
    places = np.unique(np.concatenate(wrapped), axis=0)
    return places[:, 1], places[:, 0]


def _draw_cell(axes: Axes, cell: NDArray[np.float64], period: int) -> None:
    copies = max(2, math.ceil(6 / period))
    size = copies * period
    most = max(float(np.abs(cell).max()), 1e-3)
    shown = np.tile(cell, (copies, copies))
    picture = axes.imshow(shown, cmap="cividis", vmin=-most, vmax=most, extent=(0, size, size, 0))
    axes.plot([0, period, period, 0, 0], [0, 0, period, period, 0], color=FOUND, linewidth=2.5, clip_on=False)
    if period <= 4:
        for y in range(period):
            for x in range(period):
                ink = "black" if cell[y, x] > 0 else "white"
                words = f"{cell[y, x]:+.{1 if most >= 1 else 2}f}"
                axes.text(x + 0.5, y + 0.5, words, ha="center", va="center", color=ink, fontsize=8)
    axes.set_title(f"Mean pattern of period {period} px", pad=_PAD)
    axes.set(xlabel="pixels across", ylabel="pixels down")
    step = 1 if size <= 8 else math.ceil(size / 8)
    axes.set(xticks=range(0, size + 1, step), yticks=range(0, size + 1, step))
    axes.figure.colorbar(picture, ax=axes, shrink=0.84, label="grey levels (of 255)")


def _draw_map(
    axes: Axes, pixels: NDArray[Any], amplitude: NDArray[np.float64], period: int, first: tuple[int, int]
) -> None:
    height, width = amplitude.shape
    extent = (first[1], first[1] + width, first[0] + height, first[0])
    luma = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    low, high = float(luma.min()), float(luma.max())
    room = max(high - low, 1e-6)
    axes.imshow(luma, cmap="gray", vmin=low - room, vmax=high, extent=extent)  # dimmed: from grey to white
    most = max(float(amplitude.max()), 1e-3)
    veil = 0.85 * np.clip(amplitude / most, 0, 1)
    picture = axes.imshow(amplitude, cmap="viridis", vmin=0, vmax=most, alpha=veil, extent=extent)
    axes.set_title(f"Where period {period} px is", pad=_PAD)
    axes.set(xlabel="pixels across", ylabel="pixels down")
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.84, label="local amplitude in grey levels (of 255)")
    if bar.solids is not None:
        bar.solids.set(alpha=1)


# -------------------------------------------------------------------------------------------------------------- sets


def plot_set(
    measured: SetMeasurement, against: SetMeasurement | None = None, names: Sequence[str] = ("this set", "against")
) -> Figure:
    """Mean power of every trace and period in a set, and in one to compare it with.

    Args:
        measured: The set.
        against: Another one, for instance of real pictures.
        names: Of both, for the legend.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    figure = new_figure(12.6, 4.2)
    panels = figure.subplots(1, len(TRACES), sharey=True)
    sets = [(measured, _FIRST)] + ([(against, _SECOND)] if against is not None else [])
    periods = list(measured.periods)
    wide = 0.8 / len(sets)
    for panel, name in zip(panels, TRACES, strict=True):
        for number, (one, colour) in enumerate(sets):
            traces = [one.periods[p].traces()[name] if p in one.periods else None for p in periods]
            there = [(k, t.db, t.log10_p) for k, t in enumerate(traces) if t is not None and t.db is not None]
            middle = [k + (number - (len(sets) - 1) / 2) * wide for k, _, _ in there]
            bars = panel.bar(middle, [db for _, db, _ in there], wide, color=colour, label=names[number])
            marks = ["*" if log10_p < -4 else "" for _, _, log10_p in there]
            panel.bar_label(bars, marks, color=FOUND, fontsize=12, padding=-2)
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set(title=name, xlabel="period in pixels", xticks=range(len(periods)), xticklabels=periods)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("mean power over the background in dB")
    if against is not None:
        panels[-1].legend(frameon=False, fontsize=9)
    from evenly.report.measured_words import judged

    figure.suptitle(f"{judged(measured, 'px')}  (* p below 0.0001, all pictures together)", fontsize=12)
    return figure
