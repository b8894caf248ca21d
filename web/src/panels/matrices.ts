/** Panel 4: three ways to grow a signal as coloured matrices with tied weights and linked hover. */
import { tapColour, tapInk } from "../colours";
import { button, choice, framed, h, onLook, refill, roving, s, show, slider, subscript } from "../dom";
import { linked, whole, word } from "../links";
import {
  dcGains,
  interpolation,
  firOf,
  resizeMatrix,
  ripple,
  rowSums,
  subpixelMatrix,
  transposedMatrix,
  valueOf,
  type Share,
  type Tied,
} from "../theory";

const RANGES = { k: [2, 6, 4], s: [2, 3, 2], n: [2, 6, 4] } as const satisfies Record<
  string,
  readonly [number, number, number]
>;
type Mode = "nearest" | "linear";

interface Shown {
  title: string;
  letter: string;
  matrix: Tied;
  weights: number[];
  remark: string;
}

interface Drawn {
  shown: Shown;
  cells: { element: SVGGElement; row: number; column: number; shares: Share[] }[];
  rows: SVGElement[];
}

export function matrices(body: Element): void {
  const redraw = framed(draw);
  const sliders = {
    k: slider("kernel", "k", "kernel size", RANGES.k, redraw),
    s: slider("stride", "s", "stride", RANGES.s, redraw),
    n: slider("plain", "N", "input size", RANGES.n, redraw),
  };
  const mode = choice(
    "Interpolation",
    [
      ["nearest", "nearest"],
      ["linear", "linear"],
    ],
    redraw,
  );
  const grid = h("div", { class: "trio" });
  const formula = h("p", { class: "formula", "aria-live": "polite" });
  const link = linked("matrices", restore);
  let seed = 14;
  let drawn: Drawn[] = [];

  refill(
    body,
    h(
      "div",
      { class: "split over" },
      h(
        "div",
        { class: "controls pairs" },
        ...Object.values(sliders).map((one) => one.element),
        mode.element,
        h(
          "div",
          {},
          button("Other weights", () => ((seed = (seed % 99) + 1), draw())),
        ),
      ),
      h("div", { class: "card stack" }, grid, formula),
    ),
    link.element,
  );
  onLook(grid, redraw);
  draw();

  function restore(query: URLSearchParams): void {
    for (const name of ["k", "s", "n"] as const) sliders[name].value = whole(query, name, RANGES[name]);
    mode.select.value = word<Mode>(query, "mode", ["nearest", "linear"], "nearest");
    seed = whole(query, "seed", [1, 99, 14]);
    draw();
  }

  function all(): Shown[] {
    const [k, stride, size] = [sliders.k.value, sliders.s.value, sliders.n.value];
    const kind = mode.select.value as Mode;
    const reach = firOf(interpolation(stride, kind)).fir.length;
    const own = Math.max(1, k - stride + 1); // with nearest neighbour as many taps as the transposed convolution
    const perPhase = Math.ceil(k / stride);
    const free = transposedMatrix(size, k, stride);
    const shuffled = subpixelMatrix(size, perPhase, stride);
    const tied = resizeMatrix(size, own, stride, kind);
    const weights = (count: number, offset: number): number[] =>
      Array.from({ length: count }, (_, t) => drawnWeight(seed * 31 + offset * 7 + t));
    return [
      {
        title: "Transposed convolution",
        letter: "w",
        matrix: free,
        weights: weights(k, 0),
        remark: `${k} taps, ${k} free weights`,
      },
      {
        title: "Sub-pixel convolution",
        letter: "v",
        matrix: shuffled,
        weights: weights(perPhase * stride, 1),
        remark: `${stride} phases of ${perPhase} taps: a transposed convolution with ${perPhase * stride} free weights`,
      },
      {
        title: "Resize, then convolution",
        letter: "u",
        matrix: tied,
        weights: weights(own, 2),
        remark: `${own} free ${own === 1 ? "weight" : "weights"}, shared by ${own + reach - 1} taps`,
      },
    ];
  }

  function draw(): void {
    drawn = [];
    refill(grid, ...all().map(figure));
    link.changed({ k: sliders.k.value, s: sliders.s.value, n: sliders.n.value, mode: mode.select.value, seed });
    const first = drawn[0]!;
    pick(first, first.cells[Math.floor(first.cells.length / 2)]!);
  }

  function figure(shown: Shown): HTMLElement {
    const { matrix, weights } = shown;
    const unit = Math.max(24, Math.min(46, 190 / matrix.columns));
    const high = Math.min(unit, 24);
    const sumsAt = unit * matrix.columns + 14;
    const [width, height] = [sumsAt + 92, high * matrix.rows + 22];
    const sums = rowSums(matrix, weights);
    const reach = Math.max(...sums.map(Math.abs), 1e-9);
    const scale = 26 / reach;
    const blank = Array.from({ length: matrix.rows * matrix.columns }, (_, place) =>
      s("rect", {
        x: (place % matrix.columns) * unit + 0.75,
        y: Math.floor(place / matrix.columns) * high + 18.75,
        width: unit - 1.5,
        height: high - 1.5,
        rx: 2,
        fill: "var(--cell)",
      }),
    );
    const cells = [...matrix.entries]
      .sort(([a], [b]) => a - b)
      .map(([place, shares]) => {
        const [row, column] = [Math.floor(place / matrix.columns), place % matrix.columns];
        return { element: cell(shown, row, column, shares, unit, high), row, column, shares };
      });
    const rows = sums.map((sum, n) =>
      s("rect", {
        class: "frame",
        x: sumsAt + 28 + Math.min(0, sum * scale),
        y: n * high + 20,
        width: Math.max(1, Math.abs(sum) * scale),
        height: high - 4,
        rx: 1.5,
        fill: sum < 0 ? "var(--other)" : "var(--paint)",
      }),
    );
    const item: Drawn = { shown, cells, rows };
    drawn.push(item);
    for (const one of cells) {
      for (const name of ["pointerenter", "focus", "click"]) one.element.addEventListener(name, () => pick(item, one));
    }
    roving(cells.map((one) => one.element));
    const text = (x: number, words: string): SVGTextElement =>
      s("text", { x, y: 11, "font-size": 11, class: "soft" }, words);
    const spread = ripple(interior(shown, sliders.s.value));
    return h(
      "div",
      { class: "stack" },
      h("h3", {}, shown.title),
      h(
        "div",
        { class: "scroll" },
        s(
          "svg",
          {
            width,
            height,
            viewBox: `0 0 ${width} ${height}`,
            role: "group",
            "aria-label": `${shown.title} as a matrix of ${matrix.rows} outputs by ${matrix.columns} inputs`,
          },
          text(0, `${matrix.rows} × ${matrix.columns}`),
          text(sumsAt, "row sums"),
          s(
            "g",
            { "aria-hidden": "true" },
            ...sums.map((sum, n) =>
              s(
                "text",
                { x: width - 2, y: n * high + 18 + high / 2 + 4, "text-anchor": "end", "font-size": 11 },
                show(sum, 2),
              ),
            ),
          ),
          s(
            "g",
            { "aria-hidden": "true" },
            ...blank,
            s("line", { x1: sumsAt + 28, x2: sumsAt + 28, y1: 18, y2: height - 4, stroke: "var(--rule)" }),
            ...rows,
          ),
          s("g", {}, ...cells.map((one) => one.element)),
        ),
      ),
      h(
        "p",
        { class: "note" },
        `${shown.remark}. A constant comes out ${spread < 1e-9 ? "constant" : `with ripple ${show(spread)}`}, away from the borders.`,
      ),
    );
  }

  function cell(shown: Shown, row: number, column: number, shares: Share[], unit: number, high: number): SVGGElement {
    const total = shares.reduce((sum, share) => sum + Math.abs(share.coefficient), 0);
    let left = column * unit + 0.75;
    const strips = shares.flatMap(({ weight, coefficient }) => {
      const wide = ((unit - 1.5) * Math.abs(coefficient)) / total;
      const fill = tapColour(weight, shown.matrix.weights);
      const strip = s("rect", { x: left, y: row * high + 18.75, width: wide, height: high - 1.5, fill });
      const name = s(
        "text",
        { x: left + wide / 2, y: row * high + 18 + high / 2 + 4, "text-anchor": "middle", "font-size": 11 },
        `${shown.letter}${subscript(weight)}`,
      );
      name.style.fill = tapInk(weight, shown.matrix.weights);
      left += wide;
      return wide < 15 ? [strip] : [strip, name];
    });
    const frame = s("rect", {
      class: "frame",
      x: column * unit + 0.75,
      y: row * high + 18.75,
      width: unit - 1.5,
      height: high - 1.5,
      rx: 2,
      fill: "none",
      stroke: "none",
    });
    return s(
      "g",
      {
        class: "hit",
        role: "img",
        "aria-label": `row ${row}, column ${column}: ${words(shown, shares)} = ${show(valueOf(shares, shown.weights))}`,
      },
      ...strips,
      frame,
    );
  }

  /** The same output row in all three, and every entry that holds a weight of the chosen one. */
  function pick(item: Drawn, chosen: Drawn["cells"][number]): void {
    const wanted = new Set(chosen.shares.map((share) => share.weight));
    for (const other of drawn) {
      other.rows.forEach((bar, n) => bar.setAttribute("opacity", n === chosen.row ? "1" : "0.4"));
      for (const one of other.cells) {
        const same = other === item && one.shares.some((share) => wanted.has(share.weight));
        one.element.setAttribute(
          "opacity",
          other !== item ? (one.row === chosen.row ? "1" : "0.45") : same ? "1" : "0.28",
        );
        one.element.classList.toggle(
          "on",
          other === item ? one === chosen : one.row === chosen.row && one.column === chosen.column,
        );
      }
    }
    const { shown } = item;
    const row = item.cells.filter((one) => one.row === chosen.row);
    const sum = row.reduce((total, one) => total + valueOf(one.shares, shown.weights), 0);
    const places = item.cells.filter((one) => one.shares.some((share) => wanted.has(share.weight))).length;
    refill(
      formula,
      h("b", {}, shown.title),
      `: entry (${chosen.row}, ${chosen.column}) is `,
      h("b", {}, words(shown, chosen.shares)),
      ` = ${show(valueOf(chosen.shares, shown.weights))}; `,
      `${wanted.size === 1 ? "this weight stands" : "these weights stand"} in ${places} entries.`,
      h("br"),
      `Row ${chosen.row}: `,
      row.map((one) => wrap(shown, one.shares)).join(" + "),
      " = ",
      row.map((one) => negative(valueOf(one.shares, shown.weights))).join(" + "),
      " = ",
      h("b", {}, show(sum)),
    );
  }
}

const words = (shown: Shown, shares: readonly Share[]): string =>
  shares
    .map(
      ({ weight, coefficient }) =>
        `${Math.abs(coefficient - 1) < 1e-9 ? "" : `${show(coefficient)} `}${shown.letter}${subscript(weight)}`,
    )
    .join(" + ");

const wrap = (shown: Shown, shares: readonly Share[]): string =>
  shares.length > 1 ? `(${words(shown, shares)})` : words(shown, shares);

const negative = (value: number): string => (value < 0 ? `(${show(value)})` : show(value));

/** Row sums away from the borders: the sums by phase of the taps, all of which stand in the first column. */
function interior({ matrix, weights }: Shown, stride: number): number[] {
  const taps = Array.from({ length: matrix.rows - stride * (matrix.columns - 1) }, (_, t) =>
    valueOf(matrix.entries.get(t * matrix.columns) ?? [], weights),
  );
  return dcGains(taps, stride);
}

/** Fixed weights between -0.4 and 1.2, two decimals, from a number. */
function drawnWeight(index: number): number {
  const mixed = Math.sin(index * 12.9898) * 43758.5453;
  return Math.round(((mixed - Math.floor(mixed)) * 1.6 - 0.4) * 100) / 100;
}
