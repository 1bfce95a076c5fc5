// Interventions on a trace: those it came with, those of other results in the page, and those that were run from here.

import type { Intervention } from "../types";
import type { Store } from "./store";
import { traceOf } from "./trace";

/** All of them, of each the newest. */
export function interventions(store: Store): Intervention[] {
  const { data, number, result } = store.props;
  const saved = data.page.results.slice(1).map((r) => r.view);
  const all = [
    ...traceOf(store.graph.value).interventions,
    // in a report there may be other traces
    ...saved.filter((v): v is Intervention => v.type === "intervention" && (number === 0 || v.trace === result.id)),
    ...(store.get("runs") as unknown as Intervention[]).filter(isRun),
    ...store.runs.value,
  ];
  return [...new Map(all.map((v) => [runKey(v.nodes, v.op), v])).values()];
}

/** Whether an entry of the state is an intervention and not something else. */
const isRun = (run: Intervention): boolean =>
  Array.isArray(run?.nodes) &&
  Array.isArray(run.rows) &&
  run.rows.every((r) => typeof r?.token === "string" && typeof r.before === "number" && typeof r.after === "number") &&
  typeof run.sentence === "string" &&
  typeof run.change === "number" &&
  typeof run.target?.token === "string";

/** Names an intervention: what was done to which nodes. */
export const runKey = (nodes: string[], op: string): string => `${op} ${[...nodes].sort().join(" ")}`;
