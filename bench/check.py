"""Measure ``evenly check`` on a network of real size and write the table ``bench/check.md``.

    python bench/check.py [--repeats 3] [--out bench/check.md]

The network is the decoder of Stable Diffusion's AutoencoderKL (128, 256, 512, 512 channels; 64x64 latents make 512x512
pixels) with random weights. Three questions, each with a target:

* Is the analysis (without reading) faster than a tenth of one forward pass of the same network?
* Does its time depend on the declared resolution? From 64 to 4096 pixels it may vary by a factor of 1.2.
* Does the whole process ``evenly check decoder.onnx``, interpreter and weights included, take less than 3 seconds?

Repetitions of what is compared are interleaved, so that a disturbance meets all alike; median and minimum are given.
Targets are judged by the median: a processor's clock now and then lets a single run be a quarter faster than all
others, so that the minimum is a matter of luck.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from evenly.graph.ir import Graph

HERE = Path(__file__).resolve().parent
LATENT = 64
PIXELS = (64, 128, 256, 512, 1024, 2048, 4096)
SCALE = 8  # pixels per latent position
FORWARD_SHARE, GROWTH, PROCESS_SECONDS = 0.1, 1.2, 3.0


@dataclass(frozen=True)
class Times:
    """Wall times of one thing in seconds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)


def interleaved(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """Time every task ``repeats`` times in turn, after one run of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for repeat in range(repeats + 1):
        for name, task in tasks.items():
            gc.collect()
            start = time.perf_counter()
            task()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def decoder() -> nn.Module:
    """The decoder with its first 1x1 convolution, as ``AutoencoderKL.decode`` runs it."""
    import torch
    from diffusers import AutoencoderKL
    from torch import nn

    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    ).eval()

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.post_quant_conv = autoencoder.post_quant_conv
            self.decoder = autoencoder.decoder

        def forward(self, latent: Tensor) -> Tensor:
            return self.decoder(self.post_quant_conv(latent))

    return Decoder().eval()


def latent(side: int) -> Tensor:
    import torch

    return torch.zeros(1, 4, side, side)


def read(network: nn.Module, side: int) -> Graph:
    from evenly.load import load_module

    return load_module(network, (latent(side),), weights="actual").graph


def export(network: nn.Module, path: Path) -> None:
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (latent(LATENT),), str(path), dynamo=True, opset_version=20, verbose=False)


def whole_process(path: Path) -> None:
    """``evenly check`` as a user runs it; findings are its business, failures are ours."""
    done = subprocess.run(
        [sys.executable, "-m", "evenly", "check", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"evenly check ended with {done.returncode}: {done.stderr.strip()}")


# ---------------------------------------------------------------- the three measurements


def against_forward(network: nn.Module, repeats: int) -> list[str]:
    import torch

    from evenly.check.engine import analyse

    graph, given = read(network, LATENT), torch.randn(1, 4, LATENT, LATENT)

    def forward() -> None:
        with torch.inference_mode():
            network(given)

    times = interleaved({"forward": forward, "analysis": lambda: analyse(graph)}, repeats)
    share = times["analysis"].median / times["forward"].median
    return [
        "## Analysis against one forward pass",
        "",
        f"64x64 latents, {len(graph.nodes)} nodes. Target: analysis without reading below {FORWARD_SHARE} of the"
        " forward pass.",
        "",
        "| | median (s) | minimum (s) | share of the forward pass | target met |",
        "|---|---:|---:|---:|:---:|",
        f"| forward pass | {times['forward'].median:.2f} | {times['forward'].least:.2f} | 1 | |",
        f"| analysis | {times['analysis'].median:.2f} | {times['analysis'].least:.2f} | {share:.3f} |"
        f" {met(share < FORWARD_SHARE)} |",
        "",
    ]


def against_resolution(network: nn.Module, repeats: int) -> list[str]:
    from evenly.check.engine import analyse

    reading, graphs = {}, {}
    for pixels in PIXELS:
        gc.collect()
        start = time.perf_counter()
        graphs[pixels] = read(network, pixels // SCALE)
        reading[pixels] = time.perf_counter() - start
    times = interleaved({str(p): (lambda g=graphs[p]: analyse(g)) for p in PIXELS}, repeats)
    median = min(t.median for t in times.values())
    least = min(t.least for t in times.values())
    growth = max(t.median for t in times.values()) / median
    rows = [
        f"| {p} | {t.median:.3f} | {t.median / median:.2f} | {t.least:.3f} | {t.least / least:.2f} | {reading[p]:.2f} |"
        for p, t in ((p, times[str(p)]) for p in PIXELS)
    ]
    return [
        "## Growth with the declared resolution",
        "",
        f"Target: the largest median within {GROWTH} of the smallest. Reading is by `torch.export` on fake tensors,"
        " once each.",
        "",
        "| output (pixels) | analysis, median (s) | ratio to the smallest | minimum (s) | ratio to the smallest |"
        " reading (s) |",
        "|---:|---:|---:|---:|---:|---:|",
        *rows,
        "",
        f"Largest ratio of medians {growth:.2f}; target met: {met(growth <= GROWTH)}.",
        "",
    ]


def process(path: Path, repeats: int) -> list[str]:
    times = interleaved({"process": lambda: whole_process(path)}, repeats)["process"]
    size = sum(p.stat().st_size for p in path.parent.iterdir())
    return [
        "## The whole process",
        "",
        f"`evenly check decoder.onnx`, {size / 1e6:.0f} MB of graph and weights: interpreter, imports,"
        f" reading, analysis forward and backward, report. Target: below {PROCESS_SECONDS:g} s.",
        "",
        "| median (s) | minimum (s) | share of the target | target met |",
        "|---:|---:|---:|:---:|",
        f"| {times.median:.2f} | {times.least:.2f} | {times.median / PROCESS_SECONDS:.2f} |"
        f" {met(times.median < PROCESS_SECONDS)} |",
        "",
    ]


def met(truth: bool) -> str:
    return "yes" if truth else "no"


def machine() -> str:
    import torch

    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnx", "diffusers"))
    return (
        f"{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()}), {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, {packages}."
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of the forward pass; what is quick gets more")
    parser.add_argument("--out", type=Path, default=HERE / "check.md", help="the table")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error(f"--repeats (={options.repeats}) must be at least 1")
    network = decoder()
    lines = [
        "# Benchmark of `evenly check`",
        "",
        "Written by `python bench/check.py`; do not edit. The decoder of Stable Diffusion's AutoencoderKL (diffusers,"
        " 128/256/512/512 channels) with random weights.",
        "",
        f"{machine()} Repetitions are interleaved.",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.onnx"
        export(network, path)
        lines += process(path, 3 * options.repeats)
    lines += against_forward(network, options.repeats)
    lines += against_resolution(network, 7 * options.repeats)
    new = options.out.with_name(f".{options.out.name}.new")
    new.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    new.replace(options.out)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
