"""Reporters of attributions: what they say, their form, and that nothing from a file can steer them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attributed_samples as samples
import jsonschema
import pytest
from report_samples import HOSTILE

from evenly.report import ATTRIBUTED_REPORTERS, View, render_attributed
from evenly.report.attributed_words import verdict

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "attributed.schema.json").read_text(encoding="utf-8"))
EVERY = [samples.ordinary(), samples.clean(), samples.backward(), samples.hostile(HOSTILE)]


@pytest.mark.parametrize("found", EVERY)
@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_text_keeps_to_its_width_and_to_plain_text(found, width):
    text = render_attributed(found, "text", View(width=width))
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert not re.search(r"[─-╿]", text)
    assert text.endswith("\n")


def test_text_says_everything_that_matters():
    text = " ".join(render_attributed(samples.ordinary(), "text").split())
    for piece in (
        "evenly attribute nets:generator",
        "lines in output 'image'",
        "16 signals: 12 pictures, 2 left out",
        "2 +31.2 +28.0 to +34.5 a line",
        "3 -1.5 -2.0 to -1.0 -",
        "1. up.3 transposed 29.5 26.0 to 33.0 99 75",
        "2. up.1 subpixel 1.2 0.5 to 2.0 20 -",
        "all together 31.0",
        "Alone they remove 119 % in sum, together 99 %; the difference of -20 percentage points",
        "created here, % all together 0.0 -0.4 to 0.4 -12",
        "No layer alone makes it fall for certain.",
        "head (transposed): its weights are shared with up.3",
        "left out: a.png: too small",
        "Period 2 (+31.2 dB): layer up.3 counts most; with it alone made even, the line falls by 29.5 dB and 99 % of "
        "it is gone; 1 more layer takes part.",
        "Period 4 (+12.0 dB): no layer alone makes it fall for certain; one layer could not be tested.",
    ):
        assert piece in text, piece


def test_text_of_nothing_and_of_gradients():
    text = render_attributed(samples.clean(), "text")
    assert "No line stands out in output 'image': nothing to attribute." in text
    assert "each layer made even alone" not in text
    text = " ".join(render_attributed(samples.backward(), "text").split())
    assert "lines in the squared gradient of the input" in text
    assert "period: in samples of the input" in text
    assert "max pool" in text


def test_colours_only_where_asked_and_no_escape_from_names():
    assert "\x1b[1;31m" in render_attributed(samples.ordinary(), "text", View(colour=True))
    text = render_attributed(samples.hostile(HOSTILE), "text", View(colour=True, width=300))
    assert "\x1b[31m\n" not in text
    assert "\\x1b[31m\\n" in text


def test_str_is_the_text():
    assert str(samples.ordinary()) == render_attributed(samples.ordinary(), "text")


def test_the_verdict_names_others_where_no_layer_is_certain():
    unknown = samples.Attribution(**{**vars(samples.ordinary()), "layers": (samples.EVEN,)})
    assert verdict(unknown)[0] == (
        "Period 2 (+31.2 dB): no layer alone makes it fall for certain; "
        "the inputs bring it, or several layers, or what stands between them."
    )


@pytest.mark.parametrize("found", EVERY)
def test_json_fits_its_schema(found):
    text = render_attributed(found, "json")
    form = json.loads(text, parse_constant=lambda c: pytest.fail(c))
    jsonschema.validate(form, SCHEMA)
    assert form["ranking"] == [layer.name for layer in found.ranking()]
    assert {int(p) for p in form["lines"]} == set(found.lines)
    assert form["tool"]["name"] == "evenly"


def test_the_schema_forbids_what_it_does_not_know():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for spoil in (
        lambda form: form.update(nonsense=1),
        lambda form: form["layers"][0].pop("kind"),
        lambda form: form["lines"].update(two=form["lines"].pop("2")),
    ):
        form = json.loads(samples.ordinary().to_json())
        spoil(form)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(form, SCHEMA)


def test_every_key_is_defined_in_the_page():
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    section = page[page.index("## Which layers make the lines") :]
    defined = set(re.findall(r"`(\w+)`", section))

    def keys(schema):
        if isinstance(schema, dict):
            own = set(schema.get("properties", {}))
            return own.union(*(keys(value) for value in schema.values()), set())
        return set().union(*(keys(value) for value in schema)) if isinstance(schema, list) else set()

    assert keys(SCHEMA) - defined == set()


def test_reporters_are_those_of_the_command_line():
    from evenly.cli.attribute import AttributionForm

    assert [form.value for form in AttributionForm] == list(ATTRIBUTED_REPORTERS)
