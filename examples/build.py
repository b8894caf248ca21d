"""Build the example networks, four of them as ONNX files, one of these trained, and pictures; from fixed seeds.

    python examples/build.py [--out examples/out]

Runs of the same versions of torch and onnx write the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

HERE = Path(__file__).resolve().parent
OPSET = 20
EXPORTED = ("dcgan_generator", "cyclegan_generator", "strided_discriminator")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder of the files")
    out: Path = parser.parse_args(argv).out
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    import enlarger
    import networks
    import pictures

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in networks.__all__:
            make: Callable[[], nn.Module] = getattr(networks, name)
            network = make()
            line = f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters"
            if name in EXPORTED:
                path = out / f"{name}.onnx"
                export(network, path)
                line += f", {path} ({path.stat().st_size / 1e6:.1f} MB)"
            print(line)
        path = out / "enlarger.onnx"
        export(enlarger.make(out), path)
        print(f"enlarger: trained for {enlarger.STEPS} steps, {path} ({path.stat().st_size / 1e3:.0f} kB)")
        pictures.make(out / "pictures")
        print(f"pictures of untrained generators: {out / 'pictures'}")
    except OSError as error:
        reason = error.strerror or str(error)
        print(f"error: {out}: {reason}; give a folder that can be written with --out", file=sys.stderr)
        return 2
    return 0


def export(network: nn.Module, path: Path) -> None:
    """Write a network as ONNX, complete or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    import onnx
    import torch

    inputs = network.example_inputs
    assert isinstance(inputs, tuple)
    with quiet():
        program = torch.onnx.export(
            network, inputs, dynamo=True, opset_version=OPSET, external_data=False, verbose=False
        )
    assert program is not None
    model = program.model_proto
    # The exporter records where the source code of each node lies on this machine: neither stable nor of use elsewhere.
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        for entry in [p for p in part.metadata_props if "stack_trace" in p.key]:
            part.metadata_props.remove(entry)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporter says about optional packages and its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


if __name__ == "__main__":
    raise SystemExit(main())
