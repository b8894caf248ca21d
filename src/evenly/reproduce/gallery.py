"""One page that holds everything: verdicts, intervals, pictures with a linked magnifier, plots, sounds, networks.

The page asks no host for anything; a content security policy in it forbids that. Without JavaScript only the magnifier
is missing.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly.errors import FormatError, MissingDependencyError
from evenly.reproduce import words
from evenly.reproduce.claims import CLAIMS
from evenly.reproduce.drawing import LIGHT, plot_svg
from evenly.reproduce.registry import EXPERIMENTS
from evenly.reproduce.result import Architecture, Plot, Table
from evenly.reproduce.stored import RecordingFile, RowFiles
from evenly.reproduce.written import put_file

if TYPE_CHECKING:
    from evenly.reproduce.result import Part
    from evenly.reproduce.stored import Exhibit, Reproduction, Written

__all__ = ["Mark", "gallery", "marks", "write_gallery"]

_SHOWN_WIDTH, _LEAST_WIDTH = 256, 110
"""CSS pixels that small pictures are enlarged to at most, and reach where they can, by a whole factor: any other makes
patterns of its own."""
_STRIKING, _FIRST = ("dream", "style", "gan", "gradient"), 4
"""Experiments whose first row of pictures may open the page, and how many of its pictures do."""
_LINE_WIDTH, _GAP = 1140, 18
"""CSS pixels of a line of pictures, and between two of them."""
_SHARED = 8
"""Parts of one unit are drawn on one axis if that is at most so many times as long as the shortest needs."""


@dataclass(frozen=True)
class Mark:
    """Where a part's numbers stand on its axis, in percent of its length.

    Attributes:
        low, value, high: The effect.
        bound: The bound.
        met: Begin and length of the side on which the part is met.
        ticks: Places and numbers of the axis.
    """

    low: float
    value: float
    high: float
    bound: float
    met: tuple[float, float]
    ticks: tuple[tuple[float, str], ...]


def marks(parts: Sequence[Part]) -> list[Mark]:
    """Axes for the parts of a claim; those of one unit share one where that leaves all of them readable."""
    own = {id(part): _span([part]) for part in parts}
    units = {part.effect.unit: _span([p for p in parts if p.effect.unit == part.effect.unit]) for part in parts}
    shortest = {
        unit: min(own[id(part)][1] - own[id(part)][0] for part in parts if part.effect.unit == unit) for unit in units
    }
    found = []
    for part in parts:
        begin, end = units[part.effect.unit]
        if end - begin > _SHARED * shortest[part.effect.unit]:
            begin, end = own[id(part)]
        found.append(_mark(part, begin, end))
    return found


def _bound(part: Part) -> float:
    limit = part.at_least if part.at_least is not None else part.at_most
    assert limit is not None
    return limit


def _span(parts: Sequence[Part]) -> tuple[float, float]:
    numbers = [number for part in parts for number in (part.effect.low, part.effect.high, _bound(part))]
    low, high = min(numbers), max(numbers)
    room = (high - low) * 0.15 or abs(high) * 0.25 or 1.0
    return low - room, high + room


def _mark(part: Part, begin: float, end: float) -> Mark:
    def place(value: float) -> float:
        return round(100 * (value - begin) / (end - begin), 2)

    limit = place(_bound(part))
    met = (limit, 100 - limit) if part.at_least is not None else (0.0, limit)
    step = _step((end - begin) / 5)
    ticks = [n * step for n in range(math.ceil(begin / step), math.floor(end / step) + 1)]
    effect = part.effect
    if effect.unit == "%" and all(0 <= number <= 100 for number in (effect.low, effect.high, _bound(part))):
        ticks = [t for t in ticks if 0 <= t <= 100]  # a share: there is nothing beyond
    shown = [(place(t), words.tick(t, step)) for t in ticks if 4 <= place(t) <= 96]
    return Mark(place(effect.low), place(effect.value), place(effect.high), limit, met, tuple(shown))


def _step(least: float) -> float:
    """The next of 1, 2, 5, 10, ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def write_gallery(found: Reproduction, path: Path) -> None:
    """Write the page.

    Raises:
        MissingDependencyError: If jinja2 or matplotlib is not installed.
        OutputError: If it cannot be written.
    """
    put_file(path, gallery(found).encode())


def gallery(found: Reproduction) -> str:
    """The page as HTML.

    Raises:
        FormatError: If a picture or sound is missing.
        MissingDependencyError: If jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependencyError(
            "jinja2 is not installed; the page needs it: pip install 'evenly[reproduce]'"
        ) from error
    environment = Environment(
        loader=PackageLoader("evenly.reproduce", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(words, name)
        for name in (
            "bound",
            "deciders",
            "duration",
            "effect",
            "figure",
            "interval",
            "judged",
            "seeds",
            "stated",
            "tally",
            "value",
        )
    }
    claims = list(found.claims.values())
    page = files("evenly.reproduce") / "page"
    return environment.get_template("page.html.jinja").render(
        style=Markup((page / "page.css").read_text(encoding="utf-8")),
        script=Markup((page / "magnifier.js").read_text(encoding="utf-8")),
        symbols=words.SYMBOLS,
        claims=claims,
        texts=CLAIMS,
        counted=words.counted(claims),
        opening=_opening(found),
        results=list(found.results.values()),
        missing=[name for name in EXPERIMENTS if name not in found.results],
        blocks=_blocks,
        marks=lambda parts: zip(parts, marks(parts), strict=True),
        uri=partial(_uri, found.folder),
        enlarged=_enlarged,
        svg=lambda plot, key: Markup(plot_svg(plot, key)),
        colours=sum(name.startswith("s") for name in LIGHT),
        networks=lambda result: [item for item in result.evidence if isinstance(item, Architecture)],
    )


def _blocks(result: Written) -> Iterator[tuple[str, list[Any]]]:
    """The evidence in its order, plots and sounds that follow each other together; networks come apart."""
    rest = [item for item in result.evidence if not isinstance(item, Architecture)]
    for kind, items in groupby(rest, _kind):
        yield kind, list(items)


def _kind(item: Exhibit) -> str:
    kinds = {Table: "tables", Plot: "plots", RowFiles: "rows", RecordingFile: "sounds"}
    return next(word for kind, word in kinds.items() if isinstance(item, kind))


def _enlarged(row: RowFiles) -> int:
    """Whole factor by which the pictures of a row are shown: of one line, if they are not too small for that."""
    side = max([1, *(max(picture.width, picture.height) for picture in row.pictures)])
    line = min(_SHOWN_WIDTH, _LINE_WIDTH // max(1, len(row.pictures)) - _GAP) // side
    return max(1, line, min(_SHOWN_WIDTH // side, -(-_LEAST_WIDTH // side)))


def _opening(found: Reproduction) -> tuple[str, RowFiles] | None:
    """The row of pictures at the top of the page, and the experiment it is of."""
    for name in _STRIKING:
        result = found.results.get(name)
        for item in () if result is None else result.evidence:
            if isinstance(item, RowFiles):
                return name, replace(item, pictures=item.pictures[:_FIRST])
    return None


def _uri(folder: Path, file: str) -> str:
    kind = "audio/wav" if file.endswith(".wav") else "image/png"
    try:
        content = (folder / file).read_bytes()
    except OSError as error:
        raise FormatError(f"{folder / file}: cannot be read: {error.strerror or error}") from error
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
