"""What dreams show: their outcomes by network and seed, the parts of the claims, and what there is to see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from evenly.reproduce import statistics
from evenly.reproduce.experiment import Outcome
from evenly.reproduce.result import Effect, Evidence, Finding, Part, Picture, Plot, Row, Series, Table
from evenly.reproduce.words import brief

__all__ = ["NETWORKS", "PERIODS", "VARIANTS", "Dreams", "evidence", "findings"]

NETWORKS = ("strided", "max-pool", "average-pool", "anti-aliased")
VARIANTS = {
    "fixed": "fixed position",
    "jitter": "jitter",
    "features": "many features",
    "scales": "many scales",
    "all": "all three",
}
"""Ways to dream; all but ``fixed`` differ from it in one thing, ``all`` in the three together."""

PERIODS = (2, 4, 8)
_CELL = 8
"""The product of the strides, in pixels: the period of every pattern that these networks can make."""

TWICE = 3.0
"""In dB: twice the power. Less is hardly seen side by side, so it is asked of whatever is to be "reduced"."""
SEVERE = 10.0
"""In dB: ten times the power of the same lines in the photographs."""
SAME_PATTERN = math.sqrt(0.5)
"""Correlation from which one pattern explains half of the other's variance."""
ROUNDING = 1e-5
"""Relative difference that float32 sums of a few hundred products may have."""
FLAT = 2.0
"""Largest over smallest (ratio) up to which a gradient without predicted pattern is called even: 3 dB."""


class Dreams:
    """Outcomes by network, one value for each seed."""

    def __init__(self, outcomes: Mapping[str, Outcome]) -> None:
        self.by_network: dict[str, list[Mapping[str, Any]]] = {network: [] for network in NETWORKS}
        self.arrays: dict[str, Mapping[str, Any]] = {}
        for name, outcome in outcomes.items():
            network = name.partition("/")[0]
            self.by_network[network].append(outcome.numbers)
            if outcome.arrays:
                self.arrays[network] = outcome.arrays

    def strongest(self, network: str, variant: str, of: str = "db") -> list[float]:
        """The strongest of the lines of period 2, 4 and 8 (dB), by seed."""
        return [
            max(numbers["dreams"][variant]["lines"][of][str(p)] for p in PERIODS)
            for numbers in self.by_network[network]
        ]

    def dream(self, network: str, variant: str, key: str) -> list[float]:
        """A number of the dreams, by seed."""
        return [numbers["dreams"][variant][key] for numbers in self.by_network[network]]

    def phases(self, network: str, when: str) -> list[Any]:
        """The squared gradient over 8 x 8 phases, of mean 1, by seed."""
        cells = [np.array(numbers[when]["energies"][str(_CELL)]) for numbers in self.by_network[network]]
        return [cell / cell.mean() for cell in cells]  # borders, which get less, are not in the cell

    def expected(self, network: str) -> Any:
        """The same as predicted."""
        from evenly.reproduce.gradient_maps import folded

        cell = next(numbers["expected"] for numbers in self.by_network[network] if "expected" in numbers)
        return folded(np.array(cell), _CELL)

    def correlations(self, network: str, when: str) -> list[float]:
        """Of the logarithms of the measured and the predicted squared gradient over the phases, by seed."""
        expected = np.log(self.expected(network)).ravel()
        return [
            float(np.corrcoef(expected, np.log(np.maximum(found, 1e-9)).ravel())[0, 1])
            for found in self.phases(network, when)
        ]

    def uneven(self, network: str, when: str) -> list[float]:
        """Largest over smallest of the phases (ratio), by seed; a phase without any counts as 1e-9 of the mean."""
        return [float(found.max() / max(found.min(), 1e-9)) for found in self.phases(network, when)]


def _gradient_of_convolution(read: Dreams) -> Finding:
    differences = [
        numbers[when]["difference"]
        for network in NETWORKS
        for numbers in read.by_network[network]
        for when in ("untrained", "trained")
        if numbers[when]["difference"] is not None
    ]
    shapes = [
        Part(
            f"Over the 64 phases of 8 x 8 pixels the squared gradient of the {when} strided network correlates with "
            f"what evenly check predicts, by at least {SAME_PATTERN:.2f} in the logarithm.",
            statistics.mean(read.correlations("strided", when), "correlation"),
            at_least=SAME_PATTERN,
        )
        for when in ("untrained", "trained")
    ]
    even = Part(
        "Where evenly check predicts no pattern (anti-aliased convolutions, trained), the phase with the most squared "
        f"gradient has at most {FLAT:g} times as much as the one with the least.",
        statistics.geometric(read.uneven("anti-aliased", "trained"), "ratio"),
        at_most=FLAT,
    )
    exact = Part(
        "Autograd's gradient of the first convolution and the transposed convolution with the same kernel differ by at "
        f"most {ROUNDING:g} of their norm, in the network where they differ most.",
        Effect.exact(max(differences), "ratio"),
        at_most=ROUNDING,
    )
    return Finding("C16", (exact, *shapes, even))


def _fixed_position(read: Dreams) -> Finding:
    fixed = read.strongest("strided", "fixed")
    severe = Part(
        "The strongest of the lines of period 2, 4 and 8 in dreams at a fixed position is at least "
        f"{SEVERE:g} dB above the same lines of the photographs that they start from (strided network).",
        statistics.mean(read.strongest("strided", "fixed", "above"), "dB"),
        at_least=SEVERE,
    )
    reduced = [
        Part(
            f"The strongest line at a fixed position is at least {TWICE:g} dB above that with {VARIANTS[variant]}, of "
            "the same network and photographs (strided network).",
            statistics.paired(fixed, read.strongest("strided", variant), "dB"),
            at_least=TWICE,
        )
        for variant in ("jitter", "features", "scales")
    ]
    note = "Many features and many scales are the article's other two ways that DeepDream has of cancelling artifacts."
    return Finding("C17", (severe, *reduced), note)


def _less_organised(read: Dreams) -> Finding:
    more = Part(
        "Of what dreams at a fixed position add, the share beyond 1/4 cycle per pixel is at least "
        f"{TWICE:g} dB larger with max pooling than with average pooling.",
        statistics.paired(
            read.dream("max-pool", "fixed", "high_db"), read.dream("average-pool", "fixed", "high_db"), "dB"
        ),
        at_least=TWICE,
    )
    looser = Part(
        "Beyond 1/4 cycle per pixel, the lines of period 8 stand out of what dreams add at least "
        f"{TWICE:g} dB less with max pooling than with strided convolutions.",
        statistics.paired(
            read.dream("strided", "fixed", "concentration_db"),
            read.dream("max-pool", "fixed", "concentration_db"),
            "dB",
        ),
        at_least=TWICE,
    )
    note = (
        "Less organised is taken to mean: more high frequencies than with average pooling, and less of them on lines "
        "than with strided convolutions."
    )
    return Finding("C18", (more, looser), note)


def _rows(read: Dreams) -> list[Evidence]:
    found: list[Evidence] = []
    if "strided" in read.arrays:
        arrays = read.arrays["strided"]
        found.append(
            Row(
                "Dreams of the strided network",
                (
                    Picture("photograph", arrays["starts"][0]),
                    *(Picture(words, arrays[f"dream-{name}"][0]) for name, words in VARIANTS.items()),
                ),
                "The same photograph, network and number of steps; the ways differ in what each step looks at.",
            )
        )
    for variant in ("fixed", "jitter"):
        shown = tuple(
            Picture(network, read.arrays[network][f"dream-{variant}"][1])
            for network in NETWORKS
            if network in read.arrays
        )
        if shown:
            note = "Networks of the same widths, trained alike; only the way to down-sample differs."
            found.append(Row(f"Dreams by network: {VARIANTS[variant]}", shown, note))
    return found


def _phase_row(read: Dreams) -> Row:
    from evenly.reproduce.gradient_maps import phase_picture

    cells = [("predicted, strided", read.expected("strided"))]
    cells += [
        (f"measured, {network}, {when}", np.mean(read.phases(network, when), axis=0))
        for network, when in (
            ("strided", "untrained"),
            ("strided", "trained"),
            ("max-pool", "trained"),
            ("average-pool", "trained"),
            ("anti-aliased", "trained"),
        )
    ]
    return Row(
        "Squared gradient by phase",
        tuple(Picture(caption, phase_picture(cell, 4 * _CELL)) for caption, cell in cells),
        "The cell of 8 x 8 phases, four times each way; grey in proportion to the mean over seeds, white the largest: "
        "a white square is an even gradient.",
    )


def _phase_plot(read: Dreams) -> Plot:
    order = np.argsort(read.expected("strided").ravel(), kind="stable")
    expected = read.expected("strided").ravel()[order]
    series = [Series("predicted = measured", tuple(expected.tolist()), tuple(expected.tolist()))]
    for when in ("untrained", "trained"):
        values = np.mean([found.ravel()[order] for found in read.phases("strided", when)], axis=0)
        series.append(Series(f"measured, {when}", tuple(expected.tolist()), tuple(values.tolist())))
    return Plot(
        "Strided network: squared gradient at each of 64 phases",
        "predicted by evenly check (mean 1)",
        "measured, mean over seeds (mean 1)",
        tuple(series),
        kind="points",
        log_x=True,
        log_y=True,
    )


def _spectra(read: Dreams) -> Plot:
    def series(name: str, network: str, variant: str) -> Series:
        power = np.mean(read.dream(network, variant, "spectrum"), axis=0)
        return Series(name, tuple(np.linspace(0, 0.5, len(power)).tolist()), tuple(power.tolist()))

    fixed = [series(f"{network}, fixed position", network, "fixed") for network in NETWORKS]
    return Plot(
        "Spectrum of what dreams add",
        "frequency along an axis (cycles per pixel)",
        "power (dB, squared grey levels)",
        (*fixed, series("strided, jitter", "strided", "jitter")),
        marks=tuple((k / _CELL, f"{k}/{_CELL}" if k < _CELL // 2 else "period 2") for k in range(1, _CELL // 2 + 1)),
        note="A pattern of the strides stands on the marked frequencies.",
    )


def _line_plot(read: Dreams) -> Plot:
    series = []
    for network in NETWORKS:
        effects = [statistics.mean(read.strongest(network, variant), "dB") for variant in VARIANTS]
        series.append(Series.of(network, VARIANTS.values(), effects))
    return Plot(
        "Strongest line of period 2, 4 or 8 in the dreams",
        "way to dream",
        "power over the surroundings (dB), mean and 95 % interval over seeds",
        tuple(series),
        kind="bars",
    )


def _tables(read: Dreams) -> list[Evidence]:
    gradients = tuple(
        (
            network,
            float(read.expected(network).max() / read.expected(network).min()),
            brief(statistics.geometric(read.uneven(network, "untrained"), "ratio")),
            brief(statistics.geometric(read.uneven(network, "trained"), "ratio")),
            100 * float(np.mean([n["accuracy"] for n in read.by_network[network]])),
        )
        for network in NETWORKS
    )
    textures = tuple(
        (
            network,
            *(
                brief(statistics.mean(read.dream(network, variant, key), "dB"))
                for variant in ("fixed", "jitter")
                for key in ("high_db", "concentration_db")
            ),
        )
        for network in NETWORKS
    )
    return [
        Table(
            "Squared gradient: the phase of 8 x 8 with the most over the one with the least (ratio)",
            ("network", "evenly check", "measured, untrained", "measured, trained", "held-out accuracy (%)"),
            gradients,
            "Measured on held-out pictures; mean and 95 % interval over seeds. With 64 phases, chance makes a ratio "
            "above 1 even where nothing is uneven.",
        ),
        Table(
            "What dreams add: share of high frequencies (dB of the whole); how far lines of period 8 stand out (dB)",
            ("network", "fixed: high", "fixed: lines", "jitter: high", "jitter: lines"),
            textures,
            "White noise would have -1.2 dB and 0 dB.",
        ),
    ]


def findings(read: Dreams) -> tuple[Finding, ...]:
    """C16, C17 and C18."""
    return _gradient_of_convolution(read), _fixed_position(read), _less_organised(read)


def evidence(read: Dreams) -> tuple[Evidence, ...]:
    """Pictures, plots and tables, in the order of the telling."""
    return *_rows(read), _line_plot(read), _phase_row(read), _phase_plot(read), _spectra(read), *_tables(read)
