/** Cells of a row: a frame, a number, a name for screen readers. */
import { s, tint } from "./dom";

export const CELL = { low: 23, high: 46, height: 34 };

/** Text in a drawing. */
export function label(
  x: number,
  y: number,
  text: string,
  attributes: Record<string, string | number>,
  colour: string,
): SVGTextElement {
  const element = s("text", { x, y, "text-anchor": "middle", ...attributes }, text);
  element.style.fill = colour;
  return element;
}

/** A cell that can be reached by keyboard; `share` of paint. */
export function cellOf(
  x: number,
  y: number,
  unit: number,
  text: string,
  share: number,
  ink: string,
  name: string,
): SVGGElement {
  const frame = s("rect", {
    class: "frame",
    x: x + 1.5,
    y: y + 1.5,
    width: unit - 3,
    height: CELL.height - 3,
    rx: 5,
    stroke: "var(--rule)",
  });
  frame.style.fill = tint(share);
  return s(
    "g",
    { class: "hit", role: "img", "aria-label": name },
    frame,
    label(x + unit / 2, y + 22, text, { "font-size": text.length > 3 ? 11 : 13.5 }, ink),
  );
}
