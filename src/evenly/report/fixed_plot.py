"""A figure of a repair: lines before and after, and what every repair that was tried left and cost.

It is made without matplotlib's global state: save it with ``figure.savefig("file.png")``; notebooks show it. Colours
are those of Okabe and Ito, which colour-blind people can tell apart; shapes say the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evenly.measure.plot import new_figure
from evenly.report.fixed_words import compared, step, verdict
from evenly.report.page.charts import shortened
from evenly.report.words import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evenly.fix.result import FixReport

__all__ = ["plot_fix"]

_BEFORE, _AFTER, _LIMIT = "#D55E00", "#0072B2", "black"
_LETTERS = 900.0  # of names, as drawings count them


def plot_fix(report: FixReport) -> Figure:
    """Lines before and after on the left, the repairs that were tried on the right.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    rows = sum(len(output.lines) for output in report.outputs)
    figure = new_figure(12.6, max(4.2, 1.8 + 0.42 * rows))
    left, right = figure.subplots(1, 2)
    _draw_lines(left, report)
    _draw_tried(right, report)
    figure.suptitle(f"{clean(report.model)}: {verdict(report)}", fontsize=12, parse_math=False, wrap=True)
    return figure


def _draw_lines(axes: Axes, report: FixReport) -> None:
    heard = [(o, line) for o in report.outputs for line in o.lines if line.before.signals and line.after.signals]
    places = range(len(heard))
    before = [line.before_over_db for _, line in heard]
    after = [line.after_over_db for _, line in heard]
    axes.hlines(places, before, after, color="grey", linewidth=1.5)
    axes.plot(before, places, "s", color=_BEFORE, markerfacecolor="none", markeredgewidth=1.8, label="before")
    axes.plot(after, places, "o", color=_AFTER, label="after")
    axes.plot([line.limit_db for _, line in heard], places, "|", color=_LIMIT, markersize=16, label="limit")
    several = len(report.outputs) > 1
    names = [f"{shortened(o.name, _LETTERS)}, " * several + f"{line.period} {step(o)}" for o, line in heard]
    axes.set_yticks(list(places), names, parse_math=False)
    axes.set(xlabel=f"power of the lines over {compared(report)}, dB", ylabel="period")
    axes.set_ylim(max(len(heard), 1) - 0.5, -0.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if heard:
        axes.legend(frameon=False, fontsize=9)


def _draw_tried(axes: Axes, report: FixReport) -> None:
    points = [(n, p) for n, p in enumerate(report.frontier, 1) if math.isfinite(p.worst_db)]
    finite = [p.psnr_db for _, p in points if math.isfinite(p.psnr_db)]
    unchanged = max([report.max_distortion_db, *finite]) + 3  # where an infinite PSNR is drawn
    drawn = [(n, p.chosen, min(p.psnr_db, unchanged), p.worst_db) for n, p in points]
    best = "".join(f": {shortened(p.method, _LETTERS)}" for _, p in points if p.chosen)
    for label, colour, wanted, size in (("tried", "grey", False, 7), (f"chosen{best}", _AFTER, True, 11)):
        shown = [(x, y) for _, chosen, x, y in drawn if chosen is wanted]
        axes.plot([x for x, _ in shown], [y for _, y in shown], "o", color=colour, markersize=size, label=label)
    for number, _, x, y in drawn:
        words = f"{number}, unchanged" if x == unchanged else str(number)
        axes.annotate(words, (x, y), (-8, 5), textcoords="offset points", fontsize=9, ha="right")
    axes.axhline(report.limit_db, color="black", linestyle="--", linewidth=0.9)
    axes.axvline(report.max_distortion_db, color="black", linestyle="--", linewidth=0.9, label="limits")
    if finite:
        axes.set_xticks([x for x in axes.get_xticks() if x <= max(finite)])
    axes.set(xlabel="PSNR of the new output to the original one, dB", ylabel=f"worst line over {compared(report)}, dB")
    axes.spines[["top", "right"]].set_visible(False)
    for entry in axes.legend(frameon=False, fontsize=9).get_texts():
        entry.set_parse_math(False)  # names may hold "$"
