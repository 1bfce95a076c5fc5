// What is open under the story: a part with its claim, its strongest neurons and its flows, or a link of attention.

import { useEffect, useRef } from "preact/hooks";
import { count, num, plain } from "../core/format";
import { Verdict } from "../core/Verdict";
import type { Flow, Group } from "../types";
import { Look } from "./Attention";
import { NodeRows } from "./Connections";
import type { Store } from "./store";
import { lookKey, partKey, quantityOf, sourceKey, sourceWords, speaksFor, targetKey, targetWords, toggle } from "./story";
import { mark } from "./StoryParts";
import { traceOf, unitsOf } from "./trace";

const FIRST = 8;

export function StoryPanel({ store }: { store: Store }) {
  const el = useRef<HTMLElement>(null);
  const view = traceOf(store.graph.value);
  const key = store.get<string>("story");
  const group = view.groups.find((g) => partKey(g) === key);
  const link = (view.attention ?? []).find((_, k) => lookKey(k) === key);
  const before = useRef(key);
  useEffect(() => {
    if (key && key !== before.current) el.current?.querySelector("header")!.scrollIntoView({ block: "nearest" });
    before.current = key;
  }, [key]);
  if (!group && !link) return null;
  const title = group ? plain(group.name) : "Where attention looked, and why";
  const close = () => {
    const frame = el.current?.closest(".story");
    toggle(store, key);
    const all = [...(frame?.querySelectorAll<HTMLElement>("[data-key]") ?? [])];
    all.find((e) => e.dataset.key === key)?.focus();
  };
  return (
    <section ref={el} class="story-panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <button class="plain" onClick={close}>✕ Close (Esc)</button>
      </header>
      {group ? <p><Verdict verdict={group.verdict} /> {plain(group.text || group.reason)}</p> : <Look store={store} link={link!} />}
      {group?.text && group.reason && store.props.depth === "expert" && <p class="soft">{plain(group.reason)}</p>}
      <div class="split">
        {group && <Strongest store={store} group={group} />}
        <div>
          <Flows store={store} title="Flows in" head="from" flows={view.flows.filter((f) => targetKey(view, f) === key)} end={(f) => sourceWords(view, f) + (f.by ? `, by the ${f.by}` : "")} />
          <Flows store={store} title="Flows out" head="to" flows={view.flows.filter((f) => sourceKey(view, f) === key)} end={(f) => targetWords(view, f)} sum={group?.predicted} />
        </div>
      </div>
    </section>
  );
}

function Strongest({ store, group }: { store: Store; group: Group }) {
  const g = store.graph.value;
  const nodes = group.nodes.map((id) => g.place.get(id)).filter((i) => i !== undefined);
  return (
    <div>
      <h3>
        Strongest {unitsOf(g)} <span class="soft">of {count(nodes.length)}, by their share of the influence</span>
      </h3>
      <NodeRows store={store} nodes={nodes.sort((a, b) => g.share[b] - g.share[a]).slice(0, FIRST)} />
    </div>
  );
}

interface FlowsProps {
  store: Store;
  title: string;
  head: string;
  flows: Flow[];
  end(f: Flow): string;
  sum?: number | null;
}

function Flows({ store, title, head, flows, end, sum }: FlowsProps) {
  if (!flows.length) return null;
  const view = traceOf(store.graph.value);
  const units = unitsOf(store.graph.value);
  const sorted = [...flows].sort((a, b) => Math.abs(b.amount) - Math.abs(a.amount));
  return (
    <>
      <h3>
        {title} <span class="soft">change of the {quantityOf(view)}, as the graph predicts</span>
      </h3>
      <table>
        <thead>
          <tr>
            <th scope="col">{head}</th>
            <th scope="col" class="number">by this way</th>
            <th scope="col" class="number" title={`through no ${units} between, drawn or not`}>straight</th>
          </tr>
        </thead>
        <tbody>
          {sorted.slice(0, FIRST).map((f, k) => (
            <tr key={k}>
              <td>{end(f)}</td>
              <td class={`number flow ${speaksFor(f) ? "for" : "against"}`}>
                {mark(speaksFor(f))} {num(f.amount, true)}
              </td>
              <td class="number">{num(f.direct, true)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="soft">
        {sorted.length > FIRST && `And ${sorted.length - FIRST} weaker. `}
        {sum != null && `All together: ${num(sum, true)}, which is what is predicted without this part.`}
      </p>
    </>
  );
}
