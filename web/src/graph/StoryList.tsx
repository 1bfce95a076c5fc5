// The story where a picture has no room: parts one under another, the latest on top, each with what flows on from it in words.

import { Fragment } from "preact";
import { num, short, token } from "../core/format";
import type { Flow } from "../types";
import type { Store } from "./store";
import { boxesOf, heldWords, lookKey, lookWords, quantityOf, sourceKey, sourceWords, speaksFor, targetKey, targetWords, toggle, usedTokens } from "./story";
import { Answer, Box, mark } from "./StoryParts";
import { StoryPanel } from "./StoryPanel";
import { traceOf } from "./trace";

export function StoryList({ store, flows }: { store: Store; flows: Flow[] }) {
  const view = traceOf(store.graph.value);
  const boxes = boxesOf(view, flows).sort((a, b) => b.depth - a.depth);
  const looks = (view.attention ?? []).map((link, k) => ({ key: lookKey(k), words: lookWords(view, link) })).filter(({ key }) => !boxes.some((box) => box.key === key));
  const used = usedTokens(view, flows).sort((a, b) => a - b);
  const all = view.tokens.length <= 40 ? view.tokens.map((_, at) => at) : used;
  const opened = store.get<string>("story");
  return (
    <div class="story-list">
      <Answer store={store}>
        <Some flows={flows.filter((f) => !sourceKey(view, f) && !targetKey(view, f))} way={(f) => `from ${sourceWords(view, f)}, past all parts`} />
      </Answer>
      {boxes.map((box) => (
        <Fragment key={box.key}>
          <Box store={store} box={box}>
            <Some flows={flows.filter((f) => targetKey(view, f) === box.key && !sourceKey(view, f))} way={(f) => `from ${sourceWords(view, f)}${f.by ? ` by its ${f.by}` : ""}`} />
            <Some flows={flows.filter((f) => sourceKey(view, f) === box.key)} way={(f) => `to ${targetWords(view, f)}`} />
          </Box>
          {opened === box.key && <StoryPanel store={store} />}
        </Fragment>
      ))}
      <p class="words">
        {all.map((at, n) => (
          <span key={at}>
            {at > (n ? all[n - 1] + 1 : 0) && <span class="soft"> … </span>}
            <span class={`tok ${used.includes(at) ? "chip" : "soft"}`}>{token(view.tokens[at])}</span>
          </span>
        ))}
      </p>
      {looks.length > 0 && <strong>Where attention looked</strong>}
      {looks.map(({ key, words }) => (
        <Fragment key={key}>
          <button class="look" data-key={key} aria-expanded={opened === key} onClick={() => toggle(store, key)}>
            {words}
          </button>
          {opened === key && <StoryPanel store={store} />}
        </Fragment>
      ))}
      <p>
        Latest in the model on top, the words of the prompt at the foot. Numbers with an arrow are changes of the {quantityOf(view)} by that way; <span class="flow for">{mark(true)} blue</span>{" "}
        speaks for the answer, which is less likely without it; <span class="flow against">{mark(false)} red</span> speaks against it. {heldWords(view, flows, "listed")}
      </p>
    </div>
  );
}

function Some({ flows, way }: { flows: Flow[]; way(f: Flow): string }) {
  return (
    <>
      {flows.map((f, k) => (
        <span key={k} class={`flow ${speaksFor(f) ? "for" : "against"}`}>
          {mark(speaksFor(f))} {short(way(f), 80)}: {num(f.amount, true)}
        </span>
      ))}
    </>
  );
}
