"""Calibration, power and speed of ``evenly.measure.audio``; writes the table ``bench/audio.md``.

    python bench/audio.py [--draws 60] [--seconds 4] [--out bench/audio.md]

Clean sounds resemble noise, speech and music; generators have random weights (see audio_signals.py). Seeds are fixed.
"""

from __future__ import annotations

import argparse
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from audio_signals import CLEAN, RATE, generated, noise, speech, tones, vocoder

from evenly.measure.audio import measure_audio
from evenly.measure.sound_result import STRIDES

HERE = Path(__file__).resolve().parent
LEVELS = (-60, -70, -80, -90, -100)
BACKGROUNDS = {"digital silence": None, "white, -70 dBFS": -70, "white, -50 dBFS": -50, "speech": "speech"}
GENERATORS = {"HiFi-GAN (8, 8, 2, 2)": (8, 8, 2, 2), "EnCodec (8, 5, 4, 2)": (8, 5, 4, 2)}


def row(*cells: object) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def calibration(draws: int, samples: int) -> list[str]:
    lines = [
        row("sound", "tones p < 0.01", "p < 0.001", "replicas p < 0.01", "p < 0.001", "verdict not none"),
        row(*["---"] * 6),
    ]
    by_period: dict[int, list[float]] = {p: [] for p in STRIDES}
    for name, make in CLEAN.items():
        tone, replica, called = [], [], 0
        for seed in range(draws):
            m = measure_audio(make(np.random.default_rng(seed), samples), RATE)
            called += m.verdict != "none"
            for p, r in m.periods.items():
                if r is not None:
                    tone.append(r.tone_log10_p)
                    by_period[p].append(r.tone_log10_p)
                    if r.replica_log10_p is not None:
                        replica.append(r.replica_log10_p)
        shares = [f"{100 * np.mean(np.array(v) < t):.2f} %" for v in (tone, replica) for t in (-2, -3)]
        lines.append(row(name, *shares, f"{called} of {draws}"))
    lines += ["", "Tones by period, all sounds:", "", row("period", "p < 0.01", "p < 0.001"), row(*["---"] * 3)]
    for p, values in by_period.items():
        lines.append(row(p, *(f"{100 * np.mean(np.array(values) < t):.2f} %" for t in (-2, -3))))
    return lines


def power(draws: int, samples: int) -> list[str]:
    lines = [row("background", *(f"{level} dBFS" for level in LEVELS)), row(*["---"] * (1 + len(LEVELS)))]
    for name, background in BACKGROUNDS.items():
        cells = []
        for level in LEVELS:
            found = 0
            for seed in range(draws):
                rng = np.random.default_rng(seed)
                x = tones(samples, 16, level)
                if background == "speech":
                    x = x + speech(rng, samples)
                elif background is not None:
                    x = x + 10 ** (float(background) / 20) * 10 * noise(rng, samples, 0.0)
                found += 16 in measure_audio(x, RATE).found
            cells.append(f"{100 * found / draws:.0f} %")
        lines.append(row(name, *cells))
    return lines


def auc(positive: list[float], negative: list[float]) -> float:
    a, b = np.array(positive)[:, None], np.array(negative)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def generators(draws: int, samples: int) -> list[str]:
    lines = [
        row("generator", "input", "tones: AUC against linear resize", "named: transposed", "nearest", "linear"),
        row(*["---"] * 6),
    ]
    for name, strides in GENERATORS.items():
        hop = int(np.prod(strides))
        for given in ("noise", "silence", "speech"):
            scores: dict[str, list[float]] = {}
            named: dict[str, int] = {}
            for kind in ("transposed", "nearest", "linear"):
                scores[kind], named[kind] = [], 0
                for seed in range(draws):
                    y = generated(vocoder(strides, kind, seed), samples // hop, given, seed)
                    m = measure_audio(y, RATE)
                    scores[kind].append(max(-r.tone_log10_p for p, r in m.periods.items() if r and hop % p == 0))
                    named[kind] += m.verdict == "strong" and hop in m.found
            counts = [f"{named[k]} of {draws}" for k in named]
            lines.append(row(name, given, f"{auc(scores['transposed'], scores['linear']):.3f}", *counts))
    return lines


def speed() -> list[str]:
    lines = [row("sound", "ms per second of audio"), row("---", "---")]
    for seconds in (4, 60, 300):
        x = noise(np.random.default_rng(0), RATE * seconds, 1.0)
        measure_audio(x[:RATE], RATE)
        begun = time.perf_counter()
        measure_audio(x, RATE)
        lines.append(row(f"{seconds} s", f"{1000 * (time.perf_counter() - begun) / seconds:.1f}"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=HERE / "audio.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    samples, fewer = RATE * given.seconds, max(5, given.draws // 6)
    versions = ", ".join(f"{n} {version(n)}" for n in ("numpy", "scipy", "torch"))
    text = [
        "# Sounds",
        "",
        f"`python bench/audio.py --draws {given.draws} --seconds {given.seconds}`; {platform.machine()}, one core, "
        f"{versions}. {given.draws} draws of {given.seconds} s at {RATE} Hz for calibration, {fewer} otherwise.",
        "",
        *("## Clean sounds: share of p-values below", "", *calibration(given.draws, samples), ""),
        *("## Tones new at period 16, found by verdict", "", *power(fewer, samples), ""),
        *("## Generators with random weights", "", *generators(fewer, samples), ""),
        "Named: verdict strong and the product of all strides among the periods found, by tones or by replicas.",
        "",
        *("## Speed", "", *speed(), ""),
    ]
    partial = given.out.with_suffix(".partial")
    partial.write_text("\n".join(text), encoding="utf-8")
    partial.replace(given.out)


if __name__ == "__main__":
    main()
