"""Loading what models are run on: every kind of source, and everything that must be refused or reported."""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest

from evenly.errors import TooLargeError, UnreadableError, UsageError
from evenly.fix import _data_arrays
from evenly.fix.data import InputSpec, load_batches, load_reference

PICTURE = InputSpec("x", (None, 3, 64, 64))


def save(path, pixels):
    from PIL import Image

    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Five pictures of different sizes and kinds, a broken one, one too small, one of another kind."""
    rng = np.random.default_rng(0)
    for k, (height, width) in enumerate([(64, 64), (80, 100), (65, 64), (128, 64)]):
        save(tmp_path / f"{k}.png", rng.integers(0, 256, (height, width, 3), np.uint8))
    save(tmp_path / "4.png", rng.integers(0, 256, (70, 70), np.uint8))
    save(tmp_path / "small.png", rng.integers(0, 256, (63, 200, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_pictures_are_cropped_to_the_centre_and_never_resized(folder):
    from PIL import Image

    data = load_batches(folder, [PICTURE], batch=2)
    assert [batch[0].shape for batch in data.batches] == [(2, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 64)]
    assert data.signals == 5
    stored = np.asarray(Image.open(folder / "1.png"))
    assert np.allclose(data.arrays[0][1], np.moveaxis(stored[8:72, 18:82], 2, 0) / 255, atol=1e-6)
    grey = data.arrays[2][0]
    assert (grey == grey[:1]).all()
    assert "64 x 64 from 0 (black) to 1 (white)" in data.words


def test_what_is_left_out_is_named_with_its_reason(folder):
    data = load_batches(folder, [PICTURE])
    reasons = {failure.path.rpartition("/")[2]: failure.reason for failure in data.left_out}
    assert set(reasons) == {"broken.png", "small.png"}
    assert "63 x 200 pixels (H x W), expected 64 x 64" in reasons["small.png"]
    assert "PNG" in reasons["broken.png"]
    assert data.words.endswith("2 left out")


def test_the_range_and_the_number_of_channels_are_those_asked_for(folder):
    coloured, grey = (load_batches(folder, [InputSpec("x", (None, c, 64, 64))], values=(-1, 1)) for c in (3, 1))
    assert coloured.arrays[0].min() < -0.9
    luma = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), coloured.arrays[0][0], 1)
    assert np.allclose(grey.arrays[0][0, 0], luma, atol=1e-5)


def test_where_the_model_takes_any_size_it_is_the_largest_that_all_have(folder):
    spec = InputSpec("x", (None, 3, None, None))
    assert load_batches(folder, [spec]).arrays[0].shape == (6, 3, 32, 64)  # small.png has 63 rows, 0.png 64 columns
    (folder / "small.png").unlink()
    assert load_batches(folder, [spec], limit=2).arrays[0].shape == (2, 3, 64, 64)


def test_batches_have_the_size_that_the_model_takes(folder):
    data = load_batches(folder, [InputSpec("x", (2, 3, 64, 64))])
    assert [len(array) for array in data.arrays] == [2, 2]
    assert "the last 1 left out: batches have 2" in data.words
    with pytest.raises(UsageError, match="takes batches of 9"):
        load_batches(folder, [InputSpec("x", (9, 3, 64, 64))])


def test_recordings(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    sounds = [rng.uniform(-1, 1, (n, c)).astype(np.float32) for n, c in [(5000, 1), (300_000, 2), (700, 1)]]
    for k, sound in enumerate(sounds):
        soundfile.write(tmp_path / f"{k}.wav", sound, 16000, subtype="FLOAT")
    data = load_batches(tmp_path, [InputSpec("wave", (None, 1, None))])
    assert data.arrays[0].shape == (2, 1, 4096)
    start = (5000 - 5000 // 1) // 2 + (5000 - 4096) // 2
    assert np.allclose(data.arrays[0][0, 0], sounds[0][start : start + 4096, 0], atol=1e-6)
    middle = (300_000 - 4096) // 2
    assert np.allclose(data.arrays[0][1, 0], sounds[1][middle : middle + 4096].mean(1), atol=1e-6)
    assert [failure.reason for failure in data.left_out] == [
        "too small: 700 samples, expected 1024 or more; it was left out, not resized"
    ]
    with pytest.raises(UsageError, match="5 channels"):
        load_batches(tmp_path, [InputSpec("wave", (None, 5, None))])


def test_one_array(tmp_path):
    path = tmp_path / "a.npy"
    array = np.random.default_rng(0).standard_normal((5, 3, 64, 64))
    np.save(path, array)
    data = load_batches(path, [PICTURE], batch=2, limit=4)
    assert data.signals == 4
    assert data.arrays[1].dtype == np.float32
    assert np.allclose(data.arrays[1], array[2:4])
    np.save(path, np.asfortranarray(array))
    assert np.allclose(load_batches(path, [PICTURE], limit=4).arrays[0], array[:4])
    np.save(path, np.full((2, 3, 64, 64), 255, np.uint8))
    assert (load_batches(path, [PICTURE], values=(-1, 1)).arrays[0] == 1).all()


def test_sizes_of_an_example_do_not_bind_arrays_but_channels_do(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 3, 32, 48)))
    assert load_batches(path, [InputSpec("x", (1, 3, 64, 64), exact=False)]).arrays[0].shape == (2, 3, 32, 48)
    with pytest.raises(UsageError, match=r"expected \(N, 4, H, W\)"):
        load_batches(path, [InputSpec("x", (1, 4, 64, 64), exact=False)])


def test_an_array_per_input(tmp_path):
    path = tmp_path / "a.npz"
    inputs = [PICTURE, InputSpec("t", (None,), "int64"), InputSpec("scale", ())]
    np.savez(path, t=np.arange(3), x=np.ones((3, 3, 64, 64)), scale=np.float32(2))
    data = load_batches(path, inputs, batch=2)
    assert [[a.shape for a in batch] for batch in data.batches] == [
        [(2, 3, 64, 64), (2,), ()],
        [(1, 3, 64, 64), (1,), ()],
    ]
    assert data.batches[1][1].tolist() == [2]
    np.savez(path, t=np.arange(4), x=np.ones((3, 3, 64, 64)), scale=np.float32(2))
    with pytest.raises(UsageError, match="different numbers of signals"):
        load_batches(path, inputs)
    np.savez(path, t=np.arange(3), y=np.ones((3, 3, 64, 64)), scale=np.float32(2))
    with pytest.raises(UsageError, match="holds the arrays t, y, scale; expected the inputs of the model by name: x"):
        load_batches(path, inputs)
    np.savez(path, whatever=np.ones((3, 3, 64, 64)))
    assert load_batches(path, [PICTURE]).signals == 3  # there is only one it can be


def test_reference(folder):
    data = load_reference(folder, (64, None), 3, limit=3)
    assert [array.shape for array in data.arrays] == [(3, 3, 64, 64)]


def entry(header: bytes, body: bytes = b"") -> bytes:
    padded = header + b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + body


HUGE = entry(b"{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 3, 64, 64), }")
NEGATIVE = entry(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3, 64, 64), }")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a file of arrays"),
        (b"no array at all", "cannot be read"),
        (HUGE, "bytes are there|are there; copy"),
        (NEGATIVE, "are there; copy"),
        (entry(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n"), "Python objects"),
        (entry(b"{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "type complex64"),
        (entry(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 64, 64), }", bytes(99)), "copy it again"),
        (entry(b"{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os'), }"), "cannot be read"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_and_hostile_arrays(tmp_path, content, message, zipped):
    path = tmp_path / ("a.npz" if zipped else "a.npy")
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(UnreadableError, match=message):
        load_batches(path, [PICTURE])


def test_pickles_and_bombs_in_archives(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([print], object))
    with pytest.raises(UnreadableError, match="Python objects"):
        load_batches(path, [PICTURE])
    monkeypatch.setattr(_data_arrays, "MOST_BYTES", 2**20)
    np.savez_compressed(path, x=np.zeros((100, 3, 64, 64)))
    with pytest.raises(TooLargeError, match="bytes of arrays; at most 1048576"):
        load_batches(path, [PICTURE])
    np.save(tmp_path / "a.npy", np.zeros((100, 3, 64, 64)))
    with pytest.raises(TooLargeError, match="at most 1048576"):
        load_batches(tmp_path / "a.npy", [PICTURE])
    assert load_batches(tmp_path / "a.npy", [PICTURE], limit=10).signals == 10


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 64, 64, 3)), r"expected \(N, 3, 64, 64\) for the input 'x'; .*moveaxis"),
        (np.zeros((3, 64, 64)), r"shape \(3, 64, 64\); expected"),
        (np.zeros(()), r"shape \(\); expected"),
        (np.zeros((0, 3, 64, 64)), "expected"),
        (np.zeros((2, 3, 32, 32)), "expected"),
        (np.full((2, 3, 64, 64), np.nan), "NaN or infinite"),
        (np.full((2, 3, 64, 64), 1e300), "NaN or infinite"),
        (np.zeros((2, 3, 64, 64), np.int32), "int32 for the floating input"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, array, message):
    path = tmp_path / "a.npy"
    np.save(path, array)
    with pytest.raises(UsageError, match=message):
        load_batches(path, [PICTURE])


def test_sources_that_cannot_be(tmp_path, folder):
    two = [PICTURE, InputSpec("t", (None,), "int64")]
    empty = folder / "empty"
    empty.mkdir()
    np.save(folder / "a.npy", np.zeros((2, 3, 64, 64)))
    for source, inputs, options, message in [
        (tmp_path / "none", [PICTURE], {}, "not there"),
        (tmp_path / "none.npy", [PICTURE], {}, "not there"),
        (empty, [PICTURE], {}, "no pictures there"),
        (folder / "broken.png", [PICTURE], {}, "none of 1 pictures there can be used; the first: .*broken.png: "),
        (folder, two, {}, "2 inputs .*expected a .npz"),
        (folder / "a.npy", two, {}, "one array, but the model has the inputs x, t"),
        (folder, [InputSpec("x", (None, 4, 64, 64))], {}, "4 channels, pictures have 1 or 3"),
        (folder, [InputSpec("x", (None, 7), "int64")], {}, "int64 .x7: give a .npy"),
        (folder, [], {}, "no inputs"),
        (folder, [PICTURE], {"values": (1, 0)}, "black below"),
        (folder, [PICTURE], {"limit": 0}, "1 or more"),
    ]:
        with pytest.raises(UsageError, match=message):
            load_batches(source, inputs, **options)


def test_only_regular_files(tmp_path):
    import os

    pipe = tmp_path / "pipe.npy"
    os.mkfifo(pipe)
    with pytest.raises(UnreadableError, match="no regular file"):
        load_batches(pipe, [PICTURE])


def test_nothing_is_read_beyond_the_limit(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((50, 3, 64, 64)))
    spent = io.BytesIO(path.read_bytes())
    read = []
    spent_read = spent.read
    spent.read = lambda n=-1: read.append(n) or spent_read(n)
    array = _data_arrays._array(spent, path, None, 4)
    assert array.shape == (4, 3, 64, 64)
    assert max(read) == 4 * 3 * 64 * 64 * 8
    assert re.match("1 signals", load_batches(path, [PICTURE], limit=1).words)
