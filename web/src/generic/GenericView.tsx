// Any result that the page has no picture for: claims first, then its payload as tables, series and heat tables.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { ViewProps } from "../core/contract";
import { ink, signed, unsigned } from "../core/colour";
import { count, num, plain, short } from "../core/format";
import type { Claim, GenericView as View, Intervention } from "../types";
import { Chart } from "./Chart";
import { Verdict } from "../core/Verdict";
import { InterventionTable } from "./InterventionTable";
import { columnsOf, counts, isScalar, kindOf, numeric, titled, type Row } from "./shape";

const DEEPEST = 6;
const ROWS = 200;
const COLUMNS = 30;
const ENTRIES = 50;
const LETTERS = 300;

export function GenericView({ result, dark }: ViewProps) {
  const view = result.view as View | Intervention;
  if (view.type === "intervention") {
    return (
      <div class="generic">
        <InterventionTable view={view as Intervention} />
      </div>
    );
  }
  const { payload } = view as View;
  const sentence = kindOf(payload) === "record" ? (payload as Row).sentence : undefined;
  return (
    <div class="generic">
      {typeof sentence === "string" && <p class="lens-sentence">{plain(sentence)}</p>}
      <Claims claims={result.claims} />
      <Value value={payload} name={result.kind} depth={0} dark={dark} />
    </div>
  );
}

export function Claims({ claims }: { claims: Claim[] }) {
  if (claims.length === 0) return null;
  return (
    <section>
      <h2>Claims</h2>
      <ClaimList claims={claims} />
    </section>
  );
}

export function ClaimList({ claims }: { claims: Claim[] }) {
  const [shown, more] = useMore(claims.length, ENTRIES);
  return (
    <>
      <ul class="claims">
        {claims.slice(0, shown).map((claim, i) => (
          <li key={i}>
            <Verdict verdict={claim.verdict ?? "untested"} /> {plain(claim.text)}
          </li>
        ))}
      </ul>
      {more}
    </>
  );
}

interface Part {
  value: unknown;
  name: string;
  depth: number;
  dark: boolean;
}

export function Value(part: Part) {
  const { value, name, depth, dark } = part;
  switch (kindOf(value)) {
    case "scalar":
      return <Cell value={value} />;
    case "empty":
      return <p class="soft">empty</p>;
    case "series":
      return <Series values={value as number[]} name={name} />;
    case "scalars":
      return <Scalars values={value as unknown[]} />;
    case "matrix":
      return <Matrix rows={value as (number | null)[][]} dark={dark} />;
    case "rows":
      return <Rows rows={value as Row[]} name={name} />;
    case "columns":
      return <Rows rows={turned(value as Record<string, unknown[]>)} name={name} />;
    default:
      return depth >= DEEPEST ? <Deep value={value} /> : <Record {...part} />;
  }
}

/** What an object or a mixed list holds: its plain entries as one table, everything else under a heading each. */
function Record({ value, depth, dark }: Part) {
  // the sentence stands above everything else already
  const entries = Object.entries(value as object).filter(([key, v]) => depth > 0 || key !== "sentence" || typeof v !== "string");
  const simple = entries.filter(([, v]) => isScalar(v));
  const rest = entries.filter(([, v]) => !isScalar(v));
  const [rows, moreRows] = useMore(simple.length, ROWS);
  const [parts, moreParts] = useMore(rest.length, ENTRIES);
  const listed = Array.isArray(value);
  return (
    <>
      {simple.length > 0 && (
        <table class="keys">
          <tbody>
            {simple.slice(0, rows).map(([key, v]) => (
              <tr key={key}>
                <th scope="row">{plain(listed ? key : titled(key))}</th>
                <td>
                  <Cell value={v} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {moreRows}
      {rest.slice(0, parts).map(([key, v]) => (
        <Section key={key} title={plain(short(listed ? `${Number(key) + 1}` : titled(key), 80))} open={depth < 2}>
          <Value value={v} name={key} depth={depth + 1} dark={dark} />
        </Section>
      ))}
      {moreParts}
    </>
  );
}

/** Closed sections are not built: a deep payload would cost seconds. */
function Section({ title, open, children }: { title: string; open: boolean; children: ComponentChildren }) {
  const [shown, setShown] = useState(open);
  return (
    <details class="part" open={shown} onToggle={(e) => setShown(e.currentTarget.open)}>
      <summary>{title}</summary>
      {shown && children}
    </details>
  );
}

function Cell({ value }: { value: unknown }) {
  if (value === null || value === undefined) return <span class="soft">–</span>;
  if (typeof value === "number") return <span title={String(value)}>{Number.isInteger(value) && Math.abs(value) < 1e15 ? whole(value) : num(value)}</span>;
  if (typeof value === "boolean") return <>{value ? "yes" : "no"}</>;
  if (typeof value === "string") return <Long text={value} />;
  return <Long text={JSON.stringify(value) ?? "–"} mono />;
}

const whole = (n: number): string => (n < 0 ? "−" : "") + count(Math.abs(n));

function Long({ text, mono }: { text: string; mono?: boolean }) {
  const [all, setAll] = useState(false);
  const shown = plain(all ? text.slice(0, 100_000) : text.slice(0, LETTERS));
  return (
    <span class={mono ? "mono" : ""}>
      {shown}
      {text.length > LETTERS && (
        <button class="plain" onClick={() => setAll(!all)}>
          {all ? "less" : `… ${count(text.length - LETTERS)} more`}
        </button>
      )}
    </span>
  );
}

function Deep({ value }: { value: unknown }) {
  return (
    <p>
      <span class="soft">nested deeper than this page shows: </span>
      <Long text={JSON.stringify(value)} mono />
    </p>
  );
}

function Series({ values, name }: { values: (number | null)[]; name: string }) {
  const [table, setTable] = useState(false);
  const [shown, more] = useMore(values.length, ROWS);
  return (
    <>
      <Chart values={values} name={titled(name)} />
      <p>
        <button aria-pressed={table} onClick={() => setTable(!table)}>
          Show as table
        </button>{" "}
        <span class="soft">{count(values.length)} values</span>
      </p>
      {table && (
        <table class="keys">
          <tbody>
            {values.slice(0, shown).map((v, i) => (
              <tr key={i}>
                <th scope="row">{i}</th>
                <td class="number">{num(v)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {table && more}
    </>
  );
}

function Scalars({ values }: { values: unknown[] }) {
  const [shown, more] = useMore(values.length, ROWS);
  return (
    <>
      <ul class="scalars">
        {values.slice(0, shown).map((v, i) => (
          <li key={i}>
            <Cell value={v} />
          </li>
        ))}
      </ul>
      {more}
    </>
  );
}

function Rows({ rows, name }: { rows: Row[]; name: string }) {
  const all = columnsOf(rows);
  const lines = rows.length > 2 ? numeric(rows, all) : [];
  // rows with words are things and not steps: no line joins them unasked
  const [line, setLine] = useState(() => (rows.length >= 8 && lines.length === all.length ? (lines.find((c) => !counts(rows, c)) ?? "") : ""));
  const [shown, more] = useMore(rows.length, ROWS);
  const [wide, moreWide] = useMore(all.length, COLUMNS, "columns");
  const columns = all.slice(0, wide);
  return (
    <>
      {lines.length > 0 && (
        <p>
          <label>
            Draw{" "}
            <select value={line} onChange={(e) => setLine(e.currentTarget.value)}>
              <option value="">nothing</option>
              {lines.slice(0, ROWS).map((c) => (
                <option key={c} value={c}>
                  {plain(titled(c))}
                </option>
              ))}
            </select>
          </label>
        </p>
      )}
      {line && <Chart values={rows.map((r) => r[line] as number)} name={titled(line)} />}
      <div class="scroll" tabIndex={0} role="region" aria-label={`Table: ${plain(titled(name))}`}>
        <table>
          <thead>
            <tr>
              {columns.map((c) => (
                <th key={c} scope="col" class={lines.includes(c) ? "number" : ""}>
                  {plain(titled(c))}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, shown).map((row, i) => (
              <tr key={i}>
                {columns.map((c) => (
                  <td key={c} class={typeof row[c] === "number" ? "number" : ""}>
                    <Cell value={row[c]} />
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {more}
      {moreWide}
    </>
  );
}

function Matrix({ rows, dark }: { rows: (number | null)[][]; dark: boolean }) {
  const [tall, moreTall] = useMore(rows.length, COLUMNS);
  const [wide, moreWide] = useMore(rows[0].length, COLUMNS, "columns");
  let [least, size] = [Infinity, 0];
  for (const row of rows) {
    for (const v of row) {
      if (v === null || !Number.isFinite(v)) continue;
      least = Math.min(least, v);
      size = Math.max(size, Math.abs(v));
    }
  }
  const colour = (v: number) => (least < 0 ? signed(v / (size || 1), dark) : unsigned(v / (size || 1), dark));
  return (
    <>
      <p class="soft">
        {count(rows.length)} rows by {count(rows[0].length)} columns; colour from {least < 0 ? `${num(-size)} (red) to ${num(size)} (blue)` : `0 to ${num(size)}`}
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Matrix">
        <table class="matrix">
          <tbody>
            {rows.slice(0, tall).map((row, i) => (
              <tr key={i}>
                <th scope="row">{i}</th>
                {row.slice(0, wide).map((v, j) => {
                  const fill = v === null ? undefined : colour(v);
                  return (
                    <td key={j} class="number" style={fill ? { background: fill, color: ink(fill) } : {}} title={`row ${i}, column ${j}: ${v ?? "–"}`}>
                      {num(v)}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {moreTall}
      {moreWide}
    </>
  );
}

/** How many of a long list to show, and the line that says so with a button for more. */
function useMore(all: number, step: number, what = ""): [number, ComponentChildren] {
  const [most, setMost] = useState(step);
  const line = all > most && (
    <p class="soft">
      showing {count(most)} of {count(all)} {what}{" "}
      <button onClick={() => setMost(most + step * 5)}>Show more</button>
    </p>
  );
  return [Math.min(all, most), line];
}

const turned = (columns: Record<string, unknown[]>): Row[] =>
  Object.values(columns)[0].map((_, i) => Object.fromEntries(Object.entries(columns).map(([key, list]) => [key, list[i]])));
