"""Files under what the user named, on this machine: folders, globs and links, each file once."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import translate

from evenly.measure._shards import compression_of, printable, shard_members
from evenly.measure._source import Place, Source, stamp_of
from evenly.measure.result import Failure

Found = Iterator[Source | Failure]
MAGIC = re.compile(r"[*?[]")
_MOST_ENDINGS = 100


@dataclass
class Search:
    """What is looked for, what was left out, and what not to find again.

    Attributes:
        endings: Of names that are wanted, in lower case.
        report: Called with the names of files that are not.
        files: Known already: those that were named, and those of globs.
        folders: Known already: each is walked once.
        remember: Whether files of globs are to be remembered, because another target may name them again.
        left_out: How many files were left out by their endings.
    """

    endings: frozenset[str]
    report: Callable[[str], None] | None = None
    files: set[tuple[object, object]] = field(default_factory=set)
    folders: set[tuple[object, object]] = field(default_factory=set)
    remember: bool = False
    left_out: Counter[str] = field(default_factory=Counter)

    def is_wanted(self, name: str) -> bool:
        """Whether a file is, by its name."""
        return os.path.splitext(name)[1].lower() in self.endings

    def is_known_kind(self, name: str) -> bool:
        """Whether a file is wanted or a shard."""
        return self.is_wanted(name) or compression_of(name) is not None

    def ignore(self, name: str) -> None:
        """A file is not of the wanted kind."""
        ending = os.path.splitext(name)[1].lower()
        self.left_out[ending if ending in self.left_out or len(self.left_out) < _MOST_ENDINGS else "others"] += 1
        if self.report is not None:
            self.report(name)

    def file(self, place: Place, name: str) -> Found:
        """A file, or the members of a shard."""
        if compression_of(name) is not None:
            yield from shard_members(place, name, self.is_wanted, self.ignore)
        else:
            yield Source(name, place)


def reason_of(error: OSError) -> str:
    """Why a path cannot be used, in words."""
    if error.errno == errno.ENOENT:
        return "links to a file that is not there; remove the link or restore the file"
    if error.errno == errno.ELOOP:
        return "links that lead back to themselves; remove one of them"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "may not be read; check its permissions"
    return f"{error.strerror or error}; check the path"


def find_path(search: Search, path: str) -> Found:
    """What a path that exists names: a file is always tried, a folder is walked."""
    name = printable(path)
    try:
        info = os.stat(path)
    except OSError as error:
        yield Failure(name, reason_of(error))
        return
    if stat.S_ISDIR(info.st_mode):
        yield from walk(search, path)
    else:
        yield from search.file(Place(os.path.abspath(path), stamp=stamp_of(info)), name)


def walk(search: Search, root: str) -> Found:
    """The files of a folder and of those below it, in the order of their names.

    Hidden ones are left out. A folder that was walked already is not walked again. Of one folder at a time on the way
    down, the names are held in memory, to sort them.
    """
    way: list[tuple[tuple[object, object], str, Iterator[str]]] = []

    def enter(folder: str, info: os.stat_result) -> Found:
        key = (info.st_dev, info.st_ino)
        if any(key == above for above, *_ in way):
            yield Failure(printable(folder), "links back to a folder that it is in; remove the link")
        elif key not in search.folders:
            search.folders.add(key)
            try:
                names = _names(search, folder)
            except OSError as error:
                yield Failure(printable(folder), f"a folder that cannot be listed: {reason_of(error)}")
            else:
                way.append((key, folder, iter(names)))

    try:
        yield from enter(root, os.stat(root))
    except OSError as error:
        yield Failure(printable(root), reason_of(error))
    while way:
        _, folder, names = way[-1]
        name = next(names, None)
        if name is None:
            way.pop()
            continue
        path = os.path.join(folder, name)
        try:
            info = os.stat(path)
        except OSError as error:
            if search.is_known_kind(name) or not os.path.splitext(name)[1]:
                yield Failure(printable(path), reason_of(error))
            continue
        if stat.S_ISDIR(info.st_mode):
            yield from enter(path, info)
        elif not search.is_known_kind(name):
            search.ignore(printable(path))
        elif (info.st_dev, info.st_ino) not in search.files and not _found_elsewhere(search, path):
            yield from search.file(Place(os.path.abspath(path), stamp=stamp_of(info)), printable(path))


def _names(search: Search, folder: str) -> list[str]:
    """Sorted names in a folder that may lead to something."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if search.is_known_kind(entry.name) or entry.is_symlink() or entry.is_dir():
                names.append(entry.name)
            else:
                search.ignore(printable(entry.path))
    names.sort()
    return names


def _found_elsewhere(search: Search, path: str) -> bool:
    """Whether a link leads to a file of a folder that was walked, which was found there under its own name."""
    if not os.path.islink(path):
        return False
    real = os.path.realpath(path)
    name = os.path.basename(real)
    return not name.startswith(".") and search.is_known_kind(name) and _is_walked(search, os.path.dirname(real))


def _is_walked(search: Search, folder: str) -> bool:
    try:
        info = os.stat(folder or ".")
    except OSError:
        return False
    return (info.st_dev, info.st_ino) in search.folders


def find_glob(search: Search, pattern: str) -> Found:
    """What a pattern matches, in the order of names; ``**`` matches folders of any depth, and follows no links.

    Files are tried whatever their kind if the pattern says the ending, otherwise by their kind as in a folder.
    """
    every = not MAGIC.search(os.path.splitext(pattern)[1] or "*")
    parts = re.split(r"[/\\]", pattern)
    remember = search.remember or ".." in parts or parts.count("**") > 1  # only these match a file twice
    for path in _matches(pattern):
        try:
            info = os.stat(path)
        except OSError as error:
            yield Failure(printable(path), reason_of(error))
            continue
        name = os.path.basename(path)
        key = (info.st_dev, info.st_ino)
        if stat.S_ISDIR(info.st_mode):
            yield from walk(search, path)
        elif not (every or search.is_known_kind(name)):
            search.ignore(printable(path))
        elif key not in search.files and not (
            search.is_known_kind(name) and _is_walked(search, os.path.dirname(os.path.realpath(path)))
        ):
            if remember:
                search.files.add(key)
            yield from search.file(Place(os.path.abspath(path), stamp=stamp_of(info)), printable(path))


def _matches(pattern: str) -> Iterator[str]:
    drive, rest = os.path.splitdrive(pattern)
    parts = [part for part in rest.replace(os.sep, "/").split("/") if part]
    yield from _below(drive + (os.sep if rest.startswith(("/", os.sep)) else ""), parts)


def _below(folder: str, parts: list[str]) -> Iterator[str]:
    """Paths below a folder that match the parts, one part per level."""
    part, rest = parts[0], parts[1:]
    if not MAGIC.search(part):
        path = os.path.join(folder, part)
        if rest:
            yield from _below(path, rest)
        elif os.path.lexists(path):
            yield path
        return
    deep = part == "**"
    if deep and rest:
        yield from _below(folder, rest)
    matches = re.compile(translate("*" if deep else part)).match
    try:
        with os.scandir(folder or ".") as entries:
            names = sorted((e.name, e.is_dir(follow_symlinks=not deep)) for e in entries if matches(e.name))
    except OSError:  # not a folder, or not ours to list: it matches nothing
        return
    for name, is_folder in names:
        if name.startswith(".") and not part.startswith("."):
            continue
        path = os.path.join(folder, name)
        if deep:
            if is_folder:
                yield from _below(path, parts)
            elif not rest:
                yield path
        elif not rest:
            yield path
        elif is_folder:
            yield from _below(path, rest)
