/** Panel 1 in words: the arithmetic of a cell, and why the counts are as they are. */
import { tapColour } from "../colours";
import { h, refill, show, subscript, symbol } from "../dom";
import { gcd, mod, type Axis, type Stroke } from "../theory";

/** A cell of the picture. */
export interface Spot {
  row: "in" | "out";
  index: number;
}

/** A layer with its input, weights, output and strokes. */
export interface Filled {
  axis: Axis;
  x: readonly number[];
  y: readonly number[];
  weights: readonly number[];
  painted: readonly Stroke[];
}

const ORDINALS = ["", "", "second", "third", "fourth", "fifth", "sixth"];

const bracket = (value: number): string => (value < 0 ? `(${show(value)})` : show(value));

/** One cell's arithmetic, filled in. */
export function explain(formula: Element, layer: Filled, { row, index }: Spot): void {
  const { axis, x, y, weights, painted } = layer;
  const { stride, dilation, padding } = axis;
  if (row === "in") {
    const places = painted.filter((one) => one.i === index).map((one) => one.n);
    refill(
      formula,
      h("b", {}, `Input ${index}`),
      " paints ",
      symbol("n", "plain"),
      " = ",
      symbol("s", "stride"),
      "·i + ",
      symbol("d", "dilation"),
      "·t − ",
      symbol("p", "padding"),
      ` = ${stride}·${index} + ${dilation}·t − ${padding}`,
      h("br"),
      places.length ? `Its taps reach outputs ${places.join(", ")}.` : "All its strokes fall outside the output.",
    );
    return;
  }
  const mine = painted.filter((one) => one.n === index);
  const r = mod(index + padding, stride);
  refill(
    formula,
    h("b", {}, `Output ${index}`),
    ": taps with ",
    symbol("d", "dilation"),
    "·t ≡ n + ",
    symbol("p", "padding"),
    " (mod ",
    symbol("s", "stride"),
    `), here ${dilation}·t ≡ ${r} (mod ${stride}): `,
    h("b", {}, mine.length === 1 ? "1 stroke" : `${mine.length} strokes`),
    h("br"),
    `y${subscript(index)} = `,
    ...(mine.length
      ? mine.flatMap((one, order) => {
          const chip = h("span", { class: "swatch" });
          chip.style.background = tapColour(one.t, axis.kernel);
          return [order ? " + " : "", h("span", { class: "num" }, chip, `w${subscript(one.t)}·x${subscript(one.i)}`)];
        })
      : ["0: nothing is ever written here"]),
    mine.length ? h("br") : null,
    mine.length
      ? `${"\u2007".repeat(2)} = ${mine.map((one) => `${bracket(weights[one.t]!)}·${bracket(x[one.i]!)}`).join(" + ")} = `
      : null,
    mine.length ? h("b", {}, show(y[index]!)) : null,
  );
}

/** Why the counts of a layer are even, uneven or have holes. */
export function reasonOf({ kernel: k, stride, dilation }: Axis): string {
  const g = gcd(dilation, stride);
  return g > 1
    ? `Holes whatever the kernel: dilation ${dilation} and stride ${stride} share the factor ${g}, so only every ${ORDINALS[g]} phase is written.`
    : k < stride
      ? `Holes: ${k} ${k === 1 ? "tap does" : "taps do"} not reach ${stride} phases.`
      : k % stride === 0
        ? `Even away from the borders: the stride ${stride} divides the kernel ${k}${dilation > 1 ? ", and it has no factor in common with the dilation" : ""}. That evens the number of strokes, not the sum of the weights: see Learned weights.`
        : `Uneven: the stride ${stride} does not divide the kernel ${k}, so some phases get ${Math.ceil(k / stride)} strokes and others ${Math.floor(k / stride)}.`;
}
