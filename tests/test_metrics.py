"""CheckerboardScore against a plain double sum; merging; what torchmetrics promises."""

from __future__ import annotations

import subprocess
import sys
from math import gcd, log

import numpy as np
import pytest

from evenly.errors import InputShapeError, ParameterError

torch = pytest.importorskip("torch")
pytest.importorskip("torchmetrics")

from torchmetrics import MetricCollection  # noqa: E402

from evenly.metrics import CheckerboardScore  # noqa: E402

PERIODS = (2, 4)
SIZE = 40


def noise(n, channels=1, size=SIZE, seed=0, scale=0.05):
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + scale * torch.randn(n, channels, size, size, generator=generator)


def board(size=SIZE, dy=0, dx=0):
    y, x = torch.meshgrid(torch.arange(size) + dy, torch.arange(size) + dx, indexing="ij")
    return (-1.0) ** (y + x)


# ------------------------------------------------------------------------------------------------ second implementation


def naive_residual(picture):
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    height, width = picture.shape
    out = np.zeros((height - 2, width - 2))
    for y in range(height - 2):
        for x in range(width - 2):
            out[y, x] = picture[y + 1, x + 1] - (kernel * picture[y : y + 3, x : x + 3]).sum()
    return out


def naive_line(r, fy, fx):
    """Windowed sum with positions counted from the picture's first pixel."""
    h, w = r.shape
    y, x = np.arange(h), np.arange(w)
    taper = np.outer(np.sin(np.pi * (y + 0.5) / h) ** 2, np.sin(np.pi * (x + 0.5) / w) ** 2)
    taper /= np.sqrt((taper**2).sum())
    wave = np.exp(-2j * np.pi * (fy * (y[:, None] + 1) + fx * (x + 1)))
    return (taper * r * wave).sum()


def off(f, q, size):
    return abs(f - round(f * q) / q) * size + 1e-9


def naive_score(pictures, period, aligned):
    lines = []
    for a in range(period):
        for b in range(period):
            conjugate = (-a % period, -b % period)
            if gcd(a, b, period) == 1 and (a, b) <= conjugate:
                lines.append((a, b))
    floor = 1 / 12 / 255**2
    z = np.zeros((len(pictures), len(lines)), complex)
    extra = np.zeros(z.shape)
    for n, picture in enumerate(pictures):
        r = naive_residual(picture)
        h, w = r.shape
        reach_y, reach_x = (min(max(s // 10, 3), 12) for s in r.shape)
        for k, (a, b) in enumerate(lines):
            around, beside = [], []
            for dy in range(-reach_y, reach_y + 1):
                for dx in range(-reach_x, reach_x + 1):
                    fy, fx = a / period + dy / h, b / period + dx / w
                    if any(off(fy, q, h) < 2 and off(fx, q, w) < 2 for q in PERIODS):
                        continue
                    power = abs(naive_line(r, fy, fx)) ** 2
                    around.append(power)
                    if (b == 0 and abs(dx) <= 2) or (a == 0 and abs(dy) <= 2):
                        beside.append(power)
            chosen = beside if len(beside) >= 40 else around
            ordered = sorted(chosen)
            background = ordered[(len(ordered) - 1) // 2] / log(2)
            z[n, k] = naive_line(r, a / period, b / period) / np.sqrt(background + floor)
            extra[n, k] = floor / (background + floor)
    power = (abs(z) ** 2).sum(0)
    count = len(pictures)
    if aligned:
        coherent = (abs(z.sum(0)) ** 2 - power) / (count * (count - 1)) if count > 1 else power - 1
        quotient = 1 + coherent.clip(min=0)
    else:
        quotient = (abs(z) ** 2 + extra).mean(0)
    groups = [
        [q for q, (a, b) in zip(quotient, lines, strict=True) if kind == (a == 0) - (b == 0)] for kind in (-1, 0, 1)
    ]
    return 10 * np.log10(max(np.mean(g) for g in groups if g))


@pytest.mark.parametrize(("count", "height", "width"), [(1, 18, 18), (2, 23, 40), (2, 76, 20)])
def test_scores_are_what_plain_sums_give(count, height, width):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, height, width, generator=generator, dtype=torch.float64)
    images[:, :, ::2] += 0.1
    for origin in ("unknown", "aligned"):
        metric = CheckerboardScore(PERIODS, origin=origin)
        metric.update(images)
        for period in PERIODS:
            expected = naive_score(images[:, 0].numpy(), period, origin == "aligned")
            assert float(metric.compute()[f"checkerboard_{period}"]) == pytest.approx(expected, abs=1e-3)


# --------------------------------------------------------------------------------------------------------- behaviour


def test_nothing_is_about_0_db_and_a_pattern_is_not():
    for size in (34, 66):
        for origin in ("unknown", "aligned"):
            metric = CheckerboardScore(origin=origin)
            metric.update(noise(200, size=size))
            assert all(-1 < float(v) < 2.5 for v in metric.compute().values())
    pattern = CheckerboardScore()(noise(8) + 0.02 * board())
    assert float(pattern["checkerboard_2"]) > 12
    assert float(pattern["checkerboard_4"]) < 4
    flat = CheckerboardScore()(torch.full((3, 1, SIZE, SIZE), 0.25))
    assert all(float(v) == pytest.approx(0, abs=1e-4) for v in flat.values())


def test_aligned_pictures_reveal_weaker_patterns_and_forgive_texture():
    images = noise(400) + 0.0015 * board()
    scores = {}
    for origin in ("unknown", "aligned"):
        metric = CheckerboardScore((2,), origin=origin, output="max")
        for batch in images.split(150):
            metric.update(batch)
        scores[origin] = float(metric.compute())
        metric.reset()
        metric.update(noise(400))
        scores[origin] -= float(metric.compute())
    assert scores["aligned"] > 0.5
    shifted = torch.cat([noise(1, seed=n) + 0.02 * board(dx=n) for n in range(64)])
    assert float(CheckerboardScore((2,), output="max")(shifted)) > 12
    assert float(CheckerboardScore((2,), origin="aligned", output="max")(shifted)) < 3


def test_scales_types_and_colours():
    grey = (255 * noise(6).clamp(0, 1)).round().to(torch.uint8)
    expected = CheckerboardScore()(grey)
    tanh = grey.float() / 127.5 - 1
    for images, options in (
        (grey.float() / 255, {}),
        (grey.double() / 255, {}),
        (tanh, {"data_range": (-1, 1)}),
        (grey.expand(-1, 3, -1, -1), {}),
    ):
        for name, value in CheckerboardScore(**options)(images).items():
            assert float(value) == pytest.approx(float(expected[name]), abs=1e-3)
    half = CheckerboardScore()((noise(4) + 0.02 * board()).to(torch.bfloat16))
    assert float(half["checkerboard_2"]) > 10


def test_batches_and_processes_merge():
    images = noise(10, 3) + 0.01 * board()
    whole, first, second = (CheckerboardScore(origin="aligned") for _ in range(3))
    whole.update(images)
    first.update(images[:3])
    second.update(images[3:])
    first.merge_state(second)
    for name, value in whole.compute().items():
        assert float(first.compute()[name]) == pytest.approx(float(value), abs=1e-4)
    assert float(first.count) == 10


WORKER = """
import sys, torch, torch.distributed as dist
from evenly.metrics import CheckerboardScore

torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
images = torch.load(sys.argv[3])
metric = CheckerboardScore()
metric.update(images[:7] if rank == 0 else images[7:])
print(float(metric.compute()["checkerboard_2"]), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    images = noise(12) + 0.01 * board()
    torch.save(images, tmp_path / "images.pt")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    arguments = [str(tmp_path / "store"), str(tmp_path / "images.pt")]
    workers = [
        subprocess.Popen([sys.executable, str(tmp_path / "worker.py"), str(rank), *arguments], stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    outputs = [float(worker.communicate(timeout=120)[0].split()[-1]) for worker in workers]
    expected = float(CheckerboardScore()(images)["checkerboard_2"])
    assert outputs == pytest.approx([expected, expected], abs=1e-4)


def test_in_a_collection_and_as_one_number():
    scores = MetricCollection([CheckerboardScore()], prefix="val/")
    found = scores(noise(4))
    assert set(found) == {"val/checkerboard_2", "val/checkerboard_4", "val/checkerboard_8"}
    largest = CheckerboardScore(output="max")(noise(4))
    assert float(largest) == pytest.approx(max(float(v) for v in found.values()))
    metric = CheckerboardScore()
    metric.update(noise(4))
    metric.reset()
    assert float(metric.count) == 0
    assert CheckerboardScore.higher_is_better is False


def test_wrong_arguments():
    for options in ({"periods": (1,)}, {"origin": "here"}, {"output": "min"}, {"data_range": (1, 0)}):
        with pytest.raises(ParameterError):
            CheckerboardScore(**options)
    metric = CheckerboardScore()
    for images, words in (
        (torch.zeros(2, 2, 40, 40), "one or three channels"),
        (torch.zeros(3, 40, 40), "must be a tensor"),
        (torch.zeros(1, 1, 33, 40), "at least 34 x 34"),
    ):
        with pytest.raises(InputShapeError, match=words):
            metric.update(images)
    with pytest.raises(ParameterError, match="NaN"):
        metric.update(torch.full((1, 1, 40, 40), torch.nan))


def test_without_torchmetrics_the_extra_is_named():
    script = (
        "import sys; sys.modules['torchmetrics'] = None\n"
        "from evenly.errors import MissingDependencyError\n"
        "try: import evenly.metrics\n"
        "except MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "evenly[metrics]" in done.stdout
