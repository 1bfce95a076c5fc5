// The one contract of every picture: mount(el, data, {state, onState}) -> {update, destroy}.
// State is plain JSON; a picture knows nothing of servers, routers or notebooks.

import type { Signal } from "@preact/signals";
import type { ComponentType } from "preact";
import type { Intervention, Page, Shown } from "../types";

export type Tensor = Float32Array | Uint32Array | Uint8Array;
export interface PageData {
  page: Page;
  tensors: Record<string, Tensor>;
}

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };
export type State = { [key: string]: Json | undefined };
/** State over its defaults: of what is given, only what has the type of its default is taken. */
export function over(base: State, given: State): State {
  const kind = (x: unknown) => (Array.isArray(x) ? "array" : typeof x);
  const fits = ([key, value]: [string, unknown]) =>
    Object.hasOwn(base, key) && (base[key] === null || (value !== null && kind(value) === kind(base[key])));
  return { ...base, ...Object.fromEntries(Object.entries(given).filter(fits)) };
}

export type Depth = "plain" | "standard" | "expert";
export type Theme = "auto" | "light" | "dark";

/** A model behind the page. */
export interface Live {
  /** Change nodes of the trace in the live model. Rejects with one line that says why not. */
  intervene(nodes: string[], op: "off" | "double"): Promise<Intervention>;
  /** Why there is no model, if there is none. */
  refused?: string;
}

/** What a shell can do for a picture. All of it may be missing. */
export interface Shell {
  live?: Live;
  /** The single HTML file with this state inside. */
  html?(state: State): Promise<Blob>;
  /** Keep the state with the result, where there is a place for it. Resolves with a word on where. */
  save?(state: State): Promise<string>;
  /** Results that this one can be compared with. */
  others?(): Promise<{ id: string; title: string }[]>;
  open?(id: string): Promise<PageData>;
  home?(): void;
}

export interface MountOptions {
  state?: State;
  /** Called after every change; "push" for steps that "back" should undo, "replace" for sliders. */
  onState?: (state: State, how: "push" | "replace") => void;
  shell?: Shell;
  /** Where the style goes: the document, or the shadow root of a notebook cell. */
  root?: Document | ShadowRoot;
}

export interface Handle {
  update(data?: PageData, state?: State): void;
  destroy(): void;
}

/** What the component of a view gets. */
export interface ViewProps {
  data: PageData;
  result: Shown;
  /** Place of the result in the page; names its tensors. */
  number: number;
  state: Signal<State>;
  set(patch: State, how?: "push" | "replace"): void;
  depth: Depth;
  dark: boolean;
  shell: Shell;
  /** A line at the foot of the page, said to screen readers too; `quiet`: only said. */
  announce(text: string, quiet?: boolean): void;
}

export interface View {
  component: ComponentType<ViewProps>;
  /** State to begin with, under what the address or the file says. */
  initial(result: Shown): State;
}
