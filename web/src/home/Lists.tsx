// The lists of the start page: what runs, what is there, examples.

import { useEffect, useRef, useState } from "preact/hooks";
import { percent, plain, seconds, short } from "../core/format";
import * as api from "../shells/api";
import { follow, go, path } from "../shells/route";
import { awaited, damaged, dismiss, examples, jobs, remove, run, saved } from "./jobs";

const FEW = 12;
/** What the stages of a run mean. */
const STAGES: Record<string, string> = {
  load: "loading the model",
  forward: "running the model",
  select: "finding the parts that matter",
  graph: "drawing what leads to what",
  verification: "testing the explanation",
  interventions: "switching groups off and doubling them",
  write: "writing it down",
};

export function Jobs() {
  if (jobs.value.length === 0) return null;
  return (
    <section>
      <h2>Runs</h2>
      <ul class="items">
        {jobs.value.map((job) => (
          <JobItem key={job.id} job={job} />
        ))}
      </ul>
    </section>
  );
}

function JobItem({ job }: { job: api.Job }) {
  const [problem, setProblem] = useState("");
  const [stopping, setStopping] = useState(false);
  const name = `${job.verb}: ${plain(short(String(job.arguments.prompt ?? ""), 80))}`;
  const over = api.ended(job);
  const trying = (work: Promise<unknown>) =>
    work.catch((error: Error) => {
      setStopping(false);
      setProblem(error.message);
    });
  return (
    <li>
      <b>{name}</b>
      {!over && (
        <>
          <progress aria-label={`Progress of ${name}`} max={1} value={job.status === "running" ? job.done : 0} />
          <div class="line">
            <span class="soft">
              {job.status === "waiting" ? "waiting for its turn" : plain(STAGES[job.stage] ?? (job.stage || "starting"))}
              {job.status === "running" && ` · ${percent(job.done)}`}
              {job.left !== null && job.status === "running" && ` · about ${seconds(job.left)} left`}
              {awaited.value === job.id && " · opens when it is done"}
            </span>
            <button
              disabled={stopping}
              onClick={() => {
                setStopping(true);
                void trying(api.cancel(job.id));
              }}
            >
              {stopping ? "Cancelling …" : "Cancel"}
            </button>
          </div>
        </>
      )}
      {over && (
        <div class="line">
          <span role="status">
            {job.status === "done" && job.result && (
              <>
                Done in {seconds(job.seconds)}:{" "}
                <a href={path("r", job.result)} onClick={follow}>
                  look at it
                </a>
              </>
            )}
            {job.status === "failed" && <span class="failed">Failed: {plain(job.error ?? "no reason was given")}</span>}
            {job.status === "cancelled" && "Cancelled."}
          </span>
          <span>
            {job.status !== "done" && (
              <button
                onClick={() => {
                  dismiss(job.id);
                  void trying(run(job.verb, job.arguments));
                }}
              >
                Run again
              </button>
            )}{" "}
            <button onClick={() => dismiss(job.id)}>Dismiss</button>
          </span>
        </div>
      )}
      {problem && <p role="alert">{plain(problem)}</p>}
    </li>
  );
}

export function Results() {
  const [picked, setPicked] = useState<string[]>([]);
  const [most, setMost] = useState(FEW);
  const list = saved.value;
  const there = picked.filter((id) => list?.some((r) => r.id === id));
  const pick = (id: string, on: boolean) => setPicked(on ? [...there, id].slice(-2) : there.filter((old) => old !== id));
  return (
    <section>
      <div class="line">
        <h2>Recent results</h2>
        {list && list.length > 1 && (
          <button disabled={there.length !== 2} onClick={() => go(path("compare", there[0], there[1]))} title="Tick two results">
            Compare two
          </button>
        )}
      </div>
      {!list && <p class="soft">Loading …</p>}
      {list?.length === 0 && <p class="soft">None yet. What you run is kept here.</p>}
      <ul class="items">
        {list?.slice(0, most).map((result) => (
          <ResultItem key={result.id} result={result} picked={there.includes(result.id)} pick={pick} />
        ))}
      </ul>
      {damaged.value.length > 0 && <p class="soft">Cannot be read: {plain(short(damaged.value.join("; "), 300))}</p>}
      {list && list.length > most && <button onClick={() => setMost(most + 5 * FEW)}>Show more ({list.length - most})</button>}
    </section>
  );
}

interface ItemProps {
  result: api.Saved;
  picked: boolean;
  pick(id: string, on: boolean): void;
}

function ResultItem({ result, picked, pick }: ItemProps) {
  const [asking, setAsking] = useState<boolean | null>(null);
  const safe = useRef<HTMLButtonElement>(null);
  const again = useRef<HTMLButtonElement>(null);
  // the question takes the focus, its answer gives it back
  useEffect(() => {
    if (asking !== null) (asking ? safe : again).current?.focus();
  }, [asking]);
  const [problem, setProblem] = useState("");
  const title = plain(short(result.title || result.id, 100));
  return (
    <li class="result">
      <label class="tick">
        <input type="checkbox" checked={picked} onChange={(e) => pick(result.id, e.currentTarget.checked)} />
        <span class="hidden">Compare {title}</span>
      </label>
      <div>
        <a href={path("r", result.id)} onClick={follow}>
          {title}
        </a>
        {result.sentence && <p>{plain(short(result.sentence, 180))}</p>}
        <div class="line">
          <span class="soft">{[result.model ? plain(result.model) : "", when(result.created, Date.now())].filter(Boolean).join(" · ")}</span>
          {asking ? (
            <span role="group" aria-label={`Delete ${title}?`}>
              Delete for ever?{" "}
              <button onClick={() => void remove(result.id).catch((error: Error) => setProblem(error.message))}>Delete</button>{" "}
              <button ref={safe} onClick={() => setAsking(false)}>
                Keep
              </button>
            </span>
          ) : (
            <button ref={again} aria-label={`Delete ${title}`} onClick={() => setAsking(true)}>
              Delete
            </button>
          )}
        </div>
        {problem && <p role="alert">{plain(problem)}</p>}
      </div>
    </li>
  );
}

export function Gallery() {
  const list = examples.value;
  if (!list?.length) return null;
  return (
    <section>
      <h2>Examples to look at</h2>
      <ul class="cards">
        {list.map((example) => (
          <li key={example.name}>
            <a href={path("example", example.name)} onClick={follow}>
              <b>{plain(example.question || example.title)}</b>
              <span>{plain(example.finding)}</span>
              {example.fails && <span class="badge refuted">The explanation fails here</span>}
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** How long ago, in words; the date past a week. `created` is ISO text or seconds. */
export function when(created: string | number, now: number): string {
  const then = typeof created === "number" ? created * 1000 : Date.parse(created);
  if (!Number.isFinite(then)) return "";
  const minutes = Math.round((now - then) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 24 * 60) return `${Math.round(minutes / 60)} h ago`;
  const days = Math.round(minutes / 60 / 24);
  return days < 7 ? `${days} day${days === 1 ? "" : "s"} ago` : new Date(then).toISOString().slice(0, 10);
}
