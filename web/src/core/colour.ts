// One colour meaning everywhere: blue is positive, red negative, orange unsigned, magenta selected.

export interface Palette {
  surface: string;
  panel: string;
  text: string;
  soft: string;
  line: string;
  positive: string;
  negative: string;
  selected: string;
  node: string;
  remainder: string;
  tested: string;
  refuted: string;
  unpredicted: string;
  unsigned: string;
}

export const LIGHT: Palette = {
  surface: "#ffffff",
  panel: "#f6f7f9",
  text: "#16191d",
  soft: "#565d66",
  line: "#d5d9df",
  positive: "#2166ac",
  negative: "#b2182b",
  selected: "#c2107c",
  node: "#5b6570",
  remainder: "#a9b0b8",
  tested: "#0b7a4b",
  refuted: "#b2182b",
  unpredicted: "#8a5a00",
  unsigned: "#b35806",
};

export const DARK: Palette = {
  surface: "#14161a",
  panel: "#1d2025",
  text: "#e8eaed",
  soft: "#a7adb6",
  line: "#3a3f47",
  positive: "#6baed6",
  negative: "#f4a582",
  selected: "#ff7ac6",
  node: "#9aa3ad",
  remainder: "#5d646d",
  tested: "#5fd39b",
  refuted: "#f4a582",
  unpredicted: "#e3b341",
  unsigned: "#fdb863",
};

export const palette = (dark: boolean): Palette => (dark ? DARK : LIGHT);

const rgb = (hex: string): number[] => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

export function mix(a: string, b: string, t: number): string {
  const [x, y] = [rgb(a), rgb(b)];
  return `#${x.map((v, i) => Math.round(v + (y[i] - v) * Math.min(1, Math.max(0, t))).toString(16).padStart(2, "0")).join("")}`;
}

/** Signed strength, -1 to 1, around a neutral zero. */
export function signed(x: number, dark: boolean, zero?: string): string {
  const p = palette(dark);
  return mix(zero ?? p.surface, x < 0 ? p.negative : p.positive, Math.sqrt(Math.min(1, Math.abs(x))));
}

/** Unsigned strength, 0 to 1, in one hue. */
export function unsigned(x: number, dark: boolean): string {
  return mix(palette(dark).surface, dark ? "#f0883e" : "#d9590c", Math.min(1, Math.max(0, x)));
}

/** Black or white, whichever reads better on the colour. */
export function ink(hex: string): string {
  const [r, g, b] = rgb(hex).map((v) => {
    const c = v / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return luminance > 0.179 ? "#000000" : "#ffffff";
}
