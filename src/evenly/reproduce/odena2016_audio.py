"""Does it matter for sound? Tones and replicas of vocoders, at the start, after training, and in silence (C22).

Odena, Dumoulin & Olah 2016 end with the question; Pons et al. 2021 (arXiv 2010.14356) ask it of decoders for music.
Stacks of up-sampling layers as in HiFi-GAN and MelGAN are fed with constants, noise, zeros and tones before any
training; then small vocoders that differ in these layers alone learn synthetic speech.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evenly.reproduce.audio_findings import Heard, evidence, findings
from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.result import Conclusion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evenly.reproduce._vocoder import Vocoder

__all__ = ["EXPERIMENT"]


@dataclass(frozen=True)
class _Settings:
    """Sizes, by scale.

    Attributes:
        width: Channels at the rate of the frames, of the trained vocoders.
        steps, batch, frames: Of the training.
        corpus: Seconds of speech to train on.
        measured: Seconds of every sound that is measured.
        trained: Which stacks are trained.
    """

    width: int
    steps: int
    batch: int
    frames: int
    corpus: float
    measured: float
    trained: tuple[str, ...]


_PAIR = ("transposed", "nearest")
_SETTINGS = {
    Scale.SMOKE: _Settings(8, 3, 2, 8, 1.0, 0.6, _PAIR),
    Scale.SMALL: _Settings(32, 400, 8, 16, 60.0, 8.0, ("transposed", "transposed, uneven", "nearest")),
    Scale.FULL: _Settings(
        256, 100_000, 16, 32, 3600.0, 30.0, ("transposed", "transposed, uneven", "sub-pixel", "nearest", "linear")
    ),
}
_WIDTH = 64
"""Channels at the rate of the frames, of the stacks that are not trained."""
_BORDER = 16
"""Frames that are cut off at both ends of what an untrained stack gives: the edge of its input is heard there."""
_SHOWN = 3.0
"""Seconds to listen to."""


def _cells(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    untrained = [Cell(f"untrained/seed-{seed}", {}, seed) for seed in seeds]
    return untrained + [
        Cell(f"{kind}/seed-{seed}", {"kind": kind, "shown": seed == seeds[0]}, seed)
        for kind in _SETTINGS[scale].trained
        for seed in seeds
    ]


def _run(cell: Cell, context: Context) -> Outcome:
    return _train(cell, context) if "kind" in cell.options else _untrained(context)


def _untrained(context: Context) -> Outcome:
    """Every stack on every input."""
    import numpy as np
    import torch

    from evenly.reproduce._speech import HOP, MELS, RATE
    from evenly.reproduce._vocoder import STACKS, lines, sixteen_bit, vocoder

    count = round(_SETTINGS[context.scale].measured * RATE / HOP) + 2 * _BORDER
    rng = context.rng(1)
    time = np.arange(count)
    # frames come 62.5 times a second: each channel has a pure tone below half of that
    pure = np.cos(2 * np.pi * np.outer(rng.uniform(0.02, 0.45, MELS), time) + rng.uniform(0, 7, (MELS, 1)))
    inputs = {
        "ones": np.ones((MELS, count)),
        "noise": rng.normal(size=(MELS, count)),
        "zeros": np.zeros((MELS, count)),
        "tones": pure,
    }
    numbers: dict[str, Any] = {}
    for kind in STACKS:
        torch.manual_seed(context.seed)
        network = vocoder(kind, _WIDTH, excited=False).to(context.fabric.device)
        for name, values in inputs.items():
            with torch.no_grad():
                made = network(context.fabric.to_device(torch.from_numpy(values[None].astype(np.float32))))
            samples = made[0, _BORDER * HOP : -_BORDER * HOP].cpu().numpy()
            loud = samples / (2 * np.abs(samples).max())  # the start's scale is arbitrary: half of full scale
            numbers.setdefault(kind, {})[name] = lines(sixteen_bit(loud, context.rng(2)))
    return Outcome({"untrained": numbers})


def _train(cell: Cell, context: Context) -> Outcome:
    """Train one vocoder; measure it before and after."""
    from evenly.reproduce._speech import speech
    from evenly.reproduce._vocoder import Recipe, fit, vocoder

    settings = _SETTINGS[context.scale]
    network = vocoder(str(cell.options["kind"]), settings.width)
    shown = bool(cell.options["shown"])
    numbers: dict[str, Any] = {}
    if shown:
        numbers["architecture"] = _described(str(cell.options["kind"]), network)
    network.to(context.fabric.device)
    before, arrays = _measured(context, network, "before")
    corpus = speech(settings.corpus, context.rng(3))
    trained, course = fit(context, network, corpus, Recipe(settings.steps, settings.batch, settings.frames))
    after, later = _measured(context, trained, "after")
    numbers |= {"before": before, "after": after, "course": course.to_dict()}
    return Outcome(numbers, {**arrays, **later} if shown else {})


def _described(kind: str, network: Vocoder) -> dict[str, str]:
    import torch

    from evenly.reproduce._speech import HOP, MELS
    from evenly.reproduce.instruments import architecture

    return asdict(architecture(kind, network, torch.zeros(1, MELS, 32), torch.zeros(1, 2, 32 * HOP)))


def _measured(context: Context, network: Any, when: str) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Lines of held-out speech, of its original, and of silence; and the sounds themselves."""
    import numpy as np

    from evenly.reproduce._speech import RATE, silence, speech
    from evenly.reproduce._vocoder import lines, sixteen_bit, spoken

    seconds = _SETTINGS[context.scale].measured
    told = {"speech": speech(seconds, context.rng(4)), "silence": silence(seconds, context.rng(5))}
    sounds = {name: spoken(context, network, original) for name, original in told.items()}
    sounds["original"] = told["speech"].samples
    levels = {name: float(20 * np.log10(np.std(sound) + 1e-9)) for name, sound in sounds.items()}
    numbers = {
        name: {"lines": lines(sixteen_bit(sound, context.rng(6))), "level": levels[name]}
        for name, sound in sounds.items()
    }
    numbers["silence"]["spectrum"] = _spectrum(sixteen_bit(sounds["silence"], context.rng(6)) / 32768)
    cut = {f"{when}-{name}": sound[: round(_SHOWN * RATE)] for name, sound in sounds.items()}
    return numbers, cut


def _spectrum(samples: NDArray[np.float64]) -> list[float]:
    """Power in dB of full scale, 512 bins: a sine that reaches 1 has 0 dB."""
    import numpy as np
    from scipy import signal

    window = signal.windows.blackmanharris(1024, sym=False)
    power = signal.spectrogram(samples, window=window, noverlap=512, scaling="spectrum", detrend=False)[2].mean(1)
    return [float(value) for value in 10 * np.log10(2 * power[:512] + 1e-15)]


def _conclude(scale: Scale, outcomes: Mapping[str, Outcome]) -> Conclusion:
    read = Heard(outcomes)
    settings = _SETTINGS[scale]
    return Conclusion(
        findings(read),
        evidence(read),
        f"Vocoders of {settings.width} channels at the frames, trained for {settings.steps} steps on "
        f"{settings.corpus:g} s of synthetic speech at 16 kHz without an adversary; they are told the "
        "excitation. Vocoders in use are trained for hundreds of thousands of steps on recorded speech, against "
        "discriminators. Whether a tone is heard was not asked of listeners.",
    )


EXPERIMENT = Experiment(
    "audio",
    "Vocoders: tones and replicas of strided up-sampling in sound",
    "Odena, Dumoulin & Olah 2016, Conclusion (an open question); Pons et al. 2021, arXiv 2010.14356",
    ("C22",),
    {Scale.SMOKE: 2, Scale.SMALL: 4, Scale.FULL: 8},
    _cells,
    _run,
    _conclude,
)
