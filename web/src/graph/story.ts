// The story of a trace as facts: which flows are drawn, how they read in words, what came of the tests of its parts.

import { count, num, percent, plain, token } from "../core/format";
import type { AttentionLink, Flow, GraphView, Group } from "../types";
import type { Store } from "./store";

const LEAST = 0.04; // of the largest
const MOST = 25;

/** The strongest flows, strongest first: those that are drawn. */
export function strongestFlows(flows: Flow[]): Flow[] {
  const sorted = flows.filter((f) => f.amount).sort((a, b) => Math.abs(b.amount) - Math.abs(a.amount));
  return sorted.filter((f) => Math.abs(f.amount) >= LEAST * Math.abs(sorted[0].amount)).slice(0, MOST);
}

/** How many are on screen, and how much of all they hold. */
export function heldWords(view: GraphView, flows: Flow[], drawn: string): string {
  const size = (some: Flow[]) => some.reduce((sum, f) => sum + Math.abs(f.amount), 0);
  return `${count(flows.length)} of ${count(view.flows.length)} flows are ${drawn}, the strongest: they hold ${percent(size(flows) / (size(view.flows) || 1))} of the size of all.`;
}

/** What the answer loses without it speaks for the answer. */
export const speaksFor = (flow: Flow): boolean => flow.amount < 0;

/** A token of the prompt, with its number if the prompt has it again. */
export function tokenWords(view: GraphView, at: number): string {
  const text = view.tokens[at] ?? "";
  const again = view.tokens.filter((t) => t === text).length > 1;
  return `“${token(text)}”${again ? ` (token ${at + 1})` : ""}`;
}

export const answerWords = (view: GraphView): string => (view.target ? `the answer “${token(view.target.token)}”` : "the answer");

/** What a part or a link of attention is called in the state: what is open under the story. */
export const partKey = (group?: Group): string => `group:${group?.name}`;
export const lookKey = (k: number): string => `look:${k}`;

/** The box that a flow comes from; a token has none. */
export const sourceKey = (view: GraphView, f: Flow): string | null =>
  f.source_link != null ? lookKey(f.source_link) : f.source != null ? partKey(view.groups[f.source]) : null;

/** The box that a flow comes to; the answer has none. */
export const targetKey = (view: GraphView, f: Flow): string | null =>
  f.target_link != null ? lookKey(f.target_link) : f.target != null ? partKey(view.groups[f.target]) : null;

const linkWords = (view: GraphView, k: number): string => {
  const link = view.attention[k];
  return link ? `attention of ${tokenWords(view, link.query)} to ${tokenWords(view, link.key)} (head ${link.head} of layer ${link.layer})` : "";
};

export function sourceWords(view: GraphView, f: Flow): string {
  if (f.source_link != null) return linkWords(view, f.source_link);
  return f.source != null ? plain(view.groups[f.source]?.name ?? "") : f.token != null ? tokenWords(view, f.token) : "";
}

export function targetWords(view: GraphView, f: Flow): string {
  if (f.target_link != null) return `the ${f.by ?? "value"} of ${linkWords(view, f.target_link)}`;
  return f.target != null ? plain(view.groups[f.target]?.name ?? "") : answerWords(view);
}

/** What the numbers of the story are changes of. */
export const quantityOf = (view: GraphView): string => plain(view.graph_quantity?.name ?? "centred logit");

export function flowWords(view: GraphView, flow: Flow): string {
  const way = `${sourceWords(view, flow)} → ${targetWords(view, flow)}`;
  const speaks = speaksFor(flow) ? "speaks for" : "speaks against";
  return `${way}: changes the ${quantityOf(view)} by ${num(flow.amount, true)} (straight ${num(flow.direct, true)}), so it ${speaks} the answer`;
}

/** What stands as a box: a part, or a link of attention that a flow passes through. */
export interface StoryBox {
  key: string;
  name: string;
  about: string;
  effect: string;
  verdict: string;
  depth: number;
  position: number;
}

export function boxesOf(view: GraphView, flows: Flow[]): StoryBox[] {
  const parts = view.groups.map((group) => {
    const [first, last] = group.layers ?? [0, 0];
    const about = `${count(group.nodes.length)} ${view.units ?? "neurons"} · ${first === last ? `layer ${first}` : `layers ${first}–${last}`}`;
    const effect = effectWords(group.predicted, group.measured_in_graph);
    return { key: partKey(group), name: group.name, about, effect, verdict: group.verdict, depth: (first + last) / 2, position: group.position ?? view.tokens.length - 1 };
  });
  const links = (view.attention ?? []).map((link, k) => {
    const effect = effectWords(link.predicted, link.measured);
    return { key: lookKey(k), name: lookWords(view, link), about: "attention", effect, verdict: link.verdict, depth: link.layer, position: link.query };
  });
  const passed = new Set(flows.flatMap((f) => [sourceKey(view, f), targetKey(view, f)]));
  return [...parts, ...links.filter((link) => passed.has(link.key))];
}

/** How the answer changes without it, in the quantity that the graph adds up to. */
function effectWords(predicted: number | null, measured: number | null): string {
  if (measured != null) return `without it: ${num(measured, true)}${predicted == null ? "" : ` (predicted ${num(predicted, true)})`}`;
  return predicted == null ? "" : `without it: predicted ${num(predicted, true)}`;
}

/** What came of the tests of the parts, in one sentence. */
export function testWords(groups: Group[], units: string): string {
  const n = (...verdicts: string[]) => groups.filter((g) => verdicts.includes(g.verdict)).length;
  const tested = groups.length - n("untested");
  if (!tested) return "No part was tested.";
  const words = [`${n("as-predicted", "tested")} changed the answer as predicted`, `${n("not-as-predicted", "refuted")} changed it, but not as predicted`];
  if (n("matters")) words.push(`${n("matters")} changed it, and nothing was predicted`);
  words.push(`${n("no-effect")} changed it no more than random ${units} do`);
  const which = tested === groups.length ? "Each part" : tested === 1 ? "One part" : "";
  const set = which ? `${which} was set, in the model, to its values` : `${tested} parts were set, one by one in the model, to their values`;
  return `${set} in similar prompts: ${words.join("; ")}.`;
}

/** The tokens that the story is about, those of the strongest flows first. */
export function usedTokens(view: GraphView, flows: Flow[]): number[] {
  const looks = (view.attention ?? []).flatMap((link) => [link.query, link.key]);
  const parts = view.groups.map((group) => group.position);
  const all = [...flows.map((f) => f.token), view.tokens.length - 1, ...parts, ...looks];
  return [...new Set(all.filter((at): at is number => at != null && at >= 0 && at < view.tokens.length))];
}

export const lookWords = (view: GraphView, link: AttentionLink): string =>
  `${tokenWords(view, link.query)} looks at ${link.query === link.key ? "itself" : tokenWords(view, link.key)}: head ${link.head} of layer ${link.layer}, with ${percent(link.pattern)} of its attention`;

/** Opens a part or a link of attention under the picture; a part is selected as well. Again: closes it. */
export function toggle(store: Store, key: string): void {
  const open = store.get("story") === key;
  const selects = key.startsWith("group:") && (!open || store.get("sel") === key);
  store.set({ story: open ? "" : key, ...(selects && { sel: open ? "" : key }) });
}
