"""What gradients show: their outcomes by network and seed, the parts of the claims, and what there is to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evenly.reproduce import statistics
from evenly.reproduce.experiment import Outcome
from evenly.reproduce.gradient_maps import folded, phase_picture
from evenly.reproduce.result import Evidence, Finding, Part, Picture, Plot, Row, Series, Table
from evenly.reproduce.words import brief

__all__ = ["COMPARED", "FAMILIES", "PERIODS", "Gradients", "evidence", "findings"]

FAMILIES = {"resnet": "ResNet", "vgg": "VGG", "alexnet": "AlexNet", "convnext": "ConvNeXt"}
"""Shapes of published families."""
COMPARED = ("strided", "anti-aliased")
"""Networks that differ in their stride-2 convolutions alone."""
PERIODS = (2, 4, 8)
NEIGHBOURS = 4
"""Period of the cell of neighbours that is judged: the stems of all four families reduce by 4 within two layers."""

MANY_TIMES = 4.0
"""Ratio of squared gradients: what the article's own example, 3x3 of stride 2, gives in two dimensions."""
TWICE = 3.0
"""In dB: twice the power."""
ONE_POINT = 1.0
"""Percentage points of consistency: about what anti-aliasing gained on ImageNet with ResNet-50 (Zhang 2019)."""
DOUBLE = 2.0
"""Ratio of ratios: one network's unevenness is twice the other's."""
_NOTHING = 1e-9
"""Of the mean squared gradient: what a phase without any counts as, where logarithms are taken."""
_FLOOR = 1e-6
"""Of the largest power: where the plot of responses ends."""


class Gradients:
    """Outcomes by network, one mapping of numbers for each seed."""

    def __init__(self, outcomes: Mapping[str, Outcome]) -> None:
        self.by_network: dict[str, list[Mapping[str, Any]]] = {}
        self.arrays: dict[str, Mapping[str, Any]] = {}
        for name, outcome in outcomes.items():
            network = name.rpartition("/")[0]
            self.by_network.setdefault(network, []).append(outcome.numbers)
            if outcome.arrays:
                self.arrays[network] = outcome.arrays

    @property
    def trained_here(self) -> list[str]:
        """Networks with several seeds."""
        return [name for name in self.by_network if not name.startswith("published-")]

    @property
    def published(self) -> list[str]:
        """Published networks whose weights were given."""
        return [name for name in self.by_network if name.startswith("published-")]

    def shown(self, key: str) -> list[Any]:
        """What only one seed of each network has."""
        return [numbers[key] for group in self.by_network.values() for numbers in group if key in numbers]

    def uneven(self, network: str, when: str, period: int) -> list[float]:
        """Most over least squared gradient of the phases (ratio), by seed."""
        cells = (np.array(numbers[when]["energies"][str(period)]) for numbers in self.by_network[network])
        return [float(cell.max() / max(cell.min(), _NOTHING)) for cell in cells]

    def phases(self, network: str, when: str, period: int) -> Any:
        """Mean over seeds of the squared gradient by phase, of mean 1."""
        cell = np.mean([numbers[when]["energies"][str(period)] for numbers in self.by_network[network]], axis=0)
        return cell / cell.mean()

    def expected(self, network: str, period: int) -> Any:
        """What check predicts, by phase; ``None`` where it cannot."""
        cells = [numbers["expected"] for numbers in self.by_network[network] if "expected" in numbers]
        return folded(np.array(cells[0]), period) if cells else None

    def forward(self, network: str, key: str) -> list[float]:
        """A number of the way forward, by seed."""
        return [numbers["forward"][key] for numbers in self.by_network[network]]


def label(network: str) -> str:
    """A network's name for people."""
    if network.startswith("published-"):
        return f"{network.removeprefix('published-')}, published"
    return FAMILIES.get(network, network) + ("-shaped" if network in FAMILIES else "")


def _many_times(read: Gradients) -> Finding:
    parts = tuple(
        Part(
            f"In the trained {label(network)} classifier, the pixel of each {NEIGHBOURS} x {NEIGHBOURS} with the most "
            f"squared gradient gets at least {MANY_TIMES:g} times that of the one with the least.",
            statistics.geometric(read.uneven(network, "trained", NEIGHBOURS), "ratio"),
            at_least=MANY_TIMES,
        )
        for network in (COMPARED[0], *FAMILIES)  # the article's own case, 3x3 of stride 2, and what became of it
    )
    note = (
        "Averages over many pictures by position in the cell of 4 x 4, so that the content of single pictures is "
        "averaged out. A prediction of 1 is one of the average over random weights: the weights of one network can "
        "still favour positions of a cell, the same in every picture. The part on the strided network, the "
        "article's own case, was added with the same bound after the four families had been measured."
    )
    return Finding("C20", parts, note)


def _issues_of_their_own(read: Gradients) -> Finding:
    strided, even = COMPARED
    folding = Part(
        "Of the first layer's output on held-out pictures, the share that comes from frequencies beyond 1/4 cycle per "
        f"pixel, and so is folded, is at least {TWICE:g} dB larger for the strided than for the anti-aliased layer.",
        statistics.paired(read.forward(strided, "folded_db"), read.forward(even, "folded_db"), "dB"),
        at_least=TWICE,
    )
    moving = Part(
        f"When held-out pictures move by one pixel, the mean square change of the scores is at least {TWICE:g} dB "
        "larger for the strided than for the anti-aliased network.",
        statistics.paired(read.forward(strided, "change_db"), read.forward(even, "change_db"), "dB"),
        at_least=TWICE,
    )
    answers = Part(
        f"The share of answers that stay when pictures move by one pixel is at least {ONE_POINT:g} percentage point "
        "larger for the anti-aliased than for the strided network.",
        statistics.paired(
            100 * np.array(read.forward(even, "consistency")),
            100 * np.array(read.forward(strided, "consistency")),
            "percentage points",
        ),
        at_least=ONE_POINT,
    )
    ratios = [np.log(read.uneven(network, "trained", 2)) for network in COMPARED]
    backward = Part(
        "Among each 2 x 2 pixels, most over least squared gradient is at least "
        f"{DOUBLE:g} times as large in the trained strided network as in the anti-aliased one.",
        statistics.exponential(statistics.paired(ratios[0], ratios[1], "ratio")),
        at_least=DOUBLE,
    )
    return Finding("C25", (folding, moving, answers, backward))


def findings(read: Gradients) -> tuple[Finding, ...]:
    """C20 and C25."""
    return _many_times(read), _issues_of_their_own(read)


def _pictures(read: Gradients) -> list[Evidence]:
    names = [name for name in read.trained_here if name in read.arrays]
    rows: list[Evidence] = [
        Row(
            "Size of the gradient of the answered class, trained classifiers",
            (
                Picture("picture", picture),
                *(Picture(label(name), read.arrays[name]["gradients"][place]) for name in names),
            ),
            "White: the largest hundredth of each map.",
        )
        for place, picture in enumerate(read.arrays[names[0]]["pictures"] if names else ())
    ]
    for name in read.published:
        arrays = read.arrays[name]
        shown = (Picture("picture", arrays["pictures"][0]), Picture("gradient", arrays["gradients"][0]))
        rows.append(Row(f"Size of the gradient: {label(name)}", shown))
    return rows


def _cells(read: Gradients) -> list[Evidence]:
    size = 4 * max(PERIODS)

    def cell(network: str, when: str) -> Picture:
        return Picture(label(network), phase_picture(read.phases(network, when, max(PERIODS)), size))

    predicted = [(name, read.expected(name, max(PERIODS))) for name in read.by_network]
    note = (
        "The cell of 8 x 8 phases, four times each way; grey in proportion to the mean over seeds, white the largest."
    )
    return [
        Row(
            "Squared gradient by phase, predicted by evenly check before training",
            tuple(Picture(label(name), phase_picture(cell, size)) for name, cell in predicted if cell is not None),
            note,
        ),
        *(
            Row(f"Squared gradient by phase, measured, {when}", tuple(cell(name, when) for name in names), note)
            for when, names in (("untrained", read.trained_here), ("trained", list(read.by_network)))
        ),
    ]


def _bars(read: Gradients) -> Plot:
    names = read.trained_here
    series = []
    expected = [read.expected(name, NEIGHBOURS) for name in names]
    ratios = [float(cell.max() / max(cell.min(), _NOTHING)) for cell in expected]
    series.append(Series("predicted by evenly check", tuple(map(label, names)), tuple(ratios)))
    for when in ("untrained", "trained"):
        effects = [statistics.geometric(read.uneven(name, when, NEIGHBOURS), "ratio") for name in names]
        series.append(Series.of(f"measured, {when}", map(label, names), effects))
    return Plot(
        "Most over least squared gradient among each 4 x 4 pixels",
        "network",
        "ratio, geometric mean and 95 % interval over seeds",
        tuple(series),
        kind="bars",
        log_y=True,
    )


def _gains(read: Gradients) -> Plot:
    series = []
    for network in COMPARED:
        power = 10 * np.log10(np.maximum(np.mean(read.forward(network, "gain"), axis=0), _FLOOR))
        series.append(Series(network, tuple(np.linspace(0, 0.5, len(power)).tolist()), tuple(power.tolist())))
    return Plot(
        "Response of the trained first layer to waves",
        "frequency along the rows (cycles per pixel)",
        "power (dB of the largest), mean over seeds",
        tuple(series),
        marks=((0.25, "beyond: folded"),),
        note="What passes beyond 1/4 cycle per pixel comes out as another, lower frequency.",
    )


def _tables(read: Gradients) -> list[Evidence]:
    rows = []
    for name in read.by_network:
        numbers = read.by_network[name]
        for period in PERIODS:
            cell = read.expected(name, period)
            measured = [
                brief(statistics.geometric(read.uneven(name, when, period), "ratio"))
                if len(numbers) > 1
                else f"{read.uneven(name, when, period)[0]:.3g}"
                if when in numbers[0]
                else None
                for when in ("untrained", "trained")
            ]
            effective = 100 * float(np.mean([n["trained"]["effective"][str(period)] for n in numbers]))
            dead = 100 * float(np.mean([n["trained"]["dead"] for n in numbers]))
            ratio = None if cell is None else float(cell.max() / cell.min()) if cell.min() > 0 else "infinite"
            right = [100 * n["accuracy"] for n in numbers if "accuracy" in n]
            known = float(np.mean(right)) if right and period == PERIODS[0] else None
            rows.append((label(name), period, ratio, *measured, effective, dead, known))
    forward = [
        (
            words,
            *(brief(statistics.mean(factor * np.array(read.forward(network, key)), unit)) for network in COMPARED),
        )
        for words, key, unit, factor in (
            ("folded share of the first layer's output, pictures (dB)", "folded_db", "dB", 1),
            ("folded share of the first layer's output, white noise (dB)", "folded_noise_db", "dB", 1),
            ("change of scores on a shift by 1 pixel (dB of their variance)", "change_db", "dB", 1),
            ("answers that stay (%)", "consistency", "%", 100),
        )
    ]
    return [
        Table(
            "Squared gradient: the phase with the most over the one with the least (ratio)",
            (
                "network",
                "period (px)",
                "evenly check",
                "untrained",
                "trained",
                "effective share of phases (%)",
                "dead positions (%)",
                "held-out accuracy (%)",
            ),
            tuple(rows),
            "Geometric mean and 95 % interval over seeds. Measured on held-out pictures, the gradient of the answered "
            "class; what check gives is expected over random weights.",
        ),
        Table("The way forward", ("", *COMPARED), tuple(forward), "Mean and 95 % interval over seeds."),
    ]


def evidence(read: Gradients) -> tuple[Evidence, ...]:
    """Pictures, plots and tables, in the order of the telling."""
    return *_pictures(read), _bars(read), *_cells(read), _gains(read), *_tables(read)
