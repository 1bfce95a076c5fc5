// Where the tokens, parts and the answer of a story stand: tokens in a row at the foot, parts in rows by depth, none over another.

import type { Flow } from "../types";
import { arcsOf, arrowsOf, type Arc, type Arrow, type Spot } from "./storyArrows";

/** A part: where its main token stands, and how deep in the model it is. */
export interface Part {
  position: number;
  depth: number;
  height: number;
}

export interface Plan {
  width: number;
  box: number; // width of a part
  layers: number;
  parts: Part[];
  flows: Flow[]; // those to draw
  /** Widths of all tokens, and of the dots that stand for some. */
  tokens: number[];
  dots: number;
  /** Tokens to show where not all fit, first the most important. */
  used: number[];
  answer: { w: number; h: number };
  looks: { query: number; key: number }[];
}

export interface Layout {
  height: number;
  boxes: Spot[];
  answer: Spot;
  /** at: the place in the prompt; -1 for dots. */
  tokens: (Spot & { at: number })[];
  arrows: Arrow[];
  /** Of a link of attention whose tokens are not both shown: null. */
  arcs: (Arc | null)[];
}

/** From this width on the story is a picture. */
export const WIDE = 640;
export const SIDE = 18; // free at the sides
const GAP = 30; // between boxes, for arrows to pass
const CORRIDOR = 50; // between rows
const TOKEN_GAP = 6;
const TOKEN_HEIGHT = 24;
const MOST_ROWS = 5;

export const boxWidth = (width: number): number => Math.round(Math.min(270, Math.max(184, width / 4.7)));

/** Centres as near to those wished for as sizes and gaps allow, in the order given, between 0 and width. */
export function inLine(wish: number[], size: number[], gap: number, width: number): number[] {
  interface Block { first: number; n: number; sum: number; length: number; start: number }
  const blocks: Block[] = [];
  const settle = (b: Block) => ({ ...b, start: Math.max(0, Math.min(width - b.length, b.sum / b.n)) });
  wish.forEach((x, k) => {
    let block = settle({ first: k, n: 1, sum: x - size[k] / 2, length: size[k], start: 0 });
    for (let last = blocks.at(-1); last && last.start + last.length + gap > block.start; last = blocks.at(-1)) {
      const offset = last.length + gap;
      block = settle({ first: last.first, n: last.n + block.n, sum: last.sum + block.sum - block.n * offset, length: offset + block.length, start: 0 });
      blocks.pop();
    }
    blocks.push(block);
  });
  return blocks.flatMap((b) => {
    let at = b.start;
    return Array.from({ length: b.n }, (_, i) => {
      const w = size[b.first + i];
      at += w + gap;
      return at - gap - w / 2;
    });
  });
}

/** Parts in rows, the earliest first: by depth, and a strong flow leads up where that is possible. */
export function rowsOf(depth: number[], flows: Flow[], most: number, layers: number): number[][] {
  const between = flows.filter((f) => f.source != null && f.target != null && f.source !== f.target);
  const largest = Math.max(0, ...flows.map((f) => Math.abs(f.amount)));
  const needed = Math.max(MOST_ROWS, Math.ceil(depth.length / most));
  let rows: number[][] = [];
  for (const least of [0.1, 0.2, 0.4, Infinity]) {
    const strong = between.filter((f) => Math.abs(f.amount) >= least * largest);
    rows = [];
    for (const k of inOrder(depth, strong)) {
      const row = rows.at(-1);
      const apart = row && (row.length >= most || depth[k] - depth[row[0]] > 0.3 * layers || strong.some((f) => f.target === k && row.includes(f.source!)));
      if (!row || apart) rows.push([k]);
      else row.push(k);
    }
    if (rows.length <= needed) break;
  }
  return rows;
}

/** By depth, but a part comes after those that flow into it more than it flows into them. */
function inOrder(depth: number[], flows: Flow[]): number[] {
  const amount = (s: number, t: number) => Math.abs(flows.find((f) => f.source === s && f.target === t)?.amount ?? 0);
  const left = depth.map((_, k) => k).sort((a, b) => depth[a] - depth[b] || a - b);
  const order: number[] = [];
  while (left.length) {
    const free = left.findIndex((k) => !left.some((s) => s !== k && amount(s, k) > amount(k, s)));
    order.push(...left.splice(Math.max(0, free), 1));
  }
  return order;
}

/** Places in the prompt that are shown in a row, -1 where some are left out. */
export function tokenRow(widths: number[], used: number[], dots: number, width: number): number[] {
  const withDots = (chosen: number[]) => {
    const row: number[] = [];
    let next = 0;
    for (const at of chosen) {
      if (at > next) row.push(-1);
      row.push(at);
      next = at + 1;
    }
    if (next < widths.length) row.push(-1);
    return row;
  };
  const fits = (row: number[]) => row.reduce((sum, at) => sum + (at < 0 ? dots : widths[at]) + TOKEN_GAP, -TOKEN_GAP) <= width;
  const all = widths.map((_, at) => at);
  if (fits(all)) return all;
  let chosen: number[] = [];
  for (const at of used) {
    const more = [...chosen, at].sort((a, b) => a - b);
    if (fits(withDots(more))) chosen = more;
  }
  return withDots(chosen);
}

/** Centres of tokens: those that parts stand at have most of the room. */
function cells(sizes: number[], parts: number[], width: number): number[] {
  const weight = parts.map((n) => Math.min(2, n) + 0.15);
  const spare = width - sizes.reduce((sum, w) => sum + w + TOKEN_GAP, -TOKEN_GAP);
  const unit = spare / weight.reduce((a, b) => a + b, 0);
  let left = 0;
  return sizes.map((w, k) => {
    const cell = w + unit * weight[k];
    left += cell + TOKEN_GAP;
    return left - TOKEN_GAP - cell / 2;
  });
}

export function storyLayout(plan: Plan): Layout {
  const { width, box, parts, flows } = plan;
  const inner = width - 2 * SIDE;
  const row = tokenRow(plan.tokens, plan.used, plan.dots, inner);
  const sizes = row.map((at) => (at < 0 ? plan.dots : plan.tokens[at]));
  const centres = cells(sizes, row.map((at) => parts.filter((p) => p.position === at).length), inner);
  const xOf = (position: number) => {
    let best = 0;
    row.forEach((at, k) => {
      const far = (place: number) => (place < 0 ? Infinity : Math.abs(place - position));
      if (far(at) < far(row[best])) best = k;
    });
    return centres[best] ?? inner / 2;
  };
  const most = Math.max(1, Math.floor((inner + GAP) / (box + GAP)));
  const rows = rowsOf(parts.map((p) => p.depth), flows, most, plan.layers);
  const answerX = inLine([xOf(plan.tokens.length - 1)], [plan.answer.w], 0, inner)[0];
  const answer: Spot = { x: SIDE + answerX - plan.answer.w / 2, y: 4, w: plan.answer.w, h: plan.answer.h, row: rows.length };
  const boxes: Spot[] = [];
  let y = answer.y + answer.h + CORRIDOR;
  for (let r = rows.length - 1; r >= 0; r--) {
    const wish = (k: number) => xOf(parts[k].position);
    rows[r].sort((a, b) => wish(a) - wish(b) || parts[a].depth - parts[b].depth || a - b);
    const at = inLine(rows[r].map(wish), rows[r].map(() => box), GAP, inner);
    const tall = Math.max(...rows[r].map((k) => parts[k].height));
    rows[r].forEach((k, i) => (boxes[k] = { x: SIDE + at[i] - box / 2, y: y + (tall - parts[k].height) / 2, w: box, h: parts[k].height, row: r }));
    y += tall + CORRIDOR;
  }
  const tokens = row.map((at, k) => ({ at, x: SIDE + centres[k] - sizes[k] / 2, y, w: sizes[k], h: TOKEN_HEIGHT, row: -1 }));
  const shown = (at: number) => tokens.find((t) => t.at === at);
  const ends = (f: Flow) => [f.source != null ? boxes[f.source] : shown(f.token ?? -2), f.target != null ? boxes[f.target] : answer] as const;
  const [arcs, foot] = arcsOf(plan.looks.map(({ query, key }) => [shown(query), shown(key)]), y + TOKEN_HEIGHT);
  return { height: foot + 6, boxes, answer, tokens, arrows: arrowsOf(flows, ends, boxes, width), arcs };
}
