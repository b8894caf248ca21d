/** The nearest kernel whose phases have equal sums (order 1 of src/evenly/theory/balance.py, in closed form). */
import { dcGains, dcGains2 } from "./phases";
import { overlapCounts } from "./overlap";

/** The common gain of the nearest balanced kernel: the mean of the phases' gains, weighted by 1 / number of taps. */
function commonGain(gains: readonly number[], counts: readonly number[]): number {
  const total = counts.reduce((a, c) => a + 1 / c, 0);
  return gains.reduce((a, g, r) => a + g / counts[r]!, 0) / total;
}

/** Whether a balanced kernel with a gain exists: every phase has a tap. */
export const canBalance = (kernel: number, stride: number, dilation = 1): boolean =>
  overlapCounts(kernel, stride, dilation).every((count) => count > 0);

/** The balanced 1-D kernel nearest to `weights` (least squares); a copy where a phase has no tap. */
export function project(weights: readonly number[], stride: number, dilation = 1): number[] {
  if (!canBalance(weights.length, stride, dilation)) return [...weights];
  const counts = overlapCounts(weights.length, stride, dilation);
  const gains = dcGains(weights, stride, dilation);
  const goal = commonGain(gains, counts);
  return weights.map((w, t) => {
    const r = (dilation * t) % stride;
    return w - (gains[r]! - goal) / counts[r]!;
  });
}

/** The balanced square 2-D kernel nearest to `weights`; a copy where a phase has no tap. */
export function project2(weights: readonly (readonly number[])[], stride: number, dilation = 1): number[][] {
  const size = weights.length;
  if (!canBalance(size, stride, dilation)) return weights.map((row) => [...row]);
  const axis = overlapCounts(size, stride, dilation);
  const counts = axis.flatMap((a) => axis.map((b) => a * b));
  const gains = dcGains2(weights, stride, dilation);
  const goal = commonGain(gains, counts);
  return weights.map((row, y) =>
    row.map((w, x) => {
      const r = ((dilation * y) % stride) * stride + ((dilation * x) % stride);
      return w - (gains[r]! - goal) / counts[r]!;
    }),
  );
}
