"""Sounds from files: the forms that are read, and the broken ones that are refused in one clear line."""

from __future__ import annotations

import io
import os
import struct
from contextlib import ExitStack

import numpy as np
import pytest
import soundfile

from evenly.errors import SignalError, UnreadableError, UsageError
from evenly.measure.audio import measure_audio
from evenly.measure.sound_files import open_sound

RATE = 8000
SOUND = 0.3 * np.random.default_rng(0).standard_normal((4000, 2)).clip(-3, 3)


def written(form="WAV", subtype=None, sound=SOUND, endian=None):
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format=form, subtype=subtype, endian=endian)
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "subtype", "error"),
    [
        ("WAV", "PCM_U8", 2**-7), ("WAV", "PCM_16", 2**-15), ("WAV", "PCM_24", 2**-23), ("WAV", "PCM_32", 2**-31),
        ("WAV", "FLOAT", 1e-7), ("WAV", "DOUBLE", 0), ("WAVEX", "PCM_16", 2**-15), ("RF64", "PCM_16", 2**-15),
        ("W64", "PCM_16", 2**-15), ("AIFF", "PCM_16", 2**-15), ("FLAC", "PCM_S8", 2**-7), ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23), ("OGG", "VORBIS", 1.0),
    ],
)  # fmt: skip
def test_forms_of_files(form, subtype, error):
    with ExitStack() as stack:
        sound = open_sound(written(form, subtype), stack)
        assert (sound.rate, sound.channels, sound.samples) == (RATE, 2, 4000)
        read = np.concatenate(list(sound.blocks), axis=1)
    assert read.shape == (2, 4000)
    assert np.abs(read.T - SOUND.clip(-1, 1 if "PCM" in subtype else 9)).max() <= error


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_channels(channels):
    x = np.random.default_rng(1).uniform(-1, 1, (3000, channels))
    assert measure_audio(written(subtype="FLOAT", sound=x), strides=(2,)).channels == channels


def test_big_endian_wav():
    assert measure_audio(written(subtype="PCM_16", endian="BIG"), strides=(2,)).seconds == 0.5


def test_the_content_decides_not_the_name(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(written("FLAC"))
    assert measure_audio(path, strides=(2,)).seconds == 0.5
    raw = tmp_path / "x.raw"
    raw.write_bytes(written())
    assert measure_audio(str(raw), strides=(2,)).seconds == 0.5


def test_an_open_file_stays_open():
    file = io.BytesIO(written())
    assert measure_audio(file, strides=(2,), path="tar/x.wav").path == "tar/x.wav"
    assert not file.closed


def wav(data, promised=None, rate=RATE, channels=1, bits=16):
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head
    body += b"data" + struct.pack("<I", len(data) if promised is None else promised) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


NOISE = np.random.default_rng(2).integers(-9999, 9999, 3000).astype("<i2").tobytes()


@pytest.mark.parametrize("promised", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_stream_without_its_length_is_read_to_the_end(promised):
    m = measure_audio(wav(NOISE, promised), strides=(2,))
    assert m.seconds == 3000 / RATE
    assert "does not say" in m.notes[0]


BROKEN = {
    "empty": (b"", "empty"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(500), "cannot be read as a sound"),
    "text": (b"hello " * 100, "cannot be read as a sound"),
    "head only": (wav(NOISE)[:20], "no data chunk|cannot be read"),
    "cut off": (wav(NOISE)[:-1000], "promises 6000 bytes of samples and holds 5000"),
    "more than there is": (wav(NOISE, 2_000_000_000), "promises 2000000000 bytes"),
    "no data chunk": (wav(NOISE).replace(b"data", b"blah"), "no data chunk"),
    "no channels": (wav(NOISE, channels=0), "cannot be read"),
    "flac cut off": (written("FLAC")[:9000], "x: |x ends|x is damaged|x cannot"),
    "flac head": (written("FLAC")[:50], "x ends|x is damaged|x cannot"),
    "flac turned": (written("FLAC")[:6000] + bytes(3000) + written("FLAC")[9000:], "x ends|x is damaged|x cannot"),
    "1025 channels": (wav(bytes(2 * 1025 * 4), channels=1025), "Too many channels"),
    "no rate": (wav(NOISE, rate=0), "cannot be read|rate"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(name):
    content, message = BROKEN[name]
    with pytest.raises((SignalError, UsageError), match=message) as caught:
        measure_audio(content, path="x")
    assert "\n" not in str(caught.value)
    assert "x" in str(caught.value)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf")])
def test_samples_that_are_not_finite(value, word):
    x = SOUND.copy()
    x[1234, 1] = value
    with pytest.raises(SignalError, match=f"sample 1234 of channel 1 is {word}"):
        measure_audio(written(subtype="FLOAT", sound=x))


def test_files_without_sound():
    with pytest.raises(SignalError, match="0 samples"):
        measure_audio(wav(b""))
    with pytest.raises(SignalError, match="constant"):
        measure_audio(wav(bytes(6000)))


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(UnreadableError, match=r"nothing\.wav cannot be opened: No such file"):
        measure_audio(tmp_path / "nothing.wav")
    with pytest.raises(UnreadableError, match="folder"):
        measure_audio(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(UnreadableError, match="pipe"):
        measure_audio(tmp_path / "pipe.wav")


def test_a_rate_beside_a_file():
    with pytest.raises(UsageError, match="a file has its own"):
        measure_audio(wav(NOISE), RATE)
