"""Sounds of known truth: clean ones that resemble noise, speech and music; tones; generators with random weights."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, resample_poly, sosfilt
from torch import nn

from evenly.nn import ResizeConv1d

RATE = 22050


def stream(name: str, seed: int) -> np.random.Generator:
    """Random numbers of one kind of sound's own: no two kinds share draws."""
    return np.random.default_rng([seed, crc32(name.encode())])


def noise(rng: np.random.Generator, samples: int, slope: float) -> NDArray[np.float64]:
    """Gaussian noise whose power falls with frequency to the power of ``slope``: 0 white, 1 pink, 2 brown."""
    spectrum = rng.standard_normal(samples // 2 + 1) + 1j * rng.standard_normal(samples // 2 + 1)
    spectrum *= np.maximum(np.arange(spectrum.size), 1.0) ** (-slope / 2)
    x = np.fft.irfft(spectrum, samples)
    return 0.1 * x / x.std()


def speech(rng: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Voiced and unvoiced syllables with a wandering pitch, three formants, pauses and room noise, in 16 bits."""
    x = np.zeros(samples)
    at = int(rng.integers(2000))
    while at < samples - 3000:
        length = int(min(rng.integers(2500, 7000), samples - at))
        if rng.random() < 0.7:
            pitch = rng.uniform(80, 260) * np.exp(0.15 * np.cumsum(rng.standard_normal(length)) / np.sqrt(length))
            source = np.diff(np.floor(np.cumsum(pitch / RATE) + rng.random()), prepend=0.0).clip(0, 1)
            source += 0.01 * rng.standard_normal(length)
        else:
            source = 0.1 * sosfilt(butter(2, 2500, "high", fs=RATE, output="sos"), rng.standard_normal(length))
        for centre in (rng.uniform(300, 800), rng.uniform(900, 2200), rng.uniform(2300, 3300)):
            radius = np.exp(-np.pi * rng.uniform(60, 160) / RATE)
            source = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], source)
        x[at : at + length] += np.hanning(length) * source / max(np.abs(source).max(), 1e-9) * rng.uniform(0.1, 0.8)
        at += length + int(rng.integers(0, 5000))
    x += 10 ** (-70 / 20) * 0.3 * noise(rng, samples, 0.5)
    return np.round(x.clip(-1, 1) * 32767) / 32768


def music(rng: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Notes of the tempered scale, tuned near 440 Hz, with up to twelve partials; three voices; a little noise."""
    x, tuning = np.zeros(samples), 440 * 2 ** rng.uniform(-0.02, 0.02)
    n = np.arange(samples)
    for _ in range(3):
        at = 0
        while at < samples:
            length = int(min(rng.integers(3000, 16000), samples - at))
            pitch = tuning * 2 ** (int(rng.integers(-24, 18)) / 12)
            partials = np.arange(1.0, min(13, int(0.45 * RATE / pitch) + 1))
            envelope = np.exp(-n[:length] / rng.uniform(3000, 20000)) * np.minimum(1, n[:length] / 200)
            phases = rng.uniform(0, 2 * np.pi, partials.size)
            waves = np.cos(2 * np.pi * pitch / RATE * np.outer(partials, n[:length]) + phases[:, None])
            x[at : at + length] += 0.1 * envelope * (partials ** -rng.uniform(0.5, 2.0) @ waves)
            at += length
    return x + 1e-4 * rng.standard_normal(samples)


def quiet(rng: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Bursts of pink noise between digital silence, in 16 bits."""
    x = noise(rng, samples, 1.0)
    edges = np.sort(rng.integers(0, samples, 12))
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        x[a:b] = 0.0
    return np.round(x.clip(-1, 1) * 32767) / 32768


def resampled(rng: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Speech at half the rate, raised by a good resampler."""
    return resample_poly(speech(rng, -(-samples // 2)), 2, 1)[:samples]


CLEAN = {
    "white noise": lambda rng, n: noise(rng, n, 0.0),
    "pink noise": lambda rng, n: noise(rng, n, 1.0),
    "brown noise": lambda rng, n: noise(rng, n, 2.0),
    "speech": speech,
    "music": music,
    "bursts and digital silence": quiet,
}


def tones(samples: int, period: int, dbfs: float) -> NDArray[np.float64]:
    """Every tone that is new at a period, each of an amplitude of ``dbfs`` and a phase of its own."""
    n, x = np.arange(samples), np.zeros(samples)
    for k in range(1, period // 2 + 1):
        if np.gcd(k, period) == 1:
            x += 10 ** (dbfs / 20) * np.cos(2 * np.pi * k / period * n + 0.3 + 0.7 * k)
    return x


def vocoder(strides: tuple[int, ...], kind: str, seed: int, width: int = 32) -> nn.Sequential:
    """A generator in the shape of HiFi-GAN's with random weights; ``kind``: transposed, or the mode of a resize."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv1d(16, width, 7, padding=3)]
    for stride in strides:
        narrow = max(8, width // 2)
        layers.append(nn.LeakyReLU(0.1))
        if kind == "transposed":
            padding, extra = (stride + stride % 2) // 2, stride % 2
            layers.append(nn.ConvTranspose1d(width, narrow, 2 * stride, stride, padding, output_padding=extra))
        else:
            layers.append(ResizeConv1d(width, narrow, 7, stride, mode=kind))
        width = narrow
    layers += [nn.LeakyReLU(0.1), nn.Conv1d(width, 1, 7, padding=3), nn.Tanh()]
    return nn.Sequential(*layers).eval()


def generated(net: nn.Sequential, frames: int, given: str, seed: int) -> NDArray[np.float64]:
    """What a generator makes of 16 channels of noise, of near silence, or of frames with the levels of speech."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((16, frames))
    if given == "silence":
        z = -4 + 0.05 * z
    elif given == "speech":
        level = np.abs(speech(rng, 256 * frames)).reshape(frames, 256).mean(1)
        z = np.log(level + 1e-4) * rng.random((16, 1)) + 0.5 * z
    with torch.no_grad():
        return net(torch.from_numpy(z.astype(np.float32))[None])[0, 0].numpy().astype(np.float64)
