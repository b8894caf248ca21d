"""Reports of known content for the reporters: an ordinary one, an empty one, and one that came from a hostile file."""

from __future__ import annotations

from dataclasses import replace

from evenly.check.result import Finding, InputResult, LayerResult, ModelInfo, OutputResult, Report

UNEVEN = Finding(
    code="EV101",
    severity="error",
    layer="main.3",
    message="kernel 3 is not divisible by stride 2: period 4 px, 4 times the variance at the strongest position",
    period=4,
    fix="resize by 2 with nearest neighbours, then a 3x3 convolution",
)
GRADIENT = Finding(
    code="EV201",
    severity="warning",
    layer="main.0",
    message="positions are read 1, 2, 2 or 4 times",
    period=(2, 4),
    fix="a 4x4 kernel",
)
BORDER = Finding("EV301", "info", "main.3", "zero padding marks the border", None, "padding_mode='reflect'")


def ordinary() -> Report:
    return Report(
        model=ModelInfo(
            source="nets.onnx",
            inputs=({"name": "x", "shape": [1, 3, 64, 64], "dtype": "float32"},),
            outputs=({"name": "y", "shape": [1, 3, 128, 128]},),
        ),
        layers=(
            LayerResult(
                "main.0",
                "conv",
                (3, 3),
                (2, 2),
                (1, (0, 1)),
                (1, 1),
                None,
                1,
                gradient_unevenness=4.0,
                period=1,
                role="passes",
            ),
            LayerResult(
                "main.3",
                "conv_transpose",
                (3, 3),
                (2, 2),
                (1, 1),
                (1, 1),
                (1, 1),
                1,
                unevenness=4.0,
                period=(2, 4),
                ripple=0.312,
                role="creates",
            ),
            LayerResult("main.4", "conv", (1, 1), (1, 1), (0, 0), (1, 1), None, 8, role="passes"),
            LayerResult(
                "head", "conv_transpose", (2,), (3,), (0,), (1,), (0,), 1, unevenness=float("inf"), period=None
            ),
        ),
        outputs=(
            OutputResult(
                "y",
                4,
                9.0,
                0.882,
                {"2": 0.5, "4": 0.382},
                False,
                ("main.3",),
                {"2": -12.25, "4": float("-inf")},
                19,
                ("a reason",),
            ),
        ),
        inputs=(InputResult("x", 2, float("inf"), 0.75),),
        findings=(UNEVEN, GRADIENT, BORDER),
        notes=("main.1 removes a constant",),
    )


def clean() -> Report:
    report = ordinary()
    verdict = OutputResult("y", 1, 1.0, 0.0, {}, True, (), {"2": float("-inf")}, 19)
    return replace(
        report, findings=(), layers=report.layers[:1], outputs=(verdict,), inputs=(InputResult("x", 1, 1.0, 0.0),)
    )


HOSTILE = "[bold]</td><script>\x1b[31m\n::error::a%,b:c"


def hostile() -> Report:
    report = ordinary()
    return replace(
        report,
        model=replace(report.model, source=HOSTILE),
        layers=(replace(report.layers[1], name=HOSTILE, removed_by=HOSTILE),),
        outputs=(replace(report.outputs[0], name=HOSTILE, broken_by=(HOSTILE,)),),
        findings=(replace(UNEVEN, layer=HOSTILE, message=HOSTILE, fix=HOSTILE),),
        notes=(HOSTILE,),
    )


def deep(layers: int) -> Report:
    report = ordinary()
    many = tuple(replace(report.layers[2], name=f"body.{i}") for i in range(layers))
    return replace(report, layers=(*report.layers[:2], *many))
