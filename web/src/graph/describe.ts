// The lines around the picture: what the node under the pointer is, and how much of the graph is on screen.

import { count, num, percent } from "../core/format";
import { VERDICTS, WORDS } from "../core/Verdict";
import { linkShare, PARTS, signOf } from "./graph";
import { atOf, wordsOf, type Store } from "./store";

export function describe(store: Store, i: number): string {
  const g = store.graph.value;
  const { value, verdict } = g.view.nodes;
  const parts = [wordsOf(store, i), (g.reading.place(g, i) + atOf(g, i)).trim(), g.reading.worth(g, i)];
  if (value[i] !== null && g.kind[i] === "feature") parts.push(`value ${num(value[i], true)}`);
  if (verdict[i] !== "untested") parts.push(WORDS[verdict[i]] ?? verdict[i]);
  const selected = store.selected.value;
  if (selected >= 0 && selected !== i) {
    const said = (e: number) => (g.verdict[e] ? `, ${WORDS[VERDICTS[g.verdict[e]]]}` : ", not tested");
    const share = (e: number) => (g.reading.shares ? ` (${percent(Math.abs(linkShare(g, e)))}${said(e)})` : said(e));
    const weight = (e: number) => (signOf(g, e) ? num(g.weight[e], true) : num(Math.abs(g.weight[e])));
    const part = (e: number, of: string) => (g.enters?.[e] ? `the ${PARTS[g.enters[e]]} of ${of}` : of);
    for (let e = g.offsets[selected]; e < g.offsets[selected + 1]; e++)
      if (g.source[e] === i) parts.push(`${weight(e)} into ${part(e, "the selected node")}${share(e)}`);
    for (let e = g.offsets[i]; e < g.offsets[i + 1]; e++)
      if (g.source[e] === selected) parts.push(`${weight(e)} from the selected node${g.enters?.[e] ? ` into the ${PARTS[g.enters[e]]}` : ""}${share(e)}`);
  }
  return parts.join(" · ");
}

/** How many nodes are on screen. */
export function shownNodes(store: Store): string {
  const g = store.graph.value;
  const on = store.visible.value.reduce((sum, x) => sum + x, 0);
  return `${count(on)} of ${count(g.n)} nodes`;
}

/** How many links are, and what is left out. name: what they are called. from: where the page has them from. */
export function shownLinks(store: Store, name: string, from: string): string {
  const { drawn, possible } = store.edges.value;
  const l = store.graph.value.view.links;
  const cap = possible > drawn.length ? ` (the strongest of ${count(possible)} between them)` : "";
  const left = l.of > l.shown ? `; ${count(l.shown)} links are in this page, ${count(l.of)} in the ${from}` : "";
  return `${count(drawn.length)} ${name}${cap}${left}`;
}
