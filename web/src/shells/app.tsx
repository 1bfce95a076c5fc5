// The local app: home, one result, one example, two results side by side.

import { signal } from "@preact/signals";
import { type ComponentChildren, render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Handle, PageData, Shell, State, Theme } from "../core/contract";
import { plain } from "../core/format";
import { keeper } from "../core/history";
import { adopt } from "../core/style";
import { Home, wished } from "../home/Home";
import { defaults, followTheme, mount, saved } from "../mount";
import * as api from "./api";
import { autosave } from "./autosave";
import { Pair } from "./Pair";
import { follow, go, leaving, path, route, routeOf } from "./route";

const THEME = "hooke.theme";
/** The frame of what is not a picture; only the theme is ever set. */
const look = signal<State>({ theme: "auto" });

export function startApp(): void {
  adopt(document);
  look.value = { theme: remembered() };
  look.subscribe((state) => {
    try {
      localStorage.setItem(THEME, String(state.theme));
    } catch {
      /* storage may be closed to us */
    }
  });
  route.value = routeOf(location.pathname);
  // steps within one result are its screen's affair; only another place is ours
  addEventListener("popstate", () => {
    const next = routeOf(location.pathname);
    if (JSON.stringify(next) !== JSON.stringify(route.value)) route.value = next;
  });
  render(<App />, document.getElementById("hooke-app")!);
}

function remembered(): Theme {
  try {
    const theme = localStorage.getItem(THEME);
    return theme === "light" || theme === "dark" ? theme : "auto";
  } catch {
    return "auto";
  }
}

function App() {
  const now = route.value;
  return (
    <>
      {api.lost.value && (
        <Page>
          <Problem text={api.LOST} />
        </Page>
      )}
      {now.at === "home" && (
        <Page full>
          <Home look={look} setLook={(patch) => (look.value = { ...look.value, ...patch })} />
        </Page>
      )}
      {now.at === "result" && <Result key={now.id} id={now.id} />}
      {now.at === "example" && <ExampleScreen key={now.name} name={now.name} />}
      {now.at === "compare" && <Compare key={`${now.a} ${now.b}`} ids={[now.a, now.b]} />}
      {now.at === "unknown" && (
        <Page full>
          <Away text={`There is nothing at ${now.path}.`} />
        </Page>
      )}
    </>
  );
}

/** Our own style around what is not a mounted picture. */
function Page({ children, full }: { children: ComponentChildren; full?: boolean }) {
  const el = useRef<HTMLDivElement>(null);
  useEffect(() => followTheme(el.current!, look), []);
  return (
    <div ref={el} class={full ? "hooke" : "hooke part-page"}>
      {children}
    </div>
  );
}

function Problem({ text }: { text: string }) {
  return (
    <div class="alert" role="alert">
      {plain(text)} <button onClick={() => void api.retry()}>Try again</button>
    </div>
  );
}

function Away({ text }: { text: string }) {
  useEffect(() => {
    document.title = "Hooke";
  }, []);
  return (
    <main class="home">
      <div class="alert" role="alert">
        {plain(text)}
      </div>
      <p>
        <a href="/" onClick={follow}>
          Go to the start page
        </a>
      </p>
    </main>
  );
}

interface Loaded<T> {
  value?: T;
  trouble?: string;
  gone?: boolean;
}

/** Loads once; again when a lost server is back. */
function useLoaded<T>(load: () => Promise<T>): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>({});
  const away = api.lost.value;
  useEffect(() => {
    if (state.value !== undefined) return;
    let gone = false;
    load().then(
      (value) => gone || setState({ value }),
      (error: api.Trouble) => gone || setState({ trouble: error.why === "lost" ? "" : error.message, gone: error.why === "gone" }),
    );
    return () => {
      gone = true;
    };
  }, [away]);
  return state;
}

function Waiting({ loaded, gone }: { loaded: Loaded<unknown>; gone?: string }) {
  return (
    <Page full>
      {loaded.trouble ? (
        <Away text={`${loaded.trouble}${gone && loaded.gone ? ` ${gone}` : ""}`} />
      ) : (
        <main class="home">
          <p class="soft" role="status">
            {api.lost.value ? "Waiting for the server …" : "Loading …"}
          </p>
        </main>
      )}
    </Page>
  );
}

function Result({ id }: { id: string }) {
  const loaded = useLoaded(() => api.resultPage(id));
  if (!loaded.value) return <Waiting loaded={loaded} gone="It may have been deleted." />;
  const shell = shellOf(id);
  // nothing is done to a report: what of it is open is in the address
  const report = loaded.value.page.results[0].view.type === "assess";
  return <Picture data={loaded.value} shell={report ? { html: shell.html, home: shell.home } : shell} />;
}

export function shellOf(id: string): Shell {
  return {
    live: { intervene: (nodes, op) => api.intervene(id, nodes, op) },
    html: (state) => api.html(id, state),
    save: async (state) => {
      await api.saveState(id, state);
      return "Saved with this result: it opens as it is now.";
    },
    others: async () => (await api.results()).results.filter((r) => r.id !== id).map(({ id, title }) => ({ id, title })),
    open: api.resultPage,
    home: () => go("/"),
  };
}

const NO_MODEL = "This is a saved example without a model behind it. Trace its prompt yourself to change things.";

function ExampleScreen({ name }: { name: string }) {
  const loaded = useLoaded(() => api.examplePage(name));
  if (!loaded.value) return <Waiting loaded={loaded} />;
  const prompt = String(loaded.value.page.results[0].arguments.prompt ?? "");
  const shell: Shell = {
    live: { refused: NO_MODEL, intervene: () => Promise.reject(new Error(NO_MODEL)) },
    others: async () => (await api.results()).results.map(({ id, title }) => ({ id, title })),
    open: api.resultPage,
    home: () => go("/"),
  };
  const mine = () => {
    wished.value = { prompt, verb: loaded.value!.page.results[0].kind === "lens" ? "lens" : "trace" };
    go("/");
  };
  return (
    <>
      <Page>
        <nav class="ribbon" aria-label="About this example">
          A saved example: look and try, nothing is kept.{" "}
          {prompt && <button onClick={mine}>Run this prompt yourself</button>}
        </nav>
      </Page>
      <Picture data={loaded.value} shell={shell} />
    </>
  );
}

/** A mounted picture whose state is in the address (what links carry) and in the history (all of it). */
function Picture({ data, shell }: { data: PageData; shell: Shell }) {
  const el = useRef<HTMLDivElement>(null);
  const [elsewhere, setElsewhere] = useState(false);
  useEffect(() => {
    let base: State = { ...defaults(data), ...saved(data), theme: look.value.theme };
    const here = location.pathname;
    const kept = keeper(base, "picture");
    document.title = plain(data.page.title);
    let handle: Handle;
    const onState = (state: State, how: "push" | "replace") => {
      if (state.theme !== look.value.theme) {
        look.value = { theme: state.theme };
        kept.rebase((base = { ...base, theme: state.theme }));
      }
      kept.remember(state, how);
      auto?.changed(state);
    };
    const auto = shell.save && autosave(here, shell.save, setElsewhere);
    const save =
      shell.save &&
      (async (state: State) => {
        const word = await shell.save!(state);
        auto!.saved();
        data.page.state = state;
        kept.rebase((base = { ...base, ...state }));
        kept.remember(state, "replace");
        return word;
      });
    handle = mount(el.current!, data, { state: { ...kept.stored(), theme: base.theme }, onState, shell: { ...shell, save } });
    const back = () => {
      if (location.pathname === here) handle.update(undefined, { ...kept.stored(), theme: base.theme });
    };
    addEventListener("popstate", back);
    const flush = () => {
      kept.flush();
      auto?.flush();
    };
    addEventListener("pagehide", flush);
    leaving.add(flush);
    return () => {
      removeEventListener("popstate", back);
      removeEventListener("pagehide", flush);
      leaving.delete(flush);
      kept.flush();
      auto?.stop();
      handle.destroy();
    };
  }, [data]);
  return (
    <>
      {elsewhere && (
        <Page>
          <p class="ribbon" role="status">
            This result was changed in another tab, and that is what is kept. Load this page again to see it, or press Save to keep this one instead.
          </p>
        </Page>
      )}
      <div ref={el} />
    </>
  );
}

function Compare({ ids }: { ids: string[] }) {
  const [said, say] = useState("");
  const loaded = useLoaded(() => Promise.all(ids.map(api.resultPage)));
  useEffect(() => {
    document.title = "Compare · Hooke";
  }, []);
  if (!loaded.value) return <Waiting loaded={loaded} gone="It may have been deleted." />;
  return (
    <>
      <Page>
        <nav class="ribbon" aria-label="The two results">
          Two results side by side:{" "}
          {ids.map((id, i) => (
            <a key={i} href={path("r", id)} onClick={follow}>
              open the {i === 0 ? "first" : "second"} alone
            </a>
          ))}
          <span role="status" class="soft"> {said}</span>
        </nav>
      </Page>
      <Pair loaded={loaded.value} shells={ids.map(halfShell)} theme={String(look.peek().theme)} say={say} />
    </>
  );
}

/** What a half of the screen can do: everything but keep its state. */
function halfShell(id: string): Shell {
  const { live, open, others, home } = shellOf(id);
  return { live, open, others, home };
}
