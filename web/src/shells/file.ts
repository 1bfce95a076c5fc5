// The single HTML file: data inside, state in the address, and a copy of itself with what a person did.

import type { State } from "../core/contract";
import { keeper } from "../core/history";
import { fromBase64, unpack } from "../core/unpack";
import { defaults, mount, saved } from "../mount";

export async function startFile(): Promise<void> {
  const before = document.documentElement.cloneNode(true) as HTMLElement; // before anything is drawn: what a copy is made of
  const el = document.getElementById("hooke")!;
  const holder = document.getElementById("hooke-data")!;
  try {
    const data = await unpack(fromBase64(holder.textContent ?? ""));
    const inside = document.getElementById("hooke-state")?.textContent;
    if (inside) data.page.state = JSON.parse(inside);
    const kept = keeper({ ...defaults(data), ...saved(data) }, "picture");
    const handle = mount(el, data, {
      state: kept.stored(),
      onState: kept.remember,
      shell: {
        html: async (state) => new Blob([copy(before, state)], { type: "text/html" }),
        live: {
          refused: "This is a saved file: there is no model behind it. `hooke app` has one.",
          intervene: () => Promise.reject(new Error("This is a saved file: there is no model behind it.")),
        },
      },
    });
    addEventListener("popstate", () => handle.update(undefined, kept.stored()));
    addEventListener("pagehide", kept.flush);
  } catch (error) {
    el.setAttribute("role", "alert");
    el.textContent = (error as Error).message;
  }
}

/** This document with the state inside. `<` never appears in the JSON, so nothing can close the script. */
export function copy(before: HTMLElement, state: State): string {
  const root = before.cloneNode(true) as HTMLElement;
  root.querySelector("#hooke-state")?.remove();
  const script = root.ownerDocument.createElement("script");
  script.type = "application/json";
  script.id = "hooke-state";
  script.textContent = JSON.stringify(state).replace(/</g, "\\u003c").replace(/\u2028/g, "\\u2028").replace(/\u2029/g, "\\u2029");
  root.querySelector("#hooke-data")!.after(script);
  return `<!doctype html>\n${root.outerHTML}\n`;
}
