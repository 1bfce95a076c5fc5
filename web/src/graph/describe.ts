// The lines around the picture: what the node under the pointer is, and how much of the graph is on screen.

import { chance, count, num, percent } from "../core/format";
import { VERDICTS, WORDS } from "../core/Verdict";
import { linkShare, PARTS, signOf, type Graph } from "./graph";
import { atOf, placeOf, wordsOf, type Store } from "./store";

export function describe(store: Store, i: number): string {
  const g = store.graph.value;
  const { value, probability, verdict } = g.view.nodes;
  const parts = [wordsOf(store, i), (placeOf(g, i) + atOf(g, i)).trim()];
  if (g.view.circuit) parts.push(g.edgeless ? effectOf(g, i) : edgesOf(g, i));
  else if (g.kind[i] === "logit") parts.push(chance(probability[i]));
  else parts.push(`${percent(g.part[i])} of the influence`);
  if (value[i] !== null && g.kind[i] === "feature") parts.push(`value ${num(value[i], true)}`);
  if (verdict[i] !== "untested") parts.push(WORDS[verdict[i]] ?? verdict[i]);
  const selected = store.selected.value;
  if (selected >= 0 && selected !== i) {
    const said = (e: number) => (g.verdict[e] ? `, ${WORDS[VERDICTS[g.verdict[e]]]}` : ", not tested");
    const share = (e: number) => (g.view.circuit ? said(e) : ` (${percent(Math.abs(linkShare(g, e)))}${said(e)})`);
    const weight = (e: number) => (signOf(g, e) ? num(g.weight[e], true) : num(Math.abs(g.weight[e])));
    const part = (e: number, of: string) => (g.enters?.[e] ? `the ${PARTS[g.enters[e]]} of ${of}` : of);
    for (let e = g.offsets[selected]; e < g.offsets[selected + 1]; e++)
      if (g.source[e] === i) parts.push(`${weight(e)} into ${part(e, "the selected node")}${share(e)}`);
    for (let e = g.offsets[i]; e < g.offsets[i + 1]; e++)
      if (g.source[e] === selected) parts.push(`${weight(e)} from the selected node${g.enters?.[e] ? ` into the ${PARTS[g.enters[e]]}` : ""}${share(e)}`);
  }
  return parts.join(" · ");
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

/** Always on screen: what is shown, what is not, and what nothing here explains. */
export function shownLine(store: Store, lost: number | null): string {
  const g = store.graph.value;
  const { drawn, possible } = store.edges.value;
  let on = 0;
  for (let i = 0; i < g.n; i++) on += store.visible.value[i];
  const l = g.view.links;
  const cap = possible > drawn.length ? ` (the strongest of ${count(possible)} between them)` : "";
  const file = l.of > l.shown ? `; ${count(l.shown)} links are in this page, ${count(l.of)} in the ${g.view.live ? "model's graph" : "file"}` : "";
  const shared = l.shown > (g.view.circuit?.size ?? Infinity) ? ", keys and values that heads share at each of them" : "";
  if (g.view.circuit) return `showing ${count(on)} of ${count(g.n)} nodes${g.edgeless ? "" : `, ${count(drawn.length)} edges${cap}${file}${shared}`} · blue supports the answer: cutting it costs; red works against it; ${g.edgeless ? "a green ring" : "width is strength; a green edge"} passed its own test, a dashed one failed it`;
  const unexplained = lost === null ? "how much is unexplained is not said in this file" : `${percent(lost)} unexplained`;
  return `showing ${count(on)} of ${count(g.n)} nodes, ${count(drawn.length)} links${cap}${file} · ${unexplained}`;
}
