/** Panel 3: any stack of layers before training: pattern, power and spectrum at every depth, and who made which line. */
import { layerColour } from "../colours";
import { tile } from "../canvas";
import { button, choice, facts, framed, h, inFrames, onLook, percent, refill, scrolled, show, whenResting } from "../dom";
import { sample } from "../draws";
import { linked, whole, word } from "../links";
import { decode, encode, layerList } from "../layer_list";
import { CATALOGUE, enlargement, KINDS, layerOf, nameOf, PRESETS, type Activation, type Block } from "../stack";
import {
  advance,
  bendsInside,
  collapsed,
  colour,
  covariance,
  growth,
  powerByPeriod,
  root,
  squared,
  statistics,
  type Field,
  type Statistics,
} from "../theory";
import { owners, removed, stems } from "./stack_lines";

/** Largest period cell per axis: with activations in the plane, with activations on one axis, without. */
const CELLS = { plane: 32, line: 256, linear: 256 } as const;
const DRAWN = 400; // positions of the largest cell of which a sample is drawn
const SLOPES: Record<Activation, number | null> = { none: null, relu: 0, slight: 0.1, leaky: 0.2, prelu: 0.25 };

const KEPT = 200; // depths that are kept, so that an edit computes only what is behind it

interface Depth {
  statistics: Statistics;
  product: boolean; // the field is one axis of a plane
  field: Field;
  root: Float64Array | null;
}

export function stacks(body: Element): void {
  const redraw = framed(draw);
  const axes = choice(
    "Signal",
    [
      ["2", "picture"],
      ["1", "sound, one axis"],
    ],
    redraw,
  );
  const activation = choice(
    "Between layers",
    [
      ["none", "nothing"],
      ["relu", "ReLU"],
      ["slight", "leaky ReLU, 0.1"],
      ["leaky", "leaky ReLU, 0.2"],
      ["prelu", "PReLU at its start, 0.25"],
    ],
    redraw,
  );
  const layers = layerList(
    CATALOGUE,
    () => {
      remark.textContent = "";
      redraw();
    },
    (block, index) => (growth(layerOf(block)) > 1 ? layerColour(index) : "var(--rule)"),
  );
  const remark = h("p", { class: "note" });
  const [variances, samples] = [h("div", { class: "depths" }), h("div", { class: "depths" })];
  const [depths, draws] = [gallery(variances), gallery(samples)];
  const paint = inFrames();
  const result = h("div");
  const lines = scrolled("Lines at the output, as a table");
  const spectrum = scrolled("Lines at the output, as a drawing");
  const last = h("p", { class: "note" });
  const link = linked("stacks", restore);
  let seed = 1;
  const known = new Map<string, Depth>();

  refill(
    body,
    h("div", { class: "row" }, ...PRESETS.map((preset) => button(preset.name, () => use(preset)))),
    remark,
    h(
      "div",
      { class: "split" },
      h(
        "div",
        { class: "stack" },
        h("h3", {}, "Layers, from the constant to the output"),
        layers.element,
        h("div", { class: "row" }, layers.add, axes.element, activation.element),
      ),
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "card stack" },
          h("h3", {}, "How strongly each position varies: the composed overlap"),
          variances,
        ),
        h(
          "div",
          { class: "card stack" },
          h(
            "div",
            { class: "row" },
            h("h3", {}, "One untrained network, one constant colour, before each activation"),
            button("Another draw", () => ((seed += 1), redraw())),
          ),
          samples,
        ),
        result,
        h(
          "div",
          { class: "card stack" },
          h("h3", {}, "Lines at the output: whose they are, and how much of the power they hold"),
          lines,
          spectrum,
          last,
        ),
      ),
    ),
    link.element,
  );
  const across = onLook(spectrum, redraw);
  use(PRESETS[2]!);
  // while the page rests the presets are computed, one at a time, so that none of them is waited for
  const ahead = PRESETS.map(({ code, axes: given, activation: bent }) => () => {
    compute(decode(CATALOGUE, code), given === 2, SLOPES[bent]);
  });
  whenResting(ahead);

  function use(preset: (typeof PRESETS)[number]): void {
    layers.load(preset.code);
    axes.select.value = String(preset.axes);
    activation.select.value = preset.activation;
    remark.textContent = preset.remark;
    draw();
  }

  function restore(query: URLSearchParams): void {
    layers.load(query.get("l") ?? "");
    axes.select.value = String(whole(query, "axes", [1, 2, 2]));
    activation.select.value = word<Activation>(query, "act", ["none", "relu", "slight", "leaky", "prelu"], "none");
    seed = whole(query, "draw", [1, 9999, 1]);
    remark.textContent = "";
    draw();
  }

  function unitName(): string {
    return axes.select.value === "2" ? "px" : "samples";
  }

  /** Statistics at every depth, or null where the period cell is beyond what is computed here. */
  function compute(blocks: readonly Block[], plane: boolean, slope: number | null): Depth[] | null {
    const cells = slope === null ? CELLS.linear : plane ? CELLS.plane : CELLS.line;
    if (known.size > KEPT) known.clear();
    const all = blocks.map(layerOf);
    // without activations and sums a plane is one axis times itself
    const line = !plane || (slope === null && all.every((layer) => layer.kind !== "residual"));
    let field = colour(line ? 1 : 2);
    const depths: Depth[] = [];
    for (const [index, layer] of all.entries()) {
      const before = encode(KINDS, blocks.slice(0, index + 1));
      const key = `${plane} ${slope} ${line} ${bendsInside(all, index)} ${before}`;
      let depth = known.get(key);
      if (!depth) {
        if (field.cell * growth(layer) > cells) return null;
        const made = collapsed(advance(all, index, field, slope));
        const own = statistics(made);
        const product = plane && line && own.cell <= 64;
        depth = { statistics: product ? squared(own) : own, product, field: made, root: null };
        known.set(key, depth);
      }
      field = depth.field;
      depths.push(depth);
    }
    return depths;
  }

  function draw(): void {
    const plane = axes.select.value === "2";
    const slope = SLOPES[activation.select.value as Activation];
    const found = compute(layers.blocks, plane, slope);
    link.changed({ l: layers.text, axes: axes.select.value, act: activation.select.value, draw: seed });
    if (!found || (plane && found.at(-1)!.statistics.axes === 1)) {
      const most = slope === null ? (plane ? 64 : CELLS.linear) : plane ? CELLS.plane : CELLS.line;
      const text = `This stack enlarges ${enlargement(layers.blocks)} times; here the closed form goes up to ${most}${slope === null ? "" : " with activations"}. evenly check goes further.`;
      paint([]);
      for (const shown of [depths, draws]) shown(0);
      for (const part of [lines, spectrum]) refill(part);
      refill(result, h("p", { class: "alarm", role: "status" }, text));
      last.textContent = "";
      return;
    }
    pictures(found);
    const end = found.at(-1)!.statistics;
    const shares = powerByPeriod(end);
    const stack = { blocks: layers.blocks, unit: unitName() };
    const all = found.map((depth) => depth.statistics);
    refill(
      result,
      facts([
        [
          "Period at the output",
          show(Math.max(1, ...[...shares].filter(([, power]) => power > 1e-12).map(([period]) => period))),
          `${unitName()}; 1 is constant`,
          end.acFraction > 0 ? "bad" : "good",
        ],
        [
          "Unevenness",
          end.unevenness === Infinity ? "holes" : show(end.unevenness),
          "largest : smallest variance",
          end.unevenness === 1 ? "good" : "bad",
        ],
        [
          "Pattern before training",
          percent(end.acFraction),
          "of the output's expected power is not the constant",
          end.acFraction > 0 ? "bad" : "good",
        ],
      ]),
    );
    owners(lines, stack, shares);
    stems(spectrum, across(), stack, all);
    last.textContent = removed(stack, all);
  }

  /** Texts at once; the pictures, from which nobody reads numbers, in the frames that follow. */
  function pictures(found: readonly Depth[]): void {
    const variances = depths(found.length).map(({ canvas, text }, index) => {
      const now = found[index]!.statistics;
      canvas.setAttribute("aria-label", `Variance after layer ${index + 1}: unevenness ${show(now.unevenness)}`);
      refill(
        text,
        h("b", {}, `${index + 1}  ${nameOf(layers.blocks[index]!)}`),
        h("span", {}, `cell ${now.cell} ${unitName()}`),
        h("span", {}, now.unevenness === Infinity ? "holes" : `unevenness ${show(now.unevenness)}`),
        h("span", {}, `pattern ${percent(now.acFraction)}`),
      );
      const top = Math.max(...now.variance) || 1;
      const strength = now.unevenness === 1 ? 0.55 : 1;
      return () => drawn(canvas, now, (place) => -(now.variance[place]! / top) * strength);
    });
    const samples = draws(found.length).map(({ canvas, text }, index) => {
      const { field, product, statistics: now } = found[index]!;
      const size = product ? field.cell : field.cell ** field.axes;
      canvas.setAttribute("aria-label", `One draw after layer ${index + 1}`);
      canvas.hidden = size > DRAWN;
      const large = `A cell of ${now.cell} ${unitName()} is too large to draw from here,`;
      refill(text, h("span", {}, `${size > DRAWN ? `${large} ` : ""}after layer ${index + 1}`));
      return () => size > DRAWN || one(found[index]!, size, canvas);
    });
    paint([...variances, ...samples]);
  }

  function one(depth: Depth, size: number, canvas: HTMLCanvasElement): void {
    depth.root ??= root(covariance(depth.field), size);
    const values = sample(depth.root, size, depth.product, seed);
    const top = Math.max(1e-9, ...values.map(Math.abs));
    drawn(canvas, depth.statistics, (place) => values[place]! / top);
  }
}

interface Picture {
  canvas: HTMLCanvasElement;
  text: HTMLElement;
}

/** Pictures that stay from one redraw to the next: a new canvas costs more than what is drawn on it. */
function gallery(element: Element): (count: number) => Picture[] {
  const hung: (Picture & { frame: HTMLElement })[] = [];
  return (count) => {
    while (hung.length < count) {
      const [canvas, text] = [h("canvas", { role: "img" }), h("div")];
      hung.push({ canvas, text, frame: h("div", { class: "depth" }, canvas, text) });
      element.append(hung.at(-1)!.frame);
    }
    hung.forEach(({ frame }, place) => (frame.hidden = place >= count));
    return hung.slice(0, count);
  };
}

/** A cell, repeated; `share` by position of the cell. */
function drawn(canvas: HTMLCanvasElement, { axes, cell }: Statistics, share: (place: number) => number): void {
  tile(canvas, axes === 1 ? 1 : cell, cell, repeats(cell), (y, x) => share(y * cell + x));
}

/** Times that a cell is repeated in its picture, so that all show about 16 positions or two periods. */
const repeats = (cell: number): number => Math.max(2, Math.ceil(16 / cell));
