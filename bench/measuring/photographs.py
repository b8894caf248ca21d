"""Negatives: photographs from the wheels of scikit-image and scikit-learn, without the grids they came with.

A published photograph may carry JPEG's, a sensor's or a scaler's grid, so it is no negative as it stands. It is
low-passed, rotated by a random angle, scaled by a random factor of 0.5 to 0.8 and given a little noise: whatever was
periodic in whole pixels no longer is. Interpolation must leave no beat of its own: the photograph is sampled twice as
densely in the cosine domain before a cubic spline reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SKIMAGE = {
    "astronaut": "astronaut", "brick": "brick", "camera": "camera", "cat": "chelsea", "cell": "cell",
    "clock": "clock_motion", "coffee": "coffee", "coins": "coins", "galaxies": "hubble_deep_field", "grass": "grass",
    "gravel": "gravel", "moon": "moon", "motorcycle": "motorcycle_left", "retina": "retina", "rocket": "rocket",
    "tissue": "ihc",
}  # fmt: skip
"""Photographs in the wheel itself, not those it downloads; drawn pictures and second views of a scene are left out."""
SKLEARN = ("china", "flower")
SCALES = (0.5, 0.8)
ROLL_OFF = (
    0.42,
    0.6,
)  # cycles per new pixel; at the largest scale it ends below the old Nyquist frequency
BLOCK = 720  # old pixels; larger photographs are read block by block
CROPS_PER_VIEW = 8


@cache
def photographs() -> dict[str, Floats]:
    """All photographs by name, (H, W, 3) or (H, W), grey levels of 255."""
    from pathlib import Path

    import skimage
    from PIL import Image
    from sklearn.datasets import load_sample_image

    folder = Path(skimage.__file__).parent / "data"
    found = {}
    for name, stem in SKIMAGE.items():
        path = next(p for end in (".png", ".jpg") if (p := folder / (stem + end)).exists())
        with Image.open(path) as image:
            found[name] = np.asarray(image, np.float32)
    for name in SKLEARN:
        found[name] = np.asarray(load_sample_image(f"{name}.jpg"), np.float32)
    return dict(sorted(found.items()))


class View:
    """A photograph, or a block of it, at a random scale, ready to be read at any place and angle."""

    def __init__(self, photo: Floats, rng: np.random.Generator, size: int = 0) -> None:
        for axis, n in enumerate(photo.shape[:2]):
            at = int(rng.integers(max(n - BLOCK, 0) + 1))
            photo = photo.take(range(at, min(at + BLOCK, n)), axis)
        photo = np.atleast_3d(photo)
        least = size * 1.06 / (min(photo.shape[:2]) - 8)  # 1.06: room for a rotation by three degrees
        if least > SCALES[1]:
            raise ValueError(f"a crop of {size} pixels does not fit into a photograph of {photo.shape[:2]}")
        self.scale = float(rng.uniform(max(SCALES[0], least), SCALES[1]))
        self.shape = photo.shape[:2]
        self.coefficients = np.stack([_dense(photo[..., c], self.scale) for c in range(photo.shape[2])])

    def crop(self, size: int, rng: np.random.Generator) -> Floats:
        """A square at a random place and angle with noise of 0.5 to 1 grey level, not yet rounded."""
        angle = self._angle(size, rng)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / self.scale
        reach = np.abs(turn).sum(1) * (size - 1) / 2
        centre = np.array([rng.uniform(r + 2, n - 3 - r) for r, n in zip(reach, self.shape, strict=True)])
        start = centre - turn @ np.full(2, (size - 1) / 2)
        out = np.stack(
            [
                ndimage.affine_transform(c, 2 * turn, 2 * start + 0.5, (size, size), np.float32, 3, "mirror", 0, False)
                for c in self.coefficients
            ],
            -1,
        )
        out += rng.uniform(0.5, 1) * rng.standard_normal(out.shape, np.float32)
        return out[..., 0] if out.shape[-1] == 1 else out

    def _angle(self, size: int, rng: np.random.Generator) -> float:
        """In radians, at least two degrees from the axes; small where a larger one does not fit."""
        room = (min(self.shape) - 6) * self.scale / (size - 1)
        for _ in range(64):
            angle = np.deg2rad(rng.uniform(2, 88))
            if np.cos(angle) + np.sin(angle) <= room:
                return float(angle + rng.integers(4) * np.pi / 2)
        return float(np.deg2rad(rng.uniform(1.5, 2)) + rng.integers(4) * np.pi / 2)


def _dense(plane: Floats, scale: float) -> Floats:
    """Spline coefficients of a plane, low-passed for `scale` and sampled twice as densely (at -1/4, 1/4, 3/4, ...)."""
    (h, w), (begin, end) = plane.shape, ROLL_OFF
    radius = np.hypot(np.arange(h)[:, None] / (2 * h), np.arange(w) / (2 * w)) / scale
    gain = 0.5 + 0.5 * np.cos(np.pi * np.clip((radius - begin) / (end - begin), 0, 1))
    spectrum = np.zeros((2 * h, 2 * w), np.float32)
    spectrum[:h, :w] = 2 * fft.dctn(plane, norm="ortho") * gain
    return ndimage.spline_filter(fft.idctn(spectrum, norm="ortho"), 3, np.float32, "mirror")


def neutralise(photo: Floats, rng: np.random.Generator) -> Floats:
    """The largest square of a photograph without its native grids, not yet rounded."""
    view = View(photo, rng)
    return view.crop(int(0.7 * min(view.shape) * view.scale), rng)


def crop(image: NDArray, size: int, rng: np.random.Generator) -> NDArray:
    """A square of an image at a random place."""
    y, x = (int(rng.integers(n - size + 1)) for n in image.shape[:2])
    return image[y : y + size, x : x + size]


def to_bytes(image: NDArray) -> Bytes:
    """Rounded to whole grey levels."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def fitting(size: int) -> list[str]:
    """Names of the photographs that crops of this size fit into."""
    return [n for n, p in photographs().items() if size * 1.06 <= SCALES[1] * (min(*p.shape[:2], BLOCK) - 8)]


def crops(name: str, size: int, count: int, seed: int) -> Iterator[Floats]:
    """Crops of one photograph, not yet rounded; a new scale for every few."""
    rng = np.random.default_rng((seed, crc32(name.encode()), size))
    for at in range(count):
        if at % CROPS_PER_VIEW == 0:
            view = View(photographs()[name], rng, size)
        yield view.crop(size, rng)


def negatives(size: int, count: int, seed: int) -> Iterator[tuple[str, Bytes]]:
    """Pictures without a trace, equally many of each photograph, grouped by it: name, image."""
    names = fitting(size)
    for at, name in enumerate(names):
        for image in crops(name, size, (count + at) // len(names), seed):
            yield name, to_bytes(image)
