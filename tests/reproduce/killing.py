"""Kill a cell in its training, and run it again."""

from __future__ import annotations

import numpy as np
import pytest

from evenly.reproduce import classifiers
from evenly.reproduce.experiment import Context, Scale
from evenly.reproduce.run import run_cell


def check_killed_and_resumed(experiment, network, kill_at, whole, folder, monkeypatch):
    """A smoke cell of a classifier, killed at a call of its loss (from 1), gives what the unbroken one gave."""
    (cell,) = [cell for cell in experiment.cells(Scale.SMOKE, (0,)) if cell.options["network"] == network]
    context = Context(Scale.SMOKE, folder, cell.seed, checkpoint_seconds=0)
    true, calls = classifiers.F.cross_entropy, []

    def killed(*given):
        calls.append(None)
        if len(calls) == kill_at:
            raise KeyboardInterrupt
        return true(*given)

    monkeypatch.setattr(classifiers.F, "cross_entropy", killed)
    with pytest.raises(KeyboardInterrupt):
        run_cell(experiment, cell, context)
    again = run_cell(experiment, cell, context)
    assert len(calls) == kill_at + 2
    assert again.numbers == whole[cell.name].numbers
    for name, array in whole[cell.name].arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
