"""The report pages: self-contained, safe with hostile names, the same for the same report, with the JSON inside."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser

import measured_samples
import numpy as np
import pytest
import report_samples

from evenly.measure.image import measure_image
from evenly.report import Measured, open_measured, render
from evenly.report.page.changes import _RECIPES, change
from evenly.report.page.patterns import overlap_picture
from evenly.report.page.strip import layers_table

REPORTS = {
    name: getattr(report_samples, name) for name in ("ordinary", "clean", "hostile")
} | {"deep": lambda: report_samples.deep(90)}  # fmt: skip
VOID = {"meta", "br", "img", "input"}


class Page(HTMLParser):
    """A page taken apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": [], "title": [], "h1": [], "text": []}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in self.inside:
            self.inside[tag].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.inside["text"].append(data)
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.inside["text"]).split())

    @property
    def data(self):
        (text,) = [
            text
            for text, (_, attributes) in zip(
                self.inside["script"], [t for t in self.tags if t[0] == "script"], strict=True
            )
            if attributes.get("type") == "application/json"
        ]
        return json.loads(text)


def expect_safe(html: str) -> Page:
    """Nothing loads, nothing runs but the page's own script, and the policy says so."""
    page = Page(html)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    runs = [
        text
        for text, (_, a) in zip(page.inside["script"], [t for t in page.tags if t[0] == "script"], strict=True)
        if "type" not in a
    ]
    assert len(runs) == len(page.inside["style"]) == 1
    for kind, text in (("script", runs[0]), ("style", page.inside["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    for element, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (element, attributes)
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        address = attributes.get("href") or "#"
        assert address.startswith(("#", "data:image/png")), address
        assert element not in ("iframe", "object", "embed", "base", "form", "link")
    assert "url(" not in page.inside["style"][0]
    assert "@import" not in page.inside["style"][0]
    return page


def written(records, result, against=()) -> str:
    with closing(open_measured("html")) as writer:
        for record in records:
            writer.add(record)
        for record in against:
            writer.add_against(record)
        return "".join(writer.parts(result))


def as_json(records, result):
    with closing(open_measured("json")) as writer:
        for record in records:
            writer.add(record)
        return json.loads("".join(writer.parts(result)))


def board(height: int = 72, width: int = 96) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return np.clip(120 + 20 * np.sin(x / 9)[..., None] + 9 * ((x + y) % 2)[..., None] + noise, 0, 255).astype(np.uint8)


# --------------------------------------------------------------------------------------------------------------- check


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_safe_holds_the_report_and_is_always_the_same(name):
    report = REPORTS[name]()
    html = render(report, "html")
    page = expect_safe(html)
    assert page.data == json.loads(render(report, "json"))
    assert html == render(REPORTS[name](), "html")
    assert len(html) < 200_000
    identifiers = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(identifiers)) == len(identifiers)
    assert {a["href"][1:] for t, a in page.tags if t == "a"} <= set(identifiers)


def test_hostile_names_are_text():
    html = render(report_samples.hostile(), "html")
    page = Page(html)
    assert "</td><script>" in page.text
    assert "\x1b" not in html
    # those of the page: data, and its own; a name cannot end the data either
    assert [a.get("type") for t, a in page.tags if t == "script"] == ["application/json", None]
    assert page.data["notes"] == [report_samples.hostile().notes[0]]


def test_the_page_says_the_verdict_first_and_explains_every_finding():
    report = report_samples.ordinary()
    page = Page(render(report, "html"))
    assert page.inside["title"][0].startswith("1 error and 1 warning")
    for finding in report.findings:
        assert finding.message in page.text
        assert finding.fix in page.text
        assert finding.code in page.text
    for words in (
        "- nn.ConvTranspose2d(c_in, c_out, kernel_size=3, stride=2, padding=1, output_padding=1)",
        "evenly.nn.from_conv_transpose(layer)",
        "A position with four writers gets four times the variance",  # of the rule's explanation
        "9 times the variance at the strongest position",
        "main.1 removes a constant",
        "-12.2 dB",
        "75 % of the input positions never get a gradient",
    ):
        assert words in page.text, words
    assert "No findings" in Page(render(report_samples.clean(), "html")).text
    assert "90 layers" in Page(render(report_samples.deep(90), "html")).text


def test_ways_of_patterns_end_where_they_are_removed():
    ordinary = report_samples.ordinary()
    through = str(layers_table(ordinary))
    assert 'class="way out"' in through
    assert 'class="way gone"' not in through
    assert 'class="way back made"' in through
    layers = [replace(x, removed_by="main.4") if x.name == "main.3" else x for x in ordinary.layers]
    ended = str(layers_table(replace(ordinary, layers=tuple(layers))))
    assert 'class="way gone"' in ended
    assert 'class="way out"' not in ended
    assert "until <b>main.4</b>" in ended


def test_pictures_of_layers_are_drawn_only_where_they_follow_from_the_numbers():
    layer = report_samples.ordinary().layers[1]
    drawn = overlap_picture(layer)
    assert "4 2; 2 1" in drawn
    assert overlap_picture(replace(layer, unevenness=3.0)) is None
    even = replace(layer, kernel=(4, 4), unevenness=1.0, period=2)
    assert "each of the 4 phases has weights of its own" in overlap_picture(even)
    assert overlap_picture(replace(layer, stride=(1, 1), unevenness=1.0)) is None
    line = replace(layer, kernel=(3,), stride=(2,), dilation=(1,), unevenness=2.0)
    assert "by phase: 2 1" in overlap_picture(line)
    volume = replace(layer, kernel=(3, 3, 3), stride=(2, 2, 2), dilation=(1, 1, 1), unevenness=8.0)
    assert "by phase: 8 4; 4 2" in overlap_picture(volume)


def test_every_change_is_code_that_runs():
    torch = pytest.importorskip("torch")
    import evenly.nn
    from evenly.check.result import LayerResult

    nn, ran = torch.nn, 0
    names = {"nn": nn, "evenly": evenly, "c_in": 4, "c_out": 4, "layer": nn.ConvTranspose2d(4, 4, 4, 2, 1)}
    for code, op in _RECIPES:
        for kernel, stride, dims in ((3, 2, 2), (4, 2, 2), (2, 2, 2), (4, 2, 1), (5, 3, 2)):
            layer = LayerResult("x", op, (kernel,) * dims, (stride,) * dims, (1,) * dims, (1,) * dims, None, 1)
            text = change(code, layer)
            if text is None:
                continue
            for line in text.splitlines():
                assert line[:2] in ("- ", "+ ")
                if "..." not in line:
                    assert isinstance(eval(line[2:], dict(names)), nn.Module), line
                    ran += 1
    assert ran > 60
    layer = LayerResult("x", "conv_transpose", (4, 4), (2, 2), (1, 1), (1, 1), (0, 0), 1)
    old, new = (line for line in change("EV103", layer).splitlines()[:2])
    x = torch.zeros(1, 4, 5, 7)
    assert eval(old[2:], dict(names))(x).shape == eval(new[2:], dict(names))(x).shape
    assert change("EV103", replace(layer, padding=((0, 1), 1))) is None
    assert change("EV901", layer) is None


# ------------------------------------------------------------------------------------------------------------- measure


def test_a_picture_is_shown_with_its_pattern_and_measured_numbers():
    only = measure_image(board(), path="a<b>.png", keep=True)
    assert 2 in only.found
    records, result = [only.to_dict()], Measured("a<b>.png", "image", measured_samples.together(), only=only)
    html = written(records, result)
    page = expect_safe(html)
    assert page.data == as_json(records, result)
    assert html == written(records, result)
    assert "traces of up-sampling: period 2 px" in page.inside["title"][0]
    for words in ("period 2 px alone, amplified", "Mean pattern of period 2 px", "lines of period 2 px", "96x72 px"):
        assert words in page.text, words
    pictures = [a for t, a in page.tags if t == "img"]
    assert all(a["alt"] for a in pictures)
    # the part on the page is the picture's own pixels
    from PIL import Image

    first = base64.b64decode(pictures[0]["src"].partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(first))), board())


def test_the_pattern_alone_is_the_one_in_the_picture():
    from evenly.report.page.picture_parts import Look

    look = Look(measure_image(board(160, 200), keep=True))
    alone = look.pattern(40, 30, 100, 90)
    y, x = np.mgrid[30:120, 40:140]
    added = np.where((x + y) % 2, 4.5, -4.5)
    assert np.corrcoef(alone.ravel(), added.ravel())[0, 1] > 0.99
    assert np.abs(alone).mean() == pytest.approx(4.5, rel=0.15)


def test_large_pictures_are_shown_in_part(monkeypatch):
    monkeypatch.setattr("evenly.report.page.picture_parts._LARGEST", 480)
    only = measure_image(np.tile(board(), (9, 8, 1))[:600, :760], (2, 3), path="big.png", keep=True)
    html = written([only.to_dict()], Measured("big.png", "image", measured_samples.together(), only=only))
    page = expect_safe(html)
    assert len(html) < 2_000_000
    assert "224x224 pixels where the pattern is strongest" in page.text
    assert "The middle of the picture, at 1/2 of its size" in page.text


@pytest.mark.parametrize("item", [measured_samples.strong, measured_samples.tiny, measured_samples.hostile])
def test_a_picture_whose_pixels_are_gone(item):
    only = item()
    page = expect_safe(written([only.to_dict()], Measured("x", "image", measured_samples.together(), only=only)))
    assert page.data["images"] == [only.to_dict()]
    assert ("Too small to test" in page.text) is (item is measured_samples.tiny)


def test_a_set_against_another_with_failures(tmp_path):
    from PIL import Image

    hostile = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.fromarray(board()).save(hostile)
    records = [measured_samples.strong(str(hostile)).to_dict(), {"path": "broken/0.png", "error": "not a picture"}]
    records += [measured_samples.clean().to_dict(), measured_samples.hostile().to_dict()]
    result = Measured(
        *("made", "image", measured_samples.together(failed=2)),
        *(measured_samples.together(against=True), "</title><script>", measured_samples.comparison()),
    )
    html = written(records, result, [measured_samples.clean().to_dict(), {"path": "x", "error": "y"}])
    page = expect_safe(html)
    assert page.data == as_json(records, result)
    assert sum(a.get("class") == "outline" for _, a in page.tags) == 2
    assert "Outlined: </title><script>" in page.text
    title = "Strong evidence of more up-sampling than in </title><script>: period 2 px"
    assert page.inside["title"][0].startswith(title)
    for words in (
        "Against </title><script>",
        "97 %",
        "broken/1.png",
        "not a picture",
        "21.5 dB",
        "up-sampling: 11 files",
    ):
        assert words in page.text, words
    (thumbnail,) = [a for t, a in page.tags if t == "img" and "middle of" in a["alt"]]
    assert "onerror=alert(1)" in thumbnail["alt"]
    assert (thumbnail["width"], thumbnail["height"]) == ("192", "192")
    counted = [a["aria-label"] for t, a in page.tags if t == "svg" and "Files by level" in a.get("aria-label", "")]
    assert len(counted) == 2


def test_of_a_large_set_the_page_holds_the_files_that_show_most():
    few = [measured_samples.strong(f"s{n}.png").to_dict() for n in range(3)]
    many = [measured_samples.clean(f"{n}.png").to_dict() for n in range(1200)]
    result = Measured("made", "image", measured_samples.together())
    html = written(many + few, result)
    page = expect_safe(html)
    assert len(html) < 2_000_000
    assert [r["path"] for r in page.data["images"][:3]] == ["s0.png", "s1.png", "s2.png"]
    assert len(page.data["images"]) == 20
    assert page.data["set"] == as_json([], result)["set"]
    assert "--format json has all" in page.text


def test_nothing_measured():
    empty = replace(measured_samples.together(failed=1), count=0, periods={}, found=(), verdict="none")
    page = expect_safe(written([], Measured("made", "image", empty)))
    assert "Nothing could be measured" in page.text
    assert "Could not be measured: 1 of 1" in page.text


def test_a_recording_is_read_again_for_its_spectrum(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "tone.wav"
    times = np.arange(33075) / 22050
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 2756.25 * times), 22050)
    for only, drawn in ((measured_samples.sound(str(path)), True), (measured_samples.sound("gone.wav"), False)):
        result = Measured("x.wav", "audio", measured_samples.together(), only=only)
        page = expect_safe(written([only.to_dict()], result))
        assert page.data["sounds"] == [only.to_dict()]
        assert ("period 8 samples: multiples of 2756.2 Hz" in page.text) is drawn
        assert ("polyline" in {t for t, _ in page.tags}) is drawn
        assert "31.0 dB" in page.text
        assert ("<svg" in only._repr_html_()) is drawn


def test_notebooks_show_pictures_and_no_scripts():
    report = report_samples.ordinary()._repr_html_()
    assert "4 2; 2 1" in report
    measured = measure_image(board(), keep=True)._repr_html_()
    assert "lines of period 2 px" in measured
    assert measured.count("<svg") >= 2
    for html in (report, measured, measured_samples.together(failed=1)._repr_html_()):
        page = Page(html)
        assert not {"script", "style", "iframe"} & {t for t, _ in page.tags}
    assert "12 files measured, 1 could not be" in page.text
