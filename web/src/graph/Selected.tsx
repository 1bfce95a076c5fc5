// The selected node or group as every drawn graph has it: what it is called, how its test ended, its numbers, its members.

import type { ComponentChildren } from "preact";
import type { Json } from "../core/contract";
import { count, plain } from "../core/format";
import { Verdict } from "../core/Verdict";
import { NodeRows } from "./Connections";
import { wordsOf, type PersonGroup, type Selection, type Store } from "./store";

export type Rows = [name: string, value: string][];

export function Nothing() {
  return <p class="soft">Nothing is selected. Press a part of the story, a phrase of the sentence, a node in the graph, or a row of the table.</p>;
}

interface NodeProps {
  store: Store;
  i: number;
  /** Where it stands, after its kind and layer. */
  where?: string;
  /** Whether it is one of those that are tested. */
  tested: boolean;
  rows: Rows;
  /** What can be done to it. */
  act?: ComponentChildren;
  children?: ComponentChildren;
}

export function OneNode({ store, i, where = "", tested, rows, act, children }: NodeProps) {
  const g = store.graph.value;
  const n = g.view.nodes;
  const kind = g.kind[i];
  const all: Rows = store.props.depth === "expert" ? [...rows, ["id", g.id[i]], ["number", String(n.index[i] ?? "–")]] : rows;
  return (
    <div class="detail">
      <h3 class={kind === "token" || kind === "logit" ? "tok" : ""}>
        {wordsOf(store, i, 1000)}
      </h3>
      <p class="soft">
        {g.reading.place(g, i)} {where}
      </p>
      <p>
        {tested && <Verdict verdict={n.verdict[i]}/>} <span class="soft">{plain(n.reason[i])}</span>
      </p>
      {act}
      <div class="actions">
        <button aria-pressed={store.pinned.value.has(i)} onClick={() => store.togglePin(i)}>
          {store.pinned.value.has(i) ? "Unpin" : "Pin"}
        </button>
        <NameOf store={store} i={i} />
      </div>
      {children}
      <table>
        <tbody>
          {all.map(([name, value]) => (
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

/** A node is called what a person calls it. */
function NameOf({ store, i }: { store: Store; i: number }) {
  const g = store.graph.value;
  const names = store.get<Record<string, string>>("names") ?? {};
  return (
    <label>
      Name{" "}
      <input
        type="text"
        maxLength={200}
        value={typeof names[g.id[i]] === "string" ? names[g.id[i]] : ""}
        placeholder={plain(g.reading.label(g, i)).slice(0, 40)}
        onChange={(event) => {
          const { [g.id[i]]: _, ...others } = names;
          const name = event.currentTarget.value.trim();
          store.set({ names: name ? { ...others, [g.id[i]]: name } : others });
        }}
      />
    </label>
  );
}

interface GroupProps {
  store: Store;
  selection: Selection;
  /** What its members are together, after how many there are. */
  about?: string;
  children?: ComponentChildren;
}

export function OneGroup({ store, selection, about = "", children }: GroupProps) {
  const g = store.graph.value;
  const groups = store.groups.value;
  const mine = groups.findIndex((group) => group.name === selection.name);
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
        {count(selection.nodes.length)} nodes{about}
      </p>
      {children}
      <div class="actions">
        {mine < 0 ? (
          <button onClick={() => save([...groups, { name: selection.name, nodes: selection.nodes.map((i) => g.id[i]) }], `group:${selection.name}`)}>
            Add to the subgraph
          </button>
        ) : (
          <button onClick={() => save(groups.filter((_, k) => k !== mine), "")}>Ungroup</button>
        )}
      </div>
      <h3>Strongest members</h3>
      <NodeRows store={store} nodes={best} />
    </div>
  );
}
