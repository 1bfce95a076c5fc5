// A tour of the graph page in seven steps. Each step puts a ring round a real control, named by `data-tour`.

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const STEPS: { at: string; or?: string; title: string; text: string }[] = [
  {
    at: "sentence",
    title: "The answer in one sentence",
    text: "What the model said, and the parts that led to it. Press a part to see it in the picture. A badge says whether it was tested by changing the model.",
  },
  {
    at: "story",
    title: "The story",
    text: "How the words of the prompt lead to the answer. Blue arrows speak for it, red dashed ones against it. Press a box to open it.",
  },
  {
    at: "graph",
    title: "The picture",
    text: "Words stand at the bottom, the model's layers rise above them, its answer is on top. Every dot is a part that was active. Click one, or move with the arrow keys.",
  },
  {
    at: "connections",
    title: "What leads to what",
    text: "For the chosen dot: what feeds it and what it feeds, strongest first. Blue pushes up, red pushes down. Lines with a green edge passed a test.",
  },
  {
    at: "subgraph",
    title: "Your own map",
    text: "Pin the dots that matter, put them in groups and give the groups names. This small map is your explanation; it is saved with the result.",
  },
  {
    at: "detail",
    title: "What a dot does",
    text: "Which words wake it, which next words it helps or hinders, and how its test ended. Nothing here is a guess by another model.",
  },
  {
    at: "change",
    or: "detail", // where it appears once something is chosen
    title: "Change it and see",
    text: "Choose a dot or a group, switch it off or double it, and compare the model's new answer with the old one, and with changing random dots instead. That is the real test.",
  },
];
const PLACE = "hooke.tour";

/** Who shows the tour: a frame, or whichever comes first. */
const guide = signal<HTMLElement | "any" | null>(null);

/** Begins, or goes on with, the tour: on the page of `host`, or on the next graph that is shown. */
export function startTour(host?: HTMLElement): void {
  guide.value = host ?? "any";
}

export const tourSteps = STEPS;

function place(set?: number): number {
  try {
    if (set !== undefined) localStorage.setItem(PLACE, String(set));
    return Math.min(STEPS.length - 1, Math.max(0, Number(localStorage.getItem(PLACE)) || 0));
  } catch {
    return 0; // storage may be closed to us
  }
}

/** begin: brings something onto the page that the steps can point at. */
export function Tour({ host, begin }: { host: HTMLElement; begin?(): void }) {
  useEffect(() => {
    if (guide.value === host) begin?.();
  }, [guide.value === host]);
  useEffect(() => {
    if (guide.value === "any") guide.value = host;
  }, [guide.value]);
  useEffect(() => () => void (guide.peek() === host && (guide.value = null)), []);
  return guide.value === host ? <Guide host={host} /> : null;
}

function Guide({ host }: { host: HTMLElement }) {
  const named = (name: string) => host.querySelector<HTMLElement>(`[data-tour="${name}"]`);
  const target = ({ at, or }: (typeof STEPS)[number]) => named(at) ?? (or ? named(or) : null);
  // steps whose control is not on this page are left out
  const there = STEPS.map((_, i) => i).filter((i) => target(STEPS[i]));
  const [step, setStep] = useState(() => there.find((i) => i >= place()) ?? there[0] ?? -1);
  const [box, setBox] = useState<DOMRect | null>(null);
  const card = useRef<HTMLDivElement>(null);
  const index = there.indexOf(step);
  const leave = () => (guide.value = null);
  const to = (next: number) => {
    if (next < 0) return;
    if (next >= there.length) {
      place(0);
      leave();
      return;
    }
    place(there[next]);
    setStep(there[next]);
  };
  // before the card takes the focus: where it goes back to
  useLayoutEffect(() => {
    const root = host.getRootNode() as Document | ShadowRoot;
    const before = root.activeElement as HTMLElement | null;
    return () => before?.focus?.();
  }, []);
  useLayoutEffect(() => {
    const el = step < 0 ? null : target(STEPS[step]);
    el?.scrollIntoView({ block: "nearest", inline: "nearest" });
    const look = () => setBox(el ? el.getBoundingClientRect() : null);
    look();
    card.current?.querySelector<HTMLElement>(".primary")?.focus();
    addEventListener("scroll", look, true);
    addEventListener("resize", look);
    return () => {
      removeEventListener("scroll", look, true);
      removeEventListener("resize", look);
    };
  }, [step]);
  const onKeyDown = (event: KeyboardEvent) => {
    event.stopPropagation(); // the picture's own keys rest
    if (event.key === "Escape") leave();
    else if (event.key === "ArrowRight") to(index + 1);
    else if (event.key === "ArrowLeft") to(index - 1);
    else if (event.key === "Tab") {
      const buttons = [...card.current!.querySelectorAll<HTMLElement>("button:not(:disabled)")];
      const root = card.current!.getRootNode() as Document | ShadowRoot;
      const now = buttons.indexOf(root.activeElement as HTMLElement);
      buttons[(now + (event.shiftKey ? -1 : 1) + buttons.length) % buttons.length]?.focus();
    } else return;
    event.preventDefault();
  };
  const words = STEPS[step];
  return (
    <div class="tour" onKeyDown={onKeyDown}>
      {box && <div class="tour-ring" style={ring(box)} />}
      <div ref={card} class="tour-card" role="dialog" aria-modal="true" aria-labelledby="tour-title" aria-describedby="tour-text" style={beside(box)}>
        <h2 id="tour-title">{words?.title ?? "Nothing to show here"}</h2>
        <p id="tour-text">{words?.text ?? "This page has none of the controls that the tour explains. Choose the depth “Standard”."}</p>
        <div class="line">
          <span class="soft">{words ? `${index + 1} of ${there.length}` : ""}</span>
          <span>
            <button onClick={leave}>Leave</button>{" "}
            <button disabled={index <= 0} onClick={() => to(index - 1)}>
              Back
            </button>{" "}
            <button class="primary" onClick={() => to(index + 1)}>
              {index >= there.length - 1 ? "Done" : "Next"}
            </button>
          </span>
        </div>
      </div>
    </div>
  );
}

const px = (x: number): string => `${Math.round(x)}px`;
const ring = (box: DOMRect) => ({ left: px(box.left - 4), top: px(box.top - 4), width: px(box.width + 8), height: px(box.height + 8) });

const [CARD_W, CARD_H, GAP] = [340, 190, 14];

/** Under the control, else above it, else beside it; in the far corner of one that fills the window. */
export function beside(box: Pick<DOMRect, "left" | "right" | "top" | "bottom"> | null): Record<string, string> {
  const width = Math.min(CARD_W, innerWidth - 24);
  const left = (x: number) => px(Math.min(Math.max(12, x), innerWidth - width - 12));
  const at = { width: px(width) };
  if (!box) return { ...at, left: left(innerWidth), bottom: "12px" };
  if (box.bottom + GAP + CARD_H < innerHeight) return { ...at, left: left(box.left), top: px(box.bottom + GAP) };
  if (box.top - GAP - CARD_H > 0) return { ...at, left: left(box.left), bottom: px(innerHeight - box.top + GAP) };
  if (box.right + GAP + width < innerWidth) return { ...at, left: px(box.right + GAP), bottom: "12px" };
  if (box.left - GAP - width > 0) return { ...at, left: px(box.left - GAP - width), bottom: "12px" };
  return { ...at, left: left(innerWidth), bottom: "12px" };
}
