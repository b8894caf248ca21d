"""Calibration, power and speed of ``evenly.measure.audio``; writes the table ``bench/audio.md``.

    OMP_NUM_THREADS=1 python bench/audio.py [--draws 1] [--out bench/audio.md]

Clean sounds resemble noise, speech and music; generators have random weights (see audio_signals.py). Seeds are fixed,
and the statistic was not tuned on any of them: whoever changes it takes new ones (``SEED``).
"""

from __future__ import annotations

import argparse
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from audio_signals import CLEAN, RATE, generated, noise, speech, stream, tones, vocoder
from scipy.signal import resample_poly
from scipy.stats import beta

from evenly.measure.audio import measure_audio
from evenly.measure.sound_result import STRIDES, AudioMeasurement

HERE = Path(__file__).resolve().parent
SEED = 80_000
DRAWS = {1: 150, 4: 150, 12: 50}  # clean sounds of each kind, by seconds
SECONDS = 4  # of all others
FOUND, MADE = 10, 30  # draws of sounds with tones, and of generators
LEVELS = (-60, -70, -80, -90, -100)
BACKGROUNDS = {"digital silence": None, "white, -70 dBFS": -70, "white, -50 dBFS": -50, "speech": "speech"}
GENERATORS = {"HiFi-GAN (8, 8, 2, 2)": (8, 8, 2, 2), "EnCodec (8, 5, 4, 2)": (8, 5, 4, 2)}


def row(*cells: object) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def head(*cells: str) -> list[str]:
    return [row(*cells), row(*["---"] * len(cells))]


def interval(count: float, draws: float) -> tuple[float, float]:
    """95 % interval of a share (Clopper and Pearson 1934)."""
    low = beta.ppf(0.025, count, draws - count + 1) if count > 0 else 0.0
    return float(low), float(beta.ppf(0.975, count + 1, draws - count)) if count < draws else 1.0


def share(hits: np.ndarray) -> str:
    """Share of hits, shape (sounds, periods), NaN where there was no test, and its 95 % interval in percent.

    Periods of one sound may depend on each other: the number of tests is divided by how much more the number of hits
    per sound varies than it would if they did not.
    """
    counts, tests = np.nansum(hits, 1), np.isfinite(hits).sum(1)
    counts, tests = counts[tests > 0], tests[tests > 0]
    if not tests.size:
        return "not testable"
    mean = counts.sum() / tests.sum()
    usual = tests.sum() * mean * (1 - mean)
    together = max(1.0, float(((counts - mean * tests) ** 2).sum() / usual)) if usual > 0 else 1.0
    low, high = interval(counts.sum() / together, tests.sum() / together)
    return f"{100 * mean:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def of(count: int, draws: int) -> str:
    low, high = interval(count, draws)
    return f"{count} of {draws} ({100 * low:.0f} to {100 * high:.0f} %)"


def below(values: np.ndarray, log10_p: float) -> np.ndarray:
    return np.where(np.isnan(values), np.nan, values < log10_p)


def p_values(m: AudioMeasurement) -> np.ndarray:
    """Shape (2, periods): log10 p of tones and replicas, NaN where there was no test."""
    return np.array(
        [
            [np.nan if r is None else r.tone_log10_p for r in m.periods.values()],
            [np.nan if r is None or r.replica_log10_p is None else r.replica_log10_p for r in m.periods.values()],
        ]
    )


def calibration(part: float) -> list[str]:
    names = ("tones p < 0.01", "p < 0.001", "replicas p < 0.01", "p < 0.001", "verdict not none")
    lines = head("seconds", "sound", *names)
    found: dict[int, list[np.ndarray]] = {}
    for seconds, most in DRAWS.items():
        draws = max(2, round(part * most))
        for name, make in CLEAN.items():
            measured = [measure_audio(make(stream(name, SEED + i), RATE * seconds), RATE) for i in range(draws)]
            values = np.stack([p_values(m) for m in measured])  # (draws, 2, periods)
            found.setdefault(seconds, []).append(values)
            shares = [share(below(values[:, trace], t)) for trace in (0, 1) for t in (-2, -3)]
            lines.append(row(seconds, name, *shares, of(sum(m.verdict != "none" for m in measured), draws)))
    for trace, what in enumerate(("Tones", "Replicas")):
        lines += ["", f"{what} by period in samples, all sounds:", ""]
        lines += head("period", *(f"{s} s, p < 0.01" for s in DRAWS), "all, p < 0.001")
        for at, period in enumerate(STRIDES):
            columns = {s: np.concatenate(values)[:, trace, at : at + 1] for s, values in found.items()}
            cells = [share(below(column, -2)) for column in columns.values()]
            lines.append(row(period, *cells, share(below(np.concatenate(list(columns.values())), -3))))
    return lines


def power(part: float) -> list[str]:
    lines, samples, draws = (
        head("background", *(f"{level} dBFS" for level in LEVELS)),
        RATE * SECONDS,
        round(part * FOUND),
    )
    for name, background in BACKGROUNDS.items():
        cells = []
        for level in LEVELS:
            found = 0
            for i in range(max(2, draws)):
                rng = stream(f"{name} {level}", SEED + i)
                x = tones(samples, 16, level)
                if background == "speech":
                    x = x + speech(rng, samples)
                elif background is not None:
                    x = x + 10 ** (float(background) / 20) * 10 * noise(rng, samples, 0.0)
                found += 16 in measure_audio(x, RATE).found
            cells.append(of(found, max(2, draws)))
        lines.append(row(name, *cells))
    return lines


def auc(positive: list[float], negative: list[float]) -> str:
    """Area under the curve; its variance is at most that of a share of as many draws (van Dantzig 1951)."""
    a, b = np.array(positive)[:, None], np.array(negative)[None]
    area = float((a > b).mean() + 0.5 * (a == b).mean())
    low, high = interval(area * a.size, a.size)
    return f"{area:.3f} ({low:.2f} to {high:.2f})"


def generators(part: float) -> list[str]:
    lines = head(
        *("generator", "input", "tones: AUC against linear resize", "named: transposed", "nearest", "linear"),
        "tones a cause: transposed", "nearest", "linear",
    )  # fmt: skip
    draws = max(2, round(part * MADE))
    for name, strides in GENERATORS.items():
        hop = int(np.prod(strides))
        for given in ("noise", "silence", "speech"):
            scores: dict[str, list[float]] = {}
            named: dict[str, int] = {}
            toned: dict[str, int] = {}
            for kind in ("transposed", "nearest", "linear"):
                scores[kind], named[kind], toned[kind] = [], 0, 0
                for seed in range(SEED, SEED + draws):
                    m = measure_audio(generated(vocoder(strides, kind, seed), RATE * SECONDS // hop, given, seed), RATE)
                    scores[kind].append(max(-r.tone_log10_p for p, r in m.periods.items() if r and hop % p == 0))
                    named[kind] += m.verdict == "strong" and hop in m.found
                    toned[kind] += "tones" in (m.cause or "")
            counts = [of(counted[k], draws) for counted in (named, toned) for k in counted]
            lines.append(row(name, given, auc(scores["transposed"], scores["linear"]), *counts))
    return lines


def resamplers(part: float) -> list[str]:
    lines, draws = head("raised by", "sound", "up-sampling named"), max(2, round(part * MADE))
    for ratio in (2, 3, 4):
        for name, mean in (("speech", 0.0), ("speech with a mean of 0.1", 0.1)):
            called = 0
            for i in range(draws):
                low = speech(stream(f"{name} {ratio}", SEED + i), RATE * SECONDS // ratio) + mean
                m = measure_audio(resample_poly(low, ratio, 1), RATE)
                called += any(cause.kind == "up-sampling" for cause in m.causes)
            lines.append(row(ratio, name, of(called, draws)))
    return lines


def speed() -> list[str]:
    lines = head("sound", "ms per second of audio")
    for seconds in (4, 60, 300):
        x = noise(stream("speed", SEED), RATE * seconds, 1.0)
        measure_audio(x[: RATE * 4], RATE)
        begun = time.perf_counter()
        measure_audio(x, RATE)
        lines.append(row(f"{seconds} s", f"{1000 * (time.perf_counter() - begun) / seconds:.1f}"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=float, default=1.0, help="share of the draws, for a quick look")
    parser.add_argument("--out", type=Path, default=HERE / "audio.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    versions = ", ".join(f"{n} {version(n)}" for n in ("numpy", "scipy", "torch"))
    several = "" if given.draws == 1 else f" --draws {given.draws:g}"
    text = [
        *("## Clean sounds: share of p-values below", "", *calibration(given.draws), ""),
        *("## Tones new at period 16, found by verdict", "", *power(given.draws), ""),
        *("## Generators with random weights", "", *generators(given.draws), ""),
        "Named: verdict strong and the product of all strides among the periods found, by tones or by replicas. Tones "
        "a cause: the cause's text speaks of tones, whatever the verdict.",
        "",
        *("## Good resamplers (scipy.signal.resample_poly)", "", *resamplers(given.draws), ""),
        *("## Speed", "", *speed(), ""),
    ]
    counts = ", ".join(f"{max(2, round(given.draws * n))} of {s} s" for s, n in DRAWS.items())
    top = [
        "# Sounds",
        "",
        f"`OMP_NUM_THREADS=1 python bench/audio.py{several}`; {platform.machine()}, one core, {versions}, "
        f"{(time.perf_counter() - begun) / 60:.0f} minutes. {RATE} Hz; clean sounds of each kind: {counts}; all others "
        f"{SECONDS} s. Seeds from {SEED} on, none of which the statistic was tuned on; every kind of sound has its own "
        "random numbers. In brackets: 95 % intervals (Clopper and Pearson), for clean sounds after dividing the number "
        "of tests by how much more the hits per sound vary than independent ones.",
        "",
    ]
    partial = given.out.with_suffix(".partial")
    partial.write_text("\n".join(top + text), encoding="utf-8")
    partial.replace(given.out)


if __name__ == "__main__":
    main()
