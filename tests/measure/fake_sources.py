"""Sources without files, and what measures them: by their names they succeed, fail, wait, or kill their process."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from evenly.errors import FormatError
from evenly.measure.result import Lines, Measurement, PeriodResult, Trace


@dataclass(frozen=True)
class FakeSource:
    name: str
    folder: str = ""
    shard: str | None = None
    version: int = 1

    @property
    def identity(self) -> str:
        return f"{self.name} {self.version}"

    def open(self) -> bytes:
        return self.name.encode()


def measure_fake(source: FakeSource, periods: tuple[int, ...]) -> Measurement:
    name = source.open().decode()
    if "killer" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "once" in name:  # kills the first process that meets it
        mark = Path(source.folder, name)
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if "broken" in name:
        raise FormatError(f"{name}: truncated\nafter 3 bytes")
    if "missing" in name:
        raise FileNotFoundError(2, "No such file or directory", name)
    if "odd" in name:
        raise ZeroDivisionError("division by zero")
    if "slow" in name:
        time.sleep(0.02)
    if "hanging" in name:
        Path(source.folder, f"{name}-{os.getpid()}").touch()
        time.sleep(600)
    rng = np.random.default_rng(crc32(name.encode()))

    def trace() -> Trace:
        z = rng.normal(size=3) + 0j
        lines = Lines(np.array([[0, 1], [1, 0], [1, 1]]), -(z.real**2), z, np.zeros(3), np.zeros(3))
        return Trace(float(np.log10(rng.uniform())), float(rng.normal()), -0.1, -0.2, None, lines)

    results = {p: PeriodResult(p, mean=trace(), energy_fraction=float(rng.uniform())) for p in periods}
    return Measurement(name, 64, 48, "none", (), (), results, ("a note",))


def fakes(count: int, special: dict[int, str] | None = None, folder: object = "", kind: str = "") -> list[FakeSource]:
    names = {n: f"{n:04d}{kind}" for n in range(count)} | {n: f"{n:04d}-{s}" for n, s in (special or {}).items()}
    return [FakeSource(names[n], str(folder), f"shard {n // 7}.tar") for n in range(count)]
