// State in the address: `#sel=12_3_4&prune=0.8`. Text as it is, everything else as JSON.

import type { Json, State } from "./contract";

const NEVER = new Set(["__proto__", "runs"]); // anybody can write an address: results of runs are not taken from one
const MAX_HASH = 6000; // longer addresses break in mail and chat; large state is kept with the result or in the file

export function write(state: State, defaults: State): string {
  const params = new URLSearchParams();
  for (const key of Object.keys(state).sort()) {
    const value = state[key];
    if (NEVER.has(key) || value === undefined || JSON.stringify(value) === JSON.stringify(defaults[key])) continue;
    params.set(key, typeof value === "string" && !looksLikeJson(value) ? value : JSON.stringify(value));
  }
  const text = params.toString();
  if (text.length <= MAX_HASH) return text;
  for (const key of [...params.keys()]) if ((params.get(key) ?? "").length > 500) params.delete(key);
  return params.toString();
}

export function read(hash: string): State {
  const state: State = {};
  for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (NEVER.has(key)) continue;
    state[key] = looksLikeJson(text) ? parsed(text) : text;
  }
  return state;
}

function looksLikeJson(text: string): boolean {
  return /^(["{[]|-?\d|true$|false$|null$)/.test(text) && parsed(text) !== undefined;
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
