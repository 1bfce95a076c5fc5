// The graph page: the sentence, four linked panes, and the keys.

import { useEffect, useMemo, useRef } from "preact/hooks";
import type { ViewProps } from "../core/contract";
import type { Group } from "../types";
import { chance, percent, plain, token } from "../core/format";
import { CircuitHead, CircuitRest } from "./Circuit";
import { Connections } from "./Connections";
import { Verdict } from "../core/Verdict";
import { withinRandom } from "../generic/InterventionTable";
import { Detail } from "./Detail";
import { unexplained } from "./graph";
import { shownLine } from "./describe";
import { GraphPane } from "./GraphPane";
import { plainLine, plainWords } from "./plain";
import { Help } from "./Help";
import { NodeTable } from "./NodeTable";
import { Paths } from "./Paths";
import { Scores } from "./Scores";
import { graphState, makeStore, MODES, runKey, type Store } from "./store";
import { Subgraph } from "./Subgraph";
import { Toolbar } from "./Toolbar";

export { graphState };

export function GraphView(props: ViewProps) {
  const latest = useRef(props);
  latest.current = props;
  // the store reads the newest props through the first ones it got: state is a signal, the rest rarely changes
  const store = useMemo(() => makeStore(() => latest.current), [props.data, props.number]);
  store.props = props;
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      // keys of this view: pressed anywhere in its frame, or with nothing focused while it is the only one
      const frame = root.current!.closest(".hooke")!;
      const path = event.composedPath();
      const alone = path[0] === document.body && document.querySelectorAll(".graph-view").length === 1;
      if (path.includes(frame) || alone) keys(event, store, root.current!);
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, [store]);
  const { circuit } = store.graph.value.view;
  const lost = useMemo(() => (circuit ? null : unexplained(store.graph.value)), [store]);
  const full = store.get<string>("full");
  const depth = props.depth;
  const pane = (name: string, title: string, content: preact.ComponentChildren, extra?: preact.ComponentChildren) => (
    <div role="group" class={`pane pane-${name} ${full === name ? "full" : ""}`} aria-label={title} data-tour={name}>
      <header>
        <h2>{title}</h2>
        {extra}
        <span class="push" />
        <button class="plain" aria-label={full === name ? `${title}: back to the page` : `${title}: full screen`} aria-pressed={full === name} onClick={() => store.set({ full: full === name ? "" : name }, "replace")}>
          {full === name ? "✕ Back (Esc)" : "⤢"}
        </button>
      </header>
      <div class="content">{content}</div>
    </div>
  );
  return (
    <div ref={root} class={`graph-view depth-${depth}`}>
      {circuit ? <CircuitHead store={store} /> : <Sentence store={store} lost={lost} />}
      {depth !== "plain" && <Toolbar store={store} root={root} />}
      <p class="shown" role="status" data-testid="shown">
        {depth === "plain" && !circuit ? plainLine(store, lost) : shownLine(store, lost)}
      </p>
      {store.get<boolean>("table") ? (
        <NodeTable store={store} />
      ) : depth === "plain" || store.graph.value.edgeless ? (
        <div class="panes plain">
          {circuit ? pane("graph", "Graph", <GraphPane store={store} dark={props.dark} />) : pane("subgraph", store.groups.value.length ? "The groups of the sentence, and yours" : "The groups of the sentence", <Subgraph store={store} suggested />)}
          {pane("detail", circuit ? "Detail" : "What it is, and what happens without it", <Detail store={store} />)}
        </div>
      ) : (
        <div class="panes">
          {pane("graph", "Graph", <GraphPane store={store} dark={props.dark} />)}
          {pane("detail", "Detail", <Detail store={store} />)}
          {pane("subgraph", "Subgraph", <Subgraph store={store} />, <GroupButtons store={store} />)}
          {pane("connections", "Connections", <Connections store={store} />)}
        </div>
      )}
      {depth !== "plain" && <Paths store={store} />}
      {depth !== "plain" && <Scores store={store} />}
      {circuit && depth !== "plain" && <CircuitRest store={store} />}
      <Help />
    </div>
  );
}

/** While grouping, clicks collect nodes; the second press makes the group. */
function GroupButtons({ store }: { store: Store }) {
  const n = store.chosen.value.length;
  return (
    <>
      <button aria-pressed={store.adding.value} onClick={() => (store.adding.value ? store.makeGroup() : startGroup(store))}>
        {store.adding.value ? `Make a group of ${n}` : "Group"}
      </button>
      {store.adding.value && <span class="soft">press nodes in the graph</span>}
    </>
  );
}

function startGroup(store: Store): void {
  store.adding.value = true;
  const s = store.selected.value;
  store.chosen.value = s >= 0 ? [store.graph.value.id[s]] : [];
}

/** The sentence, each of its phrases a way into the picture; the unexplained share always said. */
function Sentence({ store, lost }: { store: Store; lost: number | null }) {
  const { view } = store.graph.value;
  const selected = store.get<string>("sel");
  // the sentence is its lead, one phrase a group, and what is left: a list reads better than one long line
  const phrases = view.groups.filter((group) => group.text && view.sentence.includes(group.text));
  const lead = phrases.length ? view.sentence.slice(0, view.sentence.indexOf(phrases[0].text)) : view.sentence;
  const last = phrases.at(-1);
  const rest = last ? view.sentence.slice(view.sentence.indexOf(last.text) + last.text.length).replace(/^[.;] */, "") : "";
  const easy = store.props.depth === "plain";
  const said = view.target ? `“${token(view.target.token)}”` : "the answer";
  const little = lost !== null && lost > 0.5;
  return (
    <div role="group" class="sentence" data-tour="sentence" aria-label="In a sentence">
      <p class="prompt">
        <span class="tok">{plain(view.prompt || view.tokens.join(""))}</span>
        <span aria-hidden="true"> → </span>
        {view.target && <strong class="tok">{token(view.target.token)}</strong>}
        {view.contrast && <span> rather than <strong class="tok">{token(view.contrast.token)}</strong></span>}
        <span class="soft">
          {"  "}
          {view.top.slice(0, 5).map((t) => `${token(t.token)} ${chance(t.probability)}`).join("   ")}
        </span>
      </p>
      {view.sentence ? (
        <>
          <p>
            {little && <strong>{percent(lost)} of what feeds these nodes is unexplained, so the graph explains little. </strong>}
            {easy ? `What stands behind ${said}, and what the model says without it:` : plain(lead)}
          </p>
          <ol>
            {phrases.map((group) => (
              <li key={group.name}>
                <span>
                  <Verdict verdict={group.verdict} />
                  {weak(store, group) && group.verdict !== "no-effect" && <span class="badge refuted">no more than random, live</span>}
                </span>
                <button class={`phrase ${group.verdict}`} aria-pressed={selected === `group:${group.name}`} onClick={() => store.set({ sel: `group:${group.name}` })}>
                  {easy ? plainWords(store, group) : plain(group.text)}
                </button>
              </li>
            ))}
          </ol>
          {rest && !easy && <p>{plain(rest)}</p>}
        </>
      ) : (
        <p class="soft">This file comes without a sentence: nothing in it was tested by intervention.</p>
      )}
      {view.notes.map((note) => (
        <p key={note} class="soft">Note: {plain(note)}</p>
      ))}
    </div>
  );
}

/** Whether switching the group off in the live model did no more than the same push on random neurons. */
function weak(store: Store, group: Group): boolean {
  const run = store.interventions().find((r) => runKey(r.nodes, r.op) === runKey(group.nodes, "off"));
  return !!run && withinRandom(run) === true;
}

function keys(event: KeyboardEvent, store: Store, root: HTMLElement): void {
  const target = event.composedPath()[0] as HTMLElement;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && (target as HTMLInputElement).type !== "range" && (target as HTMLInputElement).type !== "checkbox";
  if (event.key === "Escape") {
    const open = root.querySelector<HTMLDialogElement>("dialog[open]");
    if (open) return;
    if (typing) target.blur();
    else if (store.adding.value) {
      store.adding.value = false;
      store.chosen.value = [];
    } else if (store.get("full")) store.set({ full: "" }, "replace");
    else if (store.get("sel")) store.set({ sel: "" });
    else if (store.get("find")) store.set({ find: "" }, "replace");
    return;
  }
  if (typing) return;
  const here = store.hovered.value >= 0 && target.classList.contains("canvas") ? store.hovered.value : store.selected.value;
  const modes = MODES as readonly string[];
  const act: Record<string, () => void> = {
    "/": () => root.querySelector<HTMLElement>("input[type=search]")?.focus(),
    p: () => here >= 0 && store.togglePin(here),
    g: () => (store.adding.value ? store.makeGroup() : startGroup(store)),
    z: () => store.undo(),
    t: () => store.set({ table: !store.get("table") }, "replace"),
    f: () => store.set({ full: store.get("full") ? "" : "graph" }, "replace"),
    l: () => store.set({ links: modes[(modes.indexOf(store.get("links")) + 1) % modes.length] }, "replace"),
    "?": () => root.querySelector<HTMLDialogElement>("dialog.keys")?.showModal(),
  };
  if (!act[event.key]) return;
  event.preventDefault();
  act[event.key]();
}
