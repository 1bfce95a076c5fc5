// What is shown: pruning, search, which links, what to hide, contrast; undo, table, pictures, keys.

import type { RefObject } from "preact";
import { download, fileName } from "../core/files";
import { palette } from "../core/colour";
import { count, percent, plain, short, token } from "../core/format";
import { png, svg, type Pen } from "../core/pen";
import { drawScene } from "./draw";
import { scenes } from "./GraphPane";
import { MAX_EDGES, MODES, type Store } from "./store";

const HEAD = 26; // pixels of the line under an exported picture

export function Toolbar({ store, root }: { store: Store; root: RefObject<HTMLDivElement | null> }) {
  const g = store.graph.value;
  const { circuit } = g.view;
  const prune = store.get<number>("prune");
  const hide = store.get<string[]>("hide") ?? [];
  const found = store.matches.value;
  const chanceOf = (i: number) => g.view.nodes.probability[i] ?? 0;
  const logits = g.kind.map((kind, i) => (kind === "logit" ? i : -1)).filter((i) => i >= 0).sort((x, y) => chanceOf(y) - chanceOf(x));
  const [a = "", b = ""] = store.get<string>("minus").split("|");
  const toggle = (kind: string) => store.set({ hide: hide.includes(kind) ? hide.filter((k) => k !== kind) : [...hide, kind] }, "replace");
  const picture = (kind: "svg" | "png") => {
    const now = scenes.get(store);
    if (!now) return store.props.announce("Show the graph first: the table is on screen.");
    const { scene, width, height } = now;
    const title = store.props.data.page.title;
    // a picture that travels says what it is of, and what it leaves out
    const head = `${circuit ? plain(title) : `${short(plain(g.view.prompt), 90)} → ${token(g.view.target?.token ?? "")}`}   ${root.current?.querySelector(".shown")?.textContent ?? ""}`;
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
        {circuit ? "Strength" : "Influence"} shown{" "}
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
      {g.hasDelta && (
        <label title="The direct effect of a node's value, or of how much that value differs from the counterfactual">
          Weights{" "}
          <select value={store.get<string>("weights")} onChange={(event) => store.set({ weights: event.currentTarget.value }, "replace")}>
            <option value="value">value</option>
            <option value="change">change</option>
          </select>
        </label>
      )}
      {!circuit && (
        <label class="check">
          <input type="checkbox" checked={!hide.includes("remainder")} onChange={() => toggle("remainder")} /> what is not drawn
        </label>
      )}
      {logits.length > 1 && (
        <label title="Colour nodes by what they do for one output rather than another">
          Contrast{" "}
          <select value={a} aria-label="Contrast: this output" onChange={(event) => store.set({ minus: event.currentTarget.value ? `${event.currentTarget.value}|${b || g.id[logits.find((i) => g.id[i] !== event.currentTarget.value)!]}` : "" })}>
            <option value="">none</option>
            {logits.map((i) => <option key={i} value={g.id[i]}>{token(g.view.nodes.label[i])}</option>)}
          </select>
          {a && (
            <>
              {" − "}
              <select value={b} aria-label="Contrast: rather than this output" onChange={(event) => store.set({ minus: `${a}|${event.currentTarget.value}` })}>
                {logits.filter((i) => g.id[i] !== a).map((i) => <option key={i} value={g.id[i]}>{token(g.view.nodes.label[i])}</option>)}
              </select>
            </>
          )}
        </label>
      )}
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
