// Addresses of the local app, and moving between them without loading the page again.

import { signal } from "@preact/signals";

export type Route =
  | { at: "home" }
  | { at: "result"; id: string }
  | { at: "example"; name: string }
  | { at: "compare"; a: string; b: string }
  | { at: "unknown"; path: string };

export function routeOf(path: string): Route {
  let parts: string[];
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return { at: "unknown", path };
  }
  if (parts.length === 0) return { at: "home" };
  if (parts[0] === "r" && parts.length === 2) return { at: "result", id: parts[1] };
  if (parts[0] === "example" && parts.length === 2) return { at: "example", name: parts[1] };
  if (parts[0] === "compare" && parts.length === 3) return { at: "compare", a: parts[1], b: parts[2] };
  return { at: "unknown", path };
}

export const path = (kind: "r" | "example" | "compare", ...ids: string[]): string =>
  `/${kind}/${ids.map(encodeURIComponent).join("/")}`;

export const route = signal<Route>({ at: "home" });

/** What is still to be written into the entry of the history that is about to be left. */
export const leaving = new Set<() => void>();

export function go(to: string): void {
  for (const write of leaving) write();
  history.pushState(null, "", to);
  route.value = routeOf(to.split(/[?#]/)[0]);
  scrollTo(0, 0);
}

/** For links: a plain click stays in this document; everything else (a new tab) is left to the browser. */
export function follow(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go((event.currentTarget as HTMLAnchorElement).getAttribute("href")!);
}
