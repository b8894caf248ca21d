/** Overlap counts: kernel k, stride s, padding p, dilation d, output padding a (Dumoulin and Visin, arXiv 1603.07285). */

/** Parameters of one axis of a transposed convolution. */
export interface Axis {
  size: number;
  kernel: number;
  stride: number;
  padding: number;
  dilation: number;
  outputPadding: number;
}

/** One stroke of paint: input `i` adds tap `t` to output `n = s i + d t - p`. */
export interface Stroke {
  i: number;
  t: number;
  n: number;
}

export const mod = (a: number, b: number): number => ((a % b) + b) % b;

export function gcd(a: number, b: number): number {
  while (b) [a, b] = [b, a % b];
  return a;
}

export const lcm = (a: number, b: number): number => (a / gcd(a, b)) * b;

export const product = (values: readonly number[]): number => values.reduce((a, b) => a * b, 1);

/** Number of taps that write an interior position, by phase `(n + p) mod s`. */
export function overlapCounts(kernel: number, stride: number, dilation = 1): number[] {
  const counts = new Array<number>(stride).fill(0);
  for (let t = 0; t < kernel; t++) counts[(dilation * t) % stride]! += 1;
  return counts;
}

/** Length of a transposed convolution's output. */
export function outputSize(axis: Axis): number {
  return axis.stride * (axis.size - 1) + axis.dilation * (axis.kernel - 1) + 1 + axis.outputPadding - 2 * axis.padding;
}

/** Every stroke that lands inside the output, in the order in which a loop over inputs and taps paints it. */
export function strokes(axis: Axis): Stroke[] {
  const length = outputSize(axis);
  const made: Stroke[] = [];
  for (let i = 0; i < axis.size; i++) {
    for (let t = 0; t < axis.kernel; t++) {
      const n = axis.stride * i + axis.dilation * t - axis.padding;
      if (n >= 0 && n < length) made.push({ i, t, n });
    }
  }
  return made;
}

/** Number of taps that write each output position, borders included. */
export function overlapMap(axis: Axis): number[] {
  const counts = new Array<number>(Math.max(outputSize(axis), 0)).fill(0);
  for (const stroke of strokes(axis)) counts[stroke.n]! += 1;
  return counts;
}

/** The output itself: `y[n] = sum of w[t] x[i]` over its strokes. */
export function transposed(input: readonly number[], weights: readonly number[], axis: Axis): number[] {
  const output = new Array<number>(Math.max(outputSize(axis), 0)).fill(0);
  for (const { i, t, n } of strokes(axis)) output[n]! += weights[t]! * input[i]!;
  return output;
}

/** Number of outputs of a strided convolution or pooling window that read each input position, borders included. */
export function readMap(size: number, kernel: number, stride: number, padding = 0, dilation = 1): number[] {
  const counts = new Array<number>(size).fill(0);
  const outputs = Math.floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1;
  for (let n = 0; n < outputs; n++) {
    for (let t = 0; t < kernel; t++) {
      const m = stride * n + dilation * t - padding;
      if (m >= 0 && m < size) counts[m]! += 1;
    }
  }
  return counts;
}

/** Largest over smallest of non-negative numbers: Infinity if some are zero, 1 if all are. */
export function ratio(counts: ArrayLike<number>): number {
  let low = Infinity;
  let high = 0;
  for (let i = 0; i < counts.length; i++) {
    low = Math.min(low, counts[i]!);
    high = Math.max(high, counts[i]!);
  }
  if (high === 0) return 1;
  return low > 0 ? high / low : Infinity;
}

/** Largest over smallest overlap count over the interior phases, all axes together. */
export function unevenness(kernel: readonly number[], stride: readonly number[], dilation?: readonly number[]): number {
  return product(kernel.map((k, axis) => ratio(overlapCounts(k, stride[axis]!, dilation?.[axis] ?? 1))));
}

/** Table of the products of two axes' values: rows of the first, columns of the second. */
export function outer(rows: readonly number[], columns: readonly number[]): number[][] {
  return rows.map((a) => columns.map((b) => a * b));
}
