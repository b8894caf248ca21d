"""Results to disk: whole or not at all, the same text for the same result."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import re
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly import __version__
from evenly.errors import OutputError
from evenly.reproduce.kept import versions
from evenly.reproduce.result import FORMAT_VERSION, Architecture, Picture, Plot, Recording, Row, Series, Table
from evenly.reproduce.stored import Reproduction

if TYPE_CHECKING:
    from evenly.reproduce.result import Evidence
    from evenly.reproduce.run import Done

__all__ = ["RESULTS", "put_file", "summary_form", "write_result", "write_summary"]

RESULTS = "results"
"""Folder of the results in the output folder."""


def write_result(done: Done, folder: Path) -> Path:
    """Write an experiment's result as ``NAME.json``, and its pictures and sounds in ``NAME/``.

    Files have names made from what is in them, so nothing that an earlier result needs is replaced; what only that one
    needed is removed after the new one stands.

    Args:
        done: The experiment that was run.
        folder: For the results of all experiments.

    Returns:
        The path of the JSON file; ``docs/reproduction.schema.json`` describes it.

    Raises:
        OutputError: If something cannot be written.
    """
    experiment, conclusion, job = done.experiment, done.conclusion, done.job
    assets = _Assets(folder, experiment.name)
    form = {
        "format_version": FORMAT_VERSION,
        "tool": {"name": "evenly", "version": __version__},
        "name": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "scale": job.scale.value,
        "seeds": list(done.seeds),
        "data": done.data,
        "device": job.device,
        "seconds": round(done.seconds, 1),
        "longest_seconds": round(done.longest, 1),
        "cells": done.cells,
        "versions": versions(),
        "machine": {"platform": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count() or 1},
        "findings": [finding.to_dict() for finding in conclusion.findings],
        "evidence": [_exhibit(item, n, assets) for n, item in enumerate(conclusion.evidence, 1)],
        "limits": conclusion.limits,
    }
    path = folder / f"{experiment.name}.json"
    put_file(path, _json(form).encode())
    assets.forget_others()
    return path


def summary_form(found: Reproduction) -> dict[str, Any]:
    """The JSON form of all results, with the answer to every claim."""
    claims = [
        {
            "claim": claim.number,
            "text": claim.text,
            "answer": claim.answer or "not run",
            "experiments": list(claim.experiments),
            "parts": [{"experiment": name, **part.to_dict()} for name, part in claim.parts],
        }
        for claim in found.claims.values()
    ]
    return {
        "format_version": FORMAT_VERSION,
        "tool": {"name": "evenly", "version": __version__},
        "claims": claims,
        "results": [json.loads((found.folder / f"{name}.json").read_text(encoding="utf-8")) for name in found.results],
    }


def write_summary(found: Reproduction, path: Path) -> str:
    """Write all results as one file, and give its text."""
    text = _json(summary_form(found))
    put_file(path, text.encode())
    return text


def put_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename.

    Raises:
        OutputError: If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another --output") from error


class _Assets:
    """Pictures and sounds of one experiment."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._named: set[str] = set()

    def put(self, stem: str, suffix: str, content: bytes) -> str:
        """Write a file, and give its path relative to the folder of the results."""
        file = f"{stem}-{hashlib.sha256(content).hexdigest()[:10]}.{suffix}"
        path = self._folder / file
        if not path.is_file() or path.read_bytes() != content:
            put_file(path, content)
        self._named.add(file)
        return f"{self._folder.name}/{file}"

    def forget_others(self) -> None:
        """Remove what earlier results left, and nothing that evenly has not written."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            ours = re.fullmatch(r"(row|sound)-\d+(-\d+)?-[0-9a-f]{10}\.(png|wav)", path.name)
            if ours and path.name not in self._named:
                path.unlink(missing_ok=True)


def _exhibit(item: Evidence, number: int, assets: _Assets) -> dict[str, Any]:
    match item:
        case Table():
            return {"kind": "table", **_plain(vars(item))}
        case Plot():
            form = _plain({**vars(item), "series": [vars(_checked(series)) for series in item.series]})
            return {"kind": "plot", "kind_of_plot": form.pop("kind"), **form}
        case Row():
            pictures = [_picture(p, f"row-{number:02d}-{n}", assets) for n, p in enumerate(item.pictures, 1)]
            return {"kind": "row", "title": item.title, "pictures": pictures, "note": item.note}
        case Recording():
            file = assets.put(f"sound-{number:02d}", "wav", _wav(item))
            seconds = round(len(item.samples) / item.rate, 3)
            rest = {"rate": int(item.rate), "seconds": seconds, "note": item.note}
            return {"kind": "recording", "title": item.title, "file": file, **rest}
        case Architecture():
            return {"kind": "architecture", **_plain(vars(item))}


def _checked(series: Series) -> Series:
    others = (series.x, series.low, series.high)
    if any(other is not None and len(other) != len(series.y) for other in others):
        raise OutputError(f"the series {series.name!r} must have as many numbers in x, low and high as in y")
    return series


def _picture(picture: Picture, stem: str, assets: _Assets) -> dict[str, Any]:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.pixels)).save(sink, "png", optimize=True)
    height, width = picture.pixels.shape[:2]
    file = assets.put(stem, "png", sink.getvalue())
    return {"caption": picture.caption, "file": file, "width": width, "height": height}


def _wav(recording: Recording) -> bytes:
    """16 bits, one channel."""
    samples = np.clip(np.asarray(recording.samples, np.float64), -1, 1)
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(recording.rate))
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return sink.getvalue()


def _plain(value: Any) -> Any:
    """JSON values; a number that is not finite becomes ``None``."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _json(form: Any) -> str:
    return json.dumps(_plain(form), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
