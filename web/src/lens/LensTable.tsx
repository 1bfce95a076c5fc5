// The same numbers as tables: all of them, a window of tokens at a time, or the last token only.

import { useState } from "preact/hooks";
import { Chance } from "../core/Chance";
import { chance, count, num, token } from "../core/format";
import { chosen, type Colour, guesses, layerName, siteName, type Lens } from "./lens";

const WINDOW = 24; // tokens side by side

export function LensTable({ lens, colour, names, expert }: { lens: Lens; colour: Colour; names: Set<number>; expert: boolean }) {
  const [from, setFrom] = useState(0);
  const to = Math.min(lens.columns, from + WINDOW);
  const columns = Array.from({ length: to - from }, (_, i) => from + i);
  const rows = Array.from({ length: lens.rows }, (_, i) => lens.rows - 1 - i);
  const value = (row: number, column: number) =>
    colour === "entropy"
      ? num(lens.entropy[row * lens.columns + column])
      : chance(colour === "token" ? chosen(lens, row, column, names) : guesses(lens, row, column, 1)[0].probability);
  return (
    <div class="lens-table">
      {lens.columns > WINDOW && (
        <p>
          <button disabled={from === 0} onClick={() => setFrom(Math.max(0, from - WINDOW))}>
            Earlier
          </button>{" "}
          tokens {count(from + 1)}–{count(to)} of {count(lens.columns)}{" "}
          <button disabled={to === lens.columns} onClick={() => setFrom(from + WINDOW)}>
            Later
          </button>
        </p>
      )}
      <div class="scroll" tabIndex={0} role="region" aria-label="First prediction by layer and token">
        <table>
          <thead>
            <tr>
              <th scope="col">layer</th>
              {columns.map((c) => (
                <th key={c} scope="col">
                  <span class="tok">{token(lens.view.tokens[c])}</span>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row}>
                <th scope="row">{expert ? siteName(lens.view.layers[row]) : layerName(lens.view.layers[row])}</th>
                {columns.map((c) => {
                  const [best] = guesses(lens, row, c, 1);
                  return (
                    <td key={c} class={names.has(best.name) ? "wanted" : ""}>
                      <span class="tok">{token(best.text)}</span> <span class="soft">{value(row, c)}</span>
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

/** The last token's column, layers with the same first prediction taken together. */
export function LastColumn({ lens }: { lens: Lens }) {
  const runs: { low: number; high: number; text: string; name: number; probability: number }[] = [];
  for (let row = 0; row < lens.rows; row++) {
    const [best] = guesses(lens, row, lens.columns - 1, 1);
    const last = runs[runs.length - 1];
    if (last?.name === best.name) Object.assign(last, { high: row, probability: best.probability });
    else runs.push({ low: row, high: row, ...best });
  }
  const layer = (row: number) => (lens.view.layers[row] < 0 ? "before the first" : layerName(lens.view.layers[row]));
  return (
    <table class="bars">
      <thead>
        <tr>
          <th>Layers</th>
          <th>It would say</th>
          <th>How likely, at the last of them</th>
        </tr>
      </thead>
      <tbody>
        {runs.reverse().map((run) => (
          <tr key={run.low}>
            <td>{run.low === run.high ? layer(run.low) : `${layer(run.low)} to ${layer(run.high)}`}</td>
            <td>
              <span class="tok">{token(run.text)}</span>
            </td>
            <Chance value={run.probability} />
          </tr>
        ))}
      </tbody>
    </table>
  );
}
