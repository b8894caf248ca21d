"""What there is to see of attacks by phase: pictures, plots and tables."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evenly.reproduce import statistics
from evenly.reproduce.adversarial_findings import (
    EVEN,
    NETWORKS,
    PERIOD,
    UNEVEN,
    WHOLE,
    Attacks,
    ends,
)
from evenly.reproduce.gradient_maps import phase_picture
from evenly.reproduce.result import Effect, Evidence, Picture, Plot, Row, Series, Table
from evenly.reproduce.words import brief

__all__ = ["evidence"]

_SIDE = 32
"""Of the pictures of cells, in pixels."""


def label(network: str) -> str:
    """A network's name for people."""
    base = network.removesuffix("-hardened")
    return NETWORKS[base] + (", trained against attacks" if base != network else "")


def _to_one(effect: Effect) -> Effect:
    """A correlation's interval without what lies beyond 1."""
    return replace(effect, high=min(effect.high, 1.0))


def _examples(read: Attacks, pixels: int) -> list[Evidence]:
    shown = read.shown("answers")
    names = [name for name in NETWORKS if name in shown]
    arrays = {name: next(o.arrays for o in read.by_network[name] if "changed" in o.arrays) for name in names}
    first = arrays[names[0]]["pictures"]
    rows: list[Evidence] = [
        Row(
            f"{pixels} pixels changed",
            (
                Picture(shown[names[0]][place][0], first[place]),
                *(Picture(f"{label(n)}: {shown[n][place][1]}", arrays[n]["changed"][place]) for n in names),
            ),
            "Left: the picture and its class. The others: what the attack changed, and what the network answers then.",
        )
        for place in range(len(first))
    ]
    rows.append(
        Row(
            "The smallest change that raises the loss, amplified",
            (
                Picture("picture", first[0]),
                *(Picture(label(name), arrays[name]["perturbation"][0]) for name in names),
            ),
            "Along the gradient; mid-grey: no change. Black and white: the largest hundredth of each.",
        )
    )
    return rows


def _heat(energy: NDArray[np.float64]) -> NDArray[np.uint8]:
    white = max(float(np.quantile(energy, 0.99)), 1e-12)
    return np.asarray(np.rint(255 * np.clip(energy / white, 0, 1)), np.uint8)


def _maps(read: Attacks) -> list[Evidence]:
    names = [name for name in NETWORKS if name in read.by_network]
    cell = f"The cell of {PERIOD} x {PERIOD} phases, repeated; grey in proportion, white the largest."
    return [
        Row(
            "Where an attack on few pixels puts them",
            tuple(Picture(label(name), _heat(np.mean(read.arrays(name, "energy"), axis=0))) for name in names),
            "Share of the energy of the change at every pixel, mean over pictures and seeds; white: the largest "
            "hundredth.",
        ),
        Row(
            "Squared gradient by phase, expected by evenly check before training",
            tuple(Picture(label(name), phase_picture(read.expected(name, PERIOD), _SIDE)) for name in names),
            f"{cell} All white: the same everywhere.",
        ),
        Row(
            "Gain in loss by phase under projected gradient descent",
            tuple(
                Picture(label(name), phase_picture(np.maximum(read.by_phase(name, "pgd"), 1e-9), _SIDE))
                for name in names
            ),
            f"{cell} Mean over seeds. All white: the same everywhere.",
        ),
    ]


def _bars(read: Attacks) -> Plot:
    names = list(read.by_network)
    series = []
    for words, attack in (("phases", "pgd"), ("random masks", "pgd-random")):
        effects = [statistics.exponential(statistics.mean(read.strongest(name, attack), "ratio")) for name in names]
        series.append(Series.of(words, map(label, names), effects))
    roots = []
    for name in names:
        cell = read.expected(name, PERIOD)
        roots.append(math.sqrt(float(cell.max() / cell.min())))
    series.insert(0, Series("root of the expected squared gradient", tuple(map(label, names)), tuple(roots)))
    return Plot(
        "Gain in loss: the strongest over the weakest of 16 sets of pixels",
        "network",
        "ratio",
        tuple(series),
        kind="bars",
        log_y=True,
        note="Geometric mean and 95 % interval over seeds. All sets have equally many pixels and the same "
        "epsilon. Strongest and weakest are chosen on other pictures than those they are judged on.",
    )


def _points(read: Attacks) -> Plot:
    series = []
    for name in UNEVEN:
        expected = read.expected(name, PERIOD).ravel()
        gains = np.maximum(read.by_phase(name, "pgd").ravel(), 1e-9)
        x, y = 10 * np.log10(expected / expected.mean()), 20 * np.log10(gains / gains.mean())
        series.append(Series(label(name), tuple(x.tolist()), tuple(y.tolist())))
    return Plot(
        "Expected gradient and measured gain, by phase",
        "squared gradient expected by evenly check (dB of the mean)",
        "gain in loss (dB of the mean)",
        tuple(series),
        kind="points",
        note="Every point is one phase of the network under projected gradient descent, mean over seeds. Gains are "
        "taken as amplitudes (20 log10): to first order they go as the gradient, along a line of slope 1.",
    )


def _curves(read: Attacks) -> Plot:
    series = []
    for name in (*UNEVEN, *EVEN, *read.hardened):
        epsilons = read.numbers(name, "epsilons")[0]
        shares = 100 * np.array([observed["fooled"] for observed in read.last(name)])
        effects = [statistics.mean(column, "%") for column in shares.T]
        values, low, high = zip(*((e.value, max(0.0, e.low), min(100.0, e.high)) for e in effects), strict=True)
        series.append(Series(label(name), tuple(epsilons), values, low, high))
    return Plot(
        "Attack on all pixels",
        "epsilon (grey levels of 255)",
        "pictures that are fooled (%)",
        tuple(series),
        log_x=True,
        note="Of the rightly classified ones; mean and 95 % interval over seeds, at the end of the training, not at "
        "equal accuracy.",
    )


def _courses(read: Attacks) -> Plot:
    series = []
    for name in NETWORKS:
        courses = [course["observations"] for course in read.numbers(name, "course")]
        observed = [o for course in courses for o in course if o["half fooled"] is not None]
        x = tuple(100 * float(o["accuracy"]) for o in observed)
        series.append(Series(label(name), x, tuple(float(o["half fooled"]) for o in observed)))
    return Plot(
        "How large an attack on all pixels must be to fool half, along the trainings",
        "held-out accuracy (%)",
        "epsilon (grey levels of 255)",
        tuple(series),
        kind="points",
        note="Epsilon: what fools half of the rightly classified pictures. Each point is one network at one step of "
        "its training.",
    )


def _ratios(read: Attacks) -> Table:
    attacks = {"fgsm": "sign step", "pgd": "projected descent", "sparse": "few pixels"}
    rows = []
    for name in read.by_network:
        cell = read.expected(name, PERIOD)
        row: list[str | float | int | None] = [label(name), math.sqrt(float(cell.max() / cell.min()))]
        row += [
            brief(statistics.exponential(statistics.mean(read.strongest(name, attack), "ratio")))
            for attack in (*attacks, "fgsm-whole", "fgsm-random")
        ]
        rows.append(tuple(row))
    return Table(
        "Gain in loss on the strongest over that on the weakest phase (ratio)",
        (
            "network",
            "root of expected squared gradient",
            *(f"{words}, {PERIOD} x {PERIOD}" for words in attacks.values()),
            f"sign step, {WHOLE} x {WHOLE}",
            "sign step, 16 random masks",
        ),
        tuple(rows),
        "Geometric mean and 95 % interval over seeds. Strongest and weakest are chosen on other pictures than those "
        "they are judged on. Gains below 0.000001 nats count as that.",
    )


def _successes(read: Attacks) -> Table:
    rows = []
    for name in read.by_network:
        row: list[str | float | int | None] = [label(name)]
        for attack in ("pgd", "noise"):
            gains = read.arrays(name, f"{attack}-gain")
            row += [float(value) for value in np.mean([ends(gain, gain) for gain in gains], axis=0)]
        for attack in ("pgd", "sparse"):
            row += [100 * float(value) for value in np.mean(_fooled(read, name, attack), axis=0)]
        row.append(100 * float(np.mean(read.numbers(name, "sparse fooled"))))
        rows.append(tuple(row))
    pair = ("strongest phase", "weakest phase")
    return Table(
        "What attacks on one phase do: gain in loss (nats), and rightly classified pictures that are fooled (%)",
        (
            "network",
            *(f"projected descent, {end} (nats)" for end in pair),
            *(f"noise of the same size, {end} (nats)" for end in pair),
            *(f"projected descent, {end} (%)" for end in pair),
            *(f"few pixels, {end} (%)" for end in pair),
            "few pixels anywhere (%)",
        ),
        tuple(rows),
        f"Means over seeds. One phase of {PERIOD} x {PERIOD} may change, or any pixel (last column, more of them).",
    )


def _fooled(read: Attacks, network: str, attack: str) -> list[tuple[float, float]]:
    """Share of the right answers that are lost on the strongest and the weakest phase, by seed."""
    found = []
    for outcome in read.by_network[network]:
        gains, fooled = (outcome.arrays[f"{attack}-{key}"] for key in ("gain", "fooled"))
        right = outcome.arrays["right"][: len(gains)]
        high, low = ends(gains, fooled)
        share = max(float(right.mean()), 1 / len(right))
        found.append((high / share, low / share))
    return found


def _whole(read: Attacks, epsilon: float) -> Table:
    rows = []
    for name in read.by_network:
        plain = name in NETWORKS
        uneven = name.removesuffix("-hardened") in UNEVEN
        halves = [observed["half fooled"] for observed in read.last(name)]
        place = read.favoured(name if uneven else "strided")
        needed = brief(read.needed(name, "strided")) if plain and name != "strided" else None
        rows.append(
            (
                label(name),
                brief(statistics.mean([100 * observed["accuracy"] for observed in read.last(name)], "%")),
                brief(statistics.geometric(halves, "grey levels")) if all(halves) else None,
                needed,
                brief(_to_one(statistics.mean(read.foretold(name), "rank correlation"))) if uneven else None,
                brief(statistics.mean(read.moves_with_network(name), "dB")),
                f"row {place[0]}, column {place[1]}",
                brief(statistics.mean(read.enriched(name, place), "ratio")),
            )
        )
    return Table(
        "Networks as wholes",
        (
            "network",
            "held-out accuracy (%)",
            "epsilon that fools half (grey levels)",
            "epsilon that fools half, over that of 3x3 stride 2 at equal accuracy (ratio)",
            "rank correlation of expectation and gain",
            "variance between phases of the network over that of the pictures (dB)",
            "phase of 2 x 2",
            "energy of few pixels there over an even share (ratio)",
        ),
        tuple(rows),
        f"Mean and 95 % interval over seeds. One phase may change by {epsilon:g} grey levels. For networks whose "
        "expected gradient is even, the phase is that of the 3x3 network.",
    )


def evidence(read: Attacks, epsilon: float, pixels: int) -> tuple[Evidence, ...]:
    """Pictures, plots and tables, in the order of the telling.

    Args:
        read: The outcomes.
        epsilon: Where one phase may change, in grey levels.
        pixels: Changed by the attack on few pixels.
    """
    return (
        *_examples(read, pixels), *_maps(read), _bars(read), _points(read), _curves(read), _courses(read),
        _ratios(read), _successes(read), _whole(read, epsilon),
    )  # fmt: skip
