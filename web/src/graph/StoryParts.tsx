// What the picture and the list of a story have in common: a box, the answer, and what the signs mean.

import type { ComponentChildren } from "preact";
import { chance, plain, token } from "../core/format";
import { Verdict } from "../core/Verdict";
import type { Store } from "./store";
import { toggle, type StoryBox } from "./story";
import { traceOf } from "./trace";

interface BoxProps {
  store: Store;
  box: StoryBox;
  style?: Record<string, string>;
  onNear?(key: string): void;
  children?: ComponentChildren;
}

export function Box({ store, box, style, onNear, children }: BoxProps) {
  const { key, name, about, effect, verdict } = box;
  const cut = name.indexOf(": ") + 1; // where it stands, and what it does there
  return (
    <button
      class={`part ${verdict}`}
      data-key={key}
      style={style}
      aria-pressed={store.get("sel") === key}
      aria-expanded={store.get("story") === key}
      onClick={() => toggle(store, key)}
      onMouseEnter={() => onNear?.(key)}
      onMouseLeave={() => onNear?.("")}
      onFocus={() => onNear?.(key)}
      onBlur={() => onNear?.("")}
    >
      <span>
        <strong>{plain(cut ? name.slice(0, cut) : name)}</strong>
        {cut > 0 && plain(name.slice(cut))}
      </span>
      <span class="soft">{about}</span>
      {effect && <span>{effect}</span>}
      <Verdict verdict={verdict} />
      {children}
    </button>
  );
}

export function Answer({ store, style, children }: { store: Store; style?: Record<string, string>; children?: ComponentChildren }) {
  const { target, contrast } = traceOf(store.graph.value);
  return (
    <div class="answer" style={style}>
      <span>
        the answer: <strong class="tok">{target ? token(target.token) : ""}</strong> {target && chance(target.probability)}
      </span>
      {contrast && (
        <span class="soft">
          rather than <span class="tok">{token(contrast.token)}</span> {chance(contrast.probability)}
        </span>
      )}
      {children}
    </div>
  );
}

/** Pointed for the answer, blunt against it. */
export const mark = (speaksFor: boolean): string => (speaksFor ? "→" : "⊣");
