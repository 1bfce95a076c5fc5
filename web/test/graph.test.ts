// The arithmetic of the graph page against slow, obvious versions.

import { act } from "preact/test-utils";
import { describe, expect, it } from "vitest";
import type { PageData, State } from "../src/core/contract";
import { difference, groupLink, inputs, outputs, strongest } from "../src/graph/graph";
import { makeCircuit } from "../src/circuit/circuit";
import { placeAmong } from "../src/circuit/Head";
import { makeLayout, nearest, neighbour } from "../src/graph/layout";
import { spread } from "../src/graph/Subgraph";
import { makeTrace, unexplained } from "../src/graph/trace";
import { clamp, FITTED, kept, zoomed, zoomOf } from "../src/graph/zoom";
import { mount } from "../src/mount";
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
    const g = makeTrace(data, 0);
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

  it("subtracts one output from another, source by source, and counts what is left out", () => {
    const { data, dense } = example(20);
    const found = difference(makeTrace(data, 0), 19, 18);
    for (const row of found.rows) expect(row.weight).toBeCloseTo(dense[19][row.node] - dense[18][row.node], 6);
    expect(found.rows.reduce((sum, r) => sum + Math.abs(r.share), 0) + Math.abs(found.left)).toBeCloseTo(1, 6);
    const size = found.rows.reduce((sum, r) => sum + Math.abs(r.weight), 0) + 0.1; // dropped: 1.9 and 1.8
    expect(found.left).toBeCloseTo(0.1 / size, 6);
    expect(found.oneSided).toBe(dense[19].filter((w, s) => (w === 0) !== (dense[18][s] === 0)).length);
  });

  it("counts of a change what the links do not hold", () => {
    const { data, dense } = example(20);
    const view = data.page.results[0].view as { nodes: { delta: (number | null)[] } };
    view.nodes.delta = view.nodes.delta.map((_, i) => (i === 12 ? null : 3));
    data.tensors["0.links.delta"] = (data.tensors["0.links.weight"] as Float32Array).map((w) => 2 * w);
    const g = makeTrace(data, 0, "change");
    for (let t = 4; t < 20; t++) {
      const sum = dense[t].reduce((a, w) => a + 2 * w, 0);
      const size = dense[t].reduce((a, w) => a + 2 * Math.abs(w), 0);
      if (!size) continue;
      if (t === 12) expect(g.left[t]).toBeNaN();
      else expect(g.left[t]).toBeCloseTo(3 - sum, 5);
      expect(g.into[t]).toBeCloseTo(size + (t === 12 ? 0 : Math.abs(3 - sum)), 5);
    }
  });

  it("sums links between groups as circuit-tracer's pages do", () => {
    const { data, dense } = example(20);
    const g = makeTrace(data, 0);
    const [from, to] = [[4, 5, 6], [12, 13, 15]];
    const all = to.map((t) => dense[t].reduce((sum, w) => sum + Math.abs(w), 0) + t / 10);
    const outside = to.map((t) => dense[t].reduce((sum, w, s) => sum + (to.includes(s) ? 0 : Math.abs(w)), 0) + t / 10);
    const part = outside.map((o, i) => o / all[i]);
    const whole = part.reduce((a, b) => a + b, 0);
    let slow = 0;
    to.forEach((t, i) => from.forEach((s) => (slow += (dense[t][s] / outside[i]) * (part[i] / whole))));
    expect(groupLink(g, new Set(from), to)).toBeCloseTo(slow, 6);
    // of one node on one other it is the share that the list of connections gives
    for (const row of inputs(g, 12)) expect(groupLink(g, new Set([row.node]), [12])).toBeCloseTo(row.share, 6);
  });

  it("counts remainders of a file without scores as unexplained", () => {
    const { data } = example(20, "remainder");
    expect(unexplained(makeTrace(data, 0))).toBeGreaterThan(0.5);
    // without remainders it is what the links leave out
    const all = example(20).data;
    const some = unexplained(makeTrace(all, 0))!;
    expect(some).toBeGreaterThan(0);
    (all.page.results[0].view as { nodes: { dropped: number[] } }).nodes.dropped.fill(0);
    expect(unexplained(makeTrace(all, 0))).toBe(0);
  });
});

describe("mount", () => {
  it("shows other data when it is given some, and nothing of the old", () => {
    const el = document.body.appendChild(document.createElement("div"));
    let handle!: ReturnType<typeof mount>;
    act(() => void (handle = mount(el, example(20).data, { state: { prune: 1 } })));
    expect(el.querySelector(".shown")!.textContent).toContain("showing 20 of 20 nodes");
    act(() => handle.update(example(30).data, { prune: 1, table: true }));
    expect(el.querySelector(".shown")!.textContent).toContain("showing 30 of 30 nodes");
    expect(el.querySelectorAll(".table-twin tbody tr").length).toBe(30);
    act(() => handle.destroy());
  });

  it("survives state that is nonsense inside", () => {
    const el = document.body.appendChild(document.createElement("div"));
    const state = { sel: "n7", prune: 1, names: { n7: 5 }, spots: { n7: ["a", "b"], n8: 3 }, runs: [{ nodes: ["n7"], op: "off", rows: [{}] }, 5, null], replay: { op: "off" }, pin: [3, "n7"], groups: [{}, null, { name: "x", nodes: [5] }], hide: [1] };
    let handle!: ReturnType<typeof mount>;
    act(() => void (handle = mount(el, example(20).data, { state: state as unknown as State })));
    expect(el.querySelector(".detail h3")!.textContent).toBe("node 7");
    act(() => handle.destroy());
  });

  it("keeps its colours to itself", () => {
    const [a, b] = [document.createElement("div"), document.createElement("div")];
    act(() => void mount(a, example(20).data, { state: { theme: "light" } }));
    act(() => void mount(b, example(20).data, { state: { theme: "dark" } }));
    expect([a.dataset.theme, b.dataset.theme]).toEqual(["light", "dark"]);
  });
});

describe("what nodes are called", () => {
  const shown = (units: string | undefined, state: State) => {
    const { data } = example(20, "remainder");
    const view = data.page.results[0].view as unknown as Record<string, any>;
    view.nodes.kind.fill("feature", 3, 10);
    view.verification = { control_95th_percentile: 0.1 };
    const group = { name: "G", nodes: ["n4", "n5"], text: "it is so", verdict: "no-effect", share: 0.5, layers: [0, 1], position: 1, range: [-2, -1], measured: -1, predicted: -1 };
    Object.assign(view, { units, sentence: "All: it is so", groups: [group] });
    const run = { nodes: ["n4", "n5"], op: "off", target: { id: 1, token: "x" }, rows: [{ id: 1, token: "x", before: 0.5, after: 0.1, control: 0.4 }], sentence: "", change: -1 };
    view.interventions = [run];
    const el = document.body.appendChild(document.createElement("div"));
    let handle!: ReturnType<typeof mount>;
    act(() => void (handle = mount(el, data, { state: { prune: 1, sel: "group:G", ...state } })));
    const text = el.textContent!;
    act(() => handle.destroy());
    return text;
  };
  const places: [State, string[]][] = [
    [{ depth: "plain" }, ["2 UNITS at “·b”", "with as many random UNITS changed", "2 of 7 UNITS that were kept"]],
    [{}, ["95 % of random UNITS stay under", "push random UNITS as far"]],
    [{ table: true }, ["UNITS of layer 0 that are not drawn"]],
  ];

  it.each([
    ["features", "features", "neurons"],
    ["neurons", "neurons", "UNITS"],
    [undefined, "neurons", "UNITS"], // a page of before
  ])("follows the basis: %s", (units, word, wrong) => {
    for (const [state, texts] of places) {
      const said = shown(units, state);
      for (const text of texts) expect(said).toContain(text.replaceAll("UNITS", word));
      expect(said).not.toContain(wrong);
    }
  });
});

describe("zoom", () => {
  const size = { width: 400, height: 200 };

  it("keeps the point under the pointer, and the picture in the window", () => {
    const z = zoomed(FITTED, 3, [100, 50], size);
    expect(z).toEqual({ k: 3, x: -200, y: -100 });
    expect(zoomed(zoomed(z, 2, [100, 50], size), 0.5, [100, 50], size)).toEqual(z);
    expect(zoomed(z, 0.1, [9, 9], size)).toEqual(FITTED);
    expect(zoomed(z, 1e9, [0, 0], size).k).toBe(40);
    expect(clamp({ k: 2, x: 50, y: -900 }, size)).toEqual({ k: 2, x: 0, y: -200 });
  });

  it("comes back from the state, and nonsense does not", () => {
    expect(zoomOf(kept({ k: 2, x: -10.4, y: 0 }))).toEqual({ k: 2, x: -10, y: 0 });
    expect(kept(FITTED)).toBe(null);
    for (const bad of [null, undefined, [1, 2], [0.5, 0, 0], [1, NaN, 0], "2", { k: 2 }]) expect(zoomOf(bad)).toEqual(FITTED);
  });
});

describe("layout", () => {
  const { data } = example(60);
  const g = makeTrace(data, 0);
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

  it.each([
    [900, 400],
    [640, 380],
    [340, 420],
  ])("keeps boxes of the subgraph apart, inside and in order at %i × %i", (width, height) => {
    const ends = [0.05, 0.2, 0.5, 0.75, 0.8, 0.9].map((x, i) => ({ key: `t${i}`, x, y: 1, end: true }));
    const groups = [0.5, 0.52, 0.95, 0.94].map((x, i) => ({ key: `g${i}`, x, y: 0.2 + i / 10, end: false }));
    const boxes = [...groups, ...ends, { key: "out", x: 0.95, y: 0, end: true }];
    const at = spread(boxes, width, height, new Set());
    at.forEach((a, k) => {
      expect(a.x - a.w / 2).toBeGreaterThanOrEqual(0);
      expect(a.x + a.w / 2).toBeLessThanOrEqual(width);
      expect(a.y - a.h / 2).toBeGreaterThanOrEqual(0);
      expect(a.y + a.h / 2).toBeLessThanOrEqual(height);
      for (const b of at.slice(0, k)) expect(Math.abs(a.x - b.x) >= (a.w + b.w) / 2 || Math.abs(a.y - b.y) >= (a.h + b.h) / 2).toBe(true);
    });
    const order = at.slice(groups.length, -1).map((s) => s.x);
    expect([...order].sort((x, y) => x - y)).toEqual(order);
    const dragged = spread(boxes, width, height, new Set(["g0"]));
    expect(dragged[0].x).toBeCloseTo(0.5 * width, 6);
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

/** input; a0.h0 and m0; a1.h0 with three inputs; logits. Two edges enter a1.h0 from a0.h0, of opposite signs. */
function circuitExample(): PageData {
  const { data } = example(5);
  const view = data.page.results[0].view as unknown as Record<string, any>;
  const columns = { id: ["input", "a0.h0", "m0", "a1.h0", "logits"], kind: ["token", "head", "mlp", "head", "logit"], layer: [null, 0, 0, 1, null], position: [null, 0, 1, 0, null] };
  Object.assign(view.nodes, columns, { label: columns.id, index: columns.position, dropped: [0, 0, 1e-4, 0, 0], share: [0.1, 0.4, 0, 0.3, 0.2] });
  const facts = { task: "", method: "", units: "edges", size: 4, n_edges: 20, example: "", sizes: [], stability: null, truth: null, rest: {} };
  Object.assign(view, { type: "circuit", tokens: ["0", "MLP"], n_layers: 2, facts, links: { shown: 4, of: 4 } });
  data.tensors = {
    "0.links.offsets": Uint32Array.of(0, 0, 1, 1, 3, 4), "0.links.source": Uint32Array.of(0, 1, 1, 3), "0.links.weight": Float32Array.of(1, 0.75, -0.25, 0.5),
    "0.links.verdict": Uint8Array.of(0, 3, 4, 0), "0.links.part": Uint8Array.of(3, 1, 2, 0),
  }; // prettier-ignore
  return data;
}

describe("a circuit", () => {
  it("sets every edge against the strongest and keeps the parts of a head apart", () => {
    const g = makeCircuit(circuitExample(), 0);
    expect(inputs(g, 3).map((r) => [r.node, r.share, g.enters![r.link]])).toEqual([[1, 0.75, 1], [1, -0.25, 2]]);
    expect([...g.order]).toEqual([0, 1, 3, 2]);
    expect([...g.left]).toEqual([0, 0, 0, 0, 0]);
    expect(g.edgeless).toBe(false);
  });

  it("has a column for each head and one for the MLP, which stands above the heads of its layer", () => {
    const g = makeCircuit(circuitExample(), 0);
    const l = makeLayout(g, new Uint8Array(5).fill(1), 600, 400);
    expect(l.columns.length).toBe(2);
    expect(l.x[1]).toBe(l.x[3]);
    expect(l.x[2]).toBeGreaterThan(l.x[1]);
    expect(l.y[2]).toBeLessThan(l.y[1]);
    expect(l.y[2]).toBeGreaterThan(l.y[3]);
    expect(l.x[0]).toBe(l.x[4]);
    expect([...l.y].indexOf(Math.max(...l.y))).toBe(0);
    expect([...l.y].indexOf(Math.min(...l.y))).toBe(4);
    expect(nearest(l, l.x[0], l.y[0], 5)).toBe(0);
  });

  it("finds the place of a size among those that were measured", () => {
    expect(placeAmong([1, 10, 100], 10)).toBe(1);
    expect(placeAmong([1, 10, 100], Math.sqrt(1000))).toBeCloseTo(1.5);
    expect(placeAmong([10, 100], 5)).toBeUndefined();
    expect(placeAmong([10, 100], 500)).toBeUndefined();
    expect(placeAmong([10], null)).toBeUndefined();
  });

  it("names parts and verdicts in its lists, and each edge of a head apart", () => {
    const el = document.createElement("div");
    document.body.append(el);
    const handle = mount(el, circuitExample(), { state: { sel: "a1.h0" } });
    const rows = [...el.querySelectorAll(".pane-connections li")].map((li) => li.textContent);
    expect(rows).toEqual(["▴a0.h0 query layer 0, head 0matters  +0.750", "▴a0.h0 key layer 0, head 0no effect beyond random ones  0.250", "■logits output  0.500"]);
    expect(el.querySelector(".pane-detail table")!.textContent).toContain("2 in (query 1, key 1), 1 out");
    handle.destroy();
  });
});
