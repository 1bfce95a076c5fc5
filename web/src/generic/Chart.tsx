// A small line chart: one series against its place in the list, and one to compare with, with axes that say their numbers.

import { count, num, plain } from "../core/format";

const [W, H] = [480, 150];
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 10, 8, 22];
const MOST_POINTS = 2000;

type Values = (number | null | undefined)[];

interface Props {
  values: Values;
  name: string;
  /** Drawn dashed, on the same axes. */
  beside?: Values;
  /** What stands at the ends of the horizontal axis, if not the places in the list. */
  ends?: [string, string];
  /** Least and greatest of what stands beside. */
  band?: [Values, Values];
  /** What stands under each value instead of the ends. */
  ticks?: string[];
  /** What stands on the vertical axis, if not its least, middle and greatest number. */
  hold?: number[];
  /** An upright line at this place in the list. */
  at?: number;
}

export function Chart({ values, name, beside = [], ends = ["0", count(values.length - 1)], band, ticks, hold = [], at }: Props) {
  const finite = [values, beside, hold, ...(band ?? [])].flat().filter((v): v is number => typeof v === "number" && Number.isFinite(v));
  if (finite.length === 0) return <p class="soft">No numbers to draw.</p>;
  let [least, greatest] = [Infinity, -Infinity];
  for (const v of finite) [least, greatest] = [Math.min(least, v), Math.max(greatest, v)];
  const said = `${plain(name)}: ${count(values.length)} values, least ${num(least)}, greatest ${num(greatest)}`;
  const flat = least === greatest;
  const [low, high] = flat ? [least - 1, least + 1] : [least, greatest];
  const x = (i: number) => LEFT + ((W - LEFT - RIGHT) * i) / Math.max(1, values.length - 1);
  const y = (v: number) => TOP + (H - TOP - BOTTOM) * (1 - (v - low) / (high - low));
  // the area between, there and back; a hole on either side leaves its places out
  const held = band ? values.map((_, i) => i).filter((i) => band[0][i] != null && band[1][i] != null) : [];
  const area = [...held.map((i) => [i, band![0][i]!]), ...held.reverse().map((i) => [i, band![1][i]!])];
  return (
    <svg class="chart" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={said}>
      {(hold.length ? hold : flat ? [least] : [low, (low + high) / 2, high]).map((v) => (
        <g key={v}>
          <line class="grid" x1={LEFT} x2={W - RIGHT} y1={y(v)} y2={y(v)} />
          <text x={LEFT - 6} y={y(v) + 4} text-anchor="end">
            {num(v)}
          </text>
        </g>
      ))}
      {low < 0 && high > 0 && <line class="zero" x1={LEFT} x2={W - RIGHT} y1={y(0)} y2={y(0)} />}
      {ticks ? (
        ticks.map((text, i) => (
          <text key={i} class={i % 2 && ticks.length > 6 ? "odd" : ""} x={x(i)} y={H - 6} text-anchor={i && i === ticks.length - 1 ? "end" : "middle"}>
            {text}
          </text>
        ))
      ) : (
        <>
          <text x={LEFT} y={H - 6}>
            {ends[0]}
          </text>
          <text x={W - RIGHT} y={H - 6} text-anchor="end">
            {ends[1]}
          </text>
        </>
      )}
      {area.length > 0 && <polygon points={area.map(([i, v]) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ")} />}
      {at !== undefined && <line class="at" x1={x(at)} x2={x(at)} y1={TOP} y2={H - BOTTOM} />}
      {beside.length > 0 && <path class="beside" d={path(beside, x, y)} />}
      <path d={path(values, x, y)} />
    </svg>
  );
}

/** Holes break the line. Past MOST_POINTS, the least and greatest of each stretch stand for it. */
export function path(values: (number | null | undefined)[], x: (i: number) => number, y: (v: number) => number): string {
  const step = Math.max(1, Math.ceil(values.length / (MOST_POINTS / 2)));
  let out = "";
  let pen = "M";
  for (let start = 0; start < values.length; start += step) {
    let [low, high] = [-1, -1];
    for (let i = start; i < Math.min(values.length, start + step); i++) {
      const v = values[i];
      if (typeof v !== "number" || !Number.isFinite(v)) continue;
      if (low < 0 || v < values[low]!) low = i;
      if (high < 0 || v > values[high]!) high = i;
    }
    if (low < 0) {
      pen = "M";
      continue;
    }
    for (const i of low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) {
      out += `${pen}${x(i).toFixed(1)} ${y(values[i]!).toFixed(1)}`;
      pen = "L";
    }
    // a point between two holes would not show
    if (pen === "L" && values[start + step] == null && out.lastIndexOf("M") > out.lastIndexOf("L")) out += "h.1";
  }
  return out;
}
