"""Figures: the numbers in them, and that they can be drawn for everything that can be measured."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from scipy.ndimage import convolve

from evenly.errors import MissingDependencyError, UsageError
from evenly.measure.audio import measure_audio
from evenly.measure.image import measure_image
from evenly.measure.levels import grey_levels
from evenly.measure.place import BINS, fold, local_amplitude, spectrum, where
from evenly.measure.planes import strips
from evenly.measure.plot import plot_measurement, plot_set
from evenly.measure.plot_sound import level_spectrum
from evenly.measure.result import PeriodResult, SetMeasurement, Trace
from evenly.measure.sound_files import array_sound
from evenly.measure.tapers import new_lines


def planes(pixels):
    pixels, level, _ = grey_levels(pixels)
    parts = list(strips(pixels, level, every=False))
    return tuple(np.concatenate([getattr(s, name) for s in parts]) for name in ("mean", "weight"))


def noise(shape=(120, 150), size=4.0, seed=0):
    return 128 + size * np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("period", [2, 3, 4, 5, 8])
def test_fold_returns_the_pattern(period):
    random = np.random.default_rng(period)
    cell = random.normal(0, 2, (period, period))
    cell -= cell.mean()
    height, width = 20 * period + 1, 30 * period + 3
    pattern = np.tile(cell, (31, 31))[:height, :width]
    plane, weight = planes(100 + pattern)
    found = fold(plane, weight, period)
    # The weight differs a little from phase to phase where the pattern itself is all there is.
    assert found == pytest.approx(cell, abs=0.35)
    naive = np.empty((period, period))
    for y in range(period):
        for x in range(period):
            naive[y, x] = plane[y::period, x::period].sum(dtype=float) / weight[y::period, x::period].sum(dtype=float)
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
    filtered = found - convolve(found, binomial, mode="wrap")
    assert filtered == pytest.approx(naive - naive.mean(), abs=0.05)


def test_fold_of_a_faint_pattern_is_exact_on_noise():
    pixels = noise((240, 240))
    pixels[:, ::2] += 1.0
    found = fold(*planes(pixels), 2)
    assert found[0] - found[1] == pytest.approx(0, abs=0.3)
    assert found[:, 0] - found[:, 1] == pytest.approx(1.0, abs=0.3)


def test_local_amplitude_is_where_the_pattern_is():
    pixels = noise((160, 240))
    pixels[:, 120:] += 3 * np.cos(np.pi * np.arange(120))
    found = local_amplitude(*planes(pixels), 2)
    assert found.shape == pixels.shape
    assert found[:, 200:].mean() == pytest.approx(3, rel=0.2)
    assert found[:, :60].max() < 0.7


def test_local_amplitude_of_a_line_that_has_a_conjugate():
    pixels = noise((160, 160)) + 2 * np.cos(2 * np.pi * np.arange(160) / 5 + 1)
    assert local_amplitude(*planes(pixels), 5).mean() == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize("shape", [(300, 250), (100, 90), (30, 300)])
def test_spectrum_has_its_line_where_it_belongs(shape):
    pixels = noise(shape, 2) + 4 * np.cos(2 * np.pi * np.arange(shape[1]) / 3)
    power = spectrum(planes(pixels)[0])
    assert power.shape == (BINS, BINS)
    row, column = np.unravel_index(power.argmax(), power.shape)
    assert min(row, BINS - row) <= 2
    assert min(column, BINS - column) == pytest.approx(BINS / 3, abs=2)
    assert abs(np.median(power)) < 1


def drawn(figure):
    figure.canvas.draw()
    return [axes for axes in figure.axes if axes.get_title()]


@pytest.mark.parametrize("shape", [(120, 150), (25, 25), (30, 90, 3), (1, 1), (5, 200)])
@pytest.mark.parametrize("constant", [False, True])
def test_every_picture_can_be_drawn(shape, constant):
    pixels = np.full(shape, 7.0) if constant else noise(shape)
    panels = drawn(measure_image(pixels, keep=True).plot())
    assert len(panels) == 3
    assert "cycles/pixel" in panels[0].get_xlabel()
    assert "pixels" in panels[1].get_xlabel()


def test_what_was_found_is_marked():
    pixels = noise((240, 240))
    pixels[::2, ::2] += 4
    measurement = measure_image(pixels, keep=True)
    assert measurement.found == (2,)
    panels = drawn(measurement.plot())
    assert [t.get_text() for t in panels[0].get_legend().get_texts()] == ["period 2 px"]
    assert panels[1].get_title() == "Mean pattern of period 2 px"
    marked = next(line for line in panels[0].lines if line.get_label() == "period 2 px")
    assert {(abs(x), abs(y)) for x, y in marked.get_xydata()} == {(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)}
    assert drawn(measurement.plot(16))[1].get_title() == "Mean pattern of period 16 px"


def test_every_line_is_marked_once_per_border():
    from evenly.measure.plot import _places

    for period in (2, 3, 4, 5, 6, 8, 16):
        places = np.stack(_places(period), axis=1)
        assert len({tuple(p) for p in np.round(places, 9)}) == len(places)
        assert np.abs(places).max() <= 0.5 + 1e-12
        inside = places[(places < 0.5 - 1e-9).all(axis=1)]
        whole = [(a, b) for a in range(period) for b in range(period) if np.gcd.reduce([a, b, period]) == 1]
        assert len(inside) == len(whole) >= len(new_lines(period))


def test_names_are_not_formulas():
    figure = measure_image(noise(), path="a$\\x$\x1b.png", keep=True).plot()
    drawn(figure)
    assert figure.get_suptitle().startswith("a$\\x$\\x1b.png: ")


def test_what_cannot_be_drawn():
    with pytest.raises(UsageError, match="no pixels were kept"):
        plot_measurement(measure_image(noise()))
    with pytest.raises(UsageError, match=r"period .=7. was not measured"):
        measure_image(noise(), keep=True).plot(7)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"evenly\[plot\]"):
        measure_image(noise(), keep=True).plot()


def test_sets_are_drawn_beside_each_other():
    def one(db):
        periods = {p: PeriodResult(p, Trace(-9.0, db), Trace(-0.1, None), None, None) for p in (2, 4)}
        return SetMeasurement(3, (), 0, periods, "strong", (2,), {}, {}, "unknown")

    panels = drawn(one(12.0).plot(one(3.0)))
    assert [p.get_title() for p in panels] == ["mean", "variance", "interpolation", "chroma"]
    assert sorted(bar.get_height() for bar in panels[0].patches) == [3, 3, 12, 12]
    assert not panels[1].patches
    assert len(drawn(plot_set(one(1.0)))[0].patches) == 2


# ---------------------------------------------------------------------------------------------------------------- sound


def tone(stride=8, amplitude=0.01, rate=16000):
    samples = 0.003 * np.random.default_rng(0).standard_normal(2 * rate)
    return samples + amplitude * np.cos(2 * np.pi * np.arange(2 * rate) / stride)


def test_a_tone_has_its_level():
    level = level_spectrum(array_sound(tone(), 16000))
    assert level.argmax() == 7680 // 8
    assert level.max() == pytest.approx(20 * np.log10(0.01), abs=0.5)
    full = level_spectrum(array_sound(np.stack([np.zeros(1000), np.sin(np.pi * np.arange(1000) / 2)]), 8000))
    assert full.max() == pytest.approx(0, abs=0.1)


def test_sounds_are_drawn(tmp_path):
    measurement = measure_audio(tone(), 16000, (8, 16))
    with pytest.raises(UsageError, match="samples were not kept"):
        measurement.plot()
    panel = drawn(measurement.plot(tone()))[0]
    assert "kHz" in panel.get_xlabel()
    assert [t.get_text() for t in panel.get_legend().get_texts()] == ["period 8 samples: tones at multiples of 2000 Hz"]
    assert panel.lines[1].get_xdata()[0] == pytest.approx(2.0)
    path = tmp_path / "tone.wav"
    pytest.importorskip("soundfile").write(path, tone(amplitude=0), 16000)
    quiet = measure_audio(path, None, (8, 512))
    assert quiet.found == ()
    assert drawn(quiet.plot())[0].get_legend() is None
    assert str(quiet).startswith(f"evenly measure {path}"[:100])


def test_where_is_as_large_as_the_pattern_where_it_is():
    rng = np.random.default_rng(0)
    picture = rng.normal(128, 3, (160, 200))
    picture[:, :100:2] += 2.0  # the left half only: a cosine of one grey level
    found = where(picture.round().clip(0, 255).astype(np.uint8), 2)
    assert found.shape == picture.shape
    assert abs(found[80, 40] - 1.0) < 0.3
    assert found[80, 170] < 0.3
    with pytest.raises(UsageError, match="period"):
        where(picture, 1)


def test_a_measurement_knows_where_its_pattern_is():
    rng = np.random.default_rng(1)
    picture = rng.normal(128, 3, (160, 200))
    picture[:, :100] += np.tile(4 * rng.standard_normal((4, 4)), (40, 25))
    measured = measure_image(picture, keep=True)
    found = measured.where()
    assert np.array_equal(found, where(picture, 4, measured.periods[4].mean.lines))
    assert found[:, :80].mean() > 4 * found[:, 130:].mean()
    assert not np.array_equal(measured.where(2), found)
    with pytest.raises(UsageError, match="no pixels were kept"):
        measure_image(picture).where()
    with pytest.raises(UsageError, match=r"period .=7. was not measured"):
        measured.where(7)
