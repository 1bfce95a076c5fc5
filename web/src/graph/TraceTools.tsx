// What the toolbar of a trace has besides: which weights, what to hide, contrast.

import { token } from "../core/format";
import type { Store } from "./store";

export function TraceTools({ store }: { store: Store }) {
  const g = store.graph.value;
  const hide = store.get<string[]>("hide") ?? [];
  const chanceOf = (i: number) => g.view.nodes.probability[i] ?? 0;
  const logits = g.kind.map((kind, i) => (kind === "logit" ? i : -1)).filter((i) => i >= 0).sort((x, y) => chanceOf(y) - chanceOf(x));
  const [a = "", b = ""] = store.get<string>("minus").split("|");
  const toggle = (kind: string) => store.set({ hide: hide.includes(kind) ? hide.filter((k) => k !== kind) : [...hide, kind] }, "replace");
  return (
    <>
      {g.hasDelta && (
        <label title="The direct effect of a node's value, or of how much that value differs from the counterfactual">
          Weights{" "}
          <select value={store.get<string>("weights")} onChange={(event) => store.set({ weights: event.currentTarget.value }, "replace")}>
            <option value="value">value</option>
            <option value="change">change</option>
          </select>
        </label>
      )}
      <label class="check">
        <input type="checkbox" checked={!hide.includes("remainder")} onChange={() => toggle("remainder")} /> what is not drawn
      </label>
      {logits.length > 1 && (
        <label title="Colour nodes by what they do for one output rather than another">
          Contrast{" "}
          <select value={a} aria-label="Contrast: this output" onChange={(event) => store.set({ minus: event.currentTarget.value ? `${event.currentTarget.value}|${b || g.id[logits.find((i) => g.id[i] !== event.currentTarget.value)!]}` : "" })}>
            <option value="">none</option>
            {logits.map((i) => <option key={i} value={g.id[i]}>{token(g.view.nodes.label[i])}</option>)}
          </select>
          {a && (
            <>
              {" − "}
              <select value={b} aria-label="Contrast: rather than this output" onChange={(event) => store.set({ minus: `${a}|${event.currentTarget.value}` })}>
                {logits.filter((i) => g.id[i] !== a).map((i) => <option key={i} value={g.id[i]}>{token(g.view.nodes.label[i])}</option>)}
              </select>
            </>
          )}
        </label>
      )}
    </>
  );
}
