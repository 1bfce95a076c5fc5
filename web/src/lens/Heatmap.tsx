// The heatmap itself: one canvas as wide as the window onto it, inside a scroller as wide as all tokens.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { paint } from "../core/picture";
import { AXIS, type Colour, describe, GUTTER, heightOf, type Lens, ROW, shapes, topOf } from "./lens";

const NARROW = 64;
const WIDE = 150;

interface Props {
  lens: Lens;
  colour: Colour;
  names: Set<number>;
  outline: boolean;
  fit: boolean;
  dark: boolean;
  at: [number, number];
  choose(row: number, column: number, how: "push" | "replace"): void;
}

export function Heatmap({ lens, colour, names, outline, fit, dark, at, choose }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(800);
  const [hover, setHover] = useState<[number, number] | null>(null);
  const room = Math.max(60, width - GUTTER);
  const even = room / lens.columns;
  const cell = fit ? Math.min(WIDE, even) : Math.min(WIDE, Math.max(NARROW, Math.floor(even)));
  const height = heightOf(lens);
  const all = Math.ceil(GUTTER + cell * lens.columns);

  const draw = () => {
    const context = canvas.current?.getContext("2d");
    if (!context || !scroller.current) return;
    const scroll = scroller.current.scrollLeft;
    const seen = Math.min(width, all);
    const ratio = globalThis.devicePixelRatio || 1;
    const [w, h] = [Math.round(seen * ratio), Math.round(height * ratio)];
    if (canvas.current!.width !== w || canvas.current!.height !== h) {
      canvas.current!.width = w;
      canvas.current!.height = h;
      canvas.current!.style.width = `${seen}px`;
      canvas.current!.style.height = `${height}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, seen, height);
    const from = Math.max(0, Math.floor(scroll / cell));
    const to = Math.min(lens.columns, Math.ceil((scroll + seen) / cell));
    paint(context, shapes(lens, { colour, names, outline, cell, from, to, left: GUTTER - scroll, dark }));
  };

  useLayoutEffect(() => {
    const el = scroller.current!;
    setWidth(el.clientWidth || 800);
    if (typeof ResizeObserver === "undefined") return;
    const observer = new ResizeObserver(() => setWidth(el.clientWidth || 800));
    observer.observe(el);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(draw, [lens, colour, names, outline, dark, cell, width]);
  // the chosen cell stays in sight
  useEffect(() => {
    const el = scroller.current!;
    const x = at[1] * cell;
    if (x < el.scrollLeft) el.scrollLeft = x;
    else if (x + cell > el.scrollLeft + room) el.scrollLeft = x + cell - room;
  }, [at[1], cell, room]);

  const under = (event: MouseEvent): [number, number] | null => {
    const box = scroller.current!.getBoundingClientRect();
    const x = event.clientX - box.left - GUTTER;
    const column = Math.floor((x + scroller.current!.scrollLeft) / cell);
    const row = lens.rows - 1 - Math.floor((event.clientY - box.top - AXIS) / ROW);
    return x >= 0 && column >= 0 && column < lens.columns && row >= 0 && row < lens.rows ? [row, column] : null;
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const to = moved(event, at[0], at[1], lens);
    if (!to) return;
    event.preventDefault();
    choose(to[0], to[1], "replace");
  };
  const place = ([row, column]: [number, number]) => ({
    left: `${Math.floor(GUTTER + column * cell)}px`,
    top: `${topOf(lens, row)}px`,
    width: `${Math.max(4, cell)}px`,
    height: `${ROW}px`,
  });
  return (
    <div
      ref={scroller}
      class="lens-scroll"
      tabIndex={0}
      role="application"
      aria-roledescription="heatmap"
      aria-label={`${lens.rows} layers by ${lens.columns} tokens. Arrow keys move. ${describe(lens, at[0], at[1])}`}
      onScroll={draw}
      onKeyDown={onKeyDown}
      onMouseMove={(e) => setHover((old) => same(old, under(e)))}
      onMouseLeave={() => setHover(null)}
      onClick={(e) => {
        const to = under(e);
        if (to) choose(to[0], to[1], "push");
      }}
    >
      <div class="lens-sheet" style={{ width: `${all}px`, height: `${height}px` }}>
        <canvas ref={canvas} aria-hidden="true" />
        <div class="lens-mark" style={place(at)} />
        {hover && (
          <div class="lens-mark over" style={place(hover)}>
            <Tip lens={lens} at={hover} right={GUTTER + (hover[1] + 1) * cell + 250 > (scroller.current?.scrollLeft ?? 0) + width} />
          </div>
        )}
      </div>
    </div>
  );
}

/** What the cell under the pointer says; the same stands beside the picture once the cell is chosen. */
function Tip({ lens, at, right }: { lens: Lens; at: [number, number]; right: boolean }) {
  const [head, tail] = describe(lens, at[0], at[1]).split(/: (.*)/s);
  return (
    <div class={`tip${right ? " right" : ""}${at[0] < 3 ? " up" : ""}`} aria-hidden="true">
      {head}
      <br />
      <b class="tok">{tail}</b>
    </div>
  );
}

const same = (a: [number, number] | null, b: [number, number] | null) =>
  a && b && a[0] === b[0] && a[1] === b[1] ? a : b;

/** Where a key leads from a cell; null for keys that are not ours. */
export function moved(event: Pick<KeyboardEvent, "key">, row: number, column: number, lens: Lens): [number, number] | null {
  const top = lens.rows - 1;
  const last = lens.columns - 1;
  switch (event.key) {
    case "ArrowUp":
      return [Math.min(top, row + 1), column];
    case "ArrowDown":
      return [Math.max(0, row - 1), column];
    case "ArrowLeft":
      return [row, Math.max(0, column - 1)];
    case "ArrowRight":
      return [row, Math.min(last, column + 1)];
    case "Home":
      return [row, 0];
    case "End":
      return [row, last];
    case "PageUp":
      return [top, column];
    case "PageDown":
      return [0, column];
    default:
      return null;
  }
}
