// The state of a drawn graph and what follows from it. State is plain JSON (see drawnState); everything else is computed.

import { computed, signal, type ReadonlySignal, type Signal } from "@preact/signals";
import type { Json, State, ViewProps } from "../core/contract";
import { plain, short, token } from "../core/format";
import type { Intervention } from "../types";
import type { Drawn, Graph, Reading, Weights } from "./graph";

export interface PersonGroup {
  name: string;
  nodes: string[];
}
export const MAX_EDGES = 5000;
export const MODES = ["either", "inputs", "outputs"] as const;

/** What a person can change, and how it begins. */
export function drawnState({ state, node_threshold }: Drawn): State {
  return {
    sel: state.selected,
    pin: state.pinned,
    groups: state.groups.map((g) => ({ name: g.name, nodes: g.nodes })),
    names: {}, // node id -> the name that a person gave
    prune: node_threshold,
    edges: 1000, // links drawn at once
    find: "",
    minus: "", // contrast: "A|B", ids of two logits
    links: "either",
    weights: "value", // or "change", from the counterfactual
    hide: [], // kinds of nodes: remainder, error, token
    table: false,
    full: "", // pane on the full screen
    spots: {}, // where boxes of the subgraph were dragged: name -> [x, y] from 0 to 1
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
  past: Signal<number>;
  /** What is selected: one node, or the members of a group. */
  selection: ReadonlySignal<Selection | null>;
  /** Interventions that were run from this page: no step back undoes them. */
  runs: Signal<Intervention[]>;
  /** While grouping, clicks collect nodes here. */
  adding: Signal<boolean>;
  chosen: Signal<string[]>;
  startGroup(): void;
  addToGroup(i: number): void;
  makeGroup(): void;
}

export interface Selection {
  /** Of a node its id; of a group its name. */
  name: string;
  kind: "node" | "group";
  nodes: number[];
}

export function makeStore(props: ViewProps, reading: Reading): Store {
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
  const graph = computed(() => reading.make(props.data, props.number, weights.value));
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
    const group = groups.value.find((g) => g.name === name) ?? graph.value.groups.find((g) => g.name === name);
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
    startGroup() {
      adding.value = true;
      chosen.value = selected.value >= 0 ? [graph.value.id[selected.value]] : [];
    },
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
      const taken = new Set([...others, ...graph.value.groups].map((g) => g.name));
      let k = 1;
      while (taken.has(`Group ${k}`)) k++;
      const pin = ids("pin").filter((id) => !members.includes(id));
      set({ groups: [...others, { name: `Group ${k}`, nodes: members }] as unknown as Json, pin, sel: `group:Group ${k}` });
    },
    label: (i) => name(graph.value.id[i]) || reading.label(graph.value, i),
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
  }; // prettier-ignore
}

export const sameNodes = (a: string[], b: string[]): boolean => a.length === b.length && new Set([...a, ...b]).size === a.length;

/** A token in quotes, anything else as it is called. */
export function wordsOf(store: Store, i: number, most = 90): string {
  const { kind, reading } = store.graph.value;
  const text = store.label(i);
  return (kind[i] === "token" || kind[i] === "logit") && reading.atTokens ? `“${token(text)}”` : plain(short(text, most));
}

/** The token that a node stands at, if it stands at one. */
export function atOf(g: Graph, i: number, most = 60): string {
  if (!g.reading.atTokens || g.kind[i] === "token" || g.kind[i] === "logit") return "";
  return ` at “${token(short(g.view.tokens[g.position[i]] ?? "", most))}”`;
}
