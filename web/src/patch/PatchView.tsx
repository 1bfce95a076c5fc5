// Patches as heatmaps: rows are layers, columns tokens or heads; blue brings the other run's answer, red takes it away.

import type { ViewProps } from "../core/contract";
import { ink, signed } from "../core/colour";
import { num, plain, token } from "../core/format";
import { Claims, Value } from "../generic/GenericView";
import type { PatchGrid, PatchView as View } from "../types";

export function PatchView({ result, dark }: ViewProps) {
  const view = result.view as View;
  return (
    <div class="generic">
      <p class="lens-sentence">{plain(view.sentence)}</p>
      <Claims claims={result.claims} />
      {view.grids.map((grid) => (
        <Heatmap key={grid.title} grid={grid} dark={dark} />
      ))}
      <Value value={view.rest} name={result.kind} depth={0} dark={dark} />
    </div>
  );
}

function Heatmap({ grid, dark }: { grid: PatchGrid; dark: boolean }) {
  const cells = grid.shares ?? grid.values;
  const most = Math.max(1e-9, ...cells.flat().map((v) => Math.abs(v ?? 0)));
  const shown = (v: number | null) => (v === null ? "" : grid.shares ? `${Math.round(100 * v) || 0}` : num(v));
  return (
    <section>
      <h2>{plain(grid.title)}</h2>
      <p class="soft">
        {grid.shares ? "Per cent of the difference between the two prompts" : "The metric"}
        {grid.note && `; ${plain(grid.note)}`}. Rows are layers.
      </p>
      <div class="lens-scroll" tabIndex={0} role="region" aria-label={plain(grid.title)}>
        <table class="lens-table">
          <thead>
            <tr>
              <th>layer</th>
              {grid.columns.map((c, i) => (
                <th key={i}>{token(c)}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {cells.map((row, r) => (
              <tr key={r}>
                <th>{grid.rows[r]}</th>
                {row.map((v, c) => {
                  const fill = signed((v ?? 0) / most, dark);
                  return (
                    <td key={c} class="number" style={{ background: fill, color: ink(fill) }} title={num(grid.values[r][c] ?? NaN)}>
                      {shown(v)}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
