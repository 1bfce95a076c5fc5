// Pinned nodes and groups as a small graph: boxes at their place (token across, layer upwards), links summed over members.

import { WORDS } from "../core/Verdict";
import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Json } from "../core/contract";
import { percent, plain, short } from "../core/format";
import { groupLink, type Graph } from "./graph";
import { sameNodes, wordsOf, type PersonGroup, type Store } from "./store";

interface Box {
  key: string; // what selecting it selects
  name: string;
  sub: string;
  nodes: number[];
  verdict: string;
  end: boolean; // a token or an output
  x: number; // 0 … 1
  y: number;
}
interface Line {
  from: number;
  to: number;
  share: number;
}
const WIDTH = 140;
const HEIGHT = 56;

/** The boxes of a graph: pinned nodes and groups; tokens and the target join them so that links lead somewhere. */
export function boxesOf(store: Store, groups: PersonGroup[], pinned: Iterable<number>, ends: boolean): Box[] {
  const g = store.graph.value;
  const spots = spotsOf(store);
  const boxes: Box[] = [];
  const add = (key: string, name: string, sub: string, nodes: number[], verdict = "untested", end = false) => {
    const mean = (f: (i: number) => number) => nodes.reduce((sum, i) => sum + f(i), 0) / nodes.length;
    const spot = spots[key];
    const x = spot?.[0] ?? (mean((i) => g.position[i]) + 0.5) / g.nColumns;
    const y = spot?.[1] ?? 1 - mean((i) => g.layer[i]) / Math.max(1, g.nRows - 1);
    boxes.push({ key, name, sub, nodes, verdict, end, x, y });
  };
  for (const group of groups) {
    const nodes = group.nodes.map((id) => g.place.get(id)).filter((i): i is number => i !== undefined);
    const said = g.groups.find((s) => sameNodes(s.nodes, group.nodes));
    if (nodes.length) add(`group:${group.name}`, group.name, `${nodes.length} nodes`, nodes, said?.verdict);
  }
  for (const i of pinned) {
    add(g.id[i], wordsOf(store, i), g.reading.place(g, i), [i], g.view.nodes.verdict[i], g.kind[i] === "token" || g.kind[i] === "logit");
  }
  if (ends && boxes.length) {
    const there = new Set(boxes.flatMap((b) => b.nodes));
    const used = new Set<number>();
    for (const b of boxes) for (const t of b.nodes) for (let e = g.offsets[t]; e < g.offsets[t + 1]; e++) if (g.kind[g.source[e]] === "token") used.add(g.source[e]);
    const strongest = [...used].sort((a, b) => g.share[b] - g.share[a]).slice(0, 6);
    for (const i of strongest) if (!there.has(i)) add(g.id[i], wordsOf(store, i), "token", [i], "untested", true);
    const target = g.kind.findIndex((kind, i) => kind === "logit" && g.view.nodes.is_target[i]);
    const logit = target >= 0 ? target : g.kind.indexOf("logit");
    if (logit >= 0 && !there.has(logit)) add(g.id[logit], wordsOf(store, logit), "output", [logit], "untested", true);
  }
  return boxes;
}

/** Where boxes were dragged; entries that are no places are left alone. */
function spotsOf(store: Store): Record<string, [number, number]> {
  const good = (p: unknown) => Array.isArray(p) && p.length === 2 && p.every((x) => typeof x === "number" && x >= 0 && x <= 1);
  return Object.fromEntries(Object.entries(store.get<Record<string, [number, number]>>("spots")).filter(([, p]) => good(p)));
}


function linesOf(g: Graph, boxes: Box[]): Line[] {
  const sets = boxes.map((b) => new Set(b.nodes));
  const lines: Line[] = [];
  boxes.forEach((to, t) =>
    boxes.forEach((_, f) => {
      if (f === t) return;
      const share = groupLink(g, sets[f], to.nodes);
      if (Math.abs(share) >= 0.001) lines.push({ from: f, to: t, share });
    }),
  );
  return lines.sort((a, b) => Math.abs(a.share) - Math.abs(b.share)).slice(-120);
}

export interface Spot {
  x: number; // centre
  y: number;
  w: number;
  h: number;
}
const GAP = 8;

/**
 * Places that can be read: tokens in a row at the foot in their order, outputs in a row on top, the rest where they
 * belong or as near to it as there is room. Boxes that a person dragged (`free`) stay where they are.
 */
export function spread(boxes: Pick<Box, "key" | "x" | "y" | "end">[], width: number, height: number, free: Set<string>): Spot[] {
  const out: Spot[] = [];
  const w = Math.min(WIDTH, Math.max(70, width * 0.42));
  const y = (b: { y: number }, h: number) => Math.min(height - h / 2 - 4, Math.max(h / 2 + 4, b.y * (height - h - 8) + h / 2 + 4));
  const fits = (v: number, size: number, whole: number) => Math.min(whole - size / 2 - 4, Math.max(size / 2 + 4, v));
  boxes.forEach((b, k) => {
    if (free.has(b.key)) out[k] = { x: fits(b.x * width, w, width), y: y(b, HEIGHT), w, h: HEIGHT };
  });
  for (const foot of [true, false]) {
    const row = boxes.map((_, k) => k).filter((k) => boxes[k].end && boxes[k].y > 0.5 === foot && !out[k]);
    row.sort((a, b) => boxes[a].x - boxes[b].x);
    const each = Math.min(w, (width - GAP) / Math.max(1, row.length) - GAP);
    let from = GAP;
    for (const [n, k] of row.entries()) {
      // as near to its place as those before it allow and those after it need
      const most = width - (row.length - n) * (each + GAP);
      const left = Math.min(most, Math.max(from, boxes[k].x * width - each / 2));
      out[k] = { x: left + each / 2, y: foot ? height - 22 : 22, w: each, h: 36 };
      from = left + each + GAP;
    }
  }
  const rest = boxes.map((_, k) => k).filter((k) => !out[k]).sort((a, b) => boxes[b].y - boxes[a].y);
  const overlaps = (s: Spot) => out.some((o) => o && Math.abs(o.x - s.x) < (o.w + s.w) / 2 + GAP && Math.abs(o.y - s.y) < (o.h + s.h) / 2 + GAP);
  for (const k of rest) {
    const wish = { x: fits(boxes[k].x * width, w, width), y: y(boxes[k], HEIGHT), w, h: HEIGHT };
    let best = wish;
    let least = overlaps(wish) ? Infinity : 0;
    for (let dy = 0; least > 0 && dy < height; dy += 10)
      for (let dx = 0; dx < width; dx += 14)
        for (const [sx, sy] of [[1, 1], [-1, 1], [1, -1], [-1, -1]]) {
          const spot = { ...wish, x: wish.x + sx * dx, y: wish.y + sy * dy };
          const far = dx * dx + 2 * dy * dy;
          const inside = spot.x === fits(spot.x, w, width) && spot.y === fits(spot.y, HEIGHT, height);
          if (far < least && inside && !overlaps(spot)) [best, least] = [spot, far];
        }
    out[k] = best;
  }
  return out;
}

export function Subgraph({ store, suggested }: { store: Store; suggested?: boolean }) {
  const el = useRef<HTMLDivElement>(null);
  const size = useSignal({ width: 0, height: 0 });
  const drag = useSignal<{ key: string; dx: number; dy: number; x: number; y: number; moved: boolean } | null>(null);
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      if (el.current) size.value = { width: el.current.clientWidth, height: el.current.clientHeight };
    });
    observer.observe(el.current!);
    return () => observer.disconnect();
  }, []);
  const boxes = useComputed(() => {
    const own = store.groups.value;
    const said = suggested ? store.graph.value.groups.filter((s) => !own.some((o) => sameNodes(o.nodes, s.nodes))) : [];
    return boxesOf(store, [...said, ...own], store.pinned.value, true);
  });
  const lines = useComputed(() => linesOf(store.graph.value, boxes.value));
  const { width, height } = size.value;
  const spots = spotsOf(store);
  const at = width ? spread(boxes.value, width, height, new Set(Object.keys(spots))) : [];
  const moving = drag.value;
  if (moving?.moved) boxes.value.forEach((b, k) => b.key === moving.key && at[k] && (at[k] = { ...at[k], x: moving.x, y: moving.y }));
  const hasOwn = store.groups.value.length + store.pinned.value.size > 0;
  const selected = store.get<string>("sel");
  const local = (event: PointerEvent): [number, number] => {
    const rect = el.current!.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  };
  const finish = () => {
    const d = drag.value;
    drag.value = null;
    if (d?.moved) store.set({ spots: { ...spots, [d.key]: [round(d.x / width), round((d.y - HEIGHT / 2 - 4) / (height - HEIGHT - 8))] } as unknown as Json });
  };
  return (
    <>
      <div ref={el} class="subgraph" onPointerMove={(event) => {
        const d = drag.value;
        if (!d) return;
        const [x, y] = local(event);
        if (d.moved || Math.hypot(x + d.dx - d.x, y + d.dy - d.y) > 5) drag.value = { ...d, x: x + d.dx, y: y + d.dy, moved: true };
      }} onPointerUp={finish} onPointerLeave={finish}>
        <svg aria-hidden="true" width={width} height={height}>
          {lines.value.map((line, k) => {
            const [a, b] = [at[line.from], at[line.to]];
            if (!a || !b) return null;
            const [y1, y2] = a.y > b.y ? [a.y - a.h / 2, b.y + b.h / 2] : [a.y, b.y];
            const bend = (y2 - y1) * 0.4;
            return (
              <path
                key={k}
                d={`M${a.x} ${y1}C${a.x} ${y1 + bend} ${b.x} ${y2 - bend} ${b.x} ${y2}`}
                stroke-width={Math.max(0.5, Math.min(7, Math.sqrt(Math.abs(line.share)) * 8))}
              />
            );
          })}
        </svg>
        {boxes.value.map((b, k) => at[k] && (
          <button
            key={b.key}
            class={`box ${b.end ? "end" : b.verdict}`}
            style={{ left: `${at[k].x - at[k].w / 2}px`, top: `${at[k].y - at[k].h / 2}px`, width: `${at[k].w}px`, height: `${at[k].h}px` }}
            aria-pressed={selected === b.key}
            title={plain(b.name)}
            onPointerDown={(event) => {
              const [x, y] = local(event);
              drag.value = { key: b.key, dx: at[k].x - x, dy: at[k].y - y, x: at[k].x, y: at[k].y, moved: false };
            }}
            onClick={() => store.set({ sel: b.key })}
          >
            <span class="name">{plain(short(b.name, 34))}</span>
            {at[k].w > 60 && <span class="soft">{b.sub}{b.end || b.verdict === "untested" ? "" : ` · ${WORDS[b.verdict] ?? b.verdict}`}</span>}
          </button>
        ))}
        {!boxes.value.length && (
          <div class="empty soft">
            <p>Pin nodes (<kbd>p</kbd>) or group them (<kbd>g</kbd>) to draw your own picture of what happens.</p>
            {!hasOwn && store.graph.value.groups.length > 0 && (
              <button onClick={() => store.set({ groups: store.graph.value.groups.map(({ name, nodes }) => ({ name, nodes })) as unknown as Json })}>
                Start from the parts of the story
              </button>
            )}
          </div>
        )}
      </div>
      <details class="twin">
        <summary>Links as a table</summary>
        <table>
          <thead><tr><th>from</th><th>to</th><th class="number">share of its input</th></tr></thead>
          <tbody>
            {[...lines.value].reverse().map((line, k) => (
              <tr key={k}>
                <td>{plain(boxes.value[line.from]?.name ?? "")}</td>
                <td>{plain(boxes.value[line.to]?.name ?? "")}</td>
                <td class="number">{percent(Math.abs(line.share))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </>
  );
}

const round = (x: number): number => Math.round(Math.min(1, Math.max(0, x)) * 1000) / 1000;
