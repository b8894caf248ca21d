"""The example networks: built reproducibly, exported faithfully, and found to be what their docstrings say."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import evenly

EXAMPLES = Path(__file__).parent.parent / "examples"
EXPORTED = ("dcgan_generator", "cyclegan_generator", "strided_discriminator")


@pytest.fixture(scope="module")
def networks():
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module("networks")
    finally:
        sys.path.remove(str(EXAMPLES))


def build(out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / "build.py"), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("examples")
    done = build(out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


TRAINED = ("enlarger", "enlarger.onnx", "enlarger.safetensors")


def test_four_small_files_and_some_pictures(built):
    written = [*(f"{name}.onnx" for name in EXPORTED), *TRAINED, "pictures"]
    assert sorted(p.name for p in built.iterdir()) == sorted(written)
    for path in built.glob("*.onnx"):
        assert path.stat().st_size < 5_000_000
        assert str(EXAMPLES).encode() not in path.read_bytes(), "the file tells where it was built"


@pytest.mark.slow
def test_the_same_bytes_again(built, tmp_path):
    assert build(tmp_path / "new" / "folder").returncode == 0
    there = [p.relative_to(built) for p in built.rglob("*") if p.is_file()]
    assert len(there) == 3 + 4 + 24
    for name in there:
        assert (tmp_path / "new" / "folder" / name).read_bytes() == (built / name).read_bytes()


@pytest.mark.parametrize("name", EXPORTED)
def test_the_file_computes_what_the_module_computes(name, built, networks):
    runtime = pytest.importorskip("onnxruntime")
    network = getattr(networks, name)()
    with torch.no_grad():
        expected = network(*network.example_inputs).numpy()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(built / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
    feeds = {i.name: x.numpy() for i, x in zip(session.get_inputs(), network.example_inputs, strict=True)}
    (got,) = session.run(None, feeds)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_weights_do_not_depend_on_the_state_of_the_generator(networks):
    for name in networks.__all__:
        torch.manual_seed(0)
        first = getattr(networks, name)()
        torch.manual_seed(1)
        second = getattr(networks, name)()
        assert not first.training
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    done = build(file / "below")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


# Codes of findings above "info", structural period, least gradient unevenness of any layer and of the input.
EXPECTED = {
    "dcgan_generator": ({"EV103", "EV106"}, 16, 1, 1),
    "cyclegan_generator": ({"EV101", "EV106", "EV201"}, 4, 4, 1.01),
    "cyclegan_resize_generator": ({"EV201"}, 1, 4, 1.01),
    "strided_discriminator": ({"EV201"}, None, 4, 1.5),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_what_the_check_says_of_fresh_weights(name, networks, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    codes, period, layer, pixel = EXPECTED[name]
    report = evenly.check(f"networks:{name}")
    found = {f.code for f in report.findings if f.severity != "info"}
    assert found == codes, str(report)
    if period is not None:
        assert report.outputs[0].period == period
    assert max(x.gradient_unevenness or 1 for x in report.layers) >= layer
    assert (report.inputs[0].gradient_unevenness or 1) >= pixel
