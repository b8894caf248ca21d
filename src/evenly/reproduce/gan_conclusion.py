"""What trained generators say about their last layers: the findings of the experiment ``gan``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evenly.reproduce.experiment import Outcome, Scale
from evenly.reproduce.gan_evidence import evidence
from evenly.reproduce.gan_readings import TWICE_DB, Readings, judged
from evenly.reproduce.gan_setup import GENERATORS, SEEDS
from evenly.reproduce.result import Conclusion, Effect, Finding, Part
from evenly.reproduce.statistics import mean, paired
from evenly.settings import RIPPLE_TOLERANCE

__all__ = ["conclude"]

LIKE_PERCENT = 10.0
"""% by which one generator's patches may be further from the data's than another's and still count as no worse."""

_PRESENT = {
    "two transposed": (2, 4),
    "one transposed": (2,),
    "nearest": (),
}
"""Periods in pixels that the article says are in a generator's pictures; of 2 and 4 the others are not."""

_LAYERS = dict(GENERATORS)
_LONGER = "full scale: longer training, more pictures"


def conclude(_: Scale, outcomes: Mapping[str, Outcome]) -> Conclusion:
    """C6, C7, C9, C10, C13, C14, and what there is to see."""
    readings = Readings(outcomes)
    findings = (
        _colours(readings),
        _learning(readings),
        _subpixel(readings),
        _resizing(readings),
        Finding("C13", _lines(readings, -1, "after training"), _LINES_NOTE),
        Finding(
            "C14",
            _lines(readings, 0, "before training"),
            "The same networks with the weights that they are trained from.",
        ),
    )
    return Conclusion(
        findings,
        evidence(readings),
        "Small networks, few steps and a small world of pictures: such generators make coloured textures, no objects. "
        "Whether patterns are unlearnt by much longer training is a question for the full scale. " + SEEDS,
    )


_LINES_NOTE = (
    "The discriminator's first layer does not stride and its other layers have an even gradient, so that patterns are "
    "the generator's own; the experiment `discriminator` is about the other way. What is certain of a resize is that "
    "it keeps constants constant: details may keep a trace of the grid they were resized from."
)


def _named(name: str) -> str:
    return f"{name} ({', then '.join(_LAYERS[name])})"


def _lines(readings: Readings, stage: int, when: str) -> tuple[Part, ...]:
    """Periods that should be there are, and others are not."""
    parts: list[Part] = []
    for name, present in _PRESENT.items():
        for period in (2, 4):
            effect = readings.above(name, period, stage)
            subject = f"Period {period} px of the generator {_named(name)} {when} is"
            if period in present:
                parts += judged(f"{subject} at least {TWICE_DB:g} dB above the data's.", effect, at_least=TWICE_DB)
            else:
                parts += judged(f"{subject} at most {TWICE_DB:g} dB above the data's.", effect, at_most=TWICE_DB)
    return tuple(parts)


def _learning(readings: Readings) -> Finding:
    parts: list[Part] = []
    for name, word in (("two transposed", "uneven"), ("even overlap", "even")):
        parts += judged(
            f"Period 2 px of the generator with {word} overlap, {_named(name)}, after training is at least "
            f"{TWICE_DB:g} dB above the data's.",
            readings.above(name, 2),
            _LONGER,
            at_least=TWICE_DB,
        )
    for name in ("two transposed", "even overlap", "sub-pixel, ICNR"):
        parts += judged(
            f"The last up-sampling layer of the generator {_named(name)} has a ripple of at least "
            f"{RIPPLE_TOLERANCE:g} after training.",
            readings.ripple(name),
            _LONGER,
            at_least=RIPPLE_TOLERANCE,
        )
    return Finding(
        "C7",
        tuple(parts),
        f"Ripple {RIPPLE_TOLERANCE:g} is where `evenly check` calls trained weights uneven (EV104). Layers with even "
        "overlap start with random, uneven weights, too; only the one with ICNR starts even (ripple 0), so that what "
        "it has at the end was learned.",
    )


def _subpixel(readings: Readings) -> Finding:
    parts: list[Part] = []
    for name in ("sub-pixel", "sub-pixel, ICNR"):
        parts += judged(
            f"Period 2 px of the generator {_named(name)} after training is at least {TWICE_DB:g} dB above the data's.",
            readings.above(name, 2),
            _LONGER,
            at_least=TWICE_DB,
        )
    return Finding(
        "C9",
        tuple(parts),
        "Trained networks only: that a sub-pixel convolution is a transposed convolution is shown by the experiment "
        "`arithmetic`.",
    )


def _resizing(readings: Readings) -> Finding:
    def further(name: str, other: str) -> Effect:
        """By how many % a generator's patches are further from the data's than another's."""
        pairs = [[o.numbers["patch_distance"] for o in readings.of(n)] for n in (name, other)]
        return mean([100 * (a / b - 1) for a, b in zip(*pairs, strict=True)], "%", "seeds, paired")

    parts = [
        *judged(
            f"Period 2 px of the generator with nearest-neighbour resizes after training is at least {TWICE_DB:g} dB "
            "below that of the generator with two transposed convolutions.",
            readings.between("two transposed", "nearest", 2),
            at_least=TWICE_DB,
        ),
        *judged(
            "Patches of the generator with nearest-neighbour resizes are at most "
            f"{LIKE_PERCENT:g} % further from the data's than those of the generator with two transposed convolutions.",
            further("nearest", "two transposed"),
            _LONGER,
            at_most=LIKE_PERCENT,
        ),
        *judged(
            "Patches of the generator with bilinear resizes are further from the data's than those of the generator "
            "with nearest-neighbour resizes.",
            further("bilinear", "nearest"),
            _LONGER,
            at_least=0.0,
        ),
    ]
    return Finding(
        "C10",
        tuple(parts),
        "Quality is the sliced Wasserstein distance of 7x7 patches at full and half size: textures, no objects. Two "
        "samples of the data have a distance, too (see the table); generators nearer to it than that cannot be told. "
        "Multiply-adds are those that evenly's layers really compute.",
    )


def _colours(readings: Readings) -> Finding:
    ratios, slopes = [], []
    for outcome in readings.of("colours, k3 s2"):
        away, pattern = outcome.arrays["away"], outcome.arrays["after"]
        order = np.argsort(away)
        third = len(order) // 3
        power = pattern[order] ** 2
        ratios.append(10 * np.log10(power[-third:].mean() / power[:third].mean()))
        slopes.append(np.polyfit(away / 100, pattern, 1)[0])
    made, real = ([o.numbers["energy_slope"] for o in readings.of(name)] for name in ("two transposed", "data"))
    parts = (
        *judged(
            "The pattern that a trained decoder (k3 s2, twice) puts on a requested constant colour has at least "
            f"{TWICE_DB:g} dB more power for the third of the colours furthest from the data's mean than for the third "
            "nearest to it.",
            mean(ratios, "dB"),
            at_least=TWICE_DB,
        ),
        *judged(
            "The same pattern's amplitude grows with the colour's distance from the data's mean.",
            mean(slopes, "grey levels per 100 grey levels"),
            at_least=0.0,
        ),
        *judged(
            "In pictures of the generator two transposed, the energy of the pattern grows faster with the distance of "
            "a picture's mean colour from the data's than it does in the data.",
            paired(made, real, "squared grey levels per 100 grey levels"),
            at_least=0.0,
        ),
    )
    return Finding(
        "C6",
        parts,
        "A decoder that gives pictures back from their thumbnails can be asked for any colour; a generator cannot, so "
        "its pictures are ordered by their mean colour. Distances are root mean squares over red, green and blue.",
    )
