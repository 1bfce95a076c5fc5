// State in the history of the browser: all of it in the entry, in short in the address, which is what links carry.

import type { State } from "./contract";
import { read, write } from "./url";

const WAIT = 200; // ms: browsers allow some hundred changes a minute, and a slider makes more

export interface Keeper {
  /** The state of this place: of the history entry, or else of the address over what was saved. */
  stored(): State;
  remember(state: State, how: "push" | "replace"): void;
  /** Writes what waits. */
  flush(): void;
  /** What addresses leave out, when something else was saved. */
  rebase(base: State): void;
}

export function keeper(base: State, key: string): Keeper {
  const here = location.pathname;
  let held: State | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const put = (state: State, how: "push" | "replace") => {
    const hash = write(state, base);
    try {
      history[`${how}State`]({ [key]: state }, "", here + location.search + (hash ? `#${hash}` : ""));
    } catch {
      /* a frame without an origin has no history of its own: the state then lives only in the page */
    }
  };
  const flush = () => {
    clearTimeout(timer);
    if (held && location.pathname === here) put(held, "replace");
    held = undefined;
  };
  return {
    stored() {
      clearTimeout(timer); // what waits is of the entry before this one
      held = undefined;
      return (history.state?.[key] as State | undefined) ?? { ...base, ...read(location.hash) };
    },
    remember(state, how) {
      if (location.pathname !== here) return;
      if (how === "push") {
        flush();
        put(state, "push");
      } else {
        clearTimeout(timer);
        held = state;
        timer = setTimeout(flush, WAIT);
      }
    },
    flush,
    rebase: (next) => (base = next),
  };
}
