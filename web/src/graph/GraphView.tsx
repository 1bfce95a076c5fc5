// The page of a trace: the sentence, four linked panes, and the numbers behind them.

import { useMemo } from "preact/hooks";
import type { State, ViewProps } from "../core/contract";
import { plain, short, token } from "../core/format";
import type { GraphView as View, Shown } from "../types";
import { shownLinks, shownNodes } from "./describe";
import { Detail } from "./Detail";
import { Help } from "./Help";
import { useKeys } from "./keys";
import { NodeTable } from "./NodeTable";
import { FourPanes, Pane } from "./Panes";
import { Attention } from "./Attention";
import { Paths } from "./Paths";
import { plainLine } from "./plain";
import { Scores } from "./Scores";
import { Sentence } from "./Sentence";
import { hasStory, Story } from "./Story";
import { drawnState, makeStore, type Store } from "./store";
import { Subgraph } from "./Subgraph";
import { Toolbar } from "./Toolbar";
import { TRACE, toldLost, traceOf, unexplained } from "./trace";
import { TraceTools } from "./TraceTools";

export function graphState(result: Shown): State {
  const view = result.view as View;
  return {
    ...drawnState(view),
    // influence, groups and labels are of the change from the counterfactual, where there is one
    weights: view.nodes.delta.some((d) => d !== null) ? "change" : "value",
    runs: [], // interventions that were run from the page
    replay: null, // which intervention is shown: {nodes, op}
    story: "", // what is open under the story: "group:NAME" or "look:NUMBER"
  };
}

export function GraphView(props: ViewProps) {
  const store = useMemo(() => makeStore(props, TRACE), [props.data, props.number]);
  store.props = props;
  const root = useKeys(store);
  const lost = useMemo(() => unexplained(store.graph.value), [store]);
  const { prompt, target } = traceOf(store.graph.value);
  const { depth } = props;
  const easy = depth === "plain";
  const detail = <Detail store={store} />;
  const told = hasStory(store);
  const own = store.groups.value.length + store.pinned.value.size > 0;
  const subgraph = own || !told; // what the story does not show
  return (
    <div ref={root} class={`graph-view depth-${depth}`}>
      <Sentence store={store} lost={lost} />
      {told && <Story store={store} />}
      {!easy && (
        <Toolbar store={store} root={root} caption={`${short(plain(prompt), 90)} → ${token(target?.token ?? "")}`}>
          <TraceTools store={store} />
        </Toolbar>
      )}
      <p class="shown" role="status" data-testid="shown">
        {easy ? plainLine(store, lost) : shownLine(store, lost)}
      </p>
      {store.get<boolean>("table") ? (
        <NodeTable store={store} detail={detail} />
      ) : easy ? (
        <div class={`panes plain ${subgraph ? "" : "alone"}`}>
          {subgraph && (
            <Pane store={store} name="subgraph" title={own ? (told ? "Your groups and pinned nodes" : "The parts of the story, and yours") : "The parts of the story"}>
              <Subgraph store={store} suggested={!told} />
            </Pane>
          )}
          <Pane store={store} name="detail" title="What it is, and what happens without it">{detail}</Pane>
        </div>
      ) : (
        <FourPanes store={store} detail={detail} />
      )}
      {!easy && <Paths store={store} />}
      {!easy && <Attention store={store} />}
      {!easy && <Scores store={store} />}
      <Help />
    </div>
  );
}

/** Always on screen: what is shown, what is not, and what nothing here explains. */
function shownLine(store: Store, lost: number | null): string {
  const from = traceOf(store.graph.value).live ? "model's graph" : "file";
  return `showing ${shownNodes(store)}, ${shownLinks(store, "links", from)} · ${toldLost(lost)}`;
}
