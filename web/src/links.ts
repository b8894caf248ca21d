/** Permanent links: the fragment `#panel?name=value&...` holds the state of one panel. */
import { h } from "./dom";

export type State = Record<string, string | number>;

interface Linked {
  restore: (query: URLSearchParams) => void;
  anchor: HTMLAnchorElement;
}

const panels = new Map<string, Linked>();
const SETTLED = 150; // ms without a change, after which the address is written: browsers refuse it many times a second
let restoring = false;
let waiting = 0;

/** The address of the state, once changes settle. */
function address(hash: string): void {
  clearTimeout(waiting);
  waiting = window.setTimeout(() => {
    try {
      history.replaceState(null, "", hash);
    } catch {
      // some browsers refuse this for files; the link below the panel still holds the state
    }
  }, SETTLED);
}

/** Registers a panel; returns what to call after every change of its state. */
export function linked(
  id: string,
  restore: (query: URLSearchParams) => void,
): { element: HTMLElement; changed: (state: State) => void } {
  const anchor = h("a", { href: `#${id}` }, "Permanent link to this state");
  panels.set(id, { restore, anchor });
  let last = "";
  const changed = (state: State): void => {
    const query = new URLSearchParams(Object.entries(state).map(([k, v]) => [k, String(v)]));
    const hash = `#${id}?${query.toString()}`;
    if (hash === last) return; // drawn again, for another width say
    const first = last === "";
    last = hash;
    anchor.href = hash;
    if (!first && !restoring) address(hash);
  };
  return { element: h("p", { class: "permalink" }, anchor), changed };
}

/** A whole number of a fragment, kept within its range. */
export function whole(
  query: URLSearchParams,
  name: string,
  [low, high, start]: readonly [number, number, number],
): number {
  const text = query.get(name);
  if (text === null || !/^-?\d{1,6}$/.test(text)) return start;
  return Math.max(low, Math.min(high, Number(text)));
}

/** A list of numbers of a fragment, or null. */
export function numbers(query: URLSearchParams, name: string, most: number): number[] | null {
  const text = query.get(name);
  if (text === null || text.length > 400) return null;
  const values = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (!values.length || values.length > most) return null;
  return values.every((v) => Number.isFinite(v) && Math.abs(v) <= 1000) ? values : null;
}

/** One of several words of a fragment. */
export function word<W extends string>(query: URLSearchParams, name: string, words: readonly W[], start: W): W {
  const text = query.get(name);
  return words.find((one) => one === text) ?? start;
}

/** Restores the state that the address names and goes to its panel. */
export function follow(): void {
  const [id, text] = location.hash.slice(1).split(/\?(.*)/s);
  const panel = panels.get(id ?? "");
  if (!panel) return;
  if (text) {
    clearTimeout(waiting);
    restoring = true;
    panel.restore(new URLSearchParams(text));
    restoring = false;
  }
  document.getElementById(id!)?.scrollIntoView({ behavior: "instant" });
}
