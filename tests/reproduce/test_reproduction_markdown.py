"""The Markdown page: a line for every claim, pictures pixel by pixel, and what was not run stays as it was."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from test_written import done

pytest.importorskip("matplotlib")

from PIL import Image

from evenly.errors import FormatError, OutputError
from evenly.reproduce.claims import CLAIMS
from evenly.reproduce.markdown import write_markdown
from evenly.reproduce.registry import EXPERIMENTS
from evenly.reproduce.result import Answer, Conclusion, Effect, Finding, Part, Picture, Row
from evenly.reproduce.stored import read_result, read_results
from evenly.reproduce.written import write_result


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for name in ("fake", "other"):
        monkeypatch.setitem(EXPERIMENTS, name, ("fake_experiment", ("C13", "C14"), "a fake"))


@pytest.fixture
def page(tmp_path):
    write_result(done(), tmp_path / "results")
    path = tmp_path / "docs" / "reproduction.md"
    write_markdown(read_results(tmp_path / "results"), path)
    return path


def test_a_line_for_every_claim_begins_with_its_number(page):
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^\n(C\d+) \*\*([a-z ]+)\*\*.*\n$", text, re.MULTILINE)  # empty lines before and after
    assert [number for number, _ in lines] == list(CLAIMS)
    answers = dict(lines)
    assert (answers["C13"], answers["C14"], answers["C1"]) == ("holds", "does not hold here", "not run")
    assert "25 claims: 1 holds, 1 does not hold here, 23 not run." in text
    assert (
        "What it hangs on: Two is at least 3: **a ratio of 2 (exact)**; not met, bound at least 3. ([fake](#fake))"
        in text
    )
    assert "C1 **not run**. Overlap" in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_what_it_says_of_an_experiment(page):
    text = page.read_text(encoding="utf-8")
    for words in ("`evenly reproduce fake --scale smoke`", "2 seeds", "torch ", "A line and noise.",
                  "wall time: 12 s of all",
                  "| none | - |", "95 % interval", "at least 6 levels", "(reproduction/fake/sound-04-"):  # fmt: skip
        assert words in text, words


def test_links_lead_somewhere(page):
    found = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    files = [target for target in found if not target.startswith(("#", "https:"))]
    assert len(files) == 3  # a sheet, a plot, a sound
    for target in files:
        assert (page.parent / target).is_file()
    headings = re.findall(r"^## (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {target[1:] for target in found if target.startswith("#")} <= set(headings)


def test_sheets_show_every_pixel_as_a_square(tmp_path):
    random = np.random.default_rng(0)
    pictures = [Picture(str(n), random.integers(0, 256, (16, 16, 3)).astype(np.uint8)) for n in range(5)]
    write_result(done(Conclusion((), (Row("r", tuple(pictures)),))), tmp_path / "results")
    write_markdown(read_results(tmp_path / "results"), tmp_path / "docs" / "page.md")
    with Image.open(tmp_path / "docs" / "page" / "fake" / "sheet-01.png") as image:
        sheet = np.asarray(image)
    assert sheet.shape[1] <= 800
    factor = 12  # four pictures of 16 pixels and three gaps of 8 in 800
    text = (tmp_path / "docs" / "page.md").read_text(encoding="utf-8")
    assert f"Each pixel is shown as {factor} x {factor}" in text
    assert "line by line" in text
    for number, picture in enumerate(pictures):
        top, left = number // 3 * (16 * factor + 8), number % 3 * (16 * factor + 8)
        part = sheet[top : top + 16 * factor, left : left + 16 * factor]
        np.testing.assert_array_equal(part, picture.pixels.repeat(factor, 0).repeat(factor, 1))
    assert (sheet[: 16 * factor, 16 * factor : 16 * factor + 8] == (0xD0, 0xD5, 0xDE)).all()


def test_what_was_not_run_stays(page, tmp_path):
    part = Part("Nine is at least 3", Effect.exact(9, "dB"), 3.0)
    write_result(done(Conclusion((Finding("C13", (part,)),), ()), "other"), tmp_path / "more")
    write_markdown(read_results(tmp_path / "more"), page)
    text = page.read_text(encoding="utf-8")
    assert "## fake" in text
    assert "## other" in text
    assert "[fake](#fake), [other](#other)" in text
    changed = replace(part, effect=Effect.exact(1, "dB"))
    write_result(done(Conclusion((Finding("C13", (changed,)),), ()), "other"), tmp_path / "more")
    write_markdown(read_results(tmp_path / "more"), page)
    text = page.read_text(encoding="utf-8")
    assert "C13 **partly** (2 of 3 parts met, 1 not met). " in text
    assert "9 dB" not in text


def test_it_says_what_would_decide_a_claim_and_what_is_refuted(tmp_path):
    parts = (
        Part("A is at least 3", Effect(2, 1, 4, "dB", 3, "m"), 3.0, decides="more seeds"),
        Part("B is at least 3", Effect(2, 1, 4, "dB", 3, "m"), 3.0, decides="full scale; more seeds"),
        Part("D is at least 3", Effect.exact(4, "dB"), 3.0),
    )
    refuted = tuple(Part(f"{name} is at least 3", Effect.exact(1, "dB"), 3.0) for name in "EF")
    write_result(done(Conclusion((Finding("C13", parts), Finding("C14", parts + refuted)), ())), tmp_path / "results")
    write_markdown(read_results(tmp_path / "results"), tmp_path / "page.md")
    lines = (tmp_path / "page.md").read_text(encoding="utf-8").splitlines()
    first, second = (next(line for line in lines if line.startswith(number)) for number in ("C13", "C14"))
    assert first.startswith("C13 **partly** (1 of 3 parts met, 2 open). ")
    assert first.endswith(
        "What it hangs on: A is at least 3: **2 dB (95 % interval 1 to 4, n = 3)**; open, since the bound "
        "(at least 3 dB) lies within the interval. What would decide the 2 open parts: more seeds, full scale. "
        "([fake](#fake))"
    )
    assert second.startswith("C14 **partly** (1 of 5 parts met, 2 not met, 2 open). ")
    assert (
        "E is at least 3: **1 dB (exact)**; not met, bound at least 3 dB. Not met, either: F is at least 3: 1 dB."
        in second
    )


def test_writing_it_again_changes_nothing(page, tmp_path):
    def content():
        return {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}

    before = content()
    write_markdown(read_results(tmp_path / "results"), page)
    assert content() == before
    write_markdown(read_results(page.with_suffix("")), page)  # from its own folder
    assert content() == before


def test_old_pictures_go(page, tmp_path):
    write_result(done(Conclusion((), ())), tmp_path / "results")
    mine = page.with_suffix("") / "fake" / "mine.png"
    mine.write_bytes(b"the user's")
    write_markdown(read_results(tmp_path / "results"), page)
    assert list(mine.parent.iterdir()) == [mine]


def test_text_cannot_break_the_page(tmp_path):
    nasty = "a | b * c _ d ` e [f](g) <h>\n# i"
    finding = Finding("C13", (Part(nasty, Effect(1, 0, 2, "dB", 3, "m"), 1.5, decides=nasty),), nasty)
    write_result(done(Conclusion((finding,), (), nasty)), tmp_path / "results")
    path = tmp_path / "page.md"
    write_markdown(read_results(tmp_path / "results"), path)
    text = path.read_text(encoding="utf-8")
    assert "\n# i" not in text
    assert "<h>" not in text
    assert "](g)" not in text.replace("\\](g)", "")
    row = next(line for line in text.splitlines() if line.startswith("| open "))
    assert len(re.findall(r"(?<!\\)\|", row)) == 7
    line = next(line for line in text.splitlines() if line.startswith("C13 "))
    assert not re.search(r"(?<!\\)[`_|]", line)
    assert line.endswith(" # i. ([fake](#fake))")


def test_what_stands_there_damaged_is_an_error(page, tmp_path):
    (page.with_suffix("") / "other.json").write_text("{", encoding="utf-8")
    with pytest.raises(FormatError, match=r"other\.json"):
        write_markdown(read_results(tmp_path / "results"), page)
    assert read_result(page.with_suffix("") / "fake.json").name == "fake"


def test_a_page_without_a_suffix(tmp_path):
    with pytest.raises(OutputError, match="suffix"):
        write_markdown(read_results(tmp_path), tmp_path / "page")


def test_the_committed_page_is_whole_and_the_readme_quotes_it():
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "reproduction.md").read_text(encoding="utf-8")
    lines = page.splitlines()
    for claim in CLAIMS:
        (line,) = [line for line in lines if line.startswith(f"{claim} ")]
        assert any(f"**{answer}**" in line for answer in get_args(Answer)), line
    assert "**not run**" not in page
    (tally,) = [line for line in lines if line.startswith("25 claims: ")]
    assert f"> {tally}" in (root / "README.md").read_text(encoding="utf-8").splitlines()
    for name in set(EXPERIMENTS) - {"fake", "other"}:
        result = json.loads((root / "docs" / "reproduction" / f"{name}.json").read_text(encoding="utf-8"))
        assert result["scale"] == "small"
