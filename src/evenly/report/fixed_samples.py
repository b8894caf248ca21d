"""Outputs before and after a repair, on its page: pictures, waveforms, what changed, spectra with the lines marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from evenly.report.fixed_pixels import (
    Look,
    amplified,
    busiest,
    frequencies,
    lines_of,
    look,
    most_changed,
    on_both_borders,
    over_surroundings,
    power,
    shades,
    widened,
)
from evenly.report.page.charts import Area, Kind, Series, fitted, series
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import Section, fold
from evenly.report.page.pixels import Picture, before_after, cropped, magnified
from evenly.report.page.plots import Mark, legend, plane
from evenly.report.page.svg import INK, text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evenly.fix.result import FixReport, Samples

__all__ = ["pictures", "spectra"]

_SIDE, _PART, _STRETCH = 512, 192, 240
"""Pixels a side of a picture; of the part of it that is looked at closely; samples of a waveform."""
_WIDE = 1060
"""CSS pixels of a drawing over samples."""
_FEW, _MANY, _SMALL = 2, 4, 256
"""Signals that are shown of large pictures and of small ones; pixels a side of these."""
_NAMES: dict[Kind, str] = {"before": "before", "after": "after", "reference": "real data"}
_MOST_MARKED = (32, 8)
"""Longest period whose lines are marked, by axes: more marks than that hide the spectrum."""
_LINE_BINS = 2048
_MARGIN_DB = 6.0


def pictures(report: FixReport) -> Section:
    """Outputs before and after."""
    content: list[Content] = []
    for samples in report.samples:
        seen = look(samples)
        if not seen.shown:
            continue
        if len(report.samples) > 1 or seen.words:
            content.append(tag("h3", samples.output, f" ({seen.words})" if seen.words else ""))
        small = max(seen.before.shape[2:]) <= _SMALL or seen.axes == 1
        show = _picture if seen.axes == 2 else _waveform
        for place, n in enumerate(most_changed(seen)[: _MANY if small else _FEW]):
            shown = list(show(seen, n, f"{samples.output}, signal {n + 1}"))
            content += [fold(f"Signal {n + 1}", *shown)] if place else shown
    about = "Outputs for data that the repair was not fitted to, those that change most. Drag the slider to compare."
    if not any(look(samples).axes == 2 for samples in report.samples):
        about = "Outputs for data that the repair was not fitted to, where they change most."
    return Section("pictures", "Before and after", content, about, "Before, after")


def _picture(seen: Look, n: int, name: str) -> Iterator[Markup]:
    before, after = seen.before[n], seen.after[n]
    place = busiest(before, after)
    shown = {"before": shades(before, seen.low, seen.high), "after": shades(after, seen.low, seen.high)}
    whole = {kind: cropped(pixels, _SIDE, place)[0] for kind, pixels in shown.items()}
    part = "" if whole["before"].shape == shown["before"].shape else f", {_SIDE} pixels where it changes most"
    slider = before_after(
        Picture(whole["before"], f"before{part}", f"{name} before the repair"),
        Picture(whole["after"], f"after{part}", f"{name} after the repair"),
        name,
    )
    yield tag("div", slider, _real(seen, n), class_="beside")
    change, gain = amplified(before, after, seen.high - seen.low)
    most = float(np.abs(after - before).max())
    close = [
        Picture(cropped(shown["before"], _PART, place)[0], "before", f"{name} before the repair"),
        Picture(cropped(shown["after"], _PART, place)[0], "after", f"{name} after the repair"),
        Picture(
            cropped(change, _PART, place)[0],
            f"change, {gain} times as strong; grey is none, the largest is {most:.2g}",
            f"{name}: after less before, {gain} times",
        ),
    ]
    close[0] = Picture(close[0].pixels, close[0].caption, close[0].description, _within(before.shape[1:], place))
    yield tag("h4", "Where it changes most; the same place of each under a magnifier")
    yield tag("div", magnified(close), class_="abreast")


def _real(seen: Look, n: int) -> Markup | None:
    """What the output should look like, if the reader gave any."""
    if seen.reference is None:
        return None
    real = shades(seen.reference[n % len(seen.reference)], seen.low, seen.high)
    return magnified([Picture(cropped(real, _PART)[0], "real data, to compare with", "Real data")])


def _within(sizes: tuple[int, ...], place: tuple[float, float]) -> tuple[float, float]:
    """A place as shares of the part that is cut out around it."""
    height, width = sizes
    _, left, top = cropped(np.empty((height, width)), _PART, place)
    across = (place[0] * width - left) / min(width, _PART)
    return across, (place[1] * height - top) / min(height, _PART)


def _waveform(seen: Look, n: int, name: str) -> Iterator[Markup]:
    before, after = seen.before[n, 0], seen.after[n, 0]
    change = np.abs(after - before)
    length = min(_STRETCH, len(change))
    sums = np.concatenate([[0.0], np.cumsum(change)])
    start = int((sums[length:] - sums[:-length]).argmax())
    at = np.arange(start, start + length, dtype=float)
    part = slice(start, start + length)
    both = [Series("before", "before", at, before[part]), Series("after", "after", at, after[part])]
    label = f"Waveform of {name}, before and after"
    yield fitted(lambda width: series(both, label, names=("sample", "value"), width=width, height=260), _WIDE)
    yield tag("h4", f"Change: after less before; the largest of the whole signal is {change.max():.2g}")
    moved = [Series("after", "change", at, (after - before)[part])]
    label = f"Change of {name}"
    yield fitted(lambda width: series(moved, label, names=("sample", "value"), width=width, height=170), _WIDE)


# ------------------------------------------------------------------------------------------------------------- spectra


def spectra(report: FixReport) -> Section:
    """Spectra before, after and of real data."""
    content: list[Content] = []
    for samples in report.samples:
        seen = look(samples)
        if not seen.shown:
            continue
        if len(report.samples) > 1:
            content.append(tag("h3", samples.output))
        content.append((_planes if seen.axes == 2 else _curves)(seen, _periods(report, samples)))
    about = "Mean over all samples; the lines that the repair is judged by are marked."
    return Section("spectra", "Spectra", [tag("div", content, class_="stack")] if content else [], about)


def _periods(report: FixReport, samples: Samples) -> list[int]:
    return sorted({line.period for o in report.outputs if o.name == samples.output for line in o.lines})


def _three(seen: Look) -> list[tuple[Kind, NDArray[np.float64]]]:
    """Signals by whose they are."""
    found: list[tuple[Kind, NDArray[np.float64]]] = [("before", seen.before), ("after", seen.after)]
    return found if seen.reference is None else [*found, ("reference", seen.reference)]


def _planes(seen: Look, periods: Sequence[int]) -> Markup:
    bins = frequencies(seen.before.shape[2:], periods)
    levels = {kind: widened(over_surroundings(power(signals, bins))) for kind, signals in _three(seen)}
    high = max(12.0, float(levels["before"].max()))
    marks = [
        Mark(float(across), float(down), f"period {period} px", rank)
        for rank, period in enumerate(periods)
        if period <= _MOST_MARKED[1]
        for down, across in on_both_borders(lines_of(period, 2))
    ]
    drawn = [
        tag(
            "figure",
            tag("h4", _NAMES[kind].capitalize()),
            plane(values, f"Spectrum {_NAMES[kind]}; strongest frequency {values.max():.0f} dB", marks, high),
        )
        for kind, values in levels.items()
    ]
    scale = tag("p", "Power over that of the surroundings: ", legend("0 dB", f"{high:.0f} dB"), class_="note")
    return tag("div", tag("div", drawn, class_="panels"), scale)


def _curves(seen: Look, periods: Sequence[int]) -> Markup:
    bins = max(frequencies(seen.before.shape[2:], periods, _LINE_BINS), 2)
    half = bins // 2 + 1
    x = np.arange(half) / bins
    levels = {kind: power(signals, bins)[:half] for kind, signals in _three(seen)}
    top = max(float(values.max()) for values in levels.values())

    def marked(where: Area) -> list[Markup]:
        found = []
        for period in periods:
            for (frequency,) in lines_of(period, 1) if period <= _MOST_MARKED[0] else ():
                at = -float(frequency)
                if at <= 0:
                    continue
                found.append(where.rule(x=at, stroke=INK, class_="frame", stroke_dasharray="1 4"))
                if abs(at * period - 1) < 1e-9:
                    found.append(text(where.across(at) - 3, where.top + 10, f"1/{period}", "end"))
        return found

    shown = [Series(kind, _NAMES[kind], x, values - top) for kind, values in levels.items()]
    names = ("cycles per sample; lines of the periods are dotted", "power, dB below the strongest")
    low = max(-100.0, min(float(np.quantile(v - top, 0.01)) for v in levels.values()) - _MARGIN_DB)
    label = "Spectra before and after the repair"
    return fitted(lambda width: series(shown, label, names=names, extra=marked, low=low, width=width), _WIDE)
