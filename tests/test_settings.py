"""Settings, selection and the baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from evenly.check.result import Finding, ModelInfo, Report
from evenly.errors import SettingsError, UsageError
from evenly.settings import (
    Baseline,
    Settings,
    codes,
    failing,
    filtered,
    find_settings,
    load_baseline,
    load_settings,
)

if TYPE_CHECKING:
    from pathlib import Path


def finding(code: str, layer: str = "a.b", severity: str = "error", period=2) -> Finding:
    return Finding(code, severity, layer, "m", period, "f")


def report(*findings: Finding) -> Report:
    return Report(ModelInfo("m", (), ()), (), (), (), findings)


def write(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_keys(tmp_path):
    path = write(
        tmp_path,
        """
        [tool.evenly]
        select = ["EV1", "EV201"]
        ignore = ["EV106"]
        fail-on = "warning"
        backward = false
        ripple-tolerance = 0.1
        baseline = "known.json"
        [tool.evenly.per-layer-ignores]
        "encoder.*" = ["EV201"]
        """,
    )
    got = load_settings(path)
    assert got == Settings(
        ("EV1", "EV201"), ("EV106",), "warning", False, 0.1, tmp_path / "known.json", got.per_layer_ignores
    )
    assert dict(got.per_layer_ignores) == {"encoder.*": ("EV201",)}


def test_without_a_file_the_defaults_hold():
    assert load_settings(None) == Settings()


def test_the_nearest_table_upwards_counts(tmp_path):
    outer = write(tmp_path, "[tool.evenly]\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path / "a", "[tool.other]\nx = 1\n")
    assert find_settings(inner) == outer
    nearest = write(inner, "[tool.evenly]\nselect = ['EV101']\n")
    assert find_settings(inner) == nearest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.evenly]\nslect = ['EV101']", "unknown key 'slect'"),
        ("[tool.evenly]\nselect = 'EV101'", "select is 'EV101'.*expected a list"),
        ("[tool.evenly]\nselect = ['EV555']", "'EV555'.*no rule"),
        ("[tool.evenly]\nselect = [1]", "expected a list"),
        ("[tool.evenly]\nfail-on = 'info'", "fail-on is 'info'.*error, warning, never"),
        ("[tool.evenly]\nbackward = 1", "expected true or false"),
        ("[tool.evenly]\nripple-tolerance = -1", "0 or more"),
        ("[tool.evenly]\nripple-tolerance = nan", "0 or more"),
        ("[tool.evenly]\nripple-tolerance = true", "0 or more"),
        ("[tool.evenly]\nbaseline = 3", "expected the path"),
        ("[tool.evenly]\nper-layer-ignores = ['EV101']", "expected a table"),
        ("[tool.evenly.per-layer-ignores]\n'a.*' = ['nope']", "'nope'"),
        ("[tool]\nevenly = 3", "expected a table"),
        ("[tool.evenly", "not valid TOML"),
    ],
)
def test_wrong_settings_are_named(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value).strip() or "TOML" in str(caught.value)


def test_settings_that_are_no_text(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings(path)


def test_codes():
    assert codes(["EV1, EV201", "EV1"], "--select") == ("EV1", "EV201")
    assert codes("EV101", "select") == ("EV101",)
    assert codes(None, "x") == ()
    with pytest.raises(UsageError, match="--select"):
        codes(["101"], "--select")


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        (Settings(), ["EV101", "EV103", "EV201"]),
        (Settings(select=("EV1",)), ["EV101", "EV103"]),
        (Settings(ignore=("EV10",)), ["EV201"]),
        (Settings(select=("EV1",), ignore=("EV101",)), ["EV103"]),
        (Settings(per_layer_ignores={"a.*": ("EV1",)}), ["EV201"]),
        (Settings(per_layer_ignores={"b.*": ("EV1",)}), ["EV101", "EV103", "EV201"]),
        (Settings(per_layer_ignores={"*": ("EV",)}), []),
    ],
)
def test_filtering(settings, left):
    full = report(finding("EV101"), finding("EV103"), finding("EV201"))
    assert [f.code for f in filtered(full, settings).findings] == left


def test_failing():
    full = report(finding("EV101"), finding("EV103", severity="warning"), finding("EV301", severity="info"))
    assert [f.code for f in failing(full, "error")] == ["EV101"]
    assert [f.code for f in failing(full, "warning")] == ["EV101", "EV103"]
    assert failing(full, "never") == ()


# ------------------------------------------------------------------------------------------------------------ baseline


def test_baseline_round_trip_and_determinism(tmp_path):
    one, two, three = finding("EV101"), finding("EV101", "c", period=(2, 4)), finding("EV901", period=None)
    text = Baseline.of(report(one, two, three)).to_json()
    assert text == Baseline.of(report(three, one, two, one)).to_json()
    path = tmp_path / "known.json"
    path.write_text(text, encoding="utf-8")
    left, known = load_baseline(path).split(report(one, two, three, finding("EV102")))
    assert known == 3
    assert [f.code for f in left.findings] == ["EV102"]


def test_baseline_ignores_wording_and_minds_the_period(tmp_path):
    old = finding("EV101")
    baseline = Baseline.of(report(old))
    assert baseline.split(report(replace(old, message="other words", severity="warning")))[1] == 1
    assert baseline.split(report(replace(old, period=4)))[1] == 0
    assert baseline.split(report(replace(old, layer="other")))[1] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "baseline_version is None"),
        ('{"baseline_version": 2}', "baseline_version is 2"),
        ('{"baseline_version": 1, "findings": {}}', "expected a list"),
        ('{"baseline_version": 1, "findings": [{"code": "EV101"}]}', "no finding"),
        ('{"baseline_version": 1, "findings": [{"code": "EV101", "layer": "a", "period": "2"}]}', "no finding"),
    ],
)
def test_wrong_baselines_are_named(tmp_path, text, message):
    path = tmp_path / "known.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        load_baseline(path)


def test_baselines_are_read_within_bounds(tmp_path):
    path = tmp_path / "known.json"
    path.write_text(json.dumps({"baseline_version": 1, "findings": [], "x": "y" * 2**24}), encoding="utf-8")
    with pytest.raises(SettingsError, match="larger than"):
        load_baseline(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_baseline(tmp_path / "absent.json")
