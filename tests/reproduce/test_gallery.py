"""The page: one file that asks no host for anything, escapes everything, and says the same as the results."""

from __future__ import annotations

import re
import subprocess
import tomllib
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from test_written import done

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from evenly.errors import FormatError
from evenly.reproduce import words
from evenly.reproduce.claims import CLAIMS
from evenly.reproduce.drawing import LIGHT, plot_png, plot_svg
from evenly.reproduce.gallery import gallery, marks, write_gallery
from evenly.reproduce.registry import EXPERIMENTS
from evenly.reproduce.result import (
    Architecture,
    Conclusion,
    Effect,
    Finding,
    Part,
    Picture,
    Plot,
    Recording,
    Row,
    Series,
    Table,
)
from evenly.reproduce.stored import read_results
from evenly.reproduce.written import write_result

ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use", "rect", "line", "circle"}


class Page(HTMLParser):
    """Elements with their attributes, and whether every one is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "fake", ("fake_experiment", ("C13", "C14"), "a fake"))
    write_result(done(), tmp_path)
    return read_results(tmp_path)


def test_the_page_is_whole_and_asks_no_host(results, tmp_path):
    text = gallery(results)
    page = Page(text)
    assert page.open == []
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "poster", "srcset", "data", "action"):
            value = attributes.get(name)
            if value is not None and not value.startswith(("data:", "#")):
                assert value.startswith("https://doi.org/"), value  # a link to a paper: asked for when it is clicked
                assert name == "href"
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|eval|innerHTML)\b", text)
    write_gallery(results, tmp_path / "index.html")
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == text


def test_identifiers_are_unique_and_links_lead_somewhere(results):
    page = Page(gallery(results))
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    inside = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert {"fake-C13", "fake-C14", "claims"} <= set(inside) <= set(identifiers)
    used = [a["xlink:href"][1:] for _, a in page.elements if "xlink:href" in a]
    assert set(used) <= set(identifiers)


def test_every_claim_comes_first_with_its_answer_in_words_and_sign(results):
    text = gallery(results)
    table = text[text.index('<table class="claims">') : text.index("</table>")]
    rows = re.findall(r'<th scope="row">(C\d+)</th>', table)
    assert rows == list(CLAIMS)
    answers = dict(zip(rows, re.findall(r'aria-hidden="true">(.)</span> ([a-z ]+)</span>', table), strict=True))
    assert answers["C13"] == ("✓", "holds")
    assert answers["C14"] == ("✗", "does not hold here")
    assert answers["C1"] == ("–", "not run")
    effect = results.claims["C14"].decisive[1].effect
    assert words.effect(effect) in table


def test_every_experiment_can_be_jumped_to(results):
    text = gallery(results)
    jump = re.search(r'<nav class="jump".*?</nav>', text, re.DOTALL)[0]
    assert re.findall(r'href="#([\w-]+)"', jump) == ["claims", "fake"]
    assert text.index("</nav>") < text.index('class="claims"') < text.index('id="fake"')


def test_a_row_of_pictures_opens_the_page(tmp_path, results):
    assert 'class="opening"' not in gallery(results)  # the fake is none that makes pictures to look at
    write_result(done(name="dream"), tmp_path)
    text = gallery(read_results(tmp_path))
    opening = text[text.index('class="opening"') : text.index("</header>")]
    assert opening.count("<img") == len(
        next(i for i in results.results["fake"].evidence if hasattr(i, "pictures")).pictures
    )
    assert '<a href="#dream">' in opening


def test_pictures_keep_their_pixels(results):
    """Enlarged by whole factors only: any other would draw a pattern of its own."""
    images = Page(gallery(results)).all("img")
    assert len(images) == 4
    for image in images:
        assert int(image["width"]) == 32 * int(image["data-factor"]) == 256
        assert image["alt"]
        assert image["src"].startswith("data:image/png;base64,")
    css = (ROOT / "src/evenly/reproduce/page/page.css").read_text(encoding="utf-8")
    assert re.search(r"\.view img \{[^}]*image-rendering: pixelated", css)


def test_without_script_everything_but_the_magnifier_is_there(results):
    text = re.sub(r"<script>.*?</script>", "", gallery(results), flags=re.DOTALL)
    page = Page(text)
    assert page.all("audio")[0]["src"].startswith("data:audio/wav;base64,")
    assert "controls" in page.all("audio")[0]
    assert len(page.all("svg")) == 3 + 1  # three parts and a plot
    assert "No findings." in page.words
    assert "A line and noise." in page.words


NASTY = '<script>alert("&\'x")</script>{{ 7*7 }}</style>'


def test_everything_is_escaped(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "fake", ("fake_experiment", ("C13",), "a fake"))
    conclusion = Conclusion(
        (Finding("C13", (Part(NASTY, Effect(1, 0, 2, NASTY, 3, NASTY), 1.5, decides=NASTY),), NASTY),),
        (
            Row(NASTY, (Picture(NASTY, np.zeros((2, 2), np.uint8)),), NASTY),
            Plot(NASTY, NASTY, NASTY, (Series(NASTY, (1.0, 2.0), (1.0, 2.0)), Series(NASTY + "2", (1.0,), (1.0,))),
                 marks=((1.5, NASTY),), note=NASTY),
            Plot(NASTY, "x", "y", (Series("$a_b$", (NASTY, "$x^$"), (1.0, 2.0)),), "bars"),
            Table(NASTY, (NASTY,), ((NASTY,),), NASTY),
            Recording(NASTY, np.zeros(4, np.float32), 8000, NASTY),
            Architecture(NASTY, NASTY, NASTY, NASTY),
        ),
        NASTY,
    )  # fmt: skip
    write_result(done(conclusion), tmp_path)
    text = gallery(read_results(tmp_path))
    page = Page(text)
    assert page.open == []
    assert len(page.all("script")) == 1
    assert "49" not in page.words
    assert "alert(" not in re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    assert page.words.count(NASTY) > 15


def test_a_picture_that_is_gone_is_an_error(results):
    next((results.folder / "fake").glob("*.png")).unlink()
    with pytest.raises(FormatError, match="cannot be read"):
        gallery(results)


def part(low, high, bound=1.0, unit="dB", least=True):
    effect = Effect((low + high) / 2, low, high, unit, 3, "test")
    return Part("s", effect, at_least=bound) if least else Part("s", effect, at_most=bound)


def test_bars_stand_where_the_numbers_are():
    met, wrong = marks([part(2, 4), part(2, 4, 3.0, "%", least=False)])
    assert 0 < met.bound < met.low < met.value < met.high < 100
    assert met.met == (met.bound, 100 - met.bound)
    assert wrong.low < wrong.bound == wrong.value < wrong.high
    assert wrong.met == (0.0, wrong.bound)


def test_parts_of_one_unit_share_an_axis_where_both_stay_readable():
    one, two = marks([part(2, 4), part(3, 5)])
    assert one.bound == two.bound
    assert one.value < two.value
    large, small = marks([part(200, 400), part(1.1, 1.2)])
    for mark in (large, small):
        assert mark.high - mark.low > 10
    assert large.ticks != small.ticks


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-9, 1e9])
def test_axes_of_exact_values_at_their_bound(value):
    (mark,) = marks([part(value, value, value)])
    assert mark.low == mark.value == mark.high == mark.bound == 50
    assert len(mark.ticks) >= 2


def test_plots_of_every_kind():
    x, y = (1.0, 10.0, 100.0), (1.0, 2.0, 3.0)
    for kind in ("line", "points", "bars"):
        for log in (False, True):
            series = (Series("a", x, y, (0.5, 1.5, 2.5), (1.5, 2.5, 3.5)), Series("b", x, y))
            plot = Plot("t", "x (units)", "y (dB)", series, kind, ((10.0, "period 2"), (11.0, "period 4")), log, log)
            svg = plot_svg(plot, f"{kind}-{log}")
            assert "x (units)" in svg
            assert "y (dB)" in svg
            assert ("period 2" in svg) == (kind != "bars")
            assert "var(--plot-s0)" in svg
            assert "#fe01" not in svg  # every colour is the page's
            assert svg == plot_svg(plot, f"{kind}-{log}")
            assert plot_png(plot)[:8] == b"\x89PNG\r\n\x1a\n"
    names = Plot(
        "t", "net", "y", (Series("a", ("a long name of a network", "another long name"), (1.0, 2.0)),), "points"
    )
    assert "a long name of a network" in plot_svg(names, "names")


def test_short_logarithmic_axes_have_numbers():
    """Three at least, on whatever a logarithmic axis shows."""
    for low, high in ((0.9, 1.1), (2.0, 8.0), (0.3, 40.0), (1e-6, 1.0)):
        plot = Plot("t", "x", "y", (Series("a", (low, high), (low, high)),), "line", (), True, True)
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", plot_svg(plot, "k"))
        shown = [float(text) for text in texts if text not in ("x", "y")]
        assert len(shown) >= 6, (low, high, shown)
        assert min(shown) <= (low * high) ** 0.5 <= max(shown)


def test_long_labels_are_broken_and_long_legends_have_room():
    words_ = " ".join(["a long label of 95\N{NO-BREAK SPACE}%"] * 4)
    texts = re.findall(
        r"<text[^>]*>([^<]*)</text>", plot_svg(Plot("t", "x", words_, (Series("a", (0.0,), (1.0,)),)), "k")
    )
    assert max(map(len, texts)) <= 40
    assert words_ in " ".join(texts)
    import io

    from PIL import Image

    heights = []
    for count in (2, 8):
        series = tuple(
            Series(f"series {n} with a name that is rather long", (0.0, 1.0), (0.0, n)) for n in range(count)
        )
        with Image.open(io.BytesIO(plot_png(Plot("t", "x", "y", series)))) as image:
            heights.append(image.height)
    assert heights[1] > heights[0] + 100


def test_bars_on_a_logarithmic_axis_begin_at_one():
    """Without length at 1: where it began at the axis' end, the same ratio would be long or short by the others."""

    def lengths(y):
        text = plot_svg(Plot("t", "x", "ratio", (Series("a", ("one", "two", "three"), y),), "bars", log_y=True), "k")
        paths = re.findall(r'<path d="([^"]*)"[^>]*style="fill: var\(--plot-s0\)', text)
        heights = []
        for path in paths:
            ends = [float(number) for number in re.findall(r"[ML] [\d.]+ ([\d.]+)", path)]
            heights.append(max(ends) - min(ends))
        return heights

    one, two, four = lengths((1.0, 2.0, 4.0))
    assert one == 0
    assert four == pytest.approx(2 * two, rel=1e-3)


def test_marks_do_not_overlap():
    marks_ = ((0.1, "a word that is long"), (0.2, "another long word"), (0.3, "and a third one"), (0.9, "far"))
    plot = Plot("t", "x", "y", (Series("a", (0.0, 1.0), (0.0, 1.0)),), "line", marks_)
    text = plot_svg(plot, "k")
    heights = [float(re.search(rf'y="([\d.]+)"[^>]*>{word}<', text)[1]) for _, word in marks_]
    assert len(set(heights[:3])) >= 2
    assert heights[0] == heights[3] != heights[1]


@pytest.mark.parametrize(
    ("effect", "text"),
    [
        (Effect(4, 2.5, 5.5, "ratio", 3, "m"), "a ratio of 4 (95 % interval 2.5 to 5.5, n = 3)"),
        (Effect.exact(2e-7, "ratio"), "a ratio of 2e-7 (exact)"),
        (Effect(0.7071, 0.6, 0.8, "correlation", 5, "m"), "a correlation of 0.71 (95 % interval 0.60 to 0.80, n = 5)"),
        (Effect(100, 99.933, 100, "%", 5465, "m"), "100 % (95 % interval 99.933 to 100, n = 5,465)"),
        (Effect(-0.001, -1, 1, "dB", 3, "m"), "0.0 dB (95 % interval -1 to 1, n = 3)"),
        (Effect.exact(0, "dB"), "0 dB (exact)"),
    ],
)
def test_how_effects_are_written(effect, text):
    assert words.effect(effect) == text


def test_how_bounds_and_ticks_are_written():
    assert words.bound(Part("s", Effect.exact(2, "ratio"), 4.0)) == "at least 4"
    assert words.bound(Part("s", Effect.exact(2, "dB"), at_most=1e-9)) == "at most 1e-9 dB"
    assert [words.tick(n * 2e-6, 2e-6) for n in (0, 1, 3)] == ["0", "2e-6", "6e-6"]
    assert [words.tick(n * 0.5, 0.5) for n in (-1, 0, 3)] == ["-0.5", "0", "1.5"]
    assert words.tick(20000.0, 20000.0) == "20,000"
    (mark,) = marks([part(99, 100, 90, "%")])
    assert all(float(text) <= 100 for _, text in mark.ticks)
    assert len(mark.ticks) >= 2


def test_numbers_that_are_not_finite_leave_gaps():
    plot = Plot("t", "x", "y", (Series("a", (0.0, 1.0, 2.0), (1.0, float("nan"), 2.0)),))
    assert "nan" not in plot_svg(plot, "k").lower()


def contrast(first, second):
    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    a, b = light(first), light(second)
    return max(a, b) / min(a, b)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_can_be_read_on_its_ground(mode):
    """WCAG 2.2, 1.4.3: a contrast of 4.5; lines of plots 3 (1.4.11)."""
    css = (ROOT / "src/evenly/reproduce/page/page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = {}
    for block in blocks if mode == "dark" else blocks[:1]:
        for name, colour in re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block):
            colours[name] = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
    for name in ("text", "muted", "link"):
        for ground in ("paper", "raised"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name in ("good", "part", "bad", "open"):
        assert contrast(colours[name], colours[f"{name}-back"]) >= 4.5, name
    for name in LIGHT:
        if name[0] == "s":
            assert contrast(colours[f"plot-{name}"], colours["paper"]) >= (2.9 if name in ("s4", "s5") else 3), name


def test_the_wheel_holds_the_page():
    """Hatch takes all files of the package that git does not ignore."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["src/evenly"]}
    names = ("page.css", "page.html.jinja", "magnifier.js")
    for name in names:
        assert (files("evenly.reproduce") / "page" / name).is_file()
    paths = [f"src/evenly/reproduce/page/{name}" for name in names]
    ignored = subprocess.run(["git", "check-ignore", "--no-index", *paths], cwd=ROOT, capture_output=True, check=False)
    if ignored.returncode not in (0, 1):
        pytest.skip("not a git checkout")
    assert ignored.stdout == b""
