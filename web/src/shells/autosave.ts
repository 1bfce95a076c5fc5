// Keeps what a person does with the result, a moment after it was done. Of two tabs, the one that works keeps; the other
// says so and waits for its Save button.

import type { State } from "../core/contract";

const WAIT = 1000; // ms

export interface Autosave {
  changed(state: State): void;
  /** Saved by hand: from now on this tab keeps again, and others stop. */
  saved(): void;
  flush(): void;
  stop(): void;
}

export function autosave(name: string, save: (state: State) => Promise<unknown>, elsewhere: (yes: boolean) => void): Autosave {
  const channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(`hooke ${name}`);
  let held: State | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let paused = false;
  if (channel)
    channel.onmessage = () => {
      clearTimeout(timer);
      held = undefined;
      paused = true;
      elsewhere(true);
    };
  const flush = () => {
    clearTimeout(timer);
    const state = held;
    held = undefined;
    if (!state || paused) return;
    channel?.postMessage("changed");
    save(state).catch(() => (held ??= state)); // a lost server says so by itself; the next change tries again
  };
  return {
    changed(state) {
      if (paused) return;
      clearTimeout(timer);
      held = state;
      timer = setTimeout(flush, WAIT);
    },
    saved() {
      clearTimeout(timer);
      held = undefined;
      paused = false;
      elsewhere(false);
      channel?.postMessage("changed");
    },
    flush,
    stop() {
      flush();
      channel?.close();
    },
  };
}
