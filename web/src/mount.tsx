// mount(el, data, {state, onState}) -> {update, destroy}: the frame around every picture.

import { signal, type Signal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Depth, Handle, MountOptions, PageData, Shell, State, Theme } from "./core/contract";
import { over } from "./core/contract";
import { count, plain, seconds } from "./core/format";
import { download, fileName } from "./core/files";
import { adopt } from "./core/style";
import { startTour, Tour } from "./home/Tour";
import { viewOf } from "./views";

export const FRAME_STATE: State = { depth: "standard", theme: "auto" };
const DEPTHS: [Depth, string][] = [
  ["plain", "Plain"],
  ["standard", "Standard"],
  ["expert", "Expert"],
];

/** What the state is when nobody has done anything: what addresses leave out. */
export function defaults(data: PageData): State {
  const main = data.page.results[0];
  return { ...FRAME_STATE, ...viewOf(main).initial(main) };
}

/** The state to begin with. Of what addresses and files say, only what has the type of its default is taken. */
function begin(data: PageData, given: State = {}, fresh = false): State {
  return over(defaults(data), { ...(fresh ? {} : saved(data)), ...given });
}

/** What a person did, as it was kept in the page. */
export const saved = (data: PageData): State => (data.page.state ?? {}) as State;

export function mount(el: HTMLElement, data: PageData, options: MountOptions = {}): Handle {
  adopt(options.root ?? document);
  const held = signal(data);
  const state = signal<State>(begin(data, options.state));
  const message = signal("");
  const quiet = signal("");
  const set = (patch: State, how: "push" | "replace" = "push") => {
    state.value = { ...state.value, ...patch };
    options.onState?.(state.value, how);
  };
  el.classList.add("hooke");
  const dark = signal(false);
  const stop = followTheme(el, state, dark);
  render(<Frame host={el} dark={dark} data={held} state={state} message={message} quiet={quiet} set={set} shell={options.shell ?? {}} />, el);
  return {
    update(next, patch) {
      if (next) held.value = next;
      if (next || patch) state.value = begin(held.value, patch, !next);
    },
    destroy() {
      stop();
      render(null, el);
      el.classList.remove("hooke");
    },
  };
}

/** Keeps data-theme on the element at "light" or "dark", and tells `dark`. */
export function followTheme(el: HTMLElement, state: Signal<State>, dark = signal(false)): () => void {
  const media = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const theme = state.value.theme as Theme;
    dark.value = theme === "dark" || (theme !== "light" && media.matches);
    el.dataset.theme = dark.value ? "dark" : "light";
  };
  media.addEventListener("change", apply);
  const unsubscribe = state.subscribe(apply);
  return () => {
    media.removeEventListener("change", apply);
    unsubscribe();
  };
}

interface FrameProps {
  host: HTMLElement;
  dark: Signal<boolean>;
  data: Signal<PageData>;
  state: Signal<State>;
  message: Signal<string>;
  quiet: Signal<string>;
  set(patch: State, how?: "push" | "replace"): void;
  shell: Shell;
}

function Frame({ host, dark, data, state, message, quiet, set, shell }: FrameProps) {
  const { page } = data.value;
  // other data is another picture: nothing of the old one stays subscribed
  const version = useRef({ page, number: 0 });
  if (version.current.page !== page) version.current = { page, number: version.current.number + 1 };
  const main = page.results[0];
  const { component: View } = viewOf(main);
  const toured = main.view.type === "graph";
  const depth = DEPTHS.find(([value]) => value === state.value.depth)?.[0] ?? "standard";
  const Body = host.classList.contains("cell") ? "div" : "main"; // a cell is a part of somebody else's page
  useEffect(() => {
    if (Body === "main" && !shell.home) document.title = plain(page.title);
  }, [page.title]);
  // a line that has been read makes room
  useEffect(() => {
    if (!message.value) return;
    const timer = setTimeout(() => (message.value = ""), 8000);
    return () => clearTimeout(timer);
  }, [message.value]);
  const begin = () => {
    const group = main.view.type === "graph" ? main.view.groups[0] : undefined;
    if (!group || state.value.sel) return;
    const sel = `group:${group.name}`;
    set({ sel, replay: { op: "off", of: sel } }, "replace");
  };
  const save = async () => {
    try {
      message.value = shell.save ? await shell.save(state.value) : "";
    } catch (error) {
      message.value = `Not saved: ${(error as Error).message}`;
    }
  };
  const exportHtml = async () => {
    try {
      download(await shell.html!(state.value), fileName(page.title, "html"));
    } catch (error) {
      message.value = `Not exported: ${(error as Error).message}`;
    }
  };
  return (
    <>
      <header class="bar">
        {shell.home && (
          <button class="plain brand" onClick={shell.home}>
            Hooke
          </button>
        )}
        <h1 title={plain(page.title)}>{plain(page.title)}</h1>
        <ModelName result={main} />
        <span class="push" />
        <div class="choice" role="group" aria-label="Depth of detail">
          {DEPTHS.map(([value, name]) => (
            <button key={value} aria-pressed={depth === value} onClick={() => set({ depth: value })}>
              {name}
            </button>
          ))}
        </div>
        <ThemeButton state={state} set={set} />
        {toured && (
          <button onClick={() => startTour(host)} title="A tour of this page in seven steps" aria-label="Tour of this page">
            ?
          </button>
        )}
        {shell.save && (
          <button onClick={save} title="Keep pins, groups, names and settings">
            Save
          </button>
        )}
        {shell.html && (
          <button onClick={exportHtml} title="One HTML file with everything in it, to keep or to mail">
            Export HTML
          </button>
        )}
      </header>
      <Body class="body">
        <View
          key={version.current.number}
          data={data.value}
          result={main}
          number={0}
          state={state}
          set={set}
          depth={depth}
          dark={dark.value}
          shell={shell}
          announce={(text, silent) => ((silent ? quiet : message).value = text)}
        />
      </Body>
      <Provenance data={data.value} expert={depth === "expert"} />
      {toured && <Tour host={host} begin={begin} />}
      <div class="hidden" aria-live="polite">
        {quiet.value}
      </div>
      <div class="toast" role="status" aria-live="polite">
        {message.value}
      </div>
    </>
  );
}

export function ThemeButton({ state, set }: Pick<FrameProps, "state" | "set">) {
  const order: Theme[] = ["auto", "light", "dark"];
  const now = state.value.theme as Theme;
  const next = order[(order.indexOf(now) + 1) % order.length];
  return (
    <button onClick={() => set({ theme: next }, "replace")} title={`Colours: ${now}. Press for ${next}`}>
      <span aria-hidden="true">{now === "auto" ? "◐" : now === "light" ? "☀" : "☾"}</span>
      <span class="hidden">Colours: {now}</span>
    </button>
  );
}

function ModelName({ result }: { result: PageData["page"]["results"][0] }) {
  const name = (result.provenance.model ?? result.provenance.scan) as string | undefined;
  return name ? <span class="soft">{plain(String(name))}</span> : null;
}

/** What made this, at the foot of every page. */
function Provenance({ data, expert }: { data: PageData; expert: boolean }) {
  const main = data.page.results[0];
  const p = main.provenance as Record<string, unknown>;
  const versions = (p.versions ?? {}) as Record<string, string>;
  const total = main.seconds.total;
  const parts = [
    `${main.kind} ${main.id.slice(0, 8)}`,
    p.model ? `model ${p.model}` : p.scan ? `model ${p.scan}` : "",
    typeof p.weights_sha256 === "string" ? `weights ${p.weights_sha256.slice(0, 8)}` : "",
    p.written_by ? `written by ${p.written_by}` : "",
    versions.hooke ? `Hooke ${versions.hooke}` : "",
    total ? `made in ${seconds(total)}` : "",
    main.status === "complete" ? "" : `status: ${main.status}`,
  ];
  return (
    <footer class="soft">
      {plain(parts.filter(Boolean).join(" · "))}
      {expert && (
        <details>
          <summary>Arguments, provenance, timings</summary>
          <pre tabIndex={0}>
            {plain(JSON.stringify({ id: main.id, arguments: main.arguments, provenance: p, seconds: main.seconds }, null, 1))
              .replaceAll("↵", "\n")
              .slice(0, 20_000)}
          </pre>
          {count(data.page.results.length)} result(s) in this page
        </details>
      )}
    </footer>
  );
}
