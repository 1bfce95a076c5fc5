// The strongest paths from a token to the answer, each step a way into the picture.

import { num, percent, token } from "../core/format";
import { NodeButton } from "./Connections";
import type { Store } from "./store";
import { traceOf } from "./trace";

export function Paths({ store }: { store: Store }) {
  const g = store.graph.value;
  const { paths, target, quantity, graph_quantity: inside } = traceOf(g);
  if (!paths.length) return null;
  const along = paths.some((path) => path.carried != null);
  return (
    <details class="scores">
      <summary>The strongest paths</summary>
      <p class="soft">
        One path is rarely much: influence is spread over very many, and a share of the graph's influence is not a share of the effect. What switching off the
        features on a path did was measured{along && `, and what its first token carries along it alone, of the ${inside?.name ?? "answer"}`}.
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">token</th>
            <th scope="col">through</th>
            <th scope="col" class="number">share of the influence</th>
            {along && <th scope="col" class="number">carries</th>}
            {along && <th scope="col" class="number">predicted</th>}
            <th scope="col" class="number">{quantity ? `change of the ${quantity.name}` : "change"}</th>
            <th scope="col" class="number">of as many random ones</th>
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
              <td class="number">{percent(path.share)}</td>
              {along && <td class="number">{path.carried == null ? "not tested" : num(path.carried, true)}</td>}
              {along && <td class="number">{path.predicted == null ? "" : num(path.predicted, true)}</td>}
              <td class="number">{path.measured == null ? "not tested" : num(path.measured, true)}</td>
              <td class="number">{path.control_least != null && `${num(path.control_least, true)} to ${num(path.control_greatest, true)}`}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
