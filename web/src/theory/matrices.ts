/** Up-sampling layers on one axis as matrices whose entries are sums of weights. */
import { strokes } from "./overlap";
import { firOf, fold, interpolation, type Interpolation } from "./resize";

/** Part of an entry: `coefficient` times weight number `weight`. */
export interface Share {
  weight: number;
  coefficient: number;
}

export interface Tied {
  rows: number;
  columns: number;
  weights: number; // number of free weights
  entries: Map<number, Share[]>; // by row * columns + column
}

/** A transposed convolution whose tap t is made of `taps[t]`, without padding. */
function banded(size: number, stride: number, taps: readonly Share[][], weights: number): Tied {
  const rows = stride * (size - 1) + taps.length;
  const entries = new Map<number, Share[]>();
  for (const { i, t, n } of strokes({ size, kernel: taps.length, stride, padding: 0, dilation: 1, outputPadding: 0 })) {
    if (taps[t]!.length) entries.set(n * size + i, taps[t]!);
  }
  return { rows, columns: size, weights, entries };
}

/** A transposed convolution: one free weight per tap. */
export function transposedMatrix(size: number, kernel: number, stride: number): Tied {
  const taps = Array.from({ length: kernel }, (_, t) => [{ weight: t, coefficient: 1 }]);
  return banded(size, stride, taps, kernel);
}

/** A sub-pixel convolution of `kernel` taps per phase: a transposed convolution with `kernel * stride` taps. */
export function subpixelMatrix(size: number, kernel: number, stride: number): Tied {
  return transposedMatrix(size, kernel * stride, stride);
}

/** Interpolation, then a convolution: tied taps (the fold). */
export function resizeMatrix(size: number, kernel: number, stride: number, mode: Interpolation): Tied {
  const { fir } = firOf(interpolation(stride, mode));
  const columns = Array.from({ length: kernel }, (_, t) =>
    fold(
      Array.from({ length: kernel }, (_, u) => (u === t ? 1 : 0)),
      fir,
    ),
  );
  const taps = Array.from({ length: columns[0]!.length }, (_, m) =>
    columns.flatMap((column, t) => (Math.abs(column[m]!) > 1e-12 ? [{ weight: t, coefficient: column[m]! }] : [])),
  );
  return banded(size, stride, taps, kernel);
}

/** Value of an entry. */
export const valueOf = (shares: readonly Share[], weights: readonly number[]): number =>
  shares.reduce((total, { weight, coefficient }) => total + coefficient * weights[weight]!, 0);

/** Sum of every row: what becomes of the constant 1. */
export function rowSums(matrix: Tied, weights: readonly number[]): number[] {
  const sums = new Array<number>(matrix.rows).fill(0);
  for (const [place, shares] of matrix.entries) sums[Math.floor(place / matrix.columns)]! += valueOf(shares, weights);
  return sums;
}
