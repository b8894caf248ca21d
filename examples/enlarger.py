"""Train a small network that makes pictures twice as large; it keeps a checkerboard, which can be repaired.

    python examples/enlarger.py [--out examples/out]

It ends in a transposed convolution ``k3 s2``. Four hundred steps teach it to undo the mean over 2x2 pixels: the result
is faithful, and has lines of period 2 that the pictures themselves do not have. Written are the network
(``enlarger.onnx``, ``enlarger.safetensors``) and pairs of pictures that it was not trained on, for ``evenly fix``::

    evenly fix out/enlarger.onnx -o out/even.onnx \\
        --calibration out/enlarger/small.npy --reference out/enlarger/large.npy --paired
    evenly fix enlarger:enlarger --weights out/enlarger.safetensors -o out/even.safetensors \\
        --calibration out/enlarger/small.npy --reference out/enlarger/large.npy --paired
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from pictures import inputs
from safetensors.torch import save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
STEPS, RATE, BATCH, PAIRS = 400, 3e-3, 8, 64
SIZE = 48
"""Of the large pictures, in pixels."""


def enlarger(width: int = 8) -> nn.Module:
    """The network, freshly initialised: ``(N, 3, H, W)`` to ``(N, 3, 2 H, 2 W)``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, padding=1),
            nn.PReLU(width),
            nn.ConvTranspose2d(width, 3, 3, stride=2, padding=1, output_padding=1),
        )
    network.example_inputs = (torch.zeros(BATCH, 3, SIZE // 2, SIZE // 2),)  # type: ignore[assignment]
    return network.eval()


def smaller(large: Tensor) -> Tensor:
    """Means over 2x2 pixels."""
    return F.avg_pool2d(large, 2)


def trained() -> nn.Module:
    """The network after training on smooth random pictures (mean squared error, Adam)."""
    network = enlarger().train()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    pictures = inputs(64, 32, seed=1)
    generator = torch.Generator().manual_seed(0)
    with one_thread():
        for _ in range(STEPS):
            large = pictures[torch.randint(len(pictures), (BATCH,), generator=generator)]
            loss = F.mse_loss(network(smaller(large)), large)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, so that runs give the same bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def make(out: Path) -> nn.Module:
    """Train, and write the weights and the pairs of pictures.

    Raises:
        OSError: If they cannot be written.
    """
    network = trained()
    folder = out / "enlarger"
    folder.mkdir(parents=True, exist_ok=True)
    weights = out / "enlarger.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
    weights.chmod(0o644)
    large = inputs(PAIRS, SIZE, seed=2)
    np.save(folder / "large.npy", large.numpy())
    np.save(folder / "small.npy", smaller(large).numpy())
    return network


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder of the files")
    out: Path = parser.parse_args(argv).out
    from build import export

    try:
        export(make(out), out / "enlarger.onnx")
    except OSError as error:
        print(f"error: {out}: {error.strerror or error}; give a folder that can be written with --out", file=sys.stderr)
        return 2
    print(f"{out / 'enlarger.onnx'}, {out / 'enlarger.safetensors'} and {PAIRS} pairs of pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
