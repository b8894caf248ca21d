"""``evenly check`` as Markdown, for a job's summary: the verdict first, the findings, the layers folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report.markdown_parts import Safe, bullets, code, details, escaped, heading, page, paragraph, strong, table
from evenly.report.words import WEIGHTS, count, geometry, layer_figures, shape, shown_layers, summary, verdict_lines

if TYPE_CHECKING:
    from evenly.check.result import Report
    from evenly.report import View

__all__ = ["render"]

_FINDINGS = ("severity", "code", "layer", "finding", "fix")
_LAYERS = ("layer", "op", "shape", "overlap", "gradient", "period", "ripple", "role")


def render(report: Report, view: View) -> str:
    """The report as Markdown; with a verbose view, every layer."""
    return page(
        heading(2, "evenly check", code(report.model.source)),
        strong(summary(report) if report.findings else "No findings."),
        _signals(report),
        table(_FINDINGS, [(f.severity, f.code, code(f.layer), f.message, f.fix) for f in report.findings]),
        *_hint(report),
        details("Verdict for every output and input", *_verdict(report)),
        _layers(report, view.verbose),
        details("Notes", bullets(report.notes)),
    )


def _signals(report: Report) -> Safe:
    model = report.model
    named = [
        f"{kind} {code(str(entry['name']))} {shape(entry['shape'])}"
        for kind, entries in (("input", model.inputs), ("output", model.outputs))
        for entry in entries[:5]
    ]
    mode = ", training mode" if model.training else ""
    return Safe(f"{', '.join(named)}; weights {escaped(WEIGHTS[model.weights])}{mode}")


def _hint(report: Report) -> list[Safe]:
    if not report.findings:
        return []
    command = code(f"evenly rule {report.findings[0].code}")
    return [paragraph(command, "explains a finding and its cure.")]


def _verdict(report: Report) -> list[Safe]:
    return [
        part for title, lines in verdict_lines(report) for part in (strong(title), bullets(lines or ["nothing to say"]))
    ]


def _layers(report: Report, verbose: bool) -> Safe:
    shown = shown_layers(report, every=verbose)
    rows = [(code(x.name), x.op, geometry(x), *layer_figures(x), x.role) for x in shown]
    hidden = len(report.layers) - len(shown)
    left = f", without {hidden} that only pass patterns on" if hidden else ""
    return details(f"{count(len(report.layers), 'layer')}{left}", table(_LAYERS, rows, figures=(3, 4, 5, 6)))
