import { signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { choices, Home, wished } from "../src/home/Home";
import { awaited, jobs, run } from "../src/home/jobs";
import { when } from "../src/home/Lists";
import { beside, startTour, Tour, tourSteps } from "../src/home/Tour";
import { lost, LOST, retry, Trouble, call, type Job } from "../src/shells/api";
import { startApp } from "../src/shells/app";
import { route, routeOf } from "../src/shells/route";
import { button, click, fakeFetch, gzip, lensData, place, press, safetensors, settle } from "./helpers";

const saved = (id: string) => ({ id, kind: "trace", title: `trace: ${id} </script>`, sentence: "It is so.", prompt: "p", model: "m", created: "2026-01-01T00:00:00Z", bytes: 1 });
const job = (more: Partial<Job>): Job => ({ id: "j1", verb: "trace", arguments: { prompt: "Hello" }, status: "running", stage: "forward", done: 0.25, seconds: 3, left: 9, result: null, error: null, ...more });
const table = () => ({
  "GET /api/status": { version: "1", model: null, loading: false, models: [{ name: "small", fetched: true }] },
  "GET /api/results": { results: [saved("a"), saved("b"), saved("c")], damaged: ["x.json: cut off"] },
  "GET /api/jobs": { jobs: [] as Job[] },
  "GET /api/gallery": { examples: [{ name: "good", title: "t", question: "Why?", finding: "So.", fails: false }, { name: "bad", title: "t", question: "How?", finding: "–", fails: true }] },
  "POST /api/jobs": { job: "j1" },
}) as Record<string, unknown>;

let el: HTMLElement;
async function home() {
  el = place();
  act(() => render(<Home look={signal({ theme: "auto" })} setLook={() => {}} />, el));
  await settle();
}
const type = (text: string) => {
  const box = el.querySelector("textarea")!;
  act(() => {
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  });
  return box;
};

beforeEach(() => {
  vi.stubGlobal("EventSource", undefined); // polling
  vi.stubGlobal("scrollTo", () => {});
  [jobs.value, awaited.value, lost.value, wished.value] = [[], "", false, null];
  history.replaceState(null, "", "/");
  route.value = { at: "home" };
});
afterEach(() => act(() => render(null, el)));

describe("home", () => {
  it("lists results and examples as text, and marks the failing one", async () => {
    fakeFetch(table());
    await home();
    expect(el.querySelectorAll("li.result")).toHaveLength(3);
    expect(el.textContent).toContain("trace: a </script>");
    expect(el.querySelectorAll(".cards .badge")).toHaveLength(1);
    expect(el.textContent).toContain("Cannot be read: x.json: cut off");
  });
  it("runs on Enter, shows progress, opens what is done", async () => {
    const now = job({});
    let known: Job[] = []; // nothing runs at the start
    const server = fakeFetch({ ...table(), "GET /api/jobs": () => ({ jobs: known }) });
    await home();
    known = [now];
    press(el.querySelector("textarea")!, "Enter");
    expect(el.querySelector("[role=alert]")!.textContent).toContain("start of a sentence");
    press(type(" The capital"), "Enter");
    await settle();
    expect(server.calls.find((c) => c.startsWith("POST"))).toContain('{"verb":"trace","arguments":{"prompt":" The capital"}}');
    expect(el.querySelector("progress")!.value).toBe(0.25);
    expect(el.textContent).toContain("running the model · 25 % · about 9.0 s left");
    known = [job({ status: "done", result: "r9" })];
    await vi.waitFor(() => expect(location.pathname).toBe("/r/r9"), 3000);
  });
  it("does not take people away who write on; failures are one line", async () => {
    let now = job({ id: "j2" });
    fakeFetch({ ...table(), "POST /api/jobs": { job: "j2" }, "GET /api/jobs": () => ({ jobs: [now] }) });
    await home();
    press(type("x"), "Enter");
    await settle();
    type("xy");
    now = job({ id: "j2", status: "failed", error: "target must be one token" });
    await vi.waitFor(() => expect(el.textContent).toContain("Failed: target must be one token"), 3000);
    expect(location.pathname).toBe("/");
    expect(button(el, "Run again")).toBeDefined();
  });
  it("compares two, deletes after asking", async () => {
    const server = fakeFetch({ ...table(), "DELETE /api/results/a": {} });
    await home();
    expect(button(el, "Compare")!.disabled).toBe(true);
    for (const box of [...el.querySelectorAll<HTMLInputElement>(".tick input")].slice(0, 2)) click(box);
    click(button(el, "Compare"));
    expect(location.pathname).toBe("/compare/a/b");
    click(el.querySelector("[aria-label^='Delete trace: a']"));
    expect(document.activeElement!.textContent!.trim()).toBe("Keep");
    click(button(el.querySelector("[role=group]")!, "Delete"));
    await settle();
    expect(server.calls).toContain("DELETE /api/results/a");
    expect(el.querySelectorAll("li.result")).toHaveLength(2);
  });
  it("says how large a file is that is too large", async () => {
    fakeFetch(table());
    await home();
    const input = el.querySelector<HTMLInputElement>("input[type=file]")!;
    const file = new File(["x"], "big.json");
    Object.defineProperty(file, "size", { value: 3 * 2 ** 30 });
    Object.defineProperty(input, "files", { value: [file] });
    act(() => void input.dispatchEvent(new Event("change", { bubbles: true })));
    expect(el.textContent).toContain("big.json is 3072 MB; files over 256 MB are not read.");
  });
  it("takes a prompt from an example", async () => {
    fakeFetch(table());
    wished.value = { prompt: "From there", verb: "lens" };
    await home();
    expect(el.querySelector("textarea")!.value).toBe("From there");
    expect(el.querySelector<HTMLInputElement>("input[value=lens]")!.checked).toBe(true);
  });
  it("sends only the options of the verb, spaces kept", () => {
    const form = new FormData();
    for (const [k, v] of Object.entries({ model: "", target: " Paris", contrast: " ", counterfactual: "One\n\nTwo", nodes: "50", top: "9" })) form.set(k, v);
    expect(choices(form, "trace")).toEqual({ target: " Paris", counterfactual: ["One", "Two"], nodes: 50 });
    expect(choices(form, "lens")).toEqual({ top: 9 });
    for (const [k, v] of Object.entries({ system: "Be brief. ", answer_token: "2" })) form.set(k, v);
    expect(choices(form, "lens")).toEqual({ top: 9 }); // of a question only
    form.set("chat", "on");
    expect(choices(form, "lens")).toEqual({ chat: true, system: "Be brief. ", answer_token: 2, top: 9 });
  });
  it("says when", () => {
    const now = Date.parse("2026-01-08T12:00:00Z");
    expect(when("2026-01-08T11:59:50Z", now)).toBe("just now");
    expect(when("2026-01-08T09:00:00Z", now)).toBe("3 h ago");
    expect(when(now / 1000 - 86_400, now)).toBe("1 day ago");
    expect(when("2025-01-01T00:00:00Z", now)).toBe("2025-01-01");
    expect(when("nonsense", now)).toBe("");
  });
});

describe("the server", () => {
  beforeEach(() => void (el = place()));
  it("that is lost is one line, and found again", async () => {
    const server = fakeFetch(table());
    server.down = true;
    await expect(call("/api/status")).rejects.toThrow(LOST);
    expect(lost.value).toBe(true);
    server.down = false;
    await retry();
    expect(lost.value).toBe(false);
  });
  it("refuses in its own words", async () => {
    const answer = (status: number) => new Response('{"error":"one line"}', { status });
    fakeFetch({ "GET /a": answer(401), "GET /b": answer(400), "GET /c": new Response("<html>", { status: 500 }) });
    await expect(call("/a")).rejects.toThrow("link that the terminal printed");
    await expect(call("/b")).rejects.toThrow("one line");
    await expect(call("/c")).rejects.toThrow("500");
    expect(await call("/none").catch((e: Trouble) => e.why)).toBe("gone");
  });
  it("that forgot a job ends the watching", async () => {
    const server = fakeFetch({ ...table(), "POST /api/jobs": { job: "j7" } });
    await run("trace", { prompt: "x" });
    await vi.waitFor(() => expect(jobs.value[0].status).toBe("failed"), 3000);
    expect(jobs.value[0].error).toBe("The server was started again; run it once more.");
    await settle();
    const asked = server.calls.length;
    await new Promise((done) => setTimeout(done, 1000));
    expect(server.calls.length).toBe(asked);
  });
  it("is watched by one stream, however many jobs; by none while the page is hidden", async () => {
    const open: Stream[] = [];
    class Stream {
      onmessage?: (event: { data: string }) => void;
      constructor(readonly url: string) {
        open.push(this);
      }
      close() {
        open.splice(open.indexOf(this), 1);
      }
      say(...changed: Job[]) {
        act(() => this.onmessage!({ data: JSON.stringify({ jobs: changed }) }));
      }
    }
    vi.stubGlobal("EventSource", Stream);
    const eight = Array.from({ length: 8 }, (_, i) => job({ id: `j${i}`, status: i ? "waiting" : "running" }));
    fakeFetch({ ...table(), "GET /api/jobs": { jobs: eight } });
    await home();
    expect(open.map((s) => s.url)).toEqual(["/api/jobs/events"]);
    open[0].say(...eight);
    open[0].say({ ...eight[0], done: 0.5 });
    expect(el.querySelectorAll("progress")).toHaveLength(8);
    expect(jobs.value.find((j) => j.id === "j0")!.done).toBe(0.5);
    const hidden = vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
    document.dispatchEvent(new Event("visibilitychange"));
    expect(open).toHaveLength(0);
    hidden.mockRestore();
    document.dispatchEvent(new Event("visibilitychange"));
    expect(open).toHaveLength(1);
    open[0].say(...eight.map((j): Job => ({ ...j, status: "cancelled" })));
    await settle();
    expect(open).toHaveLength(0); // nothing is left to watch
    expect(el.querySelectorAll("progress")).toHaveLength(0);
  });
});

describe("the app", () => {
  it("knows its addresses", () => {
    expect(routeOf("/")).toEqual({ at: "home" });
    expect(routeOf("/r/a%2Fb")).toEqual({ at: "result", id: "a/b" });
    expect(routeOf("/compare/a/b")).toEqual({ at: "compare", a: "a", b: "b" });
    expect(routeOf("/r/%").at).toBe("unknown");
  });
  it("opens a result, keeps its state in the address, survives a lost server, says what is gone", async () => {
    const data = lensData();
    const bytes = await gzip(safetensors(data.page, data.tensors));
    const server = fakeFetch({ ...table(), "GET /api/results/l1": () => bytes, "PUT /api/results/l1/state": {} });
    document.body.innerHTML = '<div id="hooke-app"></div>';
    el = document.getElementById("hooke-app")!;
    history.replaceState(null, "", "/r/l1#token=paris");
    server.down = true;
    act(() => startApp());
    await settle();
    expect(el.textContent).toContain("The server does not answer");
    server.down = false;
    click(button(el, "Try again"));
    await settle();
    await vi.waitFor(() => expect(el.querySelector<HTMLInputElement>("input[type=search]")!.value).toBe("paris"), 2000);
    expect(el.textContent).not.toContain("does not answer");
    click(button(el, "Entropy"));
    expect(location.hash).toBe("#colour=entropy&token=paris");
    click(button(el, "Save"));
    await settle();
    expect(server.calls.find((c) => c.startsWith("PUT"))).toContain('"colour":"entropy"');
    expect(location.pathname).toBe("/r/l1");
    // a last change, and away at once: it is in the entry that is left
    const entries: string[] = [];
    for (const way of ["pushState", "replaceState"] as const) {
      const real = history[way].bind(history);
      vi.spyOn(history, way).mockImplementation((...given) => {
        entries.push(`${way} ${given[2] ?? ""} ${(given[0] as { picture?: { token?: string } })?.picture?.token ?? ""}`.trim());
        real(...given);
      });
    }
    const search = el.querySelector<HTMLInputElement>("input[type=search]")!;
    act(() => {
      search.value = "rome";
      search.dispatchEvent(new Event("input", { bubbles: true }));
    });
    click(el.querySelector(".brand"));
    await settle();
    expect(entries).toEqual(["replaceState /r/l1#token=rome rome", "pushState /"]);
    vi.restoreAllMocks();
    expect(el.querySelector("#hooke-prompt")).not.toBeNull();
    act(() => {
      history.pushState(null, "", "/r/nothing");
      dispatchEvent(new PopStateEvent("popstate"));
    });
    await settle();
    expect(el.textContent).toContain("It may have been deleted.");
    expect(el.querySelector('a[href="/"]')).not.toBeNull();
  });
});

describe("the tour", () => {
  it("has seven steps of at most 40 words", () => {
    expect(tourSteps).toHaveLength(7);
    for (const step of tourSteps) expect(step.text.split(" ").length).toBeLessThanOrEqual(40);
  });
  it("visits what is there, keeps its place, traps Tab, ends at Esc", () => {
    el = place();
    const make = (name: string) => `<div data-tour="${name}"></div>`;
    el.innerHTML = `${make("sentence")}${make("graph")}${make("detail")}<button id="before">b</button><div id="tour"></div>`;
    document.getElementById("before")!.focus();
    act(() => render(<Tour host={el} />, document.getElementById("tour")!));
    expect(el.querySelector(".tour-card")).toBeNull();
    act(() => startTour(el));
    const card = () => el.querySelector(".tour-card")!;
    expect(card().textContent).toContain("1 of 4"); // the step of changing falls back on the detail
    press(document.activeElement!, "ArrowRight");
    expect(card().textContent).toContain("2 of 4");
    for (let i = 0; i < 5; i++) {
      press(document.activeElement!, "Tab");
      expect(card().contains(document.activeElement)).toBe(true);
    }
    press(document.activeElement!, "Escape");
    expect(el.querySelector(".tour-card")).toBeNull();
    expect(document.activeElement!.id).toBe("before");
    act(() => startTour(el));
    expect(card().textContent).toContain("2 of 4");
    for (let i = 0; i < 3; i++) click(button(card(), i < 2 ? "Next" : "Done"));
    expect(el.querySelector(".tour-card")).toBeNull();
    act(() => render(null, document.getElementById("tour")!));
  });
  it("keeps the card inside the window", () => {
    const { left, width } = beside({ left: 5000, right: 5100, top: 10, bottom: 20 });
    expect(parseInt(left) + parseInt(width)).toBeLessThanOrEqual(innerWidth);
  });
});
