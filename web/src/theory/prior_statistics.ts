/** What is told of a field before training: variance map, share of the pattern, spectrum; and what draws of it need. */
import { ratio } from "./overlap";
import { powers, type Field } from "./prior";
import { linePeriod } from "./support";

export interface Statistics {
  axes: 1 | 2;
  cell: number;
  unevenness: number; // largest over smallest variance
  acFraction: number; // share of the power that is a pattern
  variance: Float64Array; // relative to its mean
  power: Float64Array; // per frequency of the cell, DC first, sums to 1
}

/** Sums over pairs of equal distance, for every distance within a cell. */
function autocorrelation({ axes, cell, step, second }: Field): Float64Array {
  const side = cell * step;
  const repeats = (cell / step) ** axes;
  const lags = new Float64Array(cell ** axes);
  const rows = axes === 1 ? 1 : side;
  for (let y = 0; y < rows; y++) {
    const lag = axes === 1 ? 0 : (y % cell) * cell;
    for (let x = 0; x < side; x++) lags[lag + (x % cell)]! += repeats * second[y * side + x]!;
  }
  return lags;
}

/** Expected power at every frequency: the Fourier transform of the sums over pairs of equal distance. */
function spectrum(field: Field): Float64Array {
  const { axes, cell } = field;
  const size = cell ** axes;
  const rows = size / cell;
  const lags = autocorrelation(field);
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
  const own = powers(field);
  const variance = Float64Array.from({ length: field.cell ** field.axes }, (_, n) => {
    const [y, x] = field.axes === 1 ? [0, n] : [Math.floor(n / field.cell), n % field.cell];
    return own[(y % field.step) * field.step + (x % field.step)]!;
  });
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
