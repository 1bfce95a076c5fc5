// Page bytes: gzip(safetensors), the page itself as JSON in the metadata.

import type { Page } from "../types";
import type { PageData, Tensor } from "./contract";

const VERSION = 1;
const KINDS: Record<string, (buffer: ArrayBuffer) => Tensor> = {
  F32: (b) => new Float32Array(b),
  U32: (b) => new Uint32Array(b),
  U8: (b) => new Uint8Array(b),
};

export async function unpack(bytes: Uint8Array): Promise<PageData> {
  let buffer: ArrayBuffer;
  try {
    const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(new DecompressionStream("gzip"));
    buffer = await new Response(stream).arrayBuffer();
  } catch {
    throw new Error("The data of this page is damaged or cut off. Make or download the file again.");
  }
  return parse(buffer);
}

export function parse(buffer: ArrayBuffer): PageData {
  const size = buffer.byteLength < 8 ? -1 : Number(new DataView(buffer).getBigUint64(0, true));
  if (size < 2 || size + 8 > buffer.byteLength) throw new Error("This is not a page of Hooke: no header in it.");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const text = header.__metadata__?.page;
  if (typeof text !== "string") throw new Error("This is not a page of Hooke: no page in it.");
  const page = JSON.parse(text) as Page;
  if (page.version !== VERSION) {
    throw new Error(`This page was written by another version of Hooke (${page.version}; this one reads ${VERSION}).`);
  }
  const tensors: Record<string, Tensor> = {};
  for (const [name, entry] of Object.entries<any>(header)) {
    if (name === "__metadata__") continue;
    const make = KINDS[entry.dtype];
    if (!make) throw new Error(`The page holds numbers of a kind that this version does not read (${entry.dtype}).`);
    const [start, end] = entry.data_offsets;
    tensors[name] = make(buffer.slice(8 + size + start, 8 + size + end));
  }
  return { page, tensors };
}

export function fromBase64(text: string): Uint8Array {
  const raw = atob(text.trim());
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}
