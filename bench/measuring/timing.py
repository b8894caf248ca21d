"""Speed and memory, each in a process of its own: ``python bench/measuring/timing.py PART`` prints JSON."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEGA = 1024  # a side of a 1-megapixel picture
FILES, FEW = 96, 6
SIDES = {0.25: 512, 1: 1024, 4: 2048, 16: 4096}  # megapixels
LARGE = 5000  # a side of the one large file
ROUNDS, SECONDS = 12, 20


def picture(side: int, seed: int = 0) -> NDArray[np.uint8]:
    """A photograph scaled up to this size with noise of one grey level: traces of interpolation are found in it."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image("china.jpg")[:427, 40 + 20 * seed : 467 + 20 * seed])
    large = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    large += np.random.default_rng(seed).standard_normal(large.shape, np.float32)
    return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def clean(side: int) -> NDArray[np.uint8]:
    """A picture in which nothing is found: colours whose power falls as in photographs, with the same noise."""
    rng = np.random.default_rng(1)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) + 1 / side
    planes = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) / frequency**1.2) for _ in range(3)]
    large = np.stack([128 + 40 * p / p.std() for p in planes], axis=-1) + rng.standard_normal((side, side, 3))
    return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def fastest(tasks: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least time of each in seconds, in turn."""
    best = dict.fromkeys(tasks, math.inf)
    for task in tasks.values():
        task()
    begin, done = time.perf_counter(), 0
    while done < 3 or (done < ROUNDS and time.perf_counter() - begin < SECONDS):
        done += 1
        for name, task in tasks.items():
            at = time.perf_counter()
            task()
            best[name] = min(best[name], time.perf_counter() - at)
    return best


def speed() -> dict[str, Any]:
    """Milliseconds per megapixel on one thread: ours, the others, and ours by size."""
    from evenly.measure.image import measure_image
    from measuring.baselines import BASELINES, luma
    from measuring.injections import PERIODS

    image, found = clean(MEGA), picture(MEGA)
    assert not measure_image(image).causes
    assert measure_image(found).causes
    tasks: dict[str, Callable[[], object]] = {
        "all traces": lambda: measure_image(image),
        "luma mean and variance": lambda: measure_image(image, traces=("mean", "variance")),
        "all traces, with a second look at what was found": lambda: measure_image(found),
    }
    for name, score in BASELINES.items():
        tasks[name] = lambda score=score: [score(luma(image), p) for p in PERIODS]
    growth = {}
    for mega, side in SIDES.items():
        one = clean(side)
        least = fastest({"": lambda one=one: measure_image(one)})[""]
        growth[str(mega)] = 1e3 * least / (side * side / 1e6)
    mega = MEGA * MEGA / 1e6
    return {"ms": {n: 1e3 * t / mega for n, t in fastest(tasks).items()}, "growth": growth}


def _fill(folder: Path, count: int) -> list[Path]:
    """PNG files of a megapixel, eight different ones over and over."""
    from PIL import Image

    made = []
    for at in range(count):
        path = folder / f"{at:03}.png"
        if at < 8:
            Image.fromarray(picture(MEGA, at)).save(path, compress_level=3)
        else:
            path.write_bytes(made[at % 8].read_bytes())
        made.append(path)
    return made


def folder() -> dict[str, Any]:
    """Seconds for a folder on two cores, and for reading and measuring its files one by one on one."""
    from evenly.measure.engine import measure_set
    from evenly.measure.files import read_picture
    from evenly.measure.image import measure_image

    def one_by_one() -> None:
        for path in files:
            measure_image(read_picture(path).pixels)

    with tempfile.TemporaryDirectory() as name:
        files = _fill(Path(name), FILES)
        best = {"one": math.inf, "two": math.inf}
        for _ in range(3):
            for key, task in (("one", one_by_one), ("two", lambda: measure_set([name], jobs=2))):
                at = time.perf_counter()
                task()
                best[key] = min(best[key], time.perf_counter() - at)
    return {"files": FILES, **best}


def memory() -> dict[str, Any]:
    """Peak bytes of a process that measures few files, many files, and one large file."""
    from PIL import Image

    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        _fill(Path(name), FILES)
        few, large = Path(name) / "few", Path(name) / "large"
        for path in (few, large):
            path.mkdir()
        _fill(few, FEW)
        Image.fromarray(picture(LARGE)).save(large / "0.png", compress_level=1)
        for key, pattern in (("few", str(few)), ("many", f"{name}/*.png"), ("large", str(large))):
            run = [sys.executable, __file__, "peak", pattern]
            peaks[key] = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    sizes = {"few": MEGA * MEGA * 3, "many": MEGA * MEGA * 3, "large": LARGE * LARGE * 3}
    return {"files": {"few": FEW, "many": FILES, "large": 1}, "peak": peaks, "picture": sizes}


def peak(target: str) -> int:
    """The high-water mark of this process after measuring a target, in bytes."""
    from evenly.measure.engine import measure_set

    state = measure_set([target], jobs=1)
    if state.failed_count or not state.count:
        raise RuntimeError(f"{state.failed_count} of {state.count + state.failed_count} files failed")
    line = next(v for v in Path("/proc/self/status").read_text().splitlines() if v.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def apart(part: str) -> dict[str, Any]:
    """A part in a fresh process with one thread per process."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, "1")
    done = subprocess.run(
        [sys.executable, __file__, part], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"speed": speed, "folder": folder, "memory": memory}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    print(json.dumps(peak(sys.argv[2]) if sys.argv[1] == "peak" else PARTS[sys.argv[1]]()))
