"""Data: CIFAR-10's binary files, folders with and without classes, what cannot be read, splits that share nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from evenly.errors import UsageError  # noqa: E402
from evenly.reproduce import data as module  # noqa: E402
from evenly.reproduce.data import CIFAR10, open_data  # noqa: E402


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def cifar(folder, per_file=30, labels=None):
    """Pictures of one colour that says which picture it is."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
    for number, name in enumerate(names):
        records = np.zeros((per_file, 3073), np.uint8)
        records[:, 0] = np.arange(per_file) % 10 if labels is None else labels
        records[:, 1:1025] = np.arange(per_file)[:, None]  # red: place in the file
        records[:, 1025:2049] = number * 40  # green: the file
        (folder / name).write_bytes(records.tobytes())
    return folder


def test_cifar10(tmp_path):
    data = open_data(cifar(tmp_path / "cifar-10-batches-bin").parent)
    assert data.classes == CIFAR10
    assert "180 pictures" in data.description
    pictures, labels = data.labelled(400, 32, generator())
    assert pictures.shape == (400, 3, 32, 32)
    assert pictures.dtype == torch.float32
    red = ((pictures[:, 0, 0, 0] + 1) * 127.5).round().long()
    assert torch.equal(red % 10, labels)  # a picture keeps its label
    assert set(labels.tolist()) == set(range(10))
    assert (pictures[:, 2] == -1).all()
    with pytest.raises(UsageError, match="64 pixels"):
        data.batch(1, 64, generator())


def test_cifar10_splits_share_no_picture(tmp_path):
    data = open_data(cifar(tmp_path))

    def seen(split):
        batch = ((data.batch(3000, 32, generator(), split)[:, :2, 0, 0] + 1) * 127.5).round().long()
        return set(map(tuple, batch.tolist()))

    train, held_out = seen("train"), seen("held-out")
    assert not train & held_out
    assert len(train) == 120
    assert len(held_out) == 60


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "data_batch_3.bin").unlink(), "data_batch_3.bin: cannot be read"),
        (lambda f: (f / "data_batch_2.bin").write_bytes(b""), "0 bytes"),
        (lambda f: (f / "data_batch_2.bin").write_bytes(bytes(3074)), "multiple of 3073"),
        (lambda f: (f / "test_batch.bin").write_bytes(b"\x0b" + bytes(3072)), "label 11"),
    ],
)
def test_damaged_cifar10(tmp_path, change, words):
    change(cifar(tmp_path))
    with pytest.raises(UsageError, match=words):
        open_data(tmp_path)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_the_pickled_version_is_refused_and_never_loaded(tmp_path, inside):
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was loaded",))

    (folder / "data_batch_1").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UsageError, match=r"pickles.*cifar-10-binary"):
        open_data(tmp_path)


def picture(path, size=(96, 128), value=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)) if value is None else np.full((*size, 3), value)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_folders_are_classes_and_what_is_unreadable_is_counted(tmp_path):
    for number in range(9):
        picture(tmp_path / "dogs" / f"{number}.png", value=20)
        picture(tmp_path / "cats" / "old" / f"{number}.png", value=200)
    (tmp_path / "cats" / "notes.txt").write_text("no picture", encoding="utf-8")
    (tmp_path / "cats" / "broken.png").write_bytes(b"\x89PNG broken")
    (tmp_path / ".hidden").write_text("", encoding="utf-8")
    data = open_data(tmp_path)
    assert data.classes == ("cats", "dogs")
    assert data.whole
    assert "18 pictures" in data.description
    assert "2 other files" in data.description
    pictures, labels = data.labelled(50, 48, generator())
    bright = pictures.mean((1, 2, 3)) > 0
    assert torch.equal(bright, labels == 0)


def test_few_pictures_without_classes_are_their_own(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.png", seed=number)
    data = open_data(tmp_path)
    assert len(data.classes) == 3
    assert not data.whole
    assert data.sample(4, 16, 1).shape == (4, 3, 16, 16)


def test_few_pictures_are_held_out_by_their_sides(tmp_path):
    """The left two thirds are black, the rest is white: a crop of a split has one of them only."""
    pixels = np.zeros((150, 300, 3), np.uint8)
    pixels[:, 200:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = open_data(tmp_path)
    train, held_out = (data.batch(200, 24, generator(), split) for split in ("train", "held-out"))
    assert train[..., :-2].max() < 0  # but for the border, which the scaling blurs
    assert held_out[..., 2:].mean() > 0.9


def test_batches_depend_on_the_generator_alone(tmp_path):
    picture(tmp_path / "a.png")
    data = open_data(tmp_path)
    first = data.batch(5, 32, generator(4))
    torch.manual_seed(9)
    torch.testing.assert_close(first, data.batch(5, 32, generator(4)), rtol=0, atol=0)
    assert not torch.equal(first, data.batch(5, 32, generator(5)))
    assert -1 <= first.min() < first.max() <= 1


def test_the_digest_is_of_the_pixels(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        picture(tmp_path / name / "x.png", seed=seed)
    a, b, c = (open_data(tmp_path / name).digest for name in "abc")
    assert a == b != c


def test_nothing_to_read(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="is no folder"):
        open_data(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="none of its 1 files is a picture"):
        open_data(tmp_path)
    from evenly.errors import TooLargeError

    picture(tmp_path / "more" / "x.png")
    monkeypatch.setattr(module, "_LARGEST", 1000)
    with pytest.raises(TooLargeError, match="fewer pictures"):
        open_data(tmp_path / "more")


def test_the_photographs_of_the_wheels():
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    data = open_data(None)
    assert len(data.classes) == 18
    assert data.batch(2, 64, generator(), "held-out").shape == (2, 3, 64, 64)
