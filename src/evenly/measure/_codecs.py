"""PNG, JPEG and WebP: sizes from the header, pixels by imagecodecs into one array, nothing cut to 8 bits."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from evenly.errors import UnreadableError
from evenly.measure._picture import Encoding, Input, Picture, as_grey_or_rgb, quiet, spread, without_alpha

_PNG_MODES = {0: ("L", 1), 2: ("RGB", 3), 3: ("P", 3), 4: ("LA", 2), 6: ("RGBA", 4)}
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)
_JPEG_SCANS = 500  # each is a pass over all pixels: thousands of empty ones keep a decoder busy for hours
_ORIENTATION = 0x0112


def read_png(given: Input) -> Picture:
    """Read a PNG; of an animation what programs without animation show."""
    import imagecodecs

    if len(given.head) < 29 or given.head[12:16] != b"IHDR":
        raise given.broken("a PNG without its header")
    width, height, depth, colour = struct.unpack_from(">IIBB", given.head, 16)
    given.check_size(width, height)
    mode, channels = _PNG_MODES.get(colour, ("L", 1))
    content = given.content(width * height * (channels + 1) * (2 if depth == 16 else 1))
    notes: list[str] = []
    if any(kind == b"acTL" for kind in _png_chunks(content)):
        notes.append("an animation: its default picture was measured")
    quiet("imagecodecs")
    pixels = imagecodecs.png_decode(content)
    if mode == "P" and pixels.ndim == 3 and pixels.shape[2] == 4:
        mode = "PA"
    pixels = as_grey_or_rgb(given, without_alpha(pixels, notes))
    return Picture(pixels, Encoding("PNG", depth, "1" if depth == 1 and mode == "L" else mode, False, False, (*notes,)))


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """Kinds of chunks before the pixels."""
    at = 8
    while at + 8 <= len(content) and (kind := content[at + 4 : at + 8]) != b"IDAT":
        yield kind
        at += 12 + int.from_bytes(content[at : at + 4], "big")


def read_jpeg(given: Input) -> Picture:
    """Read a JPEG, its first picture if it holds several."""
    import imagecodecs

    # Before its header is found nothing says how long a JPEG may be: two bytes for each of the most pixels.
    content = given.content(given.max_pixels)
    header = _JpegHeader(given, content)
    given.check_size(header.width, header.height)
    if not header.ends:
        raise given.broken("a JPEG that ends before its end mark")
    if len(header.sampling) == 4:
        from evenly.measure._pillow import read_with_pillow

        pillow = read_with_pillow(given, "JPEG")
        return Picture(pillow.pixels, header.encoding("CMYK", pillow.encoding.notes))
    quiet("imagecodecs")
    notes: list[str] = []
    pixels = spread(as_grey_or_rgb(given, imagecodecs.jpeg_decode(content)), 2**header.bits - 1, notes)
    return Picture(pixels, header.encoding("L" if pixels.ndim == 2 else "RGB", tuple(notes)))


class _JpegHeader:
    """What the marker segments of a JPEG say, and whether it is all there."""

    def __init__(self, given: Input, content: bytes) -> None:
        self.width = self.height = self.bits = 0
        self.sampling: list[int] = []
        self.orientation = 1
        self.ends = False
        scans, at = 0, 2
        while (marker := _JPEG_MARKER.search(content, at)) is not None:
            kind, start = marker[1][0], marker.end()
            if kind == 0xD9:
                self.ends = bool(scans)
                break
            length = int.from_bytes(content[start : start + 2], "big")
            segment = content[start + 2 : start + length]
            if kind in _JPEG_FRAMES and len(segment) >= 6 and not self.sampling:
                self.bits, self.height, self.width, count = struct.unpack_from(">BHHB", segment)
                self.sampling = [segment[n] for n in range(7, min(len(segment), 6 + 3 * count), 3)]
            elif kind == 0xE1 and segment.startswith(b"Exif\0\0"):
                self.orientation = _orientation(segment[6:])
            scans += kind == 0xDA
            at = start + max(length, 2)
            if scans > _JPEG_SCANS:
                raise given.broken(f"a JPEG of more than {_JPEG_SCANS} scans")
        if not self.sampling:
            raise given.broken("a JPEG without a frame header")

    def encoding(self, mode: str, notes: tuple[str, ...]) -> Encoding:
        if self.orientation != 1:
            notes = (*notes, f"EXIF orientation {self.orientation} was not applied: the stored pixels were measured")
        return Encoding("JPEG", self.bits, mode, len(set(self.sampling)) > 1, True, notes)


def _orientation(exif: bytes) -> int:
    """From EXIF; 1, as stored, if it says nothing."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return 1
    at = struct.unpack_from(order + "I", exif, 4)[0]
    count = struct.unpack_from(order + "H", exif, at)[0] if at + 2 <= len(exif) else 0
    for entry in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
        if tag == _ORIENTATION and kind == 3:
            return int(value) if 1 <= value <= 8 else 1
    return 1


def read_webp(given: Input) -> Picture:
    """Read a WebP, the first frame of an animation."""
    import imagecodecs

    width, height = _webp_size(given)
    given.check_size(width, height)
    content = given.content(width * height * 4)
    chunks = dict(_webp_chunks(content))
    lossy = b"VP8 " in chunks or any(b"VP8 " in frame[16:64] for frame in [chunks.get(b"ANMF", b"")])
    notes: list[str] = []
    if b"ANMF" in chunks:
        notes.append("an animation: its first frame was measured")
    pixels = imagecodecs.webp_decode(content, index=0)
    mode = "RGBA" if pixels.shape[-1] == 4 else "RGB"
    pixels = as_grey_or_rgb(given, without_alpha(pixels, notes))
    return Picture(pixels, Encoding("WEBP", 8, mode, lossy, lossy, tuple(notes)))


def _webp_size(given: Input) -> tuple[int, int]:
    head = given.head[:30].ljust(30, b"\0")
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        packed = int.from_bytes(head[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    raise UnreadableError(f"{given.name}: a WebP whose first chunk is {kind!r}; expected VP8, VP8L or VP8X")


def _webp_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds of chunks and their beginnings; the first of each kind comes last, so that it stays in a dictionary."""
    found, at = [], 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        found.append((content[at : at + 4], content[at + 8 : at + 72]))
        at += 8 + size + size % 2
    return reversed(found)
