// The strongest paths from a token to the answer, each step a way into the picture.

import { percent, token } from "../core/format";
import { NodeButton } from "./Connections";
import type { Store } from "./store";

export function Paths({ store }: { store: Store }) {
  const g = store.graph.value;
  const { paths, target } = g.view;
  if (!paths.length) return null;
  return (
    <details class="scores">
      <summary>The strongest paths</summary>
      <p class="soft">One path is rarely much: influence is spread over very many.</p>
      <table>
        <thead>
          <tr>
            <th scope="col">token</th>
            <th scope="col">through</th>
            <th scope="col" class="number">share of the influence</th>
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
              <td class={`number ${path.sign < 0 ? "negative" : "positive"}`}>{percent(path.sign * path.share, true)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
