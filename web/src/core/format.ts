// Numbers and tokens as people read them. Tokens are untrusted text: whatever could hide or reorder text is spelled out.

const MINUS = "−";

/** Three significant digits; with `sign`, always signed. */
export function num(x: number | null | undefined, sign = false): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  let text: string;
  if (size === 0) text = "0";
  else if (size >= 1e5 || size < 1e-3) text = size.toExponential(1).replace("e-", `e${MINUS}`).replace("e+", "e");
  else text = size >= 999.5 ? String(Math.round(size)) : size.toPrecision(3);
  const mark = x < 0 && size > 0 ? MINUS : sign && x > 0 ? "+" : "";
  return mark + text;
}

/** A share as a percentage: 12 %, 1.2 %, 0.03 %. */
export function percent(x: number | null | undefined, sign = false): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const p = Math.abs(x * 100);
  const digits = p === 0 ? 0 : p >= 99.5 || p >= 10 ? 0 : p >= 1 ? 1 : 2;
  const mark = x < 0 ? MINUS : sign && x > 0 ? "+" : "";
  if (p >= 99.5 && p < 100) return `${mark}>99 %`;
  return p > 0 && p < 0.01 ? `${mark}<0.01 %` : `${mark}${p.toFixed(digits)} %`;
}

/** A probability: one more digit near the ends than `percent`. */
export function chance(x: number | null | undefined): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const p = x * 100;
  if (p >= 99.995 && p < 100) return ">99.99 %";
  return p < 0.01 && p > 0 ? "<0.01 %" : `${p >= 99.95 ? p.toFixed(2) : p >= 1 ? p.toFixed(1) : p.toFixed(2)} %`;
}

/** Width of a bar that stands behind its number, right of which there is always room for the text. */
export const strip = (p: number): string => `calc(${p > 0 ? 2 : 0}px + (100% - var(--room, 74px)) * ${Math.min(1, Math.max(0, p)).toFixed(4)})`;

export function count(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

export function seconds(s: number): string {
  const whole = Math.round(s);
  return s < 90 ? `${s < 9.95 ? s.toFixed(1) : whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const GLYPHS: Record<string, string> = { "\n": "↵", "\r": "␍", "\t": "⇥", " ": "·", "\u00a0": "⍽" };
// control, zero-width, direction, tag and other invisible characters, halves of characters; also what joins and colours
// emoji, which are then shown in their parts
const HIDDEN = /[\p{Cc}\p{Cs}\p{Default_Ignorable_Code_Point}\p{Zl}\p{Zp}\u00a0\u2800\ufff9-\uffff]/gu;
const spelled = (c: string): string => {
  const code = c.codePointAt(0)!.toString(16).padStart(4, "0");
  return GLYPHS[c] ?? (code.length > 4 ? `\\u{${code}}` : `\\u${code}`);
};

/** A token with what cannot be seen made visible; spaces only at its ends. */
export function token(text: string): string {
  const inner = text.replace(/^ +| +$/g, (s) => "·".repeat(s.length));
  return inner.replace(HIDDEN, spelled) || "∅";
}

/** A longer text with invisible characters spelled out, spaces left alone. */
export function plain(text: string): string {
  return text.replace(HIDDEN, (c) => (c === "\n" ? " " : spelled(c)));
}

export function short(text: string, most: number): string {
  const chars = [...text];
  return chars.length <= most ? text : chars.slice(0, most - 1).join("") + "…";
}
