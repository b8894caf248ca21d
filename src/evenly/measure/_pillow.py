"""What Pillow reads best: GIF, BMP, PPM, JPEG 2000, AVIF, QOI, and JPEG in CMYK.

Its classes are called directly. ``Image.open`` would try formats one after the other, warn of pictures that are within
our bounds, and follow a limit that is global to the process and not ours to change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import MissingDependencyError
from evenly.measure._picture import Encoding, Input, Picture, as_grey_or_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASSES = {
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "PPM": ("PpmImagePlugin", "PpmImageFile"),
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "JPEG2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
    "QOI": ("QoiImagePlugin", "QoiImageFile"),
}
_SAME = {"L", "RGB", "I", "I;16", "I;16B", "I;16L", "F"}  # the modes whose values are taken as they are
_GREY = {"1", "LA", "La"}
_STRIP = 1 << 22  # pixels that are converted at a time
_BITS = {"1": 1, "I": 32, "F": 32, "I;16": 16, "I;16B": 16, "I;16L": 16}


def read_with_pillow(given: Input, format: str) -> Picture:
    """Read a picture of one of these formats, its first frame."""
    module, name = _CLASSES[format]
    try:
        plugin = importlib.import_module(f"PIL.{module}")
    except ImportError as error:
        raise MissingDependencyError(
            f"{given.name}: needs pillow; install it with pip install 'evenly[images]'"
        ) from error
    given.file.seek(0)
    with getattr(plugin, name)(given.file) as image:
        given.check_size(*image.size)
        notes = []
        if getattr(image, "is_animated", False):
            notes.append("an animation: its first frame was measured")
            image.seek(0)
        image.load()
        mode = image.mode
        if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
            notes.append("alpha was left out: colours are measured as stored")
        target = mode if mode in _SAME else "L" if mode in _GREY else "RGB"
        if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            notes.append(f"{mode} was converted to RGB")
        pixels = as_grey_or_rgb(given, _pixels(image, target))
    lossy = format in ("JPEG", "AVIF", "JPEG2000")
    return Picture(pixels, Encoding(format, _BITS.get(mode, 8), mode, None if lossy else False, lossy, tuple(notes)))


def _pixels(image: Any, mode: str) -> NDArray[Any]:
    """The pixels in one array; strip by strip, because Pillow hands over pixels in several copies."""
    width, height = image.size
    rows = max(1, _STRIP // width)
    found: NDArray[Any] | None = None
    for start in range(0, height, rows):
        strip = image.crop((0, start, width, min(start + rows, height)))
        part = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        if found is None:
            if rows >= height:
                return part
            found = np.empty((height, *part.shape[1:]), part.dtype)
        found[start : start + rows] = part
    assert found is not None
    return found
