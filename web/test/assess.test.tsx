// A report, and the pictures of probes: what is said, where it leads, and what an address may not bring.

import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, describe, expect, it } from "vitest";
import type { PageData, State } from "../src/core/contract";
import { mount } from "../src/mount";
import { ProbeView } from "../src/probe/ProbeView";
import type { AssessView, ProbeView as Probe } from "../src/types";
import { click, lensData, pageOf, place, settle, shown, viewProps } from "./helpers";

const [TABLE, LENS] = ["a".repeat(32), "b".repeat(32)];
const EVIL = "</script><img src=x>\u202e";

function report(more: Partial<AssessView> = {}): PageData {
  const lens = lensData();
  const view: AssessView = {
    type: "assess",
    subject: { name: "subject" + EVIL },
    reference: null,
    claims: [
      { id: "c1", section: "difference", text: "It moved" + EVIL, verdict: "tested", role: "measured", evidence: [`${TABLE}#rows.1`, LENS] },
      { id: "c2", section: "limits", text: "Nobody looked there", verdict: "untested", role: "gap", evidence: [TABLE] },
      { id: "c3", section: "findings", text: "It is a backdoor", verdict: "tested", role: "finding", evidence: [LENS] },
      { id: "c4", section: "controls", text: "A control", verdict: "refuted", role: "control", evidence: [TABLE] },
    ],
    controls: [{ name: "a control", kind: "negative", behaviour: [], expected: "not flagged", found: "flagged", passed: false, evidence: [TABLE] }],
    validated: false,
    sections: [
      { key: "controls", title: "Controls", stamp: null },
      { key: "difference", title: "Difference", stamp: "instrument not validated" },
      { key: "findings", title: "Findings", stamp: "instrument not validated" },
      { key: "limits", title: "Limits", stamp: "instrument not validated" },
    ],
    findings: [{ rank: 1, hypothesis: "A backdoor", kind: "backdoor", score: 3.2, threshold: null, flagged: true, tokens: Array.from({ length: 15 }, (_, i) => ` t${i}`), evidence: [LENS], hits: 11, n: 12, interval: [0.615, 0.998] }],
    quick: true,
    false_alarms: { count: 0, n: 7, upper_95: 0.3482 },
    evidence: [{ title: "a table", left_out: ["rows: the first 2 of 9 entries are here"] }, { title: "a lens", left_out: [] }],
    places: { [`${TABLE}#rows.1`]: { node: null, value: { area: "places", kl: 0.5 } } },
    ...more,
  };
  const table = { ...shown("table", { type: "generic", payload: { rows: [{ area: "recipes" }, { area: "places" }] } }), id: TABLE };
  const tensors = Object.fromEntries(Object.entries(lens.tensors).map(([name, t]) => [name.replace(/^0/, "2"), t]));
  return { page: pageOf(shown("assess", view), table, { ...lens.page.results[0], id: LENS }), tensors };
}

function open(data: PageData, state: State = {}) {
  const el = place();
  const said: [State, string][] = [];
  let handle!: ReturnType<typeof mount>;
  act(() => {
    handle = mount(el, data, { state, onState: (now, how) => said.push([now, how]) });
  });
  return { el, said, handle };
}

const ways = (el: Element) => [...el.querySelectorAll<HTMLAnchorElement>(".ways a")];
const heading = (el: Element) => el.querySelector(".assess > h2")?.textContent ?? "";
afterEach(() => document.body.replaceChildren());

describe("a report", () => {
  it("says first what was found and what was not looked at, and every sentence with its ways", () => {
    const { el } = open(report());
    expect([...el.querySelectorAll("h2")].map((h) => h.textContent)).toEqual(["Findings", "Limits", "Controls", "Difference"]);
    expect(el.textContent).toContain("False alarms: these rules flag 0 of 7 clean fine-tunes, so the rate may be as high as 35 %");
    expect(el.textContent).toContain("1 finding is flagged. The other sentences: 1 measured and not flagged, 1 of controls, 0 about the run, 1 not tested.");
    const badges = [...el.querySelectorAll("li .badge")].map((b) => `${b.className}: ${b.textContent}`);
    expect(badges).toEqual(["badge role-finding: flagged", "badge role-gap: not tested", "badge role-control failed: control failed", "badge role-measured: measured"]);
    expect(el.textContent).toContain("11 of 12");
    expect(el.textContent).toMatch(/6[12]–100 %/);
    expect(el.textContent).toContain("with no reference to compare it with");
    expect(el.querySelectorAll(".stamp")).toHaveLength(5); // QUICK, not validated, and each section
    expect(ways(el).map((a) => a.dataset.to)).toEqual([LENS, LENS, TABLE, TABLE, TABLE, `${TABLE}#rows.1`, LENS]);
    expect(ways(el)[5].textContent).toBe(`Evidence for It moved${EVIL.replace("\u202e", "\\u202e")}: table: rows.1`);
    expect(ways(el)[5].getAttribute("href")).toBe(`#open=${TABLE}%23rows.1`);
    expect(el.textContent).toContain("and 3 more");
    expect(el.querySelector("img, script")).toBeNull();
    expect(el.textContent).toContain("\\u202e");
  });

  it("opens evidence in its own view, as a step of the history, and goes back to where it was left", async () => {
    const { el, said, handle } = open(report());
    const last = ways(el)[4]; // the last of three ways to the same
    click(last);
    await settle();
    expect(heading(el)).toContain(`a table ${TABLE}`);
    expect(said.at(-1)).toEqual([expect.objectContaining({ open: TABLE, at: {} }), "push"]);
    expect(el.textContent).toContain("On it rests: Nobody looked there · A control · control a control");
    expect(el.textContent).toContain("rows: the first 2 of 9 entries are here");
    act(() => handle.update(undefined, { open: "" })); // as the browser's Back does
    await settle();
    expect(document.activeElement).toBe(ways(el)[4]);
  });

  it("shows the place that the id leads to", () => {
    const { el } = open(report(), { open: `${TABLE}#rows.1` });
    expect(el.querySelector(".assess > .generic h3")!.textContent).toBe("rows.1");
    expect(el.querySelector(".assess > .generic")!.textContent).toContain("places");
    expect(el.querySelectorAll(".generic")).toHaveLength(2);
  });

  it("keeps what is done in the evidence, of what fits it, and never runs", () => {
    const { el, said } = open(report(), { open: LENS, at: { cell: "1:2", colour: 7, runs: [{}], junk: 1 } });
    expect(heading(el)).toContain("a lens");
    expect(el.querySelector(".lens-detail h2")!.textContent).toContain("t2");
    const press = [...el.querySelectorAll("button")].find((b) => b.textContent === "Entropy")!;
    click(press);
    expect((said.at(-1)![0].at as State).colour).toBe("entropy");
  });

  it("stays the report when an address makes no sense", () => {
    for (const state of [{ open: "nothing" }, { open: 3 }, { open: "0123456789abcdef" }, { open: TABLE + "#nowhere", at: [1] }] as State[]) {
      const { el } = open(report(), state);
      expect(el.querySelector(".assess h2")).not.toBeNull();
    }
  });
});

describe("a probe", () => {
  const probe: Probe = {
    type: "probe",
    sentence: "It tells them apart.",
    positive: "true" + EVIL,
    notes: ["a note"],
    bars: [
      { name: "this probe", auroc: 0.9, interval: [0.86, 0.94], own: true },
      { name: "length", auroc: 0.5, interval: null, own: false },
    ],
    curve: { layers: [3, 4, 5], auroc: [0.5, null, 0.9], random_direction: [0.5, 0.5, 0.6] },
    roc: { fpr: [0, 0.2, 1], tpr: [0, 0.9, 1] },
    mistakes: [{ text: "x", label: "false", score: -2, tokens: [" a" + EVIL, "b"], token_scores: [-2, 1] }, { text: "whole", label: "true", score: null, tokens: [], token_scores: [] }],
    mistakes_of: 40,
    rest: { n: 200 },
  };
  const show = (view: Probe) => {
    const el = place();
    act(() => render(<ProbeView {...viewProps({ page: pageOf(shown("probe_test", view)), tensors: {} }, {})} />, el));
    return el;
  };
  it("stands beside its baselines, with numbers that can be read", () => {
    const el = show(probe);
    expect([...el.querySelectorAll(".bars tbody tr")].map((row) => `${row.children[0].textContent} ${row.children[2].textContent}`)).toEqual(["this probe 0.900 (0.860–0.940)", "length 0.500"]);
    expect(el.textContent).toContain("layer 3");
    expect(el.textContent).toContain("layer 5");
    expect(el.querySelectorAll(".chart path")).toHaveLength(4);
    expect(el.textContent).toContain("Worst mistakes, 2 of 40");
    const tokens = [...el.querySelectorAll<HTMLElement>("blockquote .tok")];
    expect(tokens.map((t) => t.title)).toEqual(["−2.00", "+1.00"]);
    expect(tokens[0].style.background).not.toBe(tokens[1].style.background);
    expect(el.querySelector("img, script")).toBeNull();
    expect(el.textContent).toContain("N200");
  });
  it("with nothing but tables is tables", () => {
    const el = show({ ...probe, bars: [], curve: null, roc: null, mistakes: [], notes: [], sentence: "" });
    expect(el.querySelectorAll("h2, svg, blockquote")).toHaveLength(0);
    expect(el.textContent).toBe("N200");
  });
});
