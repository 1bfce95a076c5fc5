// The contract of every picture, and the notebook cell driven by a host of ten lines.

import { act } from "preact/test-utils";
import { afterEach, describe, expect, it, vi } from "vitest";
import { defaults, mount } from "../src/mount";
import { render, type WidgetModel } from "../src/shells/widget";
import { copy } from "../src/shells/file";
import type { State } from "../src/core/contract";
import { gzip, lensData, pageOf, safetensors, shown } from "./helpers";

const host = () => document.body.appendChild(document.createElement("div"));
afterEach(() => document.body.replaceChildren());

describe("mount", () => {
  it("draws, says what changed, takes what is given, and goes without a trace", () => {
    const el = host();
    const said: [State, string][] = [];
    let handle!: ReturnType<typeof mount>;
    act(() => {
      handle = mount(el, lensData(), { state: { depth: "expert" }, onState: (state, how) => said.push([state, how]) });
    });
    const pressed = () => [...el.querySelectorAll('[aria-label="Depth of detail"] button')].find((b) => b.getAttribute("aria-pressed") === "true")?.textContent;
    expect(pressed()).toBe("Expert");
    act(() => ([...el.querySelectorAll("button")].find((b) => b.textContent === "Plain") as HTMLButtonElement).click());
    expect(said.at(-1)![0].depth).toBe("plain");
    expect(JSON.parse(JSON.stringify(said.at(-1)![0]))).toEqual(said.at(-1)![0]); // plain JSON
    act(() => handle.update(undefined, { depth: "standard" }));
    expect(pressed()).toBe("Standard");
    const calls = said.length;
    act(() => handle.update(lensData(4)));
    expect(said.length).toBe(calls); // what is given is not said back
    act(() => handle.destroy());
    expect(el.childElementCount).toBe(0);
    expect(el.className).toBe("");
  });

  it("takes of foreign state only what has the type of its default", () => {
    const el = host();
    const data = lensData();
    const said: State[] = [];
    const given = JSON.parse('{"depth": 3, "theme": null, "__proto__": {"x": 1}, "constructor": 5, "junk": "x"}');
    act(() => void mount(el, data, { state: given, onState: (state) => said.push(state) }));
    act(() => ([...el.querySelectorAll("button")].find((b) => b.textContent === "Plain") as HTMLButtonElement).click());
    expect(Object.keys(said[0]).sort()).toEqual(Object.keys(defaults(data)).sort());
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });
});

describe("a saved copy", () => {
  it("holds the state once, and nothing in it can close a script", () => {
    document.body.innerHTML = '<div id="hooke"></div><script type="text/plain" id="hooke-data">AAAA</script>';
    const first = copy(document.documentElement, { find: "</script><script>alert(1)</script>\u2028" });
    expect(first).not.toContain("</script><script>alert");
    const again = new DOMParser().parseFromString(first, "text/html");
    const second = new DOMParser().parseFromString(copy(again.documentElement, { find: "b" }), "text/html");
    expect(second.querySelectorAll("#hooke-state").length).toBe(1);
    expect(JSON.parse(second.querySelector("#hooke-state")!.textContent!)).toEqual({ find: "b" });
    expect(JSON.parse(again.querySelector("#hooke-state")!.textContent!).find).toContain("alert(1)");
  });
});

class Host implements WidgetModel {
  sent: unknown[] = [];
  saved = 0;
  private heard = new Map<string, Set<(...args: any[]) => void>>();
  constructor(private values: Record<string, unknown>) {}
  get = (key: string): any => this.values[key];
  set = (key: string, value: unknown) => void (this.values[key] = value);
  save_changes = () => void this.saved++;
  on = (event: string, f: (...args: any[]) => void) => void (this.heard.get(event) ?? this.heard.set(event, new Set()).get(event)!).add(f);
  off = (event: string, f: (...args: any[]) => void) => void this.heard.get(event)?.delete(f);
  send = (message: unknown) => void this.sent.push(message);
  fire = (event: string, ...args: unknown[]) => this.heard.get(event)?.forEach((f) => f(...args));
  listeners = () => [...this.heard.values()].reduce((n, set) => n + set.size, 0);
}

describe("the notebook cell", () => {
  it("renders, gives its state to the kernel, takes the kernel's, and cleans up", async () => {
    const { page, tensors } = lensData();
    const bytes = await gzip(safetensors(page, tensors));
    const model = new Host({ data: btoa(String.fromCharCode(...bytes)), state: {}, live: false, height: 300 });
    const el = host();
    const clean = render({ model, el });
    const root = el.firstElementChild!.shadowRoot!;
    await vi.waitFor(() => expect(root.querySelector("h1")).not.toBeNull());
    act(() => ([...root.querySelectorAll("button")].find((b) => b.textContent === "Plain") as HTMLButtonElement).click());
    expect(model.get("state").depth).toBe("plain");
    expect(model.saved).toBe(1);
    model.set("state", { depth: "expert" });
    act(() => model.fire("change:state"));
    expect([...root.querySelectorAll("button")].find((b) => b.textContent === "Expert")!.getAttribute("aria-pressed")).toBe("true");
    act(clean);
    expect(el.childElementCount).toBe(0);
    expect(model.listeners()).toBe(0);
  });

  it("says what is wrong with damaged data", async () => {
    const el = host();
    render({ model: new Host({ data: "AAAA", state: {}, live: false, height: 300 }), el });
    await vi.waitFor(() => expect(el.firstElementChild!.shadowRoot!.textContent).toMatch(/damaged/));
  });

  it("shows a result that the page never heard of", async () => {
    const bytes = await gzip(safetensors(pageOf(shown("novelty", { type: "generic", payload: { rows: [{ a: 1, b: "x" }] } })), {}));
    const el = host();
    render({ model: new Host({ data: btoa(String.fromCharCode(...bytes)), state: {}, live: false, height: 300 }), el });
    await vi.waitFor(() => expect(el.firstElementChild!.shadowRoot!.querySelector("table")).not.toBeNull());
  });
});
