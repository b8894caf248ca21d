"""The list of experiments, without any of them."""

from __future__ import annotations

import pytest

from evenly.errors import MissingDependencyError, UsageError
from evenly.reproduce import registry
from evenly.reproduce.claims import CLAIMS


def test_every_claim_is_spoken_about():
    spoken = {claim for _, claims, _ in registry.EXPERIMENTS.values() for claim in claims}
    assert spoken == set(CLAIMS)


@pytest.mark.parametrize("names", [("nothing",), ("all", "nothing")])
def test_unknown_names(names):
    with pytest.raises(UsageError, match=r"'nothing'.*arithmetic"):
        registry.chosen(names)
    with pytest.raises(UsageError, match="'nothing'"):
        registry.module_of("nothing")


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    (tmp_path / "needs_more.py").write_text("import package_that_is_not_there\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"package_that_is_not_there.*evenly\[reproduce\]"):
        registry.load_module("needs_more")


@pytest.mark.parametrize("name", list(registry.EXPERIMENTS))
def test_experiments_are_what_the_list_says(name):
    pytest.importorskip("lightning_fabric")
    experiment = registry.load(name)
    assert experiment.name == name
    assert experiment.claims == registry.EXPERIMENTS[name][1]
    for scale, seeds in experiment.seeds.items():
        cells = list(experiment.cells(scale, tuple(range(seeds))))
        assert len({cell.name for cell in cells}) == len(cells) > 0
