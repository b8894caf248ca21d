"""The parts of the claims about overlap (C1 to C5), from the outcomes of the arithmetic."""

from __future__ import annotations

from evenly.reproduce import statistics
from evenly.reproduce.arithmetic_outcomes import (
    ALL,
    ALWAYS,
    NOTHING,
    SAMPLES,
    TWICE,
    Arithmetic,
    exact_share,
    level,
    share,
)
from evenly.reproduce.result import Effect, Finding, Part

__all__ = ["findings"]

SELDOM = 10.0
"""Percent of draws: one of ten."""
MOSTLY = 50.0
"""Percent of draws: more often than not."""
OCTAVE = -1.0
"""Half the frequency: what the smallest stride between two layers makes of it."""


def _overlap(read: Arithmetic) -> Finding:
    grid = read.one("overlap")["grid"]
    return Finding(
        "C1",
        (
            Part(
                f"In every one of {grid['cells']:,} layers (kernel size, stride, padding, dilation, output padding) "
                "the counts of evenly.theory.overlap equal how often PyTorch's transposed convolution of ones writes "
                "each position, borders included.",
                exact_share(grid["equal"], grid["cells"]),
                at_least=ALL,
            ),
            Part(
                "Of the layers whose kernel size is not divisible by the stride, all paint their interior unevenly.",
                exact_share(grid["undivided_uneven"], grid["undivided"]),
                at_least=ALL,
            ),
            Part(
                "Of the layers whose kernel size is divisible by the stride, and whose dilation has no factor in "
                "common with it, all paint their interior evenly.",
                exact_share(grid["divided_even"], grid["divided"]),
                at_least=ALL,
            ),
        ),
        f"Dilation refines the rule: {grid['common_holes']:,} of {grid['common']:,} layers whose dilation shares a "
        f"factor with the stride leave positions that nothing writes, {grid['common_divided']:,} of the "
        f"{grid['common']:,} although the stride divides the kernel size.",
    )


def _two_dimensions(read: Arithmetic) -> Finding:
    plane = read.one("overlap")["plane"]
    return Finding(
        "C2",
        (
            Part(
                f"In every one of {plane['cells']:,} pairs of layers for the two axes the counts painted in two "
                "dimensions are the outer product of those painted in one.",
                exact_share(plane["equal"], plane["cells"]),
                at_least=ALL,
            ),
            Part(
                f"For kernels of 3 and stride 2 the most painted pixel of the interior in two dimensions is painted 4 "
                f"times as often as the least; in one dimension {plane['line']:g} times.",
                Effect.exact(plane["plane"], "ratio"),
                at_least=4.0,
            ),
        ),
    )


def _stacks(read: Arithmetic) -> Finding:
    def total(name: str) -> int:
        return read.total("stacks", name)

    return Finding(
        "C3",
        (
            Part(
                "Of the drawn stacks with two uneven layers or more, most show patterns of two periods or more in "
                "their composed overlap.",
                share(total("several_scales"), total("several_uneven")),
                at_least=MOSTLY,
            ),
            Part(
                "Of the drawn stacks with two uneven layers or more, most are composed to a larger ratio of most over "
                "least painted than any of their layers has by itself.",
                share(total("worse"), total("several_uneven")),
                at_least=MOSTLY,
            ),
            Part(
                "Among the drawn stacks with an uneven layer there is one at least whose composed overlap is even: "
                "they can cancel.",
                Effect.exact(total("cancelled"), "stacks"),
                at_least=1,
            ),
            Part(
                f"Of the drawn stacks with an uneven layer, at most {SELDOM:g} % are even when composed: they seldom "
                "cancel.",
                share(total("cancelled"), total("some_uneven")),
                at_most=SELDOM,
            ),
        ),
        "Stacks of two to four layers with strides of 2 to 4 and kernels from the stride to 8, all equally likely, "
        "all weights 1. A last layer whose stride does not divide its kernel size can never be cancelled, for "
        "nothing comes after it.",
    )


def _last(read: Arithmetic) -> Finding:
    exact = read.one("overlap")["last"]
    drawn = read.by_cell["last"]
    removed = sum(int(value < NOTHING) for numbers in drawn for value in numbers["positive"]["divides"])
    dividing = sum(len(numbers["positive"]["divides"]) for numbers in drawn)
    positive = [v for n in drawn for group in n["positive"].values() for v in group]
    signed = [v for n in drawn for group in n["signed"].values() for v in group]
    return Finding(
        "C4",
        (
            Part(
                "With equal weights, of all patterns whose period divides the size of the last layer, nothing is left.",
                exact_share(exact["removed"], exact["dividing"]),
                at_least=ALL,
            ),
            Part(
                "With equal weights, all other patterns are weaker behind a last layer of two taps or more.",
                exact_share(exact["reduced"], exact["others"]),
                at_least=ALL,
            ),
            Part(
                "With equal weights, each line of the pattern is reduced by |sin(pi m f) / (m sin(pi f))| with the "
                "size m and the frequency f: largest deviation, relative to the mean.",
                Effect.exact(exact["deviation"], "ratio"),
                at_most=1e-9,
            ),
            Part(
                "With drawn weights, at least 99 % of the patterns whose period divides the size are gone.",
                share(removed, dividing),
                at_least=ALWAYS,
            ),
            Part(
                "With drawn weights above zero, at least 99 % of the patterns are weaker behind the last layer, "
                "relative to the constant.",
                share(sum(value < 0 for value in positive), len(positive)),
                at_least=ALWAYS,
            ),
            Part(
                f"With drawn weights of both signs, patterns lose {TWICE:g} dB on average, relative to the constant.",
                level(signed),
                at_most=-TWICE,
            ),
        ),
        "One channel. The layer can learn to remove such a pattern; equal weights are one of many that do. What the "
        "drawn weights say is what it does before any training.",
    )


def _early(read: Arithmetic) -> Finding:
    return Finding(
        "C5",
        (
            Part(
                "In drawn stacks, the pattern that a layer makes by itself repeats in the output with the product of "
                "its own and all later strides, at least 99 % of the layers.",
                share(read.total("stacks", "periods_as_strides"), read.total("stacks", "periods")),
                at_least=ALWAYS,
            ),
            Part(
                "In drawn stacks of three layers, the mean frequency of the first layer's pattern is at least an "
                "octave below that of the last layer's.",
                statistics.mean(read.pooled("stacks", "octaves"), "octaves", SAMPLES),
                at_most=OCTAVE,
            ),
        ),
        "A layer's pattern by itself: drawn weights there, nearest-neighbour up-sampling in the others.",
    )


def findings(read: Arithmetic) -> tuple[Finding, ...]:
    """One for each claim, in order."""
    return tuple(maker(read) for maker in (_overlap, _two_dimensions, _stacks, _last, _early))
