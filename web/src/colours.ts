/** Colours for taps, phases and layers: blue to orange, told apart by colour-blind eyes, readable on light and dark. */
import { interpolateRgbBasis, rgb } from "d3";

const ramp = interpolateRgbBasis(["#1f66ad", "#6fa3d3", "#b5b2ac", "#e3a467", "#c2570c"]);

/** Colour of tap t of k. */
export const tapColour = (t: number, k: number): string => ramp(k < 2 ? 0 : t / (k - 1));

/** Text on a tap's colour. */
export const tapInk = (t: number, k: number): string => {
  const place = k < 2 ? 0 : t / (k - 1);
  return place < 0.16 || place > 0.9 ? "#ffffff" : "#14181d";
};

const LAYERS = ["#1f78c1", "#d9731a", "#2a9d7c", "#b5579a", "#b08a00", "#7a6fc0", "#6b8e9e", "#a35e4e"];

/** Colour of layer number `index` of a stack. */
export const layerColour = (index: number): string => LAYERS[index % LAYERS.length]!;

type Rgb = readonly [number, number, number];
const SHADES = 256;

/** Shades between colours, found once: reading d3's text for every pixel would take most of a redraw. */
function shades(...colours: string[]): readonly Rgb[] {
  const between = interpolateRgbBasis(colours);
  return Array.from({ length: SHADES + 1 }, (_, n) => {
    const { r, g, b } = rgb(between(n / SHADES));
    return [r, g, b];
  });
}

/** Blue below, paper at, orange above the middle; `share` in [-1, 1]. For canvases: both themes. */
const below = shades("#f4f2ee", "#8fbbe0", "#1f66ad");
const above = shades("#f4f2ee", "#f0b684", "#c2570c");
const darkBelow = shades("#20262d", "#31618f", "#7dbdf5");
const darkAbove = shades("#20262d", "#99572a", "#f8a465");

export const isDark = (): boolean => matchMedia("(prefers-color-scheme: dark)").matches;

/** A colour of the two-sided scale as [r, g, b]. */
export function twoSided(share: number, dark: boolean): Rgb {
  const scale = share < 0 ? (dark ? darkBelow : below) : dark ? darkAbove : above;
  return scale[Math.round(SHADES * Math.min(1, Math.abs(share)))]!;
}

/** A colour from nothing (0) to full paint (1) as [r, g, b]. */
export const painted = (share: number, dark: boolean): Rgb => twoSided(-share, dark);
