"""The parts of the claims about layers as matrices, borders and worked examples (C8 to C12, C23, C24)."""

from __future__ import annotations

import numpy as np

from evenly.reproduce import statistics
from evenly.reproduce.arithmetic_outcomes import ALL, ALWAYS, NOTHING, TWICE, Arithmetic, exact_share, share
from evenly.reproduce.result import Effect, Finding, Part

__all__ = ["findings"]

VISIBLE = -40.0
"""In dB of a constant: 1 % of its amplitude, more than two of 256 grey levels."""
TENTH = -20.0
"""In dB: a tenth of the amplitude of the picture itself."""


def _freedom(read: Arithmetic) -> Finding:
    rows = read.one("matrices")["freedoms"]
    count = len(rows)
    return Finding(
        "C8",
        (
            Part(
                f"In every one of {count} pairs of kernel size k and stride s, kernels that keep constants have "
                "k^2 - (s^2 - 1) degrees of freedom, by the rank of what the layer does.",
                exact_share(sum(r["balanced"] == r["kernel"] ** 2 - r["stride"] ** 2 + 1 for r in rows), count),
                at_least=ALL,
            ),
            Part(
                "In every one of them nearest-neighbour resize-convolutions of the same reach have (k - s + 1)^2, by "
                "the rank of what the layer does.",
                exact_share(sum(r["resize"] == (r["kernel"] - r["stride"] + 1) ** 2 for r in rows), count),
                at_least=ALL,
            ),
            Part(
                "In every one of them the kernels that keep constants have fewer degrees of freedom than all kernels.",
                exact_share(sum(r["balanced"] < r["free"] for r in rows), count),
                at_least=ALL,
            ),
            Part(
                "In every one of them evenly.theory.phases.degrees_of_freedom says the same as the ranks.",
                exact_share(
                    sum(all(r[key] == r[f"theory_{key}"] for key in ("free", "balanced", "resize")) for r in rows),
                    count,
                ),
                at_least=ALL,
            ),
        ),
        "Per pair of an input and an output channel, in two dimensions.",
    )


def _subpixel(read: Arithmetic) -> Finding:
    levels = read.pooled("layers", "subpixel", "pattern_db")
    return Finding(
        "C9",
        (
            Part(
                "All drawn sub-pixel convolutions equal, to the bit, a transposed convolution whose kernel size is the "
                "stride times theirs.",
                exact_share(read.total("layers", "subpixel", "equal"), read.total("layers", "subpixel", "cells")),
                at_least=ALL,
            ),
            Part(
                f"Of the drawn sub-pixel convolutions, at least 99 % make of a constant a pattern of {VISIBLE:g} dB or "
                "more.",
                share(sum(level >= VISIBLE for level in levels), len(levels)),
                at_least=ALWAYS,
            ),
        ),
        "The structural half. What training does to the phases is in the experiment gan.",
    )


def _resize(read: Arithmetic) -> Finding:
    def quiet(mode: str) -> Part:
        levels = read.pooled("layers", "constants", mode)
        return Part(
            f"Of drawn {mode} resize-convolutions, at least 99 % keep a constant of any colour constant in the "
            f"interior (pattern below {NOTHING:g} dB).",
            share(sum(level < NOTHING for level in levels), len(levels)),
            at_least=ALWAYS,
        )

    free = float(np.mean(read.pooled("layers", "constants", "transposed")))
    return Finding(
        "C10",
        (quiet("nearest"), quiet("bilinear")),
        "The structural half: whether the layers keep a constant, whatever their weights. A transposed convolution "
        f"k4 s2 with drawn weights makes of it a pattern of {free:.1f} dB of its power on average. Which works best "
        "is a question of training: experiment gan.",
    )


def _matrices(read: Arithmetic) -> Finding:
    rows = read.one("matrices")["tied"]
    linear = read.one("matrices")["linear"]
    return Finding(
        "C11",
        (
            Part(
                "For drawn weights and inputs, all outputs of the transposed, the sub-pixel and the nearest-neighbour "
                "resize-convolution equal, to the bit, the matrix of the layer times the input.",
                exact_share(linear["equal"], linear["cells"]),
                at_least=ALL,
            ),
            Part(
                f"In every one of {len(rows)} pairs of kernel size and stride the matrices of resize-convolutions have "
                "fewer dimensions than those of transposed convolutions of the same reach: weights are tied.",
                exact_share(sum(r["resize"] < r["transposed"] for r in rows), len(rows)),
                at_least=ALL,
            ),
        ),
        "In one dimension. The matrix is read from the layer: its columns are what it makes of unit vectors.",
    )


def _boundary(read: Arithmetic) -> Finding:
    parts = [
        Part(
            f"On constants, at least 99 % of the outputs with {padding} padding are right up to the edge "
            "(square error below -100 dB of the output).",
            share(
                sum(value < -100 for value in read.border("constants", padding)), len(read.border("constants", padding))
            ),
            at_least=ALWAYS,
        )
        for padding in ("reflect", "replicate")
    ]
    for kind in ("ramps", "photographs"):
        parts += [
            Part(
                f"On {kind}, the square error at the border is at least {TWICE:g} dB larger with zeros than with "
                f"{padding} padding.",
                statistics.paired(read.border(kind, "zero"), read.border(kind, padding), "dB", kind),
                at_least=TWICE,
                decides="more photographs",
            )
            for padding in ("reflect", "replicate")
        ]
    parts += [
        Part(
            f"On photographs, the square error at the border with {padding} padding is at most {TENTH:g} dB of the "
            "output itself (a tenth of its amplitude).",
            statistics.mean(read.border("photographs", padding), "dB", "photographs"),
            at_most=TENTH,
            decides="more photographs",
        )
        for padding in ("reflect", "replicate")
    ]
    worst = max(max(read.border(kind, "interior")) for kind in ("constants", "ramps", "photographs"))
    return Finding(
        "C12",
        tuple(parts),
        "Truth is the same layer on a picture that goes on beyond the frame. The largest error of the interior is "
        f"{worst:.0f} dB (-120 dB stands for rounding and below). Pictures reach from -1 (black) to 1, so zeros are "
        "mid grey; where pictures reach from 0 to 1, zeros are black and the error is larger.",
    )


def _worked(read: Arithmetic) -> Finding:
    rows = read.one("worked")["examples"]
    numbers = sum(len(row["by hand"]) for row in rows.values())
    equal = sum(
        a == b
        for row in rows.values()
        if len(row["by hand"]) == len(row["layer"])
        for a, b in zip(row["by hand"], row["layer"], strict=True)
    )
    ones = rows["transposed convolution of five ones, stride 2"]["layer"][2:-2]
    return Finding(
        "C23",
        (
            Part(
                f"All {numbers} outputs of the {len(rows)} worked examples are the same by hand and by PyTorch's "
                "layers.",
                exact_share(equal, numbers),
                at_least=ALL,
            ),
            Part(
                "A uniform input leaves the interior of the transposed convolution with kernel 1, 2, 3 and stride 2 "
                "with two values, the larger twice the smaller.",
                Effect.exact(max(ones) / min(ones), "ratio"),
                at_least=2.0,
            ),
        ),
    )


def _order(read: Arithmetic) -> Finding:
    draws = read.total("order", "draws")

    def kept(layer: str, case: str) -> Effect:
        return share(read.total("order", "kept", layer, case), draws)

    def lost(layer: str, case: str) -> Effect:
        return share(draws - read.total("order", "kept", layer, case), draws)

    plain, up = "convolution k3", "transposed convolution k3 s2"
    return Finding(
        "C24",
        (
            Part(
                "A convolution with weights above zero keeps the order of an input that rises, in at least 99 % of "
                "draws.",
                kept(plain, "positive/rising"),
                at_least=ALWAYS,
            ),
            Part(
                "A convolution with weights of both signs keeps the order of an input that rises, in at least 99 % of "
                "draws.",
                kept(plain, "of both signs/rising"),
                at_least=ALWAYS,
            ),
            Part(
                "A convolution with weights above zero keeps the order of inputs in any order, in at least 99 % of "
                "draws.",
                kept(plain, "positive/in any order"),
                at_least=ALWAYS,
            ),
            Part(
                "A transposed convolution k3 s2 with weights above zero loses the order of an input that rises, in at "
                "least 1 % of draws: it need not keep it.",
                lost(up, "positive/rising"),
                at_least=100 - ALWAYS,
            ),
        ),
        "For weights that are not negative the first half is a theorem about inputs that rise: the difference of two "
        "neighbouring outputs is the same weighted sum of differences of inputs, none of which is negative. A single "
        "weight below zero, or an input that is not in order, takes the reason away.",
    )


def findings(read: Arithmetic) -> tuple[Finding, ...]:
    """One for each claim, in order."""
    makers = (_freedom, _subpixel, _resize, _matrices, _boundary, _worked, _order)
    return tuple(maker(read) for maker in makers)
