"""What a page, or a notebook, shows of one picture that was measured."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.measure.levels import grey_levels
from evenly.measure.place import fold, local_amplitude, planes_of, shown, spectrum
from evenly.measure.tapers import new_lines
from evenly.report.measured_words import (
    LEGEND,
    PICTURE_HEAD,
    decibels,
    percent,
    probability,
    strongest,
    testable,
    where,
)
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import Section, badge, listing, table
from evenly.report.page.pixels import Picture, cropped, magnified, reduced, uri
from evenly.report.page.plots import RAMP, Mark, cell, indices, legend, plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evenly.measure.result import Measurement, PeriodResult, Trace

__all__ = ["Look", "grey_bytes", "periods_table", "picture_facts", "picture_sections"]

_TRACES = (
    "Traces: mean, a pattern added to the brightness; variance, in the strength of fine detail; interpolation, in the "
    f"differences of neighbours; chroma, added to the colours. {LEGEND['image']}."
)
_LARGEST = 1536  # pixels per side that pictures are drawn from: the middle
_PART, _WHOLE, _MOST_CELLS, _MOST_MARKED = 224, 300, 4, 8
_LOUD, _MOST_GAIN = 70.0, 100.0  # grey levels that a pattern alone is amplified to, at most so many times
_REACH, _MOST_LINES = 16, 4  # pixels: a pattern's mean around each; lines that it is drawn from, the strongest


@dataclass(frozen=True)
class Look:
    """A measured picture, ready to be drawn: what its pictures need is computed once."""

    measurement: Measurement

    @property
    def drawable(self) -> bool:
        """Whether there are pixels, and enough to test anything."""
        return self.measurement.pixels is not None and testable(self.measurement.to_dict())

    @cached_property
    def period(self) -> int:
        """The period with the most evidence."""
        return shown(self.measurement)[1]

    @cached_property
    def _part(self) -> tuple[NDArray[Any], Any]:
        pixels, level, _ = grey_levels(shown(self.measurement)[0])
        top, left = (max(0, n - _LARGEST) // 2 // self.period * self.period for n in pixels.shape[:2])
        return pixels[top : top + _LARGEST, left : left + _LARGEST], level

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """In grey levels of 255, shape (H, W) or (H, W, 3); of a large picture the middle."""
        pixels, level = self._part
        return grey_bytes(level(pixels))

    @cached_property
    def planes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The weighted residual of the mean trace, and its weight."""
        residual, weight = planes_of(*self._part)
        return residual, weight

    @cached_property
    def amplitude(self) -> NDArray[np.float64]:
        """Of the strongest period, around every pixel, in grey levels."""
        trace = self.measurement.periods[self.period].mean
        return local_amplitude(*self.planes, self.period, None if trace is None else trace.lines)

    @cached_property
    def middle(self) -> tuple[float, float]:
        """Where the strongest period is strongest, as shares of width and height."""
        row, column = np.unravel_index(int(self.amplitude.argmax()), self.amplitude.shape)
        return (float(column) + 0.5) / self.amplitude.shape[1], (float(row) + 0.5) / self.amplitude.shape[0]

    def pattern(self, left: int, top: int, width: int, height: int) -> NDArray[np.float64]:
        """A part of the strongest period alone, in grey levels: its strongest lines as they are around each pixel."""
        from scipy.ndimage import gaussian_filter

        period, trace = self.period, self.measurement.periods[self.period].mean
        room = 4 * _REACH
        rows = slice(max(0, top - room), top + height + room)
        columns = slice(max(0, left - room), left + width + room)
        residual, weight = (part[rows, columns] for part in self.planes)
        index = new_lines(period)
        if trace is not None and trace.lines is not None:
            index = trace.lines.index[np.argsort(trace.lines.log10_p, kind="stable")][:_MOST_LINES]
        y, x = np.arange(rows.start, rows.start + len(residual)), np.arange(residual.shape[1]) + columns.start
        total = np.zeros(residual.shape)
        for down, across in index:
            wave = np.exp(-2j * np.pi * (down * y[:, None] + across * x) / period)
            gain = 1 - np.prod(np.cos(np.pi * np.array([down, across]) / period) ** 2)
            shifted = residual * wave
            local = gaussian_filter(shifted.real, _REACH) + 1j * gaussian_filter(shifted.imag, _REACH)
            own = 2 * down % period == 0 and 2 * across % period == 0  # its own conjugate
            total += (1.0 if own else 2.0) / gain * (local * wave.conj()).real
        total /= np.maximum(gaussian_filter(weight.astype(np.float64), _REACH), 1e-9)
        return np.asarray(total[top - rows.start :, left - columns.start :][:height, :width])

    def cell(self, period: int, side: float = 200) -> Markup:
        """The mean pattern of a period, as found in the picture."""
        pattern = fold(*self.planes, period)
        most = float(np.abs(pattern).max())
        form = "+.1f" if most >= 1 else "+.2f"
        words = [[format(float(v), form) for v in line] for line in pattern] if period <= 4 else []
        label = f"Mean pattern of period {period} px, between {pattern.min():+.2g} and {pattern.max():+.2g} grey levels"
        return cell(pattern, label, copies=2 if period <= 8 else 1, side=side, words=words)

    def _clearest(self, period: int) -> tuple[NDArray[np.int64], str]:
        """The lines of a period; of many those with the most evidence, and what they are called."""
        most = strongest(self.measurement.periods[period])
        if most is None or most[1].lines is None or len(most[1].lines.index) <= _MOST_MARKED:
            return new_lines(period), f"lines of period {period} px"
        lines = most[1].lines
        order = np.argsort(lines.log10_p, kind="stable")[:_MOST_MARKED]
        return lines.index[order], f"the {_MOST_MARKED} clearest lines of period {period} px"

    def spectrum(self) -> Markup:
        """The spectrum of the fine detail with the lines of the periods found marked."""
        from scipy.ndimage import maximum_filter

        power = maximum_filter(spectrum(self.planes[0]), 5, mode="wrap")  # a line of one bin could not be seen
        high = min(max(float(power.max()), 12.0), 40.0)
        found = self.measurement.found
        marks = [
            Mark(x, y, words, min(rank, 4))
            for rank, period in enumerate(found)
            for index, words in [self._clearest(period)]
            for x, y in _places(period, index)
        ]
        label = "Power of the fine detail by frequency" + (f", lines of {len(found)} periods marked" if found else "")
        return tag(
            "figure",
            plane(power, label, marks, high),
            tag("figcaption", "Power over what surrounds it: ", legend("0 dB", f"{high:.0f} dB")),
        )


def grey_bytes(levels: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Grey levels as bytes."""
    return np.asarray(np.rint(np.clip(levels, 0, 255)), np.uint8)


def _places(period: int, index: NDArray[np.int64]) -> list[tuple[float, float]]:
    """Frequencies across and down of a period's lines, from -1/2 to 1/2; those at one half on both borders."""
    places = set()
    for down, across in np.concatenate([index, -index]).tolist():
        sides = [((f / period + 0.5) % 1 - 0.5) for f in (across, down)]
        for x in {sides[0], -sides[0] if sides[0] == -0.5 else sides[0]}:
            places |= {(x, y) for y in {sides[1], -sides[1] if sides[1] == -0.5 else sides[1]}}
    return sorted(places)


# ------------------------------------------------------------------------------------------------------------ sections


def picture_sections(look: Look) -> list[Section]:
    """Everything that is known of a picture, pictures first."""
    measurement = look.measurement
    found = [f"Period {p} px, {where(measurement.periods[p])}" for p in measurement.found]
    return [
        *([_close(look), _lines(look), _place(look)] if look.drawable else []),
        Section("periods", "Every period", [periods_table(measurement.periods, measurement.found), listing(found)]),
        Section("notes", "Notes", [listing(measurement.notes)] if measurement.notes else []),
    ]


def _close(look: Look) -> Section:
    part, left, top = cropped(look.pixels, _PART, look.middle)
    height, width = part.shape[:2]
    pattern = look.pattern(left, top, width, height)
    gain = float(np.clip(_LOUD / max(float(np.abs(pattern).max()), 1e-9), 1, _MOST_GAIN))
    whole = part.shape[:2] == (look.measurement.height, look.measurement.width)
    place = (
        (look.middle[0] * look.pixels.shape[1] - left) / width,
        (look.middle[1] * look.pixels.shape[0] - top) / height,
    )
    words = "The picture, pixel for pixel" if whole else f"{width}x{height} pixels where the pattern is strongest"
    amplified = f"There: period {look.period} px alone, amplified {gain:.2g} times"
    return Section(
        "picture",
        "Look at it",
        [
            magnified(
                [
                    Picture(part, words, words, place),
                    Picture(grey_bytes(128 + gain * pattern), amplified, amplified),
                ]
            ),
        ],
        "The frame shows what is enlarged; the pointer, a finger or the arrow keys move it in both.",
        "Picture",
    )


def _lines(look: Look) -> Section:
    measurement = look.measurement
    cells = [
        tag(
            "figure", look.cell(period), tag("figcaption", f"Mean pattern of period {period} px, in grey levels of 255")
        )
        for period in (measurement.found or (look.period,))[:_MOST_CELLS]
    ]
    if not measurement.found:
        cells = [[*cells, tag("p", "Nothing was found: this is what chance leaves.", class_="note")]]  # type: ignore[list-item]
    return Section(
        "lines",
        "Which frequencies, which pattern",
        [tag("div", look.spectrum(), tag("div", cells, class_="cells"), class_="panels")],
        "A pattern of period P has its power in lines at multiples of 1/P cycles per pixel. Beside them: the mean of "
        "all its copies in the picture, outlined once.",
        "Spectrum",
    )


def _place(look: Look) -> Section:
    whole, amplitude = reduced(look.pixels, _WHOLE), reduced(look.amplitude, _WHOLE)
    most = float(look.amplitude.max())
    factor = -(-max(look.pixels.shape[:2]) // _WHOLE)
    size = {"width": whole.shape[1], "height": whole.shape[0]}
    scale = "" if factor == 1 else f", at 1/{factor} of its size"
    middle = "" if look.pixels.shape[:2] == (look.measurement.height, look.measurement.width) else "middle of the "
    maps = [
        tag("figure", tag("img", src=uri(grey_bytes(whole)), alt="the picture", **size),
            tag("figcaption", f"The {middle}picture{scale}")),
        tag("figure", tag("img", src=uri(indices(amplitude, 0, most), RAMP), alt="map of the pattern", **size),
            tag("figcaption", f"Amplitude of period {look.period} px around every pixel: ",
                legend("0", f"{most:.2g} grey levels"))),
    ]  # fmt: skip
    return Section("place", f"Where period {look.period} px is", [tag("div", maps, class_="maps")], None, "Place")


def periods_table(results: Mapping[int, PeriodResult], found: Collection[int]) -> list[Markup | None]:
    """A row for every period, a column for every trace; and what they mean."""
    rows: list[list[Content]] = []
    for period, result in results.items():
        name: list[Content] = [f"{period} px", [" ", badge("found", "strong")] if period in found else None]
        cells: list[Content] = [_evidence(trace) for trace in result.traces().values()]
        rows.append([name, *cells, percent(result.energy_fraction)])
    whole = table("Every period", PICTURE_HEAD, rows, figures={1, 2, 3, 4, 5})
    return [whole, tag("p", _TRACES, class_="note")]


def _evidence(trace: Trace | None) -> Content:
    if trace is None:
        return "-"
    return [decibels(trace.db), tag("small", probability(trace.log10_p), class_="below")]


def picture_facts(measurement: Measurement) -> Iterator[tuple[str, Content, Content, str]]:
    """The figures of the strongest period."""
    there = {p: most for p, r in measurement.periods.items() if (most := strongest(r)) is not None}
    if not there:
        return
    period = min(measurement.found or there, key=lambda p: there[p][1].log10_p)
    name, trace = there[period]
    tone = "bad" if measurement.found else ""
    yield f"Strongest, period {period} px", decibels(trace.db), f"over the background next to it, {name} trace", tone
    words = f"of so much in a picture without it, {len(there)} periods tested"
    yield "Probability", probability(trace.log10_p), words, tone
    mean = measurement.periods[period].mean
    if mean is not None and mean.lines is not None and len(mean.lines.index):
        amplitude = float(mean.lines.amplitude[mean.lines.log10_p.argmin()])
        yield "Amplitude", f"{amplitude:.2g} grey levels", "of 255, of its clearest line in the brightness", ""
    share = percent(measurement.periods[period].energy_fraction)
    yield "Energy", share, "of the picture's fine detail is this pattern", ""
