"""A neutral generator against discriminators whose first layer strides, or does not.

Odena, Dumoulin & Olah 2016, "Artifacts in Gradients".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evenly.measure.gradients import measure_gradient
from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.gan_readings import TWICE_DB, Readings, judged
from evenly.reproduce.gan_setup import SEEDS
from evenly.reproduce.generators import (
    PERIODS,
    Adversaries,
    Recipe,
    adversaries,
    codes,
    discriminator,
    generator,
    measured,
    watch,
)
from evenly.reproduce.instruments import architecture, to_pixels
from evenly.reproduce.result import Architecture, Conclusion, Evidence, Finding, Part, Plot, Series, Table
from evenly.reproduce.statistics import mean

__all__ = ["EXPERIMENT", "SETTINGS", "Settings"]

FIRSTS: tuple[tuple[str, int, int], ...] = (("k5 s2", 5, 2), ("k3 s2", 3, 2), ("k5 s1", 5, 1), ("k3 s1", 3, 1))
"""First layers: name, kernel size, stride."""

STRONG_DB = 6.0
"""Strong: at least twice the amplitude of the data's lines, in dB. Mild: less than twice their power (`TWICE_DB`)."""

_DECIDES = "more seeds (--seeds), or full scale: longer training"


@dataclass(frozen=True)
class Settings:
    """How much is done at a scale.

    Attributes:
        recipe: Of generators and discriminators.
        pictures: Measured of every generator at every stage.
        shown: Kept of them.
        gradients: Pictures whose gradient is measured.
    """

    recipe: Recipe
    pictures: int
    shown: int
    gradients: int


SETTINGS = {
    Scale.SMOKE: Settings(Recipe(32, 4, 4, 2, stages=(0.0, 1.0)), 4, 4, 8),
    Scale.SMALL: Settings(Recipe(32, 16, 24, 400), 64, 16, 64),
    Scale.FULL: Settings(Recipe(64, 64, 64, 50_000, rate=5e-4), 512, 16, 512),
}


def cells(_: Scale, seeds: Sequence[int]) -> Sequence[Cell]:
    """The data and a pair of networks for every first layer, seed by seed."""
    found = []
    for seed in seeds:
        found.append(Cell(f"data/seed-{seed}", {}, seed))
        found += [Cell(f"{name}/seed-{seed}", {"kernel": k, "stride": s}, seed) for name, k, s in FIRSTS]
    return found


def run(cell: Cell, context: Context) -> Outcome:
    """One pair of networks, or the data."""
    settings = SETTINGS[context.scale]
    recipe = settings.recipe
    if not cell.options:
        real = to_pixels(context.data.sample(settings.pictures, recipe.size, cell.seed + 7, "train"))
        return Outcome(measured(real), {"pictures": real[: settings.shown]})
    maker = generator(recipe.size, recipe.width, ("nearest", "nearest"), refined=True)
    judge = discriminator(recipe.size, recipe.width, cell.options["kernel"], cell.options["stride"])
    numbers: dict[str, Any] = {}
    if cell.seed == 0:
        picture = torch.zeros(2, 3, recipe.size, recipe.size)
        numbers["generator"] = vars(architecture("generator", maker, codes(2, torch.Generator())))
        numbers["architecture"] = vars(architecture(f"discriminator, first layer {cell.name}", judge, picture))
    pair = adversaries(context, recipe, maker, judge)
    before = _gradient(context, pair, settings)
    seen, arrays = watch(context, recipe, pair, settings.pictures, settings.shown)
    numbers["gradient"] = {"before": before, "after": _gradient(context, pair, settings)}
    return Outcome(numbers | seen, arrays)


def _gradient(context: Context, pair: Adversaries, settings: Settings) -> dict[str, Any]:
    """The squared gradient that reaches the generator's pictures from the discriminator, by phase of period 2."""
    with torch.no_grad():
        random = torch.Generator().manual_seed(context.seed + 20_011)
        made = pair.generator(context.fabric.to_device(codes(settings.gradients, random)))
    found = measure_gradient(
        pair.discriminator.module, made, periods=(2,), samples=settings.gradients, seed=context.seed
    )
    period = found.layers[0].periods[2]
    if period is None or not np.isfinite(period.unevenness):
        return {"energies": None, "unevenness": None}
    return {"energies": period.energies.tolist(), "unevenness": period.unevenness}


def conclude(_: Scale, outcomes: Mapping[str, Outcome]) -> Conclusion:
    """C19, and what there is to see."""
    readings = Readings(outcomes)
    names = [name for name, _, _ in FIRSTS]
    parts: list[Part] = []
    for name, kernel, stride in FIRSTS:
        subject = f"Period 2 of the neutral generator trained against a first layer {name}"
        above = readings.above(name, 2)
        if stride == 1:
            parts += judged(
                f"{subject} is less than {TWICE_DB:g} dB above the data's.", above, _DECIDES, at_most=TWICE_DB
            )
            continue
        parts += judged(
            f"{subject} is at least {STRONG_DB:g} dB above the data's.", above, _DECIDES, at_least=STRONG_DB
        )
        regular = f"k{kernel} s1"
        parts += judged(
            f"{subject} is at least {TWICE_DB:g} dB above that against {regular}.",
            readings.between(name, regular, 2),
            _DECIDES,
            at_least=TWICE_DB,
        )
    note = (
        "The generator ends with a nearest-neighbour resize-convolution and one stride-1 convolution; constants stay "
        "constants in it, so that a pattern must be learned from the discriminator. All discriminators are equal but "
        "for the first layer, and their other layers have an even gradient."
    )
    evidence: tuple[Evidence, ...] = (
        readings.row(
            "What a neutral generator learned, by the discriminator's first layer",
            names,
            -1,
            "The same codes, the same generator at the start; look for a grid of 2 pixels in smooth places.",
        ),
        readings.bars(
            "Lines after training, by the discriminator's first layer",
            names,
            PERIODS,
            -1,
            "0 dB: as many as pictures of the data have. Bars are means over seeds, with 95 % intervals.",
        ),
        readings.spectra(
            "Spectra after training", names, ((0.25, "period 4"), (0.5, "period 2")), "A line at 0.5 is period 2."
        ),
        readings.course(
            "Period 2 while training",
            names,
            "above the data (dB)",
            lambda name, stage: readings.above(name, 2, stage),
            "Before training all generators are the same.",
        ),
        _phases(readings, names),
        _predicted(readings, names),
        *_architectures(readings, names),
    )
    limits = (
        "Small networks, few steps and a small world of pictures: such generators do not make good pictures, and a "
        "pattern that needs long training to be learned is not seen here. " + SEEDS
    )
    return Conclusion((Finding("C19", tuple(parts), note),), evidence, limits)


def _phases(readings: Readings, names: Sequence[str]) -> Plot:
    """The squared gradient by phase."""
    series = []
    for name in names:
        found = [o.numbers["gradient"]["after"]["energies"] for o in readings.of(name)]
        energies = [np.ravel(e) for e in found if e is not None]
        if energies:
            means = np.mean(energies, axis=0)
            series.append(Series(name, ("even, even", "even, odd", "odd, even", "odd, odd"), tuple(means.tolist())))
    return Plot(
        "Squared gradient that reaches the generator's pictures, by row and column",
        "row, column",
        "squared gradient (1: mean of whole pictures, borders included)",
        tuple(series),
        "bars",
        note="After training. Where it is uneven, some pixels are corrected more than others.",
    )


def _predicted(readings: Readings, names: Sequence[str]) -> Table:
    """What check predicts beside what was measured."""
    rows: list[tuple[str | float | None, ...]] = []
    for name in names:
        outcomes = readings.of(name)
        unevenness: list[float | None] = []
        for when in ("before", "after"):
            found = [o.numbers["gradient"][when]["unevenness"] for o in outcomes]
            unevenness.append(None if None in found else round(mean(found, "ratio").value, 2))
        above = [readings.above(name, 2, stage) for stage in (0, -1)]
        rows.append(
            (
                name,
                outcomes[0].numbers["architecture"]["summary"],
                *unevenness,
                *(None if effect is None else round(effect.value, 1) for effect in above),
            )
        )
    return Table(
        "Predicted for the discriminator, measured in both",
        (
            "first layer",
            "evenly check of the discriminator",
            "gradient unevenness, untrained (ratio)",
            "gradient unevenness, trained (ratio)",
            "generator's period 2 above the data, untrained (dB)",
            "trained (dB)",
        ),
        tuple(rows),
        "Unevenness: most over least squared gradient among the four phases of period 2; means over seeds.",
    )


def _architectures(readings: Readings, names: Sequence[str]) -> tuple[Architecture, ...]:
    first = [readings.of(name)[0].numbers for name in names]
    return (
        Architecture(**first[0]["generator"]),
        *(
            Architecture(**{**numbers["architecture"], "name": f"discriminator, first layer {name}"})
            for name, numbers in zip(names, first, strict=True)
        ),
    )


EXPERIMENT = Experiment(
    name="discriminator",
    title="A neutral generator and the discriminator's first layer",
    source="Odena, Dumoulin & Olah 2016, section Artifacts in Gradients",
    claims=("C19",),
    seeds={Scale.SMOKE: 2, Scale.SMALL: 6, Scale.FULL: 6},
    cells=cells,
    run=run,
    conclude=conclude,
)
