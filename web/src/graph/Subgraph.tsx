// Pinned nodes and groups as a small graph: boxes at their place (token across, layer upwards), links summed over members.

import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Json } from "../core/contract";
import { percent, plain, short, token } from "../core/format";
import { groupLink, type Graph } from "./graph";
import { labelOf, placeOf, type PersonGroup, type Store } from "./store";

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
  const spots = store.get<Record<string, [number, number]>>("spots") ?? {};
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
    const said = g.view.groups.find((s) => s.name === group.name || sameNodes(s.nodes, group.nodes));
    if (nodes.length) add(`group:${group.name}`, group.name, `${nodes.length} nodes`, nodes, said?.verdict);
  }
  for (const i of pinned) {
    const word = g.kind[i] === "token" || g.kind[i] === "logit" ? `“${token(store.label(i))}”` : plain(store.label(i));
    add(g.id[i], word, placeOf(g, i), [i], g.view.nodes.verdict[i], g.kind[i] === "token" || g.kind[i] === "logit");
  }
  if (ends && boxes.length) {
    const there = new Set(boxes.flatMap((b) => b.nodes));
    const used = new Set<number>();
    for (const b of boxes) for (const t of b.nodes) for (let e = g.offsets[t]; e < g.offsets[t + 1]; e++) if (g.kind[g.source[e]] === "token") used.add(g.source[e]);
    const strongest = [...used].sort((a, b) => g.share[b] - g.share[a]).slice(0, 6);
    for (const i of strongest) if (!there.has(i)) add(g.id[i], `“${token(labelOf(g, i))}”`, "token", [i], "untested", true);
    const target = g.kind.findIndex((kind, i) => kind === "logit" && g.view.nodes.is_target[i]);
    const logit = target >= 0 ? target : g.kind.indexOf("logit");
    if (logit >= 0 && !there.has(logit)) add(g.id[logit], `“${token(labelOf(g, logit))}”`, "output", [logit], "untested", true);
  }
  return boxes;
}

const sameNodes = (a: string[], b: string[]): boolean => a.length === b.length && new Set([...a, ...b]).size === a.length;

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

/** Apart enough to be read: boxes that overlap move sideways, then down. */
export function spread(boxes: { x: number; y: number; key: string }[], width: number, height: number, free: Set<string>): [number, number][] {
  const at = boxes.map((b): [number, number] => [
    Math.min(width - WIDTH / 2 - 4, Math.max(WIDTH / 2 + 4, b.x * width)),
    Math.min(height - HEIGHT / 2 - 4, Math.max(HEIGHT / 2 + 4, b.y * (height - HEIGHT - 8) + HEIGHT / 2 + 4)),
  ]);
  for (let round = 0; round < 200; round++) {
    let moved = false;
    for (let a = 0; a < at.length; a++)
      for (let b = a + 1; b < at.length; b++) {
        const dx = at[b][0] - at[a][0];
        const dy = at[b][1] - at[a][1];
        const ox = WIDTH + 10 - Math.abs(dx);
        const oy = HEIGHT + 10 - Math.abs(dy);
        if (ox <= 0 || oy <= 0) continue;
        moved = true;
        const [axis, push] = ox / WIDTH < oy / HEIGHT || width > 3 * WIDTH ? [0, ox / 2] : [1, oy / 2];
        const sign = (axis ? dy : dx) < 0 ? -1 : 1;
        if (!free.has(boxes[a].key)) at[a][axis] -= sign * push;
        if (!free.has(boxes[b].key)) at[b][axis] += sign * push;
      }
    for (const p of at) {
      p[0] = Math.min(width - WIDTH / 2 - 4, Math.max(WIDTH / 2 + 4, p[0]));
      p[1] = Math.min(height - HEIGHT / 2 - 4, Math.max(HEIGHT / 2 + 4, p[1]));
    }
    if (!moved) break;
  }
  return at;
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
    const groups = suggested ? store.graph.value.view.groups : store.groups.value;
    return boxesOf(store, groups, suggested ? [] : store.pinned.value, true);
  });
  const lines = useComputed(() => linesOf(store.graph.value, boxes.value));
  const { width, height } = size.value;
  const spots = store.get<Record<string, [number, number]>>("spots") ?? {};
  const at = width ? spread(boxes.value, width, height, new Set(Object.keys(spots))) : [];
  const moving = drag.value;
  if (moving?.moved) boxes.value.forEach((b, k) => b.key === moving.key && at[k] && (at[k] = [moving.x, moving.y]));
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
            const [y1, y2] = a[1] > b[1] ? [a[1] - HEIGHT / 2, b[1] + HEIGHT / 2] : [a[1], b[1]];
            const bend = (y2 - y1) * 0.4;
            return (
              <path
                key={k}
                d={`M${a[0]} ${y1}C${a[0]} ${y1 + bend} ${b[0]} ${y2 - bend} ${b[0]} ${y2}`}
                class={line.share < 0 ? "minus" : "plus"}
                stroke-width={Math.max(0.5, Math.min(7, Math.sqrt(Math.abs(line.share)) * 8))}
              />
            );
          })}
        </svg>
        {boxes.value.map((b, k) => at[k] && (
          <button
            key={b.key}
            class={`box ${b.end ? "end" : b.verdict}`}
            style={{ left: `${at[k][0] - WIDTH / 2}px`, top: `${at[k][1] - HEIGHT / 2}px`, width: `${WIDTH}px`, height: `${HEIGHT}px` }}
            aria-pressed={selected === b.key}
            title={plain(b.name)}
            onPointerDown={(event) => {
              const [x, y] = local(event);
              drag.value = { key: b.key, dx: at[k][0] - x, dy: at[k][1] - y, x: at[k][0], y: at[k][1], moved: false };
            }}
            onClick={() => store.set({ sel: b.key })}
          >
            <span class="name">{plain(short(b.name, 34))}</span>
            <span class="soft">{b.sub}{b.end || b.verdict === "untested" ? "" : ` · ${b.verdict}`}</span>
          </button>
        ))}
        {!boxes.value.length && (
          <div class="empty soft">
            <p>Pin nodes (<kbd>p</kbd>) or group them (<kbd>g</kbd>) to draw your own picture of what happens.</p>
            {!hasOwn && store.graph.value.view.groups.length > 0 && (
              <button onClick={() => store.set({ groups: store.graph.value.view.groups.map(({ name, nodes }) => ({ name, nodes })) as unknown as Json })}>
                Start from the groups of the sentence
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
                <td class={`number ${line.share < 0 ? "negative" : "positive"}`}>{percent(line.share, true)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </>
  );
}

const round = (x: number): number => Math.round(Math.min(1, Math.max(0, x)) * 1000) / 1000;
