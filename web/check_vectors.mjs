// Compares the functions in the shipped page with what evenly.theory says (vectors.json). Needs nothing but node.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import vm from "node:vm";

const here = import.meta.dirname;
const page = process.argv[2] ?? join(here, "..", "src", "evenly", "explore", "page.html");
const script = /<script[^>]*>([\s\S]*?)<\/script>/.exec(readFileSync(page, "utf8"));
if (!script) throw new Error(`${page} has no script`);
// Without a document the page only offers its theory.
const sandbox = { console };
vm.createContext(sandbox);
vm.runInContext(script[1], sandbox);
const theory = sandbox.evenlyTheory;
const vectors = JSON.parse(readFileSync(join(here, "vectors.json"), "utf8"));

const number = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);

/** Where two values differ by more than rounding, or null. */
function difference(found, expected, where, tolerance) {
  expected = number(expected);
  if (expected !== null && typeof expected === "object") {
    const keys = Object.keys(expected);
    if (Array.isArray(expected) && found.length !== expected.length) {
      return `${where}: ${found.length} entries, expected ${expected.length}`;
    }
    for (const key of keys) {
      const one = difference(found[key], expected[key], `${where}.${key}`, tolerance);
      if (one) return one;
    }
    return null;
  }
  if (found === expected) return null;
  const close = Math.abs(found - expected) <= tolerance * Math.max(1, Math.abs(expected));
  return close ? null : `${where}: ${found}, expected ${expected}`;
}

function layerOf(given) {
  if (given.kind === "fir") return { kind: "resize", taps: theory.firTaps(given.fir, given.scale) };
  if (given.kind === "interpolation") return { kind: "resize", taps: theory.interpolation(given.scale, given.mode) };
  return given;
}

function stack(axes, slope, layers) {
  let field = theory.colour(axes);
  for (const index of layers.keys()) field = theory.advance(layers, index, field, slope);
  return theory.statistics(field);
}

const answers = {
  interpolation: (v) => [{ taps: theory.interpolation(v.scale, v.mode) }],
  overlap: ({ axis: a }) => [
    {
      counts: theory.overlapCounts(a.kernel, a.stride, a.dilation),
      map: theory.overlapMap(a),
      ratio: theory.ratio(theory.overlapCounts(a.kernel, a.stride, a.dilation)),
      plane: theory.unevenness([a.kernel, a.kernel], [a.stride, a.stride], [a.dilation, a.dilation]),
    },
  ],
  read: (v) => [{ map: theory.readMap(v.size, v.kernel, v.stride, v.padding, v.dilation) }],
  freedom: (v) => [theory.degreesOfFreedom(v.kernel, v.stride, v.dilation)],
  kernel: (v) => {
    const gains = theory.dcGains(v.weights, v.stride, v.dilation);
    const projected = theory.canBalance(v.weights.length, v.stride, v.dilation)
      ? theory.project(v.weights, v.stride, v.dilation)
      : null;
    const rejection = v.frequencies.map((f) => theory.imageRejection(v.weights, v.stride, v.dilation, f));
    return [{ gains, ripple: theory.ripple(gains), projected, rejection }];
  },
  plane: (v) => {
    const gains = theory.dcGains2(v.weights, v.stride, v.dilation);
    const projected = theory.canBalance(v.weights.length, v.stride, v.dilation)
      ? theory.project2(v.weights, v.stride, v.dilation)
      : null;
    return [{ gains, ripple: theory.ripple(gains), projected }];
  },
  fold: (v) => [{ folded: theory.fold(v.weights, theory.firOf(theory.interpolation(v.scale, v.mode)).fir) }],
  support: (v) => [
    {
      period: theory.period(v.support),
      upsampled: theory.upsample(v.support, v.stride),
      downsampled: theory.downsample(v.support, v.stride),
      present: theory.present(v.weights, v.support),
      generated: theory.generated(v.support),
    },
  ],
  stack: (v) => {
    const layers = v.layers.map(layerOf);
    const direct = stack(v.axes, v.slope, layers);
    // without activations and sums two axes are one axis times itself
    const product = v.axes === 2 && v.slope === null && layers.every((layer) => layer.kind !== "residual");
    return product ? [direct, theory.squared(stack(1, null, layers))] : [direct];
  },
  gradient: (v) => [theory.inputGradient(v.layers)],
};

let count = 0;
const failures = [];
for (const [family, cases] of Object.entries(vectors)) {
  cases.forEach((given, index) => {
    for (const found of answers[family](given)) {
      const expected = Object.fromEntries(Object.entries(given).filter(([key]) => key in found));
      if (!Object.keys(expected).length) throw new Error(`${family}: nothing is compared`);
      const wrong = difference(found, expected, `${family}[${index}]`, 1e-8);
      if (wrong) failures.push(wrong);
    }
    count += 1;
  });
}
for (const failure of failures.slice(0, 20)) console.log(failure);
console.log(`${count} cases, ${failures.length} differences`);
process.exitCode = failures.length || count < 1000 ? 1 : 0;
