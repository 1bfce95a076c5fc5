// The picture on two stacked canvases: what is drawn, and what follows the pointer.

import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { describe } from "./describe";
import { drawHover, drawScene, type Scene } from "./draw";
import { makeLayout } from "./layout";
import { STEP, usePointer } from "./pointer";
import type { Store } from "./store";
import { tintOf } from "./tint";

/** The scene that is on screen, for export. */
export const scenes = new WeakMap<Store, { scene: Scene; width: number; height: number }>();

export function GraphPane({ store, dark }: { store: Store; dark: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const size = useSignal({ width: 0, height: 0 });
  const isDark = useSignal(dark);
  isDark.value = dark;
  const layout = useComputed(() => {
    const { width, height } = size.value;
    return width && height ? makeLayout(store.graph.value, store.visible.value, width, height) : null;
  });
  const { zoom, zoomBy, fit, on } = usePointer(store, box, layout, size);
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
  useSignalEffect(() => {
    const s = scene.value;
    if (!s) return;
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => {
      const { width, height } = size.peek();
      scenes.set(store, { scene: s, width, height });
      const pen = base.current && penOf(base.current, width, height);
      if (pen) drawScene(pen, s, width, height);
      hover();
      if (box.current) box.current.dataset.drawn = String(s.edges.length);
    });
  });
  const hover = () => {
    const s = scene.peek();
    const i = store.hovered.peek();
    const { width, height } = size.peek();
    const pen = over.current && penOf(over.current, width, height);
    if (!pen || !s) return;
    pen.clearRect(0, 0, width, height);
    if (i >= 0 && s.visible[i]) drawHover(pen, s, i);
  };
  const hoverFrame = useRef(0);
  useSignalEffect(() => {
    void store.hovered.value;
    cancelAnimationFrame(hoverFrame.current);
    hoverFrame.current = requestAnimationFrame(hover);
  });
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
        {...on}
      >
        <canvas ref={base} aria-hidden="true" />
        <canvas ref={over} aria-hidden="true" />
      </div>
      <div class="zoom" role="group" aria-label="Zoom">
        <button onClick={() => zoomBy(STEP)} aria-label="Zoom in" title="Zoom in">+</button>
        <button onClick={() => zoomBy(1 / STEP)} aria-label="Zoom out" title="Zoom out">−</button>
        <button onClick={fit} title="Fit: key 0">Fit</button>
      </div>
      <div class="hint" aria-live="polite">{told}</div>
    </div>
  );
}

/** A pen on a canvas of this size, as sharp as the screen. */
function penOf(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D | null {
  const ratio = Math.min(2, devicePixelRatio || 1);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen?.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}
