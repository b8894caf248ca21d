"""Build the example networks, check them, measure what they make and repair one, with a word on what each one shows.

    python examples/demo.py

Exits with 0 although findings exist: they are what the demonstration is about. Exits with 2 if a check cannot be made.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent

SCENES = (
    (
        ("check", "out/cyclegan_generator.onnx"),
        "A CycleGAN / pix2pixHD generator. It enlarges with transposed convolutions of kernel 3 and stride 2, and 2 "
        "does not divide 3: some pixels are written four times as often as others. Errors are expected.",
    ),
    (
        ("check", "networks:cyclegan_resize_generator"),
        "The same generator, cured: resize, then convolve. Whatever the weights are, a constant stays constant. No "
        "error is expected; what remains are remarks on gradients.",
    ),
    (
        ("check", "out/dcgan_generator.onnx"),
        "A DCGAN generator. Kernel 4 and stride 2 overlap evenly, which is often thought to be enough. But nothing "
        "keeps the four phases of the kernels equal, and with these weights they are not.",
    ),
    (
        ("check", "out/strided_discriminator.onnx"),
        "A strided discriminator. Its outputs are fine; look at the gradient that it hands back to the generator "
        "which it trains: some pixels get more of it than their neighbours, for no reason in the data.",
    ),
    (
        ("measure", "out/pictures/transposed", "--against", "out/pictures/resized"),
        "What they make. The first two generators, untrained, were given the same pictures; here their outputs are "
        "measured, without a look at the networks. The patterns of 2 and 4 pixels are there, and the cured generator "
        "has less of them.",
    ),
    (
        (*("fix", "out/enlarger.onnx", "-o", "out/even.onnx", "--calibration", "out/enlarger/small.npy"),
         *("--reference", "out/enlarger/large.npy", "--paired")),
        "A network that enlarges pictures, trained for 400 steps. What it makes has lines of period 2 that real "
        "pictures do not have; its last layer is solved anew so that they go, with as little change as possible. "
        "Nothing is trained, and the new file is run beside the old one before it is written.",
    ),
)  # fmt: skip


def run(*command: str) -> int:
    """Run a command in the examples' folder, with its output on ours."""
    sys.stdout.flush()
    return subprocess.run(command, cwd=HERE, check=False).returncode


def main() -> int:
    """Build, then show every scene."""
    print("Building the example networks, with fixed seeds ...")
    status = run(sys.executable, "build.py")
    if status:
        return status
    rows = []
    for number, (command, words) in enumerate(SCENES, 1):
        print(f"\n{'=' * 100}\n{number} of {len(SCENES)}\n")
        print(textwrap.fill(words, 100))
        line = " ".join(("evenly", *command))
        print(f"\n$ {line}\n")
        status = run(sys.executable, "-m", "evenly", *command)
        if status not in (0, 1):
            print(f"error: {line} could not be made (exit code {status})", file=sys.stderr)
            return 2
        words = (
            ("every line is within the limit", "some are not") if command[0] == "fix" else ("no findings", "findings")
        )
        print(f"\n(exit code {status}: {words[status]})")
        rows.append(f"  exit code {status}  {line}")
    print(f"\n{'=' * 100}\nAll {len(SCENES)} were made:")
    print("\n".join(rows))
    folder = os.path.relpath(HERE)
    print(
        f"\nThe networks are in {folder}. Try your own: "
        "evenly check FILE.onnx, evenly check package.module:attribute --input 1,3,64,64, evenly measure FOLDER, or "
        "evenly fix FILE.onnx -o NEW.onnx --calibration FOLDER"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
