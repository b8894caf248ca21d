"""From pictures' scores to the figures of the table, as plain data."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict
from typing import Any

import numpy as np

from evenly.measure.result import PERIODS, TRACES
from measuring import injections
from measuring.baselines import BASELINES
from measuring.confounders import bins_off
from measuring.generators import SIZES, families
from measuring.jobs import rows
from measuring.pictures import AUC_SIZE, NULL_SIZES, Scale
from measuring.scoring import Curve, share

Rows = list[dict[str, Any]]
QUANTILES = (0.5, 0.2, 0.1, 0.05, 0.01, 0.001, 0.0001)
HONEST = (0.005, 0.015)
CALLED = 0.02  # of a confounder's pictures may be called up-sampled
AHEAD = 0.05


def called(row: dict[str, Any]) -> bool:
    """Whether a picture's verdict is that something was up-sampled."""
    return row["verdict"] != "none" and any(kind == "up-sampling" for kind, _ in row["causes"])


def _below(found: Rows, trace: str, period: int, level: float) -> tuple[list[bool], list[str]]:
    """Of the pictures in which a trace is testable, which have a smaller p-value; and their photographs."""
    tested = [(r["traces"][str(period)][trace], r["photo"]) for r in found]
    kept = [(value[0] < np.log10(level), photo) for value, photo in tested if value is not None]
    return [hit for hit, _ in kept], [photo for _, photo in kept]


# ---------------------------------------------------------------- null


def null(scale: Scale) -> dict[str, Any]:
    """Shares of small p-values in pictures without a trace."""
    found = rows("null", "ours", scale)
    by_size = {size: [r for r in found if r["size"] == size] for size in NULL_SIZES}
    shares, quantiles = [], []
    for trace in TRACES:
        for period in PERIODS:
            for size, some in [(0, found), *by_size.items()]:
                hits, photos = _below(some, trace, period, 0.01)
                if not hits:
                    continue
                at = share(hits, photos)
                small = share(*_below(some, trace, period, 0.001))
                shares.append(
                    {"trace": trace, "period": period, "size": size, "p01": asdict(at), "p001": asdict(small)}
                    | {"met": at.meets(*HONEST)}
                )
            if _below(found, trace, period, 1)[0]:
                row = [float(np.mean(_below(found, trace, period, q)[0])) for q in QUANTILES]
                quantiles.append({"trace": trace, "period": period, "shares": row})
    verdicts = [
        {"size": size, "called": asdict(share([called(r) for r in some], [r["photo"] for r in some]))}
        | {"any": float(np.mean([r["verdict"] != "none" for r in some]))}
        for size, some in by_size.items()
        if some
    ]
    return {"shares": shares, "quantiles": quantiles, "verdicts": verdicts}


# ---------------------------------------------------------------- areas under the curve


def _value(row: dict[str, Any], name: str, kind: str, period: int) -> float:
    """A statistic's score of a picture: larger is more of a trace."""
    if name in BASELINES:
        score = row["scores"][str(period)][name]
        return float("nan") if score is None else float(score)
    pair = row["traces"][str(period)][kind]
    if pair is None:
        return float("nan")
    value = -pair[0] if name == "evenly p" else pair[1]
    return float("nan") if value is None else float(value)


def _curve(positive: Rows, negative: Rows, name: str, kind: str, period: int) -> Curve:
    scores = [np.array([_value(r, name, kind, period) for r in some]) for some in (positive, negative)]
    return Curve(*scores, *([r["photo"] for r in some] for some in (positive, negative)))


def _compared(ours: tuple[Rows, Rows], others: tuple[Rows, Rows], kind: str, period: int) -> dict[str, Any]:
    """All statistics over the same pictures, and ours against the best of the others."""
    curves = {n: _curve(*ours, n, kind, period) for n in ("evenly p", "evenly dB")}
    curves |= {n: _curve(*others, n, kind, period) for n in BASELINES}
    best = max(BASELINES, key=lambda n: curves[n].auc)
    error = curves["evenly p"].error_against(curves[best])
    ahead = curves["evenly p"].auc - curves[best].auc
    return {
        "auc": {n: c.auc for n, c in curves.items()},
        "error": {n: c.error for n, c in curves.items()},
        "tpr": {n: c.true_positives for n, c in curves.items()},
        "best": best, "ahead": ahead, "ahead_error": error, "met": ahead >= -error,
    }  # fmt: skip


def areas(scale: Scale) -> dict[str, Any]:
    """One cell per kind of trace, period and chain over all amplitudes; and one per amplitude without a chain."""
    ours, others = rows("auc", "ours", scale), rows("auc", "others", scale)
    split: dict[tuple[Any, ...], tuple[Rows, Rows]] = defaultdict(lambda: ([], []))
    for side, some in enumerate((ours, others)):
        for row in some:
            key = (row.get("kind"), row.get("period"), row["chain"])
            split[key][side].append(row)
            if row.get("kind") and row["chain"] == "none":
                split[*key, row["amplitude"]][side].append(row)
    cells, ladder = [], []
    for key, positive in split.items():
        kind, period, chain, *amplitude = key
        if kind is None:
            continue
        after = injections.period_after(period, chain)
        assert after is not None
        negative = split[None, None, chain]
        cell = _compared((positive[0], negative[0]), (positive[1], negative[1]), kind, after)
        cell |= {"kind": kind, "period": period, "chain": chain}
        cell["called"] = float(np.mean([called(r) for r in positive[0]]))
        if amplitude:
            ladder.append(cell | {"amplitude": amplitude[0]})
        else:
            cells.append(cell)
    return {"cells": cells, "ladder": ladder, "size": AUC_SIZE}


# ---------------------------------------------------------------- confounders and generators


def confounded(scale: Scale) -> list[dict[str, Any]]:
    """Per confounder: how many are called up-sampled, what else was said, and the p-values of each trace."""
    split: dict[str, Rows] = defaultdict(list)
    for row in rows("confounders", "ours", scale):
        split[row["confounder"]].append(row)
    found = []
    for name, some in split.items():
        worst = {}
        for trace in TRACES:
            by_period = {p: _below(some, trace, p, 0.001)[0] for p in PERIODS}
            shares = {p: float(np.mean(hits)) for p, hits in by_period.items() if hits}
            if shares:
                period = max(shares, key=shares.__getitem__)
                worst[trace] = (period, shares[period])
        ratio = share([called(r) for r in some], [r["photo"] for r in some])
        genuine = name.startswith("resize 2")
        told = not (name.startswith("grating") and bins_off(float(name.split()[1]), AUC_SIZE) < 1)
        causes = Counter(kind for r in some for kind in {kind for kind, _ in r["causes"]})
        found.append(
            {"name": name, "called": asdict(ratio), "causes": {k: n / len(some) for k, n in causes.most_common()}}
            | {"worst": worst, "counts": told and not genuine, "met": ratio.value <= CALLED}
        )
    return found


def generated(scale: Scale) -> dict[str, Any]:
    """Per family and depth: pictures with a mean trace at its stride; and uneven against even ones at each size."""
    ours, others = rows("generators", "ours", scale), rows("generators", "others", scale)
    split: dict[tuple[str, int, int], Rows] = defaultdict(list)
    for row in ours:
        split[row["family"], row["depth"], row["size"]].append(row)
    table = []
    for (name, depth, size), some in split.items():
        family = families()[name]
        shares = {t: share(*_below(some, t, family.stride, 0.01)) for t in TRACES}
        causes = Counter(kind for r in some for kind in {kind for kind, _ in r["causes"]})
        table.append(
            {"family": name, "depth": depth, "size": size, "even": family.even, "stride": family.stride}
            | {"p01": {t: asdict(s) for t, s in shares.items()}, "called": float(np.mean([called(r) for r in some]))}
            | {"causes": {k: n / len(some) for k, n in causes.most_common()}}
        )
    compared = []
    for size in SIZES:
        sides = []
        for some in (ours, others):
            here = [r for r in some if r["size"] == size and families()[r["family"]].stride == 2]
            even = [families()[r["family"]].even for r in here]
            sides.append(
                (
                    [r for r, e in zip(here, even, strict=True) if not e],
                    [r for r, e in zip(here, even, strict=True) if e],
                )
            )
        if sides[0][0] and sides[0][1]:
            compared.append({"size": size} | _compared(sides[0], sides[1], "mean", 2))
    return {"families": table, "compared": compared}
