// A probe or a test of one: AUROC beside its baselines, by layer, and its worst mistakes with their scores token by token.

import type { ViewProps } from "../core/contract";
import { ink, signed } from "../core/colour";
import { count, num, plain, token } from "../core/format";
import { Chart } from "../generic/Chart";
import { Claims, Value } from "../generic/GenericView";
import type { Bar, Mistake, ProbeView as View, Roc } from "../types";

export function ProbeView({ result, dark }: ViewProps) {
  const view = result.view as View;
  const { curve } = view;
  return (
    <div class="generic probe">
      {view.sentence && <p class="lens-sentence">{plain(view.sentence)}</p>}
      {view.notes.map((note) => (
        <p key={note} class="soft">
          Note: {plain(note)}
        </p>
      ))}
      <Claims claims={result.claims} />
      {view.bars.length > 0 && (
        <section>
          <h2>AUROC, with 95 % intervals</h2>
          <Bars bars={view.bars} />
        </section>
      )}
      {curve && (
        <section>
          <h2>By layer</h2>
          <Chart values={curve.auroc} beside={curve.random_direction} name="AUROC by layer" ends={[`layer ${curve.layers[0]}`, `layer ${curve.layers.at(-1)}`]} />
          <p class="soft">AUROC in validation{curve.random_direction.length > 0 && "; dashed: a random direction"}.</p>
        </section>
      )}
      {view.roc && (
        <section>
          <h2>Found, by false alarms</h2>
          <Curve roc={view.roc} />
        </section>
      )}
      {view.mistakes.length > 0 && (
        <section>
          <h2>
            Worst mistakes, {count(view.mistakes.length)} of {count(view.mistakes_of)}
          </h2>
          <p class="soft">
            Token by token: <span class="positive">blue</span> speaks for “{plain(view.positive)}”, <span class="negative">red</span> against it.
          </p>
          {view.mistakes.map((m, i) => (
            <Wrong key={i} mistake={m} dark={dark} />
          ))}
        </section>
      )}
      <Value value={view.rest} name={result.kind} depth={0} dark={dark} />
    </div>
  );
}

/** A dot and its interval from 0 to 1; half-way is chance. */
function Bars({ bars }: { bars: Bar[] }) {
  return (
    <table class="bars">
      <thead>
        <tr>
          <th scope="col">Score</th>
          <th scope="col">From 0 to 1, the line is chance</th>
          <th scope="col" class="number">
            AUROC
          </th>
        </tr>
      </thead>
      <tbody>
        {bars.map(({ name, auroc, interval, own }) => (
          <tr key={name}>
            <th scope="row">{plain(name)}</th>
            <td>
              <svg viewBox="0 0 100 10" preserveAspectRatio="none" class={own ? "own" : "row"} aria-hidden="true">
                <rect x="49.8" y="0" width=".4" height="10" fill="var(--control)" />
                {interval && <rect x={interval[0] * 100} y="3.5" width={Math.max(0, interval[1] - interval[0]) * 100} height="3" opacity=".55" />}
                <rect x={auroc * 99} y="1" width="1" height="8" />
              </svg>
            </td>
            <td class="number">
              {num(auroc)}
              {interval && ` (${num(interval[0])}–${num(interval[1])})`}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Curve({ roc }: { roc: Roc }) {
  const at = roc.fpr.map((x, i) => `${(20 + 100 * x).toFixed(1)} ${(105 - 100 * roc.tpr[i]).toFixed(1)}`);
  return (
    <svg class="chart roc" viewBox="0 0 130 125" role="img" aria-label="Share of the positive found, by share of the negative flagged">
      <path class="beside" d="M20 105L120 5" />
      <path d={`M${at.join("L")}`} />
      <text x="16" y="9" text-anchor="end">
        1
      </text>
      <text x="16" y="108" text-anchor="end">
        0
      </text>
      <text x="120" y="116" text-anchor="end">
        false alarms, to 1
      </text>
    </svg>
  );
}

function Wrong({ mistake, dark }: { mistake: Mistake; dark: boolean }) {
  const size = Math.max(...mistake.token_scores.map((s) => Math.abs(s ?? 0)), 1e-9);
  return (
    <blockquote>
      <p class="soft">
        Labelled “{plain(mistake.label)}”, score {num(mistake.score, true)}
      </p>
      {mistake.tokens.length === 0 && plain(mistake.text)}
      {mistake.tokens.map((t, i) => {
        const score = mistake.token_scores[i];
        const fill = signed((score ?? 0) / size, dark);
        return (
          <span key={i} class="tok" style={{ background: fill, color: ink(fill) }} title={num(score, true)}>
            {token(t)}
          </span>
        );
      })}
    </blockquote>
  );
}
