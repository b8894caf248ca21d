"""JPEG 2000 and AVIF: Pillow's way with 8 bits, imagecodecs' with more, which Pillow would cut."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evenly.measure._picture import Encoding, Input, Picture, as_grey_or_rgb, quiet, spread, without_alpha
from evenly.measure._pillow import read_with_pillow

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_MARKERS = 1 << 16  # bytes from the beginning that hold the headers


def read_jpeg2000(given: Input) -> Picture:
    """Read a JPEG 2000."""
    start = given.beginning(_MARKERS)
    size = start.find(b"\xff\x4f\xff\x51")  # Xsiz .. at 8, components at 40, for each its bits less 1 and its steps
    coding = start.find(b"\xff\x52", size)
    if size < 0 or len(start) < size + 46 or len(start) < coding + 14:
        raise given.broken("a JPEG 2000 without its header")
    components = start[size + 40 : size + 42]
    bits = 1 + (start[size + 42] & 0x7F)
    steps = {start[n : n + 2] for n in range(size + 43, size + 42 + 3 * int.from_bytes(components, "big"), 3)}
    width, height, left, top = (int.from_bytes(start[size + n : size + n + 4], "big") for n in (8, 12, 16, 20))
    given.check_size(width - left, height - top)

    def decode(content: bytes) -> NDArray[Any]:
        import imagecodecs

        found: NDArray[Any] = imagecodecs.jpeg2k_decode(content)
        return found

    return _read(given, "JPEG2000", bits, len(steps) > 1, start[coding + 13] == 0, (width - left, height - top), decode)


def read_avif(given: Input) -> Picture:
    """Read an AVIF, the first frame of an animation."""
    start = given.beginning(_MARKERS)
    at = start.find(b"av1C") + 6  # tier, high bit depth, twelve bits, monochrome, halved along, halved down, ...
    extent = start.find(b"ispe") + 8
    if at < 6 or extent < 8 or len(start) < max(at + 1, extent + 8):
        raise given.broken("an AVIF without its header")
    flags = start[at]
    bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    width, height = (int.from_bytes(start[extent + n : extent + n + 4], "big") for n in (0, 4))
    given.check_size(width, height)

    def decode(content: bytes) -> NDArray[Any]:
        import imagecodecs

        found: NDArray[Any] = imagecodecs.avif_decode(content, index=0)
        return found

    return _read(given, "AVIF", bits, bool(flags & 0x0C) and not flags & 0x10, True, (width, height), decode)


def _read(
    given: Input,
    format: str,
    bits: int,
    subsampled: bool,
    lossy: bool,
    size: tuple[int, int],
    decode: Callable[[bytes], NDArray[Any]],
) -> Picture:
    if bits <= 8:
        found = read_with_pillow(given, format)
        return replace(found, encoding=replace(found.encoding, chroma_subsampled=subsampled, lossy=lossy))
    quiet("imagecodecs")
    notes: list[str] = []
    pixels = decode(given.content(size[0] * size[1] * 8))
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    pixels = spread(as_grey_or_rgb(given, without_alpha(pixels, notes)), 2**bits - 1, notes)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    return Picture(pixels, Encoding(format, bits, mode, subsampled, lossy, tuple(notes)))
