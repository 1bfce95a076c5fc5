// The numbers of a lens, and the heatmap as shapes: rows are layers (the last one on top), columns are tokens.

import type { PageData } from "../core/contract";
import { ink, palette, unsigned } from "../core/colour";
import { CHARACTER, type Shape } from "../core/picture";
import { chance, num, plain, short, token } from "../core/format";
import type { LensView } from "../types";

export type Colour = "probability" | "entropy" | "token";

export interface Lens {
  view: LensView;
  rows: number;
  columns: number;
  /** (row, column, top) */
  ids: Uint32Array;
  probabilities: Float32Array;
  /** (row, column), nats */
  entropy: Float32Array;
  mostEntropy: number;
}

export interface Guess {
  name: number;
  text: string;
  probability: number;
}

/** Raises with one line if the arrays do not fit the view. */
export function lensOf({ tensors }: PageData, number: number, view: LensView): Lens {
  const [rows, columns] = [view.layers.length, view.tokens.length];
  const ids = tensors[`${number}.lens.ids`] as Uint32Array;
  const probabilities = tensors[`${number}.lens.probabilities`] as Float32Array;
  const entropy = tensors[`${number}.lens.entropy`] as Float32Array;
  const cells = rows * columns;
  if (ids?.length !== cells * view.top || probabilities?.length !== ids.length || entropy?.length !== cells) {
    throw new Error("The numbers of this lens do not fit its tokens and layers. Make the file again.");
  }
  let mostEntropy = 0;
  for (const h of entropy) if (h > mostEntropy) mostEntropy = h;
  return { view, rows, columns, ids, probabilities, entropy, mostEntropy };
}

/** The likeliest next tokens at a place, best first. */
export function guesses(lens: Lens, row: number, column: number, most = lens.view.top): Guess[] {
  const start = (row * lens.columns + column) * lens.view.top;
  return Array.from({ length: Math.min(most, lens.view.top) }, (_, k) => {
    const name = lens.ids[start + k];
    return { name, text: lens.view.names[name] ?? "", probability: lens.probabilities[start + k] };
  });
}

/** Which names a search means: with its space in front the very token, else the same letters, else tokens that begin so. */
export function matching(lens: Lens, query: string): Set<number> {
  if (!query) return new Set();
  const bare = query.trim().toLowerCase().replace(/^·+/, "");
  const tests: ((name: string) => boolean)[] = [
    (name) => /^[· ]/.test(query) && (token(name) === query || name === query),
    (name) => bare !== "" && name.trim().toLowerCase() === bare,
    (name) => token(name) === query,
    (name) => bare !== "" && name.trim().toLowerCase().startsWith(bare),
  ];
  for (const test of tests) {
    const found = lens.view.names.flatMap((name, i) => (test(name) ? [i] : []));
    if (found.length) return new Set(found);
  }
  return new Set();
}

/** Probability of the named tokens at a place; null if none is among the predictions that were kept. */
export function chosen(lens: Lens, row: number, column: number, names: Set<number>): number | null {
  const start = (row * lens.columns + column) * lens.view.top;
  let sum: number | null = null;
  for (let k = 0; k < lens.view.top; k++) {
    if (names.has(lens.ids[start + k])) sum = (sum ?? 0) + lens.probabilities[start + k];
  }
  return sum;
}

export const layerName = (layer: number): string => (layer < 0 ? "in" : String(layer));
export const layerWords = (layer: number): string => (layer < 0 ? "embedding, before any layer" : `after layer ${layer}`);
export const siteName = (layer: number): string => (layer < 0 ? "resid_pre.0" : `resid_post.${layer}`);

/** A cell in one line. */
export function describe(lens: Lens, row: number, column: number): string {
  const said = guesses(lens, row, column, 3).map((g) => `${token(g.text)} ${chance(g.probability)}`);
  return `${layerWords(lens.view.layers[row])}, at ${token(lens.view.tokens[column])}: ${said.join(", ")}`;
}

/** 0 to 1 for the colour of a cell; null where the number is not known. */
export function strength(lens: Lens, row: number, column: number, colour: Colour, names: Set<number>): number | null {
  const cell = row * lens.columns + column;
  if (colour === "entropy") return lens.mostEntropy ? lens.entropy[cell] / lens.mostEntropy : 0;
  if (colour === "token") return chosen(lens, row, column, names);
  return lens.probabilities[cell * lens.view.top];
}

// Geometry. The picture is drawn for the part of it that is in sight; tokens stand below and above the cells.
export const GUTTER = 34;
export const ROW = 24;
export const AXIS = 24;
export const NARROWEST_TEXT = 30;

export const heightOf = (lens: Lens): number => lens.rows * ROW + 2 * AXIS;
export const topOf = (lens: Lens, row: number): number => AXIS + (lens.rows - 1 - row) * ROW;

export interface Look {
  colour: Colour;
  names: Set<number>;
  outline: boolean;
  cell: number;
  from: number;
  to: number;
  /** where column 0 would begin */
  left: number;
  dark: boolean;
}

export function shapes(lens: Lens, look: Look): Shape[] {
  const { colour, names, cell, left, dark } = look;
  const p = palette(dark);
  const out: Shape[] = [];
  const texts: Shape[] = [];
  const letters = Math.floor((cell - 4) / CHARACTER);
  const legible = cell >= NARROWEST_TEXT;
  for (let column = look.from; column < look.to; column++) {
    const x = Math.floor(left + column * cell);
    const w = Math.max(1, Math.floor(left + (column + 1) * cell) - x);
    const gap = w > 4 ? 1 : 0;
    for (let row = 0; row < lens.rows; row++) {
      const y = topOf(lens, row);
      const value = strength(lens, row, column, colour, names);
      const fill = value === null ? p.panel : unsigned(value, dark);
      out.push({ x, y, w: w - gap, h: ROW - gap, fill });
      const first = lens.ids[(row * lens.columns + column) * lens.view.top];
      if (look.outline && names.has(first)) texts.push({ x, y, w: Math.max(w - gap, 2), h: ROW - gap, stroke: p.selected });
      if (legible) {
        const text = short(token(lens.view.names[first] ?? ""), letters);
        texts.push({ x: x + 3, y: y + ROW / 2, text, fill: ink(fill), mono: true });
      }
    }
    if (!legible) continue;
    const text = short(token(lens.view.tokens[column]), letters);
    for (const y of [AXIS / 2, heightOf(lens) - AXIS / 2]) texts.push({ x: x + 3, y, text, fill: p.text, mono: true });
  }
  // the column of layer names covers what has been scrolled under it
  texts.push({ x: 0, y: 0, w: GUTTER, h: heightOf(lens), fill: p.surface });
  for (let row = 0; row < lens.rows; row++) {
    const name = layerName(lens.view.layers[row]);
    texts.push({ x: GUTTER - 6, y: topOf(lens, row) + ROW / 2, text: name, fill: p.soft, anchor: "end" });
  }
  return [...out, ...texts];
}

const LEGEND = 72;
const SWATCH = 76;
export const STOPS = [0, 0.25, 0.5, 0.75, 1];

/** What the colour means, in words. */
export function meaning(lens: Lens, colour: Colour, names: Set<number>): string {
  if (colour === "entropy") return "entropy of the prediction, nats (0 is certain)";
  if (colour === "probability") return "probability of the first prediction";
  const said = [...names].slice(0, 3).map((i) => token(lens.view.names[i])).join(", ");
  return `probability of ${said || "the chosen token"}`;
}

export const stopName = (lens: Lens, colour: Colour, x: number): string =>
  colour === "entropy" ? num(x * lens.mostEntropy) : `${x * 100} %`;

/** The whole picture for a file: all tokens, the sentence and the legend under them. */
export function poster(lens: Lens, look: Pick<Look, "colour" | "names" | "outline" | "dark">): { list: Shape[]; width: number; height: number } {
  const cell = lens.columns <= 300 ? 72 : 8;
  const width = Math.max(520, GUTTER + lens.columns * cell + 4);
  const list = shapes(lens, { ...look, cell, from: 0, to: lens.columns, left: GUTTER });
  const p = palette(look.dark);
  const y = heightOf(lens) + 14;
  list.push({ x: GUTTER, y, text: short(plain(lens.view.sentence), Math.floor((width - GUTTER) / 6)), fill: p.text });
  STOPS.forEach((x, i) => {
    list.push({ x: GUTTER + i * SWATCH, y: y + 14, w: 12, h: 12, fill: unsigned(x, look.dark), stroke: p.line });
    list.push({ x: GUTTER + i * SWATCH + 17, y: y + 20, text: stopName(lens, look.colour, x), fill: p.soft });
  });
  list.push({ x: GUTTER, y: y + 42, text: `Colour: ${short(meaning(lens, look.colour, look.names), 70)}`, fill: p.soft });
  return { list, width, height: heightOf(lens) + LEGEND };
}
