"""Sounds from files and arrays, a block at a time."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from evenly.errors import MissingDependencyError, UnreadableError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK", "Sound", "array_sound", "open_sound"]

BLOCK = 1 << 18
"""Samples that are read at a time, all channels together."""
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF - 36)
"""What programs that write to a pipe put where a WAV file's size belongs."""
_MOST_CHANNELS = 1024


@dataclass(frozen=True)
class Sound:
    """A sound that can be read once.

    Attributes:
        name: For people.
        rate: Samples per second.
        channels: How many.
        samples: Per channel.
        blocks: Shape (channels, samples of the block), float64, full scale 1.
        notes: Remarks for people.
        given: As an array, not read from a file.
    """

    name: str | None
    rate: float
    channels: int
    samples: int
    blocks: Iterator[NDArray[np.float64]]
    notes: tuple[str, ...] = ()
    given: bool = False


def array_sound(samples: Any, rate: float | None) -> Sound:
    """A sound from an array of shape (samples,) or (channels, samples); whole numbers have their type's full scale.

    Args:
        samples: The array.
        rate: Samples per second.

    Raises:
        UsageError: for another shape or type, without samples, or a rate that is not positive.
    """
    array = np.asarray(samples)
    if rate is None or not np.isfinite(rate) or rate <= 0:
        raise UsageError(f"rate (={rate}) must be the number of samples per second, for instance 22050, of an array")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise UsageError(
            f"samples of shape {np.shape(samples)} and type {array.dtype} must be real numbers of shape (samples,) or "
            "(channels, samples)"
        )
    if array.shape[0] > _MOST_CHANNELS or (array.shape[1] < array.shape[0] and array.shape[0] > 2):
        raise UsageError(
            f"samples of shape {array.shape} would be {array.shape[0]} channels of {array.shape[1]} samples; "
            "the shape is (channels, samples): give the transposed array"
        )
    return Sound(None, float(rate), array.shape[0], array.shape[1], _array_blocks(array), given=True)


def _array_blocks(array: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    kind, scale, middle = array.dtype.kind, 1.0, 0.0
    if kind in "iu":
        scale = 2.0 ** (8 * array.dtype.itemsize - 1)
        middle = scale if kind == "u" else 0.0
    step = max(1, BLOCK // array.shape[0])
    for start in range(0, array.shape[1], step):
        yield (array[:, start : start + step].astype(np.float64) - middle) / scale


def open_sound(
    source: str | os.PathLike[str] | bytes | BinaryIO, stack: ExitStack, *, name: str | None = None
) -> Sound:
    """A sound from a file: WAV, FLAC and whatever else libsndfile reads, recognised by its content.

    Args:
        source: Path, content, or a binary file that can seek.
        stack: Closes what is opened here.
        name: For people; the path unless given.

    Raises:
        UnreadableError: missing, no sound file, damaged, or shorter than its header says.
        MissingDependencyError: without soundfile.
    """
    try:
        import soundfile
    except ImportError as error:
        raise MissingDependencyError(
            "reading sound files needs soundfile, which is not installed: pip install 'evenly[audio]'"
        ) from error
    if isinstance(source, str | os.PathLike):
        name = name or os.fspath(source)
        file = stack.enter_context(_opened(source, name))
    else:
        file = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
    label = name or "the sound"
    start = file.read(12)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise UnreadableError(f"{label} is empty (0 bytes), expected a sound file such as WAV or FLAC")
    notes = _check_wav(file, start, size, label)
    file.seek(0)
    try:
        # Without its name: libsndfile takes a name that ends in .raw for a file without a header.
        sound = stack.enter_context(soundfile.SoundFile(_Nameless(file)))
    except (soundfile.SoundFileError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableError(f"{label} cannot be read as a sound (WAV, FLAC, ...): {_reason(error)}") from error
    return Sound(name, float(sound.samplerate), sound.channels, sound.frames, _file_blocks(sound, label), notes)


def _opened(path: str | os.PathLike[str], label: str) -> BinaryIO:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block, a device never end
            raise UnreadableError(f"{label} is a folder, a pipe or a device, expected a file")
        return open(path, "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableError(f"{label} cannot be opened: {reason}; check the path and its permissions") from error


class _Nameless:
    """A binary file that has no name."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.readinto, self.seek, self.tell = (
            file.read,
            getattr(file, "readinto", None),
            file.seek,
            file.tell,
        )
        if self.readinto is None:
            del self.readinto


def _file_blocks(sound: Any, label: str) -> Iterator[NDArray[np.float64]]:
    import soundfile

    step, total, expected = max(1, BLOCK // sound.channels), 0, sound.frames
    while total < expected:
        try:
            block = sound.read(min(step, expected - total), dtype="float64", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise UnreadableError(
                f"{label} is damaged after {total} of {expected} samples: {_reason(error)}"
            ) from error
        if len(block) == 0:
            raise UnreadableError(
                f"{label} ends after {total} of {expected} samples: it is cut off; fetch the whole file"
            )
        total += len(block)
        yield block.T


def _check_wav(file: BinaryIO, start: bytes, size: int, label: str) -> tuple[str, ...]:
    """Libsndfile reads what there is of a WAV file that was cut off and says nothing: compare its sizes ourselves."""
    if start[:4] not in (b"RIFF", b"RIFX") or start[8:12] != b"WAVE":
        return ()
    number, position = ("<I" if start[:4] == b"RIFF" else ">I"), 12
    while position + 8 <= size:
        file.seek(position)
        head = file.read(8)
        (length,) = struct.unpack(number, head[4:])
        if head[:4] == b"data":
            if length in _UNKNOWN_SIZES:
                return ("the header does not say how long the sound is; all that follows was read",)
            if position + 8 + length > size:
                raise UnreadableError(
                    f"{label} promises {length} bytes of samples and holds {size - position - 8}: it is cut off; "
                    "fetch the whole file"
                )
            return ()
        position += 8 + length + length % 2
    raise UnreadableError(
        f"{label} is a WAV file without samples (no data chunk): it is cut off or damaged; fetch the whole file"
    )


def _reason(error: Exception) -> str:
    return str(error).partition(": ")[2].strip() or str(error) or type(error).__name__
