// The arithmetic of the graph page against slow, obvious versions.

import { describe, expect, it } from "vitest";
import type { PageData } from "../src/core/contract";
import { difference, groupLink, inputs, makeGraph, outputs, strongest, unexplained } from "../src/graph/graph";
import { makeLayout, nearest, neighbour } from "../src/graph/layout";
import { spread } from "../src/graph/Subgraph";
import { SvgPen } from "../src/core/pen";

let seed = 1;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;

/** A graph of n nodes with random links from lower to higher numbers; the last two are logits. */
function example(n: number, kind: string = "feature"): { data: PageData; dense: number[][] } {
  const dense = Array.from({ length: n }, () => new Array<number>(n).fill(0));
  const offsets = [0];
  const source: number[] = [];
  const weight: number[] = [];
  for (let t = 0; t < n; t++) {
    for (let s = 0; s < t && t > 2; s++) {
      if (random() < 0.5 || s >= n - 2) continue;
      dense[t][s] = Math.fround(random() * 2 - 1);
      source.push(s);
      weight.push(dense[t][s]);
    }
    offsets.push(source.length);
  }
  const list = <T>(f: (i: number) => T) => Array.from({ length: n }, (_, i) => f(i));
  const logit = (i: number) => i >= n - 2;
  const view = {
    type: "graph", prompt: "", tokens: ["a", " b", " c"], target: null, contrast: null, top: [], sentence: "", notes: [], scores: {}, verification: {},
    groups: [], paths: [], n_layers: 5, node_threshold: 0.8, interventions: [], state: { pinned: [], groups: [], selected: "" }, live: false,
    links: { shown: source.length, written: source.length, of: source.length, score: 1 },
    nodes: {
      id: list((i) => `n${i}`), kind: list((i) => (logit(i) ? "logit" : i < 3 ? "token" : kind)), layer: list((i) => i % 5), position: list((i) => i % 3),
      index: list((i) => i), label: list((i) => `node ${i}`), value: list(() => 1), delta: list(() => null), share: list((i) => i / n), cumulative: list(() => 0.5),
      probability: list((i) => (logit(i) ? 0.5 : null)), verdict: list(() => "untested"), reason: list(() => ""), reads: list(() => []), promotes: list(() => []),
      suppresses: list(() => []), dropped: list((i) => i / 10), is_target: list((i) => i === n - 1),
    },
  }; // prettier-ignore
  const page = { version: 1, title: "t", state: null, results: [{ kind: "trace", id: "x", parents: [], arguments: {}, provenance: {}, status: "complete", seconds: {}, claims: [], view }] };
  const tensors = {
    "0.links.offsets": Uint32Array.from(offsets), "0.links.source": Uint32Array.from(source), "0.links.weight": Float32Array.from(weight),
    "0.links.verdict": new Uint8Array(source.length),
  }; // prettier-ignore
  return { data: { page, tensors } as unknown as PageData, dense };
}

describe("graph", () => {
  it("orders links by score like a comparator does", () => {
    const score = Float32Array.from({ length: 5000 }, () => random() ** 8 * 10 ** (random() * 6 - 3));
    const mine = Array.from(strongest(score), (i) => score[i]);
    const slow = Array.from(score).sort((a, b) => b - a);
    // the packed key keeps 26 of 31 bits of a score: neighbours that close may change places
    mine.forEach((x, i) => expect(Math.abs(x - slow[i])).toBeLessThanOrEqual(1e-5 * slow[i] + 1e-30));
    expect(new Set(strongest(score)).size).toBe(5000);
  });

  it("gives each link its share of the target's whole input", () => {
    const { data, dense } = example(20);
    const g = makeGraph(data, 0);
    for (let t = 0; t < 20; t++) {
      const whole = dense[t].reduce((sum, w) => sum + Math.abs(w), 0) + t / 10;
      const rows = inputs(g, t);
      expect(rows.length).toBe(dense[t].filter((w) => w).length);
      for (const row of rows) expect(row.share).toBeCloseTo(dense[t][row.node] / whole, 6);
      for (let k = 1; k < rows.length; k++) expect(Math.abs(rows[k - 1].share)).toBeGreaterThanOrEqual(Math.abs(rows[k].share));
    }
    for (let s = 0; s < 20; s++) {
      const targets = dense.map((row, t) => (row[s] ? t : -1)).filter((t) => t >= 0);
      expect(new Set(outputs(g, s).map((r) => r.node))).toEqual(new Set(targets));
    }
  });

  it("subtracts one output from another, source by source", () => {
    const { data, dense } = example(20);
    const rows = difference(makeGraph(data, 0), 19, 18);
    for (const row of rows) expect(row.weight).toBeCloseTo(dense[19][row.node] - dense[18][row.node], 6);
    expect(rows.reduce((sum, r) => sum + Math.abs(r.share), 0)).toBeCloseTo(1, 6);
  });

  it("sums links between groups as circuit-tracer's pages do", () => {
    const { data, dense } = example(20);
    const g = makeGraph(data, 0);
    const [from, to] = [[4, 5, 6], [12, 13, 15]];
    const all = to.map((t) => dense[t].reduce((sum, w) => sum + Math.abs(w), 0) + t / 10);
    const outside = to.map((t) => dense[t].reduce((sum, w, s) => sum + (to.includes(s) ? 0 : Math.abs(w)), 0));
    const part = outside.map((o, i) => o / all[i]);
    const whole = part.reduce((a, b) => a + b, 0);
    let slow = 0;
    to.forEach((t, i) => from.forEach((s) => (slow += (dense[t][s] / outside[i]) * (part[i] / whole))));
    expect(groupLink(g, new Set(from), to)).toBeCloseTo(slow, 6);
    // of one node on one other it is the plain share of the input, what the page leaves out aside
    expect(groupLink(g, new Set([4]), [12])).toBeCloseTo(dense[12][4] / outside[0] || 0, 1);
  });

  it("counts remainders of a file without scores as unexplained", () => {
    const { data } = example(20, "remainder");
    expect(unexplained(makeGraph(data, 0))).toBeGreaterThan(0.5);
    expect(unexplained(makeGraph(example(20).data, 0))).toBe(0);
  });
});

describe("layout", () => {
  const { data } = example(60);
  const g = makeGraph(data, 0);
  const l = makeLayout(g, new Uint8Array(60).fill(1), 900, 600);

  it("keeps every node in its column and row", () => {
    for (let i = 0; i < 60; i++) {
      const c = l.columns[g.position[i]];
      expect(l.x[i]).toBeGreaterThanOrEqual(c.left - 1);
      expect(l.x[i]).toBeLessThanOrEqual(c.left + c.width + 1);
    }
    const hidden = makeLayout(g, new Uint8Array(60), 900, 600);
    expect(hidden.shown.length).toBe(0);
  });

  it("finds the nearest node as a full search does", () => {
    for (let k = 0; k < 300; k++) {
      const [x, y] = [random() * 900, random() * 600];
      let best = -1;
      let least = 30 ** 2;
      for (let i = 0; i < 60; i++) {
        const d = (l.x[i] - x) ** 2 + (l.y[i] - y) ** 2;
        if (d < least) [best, least] = [i, d];
      }
      expect(nearest(l, x, y, 30)).toBe(best);
    }
  });

  it("lets arrow keys reach every node", () => {
    const seen = new Set([0]);
    const queue = [0];
    for (let i = queue.pop(); i !== undefined; i = queue.pop()) {
      for (const key of ["left", "right", "up", "down"] as const) {
        const next = neighbour(g, l, i, key);
        if (next >= 0 && !seen.has(next)) {
          seen.add(next);
          queue.push(next);
        }
      }
    }
    expect(seen.size).toBe(60);
  });

  it("keeps boxes of the subgraph apart and inside", () => {
    const boxes = Array.from({ length: 9 }, (_, i) => ({ key: `b${i}`, x: 0.5, y: i / 9 }));
    const at = spread(boxes, 900, 700, new Set());
    for (let a = 0; a < 9; a++) for (let b = 0; b < a; b++) expect(Math.abs(at[a][0] - at[b][0]) >= 139 || Math.abs(at[a][1] - at[b][1]) >= 55).toBe(true);
    for (const [x, y] of at) expect(x > 0 && x < 900 && y > 0 && y < 700).toBe(true);
  });
});

describe("SvgPen", () => {
  it("writes text as text", () => {
    const pen = new SvgPen();
    pen.fillText('</text><script>&"\u0000', 1, 2);
    const svg = pen.done(10, 10, "<b>");
    expect(svg).not.toContain("<script>");
    expect(svg).not.toContain("<b>");
    expect(new DOMParser().parseFromString(svg, "image/svg+xml").querySelector("text")?.textContent).toBe('</text><script>&"\ufffd');
  });
});
