// What the home page knows of jobs and results; kept while people look at other pages.

import { signal } from "@preact/signals";
import * as api from "../shells/api";

export const jobs = signal<api.Job[]>([]);
export const saved = signal<api.Saved[] | null>(null);
export const damaged = signal<string[]>([]);
export const examples = signal<api.Example[] | null>(null);
export const status = signal<api.Status | null>(null);
/** The job whose result the person is waiting for: opened when it is done. */
export const awaited = signal("");
/** One line for the whole page. */
export const trouble = signal("");

const watched = new Map<string, () => void>();

/** Asks for everything again: at the start, when the window gets focus, when the server is back, when a job ends. */
export async function refresh(): Promise<void> {
  try {
    const [now, results, list, cards] = await Promise.all([api.status(), api.results(), api.jobs(), examples.value ?? api.gallery()]);
    [status.value, saved.value, examples.value] = [now, results.results, cards];
    damaged.value = results.damaged ?? [];
    for (const job of list) if (!api.ended(job)) follow(job);
    if (trouble.value) trouble.value = "";
  } catch (error) {
    const { why, message } = error as api.Trouble;
    if (why !== "lost") trouble.value = message;
  }
}

export async function run(verb: string, args: api.Job["arguments"]): Promise<void> {
  const id = await api.start(verb, args);
  awaited.value = id;
  follow({ id, verb, arguments: args, status: "waiting", stage: "", done: 0, seconds: 0, left: null, result: null, error: null });
}

export function dismiss(id: string): void {
  jobs.value = jobs.value.filter((job) => job.id !== id);
}

export async function remove(id: string): Promise<void> {
  await api.remove(id);
  saved.value = (saved.value ?? []).filter((result) => result.id !== id);
}

function follow(job: api.Job): void {
  if (watched.has(job.id)) return;
  put(job);
  watched.set(
    job.id,
    api.watch(job.id, (now) => {
      put(now);
      if (api.ended(now)) void refresh();
    }),
  );
}

function put(job: api.Job): void {
  const before = jobs.value.find((old) => old.id === job.id);
  // what is only said at the start is kept
  const now = before ? { ...before, ...job, verb: job.verb || before.verb, arguments: { ...before.arguments, ...job.arguments } } : job;
  jobs.value = before ? jobs.value.map((old) => (old.id === job.id ? now : old)) : [now, ...jobs.value];
}
