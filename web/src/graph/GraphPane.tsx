// The link graph on two stacked canvases: the picture, and what follows the pointer.

import { VERDICTS, WORDS } from "../core/Verdict";
import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { chance, count, num, percent } from "../core/format";
import { drawHover, drawScene, FITTED, type Scene, type Zoom } from "./draw";
import { difference, inputs, linkShare, outputs, PARTS, signOf, type Graph } from "./graph";
import { makeLayout, nearest, neighbour, type Layout } from "./layout";
import { atOf, placeOf, wordsOf, type Store } from "./store";

const REACH = 30; // pixels: nobody has to hit a node exactly

/** The scene that is on screen, for export. */
export const scenes = new WeakMap<Store, { scene: Scene; width: number; height: number }>();

export function GraphPane({ store, dark }: { store: Store; dark: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const size = useSignal({ width: 0, height: 0 });
  const isDark = useSignal(dark);
  isDark.value = dark;
  const zoom = useSignal<Zoom>(storedZoom(store));
  const layout = useComputed(() => {
    const { width, height } = size.value;
    return width && height ? makeLayout(store.graph.value, store.visible.value, width, height) : null;
  });
  const tint = useComputed(() => tintOf(store));
  const members = useComputed(() => {
    const g = store.graph.value;
    const set = new Set(store.chosen.value.map((id) => g.place.get(id)!));
    if (store.selection.value?.kind === "group") for (const i of store.selection.value.nodes) set.add(i);
    return set;
  });
  const scene = useComputed((): Scene | null =>
    layout.value && {
      graph: store.graph.value,
      layout: layout.value,
      zoom: zoom.value,
      dark: isDark.value,
      edges: store.edges.value.drawn,
      visible: store.visible.value,
      selected: store.selected.value,
      members: members.value,
      pinned: store.pinned.value,
      matches: store.matches.value,
      tint: tint.value,
    },
  );
  useEffect(() => {
    const el = box.current!;
    const observer = new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = el;
      if (width !== size.value.width || height !== size.value.height) size.value = { width, height };
    });
    observer.observe(el);
    return () => {
      observer.disconnect();
      scenes.delete(store); // what is not on screen is not exported
    };
  }, []);
  // one redraw a frame, however many changes
  const frame = useRef(0);
  const fit = (canvas: HTMLCanvasElement) => {
    const { width, height } = size.peek();
    const ratio = Math.min(2, devicePixelRatio || 1);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen?.setTransform(ratio, 0, 0, ratio, 0, 0);
    return pen;
  };
  useSignalEffect(() => {
    const s = scene.value;
    if (!s) return;
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => {
      const { width, height } = size.peek();
      scenes.set(store, { scene: s, width, height });
      const pen = base.current && fit(base.current);
      if (pen) drawScene(pen, s, width, height);
      hover();
      if (box.current) box.current.dataset.drawn = String(s.edges.length);
    });
  });
  const hover = () => {
    const s = scene.peek();
    const i = store.hovered.peek();
    const pen = over.current && fit(over.current);
    if (!pen || !s) return;
    const { width, height } = size.peek();
    pen.clearRect(0, 0, width, height);
    if (i >= 0 && s.visible[i]) drawHover(pen, s, i);
  };
  const hoverFrame = useRef(0);
  useSignalEffect(() => {
    void store.hovered.value;
    cancelAnimationFrame(hoverFrame.current);
    hoverFrame.current = requestAnimationFrame(hover);
  });

  const to = (event: { clientX: number; clientY: number }): [number, number] => {
    const rect = box.current!.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  };
  const pick = (event: MouseEvent): number => {
    const l = layout.value;
    if (!l) return -1;
    const [x, y] = to(event);
    const z = zoom.value;
    return nearest(l, (x - z.x) / z.k, (y - z.y) / z.k, REACH / z.k);
  };
  const keep = (z: Zoom) => {
    zoom.value = z;
    store.set({ zoom: z.k === 1 && !z.x && !z.y ? null : [z.k, Math.round(z.x), Math.round(z.y)] }, "replace");
  };
  /** Around a point of the screen; without one, around the selected node or the middle of those shown. */
  const zoomBy = (factor: number, atX?: number, atY?: number) => {
    const z = zoom.value;
    const [x, y] = atX === undefined || atY === undefined ? middle(layout.value, z, store.selected.value, size.value) : [atX, atY];
    const k = Math.min(40, Math.max(1, z.k * factor));
    if (k === 1) return keep(FITTED);
    keep(clamp({ k, x: x - ((x - z.x) * k) / z.k, y: y - ((y - z.y) * k) / z.k }, size.value));
  };
  const drag = useRef<{ x: number; y: number; from: Zoom; moved: boolean } | null>(null);
  useEffect(() => {
    const el = box.current!;
    const wheel = (event: WheelEvent) => {
      // the page scrolls as usual; with Ctrl, or once zoomed in, the wheel is the picture's
      if (!event.ctrlKey && !event.metaKey && zoom.value.k === 1) return;
      event.preventDefault();
      const [x, y] = to(event);
      zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), x, y);
    };
    el.addEventListener("wheel", wheel, { passive: false });
    return () => el.removeEventListener("wheel", wheel);
  }, []);
  const restored = useComputed(() => JSON.stringify(store.get("zoom")));
  useSignalEffect(() => {
    const text = restored.value;
    const now = zoom.peek();
    const kept = now.k === 1 && !now.x && !now.y ? "null" : JSON.stringify([now.k, Math.round(now.x), Math.round(now.y)]);
    if (text !== kept && !drag.current) zoom.value = storedZoom(store);
  });

  const key = (event: KeyboardEvent) => {
    const l = layout.value;
    const g = store.graph.value;
    if (!l || event.altKey || event.ctrlKey || event.metaKey) return;
    const shown = (i: number) => i >= 0 && !Number.isNaN(l.x[i]);
    const from = [store.hovered.value, store.selected.value].find(shown) ?? -1;
    const arrows: Record<string, "left" | "right" | "up" | "down"> = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };
    if (arrows[event.key] && l.shown.length) {
      const next = from >= 0 ? neighbour(g, l, from, arrows[event.key]) : firstNode(g, l.shown);
      if (next >= 0) store.hovered.value = next;
    } else if (event.key === "Enter" || event.key === " ") {
      if (store.hovered.value >= 0) store.adding.value ? store.addToGroup(store.hovered.value) : store.select(store.hovered.value);
    } else if (event.key === "[" || event.key === "]") {
      if (from < 0) return;
      const rows = event.key === "[" ? inputs(g, from) : outputs(g, from);
      const best = rows.find((r) => store.visible.value[r.node]);
      if (best) store.hovered.value = best.node;
    } else if (event.key === "+" || event.key === "=") zoomBy(1.4, ...middle(l, zoom.value, from, size.value));
    else if (event.key === "-") zoomBy(1 / 1.4);
    else if (event.key === "0") keep(FITTED);
    else return;
    event.preventDefault();
  };
  const hovered = store.hovered.value;
  const told = useMemo(() => (hovered >= 0 ? describe(store, hovered) : ""), [hovered, store, store.selected.value]);
  return (
    <div class="link-graph">
      <div
        ref={box}
        class="canvas"
        style={{ touchAction: zoom.value.k > 1 ? "none" : "pan-y" }}
        tabIndex={0}
        role="application"
        aria-label="Graph. Arrow keys move between nodes, Enter selects, square brackets follow the strongest input or output, plus and minus zoom, 0 fits, question mark lists all keys."
        onKeyDown={key}
        onPointerMove={(event) => {
          const d = drag.current;
          if (d && (event.buttons & 1)) {
            const [x, y] = to(event);
            if (Math.hypot(x - d.x, y - d.y) > 4) d.moved = true;
            if (d.moved && d.from.k > 1) zoom.value = clamp({ ...d.from, x: d.from.x + x - d.x, y: d.from.y + y - d.y }, size.value);
            return;
          }
          // scrolling under a resting pointer is no pointing: keys stay in charge
          if (!event.shiftKey && (event.movementX || event.movementY)) store.hovered.value = pick(event);
        }}
        onPointerDown={(event) => {
          if (event.button !== 0) return;
          box.current!.setPointerCapture?.(event.pointerId); // a drag may end outside
          const [x, y] = to(event);
          drag.current = { x, y, from: zoom.value, moved: false };
        }}
        onPointerUp={(event) => {
          const d = drag.current;
          drag.current = null;
          if (!d) return;
          if (d.moved) return keep(zoom.value);
          const i = pick(event);
          if (i >= 0 && (event.ctrlKey || event.metaKey)) store.togglePin(i);
          else if (i >= 0 && store.adding.value) store.addToGroup(i);
          else store.select(i);
        }}
        onPointerLeave={() => {
          drag.current = null;
          store.hovered.value = -1;
        }}
      >
        <canvas ref={base} aria-hidden="true" />
        <canvas ref={over} aria-hidden="true" />
      </div>
      <div class="zoom" role="group" aria-label="Zoom">
        <button onClick={() => zoomBy(1.4)} aria-label="Zoom in" title="Zoom in">+</button>
        <button onClick={() => zoomBy(1 / 1.4)} aria-label="Zoom out" title="Zoom out">−</button>
        <button onClick={() => keep(FITTED)} title="Fit: key 0">Fit</button>
      </div>
      <div class="hint" aria-live="polite">{told}</div>
    </div>
  );
}

function storedZoom(store: Store): Zoom {
  const z = store.props.state.peek().zoom as number[] | null;
  return Array.isArray(z) && z.length === 3 && z.every(Number.isFinite) && z[0] >= 1 ? { k: Math.min(40, z[0]), x: z[1], y: z[2] } : FITTED;
}

const clamp = (z: Zoom, { width, height }: { width: number; height: number }): Zoom => ({
  k: z.k,
  x: Math.min(0, Math.max(width * (1 - z.k), z.x)),
  y: Math.min(0, Math.max(height * (1 - z.k), z.y)),
});

/** Where a node is on screen; without one that is shown, the middle of what is in view. */
function middle(l: Layout | null, z: Zoom, i: number, { width, height }: { width: number; height: number }): [number, number] {
  const on = (k: number): [number, number] => [l!.x[k] * z.k + z.x, l!.y[k] * z.k + z.y];
  if (l && i >= 0 && !Number.isNaN(l.x[i])) return on(i);
  const seen = l ? [...l.shown].map(on).filter(([x, y]) => x >= 0 && y >= 0 && x <= width && y <= height) : [];
  if (!seen.length) return [width / 2, height / 2];
  return [seen.reduce((sum, p) => sum + p[0], 0) / seen.length, seen.reduce((sum, p) => sum + p[1], 0) / seen.length];
}

function firstNode(g: Graph, shown: Uint32Array): number {
  let best = shown[0];
  for (const i of shown) if (g.kind[i] === "logit" && g.view.nodes.is_target[i]) best = i;
  return best;
}

/** How strongly each node acts on the selected one, or on the contrast. */
function tintOf(store: Store): Map<number, { size: number; sign: number }> | null {
  const g = store.graph.value;
  const contrast = store.contrast.value;
  const tint = new Map<number, { size: number; sign: number }>();
  if (contrast) {
    for (const row of difference(g, ...contrast).rows) tint.set(row.node, { size: Math.abs(row.share), sign: 0 });
    return tint;
  }
  const s = store.selected.value;
  if (s < 0) return null;
  const mode = store.get<string>("links");
  const add = (i: number, e: number) => {
    const sign = signOf(g, e);
    const before = tint.get(i) ?? { size: 0, sign }; // a head has several inputs
    tint.set(i, { size: before.size + Math.abs(linkShare(g, e)), sign: before.sign === sign ? sign : 0 });
  };
  if (mode !== "inputs") for (let k = g.outOffsets[s]; k < g.outOffsets[s + 1]; k++) add(g.target[g.outLink[k]], g.outLink[k]);
  if (mode !== "outputs") for (let e = g.offsets[s]; e < g.offsets[s + 1]; e++) add(g.source[e], e);
  return tint;
}

export function describe(store: Store, i: number): string {
  const g = store.graph.value;
  const { value, probability, verdict } = g.view.nodes;
  const parts = [wordsOf(store, i), (placeOf(g, i) + atOf(g, i)).trim()];
  if (g.view.circuit) parts.push(g.edgeless ? effectOf(g, i) : edgesOf(g, i));
  else if (g.kind[i] === "logit") parts.push(chance(probability[i]));
  else parts.push(`${percent(g.part[i])} of the influence`);
  if (value[i] !== null && g.kind[i] === "feature") parts.push(`value ${num(value[i], true)}`);
  if (verdict[i] !== "untested") parts.push(WORDS[verdict[i]] ?? verdict[i]);
  const selected = store.selected.value;
  if (selected >= 0 && selected !== i) {
    const said = (e: number) => (g.verdict[e] ? `, ${WORDS[VERDICTS[g.verdict[e]]]}` : ", not tested");
    const share = (e: number) => (g.view.circuit ? said(e) : ` (${percent(Math.abs(linkShare(g, e)))}${said(e)})`);
    const weight = (e: number) => (signOf(g, e) ? num(g.weight[e], true) : num(Math.abs(g.weight[e])));
    const part = (e: number, of: string) => (g.enters?.[e] ? `the ${PARTS[g.enters[e]]} of ${of}` : of);
    for (let e = g.offsets[selected]; e < g.offsets[selected + 1]; e++)
      if (g.source[e] === i) parts.push(`${weight(e)} into ${part(e, "the selected node")}${share(e)}`);
    for (let e = g.offsets[i]; e < g.offsets[i + 1]; e++)
      if (g.source[e] === selected) parts.push(`${weight(e)} from the selected node${g.enters?.[e] ? ` into the ${PARTS[g.enters[e]]}` : ""}${share(e)}`);
  }
  return parts.join(" · ");
}

/** What keeping a node of a circuit of nodes does for the answer. */
export function effectOf(g: Graph, i: number): string {
  const effect = g.view.nodes.delta[i];
  return effect === null || g.view.nodes.verdict[i] === "matters" ? num(effect, true) : `${num(Math.abs(effect))} either way`;
}

/** How many edges of a circuit enter a node, by part, and leave it. */
export function edgesOf(g: Graph, i: number): string {
  const [start, end] = [g.offsets[i], g.offsets[i + 1]];
  const into = [...g.enters!.subarray(start, end)];
  const by = PARTS.map((name, p) => [name, into.filter((x) => x === p).length] as const).filter(([name, n]) => name && n);
  const out = g.outOffsets[i + 1] - g.outOffsets[i];
  if (!into.length && !out) return "not in the circuit";
  return `${count(into.length)} in${by.length ? ` (${by.map(([name, n]) => `${name} ${n}`).join(", ")})` : ""}, ${count(out)} out`;
}

/** Always on screen: what is shown, what is not, and what nothing here explains. */
export function shownLine(store: Store, lost: number | null): string {
  const g = store.graph.value;
  const { drawn, possible } = store.edges.value;
  let on = 0;
  for (let i = 0; i < g.n; i++) on += store.visible.value[i];
  const l = g.view.links;
  const cap = possible > drawn.length ? ` (the strongest of ${count(possible)} between them)` : "";
  const file = l.of > l.shown ? `; ${count(l.shown)} links are in this page, ${count(l.of)} in the ${g.view.live ? "model's graph" : "file"}` : "";
  const shared = l.shown > (g.view.circuit?.size ?? Infinity) ? ", keys and values that heads share at each of them" : "";
  if (g.view.circuit) return `showing ${count(on)} of ${count(g.n)} nodes${g.edgeless ? "" : `, ${count(drawn.length)} edges${cap}${file}${shared}`} · blue supports the answer: cutting it costs; red works against it; ${g.edgeless ? "a green ring" : "width is strength; a green edge"} passed its own test, a dashed one failed it`;
  const unexplained = lost === null ? "how much is unexplained is not said in this file" : `${percent(lost)} unexplained`;
  return `showing ${count(on)} of ${count(g.n)} nodes, ${count(drawn.length)} links${cap}${file} · ${unexplained}`;
}
