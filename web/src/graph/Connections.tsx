// What goes into the selection and where it goes, sorted by share. A sign stands only where it was tested.

import { useEffect } from "preact/hooks";
import { count, num, percent, token } from "../core/format";
import { VERDICTS, Verdict } from "../core/Verdict";
import { difference, inputs, outputs, PARTS, signOf, type Graph, type Row } from "./graph";
import { atOf, wordsOf, type Store } from "./store";

const FIRST = 25;

export function Connections({ store }: { store: Store }) {
  const g = store.graph.value;
  const contrast = store.contrast.value;
  const selection = store.selection.value;
  if (contrast) {
    const found = difference(g, ...contrast);
    const [a, b] = contrast.map((i) => `“${token(g.view.nodes.label[i])}”`);
    return (
      <>
        <p class="soft">
          Direct effect on {a} minus that on {b}, as the graph has it.
        </p>
        <Rows store={store} rows={found.rows} title={`${a} rather than ${b}`} left={found.left} head="share of all, whichever way" />
        {found.oneSided > 0 && (
          <p class="soft">
            {count(found.oneSided)} of {count(found.rows.length)} have a link to one of the two only; a weak link to the other may be among what is left out.
          </p>
        )}
      </>
    );
  }
  if (!selection) return <p class="soft">Select a node to see what goes into it and where it goes.</p>;
  const [into, out] =
    selection.kind === "node" ? [inputs(g, selection.nodes[0]), outputs(g, selection.nodes[0])] : aggregate(g, selection.nodes);
  const mode = store.get<string>("links");
  return (
    <>
      {mode !== "outputs" && <Rows store={store} rows={into} title="Inputs" left={left(store, selection.nodes)} head="share of its input" single={selection.kind === "node"} />}
      {mode !== "inputs" && <Rows store={store} rows={out} title="Outputs" head="share of their input" single={selection.kind === "node"} />}
    </>
  );
}

/** What of the inputs is not among the links of this page, net. */
function left(store: Store, nodes: number[]): number {
  const g = store.graph.value;
  const dropped = nodes.reduce((sum, i) => sum + g.left[i], 0);
  const all = nodes.reduce((sum, i) => sum + (g.offsets[i] === g.offsets[i + 1] ? 0 : g.into[i]), 0);
  return all ? dropped / all : 0;
}

/** The inputs and outputs of a group from and to nodes outside it; shares are of all its inputs. */
function aggregate(g: Graph, nodes: number[]): [Row[], Row[]] {
  const inside = new Set(nodes);
  const whole = nodes.reduce((sum, t) => sum + (g.offsets[t] === g.offsets[t + 1] ? 0 : g.into[t]), 0) || 1;
  const into = new Map<number, Row>();
  const out = new Map<number, Row>();
  for (const t of nodes) {
    for (const r of inputs(g, t)) {
      if (inside.has(r.node)) continue;
      const row = into.get(r.node) ?? { ...r, weight: 0, share: 0 };
      row.weight += r.weight;
      row.share += r.weight / whole;
      into.set(r.node, row);
    }
    for (const r of outputs(g, t)) {
      if (inside.has(r.node)) continue;
      const row = out.get(r.node) ?? { ...r, weight: 0, share: 0 };
      row.weight += r.weight;
      row.share += r.share;
      out.set(r.node, row);
    }
  }
  const sorted = (m: Map<number, Row>) => [...m.values()].sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
  return [sorted(into), sorted(out)];
}

interface RowsProps {
  store: Store;
  rows: Row[];
  title: string;
  head: string;
  left?: number;
  /** The rows are links of one node, and not sums over a group or differences. */
  single?: boolean;
}

function Rows({ store, rows: all, title, head, left = 0, single }: RowsProps) {
  const g = store.graph.value;
  const { shares } = g.reading;
  // what is hidden is counted in one line; experts see each
  const hidden = (r: Row) => store.props.depth !== "expert" && (g.kind[r.node] === "remainder" || g.kind[r.node] === "error");
  const [rows, unseen] = [all.filter((r) => !hidden(r)), all.filter(hidden)];
  const shown = rows.slice(0, FIRST);
  const kept = Math.abs(left);
  return (
    <div role="group" class="connections" aria-label={title}>
      <h3>
        {title} <span class="soft">{count(all.length)}</span>
        {kept >= 0.005 && <span class="soft"> · {percent(kept)}, net, is not among the links of this page</span>}
        {Number.isNaN(left) && <span class="soft"> · what is not among the links of this page is not known</span>}
      </h3>
      <div class="soft">{shares ? `${head}; with a sign where that was tested` : "effect on the answer; + supports it, where that was tested"}</div>
      <ul class="rows">
        {shown.map((r) => {
          const verdict = single ? g.verdict[r.link] : 0;
          const sign = single ? signOf(g, r.link) : 0;
          const tone = ["negative", "", "positive"][sign + 1];
          return (
            <li key={r.link}>
              <NodeButton store={store} i={r.node} part={single ? g.enters?.[r.link] : 0} />
              <span class={`share ${tone}`} title={`direct effect ${sign ? num(r.weight, true) : num(Math.abs(r.weight))}`}>
                {verdict > 0 && <Verdict verdict={VERDICTS[verdict]} />} {shares && percent(Math.abs(r.share))}
                <span class={shares ? "soft" : ""}> {sign ? num(r.weight, true) : num(Math.abs(r.weight))}</span>
              </span>
            </li>
          );
        })}
      </ul>
      {rows.length > shown.length && (
        <p class="soft">
          and {count(rows.length - shown.length)} weaker{shares && `, ${percent(sumOf(rows.slice(FIRST)))} together`}
        </p>
      )}
      {unseen.length > 0 && (
        <p class="soft">
          ◆ {count(unseen.length)} remainder{unseen.length > 1 ? "s" : ""} that no feature here explains, {percent(sumOf(unseen))} together
        </p>
      )}
    </div>
  );
}

const sumOf = (rows: Row[]): number => rows.reduce((total, r) => total + Math.abs(r.share), 0);

const MARKS: Record<string, string> = { token: "■", logit: "■", remainder: "◆", error: "◆", head: "▴", bias: "+", feature: "●", mlp: "●" };

/** Nodes with their share of the influence. */
export function NodeRows({ store, nodes }: { store: Store; nodes: number[] }) {
  const g = store.graph.value;
  return (
    <ul class="rows">
      {nodes.map((i) => (
        <li key={i}>
          <NodeButton store={store} i={i} />
          <span class="share">{percent(g.part[i])}</span>
        </li>
      ))}
    </ul>
  );
}

/** A node in a list: hovering shows it in the graph, pressing selects it. */
export function NodeButton({ store, i, part }: { store: Store; i: number; part?: number }) {
  const g = store.graph.value;
  const kind = g.kind[i];
  // a row that goes away under the pointer says no goodbye
  useEffect(() => () => void (store.hovered.peek() === i && (store.hovered.value = -1)), [i]);
  return (
    <button
      class="plain node"
      onClick={() => store.select(i)}
      onFocus={() => (store.hovered.value = i)}
      onBlur={() => (store.hovered.value = -1)}
      onMouseEnter={() => (store.hovered.value = i)}
      onMouseLeave={() => (store.hovered.value = -1)}
    >
      <span aria-hidden="true" class="mark">{MARKS[kind]}</span>
      <span class={kind === "token" || kind === "logit" ? "tok" : ""}>{wordsOf(store, i, 70)}</span>
      {!!part && <strong> {PARTS[part]}</strong>}
      <span class="soft">
        {" "}
        {g.reading.place(g, i)}
        {atOf(g, i, 12)}
      </span>
    </button>
  );
}
