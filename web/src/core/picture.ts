// A picture as a list of boxes and texts.

import type { Pen } from "./pen";

export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
  fill?: string;
  stroke?: string;
}
export interface Text {
  x: number;
  y: number;
  text: string;
  fill: string;
  anchor?: "start" | "middle" | "end";
  mono?: boolean;
}
export type Shape = Box | Text;

const SIZE = 12;
const SANS = "system-ui, sans-serif";
const MONO = "ui-monospace, monospace";
/** Width of a character of the monospace font at this size, near enough to fit labels. */
export const CHARACTER = 7.3;

export function paint(pen: Pen, shapes: Shape[]): void {
  pen.textBaseline = "middle";
  pen.lineWidth = 2;
  for (const s of shapes) {
    if ("text" in s) {
      pen.font = `${SIZE}px ${s.mono ? MONO : SANS}`;
      pen.textAlign = s.anchor === "middle" ? "center" : (s.anchor ?? "start");
      pen.fillStyle = s.fill;
      pen.fillText(s.text, s.x, s.y);
      continue;
    }
    if (s.fill) {
      pen.fillStyle = s.fill;
      pen.fillRect(s.x, s.y, s.w, s.h);
    }
    if (s.stroke) {
      pen.strokeStyle = s.stroke;
      pen.beginPath();
      pen.rect(s.x + 1, s.y + 1, s.w - 2, s.h - 2);
      pen.stroke();
    }
  }
}
