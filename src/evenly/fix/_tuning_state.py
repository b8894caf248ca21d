"""The state of fine-tuning, and its checkpoint: one file of tensors with a JSON header, never pickled."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from evenly.errors import UnreadableError, UsageError

__all__ = ["State", "fingerprint"]

SAVE_SECONDS = 30.0
"""Between two checkpoints at least, but for the last."""
_BETAS = (0.9, 0.999)
_EPSILON = 1e-12
"""Of the gradients' root mean square, whose scale is that of the loss over the weights."""
_PARTS = ("now", "best", "mean", "square")

Trained = Mapping[str, nn.Parameter]


def fingerprint(trained: Trained, *settings: Any) -> str:
    """Of the weights that are started from, and of the settings."""
    found = sha256(json.dumps(settings).encode())
    for name, parameter in trained.items():
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class State:
    """Where fine-tuning stands.

    Attributes:
        step: Steps taken.
        losses: At every look.
        since: Looks since the best one.
        stopped: Whether it ended early.
    """

    def __init__(self, tensors: dict[str, dict[str, Tensor]], step: int, losses: list[float], since: int) -> None:
        self._tensors = tensors
        self.step, self.losses, self.since = step, losses, since
        self.stopped = False
        self._saved = time.monotonic()

    @classmethod
    def begin(cls, trained: Trained) -> Self:
        """Before the first step."""
        zeros = {name: torch.zeros_like(p) for name, p in trained.items()}
        best = {name: p.detach().clone() for name, p in trained.items()}
        return cls({"best": best, "mean": zeros, "square": {n: z.clone() for n, z in zeros.items()}}, 0, [], 0)

    @classmethod
    def load(cls, path: Path, trained: Trained, mark: str) -> Self:
        """From a checkpoint, whose weights go into the parameters; from the beginning if there is none.

        Raises:
            UsageError: If it is of another run.
            UnreadableError: If it cannot be read.
        """
        if not path.is_file():
            return cls.begin(trained)
        try:
            with importlib.import_module("safetensors").safe_open(path, "pt") as file:
                header = json.loads(file.metadata()["evenly"])
                tensors = {
                    part: {name: file.get_tensor(f"{part}/{name}").to(p.device) for name, p in trained.items()}
                    for part in _PARTS
                } if header["mark"] == mark else {}  # fmt: skip
            found = cls(tensors, int(header["step"]), [float(v) for v in header["losses"]], int(header["since"]))
            found.stopped = bool(header["stopped"])
        except Exception as error:  # of many kinds: header, JSON, keys
            raise UnreadableError(f"{path}: cannot be read as a checkpoint of fine-tuning: {error}") from error
        if not tensors:
            raise UsageError(f"{path} is the checkpoint of another run (model, data or settings); remove it")
        now = tensors.pop("now")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(now[name])
        return found

    def save(self, path: Path, mark: str, trained: Trained, last: bool) -> None:
        """Write a checkpoint, if the last one is old enough: whole, or not at all."""
        if not last and time.monotonic() - self._saved < SAVE_SECONDS:
            return
        header = {"mark": mark, "step": self.step, "losses": self.losses, "since": self.since, "stopped": self.stopped}
        parts = {"now": {name: p.detach() for name, p in trained.items()}, **self._tensors}
        flat = {f"{part}/{name}": t.contiguous() for part, each in parts.items() for name, t in each.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        importlib.import_module("safetensors.torch").save_file(flat, temporary, {"evenly": json.dumps(header)})
        temporary.replace(path)
        self._saved = time.monotonic()

    def look(self, trained: Trained, loss: float) -> None:
        """Note a loss; keep the weights if it is the lowest."""
        best = min(self.losses, default=float("inf"))
        self.losses.append(loss)
        self.since = 0 if loss < best else self.since + 1
        if self.since == 0:
            for name, parameter in trained.items():
                self._tensors["best"][name].copy_(parameter.detach())

    @torch.no_grad()
    def restore_best(self, trained: Trained) -> None:
        """Put the weights of the best look into the parameters."""
        for name, parameter in trained.items():
            parameter.copy_(self._tensors["best"][name])

    def adam(self, trained: Trained, gradients: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
        """One step of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1), its rate by parameter."""
        self.step += 1
        first, second = (1 - beta**self.step for beta in _BETAS)
        for name, gradient in gradients.items():
            mean, square = self._tensors["mean"][name], self._tensors["square"][name]
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            size = (square / second).sqrt_().add_(_EPSILON)
            trained[name].addcdiv_(mean, size, value=-rates[name] / first)
