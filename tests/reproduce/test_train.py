"""Trainings: killed and resumed they give what an unbroken one gives; curves and observations are what was told."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from evenly.errors import EvenlyError, ParameterError, UsageError  # noqa: E402
from evenly.reproduce.experiment import Context, Scale  # noqa: E402
from evenly.reproduce.train import fabric, reproducible, set_cosine, train  # noqa: E402

STEPS = 30


def training(
    folder, kill_at=None, steps=STEPS, observe_at=(0, 10, 11, STEPS), checkpoint_seconds=0.0, names=("net", "optimiser")
):
    """A training with dropout, batch statistics and momentum, so that every kind of state matters."""
    context = Context(Scale.SMOKE, folder, seed=3, checkpoint_seconds=checkpoint_seconds)
    with reproducible(3):
        net = torch.nn.Sequential(
            torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)
        )
        net, optimiser = context.fabric.setup(net, torch.optim.Adam(net.parameters(), 0.01))

        def step(number, generator):
            if number == kill_at:
                raise KeyboardInterrupt
            x = torch.randn(8, 2, generator=generator)
            loss = (net(x) - x.sum(1, keepdim=True)).square().mean() + torch.rand(())  # global numbers, too
            optimiser.zero_grad()
            context.fabric.backward(loss)
            optimiser.step()
            return {"loss": loss.item()} | ({"seldom": float(number)} if number % 5 == 2 else {})

        course = train(
            context,
            "net",
            dict(zip(names, (net, optimiser), strict=True)),
            steps,
            step,
            observe=lambda done: {"weight": net.state_dict()["0.weight"].sum().item()},
            observe_at=observe_at,
        )
    return course, {name: value.clone() for name, value in net.state_dict().items()}


def same(a, b):
    assert a[0] == b[0]
    for name, value in a[1].items():
        torch.testing.assert_close(value, b[1][name], rtol=0, atol=0)


@pytest.mark.parametrize("kill_at", [1, 10, 11, 29])
def test_killed_and_resumed_is_unbroken(tmp_path, kill_at):
    whole = training(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "killed", kill_at)
    same(training(tmp_path / "killed"), whole)


def test_names_of_networks_are_free_but_for_one(tmp_path):
    names = ("generator", "step")  # once lost on resuming, since checkpoints used these keys themselves
    whole = training(tmp_path / "whole", names=names)
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "killed", 11, names=names)
    same(training(tmp_path / "killed", names=names), whole)
    with pytest.raises(ParameterError, match="course"):
        training(tmp_path / "refused", names=("net", "course"))


def test_killed_twice_and_before_any_checkpoint(tmp_path):
    whole = training(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "killed", 5, checkpoint_seconds=1e9)
    assert not (tmp_path / "killed" / "net.ckpt").exists()
    for kill_at in (4, 20):
        with pytest.raises(KeyboardInterrupt):
            training(tmp_path / "killed", kill_at)
    same(training(tmp_path / "killed"), whole)


def test_a_finished_training_is_read_back(tmp_path):
    whole = training(tmp_path)
    same(training(tmp_path, kill_at=0), whole)  # takes no step


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    whole = training(tmp_path / "whole")
    from lightning_fabric import Fabric

    save, calls = Fabric.save, []

    def broken(self, path, form):
        calls.append(path)
        if len(calls) == 7:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        save(self, path, form)

    with monkeypatch.context() as patch:
        patch.setattr(Fabric, "save", broken)
        with pytest.raises(KeyboardInterrupt):
            training(tmp_path / "killed")
    same(training(tmp_path / "killed"), whole)


def test_the_checkpoint_interval_changes_nothing(tmp_path):
    same(training(tmp_path / "a"), training(tmp_path / "b", checkpoint_seconds=1e9))


def test_curves_and_observations(tmp_path):
    course, _ = training(tmp_path)
    assert course.steps == STEPS
    assert [o["step"] for o in course.observations] == [0, 10, 11, STEPS]
    assert len(course.losses["loss"]) == STEPS
    assert course.losses["seldom"][:9] == [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 7.0, 7.0]  # as it was before, else after


def test_long_curves_are_means_over_equal_shares(tmp_path):
    context = Context(Scale.SMOKE, tmp_path, checkpoint_seconds=1e9)
    course = train(context, "x", {}, 1000, lambda number, _: {"number": float(number)})
    np.testing.assert_allclose(course.losses["number"], np.arange(1000).reshape(200, 5).mean(1))


def test_divergence_is_an_error(tmp_path):
    context = Context(Scale.SMOKE, tmp_path)
    with pytest.raises(EvenlyError, match=r"x diverged: loss is nan at step 4"):
        train(context, "x", {}, 10, lambda number, _: {"loss": float("nan") if number == 4 else 1.0})


def test_trainings_of_a_cell_draw_other_batches(tmp_path):
    drawn = []

    def step(_, generator):
        drawn.append(torch.rand(4, generator=generator))
        return {"loss": 0.0}

    for name in ("a", "b"):
        train(Context(Scale.SMOKE, tmp_path), name, {}, 1, step)
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:99", "tpu"])
def test_devices_that_are_not_there(device):
    with pytest.raises(UsageError, match="--device"):
        fabric(device)


def test_the_learning_rate_falls_along_half_a_cosine():
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 9.0)
    rates = []
    for number in range(5):
        set_cosine(optimiser, 2.0, number, 4)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5, 0])
