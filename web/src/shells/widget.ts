// The notebook cell: an anywidget module. Keys of the model: data (base64 page bytes), state, live, height.

import type { Intervention } from "../types";
import type { Live, State } from "../core/contract";
import { fromBase64, unpack } from "../core/unpack";
import { mount } from "../mount";

export interface WidgetModel {
  get(key: string): any;
  set(key: string, value: unknown): void;
  save_changes(): void;
  on(event: string, callback: (...args: any[]) => void): void;
  off(event: string, callback: (...args: any[]) => void): void;
  send(message: unknown): void;
}

export function render({ model, el }: { model: WidgetModel; el: HTMLElement }): () => void {
  const host = document.createElement("div");
  const root = host.attachShadow({ mode: "open" });
  const inside = document.createElement("div");
  inside.style.height = `${model.get("height") || 760}px`;
  inside.classList.add("cell");
  root.append(inside);
  el.append(host);
  let stop = () => {};
  let gone = false;
  void unpack(fromBase64(model.get("data")))
    .then((data) => {
      if (gone) return;
      let ours = "";
      const { live, close } = model.get("live") ? asking(model) : { live: undefined, close: () => {} };
      const handle = mount(inside, data, {
        root,
        state: model.get("state") as State,
        onState: (state) => {
          ours = JSON.stringify(state);
          model.set("state", JSON.parse(ours));
          model.save_changes();
        },
        shell: live ? { live } : {},
      });
      const changed = () => {
        const state = model.get("state") as State;
        if (JSON.stringify(state) !== ours) handle.update(undefined, state);
      };
      model.on("change:state", changed);
      stop = () => {
        model.off("change:state", changed);
        close();
        handle.destroy();
      };
    })
    .catch((error: Error) => {
      inside.textContent = error.message;
    });
  return () => {
    gone = true;
    stop();
    host.remove();
  };
}

/** Questions to the kernel, answered by name; two views of one cell do not take each other's answers. */
function asking(model: WidgetModel): { live: Live; close(): void } {
  const me = crypto.randomUUID();
  let last = 0;
  const open = new Map<string, { resolve(view: Intervention): void; reject(error: Error): void }>();
  const answered = (reply: { request: string; view?: Intervention; error?: string }) => {
    const asked = open.get(reply.request);
    open.delete(reply.request);
    if (reply.view) asked?.resolve(reply.view);
    else asked?.reject(new Error(reply.error ?? "no answer"));
  };
  model.on("msg:custom", answered);
  const intervene = (nodes: string[], op: "off" | "double") =>
    new Promise<Intervention>((resolve, reject) => {
      last += 1;
      open.set(`${me} ${last}`, { resolve, reject });
      model.send({ request: `${me} ${last}`, nodes, op });
    });
  return { live: { intervene }, close: () => model.off("msg:custom", answered) };
}
