// The table twin of the graph: every shown node, also the way of screen readers.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { count, num, token } from "../core/format";
import { Verdict } from "../core/Verdict";
import { NodeButton } from "./Connections";
import type { Store } from "./store";

const PAGE = 200;

/** detail: what is selected, in the words of the view. */
export function NodeTable({ store, detail }: { store: Store; detail: ComponentChildren }) {
  const most = useSignal(PAGE);
  const g = store.graph.value;
  const { nodes: n } = g.view;
  const { atTokens, amount, amountOf } = g.reading;
  const found = store.matches.value;
  const rows: number[] = [];
  for (let i = 0; i < g.n; i++) if (store.visible.value[i] && (!found || found.has(i))) rows.push(i);
  rows.sort((a, b) => Number(g.kind[b] === "logit") - Number(g.kind[a] === "logit") || (n.probability[b] ?? 0) - (n.probability[a] ?? 0) || g.share[b] - g.share[a]);
  const shown = rows.slice(0, most.value);
  return (
    <div class="table-twin">
      <div class="scroll" tabIndex={0} role="region" aria-label="Nodes as a table">
        <table>
          <caption class="hidden">The shown nodes, outputs first, then by their share of the influence</caption>
          <thead>
            <tr>
              <th scope="col">node</th>
              {atTokens && <th scope="col">token</th>}
              <th scope="col" class="number">{amount}</th>
              <th scope="col" class="number">value</th>
              <th scope="col">test</th>
              <th scope="col">pinned</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((i) => (
              <tr key={i} aria-selected={store.selected.value === i}>
                <td><NodeButton store={store} i={i} /></td>
                {atTokens && <td><span class="tok">{token(g.view.tokens[g.position[i]] ?? "")}</span> <span class="soft">{g.position[i] + 1}</span></td>}
                <td class="number">{amountOf(g, i)}</td>
                <td class="number">{num(n.value[i], true)}</td>
                <td>{g.kind[i] === "feature" ? <Verdict verdict={n.verdict[i]} /> : ""}</td>
                <td><input type="checkbox" aria-label="pinned" checked={store.pinned.value.has(i)} onChange={() => store.togglePin(i)} /></td>
              </tr>
            ))}
          </tbody>
        </table>
        <p class="soft">
          {count(shown.length)} of {count(rows.length)} rows{" "}
          {shown.length < rows.length && <button onClick={() => (most.value += PAGE)}>More</button>}
        </p>
      </div>
      <div role="group" class="pane" aria-label="Detail">
        <header>
          <h2>Detail</h2>
        </header>
        <div class="content">{detail}</div>
      </div>
    </div>
  );
}
