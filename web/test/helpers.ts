// Page bytes made by hand, a view mounted in a document, and a server that is a table.

import { signal } from "@preact/signals";
import { act } from "preact/test-utils";
import type { PageData, State, Tensor, ViewProps } from "../src/core/contract";
import type { LensView, Page, Shown } from "../src/types";

const DTYPES = new Map<unknown, string>([
  [Float32Array, "F32"],
  [Uint32Array, "U32"],
  [Uint8Array, "U8"],
]);

/** safetensors: length, header, arrays. */
export function safetensors(page: unknown, tensors: Record<string, Tensor>): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: { page: typeof page === "string" ? page : JSON.stringify(page) } };
  let end = 0;
  for (const [name, t] of Object.entries(tensors)) {
    header[name] = { dtype: DTYPES.get(t.constructor), shape: [t.length], data_offsets: [end, end + t.byteLength] };
    end += t.byteLength;
  }
  const head = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + head.length + end);
  new DataView(out.buffer).setBigUint64(0, BigInt(head.length), true);
  out.set(head, 8);
  let at = 8 + head.length;
  for (const t of Object.values(tensors)) {
    out.set(new Uint8Array(t.buffer, t.byteOffset, t.byteLength), at);
    at += t.byteLength;
  }
  return out;
}

export async function gzip(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export function shown(kind: string, view: Shown["view"]): Shown {
  return { kind, id: "0123456789abcdef", parents: [], arguments: {}, provenance: {}, status: "complete", seconds: {}, claims: [], view };
}

export const pageOf = (...results: Shown[]): Page => ({ version: 1, title: "a page", results, state: null });

/** Layers in, 0, 1 over three tokens; two guesses in each cell. Guess k of a cell is name (row + column + k) % 4. */
export function lensData(columns = 3, rows = 3): PageData {
  const names = ["</script>", " Paris", " the", "\u202eevil"];
  const [ids, probabilities, entropy] = [new Uint32Array(rows * columns * 2), new Float32Array(rows * columns * 2), new Float32Array(rows * columns)];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const cell = row * columns + column;
      ids.set([(row + column) % 4, (row + column + 1) % 4], cell * 2);
      probabilities.set([0.5, 0.25], cell * 2);
      entropy[cell] = cell;
    }
  }
  const view: LensView = {
    type: "lens",
    prompt: "The capital",
    tokens: Array.from({ length: columns }, (_, i) => ` t${i}`),
    layers: Array.from({ length: rows }, (_, i) => i - 1),
    top: 2,
    names,
    ids: names.map((_, i) => i),
    sentence: "The choice is first from layer 1 on.",
    choice: { token: " Paris", id: 7, probability: 0.5, from_layer: 1 },
  };
  const tensors = { "0.lens.ids": ids, "0.lens.probabilities": probabilities, "0.lens.entropy": entropy };
  return { page: pageOf(shown("lens", view)), tensors };
}

export function viewProps(data: PageData, state: State, more: Partial<ViewProps> = {}): ViewProps & { said: string[] } {
  const held = signal(state);
  const said: string[] = [];
  return {
    data,
    result: data.page.results[0],
    number: 0,
    state: held,
    set: (patch) => void (held.value = { ...held.value, ...patch }),
    depth: "standard",
    dark: false,
    shell: {},
    announce: (text) => void said.push(text),
    said,
    ...more,
  };
}

export function place(): HTMLElement {
  document.body.replaceChildren();
  const el = document.createElement("div");
  document.body.append(el);
  return el;
}

export const press = (el: Element, key: string) => act(() => void el.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })));
export const click = (el: Element | null | undefined) => act(() => (el as HTMLElement).click());
export const settle = () => act(() => new Promise((done) => setTimeout(done, 20)));
export const button = (el: ParentNode, name: string) => [...el.querySelectorAll("button")].find((b) => b.textContent!.trim().startsWith(name));

/** fetch that answers from a table of "METHOD /path"; what is not in it is a 404, "down" fails. */
export function fakeFetch(table: Record<string, unknown>): { calls: string[]; down: boolean } {
  const state = { calls: [] as string[], down: false };
  globalThis.fetch = (async (path: string, init: RequestInit = {}) => {
    const call = `${init.method ?? "GET"} ${path}`;
    state.calls.push(init.body && typeof init.body === "string" ? `${call} ${init.body}` : call);
    if (state.down) throw new TypeError("fetch failed");
    const answer = table[call];
    const value = typeof answer === "function" ? answer(init) : answer;
    if (value === undefined) return new Response(JSON.stringify({ error: "no such thing" }), { status: 404 });
    if (value instanceof Response) return value;
    return value instanceof Uint8Array ? new Response(value as BodyInit) : new Response(JSON.stringify(value));
  }) as typeof fetch;
  return state;
}
