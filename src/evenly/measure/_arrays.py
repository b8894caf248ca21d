"""Arrays in files: NumPy's own, and binary PGM and PPM, which Pillow cuts to 8 bits."""

from __future__ import annotations

import math
import re

import numpy as np

from evenly.measure._picture import Encoding, Input, Picture, as_grey_or_rgb, spread, without_alpha

_PNM = re.compile(rb"P([56])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s", re.DOTALL)
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def read_npy(given: Input) -> Picture:
    """Read an array; one of Python objects is refused, since loading it can execute code."""
    version = np.lib.format.read_magic(given.file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(given.file)
    if dtype.hasobject or dtype.kind not in "buif":
        raise given.broken(f"an array of type {dtype}, expected integers or floats")
    if len(shape) not in (2, 3) or (len(shape) == 3 and not 1 <= shape[2] <= 4):
        raise given.broken(f"an array of shape {shape} is no picture, expected (H, W), (H, W, 1), (H, W, 3)")
    given.check_size(shape[1], shape[0])
    needed, there = math.prod(shape) * dtype.itemsize, given.size - given.file.tell()
    if there < needed:
        raise given.broken(f"an array of shape {shape} that needs {needed} bytes and has {there}")
    pixels = np.empty(math.prod(shape), dtype)
    given.fill(pixels)
    pixels = pixels.reshape(shape[::-1]).T if fortran else pixels.reshape(shape)
    channels = 1 if len(shape) == 2 else shape[2]
    notes: list[str] = []
    pixels = as_grey_or_rgb(given, without_alpha(pixels, notes))
    return Picture(pixels, Encoding("NPY", 8 * dtype.itemsize, _MODES[channels], None, False, tuple(notes)))


def read_pnm(given: Input) -> Picture:
    """Read a binary PGM or PPM; whatever else begins with P is Pillow's."""
    header = _PNM.match(given.head)
    if header is None:
        from evenly.measure._pillow import read_with_pillow

        return read_with_pillow(given, "PPM")
    channels = 3 if header[1] == b"6" else 1
    width, height, most = int(header[2]), int(header[3]), int(header[4])
    given.check_size(width, height)
    if not 1 <= most <= 65535:
        raise given.broken(f"says that its largest value is {most}, expected 1 to 65535")
    dtype = np.dtype(np.uint8 if most < 256 else ">u2")
    shape = (height, width, 3)[: 2 + (channels == 3)]
    if given.size - header.end() < math.prod(shape) * dtype.itemsize:
        raise given.broken(f"{width} x {height} pixels do not fit into {given.size} bytes")
    pixels = np.empty(shape, dtype)
    given.file.seek(header.end())
    given.fill(pixels)
    notes: list[str] = []
    pixels = spread(as_grey_or_rgb(given, pixels), most, notes)
    return Picture(pixels, Encoding("PPM", most.bit_length(), _MODES[channels], False, False, tuple(notes)))
