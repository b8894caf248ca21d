/** The expected squared gradient on one axis, from the loss to the input, before training (two axes multiply). */
import { mod, ratio } from "./overlap";

/** A layer as the gradient meets it. `blur` is a fixed filter and keeping every s-th sample; padding as in the layer. */
export type Strided =
  | { kind: "conv"; kernel: number; stride: number; padding: number; dilation: number }
  | { kind: "max"; kernel: number; stride: number; padding: number }
  | { kind: "average"; kernel: number; stride: number; padding: number }
  | { kind: "blur"; taps: readonly number[]; stride: number; padding: number };

/** `local[m][l + reach] = E[g[m] g[m + l]]` over the phases m of one cell. */
export interface Gradient {
  local: number[][];
}

/** Independent gradients of variance 1 at every output. */
export const white = (): Gradient => ({ local: [[1]] });

export const reach = (gradient: Gradient): number => (gradient.local[0]!.length - 1) / 2;

/** Expected squared gradient by phase. */
export const squares = (gradient: Gradient): number[] => gradient.local.map((row) => row[reach(gradient)]!);

function table(rows: number, lags: number): number[][] {
  return Array.from({ length: rows }, () => new Array<number>(2 * lags + 1).fill(0));
}

function convolution(
  gradient: Gradient,
  layer: { kernel: number; stride: number; padding: number; dilation: number },
): Gradient {
  const { stride } = layer;
  const lags = reach(gradient);
  const local = table(gradient.local.length * stride, stride * lags);
  gradient.local.forEach((row, n) => {
    for (let t = 0; t < layer.kernel; t++) {
      const target = local[mod(stride * n + layer.dilation * t - layer.padding, local.length)]!;
      row.forEach((value, l) => (target[stride * l]! += value));
    }
  });
  return { local };
}

function filtered(gradient: Gradient, taps: readonly number[], stride: number, padding: number): Gradient {
  const lags = reach(gradient);
  const size = gradient.local.length;
  const wide = stride * lags + taps.length - 1;
  const local = table(size * stride, wide);
  gradient.local.forEach((row, n) => {
    row.forEach((value, index) => {
      const lag = index - lags;
      taps.forEach((w, t) =>
        taps.forEach((v, u) => {
          const distance = stride * lag + u - t;
          local[mod(stride * n + t - padding, local.length)]![wide + distance]! += w * v * value;
        }),
      );
    });
  });
  return { local };
}

/** Back through one layer. */
export function back(gradient: Gradient, layer: Strided): Gradient {
  switch (layer.kind) {
    case "conv":
      return convolution(gradient, layer);
    case "max": {
      // every position of a window is equally likely to win; the winners of different windows are taken as unrelated
      const flat = { local: squares(gradient).map((v) => [v / layer.kernel]) };
      return convolution(flat, { ...layer, dilation: 1 });
    }
    case "average":
      return filtered(gradient, new Array<number>(layer.kernel).fill(1 / layer.kernel), layer.stride, layer.padding);
    case "blur":
      return filtered(gradient, layer.taps, layer.stride, layer.padding);
  }
}

export interface InputGradient {
  squares: number[]; // by phase, relative to their mean
  unevenness: number; // on one axis
  dead: number; // share of positions without any, on one axis
}

/** The expected squared gradient at the input of a stack, layers in forward order. */
export function inputGradient(layers: readonly Strided[]): InputGradient {
  const raw = squares([...layers].reverse().reduce(back, white()));
  const mean = raw.reduce((a, b) => a + b, 0) / raw.length;
  const values = raw.map((v) => (mean > 0 ? v / mean : 0));
  const clean = values.map((v) => (v < 1e-12 ? 0 : v));
  return { squares: clean, unevenness: ratio(clean), dead: clean.filter((v) => v === 0).length / clean.length };
}

/** Sums and sums of squares of a filter's taps by phase: the mean and the squared gradient it hands back. */
export function phaseSums(taps: readonly number[], stride: number): { sums: number[]; squares: number[] } {
  const sums = new Array<number>(stride).fill(0);
  const squared = new Array<number>(stride).fill(0);
  taps.forEach((h, t) => {
    sums[t % stride]! += h;
    squared[t % stride]! += h * h;
  });
  return { sums, squares: squared };
}
