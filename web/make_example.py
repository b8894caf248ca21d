"""Write src/example.json: the report of `evenly check` on a small decoder, which the page shows on request.

Run `python web/make_example.py` after a change of the report; needs PyTorch.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

import evenly

FILE = Path(__file__).parent / "src" / "example.json"


def decoder() -> nn.Module:
    """Even overlap and an average that removes its lines, a resize-convolution, uneven overlap at the end."""
    torch.manual_seed(2016)
    parts: list[tuple[str, nn.Module]] = [
        ("grow1", nn.ConvTranspose2d(16, 12, 4, 2, 1)),
        ("smooth", nn.AvgPool2d(2, stride=1)),
        ("relu1", nn.ReLU()),
        ("refine1", nn.Conv2d(12, 12, 3, padding=1)),
        ("relu2", nn.ReLU()),
        ("resize", nn.Upsample(scale_factor=2, mode="nearest")),
        ("refine2", nn.Conv2d(12, 8, 3, padding=1)),
        ("relu3", nn.ReLU()),
        ("grow2", nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1)),
    ]
    return nn.Sequential(OrderedDict(parts))


def text() -> str:
    """The report as JSON."""
    report = evenly.check(decoder(), torch.zeros(1, 16, 8, 8)).to_json()
    return report if report.endswith("\n") else report + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
