"""Draw what `evenly.measure` finds of a pattern that nobody sees (docs/images/measured.png).

    python examples/picture_measure.py [--out FOLDER]

A photograph is given the pattern of a transposed convolution of kernel 3 and stride 2, half a grey level strong. Needs
scikit-image and matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage import data

import evenly
from evenly.theory.overlap import overlap_counts

STRENGTH = 0.5  # grey levels, root mean square


def picture() -> NDArray[np.uint8]:
    """A photograph of 320 x 480 pixels with the pattern added, rounded to whole grey levels."""
    random = np.random.default_rng(0)
    photograph = data.coffee()[40:360, 60:540] + random.uniform(
        -0.5, 0.5, (320, 480, 3)
    )  # or rounding would round it off
    counts = overlap_counts(kernel=3, stride=2).astype(float)
    cell = np.outer(counts, counts)
    cell = (cell - cell.mean()) / cell.std() * STRENGTH
    return np.rint(photograph + np.tile(cell, (160, 240))[..., None]).clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "docs" / "images"
    parser.add_argument("--out", type=Path, default=default, help="folder of the picture")
    measured = evenly.measure(picture())
    print(measured)
    measured.plot().savefig(parser.parse_args().out / "measured.png", dpi=90)


if __name__ == "__main__":
    main()
