"""What the user named, as files one after the other: folders, globs, tar shards, URIs.

Sources come lazily and in the same order every time: targets as given, within each by name, members of a shard as they
lie in it. What cannot be read is a :class:`~evenly.measure.result.Failure` at its place; the rest goes on.

Each file comes once. Files that are named are left out where a folder or pattern finds them again, and every folder is
walked once, whatever links lead to it. So memory holds the folders (not their files), the names in the folder at hand,
and, if there are several targets, about 200 bytes for each file of a pattern. Two links to one file outside of all
targets are two sources, and so are two members of one name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from evenly.errors import UsageError
from evenly.measure._finding import MAGIC, Search, find_glob, find_path
from evenly.measure._source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.measure._remote import Remote
    from evenly.measure.result import Failure

__all__ = ["EXTENSIONS", "Source", "find_sources"]

EXTENSIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "image": frozenset(
            {
                *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".gif", ".bmp"),
                *(".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".avif", ".qoi", ".npy"),
            }
        ),
        "audio": frozenset(
            {
                *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".w64", ".caf"),
                ".mp3",
            }
        ),
    }
)
"""Endings of names that are looked for in folders, patterns and shards; a file that is named is always tried."""

_MOST_NAMED = 5


def find_sources(
    targets: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    kind: Literal["image", "audio"] = "image",
    *,
    ignored: Callable[[str], None] | None = None,
) -> Iterator[Source | Failure]:
    """Find files.

    Args:
        targets: Files, folders, patterns (``photos/**/*.png``), tar shards (``.tar``, ``.tar.gz``, ``.tar.bz2``,
            ``.tar.xz``, ``.tar.zst``), URIs that fsspec knows (``s3://bucket/folder``, ``zip://*.png::file.zip``).
        kind: What is looked for in folders.
        ignored: Called with the name of each file that was left out because it is of another kind; hidden files are
            not counted.

    Returns:
        Sources, and failures where something cannot be read.

    Raises:
        UsageError: At once, if a target is not there; at the end, if there was nothing at all.
        MissingDependencyError: If a URI needs a package that is not installed.
    """
    if kind not in EXTENSIONS:
        raise UsageError(f"kind (={kind!r}) must be 'image' or 'audio'")
    given = [os.fspath(t) for t in ([targets] if isinstance(targets, str | os.PathLike) else targets)]
    if not given:
        raise UsageError("no files were named; expected files, folders, patterns, tar shards or URIs")
    search = Search(EXTENSIONS[kind], ignored, remember=len(given) > 1)
    return _found(_checked(given, search), given, search, kind)


def _checked(given: list[str], search: Search) -> list[tuple[str, Remote | None]]:
    """The targets, each once; files among them are marked as known.

    Raises:
        UsageError: If one is not there.
    """
    known: list[tuple[str, Remote | None]] = []
    missing = []
    for target in given:
        path = _local(target)
        if path is None:
            from evenly.measure._remote import Remote

            remote = Remote(target)
            key: tuple[object, object] | None = remote.key(remote.path) if remote.is_file else None
        else:
            target, remote, key = path, None, None
            if os.path.lexists(path):
                key = _file_key(path)
            elif not MAGIC.search(path):
                missing.append(target)
        if key is None or key not in search.files:
            known.append((target, remote))
        if key is not None:
            search.files.add(key)
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise UsageError(f"{', '.join(missing[:_MOST_NAMED])}{more}: not there; check the path")
    return known


def _local(target: str) -> str | None:
    """The path on this machine that a target means; ``None`` if it is a URI of another kind."""
    scheme, colon, rest = target.partition("://")
    if not colon:
        return target
    if scheme not in ("file", "local") or "::" in target:
        return None
    return unquote(urlsplit(target).path) if "%" in rest else rest


def _file_key(path: str) -> tuple[object, object] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return None if os.path.isdir(path) else (info.st_dev, info.st_ino)


def _found(
    targets: list[tuple[str, Remote | None]], given: list[str], search: Search, kind: str
) -> Iterator[Source | Failure]:
    empty = True
    for target, remote in targets:
        if remote is not None:
            items = remote.find(search)
        else:
            items = (find_path if os.path.lexists(target) else find_glob)(search, target)
        for item in items:
            empty = False
            yield item
    if empty:
        left = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in search.left_out.most_common(5))
        what = {"image": "pictures", "audio": "recordings"}[kind]
        raise UsageError(
            f"{', '.join(given[:_MOST_NAMED])}: no {what} there"
            + (f", only other files ({left})" if left else "")
            + f"; expected files, or folders and archives with some ({' '.join(sorted(EXTENSIONS[kind]))})"
        )
