"""What there is to see of trained generators: pictures, spectra, courses, colours."""

from __future__ import annotations

from typing import Any

import numpy as np

from evenly.reproduce.gan_readings import Readings
from evenly.reproduce.gan_setup import DECODERS, GENERATORS
from evenly.reproduce.generators import PERIODS
from evenly.reproduce.instruments import mosaic
from evenly.reproduce.result import Architecture, Evidence, Picture, Plot, Row, Series, Table
from evenly.reproduce.statistics import mean, slope
from evenly.reproduce.words import brief

__all__ = ["evidence"]

_NAMES = tuple(name for name, _ in GENERATORS)
_MARKS = ((0.25, "period 4"), (0.5, "period 2"))
_BINS = 6


def evidence(readings: Readings) -> tuple[Evidence, ...]:
    """In the order of the telling."""
    development = (
        readings.development(f"{name}: before, while and after training", name, "The same codes in every square.")
        for name in ("two transposed", "nearest")
    )
    return (
        readings.row(
            "Before training, by the last layers",
            _NAMES,
            0,
            "Nothing has been learned; look for grids of 2 and 4 pixels.",
        ),
        readings.row(
            "After training, by the last layers",
            _NAMES,
            -1,
            "The same codes and the same discriminator at the start; look into dark and into saturated places.",
        ),
        *development,
        *(
            readings.bars(
                f"Lines {when} training, above the data's",
                _NAMES,
                PERIODS,
                stage,
                "0 dB: as many as pictures of the data have. Means over seeds with 95 % intervals.",
            )
            for when, stage in (("before", 0), ("after", -1))
        ),
        readings.spectra(
            "Spectra after training",
            ("two transposed", "one transposed", "nearest"),
            _MARKS,
            "Peaks at the marks are patterns of 4 and of 2 pixels.",
        ),
        readings.course(
            "Ripple of the last up-sampling layer while training",
            [name for name in _NAMES if name not in ("nearest", "bilinear")],
            "ripple (ratio)",
            readings.ripple,
            "0: every constant stays constant. Resize-convolutions are at 0 whatever they learn; ICNR starts there.",
        ),
        readings.course(
            "Period 2 while training",
            _NAMES,
            "above the data (dB)",
            lambda name, stage: readings.above(name, 2, stage),
            "",
        ),
        _asked(readings),
        _by_distance(readings),
        _generated(readings),
        _numbers(readings),
        *_architectures(readings),
    )


def _asked(readings: Readings) -> Row:
    """Six colours from near to far, by decoder."""
    pictures = []
    for kind in DECODERS:
        shown = readings.of(f"colours, {kind}")[0].arrays["pictures"]
        pictures.append(Picture(kind, mosaic(shown, 3)))
    return Row(
        "Six constant colours requested of trained decoders",
        tuple(pictures),
        "From the colour nearest to the data's mean (top left) to the one furthest from it (bottom right).",
    )


def _by_distance(readings: Readings) -> Plot:
    """The pattern over a requested colour's distance, with the slopes of straight lines."""
    series = []
    for kind in DECODERS:
        outcomes = readings.of(f"colours, {kind}")
        away = np.asarray(outcomes[0].arrays["away"])
        pattern = np.mean([o.arrays["after"] for o in outcomes], axis=0)
        fit = slope(away / 100, pattern, "grey levels per 100 grey levels", "colours")
        name = f"{kind}: slope {brief(fit, 2)} per 100 grey levels"
        series.append(Series(name, tuple(away.tolist()), tuple(pattern.tolist())))
    return Plot(
        "Pattern on a requested colour, by its distance from the data's mean colour",
        "distance (grey levels, root mean square over the channels)",
        "amplitude (grey levels, root mean square)",
        tuple(series),
        "points",
        note="Every point is one of 125 colours, mean over seeds; the legend has the slope of the straight "
        "line through them with its 95 % interval over colours.",
    )


def _generated(readings: Readings) -> Plot:
    """The energy of patterns in generated pictures, in bins of their colours' distance."""
    series = []
    for name in ("two transposed", "even overlap", "nearest", "data"):
        outcomes = readings.of(name)
        away, energy = (np.concatenate([o.arrays[key] for o in outcomes]) for key in ("away", "energy"))
        order = np.argsort(away)
        bins = [part for part in np.array_split(order, _BINS) if len(part) > 1]
        effects = [mean(energy[part], "squared grey levels", "pictures") for part in bins]
        series.append(Series.of(name, [float(away[part].mean()) for part in bins], effects))
    return Plot(
        "Pattern in generated pictures, by the distance of their mean colour from the data's",
        "distance (grey levels, root mean square over the channels)",
        "energy at period 4 and 2 (squared grey levels)",
        tuple(series),
        note="Sixths of all pictures of all seeds, with 95 % intervals over pictures.",
    )


def _numbers(readings: Readings) -> Table:
    """What check predicts, what was measured, what it costs."""

    def shown(value: Any, digits: int) -> float | None:
        return None if value is None else round(value.value, digits)

    def distance(name: str) -> float:
        return float(np.mean([o.numbers["patch_distance"] for o in readings.of(name)]))

    plain = readings.of("nearest")[0].numbers["multiply_adds"]
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, last in GENERATORS:
        numbers = readings.of(name)[0].numbers
        rows.append(
            (
                name,
                ", ".join(last),
                numbers["architecture"]["summary"],
                *(shown(readings.above(name, period, stage), 1) for stage in (0, -1) for period in (2, 4)),
                shown(readings.ripple(name), 3),
                round(distance(name), 2),
                round(numbers["multiply_adds"] / plain, 2),
            )
        )
    rows.append(("data", *(None,) * 7, round(distance("data"), 2), None))
    return Table(
        "Predicted, measured, paid",
        (
            "generator",
            "last layers",
            "evenly check, untrained",
            "period 2 before (dB)",
            "period 4 before (dB)",
            "period 2 after (dB)",
            "period 4 after (dB)",
            "ripple of the last layer after (ratio)",
            "distance of patches from the data's (grey levels)",
            "multiply-adds (ratio to nearest)",
        ),
        tuple(rows),
        "Lines are above the data's. The data's own distance is that between two samples of it; lower is better. "
        "Means over seeds.",
    )


def _architectures(readings: Readings) -> tuple[Architecture, ...]:
    names = (*_NAMES, *(f"colours, {kind}" for kind in DECODERS))
    found = [Architecture(**{**readings.of(name)[0].numbers["architecture"], "name": name}) for name in names]
    return (*found, Architecture(**readings.of(_NAMES[0])[0].numbers["discriminator"]))
