// The start page: ask, watch what runs, open what is there.

import { signal, type Signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { State } from "../core/contract";
import { plain, short } from "../core/format";
import { ThemeButton } from "../mount";
import * as api from "../shells/api";
import { go, path } from "../shells/route";
import { awaited, dismiss, examples, jobs, refresh, run, status, trouble } from "./jobs";
import { Gallery, Jobs, Results } from "./Lists";
import { startTour } from "./Tour";

/** A prompt that another page asks to be put into the box. */
export const wished = signal<{ prompt: string; verb: string } | null>(null);
const MAX_FILE = 256 * 2 ** 20;

const VERBS = [
  { verb: "trace", name: "Trace", means: "Which parts of the model made its next word, drawn as a map and tested" },
  { verb: "lens", name: "Lens", means: "What the model would say next after each of its layers" },
];

interface Props {
  look: Signal<State>;
  setLook(patch: State): void;
}

export function Home({ look, setLook }: Props) {
  const [said, say] = useState("");
  const [over, setOver] = useState(false);
  useEffect(() => {
    document.title = "Hooke";
    const seen = () => document.visibilityState !== "hidden" && void refresh();
    addEventListener("focus", seen);
    document.addEventListener("visibilitychange", seen);
    return () => {
      removeEventListener("focus", seen);
      document.removeEventListener("visibilitychange", seen);
      awaited.value = ""; // whoever leaves is not waiting any more
    };
  }, []);
  const away = api.lost.value;
  useEffect(() => void (away || refresh()), [away]);
  // the result that is waited for opens by itself
  const waited = jobs.value.find((job) => job.id === awaited.value);
  useEffect(() => {
    if (!waited || !api.ended(waited)) return;
    awaited.value = "";
    if (!waited.result) return;
    dismiss(waited.id);
    go(path("r", waited.result));
  }, [waited?.status]);
  const open = async (file: File | undefined) => {
    if (!file) return;
    if (file.size > MAX_FILE) return say(`${plain(file.name)} is ${Math.ceil(file.size / 2 ** 20)} MB; files over 256 MB are not read.`);
    say(`Reading ${plain(short(file.name, 60))} …`);
    try {
      go(path("r", await api.openFile(file)));
    } catch (error) {
      say(plain((error as Error).message));
    }
  };
  const example = examples.value?.find((e) => !e.fails);
  const tour = () => {
    startTour();
    go(path("example", example!.name));
  };
  return (
    <div
      class={over ? "dropping" : ""}
      onDragOver={(e) => {
        e.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(e) => {
        e.preventDefault();
        setOver(false);
        void open(e.dataTransfer?.files[0]);
      }}
    >
      <header class="bar">
        <h1>Hooke</h1>
        <span class="soft">a microscope for language models</span>
        <span class="push" />
        {example && <button onClick={tour}>Take the tour (six steps)</button>}
        <ThemeButton state={look} set={setLook} />
      </header>
      <main class="home">
        {trouble.value && (
          <div class="alert" role="alert">
            {plain(trouble.value)} <button onClick={() => void refresh()}>Try again</button>
          </div>
        )}
        <div class="home-columns">
          <div>
            <Ask />
            <Jobs />
            <Gallery />
          </div>
          <div>
            <Results />
            <section>
              <h2>Open a file</h2>
              <p class="soft">A saved result, or a graph made by circuit-tracer or Neuronpedia. Or drop it anywhere here.</p>
              <input type="file" aria-label="Open a file" accept=".json,application/json" onChange={(e) => void open(e.currentTarget.files?.[0])} />
              <p role="status">{said}</p>
            </section>
          </div>
        </div>
      </main>
    </div>
  );
}

function Ask() {
  const [prompt, setPrompt] = useState("");
  const [verb, setVerb] = useState("trace");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const box = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    const wish = wished.value;
    if (!wish) return;
    wished.value = null;
    setPrompt(wish.prompt);
    setVerb(wish.verb);
    box.current?.focus();
  }, []);
  const away = api.lost.value;
  useEffect(() => {
    if (!away) setError(""); // what was said while the server was away is not so any more
  }, [away]);
  const submit = async () => {
    if (busy) return;
    if (!prompt.trim()) {
      setError("Type the start of a sentence first.");
      box.current?.focus();
      return;
    }
    setBusy(true);
    setError("");
    try {
      await run(verb, { prompt, ...choices(new FormData(form.current!), verb) });
    } catch (problem) {
      setError((problem as Error).message);
    }
    setBusy(false);
  };
  return (
    <section>
      <form
        ref={form}
        class="ask"
        onSubmit={(e) => {
          e.preventDefault();
          void submit();
        }}
      >
        <h2>
          <label for="hooke-prompt">Type the start of a sentence</label>
        </h2>
        <textarea
          id="hooke-prompt"
          ref={box}
          rows={3}
          value={prompt}
          placeholder="The capital of France is"
          aria-describedby="hooke-ask-note"
          aria-invalid={error !== ""}
          onInput={(e) => {
            setPrompt(e.currentTarget.value);
            awaited.value = ""; // who writes on is not waiting any more
          }}
          onKeyDown={(e) => {
            if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
            e.preventDefault();
            void submit();
          }}
        />
        <p id="hooke-ask-note" class="soft">
          The model says what comes next; Hooke shows why. Enter runs, Shift+Enter begins a new line.
        </p>
        <fieldset class="verbs">
          <legend class="hidden">What to do</legend>
          {VERBS.map((v) => (
            <label key={v.verb} class={verb === v.verb ? "on" : ""}>
              <input type="radio" name="verb" value={v.verb} checked={verb === v.verb} onChange={() => setVerb(v.verb)} />
              <span>
                <b>{v.name}</b>
                <br />
                {v.means}
              </span>
            </label>
          ))}
        </fieldset>
        <Options verb={verb} />
        <p>
          <button type="submit" class="primary" disabled={busy}>
            {busy ? "Starting …" : "Run"}
          </button>{" "}
          <ModelLine />
        </p>
        {error && (
          <p class="alert" role="alert">
            {plain(error)}
          </p>
        )}
      </form>
    </section>
  );
}

function ModelLine() {
  const now = status.value;
  if (!now) return null;
  const text = now.loading ? "The model is being loaded." : now.model ? `${now.model} is ready.` : "The model is loaded at the first run.";
  return <span class="soft">{plain(text)}</span>;
}

function Options({ verb }: { verb: string }) {
  const models = status.value?.models ?? [];
  const [chat, setChat] = useState(false);
  return (
    <details class="options">
      <summary>Options</summary>
      <div class="fields">
        <label>
          Model
          <select name="model">
            <option value="">the one in use</option>
            {models.map((m) => (
              <option key={m.name} value={m.name}>
                {plain([m.name, m.fetched ? "" : "(not fetched yet)", m.note ?? ""].filter(Boolean).join(" "))}
              </option>
            ))}
          </select>
        </label>
        <label class="asks">
          <input type="checkbox" name="chat" checked={chat} onChange={(e) => setChat(e.currentTarget.checked)} />
          <span>The text is a question, which the model answers as a chat</span>
        </label>
        {chat && (
          <>
            <label>
              System message
              <textarea name="system" rows={2} placeholder="none" />
            </label>
            <label>
              Explain this word of the answer, counted from 1
              <input type="number" name="answer_token" min={1} max={48} placeholder="1" />
            </label>
          </>
        )}
        {verb === "trace" ? (
          <>
            <label>
              Explain this next word
              <input type="text" name="target" placeholder="the model’s own choice" autocomplete="off" />
              <small class="soft">With a space in front, if one belongs there; or a number, as {"<id 260>"}.</small>
            </label>
            <label>
              … rather than this one
              <input type="text" name="contrast" autocomplete="off" />
            </label>
            <label>
              Compare with similar sentences, one a line
              <textarea name="counterfactual" rows={2} placeholder="made by Hooke" />
              <small class="soft">Same length, another answer: “The capital of Italy is”.</small>
            </label>
            <label>
              How many parts to draw
              <input type="number" name="nodes" min={1} max={20000} placeholder="1000" />
            </label>
          </>
        ) : (
          <label>
            Guesses to keep at each place
            <input type="number" name="top" min={1} max={50} placeholder="5" />
          </label>
        )}
      </div>
    </details>
  );
}

/** What was filled in, as arguments of the verb; spaces in front of a word are kept, they are part of it. */
export function choices(form: FormData, verb: string): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  const text = (name: string) => String(form.get(name) ?? "");
  if (text("model")) out.model = text("model");
  if (form.get("chat")) {
    out.chat = true;
    if (text("system").trim()) out.system = text("system");
    if (text("answer_token")) out.answer_token = Number(text("answer_token"));
  }
  if (verb === "trace") {
    for (const name of ["target", "contrast"]) if (text(name).trim()) out[name] = text(name);
    const others = text("counterfactual").split(/\r?\n/).filter((line) => line.trim());
    if (others.length) out.counterfactual = others;
  }
  const number = verb === "trace" ? "nodes" : "top";
  if (text(number)) out[number] = Number(text(number));
  return out;
}
