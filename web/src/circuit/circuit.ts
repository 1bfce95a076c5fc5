// How a circuit is read: its numbers, the words for its nodes, and what cutting them does.

import type { PageData } from "../core/contract";
import { mix } from "../core/colour";
import { count, num, percent } from "../core/format";
import { arrayOf, makeGraph, PARTS, type Graph, type Reading } from "../graph/graph";
import type { CircuitView } from "../types";

/** What stands above a circuit. */
export const factsOf = (g: Graph) => (g.view as CircuitView).facts;

export const CIRCUIT: Reading = {
  make: makeCircuit,
  ends: ["input", "logits"],
  foot: "head",
  width: 1.5, // the MLP has the longest name
  lift: (g, i) => (/mlp|feature/.test(g.kind[i]) ? 0.4 : 0), // it reads the heads of its layer
  fill(g, i, p) {
    const { delta, verdict } = g.view.nodes;
    if (!g.edgeless) return g.share[i] ? null : mix(p.surface, p.remainder, 0.5); // not in the circuit
    return delta[i] && verdict[i] === "matters" ? (delta[i]! < 0 ? p.negative : p.positive) : null;
  },
  atTokens: false,
  shares: false,
  amount: "strength",
  amountOf: (g, i) => percent(g.part[i]),
  label: (g, i) => g.view.nodes.label[i],
  place(g, i) {
    const { layer, index } = g.view.nodes;
    const kind = g.kind[i];
    if (kind === "token") return "embeddings";
    if (kind === "logit") return "output";
    return `layer ${layer[i]}, ${kind === "mlp" ? "MLP" : kind === "feature" ? `neuron ${index[i]}` : `head ${index[i]}`}`;
  },
  worth: (g, i) => (g.edgeless ? effectOf(g, i) : edgesOf(g, i)),
};

export function makeCircuit(data: PageData, number: number): Graph {
  const { nodes } = data.page.results[number].view as CircuitView;
  const weight = arrayOf<Float32Array>(data, number, "weight");
  const made = makeGraph(data, number, CIRCUIT, {
    groups: [],
    weight,
    column: (i) => nodes.position[i] ?? -1,
    left: () => 0,
    // edges are all measured on the answer: each is set against the strongest
    most: weight.reduce((a, w) => Math.max(a, Math.abs(w)), 0) || 1,
    matter: () => 1,
  });
  return { ...made, edgeless: !weight.length };
}

/** What keeping a node of a circuit of nodes does for the answer. */
export function effectOf(g: Graph, i: number): string {
  const effect = g.view.nodes.delta[i];
  return effect === null || g.view.nodes.verdict[i] === "matters" ? num(effect, true) : `${num(Math.abs(effect))} either way`;
}

/** How many edges of a circuit enter a node, by part, and leave it. */
export function edgesOf(g: Graph, i: number): string {
  const [start, end] = [g.offsets[i], g.offsets[i + 1]];
  const into = [...g.enters!.subarray(start, end)];
  const by = PARTS.map((name, p) => [name, into.filter((x) => x === p).length] as const).filter(([name, n]) => name && n);
  const out = g.outOffsets[i + 1] - g.outOffsets[i];
  if (!into.length && !out) return "not in the circuit";
  return `${count(into.length)} in${by.length ? ` (${by.map(([name, n]) => `${name} ${n}`).join(", ")})` : ""}, ${count(out)} out`;
}
