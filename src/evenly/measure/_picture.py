"""What reading a picture gives, and what all its readers share."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import TooLargeError, UnreadableError

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray

SPARE_BYTES = 64 * 2**20
"""What a file may be longer than its pixels: profiles, previews, a film behind the picture."""


@dataclass(frozen=True)
class Encoding:
    """How a picture was stored.

    Attributes:
        format: By content, whatever the file's name says: ``PNG``, ``JPEG``, ``WEBP``, ``TIFF``, ``GIF``, ``BMP``,
            ``PPM``, ``JPEG2000``, ``AVIF``, ``QOI`` or ``NPY``; ``None`` for arrays.
        bits: Per sample.
        mode: Channels as stored: ``1``, ``L``, ``LA``, ``P``, ``RGB``, ``RGBA``, ``CMYK``, ...
        chroma_subsampled: Whether colours are stored at fewer pixels than brightness; ``None`` if not known.
        lossy: Whether pixels were compressed with loss.
        notes: Remarks for people, for instance what was left out.
    """

    format: str | None
    bits: int
    mode: str
    chroma_subsampled: bool | None = None
    lossy: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        pixels: Shape (H, W) or (H, W, 3), as stored.
        encoding: How it was stored.
    """

    pixels: NDArray[Any]
    encoding: Encoding


def quiet(library: str) -> None:
    """Keep what a library logs about damaged files, which is in our errors too, from standard error.

    Python prints warnings of libraries for which nobody has set up logging; those who have still get them.
    """
    logger = logging.getLogger(library)
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())


class Input:
    """A file to read, and how large a picture may be.

    Args:
        file: Binary, can seek.
        name: For people.
        max_pixels: Most pixels.
    """

    def __init__(self, file: BinaryIO, name: str, max_pixels: int) -> None:
        self.file, self.name, self.max_pixels = file, name, max_pixels
        self.size = file.seek(0, 2)
        file.seek(0)
        self.head = file.read(4096)
        file.seek(0)

    def check_size(self, width: int, height: int) -> None:
        """Refuse sizes that nobody means, before anything is allocated."""
        if width < 1 or height < 1:
            raise UnreadableError(f"{self.name}: says it is {width} x {height} pixels; expected 1 or more")
        if width * height > self.max_pixels:
            raise TooLargeError(
                f"{self.name}: says it is {width} x {height} pixels ({width * height / 1e6:.0f} megapixels); at most "
                f"{self.max_pixels / 1e6:g} megapixels are read: crop it (do not resize: that changes what is measured)"
            )

    def beginning(self, size: int) -> bytes:
        """The first bytes of the file."""
        self.file.seek(0)
        return self.file.read(size)

    def content(self, pixel_bytes: int) -> bytes:
        """The whole file, if it is not much longer than its pixels."""
        most = pixel_bytes * 2 + SPARE_BYTES
        if self.size > most:
            raise TooLargeError(
                f"{self.name}: has {self.size} bytes, for {pixel_bytes} bytes of pixels; at most {most} are read: save "
                "the picture again, alone"
            )
        self.file.seek(0)
        content = self.file.read()
        if len(content) != self.size:
            raise UnreadableError(f"{self.name}: ends after {len(content)} of {self.size} bytes; copy it again")
        return content

    def fill(self, array: NDArray[Any]) -> None:
        """Read bytes from where the file stands into an array."""
        left = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        while left:
            count = self.file.readinto(left)  # type: ignore[attr-defined]
            if not count:
                raise self.broken(f"ends {len(left)} bytes too early")
            left = left[count:]

    def broken(self, why: str) -> UnreadableError:
        """The error that a damaged file is."""
        return UnreadableError(f"{self.name}: {why}; the file is damaged or incomplete: copy or save it again")


def without_alpha(pixels: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """Grey or RGB of an array that may have one channel more."""
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        notes.append("alpha was left out: colours are measured as stored")
        pixels = pixels[..., : pixels.shape[2] - 1]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def spread(pixels: NDArray[Any], most: int, notes: list[str]) -> NDArray[Any]:
    """Bring unsigned integers up to ``most`` to their type's full range, as far as a whole factor goes."""
    factor = np.iinfo(pixels.dtype).max // most
    if factor < 2:
        return pixels
    notes.append(f"values up to {most} were multiplied by {factor} to fill {8 * pixels.dtype.itemsize} bits")
    full: NDArray[Any] = pixels * pixels.dtype.type(factor)
    return full


def as_grey_or_rgb(given: Input, pixels: NDArray[Any]) -> NDArray[Any]:
    """The array if it is a picture of real numbers in this machine's byte order.

    Raises:
        UnreadableError: If it is not.
    """
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or not math.prod(pixels.shape):
        raise UnreadableError(
            f"{given.name}: an array of shape {pixels.shape} is no picture; expected (H, W), (H, W, 1), (H, W, 3) or "
            "(H, W, 4)"
        )
    if pixels.dtype.kind not in "buif":
        raise UnreadableError(f"{given.name}: pixels of type {pixels.dtype}; expected integers or floats")
    return np.asarray(pixels, pixels.dtype.newbyteorder("="))
