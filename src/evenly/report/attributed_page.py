"""The page of ``evenly attribute``: which layer makes which line, how surely, and where its power comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from evenly.report import attributed_words as wording
from evenly.report.page.charts import Bar, Paint, bars, fitted
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import Section, badge, facts, fold, listing, table
from evenly.report.page.shell import document
from evenly.report.words import count

if TYPE_CHECKING:
    from evenly.fix.attributed import Attribution, Budget, Effect
    from evenly.report import View

__all__ = ["headline", "ranked", "render", "sections_of"]

_SHARES = {"passed": "passed on", "created": "created", "cross": "both together", "residual": "unexplained"}
_UNCERTAIN = 4
"""Layers whose effect is not certain that are drawn beside the others."""
_ROUNDING = 1e-9
"""Share of a power that is an error of rounding."""
_BUDGET = (
    "Power of the lines in the result of each layer, mean over signals and channels, in squared units of that result. "
    "Found is what is there; background its nearest clean neighbours; arrived what stood at the layer's input. "
    "Created + passed on + both together + unexplained = found: passed on is what the layer made even gives, created "
    "what its unequal phases add, both together twice their product, which is below 0 where they cancel. Between: "
    "what the step before the layer added."
)


def render(found: Attribution, view: View) -> str:
    """The attribution as one HTML page; the view changes nothing."""
    return document(
        command="evenly attribute",
        subject=found.model,
        verdict=("bad" if found.present else "good", headline(found)),
        lead=[
            [tag("p", sentence) for sentence in wording.verdict(found)] if found.present else None,
            tag("p", wording.introduction(found)),
        ],
        top=facts(_facts(found)),
        sections=[_lines(found), *sections_of(found), _untested(found), Section("notes", "Notes", _notes(found))],
        data=found.to_json(),
        file="evenly-attribute.json",
    )


def headline(found: Attribution) -> str:
    """The verdict as a short sentence without its end."""
    if not found.present:
        return "No line stands out"
    period = found.present[0]
    best = found.ranking(period)
    if not best:
        return f"Lines of period {period} stand out, and no layer alone makes them"
    others = len(found.present) - 1
    more = f", and {count(others, 'more line')}" if others else ""
    return f"Layer {best[0].name} makes most of the lines of period {period}{more if _same(found) else ''}"


def _same(found: Attribution) -> bool:
    """Whether one layer comes first for every line."""
    first = {best[0].name if (best := found.ranking(period)) else None for period in found.present}
    return len(first) == 1


def _facts(found: Attribution) -> Iterator[tuple[str, Content, Content, str]]:
    for period in found.present[:4]:
        line, best = found.lines[period], found.ranking(period)
        words = f"over its neighbours; layer {best[0].name} first" if best else "over its neighbours; no layer alone"
        yield f"Period {period}", f"{line.level_db:+.1f} dB", words, "bad"


def _lines(found: Attribution) -> Section:
    rows = [
        (period, level, interval, badge("a line", "strong") if there != "-" else badge("no line", "good"))
        for period, level, interval, there in wording.line_rows(found)
    ]
    about = (
        "Power over that of the nearest clean neighbours. A line is there if its interval lies above 3 dB, twice the "
        "power of what is around it."
    )
    return Section(
        "lines", "Lines", [table("Lines", wording.LINE_HEAD, rows, figures={1, 2}, kind="slim")] if rows else [], about
    )


def sections_of(found: Attribution) -> list[Section]:
    """A section for each line: layers ranked, the sum explained, budgets."""
    return [_period(found, period) for period in found.present]


def _period(found: Attribution, period: int) -> Section:
    rows = wording.layer_rows(found, period)
    content: list[Content] = [
        tag("h3", f"Period {period}: each layer made even alone"),
        fitted(lambda width: ranked(found, period, width) or Markup()),
        table(f"Layers behind period {period}", wording.LAYER_HEAD, rows, figures={3, 4, 5, 6}),
        _explained(found, period),
        _budgets(found, period),
        fold("What these figures are", [tag("p", words, class_="note") for words in (wording.legend(found), _BUDGET)]),
    ]
    if not found.ranking(period):
        content.insert(1, tag("p", "No layer alone makes it fall for certain."))
    return Section(f"period-{period}", f"Period {period}", [tag("div", content, class_="stack")])


def ranked(found: Attribution, period: int, width: float = 720) -> Markup | None:
    """How far the line falls by each layer that makes it, with 95 % intervals, by others, and by all together."""
    best = found.ranking(period)
    rest = [layer for layer in found.layers if period in layer.effects and layer not in best]
    rest.sort(key=lambda layer: -layer.effects[period].fall_db)
    shown = [_effect_bar(layer.name, layer.effects[period]) for layer in best]
    shown += [_effect_bar(layer.name, layer.effects[period], "not certain") for layer in rest[:_UNCERTAIN]]
    if period in found.together and (best or len(rest) > 1):
        shown.append(_effect_bar("all together", found.together[period], "together"))
    if not shown:
        return None
    label = f"Fall of the lines of period {period} when a layer is made even: " + "; ".join(
        f"{row.label} {row.words}" for row in shown
    )
    name = "fall of the lines, dB (95 % intervals)"
    return bars(shown, label, name=name, width=width)


def _effect_bar(name: str, effect: Effect, kind: Literal["certain", "not certain", "together"] = "certain") -> Bar:
    words = f"{effect.fall_db + 0.0:.1f} dB" + (f", {kind}" if kind == "not certain" else "")
    paint: Paint = "paint" if kind == "certain" else "ground"
    return Bar(name, effect.fall_db, 0.0, (effect.low_db, effect.high_db), paint, words)


def _explained(found: Attribution, period: int) -> Content:
    """From what every layer removes alone to what all remove together."""
    words = wording.together(found, period)
    if words is None:
        return None
    rows: list[Bar] = []
    at = 0.0
    effects = [(layer.name, layer.effects[period].removed) for layer in found.layers if period in layer.effects]
    small = 0.0
    for name, share in sorted(effects, key=lambda pair: -abs(pair[1])):
        if abs(share) < 0.005 or len(rows) >= 12:
            small += share
            continue
        rows.append(_share(name, at, at + share))
        at += share
    if abs(small) >= 0.005:
        rows.append(_share("other layers", at, at + small))
        at += small
    joint = found.together[period].removed
    rows.append(_share("between layers", at, joint, "other"))
    rows.append(_share("all together", 0.0, joint, "ground"))
    label = f"Shares of the lines of period {period} that layers remove: " + "; ".join(
        f"{row.label} {row.words}" for row in rows
    )
    return [
        tag("h3", "The sum explained"),
        tag("p", words),
        fitted(lambda width: bars(rows, label, name="share of the lines' power that is removed, %", width=width)),
    ]


def _share(name: str, start: float, end: float, paint: Paint = "paint") -> Bar:
    return Bar(name, 100 * end, 100 * start, None, paint, f"{100 * (end - start) + 0.0:+.0f} %")


def _budgets(found: Attribution, period: int) -> Content:
    budgets = [(layer.name, layer.budgets[period]) for layer in found.layers if period in layer.budgets]
    rows = [(name, budget) for name, budget in budgets if budget.found is not None]
    cells = [_budget(name, budget) for name, budget in rows]
    head = [
        "layer",
        "its period",
        "found",
        "background",
        "arrived",
        *(words for words in _SHARES.values()),
        "between",
        "note",
    ]
    kept = [n for n in range(len(head)) if n < 3 or any(row[n] != "-" for row in cells)]
    made = table(
        f"Budget of period {period}",
        [head[n] for n in kept],
        [[row[n] for n in kept] for row in cells],
        figures={place for place, n in enumerate(kept) if 0 < n < len(head) - 1},
    )
    if made is None:
        return None
    return [tag("h3", "Where the power comes from"), made, _last(found, period)]


def _budget(name: str, budget: Budget) -> list[str]:
    shares = [_with_share(getattr(budget, key), budget.found) for key in _SHARES]
    return [
        name,
        "-" if budget.period is None else str(budget.period),
        _power(budget.found),
        _power(budget.background),
        _power(budget.arrived),
        *shares,
        _power(budget.between),
        budget.reason or "-",
    ]


def _power(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _with_share(value: float | None, whole: float | None) -> str:
    if value is None or not whole:
        return _power(value)
    if abs(value) < _ROUNDING * whole:
        return "0"
    return f"{value:.3g} ({round(100 * value / whole)} %)"


def _last(found: Attribution, period: int) -> Markup | None:
    step = found.last_step.get(period)
    return None if not step else tag("p", f"What stands after the last layer adds {step:.3g}.", class_="note")


def _untested(found: Attribution) -> Section:
    about = "Layers that cannot be edited, so that they may be guilty all the same."
    made = table("Layers that could not be tested", ("layer", "kind", "why"), wording.untestable(found))
    return Section("untested", "Not testable", [made] if made else [], about)


def _notes(found: Attribution) -> list[Content]:
    return [listing(found.notes)] if found.notes else []
