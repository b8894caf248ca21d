/** Drawing of cells on a canvas, sharp on every screen and right in light and dark. */
import { isDark, painted, twoSided } from "./colours";

/** A context in CSS pixels, cleared. */
export function sheet(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const density = Math.min(3, devicePixelRatio || 1);
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d")!;
  context.scale(density, density);
  context.clearRect(0, 0, width, height);
  return context;
}

/** The page's own colours, for canvases. */
export function paletteOf(element: Element): (name: string) => string {
  const style = getComputedStyle(element);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

/** `rgb(...)` of a share of paint, and the ink that is readable on it. */
export function fillOf(share: number): { fill: string; ink: string } {
  const dark = isDark();
  const [r, g, b] = painted(share, dark);
  const light = (0.299 * r + 0.587 * g + 0.114 * b) / 255;
  return { fill: `rgb(${r} ${g} ${b})`, ink: light > 0.55 ? "#14181d" : "#ffffff" };
}

export interface Spot {
  y: number;
  x: number;
  /** Keeps the place within a square of `side` cells. */
  keep(side: number): void;
}

/** A cell of a drawing that follows the pointer and the arrow keys; `cellAt` finds it from CSS pixels. */
export function pointed(
  canvas: HTMLCanvasElement,
  [y, x]: readonly [number, number],
  cellAt: (x: number, y: number) => readonly [y: number, x: number] | null,
  moved: () => void,
): Spot {
  const spot: Spot = {
    y,
    x,
    keep(side) {
      spot.y = Math.max(0, Math.min(side - 1, spot.y));
      spot.x = Math.max(0, Math.min(side - 1, spot.x));
    },
  };
  const go = (down: number, across: number): void => {
    if (spot.y === down && spot.x === across) return;
    [spot.y, spot.x] = [down, across];
    moved();
  };
  const point = (event: PointerEvent): void => {
    const box = canvas.getBoundingClientRect();
    const found = cellAt(event.clientX - box.left, event.clientY - box.top);
    if (found) go(...found);
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const down = { ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0;
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
    if (!down && !across) return;
    event.preventDefault();
    go(spot.y + down, spot.x + across);
  });
  return spot;
}

/** Text of the page in a canvas. */
export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/**
 * One period cell, repeated, one device pixel per value; CSS scales it up without smoothing.
 * `share` maps a value to [-1, 1]: below zero blue, above orange.
 */
export function tile(
  canvas: HTMLCanvasElement,
  rows: number,
  columns: number,
  repeat: number,
  share: (y: number, x: number) => number,
): void {
  const [height, width] = [rows === 1 ? 1 : rows * repeat, columns * repeat];
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(width, height);
  const dark = isDark();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [r, g, b] = twoSided(share(y % rows, x % columns), dark);
      image.data.set([r, g, b, 255], 4 * (y * width + x));
    }
  }
  context.putImageData(image, 0, 0);
}
