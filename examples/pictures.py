"""Let two untrained generators make pictures: one with transposed convolutions, one cured, with the same inputs.

    python examples/pictures.py [--out examples/out/pictures]

Both translate the same smooth random pictures; see networks.py. The only difference is how they enlarge.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import networks
import numpy as np
import torch
from picture import png

HERE = Path(__file__).resolve().parent
COUNT, SIZE = 12, 64
GENERATORS = {"transposed": "cyclegan_generator", "resized": "cyclegan_resize_generator"}


def inputs(count: int = COUNT, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures (count, 3, size, size) in [-1, 1], with power falling as in photographs."""
    noise = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size)[None])
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) / (frequency + 1 / size)).real
    return smooth / smooth.abs().amax((1, 2, 3), keepdim=True)


def make(out: Path) -> None:
    """Write the pictures of every generator to a folder of its own.

    Raises:
        OSError: If they cannot be written.
    """
    given = inputs()
    for folder, name in GENERATORS.items():
        with torch.no_grad():
            made = getattr(networks, name)()(given)
        made = made - made.mean((1, 2, 3), keepdim=True)
        made = (made / made.std((1, 2, 3), keepdim=True)).clamp(-2.5, 2.5).permute(0, 2, 3, 1)
        (out / folder).mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(np.rint(127.5 + 50 * made.numpy()).astype(np.uint8)):
            (out / folder / f"{number:02}.png").write_bytes(png(one))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "out" / "pictures", help="folder of the pictures")
    out: Path = parser.parse_args(argv).out
    try:
        make(out)
    except OSError as error:
        print(f"error: {out}: {error.strerror or error}; give a folder that can be written with --out", file=sys.stderr)
        return 2
    print(f"{COUNT} pictures each in {', '.join(str(out / folder) for folder in GENERATORS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
