/**
 * What an untrained network does to a constant, in closed form: independent zero-mean weights, zero biases, wide layers.
 *
 * A field repeats with its `cell`, and its second moments with a `step` that divides the cell: 1 as long as strides divide
 * kernels, for then every position is like every other. So one axis is held as E[x[n] x[n + l]] at entry n cell + l, for n
 * below the step and the lag l below the cell: a step-th of all pairs. Every layer is a sparse linear map of these entries,
 * and acts on one axis after the other: in the plane the entries are a matrix, axis 0 down, axis 1 across.
 */
import { mod } from "./overlap";
import type { Taps } from "./resize";

export interface Field {
  axes: 1 | 2;
  cell: number;
  step: number;
  second: Float64Array;
}

/** Convolutions in series inside a residual block, an activation before each, added to what goes in. */
export interface Unit {
  kernel: number;
  dilations: readonly number[];
}

/**
 * A layer of a stack; `equal` convolutions have all weights alike, the others independent random ones. A residual layer is
 * the mean of its branches, each of which adds its units one after the other.
 */
export type Layer =
  | { kind: "transposed"; kernel: number; stride: number; padding: number; dilation: number }
  | { kind: "subpixel"; kernel: number; stride: number }
  | { kind: "resize"; taps: readonly Taps[] }
  | { kind: "conv"; kernel: number; padding: number; dilation: number; equal: boolean }
  | { kind: "residual"; branches: readonly (readonly Unit[])[] };

/** Whether a layer has independent random weights of its own. */
export const isRandom = (layer: Layer): boolean => layer.kind !== "resize" && !(layer.kind === "conv" && layer.equal);

/** One term of a layer along one axis: entry (i, q) is added to entry (n, l), times a weight. */
type Visit = (i: number, q: number, n: number, l: number, weight: number) => void;

/** A constant of random colour. */
export const colour = (axes: 1 | 2): Field => ({ axes, cell: 1, step: 1, second: new Float64Array([1]) });

/** How much a layer enlarges the period cell. */
export function growth(layer: Layer): number {
  if (layer.kind === "resize") return layer.taps.length;
  return layer.kind === "conv" || layer.kind === "residual" ? 1 : layer.stride;
}

interface Spread {
  kernel: number;
  stride: number;
  padding: number;
  dilation: number;
}

/** Zero insertion and independent weights: equal taps only, so that different phases become independent. */
function spread({ cell, step }: Field, { kernel, stride, padding, dilation }: Spread, visit: Visit): void {
  for (let n = 0; n < step * stride; n++) {
    for (let t = 0; t < kernel; t++) {
      const place = n + padding - dilation * t;
      if (mod(place, stride)) continue;
      const i = mod(place / stride, step);
      for (let q = 0; q < cell; q++) visit(i, q, n, stride * q, 1 / kernel);
    }
  }
}

/** A fixed filter: `row(n)` lists the (input, weight) pairs of output n, `scale` outputs per input. */
function fixed({ cell, step }: Field, scale: number, row: (n: number) => Taps, visit: Visit): void {
  const rows = Array.from({ length: (cell + step) * scale }, (_, n) => row(n));
  for (let n = 0; n < step * scale; n++) {
    for (let l = 0; l < cell * scale; l++) {
      for (const [i, v] of rows[n]!)
        for (const [j, w] of rows[n + l]!) visit(mod(i, step), mod(j - i, cell), n, l, v * w);
    }
  }
}

/** Every term of a layer along one axis. */
function terms(layer: Exclude<Layer, { kind: "residual" }>, field: Field, visit: Visit): void {
  switch (layer.kind) {
    case "transposed":
      return spread(field, layer, visit);
    case "subpixel": // behind its convolution: one channel per phase
      return spread(field, { kernel: layer.stride, stride: layer.stride, padding: 0, dilation: 1 }, visit);
    case "resize": {
      const scale = layer.taps.length;
      const row = (n: number): Taps =>
        layer.taps[n % scale]!.map(([offset, w]) => [Math.floor(n / scale) + offset, w] as const);
      return fixed(field, scale, row, visit);
    }
    case "conv": {
      const offsets = Array.from({ length: layer.kernel }, (_, t) => layer.dilation * t - layer.padding);
      if (layer.equal) {
        return fixed(field, 1, (n) => offsets.map((o) => [n + o, 1 / layer.kernel] as const), visit);
      }
      for (const o of offsets) {
        for (let n = 0; n < field.step; n++) {
          for (let l = 0; l < field.cell; l++) visit(mod(n + o, field.step), l, n, l, 1 / layer.kernel);
        }
      }
    }
  }
}

/** One axis after the other. */
function move(field: Field, layer: Exclude<Layer, { kind: "residual" }>): Field {
  const { axes, cell, step, second: given } = field;
  const scale = growth(layer);
  const [side, wide] = [cell * step, cell * scale];
  const most = wide * step * scale;
  const [from, to, weights]: [number[], number[], number[]] = [[], [], []];
  terms(layer, field, (i, q, n, l, weight) => {
    from.push(i * cell + q);
    to.push(n * wide + l);
    weights.push(weight);
  });
  // axis 0: whole rows of what was given, one after the other
  const row = axes === 1 ? 1 : side;
  const half = new Float64Array(most * row);
  weights.forEach((weight, term) => {
    const [source, target] = [from[term]! * row, to[term]! * row];
    for (let x = 0; x < row; x++) half[target + x]! += weight * given[source + x]!;
  });
  if (axes === 1) return shortened({ axes, cell: wide, step: step * scale, second: half });
  const second = new Float64Array(most * most);
  for (let y = 0; y < most; y++) {
    for (let term = 0; term < weights.length; term++) {
      second[y * most + to[term]!]! += weights[term]! * half[y * side + from[term]!]!;
    }
  }
  return shortened({ axes, cell: wide, step: step * scale, second });
}

/** The same field with the smallest step that holds it, to twelve digits. All layers treat both axes alike. */
function shortened(field: Field): Field {
  const { axes, cell, step, second } = field;
  const side = cell * step;
  const rows = axes === 1 ? 1 : side;
  let largest = 0;
  for (const v of second) if (Math.abs(v) > largest) largest = Math.abs(v);
  const fine = 1e-12 * largest;
  const holds = (short: number): boolean => {
    for (let y = 0; y < rows; y++) {
      for (let x = short * cell; x < side; x++) {
        if (Math.abs(second[y * side + x]! - second[y * side + (x % (short * cell))]!) > fine) return false;
      }
    }
    return true;
  };
  for (let short = 1; short < step; short++) {
    if (step % short || !holds(short)) continue;
    const kept = short * cell;
    const fewer = Float64Array.from({ length: kept ** axes }, (_, n) =>
      axes === 1 ? second[n]! : second[Math.floor(n / kept) * side + (n % kept)]!,
    );
    return { axes, cell, step: short, second: fewer };
  }
  return field;
}

/** A layer's output. Layers with weights of their own are scaled to mean second moment 1, as inside residual blocks. */
export function apply(layer: Layer, field: Field, slope: number | null = null): Field {
  if (layer.kind === "residual") return residual(layer.branches, field, slope);
  let moved = field;
  if (layer.kind === "subpixel") {
    moved = apply({ kind: "conv", kernel: layer.kernel, padding: 0, dilation: 1, equal: false }, moved);
  }
  // where every position is like every other, the mean over a convolution's taps changes nothing
  const alike = field.step === 1 && layer.kind === "conv" && !layer.equal;
  if (!alike) moved = move(moved, layer);
  if (!isRandom(layer)) return moved;
  const values = powers(moved);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return mean > 0 ? { ...moved, second: moved.second.map((v) => v / mean) } : moved;
}

/** Every unit ends in weights of its own, independent of what they are added to: second moments add. */
function residual(branches: readonly (readonly Unit[])[], field: Field, slope: number | null): Field {
  const total = Float64Array.from(field.second);
  for (const units of branches) {
    let sum = field;
    for (const { kernel, dilations } of units) {
      let inside = sum;
      for (const dilation of dilations) {
        const active = slope === null ? inside : leaky(inside, slope);
        const padding = Math.floor((dilation * (kernel - 1)) / 2);
        inside = apply({ kind: "conv", kernel, padding, dilation, equal: false }, active);
      }
      const added = spelled(inside, field.step);
      sum = { ...field, second: sum.second.map((v, n) => v + added[n]!) };
      added.forEach((v, n) => (total[n]! += v / branches.length ** 2));
    }
  }
  return shortened({ ...field, second: total });
}

/** A field's moments written with a larger step, of which its own is a divisor. */
function spelled({ axes, cell, step, second }: Field, larger: number): Float64Array {
  const [side, kept] = [larger * cell, step * cell];
  if (side === kept) return second;
  return Float64Array.from({ length: side ** axes }, (_, n) =>
    axes === 1 ? second[n % kept]! : second[(Math.floor(n / side) % kept) * kept + ((n % side) % kept)]!,
  );
}

/** Whether the next weights of a stack, from layer `index` on, are a residual block's: those bend before each of them. */
export const bendsInside = (layers: readonly Layer[], index: number): boolean =>
  layers.slice(index).find(isRandom)?.kind === "residual";

/** Layer number `index` of a stack: the activation, behind weights and where the next ones do not bend, then the layer. */
export function advance(layers: readonly Layer[], index: number, field: Field, slope: number | null): Field {
  const bent = slope !== null && index > 0 && isRandom(layers[index - 1]!) && !bendsInside(layers, index);
  return apply(layers[index]!, bent ? leaky(field, slope) : field, slope);
}

/** Calls back for every entry with the two positions, in a cell's step, whose product it holds. */
function pairs({ axes, cell, step }: Field, visit: (entry: number, n: number, m: number) => void): void {
  const side = cell * step;
  for (let y = 0; y < (axes === 1 ? 1 : side); y++) {
    const [own, other] = axes === 1 ? [0, 0] : [Math.floor(y / cell), (Math.floor(y / cell) + (y % cell)) % step];
    for (let n = 0; n < step; n++) {
      for (let l = 0; l < cell; l++) {
        visit(y * side + n * cell + l, own * step + n, other * step + ((n + l) % step));
      }
    }
  }
}

/** ReLU with a slope below zero, on a zero-mean Gaussian field (Cho and Saul 2009). */
export function leaky(field: Field, slope: number): Field {
  const { acos, sqrt, PI } = Math;
  const given = field.second;
  const deviation = powers(field).map((v) => sqrt(Math.max(v, 0)));
  const second = new Float64Array(given.length);
  const bend = (1 - slope) ** 2 / (2 * PI);
  // neighbours often have the same correlation: its two functions are kept from one entry to the next
  let [known, arc] = [0, 1];
  pairs(field, (entry, n, m) => {
    const scale = deviation[n]! * deviation[m]!;
    let cosine = scale > 0 ? given[entry]! / scale : 0;
    cosine = cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
    if (cosine !== known) {
      known = cosine;
      arc = sqrt(1 - cosine * cosine) + (PI - acos(cosine)) * cosine;
    }
    second[entry] = scale * (bend * arc + slope * cosine);
  });
  return { ...field, second };
}

/** The same field on a cell of one position, where it is the same constant everywhere. */
export function collapsed(field: Field): Field {
  const first = field.second[0]!;
  const constant = field.step === 1 && field.second.every((v) => Math.abs(v - first) <= 1e-12 * Math.abs(first));
  return constant ? { ...field, cell: 1, second: new Float64Array([first]) } : field;
}

/** Variance at every position of a step. */
export function powers({ axes, cell, step, second }: Field): Float64Array {
  const side = cell * step;
  return Float64Array.from({ length: step ** axes }, (_, n) =>
    axes === 1 ? second[n * cell]! : second[Math.floor(n / step) * cell * side + (n % step) * cell]!,
  );
}

/** Covariance of all positions of a cell with each other. */
export function covariance({ axes, cell, step, second }: Field): Float64Array {
  const [size, side] = [cell ** axes, cell * step];
  return Float64Array.from({ length: size * size }, (_, entry) => {
    const [a, b] = [Math.floor(entry / size), entry % size];
    const place = (n: number, m: number): number => (n % step) * cell + mod(m - n, cell);
    if (axes === 1) return second[place(a, b)]!;
    return second[place(Math.floor(a / cell), Math.floor(b / cell)) * side + place(a % cell, b % cell)]!;
  });
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
