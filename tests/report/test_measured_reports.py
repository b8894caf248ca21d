"""The reporters of measurements: what they say, flat memory, and that no file can steer them."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import measured_samples as samples
import pytest

from evenly.errors import OutputError
from evenly.measure.rows import columns
from evenly.report import MEASURED_REPORTERS, Measured, View, open_measured, spool
from evenly.report.measured_console import page
from evenly.report.measured_notebook import to_html
from evenly.report.measured_words import decibels, percent, periods, probability, where
from evenly.report.ranked import MOST_FILES

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "measured.schema.json").read_text(encoding="utf-8"))
ONE = Measured("made", "image", samples.together())
TWO = Measured("made", "image", samples.together(), samples.together(against=True), "real", samples.comparison())


def written(form, records, result=ONE, view=None) -> str:
    reporter = open_measured(form, view)
    for record in records:
        reporter.add(record if isinstance(record, dict) else record.to_dict())
    text = "".join(reporter.parts(result))
    reporter.close()
    return text


def test_figures_in_words():
    logs = (0.0, -0.3, -2.2, -3.5, -134.05, -5.0, -400.0, None, float("nan"))
    words = ("p 1", "p 0.5", "p 0.0063", "p 3e-4", "p 9e-135", "p 1e-5", "p 1e-400", "-", "-")
    assert tuple(map(probability, logs)) == words
    for log10_p in (-3.2, -7.77, -12.96, -120.5):
        assert float(probability(log10_p)[2:]) == pytest.approx(10**log10_p, rel=0.35)
    assert [decibels(x) for x in (12.34, -0.01, None)] == ["12.3 dB", "0.0 dB", "-"]
    assert [percent(x) for x in (0.0, 0.031, 1e-6, None)] == ["0 %", "3.1 %", "<0.01 %", "-"]
    assert [periods(x, "px") for x in ((2,), (2, 4), (2, 4, 8))] == [
        "period 2 px",
        "periods 2 and 4 px",
        "periods 2, 4 and 8 px",
    ]
    text = where(samples.period(2, -134, 41.2))
    assert "vertical stripes p 1e-135" in text
    assert "1/2 cycles/px across, 0 cycles/px down, amplitude 1.5 grey levels, phase 0 degrees" in text


# ------------------------------------------------------------------------------------------------------------- console


EVERY = [samples.strong(), samples.clean(), samples.tiny(), samples.hostile(), samples.sound()]


@pytest.mark.parametrize("item", EVERY)
@pytest.mark.parametrize("width", [40, 80, 100])
def test_text_keeps_to_its_width_and_to_plain_text(item, width):
    text = page(item, View(width=width))
    several = written("text", [item] * 3, TWO, View(width=width))
    for one in (text, several):
        assert max(map(len, one.splitlines())) <= width
        assert "\x1b" not in one
        assert "\x07" not in one
        assert not re.search(r"[─-╿]", one), "box characters break in log files"
        assert not re.search(r"[ \t]\n", one)


def test_one_picture_begins_with_the_verdict():
    text = str(samples.strong())
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "evenly measure made/00.png"
    assert lines[2] == "Strong traces of up-sampling: period 2 px."
    words = " ".join(text.split())
    for piece in (
        "picture 256x128 px",
        "likely cause: up-sampling by 2",
        "2 px 41.2 dB p 1e-134 -1.0 dB p 0.76",
        "3.1 %",
        "16 px - - - - -",
        "alpha was left out",
    ):
        assert piece in words, piece


def test_a_picture_that_is_clean_or_too_small():
    assert "No traces of up-sampling found." in page(samples.clean(), View())
    assert "too small to test any period" in page(samples.tiny(), View())


def test_a_recording():
    words = " ".join(page(samples.sound(), View()).split())
    for piece in ("1.5 s at 22050 Hz, mono", "8 samples 31.0 dB p 1e-39 2756.2 Hz -54 dBFS", "period 8 samples"):
        assert piece in words, piece


def test_of_many_pictures_those_that_show_most_are_listed():
    records = [samples.clean(f"real/{n:03}.png") for n in range(50)]
    records.insert(30, samples.strong())
    text = written("text", [*records, {"path": "broken.png", "error": "x"}])
    assert f"The {MOST_FILES} that show most" in text
    assert text.index("made/00.png") < text.index("real/000.png")
    assert text.count("real/") == MOST_FILES - 1
    assert "verdicts of single files: 9 strong, 2 weak, 1 none" in text
    few = written("text", records[:3])
    assert "show most" not in few
    assert few.count("real/") == 3


def test_a_comparison():
    words = " ".join(written("text", [samples.strong(), samples.clean()], TWO).split())
    for piece in (
        "Against real 12 pictures measured No traces of up-sampling found.",
        "made shows more up-sampling than real, strong evidence: period 2 px.",
        "2 px: mean +21.5 dB",
        "2 px 97 % p 1e-9",
    ):
        assert piece in words, piece


def test_colours_only_where_the_view_allows_them():
    assert "\x1b[" in written("text", [samples.strong()], view=View(colour=True))


# --------------------------------------------------------------------------------------------------------- JSON and CSV


@pytest.mark.parametrize("result", [ONE, TWO], ids=["alone", "against"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_json_fits_its_schema(result, number):
    text = written(
        "json", [*([samples.strong(), samples.hostile(), samples.tiny()][:number]), {"path": "x", "error": "y"}], result
    )
    form = json.loads(text)
    jsonschema.validate(form, SCHEMA)
    assert len(form["images"]) == number
    assert ("against" in form, "comparison" in form) == ((result is TWO),) * 2
    if number == 3:
        assert form["images"][0] == json.loads(json.dumps(samples.strong().to_dict()))
        assert form["images"][0]["periods"]["16"]["mean_db"] is None


def test_json_of_sounds():
    form = json.loads(written("json", [samples.sound()], Measured("speech.wav", "audio", samples.together())))
    jsonschema.validate(form, SCHEMA)
    assert form["sounds"][0]["periods"]["8"]["tone_db"] == 31.0
    assert form["sounds"][0]["periods"]["512"] is None


def test_the_schema_forbids_what_it_does_not_know():
    form = json.loads(written("json", [samples.strong()]))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    form["images"][0]["nonsense"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(form, SCHEMA)


def test_csv_has_a_row_for_every_file():
    failure = {"path": "broken.png", "error": "not a picture"}
    text = written("csv", [failure, samples.strong(), samples.hostile(), failure])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(columns((2, 3, 16)))
    assert [r["path"] for r in rows] == ["broken.png", "made/00.png", samples.hostile().path, "broken.png"]
    assert rows[0]["error"] == "not a picture"
    assert float(rows[1]["p2_mean_log10_p"]) == -134
    assert rows[1]["p16_mean_db"] == ""
    sounds = list(csv.DictReader(io.StringIO(written("csv", [samples.sound()]))))
    assert float(sounds[0]["p8_frequency_hz"]) == 2756.25
    assert sounds[0]["seconds"] == "1.5"
    only = list(csv.DictReader(io.StringIO(written("csv", [failure]))))
    assert [r["error"] for r in only] == ["not a picture"]


# ---------------------------------------------------------------------------------------------------- memory and disks


@pytest.mark.parametrize("form", MEASURED_REPORTERS)
def test_memory_is_flat(form, monkeypatch):
    monkeypatch.setattr(spool, "_IN_MEMORY", 10_000)
    record = samples.strong().to_dict()

    def peak(number: int) -> int:
        reporter = open_measured(form)
        tracemalloc.start()
        for _ in range(number):
            reporter.add(dict(record))
        for _ in reporter.parts(ONE):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        reporter.close()
        return most

    peak(50)
    assert peak(2000) < peak(200) + 100_000


def test_a_full_disk_is_one_clear_line(monkeypatch):
    reporter = open_measured("json")

    def full(text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reporter._files._file, "write", full)
    with pytest.raises(OutputError, match=r"No space left on device; .*TMPDIR"):
        reporter.add(samples.strong().to_dict())
    reporter.close()


# ------------------------------------------------------------------------------------------------------------ notebook


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.open = set(), []

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.seen.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("item", [samples.strong(), samples.clean(), samples.tiny(), samples.hostile()])
def test_notebooks_show_escaped_html(item):
    tags = Tags()
    tags.feed(to_html(item))
    assert tags.open == []
    assert tags.seen <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert item._repr_html_() == to_html(item)
    assert "256x128 px" in to_html(samples.strong())
