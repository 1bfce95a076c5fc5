// The strongest paths from a token to the answer, each step a way into the picture.

import { num, token } from "../core/format";
import { NodeButton } from "./Connections";
import type { Store } from "./store";
import { traceOf } from "./trace";

export function Paths({ store }: { store: Store }) {
  const g = store.graph.value;
  const { paths, target, graph_quantity: inside } = traceOf(g);
  if (!paths.length) return null;
  const along = paths.some((path) => path.carried != null);
  return (
    <details class="scores">
      <summary>The strongest paths</summary>
      <p class="soft">
        One path is rarely much. Predicted is by how much replacing the token along the path alone changes the {inside?.name ?? "answer"}; the same was measured.
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">token</th>
            <th scope="col">through</th>
            <th scope="col" class="number">predicted</th>
            {along && <th scope="col" class="number">measured</th>}
          </tr>
        </thead>
        <tbody>
          {paths.map((path, k) => (
            <tr key={k}>
              <td class="tok">{token(path.token)}</td>
              <td>
                {path.nodes.map((id) => {
                  const i = g.place.get(id);
                  return i === undefined ? null : <NodeButton key={id} store={store} i={i} />;
                })}
                <span class="soft"> → {target && token(target.token)}</span>
              </td>
              <td class="number">{num(path.predicted, true)}</td>
              {along && <td class="number">{path.carried == null ? "not tested" : num(path.carried, true)}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
