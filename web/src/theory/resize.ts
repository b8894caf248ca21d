/** Interpolation by a whole factor, one axis: for every phase the taps (offset in inputs, weight). */

export type Taps = readonly (readonly [offset: number, weight: number])[];
export type Interpolation = "nearest" | "linear" | "cubic";

const CUBIC = -0.75; // Keys (1981), PyTorch's parameter

function keys(t: number): number {
  t = Math.abs(t);
  if (t <= 1) return (CUBIC + 2) * t ** 3 - (CUBIC + 3) * t ** 2 + 1;
  return t < 2 ? CUBIC * (t ** 3 - 5 * t ** 2 + 8 * t - 4) : 0;
}

/** Taps of every phase, half-pixel centres: output `s q + r` is the sum of `weight x[q + offset]`. */
export function interpolation(scale: number, mode: Interpolation): Taps[] {
  return Array.from({ length: scale }, (_, r) => {
    if (mode === "nearest") return [[0, 1]] as Taps;
    // (r + 1/2) / s - 1/2 over 2 s: whole numbers, so that ties fall where the definition puts them
    const numerator = 2 * r + 1 - scale;
    const position = numerator / (2 * scale);
    const reach = mode === "linear" ? 1 : 2;
    const taps: [number, number][] = [];
    for (let j = Math.floor(position - reach); j <= Math.ceil(position + reach); j++) {
      const t = (2 * scale * j - numerator) / (2 * scale);
      const weight = mode === "linear" ? Math.max(0, 1 - Math.abs(t)) : keys(t);
      if (weight !== 0) taps.push([j, weight]);
    }
    const total = taps.reduce((a, [, w]) => a + w, 0);
    return taps.map(([j, w]) => [j, w / total] as const);
  });
}

/** Taps of every phase of zero insertion by `scale` and a FIR, centred, each phase with gain 1 if the FIR is balanced. */
export function firTaps(fir: readonly number[], scale: number): Taps[] {
  const total = fir.reduce((a, b) => a + b, 0) / scale;
  const origin = Math.floor((fir.length - scale + 1) / 2);
  return Array.from({ length: scale }, (_, r) => {
    const taps: [number, number][] = [];
    // y[n] = sum of h[m] x[(n + origin - m) / s]
    for (let m = fir.length - 1; m >= 0; m--) {
      const offset = (r + origin - m) / scale;
      if (Number.isInteger(offset)) taps.push([offset, fir[m]! / total]);
    }
    return taps;
  });
}

/** FIR of an interpolation: `h` with `y[n] = sum of h[n - s i] x[i]`, and where n - s i = 0 stands in it. */
export function firOf(taps: readonly Taps[]): { fir: number[]; origin: number } {
  const scale = taps.length;
  const places: [number, number][] = taps.flatMap((phase, r) =>
    phase.map(([offset, weight]) => [r - scale * offset, weight] as [number, number]),
  );
  const low = Math.min(...places.map(([n]) => n));
  const high = Math.max(...places.map(([n]) => n));
  const fir = new Array<number>(high - low + 1).fill(0);
  for (const [n, weight] of places) fir[n - low]! += weight;
  return { fir, origin: -low };
}

/** The fold: interpolation with the FIR `h`, then the convolution `w`, as one kernel `f[m] = sum of w[t] h[m - (k-1) + t]`. */
export function fold(weights: readonly number[], fir: readonly number[]): number[] {
  const k = weights.length;
  const folded = new Array<number>(k - 1 + fir.length).fill(0);
  weights.forEach((w, t) => fir.forEach((h, j) => (folded[j + k - 1 - t]! += w * h)));
  return folded;
}
