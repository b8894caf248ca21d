"""The members of tar shards, in one pass over their headers; members lie where the headers say, nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from evenly.measure._source import Place, Source, decompressed
from evenly.measure.result import Failure

if TYPE_CHECKING:
    from typing import BinaryIO

ENDINGS = {
    ".tar": "",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar.zst": "zst",
    ".tzst": "zst",
}
"""Compression by the ending of a shard's name."""

_MOST_HEADER = 1 << 20  # bytes: longer names or properties are no picture's
_MOST_AFTER = 1 << 24  # bytes that are looked at behind the end mark


def compression_of(name: str) -> str | None:
    """Compression of a shard by its name; ``None`` if it is none."""
    lower = name.lower()
    return next((kind for ending, kind in ENDINGS.items() if lower.endswith(ending)), None)


def shard_members(
    place: Place, name: str, wanted: Callable[[str], bool], ignore: Callable[[str], None]
) -> Iterator[Source | Failure]:
    """The members of a shard that are wanted, in its order.

    Where it is damaged there is a failure, and its listing ends. Links and devices in it are failures if their names
    are wanted: what they point to may be anywhere.

    Args:
        place: The shard.
        name: Of the shard, for people.
        wanted: Whether a member is, by its name.
        ignore: Called with the names of others.
    """
    compression = compression_of(name) or ""
    headers: _Headers | None = None
    try:
        with decompressed(place.open(), compression) as stream:
            headers = _Headers(stream)
            with tarfile.TarFile(fileobj=headers, mode="r") as tar:  # type: ignore[arg-type]
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    inner = printable(member.name.removeprefix("./"))
                    if member.isdir() or any(part.startswith(".") and part != ".." for part in inner.split("/")):
                        continue
                    shown = f"{name}/{inner}"
                    if not wanted(inner):
                        ignore(shown)
                    elif not member.isreg() or member.issparse():
                        what = "a link" if member.islnk() or member.issym() else "no regular file"
                        yield Failure(shown, f"{what} within an archive, which is not followed; store the file itself")
                    else:
                        yield Source(shown, place, name, member.offset_data, member.size, compression)
            if (trouble := headers.trouble()) is not None:
                yield Failure(name, trouble)
    except GeneratorExit:
        raise
    except Exception as error:  # tarfile's, the decompressors' and the file systems' own; the rest of the job goes on
        reason = " ".join(str(error).split()) or type(error).__name__
        if headers is None or headers.read_to <= tarfile.BLOCKSIZE:
            yield Failure(name, f"cannot be read as a tar archive ({reason}); check the file")
        else:
            yield Failure(name, f"damaged after byte {headers.read_to} ({reason}); members after it were not measured")


def printable(name: str) -> str:
    """A name whose bytes are no UTF-8 made one that can be written anywhere."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _Headers:
    """What tarfile reads from: no more at once than a header can have, and the last of it kept."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.last = b""
        self.read_to = 0

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int) -> int:
        return self._stream.seek(offset)

    def read(self, size: int) -> bytes:
        if size > _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._stream.read(size)
        self.read_to = self._stream.tell()
        return self.last

    def trouble(self) -> str | None:
        """What is wrong with the place where tarfile stopped, which it does not say."""
        if len(self.last) < tarfile.BLOCKSIZE:
            return f"ends at byte {self.read_to} without its end mark; it is incomplete: copy or make it again"
        if any(self.last):
            return f"damaged before byte {self.read_to}; members after it were not measured"
        left = _MOST_AFTER
        while left > 0 and (block := self._stream.read(min(left, _MOST_HEADER))):
            if block.count(0) < len(block):
                return f"has more after its end mark at byte {self.read_to}, which was not measured; split it there"
            left -= len(block)
        return None
