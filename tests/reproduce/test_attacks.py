"""Attacks against brute force: equal pixel counts, epsilon, masks, formulas; what is measured of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from evenly.errors import ParameterError
from evenly.reproduce.adversarial_findings import network_share_db
from evenly.reproduce.adversarial_measures import (
    Strength,
    Target,
    by_mask,
    full_attack,
    half_fooled,
    perturbation,
    rolled,
    sparse_energy,
)
from evenly.reproduce.adversarial_networks import attacked_classifier
from evenly.reproduce.attacks import LEVEL, fgsm, harm, pgd, phase_masks, random_masks, random_signs, sparse
from evenly.reproduce.gradient_maps import expected_by_phase

SIZE, CLASSES = 8, 3


class OfPhase(nn.Module):
    """Scores that depend on the pixels of one phase of 2 x 2 far more than on the others."""

    def __init__(self, row, column):
        super().__init__()
        self.layer = nn.Conv2d(3, CLASSES, 2, 2)
        weight = torch.full((1, 1, 2, 2), 0.05)
        weight[..., row, column] = 1
        self.layer.weight.data *= weight

    def forward(self, x):
        return self.layer(x).mean((2, 3)) * 20


@pytest.fixture
def network():
    torch.manual_seed(3)
    layers = nn.Conv2d(3, 6, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(6 * SIZE * SIZE // 4, CLASSES)
    return nn.Sequential(*layers).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(4)
    return torch.rand(5, 3, SIZE, SIZE, generator=generator) * 2 - 1, torch.tensor([0, 1, 2, 0, 1])


def loss(network, pictures, labels):
    with torch.no_grad():
        return F.cross_entropy(network(pictures), labels, reduction="none")


def test_phases_are_lattices_of_equally_many_pixels():
    masks = phase_masks(12, 4)
    for number, mask in enumerate(masks):
        expected = [[(y % 4, x % 4) == divmod(number, 4) for x in range(12)] for y in range(12)]
        assert mask.tolist() == expected
    assert masks.sum((1, 2)).tolist() == [9] * 16
    for period in (0, 5):
        with pytest.raises(ParameterError, match="must divide the pictures' size"):
            phase_masks(12, period)


def test_random_masks_share_all_pixels_out_equally():
    masks = random_masks(12, 16, torch.Generator().manual_seed(1))
    assert masks.sum((1, 2)).tolist() == [9] * 16
    assert (masks.sum(0) == 1).all()
    assert torch.equal(masks, random_masks(12, 16, torch.Generator().manual_seed(1)))
    assert not torch.equal(masks, random_masks(12, 16, torch.Generator().manual_seed(2)))
    with pytest.raises(ParameterError, match="must divide the number of pixels"):
        random_masks(12, 7, torch.Generator())


def test_the_sign_step_is_its_formula(network, batch):
    pictures, labels = batch
    leaf = pictures.clone().requires_grad_()
    F.cross_entropy(network(leaf), labels, reduction="sum").backward()
    mask = phase_masks(SIZE, 2)[1]
    expected = (pictures + 8 * 2 / 255 * leaf.grad.sign() * mask).clamp(-1, 1)
    network.zero_grad()
    torch.testing.assert_close(fgsm(network, pictures, labels, 8, mask), expected)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert (loss(network, fgsm(network, pictures, labels, 8), labels) > loss(network, pictures, labels)).all()


@pytest.mark.parametrize("masked", [False, True])
def test_projected_descent_stays_within_epsilon_mask_and_range(network, batch, masked):
    pictures, labels = batch
    mask = phase_masks(SIZE, 2)[2] if masked else torch.ones(SIZE, SIZE, dtype=torch.bool)
    changed = pgd(network, pictures, labels, 40, 7, mask if masked else None)
    assert changed.abs().max() <= 1
    difference = changed - pictures
    assert 39.9 * LEVEL < difference.abs().max() <= 40 * LEVEL * (1 + 1e-6)
    assert (difference[:, :, ~mask] == 0).all()
    assert (
        loss(network, changed, labels) >= loss(network, fgsm(network, pictures, labels, 40, mask), labels) - 0.02
    ).all()


def test_one_step_of_projected_descent_is_the_sign_step(network, batch):
    pictures, labels = batch
    torch.testing.assert_close(pgd(network, pictures, labels, 5, 1), fgsm(network, pictures, labels, 5))


def test_projected_descent_finds_the_corner_of_a_linear_network():
    torch.manual_seed(5)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    picture, label = torch.rand(1, 1, 2, 2) - 0.5, torch.tensor([1])
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4))).reshape(-1, 1, 2, 2) * 20 * LEVEL
    best = loss(linear, picture + corners, label.expand(16)).max()
    torch.testing.assert_close(loss(linear, pgd(linear, picture, label, 20, 6), label)[0], best)


def test_masks_of_single_pictures_are_those_of_the_batch(network, batch):
    pictures, labels = batch
    masks = phase_masks(SIZE, 2)
    own = masks[torch.tensor([0, 1, 2, 3, 0])][:, None]
    for attack in (
        lambda x, y, m: fgsm(network, x, y, 9, m),
        lambda x, y, m: pgd(network, x, y, 9, 3, m),
        lambda x, y, m: sparse(network, x, y, 2, 3, m),
    ):
        together = attack(pictures, labels, own)
        alone = [attack(pictures[n : n + 1], labels[n : n + 1], masks[n % 4]) for n in range(5)]
        torch.testing.assert_close(together, torch.cat(alone))


def test_the_sparse_attack_keeps_to_its_pixels(network, batch):
    pictures, labels = batch
    mask = phase_masks(SIZE, 4)[5]
    changed = sparse(network, pictures, labels, 3, 2, mask, epsilon=60)
    difference = (changed - pictures).abs()
    assert ((difference.amax(1) > 0).sum((1, 2)) == 3).all()
    assert (difference[:, :, ~mask] == 0).all()
    assert difference.max() <= 60 * LEVEL * (1 + 1e-6)
    assert changed.abs().max() <= 1
    every = sparse(network, pictures, labels, 4, 9, mask)  # fewer are left than are to be tried
    assert ((every - pictures).abs().amax(1).flatten(1) > 0).sum(1).tolist() == [4] * 5
    for pixels in (0, 5):
        with pytest.raises(ParameterError, match="must be 1 to 4"):
            sparse(network, pictures, labels, pixels, 2, mask)


def test_a_pixel_of_the_sparse_attack_is_the_best_of_all(network, batch):
    pictures, labels = batch
    leaf = pictures.clone().requires_grad_()
    F.cross_entropy(network(leaf), labels, reduction="sum").backward()
    best = torch.full((len(pictures),), -torch.inf)
    for y, x in itertools.product(range(SIZE), repeat=2):
        tried = pictures.clone()
        tried[:, :, y, x] = leaf.grad[:, :, y, x].sign()
        best = torch.maximum(best, loss(network, tried, labels))
    changed = sparse(network, pictures, labels, 1, SIZE * SIZE)
    torch.testing.assert_close(loss(network, changed, labels), best)


def test_noise_is_as_large_as_the_sign_step(batch):
    pictures = batch[0] * 0.5
    changed = random_signs(pictures, 10, torch.Generator().manual_seed(0))
    torch.testing.assert_close((changed - pictures).abs(), torch.full_like(pictures, 10 * LEVEL))
    assert 0.3 < (changed > pictures).float().mean() < 0.7


def test_harm_counts_right_answers_that_are_lost():
    before = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    after = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    found = harm(before, after, torch.tensor([0, 0, 0]))
    assert found.fooled.tolist() == [True, False, False]  # the third was wrong before
    expected = [
        F.cross_entropy(after[n], torch.tensor(0)) - F.cross_entropy(before[n], torch.tensor(0)) for n in range(3)
    ]
    torch.testing.assert_close(found.gain.float(), torch.stack(expected))


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "sparse", "noise"])
def test_all_masks_at_once_are_one_by_one(network, batch, attack):
    pictures, labels = batch
    masks, strength = phase_masks(SIZE, 2), Strength(20, 3, 2, 3)
    found = by_mask(Target(network, pictures, labels, 3), masks, strength, attack, torch.Generator().manual_seed(6))
    for number, mask in enumerate(masks):
        noise = random_signs(pictures, 20, torch.Generator().manual_seed(6))
        changed = {
            "fgsm": fgsm(network, pictures, labels, 20, mask),
            "pgd": pgd(network, pictures, labels, 20, 3, mask),
            "sparse": sparse(network, pictures, labels, 2, 3, mask),
            "noise": torch.where(mask, noise, pictures),
        }[attack]
        expected = harm(network(pictures), network(changed), labels)
        np.testing.assert_allclose(found["gain"][:, number], expected.gain.detach().numpy(), atol=1e-5)
        assert (found["fooled"][:, number] == expected.fooled.numpy()).all()


@pytest.mark.parametrize("phase", [(0, 0), (1, 0)])
def test_the_harm_is_where_the_network_reads_and_stays_there_when_pictures_are_rolled(batch, phase):
    torch.manual_seed(1)
    target = Target(OfPhase(*phase), *batch)
    strength = Strength(30, 3, 3, 8)
    gains = by_mask(target, phase_masks(SIZE, 2), strength, "pgd")["gain"].mean(0)
    assert gains.argmax() == 2 * phase[0] + phase[1]
    assert gains.max() > 4 * np.sort(gains)[-2]
    assert network_share_db(rolled(target, 2, strength)) > 20
    energy = sparse_energy(target, sparse(target.network, *batch, 3, 8))
    assert energy.sum() == pytest.approx(1)
    assert energy[phase[0] :: 2, phase[1] :: 2].sum() > 0.95


def test_energy_counts_pictures_alike(batch):
    pictures = torch.zeros(3, 3, 2, 2)
    changed = pictures.clone()
    changed[0, :, 0, 0], changed[1, 0, 1, 1] = 1, 0.1
    energy = sparse_energy(Target(nn.Identity(), pictures, torch.zeros(3)), changed)
    assert energy.tolist() == [[0.5, 0], [0, 0.5]]
    assert sparse_energy(Target(nn.Identity(), pictures, torch.zeros(3)), pictures).sum() == 0


def test_unrestricted_attacks_fool_more_with_more(batch):
    torch.manual_seed(1)
    network = OfPhase(0, 0)
    labels = network(batch[0]).argmax(1)
    labels[0] = (labels[0] + 1) % CLASSES  # a wrong answer is no success
    shares = full_attack(Target(network, batch[0], labels, 2), (0.001, 20, 255), 4)
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_epsilon_that_fools_half():
    assert half_fooled((1, 4), (0.25, 0.75)) == pytest.approx(2)
    assert half_fooled((1, 2, 4), (0.1, 0.5, 0.9)) == pytest.approx(2)
    assert half_fooled((1, 2, 4, 8), (0.4, 0.3, 0.4, 0.6)) == pytest.approx(4 * 2**0.5)
    assert half_fooled((1, 2), (0.6, 0.9)) is None
    assert half_fooled((1, 2), (0.1, 0.4)) is None


def test_perturbations_are_shown_around_mid_grey(batch):
    torch.manual_seed(1)
    shown = perturbation(Target(OfPhase(0, 1), *batch))
    assert shown.shape == (5, SIZE, SIZE, 3)
    away = np.abs(shown.astype(float) - 127.5).mean((0, 3))
    assert away[::2, 1::2].min() > 3 * away[1::2, ::2].max()


def test_a_kernel_that_the_stride_divides_makes_gradients_even_and_skips_turn_the_pattern():
    def cell(name):
        return expected_by_phase(attacked_classifier(name, CLASSES, 4), 32)

    assert np.ptp(cell("strided-even")) < 1e-6
    assert cell("strided")[0, 0] == cell("strided").min()
    skip = cell("strided-skip")
    assert skip[0, 0] == skip.max()
    with pytest.raises(ParameterError, match="must be one of"):
        attacked_classifier("strided-odd", CLASSES, 4)


@pytest.mark.parametrize("name", ["strided-skip", "strided-even"])
def test_own_networks_take_pictures(name):
    network = attacked_classifier(name, CLASSES, 4)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, CLASSES)
