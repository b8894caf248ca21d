/** Which frequencies a 1-D field can contain: the composition laws of periods. */
import { gcd, lcm } from "./overlap";

/** A support: `support[a]` says whether frequency a / P may be present; 0 always may. */
export type Support = readonly boolean[];

const ZERO = 1e-5; // a response below this share of the DC response counts as zero

/** The smallest period that holds every present frequency. */
export function period(support: Support): number {
  const common = support.reduce((step, here, a) => (here ? gcd(step, a) : step), support.length);
  return support.length / common;
}

/** Zero insertion by `stride`: frequency f appears at every (f + j) / s. */
export function upsample(support: Support, stride: number): boolean[] {
  return Array.from({ length: support.length * stride }, (_, a) => support[a % support.length]!);
}

/** Keeping every s-th sample: frequency f folds to s f mod 1. */
export function downsample(support: Support, stride: number): boolean[] {
  const size = support.length;
  const folded = new Array<boolean>(size / gcd(size, stride)).fill(false);
  support.forEach((here, a) => {
    if (here) folded[((stride / gcd(size, stride)) * a) % folded.length] = true;
  });
  return folded;
}

/** What a filter leaves of a support: the frequencies where its response does not vanish. */
export function present(weights: readonly number[], support: Support): boolean[] {
  const size = support.length;
  const power = support.map((_, a) => {
    let re = 0;
    let im = 0;
    weights.forEach((w, t) => {
      const angle = (-2 * Math.PI * ((a * t) % size)) / size;
      re += w * Math.cos(angle);
      im += w * Math.sin(angle);
    });
    return re * re + im * im;
  });
  const energy = weights.reduce((sum, w) => sum + w * w, 0);
  const reference = power[0]! <= ZERO ** 2 * energy ? energy : power[0]!;
  return support.map((here, a) => a === 0 || (here && power[a]! > ZERO ** 2 * reference));
}

/** What a non-linear function of such a field may contain: all sums and differences, on the smallest cell. */
export function generated(support: Support): boolean[] {
  return new Array<boolean>(period(support)).fill(true);
}

/** Period after a transposed convolution or shuffle, a resize, a strided convolution or pooling. */
export const periodAfter = {
  transposed: (before: number, stride: number): number => before * stride,
  resize: (before: number, scale: number): number => (before === 1 ? 1 : before * scale),
  strided: (before: number, stride: number): number => lcm(before, stride) / stride,
};

/** The period of every line a / P: the smallest p with p a / P whole. */
export const linePeriod = (a: number, size: number): number => size / gcd(a, size);
