"""Reports of repairs made by hand: realistic figures, every verdict, signals of one to three axes, hostile names."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import attributed_samples
import numpy as np
import report_samples

from evenly.check.result import Report
from evenly.fix.levels import Level
from evenly.fix.result import (
    Cost,
    FixReport,
    FrontierPoint,
    LayerRepair,
    LineChange,
    OutputChange,
    Samples,
    Verdict,
)

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m|`a`\n# head & [l](javascript:1)"


def line(period: int, before: float, after: float, reference: float | None = 0.6) -> LineChange:
    own = None if reference is None else Level(reference, reference - 0.2, 12)
    base = reference or 0.0
    old, new = (Level(base + db, base + db - 0.9, 12) for db in (before, after))
    return LineChange(period, old, new, own, 3.0)


def output(name: str = "y", sizes: tuple[int, ...] = (3, 96, 96), **more: Any) -> OutputChange:
    values = {"signals": 12, "lines": (line(2, 31.2, 1.3), line(4, 12.6, 0.4)), "psnr_db": 41.2, "max_change": 0.0312}
    return OutputChange(name=name, sizes=sizes, **{**values, "peak": 1.0, **more})


def frontier() -> tuple[FrontierPoint, ...]:
    points = [
        FrontierPoint("as it was", None, {2: 31.2, 4: 12.6}, math.inf, 0.1312, 1.0),
        FrontierPoint("balance main.3", None, {2: 14.9, 4: 9.1}, 33.1, 0.1402, 1.0),
    ]
    for strength, db, psnr in ((0.5, 16.8, 47.1), (0.75, 9.4, 43.9), (1.0, 4.4, 41.9)):
        points.append(FrontierPoint("solve main.3", strength, {2: db, 4: db / 2}, psnr, 0.131, 1.0))
    points.append(FrontierPoint("solve main.3, 1 more tap per side", 1.0, {2: 1.3, 4: 0.4}, 41.2, 0.1309, 1.021, True))
    return tuple(points)


def picture(rng: np.random.Generator, size: int, channels: int = 3) -> np.ndarray:
    """Smooth shapes with some grain, (channels, size, size)."""
    y, x = np.mgrid[0:size, 0:size] / size
    scene = 0.45 + 0.25 * np.sin(5 * x + 2 * y) + 0.2 * (np.hypot(x - 0.6, y - 0.4) < 0.25) - 0.15 * (y > 0.75)
    tints = np.linspace(1.0, 0.8, channels)[:, None, None]
    return np.clip(scene * tints + rng.normal(0, 0.01, (channels, size, size)), 0, 1)


def samples(axes: int = 2, channels: int = 3, size: int = 48, count: int = 2, seed: int = 0) -> Samples:
    """Outputs with a pattern of period 2 and 4 before, hardly any after."""
    rng = np.random.default_rng(seed)
    if axes == 2:
        real = np.stack([picture(rng, size, channels) for _ in range(count)])
    elif axes == 1:
        t = np.arange(size * 16)
        tones = np.sin(0.021 * t) + 0.4 * np.sin(0.13 * t + 1) * np.exp(-(((t - t.mean()) / 300) ** 2))
        real = 0.3 * np.stack([np.stack([tones] * channels)] * count) + rng.normal(0, 0.004, (count, channels, len(t)))
    else:
        ball = np.indices((size,) * 3).astype(float) - size / 2
        real = np.broadcast_to(np.hypot(np.hypot(*ball[:2]), ball[2]) < size / 3, (count, channels, *(size,) * 3)) * 0.7
        real = real + rng.normal(0.1, 0.01, real.shape)
    place = np.indices(real.shape[2:])
    waves = np.prod([(-1.0) ** p for p in place], axis=0) * 0.05
    waves = waves + np.prod([np.cos(np.pi / 2 * p) for p in place], axis=0) * 0.02
    before = real + waves * (0.5 + real.mean((0, 1)))
    after = real + 0.01 * waves
    made = [np.asarray(a, np.float32) for a in (before, after, real)]
    return Samples("y", *made, 0.0, 1.0) if axes != 1 else Samples("y", *made, -1.0, 1.0)


def clean_check() -> Report:
    return replace(report_samples.ordinary(), findings=())


def report(verdict: Verdict = "reached", **more: Any) -> FixReport:
    values: dict[str, Any] = {
        "model": "generator.onnx",
        "method": "auto",
        "verdict": verdict,
        "calibration": "48 pictures in data/faces; 12 of them kept for the proof",
        "reference": "the real data's own lines",
        "limit_db": 3.0,
        "max_distortion_db": 40.0,
        "seed": 0,
        "layers": (
            LayerRepair("main.3", "solve", "ConvTranspose 3x3, stride 2", "ConvTranspose 5x5, stride 2", 0.187),
            LayerRepair("main.6", "solve", "ConvTranspose 4x4, stride 2", None, None, "its lines are within the limit"),
        ),
        "outputs": (output(),),
        "frontier": frontier(),
        "cost": Cost((1_204_355, 1_216_643), (4_817_420, 4_866_572), (0.01234, 0.01266), (812_000_000, 829_000_000)),
        "loss": (0.1312, 0.1309),
        "check_before": report_samples.ordinary(),
        "check_after": clean_check(),
        "certificate": False,
        "notes": ("2 files were left out: no pictures",),
        "samples": (samples(),),
    }
    return FixReport(**{**values, **more})


def partly() -> FixReport:
    left = (line(2, 31.2, 1.3), line(4, 12.6, 7.1))
    return report("partly", outputs=(output(lines=left),), proposal="finetune for 200 steps: --method finetune")


def clean() -> FixReport:
    calm = output(lines=(line(2, 0.4, 0.4),), psnr_db=math.inf, max_change=0.0)
    return report("clean", layers=(), outputs=(calm,), frontier=(), cost=None, loss=None, check_after=None, samples=())


def bare(verdict: Verdict = "structural") -> FixReport:
    """As little as a report can have."""
    return report(
        verdict,
        outputs=(),
        frontier=(),
        cost=None,
        loss=None,
        check_before=None,
        check_after=None,
        notes=(),
        samples=(),
    )


def surroundings() -> FixReport:
    """Without real data: lines over their own surroundings; one output is silent, another a volume."""
    quiet = LineChange(2, Level(0.0, 0.0, 0), Level(0.0, 0.0, 0), None, 3.0)
    outputs = (
        output("sound", (1, 16384), lines=(line(8, 22.0, 0.8, None),), signals=9),
        output("volume", (1, 64, 64, 64), lines=(quiet,), note="constant"),
    )
    return report(reference="the surroundings of every line", outputs=outputs, certificate=True, samples=())


def hostile() -> FixReport:
    """Every text says something it should not."""
    bad = HOSTILE
    layer = LayerRepair(bad, bad, bad, bad, 0.1, bad)
    points = tuple(replace(point, method=bad) for point in frontier())
    found = attributed_samples.hostile(bad)
    checked = report_samples.ordinary()
    checked = replace(checked, findings=tuple(replace(f, code=bad, layer=bad) for f in checked.findings))
    return report(
        model=bad, method=bad, calibration=bad, reference=bad, layers=(layer,), outputs=(output(bad, note=bad),),
        frontier=points, check_before=checked, check_after=checked, attribution=found, proposal=bad, notes=(bad,),
        samples=(replace(samples(size=32, count=1), output=bad),),
    )  # fmt: skip


ALL = MappingProxyType(
    {
        "reached": report,
        "partly": partly,
        "clean": clean,
        "structural": bare,
        "folded": lambda: bare("folded"),
        "surroundings": surroundings,
        "attributed": lambda: report(attribution=attributed_samples.ordinary(), samples=()),
        "hostile": hostile,
    }
)
