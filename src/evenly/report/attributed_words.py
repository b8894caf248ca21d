"""Words and figures that the reporters of attributions share; every level is over the line's nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.report.words import count

if TYPE_CHECKING:
    from evenly.fix.attributed import Attribution, Effect, LayerAttribution

__all__ = [
    "LAYER_HEAD",
    "LINE_HEAD",
    "alone",
    "explained",
    "introduction",
    "layer_rows",
    "legend",
    "line_rows",
    "together",
    "untestable",
    "verdict",
]

LINE_HEAD = ("period", "level, dB", "95 % interval", "")
LAYER_HEAD = ("", "layer", "kind", "falls by, dB", "95 % interval", "removed, %", "created here, %")
_LEGEND = (
    "period: in samples of {what}; level: power of the lines over that of their nearest neighbours; falls by: how far "
    "they fall when this layer alone is made even; removed: share of their power that is gone; created here: share "
    "of the line in the layer's own result that it creates itself (more than 100 % where it cancels part of what "
    "arrives)"
)


def explained(found: Attribution) -> str:
    """What has the lines."""
    return f"output '{found.output}'" if found.direction == "forward" else "the squared gradient of the input"


def introduction(found: Attribution) -> str:
    """What has the lines, and what the network was run on."""
    return f"Lines in {explained(found)}, for {count(found.signals, 'signal')}: {found.inputs}."


def alone(period: int) -> str:
    """The heading of the layers behind a line."""
    return f"Period {period}, each layer made even alone"


def legend(found: Attribution) -> str:
    """What the figures mean."""
    return _LEGEND.format(what="the output" if found.direction == "forward" else "the input")


def line_rows(found: Attribution) -> list[tuple[str, ...]]:
    """A row for every period that was looked for."""
    return [
        (
            str(line.period),
            _signed(line.level_db),
            f"{_signed(line.low_db)} to {_signed(line.high_db)}",
            "a line" if line.present else "-",
        )
        for line in found.lines.values()
    ]


def layer_rows(found: Attribution, period: int) -> list[tuple[str, ...]]:
    """The layers that make a line fall for certain, ranked, and all layers together below."""
    rows: list[tuple[str, ...]] = [
        (f"{place}.", layer.name, layer.kind, *_figures(layer.effects[period]), _created(layer, period))
        for place, layer in enumerate(found.ranking(period), start=1)
    ]
    if period in found.together:
        rows.append(("", "all together", "", *_figures(found.together[period]), ""))
    return rows


def together(found: Attribution, period: int) -> str | None:
    """How single effects and the joint one compare."""
    if period not in found.together:
        return None
    return (
        f"Alone they remove {_percent(found.singles(period))} % in sum, together "
        f"{_percent(found.together[period].removed)} %; the difference of {100 * found.interaction(period):+.0f} "
        "percentage points is between layers."
    )


def untestable(found: Attribution) -> list[tuple[str, str, str]]:
    """Name, kind and reason of the layers that may be guilty and could not be tested."""
    return [(layer.name, layer.kind, layer.untested or "") for layer in found.layers if layer.fixed]


def verdict(found: Attribution) -> list[str]:
    """Who makes which line, a sentence per line; or that there is none."""
    if not found.present:
        return [f"No line stands out in {explained(found)}: nothing to attribute."]
    return [_sentence(found, period) for period in found.present]


def _sentence(found: Attribution, period: int) -> str:
    line, ranked = found.lines[period], found.ranking(period)
    subject = f"Period {period} ({_signed(line.level_db)} dB)"
    if ranked:
        effect, name = ranked[0].effects[period], ranked[0].name
        more = f"; {count(len(ranked) - 1, 'more layer')} {'takes' if len(ranked) == 2 else 'take'} part"
        gone = f" and {_percent(effect.removed)} % of it is gone" if effect.removed > 0 else ""
        return (
            f"{subject}: layer {name} counts most; with it alone made even, the line falls by {effect.fall_db:.1f} dB"
            f"{gone}{more if len(ranked) > 1 else ''}."
        )
    fixed = untestable(found)
    why = (
        f"{'one layer' if len(fixed) == 1 else f'{len(fixed)} layers'} could not be tested"
        if fixed
        else "the inputs bring it, or several layers, or what stands between them"
    )
    return f"{subject}: no layer alone makes it fall for certain; {why}."


def _figures(effect: Effect) -> tuple[str, str, str]:
    return f"{effect.fall_db:.1f}", f"{effect.low_db:.1f} to {effect.high_db:.1f}", _percent(effect.removed)


def _created(layer: LayerAttribution, period: int) -> str:
    budget = layer.budgets.get(period)
    if budget is None or budget.created is None or not budget.found:
        return "-"
    return _percent(budget.created / budget.found)


def _percent(share: float) -> str:
    return f"{100 * share + 0.0:.0f}"


def _signed(db: float) -> str:
    return f"{db:+.1f}"
