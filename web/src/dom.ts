/** Elements without a framework. Text only ever becomes text: nothing here parses HTML. */

type Child = Node | string | number | null | false;
type Attributes = Record<string, string | number | boolean | null | undefined>;

const SVG = "http://www.w3.org/2000/svg";

function dress<E extends Element>(element: E, attributes: Attributes, children: readonly Child[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  fill(element, ...children);
  return element;
}

/** An HTML element. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  return dress(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): SVGElementTagNameMap[K] {
  return dress(document.createElementNS(SVG, tag) as SVGElementTagNameMap[K], attributes, children);
}

/** Appends children. */
export function fill(element: Element, ...children: readonly Child[]): void {
  for (const child of children) {
    if (child !== null && child !== false) element.append(typeof child === "number" ? String(child) : child);
  }
}

/** Replaces all children. */
export function refill(element: Element, ...children: readonly Child[]): void {
  element.replaceChildren();
  fill(element, ...children);
}

/** A fill between the empty cell (0) and full paint (1), right in light and dark. */
export const tint = (share: number, colour = "var(--paint)"): string =>
  `color-mix(in oklab, ${colour} ${Math.round(Math.max(0, Math.min(1, share)) * 100)}%, var(--cell))`;

/** Text on such a fill. */
export const onTint = (share: number): string => (share > 0.55 ? "var(--on-paint)" : "var(--ink)");

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";
export const subscript = (n: number): string =>
  (n < 0 ? "₋" : "") + [...String(Math.abs(n))].map((digit) => SUBSCRIPTS[Number(digit)]).join("");

/** A number for people: up to `digits` significant digits, a real minus sign. */
export function show(value: number, digits = 3): string {
  if (value === Infinity) return "∞";
  if (value === 0 || Math.abs(value) < 1e-12) return "0";
  const size = Math.abs(value);
  const text = Number.isInteger(value) && size < 1e6 ? String(value) : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−").replace(/e([+−-]?)(\d+)/, " · 10^$1$2");
}

export const percent = (share: number): string => `${show(share * 100)} %`;

/** A parameter's symbol in its own colour. */
export const symbol = (name: string, kind: string): HTMLElement => h("var", { class: kind }, name);

export interface Slider {
  element: HTMLElement;
  value: number;
  range(low: number, high: number): void;
}

/** A labelled slider that shows its value. */
export function slider(
  kind: string,
  sym: string,
  label: string,
  [low, high, start]: readonly [number, number, number],
  changed: () => void,
  step = 1,
): Slider {
  const output = h("output", {}, show(start));
  const input = h("input", { type: "range", min: low, max: high, step, value: start });
  const element = h(
    "label",
    { class: `slider ${kind}` },
    h("span", { class: "sym" }, sym),
    h("span", {}, label),
    output,
    input,
  );
  const tell = (): void => {
    output.textContent = show(Number(input.value));
  };
  input.addEventListener("input", () => {
    tell();
    changed();
  });
  return {
    element,
    get value() {
      return Number(input.value);
    },
    set value(value: number) {
      input.value = String(value);
      tell();
    },
    range(from, to) {
      input.min = String(from);
      input.max = String(to);
      tell();
    },
  };
}

/** A frame that scrolls sideways where it is too narrow, by keyboard as well: for content that takes no focus itself. */
export const scrolled = (label: string): HTMLElement =>
  h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label });

/** A push button. */
export function button(label: string, pressed: () => void, attributes: Attributes = {}): HTMLButtonElement {
  const element = h("button", { type: "button", ...attributes }, label);
  element.addEventListener("click", pressed);
  return element;
}

/** A choice from a list. */
export function choice(
  label: string,
  options: readonly (readonly [value: string, text: string])[],
  changed: () => void,
): { element: HTMLElement; select: HTMLSelectElement } {
  const select = h("select", {}, ...options.map(([value, text]) => h("option", { value }, text)));
  select.addEventListener("change", changed);
  return { element: h("label", { class: "row" }, label, select), select };
}

/** Large figures with what they mean. */
export function facts(
  entries: readonly (readonly [term: string, value: string, remark: string, tone?: "good" | "bad"])[],
): HTMLElement {
  return h(
    "dl",
    { class: "facts" },
    ...entries.map(([term, value, remark, tone]) =>
      h("div", { class: tone ?? null }, h("dt", {}, term), h("dd", {}, value, remark ? h("small", {}, remark) : null)),
    ),
  );
}

/** One stop for the tab key among many cells; arrow keys move within. `columns` 0 means one row. */
export function roving(cells: readonly (HTMLElement | SVGElement)[], columns = 0): void {
  cells.forEach((cell, index) => {
    cell.setAttribute("tabindex", index === 0 ? "0" : "-1");
    cell.addEventListener("keydown", (event) => {
      const key = (event as KeyboardEvent).key;
      const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
      const target = key === "Home" ? 0 : key === "End" ? cells.length - 1 : index + (steps[key] ?? 0);
      if (target === index || target < 0 || target >= cells.length) return;
      event.preventDefault();
      cell.setAttribute("tabindex", "-1");
      cells[target]!.setAttribute("tabindex", "0");
      cells[target]!.focus();
    });
  });
}

/** Runs a drawing at most once per frame. */
export function framed(draw: () => void): () => void {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

const BUDGET = 6; // ms of a frame, which leaves the browser its share of 16

/** Does pieces of work over the next frames, at least one in each; new work replaces what is left of the last. */
export function inFrames(): (pieces: readonly (() => void)[]) => void {
  let waiting = 0;
  return (pieces) => {
    cancelAnimationFrame(waiting);
    let place = 0;
    const go = (): void => {
      const until = performance.now() + BUDGET;
      do pieces[place++]?.();
      while (place < pieces.length && performance.now() < until);
      if (place < pieces.length) waiting = requestAnimationFrame(go);
    };
    waiting = requestAnimationFrame(go);
  };
}

/** Does pieces of work one by one while nothing else is to be done; some browsers do not say so and get a pause instead. */
export function whenResting(pieces: readonly (() => void)[]): void {
  const [piece, ...rest] = pieces;
  if (!piece) return;
  const go = (): void => {
    piece();
    whenResting(rest);
  };
  if ("requestIdleCallback" in window) requestIdleCallback(go);
  else setTimeout(go, 100);
}

/**
 * Calls back whenever light turns to dark or the width changes; returns the width in CSS pixels, 0 before it is known. Asking
 * the element itself in the middle of a redraw would cost a layout of the page.
 */
export function onLook(element: Element, changed: () => void): () => number {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry!.contentRect.width);
    if (now !== width) {
      width = now;
      changed();
    }
  }).observe(element);
  return () => width;
}
