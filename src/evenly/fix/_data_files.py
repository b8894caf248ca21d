"""Signals from pictures and recordings: as stored, cropped to the centre, in a range that is said; never resized."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import SignalError, UsageError
from evenly.measure.levels import grey_levels
from evenly.measure.planes import LUMA
from evenly.measure.result import Failure
from evenly.measure.sound_files import open_sound
from evenly.measure.sources import Source, find_sources

__all__ = ["Files", "read_files"]

Floats = NDArray[np.float32]
Range = tuple[float, float]


@dataclass(frozen=True)
class _Kind:
    """How files of a kind are called and cropped where the model takes any size.

    Attributes:
        one, many: Names.
        multiple: Sizes are whole multiples of it, which suits networks that halve and double.
        most: Samples per axis that are kept at most.
    """

    one: str
    many: str
    multiple: int
    most: int


_PICTURES = _Kind("picture", "pictures", 32, 512)
_RECORDINGS = _Kind("recording", "recordings", 1024, 65536)


@dataclass(frozen=True, eq=False)
class Files:
    """Signals of one size, ``(C, *sizes)`` float32; what they are in words; files that were left out, and why."""

    signals: Sequence[Floats]
    words: str
    left_out: tuple[Failure, ...]


def read_files(source: str, channels: int | None, sizes: Sequence[int | None], limit: int, values: Range) -> Files:
    """Signals from the first files of a source that can be used.

    Args:
        source: What :func:`evenly.measure.sources.find_sources` takes.
        channels: 1 or 3 for pictures, 1 or 2 for recordings; ``None`` means 3 and 1.
        sizes: ``(H, W)`` or ``(samples,)``; ``None`` where any size will do: then the largest that all files have, in
            whole multiples of 32 pixels (1024 samples), up to 512 (65536).
        limit: Most signals.
        values: What black and white become.

    Raises:
        UsageError: If the source is not there, nothing in it can be used, or the model takes other channels.
        MissingDependencyError: If the extra that reads these files is not installed.
    """
    kind = _PICTURES if len(sizes) == 2 else _RECORDINGS
    read = _picture(channels, sizes, values) if kind is _PICTURES else _recording(channels, sizes)
    signals: list[Floats] = []
    left_out: list[Failure] = []
    for item in find_sources(source, "image" if kind is _PICTURES else "audio"):
        if len(signals) == limit:
            break
        if isinstance(item, Failure):
            left_out.append(item)
            continue
        try:
            signals.append(read(item))
        except (SignalError, UsageError) as error:
            left_out.append(Failure(item.name, str(error).removeprefix(f"{item.name}: ")))
    if not signals:
        first = f"{left_out[0].path}: {left_out[0].reason}"
        raise UsageError(f"{source}: none of {len(left_out)} {kind.many} there can be used; the first: {first}")
    common = [_common(kind, [s.shape[1 + k] for s in signals], n) for k, n in enumerate(sizes)]
    cropped = [np.ascontiguousarray(_centre(signal, common)) for signal in signals]
    return Files(cropped, _words(kind, cropped, values, len(left_out)), tuple(left_out))


def _words(kind: _Kind, signals: Sequence[Floats], values: Range, left_out: int) -> str:
    name = kind.one if len(signals) == 1 else kind.many
    size = " x ".join(map(str, signals[0].shape[1:]))
    scale = f"from {values[0]:g} (black) to {values[1]:g} (white)" if kind is _PICTURES else "samples, full scale 1"
    words = f"{len(signals)} {name}, the central {size} {scale}"
    return f"{words}, {left_out} left out" if left_out else words


# ---- sizes -----------------------------------------------------------------------------------------------------------


def _kept(kind: _Kind, shape: Sequence[int], wanted: Sequence[int | None]) -> list[int]:
    """The size to which one file is cropped for now.

    Raises:
        UsageError: If it is too small.
    """
    least = [kind.multiple if n is None else n for n in wanted]
    if any(have < need for have, need in zip(shape, least, strict=True)):
        have, need = (" x ".join(map(str, n)) for n in (shape, least))
        unit = "pixels (H x W)" if kind is _PICTURES else "samples"
        raise UsageError(f"too small: {have} {unit}, expected {need} or more; it was left out, not resized")
    return [min(have, kind.most) if n is None else n for have, n in zip(shape, wanted, strict=True)]


def _common(kind: _Kind, found: Sequence[int], wanted: int | None) -> int:
    return min(found) // kind.multiple * kind.multiple if wanted is None else wanted


def _centre(signal: NDArray[Any], sizes: Sequence[int], first: int = 1) -> NDArray[Any]:
    """The middle of a signal; its axes begin at `first`."""
    cuts = [slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(signal.shape[first:], sizes, strict=False)]
    return signal[(*(slice(None),) * first, *cuts)]


# ---- pictures --------------------------------------------------------------------------------------------------------


def _picture(channels: int | None, sizes: Sequence[int | None], values: Range) -> Callable[[Source], Floats]:
    if channels not in (None, 1, 3):
        raise UsageError(
            f"the input has {channels} channels, pictures have 1 or 3; give a .npy file of shape (N, {channels}, H, W)"
        )
    low, high = values

    def read(item: Source) -> Floats:
        pixels, level, _ = grey_levels(item.read_picture().pixels)
        grey = level(_centre(pixels, _kept(_PICTURES, pixels.shape[:2], sizes), 0)) / np.float32(255)
        if grey.ndim == 3:
            planes = (grey @ LUMA)[None] if channels == 1 else np.moveaxis(grey, 2, 0)
        else:
            planes = np.broadcast_to(grey, (1 if channels == 1 else 3, *grey.shape))
        return np.asarray(low + (high - low) * planes, np.float32)

    return read


# ---- recordings ------------------------------------------------------------------------------------------------------


def _recording(channels: int | None, sizes: Sequence[int | None]) -> Callable[[Source], Floats]:
    if channels not in (None, 1, 2):
        raise UsageError(
            f"the input has {channels} channels, recordings have 1 or 2; give a .npy file of shape "
            f"(N, {channels}, samples)"
        )

    def read(item: Source) -> Floats:
        with ExitStack() as stack:
            sound = open_sound(stack.enter_context(item.open()), stack, name=item.name)
            (length,) = _kept(_RECORDINGS, (sound.samples,), sizes)
            samples = _window(sound.blocks, (sound.samples - length) // 2, length)
        if channels == 2:
            if len(samples) > 2:
                raise UsageError(f"{len(samples)} channels; expected 1 or 2 for an input of 2")
            return np.broadcast_to(samples, (2, length))
        return np.asarray(samples.mean(0, keepdims=True), np.float32)

    return read


def _window(blocks: Iterator[NDArray[np.float64]], start: int, length: int) -> Floats:
    """Samples from `start` on, of blocks that are read one after the other."""
    parts, at = [], 0
    for block in blocks:
        part = block[:, max(0, start - at) : max(0, start + length - at)]
        parts.append(part.astype(np.float32))
        at += block.shape[1]
        if at >= start + length:
            break
    return np.concatenate(parts, 1)
