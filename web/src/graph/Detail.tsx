// What is selected in a trace: what it reads and promotes, how its test went, and what happens when it is changed.

import { chance, num, percent, plain, token } from "../core/format";
import { Verdict } from "../core/Verdict";
import type { Group } from "../types";
import { Change } from "./Change";
import type { Graph } from "./graph";
import { Nothing, OneGroup, OneNode, type Rows } from "./Selected";
import { sameNodes, type Selection, type Store } from "./store";
import { traceOf, unitsOf } from "./trace";

export function Detail({ store }: { store: Store }) {
  const selection = store.selection.value;
  if (!selection) return <Nothing />;
  return selection.kind === "node" ? <TraceNode store={store} i={selection.nodes[0]} /> : <TraceGroup store={store} selection={selection} />;
}

function TraceNode({ store, i }: { store: Store; i: number }) {
  const g = store.graph.value;
  const n = g.view.nodes;
  const kind = g.kind[i];
  const feature = kind === "feature";
  const rows: Rows = [];
  if (kind === "logit") rows.push(["probability", chance(n.probability[i])]);
  if (feature && n.value[i] !== null) rows.push(["value here", num(n.value[i], true)]);
  if (feature && n.value[i] !== null && n.delta[i] !== null) rows.push(["value in the similar prompts", num(n.value[i]! - n.delta[i]!, true)]);
  const total = n.total?.[i]; // pages of before have none
  if (total != null) rows.push(["change of the answer with that value, all that follows counted", num(total, true)]);
  if (kind !== "logit" || g.share[i]) rows.push(["share of all influence on the answer", percent(g.part[i])]);
  if (store.props.depth === "expert") {
    rows.push(["among the strongest", percent(n.cumulative[i])]);
    if (g.offsets[i] !== g.offsets[i + 1]) rows.push(["inputs that are no link here, net", num(Math.abs(g.left[i]))]);
  }
  return (
    <OneNode store={store} i={i} where={whereOf(g, i)} tested={total != null || feature} rows={rows} act={feature && <Change store={store} nodes={[i]} />}>
      <Tokens title="Reads in this prompt" list={n.reads[i]} />
      <Tokens title="Linked with, by the unembedding alone (not tested)" list={n.promotes[i]} />
    </OneNode>
  );
}

/** The token that a node stands at, if it stands at one. */
function whereOf(g: Graph, i: number): string {
  const at = g.view.nodes.position[i];
  if (at === null) return "at no token of its own";
  return at === g.position[i] ? `at token ${at + 1}, “${token(g.view.tokens[at] ?? "")}”` : `at token ${at + 1}, which is not in the prompt`;
}

function Tokens({ title, list }: { title: string; list: string[] }) {
  if (!list.length) return null;
  return (
    <p>
      <span class="soft">{title}:</span>{" "}
      {list.map((text, k) => (
        <span key={k} class="tok chip">
          {token(text)}
        </span>
      ))}
    </p>
  );
}

function TraceGroup({ store, selection }: { store: Store; selection: Selection }) {
  const g = store.graph.value;
  const said = traceOf(g).groups.find((group) => sameNodes(group.nodes, selection.nodes.map((i) => g.id[i])));
  const share = selection.nodes.reduce((sum, i) => sum + (g.kind[i] === "feature" ? g.share[i] : 0), 0) * g.ofFeatures;
  return (
    <OneGroup store={store} selection={selection} about={` · ${percent(share)} of the influence of all features`}>
      <Change store={store} nodes={selection.nodes.filter((i) => g.kind[i] === "feature")} />
      {said && <Tested said={said} store={store} />}
    </OneGroup>
  );
}

/** What verification predicted of a group and what it found; a verdict is about switching off alone. */
function Tested({ said, store }: { said: Group; store: Store }) {
  const { depth } = store.props;
  const g = store.graph.value;
  const { quantity, graph_quantity } = traceOf(g);
  const inside = graph_quantity?.name ?? "centred logit";
  const two = !quantity || quantity.name !== inside;
  const wrong = (predicted: number | null, measured: number | null) => predicted !== null && measured !== null && predicted * measured <= 0;
  const rows: [string, number | null, number | null, number | null][] = [
    ["switched off", said.measured, said.predicted, said.measured_in_graph],
    ["doubled", said.doubling_measured, said.doubling_predicted, said.doubling_measured_in_graph],
  ];
  return (
    <>
      <h3>
        When the trace was made <Verdict verdict={said.verdict} />
      </h3>
      {depth !== "plain" && <p>{plain(said.text)}</p>}
      {said.predicted != null && (
        <table>
          <thead>
            <tr>
              <th scope="col">change of the</th>
              {quantity && two && <th scope="col" class="number" title={quantity.about}>{quantity.name}</th>}
              <th scope="col" class="number" title={graph_quantity?.about}>{inside}</th>
              <th scope="col" class="number">predicted</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(([name, measured, predicted, alike]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                {quantity && two && <td class="number">{num(measured, true)}</td>}
                <td class="number">{num(alike, true)}</td>
                <td class="number">
                  {num(predicted, true)}
                  {wrong(predicted, alike) && <span class="badge refuted"> wrong sign</span>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {quantity && depth !== "expert" && <p class="soft">{plain(quantity.name)}: {plain(quantity.about)}.</p>}
      {said.range && said.range[0] !== said.range[1] && (
        <p class="soft">
          Switched off against several similar prompts, the change was {num(said.range[0], true)} to {num(said.range[1], true)}; their mean stands above. The buttons use the mean of
          those prompts at once, and push random {unitsOf(g)} as far, so their numbers differ.
        </p>
      )}
      {said.reason && depth === "expert" && <p class="soft">{plain(said.reason)}</p>}
    </>
  );
}
