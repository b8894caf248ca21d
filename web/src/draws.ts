/** Draws of Gaussian fields with a given covariance. */

/** A standard normal stream from a seed (mulberry32, Box and Muller). */
function normals(seed: number): () => number {
  let state = seed * 2654435761;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** One Gaussian field with the covariance of a depth: what one channel of a wide untrained network gives. */
export function sample(lower: Float64Array, size: number, product: boolean, seed: number): number[] {
  const next = normals(seed);
  const times = (vector: readonly number[]): number[] =>
    Array.from({ length: size }, (_, n) => {
      let total = 0;
      for (let m = 0; m <= n; m++) total += lower[n * size + m]! * vector[m]!;
      return total;
    });
  if (!product) return times(Array.from({ length: size }, next));
  // K x K is drawn as L Z L'
  const columns = Array.from({ length: size }, () => times(Array.from({ length: size }, next)));
  const rows = Array.from({ length: size }, (_, y) => times(columns.map((column) => column[y]!)));
  return rows.flat();
}
