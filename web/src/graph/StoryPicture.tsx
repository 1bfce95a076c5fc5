// The picture of a story: boxes of text over arrows. Boxes are as high as their text; what is measured decides where they stand.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { short, token } from "../core/format";
import type { Flow } from "../types";
import type { Store } from "./store";
import { boxesOf, flowWords, heldWords, lookKey, lookWords, sourceKey, speaksFor, targetKey, toggle, usedTokens } from "./story";
import { boxWidth, storyLayout } from "./storyLayout";
import { Answer, Box } from "./StoryParts";
import { StoryPanel } from "./StoryPanel";
import { traceOf } from "./trace";

const LONGEST = 16; // letters of a token

export function StoryPicture({ store, flows, width }: { store: Store; flows: Flow[]; width: number }) {
  const el = useRef<HTMLDivElement>(null);
  const measured = useSignal<{ heights: number[]; w: number; h: number } | null>(null);
  const near = useSignal("");
  const told = useSignal("");
  const view = traceOf(store.graph.value);
  const across = boxWidth(width);
  const boxes = boxesOf(view, flows);
  const numberOf = (key: string | null) => key === null ? null : boxes.findIndex((box) => box.key === key);
  useLayoutEffect(() => {
    const answer = el.current!.querySelector<HTMLElement>(".answer")!;
    const drawn = new Map([...el.current!.querySelectorAll<HTMLElement>(".part")].map((e) => [e.dataset.key, e.offsetHeight]));
    const heights = boxes.map(({ key }) => drawn.get(key)!);
    const next = { heights, w: answer.offsetWidth, h: answer.offsetHeight };
    if (JSON.stringify(next) !== JSON.stringify(measured.value)) measured.value = next;
  });
  const texts = view.tokens.map((text) => token(short(text, LONGEST)));
  const looks = view.attention ?? [];
  const size = measured.value;
  const at = storyLayout({
    width, box: across, looks,
    layers: view.n_layers,
    parts: boxes.map(({ position, depth }, k) => ({ position, depth, height: size?.heights[k] ?? 0 })),
    flows: flows.map((f) => ({ ...f, source: numberOf(sourceKey(view, f)), target: numberOf(targetKey(view, f)) })), // parts keep their numbers
    tokens: texts.map(textWidth),
    dots: textWidth("…"),
    used: usedTokens(view, flows),
    answer: { w: size?.w ?? 0, h: size?.h ?? 0 },
  }); // prettier-ignore
  const hidden = at.arcs.filter((arc) => !arc).length;
  const order = boxes.map((_, k) => k).sort((a, b) => at.boxes[a].y - at.boxes[b].y || at.boxes[a].x - at.boxes[b].x);
  const singled = near.value || store.get<string>("story");
  const faded = (flow: Flow) => (boxes.some((box) => box.key === singled) && sourceKey(view, flow) !== singled && targetKey(view, flow) !== singled ? "faded" : "");
  const tell = (words: string) => ({ onMouseEnter: () => (told.value = words), onMouseLeave: () => (told.value = ""), onFocus: () => (told.value = words), onBlur: () => (told.value = "") });
  return (
    <>
      <div ref={el} class="story-picture" style={{ height: `${at.height}px`, visibility: size ? "visible" : "hidden" }}>
        <svg width={width} height={at.height}>
          <g role="group" aria-label="Flows, the strongest first; arrow keys go from one to the next" onKeyDown={walk}>
            {at.arrows.map(({ flow, line, head, width: thick }, k) => {
              const words = flowWords(view, flow);
              return (
                <g key={k} class={`flow ${speaksFor(flow) ? "for" : "against"} ${faded(flow)}`} role="img" tabindex={k ? -1 : 0} aria-label={words} {...tell(words)}>
                  <path class="hit" d={line} stroke-width={Math.max(13, thick + 6)} />
                  <path class="line" d={line} stroke-width={thick} />
                  <path class="head" d={head} />
                </g>
              );
            })}
          </g>
          {at.arcs.map((arc, k) => {
            const words = arc && lookWords(view, looks[k]);
            const key = lookKey(k);
            return words && (
              <g
                key={key} class="look" data-key={key} role="button" tabindex={0} aria-label={words} aria-expanded={store.get("story") === key}
                onClick={() => toggle(store, key)}
                onKeyDown={(event) => {
                  if (event.key !== "Enter" && event.key !== " ") return;
                  event.preventDefault();
                  toggle(store, key);
                }}
                {...tell(words)}
              >
                <path class="hit" d={arc.line} stroke-width={11} />
                <path class="line" d={arc.line} />
                <path class="head" d={arc.head} />
              </g>
            );
          })}
        </svg>
        <Answer store={store} style={{ left: `${at.answer.x}px`, top: `${at.answer.y}px` }} />
        {order.map((k) => (
          <Box key={k} store={store} box={boxes[k]} onNear={(key) => (near.value = key)} style={{ left: `${at.boxes[k].x}px`, top: `${at.boxes[k].y}px`, width: `${across}px` }} />
        ))}
        {at.tokens.map((t, k) => (
          <span key={k} class={`tok word ${t.at < 0 ? "soft" : ""}`} style={{ left: `${t.x}px`, top: `${t.y}px`, width: `${t.w}px` }}>
            {t.at < 0 ? "…" : texts[t.at]}
          </span>
        ))}
      </div>
      <p class="told">{told.value || "Point at a line to read what it is; press a box to open it."}</p>
      <StoryPanel store={store} />
      <Legend looks={looks.length > 0}>
        {heldWords(view, at.arrows.map((a) => a.flow), "drawn")}
        {hidden > 0 && ` ${hidden} of ${looks.length} arcs have no room.`}
      </Legend>
    </>
  );
}

/** Arrow keys move the focus among the flows. */
function walk(event: KeyboardEvent & { currentTarget: SVGGElement }): void {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...event.currentTarget.children] as SVGGElement[];
  const now = all.indexOf((event.target as Element).closest(".flow") as SVGGElement);
  all[(now + step + all.length) % all.length].focus();
}

function Legend({ looks, children }: { looks: boolean; children: ComponentChildren }) {
  return (
    <p>
      <svg width="34" height="12" aria-hidden="true" class="flow for">
        <path class="line" d="M1 6H24" stroke-width="4" />
        <path class="head" d="M33 6L23 0V12Z" />
      </svg>{" "}
      blue, pointed: speaks for the answer, which is less likely without it ·{" "}
      <svg width="34" height="12" aria-hidden="true" class="flow against">
        <path class="line" d="M1 6H29" stroke-width="4" />
        <path class="head" d="M29 0h4v12h-4Z" />
      </svg>{" "}
      red, dashed, blunt: speaks against it · the wider, the more{looks && " · thin arcs: where attention looked, from the word that looks back to what it looks at"}. {children}
    </p>
  );
}

let pen: CanvasRenderingContext2D | null | undefined;

/** How wide a word is on screen, with what stands around it. */
function textWidth(text: string): number {
  pen ??= document.createElement("canvas").getContext("2d");
  if (pen) pen.font = "13px ui-monospace, monospace";
  return Math.ceil(pen?.measureText(text).width ?? text.length * 8) + 10;
}
