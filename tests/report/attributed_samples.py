"""Attributions of known content for the reporters: made by hand, one of them hostile."""

from __future__ import annotations

from dataclasses import replace

from evenly.fix.attributed import Attribution, Budget, Effect, LayerAttribution, Line

LINES = {
    2: Line(2, 31.25, 28.0, 34.5, 16),
    3: Line(3, -1.5, -2.0, -1.0, 16),
    4: Line(4, 12.0, 9.0, 15.0, 16),
}
STRONG = Effect(29.5, 26.0, 33.0, 0.99)
WEAK = Effect(1.25, 0.5, 2.0, 0.2)
NONE = Effect(0.0, -0.4, 0.4, -0.125)
GUILTY = LayerAttribution(
    "up.3",
    "transposed",
    "balanced by output",
    {2: STRONG, 3: NONE, 4: NONE},
    {2: Budget(2, 4.0, 0.5, 0.25, 3.0, 0.75, 0.25, 0.0, 0.125), 4: Budget(reason="arises behind this layer")},
)
MINOR = LayerAttribution("up.1", "subpixel", "balanced by weights", {2: WEAK, 3: NONE, 4: NONE}, {2: Budget(2, 1.0)})
EVEN = LayerAttribution("stem", "convolution", None, {}, {}, "its phases are alike: it creates none")
FIXED = LayerAttribution("head", "transposed", None, {}, {}, "its weights are shared with up.3", True)


def ordinary() -> Attribution:
    return Attribution(
        model="nets:generator",
        direction="forward",
        output="image",
        inputs="12 pictures, 2 left out",
        signals=16,
        lines=LINES,
        layers=(EVEN, MINOR, GUILTY, FIXED),
        together={2: replace(STRONG, fall_db=31.0), 3: NONE, 4: NONE},
        last_step={2: 0.5, 3: None, 4: None},
        notes=("left out: a.png: too small",),
    )


def clean() -> Attribution:
    quiet = {p: replace(line, level_db=0.5, low_db=-1.0, high_db=2.0) for p, line in LINES.items()}
    return replace(ordinary(), lines=quiet, layers=(EVEN,), together={}, notes=())


def backward() -> Attribution:
    pool = replace(GUILTY, name="pool", kind="max pool", even="low-pass")
    return replace(ordinary(), direction="backward", layers=(pool,), last_step={})


def hostile(name: str) -> Attribution:
    return replace(
        ordinary(),
        model=name,
        output=name,
        inputs=name,
        layers=(replace(GUILTY, name=name), replace(FIXED, name=name, untested=name)),
        notes=(name,),
    )
