"""One row per picture, flat, as Parquet or CSV: what a table program or a data frame reads."""

from __future__ import annotations

import contextlib
import csv
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from evenly.errors import MissingDependencyError, OutputError, UsageError
from evenly.measure.result import TRACES, Failure, Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["SUFFIXES", "check_rows_file", "columns", "flat", "record", "write_rows"]

SUFFIXES = (".parquet", ".csv")
_GROUP = 4096  # rows written together
_TEXT, _WHOLE, _NUMBER = "string", "int32", "float64"
_HEAD = {
    "path": _TEXT, "width": _WHOLE, "height": _WHOLE, "verdict": _TEXT, "found": _TEXT, "cause": _TEXT, "notes": _TEXT,
    "error": _TEXT,
}  # fmt: skip


def record(item: Measurement | Failure) -> dict[str, Any]:
    """JSON form of one picture's result, or of its failure: ``path`` and ``error``."""
    return item.to_dict() if isinstance(item, Measurement) else {"path": item.path, "error": item.reason}


def columns(periods: Iterable[int]) -> dict[str, str]:
    """Names and types of all columns: ``path``, ``width``, ..., ``p2_mean_db``, ``p2_mean_p``, ``p2_mean_log10_p``, ...

    Parquet needs to know them before the first picture.
    """
    found = dict(_HEAD)
    for period in sorted(periods):
        for trace in TRACES:
            found |= {f"p{period}_{trace}_{part}": _NUMBER for part in ("db", "p", "log10_p")}
        found[f"p{period}_energy_fraction"] = _NUMBER
    return found


def flat(item: Measurement | Failure | Mapping[str, Any]) -> dict[str, Any]:
    """One row: of a measurement, a failure, or the :func:`record` of one. Columns that do not apply are missing."""
    form = record(item) if isinstance(item, Measurement | Failure) else item
    row = {name: form.get(name) for name in _HEAD}
    row["found"] = " ".join(str(p) for p in form.get("found", ())) or None
    row["notes"] = "; ".join(form.get("notes", ())) or None
    for period, values in form.get("periods", {}).items():
        row |= {f"p{period}_{name}": v for name, v in (values or {}).items() if not isinstance(v, dict)}
    return {name: _text(v) if isinstance(v, str) else v for name, v in row.items()}


def _text(text: str) -> str:
    """File names may hold bytes that are not text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_rows_file(path: str | os.PathLike[str]) -> Path:
    """The path, if rows can be written there.

    Raises:
        UsageError: If it is a folder or has another suffix than ``.parquet`` and ``.csv``.
        MissingDependencyError: If it needs pyarrow.
    """
    found = Path(path)
    if found.suffix.lower() not in SUFFIXES:
        raise UsageError(f"rows file (={found}) must end in {' or '.join(SUFFIXES)}")
    if found.is_dir():
        raise UsageError(f"rows file (={found}) is a folder; expected the name of a file")
    if found.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                f"{found}: needs pyarrow; install it with pip install 'evenly[images]', or write rows to a .csv file"
            ) from error
    return found


class _Writer(Protocol):
    def write(self, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def close(self) -> None: ...


class _Csv:
    def __init__(self, file: IO[bytes], names: Mapping[str, str]) -> None:
        import io

        self.text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self.writer = csv.DictWriter(self.text, list(names), restval="", lineterminator="\n")
        self.writer.writeheader()

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.writer.writerows(rows)

    def close(self) -> None:
        self.text.detach()


class _Parquet:
    def __init__(self, file: IO[bytes], names: Mapping[str, str]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in names.items()])
        self.table = pa.Table
        self.writer = parquet.ParquetWriter(file, self.schema)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.writer.write_table(self.table.from_pylist(list(rows), schema=self.schema))

    def close(self) -> None:
        self.writer.close()


def write_rows(path: Path, records: Iterable[Mapping[str, Any]], periods: Iterable[int]) -> None:
    """Write the rows of records, group by group: to a temporary file, which takes the name when it is whole.

    Raises:
        OutputError: If it cannot be written; no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    kind = _Csv if path.suffix.lower() == ".csv" else _Parquet
    try:
        with open(temporary, "wb") as file:
            writer: _Writer = kind(file, columns(periods))
            try:
                for group in _groups(records):
                    writer.write([flat(form) for form in group])
            finally:
                # After an error closing fails again; the first error says why.
                with contextlib.suppress(OSError):
                    writer.close()
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: rows cannot be written ({error.strerror or error}); make room there or name another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _groups(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    group: list[Mapping[str, Any]] = []
    for form in records:
        group.append(form)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group
