"""For people at a terminal: what was checked, the layers, the findings, the verdict.

Plain ASCII layout, so that it survives pipes, log files and narrow terminals; colours only where the view allows them.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from evenly.report.paper import Paper
from evenly.report.words import (
    WEIGHTS,
    clean,
    count,
    geometry,
    layer_figures,
    shape,
    shown_layers,
    summary,
    unit,
    verdict_lines,
)

if TYPE_CHECKING:
    from evenly.check.result import LayerResult, Report
    from evenly.report import View

__all__ = ["render"]

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_LEGEND = {
    "overlap": "most over fewest writes per output position",
    "gradient": "most over fewest reads per input position",
    "period": "of the pattern that a layer creates, in {steps} of the first output",
    "ripple": "how far the phases of the actual weights differ for a constant (0: not at all)",
}


def render(report: Report, view: View) -> str:
    """The report as text of the view's width."""
    paper = Paper(view)
    _header(paper, report)
    _layers(paper, report, view.verbose)
    _findings(paper, report)
    _verdict(paper, report)
    _summary(paper, report)
    return paper.text()


def _header(paper: Paper, report: Report) -> None:
    model = report.model
    paper.line(Text.assemble("evenly check ", (clean(model.source), "bold")))
    for kind, entries in (("input", model.inputs), ("output", model.outputs)):
        for entry in entries:
            dtype = f" {entry['dtype']}" if "dtype" in entry else ""
            paper.line(f"{kind:<8}{clean(str(entry['name']))} {shape(entry['shape'])}{dtype}", indent=2)
    mode = ", training mode" if model.training else ""
    paper.line(f"weights {WEIGHTS[model.weights]}{mode}", indent=2)


def _layers(paper: Paper, report: Report, verbose: bool) -> None:
    shown = shown_layers(report, every=verbose)
    hidden = len(report.layers) - len(shown)
    paper.title("Layers" + (f" ({count(hidden, 'layer')} that only pass patterns on hidden)" if hidden else ""))
    if not shown:
        paper.line("none with spatial meaning" if not report.layers else "none to show", indent=2)
    else:
        columns = _columns(shown)
        # Names may fold anywhere; figures and words of the tool never do.
        figures = {number for number, name in enumerate(columns) if name in _LEGEND}
        whole = figures | {number for number, name in enumerate(columns) if name == "op"}
        paper.table(list(columns), zip(*columns.values(), strict=True), figures=figures, whole=whole)
        steps = unit(report.model.outputs[0]["shape"]) if report.model.outputs else "samples"
        legend = "; ".join(f"{name}: {words.format(steps=steps)}" for name, words in _LEGEND.items() if name in columns)
        if legend:
            paper.line()
            paper.line(legend, style="dim", indent=2)
    if hidden:
        paper.line("--verbose shows every layer", style="dim", indent=2)


def _columns(layers: list[LayerResult]) -> dict[str, list[str]]:
    """The columns of the table; those with nothing to say are left out."""
    columns = {
        "layer": [x.name for x in layers],
        "op": [x.op for x in layers],
        "shape": [geometry(x) for x in layers],
        **dict(zip(_LEGEND, map(list, zip(*map(layer_figures, layers), strict=True)), strict=True)),
        "role": [x.role + (f" (by {x.removed_by})" if x.removed_by else "") for x in layers],
    }
    return {name: cells for name, cells in columns.items() if set(cells) != {"-"}}


def _findings(paper: Paper, report: Report) -> None:
    if not report.findings:
        return
    paper.title("Findings")
    order = {layer.name: index for index, layer in enumerate(report.layers)}
    ranked = sorted(report.findings, key=lambda f: order.get(f.layer, len(order)))
    for layer, group in groupby(ranked, key=lambda f: f.layer):
        paper.line()
        paper.line(clean(layer), style="bold", indent=2)
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for finding in group:
            words = Text.assemble(clean(finding.message), "\n", ("Fix: ", "bold"), clean(finding.fix))
            label = Text.assemble(finding.code, " ", (f"{finding.severity:<7}", _STYLES[finding.severity]))
            grid.add_row(label, words)
        paper.add(grid, indent=4)


def _verdict(paper: Paper, report: Report) -> None:
    paper.title("Verdict")
    for heading, lines in verdict_lines(report):
        paper.line(clean(heading), style="bold", indent=2)
        for line in lines or ["nothing to say"]:
            paper.line(clean(line), indent=4)
    paper.notes(report.notes)


def _summary(paper: Paper, report: Report) -> None:
    worst = report.worst()
    line = summary(report) if worst else "No findings."
    paper.line()
    paper.line(line, style=_STYLES[worst] if worst else "bold green")
    if report.findings:
        paper.line(f"evenly rule {report.findings[0].code} explains a finding and its cure", style="dim")
