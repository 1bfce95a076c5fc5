// What a hand does on the picture: hovering, selecting, dragging and zooming, by pointer, wheel and keys.

import { useComputed, useSignal, useSignalEffect, type ReadonlySignal, type Signal } from "@preact/signals";
import type { HTMLAttributes, RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { inputs, outputs, type Graph } from "./graph";
import { nearest, neighbour, type Layout } from "./layout";
import type { Store } from "./store";
import { clamp, FITTED, kept, middle, zoomed, zoomOf, type Size, type Zoom } from "./zoom";

const REACH = 30; // pixels: nobody has to hit a node exactly
const STILL = 4; // pixels that a press may wander and be no drag
export const STEP = 1.4; // of the zoom, by a key or a button

export interface Pointer {
  zoom: Signal<Zoom>;
  zoomBy(factor: number): void;
  fit(): void;
  /** What the box around the picture listens to. */
  on: HTMLAttributes<HTMLDivElement>;
}

export function usePointer(store: Store, box: RefObject<HTMLDivElement | null>, layout: ReadonlySignal<Layout | null>, size: Signal<Size>): Pointer {
  const zoom = useSignal<Zoom>(zoomOf(store.props.state.peek().zoom));
  const drag = useRef<{ x: number; y: number; from: Zoom; moved: boolean } | null>(null);
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
    store.set({ zoom: kept(z) }, "replace");
  };
  /** Around a point of the screen; without one, around the selected node or the middle of those shown. */
  const zoomBy = (factor: number, at = middle(layout.value, zoom.value, store.selected.value, size.value)) => keep(zoomed(zoom.value, factor, at, size.value));

  useEffect(() => {
    const el = box.current!;
    const wheel = (event: WheelEvent) => {
      // the page scrolls as usual; with Ctrl (so a touchpad tells of a pinch), or once zoomed in, the wheel is the picture's
      if (!event.ctrlKey && !event.metaKey && zoom.value.k === 1) return;
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), to(event));
    };
    el.addEventListener("wheel", wheel, { passive: false });
    return () => el.removeEventListener("wheel", wheel);
  }, []);
  // a step back in the history is a step back here
  const restored = useComputed(() => JSON.stringify(store.get("zoom")));
  useSignalEffect(() => {
    const text = restored.value;
    if (text !== JSON.stringify(kept(zoom.peek())) && !drag.current) zoom.value = zoomOf(store.props.state.peek().zoom);
  });

  const use = (i: number) => (i >= 0 && store.adding.value ? store.addToGroup(i) : store.select(i));
  const onKeyDown = (event: KeyboardEvent) => {
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
      if (store.hovered.value >= 0) use(store.hovered.value);
    } else if (event.key === "[" || event.key === "]") {
      if (from < 0) return;
      const rows = event.key === "[" ? inputs(g, from) : outputs(g, from);
      const best = rows.find((r) => store.visible.value[r.node]);
      if (best) store.hovered.value = best.node;
    } else if (event.key === "+" || event.key === "=") zoomBy(STEP, middle(l, zoom.value, from, size.value));
    else if (event.key === "-") zoomBy(1 / STEP);
    else if (event.key === "0") keep(FITTED);
    else return;
    event.preventDefault();
  };
  return {
    zoom,
    zoomBy: (factor) => zoomBy(factor),
    fit: () => keep(FITTED),
    on: {
      onKeyDown,
      onPointerMove(event) {
        const d = drag.current;
        if (d && event.buttons & 1) {
          const [x, y] = to(event);
          if (Math.hypot(x - d.x, y - d.y) > STILL) d.moved = true;
          if (d.moved && d.from.k > 1) zoom.value = clamp({ ...d.from, x: d.from.x + x - d.x, y: d.from.y + y - d.y }, size.value);
          return;
        }
        // scrolling under a resting pointer is no pointing: keys stay in charge
        if (!event.shiftKey && (event.movementX || event.movementY)) store.hovered.value = pick(event);
      },
      onPointerDown(event) {
        if (event.button !== 0) return;
        box.current!.setPointerCapture?.(event.pointerId); // a drag may end outside
        const [x, y] = to(event);
        drag.current = { x, y, from: zoom.value, moved: false };
      },
      onPointerUp(event) {
        const d = drag.current;
        drag.current = null;
        if (!d) return;
        if (d.moved) return keep(zoom.value);
        const i = pick(event);
        if (i >= 0 && (event.ctrlKey || event.metaKey)) store.togglePin(i);
        else use(i);
      },
      onPointerLeave() {
        drag.current = null;
        store.hovered.value = -1;
      },
    },
  };
}

/** The answer, where the picture shows it. */
function firstNode(g: Graph, shown: Uint32Array): number {
  let best = shown[0];
  for (const i of shown) if (g.kind[i] === "logit" && g.view.nodes.is_target[i]) best = i;
  return best;
}
