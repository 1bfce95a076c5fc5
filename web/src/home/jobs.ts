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

let stop: (() => void) | undefined;

/** Asks for everything again: at the start, when the window gets focus, when the server is back, when a job ends. */
export async function refresh(): Promise<void> {
  try {
    const [now, results, list, cards] = await Promise.all([api.status(), api.results(), api.jobs(), examples.value ?? api.gallery()]);
    [status.value, saved.value, examples.value] = [now, results.results, cards];
    damaged.value = results.damaged ?? [];
    for (const job of list) if (!api.ended(job) && !known(job.id)) put(job);
    follow();
    if (trouble.value) trouble.value = "";
  } catch (error) {
    const { why, message } = error as api.Trouble;
    if (why !== "lost") trouble.value = message;
  }
}

export async function run(verb: string, args: api.Job["arguments"]): Promise<void> {
  const id = await api.start(verb, args);
  awaited.value = id;
  if (!known(id)) put({ id, verb, arguments: args, status: "waiting", stage: "", done: 0, seconds: 0, left: null, result: null, error: null });
  follow();
}

export function dismiss(id: string): void {
  jobs.value = jobs.value.filter((job) => job.id !== id);
}

export async function remove(id: string): Promise<void> {
  await api.remove(id);
  saved.value = (saved.value ?? []).filter((result) => result.id !== id);
}

const known = (id: string): api.Job | undefined => jobs.value.find((job) => job.id === id);

/** Watches as long as something is left to run. */
function follow(): void {
  if (jobs.value.some((job) => !api.ended(job))) stop ??= api.watch(told);
  else {
    stop?.();
    stop = undefined;
  }
}

function told(changed: api.Job[], all: boolean): void {
  const open = jobs.value.filter((job) => !api.ended(job));
  for (const job of changed) if (known(job.id) || !api.ended(job)) put(job);
  if (all) for (const job of open) if (!changed.some((now) => now.id === job.id)) void forgotten(job);
  if (open.some((job) => api.ended(known(job.id)!))) void refresh();
  follow();
}

/** A server that started again does not know the job any more; one that has it was only asked too early. */
async function forgotten(job: api.Job): Promise<void> {
  const now = await api.job(job.id).catch((error: api.Trouble): api.Job | undefined => {
    return error.why === "gone" ? { ...job, status: "failed", error: "The server was started again; run it once more." } : undefined;
  });
  if (now) told([now], false);
}

function put(job: api.Job): void {
  jobs.value = known(job.id) ? jobs.value.map((old) => (old.id === job.id ? job : old)) : [job, ...jobs.value];
}
