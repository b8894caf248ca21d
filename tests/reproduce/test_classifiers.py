"""Classifiers of the experiments: what they are, how they are trained, and weights from disk."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from evenly.errors import MissingDependencyError, ParameterError, UnreadableError, UsageError
from evenly.reproduce import classifiers
from evenly.reproduce.classifiers import DOWNSAMPLINGS, FAMILIES, accuracy, classifier, downsampling, train_classifier
from evenly.reproduce.experiment import Context, Scale
from evenly.reproduce.gradient_maps import expected_by_phase
from evenly.reproduce.published import WEIGHTS, load_torchvision, published

KINDS = (*DOWNSAMPLINGS, *FAMILIES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 64])
def test_every_classifier_takes_both_sizes(kind, size):
    network = classifier(kind, 7, 4).eval()
    scores = network(torch.rand(2, 3, size, size) * 2 - 1)
    assert scores.shape == (2, 7)
    assert scores.isfinite().all()
    assert not torch.equal(scores[0], scores[1])


@pytest.mark.parametrize("kind", DOWNSAMPLINGS)
def test_down_sampling_halves(kind):
    assert downsampling(kind, 3, 5)(torch.rand(2, 3, 32, 48)).shape == (2, 5, 16, 24)


@pytest.mark.parametrize(
    ("kind", "ratio"),
    [("strided", 25), ("max-pool", 1), ("max-pool-overlapping", 441 / 256), ("average-pool", 1), ("anti-aliased", 1)],
)
def test_predicted_unevenness(kind, ratio):
    """A global average sends the same gradient to every position; three strided 3x3 layers then make 5:1 per axis."""
    cell = expected_by_phase(classifier(kind, 7, 4).eval(), 64)
    assert cell.max() / cell.min() == pytest.approx(ratio, rel=1e-6)


def test_unknown_kinds_and_sizes_are_refused():
    for make in (lambda: classifier("strange", 7, 4), lambda: downsampling("resnet", 3, 4)):
        with pytest.raises(ParameterError, match="must be one of strided, max-pool"):
            make()
    for classes, width in ((0, 4), (7, 0)):
        with pytest.raises(ParameterError, match="at least 1"):
            classifier("strided", classes, width)


def _trained(context, steps=6):
    torch.manual_seed(0)
    return train_classifier(
        context,
        "it",
        classifier("strided", len(context.data.classes), 4),
        steps=steps,
        batch=16,
        size=32,
        observe=lambda step: {"seen": step},
        observe_at=(0, 3, 6),
    )


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole, course = _trained(Context(Scale.SMOKE, tmp_path / "whole"))
    true, calls = functional.cross_entropy, []

    def killed(*given):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return true(*given)

    monkeypatch.setattr(classifiers.F, "cross_entropy", killed)
    context = Context(Scale.SMOKE, tmp_path / "killed", checkpoint_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        _trained(context)
    resumed, again = _trained(context)
    assert len(calls) == 4 + 3  # three steps were kept, the fourth was not finished
    assert again == course
    assert [o["step"] for o in again.observations] == [0, 3, 6]
    assert not resumed.training
    for mine, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(mine, other)


def test_training_learns(tmp_path):
    context = Context(Scale.SMOKE, tmp_path)
    torch.manual_seed(0)
    network = classifier("anti-aliased", len(context.data.classes), 8)
    before = accuracy(context, network, 32, 128)
    network, course = train_classifier(context, "it", network, steps=40, batch=32, size=32, learning_rate=5e-3)
    assert accuracy(context, network, 32, 128) > before + 0.15
    assert np.mean(course.losses["cross-entropy"][-5:]) < course.losses["cross-entropy"][0] - 0.5


class _Always(nn.Module):
    """Answers one class."""

    def __init__(self, answer, classes):
        super().__init__()
        self.scores = functional.one_hot(torch.tensor(answer), classes).float()

    def forward(self, x):
        assert not self.training
        return self.scores.expand(len(x), -1)


def test_accuracy_counts_right_answers_on_held_out_pictures(tmp_path):
    context = Context(Scale.SMOKE, tmp_path)
    classes = len(context.data.classes)
    shares = [accuracy(context, _Always(answer, classes).train(), 32, 100) for answer in range(classes)]
    assert sum(shares) == pytest.approx(1)
    assert max(shares) < 0.2
    network = _Always(0, classes).train()
    accuracy(context, network, 32, 8)
    assert network.training


class _Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in that has one model."""

    def get_model(name, weights):
        assert weights is None
        if name != "small":
            raise ValueError(name)
        return _Small()

    package, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    models.get_model = get_model
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def test_published_weights_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.delenv(WEIGHTS, raising=False)
    assert published() == {}
    monkeypatch.setenv(WEIGHTS, str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=WEIGHTS):
        published()
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    assert published() == {}
    for name in ("resnet18-f37072fd.pth", "small.safetensors", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    found = published()
    assert set(found) == {"resnet18", "small"}
    assert found["small"][0] == tmp_path / "small.safetensors"
    assert len({digest for _, digest in found.values()}) == 2


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_published_weights_are_read(tmp_path, torchvision, ending):
    from safetensors.torch import save_file

    source, path = _Small(), tmp_path / f"small{ending}"
    if ending == ".pth":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    network = load_torchvision("small", path)
    assert not network.training
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    mean, deviation = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(network(picture), source(((picture + 1) / 2 - mean) / deviation))


def test_other_weights_are_refused(tmp_path, torchvision):
    path = tmp_path / "small.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(UsageError, match="not the weights of torchvision's small"):
        load_torchvision("small", path)
    with pytest.raises(UsageError, match="no model called 'large'"):
        load_torchvision("large", path)
    torch.save(_Small(), path)  # a pickled object could run anything
    with pytest.raises(UnreadableError, match="cannot be read as weights"):
        load_torchvision("small", path)
    path.write_bytes(b"no zip file")
    with pytest.raises(UnreadableError, match="cannot be read as weights"):
        load_torchvision("small", path)


def test_torchvision_is_asked_for_only_where_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingDependencyError, match=f"torchvision is not installed.*unset {WEIGHTS}"):
        load_torchvision("small", tmp_path / "small.pth")
