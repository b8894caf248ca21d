/** Phases of an up-sampling layer: sums of their taps, ripple, freedom, frequency response. */
import { mod, outer, overlapCounts, product } from "./overlap";

/** DC gain of every phase of a 1-D kernel: the sum of the taps t with `d t = r (mod s)`. */
export function dcGains(weights: readonly number[], stride: number, dilation = 1): number[] {
  const gains = new Array<number>(stride).fill(0);
  weights.forEach((w, t) => (gains[(dilation * t) % stride]! += w));
  return gains;
}

/** DC gains of a 2-D kernel, rows first, phases in C order. */
export function dcGains2(weights: readonly (readonly number[])[], stride: number, dilation = 1): number[] {
  const rows = weights.map((row) => dcGains(row, stride, dilation));
  const gains = new Array<number>(stride * stride).fill(0);
  rows.forEach((row, t) => row.forEach((g, r) => (gains[((dilation * t) % stride) * stride + r]! += g)));
  return gains;
}

/** DC gains of a 2-D kernel that is the product of a 1-D kernel with itself. */
export function separableGains(weights: readonly number[], stride: number, dilation = 1): number[] {
  const gains = dcGains(weights, stride, dilation);
  return outer(gains, gains).flat();
}

/** Relative spread of the phases' gains: rms of their differences from the mean, over the size of the mean. */
export function ripple(gains: readonly number[]): number {
  const mean = gains.reduce((a, b) => a + b, 0) / gains.length;
  const spread = Math.sqrt(gains.reduce((a, g) => a + (g - mean) ** 2, 0) / gains.length);
  if (spread === 0) return 0;
  return mean === 0 ? Infinity : spread / Math.abs(mean);
}

/** Degrees of freedom of a kernel per pair of channels. */
export interface Freedom {
  free: number;
  balanced: number;
  resize: number;
}

/** Free kernels, kernels that keep constants constant, and nearest-neighbour resize-convolutions of the same size. */
export function degreesOfFreedom(
  kernel: readonly number[],
  stride: readonly number[],
  dilation: readonly number[] = kernel.map(() => 1),
): Freedom {
  const written = product(
    kernel.map((k, a) => overlapCounts(k, stride[a]!, dilation[a]!).filter((count) => count > 0).length),
  );
  const phases = product(stride);
  const free = product(kernel);
  const fits = stride.every((s, a) => dilation[a] === 1 || s === 1);
  return {
    free,
    balanced: free - (written === phases ? phases - 1 : written),
    resize: fits ? product(kernel.map((k, a) => Math.max(k - stride[a]! + 1, 0))) : 0,
  };
}

/** Size of the frequency response of a 1-D kernel, `|sum of w[t] exp(-2 pi i f d t)|`, f in cycles per output sample. */
export function response(weights: readonly number[], frequency: number, dilation = 1): number {
  let re = 0;
  let im = 0;
  weights.forEach((w, t) => {
    const angle = -2 * Math.PI * frequency * dilation * t;
    re += w * Math.cos(angle);
    im += w * Math.sin(angle);
  });
  return Math.hypot(re, im);
}

/** Taps of one phase of a 1-D kernel. */
export function tapsOfPhase(kernel: number, stride: number, dilation: number, phase: number): number[] {
  return Array.from({ length: kernel }, (_, t) => t).filter((t) => mod(dilation * t - phase, stride) === 0);
}

/** How far a tone stays above its strongest image, in dB; frequency in cycles per input sample. */
export function imageRejection(
  weights: readonly number[],
  stride: number,
  dilation: number,
  frequency: number,
): number {
  const power = Array.from({ length: stride }, (_, j) => response(weights, (frequency + j) / stride, dilation) ** 2);
  const floor = 1e-27 * weights.length * weights.reduce((sum, w) => sum + w * w, 0);
  const heard = power.map((p) => (p < floor ? 0 : p));
  const worst = Math.max(0, ...heard.slice(1));
  return worst === 0 ? Infinity : 10 * Math.log10(heard[0]! / worst);
}
