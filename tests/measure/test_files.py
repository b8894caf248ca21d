"""Reading pictures: real files of every kind, and files that nobody should believe."""

from __future__ import annotations

import io
import logging
import os
import struct
import subprocess
import sys
import zlib
from functools import cache

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evenly.errors import EvenlyError, SignalError, TooLargeError, UnreadableError
from evenly.measure.files import MAX_PIXELS, Picture, read_picture

PROVE = os.environ.get("EVENLY_PROVE") == "1"
HEIGHT, WIDTH = 48, 40


def colours(seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.sin(x / 5)[..., None] * 60 + np.cos(y / 7)[..., None] * [50, 30, 20] + 128
    return (waves + np.random.default_rng(seed).normal(0, 6, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)


RGB = colours()
GREY = RGB[..., 0]
DEEP = RGB.astype(np.uint16) * 257 + np.arange(WIDTH, dtype=np.uint16)[None, :, None]
ALPHA = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
RGBA = np.dstack([RGB, ALPHA])


def pillow(pixels, format, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def tiff(pixels, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def npy(pixels) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def turned(format, **options) -> bytes:
    """A picture, and a second frame that is another."""
    return pillow(RGB, format, save_all=True, append_images=[Image.fromarray(RGB[::-1])], **options)


@cache
def exact() -> dict[str, tuple[bytes, np.ndarray, str, int, str]]:
    """Files that give back exactly what was stored: content, pixels, format, bits, mode."""
    paletted = Image.fromarray(RGB).quantize(16)
    looked_up = np.asarray(paletted.convert("RGB"))
    one_bit = Image.fromarray(GREY).convert("1")
    black_white = np.asarray(one_bit).astype(np.uint8) * 255
    ink = Image.fromarray(RGB).convert("CMYK")
    return {
        "grey.png": (pillow(GREY, "PNG"), GREY, "PNG", 8, "L"),
        "1bit.png": (pillow(one_bit, "PNG"), black_white, "PNG", 1, "1"),
        "rgb.png": (pillow(RGB, "PNG"), RGB, "PNG", 8, "RGB"),
        "rgba.png": (pillow(RGBA, "PNG"), RGB, "PNG", 8, "RGBA"),
        "la.png": (pillow(np.dstack([GREY, ALPHA]), "PNG"), GREY, "PNG", 8, "LA"),
        "palette.png": (pillow(paletted, "PNG"), looked_up, "PNG", 4, "P"),
        "transparent.png": (pillow(paletted, "PNG", transparency=3), looked_up, "PNG", 4, "PA"),
        "grey16.png": (pillow(DEEP[..., 0], "PNG"), DEEP[..., 0], "PNG", 16, "L"),
        "rgb16.png": (imagecodecs.png_encode(DEEP), DEEP, "PNG", 16, "RGB"),
        "rgba16.png": (imagecodecs.png_encode(np.dstack([DEEP, DEEP[..., 0]])), DEEP, "PNG", 16, "RGBA"),
        "animated.png": (turned("PNG"), RGB, "PNG", 8, "RGB"),
        "rgb.webp": (pillow(RGB, "WEBP", lossless=True), RGB, "WEBP", 8, "RGB"),
        "rgba.webp": (pillow(RGBA, "WEBP", lossless=True, exact=True), RGB, "WEBP", 8, "RGBA"),
        "animated.webp": (turned("WEBP", lossless=True), RGB, "WEBP", 8, "RGB"),
        "palette.gif": (pillow(paletted, "GIF"), looked_up, "GIF", 8, "P"),
        "rgb.bmp": (pillow(RGB, "BMP"), RGB, "BMP", 8, "RGB"),
        "palette.bmp": (pillow(paletted, "BMP"), looked_up, "BMP", 8, "P"),
        "1bit.bmp": (pillow(one_bit, "BMP"), black_white, "BMP", 1, "1"),
        "rgb.ppm": (pillow(RGB, "PPM"), RGB, "PPM", 8, "RGB"),
        "grey.pgm": (pillow(GREY, "PPM"), GREY, "PPM", 8, "L"),
        "1bit.pbm": (pillow(one_bit, "PPM"), black_white, "PPM", 1, "1"),
        "rgb16.ppm": (
            b"P6 # made\n%d %d\n65535\n" % (WIDTH, HEIGHT) + DEEP.astype(">u2").tobytes(),
            DEEP,
            "PPM",
            16,
            "RGB",
        ),
        "float.pfm": (pillow(Image.fromarray(GREY / np.float32(255)), "PPM"), GREY / np.float32(255), "PPM", 32, "F"),
        "rgb.jp2": (pillow(RGB, "JPEG2000"), RGB, "JPEG2000", 8, "RGB"),
        "rgb16.j2k": (imagecodecs.jpeg2k_encode(DEEP, level=0), DEEP, "JPEG2000", 16, "RGB"),
        "rgb.qoi": (pillow(RGB, "QOI"), RGB, "QOI", 8, "RGB"),
        "rgb.npy": (npy(RGB), RGB, "NPY", 8, "RGB"),
        "rgba.npy": (npy(RGBA), RGB, "NPY", 8, "RGBA"),
        "columns.npy": (npy(np.asfortranarray(RGB / 255)), RGB / 255, "NPY", 64, "RGB"),
        "swapped.npy": (npy(DEEP[..., :1].astype(">u2")), DEEP[..., 0], "NPY", 16, "L"),
        "rgb.tif": (tiff(RGB, photometric="rgb"), RGB, "TIFF", 8, "RGB"),
        "motorola.tif": (tiff(DEEP, photometric="rgb", byteorder=">"), DEEP, "TIFF", 16, "RGB"),
        "large.tif": (tiff(DEEP, photometric="rgb", bigtiff=True, compression="zlib"), DEEP, "TIFF", 16, "RGB"),
        "lzw.tif": (tiff(DEEP, photometric="rgb", compression="lzw", predictor=True), DEEP, "TIFF", 16, "RGB"),
        "strips.tif": (tiff(RGB, photometric="rgb", compression="zlib", rowsperstrip=5), RGB, "TIFF", 8, "RGB"),
        "tiles.tif": (tiff(RGB, photometric="rgb", tile=(16, 32), compression="packbits"), RGB, "TIFF", 8, "RGB"),
        "planes.tif": (
            *(tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"), RGB),
            *("TIFF", 8, "RGB"),
        ),
        "rgba.tif": (tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"]), RGB, "TIFF", 8, "RGB"),
        "float.tif": (tiff(GREY / np.float32(255)), GREY / np.float32(255), "TIFF", 32, "L"),
        "pages.tif": (tiff(np.stack([RGB, RGB[::-1]]), photometric="rgb"), RGB, "TIFF", 8, "RGB"),
        "palette.tif": (pillow(paletted, "TIFF"), looked_up, "TIFF", 8, "P"),
        "fax.tif": (pillow(one_bit, "TIFF", compression="group4"), black_white, "TIFF", 1, "L"),
        "pillow.tif": (pillow(RGB, "TIFF", compression="tiff_lzw"), RGB, "TIFF", 8, "RGB"),
        "ink.tif": (pillow(ink, "TIFF"), np.asarray(ink.convert("RGB")), "TIFF", 8, "CMYK"),
    }


@cache
def lossy() -> dict[str, tuple[bytes, bool]]:
    """Files that lost something: content, and whether colours were stored at fewer pixels."""
    ink = Image.fromarray(RGB).convert("CMYK")
    return {
        "420.jpg": (pillow(RGB, "JPEG", quality=95, subsampling="4:2:0"), True),
        "422.jpg": (pillow(RGB, "JPEG", quality=95, subsampling="4:2:2"), True),
        "444.jpg": (pillow(RGB, "JPEG", quality=95, subsampling="4:4:4"), False),
        "progressive.jpg": (pillow(RGB, "JPEG", quality=95, progressive=True, subsampling="4:4:4"), False),
        "grey.jpg": (pillow(GREY, "JPEG", quality=95), False),
        "ink.jpg": (pillow(ink, "JPEG", quality=95), False),
        "12bit.jpg": (imagecodecs.jpeg_encode(RGB.astype(np.uint16) * 16, level=95, bitspersample=12), True),
        "rgb.webp": (pillow(RGB, "WEBP", quality=95), True),
        "animated.webp": (turned("WEBP", quality=95), True),
        "jpeg.tif": (tiff(RGB, compression="jpeg", compressionargs={"level": 95}), True),
        "rgb.jp2": (pillow(RGB, "JPEG2000", irreversible=True, quality_layers=[4]), False),
        "420.avif": (pillow(RGB, "AVIF", quality=95, subsampling="4:2:0"), True),
        "444.avif": (pillow(RGB, "AVIF", quality=95, subsampling="4:4:4"), False),
        "10bit.avif": (imagecodecs.avif_encode(RGB.astype(np.uint16) * 4, bitspersample=10, level=95), False),
    }


def contents() -> dict[str, bytes]:
    return {name: found[0] for name, found in (exact() | lossy()).items()}


@pytest.mark.parametrize("name", exact())
def test_stored_pixels_are_read_exactly(name):
    content, pixels, format, bits, mode = exact()[name]
    picture = read_picture(content, name=name)
    assert picture.pixels.dtype == pixels.dtype
    assert picture.pixels.dtype.isnative
    if mode == "CMYK":  # two ways of rounding
        assert np.abs(picture.pixels.astype(int) - pixels).max() <= 1
    else:
        np.testing.assert_array_equal(picture.pixels, pixels)
    encoding = picture.encoding
    assert (encoding.format, encoding.bits, encoding.mode, encoding.lossy) == (format, bits, mode, False)
    assert not encoding.chroma_subsampled
    notes = " ".join(encoding.notes)
    assert ("alpha" in notes) == ("rgba" in name or name in ("la.png", "transparent.png"))
    assert ("first" in notes or "default" in notes) == (name.startswith("animated") or name == "pages.tif")


@pytest.mark.parametrize("name", lossy())
def test_what_is_lossy_says_so(name):
    content, subsampled = lossy()[name]
    picture = read_picture(content)
    assert picture.encoding.lossy
    assert picture.encoding.chroma_subsampled is subsampled
    pixels = picture.pixels / (257 if picture.pixels.dtype == np.uint16 else 1)
    assert np.abs(pixels - (GREY if "grey" in name else RGB)).mean() < 8
    assert picture.pixels.dtype == (np.uint16 if "bit" in name else np.uint8)
    assert ("CMYK was converted" in " ".join(picture.encoding.notes)) == ("ink" in name)


def test_jpegs_are_decoded_as_by_pillow():
    for name in ("420.jpg", "422.jpg", "444.jpg", "progressive.jpg", "grey.jpg"):
        content = lossy()[name][0]
        np.testing.assert_array_equal(read_picture(content).pixels, np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("most", [15, 255, 1023, 4095, 65535])
def test_fewer_levels_fill_their_type(most):
    dtype = np.uint8 if most < 256 else np.dtype(">u2")
    stored = (np.arange(12).reshape(3, 4) * (most // 11)).astype(dtype)
    picture = read_picture(b"P5 4 3 %d\n" % most + stored.tobytes())
    full = np.iinfo(picture.pixels.dtype).max
    np.testing.assert_allclose(picture.pixels / full, stored / most, atol=2 / most)
    assert bool(picture.encoding.notes) == (full // most > 1)


def test_exif_rotation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = read_picture(pillow(RGB, "JPEG", exif=exif))
    assert picture.pixels.shape == RGB.shape
    assert picture.encoding.notes == ("EXIF orientation 6 was not applied: the stored pixels were measured",)


def test_paths_contents_and_files(tmp_path):
    path = tmp_path / "mislabelled.jpg"  # content counts, not the name
    path.write_bytes(exact()["rgb.png"][0])
    with path.open("rb") as file:
        file.seek(5)
        for source in (path, str(path), path.read_bytes(), memoryview(path.read_bytes()), file):
            picture = read_picture(source)
            assert picture.encoding.format == "PNG"
            np.testing.assert_array_equal(picture.pixels, RGB)
        assert not file.closed
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:  # cannot seek
        with os.fdopen(writing, "wb") as file:
            file.write(exact()["rgb.png"][0])
        np.testing.assert_array_equal(read_picture(stream).pixels, RGB)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1)])
def test_tiny_pictures(format, shape):
    assert read_picture(pillow(np.full(shape, 77, np.uint8), format)).pixels.shape[:2] == shape


# --------------------------------------------------------------------------------------------------------- bad files


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is a text")
    for name, reason in {
        "": "a folder",
        "pipe.png": "no regular file",
        "missing.png": "No such file",
        "empty.png": "empty",
        "text.png": "is none of PNG, JPEG",
    }.items():
        with pytest.raises(UnreadableError, match=reason) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_sources_that_fail_to_read():
    class Remote(io.BytesIO):
        def seek(self, *args):
            raise RuntimeError("connection\nlost")

    with pytest.raises(UnreadableError, match=r"far: cannot be read as a picture \(connection lost\)"):
        read_picture(Remote(b"1234"), name="far")
    with pytest.raises(UnreadableError, match="null"):
        read_picture("a\0b.png")
    with pytest.raises(AttributeError):
        read_picture(5)


def attempt(content: bytes) -> Picture | None:
    """The picture, or nothing after one clear error."""
    try:
        return read_picture(content, name="bad", max_pixels=10**6)
    except SignalError as error:
        message = str(error)
    assert message.startswith("bad: ")
    assert "\n" not in message
    return None


@pytest.mark.parametrize("name", contents())
def test_truncated_files_are_never_read_as_half_a_picture(name):
    content = contents()[name]
    whole = read_picture(content)
    cuts = [len(content) * tenth // 10 for tenth in range(10)] + [len(content) - n for n in (1, 2, 4, 12)]
    refused = 0
    for cut in cuts:
        picture = attempt(content[:cut])
        if picture is None:
            refused += 1
        else:  # what is missing came after the pixels of the first frame
            np.testing.assert_array_equal(picture.pixels, whole.pixels)
    assert refused >= 5


@given(
    st.sampled_from(sorted(contents())),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from([120, 10**9]),
)
def test_damaged_files_give_a_picture_or_one_clear_error(name, changes, within):
    content = bytearray(contents()[name])
    for place, byte in changes:
        content[int(place * min(within, len(content)))] = byte
    picture = attempt(bytes(content))
    if picture is not None:
        assert picture.pixels.ndim in (2, 3)
        assert picture.pixels.size <= 3 * 10**6


@given(st.binary(max_size=200), st.sampled_from(sorted(contents())), st.integers(0, 64))
def test_junk_behind_a_beginning(junk, name, length):
    attempt(contents()[name][:length] + junk)


@pytest.mark.parametrize("kind", ["png", "tif", "jpg"])
def test_libraries_print_nothing_about_damaged_files(kind):
    damaged = {
        "png": pillow(RGB, "PNG", icc_profile=b"none" * 40),
        "tif": exact()["pillow.tif"][0][:-2],
        "jpg": lossy()["420.jpg"][0][:-30],
    }[kind]
    code = (
        "import sys, warnings; warnings.simplefilter('error'); from evenly.measure.files import read_picture\n"
        "try: read_picture(sys.stdin.buffer.read())\nexcept Exception as e: print(type(e).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=damaged, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    assert done.stdout.strip() == (b"" if kind == "png" else b"UnreadableError")
    assert all(isinstance(h, logging.NullHandler) for h in logging.getLogger("tifffile").handlers)


# -------------------------------------------------------------------------------------------------------------- bombs


def png_claiming(width: int, height: int, chunks: bytes = b"", depth: int = 8) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def claiming(name: str, width: int, height: int) -> bytes:
    """A small file that says that it is large."""
    content = bytearray(contents()[name])
    little, big = (
        struct.pack("<HH", width & 0xFFFF, height & 0xFFFF),
        struct.pack(">HH", height & 0xFFFF, width & 0xFFFF),
    )
    if name.endswith(".jpg"):
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = big
    elif name.endswith(".gif"):
        content[6:10] = little
        at = content.index(b"\x2c\0\0\0\0") + 5
        content[at : at + 4] = little
    elif name.endswith(".bmp"):
        content[18:26] = struct.pack("<ii", width, height)
    elif name.endswith(".qoi"):
        content[4:12] = struct.pack(">II", width, height)
    elif name.endswith(".webp"):
        content[21:25] = struct.pack("<I", (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14)
    elif name.endswith(".jp2"):
        at = content.index(b"\xff\x4f\xff\x51") + 8
        content[at : at + 8] = struct.pack(">II", width, height)
    elif name.endswith(".avif"):
        at = content.index(b"ispe") + 8
        content[at : at + 8] = struct.pack(">II", width, height)
    return bytes(content)


BOMBS = {
    "png": lambda: png_claiming(60_000, 60_000),
    "ppm": lambda: b"P6 99999 99999 255\n",
    "npy": lambda: npy(np.zeros((2, 2))).replace(b"(2, 2), }" + b" " * 14, b"(2000000000, 2000000000), }"[:23]),
    "tif": lambda: tiff(np.zeros((2, 2), np.uint8)).replace(
        struct.pack("<HHII", 256, 4, 1, 2), struct.pack("<HHII", 256, 4, 1, 4_000_000_000)
    ),
    **{
        name: lambda name=name: claiming(name, 16_000, 16_000)
        for name in ("444.jpg", "palette.gif", "rgb.bmp", "rgb.qoi", "rgb.jp2", "420.avif")
    },
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_take_memory(name):
    content = BOMBS[name]()
    assert len(content) < 20_000
    with pytest.raises(EvenlyError, match="bomb: ") as caught:
        read_picture(content, name="bomb")
    if name != "npy":
        assert isinstance(caught.value, TooLargeError)
        assert "megapixels" in str(caught.value)


def test_the_most_pixels_can_be_set():
    content = exact()["rgb.png"][0]
    assert read_picture(content, max_pixels=HEIGHT * WIDTH).pixels.shape == RGB.shape
    with pytest.raises(TooLargeError, match=f"{WIDTH} x {HEIGHT} pixels"):
        read_picture(content, max_pixels=HEIGHT * WIDTH - 1)


def test_sizes_that_the_file_cannot_hold():
    for content in (
        b"P6 5000 5000 255\n" + bytes(100),
        npy(np.zeros((9, 9)))[:-8],
        tiff(np.zeros((90, 90), np.uint8))[:-8000],
        png_claiming(9000, 9000),
    ):
        with pytest.raises(UnreadableError):
            read_picture(content)


def test_arrays_of_objects_are_never_unpickled():
    file = io.BytesIO()
    np.save(file, np.array([[print]], object), allow_pickle=True)
    with pytest.raises(UnreadableError, match="type object"):
        read_picture(file.getvalue())


@pytest.mark.parametrize("shape", [(5,), (4, 5, 6), (2, 4, 5, 3), (0, 5)])
def test_arrays_that_are_no_pictures(shape):
    with pytest.raises(UnreadableError):
        read_picture(npy(np.zeros(shape)))


@pytest.mark.parametrize("pixels", [np.zeros((9, 9, 5), np.uint8), np.zeros((9, 9), np.complex64)])
def test_tiffs_that_are_no_pictures(pixels):
    with pytest.raises(UnreadableError):
        read_picture(tiff(pixels, photometric="minisblack", planarconfig="contig" if pixels.ndim == 3 else None))


def test_a_text_that_unpacks_to_much_does_not():
    text = b"key\0\0" + zlib.compress(bytes(200_000_000))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    content = exact()["rgb.png"][0]
    content = content[:33] + chunk + content[33:]
    assert peak(content) < 150
    np.testing.assert_array_equal(read_picture(content).pixels, RGB)


def test_a_jpeg_of_endless_scans():
    content = lossy()["444.jpg"][0]
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    with pytest.raises(UnreadableError, match="scans"):
        read_picture(content[:-2] + scan * 501 + b"\xff\xd9")


def test_a_tiff_whose_pages_go_round():
    content = bytearray(exact()["rgb.tif"][0])
    start = struct.unpack_from("<I", content, 4)[0]
    end = start + 2 + 12 * struct.unpack_from("<H", content, start)[0]
    content[end : end + 4] = struct.pack("<I", start)
    np.testing.assert_array_equal(read_picture(bytes(content)).pixels, RGB)


def peak(content: bytes) -> float:
    """MiB that reading takes at most, over what the interpreter and the libraries take."""
    code = (
        "import sys, resource, warnings; warnings.simplefilter('error')\n"
        "from evenly.measure.files import read_picture\n"
        "import imagecodecs, tifffile, io, numpy as np\n"
        "for c in (imagecodecs.png_encode, imagecodecs.jpeg_encode, imagecodecs.webp_encode):\n"
        "    read_picture(c(np.zeros((9, 9, 3), np.uint8)))\n"
        "file = io.BytesIO(); tifffile.imwrite(file, np.zeros((9, 9, 3), np.uint8)); read_picture(file.getvalue())\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "read_picture(sys.argv[1])\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        done = subprocess.run([sys.executable, "-c", code, file.name], capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return float(done.stdout)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "PPM", "NPY", "TIFF", "BMP"])
def test_reading_takes_little_more_memory_than_the_picture(format):
    side = 4500 if PROVE else 2500
    pixels = np.tile(RGB, (side // HEIGHT, side // WIDTH, 1))
    size = pixels.nbytes / 2**20
    if format == "NPY":
        content = npy(pixels)
    elif format == "TIFF":
        content = tiff(pixels, photometric="rgb", compression="zlib", rowsperstrip=64)
    else:
        content = pillow(pixels, format, **({"compress_level": 1} if format == "PNG" else {}))
    bound = {"PPM": 1.2, "NPY": 1.2, "BMP": 2.5}.get(format, 2.0)  # Pillow holds 4 bytes for each pixel of a BMP
    assert peak(content) < bound * size + 16


@pytest.mark.skipif(not PROVE, reason="a picture of 90 megapixels")
def test_pictures_between_pillows_warning_and_our_bound_are_read_quietly():
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < 9700**2 < MAX_PIXELS
    image = Image.new("P", (9700, 9700))
    image.putpalette([10, 20, 30])
    for format in ("PNG", "GIF", "BMP", "TIFF"):
        picture = read_picture(pillow(image, format))  # warnings are errors here
        assert picture.pixels.shape == (9700, 9700, 3)
        assert (picture.pixels[::97, ::97] == [10, 20, 30]).all()
        del picture
