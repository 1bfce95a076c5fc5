// Where nodes stand: a column a token (or what a reading has for columns), a row a layer. World units are pixels of the fitted picture.

import type { Graph } from "./graph";

export interface Layout {
  x: Float32Array; // NaN: not shown
  y: Float32Array;
  shown: Uint32Array; // the nodes that are
  columns: { left: number; width: number }[];
  rowY: (row: number) => number;
  width: number;
  height: number;
  grid: Map<number, number[]>;
  cell: number;
}

export const LEFT = 46; // layer labels
const RIGHT = 44; // the zoom buttons
const TOP = 34;
const BOTTOM = 30; // tokens

export function makeLayout(g: Graph, visible: Uint8Array, width: number, height: number): Layout {
  const x = new Float32Array(g.n).fill(NaN);
  const y = new Float32Array(g.n).fill(NaN);
  const cells = new Map<number, number[]>();
  const shown: number[] = [];
  for (let i = 0; i < g.n; i++) {
    if (!visible[i]) continue;
    shown.push(i);
    const key = g.position[i] * g.nRows + g.layer[i];
    const cell = cells.get(key);
    if (cell) cell.push(i);
    else cells.set(key, [i]);
  }
  const most = new Float64Array(g.nColumns);
  for (const [key, cell] of cells) {
    const column = Math.floor(key / g.nRows); // -1 is none, and is not kept
    most[column] = Math.max(most[column], cell.length);
  }
  // a column's width grows with the root of what its fullest cell holds, so that no token disappears
  const weight = Array.from(most, (m) => 1.2 + Math.sqrt(m) * (m > 1 ? 1 : 0));
  weight[weight.length - 1] *= g.reading.width;
  const total = weight.reduce((a, b) => a + b, 0);
  const inner = Math.max(60, width - LEFT - RIGHT);
  const columns: Layout["columns"] = [];
  let left = LEFT;
  for (const w of weight) {
    columns.push({ left, width: (inner * w) / total });
    left += (inner * w) / total;
  }
  const step = Math.max(1, height - TOP - BOTTOM) / Math.max(1, g.nRows - 1);
  const rowY = (row: number) => height - BOTTOM - row * step;
  for (const [key, cell] of cells) {
    const place = Math.floor(key / g.nRows);
    const column = columns[place] ?? { left: LEFT, width: inner };
    const row = key - place * g.nRows;
    const { probability } = g.view.nodes;
    cell.sort((a, b) => (probability[b] ?? 0) - (probability[a] ?? 0) || g.share[b] - g.share[a]);
    // as many lines as keep neighbours apart, within the height of the row
    const room = Math.max(8, column.width - 8);
    const lines = Math.max(1, Math.min(Math.floor(step / 5) || 1, Math.ceil((cell.length * 7) / room)));
    const perLine = Math.ceil(cell.length / lines);
    const gap = Math.min(16, room / perLine);
    cell.forEach((i, k) => {
      const line = Math.floor(k / perLine);
      const inLine = Math.min(perLine, cell.length - line * perLine);
      x[i] = column.left + column.width / 2 + ((k % perLine) - (inLine - 1) / 2) * gap;
      y[i] = rowY(row) + (lines > 1 ? ((lines - 1) / 2 - line) * Math.min(7, (step - 2) / lines) : 0);
      y[i] -= step * g.reading.lift(g, i);
    });
  }
  const cell = 24;
  const grid = new Map<number, number[]>();
  for (const i of shown) {
    const key = gridKey(x[i], y[i], cell);
    const list = grid.get(key);
    if (list) list.push(i);
    else grid.set(key, [i]);
  }
  return { x, y, shown: Uint32Array.from(shown), columns, rowY, width, height, grid, cell };
}

const gridKey = (x: number, y: number, cell: number) => (Math.floor(x / cell) + 4096) * 8192 + Math.floor(y / cell) + 4096;

/** The nearest shown node within `reach` world units, or -1. */
export function nearest(l: Layout, x: number, y: number, reach: number): number {
  let best = -1;
  let least = reach * reach;
  const r = Math.ceil(reach / l.cell);
  for (let a = -r; a <= r; a++) {
    for (let b = -r; b <= r; b++) {
      for (const i of l.grid.get(gridKey(x + a * l.cell, y + b * l.cell, l.cell)) ?? []) {
        const d = (l.x[i] - x) ** 2 + (l.y[i] - y) ** 2;
        if (d < least) {
          least = d;
          best = i;
        }
      }
    }
  }
  return best;
}

/** The node that an arrow key leads to: the next one shown in that direction. */
export function neighbour(g: Graph, l: Layout, from: number, key: "left" | "right" | "up" | "down"): number {
  let best = -1;
  let least = Infinity;
  for (const i of l.shown) {
    if (i === from) continue;
    const dx = l.x[i] - l.x[from];
    const dy = l.y[from] - l.y[i];
    const rows = g.layer[i] - g.layer[from];
    const along = key === "left" ? -dx : key === "right" ? dx : key === "up" ? rows : -rows;
    const across = key === "left" || key === "right" ? Math.abs(dy) * 4 : Math.abs(dx);
    if (along <= 0 || (key === "left" || key === "right" ? along < 0.5 : false)) continue;
    const cost = key === "up" || key === "down" ? along * 10_000 + across : along + across;
    if (cost < least) {
      least = cost;
      best = i;
    }
  }
  return best;
}
