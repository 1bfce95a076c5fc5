// What is shown: pruning, search, which links, and what a view adds; undo, table, pictures, keys.

import type { ComponentChildren, RefObject } from "preact";
import { download, fileName } from "../core/files";
import { palette } from "../core/colour";
import { count, percent, plain, short } from "../core/format";
import { png, svg, type Pen } from "../core/pen";
import { drawScene } from "./draw";
import { scenes } from "./GraphPane";
import { MAX_EDGES, MODES, type Store } from "./store";

const HEAD = 26; // pixels of the line under an exported picture

interface Props {
  store: Store;
  root: RefObject<HTMLDivElement | null>;
  /** What an exported picture is of. */
  caption: string;
  children?: ComponentChildren;
}

export function Toolbar({ store, root, caption, children }: Props) {
  const g = store.graph.value;
  const { amount } = g.reading;
  const prune = store.get<number>("prune");
  const found = store.matches.value;
  const picture = (kind: "svg" | "png") => {
    const now = scenes.get(store);
    if (!now) return store.props.announce("Show the graph first: the table is on screen.");
    const { scene, width, height } = now;
    const title = store.props.data.page.title;
    // a picture that travels says what it is of, and what it leaves out
    const head = `${caption}   ${root.current?.querySelector(".shown")?.textContent ?? ""}`;
    const tall = height + HEAD;
    const draw = (pen: Pen) => {
      const p = palette(scene.dark);
      drawScene(pen, scene, width, height);
      pen.fillStyle = p.panel;
      pen.fillRect(0, height, width, HEAD);
      pen.fillStyle = p.text;
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      pen.font = "12px system-ui, sans-serif";
      pen.fillText(short(head, Math.floor(width / 6.2)), 8, height + HEAD / 2);
    };
    if (kind === "svg") return download(svg(width, tall, `${plain(title)}. ${plain(g.view.sentence)}`, draw), fileName(title, "svg"));
    png(width, tall, draw).then((blob) => download(blob, fileName(title, "png")), (error: Error) => store.props.announce(error.message));
  };
  return (
    <div class="toolbar" role="toolbar" aria-label="What is shown">
      <label title="Nodes are dropped, least influential first, until the rest hold this share of the influence">
        {amount[0].toUpperCase() + amount.slice(1)} shown{" "}
        <input
          type="range" min="0.05" max="1" step="0.01" value={prune} aria-valuetext={percent(prune)}
          onInput={(event) => store.set({ prune: Number(event.currentTarget.value) }, "replace")}
        />
        <output>{percent(prune)}</output>
      </label>
      {!g.edgeless && <label title="The strongest links are drawn, at most 5 000 at once; those of the selected node always">
        Links drawn{" "}
        <input
          type="range" min="1" max="3.7" step="0.05" value={Math.log10(Math.max(10, store.get<number>("edges")))} aria-valuetext={`up to ${store.get("edges")}`}
          onInput={(event) => store.set({ edges: Math.min(MAX_EDGES, Math.round(10 ** Number(event.currentTarget.value))) }, "replace")}
        />
        <output>{count(store.get<number>("edges"))}</output>
      </label>}
      <label>
        Find{" "}
        <input type="search" value={store.get<string>("find")} placeholder="token, label or id" onInput={(event) => store.set({ find: event.currentTarget.value }, "replace")} onKeyDown={(event) => event.key === "Enter" && nextMatch(store)} />
        <output>{found ? `${count(found.size)} found` : ""}</output>
      </label>
      {found && found.size > 0 && (
        <>
          <button onClick={() => nextMatch(store)} title="Select the next of them">Next</button>
          <button onClick={() => groupMatches(store)} title="Make one group of all that were found">Group them</button>
        </>
      )}
      <label>
        Show{" "}
        <select value={store.get<string>("links")} onChange={(event) => store.set({ links: event.currentTarget.value }, "replace")}>
          {MODES.map((mode) => <option key={mode} value={mode}>{mode === "either" ? "in and out" : mode}</option>)}
        </select>
      </label>
      {children}
      <span class="push" />
      <button disabled={store.past.value === 0} onClick={() => store.undo()}>Undo</button>
      <button aria-pressed={store.get<boolean>("table")} onClick={() => store.set({ table: !store.get("table") }, "replace")}>Table</button>
      <button onClick={() => picture("png")}>PNG</button>
      <button onClick={() => picture("svg")}>SVG</button>
      <button onClick={() => root.current?.querySelector<HTMLDialogElement>("dialog.keys")?.showModal()}>Keys</button>
    </div>
  );
}

function groupMatches(store: Store): void {
  const g = store.graph.value;
  store.chosen.value = [...(store.matches.value ?? [])].filter((i) => /feature|head|mlp/.test(g.kind[i])).map((i) => g.id[i]);
  if (!store.chosen.value.length) return store.props.announce("None of them is a feature.");
  store.makeGroup();
}

function nextMatch(store: Store): void {
  const found = [...(store.matches.value ?? [])].sort((x, y) => store.graph.value.share[y] - store.graph.value.share[x]);
  if (found.length) store.select(found[(found.indexOf(store.selected.value) + 1) % found.length]);
}
