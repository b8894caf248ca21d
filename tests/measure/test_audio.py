"""Tones and replicas in sounds: against a naive implementation, under the null, with known truth, and in odd sounds."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter, resample_poly
from scipy.signal.windows import dpss
from scipy.stats import binom, norm

from evenly.errors import UsageError
from evenly.measure.audio import measure_audio
from evenly.measure.sound_phases import walk_log_p
from evenly.measure.sound_pieces import MARGIN, Pieces, even, families, irregular
from evenly.measure.sound_replicas import ReplicaState, replica_frame
from evenly.measure.sound_result import STRIDES
from evenly.measure.sound_tones import ToneState, tone_length

BENCH = Path(__file__).parents[2] / "bench" / "audio_signals.py"
PROVE = os.environ.get("EVENLY_PROVE") == "1"


def bench_signals():
    spec = importlib.util.spec_from_file_location("audio_signals", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


signals = bench_signals()
RATE = signals.RATE


def rng(seed=0):
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------------------ naive implementations


def naive_line(z, k, period, half=3.5, count=5):
    """Thomson's test of one line: (share of energy, direction), term by term."""
    tapers = dpss(z.size, half, count)
    wave = np.exp(-2j * np.pi * k * np.arange(z.size) / period)
    y = [np.sum(taper * z * wave) for taper in tapers]
    g = [np.sum(taper) for taper in tapers]
    along = sum(a * b for a, b in zip(g, y, strict=True))
    share = abs(along) ** 2 / sum(a * a for a in g) / sum(abs(a) ** 2 for a in y)
    return share, along / abs(along)


@pytest.mark.parametrize("pieces", [3, 9])
def test_the_statistic_is_thomsons_over_pieces(pieces):
    base, periods = 12, (3, 4, 12)
    x = rng(1).standard_normal((1, pieces * 960))
    state = ToneState(base, periods, 80, 1)
    state.push(x)
    state.finish()
    (by_line, *_), bins = state._line_log_p(0), list(state._lines)
    found = state.results()
    # The same pieces, each made even, each line by itself.
    cut = Pieces(1, irregular(base, 80), base, 84)
    made = [even(p[0]).values for p in (*cut.push(x), *cut.rest())]
    assert len({len(z) for z in made}) > 1
    for period in periods:
        result = found[period][0]
        assert list(result.index) == [k for k in range(1, period // 2 + 1) if math.gcd(k, period) == 1]
        for k, amplitude in zip(result.index, result.amplitude, strict=True):
            draws = []
            for z in made:
                share, direction = naive_line(z, k, period)
                draws.append(direction * min(3.0, math.sqrt(-4 * math.log(1 - share))))
            lengths, end = np.abs(draws)[None], abs(sum(draws))
            few = len(draws) < 4
            expected = -(end**2) / len(draws) if few else walk_log_p(lengths, np.zeros(1), np.array([end]))[0]
            line = bins.index(k * base // period)
            assert by_line[line] == pytest.approx(expected, rel=1e-6)
            assert 0 <= amplitude < 0.5


def test_the_line_at_half_the_rate_is_real():
    state = ToneState(2, (2,), 200, 1)
    x = rng(2).standard_normal((1, 150 + 250))
    state.push(x)
    state.finish()
    cut = Pieces(1, irregular(2, 200), 2, 14)
    total, count = 0.0, 0
    for piece in (*cut.push(x), *cut.rest()):
        share, direction = naive_line(even(piece[0]).values, 1, 2)
        t = math.sqrt(share / (1 - share) * 4)  # Student's t with 4 degrees of freedom
        from scipy.stats import t as student

        total += direction.real * min(3.0, norm.isf(student.sf(t, 4)))
        count += 1
    assert count < 4
    expected = 2 * norm.sf(abs(total) / math.sqrt(count))
    assert state._line_log_p(0)[0][0] == pytest.approx(math.log(expected), rel=1e-6)


def test_the_coherence_is_that_of_naive_frames():
    frame, period, k = 96, 4, 1
    x = rng(3).standard_normal((1, 4000))
    state = ReplicaState((period,), frame, 1)
    state.push(x)
    state.finish()
    pairs = state._pairs[0]
    cut = Pieces(1, iter(lambda: 8 * frame // 2, 0), frame // 2, frame)
    start, spectra = 0, []
    for piece in (*cut.push(x), *cut.rest()):
        z = even(piece[0]).values
        for at in range(0, z.size - frame + 1, frame // 2):
            n = np.arange(frame)
            wave = np.exp(-2j * np.pi * np.outer(n, n + start + at) / frame)  # phases of the whole sound's clock
            values = wave @ (z[at : at + frame] * np.hanning(frame + 1)[:-1])
            around = [np.mean([abs(values[(b + d) % frame]) ** 2 for d in range(-8, 9)]) for b in n]
            spectra.append(values / np.sqrt(around))
        start += z.size
    spectra = np.array(spectra)
    assert len(spectra) == state._count[0]
    for low, found in zip(pairs.low, pairs.products[0, 0], strict=True):
        expected = sum(s[(low + k * frame // period) % frame] * np.conj(s[low]) for s in spectra)
        assert found == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(2, 600), min_size=1, max_size=8), st.integers(2, 8000))
def test_families_hold_every_period_once(periods, limit):
    wanted = sorted(set(periods))
    found = families(wanted, limit)
    assert sorted(p for _, members in found for p in members) == wanted
    for base, members in found:
        assert base == math.lcm(*members)
        assert base <= limit or base == max(members)


@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(1, 3))
def test_pieces_are_the_sound_whatever_the_blocks(sizes, channels):
    x = rng(4).standard_normal((channels, sum(sizes)))
    cut = Pieces(channels, irregular(10, 40), 10, 30)
    got, at = [], 0
    for size in sizes:
        got += cut.push(x[:, at : at + size])
        at += size
    got += cut.rest()
    inner = [p[:, MARGIN:-MARGIN] for p in got]
    whole = np.concatenate(inner, axis=1) if inner else x[:, :0]
    assert np.array_equal(whole, x[:, : whole.shape[1]])
    assert x.shape[1] - whole.shape[1] < 30
    for a, b in pairwise(got):  # margins are the neighbours' samples
        assert np.array_equal(a[:, -MARGIN:][:, :10], b[:, MARGIN : MARGIN + 10])


# ---------------------------------------------------------------------------------------------------------------- null


@pytest.mark.parametrize("name", sorted(signals.CLEAN))
def test_p_values_of_clean_sounds(name):
    """At most 1.5 % below 0.01, to the error of so many draws, and not idle; bench/audio.md has the table."""
    draws, seconds = (60, 4) if PROVE else (6, 3)
    tones, replicas, called = [], [], 0
    for seed in range(draws):
        m = measure_audio(signals.CLEAN[name](signals.stream(name, 1000 + seed), RATE * seconds), RATE)
        called += m.verdict != "none"
        tones += [r.tone_log10_p for r in m.periods.values() if r]
        replicas += [r.replica_log10_p for r in m.periods.values() if r and r.replica_log10_p is not None]
    for values in (tones, replicas):
        # Periods of one sound are not quite independent: twice the binomial spread.
        spread = 2 * math.sqrt(0.015 / len(values))
        assert np.mean(np.array(values) < -2) <= 0.015 + 2.6 * spread
        assert np.mean(np.array(values) < -2) >= 0.005 - 2.6 * spread
        assert np.mean(np.array(values) < -1) > 0.02
    assert called <= binom.isf(1e-3, draws, 0.01)


# ------------------------------------------------------------------------------------------------------------ detection


@pytest.mark.parametrize(
    ("dbfs", "background"), [(-100, -90), (-100, None), (-80, -60), (-60, -40)], ids=lambda v: str(v)
)
def test_tones_are_found_down_to_the_floor(dbfs, background):
    samples = RATE * 6
    x = signals.tones(samples, 16, dbfs)
    if background is not None:
        x = x + 10 ** (background / 20) * rng(5).standard_normal(samples)
    m = measure_audio(x, RATE)
    assert m.verdict == "strong"
    assert m.found == (16,)
    assert "x16" in m.cause
    assert "1378.1 Hz" in m.cause
    tone = m.periods[16].strongest
    assert tone.level_dbfs == pytest.approx(dbfs, abs=1.0)
    assert tone.frequency_hz * 16 / RATE == pytest.approx(round(tone.frequency_hz * 16 / RATE))
    assert m.periods[16].tone_count == 4
    assert tone.db > 10


@pytest.mark.parametrize("seed", range(30 if PROVE else 2))
def test_tones_under_the_pauses_of_loud_speech(seed):
    x = signals.speech(rng(600 + seed), RATE * 8)
    x[RATE * 3 : RATE * 5] = signals.tones(RATE * 2, 8, -90)
    m = measure_audio(x, RATE)
    assert m.found == (8,)
    assert m.periods[8].strongest.level_dbfs == pytest.approx(-90, abs=1)


def test_a_resonance_beside_a_line_does_not_fire():
    f = RATE / 16 / RATE
    x = np.stack(
        [
            lfilter([1.0], [1, -2 * 0.999 * np.cos(2 * np.pi * f), 0.998], rng(s).standard_normal(RATE * 4))
            for s in range(3)
        ]
    )
    m = measure_audio(0.01 * x, RATE)
    assert m.periods[16].tone_p > 1e-3
    assert m.verdict == "none"


@pytest.mark.parametrize("strides", [(8, 8, 2, 2), (8, 5, 4, 2)])
@pytest.mark.parametrize("what", ["noise", "silence", "speech"])
def test_transposed_stacks_are_named(strides, what):
    hop = math.prod(strides)
    y = signals.generated(signals.vocoder(strides, "transposed", 1), RATE * 4 // hop, what, 2)
    m = measure_audio(y, RATE)
    assert m.verdict == "strong"
    products = {math.prod(strides[-i:]) for i in range(1, 5)}
    assert products <= set(m.found)
    assert all(hop % p == 0 for p in m.found)
    assert f"x{hop} = tones at multiples of {RATE / hop:.5g} Hz" in m.cause


@pytest.mark.parametrize("strides", [(8, 8, 2, 2), (8, 5, 4, 2)])
@pytest.mark.parametrize("what", ["noise", "silence", "speech"])
def test_resize_convolutions_leave_no_tones(strides, what):
    hop, draws, called = math.prod(strides), 100 if PROVE else 4, 0
    for seed in range(draws):
        y = signals.generated(signals.vocoder(strides, "linear", 700 + seed), RATE * 4 // hop, what, 700 + seed)
        m = measure_audio(y, RATE)
        called += "tones" in (m.cause or "")
        assert all(p == 2 or (m.periods[p].replica_db or -99) < -20 for p in STRIDES)
    assert called <= 0.02 * draws


@pytest.mark.parametrize("ratio", [2, 3, 4])
@pytest.mark.parametrize("bits", [None, 16])
def test_a_good_resampler_leaves_no_tones(ratio, bits):
    """Its filter lets the image of the mean through at -66 dB and less: a true tone, and no fault."""
    called, draws = 0, 100 if PROVE else 3
    for seed in range(draws):
        low = signals.speech(rng(800 + seed), -(-RATE * 4 // ratio)) + 0.1 * (seed % 2)
        y = resample_poly(low, ratio, 1)
        m = measure_audio(y if bits is None else np.round(y * 2 ** (bits - 1)) / 2 ** (bits - 1), RATE)
        called += "tones" in (m.cause or "")
    assert called <= 0.02 * draws


def test_steps_are_named_where_the_periods_tell_them():
    samples = RATE * 5
    quiet = 1e-4 * rng(23).standard_normal(samples)
    told = measure_audio(sum(signals.tones(samples, p, -60) for p in (2, 4, 32, 256)) + quiet, RATE)
    assert told.found == (2, 4, 32, 256)
    assert "by steps of 2 x 2 x 8 x 8, from the output back" in told.cause
    for periods in ((2, 4, 8), (8,), (2, 3, 12)):  # all divisors, as one stride of 8 leaves; one; no chain
        x = sum(signals.tones(samples, p, -60) for p in periods) + quiet
        m = measure_audio(x, RATE, (2, 3, 4, 6, 8, 12))
        assert m.found == periods
        assert "steps" not in m.cause


def test_replicas_by_the_way_of_raising_the_rate():
    low = signals.speech(rng(7), RATE * 3)
    low = low + 0.003 * signals.noise(rng(8), low.size, 0.0)
    stuffed = np.zeros(2 * low.size)
    stuffed[::2] = low
    ways = {
        "zeros": stuffed,
        "nearest": np.repeat(low, 2),
        "linear": lfilter([0.5, 1, 0.5], [1], stuffed),
        "good": resample_poly(low, 2, 1),
        "none": low,
    }
    dithered = {k: x + 1e-5 * rng(9).standard_normal(x.size) for k, x in ways.items()}
    m = {k: measure_audio(x, RATE) for k, x in dithered.items()}
    db = {k: -200.0 if v.periods[2].replica_db is None else v.periods[2].replica_db for k, v in m.items()}
    assert db["zeros"] == pytest.approx(0, abs=1)
    assert db["zeros"] > db["nearest"] + 3 > db["linear"] + 6
    assert db["good"] < -40
    assert db["none"] == -200
    assert all(2 in m[k].found for k in ("zeros", "nearest"))
    assert m["zeros"].verdict == m["nearest"].verdict == "strong"
    assert m["good"].verdict == m["none"].verdict == "none"
    assert "replicas 11025 Hz apart" in m["nearest"].cause


# --------------------------------------------------------------------------------------------------------- other causes


def test_mains_hum_is_called_that():
    n = np.arange(16000 * 6)
    x = sum(10 ** (-(50 + 3 * h) / 20) * np.cos(2 * np.pi * 50 * h / 16000 * n + h) for h in range(1, 12))
    m = measure_audio(x + 1e-4 * rng(10).standard_normal(n.size), 16000)
    assert m.verdict == "none"
    assert "mains hum" in m.cause
    assert {c.kind for c in m.causes} == {"mains-hum"}
    assert 320 in m.causes[0].periods


def test_a_tuned_note_is_called_that():
    n = np.arange(RATE * 6)
    f = RATE / 8 / 3  # its third partial is a multiple of rate / 8
    x = sum(0.1 / h * np.cos(2 * np.pi * f * h / RATE * n + h) for h in range(1, 12))
    m = measure_audio(x + 1e-4 * rng(11).standard_normal(n.size), RATE, (2, 4, 8, 16))
    assert m.periods[8].tone_log10_p < -8
    assert m.verdict == "none"
    assert "harmonic tone" in m.cause


# ---------------------------------------------------------------------------------------------------------- odd sounds


def p_values(m):
    return np.array([[r.tone_log10_p, r.replica_log10_p or 0.0] for r in m.periods.values() if r])


def test_the_level_changes_no_p_value():
    x = signals.speech(rng(12), RATE * 3) + signals.tones(RATE * 3, 8, -80)
    usual = measure_audio(x, RATE)
    assert p_values(measure_audio(x / 1024, RATE)) == pytest.approx(p_values(usual), rel=1e-6, abs=1e-6)
    assert p_values(measure_audio(x * 3e-7, RATE)) == pytest.approx(p_values(usual), rel=1e-5, abs=1e-5)
    assert measure_audio(x / 1024, RATE).periods[8].strongest.level_dbfs == pytest.approx(
        usual.periods[8].strongest.level_dbfs - 20 * math.log10(1024)
    )


def test_equal_channels_are_no_evidence_and_different_ones_are_told_apart():
    x = signals.noise(rng(13), RATE * 3, 1.0) + signals.tones(RATE * 3, 8, -58)
    one = measure_audio(x, RATE)
    six = measure_audio(np.stack([x] * 6), RATE)
    assert six.channels == 6
    assert p_values(six) == pytest.approx(p_values(one), abs=1e-6)
    mixed = measure_audio(np.stack([signals.noise(rng(14), RATE * 3, 1.0), x]), RATE)
    assert mixed.periods[8].channel_log10_p[1] == pytest.approx(one.periods[8].channel_log10_p[0])
    assert mixed.periods[8].channel_log10_p[0] > -3
    assert mixed.periods[8].strongest.channel == 1
    silent = measure_audio(np.stack([np.zeros_like(x), x]), RATE)
    assert silent.periods[8].channel_log10_p[0] == 0.0
    assert 8 in silent.found


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "DOUBLE"), ("flac", "PCM_24")])
def test_a_file_is_measured_as_the_array(tmp_path, suffix, subtype):
    samples = 150_000  # two channels: more than one block
    x = np.stack([signals.speech(rng(15), samples), signals.noise(rng(16), samples, 1.0)])
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, x.T, RATE, subtype=subtype)
    held = x if subtype == "DOUBLE" else soundfile.read(path)[0].T
    a, b = measure_audio(path, strides=(2, 8, 256)), measure_audio(held, RATE, (2, 8, 256))
    assert a.path == str(path)
    assert np.array_equal(p_values(a), p_values(b))
    assert a.periods[8].energy_fraction == pytest.approx(b.periods[8].energy_fraction)
    assert np.array_equal(p_values(measure_audio(path.read_bytes(), strides=(2, 8, 256))), p_values(a))


def test_states_do_not_grow_and_work_grows_with_the_length():
    state, count = ToneState(512, (2, 512), tone_length(None, (2, 512), 512), 1), []
    sizes = []
    for _ in range(3):
        for _ in range(8):
            state.push(rng(17).standard_normal((1, 61440)))
        count.append(int(state._count[0]))
        held = [vars(state), *(vars(walks) for walks in (*state._draws, *state._weighted))]
        sizes.append(sum(v.nbytes for one in held for v in one.values() if isinstance(v, np.ndarray)))
    assert len(set(sizes)) == 1
    assert count == pytest.approx([16, 32, 48], abs=2)
    assert replica_frame(None, (512,), 512) == replica_frame(10**9, (512,), 512) == 7680


def test_digital_silence_is_no_evidence():
    x = signals.quiet(rng(18), RATE * 4)
    x[RATE : 2 * RATE] = x[RATE]
    assert measure_audio(x, RATE).verdict == "none"
    m = measure_audio(np.r_[np.zeros(RATE * 3), 0.1 * rng(19).standard_normal(300)], RATE)
    assert m.verdict == "none"


@pytest.mark.parametrize("samples", [24, 100, 1000, 4000])
def test_short_sounds_say_what_cannot_be_tested(samples):
    m = measure_audio(rng(20).standard_normal(samples), 8000)
    assert m.verdict == "none"
    tested = [p for p, r in m.periods.items() if r is not None]
    assert all(7 * p <= samples for p in tested)
    assert (512 in tested) == (samples >= 7 * 512)
    assert tuple(m.periods) == STRIDES
    text = json.loads(m.to_json())
    assert (text["periods"]["512"] is None) == (samples < 7 * 512)


def test_the_json_form():
    m = measure_audio(signals.tones(RATE * 3, 256, -60) + 1e-4 * rng(21).standard_normal(RATE * 3), RATE, path="a.wav")
    text = json.loads(m.to_json())
    assert text["format_version"] == 1
    assert (text["path"], text["rate_hz"], text["channels"], text["seconds"]) == ("a.wav", RATE, 1, 3.0)
    assert text["verdict"] == "strong"
    assert text["found"] == [256]
    period = text["periods"]["256"]
    assert set(period) >= {
        *("tone_db", "tone_p", "tone_log10_p", "level_dbfs", "frequency_hz", "tones", "replica_db", "replica_p"),
        "energy_fraction",
    }
    assert sys.float_info.min <= period["tone_p"] < 1e-15
    assert len(period["tones"]) == 16 < period["tone_count"] <= 64
    assert set(period["tones"][0]) >= {"frequency_hz", "db", "level_dbfs", "p"}
    power = 64 * 0.5e-6
    assert period["energy_fraction"] == pytest.approx(power / (power + 1e-8), rel=0.02)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        ([], 8000, "0 samples"),
        ([0.5], 8000, "1 samples"),
        (np.zeros(9000), 8000, "constant: all 9000"),
        (np.full((2, 900), 0.25), 8000, r"0\.25\)"),
        (np.r_[np.ones(700), np.nan, np.zeros(99)], 8000, "sample 700 of channel 0 is nan"),
        (np.stack([np.arange(300.0), np.full(300, np.inf)]), 8000, "sample 0 of channel 1 is inf"),
        (np.ones((2, 3, 4)), 8000, r"\(2, 3, 4\)"),
        (np.ones(99, complex), 8000, "complex128"),
        (["a"], 8000, "real numbers"),
        (np.ones((900, 6)), 8000, "transposed"),
        (np.ones(99), None, "rate"),
        (np.ones(99), 0, "rate"),
        (np.ones(99), math.nan, "rate"),
    ],
)
def test_what_is_no_sound_is_refused(samples, rate, message):
    with pytest.raises(UsageError, match=message):
        measure_audio(samples, rate)


@pytest.mark.parametrize("strides", [(), (1,), (2.5,), (2, 1 << 20)])
def test_periods_out_of_range(strides):
    with pytest.raises(UsageError, match="strides"):
        measure_audio(np.arange(99.0), 8000, strides)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.float32])
def test_types_of_samples_have_their_full_scale(kind):
    x = 0.5 * np.sin(np.arange(30000) * 2 * np.pi / 8 + 0.5) + 0.01 * rng(22).standard_normal(30000)
    info = np.iinfo(kind) if np.issubdtype(kind, np.integer) else None
    held = (
        x.astype(kind)
        if info is None
        else np.round(x * -float(np.iinfo(f"i{info.bits // 8}").min) + (128 if info.min == 0 else 0)).astype(kind)
    )
    m = measure_audio(held, 8000, (8,))
    assert m.periods[8].strongest.level_dbfs == pytest.approx(-6.02, abs=0.1)
