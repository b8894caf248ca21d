"""Results as they stand on disk: frozen, read back with errors that name the file; what all of them say together."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from evenly.errors import FormatError, ParameterError
from evenly.reproduce.claims import CLAIMS
from evenly.reproduce.registry import EXPERIMENTS
from evenly.reproduce.result import (
    FORMAT_VERSION,
    Answer,
    Architecture,
    Effect,
    Finding,
    Part,
    Plot,
    Series,
    Table,
    answer,
)

__all__ = [
    "Claim",
    "Exhibit",
    "PictureFile",
    "RecordingFile",
    "Reproduction",
    "RowFiles",
    "Written",
    "read_result",
    "read_results",
]

T = TypeVar("T")


@dataclass(frozen=True)
class PictureFile:
    """A picture of a row.

    Attributes:
        caption: What it is.
        file: Where it is, relative to the folder of the results.
        width, height: In pixels.
    """

    caption: str
    file: str
    width: int
    height: int


@dataclass(frozen=True)
class RowFiles:
    """Pictures side by side, see :class:`evenly.reproduce.result.Row`."""

    title: str
    pictures: tuple[PictureFile, ...]
    note: str = ""


@dataclass(frozen=True)
class RecordingFile:
    """A sound, see :class:`evenly.reproduce.result.Recording`; `seconds` long."""

    title: str
    file: str
    rate: int
    seconds: float
    note: str = ""


Exhibit = Table | Plot | RowFiles | RecordingFile | Architecture


@dataclass(frozen=True)
class Written:
    """An experiment's result as it was written.

    Attributes:
        name, title, source: Of the experiment.
        scale: How much was done: ``smoke``, ``small`` or ``full``.
        seeds: Seeds.
        data: Name, description, limits and digest (SHA-256 of all pixels) of the data.
        device: What it ran on.
        seconds: Working time of all cells, in seconds.
        longest: Working time of the longest cell, in seconds.
        cells: How many cells.
        versions: Of what decides about the numbers.
        machine: Platform and number of CPUs.
        findings: One for each claim it speaks about.
        evidence: What there is to see.
        limits: What it cannot show.
        folder: Where the files of the evidence are.
    """

    name: str
    title: str
    source: str
    scale: str
    seeds: tuple[int, ...]
    data: Mapping[str, str]
    device: str
    seconds: float
    longest: float
    cells: int
    versions: Mapping[str, str]
    machine: Mapping[str, str | int]
    findings: tuple[Finding, ...]
    evidence: tuple[Exhibit, ...]
    limits: str
    folder: Path = field(compare=False)


@dataclass(frozen=True)
class Claim:
    """What all experiments together say about a claim.

    Attributes:
        number: Such as ``"C13"``.
        text: The claim.
        parts: Every part that was tested, with the experiment's name.
    """

    number: str
    text: str
    parts: tuple[tuple[str, Part], ...]

    @property
    def answer(self) -> Answer | None:
        """The answer of the parts of all experiments together; ``None`` if none was run."""
        return answer(part.state for _, part in self.parts) if self.parts else None

    @property
    def experiments(self) -> tuple[str, ...]:
        """Those that speak about it, in order."""
        return tuple(dict.fromkeys(name for name, _ in self.parts))

    @property
    def decisive(self) -> tuple[str, Part] | None:
        """The part that the answer hangs on: the first that is not met, else the first open one, else the first."""
        for state in ("not met", "open", "met"):
            for name, part in self.parts:
                if part.state == state:
                    return name, part
        return None


@dataclass(frozen=True)
class Reproduction:
    """All results of a folder.

    Attributes:
        folder: Where they are: ``NAME.json`` and its pictures and sounds in ``NAME/``.
        results: By experiment, in the order of the article.
    """

    folder: Path
    results: Mapping[str, Written]

    @property
    def claims(self) -> Mapping[str, Claim]:
        """All claims by number, those that nothing speaks about included."""
        found: dict[str, list[tuple[str, Part]]] = {number: [] for number in CLAIMS}
        for name, result in self.results.items():
            for finding in result.findings:
                found[finding.claim] += [(name, part) for part in finding.parts]
        return {number: Claim(number, CLAIMS[number], tuple(parts)) for number, parts in found.items()}

    @property
    def answers(self) -> Mapping[str, Answer | None]:
        """The answers by claim; ``None`` where no experiment was run."""
        return {number: claim.answer for number, claim in self.claims.items()}


def read_results(folder: Path) -> Reproduction:
    """Every result of a folder.

    Raises:
        FormatError: If one is damaged.
    """
    files = {name: folder / f"{name}.json" for name in EXPERIMENTS}
    return Reproduction(folder, {name: read_result(path) for name, path in files.items() if path.is_file()})


def read_result(path: Path) -> Written:
    """One experiment's result.

    Raises:
        FormatError: If it is damaged, of another version, or if one of its files is missing.
    """
    try:
        form = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(form, dict):
            raise ValueError("expected an object")
        version = form.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"format_version (={version!r}) must be {FORMAT_VERSION}")
        return _written(form, path.parent)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise FormatError(f"{path}: {error} is missing; {_remedy(path)}") from error
    except (ValueError, TypeError, ParameterError, RecursionError) as error:
        raise FormatError(f"{path}: damaged: {error}; {_remedy(path)}") from error


def _remedy(path: Path) -> str:
    return f"delete it, or write it anew with evenly reproduce {path.stem} --resume"


# --------------------------------------------------------------------------------------------------------------- forms


def _of(form: Any, key: str, *kinds: type) -> Any:
    value = form[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{key} (={value!r}) must be of type {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def _text(form: Any, key: str) -> str:
    return str(_of(form, key, str))


def _whole(form: Any, key: str) -> int:
    return int(_of(form, key, int))


def _real(form: Any, key: str) -> float:
    return float(_of(form, key, int, float))


def _all(form: Any, key: str, each: Callable[[Any], T]) -> tuple[T, ...]:
    return tuple(each(item) for item in _of(form, key, list))


def _texts(form: Any, key: str) -> dict[str, str]:
    found = _of(form, key, dict)
    return {name: _text(found, name) for name in found}


def _seed(value: Any) -> int:
    return _whole({"seed": value}, "seed")


def _written(form: dict[str, Any], folder: Path) -> Written:
    name = _text(form, "name")
    machine = _of(form, "machine", dict)
    return Written(
        name=name,
        title=_text(form, "title"),
        source=_text(form, "source"),
        scale=_text(form, "scale"),
        seeds=_all(form, "seeds", _seed),
        data=_texts(form, "data"),
        device=_text(form, "device"),
        seconds=_real(form, "seconds"),
        longest=_real(form, "longest_seconds"),
        cells=_whole(form, "cells"),
        versions=_texts(form, "versions"),
        machine={"platform": _text(machine, "platform"), "cpus": _whole(machine, "cpus")},
        findings=_all(form, "findings", _finding),
        evidence=_all(form, "evidence", lambda item: _exhibit(item, name, folder)),
        limits=_text(form, "limits"),
        folder=folder,
    )


def _finding(form: Any) -> Finding:
    claim = _text(form, "claim")
    if claim not in CLAIMS:
        raise ValueError(f"claim (={claim!r}) must be one of C1 to C{len(CLAIMS)}")
    return Finding(claim, _all(form, "parts", _part), _text(form, "note"))


def _part(form: Any) -> Part:
    bounds = {key: None if form[key] is None else _real(form, key) for key in ("at_least", "at_most")}
    effect = form["effect"]
    return Part(
        _text(form, "statement"),
        Effect(
            _real(effect, "value"),
            _real(effect, "low"),
            _real(effect, "high"),
            _text(effect, "unit"),
            _whole(effect, "count"),
            _text(effect, "method"),
        ),
        **bounds,
        decides=_text(form, "decides"),
    )


def _exhibit(form: Any, name: str, folder: Path) -> Exhibit:
    kind = form["kind"]
    if kind == "table":
        rows = _all(form, "rows", lambda row: tuple(_of({"cell": c}, "cell", *_CELL) for c in row))
        return Table(_text(form, "title"), _all(form, "columns", str), rows, _text(form, "note"))
    if kind == "plot":
        return _plot(form)
    if kind == "row":
        pictures = _all(form, "pictures", lambda item: _picture(item, name, folder))
        return RowFiles(_text(form, "title"), pictures, _text(form, "note"))
    if kind == "recording":
        file = _file(form, name, folder)
        return RecordingFile(
            _text(form, "title"), file, _whole(form, "rate"), _real(form, "seconds"), _text(form, "note")
        )
    if kind == "architecture":
        return Architecture(*(_text(form, key) for key in ("name", "printed", "report", "summary")))
    raise ValueError(f"kind (={kind!r}) must be table, plot, row, recording or architecture")


_CELL = (str, int, float, type(None))


def _picture(form: Any, name: str, folder: Path) -> PictureFile:
    return PictureFile(_text(form, "caption"), _file(form, name, folder), _whole(form, "width"), _whole(form, "height"))


def _file(form: Any, name: str, folder: Path) -> str:
    file = _text(form, "file")
    if not re.fullmatch(rf"{re.escape(name)}/[A-Za-z0-9-]+\.(png|wav)", file):
        raise ValueError(f"file (={file!r}) must be a picture or sound in the folder {name}")
    if not (folder / file).is_file():
        raise ValueError(f"{file} is missing")
    return file


def _plot(form: Any) -> Plot:
    kind = form["kind_of_plot"]
    if kind not in ("line", "points", "bars"):
        raise ValueError(f"kind_of_plot (={kind!r}) must be line, points or bars")
    return Plot(
        _text(form, "title"),
        _text(form, "x_label"),
        _text(form, "y_label"),
        series=_all(form, "series", _series),
        kind=kind,
        marks=_all(form, "marks", lambda mark: (_real({"x": mark[0]}, "x"), str(mark[1]))),
        log_x=bool(_of(form, "log_x", bool)),
        log_y=bool(_of(form, "log_y", bool)),
        note=_text(form, "note"),
    )


def _series(form: Any) -> Series:
    def numbers(key: str) -> tuple[float, ...]:
        return _all(form, key, _value)

    y = numbers("y")
    x = _all(form, "x", lambda item: item if isinstance(item, str) else _value(item))
    low, high = (None if form[key] is None else numbers(key) for key in ("low", "high"))
    if any(other is not None and len(other) != len(y) for other in (x, low, high)):
        raise ValueError(f"the series {form['name']!r} must have as many numbers in x, low and high as in y")
    return Series(_text(form, "name"), x, y, low, high)


def _value(item: Any) -> float:
    """A number; ``null`` stands for one that is not finite."""
    return math.nan if item is None else _real({"number": item}, "number")
