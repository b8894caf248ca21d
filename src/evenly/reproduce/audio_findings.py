"""What vocoders leave in sounds: outcomes by stack and seed, the parts of C22, and what there is to hear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evenly.reproduce import statistics
from evenly.reproduce.experiment import Outcome
from evenly.reproduce.result import (
    Architecture,
    Evidence,
    Finding,
    Part,
    Plot,
    Recording,
    Series,
    Table,
)

__all__ = ["Heard", "evidence", "findings"]

TENFOLD = 10.0
"""In dB: ten times the power. Asked where nothing else sounds that could hide a tone."""
TWICE = 3.0
"""In dB: twice the power. Asked under speech, which hides tones and makes the estimates uncertain."""

CONVERSATION = 65.0
"""In dB SPL: how loud speech is in conversation. Tones of 0 dB SPL are at about the threshold of hearing."""

_LAYERS = ("1st (8x)", "2nd (8x)", "3rd (2x)", "4th (2x)")
_INPUTS = ("ones", "noise", "zeros", "tones")
_RATE = 16_000
_RAISED = 40.0
"""In dB: how much louder silence is made to listen to."""


class Heard:
    """Outcomes: stacks before any training, and trained vocoders, one value for each seed."""

    def __init__(self, outcomes: Mapping[str, Outcome]) -> None:
        self.untrained: list[Mapping[str, Any]] = []
        self.trained: dict[str, list[Mapping[str, Any]]] = {}
        self.sounds: dict[str, Mapping[str, Any]] = {}
        for name, outcome in outcomes.items():
            kind = name.partition("/")[0]
            if kind == "untrained":
                self.untrained.append(outcome.numbers["untrained"])
                continue
            self.trained.setdefault(kind, []).append(outcome.numbers)
            if outcome.arrays:
                self.sounds[kind] = outcome.arrays

    def start(self, kind: str, given: str) -> list[float]:
        """The strongest tone of an untrained stack (dB over its floor), by seed."""
        return [strongest(numbers[kind][given]) for numbers in self.untrained]

    def tone(self, kind: str, when: str, sound: str) -> list[float]:
        """The strongest tone of a trained vocoder (dB over its floor), by seed."""
        return [strongest(numbers[when][sound]["lines"]) for numbers in self.trained[kind]]


def strongest(layers: list[dict[str, float | None]]) -> float:
    """The strongest tone of all layers, in dB over its floor."""
    return max(float(layer["db"] or 0.0) for layer in layers)


def findings(read: Heard) -> tuple[Finding, ...]:
    """C22."""
    parts = [
        Part(
            "Before training, fed with noise, the strongest tone of the transposed stack stands at least "
            f"{TENFOLD:g} dB higher over its floor than that of the nearest-neighbour stack fed with the same.",
            statistics.paired(read.start("transposed", "noise"), read.start("nearest", "noise"), "dB"),
            at_least=TENFOLD,
        ),
        Part(
            f"After training, in silence, the strongest tone of the transposed vocoder stands at least {TENFOLD:g} dB "
            "higher over its floor than that of the nearest-neighbour vocoder.",
            statistics.paired(
                read.tone("transposed", "after", "silence"), read.tone("nearest", "after", "silence"), "dB"
            ),
            at_least=TENFOLD,
        ),
        Part(
            f"After training, in held-out speech, the strongest tone of the transposed vocoder stands at least "
            f"{TWICE:g} dB higher over its floor than that of the nearest-neighbour vocoder.",
            statistics.paired(
                read.tone("transposed", "after", "speech"), read.tone("nearest", "after", "speech"), "dB"
            ),
            at_least=TWICE,
            decides="longer training, recorded speech",
        ),
        Part(
            "After training, the strongest tone that the transposed vocoder puts into held-out speech stands at least "
            f"{TWICE:g} dB higher over its floor than the same lines of the original.",
            statistics.paired(
                read.tone("transposed", "after", "speech"), read.tone("transposed", "after", "original"), "dB"
            ),
            at_least=TWICE,
            decides="longer training, recorded speech",
        ),
    ]
    note = (
        "The article asks; these parts are one way to answer. Tones are those at multiples of the rate over products "
        "of the last strides; sounds are measured as 16-bit samples with dither. A tone counts over its own "
        "vocoder's floor, so a vocoder that is noisier, or fits worse, has more to hide it under: see the distances."
    )
    return (Finding("C22", tuple(parts), note),)


def evidence(read: Heard) -> tuple[Evidence, ...]:
    """Sounds, plots, tables and networks, in the order of the telling."""
    return (*_recordings(read), _starts(read), _courses(read), _spectra(read), *_tables(read), *_architectures(read))


def _recordings(read: Heard) -> list[Evidence]:
    found: list[Evidence] = []
    for kind, sounds in read.sounds.items():
        if not found:
            found.append(Recording("Original", _loud(sounds["after-original"]), _RATE, "Synthetic, held out."))
        found += [
            Recording(
                f"{kind}, {when} training",
                _loud(sounds[f"{when}-speech"]),
                _RATE,
                "The same speech from its spectrogram; made equally loud.",
            )
            for when in ("before", "after")
        ]
        if kind in ("transposed", "nearest"):  # those that the parts compare
            raised = sounds["after-silence"] * 10 ** (_RAISED / 20)
            samples = np.clip(raised, -1, 1).astype(np.float32)
            note = f"{_RAISED:g} dB louder than it is."
            found.append(Recording(f"{kind}, silence after training", samples, _RATE, note))
    return found


def _loud(samples: Any) -> Any:
    """At a root mean square of -20 dB of full scale, clipped."""
    centred = samples - np.mean(samples)
    return np.clip(centred * 0.1 / (np.std(centred) + 1e-9), -1, 1).astype(np.float32)


def _starts(read: Heard) -> Plot:
    kinds = tuple(read.untrained[0])
    return Plot(
        "Strongest tone before any training",
        "up-sampling layers",
        "strongest tone (dB over its floor)",
        tuple(
            Series.of(f"input: {given}", kinds, [statistics.mean(read.start(kind, given), "dB") for kind in kinds])
            for given in _INPUTS
        ),
        kind="bars",
        note="Mean and 95 % interval over seeds. The loudest of many lines of noise stands a few dB over its floor "
        "without any tone. Ones and zeros have the floor of a 16-bit file. More than about 42 dB cannot be told: the "
        "measurement's tapers leak as much.",
    )


def _courses(read: Heard) -> Plot:
    kinds = tuple(read.trained)
    shown = (("before", "speech"), ("after", "speech"), ("before", "silence"), ("after", "silence"))
    series = [
        Series.of(f"{sound}, {when} training", kinds, [statistics.mean(read.tone(k, when, sound), "dB") for k in kinds])
        for when, sound in shown
    ]
    series.append(
        Series.of("the original", kinds, [statistics.mean(read.tone(k, "after", "original"), "dB") for k in kinds])
    )
    return Plot(
        "Strongest tone of vocoders that are trained",
        "up-sampling layers",
        "strongest tone (dB over its floor)",
        tuple(series),
        kind="bars",
        note="Mean and 95 % interval over seeds. Sounds are 16-bit samples at the vocoder's own level. "
        "Where the variance differs by phase, nonlinearities can make tones of it even if constants stay constant.",
    )


def _spectra(read: Heard) -> Plot:
    series = []
    for kind, seeds in read.trained.items():
        power = np.mean([numbers["after"]["silence"]["spectrum"] for numbers in seeds], axis=0)
        at = np.arange(len(power)) * _RATE / (2 * len(power))
        series.append(Series(kind, tuple(at.tolist()), tuple(power.tolist())))
    return Plot(
        "What trained vocoders say in silence",
        "frequency (Hz)",
        "power (dB of full scale)",
        tuple(series),
        marks=tuple((k * _RATE / 8, f"{k}/8 of the rate") for k in (1, 2, 3)),
        note="Mean over seeds, bins of 15.6 Hz. The second layer has lines at all multiples of 500 Hz, the third "
        "at 4000 Hz, the fourth at 8000 Hz.",
    )


def _value(values: list[float]) -> str:
    effect = statistics.mean(values, "dB")
    return f"{effect.value:.1f} ({effect.low:.1f} to {effect.high:.1f})"


def _tables(read: Heard) -> list[Evidence]:
    starts = tuple(
        (
            kind,
            *(_value([float(n[kind]["noise"][layer]["db"]) for n in read.untrained]) for layer in range(len(_LAYERS))),
            _replicas([n[kind]["noise"] for n in read.untrained]),
        )
        for kind in read.untrained[0]
    )
    trained = []
    for kind, seeds in read.trained.items():
        for sound in ("speech", "silence"):
            found = [numbers["after"][sound] for numbers in seeds]
            trained.append(
                (
                    kind,
                    sound,
                    *(_value([float(f["lines"][layer]["db"]) for f in found]) for layer in range(len(_LAYERS))),
                    _replicas([f["lines"] for f in found]),
                    _value([_loudest(numbers["after"], sound) for numbers in seeds]),
                    _value([float(numbers["course"]["losses"]["distance"][-1]) for numbers in seeds]),
                )
            )
    columns = ("layers", *(f"tone of the {layer}" for layer in _LAYERS), "strongest replica")
    return [
        Table(
            "Untrained stacks fed with noise: tones (dB over the local floor), replicas (dB of the base band)",
            columns,
            starts,
            "By up-sampling layer; mean and 95 % interval over seeds. Replicas: Pons et al.'s filtering artifacts.",
        ),
        Table(
            "Trained vocoders: tones (dB over the local floor), replicas (dB of the base band), the loudest of these "
            "tones (dB of the level of speech), distance of the last steps",
            ("layers", "sound", *columns[1:], "loudest", "distance"),
            tuple(trained),
            f"Where speech is as loud as in conversation ({CONVERSATION:g} dB SPL), a tone below "
            f"-{CONVERSATION:g} dB of its level lies below the threshold of hearing between 1 and 5 kHz (ISO 226).",
        ),
    ]


def _loudest(numbers: Mapping[str, Any], sound: str) -> float:
    """The highest level of the layers' strongest tones, in dB of the level of the vocoder's speech."""
    levels = [layer["dbfs"] for layer in numbers[sound]["lines"] if layer["dbfs"] is not None]
    # a sine that reaches 1 has 0 dB, but a standard deviation of -3 dB
    return float(max(levels) - 10 * np.log10(2) - numbers["speech"]["level"])


def _replicas(found: list[list[dict[str, float | None]]]) -> str:
    """The strongest replica of any layer, mean over the seeds that have one."""
    best = [max(seen) for layers in found if (seen := [x["replica_db"] for x in layers if x["replica_db"] is not None])]
    return f"{np.mean(best):.1f} (in {len(best)} of {len(found)})" if best else "none"


def _architectures(read: Heard) -> list[Evidence]:
    return [
        Architecture(**numbers["architecture"])
        for seeds in read.trained.values()
        for numbers in seeds
        if "architecture" in numbers
    ]
