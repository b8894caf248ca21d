"""Positives: traces of a known period, kind and strength put into pictures before they are rounded; and files' fates.

Mean traces add a cell of ``period x period`` that repeats; their amplitude is the cell's root mean square in grey
levels. Variance traces multiply the picture's detail (what the 3x3 binomial leaves) by one plus such a cell; their
amplitude is the cell's root mean square (ratio). ``overlap`` cells are what a transposed convolution with stride
``period`` and a longer kernel of ones makes of a constant (Odena et al. 2016), ``random`` cells are white. Both have a
random origin.
"""

from __future__ import annotations

import io
from math import gcd

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from measuring.photographs import Bytes, Floats, to_bytes

PERIODS = (2, 3, 4, 5, 8, 16)
PATTERNS = ("overlap", "random")
AMPLITUDES = {"mean": (0.05, 0.1, 0.15, 0.3, 0.6, 1.2, 2.5), "variance": (0.02, 0.05, 0.1, 0.2, 0.4)}
CHAINS = ("none", "jpeg95", "jpeg75", "resize", "crop")
BINOMIAL = np.array([1, 2, 1], np.float32) / 4
RESIZE = 2  # the chain `resize` halves pictures: then a whole period stays whole
CROP = 16  # pixels; the chain `crop` takes up to so many off every side


def cell(period: int, pattern: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """One period of a pattern without its mean, of root mean square 1, at a random origin."""
    if pattern == "overlap":
        kernel = period + int(rng.integers(1, period))
        counts = np.bincount(np.arange(kernel) % period, minlength=period)
        found = np.outer(counts, counts).astype(float)
    elif pattern == "random":
        found = rng.standard_normal((period, period))
    else:
        raise ValueError(f"no such pattern: {pattern}")
    found -= found.mean()
    found /= np.sqrt(np.mean(found**2))
    return np.roll(found, rng.integers(period, size=2), (0, 1))


def tiled(pattern: NDArray[np.float64], shape: tuple[int, ...]) -> Floats:
    """The cell repeated over a picture; a last axis of 1 for colours."""
    h, w = shape[:2]
    full = np.tile(pattern, (-(-h // len(pattern)), -(-w // len(pattern))))[:h, :w].astype(np.float32)
    return full[..., None] if len(shape) == 3 else full


def inject(image: Floats, kind: str, period: int, amplitude: float, pattern: str, rng: np.random.Generator) -> Floats:
    """A picture with a trace, not yet rounded."""
    added = amplitude * tiled(cell(period, pattern, rng), image.shape)
    if kind == "mean":
        return image + added
    if kind == "variance":
        smooth = ndimage.convolve1d(ndimage.convolve1d(image, BINOMIAL, 0, mode="mirror"), BINOMIAL, 1, mode="mirror")
        return image + np.maximum(added, -1) * (image - smooth)
    raise ValueError(f"no such kind of trace: {kind}")


def apply_chain(image: Floats, chain: str, rng: np.random.Generator) -> Bytes:
    """What happened to a picture before somebody measures it, as whole grey levels."""
    if chain == "none":
        return to_bytes(image)
    if chain.startswith("jpeg"):
        return jpeg(to_bytes(image), int(chain[4:]))
    if chain == "resize":
        return resize(to_bytes(image), 1 / RESIZE)
    if chain == "crop":
        top, left, bottom, right = rng.integers(CROP + 1, size=4)
        return to_bytes(image[top : image.shape[0] - bottom, left : image.shape[1] - right])
    raise ValueError(f"no such chain: {chain}")


def period_after(period: int, chain: str) -> int | None:
    """Where a chain leaves a trace: halving halves even periods and keeps odd ones; period 2 is gone."""
    if chain != "resize":
        return period
    left = period // gcd(period, RESIZE)
    return left if left > 1 else None


def jpeg(image: Bytes, quality: int, subsampling: int = 2) -> Bytes:
    """Through a JPEG file; subsampling 2 is 4:2:0, 0 is 4:4:4."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))


def resize(image: Bytes, factor: float, method: str = "BICUBIC") -> Bytes:
    """Scaled by Pillow (which low-passes when it shrinks)."""
    from PIL import Image

    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling[method]))
