"""Measure the layers of ``evenly.nn`` against what they replace and write the table ``bench/nn.md``.

    python bench/nn.py [--device cpu|cuda] [--dtype float32|bfloat16] [--repeats 5] [--only PART] [--no-compile]

Every shape is that of an up-sampling layer of a published network. Side by side, interleaved in one run, minimum of the
repetitions: ``F.interpolate`` and convolution (in the better of both memory layouts), ``evenly.nn.ResizeConv``, a
transposed convolution of the same kernel size, and a sub-pixel convolution; forward without gradients, training step
(forward and backward to input and weights), peak memory beyond inputs and outputs; then the same under
``torch.compile``. Every result is checked against the plain one before it is timed.

Results are kept under .bench/ shape by shape, so that a run that is cut off goes on; a change of the package's layers
starts anew.
"""

from __future__ import annotations

import argparse
import copy
import gc
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from evenly.nn import ResizeConv1d, ResizeConv2d, ResizeConv3d, SubpixelConv1d, SubpixelConv2d, SubpixelConv3d
from evenly.nn.functional import Plan, plain

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".bench"
MODES = ("nearest", "linear", "fir:1,3,3,1")
RESIZE = {1: ResizeConv1d, 2: ResizeConv2d, 3: ResizeConv3d}
SUBPIXEL = {1: SubpixelConv1d, 2: SubpixelConv2d, 3: SubpixelConv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FORMATS = {3: torch.contiguous_format, 4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Shape:
    """An up-sampling layer: batch, channels in and out, low-resolution size, kernel size, scale factor."""

    network: str
    batch: int
    c_in: int
    c_out: int
    size: tuple[int, ...]
    k: int = 3
    s: int = 2

    @property
    def name(self) -> str:
        size = "x".join(str(v) for v in self.size)
        return f"{self.network} {self.batch}x{self.c_in} to {self.c_out}, {size}, k{self.k} s{self.s}"

    @property
    def dims(self) -> int:
        return len(self.size)


SHAPES = (
    Shape("DCGAN", 16, 1024, 512, (4, 4), 5),
    Shape("DCGAN", 16, 512, 256, (8, 8), 5),
    Shape("DCGAN", 16, 256, 128, (16, 16), 5),
    Shape("DCGAN", 16, 128, 3, (32, 32), 5),
    Shape("Progressive GAN", 4, 512, 512, (8, 8)),
    Shape("Progressive GAN", 4, 512, 512, (16, 16)),
    Shape("Progressive GAN", 4, 512, 512, (32, 32)),
    Shape("pix2pixHD", 1, 1024, 512, (16, 32)),
    Shape("pix2pixHD", 1, 512, 256, (32, 64)),
    Shape("pix2pixHD", 1, 256, 128, (64, 128)),
    Shape("pix2pixHD", 1, 128, 64, (128, 256)),
    Shape("SRGAN", 1, 64, 64, (96, 96)),
    Shape("SRGAN", 1, 64, 64, (192, 192)),
    Shape("AutoencoderKL", 1, 512, 512, (32, 32)),
    Shape("AutoencoderKL", 1, 512, 512, (64, 64)),
    Shape("AutoencoderKL", 1, 256, 256, (128, 128)),
    Shape("U-Net", 1, 1024, 512, (32, 32)),
    Shape("U-Net", 1, 512, 256, (64, 64)),
    Shape("U-Net", 1, 256, 128, (128, 128)),
    Shape("U-Net", 1, 128, 64, (256, 256)),
    Shape("HiFi-GAN", 4, 512, 256, (64,), 9, 8),
    Shape("HiFi-GAN", 4, 256, 128, (512,), 9, 8),
    Shape("HiFi-GAN", 4, 128, 64, (4096,), 3, 2),
    Shape("HiFi-GAN", 4, 64, 32, (8192,), 3, 2),
    Shape("3-D U-Net", 1, 256, 256, (8, 8, 8)),
    Shape("3-D U-Net", 1, 256, 128, (16, 16, 16)),
    Shape("3-D U-Net", 1, 128, 64, (32, 32, 32)),
)


COMPILED_EVERY = 3  # of the shapes, this share is also compiled, which takes long


class Plain(nn.Module):
    """Interpolate, pad, convolve."""

    def __init__(self, weight: Tensor, plan: Plan) -> None:
        super().__init__()
        self.weight, self.plan = nn.Parameter(weight), plan

    def forward(self, x: Tensor) -> Tensor:
        return plain(x, self.weight, None, self.plan)


def candidates(shape: Shape, mode: str, options: dict[str, Any]) -> dict[str, tuple[nn.Module, Tensor]]:
    """The competitors with their inputs: module, input."""
    torch.manual_seed(0)
    channels_last = FORMATS[shape.dims + 2]
    x = torch.randn(shape.batch, shape.c_in, *shape.size, **options)
    layer = RESIZE[shape.dims](shape.c_in, shape.c_out, shape.k, scale_factor=shape.s, mode=mode, bias=False, **options)
    plan, weight = layer._plan, layer.weight.detach().clone()
    nhwc = x.contiguous(memory_format=channels_last)
    found = {
        "plain": (Plain(weight.clone(), plan), x),
        "plain, channels last": (Plain(weight.contiguous(memory_format=channels_last), plan), nhwc),
        "evenly": (layer, x),
        "evenly, channels last": (copy.deepcopy(layer).to(memory_format=channels_last), nhwc),
    }
    if shape.dims == 1:
        del found["plain, channels last"], found["evenly, channels last"]
    if mode == "nearest":
        pad = max(0, (shape.k - shape.s + 1) // 2)
        transposed = TRANSPOSED[shape.dims](
            shape.c_in, shape.c_out, shape.k, shape.s, pad, (shape.s + 2 * pad - shape.k) % shape.s, bias=False,
            **options,
        )  # fmt: skip
        subpixel = SUBPIXEL[shape.dims](shape.c_in, shape.c_out, shape.k, scale_factor=shape.s, bias=False, **options)
        found["transposed"] = (transposed.to(memory_format=channels_last), nhwc)
        found["sub-pixel"] = (subpixel.to(memory_format=channels_last), nhwc)
    return found


def timed(tasks: dict[str, Callable[[], object]], repeats: int, seconds: float) -> dict[str, float]:
    """The least time of each task, in turn, at least ``repeats`` times and for at least ``seconds`` together."""
    best = dict.fromkeys(tasks, math.inf)
    cuda = torch.cuda.is_available()
    for task in tasks.values():
        task()
    begin, rounds = time.perf_counter(), 0
    while rounds < repeats or (time.perf_counter() - begin < seconds and rounds < 20 * repeats):
        rounds += 1
        for name, task in tasks.items():
            if cuda:
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                task()
                end.record()
                torch.cuda.synchronize()
                best[name] = min(best[name], start.elapsed_time(end) / 1e3)
            else:
                begun = time.perf_counter()
                task()
                best[name] = min(best[name], time.perf_counter() - begun)
    return best


def forward_task(module: nn.Module, x: Tensor) -> Callable[[], object]:
    def task() -> None:
        with torch.no_grad():
            module(x)

    return task


def training_task(module: nn.Module, x: Tensor) -> Callable[[], object]:
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.no_grad():
        grad = torch.randn_like(module(leaf))

    def task() -> None:
        module(leaf).backward(grad)
        leaf.grad = None
        for parameter in module.parameters():
            parameter.grad = None

    return task


def measure(shape: Shape, mode: str, options: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Times in seconds of all competitors, after a check that they agree."""
    entries = candidates(shape, mode, options)
    with torch.no_grad():
        wanted = entries["plain"][0](entries["plain"][1]).float()
        found = entries["evenly"][0](entries["evenly"][1]).float()
    error = ((found - wanted).abs().max() / wanted.abs().max()).item()
    if not error < (1e-4 if options["dtype"] == torch.float32 else 5e-2):
        raise RuntimeError(f"{shape.name}, {mode}: the layer differs from the plain one by {error:.1e}")
    del wanted, found
    forward = timed({n: forward_task(*e) for n, e in entries.items()}, repeats, 0.5)
    gc.collect()
    training = timed({n: training_task(*e) for n, e in entries.items()}, repeats, 0.5)
    return {"forward": forward, "training": training, "error": error}


def compiled(shape: Shape, options: dict[str, Any], repeats: int) -> dict[str, float]:
    """Forward under torch.compile, nearest neighbour, beside the eager layer."""
    entries = candidates(shape, "nearest", options)
    if shape.dims > 1:
        del entries["plain"], entries["evenly"]
    tasks = {"eager": forward_task(*next(e for n, e in entries.items() if n.startswith("evenly")))}
    torch._dynamo.reset()
    for name, (module, x) in entries.items():
        tasks[name] = forward_task(torch.compile(module, dynamic=False), x)  # type: ignore[arg-type]
    return timed(tasks, repeats, 0.3)


# ---------------------------------------------------------------- peak memory, in a process of its own


def peak_of(call: Callable[[], Tensor]) -> int:
    """Bytes in use at the highest point of a call beyond those before it and its output's."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = call()
        return int(torch.cuda.max_memory_allocated() - before - out.untyped_storage().nbytes())
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = status("VmRSS")
    out = call()
    return status("VmHWM") - before - out.untyped_storage().nbytes()


def status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def memory(shape: Shape, mode: str, options: dict[str, Any]) -> dict[str, int]:
    """Peak memory beyond input, weights and output, in bytes, forward."""
    peaks = {}
    with torch.no_grad():
        for name, (module, x) in candidates(shape, mode, options).items():
            module(x)
            gc.collect()
            peaks[name] = max(0, peak_of(lambda module=module, x=x: module(x)))
    return peaks


def memory_apart(index: int, mode: str, arguments: argparse.Namespace) -> dict[str, int]:
    """`memory` in a process whose allocator gives everything large back at once."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--memory", str(index), "--mode", mode, "--device", arguments.device]
    command += ["--dtype", arguments.dtype]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    peaks: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return peaks


# ---------------------------------------------------------------- the table


def mean(values: list[float]) -> float:
    """Geometric mean."""
    return math.exp(sum(math.log(v) for v in values) / len(values))


def best(times: dict[str, float], kind: str) -> float:
    """The least value over both memory layouts."""
    return min(v for name, v in times.items() if name.startswith(kind))


def large(shape: Shape) -> bool:
    return min(shape.c_in, shape.c_out) >= 512 and math.prod(shape.size) >= 1024 and shape.dims == 2


def report(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> str:
    """The page."""
    where = f"{torch.cuda.get_device_name()}" if arguments.device == "cuda" else (
        f"{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()}), {torch.get_num_threads()} threads"
    )  # fmt: skip
    done = [s for s in SHAPES if all(f"{s.name} | {m}" in results for m in MODES)]
    lines = [
        "# Benchmark of `evenly.nn`",
        "",
        "Written by `python bench/nn.py`; do not edit.",
        "",
        f"{where}, {arguments.dtype}, Python {platform.python_version()}, torch {torch.__version__}. Repetitions are"
        " interleaved; least time of each. Ratios are times of *interpolate + convolution* over times of `ResizeConv`,"
        " each in the better of both memory layouts: above 1, `ResizeConv` is faster. Memory is the peak beyond input,"
        " weights and output; below 1, `ResizeConv` needs less.",
        "",
        "## Summary",
        "",
        "| interpolation | measure | geometric mean | least | target (mean) | met |",
        "|---|---|---:|---:|---:|:---:|",
    ]
    gpu = arguments.device == "cuda"
    targets = {
        ("nearest", "forward"): 1.5 if gpu else 2.3, ("nearest", "training"): 0 if gpu else 1.6,
        ("linear", "forward"): 0 if gpu else 1.3, ("linear", "training"): 0,
        ("fir:1,3,3,1", "forward"): 0, ("fir:1,3,3,1", "training"): 0,
    }  # fmt: skip
    for (mode, kind), target in targets.items():
        ratios = [_ratio(results, s, mode, kind) for s in done]
        goal, met = (f"{target:g}", "yes" if mean(ratios) >= target else "no") if target else ("", "")
        lines.append(f"| {mode} | {kind} | {mean(ratios):.2f} | {min(ratios):.2f} | {goal} | {met} |")
    wide = [_ratio(results, s, "nearest", "forward") for s in done if large(s)]
    if wide:
        met = "yes" if min(wide) >= 2.5 else "no"
        lines.append(
            f"| nearest | forward, 512 channels at 32x32 and larger | {mean(wide):.2f} | {min(wide):.2f} |"
            f" least 2.5 | {met} |"
        )
    peaks = [_memory_ratio(results, s) for s in done]
    met = "yes" if mean(peaks) <= 0.6 else "no"
    lines.append(f"| nearest | peak extra memory | {mean(peaks):.2f} | (most) {max(peaks):.2f} | at most 0.6 | {met} |")
    every = [_ratio(results, s, m, "forward") for s in done for m in MODES]
    lines += ["", f"Slowest of all {len(every)} forward measurements: {min(every):.2f} (target: none below 0.95)."]
    for mode in MODES:
        lines += ["", f"## {mode}", ""]
        more = mode == "nearest"
        head = "| layer | implementation, forward / training | plain forward (ms) | forward | training |"
        rule = "|---|---|---:|---:|---:|"
        if more:
            head += " memory | transposed / ours | sub-pixel / ours |"
            rule += "---:|---:|---:|"
        lines += [head, rule]
        for s in done:
            r = results[f"{s.name} | {mode}"]
            row = (
                f"| {s.name} | {r['chosen'][0]} / {r['chosen'][1]} | {1e3 * best(r['forward'], 'plain'):.1f} |"
                f" {_ratio(results, s, mode, 'forward'):.2f} | {_ratio(results, s, mode, 'training'):.2f} |"
            )
            if more:
                ours = best(r["forward"], "evenly")
                row += (
                    f" {_memory_ratio(results, s):.2f} | {r['forward']['transposed'] / ours:.2f} |"
                    f" {r['forward']['sub-pixel'] / ours:.2f} |"
                )
            lines.append(row)
    with_compile = [s for s in done if "compiled" in results[f"{s.name} | nearest"]]
    if with_compile:
        lines += [
            "", "## nearest under torch.compile", "",
            "Forward, every third layer. Times over that of the compiled `ResizeConv`; last: the eager one's.", "",
            "| layer | plain | transposed | sub-pixel | eager `ResizeConv` |", "|---|---:|---:|---:|---:|",
        ]  # fmt: skip
        columns: dict[str, list[float]] = {}
        for s in with_compile:
            c = results[f"{s.name} | nearest"]["compiled"]
            values = [best(c, "plain"), c["transposed"], c["sub-pixel"], c["eager"]]
            values = [v / best(c, "evenly") for v in values]
            for name, v in zip("abcd", values, strict=True):
                columns.setdefault(name, []).append(v)
            lines.append(f"| {s.name} | " + " | ".join(f"{v:.2f}" for v in values) + " |")
        lines.append("| **geometric mean** | " + " | ".join(f"**{mean(v):.2f}**" for v in columns.values()) + " |")
    return "\n".join(lines) + "\n"


def _ratio(results: dict[str, dict[str, Any]], shape: Shape, mode: str, kind: str) -> float:
    times: dict[str, float] = results[f"{shape.name} | {mode}"][kind]
    return best(times, "plain") / best(times, "evenly")


def _memory_ratio(results: dict[str, dict[str, Any]], shape: Shape) -> float:
    peaks: dict[str, float] = results[f"{shape.name} | nearest"]["memory"]
    page = 4096  # bytes; less cannot be told apart
    return max(best(peaks, "evenly"), page) / max(best(peaks, "plain"), page)


def chosen(shape: Shape, mode: str, options: dict[str, Any]) -> tuple[str, str]:
    """What the layer chooses, for inference and for training."""
    from evenly.nn._choice import choose

    layer, x = candidates(shape, mode, options)["evenly"]
    with torch.no_grad():
        still = choose(x, layer.weight, layer._plan)
    return still, choose(x.requires_grad_(), layer.weight, layer._plan)


def state(arguments: argparse.Namespace) -> str:
    """A hash over what the results depend on."""
    total = hashlib.sha256(f"{arguments.device} {arguments.dtype} {torch.__version__}".encode())
    for path in sorted((ROOT / "src" / "evenly" / "nn").glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default=None, choices=("float32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a layer's name")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--mode", default="nearest", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error(f"--repeats (={arguments.repeats}) must be at least 1")
    arguments.dtype = arguments.dtype or ("bfloat16" if arguments.device == "cuda" else "float32")
    options = {"device": arguments.device, "dtype": getattr(torch, arguments.dtype)}
    if arguments.memory is not None:
        print(json.dumps(memory(SHAPES[arguments.memory], arguments.mode, options)))
        return 0
    KEPT.mkdir(exist_ok=True)
    store = KEPT / f"nn-{arguments.device}-{arguments.dtype}.json"
    kept = json.loads(store.read_text()) if store.is_file() else {}
    results: dict[str, dict[str, Any]] = kept["results"] if kept.get("state") == state(arguments) else {}
    out = arguments.out or ROOT / "bench" / ("nn.md" if arguments.device == "cpu" else "nn-gpu.md")
    for index, shape in enumerate(SHAPES):
        if arguments.only not in shape.name:
            continue
        for mode in MODES:
            key = f"{shape.name} | {mode}"
            if key in results:
                continue
            if mode.startswith("fir") and shape.s != 2:  # the same family for another factor: [1, 1] * [1, ..., 1] * 2
                taps = torch.conv1d(torch.ones(1, 1, shape.s), torch.ones(1, 1, shape.s), padding=shape.s - 1)
                used = "fir:" + ",".join(f"{v:g}" for v in F.pad(taps, (0, 1)).add(F.pad(taps, (1, 0))).flatten())
            else:
                used = mode
            results[key] = measure(shape, used, options, arguments.repeats)
            results[key]["chosen"] = chosen(shape, used, options)
            if mode == "nearest":
                results[key]["memory"] = memory_apart(index, used, arguments)
                if not arguments.no_compile and index % COMPILED_EVERY == 0:
                    results[key]["compiled"] = compiled(shape, options, arguments.repeats)
            store.write_text(json.dumps({"state": state(arguments), "results": results}))
            ratio = {kind: round(_ratio(results, shape, mode, kind), 2) for kind in ("forward", "training")}
            print(key, ratio, results[key]["chosen"], flush=True)
    if all(f"{s.name} | {m}" in results for s in SHAPES for m in MODES):
        new = out.with_name(f".{out.name}.new")
        new.write_text(report(results, arguments), encoding="utf-8")
        new.replace(out)
        print(out.read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
