// What goes into the selection and where it goes, split by sign, sorted by share.

import { useEffect } from "preact/hooks";
import { count, num, percent, plain, short, token } from "../core/format";
import { difference, inputs, outputs, type Graph, type Row } from "./graph";
import { placeOf, type Store } from "./store";

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
      {mode !== "outputs" && <Signed store={store} rows={into} title="Inputs" left={left(store, selection.nodes)} heads={["raise it", "lower it"]} />}
      {mode !== "inputs" && <Signed store={store} rows={out} title="Outputs" />}
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

function Signed({ store, rows, title, left = 0, heads }: { store: Store; rows: Row[]; title: string; left?: number; heads?: [string, string] }) {
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
        <List store={store} rows={plus} head={heads ? `${heads[0]}: ${percent(sumOf(plus), true)} of all` : "raises, share of their input"} sign="positive" />
        <List store={store} rows={minus} head={heads ? `${heads[1]}: ${percent(sumOf(minus), true)} of all` : "lowers, share of their input"} sign="negative" />
      </div>
    </div>
  );
}

function List({ store, rows: all, head, sign }: { store: Store; rows: Row[]; head: string; sign: string }) {
  const g = store.graph.value;
  // what is hidden is counted in one line; experts see each
  const hidden = (r: Row) => store.props.depth !== "expert" && (g.kind[r.node] === "remainder" || g.kind[r.node] === "error");
  const [rows, unseen] = [all.filter((r) => !hidden(r)), all.filter(hidden)];
  const shown = rows.slice(0, FIRST);
  return (
    <div>
      <div class={sign}>{head}</div>
      <ul class="rows">
        {shown.map((r) => (
          <li key={r.node}>
            <NodeButton store={store} i={r.node} />
            <span class={`share ${sign}`} title={`direct effect ${num(r.weight, true)}`}>
              {percent(r.share, true)}
              <span class="soft"> {num(r.weight, true)}</span>
            </span>
          </li>
        ))}
      </ul>
      {rows.length > shown.length && (
        <p class="soft">
          and {count(rows.length - shown.length)} weaker, {percent(sumOf(rows.slice(FIRST)), true)} together
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
export function NodeButton({ store, i }: { store: Store; i: number }) {
  const g = store.graph.value;
  const kind = g.kind[i];
  // a row that goes away under the pointer says no goodbye
  useEffect(() => () => void (store.hovered.peek() === i && (store.hovered.value = -1)), [i]);
  const words = kind === "token" || kind === "logit" ? `“${token(store.label(i))}”` : plain(short(store.label(i), 70));
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
      <span class={kind === "token" || kind === "logit" ? "tok" : ""}>{words}</span>
      <span class="soft">
        {" "}
        {placeOf(g, i)}
        {kind === "token" || kind === "logit" ? "" : ` at “${token(short(g.view.tokens[g.position[i]] ?? "", 12))}”`}
      </span>
    </button>
  );
}
