// Two pictures side by side: what is selected in one is selected in the other, where it is there.
// Nothing of it goes into the address.

import { useEffect, useRef } from "preact/hooks";
import type { Handle, PageData, Shell, State } from "../core/contract";
import { count } from "../core/format";
import { overlap, twin } from "../graph/twin";
import { defaults, mount, saved } from "../mount";

const NAMES = ["first", "second"];

interface Props {
  loaded: PageData[];
  shells: Shell[];
  theme: string;
  /** What they have in common, and what is selected on one side only. */
  say(text: string): void;
}

export function Pair({ loaded, shells, theme, say }: Props) {
  const places = [useRef<HTMLElement>(null), useRef<HTMLElement>(null)];
  useEffect(() => {
    const n = overlap(loaded[0], loaded[1]);
    const common = n ? `${count(n.both)} features are in both graphs, ${count(n.first)} only in the first, ${count(n.second)} only in the second.` : "";
    say(common);
    const states: State[] = loaded.map((data) => ({ ...defaults(data), ...saved(data), theme }));
    const handles: Handle[] = loaded.map((data, i) => {
      const other = 1 - i;
      const onState = (state: State) => {
        const patch: State = {};
        if (typeof state.sel === "string" && state.sel !== states[i].sel) {
          const there = twin(data, state.sel, loaded[other]);
          const group = state.sel.startsWith("group:");
          say(state.sel && !group && !there ? `${common} What is selected is not in the ${NAMES[other]} graph.` : common);
          if (!group) patch.sel = there ?? "";
        }
        for (const key of ["depth", "theme"]) if (state[key] !== states[i][key]) patch[key] = state[key];
        states[i] = state;
        if (!Object.keys(patch).length) return;
        states[other] = { ...states[other], ...patch };
        handles[other].update(undefined, states[other]);
      };
      return mount(places[i].current!, data, { state: states[i], onState, shell: shells[i] });
    });
    return () => handles.forEach((handle) => handle.destroy());
  }, [loaded]);
  return (
    <main class="hooke-pair">
      {places.map((el, i) => (
        <section key={i} ref={el} class="cell" aria-label={`The ${NAMES[i]} result`} />
      ))}
    </main>
  );
}
