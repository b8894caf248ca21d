"""Confounders: pictures that no generator up-sampled and that look periodic all the same.

Each yields (group, image); pictures of a group share a photograph. Demosaicing: bilinear, and the linear filters of
Malvar, He and Cutler (2004, "High-quality linear interpolation for demosaicing of Bayer-patterned color images").
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from measuring.injections import jpeg, resize
from measuring.photographs import Bytes, Floats, crops, fitting, to_bytes

Named = Iterator[tuple[str, Bytes]]
Change = Callable[[Floats, np.random.Generator], Bytes]
GRATINGS = (2.05, 3.1, 4.1, 7.5, 7.9)
FACTORS = (0.8, 1.3, 2.0)
METHODS = ("BILINEAR", "BICUBIC", "LANCZOS")
WORDS = (
    "A transposed convolution whose kernel size is not divisible by its stride paints unevenly: some positions of the "
    "output are reached by more weights than their neighbours, and what should be flat shows the grid of the layer. "
)


# ---------------------------------------------------------------- demosaicing

_G_AT_RB, _RB_IN_ROW, _RB_OPPOSITE = (
    np.array(rows) / 16
    for rows in (
        [[0, 0, -2, 0, 0], [0, 0, 4, 0, 0], [-2, 4, 8, 4, -2], [0, 0, 4, 0, 0], [0, 0, -2, 0, 0]],
        [[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]],
        [[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]],
    )
)


def bayer_masks(shape: tuple[int, int], origin: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a sensor sees red, green and blue: (3, H, W); the red pixels lie at `origin` and every two pixels on."""
    y, x = np.indices(shape)
    red = (y % 2 == origin[0]) & (x % 2 == origin[1])
    blue = (y % 2 != origin[0]) & (x % 2 != origin[1])
    return np.stack([red, ~(red | blue), blue])


def demosaic(image: Floats, method: str, origin: tuple[int, int]) -> Floats:
    """What a sensor with a Bayer pattern and a `bilinear` or `malvar` interpolation make of a colour picture."""
    masks = bayer_masks(image.shape[:2], origin)
    mosaic = np.where(masks, np.moveaxis(image, -1, 0), 0).sum(0)
    red, green, blue = masks
    if method == "bilinear":
        cross = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
        square = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
        near = zip(masks, (square, cross, square), strict=True)
        return np.stack([ndimage.correlate(mosaic * mask, kernel, mode="mirror") for mask, kernel in near], -1)
    at = {
        "green": ndimage.correlate(mosaic, _G_AT_RB, mode="mirror"),
        "row": ndimage.correlate(mosaic, _RB_IN_ROW, mode="mirror"),
        "column": ndimage.correlate(mosaic, _RB_IN_ROW.T, mode="mirror"),
        "opposite": ndimage.correlate(mosaic, _RB_OPPOSITE, mode="mirror"),
    }
    red_row = (np.arange(image.shape[0]) % 2 == origin[0])[:, None]
    r = np.select([red, green & red_row, green], [mosaic, at["row"], at["column"]], at["opposite"])
    b = np.select([blue, green & ~red_row, green], [mosaic, at["row"], at["column"]], at["opposite"])
    return np.stack([r, np.where(green, mosaic, at["green"]), b], -1)


def _demosaiced(image: Floats, rng: np.random.Generator, method: str, quality: int = 0) -> Bytes:
    colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
    found = to_bytes(demosaic(colour, method, (int(rng.integers(2)), int(rng.integers(2)))))
    return jpeg(found, quality) if quality else found


# ---------------------------------------------------------------- patterns


def grating(image: Floats, rng: np.random.Generator, period: float) -> Bytes:
    """A sinusoid of 4 grey levels whose period is near a whole one, along an axis or both."""
    y, x = np.indices(image.shape[:2]) / period
    along = (y, x, x + y)[rng.integers(3)]
    wave = 4 * np.cos(2 * np.pi * along + rng.uniform(0, 2 * np.pi))
    return to_bytes(image + (wave[..., None] if image.ndim == 3 else wave))


def bricks(rng: np.random.Generator, size: int) -> Bytes:
    """A wall drawn with soft edges; its bricks are no whole number of pixels long."""
    width, height = rng.uniform(17, 41), rng.uniform(7.3, 15.7)
    y, x = np.indices((size, size)) + rng.uniform(0, 40, 2)[:, None, None]
    row = np.floor(y / height)
    v, u = y - row * height, (x + row * width / 2) % width
    joint = np.minimum(np.minimum(v, height - v), np.minimum(u, width - u))
    wall = 90 + 60 * np.clip(rng.uniform(1, 2) - joint, 0, 1)
    wall += ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.5) * 20 + rng.standard_normal((size, size))
    return to_bytes(wall)


def text(rng: np.random.Generator, size: int) -> Bytes:
    """Lines of type with a whole number of pixels between them, dark on light."""
    from PIL import Image, ImageDraw, ImageFont

    points = int(rng.integers(9, 19))
    page = Image.new("L", (size, size), 250)
    font = ImageFont.load_default(points)
    at = int(rng.integers(len(WORDS)))
    lines = textwrap.wrap((WORDS[at:] + WORDS) * 12, 3 * size // points)[: size // points + 1]
    ImageDraw.Draw(page).multiline_text(
        (int(rng.integers(-9, 9)), int(rng.integers(-9, 9))), "\n".join(lines), 20, font
    )
    return to_bytes(np.asarray(page, np.float32) + rng.uniform(0.5, 1) * rng.standard_normal((size, size)))


def halftone(image: Floats, rng: np.random.Generator) -> Bytes:
    """A printed screen of round dots at 45 degrees, scanned: soft edges and a little noise."""
    grey = image if image.ndim == 2 else image.mean(-1)
    pitch = rng.uniform(3.3, 8.7)
    y, x = np.indices(grey.shape) * (2 * np.pi / (pitch * np.sqrt(2))) + rng.uniform(0, 2 * np.pi, 2)[:, None, None]
    screen = 127.5 + 63 * (np.cos(x + y) + np.cos(x - y))
    ink = ndimage.gaussian_filter(np.clip((grey - screen) / 20 + 0.5, 0, 1), 0.6)
    return to_bytes(30 + 200 * ink + rng.standard_normal(grey.shape))


# ---------------------------------------------------------------- the table of confounders


def _changed(size: int, count: int, seed: int, change: Change, grow: float = 1) -> Named:
    """Crops of photographs after a change; `grow` is what it multiplies their size by."""
    before = round(size / grow)
    names = fitting(before)
    rng = np.random.default_rng(seed)
    for at, name in enumerate(names):
        for image in crops(name, before, (count + at) // len(names), seed):
            yield name, change(image, rng)


def _drawn(size: int, count: int, seed: int, draw: Callable[[np.random.Generator, int], Bytes]) -> Named:
    rng = np.random.default_rng(seed)
    for at in range(count):
        yield f"drawn {at}", draw(rng, size)


@cache
def confounders() -> dict[str, Callable[[int, int, int], Named]]:
    """By name, what yields `count` pictures of `size` pixels for a seed: (group, image)."""
    found: dict[str, Callable[[int, int, int], Named]] = {}
    changes: dict[str, Change] = {
        "untouched": lambda x, _: to_bytes(x),
        "JPEG 90": lambda x, _: jpeg(to_bytes(x), 90),
        "JPEG 75": lambda x, _: jpeg(to_bytes(x), 75),
        "JPEG 75, 4:4:4": lambda x, _: jpeg(to_bytes(x), 75, 0),
        "Bayer, bilinear": partial(_demosaiced, method="bilinear"),
        "Bayer, Malvar": partial(_demosaiced, method="malvar"),
        "Bayer, Malvar, JPEG 90": partial(_demosaiced, method="malvar", quality=90),
    }
    changes |= {f"grating {p:g} px": partial(grating, period=p) for p in GRATINGS}
    changes["halftone"] = halftone
    for name, change in changes.items():
        found[name] = partial(_changed, change=change)
    for factor in FACTORS:
        for method in METHODS:
            scaled = partial(_scaled, factor=factor, method=method)
            found[f"resize {factor:g}, {method.lower()}"] = partial(_changed, change=scaled, grow=factor)
    found["bricks"] = partial(_drawn, draw=bricks)
    found["text"] = partial(_drawn, draw=text)
    return found


def _scaled(image: Floats, _: np.random.Generator, factor: float, method: str) -> Bytes:
    return resize(to_bytes(image), factor, method)


def bins_off(period: float, size: int) -> float:
    """How far a grating is from the line of the nearest whole period, in cycles per picture; below 1 none can tell."""
    return abs(1 / period - 1 / round(period)) * size
