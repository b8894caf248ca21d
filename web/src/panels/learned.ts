/** Panel 5: balance a kernel by hand, then by projection; what it does to constants near to and far from the mean. */
import * as d3 from "d3";
import { layerColour } from "../colours";
import { tile } from "../canvas";
import { button, facts, framed, h, onLook, refill, roving, s, show, slider, subscript, symbol } from "../dom";
import { linked, numbers, whole } from "../links";
import { canBalance, dcGains, outer, project, ripple, separableGains, unevenness } from "../theory";
import { phaseBars, spectrum } from "./learned_plots";

const RANGES = { k: [2, 9, 4], s: [2, 4, 2] } as const satisfies Record<string, readonly [number, number, number]>;
const LIMIT = 1.5;
const STEP = 0.05;
const PRESETS: readonly (readonly [string, number, number[]])[] = [
  ["k4 s2, learned", 2, [0.35, 1.1, 0.8, 0.25]],
  ["k3 s2, all equal", 2, [0.7, 0.7, 0.7]],
  ["k4 s2, bilinear", 2, [0.25, 0.75, 0.75, 0.25]],
  ["k5 s2, drawn", 2, [0.45, -0.3, 1.05, 0.6, -0.15]],
  ["k6 s3, learned", 3, [0.2, 0.75, 1, 0.9, 0.45, -0.1]],
];

export function learned(body: Element): void {
  const redraw = framed(draw);
  const sliders = {
    k: slider("kernel", "k", "kernel size", RANGES.k, redraw),
    s: slider("stride", "s", "stride", RANGES.s, redraw),
  };
  const far = slider("plain", "c", "colour, distance from the mean", [-1, 1, 0.6], redraw, 0.05);
  const bars = h("div", { class: "scroll drag" });
  const sums = h("div", { class: "scroll" });
  const wave = h("div", { class: "scroll" });
  const ramp = h("canvas", { role: "img" });
  const patch = h("canvas", { role: "img" });
  const reading = h("p", { class: "formula two" });
  const status = h("p", { class: "quiet", "aria-live": "polite" });
  const result = h("div");
  const projectButton = button("Project", balance, { class: "primary" });
  const undoButton = button("Undo", undo);
  const reason = h("p", { class: "note" });
  const link = linked("learned", restore);
  let weights = [...PRESETS[0]![2]];
  let before: number[] | null = null;
  let tapScale = { width: 1, y: d3.scaleLinear() };

  refill(
    body,
    h(
      "div",
      { class: "split" },
      h(
        "div",
        { class: "stack" },
        h("div", { class: "controls pairs" }, ...Object.values(sliders).map((one) => one.element), far.element),
        h("div", { class: "row" }, projectButton, undoButton),
        reason,
        h(
          "div",
          {},
          h("h3", {}, "Kernels"),
          h("div", { class: "row" }, ...PRESETS.map(([name, stride, taps]) => button(name, () => use(stride, taps)))),
        ),
      ),
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "card stack" },
          h(
            "div",
            { class: "trio" },
            h("div", {}, h("h3", {}, "Taps, coloured by phase: drag, or arrow keys"), bars),
            h("div", {}, h("h3", {}, "Sums of the phases"), sums),
          ),
          reading,
        ),
        result,
        h(
          "div",
          { class: "card stack" },
          h("h3", {}, "Every constant from far below to far above the mean, through this kernel along both axes"),
          h("div", { class: "ramp" }, ramp),
          h(
            "div",
            { class: "trio" },
            h("div", {}, h("h3", {}, "The colour c, enlarged"), h("div", { class: "patch" }, patch)),
            h("div", {}, h("h3", {}, "Frequency response: zeros are needed at the dashed lines"), wave),
          ),
        ),
      ),
    ),
    status,
    link.element,
  );
  bars.addEventListener("pointerdown", drag);
  const across = onLook(bars, redraw);
  const [sumsAcross, waveAcross] = [onLook(sums, redraw), onLook(wave, redraw)];
  use(PRESETS[0]![1], PRESETS[0]![2]);

  function use(stride: number, taps: readonly number[]): void {
    sliders.k.value = taps.length;
    sliders.s.value = stride;
    weights = [...taps];
    before = null;
    draw();
  }

  function restore(query: URLSearchParams): void {
    sliders.k.value = whole(query, "k", RANGES.k);
    sliders.s.value = whole(query, "s", RANGES.s);
    far.value = whole(query, "c", [-100, 100, 60]) / 100;
    const given = numbers(query, "w", RANGES.k[1]);
    if (given) weights = given.map((w) => Math.max(-LIMIT, Math.min(LIMIT, w)));
    before = null;
    draw();
  }

  function balance(): void {
    before = weights;
    weights = project(weights, sliders.s.value);
    draw();
    status.textContent = `Projected: ripple ${show(ripple(dcGains(weights, sliders.s.value)))}`;
  }

  function undo(): void {
    if (before) weights = before;
    before = null;
    draw();
  }

  function set(t: number, value: number): void {
    weights[t] = Math.max(-LIMIT, Math.min(LIMIT, Math.round(value * 100) / 100));
    before = null;
    redraw();
  }

  function draw(): void {
    const [k, stride] = [sliders.k.value, sliders.s.value];
    if (weights.length !== k) {
      weights = Array.from({ length: k }, (_, t) => weights[t] ?? 0.5);
      before = null;
    }
    const gains = dcGains(weights, stride);
    taps(stride);
    phaseBars(sums, sumsAcross(), gains);
    tell(gains, k, stride);
    constants(gains);
    spectrum(wave, waveAcross(), weights, stride);
    const possible = canBalance(k, stride);
    projectButton.disabled = !possible;
    undoButton.disabled = before === null;
    reason.textContent = possible
      ? `Project moves to the nearest kernel whose ${stride} phases have equal sums: every tap of a phase changes by the same amount.`
      : `With ${k} taps and stride ${stride} some phases have no tap at all: no kernel keeps a constant.`;
    link.changed({
      k,
      s: stride,
      c: Math.round(far.value * 100),
      w: weights.map((w) => Number(w.toFixed(4))).join(","),
    });
  }

  function taps(stride: number): void {
    const width = Math.max(240, Math.min(420, across() || 340));
    const height = 190;
    const unit = width / weights.length;
    const y = d3.scaleLinear([-LIMIT, LIMIT], [height - 20, 12]);
    tapScale = { width, y };
    const groups = weights.map((w, t) => {
      const colour = layerColour(t % stride);
      const bar = s("rect", {
        class: "frame",
        x: t * unit + 4,
        width: unit - 8,
        y: Math.min(y(0), y(w)),
        height: Math.max(1.5, Math.abs(y(w) - y(0))),
        rx: 3,
        fill: colour,
        stroke: "none",
      });
      const group = s(
        "g",
        {
          class: "hit",
          role: "slider",
          "aria-label": `tap ${t}, phase ${t % stride}`,
          "aria-valuemin": -LIMIT,
          "aria-valuemax": LIMIT,
          "aria-valuenow": Number(w.toFixed(3)),
          "aria-orientation": "vertical",
        },
        s("rect", { x: t * unit, y: 0, width: unit, height, fill: "transparent" }),
        bar,
        s("circle", {
          cx: (t + 0.5) * unit,
          cy: y(w),
          r: 6,
          fill: "var(--surface)",
          stroke: colour,
          "stroke-width": 2.5,
        }),
        s(
          "text",
          { x: (t + 0.5) * unit, y: w >= 0 ? y(w) - 11 : y(w) + 20, "text-anchor": "middle", "font-size": 11.5 },
          show(w, 2),
        ),
        s(
          "text",
          { x: (t + 0.5) * unit, y: height - 2, "text-anchor": "middle", "font-size": 11, class: "soft" },
          `w${subscript(t)}`,
        ),
      );
      group.addEventListener("keydown", (event) => {
        const step = { ArrowUp: STEP, ArrowDown: -STEP, PageUp: 5 * STEP, PageDown: -5 * STEP }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        set(t, weights[t]! + step);
      });
      return group;
    });
    const held = bars.contains(document.activeElement)
      ? Number(document.activeElement?.getAttribute("data-tap") ?? -1)
      : -1;
    const svg = s(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Taps of the kernel" },
      s("line", { x1: 0, x2: width, y1: y(0), y2: y(0), stroke: "var(--rule)" }),
      ...groups,
    );
    groups.forEach((group, t) => group.setAttribute("data-tap", String(t)));
    refill(bars, svg);
    roving(groups);
    if (held >= 0 && groups[held]) {
      groups.forEach((group, t) => group.setAttribute("tabindex", t === held ? "0" : "-1"));
      groups[held].focus({ preventScroll: true });
    }
  }

  /** The frame around the drawing listens, so that a drag goes on while the bars are drawn anew. */
  function drag(event: PointerEvent): void {
    const box = bars.getBoundingClientRect();
    const t = Math.floor(((event.clientX - box.left + bars.scrollLeft) / tapScale.width) * weights.length);
    if (t < 0 || t >= weights.length || event.button !== 0) return;
    event.preventDefault();
    bars.setPointerCapture(event.pointerId);
    const move = (at: PointerEvent): void => set(t, tapScale.y.invert(at.clientY - bars.getBoundingClientRect().top));
    const done = (): void => {
      bars.removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) bars.removeEventListener(name, done);
    };
    bars.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) bars.addEventListener(name, done);
    move(event);
  }

  function tell(gains: readonly number[], k: number, stride: number): void {
    const spread = ripple(gains);
    const plane = ripple(separableGains(weights, stride));
    const c = far.value;
    const swing = Math.abs(c) * (Math.max(...gains) - Math.min(...gains));
    const count = unevenness([k], [stride]);
    refill(
      reading,
      ...gains.flatMap((gain, r) => [
        r ? h("br") : "",
        `phase ${r}: `,
        weights
          .map((_, t) => (t % stride === r ? `w${subscript(t)}` : ""))
          .filter(Boolean)
          .join(" + ") || "no tap",
        " = ",
        weights
          .map((w, t) => (t % stride === r ? (w < 0 ? `(${show(w)})` : show(w)) : ""))
          .filter(Boolean)
          .join(" + ") || "0",
        " = ",
        h("b", {}, show(gain)),
        "; the constant ",
        symbol("c", "plain"),
        ` = ${show(c)} becomes `,
        h("b", {}, show(c * gain)),
      ]),
    );
    const even = spread < 1e-9;
    refill(
      result,
      facts([
        [
          "Ripple",
          even ? "0" : spread === Infinity ? "∞" : show(spread),
          "rms difference of the phases' sums, over their mean",
          even ? "good" : "bad",
        ],
        [
          "Ripple in the plane",
          even ? "0" : plane === Infinity ? "∞" : show(plane),
          "the same kernel along both axes",
          even ? "good" : "bad",
        ],
        [
          "Swing at this colour",
          show(swing),
          `${show(Math.abs(c))} × (largest − smallest sum); at the mean itself 0`,
          swing < 1e-9 ? "good" : "bad",
        ],
        [
          "Overlap",
          count === Infinity ? "holes" : count === 1 ? "even" : `uneven, ${show(count)}`,
          count === 1
            ? even
              ? "and the sums agree"
              : "yet the sums differ"
            : even
              ? "yet the sums agree"
              : "and the sums differ",
        ],
      ]),
    );
  }

  function constants(gains: readonly number[]): void {
    const table = outer(gains, gains);
    const top = Math.max(1e-9, ...table.flat().map(Math.abs));
    const [columns, rows, stride] = [96, 16, gains.length];
    tile(ramp, rows, columns, 1, (y, x) => ((2 * (x + 0.5)) / columns - 1) * (table[y % stride]![x % stride]! / top));
    ramp.setAttribute(
      "aria-label",
      "A ramp of constants through the kernel: the pattern is weakest at the mean, in the middle",
    );
    tile(patch, 12, 12, 1, (y, x) => far.value * (table[y % stride]![x % stride]! / top));
    patch.setAttribute("aria-label", `The constant ${show(far.value)} after the layer`);
  }
}
