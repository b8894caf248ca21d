"""The page ``bench/measure.md`` from the figures of `measuring.summary` and `measuring.timing`."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any

import numpy as np

from measuring import injections
from measuring.baselines import BASELINES
from measuring.pictures import AUC_SIZE, CHAIN_AMPLITUDES
from measuring.summary import AHEAD, CALLED, HONEST, QUANTILES

LUMA_MS, ALL_MS, SPEED_UP, PEAK_MB, FLAT_MB = 60, 150, 1.7, 200, 10
Figures = dict[str, Any]


def page(figures: Figures, scale: str) -> str:
    """The whole page; parts without figures are left out."""
    parts = {
        "auc": _areas, "null": _null, "confounders": _confounders, "generators": _generators, "timing": _timing,
    }  # fmt: skip
    targets: list[tuple[str, str, str, bool]] = []
    body = [line for name, part in parts.items() if name in figures for line in part(figures[name], targets)]
    missing = [name for name in parts if name not in figures]
    head = [
        "# Benchmark of `evenly measure`",
        "",
        "Written by `python bench/measure.py`; do not edit.",
        "",
        f"Scale: {scale}. Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}."
        + (f" Not measured here: {', '.join(missing)}." if missing else ""),
        "",
        "Photographs are those in the wheels of scikit-image and scikit-learn, low-passed, rotated and scaled by random"
        " factors of 0.5 to 0.8, with noise of 0.5 to 1 grey level, so that no grid of theirs is left. Errors and"
        " intervals are those of drawing other photographs.",
        "",
        "## Targets",
        "",
        *_grid(("what", "target", "measured", "met"), ((*t[:3], _yes(t[3])) for t in targets), "lllc"),
    ]
    return "\n".join(head + body) + "\n"


def _grid(head: Iterable[str], lines: Iterable[Iterable[str]], align: str = "") -> list[str]:
    head = list(head)
    marks = {"l": "---", "r": "---:", "c": ":---:"}
    rule = [marks[a] for a in align.ljust(len(head), "r")]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *lines)]


def _yes(met: bool) -> str:
    return "yes" if met else "**no**"


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def _interval(found: Figures) -> str:
    return f"{_percent(found['value'], 2)} ({_percent(found['low'], 2)} to {_percent(found['high'], 2)})"


# ---------------------------------------------------------------- parts


def _areas(found: Figures, targets: list[tuple[str, str, str, bool]]) -> list[str]:
    columns = ("evenly p", "evenly dB", *BASELINES)
    out = [
        "",
        "## Traces put into photographs",
        "",
        f"Crops of {AUC_SIZE} px. Area under the curve (AUC) of each statistic at the period of the trace, over all"
        " amplitudes together: a mean trace's is the root mean square of its cell in grey levels"
        f" ({_ladder(injections.AMPLITUDES['mean'])}; after a chain {_ladder(CHAIN_AMPLITUDES['mean'])}), a variance"
        f" trace's that of its factor on the detail ({_ladder(injections.AMPLITUDES['variance'])}; after a chain"
        f" {_ladder(CHAIN_AMPLITUDES['variance'])}). Half of the cells have the shape of a transposed convolution's"
        " overlap, half are random. Chains apply to both classes: `jpeg` with 4:2:0, `resize` halves (an even period"
        " is halved with it; period 2 is gone and left out), `crop` takes up to 16 px off every side. *Ahead*: evenly's"
        " p-value over the best of the others, with the standard error of the difference. Cells are met if that is not"
        " below zero by more than the error.",
    ]
    everything = found["cells"]
    each = float(np.mean([c["ahead"] for c in everything]))
    means = {n: float(np.mean([c["auc"][n] for c in everything])) for n in columns}
    one = max(BASELINES, key=means.__getitem__)
    single = means["evenly p"] - means[one]
    what = "AUC, mean of all cells"
    targets.append((what, f"{AHEAD} ahead of the best of each cell", f"{each:+.3f}", each >= AHEAD))
    targets.append((what, f"{AHEAD} ahead of the best statistic", f"{single:+.3f} ({one})", single >= AHEAD))
    for kind in injections.AMPLITUDES:
        cells = [c for c in found["cells"] if c["kind"] == kind]
        ahead = float(np.mean([c["ahead"] for c in cells]))
        failed = [f"{c['period']} {c['chain']}" for c in cells if not c["met"]]
        said = f"{len(cells) - len(failed)} of {len(cells)} cells" + (f" (not: {', '.join(failed)})" if failed else "")
        targets.append((f"AUC, {kind} traces, each cell", "best of the others, less one error", said, not failed))
        head = ("period", "chain", *columns, "ahead", "met", "called up-sampling %")
        lines = [
            (
                *(str(c["period"]), c["chain"], *_scores(c, columns)),
                *(_ahead(c), _yes(c["met"]), _percent(c["called"])),
            )
            for c in cells
        ]
        means = [f"{np.mean([c['auc'][n] for c in cells]):.3f}" for n in columns]
        lines.append(["**mean**", "", *means, f"{ahead:+.3f}", "", ""])
        out += ["", f"### {kind.capitalize()} traces: AUC", "", *_grid(head, lines, "rl")]
        lines = [[str(c["period"]), c["chain"], *(_percent(c["tpr"][n]) for n in columns)] for c in cells]
        lines.append(["**mean**", "", *(_percent(float(np.mean([c["tpr"][n] for c in cells]))) for n in columns)])
        out += ["", f"### {kind.capitalize()} traces: true positives at 1 % false positives, in %", ""]
        out += _grid(("period", "chain", *columns), lines, "rl")
        ladder = [c for c in found["ladder"] if c["kind"] == kind]
        lines = [
            (
                *(str(c["period"]), f"{c['amplitude']:g}"),
                *(
                    f"{c['auc']['evenly p']:.3f} ± {c['error']['evenly p']:.3f}",
                    f"{c['auc'][c['best']]:.3f}",
                    c["best"],
                ),
                *(_percent(c["tpr"]["evenly p"]), _percent(c["called"])),
            )
            for c in sorted(ladder, key=lambda c: (c["period"], c["amplitude"]))
        ]
        head = ("period", "amplitude", "AUC, evenly p", "best other", "which", "true positives %", "called %")
        out += ["", f"### {kind.capitalize()} traces by amplitude, no chain", "", *_grid(head, lines, "rrrrl")]
    return out


def _scores(cell: Figures, columns: Iterable[str]) -> list[str]:
    return [f"{cell['auc'][n]:.3f}" for n in columns]


def _ahead(cell: Figures) -> str:
    return f"{cell['ahead']:+.3f} ± {cell['ahead_error']:.3f}"


def _ladder(values: Iterable[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _null(found: Figures, targets: list[tuple[str, str, str, bool]]) -> list[str]:
    whole = [s for s in found["shares"] if s["size"] == 0]
    low, high = (_percent(v) for v in HONEST)
    for trace in dict.fromkeys(s["trace"] for s in whole):
        some = [s for s in whole if s["trace"] == trace]
        failed = [str(s["period"]) for s in some if not s["met"]]
        values = [s["p01"]["value"] for s in some]
        said = f"{_percent(min(values), 2)} to {_percent(max(values), 2)}"
        said += f" (not: periods {', '.join(failed)})" if failed else ""
        targets.append(
            (f"null, {trace}: share of p < 0.01, in %", f"95 % interval meets {low} to {high}", said, not failed)
        )
    apart = [s for s in found["shares"] if s["size"]]
    met = sum(s["met"] for s in apart)
    targets.append(("null, every size by itself", "each", f"{met} of {len(apart)}", met == len(apart)))
    out = [
        "",
        "## Pictures without a trace",
        "",
        "Share of p < 0.01 in % with its 95 % interval; of p < 0.001 after it.",
    ]
    sizes = list(dict.fromkeys(s["size"] for s in found["shares"]))
    at = {(s["trace"], s["period"], s["size"]): s for s in found["shares"]}
    lines = []
    for s in whole:
        row = [s["trace"], str(s["period"])]
        for size in sizes:
            if (one := at.get((s["trace"], s["period"], size))) is None:
                row.append("")
            else:
                star = "" if one["met"] else " **no**"
                row.append(f"{_interval(one['p01'])}{star}; {_percent(one['p001']['value'], 2)}")
        lines.append(row)
    out += ["", *_grid(("trace", "period", *(f"{s} px" if s else "all" for s in sizes)), lines, "lr")]
    lines = [[q["trace"], str(q["period"]), *(f"{v:.4f}" for v in q["shares"])] for q in found["quantiles"]]
    out += ["", "### Share of p-values below each level (all sizes)", ""]
    out += _grid(("trace", "period", *(f"{q:g}" for q in QUANTILES)), lines, "lr")
    lines = [[str(v["size"]), _interval(v["called"]), _percent(v["any"], 2)] for v in found["verdicts"]]
    out += ["", "### Verdicts", "", *_grid(("px", "called up-sampling %", "verdict other than none %"), lines)]
    return out


def _confounders(found: list[Figures], targets: list[tuple[str, str, str, bool]]) -> list[str]:
    for what, some in (
        ("confounders, each", [c for c in found if c["counts"]]),
        ("confounders, with the rows marked (a)", found),
    ):
        failed = [f"{c['name']} {_percent(c['called']['value'])}" for c in some if not c["met"]]
        said = f"{len(some) - len(failed)} of {len(some)}" + (f" (not: {', '.join(failed)})" if failed else "")
        targets.append(
            (f"{what}: called up-sampling, in %", f"at most {_percent(CALLED, 0)}", said, not failed)
        )  # fmt: skip
    lines = []
    for c in found:
        worst = [
            f"{_percent(c['worst'][t][1])} ({c['worst'][t][0]})" if t in c["worst"] else "" for t in _traces(found)
        ]
        causes = ", ".join(f"{k} {_percent(v, 0)}" for k, v in c["causes"].items()) or "none"
        name = c["name"] if c["counts"] else f"{c['name']} (a)"
        lines.append([name, _interval(c["called"]), _yes(c["met"]), causes, *worst])
    head = ("picture", "called up-sampling %", "met", "causes named, in %", *(f"{t} p < 0.001" for t in _traces(found)))
    return [
        "",
        "## Confounders",
        "",
        f"{AUC_SIZE} px. Share whose verdict is weak or strong with up-sampling as a cause; then the causes that were"
        " named; then for each trace the largest share over the periods of p < 0.001, and that period. (a) Scaling by"
        " two *is* up-sampling by two, and a grating nearer than one cycle per picture to a whole period cannot be told"
        " from it: these rows are left out of the first target.",
        "",
        *_grid(head, lines, "lrcl"),
    ]


def _traces(found: list[Figures]) -> list[str]:
    return list(dict.fromkeys(t for c in found for t in c["worst"]))


def _generators(found: Figures, targets: list[tuple[str, str, str, bool]]) -> list[str]:
    columns = ("evenly p", "evenly dB", *BASELINES)
    lines = [
        (str(c["size"]), *_scores(c, columns), _ahead(c), _percent(c["tpr"]["evenly p"])) for c in found["compared"]
    ]
    for c in found["compared"]:
        what = f"generators, {c['size']} px: AUC of uneven against even"
        said = f"{c['auc']['evenly p']:.3f}, {c['best']} {c['auc'][c['best']]:.3f}"
        targets.append((what, "best of the others, less one error", said, c["met"]))
    head = ("px", *columns, "ahead", "true positives at 1 % (%)")
    out = [
        "",
        "## Generators with random weights",
        "",
        "Uneven layers of stride 2 against layers that meet the DC condition, one to three in a row, mean trace at"
        " period 2: AUC.",
        "",
        *_grid(head, lines),
    ]
    sizes = list(dict.fromkeys(f["size"] for f in found["families"]))
    split: dict[tuple[str, int, int, bool], dict[int, Figures]] = {}
    for f in found["families"]:
        split.setdefault((f["family"], f["depth"], f["stride"], f["even"]), {})[f["size"]] = f
    lines = []
    for (family, depth, stride, even), some in split.items():
        row = [family, str(depth), str(stride), "no" if even else "yes"]
        for size in sizes:
            f = some[size]
            shares = " / ".join(_percent(v["value"], 0) for v in f["p01"].values())
            row.append(f"{shares}; {_percent(f['called'], 0)}")
        causes = ", ".join(f"{k} {_percent(v, 0)}" for k, v in some[sizes[-1]]["causes"].items()) or "none"
        lines.append([*row, causes])
    names = " / ".join(found["families"][0]["p01"])
    px = (f"{s} px" for s in sizes)
    head = ("layer", "depth", "stride", "mean trace by theory", *px, f"causes at {sizes[-1]} px")
    out += [
        "",
        f"By layer: share of p < 0.01 in % at the stride ({names}); then the share called up-sampling, in %. Layers"
        " without a mean trace may still show that they interpolate.",
        "",
        *_grid(head, lines, "lrrc" + "r" * len(sizes) + "l"),
    ]
    return out


def _timing(found: Figures, targets: list[tuple[str, str, str, bool]]) -> list[str]:
    out = ["", "## Speed and memory", ""]
    if "speed" in found:
        ms = found["speed"]["ms"]
        for name, most in (("luma mean and variance", LUMA_MS), ("all traces", ALL_MS)):
            if name in ms:
                targets.append((f"speed, {name}", f"{most} ms/MP", f"{ms[name]:.0f} ms/MP", ms[name] <= most))
        out.append("One thread, a decoded RGB picture of a megapixel (2^20 pixels), least time of interleaved runs;")
        out.append("the others at their six periods.")
        out += ["", *_grid(("statistic", "ms per megapixel"), ([n, f"{v:.0f}"] for n, v in ms.items()), "lr")]
        growth = found["speed"]["growth"]
        ratio = growth[list(growth)[-1]] / growth["1"]
        targets.append(
            ("growth, 16 MP against 1 MP", "at most N log N (1.2 per pixel)", f"{ratio:.2f} per pixel", ratio <= 1.2)
        )
        lines = [[f"{k} MP", f"{v:.0f}"] for k, v in growth.items()]
        out += ["", *_grid(("size, all traces", "ms per megapixel"), lines, "lr")]
    if "folder" in found:
        f = found["folder"]
        gain = f["one"] / f["two"]
        said = f"{f['two']:.2f} s for {f['files']} files, {f['one']:.2f} s one by one: {gain:.2f}"
        targets.append(("folder of 1-megapixel PNGs, two cores", f"{SPEED_UP} times as fast", said, gain >= SPEED_UP))
    if "memory" in found:
        m = found["memory"]
        beyond = {k: (m["peak"][k] - m["picture"][k]) / 1e6 for k in m["peak"]}
        most = max(beyond.values())
        targets.append(("peak memory beyond one picture", f"{PEAK_MB} MB", f"{most:.0f} MB", most <= PEAK_MB))
        more = beyond["many"] - beyond["few"]
        what = f"memory, {m['files']['many']} files against {m['files']['few']}"
        targets.append((what, f"at most {FLAT_MB} MB more", f"{more:+.1f} MB", more <= FLAT_MB))
        lines = [
            [f"{m['files'][k]} of {m['picture'][k] / 3e6:.0f} MP", f"{m['peak'][k] / 1e6:.0f}", f"{v:.0f}"]
            for k, v in beyond.items()
        ]
        out += ["", *_grid(("files", "peak of the process, MB", "beyond one decoded picture, MB"), lines, "lrr")]
    return out
