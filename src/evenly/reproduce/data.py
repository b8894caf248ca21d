"""Pictures to train on: the photographs in the wheels, a folder of the user's own, or CIFAR-10 from its binary files.

Photographs carry JPEG's and a sensor's grid. Each is scaled down by factors that have no small whole number in common
with 8 and 2 before crops are taken, so that no grid of theirs falls on a period that is measured.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from evenly.errors import MissingDependencyError, TooLargeError, UnreadableError, UsageError

__all__ = ["CIFAR10", "Data", "Split", "open_data"]

Split = Literal["train", "held-out"]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_SCALES = (0.61, 0.43, 0.31)
_HELD_OUT = 1 / 3
"""Share of every picture (its right side) or of every class's pictures (the last ones) that is never trained on."""
_LARGEST = 4 << 30
"""Bytes of pictures that are held in memory at most."""
_WHEEL_PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "cell.png", "clock_motion.png", "coffee.png",
    "coins.png", "hubble_deep_field.jpg", "grass.png", "gravel.png", "moon.png", "motorcycle_left.png", "retina.jpg",
    "rocket.jpg", "ihc.png",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Data:
    """Pictures with classes; every batch is drawn anew.

    Attributes:
        name: In a word.
        description: What they are, how many, and under what condition they are read.
        limits: What training on them cannot show.
        classes: Names of the classes, in the order of their labels.
        pyramids: For every picture its class and the sizes it is read at, each ``(3, H, W)`` uint8.
        whole: Whether pictures are held out as wholes (many of them) instead of by their right sides (few of them).
    """

    name: str
    description: str
    limits: str
    classes: tuple[str, ...]
    pyramids: tuple[tuple[int, tuple[Tensor, ...]], ...] = field(repr=False)
    whole: bool = False

    @property
    def digest(self) -> str:
        """Of all pixels and classes; decides whether kept results are of the same data."""
        return _digest(self)

    def batch(self, count: int, size: int, generator: Generator, split: Split = "train") -> Tensor:
        """Random crops, half of them mirrored.

        Args:
            count: How many.
            size: Of their sides, in pixels.
            generator: On the CPU.
            split: Which part of the pictures.

        Returns:
            ``(count, 3, size, size)``, float32, -1 (black) to 1.

        Raises:
            UsageError: If no picture is large enough.
        """
        return self.labelled(count, size, generator, split)[0]

    def labelled(self, count: int, size: int, generator: Generator, split: Split = "train") -> tuple[Tensor, Tensor]:
        """As :meth:`batch`, with labels ``(count,)``, int64; classes are drawn equally often."""
        classes = _windows(self, size, split)
        crops, labels = [], []
        for _ in range(count):
            label, windows = classes[_draw(len(classes), generator)]
            window = windows[_draw(len(windows), generator)]
            y, x = (_draw(side - size + 1, generator) for side in window.shape[-2:])
            crop = window[:, y : y + size, x : x + size]
            crops.append(crop.flip(-1) if _draw(2, generator) else crop)
            labels.append(label)
        return torch.stack(crops).float() / 127.5 - 1, torch.tensor(labels)

    def sample(self, count: int, size: int, seed: int, split: Split = "held-out") -> Tensor:
        """A fixed batch to compare with or to look at."""
        return self.batch(count, size, torch.Generator().manual_seed(seed), split)


def open_data(source: Path | None) -> Data:
    """The photographs of the wheels, or the user's own pictures.

    Args:
        source: A folder of pictures, whose sub-folders are taken for classes; a folder with CIFAR-10's binary files
            (``data_batch_1.bin`` and so on); or ``None`` for the photographs of scikit-image and scikit-learn.

    Raises:
        UsageError: If the folder does not exist or holds no picture.
        MissingDependencyError: If scikit-image or scikit-learn is needed and not installed.
    """
    return _photographs() if source is None else _opened(source.resolve())


@cache
def _opened(source: Path) -> Data:
    if not source.is_dir():
        raise UsageError(f"--data (={source}) is no folder; expected a folder of pictures or of CIFAR-10's .bin files")
    for folder in (source, source / "cifar-10-batches-bin"):
        if (folder / "data_batch_1.bin").is_file():
            return _cifar(folder)
    if (source / "data_batch_1").is_file() or (source / "cifar-10-batches-py").is_dir():
        raise UsageError(
            f"--data (={source}) holds CIFAR-10's Python files, which are pickles and may execute code; "
            "take its binary version (cifar-10-binary.tar.gz) instead"
        )
    return _folder(source)


@cache
def _photographs() -> Data:
    try:
        import skimage
        from PIL import Image
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed; the photographs come with scikit-image and scikit-learn: "
            "pip install 'evenly[reproduce]', or give --data"
        ) from error
    folder = Path(skimage.__file__).parent / "data"
    pictures: dict[str, NDArray[np.uint8]] = {}
    for file in _WHEEL_PHOTOGRAPHS:
        if not (folder / file).is_file():
            raise MissingDependencyError(f"{file} is not in this version of scikit-image; install 0.22 or newer")
        with Image.open(folder / file) as image:
            pictures[Path(file).stem] = np.asarray(image.convert("RGB"))
    for name in ("china", "flower"):
        pictures[name] = np.asarray(load_sample_image(f"{name}.jpg"))
    names = tuple(sorted(pictures))
    return Data(
        name="photographs",
        description=f"crops of the {len(names)} photographs that ship with scikit-image and scikit-learn, scaled by "
        f"{', '.join(map(str, _SCALES))}; the right third of each is held out",
        limits="Eighteen photographs make a small world: networks learn textures, no objects, and overfit. The class "
        "of a crop is the photograph it comes from.",
        classes=names,
        pyramids=tuple((label, _pyramid(pictures[name])) for label, name in enumerate(names)),
    )


def _folder(source: Path) -> Data:
    from evenly.measure.files import read_picture
    from evenly.measure.levels import grey_levels

    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
    pictures: list[tuple[str, tuple[Tensor, ...]]] = []
    unread, total = 0, 0
    for path in files:
        try:
            array, levels_of, _ = grey_levels(read_picture(path).pixels)
        except (UnreadableError, UsageError):
            unread += 1
            continue
        pixels = np.clip(np.rint(levels_of(array)), 0, 255).astype(np.uint8)
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        inside = path.relative_to(source).parts
        levels = _pyramid(pixels)
        total += sum(level.numel() for level in levels)
        if total > _LARGEST:
            raise TooLargeError(f"--data (={source}): more than {_LARGEST >> 30} GiB of pixels; give fewer pictures")
        pictures.append((inside[0] if len(inside) > 1 else "", levels))
    if not pictures:
        raise UsageError(f"--data (={source}): none of its {len(files)} files is a picture that can be read")
    classes = tuple(sorted({name for name, _ in pictures}))
    if len(classes) == 1 and len(pictures) <= 256:  # without classes, every picture is its own
        classes = tuple(f"picture {n}" for n in range(len(pictures)))
        pictures = [(classes[n], levels) for n, (_, levels) in enumerate(pictures)]
    many = all(sum(name == c for name, _ in pictures) >= 8 for c in classes)
    return Data(
        name=source.name,
        description=f"{len(pictures)} pictures of the folder given with --data in {len(classes)} classes"
        + (f"; {unread} other files could not be read as pictures" if unread else ""),
        limits="" if len(classes) > 1 else "All pictures are of one class, so classifiers have nothing to learn.",
        classes=classes,
        pyramids=tuple((classes.index(name), levels) for name, levels in pictures),
        whole=many,
    )


def _cifar(folder: Path) -> Data:
    pyramids = []
    files = [folder / f"data_batch_{n}.bin" for n in range(1, 6)] + [folder / "test_batch.bin"]
    for path in files:
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
        if raw.size == 0 or raw.size % 3073:
            raise UsageError(f"{path}: {raw.size} bytes; CIFAR-10's binary files have a multiple of 3073")
        records = raw.reshape(-1, 3073)
        if records[:, 0].max() > 9:
            raise UsageError(f"{path}: label {records[:, 0].max()}; CIFAR-10 has labels from 0 to 9")
        pixels = torch.from_numpy(records[:, 1:].copy()).reshape(-1, 3, 32, 32)
        pyramids += [(int(label), (image,)) for label, image in zip(records[:, 0], pixels, strict=True)]
    return Data(
        name="CIFAR-10",
        description=f"CIFAR-10, {len(pyramids)} pictures of 32 x 32 pixels; sizes above 32 are not possible",
        limits="32 x 32 pixels only.",
        classes=CIFAR10,
        pyramids=tuple(pyramids),
        whole=True,
    )


def _pyramid(pixels: NDArray[np.uint8]) -> tuple[Tensor, ...]:
    """A picture scaled down by every factor, each ``(3, H, W)`` uint8."""
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    shortest = min(image.shape[-2:])
    scales = [scale for scale in _SCALES if scale * shortest >= 64] or [min(1.0, max(_SCALES[0], 64 / shortest))]
    found = []
    for scale in scales:
        sides = [max(1, round(side * scale)) for side in image.shape[-2:]]
        small = interpolate(image, sides, mode="bicubic", antialias=True)
        found.append(small[0].round().clamp(0, 255).to(torch.uint8))
    return tuple(found)


@cache
def _digest(data: Data) -> str:
    total = hashlib.sha256(repr((data.classes, data.whole)).encode())
    for label, planes in data.pyramids:
        total.update(str(label).encode())
        for plane in planes:
            total.update(plane.numpy().tobytes())
    return total.hexdigest()


@cache
def _windows(data: Data, size: int, split: Split) -> Sequence[tuple[int, Sequence[Tensor]]]:
    """By class, the parts of pictures that crops of a size may be taken from."""
    found: dict[int, list[Tensor]] = {}
    seen: dict[int, int] = {}
    totals = Counter(label for label, _ in data.pyramids)
    for label, planes in data.pyramids:
        place = seen[label] = seen.get(label, -1) + 1
        if data.whole and (place < round(totals[label] * (1 - _HELD_OUT))) != (split == "train"):
            continue
        for plane in planes:
            edge = plane.shape[2] if data.whole else round(plane.shape[2] * (1 - _HELD_OUT))
            window = plane[:, :, :edge] if data.whole or split == "train" else plane[:, :, edge:]
            if min(window.shape[-2:]) >= size:
                found.setdefault(label, []).append(window)
    if not found:
        raise UsageError(f"--data: no picture has room for crops of {size} pixels; give larger pictures")
    return sorted(found.items())


def _draw(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
