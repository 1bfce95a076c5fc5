// What stands above a circuit: the sentence, its size, how faithful it is beside random ones, how stable, what its method is worth.

import type { ComponentChildren } from "preact";
import { count, num, percent, plain } from "../core/format";
import { Chart } from "../generic/Chart";
import { ClaimList, Claims, Value } from "../generic/GenericView";
import type { CircuitFacts } from "../types";
import type { Store } from "../graph/store";
import { factsOf } from "./circuit";

const brief = (n: number): string => (n < 10_000 ? count(n) : `${Math.round(n / 1000)}k`);

export function CircuitHead({ store }: { store: Store }) {
  const { result } = store.props;
  const { view } = store.graph.value;
  const facts = factsOf(store.graph.value);
  const { task, method, units, size, n_edges: all, example } = facts;
  const line = [
    task && `task ${task}`, method && `method ${method}`,
    size !== null && `${count(size)} ${all ? `of ${count(all)} ${units} (${percent(size / all)})` : units}`,
    example && `for example ${example}`,
  ];
  const { claims } = result;
  // a sentence that is made of its claims stands there once, with their verdicts
  const told = claims.length > 0 && !/\w/.test(claims.reduce((rest, claim) => rest.replace(claim.text, ""), view.sentence));
  return (
    <div role="group" class="sentence circuit" aria-label="In a sentence">
      {view.sentence && !told && <p class="lens-sentence">{plain(view.sentence)}</p>}
      {told ? <ClaimList claims={claims} /> : <Claims claims={claims} />}
      <p class="soft">{plain(line.filter(Boolean).join(" · "))}</p>
      {view.notes.map((note) => (
        <p key={note} class="soft">Note: {plain(note)}</p>
      ))}
      <div class="facts">
        {facts.sizes.length > 0 && (
          <section>
            <h2>Faithfulness by size</h2>
            <Faithfulness facts={facts} />
          </section>
        )}
        <Part title="Stability" value={facts.stability} />
        <Part title="This method on models whose circuit is known" value={facts.truth}>
          {facts.truth == null && <p class="soft">This file does not say: how far to trust the method is not known from it.</p>}
        </Part>
      </div>
    </div>
  );
}

function Part({ title, value, children }: { title: string; value: unknown; children?: ComponentChildren }) {
  if (value == null && !children) return null;
  return (
    <section>
      <h2>{title}</h2>
      {children || <Value value={value} name={title} depth={2} dark={false} />}
    </section>
  );
}

/** 1: the circuit does what the model does; 0: no more than with every edge cut. */
function Faithfulness({ facts: { sizes, size, units } }: { facts: CircuitFacts }) {
  const of = (key: "circuit" | "random" | "random_low" | "random_high") => sizes.map((s) => s[key]);
  return (
    <>
      <Chart
        values={of("circuit")} beside={of("random")} band={[of("random_low"), of("random_high")]} name={`Faithfulness by number of ${units}`} hold={[0, 0.5, 1]}
        ticks={sizes.map((s) => brief(s.edges))} at={placeAmong(sizes.map((s) => s.edges), size)}
      />
      <p class="soft">
        By number of {plain(units)}. 1 is the whole model, 0 everything cut. Dashed: random {plain(units)}, and how far they range{size !== null && "; upright: this circuit"}.
      </p>
      <details class="scores">
        <summary>As a table</summary>
        <div class="scroll" tabIndex={0} role="region" aria-label="Faithfulness by size">
        <table>
          <thead>
            <tr>
              {[plain(units), "circuit", "random", "their range", "all but the circuit"].map((name) => <th key={name} scope="col" class="number">{name}</th>)}
            </tr>
          </thead>
          <tbody>
            {sizes.map((s, i) => (
              <tr key={i}>
                {[count(s.edges), num(s.circuit), num(s.random), s.random_low === null ? "–" : `${num(s.random_low)} to ${num(s.random_high)}`, num(s.complement)].map((text, k) => (
                  <td key={k} class="number">{text}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
        </div>
      </details>
    </>
  );
}

/** Where a size stands in a list of growing ones, between two by its logarithm; undefined outside. */
export function placeAmong(sizes: number[], size: number | null): number | undefined {
  if (size === null) return;
  const k = sizes.findIndex((s) => s >= size);
  if (k < 0) return;
  if (sizes[k] === size) return k;
  return k > 0 && sizes[k - 1] > 0 ? k - 1 + Math.log(size / sizes[k - 1]) / Math.log(sizes[k] / sizes[k - 1]) : undefined;
}

/** Whatever else is in the result, as tables. */
export function CircuitRest({ store }: { store: Store }) {
  const { rest } = factsOf(store.graph.value);
  if (!Object.keys(rest).length) return null;
  return (
    <details class="scores">
      <summary>Everything else in this result</summary>
      <div class="generic">
        <Value value={rest} name="rest" depth={1} dark={store.props.dark} />
      </div>
    </details>
  );
}
