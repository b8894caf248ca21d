"""The experiment ``discriminator``: it runs, it can fail, and it can be killed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evenly.reproduce.data import open_data
from evenly.reproduce.experiment import Context, Outcome, Scale
from evenly.reproduce.generators import measured
from evenly.reproduce.instruments import to_pixels
from evenly.reproduce.odena2016_discriminator import EXPERIMENT, FIRSTS
from evenly.reproduce.result import Finding
from evenly.reproduce.run import run_cell

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    folder = tmp_path_factory.mktemp("discriminator")
    cells = EXPERIMENT.cells(Scale.SMOKE, range(2))
    return {
        cell.name: run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, folder / str(n), cell.seed))
        for n, cell in enumerate(cells)
    }


def test_the_whole_experiment_runs_and_gradients_are_as_predicted(smoke: Mapping[str, Outcome]) -> None:
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, smoke)
    assert [finding.claim for finding in conclusion.findings] == ["C19"]
    assert len(conclusion.findings[0].parts) == 6
    first = smoke["k3 s2/seed-0"].numbers
    assert first["generator"]["summary"] == "no findings"
    uneven = {name: smoke[f"{name}/seed-0"].numbers["gradient"]["before"]["unevenness"] for name, _, _ in FIRSTS}
    assert min(uneven["k3 s2"], uneven["k5 s2"]) > 1.6 > 1.4 > max(uneven["k3 s1"], uneven["k5 s1"])


def test_all_discriminators_meet_the_same_generator(smoke: Mapping[str, Outcome]) -> None:
    first, *others = (smoke[f"{name}/seed-0"].arrays["pictures-0"] for name, _, _ in FIRSTS)
    assert all(np.array_equal(first, other) for other in others)


def test_a_killed_cell_gives_the_same(
    smoke: Mapping[str, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = (cell for cell in EXPERIMENT.cells(Scale.SMOKE, range(2)) if cell.name == "k3 s2/seed-1")
    seen = 0
    real = torch.optim.Adam.step

    def dying(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, tmp_path, cell.seed, checkpoint_seconds=0.0))
    assert list(tmp_path.glob("*.ckpt"))
    again = run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, tmp_path, cell.seed))
    assert again.numbers == smoke[cell.name].numbers
    assert all(np.array_equal(array, again.arrays[name]) for name, array in smoke[cell.name].arrays.items())


@cache
def _measured(seed: int, amplitude: int) -> dict[str, Any]:
    """Pictures of the data with a pattern of period 2, in grey levels."""
    pictures = to_pixels(open_data(None).sample(8, 32, seed)).astype(float)
    pictures[:, :, ::2] += amplitude
    return measured(np.clip(pictures, 0, 255).astype(np.uint8))


def _finding(strided: int, regular: int) -> Finding:
    outcomes = {}
    shown = np.zeros((9, 32, 32, 3), np.uint8)
    words = {"name": "n", "printed": "p", "report": "r", "summary": "s"}
    gradient = {"energies": [[1.0, 1.0], [1.0, 1.0]], "unevenness": 1.0}
    for seed in SEEDS:
        outcomes[f"data/seed-{seed}"] = Outcome(_measured(seed, 0), {"pictures": shown})
        for name, _, stride in FIRSTS:
            look = {"ripples": [0.0], **_measured(seed, strided if stride == 2 else regular)}
            numbers = {
                "stages": [{"step": step, **look} for step in (0, 9)],
                "gradient": {"before": gradient, "after": {**gradient, "energies": None}},
                "architecture": words,
                "generator": words,
            }
            outcomes[f"{name}/seed-{seed}"] = Outcome(numbers, {"pictures-0": shown, "pictures-1": shown})
    (finding,) = EXPERIMENT.conclude(Scale.SMALL, outcomes).findings
    return finding


def test_it_holds_where_only_strided_layers_leave_a_pattern() -> None:
    assert _finding(strided=24, regular=0).answer == "holds"


def test_without_an_effect_it_does_not_hold() -> None:
    parts = _finding(strided=0, regular=0).parts
    assert [part.state for part in parts if part.at_least is not None] == ["not met"] * 4


def test_a_pattern_everywhere_does_not_speak_for_it() -> None:
    finding = _finding(strided=24, regular=24)
    states = [part.state for part in finding.parts]
    assert states == ["met", "not met", "met", "not met", "not met", "not met"]


def test_a_pattern_of_the_regular_layer_alone_refutes_it() -> None:
    assert _finding(strided=0, regular=24).answer == "does not hold here"
