import { render } from "preact";
import { act } from "preact/test-utils";
import { describe, expect, it } from "vitest";
import { moved } from "../src/lens/Heatmap";
import { chosen, guesses, lensOf, matching, poster, shapes, strength } from "../src/lens/lens";
import { lensState, LensView } from "../src/lens/LensView";
import type { LensView as View } from "../src/types";
import { button, click, lensData, place, press, viewProps } from "./helpers";

const data = lensData();
const lens = lensOf(data, 0, data.page.results[0].view as View);
const start = lensState(data.page.results[0]);
function shownView(state = {}, more = {}) {
  const el = place();
  const props = viewProps(data, { ...start, ...state }, more);
  act(() => render(<LensView {...props} />, el));
  return { el, props };
}

describe("the numbers of a lens", () => {
  it("are read by row, column and rank", () => {
    expect(guesses(lens, 1, 2)).toEqual([
      { name: 3, text: "\u202eevil", probability: 0.5 },
      { name: 0, text: "</script>", probability: 0.25 },
    ]);
    expect(chosen(lens, 0, 0, new Set([1]))).toBe(0.25);
    expect(chosen(lens, 0, 0, new Set([3]))).toBeNull();
    expect(strength(lens, 2, 2, "entropy", new Set())).toBe(1);
  });
  it("that do not fit are refused", () => {
    const view = { ...lens.view, tokens: ["one"] };
    expect(() => lensOf(data, 0, view)).toThrow("do not fit");
    const el = place();
    const broken = { ...data, tensors: {} };
    act(() => render(<LensView {...viewProps(broken, start)} />, el));
    expect(el.textContent).toContain("do not fit");
  });
  it("are searched by the very token, by its letters, by its beginning", () => {
    expect([...matching(lens, "·Paris")]).toEqual([1]);
    expect([...matching(lens, "paris")]).toEqual([1]);
    expect([...matching(lens, "par")]).toEqual([1]);
    const both = { ...lens, view: { ...lens.view, names: ["the", " the", "\n", " "] } };
    expect([...matching(both, "the")]).toEqual([0, 1]);
    expect([...matching(both, "·the")]).toEqual([1]);
    expect([...matching(both, "↵")]).toEqual([2]);
    expect([...matching(both, "·")]).toEqual([3]);
    expect(matching(lens, "nowhere").size).toBe(0);
    expect(matching(lens, "").size).toBe(0);
  });
});

describe("the picture", () => {
  const look = { colour: "probability" as const, names: new Set([1]), outline: true, cell: 80, from: 0, to: 3, left: 34, dark: false };
  it("has the last layer on top, and outlines where the token is first", () => {
    const list = shapes(lens, look);
    const texts = list.filter((s) => "text" in s);
    expect(texts.find((s) => s.text === "1")!.y).toBeLessThan(texts.find((s) => s.text === "in")!.y);
    expect(list.filter((s) => "stroke" in s && s.stroke)).toHaveLength(2);
    expect(texts.some((s) => s.text.includes("\u202e"))).toBe(false);
  });
  it("draws narrow cells without text, and only what is in sight", () => {
    const wide = lensData(1000, 33);
    const many = lensOf(wide, 0, wide.page.results[0].view as View);
    const list = shapes(many, { ...look, outline: false, cell: 0.9, to: 1000 });
    expect(list.filter((s) => "text" in s)).toHaveLength(33);
    expect(list.every((s) => "text" in s || s.w >= 1)).toBe(true);
    expect(shapes(many, { ...look, from: 100, to: 112 }).length).toBeLessThan(12 * 33 * 3);
  });
  it("as a file has all tokens, the sentence and a legend with numbers", () => {
    const texts = poster(lens, { colour: "entropy", names: new Set(), outline: false, dark: true }).list.flatMap((s) => ("text" in s ? [s.text] : []));
    expect(texts).toContain("The choice is first from layer 1 on.");
    expect(texts).toContain("8.00");
    expect(texts.filter((t) => t === "·t2")).toHaveLength(2);
  });
  it("keys move by one cell and stop at the edges", () => {
    expect(moved({ key: "ArrowUp" }, 2, 0, lens)).toEqual([2, 0]);
    expect(moved({ key: "ArrowDown" }, 2, 0, lens)).toEqual([1, 0]);
    expect(moved({ key: "End" }, 1, 0, lens)).toEqual([1, 2]);
    expect(moved({ key: "x" }, 1, 0, lens)).toBeNull();
  });
});

describe("the view", () => {
  it("says the sentence and starts where the model speaks", () => {
    const { el } = shownView();
    expect(el.querySelector(".lens-sentence")!.textContent).toContain("first from layer 1 on");
    expect(el.querySelector(".lens-detail h2")!.textContent).toContain("after layer 1");
  });
  it("moves by keys, remembers the cell, says it", () => {
    const { el, props } = shownView();
    press(el.querySelector(".lens-scroll")!, "ArrowLeft");
    expect(props.state.value.cell).toBe("2:1");
    expect(props.said[0]).toContain("at ·t1");
    expect(el.querySelector(".lens-detail")!.textContent).toContain("\\u202eevil");
  });
  it("takes a cell from the address, and no nonsense", () => {
    expect(shownView({ cell: "0:1" }).el.querySelector("h2")!.textContent).toContain("embedding");
    expect(shownView({ cell: "99:x" }).el.querySelector("h2")!.textContent).toContain("after layer 1");
  });
  it("has a table twin with the same words", () => {
    const { el } = shownView();
    click(button(el, "Show as table"));
    const rows = [...el.querySelectorAll(".lens-table tbody tr")].map((r) => r.textContent);
    expect(rows).toHaveLength(3);
    expect(rows[2]).toContain("in</script> 50.0 %");
    expect(el.querySelector("script")).toBeNull();
  });
  it("counts the cells where a token is first", () => {
    expect(shownView({ token: "paris" }).el.querySelector("[role=status]")!.textContent).toBe("first in 2 of 9 cells");
    expect(shownView({ token: "zzz" }).el.querySelector("[role=status]")!.textContent).toContain("not among");
  });
  it("is short at plain depth and names the site at expert depth", () => {
    const plain = shownView({}, { depth: "plain" }).el;
    expect(plain.textContent).toContain("from layer 1 on");
    expect(plain.querySelector(".lens-scroll")).toBeNull();
    expect(plain.querySelectorAll("tbody tr")).toHaveLength(3);
    expect(shownView({}, { depth: "expert" }).el.textContent).toContain("resid_post.1");
  });
});
