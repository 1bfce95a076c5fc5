// The story of a trace: what passes from the words of the prompt through its parts to the answer, as a picture or, where it is narrow, a list.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { count, token } from "../core/format";
import type { Store } from "./store";
import { answerWords, boxesOf, quantityOf, strongestFlows, testWords } from "./story";
import { StoryList } from "./StoryList";
import { StoryPicture } from "./StoryPicture";
import { WIDE } from "./storyLayout";
import { traceOf, unitsOf } from "./trace";

/** Whether there is one to tell: pages of before have no flows. */
export const hasStory = (store: Store): boolean => {
  const { flows, groups } = traceOf(store.graph.value);
  return (flows ?? []).length > 0 && groups.length > 0;
};

export function Story({ store }: { store: Store }) {
  const el = useRef<HTMLDivElement>(null);
  const width = useSignal(0);
  useLayoutEffect(() => {
    const look = () => void (width.value = el.current?.clientWidth ?? 0);
    look();
    const observer = new ResizeObserver(look);
    observer.observe(el.current!);
    return () => observer.disconnect();
  }, []);
  const view = traceOf(store.graph.value);
  const flows = strongestFlows(view.flows);
  const links = boxesOf(view, flows).length - view.groups.length;
  const units = unitsOf(store.graph.value);
  return (
    <div role="group" class="story" aria-label="The story" data-tour="story">
      <p>
        What the picture claims: the words of the prompt lead to {answerWords(view)}
        {view.contrast && ` rather than “${token(view.contrast.token)}”`} by way of {count(view.groups.length)} parts, sets of {units} that stand at one word and act alike
        {links > 0 && `, and of ${count(links)} link${links > 1 ? "s" : ""} of attention`}.{" "}
        {testWords(view.groups, units)}
      </p>
      <div ref={el} class="story-stage">
        {width.value >= WIDE ? <StoryPicture store={store} flows={flows} width={width.value} /> : <StoryList store={store} flows={flows} />}
      </div>
      <p class="soft">
        A flow is how far the {quantityOf(view)} changes by that way when the word or part that it comes from has its values of similar prompts. Flows and “predicted”
        are what the graph says; “without it” was measured in the model, and is a change of the same.
      </p>
    </div>
  );
}
