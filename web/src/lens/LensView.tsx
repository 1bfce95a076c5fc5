// The lens: layer by token, what each layer would say next. A heatmap on canvas, the chosen cell beside it.

import { useId, useMemo, useRef } from "preact/hooks";
import type { State, ViewProps } from "../core/contract";
import { Chance } from "../core/Chance";
import { count, num, plain, token } from "../core/format";
import { download, fileName } from "../core/files";
import { palette, unsigned } from "../core/colour";
import { png, svg, type Pen } from "../core/pen";
import { paint } from "../core/picture";
import type { LensView as View, Shown } from "../types";
import { Heatmap } from "./Heatmap";
import { LastColumn, LensTable } from "./LensTable";
import { chosen, type Colour, describe, guesses, layerWords, type Lens, lensOf, matching, meaning, poster, siteName, stopName, STOPS } from "./lens";

const COLOURS: [Colour, string][] = [
  ["probability", "Probability"],
  ["entropy", "Entropy"],
  ["token", "Chosen token"],
];
const MOST_OFFERED = 300; // tokens in the list under the search box

export function lensState(_result: Shown): State {
  return { cell: "", colour: "probability", token: "", table: false, fit: false };
}

export function LensView(props: ViewProps) {
  const { data, result, number, state, set, depth } = props;
  const view = result.view as View;
  const lens = useMemo(() => {
    try {
      return lensOf(data, number, view);
    } catch (error) {
      return (error as Error).message;
    }
  }, [data, number]);
  if (typeof lens === "string") return <p class="alert">{lens}</p>;
  return (
    <div class="lens">
      <p class="lens-sentence">
        {plain(view.sentence)}{" "}
        <span class="badge untested" title="Read off the layers; nothing in the model was changed to test it">
          not tested
        </span>
      </p>
      {depth === "plain" ? <Plain lens={lens} /> : <Full {...props} lens={lens} state={state} set={set} />}
    </div>
  );
}

function Plain({ lens }: { lens: Lens }) {
  const { choice, tokens } = lens.view;
  const from = choice.from_layer;
  const when = from < 0 ? "from the start, before any layer," : `from layer ${from} on`;
  return (
    <>
      <p>
        A model works in layers, one after another. This is what it would say next if it stopped after each of them:{" "}
        {when} it would say <span class="tok">{token(choice.token)}</span>.
      </p>
      <h2>
        After the last token, <span class="tok">{token(tokens[tokens.length - 1])}</span>
      </h2>
      <LastColumn lens={lens} />
    </>
  );
}

function Full({ lens, state, set, depth, dark, result, announce }: ViewProps & { lens: Lens }) {
  const search = useRef<HTMLInputElement>(null);
  const listId = useId();
  const s = state.value;
  const colour = s.colour as Colour;
  const query = String(s.token ?? "");
  const names = useMemo(() => (query || colour !== "token" ? matching(lens, query) : new Set([lens.view.names.indexOf(lens.view.choice.token)])), [lens, query, colour]);
  const at = cellOf(lens, s.cell);
  const first = useMemo(() => {
    let n = 0;
    for (let i = 0; query && i < lens.ids.length; i += lens.view.top) if (names.has(lens.ids[i])) n++;
    return n;
  }, [lens, names, query]);
  const offered = useMemo(() => lens.view.names.slice(0, MOST_OFFERED).map(token), [lens]);
  const choose = (row: number, column: number, how: "push" | "replace") => {
    set({ cell: `${row}:${column}` }, how);
    announce(describe(lens, row, column), true);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const inField = (event.target as HTMLElement).closest("input, select, textarea");
    if (event.key === "/" && !inField) {
      event.preventDefault();
      search.current?.focus();
    }
  };
  const save = async (kind: "png" | "svg") => {
    try {
      const { list, width, height } = poster(lens, { colour, names, outline: query !== "", dark });
      const ground = { x: 0, y: 0, w: width, h: height, fill: palette(dark).surface };
      const draw = (pen: Pen) => paint(pen, [ground, ...list]);
      const blob = kind === "png" ? await png(width, height, draw) : svg(width, height, lens.view.sentence, draw);
      download(blob, fileName(`${result.kind} ${lens.view.prompt}`, kind));
    } catch (error) {
      announce(`Not exported: ${(error as Error).message}`);
    }
  };
  return (
    <div class="lens-full" onKeyDown={onKeyDown}>
      <div class="lens-tools">
        <span class="choice" role="group" aria-label="Colour by">
          {COLOURS.map(([value, name]) => (
            <button key={value} aria-pressed={colour === value} onClick={() => set({ colour: value })}>
              {name}
            </button>
          ))}
        </span>
        <label>
          Find a token{" "}
          <input
            ref={search}
            type="search"
            list={listId}
            value={query}
            placeholder={token(lens.view.choice.token)}
            title="Outlines the cells where this token is first. Press / to come here"
            onInput={(e) => set({ token: e.currentTarget.value }, "replace")}
          />
        </label>
        <datalist id={listId}>
          {offered.map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        {query && (
          <span class="soft" role="status">
            {names.size === 0 ? `not among the first ${lens.view.top} anywhere` : `first in ${count(first)} of ${count(lens.rows * lens.columns)} cells`}
          </span>
        )}
        <span class="push" />
        <button aria-pressed={!!s.fit} onClick={() => set({ fit: !s.fit })} title="Squeeze all tokens into the window">
          Fit
        </button>
        <button aria-pressed={!!s.table} onClick={() => set({ table: !s.table })}>
          Show as table
        </button>
        <button onClick={() => save("png")}>PNG</button>
        <button onClick={() => save("svg")}>SVG</button>
      </div>
      <div class="lens-panes">
        <div class="lens-main">
          {s.table ? (
            <LensTable lens={lens} colour={colour} names={names} expert={depth === "expert"} />
          ) : (
            <Heatmap lens={lens} colour={colour} names={names} outline={query !== ""} fit={!!s.fit} dark={dark} at={at} choose={choose} />
          )}
          <Legend lens={lens} colour={colour} names={names} dark={dark} />
        </div>
        <Detail lens={lens} row={at[0]} column={at[1]} names={names} expert={depth === "expert"} />
      </div>
    </div>
  );
}

/** The chosen cell; without one, what the model says after the last token. */
function cellOf(lens: Lens, cell: unknown): [number, number] {
  const [row, column] = String(cell ?? "").split(":").map(Number);
  const there = Number.isInteger(row) && Number.isInteger(column) && row >= 0 && row < lens.rows && column >= 0 && column < lens.columns;
  return there ? [row, column] : [lens.rows - 1, lens.columns - 1];
}

function Detail({ lens, row, column, names, expert }: { lens: Lens; row: number; column: number; names: Set<number>; expert: boolean }) {
  const layer = lens.view.layers[row];
  const entropy = lens.entropy[row * lens.columns + column];
  const sum = chosen(lens, row, column, names);
  return (
    <div class="lens-detail" role="group" aria-label="Predictions at the chosen cell">
      <h2>
        At <span class="tok">{token(lens.view.tokens[column])}</span>, {layerWords(layer)}
      </h2>
      <Bars rows={guesses(lens, row, column)} names={names} />
      <p class="soft">
        Entropy {num(entropy)} nats: as undecided as between {num(Math.exp(entropy))} equally likely tokens.
        {names.size > 0 && sum === null && ` The chosen token is not among the first ${lens.view.top} here.`}
      </p>
      {expert && (
        <p class="soft mono">
          {siteName(layer)} · position {column} of {lens.columns} · row {row} · vocabulary ids {guesses(lens, row, column).map((g) => lens.view.ids[g.name]).join(", ")}
        </p>
      )}
    </div>
  );
}

function Bars({ rows, names }: { rows: { name: number; text: string; probability: number }[]; names: Set<number> }) {
  return (
    <table class="bars">
      <thead class="hidden">
        <tr>
          <th>Next token</th>
          <th>Probability</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((g, i) => (
          <tr key={i} class={names.has(g.name) ? "wanted" : ""}>
            <td>
              <span class="tok">{token(g.text)}</span>
            </td>
            <Chance value={g.probability} />
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Legend({ lens, colour, names, dark }: { lens: Lens; colour: Colour; names: Set<number>; dark: boolean }) {
  return (
    <p class="legend soft">
      <span>Colour: {meaning(lens, colour, names)}</span>
      {STOPS.map((x) => (
        <span key={x} class="stop">
          <i style={{ background: unsigned(x, dark) }} /> {stopName(lens, colour, x)}
        </span>
      ))}
      {colour === "token" && (
        <span class="stop">
          <i style={{ background: palette(dark).panel }} /> not among the first {lens.view.top}
        </span>
      )}
      <span>Layers upwards, “in” is before the first. Arrow keys move, / searches.</span>
    </p>
  );
}
