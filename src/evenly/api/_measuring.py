"""``evenly.measure`` as people call it from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evenly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from evenly.measure.result import Measurement
    from evenly.measure.sound_result import AudioMeasurement

__all__ = ["measure"]


def measure(
    source: ArrayLike | str | os.PathLike[str],
    periods: Iterable[int] | None = None,
    *,
    kind: Literal["image", "audio"] | None = None,
    rate: float | None = None,
) -> Measurement | AudioMeasurement:
    """Measure the periodic artifacts of up-sampling in one picture or recording.

    For many, and for one set against another, see :func:`evenly.measure_set`.

    Args:
        source: A path; or a picture, shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or a recording, shape (samples,)
            or (samples, channels).
        periods: In pixels or samples; by default :data:`evenly.measure.result.PERIODS` or
            :data:`evenly.measure.sound_result.STRIDES`.
        kind: ``"image"`` or ``"audio"``; by default what the file's name says. An array of one axis, or with a
            ``rate``, is a recording.
        rate: Sampling rate in Hz, for a recording that is an array.

    Returns:
        The measurement: ``verdict``, ``cause``, ``periods``; print it, or see it with ``.plot()``.

    Raises:
        UsageError: If the arguments or the array cannot be measured.
        EvenlyError: If the file cannot be read.
        MissingDependencyError: If an extra is needed and not installed.
    """
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    if path is not None and path.is_dir():
        raise UsageError(f"{path}: a folder; expected one file. evenly.measure_set measures sets")
    if kind not in (None, "image", "audio"):
        raise UsageError(f"kind (={kind!r}) must be 'image' or 'audio'")
    if kind is None:
        kind = "audio" if rate is not None or _sounds(source if path is None else path) else "image"
    if kind == "audio":
        from evenly.measure.audio import measure_audio

        return measure_audio(source, rate) if periods is None else measure_audio(source, rate, tuple(periods))
    if rate is not None:
        raise UsageError(f"rate (={rate}) is for recordings; a picture has none")
    from evenly.measure.image import measure_image
    from evenly.measure.result import PERIODS

    wanted = PERIODS if periods is None else tuple(periods)
    if path is None:
        import numpy as np

        return measure_image(np.asarray(source), wanted, keep=True)
    from evenly.measure.files import read_picture

    picture = read_picture(path)
    return measure_image(picture.pixels, wanted, path=str(path), encoding=picture.encoding, keep=True)


def _sounds(source: Any) -> bool:
    """Whether a file or an array is a recording."""
    if isinstance(source, Path):
        from evenly.measure.sources import EXTENSIONS

        return source.suffix.lower() in EXTENSIONS["audio"]
    return getattr(source, "ndim", 0) == 1
