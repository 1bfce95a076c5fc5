// What is selected in a circuit: a head, an MLP or a neuron with its edges, or with what cutting it does; or a group of them.

import { percent } from "../core/format";
import { Nothing, OneGroup, OneNode, type Rows } from "../graph/Selected";
import type { Store } from "../graph/store";
import { edgesOf, effectOf } from "./circuit";

export function CircuitDetail({ store }: { store: Store }) {
  const g = store.graph.value;
  const selection = store.selection.value;
  if (!selection) return <Nothing />;
  if (selection.kind === "group") return <OneGroup store={store} selection={selection} />;
  const [i] = selection.nodes;
  const { cumulative, delta } = g.view.nodes;
  const rows: Rows = [g.edgeless ? ["does for the answer", effectOf(g, i)] : ["edges", edgesOf(g, i)], ["share of all strength", percent(g.part[i])]];
  if (store.props.depth === "expert") rows.push(["among the strongest", percent(cumulative[i])]);
  return <OneNode store={store} i={i} tested={g.kind[i] === "feature" || (g.edgeless && delta[i] !== null)} rows={rows} />;
}
