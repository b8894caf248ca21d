"""TIFF of every depth, through tifffile: the first page, with the checks that tifffile leaves to its caller."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import UnreadableError
from evenly.measure._picture import Encoding, Input, Picture, as_grey_or_rgb, quiet, spread, without_alpha

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MODES = {0: "L", 1: "L", 2: "RGB", 3: "P", 4: "L", 5: "CMYK", 6: "YCbCr", 32803: "L", 34892: "RGB"}
_SAMPLES = {"L": 1, "P": 1, "RGB": 3, "CMYK": 4, "YCbCr": 3}
_JPEG = {6, 7, 33007, 34892, 33003, 33005, 34712, 50001, 34927, 34933, 50002, 52546}  # codecs that can lose
_MOST_SEGMENTS = 2_000_000
_NEEDED = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 347, 530}
_STRIP = 1 << 22  # pixels that are converted at a time


def read_tiff(given: Input) -> Picture:
    """Read the first page of a TIFF."""
    import tifffile

    quiet("tifffile")
    quiet("imagecodecs")
    given.file.seek(0)
    with tifffile.TiffFile(given.file, name="picture.tif", _multifile=False) as tiff:
        page: Any = tiff.pages[0]
        given.check_size(page.imagewidth, page.imagelength)
        _check_tags(given, tiff, page)
        _check(given, page)
        notes = ["the first of several pages was measured"] if tiff.pages.is_multipage else []
        mode = _MODES.get(page.photometric)
        pixels = page.asarray(squeeze=False, maxworkers=1)  # (separate samples, depth, rows, columns, joined samples)
        colours = page.colormap if mode == "P" else None
    pixels = np.moveaxis(pixels[:, 0, ..., 0], 0, -1) if pixels.shape[0] > 1 else pixels[0, 0]
    if mode is None:
        raise UnreadableError(
            f"{given.name}: a TIFF of the colour space {page.photometric!s}; expected grey, RGB, a palette or CMYK"
        )
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8 * pixels.dtype.itemsize
    samples = _SAMPLES[mode]
    if pixels.shape[2] == samples + 1:
        notes.append("alpha was left out: colours are measured as stored")
    elif pixels.shape[2] != samples:
        raise UnreadableError(f"{given.name}: a TIFF of {pixels.shape[2]} channels, {samples} expected for {mode}")
    pixels = pixels[..., :samples]
    if page.photometric == 0:
        notes.append("stored as a negative (0 is white), and measured so")
    if pixels.dtype.kind == "b":
        pixels = pixels.view(np.uint8)
    if mode != "P" and pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2 and bits < 8 * pixels.dtype.itemsize:
        pixels = spread(pixels, 2**bits - 1, [] if bits == 1 else notes)
    lossy = page.compression in _JPEG
    subsampled = lossy and tuple(page.subsampling or (1, 1)) != (1, 1)
    if mode == "P":
        pixels = _paletted(given, pixels[..., 0], colours)
    elif mode == "CMYK":
        notes.append("CMYK was converted to RGB")
        pixels = _from_cmyk(given, pixels)
    elif mode == "YCbCr" and not lossy:
        raise UnreadableError(f"{given.name}: a TIFF of YCbCr without JPEG is not read; save it as RGB")
    pixels = as_grey_or_rgb(given, without_alpha(pixels, []))
    return Picture(pixels, Encoding("TIFF", bits, mode, subsampled, lossy, tuple(notes)))


def _check_tags(given: Input, tiff: Any, page: Any) -> None:
    """Refuse a directory with unreadable entries: tifffile leaves them out, and takes the usual values instead."""
    form = tiff.tiff
    given.file.seek(page.offset)
    count = struct.unpack(form.tagnoformat, given.file.read(form.tagnosize))[0]
    entries = given.file.read(count * form.tagsize)
    codes = {struct.unpack_from(form.byteorder + "H", entries, n)[0] for n in range(0, len(entries) - 1, form.tagsize)}
    lost = sorted(code for code in codes & _NEEDED if code not in page.tags)
    if lost or len(entries) < count * form.tagsize:
        raise given.broken(f"a TIFF without the values of its tags {', '.join(map(str, lost)) or 'at its end'}")


def _check(given: Input, page: Any) -> None:
    """Refuse what would be read as half a picture, or as more than its width and height say."""
    if page.imagedepth != 1:
        raise UnreadableError(f"{given.name}: a TIFF of {page.imagedepth} planes of depth; expected one")
    if page.samplesperpixel > 8:
        raise UnreadableError(f"{given.name}: a TIFF of {page.samplesperpixel} channels; expected grey or RGB")
    if page.dtype is None or page.dtype.kind not in "buif":
        raise given.broken(f"a TIFF of samples of {page.bitspersample} bits and format {page.sampleformat!s}")
    if page.is_tiled:
        given.check_size(page.tilewidth, page.tilelength)
    segments = math.prod(page.chunked)
    starts, counts = page.dataoffsets, page.databytecounts
    if segments > _MOST_SEGMENTS or page.is_contiguous:
        segments = min(segments, len(starts))
    if not starts or len(starts) < segments or len(counts) < segments:
        raise given.broken(f"a TIFF with {len(starts)} of {segments} pieces")
    needed = page.nbytes if page.is_contiguous else 1
    if page.is_contiguous and starts[0] + needed > given.size:
        raise given.broken(f"a TIFF that ends after {given.size} of {starts[0] + needed} bytes")
    for start, count in zip(starts[:segments], counts[:segments], strict=True):
        if start <= 0 or count <= 0 or start + count > given.size:
            raise given.broken(f"a TIFF with a piece of {count} bytes at {start}, in a file of {given.size} bytes")


def _paletted(given: Input, index: NDArray[Any], colours: NDArray[Any] | None) -> NDArray[Any]:
    if colours is None or colours.ndim != 2 or len(colours) != 3 or int(index.max()) >= colours.shape[1]:
        raise given.broken("a TIFF whose palette lacks colours")
    table = np.ascontiguousarray(colours.T)  # 16 bit, in most files 8 bit repeated or shifted
    high = (table >> 8).astype(np.uint8)
    if (table == high * np.uint16(257)).all() or (table == high.astype(np.uint16) << 8).all():
        table = high
    return np.asarray(table[index])


def _from_cmyk(given: Input, pixels: NDArray[Any]) -> NDArray[Any]:
    """Light that four inks leave."""
    if pixels.dtype.kind != "u":
        raise given.broken(f"a TIFF of CMYK in {pixels.dtype}, expected unsigned integers")
    most = np.iinfo(pixels.dtype).max
    found = np.empty((*pixels.shape[:2], 3), pixels.dtype)
    rows = max(1, _STRIP // pixels.shape[1])
    for start in range(0, len(pixels), rows):
        light = most - pixels[start : start + rows].astype(np.float64)
        found[start : start + rows] = np.rint(light[..., :3] * light[..., 3:] / most)
    return found
