"""Draw what untrained up-sampling stacks make of one constant colour (docs/images/before_training.png).

    python examples/picture.py [--out FILE]

Three networks with random weights get the same constant input: two transposed convolutions with kernel 3 and stride 2,
two with kernel 4 and stride 2, and two resize-convolutions. Shown is the middle of the output, away from borders,
every output pixel as a square of 8 x 8 screen pixels, with the same contrast in all panels.
"""

from __future__ import annotations

import argparse
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

ZOOM, SHOWN, GAP = 8, 32, 16


def stack(kind: str) -> nn.Sequential:
    """Two up-samplings by 2 and a last convolution to three colours."""

    def up(inside: int, outside: int) -> list[nn.Module]:
        if kind == "resize":
            return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(inside, outside, 3, padding=1)]
        kernel = int(kind)
        return [nn.ConvTranspose2d(inside, outside, kernel, 2, 1, output_padding=kernel % 2)]

    return nn.Sequential(
        *up(8, 256), nn.LeakyReLU(0.2), *up(256, 128), nn.LeakyReLU(0.2), nn.Conv2d(128, 3, 3, padding=1)
    )


def panel(kind: str, seed: int = 3) -> NDArray[np.float64]:
    """The middle of the output for one constant colour, mean 0.5, in units of three standard deviations."""
    torch.manual_seed(seed)
    network = stack(kind)
    for part in network:
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=1.0)
            nn.init.zeros_(part.bias)
    colour = torch.randn(1, 8, 1, 1).expand(1, 8, 24, 24)
    with torch.no_grad():
        y = network(colour)[0].double().numpy()
    start = (y.shape[1] - SHOWN) // 2
    y = y[:, start : start + SHOWN, start : start + SHOWN]
    size = np.sqrt((y**2).mean((1, 2), keepdims=True))
    return np.clip(0.5 + y / size / 6, 0, 1)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An RGB picture ``(height, width, 3)`` as PNG."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parents[1] / "docs" / "images" / "before_training.png"
    parser.add_argument("--out", type=Path, default=default)
    out: Path = parser.parse_args().out
    panels = [np.kron(panel(kind).transpose(1, 2, 0), np.ones((ZOOM, ZOOM, 1))) for kind in ("3", "4", "resize")]
    gap = np.ones((panels[0].shape[0], GAP, 3))
    row = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], 1)
    temporary = out.with_suffix(".tmp")
    temporary.write_bytes(png((row * 255).round().astype(np.uint8)))
    os.replace(temporary, out)


if __name__ == "__main__":
    main()
