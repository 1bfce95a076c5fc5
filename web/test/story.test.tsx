// The story of a trace: what is drawn, where it stands, and what opens when it is pressed.

import { act } from "preact/test-utils";
import { describe, expect, it } from "vitest";
import type { PageData, State } from "../src/core/contract";
import { boxesOf, flowWords, strongestFlows, testWords } from "../src/graph/story";
import { arcsOf, type Spot } from "../src/graph/storyArrows";
import { boxWidth, inLine, rowsOf, SIDE, storyLayout, tokenRow, WIDE, type Plan } from "../src/graph/storyLayout";
import { mount } from "../src/mount";
import type { Flow, GraphView, Group } from "../src/types";
import { click, press } from "./helpers";

let seed = 7;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
const whole = (n: number) => Math.floor(random() * n);
const flow = (source: number | null, target: number | null, amount: number, token: number | null = null): Flow => ({ source, target, token, source_link: null, target_link: null, by: null, amount, direct: amount / 2 });
const apart = (a: Spot, b: Spot) => a.x >= b.x + b.w - 0.01 || b.x >= a.x + a.w - 0.01 || a.y >= b.y + b.h || b.y >= a.y + a.h;

/** Points on a path of moves, lines and cubic curves. */
function points(path: string): [number, number][] {
  const out: [number, number][] = [];
  let [x0, y0] = [0, 0];
  for (const [, kind, text] of path.matchAll(/([MLC])([^MLC]+)/g)) {
    const n = text.trim().split(/\s+/).map(Number);
    const [x, y] = n.slice(-2);
    for (let t = 0; kind === "C" && t < 1; t += 0.02) {
      const at = (a: number, b: number, c: number, d: number) => (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t ** 2 * (1 - t) * c + t ** 3 * d;
      out.push([at(x0, n[0], n[2], x), at(y0, n[1], n[3], y)]);
    }
    out.push([x, y]);
    [x0, y0] = [x, y];
  }
  return out;
}

function randomPlan(width: number): Plan {
  const n = 5 + whole(11);
  const words = 1 + whole(100);
  const flows = Array.from({ length: 60 }, () => {
    const target = random() < 0.3 ? null : whole(n);
    return random() < 0.3 ? flow(null, target, random() - 0.5, whole(words)) : flow(whole(n), target, random() - 0.5);
  });
  const drawn = strongestFlows(flows);
  return {
    width, box: boxWidth(width), layers: 30, flows: drawn, dots: 18,
    parts: Array.from({ length: n }, () => ({ position: whole(words), depth: random() * 29, height: 60 + whole(120) })),
    tokens: Array.from({ length: words }, () => 18 + whole(120)),
    used: drawn.map((f) => f.token).filter((at): at is number => at !== null),
    answer: { w: 80 + whole(180), h: 30 + whole(30) },
    looks: Array.from({ length: 5 }, () => ({ query: whole(words), key: whole(words) })),
  }; // prettier-ignore
}

describe("the layout of a story", () => {
  it.each([WIDE, 676, 800, 1234, 1440])("keeps boxes, tokens and the answer apart and inside at %i pixels", (width) => {
    for (let round = 0; round < 60; round++) {
      const plan = randomPlan(width);
      const at = storyLayout(plan);
      const spots = [...at.boxes, at.answer, ...at.tokens];
      expect(at.boxes).toHaveLength(plan.parts.length);
      spots.forEach((a, k) => {
        expect(a.x).toBeGreaterThanOrEqual(SIDE - 0.01);
        expect(a.x + a.w).toBeLessThanOrEqual(width - SIDE + 0.01);
        expect(a.y).toBeGreaterThanOrEqual(0);
        expect(a.y + a.h).toBeLessThanOrEqual(at.height);
        expect(spots.slice(0, k).every((b) => apart(a, b))).toBe(true);
      });
      const order = at.tokens.filter((t) => t.at >= 0);
      expect(order.map((t) => t.at)).toEqual(order.map((t) => t.at).sort((a, b) => a - b));
      for (let k = 1; k < at.tokens.length; k++) expect(at.tokens[k].x).toBeGreaterThan(at.tokens[k - 1].x);
    }
  });

  it("stays between the answer and the tokens with what it draws", () => {
    for (let round = 0; round < 60; round++) {
      const plan = randomPlan(900);
      const at = storyLayout(plan);
      for (const { line, head, flow: f } of at.arrows) {
        const numbers = points(line);
        expect(line + head).not.toContain("NaN");
        expect(numbers.filter(([x, y]) => x < 0 || x > 900 || y < 0 || y > at.height)).toEqual([]);
        // no arrow lies on a box
        const [from, to] = [f.source === null ? null : at.boxes[f.source], f.target === null ? at.answer : at.boxes[f.target]];
        if (from && from.row > to.row) continue;
        const others = at.boxes.filter((s) => s !== from && s !== to);
        expect(numbers.filter(([x, y]) => others.some((s) => x > s.x && x < s.x + s.w && y > s.y && y < s.y + s.h))).toEqual([]);
      }
    }
  });

  it("has the early parts below the late ones, and strong flows lead up", () => {
    expect(rowsOf([20, 2, 12], [], 4, 30)).toEqual([[1], [2, 0]]);
    expect(rowsOf([25, 24, 2], [flow(0, 1, -3), flow(1, 0, 1), flow(2, 0, 1)], 4, 30)).toEqual([[2], [0], [1]]);
    expect(rowsOf([1, 1, 1, 1, 1], [], 2, 30)).toEqual([[0, 1], [2, 3], [4]]);
    // weak flows do not make it taller
    const chain = Array.from({ length: 11 }, (_, k) => flow(k, k + 1, k < 2 ? -1 : 0.3));
    expect(rowsOf(Array.from({ length: 12 }, (_, k) => k / 10), chain, 4, 30).length).toBeLessThanOrEqual(5);
    for (let round = 0; round < 50; round++) {
      const plan = randomPlan(1000);
      const rows = rowsOf(plan.parts.map((p) => p.depth), plan.flows, 4, 30);
      expect(rows.flat().sort((a, b) => a - b)).toEqual(plan.parts.map((_, k) => k));
      expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(4);
    }
  });

  it("puts a line of things where they wish to be, or as near as they fit", () => {
    expect(inLine([50, 150], [20, 20], 5, 200)).toEqual([50, 150]);
    expect(inLine([100, 100], [20, 20], 10, 200)).toEqual([85, 115]);
    expect(inLine([0, 0, 190], [20, 20, 40], 10, 200)).toEqual([10, 40, 180]);
  });

  it("shows all tokens where they fit, else those that matter, with dots between", () => {
    expect(tokenRow([30, 30, 30], [1], 18, 200)).toEqual([0, 1, 2]);
    expect(tokenRow(new Array(50).fill(30), [7, 49, 8], 18, 200)).toEqual([-1, 7, 8, -1, 49]);
    expect(tokenRow(new Array(50).fill(30), [7, 20, 30, 40, 49], 18, 140)).toEqual([-1, 7, -1, 20, -1]);
    expect(tokenRow([900], [0], 18, 200)).toEqual([-1]);
  });

  it("draws arcs only between tokens that are there, and loops for one that looks at itself", () => {
    const spot = (x: number): Spot => ({ x, y: 0, w: 20, h: 20, row: -1 });
    const [a, b] = [spot(10), spot(300)];
    const [arcs, foot] = arcsOf([[b, a], [a, a], [b, undefined]], 20);
    expect(arcs.map(Boolean)).toEqual([true, true, false]);
    expect(foot).toBeGreaterThan(30);
    expect(arcsOf([], 20)).toEqual([[], 20]);
  });
});

describe("which flows are drawn", () => {
  it("takes the strongest, at most 25, none below 4 % of the largest", () => {
    const few = [flow(0, 1, 0.039), flow(0, null, -1), flow(1, null, 0.5), flow(1, 0, 0)];
    expect(strongestFlows(few).map((f) => f.amount)).toEqual([-1, 0.5]);
    expect(strongestFlows(Array.from({ length: 60 }, (_, k) => flow(0, null, 1 + k)))).toHaveLength(25);
    expect(strongestFlows([])).toEqual([]);
  });

  it("makes the wider arrow of the stronger flow, pointed for the answer and blunt against it", () => {
    const plan = { ...randomPlan(900), parts: [3, 20].map((depth) => ({ position: 0, depth, height: 80 })), flows: [flow(0, 1, -2), flow(0, null, 1)] };
    const [strong, weak] = storyLayout(plan).arrows;
    expect(strong.width).toBeGreaterThan(weak.width);
    expect([strong.head.includes("L"), weak.head.includes("L")]).toEqual([true, false]);
  });
});

const group = (name: string, nodes: string[], more: Partial<Group>): Group => ({ name, nodes, verdict: "as-predicted", text: "", share: 0.5, predicted: -2, measured_in_graph: -1.9, measured: -1, range: null, doubling_predicted: null, doubling_measured_in_graph: null, doubling_measured: null, layers: [0, 1], position: 1, positions: [1], reason: `why ${name}`, ...more });

/** Two parts at the second of three tokens, which has been said before. */
function told(): PageData {
  const n = 6;
  const list = <T,>(f: (i: number) => T) => Array.from({ length: n }, (_, i) => f(i));
  const view = {
    type: "graph", prompt: "a b b", tokens: ["a", " b", " b"], target: { token: " c", id: 1, probability: 0.5 }, contrast: null, top: [], sentence: "", notes: [], scores: {}, verification: {}, units: "neurons",
    quantity: null, graph_quantity: { name: "centred logit", equation: "", unit: "", about: "" }, paths: [], n_layers: 5, node_threshold: 1, interventions: [], state: { pinned: [], groups: [], selected: "" }, live: false, links: { shown: 0, of: 0 },
    groups: [group('" b", early: for " c"', ["n2", "n3"], { text: "the claim" }), group('" b", late', ["n4"], { verdict: "no-effect", layers: [4, 4] })],
    flows: [flow(null, 0, -3, 1), flow(0, 1, 0.5), flow(0, null, -2.5), flow(1, null, -0.01)],
    attention: [{ layer: 2, head: 1, query: 2, key: 1, pattern: 0.5, predicted: 0, measured: 0, verdict: "matters", score: 1, runner_up: null, runner_up_score: null, runner_up_pattern: null, pairs: [], text: "head 1 looks" }],
    nodes: {
      id: list((i) => `n${i}`), kind: list((i) => (i < 2 ? "token" : i === 5 ? "logit" : "feature")), layer: list((i) => i % 5), position: list((i) => i % 3), index: list((i) => i), label: list((i) => `node ${i}`),
      value: list(() => 1), delta: list(() => null), share: list(() => 0.1), cumulative: list(() => 0.5), probability: list(() => null), verdict: list(() => "untested"), reason: list(() => ""), reads: list(() => []),
      promotes: list(() => []), suppresses: list(() => []), dropped: list(() => 0), is_target: list((i) => i === 5),
    },
  }; // prettier-ignore
  const page = { version: 1, title: "t", state: null, results: [{ kind: "trace", id: "x", parents: [], arguments: {}, provenance: {}, status: "complete", seconds: {}, claims: [], view }] };
  const none = new Uint32Array(0);
  const tensors = { "0.links.offsets": new Uint32Array(n + 1), "0.links.source": none, "0.links.weight": new Float32Array(0), "0.links.verdict": new Uint8Array(0) };
  return { page, tensors } as unknown as PageData;
}

const viewOf = (data: PageData) => data.page.results[0].view as GraphView;

describe("the story on the page", () => {
  const show = (data: PageData, state: State = {}) => {
    document.body.replaceChildren();
    const el = document.body.appendChild(document.createElement("div"));
    const states: State[] = [];
    let handle!: ReturnType<typeof mount>;
    act(() => void (handle = mount(el, data, { state, onState: (s) => void states.push(s) })));
    return { el, states, leave: () => act(() => handle.destroy()) };
  };

  it("says a flow in words, and how the tests ended", () => {
    const view = viewOf(told());
    expect(flowWords(view, view.flows[0])).toBe('“·b” (token 2) → " b", early: for " c": changes the centred logit by −3.00 (straight −1.50), so it speaks for the answer');
    expect(flowWords(view, view.flows[1])).toContain("speaks against");
    expect(testWords(view.groups, "neurons")).toBe(
      "Each part was set, in the model, to its values in similar prompts: 1 changed the answer as predicted; 0 changed it, but not as predicted; 1 changed it no more than random neurons do.",
    );
    expect(testWords([...view.groups, group("x", [], { verdict: "untested" })], "features")).toMatch(/^2 parts were set.*random features do\.$/);
    expect(testWords([group("x", [], { verdict: "untested" })], "neurons")).toBe("No part was tested.");
  });

  it.each(["plain", "standard", "expert"])("opens a part, and closes it with a second press or Escape, at depth %s", (depth) => {
    const { el, states, leave } = show(told(), { depth });
    expect(el.querySelector(".story")!.textContent).toContain("3 of 4 flows are listed");
    expect(el.querySelectorAll(".subgraph").length).toBe(depth === "plain" ? 0 : 1);
    const box = () => [...el.querySelectorAll<HTMLElement>(".part")].find((b) => b.dataset.key === 'group:" b", early: for " c"')!;
    click(box());
    expect(states.at(-1)).toMatchObject({ sel: 'group:" b", early: for " c"', story: 'group:" b", early: for " c"' });
    const panel = el.querySelector(".story-panel")!;
    expect(panel.textContent).toContain("the claim");
    expect([...panel.querySelectorAll("tbody tr")].map((row) => row.textContent)).toEqual(["“·b” (token 2)→ −3.00−1.50", "the answer “·c”→ −2.50−1.25", '" b", late⊣ +0.500+0.250']);
    expect(box().getAttribute("aria-expanded")).toBe("true");
    click(box());
    expect(el.querySelector(".story-panel")).toBe(null);
    expect(states.at(-1)).toMatchObject({ sel: "", story: "" });
    click(box());
    press(box(), "Escape");
    expect(el.querySelector(".story-panel")).toBe(null);
    leave();
  });

  it("stays open when a node in it is selected; Escape leaves one after the other", () => {
    const { el, states, leave } = show(told(), { story: 'group:" b", late' });
    expect(el.querySelector(".story-panel")!.textContent).toContain('why " b", late');
    click(el.querySelector(".story-panel .node"));
    expect(states.at(-1)).toMatchObject({ sel: "n4", story: 'group:" b", late' });
    press(el.querySelector(".story")!, "Escape");
    expect(states.at(-1)).toMatchObject({ sel: "", story: 'group:" b", late' });
    press(el.querySelector(".story")!, "Escape");
    expect(states.at(-1)).toMatchObject({ sel: "", story: "" });
    leave();
  });

  it("opens the sentence of a link of attention", () => {
    const { el, leave } = show(told());
    click(el.querySelector(".story button.look"));
    expect(el.querySelector(".story-panel")!.textContent).toContain("head 1 looks. matters");
    leave();
  });

  it("has a box for a link of attention that a flow passes through, and no other", () => {
    const data = told();
    const view = viewOf(data);
    expect(boxesOf(view, view.flows)).toHaveLength(2);
    view.flows.push({ ...flow(0, null, -1), target_link: 0, by: "query" }, { ...flow(null, 1, -2), source_link: 0 });
    expect(boxesOf(view, view.flows).map((box) => [box.name, box.position])).toEqual([['" b", early: for " c"', 1], ['" b", late', 1], ["“·b” (token 3) looks at “·b” (token 2): head 1 of layer 2, with 50 % of its attention", 2]]);
    expect(flowWords(view, view.flows[4])).toContain('→ the query of attention of “·b” (token 3) to “·b” (token 2) (head 1 of layer 2): changes');
    const { el, leave } = show(data);
    expect(el.querySelectorAll(".story button.look")).toHaveLength(0);
    expect(el.querySelector(".story")!.textContent).toContain("and of 1 link of attention");
    expect(el.querySelector(".answer")!.textContent).not.toContain("past all parts");
    click([...el.querySelectorAll<HTMLElement>(".part")].find((b) => b.dataset.key === "look:0"));
    expect([...el.querySelectorAll(".story-panel tbody tr")].map((row) => row.textContent)).toEqual(['" b", early: for " c", by the query→ −1.00−0.500', '" b", late→ −2.00−1.00']);
    leave();
  });

  it("is not there for a page of before, whose groups stand in the subgraph", () => {
    const data = told();
    delete (viewOf(data) as Partial<GraphView>).flows;
    const { el, leave } = show(data, { depth: "plain", story: "look:9" });
    expect(el.querySelector(".story")).toBe(null);
    expect(el.querySelectorAll(".subgraph").length).toBe(1);
    leave();
  });

  it("ignores an address that names what is not there", () => {
    for (const story of ["look:9", "look:x", "group:none", "x"]) {
      const { el, leave } = show(told(), { story });
      expect(el.querySelector(".story-panel")).toBe(null);
      leave();
    }
  });
});
