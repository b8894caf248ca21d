"""Repaired modules in files: what comes back, equal bytes, nothing by halves, and what strangers may put in."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import evenly
from evenly.errors import (
    EvenlyError,
    FormatError,
    OutputError,
    UntrustedError,
    UsageError,
    VerificationError,
    WeightsError,
)
from evenly.fix import saving
from evenly.fix.backend import Edit
from evenly.fix.phase_conv import PhaseConv2d
from evenly.fix.restoring import KEY, LARGEST, restore
from evenly.fix.result import FixReport, FixResult
from evenly.fix.structure import replaced
from evenly.fix.torch_backend import TorchBackend

SIZE = (2, 3, 8, 8)
REPORT = FixReport("Sequential", "auto", "reached", "random", "none", 3.0, 36.0, 0, (), ())


def numbers(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def made(*layers, seed=0):
    """A network with weights drawn anew."""
    network = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) - 0.5)
    return network.eval()


def generator(seed=0):
    return made(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), seed=seed)


def grown(layer, extra=1, *, bias=True, uneven=False):
    """More taps on every side, drawn weights, a bias."""
    moved = [extra * d for d in layer.dilation]
    kernel = tuple(k + 2 * extra for k in layer.kernel)
    padding = tuple((a + m, b + m) for (a, b), m in zip(layer.padding, moved, strict=True))
    if uneven:  # one tap fewer before
        kernel = tuple(k - 1 for k in kernel)
        padding = tuple((a - d, b) for (a, b), d in zip(padding, layer.dilation, strict=True))
    rng = np.random.default_rng(1)
    channels = layer.weight.shape[1] * layer.groups if layer.kind == "transposed" else layer.weight.shape[0]
    weight = rng.standard_normal((*layer.weight.shape[:2], *kernel))
    return Edit(
        layer.name, weight, rng.standard_normal(channels) if bias else None, kernel, padding, layer.output_padding
    )


def by_phase(layer, phases=2):
    rng = np.random.default_rng(2)
    ends = (phases,) * len(layer.kernel)
    weight, bias = rng.standard_normal((*ends, *layer.weight.shape)), rng.standard_normal((*ends, len(layer.weight)))
    return Edit(layer.name, weight, bias, layer.kernel, layer.padding, layer.output_padding, ends)


def result(module, new=None, *, edit=None, names=None, shape=SIZE, example=None):
    """A repair: of the layers that are named, or all; or another module."""
    example = numbers(*shape, dtype=next(module.parameters()).dtype) if example is None else example
    backend = TorchBackend(module, example)
    if new is not None:
        backend = TorchBackend(new, example)
    elif edit is not None:
        backend = backend.edited([edit(layer) for layer in backend.layers() if names is None or layer.name in names])
    return FixResult(backend.model, REPORT, backend, module, example)


def same_function(a, b, shape=SIZE, dtype=torch.float32):
    x = numbers(*shape, seed=9, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(b(x), a(x), rtol=0, atol=0)


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def equal_states(a, b):
    assert list(a) == list(b)
    assert all(torch.equal(a[key], b[key]) for key in a)


def changes(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[KEY])


# ---- there and back --------------------------------------------------------------------------------------------------


EDITS = {
    "more taps": (generator, grown),
    "more taps, no bias": (generator, lambda layer: grown(layer, bias=False)),
    "unequal padding": (generator, lambda layer: grown(layer, uneven=True)),
    "dilated": (
        lambda seed=0: made(nn.ConvTranspose2d(3, 3, 3, 2, 2, 1, dilation=2), nn.Conv2d(3, 3, 3, 1, 2, 2), seed=seed),
        lambda layer: grown(layer, uneven=True),
    ),
    "dilation spread": (
        lambda seed=0: made(nn.Conv2d(3, 3, 3, padding=2, dilation=2), seed=seed),
        lambda layer: Edit(layer.name, np.ones((3, 3, 4, 4)), None, (4, 4), ((3, 3), (2, 4)), (0, 0)),
    ),
    "groups and reflection": (
        lambda seed=0: made(nn.Conv2d(3, 6, 3, padding="same", padding_mode="reflect", groups=3), seed=seed),
        grown,
    ),
    "sub-pixel": (lambda seed=0: made(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), seed=seed), grown),
    "weight norm": (
        lambda seed=0: made(parametrizations.weight_norm(nn.ConvTranspose2d(3, 3, 4, 2, 1)), seed=seed),
        grown,
    ),
    "spectral norm": (lambda seed=0: made(spectral_norm(nn.ConvTranspose2d(3, 3, 4, 2, 1)), seed=seed), grown),
    "pruned": (lambda seed=0: made(prune.identity(nn.ConvTranspose2d(3, 3, 4, 2, 1), "weight"), seed=seed), grown),
    "balanced already": (lambda seed=0: made(evenly.nn.BalancedConvTranspose2d(3, 3, 4, 2, 1), seed=seed), grown),
    "weights by phase": (lambda seed=0: made(nn.Conv2d(3, 4, 3, padding=1), seed=seed), by_phase),
    "by phase, circular": (
        lambda seed=0: made(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=False), seed=seed),
        by_phase,
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_edits_come_back(case, tmp_path):
    make, edit = EDITS[case]
    module = make()
    before = state(module)
    repaired = result(module, edit=edit)
    path = tmp_path / "x.safetensors"
    repaired.save(path)
    again = restore(make(seed=5), path)
    same_function(repaired.model, again)
    equal_states(repaired.model.state_dict(), again.state_dict())
    equal_states(before, module.state_dict())
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    for (name, old), new in zip(repaired.model.named_modules(), again.modules(), strict=True):
        assert old.extra_repr() == new.extra_repr(), name


STRUCTURAL = {
    "resize": (lambda seed=0: made(nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 3, 3), seed=seed), ["0"]),
    "subpixel": (generator, ["0"]),
    "antialias": (
        lambda seed=0: made(
            weight_norm(nn.Conv2d(3, 4, 3, 2, 1)), nn.MaxPool2d(2), nn.AvgPool2d(2, ceil_mode=True), seed=seed
        ),
        ["0", "1", "2"],
    ),
    "fold": (lambda seed=0: made(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1), seed=seed), ["0"]),
    "pad": (generator, ["2"]),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("method", STRUCTURAL)
def test_replaced_layers_come_back(method, tmp_path):
    make, names = STRUCTURAL[method]
    module = make()
    new, done = replaced(module, method, layers=names)
    assert all(change.done for change in done)
    shape = (2, 3, 32, 32)
    repaired = result(module, new, shape=shape)
    repaired.save(tmp_path / "x.safetensors")
    assert changes(tmp_path / "x.safetensors")["methods"] == dict.fromkeys(names, method)
    again = restore(make(seed=5), tmp_path / "x.safetensors")
    same_function(new, again, shape)
    assert [type(m).__name__ for m in again.modules()] == [type(m).__name__ for m in new.modules()]


def test_a_shuffle_and_its_convolution_in_a_sequential(tmp_path):
    make = lambda seed=0: made(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), seed=seed)  # noqa: E731
    new, _ = replaced(make(), "subpixel", layers=["0"])
    result(make(), new).save(tmp_path / "x.safetensors")
    same_function(new, restore(make(seed=5), tmp_path / "x.safetensors"))


class Apart(nn.Module):
    """A pixel shuffle that only an example shows."""

    def __init__(self, seed=0):
        super().__init__()
        self.conv = made(nn.Conv2d(3, 12, 3, padding=1), seed=seed)[0]
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.conv(x))


def test_what_only_an_example_shows_needs_one(tmp_path):
    module, example = Apart(), numbers(*SIZE)
    new, (change,) = replaced(module, "subpixel", layers=["conv"], example=example)
    assert change.done
    result(module, new).save(tmp_path / "x.safetensors")
    same_function(new, restore(Apart(5), tmp_path / "x.safetensors", example))
    with pytest.raises(WeightsError, match="give example inputs"):
        restore(Apart(5), tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("layer", "edit"),
    [(nn.ConvTranspose2d(3, 4, 4, 2, 1), grown), (nn.Conv2d(3, 4, 3, padding=1), by_phase)],
    ids=["transposed", "by phase"],
)
def test_a_network_that_is_one_layer(layer, edit, tmp_path):
    repaired = result(layer.eval(), edit=edit)
    repaired.save(tmp_path / "x.safetensors")
    again = restore(copy.deepcopy(layer), tmp_path / "x.safetensors")
    same_function(repaired.model, again)
    assert isinstance(again, PhaseConv2d) is (edit is by_phase)


def test_replaced_and_edited_at_once(tmp_path):
    module = generator()
    new, _ = replaced(module, "subpixel", layers=["0"])
    new = TorchBackend(new, numbers(*SIZE))
    new = new.edited([grown(layer) for layer in new.layers() if layer.name.endswith("2")]).model
    result(module, new).save(tmp_path / "x.safetensors")
    same_function(new, restore(generator(5), tmp_path / "x.safetensors"))


def test_a_repair_is_checked_like_any_weights(tmp_path, monkeypatch):
    """``--weights`` takes a repaired file, too."""
    (tmp_path / "savednets.py").write_text(
        "from torch import nn\n\ndef up():\n"
        "    return nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, bias=False))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = made(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, bias=False))
    new, _ = replaced(module, "subpixel", layers=["0"])
    result(module, new).save("x.safetensors")
    shapes = {"input": SIZE}
    before = evenly.check("savednets:up", input_shapes=shapes)
    after = evenly.check("savednets:up", input_shapes=shapes, weights="x.safetensors")
    assert "EV101" in {finding.code for finding in before.findings}
    assert not after.findings
    assert after.outputs[0].certified is True
    damaged = written(tmp_path / "y.safetensors", whole(kernel=[9, 9]))
    with pytest.raises(WeightsError, match="should have the shape"):
        evenly.check("savednets:up", input_shapes=shapes, weights=damaged)


# ---- what is written -------------------------------------------------------------------------------------------------


def values(layer):
    """Other weights of the same shape."""
    return Edit(layer.name, layer.weight * 0.5, layer.bias, layer.kernel, layer.padding, layer.output_padding)


def test_unchanged_shapes_are_a_plain_state_dict(tmp_path):
    repaired = result(generator(), edit=values)
    repaired.save(tmp_path / "x.safetensors")
    fresh = generator(5)
    fresh.load_state_dict(load_file(tmp_path / "x.safetensors"), strict=True)
    same_function(repaired.model, fresh)
    same_function(repaired.model, restore(generator(7), tmp_path / "x.safetensors"))


def test_a_file_of_another_program_is_loaded_too(tmp_path):
    save_file(generator().state_dict(), tmp_path / "x.safetensors")
    same_function(generator(), restore(generator(5), tmp_path / "x.safetensors"))


OTHER_PROCESS = """
import os, signal, sys
sys.path[:0] = [sys.argv[1]]
from test_saving import generator, grown, result, saving
result(generator(), edit=grown).save(sys.argv[2])
saving._verify = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
result(generator(), edit=grown).save(sys.argv[3])
"""


def test_equal_bytes_in_another_process_which_is_killed_while_it_writes(tmp_path):
    for number in range(2):
        result(generator(), edit=grown).save(tmp_path / f"{number}.safetensors")
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(b"as it was")
    command = [sys.executable, "-c", OTHER_PROCESS, Path(__file__).parent, tmp_path / "2.safetensors", kept]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert kept.read_bytes() == b"as it was"
    first, *others = [(tmp_path / f"{number}.safetensors").read_bytes() for number in range(3)]
    assert all(other == first for other in others)
    result(generator(1), edit=grown, names=["0"]).save(tmp_path / "3.safetensors")
    assert (tmp_path / "3.safetensors").read_bytes() != first


class Tied(nn.Module):
    """A tied weight, a part of a larger tensor, a layout, and buffers of several kinds."""

    def __init__(self, seed=0):
        super().__init__()
        self.up = made(nn.ConvTranspose2d(3, 3, 3, 2, 1, 1), seed=seed)[0].to(memory_format=torch.channels_last)
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.arange(8.0)[2:6:2])
        self.register_buffer("mask", torch.tensor([0.0, float("-inf"), float("nan")]))
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("empty", torch.zeros(0, 3))

    def forward(self, x):
        return self.second(self.first(self.up(x))) * self.scale[0]


def test_tied_weights_views_layouts_and_buffers(tmp_path):
    torch.manual_seed(0)
    module = Tied()
    repaired = result(module, edit=grown, names=["up"])
    repaired.save(tmp_path / "x.safetensors")
    torch.manual_seed(3)
    again = restore(Tied(5), tmp_path / "x.safetensors")
    same_function(repaired.model, again)
    assert again.second.weight is again.first.weight
    assert torch.isnan(again.mask[2])
    assert again.steps == 7
    assert set(load_file(tmp_path / "x.safetensors")) == set(repaired.model.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_are_kept(dtype, tmp_path):
    make = lambda seed=0: generator(seed).to(dtype)  # noqa: E731
    repaired = result(make(), edit=grown)
    repaired.save(tmp_path / "x.safetensors")
    again = restore(make(5), tmp_path / "x.safetensors")
    assert {p.dtype for p in again.parameters()} == {dtype}
    same_function(repaired.model, again, dtype=dtype)
    with pytest.raises(WeightsError, match="of another type"):
        restore(generator(), tmp_path / "x.safetensors")


def test_modes_and_frozen_parameters_are_the_given_ones(tmp_path):
    result(generator(), edit=grown).save(tmp_path / "x.safetensors")
    given = generator(5).train()
    given[2].weight.requires_grad_(False)
    again = restore(given, tmp_path / "x.safetensors")
    assert all(m.training for m in again.modules())
    assert not again[2].weight.requires_grad
    assert again[0].weight.requires_grad
    equal_states(given.state_dict(), generator(5).state_dict())


def test_files_can_be_read_by_others_as_the_folder_says(tmp_path):
    (tmp_path / "plain").touch()
    result(generator(), edit=grown).save(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    """A place where something stands that must stay."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"as it was")
    yield path
    assert path.read_bytes() == b"as it was"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_leaves_nothing(kept, monkeypatch):
    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        result(generator(), edit=grown).save(kept)


def test_an_interrupt_leaves_nothing(kept, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "_verify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        result(generator(), edit=grown).save(kept)


def test_what_comes_back_otherwise_is_not_written(kept, monkeypatch):
    write = saving._write

    def damaged(tensors, path, metadata):
        write({**tensors, "2.bias": tensors["2.bias"] + 1e-3}, path, metadata)

    monkeypatch.setattr(saving, "_write", damaged)
    with pytest.raises(VerificationError, match=r"its 2\.bias is not"):
        result(generator(), edit=grown).save(kept)


def test_what_does_not_come_back_is_not_written(kept, monkeypatch):
    monkeypatch.setattr(saving, "_write", lambda tensors, path, metadata: save_file(tensors, path))
    with pytest.raises(VerificationError, match="cannot be read again"):
        result(generator(), edit=grown).save(kept)


def test_changes_that_nobody_can_repeat_are_refused(kept):
    new = generator()
    new[0] = nn.Upsample(scale_factor=2)
    new[2] = nn.Conv2d(3, 3, 3, padding=1)
    with pytest.raises(VerificationError, match="not written"):
        result(generator(), new).save(kept)


class Refusing(nn.Conv2d):
    def _load_from_state_dict(self, *_):
        raise RuntimeError("no\nplain weights")


def test_networks_that_refuse_their_weights(tmp_path):
    result(generator(), edit=values).save(tmp_path / "x.safetensors")
    fresh = generator(5)
    fresh[2] = Refusing(4, 3, 3, padding=1)
    with pytest.raises(WeightsError, match="no plain weights"):
        restore(fresh, tmp_path / "x.safetensors")


class Counting(nn.Conv2d):
    def get_extra_state(self):
        return {"count": 3}

    def set_extra_state(self, state):
        pass


def test_what_is_no_tensor_is_named(kept):
    with pytest.raises(OutputError, match="is no plain tensor"):
        result(made(Counting(3, 3, 3)), edit=values, names=[]).save(kept)


def test_other_suffixes_and_places(tmp_path):
    repaired = result(generator(), edit=grown)
    with pytest.raises(UsageError, match="a path that ends so"):
        repaired.save(tmp_path / "x.onnx")
    with pytest.raises(OutputError, match="cannot be written"):
        repaired.save(tmp_path / "nowhere" / "x.safetensors")
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        repaired.save(tmp_path / "x.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.safetensors").write_bytes(b"")
    (tmp_path / "x.safetensors").symlink_to("real.safetensors")
    result(generator(), edit=grown).save(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").is_symlink()
    assert load_file(tmp_path / "real.safetensors")


def test_a_result_without_its_original_is_refused(tmp_path):
    repaired = result(generator(), edit=grown)
    with pytest.raises(UsageError, match="no original"):
        FixResult(repaired.model, REPORT, repaired.backend).save(tmp_path / "x.safetensors")


# ---- strangers' files ------------------------------------------------------------------------------------------------


GEOMETRY = {
    "kernel": [5, 5],
    "dilation": [1, 1],
    "padding": [[2, 2], [2, 2]],
    "output_padding": [1, 1],
    "phases": [],
    "bias": True,
    "plain": False,
}


def written(path, data, **tensors):
    """The file of a repair, with other metadata."""
    result(generator(), edit=grown, names=["0"]).save(path)
    text = data if isinstance(data, str) else json.dumps(data)
    save_file({**load_file(path), **tensors}, path, metadata={KEY: text})
    return path


def whole(**geometry):
    return {"format_version": 1, "evenly": "0", "methods": {}, "layers": {"0": {**GEOMETRY, **geometry}}}


def test_the_honest_file_is_accepted(tmp_path):
    restore(generator(5), written(tmp_path / "x.safetensors", whole()))


HOSTILE = {
    "no JSON": ("{", "cannot be read"),
    "deep": ("[" * 100_000, "cannot be read"),
    "a list": ([1], "cannot be read"),
    "another version": ({**whole(), "format_version": 99}, "format 99; expected 1"),
    "no layers": ({"format_version": 1}, "cannot be read"),
    "no such module": ({**whole(), "layers": {"up": GEOMETRY}}, "no convolution 'up'"),
    "no convolution": ({**whole(), "layers": {"1": GEOMETRY}}, "no convolution '1'"),
    "no such method": ({**whole(), "methods": {"0": "__reduce__"}}, "name the method '__reduce__'"),
    "no such place": ({**whole(), "methods": {"up": "resize"}}, "no module 'up'"),
    "a method for another layer": ({**whole(), "methods": {"1": "resize"}}, "resize is not for ReLU"),
    "huge kernel": (whole(kernel=[2**30, 2**30]), "should have the shape"),
    "huge phases": (whole(phases=[2**20, 2**20]), "should have the shape"),
    "beyond numbers": (whole(kernel=[2**64, 3]), "cannot be read"),
    "negative": (whole(padding=[[-1, 2], [2, 2]]), "cannot be read"),
    "no number": (whole(kernel=[True, 5]), "cannot be read"),
    "half": (whole(kernel=[5.0, 5.0]), "cannot be read"),
    "three axes": (whole(kernel=[5, 5, 5]), "has 2 axes"),
    "another size": (whole(padding=[[1, 1], [2, 2]]), "would change its size"),
    "too much output padding": (whole(padding=[[3, 3], [2, 2]], output_padding=[3, 1]), "are no layer's"),
    "another dilation": (whole(dilation=[3, 1]), "cannot become"),
    "unequal padding": (whole(padding=[[1, 3], [2, 2]]), "not equal on both sides"),
    "other keys": (whole(code="import os"), "cannot be read"),
    "no flag": (whole(bias="yes"), "cannot be read"),
    "no bias": (whole(bias=False), "unexpected"),
    "not plain": (whole(plain=True), "computed from others"),
    "phases of a transposed one": (whole(phases=[1, 1, 1]), "has 2 axes"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_changes_are_one_line(case, tmp_path):
    data, words = HOSTILE[case]
    module = generator(5)
    with pytest.raises(WeightsError, match=words) as caught:
        restore(module, written(tmp_path / "x.safetensors", data))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    equal_states(module.state_dict(), generator(5).state_dict())


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"2.bias": torch.full((3,), float("nan"))}, "not finite .2.bias"),
        ({"2.bias": torch.zeros(4)}, "of another shape"),
        ({"2.bias": torch.zeros(3).double()}, "of another type"),
        ({"3.bias": torch.zeros(3)}, "unexpected .3.bias"),
    ],
)
def test_tensors_that_do_not_fit(tensors, words, tmp_path):
    with pytest.raises(WeightsError, match=words):
        restore(generator(), written(tmp_path / "x.safetensors", whole(), **tensors))


def test_tied_weights_that_differ_in_the_file(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "x.safetensors"
    result(Tied(), edit=grown, names=["up"]).save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), "first.weight": torch.zeros(3, 3, 3, 3)}, path, metadata=metadata)
    with pytest.raises(WeightsError, match="tied to"):
        restore(Tied(), path)


def test_files_that_are_none(tmp_path):
    path = written(tmp_path / "x.safetensors", whole())
    whole_file = path.read_bytes()
    for cut in (0, 4, 60, len(whole_file) - 1):
        path.write_bytes(whole_file[:cut])
        with pytest.raises(FormatError, match="not a readable"):
            restore(generator(), path)
    with pytest.raises(UntrustedError, match="can execute code"):
        restore(generator(), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="not there"):
        restore(generator(), tmp_path / "y.safetensors")


def test_endless_metadata_are_refused(tmp_path):
    path = written(tmp_path / "x.safetensors", " " * (LARGEST + 1))
    with pytest.raises(WeightsError, match="expected up to"):
        restore(generator(), path)


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_an_error_of_ours_or_other_numbers(seed, tmp_path):
    """Any byte of the header may be another one."""
    path = written(tmp_path / "x.safetensors", whole())
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for _ in range(3):
        data[rng.integers(8 + 400)] = rng.integers(256)
    path.write_bytes(data)
    try:
        again = restore(generator(), path)
    except EvenlyError as error:
        again, words = None, str(error)
    if again is None:
        assert "\n" not in words
    else:
        assert again(numbers(*SIZE)).shape == (2, 3, 16, 16)
