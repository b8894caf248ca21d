"""Results on disk: what is written is read back, described by the schema, whole, and refused when it is damaged."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path

import fake_experiment
import jsonschema
import numpy as np
import pytest

from evenly.errors import FormatError, OutputError
from evenly.reproduce.claims import CLAIMS
from evenly.reproduce.experiment import Outcome, Scale
from evenly.reproduce.registry import EXPERIMENTS
from evenly.reproduce.result import Conclusion, Effect, Finding, Part, Picture, Plot, Recording, Row, Series, Table
from evenly.reproduce.run import Done, Job
from evenly.reproduce.stored import read_result, read_results
from evenly.reproduce.written import summary_form, write_result, write_summary

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "reproduction.schema.json").read_text(encoding="utf-8"))


def done(conclusion=None, name="fake", scale=Scale.SMOKE):
    """An experiment that was run, without running it."""
    if conclusion is None:
        random = np.random.default_rng(0)
        outcomes = {
            f"{kind}/seed-{seed}": Outcome(
                {
                    "strength": height + 0.5 * seed,
                    "pair": [1, 2],
                    "course": {"losses": {"loss": [3.0, 2.0, 1.5]}, "steps": 3, "observations": []},
                },
                {"picture": random.integers(0, 256, (32, 32, 3)).astype(np.uint8)},
            )
            for kind, height in (("plain", 0.0), ("patterned", 12.0))
            for seed in (0, 1)
        }
        conclusion = fake_experiment.conclude(scale, outcomes)
    data = {"name": "none", "description": "no data", "limits": "", "digest": "0"}
    experiment = replace(fake_experiment.EXPERIMENT, name=name)
    return Done(experiment, conclusion, Job(scale, Path("nowhere")), data, (0, 1), 12.345, 4.321, 4)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "fake", ("fake_experiment", ("C13", "C14"), "a fake"))


def test_what_is_written_is_read_back(tmp_path):
    what = done()
    path = write_result(what, tmp_path)
    found = read_result(path)
    assert (found.name, found.scale, found.seeds, found.cells) == ("fake", "smoke", (0, 1), 4)
    assert (found.seconds, found.longest, found.limits) == (12.3, 4.3, "A line and noise.")
    assert found.findings == what.conclusion.findings
    row, plot, table, recording, network = found.evidence
    assert (plot, table, network) == tuple(what.conclusion.evidence[i] for i in (1, 2, 4))
    from PIL import Image

    for picture, original in zip(row.pictures, what.conclusion.evidence[0].pictures, strict=True):
        with Image.open(tmp_path / picture.file) as image:
            np.testing.assert_array_equal(np.asarray(image), original.pixels)
        assert (picture.width, picture.height, picture.caption) == (32, 32, original.caption)
    with wave.open(str(tmp_path / recording.file)) as file:
        assert (file.getframerate(), file.getnchannels()) == (8000, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    np.testing.assert_allclose(samples, what.conclusion.evidence[3].samples, atol=1 / 32767)
    assert recording.seconds == 0.1


def test_the_schema_describes_it(tmp_path, registered):
    path = write_result(done(), tmp_path)
    form = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(form, SCHEMA)
    summary = json.loads(write_summary(read_results(tmp_path), tmp_path / "all.json"))
    jsonschema.validate(summary, SCHEMA)
    assert [claim["claim"] for claim in summary["claims"]] == list(CLAIMS)
    answers = {claim["claim"]: claim["answer"] for claim in summary["claims"]}
    assert (answers["C13"], answers["C14"], answers["C1"]) == ("holds", "does not hold here", "not run")
    del form["findings"][0]["parts"][0]["effect"]["unit"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(form, SCHEMA)


def test_the_same_result_is_the_same_text(tmp_path, registered):
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_result(done(), folder)
        write_summary(read_results(folder), folder / "all.json")
    for name in ("fake.json", "all.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_claims_are_answered_by_the_parts_of_all_experiments(tmp_path, monkeypatch, registered):
    monkeypatch.setitem(EXPERIMENTS, "other", ("other", ("C13",), "another"))
    write_result(done(), tmp_path)
    assert read_results(tmp_path).answers["C13"] == "holds"
    refuted = Part("Two is at least 3", Effect.exact(2, "ratio"), 3.0)
    write_result(done(Conclusion((Finding("C13", (refuted,)),), ()), "other"), tmp_path)
    found = read_results(tmp_path)
    assert found.answers["C13"] == "partly"
    claim = found.claims["C13"]
    assert claim.experiments == ("fake", "other")
    assert claim.decisive == ("other", refuted)
    assert found.claims["C1"].decisive is None
    parts = next(c for c in summary_form(found)["claims"] if c["claim"] == "C13")["parts"]
    assert [part["experiment"] for part in parts] == ["fake", "fake", "other"]


def test_old_files_go_after_the_new_result_stands(tmp_path, monkeypatch):
    write_result(done(), tmp_path)
    old = {path.name for path in (tmp_path / "fake").iterdir()}
    (tmp_path / "fake" / "mine.png").write_bytes(b"the user's")
    new = Conclusion((), (Row("New", (Picture("black", np.zeros((4, 4), np.uint8)),)),))

    import evenly.reproduce.written as written

    put = written.put_file

    def full(path, content):
        if path.suffix == ".json":
            raise OutputError("the disk is full")
        put(path, content)

    monkeypatch.setattr(written, "put_file", full)
    with pytest.raises(OutputError, match="full"):
        write_result(done(new), tmp_path)
    assert read_result(tmp_path / "fake.json").findings == done().conclusion.findings  # the old one, with all its files
    monkeypatch.setattr(written, "put_file", put)
    write_result(done(new), tmp_path)
    left = {path.name for path in (tmp_path / "fake").iterdir()}
    assert "mine.png" in left
    assert not left & old
    assert len(left) == 2


def test_numbers_that_are_not_finite(tmp_path):
    plot = Plot("p", "x", "y", (Series("s", (0.0, 1.0), (float("nan"), np.float32(0.5)), (float("inf"), 0.1), (1, 2)),))
    table = Table("t", ("a",), ((float("nan"),), (np.int64(3),), (None,)))
    found = read_result(write_result(done(Conclusion((), (plot, table))), tmp_path)).evidence
    assert np.isnan(found[0].series[0].y[0])
    assert found[0].series[0].y[1] == 0.5
    assert found[1].rows == ((None,), (3,), (None,))


def test_series_of_unequal_lengths_are_refused(tmp_path):
    plot = Plot("p", "x", "y", (Series("broken", (0.0, 1.0), (1.0,)),))
    with pytest.raises(OutputError, match="broken"):
        write_result(done(Conclusion((), (plot,))), tmp_path)


def test_loud_sounds_are_clipped(tmp_path):
    loud = Recording("loud", np.array([2.0, -2.0, 0.0], np.float32), 8000)
    recording = read_result(write_result(done(Conclusion((), (loud,))), tmp_path)).evidence[0]
    with wave.open(str(tmp_path / recording.file)) as file:
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [32767, -32767, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda form: form.pop("title"), "'title' is missing"),
        (lambda form: form.update(format_version=99), "format_version"),
        (lambda form: form.update(seeds=["a"]), "seed"),
        (lambda form: form.update(cells=True), "cells"),
        (lambda form: form["findings"][0].update(claim="C99"), "C99"),
        (lambda form: form["findings"][0]["parts"][0]["effect"].update(low=1e9), "lower end"),
        (lambda form: form["findings"][0]["parts"][0].update(at_least=None), "exactly one"),
        (lambda form: form["evidence"][0].update(kind="film"), "film"),
        (lambda form: form["evidence"][0]["pictures"][0].update(file="../secret.png"), "secret"),
        (lambda form: form["evidence"][0]["pictures"][0].update(file="fake/gone.png"), "gone.png is missing"),
        (lambda form: form["evidence"][1]["series"][0]["y"].pop(), "as many"),
        (lambda form: form["evidence"][1].update(kind_of_plot="pie"), "pie"),
    ],
)
def test_damaged_results_say_what_is_wrong(tmp_path, change, words):
    path = write_result(done(), tmp_path)
    form = json.loads(path.read_text(encoding="utf-8"))
    change(form)
    path.write_text(json.dumps(form), encoding="utf-8")
    with pytest.raises(FormatError, match=words) as error:
        read_result(path)
    assert str(path) in str(error.value)
    assert "evenly reproduce fake" in str(error.value)


@pytest.mark.parametrize("text", ["", "[1]", '{"format_version": 1', "\x00", "[" * 100_000])
def test_what_is_no_result(tmp_path, text):
    path = tmp_path / "fake.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match="damaged"):
        read_result(path)


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        write_result(done(), tmp_path / "file")
