"""Synthetic speech for vocoders: voices with moving pitch and formants, bursts of noise, pauses; nothing is recorded.

Fant's source and filter (Acoustic Theory of Speech Production, 1960): a sum of harmonics, each as loud as four
resonances let it be, noise through a band for consonants. What a vocoder is told is a logarithmic mel spectrogram, and
an excitation of harmonics and noise (Wang et al. 2019, arXiv 1904.12088), so that no network has to invent the pitch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import signal
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HOP", "MELS", "RATE", "Speech", "conditioning", "silence", "speech"]

RATE = 16_000
"""Samples a second (Hz)."""
HOP = 256
"""Samples from one frame of the conditioning to the next."""
MELS = 40
"""Bands of the conditioning."""

_WINDOW = 1024
_FLOOR = 1e-5
"""Of magnitudes, before their logarithm is taken."""
_HIGHEST = 7200.0
"""Hz, of harmonics: a tenth below half the rate."""
_ROOM = 3e-5
"""Standard deviation of the noise in pauses: -90 dB of full scale, about one step of a 16-bit file."""
_LOUDNESS = 0.1
"""Root mean square of what is voiced: -20 dB of full scale."""
_FORMANTS = ((250.0, 850.0), (800.0, 2400.0), (2200.0, 3100.0), (3300.0, 4200.0))
_BANDWIDTHS = (80.0, 110.0, 160.0, 220.0)
_CONTROL = 64
"""Samples from one setting of pitch and formants to the next."""


@dataclass(frozen=True, eq=False)
class Speech:
    """A sound and what a vocoder is told of it.

    Attributes:
        samples: ``(T,)``, float32, full scale 1, ``T`` a multiple of `HOP`.
        source: ``(2, T)``, float32: harmonics of equal amplitude where it is voiced, and white noise everywhere.
        paused: ``(T,)``, bool: where nothing is said.
    """

    samples: NDArray[np.float32]
    source: NDArray[np.float32]
    paused: NDArray[np.bool_]


def speech(seconds: float, rng: np.random.Generator) -> Speech:
    """About so many seconds of synthetic speech.

    Args:
        seconds: Rounded to whole frames.
        rng: Of everything random in it.
    """
    length = round(seconds * RATE / HOP) * HOP
    voiced, hissing, centres = _plan(length, rng)
    tuning = np.stack([np.exp(rng.uniform(np.log(90), np.log(260), len(centres)))])
    resonances = np.stack([rng.uniform(low, high, len(centres)) for low, high in _FORMANTS])
    at = np.arange(0, length + _CONTROL, _CONTROL)
    pitch, *formants = (np.interp(at, centres, row) for row in (*tuning, *resonances))
    said, plain = _harmonics(length, at, pitch, np.stack(formants))
    said *= _LOUDNESS / np.sqrt(np.mean(said**2))
    samples = said * voiced + _hiss(length, hissing, rng) + rng.normal(0, _ROOM, length)
    source = np.stack([plain * (voiced > 0.5), rng.normal(size=length)])
    return Speech(
        np.clip(samples, -1, 1).astype(np.float32),
        source.astype(np.float32),
        (voiced + hissing) < 1e-3,
    )


def silence(seconds: float, rng: np.random.Generator) -> Speech:
    """A pause of so many seconds: the room's noise, and an excitation without harmonics."""
    length = round(seconds * RATE / HOP) * HOP
    source = np.stack([np.zeros(length), rng.normal(size=length)]).astype(np.float32)
    return Speech(rng.normal(0, _ROOM, length).astype(np.float32), source, np.ones(length, bool))


def conditioning(samples: Tensor) -> Tensor:
    """Logarithmic mel spectrogram, about -1 (silence) to 1.

    Args:
        samples: ``(N, T)``, float32, ``T`` a multiple of `HOP`.

    Returns:
        ``(N, 40, T / 256)``; frames are centred on the samples that a decoder makes of them.
    """
    border = (_WINDOW - HOP) // 2
    window = torch.hann_window(_WINDOW, device=samples.device)
    padded = pad(samples[:, None], (border, border), mode="reflect")[:, 0]
    spectrum = torch.stft(padded, _WINDOW, HOP, window=window, center=False, return_complex=True)
    bands = torch.from_numpy(_bands()).to(samples) @ spectrum.abs()
    return torch.log(bands.clamp(min=_FLOOR)) / 6 + 0.9


def _bands() -> NDArray[np.float32]:
    """Triangles of equal width in mel (2595 log10(1 + f / 700 Hz)), each of sum 1, ``(40, 513)``."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 1400), MELS + 2) / 2595) - 1)
    frequencies = np.linspace(0, RATE / 2, _WINDOW // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    bands = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(bands / np.maximum(bands.sum(1, keepdims=True), 1e-9), np.float32)


def _plan(
    length: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Loudness of voice and of noise by sample, and the middles of the sounds."""
    voiced, hissing = np.zeros(length), np.zeros(length)
    centres: list[float] = []
    at = 0
    while at < length:
        kind = rng.choice(3, p=(0.6, 0.2, 0.2))
        last = at + int(RATE * rng.uniform(*((0.1, 0.3), (0.04, 0.12), (0.1, 0.3))[kind]))
        if kind < 2:
            (voiced, hissing)[kind][at:last] = rng.uniform(0.4, 1.0)
        centres.append((at + last) / 2)
        at = last
    soft = np.hanning(RATE // 60)  # no sound begins at once: a click would have all frequencies
    soft /= soft.sum()
    return np.convolve(voiced, soft, "same"), np.convolve(hissing, soft, "same"), np.array(centres)


def _harmonics(
    length: int, at: NDArray[np.int64], pitch: NDArray[np.float64], formants: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Harmonics through the formants, and the same harmonics all equally loud (root mean square 1)."""
    time = np.arange(length)
    fundamental = np.interp(time, at, pitch)
    phase = 2 * np.pi * np.cumsum(fundamental) / RATE
    said, plain = np.zeros(length), np.zeros(length)
    for k in range(1, int(_HIGHEST / pitch.min()) + 1):
        heard = k * pitch < _HIGHEST
        wave = np.cos(k * phase) * np.interp(time, at, heard)
        plain += wave
        said += wave * np.interp(time, at, _resonance(k * pitch, formants) / k)
    return said, plain / np.sqrt(np.mean(plain**2))


def _resonance(frequency: NDArray[np.float64], formants: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gain of the resonances one after the other, each 1 at 0 Hz."""
    gain = np.ones_like(frequency)
    for centre, width in zip(formants, _BANDWIDTHS, strict=True):
        gain *= centre**2 / np.hypot(centre**2 - frequency**2, width * frequency)
    return gain


def _hiss(length: int, loudness: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise between 2 and 7 kHz."""
    sections = signal.butter(2, (2000, 7000), "bandpass", fs=RATE, output="sos")
    noise = np.asarray(signal.sosfilt(sections, rng.normal(size=length)))
    return noise * loudness * _LOUDNESS / 2
