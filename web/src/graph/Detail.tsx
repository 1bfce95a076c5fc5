// The selected node or group: what it is, reads and promotes, how its test went, and what happens when it is changed.

import { chance, count, num, percent, plain, token } from "../core/format";
import { edgesOf, effectOf } from "./describe";
import type { Json } from "../core/contract";
import type { Group } from "../types";
import { Verdict } from "../core/Verdict";
import { Change } from "./Change";
import { NodeButton } from "./Connections";
import type { Graph } from "./graph";
import { labelOf, placeOf, sameNodes, wordsOf, type PersonGroup, type Selection, type Store } from "./store";

export function Detail({ store }: { store: Store }) {
  const selection = store.selection.value;
  if (!selection) {
    return <p class="soft">Nothing is selected. Press a node in the graph, a phrase of the sentence, or a row of the table.</p>;
  }
  return selection.kind === "node" ? <OneNode store={store} i={selection.nodes[0]} /> : <OneGroup store={store} selection={selection} />;
}

function OneNode({ store, i }: { store: Store; i: number }) {
  const g = store.graph.value;
  const n = g.view.nodes;
  const kind = g.kind[i];
  const expert = store.props.depth === "expert";
  const names = store.get<Record<string, string>>("names") ?? {};
  const rows: [string, string][] = [];
  const { circuit } = g.view;
  if (circuit) rows.push(g.edgeless ? ["does for the answer", effectOf(g, i)] : ["edges", edgesOf(g, i)], ["share of all strength", percent(g.part[i])]);
  else if (kind === "logit") rows.push(["probability", chance(n.probability[i])]);
  if (kind === "feature" && n.value[i] !== null) rows.push(["value here", num(n.value[i], true)]);
  if (n.delta[i] !== null && kind === "feature" && n.value[i] !== null) rows.push(["value in the similar prompts", num(n.value[i]! - n.delta[i]!, true)]);
  if (!circuit && (kind !== "logit" || g.share[i])) rows.push(["share of all influence on the answer", percent(g.part[i])]);
  if (expert) {
    rows.push(["among the strongest", percent(n.cumulative[i])]);
    if (!circuit && g.offsets[i] !== g.offsets[i + 1]) rows.push(["inputs that are no link here, net", num(Math.abs(g.left[i]))]);
    rows.push(["id", g.id[i]], ["number", String(n.index[i] ?? "–")]);
  }
  return (
    <div class="detail">
      <h3 class={kind === "token" || kind === "logit" ? "tok" : ""}>
        {wordsOf(store, i, 1000)}
      </h3>
      <p class="soft">
        {placeOf(g, i)} {!circuit && whereOf(g, i)}
      </p>
      <p>
        {(kind === "feature" || (g.edgeless && n.delta[i] !== null)) && <Verdict verdict={n.verdict[i]}/>} <span class="soft">{plain(n.reason[i])}</span>
      </p>
      {kind === "feature" && !circuit && <Change store={store} nodes={[i]} />}
      <div class="actions">
        <button aria-pressed={store.pinned.value.has(i)} onClick={() => store.togglePin(i)}>
          {store.pinned.value.has(i) ? "Unpin" : "Pin"}
        </button>
        <label>
          Name{" "}
          <input
            type="text"
            maxLength={200}
            value={typeof names[g.id[i]] === "string" ? names[g.id[i]] : ""}
            placeholder={plain(labelOf(g, i)).slice(0, 40)}
            onChange={(event) => {
              const { [g.id[i]]: _, ...others } = names;
              const name = event.currentTarget.value.trim();
              store.set({ names: name ? { ...others, [g.id[i]]: name } : others });
            }}
          />
        </label>
      </div>
      <Tokens title="Reads in this prompt" list={n.reads[i]} />
      <Tokens title="Linked with, by the unembedding alone (not tested)" list={n.promotes[i]} />
      <table>
        <tbody>
          {rows.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td class="number">{plain(value)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
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

function OneGroup({ store, selection }: { store: Store; selection: Selection }) {
  const g = store.graph.value;
  const groups = store.groups.value;
  const mine = groups.findIndex((group) => group.name === selection.name);
  const members = selection.nodes.map((i) => g.id[i]);
  const said = g.view.groups.find((group) => sameNodes(group.nodes, members));
  const share = selection.nodes.reduce((sum, i) => sum + (g.kind[i] === "feature" ? g.share[i] : 0), 0) * g.ofFeatures;
  const best = [...selection.nodes].sort((a, b) => g.share[b] - g.share[a]).slice(0, 12);
  const save = (next: PersonGroup[], sel: string) => store.set({ groups: next as unknown as Json, sel });
  return (
    <div class="detail">
      {mine < 0 ? (
        <h3>{plain(selection.name)}</h3>
      ) : (
        <label>
          <span class="hidden">Name of the group</span>
          <input
            type="text"
            class="name"
            maxLength={200}
            value={selection.name}
            onChange={(event) => {
              const name = event.currentTarget.value.trim() || selection.name;
              if (groups.some((group, k) => k !== mine && group.name === name)) return store.props.announce(`There is a group called ${plain(name)} already.`);
              save(groups.map((group, k) => (k === mine ? { ...group, name } : group)), `group:${name}`);
            }}
          />
        </label>
      )}
      <p class="soft">
        {count(selection.nodes.length)} nodes{!g.view.circuit && ` · ${percent(share)} of the influence of all features`}
      </p>
      {!g.view.circuit && <Change store={store} nodes={selection.nodes.filter((i) => g.kind[i] === "feature")} />}
      {said && <Tested said={said} store={store} />}
      <div class="actions">
        {mine < 0 ? (
          <button onClick={() => save([...groups, { name: selection.name, nodes: selection.nodes.map((i) => g.id[i]) }], `group:${selection.name}`)}>
            Add to the subgraph
          </button>
        ) : (
          <>
            <button onClick={() => save(groups.filter((_, k) => k !== mine), "")}>Ungroup</button>
          </>
        )}
      </div>
      <h3>Strongest members</h3>
      <ul class="rows">
        {best.map((i) => (
          <li key={i}>
            <NodeButton store={store} i={i} />
            <span class="share">{percent(g.part[i])}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** What verification predicted of a group and what it found; a verdict is about switching off alone. */
function Tested({ said, store }: { said: Group; store: Store }) {
  const { depth } = store.props;
  const { quantity, graph_quantity } = store.graph.value.view;
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
          those prompts at once, and push random neurons as far, so their numbers differ.
        </p>
      )}
      {said.reason && depth === "expert" && <p class="soft">{plain(said.reason)}</p>}
    </>
  );
}
