"""What there is to see of the arithmetic: diagrams pixel by pixel, plots, tables."""

from __future__ import annotations

import numpy as np

from evenly.reproduce.arithmetic_outcomes import Arithmetic, share
from evenly.reproduce.boundaries import PADDINGS
from evenly.reproduce.painting import Layer, composed, painted_plane
from evenly.reproduce.pixel_diagrams import counts_plane, matrix_picture, overlap_diagram, pattern_plane
from evenly.reproduce.result import Evidence, Picture, Plot, Row, Series, Table
from evenly.reproduce.statistics import mean
from evenly.reproduce.worked_examples import LAYERS, WEIGHTS

__all__ = ["evidence"]

_LINES = ((2, 2), (3, 2), (4, 2), (5, 3))
"""Kernel size and stride of the diagrams in one dimension."""
_PLANES = ((3, 2), (4, 2), (5, 2), (4, 3), (5, 3))


def _one_dimension() -> Row:
    return Row(
        "Who paints what: transposed convolutions in one dimension (C1)",
        tuple(Picture(f"kernel {k}, stride {s}", overlap_diagram(5, k, s, 14)) for k, s in _LINES),
        "Each line above is an input and the outputs it paints; below the stroke the paint of each output is "
        "collected. Columns of equal length are even overlap. Both ends lack inputs and are always shorter.",
    )


def _two_dimensions() -> Row:
    return Row(
        "How often each pixel is painted in two dimensions (C1, C2)",
        tuple(
            Picture(
                f"{k} x {k}, stride {s}", counts_plane(painted_plane(8, (k, k), (s, s))[k - 1 : k + 11, k - 1 : k + 11])
            )
            for k, s in _PLANES
        ),
        "Interiors, from 0 (dark blue) to the most (yellow). The pattern of one axis times that of the other: with 3 "
        "x 3 and stride 2 pixels are painted 4, 2, 2 and 1 times.",
    )


def _named(layers: list[Layer]) -> str:
    return ", ".join(f"k{layer.kernel} s{layer.stride}" for layer in layers)


def _stacks(read: Arithmetic) -> Row:
    one = Layer(3, 2)
    pictures = [Picture(f"{n} x k3 s2", pattern_plane(composed([one] * n), 64, 1.5)) for n in (1, 2, 3)]
    for numbers in read.by_cell["stacks"]:
        if not numbers["examples"]:
            continue
        layers = [Layer(*pair) for pair in numbers["examples"][0]]
        before = composed(layers[:-1])
        pictures += [
            Picture(f"{_named(layers[:-1])}: uneven", pattern_plane(np.repeat(before, layers[-1].stride), 64, 1.5)),
            Picture(f"then {_named(layers[-1:])}: cancelled", pattern_plane(composed(layers), 64, 1.5)),
        ]
        break
    return Row(
        "Composed overlap of stacks (C3)",
        tuple(pictures),
        "What a constant becomes when all weights are 1, relative to its mean; mid grey is even. A stack that "
        "cancels, if one was drawn, stands last: before its last layer (enlarged to the same size), and behind it.",
    )


def _last(read: Arithmetic) -> Plot:
    table = read.one("overlap")["left"]
    series = [
        Series(f"period {s}, equal weights", tuple(map(float, rows["size"])), tuple(rows["left"]))
        for s, rows in table.items()
    ]
    return Plot(
        "What a last transposed convolution of stride 1 leaves of a pattern (C4)",
        "kernel size of the last layer",
        "pattern left (% of amplitude)",
        tuple(series),
        note="Overlap patterns of k3 s2, k4 s3 and k5 s4, relative to the mean; a size of 1 is no such layer.",
    )


def _origins(read: Arithmetic) -> Plot:
    spectra = np.mean([numbers["spectra"] for numbers in read.by_cell["stacks"]], axis=0)
    lines = np.arange(spectra.shape[1]) / 8
    names = ("first", "second", "third and last")
    series = []
    for name, power in zip(names, spectra, strict=True):
        there = np.flatnonzero(power[1:5] > 1e-20) + 1
        decibels = 10 * np.log10(power[there] / power[0])
        series.append(Series(f"{name} layer", tuple(lines[there].tolist()), tuple(decibels.tolist())))
    return Plot(
        "Where the pattern of each of three k3 s2 layers lies (C5)",
        "frequency (cycles per output pixel)",
        "power against the constant (dB)",
        tuple(series),
        "points",
        ((1 / 8, "period 8"), (1 / 4, "period 4"), (1 / 2, "period 2")),
        note="Drawn weights in one layer, nearest-neighbour up-sampling in the others; mean over draws.",
    )


def _freedoms(read: Arithmetic) -> Plot:
    chosen = [row for row in read.one("matrices")["freedoms"] if (row["kernel"], row["stride"]) in _SHOWN]
    names = tuple(f"k{row['kernel']} s{row['stride']}" for row in chosen)
    kinds = (("free", "all kernels"), ("balanced", "keep constants"), ("resize", "resize-convolutions"))
    return Plot(
        "Degrees of freedom of a kernel per pair of channels, 2-D (C8)",
        "kernel size and stride",
        "degrees of freedom",
        tuple(Series(label, names, tuple(float(row[key]) for row in chosen)) for key, label in kinds),
        "bars",
        note="Ranks of what the layers do.",
    )


_SHOWN = {(3, 2), (4, 2), (5, 2), (4, 3), (5, 3), (4, 4)}


def _matrices(read: Arithmetic) -> Row:
    pictures = []
    for name, weights in read.one("matrices")["matrices"].items():
        matrix = np.array(weights)
        distinct = len({int(value) for value in matrix.ravel()} - {0})
        count = int(np.bitwise_or.reduce(matrix.ravel())).bit_count()
        pictures.append(Picture(f"{name}: {count} weights, {distinct} different entries", matrix_picture(matrix)))
    return Row(
        "Three layers as matrices (C11)",
        tuple(pictures),
        "Columns are inputs, lines are outputs, a colour is a weight; the square of a sum of weights has the colours "
        "of all of them. In the resize-convolution weights are tied: both phases are made of the same three.",
    )


def _costs(read: Arithmetic) -> Table:
    costs = read.one("matrices")["costs"]
    base = costs["transposed convolution k4 s2"]
    return Table(
        "Multiply-adds per output pixel and pair of channels, up-sampling by 2 (C10)",
        ("layer", "multiply-adds", "of transposed convolution k4 s2"),
        tuple((name, round(value, 2), f"{value / base:.2f}") for name, value in costs.items()),
        "As counted by PyTorch while the layers run; interpolation and additions are not counted.",
    )


def _borders(read: Arithmetic) -> tuple[Row, Plot]:
    arrays = read.arrays["boundary"]
    order = ["truth", *(f"{name}{end}" for end in ("", "-error") for name in PADDINGS)]
    captions = {
        name: f"{name.removesuffix('-error')} padding" + (", error" if "error" in name else "") for name in order
    }
    captions["truth"] = "the picture goes on"
    row = Row(
        "The border of a photograph, up-sampled by 2 and smoothed by 7 x 7 (C12)",
        tuple(Picture(captions[name], arrays[name]) for name in order),
        "The crop with the most contrast among those drawn. Errors against the picture that goes on beyond its "
        "frame; mid grey is none.",
    )
    kinds = ("constants", "ramps", "photographs")
    series = []
    for padding in PADDINGS:
        effects = [mean(read.border(kind, padding), "dB", kind) for kind in kinds]
        series.append(Series.of(f"{padding} padding", kinds, effects))
    plot = Plot(
        "Square error at the border by padding (C12)",
        "picture",
        "error against the output's power (dB)",
        tuple(series),
        "points",
        note="Resize by 2 and drawn kernels of 3, 5 and 7 taps; 95 % intervals over pictures. -120 dB stands for "
        "rounding and below.",
    )
    return row, plot


def _worked(read: Arithmetic) -> Table:
    rows = read.one("worked")["examples"]
    return Table(
        "Worked examples with the kernel 1, 2, 3 (C23)",
        ("example", "input", "by hand", "PyTorch's layer"),
        tuple(
            (name, *(" ".join(map(str, row[key])) for key in ("input", "by hand", "layer")))
            for name, row in rows.items()
        ),
        "The convolution is the one of neural networks: the kernel is not turned round.",
    )


def _orders(read: Arithmetic) -> tuple[Plot, Plot]:
    draws = read.total("order", "draws")
    series = []
    for weights in WEIGHTS:
        effects = [share(read.total("order", "kept", layer, f"{weights}/rising"), draws) for layer in LAYERS]
        series.append(Series.of(f"weights {weights}", LAYERS, effects))
    bars = Plot(
        "How often a rising input gives a rising output (C24)",
        "layer",
        "draws that keep the order (%)",
        tuple(series),
        "bars",
        note=f"{draws:,} drawn inputs and kernels each; interiors.",
    )
    example = read.one("order")["example"]
    ends = [(name, example[name]) for name in ("input", "convolution", "transposed")]
    labels = {"input": "input", "convolution": "convolution k3", "transposed": "transposed convolution k3 s2"}
    lines = Plot(
        "A rising input and weights above zero that lose the order most (C24)",
        "place (share of the signal)",
        "value (of the largest)",
        tuple(
            Series(labels[name], tuple(np.linspace(0, 1, len(y)).tolist()), tuple((np.array(y) / max(y)).tolist()))
            for name, y in ends
        ),
        note="Found among drawn ones; weights " + ", ".join(f"{w:.2f}" for w in example["weight"]) + ".",
    )
    return bars, lines


def evidence(read: Arithmetic) -> tuple[Evidence, ...]:
    """In the order of the telling."""
    return (
        _one_dimension(), _two_dimensions(), _stacks(read), _last(read), _origins(read), _freedoms(read),
        _matrices(read), _costs(read), *_borders(read), _worked(read), *_orders(read),
    )  # fmt: skip
