"""A small experiment for the tests of the framework: a line is fitted, pictures with and without a pattern are made."""

from __future__ import annotations

import os

import numpy as np

from evenly.errors import UsageError
from evenly.reproduce.experiment import Cell, Experiment, Outcome, Scale
from evenly.reproduce.result import (
    Architecture,
    Conclusion,
    Effect,
    Finding,
    Part,
    Picture,
    Plot,
    Recording,
    Row,
    Series,
    Table,
)
from evenly.reproduce.statistics import mean

STEPS = {Scale.SMOKE: 12, Scale.SMALL: 40, Scale.FULL: 100}
FAIL = "EVENLY_TEST_FAIL"
"""Environment variable with the name of a cell that fails, ``:`` and how (``usage``, ``crash`` or ``die``)."""


def cells(scale, seeds):
    return [Cell(f"{kind}/seed-{seed}", {"kind": kind}, seed) for kind in ("plain", "patterned") for seed in seeds]


def run(cell, context):
    wanted, _, how = os.environ.get(FAIL, "").partition(":")
    if wanted == cell.name:
        if how == "usage":
            raise UsageError(f"{cell.name} was told to fail")
        if how == "crash":
            raise RuntimeError("an error\nof another kind")
        os._exit(7)
    import torch

    from evenly.reproduce.train import train

    fabric = context.fabric
    line = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.1))
    line, optimiser = fabric.setup(line, torch.optim.Adam(line.parameters(), 0.05))

    def step(number, generator):
        x = torch.randn(8, 1, generator=generator)
        loss = (line(x) - 2 * x).square().mean()
        optimiser.zero_grad()
        fabric.backward(loss)
        optimiser.step()
        return {"loss": loss.item()}

    steps = STEPS[context.scale]
    course = train(
        context,
        "line",
        {"line": line, "optimiser": optimiser},
        steps,
        step,
        observe=lambda done: {"weight": line.state_dict()["0.weight"].item()},
        observe_at=(0, steps // 2, steps),
    )
    pixels = context.rng(1).normal(128, 2, (32, 32))
    if cell.options["kind"] == "patterned":
        pixels[::2] += 12
    numbers = {
        "strength": float(pixels[::2].mean() - pixels[1::2].mean()),
        "course": course.to_dict(),
        "pair": (1, 2),  # a tuple: JSON has lists only
    }
    return Outcome(numbers, {"picture": np.clip(pixels, 0, 255).astype(np.uint8)})


def conclude(scale, outcomes):
    def strengths(kind):
        return [o.numbers["strength"] for name, o in outcomes.items() if name.startswith(kind)]

    assert all(outcome.numbers["pair"] == [1, 2] for outcome in outcomes.values())
    patterned, plain = strengths("patterned"), strengths("plain")
    course = outcomes["plain/seed-0"].numbers["course"]
    losses = course["losses"]["loss"]
    t = np.arange(800) / 8000
    return Conclusion(
        (
            Finding(
                "C13",
                (
                    Part("Rows of patterned pictures differ by at least 6 grey levels", mean(patterned, "levels"), 6.0),
                    Part("Rows of plain pictures differ by at most 6 grey levels", mean(plain, "levels"), at_most=6.0),
                ),
                "A note with <b>marks</b> & signs.",
            ),
            Finding("C14", (Part("Two is at least 3", Effect.exact(2, "ratio"), 3.0),)),
        ),
        (
            Row(
                "Plain beside patterned",
                tuple(Picture(name, outcome.arrays["picture"]) for name, outcome in list(outcomes.items())[:4]),
                "Every second row.",
            ),
            Plot("Loss", "step", "mean squared error", (Series("plain", tuple(range(len(losses))), tuple(losses)),)),
            Table("Strengths", ("kind", "levels"), (("plain", plain[0]), ("patterned", patterned[0]), ("none", None))),
            Recording("A tone", np.sin(2 * np.pi * 440 * t).astype(np.float32) / 2, 8000, "440 Hz"),
            Architecture("line", "Linear(1, 1)", "No findings.", "no findings"),
        ),
        "A line and noise.",
    )


EXPERIMENT = Experiment(
    "fake", "A fake experiment", "Nobody 2026", ("C13", "C14"), {Scale.SMOKE: 2, Scale.SMALL: 2, Scale.FULL: 3},
    cells, run, conclude,
)  # fmt: skip
