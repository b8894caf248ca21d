"""What style transfer shows: outcomes by network and seed, the parts of C15, and what there is to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evenly.reproduce import statistics
from evenly.reproduce.experiment import Outcome
from evenly.reproduce.result import Architecture, Evidence, Finding, Part, Picture, Plot, Row, Series, Table
from evenly.reproduce.words import brief

__all__ = ["KINDS", "Transfers", "evidence", "findings"]

KINDS = ("transposed k3", "transposed k4", "nearest")
"""Ways to up-sample: kernels of 3 and 4 with stride 2, and nearest-neighbour resize-convolution."""

HEAVY = 10.0
"""In dB: ten times the power of the same lines in the pictures that are stylised."""
NONE = 3.0
"""In dB: twice the power; less is hardly seen side by side."""
SEEN = 1.0
"""In grey levels of 255: the smallest step that a picture file can show."""
UNSEEN = 0.5
"""In grey levels of 255: what rounding does."""


class Transfers:
    """Outcomes by network, one value for each seed."""

    def __init__(self, outcomes: Mapping[str, Outcome]) -> None:
        self.by_kind: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in KINDS}
        self.arrays: dict[str, Mapping[str, Any]] = {}
        for name, outcome in outcomes.items():
            kind = name.partition("/")[0]
            self.by_kind[kind].append(outcome.numbers)
            if outcome.arrays:
                self.arrays[kind] = outcome.arrays

    @property
    def loss(self) -> str:
        """What the losses compare, in words."""
        return str(next(numbers["loss"] for seeds in self.by_kind.values() for numbers in seeds))

    def looks(self, kind: str, look: int) -> list[Mapping[str, Any]]:
        """What was measured at one look (0: before training, -1: after), by seed."""
        return [numbers["course"]["observations"][look] for numbers in self.by_kind[kind]]

    def strongest(self, kind: str, look: int = -1, of: str = "db") -> list[float]:
        """The stronger of the lines of period 2 and 4 (dB), by seed."""
        return [max(seen[of].values()) for seen in self.looks(kind, look)]

    def constant(self, kind: str, look: int = -1) -> list[float]:
        """The pattern on constant colours (grey levels), by seed."""
        return [float(seen["constant"]) for seen in self.looks(kind, look)]


def findings(read: Transfers) -> tuple[Finding, ...]:
    """C15."""
    lines = "the stronger of the lines of period 2 and 4 pixels"
    parts = (
        Part(
            f"In stylised held-out pictures of the network with transposed convolutions (k3 s2), {lines} is at least "
            f"{HEAVY:g} dB above that of the pictures themselves.",
            statistics.mean(read.strongest("transposed k3", of="above"), "dB"),
            at_least=HEAVY,
            decides="longer training, a trained loss network",
        ),
        Part(
            f"In stylised held-out pictures, {lines} is at least {HEAVY:g} dB higher over its surroundings with "
            "transposed convolutions (k3 s2) than with resize-convolutions.",
            statistics.paired(read.strongest("transposed k3"), read.strongest("nearest"), "dB"),
            at_least=HEAVY,
            decides="longer training, a trained loss network",
        ),
        Part(
            f"In stylised held-out pictures of the network with resize-convolutions, {lines} is at most {NONE:g} dB "
            "above that of the pictures themselves.",
            statistics.mean(read.strongest("nearest", of="above"), "dB"),
            at_most=NONE,
        ),
        Part(
            "On constant colours, the pattern of period 4 pixels after training with transposed convolutions (k3 s2) "
            f"is at least {SEEN:g} grey level (root mean square).",
            statistics.mean(read.constant("transposed k3"), "grey levels"),
            at_least=SEEN,
        ),
        Part(
            "On constant colours, the pattern of period 4 pixels after training with resize-convolutions is at most "
            f"{UNSEEN:g} grey levels (root mean square).",
            statistics.mean(read.constant("nearest"), "grey levels"),
            at_most=UNSEEN,
        ),
    )
    return (Finding("C15", parts, f"Loss: {read.loss}. The kernel of 4 is shown beside it and decides nothing."),)


def evidence(read: Transfers) -> tuple[Evidence, ...]:
    """Pictures, plots, a table and networks, in the order of the telling."""
    return (*_rows(read), _course(read), _constants(read), _spectra(read), _table(read), *_architectures(read))


def _rows(read: Transfers) -> list[Evidence]:
    shown = [kind for kind in KINDS if kind in read.arrays]
    found: list[Evidence] = []
    for n in range(3 if shown else 0):
        first = read.arrays[shown[0]]
        pictures = [Picture("photograph", first["content"][n])]
        if first["style"].shape == first["content"][n : n + 1].shape:
            pictures.append(Picture("style", first["style"][0]))
        pictures += [Picture(kind, read.arrays[kind]["made"][n]) for kind in shown]
        note = "The same loss, style, seed and number of steps; the two up-sampling layers differ."
        found.append(Row(f"Style transfer, photograph {n + 1}", tuple(pictures), note))
    if shown:
        constant = tuple(
            Picture(f"{kind}, colour {n + 1}", read.arrays[kind]["colours"][n]) for n in range(2) for kind in shown
        )
        note = (
            "What goes in is one colour everywhere. Instance normalisation takes the colour away and raises whatever "
            "varies to one contrast, however little it was."
        )
        found.append(Row("Constant colours through the trained networks", constant, note))
    return found


def _series(name: str, x: Sequence[Any], values: Sequence[Sequence[float]], unit: str) -> Series:
    return Series.of(name, x, [statistics.mean(found, unit) for found in values])


def _steps(read: Transfers) -> list[int]:
    return [int(seen["step"]) for seen in read.by_kind["nearest"][0]["course"]["observations"]]


def _course(read: Transfers) -> Plot:
    steps = _steps(read)
    series = [_series(kind, steps, [read.strongest(kind, look) for look in range(len(steps))], "dB") for kind in KINDS]
    content = read.by_kind["nearest"][0]["content"]["db"]
    level = float(max(content.values()))
    series.append(Series("the pictures themselves", tuple(steps), (level,) * len(steps)))
    return Plot(
        "Stronger line of period 2 or 4 in stylised pictures, during training",
        "steps",
        "stronger line (dB over its surroundings)",
        tuple(series),
        note="Mean and 95 % interval over seeds.",
    )


def _constants(read: Transfers) -> Plot:
    when = (("before training", 0), ("after training", -1))
    return Plot(
        "Pattern on constant colours",
        "up-sampling",
        "root mean square (grey levels)",
        tuple(_series(name, KINDS, [read.constant(k, look) for k in KINDS], "grey levels") for name, look in when),
        kind="bars",
        note="The part of period 4 pixels, of 255 grey levels; mean and 95 % interval over seeds.",
    )


def _spectra(read: Transfers) -> Plot:
    sources = [("the pictures themselves", [read.by_kind["nearest"][0]["content"]])]
    sources += [(kind, list(read.looks(kind, -1))) for kind in KINDS]
    series = []
    for name, found in sources:
        power = np.mean([seen["spectrum"][1] for seen in found], axis=0)
        series.append(Series(name, tuple(found[0]["spectrum"][0]), tuple(power.tolist())))
    return Plot(
        "Spectra of stylised pictures",
        "frequency along an axis (cycles per pixel)",
        "power (dB, squared grey levels)",
        tuple(series),
        marks=((0.25, "period 4"), (0.5, "period 2")),
    )


def _table(read: Transfers) -> Table:
    def value(values: list[float], unit: str) -> str:
        return brief(statistics.mean(values, unit))

    named = {piece.name: piece.summary for piece in _architectures(read)}
    rows = tuple(
        (
            kind,
            named.get(kind, "not shown"),
            *(value([float(seen["db"][p]) for seen in read.looks(kind, look)], "dB") for look in (0, -1) for p in "24"),
            value(read.strongest(kind, of="above"), "dB"),
            value([float(n["course"]["losses"]["loss"][-1]) for n in read.by_kind[kind]], "ratio"),
        )
        for kind in KINDS
    )
    return Table(
        "Lines of stylised pictures (dB over the surroundings), and what evenly check says",
        (
            "up-sampling", "evenly check", "period 2, untrained", "period 4, untrained", "period 2, trained",
            "period 4, trained", "stronger one above the pictures (dB)", "loss at the end (ratio)",
        ),
        rows,
        "Mean and 95 % interval over seeds.",
    )  # fmt: skip


def _architectures(read: Transfers) -> list[Architecture]:
    return [
        Architecture(**numbers["architecture"])
        for kind in KINDS
        for numbers in read.by_kind[kind]
        if "architecture" in numbers
    ]
