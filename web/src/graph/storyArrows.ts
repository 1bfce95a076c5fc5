// The lines of a story: arrows that pass between boxes and not behind them, and arcs of attention under the tokens.

import type { Flow } from "../types";

export interface Spot {
  x: number; // left
  y: number; // top
  w: number;
  h: number;
  row: number; // -1 the tokens, 0 … the parts, then the answer
}

export interface Arrow {
  flow: Flow;
  width: number;
  line: string;
  /** Pointed if it speaks for the answer, else a bar. */
  head: string;
}
export interface Arc {
  line: string;
  head: string;
}

const THICKEST = 9;
const CLEAR = 7; // between a box and an arrow that passes it
const LIFT = 40; // of an arch over its row

interface Wire {
  flow: Flow;
  width: number;
  a: Spot;
  b: Spot;
  /** Rows between, each with the place where it is crossed. */
  way: { x: number; top: number; bottom: number }[];
  up: number; // 1 up, 0 within a row, -1 down
  x1: number;
  x2: number;
}

/** In each row, where it is crossed already and half as wide. */
type Taken = Map<number, [number, number][]>;

const centre = (s: Spot): number => s.x + s.w / 2;
const r = (x: number): number => Math.round(x * 10) / 10;

/** ends: where a flow begins and stops; one whose ends are not both on screen is left out. across: the width of the picture. */
export function arrowsOf(flows: Flow[], ends: (f: Flow) => readonly [Spot | undefined, Spot | undefined], boxes: Spot[], across: number): Arrow[] {
  const largest = Math.max(0, ...flows.map((f) => Math.abs(f.amount)));
  const taken: Taken = new Map();
  const wires: Wire[] = [];
  for (const flow of flows) {
    const [a, b] = ends(flow);
    if (!a || !b || a === b) continue;
    const width = Math.max(1.2, (Math.abs(flow.amount) / largest) * THICKEST);
    wires.push({ flow, width, a, b, way: wayOf(a, b, width, boxes, across, taken), up: Math.sign(b.row - a.row), x1: centre(a), x2: centre(b) });
  }
  spreadPorts(wires);
  return wires.map((w) => ({ flow: w.flow, width: w.width, ...drawn(w, boxes) }));
}

/** Through which gap of each row between them. */
function wayOf(a: Spot, b: Spot, width: number, boxes: Spot[], across: number, taken: Taken): Wire["way"] {
  const step = Math.sign(b.row - a.row);
  const way: Wire["way"] = [];
  for (let row = a.row + step; step && row !== b.row; row += step) {
    const there = boxes.filter((s) => s.row === row).sort((p, q) => p.x - q.x);
    if (!there.length) continue;
    const { top, bottom } = rowOf(there[0], boxes);
    const last = way.at(-1);
    const [x1, y1] = last ? [last.x, (last.top + last.bottom) / 2] : [centre(a), a.y + a.h / 2];
    const wish = x1 + ((centre(b) - x1) * ((top + bottom) / 2 - y1)) / (b.y + b.h / 2 - y1 || 1);
    const used = taken.get(row) ?? taken.set(row, []).get(row)!;
    const x = freeAt(wish, width / 2, there, across, used);
    used.push([x, width / 2]);
    way.push({ x, top, bottom });
  }
  return way;
}

/** The place nearest to x that is between boxes, and if there is room apart from other arrows. half: of the arrow's width. */
function freeAt(x: number, half: number, there: Spot[], across: number, used: [number, number][]): number {
  const open = (at: number) => at > CLEAR && at < across - CLEAR && there.every((s) => at <= s.x - CLEAR || at >= s.x + s.w + CLEAR);
  const candidates = [x, ...there.flatMap((s) => [s.x - CLEAR, s.x + s.w + CLEAR])].filter(open);
  const near = candidates.sort((p, q) => Math.abs(p - x) - Math.abs(q - x))[0] ?? x;
  for (let d = 0; d <= 24; d += 2)
    for (const at of [near + d, near - d]) if (open(at) && used.every(([u, other]) => Math.abs(u - at) >= half + other + 3)) return at;
  return near;
}

/** Arrows leave and reach a box side by side, in the order of where they come from and go. */
function spreadPorts(wires: Wire[]): void {
  const sides = new Map<Spot, { top: [number, (x: number) => void][]; bottom: [number, (x: number) => void][] }>();
  const side = (s: Spot) => sides.get(s) ?? sides.set(s, { top: [], bottom: [] }).get(s)!;
  for (const w of wires) {
    side(w.a)[w.up < 0 ? "bottom" : "top"].push([(w.way[0]?.x ?? centre(w.b)) + centre(w.b) / 1e4, (x) => (w.x1 = x)]);
    side(w.b)[w.up > 0 ? "bottom" : "top"].push([(w.way.at(-1)?.x ?? centre(w.a)) + centre(w.a) / 1e4, (x) => (w.x2 = x)]);
  }
  for (const [spot, { top, bottom }] of sides)
    for (const ports of [top, bottom]) {
      const step = Math.min(26, (spot.w * 0.86) / ports.length);
      ports.sort((p, q) => p[0] - q[0]).forEach(([, put], k) => put(centre(spot) + (k - (ports.length - 1) / 2) * step));
    }
}

/** As few bends as boxes allow. */
function drawn({ flow, a, b, way, up, width, x1, x2 }: Wire, boxes: Spot[]): { line: string; head: string } {
  const pointed = flow.amount < 0;
  const long = pointed ? 8 + width * 0.7 : 3;
  const tip = up > 0 ? b.y + b.h + 2 : b.y - 2;
  const end = tip + (up > 0 ? long : -long);
  const half = width / 2 + (pointed ? 4 : 5);
  const head = pointed
    ? `M${r(x2)} ${r(tip)}L${r(x2 - half)} ${r(end)}L${r(x2 + half)} ${r(end)}Z`
    : `M${r(x2 - half)} ${r(tip)}H${r(x2 + half)}V${r(end)}H${r(x2 - half)}Z`;
  const start = up < 0 ? a.y + a.h : a.y;
  // straight until past the highest of its row
  const leave = up < 0 ? rowOf(a, boxes).bottom : rowOf(a, boxes).top;
  const enter = up > 0 ? Math.max(end, rowOf(b, boxes).bottom) : Math.min(end, rowOf(b, boxes).top);
  let line = `M${r(x1)} ${r(start)}L${r(x1)} ${r(leave)}`;
  if (!up) return { line: `${line}C${r(x1)} ${r(leave - LIFT)} ${r(x2)} ${r(enter - LIFT)} ${r(x2)} ${r(enter)}L${r(x2)} ${r(end)}`, head };
  const stops = [{ x: x1, near: start, far: leave }, ...way.map(({ x, top, bottom }) => ({ x, near: up > 0 ? bottom : top, far: up > 0 ? top : bottom })), { x: x2, near: enter, far: end }];
  const others = boxes.filter((s) => s !== a && s !== b);
  for (let k = 0; k < stops.length - 1; ) {
    let next = stops.length - 1;
    while (next > k + 1 && !clear(stops[k].x, stops[k].far, stops[next].x, stops[next].near, width / 2, others)) next--;
    const { x, far } = stops[k];
    const to = stops[next];
    const middle = (far + to.near) / 2;
    line += `C${r(x)} ${r(middle)} ${r(to.x)} ${r(middle)} ${r(to.x)} ${r(to.near)}L${r(to.x)} ${r(to.far)}`;
    k = next;
  }
  return { line, head };
}

/** From where to where the row of a spot reaches. */
function rowOf(spot: Spot, boxes: Spot[]): { top: number; bottom: number } {
  const there = [spot, ...boxes.filter((s) => s.row === spot.row)];
  return { top: Math.min(...there.map((s) => s.y)), bottom: Math.max(...there.map((s) => s.y + s.h)) };
}

/** Whether the curve from one point to another touches no box. */
function clear(x1: number, y1: number, x2: number, y2: number, half: number, boxes: Spot[]): boolean {
  const near = half + 4;
  for (let t = 0; t <= 1; t += 1 / 64) {
    const [p, q] = [(1 - t) ** 3 + 3 * t * (1 - t) ** 2, t ** 3 + 3 * t ** 2 * (1 - t)];
    const x = p * x1 + q * x2;
    const y = (1 - t) ** 3 * y1 + 3 * t * (1 - t) * ((y1 + y2) / 2) + t ** 3 * y2;
    if (boxes.some((s) => x > s.x - near && x < s.x + s.w + near && y > s.y - near && y < s.y + s.h + near)) return false;
  }
  return true;
}

/** Arcs from the token that looks to the one it looks at, the shortest nearest; and how far down they reach. */
export function arcsOf(links: [Spot | undefined, Spot | undefined][], y: number): [(Arc | null)[], number] {
  const far = ([q, k]: (typeof links)[number]) => (q && k ? Math.abs(centre(q) - centre(k)) : Infinity);
  const order = links.map((_, n) => n).sort((p, q) => far(links[p]) - far(links[q]));
  const arcs: (Arc | null)[] = links.map(() => null);
  let foot = y;
  order.forEach((n, level) => {
    const [query, key] = links[n];
    if (!query || !key) return;
    const deep = 16 + 11 * level;
    const shift = (level - (links.length - 1) / 2) * 4;
    const loop = query === key ? 5 + level : 0; // a token that looks at itself
    const [x1, x2] = [centre(query) + shift - loop, centre(key) + shift + loop];
    const low = y + (deep * 4) / 3;
    arcs[n] = {
      line: `M${r(x1)} ${r(y)}C${r(x1 - loop)} ${r(low)} ${r(x2 + loop)} ${r(low)} ${r(x2)} ${r(y + 6)}`,
      head: `M${r(x2)} ${r(y)}l-3.5 7h7Z`,
    };
    foot = Math.max(foot, y + deep + 4);
  });
  return [arcs, foot];
}
