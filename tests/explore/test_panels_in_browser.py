"""The explorer in a browser: every panel and slider, links, keys, looks; what it shows is what evenly says."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import evenly
from evenly.explore import page
from evenly.theory.overlap import overlap_counts

PANELS = {
    "kernel": "Kernel and stride",
    "planes": "Two dimensions",
    "stacks": "Stacks",
    "matrices": "Matrices",
    "learned": "Learned weights",
    "gradients": "Gradients",
    "network": "Your network",
}
SLIDERS = {"kernel": 6, "planes": 6, "matrices": 3, "learned": 3}
SLIDE = """(input, value) => {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}"""
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    path.write_text(page(), encoding="utf-8")
    return path


@pytest.fixture
def quiet(opened, html):
    """Opens the explorer; at the end it must have asked for nothing and complained of nothing."""
    seen = []

    def go(**options):
        seen.append(opened(html, **options))
        settle(seen[-1].page)
        return seen[-1].page

    yield go
    assert seen
    for one in seen:
        assert (one.errors, one.requests) == ([], [])


def settle(page) -> None:
    page.evaluate(FRAMES)


def fact(page, panel: str, term: str) -> str:
    """The large figure under a term, without its remark."""
    entry = page.locator(f"#{panel} .facts > div", has=page.locator("dt", has_text=re.compile(f"^{re.escape(term)}$")))
    return entry.locator("dd").evaluate("(dd) => dd.firstChild.textContent")


def state(page, panel: str) -> str:
    return page.locator(f"#{panel} .permalink a").get_attribute("href")


def text(page, panel: str) -> str:
    return page.locator(f"#{panel} .body").inner_text()


def unpointed(page, panel: str) -> str:
    """What a panel says, without what it says of the place under the pointer."""
    told = text(page, panel)
    for formula in page.locator(f"#{panel} .formula:not(.two)").all_inner_texts():
        told = told.replace(formula, "")
    return told


def test_every_panel_stands_and_is_marked_when_in_view(quiet):
    page = quiet()
    assert page.locator("h2").all_inner_texts() == list(PANELS.values())
    for panel, title in PANELS.items():
        page.locator(".contents a", has_text=re.compile(f"^{title}$")).click()
        page.wait_for_function(f"() => location.hash === '#{panel}'")
        page.wait_for_function(
            "(title) => document.querySelector('.contents a[aria-current]')?.textContent === title", arg=title
        )
        assert page.locator(f"#{panel} .body").evaluate("(body) => body.getBoundingClientRect().height") > 100
    drawn = (
        "(canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((v) => v > 0)"
    )
    canvases = page.locator("canvas:visible").all()
    assert len(canvases) >= 10
    assert all(canvas.evaluate(drawn) for canvas in canvases)


@pytest.mark.parametrize("panel", SLIDERS)
def test_every_slider_changes_what_is_shown(quiet, panel):
    page = quiet()
    sliders = page.locator(f"#{panel} input[type=range]").all()
    assert len(sliders) == SLIDERS[panel]
    assert page.locator("input[type=range]").count() == sum(SLIDERS.values())
    if panel == "kernel":  # padding and output padding have room only beside these
        sliders[1].evaluate(SLIDE, "3")
        sliders[0].evaluate(SLIDE, "4")
    for slider in sliders:
        settle(page)
        low, high = (float(slider.get_attribute(name)) for name in ("min", "max"))
        values = [low, high, low + (high - low) / 2]
        seen = set()
        for value in values:
            slider.evaluate(SLIDE, str(value))
            settle(page)
            told = slider.evaluate("(input) => [input.value, input.parentElement.querySelector('output').textContent]")
            assert float(told[1].replace("−", "-")) == pytest.approx(float(told[0]), abs=1e-9)
            seen.add((state(page, panel), text(page, panel)))
        assert len(seen) >= 2, f"{slider.evaluate('(i) => i.parentElement.innerText')} changes nothing"


def test_counts_are_those_of_evenly(quiet):
    page = quiet()
    kernel, stride, _, dilation = page.locator("#kernel input[type=range]").all()[:4]
    for k, s, d in itertools.product((2, 3, 5, 8), (2, 3), (1, 2)):
        for slider, value in ((kernel, k), (stride, s), (dilation, d)):
            slider.evaluate(SLIDE, str(value))
        settle(page)
        counts = [int(count) for count in overlap_counts(k, s, d)]
        assert fact(page, "kernel", "Strokes by phase") == " : ".join(map(str, counts))
        if min(counts):
            assert float(fact(page, "kernel", "Unevenness")) == pytest.approx(max(counts) / min(counts), abs=0.01)
        else:
            assert fact(page, "kernel", "Unevenness") == "holes"


USE_ALL = """async (panel) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const all = (kind) => [...document.querySelectorAll(`#${panel} ${kind}`)];
  for (const button of all("button")) {
    if (button.isConnected && !button.disabled) button.click();
    await frame();
  }
  // the entries of a list of layers are all alike: two will do
  for (const select of all("select").filter((one) => !/layer ([3-9]|1.)$/.test(one.ariaLabel))) {
    for (const { value } of [...select.options]) {
      select.value = value;
      select.dispatchEvent(new Event("change", { bubbles: true }));
      await frame();
    }
  }
}"""


def test_every_button_and_choice_can_be_used(quiet):
    page = quiet()
    for panel in PANELS:
        page.evaluate(USE_ALL, panel)
        assert not re.search("NaN|undefined", text(page, panel))


def changed(page) -> None:
    """Gives every panel a state that it does not open with."""
    for panel, values in {"kernel": "5321", "planes": "4312", "matrices": "53", "learned": "63"}.items():
        for slider, value in zip(page.locator(f"#{panel} input[type=range]").all(), values, strict=False):
            slider.evaluate(SLIDE, value)
    page.locator("#matrices select").select_option("linear")
    page.locator("#matrices button", has_text="Other weights").click()
    page.locator("#stacks button", has_text="HiFi-GAN").click()
    page.locator("#stacks button", has_text="Another draw").click()
    page.locator("#stacks .layer input").nth(0).fill("11")
    page.locator("#gradients button", has_text="ResNet stem").click()
    page.locator("#gradients button", has_text="Add a layer").click()
    settle(page)


def test_links_restore_their_panels(quiet):
    page = quiet()
    changed(page)
    for panel in [panel for panel in PANELS if panel != "network"]:
        page.locator(f"#{panel} .permalink a").click()  # also sets a restored panel down where the original stands
        settle(page)
        wanted = state(page, panel), unpointed(page, panel)
        other = quiet(fragment=wanted[0][1:])
        assert other.evaluate("location.hash") == wanted[0]
        assert (state(other, panel), unpointed(other, panel)) == wanted
        assert other.locator(f"#{panel}").evaluate("(e) => Math.abs(e.getBoundingClientRect().top)") < 120
        other.close()


def test_the_address_follows_and_going_back_works(quiet):
    page = quiet()
    page.locator("#kernel input[type=range]").first.evaluate(SLIDE, "7")
    page.wait_for_function("() => location.hash.startsWith('#kernel?k=7&')")
    page.evaluate("location.hash = '#kernel?k=4&s=4'")
    page.wait_for_function("() => document.querySelector('#kernel output').textContent === '4'")
    page.go_back()
    page.wait_for_function("() => document.querySelector('#kernel output').textContent === '7'")


@pytest.mark.parametrize(
    "fragment",
    [
        "kernel?k=1e9&s=-4&p=999&w=1,NaN,<script>&x=__proto__",
        "stacks?l=zz~t99.99.99~r3.1.0.99~u0.0.0&axes=7&act=constructor&draw=-1",
        "gradients?l=" + "c9.9.9~" * 80,
        "planes?n=&k=%00&i=99999999999999999999",
        "learned?w=" + "9" * 399 + "&k=2&c=1e400",
        "matrices?k=6&s=3&n=6&mode=cubic&seed=0",
        "network?show=findings&layer=20000",
        "nowhere?%E0%A4%A",
    ],
)
def test_strange_links_do_no_harm(quiet, fragment):
    page = quiet(fragment=fragment)
    assert page.locator("h2").count() == len(PANELS)
    assert "NaN" not in page.locator("main").inner_text()


def test_everything_is_reached_by_keyboard(quiet):
    page = quiet()
    focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the first panel"
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash === '#kernel'")

    slider = page.locator("#kernel input[type=range]").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert "k=4" in state(page, "kernel")

    page.locator("#kernel [aria-label^='Output 0,']").focus()
    page.keyboard.press("End")
    last = page.evaluate(focused)
    page.keyboard.press("ArrowLeft")
    assert int(re.match(r"Output (\d+)", last)[1]) - 1 == int(re.match(r"Output (\d+)", page.evaluate(focused))[1])

    for panel, start in (("planes", 6), ("gradients", 0)):
        page.locator(f"#{panel} canvas").focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
        settle(page)
        place = f"({start + 2}, {start + 1})" if panel == "planes" else "(0, 1)"  # a cell of two repeats
        assert place in page.locator(f"#{panel}-reading").inner_text()

    page.locator("#matrices [role=img]").first.focus()
    before = page.locator("#matrices .formula").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#matrices .formula").inner_text() != before

    page.locator("#learned [role=slider]").first.focus()
    value = float(page.evaluate("document.activeElement.getAttribute('aria-valuenow')"))
    page.keyboard.press("ArrowUp")
    settle(page)
    assert float(page.evaluate("document.activeElement.getAttribute('aria-valuenow')")) == pytest.approx(value + 0.05)

    kind = page.locator("#stacks .layer select").first
    kind.focus()
    page.keyboard.press("ArrowDown")
    settle(page)
    assert page.evaluate(focused) == "kind of layer 1"

    page.locator("#network button", has_text="example").focus()
    page.keyboard.press("Enter")
    page.locator("#network .entry").first.focus()
    name = page.locator("#network .card h3").first.inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator("#network .card h3").first.inner_text() != name


def test_taps_are_dragged_and_projected(quiet):
    page = quiet()
    taps = page.locator("#learned [role=slider]")
    taps.first.scroll_into_view_if_needed()
    box = taps.first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 30
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 60, steps=4)
    settle(page)
    page.mouse.up()
    dragged = float(taps.first.get_attribute("aria-valuenow"))
    assert dragged != 0.35
    assert fact(page, "learned", "Ripple") != "0"
    page.locator("#learned button", has_text="Project").click()
    assert fact(page, "learned", "Ripple") == "0"
    page.locator("#learned button", has_text="Undo").click()
    assert float(taps.first.get_attribute("aria-valuenow")) == dragged


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_paint_runs_to_the_end(quiet, motion):
    page = quiet(reduced_motion=motion)
    page.clock.install()
    page.locator("#planes button", has_text="Paint step by step").click()
    assert page.locator("#planes button", has_text="Pause").count() == 1
    page.clock.run_for(36 * 140 + 6 * 900)
    page.wait_for_function("() => document.querySelector('#planes').innerText.includes('Paint step by step')")
    assert page.locator("#planes output").last.inner_text() == "36"


def test_light_and_dark_are_followed_at_once(quiet):
    page = quiet()
    ground = "getComputedStyle(document.body).backgroundColor"
    pixel = "(() => { const c = document.querySelector('#planes canvas'); return c.toDataURL(); })()"
    before = page.evaluate(ground), page.evaluate(pixel)
    page.emulate_media(color_scheme="dark")
    settle(page)
    after = page.evaluate(ground), page.evaluate(pixel)
    assert before[0] != after[0]
    assert before[1] != after[1]


def residual(channels: int, kernel: int, slope: float, *dilations: int) -> nn.Module:
    """One residual unit: an activation before each convolution."""
    from torch import Tensor

    class Unit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pads = [d * (kernel - 1) // 2 for d in dilations]
            self.convs = nn.ModuleList(
                nn.Conv1d(channels, channels, kernel, padding=p, dilation=d)
                for p, d in zip(pads, dilations, strict=True)
            )

        def forward(self, x: Tensor) -> Tensor:
            y = x
            for conv in self.convs:
                y = conv(nn.functional.leaky_relu(y, slope))
            return x + y

    return Unit()


class HiFiGan(nn.Module):
    """The published generator's layers (V1), few channels; arXiv 2010.05646, appendix A.1."""

    def __init__(self, channels: int = 2, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope
        self.ups = nn.ModuleList(nn.ConvTranspose1d(channels, channels, 2 * s, s, padding=s // 2) for s in (8, 8, 2, 2))
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Sequential(*(residual(channels, k, slope, d, 1) for d in (1, 3, 5))) for k in (3, 7, 11))
            for _ in self.ups
        )
        self.last = nn.Conv1d(channels, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, (up, branches) in enumerate(zip(self.ups, self.blocks, strict=True)):
            x = up(nn.functional.leaky_relu(x, self.slope) if number else x)
            x = sum(branch(x) for branch in branches) / len(branches)
        return self.last(nn.functional.leaky_relu(x, self.slope))


def chain(activation: nn.Module, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(*(part for layer in layers for part in (layer, activation)))[:-1]


PUBLISHED = {
    "DCGAN": (lambda: chain(nn.ReLU(), *(nn.ConvTranspose2d(2, 2, 5, 2, 2, 1) for _ in range(4))), 2),
    "DCGAN, k4 s2": (lambda: chain(nn.ReLU(), *(nn.ConvTranspose2d(2, 2, 4, 2, 1) for _ in range(4))), 2),
    "improved GAN": (lambda: chain(nn.ReLU(), *(nn.ConvTranspose2d(2, 2, 5, 2, 2, 1) for _ in range(3))), 2),
    "ALI": (
        lambda: chain(
            nn.LeakyReLU(0.1),
            *(nn.ConvTranspose2d(2, 2, k, s) for k, s in ((4, 2), (4, 1), (4, 2), (5, 1), (1, 1), (1, 1))),
        ),
        2,
    ),
    "CycleGAN": (
        lambda: chain(nn.ReLU(), *(nn.ConvTranspose2d(2, 2, 3, 2, 1, 1) for _ in range(2)), nn.Conv2d(2, 2, 7)),
        2,
    ),
    "SRGAN": (
        lambda: nn.Sequential(
            *(nn.Sequential(nn.Conv2d(2, 8, 3), nn.PixelShuffle(2), nn.LeakyReLU(0.25)) for _ in range(2)),
            nn.Conv2d(2, 3, 9),
        ),
        2,
    ),
    "HiFi-GAN": (HiFiGan, 1),
    "AutoencoderKL": (
        lambda: nn.Sequential(*(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)) for _ in range(3))),
        2,
    ),
}


def test_published_generators_are_what_evenly_says_of_them(quiet):
    page = quiet()
    presets = page.locator("#stacks .body > .row").first.locator("button").all()
    assert [preset.inner_text() for preset in presets] == list(PUBLISHED)
    for preset in presets:
        preset.click()
        settle(page)
        build, axes = PUBLISHED[preset.inner_text()]
        found = evenly.check(build(), torch.zeros(1, 2, *(8,) * axes)).outputs[0]
        told = fact(page, "stacks", "Pattern before training")
        assert float(told.removesuffix(" %")) == pytest.approx(100 * found.expected_ac_fraction, rel=0.006), preset
        assert float(fact(page, "stacks", "Unevenness")) == pytest.approx(found.unevenness, rel=0.006)
    assert "A constant stays constant, whatever the weights are" in text(page, "stacks")  # the last one resizes


def test_without_enlargement_there_are_no_lines(quiet):
    page = quiet(fragment="stacks?l=c3.1.0~r3.1.0.2")
    assert "No layer enlarges the signal" in text(page, "stacks")
    page.locator("#stacks .layer select").first.select_option("transposed")
    settle(page)
    assert "layer 1, transposed k3 s2" in text(page, "stacks")
