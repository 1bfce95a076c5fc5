// Drawing the link graph. Everything is drawn through a Pen, which is a canvas or an SVG writer.

import { mix, palette, type Palette } from "../core/colour";
import { short, token } from "../core/format";
import type { Pen } from "../core/pen";
import { holds, linkShare, signOf, unpredicted, type Graph, type NodeKind } from "./graph";
import type { Layout } from "./layout";
import type { Zoom } from "./zoom";

export interface Scene {
  graph: Graph;
  layout: Layout;
  zoom: Zoom;
  dark: boolean;
  edges: Uint32Array;
  visible: Uint8Array;
  selected: number;
  /** Of the selected group, and what is being collected for one. */
  members: Set<number>;
  pinned: Set<number>;
  matches: Set<number> | null;
  /** Strength of each node for the selected one or the contrast, 0 to 1, and its sign where that was tested; null: by kind. */
  tint: Map<number, { size: number; sign: number }> | null;
}

const GAPS = [0.02, 0.06, 0.15, 1.01]; // upper ends of the width classes, as |share of the target's input|
const WIDTHS = [0.6, 1, 1.8, 3];
const ALPHAS = [0.16, 0.3, 0.5, 0.75];

export function drawScene(pen: Pen, s: Scene, width: number, height: number): void {
  const p = palette(s.dark);
  pen.globalAlpha = 1;
  pen.fillStyle = p.surface;
  pen.fillRect(0, 0, width, height);
  drawAxes(pen, s, p, width, height);
  const faint = s.selected >= 0 || s.tint ? 0.35 : 1;
  drawEdges(pen, s, s.edges, faint);
  if (s.selected >= 0) drawEdges(pen, s, edgesOf(s, s.selected), 1.6);
  drawNodes(pen, s, p);
  drawLabels(pen, s, p, width, height);
}

function edgesOf(s: Scene, i: number): Uint32Array {
  const { graph: g, visible: on } = s;
  const out: number[] = [];
  for (let e = g.offsets[i]; e < g.offsets[i + 1]; e++) if (on[g.source[e]]) out.push(e);
  for (let k = g.outOffsets[i]; k < g.outOffsets[i + 1]; k++) if (on[g.target[g.outLink[k]]]) out.push(g.outLink[k]);
  return Uint32Array.from(out);
}

/** Every how many layers there is room for a label. */
const labelEvery = ({ layout: l, zoom: z }: Scene): number => Math.max(1, Math.ceil(14 / Math.max(Math.abs(l.rowY(0) - l.rowY(1)) * z.k, 0.1)));

function drawAxes(pen: Pen, s: Scene, p: Palette, width: number, height: number): void {
  const { graph: g, layout: l, zoom: z } = s;
  pen.lineWidth = 1;
  const every = labelEvery(s);
  pen.strokeStyle = p.line;
  pen.globalAlpha = 0.6;
  pen.beginPath();
  for (let row = 0; row < g.nRows; row += every) {
    const y = l.rowY(row) * z.k + z.y;
    if (y < 0 || y > height - 24) continue;
    pen.moveTo(40, y);
    pen.lineTo(width, y);
  }
  for (const c of l.columns.slice(1)) {
    const x = c.left * z.k + z.x;
    if (x < 40 || x > width) continue;
    pen.moveTo(x, 0);
    pen.lineTo(x, height - 24);
  }
  pen.stroke();
  pen.globalAlpha = 1;
}

/** Layers along the left and tokens along the foot; they stay whatever the zoom, with what is drawn passing below. */
function drawLabels(pen: Pen, s: Scene, p: Palette, width: number, height: number): void {
  const { graph: g, layout: l, zoom: z } = s;
  const every = labelEvery(s);
  pen.globalAlpha = z.k > 1 ? 0.85 : 0;
  pen.fillStyle = p.surface;
  pen.fillRect(0, 0, 40, height);
  pen.globalAlpha = 1;
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.fillStyle = p.soft;
  pen.textAlign = "right";
  for (let row = 0; row < g.nRows; row++) {
    const y = l.rowY(row) * z.k + z.y;
    const end = row === 0 || row === g.nRows - 1;
    if (y < 6 || y > height - 26 || (!end && ((row - 1) % every !== 0 || row > g.nRows - 2 - (every > 1 ? 1 : 0)))) continue;
    pen.fillText(end ? g.reading.ends[row && 1] : String(row - 1), 37, y);
  }
  pen.fillStyle = p.panel;
  pen.fillRect(0, height - 24, width, 24);
  if (g.reading.foot) {
    pen.fillStyle = p.soft;
    pen.fillText(g.reading.foot, 37, height - 12);
  }
  pen.fillStyle = p.text;
  pen.textAlign = "center";
  pen.font = "12px ui-monospace, monospace";
  l.columns.forEach((c, i) => {
    const x = (c.left + c.width / 2) * z.k + z.x;
    const middle = (k: number) => (l.columns[k].left + l.columns[k].width / 2) * z.k + z.x;
    const gap = Math.min(i > 0 ? x - middle(i - 1) : Infinity, i + 1 < l.columns.length ? middle(i + 1) - x : Infinity);
    const room = Math.floor((Math.min(gap, 400) - 6) / 7.3);
    if (x < 20 || x > width - 4 || room < 1) return;
    pen.fillText(short(token(g.view.tokens[i] ?? ""), Math.max(1, room)), x, height - 12);
  });
}

/** Edges in as few strokes as there are looks: sign, width class and verdict. */
function drawEdges(pen: Pen, s: Scene, edges: Uint32Array, strength: number): void {
  const { graph: g, layout: l, zoom: z } = s;
  const p = palette(s.dark);
  const thin = g.reading.shares ? 1 : Math.min(1, Math.sqrt(150 / (edges.length || 1))); // many strong edges: there are no others
  const looks: number[][] = Array.from({ length: 48 }, () => []);
  for (const e of edges) {
    const size = Math.abs(linkShare(g, e));
    const width = size < GAPS[0] ? 0 : size < GAPS[1] ? 1 : size < GAPS[2] ? 2 : 3;
    const v = g.verdict[e];
    looks[(signOf(g, e) + 1) * 16 + (v ? (holds(v) ? 1 : unpredicted(v) ? 2 : 3) : 0) * 4 + width].push(e);
  }
  looks.forEach((list, look) => {
    if (!list.length) return;
    const verdict = Math.floor((look % 16) / 4);
    const path = () => {
      pen.beginPath();
      for (const e of list) {
        const [a, b] = [g.source[e], g.target[e]];
        const [x1, y1] = [l.x[a] * z.k + z.x, l.y[a] * z.k + z.y];
        let [x2, y2] = [l.x[b] * z.k + z.x, l.y[b] * z.k + z.y];
        const bend = (y2 - y1) * 0.4;
        // up one column: round the nodes between
        const side = g.enters && Math.abs(x2 - x1) < 1 ? Math.min(30, (y1 - y2) * 0.15) : 0;
        if (g.enters?.[e]) x2 += (g.enters[e] - 2) * nodeSize(g, b, z.k); // query, key, value from left to right
        pen.moveTo(x1, y1);
        pen.bezierCurveTo(x1 + side, y1 + bend, x2 + side, y2 - bend, x2, y2);
      }
      pen.stroke();
    };
    if (verdict === 1) {
      // a green edge: width says how strong a link is, so it cannot say that it was tested
      pen.strokeStyle = p.tested;
      pen.lineWidth = WIDTHS[look % 4] * Math.max(thin, 0.5) + 4 * thin;
      pen.globalAlpha = Math.min(1, 0.45 * strength);
      pen.setLineDash([]);
      path();
    }
    pen.strokeStyle = [p.negative, p.node, p.positive][Math.floor(look / 16)];
    pen.lineWidth = WIDTHS[look % 4] * Math.max(thin, 0.5);
    pen.globalAlpha = Math.min(1, (ALPHAS[look % 4] + (verdict ? 0.25 : 0)) * strength);
    pen.setLineDash(verdict === 2 ? [9, 3] : verdict === 3 ? [2, 4] : []);
    path();
  });
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

export function nodeSize(g: Graph, i: number, k: number): number {
  const base = g.kind[i] === "token" || g.kind[i] === "logit" ? 4.5 : 2.6 + 3.2 * Math.min(1, Math.sqrt(g.part[i] * 20));
  return base * Math.min(2, Math.max(0.9, Math.sqrt(k)));
}

export function shape(pen: Pen, kind: NodeKind, x: number, y: number, r: number): void {
  if (kind === "token" || kind === "logit") pen.rect(x - r, y - r, 2 * r, 2 * r);
  else if (kind === "remainder" || kind === "error") {
    pen.moveTo(x, y - r * 1.25);
    pen.lineTo(x + r * 1.25, y);
    pen.lineTo(x, y + r * 1.25);
    pen.lineTo(x - r * 1.25, y);
    pen.closePath();
  } else if (kind === "head" || kind === "link") {
    pen.moveTo(x, y - r * 1.2);
    pen.lineTo(x + r * 1.2, y + r);
    pen.lineTo(x - r * 1.2, y + r);
    pen.closePath();
  } else if (kind === "bias") {
    pen.rect(x - r, y - r / 3, 2 * r, (2 * r) / 3);
    pen.rect(x - r / 3, y - r, (2 * r) / 3, 2 * r);
  } else {
    pen.moveTo(x + r, y);
    pen.arc(x, y, r, 0, 2 * Math.PI);
  }
}

export function fillOf(s: Scene, i: number, p: Palette): string {
  if (s.tint) {
    const { size: t, sign } = s.tint.get(i) ?? { size: 0, sign: 0 };
    // few distinct colours, so that nodes can be filled together
    const step = Math.round(Math.sqrt(Math.min(1, t * 4)) * 10) / 10;
    return step === 0 ? mix(p.surface, p.remainder, 0.55) : mix(p.surface, sign < 0 ? p.negative : sign > 0 ? p.positive : p.unsigned, 0.25 + 0.75 * step);
  }
  const kind = s.graph.kind[i];
  const own = s.graph.reading.fill(s.graph, i, p);
  if (own) return own;
  return kind === "remainder" || kind === "error" ? p.remainder : kind === "token" || kind === "logit" ? p.text : p.node;
}

function drawNodes(pen: Pen, s: Scene, p: Palette): void {
  const { graph: g, layout: l, zoom: z } = s;
  const fills = new Map<string, number[]>();
  for (const i of l.shown) {
    const dim = s.matches && !s.matches.has(i);
    const fill = dim ? mix(p.surface, p.remainder, 0.4) : fillOf(s, i, p);
    const list = fills.get(fill);
    if (list) list.push(i);
    else fills.set(fill, [i]);
  }
  const at = (i: number): [number, number, number] => [l.x[i] * z.k + z.x, l.y[i] * z.k + z.y, nodeSize(g, i, z.k)];
  for (const [fill, list] of fills) {
    pen.fillStyle = fill;
    pen.beginPath();
    for (const i of list) shape(pen, g.kind[i], ...at(i));
    pen.fill();
  }
  const verdicts = g.view.nodes.verdict;
  for (const [colour, dash, ...which] of [[p.tested, 0, "as-predicted", "matters", "tested"], [p.unpredicted, 0, "not-as-predicted"], [p.refuted, 1, "no-effect", "refuted"]] as const) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.6;
    pen.setLineDash(dash ? [2.5, 2] : []);
    pen.beginPath();
    for (const i of l.shown) if ((which as readonly string[]).includes(verdicts[i])) ring(pen, ...at(i), 2);
    pen.stroke();
  }
  pen.setLineDash([]);
  pen.strokeStyle = p.text;
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (const i of s.pinned) if (s.visible[i]) ring(pen, ...at(i), 3.5);
  pen.stroke();
  if (s.matches) {
    pen.strokeStyle = p.selected;
    pen.lineWidth = 1.2;
    pen.beginPath();
    for (const i of s.matches) if (s.visible[i]) ring(pen, ...at(i), 1.5);
    pen.stroke();
  }
  if (s.members.size) {
    pen.strokeStyle = p.selected;
    pen.lineWidth = s.members.size > 60 ? 0.8 : 1.4; // many rings would hide their nodes
    pen.beginPath();
    for (const i of s.members) if (s.visible[i]) ring(pen, ...at(i), 1.5);
    pen.stroke();
  }
  if (s.selected >= 0) {
    pen.strokeStyle = p.selected;
    pen.lineWidth = 3;
    pen.beginPath();
    ring(pen, ...at(s.selected), 4);
    pen.stroke();
  }
  nameOutputs(pen, s, p, at);
}

/** The strongest outputs carry their token, where there is room. */
function nameOutputs(pen: Pen, s: Scene, p: Palette, at: (i: number) => [number, number, number]): void {
  const { graph: g } = s;
  const { probability } = g.view.nodes;
  const logits = [...s.layout.shown].filter((i) => g.kind[i] === "logit").sort((a, b) => (probability[b] ?? 0) - (probability[a] ?? 0));
  let free = -Infinity; // right end of the last name
  pen.fillStyle = p.text;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.font = "12px ui-monospace, monospace";
  for (const i of logits) {
    const [x, y, r] = at(i);
    const name = short(token(g.view.nodes.label[i]), 16);
    if (x - name.length * 3.7 < free) continue;
    free = x + name.length * 3.7 + 6;
    pen.fillText(name, x, y - r - 8);
  }
}

export function ring(pen: Pen, x: number, y: number, r: number, gap: number): void {
  pen.moveTo(x + r + gap, y);
  pen.arc(x, y, r + gap, 0, 2 * Math.PI);
}

/** What follows the pointer: the hovered node and its strongest edges. Redrawn at every move, so it draws little. */
export function drawHover(pen: Pen, s: Scene, hovered: number): void {
  const { layout: l, zoom: z, graph: g } = s;
  const p = palette(s.dark);
  const strongest = [...edgesOf(s, hovered)].sort((a, b) => Math.abs(linkShare(g, b)) - Math.abs(linkShare(g, a))).slice(0, 60);
  if (s.selected < 0) drawEdges(pen, s, Uint32Array.from(strongest), 1.8);
  pen.strokeStyle = p.selected;
  pen.lineWidth = 2;
  pen.setLineDash([3, 2]);
  pen.beginPath();
  ring(pen, l.x[hovered] * z.k + z.x, l.y[hovered] * z.k + z.y, nodeSize(g, hovered, z.k), 4);
  pen.stroke();
  pen.setLineDash([]);
}
