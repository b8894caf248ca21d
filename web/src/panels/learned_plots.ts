/** Drawings of panel 5: sums of the phases, frequency response. */
import * as d3 from "d3";
import { layerColour } from "../colours";
import { refill, s, show } from "../dom";
import { response } from "../theory";

/** Sums of the phases as bars, with their mean. */
export function phaseBars(sums: Element, room: number, gains: readonly number[]): void {
  const width = Math.max(200, Math.min(320, room || 260));
  const height = 190;
  const reach = Math.max(1, ...gains.map(Math.abs)) * 1.2;
  const y = d3.scaleLinear([Math.min(0, ...gains) < 0 ? -reach : 0, reach], [height - 20, 12]);
  const unit = width / gains.length;
  const mean = gains.reduce((a, b) => a + b, 0) / gains.length;
  refill(
    sums,
    s(
      "svg",
      {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label": `Sums of the phases: ${gains.map((g) => show(g)).join(", ")}; mean ${show(mean)}`,
      },
      ...gains.map((gain, r) =>
        s("rect", {
          x: r * unit + 12,
          width: unit - 24,
          y: Math.min(y(0), y(gain)),
          height: Math.max(1.5, Math.abs(y(gain) - y(0))),
          rx: 3,
          fill: layerColour(r),
        }),
      ),
      s("line", { x1: 0, x2: width, y1: y(0), y2: y(0), stroke: "var(--rule)" }),
      s("line", { x1: 0, x2: width, y1: y(mean), y2: y(mean), stroke: "var(--ink)", "stroke-dasharray": "5 4" }),
      ...gains.flatMap((gain, r) => [
        s(
          "text",
          {
            x: (r + 0.5) * unit,
            y: Math.min(y(0), y(gain)) - 5,
            "text-anchor": "middle",
            "font-size": 12,
            "font-weight": 600,
            class: "halo",
          },
          show(gain),
        ),
        s(
          "text",
          { x: (r + 0.5) * unit, y: height - 2, "text-anchor": "middle", "font-size": 11, class: "soft" },
          `phase ${r}`,
        ),
      ]),
      s("text", { x: width - 2, y: y(mean) - 4, "text-anchor": "end", "font-size": 11, class: "soft halo" }, "mean"),
    ),
  );
}

/** Frequency response of a kernel, with the places where a balanced one is zero. */
export function spectrum(wave: Element, room: number, weights: readonly number[], stride: number): void {
  const width = Math.max(240, Math.min(420, room || 340));
  const height = 150;
  const points = d3.range(0, 0.5001, 0.005).map((f) => [f, response(weights, f)] as const);
  const x = d3.scaleLinear([0, 0.5], [8, width - 10]);
  const y = d3.scaleLinear([0, d3.max(points, (p) => p[1])! * 1.1 || 1], [height - 22, 8]);
  const path = d3.line<readonly [number, number]>(
    (p) => x(p[0]),
    (p) => y(p[1]),
  )(points)!;
  const images = d3.range(1, Math.floor(stride / 2) + 1).map((j) => j / stride);
  refill(
    wave,
    s(
      "svg",
      {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label": `Frequency response; at the images of the constant it is ${images.map((f) => show(response(weights, f))).join(", ")}`,
      },
      s("line", { x1: 8, x2: width - 10, y1: y(0), y2: y(0), stroke: "var(--rule)" }),
      ...images.flatMap((f, j) => [
        s("line", { x1: x(f), x2: x(f), y1: 4, y2: y(0), stroke: "var(--other)", "stroke-dasharray": "4 4" }),
        s(
          "text",
          { x: x(f), y: height - 6, "text-anchor": f > 0.45 ? "end" : "middle", "font-size": 11, class: "soft" },
          `${j + 1}/${stride}`,
        ),
        s("circle", { cx: x(f), cy: y(response(weights, f)), r: 4.5, fill: "var(--other)" }),
      ]),
      s("path", { d: path, fill: "none", stroke: "var(--paint)", "stroke-width": 2.2 }),
      s("text", { x: 8, y: height - 6, "font-size": 11, class: "soft" }, "0 cycles per sample"),
    ),
  );
}
