"""Pictures from files: by content, not by name; the stored pixels, whole or not at all.

Sizes are checked from the header, before anything is allocated. Whatever a decoder raises becomes one clear error.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from evenly.errors import EvenlyError, MissingDependencyError, TooLargeError, UnreadableError
from evenly.measure._arrays import read_npy, read_pnm
from evenly.measure._codecs import read_jpeg, read_png, read_webp
from evenly.measure._modern import read_avif, read_jpeg2000
from evenly.measure._picture import SPARE_BYTES, Encoding, Input, Picture
from evenly.measure._pillow import read_with_pillow
from evenly.measure._tiff import read_tiff

if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAX_PIXELS", "Encoding", "Picture", "read_picture"]

MAX_PIXELS = 100_000_000
"""Most pixels of a picture that is read, unless told otherwise."""

_FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[Input], Picture]], ...] = (
    ("PNG", lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), read_png),
    ("JPEG", lambda head: head.startswith(b"\xff\xd8\xff"), read_jpeg),
    ("WebP", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", read_webp),
    ("TIFF", lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), read_tiff),
    ("GIF", lambda head: head[:6] in (b"GIF87a", b"GIF89a"), partial(read_with_pillow, format="GIF")),
    ("BMP", lambda head: head.startswith(b"BM"), partial(read_with_pillow, format="BMP")),
    ("PPM", lambda head: head[:1] == b"P" and head[1:2] in b"1234567f" and head[2:3].isspace(), read_pnm),
    ("NPY", lambda head: head.startswith(b"\x93NUMPY"), read_npy),
    (
        "JPEG 2000",
        lambda head: head.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")),
        read_jpeg2000,
    ),
    (
        "AVIF",
        lambda head: head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"mif1"),
        read_avif,
    ),
    ("QOI", lambda head: head.startswith(b"qoif"), partial(read_with_pillow, format="QOI")),
)


def read_picture(
    source: str | os.PathLike[str] | bytes | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Read a picture.

    The stored pixels are what counts: EXIF rotation is not applied, alpha is dropped, of an animation the first frame
    is read, a palette is looked up; notes in the encoding say so.

    Args:
        source: Path, content, or a binary file, which stays open.
        name: For people; the path unless given.
        max_pixels: Most pixels.

    Returns:
        Pixels of shape (H, W) or (H, W, 3), in the depth as stored, and how they were stored.

    Raises:
        UnreadableError: If it is missing, damaged, not whole, or of no known format.
        TooLargeError: If it has more pixels than ``max_pixels``, or does not fit in memory.
        MissingDependencyError: If the extra ``images`` is not installed.
    """
    label = name or (os.fspath(source) if isinstance(source, str | os.PathLike) else "the picture")
    with _one_error(label), _opened(source, label, max_pixels) as file:
        given = Input(file, label, max_pixels)
        if not given.size:
            raise UnreadableError(f"{label}: is empty (0 bytes); expected a picture")
        for format, matches, read in _FORMATS:
            if matches(given.head):
                with _one_error(label, format):
                    return read(given)
        raise UnreadableError(
            f"{label}: is none of {', '.join(format for format, *_ in _FORMATS)} (it begins with {given.head[:8]!r}); "
            "convert it to one of these"
        )


@contextmanager
def _opened(source: Any, label: str, max_pixels: int) -> Iterator[BinaryIO]:
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        kind = Path(source).stat().st_mode
        if not stat.S_ISREG(kind):  # a pipe would block, a device never end
            raise UnreadableError(
                f"{label}: {'a folder' if stat.S_ISDIR(kind) else 'no regular file'}; expected a file"
            )
        with open(source, "rb") as file:
            yield file
    elif source.seekable():
        yield source
    else:
        most = 8 * max_pixels + SPARE_BYTES
        content = source.read(most + 1)
        if len(content) > most:
            raise TooLargeError(f"{label}: a stream of more than {most} bytes; give a file")
        yield io.BytesIO(content)


@contextmanager
def _one_error(label: str, format: str | None = None) -> Iterator[None]:
    """Decoders raise what they like; people get one line."""
    try:
        yield
    except EvenlyError:
        raise
    except MemoryError as error:
        raise TooLargeError(f"{label}: does not fit in memory; measure it on a larger machine, or crop it") from error
    except ImportError as error:
        raise MissingDependencyError(
            f"{label}: reading it needs {error.name or 'more packages'}; install them with pip install 'evenly[images]'"
        ) from error
    except OSError as error:
        if format is None:
            raise UnreadableError(f"{label}: {error.strerror or error}; check the path and its permissions") from error
        raise _damaged(label, format, error) from error
    except Exception as error:  # struct.error, SyntaxError, zlib.error, codecs' own: no list would be complete
        if format is None and isinstance(error, TypeError | AttributeError):  # the source is nothing to read from
            raise
        raise _damaged(label, format or "a picture", error) from error


def _damaged(label: str, format: str, error: Exception) -> UnreadableError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UnreadableError(
        f"{label}: cannot be read as {format} ({reason}); the file is damaged or incomplete: copy or save it again"
    )
