"""The results as a Markdown page with pictures, for a repository; experiments that were not run keep what stands there.

The folder beside the page, of the same name, has the form of the folder of results: ``NAME.json`` and ``NAME/``. What
was run is copied into it, and the page is made from all that it holds then.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evenly.errors import OutputError
from evenly.reproduce import words
from evenly.reproduce.claims import CLAIMS
from evenly.reproduce.drawing import plot_png
from evenly.reproduce.registry import EXPERIMENTS
from evenly.reproduce.result import Architecture, Plot, Table
from evenly.reproduce.stored import PictureFile, RecordingFile, Reproduction, RowFiles, read_results
from evenly.reproduce.written import put_file

if TYPE_CHECKING:
    from evenly.reproduce.result import Finding
    from evenly.reproduce.stored import Claim, Exhibit, Written

__all__ = ["write_markdown"]

_WIDTH, _GAP, _LINE = 800, 8, 4
"""Of sheets: pixels that are shown unscaled on common pages, pixels between pictures, pictures side by side."""
_GROUND = "#d0d5de"
"""Between pictures: white ones have an edge on it, as black ones do."""
_PICTURE, _LEAST = 256, 160
"""Pixels that small pictures are enlarged to at most, and reach where they can, by a whole factor."""


def write_markdown(found: Reproduction, path: Path) -> None:
    """Write the page and what it shows.

    Args:
        found: Results; those that `path`'s folder holds of other experiments stay.
        path: Of the page, such as ``docs/reproduction.md``; pictures go to ``docs/reproduction``.

    Raises:
        FormatError: If a result is damaged.
        OutputError: If something cannot be written.
        MissingDependencyError: If matplotlib is not installed.
    """
    folder = path.with_suffix("")
    if folder == path:
        raise OutputError(f"{path}: pictures go to a folder of this name without its suffix; name it {path}.md")
    for name, result in found.results.items():
        _copy(result, found.folder, folder, name)
    everything = read_results(folder)
    lines = [*_head(everything)]
    for result in everything.results.values():
        lines += _experiment(result)
    put_file(path, ("\n".join(lines).rstrip() + "\n").encode())


def _copy(result: Written, source: Path, folder: Path, name: str) -> None:
    if source.resolve() == folder.resolve():
        return
    files = {file for item in result.evidence for file in _files(item)}
    try:
        for file in sorted(files):
            put_file(folder / file, (source / file).read_bytes())
        put_file(folder / f"{name}.json", (source / f"{name}.json").read_bytes())
        for old in (folder / name).iterdir() if (folder / name).is_dir() else ():
            if (
                re.fullmatch(r"(row|sound|sheet|plot)-[0-9a-f-]+\.(png|wav)", old.name)
                and f"{name}/{old.name}" not in files
            ):
                old.unlink()
    except OSError as error:
        raise OutputError(f"{folder / name}: cannot be written: {error.strerror or error}") from error


def _files(item: Exhibit) -> list[str]:
    if isinstance(item, RowFiles):
        return [picture.file for picture in item.pictures]
    return [item.file] if isinstance(item, RecordingFile) else []


# ---------------------------------------------------------------------------------------------------------------- text


def _safe(text: str) -> str:
    """Text that Markdown shows as it is, in a table, too."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _head(found: Reproduction) -> Iterator[str]:
    claims = list(found.claims.values())
    counts = ", ".join(f"{count} {answer}" for answer, count in words.counted(claims).items())
    yield "# The article's experiments, run again"
    yield ""
    yield (
        "Claims of Odena, Dumoulin and Olah, "
        '["Deconvolution and Checkerboard Artifacts"](https://doi.org/10.23915/distill.00003) (2016), each measured '
        "with `evenly`. Written by `evenly reproduce --markdown`; not to be edited."
    )
    yield ""
    yield (
        "A claim is split into parts; each is an effect with its 95 % interval and a bound that was set before the "
        "run. A part is met if the whole interval lies on the right side of the bound, not met if it lies on the wrong "
        "side, open if it lies on both. A claim *holds* if all its parts are met, *partly* if some are; it *does not "
        "hold here* if none is met and one is not; it is *not decided here* if all are open. *Here* means: with these "
        "data, networks and numbers of steps."
    )
    yield ""
    yield f"{len(claims)} claims: {counts}."
    yield ""
    for claim in claims:
        yield _line(claim)
        yield ""
    missing = [f"`{name}`" for name in EXPERIMENTS if name not in found.results]
    if missing:
        yield f"Not run: {', '.join(missing)}."
        yield ""


def _line(claim: Claim) -> str:
    """All about a claim in a line that begins with its number."""
    if claim.decisive is None:
        return f"{claim.number} **not run**. {_safe(claim.text)}"
    _, part = claim.decisive
    text = [
        f"{claim.number} **{claim.answer}** ({words.tally(claim)}). {_safe(claim.text)}",
        f"What it hangs on: {_safe(words.stated(part))}: **{words.effect(part.effect)}**; {words.judged(part)}.",
    ]
    if others := words.refuted_too(claim):
        text.append(f"Not met, either: {_safe('; '.join(others))}.")
    if wishes := words.deciders(claim):
        text.append(f"{_safe(wishes[0].upper() + wishes[1:])}.")
    names = ", ".join(f"[{name}](#{name})" for name in claim.experiments)
    return f"{' '.join(text)} ({names})"


def _experiment(result: Written) -> Iterator[str]:
    yield f"## {result.name}"
    yield ""
    yield f"**{_safe(result.title)}** ({_safe(result.source)})"
    yield ""
    yield f"`evenly reproduce {result.name} --scale {result.scale}`"
    yield ""
    machine = f"{result.device}, {result.machine['platform']}, {result.machine['cpus']} CPUs"
    yield from (
        f"- data: {_safe(result.data['description'])}",
        f"- work: {result.cells} cells, {words.seeds(result.seeds)} ({_safe(machine)})",
        f"- wall time: {words.duration(result.seconds)} of all cells together, {words.duration(result.longest)} of the "
        "longest; it depends on what else the machine did",
        f"- versions: {', '.join(f'{name} {version}' for name, version in result.versions.items())}",
        "",
    )
    for finding in result.findings:
        yield from _finding(finding)
    for number, item in enumerate(result.evidence, 1):
        yield from _exhibit(item, result, number)
    networks = [item for item in result.evidence if isinstance(item, Architecture)]
    if networks:
        yield "Networks, and what `evenly check` finds in them before any training:"
        yield ""
        yield from _table(["network", "findings"], [[_safe(item.name), _safe(item.summary)] for item in networks])
    limits = [_safe(text) for text in (result.limits, result.data["limits"]) if text]
    if limits:
        yield f"**What this cannot show.** {' '.join(limits)}"
        yield ""


def _finding(finding: Finding) -> Iterator[str]:
    yield f"### {finding.claim}: {finding.answer}"
    yield ""
    yield f"*{_safe(CLAIMS[finding.claim])}*"
    yield ""
    rows = [
        [
            part.state,
            _safe(part.statement),
            words.value(part.effect),
            words.interval(part.effect) + ("" if part.effect.count == 0 else f"; {part.effect.method}"),
            words.bound(part),
            _safe(part.decides) if part.state == "open" else "",
        ]
        for part in finding.parts
    ]
    if rows:
        yield from _table(["state", "part", "effect", "interval", "bound", "what would decide it"], rows)
    else:
        yield "Nothing was measured for this claim."
        yield ""
    if finding.note:
        yield _safe(finding.note)
        yield ""


def _exhibit(item: Exhibit, result: Written, number: int) -> Iterator[str]:
    if isinstance(item, Architecture):
        return
    yield f"**{_safe(item.title)}**"
    yield ""
    if isinstance(item, Table):
        yield from _table(
            [_safe(column) for column in item.columns], [[_cell(cell) for cell in row] for row in item.rows]
        )
    elif isinstance(item, Plot):
        file = f"{result.name}/plot-{number:02d}.png"
        put_file(result.folder / file, plot_png(item))
        yield from (_picture(item.title, result, file), "")
    elif isinstance(item, RowFiles):
        file = f"{result.name}/sheet-{number:02d}.png"
        lines, factor = _sheet(item.pictures, result.folder, result.folder / file)
        order = "From left to right" + (", line by line" if lines > 1 else "")
        larger = f" Each pixel is shown as {factor} x {factor}." if factor > 1 else ""
        captions = "; ".join(_safe(picture.caption) for picture in item.pictures)
        yield from (_picture(item.title, result, file), "", f"{order}: {captions}.{larger}", "")
    else:
        link = f"[{Path(item.file).name}]({result.folder.name}/{item.file})"
        yield f"{link}, {words.duration(item.seconds)}, {item.rate} Hz"
        yield ""
    if item.note:
        yield _safe(item.note)
        yield ""


def _picture(title: str, result: Written, file: str) -> str:
    return f"![{_safe(title)}]({result.folder.name}/{file})"


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return words.figure(value) if isinstance(value, float) else _safe(str(value))


# -------------------------------------------------------------------------------------------------------------- sheets


def _sheet(pictures: Sequence[PictureFile], folder: Path, path: Path) -> tuple[int, int]:
    """Set pictures side by side, enlarged by a whole factor; give how many lines it took, and the factor."""
    from PIL import Image

    widest = max(picture.width for picture in pictures)
    across = min(len(pictures), _LINE)
    factor = min(_PICTURE // widest, (_WIDTH - _GAP * (across - 1)) // (widest * across))
    factor = max(1, factor, min(_PICTURE // widest, -(-_LEAST // widest)))
    across = max(1, min(across, (_WIDTH + _GAP) // (widest * factor + _GAP)))
    across = -(-len(pictures) // -(-len(pictures) // across))  # lines of about one length
    lines = [pictures[begin : begin + across] for begin in range(0, len(pictures), across)]
    heights = [max(picture.height for picture in line) * factor for line in lines]
    sheet = Image.new(
        "RGB",
        (across * (widest * factor + _GAP) - _GAP, sum(heights) + _GAP * (len(lines) - 1)),
        _GROUND,
    )
    for row, line in enumerate(lines):
        for column, picture in enumerate(line):
            with Image.open(folder / picture.file) as image:
                larger = image.convert("RGB").resize(
                    (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
                )
            sheet.paste(larger, (column * (widest * factor + _GAP), sum(heights[:row]) + _GAP * row))
    sink = io.BytesIO()
    sheet.save(sink, "png", optimize=True)
    put_file(path, sink.getvalue())
    return len(lines), factor
