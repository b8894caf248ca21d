"""Finding files: folders, patterns, links, shards and URIs; what is wrong with one of them stops no other."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evenly.errors import EvenlyError, MissingDependencyError, UnreadableError, UsageError
from evenly.measure._source import forget_last
from evenly.measure.result import Failure
from evenly.measure.sources import EXTENSIONS, Source, find_sources

PACKED = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True),
}


def picture(value: int) -> bytes:
    """A small PNG that is told by its pixels."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def tar(members: dict[str, bytes | tuple[bytes, str]]) -> bytes:
    """An archive of files, and of links and devices (kind, target)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                archive.addfile(member)
    return file.getvalue()


def found(*targets, **options) -> tuple[list[str], dict[str, str]]:
    """Names of sources in their order, and reasons of failures."""
    items = list(find_sources([str(t) for t in targets], **options))
    names = [item.name for item in items if isinstance(item, Source)]
    return names, {item.path: item.reason for item in items if isinstance(item, Failure)}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with pictures, others, and hidden ones; the working folder."""
    for n, name in enumerate(
        [
            "b.png",
            "a/2.JPG",
            "a/10.png",
            "a/deep/er/1.tiff",
            "c/x.webp",
            ".hidden/h.png",
            "a/.h.png",
            "notes.txt",
            "a/s.wav",
        ]
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(n))
    monkeypatch.chdir(tmp_path)
    return tmp_path


ALL = ["a/10.png", "a/2.JPG", "a/deep/er/1.tiff", "b.png", "c/x.webp"]


def test_folders_are_walked_in_the_order_of_names(tree):
    left_out = []
    items = find_sources(tree, ignored=left_out.append)
    assert [item.name for item in items] == [str(tree / name) for name in ALL]
    assert left_out == [str(tree / "notes.txt"), str(tree / "a/s.wav")]
    assert found(tree, kind="audio") == ([str(tree / "a/s.wav")], {})
    assert found("a") == (ALL[:3], {})


def test_sources_are_found_lazily(tree):
    items = find_sources(["a", "c"])
    first = next(items)
    (tree / "c/y.png").write_bytes(picture(9))  # after the search began
    assert [first.name, *(item.name for item in items)] == [*ALL[:3], "c/x.webp", "c/y.png"]


def test_files_that_are_named_are_always_tried(tree):
    assert found("notes.txt", "a/.h.png") == (["notes.txt", "a/.h.png"], {})


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["b.png", "./b.png", "b.png"], ["b.png"]),
        (["a", "a/10.png"], ["a/2.JPG", "a/deep/er/1.tiff", "a/10.png"]),
        (["a/10.png", "a"], ["a/10.png", "a/2.JPG", "a/deep/er/1.tiff"]),
        (["a/deep", "a"], ["a/deep/er/1.tiff", "a/10.png", "a/2.JPG"]),
        (["a", "a/deep", "a"], ALL[:3]),
        (["a/*.png", "a"], ["a/10.png", "a/2.JPG", "a/deep/er/1.tiff"]),
        (["a", "a/*.png"], ALL[:3]),
        (["a/1*.png", "a/*0.png"], ["a/10.png"]),
        (["**/*.png", "b.png"], ["a/10.png", "b.png"]),
    ],
)
def test_every_file_comes_once(tree, targets, names):
    assert found(*targets) == (names, {})


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.png", ["b.png"]),
        ("*", ["a/10.png", "a/2.JPG", "a/deep/er/1.tiff", "b.png", "c/x.webp"]),
        ("a/[0-9]*", ["a/10.png", "a/2.JPG"]),
        ("?/*.[wp]*", ["a/10.png", "c/x.webp"]),
        ("**/*.png", ["b.png", "a/10.png"]),
        ("**", ["a/10.png", "a/2.JPG", "a/deep/er/1.tiff", "b.png", "c/x.webp"]),
        ("a/**/1.*", ["a/deep/er/1.tiff"]),
        (".h*/*.png", [".hidden/h.png"]),
        ("*.txt", ["notes.txt"]),
        ("./*/../b.p?g", ["./a/../b.png"]),
    ],
)
def test_patterns(tree, pattern, names):
    assert found(pattern) == (names, {})
    assert [n.removeprefix(f"{tree}/") for n in found(tree / pattern)[0]] == [n.removeprefix("./") for n in names]


def test_a_file_whose_name_is_a_pattern(tree):
    (tree / "a[1].png").write_bytes(picture(1))
    assert found("a[1].png") == (["a[1].png"], {})


def test_what_is_not_there_is_said_at_once(tree):
    with pytest.raises(UsageError, match=r"^gone, lost\.png: not there"):
        find_sources(["a", "gone", "lost.png"])
    with pytest.raises(UsageError, match="no files were named"):
        find_sources([])
    with pytest.raises(UsageError, match="kind"):
        find_sources(["a"], kind="video")


@pytest.mark.parametrize("target", ["empty", "*.xyz", "texts"])
def test_nothing_at_all_is_an_error(tree, target):
    (tree / "empty").mkdir()
    (tree / "texts").mkdir()
    (tree / "texts/1.txt").touch()
    left = r", only other files \(1 \.txt\)" if target == "texts" else ""
    with pytest.raises(UsageError, match=rf"no pictures there{left}; expected"):
        list(find_sources([target]))


# -------------------------------------------------------------------------------------------------------------- links


def test_links(tree):
    outside = tree / "outside"
    outside.mkdir()
    (outside / "o.png").write_bytes(picture(1))
    (tree / "a/loop").symlink_to(".")
    (tree / "a/up").symlink_to("../a/deep")
    (tree / "a/gone.png").symlink_to("nowhere.png")
    (tree / "a/round.png").symlink_to("round.png")
    (tree / "a/same.png").symlink_to("10.png")
    (tree / "a/b.png").symlink_to("../b.png")
    (tree / "a/out").symlink_to(outside)
    names, failures = found("a")
    assert names == ["a/10.png", "a/2.JPG", "a/b.png", "a/deep/er/1.tiff", "a/out/o.png"]
    assert failures == {
        "a/gone.png": "links to a file that is not there; remove the link or restore the file",
        "a/loop": "links back to a folder that it is in; remove the link",
        "a/round.png": "links that lead back to themselves; remove one of them",
    }
    assert found("a", "b.png")[0] == ["a/10.png", "a/2.JPG", "a/deep/er/1.tiff", "a/out/o.png", "b.png"]
    assert found("a/gone.png", "b.png") == (["b.png"], {"a/gone.png": failures["a/gone.png"]})


def test_folders_that_may_not_be_listed(tree, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reason = "a folder that cannot be listed: may not be read; check its permissions"
    assert found(".") == (["./a/10.png", "./a/2.JPG", "./b.png", "./c/x.webp"], {"./a/deep": reason})
    assert found("a/deep") == ([], {"a/deep": reason})


def test_files_that_vanish_or_may_not_be_read(tree):
    gone, folder = find_sources(["b.png", "a/10.png"])
    (tree / "b.png").unlink()
    (tree / "a/10.png").unlink()
    (tree / "a/10.png").mkdir()
    for source, reason in ((gone, "No such file"), (folder, "Is a directory")):
        with pytest.raises(UnreadableError, match=rf"{source.name}: {reason}"):
            source.open()


def test_names_that_are_no_text(tree):
    raw = os.fsencode(tree / "a") + b"/\xff.png"
    try:
        with open(raw, "wb") as file:
            file.write(picture(5))
    except OSError:
        pytest.skip("this file system has no such names")
    source = list(find_sources("a"))[-1]
    assert source.name.encode() == b"a/\\xff.png"
    assert source.read_picture().pixels[0, 0] == 5


# ------------------------------------------------------------------------------------------------------------- shards

MEMBERS = {f"{n % 3}/{n:03d}.png": picture(n) for n in range(40)}


@pytest.fixture(params=PACKED)
def shard(request, tmp_path):
    path = tmp_path / f"shard{request.param}"
    path.write_bytes(PACKED[request.param](tar({"./notes.txt": b"?", **MEMBERS, ".h/x.png": b"", "._1.png": b""})))
    yield path
    forget_last()


def values(sources) -> list[int]:
    return [int(source.read_picture().pixels[0, 0]) for source in sources]


def test_members_of_shards(shard):
    left_out = []
    sources = list(find_sources([shard], ignored=left_out.append))
    assert [s.name for s in sources] == [f"{shard}/{name}" for name in MEMBERS]
    assert {s.shard for s in sources} == {str(shard)}
    assert len({s.identity for s in sources}) == 40
    assert left_out == [f"{shard}/notes.txt"]
    assert values(sources) == list(range(40))
    assert values(reversed(sources)) == list(range(39, -1, -1))
    again = pickle.loads(pickle.dumps(sources))
    assert again == sources
    assert max(len(pickle.dumps(s)) for s in sources) < 1000
    assert values(again[::7]) == list(range(0, 40, 7))
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda s: values([s])[0], sources)) == list(range(40))


def test_members_in_other_processes(shard):
    sources = list(find_sources([shard]))
    values(sources[:3])  # this process holds the shard open, which children must not share
    with multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn").Pool(2) as pool:
        assert pool.map(values, [sources[n::4] for n in range(4)]) == [list(range(n, 40, 4)) for n in range(4)]
    assert values(sources[3:]) == list(range(3, 40))


def test_a_shard_that_changes_meanwhile(shard):
    sources = list(find_sources([shard]))
    shard.write_bytes(PACKED["".join(shard.suffixes)](tar({"other.png": picture(1)})))
    with pytest.raises(UnreadableError, match="has changed since it was listed"):
        sources[5].open()


def test_a_compressed_shard_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "shard.tar.gz"
    path.write_bytes(gzip.compress(tar(MEMBERS)))
    sources = list(find_sources([path]))
    opened = []
    monkeypatch.setattr(gzip, "GzipFile", lambda *a, _make=gzip.GzipFile, **k: opened.append(1) or _make(*a, **k))
    assert values(sources) == list(range(40))
    assert len(opened) == 1
    forget_last()


def test_links_and_devices_in_shards_are_not_followed(tmp_path):
    (tmp_path / "s.tar").write_bytes(
        tar(
            {
                "1.png": picture(1),
                "../../up.png": picture(2),
                "/abs.png": picture(3),
                "link.png": (tarfile.SYMTYPE, "/etc/passwd"),
                "hard.png": (tarfile.LNKTYPE, "1.png"),
                "device.png": (tarfile.CHRTYPE, ""),
                "pipe": (tarfile.FIFOTYPE, ""),
            }
        )
    )
    sources = list(find_sources([tmp_path]))
    assert values(s for s in sources if isinstance(s, Source)) == [1, 2, 3]
    assert [
        (s.path.rpartition("/")[2], s.reason.partition(" within")[0]) for s in sources if isinstance(s, Failure)
    ] == [
        ("link.png", "a link"),
        ("hard.png", "a link"),
        ("device.png", "no regular file"),
    ]


def test_damaged_shards_end_where_they_are_damaged(tmp_path):
    whole = tar(MEMBERS)
    middle = whole.index(b"1/019.png")
    damaged = {
        "flipped.tar": whole[: middle + 3] + b"\xff\xff" + whole[middle + 5 :],
        "cut.tar": whole[: middle - 500],
        "cut-in-header.tar": whole[: middle + 99],
        "cut.tar.gz": gzip.compress(whole)[: len(gzip.compress(whole)) // 2],
        "no-end.tar": whole[:middle],
        "joined.tar": whole + whole,
        "text.tar": b"this is no archive" * 99,
        "text.tar.gz": b"this is no archive" * 99,
        "text.tar.zst": b"this is no archive" * 99,
        "empty.tar": b"",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / "good.tar").write_bytes(whole)
        names, failures = found(tmp_path / name, tmp_path / "good.tar")
        assert list(failures) == [str(tmp_path / name)], name
        before = [n for n in names if f"/{name}/" in n]
        if name == "joined.tar":
            assert "more after its end mark" in failures[str(tmp_path / name)]
            assert len(before) == 40
        elif name.startswith(("text", "empty")):
            assert "tar archive" in failures[str(tmp_path / name)]
            assert not before
        elif not name.endswith("gz"):
            assert before[-1].endswith("018.png")
        assert len(names) - len(before) == 40
    cut = list(find_sources([tmp_path / "cut.tar"]))[-2]
    with pytest.raises(UnreadableError, match="incomplete"):
        cut.read_picture()


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_of_a_shard_gives_sources_and_failures(tmp_path_factory, changes):
    content = bytearray(tar({f"{n}.png": picture(n) for n in range(4)}))
    for place, byte in changes:
        content[int(place * len(content))] = byte
    path = tmp_path_factory.mktemp("damaged") / "s.tar"
    path.write_bytes(content)
    try:
        for item in find_sources([path]):
            if isinstance(item, Source):
                try:
                    item.read_picture()
                except EvenlyError:
                    continue
            else:
                assert "\n" not in item.reason
    except UsageError as error:
        nothing = "no pictures there" in str(error)
        assert nothing


def test_a_header_that_claims_much_takes_nothing(tmp_path):
    header = tarfile.TarInfo("x" * 90)
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    with (tmp_path / "s.tar").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**30 + 4096)  # sparse: it is really that long
    tracemalloc.start()
    _, failures = found(tmp_path / "s.tar")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "a header of" in failures[str(tmp_path / "s.tar")]
    assert peak < 10 * 2**20


# --------------------------------------------------------------------------------------------------------------- URIs


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    for name in ALL:
        files.pipe(f"/set/{name}", picture(3))
    files.pipe("/set/notes.txt", b"?")
    files.pipe("/set/.hidden.png", b"?")
    files.pipe("/shards/1.tar", tar(MEMBERS))
    files.pipe("/shards/2.tar.gz", gzip.compress(tar(MEMBERS)))
    yield files
    forget_last()
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_uris(memory):
    everything = [f"memory:///set/{name}" for name in ALL]
    left_out = []
    assert found("memory://set", ignored=left_out.append) == (everything, {})
    assert left_out == ["memory:///set/notes.txt"]
    assert found("memory://set/a", "memory://set/a/10.png")[0] == [everything[1], everything[2], everything[0]]
    assert found("memory://set/a/*.png", "memory://set")[0] == everything
    assert found("memory://set/notes.txt") == (["memory:///set/notes.txt"], {})
    sources = list(find_sources("memory://set"))
    assert values(pickle.loads(pickle.dumps(sources))) == [3] * 5
    assert len({s.identity for s in sources}) == 5


def test_shards_behind_uris(memory):
    sources = list(find_sources(["memory://shards/*"]))
    assert [s.shard for s in sources[::40]] == ["memory:///shards/1.tar", "memory:///shards/2.tar.gz"]
    assert values(sources) == [*range(40), *range(40)]


def test_uris_that_lead_nowhere(tree, memory):
    for uri, reason in {
        "memory://gone": "not there",
        "nothing://x": "cannot be reached",
        "zip://a.png::notes.txt": "cannot be reached",
    }.items():
        with pytest.raises(UsageError, match=f"{uri}: {reason}"):
            find_sources(["a", uri])
    with pytest.raises(UsageError, match="no pictures there"):
        list(find_sources("memory://set/*.bmp"))
    source = next(iter(find_sources("memory://set/b.png")))
    memory.rm("/set/b.png")
    with pytest.raises(UnreadableError, match=r"memory:///set/b\.png: "):
        source.open()


def test_a_protocol_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingDependencyError, match="s3://bucket/x: Install s3fs"):
        find_sources("s3://bucket/x")


def test_chains_and_local_uris(tree):
    with zipfile.ZipFile("all.zip", "w") as archive:
        for name in ALL:
            archive.write(name)
    names = [f"zip://{name}::{tree}/all.zip" for name in ALL]
    sources = list(find_sources(f"zip://::{tree}/all.zip"))
    assert [s.name for s in sources] == names
    assert values(sources) == [2, 1, 3, 0, 4]
    assert found(f"zip://a/*.png::{tree}/all.zip")[0] == names[:1]
    assert found(f"file://{tree}/a", "a/10.png")[0][-1] == "a/10.png"
    (tree / "a b.png").write_bytes(picture(1))
    assert found(f"file://{tree}/a%20b.png") == ([f"{tree}/a b.png"], {})


# ------------------------------------------------------------------------------------------------------------ the rest


def test_opened_sources_are_files(tree):
    for source in find_sources(["b.png"]):
        file = source.open()
        assert file.read() == picture(0)
        assert file.seek(-4, 2) == len(picture(0)) - 4
        assert file.read(99) == picture(0)[-4:]
        buffer = bytearray(8)
        file.seek(0)
        assert file.readinto(buffer) == 8
        assert buffer == picture(0)[:8]
        del file  # forgotten without a warning


def test_sounds_and_pictures_share_no_ending():
    assert not EXTENSIONS["image"] & EXTENSIONS["audio"]


def test_the_file_systems_are_imported_only_for_uris(tree):
    code = (
        "import sys; from evenly.measure.sources import find_sources\n"
        "list(find_sources('a')); print('fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_memory_does_not_grow_with_the_members_of_a_shard(tmp_path):
    path = tmp_path / "many.tar"
    block = tar({f"{n:05d}.png": b"" for n in range(1000)}).rstrip(b"\0") + bytes(512)
    block = block[: len(block) // 512 * 512]

    def most(count: int) -> int:
        with path.open("wb") as file:
            for _ in range(count):
                file.write(block)
            file.write(bytes(1024))
        tracemalloc.start()
        assert sum(isinstance(item, Source) for item in find_sources([path])) == 1000 * count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    most(1)
    assert most(8) < most(2) + 100_000
