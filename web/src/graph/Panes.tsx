// The panes of a drawn graph: each with its title and a way to the full screen; the four of them as they stand together.

import type { ComponentChildren } from "preact";
import { Connections } from "./Connections";
import { GraphPane } from "./GraphPane";
import type { Store } from "./store";
import { Subgraph } from "./Subgraph";

interface PaneProps {
  store: Store;
  name: string;
  title: string;
  /** Beside the title. */
  extra?: ComponentChildren;
  children: ComponentChildren;
}

export function Pane({ store, name, title, extra, children }: PaneProps) {
  const full = store.get<string>("full") === name;
  return (
    <div role="group" class={`pane pane-${name} ${full ? "full" : ""}`} aria-label={title} data-tour={name}>
      <header>
        <h2>{title}</h2>
        {extra}
        <span class="push" />
        <button class="plain" aria-label={full ? `${title}: back to the page` : `${title}: full screen`} aria-pressed={full} onClick={() => store.set({ full: full ? "" : name }, "replace")}>
          {full ? "✕ Back (Esc)" : "⤢"}
        </button>
      </header>
      <div class="content">{children}</div>
    </div>
  );
}

/** detail: what is selected, in the words of the view. */
export function FourPanes({ store, detail }: { store: Store; detail: ComponentChildren }) {
  return (
    <div class="panes">
      <Pane store={store} name="graph" title="Graph"><GraphPane store={store} dark={store.props.dark} /></Pane>
      <Pane store={store} name="detail" title="Detail">{detail}</Pane>
      <Pane store={store} name="subgraph" title="Subgraph" extra={<GroupButtons store={store} />}><Subgraph store={store} /></Pane>
      <Pane store={store} name="connections" title="Connections"><Connections store={store} /></Pane>
    </div>
  );
}

/** While grouping, clicks collect nodes; the second press makes the group. */
function GroupButtons({ store }: { store: Store }) {
  const n = store.chosen.value.length;
  return (
    <>
      <button aria-pressed={store.adding.value} onClick={() => (store.adding.value ? store.makeGroup() : store.startGroup())}>
        {store.adding.value ? `Make a group of ${n}` : "Group"}
      </button>
      {store.adding.value && <span class="soft">press nodes in the graph</span>}
    </>
  );
}
