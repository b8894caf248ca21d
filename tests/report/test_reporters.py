"""The reporters: what they say, and that nothing from a file can steer them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
import report_samples as samples

from evenly.check.rules import RULES
from evenly.report import REPORTERS, View, render
from evenly.report.notebook import to_html
from evenly.report.words import geometry, period, ratio

SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
EVERY = [samples.ordinary(), samples.clean(), samples.hostile(), samples.deep(60)]


def test_words():
    layers = samples.ordinary().layers
    assert geometry(layers[0]) == "k3 s2 p1x(0,1)"
    assert geometry(layers[1]) == "k3 s2 p1 a1"
    assert geometry(layers[2]) == "k1 g8"
    assert [period(p) for p in (None, 1, (1, 1), 2, (2, 4), (2, 2))] == ["?", "-", "-", "2", "2x4", "2x2"]
    assert [ratio(r, "holes") for r in (None, 4.0, 16 / 9, float("inf"))] == ["-", "4", "1.78", "holes"]


# ------------------------------------------------------------------------------------------------------------- console


@pytest.mark.parametrize("report", EVERY)
@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_console_keeps_to_its_width_and_to_plain_text(report, width):
    text = render(report, "text", View(width=width))
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert not re.search(r"[─-╿]", text), "box characters break in log files"
    assert text.endswith("\n")
    assert not re.search(r"[ \t]\n", text)


def test_console_says_everything_that_matters():
    text = " ".join(render(samples.ordinary(), "text").split())
    for piece in (
        "x 1x3x64x64 float32",
        "main.3 conv_transpose k3 s2 p1 a1",
        "EV101 error kernel 3 is not divisible by stride 2",
        "Fix: resize by 2",
        "a pattern of period 4 pixels",
        "9 times the variance",
        "88.2 % of the output's power",
        "not certified, constants need not stay constant (broken by main.3)",
        "-12.2 dB at period 2 pixels",
        "not computed: a reason",
        "some positions get none at all, period 2 pixels",
        "75 % of the positions never get a gradient",
        "main.1 removes a constant",
        "1 error, 1 warning, 1 info",
        "evenly rule EV101",
    ):
        assert piece in text, piece


def test_console_lists_findings_in_layer_order_under_one_heading_per_layer():
    text = render(samples.ordinary(), "text")
    body = text[text.index("\nFindings") :]
    assert body.index("main.0") < body.index("EV201") < body.index("main.3") < body.index("EV101") < body.index("EV301")
    assert body[: body.index("\nVerdict")].count("  main.3\n") == 1


def test_console_on_a_clean_network_is_calm():
    text = render(samples.clean(), "text")
    assert "Findings" not in text
    assert "No findings" in text
    assert "certified, every constant stays constant" in text
    assert "no periodic response at all" in text


def test_console_hides_uninteresting_layers_of_deep_networks():
    text = render(samples.deep(60), "text")
    assert "60 layers that only pass patterns on hidden" in text
    assert "main.3" in text
    assert "main.0" in text, "a finding names it"
    assert "body.7" not in text
    assert "body.7" in render(samples.deep(60), "text", View(verbose=True))
    assert "body.7" in render(samples.deep(20), "text")


def test_console_colours_only_where_asked():
    assert "\x1b[1;31m" in render(samples.ordinary(), "text", View(colour=True))


def test_console_shows_what_cannot_be_printed_as_escapes():
    text = render(samples.hostile(), "text", View(colour=True, width=300))
    assert "\x1b[31m\n" not in text
    assert "[bold]</td><script>\\x1b[31m\\n" in text


def test_str_of_a_report_is_the_console_text():
    assert str(samples.ordinary()) == render(samples.ordinary(), "text")


# ---------------------------------------------------------------------------------------------------------------- json


def test_json_is_strict_and_spells_infinities():
    data = json.loads(render(samples.ordinary(), "json"), parse_constant=lambda c: pytest.fail(c))
    assert data["format_version"] == 1
    assert data["layers"][3]["unevenness"] == "inf"
    assert data["layers"][0]["padding"] == [1, [0, 1]]
    assert data["layers"][1]["period"] == [2, 4]
    assert data["outputs"][0]["response_db"] == {"2": -12.25, "4": None}
    assert data["inputs"][0]["gradient_unevenness"] == "inf"
    assert data["findings"][0] == {
        "code": "EV101",
        "severity": "error",
        "layer": "main.3",
        "message": samples.UNEVEN.message,
        "period": 4,
        "fix": samples.UNEVEN.fix,
    }


# --------------------------------------------------------------------------------------------------------------- sarif


@pytest.mark.parametrize("report", EVERY)
def test_sarif_validates(report):
    jsonschema.validate(json.loads(render(report, "sarif")), SCHEMA, cls=jsonschema.Draft4Validator)


def test_sarif_rules_and_results_belong_together():
    run = json.loads(render(samples.ordinary(), "sarif"))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [r["id"] for r in rules] == list(RULES)
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        ("EV101", "error"),
        ("EV201", "warning"),
        ("EV301", "note"),
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "nets.onnx"
    prints = [r["partialFingerprints"]["evenlyFinding/v1"] for r in run["results"]]
    assert len(set(prints)) == 3


def test_sarif_has_no_file_for_a_module():
    run = json.loads(render(samples.hostile(), "sarif"))["runs"][0]
    assert "physicalLocation" not in run["results"][0]["locations"][0]


# -------------------------------------------------------------------------------------------------------------- github


def test_github_annotations():
    lines = render(samples.ordinary(), "github").splitlines()
    assert lines[0] == (
        "::error file=nets.onnx,title=EV101 uneven-overlap::"
        f"main.3: {samples.UNEVEN.message}%0AFix: {samples.UNEVEN.fix}"
    )
    assert lines[1].startswith("::warning file=nets.onnx,title=EV201 ")
    assert lines[2].startswith("::notice ")
    assert lines[3] == "evenly check nets.onnx: 1 error, 1 warning, 1 info"


def test_github_commands_cannot_be_forged():
    lines = render(samples.hostile(), "github").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("::error title=EV101 uneven-overlap::")
    assert "%0A::error::a%25,b:c" in lines[0]
    assert not lines[1].startswith("::")


# ------------------------------------------------------------------------------------------------------------ notebook


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not attrs or "svg" in [*self.open, tag], "no style, no script, no address outside of drawings"
        assert not any(name.startswith("on") or name in ("href", "style") for name, _ in attrs)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("report", EVERY)
def test_notebook_html_is_balanced_and_escaped(report):
    parser = Balanced()
    parser.feed(report._repr_html_())
    assert parser.open == []
    drawing = {"svg", "title", "rect", "text"}
    assert parser.seen <= {"div", "p", "strong", "br", "table", "thead", "tbody", "tr", "th", "td", *drawing}


def test_notebook_shows_findings_and_verdict():
    html = to_html(samples.ordinary())
    assert "<td>EV101</td><td>error</td><td>main.3</td>" in html
    assert "88.2 %" in html
    assert to_html(samples.clean()).count("<table>") == 1


def test_there_is_a_module_per_format():
    assert all(render(samples.clean(), form) for form in REPORTERS)
