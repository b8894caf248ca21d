/** Panel 1: every stroke of paint of a transposed convolution, counted and filled in. */
import * as d3 from "d3";
import { CELL, cellOf, label } from "../cells";
import { tapColour, tapInk } from "../colours";
import { button, choice, facts, framed, h, onLook, onTint, refill, roving, s, show, slider, subscript } from "../dom";
import { linked, numbers, whole, word } from "../links";
import {
  outputSize,
  overlapCounts,
  overlapMap,
  ratio,
  strokes,
  transposed,
  unevenness,
  type Axis,
  type Stroke,
} from "../theory";
import { explain, reasonOf, type Spot } from "./kernel_words";

const RANGES = {
  k: [1, 9, 3],
  s: [1, 6, 2],
  p: [0, 8, 0],
  d: [1, 4, 1],
  a: [0, 5, 0],
  n: [1, 12, 7],
} as const satisfies Record<string, readonly [number, number, number]>;

type Name = keyof typeof RANGES;
type Input = "steps" | "ones";

const GAP = 92;
const BLOCK = 19;

const PRESETS: readonly (readonly [string, Partial<Record<Name, number>>, number[], Input])[] = [
  ["[1, 2, 3] on 1 … 7", { k: 3, s: 2, n: 7 }, [1, 2, 3], "steps"],
  ["Uniform input, k3 s2", { k: 3, s: 2, n: 7 }, [1, 1, 1], "ones"],
  ["k4 s2: even", { k: 4, s: 2, p: 1, n: 7 }, [1, 1, 1, 1], "ones"],
  ["k5 s3", { k: 5, s: 3, n: 6 }, [1, 1, 1, 1, 1], "ones"],
  ["d2 s2: holes", { k: 3, s: 2, d: 2, n: 6 }, [1, 1, 1], "ones"],
];

export function kernel(body: Element): void {
  const redraw = framed(draw);
  const sliders: Record<Name, ReturnType<typeof slider>> = {
    k: slider("kernel", "k", "kernel size", RANGES.k, redraw),
    s: slider("stride", "s", "stride", RANGES.s, redraw),
    p: slider("padding", "p", "padding", RANGES.p, redraw),
    d: slider("dilation", "d", "dilation", RANGES.d, redraw),
    a: slider("extra", "a", "output padding", RANGES.a, redraw),
    n: slider("plain", "N", "input size", RANGES.n, redraw),
  };
  const input = choice(
    "Input",
    [
      ["steps", "1, 2, 3, …"],
      ["ones", "all 1"],
    ],
    redraw,
  );
  const weightFields = h("div", { class: "weights" });
  const figure = h("div", { class: "scroll" });
  const formula = h("p", { class: "formula", "aria-live": "polite" });
  const result = h("div");
  const reason = h("p", { class: "note" });
  const link = linked("kernel", restore);
  let weights = [1, 2, 3];
  let spot: Spot = { row: "out", index: 6 };
  let mark: (spot: Spot) => void = () => {};

  refill(
    body,
    h(
      "div",
      { class: "split" },
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "controls pairs" },
          ...Object.values(sliders).map((one) => one.element),
          h("div", {}, h("h3", {}, "Weights of the taps"), weightFields),
          input.element,
        ),
        h(
          "div",
          {},
          h("h3", {}, "Examples"),
          h("div", { class: "row" }, ...PRESETS.map(([name, ...preset]) => button(name, () => use(...preset)))),
        ),
      ),
      h("div", { class: "stack" }, h("div", { class: "card stack" }, figure, formula), result, reason),
    ),
    link.element,
  );
  const across = onLook(figure, redraw);
  draw();

  function use(values: Partial<Record<Name, number>>, taps: number[], kind: Input): void {
    for (const name of Object.keys(RANGES) as Name[]) put(name, values[name] ?? RANGES[name][2]);
    weights = [...taps];
    input.select.value = kind;
    draw();
    const length = outputSize(axisNow());
    spot = { row: "out", index: Math.floor(length / 2) };
    mark(spot);
  }

  function restore(query: URLSearchParams): void {
    for (const name of Object.keys(RANGES) as Name[]) put(name, whole(query, name, RANGES[name]));
    weights = numbers(query, "w", RANGES.k[1]) ?? new Array<number>(sliders.k.value).fill(1);
    input.select.value = word<Input>(query, "x", ["steps", "ones"], "ones");
    draw();
  }

  /** Sets a slider whose range may be narrow from before; `settle` narrows it again. */
  function put(name: Name, value: number): void {
    sliders[name].range(RANGES[name][0], RANGES[name][1]);
    sliders[name].value = value;
  }

  function axisNow(): Axis {
    const v = Object.fromEntries(Object.entries(sliders).map(([name, one]) => [name, one.value])) as Record<
      Name,
      number
    >;
    return { size: v.n, kernel: v.k, stride: v.s, padding: v.p, dilation: v.d, outputPadding: v.a };
  }

  /** Keeps the output from vanishing, and output padding below the stride or the dilation, as layers demand. */
  function settle(): Axis {
    sliders.a.range(0, Math.max(sliders.s.value, sliders.d.value) - 1);
    const bare = { ...axisNow(), padding: 0 };
    sliders.p.range(0, Math.min(RANGES.p[1], Math.floor((outputSize(bare) - 1) / 2)));
    const axis = axisNow();
    weights = Array.from({ length: axis.kernel }, (_, t) => weights[t] ?? 1);
    return axis;
  }

  function fields(): void {
    if (weightFields.childElementCount === weights.length && weightFields.contains(document.activeElement)) return;
    refill(
      weightFields,
      ...weights.map((w, t) => {
        const field = h("input", { type: "number", value: w, step: "any", "aria-label": `weight of tap ${t}` });
        field.addEventListener("input", () => {
          const value = Number(field.value);
          if (field.value !== "" && Number.isFinite(value) && Math.abs(value) <= 1000) weights[t] = value;
          redraw();
        });
        const chip = h("span", { class: "swatch" });
        chip.style.background = tapColour(t, weights.length);
        return h("label", {}, h("span", {}, chip, `w${subscript(t)}`), field);
      }),
    );
  }

  function draw(): void {
    const axis = settle();
    fields();
    const x = Array.from({ length: axis.size }, (_, i) => (input.select.value === "ones" ? 1 : i + 1));
    const y = transposed(x, weights, axis);
    const counts = overlapMap(axis);
    const painted = strokes(axis);
    picture(axis, x, y, counts, painted);
    numbersOf(axis);
    link.changed({
      k: axis.kernel,
      s: axis.stride,
      p: axis.padding,
      d: axis.dilation,
      a: axis.outputPadding,
      n: axis.size,
      w: weights.join(","),
      x: input.select.value,
    });
  }

  function picture(axis: Axis, x: number[], y: number[], counts: number[], painted: Stroke[]): void {
    const { kernel: k, stride, dilation, padding } = axis;
    const full = stride * (axis.size - 1) + dilation * (k - 1) + 1;
    const columns = Math.max(full, padding + y.length);
    const room = (across() || 640) - 2;
    const unit = Math.max(CELL.low, Math.min(CELL.high, room / columns));
    const most = Math.max(1, ...counts);
    const top = 20;
    const line = top + CELL.height + GAP;
    const floor = line + CELL.height + 8;
    const height = floor + most * BLOCK + 30;
    const width = unit * columns;
    const place = (n: number): number => (n + padding) * unit;
    const centre = (i: number): number => (stride * i + (dilation * (k - 1) + 1) / 2) * unit;
    const shape = d3.linkVertical<unknown, [number, number]>();
    const curve = (i: number, n: number, t: number): SVGPathElement =>
      s("path", {
        d: shape({ source: [centre(i), top + CELL.height], target: [place(n) + unit / 2, line] }),
        fill: "none",
        stroke: tapColour(t, k),
        "stroke-width": Math.min(5, unit / 7),
        "stroke-linecap": "round",
      });

    const every = Array.from({ length: axis.size }, (_, i) =>
      Array.from({ length: k }, (_, t) => ({ i, t, n: stride * i + dilation * t - padding })),
    ).flat();
    const lost = every.filter(({ n }) => n < 0 || n >= y.length);
    const kept = painted.map((stroke) => ({ stroke, path: curve(stroke.i, stroke.n, stroke.t) }));
    const ghosts = lost.map(({ i, n, t }) => {
      const path = curve(i, n, t);
      path.setAttribute("stroke-dasharray", "2 5");
      path.setAttribute("opacity", "0.35");
      return path;
    });
    const cropped = [...new Set(lost.map(({ n }) => n))].map((n) =>
      s("rect", {
        x: place(n) + 1.5,
        y: line + 1.5,
        width: unit - 3,
        height: CELL.height - 3,
        rx: 4,
        fill: "none",
        stroke: "var(--padding)",
        "stroke-dasharray": "3 3",
        opacity: 0.7,
      }),
    );

    const inputs = x.map((value, i) =>
      cellOf(
        centre(i) - unit / 2,
        top,
        unit,
        show(value),
        0.08,
        "var(--ink)",
        `Input ${i}, value ${show(value)}, painted onto outputs ${
          painted
            .filter((one) => one.i === i)
            .map((one) => one.n)
            .join(", ") || "none"
        }`,
      ),
    );
    const outputs = y.map((value, n) => {
      const share = counts[n]! / most;
      const cell = cellOf(
        place(n),
        line,
        unit,
        show(value),
        counts[n] ? 0.12 + 0.88 * share : 0,
        onTint(counts[n] ? 0.12 + 0.88 * share : 0),
        `Output ${n}, written ${counts[n]} times, value ${show(value)}`,
      );
      if (n + padding >= full) cell.querySelector(".frame")!.setAttribute("stroke", "var(--extra)");
      return cell;
    });
    const heights = new Map<number, number>();
    const blocks = painted.map((stroke) => {
      const level = heights.get(stroke.n) ?? 0;
      heights.set(stroke.n, level + 1);
      const left = place(stroke.n) + 2.5;
      return {
        stroke,
        group: s(
          "g",
          {},
          s("rect", {
            x: left,
            y: floor + level * BLOCK,
            width: unit - 5,
            height: BLOCK - 2,
            rx: 3,
            fill: tapColour(stroke.t, k),
          }),
          label(
            left + (unit - 5) / 2,
            floor + level * BLOCK + 12.5,
            `w${subscript(stroke.t)}`,
            { "font-size": 11 },
            tapInk(stroke.t, k),
          ),
        ),
      };
    });
    const totals = counts.map((count, n) =>
      label(
        place(n) + unit / 2,
        floor + count * BLOCK + 15,
        count ? `${count}×` : "hole",
        { "font-size": unit < 27 && !count ? 9.5 : 12.5, "font-weight": 650 },
        count ? "var(--ink)" : "var(--other)",
      ),
    );
    const svg = s(
      "svg",
      {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "group",
        "aria-label": `Transposed convolution: ${axis.size} inputs above, ${y.length} outputs below, and every stroke between them`,
      },
      label(2, 12, "input x", { "font-size": 12, "text-anchor": "start", class: "halo" }, "var(--soft)"),
      s("g", { "aria-hidden": "true" }, ...ghosts, ...kept.map((one) => one.path), ...cropped),
      label(2, line - 8, "output y", { "font-size": 12, "text-anchor": "start", class: "halo" }, "var(--soft)"),
      s("g", {}, ...inputs),
      s("g", {}, ...outputs),
      s("g", { "aria-hidden": "true" }, ...blocks.map((one) => one.group), ...totals),
    );
    refill(figure, svg);
    roving(inputs);
    roving(outputs);

    mark = (now) => {
      spot = now;
      const chosen = (stroke: Stroke): boolean => (now.row === "out" ? stroke.n === now.index : stroke.i === now.index);
      kept.forEach(({ stroke, path }) => {
        path.setAttribute("opacity", chosen(stroke) ? "1" : "0.28");
        path.setAttribute("stroke-width", String(Math.min(5, unit / 7) * (chosen(stroke) ? 1.25 : 0.8)));
      });
      blocks.forEach(({ stroke, group }) => group.setAttribute("opacity", chosen(stroke) ? "1" : "0.62"));
      inputs.forEach((cell, i) => cell.classList.toggle("on", now.row === "in" && i === now.index));
      outputs.forEach((cell, n) => cell.classList.toggle("on", now.row === "out" && n === now.index));
      explain(formula, { axis, x, y, weights, painted }, now);
    };
    inputs.forEach((cell, index) => listen(cell, { row: "in", index }));
    outputs.forEach((cell, index) => listen(cell, { row: "out", index }));
    mark(
      spot.row === "out"
        ? { row: "out", index: Math.min(spot.index, y.length - 1) }
        : { row: "in", index: Math.min(spot.index, x.length - 1) },
    );
  }

  function listen(cell: SVGElement, target: Spot): void {
    for (const name of ["pointerenter", "focus", "click"]) cell.addEventListener(name, () => mark(target));
  }

  function numbersOf(axis: Axis): void {
    const { kernel: k, stride, dilation } = axis;
    const counts = overlapCounts(k, stride, dilation);
    const uneven = ratio(counts);
    const holes = counts.filter((count) => count === 0).length;
    const size = outputSize(axis);
    const plane = unevenness([k, k], [stride, stride], [dilation, dilation]);
    refill(
      result,
      facts([
        ["Strokes by phase", counts.join(" : "), "away from the borders, phase (n + p) mod s"],
        [
          "Unevenness",
          holes ? "holes" : show(uneven),
          holes
            ? `${holes} of ${stride} phases never written`
            : uneven === 1
              ? "most : fewest strokes, even"
              : "most : fewest strokes",
          uneven === 1 ? "good" : "bad",
        ],
        [
          "In two dimensions",
          holes ? "holes" : show(plane),
          holes ? "as on one axis" : `${show(uneven)} × ${show(uneven)}`,
          uneven === 1 ? "good" : "bad",
        ],
        ["Output size", show(size), `s(N−1) + d(k−1) + 1 + a − 2p`],
      ]),
    );
    reason.textContent = reasonOf(axis);
  }
}
