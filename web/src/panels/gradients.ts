/** Panel 6: what a strided stack hands back: counts, squared gradient by phase, dead positions, taps of a blur. */
import { fillOf, FONT, paletteOf, pointed, sheet } from "../canvas";
import { button, facts, framed, h, onLook, percent, refill, show } from "../dom";
import { layerList, type Block as AnyBlock, type Catalogue, type KindInfo, type Parameter } from "../layer_list";
import { linked } from "../links";
import { inputGradient, outer, phaseSums, ratio, readMap, type Strided } from "../theory";

type Kind = "conv" | "max" | "average" | "blur2" | "blur3" | "blur4" | "even4" | "blur5";

type Block = AnyBlock<Kind>;

const WINDOW: readonly Parameter[] = ["kernel", "stride", "padding"];
const BLUR: readonly Parameter[] = ["stride", "padding"];

const KINDS: Record<Kind, KindInfo & { taps?: readonly number[] }> = {
  conv: { code: "c", label: "convolution", parameters: WINDOW },
  max: { code: "m", label: "max pooling", parameters: WINDOW },
  average: { code: "a", label: "average pooling", parameters: WINDOW },
  blur2: { code: "p", label: "blur [1, 1]", parameters: BLUR, taps: [1, 1] },
  blur3: { code: "q", label: "blur [1, 2, 1]", parameters: BLUR, taps: [1, 2, 1] },
  blur4: { code: "r", label: "blur [1, 3, 3, 1]", parameters: BLUR, taps: [1, 3, 3, 1] },
  even4: { code: "e", label: "blur [1, 2, 2, 1]", parameters: BLUR, taps: [1, 2, 2, 1] },
  blur5: { code: "s", label: "blur [1, 4, 6, 4, 1]", parameters: BLUR, taps: [1, 4, 6, 4, 1] },
};
const CATALOGUE: Catalogue<Kind> = {
  kinds: KINDS,
  ranges: { kernel: [1, 11], stride: [1, 4], padding: [0, 5], count: [1, 1] },
  most: 6,
  added: { kind: "conv", kernel: 3, stride: 2, padding: 1, count: 1 },
};
const LARGEST = 64; // inputs per output, per axis, of which a map is drawn

const PRESETS: readonly (readonly [string, string, string])[] = [
  ["3 × 3, stride 2", "c3.2.1", "The usual strided convolution: 4 : 2 : 2 : 1."],
  ["7 × 7, stride 2", "c7.2.3", "The first layer of many classifiers: 16 : 12 : 12 : 9."],
  ["ResNet stem", "c7.2.3~m3.2.1", "He et al. 2016: 7 × 7 stride 2, then max pooling 3 stride 2."],
  ["1 × 1, stride 2", "c1.2.0", "A shortcut of many residual networks: three positions of four get nothing."],
  [
    "Five 3 × 3",
    "c3.2.1~c3.2.1~c3.2.1~c3.2.1~c3.2.1",
    "Strided convolutions only, as in many encoders: 32 times smaller.",
  ],
  ["4 × 4, stride 2", "c4.2.1", "The stride divides the kernel: even."],
  ["Average 2", "a2.2.0", "Windows that do not overlap: even, and dense."],
  ["Max 2", "m2.2.0", "Even on average over inputs; for one input a single position of each window gets everything."],
  ["BlurPool [1, 2, 1]", "c3.1.1~q1.2.1", "Zhang 2019: even mean, uneven squares."],
  ["BlurPool [1, 3, 3, 1]", "c3.1.1~r1.2.1", "Even mean and even squares, on average over weights."],
];

export function gradients(body: Element): void {
  const redraw = framed(draw);
  const remark = h("p", { class: "note" });
  const layers = layerList(CATALOGUE, () => {
    remark.textContent = "";
    redraw();
  });
  const canvas = h("canvas", {
    tabindex: 0,
    role: "application",
    "aria-roledescription": "map of squared gradients",
    "aria-describedby": "gradients-reading",
  });
  const frame = h("div", { class: "scroll" }, canvas);
  const reading = h("p", { class: "formula", id: "gradients-reading", "aria-live": "polite" });
  const result = h("div");
  const extra = h("div", { class: "stack" });
  const link = linked("gradients", restore);
  let unit = 30;
  const spot = pointed(canvas, [0, 0], (x, y) => [Math.floor(y / unit), Math.floor(x / unit)], redraw);

  refill(
    body,
    h("div", { class: "row" }, ...PRESETS.map(([name, code, words]) => button(name, () => use(code, words)))),
    remark,
    h(
      "div",
      { class: "split" },
      h(
        "div",
        { class: "stack" },
        h("h3", {}, "Layers, from the input to the loss"),
        layers.element,
        h("div", { class: "row" }, layers.add),
      ),
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "card stack" },
          h("h3", {}, "Expected squared gradient at the input, in units of its mean"),
          frame,
          reading,
        ),
        result,
        extra,
      ),
    ),
    link.element,
  );
  const across = onLook(frame, redraw);
  use(PRESETS[0]![1], PRESETS[0]![2]);

  function use(code: string, words: string): void {
    layers.load(code);
    remark.textContent = words;
    draw();
  }

  function restore(query: URLSearchParams): void {
    layers.load(query.get("l") ?? "");
    remark.textContent = "";
    draw();
  }

  function draw(): void {
    link.changed({ l: layers.text });
    const shrink = layers.blocks.reduce((total, block) => total * block.stride, 1);
    if (shrink > LARGEST) {
      refill(
        result,
        h(
          "p",
          { class: "alarm", role: "status" },
          `This stack shrinks ${shrink} times; the map here goes up to ${LARGEST}. evenly check goes further.`,
        ),
      );
      sheet(canvas, 1, 1);
      refill(reading);
      refill(extra);
      return;
    }
    const found = inputGradient(layers.blocks.map(stridedOf));
    map(found.squares);
    const plane = found.unevenness ** 2;
    const dead = 1 - (1 - found.dead) ** 2;
    const even = Math.abs(plane - 1) < 1e-9;
    const smallest = Math.min(...found.squares);
    refill(
      result,
      facts([
        ["Period", show(found.squares.length), "px of the input"],
        [
          "Unevenness in the plane",
          plane === Infinity ? "∞" : show(even ? 1 : plane),
          plane === Infinity
            ? "some positions get none"
            : `largest : smallest, ${show(even ? 1 : found.unevenness)} on one axis`,
          even ? "good" : "bad",
        ],
        [
          "Dead positions",
          percent(dead),
          dead ? "of all pixels never get a gradient" : "every pixel gets a gradient",
          dead ? "bad" : "good",
        ],
        [
          "On one axis",
          proportions(found.squares, smallest),
          found.squares.length <= 8
            ? "by phase, in units of the smallest that is not 0"
            : "smallest to largest, mean 1",
        ],
      ]),
    );
    details();
  }

  function map(squares: readonly number[]): void {
    const table = outer(squares, squares);
    const cell = squares.length;
    const shown = cell <= 16 ? Math.max(2 * cell, 6) : cell;
    const room = Math.min(480, (across() || 480) - 2);
    unit = Math.max(4, Math.min(44, room / shown));
    spot.keep(shown);
    const context = sheet(canvas, unit * shown + 1, unit * shown + 1);
    const colour = paletteOf(canvas);
    const top = Math.max(...table.flat());
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let y = 0; y < shown; y++) {
      for (let x = 0; x < shown; x++) {
        const value = table[y % cell]![x % cell]!;
        const { fill, ink } = fillOf(value / top);
        context.fillStyle = fill;
        context.fillRect(unit * x + 0.5, unit * y + 0.5, Math.max(1, unit - 1), Math.max(1, unit - 1));
        if (unit < 26) continue;
        context.fillStyle = value === 0 ? colour("other") : ink;
        context.font = `500 ${unit / 3.1}px ${FONT}`;
        context.fillText(show(value, 2), unit * (x + 0.5), unit * (y + 0.5) + 0.5);
      }
    }
    context.strokeStyle = colour("other");
    context.lineWidth = 2;
    context.strokeRect(unit * spot.x + 0.5, unit * spot.y + 0.5, unit - 1, unit - 1);
    const [y, x] = [spot.y % cell, spot.x % cell];
    canvas.setAttribute(
      "aria-label",
      `Squared gradient by phase, period ${cell}; phase ${y}, ${x}: ${show(table[y]![x]!)} times the mean`,
    );
    refill(
      reading,
      h("b", {}, `Phase (${y}, ${x})`),
      ` of the input: ${show(squares[y]!)} down × ${show(squares[x]!)} across = `,
      h("b", {}, show(table[y]![x]!)),
      " times the mean squared gradient",
      table[y]![x] === 0 ? ". No output reads this position: it never gets a gradient." : ".",
    );
  }

  /** What single layers say by themselves: readers of a convolution or window, sums of a blur's taps. */
  function details(): void {
    const parts = layers.blocks.map((block, index) => {
      const taps = KINDS[block.kind].taps;
      const name = `Layer ${index + 1}, ${KINDS[block.kind].label}${taps ? "" : ` k${block.kernel}`} s${block.stride}`;
      if (taps) {
        const { sums, squares } = phaseSums(taps, block.stride);
        return h(
          "li",
          {},
          h("b", {}, name),
          `: sums of the taps by phase ${sums.join(" : ")} (${ratio(sums) === 1 ? "mean gradient even" : "mean gradient uneven"}), of their squares ${squares.join(" : ")} (${ratio(squares) === 1 ? "squared gradient even" : "squared gradient uneven"}).`,
        );
      }
      const size = block.stride * Math.ceil(12 / block.stride);
      const fits = size + 2 * block.padding >= block.kernel;
      const counts = fits ? readMap(size, block.kernel, block.stride, block.padding) : [];
      return h(
        "li",
        {},
        h("b", {}, name),
        `: ${size} inputs in a row are read ${counts.join(" ")} times, borders included.`,
      );
    });
    refill(extra, h("h3", {}, "Layer by layer, on one axis"), h("ul", { class: "note" }, ...parts));
  }
}

function proportions(squares: readonly number[], smallest: number): string {
  if (squares.length > 8) return `${show(smallest)} … ${show(Math.max(...squares))}`;
  const base = Math.min(...squares.filter((v) => v > 0));
  return squares.map((v) => show(v / base)).join(" : ");
}

function stridedOf(block: Block): Strided {
  const { kernel, stride, padding } = block;
  const taps = KINDS[block.kind].taps;
  if (taps) {
    const total = taps.reduce((a, b) => a + b, 0);
    return { kind: "blur", taps: taps.map((t) => t / total), stride, padding };
  }
  if (block.kind === "conv") return { kind: "conv", kernel, stride, padding, dilation: 1 };
  return { kind: block.kind === "max" ? "max" : "average", kernel, stride, padding };
}
