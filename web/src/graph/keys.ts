// Keys of a drawn graph, wherever in its page they are pressed; those of the picture itself are in pointer.ts.

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { MODES, type Store } from "./store";

/** The root of the view, which listens. */
export function useKeys(store: Store): RefObject<HTMLDivElement | null> {
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      // keys of this view: pressed anywhere in its frame, or with nothing focused while it is the only one
      const frame = root.current!.closest(".hooke")!;
      const path = event.composedPath();
      const alone = path[0] === document.body && document.querySelectorAll(".graph-view").length === 1;
      if (path.includes(frame) || alone) press(event, store, root.current!);
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, [store]);
  return root;
}

function press(event: KeyboardEvent, store: Store, root: HTMLElement): void {
  const target = event.composedPath()[0] as HTMLElement;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && (target as HTMLInputElement).type !== "range" && (target as HTMLInputElement).type !== "checkbox";
  if (event.key === "Escape") {
    const open = root.querySelector<HTMLDialogElement>("dialog[open]");
    if (open) return;
    if (typing) target.blur();
    else if (store.adding.value) {
      store.adding.value = false;
      store.chosen.value = [];
    } else if (store.get("full")) store.set({ full: "" }, "replace");
    else if (store.get("story") && ["", store.get("story")].includes(store.get("sel"))) store.set({ sel: "", story: "" });
    else if (store.get("sel")) store.set({ sel: "" });
    else if (store.get("find")) store.set({ find: "" }, "replace");
    return;
  }
  if (typing) return;
  const here = store.hovered.value >= 0 && target.classList.contains("canvas") ? store.hovered.value : store.selected.value;
  const modes = MODES as readonly string[];
  const act: Record<string, () => void> = {
    "/": () => root.querySelector<HTMLElement>("input[type=search]")?.focus(),
    p: () => here >= 0 && store.togglePin(here),
    g: () => (store.adding.value ? store.makeGroup() : store.startGroup()),
    z: () => store.undo(),
    t: () => store.set({ table: !store.get("table") }, "replace"),
    f: () => store.set({ full: store.get("full") ? "" : "graph" }, "replace"),
    l: () => store.set({ links: modes[(modes.indexOf(store.get("links")) + 1) % modes.length] }, "replace"),
    "?": () => root.querySelector<HTMLDialogElement>("dialog.keys")?.showModal(),
  };
  if (!act[event.key]) return;
  event.preventDefault();
  act[event.key]();
}
