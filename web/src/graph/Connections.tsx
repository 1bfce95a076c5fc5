// What goes into the selection and where it goes, split by sign, sorted by share.

import { useEffect } from "preact/hooks";
import { count, num, percent, token } from "../core/format";
import { Verdict } from "../core/Verdict";
import { difference, inputs, outputs, PARTS, type Graph, type Row } from "./graph";
import { atOf, placeOf, wordsOf, type Store } from "./store";

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
        <Signed store={store} rows={found.rows} title={`${a} rather than ${b}`} left={found.left} heads={[`towards ${a}`, `towards ${b}`]} />
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
      {mode !== "outputs" && <Signed store={store} rows={into} title="Inputs" left={left(store, selection.nodes)} heads={["raise it", "lower it"]} single={selection.kind === "node"} />}
      {mode !== "inputs" && <Signed store={store} rows={out} title="Outputs" single={selection.kind === "node"} />}
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

function Signed({ store, rows, title, left = 0, heads, single }: { store: Store; rows: Row[]; title: string; left?: number; heads?: [string, string]; single?: boolean }) {
  const told = (list: Row[], k: 0 | 1) => {
    if (store.graph.value.view.circuit) return ["support the answer", "work against it"][k];
    return heads ? `${heads[k]}: ${percent(sumOf(list), true)} of all` : `${["raises", "lowers"][k]}, share of their input`;
  };
  const plus = rows.filter((r) => r.weight > 0);
  const minus = rows.filter((r) => r.weight < 0);
  return (
    <div role="group" class="connections" aria-label={title}>
      <h3>
        {title} <span class="soft">{count(rows.length)}</span>
        {Math.abs(left) >= 0.005 && <span class="soft"> · {percent(left, true)}, net, is not among the links of this page</span>}
        {Number.isNaN(left) && <span class="soft"> · what is not among the links of this page is not known</span>}
      </h3>
      <div class="split">
        <List store={store} rows={plus} head={told(plus, 0)} sign="positive" single={single} />
        <List store={store} rows={minus} head={told(minus, 1)} sign="negative" single={single} />
      </div>
    </div>
  );
}

function List({ store, rows: all, head, sign, single }: { store: Store; rows: Row[]; head: string; sign: string; single?: boolean }) {
  const g = store.graph.value;
  const { circuit } = g.view;
  // what is hidden is counted in one line; experts see each
  const hidden = (r: Row) => store.props.depth !== "expert" && (g.kind[r.node] === "remainder" || g.kind[r.node] === "error");
  const [rows, unseen] = [all.filter((r) => !hidden(r)), all.filter(hidden)];
  const shown = rows.slice(0, FIRST);
  return (
    <div>
      <div class={sign}>{head}</div>
      <ul class="rows">
        {shown.map((r) => (
          <li key={r.link}>
            <NodeButton store={store} i={r.node} part={single ? g.enters?.[r.link] : 0} />
            <span class={`share ${sign}`} title={`direct effect ${num(r.weight, true)}`}>
              {circuit ? single && g.verdict[r.link] > 0 && <Verdict verdict={g.verdict[r.link] > 1 ? "refuted" : "tested"} /> : percent(r.share, true)}
              <span class={circuit ? "" : "soft"}> {num(r.weight, true)}</span>
            </span>
          </li>
        ))}
      </ul>
      {rows.length > shown.length && (
        <p class="soft">
          and {count(rows.length - shown.length)} weaker{!circuit && `, ${percent(sumOf(rows.slice(FIRST)), true)} together`}
        </p>
      )}
      {unseen.length > 0 && (
        <p class="soft">
          ◆ {count(unseen.length)} remainder{unseen.length > 1 ? "s" : ""} that no feature here explains, {percent(sumOf(unseen), true)} together
        </p>
      )}
    </div>
  );
}

const sumOf = (rows: Row[]): number => rows.reduce((total, r) => total + r.share, 0);

const MARKS: Record<string, string> = { token: "■", logit: "■", remainder: "◆", error: "◆", head: "▴", bias: "+", feature: "●", mlp: "●" };

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
        {placeOf(g, i)}
        {atOf(g, i, 12)}
      </span>
    </button>
  );
}
