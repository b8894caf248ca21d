"""Files behind URIs, through fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evenly.errors import EvenlyError, MissingDependencyError, UsageError
from evenly.measure._finding import MAGIC, Found, Search
from evenly.measure._shards import printable
from evenly.measure._source import Place, file_system
from evenly.measure.result import Failure


class Remote:
    """One URI.

    Args:
        uri: As the user wrote it.

    Raises:
        UsageError: If it names nothing, or no such place can be reached.
        MissingDependencyError: If the package for its protocol is not installed.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingDependencyError(
                f"{uri}: needs fsspec; install it with pip install 'evenly[images]'"
            ) from error
        try:
            self.path: str = url_to_fs(uri)[1]
            self.fs = file_system(uri)
            self.is_glob = MAGIC.search(self.path) is not None and not self.fs.exists(self.path)
            self.info: dict[str, Any] = {} if self.is_glob else self.fs.info(self.path)
        except ImportError as error:
            raise MissingDependencyError(f"{uri}: {error}; install what it names") from error
        except FileNotFoundError as error:
            raise UsageError(f"{uri}: not there; check the address") from error
        except Exception as error:  # every protocol has errors of its own
            raise UsageError(f"{uri}: cannot be reached ({_reason(error)}); check the address and access") from error

    @property
    def is_file(self) -> bool:
        """Whether it names one file."""
        return self.info.get("type") == "file"

    def key(self, path: str) -> tuple[object, object]:
        """What tells its files from all others."""
        return (self.fs._fs_token, path)

    def find(self, search: Search) -> Found:
        """What it names, in the order of names."""
        try:
            if self.is_glob:
                found = self.fs.glob(self.path, detail=True)
                for path in sorted(found):
                    yield from self._entry(search, found[path], remember=search.remember)
            elif self.is_file:
                yield from self._file(search, self.info)
            else:
                yield from self._walk(search, self.path)
        except EvenlyError:
            raise
        except Exception as error:
            yield Failure(self.uri, f"cannot be listed ({_reason(error)}); the rest of it was not measured")

    def _walk(self, search: Search, root: str) -> Found:
        way: list[Iterator[dict[str, Any]]] = [iter(self._list(search, root))]
        while way:
            info = next(way[-1], None)
            if info is None:
                way.pop()
            elif info["type"] == "directory":
                try:
                    way.append(iter(self._list(search, info["name"])))
                except Exception as error:
                    yield Failure(self._name(info["name"]), f"a folder that cannot be listed ({_reason(error)})")
            else:
                yield from self._entry(search, info)

    def _list(self, search: Search, folder: str) -> list[dict[str, Any]]:
        if self.key(folder) in search.folders:
            return []
        search.folders.add(self.key(folder))
        entries = sorted(self.fs.ls(folder, detail=True), key=lambda entry: str(entry["name"]))
        own = folder.strip("/")
        return [e for e in entries if e["name"].strip("/") != own and not _last(e["name"]).startswith(".")]

    def _entry(self, search: Search, info: dict[str, Any], *, remember: bool = False) -> Found:
        key = self.key(info["name"])
        if info["type"] == "directory":
            yield from self._walk(search, info["name"])
        elif not search.is_known_kind(info["name"]):
            search.ignore(self._name(info["name"]))
        elif key not in search.files:
            if remember:
                search.files.add(key)
            yield from self._file(search, info)

    def _file(self, search: Search, info: dict[str, Any]) -> Found:
        changed = next((info[k] for k in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(k)), "")
        place = Place(info["name"], self.uri, f"{info.get('size')} {changed}")
        yield from search.file(place, self._name(info["name"]))

    def _name(self, path: str) -> str:
        first, chained, rest = self.uri.partition("::")
        return printable(f"{first.partition('://')[0]}://{path}::{rest}" if chained else self.fs.unstrip_protocol(path))


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
