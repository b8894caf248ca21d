/**
 * What an untrained network does to a constant, in closed form: independent zero-mean weights, zero biases, wide layers.
 *
 * `second[n, m] = E[x[n] x[m]]` between the positions of one period cell. Every layer acts on one axis after the other, so
 * a layer is a list of steps per axis: entry (i, j) is added to entry (n, m) with a weight.
 */
import { linePeriod } from "./support";
import { mod, ratio } from "./overlap";
import type { Taps } from "./resize";

export interface Field {
  axes: 1 | 2;
  cell: number;
  second: Float64Array;
}

/** A layer of a stack; `equal` convolutions have all weights alike, the others independent random ones. */
export type Layer =
  | { kind: "transposed"; kernel: number; stride: number; padding: number; dilation: number }
  | { kind: "subpixel"; kernel: number; stride: number }
  | { kind: "resize"; taps: readonly Taps[] }
  | { kind: "conv"; kernel: number; padding: number; dilation: number; equal: boolean };

/** Whether a layer has independent random weights of its own. */
export const isRandom = (layer: Layer): boolean => layer.kind !== "resize" && !(layer.kind === "conv" && layer.equal);

/** One step of a layer along one axis: entry (i, j) is added to entry (n, m), times a weight. */
type Visit = (i: number, j: number, n: number, m: number, weight: number) => void;

/** A constant of random colour. */
export const colour = (axes: 1 | 2): Field => ({ axes, cell: 1, second: new Float64Array([1]) });

/** How much a layer enlarges the period cell. */
export function growth(layer: Layer): number {
  if (layer.kind === "resize") return layer.taps.length;
  return layer.kind === "conv" ? 1 : layer.stride;
}

/** Independent weights: equal taps only, so that different phases become independent. */
function spread(cell: number, kernel: number, stride: number, padding: number, dilation: number, visit: Visit): void {
  const size = cell * stride;
  for (let t = 0; t < kernel; t++) {
    const place = mod(dilation * t - padding, size);
    for (let i = 0; i < cell; i++) {
      const n = (stride * i + place) % size;
      for (let j = 0; j < cell; j++) visit(i, j, n, (stride * j + place) % size, 1 / kernel);
    }
  }
}

/** A fixed filter: `rows[n]` lists the (input, weight) pairs of output n. */
function fixed(cell: number, rows: readonly Taps[], visit: Visit): void {
  const inside = rows.map((taps) => taps.map(([offset, weight]) => [mod(offset, cell), weight] as const));
  inside.forEach((first, n) =>
    inside.forEach((later, m) => {
      for (const [i, v] of first) for (const [j, w] of later) visit(i, j, n, m, v * w);
    }),
  );
}

/** Every step of a layer along one axis of a cell. */
function steps(layer: Layer, cell: number, visit: Visit): void {
  switch (layer.kind) {
    case "transposed":
      return spread(cell, layer.kernel, layer.stride, layer.padding, layer.dilation, visit);
    case "subpixel": // behind its convolution: one channel per phase
      return spread(cell, layer.stride, layer.stride, 0, 1, visit);
    case "resize": {
      const scale = layer.taps.length;
      const row = (n: number): Taps =>
        layer.taps[n % scale]!.map(([offset, w]) => [Math.floor(n / scale) + offset, w] as const);
      return fixed(
        cell,
        Array.from({ length: scale * cell }, (_, n) => row(n)),
        visit,
      );
    }
    case "conv": {
      const offsets = Array.from({ length: layer.kernel }, (_, t) => mod(layer.dilation * t - layer.padding, cell));
      if (layer.equal) {
        const row = (n: number): Taps => offsets.map((o) => [n + o, 1 / layer.kernel] as const);
        return fixed(
          cell,
          Array.from({ length: cell }, (_, n) => row(n)),
          visit,
        );
      }
      for (const o of offsets) {
        for (let n = 0; n < cell; n++) {
          const i = (n + o) % cell;
          for (let m = 0; m < cell; m++) visit(i, (m + o) % cell, n, m, 1 / layer.kernel);
        }
      }
    }
  }
}

/** One axis after the other. */
function move(field: Field, layer: Layer): Field {
  const { axes, cell, second: given } = field;
  const size = cell * growth(layer);
  if (axes === 1) {
    const second = new Float64Array(size * size);
    steps(layer, cell, (i, j, n, m, weight) => {
      second[n * size + m]! += weight * given[i * cell + j]!;
    });
    return { axes, cell: size, second };
  }
  // axis 0: [i, y, j, x] -> [n, y, m, x]
  const half = new Float64Array(size * cell * size * cell);
  steps(layer, cell, (i, j, n, m, weight) => {
    for (let y = 0; y < cell; y++) {
      const source = ((i * cell + y) * cell + j) * cell;
      const target = ((n * cell + y) * size + m) * cell;
      for (let x = 0; x < cell; x++) half[target + x]! += weight * given[source + x]!;
    }
  });
  // axis 1: [a, i, b, j] -> [a, n, b, m]
  const second = new Float64Array(size ** 4);
  steps(layer, cell, (i, j, n, m, weight) => {
    for (let a = 0; a < size; a++) {
      const source = (a * cell + i) * size * cell + j;
      const target = (a * size + n) * size * size + m;
      for (let b = 0; b < size; b++) second[target + b * size]! += weight * half[source + b * cell]!;
    }
  });
  return { axes, cell: size, second };
}

/** A layer's output. Layers with weights of their own are scaled to mean second moment 1. */
export function apply(layer: Layer, field: Field): Field {
  let moved = field;
  if (layer.kind === "subpixel") {
    moved = move(moved, { kind: "conv", kernel: layer.kernel, padding: 0, dilation: 1, equal: false });
  }
  moved = move(moved, layer);
  if (!isRandom(layer)) return moved;
  const values = diagonal(moved);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  if (mean > 0) for (let n = 0; n < moved.second.length; n++) moved.second[n]! /= mean;
  return moved;
}

/** ReLU with a slope below zero, on a zero-mean Gaussian field (Cho and Saul 2009). */
export function leaky(field: Field, slope: number): Field {
  const { acos, sqrt, PI } = Math;
  const given = field.second;
  const deviation = diagonal(field).map((v) => sqrt(Math.max(v, 0)));
  const size = deviation.length;
  const second = new Float64Array(given.length);
  const bend = (1 - slope) ** 2 / (2 * PI);
  // neighbours often have the same correlation: its two functions are kept from one entry to the next
  let [known, arc] = [0, 1];
  for (let n = 0; n < size; n++) {
    const own = deviation[n]!;
    for (let m = 0; m <= n; m++) {
      const scale = own * deviation[m]!;
      let cosine = scale > 0 ? given[n * size + m]! / scale : 0;
      cosine = cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
      if (cosine !== known) {
        known = cosine;
        arc = sqrt(1 - cosine * cosine) + (PI - acos(cosine)) * cosine;
      }
      second[n * size + m] = second[m * size + n] = scale * (bend * arc + slope * cosine);
    }
  }
  return { ...field, second };
}

/** The same field on a cell of one position, where it is the same constant everywhere. */
export function collapsed(field: Field): Field {
  const first = field.second[0]!;
  const constant = field.second.every((v) => Math.abs(v - first) <= 1e-12 * Math.abs(first));
  return constant ? { ...field, cell: 1, second: new Float64Array([first]) } : field;
}

/** Variance at every position of the cell. */
export function diagonal(field: Field): Float64Array {
  const size = field.cell ** field.axes;
  return Float64Array.from({ length: size }, (_, n) => field.second[n * size + n]!);
}

export interface Statistics {
  axes: 1 | 2;
  cell: number;
  unevenness: number; // largest over smallest variance
  acFraction: number; // share of the power that is a pattern
  variance: Float64Array; // relative to its mean
  power: Float64Array; // per frequency of the cell, DC first, sums to 1
}

/** Expected power at every frequency, from the sums over pairs of equal distance. */
function spectrum(field: Field): Float64Array {
  const { axes, cell } = field;
  const size = cell ** axes;
  const rows = size / cell;
  const lags = new Float64Array(size);
  for (let y = 0; y < rows; y++) {
    for (let v = 0; v < rows; v++) {
      const down = mod(y - v, rows) * cell;
      for (let x = 0; x < cell; x++) {
        const from = ((y * cell + x) * rows + v) * cell;
        for (let u = 0; u < cell; u++) lags[down + (x >= u ? x - u : x - u + cell)]! += field.second[from + u]!;
      }
    }
  }
  const cosine = Float64Array.from({ length: cell }, (_, a) => Math.cos((2 * Math.PI * a) / cell));
  const sine = Float64Array.from({ length: cell }, (_, a) => Math.sin((2 * Math.PI * a) / cell));
  const re = new Float64Array(size);
  const im = new Float64Array(size);
  for (let y = 0; y < rows; y++) {
    for (let f = 0; f < cell; f++) {
      for (let x = 0; x < cell; x++) {
        re[y * cell + f]! += lags[y * cell + x]! * cosine[(f * x) % cell]!;
        im[y * cell + f]! -= lags[y * cell + x]! * sine[(f * x) % cell]!;
      }
    }
  }
  const power = new Float64Array(size);
  for (let g = 0; g < rows; g++) {
    for (let f = 0; f < cell; f++) {
      let total = 0;
      for (let y = 0; y < rows; y++) {
        const turn = (g * y) % cell;
        total += re[y * cell + f]! * cosine[turn]! + im[y * cell + f]! * sine[turn]!;
      }
      power[g * cell + f] = Math.max(total, 0) / size ** 2;
    }
  }
  return power;
}

/** Variance map, share of the pattern and power spectrum of a field. */
export function statistics(field: Field): Statistics {
  const variance = diagonal(field);
  const total = variance.reduce((a, b) => a + b, 0) / variance.length;
  if (total <= 0) {
    const power = new Float64Array(variance.length);
    power[0] = 1;
    return { axes: field.axes, cell: field.cell, unevenness: 1, acFraction: 0, variance: variance.fill(1), power };
  }
  const power = spectrum(field).map((p) => p / total);
  const relative = variance.map((v) => v / total);
  const flat = relative.every((v) => Math.abs(v - 1) < 1e-9);
  const ac = 1 - power[0]!;
  return {
    axes: field.axes,
    cell: field.cell,
    unevenness: flat ? 1 : ratio(relative.map((v) => (v < 1e-12 ? 0 : v))),
    acFraction: Math.abs(ac) < 1e-12 ? 0 : ac,
    variance: relative,
    power,
  };
}

/** Two equal axes of a field that is the product of one axis with itself (linear stacks are). */
export function squared(line: Statistics): Statistics {
  const table = (values: Float64Array): Float64Array =>
    Float64Array.from({ length: values.length ** 2 }, (_, n) => {
      return values[Math.floor(n / values.length)]! * values[n % values.length]!;
    });
  const dc = 1 - line.acFraction;
  return {
    axes: 2,
    cell: line.cell,
    unevenness: line.unevenness ** 2,
    acFraction: line.acFraction === 0 ? 0 : 1 - dc * dc,
    variance: table(line.variance),
    power: table(line.power),
  };
}

/** Expected share of the power per period: a line of period 2 is not counted again under 4. */
export function powerByPeriod(statistics: Statistics): Map<number, number> {
  const shares = new Map<number, number>();
  const { cell, axes } = statistics;
  statistics.power.forEach((power, f) => {
    const [a, b] = axes === 1 ? [0, f] : [Math.floor(f / cell), f % cell];
    const [p, q] = [linePeriod(a, cell), linePeriod(b, cell)];
    const period = Math.max(p, q) % Math.min(p, q) === 0 ? Math.max(p, q) : leastCommon(p, q);
    if (period > 1) shares.set(period, (shares.get(period) ?? 0) + power);
  });
  return new Map([...shares].sort(([p], [q]) => p - q));
}

function leastCommon(p: number, q: number): number {
  let m = p;
  while (m % q) m += p;
  return m;
}

/** Lower triangle L with L L' = K for a covariance that may be singular. */
export function root(second: Float64Array, size: number): Float64Array {
  const lower = new Float64Array(size * size);
  for (let n = 0; n < size; n++) {
    for (let m = 0; m <= n; m++) {
      let rest = second[n * size + m]!;
      for (let j = 0; j < m; j++) rest -= lower[n * size + j]! * lower[m * size + j]!;
      if (n === m) lower[n * size + n] = rest > 1e-10 ? Math.sqrt(rest) : 0;
      else lower[n * size + m] = lower[m * size + m]! > 0 ? rest / lower[m * size + m]! : 0;
    }
  }
  return lower;
}

/** Which layer first makes lines of a period: the last one behind which the rest of the stack cannot. */
export function bornAt(layers: readonly Layer[], period: number): number {
  let reach = 1;
  for (let index = layers.length - 1; index >= 0; index--) {
    reach *= growth(layers[index]!);
    if (reach % period === 0) return index;
  }
  return -1;
}
