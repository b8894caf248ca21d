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
from evenly.fix._soap import begun, stepped

__all__ = ["State", "fingerprint"]

SAVE_SECONDS = 30.0
"""Between two checkpoints at least, but for the last."""

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
        taught: Mean loss of the steps before every look but the first.
        stopped: Whether it ended early.
    """

    def __init__(
        self, best: dict[str, Tensor], moments: dict[str, dict[str, Tensor]], step: int, losses: list[float]
    ) -> None:
        self._best, self._moments = best, moments
        self.step, self.losses = step, losses
        self.taught: list[float] = []
        self._sum, self._count = 0.0, 0
        self.stopped = False
        self._saved = time.monotonic()

    @classmethod
    def begin(cls, trained: Trained) -> Self:
        """Before the first step."""
        best = {name: p.detach().clone() for name, p in trained.items()}
        return cls(best, {name: begun(p) for name, p in trained.items()}, 0, [])

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
                same = header["mark"] == mark
                tensors = {key: file.get_tensor(key) for key in file.keys()} if same else {}  # noqa: SIM118 (no mapping)
            if not same:
                raise UsageError(f"{path} is the checkpoint of another run (model, data or settings); remove it")
            parts: dict[str, dict[str, Tensor]] = {name: {} for name in trained}
            for key, tensor in tensors.items():
                part, _, name = key.partition("/")
                parts[name][part] = tensor.to(trained[name].device)
            with torch.no_grad():
                for name, parameter in trained.items():
                    parameter.copy_(parts[name].pop("now"))
            best = {name: part.pop("best") for name, part in parts.items()}
            found = cls(best, parts, int(header["step"]), [float(v) for v in header["losses"]])
            found.taught = [float(v) for v in header["taught"]]
            found.stopped = bool(header["stopped"])
        except UsageError:
            raise
        except Exception as error:  # of many kinds: header, JSON, keys
            raise UnreadableError(f"{path}: cannot be read as a checkpoint of fine-tuning: {error}") from error
        return found

    def save(self, path: Path, mark: str, trained: Trained, last: bool) -> None:
        """Write a checkpoint, if the last one is old enough: whole, or not at all."""
        if not last and time.monotonic() - self._saved < SAVE_SECONDS:
            return
        header = {
            "mark": mark,
            "step": self.step,
            "losses": self.losses,
            "taught": self.taught,
            "stopped": self.stopped,
        }
        flat = {
            f"{part}/{name}": tensor.contiguous()
            for name, parameter in trained.items()
            for part, tensor in {
                "now": parameter.detach(),
                "best": self._best[name],
                **self._moments[name],
            }.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        importlib.import_module("safetensors.torch").save_file(flat, temporary, {"evenly": json.dumps(header)})
        temporary.replace(path)
        self._saved = time.monotonic()

    def note(self, loss: float) -> None:
        """A step's loss."""
        self._sum += loss
        self._count += 1

    def look(self, trained: Trained, loss: float) -> None:
        """Note a loss between steps; keep the weights if it is the lowest."""
        if self._count:
            self.taught.append(self._sum / self._count)
            self._sum, self._count = 0.0, 0
        best = min(self.losses, default=float("inf"))
        self.losses.append(loss)
        if loss < best:
            for name, parameter in trained.items():
                self._best[name].copy_(parameter.detach())

    @torch.no_grad()
    def restore_best(self, trained: Trained) -> None:
        """Put the weights of the best look into the parameters."""
        for name, parameter in trained.items():
            parameter.copy_(self._best[name])

    def take(self, trained: Trained, gradients: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
        """One step of the optimizer, its rate by parameter."""
        self.step += 1
        for name, gradient in gradients.items():
            trained[name].sub_(stepped(self._moments[name], gradient, self.step), alpha=rates[name])
