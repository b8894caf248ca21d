"""Instruments of the experiments: planted patterns are found at their period, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from evenly.reproduce.instruments import architecture, axis_spectrum, levels, mosaic, to_pixels  # noqa: E402


def pictures(seed, period=None, strength=4.0, count=24, size=64):
    """Smooth noise, with one pixel of `period` x `period` brighter by `strength` grey levels."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 1, (count, size + 4, size + 4, 3))
    smooth = sum(np.roll(noise, (y, x), (1, 2)) for y in range(3) for x in range(3))[:, :size, :size]
    made = 128 + 6 * smooth
    if period is not None:
        made[:, ::period, ::period] += strength
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("period", [2, 4])
def test_a_planted_period_is_found(period):
    found = levels(pictures(1, period, 12.0), (2, 3, 4), pictures(2))
    assert found.db[period] > 10
    assert found.log10_p[period] < -6
    assert found.above[period] > 3
    assert found.log10_p_above[period] < -3
    assert found.db[3] < 3
    if period == 2:
        assert found.log10_p[4] > -3


def test_nothing_is_found_where_nothing_is():
    found = levels(pictures(1), (2, 4), pictures(2))
    for period in (2, 4):
        assert found.db[period] < 3
        assert found.above[period] < 3
        assert found.log10_p[period] > -3
        assert found.log10_p_above[period] > -3


def test_more_pattern_is_more():
    weak, strong = (levels(pictures(1, 2, s), (2,)).db[2] for s in (6.0, 24.0))
    assert 6 < strong - weak < 14  # four times the amplitude is 12 dB over an unchanged background


def test_what_is_in_the_data_is_not_above_them():
    assert abs(levels(pictures(1, 2, 8.0), (2,), pictures(2, 2, 8.0)).above[2]) < 3


def test_without_other_pictures_and_with_periods_that_do_not_fit():
    found = levels(pictures(1, count=4, size=32), (2, 16))
    assert set(found.db) == {2}
    assert found.above == found.log10_p_above == {}
    assert set(found.to_dict()["db"]) == {"2"}


def test_spectra_have_their_lines_where_they_belong():
    frequencies, power = axis_spectrum(pictures(1, 4, 20.0))
    _, plain = axis_spectrum(pictures(1))
    assert frequencies[0] == 0
    assert frequencies[-1] == 0.5
    excess = power - plain
    for frequency in (0.25, 0.5):
        assert excess[np.argmin(abs(frequencies - frequency))] > 3
    assert abs(excess[np.argmin(abs(frequencies - 0.37))]) < 0.5


def test_spectra_of_white_noise_are_flat_at_its_variance():
    noise = np.random.default_rng(0).normal(0, 5, (400, 32, 32))
    _, power = axis_spectrum(noise)
    np.testing.assert_allclose(power[2:-1], 10 * np.log10(25), atol=0.3)


def test_tensors_to_pixels():
    batch = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 5).expand(1, 3, 2, 5)
    found = to_pixels(batch)
    assert found.shape == (1, 2, 5, 3)
    assert found.dtype == np.uint8
    assert found[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_mosaics():
    sheet = mosaic(np.stack([np.full((4, 5, 3), n, np.uint8) for n in range(5)]), 3)
    assert sheet.shape == (10, 19, 3)
    assert sheet[0, 0, 0] == 0
    assert sheet[6, 7, 0] == 4
    assert (sheet[4:6] == 255).all()
    assert (sheet[6:, 14:] == 255).all()


def test_architectures_say_what_check_says():
    net = torch.nn.ConvTranspose2d(3, 3, 3, 2)
    found = architecture("uneven", net, torch.zeros(1, 3, 8, 8))
    assert "EV101" in found.summary
    assert "EV101" in found.report
    assert "ConvTranspose2d(3, 3" in found.printed
    even = torch.nn.Conv2d(3, 3, 1)
    assert architecture("even", even, torch.zeros(1, 3, 8, 8)).summary == "no findings"
