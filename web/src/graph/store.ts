// The state of a graph view and what follows from it. State is plain JSON (see graphState); everything else is computed.

import { computed, signal, type ReadonlySignal, type Signal } from "@preact/signals";
import type { Json, State, ViewProps } from "../core/contract";
import { plain, short, token } from "../core/format";
import type { GraphView as Data, Intervention, Shown } from "../types";
import { makeGraph, type Graph, type Weights } from "./graph";

export interface PersonGroup {
  name: string;
  nodes: string[];
}
export const MAX_EDGES = 5000;
export const MODES = ["either", "inputs", "outputs"] as const;

/** What a person can change, and how it begins. */
export function graphState(result: Shown): State {
  const view = result.view as Data;
  return {
    sel: view.state.selected,
    pin: view.state.pinned,
    groups: view.state.groups.map((g) => ({ name: g.name, nodes: g.nodes })),
    names: {}, // node id -> the name that a person gave
    prune: view.node_threshold,
    edges: 1000, // links drawn at once
    find: "",
    minus: "", // contrast: "A|B", ids of two logits
    links: "either",
    // influence, groups and labels are of the change from the counterfactual, where there is one
    weights: !view.circuit && view.nodes.delta.some((d) => d !== null) ? "change" : "value",
    hide: [], // kinds of nodes: remainder, error, token
    table: false,
    full: "", // pane on the full screen
    spots: {}, // where boxes of the subgraph were dragged: name -> [x, y] from 0 to 1
    runs: [], // interventions that were run from the page
    replay: null, // which intervention is shown: {nodes, op}
    zoom: null, // [k, x, y]
  };
}

export interface Store {
  props: ViewProps;
  graph: ReadonlySignal<Graph>;
  selected: ReadonlySignal<number>;
  hovered: Signal<number>;
  pinned: ReadonlySignal<Set<number>>;
  groups: ReadonlySignal<PersonGroup[]>;
  visible: ReadonlySignal<Uint8Array>;
  edges: ReadonlySignal<{ drawn: Uint32Array; possible: number }>;
  matches: ReadonlySignal<Set<number> | null>;
  contrast: ReadonlySignal<[number, number] | null>;
  get<T extends Json>(key: string): T;
  set(patch: State, how?: "push" | "replace"): void;
  select(i: number): void;
  togglePin(i: number): void;
  undo(): void;
  label(i: number): string;
  interventions(): Intervention[];
  past: Signal<number>;
  /** What is selected: one node, or the members of a group. */
  selection: ReadonlySignal<Selection | null>;
  /** Interventions that were run from this page: no step back undoes them. */
  runs: Signal<Intervention[]>;
  /** While grouping, clicks collect nodes here. */
  adding: Signal<boolean>;
  chosen: Signal<string[]>;
  addToGroup(i: number): void;
  makeGroup(): void;
}

export interface Selection {
  /** Of a node its id; of a group its name. */
  name: string;
  kind: "node" | "group";
  nodes: number[];
}

export function makeStore(read: () => ViewProps): Store {
  const props = read();
  const get = <T extends Json>(key: string) => props.state.value[key] as T;
  const past: State[] = [];
  const steps = signal(0);
  const set = (patch: State, how: "push" | "replace" = "push") => {
    const before: State = {};
    for (const key of Object.keys(patch)) before[key] = props.state.value[key];
    if (how === "push") {
      past.push(before);
      if (past.length > 100) past.shift();
      steps.value = past.length;
    }
    props.set(patch, how);
  };
  const weights = computed(() => get<Weights>("weights"));
  const graph = computed(() => makeGraph(props.data, props.number, weights.value));
  const ids = (key: string) => get<string[]>(key) ?? [];
  // computed one by one from the state, so that a change of one does not recompute the others
  const text = (key: string) => computed(() => JSON.stringify(props.state.value[key] ?? null));
  const [pinText, groupText, hideText, selText, pruneText, findText, minusText, edgesText] =
    ["pin", "groups", "hide", "sel", "prune", "find", "minus", "edges"].map(text);
  const selected = computed(() => graph.value.place.get(JSON.parse(selText.value) as string) ?? -1);
  const selection = computed((): Selection | null => {
    const sel = JSON.parse(selText.value) as string;
    if (!sel?.startsWith("group:")) return selected.value < 0 ? null : { name: sel, kind: "node", nodes: [selected.value] };
    const name = sel.slice(6);
    const group = groups.value.find((g) => g.name === name) ?? graph.value.view.groups.find((g) => g.name === name);
    const nodes = group?.nodes.map((id) => graph.value.place.get(id)).filter((i) => i !== undefined) ?? [];
    return nodes.length ? { name, kind: "group", nodes } : null;
  });
  const pinned = computed(() => {
    const found = (JSON.parse(pinText.value) as string[]).map((id) => graph.value.place.get(id)).filter((i) => i !== undefined);
    return new Set(found as number[]);
  });
  const groups = computed(() => (JSON.parse(groupText.value) as PersonGroup[]).filter((g) => typeof g?.name === "string" && Array.isArray(g.nodes)));
  const visible = computed(() => {
    const g = graph.value;
    const prune = Number(JSON.parse(pruneText.value));
    const hide = new Set(JSON.parse(hideText.value) as string[]);
    const out = new Uint8Array(g.n);
    for (let i = 0; i < g.n; i++) {
      const kind = g.kind[i];
      if (hide.has(kind === "error" ? "remainder" : kind)) continue;
      out[i] = kind === "token" || kind === "logit" || g.cumulative[i] <= prune || prune >= 1 ? 1 : 0;
    }
    // what a person singled out stays on screen
    for (const i of selection.value?.nodes ?? []) out[i] = 1;
    for (const i of pinned.value) out[i] = 1;
    return out;
  });
  const edges = computed(() => {
    const g = graph.value;
    const on = visible.value;
    const most = Math.min(MAX_EDGES, Math.max(0, Number(JSON.parse(edgesText.value)) || 0));
    const drawn: number[] = [];
    let possible = 0;
    for (const e of g.order) {
      if (!on[g.source[e]] || !on[g.target[e]]) continue;
      possible++;
      if (drawn.length < most) drawn.push(e);
    }
    return { drawn: Uint32Array.from(drawn), possible };
  });
  const matches = computed(() => {
    const words = (JSON.parse(findText.value) as string).trim().toLowerCase();
    if (!words) return null;
    const g = graph.value;
    const found = new Set<number>();
    for (let i = 0; i < g.n; i++) {
      const nodes = g.view.nodes;
      const hay = `${g.id[i]}\n${nodes.label[i]}\n${name(g.id[i])}\n${nodes.reads[i].join("\n")}\n${nodes.promotes[i].join("\n")}`;
      if (hay.toLowerCase().includes(words)) found.add(i);
    }
    return found;
  });
  const contrast = computed((): [number, number] | null => {
    const [a, b] = (JSON.parse(minusText.value) as string).split("|").map((id) => graph.value.place.get(id));
    return a === undefined || b === undefined || a === b ? null : [a, b];
  });
  const runs = signal<Intervention[]>([]);
  const adding = signal(false);
  const chosen = signal<string[]>([]);
  const name = (id: string) => {
    const names = get<State>("names");
    const given = Object.hasOwn(names, id) ? names[id] : "";
    return typeof given === "string" ? given : "";
  };
  return {
    props, graph, selected, hovered: signal(-1), pinned, groups, visible, edges, matches, contrast, get, set, past: steps, selection, runs, adding, chosen,
    addToGroup(i) {
      const id = graph.value.id[i];
      chosen.value = chosen.value.includes(id) ? chosen.value.filter((c) => c !== id) : [...chosen.value, id];
    },
    makeGroup() {
      const members = chosen.value;
      adding.value = false;
      chosen.value = [];
      if (!members.length) return;
      const others = groups.value.map((g) => ({ ...g, nodes: g.nodes.filter((id) => !members.includes(id)) })).filter((g) => g.nodes.length);
      const taken = new Set([...others, ...graph.value.view.groups].map((g) => g.name));
      let k = 1;
      while (taken.has(`Group ${k}`)) k++;
      const pin = ids("pin").filter((id) => !members.includes(id));
      set({ groups: [...others, { name: `Group ${k}`, nodes: members }] as unknown as Json, pin, sel: `group:Group ${k}` });
    },
    label: (i) => name(graph.value.id[i]) || labelOf(graph.value, i),
    select(i) {
      const id = i < 0 ? "" : graph.value.id[i];
      if (id !== get("sel")) set({ sel: id });
    },
    togglePin(i) {
      const id = graph.value.id[i];
      const now = ids("pin");
      set({ pin: now.includes(id) ? now.filter((p) => p !== id) : [...now, id] });
    },
    undo() {
      const before = past.pop();
      steps.value = past.length;
      if (before) props.set(before, "push");
    },
    interventions() {
      const saved = props.data.page.results.slice(1).map((r) => r.view);
      const all = [
        ...graph.value.view.interventions,
        // in a report there may be other traces
        ...saved.filter((v): v is Intervention => v.type === "intervention" && (props.number === 0 || v.trace === props.result.id)),
        ...(get("runs") as unknown as Intervention[]).filter(isRun),
        ...runs.value,
      ];
      return [...new Map(all.map((v) => [runKey(v.nodes, v.op), v])).values()];
    },
  }; // prettier-ignore
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

export const sameNodes = (a: string[], b: string[]): boolean => a.length === b.length && new Set([...a, ...b]).size === a.length;

/** A node in words. */
export function labelOf(g: Graph, i: number): string {
  const { label, layer, index } = g.view.nodes;
  const kind = g.kind[i];
  if (kind === "token") return label[i];
  if (kind === "logit") return label[i];
  if (kind === "remainder") return `neurons of layer ${layer[i]} that are not drawn`;
  if (kind === "error") return `reconstruction error of layer ${layer[i]}`;
  return label[i] || `${kind} ${index[i] ?? ""} of layer ${layer[i]}`;
}

/** A token in quotes, anything else as it is called. */
export function wordsOf(store: Store, i: number, most = 90): string {
  const { kind, view } = store.graph.value;
  const text = store.label(i);
  return (kind[i] === "token" || kind[i] === "logit") && !view.circuit ? `“${token(text)}”` : plain(short(text, most));
}

/** The token that a node stands at; in a circuit nothing stands at one. */
export function atOf(g: Graph, i: number, most = 60): string {
  if (g.view.circuit || g.kind[i] === "token" || g.kind[i] === "logit") return "";
  return ` at “${token(short(g.view.tokens[g.position[i]] ?? "", most))}”`;
}

/** Kind and place of a node, for lists. */
export function placeOf(g: Graph, i: number): string {
  const kind = g.kind[i];
  if (g.view.circuit) return kind === "token" ? "embeddings" : kind === "logit" ? "output" : `layer ${g.view.nodes.layer[i]}, ${kind === "mlp" ? "MLP" : kind === "feature" ? `neuron ${g.view.nodes.index[i]}` : `head ${g.view.nodes.index[i]}`}`;
  if (kind === "token") return "token";
  if (kind === "logit") return "output";
  if (kind === "remainder" || kind === "error") return ""; // its label says it
  return `layer ${g.view.nodes.layer[i] ?? "?"}`;
}
