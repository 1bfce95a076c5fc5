// What changing nodes in the live model did: next tokens before and after, beside random groups.

import { chance, count, num, plain, token } from "../core/format";
import { Strip } from "../core/Chance";
import type { Intervention } from "../types";

export function InterventionTable({ view }: { view: Intervention }) {
  const { target, contrast, controls } = view;
  const isTarget = (id: number) => id === target.id || id === contrast?.id;
  const done = `${count(view.nodes.length)} node${view.nodes.length === 1 ? "" : "s"} ${view.op === "off" ? "switched off" : "doubled"}`;
  return (
    <section class="changed" aria-label={done}>
      <p>
        {plain(view.sentence.replace(/\.$/, ""))}. <Compared view={view} />
      </p>
      <table class="bars">
        <thead>
          <tr>
            <th scope="col">Next token</th>
            <th scope="col">Before</th>
            <th scope="col">After</th>
            {controls > 0 && <th scope="col">Random groups</th>}
          </tr>
        </thead>
        <tbody>
          {view.rows.map((row) => (
            <tr key={row.id} class={isTarget(row.id) ? "target" : ""}>
              <th scope="row">
                <span class="tok">{token(row.token)}</span>
              </th>
              <Bar value={row.before} />
              <Bar value={row.after} change={row.after - row.before} />
              {controls > 0 && <Bar value={row.control} />}
            </tr>
          ))}
        </tbody>
      </table>
      <Span view={view} />
    </section>
  );
}

/** Whether the change lies in the range of the random groups; null without any. */
export function withinRandom({ change, control_least: least, control_greatest: greatest }: Intervention): boolean | null {
  return least === null || greatest === null ? null : change >= least && change <= greatest;
}

/** Measured against the random groups: an effect inside their range is no more than chance does. */
function Compared({ view }: { view: Intervention }) {
  const within = withinRandom(view);
  if (within === null) return <span class="badge untested">no random groups to compare with</span>;
  return within ? <span class="badge refuted">no more than random groups do</span> : <span class="badge tested">beyond random groups</span>;
}

function Bar({ value, change = 0 }: { value: number | null; change?: number }) {
  const sign = Math.abs(change) < 5e-4 ? "" : change > 0 ? " up" : " down";
  return (
    <td class={`number${sign}`}>
      <Strip value={value} />
      {sign && <span aria-hidden="true">{change > 0 ? "▲ " : "▼ "}</span>}
      {chance(value)}
    </td>
  );
}

const [W, H, EDGE] = [320, 44, 24];

/** The change on a line, beside where the random groups fell. */
function Span({ view }: { view: Intervention }) {
  const { change, control_change: mean, control_least: least, control_greatest: greatest, contrast, target, quantity } = view;
  const name = quantity.name;
  const what = contrast ? `the ${name} of ${token(target.token)} and ${token(contrast.token)}` : `the ${name} of ${token(target.token)}`;
  const group = least !== null && greatest !== null;
  const size = Math.max(Math.abs(change), Math.abs(least ?? 0), Math.abs(greatest ?? 0), 1e-9);
  const x = (v: number) => EDGE + ((W - 2 * EDGE) * (v / size + 1)) / 2;
  const range = group ? `random groups ${num(least, true)} to ${num(greatest, true)}${mean === null ? "" : `, on average ${num(mean, true)}`}` : "no random groups";
  const said = `Change of ${what}: ${num(change, true)}; ${range}${view.controls ? ` (${view.controls} groups of ${count(view.control_size)})` : ""}`;
  return (
    <figure>
      <svg class="chart span" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={said}>
        <line class="grid" x1={EDGE} x2={W - EDGE} y1="18" y2="18" />
        <line class="zero" x1={x(0)} x2={x(0)} y1="6" y2="30" />
        {group && <rect class="range" x={x(least) - 2} width={x(greatest) - x(least) + 4} y="11" height="14" />}
        <circle class={change < 0 ? "less" : "more"} cx={x(change)} cy="18" r="6" />
        {Math.abs(x(change) - x(0)) > 40 && (
          <text x={x(0)} y={H - 2} text-anchor="middle">
            0
          </text>
        )}
        <text x={x(change)} y={H - 2} text-anchor="middle">
          {num(change, true)}
        </text>
      </svg>
      <figcaption class="soft">
        {said}
        {` (${name}: ${quantity.about}) `}
        <span aria-hidden="true">(● these nodes, ▬ random groups)</span>
      </figcaption>
    </figure>
  );
}
