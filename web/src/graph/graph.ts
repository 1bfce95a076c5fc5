// A drawn graph as typed arrays: links by target as they come, by source as well, and each link's share of its target's input.

import type { Palette } from "../core/colour";
import type { PageData } from "../core/contract";
import type { CircuitView, GraphView, Group, Nodes } from "../types";

export type Drawn = GraphView | CircuitView;
export type NodeKind = Nodes["kind"][number];
/** Of links: tested and it matters, tested and not as predicted, tested without effect. Their signs are told only of the first. */
export const holds = (verdict: number): boolean => verdict === 1 || verdict === 3 || verdict === 5;
export const unpredicted = (verdict: number): boolean => verdict === 2;

export interface Graph {
  view: Drawn;
  reading: Reading;
  n: number;
  id: string[];
  place: Map<string, number>;
  kind: NodeKind[];
  layer: Int32Array; // row in the picture: 0 at the foot, 1 + layer, n_layers + 1 the logits
  position: Int32Array; // column; -1 across all of them
  share: Float64Array; // influence on the answer: of all that reaches it, how much passes through the node
  part: Float64Array; // the same as a part of the influence of all nodes, as the slider counts it
  ofFeatures: number; // 1 / the influence of all features: groups are counted so, as the sentence does
  cumulative: Float64Array;
  /** Groups that came with it. */
  groups: Group[];
  // links by target: those into t are offsets[t] … offsets[t + 1]
  offsets: Uint32Array;
  source: Uint32Array;
  target: Uint32Array;
  weight: Float32Array;
  verdict: Uint8Array;
  /** Which input of its target a link enters, where targets have several: a place in PARTS. */
  enters: Uint8Array | undefined;
  /** Of a target's input, what is not among the links of the page, net; NaN where nobody knows. */
  left: Float64Array;
  /** What the links into a target are set against. */
  into: Float64Array;
  // links by source: numbers of links in outLink[outOffsets[s] … outOffsets[s + 1]]
  outOffsets: Uint32Array;
  outLink: Uint32Array;
  /** Links, strongest first, by what they are set against times what the target matters. */
  order: Uint32Array;
  nRows: number;
  nColumns: number;
  hasDelta: boolean;
  /** It is made of nodes alone: they are what was cut. */
  edgeless: boolean;
}

/** What a trace and a circuit draw and say differently; the rest of their pages is shared. */
export interface Reading {
  make(data: PageData, number: number, weights: Weights): Graph;
  /** Names of the first and the last row, and of the columns where those do not say themselves what they are. */
  ends: readonly [string, string];
  foot: string;
  /** Of the last column, beside what the others have. */
  width: number;
  /** How far above its row a node stands, in rows. */
  lift(g: Graph, i: number): number;
  /** The colour of a node that is not that of its kind. */
  fill(g: Graph, i: number, p: Palette): string | null;
  /** Whether nodes stand at the tokens of a prompt. */
  atTokens: boolean;
  /** Whether a link is a part of what its target reads, and not an effect on the answer. */
  shares: boolean;
  /** What the sizes of nodes are called, and that of one node in a table. */
  amount: "influence" | "strength";
  amountOf(g: Graph, i: number): string;
  /** A node in words, its kind and place, and what it is worth. */
  label(g: Graph, i: number): string;
  place(g: Graph, i: number): string;
  worth(g: Graph, i: number): string;
}

/** What a view says of its own numbers. */
export interface Own {
  groups: Group[];
  weight: Float32Array;
  column(i: number): number;
  /** Of a target's input, what is not among its links, which add up to `sum`. */
  left(t: number, sum: number): number;
  /** What every link is set against; without it, all inputs of its target, what is left out counted as one. */
  most?: number;
  /** What a target matters for the answer. */
  matter(t: number): number;
}

/** The inputs of a head. */
export const PARTS = ["", "query", "key", "value"];

export type Weights = "value" | "change";

export const arrayOf = <T>(data: PageData, number: number, name: string): T => data.tensors[`${number}.links.${name}`] as T;

export function makeGraph(data: PageData, number: number, reading: Reading, own: Own): Graph {
  const view = data.page.results[number].view as Drawn;
  const { nodes } = view;
  const { weight } = own;
  const n = nodes.id.length;
  const offsets = arrayOf<Uint32Array>(data, number, "offsets");
  const source = arrayOf<Uint32Array>(data, number, "source");
  const nRows = view.n_layers + 2;
  const layer = new Int32Array(n);
  const position = new Int32Array(n);
  for (let i = 0; i < n; i++) {
    const kind = nodes.kind[i];
    layer[i] = kind === "token" ? 0 : kind === "logit" ? nRows - 1 : Math.min(nRows - 2, Math.max(0, nodes.layer[i] ?? 0) + 1);
    position[i] = own.column(i);
  }
  const target = new Uint32Array(source.length);
  const into = new Float64Array(n);
  const left = new Float64Array(n);
  for (let t = 0; t < n; t++) {
    target.fill(t, offsets[t], offsets[t + 1]);
    let size = 0;
    let sum = 0;
    for (let e = offsets[t]; e < offsets[t + 1]; e++) {
      size += Math.abs(weight[e]);
      sum += weight[e];
    }
    if (offsets[t] < offsets[t + 1]) left[t] = own.left(t, sum);
    into[t] = own.most ?? (size + Math.abs(left[t] || 0) || 1);
  }
  const outOffsets = new Uint32Array(n + 1);
  for (const s of source) outOffsets[s + 1]++;
  for (let i = 0; i < n; i++) outOffsets[i + 1] += outOffsets[i];
  const next = outOffsets.slice();
  const outLink = new Uint32Array(source.length);
  for (let e = 0; e < source.length; e++) outLink[next[source[e]]++] = e;
  const share = Float64Array.from(nodes.share);
  const whole = (kind?: string) => share.reduce((sum, x, i) => sum + (!kind || nodes.kind[i] === kind ? x : 0), 0) || 1;
  const total = whole();
  const part = share.map((x) => x / total);
  const score = new Float32Array(source.length);
  for (let t = 0; t < n; t++) {
    const m = own.matter(t) / into[t];
    for (let e = offsets[t]; e < offsets[t + 1]; e++) score[e] = Math.abs(weight[e]) * m;
  }
  return {
    view, reading, n, id: nodes.id, place: new Map(nodes.id.map((id, i) => [id, i])), kind: nodes.kind as NodeKind[], layer, position, share, part, ofFeatures: 1 / whole("feature"),
    cumulative: Float64Array.from(nodes.cumulative), groups: own.groups, offsets, source, target, weight, verdict: arrayOf(data, number, "verdict"), enters: arrayOf(data, number, "part"),
    left, into, outOffsets, outLink, order: strongest(score), nRows, nColumns: Math.max(1, view.tokens.length), hasDelta: !!arrayOf(data, number, "delta"), edgeless: false,
  }; // prettier-ignore
}

/** Indices by descending score. Sorting packed 64-bit keys is several times faster than a comparator. */
export function strongest(score: Float32Array): Uint32Array {
  const bits = new Uint32Array(score.buffer, score.byteOffset, score.length); // non-negative floats order like their bits
  const keys = new Float64Array(score.length);
  // 26 leading bits of the score and 26 of the index fit the 53 bits of a double
  for (let i = 0; i < keys.length; i++) keys[i] = (bits[i] >>> 5) * 0x4000000 + i;
  keys.sort();
  const out = new Uint32Array(keys.length);
  for (let i = 0; i < keys.length; i++) out[keys.length - 1 - i] = keys[i] % 0x4000000;
  return out;
}

/** The sign of a link, where a test bore it out; else 0. (Older files did not test signs.) */
export const signOf = (g: Graph, e: number): number => (g.verdict[e] === 1 || g.verdict[e] === 3 ? Math.sign(g.weight[e]) : 0);

/** weight as a share of the target's input, signed. */
export const linkShare = (g: Graph, e: number): number => g.weight[e] / g.into[g.target[e]];

export interface Row {
  link: number;
  node: number;
  weight: number;
  share: number;
}

/** What goes into a node, strongest first. */
export function inputs(g: Graph, t: number): Row[] {
  const rows: Row[] = [];
  for (let e = g.offsets[t]; e < g.offsets[t + 1]; e++) rows.push({ link: e, node: g.source[e], weight: g.weight[e], share: linkShare(g, e) });
  return rows.sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
}

/** Where a node goes, by its share in each target's input. */
export function outputs(g: Graph, s: number): Row[] {
  const rows: Row[] = [];
  for (let k = g.outOffsets[s]; k < g.outOffsets[s + 1]; k++) {
    const e = g.outLink[k];
    rows.push({ link: e, node: g.target[e], weight: g.weight[e], share: linkShare(g, e) });
  }
  return rows.sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
}

export interface Difference {
  rows: Row[];
  /** Of the difference, what is not among the links, as a share; NaN where nobody knows. */
  left: number;
  /** Rows that have a link to one of the two only: the other may be among what was left out. */
  oneSided: number;
}

/** The direct effect of each node on logit a minus that on logit b: what the graph says about "a rather than b". */
export function difference(g: Graph, a: number, b: number): Difference {
  const total = new Map<number, Row & { links: number }>();
  for (const [t, sign] of [[a, 1], [b, -1]] as const) {
    for (let e = g.offsets[t]; e < g.offsets[t + 1]; e++) {
      const row = total.get(g.source[e]) ?? { link: e, node: g.source[e], weight: 0, share: 0, links: 0 };
      row.weight += sign * g.weight[e];
      row.links++;
      total.set(g.source[e], row);
    }
  }
  const rows = [...total.values()];
  const left = g.left[a] - g.left[b];
  const size = rows.reduce((sum, r) => sum + Math.abs(r.weight), Math.abs(left || 0)) || 1;
  for (const row of rows) row.share = row.weight / size;
  const oneSided = rows.filter((row) => row.links === 1).length;
  return { rows: rows.sort((x, y) => Math.abs(y.share) - Math.abs(x.share)), left: left / size, oneSided };
}

/** Total direct effect of one set of nodes on another, each target's input as its own unit (circuit-tracer's rule, with what is left out counted as outside). */
export function groupLink(g: Graph, from: Set<number>, to: number[]): number {
  const inside = new Set(to);
  const outsideOf = to.map((t) => {
    let sum = Math.abs(g.left[t] || 0); // what is left out comes from outside as well
    for (let e = g.offsets[t]; e < g.offsets[t + 1]; e++) if (!inside.has(g.source[e])) sum += Math.abs(g.weight[e]);
    return sum;
  });
  const fractions = to.map((t, i) => outsideOf[i] / g.into[t]);
  const whole = fractions.reduce((a, b) => a + b, 0) || 1;
  let total = 0;
  to.forEach((t, i) => {
    if (!outsideOf[i]) return;
    let sum = 0;
    for (let e = g.offsets[t]; e < g.offsets[t + 1]; e++) if (from.has(g.source[e])) sum += g.weight[e];
    total += (sum / outsideOf[i]) * (fractions[i] / whole);
  });
  return total;
}
