"""Writing ONNX models whose values lie partly in other files, in the layout that the files had."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import BinaryIO

from onnx import ModelProto, TensorProto

from evenly.errors import FormatError, OutputError
from evenly.fix._onnx_tensors import Home, all_tensors, home_of, is_external, size_of
from evenly.graph.onnx.files import resolve_inside

__all__ = ["locations", "write_model"]

CHUNK = 1 << 24
LARGEST_ALIGNMENT = 1 << 16


@dataclass(eq=False)
class _Piece:
    """A tensor outside the model: where it lay, and where its bytes are now."""

    proto: TensorProto
    offset: int
    size: int
    data: bytes | None  # None: in the file where it lay
    target: int = 0


def locations(model: ModelProto, homes: Mapping[str, Home]) -> list[str]:
    """The files beside a model, in the order in which it names them."""
    found = [home_of(t).location for t in all_tensors(model) if is_external(t)]
    return list(dict.fromkeys([*found, *(home.location for home in homes.values())]))


def write_model(
    model: ModelProto,
    path: Path,
    folder: Path,
    *,
    homes: Mapping[str, Home] | None = None,
    names: Mapping[str, str] | None = None,
    outputs: ModelProto | None = None,
) -> None:
    """Write a model and the files beside it.

    Args:
        model: The model; it stays as it is.
        path: Where to.
        folder: Where its external data lie now.
        homes: Tensors in memory that go back to where they lay.
        names: New names of the files beside it; ``None``: everything goes to one file, for onnxruntime.
        outputs: What is merged into the model.

    Raises:
        FormatError: If external data are damaged.
        OutputError: If the model is too large for one file.
        OSError: If a file cannot be written.
    """
    written = ModelProto()
    written.CopyFrom(model)
    if outputs is not None:
        written.MergeFrom(outputs)
    if names is None:
        # only what is large need not be inside
        homes = {t.name: Home("model.data", 0, None) for t in written.graph.initializer if len(t.raw_data) > 1024}
        names = {name: name for name in locations(written, homes)}
    pieces: dict[str, list[_Piece]] = {name: [] for name in locations(written, homes or {})}
    for proto in all_tensors(written):
        if is_external(proto):
            home = home_of(proto)
            pieces[home.location].append(_Piece(proto, home.offset, size_of(proto), None))
    for proto in written.graph.initializer:
        if homes and proto.name in homes and not is_external(proto):
            home = homes[proto.name]
            pieces[home.location].append(_Piece(proto, home.offset, len(proto.raw_data), proto.raw_data))
    for location, found in pieces.items():
        target = path.parent / names[location]
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_pieces(found, folder, location, target, names[location], homes or {})
    try:
        data = written.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's EncodeError is another class in each of its backends
        raise OutputError(
            f"{path}: the model has more than 2 GiB, expected less in one file; start from a model with external data"
        ) from error
    path.write_bytes(data)


def _write_pieces(
    pieces: list[_Piece], folder: Path, location: str, target: Path, name: str, homes: Mapping[str, Home]
) -> None:
    """One file of values: with only these bytes changed where all still fit, laid out anew otherwise."""
    fitting = all(p.data is None or _fits(p, pieces, homes) for p in pieces)
    if fitting:
        shutil.copyfile(resolve_inside(folder, location, "the model"), target)
        with target.open("r+b") as file:
            for piece in pieces:
                piece.target = piece.offset
                if piece.data is not None:
                    file.seek(piece.offset)
                    file.write(piece.data)
    else:
        _lay_out(pieces)
        with target.open("wb") as file:
            for piece in sorted(pieces, key=lambda p: p.target):
                if piece.target < file.tell():
                    continue  # written already, for another tensor
                file.write(b"\0" * (piece.target - file.tell()))
                if piece.data is None:
                    _copy(resolve_inside(folder, location, "the model"), piece, file)
                else:
                    file.write(piece.data)
    for piece in pieces:
        _point(piece, name, changed=piece.data is not None or not fitting)


def _fits(piece: _Piece, pieces: list[_Piece], homes: Mapping[str, Home]) -> bool:
    """Whether new values have the size of the old ones, in a place that no other tensor shares."""
    if homes[piece.proto.name].length != piece.size:
        return False
    end = piece.offset + piece.size
    return all(p is piece or p.offset >= end or p.offset + p.size <= piece.offset for p in pieces)


def _lay_out(pieces: list[_Piece]) -> None:
    """Offsets in the old order, aligned as the old ones were; tensors that shared bytes still do unless changed."""
    alignment = min(reduce(math.gcd, (p.offset for p in pieces)) or 1, LARGEST_ALIGNMENT)
    alignment &= -alignment  # the power of two in it
    end, placed = 0, dict[tuple[int, int], int]()
    for piece in sorted(pieces, key=lambda p: p.offset):
        key = piece.offset, piece.size
        if piece.data is None and key in placed:
            piece.target = placed[key]
            continue
        piece.target = -(-end // alignment) * alignment
        end = piece.target + piece.size
        if piece.data is None:
            placed[key] = piece.target


def _copy(source: Path, piece: _Piece, file: BinaryIO) -> None:
    with source.open("rb") as stream:
        stream.seek(piece.offset)
        left = piece.size
        while left:
            data = stream.read(min(CHUNK, left))
            if not data:
                raise FormatError(f"{source} ends before the values of {piece.proto.name!r}; it changed meanwhile")
            file.write(data)
            left -= len(data)


def _point(piece: _Piece, name: str, *, changed: bool) -> None:
    """State where a tensor lies, with the entries that were there before."""
    proto = piece.proto
    entries = {e.key: e.value for e in proto.external_data} or {"location": "", "offset": "", "length": ""}
    if changed:
        entries.pop("checksum", None)
        entries |= {"offset": str(piece.target), "length": str(piece.size)}
    entries["location"] = name
    proto.ClearField("raw_data")
    proto.data_location = TensorProto.EXTERNAL
    del proto.external_data[:]
    for key, value in entries.items():
        proto.external_data.add(key=key, value=value)
