"""The page of ``evenly fix``: the verdict, what it looks like, what it cost, and how to use the repaired model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from evenly.report.attributed_page import sections_of
from evenly.report.fixed_charts import falls, tried
from evenly.report.fixed_samples import pictures, spectra
from evenly.report.fixed_words import (
    Sheet,
    certificate,
    certified,
    compared,
    facts,
    over,
    psnr,
    ratio,
    sheets,
    step,
    tone,
    verdict,
    worst,
)
from evenly.report.page.charts import fitted
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import Section, badge, code, listing, table
from evenly.report.page.parts import facts as figures
from evenly.report.page.shell import document

if TYPE_CHECKING:
    from evenly.fix.result import FixReport
    from evenly.report import View

__all__ = ["render"]

_SLIM = ("lines", "outputs", "cost", "check")
"""Tables with so few columns that they would be stretched."""


def render(report: FixReport, view: View) -> str:
    """The report as one HTML page; the view changes nothing."""
    tables = {sheet.key: sheet for sheet in sheets(report)}
    return document(
        command="evenly fix",
        subject=report.model,
        verdict=(tone(report), verdict(report)),
        lead=_lead(report),
        top=figures(_figures(report)),
        sections=[
            pictures(report),
            _lines(report, tables),
            spectra(report),
            _sheet(tables.get("layers"), "layers"),
            _tried(report, tables.get("tried")),
            _sheet(tables.get("cost"), "cost"),
            _check(report, tables.get("check")),
            _attribution(report),
            _use(report),
            _notes(report),
        ],
        data=report.to_json(),
        file="evenly-fix.json",
    )


def _lead(report: FixReport) -> list[Markup]:
    known = dict(facts(report))
    found = [tag("p", f"Data: {known['data']}. Lines are compared with {known['compared with']}.")]
    if report.proposal:
        found.append(tag("p", tag("strong", "Next: "), report.proposal))
    return found


def _figures(report: FixReport) -> Iterator[tuple[str, Content, Content, str]]:
    """Figures that matter most."""
    asked = report.verdict in ("clean", "reached", "partly")
    left = worst(report)
    if left is not None:
        output, line = left
        words = f"was {over(line.before_over_db)}; period {line.period} {step(output)}, over {compared(report)}"
        mood = "good" if line.within else "bad" if asked else ""
        yield "Strongest line", over(line.after_over_db), f"{words}; limit {line.limit_db:g} dB", mood
    if report.outputs:
        output = min(report.outputs, key=lambda o: o.psnr_db)
        limit = f"; at least {report.max_distortion_db:g} dB was asked for" if asked else ""
        mood = ("good" if output.psnr_db >= report.max_distortion_db else "bad") if asked else ""
        yield "Output, new against original", psnr(output.psnr_db), f"PSNR of {output.name}{limit}", mood
    done = [layer.name for layer in report.layers if layer.done]
    named = ", ".join(done[:2]) + (f" and {len(done) - 2} more" if len(done) > 2 else "")
    yield "Layers changed", str(len(done)), named or "the model is as it was", ""
    if report.cost is not None:
        cost = report.cost
        adds = cost.multiply_adds  # exact; the time of a small network is mostly that of the machine
        what = "time of a batch" if adds is None else "multiply-adds"
        words = f"{what}, against before; {ratio(*cost.parameters)} parameters"
        yield "Cost", ratio(*(adds or cost.seconds)), words, ""
    if report.loss is not None:
        before, after = report.loss
        yield "Task's loss", f"{after:.4g}", f"was {before:.4g}", "good" if after <= before else ""


# ------------------------------------------------------------------------------------------------------------ sections


def _table(sheet: Sheet | None) -> list[Content]:
    """A table, and what its figures are."""
    if sheet is None:
        return []
    made = [_badged(sheet, number, row) for number, row in enumerate(sheet.rows)]
    about = tag("p", sheet.about, class_="note") if sheet.about else None
    kind = "slim" if sheet.key in _SLIM else None
    return [table(sheet.title, sheet.head, made, figures=set(sheet.figures), kind=kind), about]


def _stack(*content: Content) -> list[Content]:
    """Pieces below each other, or nothing."""
    return [tag("div", content, class_="stack")] if any(content) else []


def _badged(sheet: Sheet, number: int, row: tuple[str, ...]) -> list[Content]:
    """Verdicts and marked rows as badges."""
    kinds = {"within": "good", "over": "error"} if sheet.key == "lines" else {}
    cells: list[Content] = [badge(cell, kinds[cell]) if cell in kinds else cell for cell in row]
    if number in sheet.marked:
        cells[0] = [row[0], " ", badge("chosen", "good")]
        cells[1] = row[1].removesuffix(", chosen")
    return cells


def _fitted(draw: Callable[[FixReport, float], Markup | None], report: FixReport) -> Markup | None:
    """A drawing, if there is something to draw."""
    return fitted(lambda width: draw(report, width) or Markup()) if draw(report, 720) else None


def _sheet(sheet: Sheet | None, key: str) -> Section:
    return Section(key, sheet.title if sheet else key, _stack(*_table(sheet)))


def _lines(report: FixReport, tables: dict[str, Sheet]) -> Section:
    change = tables.get("outputs")
    heading = tag("h3", change.title) if change else None
    return Section(
        "lines", "Lines", _stack(_fitted(falls, report), *_table(tables.get("lines")), heading, *_table(change))
    )


def _tried(report: FixReport, sheet: Sheet | None) -> Section:
    about = "Every repair that was tried: better is lower (less artifact) and further right (closer to the original)."
    return Section("tried", "What was tried", _stack(_fitted(tried, report), *_table(sheet)), about, "Tried")


def _check(report: FixReport, sheet: Sheet | None) -> Section:
    sign = badge(certified(report), "good" if report.certificate else "warning")
    return Section("check", "Check", _stack(*_table(sheet), tag("p", sign, " ", certificate(report))))


def _attribution(report: FixReport) -> Section:
    found = report.attribution
    parts = [] if found is None else [section.content for section in sections_of(found)]
    return Section("origin", "Where the lines came from", parts, None, "Origin")


def _use(report: FixReport) -> Section:
    """How the repaired model takes the place of the original."""
    if report.verdict == "clean":
        return Section("use", "Use it", [])
    if report.model.endswith(".onnx"):
        words = "The repaired file has the inputs and outputs of the original one: put its path in place of the other."
        lines = ["- onnxruntime.InferenceSession(ORIGINAL)", "+ onnxruntime.InferenceSession(REPAIRED)"]
    else:
        words = "The file holds weights and the geometry of layers that got another. Make the network as before, then:"
        lines = [
            "+ from evenly.fix import restore",
            "  model = ...  # as before",
            '+ model = restore(model, "repaired.safetensors")',
        ]
    return Section("use", "Use the repaired model", [code("\n".join(lines), diff=True)], words, "Use it")


def _notes(report: FixReport) -> Section:
    entries = [f"{name}: {words}" for name, words in facts(report) if name in ("method", "limits", "seed")]
    return Section("notes", "Notes", [listing([*report.notes, *entries])])
