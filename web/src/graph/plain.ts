// The same facts for newcomers: no logits, no ablations; what is there, and what the model says without it.

import { chance, count, percent, token } from "../core/format";
import type { Group } from "../types";
import { interventions, runKey } from "./runs";
import type { Store } from "./store";
import { toldLost, unitsOf } from "./trace";

/** A part of the story, from its numbers. */
export function plainWords(store: Store, group: Group): string {
  const g = store.graph.value;
  const word = group.position === null ? "" : ` at “${token(g.view.tokens[group.position] ?? "")}”`;
  const middle = group.layers ? (group.layers[0] + group.layers[1]) / 2 / Math.max(1, g.view.n_layers - 1) : 0.5;
  const depth = middle < 1 / 3 ? "early" : middle < 2 / 3 ? "half-way" : "late";
  const text = `${count(group.nodes.length)} ${unitsOf(g)}${word}, ${depth} in the model (${percent(group.share)} of the influence).`;
  const run = interventions(store).find((r) => runKey(r.nodes, r.op) === runKey(group.nodes, "off"));
  const row = run?.rows.find((r) => r.id === run.target.id);
  if (!row) return text;
  const random = row.control === null ? "" : `; with as many random ${unitsOf(g)} changed instead, ${chance(row.control)}`;
  return `${text} Switched off, “${token(row.token)}” goes from ${chance(row.before)} to ${chance(row.after)}${random}.`;
}

/** Always on screen: what the picture leaves out. */
export function plainLine(store: Store, lost: number | null): string {
  const g = store.graph.value;
  const features = g.kind.reduce((n, kind) => n + (kind === "feature" ? 1 : 0), 0);
  const groups = [...g.groups, ...store.groups.value];
  const own = store.groups.value.length ? ` and ${count(store.groups.value.length)} of yours` : "";
  const shown = new Set(groups.flatMap((group) => group.nodes)).size;
  return `showing ${count(g.groups.length)} parts of the story${own} with ${count(shown)} of ${count(features)} ${unitsOf(g)} that were kept · ${toldLost(lost)}`;
}
