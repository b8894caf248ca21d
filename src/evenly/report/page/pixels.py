"""Pictures of pixels: stored without loss, shown pixel for pixel, under a magnifier, or before and after."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.report.page.markup import Content, Markup, tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Picture", "before_after", "cropped", "magnified", "png", "reduced", "uri"]

_SHOWN = 320
"""CSS pixels that small pictures are enlarged to at most, by a whole factor: any other makes patterns of its own."""


@dataclass(frozen=True)
class Picture:
    """A picture on a page.

    Attributes:
        pixels: uint8, shape (H, W) or (H, W, 3).
        caption: Under it.
        description: For those who do not see it.
        place: Middle of what the magnifier shows first, as shares of width and height.
    """

    pixels: NDArray[np.uint8]
    caption: Content
    description: str
    place: tuple[float, float] = (0.5, 0.5)


def png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> bytes:
    """A PNG file (RFC 2083), the same for the same pixels.

    Args:
        pixels: Shape (H, W): grey, or indices into the palette; shape (H, W, 3): red, green, blue.
        palette: Shape (up to 256, 3).
    """
    height, width = pixels.shape[:2]
    kind = 2 if pixels.ndim == 3 else 0 if palette is None else 3
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(height, -1)
    # Differences of neighbouring rows of the brightness make photographs smaller, and indices larger.
    up = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8)) if kind != 3 else rows
    filtered = np.concatenate([np.full((height, 1), 0 if kind == 3 else 2, np.uint8), up], axis=1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette is not None:
        chunks.append((b"PLTE", np.ascontiguousarray(palette, np.uint8).tobytes()))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def uri(pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> str:
    """The same as an address that holds the file."""
    return "data:image/png;base64," + base64.b64encode(png(pixels, palette)).decode()


def reduced(pixels: NDArray[Any], side: int) -> NDArray[np.float64]:
    """A picture of at most so many pixels a side, by a whole factor: each is the mean of a block.

    Args:
        pixels: Shape (H, W) or (H, W, C).
        side: At least 1.

    Returns:
        float64; what a last incomplete block would need is left out.
    """
    factor = max(1, -(-max(pixels.shape[:2]) // side))
    height, width = (max(1, n // factor) for n in pixels.shape[:2])
    whole = pixels[: height * factor, : width * factor].astype(np.float64)
    blocks = whole.reshape(height, min(factor, len(whole)), width, -1, *pixels.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)))


def cropped(pixels: NDArray[Any], side: int, middle: tuple[float, float] = (0.5, 0.5)) -> tuple[NDArray[Any], int, int]:
    """A part of at most so many pixels a side around a place, and its first column and row.

    Args:
        pixels: Shape (H, W) or (H, W, C).
        side: At least 1.
        middle: Shares of width and height.
    """
    height, width = pixels.shape[:2]
    left = int(np.clip(round(middle[0] * width - side / 2), 0, max(0, width - side)))
    top = int(np.clip(round(middle[1] * height - side / 2), 0, max(0, height - side)))
    return pixels[top : top + side, left : left + side], left, top


def magnified(pictures: Sequence[Picture]) -> Markup:
    """Pictures side by side; under each the same place of all, enlarged, which pointer and arrow keys move."""
    side = max(max(picture.pixels.shape[:2]) for picture in pictures)
    factor = max(1, _SHOWN // side)
    x, y = pictures[0].place
    return tag(
        "div",
        [tag("figure", _image(p, factor), tag("figcaption", p.caption)) for p in pictures],
        class_="magnified",
        data_x=f"{x:.4f}",
        data_y=f"{y:.4f}",
    )


def _image(picture: Picture, factor: int) -> Markup:
    height, width = picture.pixels.shape[:2]
    image = tag(
        "img",
        src=uri(picture.pixels),
        width=width * factor,
        height=height * factor,
        data_factor=factor,
        alt=picture.description,
    )
    return tag("div", image, class_="view")


def before_after(before: Picture, after: Picture, name: str) -> Markup:
    """Two pictures of one size, one on top of the other, and a slider between them; without scripts side by side.

    Args:
        before: Left of the slider.
        after: Right of it.
        name: What they show, for the slider's label.
    """
    factor = max(1, 2 * _SHOWN // max(before.pixels.shape[:2]))
    slider = tag("input", type="range", min=0, max=100, value=50, aria_label=f"{name}: how much of the left is before")
    layers = [
        tag("figure", _image(p, factor), tag("figcaption", p.caption), class_=kind)
        for p, kind in ((before, "before"), (after, "after"))
    ]
    pair = tag("div", layers, class_="pair", role="region", aria_label=name, tabindex="0")
    return tag("div", pair, tag("div", slider, class_="scripted"), class_="compare")
