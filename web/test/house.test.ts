// The house rules of the page's sources: what no test of behaviour sees.

import { expect, it } from "vitest";

const sources = import.meta.glob<string>("../src/**/*.{ts,tsx}", { query: "?raw", import: "default", eager: true });

/** The sources that each one imports, types included. */
function imports(): Map<string, string[]> {
  const out = new Map<string, string[]>();
  for (const [path, text] of Object.entries(sources)) {
    const from = [...text.matchAll(/\bfrom "(\.[^"?]*)"/g)].map(([, to]) => new URL(to, `file:///test/${path}`).pathname.replace("/src/", "../src/"));
    out.set(path, from.map((to) => [`${to}.ts`, `${to}.tsx`].find((name) => name in sources)!));
  }
  return out;
}

it("finds every import", () => {
  const all = imports();
  expect(all.size).toBeGreaterThan(50);
  for (const [path, found] of all) expect([path, found.includes(undefined!)]).toEqual([path, false]);
  expect(all.get("../src/views.ts")).toContain("../src/assess/AssessView.tsx");
});

it("has no source that imports itself by way of others", () => {
  const all = imports();
  const done = new Set<string>();
  const walk = (path: string, way: string[]) => {
    expect(way.includes(path) ? [...way, path].join(" → ") : "").toBe("");
    if (done.has(path)) return;
    for (const next of all.get(path)!) walk(next, [...way, path]);
    done.add(path);
  };
  for (const path of all.keys()) walk(path, []);
});

it("says in its first line what each source is", () => {
  for (const [path, text] of Object.entries(sources)) {
    const [first] = text.split("\n");
    if (path !== "../src/types.ts") expect([path, first.startsWith("// ")]).toEqual([path, true]);
    expect([path, path !== "../src/types.ts" && text.split("\n").length > 500]).toEqual([path, false]);
  }
});
