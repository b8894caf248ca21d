"""One file of a set, wherever it is: in a folder, in a tar shard, behind a URI. Cheap, and the same in any process.

A member of a shard is known by its place in it. In a plain ``.tar`` any process reads it directly. A compressed shard
can only be read from its beginning, so each thread keeps the last one open and reads on: sources of a shard that are
opened in their order decompress it once per process, and hold one member at a time. Nothing is carried in the source.
"""

from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from evenly.errors import EvenlyError, MissingDependencyError, TooLargeError, UnreadableError

if TYPE_CHECKING:
    from evenly.measure.files import Picture

MOST_MEMBER_BYTES = 2**30
"""Longest member of a compressed shard that is read: it has to be held in memory."""


@dataclass(frozen=True)
class Place:
    """A file on this machine or in a file system of fsspec.

    Attributes:
        path: Absolute path here, or within the file system.
        base: URI of the file system; ``None`` for this machine.
        stamp: What changes when the file changes: size and time.
    """

    path: str
    base: str | None = None
    stamp: str = ""

    def open(self) -> BinaryIO:
        """The file, to read and seek."""
        if self.base is None:
            file = open(self.path, "rb")  # noqa: SIM115
            return cast("BinaryIO", Window(file, 0, os.fstat(file.fileno()).st_size))
        return cast("BinaryIO", file_system(self.base).open(self.path, "rb"))

    def unchanged(self) -> bool:
        """Whether it is still what was listed; as far as that is known."""
        return self.base is not None or stamp_of(os.stat(self.path)) == self.stamp


@dataclass(frozen=True)
class Source:
    """One file of a set.

    Attributes:
        name: For people.
        place: The file, or the shard that it is in.
        shard: Name of this shard; ``None`` for files of their own.
        offset: Where it begins in the shard, decompressed.
        size: Its bytes in the shard.
        compression: Of the shard: ``gz``, ``bz2``, ``xz``, ``zst``, or nothing.
    """

    name: str
    place: Place
    shard: str | None = None
    offset: int = 0
    size: int = 0
    compression: str = ""

    @property
    def identity(self) -> str:
        """Changes when the file changes, as far as size and time tell."""
        return f"{self.name}\0{self.place.stamp}\0{self.offset}\0{self.size}"

    def open(self) -> BinaryIO:
        """The file, to read and seek; close it.

        Raises:
            UnreadableError: If it cannot be opened, or its shard has changed since it was listed.
            TooLargeError: If it is in a compressed shard and longer than a gigabyte.
        """
        try:
            if self.shard is None:
                return self.place.open()
            if not self.place.unchanged():
                raise UnreadableError(f"{self.name}: {self.shard} has changed since it was listed; start again")
            if self.compression:
                return io.BytesIO(self._sequential())
            return cast("BinaryIO", Window(self.place.open(), self.offset, self.size))
        except EvenlyError:
            raise
        except OSError as error:
            raise UnreadableError(
                f"{self.name}: {error.strerror or error}; check the path and its permissions"
            ) from error
        except Exception as error:  # file systems and decompressors have errors of their own
            raise UnreadableError(f"{self.name}: cannot be opened ({type(error).__name__}: {error})") from error

    def read_picture(self, **options: Any) -> Picture:
        """Read it as a picture; see :func:`evenly.measure.files.read_picture`."""
        from evenly.measure.files import read_picture

        with self.open() as file:
            return read_picture(file, name=self.name, **options)

    def _sequential(self) -> bytes:
        if self.size > MOST_MEMBER_BYTES:
            raise TooLargeError(
                f"{self.name}: has {self.size} bytes in a compressed archive, where at most {MOST_MEMBER_BYTES} are "
                "read; decompress the archive"
            )
        key = (self.place, self.compression, os.getpid())
        if getattr(_LAST, "key", None) != key or _LAST.stream.tell() > self.offset:
            forget_last()
            _LAST.stream, _LAST.key = decompressed(self.place.open(), self.compression), key
        try:
            _LAST.stream.seek(self.offset)
            content: bytes = _LAST.stream.read(self.size)
        except BaseException:
            forget_last()
            raise
        if len(content) < self.size:
            raise UnreadableError(
                f"{self.name}: ends after {len(content)} of {self.size} bytes; copy the archive again"
            )
        return content


_LAST = threading.local()


def forget_last() -> None:
    """Close the compressed shard that this thread keeps open."""
    if getattr(_LAST, "key", None) is not None:
        _LAST.stream.close()
    _LAST.stream = _LAST.key = None


def stamp_of(info: os.stat_result) -> str:
    """Size and time of change of a file here."""
    return f"{info.st_size} {info.st_mtime_ns}"


@lru_cache(maxsize=16)
def file_system(base: str) -> Any:
    """The file system that a URI names; kept, since some read a directory when they are made."""
    from fsspec.core import url_to_fs

    return url_to_fs(base)[0]


def decompressed(file: BinaryIO, compression: str) -> BinaryIO:
    """A file's content, to read forward; closing it closes the file."""
    if not compression:
        return file
    if compression == "zst":
        return cast("BinaryIO", io.BufferedReader(_Zstandard(file), 1 << 17))
    import bz2
    import gzip
    import lzma

    opener: Any = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}[compression]
    stream = opener(fileobj=file) if compression == "gz" else opener(file)
    return cast("BinaryIO", _Closing(stream, file))


class _Closing(io.RawIOBase):
    """A stream whose file is closed with it."""

    def __init__(self, stream: BinaryIO, file: BinaryIO) -> None:
        self._stream, self._file = stream, file

    def read(self, size: int = -1, /) -> bytes:
        return self._stream.read(size)

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream.close()
            self._file.close()


class _Zstandard(io.RawIOBase):
    """Zstandard, forward only."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow
        except ImportError as error:
            raise MissingDependencyError(
                "reading .tar.zst needs pyarrow; install it with pip install 'evenly[images]'"
            ) from error
        self._file, self._at = file, 0
        self._stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence != 0 or offset < self._at:
            raise io.UnsupportedOperation("a compressed stream is read forward")
        while self._at < offset and (data := self._stream.read(min(offset - self._at, 1 << 20))):
            self._at += len(data)
        return self._at

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream.close()
            self._file.close()


class Window(io.RawIOBase):
    """A part of a file. It closes the file with itself, also when it is only forgotten."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._at)]
        self._file.seek(self._start + self._at)
        count: int = self._file.readinto(view)  # type: ignore[attr-defined]
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()
