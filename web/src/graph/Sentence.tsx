// What stands above a trace: the prompt and the sentence, each of its phrases a way into the picture.

import { chance, percent, plain, token } from "../core/format";
import { Verdict } from "../core/Verdict";
import { withinRandom } from "../generic/InterventionTable";
import type { Group } from "../types";
import { plainWords } from "./plain";
import { interventions, runKey } from "./runs";
import type { Store } from "./store";
import { partKey } from "./story";
import { traceOf } from "./trace";

/** lost: the share that nothing here explains, which is said first where it is large. */
export function Sentence({ store, lost }: { store: Store; lost: number | null }) {
  const view = traceOf(store.graph.value);
  const selected = store.get<string>("sel");
  // the sentence is its lead, one phrase a group, and what is left: a list reads better than one long line
  const phrases = view.groups.filter((group) => group.text && view.sentence.includes(group.text));
  const lead = phrases.length ? view.sentence.slice(0, view.sentence.indexOf(phrases[0].text)) : view.sentence;
  const last = phrases.at(-1);
  const rest = last ? view.sentence.slice(view.sentence.indexOf(last.text) + last.text.length).replace(/^[.;] */, "") : "";
  const easy = store.props.depth === "plain";
  const said = view.target ? `“${token(view.target.token)}”` : "the answer";
  const little = lost !== null && lost > 0.5;
  return (
    <div role="group" class="sentence" data-tour="sentence" aria-label="In a sentence">
      <p class="prompt">
        <span class="tok">{plain(view.prompt || view.tokens.join(""))}</span>
        <span aria-hidden="true"> → </span>
        {view.target && <strong class="tok">{token(view.target.token)}</strong>}
        {view.contrast && <span> rather than <strong class="tok">{token(view.contrast.token)}</strong></span>}
        <span class="soft">
          {"  "}
          {view.top.slice(0, 5).map((t) => `${token(t.token)} ${chance(t.probability)}`).join("   ")}
        </span>
      </p>
      {view.sentence ? (
        <>
          <p>
            {little && <strong>{percent(lost)} of what feeds these nodes comes from what is not drawn. </strong>}
            {easy ? `What stands behind ${said}, and what the model says without it:` : plain(lead)}
          </p>
          <ol>
            {phrases.map((group) => (
              <li key={group.name}>
                <span>
                  <Verdict verdict={group.verdict} />
                  {weak(store, group) && group.verdict !== "no-effect" && <span class="badge refuted">no more than random, live</span>}
                </span>
                <button class={`phrase ${group.verdict}`} aria-pressed={selected === partKey(group)} onClick={() => store.set({ sel: partKey(group), story: partKey(group) })}>
                  {easy ? plainWords(store, group) : plain(group.text)}
                </button>
              </li>
            ))}
          </ol>
          {rest && !easy && <p>{plain(rest)}</p>}
        </>
      ) : (
        <p class="soft">This file comes without a sentence: nothing in it was tested by intervention.</p>
      )}
      {view.notes.map((note) => (
        <p key={note} class="soft">Note: {plain(note)}</p>
      ))}
    </div>
  );
}

/** Whether switching the group off in the live model did no more than the same push on random ones. */
function weak(store: Store, group: Group): boolean {
  const run = interventions(store).find((r) => runKey(r.nodes, r.op) === runKey(group.nodes, "off"));
  return !!run && withinRandom(run) === true;
}
