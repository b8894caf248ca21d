/** Panel 3: any stack of layers before training: pattern, power and spectrum at every depth, and who made which line. */
import { layerColour } from "../colours";
import { tile } from "../canvas";
import { button, choice, facts, framed, h, onLook, percent, refill, show } from "../dom";
import { sample } from "../draws";
import { linked, whole, word } from "../links";
import { decode, encode, enlargement, KINDS, layerOf, LIMITS, nameOf, PRESETS, type Block, type Kind } from "../stack";
import {
  apply,
  collapsed,
  colour,
  growth,
  isRandom,
  leaky,
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
const SLOPES = { none: null, relu: 0, slight: 0.1, leaky: 0.2 } as const;
type Activation = keyof typeof SLOPES;

const KEPT = 60; // depths that are kept, so that an edit computes only what is behind it

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
    ],
    redraw,
  );
  const list = h("ol", { class: "layers" });
  const remark = h("p", { class: "note" });
  const depths = h("div", { class: "depths" });
  const draws = h("div", { class: "depths" });
  const result = h("div");
  const lines = h("div", { class: "scroll" });
  const spectrum = h("div", { class: "scroll" });
  const last = h("p", { class: "note" });
  const link = linked("stacks", restore);
  let blocks: Block[] = decode(PRESETS[1]!.code);
  let seed = 1;
  let drawing = 0;
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
        list,
        h("div", { class: "row" }, button("Add a layer", add), axes.element, activation.element),
      ),
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "card stack" },
          h("h3", {}, "How strongly each position varies: the composed overlap"),
          depths,
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
          draws,
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
  onLook(spectrum, redraw);
  use(PRESETS[1]!);

  function use(preset: (typeof PRESETS)[number]): void {
    blocks = decode(preset.code);
    axes.select.value = String(preset.axes);
    activation.select.value = preset.activation;
    remark.textContent = preset.remark;
    edit();
  }

  function restore(query: URLSearchParams): void {
    const given = decode(query.get("l") ?? "");
    if (given.length) blocks = given;
    axes.select.value = String(whole(query, "axes", [1, 2, 2]));
    activation.select.value = word<Activation>(query, "act", ["none", "relu", "slight", "leaky"], "none");
    seed = whole(query, "draw", [1, 9999, 1]);
    remark.textContent = "";
    edit();
  }

  function unitName(): string {
    return axes.select.value === "2" ? "px" : "samples";
  }

  function add(): void {
    if (blocks.length < LIMITS.layers) blocks.push({ kind: "conv", kernel: 3, stride: 2, padding: 0 });
    remark.textContent = "";
    edit();
  }

  /** Writes the list of layers anew, then everything that follows from it. */
  function edit(): void {
    refill(list, ...blocks.map(row));
    draw();
  }

  function row(block: Block, index: number): HTMLElement {
    const info = KINDS[block.kind];
    const kinds = h(
      "select",
      { "aria-label": `kind of layer ${index + 1}` },
      ...(Object.keys(KINDS) as Kind[]).map((kind) =>
        h("option", { value: kind, selected: kind === block.kind }, KINDS[kind].label),
      ),
    );
    kinds.addEventListener("change", () => {
      block.kind = kinds.value as Kind;
      if (KINDS[block.kind].stride) block.stride = Math.max(2, block.stride);
      remark.textContent = "";
      edit();
      (list.children[index]?.querySelector("select") as HTMLElement | null)?.focus();
    });
    const field = (name: "kernel" | "stride" | "padding", sym: string, low: number): HTMLElement => {
      const input = h("input", {
        type: "number",
        min: low,
        max: LIMITS[name],
        value: block[name],
        "aria-label": `${name} of layer ${index + 1}`,
      });
      input.addEventListener("input", () => {
        const value = Math.round(Number(input.value));
        if (input.value === "" || !(value >= low && value <= LIMITS[name])) return;
        block[name] = value;
        remark.textContent = "";
        redraw();
      });
      return h("label", {}, h("var", { class: name }, sym), input);
    };
    const move = (by: number): void => {
      const [taken] = blocks.splice(index, 1);
      blocks.splice(index + by, 0, taken!);
      edit();
    };
    const item = h(
      "li",
      { class: "layer" },
      h("b", {}, `${index + 1}`),
      kinds,
      info.kernel && field("kernel", "k", 1),
      info.stride && field("stride", "s", 2),
      info.padding && field("padding", "p", 0),
      h(
        "span",
        { class: "end" },
        button("↑", () => move(-1), { "aria-label": `Move layer ${index + 1} up`, disabled: index === 0 }),
        button("↓", () => move(1), {
          "aria-label": `Move layer ${index + 1} down`,
          disabled: index === blocks.length - 1,
        }),
        button("×", () => (blocks.splice(index, 1), edit()), {
          "aria-label": `Remove layer ${index + 1}`,
          disabled: blocks.length === 1,
        }),
      ),
    );
    item.style.setProperty("--tint", growth(layerOf(block)) > 1 ? layerColour(index) : "var(--rule)");
    return item;
  }

  /** Statistics at every depth, or null where the period cell is beyond what is computed here. */
  function compute(plane: boolean, slope: number | null): Depth[] | null {
    const cells = slope === null ? CELLS.linear : plane ? CELLS.plane : CELLS.line;
    if (known.size > KEPT) known.clear();
    // without activations a plane is one axis times itself
    let field = colour(plane && slope !== null ? 2 : 1);
    const layers = blocks.map(layerOf);
    const depths: Depth[] = [];
    for (const [index, layer] of layers.entries()) {
      const key = `${plane} ${slope} ${encode(blocks.slice(0, index + 1))}`;
      let depth = known.get(key);
      if (!depth) {
        if (field.cell * growth(layer) > cells) return null;
        if (slope !== null && index > 0 && isRandom(layers[index - 1]!)) field = leaky(field, slope);
        const made = collapsed(apply(layer, field));
        const own = statistics(made);
        const product = plane && slope === null && own.cell <= 64;
        depth = { statistics: product ? squared(own) : own, product, field: made, root: null };
        known.set(key, depth);
      }
      field = depth.field;
      depths.push(depth);
    }
    return depths;
  }

  function draw(): void {
    const room = spectrum.clientWidth; // before anything changes: later it would cost a layout of the page
    const plane = axes.select.value === "2";
    const slope = SLOPES[activation.select.value as Activation];
    const found = compute(plane, slope);
    link.changed({ l: encode(blocks), axes: axes.select.value, act: activation.select.value, draw: seed });
    if (!found || (plane && found.at(-1)!.statistics.axes === 1)) {
      const most = slope === null ? (plane ? 64 : CELLS.linear) : plane ? CELLS.plane : CELLS.line;
      const text = `This stack enlarges ${enlargement(blocks)} times; here the closed form goes up to ${most}${slope === null ? "" : " with activations"}. evenly check goes further.`;
      for (const part of [depths, draws, lines, spectrum]) refill(part);
      refill(result, h("p", { class: "alarm", role: "status" }, text));
      last.textContent = "";
      return;
    }
    pictures(found);
    samples(found);
    const end = found.at(-1)!.statistics;
    const shares = powerByPeriod(end);
    const stack = { blocks, unit: unitName() };
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
    owners(lines, stack, end, shares);
    stems(spectrum, room, stack, all);
    last.textContent = removed(stack, all);
  }

  function pictures(found: readonly Depth[]): void {
    refill(
      depths,
      ...found.map(({ statistics: now }, index) => {
        const canvas = h("canvas", {
          role: "img",
          "aria-label": `Variance after layer ${index + 1}: unevenness ${show(now.unevenness)}`,
        });
        const rows = now.axes === 1 ? 1 : now.cell;
        const top = Math.max(...now.variance);
        tile(
          canvas,
          rows,
          now.cell,
          repeats(now.cell),
          (y, x) => -(top > 0 ? now.variance[y * now.cell + x]! / top : 0) * (now.unevenness === 1 ? 0.55 : 1),
        );
        return h(
          "div",
          { class: "depth" },
          canvas,
          h("b", {}, `${index + 1}  ${nameOf(blocks[index]!)}`),
          h("span", {}, `cell ${now.cell} ${unitName()}`),
          h("span", {}, now.unevenness === Infinity ? "holes" : `unevenness ${show(now.unevenness)}`),
          h("span", {}, `pattern ${percent(now.acFraction)}`),
        );
      }),
    );
  }

  /** One depth per frame: numbers do not wait for pictures. */
  function samples(found: readonly Depth[]): void {
    cancelAnimationFrame(drawing);
    const canvases = found.map((_, index) =>
      h("canvas", { role: "img", "aria-label": `One draw after layer ${index + 1}` }),
    );
    refill(
      draws,
      ...canvases.map((canvas, index) =>
        h("div", { class: "depth" }, canvas, h("span", {}, `after layer ${index + 1}`)),
      ),
    );
    const next = (index: number): void => {
      if (index === found.length) return;
      one(found[index]!, canvases[index]!);
      drawing = requestAnimationFrame(() => next(index + 1));
    };
    drawing = requestAnimationFrame(() => next(0));
  }

  function one(depth: Depth, canvas: HTMLCanvasElement): void {
    const { field, product, statistics: now } = depth;
    const size = product ? field.cell : field.cell ** field.axes;
    if (size > DRAWN) {
      canvas.replaceWith(h("span", {}, `A cell of ${now.cell} ${unitName()} is too large to draw from here,`));
      return;
    }
    depth.root ??= root(field.second, size);
    const values = sample(depth.root, size, product, seed);
    const top = Math.max(1e-9, ...values.map(Math.abs));
    tile(canvas, now.axes === 1 ? 1 : now.cell, now.cell, repeats(now.cell), (y, x) => values[y * now.cell + x]! / top);
  }
}

/** Times that a cell is repeated in its picture, so that all show about 16 positions or two periods. */
const repeats = (cell: number): number => Math.max(2, Math.ceil(16 / cell));
