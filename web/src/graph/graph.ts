// The graph as typed arrays: links by target as they come, by source as well, and each link's share of its target's input.

import type { PageData } from "../core/contract";
import type { GraphView, Nodes } from "../types";

export type NodeKind = Nodes["kind"][number];
/** Of links: tested and it matters, tested and not as predicted, tested without effect. Their signs are told only of the first. */
export const holds = (verdict: number): boolean => verdict === 1 || verdict === 3 || verdict === 5;
export const unpredicted = (verdict: number): boolean => verdict === 2;

export interface Graph {
  view: GraphView;
  n: number;
  id: string[];
  place: Map<string, number>;
  kind: NodeKind[];
  layer: Int32Array; // row in the picture: 0 tokens, 1 + layer, n_layers + 1 the logits
  position: Int32Array; // column: the token, or in a circuit the head; -1 across all of them
  share: Float64Array; // influence on the answer: of all that reaches it, how much passes through the node
  part: Float64Array; // the same as a part of the influence of all nodes, as the slider counts it
  ofFeatures: number; // 1 / the influence of all features: groups are counted so, as the sentence does
  cumulative: Float64Array;
  // links by target: those into t are offsets[t] … offsets[t + 1]
  offsets: Uint32Array;
  source: Uint32Array;
  target: Uint32Array;
  weight: Float32Array;
  verdict: Uint8Array;
  /** Of a circuit, which input of the target a link enters: a place in PARTS. */
  enters: Uint8Array | undefined;
  /** Of a target's input, what is not among the links of the page, net; NaN where nobody knows. */
  left: Float64Array;
  /** |weight| of all of a target's inputs, what is left out included as one. */
  into: Float64Array;
  // links by source: numbers of links in outLink[outOffsets[s] … outOffsets[s + 1]]
  outOffsets: Uint32Array;
  outLink: Uint32Array;
  /** Links, strongest first, by share of the target's input times what the target matters. */
  order: Uint32Array;
  nRows: number;
  nColumns: number;
  hasDelta: boolean;
  /** A circuit of nodes: they are what was cut. */
  edgeless: boolean;
}

/** The inputs of a head. */
export const PARTS = ["", "query", "key", "value"];

export type Weights = "value" | "change";

export function makeGraph(data: PageData, number: number, weights: Weights = "value"): Graph {
  const view = data.page.results[number].view as GraphView;
  const { nodes, circuit } = view;
  const n = nodes.id.length;
  const tensor = <T>(name: string) => data.tensors[`${number}.links.${name}`] as T;
  const offsets = tensor<Uint32Array>("offsets");
  const source = tensor<Uint32Array>("source");
  const change = data.tensors[`${number}.links.delta`] as Float32Array | undefined;
  const weight = weights === "change" && change ? change : tensor<Float32Array>("weight");
  const nRows = view.n_layers + 2;
  const layer = new Int32Array(n);
  const position = new Int32Array(n);
  const last = Math.max(0, view.tokens.length - 1);
  for (let i = 0; i < n; i++) {
    const kind = nodes.kind[i];
    layer[i] = kind === "token" ? 0 : kind === "logit" ? nRows - 1 : Math.min(nRows - 2, Math.max(0, nodes.layer[i] ?? 0) + 1);
    position[i] = circuit ? (nodes.position[i] ?? -1) : Math.min(last, Math.max(0, nodes.position[i] ?? last));
  }
  // edges of a circuit are all measured on the answer: each is set against the strongest
  const most = circuit && (weight.reduce((a, w) => Math.max(a, Math.abs(w)), 0) || 1);
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
    // of a change: links that are not here, and what the linear view does not hold
    if (!circuit && offsets[t] < offsets[t + 1]) left[t] = weight !== change ? nodes.dropped[t] : (nodes.delta[t] ?? NaN) - sum;
    into[t] = most || size + Math.abs(left[t] || 0) || 1;
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
  const any = share.some((x) => x > 0);
  const matter = (t: number) => circuit ? 1 : (any ? share[t] : 1) + (nodes.kind[t] === "logit" ? (nodes.probability[t] ?? 1) : 0);
  const score = new Float32Array(source.length);
  for (let t = 0; t < n; t++) {
    const m = matter(t) / into[t];
    for (let e = offsets[t]; e < offsets[t + 1]; e++) score[e] = Math.abs(weight[e]) * m;
  }
  return {
    view, n, id: nodes.id, place: new Map(nodes.id.map((id, i) => [id, i])), kind: nodes.kind as NodeKind[], layer, position, share, part, ofFeatures: 1 / whole("feature"),
    cumulative: Float64Array.from(nodes.cumulative), offsets, source, target, weight, verdict: tensor<Uint8Array>("verdict"), enters: tensor<Uint8Array | undefined>("part"),
    left, into, outOffsets, outLink, order: strongest(score), nRows, nColumns: Math.max(1, view.tokens.length), hasDelta: !!change, edgeless: !!circuit && !source.length,
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

/** The share of the nodes' inputs that nothing in the graph explains; null if the file does not say and nothing can be told. */
export function unexplained(g: Graph): number | null {
  const told = g.view.scores.unexplained;
  if (typeof told === "number") return told;
  const completeness = g.view.scores.completeness;
  if (typeof completeness === "number") return 1 - completeness;
  // a file without scores: the share of errors and of what is left out in the inputs, weighted by influence
  let lost = 0;
  let all = 0;
  for (let t = 0; t < g.n; t++) {
    const m = g.share[t] + (g.kind[t] === "logit" ? (g.view.nodes.probability[t] ?? 1) : 0);
    if (!m || g.offsets[t] === g.offsets[t + 1]) continue;
    let error = Math.abs(g.left[t] || 0);
    for (let e = g.offsets[t]; e < g.offsets[t + 1]; e++) {
      const k = g.kind[g.source[e]];
      if (k === "error" || k === "remainder") error += Math.abs(g.weight[e]);
    }
    lost += (m * error) / g.into[t];
    all += m;
  }
  return all ? lost / all : null;
}
