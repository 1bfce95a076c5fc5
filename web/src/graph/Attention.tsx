// Where attention looked, why, and what came of taking that away.

import { num, plain } from "../core/format";
import { Verdict } from "../core/Verdict";
import type { AttentionLink } from "../types";
import type { Store } from "./store";
import { traceOf } from "./trace";

export function Attention({ store }: { store: Store }) {
  const links = traceOf(store.graph.value).attention ?? []; // pages of before have none
  if (!links.length) return null;
  return (
    <details class="scores">
      <summary>Where attention looked, and why</summary>
      {links.map((link, k) => (
        <Look key={k} store={store} link={link} />
      ))}
    </details>
  );
}

export function Look({ store, link }: { store: Store; link: AttentionLink }) {
  return (
    <section>
      <p>
        {plain(link.text)}. <Verdict verdict={link.verdict} />
      </p>
      {store.props.depth === "expert" && (
        <table>
          <thead>
            <tr>
              <th scope="col">where it looks from</th>
              <th scope="col">what it looks at</th>
              <th scope="col" class="number">adds to the score</th>
            </tr>
          </thead>
          <tbody>
            {link.pairs.map((pair, n) => (
              <tr key={n}>
                <td>{plain(pair.query)}</td>
                <td>{plain(pair.key)}</td>
                <td class="number">{num(pair.amount, true)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
