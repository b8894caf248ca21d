"""Vocoders: what is measured of sounds, and that the experiment can find that it does not matter."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from evenly.errors import ParameterError
from evenly.reproduce import _vocoder
from evenly.reproduce._speech import HOP, MELS, RATE, conditioning, silence, speech
from evenly.reproduce._vocoder import STACKS, lines, sixteen_bit, vocoder
from evenly.reproduce.experiment import Context, Outcome, Scale
from evenly.reproduce.odena2016_audio import EXPERIMENT
from evenly.reproduce.result import Architecture, Recording
from evenly.reproduce.run import run_cell


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    cells = EXPERIMENT.cells(Scale.SMOKE, (0, 1))
    return {
        cell.name: run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, folder / cell.name, cell.seed)) for cell in cells
    }


def test_smoke_run_speaks_about_sound(smoke):
    first, second = (EXPERIMENT.conclude(Scale.SMOKE, smoke) for _ in range(2))
    assert [f.to_dict() for f in first.findings] == [f.to_dict() for f in second.findings]
    assert tuple(finding.claim for finding in first.findings) == EXPERIMENT.claims
    recordings = [piece for piece in first.evidence if isinstance(piece, Recording)]
    assert len({piece.title for piece in recordings}) == 7
    for piece in recordings:
        assert piece.samples.dtype == np.float32
        assert np.abs(piece.samples).max() <= 1
    named = [piece.name for piece in first.evidence if isinstance(piece, Architecture)]
    assert named == ["transposed", "nearest"]
    for outcome in smoke.values():
        json.dumps(outcome.numbers, allow_nan=False)


def test_check_foretells_the_tones(smoke):
    by_name = {p.name: p for p in EXPERIMENT.conclude(Scale.SMOKE, smoke).evidence if isinstance(p, Architecture)}
    assert "EV104 x 4" in by_name["transposed"].summary  # one for each layer that raises the rate
    assert "EV104" not in by_name["nearest"].summary
    for outcome in (smoke["untrained/seed-0"], smoke["untrained/seed-1"]):
        tones = {kind: max(x["db"] for x in found["ones"]) for kind, found in outcome.numbers["untrained"].items()}
        even = {"balanced", "nearest", "linear", "sub-pixel, ICNR"}
        assert set(STACKS) - even == {kind for kind, db in tones.items() if db > 20}


def test_a_killed_cell_goes_on_as_if_it_had_not_been(smoke, tmp_path, monkeypatch):
    (cell,) = [cell for cell in EXPERIMENT.cells(Scale.SMOKE, (0,)) if cell.options.get("kind") == "nearest"]
    context = Context(Scale.SMOKE, tmp_path, cell.seed, checkpoint_seconds=0)
    true, calls = _vocoder._distance, []

    def killed(*given):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return true(*given)

    monkeypatch.setattr(_vocoder, "_distance", killed)
    with pytest.raises(KeyboardInterrupt):
        run_cell(EXPERIMENT, cell, context)
    again = run_cell(EXPERIMENT, cell, context)
    assert len(calls) == 2 + 2
    assert again.numbers == smoke[cell.name].numbers
    for name, array in smoke[cell.name].arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


# planted effects


def _measured(tone, rng):
    """Lines of noise with a tone at a quarter of the rate, of that many times full scale."""
    time = np.arange(RATE // 2)
    samples = rng.normal(0, 0.01, len(time)) + tone * np.cos(np.pi * time / 2 + 0.3)
    return {"lines": lines(sixteen_bit(samples, rng)), "level": -40.0, "spectrum": [0.0] * 512}


def _planted(smoke, start, silent, spoken):
    """Outcomes whose transposed stacks have tones of given strength, and all others none."""
    outcomes = {}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        none, planted = (_measured(tone, rng) for tone in (0, start))
        numbers = {
            kind: dict.fromkeys(
                ("ones", "noise", "zeros", "tones"), (planted if kind == "transposed" else none)["lines"]
            )
            for kind in STACKS
        }
        outcomes[f"untrained/seed-{seed}"] = Outcome({"untrained": numbers})
        for kind in ("transposed", "nearest"):
            share = 1 if kind == "transposed" else 0
            after = {
                "speech": _measured(share * spoken, rng),
                "silence": _measured(share * silent, rng),
                "original": none,
            }
            base = smoke[f"{kind}/seed-0"].numbers
            outcomes[f"{kind}/seed-{seed}"] = Outcome({**base, "before": after, "after": after})
    return outcomes


def _states(smoke, *tones):
    conclusion = EXPERIMENT.conclude(Scale.SMALL, _planted(smoke, *tones))
    return conclusion.answers()["C22"], [part.state for part in conclusion.findings[0].parts]


def test_planted_tones_are_found(smoke):
    assert _states(smoke, 0.01, 0.01, 0.01) == ("holds", ["met"] * 4)


def test_absent_tones_are_not_found(smoke):
    answer, states = _states(smoke, 0, 0, 0)
    assert answer == "does not hold here"
    assert states[:2] == ["not met"] * 2
    assert "met" not in states


def test_tones_that_training_removes_are_told_apart(smoke):
    answer, states = _states(smoke, 0.01, 0, 0)
    assert answer == "partly"
    assert states[0] == "met"
    assert "met" not in states[1:]


# instruments and signals


def test_lines_belong_to_the_layer_that_makes_them():
    rng = np.random.default_rng(0)
    for layer, period in enumerate((256, 32, 4, 2)):
        phase = 2 * np.pi * np.arange(2 * RATE) / period
        found = lines(sixteen_bit(rng.normal(0, 0.01, 2 * RATE) + 0.01 * np.cos(phase + 0.1), rng))
        assert int(np.argmax([x["db"] for x in found])) == layer
        assert found[layer]["log10_p"] < -6
        assert found[layer]["dbfs"] == pytest.approx(-40, abs=1)


def test_digital_silence_has_a_floor():
    samples = sixteen_bit(np.zeros(RATE), np.random.default_rng(0))
    assert np.std(samples) == pytest.approx(0.5, rel=0.05)  # triangular dither (1/6) and rounding (1/12) in steps
    assert max(x["db"] for x in lines(samples)) < 10


def test_speech_is_voiced_noisy_and_paused():
    sound = speech(6.0, np.random.default_rng(3))
    assert sound.samples.shape == (6 * RATE // HOP * HOP,) == sound.paused.shape
    assert sound.source.shape == (2, len(sound.samples))
    assert 0.05 < sound.paused.mean() < 0.5
    assert np.std(sound.samples[sound.paused]) < 1e-3 < np.std(sound.samples[~sound.paused])
    np.testing.assert_array_equal(sound.samples, speech(6.0, np.random.default_rng(3)).samples)
    assert max(x["db"] for x in lines(sixteen_bit(sound.samples, np.random.default_rng(0)))) < 12
    assert silence(1.0, np.random.default_rng(0)).paused.all()


def test_conditioning_tells_speech_from_silence_and_high_from_low():
    time = np.arange(HOP * 40) / RATE
    tones = torch.tensor(np.sin(2 * np.pi * np.array([[300.0], [3000.0]]) * time), dtype=torch.float32)
    found = conditioning(tones)
    assert found.shape == (2, MELS, 40)
    low, high = (int(bands.mean(-1).argmax()) for bands in found)
    assert low < high
    assert conditioning(torch.zeros(1, 40 * HOP)).max() < found.max() - 1


@pytest.mark.parametrize("kind", STACKS)
def test_vocoders_make_256_samples_of_each_frame(kind):
    network = vocoder(kind, 16)
    assert network(torch.zeros(2, MELS, 9), torch.zeros(2, 2, 9 * HOP)).shape == (2, 9 * HOP)
    assert vocoder(kind, 16, excited=False)(torch.zeros(2, MELS, 9)).shape == (2, 9 * HOP)


def test_unknown_vocoders_are_refused():
    with pytest.raises(ParameterError, match="nearest"):
        vocoder("cubic", 16)
