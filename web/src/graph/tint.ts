// How strongly each node acts on the selected one, or on the contrast: what the picture is coloured by then.

import { difference, linkShare, signOf } from "./graph";
import type { Store } from "./store";

export function tintOf(store: Store): Map<number, { size: number; sign: number }> | null {
  const g = store.graph.value;
  const contrast = store.contrast.value;
  const tint = new Map<number, { size: number; sign: number }>();
  if (contrast) {
    for (const row of difference(g, ...contrast).rows) tint.set(row.node, { size: Math.abs(row.share), sign: 0 });
    return tint;
  }
  const s = store.selected.value;
  if (s < 0) return null;
  const mode = store.get<string>("links");
  const add = (i: number, e: number) => {
    const sign = signOf(g, e);
    const before = tint.get(i) ?? { size: 0, sign }; // a head has several inputs
    tint.set(i, { size: before.size + Math.abs(linkShare(g, e)), sign: before.sign === sign ? sign : 0 });
  };
  if (mode !== "inputs") for (let k = g.outOffsets[s]; k < g.outOffsets[s + 1]; k++) add(g.target[g.outLink[k]], g.outLink[k]);
  if (mode !== "outputs") for (let e = g.offsets[s]; e < g.offsets[s + 1]; e++) add(g.source[e], e);
  return tint;
}
