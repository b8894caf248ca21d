/** Panel 2: counts along two axes, painted step by step, and what evenness costs. */
import { fillOf, FONT, paletteOf, pointed, sheet } from "../canvas";
import { button, facts, framed, h, onLook, refill, scrolled, show, slider, symbol } from "../dom";
import { linked, whole } from "../links";
import { degreesOfFreedom, outputSize, overlapMap, ratio, overlapCounts, unevenness, type Axis } from "../theory";

const RANGES = { k: [1, 8, 3], s: [1, 4, 2], p: [0, 4, 0], d: [1, 3, 1], n: [2, 9, 6] } as const satisfies Record<
  string,
  readonly [number, number, number]
>;
type Name = keyof typeof RANGES;

const MARGIN = 34;
const STEP_MS = 140;

export function planes(body: Element): void {
  const redraw = framed(() => draw());
  const restart = framed(() => {
    stop();
    settle();
    progress.value = axis.size ** 2;
    draw();
  });
  const sliders: Record<Name, ReturnType<typeof slider>> = {
    k: slider("kernel", "k", "kernel size", RANGES.k, restart),
    s: slider("stride", "s", "stride", RANGES.s, restart),
    p: slider("padding", "p", "padding", RANGES.p, restart),
    d: slider("dilation", "d", "dilation", RANGES.d, restart),
    n: slider("plain", "N", "inputs per axis", RANGES.n, restart),
  };
  const progress = slider("plain", "i", "inputs painted", [0, 36, 36], () => {
    stop();
    redraw();
  });
  const play = button("Paint step by step", () => (timer ? stop() : start()), { class: "primary" });
  const canvas = h("canvas", {
    tabindex: 0,
    role: "application",
    "aria-roledescription": "map of counts",
    "aria-describedby": "planes-reading",
  });
  const frame = h("div", { class: "scroll" }, canvas);
  const reading = h("p", { class: "formula", id: "planes-reading", "aria-live": "polite" });
  const result = h("div");
  const freedom = scrolled("Free parameters by kernel and stride");
  const link = linked("planes", restore);
  let axis: Axis = axisOf(0);
  let timer = 0;
  let unit = 20;
  const place = (at: number): number => Math.floor((at - MARGIN) / unit);
  const spot = pointed(canvas, [6, 6], (x, y) => (x < MARGIN || y < MARGIN ? null : [place(y), place(x)]), redraw);

  refill(
    body,
    h(
      "div",
      { class: "split" },
      h(
        "div",
        { class: "controls pairs" },
        ...Object.values(sliders).map((one) => one.element),
        progress.element,
        h(
          "div",
          { class: "row" },
          play,
          button("One step", () => step()),
        ),
      ),
      h("div", { class: "stack" }, h("div", { class: "card stack" }, frame, reading), result),
    ),
    h("h3", {}, "What evenness costs: free parameters of a kernel per pair of channels"),
    freedom,
    h(
      "p",
      { class: "note" },
      "Any kernel: ",
      symbol("k", "kernel"),
      "². Balanced, so that every constant stays constant: ",
      symbol("k", "kernel"),
      "² − (",
      symbol("s", "stride"),
      "² − 1). Resize-convolution of the same size: (",
      symbol("k", "kernel"),
      " − ",
      symbol("s", "stride"),
      " + 1)². Balanced kernels are the larger family; in one dimension both are the same.",
    ),
    link.element,
  );
  const across = onLook(frame, redraw);
  settle();
  draw();

  function restore(query: URLSearchParams): void {
    stop();
    for (const name of Object.keys(RANGES) as Name[]) {
      sliders[name].range(RANGES[name][0], RANGES[name][1]); // it may be narrow from before; settle narrows it again
      sliders[name].value = whole(query, name, RANGES[name]);
    }
    settle();
    progress.value = whole(query, "i", [0, axis.size ** 2, axis.size ** 2]);
    draw();
  }

  function settle(): Axis {
    const bare = axisOf(0);
    sliders.p.range(0, Math.min(RANGES.p[1], Math.floor((outputSize(bare) - 1) / 2)));
    axis = axisOf(sliders.p.value);
    progress.range(0, axis.size ** 2);
    return axis;
  }

  function axisOf(padding: number): Axis {
    return {
      size: sliders.n.value,
      kernel: sliders.k.value,
      stride: sliders.s.value,
      padding,
      dilation: sliders.d.value,
      outputPadding: 0,
    };
  }

  function start(): void {
    if (progress.value >= axis.size ** 2) progress.value = 0;
    play.textContent = "Pause";
    // who asked for less motion sees rows of paint at a slow pace instead of a run of single stamps
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    timer = window.setInterval(() => step(calm ? axis.size : 1), calm ? 900 : STEP_MS);
  }

  function stop(): void {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Paint step by step";
  }

  function step(count = 1): void {
    if (progress.value >= axis.size ** 2 && !timer) progress.value = 0;
    progress.value = Math.min(axis.size ** 2, progress.value + count);
    if (progress.value >= axis.size ** 2) stop();
    draw();
  }

  /** Where the stamp of one input lands on an axis. */
  function landed(i: number, length: number): number[] {
    return Array.from({ length: axis.kernel }, (_, t) => axis.stride * i + axis.dilation * t - axis.padding).filter(
      (n) => n >= 0 && n < length,
    );
  }

  function countsNow(length: number): { counts: Int32Array; last: [number[], number[]] | null } {
    const counts = new Int32Array(length * length);
    let last: [number[], number[]] | null = null;
    for (let index = 0; index < progress.value; index++) {
      last = [landed(Math.floor(index / axis.size), length), landed(index % axis.size, length)];
      for (const y of last[0]) for (const x of last[1]) counts[y * length + x]! += 1;
    }
    return { counts, last: progress.value < axis.size ** 2 ? last : null };
  }

  function draw(): void {
    const line = overlapMap(axis);
    const length = line.length;
    const { counts, last } = countsNow(length);
    const most = Math.max(1, ...line) ** 2;
    spot.keep(length);
    const room = Math.min(600, (across() || 600) - 2);
    unit = Math.max(9, Math.min(38, (room - MARGIN) / length));
    const side = MARGIN + unit * length + 1;
    const context = sheet(canvas, side, side);
    const colour = paletteOf(canvas);
    context.textAlign = "center";
    context.textBaseline = "middle";
    const cell = (x: number, y: number, wide: number, high: number, count: number, top: number): void => {
      const { fill, ink } = fillOf(count / top);
      context.fillStyle = fill;
      context.fillRect(x + 0.5, y + 0.5, wide - 1, high - 1);
      if (wide < 15 || high < 13 || (count === 0 && progress.value < axis.size ** 2)) return;
      context.fillStyle = count === 0 ? colour("other") : ink;
      context.font = `${count > 9 ? 600 : 500} ${Math.min(13, wide / (count > 9 ? 1.9 : 1.6))}px ${FONT}`;
      context.fillText(String(count), x + wide / 2, y + high / 2 + 0.5);
    };
    const axisMost = Math.max(1, ...line);
    line.forEach((count, n) => {
      cell(MARGIN + unit * n, 4, unit, MARGIN - 10, count, axisMost);
      cell(4, MARGIN + unit * n, MARGIN - 10, unit, count, axisMost);
    });
    for (let y = 0; y < length; y++) {
      for (let x = 0; x < length; x++)
        cell(MARGIN + unit * x, MARGIN + unit * y, unit, unit, counts[y * length + x]!, most);
    }
    context.lineWidth = 2;
    if (last && last[0].length && last[1].length) {
      context.strokeStyle = colour("kernel");
      for (const y of last[0])
        for (const x of last[1]) context.strokeRect(MARGIN + unit * x + 1, MARGIN + unit * y + 1, unit - 2, unit - 2);
    }
    context.strokeStyle = colour("other");
    context.strokeRect(MARGIN + unit * spot.x + 0.5, MARGIN + unit * spot.y + 0.5, unit - 1, unit - 1);
    context.strokeRect(MARGIN + unit * spot.x + 0.5, 4.5, unit - 1, MARGIN - 11);
    context.strokeRect(4.5, MARGIN + unit * spot.y + 0.5, MARGIN - 11, unit - 1);
    tell(line, counts, length);
    link.changed({
      k: axis.kernel,
      s: axis.stride,
      p: axis.padding,
      d: axis.dilation,
      n: axis.size,
      i: progress.value,
    });
  }

  function tell(line: number[], counts: Int32Array, length: number): void {
    const { y, x } = spot;
    const now = counts[y * length + x]!;
    const whole = line[y]! * line[x]!;
    canvas.setAttribute("aria-label", `Counts of ${length} by ${length} outputs; row ${y}, column ${x}: ${now}`);
    refill(
      reading,
      h("b", {}, `Output (${y}, ${x})`),
      `: ${line[y]} strokes down × ${line[x]} across = `,
      h("b", {}, show(whole)),
      now === whole ? null : `; ${now} so far, after ${progress.value} of ${axis.size ** 2} inputs`,
      h("br"),
      `Margins: the counts of one axis. The plane is their product.`,
    );
    const { kernel: k, stride, dilation } = axis;
    const one = ratio(overlapCounts(k, stride, dilation));
    const both = unevenness([k, k], [stride, stride], [dilation, dilation]);
    const free = degreesOfFreedom([k, k], [stride, stride], [dilation, dilation]);
    refill(
      result,
      facts([
        ["On one axis", one === Infinity ? "holes" : show(one), "most : fewest strokes", one === 1 ? "good" : "bad"],
        [
          "In the plane",
          both === Infinity ? "holes" : show(both),
          one === Infinity ? "some outputs are never written" : `${show(one)} × ${show(one)}`,
          both === 1 ? "good" : "bad",
        ],
        ["Free parameters", show(free.free), "any kernel"],
        ["Balanced / resize", `${free.balanced} / ${free.resize}`, "kernels that cannot make a pattern"],
      ]),
    );
    freedomTable();
  }

  function freedomTable(): void {
    const kernels = Array.from({ length: RANGES.k[1] }, (_, i) => i + 1);
    const head = h("tr", {}, h("th", {}, "s \\ k"), ...kernels.map((k) => h("th", { scope: "col" }, `k = ${k}`)));
    const rows = [1, 2, 3, 4].map((stride) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, `s = ${stride}`),
        ...kernels.map((k) => {
          const found = degreesOfFreedom([k, k], [stride, stride], [1, 1]);
          const here = k === axis.kernel && stride === axis.stride;
          const text = k < stride ? "holes" : `${found.free} / ${found.balanced} / ${found.resize}`;
          return h("td", { "aria-current": here ? "true" : null }, text);
        }),
      ),
    );
    refill(
      freedom,
      h(
        "table",
        {},
        h(
          "caption",
          { class: "quiet" },
          "Free, balanced and resize-convolution parameters by kernel and stride, in two dimensions, dilation 1",
        ),
        h("thead", {}, head),
        h("tbody", {}, ...rows),
      ),
    );
  }
}
