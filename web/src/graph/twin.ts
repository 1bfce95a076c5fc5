// Two graphs side by side: which features they share, and what the selection of one is in the other.

import type { PageData } from "../core/contract";
import type { Drawn } from "./graph";

const graphOf = (data: PageData): Drawn | null => {
  const { view } = data.page.results[0];
  return view.type === "graph" || view.type === "circuit" ? view : null;
};

/** A feature whatever its position: layer and number. */
const features = (view: Drawn): Set<string> =>
  new Set(view.nodes.id.filter((_, i) => view.nodes.kind[i] === "feature").map(nameOf));
const nameOf = (id: string): string => id.split("_").slice(0, 2).join("_");

export interface Overlap {
  both: number;
  first: number;
  second: number;
}

/** How many features two graphs have in common; null unless both are graphs of the same model. */
export function overlap(a: PageData, b: PageData): Overlap | null {
  const [x, y] = [graphOf(a), graphOf(b)];
  const weights = (data: PageData) => data.page.results[0].provenance.weights_sha256 ?? data.page.results[0].provenance.scan;
  if (!x || !y || !weights(a) || weights(a) !== weights(b)) return null;
  const [f, g] = [features(x), features(y)];
  const both = [...f].filter((name) => g.has(name)).length;
  return { both, first: f.size - both, second: g.size - both };
}

/** The node of `to` that the selected node of `from` corresponds to: same id, or the same feature where it is strongest. */
export function twin(from: PageData, sel: string, to: PageData): string | null {
  const [x, y] = [graphOf(from), graphOf(to)];
  if (!x || !y || !sel || sel.startsWith("group:")) return null;
  const i = x.nodes.id.indexOf(sel);
  if (i < 0) return null;
  if (x.nodes.kind[i] !== "feature") return y.nodes.id.includes(sel) ? sel : null;
  let best = -1;
  y.nodes.id.forEach((id, k) => {
    if (y.nodes.kind[k] !== "feature" || nameOf(id) !== nameOf(sel)) return;
    if (id === sel || best < 0 || (y.nodes.id[best] !== sel && y.nodes.share[k] > y.nodes.share[best])) best = k;
  });
  return best < 0 ? null : y.nodes.id[best];
}
