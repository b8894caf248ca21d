"""Generators trained against a discriminator: what their last layers leave in pictures, before, during and after.

Odena, Dumoulin & Olah 2016, "Better Upsampling" and "Image Generation Results".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evenly.errors import UsageError
from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.gan_conclusion import conclude
from evenly.reproduce.gan_measures import (
    colour_distance,
    decoder,
    patch_distance,
    periodic_energy,
    requested,
    train_decoder,
)
from evenly.reproduce.gan_setup import DECODERS, GENERATORS
from evenly.reproduce.generators import (
    Recipe,
    adversaries,
    codes,
    discriminator,
    generator,
    measured,
    multiply_adds,
    sample,
    watch,
)
from evenly.reproduce.instruments import architecture, to_pixels

__all__ = ["EXPERIMENT", "SETTINGS", "Settings"]


@dataclass(frozen=True)
class Settings:
    """How much is done at a scale.

    Attributes:
        recipe: Of generators and discriminators.
        pictures: Whose lines are measured, of every generator at every stage.
        shown: Kept of them.
        compared: Of every generator at the end, compared with four times as many of the data.
        decoder_width: Channels of the decoders.
        decoder_steps: Steps of their training.
    """

    recipe: Recipe
    pictures: int
    shown: int
    compared: int
    decoder_width: int
    decoder_steps: int


SETTINGS = {
    Scale.SMOKE: Settings(Recipe(32, 4, 4, 2, stages=(0.0, 1.0)), 4, 4, 4, 4, 4),
    Scale.SMALL: Settings(Recipe(32, 16, 24, 400), 64, 16, 64, 24, 300),
    # a DCGAN of common size on 64 x 64 pixels; 50000 steps of 64 pictures are what such generators are trained for
    Scale.FULL: Settings(Recipe(64, 64, 64, 50_000, rate=5e-4), 512, 16, 2048, 64, 5_000),
}


def cells(_: Scale, seeds: Sequence[int]) -> Sequence[Cell]:
    """The data, every generator and every decoder, seed by seed."""
    if len(seeds) < 2:
        raise UsageError(f"--seeds (={len(seeds)}) must be at least 2 here: intervals are over seeds")
    found = []
    for seed in seeds:
        found.append(Cell(f"data/seed-{seed}", {"do": "data"}, seed))
        found += [Cell(f"{name}/seed-{seed}", {"do": "generator", "last": last}, seed) for name, last in GENERATORS]
        found += [Cell(f"colours, {kind}/seed-{seed}", {"do": "decoder", "kind": kind}, seed) for kind in DECODERS]
    return found


def run(cell: Cell, context: Context) -> Outcome:
    """One network, or the data."""
    return {"data": _data, "generator": _generator, "decoder": _decoder}[cell.options["do"]](cell, context)


def _real(context: Context, count: int, seed: int) -> Any:
    size = SETTINGS[context.scale].recipe.size
    return to_pixels(context.data.sample(count, size, seed, "train"))


def _mean_colour(context: Context) -> Any:
    """Of the data, in grey levels, ``(3,)``; the same for all cells."""
    return _real(context, 256, 999).reshape(-1, 3).mean(0)


def _compared(context: Context, pictures: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pattern by distance of a picture's mean colour, and how far pictures are from other ones of the data."""
    settings = SETTINGS[context.scale]
    away = colour_distance(pictures.mean((1, 2)), _mean_colour(context))
    energy = periodic_energy(pictures)
    others = _real(context, 4 * settings.compared, context.seed + 77)
    numbers = {
        "energy_slope": float(np.polyfit(away / 100, energy, 1)[0]),  # squared grey levels by 100 grey levels
        "patch_distance": patch_distance(pictures, others, context.rng(3)),
    }
    return numbers, {"away": away.astype(np.float32), "energy": energy.astype(np.float32)}


def _data(_: Cell, context: Context) -> Outcome:
    settings = SETTINGS[context.scale]
    pictures = _real(context, max(settings.pictures, settings.compared), context.seed + 7)
    numbers, arrays = _compared(context, pictures[: settings.compared])
    lines = measured(pictures[: settings.pictures])
    return Outcome(numbers | lines, arrays | {"pictures": pictures[: settings.shown]})


def _generator(cell: Cell, context: Context) -> Outcome:
    settings = SETTINGS[context.scale]
    recipe = settings.recipe
    network = generator(recipe.size, recipe.width, tuple(cell.options["last"]))
    judge = discriminator(recipe.size, recipe.width)
    numbers: dict[str, Any] = {"multiply_adds": multiply_adds(network, codes(1, torch.Generator()))}
    if cell.seed == 0:
        numbers["architecture"] = vars(architecture(cell.name, network, codes(2, torch.Generator())))
        picture = torch.zeros(2, 3, recipe.size, recipe.size)
        numbers["discriminator"] = vars(architecture("discriminator", judge, picture))
    pair = adversaries(context, recipe, network, judge)
    seen, arrays = watch(context, recipe, pair, settings.pictures, settings.shown)
    compared, more = _compared(context, sample(context, pair.generator, settings.compared))
    return Outcome(numbers | seen | compared, {**arrays, **more})


def _decoder(cell: Cell, context: Context) -> Outcome:
    settings = SETTINGS[context.scale]
    size = settings.recipe.size
    network = decoder(cell.options["kind"], settings.decoder_width)
    numbers: dict[str, Any] = {}
    if cell.seed == 0:
        numbers["architecture"] = vars(architecture(cell.name, network, torch.zeros(1, 3, size // 4, size // 4)))
    network.to(context.fabric.device)
    colours, before, _ = requested(context, network, size)
    numbers["losses"] = dict(train_decoder(context, network, size, settings.recipe.batch, settings.decoder_steps))
    _, after, made = requested(context, network, size)
    away = colour_distance(colours, _mean_colour(context))
    order = np.argsort(away)[np.linspace(0, len(away) - 1, 6).round().astype(int)]  # from the nearest to the farthest
    arrays: dict[str, Any] = {
        "away": away,
        "before": before,
        "after": after,
        "pictures": to_pixels(made[order.tolist()]),
    }
    return Outcome(numbers | {"shown_away": away[order].tolist()}, arrays)


EXPERIMENT = Experiment(
    name="gan",
    title="Generators by their last layers",
    source="Odena, Dumoulin & Olah 2016, sections Deconvolution & Overlap, Overlap & Learning, Better Upsampling, "
    "Image Generation Results",
    claims=("C6", "C7", "C9", "C10", "C13", "C14"),
    seeds={Scale.SMOKE: 2, Scale.SMALL: 6, Scale.FULL: 6},
    cells=cells,
    run=run,
    conclude=conclude,
)
