// Talking to the local server: one place where failures become one line, and where it shows that the server is gone.

import { signal } from "@preact/signals";
import type { PageData, State } from "../core/contract";
import { unpack } from "../core/unpack";
import type { Intervention } from "../types";

export type Why = "lost" | "token" | "gone" | "refused";
export const LOST = "The server does not answer: is `hooke app` still running? Nothing is lost; what was finished is on disk.";
const TOKEN = "This page does not know the server's token. Use the link that the terminal printed when `hooke app` started.";
const AGAIN = 2000; // ms between looks for a lost server
const POLL = 700; // ms between looks at jobs where there is no event stream

export class Trouble extends Error {
  constructor(
    readonly why: Why,
    message: string,
  ) {
    super(message);
  }
}

/** True from the first request without an answer to the next one with one. */
export const lost = signal(false);

let waiting: ReturnType<typeof setTimeout> | undefined;

/** Looks whether the server is back, now and then every two seconds. */
export async function retry(): Promise<void> {
  clearTimeout(waiting);
  waiting = undefined;
  await call("/api/status").catch(() => {});
}

export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...init });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    lost.value = true;
    waiting ??= setTimeout(retry, AGAIN);
    throw new Trouble("lost", LOST);
  }
  lost.value = false;
  if (answer.ok) return answer;
  const line = await answer
    .json()
    .then((body) => String(body.error ?? body.detail ?? ""))
    .catch(() => "");
  if (answer.status === 401) throw new Trouble("token", TOKEN);
  if (answer.status === 404) throw new Trouble("gone", line || "This is not here (any more).");
  throw new Trouble("refused", line || `The server refused this (${answer.status}).`);
}

const json = async <T>(path: string, init?: RequestInit): Promise<T> => (await call(path, init)).json();
const send = (method: string, body: unknown): RequestInit => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});
const at = (kind: string, id: string, rest = ""): string => `/api/${kind}/${encodeURIComponent(id)}${rest}`;

export interface Status {
  version: string;
  model: string | null;
  loading: boolean;
  models: { name: string; fetched: boolean; note?: string }[];
}
export interface Saved {
  id: string;
  kind: string;
  title: string;
  sentence: string;
  prompt: string;
  model: string | null;
  created: string | number;
  bytes: number;
}
export interface Job {
  id: string;
  verb: string;
  arguments: { prompt?: string; [key: string]: unknown };
  status: "waiting" | "running" | "done" | "failed" | "cancelled";
  stage: string;
  done: number;
  seconds: number;
  left: number | null;
  result: string | null;
  error: string | null;
}
export interface Example {
  name: string;
  title: string;
  question: string;
  finding: string;
  fails: boolean;
}

export const status = () => json<Status>("/api/status");
/** What is on disk, newest first, and a line for each file that cannot be read. */
export const results = () => json<{ results: Saved[]; damaged?: string[] }>("/api/results");
export const remove = (id: string) => call(at("results", id), { method: "DELETE" });
export const gallery = async () => (await json<{ examples: Example[] }>("/api/gallery")).examples;
export const jobs = async () => (await json<{ jobs: Job[] }>("/api/jobs")).jobs;
export const job = (id: string) => json<Job>(at("jobs", id));
export const start = async (verb: string, args: object) =>
  (await json<{ job: string }>("/api/jobs", send("POST", { verb, arguments: args }))).job;
export const cancel = (id: string) => call(at("jobs", id), { method: "DELETE" });

async function pageAt(path: string): Promise<PageData> {
  return unpack(new Uint8Array(await (await call(path)).arrayBuffer()));
}
export const resultPage = (id: string) => pageAt(at("results", id));
export const examplePage = (name: string) => pageAt(at("gallery", name));
/** Outlives the page if it is short enough for that: what was done last is kept too. */
export const saveState = (id: string, state: State) =>
  call(at("results", id, "/state"), { ...send("PUT", { state }), keepalive: JSON.stringify(state).length < 60_000 });
export const html = async (id: string, state: State) => (await call(at("results", id, "/html"), send("POST", { state }))).blob();
export async function intervene(id: string, nodes: string[], op: "off" | "double"): Promise<Intervention> {
  const shown = await json<{ view: Intervention }>(at("results", id, "/intervene"), send("POST", { nodes, op }));
  return shown.view;
}
export async function openFile(file: File): Promise<string> {
  const headers = { "Content-Type": "application/octet-stream", "X-Name": encodeURIComponent(file.name) };
  return (await json<{ id: string }>("/api/open", { method: "POST", headers, body: file })).id;
}

/**
 * Tells of every change of every job, `tell` first of all that there are: by one event stream, or by asking where there
 * is none. Browsers allow six connections to a server in all tabs together, so a hidden page has none. Returns a stop.
 */
export function watch(tell: (changed: Job[], all: boolean) => void): () => void {
  let over = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let source: EventSource | undefined;
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = undefined;
  };
  const ask = async () => {
    const now = await jobs().catch(() => undefined); // a lost server is said elsewhere
    if (over || document.visibilityState === "hidden") return;
    timer = setTimeout(open, lost.value ? AGAIN : POLL);
    if (now) tell(now, true);
  };
  const open = () => {
    close();
    if (document.visibilityState === "hidden") return;
    if (typeof EventSource === "undefined") return void ask();
    let all = true;
    source = new EventSource("/api/jobs/events");
    source.onmessage = (event) => {
      const first = all;
      all = false;
      tell(JSON.parse(event.data).jobs as Job[], first);
    };
    source.onerror = () => {
      close();
      void ask();
    };
  };
  document.addEventListener("visibilitychange", open);
  open();
  return () => {
    over = true;
    close();
    document.removeEventListener("visibilitychange", open);
  };
}

export const ended = (now: Job): boolean => now.status === "done" || now.status === "failed" || now.status === "cancelled";
