// Change, not only look: switch off or double nodes in the live model, beside what random nodes do.
// Without a model, what was run before is there to replay.

import { useSignal } from "@preact/signals";
import type { Json } from "../core/contract";
import { count } from "../core/format";
import { InterventionTable } from "../generic/InterventionTable";
import type { Intervention } from "../types";
import { interventions, runKey } from "./runs";
import type { Store } from "./store";
import { traceOf } from "./trace";

const OPS = [
  ["off", "Switch off"],
  ["double", "Double"],
] as const;

export function Change({ store, nodes }: { store: Store; nodes: number[] }) {
  const busy = useSignal<string>("");
  const failed = useSignal("");
  const slow = useSignal(false);
  const g = store.graph.value;
  const view = traceOf(g);
  const { live } = store.props.shell;
  const ids = nodes.map((i) => g.id[i]);
  const done = new Map(interventions(store).map((run) => [runKey(run.nodes, run.op), run]));
  const shown = store.get<{ op: string; of?: string } | null>("replay");
  const possible = !!live && !live.refused && view.live && nodes.length > 0;
  const why = !nodes.length
    ? "Only features can be changed."
    : !view.live
      ? view.quantity // of a trace of ours
        ? "Only a trace in the basis of neurons can be changed: this one is made of dictionaries."
        : "This graph was made elsewhere: there is no model here that its nodes could be changed in."
      : (live?.refused ?? "There is no model behind this page.");
  const run = async (op: "off" | "double") => {
    failed.value = "";
    store.set({ replay: { op, of: store.get<string>("sel") } }, "replace");
    const key = runKey(ids, op);
    if (done.has(key) || !possible) return;
    busy.value = key;
    slow.value = false;
    const timer = setTimeout(() => (slow.value = true), 2000);
    try {
      const view = await live!.intervene(ids, op);
      store.runs.value = [...store.runs.value, view];
      const runs = store.get("runs") as unknown as Intervention[];
      store.set({ runs: [...runs.filter((r) => runKey(r.nodes, r.op) !== key), view] as unknown as Json }, "replace");
      store.props.announce(view.sentence);
    } catch (error) {
      failed.value = (error as Error).message;
    } finally {
      clearTimeout(timer);
      busy.value = "";
      slow.value = false;
    }
  };
  const op = shown?.of === store.get("sel") ? (shown?.op as "off" | "double") : undefined;
  const result = op && done.get(runKey(ids, op));
  return (
    <div role="group" class="change" data-tour="change" aria-label="Change it">
      <div class="actions">
        {OPS.map(([value, name]) => {
          const key = runKey(ids, value);
          return (
            <button
              key={value}
              class="primary"
              aria-pressed={op === value}
              disabled={!!busy.value || (!possible && !done.has(key))}
              onClick={() => run(value)}
              title={done.has(key) ? "was run before; press to see it" : possible ? "in the live model" : why}
            >
              {busy.value === key ? "running in the model…" : `${name}${nodes.length > 1 ? ` ${count(nodes.length)} nodes` : ""}`}
              {done.has(key) && !possible ? " ↻" : ""}
            </button>
          );
        })}
      </div>
      {!possible && <p class="soft">{OPS.some(([value]) => done.has(runKey(ids, value))) ? `Replays what was run when this was made. ${why}` : why}</p>}
      {slow.value && <p class="soft" role="status">The model is being loaded first; after that it takes a second.</p>}
      {failed.value && <p class="alert" role="alert">{failed.value}</p>}
      {result && <InterventionTable view={result} />}
    </div>
  );
}
