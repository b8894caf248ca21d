"""The page of ``evenly check``."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from evenly.check.result import SEVERITIES
from evenly.check.rules import RULES
from evenly.report.page.changes import change
from evenly.report.page.lanes import uneven
from evenly.report.page.markup import Content, Markup, tag
from evenly.report.page.parts import Section, badge, code, facts, fold, listing, prose, table
from evenly.report.page.plots import bar
from evenly.report.page.shell import Tone, document
from evenly.report.page.strip import layers_table
from evenly.report.words import count, period, shape, unit, verdict_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evenly.check.result import Finding, LayerResult, OutputResult, Report

__all__ = ["check_page"]

_MOST_PERIODS = 12
_TONES: dict[str | None, Tone] = {"error": "bad", "warning": "fair", "info": "good", None: "good"}
_LEGEND = (
    "Pattern: how often the positions of one period are written (blue) or read (orange); letters: written evenly, but "
    "by a kernel of its own for every phase. Overlap: most over fewest writes per output position. Ripple: how far the "
    "phases of the actual weights differ for a constant (0: not at all). Gradient: most over fewest reads per input "
    "position."
)
_WEIGHTS = {
    "actual": "with its actual weights",
    "ignored": "without its weights, structure only",
    "none": "freshly made, structure only",
}


def check_page(report: Report) -> str:
    """A report as one HTML page."""
    model = report.model
    sizes = ", ".join(shape(entry["shape"]) for entry in model.inputs)
    made = ", ".join(shape(entry["shape"]) for entry in model.outputs)
    mode = ", in training mode" if model.training else ""
    return document(
        command="evenly check",
        subject=model.source,
        verdict=(_TONES[report.worst()], _verdict(report)),
        lead=[
            tag("p", _makers(report)),
            tag("p", f"Input {sizes}, output {made}; read {_WEIGHTS[model.weights]}{mode}. The network was not run."),
        ],
        top=facts(_facts(report)),
        sections=[_network(report), _findings(report), _verdicts(report), _notes(report)],
        data=report.to_json(),
        file="evenly-check.json",
    )


def _verdict(report: Report) -> str:
    found = Counter(f.severity for f in report.findings)
    words = [count(found[s], s) for s in SEVERITIES[:2] if found[s]]
    if words:
        return " and ".join(words)
    return f"No errors, no warnings, {count(found['info'], 'remark')}" if found["info"] else "No findings"


def _makers(report: Report) -> str:
    """Who makes patterns, in a sentence."""
    makers = [x for x in report.layers if x.role == "creates" and period(x.period) != "-"]
    if not makers:
        unknown = sum(x.role == "unknown" for x in report.layers)
        rest = f"; {count(unknown, 'layer')} could not be judged" if unknown else ""
        return f"No layer creates a pattern of its own{rest}."
    steps = unit(report.model.outputs[0]["shape"]) if report.model.outputs else "samples"
    known = sorted({period(x.period) for x in makers}, key=lambda text: (len(text), text))
    removed = sum(x.removed_by is not None for x in makers)
    verb = "creates a pattern" if len(makers) == 1 else "create patterns"
    every = "it is provably removed" if removed == 1 else "all are provably removed"
    end = every if removed == len(makers) else f"{removed} provably removed" if removed else ""
    return (
        f"{count(len(makers), 'layer')} of {len(report.layers)} {verb}, of period {_and(known)} {steps} in the "
        f"output{'; ' + end if end else ''}."
    )


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# --------------------------------------------------------------------------------------------------------------- facts


def _facts(report: Report) -> Iterator[tuple[str, Content, Content, str]]:
    """The most telling figures of the first output and input."""
    several = f", first of {len(report.outputs)} outputs" if len(report.outputs) > 1 else ""
    for out in report.outputs[:1]:
        sizes = next((o["shape"] for o in report.model.outputs if o["name"] == out.name), ())
        if len(sizes) > 2:
            yield from _output_facts(out, unit(sizes), several)
    for entry in report.inputs[:1]:
        uneven = entry.gradient_unevenness
        if uneven is None:
            continue
        dead = entry.dead_fraction or 0.0
        figure = "even" if uneven == 1 else "dead positions" if math.isinf(uneven) else f"{uneven:.3g} : 1"
        words = (
            "the squared gradient is the same at every input position"
            if uneven == 1
            else f"{100 * dead:.3g} % of the input positions never get a gradient"
            if dead
            else "squared gradient at the strongest input position over that at the weakest"
        )
        yield "Gradient, on average before training", figure, words, "good" if uneven == 1 else "bad"


def _output_facts(out: OutputResult, steps: str, several: str) -> Iterator[tuple[str, Content, Content, str]]:
    if out.period is not None:
        even = period(out.period) == "-"
        figure = "none" if even else f"period {period(out.period)} {steps}"
        words = "whatever the weights are" if even else "what training has to work against"
        yield f"Pattern that the structure allows{several}", figure, words, "good" if even else "bad"
    if out.expected_ac_fraction is not None:
        share = out.expected_ac_fraction
        words = "of the output's power is expected to be pattern, for a constant input"
        yield "Before training", f"{100 * share:.3g} %", words, "bad" if share > 1e-9 else "good"
    if out.certified:
        yield "With these weights", "even", "certified: every constant stays constant in the interior", "good"
    elif out.response_db:
        loudest = max(out.response_db.values())
        words = "strongest line in the answer to a constant; 0 dB is the constant itself"
        if math.isinf(loudest):
            yield (
                "With these weights",
                "no pattern",
                f"for any of {count(out.probes, 'constant input')}; not certified",
                "",
            )
        else:
            yield "With these weights", f"{loudest:.1f} dB", words, "bad"


# ------------------------------------------------------------------------------------------------------------- network


def _network(report: Report) -> Section:
    steps = unit(report.model.outputs[0]["shape"]) if report.model.outputs else "samples"
    if not report.layers:
        return Section("network", "Where patterns are made", [tag("p", "No layer has positions.", class_="note")])
    forward = (
        f"Every line is a pattern of the period above it, in {steps} of the output. It begins at the layers that make "
        "it (dots) and runs to the output, or to a layer that provably removes it. "
    )
    backward = (
        "A dashed line (\N{NABLA}) is an uneven gradient: it begins at the layers that make it (dots) and runs back to "
        "the input."
    )
    makers = any(x.role == "creates" and period(x.period) != "-" for x in report.layers)
    about = (forward if makers else "") + (backward if any(map(uneven, report.layers)) else "")
    return Section(
        "network",
        "Where patterns are made",
        [layers_table(report), tag("p", _LEGEND, class_="note")],
        about,
        "Network",
    )


# ------------------------------------------------------------------------------------------------------------ findings


def _findings(report: Report) -> Section:
    layers = {layer.name: layer for layer in report.layers}
    order = {name: n for n, name in enumerate(layers)}
    ranked = sorted(report.findings, key=lambda f: (_rank(report, f.code), f.code, order.get(f.layer, len(order))))
    cards = [_rule(name, list(group), layers) for name, group in groupby(ranked, key=lambda f: f.code)]
    return Section("findings", "Findings, and what to change", cards, None, "Findings")


def _rank(report: Report, name: str) -> int:
    """Rules by their worst finding."""
    return min(SEVERITIES.index(f.severity) for f in report.findings if f.code == name)


def _rule(name: str, found: Sequence[Finding], layers: dict[str, LayerResult]) -> Markup:
    rule = RULES[name]
    tally = Counter(f.severity for f in found)
    badges = [[" ", badge(count(tally[s], s), s)] for s in SEVERITIES if tally[s]]
    fixes = dict.fromkeys(f.fix for f in found if f.severity != "info") or dict.fromkeys(f.fix for f in found)
    rows = [(f.layer, badge(f.severity), f.message) for f in found]
    recipes: dict[str, list[str]] = {}
    for finding in found:
        text = change(name, layers[finding.layer]) if finding.layer in layers and finding.severity != "info" else None
        if text is not None:
            recipes.setdefault(text, []).append(finding.layer)
    return tag(
        "article",
        tag("div", tag("h3", tag("span", name, class_="code-name"), " ", rule.name), badges, class_="head"),
        tag("p", rule.summary, class_="note") if rule.summary else None,
        table(f"Findings of {name}", ("layer", "", "what was found"), rows, kind="named"),
        tag("h4", "What to change"),
        listing(fixes, "fixes"),
        [_recipe(text, names, len(recipes)) for text, names in recipes.items()],
        fold(
            f"More about {name}: why it matters, what to use instead, how safe that is",
            [[tag("h4", title), prose(text)] for title, text in rule.sections.items()],
        )
        if rule.sections
        else None,
        class_="card",
        id=f"rule-{name}",
    )


def _recipe(text: str, names: Sequence[str], of: int) -> list[Markup | None]:
    return [tag("p", f"At {_and(names)}:", class_="note") if of > 1 else None, code(text, diff=True)]


# ------------------------------------------------------------------------------------------------------------ verdicts


def _verdicts(report: Report) -> Section:
    tables: list[Content] = [_levels(out) for out in report.outputs]
    cards = []
    for n, (heading, lines) in enumerate(verdict_lines(report)):
        more = tables[n] if n < len(tables) else None
        cards.append(tag("article", tag("h3", heading), listing(lines or ["nothing to say"]), more, class_="card"))
    return Section("verdicts", "Outputs and inputs", [tag("div", cards, class_="cards")] if cards else [], None)


def _levels(out: OutputResult) -> Content:
    """Per period: the expected share before training, and the answer of the actual weights."""
    power, answer = out.expected_power or {}, out.response_db or {}
    names = list(dict.fromkeys([*power, *answer]))
    if not names:
        return None
    loudest = max([0.0, *(db for db in answer.values() if not math.isinf(db))])
    rows: list[tuple[Content, ...]] = []
    for name in names[:_MOST_PERIODS]:
        cells: list[Content] = [name]
        if power:
            share = power.get(name, 0.0)
            cells += [f"{100 * share:.3g} %", bar(share)]
        if answer:
            db = answer.get(name, -math.inf)
            cells += ["none" if math.isinf(db) else f"{db:.1f} dB", bar((db + 60) / (loudest + 60), "other")]
        rows.append(tuple(cells))
    head: list[Content] = ["period"]
    head += ["before training", tag("span", "share of the power", class_="quiet")] if power else []
    head += ["these weights", tag("span", "from -60 dB of the constant up", class_="quiet")] if answer else []
    left = f"{len(names) - _MOST_PERIODS} more periods are in the data." if len(names) > _MOST_PERIODS else ""
    note = " Levels: 0 dB is the constant's own output; bars begin at -60 dB." if answer else ""
    shares = "Shares: of the output's expected power." if power else ""
    return [
        table(f"Periods of {out.name}", head, rows, figures={1, 3}, kind="levels"),
        tag("p", shares, note, " ", left, class_="note"),
    ]


def _notes(report: Report) -> Section:
    return Section("notes", "Notes", [listing(report.notes)] if report.notes else [])
