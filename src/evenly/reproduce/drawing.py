"""Plots, drawn once: as SVG whose colours the page chooses (light or dark), and as PNG for Markdown."""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from evenly.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from evenly.reproduce.result import Plot, Series

__all__ = ["LIGHT", "NAMES", "plot_png", "plot_svg"]

# Okabe and Ito (2008): seven colours that people with any form of colour blindness tell apart.
LIGHT: Final = {
    "text": "#1d2430", "muted": "#697386", "grid": "#e3e7ee", "paper": "#ffffff",
    "s0": "#0072b2", "s1": "#d55e00", "s2": "#009e73", "s3": "#9b4f7f", "s4": "#c58b00",
    "s5": "#4a9fd4", "s6": "#5b6270",
}  # fmt: skip
NAMES: Final = tuple(LIGHT)
_PLACES: Final = {name: f"#fe01{number:02x}" for number, name in enumerate(NAMES)}
"""Colours that stand for a name until the page's own are put in their place."""
_DASHES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_WIDTH, _HEIGHT = 6.2, 3.6  # inches of 72 units: text of 10 units is readable on a telephone, too
_LONG_NAMES = 26
"""Characters of all names of bars together from which on bars lie."""
_ACROSS, _UPWARD = 62, 36
"""Characters of an axis' label in a line: what fits beside the axis, so that none is cut off."""
_MARK_LETTER = 0.0135
"""Width of a letter of a mark's word, as a share of the axis."""
_LEGEND_NAME, _LEGEND_LINE = 38, 0.19
"""Characters of a name up to which two stand in a line of a legend, and a line's height in inches."""


def plot_svg(plot: Plot, key: str) -> str:
    """A plot without legend, as an ``<svg>`` element whose colours are ``var(--plot-NAME)``, see :data:`NAMES`.

    Args:
        plot: What to draw.
        key: Unique on the page; identifiers in the drawing are made from it.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    with _drawn(plot, _PLACES, legend=False, salt=key) as figure:
        sink = io.StringIO()
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r"#([A-Za-z_][\w.-]*)", text))
    prefix = "p" + hashlib.sha256(key.encode()).hexdigest()[:8]
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", text)
    for name, colour in _PLACES.items():
        text = text.replace(colour, f"var(--plot-{name})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    head, _, rest = text.partition(">")
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    return f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]} aria-hidden="true">{rest}'.strip()


def plot_png(plot: Plot) -> bytes:
    """A plot with legend on white, as PNG; its title stands above it.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    with _drawn(plot, LIGHT, legend=True, salt="") as figure:
        sink = io.BytesIO()
        figure.savefig(sink, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return sink.getvalue()


@contextmanager
def _drawn(plot: Plot, colours: dict[str, str], *, legend: bool, salt: str) -> Iterator[Any]:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "matplotlib is not installed; the plots need it: pip install 'evenly[reproduce]'"
        ) from error
    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "DejaVu Sans", "font.size": 10,
        "axes.edgecolor": colours["muted"], "axes.labelcolor": colours["text"], "text.color": colours["text"],
        "xtick.color": colours["muted"], "ytick.color": colours["muted"], "xtick.labelcolor": colours["text"],
        "ytick.labelcolor": colours["text"], "axes.spines.top": False, "axes.spines.right": False,
        "axes.facecolor": colours["paper"], "figure.facecolor": colours["paper"], "text.parse_math": False,
        "axes.unicode_minus": False,
    }  # fmt: skip
    with mpl.rc_context(style):
        lying = _lies(plot)
        height = max(_HEIGHT, 0.9 + 0.26 * _bars(plot)) if lying else _HEIGHT
        columns = 2 if all(len(series.name) <= _LEGEND_NAME for series in plot.series) else 1
        lines = -(-len(plot.series) // columns) if legend and len(plot.series) > 1 else 0
        figure = Figure(figsize=(_WIDTH, height + _LEGEND_LINE * lines), layout="constrained")
        axes = figure.add_subplot()
        _axes(axes, plot, colours, lying=lying)
        if _names(plot) is None:
            for number, series in enumerate(plot.series):
                _curve(axes, plot, series, number, colours)
            _marks(axes, plot, colours)
        else:
            _categories(axes, plot, colours, lying=lying)
        for axis in _logarithmic(plot, lying=lying):
            _ticks(axes, axis)
        if lines:
            figure.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize=9)
        yield figure


def _names(plot: Plot) -> list[str] | None:
    """Names on the x axis in order; ``None`` if numbers are there."""
    if plot.kind != "bars" and not any(isinstance(x, str) for series in plot.series for x in series.x):
        return None
    return list(dict.fromkeys(_name(x) for series in plot.series for x in series.x))


def _name(x: float | str) -> str:
    return x if isinstance(x, str) else f"{x:g}"


def _bars(plot: Plot) -> int:
    return len(_names(plot) or ()) * (len(plot.series) if plot.kind == "bars" else 1)


def _lies(plot: Plot) -> bool:
    names = _names(plot)
    return names is not None and plot.kind != "line" and sum(map(len, names)) > _LONG_NAMES


def _axes(axes: Axes, plot: Plot, colours: dict[str, str], *, lying: bool) -> None:
    across, upward = (plot.y_label, plot.x_label) if lying else (plot.x_label, plot.y_label)
    axes.set_xlabel(_lines(across, _ACROSS - max(map(len, _names(plot) or [""])) if lying else _ACROSS))
    axes.set_ylabel(_lines(upward, _UPWARD))
    for axis in _logarithmic(plot, lying=lying):
        axes.set(**{f"{axis}scale": "log"})
    axes.grid(axis="x" if lying else "y", color=colours["grid"], linewidth=0.8)
    axes.set_axisbelow(True)


def _lines(text: str, width: int) -> str:
    """Text in lines of about one length, none much longer than `width` characters."""
    text = text.replace(" %", "\N{NO-BREAK SPACE}%")
    return fill(text, -(-len(text) // -(-len(text) // width)) + 4) if len(text) > width else text


def _logarithmic(plot: Plot, *, lying: bool) -> list[Literal["x", "y"]]:
    """The axes that are."""
    found: list[Literal["x", "y"]] = ["x"] if plot.log_x and _names(plot) is None else []
    return [*found, "x" if lying else "y"] if plot.log_y else found


def _ticks(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Ticks of a logarithmic axis, enough of them however short it is, with plain numbers.

    Matplotlib's own numbers are formulas, which are not read here (names may hold a ``$``).
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    ticks = axes.xaxis if axis == "x" else axes.yaxis
    low, high = sorted(axes.get_xlim() if axis == "x" else axes.get_ylim())
    decades = np.log10(high / low)
    if decades < 0.7:
        places = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ticks.set_major_locator(FixedLocator([float(place) for place in places if low <= place <= high]))
    elif decades < 2.5:
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, plot: Plot, series: Series, number: int, colours: dict[str, str]) -> None:
    colour = colours[f"s{number % len(_MARKERS)}"]
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    if plot.kind == "points":
        axes.errorbar(
            x, y, _reach(series), fmt=_MARKERS[number % len(_MARKERS)], color=colour, markersize=4.5, capsize=2.5,
            elinewidth=1.2, label=series.name,
        )  # fmt: skip
        return
    dash = _DASHES[number % len(_DASHES)]
    marker = _MARKERS[number % len(_MARKERS)] if len(x) <= 12 else ""
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.6, marker=marker, markersize=4, label=series.name)
    if series.low is not None and series.high is not None:
        axes.fill_between(x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)


def _reach(series: Series) -> Any:
    """Lengths of the interval below and above, ``(2, n)``, or ``None``."""
    if series.low is None or series.high is None:
        return None
    y = np.asarray(series.y, np.float64)
    return np.maximum(np.stack([y - np.asarray(series.low), np.asarray(series.high) - y]), 0)


def _marks(axes: Axes, plot: Plot, colours: dict[str, str]) -> None:
    """Dotted lines with a word each; words that would stand on each other's place take another height."""
    low, high = axes.get_xlim()
    axes.set_xlim(low, high)
    marks = sorted((x, word) for x, word in plot.marks if low <= x <= high)
    places = [float(axes.transLimits.transform(axes.transScale.transform((x, 1)))[0]) for x, _ in marks]
    ends: list[float] = []  # of the words, by height
    for (x, word), place in zip(marks, places, strict=True):
        room = len(word) * _MARK_LETTER
        side: Literal["right", "left", "center"] = (
            "right" if place + room / 2 > 1 else "left" if place < room / 2 else "center"
        )
        begin = place - {"right": room, "left": 0, "center": room / 2}[side]
        level = next((level for level, end in enumerate(ends) if end < begin), len(ends))
        ends[level : level + 1] = [begin + room + _MARK_LETTER]
        axes.axvline(x, color=colours["muted"], linestyle=":", linewidth=1)
        axes.annotate(
            word, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3 + 11 * level), textcoords="offset points",
            ha=side, fontsize=8.5, color=colours["muted"],
        )  # fmt: skip


def _categories(axes: Axes, plot: Plot, colours: dict[str, str], *, lying: bool) -> None:
    names = _names(plot) or []
    count = len(plot.series)
    width = 0.8 / count
    for number, series in enumerate(plot.series):
        colour = colours[f"s{number % len(_MARKERS)}"]
        place = np.array([names.index(_name(x)) for x in series.x], np.float64)
        y = np.asarray(series.y, np.float64)
        reach = _reach(series)
        if plot.kind == "bars":
            place += (number - (count - 1) / 2) * width
            error = {"ecolor": colours["text"], "error_kw": {"elinewidth": 1.1, "capsize": 2.5}}
            # A logarithmic axis has no 0; a ratio of 1 is what bars can begin at there.
            base, length = (1.0, y - 1) if plot.log_y else (0.0, y)
            draw = axes.barh if lying else axes.bar
            draw(place, length, width * 0.9, base, color=colour, label=series.name,
                 **({f"{'x' if lying else 'y'}err": reach} | error if reach is not None else {}))  # fmt: skip
            continue
        place += (number - (count - 1) / 2) * min(0.16, width)
        a, b = (y, place) if lying else (place, y)
        axes.errorbar(
            a, b, **{"xerr" if lying else "yerr": reach}, color=colour, label=series.name, elinewidth=1.2, capsize=2.5,
            fmt=_MARKERS[number % len(_MARKERS)] + ("-" if plot.kind == "line" else ""), markersize=4.5,
        )  # fmt: skip
    if lying:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)  # the first at the top
    else:
        axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="y" if lying else "x", length=0)
