import { render } from "preact";
import { act } from "preact/test-utils";
import { describe, expect, it } from "vitest";
import { path } from "../src/generic/Chart";
import { GenericView } from "../src/generic/GenericView";
import { InterventionTable } from "../src/generic/InterventionTable";
import { kindOf } from "../src/generic/shape";
import type { Intervention } from "../src/types";
import { viewOf } from "../src/views";
import { button, click, pageOf, place, shown, viewProps } from "./helpers";

function show(payload: unknown, claims: object[] = []) {
  const el = place();
  const result = { ...shown("strange", { type: "generic", payload }), claims: claims as never };
  act(() => render(<GenericView {...viewProps({ page: pageOf(result), tensors: {} }, {})} />, el));
  return el;
}

it("tells kinds of data apart", () => {
  const cases: [unknown, string][] = [
    [null, "scalar"], [3, "scalar"], ["a", "scalar"], [[], "empty"], [{}, "empty"],
    [[1, 2, null], "series"], [[1, 2], "scalars"], [["a", 1], "scalars"], [[null, null, null], "scalars"],
    [[[1, 2], [3, 4]], "matrix"], [[[1, 2], [3]], "list"], [[{ a: 1 }, { b: 2 }], "rows"], [[{ a: 1 }, 2], "list"],
    [{ x: [1, 2, 3], y: [1, 2, 3] }, "columns"], [{ x: [1, 2, 3], y: 1 }, "record"],
  ];
  for (const [value, kind] of cases) expect([value, kindOf(value)]).toEqual([value, kind]);
});

describe("a result that the page never heard of", () => {
  it("shows claims first, then everything, as text", () => {
    const el = show(
      { sentence: "It fell.", seed: 3, none: null, ok: true, name: "<img src=x>\u202e", loss: [3, 2, 1], rows: [{ step: 1, note: "</script>" }] },
      [{ text: "Loss falls", verdict: "tested" }, { text: "No verdict" }],
    );
    expect(el.querySelector("p")!.textContent).toBe("It fell.");
    expect([...el.querySelectorAll(".badge")].map((b) => b.textContent)).toEqual(["tested: it holds", "not tested"]);
    expect(el.textContent).toContain("Seed3None–OkyesName<img src=x>\\u202e");
    expect(el.querySelector("img, script")).toBeNull();
    expect(el.querySelector("svg.chart")!.getAttribute("aria-label")).toBe("Loss: 3 values, least 1.00, greatest 3.00");
  });
  it("hides no sentence that is not text", () => {
    expect(show({ sentence: { first: "It fell." }, seed: 3 }).textContent).toContain("It fell.");
    expect(show({ sentence: 7, seed: 3 }).textContent).toContain("Sentence7");
  });
  it("bounds long tables and says how much there is", () => {
    const el = show({ rows: Array.from({ length: 10_000 }, (_, step) => ({ step, loss: 1 / (step + 1) })) });
    expect(el.querySelectorAll("tbody tr")).toHaveLength(200);
    expect(el.textContent).toContain("showing 200 of 10\u202f000");
    click(button(el, "Show more"));
    expect(el.querySelectorAll("tbody tr")).toHaveLength(1200);
    expect(el.querySelector("select")!.value).toBe("loss");
  });
  it("bounds depth and width", () => {
    let deep: object = { end: 1 };
    for (let i = 0; i < 2000; i++) deep = { deep, i };
    expect(show(deep).querySelectorAll("details").length).toBeLessThan(20);
    const wide = show({ rows: [Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`c${i}`, i]))] });
    expect(wide.querySelectorAll("th")).toHaveLength(30);
  });
  it("shows any payload at all", () => {
    for (const payload of [null, 5, "text", [], [1, 2, 3], [[1, null], [-2, 3]], [1, { a: [[["x"]]] }], { a: [NaN, 1, 2] }]) {
      expect(show(payload).querySelector(".generic")).not.toBeNull();
    }
  });
  it("has a table twin for a series", () => {
    const el = show({ loss: [3, null, 1] });
    click(button(el, "Show as table"));
    expect([...el.querySelectorAll("td")].map((c) => c.textContent)).toEqual(["3.00", "–", "1.00"]);
  });
  it("is what an unknown view falls back to", () => {
    expect(viewOf(shown("x", { type: "never heard of" } as never)).component).toBe(GenericView);
  });
});

it("a line breaks at holes and stays short for many points", () => {
  const id = (v: number) => v;
  expect(path([1, 2, null, 3], id, id)).toBe("M0.0 1.0L1.0 2.0M3.0 3.0h.1");
  expect(path(Array.from({ length: 100_000 }, (_, i) => Math.sin(i)), id, id).match(/[ML]/g)!.length).toBeLessThan(2100);
});

export const changed: Intervention = {
  type: "intervention",
  nodes: ["1_2_3", "1_4_3"],
  op: "off",
  trace: "t",
  target: { token: " Paris", id: 7, probability: 0.773 },
  contrast: null,
  rows: [
    { token: " Paris", id: 7, before: 0.773, after: 0.121, control: 0.769 },
    { token: "</script>", id: 8, before: 0.1, after: 0.2, control: null },
  ],
  quantity: { name: "log-probability", equation: "", unit: "nats", about: "how likely" },
  change: -3.2,
  control_change: 0.01,
  control_least: -0.1,
  control_greatest: 0.2,
  controls: 5,
  control_size: 2,
  sentence: "Switching off 2 neurons moves it.",
};

describe("an intervention", () => {
  const table = (view: Intervention) => {
    const el = place();
    act(() => render(<InterventionTable view={view} />, el));
    return el;
  };
  it("stands beside its random groups", () => {
    const el = table(changed);
    const cells = [...el.querySelectorAll("tbody tr")].map((r) => [...r.children].map((c) => c.textContent));
    expect(cells[0]).toEqual(["·Paris", "77.3 %", "▼ 12.1 %", "76.9 %"]);
    expect(cells[1]).toEqual(["</script>", "10.0 %", "▲ 20.0 %", "–"]);
    expect(el.querySelector("svg")!.getAttribute("aria-label")).toContain("−3.20; random groups −0.100 to +0.200");
  });
  it("says what it measured", () => {
    expect(table(changed).querySelector("figcaption")!.textContent).toContain("Change of the log-probability of ·Paris");
  });
  it("without random groups has no column for them", () => {
    const el = table({ ...changed, controls: 0, control_change: null, control_least: null, control_greatest: null, change: 0 });
    expect(el.querySelectorAll("thead th")).toHaveLength(3);
    expect(el.textContent).toContain("no random groups");
  });
  it("opened as a result of its own shows the same", () => {
    const el = place();
    const result = shown("intervention", changed);
    act(() => render(<GenericView {...viewProps({ page: pageOf(result), tensors: {} }, {})} />, el));
    expect(el.querySelector(".changed")).not.toBeNull();
  });
});
