"""Reporters of repairs: what they say, their form, and that nothing from a model or a file can steer them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import attributed_samples
import fixed_cases as cases
import jsonschema
import numpy as np
import pytest
from test_pages import expect_safe

from evenly.fix.result import FixReport, FixResult
from evenly.report import View
from evenly.report.fixed import FIXED_REPORTERS, render_fix
from evenly.report.fixed_charts import falls, tried
from evenly.report.fixed_pixels import (
    amplified,
    busiest,
    frequencies,
    lines_of,
    look,
    most_changed,
    over_surroundings,
    power,
    shades,
)
from evenly.report.fixed_words import over, psnr, ratio, sheets, verdict
from evenly.report.page.charts import Bar, Series, bars, series, shortened

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "fixed.schema.json").read_text(encoding="utf-8"))
ATTRIBUTED = json.loads((DOCS / "attributed.schema.json").read_text(encoding="utf-8"))
EVERY = pytest.mark.parametrize("name", cases.ALL)


def made(name: str) -> FixReport:
    return cases.ALL[name]()


# --------------------------------------------------------------------------------------------------------------- words


def test_figures_in_words():
    assert [over(x) for x in (1.26, -0.04, math.inf, math.nan)] == ["+1.3 dB", "+0.0 dB", "-", "-"]
    assert [psnr(x) for x in (41.24, math.inf, -math.inf)] == ["41.2 dB", "no change", "-"]
    moved = replace(cases.report(), layers=(replace(cases.report().layers[0], weight_change=1.31),))
    assert {s.key: s for s in sheets(moved)}["layers"].rows[0][-1] == "131 %"
    assert [ratio(2.0, 2.1), ratio(0.0, 1.0)] == ["1.05x", "-"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reached", "Reached: all lines within 3 dB of the real data's own, 41.2 dB PSNR to the original output"),
        ("clean", "Clean: no line stands more than 3 dB over the real data's own, the model is as it was"),
        ("structural", "1 layer replaced: train the model further before it is used"),
        ("folded", "1 layer replaced by equals: the output stays as it was"),
        ("surroundings", "Reached: all lines within 3 dB of their surroundings, 41.2 dB PSNR to the original output"),
    ],
)
def test_the_verdict_is_one_sentence(name, words):
    assert verdict(made(name)) == words


def test_a_verdict_that_was_missed_names_the_worst_line():
    assert verdict(cases.partly()).startswith(
        "Partly: lines of period 4 px still +7.1 dB over the real data's own (limit 3 dB), 41.2 dB PSNR"
    )
    refused = replace(cases.partly(), outputs=(cases.output(lines=()),))
    assert verdict(refused) == "Partly: not every output could be repaired, 41.2 dB PSNR to the original output"
    moved = replace(cases.report("folded"), outputs=(cases.output(max_change=1.2e-6),))
    assert verdict(moved) == "1 layer replaced by equals: the output changes by 1.2e-06 at most"


def test_tables_leave_out_what_nobody_knows():
    tables = {sheet.key: sheet for sheet in sheets(cases.report())}
    assert list(tables) == ["lines", "outputs", "layers", "tried", "cost", "check"]
    assert tables["tried"].marked == (5,)
    assert "note" not in tables["outputs"].head
    plain = replace(cases.report(), frontier=tuple(replace(p, loss=None, strength=None) for p in cases.frontier()))
    tried = {sheet.key: sheet for sheet in sheets(plain)}["tried"]
    assert tried.head == ("no.", "repair", "worst line", "its period", "PSNR", "multiply-adds")
    assert tried.figures == (2, 3, 4, 5)
    assert [sheet.key for sheet in sheets(cases.bare())] == ["layers"]


# ------------------------------------------------------------------------------------------------------------- console


@EVERY
@pytest.mark.parametrize("width", [40, 80, 100])
def test_text_keeps_to_its_width_and_to_plain_text(name, width):
    text = render_fix(made(name), "text", View(width=width))
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert not re.search(r"[─-╿]", text), "box characters break in log files"
    assert not re.search(r"[ \t]\n", text)
    assert text.endswith("\n")


def test_text_begins_with_the_verdict_and_says_everything():
    text = str(replace(cases.report(), attribution=attributed_samples.ordinary(), proposal="measure it"))
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "evenly fix generator.onnx"
    assert lines[1].startswith("Reached: all lines within 3 dB of the real data's own, 41.2 dB PSNR")
    words = " ".join(text.split())
    for piece in (
        "Next: measure it",
        "data 48 pictures in data/faces; 12 of them kept for the proof",
        "y 2 px +31.2 dB +1.3 dB 3.0 dB within",
        "y 3x96x96 41.2 dB 0.031 3.1 %",
        "ConvTranspose 5x5, 19 %",
        "as it was - its lines are within",
        "6 solve main.3, 1 more tap 1.00 +1.3 dB 2 41.2 dB 0.1309 1.021x",
        "parameters 1,204,355 1,216,643 1.01x",
        "memory of these 4.82 MB 4.87 MB 1.01x",
        "time of a batch 12.3 ms 12.7 ms 1.03x",
        "multiply-adds of a batch 812 M 829 M 1.02x",
        "the task's loss 0.1312 0.1309 1.00x",
        "before 1 1 EV101, EV201, EV301 after 0 0 none",
        "not certified: a constant may still get a pattern",
        "Period 2 (+31.2 dB): layer up.3 counts most",
        "2 files were left out: no pictures",
    ):
        assert piece in words, piece


def test_text_of_silence_of_sound_and_of_certainty():
    words = " ".join(str(cases.surroundings()).split())
    assert "sound 8 samples +22.0 dB +0.8 dB 3.0 dB within" in words
    assert "volume 2 voxels - - 3.0 dB no signal" in words
    assert "certified: the weights keep constants constant" in words
    assert "not certified" not in words
    assert "Power of a period's lines over their surroundings, mean of dB over 9 to 12 signals" in words


def test_colours_only_where_the_view_allows_them():
    text = render_fix(cases.hostile(), "text", View(colour=True, width=300))
    assert "\x1b[1;32mReached" in text
    assert "\\x1b[31m|`a`\\n# head" in text
    assert cases.HOSTILE.splitlines()[0] not in text


# ---------------------------------------------------------------------------------------------------------------- JSON


@EVERY
def test_json_fits_its_schema(name):
    report = made(name)
    text = render_fix(report, "json")
    form = json.loads(text, parse_constant=lambda c: pytest.fail(c))
    jsonschema.validate(form, SCHEMA)
    assert form["tool"]["name"] == "evenly"
    assert {key: value for key, value in form.items() if key != "tool"} == json.loads(json.dumps(report.to_dict()))
    if form["attribution"] is not None:
        jsonschema.validate({"format_version": 1, "tool": form["tool"], **form["attribution"]}, ATTRIBUTED)


def test_json_has_strings_where_there_is_no_number():
    form = json.loads(render_fix(cases.clean(), "json"))
    assert form["outputs"][0]["psnr_db"] == "inf"
    assert form["outputs"][0]["within"] is True
    assert form["check"] == {
        "before": {"codes": ["EV101", "EV201", "EV301"], "errors": 1, "warnings": 1},
        "after": None,
    }


def test_the_schema_forbids_what_it_does_not_know():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for spoil in (
        lambda form: form.update(samples=[]),
        lambda form: form.update(verdict="fine"),
        lambda form: form["layers"][0].pop("done"),
        lambda form: form["outputs"][0]["lines"][0]["after"].update(near_db="much"),
        lambda form: form["frontier"][0]["over_db"].update(two=1.0),
    ):
        form = json.loads(cases.report().to_json())
        spoil(form)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(form, SCHEMA)


def test_every_key_is_defined_in_the_page():
    page = (DOCS / "json.md").read_text(encoding="utf-8")
    section = page[page.index("## What a repair did") : page.index("## A baseline file")]
    defined = set(re.findall(r"`(\w+)`", section))

    def keys(schema):
        if isinstance(schema, dict):
            return set(schema.get("properties", {})).union(*map(keys, schema.values()))
        return set().union(*map(keys, schema)) if isinstance(schema, list) else set()

    assert keys(SCHEMA) - defined == set()


def test_the_command_line_offers_every_format():
    from evenly.cli.fix import FixForm

    assert {form.value for form in FixForm} == set(FIXED_REPORTERS)
    with pytest.raises(KeyError):
        render_fix(cases.report(), "pdf")


# ------------------------------------------------------------------------------------------------------------ Markdown


def test_markdown_says_the_verdict_first_and_folds_the_rest():
    text = render_fix(replace(cases.report(), proposal="measure it"), "markdown")
    parts = text.split("\n\n")
    assert parts[0] == "## evenly fix <code>generator&#46;onnx</code>"
    assert parts[1].startswith("**Reached: all lines within 3 dB of the real data's own, 41.2 dB PSNR")
    assert parts[2] == "Next: measure it"
    assert "| <code>y</code> | 2 px | +31.2 dB | +1.3 dB | 3.0 dB | within |" in text
    assert "**solve main.3, 1 more tap per side, chosen**" in text
    assert text.index("### Layers") < text.index("<details>")
    for title in ("What was tried", "Cost", "Check", "How", "Notes"):
        assert f"<summary>{title}</summary>" in text
    assert text.count("<details>") == text.count("</details>")


def test_nothing_in_markdown_comes_from_a_name():
    text = render_fix(cases.hostile(), "markdown")
    for piece in ("<img", "</script", "[l](", "|`", "\x1b", "\n# head"):
        assert piece not in text, piece
    head = next(line for line in text.splitlines() if line.startswith("| output"))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "within" in line]
    assert {line.count("|") for line in rows} == {head.count("|")}


# ---------------------------------------------------------------------------------------------------------------- page


@EVERY
def test_pages_are_safe_and_hold_the_json(name):
    report = made(name)
    html = render_fix(report, "html")
    assert expect_safe(html).data == json.loads(report.to_json())


def test_pages_of_the_same_report_are_the_same():
    report = cases.report(samples=(cases.samples(size=24, count=1),))
    assert render_fix(report, "html") == render_fix(report, "html")


def test_a_page_shows_what_a_repair_did():
    page = expect_safe(render_fix(cases.report(), "html"))
    for piece in (
        "Reached: all lines within 3 dB of the real data's own",
        "+1.3 dB was +31.2 dB; period 2 px, over the real data's own; limit 3 dB",
        "PSNR of y; at least 40 dB was asked for",
        "change, 5 times as strong; grey is none, the largest is 0.08",
        "PSNR of the new output to the original one, dB",
        "worst line, dB over the real data's own",
        "cycles per pixel, across and down",
        "period 4 px",
        "not certified",
        "onnxruntime.InferenceSession(REPAIRED)",
    ):
        assert piece in page.text, piece
    labels = [attributes.get("aria-label") or "" for _, attributes in page.tags]
    assert any("period 2 px from +31.2 dB to +1.3 dB, limit 3.0 dB" in label for label in labels)
    assert any("6, solve main.3, 1 more tap per side, +1.3 dB at 41.2 dB, chosen" in label for label in labels)


def test_pages_of_modules_and_of_untouched_models():
    module = expect_safe(render_fix(cases.report(model="Generator", samples=()), "html"))
    assert 'restore(model, "repaired.safetensors")' in module.text
    clean = expect_safe(render_fix(cases.clean(), "html"))
    assert "Use the repaired model" not in clean.text


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (cases.samples(1, 1, 16, 1), ["power, dB below the strongest", "cycles per sample", "where they change most"]),
        (cases.samples(1, 2, 16, 1), ["channel 1 of 2"]),
        (cases.samples(2, 7, 40, 1), ["channel 1 of 7"]),
        (cases.samples(3, 1, 24, 1), ["slice 13 of 24 along the first axis"]),
        (cases.samples(2, 1, 520, 1), ["512 pixels where it changes most"]),
        (replace(cases.samples(2, 3, 33, 3), reference=None), ["Signal 3"]),
    ],
)
def test_outputs_of_every_kind_are_shown(samples, words):
    text = expect_safe(render_fix(cases.report(samples=(samples,)), "html")).text
    for piece in words:
        assert piece in text, piece


def test_outputs_that_are_no_pictures_do_no_harm():
    broken = cases.samples(2, 3, 32, 1)
    broken.after[:] = np.nan
    broken.before[0, 0, 0, 0] = np.inf
    flat = replace(
        cases.samples(2, 1, 32, 1), before=np.zeros((1, 1, 32, 32)), after=np.zeros((1, 1, 32, 32)), high=0.0
    )
    nothing = replace(cases.samples(2, 1, 32, 1), before=np.zeros((0, 1, 32, 32)), after=np.zeros((0, 1, 32, 32)))
    point = replace(cases.samples(2, 1, 32, 1), before=np.zeros((1, 4)), after=np.ones((1, 4)), reference=None)
    tiny = replace(point, before=np.zeros((2, 1, 3, 1)), after=np.ones((2, 1, 3, 1)))
    for samples in (broken, flat, nothing, point, tiny):
        expect_safe(render_fix(cases.report(samples=(samples,)), "html"))


# -------------------------------------------------------------------------------------------------------------- pixels


def test_spectra_have_the_lines_where_they_are():
    seen = look(cases.samples(2, 3, 96, 1))
    bins = frequencies((96, 96), [2, 4])
    assert bins == 96
    levels = over_surroundings(power(seen.before, bins))
    assert levels[48, 48] > 30
    assert levels[24, 24] > 15
    assert over_surroundings(power(seen.after, bins))[48, 48] < levels[48, 48] - 20
    assert frequencies((100, 300), [3, 4]) == 96
    assert frequencies((1000, 1000), [7]) == 238
    assert frequencies((5, 5), [8]) == 5


def test_a_tone_has_its_power_at_its_frequency():
    tone = np.cos(2 * np.pi * 0.25 * np.arange(64))[None, None]
    levels = power(tone, 64)
    assert levels.argmax() in (16, 48)
    assert levels[16] == pytest.approx(10 * np.log10(64 / 4 * 2 / 3), abs=0.1)  # Hann window of unit energy
    assert levels[16] - levels[26] > 60


def test_lines_are_at_multiples_of_their_frequency():
    assert lines_of(2, 1).tolist() == [[-0.5]]
    assert sorted(map(tuple, lines_of(2, 2).tolist())) == [(-0.5, -0.5), (-0.5, 0.0), (0.0, -0.5)]
    assert sorted(lines_of(8, 1)[:, 0].tolist()) == [-0.375, -0.125, 0.125, 0.375]


def test_a_change_is_amplified_as_far_as_it_can_be_seen():
    before = np.full((1, 48, 96), 0.5)
    after = before.copy()
    after[0, 30, 90] = 0.504
    pixels, gain = amplified(before, after, 1.0)
    assert gain == 1000  # one value of so many may be cut off
    assert pixels[0, 0] == 128
    assert pixels[30, 90] == 255
    assert busiest(before, after) == (3.5 / 4, 1.5 / 2)
    after[:] += 0.1
    assert amplified(before, after, 1.0)[1] == 5
    assert shades(np.array([[[0.0, 1.0, 9.0]]]), 0.0, 1.0).tolist() == [[0, 255, 255]]


def test_what_changes_most_comes_first():
    made = cases.samples(2, 1, 24, 3)
    made.after[:] = made.before
    made.after[1] += 0.1
    made.after[2] += 0.2
    assert most_changed(look(made)) == [2, 1, 0]


def test_loud_signals_do_not_outweigh_quiet_ones():
    tones = np.cos(2 * np.pi * 0.25 * np.arange(64))[None, None] * np.array([1.0, 0.01])[:, None, None]
    assert power(tones, 64)[16] == pytest.approx(power(tones[:1], 64)[16] - 20, abs=1e-6)


# -------------------------------------------------------------------------------------------------------------- charts


def test_numbers_of_points_stay_in_the_drawing():
    first, *_, last = cases.frontier()
    points = (replace(first, psnr_db=28.0), replace(last, psnr_db=60.0))
    drawn = tried(replace(cases.report(), frontier=points), 720)
    assert drawn is not None
    (x,) = (float(v) for v in re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="end"[^>]*>2, chosen<', drawn))
    assert x < 690
    assert tried(replace(cases.report(), frontier=points[:1]), 720) is None
    assert falls(cases.bare()) is None


def test_series_keep_their_extremes():
    x = np.arange(20_000.0)
    y = np.zeros(20_000)
    y[7_777] = 5.0
    drawn = series([Series("after", "after", x, y)], "one peak", names=("x", "y"), height=300)
    heights = [float(v) for v in re.findall(r"[ML][\d.]+ ([\d.]+)", drawn)]
    assert min(heights) < 50 < 200 < max(heights)
    assert len(heights) < 1300


def test_bars_say_their_numbers_and_shorten_names():
    drawn = bars([Bar("a" * 90 + ".end", 2.0, interval=(-1.0, 3.0), words="2.0 dB")], "bars", name="fall, dB")
    assert "2.0 dB" in drawn
    assert "\N{HORIZONTAL ELLIPSIS}" in drawn
    assert shortened("main.3", 720) == "main.3"
    assert shortened("x" * 50 + ".end", 358).endswith(".end")
    assert len(shortened("x" * 50, 358)) == 16


# ------------------------------------------------------------------------------------------------- notebook and figure


class _Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        assert not any(name.startswith("on") or name in ("style", "href", "src") for name, _ in attrs)


@EVERY
def test_notebooks_get_tables_and_drawings_without_scripts(name):
    report = made(name)
    html = FixResult(None, report, None)._repr_html_()  # type: ignore[arg-type]
    seen = _Tags(html).seen
    assert not {"script", "img", "style", "link", "a"} & set(seen)
    assert seen.count("table") >= 1
    assert ("svg" in seen) is any(o.lines for o in report.outputs)
    assert "\x1b" not in html


def test_figures_have_axes_with_units():
    pytest.importorskip("matplotlib")
    figure = FixResult(None, cases.report(), None).plot()  # type: ignore[arg-type]
    left, right = figure.axes
    assert left.get_xlabel() == "power of the lines over the real data's own, dB"
    assert [label.get_text() for label in left.get_yticklabels()] == ["2 px", "4 px"]
    assert right.get_xlabel() == "PSNR of the new output to the original one, dB"
    assert "1, unchanged" in [text.get_text() for text in right.texts]
    assert "chosen: solve main.3, 1 more tap per side" in [t.get_text() for t in right.get_legend().get_texts()]


@EVERY
def test_figures_of_every_report_can_be_drawn(name):
    pytest.importorskip("matplotlib")
    figure = made(name).plot()
    figure.canvas.draw()
    assert len(figure.axes) == 2
