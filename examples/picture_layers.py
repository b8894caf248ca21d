"""Draw what the layers of ``evenly.nn`` do to a constant, a step and noise (docs/images/layers*.png).

    python examples/picture_layers.py [--out FOLDER]

``layers.png``: single 2-D layers with random weights, and the same after some steps of an optimizer. ``layers_1d.png``:
the samples of 1-D layers, a colour for each phase. ``layers_down.png``: the squared gradient at the input of
down-sampling layers, for white output gradients. Needs matplotlib. Drawn with fixed seeds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

import evenly.nn as en

Array = NDArray[np.float64]
Make = Callable[[int, int], nn.Module]

STYLE = {
    "figure.facecolor": "white", "savefig.facecolor": "white", "font.size": 12, "axes.titlesize": 12,
    "axes.labelsize": 12, "xtick.labelsize": 11, "ytick.labelsize": 11, "axes.spines.top": False,
    "axes.spines.right": False,
}  # fmt: skip
PHASES = ("#0072B2", "#D55E00")  # Okabe and Ito: told apart with any colour vision
GREY = "#8a8a8a"
DPI = 110


def subpixel(inside: int, outside: int) -> nn.Module:
    """PyTorch's own layers and initialisation: phases start unequal."""
    return nn.Sequential(nn.Conv2d(inside, 4 * outside, 3, padding=1, bias=False), nn.PixelShuffle(2))


UP: tuple[tuple[str, Make], ...] = (
    ("ConvTranspose\nk3 s2", lambda i, o: nn.ConvTranspose2d(i, o, 3, 2, 1, 1, bias=False)),
    ("ConvTranspose\nk4 s2", lambda i, o: nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False)),
    ("Conv k3 and\nPixelShuffle", subpixel),
    ("SubpixelConv\nk3, ICNR", lambda i, o: en.SubpixelConv2d(i, o, 3, bias=False)),
    ("SubpixelConv\nbalanced", lambda i, o: en.SubpixelConv2d(i, o, 3, bias=False, balanced=True, icnr=False)),
    ("BalancedConv-\nTranspose k4 s2", lambda i, o: en.BalancedConvTranspose2d(i, o, 4, 2, 1, bias=False)),
    ("ResizeConv k3\nnearest", lambda i, o: en.ResizeConv2d(i, o, 3, bias=False)),
    ("ResizeConv k3\nbilinear", lambda i, o: en.ResizeConv2d(i, o, 3, mode="bilinear", bias=False)),
)
SIDE, SHOWN, COLOURS = 14, 16, 12


def middle(y: Tensor, shown: int = SHOWN) -> Tensor:
    """The middle of both axes, from an even position, so that phases line up between the panels."""
    start = (y.shape[-1] - shown) // 2 // 2 * 2
    return y[..., start : start + shown, start : start + shown]


def trained(layer: nn.Module, steps: int = 60) -> nn.Module:
    """Some steps of Adam towards pictures that have nothing to do with the input."""
    torch.manual_seed(7)
    x = torch.randn(4, COLOURS, SIDE, SIDE) + torch.randn(4, COLOURS, 1, 1)
    wanted = torch.randn(4, 3, 2 * SIDE, 2 * SIDE)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer(x) - wanted).square().mean().backward()
        optimizer.step()
    return layer


def coloured(y: Tensor) -> Array:
    """Three channels as colours; divided by their root mean square, so that contrast means the same everywhere."""
    return (0.5 + y / y.square().mean().sqrt() / 5).clamp(0, 1).permute(1, 2, 0).double().numpy()


def noise_power(make: Make) -> Array:
    """Mean power of the output at every position, for white noise; relative to its mean over positions."""
    torch.manual_seed(2)
    layer = make(32, 512)
    y = layer(torch.randn(48, 32, SIDE, SIDE))
    power = middle(y).square().mean((0, 1))
    return (power / power.mean()).double().numpy()


def up() -> Figure:
    """One column for each layer; rows: constant, step, noise, and the constant after training."""
    rows = (
        "constant,\nrandom weights",
        "step,\nrandom weights",
        "constant, after\n60 training steps",
        "white noise:\noutput power",
    )
    figure = Figure(figsize=(13.4, 7.7), layout="constrained")
    axes = figure.subplots(len(rows), len(UP))
    picture = None
    for column, (name, make) in enumerate(UP):
        torch.manual_seed(3)
        colours = torch.randn(2, COLOURS, 1, 1)
        constant = colours[:1].expand(1, COLOURS, SIDE, SIDE)
        step = constant.clone()
        step[..., SIDE // 2 :] = colours[1]
        torch.manual_seed(12)
        layer = make(COLOURS, 3)
        with torch.no_grad():
            tiles = [coloured(middle(layer(x))[0]) for x in (constant, step)]
            power = noise_power(make)
        layer = trained(layer)
        with torch.no_grad():
            tiles.append(coloured(middle(layer(constant))[0]))
        for row, tile in enumerate(tiles):
            axes[row, column].imshow(tile, interpolation="nearest")
        picture = axes[3, column].imshow(power, interpolation="nearest", cmap="cividis", vmin=0, vmax=2)
        axes[0, column].set_title(name)
        if column == 0:
            for row, text in enumerate(rows):
                axes[row, 0].set_ylabel(text)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes[3, :], location="bottom", shrink=0.3, aspect=30, pad=0.03, ticks=[0, 1, 2])
    bar.set_label("mean power at each output position / its mean over positions")
    return figure


def fir(inside: int, outside: int) -> nn.Module:
    """The fixed filter, after a convolution at low resolution that mixes the channels."""
    return nn.Sequential(nn.Conv1d(inside, outside, 3, padding=1, bias=False), en.FIRUpsample1d())


UP_1D: tuple[tuple[str, Make], ...] = (
    ("ConvTranspose1d k3 s2", lambda i, o: nn.ConvTranspose1d(i, o, 3, 2, 1, 1, bias=False)),
    ("ConvTranspose1d k4 s2", lambda i, o: nn.ConvTranspose1d(i, o, 4, 2, 1, bias=False)),
    ("BalancedConvTranspose1d k4 s2", lambda i, o: en.BalancedConvTranspose1d(i, o, 4, 2, 1, bias=False)),
    ("SubpixelConv1d k3, balanced", lambda i, o: en.SubpixelConv1d(i, o, 3, bias=False, balanced=True, icnr=False)),
    ("ResizeConv1d k3, nearest", lambda i, o: en.ResizeConv1d(i, o, 3, bias=False)),
    ("ResizeConv1d k3, linear", lambda i, o: en.ResizeConv1d(i, o, 3, mode="linear", bias=False)),
    ("Conv1d k3, then FIRUpsample1d [1, 3, 3, 1]", fir),
)


def samples(ax: Axes, y: Array) -> None:
    """An up-sampled signal, its two phases told apart by colour and marker."""
    n = np.arange(len(y))
    ax.plot(n, y, color="#c8c8c8", linewidth=1, zorder=1)
    for phase, (colour, marker) in enumerate(zip(PHASES, ("o", "s"), strict=True)):
        ax.plot(n[phase::2], y[phase::2], marker, color=colour, markersize=4.5, zorder=2, label=f"phase {phase}")


def up_1d() -> Figure:
    """One row for each layer; columns: constant, step, noise."""
    shown, length, channels = 24, 40, 16
    figure = Figure(figsize=(11, 11), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.16)
    axes = figure.subplots(len(UP_1D), 3, sharex=True)
    for row, (name, make) in zip(axes, UP_1D, strict=True):
        torch.manual_seed(16)  # a constant of which every layer passes on enough to be seen
        level = torch.randn(1, channels, 1)
        constant = level.expand(1, channels, length)
        step = constant * (torch.arange(length) >= length // 2)
        torch.manual_seed(12)
        layer = make(channels, 1)
        torch.manual_seed(2)
        wide = make(32, 512)
        with torch.no_grad():
            start = length - shown // 2
            flat, edge = (layer(x)[0, 0, start : start + shown].double().numpy() for x in (constant, step))
            power = wide(torch.randn(256, 32, length)).square().mean((0, 1)).double().numpy()
        for ax, y in zip(row, (flat, edge), strict=False):
            samples(ax, y / np.abs([*flat, *edge]).max())
            ax.set_ylim(-1.15, 1.15)
            ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
        samples(row[2], (power / power.mean())[start : start + shown])
        row[2].set_ylim(0, 2)
        label = row[0].annotate(name, (0, 1.06), xycoords="axes fraction", fontweight="bold", va="bottom")
        label.set_in_layout(False)  # it may reach over the next column
    heads = (
        "constant from end to end:\noutput / largest of both",
        "step in the middle:\noutput / largest of both",
        "white noise:\nmean power / mean over positions",
    )
    for ax, text in zip(axes[0], heads, strict=True):
        ax.set_title(text, pad=28)
    for ax in axes[-1]:
        ax.set_xlabel("position in output samples")
    axes[1, 2].legend(ncols=2, loc="lower left", frameon=False, handletextpad=0.1, borderpad=0)
    return figure


def kernel_map(kernel: Tensor, stride: int) -> Array:
    """Squared gradient at every input position for white output gradients, of a layer that is one strided convolution.

    Output ``i`` sends ``kernel[m - s i] g[i]`` to input ``m``; uncorrelated ``g`` add in power.
    """
    power = kernel.detach().double().square().mean((0, 1), keepdim=True)
    return F.conv_transpose2d(torch.ones(1, 1, 16, 16, dtype=torch.float64), power, stride=stride)[0, 0].numpy()


def pool_map(pool: nn.Module) -> Array:
    """The same for a layer whose gradient depends on the data, drawn: white inputs, white output gradients."""
    torch.manual_seed(4)
    total = torch.zeros(40, 40)
    for _ in range(12):
        x = torch.randn(64, 32, 40, 40, requires_grad=True)
        y = pool(x)
        (g,) = torch.autograd.grad(y, x, torch.randn_like(y))
        total += g.square().mean((0, 1))
    return total.double().numpy()


def down() -> Figure:
    """Squared gradients: strided layers above, their replacements below."""
    torch.manual_seed(1)

    def random(k: int, taps: Any = None) -> Tensor:
        return en.AntialiasedConv2d(64, 256, k, taps=taps).folded_weight()

    def edges(taps: Any) -> Tensor:
        """One pixel less its left neighbour, as trained filters may be."""
        layer = en.AntialiasedConv2d(1, 1, 3, taps=taps)
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.weight[0, 0, 1, :2] = torch.tensor([-1.0, 1.0])
        return layer.folded_weight()

    panels = (
        ("Conv2d k3 s2\nrandom weights", kernel_map(nn.Conv2d(64, 256, 3).weight, 2)),
        ("Conv2d k1 s2\nrandom weights", kernel_map(nn.Conv2d(64, 256, 1).weight, 2)),
        ("Conv2d k7 s2\nrandom weights", kernel_map(nn.Conv2d(64, 256, 7).weight, 2)),
        ("MaxPool2d k3 s2\nwhite inputs", pool_map(nn.MaxPool2d(3, 2, 1))),
        ("BlurPool2d s2\ntaps 1, 2, 1", kernel_map(en.BlurPool2d(taps=(1, 2, 1)).filter, 2)),
        ("AntialiasedConv2d\nk3, random weights", kernel_map(random(3), 2)),
        ("the same, weights\n-1, 1 in a row", kernel_map(edges(None), 2)),
        ('weights -1, 1,\ntaps="even"', kernel_map(edges("even"), 2)),
        ('AntialiasedMaxPool2d\nk3, taps="even"', pool_map(en.AntialiasedMaxPool2d(3, padding=1, taps="even"))),
        ("BlurPool2d s2\ntaps 1, 3, 3, 1", kernel_map(en.BlurPool2d().filter, 2)),
    )
    figure = Figure(figsize=(12.6, 7.5), layout="constrained")
    picture = None
    for ax, (name, power) in zip(figure.subplots(2, 5).flat, panels, strict=True):
        cells = power[12:24, 12:24]
        cells = cells / cells.mean()
        picture = ax.imshow(cells, interpolation="nearest", cmap="cividis", vmin=0, vmax=2)
        by_phase = cells.reshape(6, 2, 6, 2).mean((0, 2))
        ratio = by_phase.max() / by_phase.min() if by_phase.min() > 0 else np.inf
        ax.set_title(name)
        ax.set_xlabel("three of four get none" if np.isinf(ratio) else f"largest : smallest = {ratio:.2f}")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    bar = figure.colorbar(
        picture,
        ax=figure.axes,
        location="bottom",
        shrink=0.35,
        aspect=35,
        pad=0.03,
        extend="max",
        ticks=[0, 0.5, 1, 1.5, 2],
    )
    bar.set_label("expected squared gradient at each input position / its mean")
    return figure


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[1] / "docs" / "images"
    parser.add_argument("--out", type=Path, default=default)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with mpl.rc_context(STYLE):
        for name, draw in (("layers", up), ("layers_1d", up_1d), ("layers_down", down)):
            temporary = out / f"{name}.tmp"
            draw().savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
            os.replace(temporary, out / f"{name}.png")


if __name__ == "__main__":
    main()
