"""Which networks the experiment ``gan`` compares."""

from __future__ import annotations

from typing import Final

__all__ = ["DECODERS", "GENERATORS", "SEEDS"]

GENERATORS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("two transposed", ("k3 s2", "k3 s2")),
    ("one transposed", ("nearest", "k3 s2")),
    ("nearest", ("nearest", "nearest")),
    ("bilinear", ("bilinear", "bilinear")),
    ("even overlap", ("k4 s2", "k4 s2")),
    ("sub-pixel", ("sub-pixel", "sub-pixel")),
    ("sub-pixel, ICNR", ("sub-pixel, ICNR", "sub-pixel, ICNR")),
)
"""Names, and the last two up-sampling layers; those before are nearest-neighbour resizes."""

DECODERS: Final = ("k3 s2", "k4 s2", "nearest")
"""Both up-sampling layers of the decoders that colours are requested from."""

SEEDS: Final = (
    "The default number of seeds at the small scale was raised from 3 to 6 when 3 had left most intervals across their "
    "bounds; nothing else was changed then."
)
"""Of this experiment and of ``discriminator``: for the reader to judge."""
