// How far the picture is zoomed in, and where to; never out of it.

import type { Json } from "../core/contract";
import type { Layout } from "./layout";

export interface Zoom {
  k: number;
  x: number;
  y: number;
}
export interface Size {
  width: number;
  height: number;
}
export const FITTED: Zoom = { k: 1, x: 0, y: 0 };
const MOST = 40;

/** A zoom as the state holds it; null when everything is in view. */
export const kept = (z: Zoom): Json => (z.k === 1 && !z.x && !z.y ? null : [z.k, Math.round(z.x), Math.round(z.y)]);

/** What the state says, if it is a zoom. */
export function zoomOf(told: Json | undefined): Zoom {
  const z = told as number[] | null;
  return Array.isArray(z) && z.length === 3 && z.every(Number.isFinite) && z[0] >= 1 ? { k: Math.min(MOST, z[0]), x: z[1], y: z[2] } : FITTED;
}

/** Nearer or farther by a factor; the point (x, y) of the screen stays where it is. */
export function zoomed(z: Zoom, factor: number, [x, y]: [number, number], size: Size): Zoom {
  const k = Math.min(MOST, Math.max(1, z.k * factor));
  return k === 1 ? FITTED : clamp({ k, x: x - ((x - z.x) * k) / z.k, y: y - ((y - z.y) * k) / z.k }, size);
}

export const clamp = (z: Zoom, { width, height }: Size): Zoom => ({
  k: z.k,
  x: Math.min(0, Math.max(width * (1 - z.k), z.x)),
  y: Math.min(0, Math.max(height * (1 - z.k), z.y)),
});

/** Where a node is on screen; without one that is shown, the middle of what is in view. */
export function middle(l: Layout | null, z: Zoom, i: number, { width, height }: Size): [number, number] {
  const on = (k: number): [number, number] => [l!.x[k] * z.k + z.x, l!.y[k] * z.k + z.y];
  if (l && i >= 0 && !Number.isNaN(l.x[i])) return on(i);
  const seen = l ? [...l.shown].map(on).filter(([x, y]) => x >= 0 && y >= 0 && x <= width && y <= height) : [];
  if (!seen.length) return [width / 2, height / 2];
  return [seen.reduce((sum, p) => sum + p[0], 0) / seen.length, seen.reduce((sum, p) => sum + p[1], 0) / seen.length];
}
