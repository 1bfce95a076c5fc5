// The page of a circuit: what it is judged by, its picture with what is selected, and the rest of the result.

import { useMemo } from "preact/hooks";
import type { State, ViewProps } from "../core/contract";
import { plain } from "../core/format";
import { shownLinks, shownNodes } from "../graph/describe";
import { GraphPane } from "../graph/GraphPane";
import { Help } from "../graph/Help";
import { useKeys } from "../graph/keys";
import { NodeTable } from "../graph/NodeTable";
import { FourPanes, Pane } from "../graph/Panes";
import { drawnState, makeStore, type Store } from "../graph/store";
import { Toolbar } from "../graph/Toolbar";
import type { CircuitView as View, Shown } from "../types";
import { CIRCUIT, factsOf } from "./circuit";
import { CircuitDetail } from "./CircuitDetail";
import { CircuitHead, CircuitRest } from "./Head";

export const circuitState = (result: Shown): State => drawnState(result.view as View);

export function CircuitView(props: ViewProps) {
  const store = useMemo(() => makeStore(props, CIRCUIT), [props.data, props.number]);
  store.props = props;
  const root = useKeys(store);
  const { depth } = props;
  const easy = depth === "plain";
  const detail = <CircuitDetail store={store} />;
  return (
    <div ref={root} class={`graph-view depth-${depth}`}>
      <CircuitHead store={store} />
      {!easy && <Toolbar store={store} root={root} caption={plain(props.data.page.title)} />}
      <p class="shown" role="status" data-testid="shown">
        {shownLine(store)}
      </p>
      {store.get<boolean>("table") ? (
        <NodeTable store={store} detail={detail} />
      ) : easy || store.graph.value.edgeless ? (
        <div class="panes plain">
          <Pane store={store} name="graph" title="Graph"><GraphPane store={store} dark={props.dark} /></Pane>
          <Pane store={store} name="detail" title="Detail">{detail}</Pane>
        </div>
      ) : (
        <FourPanes store={store} detail={detail} />
      )}
      {!easy && <CircuitRest store={store} />}
      <Help />
    </div>
  );
}

/** Always on screen: what is shown, and what its colours say. */
function shownLine(store: Store): string {
  const g = store.graph.value;
  const colours = (passed: string) => `blue supports the answer: cutting it costs; red works against it; ${passed} passed its own test, a dashed one failed it`;
  if (g.edgeless) return `showing ${shownNodes(store)} · ${colours("a green ring")}`;
  const shared = g.view.links.shown > (factsOf(g).size ?? Infinity) ? ", keys and values that heads share at each of them" : "";
  return `showing ${shownNodes(store)}, ${shownLinks(store, "edges", "file")}${shared} · ${colours("width is strength; a green edge")}`;
}
