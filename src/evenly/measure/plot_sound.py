"""A figure of what was measured in a sound: its spectrum, with the tones marked."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import UsageError
from evenly.measure.plot import FOUND, MARKERS, new_figure, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from evenly.measure.sound_files import Sound
    from evenly.measure.sound_result import AudioMeasurement

__all__ = ["level_spectrum", "plot_sound"]

_WINDOW = 7680  # samples: every usual stride divides it, so that tones fall on bins


def plot_sound(measurement: AudioMeasurement, samples: Any = None) -> Figure:
    """The spectrum of a sound in dB of full scale, with the tones of every period found.

    Args:
        measurement: Of the sound.
        samples: The sound itself, where it was measured as an array; a file is read again.

    Raises:
        UsageError: If there is neither an array nor a file.
        EvenlyError: If the file cannot be read.
        MissingDependencyError: If matplotlib is not installed.
    """
    from evenly.measure.sound_files import array_sound, open_sound

    if samples is None and measurement.path is None:
        raise UsageError("the samples were not kept; give them: measurement.plot(samples)")
    figure = new_figure(12.6, 4.2)
    with ExitStack() as stack:
        if samples is not None:
            sound = array_sound(samples, measurement.rate_hz)
        else:
            assert measurement.path is not None
            sound = open_sound(measurement.path, stack)
        level = level_spectrum(sound)
    frequency = np.arange(len(level)) * measurement.rate_hz / (2 * (len(level) - 1))
    axes = figure.subplots()
    axes.plot(frequency / 1000, level, color="#0072B2", linewidth=0.8)
    for rank, period in enumerate(measurement.found):
        result = measurement.periods[period]
        if result is None:
            continue
        tones = np.array([tone.frequency_hz for tone in result.tones or (result.strongest,)])
        at = np.rint(tones / measurement.rate_hz * 2 * (len(level) - 1)).astype(int)
        axes.plot(
            *(tones / 1000, level[at] + 2, MARKERS[min(rank, len(MARKERS) - 1)]),
            markerfacecolor="none",
            markeredgecolor=FOUND,
            markeredgewidth=1.6,
            markersize=9,
            label=f"period {period} samples: tones at multiples of {measurement.rate_hz / period:.5g} Hz",
        )
    axes.set(xlabel="frequency in kHz", ylabel="amplitude in dB of full scale", xlim=(0, measurement.rate_hz / 2000))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    if measurement.found:
        axes.legend(frameon=False, fontsize=9)
    axes.set_title(title(measurement, "samples"), fontsize=12, parse_math=False)
    return figure


def level_spectrum(sound: Sound) -> NDArray[np.float64]:
    """Root mean square over time of the amplitude at every frequency from 0 to half the rate, loudest channel, in dB.

    Hann windows of 7680 samples, or of all of a shorter sound; a sine that reaches full scale has 0 dB.
    """
    size = min(_WINDOW, sound.samples // 2 * 2)
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    total, count = np.zeros((sound.channels, size // 2 + 1)), 0
    kept = np.zeros((sound.channels, 0))
    for block in sound.blocks:
        kept = np.concatenate([kept, block], axis=1)
        while kept.shape[1] >= size:
            total += np.abs(np.fft.rfft(window * kept[:, :size])) ** 2
            count += 1
            kept = kept[:, size // 2 :]
    power = total.max(axis=0) / max(count, 1) / (window.sum() / 2) ** 2
    return np.asarray(10 * np.log10(np.maximum(power, 1e-20)))
