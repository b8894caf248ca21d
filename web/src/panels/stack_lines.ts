/** The lines of a stack: whose they are, how strong, and what the last layer leaves of them. */
import * as d3 from "d3";
import { layerColour } from "../colours";
import { h, percent, refill, s, show } from "../dom";
import { enlargement, layerOf, nameOf, type Block } from "../stack";
import { bornAt, linePeriod, powerByPeriod, type Layer, type Statistics } from "../theory";

/** The layers, and what a sample of their signal is called. */
export interface Stack {
  blocks: readonly Block[];
  unit: string;
}

/** Writes the table of lines: period, the layer that first makes it, share of the power. */
export function owners(lines: Element, { blocks, unit }: Stack, shares: Map<number, number>): void {
  const layers: Layer[] = blocks.map(layerOf);
  const rows = [...shares].map(([period, power]) => {
    const owner = bornAt(layers, period);
    const chip = h("span", { class: "swatch" });
    chip.style.background = layerColour(owner);
    const bar = h("span", { class: "swatch" });
    bar.style.width = `${Math.max(0.1, power * 12)}rem`;
    bar.style.background = layerColour(owner);
    return h(
      "tr",
      {},
      h("td", {}, `${show(period)} ${unit}`),
      h("td", { class: "wide" }, chip, `layer ${owner + 1}, ${nameOf(blocks[owner]!)}`),
      h("td", {}, power < 1e-12 ? "none" : percent(power)),
      h("td", { class: "wide" }, power < 1e-12 ? null : bar),
    );
  });
  refill(
    lines,
    rows.length
      ? h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", {}, "Period"),
              h("th", { class: "wide" }, "First made by"),
              h("th", {}, "Share of power"),
              h("td", {}),
            ),
          ),
          h("tbody", {}, ...rows),
        )
      : h("p", { class: "note" }, without(blocks)),
  );
}

const without = (blocks: readonly Block[]): string =>
  enlargement(blocks) === 1
    ? "No layer enlarges the signal: there are no lines."
    : "A constant stays constant, whatever the weights are: there are no lines.";

/** Power over frequency: the power of each line, hollow before the last layer if that is a stride-1 convolution. */
export function stems(spectrum: Element, room: number, { blocks, unit }: Stack, found: readonly Statistics[]): void {
  const end = found.at(-1)!;
  const before = found.length > 1 && blocks.at(-1)!.kind.match(/conv|box/) ? found.at(-2)! : null;
  const [now, then] = [axisPower(end), before && before.cell === end.cell ? axisPower(before) : null];
  if (end.cell === 1) {
    refill(spectrum);
    return;
  }
  const width = Math.max(320, Math.min(720, room || 640));
  const [height, left, floor] = [182, 46, 140];
  const x = d3.scaleLinear([0, 0.5], [left, width - 14]);
  const y = d3.scaleLinear([-50, 0], [floor, 12]).clamp(true);
  const level = (power: number): number => y(power > 0 ? 10 * Math.log10(power) : -50);
  const layers = blocks.map(layerOf);
  const colours = new Map<number, string>();
  const colourOf = (period: number): string => {
    const colour = colours.get(period) ?? (period === 1 ? "var(--soft)" : layerColour(bornAt(layers, period)));
    colours.set(period, colour);
    return colour;
  };
  // one path for all marks of a colour: hundreds of elements would take the browser longer than all the numbers
  const [stemsOf, dotsOf, ticksOf] = [new Map<string, string>(), new Map<string, string>(), new Map<string, string>()];
  const draw = (paths: Map<string, string>, stroke: string, px: number, py: number, line: string): void => {
    paths.set(stroke, `${paths.get(stroke) ?? ""}M${px.toFixed(2)} ${py.toFixed(2)}${line}`);
  };
  const circles: SVGElement[] = [];
  for (let f = 0; f <= end.cell / 2; f++) {
    const period = linePeriod(f, end.cell);
    const stroke = colourOf(period);
    const place = x(f / end.cell);
    const many = end.cell > 64;
    if (then && then[f]! > 1e-9) {
      const high = level(then[f]!);
      if (many) draw(ticksOf, stroke, place - 2.5, high, "h5");
      else circles.push(s("circle", { cx: place, cy: high, r: 4.5, fill: "none", stroke, "stroke-width": 1.5 }));
    }
    if (now[f]! < 1e-9) continue;
    draw(stemsOf, stroke, place, floor, `V${level(now[f]!).toFixed(2)}`);
    if (many) {
      draw(dotsOf, stroke, place, level(now[f]!), "h0");
      continue;
    }
    const words =
      f === 0 ? `the constant: ${percent(now[0]!)}` : `period ${period} ${unit}: ${show(10 * Math.log10(now[f]!))} dB`;
    circles.push(s("circle", { cx: place, cy: level(now[f]!), r: 4, fill: stroke }, s("title", {}, words)));
  }
  const wide = Math.max(1.5, Math.min(5, 130 / end.cell));
  const marks = [
    ...[...stemsOf].map(([stroke, d]) => s("path", { d, stroke, "stroke-width": wide })),
    ...[...ticksOf].map(([stroke, d]) => s("path", { d, stroke, "stroke-width": 1.5 })),
    ...[...dotsOf].map(([stroke, d]) => s("path", { d, stroke, "stroke-width": 4, "stroke-linecap": "round" })),
    ...circles,
  ];
  const text = (px: number, py: number, words: string, anchor = "middle"): SVGTextElement =>
    s("text", { x: px, y: py, "text-anchor": anchor, "font-size": 11, class: "soft" }, words);
  refill(
    spectrum,
    s(
      "svg",
      {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label":
          "Expected power of every line along one axis, in dB of the whole power; the table above has the shares",
      },
      ...[0, -20, -40].flatMap((db) => [
        s("line", { x1: left, x2: width - 10, y1: y(db), y2: y(db), stroke: "var(--rule)" }),
        text(left - 6, y(db) + 4, `${show(db)} dB`, "end"),
      ]),
      ...["constant", "1/8", "1/4", "3/8", "1/2"].map((words, eighth) =>
        text(x(eighth / 8), floor + 16, words, eighth ? "middle" : "start"),
      ),
      text(width - 12, floor + 34, unit === "px" ? "cycles per px, along one axis" : "cycles per sample", "end"),
      ...marks,
    ),
  );
}

/** What the last layer leaves of the lines, in words. */
export function removed({ blocks }: Stack, found: readonly Statistics[]): string {
  const tail = blocks.at(-1)!;
  const before = found.at(-2);
  if (!before || (tail.kind !== "conv" && tail.kind !== "box")) {
    return "A layer makes new lines at the periods that its stride and those behind it reach together, so early layers make the coarse ones. Add a stride-1 convolution at the end to see what it leaves.";
  }
  const [then, now] = [powerByPeriod(before), powerByPeriod(found.at(-1)!)];
  const words = [...then]
    .filter(([, power]) => power > 1e-12)
    .map(([period, power]) => {
      const rest = (now.get(period) ?? 0) / found.at(-1)!.power[0]! / (power / before.power[0]!);
      return rest < 1e-12
        ? `period ${period} removed`
        : `period ${period} ${rest > 1 ? "up" : "down"} ${show(Math.abs(10 * Math.log10(rest)), 2)} dB`;
    });
  return (
    `The last layer, ${nameOf(tail)}, against the constant: ${words.join(", ") || "no lines to remove"}. ` +
    (tail.kind === "box"
      ? "Equal weights remove exactly the periods that divide the kernel; that is an average, not a network that learns."
      : "Random weights only attenuate; hollow circles, or ticks where lines are many, are the lines before it.")
  );
}

/** Power of the lines along one axis, frequencies 0 to 1/2. */
function axisPower(now: Statistics): number[] {
  return Array.from({ length: Math.floor(now.cell / 2) + 1 }, (_, f) => now.power[f]!);
}
