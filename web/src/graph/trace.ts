// How a trace is read: its numbers, the words for its nodes, and how much of it nothing explains.

import type { PageData } from "../core/contract";
import { chance, percent } from "../core/format";
import type { GraphView } from "../types";
import { arrayOf, makeGraph, type Graph, type Reading, type Weights } from "./graph";

/** The view of the trace that a graph was made of. */
export const traceOf = (g: Graph): GraphView => g.view as GraphView;

/** What the features of a trace are called: neurons, or features of dictionaries. */
export const unitsOf = (g: Graph): string => traceOf(g).units ?? "neurons"; // pages of before do not say it

export const TRACE: Reading = {
  make: makeTrace,
  ends: ["token", "output"],
  foot: "",
  width: 1,
  lift: () => 0,
  fill: () => null,
  atTokens: true,
  shares: true,
  amount: "influence",
  amountOf: (g, i) => (g.kind[i] === "logit" ? chance(g.view.nodes.probability[i]) : percent(g.part[i])),
  label(g, i) {
    const { label, layer, index } = g.view.nodes;
    const kind = g.kind[i];
    if (kind === "token" || kind === "logit") return label[i];
    if (kind === "remainder") return `${unitsOf(g)} of layer ${layer[i]} that are not drawn`;
    if (kind === "error") return `reconstruction error of layer ${layer[i]}`;
    return label[i] || `${kind} ${index[i] ?? ""} of layer ${layer[i]}`;
  },
  place(g, i) {
    const kind = g.kind[i];
    if (kind === "token") return "token";
    if (kind === "logit") return "output";
    if (kind === "remainder" || kind === "error") return ""; // its label says it
    return `layer ${g.view.nodes.layer[i] ?? "?"}`;
  },
  worth: (g, i) => (g.kind[i] === "logit" ? chance(g.view.nodes.probability[i]) : `${percent(g.part[i])} of the influence`),
};

/** weights: of the values themselves, or of how far they are from the counterfactual. */
export function makeTrace(data: PageData, number: number, weights: Weights = "value"): Graph {
  const view = data.page.results[number].view as GraphView;
  const { nodes } = view;
  const change = arrayOf<Float32Array | undefined>(data, number, "delta");
  const weight = weights === "change" && change ? change : arrayOf<Float32Array>(data, number, "weight");
  const last = Math.max(0, view.tokens.length - 1);
  const any = nodes.share.some((x) => x > 0);
  return makeGraph(data, number, TRACE, {
    groups: view.groups,
    weight,
    column: (i) => Math.min(last, Math.max(0, nodes.position[i] ?? last)),
    // of a change: links that are not here, and what the linear view does not hold
    left: (t, sum) => (weight !== change ? nodes.dropped[t] : (nodes.delta[t] ?? NaN) - sum),
    matter: (t) => (any ? nodes.share[t] : 1) + (nodes.kind[t] === "logit" ? (nodes.probability[t] ?? 1) : 0),
  });
}

/** The share of the nodes' inputs that nothing in the graph explains; null if the file does not say and nothing can be told. */
export function unexplained(g: Graph): number | null {
  const { scores } = traceOf(g);
  const told = scores.unexplained;
  if (typeof told === "number") return told;
  const completeness = scores.completeness;
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

export const toldLost = (lost: number | null): string => (lost === null ? "how much is unexplained is not said in this file" : `${percent(lost)} unexplained`);
